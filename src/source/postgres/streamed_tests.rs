//! Transactions in blocks against the same transactions whole, and against a plain model.

use super::super::assemble::{Assembler, Progress};
use super::super::spill::Spill;
use super::*;
use crate::error::codes;
use crate::event::{ChangeBatch, Op, Txn};
use crate::position::{CommitLsn, Lsn, Witness};
use crate::schema::{Column, ColumnKind, TableName};
use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use std::collections::BTreeMap;

const ID: (&str, u32, bool) = ("id", 23, true);
const TEXT: (&str, u32, bool) = ("note", 25, false);

fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = vec![b'w'];
    out.extend([0; 8]);
    out.extend(1000u64.to_be_bytes());
    out.extend(7i64.to_be_bytes());
    out.extend(message);
    out
}

/// A message: its letter, and where it stands in a block the id of its (sub)transaction, then the rest.
fn message(tag: u8, xid: Option<u32>, rest: &[&[u8]]) -> Vec<u8> {
    let mut m = vec![tag];
    m.extend(xid.into_iter().flat_map(u32::to_be_bytes));
    rest.iter().for_each(|part| m.extend_from_slice(part));
    frame(&m)
}

fn begin(start: u64, xid: u32) -> Vec<u8> {
    message(b'B', None, &[&start.to_be_bytes(), &5i64.to_be_bytes(), &xid.to_be_bytes()])
}

fn commit(start: u64) -> Vec<u8> {
    message(b'C', None, &[&[0], &start.to_be_bytes(), &(start + 8).to_be_bytes(), &5i64.to_be_bytes()])
}

fn stream_start(xid: u32, first: bool) -> Vec<u8> {
    message(b'S', Some(xid), &[&[u8::from(first)]])
}

fn stream_stop() -> Vec<u8> {
    frame(b"E")
}

fn stream_commit(xid: u32, start: u64) -> Vec<u8> {
    let rest: [&[u8]; 4] = [&[0], &start.to_be_bytes(), &(start + 8).to_be_bytes(), &5i64.to_be_bytes()];
    message(b'c', Some(xid), &rest)
}

fn stream_abort(xid: u32, subxid: u32) -> Vec<u8> {
    message(b'A', Some(xid), &[&subxid.to_be_bytes()])
}

fn keepalive(end: u64) -> Vec<u8> {
    let mut m = vec![b'k'];
    m.extend(end.to_be_bytes());
    m.extend(9i64.to_be_bytes());
    m.push(0);
    m
}

fn relation(xid: Option<u32>, table: u32, columns: &[(&str, u32, bool)]) -> Vec<u8> {
    let mut rest = table.to_be_bytes().to_vec();
    rest.extend(format!("public\0t{table}\0d").bytes());
    rest.extend((columns.len() as u16).to_be_bytes());
    for (name, oid, key) in columns {
        rest.push(u8::from(*key));
        rest.extend(name.bytes().chain([0]));
        rest.extend(oid.to_be_bytes());
        rest.extend((-1i32).to_be_bytes());
    }
    message(b'R', xid, &[&rest])
}

fn cell(value: &[u8]) -> Vec<u8> {
    [b"b".as_slice(), &(value.len() as u32).to_be_bytes(), value].concat()
}

/// A row `(id, note)`; without a note it is unchanged, or null where that cannot be.
fn row(tag: u8, id: i32, note: Option<&str>) -> Vec<u8> {
    let note = match (note, tag) {
        (Some(note), _) => cell(note.as_bytes()),
        (None, b'N') => b"u".to_vec(),
        (None, _) => b"n".to_vec(),
    };
    [&[tag, 0, 2], cell(&id.to_be_bytes()).as_slice(), &note].concat()
}

/// One change, as a test thinks of it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Insert(i32, String),
    /// The key moves; the note is unchanged.
    Move(i32, i32),
    Delete(i32),
    Truncate,
    /// A value that cannot be represented: an id of a wrong length.
    Bad,
    /// A logical message; of no table.
    Message(String),
}

