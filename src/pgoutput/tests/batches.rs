//! Rows into batches: transactions, old rows, unchanged values, failures.

use super::*;
use crate::event::{Before, Op};
use crate::pgoutput::{Reason, ValueError};

const KEYED: &[(&str, ColumnKind)] =
    &[("id", ColumnKind::Int4), ("note", ColumnKind::Text), ("big", ColumnKind::Text)];

fn row(values: &[&str]) -> Vec<u8> {
    let values: Vec<_> = values
        .iter()
        .map(|value| match *value {
            "null" => Value::Null,
            "same" => Value::Unchanged,
            text => Value::Text(text.as_bytes()),
        })
        .collect();
    tuple(&values)
}

fn new(bytes: &[u8]) -> TupleData<'_> {
    TupleData::parse(bytes).unwrap()
}

#[test]
fn rows_belong_to_their_transactions() {
    let mut builder = builder(&table(KEYED, &[0], false));
    let insert = row(&["1", "a", "b"]);
    builder.end_transaction(txn(1));
    builder.push_insert(&new(&insert), 0, 10).unwrap();
    builder.push_insert(&new(&insert), 4, 10).unwrap();
    builder.end_transaction(txn(2));
    builder.end_transaction(txn(3));
    builder.push_insert(&new(&insert), 1, 10).unwrap();
    builder.end_transaction(txn(4));
    let batch = builder.take(None).unwrap();
    assert_eq!(render(&batch), "c 2/0 1|\"a\"|\"b\"\nc 2/4 1|\"a\"|\"b\"\nc 4/1 1|\"a\"|\"b\"\n");
    assert_eq!((batch.last_txn(), batch.wire_bytes), (Some(txn(4)), 30));
    assert!(builder.is_empty() && builder.take(None).unwrap().is_empty());
}

#[test]
fn a_batch_ends_within_a_transaction() {
    let mut builder = builder(&table(KEYED, &[0], false));
    let insert = row(&["1", "a", "b"]);
    builder.push_insert(&new(&insert), 0, 0).unwrap();
    builder.end_transaction(txn(1));
    builder.push_insert(&new(&insert), 0, 0).unwrap();
    assert_eq!(builder.take(None).unwrap_err(), ValueError { column: None, reason: Reason::Misuse });
    let first = builder.take(Some(txn(2))).unwrap();
    assert_eq!((first.txn_of(0), first.txn_of(1)), (Some(txn(1)), Some(txn(2))));
    builder.push_insert(&new(&insert), 1, 0).unwrap();
    builder.end_transaction(txn(2));
    let second = builder.take(None).unwrap();
    assert_eq!((second.txn_of(0), second.ordinals), (Some(txn(2)), vec![1]));
}

#[test]
fn a_streamed_transaction_is_stamped_when_it_commits() {
    let mut builder = builder(&table(KEYED, &[0], false));
    builder.push_insert(&new(&row(&["1", "a", "b"])), 7, 0).unwrap();
    let mut batch = builder.take(None).unwrap();
    assert!(!batch.is_stamped() && batch.txn_of(0).is_none());
    batch.stamp(txn(9), CommitLsn::ZERO);
    assert!(batch.is_stamped());
    batch.stamp(txn(10), CommitLsn::ZERO);
    assert_eq!(batch.txn_of(0), Some(txn(9)));
}

#[test]
fn an_aborted_subtransaction_leaves_nothing() {
    let mut builder = builder(&table(KEYED, &[0], false));
    let (key, text) = (row(&["1", "null", "null"]), row(&["2", "a", "same"]));
    builder.push_update(Some(&key_only(&key)), &new(&text), 0, 5).unwrap();
    let mark = builder.mark();
    builder.push_insert(&new(&row(&["3", "x", "y"])), 1, 5).unwrap();
    builder.push_delete(&key_only(&key), 2, 5).unwrap();
    builder.push_update(None, &new(&text), 3, 5).unwrap();
    builder.push_truncate(4, 5).unwrap();
    builder.rollback_to(mark);
    builder.push_insert(&new(&row(&["4", "null", "z"])), 5, 5).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(render(&batch), "u 1/0 [1|(null)|(null)] 2|\"a\"|(unchanged)\nc 1/5 4|(null)|\"z\"\n");
    assert_eq!(batch.wire_bytes, 10);
}

