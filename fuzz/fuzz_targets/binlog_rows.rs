//! An arbitrary table map, and arbitrary rows of it: two bytes of its length, its body, a byte of the kind of rows, theirs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use strandline_fuzz::binlog::{
    BatchBuilder, Event, EventDecoder, EventHeader, EventType, Flavor, Missing, Policies, RawEvent, RowDecoder, TableMap,
    ZeroDates, schema_of_map,
};
use strandline_fuzz::schema::TableId;

const KINDS: [EventType; 7] = [
    EventType::WRITE_ROWS,
    EventType::UPDATE_ROWS,
    EventType::DELETE_ROWS,
    EventType::PARTIAL_UPDATE_ROWS,
    EventType::WRITE_ROWS_V1,
    EventType::UPDATE_ROWS_V1,
    EventType::MARIA_UPDATE_ROWS_COMPRESSED_V1,
];

fuzz_target!(|data: &[u8]| {
    let [a, b, rest @ ..] = data else { return };
    let Some((map, rest)) = rest.split_at_checked(usize::from(u16::from_le_bytes([*a, *b]))) else { return };
    let [kind, body @ ..] = rest else { return };
    let Ok(map) = TableMap::parse(map, Flavor::MySql) else { return };
    let policies = Policies { zero_dates: if kind & 64 == 0 { ZeroDates::Stop } else { ZeroDates::Null }, ..Policies::default() };
    let Ok(schema) = schema_of_map(&map, TableId(1), &[], &policies, kind & 128 != 0) else { return };
    let schema = Arc::new(schema);
    let Ok(decoder) = RowDecoder::new(&map, &schema, &[], policies, Missing::Refuse) else { return };
    let header = EventHeader {
        timestamp: 1,
        event_type: KINDS[usize::from(kind & 63) % KINDS.len()],
        server_id: 1,
        size: 19,
        log_pos: 0,
        flags: 0,
    };
    let mut builder = BatchBuilder::new(schema);
    if let Ok(Event::Rows(rows)) = EventDecoder::new(Flavor::MariaDb).decode(RawEvent { header, body }) {
        let _ = decoder.decode(&rows, 0, &mut builder);
    }
    let rows = builder.rows();
    if let Ok(batch) = builder.take(None) {
        assert_eq!((batch.len(), batch.after.num_rows()), (rows, rows));
    }
});
