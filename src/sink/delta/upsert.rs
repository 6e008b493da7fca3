//! Tables with a key: MERGE by index and deletion vectors.
//!
//! A commit writes the unit's new row versions, one file of deletion vectors for everything they replace,
//! and one log entry. What it costs is what changed, not what the table holds.

use super::amend::{self, Amending};
use super::cdc::{self, Net};
use super::commit::{Core, PutEnd, loosened};
use super::compact::conform;
use super::dv::VectorFile;
use super::exact::{self, Rewritten};
use super::index::{Builder, KeyMap, Place};
use super::keys::{self, Key};
use super::log::{self, Action};
use super::moves::Moved;
use super::saved;
use super::state::Mode;
use super::table::{DataFile, now_ms, read_columns, read_vectors};
use super::unit::Unit;
use super::writers::finish_all;
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op};
use crate::position::landing::Planned;
use crate::position::{CommitLsn, Interval};
use crate::sink::write::Truncates;
use crate::sink::{CommitOutcome, table_error};
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Entries of the index that a commit corrects after files were rewritten, about.
const SWEPT: usize = 1 << 16;

/// The index is saved at most so often.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Index and open unit.
pub(super) struct Upsert<K> {
    /// `None`: not built yet, or in doubt.
    pub index: Option<KeyMap<K>>,
    /// What is staged.
    pub unit: Unit<K>,
    /// A request to put rows right, which is being met.
    pub amending: Option<Amending<K>>,
    /// How often rows got other places than the index gave them.
    pub places: u64,
    saving: Option<JoinHandle<()>>,
    save_at: Option<Instant>,
}

impl<K: Key> Default for Upsert<K> {
    fn default() -> Self {
        Upsert { index: None, unit: Unit::default(), amending: None, places: 0, saving: None, save_at: None }
    }
}

/// A planned commit, and what it makes of the files.
struct Plan {
    bytes: Vec<u8>,
    changed: Vec<(u32, Option<DataFile>)>,
    /// New files; `None` for one that the unit itself emptied again, or that was rewritten.
    added: Vec<Option<DataFile>>,
    /// What was rewritten, where there are no deletion vectors.
    rewritten: Option<Rewritten>,
}

impl<K: Key> Upsert<K> {
    /// Stages a slice.
    ///
    /// # Errors
    /// As [`Unit::stage`], and those of building the index.
    pub(super) async fn stage(&mut self, core: &mut Core, batch: &ChangeBatch) -> Result<()> {
        self.build_index(core).await?;
        if let Some(amending) = &mut self.amending {
            amending.note(batch)?;
        }
        if core.amended().is_some() && !amend::moves::<K>(batch)?.is_empty() {
            // A value of a part to come may be behind the mark now: who starts anew begins with the first part.
            core.mark_amended(None)?;
        }
        if core.form.truncates == Truncates::Soft && batch.ops.contains(&Op::Truncate) {
            return self.stage_marking(core, batch).await;
        }
        self.stage_plain(core, batch).await
    }

    /// Commits what was staged.
    ///
    /// # Errors
    /// As [`Core::put`].
    pub(super) async fn commit(&mut self, core: &mut Core, interval: Interval) -> Result<CommitOutcome> {
        // The data file is synced while the deletion vectors are written.
        let mut syncing = Some(tokio::spawn(finish_all(self.unit.close_files_apart()?)));
        if cfg!(test) {
            // There the steps are counted.
            whole(syncing.take()).await?;
        }
        self.build_index(core).await?;
        loop {
            core.ripen(interval.to)?;
            let planned = Planned { version: core.version, epoch: core.epoch, interval };
            if let Some(index) = &self.index {
                index.check()?;
            }
            let exact = core.form.mode == Mode::CopyOnWrite;
            if exact || cdc::is_on(core) {
                // What is whole can be read.
                whole(syncing.take()).await?;
            }
            let plan = if exact {
                self.plan_exact(core, planned).await?
            } else {
                let plan = self.plan(core, planned).await;
                whole(syncing.take()).await?;
                plan?
            };
            match core.put(planned, plan.bytes.into()).await? {
                PutEnd::Landed => {
                    self.publish(core, plan.changed, plan.added, plan.rewritten);
                    core.advance(interval.to);
                    if let Some(index) = &mut self.index {
                        index.sweep(SWEPT);
                    }
                    return Ok(CommitOutcome::Committed { version: core.version });
                }
                PutEnd::Fenced { by } => return Ok(CommitOutcome::Fenced { by }),
                PutEnd::PlanAgain => {
                    if let Some(by) = core.reload().await? {
                        return Ok(CommitOutcome::Fenced { by });
                    }
                    self.index_again(core).await?;
                }
            }
        }
    }

