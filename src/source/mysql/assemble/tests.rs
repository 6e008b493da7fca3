//! The assembler on logs of real servers.

use super::*;
use crate::binlog::{Checksum, EventType, PayloadStream, Unpacked, schema_of_map};
use crate::event::Op;
use crate::source::mysql::catalog::table_id;
use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

const SHIFT: u32 = 0;

/// A file of `tests/golden/binlog`, its events one by one.
fn events(name: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/tests/golden/binlog/{name}.binlog.zst", env!("CARGO_MANIFEST_DIR"));
    let whole = zstd::decode_all(std::fs::read(path).unwrap().as_slice()).unwrap();
    let (mut found, mut rest) = (Vec::new(), whole.strip_prefix(b"\xFEbin").unwrap());
    while !rest.is_empty() {
        let (event, after) = rest.split_at(EventHeader::parse(rest).unwrap().size as usize);
        found.push(event.to_vec());
        rest = after;
    }
    found
}

fn flavor(name: &str) -> Flavor {
    if name.contains("maria") { Flavor::MariaDb } else { Flavor::MySql }
}

/// What the log itself says of a table, when it first does.
fn described(name: &str, table: &str, full_before: bool) -> Arc<TableSchema> {
    let mut decoder = EventDecoder::new(flavor(name));
    for bytes in events(name) {
        let Event::TableMap(map) = decoder.decode_bytes(&bytes).unwrap().1 else { continue };
        if map.table == table {
            let id = table_id(&TableName::new(&map.database, &map.table));
            return Arc::new(schema_of_map(&map, id, &[], &Policies::default(), full_before).unwrap());
        }
    }
    panic!("{name} has no {table}");
}

struct Run {
    assembler: Assembler,
    /// What stopped it, or the table.
    stopped: Vec<String>,
    rows: Vec<(Op, Option<i32>, ChangeBatch, usize)>,
    ends: Vec<Witness>,
}

/// Gives an event, so many bytes further behind in its file; a compressed one as its events.
fn hand(assembler: &mut Assembler, bytes: &[u8], further: u64) -> Result<Progress> {
    let mut raw = RawEvent::parse(bytes, Checksum::Crc32).unwrap();
    raw.header.log_pos = (u64::from(raw.header.log_pos) + further) as u32;
    if raw.header.event_type != EventType::TRANSACTION_PAYLOAD {
        return assembler.on_event(raw);
    }
    let mut last = assembler.on_payload(raw.header);
    // Its checksum was taken off.
    raw.header.size -= 4;
    let mut stream = PayloadStream::new(&raw.header, Checksum::None).unwrap();
    let mut rest = raw.body;
    while let Unpacked::Event(event) = stream.next(&mut rest).unwrap() {
        last = assembler.on_packed(RawEvent::parse(&event, Checksum::None).unwrap())?;
    }
    Ok(last)
}

/// Follows table `t` from an event on to another one.
fn run(name: &str, range: std::ops::Range<usize>, tells: bool) -> Run {
    run_of(name, &events(name), range, tells)
}

fn run_of(name: &str, all: &[Vec<u8>], range: std::ops::Range<usize>, tells: bool) -> Run {
    let schema = described(name, "t", tells);
    let id = schema.id;
    let at = LogPoint { file: 1, offset: 4 };
    let gtids = Gtids::none(flavor(name));
    let from = at.position(SHIFT).unwrap();
    let mut assembler = Assembler::new(flavor(name), Policies::default(), SHIFT, at, from, gtids);
    if tells {
        assembler.tell_origins();
    }
    assembler.file = "binlog.000001".into();
    assembler.add(schema, Vec::new(), CommitLsn::ZERO, None);
    let mut run = Run { assembler, stopped: Vec::new(), rows: Vec::new(), ends: Vec::new() };
    for (at, bytes) in all.iter().enumerate() {
        // Each file's checksums are told by its first event.
        if at > 0 && !range.contains(&at) {
            let header = EventHeader::parse(bytes).unwrap();
            run.assembler.advance(header);
            continue;
        }
        match hand(&mut run.assembler, bytes, 0) {
            Ok(Progress::Boundary) => run.ends.extend(run.assembler.last()),
            Ok(Progress::Announced) => panic!("announced at event {at}"),
            Ok(_) => {}
            Err(error) => {
                run.stopped.push(error.to_string());
                break;
            }
        }
        while let Some(batch) = run.assembler.take(id).unwrap() {
            for (row, &op) in batch.ops.iter().enumerate() {
                let of = |rows: &arrow::record_batch::RecordBatch, row| {
                    rows.column(0).as_primitive::<Int32Type>().value(row)
                };
                let key = match (op, &batch.before) {
                    (Op::Delete, Some(before)) => Some(of(&before.rows, before.index[row] as usize)),
                    (Op::Truncate, _) => None,
                    _ => Some(of(&batch.after, row)),
                };
                run.rows.push((op, key, batch.clone(), row));
            }
        }
        let burst = run.assembler.take_burst().unwrap();
        run.stopped.extend(burst.stopped.iter().map(|(_, error)| error.to_string()));
    }
    run
}

