//! A reader of change data feeds, strict: what is removed must be there as it is told, what is brought must not.

use super::super::cdc::PROPERTY;
use super::super::log::{Add, Cdc, Remove};
use super::super::table::{DataFile, Stored, data_name, rows_of};
use super::process::{Called, read_named};
use super::*;
use crate::sink::write::WriteOptions;

async fn told(files: &TableFiles, cdc: Cdc, called: &Called) -> Vec<(String, i64, Row)> {
    let stored = Stored { name: data_name(&cdc.path), values: Arc::new(cdc.partition_values) };
    assert!(stored.name.starts_with("_change_data/") && !cdc.data_change);
    let columns = ["id", "name", "big", "_change_type"];
    let mut found = Vec::new();
    for batch in read_named(files, &stored, &columns, called).await {
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        for row in 0..batch.num_rows() {
            let id = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().value(row);
            found.push((text("_change_type", row).unwrap(), id, (text("name", row), text("big", row))));
        }
    }
    found
}

async fn plain(files: &TableFiles, add: Add, kind: &str, called: &Called) -> Vec<(String, i64, Row)> {
    let rows = rows_of(files, &data_name(&add.path)).await.unwrap();
    let deleted = add.deletion_vector.is_none().then(roaring::RoaringBitmap::new);
    let rows = marked_rows(files, vec![DataFile { add, rows, deleted }], None, called).await.0;
    rows.into_iter().map(|(id, row)| (kind.to_owned(), id, row)).collect()
}

/// What a version changes.
async fn changes(files: &TableFiles, version: i64, called: &Called) -> Vec<(String, i64, Row)> {
    let bytes = files.get(&log::commit_name(version)).await.unwrap().unwrap();
    let (mut explicit, mut adds, mut removes) = (Vec::new(), Vec::new(), Vec::new());
    for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let mut action: serde_json::Value = serde_json::from_slice(line).unwrap();
        if let Some(cdc) = action.get_mut("cdc") {
            explicit.push(serde_json::from_value::<Cdc>(cdc.take()).unwrap());
        } else if let Some(add) = action.get_mut("add").filter(|a| a["dataChange"] == true) {
            adds.push(serde_json::from_value::<Add>(add.take()).unwrap());
        } else if let Some(remove) = action.get_mut("remove").filter(|a| a["dataChange"] == true) {
            removes.push(serde_json::from_value::<Remove>(remove.take()).unwrap());
        }
    }
    let mut found = Vec::new();
    if !explicit.is_empty() {
        for cdc in explicit {
            found.extend(told(files, cdc, called).await);
        }
        return found;
    }
    for remove in removes {
        assert!(remove.deletion_vector.is_none(), "version {version}: not every reader sees what was left");
        let as_added = serde_json::json!({"path": remove.path, "partitionValues": remove.partition_values,
            "size": 1, "modificationTime": 1, "dataChange": true});
        found.extend(plain(files, serde_json::from_value(as_added).unwrap(), "delete", called).await);
    }
    for add in adds {
        assert!(add.deletion_vector.is_none(), "version {version}: not every reader sees what was left");
        found.extend(plain(files, add, "insert", called).await);
    }
    found
}

/// Applies the versions after `from` up to `to`.
pub(super) async fn follow(
    files: &TableFiles,
    (from, to): (i64, i64),
    called: &Called,
    feed: &mut BTreeMap<i64, Row>,
) {
    for version in from + 1..=to {
        let changes = changes(files, version, called).await;
        for (kind, id, row) in &changes {
            if ["delete", "update_preimage"].contains(&kind.as_str()) {
                assert_eq!(feed.remove(id).as_ref(), Some(row), "version {version}: {kind} of {id}");
            }
        }
        let mut pairs = BTreeMap::<i64, i32>::new();
        for (kind, id, row) in changes {
            match kind.as_str() {
                "update_preimage" => *pairs.entry(id).or_default() += 1,
                "update_postimage" => *pairs.entry(id).or_default() -= 1,
                _ => {}
            }
            if ["insert", "update_postimage"].contains(&kind.as_str()) {
                assert_eq!(feed.insert(id, row), None, "version {version}: {kind} of {id}");
            }
        }
        assert!(pairs.values().all(|n| *n == 0), "version {version}: {pairs:?}");
    }
}

