//! Delta Lake tables, each kept equal to its source.
//!
//! One [`DeltaTable`] per source table: an upsert table with an index, or a change log. Positions stand in
//! `txn` actions of the same commit as the data; the pipeline's own record stands in a small Delta table
//! (`control`). Nothing else is stored: local files are caches.
//!
//! ```text
//! stage(slice) ─► unit (net change by key) ─► data file(s)
//! commit(from,to) ─► deletion vectors ─► [commitInfo, txn epoch, txn lsn, remove…, add…] put as v+1
//! beside          ─► compaction job   ─► landed by the same committer: remove…, add…, no row changes
//! ```

mod ahead;
mod amend;
mod append;
pub mod bench;
mod cdc;
mod clean;
mod commit;
mod compact;
mod control;
mod copy;
mod dv;
mod encode;
mod evolve;
mod exact;
#[cfg(test)]
mod faults;
mod fetch;
mod foreign;
mod index;
mod keys;
mod layout;
mod log;
mod look;
mod moves;
mod names;
mod optimize;
mod pair;
mod partition;
mod policy;
mod probe;
mod remote;
mod saved;
mod slots;
mod soft;
mod spill;
mod state;
mod storage;
mod table;
mod unit;
mod upkeep;
mod upsert;
pub mod view;
mod writers;

use crate::error::{Result, codes};
use crate::event::{ChangeBatch, Chunks, CopyPart, Txn};
use crate::position::{CommitLsn, Epoch, Interval, Marks};
use crate::schema::{TableName, TableSchema};
use crate::sink::write::{Maintenance, OnForeignChange, WriteChoices};
use crate::sink::{
    Base, CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Request, Sink, TableRecord,
    WriterLease, Written, table_error,
};
use commit::Core;
use compact::Landed;
use keys::KeyWidth;
use layout::Form;
pub use look::{TableReport, Vacuumed};
pub use optimize::Optimized;
use policy::Policy;
pub use remote::StoreOptions;
use state::{Mode, TableState};
use std::path::PathBuf;
use std::sync::Arc;
use storage::{Put, Storage, TableFiles};
use tokio::sync::{Mutex, Semaphore};
pub use upkeep::Tally;
use upkeep::Upkeep;

/// The position under which a change stands in a change log: the start of its commit record, which is
/// known as soon as the transaction begins.
fn position_of(txn: &Txn) -> u64 {
    txn.commit_start.raw()
}

/// A lake: `{uri}/{schema}/{table}` for tables, `{uri}/_strandline/{pipeline}` for the pipeline's record.
pub struct DeltaSink {
    storage: Storage,
    pipeline: String,
    control: Mutex<Option<control::Control>>,
    /// Where indexes are saved on this machine.
    cache: Option<PathBuf>,
    /// What the indexes may take of memory.
    budget: index::Budget,
    /// How tables are written.
    choices: WriteChoices,
    on_foreign_change: OnForeignChange,
    maintenance: Maintenance,
    /// One compaction at a time: what it takes of memory and processor is taken once.
    compactions: Arc<Semaphore>,
}

impl DeltaSink {
    /// Opens the lake at `uri` for the pipeline.
    ///
    /// # Errors
    /// `CF003` for a URI that is none.
    pub fn open(uri: &str, pipeline: &str, options: &StoreOptions) -> Result<Self> {
        Ok(DeltaSink::over(Storage::open(uri, options)?, pipeline))
    }

    /// On a store that is open.
    fn over(storage: Storage, pipeline: &str) -> Self {
        DeltaSink {
            storage,
            pipeline: pipeline.to_owned(),
            control: Mutex::new(None),
            cache: None,
            budget: index::Budget::default(),
            choices: WriteChoices::default(),
            on_foreign_change: OnForeignChange::default(),
            maintenance: Maintenance::default(),
            compactions: Arc::new(Semaphore::new(1)),
        }
    }

