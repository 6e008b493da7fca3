//! Cleaning and the saved index.

use super::super::clean::{Cleaned, Retention, clean};
use super::super::table::{data_files, now_ms};
use super::*;

async fn commit(table: &mut DeltaTable, schema: &Arc<TableSchema>, n: u64, changes: &[Change]) {
    table.stage(batch(schema, changes)).await.unwrap();
    table.commit(Interval { from: at(10 + n), to: at(11 + n) }).await.unwrap();
}

async fn content_at(lake: &Lake, version: i64) -> Result<BTreeMap<i64, Row>> {
    let mut delta = lake.files.delta()?;
    let failed = |e: deltalake::DeltaTableError| Error::new(codes::TG020, "version").with_source(e);
    delta.load_version(u64::try_from(version).unwrap()).await.map_err(failed)?;
    Ok(rows_of_files(&lake.files, data_files(&lake.files, &delta).await?).await)
}

async fn written_at(lake: &Lake, version: i64) -> i64 {
    let name = log::commit_name(version);
    lake.files.list_log().await.unwrap().into_iter().find(|f| f.name == name).unwrap().modified_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_within_the_retention_needs_stays() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    table.upkeep.policy = None;
    let (mut random, mut model, mut history) = (Random(3), BTreeMap::new(), BTreeMap::new());
    for n in 0..24 {
        let changes: Vec<Change> = (0..30).map(|_| change(&mut random, &mut model)).collect();
        commit(&mut table, &schema, n, &changes).await;
        history.insert(table.core.version, model.clone());
        tokio::time::sleep(std::time::Duration::from_millis(4)).await;
    }
    let base = *history.keys().nth(12).unwrap();
    let before = lake.files.list_data().await.unwrap().len();
    let retention = Retention { files_ms: 0, log_ms: 0 };
    // In use: a file of ours that no version names yet, however old it is.
    let in_use = clean(&lake.files, retention, written_at(&lake, base).await, 0).await.unwrap();
    assert_eq!(in_use, Cleaned::default());
    let done = clean(&lake.files, retention, written_at(&lake, base).await, i64::MAX).await.unwrap();
    assert!(done.files > 0 && done.files < before, "{done:?} of {before}");
    for (&version, model) in history.range(base..) {
        assert_eq!(&content_at(&lake, version).await.unwrap(), model, "version {version}");
    }
    // Everything but the newest version.
    clean(&lake.files, retention, now_ms() + 10_000, i64::MAX).await.unwrap();
    assert_eq!(content(&lake.files, &lake.ids).await, model);
    for n in 24..30 {
        let changes: Vec<Change> = (0..30).map(|_| change(&mut random, &mut model)).collect();
        commit(&mut table, &schema, n, &changes).await;
    }
    assert_eq!(content(&lake.files, &lake.ids).await, model);
}

