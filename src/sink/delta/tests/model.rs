//! The writer against a model: random units, compactions, other people's commits, cleaning, lost replies,
//! and death between any two file operations. After each step the table holds exactly the model's rows, and
//! after death it holds the rows of one whole unit more or none.
//!
//! A failure names its seed: `STRANDLINE_MODEL_SEEDS=17 cargo test --lib model` runs it again,
//! `STRANDLINE_MODEL_SEEDS=1000..3000` runs many.

use super::super::clean::{self, Retention};
use super::super::encode::FileWriter;
use super::super::names;
use super::super::partition::Values;
use super::super::table::{DataFile, added, data_files, now_ms};
use super::process::{Process, policy, read_named, stored};
use super::*;
use crate::schema::change::ChangePolicy;
use crate::sink::write::{Deletes, Images, MetaColumns, Truncates, WriteMode, WriteOptions};
use std::collections::{BTreeSet, VecDeque};

struct World {
    p: Process,
    schema: Arc<TableSchema>,
    form: Form,
    /// The change log beside the table.
    log: Option<TableFiles>,
    /// What files call its columns.
    called: Vec<(String, String)>,
    ordinal: u64,
    model: BTreeMap<i64, Row>,
    /// Rows that are marked as deleted.
    dead: BTreeMap<i64, Row>,
    position: u64,
    /// What its change data feed makes of it, and up to which version.
    feed: Option<(i64, BTreeMap<i64, Row>)>,
    /// What stood in some versions.
    history: VecDeque<(i64, BTreeMap<i64, Row>)>,
}

/// What the table is by its change log: each change applied in order, each exactly once.
async fn replayed(log: &TableFiles, ids: &log::AppIds) -> BTreeMap<i64, Row> {
    let loaded = load(log, ids).await.unwrap();
    let called = names::pairs(&loaded.metadata).unwrap();
    let columns = ["id", "name", "big", "_strandline_op", "_strandline_ordinal", "_strandline_unchanged"];
    let columns = [&columns[..], &["_strandline_image"]].concat();
    let mut changes = BTreeMap::new();
    for file in &loaded.files {
        for batch in read_named(log, &file.stored(), &columns, &called).await {
            for row in 0..batch.num_rows() {
                let text = |name: &str| {
                    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
                    column.is_valid(row).then(|| column.value(row).to_owned())
                };
                let number = |name: &str| {
                    let column = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>();
                    column.is_valid(row).then(|| column.value(row))
                };
                let image = text("_strandline_image").unwrap();
                let change = (
                    number("id"),
                    text("name"),
                    text("big"),
                    text("_strandline_op"),
                    text("_strandline_unchanged"),
                );
                let at = (number("_strandline_ordinal").unwrap(), image);
                assert!(changes.insert(at.clone(), change).is_none(), "{at:?} stands twice");
            }
        }
    }
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    for ((ordinal, image), (id, name, big, op, unchanged)) in changes.iter().map(|(k, v)| (k, v.clone())) {
        // "after" sorts before "before": the old image of the same change is looked up.
        if image == "before" && op.as_deref() != Some("d") {
            continue;
        }
        let old = changes.get(&(*ordinal, "before".to_owned())).and_then(|old| old.0);
        match op.unwrap().as_str() {
            "t" => rows.clear(),
            "d" => drop(rows.remove(&id.unwrap())),
            _ => {
                let before = rows.remove(&old.or(id).unwrap());
                let keeps = unchanged.is_some_and(|names| names == "[\"big\"]");
                let big = if keeps { before.unwrap().1 } else { big };
                rows.insert(id.unwrap(), (name, big));
            }
        }
    }
    rows
}

/// Names that a partition may have.
const PARTITIONS: [Option<&str>; 4] = [Some("a"), Some("../b=%/\"c\""), Some("日 本"), None];

