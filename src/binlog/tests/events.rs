//! Every kind of event, from logs of real servers, as a page for people: `tests/golden/binlog/*.trace`.
//!
//! `BLESS=1 cargo test` writes the pages anew; look at what changed.

use super::*;
use crate::event::{Before, Op};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::fmt::Write;

fn cells(batch: &arrow::record_batch::RecordBatch, row: usize, unchanged: &dyn Fn(usize) -> bool) -> String {
    let options = FormatOptions::default().with_null("-");
    let schema = batch.schema();
    let mut text = String::new();
    for (i, column) in batch.columns().iter().enumerate() {
        let value = ArrayFormatter::try_new(column.as_ref(), &options).unwrap().value(row).to_string();
        let value = if unchanged(i) { "~".to_owned() } else { value };
        let value = if value.len() > 60 { format!("{} bytes", value.len()) } else { value };
        write!(text, " {}={value}", schema.field(i).name()).unwrap();
    }
    text
}

fn row_lines(batch: &ChangeBatch, out: &mut String) {
    for row in 0..batch.len() {
        let unchanged = |column: usize| batch.unchanged[column].as_ref().is_some_and(|mask| mask.value(row));
        let op = batch.ops[row];
        let before = batch.before.as_ref().map(|before| (before, before.index[row]));
        let before = before.filter(|(_, index)| *index != Before::NONE);
        let before = before.map(|(before, index)| cells(&before.rows, index as usize, &|_| false));
        let after = if op == Op::Delete { String::new() } else { cells(&batch.after, row, &unchanged) };
        let before = before.map(|before| format!(" before:{before}")).unwrap_or_default();
        writeln!(out, "    {}{after}{before}", op.letter()).unwrap();
    }
}

/// What an event says, without what varies from run to run.
fn line(event: &Event<'_>) -> String {
    match event {
        Event::FormatDescription(format) => {
            format!("FormatDescription {} {:?}", format.server_version, format.checksum)
        }
        Event::Gtid(gtid) => {
            let own = gtid.gtid.as_ref().unwrap();
            assert!(gtid.immediate_commit_time > 1_700_000_000_000_000, "{gtid:?}");
            assert!(gtid.transaction_length > 50 && gtid.immediate_server_version >= 90_000, "{gtid:?}");
            assert_eq!(gtid.original_commit_time, gtid.immediate_commit_time);
            format!("Gtid {}:{}", own.source.tag.as_str(), own.number)
        }
        Event::PreviousGtids(set) => {
            let ranges: Vec<_> = set.ranges().map(|(s, r)| (s.tag.as_str(), r.start, r.end)).collect();
            assert_eq!(decode_gtid_set(&encode_gtid_set(set)).as_ref(), Ok(set));
            format!("PreviousGtids {ranges:?}")
        }
        Event::MariaGtid(gtid) => {
            let xid = gtid.xid.map(|xid| xid.to_owned_xid().to_string());
            let (ddl, alone) = (gtid.is_ddl(), gtid.is_standalone());
            let xa = (gtid.prepares_xa(), gtid.completes_xa());
            format!("MariaGtid {} ddl={ddl} standalone={alone} xa={xa:?} {xid:?}", gtid.gtid)
        }
        Event::MariaGtidList(list) => format!("MariaGtidList {}", list.newest),
        Event::Query(query) => {
            assert_eq!(query.status.unknown, None);
            assert!(query.status.client_collation.is_some() && query.status.sql_mode.is_some());
            let text = String::from_utf8_lossy(&query.text).into_owned();
            // The number of a transaction that the server writes into its text.
            let text = text.split(" /* xid=").next().unwrap().to_owned();
            format!("Query in \"{}\": {text}", query.database)
        }
        Event::TableMap(map) => {
            let names: Vec<_> = map.columns.iter().map(|column| column.name.clone().unwrap()).collect();
            format!("TableMap {}.{} {names:?} key {:?}", map.database, map.table, map.key)
        }
        Event::Rows(rows) => format!("Rows {:?} ends={}", rows.kind, rows.ends_statement),
        Event::RowsQuery(text) => format!("RowsQuery {}", String::from_utf8_lossy(text)),
        Event::Xid(_) => "Xid".to_owned(),
        Event::XaPrepare(xa) => format!("XaPrepare {} one_phase={}", xa.xid(), xa.one_phase),
        Event::TransactionPayload(payload) => format!("TransactionPayload {:?}", payload.compression),
        Event::StatementContext(kind) => format!("StatementContext {kind}"),
        other => format!("{other:?}"),
    }
}

/// Follows one file; the schema is that of each table map.
struct Trace {
    decoder: EventDecoder,
    maps: BTreeMap<u64, TableMap>,
    page: String,
}

