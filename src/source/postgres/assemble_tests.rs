use super::*;
use crate::event::Op;
use crate::schema::{Column, ColumnKind, Past, TableName};
use arrow::array::AsArray;
use arrow::datatypes::Int32Type;

fn frame(message: &[u8]) -> Vec<u8> {
    let mut out = vec![b'w'];
    out.extend([0; 8]);
    out.extend(1000u64.to_be_bytes());
    out.extend(7i64.to_be_bytes());
    out.extend(message);
    out
}

fn begin(final_lsn: u64, xid: u32) -> Vec<u8> {
    let mut m = vec![b'B'];
    m.extend(final_lsn.to_be_bytes());
    m.extend(5i64.to_be_bytes());
    m.extend(xid.to_be_bytes());
    frame(&m)
}

fn commit(start: u64, end: u64) -> Vec<u8> {
    let mut m = vec![b'C', 0];
    m.extend(start.to_be_bytes());
    m.extend(end.to_be_bytes());
    m.extend(5i64.to_be_bytes());
    frame(&m)
}

fn relation(id: u32, name: &str, columns: &[(&str, u32, bool)]) -> Vec<u8> {
    let mut m = vec![b'R'];
    m.extend(id.to_be_bytes());
    m.extend(b"public\0");
    m.extend(name.as_bytes());
    m.extend([0, b'd']);
    m.extend((columns.len() as u16).to_be_bytes());
    for (name, oid, key) in columns {
        m.push(u8::from(*key));
        m.extend(name.as_bytes());
        m.push(0);
        m.extend(oid.to_be_bytes());
        m.extend((-1i32).to_be_bytes());
    }
    frame(&m)
}

fn insert(id: u32, value: i32) -> Vec<u8> {
    let mut m = vec![b'I'];
    m.extend(id.to_be_bytes());
    m.extend([b'N', 0, 1, b'b', 0, 0, 0, 4]);
    m.extend(value.to_be_bytes());
    frame(&m)
}

fn keepalive(end: u64, reply: bool) -> Vec<u8> {
    let mut m = vec![b'k'];
    m.extend(end.to_be_bytes());
    m.extend(9i64.to_be_bytes());
    m.push(u8::from(reply));
    m
}

fn schema(id: u32, name: &str) -> Arc<TableSchema> {
    let column = Column {
        name: "id".into(),
        attnum: 1,
        type_oid: 23,
        type_modifier: -1,
        type_name: "int4".into(),
        kind: ColumnKind::Int4,
    };
    Arc::new(TableSchema::new(TableId(id), TableName::new("public", name), vec![column], vec![0], false))
}

fn position(raw: u64) -> CommitLsn {
    CommitLsn::end_of_commit(Lsn::new(raw))
}

fn assembler() -> Assembler {
    let mut a = Assembler::new(Policies::default(), None, None);
    a.add(schema(1, "t"), CommitLsn::ZERO).unwrap();
    a
}

fn feed(a: &mut Assembler, frames: &[Vec<u8>]) -> Result<Progress> {
    let mut last = Progress::Within;
    for frame in frames {
        last = a.on_frame(frame)?;
    }
    Ok(last)
}

const ID: (&str, u32, bool) = ("id", 23, true);

