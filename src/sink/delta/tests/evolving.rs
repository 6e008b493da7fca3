//! The writer against a model while the source's table changes: columns come, go, get other names and types, the key
//! changes, rows are rewritten; with units decoded before and after a change, updates that leave columns out, deaths
//! between any two file operations, compactions, an operator's optimize, cleaning and log checkpoints between them.
//! After each step the table holds exactly the model's rows, in columns that went, too.
//!
//! A failure names its seed: `STRANDLINE_EVOLVING_SEEDS=17 cargo test --lib evolving` runs it again,
//! `STRANDLINE_EVOLVING_SEEDS=1000..3000` runs many.

use super::super::clean::{self, Retention};
use super::super::compact::{Compacted, Job};
use super::super::faults::Faults;
use super::super::table::{DataFile, columns_of, data_files, now_ms};
use super::model::{options, policy, shared_memory};
use super::*;
use crate::event::SnapshotPoint;
use crate::schema::change::{Choice, Outline, Remedy, changes};
use crate::sink::write::Truncates;
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::AtomicBool;

mod alter;
mod source;

use alter::{ALTERS, Alter};
use source::{Cells, Col, Rows, Shape, Step, Type, batch_of};

struct World {
    lake: Lake,
    faults: Arc<Faults>,
    random: Random,
    shape: Shape,
    form: Form,
    table: Option<DeltaTable>,
    job: Option<Job>,
    compacted: Option<Compacted>,
    rows: Rows,
    dead: Rows,
    /// Columns of the Delta table: attribute numbers and names since the last copy.
    held: Names,
    position: u64,
    ordinal: u64,
    has_log: bool,
    history: VecDeque<(i64, Rows, Names)>,
    tally: Tally,
}

#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    deaths: usize,
    landed: usize,
    in_place: usize,
    copies: usize,
}

fn allowing() -> ChangePolicy {
    ChangePolicy { other: Choice::Apply, ..ChangePolicy::default() }
}