    /// Saves indexes in this directory, so that opening a large table is quick; deleting it loses nothing.
    /// All indexes together take no more than `bytes` of memory, about: what is beyond goes there, too.
    #[must_use]
    pub fn with_cache(mut self, directory: PathBuf, bytes: usize) -> Self {
        self.budget = index::Budget::new(bytes, Some(directory.clone()));
        self.cache = Some(directory);
        self
    }

    /// How tables are written.
    #[must_use]
    pub fn with_choices(mut self, choices: WriteChoices) -> Self {
        self.choices = choices;
        self
    }

    /// What happens with other people's changes.
    #[must_use]
    pub fn on_foreign_change(mut self, choice: OnForeignChange) -> Self {
        self.on_foreign_change = choice;
        self
    }

    /// What is done beside the commits.
    #[must_use]
    pub fn with_maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// Asks the running process for a new copy of a table.
    ///
    /// # Errors
    /// As a takeover.
    pub async fn request(&self, request: &Request) -> Result<()> {
        control::request(&self.control_files()?, &self.pipeline, request).await
    }

    /// Opens one Delta table.
    async fn open_one(
        &self,
        lease: &WriterLease,
        source: &Arc<TableSchema>,
        name: &TableName,
        form: Form,
        purpose: OpenFor,
        cut: Option<&CutTable>,
    ) -> Result<(DeltaTable, TableRecord)> {
        let schema = form.schema(source);
        table::check_names(&schema)?;
        let files = self.storage.table(&[&name.schema, &name.table])?;
        let ids = log::AppIds::new(&self.pipeline);
        let (mut core, outdated) =
            open_core(files, ids, &self.pipeline, lease.epoch, schema, form, purpose).await?;
        core.cache.clone_from(&self.cache);
        core.budget = self.budget.clone();
        core.accepts = self.on_foreign_change == OnForeignChange::Accept;
        if let (OpenFor::Continue(_), Some(cut)) = (purpose, cut)
            && cut.target_id == core.metadata.id
        {
            core.examine_since(cut.version).await?;
        }
        let is_copied = core.is_in_use();
        let chunks = core.chunks_to_go_on(purpose, outdated.is_some());
        let record = TableRecord {
            target_id: core.metadata.id.clone(),
            version: core.version,
            position: core.position.filter(|_| is_copied),
            marks: core.marks_to_go_on(&chunks),
            chunks,
            copied_at: core.state.copied_at.and_then(CommitLsn::from_stored),
            past: core.pending.as_ref().map_or(&core.state, |pending| &pending.state).past.clone(),
            outdated,
        };
        let policy = self.maintenance.optimize.then(Policy::default);
        let upkeep = Upkeep::new(policy, self.maintenance.vacuum, Arc::clone(&self.compactions));
        Ok((DeltaTable::new(core, upkeep), record))
    }

    fn control_files(&self) -> Result<TableFiles> {
        self.storage.table(&["_strandline", &self.pipeline])
    }

    async fn with_control<'a>(&'a self) -> Result<tokio::sync::MappedMutexGuard<'a, control::Control>> {
        tokio::sync::MutexGuard::try_map(self.control.lock().await, Option::as_mut).map_err(|_| {
            crate::error::Error::new(codes::RT001, "the pipeline's record was used before the takeover")
        })
    }
}

impl Sink for DeltaSink {
    type Table = DeltaTable;

    async fn peek(&self) -> Result<Option<PipelineRecord>> {
        control::peek(&self.control_files()?, &self.pipeline).await
    }

    async fn take_over(&self) -> Result<(WriterLease, PipelineRecord)> {
        self.storage.check_put_if_absent().await?;
        let (control, lease) = control::Control::take_over(self.control_files()?, &self.pipeline).await?;
        let record = control.record.clone();
        *self.control.lock().await = Some(control);
        Ok((lease, record))
    }

