//! Copies one table under an exported snapshot, by several workers at once.
//!
//! The table (each leaf, for a partition root) is cut into ranges of pages; workers take ranges from one
//! queue, so that a skewed table keeps all of them busy. Each has a connection and a transaction of its
//! own on the same snapshot, and runs on a blocking thread: it decodes and hands every batch to its sink
//! there, since a sink that compresses must not sit on the async threads.
//!
//! A table that was rewritten after the snapshot (`ALTER TABLE` of a type, `TRUNCATE`, `VACUUM FULL`) looks
//! *empty* under it. So every worker locks the table first, and each partition before it reads it, and looks whether
//! its file is still the one that the snapshot knows; and the columns must still be those that were resolved.
//!
//! A transaction holds its locks to its end, and the server has room for some thousands in all. So a worker begins
//! a new transaction on the same snapshot after some partitions.

use super::catalog::{SourceTable, still_matches};
use super::chunk::{self, Cuts};
use super::fault::{protocol, table_error};
use super::load::{self, MaxLoad};
use super::options::PgOptions;
use super::quote;
use super::sql::{Sql, field, partition_tree, text, truth};
use super::wire::{CopyNext, Purpose, Wire};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, KeyRange};
use crate::pgoutput::{BatchBuilder, CopyDecoder, Policies};
use crate::schema::{Column, ColumnKind, TableName};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Rows of a batch.
const BATCH_ROWS: usize = 16 * 1024;
/// Bytes of a batch.
const BATCH_BYTES: usize = 4 << 20;
/// Least and most bytes of a range.
const RANGE_BYTES: std::ops::RangeInclusive<u64> = (8 << 20)..=(128 << 20);
/// Ranges per worker, so that the last ones end at about the same time.
const RANGES_PER_WORKER: u64 = 4;

/// Partitions that a worker locks in one transaction.
const LOCKED: usize = 64;

/// Where a worker puts its batches. Called on a blocking thread; slowness holds the worker back.
pub trait CopySink: Send + 'static {
    /// Takes a batch of rows (`op r`).
    fn write(&mut self, batch: ChangeBatch) -> Result<()>;
}

/// How far a copy is; for status.
#[derive(Debug, Default)]
pub struct CopyProgress {
    /// Rows copied.
    pub rows: AtomicU64,
    /// Bytes received.
    pub bytes: AtomicU64,
    /// Ranges done.
    pub ranges_done: AtomicU64,
    /// Ranges in all.
    pub ranges: AtomicU64,
}

/// What to copy.
pub struct CopyJob<'a> {
    /// How to connect.
    pub options: &'a PgOptions,
    /// A connection that sees the catalogue as it is now.
    pub sql: &'a Sql,
    /// Name of the exported snapshot.
    pub snapshot: &'a str,
    /// The table.
    pub table: &'a SourceTable,
    /// The operator's choices about values.
    pub policies: Policies,
    /// Workers at most.
    pub workers: usize,
    /// Counts while it goes on.
    pub progress: Arc<CopyProgress>,
    /// More load of the source than this, and the workers wait.
    pub max_load: MaxLoad,
    /// Only these keys; `None`: all rows.
    pub keys: Option<(KeyRange, Cuts)>,
    /// Only rows for which this holds: conditions with `AND` in front of each; empty: all of them.
    pub only: String,
}

/// Copies the table. `make_sink` is asked once per worker; all sinks come back when all rows are in them.
///
/// Errors: PG022 and PG025 when the table changed since the snapshot, PG021 for a value, PG010; PG006 when
/// a connection is lost. Nothing of an unfinished copy is of use.
pub async fn copy_table<S: CopySink>(
    job: &CopyJob<'_>,
    mut make_sink: impl FnMut(usize) -> Result<S>,
) -> Result<Vec<S>> {
    let mut lead = reader(job).await?;
    let name = job.table.name();
    if !still_matches(job.sql, job.table).await? {
        return Err(table_error(
            name,
            codes::PG022,
            "what is published of it changed while its copy was being prepared",
        )
        .with_try("the copy is tried again by itself on the next start or resync"));
    }
    let ranges = ranges(&mut lead, job).await?;
    job.progress.ranges.store(ranges.len() as u64, Ordering::Relaxed);
    let count = job.workers.min(ranges.len()).max(1);
    let mut wires = vec![lead];
    while wires.len() < count {
        wires.push(reader(job).await?);
    }
    // Nobody begins before the load was looked at.
    let waits = watch::Sender::new(!job.max_load.is_unlimited());
    let shared = Arc::new(Shared {
        queue: Mutex::new(ranges.into()),
        stop: AtomicBool::new(false),
        begin: begin(job),
        table: job.table.clone(),
        policies: job.policies,
        progress: Arc::clone(&job.progress),
        gate: waits.subscribe(),
    });
    // Dropping this future stops the workers at their next read.
    let _guard = StopGuard(Arc::clone(&shared));
    let mut tasks = Vec::new();
    for (number, wire) in wires.into_iter().enumerate() {
        let (shared, sink) = (Arc::clone(&shared), make_sink(number)?);
        let runtime = tokio::runtime::Handle::current();
        tasks.push(tokio::task::spawn_blocking(move || runtime.block_on(work(&shared, wire, sink))));
    }
    tokio::select! {
        sinks = whole(tasks) => sinks,
        unseen = load::watch(job.sql, &job.max_load, &waits) => Err(unseen.err().unwrap_or_else(|| {
            Error::new(codes::RT001, "nobody looks at the source's load any more")
        })),
    }
}

