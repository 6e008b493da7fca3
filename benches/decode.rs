//! How long it takes from wire bytes to Arrow, per row.
//!
//! `cargo bench --bench decode`. The row: bigint, int, bigint, double, numeric(12,2), 32 characters of text,
//! timestamptz, bool; about 115 bytes. Beside each figure stands its floor: what reading the same bytes costs
//! that any decoder must read.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a measurement that cannot go on ends here"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use strandline::debezium::{Encoder, Encoding, Occasion, Options, Records, Style};
use strandline::event::Txn;
use strandline::pgoutput::{BatchBuilder, CopyDecoder, Message, Policies, decode, oid, resolve};
use strandline::position::{CommitLsn, Lsn};
use strandline::schema::{Column, TableId, TableName, TableSchema};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ROWS: usize = 65_536;
const ROUNDS: usize = 30;

fn schema() -> Arc<TableSchema> {
    let types = [
        ("id", oid::INT8, -1),
        ("a", oid::INT4, -1),
        ("b", oid::INT8, -1),
        ("c", oid::FLOAT8, -1),
        ("amount", oid::NUMERIC, (12 << 16 | 2) + 4),
        ("note", oid::TEXT, -1),
        ("at", oid::TIMESTAMPTZ, -1),
        ("flag", oid::BOOL, -1),
    ];
    let columns = (1..).zip(types).map(|(attnum, (name, type_oid, type_modifier))| Column {
        name: name.into(),
        attnum,
        type_oid,
        type_modifier,
        type_name: name.into(),
        kind: resolve(type_oid, type_modifier, &Default::default(), &Policies::default())
            .expect("a supported type"),
    });
    let name = TableName::new("public", "orders");
    Arc::new(TableSchema::new(TableId(16_400), name, columns.collect(), vec![0], false))
}

/// A numeric with two digits after the point, as the server sends it.
fn numeric(cents: u64) -> Vec<u8> {
    let (whole, fraction) = (cents / 100, cents % 100 * 100);
    let mut groups = vec![(whole / 10_000) as u16, (whole % 10_000) as u16, fraction as u16];
    let mut weight = 1i16;
    while groups.first() == Some(&0) && weight >= 0 {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let head = [groups.len() as u16, weight.cast_unsigned(), 0, 2];
    head.into_iter().chain(groups).flat_map(u16::to_be_bytes).collect()
}

/// The eight fields of row `n` in binary form.
fn fields(n: u64) -> Vec<Vec<u8>> {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    vec![
        n.to_be_bytes().into(),
        ((mixed >> 40) as u32).to_be_bytes().into(),
        mixed.to_be_bytes().into(),
        (mixed as f64 / 1e9).to_be_bytes().into(),
        numeric(mixed % 100_000_000),
        format!("{mixed:016x}{mixed:016x}").into_bytes(),
        (800_000_000_000_000u64 + n * 1000).to_be_bytes().into(),
        vec![(n % 2) as u8],
    ]
}

fn inserts() -> Vec<Vec<u8>> {
    let message = |n| {
        let mut bytes = vec![b'I'];
        bytes.extend(16_400u32.to_be_bytes());
        bytes.extend(b"N\0\x08");
        for field in fields(n) {
            bytes.push(b'b');
            bytes.extend((field.len() as u32).to_be_bytes());
            bytes.extend(field);
        }
        bytes
    };
    (0..ROWS as u64).map(message).collect()
}

fn copy_stream() -> Vec<u8> {
    let mut bytes = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for n in 0..ROWS as u64 {
        bytes.extend(8u16.to_be_bytes());
        for field in fields(n) {
            bytes.extend((field.len() as u32).to_be_bytes());
            bytes.extend(field);
        }
    }
    bytes.extend(b"\xFF\xFF");
    bytes
}

/// Runs `work` on all rows and prints the median and the best time per row.
fn measure(name: &str, bytes: usize, mut work: impl FnMut()) {
    let mut nanos: Vec<f64> = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        nanos.push(start.elapsed().as_nanos() as f64 / ROWS as f64);
    }
    nanos.sort_by(f64::total_cmp);
    let (best, median) = (nanos[0], nanos[ROUNDS / 2]);
    let rate = bytes as f64 / ROWS as f64 / median * 1000.0;
    println!("{name:<46} {median:>6.1} ns/row (best {best:.1}), {rate:.0} MB/s");
}

fn main() {
    let messages = inserts();
    let total: usize = messages.iter().map(Vec::len).sum();
    let txn = Txn { commit_start: Lsn::new(1), xid: 1, commit_time: 1, after: CommitLsn::ZERO };
    let mut builder = BatchBuilder::new(schema(), Policies::default());

    measure("floor: walk the fields of pgoutput inserts", total, || {
        for bytes in &messages {
            black_box(decode(black_box(bytes), false).expect("a message"));
        }
    });
    measure("pgoutput inserts to Arrow", total, || {
        for (ordinal, bytes) in (0..).zip(&messages) {
            let Message::Insert(insert) = decode(bytes, false).expect("a message") else {
                panic!("not an insert");
            };
            builder.push_insert(&insert.new, ordinal, bytes.len()).expect("a row");
        }
        let batch = builder.take(Some(txn)).expect("a batch");
        assert_eq!(black_box(batch).len(), ROWS);
    });

    let stream = copy_stream();
    let mut builder = BatchBuilder::new(schema(), Policies::default());
    let mut target = Vec::with_capacity(stream.len());
    measure("floor: copy the bytes of COPY BINARY", stream.len(), || {
        target.clear();
        target.extend_from_slice(black_box(&stream));
        black_box(&target);
    });
    for chunk in [stream.len(), 65_536, 127] {
        measure(&format!("COPY BINARY to Arrow, chunks of {chunk} bytes"), stream.len(), || {
            let mut decoder = CopyDecoder::new();
            for piece in stream.chunks(chunk) {
                decoder.feed(piece, &mut builder).expect("rows");
            }
            decoder.finish().expect("the whole stream");
            assert_eq!(black_box(builder.take(None).expect("a batch")).len(), ROWS);
        });
    }
    encode(&messages, txn);
}

/// From Arrow to Debezium's events.
fn encode(messages: &[Vec<u8>], txn: Txn) {
    let schema = schema();
    let mut builder = BatchBuilder::new(Arc::clone(&schema), Policies::default());
    for (ordinal, bytes) in (0..).zip(messages) {
        let Message::Insert(insert) = decode(bytes, false).expect("a message") else {
            panic!("not an insert")
        };
        builder.push_insert(&insert.new, ordinal, bytes.len()).expect("a row");
    }
    let batch = builder.take(Some(txn)).expect("a batch");
    let occasion = Occasion { now_ns: 1_700_000_000_000_000_000, snapshot: None };
    let mut records = Records::new();
    for (name, encoding, style) in [
        ("JSON", Encoding::Json, Style::Debezium),
        ("JSON with schemas", Encoding::JsonWithSchema, Style::Debezium),
        ("Avro", Encoding::Avro, Style::Debezium),
        ("JSON, the row alone", Encoding::Json, Style::Flat),
        ("JSON, native", Encoding::Json, Style::Native),
    ] {
        let options = Arc::new(Options { encoding, style, ..Options::default() });
        let encoder = Encoder::new(&schema, &options).expect("an encoder");
        encoder.encode(&batch, &occasion, &mut records).expect("records");
        let bytes = records.bytes();
        measure(&format!("Arrow to events: {name}"), bytes, || {
            records.clear();
            encoder.encode(black_box(&batch), &occasion, &mut records).expect("records");
            black_box(&records);
        });
        records.clear();
    }
}
