//! How long it takes from a row event of MySQL to Arrow, per row.
//!
//! `cargo bench --bench binlog`. The events are those of a real server: 20 columns, rows of about 200 bytes, made by
//! repeating the rows of a captured event. Beside each figure stands its peer, `RowsEvent::rows()` of `mysql_common`
//! (what `mysql_async` offers), which makes a value per cell, and the floor: reading the same bytes once.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::collapsible_match,
    reason = "a measurement that cannot go on ends here"
)]

use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::EventData;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use strandline::binlog::{
    BatchBuilder, Event, EventDecoder, EventHeader, Flavor, Missing, Policies, RowDecoder, TableMap,
    schema_of_map,
};
use strandline::schema::TableId;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 12;

/// The whole file of a server: its first four bytes, then its events.
fn capture() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/binlog/bench.binlog.zst");
    let packed = std::fs::read(path).expect("the captured log");
    zstd::decode_all(packed.as_slice()).expect("zstd")
}

fn split(file: &[u8]) -> Vec<&[u8]> {
    let (mut events, mut rest) = (Vec::new(), file);
    while !rest.is_empty() {
        let size = EventHeader::parse(rest).expect("a header").size as usize;
        let (event, after) = rest.split_at(size);
        events.push(event);
        rest = after;
    }
    events
}

/// The best of some rounds, in nanoseconds per row.
fn best(rows: usize, mut round: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / rows as f64);
    }
    best
}

fn main() {
    let file = capture();
    let events = split(file.get(4..).expect("a file"));
    for full_before in [false, true] {
        let mut map: Option<TableMap> = None;
        let mut plan: Option<(RowDecoder, BatchBuilder)> = None;
        let mut count = 0;
        let mut ours = |count: &mut usize| {
            let mut decoder = EventDecoder::new(Flavor::MySql);
            *count = 0;
            for bytes in &events {
                match decoder.decode_bytes(bytes).expect("an event").1 {
                    Event::TableMap(found) => {
                        // As a source does: the plan is used again while the table is the same.
                        if map.as_ref().is_none_or(|map| map.columns != found.columns) {
                            let policies = Policies::default();
                            let schema = schema_of_map(&found, TableId(1), &[], &policies, full_before);
                            let schema = Arc::new(schema.expect("a schema"));
                            let rows = RowDecoder::new(&found, &schema, &[], policies, Missing::Refuse);
                            plan = Some((rows.expect("a plan"), BatchBuilder::new(schema)));
                            map = Some(*found);
                        }
                    }
                    Event::Rows(rows) => {
                        let (decoder, builder) = plan.as_mut().expect("a table map");
                        *count += decoder.decode(&rows, 0, builder).expect("rows");
                    }
                    _ => {}
                }
            }
            let (_, builder) = plan.as_mut().expect("rows");
            black_box(builder.take(None).expect("a batch"));
        };
        ours(&mut count);
        let rows = count;
        let spent = best(rows, || ours(&mut count));
        let bytes = file.len() / rows;
        let what = if full_before { "whole old rows" } else { "keys of old rows" };
        println!(
            "binlog to Arrow, {what}: {spent:.0} ns a row ({rows} rows, {bytes} bytes each with all framing)"
        );
    }
    let mut rows = 0;
    let theirs = |rows: &mut usize| {
        let mut reader = EventStreamReader::new(BinlogVersion::Version4);
        *rows = 0;
        let mut input = file.get(4..).expect("a file");
        while let Some(event) = reader.read(&mut input).expect("an event") {
            if let Ok(Some(EventData::RowsEvent(data))) = event.read_data() {
                let map = reader.get_tme(data.table_id()).expect("a table map");
                for row in data.rows(map) {
                    black_box(row.expect("a row"));
                    *rows += 1;
                }
            }
        }
    };
    theirs(&mut rows);
    let spent = best(rows, || theirs(&mut rows));
    println!("mysql_common's RowsEvent::rows(): {spent:.0} ns a row, to a value per cell");
    let floor = best(rows, || {
        black_box(file.iter().fold(0u64, |sum, &byte| sum.wrapping_add(byte.into())));
    });
    println!("floor, each byte read once: {floor:.1} ns a row");
}