async fn checkpointed(files: &TableFiles, version: i64) {
    let name = format!("_delta_log/{version:020}.checkpoint.parquet");
    let path = files.local_path(&name).unwrap();
    for _ in 0..1000 {
        if path.exists() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("no checkpoint of version {version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipelines_record_does_not_grow_without_bound() {
    let lake = lake();
    let (lease, _) = lake.sink.take_over().await.unwrap();
    let mut cut = Cut { position: at(1), marks: Marks::default(), witness: None, tables: BTreeMap::new() };
    let files =
        Storage::open(&lake.uri, &StoreOptions::default()).unwrap().table(&["_strandline", "shop"]).unwrap();
    for position in 1..=230 {
        cut.position = at(position);
        lake.sink.commit_cut(&lease, cut.clone()).await.unwrap();
        if position % 100 == 0 {
            checkpointed(&files, i64::try_from(position).unwrap()).await;
        }
    }
    let everything = Retention { files_ms: 0, log_ms: 0 };
    let done = clean(&files, everything, now_ms() + 10_000, i64::MAX).await.unwrap();
    assert!(done.files >= 228 && done.log_files >= 200, "{done:?}");
    assert_eq!(files.list_data().await.unwrap().len(), 2);
    assert!(files.list_log().await.unwrap().len() < 40);
    lake.sink.commit_cut(&lease, cut.clone()).await.unwrap();
    let (_, record) = lake.sink.take_over().await.unwrap();
    assert_eq!(record.cut, Some(cut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_index_is_used_only_where_it_holds() {
    let mut lake = lake();
    let cache = tempfile::tempdir().unwrap();
    lake.sink = DeltaSink::open(&lake.uri, "shop", &StoreOptions::default())
        .unwrap()
        .with_cache(cache.path().to_owned(), usize::MAX);
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let (mut random, mut model, mut n) = (Random(11), BTreeMap::new(), 0);
    for round in 0..6 {
        for _ in 0..4 {
            let changes: Vec<Change> = (0..25).map(|_| change(&mut random, &mut model)).collect();
            commit(&mut table, &schema, n, &changes).await;
            n += 1;
        }
        if round == 5 {
            break;
        }
        let saved = || {
            std::fs::read_dir(cache.path())
                .unwrap()
                .flatten()
                .find(|f| f.path().extension().is_some_and(|e| e == "index"))
        };
        for _ in 0..500 {
            if saved().is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let saved = saved().unwrap().path();
        match round {
            // Of a process that was killed while it wrote.
            0 => std::fs::write(saved.with_extension("99.tmp"), b"half").unwrap(),
            // Damaged, cut short, gone: built anew.
            1 => {
                let mut bytes = std::fs::read(&saved).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&saved, bytes).unwrap();
            }
            3 => std::fs::write(&saved, b"SLINDEX1").unwrap(),
            4 => std::fs::remove_file(&saved).unwrap(),
            _ => {}
        }
        table = lake.open(&schema).await.0;
    }
    assert_eq!(content(&lake.files, &lake.ids).await, model);
    let leftovers = std::fs::read_dir(cache.path())
        .unwrap()
        .flatten()
        .filter(|f| f.path().extension().is_some_and(|e| e == "tmp"));
    assert_eq!(leftovers.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_log_is_compacted() {
    let lake = lake();
    let schema = schema(&[]);
    let mut table = started(&lake, &schema).await;
    table.upkeep.policy = Some(process::policy());
    for n in 0..40 {
        let changes = [Change::Insert(n as i64, (Some("a".into()), None)), Change::Delete(n as i64)];
        commit(&mut table, &schema, n, &changes).await;
        table.upkeep.settle(&schema.name).await;
        assert_eq!(table.upkeep().await.unwrap(), None);
    }
    let loaded = load(&lake.files, &lake.ids).await.unwrap();
    assert!(
        table.tally().jobs > 3 && loaded.files.len() < 20,
        "{:?}, {} files",
        table.tally(),
        loaded.files.len()
    );
    let mut found = Vec::new();
    let columns = ["_strandline_lsn", "_strandline_op", "id"].map(String::from);
    for file in &loaded.files {
        for batch in read_columns(&lake.files, &file.stored(), &columns, None).await.unwrap() {
            let batch = batch.unwrap();
            let id = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().clone();
            let op = batch.column_by_name("_strandline_op").unwrap().as_string::<i32>().clone();
            found.extend(
                (0..batch.num_rows()).map(|i| (id.is_valid(i).then(|| id.value(i)), op.value(i).to_owned())),
            );
        }
    }
    found.sort();
    assert_eq!(found.len(), 80);
    assert_eq!(found.iter().filter(|(_, op)| op == "c").count(), 40);
}

/// A column that came later is null in older rows, one that the source dropped keeps its older values: also
/// after files from before and after are merged.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_several_schemas_are_compacted_together() {
    let lake = lake();
    let old = schema(&[0]);
    let mut columns = old.columns.clone();
    let dropped = columns.pop().unwrap();
    columns.push(Column { name: "extra".into(), attnum: 4, ..dropped });
    let new = Arc::new(TableSchema::new(old.id, old.name.clone(), columns, vec![0], false));
    let mut table = started(&lake, &old).await;
    let row = |id: i64| Change::Insert(id, (Some("name".into()), Some(format!("value {id}"))));
    for n in 0..4 {
        commit(&mut table, &old, n, &[row(2 * n as i64), row(2 * n as i64 + 1)]).await;
    }
    table.evolve(new.clone()).unwrap();
    for n in 4..9 {
        table.upkeep.policy = (n == 8).then(process::policy);
        commit(&mut table, &new, n, &[row(2 * n as i64), row(2 * n as i64 + 1)]).await;
    }
    table.upkeep.settle(&new.name).await;
    assert_eq!(table.upkeep().await.unwrap(), None);
    assert_eq!(table.tally().jobs, 1);
    let loaded = load(&lake.files, &lake.ids).await.unwrap();
    let mut found = BTreeMap::new();
    for file in &loaded.files {
        let names = ["id", "big", "extra"].map(String::from);
        for batch in read_columns(&lake.files, &file.stored(), &names, None).await.unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str, i: usize| {
                let column = batch.column_by_name(name).unwrap().as_string::<i32>();
                column.is_valid(i).then(|| column.value(i).to_owned())
            };
            let ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            for i in 0..batch.num_rows() {
                found.insert(ids.value(i), (text("big", i), text("extra", i)));
            }
        }
    }
    let value = |id: i64| Some(format!("value {id}"));
    let wanted = (0..18).map(|id| (id, if id < 8 { (value(id), None) } else { (None, value(id)) })).collect();
    assert_eq!(found, wanted);
}

/// Somebody put an entry into the log that names a file of another table (SE-27): it is neither read nor deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_leads_out_of_the_table_is_refused() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    commit(&mut table, &schema, 0, &[Change::Insert(1, (None, None))]).await;
    let version = table.core.version + 1;
    drop(table);
    let outside = lake.files.local_path("..").unwrap().join("other.parquet");
    std::fs::write(&outside, b"not ours").unwrap();
    let entry = lake.files.local_path(&log::commit_name(version)).unwrap();
    for path in [
        "../other.parquet",
        "..%2Fother.parquet",
        "a/../../other.parquet",
        "/etc/passwd",
        "file:///etc/passwd",
    ] {
        let add = serde_json::json!({"add": {
            "path": path, "partitionValues": {}, "size": 8, "modificationTime": 0, "dataChange": true
        }});
        std::fs::write(&entry, add.to_string()).unwrap();
        let error = load(&lake.files, &lake.ids).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), codes::TG014, "{path}: {}", error.report());
        let kept =
            clean(&lake.files, Retention { files_ms: 0, log_ms: 0 }, now_ms() + 10_000, i64::MAX).await;
        assert!(kept.is_err() || outside.exists(), "{path}");
        std::fs::remove_file(&entry).unwrap();
    }
    // A tombstone of it deletes nothing: what is deleted is found below the table.
    let remove = serde_json::json!({"remove": {"path": "../other.parquet", "dataChange": true, "deletionTimestamp": 0}});
    std::fs::write(&entry, remove.to_string()).unwrap();
    clean(&lake.files, Retention { files_ms: 0, log_ms: 0 }, now_ms() + 10_000, i64::MAX).await.unwrap();
    assert!(outside.exists());
    let prefixed = dv::Descriptor {
        storage_type: "u".into(),
        path_or_inline_dv: "../../vBn[lx{q8@P<9BNH/isA".into(),
        offset: Some(1),
        size_in_bytes: 1,
        cardinality: 1,
    };
    assert_eq!(prefixed.location().unwrap_err().code(), codes::TG014);
}

/// Nobody commits: the wait for upkeep ends by itself, and the gone rows are left out.
#[tokio::test(flavor = "multi_thread")]
async fn worn_files_are_rewritten_when_no_unit_comes() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let rest_after = std::time::Duration::from_millis(5);
    table.upkeep.policy = Some(Policy { small_bytes: 1, rest_after, ..Policy::default() });
    let mut model = BTreeMap::new();
    let rows: Vec<Change> = (0..100)
        .map(|id| {
            model.insert(id, (Some("a".to_owned()), None));
            Change::Insert(id, (Some("a".into()), None))
        })
        .collect();
    commit(&mut table, &schema, 0, &rows).await;
    for (n, gone) in [(1, 0..14), (2, 14..16)] {
        let waits = tokio::time::timeout(rest_after * 4, table.upkeep_ready()).await;
        assert!(waits.is_err(), "so few are no reason");
        for id in gone.clone() {
            model.remove(&id);
        }
        commit(&mut table, &schema, n, &gone.map(Change::Delete).collect::<Vec<_>>()).await;
    }
    while table.tally().jobs == 0 {
        table.upkeep_ready().await;
        assert_eq!(table.upkeep().await.unwrap(), None);
    }
    assert_eq!(content(&lake.files, &lake.ids).await, model);
    let loaded = load(&lake.files, &lake.ids).await.unwrap();
    assert!(loaded.files.iter().all(|file| file.add.deletion_vector.is_none()), "none is left");
    let waits = tokio::time::timeout(rest_after * 4, table.upkeep_ready()).await;
    assert!(waits.is_err(), "there is nothing more to do");
}

/// A process that ends with the commit whose log checkpoint is due writes it before it ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_log_checkpoint() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let next = table.core.version + 1;
    table.core.metadata.configuration.insert("delta.checkpointInterval".into(), next.to_string());
    commit(&mut table, &schema, 0, &[Change::Insert(1, (None, None))]).await;
    table.close().await;
    let name = format!("_delta_log/{next:020}.checkpoint.parquet");
    assert!(lake.files.local_path(&name).unwrap().exists());
}