#[test]
fn a_burst_says_how_far_it_went() {
    let mut a = assembler();
    let last = feed(
        &mut a,
        &[
            begin(10, 1),
            relation(1, "t", &[ID]),
            insert(1, 5),
            commit(10, 20),
            begin(30, 2),
            commit(30, 40),
            begin(50, 3),
            insert(1, 6),
        ],
    );
    assert_eq!(last.unwrap(), Progress::Within);
    let burst = a.take_burst();
    assert_eq!(burst.through, Some(position(40)), "an empty transaction moves it too");
    let witness = Witness { end: position(20), xid: 1, commit_time: 5 };
    assert_eq!(burst.last_nonempty, Some(witness), "but is no witness");
    assert_eq!((burst.transactions, burst.rows, burst.open_rows), (2, 1, 1), "rows of whole transactions");
    assert_eq!((burst.touched, burst.keepalive), (vec![TableId(1)], None));
    // Taken within the third transaction: its row is there, and says whose it is.
    let batch = a.take(TableId(1)).unwrap().unwrap();
    assert_eq!(batch.len(), 2);
    assert_eq!(batch.last_txn().map(|t| t.commit_start), Some(Lsn::new(50)));
    feed(&mut a, &[insert(1, 7), commit(50, 60)]).unwrap();
    let batch = a.take(TableId(1)).unwrap().unwrap();
    assert_eq!((batch.ordinals, batch.runs.len()), (vec![1], 1), "the ordinal goes on");
}

#[test]
fn a_keepalive_counts_only_when_nothing_is_open_or_after_it() {
    let mut a = assembler();
    feed(&mut a, &[begin(10, 1), keepalive(100, false)]).unwrap();
    assert_eq!(a.take_burst().keepalive, None);
    let progress = feed(&mut a, &[commit(10, 20), keepalive(120, true)]).unwrap();
    assert_eq!(progress, Progress::Keepalive { reply: true });
    assert_eq!(a.take_burst().keepalive, Some(Lsn::new(120)));
    feed(&mut a, &[keepalive(130, false), begin(140, 2), commit(140, 150)]).unwrap();
    let burst = a.take_burst();
    assert_eq!((burst.keepalive, burst.through), (None, Some(position(150))));
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let cases: [(&str, Vec<Vec<u8>>); 8] = [
        ("begins within", vec![begin(10, 1), begin(20, 2)]),
        ("without a beginning", vec![commit(10, 20)]),
        ("does not belong", vec![begin(10, 1), commit(11, 20)]),
        ("does not belong", vec![begin(10, 1), commit(10, 10)]),
        ("outside of a transaction", vec![insert(1, 1)]),
        ("not announced", vec![begin(10, 1), insert(1, 1)]),
        ("order of their commits", vec![begin(10, 1), commit(10, 20), begin(15, 2)]),
        ("has not begun", vec![frame(b"E")]),
    ];
    for (word, frames) in cases {
        let error = feed(&mut assembler(), &frames).unwrap_err();
        assert_eq!(error.code(), codes::PG024, "{word}");
        assert!(error.message().contains(word), "{word}: {error}");
    }
    assert_eq!(assembler().on_frame(b"x").unwrap_err().code(), codes::PG024);
    assert_eq!(assembler().on_frame(&frame(b"?")).unwrap_err().code(), codes::PG024);
}

#[test]
fn tables_that_are_not_ours_count_for_ordinals_only() {
    let mut a = assembler();
    let frames =
        [begin(10, 1), relation(1, "t", &[ID]), insert(9, 1), insert(1, 1), insert(9, 2), insert(1, 2)];
    feed(&mut a, &frames).unwrap();
    feed(&mut a, &[commit(10, 20)]).unwrap();
    let batch = a.take(TableId(1)).unwrap().unwrap();
    assert_eq!(batch.ordinals, [1, 3]);
    assert_eq!(a.take_burst().rows, 2);
    // A transaction of foreign changes only is still a witness: it will be met again.
    feed(&mut a, &[begin(30, 2), insert(9, 3), commit(30, 40)]).unwrap();
    assert_eq!(a.take_burst().last_nonempty.map(|w| w.xid), Some(2));
}