fn change(xid: Option<u32>, table: u32, change: &Change) -> Vec<u8> {
    let id = table.to_be_bytes();
    match change {
        Change::Insert(key, note) => message(b'I', xid, &[&id, &row(b'N', *key, Some(note))]),
        Change::Move(from, to) => message(b'U', xid, &[&id, &row(b'K', *from, None), &row(b'N', *to, None)]),
        Change::Delete(key) => message(b'D', xid, &[&id, &row(b'K', *key, None)]),
        Change::Truncate => message(b'T', xid, &[&1u32.to_be_bytes(), &[0], &id]),
        Change::Message(content) => logical(xid, true, 1000, content),
        Change::Bad => message(b'I', xid, &[&id, &[b'N', 0, 2], &cell(&[1, 2, 3]), b"n"]),
    }
}

/// A logical message.
fn logical(xid: Option<u32>, transactional: bool, lsn: u64, content: &str) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    message(
        b'M',
        xid,
        &[&[u8::from(transactional)], &lsn.to_be_bytes(), b"app\0", &length, content.as_bytes()],
    )
}

fn schema(table: u32) -> Arc<TableSchema> {
    if table == 0 {
        return Arc::new(TableSchema::messages());
    }
    let column = |name: &str, type_oid, kind| Column {
        name: name.into(),
        attnum: 1,
        type_oid,
        type_modifier: -1,
        type_name: String::new(),
        kind,
    };
    let columns = vec![column("id", 23, ColumnKind::Int4), column("note", 25, ColumnKind::Text)];
    let name = TableName::new("public", format!("t{table}"));
    Arc::new(TableSchema::new(TableId(table), name, columns, vec![0], false))
}

fn position(raw: u64) -> CommitLsn {
    CommitLsn::end_of_commit(Lsn::new(raw))
}

/// What came out: per table its rows in words, with transaction and ordinal; and the control items.
#[derive(Default, PartialEq, Eq, Debug)]
struct Outcome {
    rows: BTreeMap<u32, Vec<String>>,
    witnesses: Vec<Witness>,
    through: Option<CommitLsn>,
    stopped: Vec<u32>,
}

/// A note in few characters.
fn short(note: &str) -> String {
    if note.len() < 8 { note.to_owned() } else { format!("{}×{}", note.len(), &note[..1]) }
}

fn words(batch: &ChangeBatch) -> Vec<String> {
    if batch.schema.is_messages() {
        let contents = batch.after.column(1).as_binary::<i32>();
        let line = |row: usize| {
            let txn = batch.txn_of(row).expect("a transaction");
            let content = short(std::str::from_utf8(contents.value(row)).expect("text"));
            format!("{}/{}@{} message {content}", txn.xid, batch.ordinals[row], txn.commit_start)
        };
        return (0..batch.len()).map(line).collect();
    }
    let ids = |rows: &arrow::record_batch::RecordBatch| rows.column(0).as_primitive::<Int32Type>().clone();
    let (after, notes) = (ids(&batch.after), batch.after.column(1).as_string::<i32>().clone());
    let line = |row: usize| {
        let txn: Txn = batch.txn_of(row).expect("a transaction");
        let change = match batch.ops[row] {
            Op::Create => format!("insert {} {}", after.value(row), short(notes.value(row))),
            Op::Truncate => "truncate".into(),
            op => {
                let before = batch.before.as_ref().expect("an old image");
                let old = ids(&before.rows).value(before.index[row] as usize);
                match op {
                    Op::Delete => format!("delete {old}"),
                    _ => {
                        let mask = batch.unchanged[1].as_ref().expect("a mask");
                        assert!(mask.value(row) && batch.unchanged[0].is_none());
                        format!("move {old} {}", after.value(row))
                    }
                }
            }
        };
        format!("{}/{}@{} {change}", txn.xid, batch.ordinals[row], txn.commit_start)
    };
    (0..batch.len()).map(line).collect()
}

fn collect(a: &mut Assembler, into: &mut Outcome) {
    let burst = a.take_burst();
    into.through = burst.through.or(into.through);
    into.witnesses.extend(burst.last_nonempty);
    for (table, error) in burst.table_errors {
        assert!([codes::PG021, codes::PG022].contains(&error.code()), "{error}");
        into.stopped.push(table.0);
    }
    for table in a.tables_with_rows() {
        while let Some(batch) = a.take(table).unwrap() {
            assert!(batch.is_stamped());
            into.rows.entry(table.0).or_default().extend(words(&batch));
        }
    }
}