/// The same change with a name of a few.
fn coarse(change: Change, next: &mut BTreeMap<i64, Row>) -> Change {
    let few = |name: Option<String>| {
        let at = name.map_or(3, |name| name.len() + usize::from(name.as_bytes()[name.len() - 1]));
        PARTITIONS[at % 4].map(String::from)
    };
    match change {
        Change::Insert(id, (name, big)) => {
            let name = few(name);
            next.get_mut(&id).unwrap().0.clone_from(&name);
            Change::Insert(id, (name, big))
        }
        Change::Update(from, to, name, big) => {
            let name = few(name);
            next.get_mut(&to).unwrap().0.clone_from(&name);
            Change::Update(from, to, name, big)
        }
        other => other,
    }
}

/// Each way to write a table has its seeds.
pub(super) fn options(seed: u64) -> WriteOptions {
    let plain = WriteOptions::default();
    let (exact, soft) = (WriteMode::CopyOnWrite, Deletes::Soft);
    let by_name = WriteOptions { partition_by: vec!["name".into()], ..plain.clone() };
    match seed % 9 {
        2 => WriteOptions { write: exact, meta: MetaColumns::Fivetran, ..plain },
        3 => WriteOptions { deletes: soft, truncates: Truncates::Soft, meta: MetaColumns::Debezium, ..plain },
        4 => WriteOptions { write: exact, deletes: soft, meta: MetaColumns::Strandline, ..plain },
        5 => WriteOptions { write: WriteMode::Both, images: Images::Both, ..plain },
        6 => by_name,
        7 => WriteOptions { write: exact, ..by_name },
        8 => WriteOptions { write: WriteMode::Both, images: Images::Both, deletes: soft, ..by_name },
        _ => plain,
    }
}

impl World {
    async fn new(seed: u64) -> World {
        let schema = schema(&[0]);
        let mut options = options(seed);
        let has_feed = seed / 9 % 2 == 1;
        if has_feed {
            options = feed::fed(options);
        }
        options.column_mapping = seed / 18 % 3 == 1 && options.partition_by.is_empty();
        let form = Form::of(&options, &schema);
        let log = pair::log_of(&options, &schema).map(|(name, _)| name);
        let p = Process::first(seed, options, &schema).await;
        let beside = |name: TableName| {
            let storage = Storage::open(&p.lake.uri, &StoreOptions::default()).unwrap();
            storage.table(&[&name.schema, &name.table]).unwrap()
        };
        let log = log.map(beside);
        let loaded = load(&p.lake.files, &p.lake.ids).await.unwrap();
        let called = names::pairs(&loaded.metadata).unwrap();
        World {
            p,
            schema,
            form,
            log,
            called,
            ordinal: 0,
            model: BTreeMap::new(),
            dead: BTreeMap::new(),
            position: 10,
            feed: has_feed.then(|| (-1, BTreeMap::new())),
            history: VecDeque::new(),
        }
    }

    /// A new process; the table's position.
    async fn reopen(&mut self) -> CommitLsn {
        let purpose = OpenFor::Continue(ChangePolicy::default());
        self.p.open(&self.schema, purpose).await.position.unwrap()
    }

    async fn check(&mut self, what: &str) {
        let loaded = load(&self.p.lake.files, &self.p.lake.ids).await.unwrap();
        if self.form.mode == Mode::CopyOnWrite {
            assert!(loaded.files.iter().all(|file| file.add.deletion_vector.is_none()), "after {what}");
            let mapped = self.form.layout.column_mapping;
            assert_eq!(loaded.protocol.min_reader_version, if mapped { 3 } else { 1 });
        }
        if let Some((version, feed)) = &mut self.feed {
            let versions = (*version, loaded.version);
            feed::follow(&self.p.lake.files, versions, &self.called, feed).await;
            *version = loaded.version;
            let mut all = self.model.clone();
            all.extend(self.dead.clone());
            assert_eq!(*feed, all, "the feed after {what}");
        }
        let (found, dead) =
            marked_rows(&self.p.lake.files, loaded.files, self.form.mark(), &self.called).await;
        assert_eq!(found, self.model, "after {what}");
        assert_eq!(dead, self.dead, "after {what}");
        if let Some(log) = &self.log {
            assert_eq!(replayed(log, &self.p.lake.ids).await, self.model, "the log after {what}");
        }
        self.history.push_back((loaded.version, self.model.clone()));
        while self.history.len() > 8 {
            self.history.pop_front();
        }
    }

