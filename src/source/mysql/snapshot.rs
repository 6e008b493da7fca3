//! Copies of tables at one exact place of the log.
//!
//! Every worker has a session in a consistent snapshot, and all snapshots are of the same place. MariaDB says of each
//! snapshot where it is. MySQL does not, so the place is taken where it cannot move: read before and after the
//! snapshots are opened, and equal, while no transaction was between the log and the tables (`gtid_owned` is empty).
//! That needs no lock; on a server that is never quiet for a millisecond, or without GTIDs, a read lock over all tables
//! is held for as long as the snapshots are opened, and no longer. Where that is not allowed (managed servers give nobody
//! `RELOAD`), only the tables that are followed are locked (`LOCK TABLES … READ`): whoever wrote to one of them has
//! committed then, so that the snapshots hold of these tables what the log has before the place that is read under the
//! lock. Others go on meanwhile; of their transactions the GTIDs that are noted may lack some, never have too many, so
//! that after a failover they are asked for again and concern no table.
//!
//! | what could go wrong | what happens |
//! |---|---|
//! | a transaction is in the log and not in the tables when the snapshot opens | it owns its GTID: the place is taken again |
//! | a table is altered or truncated after the snapshot | the server refuses to read it (1412): copied again, from a newer one |
//! | the lock is not to be had within a second | let go, so that nobody's writes wait behind it for longer, and tried again |

use super::assemble::push_definition;
use super::catalog::MyTable;
use super::chunk::{self, Cuts, KeyOrder};
use super::definition;
use super::fault::{changed_since, fault, table_error};
use super::gtids;
use super::options::MyOptions;
use super::server::{Gtids, LogEnd, Server, too_large};
use super::sql::{Sql, quoted, within};
use crate::binlog::{BatchBuilder, Cell, Flavor, Policies, SnapshotDecoder};
use crate::error::{Error, Result, codes};
use crate::event::{ChunkKey, CopyPart, CopyWriter, KeyRange, Origin, OriginRun, SnapshotPoint};
use crate::position::{CommitLsn, LogPoint, Marks};
use crate::schema::{TableId, TableName, TableSchema};
use crate::source::CopySession;
use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// So often the place is taken without a lock.
const ATTEMPTS: u32 = 40;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(5);
/// Seconds that a lock is waited for: whoever writes waits behind it, and who waits for a row of theirs, and the lock for
/// both.
const LOCK_WITHIN: u32 = 1;
/// So often it is tried.
const LOCK_ATTEMPTS: u32 = 12;
const BETWEEN_LOCKS: Duration = Duration::from_millis(50);
const BATCH_ROWS: usize = 32 * 1024;
const BATCH_BYTES: usize = 12 << 20;
/// From 1970 to 2000, microseconds.
const EPOCH_2000: i64 = 946_684_800_000_000;
const SNAPSHOT: &str = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
/// What is not to be had: too long a wait, or no privilege.
const LOCK_REFUSED: [u16; 5] = [1205, 1227, 1142, 1044, 1045];
/// Of them, those that no waiting helps.
const NOT_ALLOWED: [u16; 4] = [1227, 1142, 1044, 1045];

/// A place in the log with all that is before it.
pub(super) struct Exact {
    pub(super) end: LogEnd,
    pub(super) gtids: Gtids,
}

/// Snapshots that tables are copied under. They end with this value.
pub struct MySnapshot {
    sessions: Vec<Sql>,
    position: CommitLsn,
    marks: Marks,
    tables: BTreeMap<TableId, MyTable>,
    cuts: BTreeMap<TableId, Cuts>,
    policies: Policies,
    /// When it was taken, by the server's clock, microseconds since 1970.
    time: i64,
    /// What its rows tell of it, if that is shown.
    origin: Option<OriginRun>,
}

/// Opens so many snapshots of one place; fewer where the server is never quiet.
///
/// # Errors
/// `MY036` when there is no such place.
pub(super) async fn open(
    options: &MyOptions,
    server: &Server,
    count: usize,
    tables: &[TableName],
) -> Result<(Vec<Sql>, Exact)> {
    let mut control = Sql::connect(options).await?;
    let mut sessions = Vec::with_capacity(count.max(1));
    while sessions.len() < count.max(1) {
        sessions.push(Sql::connect(options).await?);
    }
    let exact = match server.flavor {
        Flavor::MariaDb => mariadb(&mut control, server, &mut sessions).await?,
        Flavor::MySql => mysql(&mut control, server, &mut sessions, tables).await?,
    };
    control.close().await;
    Ok((sessions, exact))
}