/// Feeds frames as the stream does, and takes everything out after each.
fn play(a: &mut Assembler, frames: &[Vec<u8>]) -> Result<Outcome> {
    let mut out = Outcome::default();
    for frame in frames {
        a.on_frame(frame)?;
        while a.is_applying() {
            collect(a, &mut out);
            assert!(a.take_burst().open.is_some(), "half received");
            a.apply()?;
        }
        collect(a, &mut out);
    }
    Ok(out)
}

fn assembler(tables: &[u32], spill: Spill) -> Assembler {
    let mut a = Assembler::new(Policies::default(), None, None).with_spill(spill);
    for &table in tables {
        a.add(schema(table), CommitLsn::ZERO).unwrap();
    }
    a
}

fn memory() -> Spill {
    Spill { memory: usize::MAX, ..Spill::default() }
}

fn insert(id: i32) -> Change {
    Change::Insert(id, format!("n{id}"))
}

/// A block of changes of table 1, each with its (sub)transaction.
fn block(xid: u32, first: bool, changes: &[(u32, Change)]) -> Vec<Vec<u8>> {
    let mut frames = vec![stream_start(xid, first), relation(Some(xid), 1, &[ID, TEXT])];
    frames.extend(changes.iter().map(|(sub, c)| change(Some(*sub), 1, c)));
    frames.push(stream_stop());
    frames
}

#[test]
fn an_aborted_subtransaction_takes_its_rows_and_ordinals_with_it() {
    let mut a = assembler(&[1], memory());
    let changes = [(10, insert(1)), (11, insert(2)), (12, insert(3)), (11, insert(4))];
    let mut frames = block(10, true, &changes);
    // The inner one, then the outer one, as the server sends them.
    frames.extend([stream_abort(10, 12), stream_abort(10, 11)]);
    frames.extend(block(10, false, &[(10, insert(5)), (13, insert(6))]));
    let out = play(&mut a, &frames).unwrap();
    assert_eq!(out, Outcome::default(), "nothing before the commit");
    assert_eq!((a.uncommitted(), a.tables_with_rows()), (1, vec![]));
    let out = play(&mut a, &[stream_commit(10, 100)]).unwrap();
    assert_eq!(out.rows[&1], ["10/0@0/64 insert 1 n1", "10/1@0/64 insert 5 n5", "10/2@0/64 insert 6 n6"]);
    assert_eq!(out.witnesses, [Witness { end: position(108), xid: 10, commit_time: 5 }]);
    assert_eq!((a.uncommitted(), a.uncommitted_bytes()), (0, 0));
}

/// Logical messages beside transactions, within them, in blocks; our own heartbeats are none; followed or not, they
/// count the same.
#[test]
fn messages_have_their_places() {
    let mut frames = vec![logical(None, false, 50, "alone"), begin(100, 7), relation(None, 1, &[ID, TEXT])];
    frames.extend([
        change(None, 1, &insert(1)),
        logical(None, true, 60, "within"),
        change(None, 1, &insert(2)),
    ]);
    frames.extend([commit(100), begin(200, 8), logical(None, true, 190, "only"), commit(200)]);
    frames.extend(block(9, true, &[(9, insert(3)), (9, Change::Message("in".into())), (9, insert(4))]));
    frames.extend([logical(None, false, 250, "between"), stream_commit(9, 300)]);
    let out = play(&mut assembler(&[0, 1], memory()), &frames).unwrap();
    let ids = |out: &Outcome| out.witnesses.iter().map(|w| (w.end.lsn().raw(), w.xid)).collect::<Vec<_>>();
    assert_eq!(ids(&out), [(50, 0), (108, 7), (208, 8), (250, 0), (308, 9)]);
    let times: Vec<i64> = out.witnesses.iter().map(|w| w.commit_time).collect();
    assert_eq!(times, [0, 5, 5, 0, 5], "the same at each sending");
    let messages = [
        "0/0@0/31 message alone",
        "7/1@0/64 message within",
        "8/0@0/C8 message only",
        "0/0@0/F9 message between",
        "9/1@0/12C message in",
    ];
    assert_eq!(out.rows[&0], messages);
    let rows =
        ["7/0@0/64 insert 1 n1", "7/2@0/64 insert 2 n2", "9/0@0/12C insert 3 n3", "9/2@0/12C insert 4 n4"];
    assert_eq!(out.rows[&1], rows);
    let without = play(&mut assembler(&[1], memory()), &frames).unwrap();
    assert_eq!((ids(&without), &without.rows[&1]), (ids(&out), &out.rows[&1]));
    // What is held is not taken again; a message holds no more than itself.
    for (held, count) in [(49, 1), (50, 0), (51, 0)] {
        let mut later = Assembler::new(Policies::default(), None, None);
        later.add(schema(0), position(held)).unwrap();
        assert_eq!(play(&mut later, &frames[..1]).unwrap().rows.get(&0).map_or(0, Vec::len), count, "{held}");
    }
}