#[test]
fn unchanged_values_are_neither_null_nor_value() {
    let mut builder = builder(&table(KEYED, &[0], false));
    builder.push_update(None, &new(&row(&["1", "null", "same"])), 0, 0).unwrap();
    builder.push_update(None, &new(&row(&["2", "same", "x"])), 1, 0).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(render(&batch), "u 1/0 1|(null)|(unchanged)\nu 1/1 2|(unchanged)|\"x\"\n");
    assert!(batch.unchanged[0].is_none() && batch.before.is_none());
    assert!(batch.after.column(2).is_null(0));
    builder.push_update(None, &new(&row(&["1", "a", "b"])), 0, 0).unwrap();
    let batch = builder.take(Some(txn(2))).unwrap();
    assert!(batch.unchanged.iter().all(Option::is_none), "masks stay behind in the batch before");
}

#[test]
fn a_whole_old_row_fills_what_the_new_one_does_not_repeat() {
    let mut builder = builder(&table(KEYED, &[0], true));
    let (old, update) = (row(&["1", "null", "big"]), row(&["1", "same", "same"]));
    builder.push_update(Some(&whole(&old)), &new(&update), 0, 0).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(render(&batch), "u 1/0 [1|(null)|\"big\"] 1|(null)|\"big\"\n");
    assert!(batch.unchanged.iter().all(Option::is_none));
}

#[test]
fn an_old_key_fills_the_key_and_nothing_else() {
    let columns = &[("id", ColumnKind::Text), ("part", ColumnKind::Int4), ("note", ColumnKind::Text)];
    let mut builder = builder(&table(columns, &[1, 0], false));
    let (old, update) = (row(&["long key", "1", "null"]), row(&["same", "2", "same"]));
    builder.push_update(Some(&key_only(&old)), &new(&update), 0, 0).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(render(&batch), "u 1/0 [\"long key\"|1|(null)] \"long key\"|2|(unchanged)\n");
    let error = builder.push_update(None, &new(&update), 0, 0).unwrap_err();
    assert_eq!(error, ValueError { column: Some(0), reason: Reason::UnchangedKey });
}

#[test]
fn deletes_and_truncates() {
    let mut builder = builder(&table(KEYED, &[0], false));
    builder.push_truncate(0, 0).unwrap();
    builder.push_delete(&key_only(&row(&["1", "null", "null"])), 1, 0).unwrap();
    builder.push_insert(&new(&row(&["1", "a", "b"])), 2, 0).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    let expected =
        "t 1/0 (null)|(null)|(null)\nd 1/1 [1|(null)|(null)] (null)|(null)|(null)\nc 1/2 1|\"a\"|\"b\"\n";
    assert_eq!(render(&batch), expected);
    assert_eq!(batch.ops, [Op::Truncate, Op::Delete, Op::Create]);
    assert_eq!(batch.before.unwrap().index, [Before::NONE, 0, Before::NONE]);
}

#[test]
fn failed_rows_leave_nothing() {
    let schema = table(KEYED, &[0], false);
    let (mut bad, mut good) = (builder(&schema), builder(&schema));
    let old = row(&["1", "null", "null"]);
    for (n, text) in [(0, "a"), (1, "b"), (2, "c")] {
        let update = row(&["1", text, "same"]);
        for builder in [&mut bad, &mut good] {
            builder.push_update(Some(&key_only(&old)), &new(&update), n, 3).unwrap();
        }
        let fails: [(ValueError, Result<(), ValueError>); 8] = [
            (value(0, Reason::Malformed), bad.push_insert(&new(&row(&["x", "a", "b"])), 9, 3)),
            (
                value(2, Reason::UnexpectedUnchanged),
                bad.push_insert(&new(&row(&["1", "long text", "same"])), 9, 3),
            ),
            (count(2), bad.push_insert(&new(&row(&["1", "a"])), 9, 3)),
            (count(4), bad.push_update(None, &new(&row(&["1", "a", "b", "c"])), 9, 3)),
            (value(0, Reason::NoKey), bad.push_delete(&key_only(&row(&["null", "null", "null"])), 9, 3)),
            (
                value(0, Reason::UnexpectedUnchanged),
                bad.push_delete(&key_only(&row(&["same", "null", "null"])), 9, 3),
            ),
            (
                value(0, Reason::NoKey),
                bad.push_update(
                    Some(&whole(&row(&["null", "a", "b"]))),
                    &new(&row(&["1", "same", "same"])),
                    9,
                    3,
                ),
            ),
            (count(1), bad.push_update(Some(&key_only(&row(&["1"]))), &new(&row(&["1", "a", "b"])), 9, 3)),
        ];
        for (expected, found) in fails {
            assert_eq!(found, Err(expected));
        }
    }
    assert_eq!((bad.rows(), bad.bytes()), (good.rows(), good.bytes()));
    assert_same(&bad.take(Some(txn(1))).unwrap(), &good.take(Some(txn(1))).unwrap());
}

