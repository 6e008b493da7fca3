//! Damaged bytes: an error or another value, never a panic, never memory by a length that nobody checked.

use super::*;
use proptest::prelude::*;

/// A small generator, seeded: a failing case is found again by its seed.
struct Rng(u64);

impl Rng {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap()
    }
}

/// Changes some bytes, cuts the end off, or doubles a part.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..1 + rng.next(3) {
        let at = rng.next(bytes.len());
        match rng.next(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, [0, 0xFF, 0x80, 0x7F][rng.next(4)]),
            2 => {
                let end = (at + rng.next(8)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = [0, 1, 0xFF, 0x80, *byte ^ 1, *byte ^ 0x80, 0xFE, 0xFB][rng.next(8)];
                }
            }
        }
    }
}

/// Bodies of all events of a file, without checksums.
fn bodies(name: &str) -> Vec<(EventHeader, Vec<u8>)> {
    let file = capture(name);
    let parts = split(&file).into_iter().map(|bytes| {
        let header = EventHeader::parse(bytes).unwrap();
        (header, bytes[EventHeader::LEN..bytes.len() - 4].to_vec())
    });
    parts.filter(|(_, body)| body.len() < 4000).collect()
}

fn mutated_files(names: &[&str], rounds: u64) {
    for name in names {
        let bodies = bodies(name);
        for seed in 1..=rounds {
            let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut replay = Replay::new(flavor(name.trim_start_matches("events_")));
            replay.policies.zero_dates = ZeroDates::Null;
            replay.full_before = seed % 2 == 0;
            for (header, body) in &bodies {
                let mut body = body.clone();
                if rng.next(3) == 0 {
                    mutate(&mut body, &mut rng);
                }
                let mut decoder = replay.decoder.clone();
                if let Ok(event) = decoder.decode(RawEvent { header: *header, body: &body }) {
                    let _ = replay.event(event);
                }
                replay.decoder = decoder;
            }
            for (_, builder) in replay.builders.values_mut() {
                // Whatever was taken is a batch, or text that is none.
                if let Ok(batch) = builder.take(None) {
                    assert_eq!(batch.len(), batch.after.num_rows(), "{name}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn mutated_events_of_mysql() {
    mutated_files(&["mysql97", "events_mysql97"], 25);
}

#[test]
fn mutated_events_of_mariadb() {
    mutated_files(&["mariadb118", "events_mariadb118"], 25);
}

#[test]
fn every_beginning_of_every_event() {
    for name in ["mysql97", "events_mysql97", "mariadb118", "events_mariadb118"] {
        let flavor = flavor(name.trim_start_matches("events_"));
        for (header, body) in bodies(name).into_iter().filter(|(_, body)| body.len() < 600) {
            for end in 0..body.len() {
                let raw = RawEvent { header, body: &body[..end] };
                let _ = EventDecoder::new(flavor).decode(raw);
            }
        }
    }
}

/// Rows cut anywhere are an error, and leave the builder as it was.
#[test]
fn rows_that_end_early_leave_nothing() {
    let mut maps = BTreeMap::new();
    for (header, body) in bodies("mysql97") {
        let mut decoder = EventDecoder::new(Flavor::MySql);
        match decoder.decode(RawEvent { header, body: &body }) {
            Ok(Event::TableMap(map)) => {
                maps.insert(map.table_id, *map);
            }
            Ok(Event::Rows(rows)) => {
                let map = &maps[&rows.table_id];
                let policies = Policies { zero_dates: ZeroDates::Null, ..Policies::default() };
                let schema = Arc::new(schema_of_map(map, TableId(1), &[], &policies, true).unwrap());
                let decoder = RowDecoder::new(map, &schema, &[], policies, Missing::Refuse).unwrap();
                let mut builder = BatchBuilder::new(schema);
                let whole = decoder.decode(&rows, 0, &mut builder).unwrap();
                let bytes = builder.bytes();
                for end in (1..rows.data.len()).step_by(1 + rows.data.len() / 300) {
                    let part = Rows { data: rows.data[..end].to_vec().into(), ..rows.clone() };
                    let before = builder.rows();
                    match decoder.decode(&part, 0, &mut builder) {
                        // Cut between two rows.
                        Ok(count) => {
                            assert!(count < whole);
                            let schema = Arc::clone(builder.schema());
                            builder = BatchBuilder::new(schema);
                            decoder.decode(&rows, 0, &mut builder).unwrap();
                        }
                        Err(_) => assert_eq!((builder.rows(), builder.bytes()), (before, bytes)),
                    }
                }
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_any_event(
        kind: u8,
        maria: bool,
        body in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let size = u32::try_from(19 + body.len()).unwrap();
        let header =
            EventHeader { timestamp: 0, event_type: EventType(kind), server_id: 1, size, log_pos: 0, flags: 0 };
        let flavor = if maria { Flavor::MariaDb } else { Flavor::MySql };
        let _ = EventDecoder::new(flavor).decode(RawEvent { header, body: &body });
        let _ = RawEvent::parse(&body, Checksum::Crc32);
        let _ = decode_gtid_set(&body);
    }

    #[test]
    fn any_bytes_as_json(bytes in prop::collection::vec(any::<u8>(), 0..200), diff in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut out = Vec::new();
        let _ = value::json_to_text(&bytes, &mut out);
        // A document says each of its bytes once: six for a control character, and a few per value.
        prop_assert!(out.len() <= 400 * bytes.len() + 100, "{} bytes of {}", out.len(), bytes.len());
        let _ = value::json_diff::apply_to_binary(&bytes, &diff, &mut out);
    }

    #[test]
    fn any_bytes_in_any_character_set(collation in 1u16..330, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(set) = charset::Charset::of_collation(collation) {
            let mut out = Vec::new();
            let decoded = set.decode(&bytes, &mut out);
            if decoded.is_ok() && !set.is_utf8() {
                prop_assert!(std::str::from_utf8(&out).is_ok());
            }
        }
    }

    #[test]
    fn gtid_sets_survive_their_byte_form(ranges in prop::collection::vec((0u8..3, any::<bool>(), 1u64..1000, 0u64..50), 0..20)) {
        use crate::position::gtid::{GtidRange, GtidSet, GtidSource, ServerUuid, Tag};
        let mut set = GtidSet::new();
        for (uuid, tagged, start, len) in ranges {
            let tag = Tag::new(if tagged { "some_tag" } else { "" }).unwrap();
            let source = GtidSource { uuid: ServerUuid([uuid; 16]), tag };
            set.insert_range(&source, GtidRange { start, end: start + len });
        }
        prop_assert_eq!(decode_gtid_set(&encode_gtid_set(&set)), Ok(set));
    }
}

/// An array whose entries all refer to one other would double with each level.
#[test]
fn a_document_that_refers_to_itself_is_refused() {
    // Small arrays of two, nested: both entries of each refer to the next.
    let mut bytes = vec![2u8];
    let levels = 60u16;
    for level in 0..levels {
        let size = (levels - level) * 10;
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        for _ in 0..2 {
            bytes.push(if level + 1 == levels { 4 } else { 2 });
            bytes.extend(10u16.to_le_bytes());
        }
    }
    let mut out = Vec::new();
    assert_eq!(value::json_to_text(&bytes, &mut out), Err(Reason::Malformed));
    assert!(out.len() < 10_000);
}