/// MariaDB says of each snapshot which place of the log it is of.
async fn mariadb(control: &mut Sql, server: &Server, sessions: &mut Vec<Sql>) -> Result<Exact> {
    for attempt in 1..=ATTEMPTS {
        let mut places = Vec::with_capacity(sessions.len());
        for sql in sessions.iter_mut() {
            sql.exec(SNAPSHOT).await?;
            places.push(snapshot_place(sql).await?);
        }
        let Some(first) = places.first().cloned() else { break };
        if attempt == ATTEMPTS {
            // The first is as good as any; those of another place are given back.
            let mut keep = places.iter().map(|place| *place == first);
            sessions.retain(|_| keep.next().unwrap_or(false));
        } else if places.iter().any(|place| *place != first) {
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            continue;
        }
        let (base, point) = first;
        let gtids = Gtids::MariaDb(server.gtids_at(control, &base, point).await?);
        return Ok(Exact { end: LogEnd { base, point, executed: String::new() }, gtids });
    }
    Err(no_place("no snapshot could be opened"))
}

async fn snapshot_place(sql: &mut Sql) -> Result<(String, LogPoint)> {
    let rows = sql.rows("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let find = |name: &str| {
        let row = rows
            .iter()
            .find(|row| row.first().cloned().flatten().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        row.and_then(|row| row.get(1).cloned().flatten()).unwrap_or_default()
    };
    let (file, offset) = (find("binlog_snapshot_file"), find("binlog_snapshot_position"));
    let number = LogPoint::file_number(&file);
    match (file.rsplit_once('.'), number, offset.parse()) {
        (Some((base, _)), Some(file), Ok(offset)) => Ok((base.to_owned(), LogPoint { file, offset })),
        _ => Err(no_place("the server does not say of which place of its log a snapshot is")),
    }
}

fn no_place(what: &str) -> Error {
    Error::new(codes::MY036, what)
        .with_try("GRANT RELOAD, LOCK TABLES ON *.* TO the user, or copy at a quieter time")
}

async fn mysql(
    control: &mut Sql,
    server: &Server,
    sessions: &mut [Sql],
    tables: &[TableName],
) -> Result<Exact> {
    if server.has_gtids {
        for _ in 0..ATTEMPTS {
            if let Some(end) = quiet(control, server, sessions).await? {
                return exact(end);
            }
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
        }
    }
    control.exec(&format!("SET SESSION lock_wait_timeout = {LOCK_WITHIN}")).await?;
    let mut lock = "FLUSH TABLES WITH READ LOCK".to_owned();
    let mut may_fall_back = !tables.is_empty();
    for attempt in 0..LOCK_ATTEMPTS {
        match control.try_exec(&lock).await {
            Ok(()) => {
                let opened = locked(control, server, sessions).await;
                control.exec("UNLOCK TABLES").await?;
                return exact(opened?);
            }
            Err(error) => match super::fault::number(&error) {
                Some(number) if NOT_ALLOWED.contains(&number) && may_fall_back => {
                    may_fall_back = false;
                    tracing::info!("the tables that are followed are locked for a moment: {error}");
                    let of =
                        |name: &TableName| format!("{}.{} READ", quoted(&name.schema), quoted(&name.table));
                    lock = format!("LOCK TABLES {}", tables.iter().map(of).collect::<Vec<_>>().join(", "));
                }
                Some(number) if LOCK_REFUSED.contains(&number) => {
                    tracing::debug!(attempt, "no read lock: {error}");
                    tokio::time::sleep(BETWEEN_LOCKS).await;
                }
                _ => return Err(fault("the tables cannot be locked for a moment", error)),
            },
        }
    }
    Err(no_place("the server is never quiet, and its tables cannot be locked for a moment"))
}

fn exact(end: LogEnd) -> Result<Exact> {
    let set = end
        .executed
        .parse()
        .map_err(|e| Error::new(codes::MY033, "the server's GTID set cannot be read").with_source(e))?;
    Ok(Exact { gtids: Gtids::MySql(set), end })
}

async fn locked(control: &mut Sql, server: &Server, sessions: &mut [Sql]) -> Result<LogEnd> {
    let end = server.log_end(control).await?;
    for sql in sessions.iter_mut() {
        sql.exec(SNAPSHOT).await?;
    }
    Ok(end)
}

/// The place, if nothing moved while the snapshots were opened.
async fn quiet(control: &mut Sql, server: &Server, sessions: &mut [Sql]) -> Result<Option<LogEnd>> {
    let before = server.log_end(control).await?;
    if !is_idle(control).await? {
        return Ok(None);
    }
    for sql in sessions.iter_mut() {
        sql.exec(SNAPSHOT).await?;
    }
    let after = server.log_end(control).await?;
    Ok(Some(after).filter(|after| *after == before))
}

/// No transaction is in the log and not yet in the tables.
async fn is_idle(control: &mut Sql) -> Result<bool> {
    let owned = control.row("SELECT @@GLOBAL.gtid_owned").await?.into_iter().next().flatten();
    Ok(owned.is_none_or(|owned| owned.is_empty()))
}

/// An exact place without a copy: where a pipeline begins.
///
/// # Errors
/// `MY036`.
pub(super) async fn place(options: &MyOptions, server: &Server, tables: &[TableName]) -> Result<Exact> {
    let (sessions, exact) = open(options, server, 1, tables).await?;
    for sql in sessions {
        sql.close().await;
    }
    Ok(exact)
}

/// The server's clock, to the second as a statement tells it.
async fn now(sql: Option<&mut Sql>) -> Result<i64> {
    let Some(sql) = sql else { return Err(no_place("no snapshot could be opened")) };
    let text = sql.row("SELECT UNIX_TIMESTAMP()").await?.into_iter().next().flatten().unwrap_or_default();
    let seconds = text.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000_000));
    seconds.ok_or_else(|| Error::new(codes::MY033, format!("the server's clock says \"{text}\"")))
}