    /// A unit; jobs are planned, run and landed between its slices.
    async fn unit(&mut self) {
        let mut next = (self.model.clone(), self.dead.clone());
        let to = self.position + 5;
        let slices: Vec<ChangeBatch> =
            (0..=self.p.random.below(3)).map(|_| self.slice(&mut next, to)).collect();
        let mut outcome = self.attempt(&slices, to).await;
        // A change log beside a table may hold the unit already: what comes again is the same.
        while self.log.is_some() && outcome.is_err() {
            self.p.died(outcome.as_ref().unwrap_err());
            let position = self.reopen().await;
            if position == at(to) {
                break;
            }
            assert_eq!(position, at(self.position));
            outcome = self.attempt(&slices, to).await;
        }
        match outcome {
            Ok(CommitOutcome::Committed { .. }) => ((self.model, self.dead), self.position) = (next, to),
            Ok(CommitOutcome::Fenced { by }) => panic!("fenced by {by}"),
            Err(_) if self.log.is_some() => ((self.model, self.dead), self.position) = (next, to),
            Err(error) => {
                self.p.died(&error);
                let position = self.reopen().await;
                if position == at(to) {
                    ((self.model, self.dead), self.position) = (next, to);
                } else {
                    assert_eq!(position, at(self.position));
                }
            }
        }
        self.check("a unit").await;
    }

    fn slice(&mut self, (next, dead): &mut (BTreeMap<i64, Row>, BTreeMap<i64, Row>), to: u64) -> ChangeBatch {
        let mut changes = Vec::new();
        for _ in 0..=self.p.random.below(40) {
            let before = next.clone();
            let mut change = change(&mut self.p.random, next);
            if !self.form.layout.partition_by.is_empty() {
                change = coarse(change, next);
            }
            if matches!(change, Change::Truncate) && self.form.truncates == Truncates::Apply {
                dead.clear();
            } else if self.form.is_soft() {
                dead.extend(before.into_iter().filter(|(id, _)| !next.contains_key(id)));
                dead.retain(|id, _| !next.contains_key(id));
            }
            changes.push(change);
        }
        let mut batch = batch_at(&self.schema, &changes, to - 1);
        let first = self.ordinal;
        self.ordinal += changes.len() as u64;
        batch.ordinals = (first..self.ordinal).collect();
        batch
    }

    async fn attempt(&mut self, slices: &[ChangeBatch], to: u64) -> Result<CommitOutcome> {
        for batch in slices {
            self.p.table().stage(batch.clone()).await?;
            if self.p.random.below(3) == 0 {
                self.p.upkeep().await?;
            }
        }
        let interval = Interval { from: at(self.position), to: at(to) };
        self.p.table().commit(interval).await
    }

    async fn upkeep_or_death(&mut self) {
        if let Err(error) = self.p.upkeep().await {
            self.p.died(&error);
            assert_eq!(self.reopen().await, at(self.position));
        }
        self.check("upkeep").await;
    }

    /// Somebody else's OPTIMIZE of some files, all of them correctly.
    async fn foreign_optimize(&mut self) {
        let (files, ids) = (&self.p.lake.files, &self.p.lake.ids);
        let loaded = load(files, ids).await.unwrap();
        let schema = self.form.schema(&self.schema);
        let columns: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        let line = optimize(files, &stored(&self.called, &columns), loaded.files).await;
        let name = log::commit_name(loaded.version + 1);
        assert_eq!(files.put_if_absent(&name, line.into()).await.unwrap(), Put::Written);
    }

    async fn foreign_property(&mut self) {
        let loaded = load(&self.p.lake.files, &self.p.lake.ids).await.unwrap();
        let mut metadata = loaded.metadata;
        metadata.configuration.insert("foreign.note".into(), loaded.version.to_string());
        let line = log::encode(&[log::Action::MetaData(metadata)]).unwrap();
        let name = log::commit_name(loaded.version + 1);
        self.p.lake.files.put_if_absent(&name, line.into()).await.unwrap();
    }