/// What all workers give, or the first failure.
async fn whole<S>(tasks: Vec<tokio::task::JoinHandle<Result<S>>>) -> Result<Vec<S>> {
    let (mut sinks, mut failed) = (Vec::new(), None);
    for task in tasks {
        match task.await {
            Ok(Ok(sink)) => sinks.push(sink),
            Ok(Err(error)) => failed = failed.or(Some(error)),
            Err(panic) => {
                failed = failed
                    .or_else(|| Some(Error::new(codes::RT001, "a copy worker broke").with_source(panic)));
            }
        }
    }
    failed.map_or(Ok(sinks), Err)
}

struct Shared {
    queue: Mutex<VecDeque<Range>>,
    stop: AtomicBool,
    /// Begins a transaction on the snapshot.
    begin: String,
    table: SourceTable,
    policies: Policies,
    progress: Arc<CopyProgress>,
    /// Set while the workers are to wait.
    gate: watch::Receiver<bool>,
}

struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// The next range, once the source's load lets it.
    async fn when_open(&self) -> Option<Range> {
        let mut gate = self.gate.clone();
        // An error says that nobody sets it any more: the copy has ended, and says why.
        while *gate.borrow_and_update() && gate.changed().await.is_ok() {}
        self.next()
    }

    fn next(&self) -> Option<Range> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// Pages `from..to` of one relation; the last range has no end, since the file may grow.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Range {
    /// `ONLY "s"."t"`, quoted.
    relation: String,
    /// No pages: the whole relation without a predicate.
    pages: Option<(u64, Option<u64>)>,
    /// A condition on keys, with `AND` in front of each part.
    keys: String,
}

/// A connection in a transaction on the snapshot, with the table locked and found unchanged.
async fn reader(job: &CopyJob<'_>) -> Result<Wire> {
    let mut wire = Wire::connect(job.options, Purpose::Query).await?;
    let name = job.table.name();
    wire.simple_query(&begin(job)).await?;
    let lock = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", quote::table(name));
    wire.simple_query(&lock).await.map_err(|e| changed_since(name, e))?;
    // The row of pg_class is seen as of the snapshot, the function looks at the present.
    let query = format!(
        "SELECT count(*) FROM {1} t RIGHT JOIN pg_catalog.pg_class c ON c.oid = t.relid \
         WHERE (c.oid = {0} OR t.relid IS NOT NULL) AND c.relkind = 'r' \
         AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)",
        job.table.id(),
        partition_tree(&job.table.id().to_string())
    );
    let rows = wire.simple_query(&query).await?;
    let rewritten: u64 = rows.first().map_or(Ok(0), |row| field(row, 0))?;
    if rewritten > 0 { Err(rewritten_since(name)) } else { Ok(wire) }
}

fn begin(job: &CopyJob<'_>) -> String {
    // Ranges of a table in the order of its key are read through the index.
    let by_index = job.keys.as_ref().is_some_and(|(_, cuts)| cuts.in_order);
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; \
         SET LOCAL max_parallel_workers_per_gather = 0{}",
        quote::literal(job.snapshot),
        if by_index { "; SET LOCAL enable_seqscan = off" } else { "" }
    )
}

fn rewritten_since(name: &TableName) -> Error {
    table_error(name, codes::PG022, "it was truncated or rewritten after the snapshot was taken")
        .with_try("the copy is tried again by itself on the next start or resync")
}

/// What a worker has locked in its transaction.
#[derive(Default)]
struct Locked {
    relation: String,
    count: usize,
}