#[test]
fn a_table_skips_what_it_holds_even_in_an_older_form() {
    let mut a = Assembler::new(Policies::default(), None, Some(position(20)));
    a.add(schema(1, "t"), position(20)).unwrap();
    let old_form = relation(1, "t", &[ID, ("gone", 25, false)]);
    feed(&mut a, &[begin(10, 1), old_form.clone(), insert(1, 1), commit(10, 20)]).unwrap();
    let burst = a.take_burst();
    assert!(burst.table_errors.is_empty() && burst.rows == 0);
    assert_eq!(burst.replayed.len(), 1);
    feed(&mut a, &[begin(20, 2), relation(1, "t", &[ID]), insert(1, 2), commit(20, 30)]).unwrap();
    let batch = a.take(TableId(1)).unwrap().unwrap();
    assert_eq!(batch.ops, [Op::Create], "a commit record that starts at the position is not held");
    assert!(a.take_burst().replayed.is_empty());
    // The older form is an error when a row of it is to be taken.
    feed(&mut a, &[begin(40, 3), old_form, insert(1, 3), insert(1, 4), commit(40, 50)]).unwrap();
    let burst = a.take_burst();
    assert_eq!(burst.table_errors.len(), 1, "once");
    assert!(burst.table_errors[0].1.message().contains("\"gone\" is not known"));
    assert_eq!(burst.through, Some(position(50)), "the stream goes on");
}

#[test]
fn each_difference_is_named() {
    let schema = schema(1, "t");
    for (columns, name, word) in [
        (vec![("id", 23, true), ("x", 23, false)], "t", "\"x\" is not known"),
        (vec![], "t", "\"id\" is not there"),
        (vec![("id2", 23, true)], "t", "\"id2\" is not known"),
        (vec![("id", 20, true)], "t", "another type than int4"),
        (vec![("id", 23, false)], "t", "joined or left the key"),
        (vec![("id", 23, true)], "t2", "renamed to \"public.t2\""),
    ] {
        let bytes = relation(1, name, &columns);
        let Ok(Message::Relation(relation)) = decode(&bytes[25..], false) else { panic!("{word}") };
        let Announced::Differs(found) = Announced::of(&schema, &relation) else { panic!("{word}") };
        assert!(found.contains(word), "{word}: {found}");
    }
    let bytes = relation(1, "t", &[ID]);
    let Ok(Message::Relation(same)) = decode(&bytes[25..], false) else { panic!() };
    assert!(matches!(Announced::of(&schema, &same), Announced::Agrees));
}

/// Rows that were announced before a column was added, or before one was dropped, are of the followed table.
#[test]
fn rows_of_an_older_form_are_arranged() {
    let renamed = vec![("number".into(), "id".into())];
    let past = Past { added: vec!["b".into()], dropped: vec!["gone".into()], renamed };
    let column =
        |name: &str, attnum| Column { name: name.into(), attnum, ..schema(1, "t").columns[0].clone() };
    let columns = vec![column("id", 1), column("b", 3)];
    let now =
        TableSchema::new(TableId(1), TableName::new("public", "t"), columns, vec![0], false).with_past(past);
    let mut a = Assembler::new(Policies::default(), None, None);
    a.add(Arc::new(now), CommitLsn::ZERO).unwrap();
    let value = |v: i32| [&[b'b', 0, 0, 0, 4][..], &v.to_be_bytes()].concat();
    let row = |values: &[i32]| {
        let mut m = vec![b'I', 0, 0, 0, 1, b'N', 0, u8::try_from(values.len()).unwrap()];
        m.extend(values.iter().flat_map(|v| value(*v)));
        frame(&m)
    };
    let old = relation(1, "t", &[("gone", 23, false), ("number", 23, true)]);
    let new = relation(1, "t", &[("id", 23, true), ("b", 23, false)]);
    let other = relation(1, "t", &[("id", 23, true), ("c", 23, false)]);
    assert_eq!(feed(&mut a, &[begin(10, 1), old]).unwrap(), Progress::Announced);
    assert_eq!(feed(&mut a, &[row(&[7, 1]), new]).unwrap(), Progress::Within);
    feed(&mut a, &[row(&[2, 8]), commit(10, 20)]).unwrap();
    let batch = a.take(TableId(1)).unwrap().unwrap();
    let ints = |i: usize| batch.after.column(i).as_primitive::<Int32Type>().iter().collect::<Vec<_>>();
    assert_eq!((ints(0), ints(1)), (vec![Some(1), Some(2)], vec![None, Some(8)]));
    assert_eq!(a.take_burst().announced, [TableId(1), TableId(1)]);
    assert_eq!(feed(&mut a, &[begin(30, 2), other]).unwrap(), Progress::Announced);
    feed(&mut a, &[row(&[3, 4]), commit(30, 40)]).unwrap();
    assert_eq!(a.take_burst().table_errors.len(), 1, "what nobody explained stops the table");
}