    /// Somebody else rewrote files: the index is built on what is there, and the open unit stands on it.
    ///
    /// # Errors
    /// Those of building the index.
    pub(super) async fn index_again(&mut self, core: &mut Core) -> Result<()> {
        let had_index = self.index.take().is_some();
        self.places += 1;
        if !had_index {
            return Ok(());
        }
        self.build_index(core).await?;
        if let Some(index) = &self.index {
            self.unit.rebase(index);
        }
        Ok(())
    }

    /// We rewrote files: entries and the open unit are led on.
    pub(super) fn lead_on(&mut self, moved: Vec<(u32, Moved)>) {
        self.places += 1;
        let Some(index) = &mut self.index else { return };
        for (file, moved) in moved {
            index.lead_on(file, moved);
        }
        self.unit.rebase(index);
    }

    /// Forgets what was staged.
    pub(super) fn discard(&mut self) {
        self.unit = Unit::default();
    }

    /// The index is in doubt.
    pub(super) fn forget_index(&mut self) {
        self.index = None;
    }

    /// Bytes of the index.
    pub(super) fn index_bytes(&self) -> usize {
        self.index.as_ref().map_or(0, KeyMap::bytes)
    }

    async fn plan(&mut self, core: &Core, planned: Planned) -> Result<Plan> {
        let now = now_ms();
        let mut actions = core.head("MERGE", planned, now)?;
        if let Some(net) = Net::of(core, &self.unit)? {
            actions.extend(net.tell(core).await?);
        }
        let mut vectors = VectorFile::new();
        let mut changed = Vec::new();
        if self.unit.truncated {
            for (number, file) in core.live_files() {
                actions.push(Action::Remove(file.remove(now, true)));
                changed.push((number, None));
            }
        } else {
            let mut touched: Vec<_> = self.unit.touched().into_iter().collect();
            touched.sort_unstable_by_key(|(number, _)| *number);
            for (number, rows) in touched {
                let after = without(core, number, &rows, &mut vectors)?;
                let before = core.slots.get(number);
                actions.extend(before.map(|file| Action::Remove(file.remove(now, true))));
                actions.extend(after.as_ref().map(|file| Action::Add(file.add.clone())));
                changed.push((number, after));
            }
        }
        let mut added = Vec::with_capacity(self.unit.files.len());
        for file in &self.unit.files {
            let finished = file
                .finished
                .as_ref()
                .ok_or_else(|| Error::new(codes::RT001, "a unit's file is still open"))?;
            let file = new_file(finished, &file.masked, &mut vectors, now)?;
            actions.extend(file.as_ref().map(|file| Action::Add(file.add.clone())));
            added.push(file);
        }
        if !vectors.is_empty() {
            let name = vectors.name();
            core.files.put(&name, vectors.into_bytes()).await?;
        }
        if changed.iter().any(|(_, file)| file.is_some()) || !added.is_empty() {
            core.files.sync_names()?;
        }
        Ok(Plan { bytes: log::encode(&actions)?, changed, added, rewritten: None })
    }

    /// As [`Upsert::plan`], without deletion vectors.
    async fn plan_exact(&mut self, core: &Core, planned: Planned) -> Result<Plan> {
        let now = now_ms();
        let mut actions = core.head("MERGE", planned, now)?;
        if let Some(net) = Net::of(core, &self.unit)? {
            actions.extend(net.tell(core).await?);
        }
        let touched = if self.unit.truncated { HashMap::new() } else { self.unit.touched() };
        let rewritten = exact::rewrite(core, touched, &self.unit.files).await?;
        let mut changed = Vec::new();
        for (number, file) in core.live_files() {
            if self.unit.truncated || rewritten.left.contains(&number) {
                actions.push(Action::Remove(file.remove(now, true)));
                changed.push((number, None));
            }
        }
        let mut added = Vec::with_capacity(self.unit.files.len());
        for (i, file) in self.unit.files.iter().enumerate() {
            let finished = file.finished.as_ref().filter(|_| !rewritten.holds(i));
            let mut none = VectorFile::new();
            let file = match finished {
                Some(finished) => new_file(finished, &file.masked, &mut none, now)?,
                None => None,
            };
            actions.extend(file.as_ref().map(|file| Action::Add(file.add.clone())));
            added.push(file);
        }
        actions.extend(rewritten.files.iter().map(|file| Action::Add(file.add.clone())));
        if !added.is_empty() || !rewritten.files.is_empty() {
            core.files.sync_names()?;
        }
        Ok(Plan { bytes: log::encode(&actions)?, changed, added, rewritten: Some(rewritten) })
    }

