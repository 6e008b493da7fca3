//! Copies of whole tables: the first one, and those that an operator asks for.

use crate::error::{Error, Result, codes};
use crate::event::{CopyPart, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Marks};
use crate::replication::TableProgress;
use crate::schema::TableSchema;
use crate::sink::{Base, CommitOutcome, Sink, TableRecord, TableSink};
use crate::source::{CopySession, Source};
use crate::telemetry::status::{TableState, Timestamp};
use crate::telemetry::{Metrics, StatusBoard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A snapshot serves several small tables, but no longer than this: it keeps the source from cleaning up.
const SNAPSHOT_AGE: Duration = Duration::from_secs(10);
/// A table may be truncated again and again while its copy begins.
const COPY_ATTEMPTS: u32 = 10;
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// A table that is about to be copied.
pub(super) struct Copying<T> {
    pub(super) schema: Arc<TableSchema>,
    pub(super) table: T,
    pub(super) record: TableRecord,
    pub(super) estimate: Option<u64>,
}

/// A copied table.
pub(super) struct Copied<T> {
    pub(super) schema: Arc<TableSchema>,
    pub(super) table: T,
    pub(super) progress: TableProgress,
}

/// A newer owner was met.
pub(super) fn fenced(by: Epoch) -> Error {
    Error::new(codes::TG013, format!("another process of this pipeline took over with epoch {by}"))
        .with_try("run one process of a pipeline at a time")
}

/// Snapshots of one session of copies: each new one by a temporary slot.
pub(super) struct Snapshotter<S: Source> {
    source: Arc<S>,
    current: Option<(S::Copy, Instant)>,
    metrics: Metrics,
}

impl<S: Source> Snapshotter<S> {
    /// `first`: the snapshot of a slot that was just made.
    pub(super) fn new(source: Arc<S>, first: Option<S::Copy>, metrics: Metrics) -> Self {
        Snapshotter { source, current: first.map(|first| (first, Instant::now())), metrics }
    }

    async fn get(&mut self) -> Result<&mut S::Copy> {
        if self.current.as_ref().is_some_and(|(_, since)| since.elapsed() > SNAPSHOT_AGE) {
            self.end().await?;
        }
        if self.current.is_none() {
            self.current = Some((self.source.snapshot().await?, Instant::now()));
        }
        self.current
            .as_mut()
            .map(|(session, _)| session)
            .ok_or_else(|| Error::new(codes::RT001, "a snapshot was made and is not there"))
    }

    /// Ends the current snapshot, if there is one.
    pub(super) async fn end(&mut self) -> Result<()> {
        match self.current.take() {
            Some((session, _)) => session.release().await,
            None => Ok(()),
        }
    }

    /// Copies one table and commits the copy. `place`: whether it is the first and the last of its round.
    pub(super) async fn copy<K: Sink>(
        &mut self,
        mut copying: Copying<K::Table>,
        place: (bool, bool),
        workers: usize,
        board: &StatusBoard,
    ) -> Result<Copied<K::Table>> {
        let name = copying.schema.name.clone();
        board.update_table(&name, |t| {
            t.state = TableState::Snapshotting;
            t.rows_copied = Some(0);
            t.rows_estimate = copying.estimate;
            t.copy_began = Some(Timestamp::now());
            (t.code, t.message) = (None, None);
        });
        let began = Instant::now();
        let rows = Arc::new(AtomicU64::new(0));
        let mut attempt = 1;
        let (position, marks, parts) = loop {
            let schema = Arc::clone(&copying.schema);
            match self.read(&mut copying, place, workers, Arc::clone(&rows), board).await {
                Ok(read) => break read,
                // A TRUNCATE or a rewrite after the snapshot was taken makes the old rows unreadable under
                // it. The columns are still the same: a newer snapshot serves.
                Err(error)
                    if attempt < COPY_ATTEMPTS
                        && is_only_rewritten(Arc::clone(&self.source), Arc::clone(&schema), &error)
                            .await? =>
                {
                    tracing::info!(table = %name, attempt, "{}: copied again from a newer snapshot", error.message());
                    attempt += 1;
                    rows.store(0, Ordering::Relaxed);
                    self.end().await?;
                }
                Err(error) => return Err(error),
            }
        };
        copying.table.mark(marks);
        let version = match copying.table.commit_copy(position, parts, Base::Copied).await? {
            CommitOutcome::Committed { version } => version,
            CommitOutcome::Fenced { by } => return Err(fenced(by)),
        };
        let rows = rows.load(Ordering::Relaxed);
        board.update_table(&name, |t| t.rows_copied = Some(rows));
        self.metrics.rows().copy.inc_by(rows);
        tracing::info!(
            table = %name, rows, lsn = %position, version, ms = began.elapsed().as_millis(), "table copied"
        );
        Ok(live(copying, position, version))
    }

    /// Reads the table under a snapshot into files that no version names yet.
    async fn read<T: TableSink>(
        &mut self,
        copying: &mut Copying<T>,
        (is_first, is_last): (bool, bool),
        workers: usize,
        rows: Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<(CommitLsn, Marks, Vec<CopyPart>)> {
        let schema = &copying.schema;
        let counters = self.metrics.table(&schema.name.to_string());
        let all_read = self.metrics.op_totals()[0].clone();
        let session = self.get().await?;
        let marks = session.marks();
        let point = SnapshotPoint { is_first, is_last, ..session.point() };
        let writers =
            (0..workers.max(1)).map(|_| copying.table.copy_writer(&point)).collect::<Result<_>>()?;
        let copy = session.copy(Arc::clone(schema), writers, Arc::clone(&rows));
        tokio::pin!(copy);
        let mut report = tokio::time::interval(REPORT_EVERY);
        let mut counted = 0;
        loop {
            let done = tokio::select! {
                parts = &mut copy => Some(parts),
                _ = report.tick() => None,
            };
            let now = rows.load(Ordering::Relaxed);
            counters.read.inc_by(now - counted);
            counters.snapshot_rows.inc_by(now - counted);
            all_read.inc_by(now - counted);
            if now > counted {
                board.advance();
            }
            counted = now;
            board.update_table(&schema.name, |t| t.rows_copied = Some(now));
            if let Some(parts) = done {
                return Ok((point.position, marks, parts?));
            }
        }
    }
}

/// Whether the copy failed because the table was rewritten, and it is still the table that it was.
async fn is_only_rewritten<S: Source>(
    source: Arc<S>,
    schema: Arc<TableSchema>,
    error: &Error,
) -> Result<bool> {
    if !error.code().is_change() {
        return Ok(false);
    }
    let now = source.inspect().await?;
    Ok(now.tables.iter().any(|table| table.schema.describes_same(&schema)))
}

/// Begins a table without a copy: it holds what changes from `position` on.
pub(super) async fn begin_without<K: Sink>(
    mut copying: Copying<K::Table>,
    position: CommitLsn,
) -> Result<Copied<K::Table>> {
    match copying.table.commit_copy(position, Vec::new(), Base::Nothing).await? {
        CommitOutcome::Committed { version } => Ok(live(copying, position, version)),
        CommitOutcome::Fenced { by } => Err(fenced(by)),
    }
}

fn live<T>(copying: Copying<T>, position: CommitLsn, version: i64) -> Copied<T> {
    let progress = TableProgress {
        name: copying.schema.name.clone(),
        target_id: copying.record.target_id,
        position,
        version,
        covered: false,
        from_copy: true,
    };
    Copied { schema: copying.schema, table: copying.table, progress }
}
