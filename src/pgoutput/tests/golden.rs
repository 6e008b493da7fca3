//! Bytes of a real server (`tests/golden/pgoutput/capture.sh`) against what the same server says of the same
//! rows, and against words that were read by eye.

use super::*;
use crate::pgoutput::{CopyDecoder, Message, Policies, Relation, TypeInfo, decode, resolve};
use std::collections::BTreeMap;

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../tests/golden/pgoutput/", $name))
    };
}

/// Every message of the golden files, and whether it stands in a streamed block.
pub(super) fn all_messages() -> Vec<(Vec<u8>, bool)> {
    let files = [
        golden!("types.binary.hex"),
        golden!("types.text.hex"),
        golden!("changes.binary.hex"),
        golden!("changes.text.hex"),
        golden!("streamed.hex"),
        golden!("prepared.hex"),
    ];
    let mut in_stream = false;
    let mut all = Vec::new();
    for line in files.iter().flat_map(|file| file.lines()) {
        let bytes = unhex(line);
        match bytes[0] {
            b'S' => all.push((bytes, false)),
            b'E' => all.push((bytes, false)),
            _ => all.push((bytes, in_stream)),
        }
        in_stream = match all.last().unwrap().0[0] {
            b'S' => true,
            b'E' => false,
            _ => in_stream,
        };
    }
    all
}

fn schema_of(relation: &Relation<'_>) -> Arc<TableSchema> {
    let columns = (1..).zip(&relation.columns).map(|(attnum, column)| {
        // Oids from 16384 on are made by users; here that is one enum.
        let typtype = if column.type_oid < 16_384 { 'b' } else { 'e' };
        let info = TypeInfo { typtype, ..TypeInfo::default() };
        let kind = resolve(column.type_oid, column.type_modifier, &info, &Policies::default());
        Column {
            name: column.name.into(),
            attnum,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            type_name: String::new(),
            kind: kind.expect("a supported type"),
        }
    });
    let full = relation.identity == crate::pgoutput::ReplicaIdentity::Full;
    let name = TableName::new(relation.namespace, relation.name);
    Arc::new(TableSchema::new(relation.id, name, columns.collect(), vec![0], full))
}

/// Plays messages into one builder per table and says what came out.
fn play(lines: &str) -> String {
    let mut tables: BTreeMap<TableId, BatchBuilder> = BTreeMap::new();
    let (mut open, mut ordinal, mut outside) = (None, 0, String::new());
    // Transaction ids by rank: they differ from one capture to the next.
    let mut xid = 0;
    for line in lines.lines() {
        let bytes = unhex(line);
        let size = bytes.len();
        match decode(&bytes, false).expect("a message of a real server") {
            Message::Begin(begin) => {
                xid += 1;
                ordinal = 0;
                let commit_start = begin.final_lsn;
                open =
                    Some(Txn { commit_start, xid, commit_time: begin.commit_time, after: CommitLsn::ZERO });
            }
            Message::Commit(commit) => {
                let txn = open.take().expect("an open transaction");
                assert_eq!((txn.commit_start, txn.commit_time), (commit.commit_lsn, commit.commit_time));
                assert!(txn.held_at(commit.end));
                tables.values_mut().for_each(|table| table.end_transaction(txn));
            }
            Message::Relation(relation) => {
                let schema = schema_of(&relation);
                tables.entry(relation.id).or_insert_with(|| builder(&schema));
            }
            Message::Type(_) => {}
            Message::Insert(row) => {
                tables.get_mut(&row.relation).unwrap().push_insert(&row.new, ordinal, size).unwrap();
                ordinal += 1;
            }
            Message::Update(row) => {
                let table = tables.get_mut(&row.relation).unwrap();
                table.push_update(row.old.as_ref(), &row.new, ordinal, size).unwrap();
                ordinal += 1;
            }
            Message::Delete(row) => {
                tables.get_mut(&row.relation).unwrap().push_delete(&row.old, ordinal, size).unwrap();
                ordinal += 1;
            }
            Message::Truncate(truncate) => {
                for id in &truncate.relations {
                    tables.get_mut(id).unwrap().push_truncate(ordinal, size).unwrap();
                }
                ordinal += 1;
            }
            Message::Logical(logical) => {
                let scope = if logical.transactional { "transactional" } else { "free" };
                let content = String::from_utf8_lossy(logical.content);
                writeln!(outside, "message {scope} {} {content}", logical.prefix).unwrap();
            }
            other => panic!("not expected here: {other:?}"),
        }
    }
    let mut text = String::new();
    for table in tables.values_mut() {
        let batch = table.take(None).unwrap();
        write!(text, "{}\n{}", batch.schema.name, render(&batch)).unwrap();
    }
    text + &outside
}