impl Trace {
    fn event(&mut self, event: &Event<'_>) {
        let text = line(event);
        writeln!(self.page, "{text}").unwrap();
        match event {
            Event::TableMap(map) => {
                self.maps.insert(map.table_id, (**map).clone());
            }
            Event::Rows(rows) => self.rows(rows),
            Event::TransactionPayload(payload) => {
                for bytes in payload.events().unwrap() {
                    let raw = RawEvent::parse(&bytes, Checksum::None).unwrap();
                    let event = self.decoder.clone().decode(raw).unwrap();
                    self.event(&event);
                }
                writeln!(self.page, "end of the payload").unwrap();
            }
            _ => {}
        }
    }

    fn rows(&mut self, rows: &Rows<'_>) {
        let map = &self.maps[&rows.table_id];
        let policies = Policies::default();
        for full_before in [false, true] {
            let schema = Arc::new(schema_of_map(map, TableId(1), &[], &policies, full_before).unwrap());
            let decoder = RowDecoder::new(map, &schema, &[], policies, Missing::Refuse).unwrap();
            let mut builder = BatchBuilder::new(schema);
            match decoder.decode(rows, 0, &mut builder) {
                Ok(count) => {
                    assert_eq!(count, builder.rows());
                    let mut lines = String::new();
                    row_lines(&builder.take(None).unwrap(), &mut lines);
                    // With whole old rows only where that says something else.
                    if !full_before || !self.page.ends_with(&lines) {
                        self.page.push_str(&lines);
                    }
                }
                Err(error) => {
                    assert!(builder.is_empty());
                    let error = error.into_error(decoder.schema());
                    writeln!(self.page, "    {error}").unwrap();
                }
            }
        }
    }
}

fn traced(name: &str) {
    let decoder = EventDecoder::new(flavor(name.trim_start_matches("events_")));
    let mut trace = Trace { decoder, maps: BTreeMap::new(), page: String::new() };
    for bytes in split(&capture(name)) {
        let mut decoder = trace.decoder.clone();
        let (_, event) = decoder.decode_bytes(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        trace.decoder = decoder;
        trace.event(&event);
    }
    let path = format!("{}/tests/golden/binlog/{name}.trace", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &trace.page).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, expected)) in trace.page.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{path}, line {}", number + 1);
    }
    assert_eq!(trace.page.lines().count(), expected.lines().count(), "{path}");
}

#[test]
fn events_of_mysql() {
    traced("events_mysql97");
}

#[test]
fn events_of_mariadb_11_8() {
    traced("events_mariadb118");
}

#[test]
fn events_of_mariadb_10_11() {
    traced("events_mariadb1011");
}