    fn publish(
        &mut self,
        core: &mut Core,
        changed: Vec<(u32, Option<DataFile>)>,
        added: Vec<Option<DataFile>>,
        rewritten: Option<Rewritten>,
    ) {
        for (number, file) in changed {
            core.slots.set(number, file);
        }
        let mut numbers = Vec::with_capacity(added.len());
        for file in added {
            numbers.push(core.slots.push(file));
        }
        let led = rewritten.map(|mut rewritten| {
            let files = std::mem::take(&mut rewritten.files);
            let new: Vec<u32> = files.into_iter().map(|file| core.slots.push(Some(file))).collect();
            rewritten.led(&new)
        });
        let unit = std::mem::take(&mut self.unit);
        self.places += u64::from(unit.truncated || led.is_some());
        if let Some(index) = &mut self.index {
            // Rows that went nowhere lose their entries before the rest is led on.
            unit.publish(index, &numbers, led.as_ref());
            for (number, moved) in led.map(|led| led.table).unwrap_or_default() {
                index.lead_on(number, moved);
            }
        }
    }

    /// Builds the index from the key columns, through the deletion vectors, unless it is there.
    ///
    /// # Errors
    /// `TG016` for a key that stands twice; `TG020`, `TG001`.
    pub(super) async fn build_index(&mut self, core: &mut Core) -> Result<()> {
        if self.index.is_none() {
            let (index, was_saved) = build(core).await?;
            self.index = Some(index);
            self.save_at = Some(Instant::now() + if was_saved { SAVE_EVERY } else { Duration::ZERO });
        }
        Ok(())
    }

    /// Saves the index beside the commits, when it is time.
    pub(super) fn save(&mut self, core: &Core) {
        let is_saving = self.saving.as_ref().is_some_and(|task| !task.is_finished());
        let Some(index) = &self.index else { return };
        if is_saving || self.save_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        let Some(plan) = saved::plan(core, index.len(), || index.snapshot()) else { return };
        self.save_at = Some(Instant::now() + SAVE_EVERY);
        let name = core.schema.name.to_string();
        self.saving = Some(tokio::task::spawn_blocking(move || match plan.write() {
            Ok(bytes) => tracing::debug!(table = %name, bytes, "index saved"),
            Err(e) => tracing::warn!(table = %name, "the index was not saved: {e}"),
        }));
    }
}

/// Waits until the files are whole.
async fn whole(syncing: Option<JoinHandle<Result<()>>>) -> Result<()> {
    match syncing {
        None => Ok(()),
        Some(task) => {
            task.await.map_err(|e| Error::new(codes::RT001, "syncing a data file broke").with_source(e))?
        }
    }
}

/// The index of what is there, and whether a saved one served.
async fn build<K: Key>(core: &mut Core) -> Result<(KeyMap<K>, bool)> {
    let started = Instant::now();
    read_vectors(&core.files, core.slots.iter_mut()).await?;
    let live = |f: &DataFile| u64::from(f.rows) - f.deleted.as_ref().map_or(0, RoaringBitmap::len);
    let rows: u64 = core.live_files().map(|(_, f)| live(f)).sum();
    let room = usize::try_from(rows).unwrap_or(0);
    if let Some(found) = tokio::task::block_in_place(|| saved::load::<K>(core, room)) {
        let mut builder = found.builder;
        let read = read_keys(core, &mut builder, |number| !found.covered.contains(&number)).await?;
        let index = tokio::task::block_in_place(|| builder.finish())?;
        if let Some(index) = index.filter(|_| found.entries + read == rows) {
            tracing::debug!(
                table = %core.schema.name, keys = index.len(), bytes = index.bytes(), read,
                ms = started.elapsed().as_millis(), "index loaded"
            );
            return Ok((index, true));
        }
        tracing::warn!(table = %core.schema.name, "the saved index does not fit the table; it is built anew");
    }
    let mut builder = Builder::new(room, core.budget.clone());
    read_keys(core, &mut builder, |_| true).await?;
    let index = tokio::task::block_in_place(|| builder.finish())?.ok_or_else(|| {
        table_error(&core.schema.name, codes::TG016, "a key stands in it twice")
            .with_try(format!("strandline resync \"{}\" --yes", core.schema.name))
    })?;
    tracing::debug!(
        table = %core.schema.name, keys = index.len(), bytes = index.bytes(),
        ms = started.elapsed().as_millis(), "index built"
    );
    Ok((index, false))
}

