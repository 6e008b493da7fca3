//! PostgreSQL behind the traits of [`crate::source`]: puts the parts of this folder together.

use super::catalog::{self, SourceTable as CatalogTable};
use super::chunk::{self, Cuts};
use super::fault::table_error;
use super::forms;
use super::health;
use super::held;
use super::load::MaxLoad;
use super::options::PgOptions;
use super::pattern::Selection;
use super::preflight;
use super::publication::{self, Second};
use super::slot::{self, SlotKind, SnapshotSlot};
use super::snapshot::{CopyJob, CopyProgress, CopySink, copy_table};
use super::spill::Spill;
use super::sql::{Sql, field};
use super::stream::{OriginFilter, PgStream, StreamStart};
use super::whole::Whole;
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, CopyPart, CopyWriter, KeyRange, Pick, SnapshotPoint, Txn};
use crate::pgoutput::Policies;
use crate::position::{CommitLsn, Lsn};
use crate::schema::{TableId, TableName, TableSchema};
use crate::source::{
    Budget, Burst, ChangeStream, CopySession, HeldStream, RefusedTable, SlotState, Source, SourceCodes,
    SourceHealth, SourceTable, SourceView, Standing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// How long to wait for a slot that somebody else holds: our own last connection may still be closing.
const SLOT_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for old transactions when a slot is made.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(300);
/// How long a connection that is at hand may take to show that it is alive; then a new one is made.
const PING_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait for the server's goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What is to be replicated, and how.
pub struct PgSettings {
    /// How to connect.
    pub options: PgOptions,
    /// Which tables.
    pub selection: Selection,
    /// The operator's choices about values.
    pub policies: Policies,
    /// Slot and publication are made when they are missing.
    pub create_if_missing: bool,
    /// Where large transactions wait until they commit.
    pub spill: Spill,
    /// Which transactions are wanted.
    pub origin: OriginFilter,
    /// More load of the source than this, and copies wait.
    pub max_load: MaxLoad,
}

/// A PostgreSQL database.
pub struct PgSource {
    settings: PgSettings,
    sql: Mutex<Option<Arc<Sql>>>,
    tables: Mutex<BTreeMap<TableId, CatalogTable>>,
    /// How tables are cut that are being copied.
    cuts: Arc<Mutex<BTreeMap<TableId, Cuts>>>,
    /// As the catalogue was last found.
    text_stream: Arc<AtomicBool>,
    /// The server could not send a value in binary form: so for good, since a table that is published and not
    /// ours can have such a column.
    text_forced: Arc<AtomicBool>,
    /// Up to where transactions are streamed without blocks.
    whole: Arc<Whole>,
    /// How often in a row a stream ended because the server said nothing.
    silences: Arc<AtomicU32>,
    /// Codes of warnings that were given.
    told: Mutex<BTreeSet<&'static str>>,
}

impl PgSource {
    /// With these settings; connects when it is asked for something.
    pub fn new(settings: PgSettings) -> Self {
        PgSource {
            settings,
            sql: Mutex::new(None),
            tables: Mutex::default(),
            cuts: Arc::default(),
            text_stream: Arc::default(),
            text_forced: Arc::default(),
            whole: Arc::default(),
            silences: Arc::default(),
            told: Mutex::default(),
        }
    }

    /// A connection that answers, the old one or a new one.
    async fn sql(&self) -> Result<Arc<Sql>> {
        let mut held = self.sql.lock().await;
        if let Some(sql) = held.as_ref()
            && let Ok(Ok(_)) = tokio::time::timeout(PING_WITHIN, sql.row("SELECT 1")).await
        {
            return Ok(Arc::clone(sql));
        }
        let sql = Arc::new(Sql::connect(&self.settings.options).await?);
        *held = Some(Arc::clone(&sql));
        Ok(sql)
    }

    async fn slot_state(&self, sql: &Sql) -> Result<Option<SlotState>> {
        Ok(slot::inspect(sql, &self.settings.options.slot).await?.map(SlotState::from))
    }

    fn publications(&self) -> Vec<String> {
        vec![self.settings.options.publication.clone(), self.settings.options.insert_publication()]
    }

    async fn snapshot_of(&self, kind: SlotKind) -> Result<PgCopy> {
        let sql = self.sql().await?;
        let slot = slot::create(&self.settings.options, &sql, kind, SNAPSHOT_PATIENCE).await?;
        let (xid, time) = slot::moment(&sql).await?;
        let (is_first, is_last) = (true, true);
        let point =
            SnapshotPoint { position: slot.point, xid: Some(xid), time: Some(time), is_first, is_last };
        Ok(PgCopy {
            slot,
            point,
            sql,
            options: self.settings.options.clone(),
            policies: self.settings.policies,
            tables: self.tables.lock().await.clone(),
            cuts: Arc::clone(&self.cuts),
            max_load: self.settings.max_load,
        })
    }
}

impl From<slot::SlotState> for SlotState {
    fn from(found: slot::SlotState) -> Self {
        SlotState {
            plugin: found.plugin.unwrap_or_default(),
            database: found.database.unwrap_or_default(),
            confirmed_flush: CommitLsn::of_keepalive(found.confirmed_flush.unwrap_or(Lsn::ZERO)),
            wal_lost: found.wal_status.as_deref() == Some("lost"),
        }
    }
}

impl Source for PgSource {
    type Stream = PgChanges;
    type Copy = PgCopy;
    const CODES: SourceCodes = SourceCodes {
        no_table: codes::PG009,
        gone: codes::PG025,
        changed: codes::PG022,
        value: codes::PG021,
        unknown: codes::PG023,
        partial: codes::PG008,
        busy: codes::PG011,
    };
    const ONE_SYSTEM: bool = true;

    fn beside(&self) -> Option<TableSchema> {
        Some(TableSchema::messages())
    }

    async fn inspect(&self) -> Result<SourceView> {
        let PgSettings { options, selection, policies, .. } = &self.settings;
        let sql = self.sql().await?;
        let catalog = catalog::load(&sql, selection, policies).await?;
        let findings = preflight::inspect(&sql, options, selection, &catalog).await?;
        if let Some(error) = preflight::stopping(&findings) {
            return Err(error);
        }
        let mut told = self.told.lock().await;
        for finding in findings.iter().filter(|f| f.verdict == preflight::Verdict::Warning) {
            // Each once: the source is looked at again and again. Who holds the slot, taking it will say.
            if finding.code != codes::PG011 && told.insert(finding.code.id) {
                tracing::warn!(code = %finding.code, "{}", finding.found);
            }
        }
        drop(told);
        let point = slot::identify(options).await?;
        let slot = held::settled(&sql, options, SLOT_PATIENCE).await?.map(SlotState::from);
        let tables = catalog
            .tables
            .iter()
            .map(|t| SourceTable { schema: Arc::clone(&t.schema), estimated_rows: t.rows_estimate })
            .collect();
        let needs_text = catalog.text_stream || self.text_forced.load(Ordering::Relaxed);
        self.text_stream.store(needs_text, Ordering::Relaxed);
        *self.tables.lock().await = catalog.tables.into_iter().map(|t| (t.id(), t)).collect();
        let refused = catalog
            .rejected
            .into_iter()
            .map(|r| RefusedTable { id: r.id, name: r.name, error: r.error })
            .collect();
        Ok(SourceView { point, server: sql.major().to_string(), slot, tables, refused })
    }

    async fn publish(&self, tables: &[SourceTable], slot_exists: bool) -> Result<Vec<RefusedTable>> {
        let sql = self.sql().await?;
        let known = self.tables.lock().await.clone();
        let wanted: Vec<CatalogTable> =
            tables.iter().filter_map(|t| known.get(&t.schema.id).cloned()).collect();
        let options = &self.settings.options;
        let second = if slot_exists { Second::OnlyIfThere } else { Second::Make };
        let published = if self.settings.create_if_missing {
            publication::ensure(&sql, options, &wanted, second).await?
        } else {
            publication::check(&sql, options, &wanted, second).await?
        };
        for warning in &published.warnings {
            tracing::warn!("{warning}");
        }
        for (table, remedy) in &published.insert_only {
            tracing::warn!(%table, code = %codes::PG008, "only its inserts are replicated: {remedy}");
        }
        let refused = published.refused.into_iter().map(|(id, name, remedy)| {
            let what = "it has no key, and the slot is older than the publication for such tables";
            let error = table_error(&name, codes::PG008, what).with_try(remedy);
            RefusedTable { id, name, error }
        });
        Ok(refused.collect())
    }

    async fn check(&self, tables: &[Arc<TableSchema>]) -> Result<Vec<(TableId, Standing)>> {
        let sql = self.sql().await?;
        let covered = publication::covered(&sql, &self.publications()).await?;
        let ids: Vec<TableId> = tables.iter().map(|t| t.id).collect();
        let found = forms::of(&sql, &ids).await?;
        let mut standings = Vec::new();
        let mut changed = Vec::new();
        for table in tables {
            match lost(table, found.get(&table.id), &covered) {
                Some(error) => standings.push((table.id, Standing::Lost(error))),
                None if found.get(&table.id).is_some_and(|now| now.form != table.form) => {
                    changed.push(table.id);
                }
                None => {}
            }
        }
        if changed.is_empty() {
            return Ok(standings);
        }
        let catalog = catalog::load_by_id(&sql, &changed, &self.settings.policies).await?;
        standings.extend(catalog.tables.into_iter().map(|t| (t.id(), Standing::Changed(t.schema))));
        standings.extend(catalog.rejected.into_iter().map(|r| (r.id, Standing::Lost(r.error))));
        Ok(standings)
    }

    async fn create_slot(&self) -> Result<PgCopy> {
        if !self.settings.create_if_missing {
            let what = format!("replication slot \"{}\" does not exist", self.settings.options.slot);
            return Err(
                Error::new(codes::PG013, what).with_try("create it, or set source.create_if_missing: true")
            );
        }
        self.snapshot_of(SlotKind::Permanent).await
    }

    async fn drop_slot(&self) -> Result<()> {
        let sql = self.sql().await?;
        slot::drop_slot(&sql, &self.settings.options.slot).await
    }

    async fn snapshot(&self) -> Result<PgCopy> {
        self.snapshot_of(SlotKind::Temporary).await
    }

    async fn stream(&self) -> Result<HeldStream<PgChanges>> {
        let sql = self.sql().await?;
        let (told, acknowledged) = watch::channel(CommitLsn::ZERO);
        let mut publications = self.publications();
        let missing = publication::missing(&sql, &publications).await?;
        // The first must be there; the second only where tables without a key were met in time.
        publications.retain(|name| *name == self.settings.options.publication || !missing.contains(name));
        let is_text = self.text_stream.load(Ordering::Relaxed);
        let streaming = match self.whole.until() {
            None => true,
            Some(until) => {
                self.slot_state(&sql).await?.is_some_and(|slot| slot.confirmed_flush.lsn() >= until)
            }
        };
        let start = StreamStart {
            publications,
            policies: self.settings.policies,
            text: is_text,
            stop_before: None,
            guard: None,
            acknowledged,
            patience: SLOT_PATIENCE,
            streaming,
            spill: self.settings.spill.clone(),
            origin: self.settings.origin,
        };
        let options = &self.settings.options;
        let mut stream = PgStream::start(options, &sql, start).await?;
        stream.be_patient(self.silences.load(Ordering::Relaxed));
        let slot = self.slot_state(&sql).await?.ok_or_else(|| {
            Error::new(
                codes::PG040,
                format!("replication slot \"{}\" went away while it was taken", options.slot),
            )
            .with_try("find out who dropped it; then: strandline resync TABLE --yes makes it anew and copies every table")
        })?;
        let point = slot::identify(options).await?;
        Ok(HeldStream {
            stream: PgChanges {
                stream: Some(stream),
                told,
                open: None,
                is_text,
                text_stream: Arc::clone(&self.text_stream),
                text_forced: Arc::clone(&self.text_forced),
                whole: Arc::clone(&self.whole),
                silences: Arc::clone(&self.silences),
            },
            slot,
            point,
        })
    }

    async fn end_of_log(&self) -> Result<Lsn> {
        let sql = self.sql().await?;
        let query = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
                     ELSE pg_catalog.pg_current_wal_insert_lsn() END";
        field(&sql.row(query).await?, 0)
    }

    async fn timeline_end(&self, timeline: u32) -> Result<Option<Lsn>> {
        slot::timeline_end(&self.settings.options, timeline).await
    }

    async fn health(&self) -> Result<Option<SourceHealth>> {
        let sql = self.sql().await?;
        health::look(&sql, &self.settings.options).await
    }

    async fn heartbeat(&self) -> Result<()> {
        let sql = self.sql().await?;
        // A standby can write nothing; what its primary writes moves the slot.
        if sql.in_recovery().await? { Ok(()) } else { slot::heartbeat(&sql).await }
    }

    async fn beat_action(&self) -> Result<()> {
        match &self.settings.options.heartbeat_action {
            // Names without a schema mean what they mean for whoever wrote it. Both are one transaction.
            Some(query) => {
                let query = format!("SET LOCAL search_path = \"$user\", public; {query}");
                self.sql().await?.rows(&query).await.map(drop)
            }
            None => Ok(()),
        }
    }
}

/// Why the stream does not hold the table's changes any more; `None`: it does.
fn lost(table: &TableSchema, found: Option<&forms::Found>, covered: &BTreeSet<TableName>) -> Option<Error> {
    let what = match found {
        None => "it was dropped in the source".to_owned(),
        Some(now) if now.name != table.name => format!("it was renamed to \"{}\" in the source", now.name),
        Some(_) if !covered.contains(&table.name) => {
            "it is not in the publication any more: changes since then are not in the stream".to_owned()
        }
        Some(now) if table.form.was_left_out(now.form) => {
            "it left the publication and came back, its row filter or column list was changed, or the publication was made \
             or altered again: changes in between may not be in the stream"
                .to_owned()
        }
        Some(_) => return None,
    };
    let again = format!("strandline resync \"{}\" --yes", table.name);
    Some(table_error(&table.name, codes::PG025, what).with_try(again))
}

/// The stream behind its trait.
pub struct PgChanges {
    stream: Option<PgStream>,
    told: watch::Sender<CommitLsn>,
    open: Option<Txn>,
    /// It was asked for in text form.
    is_text: bool,
    /// It should be: a table may be made while it runs.
    text_stream: Arc<AtomicBool>,
    text_forced: Arc<AtomicBool>,
    whole: Arc<Whole>,
    silences: Arc<AtomicU32>,
}

/// The server came to a value of a type without a send function (42883, undefined function).
fn has_no_binary_form(error: &Error) -> bool {
    error.code() == codes::PG014 && error.message().contains(" 42883 ")
}

impl PgChanges {
    fn stream(&mut self) -> Result<&mut PgStream> {
        self.stream.as_mut().ok_or_else(|| Error::new(codes::PG006, "the replication stream is closed"))
    }
}

impl ChangeStream for PgChanges {
    async fn next(&mut self, budget: Budget) -> Result<Burst> {
        if !self.is_text && self.text_stream.load(Ordering::Relaxed) {
            return Err(Error::new(
                codes::PG006,
                "the stream begins again, in text form, for a type that came",
            ));
        }
        let budget = super::stream::Budget { rows: budget.rows, bytes: budget.bytes };
        let is_text = self.is_text;
        let stream = self.stream()?;
        let before = stream.spilled_bytes();
        let burst = match stream.next(budget).await {
            Err(error) if !is_text && has_no_binary_form(&error) => {
                self.text_forced.store(true, Ordering::Relaxed);
                self.text_stream.store(true, Ordering::Relaxed);
                let what = "the stream begins again, in text form, for a type that has no other";
                return Err(Error::new(codes::PG006, what).with_source(error));
            }
            Err(error) => {
                if let Some(end) = stream.wants_whole() {
                    self.whole.want(end.lsn());
                } else if stream.was_silent() {
                    self.silences.fetch_add(1, Ordering::Relaxed);
                }
                return Err(self.whole.judge(error));
            }
            Ok(burst) => burst,
        };
        self.silences.store(0, Ordering::Relaxed);
        let stream = self.stream()?;
        let (open_bytes, spilled_bytes) = (stream.uncommitted_bytes(), stream.spilled_bytes() - before);
        self.open = burst.open;
        Ok(Burst {
            through: burst.through,
            witness: burst.last_nonempty,
            transactions: burst.transactions,
            rows: burst.rows,
            bytes: burst.bytes,
            touched: burst.touched,
            keepalive: burst.keepalive,
            server_end: burst.server_end,
            announced: burst.announced,
            stopped: burst.table_errors,
            replayed: burst.replayed,
            open_bytes,
            spilled_bytes,
            is_end: burst.stopped,
        })
    }

    fn follow(&mut self, schema: Arc<TableSchema>, held: CommitLsn) -> Result<()> {
        self.stream()?.add_table(schema, held)
    }

    fn unfollow(&mut self, table: TableId) {
        if let Some(stream) = &mut self.stream {
            stream.remove_table(table);
        }
    }

    fn take(&mut self, table: TableId) -> Result<Option<ChangeBatch>> {
        match &mut self.stream {
            Some(stream) => stream.take(table),
            None => Ok(None),
        }
    }

    fn open_transaction(&self) -> Option<Txn> {
        self.open
    }

    fn buffered_bytes(&self) -> usize {
        self.stream.as_ref().map_or(0, PgStream::held_bytes)
    }

    fn guard(&mut self, until: Option<CommitLsn>) {
        if let Some(stream) = &mut self.stream {
            stream.set_guard(until);
        }
    }

    fn stop_before(&mut self, bound: Lsn) {
        if let Some(stream) = &mut self.stream {
            stream.set_stop_before(bound);
        }
    }

    fn acknowledge(&self, position: CommitLsn) {
        self.told.send_modify(|told| *told = (*told).max(position));
    }

    fn hang_up(&mut self) {
        self.stream = None;
        self.open = None;
    }

    async fn finish(mut self) -> Result<()> {
        match self.stream.take() {
            Some(stream) => stream.finish(GOODBYE).await,
            None => Ok(()),
        }
    }
}

/// A snapshot that tables can be copied under. It ends with this value.
pub struct PgCopy {
    slot: SnapshotSlot,
    point: SnapshotPoint,
    sql: Arc<Sql>,
    options: PgOptions,
    policies: Policies,
    tables: BTreeMap<TableId, CatalogTable>,
    cuts: Arc<Mutex<BTreeMap<TableId, Cuts>>>,
    max_load: MaxLoad,
}

/// The table as the last look at the source found it. A snapshot may wait minutes for open writers; a table that was
/// there before may be gone from the looks since.
fn known<'t, T>(tables: &'t BTreeMap<TableId, T>, schema: &TableSchema) -> Result<&'t T> {
    tables.get(&schema.id).ok_or_else(|| {
        let what = "it was dropped, renamed or replaced before its copy began";
        table_error(&schema.name, codes::PG025, what)
            .with_try(format!("strandline resync \"{}\" --yes", schema.name))
    })
}