/// The event of this GTID's number, and the one where the transaction after it begins.
fn transactions(name: &str, first: &str, until: &str) -> std::ops::Range<usize> {
    let mut decoder = EventDecoder::new(flavor(name));
    let mut found = Vec::new();
    for (at, bytes) in events(name).iter().enumerate() {
        let of = match decoder.decode_bytes(bytes).unwrap().1 {
            Event::Gtid(event) => event.gtid.map(|gtid| gtid.to_string()),
            Event::MariaGtid(event) => Some(event.gtid.to_string()),
            _ => None,
        };
        if let Some(gtid) = of
            && [first, until].iter().any(|wanted| gtid.ends_with(wanted))
        {
            found.push(at);
        }
    }
    assert_eq!(found.len(), 2, "{first} and {until} of {name}");
    found[0]..found[1]
}

#[test]
fn rows_tell_which_event_they_are_of() {
    let name = "events_mysql97";
    // Two rows in one event; then a compressed transaction of three events.
    let plain = run(name, transactions(name, ":3", ":4"), true);
    assert_eq!(plain.stopped, [""; 0]);
    let told = |run: &Run| -> Vec<(u64, u32, i64)> {
        let of = |(_, _, batch, row): &(Op, Option<i32>, ChangeBatch, usize)| {
            let (event, row) = batch.origin_of(*row).unwrap();
            (event.position, row, event.time)
        };
        run.rows.iter().map(of).collect()
    };
    let rows = told(&plain);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].0, rows[0].1, rows[1].1), (rows[1].0, 0, 1));
    assert!(rows[0].2 % 1_000_000 != 0, "microseconds of the commit: {}", rows[0].2);
    let (_, _, batch, row) = &plain.rows[0];
    let origin = &batch.origin_of(*row).unwrap().0.origin;
    assert_eq!((origin.file.as_str(), origin.server_id), ("binlog.000001", 1));
    assert!(origin.gtid.as_ref().unwrap().ends_with(":3") && origin.thread.is_some(), "{origin:?}");
    assert!(origin.begin < rows[0].0, "{origin:?}");
    assert_eq!(batch.lsns[*row].raw(), 1 << 32 | rows[0].0);

    let packed = run(name, transactions(name, ":19", "mytag:1"), true);
    let rows = told(&packed);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.0 == rows[0].0 && row.1 == 0), "{rows:?}");
    // Nobody asked for it.
    assert!(run(name, transactions(name, ":3", ":4"), false).rows[0].2.origins.is_empty());

    for (name, thread) in [("events_mariadb118", Some(257)), ("events_mariadb1011", None)] {
        let maria = run(name, transactions(name, "0-1-3", "0-1-4"), true);
        let (_, _, batch, row) = &maria.rows[1];
        let (event, row) = batch.origin_of(*row).unwrap();
        assert_eq!((row, event.origin.gtid.as_deref()), (1, Some("0-1-3")));
        assert_eq!(event.origin.thread, thread, "{name}");
        assert_eq!(event.time % 1_000_000, 0, "the log knows seconds only");
    }
}