impl World {
    async fn new(seed: u64) -> World {
        let dir = shared_memory();
        let uri = format!("file://{}", dir.path().display());
        let faults = Arc::new(Faults::new(seed));
        let mut sink = DeltaSink::open(&uri, "shop", &StoreOptions::default()).unwrap();
        sink.storage.set_faults(&faults);
        sink = sink.with_cache(dir.path().join("cache"), if seed.is_multiple_of(4) { 0 } else { usize::MAX });
        let files = Storage::open(&uri, &StoreOptions::default()).unwrap().table(&["public", "t"]).unwrap();
        let shape = Shape::first(seed);
        let mut options = options(seed);
        if seed / 9 % 3 == 1 {
            options = feed::fed(options);
        }
        options.properties.insert("delta.checkpointInterval".into(), (2 + seed % 9).to_string());
        let form = Form::of(&options, &shape.schema());
        let has_log = pair::log_of(&options, &shape.schema()).is_some();
        sink = sink.with_choices(WriteChoices { default: options, ..WriteChoices::default() });
        let lake = Lake { _dir: dir, uri, sink, files, ids: log::AppIds::new("shop") };
        let (mut table, _) = lake.open(&shape.schema()).await;
        table.upkeep.policy = None;
        table.commit_copy(at(10), vec![], Base::Copied).await.unwrap();
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        if random.below(3) == 0 {
            faults.lose_replies(4);
        }
        let held = shape.columns.iter().map(|c| (c.attnum, c.name.clone())).collect();
        World {
            lake,
            faults,
            random,
            shape,
            form,
            table: Some(table),
            job: None,
            compacted: None,
            rows: Rows::new(),
            dead: Rows::new(),
            held,
            position: 10,
            ordinal: 0,
            has_log,
            history: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    fn table(&mut self) -> &mut DeltaTable {
        self.table.as_mut().unwrap()
    }

    /// A new process, until one lives long enough to open the table. Its position, and whether it wants a copy.
    async fn reopen(&mut self) -> (CommitLsn, bool) {
        self.open(OpenFor::Continue(allowing())).await
    }

    async fn open(&mut self, purpose: OpenFor) -> (CommitLsn, bool) {
        self.table = None;
        (self.job, self.compacted) = (None, None);
        let schema = self.shape.schema();
        loop {
            self.faults.live();
            if self.random.below(4) == 0 {
                self.faults.die_after(self.random.below(12) as i64);
            }
            let opened = async {
                let (lease, _) = self.lake.sink.take_over().await?;
                self.lake.sink.open_table(&lease, schema.clone(), purpose, None).await
            };
            match opened.await {
                Ok((mut table, record)) => {
                    self.faults.live();
                    table.upkeep.policy = None;
                    self.table = Some(table);
                    return (record.position.unwrap(), record.outdated.is_some());
                }
                Err(error) => assert!(self.faults.is_dead() || error.code() == codes::TG001, "{error:?}"),
            }
        }
    }

    fn died(&mut self, error: &Error) {
        assert!(self.faults.is_dead(), "{error:?}");
        self.tally.deaths += 1;
    }

    async fn check(&mut self, what: &str) {
        let loaded = load(&self.lake.files, &self.lake.ids).await.unwrap();
        if self.form.mode == Mode::CopyOnWrite {
            assert!(loaded.files.iter().all(|file| file.add.deletion_vector.is_none()), "after {what}");
        }
        let ours = self.form.schema(&self.shape.schema());
        let ours = ours.columns.iter().filter(|c| layout::is_ours(c)).map(|c| c.name.clone());
        let expected: BTreeSet<String> = self.held.values().cloned().chain(ours).collect();
        let schema: serde_json::Value = serde_json::from_str(&loaded.metadata.schema_string).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        let found: BTreeSet<String> = fields.iter().map(|f| f["name"].as_str().unwrap().into()).collect();
        // What is followed in place stands in the next commit.
        assert!(found.is_subset(&expected), "after {what}: {found:?}, {expected:?}");
        let (found, dead) = read(&self.lake.files, self.form.mark(), loaded.files, &self.held).await;
        assert_eq!(found, by_name(&self.rows, &self.held), "after {what}");
        assert_eq!(dead, by_name(&self.dead, &self.held), "dead after {what}");
        self.history.push_back((loaded.version, self.rows.clone(), self.held.clone()));
        while self.history.len() > 6 {
            self.history.pop_front();
        }
    }

    /// Changes of a slice that is decoded by `shape`, applied to the rows.
    fn slice(&mut self, shape: &Shape, (rows, dead): &mut (Rows, Rows), to: u64) -> ChangeBatch {
        let mut steps = Vec::new();
        for _ in 0..=self.random.below(25) {
            steps.push(self.step_of(shape, rows, dead));
        }
        let first = self.ordinal;
        self.ordinal += steps.len() as u64;
        batch_of(shape, &steps, to - 1, first)
    }

    fn cell(&mut self, shape: &Shape, col: &Col) -> Option<String> {
        if shape.key.contains(&col.attnum) {
            return Some(col.kind.value(&mut self.random, 90));
        }
        let few = self.form.layout.partition_by.contains(&col.name);
        (self.random.below(5) > 0).then(|| col.kind.value(&mut self.random, if few { 3 } else { 1_000_000 }))
    }

    fn fresh(&mut self, shape: &Shape, rows: &Rows) -> Cells {
        loop {
            let columns = shape.columns.clone();
            let cells: Cells = columns.iter().map(|col| (col.attnum, self.cell(shape, col))).collect();
            if !rows.contains_key(&shape.key_of(&cells)) {
                return cells;
            }
        }
    }

    fn step_of(&mut self, shape: &Shape, rows: &mut Rows, dead: &mut Rows) -> Step {
        let kind = if rows.is_empty() { 0 } else { self.random.below(100) };
        let room = rows.len() < 60;
        let some = |random: &mut Random, rows: &Rows| {
            rows.values().nth(random.below(rows.len() as u64) as usize).unwrap().clone()
        };
        match kind {
            0..35 if room => {
                let row = self.fresh(shape, rows);
                dead.remove(&shape.key_of(&row));
                rows.insert(shape.key_of(&row), row.clone());
                Step::Insert(row)
            }
            35..75 => {
                let old = some(&mut self.random, rows);
                let mut row = self.fresh(shape, rows);
                let moves = self.random.below(4) == 0;
                let mut left_out = BTreeSet::new();
                for col in &shape.columns {
                    if shape.key.contains(&col.attnum) {
                        if !moves {
                            row.insert(col.attnum, old[&col.attnum].clone());
                        }
                    } else if self.random.below(2) == 0 {
                        row.insert(col.attnum, old.get(&col.attnum).cloned().flatten());
                        left_out.insert(col.attnum);
                    }
                }
                rows.remove(&shape.key_of(&old));
                if moves && self.form.is_soft() {
                    dead.insert(shape.key_of(&old), shape.only(&old));
                }
                dead.remove(&shape.key_of(&row));
                rows.insert(shape.key_of(&row), row.clone());
                Step::Update(old, row, left_out)
            }
            98.. => {
                if self.form.truncates == Truncates::Apply {
                    dead.clear();
                } else {
                    dead.extend(rows.iter().map(|(key, row)| (key.clone(), shape.only(row))));
                }
                rows.clear();
                Step::Truncate
            }
            _ => {
                let old = some(&mut self.random, rows);
                rows.remove(&shape.key_of(&old));
                if self.form.is_soft() {
                    dead.insert(shape.key_of(&old), shape.only(&old));
                }
                Step::Delete(old)
            }
        }
    }

    /// A unit, in the middle of which the table may change in a way that is followed in place.
    async fn unit(&mut self, alter: Option<Shape>) {
        let before = self.shape.clone();
        let to = self.position + 5;
        let mut next = (self.rows.clone(), self.dead.clone());
        let old_slices = self.random.below(2 + u64::from(alter.is_some()));
        let mut slices: Vec<ChangeBatch> =
            (0..=old_slices).map(|_| self.slice(&before, &mut next, to)).collect();
        let at_slice = self.random.below(slices.len() as u64 + 1) as usize;
        if let Some(new) = &alter {
            self.shape = new.clone();
            self.held.extend(new.columns.iter().map(|c| (c.attnum, c.name.clone())));
            for _ in 0..self.random.below(3) {
                let slice = self.slice(new, &mut next, to);
                slices.push(slice);
            }
        }
        let mut evolve = alter.as_ref().map(|new| (at_slice, new.schema()));
        let mut outcome = self.attempt(&slices, &mut evolve, to).await;
        // A change log beside a table may hold the unit already: what comes again is the same.
        while self.has_log && outcome.is_err() {
            self.died(&outcome.unwrap_err());
            let (position, outdated) = self.reopen().await;
            assert!(!outdated);
            if position == at(to) {
                outcome = Ok(CommitOutcome::Committed { version: 0 });
                break;
            }
            outcome = self.attempt(&slices, &mut None, to).await;
        }
        match outcome {
            Ok(CommitOutcome::Committed { .. }) => ((self.rows, self.dead), self.position) = (next, to),
            Ok(CommitOutcome::Fenced { by }) => panic!("fenced by {by}"),
            Err(error) => {
                self.died(&error);
                let (position, outdated) = self.reopen().await;
                assert!(!outdated, "what is followed in place is followed at the start, too");
                if position == at(to) {
                    ((self.rows, self.dead), self.position) = (next, to);
                } else {
                    assert_eq!(position, at(self.position));
                }
            }
        }
        self.check("a unit").await;
    }

    async fn attempt(
        &mut self,
        slices: &[ChangeBatch],
        evolve: &mut Option<(usize, Arc<TableSchema>)>,
        to: u64,
    ) -> Result<CommitOutcome> {
        for i in 0..=slices.len() {
            if let Some((_, schema)) = evolve.take_if(|(at, _)| *at == i) {
                self.table().evolve(schema)?;
            }
            let Some(slice) = slices.get(i) else { break };
            self.table().stage(slice.clone()).await?;
            if self.random.below(3) == 0 {
                self.upkeep().await?;
            }
        }
        let interval = Interval { from: at(self.position), to: at(to) };
        self.table().commit(interval).await
    }

    async fn upkeep(&mut self) -> Result<()> {
        if let Some(compacted) = self.compacted.take() {
            assert_eq!(self.table().land(compacted).await?, None);
            self.tally.landed += 1;
        } else if let Some(job) = self.job.take() {
            self.compacted = Some(job.run().await?);
        } else {
            if !self.table().is_open {
                self.table().catch_up().await?;
            }
            self.job = Job::plan(&self.table().core, &policy(), Arc::new(AtomicBool::new(false)));
        }
        Ok(())
    }

    async fn upkeep_or_death(&mut self) {
        if let Err(error) = self.upkeep().await {
            self.died(&error);
            assert_eq!(self.reopen().await, (at(self.position), false));
        }
        self.check("upkeep").await;
    }

    /// The operator's own, beside the pipeline.
    async fn optimize(&mut self) {
        let sink = DeltaSink::open(&self.lake.uri, "shop", &StoreOptions::default()).unwrap();
        sink.optimize(&TableName::new("public", "t")).await.unwrap();
        self.check("an optimize").await;
    }

    async fn clean(&mut self) {
        if self.job.is_some() || self.compacted.is_some() {
            return;
        }
        let everything = Retention { files_ms: 0, log_ms: 0 };
        clean::clean(&self.lake.files, everything, now_ms() + 10_000, i64::MAX).await.unwrap();
        self.history.clear();
        self.check("cleaning").await;
    }

    async fn alter(&mut self) {
        let alter = ALTERS[self.random.below(ALTERS.len() as u64) as usize];
        let Some((shape, rows)) = self.altered(alter) else { return };
        let (then, now) = (self.shape.schema(), shape.schema());
        let rewritten = then.form.may_be_rewritten(now.form);
        let remedy = allowing().remedy(&changes(&Outline::of(&then), &Outline::of(&now), rewritten));
        // A name that a dropped column still has in the target.
        let remedy = if alter == Alter::AddAgain { Remedy::Copy } else { remedy };
        assert_ne!(remedy, Remedy::Stop, "{alter:?}");
        if self.random.below(2) == 0 {
            // It changed while nobody looked.
            self.shape = shape;
            let (position, outdated) = self.reopen().await;
            assert_eq!(position, at(self.position));
            assert_eq!(outdated, remedy == Remedy::Copy, "{alter:?}");
            if outdated {
                self.copy(rows).await;
            } else {
                self.tally.in_place += 1;
                self.held.extend(self.shape.columns.iter().map(|c| (c.attnum, c.name.clone())));
                self.check("a change that nobody saw").await;
            }
        } else if remedy == Remedy::InPlace {
            self.tally.in_place += 1;
            self.unit(Some(shape)).await;
        } else {
            if alter == Alter::AddAgain {
                let refused = self.table().evolve(now).unwrap_err();
                assert_eq!(refused.code(), codes::PG022);
            }
            self.shape = shape;
            self.open(OpenFor::Replace).await;
            self.copy(rows).await;
        }
    }

    /// Copies the table anew, in as many processes as it takes.
    async fn copy(&mut self, rows: Rows) {
        let to = self.position + 5;
        self.tally.copies += 1;
        loop {
            if self.random.below(3) == 0 {
                self.faults.die_after(self.random.below(20) as i64);
            }
            let outcome = self.copy_once(&rows, to).await;
            match outcome {
                Ok(CommitOutcome::Committed { .. }) => break,
                Ok(CommitOutcome::Fenced { by }) => panic!("fenced by {by}"),
                Err(error) => self.died(&error),
            }
            let (position, outdated) = self.reopen().await;
            if position == at(to) && !outdated {
                break;
            }
            assert!(outdated, "a table that must be copied again goes on");
        }
        (self.rows, self.position) = (rows, to);
        self.dead.clear();
        self.held = self.shape.columns.iter().map(|c| (c.attnum, c.name.clone())).collect();
        self.check("a copy").await;
    }

    async fn copy_once(&mut self, rows: &Rows, to: u64) -> Result<CommitOutcome> {
        let steps: Vec<Step> = rows.values().cloned().map(Step::Insert).collect();
        let batch = batch_of(&self.shape, &steps, to, 0);
        let ops = vec![Op::Read; batch.len()];
        let point = SnapshotPoint { position: at(to), xid: None, time: None, is_first: true, is_last: true };
        let mut writer = self.table().copy_writer(&point)?;
        let unchanged = vec![None; batch.unchanged.len()];
        writer.write(ChangeBatch { ops, runs: vec![], before: None, unchanged, ..batch })?;
        let part = writer.finish()?;
        self.table().commit_copy(at(to), vec![part], Base::Copied).await
    }

    async fn step(&mut self) {
        if self.random.below(5) == 0 {
            self.faults.die_after(self.random.below(45) as i64);
        }
        match self.random.below(18) {
            0..6 => self.unit(None).await,
            6..11 => self.alter().await,
            11..15 => self.upkeep_or_death().await,
            15 => {
                self.faults.live();
                self.optimize().await;
            }
            16 => {
                self.faults.live();
                assert_eq!(self.reopen().await, (at(self.position), false));
            }
            _ => {
                self.faults.live();
                self.clean().await;
            }
        }
    }

    /// Older versions still read as they were.
    async fn time_travel(&mut self) {
        for (version, rows, held) in std::mem::take(&mut self.history) {
            let mut delta = self.lake.files.delta().unwrap();
            delta.load_version(u64::try_from(version).unwrap()).await.unwrap();
            let data = data_files(&self.lake.files, &delta).await.unwrap();
            assert_eq!(
                read(&self.lake.files, self.form.mark(), data, &held).await.0,
                by_name(&rows, &held),
                "version {version}"
            );
        }
    }
}

type Named = Vec<Vec<Option<String>>>;
type Names = BTreeMap<i16, String>;

/// Rows that stand, and those that are marked as deleted, as text by column.
async fn read(
    files: &TableFiles,
    mark: Option<&str>,
    mut data: Vec<DataFile>,
    held: &Names,
) -> (Named, Named) {
    read_vectors(files, data.iter_mut()).await.unwrap();
    let (mut rows, mut dead) = (Named::new(), Named::new());
    for file in &data {
        let there = columns_of(files, &file.stored()).await.unwrap();
        let mut names: Vec<String> = held.values().cloned().collect();
        names.extend(mark.map(String::from));
        names.retain(|name| there.index_of(name).is_ok());
        let mut number = 0;
        for batch in read_columns(files, &file.stored(), &names, None).await.unwrap() {
            let batch = batch.unwrap();
            for i in 0..batch.num_rows() {
                if !file.deleted.as_ref().unwrap().contains(number) {
                    let value = |name: &String| batch.column_by_name(name).and_then(|c| text_at(c, i));
                    let row: Vec<_> = held.values().map(value).collect();
                    let is_dead = mark.is_some_and(|mark| value(&mark.into()).unwrap() == "true");
                    (if is_dead { &mut dead } else { &mut rows }).push(row);
                }
                number += 1;
            }
        }
        assert_eq!(number, file.rows);
    }
    rows.sort_unstable();
    dead.sort_unstable();
    (rows, dead)
}

fn by_name(rows: &Rows, held: &Names) -> Named {
    let row = |cells: &Cells| held.keys().map(|attnum| cells.get(attnum).cloned().flatten()).collect();
    let mut named: Named = rows.values().map(row).collect();
    named.sort_unstable();
    named
}

fn text_at(column: &ArrayRef, row: usize) -> Option<String> {
    column.is_valid(row).then(|| match column.data_type() {
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        other => panic!("{other}"),
    })
}

async fn history(seed: u64) -> Tally {
    let mut world = World::new(seed).await;
    for _ in 0..14 {
        world.step().await;
    }
    world.faults.live();
    world.unit(None).await;
    world.time_travel().await;
    world.tally
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_history_of_a_table_that_changes_ends_as_the_model() {
    let given = std::env::var("STRANDLINE_EVOLVING_SEEDS").unwrap_or_else(|_| "1..80".into());
    let (from, to) = match given.split_once("..") {
        Some((from, to)) => (from.parse::<u64>().unwrap(), to.parse::<u64>().unwrap()),
        None => (given.parse().unwrap(), given.parse::<u64>().unwrap() + 1),
    };
    let (mut all, mut failed) = (Tally::default(), Vec::new());
    for seed in from..to {
        match tokio::spawn(history(seed)).await {
            Ok(found) => {
                all.deaths += found.deaths;
                all.landed += found.landed;
                all.in_place += found.in_place;
                all.copies += found.copies;
            }
            Err(panic) => failed.push(format!("seed {seed}: {panic:?}")),
        }
    }
    println!("{} seeds: {all:?}", to - from);
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join("\n"));
    if to - from > 50 {
        let enough = all.landed > 5 && all.deaths > 20 && all.in_place > 50 && all.copies > 50;
        assert!(enough, "{all:?}: it proves too little");
    }
}
