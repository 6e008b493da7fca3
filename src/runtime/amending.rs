//! Puts a table right where it is, beside its stream: reads it part by part under snapshots and hands each part to its
//! committer. What is decided by whom, and who dies where, stands in [`crate::sink::delta`]'s `amend` module.
//!
//! One part goes through four stations, and each must be over before the next begins:
//!
//! | station | by | so that |
//! |---|---|---|
//! | the watch begins | the committer, in its queue | every change that the snapshot may not know is noted from here on |
//! | a snapshot at `P` | the source, by a temporary slot | it holds exactly the transactions up to `P`; what was staged before the watch is among them |
//! | the part is read | this task | its files are named by nobody |
//! | the part is placed | the driver: once everything up to `P` is received, and nothing of the table is staged or waits | the committer has it exactly between two units |
//!
//! A snapshot serves several parts, for some seconds; the watch that began before it goes on as long. A loss of the
//! source's connection in between changes nothing: what is staged again is noted again.

use super::Copies;
use super::copying::{Share, Snapshotter, is_only_rewritten};
use super::worker::{Amend, Door, Gone};
use crate::error::{Error, Result, codes};
use crate::event::{ChunkKey, KeyRange, Pick};
use crate::position::CommitLsn;
use crate::schema::{TableId, TableSchema};
use crate::sink::{AmendChoice, AmendPart, Amended, Request};
use crate::source::{CopySession, Source};
use crate::telemetry::StatusBoard;
use crate::telemetry::status::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// So often a part is read when it changes in ways that make what was read worthless.
const ATTEMPTS: u32 = 10;
/// Values that are asked for at once.
const KEYS_AT_ONCE: usize = 1_000;
/// A snapshot waits no longer for the stream to come to it: what was read is read.
const HELD: Duration = Duration::from_secs(2);

/// A part that waits for its place in the stream.
pub(super) struct Placed {
    pub(super) table: TableId,
    /// The committer that watched while it was read: another one knows nothing of it.
    pub(super) generation: u64,
    /// Everything up to here must be in the table first.
    pub(super) at: CommitLsn,
    pub(super) part: AmendPart,
    pub(super) reply: oneshot::Sender<Amended>,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub(super) confirmed: u64,
    pub(super) written: u64,
    pub(super) removed: u64,
}

/// What rows that are read are of.
#[derive(Default)]
struct Of {
    /// All rows of this range.
    whole: Option<KeyRange>,
    /// All that is asked for of this range.
    read: Option<KeyRange>,
    /// Where the ranges behind it end.
    ends: Vec<ChunkKey>,
}

/// Why it ended before its end.
pub(super) enum Halt {
    /// The table's committer is not there any more: the table stopped, or is copied anew.
    Gone,
    /// It cannot be done, or not now.
    Failed(Error),
}

impl From<Gone> for Halt {
    fn from(_: Gone) -> Self {
        Halt::Gone
    }
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Failed(error)
    }
}

/// One request that is being met.
pub(super) struct Amending<S: Source> {
    pub(super) source: Arc<S>,
    pub(super) snapshotter: Snapshotter<S>,
    pub(super) copies: Copies,
    pub(super) schema: Arc<TableSchema>,
    pub(super) estimate: Option<u64>,
    pub(super) request: Request,
    pub(super) door: Door,
    pub(super) place: mpsc::UnboundedSender<Placed>,
    pub(super) board: StatusBoard,
    pub(super) rows: Arc<AtomicU64>,
    pub(super) tally: Tally,
}

impl<S: Source> Amending<S> {
    /// Meets the request.
    pub(super) async fn run(mut self) -> std::result::Result<Tally, Halt> {
        let name = self.schema.name.clone();
        let done = self.all().await;
        self.board.update_table(&name, |t| t.copy_began = None);
        let ended = self.snapshotter.end().await;
        done?;
        ended?;
        self.door.end().await;
        Ok(self.tally)
    }

    fn condition(&self) -> Option<String> {
        self.request.amend.as_ref().and_then(|AmendChoice { condition }| condition.clone())
    }

    async fn all(&mut self) -> std::result::Result<(), Halt> {
        let id = self.request.id.clone();
        let mut from = self.door.ask(|reply| Amend::Begin(id, reply)).await??;
        let (name, estimate) = (self.schema.name.clone(), self.estimate);
        self.board.update_table(&name, |t| {
            (t.rows_copied, t.rows_estimate, t.copy_began) = (Some(0), estimate, Some(Timestamp::now()));
        });
        self.open().await?;
        let (schema, rows) = (Arc::clone(&self.schema), self.copies.chunk_rows);
        let ends = self.snapshotter.session()?.chunks(&schema, from.as_ref(), rows).await?;
        if ends.is_none() {
            from = None;
        }
        let bounds: Vec<Option<ChunkKey>> =
            ends.unwrap_or_default().into_iter().map(Some).chain([None]).collect();
        tracing::info!(table = %name, parts = bounds.len(), ?from, "its rows are compared and put right");
        for (i, below) in bounds.iter().enumerate() {
            let range = KeyRange { from: from.take(), below: below.clone() };
            let ends = bounds.iter().skip(i + 1).flatten().cloned().collect();
            self.part(range, ends).await?;
            from.clone_from(below);
            if self.copies.short_snapshots {
                self.snapshotter.end().await?;
            }
        }
        for _ in 0..ATTEMPTS {
            let left = self.door.ask(Amend::Left).await?;
            if left.is_empty() {
                return Ok(());
            }
            self.again(left).await?;
        }
        Err(self.restless().into())
    }

