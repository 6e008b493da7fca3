//! Copies of whole tables: the first one, and those that an operator asks for.

use super::Copies;
use super::desk::{CopyGate, Passage};
use crate::error::{Error, Result, codes};
use crate::event::{Chunks, CopyPart, CopyWriter, KeyRange, Pick, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Lsn, Marks};
use crate::replication::TableProgress;
use crate::schema::TableSchema;
use crate::sink::{Base, CommitOutcome, Sink, TableRecord, TableSink};
use crate::source::{CopySession, Source, Standing};
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
    /// What of it is copied.
    pub(super) chunks: Chunks,
}

impl<T> Copying<T> {
    /// Goes on with what is copied, if the stream can be replayed from the oldest chunk, from `begin` on, and the server
    /// knows of the newest: its history is ours up to `known`. Begins again else.
    pub(super) fn go_on(&mut self, begin: CommitLsn, known: Lsn) {
        let (oldest, newest) = (self.chunks.oldest(), self.chunks.newest());
        let can_go_on = oldest.is_some_and(|oldest| begin <= oldest)
            && newest.is_some_and(|newest| newest.lsn() <= known);
        if !can_go_on {
            self.chunks = Chunks::default();
        }
    }
}

/// A copied table.
pub(super) struct Copied<T> {
    pub(super) schema: Arc<TableSchema>,
    pub(super) table: T,
    pub(super) progress: TableProgress,
}

/// What of a table is read.
pub(super) enum Share {
    Whole,
    Range(KeyRange),
    Some(Pick),
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
    copies: Copies,
    gate: CopyGate,
}

impl<S: Source> Snapshotter<S> {
    /// `first`: the snapshot of a slot that was just made.
    pub(super) fn new(
        source: Arc<S>,
        first: Option<S::Copy>,
        metrics: Metrics,
        copies: Copies,
        gate: CopyGate,
    ) -> Self {
        Snapshotter { source, current: first.map(|first| (first, Instant::now())), metrics, copies, gate }
    }

    /// A snapshot that is not too old to begin a table under.
    pub(super) async fn begin(&mut self) -> Result<()> {
        if self.needs_new() {
            self.end().await?;
        }
        if self.current.is_none() {
            self.current = Some((self.source.snapshot().await?, Instant::now()));
        }
        Ok(())
    }

    /// There is none, or it is too old.
    pub(super) fn needs_new(&self) -> bool {
        self.current.as_ref().is_none_or(|(_, since)| since.elapsed() > SNAPSHOT_AGE)
    }

    pub(super) fn session(&mut self) -> Result<&mut S::Copy> {
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
        board: &StatusBoard,
    ) -> Result<Copied<K::Table>> {
        let name = copying.schema.name.clone();
        board.update_table(&name, |t| {
            t.state = TableState::Snapshotting;
            t.rows_copied = Some(copying.chunks.rows());
            t.rows_estimate = copying.estimate;
            t.copy_began = Some(Timestamp::now());
            (t.code, t.message) = (None, None);
        });
        self.gate.admit(&name);
        let began = Instant::now();
        let rows = Arc::new(AtomicU64::new(copying.chunks.rows()));
        let (position, whole_from, version) = match self.in_chunks::<K>(&mut copying, &rows, board).await? {
            Some(done) => done,
            None => self.in_one::<K>(&mut copying, place, &rows, board).await?,
        };
        let rows = rows.load(Ordering::Relaxed);
        board.update_table(&name, |t| t.rows_copied = Some(rows));
        self.metrics.rows().copy.inc_by(rows);
        tracing::info!(
            table = %name, rows, lsn = %position, version, ms = began.elapsed().as_millis(), "table copied"
        );
        Ok(live(copying, position, whole_from, version))
    }

    /// Copies a table in one commit.
    async fn in_one<K: Sink>(
        &mut self,
        copying: &mut Copying<K::Table>,
        place: (bool, bool),
        rows: &Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<(CommitLsn, CommitLsn, i64)> {
        let name = copying.schema.name.clone();
        let mut attempt = 1;
        let (position, marks, parts) = loop {
            let schema = Arc::clone(&copying.schema);
            rows.store(0, Ordering::Relaxed);
            self.begin().await?;
            match self.read(copying, place, None, Arc::clone(rows), board).await {
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
                    self.end().await?;
                }
                Err(error) => return Err(error),
            }
        };
        copying.table.mark(marks);
        match copying.table.commit_copy(position, parts, Base::Copied).await? {
            CommitOutcome::Committed { version } => Ok((position, position, version)),
            CommitOutcome::Fenced { by } => Err(fenced(by)),
        }
    }

