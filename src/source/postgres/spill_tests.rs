use super::*;
use crate::event::Before;
use crate::pgoutput::{BatchBuilder, OldRow, Policies, TupleData};
use crate::schema::{Column, ColumnKind, TableId, TableName};
use std::os::unix::fs::PermissionsExt;

fn schema() -> Arc<TableSchema> {
    let column = |name: &str, kind| Column {
        name: name.into(),
        attnum: 1,
        type_oid: 0,
        type_modifier: -1,
        type_name: String::new(),
        kind,
    };
    let columns = vec![
        column("id", ColumnKind::Int4),
        // Names do not matter: ours stand beside them.
        column("op", ColumnKind::Text),
        column("raw", ColumnKind::Bytea),
    ];
    Arc::new(TableSchema::new(TableId(1), TableName::new("s", "t"), columns, vec![0], false))
}

/// A tuple's bytes: `~` is unchanged, `-` is null.
fn tuple(id: i32, texts: [&str; 2]) -> Vec<u8> {
    let mut out = 3u16.to_be_bytes().to_vec();
    out.push(b'b');
    out.extend(4u32.to_be_bytes());
    out.extend(id.to_be_bytes());
    for text in texts {
        match text {
            "~" => out.push(b'u'),
            "-" => out.push(b'n'),
            text => {
                out.push(b'b');
                out.extend((text.len() as u32).to_be_bytes());
                out.extend(text.as_bytes());
            }
        }
    }
    out
}

fn read(bytes: &[u8]) -> TupleData<'_> {
    TupleData::parse(bytes).unwrap()
}

fn batch(from: u64) -> ChangeBatch {
    let mut builder = BatchBuilder::new(schema(), Policies::default());
    let (a, b, c) = (tuple(1, ["one", "-"]), tuple(2, ["~", "raw"]), tuple(3, ["-", "-"]));
    builder.push_insert(&read(&a), from, 10).unwrap();
    builder.push_update(None, &read(&b), from + 2, 10).unwrap();
    builder.push_update(Some(&OldRow::Key(read(&c))), &read(&b), from + 3, 10).unwrap();
    builder.push_delete(&OldRow::Key(read(&c)), from + 7, 10).unwrap();
    builder.push_truncate(from + 8, 10).unwrap();
    builder.take(None).unwrap()
}

#[track_caller]
fn assert_same(found: &ChangeBatch, expected: &ChangeBatch) {
    assert_eq!((&found.ops, &found.ordinals), (&expected.ops, &expected.ordinals));
    assert_eq!((&found.after, &found.unchanged), (&expected.after, &expected.unchanged));
    assert_eq!(found.wire_bytes, expected.wire_bytes);
    let images = |batch: &ChangeBatch| batch.before.as_ref().map(|b| (b.rows.clone(), b.index.clone()));
    assert_eq!(images(found), images(expected));
    assert!(found.runs.is_empty() && !found.is_stamped());
}

#[test]
fn what_is_written_is_read_back_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = SpillDir::new(dir.path().join("a/b")).file().unwrap();
    let mut written: Vec<ChangeBatch> = [0, 100, 1000].map(batch).into();
    let mut plain = BatchBuilder::new(schema(), Policies::default());
    plain.push_insert(&read(&tuple(9, ["", "x"])), 5, 1).unwrap();
    written.push(plain.take(None).unwrap());
    let slices: Vec<Slice> = written.iter().map(|b| file.append(b).unwrap()).collect();
    assert_eq!(slices[1].ordinals, (100, 108));
    for (slice, expected) in slices.iter().zip(&written).rev() {
        assert_same(&file.read(slice, &expected.schema).unwrap(), expected);
    }
    assert_eq!(file.bytes(), slices.iter().map(|s| s.bytes() as u64).sum::<u64>());
}

#[test]
fn nobody_finds_a_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("spill");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("strandline-dead.arrow"), "left by a process that died").unwrap();
    std::fs::write(path.join("other"), "not ours").unwrap();
    let mut dir = SpillDir::new(path.clone());
    let mut file = dir.file().unwrap();
    file.append(&batch(0)).unwrap();
    let names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["other"]);
    // Deleting the directory loses nothing that is in use.
    let slice = file.append(&batch(50)).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    assert_same(&file.read(&slice, &schema()).unwrap(), &batch(50));
    let made = SpillDir::new(root.path().join("made")).file().map(drop);
    let mode = std::fs::metadata(root.path().join("made")).unwrap().permissions().mode();
    assert_eq!((made.is_ok(), mode & 0o777), (true, 0o700));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let root = tempfile::NamedTempFile::new().unwrap();
    let error = SpillDir::new(root.path().join("below")).file().unwrap_err();
    assert_eq!(error.code(), codes::RT003);
    assert!(error.message().contains(&format!("\"{}/below\"", root.path().display())), "{error}");
    assert!(error.advice().unwrap().contains("limits.spill_dir"));
}

#[test]
fn a_slice_that_changed_on_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = SpillDir::new(dir.path().into()).file().unwrap();
    let slice = file.append(&batch(0)).unwrap();
    file.file.write_all_at(&[0xff], slice.bytes() as u64 / 2).unwrap();
    assert_eq!(file.read(&slice, &schema()).unwrap_err().code(), codes::RT003);
    file.file.set_len(10).unwrap();
    assert_eq!(file.read(&slice, &schema()).unwrap_err().code(), codes::RT003);
}

#[test]
fn a_full_disk_is_an_error_and_the_file_is_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = SpillDir::new(dir.path().into()).file().unwrap();
    let slice = file.append(&batch(0)).unwrap();
    let end = file.end;
    let good = std::mem::replace(&mut file.file, File::options().write(true).open("/dev/full").unwrap());
    let error = file.append(&batch(50)).unwrap_err();
    assert_eq!((error.code(), file.end), (codes::RT003, end));
    assert!(error.cause_line().contains("No space left"), "{error:?}");
    file.file = good;
    assert_same(&file.read(&slice, &schema()).unwrap(), &batch(0));
}

#[test]
fn rows_are_taken_out() {
    let keep = |flags: [bool; 5]| BooleanArray::from(flags.to_vec());
    let some = filtered(batch(0), &keep([false, true, false, true, false])).unwrap();
    assert_eq!((some.ops, some.ordinals), (vec![Op::Update, Op::Delete], vec![2, 7]));
    assert_eq!(some.after.num_rows(), 2);
    assert!(some.unchanged[1].as_ref().unwrap().value(0) && some.unchanged[2].is_none());
    assert_eq!(some.before.unwrap().index, [Before::NONE, 1]);
    assert_eq!(some.wire_bytes, 20);
    let none = filtered(batch(0), &keep([true, false, false, false, false])).unwrap();
    assert!(none.unchanged.iter().all(Option::is_none), "no unchanged value is left");
}