    /// A snapshot, with a watch that began before it.
    async fn open(&mut self) -> std::result::Result<(), Halt> {
        if self.snapshotter.needs_new() {
            self.snapshotter.end().await?;
            self.door.ask(Amend::Watch).await?;
            self.snapshotter.begin().await?;
            match self.snapshotter.check_unchanged(&self.schema).await {
                Err(error) if error.code().is_change() => self.follow(error).await?,
                other => other?,
            }
        }
        Ok(())
    }

    /// The table was rewritten before the snapshot was taken, and is what it was: as it is stored now.
    async fn follow(&mut self, error: Error) -> Result<()> {
        let now = self.source.inspect().await?.tables.into_iter();
        match now.map(|table| table.schema).find(|schema| schema.describes_same(&self.schema)) {
            Some(schema) => {
                self.schema = schema;
                Ok(())
            }
            None => Err(error),
        }
    }

    async fn part(&mut self, range: KeyRange, ends: Vec<ChunkKey>) -> std::result::Result<(), Halt> {
        let condition = self.condition();
        for _ in 0..ATTEMPTS {
            let pick = Pick { range: range.clone(), keys: Vec::new(), condition: condition.clone() };
            let of = Of {
                whole: condition.is_none().then(|| range.clone()),
                read: Some(range.clone()),
                ends: ends.clone(),
            };
            let amended = match self.read(pick, of).await {
                Ok(amended) => amended,
                Err(Halt::Failed(error)) => {
                    self.forgive(error).await?;
                    continue;
                }
                Err(Halt::Gone) => return Err(Halt::Gone),
            };
            if !self.is_void(&amended).await? {
                return self.again(amended.again).await;
            }
        }
        Err(self.restless().into())
    }

    /// A table that was truncated or rewritten under a snapshot is read again under a newer one.
    async fn forgive(&mut self, error: Error) -> Result<()> {
        let (source, schema) = (Arc::clone(&self.source), Arc::clone(&self.schema));
        if !is_only_rewritten(source, schema, &error).await? {
            return Err(error);
        }
        tracing::info!(table = %self.schema.name, "{}: read again", error.message());
        self.snapshotter.end().await
    }

    async fn is_void(&mut self, amended: &Amended) -> Result<bool> {
        self.tally.confirmed += amended.confirmed;
        self.tally.written += amended.written;
        self.tally.removed += amended.removed;
        let Some(why) = &amended.void else { return Ok(false) };
        tracing::info!(table = %self.schema.name, "{why}: read again");
        self.snapshotter.end().await?;
        Ok(true)
    }

    fn restless(&self) -> Error {
        let what = format!("its rows were read {ATTEMPTS} times, and each time changes came between");
        crate::sink::table_error(&self.schema.name, codes::TG029, what).with_try(format!(
            "try it when less changes, or: strandline resync \"{}\" --mode swap --yes",
            self.schema.name
        ))
    }

    /// Rows that changed in part since the snapshot.
    async fn again(&mut self, mut keys: Vec<ChunkKey>) -> std::result::Result<(), Halt> {
        for _ in 0..ATTEMPTS {
            if keys.is_empty() {
                return Ok(());
            }
            self.snapshotter.end().await?;
            let mut left = Vec::new();
            for some in std::mem::take(&mut keys).chunks(KEYS_AT_ONCE) {
                let pick = Pick { keys: some.to_vec(), ..Pick::default() };
                let amended = self.read(pick, Of::default()).await?;
                if self.is_void(&amended).await? {
                    left.extend_from_slice(some);
                }
                left.extend(amended.again);
            }
            keys = left;
        }
        Err(self.restless().into())
    }

    /// Reads rows and has them put in their place.
    async fn read(&mut self, pick: Pick, Of { whole, read, ends }: Of) -> std::result::Result<Amended, Halt> {
        let keys = pick.keys.clone();
        self.open().await?;
        let point = self.snapshotter.session()?.point();
        let workers = self.copies.workers.max(1);
        let writers = self.door.ask(|reply| Amend::Writers(point, workers, reply)).await??;
        let (schema, rows) = (Arc::clone(&self.schema), Arc::clone(&self.rows));
        let parts =
            self.snapshotter.read_into(&schema, Share::Some(pick), writers, &rows, &self.board).await?;
        let (reply, mut answer) = oneshot::channel();
        let (request, at) = (self.request.id.clone(), point.position);
        let part = AmendPart { request, at, range: whole, read, keys, ends, parts };
        let placed = Placed { table: self.schema.id, generation: self.door.generation(), at, part, reply };
        self.place.send(placed).map_err(|_| Gone)?;
        if let Ok(answer) = tokio::time::timeout(HELD, &mut answer).await {
            return answer.map_err(|_| Halt::Gone);
        }
        self.snapshotter.end().await?;
        answer.await.map_err(|_| Halt::Gone)
    }
}