    /// Copies a table chunk by chunk, or what is left of it. `None`: it must be copied in one.
    async fn in_chunks<K: Sink>(
        &mut self,
        copying: &mut Copying<K::Table>,
        rows: &Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<Option<(CommitLsn, CommitLsn, i64)>> {
        if !copying.table.takes_chunks() {
            return Ok(None);
        }
        match self.chunk_by_chunk::<K>(copying, rows, board).await {
            Ok(Some(version)) => {
                let chunks = &copying.chunks;
                let (oldest, newest) =
                    (chunks.oldest().unwrap_or_default(), chunks.newest().unwrap_or_default());
                return Ok(Some((oldest, newest, version)));
            }
            Ok(None) => {}
            Err(error) => {
                let (source, schema) = (Arc::clone(&self.source), Arc::clone(&copying.schema));
                if !is_only_rewritten(source, schema, &error).await? {
                    return Err(error);
                }
                tracing::info!(table = %copying.schema.name, "{}: copied again, in one", error.message());
                self.end().await?;
            }
        }
        copying.chunks = Chunks::default();
        Ok(None)
    }

    /// The version of the last chunk; `None`: the table is not to be cut.
    async fn chunk_by_chunk<K: Sink>(
        &mut self,
        copying: &mut Copying<K::Table>,
        rows: &Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<Option<i64>> {
        let schema = Arc::clone(&copying.schema);
        self.begin().await?;
        if !copying.chunks.is_empty() {
            self.check_unchanged(&schema).await?;
        }
        let (chunk_rows, short) = (self.copies.chunk_rows, self.copies.short_snapshots);
        let from = copying.chunks.end().cloned();
        let Some(ends) = self.session()?.chunks(&schema, from.as_ref(), chunk_rows).await? else {
            return Ok(None);
        };
        if let Some(from) = &from {
            let (rows, chunks) = (copying.chunks.rows(), ends.len() + 1);
            tracing::info!(table = %schema.name, rows, ?from, chunks, "the copy goes on");
        }
        let mut version = copying.record.version;
        for (i, below) in ends.into_iter().map(Some).chain([None]).enumerate() {
            if i > 0 && short {
                self.end().await?;
                self.begin().await?;
                self.check_unchanged(&schema).await?;
            }
            let range = KeyRange { from: copying.chunks.end().cloned(), below: below.clone() };
            let before = rows.load(Ordering::Relaxed);
            let (position, marks, parts) =
                self.read(copying, (true, true), Some(range), Arc::clone(rows), board).await?;
            let is_first = copying.chunks.is_empty();
            let read = rows.load(Ordering::Relaxed) - before;
            copying.chunks.push(below, position, read);
            copying.table.mark(marks);
            version = match copying.table.commit_chunk(copying.chunks.clone(), is_first, parts).await? {
                CommitOutcome::Committed { version } => version,
                CommitOutcome::Fenced { by } => return Err(fenced(by)),
            };
            tracing::info!(table = %schema.name, rows = read, lsn = %position, version, "chunk copied");
        }
        Ok(Some(version))
    }

    /// A rewrite between two snapshots is not in the stream. Called after the later snapshot was taken: what comes
    /// after it, the workers notice.
    pub(super) async fn check_unchanged(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        match self.source.check(std::slice::from_ref(schema)).await?.into_iter().next() {
            None => Ok(()),
            Some((_, Standing::Lost(error))) => Err(error),
            Some((_, Standing::Changed(_))) => {
                let what = "it was altered, truncated or rewritten between two chunks of its copy";
                Err(crate::sink::table_error(&schema.name, S::CODES.changed, what))
            }
        }
    }

    /// Reads the table, or a range of it, under the snapshot into files that no version names yet.
    async fn read<T: TableSink>(
        &mut self,
        copying: &mut Copying<T>,
        (is_first, is_last): (bool, bool),
        range: Option<KeyRange>,
        rows: Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<(CommitLsn, Marks, Vec<CopyPart>)> {
        let workers = self.copies.workers.max(1);
        let session = self.session()?;
        let marks = session.marks();
        let point = SnapshotPoint { is_first, is_last, ..session.point() };
        let writers = (0..workers).map(|_| copying.table.copy_writer(&point)).collect::<Result<_>>()?;
        let share = range.map_or(Share::Whole, Share::Range);
        let parts = self.read_into(&copying.schema, share, writers, &rows, board).await?;
        Ok((point.position, marks, parts))
    }

    /// Reads a share of a table into writers. Rows are counted in `rows`.
    pub(super) async fn read_into(
        &mut self,
        schema: &Arc<TableSchema>,
        share: Share,
        writers: Vec<Box<dyn CopyWriter>>,
        rows: &Arc<AtomicU64>,
        board: &StatusBoard,
    ) -> Result<Vec<CopyPart>> {
        let counters = self.metrics.table(&schema.name.to_string());
        let all_read = self.metrics.op_totals()[0].clone();
        let gate = self.gate.clone();
        let mut counted = rows.load(Ordering::Relaxed);
        // Shares that wait at the gate end when this call does, dropped or not.
        let passage = Passage::default();
        let writers =
            writers.into_iter().map(|writer| gate.through(&schema.name, &passage, writer)).collect();
        let session = self.session()?;
        let copy = async {
            let (schema, rows) = (Arc::clone(schema), Arc::clone(rows));
            match share {
                Share::Whole => session.copy(schema, writers, rows).await,
                Share::Range(range) => session.copy_range(schema, range, writers, rows).await,
                Share::Some(pick) => session.copy_some(schema, pick, writers, rows).await,
            }
        };
        tokio::pin!(copy);
        let mut report = tokio::time::interval(REPORT_EVERY);
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
            if gate.is_shut() {
                // Somebody wants it so.
                board.advance();
            }
            if let Some(parts) = done {
                return parts;
            }
        }
    }
}

/// Whether the copy failed because the table was rewritten, and it is still the table that it was.
pub(super) async fn is_only_rewritten<S: Source>(
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
        CommitOutcome::Committed { version } => Ok(live(copying, position, position, version)),
        CommitOutcome::Fenced { by } => Err(fenced(by)),
    }
}

fn live<T>(copying: Copying<T>, position: CommitLsn, whole_from: CommitLsn, version: i64) -> Copied<T> {
    let progress = TableProgress {
        name: copying.schema.name.clone(),
        target_id: copying.record.target_id,
        position,
        version,
        covered: false,
        from_copy: true,
        whole_from,
    };
    Copied { schema: copying.schema, table: copying.table, progress }
}