    async fn open_table(
        &self,
        lease: &WriterLease,
        schema: Arc<TableSchema>,
        purpose: OpenFor,
        cut: Option<&CutTable>,
    ) -> Result<(DeltaTable, TableRecord)> {
        let options = self.choices.of(&schema.name);
        let form = Form::of(options, &schema);
        let (mut table, record) = self.open_one(lease, &schema, &schema.name, form, purpose, cut).await?;
        let Some((name, form)) = pair::log_of(options, &schema) else { return Ok((table, record)) };
        let (log, found) = self.open_one(lease, &schema, &name, form, purpose, None).await?;
        table.beside = Some(Box::new(log));
        Ok((table, pair::joined(record, &found, &schema.name)?))
    }

    async fn commit_cut(&self, lease: &WriterLease, cut: Cut) -> Result<CommitOutcome> {
        self.with_control().await?.commit_cut(lease, cut).await
    }

    async fn record(&self, lease: &WriterLease, change: RecordChange) -> Result<CommitOutcome> {
        self.with_control().await?.change(lease, change).await
    }

    async fn newest_epoch(&self) -> Result<Option<Epoch>> {
        control::newest_epoch(&self.control_files()?, &self.pipeline).await
    }

    fn written(&self) -> Written {
        self.storage.written()
    }

    async fn poll_requests(&self, lease: &WriterLease) -> Result<Vec<Request>> {
        self.with_control().await?.poll(lease).await
    }
}

/// Opens or makes the table and writes the epoch to it: the fence stands before any position is read.
async fn open_core(
    files: TableFiles,
    ids: log::AppIds,
    pipeline: &str,
    epoch: Epoch,
    schema: Arc<TableSchema>,
    form: Form,
    purpose: OpenFor,
) -> Result<(Core, Option<String>)> {
    if !files.has_log().await? {
        create(&files, &ids, pipeline, epoch, &schema, &form).await?;
    }
    loop {
        let loaded = table::load(&files, &ids).await?;
        let Some(document) = loaded.metadata.configuration.get(state::KEY) else {
            let what = format!("\"{}\" holds a Delta table that strandline did not make", files.url());
            return Err(table_error(&schema.name, codes::TG010, what)
                .with_try("move that table away, or use another sink uri"));
        };
        let state = TableState::parse(document, &schema)?;
        if state.pipeline != pipeline {
            let what = format!("\"{}\" belongs to the pipeline \"{}\"", files.url(), state.pipeline);
            return Err(table_error(&schema.name, codes::TG017, what)
                .with_try("use that pipeline's name, or another sink uri"));
        }
        if let Some(newer) = loaded.epoch.filter(|&e| e > epoch) {
            let what = format!("epoch {newer} has taken over, ours is {epoch}");
            return Err(table_error(&schema.name, codes::TG013, what));
        }
        table::check_supported(&loaded.protocol, &loaded.metadata)?;
        let mut core = Core {
            files: files.clone(),
            ids: ids.clone(),
            epoch,
            form: form.clone(),
            accepts: false,
            schema: Arc::clone(&schema),
            stored: Arc::clone(&schema),
            names: state.layout.column_mapping.then(names::Names::default),
            state,
            metadata: loaded.metadata.clone(),
            protocol: loaded.protocol.clone(),
            pending: None,
            version: loaded.version,
            position: loaded.position,
            marks: Marks::default(),
            next_marks: None,
            slots: slots::Slots::default(),
            cache: None,
            budget: index::Budget::default(),
            seen: std::time::Instant::now(),
            checkpoint: None,
        };
        let already_fenced = loaded.epoch == Some(epoch);
        core.adopt(loaded);
        pair::check_role(&core)?;
        let follow = opened(&mut core, purpose).await;
        core.set_properties();
        // The fence stands whatever is found.
        if already_fenced || fence(&mut core).await? {
            return Ok(match follow? {
                evolve::Follow::Same | evolve::Follow::InPlace(_) => (core, None),
                evolve::Follow::Copy(why) => (core, Some(why)),
            });
        }
    }
}

