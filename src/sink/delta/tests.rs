//! The Delta sink against a model: random histories, read back through log and deletion vectors.

use super::table::{load, read_columns, read_vectors};
use super::*;
use crate::error::Error;
use crate::event::{Before, Op, TxnRun};
use crate::position::{CommitLsn, Lineage, Lsn, Witness};
use crate::schema::change::ChangePolicy;
use crate::schema::{Column, ColumnKind, TableId, TableName};
use crate::sink::{StoppedTable, TableSink};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int64Type;
use std::collections::BTreeMap;

mod amending;
mod chunks;
mod evolving;
mod feed;
mod keep;
mod model;
mod process;
mod redirect;
mod stores;

type Row = (Option<String>, Option<String>);

#[derive(Clone, Debug)]
enum Change {
    Insert(i64, Row),
    /// Old key, new key, new values; `None` for the large column: unchanged.
    Update(i64, i64, Option<String>, Option<Option<String>>),
    Delete(i64),
    Truncate,
}

fn schema(key: &[usize]) -> Arc<TableSchema> {
    let column = |name: &str, attnum, kind| Column {
        name: name.into(),
        attnum,
        type_oid: 0,
        type_modifier: -1,
        type_name: "x".into(),
        kind,
    };
    let columns = vec![
        column("id", 1, ColumnKind::Int8),
        column("name", 2, ColumnKind::Text),
        column("big", 3, ColumnKind::Text),
    ];
    Arc::new(TableSchema::new(TableId(7), TableName::new("public", "t"), columns, key.to_vec(), false))
}

fn at(raw: u64) -> CommitLsn {
    CommitLsn::end_of_commit(Lsn::new(raw))
}

fn batch(schema: &Arc<TableSchema>, changes: &[Change]) -> ChangeBatch {
    batch_at(schema, changes, 1)
}

/// Of one transaction, whose commit record begins there.
fn batch_at(schema: &Arc<TableSchema>, changes: &[Change], start: u64) -> ChangeBatch {
    let (mut ops, mut ids, mut names, mut bigs) = (vec![], vec![], vec![], vec![]);
    let (mut old, mut index, mut unchanged) = (vec![], vec![], vec![]);
    for change in changes {
        let mut before = Before::NONE;
        let mut keeps = false;
        let (op, id, name, big) = match change {
            Change::Insert(id, (name, big)) => (Op::Create, Some(*id), name.clone(), big.clone()),
            Change::Update(from, to, name, big) => {
                if from != to {
                    before = old.len() as u32;
                    old.push(*from);
                }
                keeps = big.is_none();
                (Op::Update, Some(*to), name.clone(), big.clone().flatten())
            }
            Change::Delete(id) => {
                before = old.len() as u32;
                old.push(*id);
                (Op::Delete, None, None, None)
            }
            Change::Truncate => (Op::Truncate, None, None, None),
        };
        ops.push(op);
        ids.push(id);
        names.push(name);
        bigs.push(big);
        index.push(before);
        unchanged.push(keeps);
    }
    let after: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(StringArray::from(names)),
        Arc::new(StringArray::from(bigs)),
    ];
    let nulls = StringArray::from(vec![None::<&str>; old.len()]);
    let before: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(old)), Arc::new(nulls.clone()), Arc::new(nulls)];
    let txn = Txn { commit_start: Lsn::new(start), xid: 1, commit_time: 0, after: CommitLsn::ZERO };
    ChangeBatch {
        schema: schema.clone(),
        ordinals: (0..ops.len() as u64).collect(),
        lsns: Vec::new(),
        origins: Vec::new(),
        runs: vec![TxnRun { first_row: 0, txn, end: None }],
        ops,
        after: RecordBatch::try_new(schema.arrow.clone(), after).unwrap(),
        before: Some(Before { rows: RecordBatch::try_new(schema.arrow.clone(), before).unwrap(), index }),
        unchanged: vec![None, None, Some(BooleanBuffer::from(unchanged))],
        wire_bytes: 0,
    }
}

/// Content through log and deletion vectors.
async fn content(files: &TableFiles, ids: &log::AppIds) -> BTreeMap<i64, Row> {
    let loaded = load(files, ids).await.unwrap();
    let called = names::pairs(&loaded.metadata).unwrap();
    marked_rows(files, loaded.files, None, &called).await.0
}