/// A place within a transaction may be on record: it must not move when other tables of the transaction are followed
/// than before, or are held.
#[test]
fn an_ordinal_is_the_same_whoever_is_followed() {
    const DESCRIBED: &[u8] = b"\x03cap\0\x01t\0";
    for name in ["events_mariadb118", "events_mariadb1011"] {
        // The last one: two events of a row each.
        let mut all = events(name);
        let range = transactions(name, "0-1-19", "0-1-20").end..all.len();
        let ordinals = |run: &Run| -> Vec<u64> {
            run.rows.iter().map(|(_, _, batch, row)| batch.ordinals[*row]).collect()
        };
        let whole = run(name, range.clone(), false);
        assert_eq!(
            (changes(&whole), &whole.stopped[..]),
            (vec![(Op::Create, Some(20)), (Op::Create, Some(21))], &[][..])
        );
        assert!(ordinals(&whole).is_sorted_by(|a, b| a < b), "{name}: {:?}", ordinals(&whole));
        // The first event is of a table that is not followed.
        let is_map = |at: &usize| EventHeader::parse(&all[*at]).unwrap().event_type == EventType::TABLE_MAP;
        let map = range.clone().find(is_map).unwrap();
        let event = &mut all[map];
        let at = event.windows(DESCRIBED.len()).position(|part| part == DESCRIBED).unwrap();
        event[at + 6] = b'u';
        let end = event.len() - 4;
        let sum = crc32fast::hash(&event[..end]).to_le_bytes();
        event[end..].copy_from_slice(&sum);
        let without = run_of(name, &all, range, false);
        assert_eq!(changes(&without), [(Op::Create, Some(21))], "{name}");
        assert_eq!(ordinals(&without), ordinals(&whole)[1..], "{name}");
    }
}

/// What became of the rows: operation and key.
fn changes(run: &Run) -> Vec<(Op, Option<i32>)> {
    run.rows.iter().map(|(op, key, ..)| (*op, *key)).collect()
}

#[test]
fn a_two_phase_transaction_is_of_its_commit() {
    for (name, prepared, commit, after) in [
        ("events_mysql97", ":20", ":21", ":22"),
        ("events_mariadb118", "0-1-12", "0-1-13", "0-1-14"),
        ("events_mariadb1011", "0-1-12", "0-1-13", "0-1-14"),
    ] {
        let alone = run(name, transactions(name, prepared, commit), true);
        assert_eq!((changes(&alone), &alone.stopped[..], alone.ends.len()), (vec![], &[][..], 1), "{name}");
        let whole = run(name, transactions(name, prepared, after), true);
        assert_eq!(changes(&whole), [(Op::Create, Some(7))], "{name}");
        assert_eq!((whole.stopped.len(), whole.ends.len()), (0, 2), "{name}");
        let (_, _, batch, row) = &whole.rows[0];
        let txn = batch.txn_of(*row).unwrap();
        assert!(txn.held_at(whole.ends[1].end) && !txn.held_at(whole.ends[0].end), "{name}");
        assert_eq!(txn.after, whole.ends[0].end, "{name}");
        let gtid = &batch.origin_of(*row).unwrap().0.origin.gtid;
        assert!(gtid.as_ref().unwrap().ends_with(commit), "{name}: {gtid:?}");
        // Begun behind the preparation, it asks for it.
        let behind = run(name, transactions(name, commit, after), true);
        let wanted = behind.assembler.recall().cloned().unwrap();
        assert_eq!((wanted.xid.to_string(), wanted.start), ("X'7831',X'62',7".to_owned(), None), "{name}");
        assert!(behind.assembler.open_txn().is_some() && behind.ends.is_empty());
    }
}

#[test]
fn a_two_phase_transaction_that_is_rolled_back_never_was() {
    for (name, prepared, rollback, after) in
        [("events_mysql97", ":22", ":23", ":24"), ("events_mariadb118", "0-1-14", "0-1-15", "0-1-16")]
    {
        let whole = run(name, transactions(name, prepared, after), false);
        assert_eq!((changes(&whole), whole.stopped.len(), whole.ends.len()), (vec![], 0, 2), "{name}");
        let behind = run(name, transactions(name, rollback, after), false);
        assert_eq!((changes(&behind), behind.assembler.recall(), behind.ends.len()), (vec![], None, 1));
    }
}

#[test]
fn one_phase_is_a_transaction_like_others() {
    let name = "events_mysql97";
    let whole = run(name, transactions(name, ":24", ":25"), false);
    assert_eq!((changes(&whole), whole.ends.len()), (vec![(Op::Create, Some(9))], 1));
}