impl MySnapshot {
    pub(super) async fn open(
        options: &MyOptions,
        server: &Server,
        shift: u32,
        workers: usize,
        tables: BTreeMap<TableId, MyTable>,
        (policies, tells): (Policies, bool),
    ) -> Result<MySnapshot> {
        let names: Vec<TableName> = tables.values().map(|table| table.schema.name.clone()).collect();
        let (mut sessions, exact) = open(options, server, workers, &names).await?;
        let position = exact.end.point.position(shift).map_err(too_large)?;
        let marks = gtids::marks(&exact.gtids);
        let time = now(sessions.first_mut()).await?;
        let LogEnd { base, point, .. } = exact.end;
        let origin = tells.then(|| {
            let (file, gtid, begin) = (point.file_name(&base), None, point.offset);
            let origin = Arc::new(Origin { file, gtid, begin, server_id: 0, thread: None });
            OriginRun { first_row: 0, row: 0, position: point.offset, time, origin, query: None }
        });
        Ok(MySnapshot { sessions, position, marks, tables, cuts: BTreeMap::new(), policies, time, origin })
    }
}

impl CopySession for MySnapshot {
    fn position(&self) -> CommitLsn {
        self.position
    }

    fn marks(&self) -> Marks {
        self.marks.clone()
    }

    fn point(&self) -> SnapshotPoint {
        let time = Some(self.time - EPOCH_2000);
        SnapshotPoint { position: self.position, xid: None, time, is_first: true, is_last: true }
    }

    async fn copy(
        &mut self,
        schema: Arc<TableSchema>,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        if schema.is_definitions() {
            return self.copy_definitions(schema, writers, &progress).await;
        }
        let (sql, table) = self.looked_at(&schema)?;
        let ranges = match KeyOrder::of(sql, &schema, table.columns()).await? {
            None => vec![String::new()],
            Some(order) => {
                let estimate = table.estimated_rows;
                let all = chunk::stretches(sql, &schema, &order, writers.len(), estimate).await?;
                all.iter().map(|range| order.condition(&schema, range)).collect::<Result<_>>()?
            }
        };
        self.copy_stretches(schema, ranges, writers, progress).await
    }

    async fn chunks(
        &mut self,
        schema: &TableSchema,
        from: Option<&ChunkKey>,
        rows: u64,
    ) -> Result<Option<Vec<ChunkKey>>> {
        let (sql, table) = self.looked_at(schema)?;
        let order = KeyOrder::of(sql, schema, table.columns()).await?;
        let Some(order) = order.filter(|order| from.is_none_or(|from| order.knows(from))) else {
            return Ok(None);
        };
        let Some((ends, cuts)) = chunk::chunks(sql, schema, &order, from, rows).await? else {
            return Ok(None);
        };
        self.cuts.insert(schema.id, cuts);
        Ok(Some(ends))
    }