    /// Everything that only older versions name goes; also what died on the way.
    async fn clean(&mut self) {
        if self.p.job.is_some() || self.p.compacted.is_some() {
            return;
        }
        let everything = Retention { files_ms: 0, log_ms: 0 };
        let now = now_ms() + 10_000;
        clean::clean(&self.p.lake.files, everything, now, i64::MAX).await.unwrap();
        let data = self.p.lake.files.list_data().await.unwrap();
        let loaded = load(&self.p.lake.files, &self.p.lake.ids).await.unwrap();
        let vector = |f: &DataFile| match f.add.deletion_vector.as_ref()?.location().unwrap() {
            dv::Location::Relative(name) => Some(name),
            dv::Location::Inline(_) => None,
        };
        let vectors: BTreeSet<String> = loaded.files.iter().filter_map(vector).collect();
        assert_eq!(data.len(), loaded.files.len() + vectors.len(), "what nobody names is gone");
        self.history.clear();
        self.check("cleaning").await;
    }

    async fn step(&mut self) {
        if self.p.random.below(5) == 0 {
            self.p.faults.die_after(self.p.random.below(45) as i64);
        }
        match self.p.random.below(16) {
            0..8 => self.unit().await,
            8..13 => self.upkeep_or_death().await,
            13 => {
                if self.p.random.below(2) == 0 {
                    self.foreign_optimize().await;
                } else {
                    self.foreign_property().await;
                }
            }
            14 => {
                self.p.faults.live();
                assert_eq!(self.reopen().await, at(self.position));
            }
            _ => self.clean().await,
        }
    }

    /// Older versions still read as they were.
    async fn time_travel(&mut self) {
        for (version, model) in std::mem::take(&mut self.history) {
            let mut delta = self.p.lake.files.delta().unwrap();
            delta.load_version(u64::try_from(version).unwrap()).await.unwrap();
            let data = data_files(&self.p.lake.files, &delta).await.unwrap();
            let (found, _) = marked_rows(&self.p.lake.files, data, self.form.mark(), &self.called).await;
            assert_eq!(found, model, "version {version}");
        }
    }
}

/// An OPTIMIZE as somebody else writes it: their file with the live rows of `read`, no `txn` of ours.
async fn optimize(files: &TableFiles, names: &[String], mut read: Vec<DataFile>) -> Vec<u8> {
    read_vectors(files, read.iter_mut()).await.unwrap();
    let mut writers: BTreeMap<Values, FileWriter> = BTreeMap::new();
    for file in &read {
        let gone = file.deleted.as_ref().unwrap();
        let values = file.add.partition_values.clone();
        let kept_names: Vec<String> = names.iter().filter(|n| !values.contains_key(*n)).cloned().collect();
        let mut row = 0;
        for batch in read_columns(files, &file.stored(), &kept_names, None).await.unwrap() {
            let batch = batch.unwrap();
            let live: Vec<bool> = (row..row + batch.num_rows() as u32).map(|r| !gone.contains(r)).collect();
            row += batch.num_rows() as u32;
            let kept = encode::keep(&batch, &live).unwrap();
            if !writers.contains_key(&values) {
                let path = format!("theirs {}.parquet", uuid::Uuid::new_v4());
                let shared = Arc::new(values.clone());
                let writer = FileWriter::create_as(files, path, &shared, kept.schema(), &[0], &kept).unwrap();
                writers.insert(values.clone(), writer);
            }
            writers.get_mut(&values).unwrap().write(&kept).unwrap();
        }
    }
    let mut actions = vec![table::commit_info("OPTIMIZE", 0, serde_json::json!({}))];
    actions.extend(read.iter().map(|f| log::Action::Remove(f.remove(1, false))));
    for (_, writer) in writers {
        let mut add = added(&writer.finish().await.unwrap(), 1);
        add.data_change = false;
        actions.push(log::Action::Add(add));
    }
    log::encode(&actions).unwrap()
}