async fn rows_of_files(files: &TableFiles, data: Vec<table::DataFile>) -> BTreeMap<i64, Row> {
    marked_rows(files, data, None, &[]).await.0
}

/// Rows that stand, and those that are marked as deleted.
async fn marked_rows(
    files: &TableFiles,
    mut data: Vec<table::DataFile>,
    mark: Option<&str>,
    called: &process::Called,
) -> (BTreeMap<i64, Row>, BTreeMap<i64, Row>) {
    read_vectors(files, data.iter_mut()).await.unwrap();
    let (mut rows, mut dead) = (BTreeMap::new(), BTreeMap::new());
    for file in &data {
        let mut number = 0;
        let mut columns = ["id", "name", "big"].to_vec();
        columns.extend(mark);
        for batch in process::read_named(files, &file.stored(), &columns, called).await {
            let text = |c: usize, i: usize| {
                let column = batch.column(c).as_string::<i32>();
                column.is_valid(i).then(|| column.value(i).to_owned())
            };
            for i in 0..batch.num_rows() {
                if !file.deleted.as_ref().unwrap().contains(number) {
                    let id = batch.column(0).as_primitive::<Int64Type>().value(i);
                    let is_dead = mark.is_some_and(|name| {
                        let marks = batch.column_by_name(name).unwrap();
                        marks.as_boolean_opt().map_or_else(
                            || marks.as_string::<i32>().value(i) == "true",
                            |marks| marks.value(i),
                        )
                    });
                    let found = if is_dead { &mut dead } else { &mut rows };
                    assert!(found.insert(id, (text(1, i), text(2, i))).is_none(), "key {id} stands twice");
                }
                number += 1;
            }
        }
        assert_eq!(number, file.rows);
    }
    assert!(rows.keys().all(|id| !dead.contains_key(id)), "a row stands and is marked as deleted");
    (rows, dead)
}

struct Lake {
    _dir: tempfile::TempDir,
    uri: String,
    sink: DeltaSink,
    files: TableFiles,
    ids: log::AppIds,
}

fn lake() -> Lake {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", dir.path().display());
    let sink = DeltaSink::open(&uri, "shop", &StoreOptions::default()).unwrap();
    let files = Storage::open(&uri, &StoreOptions::default()).unwrap().table(&["public", "t"]).unwrap();
    Lake { _dir: dir, uri, sink, files, ids: log::AppIds::new("shop") }
}

impl Lake {
    async fn open(&self, schema: &Arc<TableSchema>) -> (DeltaTable, TableRecord) {
        self.open_for(schema, OpenFor::Continue(ChangePolicy::default())).await
    }

    async fn open_for(&self, schema: &Arc<TableSchema>, purpose: OpenFor) -> (DeltaTable, TableRecord) {
        let (lease, _) = self.sink.take_over().await.unwrap();
        self.sink.open_table(&lease, schema.clone(), purpose, None).await.unwrap()
    }
}