    async fn copy_range(
        &mut self,
        schema: Arc<TableSchema>,
        range: KeyRange,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        // The order as this snapshot finds it.
        let (sql, table) = self.looked_at(&schema)?;
        let order =
            KeyOrder::of(sql, &schema, table.columns()).await?.ok_or_else(|| chunk::not_cut(&schema))?;
        let pieces = match self.cuts.get(&schema.id) {
            Some(cuts) => cuts.pieces(&range),
            None => vec![range],
        };
        let ranges = pieces.iter().map(|range| order.condition(&schema, range)).collect::<Result<_>>()?;
        self.copy_stretches(schema, ranges, writers, progress).await
    }

    async fn release(self) -> Result<()> {
        for sql in self.sessions {
            sql.close().await;
        }
        Ok(())
    }
}

impl MySnapshot {
    /// What the tables are, told by the first writer.
    async fn copy_definitions(
        &mut self,
        schema: Arc<TableSchema>,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: &AtomicU64,
    ) -> Result<Vec<CopyPart>> {
        let names: Vec<_> = self.tables.values().map(|table| table.schema.name.clone()).collect();
        let sql = self.sessions.first_mut();
        let sql = sql.ok_or_else(|| Error::new(codes::RT001, "a snapshot without a session"))?;
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        builder.of(self.origin.clone());
        for row in definition::at_the_start(sql, &names).await? {
            push_definition(&row, None, &mut builder)?;
        }
        let mut batch = Some(builder.take(None).map_err(|error| error.into_error(&schema))?);
        let mut parts = Vec::with_capacity(writers.len());
        for mut writer in writers {
            if let Some(batch) = batch.take() {
                progress.fetch_add(batch.len() as u64, Ordering::Relaxed);
                writer.write(batch)?;
            }
            parts.push(writer.finish()?);
        }
        Ok(parts)
    }

    /// A session, and what is known of the table.
    fn looked_at(&mut self, schema: &TableSchema) -> Result<(&mut Sql, &MyTable)> {
        let table = known(&self.tables, schema)?;
        let sql = self.sessions.first_mut();
        Ok((sql.ok_or_else(|| Error::new(codes::RT001, "a snapshot without a session"))?, table))
    }

    /// Each worker takes stretches until there are none.
    async fn copy_stretches(
        &mut self,
        schema: Arc<TableSchema>,
        ranges: Vec<String>,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> Result<Vec<CopyPart>> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(ranges.into()),
            stop: AtomicBool::new(false),
            schema,
            policies: self.policies,
            origin: self.origin.clone(),
            progress,
        });
        // Dropping this future stops the workers at their next row.
        let _guard = StopGuard(Arc::clone(&shared));
        let mut tasks = Vec::new();
        let mut idle = Vec::new();
        let mut sessions = std::mem::take(&mut self.sessions).into_iter();
        for writer in writers {
            let Some(sql) = sessions.next() else {
                idle.push(writer);
                continue;
            };
            let shared = Arc::clone(&shared);
            let runtime = tokio::runtime::Handle::current();
            tasks.push(tokio::task::spawn_blocking(move || runtime.block_on(work(&shared, sql, writer))));
        }
        self.sessions.extend(sessions);
        let (mut parts, mut failed) = (Vec::new(), None);
        for task in tasks {
            match task.await {
                Ok((sql, Ok(part))) => {
                    self.sessions.push(sql);
                    parts.push(part);
                }
                Ok((sql, Err(error))) => {
                    self.sessions.push(sql);
                    failed = failed.or(Some(error));
                }
                Err(panic) => {
                    let error = Error::new(codes::RT001, "a copy worker broke").with_source(panic);
                    failed = failed.or(Some(error));
                }
            }
        }
        drop(idle);
        failed.map_or(Ok(parts), Err)
    }
}

/// The table as the last look at the source found it: one that was there when its copy was decided may be gone since.
fn known<'t>(tables: &'t BTreeMap<TableId, MyTable>, schema: &TableSchema) -> Result<&'t MyTable> {
    tables.get(&schema.id).ok_or_else(|| {
        table_error(&schema.name, codes::MY037, "it was dropped, renamed or replaced before its copy began")
            .with_try(format!("strandline resync \"{}\" --yes", schema.name))
    })
}