async fn history(seed: u64) -> (usize, usize) {
    let mut world = Box::pin(World::new(seed)).await;
    for _ in 0..14 {
        world.step().await;
    }
    world.p.faults.live();
    world.unit().await;
    world.time_travel().await;
    (world.p.landed, world.p.deaths)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_with_faults_ends_as_the_model() {
    let given = std::env::var("STRANDLINE_MODEL_SEEDS").unwrap_or_else(|_| "1..120".into());
    let (from, to) = match given.split_once("..") {
        Some((from, to)) => (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()),
        None => (given.parse().unwrap(), given.parse::<u64>().unwrap() + 1),
    };
    let (mut landed, mut deaths) = (0, 0);
    for seed in from..to {
        let (l, d) = match tokio::spawn(history(seed)).await {
            Ok(found) => found,
            Err(panic) => panic!("seed {seed}: {panic:?}"),
        };
        landed += l;
        deaths += d;
    }
    println!("{} seeds: {landed} compactions landed, {deaths} deaths", to - from);
    if to - from > 50 {
        assert!(landed > 20 && deaths > 20, "{landed} compactions, {deaths} deaths: it proves too little");
    }
}

/// An OPTIMIZE that read an older version and was put after ours brings deleted rows back: never taken in.
#[tokio::test(flavor = "multi_thread")]
async fn a_stale_optimize_of_somebody_else_stops_the_table() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let rows: Vec<Change> = (0..20).map(|i| Change::Insert(i, (Some("a".into()), None))).collect();
    table.stage(batch(&schema, &rows)).await.unwrap();
    table.commit(Interval { from: at(10), to: at(20) }).await.unwrap();
    let read = load(&lake.files, &lake.ids).await.unwrap();
    table.stage(batch(&schema, &[Change::Delete(3)])).await.unwrap();
    table.commit(Interval { from: at(20), to: at(30) }).await.unwrap();
    let stale = optimize(&lake.files, &["id", "name", "big"].map(String::from), read.files).await;
    foreign(&lake, read.version + 2, std::str::from_utf8(&stale).unwrap()).await;
    let refused = table.stage(batch(&schema, &[Change::Delete(4)])).await.unwrap_err();
    assert_eq!(code(refused), "TG012");
}

/// `RESTORE` puts rows and properties back, not the position.
#[tokio::test(flavor = "multi_thread")]
async fn what_we_say_of_a_table_set_back_stops_it() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    let loaded = load(&lake.files, &lake.ids).await.unwrap();
    let mut metadata = loaded.metadata;
    let mut state = TableState::new("shop", &schema, &Form::upsert());
    state.first_live_version = None;
    metadata.configuration.insert(state::KEY.into(), serde_json::to_string(&state).unwrap());
    let line = log::encode(&[log::Action::MetaData(metadata)]).unwrap();
    foreign(&lake, loaded.version + 1, std::str::from_utf8(&line).unwrap()).await;
    let refused = table.stage(batch(&schema, &[Change::Insert(1, (None, None))])).await.unwrap_err();
    assert_eq!(code(refused), "TG011");
}

/// A running pipeline's way: jobs in tasks, landed when they are ready; files stay few.
#[tokio::test(flavor = "multi_thread")]
async fn files_stay_few() {
    let lake = lake();
    let schema = schema(&[0]);
    let mut table = started(&lake, &schema).await;
    table.upkeep.policy = Some(Policy { crowd: 12, ..policy() });
    let (mut random, mut model, mut most) = (Random(5), BTreeMap::new(), 0);
    for unit in 0..150 {
        let changes: Vec<Change> = (0..10).map(|_| change(&mut random, &mut model)).collect();
        table.stage(batch(&schema, &changes)).await.unwrap();
        table.commit(Interval { from: at(10 + unit), to: at(11 + unit) }).await.unwrap();
        if table.upkeep.is_due() {
            table.upkeep_ready().await;
            table.upkeep().await.unwrap();
        }
        most = most.max(table.core.slots.iter().count());
    }
    assert_eq!(content(&lake.files, &lake.ids).await, model);
    assert!(most < 60, "{most} files");
    assert!(table.tally().jobs > 3, "{:?}", table.tally());
}