/// An event with a header, without a checksum.
fn framed(kind: EventType, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(EventHeader::LEN + body.len()).unwrap();
    let header = EventHeader { timestamp: 1, event_type: kind, server_id: 2, size, log_pos: 77, flags: 0 };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn decoded(flavor: Flavor, kind: EventType, body: &[u8]) -> Result<String, DecodeError> {
    let bytes = framed(kind, body);
    let mut decoder = EventDecoder::new(flavor);
    decoder.decode_bytes(&bytes).map(|(_, event)| format!("{event:?}"))
}

#[test]
fn events_that_no_file_holds() {
    let rotate = [&4u64.to_le_bytes()[..], b"binlog.000007"].concat();
    let found = decoded(Flavor::MySql, EventType::ROTATE, &rotate).unwrap();
    assert_eq!(found, "Rotate { position: 4, file: \"binlog.000007\" }");
    let beat = decoded(Flavor::MySql, EventType::HEARTBEAT, b"db1-bin.2.000123").unwrap();
    assert_eq!(beat, "Heartbeat { file: \"db1-bin.2.000123\", position: 77 }");
    // Version 2: 64 bits of position.
    let mut body = vec![1, 13];
    body.extend(b"binlog.000007");
    body.extend([2, 9, 254]);
    body.extend((5u64 << 32 | 4).to_le_bytes());
    body.push(0);
    let beat = decoded(Flavor::MySql, EventType::HEARTBEAT_V2, &body).unwrap();
    assert_eq!(beat, "Heartbeat { file: \"binlog.000007\", position: 21474836484 }");
    let incident = decoded(Flavor::MySql, EventType::INCIDENT, b"\x01\0\x04lost").unwrap();
    assert_eq!(incident, "Incident { number: 1, message: [108, 111, 115, 116] }");
    let zeros = [0; 25];
    let anonymous = decoded(Flavor::MySql, EventType::ANONYMOUS_GTID, &zeros).unwrap();
    assert!(anonymous.contains("gtid: None"), "{anonymous}");
    assert!(decoded(Flavor::MySql, EventType::GTID, &zeros).is_err(), "number 0");
}

/// Nothing is passed over: what is not decoded has a code and a name.
#[test]
fn every_type_is_decoded_or_refused_by_name() {
    let refused = |flavor, kind| match decoded(flavor, EventType(kind), &[]) {
        Err(DecodeError { problem: Problem::Refused { number }, .. }) => number == kind,
        _ => false,
    };
    let mysql: Vec<u8> = (0..=255).filter(|&kind| refused(Flavor::MySql, kind)).collect();
    let maria: Vec<u8> = (0..=255).filter(|&kind| refused(Flavor::MariaDb, kind)).collect();
    let old = [0u8, 1, 6, 7, 8, 9, 10, 11, 12, 17, 18, 20, 21, 22];
    assert_eq!(mysql, old.into_iter().chain(43..=255).collect::<Vec<_>>());
    let of_mysql = [33u8, 34, 35, 36, 37, 40, 42];
    let expected: Vec<u8> = (0..=255)
        .filter(|kind| {
            old.contains(kind) || of_mysql.contains(kind) || (43..160).contains(kind) || *kind > 171
        })
        .collect();
    assert_eq!(maria, expected);
    assert_eq!(EventType(172).name(), "PARTIAL_ROW_DATA_EVENT");
    let bytes = framed(EventType::EXECUTE_LOAD_QUERY, &[]);
    let error: crate::error::Error =
        EventDecoder::new(Flavor::MySql).decode_bytes(&bytes).unwrap_err().into();
    assert_eq!(error.code().id, "MY025");
    assert!(error.report().contains("EXECUTE_LOAD_QUERY_EVENT"), "{}", error.report());
}

/// A changed bit anywhere in an event with a checksum is found.
#[test]
fn a_wrong_checksum_is_found() {
    let file = capture("events_mysql97");
    let events = split(&file);
    let mut decoder = EventDecoder::new(Flavor::MySql);
    decoder.decode_bytes(events[0]).unwrap();
    assert_eq!(decoder.checksum(), Checksum::Crc32);
    for bytes in events.iter().take(12) {
        for at in (0..bytes.len()).filter(|at| !(9..13).contains(at)) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x40;
            let found = decoder.clone().decode_bytes(&changed).map(|(header, _)| header);
            // The algorithm's own byte in the format description decides whether there is a checksum.
            let error = found.expect_err("a changed event was taken");
            assert!(matches!(error.problem, Problem::Checksum { .. } | Problem::Tag { .. }), "{at}: {error}");
        }
        // From parts, as another reader of the socket hands them over.
        let header = EventHeader::parse(bytes).unwrap();
        let (body, sum) = bytes[EventHeader::LEN..].split_last_chunk::<4>().unwrap();
        assert!(RawEvent::from_parts(header, body, Some(*sum)).is_ok());
        assert!(RawEvent::from_parts(header, body, Some([0; 4])).is_err());
    }
}

#[test]
fn a_payload_that_says_too_much_is_not_unpacked() {
    let events = inner(5000);
    let whole = events.concat();
    let size = whole.len() as u64;
    let packed = zstd::encode_all(whole.as_slice(), 1).unwrap();
    let payload = |size| TransactionPayload {
        compression: Compression::Zstd,
        uncompressed_size: size,
        payload: &packed,
    };
    assert_eq!(payload(size).events().unwrap(), events);
    assert_eq!(payload(0).events().unwrap(), events);
    // It says less, or more, than it is.
    let problem = |size| payload(size).events().unwrap_err().problem;
    assert_eq!(problem(size - 1), Problem::TooLarge { limit: size - 1 });
    assert_eq!(problem(size + 1), Problem::Compressed);
    assert_eq!(problem(u64::MAX), Problem::Compressed);
    // An event in it that says to be larger than any.
    let mut header = EventHeader::parse(&events[0]).unwrap();
    header.size = u32::MAX;
    let packed = zstd::encode_all([&header.to_bytes()[..], &[0; 4096]].concat().as_slice(), 1).unwrap();
    let payload =
        TransactionPayload { compression: Compression::Zstd, uncompressed_size: 0, payload: &packed };
    assert_eq!(payload.events().unwrap_err().problem, Problem::TooLarge { limit: 1 << 30 });
}