/// With a feed.
pub(super) fn fed(mut options: WriteOptions) -> WriteOptions {
    options.properties.insert(PROPERTY.to_owned(), "true".to_owned());
    options
}

/// A feed that somebody asks for later begins with the next commit; a new copy tells every row.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_begins_when_it_is_asked_for() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let row = |text: &str| (Some(text.to_owned()), None);
    let changes: Vec<Change> = (0..20).map(|id| Change::Insert(id, row("a"))).collect();
    table.stage(batch(&schema, &changes)).await.unwrap();
    table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    table.stage(batch(&schema, &[Change::Delete(3)])).await.unwrap();
    table.commit(Interval { from: at(20), to: at(30) }).await.unwrap();
    let loaded = load(&lake.files, &lake.ids).await.unwrap();
    let mut metadata = loaded.metadata;
    metadata.configuration.insert(PROPERTY.into(), "true".into());
    let mut protocol = loaded.protocol;
    protocol.writer_features.push("changeDataFeed".into());
    let line = log::encode(&[log::Action::Protocol(protocol), log::Action::MetaData(metadata)]).unwrap();
    foreign(&lake, loaded.version + 1, std::str::from_utf8(&line).unwrap()).await;
    let mut feed = content(&lake.files, &lake.ids).await;
    let before = loaded.version + 1;
    table
        .stage(batch(&schema, &[Change::Update(4, 4, Some("b".into()), None), Change::Delete(5)]))
        .await
        .unwrap();
    table.commit(Interval { from: at(30), to: at(40) }).await.unwrap();
    follow(&lake.files, (before, before + 1), &[], &mut feed).await;
    assert_eq!(feed, content(&lake.files, &lake.ids).await);
    // The same table copied anew.
    let point = crate::event::SnapshotPoint {
        position: at(50),
        xid: None,
        time: None,
        is_first: true,
        is_last: true,
    };
    let mut writer = table.copy_writer(&point).unwrap();
    let rows: Vec<Change> = (0..5).map(|id| Change::Insert(id, row("c"))).collect();
    let mut copied = batch(&schema, &rows);
    copied.ops.fill(Op::Read);
    writer.write(copied).unwrap();
    table.commit_copy(at(50), vec![writer.finish().unwrap()], Base::Copied).await.unwrap();
    follow(&lake.files, (before + 1, before + 2), &[], &mut feed).await;
    assert_eq!(feed, content(&lake.files, &lake.ids).await);
    assert_eq!(feed.len(), 5);
}

/// Another table under the same name has other names in files: what goes could not be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_mapped_table_with_a_feed_takes_no_other_ones_place() {
    for (is_mapped, is_fed) in [(true, true), (true, false), (false, true)] {
        let mut options = WriteOptions { column_mapping: is_mapped, ..WriteOptions::default() };
        if is_fed {
            options = fed(options);
        }
        let mut lake = lake();
        let choices = WriteChoices { default: options, ..WriteChoices::default() };
        lake.sink = lake.sink.with_choices(choices);
        let schema = schema(&[0]);
        drop(started(&lake, &schema).await);
        let another = Arc::new(TableSchema { id: TableId(8), ..TableSchema::clone(&schema) });
        for purpose in [OpenFor::Continue(ChangePolicy::default()), OpenFor::Replace] {
            let (lease, _) = lake.sink.take_over().await.unwrap();
            let opened = lake.sink.open_table(&lease, Arc::clone(&another), purpose, None).await;
            assert_eq!(opened.err().map(code), (is_mapped && is_fed).then_some("TG021"));
        }
    }
}
