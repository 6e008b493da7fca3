//! The writer against a model while the source's table changes: columns come, go, get other names and types, the key
//! changes, rows are rewritten; with units decoded before and after a change, updates that leave columns out, deaths
//! between any two file operations, compactions, an operator's optimize, cleaning and log checkpoints between them.
//! After each step the table holds exactly the model's rows, in columns that went, too.
//!
//! A failure names its seed: `STRANDLINE_EVOLVING_SEEDS=17 cargo test --lib evolving` runs it again,
//! `STRANDLINE_EVOLVING_SEEDS=1000..3000` runs many.

use super::super::clean::{self, Retention};
use super::super::names;
use super::super::table::{DataFile, columns_of, data_files, now_ms};
use super::model::options;
use super::process::{Called, Process, read_named, stored};
use super::*;
use crate::event::{ChunkKey, SnapshotPoint};
use crate::schema::change::{Change as Altered, Choice, Outline, Remedy, changes};
use crate::sink::write::Truncates;
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use std::collections::{BTreeSet, VecDeque};

mod alter;
mod source;

use alter::{ALTERS, Alter};
use source::{Cells, Col, Rows, Shape, Step, Type, batch_of};

struct World {
    p: Process,
    shape: Shape,
    form: Form,
    rows: Rows,
    dead: Rows,
    /// Columns of the Delta table: attribute numbers and names since the last copy.
    held: Names,
    /// Names that columns had since then.
    former: BTreeSet<String>,
    /// Chunks of a copy that is not whole.
    copied: Chunks,
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
    renames: usize,
    copies: usize,
    chunks: usize,
}

fn allowing() -> ChangePolicy {
    ChangePolicy { other: Choice::Apply, ..ChangePolicy::default() }
}

