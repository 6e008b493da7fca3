//! Delta Lake tables, each kept equal to its source.
//!
//! One [`DeltaTable`] per source table: an upsert table with an index, or a change log. Positions stand in
//! `txn` actions of the same commit as the data; the pipeline's own record stands in a small Delta table
//! (`control`). Nothing else is stored: local files are caches.
//!
//! ```text
//! stage(slice) ─► unit (net change by key) ─► data file(s)
//! commit(from,to) ─► deletion vectors ─► [commitInfo, txn epoch, txn lsn, remove…, add…] put as v+1
//! ```

mod append;
pub mod bench;
mod commit;
mod control;
mod copy;
mod dv;
mod encode;
mod fetch;
mod index;
mod keys;
mod log;
mod state;
mod storage;
mod table;
mod unit;
mod upsert;

use crate::error::{Result, codes};
use crate::event::{ChangeBatch, CopyPart, CopyWriter, Txn};
use crate::position::{CommitLsn, Epoch, Interval};
use crate::schema::{TableForm, TableSchema};
use crate::sink::{
    Base, CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Request, Sink, TableRecord,
    TableSink, WriterLease, Written, table_error,
};
use commit::Core;
use keys::KeyWidth;
use state::TableState;
use std::sync::Arc;
use storage::{Put, Storage, TableFiles};
use tokio::sync::Mutex;

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
}

impl DeltaSink {
    /// Opens the lake at `uri` for the pipeline.
    ///
    /// # Errors
    /// `CF003` for a URI that is none.
    pub fn open(uri: &str, pipeline: &str) -> Result<Self> {
        Ok(DeltaSink {
            storage: Storage::open(uri)?,
            pipeline: pipeline.to_owned(),
            control: Mutex::new(None),
        })
    }