/// A worker's share, counted.
struct Counted {
    writer: Box<dyn CopyWriter>,
    rows: Arc<AtomicU64>,
}

impl CopySink for Counted {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let rows = batch.len() as u64;
        self.writer.write(batch)?;
        self.rows.fetch_add(rows, Ordering::Relaxed);
        Ok(())
    }
}

impl CopySession for PgCopy {
    fn position(&self) -> CommitLsn {
        self.slot.point
    }

    fn point(&self) -> SnapshotPoint {
        self.point
    }

    async fn copy(
        &mut self,
        schema: Arc<TableSchema>,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        self.copy_keys(&schema, (None, String::new()), writers, progress).await
    }

    async fn chunks(
        &mut self,
        schema: &TableSchema,
        from: Option<&ChunkKey>,
        rows: u64,
    ) -> Result<Option<Vec<ChunkKey>>> {
        let table = self.table(schema)?;
        let Some((ends, cuts)) = chunk::plan(&self.sql, table, from, rows).await? else { return Ok(None) };
        self.cuts.lock().await.insert(schema.id, cuts);
        Ok(Some(ends))
    }

    async fn copy_range(
        &mut self,
        schema: Arc<TableSchema>,
        range: KeyRange,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        let cuts = self.cuts.lock().await.get(&schema.id).cloned();
        let cuts = cuts.ok_or_else(|| Error::new(codes::RT001, "a chunk of a table that was not cut"))?;
        self.copy_keys(&schema, (Some((range, cuts)), String::new()), writers, progress).await
    }