impl World {
    async fn new(seed: u64) -> World {
        let shape = Shape::first(seed);
        let mut options = options(seed);
        if seed / 9 % 3 == 1 {
            options = feed::fed(options);
        }
        options.column_mapping = seed / 2 % 2 == 1 && options.partition_by.is_empty();
        options.properties.insert("delta.checkpointInterval".into(), (2 + seed % 9).to_string());
        let schema = shape.schema();
        let form = Form::of(&options, &schema);
        let has_log = pair::log_of(&options, &schema).is_some();
        let held = shape.columns.iter().map(|c| (c.attnum, c.name.clone())).collect();
        World {
            p: Process::first(seed, options, &schema).await,
            shape,
            form,
            rows: Rows::new(),
            dead: Rows::new(),
            held,
            former: BTreeSet::new(),
            copied: Chunks::default(),
            position: 10,
            ordinal: 0,
            has_log,
            history: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// The target has these columns now, beside those that went.
    fn hold(&mut self, shape: &Shape) {
        for col in &shape.columns {
            let before = self.held.insert(col.attnum, col.name.clone());
            self.former.extend(before.filter(|name| *name != col.name));
        }
    }

    /// A new process. The table's position, and whether it wants a copy.
    async fn reopen(&mut self) -> (CommitLsn, bool) {
        self.open(OpenFor::Continue(allowing())).await
    }

    async fn open(&mut self, purpose: OpenFor) -> (CommitLsn, bool) {
        let record = self.p.open(&self.shape.schema(), purpose).await;
        self.copied = record.chunks;
        (record.position.unwrap(), record.outdated.is_some())
    }

    async fn check(&mut self, what: &str) {
        let loaded = load(&self.p.lake.files, &self.p.lake.ids).await.unwrap();
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
        let called = names::pairs(&loaded.metadata).unwrap();
        assert_eq!(self.form.layout.column_mapping, called.iter().any(|(name, stored)| name != stored));
        for file in &loaded.files {
            // Statistics and partition values speak of columns as files do.
            let stats: serde_json::Value = serde_json::from_str(file.add.stats.as_ref().unwrap()).unwrap();
            let told = ["minValues", "maxValues", "nullCount"].map(|part| stats[part].as_object().unwrap());
            let told = told.into_iter().flat_map(|part| part.keys()).chain(file.add.partition_values.keys());
            told.for_each(|name| assert!(called.iter().any(|(_, stored)| stored == name), "{name}"));
        }
        let read = (loaded.files, &called[..]);
        let (found, dead) = read_rows(&self.p.lake.files, self.form.mark(), read, &self.held).await;
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
        for _ in 0..=self.p.random.below(25) {
            steps.push(self.step_of(shape, rows, dead));
        }
        let first = self.ordinal;
        self.ordinal += steps.len() as u64;
        batch_of(shape, &steps, to - 1, first)
    }

    fn cell(&mut self, shape: &Shape, col: &Col) -> Option<String> {
        if shape.key.contains(&col.attnum) {
            return Some(col.kind.value(&mut self.p.random, 90));
        }
        let few = self.form.layout.partition_by.contains(&col.name);
        (self.p.random.below(5) > 0)
            .then(|| col.kind.value(&mut self.p.random, if few { 3 } else { 1_000_000 }))
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
        let kind = if rows.is_empty() { 0 } else { self.p.random.below(100) };
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
                let old = some(&mut self.p.random, rows);
                let mut row = self.fresh(shape, rows);
                let moves = self.p.random.below(4) == 0;
                let mut left_out = BTreeSet::new();
                for col in &shape.columns {
                    if shape.key.contains(&col.attnum) {
                        if !moves {
                            row.insert(col.attnum, old[&col.attnum].clone());
                        }
                    } else if self.p.random.below(2) == 0 {
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
                let old = some(&mut self.p.random, rows);
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
        let old_slices = self.p.random.below(2 + u64::from(alter.is_some()));
        let mut slices: Vec<ChangeBatch> =
            (0..=old_slices).map(|_| self.slice(&before, &mut next, to)).collect();
        let at_slice = self.p.random.below(slices.len() as u64 + 1) as usize;
        if let Some(new) = &alter {
            self.shape = new.clone();
            self.hold(new);
            for _ in 0..self.p.random.below(3) {
                let slice = self.slice(new, &mut next, to);
                slices.push(slice);
            }
        }
        let mut evolve = alter.as_ref().map(|new| (at_slice, new.schema()));
        let mut outcome = self.attempt(&slices, &mut evolve, to).await;
        // A change log beside a table may hold the unit already: what comes again is the same.
        while self.has_log && outcome.is_err() {
            self.p.died(&outcome.unwrap_err());
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
                self.p.died(&error);
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
                self.p.table().evolve(schema)?;
            }
            let Some(slice) = slices.get(i) else { break };
            self.p.table().stage(slice.clone()).await?;
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
            assert_eq!(self.reopen().await, (at(self.position), false));
        }
        self.check("upkeep").await;
    }

    /// The operator's own, beside the pipeline.
    async fn optimize(&mut self) {
        let sink = DeltaSink::open(&self.p.lake.uri, "shop", &StoreOptions::default()).unwrap();
        sink.optimize(&TableName::new("public", "t")).await.unwrap();
        self.check("an optimize").await;
    }

    async fn clean(&mut self) {
        if self.p.job.is_some() || self.p.compacted.is_some() {
            return;
        }
        let everything = Retention { files_ms: 0, log_ms: 0 };
        clean::clean(&self.p.lake.files, everything, now_ms() + 10_000, i64::MAX).await.unwrap();
        self.history.clear();
        self.check("cleaning").await;
    }

    async fn alter(&mut self) {
        let alter = ALTERS[self.p.random.below(ALTERS.len() as u64) as usize];
        let Some((shape, rows)) = self.altered(alter) else { return };
        let (then, now) = (self.shape.schema(), shape.schema());
        let rewritten = then.form.may_be_rewritten(now.form);
        let found = changes(&Outline::of(&then), &Outline::of(&now), rewritten);
        let remedy = allowing().remedy_where(&found, self.form.layout.column_mapping);
        // A name that a dropped column still has in the target, or that another column had.
        let remedy = if alter == Alter::AddAgain { Remedy::Copy } else { remedy };
        let renames = found.iter().any(|change| matches!(change, Altered::Renamed { .. }));
        self.tally.renames += usize::from(renames && remedy == Remedy::InPlace);
        assert_ne!(remedy, Remedy::Stop, "{alter:?}");
        if self.p.random.below(2) == 0 {
            // It changed while nobody looked.
            self.shape = shape;
            let (position, outdated) = self.reopen().await;
            assert_eq!(position, at(self.position));
            assert_eq!(outdated, remedy == Remedy::Copy, "{alter:?}");
            if outdated {
                self.copy(rows).await;
            } else {
                self.tally.in_place += 1;
                self.hold(&self.shape.clone());
                self.check("a change that nobody saw").await;
            }
        } else if remedy == Remedy::InPlace {
            self.tally.in_place += 1;
            self.unit(Some(shape)).await;
        } else {
            if alter == Alter::AddAgain {
                let refused = self.p.table().evolve(now).unwrap_err();
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
            if self.p.random.below(3) == 0 {
                self.p.faults.die_after(self.p.random.below(20) as i64);
            }
            let outcome = self.copy_once(&rows, to).await;
            match outcome {
                Ok(CommitOutcome::Committed { .. }) => break,
                Ok(CommitOutcome::Fenced { by }) => panic!("fenced by {by}"),
                Err(error) => self.p.died(&error),
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
        self.former.clear();
        self.check("a copy").await;
    }

    async fn copy_once(&mut self, rows: &Rows, to: u64) -> Result<CommitOutcome> {
        let whole = !self.p.table().takes_chunks() || self.copied.is_empty() && self.p.random.below(2) == 0;
        if whole {
            let part = self.written(rows.values().cloned().collect(), to)?;
            return self.p.table().commit_copy(at(to), vec![part], Base::Copied).await;
        }
        // Chunk by chunk; a process that dies goes on behind the last one.
        const CHUNKS: usize = 3;
        let all: Vec<Cells> = rows.values().cloned().collect();
        let mut outcome = None;
        while outcome.is_none() || !self.copied.is_whole() {
            let n = match self.copied.end() {
                Some(ChunkKey::Number(end)) => usize::try_from(*end).unwrap(),
                None => 0,
                other => panic!("{other:?}"),
            };
            let of = all
                .iter()
                .skip(n * all.len() / CHUNKS)
                .take((n + 1) * all.len() / CHUNKS - n * all.len() / CHUNKS);
            let part = self.written(of.cloned().collect(), to)?;
            let mut chunks = self.copied.clone();
            let end = (n + 1 < CHUNKS).then(|| ChunkKey::Number(n as i64 + 1));
            chunks.push(end, at(to), 1);
            let is_first = self.copied.is_empty();
            outcome = Some(self.p.table().commit_chunk(chunks.clone(), is_first, vec![part]).await?);
            self.copied = chunks;
            self.tally.chunks += 1;
        }
        self.copied = Chunks::default();
        Ok(outcome.unwrap())
    }

    fn written(&mut self, rows: Vec<Cells>, to: u64) -> Result<CopyPart> {
        let steps: Vec<Step> = rows.into_iter().map(Step::Insert).collect();
        let batch = batch_of(&self.shape, &steps, to, 0);
        let ops = vec![Op::Read; batch.len()];
        let point = SnapshotPoint { position: at(to), xid: None, time: None, is_first: true, is_last: true };
        let mut writer = self.p.table().copy_writer(&point)?;
        let unchanged = vec![None; batch.unchanged.len()];
        writer.write(ChangeBatch { ops, runs: vec![], before: None, unchanged, ..batch })?;
        writer.finish()
    }

    async fn step(&mut self) {
        if self.p.random.below(5) == 0 {
            self.p.faults.die_after(self.p.random.below(45) as i64);
        }
        match self.p.random.below(18) {
            0..6 => self.unit(None).await,
            6..11 => self.alter().await,
            11..15 => self.upkeep_or_death().await,
            15 => {
                self.p.faults.live();
                self.optimize().await;
            }
            16 => {
                self.p.faults.live();
                assert_eq!(self.reopen().await, (at(self.position), false));
            }
            _ => {
                self.p.faults.live();
                self.clean().await;
            }
        }
    }

    /// Older versions still read as they were.
    async fn time_travel(&mut self) {
        for (version, rows, held) in std::mem::take(&mut self.history) {
            let mut delta = self.p.lake.files.delta().unwrap();
            delta.load_version(u64::try_from(version).unwrap()).await.unwrap();
            let data = data_files(&self.p.lake.files, &delta).await.unwrap();
            let called = names::pairs(&table::metadata_of(&delta).unwrap()).unwrap();
            let found = read_rows(&self.p.lake.files, self.form.mark(), (data, &called), &held).await.0;
            assert_eq!(found, by_name(&rows, &held), "version {version}");
        }
    }
}

type Named = Vec<Vec<Option<String>>>;
type Names = BTreeMap<i16, String>;

/// Rows that stand, and those that are marked as deleted, as text by column.
async fn read_rows(
    files: &TableFiles,
    mark: Option<&str>,
    (mut data, called): (Vec<DataFile>, &Called),
    held: &Names,
) -> (Named, Named) {
    read_vectors(files, data.iter_mut()).await.unwrap();
    let (mut rows, mut dead) = (Named::new(), Named::new());
    for file in &data {
        let there = columns_of(files, &file.stored()).await.unwrap();
        let is_there = |name: &&str| there.index_of(&stored(called, &[name])[0]).is_ok();
        let columns: Vec<&str> = held.values().map(String::as_str).chain(mark).filter(is_there).collect();
        let mut number = 0;
        for batch in read_named(files, &file.stored(), &columns, called).await {
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
    world.p.faults.live();
    world.unit(None).await;
    world.time_travel().await;
    Tally { deaths: world.p.deaths, landed: world.p.landed, ..world.tally }
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
                all.renames += found.renames;
                all.copies += found.copies;
                all.chunks += found.chunks;
            }
            Err(panic) => failed.push(format!("seed {seed}: {panic:?}")),
        }
    }
    println!("{} seeds: {all:?}", to - from);
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed.join("\n"));
    if to - from > 50 {
        let enough = all.landed > 5 && all.deaths > 20 && all.in_place > 50 && all.copies > 50;
        let enough = enough && all.renames > 4 && all.chunks > 30;
        assert!(enough, "{all:?}: it proves too little");
    }
}