/// Rows that were not kept, and those that were prepared before the stream began, are handed in from the log again.
#[test]
fn what_was_not_kept_is_taken_from_the_log() {
    for (name, prepared, commit, after) in
        [("events_mysql97", ":20", ":21", ":22"), ("events_mariadb1011", "0-1-12", "0-1-13", "0-1-14")]
    {
        let mut behind = run(name, transactions(name, commit, after), false);
        let id = described(name, "t", false).id;
        let all = events(name);
        let mut ended = false;
        for bytes in std::iter::once(&all[0]).chain(&all[transactions(name, prepared, commit)]) {
            assert!(!ended, "{name}: it goes on behind the end");
            let raw = RawEvent::parse(bytes, Checksum::Crc32).unwrap();
            ended = behind.assembler.recalled(raw).unwrap() == Progress::Boundary;
        }
        assert!(ended && behind.assembler.recall().is_none(), "{name}");
        let batch = behind.assembler.take(id).unwrap().unwrap();
        assert_eq!((batch.len(), batch.runs.len()), (1, 1), "{name}");
        let txn = batch.txn_of(0).unwrap();
        assert!(txn.held_at(behind.assembler.last().unwrap().end), "{name}");
        assert!(behind.assembler.open_txn().is_none());
    }
}

/// What became of a log's first events, so many bytes further behind in their file: up to the first that cannot be taken.
struct Fed {
    assembler: Assembler,
    ends: Vec<CommitLsn>,
    rows: Vec<Op>,
    /// Events up to the end of the last transaction.
    count: usize,
}

fn feed(name: &str, further: u64, count: usize) -> Fed {
    let schema = described(name, "t", false);
    let id = schema.id;
    let at = LogPoint { file: 1, offset: 4 + further };
    let gtids = Gtids::none(flavor(name));
    let from = at.position(SHIFT).unwrap();
    let mut assembler = Assembler::new(flavor(name), Policies::default(), SHIFT, at, from, gtids);
    assembler.add(schema, Vec::new(), CommitLsn::ZERO, None);
    let mut fed = Fed { assembler, ends: Vec::new(), rows: Vec::new(), count: 0 };
    for (n, bytes) in events(name).iter().enumerate().take(count) {
        match hand(&mut fed.assembler, bytes, further) {
            Ok(Progress::Boundary) => {
                fed.ends.extend(fed.assembler.last().map(|last| last.end));
                fed.count = n + 1;
            }
            Ok(Progress::Within) => {}
            Ok(Progress::Announced | Progress::Undefined | Progress::Stopped | Progress::Recall) | Err(_) => {
                break;
            }
        }
        while let Some(batch) = fed.assembler.take(id).unwrap() {
            fed.rows.extend(batch.ops.iter().copied());
        }
    }
    fed
}

/// A file beyond 4 GiB: the events' own places wrap around there, and what ends beyond has one position, that of the file's
/// end. So it is one transaction, which ends with the file; nothing that is held can be in its middle.
#[test]
fn beyond_4_gib_all_is_one_transaction() {
    for name in ["events_mysql97", "events_mariadb118"] {
        let count = feed(name, 0, usize::MAX).count;
        let whole = feed(name, 0, count);
        let all = events(name);
        // The middle of what is taken stands at 4 GiB.
        let middle = all.iter().take(count).map(Vec::len).sum::<usize>() as u64 / 2;
        let mut fed = feed(name, (1 << 32) - middle, count);
        assert!(whole.ends.len() > 8 && !whole.rows.is_empty(), "{name}: {}", whole.ends.len());
        assert_eq!(fed.rows, whole.rows, "{name}");
        let far = LogPoint { file: 1, offset: 5 << 30 }.position(SHIFT).unwrap();
        assert!((2..whole.ends.len() - 2).contains(&fed.ends.len()), "{name}: {}", fed.ends.len());
        assert!(fed.ends.iter().all(|&end| end < far), "{name}");
        assert!(fed.assembler.open_txn().is_some(), "{name}");
        // The server says in which file it goes on.
        let body = [&4u64.to_le_bytes()[..], b"binlog.000002"].concat();
        let size = (EventHeader::LEN + body.len()) as u32;
        let event_type = EventType::ROTATE;
        let header = EventHeader { timestamp: 0, event_type, server_id: 1, size, log_pos: 0, flags: 0x20 };
        let progress = fed.assembler.on_event(RawEvent { header, body: &body }).unwrap();
        assert_eq!(progress, Progress::Boundary, "{name}");
        assert_eq!(fed.assembler.last().unwrap().end, far, "{name}");
        assert!(fed.assembler.open_txn().is_none(), "{name}");
        assert_eq!(fed.assembler.at, LogPoint { file: 2, offset: 4 }, "{name}");
    }
}