/// Version 0: protocol, metadata, epoch. Somebody may be quicker; then theirs is loaded.
async fn create(
    files: &TableFiles,
    ids: &log::AppIds,
    pipeline: &str,
    epoch: Epoch,
    schema: &TableSchema,
    form: &Form,
) -> Result<()> {
    partition::check(schema, &form.layout)?;
    files.create_dirs()?;
    let now = table::now_ms();
    let state = TableState::new(pipeline, schema, form);
    let names = form.layout.column_mapping.then(|| names::Names::anew(None, true, schema));
    let metadata = table::metadata_for(schema, &state, None, form, names.as_ref(), now)?;
    let mut actions = vec![
        table::commit_info("CREATE TABLE", now, serde_json::json!({"pipeline": pipeline})),
        log::Action::Protocol(table::protocol_for(schema, form.mode, &metadata.configuration)),
        log::Action::MetaData(metadata),
    ];
    actions.extend(ids.actions(epoch, None, now)?);
    match files.put_if_absent(&log::commit_name(0), log::encode(&actions)?.into()).await? {
        Put::Written | Put::Exists => Ok(()),
    }
}

/// Puts the epoch as the next version, with what waits for a commit. False: somebody committed in between;
/// load again.
async fn fence(core: &mut Core) -> Result<bool> {
    let now = table::now_ms();
    let mut actions =
        vec![table::commit_info("TAKE OVER", now, serde_json::json!({"pipeline": core.state.pipeline}))];
    actions.extend(core.ids.actions(core.epoch, None, now)?);
    actions.extend(core.pending_actions());
    let bytes = bytes::Bytes::from(log::encode(&actions)?);
    let name = log::commit_name(core.version + 1);
    if core.files.put_if_absent(&name, bytes).await? == Put::Exists {
        return Ok(false);
    }
    core.version += 1;
    core.take_pending();
    // Of a process that is started for one commit at a time, this may be every other version.
    core.checkpoint_if_due();
    Ok(true)
}

/// How the table follows its source, with what waits for the first commit.
async fn opened(core: &mut Core, purpose: OpenFor) -> Result<evolve::Follow> {
    core.learn_names()?;
    core.check_ahead().await?;
    let ahead = core.state.ahead.clone();
    if matches!(purpose, OpenFor::Continue(_)) {
        core.state.ahead = None;
    }
    let follow = follow(core, purpose)?;
    match &follow {
        evolve::Follow::InPlace(pending) => core.pending = Some(evolve::Pending::clone(pending)),
        evolve::Follow::Same if ahead.is_some() && core.state.ahead.is_none() => {
            let (state, mut metadata) = (core.state.clone(), core.metadata.clone());
            metadata.configuration.insert(state::KEY.into(), state.encode()?);
            core.pending = Some(evolve::Pending { state, metadata, protocol: None });
        }
        evolve::Follow::Same => {}
        evolve::Follow::Copy(_) => core.state.ahead = ahead,
    }
    let goes_on = matches!(purpose, OpenFor::Continue(_)) && core.is_in_use();
    if !goes_on || matches!(follow, evolve::Follow::Copy(_)) {
        core.rename_anew()?;
    } else {
        core.follow_names()?;
    }
    Ok(follow)
}

/// The target must still be the table of this source table, or follow it, unless it is to be replaced.
fn follow(core: &Core, purpose: OpenFor) -> Result<evolve::Follow> {
    copy::check_followed_by_another(core)?;
    match purpose {
        OpenFor::Continue(policy) if core.is_in_use() => {
            if core.state.source_table != core.schema.id {
                return Ok(evolve::Follow::Copy("in the source it was dropped and made again".to_owned()));
            }
            evolve::follow(core, &core.schema, policy)
        }
        OpenFor::Continue(_) | OpenFor::Replace => {
            partition::check(&core.schema, &core.form.layout)?;
            copy::check_replaceable(core).map(|()| evolve::Follow::Same)
        }
    }
}