async fn started(lake: &Lake, schema: &Arc<TableSchema>) -> DeltaTable {
    let (mut table, record) = lake.open(schema).await;
    assert_eq!(record.position, None);
    table.commit_copy(at(10), vec![], Base::Copied).await.unwrap();
    table
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A legal change on `model`, applied to it.
fn change(random: &mut Random, model: &mut BTreeMap<i64, Row>) -> Change {
    let some_key = |random: &mut Random, model: &BTreeMap<i64, Row>| {
        let n = random.below(model.len() as u64) as usize;
        *model.keys().nth(n).unwrap()
    };
    let free_key = |random: &mut Random, model: &BTreeMap<i64, Row>| loop {
        let id = random.below(300) as i64 - 50;
        if !model.contains_key(&id) {
            return id;
        }
    };
    let text = |random: &mut Random| (random.below(5) > 0).then(|| format!("v{}", random.below(1_000_000)));
    let kind = if model.is_empty() || model.len() > 200 { random.below(2) * 60 } else { random.below(100) };
    match kind {
        0..35 if model.len() <= 200 => {
            let (id, row) = (free_key(random, model), (text(random), text(random)));
            model.insert(id, row.clone());
            Change::Insert(id, row)
        }
        35..75 if !model.is_empty() => {
            let from = some_key(random, model);
            let to = if random.below(4) == 0 { free_key(random, model) } else { from };
            let old = model.remove(&from).unwrap();
            let name = text(random);
            let big = (random.below(2) == 0).then(|| text(random));
            model.insert(to, (name.clone(), big.clone().unwrap_or(old.1)));
            Change::Update(from, to, name, big)
        }
        99 => {
            model.clear();
            Change::Truncate
        }
        _ if !model.is_empty() => {
            let id = some_key(random, model);
            model.remove(&id);
            Change::Delete(id)
        }
        _ => {
            let (id, row) = (free_key(random, model), (text(random), text(random)));
            model.insert(id, row.clone());
            Change::Insert(id, row)
        }
    }
}

async fn random_history(seed: u64) {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let mut random = Random(seed * 7919 + 1);
    let mut model = BTreeMap::new();
    let mut position = 10;
    for unit in 0..25 {
        for _ in 0..=random.below(3) {
            let changes: Vec<Change> =
                (0..=random.below(60)).map(|_| change(&mut random, &mut model)).collect();
            table.stage(batch(&schema, &changes)).await.unwrap();
        }
        let interval = Interval { from: at(position), to: at(position + 5) };
        position += 5;
        table.commit(interval).await.unwrap();
        assert_eq!(content(&lake.files, &lake.ids).await, model, "seed {seed}, unit {unit}");
        if random.below(8) == 0 {
            let (again, record) = lake.open(&schema).await;
            assert_eq!(record.position, Some(at(position)));
            table = again;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_history_ends_as_the_model() {
    for seed in 1..=8 {
        random_history(seed).await;
    }
}

fn code(error: Error) -> &'static str {
    error.code().id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_does_not_fit_stops_the_table() {
    let row = (Some("a".to_owned()), None);
    for (first, second) in [
        (Change::Insert(1, row.clone()), Change::Insert(1, row.clone())),
        (Change::Insert(1, row.clone()), Change::Delete(2)),
        (Change::Insert(1, row.clone()), Change::Update(2, 2, None, Some(None))),
        (Change::Insert(1, row.clone()), Change::Update(2, 1, None, Some(None))),
    ] {
        let lake = lake();
        let schema = schema(&[0]);
        let mut table = started(&lake, &schema).await;
        table.stage(batch(&schema, &[first])).await.unwrap();
        table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
        assert_eq!(code(table.stage(batch(&schema, &[second])).await.unwrap_err()), "TG015");
        assert_eq!(content(&lake.files, &lake.ids).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_base_takes_what_comes() {
    let lake = lake();
    let schema = schema(&[0]);
    let (mut table, _) = lake.open(&schema).await;
    table.commit_copy(at(10), vec![], Base::Nothing).await.unwrap();
    let changes = [Change::Update(1, 1, Some("x".into()), Some(None)), Change::Delete(2)];
    table.stage(batch(&schema, &changes)).await.unwrap();
    table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    assert_eq!(content(&lake.files, &lake.ids).await, BTreeMap::from([(1, (Some("x".into()), None))]));
    let unknown = [Change::Update(3, 3, None, None)];
    assert_eq!(code(table.stage(batch(&schema, &unknown)).await.unwrap_err()), "PG023");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_owner_fences_an_older_one() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut old = started(&lake, &schema).await;
    let (_new, record) = lake.open(&schema).await;
    assert_eq!(record.position, Some(at(10)));
    old.stage(batch(&schema, &[Change::Insert(1, (None, None))])).await.unwrap();
    let outcome = old.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Fenced { by: Epoch(2) });
    assert!(content(&lake.files, &lake.ids).await.is_empty());
}

async fn foreign(lake: &Lake, version: i64, line: &str) {
    let name = log::commit_name(version);
    assert_eq!(lake.files.put_if_absent(&name, line.to_owned().into()).await.unwrap(), Put::Written);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_commit_is_examined() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    table.stage(batch(&schema, &[Change::Insert(1, (None, None))])).await.unwrap();
    foreign(&lake, 2, r#"{"commitInfo":{"operation":"SET TBLPROPERTIES"}}"#).await;
    table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    assert_eq!(content(&lake.files, &lake.ids).await.len(), 1, "planned again on what is there");

    table.stage(batch(&schema, &[Change::Insert(2, (None, None))])).await.unwrap();
    let file = load(&lake.files, &lake.ids).await.unwrap().files[0].add.path.clone();
    foreign(&lake, 4, &format!(r#"{{"remove":{{"path":"{file}","dataChange":true}}}}"#)).await;
    let refused = table.commit(Interval { from: at(20), to: at(30) }).await.unwrap_err();
    assert_eq!(code(refused), "TG012");
    let lost = load(&lake.files, &lake.ids).await.unwrap();
    assert_eq!((lost.version, lost.position), (4, Some(at(20))), "no further commit was made");
}

/// The operator lets others change rows: what they did stays, and what the source does next is applied to it.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_change_may_be_accepted() {
    let mut lake = lake();
    lake.sink = lake.sink.on_foreign_change(OnForeignChange::Accept);
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    table.stage(batch(&schema, &[Change::Insert(1, (None, None))])).await.unwrap();
    table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    table.stage(batch(&schema, &[Change::Insert(2, (None, None))])).await.unwrap();
    let file = load(&lake.files, &lake.ids).await.unwrap().files[0].add.path.clone();
    foreign(&lake, 3, &format!(r#"{{"remove":{{"path":"{file}","dataChange":true}}}}"#)).await;
    table.commit(Interval { from: at(20), to: at(30) }).await.unwrap();
    let row = |name: &str| (Some(name.to_owned()), None);
    let update = Change::Update(1, 1, Some("back".into()), Some(None));
    table.stage(batch(&schema, &[update, Change::Delete(7)])).await.unwrap();
    table.commit(Interval { from: at(30), to: at(40) }).await.unwrap();
    let expected = BTreeMap::from([(1, row("back")), (2, (None, None))]);
    assert_eq!(content(&lake.files, &lake.ids).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_after_the_cut_are_examined_at_open() {
    let lake = lake();
    let schema = schema(&[0]);
    let _table = started(&lake, &schema).await;
    let (lease, _) = lake.sink.take_over().await.unwrap();
    let target_id = load(&lake.files, &lake.ids).await.unwrap().metadata.id;
    let cut = CutTable { id: schema.id, name: schema.name.clone(), target_id, version: 1, position: at(10) };
    foreign(&lake, 2, r#"{"add":{"path":"x","partitionValues":{},"size":1,"modificationTime":1,"dataChange":true,"stats":"{\"numRecords\":1}"}}"#)
        .await;
    let refused = lake
        .sink
        .open_table(&lease, schema.clone(), OpenFor::Continue(ChangePolicy::default()), Some(&cut))
        .await;
    assert_eq!(refused.err().map(code), Some("TG012"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_table_is_left_alone() {
    let lake = lake();
    lake.files.create_dirs().unwrap();
    let schema = schema(&[0]);
    let state = TableState::new("other", &schema, &Form::upsert());
    let mut metadata = table::metadata_for(&schema, &state, None, &Form::upsert(), None, 0).unwrap();
    let protocol = log::Action::Protocol(table::protocol_for(&schema, Mode::Upsert, &BTreeMap::new()));
    let commit = |metadata: &log::MetaData| {
        String::from_utf8(log::encode(&[protocol.clone(), log::Action::MetaData(metadata.clone())]).unwrap())
            .unwrap()
    };
    let (lease, _) = lake.sink.take_over().await.unwrap();
    foreign(&lake, 0, &commit(&metadata)).await;
    let refused = lake.sink.open_table(&lease, schema.clone(), OpenFor::Replace, None).await;
    assert_eq!(refused.err().map(code), Some("TG017"));
    metadata.configuration.clear();
    foreign(&lake, 1, &commit(&metadata)).await;
    let refused = lake.sink.open_table(&lease, schema.clone(), OpenFor::Replace, None).await;
    assert_eq!(refused.err().map(code), Some("TG010"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_keeps_cuts_stops_and_requests() {
    let lake = lake();
    let (lease, record) = lake.sink.take_over().await.unwrap();
    assert_eq!((lease.epoch, record), (Epoch(1), PipelineRecord::default()));
    let lineage = Lineage { system_id: "7".into(), timeline: 1, database: "shop".into() };
    let stopped = StoppedTable {
        id: TableId(9),
        name: TableName::new("public", "bad.one"),
        code: codes::PG022,
        message: "columns changed".into(),
        position: at(5),
    };
    let change = RecordChange {
        lineage: Some(lineage.clone()),
        stop: vec![stopped.clone()],
        ..RecordChange::default()
    };
    lake.sink.record(&lease, change).await.unwrap();
    let witness = Some(Witness { end: at(40), xid: 3, commit_time: -5 });
    let mut cut = Cut { position: at(40), marks: Marks::default(), witness, tables: BTreeMap::new() };
    let table = CutTable {
        id: TableId(7),
        name: TableName::new("public", "t"),
        target_id: "x".into(),
        version: 3,
        position: at(20),
    };
    for position in 40..200 {
        cut.position = at(position);
        cut.tables = BTreeMap::from([(TableId(7), table.clone())]);
        lake.sink.commit_cut(&lease, cut.clone()).await.unwrap();
    }
    let asker = DeltaSink::open(&lake.uri, "shop", &StoreOptions::default()).unwrap();
    let request = Request { id: "r1".into(), table: TableName::new("public", "t"), amend: None };
    asker.request(&request).await.unwrap();
    assert_eq!(lake.sink.poll_requests(&lease).await.unwrap(), vec![request.clone()]);
    cut.position = at(300);
    lake.sink.commit_cut(&lease, cut.clone()).await.unwrap();
    let seen = asker.peek().await.unwrap().unwrap();
    assert_eq!(seen.cut, Some(cut));
    assert_eq!(seen.requests, vec![request]);
    assert_eq!(seen.lineage, Some(lineage));
    assert_eq!(seen.stopped[&TableId(9)], stopped);

    let (second, record) = asker.take_over().await.unwrap();
    assert_eq!(second.epoch, Epoch(2));
    assert_eq!(record, seen);
    let fenced = lake.sink.record(&lease, RecordChange::default()).await.unwrap();
    assert_eq!(fenced, CommitOutcome::Fenced { by: Epoch(2) });
}

#[tokio::test(flavor = "multi_thread")]
async fn claimants_of_one_epoch_get_different_ones() {
    let lake = lake();
    let sinks: Vec<_> =
        (0..6).map(|_| DeltaSink::open(&lake.uri, "shop", &StoreOptions::default()).unwrap()).collect();
    let mut claims = Vec::new();
    for sink in sinks {
        claims.push(tokio::spawn(async move { sink.take_over().await.unwrap().0.epoch.0 }));
    }
    let mut epochs = Vec::new();
    for claim in claims {
        epochs.push(claim.await.unwrap());
    }
    epochs.sort_unstable();
    assert_eq!(epochs, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_checkpoint_keeps_everything() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let mut model = BTreeMap::new();
    let mut random = Random(99);
    for unit in 0..105 {
        let changes: Vec<Change> = (0..5).map(|_| change(&mut random, &mut model)).collect();
        table.stage(batch(&schema, &changes)).await.unwrap();
        table.commit(Interval { from: at(10 + unit), to: at(11 + unit) }).await.unwrap();
    }
    let written = lake.files.local_path("_delta_log/_last_checkpoint").unwrap();
    for _ in 0..500 {
        if written.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(written.exists());
    for version in 0..100 {
        std::fs::remove_file(lake.files.local_path(&log::commit_name(version)).unwrap()).unwrap();
    }
    assert_eq!(content(&lake.files, &lake.ids).await, model);
    let (mut again, record) = lake.open(&schema).await;
    assert_eq!(record.position, Some(at(115)));
    let changes: Vec<Change> = (0..50).map(|_| change(&mut random, &mut model)).collect();
    again.stage(batch(&schema, &changes)).await.unwrap();
    again.commit(Interval { from: at(115), to: at(120) }).await.unwrap();
    assert_eq!(content(&lake.files, &lake.ids).await, model);
}