/// Reads the keys of live rows of the wanted files; how many.
async fn read_keys<K: Key>(
    core: &Core,
    builder: &mut Builder<K>,
    wanted: impl Fn(u32) -> bool,
) -> Result<u64> {
    let mut read = 0;
    let columns: Vec<String> = core.stored.key.iter().map(|&i| core.stored.columns[i].name.clone()).collect();
    for (number, file) in core.live_files().filter(|(number, _)| wanted(*number)) {
        let mut row = 0u32;
        let none = RoaringBitmap::new();
        let deleted = file.deleted.as_ref().unwrap_or(&none);
        let mut batches = read_columns(&core.files, &file.stored(), &columns, None).await?;
        while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
            let batch = typed(batch?, core)?;
            // The reader gives columns in the file's order; find each key column by its name.
            let at = key_positions(&batch, &columns, core)?;
            let end = row + u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            let mut alive = vec![true; batch.num_rows()];
            for gone in deleted.range(row..end) {
                alive[(gone - row) as usize] = false;
            }
            let found = keys::extract::<K>(&core.stored, &at, &batch, |i| alive[i])?;
            for ((row, key), _) in (row..).zip(found).zip(&alive).filter(|(_, alive)| **alive) {
                builder.push(key, Place { file: number, row });
                read += 1;
            }
            row = end;
        }
    }
    Ok(read)
}

/// What the rows of a partition share comes as texts.
fn typed(batch: RecordBatch, core: &Core) -> Result<RecordBatch> {
    if core.metadata.partition_columns.is_empty() {
        return Ok(batch);
    }
    let schema = &core.stored.arrow;
    let fields = batch.schema();
    let fields = fields.fields().iter().map(|field| schema.field_with_name(field.name()).cloned());
    let fields = fields.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| {
        table_error(&core.schema.name, codes::TG020, "a key column is not known").with_source(e)
    })?;
    conform(&batch, &Arc::new(Schema::new(fields)))
}

fn key_positions(batch: &RecordBatch, names: &[String], core: &Core) -> Result<Vec<usize>> {
    names
        .iter()
        .map(|name| {
            batch.schema().index_of(name).map_err(|e| {
                table_error(&core.schema.name, codes::TG020, "a data file lacks a key column").with_source(e)
            })
        })
        .collect()
}

/// The file with more rows gone; `None` when none is left.
fn without(
    core: &Core,
    number: u32,
    rows: &RoaringBitmap,
    vectors: &mut VectorFile,
) -> Result<Option<DataFile>> {
    let file = core
        .slots
        .get(number)
        .ok_or_else(|| Error::new(codes::RT001, "the index points at a file that is not in the table"))?;
    let before =
        file.deleted.as_ref().ok_or_else(|| Error::new(codes::RT001, "a deletion vector was not read"))?;
    let deleted = before | rows;
    if deleted.len() != before.len() + rows.len() {
        return Err(Error::new(codes::RT001, "the index points at a row that is already gone"));
    }
    if deleted.len() == u64::from(file.rows) {
        return Ok(None);
    }
    let mut add = file.add.clone();
    add.data_change = true;
    add.stats = Some(loosened(add.stats.as_deref(), file.rows));
    add.deletion_vector = Some(vectors.push(&deleted)?);
    Ok(Some(DataFile { add, rows: file.rows, deleted: Some(deleted) }))
}

/// A file that a commit brings. `None` when all its rows are masked.
fn new_file(
    finished: &super::encode::FinishedFile,
    masked: &RoaringBitmap,
    vectors: &mut VectorFile,
    now: i64,
) -> Result<Option<DataFile>> {
    if masked.len() == u64::from(finished.rows) {
        return Ok(None);
    }
    let mut file = DataFile::new(finished, now);
    if !masked.is_empty() {
        file.add.stats = Some(loosened(file.add.stats.as_deref(), finished.rows));
        file.add.deletion_vector = Some(vectors.push(masked)?);
        file.deleted = Some(masked.clone());
    }
    Ok(Some(file))
}

/// Position of a table before its first commit of ours.
pub(super) fn start_of(position: Option<CommitLsn>) -> CommitLsn {
    position.unwrap_or(CommitLsn::ZERO)
}