enum Applied {
    Narrow(upsert::Upsert<u64>),
    Wide(upsert::Upsert<[u64; 2]>),
    Log(append::AppendUnit),
}

/// One table of the lake.
pub struct DeltaTable {
    core: Core,
    applied: Applied,
    upkeep: Upkeep,
    /// What the next commit's position means to other servers.
    marks: Option<Marks>,
    /// Something of a unit is staged.
    is_open: bool,
    /// The schema of the last slice, as the source has it and as the table has it.
    shaped: Option<(Arc<TableSchema>, Arc<TableSchema>)>,
    /// Its change log, where one stands beside it.
    beside: Option<Box<DeltaTable>>,
}

impl DeltaTable {
    fn new(core: Core, upkeep: Upkeep) -> Self {
        let applied = if core.form.mode == Mode::Append {
            Applied::Log(append::AppendUnit::default())
        } else if KeyWidth::of(&core.stored) == KeyWidth::Narrow {
            Applied::Narrow(upsert::Upsert::default())
        } else {
            Applied::Wide(upsert::Upsert::default())
        };
        DeltaTable { core, applied, upkeep, marks: None, is_open: false, shaped: None, beside: None }
    }

    /// What the table's files have where the source has this schema.
    fn shape(&mut self, source: &Arc<TableSchema>) -> Result<Arc<TableSchema>> {
        match &self.shaped {
            Some((known, shaped)) if Arc::ptr_eq(known, source) => Ok(Arc::clone(shaped)),
            _ => {
                let shaped = self.core.stored_as(&self.core.form.schema(source))?;
                self.shaped = Some((Arc::clone(source), Arc::clone(&shaped)));
                Ok(shaped)
            }
        }
    }

    /// Lands a finished compaction. The epoch of a newer owner, if one is met.
    async fn land(&mut self, compacted: compact::Compacted) -> Result<Option<Epoch>> {
        let (read, written, took) = (compacted.read, compacted.written, compacted.took);
        match compacted.land(&mut self.core).await? {
            Landed::Moved(moved) => {
                tracing::debug!(
                    table = %self.core.schema.name, version = self.core.version, files = moved.len(), read,
                    written, ms = took.as_millis(), "compacted"
                );
                self.core.files.count_rewritten(moved.len());
                self.upkeep.tally.jobs += 1;
                self.upkeep.tally.bytes_read += read;
                self.upkeep.tally.bytes_written += written;
                match &mut self.applied {
                    Applied::Narrow(upsert) => upsert.lead_on(moved),
                    Applied::Wide(upsert) => upsert.lead_on(moved),
                    Applied::Log(_) => {}
                }
                Ok(None)
            }
            Landed::Void => {
                self.upkeep.tally.void += 1;
                Ok(None)
            }
            Landed::Reloaded => {
                self.upkeep.tally.void += 1;
                self.index_again().await?;
                Ok(None)
            }
            Landed::Fenced(by) => Ok(Some(by)),
        }
    }

    async fn index_again(&mut self) -> Result<()> {
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.index_again(&mut self.core).await,
            Applied::Wide(upsert) => upsert.index_again(&mut self.core).await,
            Applied::Log(_) => Ok(()),
        }
    }

    /// Takes in what somebody else has committed, so that no file is looked for that they replaced.
    async fn catch_up(&mut self) -> Result<()> {
        // A newer owner is met by the commit.
        if self.core.is_behind().await? && self.core.reload().await?.is_none() {
            self.index_again().await?;
        }
        Ok(())
    }

    async fn commit_unit(&mut self, interval: Interval) -> Result<CommitOutcome> {
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.commit(&mut self.core, interval).await,
            Applied::Wide(upsert) => upsert.commit(&mut self.core, interval).await,
            Applied::Log(unit) => unit.commit(&mut self.core, interval).await,
        }
    }

    /// What upkeep has done so far.
    pub fn tally(&self) -> Tally {
        self.upkeep.tally
    }

    /// Bytes that the index takes.
    pub fn index_bytes(&self) -> usize {
        match &self.applied {
            Applied::Narrow(upsert) => upsert.index_bytes(),
            Applied::Wide(upsert) => upsert.index_bytes(),
            Applied::Log(_) => 0,
        }
    }
}