impl Locked {
    /// Locks a partition before it is read, and looks whether it is still the one of the snapshot.
    async fn enter(&mut self, shared: &Shared, wire: &mut Wire, range: &Range) -> Result<()> {
        let Some(leaf) = range.relation.strip_prefix("ONLY ").filter(|_| shared.table.partitioned) else {
            return Ok(());
        };
        if self.relation == range.relation {
            return Ok(());
        }
        if self.count >= LOCKED {
            wire.simple_query("COMMIT").await?;
            wire.simple_query(&shared.begin).await?;
            self.count = 0;
        }
        let name = shared.table.name();
        let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", range.relation);
        // A partition that is gone is a change of the table, which a newer snapshot shows.
        wire.simple_query(&lock).await.map_err(|error| match changed_since(name, error) {
            gone if gone.code() == codes::PG025 => rewritten_since(name).with_source(gone),
            other => other,
        })?;
        let query = format!(
            "SELECT coalesce(bool_and(c.relfilenode = pg_catalog.pg_relation_filenode(c.oid)), false) \
             FROM pg_catalog.pg_class c WHERE c.oid = {}::pg_catalog.regclass",
            quote::literal(leaf)
        );
        let rows = wire.simple_query(&query).await?;
        if !rows.first().is_some_and(|row| truth(row, 0)) {
            return Err(rewritten_since(name));
        }
        (self.relation, self.count) = (range.relation.clone(), self.count + 1);
        Ok(())
    }
}

/// A table or column that is not there any more is a fact about the table.
fn changed_since(name: &TableName, error: Error) -> Error {
    let text = error.message();
    if text.contains(" 42P01 ") || text.contains(" 3F000 ") {
        table_error(name, codes::PG025, "it was dropped or renamed").with_source(error)
    } else if text.contains(" 42703 ") {
        table_error(name, codes::PG022, "its columns changed after the snapshot was taken").with_source(error)
    } else {
        error
    }
}

/// What the workers take from the queue.
async fn ranges(wire: &mut Wire, job: &CopyJob<'_>) -> Result<Vec<Range>> {
    let Some((range, cuts)) = &job.keys else {
        let all = plan(wire, job.table, job.workers).await?;
        return Ok(all.into_iter().map(|piece| Range { keys: job.only.clone(), ..piece }).collect());
    };
    if !cuts.in_order {
        let keys = chunk::condition(job.table, range) + &job.only;
        let all = plan(wire, job.table, job.workers).await?;
        return Ok(all.into_iter().map(|piece| Range { keys: keys.clone(), ..piece }).collect());
    }
    let relation = format!("ONLY {}", quote::table(job.table.name()));
    let pieces = cuts.pieces(range).into_iter();
    Ok(pieces
        .map(|piece| Range {
            relation: relation.clone(),
            pages: None,
            keys: chunk::condition(job.table, &piece) + &job.only,
        })
        .collect())
}

async fn plan(wire: &mut Wire, table: &SourceTable, workers: usize) -> Result<Vec<Range>> {
    let root = quote::table(table.name());
    let id = table.id();
    let query = if table.partitioned {
        format!(
            "SELECT n.nspname, c.relname, pg_catalog.pg_relation_size(c.oid), \
             current_setting('block_size'), coalesce(m.amname = 'heap', false), \
             pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             FROM {} t JOIN pg_catalog.pg_class c ON c.oid = t.relid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
             WHERE c.relkind <> 'p' ORDER BY 3 DESC",
            partition_tree(&id.to_string())
        )
    } else {
        format!(
            "SELECT n.nspname, c.relname, pg_catalog.pg_relation_size(c.oid), current_setting('block_size'), \
             coalesce(m.amname = 'heap', false), true FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
             WHERE c.oid = {id}"
        )
    };
    let rows = wire.simple_query(&query).await?;
    // Without SELECT on a leaf it can be read through its root only, in one piece.
    if rows.iter().any(|row| !truth(row, 5)) {
        return Ok(vec![Range { relation: root, pages: None, keys: String::new() }]);
    }
    let sizes = rows.iter().map(|row| field::<u64>(row, 2)).collect::<Result<Vec<_>>>()?;
    let step = range_bytes(sizes.iter().sum(), workers);
    let mut ranges = Vec::new();
    for (row, bytes) in rows.iter().zip(sizes) {
        let (schema, name) = (text(row, 0).unwrap_or_default(), text(row, 1).unwrap_or_default());
        let relation = format!("ONLY {}", quote::table(&TableName::new(schema, name)));
        let block: u64 = field(row, 3)?;
        if truth(row, 4) {
            ranges.extend(cut(&relation, bytes.div_ceil(block.max(1)), (step / block.max(1)).max(1)));
        } else {
            ranges.push(Range { relation, pages: None, keys: String::new() });
        }
    }
    Ok(ranges)
}

fn range_bytes(total: u64, workers: usize) -> u64 {
    (total / (workers as u64 * RANGES_PER_WORKER).max(1)).clamp(*RANGE_BYTES.start(), *RANGE_BYTES.end())
}

