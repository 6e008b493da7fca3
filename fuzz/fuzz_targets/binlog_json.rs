//! Binary JSON, and changes to it: as the only column of a row.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use strandline_fuzz::binlog::{
    BatchBuilder, Event, EventDecoder, EventHeader, EventType, Flavor, Missing, Policies, RawEvent, RowDecoder, TableMap,
    schema_of_map,
};
use strandline_fuzz::schema::TableId;

/// A table `d.t` of one column `j json`.
const MAP: &[u8] = b"\x01\0\0\0\0\0\x01\0\x01d\0\x01t\0\x01\xf5\x01\x04\x01\x04\x02\x01j";

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()[..], bytes].concat()
}

fuzz_target!(|data: &[u8]| {
    let [at, rest @ ..] = data else { return };
    let (old, diff) = rest.split_at(usize::from(*at).min(rest.len()));
    let map = TableMap::parse(MAP, Flavor::MySql).expect("a table");
    let policies = Policies::default();
    let schema = Arc::new(schema_of_map(&map, TableId(1), &[], &policies, false).expect("a schema"));
    let decoder = RowDecoder::new(&map, &schema, &[], policies, Missing::Refuse).expect("a plan");
    let header = |event_type| EventHeader { timestamp: 1, event_type, server_id: 1, size: 19, log_pos: 0, flags: 0 };
    let head = [1, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1];
    let written = [&head[..], &[0], &counted(old)].concat();
    let changed = [&head[..], &[1, 0], &counted(old), &[1, 1, 0], &counted(diff)].concat();
    let mut builder = BatchBuilder::new(schema);
    for (kind, body) in [(EventType::WRITE_ROWS, &written), (EventType::PARTIAL_UPDATE_ROWS, &changed)] {
        if let Ok(Event::Rows(rows)) = EventDecoder::new(Flavor::MySql).decode(RawEvent { header: header(kind), body }) {
            let _ = decoder.decode(&rows, 0, &mut builder);
        }
    }
    let _ = builder.take(None);
});