/// Of one table, without what is beside it.
impl DeltaTable {
    async fn stage_one(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if !self.is_open {
            self.catch_up().await?;
            self.is_open = true;
        }
        let schema = self.shape(&batch.schema)?;
        let rows = self.core.form.rows(batch, &schema, table::now_ms() * 1000)?;
        let batch = names::dressed(rows, &schema)?;
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.stage(&mut self.core, &batch).await,
            Applied::Wide(upsert) => upsert.stage(&mut self.core, &batch).await,
            Applied::Log(unit) => unit.stage(&self.core, &batch).await,
        }
    }

    async fn commit_one(&mut self, interval: Interval) -> Result<CommitOutcome> {
        if let Some(marks) = self.marks.take() {
            self.core.mark(marks)?;
        }
        if self.core.position.is_none() {
            let what = "a change came before the first copy was finished";
            return Err(table_error(&self.core.schema.name, codes::RT001, what));
        }
        let outcome = self.commit_unit(interval).await?;
        self.core.marked();
        self.is_open = false;
        if self.upkeep.is_overdue(&self.core) {
            self.upkeep.settle(&self.core.schema.name).await;
            if let Some(by) = self.land_finished().await? {
                return Ok(CommitOutcome::Fenced { by });
            }
        }
        self.upkeep.begin(&self.core);
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.save(&self.core),
            Applied::Wide(upsert) => upsert.save(&self.core),
            Applied::Log(_) => {}
        }
        Ok(outcome)
    }

    /// Lands a compaction that has finished, or begins one that is due after a rest.
    async fn land_finished(&mut self) -> Result<Option<Epoch>> {
        let Some(compacted) = self.upkeep.take() else {
            self.upkeep.begin_at_rest(&self.core);
            return Ok(None);
        };
        let fenced = self.land(compacted).await?;
        if fenced.is_none() {
            self.upkeep.begin(&self.core);
        }
        Ok(fenced)
    }

    fn discard_one(&mut self) {
        self.is_open = false;
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.discard(),
            Applied::Wide(upsert) => upsert.discard(),
            Applied::Log(unit) => *unit = append::AppendUnit::default(),
        }
    }

    async fn commit_copy_one(
        &mut self,
        position: CommitLsn,
        parts: Vec<CopyPart>,
        base: Base,
    ) -> Result<CommitOutcome> {
        self.discard_one();
        self.core.next_marks = Some(self.marks.take().unwrap_or_default());
        self.upkeep.abandon();
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.forget_index(),
            Applied::Wide(upsert) => upsert.forget_index(),
            Applied::Log(_) => {}
        }
        let outcome = copy::commit_copy(&mut self.core, position, parts, base).await?;
        self.core.marked();
        Ok(outcome)
    }

    async fn commit_chunk_one(
        &mut self,
        chunks: Chunks,
        is_first: bool,
        parts: Vec<CopyPart>,
    ) -> Result<CommitOutcome> {
        self.discard_one();
        // The table's position is that of its oldest chunk, and so is what it means to other servers.
        let marks = self.marks.take().unwrap_or_default();
        self.core.next_marks = is_first.then_some(marks);
        self.upkeep.abandon();
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.forget_index(),
            Applied::Wide(upsert) => upsert.forget_index(),
            Applied::Log(_) => {}
        }
        let outcome = copy::commit_chunk(&mut self.core, &chunks, is_first, parts).await?;
        self.core.marked();
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests;