fn cut(relation: &str, pages: u64, step: u64) -> Vec<Range> {
    let starts = (0..pages.max(1)).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    starts
        .map(|from| {
            let to = from + step;
            let to = (to < pages).then_some(to);
            Range { relation: relation.to_owned(), pages: Some((from, to)), keys: String::new() }
        })
        .collect()
}

impl Range {
    fn statement(&self, table: &SourceTable) -> String {
        let columns: Vec<String> = table.schema.columns.iter().map(selected).collect();
        let columns = columns.join(", ");
        let relation = &self.relation;
        let pages = match self.pages {
            None => String::new(),
            Some((from, None)) => format!(" AND ctid >= '({from},0)'::pg_catalog.tid"),
            Some((from, Some(to))) => {
                format!(" AND ctid >= '({from},0)'::pg_catalog.tid AND ctid < '({to},0)'::pg_catalog.tid")
            }
        };
        let all = pages + &self.keys;
        let predicate = all.strip_prefix(" AND").map(|all| format!(" WHERE{all}")).unwrap_or_default();
        format!("COPY (SELECT {columns} FROM {relation}{predicate}) TO STDOUT (FORMAT binary)")
    }
}

/// A column in the select list. What is known by its text only is written by its type's output function, as in
/// the stream; a cast to text may be another thing. `IS NULL` would hold for a composite value of nulls, too.
fn selected(column: &Column) -> String {
    let name = quote::identifier(&column.name);
    match column.kind {
        ColumnKind::Unknown => format!(
            "CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE pg_catalog.format('%s', {name}) END"
        ),
        _ => name,
    }
}

/// One worker: ranges until there are none.
async fn work<S: CopySink>(shared: &Shared, mut wire: Wire, mut sink: S) -> Result<S> {
    let mut builder = BatchBuilder::new(Arc::clone(&shared.table.schema), shared.policies);
    let mut locked = Locked::default();
    while let Some(range) = shared.when_open().await {
        let copied = async {
            locked.enter(shared, &mut wire, &range).await?;
            copy_range(shared, &mut wire, &range, &mut builder, &mut sink).await
        };
        if let Err(error) = copied.await {
            shared.stop.store(true, Ordering::Relaxed);
            return Err(changed_since(shared.table.name(), error));
        }
        shared.progress.ranges_done.fetch_add(1, Ordering::Relaxed);
    }
    if shared.stop.load(Ordering::Relaxed) {
        return Err(Error::new(codes::PG006, "the copy was stopped"));
    }
    hand_on(shared, &mut builder, &mut sink)?;
    wire.close().await;
    Ok(sink)
}

async fn copy_range<S: CopySink>(
    shared: &Shared,
    wire: &mut Wire,
    range: &Range,
    builder: &mut BatchBuilder,
    sink: &mut S,
) -> Result<()> {
    let schema = &shared.table.schema;
    let mut decoder = CopyDecoder::new();
    wire.copy_out(&range.statement(&shared.table)).await?;
    loop {
        match wire.copy_next()? {
            CopyNext::Data(chunk) => decoder.feed(chunk, builder).map_err(|e| e.into_error(schema))?,
            CopyNext::Done => break,
            CopyNext::NeedMore => {
                if builder.rows() >= BATCH_ROWS || builder.bytes() >= BATCH_BYTES {
                    wire.give_back();
                    hand_on(shared, builder, sink)?;
                }
                if shared.stop.load(Ordering::Relaxed) {
                    return Err(Error::new(codes::PG006, "the copy was stopped"));
                }
                let read = wire.fill().await?;
                shared.progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
        }
    }
    decoder.finish().map_err(|e| protocol(e.into_error(schema)))
}

fn hand_on<S: CopySink>(shared: &Shared, builder: &mut BatchBuilder, sink: &mut S) -> Result<()> {
    if builder.is_empty() {
        return Ok(());
    }
    let batch = builder.take(None).map_err(|e| e.into_error(&shared.table.schema))?;
    shared.progress.rows.fetch_add(batch.len() as u64, Ordering::Relaxed);
    sink.write(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cover_every_page_once(pages in 0u64..5_000, step in 1u64..700) {
            let ranges = cut("t", pages, step);
            let mut next = 0;
            for (i, range) in ranges.iter().enumerate() {
                let Some((from, to)) = range.pages else { panic!("no pages") };
                prop_assert_eq!(from, next);
                prop_assert_eq!(to.is_none(), i + 1 == ranges.len(), "only the last is open");
                next = to.unwrap_or(next);
            }
            prop_assert!(!ranges.is_empty());
        }
    }

    #[test]
    fn ranges_are_neither_tiny_nor_huge() {
        assert_eq!(range_bytes(0, 2), 8 << 20);
        assert_eq!(range_bytes(800 << 20, 2), 100 << 20);
        assert_eq!(range_bytes(1 << 50, 2), 128 << 20);
    }
}
