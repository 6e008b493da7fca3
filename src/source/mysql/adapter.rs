//! MySQL and MariaDB behind the traits of [`crate::source`]: puts the parts of this folder together.

use super::catalog::{self, Known, MyTable, View};
use super::fault::table_error;
use super::gtids::{self, Told};
use super::lock::Lock;
use super::logfiles;
use super::options::MyOptions;
use super::preflight;
use super::server::{Server, too_large};
use super::snapshot::{self, Exact, MySnapshot};
use super::sql::Sql;
use super::stream::{MyChanges, lineage, place_of_ours};
use crate::binlog::{CatalogColumn, Policies};
use crate::error::finding::Verdict;
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, Lsn, Marks, ServerPoint};
use crate::schema::{TableId, TableName, TableSchema};
use crate::source::pattern::Selection;
use crate::source::{
    CopySession as _, HeldStream, LogHealth, RefusedTable, Source, SourceCodes, SourceTable, SourceView,
    Standing,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is to be replicated, and how.
pub struct MySettings {
    /// How to connect.
    pub options: MyOptions,
    /// Which tables.
    pub selection: Selection,
    /// The operator's choices about values.
    pub policies: Policies,
    /// Sessions of a copy.
    pub copy_workers: usize,
    /// Rows go out as events: changes carry the whole old row, and what the log's events tell of themselves.
    pub for_events: bool,
    /// What statements define is told ([`TableSchema::definitions`]).
    pub tells_definitions: bool,
}

impl MySettings {
    fn view(&self) -> View {
        View { policies: self.policies, full_before: self.for_events }
    }
}

/// What source and streams have in common.
pub(super) struct Shared {
    pub(super) settings: MySettings,
    state: Mutex<State>,
    shift: AtomicU32,
}

#[derive(Default)]
struct State {
    tables: BTreeMap<TableId, MyTable>,
    /// What positions are by GTIDs; not acknowledged yet but for the first.
    marks: Told,
    /// Where a pipeline begins whose first snapshot is taken already.
    beginning: Option<Exact>,
    told: BTreeSet<String>,
    /// The server logs rows in part.
    is_partial: bool,
    /// Files of the log and their sizes, as they were last seen; numbers counted on.
    sizes: BTreeMap<u64, u64>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What file numbers are counted on by.
    pub(super) fn shift(&self) -> u32 {
        self.shift.load(Ordering::SeqCst)
    }

    pub(super) fn set_shift(&self, shift: u32) {
        self.shift.store(shift, Ordering::SeqCst);
    }

    /// What a position is by GTIDs: as of the last one that was told at or before it.
    pub(super) fn marks_of(&self, position: CommitLsn) -> Option<Marks> {
        self.state().marks.of(position)
    }

    pub(super) fn remember(&self, marks: Vec<(CommitLsn, Marks)>) {
        self.state().marks.remember(marks);
    }

    /// Nobody asks for anything before this any more.
    pub(super) fn forget_before(&self, position: CommitLsn) {
        self.state().marks.forget_before(position);
    }

    /// Only these are asked for, and what is told from now on.
    pub(super) fn retain(&self, positions: &BTreeSet<CommitLsn>) {
        self.state().marks.retain(positions);
    }

    pub(super) fn is_partial(&self) -> bool {
        self.state().is_partial
    }

    pub(super) fn take_beginning(&self) -> Option<Exact> {
        self.state().beginning.take()
    }

    /// Tables as they were last seen.
    pub(super) fn names(&self) -> Vec<TableName> {
        self.state().tables.values().map(|table| table.schema.name.clone()).collect()
    }

    pub(super) fn columns_of(&self, table: TableId) -> Vec<CatalogColumn> {
        self.state().tables.get(&table).map(|table| table.columns().to_vec()).unwrap_or_default()
    }

    /// The id that we read as, or the next one that no replica has. Our own dead connection does not count: the
    /// lock says that we are the only one.
    pub(super) async fn free_server_id(&self, sql: &mut Sql) -> Result<u32> {
        let wanted = self.settings.options.server_id();
        let rows = match sql.try_rows("SHOW REPLICAS").await {
            Ok(rows) => rows,
            // Before it had this name, or without the privilege: then the server says so itself when it comes to it.
            Err(error) if super::fault::number(&error).is_some() => Vec::new(),
            Err(error) => return Err(super::fault::fault("cannot ask for replicas", error)),
        };
        let taken: BTreeSet<u32> = rows
            .iter()
            // A replica has a name or a UUID; we have none.
            .filter(|row| {
                row.iter()
                    .skip(1)
                    .any(|cell| cell.as_ref().is_some_and(|c| c.contains('-') || c.contains('.')))
            })
            .filter_map(|row| row.first()?.as_ref()?.parse().ok())
            .collect();
        let free = (wanted..).find(|id| !taken.contains(id)).unwrap_or(wanted);
        if free != wanted {
            tracing::warn!(code = %codes::MY008, wanted, free, "a replica has the server id that strandline reads with: another one is taken");
        }
        Ok(free)
    }
}

/// A server of MySQL or MariaDB.
pub struct MySource {
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
}

impl MySource {
    /// With these settings; connects when it is asked for something.
    pub fn new(settings: MySettings) -> Self {
        let shared = Shared { settings, state: Mutex::default(), shift: AtomicU32::new(0) };
        MySource { shared: Arc::new(shared), server: Mutex::new(None) }
    }

    /// With positions of the server that this pipeline has come to: its file numbers are counted on.
    #[must_use]
    pub fn counted_on(self, shift: u32) -> Self {
        self.shared.set_shift(shift);
        self
    }

    async fn connect(&self) -> Result<(Sql, Server)> {
        let mut sql = Sql::connect(&self.shared.settings.options).await?;
        let server = Server::identify(&mut sql).await?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.clone());
        Ok((sql, server))
    }

    fn shift(&self) -> u32 {
        self.shared.shift()
    }

    async fn preflight(&self, sql: &mut Sql, server: &Server) -> Result<()> {
        for finding in preflight::inspect(sql, server).await? {
            if finding.is_error() {
                return Err(finding.into_error());
            }
            self.shared.state().is_partial |=
                finding.code == codes::MY003 && finding.verdict == Verdict::Warning;
            // Each once: the source is looked at again and again.
            if finding.verdict == Verdict::Warning && self.shared.state().told.insert(finding.found.clone()) {
                let advice = finding.advice.unwrap_or_default();
                tracing::warn!(code = %finding.code, "{}; {advice}", finding.found);
            }
        }
        Ok(())
    }

    fn known(&self) -> Known {
        Known::of(self.shared.state().tables.values())
    }

    async fn copies(&self, workers: usize) -> Result<MySnapshot> {
        let (sql, server) = self.connect().await?;
        sql.close().await;
        let settings = &self.shared.settings;
        let tables = self.shared.state().tables.clone();
        let rows = (settings.policies, settings.for_events);
        let snapshot =
            MySnapshot::open(&settings.options, &server, self.shift(), workers, tables, rows).await?;
        if server.has_gtids {
            self.shared.state().marks.pin(snapshot.position(), snapshot.marks());
        }
        Ok(snapshot)
    }
}