struct Shared {
    queue: Mutex<VecDeque<String>>,
    stop: AtomicBool,
    schema: Arc<TableSchema>,
    policies: Policies,
    origin: Option<OriginRun>,
    progress: Arc<AtomicU64>,
}

struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn next(&self) -> Option<String> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn table_of(schema: &TableSchema) -> String {
    format!("{}.{}", quoted(&schema.name.schema), quoted(&schema.name.table))
}

/// One worker: stretches until there are none. The session comes back.
async fn work(shared: &Shared, mut sql: Sql, mut writer: Box<dyn CopyWriter>) -> (Sql, Result<CopyPart>) {
    let result = read(shared, &mut sql, &mut writer).await;
    if result.is_err() {
        shared.stop.store(true, Ordering::Relaxed);
    }
    (sql, result.and_then(|()| writer.finish()))
}

async fn read(shared: &Shared, sql: &mut Sql, writer: &mut Box<dyn CopyWriter>) -> Result<()> {
    let schema = &shared.schema;
    let silence = sql.patience().row;
    let failed = |error| changed_since(&schema.name, "the table cannot be read", error);
    let mut builder = BatchBuilder::new(Arc::clone(schema));
    builder.of(shared.origin.clone());
    let columns: Vec<String> = schema.columns.iter().map(|c| quoted(&c.name)).collect();
    let select = format!("SELECT {} FROM {}", columns.join(", "), table_of(schema));
    while let Some(predicate) = shared.next() {
        let statement = format!("{select}{predicate}");
        let mut result =
            within(silence, sql.conn().exec_iter(statement.as_str(), ())).await.map_err(failed)?;
        let collations: Vec<u16> =
            result.columns_ref().iter().map(mysql_async::Column::character_set).collect();
        let decoder =
            SnapshotDecoder::new(schema, &collations, shared.policies).map_err(|e| e.into_error(schema))?;
        while let Some(row) = within(silence, result.next()).await.map_err(failed)? {
            push(&decoder, row, &mut builder).map_err(|error| error.into_error(schema))?;
            if builder.rows() >= BATCH_ROWS
                || builder.rows().is_multiple_of(256) && builder.bytes() >= BATCH_BYTES
            {
                hand_on(shared, &mut builder, writer)?;
            }
            if shared.stop.load(Ordering::Relaxed) {
                return Err(Error::new(codes::MY032, "the copy was stopped"));
            }
        }
        within(silence, result.drop_result()).await.map_err(failed)?;
    }
    hand_on(shared, &mut builder, writer)?;
    if shared.stop.load(Ordering::Relaxed) {
        return Err(Error::new(codes::MY032, "the copy was stopped"));
    }
    Ok(())
}

fn push(
    decoder: &SnapshotDecoder,
    row: Row,
    builder: &mut BatchBuilder,
) -> Result<(), crate::binlog::ValueError> {
    let values = row.unwrap_raw();
    let length = |value: &Option<Value>| if let Some(Value::Bytes(bytes)) = value { bytes.len() } else { 8 };
    let bytes = values.iter().map(length).sum();
    decoder.push(values.iter().map(|value| value.as_ref().map_or(Cell::Null, cell)), bytes, builder)
}

fn cell(value: &Value) -> Cell<'_> {
    match *value {
        Value::NULL => Cell::Null,
        Value::Bytes(ref bytes) => Cell::Bytes(bytes),
        Value::Int(n) => Cell::Int(n),
        Value::UInt(n) => Cell::Unsigned(n),
        Value::Float(f) => Cell::Float(f),
        Value::Double(f) => Cell::Double(f),
        Value::Date(year, month, day, hour, minute, second, micros) => {
            Cell::Moment { year, month, day, hour, minute, second, micros }
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            Cell::Time { negative, days, hours, minutes, seconds, micros }
        }
    }
}

fn hand_on(shared: &Shared, builder: &mut BatchBuilder, writer: &mut Box<dyn CopyWriter>) -> Result<()> {
    if builder.is_empty() {
        return Ok(());
    }
    let batch = builder.take(None).map_err(|error| error.into_error(&shared.schema))?;
    let rows = batch.len() as u64;
    writer.write(batch)?;
    shared.progress.fetch_add(rows, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Disposition;

    #[test]
    fn a_table_that_went_before_its_copy_began_stops_alone() {
        let error = known(&BTreeMap::new(), &TableSchema::definitions()).map(|_| ()).unwrap_err();
        assert_eq!((error.code(), error.code().disposition), (codes::MY037, Disposition::HaltTable));
    }
}