/// The one way in which golden bytes are compared with golden words.
#[track_caller]
fn check(found: &str, expected: &str) {
    if found != expected {
        let line = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
        panic!("first line that differs (found, expected): {line:#?}\nall that was found:\n{found}");
    }
}

/// The rows that the server itself describes, as a batch of them would render.
fn expected_rows(prefix: impl Fn(usize) -> String) -> String {
    let rows = golden!("types.expected").lines().enumerate();
    rows.map(|(i, line)| format!("{} {line}\n", prefix(i))).collect()
}

#[test]
fn every_type_from_binary_values() {
    let expected = expected_rows(|ordinal| format!("c 1/{ordinal}"));
    check(&play(golden!("types.binary.hex")), &format!("public.types\n{expected}"));
}

#[test]
fn every_type_from_text_values() {
    let expected = expected_rows(|ordinal| format!("c 1/{ordinal}"));
    check(&play(golden!("types.text.hex")), &format!("public.types\n{expected}"));
}

#[test]
fn every_type_from_copy() {
    let first = golden!("types.binary.hex").lines().map(unhex).find(|bytes| bytes[0] == b'R').unwrap();
    let Message::Relation(relation) = decode(&first, false).unwrap() else { panic!("not a relation") };
    let mut builder = builder(&schema_of(&relation));
    let mut decoder = CopyDecoder::new();
    decoder.feed(&unhex(golden!("types.copy.hex")), &mut builder).unwrap();
    decoder.finish().unwrap();
    let batch = builder.take(None).unwrap();
    check(&render(&batch), &expected_rows(|_| "r -".into()));
}

#[test]
fn changes_from_binary_and_text_values() {
    check(&play(golden!("changes.binary.hex")), golden!("changes.expected"));
    check(&play(golden!("changes.text.hex")), golden!("changes.expected"));
}

/// Messages in words: transaction ids by rank, equal lines counted.
fn outline(lines: &str) -> String {
    let mut ids: Vec<u32> = Vec::new();
    let mut rank = |xid: u32| {
        let known = ids.iter().position(|&id| id == xid);
        known.unwrap_or_else(|| {
            ids.push(xid);
            ids.len() - 1
        })
    };
    let (mut in_stream, mut said) = (false, Vec::<(String, usize)>::new());
    for line in lines.lines() {
        let bytes = unhex(line);
        let words = match decode(&bytes, in_stream).expect("a message of a real server") {
            Message::Begin(m) => format!("begin x{}", rank(m.xid)),
            Message::Commit(m) => {
                assert!(m.commit_lsn < m.end.lsn());
                "commit".into()
            }
            Message::Relation(m) => format!(
                "relation {}.{} {:?} {:?} {:?}",
                m.namespace,
                m.name,
                m.identity,
                m.columns.iter().map(|c| (c.name, c.key, c.type_oid)).collect::<Vec<_>>(),
                m.xid.map(&mut rank)
            ),
            Message::Insert(m) => format!("insert {} columns {:?}", m.new.len(), m.xid.map(&mut rank)),
            Message::StreamStart(m) => {
                in_stream = true;
                format!("stream start x{} first: {}", rank(m.xid), m.first_segment)
            }
            Message::StreamStop => {
                in_stream = false;
                "stream stop".into()
            }
            Message::StreamAbort(m) => {
                format!("stream abort x{} of x{} {:?}", rank(m.subxid), rank(m.xid), m.at)
            }
            Message::StreamCommit(m) => {
                assert!(m.commit_lsn < m.end.lsn());
                format!("stream commit x{}", rank(m.xid))
            }
            Message::BeginPrepare(m) => format!("begin prepare x{} {}", rank(m.xid), m.gid),
            Message::Prepare(m) => format!("prepare x{} {}", rank(m.xid), m.gid),
            Message::StreamPrepare(m) => format!("stream prepare x{} {}", rank(m.xid), m.gid),
            Message::CommitPrepared(m) => format!("commit prepared x{} {}", rank(m.xid), m.gid),
            Message::RollbackPrepared(m) => format!("rollback prepared x{} {}", rank(m.xid), m.gid),
            other => panic!("not expected here: {other:?}"),
        };
        match said.last_mut() {
            Some((last, count)) if *last == words => *count += 1,
            _ => said.push((words, 1)),
        }
    }
    said.into_iter().map(|(words, count)| format!("{count} {words}\n")).collect()
}

#[test]
fn streamed_transactions() {
    check(&outline(golden!("streamed.hex")), golden!("streamed.expected"));
}

#[test]
fn prepared_transactions() {
    check(&outline(golden!("prepared.hex")), golden!("prepared.expected"));
}