impl Source for MySource {
    type Stream = MyChanges;
    type Copy = MySnapshot;
    const CODES: SourceCodes = SourceCodes {
        no_table: codes::MY010,
        gone: codes::MY037,
        changed: codes::MY022,
        value: codes::MY021,
        unknown: codes::MY023,
        partial: codes::MY026,
        busy: codes::MY031,
    };

    fn beside(&self) -> Option<TableSchema> {
        self.shared.settings.tells_definitions.then(TableSchema::definitions)
    }

    async fn inspect(&self) -> Result<SourceView> {
        let (mut sql, server) = self.connect().await?;
        self.preflight(&mut sql, &server).await?;
        let settings = &self.shared.settings;
        let end = server.log_end(&mut sql).await?;
        let found = catalog::load(&mut sql, &settings.selection, settings.view(), self.known()).await?;
        sql.close().await;
        if found.tables.is_empty() && found.refused.is_empty() {
            return Err(Error::new(codes::MY010, "no table of the server matches tables.include")
                .with_try("compare tables.include with SHOW TABLES FROM the database, as the same user"));
        }
        let tables = found
            .tables
            .iter()
            .map(|t| SourceTable { schema: Arc::clone(&t.schema), estimated_rows: t.estimated_rows })
            .collect();
        self.shared.state().tables = found.tables.into_iter().map(|t| (t.schema.id, t)).collect();
        let refused =
            found.refused.into_iter().map(|(id, name, error)| RefusedTable { id, name, error }).collect();
        let shift = self.shift();
        let flushed = end.point.position(shift).map_err(too_large)?.lsn();
        Ok(SourceView {
            point: ServerPoint { lineage: lineage(&server, shift), flushed },
            server: server.described(),
            slot: Some(place_of_ours()),
            tables,
            refused,
        })
    }