/// The server sends messages of subtransactions under the id of the whole. When a part was rolled back, the transaction
/// is asked for whole by who wants its messages; nobody else cares, unless nothing but messages may be left of it.
#[test]
fn messages_of_what_was_rolled_back_in_part_are_asked_for_again() {
    let message = || Change::Message("m".into());
    let script = |changes: &[(u32, Change)]| {
        let mut frames = block(9, true, changes);
        frames.extend([stream_abort(9, 10), stream_commit(9, 300)]);
        frames
    };
    let mixed = script(&[(9, insert(1)), (9, message()), (10, insert(2))]);
    let bare = script(&[(9, message()), (10, insert(2))]);
    for (tables, frames, is_asked) in [
        (vec![0, 1], &mixed, true),
        (vec![1], &mixed, false),
        (vec![0, 1], &bare, true),
        (vec![1], &bare, true),
    ] {
        let mut a = assembler(&tables, memory());
        let played = play(&mut a, frames);
        let wanted = is_asked.then(|| position(308));
        assert_eq!((a.wants_whole(), played.is_err()), (wanted, is_asked), "{tables:?}");
        if let Err(error) = played {
            assert_eq!(error.code(), codes::PG006);
        }
    }
}

#[test]
fn an_abort_of_the_inner_one_alone_leaves_the_outer() {
    let mut a = assembler(&[1], memory());
    let mut frames = block(10, true, &[(10, insert(1)), (11, insert(2)), (12, insert(3))]);
    frames.push(stream_abort(10, 12));
    // A subtransaction of which nothing was streamed.
    frames.push(stream_abort(10, 14));
    frames.extend(block(10, false, &[(11, insert(4)), (15, insert(5))]));
    frames.extend([stream_abort(10, 15), stream_commit(10, 100)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!(out.rows[&1], ["10/0@0/64 insert 1 n1", "10/1@0/64 insert 2 n2", "10/2@0/64 insert 4 n4"]);
    // All of it aborted: it is as if it had been empty.
    let mut frames = block(20, true, &[(21, insert(1))]);
    frames.extend([stream_abort(20, 21), stream_commit(20, 200)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!((out.through, out.witnesses.len(), out.rows.len()), (Some(position(208)), 0, 0));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let start = || block(10, true, &[(10, insert(1))]);
    let with = |more: Vec<Vec<u8>>| [start(), more].concat();
    let open = |more: Vec<Vec<u8>>| [vec![stream_start(10, true)], more].concat();
    for (word, frames) in [
        ("within a block", open(vec![stream_start(11, true)])),
        ("begins twice", with(vec![stream_start(10, true)])),
        ("has not begun", vec![stream_start(10, false)]),
        ("has not begun", vec![stream_stop()]),
        ("not streamed", vec![stream_commit(10, 100)]),
        ("within a block", open(vec![stream_abort(10, 10)])),
        ("within a block", open(vec![stream_commit(10, 100)])),
        ("begins within", open(vec![begin(10, 1)])),
        ("without a beginning", open(vec![commit(10)])),
        ("not announced", open(vec![change(Some(10), 1, &insert(1))])),
        ("within an ordinary", vec![begin(10, 1), stream_start(11, true)]),
        ("begins within", with(vec![begin(50, 1), stream_commit(10, 100)])),
        ("order of their commits", with(vec![begin(200, 1), commit(200), stream_commit(10, 100)])),
        ("outside of a transaction", with(vec![change(None, 1, &insert(1))])),
    ] {
        let error = play(&mut assembler(&[1], memory()), &frames).unwrap_err();
        assert_eq!(error.code(), codes::PG024, "{word}");
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

#[test]
fn keepalives_count_between_blocks_but_not_in_one() {
    let mut a = assembler(&[1], memory());
    a.on_frame(&stream_start(10, true)).unwrap();
    a.on_frame(&keepalive(50)).unwrap();
    assert_eq!(a.take_burst().keepalive, None);
    a.on_frame(&stream_stop()).unwrap();
    a.on_frame(&keepalive(60)).unwrap();
    let burst = a.take_burst();
    assert_eq!((burst.keepalive, burst.open), (Some(Lsn::new(60)), None), "it commits after that");
}

#[test]
fn bound_guard_and_held_positions_are_those_of_the_commit() {
    let transaction =
        |xid, start| [block(xid, true, &[(xid, insert(1))]), vec![stream_commit(xid, start)]].concat();
    let mut a = Assembler::new(Policies::default(), Some(Lsn::new(300)), Some(position(108)));
    a.add(schema(1), position(108)).unwrap();
    let mut frames = transaction(10, 100);
    frames.extend(transaction(20, 200));
    let mut rows = Vec::new();
    let mut replayed = Vec::new();
    for frame in &frames {
        a.on_frame(frame).unwrap();
        replayed.extend(a.take_burst().replayed);
        while let Some(batch) = a.take(TableId(1)).unwrap() {
            rows.extend(words(&batch));
        }
    }
    assert_eq!(rows, ["20/0@0/C8 insert 1 n1"], "what is held is skipped");
    assert_eq!(replayed, [(Lsn::new(100), Witness { end: position(108), xid: 10, commit_time: 5 })]);
    let mut last = Progress::Within;
    for frame in &transaction(30, 300) {
        last = a.on_frame(frame).unwrap();
    }
    assert_eq!(last, Progress::Stopped);
    assert!(a.take(TableId(1)).unwrap().is_none() && a.take_burst().stopped);
}

#[test]
fn an_error_of_a_row_counts_when_the_row_commits() {
    for (aborted, stopped) in [(vec![11], vec![]), (vec![], vec![1])] {
        let mut a = assembler(&[1, 2], memory());
        let mut frames =
            block(10, true, &[(10, insert(1)), (11, Change::Bad), (11, insert(2)), (11, Change::Bad)]);
        frames.insert(3, relation(Some(10), 2, &[ID, TEXT]));
        frames.insert(4, change(Some(10), 2, &insert(7)));
        frames.extend(aborted.iter().map(|sub| stream_abort(10, *sub)));
        assert_eq!(play(&mut a, &frames).unwrap(), Outcome::default());
        let out = play(&mut a, &[stream_commit(10, 100)]).unwrap();
        assert_eq!(out.stopped, stopped);
        assert_eq!(out.rows.contains_key(&1), stopped.is_empty());
        assert_eq!(out.rows[&2].len(), 1, "the other table goes on");
    }
    // The whole is rolled back: nothing has happened.
    let mut a = assembler(&[1], memory());
    let mut frames = block(10, true, &[(10, Change::Bad)]);
    frames.push(stream_abort(10, 10));
    frames.extend([begin(50, 11), relation(None, 1, &[ID, TEXT]), change(None, 1, &insert(1)), commit(50)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!((out.stopped.len(), out.rows[&1].len()), (0, 1));
}

#[test]
fn relations_hold_within_their_transaction_until_it_commits() {
    let other = &[ID, TEXT, ("more", 25, false)];
    // Another form in a transaction that is rolled back: the next one does not see it.
    let mut a = assembler(&[1], memory());
    let altered = |sub: u32| {
        vec![
            stream_start(10, true),
            relation(Some(sub), 1, other),
            change(Some(sub), 1, &insert(9)),
            stream_stop(),
        ]
    };
    let plain = [begin(50, 20), relation(None, 1, &[ID, TEXT]), change(None, 1, &insert(1)), commit(50)];
    let mut frames = altered(10);
    frames.extend(plain.clone());
    frames.push(stream_abort(10, 10));
    frames.extend([begin(60, 21), change(None, 1, &insert(2)), commit(60)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!((out.stopped, out.rows[&1].len()), (vec![], 2));
    // In a subtransaction that is: the server says the old form again, and the rest is good.
    let mut a = assembler(&[1], memory());
    let mut frames = altered(11);
    frames.push(stream_abort(10, 11));
    frames.extend(block(10, false, &[(10, insert(1))]));
    frames.push(stream_commit(10, 100));
    // The server knows that it has said it: not again.
    frames.extend([begin(200, 22), change(None, 1, &insert(2)), commit(200)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!((out.stopped, out.rows[&1].len()), (vec![], 2));
    // It commits: whole, the catalogue explains it.
    let mut a = assembler(&[1], memory());
    let mut frames = altered(10);
    frames.push(stream_commit(10, 100));
    assert_eq!(play(&mut a, &frames).unwrap_err().code(), codes::PG006);
    assert_eq!(a.wants_whole(), Some(position(108)));
    // One that an ordinary transaction brought meanwhile is newer.
    let mut a = assembler(&[1], memory());
    let mut frames = vec![stream_start(10, true), relation(Some(10), 1, other), stream_stop()];
    frames.extend(plain);
    frames.extend([stream_commit(10, 100), begin(200, 22), change(None, 1, &insert(2)), commit(200)]);
    let out = play(&mut a, &frames).unwrap();
    assert_eq!((out.stopped, out.rows[&1].len()), (vec![], 2));
}

#[test]
fn a_table_that_joins_within_a_transaction_asks_for_it_again() {
    let frames = block(10, true, &[(10, insert(1))]);
    let joined = |held: u64| {
        let mut a = assembler(&[], memory());
        play(&mut a, &frames).unwrap();
        a.add(schema(1), position(held)).unwrap();
        play(&mut a, &block(10, false, &[(10, insert(2))])).unwrap();
        play(&mut a, &[stream_commit(10, 100)])
    };
    let error = joined(60).unwrap_err();
    assert_eq!(error.code(), codes::PG006, "temporary: the connection is made again");
    assert!(joined(108).unwrap().rows.is_empty(), "its copy holds the transaction");
    // Registered anew, or stopped and back: the same.
    let mut a = assembler(&[1], memory());
    play(&mut a, &frames).unwrap();
    a.remove(TableId(1));
    assert_eq!(a.uncommitted_bytes(), 0);
    a.add(schema(1), position(60)).unwrap();
    assert_eq!(play(&mut a, &[stream_commit(10, 100)]).unwrap_err().code(), codes::PG006);
    // Stopped: it has no say.
    let mut a = assembler(&[1], memory());
    play(&mut a, &frames).unwrap();
    a.remove(TableId(1));
    assert!(play(&mut a, &[stream_commit(10, 100)]).unwrap().rows.is_empty());
}

#[test]
fn memory_is_bounded_and_what_was_spilled_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let spill = Spill { memory: 1 << 20, slice: 128 << 10, dir: dir.path().join("spill") };
    let mut a = assembler(&[1, 2], spill);
    let note = "x".repeat(1000);
    let mut expected = Vec::new();
    for xid in [10, 20] {
        for part in 0..10i32 {
            let mut frames = block(xid, part == 0, &[]);
            frames.pop();
            frames.push(relation(Some(xid), 2, &[ID, TEXT]));
            for i in 0..300 {
                let id = part * 300 + i;
                frames.push(change(Some(xid), 1 + u32::from(i % 10 == 0), &Change::Insert(id, note.clone())));
                if xid == 20 && i % 10 != 0 {
                    expected.push(format!("20/{id}@0/64 insert {id} 1000×x"));
                }
            }
            frames.push(stream_stop());
            for frame in frames {
                a.on_frame(&frame).unwrap();
                assert!(a.uncommitted_bytes() <= (1 << 20) + (256 << 10), "{}", a.uncommitted_bytes());
            }
        }
    }
    assert!(a.spilled_bytes() > 4 << 20, "{}", a.spilled_bytes());
    assert_eq!(std::fs::read_dir(dir.path().join("spill")).unwrap().count(), 0, "files without names");
    a.on_frame(&stream_abort(10, 10)).unwrap();
    let mut out = Outcome::default();
    a.on_frame(&stream_commit(20, 100)).unwrap();
    let mut steps = 0;
    while a.is_applying() {
        assert!(a.bytes() < 1 << 20, "slice by slice: {}", a.bytes());
        collect(&mut a, &mut out);
        a.apply().unwrap();
        steps += 1;
    }
    collect(&mut a, &mut out);
    assert!(steps > 8, "{steps}");
    assert_eq!((&out.rows[&1], out.rows[&2].len()), (&expected, 300));
    assert_eq!((a.uncommitted_bytes(), a.tables_with_rows()), (0, vec![]));
}

#[test]
fn a_disk_that_cannot_be_used_ends_the_stream() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let spill = Spill { memory: 1 << 20, slice: 128 << 10, dir: file.path().into() };
    let mut a = assembler(&[1], spill);
    let many: Vec<_> = (0..2000).map(|i| (10, Change::Insert(i, "x".repeat(1000)))).collect();
    assert_eq!(play(&mut a, &block(10, true, &many)).unwrap_err().code(), codes::RT003);
}

/// Bytes that a real server sent (`tests/golden/pgoutput/capture.sh`).
#[test]
fn golden_bytes_of_a_server() {
    let hex = include_str!("../../../tests/golden/pgoutput/streamed.hex");
    let bytes = hex.lines().map(|line| {
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(byte).collect::<Vec<u8>>()
    });
    let bytes: Vec<Vec<u8>> = bytes.collect();
    let announced = bytes.iter().find(|m| m[0] == b'R').unwrap();
    let Ok(Message::Relation(relation)) = decode(announced, true) else { panic!("not a relation") };
    let column = Column {
        name: "id".into(),
        attnum: 1,
        type_oid: 20,
        type_modifier: -1,
        type_name: "bigint".into(),
        kind: ColumnKind::Int8,
    };
    let name = TableName::new("public", "big_rows");
    let schema = Arc::new(TableSchema::new(relation.id, name, vec![column], vec![0], false));
    let mut a = Assembler::new(Policies::default(), None, None);
    a.add(Arc::clone(&schema), CommitLsn::ZERO).unwrap();
    let mut found = Vec::new();
    for message in &bytes {
        a.on_frame(&frame(message)).unwrap();
        while let Some(batch) = a.take(schema.id).unwrap() {
            let ids = batch.after.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
            found.push((ids, batch.ordinals));
        }
    }
    let first: Vec<i64> = (1..=60).chain(201..=202).collect();
    assert_eq!(found, [(first, (0..62).collect()), (vec![1000], vec![0])]);
    assert_eq!(a.take_burst().transactions, 2);
}

#[path = "streamed_model_tests.rs"]
mod model;

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, no panic, and through never goes back.
        #[test]
        fn any_sequence_is_survived(steps in prop::collection::vec((0u8..14, 0u32..6, 0u64..60), 0..80)) {
            let dir = tempfile::tempdir().unwrap();
            let mut a = assembler(&[1], Spill { memory: 200, slice: 50, dir: dir.path().into() });
            let mut through = CommitLsn::ZERO;
            let mut in_block = false;
            for (kind, xid, n) in steps {
                let in_stream = in_block.then_some(xid);
                let bytes = match kind {
                    0 | 1 => stream_start(1 + xid % 3, n % 2 == 0),
                    2 | 3 => stream_stop(),
                    4 => stream_commit(1 + xid % 3, n),
                    5 => stream_abort(1 + xid % 3, xid),
                    6 => relation(in_stream, 1, &[ID, TEXT]),
                    7..=9 => change(in_stream, 1, &insert(7)),
                    10 => keepalive(n),
                    11 => begin(n, xid),
                    12 => commit(n),
                    _ => {
                        if n % 2 == 0 { a.remove(TableId(1)) } else { a.add(schema(1), position(n)).unwrap() }
                        continue;
                    }
                };
                if a.on_frame(&bytes).is_err() { break; }
                in_block = match kind { 0 | 1 => true, 2 | 3 => false, _ => in_block };
                while a.is_applying() && a.apply().is_ok() {}
                let burst = a.take_burst();
                if let Some(end) = burst.through {
                    prop_assert!(end > through);
                    through = end;
                }
                prop_assert!(burst.keepalive.is_none() || burst.open.is_none());
                while let Some(batch) = a.take(TableId(1)).unwrap() {
                    prop_assert!(batch.is_stamped());
                }
            }
        }
    }
}