fn value(column: usize, reason: Reason) -> ValueError {
    ValueError { column: Some(column), reason }
}

fn count(found: u16) -> ValueError {
    ValueError { column: None, reason: Reason::ColumnCount { found, expected: 3 } }
}

#[test]
fn a_key_alone_is_refused_where_there_is_none() {
    let key_row = || row(&["1", "null", "null"]);
    let mut keyed = builder(&table(KEYED, &[0], true));
    keyed.push_delete(&key_only(&key_row()), 0, 0).unwrap();
    let mut builder = builder(&table(KEYED, &[], true));
    let error = builder.push_delete(&key_only(&row(&["1", "null", "null"])), 0, 0).unwrap_err();
    assert_eq!(error.reason, Reason::OldRowNotWhole);
    assert!(builder.is_empty());
}

#[test]
fn text_that_is_not_utf8_names_its_column() {
    let schema = table(KEYED, &[0], false);
    let mut builder = builder(&schema);
    // Two halves of one character in two rows: the column's bytes are UTF-8, its values are not.
    for half in [&b"\xC3"[..], b"\xBC"] {
        insert(&mut builder, &[Value::Text(b"1"), Value::Null, Value::Text(half)]).unwrap();
    }
    let error = builder.take(Some(txn(1))).unwrap_err();
    assert_eq!(error, value(2, Reason::NotUtf8));
    let report = error.into_error(&schema).report();
    assert!(
        report.starts_with("error PG021: table \"public.t\", column \"big\" (string): a value is not UTF-8"),
        "{report}"
    );
    insert(&mut builder, &[Value::Text(b"1"), Value::Null, Value::Text(b"ok")]).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(render(&batch), "c 1/0 1|(null)|\"ok\"\n", "the builder is empty after a failed take");
}

#[test]
fn snapshot_and_stream_do_not_mix() {
    let schema = table(KEYED, &[0], false);
    let mut builder = builder(&schema);
    builder.push_read(3, [Value::Text(b"1"), Value::Null, Value::Null].into_iter(), 1).unwrap();
    let error = insert(&mut builder, &[Value::Null, Value::Null, Value::Null]).unwrap_err();
    assert_eq!(error.reason, Reason::Misuse);
    let batch = builder.take(None).unwrap();
    assert!(batch.is_stamped() && batch.ordinals.is_empty());
    assert_eq!(render(&batch), "r - 1|(null)|(null)\n");
    insert(&mut builder, &[Value::Null, Value::Null, Value::Null]).unwrap();
    let error = builder.push_read(3, [Value::Null; 3].into_iter(), 1).unwrap_err();
    assert_eq!(error.reason, Reason::Misuse);
}

#[test]
fn a_table_without_columns_has_rows() {
    let mut builder = builder(&table(&[], &[], false));
    insert(&mut builder, &[]).unwrap();
    insert(&mut builder, &[]).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!((batch.len(), batch.after.num_rows(), batch.after.num_columns()), (2, 2, 0));
}

#[test]
fn sixteen_hundred_columns() {
    let columns: Vec<_> = (0..1600).map(|_| ("c", ColumnKind::Int4)).collect();
    let mut builder = builder(&table(&columns, &[], false));
    let values = vec![Value::Binary(&[0, 0, 0, 7]); 1600];
    insert(&mut builder, &values).unwrap();
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(batch.after.num_columns(), 1600);
    assert_eq!(cell(&ColumnKind::Int4, batch.after.column(1599), 0), "7");
}

#[test]
fn bytes_follow_the_content() {
    let mut builder = builder(&table(KEYED, &[0], false));
    let empty = builder.bytes();
    let text = "x".repeat(1000);
    insert(&mut builder, &[Value::Text(b"1"), Value::Text(text.as_bytes()), Value::Null]).unwrap();
    let grown = builder.bytes() - empty;
    assert!((1000..1100).contains(&grown), "{grown}");
    builder.take(Some(txn(1))).unwrap();
    assert_eq!(builder.bytes(), empty);
}

#[test]
fn every_kind_takes_null_and_comes_out_in_its_arrow_type() {
    let schema = table(EVERY_KIND, &[], false);
    let mut builder = builder(&schema);
    for _ in 0..9 {
        insert(&mut builder, &vec![Value::Null; EVERY_KIND.len()]).unwrap();
    }
    let batch = builder.take(Some(txn(1))).unwrap();
    assert_eq!(batch.after.schema(), schema.arrow);
    assert!(batch.after.columns().iter().all(|column| column.null_count() == 9));
}