/// What is unpacked fills whole steps, with nothing left over.
#[test]
fn a_payload_of_whole_steps_ends() {
    for size in [128 << 10, 256 << 10, 384 << 10] {
        let event = |size: usize| {
            let mut header = EventHeader::parse(&inner(1)[0]).unwrap();
            header.size = size as u32;
            [&header.to_bytes()[..], &vec![7; size - EventHeader::LEN]].concat()
        };
        let events = vec![event(1000), event(size - 1000)];
        let packed = zstd::encode_all(events.concat().as_slice(), 3).unwrap();
        for uncompressed_size in [0, size as u64] {
            let compression = Compression::Zstd;
            let payload = TransactionPayload { compression, uncompressed_size, payload: &packed };
            assert!(payload.events().unwrap() == events, "{size}");
        }
        let body = [&[2, 1, 0, 0][..], &packed].concat();
        let mut header = EventHeader::parse(&events[0]).unwrap();
        header.event_type = EventType::TRANSACTION_PAYLOAD;
        header.size = (EventHeader::LEN + body.len() + 4) as u32;
        let sent = [&body[..], &header.checksum(&body).to_le_bytes()].concat();
        for piece in [1, 100, 1 << 20] {
            let (found, problem) = unpack(&header, &sent, piece);
            assert_eq!(problem, None, "{size} in pieces of {piece}");
            assert!(found == events, "{size} in pieces of {piece}");
        }
    }
}

/// Events of a payload, of sizes from nothing to a few hundred bytes.
fn inner(count: usize) -> Vec<Vec<u8>> {
    let event = |n: usize| {
        let body = vec![(n % 251) as u8; n * 7 % 400];
        let header = EventHeader {
            timestamp: 1,
            event_type: EventType::ROWS_QUERY,
            server_id: 1,
            size: (EventHeader::LEN + body.len()) as u32,
            log_pos: 0,
            flags: 0,
        };
        [&header.to_bytes()[..], &body].concat()
    };
    (0..count).map(event).collect()
}

/// The same events, whatever the pieces are that the bytes come in; the last only if all of them were right.
#[test]
fn a_payload_is_taken_apart_while_it_comes() {
    let events = inner(3000);
    let whole = events.concat();
    for (compression, number) in [(Compression::Zstd, 0), (Compression::None, 255)] {
        let packed = match compression {
            Compression::Zstd => zstd::encode_all(whole.as_slice(), 3).unwrap(),
            Compression::None => whole.clone(),
        };
        let mut body = vec![2, 3, 252, number, 0, 3, 9, 254];
        if number == 0 {
            body = vec![2, 1, 0, 3, 9, 254];
        }
        body.extend((whole.len() as u64).to_le_bytes());
        body.extend([1, 9, 254]);
        body.extend((packed.len() as u64).to_le_bytes());
        body.push(0);
        body.extend(&packed);
        let header = EventHeader {
            timestamp: 1,
            event_type: EventType::TRANSACTION_PAYLOAD,
            server_id: 1,
            size: (EventHeader::LEN + body.len() + 4) as u32,
            log_pos: 4096,
            flags: 0,
        };
        let sum = header.checksum(&body).to_le_bytes();
        let sent = [&body[..], &sum].concat();
        for piece in [1, 7, 100, 4096, 1 << 20] {
            let (found, problem) = unpack(&header, &sent, piece);
            assert_eq!(problem, None, "in pieces of {piece}");
            assert!(found == events, "in pieces of {piece}");
        }
        // A byte is another one, of the payload or of the checksum: the last event never comes.
        for at in [40, body.len() / 2, body.len() - 1, sent.len() - 1] {
            let mut damaged = sent.clone();
            damaged[at] ^= 1;
            let (found, problem) = unpack(&header, &damaged, 1000);
            assert!(problem.is_some(), "byte {at}");
            assert!(found.len() < events.len(), "byte {at}");
        }
        // Cut off.
        let (found, problem) = unpack(&header, &sent[..sent.len() - 5], 1000);
        assert!(found.len() < events.len());
        assert_eq!(problem, Some(None));
    }
}

/// The events, and what went wrong: an error, or that bytes were missing.
fn unpack(header: &EventHeader, sent: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Option<DecodeError>>) {
    let mut stream = PayloadStream::new(header, Checksum::Crc32).unwrap();
    let (mut found, mut pieces) = (Vec::new(), sent.chunks(piece));
    let mut rest: &[u8] = &[];
    loop {
        match stream.next(&mut rest) {
            Ok(Unpacked::Event(event)) => found.push(event),
            Ok(Unpacked::More) => match pieces.next() {
                Some(next) => {
                    assert!(rest.is_empty());
                    rest = next;
                }
                None => return (found, Some(None)),
            },
            Ok(Unpacked::End) => return (found, None),
            Err(error) => return (found, Some(Some(error))),
        }
    }
}