    const CAN_PICK: bool = true;

    async fn copy_some(
        &mut self,
        schema: Arc<TableSchema>,
        pick: Pick,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        let table = self.table(&schema)?;
        let only = chunk::more(table, &pick);
        let keys = if !pick.keys.is_empty() {
            Some((pick.range, chunk::by_key(table)))
        } else if pick.range == KeyRange::default() {
            None
        } else {
            let cuts = self.cuts.lock().await.get(&schema.id).cloned();
            let none = || Error::new(codes::RT001, "a range of a table that was not cut");
            Some((pick.range, cuts.ok_or_else(none)?))
        };
        self.copy_keys(&schema, (keys, only), writers, progress).await
    }

    async fn release(self) -> Result<()> {
        self.slot.release().await
    }
}

impl PgCopy {
    fn table(&self, schema: &TableSchema) -> Result<&CatalogTable> {
        known(&self.tables, schema)
    }

    async fn copy_keys(
        &mut self,
        schema: &TableSchema,
        (keys, only): (Option<(KeyRange, Cuts)>, String),
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        let table = self.table(schema)?;
        let job = CopyJob {
            options: &self.options,
            sql: &self.sql,
            snapshot: &self.slot.snapshot,
            table,
            policies: self.policies,
            workers: writers.len(),
            progress: Arc::new(CopyProgress::default()),
            max_load: self.max_load,
            keys,
            only: chunk::published(table) + &only,
        };
        let mut writers: Vec<_> = writers.into_iter().map(Some).collect();
        let sinks = copy_table(&job, |worker| {
            let writer = writers.get_mut(worker).and_then(Option::take);
            let writer =
                writer.ok_or_else(|| Error::new(codes::RT001, "a copy asked for too many writers"))?;
            Ok(Counted { writer, rows: Arc::clone(&progress) })
        })
        .await?;
        let parts = tokio::task::spawn_blocking(|| {
            sinks.into_iter().map(|sink| sink.writer.finish()).collect::<Result<Vec<_>>>()
        });
        parts.await.map_err(|e| Error::new(codes::RT001, "a copy's writer panicked").with_source(e))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Disposition;

    #[test]
    fn a_table_that_went_before_its_copy_began_stops_alone() {
        let none: BTreeMap<TableId, CatalogTable> = BTreeMap::new();
        let error = known(&none, &TableSchema::messages()).map(|_| ()).unwrap_err();
        assert_eq!((error.code(), error.code().disposition), (codes::PG025, Disposition::HaltTable));
    }
}
