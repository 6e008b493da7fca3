//! Arbitrary events of either product: headers, table maps, GTIDs, statements, payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::binlog::{Checksum, Event, EventDecoder, EventHeader, EventType, Flavor, PayloadEvents, RawEvent};

fuzz_target!(|data: &[u8]| {
    let _ = RawEvent::parse(data, Checksum::Crc32);
    let _ = EventDecoder::new(Flavor::MySql).decode_bytes(data);
    let [kind, body @ ..] = data else { return };
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let mut decoder = EventDecoder::new(flavor);
        let header = EventHeader {
            timestamp: 1,
            event_type: EventType(*kind),
            server_id: 1,
            size: u32::try_from(body.len() + EventHeader::LEN).unwrap_or(u32::MAX),
            log_pos: 0,
            flags: 0,
        };
        if let Ok(Event::TransactionPayload(payload)) = decoder.decode(RawEvent { header, body })
            && let Ok(unpacked) = payload.unpack(1 << 20)
        {
            for event in PayloadEvents::new(&unpacked) {
                let Ok(event) = event else { break };
                let _ = decoder.decode(event);
            }
        }
    }
});