#[test]
fn a_bound_ends_the_stream_by_transaction_or_by_keepalive() {
    let mut a = Assembler::new(Policies::default(), Some(Lsn::new(30)), None);
    assert_eq!(feed(&mut a, &[begin(10, 1), commit(10, 30)]).unwrap(), Progress::Boundary);
    assert_eq!(feed(&mut a, &[begin(30, 2)]).unwrap(), Progress::Stopped);
    let burst = a.take_burst();
    assert!(burst.stopped && burst.through == Some(position(30)));
    let mut a = Assembler::new(Policies::default(), Some(Lsn::new(30)), None);
    assert!(matches!(feed(&mut a, &[keepalive(29, false)]).unwrap(), Progress::Keepalive { .. }));
    assert_eq!(feed(&mut a, &[keepalive(30, false)]).unwrap(), Progress::Stopped);
}

#[test]
fn a_table_added_after_its_announcement_is_known() {
    let mut a = assembler();
    feed(&mut a, &[begin(10, 1), relation(2, "u", &[ID]), insert(2, 1), commit(10, 20)]).unwrap();
    a.add(schema(2, "u"), position(20)).unwrap();
    feed(&mut a, &[begin(30, 2), insert(2, 2), commit(30, 40)]).unwrap();
    assert_eq!(a.take(TableId(2)).unwrap().unwrap().len(), 1);
    a.remove(TableId(2));
    feed(&mut a, &[begin(50, 3), insert(2, 3), commit(50, 60)]).unwrap();
    assert!(a.take(TableId(2)).unwrap().is_none());
    // Registered anew within a transaction.
    feed(&mut a, &[begin(70, 4), insert(2, 4)]).unwrap();
    a.add(schema(2, "u"), position(60)).unwrap();
    feed(&mut a, &[insert(2, 5), commit(70, 80)]).unwrap();
    assert_eq!(a.take(TableId(2)).unwrap().unwrap().ordinals, [1]);
}

mod random {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, no panic, and through never goes back.
        #[test]
        fn any_sequence_is_survived(steps in prop::collection::vec((0u8..7, 0u64..40), 0..60)) {
            let mut a = Assembler::new(Policies::default(), None, Some(position(15)));
            a.add(schema(1, "t"), position(9)).unwrap();
            let mut through = CommitLsn::ZERO;
            for (kind, n) in steps {
                let bytes = match kind {
                    0 => begin(n, 1),
                    1 => commit(n, n + 1),
                    2 => insert(1 + (n % 2) as u32, 7),
                    3 => relation(1, "t", &[ID]),
                    4 => keepalive(n, n % 2 == 0),
                    5 => relation(1, "t", &[ID, ("x", 25, false)]),
                    _ => { a.take(TableId(1)).ok(); continue; }
                };
                if a.on_frame(&bytes).is_err() { break; }
                let burst = a.take_burst();
                if let Some(end) = burst.through {
                    prop_assert!(end > through);
                    through = end;
                }
                prop_assert!(burst.keepalive.is_none() || burst.open.is_none());
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut a = assembler();
            a.on_frame(&bytes).ok();
            a.on_frame(&frame(&bytes)).ok();
        }
    }
}
