//! Arbitrary events of either product: headers, table maps, GTIDs, statements, payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strandline_fuzz::binlog::{Checksum, Event, EventDecoder, EventHeader, EventType, Flavor, PayloadStream, RawEvent, Unpacked};

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
        if let Ok(Event::TransactionPayload(_)) = decoder.decode(RawEvent { header, body })
            && let Ok(mut stream) = PayloadStream::new(&header, Checksum::None)
        {
            // In pieces of a size that the bytes say.
            let (piece, mut rest, mut given) = (usize::from(body.first().copied().unwrap_or(0)) + 1, body, 0);
            loop {
                let (mut now, _) = rest.split_at(rest.len().min(piece));
                let before = now.len();
                match stream.next(&mut now) {
                    Ok(Unpacked::Event(event)) => {
                        given += event.len();
                        if let Ok(raw) = RawEvent::parse(&event, Checksum::None) {
                            let _ = decoder.decode(raw);
                        }
                    }
                    Ok(Unpacked::More) if rest.is_empty() => break,
                    Ok(Unpacked::More) => assert!(now.is_empty()),
                    Ok(Unpacked::End) | Err(_) => break,
                }
                rest = &rest[before - now.len()..];
                if given > 1 << 20 {
                    break;
                }
            }
        }
    }
});