    async fn publish(&self, _tables: &[SourceTable], _slot_exists: bool) -> Result<Vec<RefusedTable>> {
        // The log holds every table.
        Ok(Vec::new())
    }

    async fn check(&self, tables: &[Arc<TableSchema>]) -> Result<Vec<(TableId, Standing)>> {
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let (mut sql, _) = self.connect().await?;
        let names: Vec<_> = tables.iter().map(|table| &table.name).collect();
        let found = catalog::load_named(&mut sql, &names, self.shared.settings.view(), self.known()).await?;
        sql.close().await;
        let mut refused: BTreeMap<TableId, Error> =
            found.refused.into_iter().map(|(id, _, error)| (id, error)).collect();
        let now: BTreeMap<TableId, MyTable> = found.tables.into_iter().map(|t| (t.schema.id, t)).collect();
        let mut standings = Vec::new();
        for table in tables {
            match now.get(&table.id) {
                Some(found) if found.schema.describes_same(table) => {}
                Some(found) => {
                    self.shared.state().tables.insert(table.id, found.clone());
                    standings.push((table.id, Standing::Changed(Arc::clone(&found.schema))));
                }
                None => {
                    let gone = || {
                        table_error(&table.name, codes::MY037, "it is not there any more under its name")
                            .with_try(format!("strandline resync \"{}\" --yes", table.name))
                    };
                    let error = refused.remove(&table.id).unwrap_or_else(gone);
                    standings.push((table.id, Standing::Lost(error)));
                }
            }
        }
        Ok(standings)
    }

    async fn create_slot(&self) -> Result<MySnapshot> {
        // Everything begins anew, at the first snapshot's place.
        self.shared.set_shift(0);
        let (sql, server) = self.connect().await?;
        sql.close().await;
        let options = &self.shared.settings.options;
        let exact = snapshot::place(options, &server, &self.shared.names()).await?;
        {
            let mut state = self.shared.state();
            state.marks.clear();
            let position = exact.end.point.position(0).map_err(too_large)?;
            state.marks.remember([(position, gtids::marks(&exact.gtids))]);
            state.beginning = Some(exact);
        }
        self.copies(self.shared.settings.copy_workers).await
    }

    async fn drop_slot(&self) -> Result<()> {
        Ok(())
    }

    async fn snapshot(&self) -> Result<MySnapshot> {
        self.copies(self.shared.settings.copy_workers).await
    }

    async fn stream(&self) -> Result<HeldStream<MyChanges>> {
        let lock = Lock::take(&self.shared.settings.options).await?;
        let (sql, server) = self.connect().await?;
        sql.close().await;
        let point = ServerPoint { lineage: lineage(&server, self.shift()), flushed: Lsn::ZERO };
        let stream = MyChanges::new(Arc::clone(&self.shared), server, lock);
        Ok(HeldStream { stream, slot: place_of_ours(), point })
    }

    async fn end_of_log(&self) -> Result<Lsn> {
        let (mut sql, server) = self.connect().await?;
        let end = server.log_end(&mut sql).await?;
        sql.close().await;
        Ok(end.point.position(self.shift()).map_err(too_large)?.lsn())
    }

    fn log_bytes(&self, from: Lsn, to: Lsn) -> Option<u64> {
        logfiles::between(&self.shared.state().sizes, from, to)
    }

    async fn look_at_log(&self, held: Option<Lsn>, age: Option<Duration>) -> Result<Option<LogHealth>> {
        let (mut sql, server) = self.connect().await?;
        let seen = logfiles::look(&mut sql, &server, self.shift()).await;
        sql.close().await;
        let seen = seen?;
        self.shared.state().sizes.clone_from(&seen.sizes);
        Ok(Some(LogHealth { end: seen.end, left: seen.left(held, age) }))
    }

    async fn heartbeat(&self) -> Result<()> {
        // Nothing on the server waits for us.
        Ok(())
    }
}