    /// Asks the running process for a new copy of a table.
    ///
    /// # Errors
    /// As a takeover.
    pub async fn request(&self, request: &Request) -> Result<()> {
        control::request(&self.control_files()?, &self.pipeline, request).await
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
        table::check_names(&schema)?;
        let files = self.storage.table(&[&schema.name.schema, &schema.name.table])?;
        let ids = log::AppIds::new(&self.pipeline);
        let core = open_core(files, ids, &self.pipeline, lease.epoch, schema, purpose).await?;
        if let (OpenFor::Continue, Some(cut)) = (purpose, cut)
            && cut.target_id == core.metadata.id
        {
            core.examine_since(cut.version).await?;
        }
        let record = TableRecord {
            target_id: core.metadata.id.clone(),
            version: core.version,
            position: core.position.filter(|_| core.state.first_live_version.is_some()),
            copied_at: core.state.copied_at.and_then(CommitLsn::from_stored),
        };
        Ok((DeltaTable::new(core), record))
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
    purpose: OpenFor,
) -> Result<Core> {
    if !files.has_log().await? {
        create(&files, &ids, pipeline, epoch, &schema).await?;
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
            schema: Arc::clone(&schema),
            state,
            metadata: loaded.metadata.clone(),
            protocol: loaded.protocol.clone(),
            pending: None,
            version: loaded.version,
            position: loaded.position,
            slots: Vec::new(),
        };
        let already_fenced = loaded.epoch == Some(epoch);
        core.adopt(loaded);
        if already_fenced || fence(&mut core).await? {
            check_identity(&core, purpose)?;
            return Ok(core);
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
) -> Result<()> {
    files.create_dirs()?;
    let now = table::now_ms();
    let state = TableState::new(pipeline, schema);
    let mut actions = vec![
        table::commit_info("CREATE TABLE", now, serde_json::json!({"pipeline": pipeline})),
        log::Action::Protocol(table::protocol_for(schema)),
        log::Action::MetaData(table::metadata_for(schema, &state, None, now)?),
    ];
    actions.extend(ids.actions(epoch, None, now)?);
    match files.put_if_absent(&log::commit_name(0), log::encode(&actions)?.into()).await? {
        Put::Written | Put::Exists => Ok(()),
    }
}

/// Puts the epoch as the next version. False: somebody committed in between; load again. The table's form
/// in the source is brought up to date, where that is not to be judged.
async fn fence(core: &mut Core) -> Result<bool> {
    let now = table::now_ms();
    let metadata = core.renewed_form(core.schema.form)?;
    let mut actions =
        vec![table::commit_info("TAKE OVER", now, serde_json::json!({"pipeline": core.state.pipeline}))];
    actions.extend(core.ids.actions(core.epoch, None, now)?);
    actions.extend(metadata.iter().map(|(_, metadata)| log::Action::MetaData(metadata.clone())));
    let bytes = bytes::Bytes::from(log::encode(&actions)?);
    let name = log::commit_name(core.version + 1);
    if core.files.put_if_absent(&name, bytes).await? == Put::Exists {
        return Ok(false);
    }
    core.version += 1;
    if let Some((state, metadata)) = metadata {
        (core.state, core.metadata) = (state, metadata);
    }
    Ok(true)
}

/// The target must still be the table of this source table, unless it is to be replaced.
fn check_identity(core: &Core, purpose: OpenFor) -> Result<()> {
    if core.state.first_live_version.is_none() || purpose == OpenFor::Replace {
        return copy::check_replaceable(core);
    }
    let name = &core.schema.name;
    let advice = format!("strandline resync \"{name}\" --yes");
    if core.state.source_table != core.schema.id {
        let what = "in the source it was dropped and made again";
        return Err(table_error(name, codes::PG025, what).with_try(advice));
    }
    let wanted = table::metadata_for(&core.schema, &core.state, Some(&core.metadata), 0)?;
    if wanted.schema_string != core.metadata.schema_string {
        let what = "its columns have other types in the target: the configuration or the source changed";
        return Err(table_error(name, codes::PG022, what).with_try(advice));
    }
    if !core.state.matches(&core.schema) {
        let what = "its columns or its key in the source are not those it was copied with";
        return Err(table_error(name, codes::PG022, what).with_try(advice));
    }
    if core.state.may_be_rewritten(core.schema.form) {
        let what = "a column of it was altered and its rows were rewritten in the source, of which the log does not tell";
        return Err(table_error(name, codes::PG022, what).with_try(advice));
    }
    Ok(())
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
}

impl DeltaTable {
    fn new(core: Core) -> Self {
        let applied = if !core.schema.has_key() {
            Applied::Log(append::AppendUnit::default())
        } else if KeyWidth::of(&core.schema) == KeyWidth::Narrow {
            Applied::Narrow(upsert::Upsert::default())
        } else {
            Applied::Wide(upsert::Upsert::default())
        };
        DeltaTable { core, applied }
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

impl TableSink for DeltaTable {
    async fn stage(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.stage(&mut self.core, &batch).await,
            Applied::Wide(upsert) => upsert.stage(&mut self.core, &batch).await,
            Applied::Log(unit) => unit.stage(&self.core, &batch).await,
        }
    }

    async fn commit(&mut self, interval: Interval) -> Result<CommitOutcome> {
        if self.core.position.is_none() {
            let what = "a change came before the first copy was finished";
            return Err(table_error(&self.core.schema.name, codes::RT001, what));
        }
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.commit(&mut self.core, interval).await,
            Applied::Wide(upsert) => upsert.commit(&mut self.core, interval).await,
            Applied::Log(unit) => unit.commit(&mut self.core, interval).await,
        }
    }

    fn note_form(&mut self, form: TableForm) -> Result<()> {
        self.core.pending = self.core.renewed_form(form)?;
        Ok(())
    }

    fn discard_staged(&mut self) {
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.discard(),
            Applied::Wide(upsert) => upsert.discard(),
            Applied::Log(unit) => *unit = append::AppendUnit::default(),
        }
    }

    fn copy_writer(&self) -> Result<Box<dyn CopyWriter>> {
        Ok(Box::new(copy::DeltaCopyWriter::new(self.core.files.clone(), Arc::clone(&self.core.schema))))
    }

    async fn commit_copy(
        &mut self,
        position: CommitLsn,
        parts: Vec<CopyPart>,
        base: Base,
    ) -> Result<CommitOutcome> {
        self.discard_staged();
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.forget_index(),
            Applied::Wide(upsert) => upsert.forget_index(),
            Applied::Log(_) => {}
        }
        copy::commit_copy(&mut self.core, position, parts, base).await
    }
}

#[cfg(test)]
mod tests;
