//! One task per table: its only committer. Slices and commits come in order through a short queue.
//!
//! What a table does beside its commits (compaction) is made visible by the same task, between two of them.
//!
//! The queue and a budget of bytes over all tables bound what waits here (BD-1); whoever sends a slice
//! waits for both. Events go back through an unbounded channel: there is at most one for each commit under
//! way and each table, and the driver must never be waited for by a worker that it waits for itself.

use super::meters::Tally;
use crate::error::{Disposition, Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, CopyWriter, SnapshotPoint};
use crate::position::{Epoch, Interval, Marks};
use crate::replication::UnitId;
use crate::schema::{TableId, TableSchema};
use crate::sink::{AmendPart, Amended, CommitOutcome, Standing, TableSink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

/// Slices and commits that may wait for one table.
const QUEUE: usize = 4;

/// What a table is told.
enum Work {
    Stage(Box<ChangeBatch>, OwnedSemaphorePermit),
    Commit(UnitId, Interval, Marks),
    Discard,
    Evolve(Arc<TableSchema>),
    Amend(Amend),
}

/// What a table is told about rows that are to be put right.
pub(super) enum Amend {
    /// Begin; where to go on.
    Begin(String, oneshot::Sender<Result<Option<ChunkKey>>>),
    /// A snapshot is about to be taken.
    Watch(oneshot::Sender<()>),
    /// Writers for what is read.
    Writers(SnapshotPoint, usize, oneshot::Sender<Result<Vec<Box<dyn CopyWriter>>>>),
    /// Put a part right: between two units.
    Part(Box<AmendPart>, oneshot::Sender<Amended>),
    /// What must be read once more.
    Left(oneshot::Sender<Vec<ChunkKey>>),
    /// That was all.
    End,
}

/// What a table says.
#[derive(Debug)]
pub(super) enum TableEvent {
    /// Its share of the unit is durable.
    Committed {
        table: TableId,
        generation: u64,
        unit: UnitId,
        version: i64,
        tally: Tally,
        standing: Option<Standing>,
        took: std::time::Duration,
    },
    /// It cannot go on.
    Stopped { table: TableId, generation: u64, error: Error },
    /// A newer owner was met.
    Fenced { by: Epoch },
    /// The pipeline cannot go on as it is: start again, or stop.
    Broken { error: Error },
}

/// The driver's end of a table's queue.
pub(super) struct Worker {
    queue: mpsc::Sender<Work>,
    generation: u64,
    ended: watch::Receiver<()>,
    /// Its target follows the rename of a column in place.
    pub(super) renames_in_place: bool,
}

/// A way to a table that does not keep its queue open.
#[derive(Clone)]
pub(super) struct Door(mpsc::WeakSender<Work>, u64);

impl Door {
    /// Of which worker.
    pub(super) fn generation(&self) -> u64 {
        self.1
    }

    /// Says something, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<T>) -> Amend,
    ) -> std::result::Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let queue = self.0.upgrade().ok_or(Gone)?;
        queue.send(Work::Amend(work(reply))).await.map_err(|_| Gone)?;
        drop(queue);
        answer.await.map_err(|_| Gone)
    }

    /// Says that there is no more.
    pub(super) async fn end(&self) {
        if let Some(queue) = self.0.upgrade() {
            // A worker that has ended needs not be told.
            let (Ok(()) | Err(_)) = queue.send(Work::Amend(Amend::End)).await;
        }
    }
}

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The worker ended: it has said why in an event.
#[derive(Debug)]
pub(super) struct Gone;

impl Worker {
    /// Starts the task.
    pub(super) fn start<T: TableSink>(
        id: TableId,
        table: T,
        events: mpsc::UnboundedSender<TableEvent>,
    ) -> Self {
        let (queue, work) = mpsc::channel(QUEUE);
        let (life, ended) = watch::channel(());
        let generation = NEXT.fetch_add(1, Ordering::Relaxed);
        let renames_in_place = table.renames_in_place();
        let task = tokio::spawn(serve(id, generation, table, work, events.clone()));
        tokio::spawn(async move {
            if let Err(panic) = task.await {
                let error = Error::new(codes::RT001, "a table's committer broke").with_source(panic);
                let _receiver_may_be_gone = events.send(TableEvent::Broken { error });
            }
            drop(life);
        });
        Worker { queue, generation, ended, renames_in_place }
    }

    /// Where rows that are to be put right are spoken of, without the driver.
    pub(super) fn door(&self) -> Door {
        Door(self.queue.downgrade(), self.generation)
    }

    /// Puts rows right.
    pub(super) async fn amend(&self, work: Amend) -> std::result::Result<(), Gone> {
        self.queue.send(Work::Amend(work)).await.map_err(|_| Gone)
    }

    /// Which worker of its table this is: events of an older one do not count.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Closes the queue. What was handed in is still done; the future ends when it is.
    pub(super) fn close(self) -> impl Future<Output = ()> + Send + 'static {
        let Worker { queue, mut ended, .. } = self;
        drop(queue);
        async move {
            // An error says that the task is over, which is what is waited for.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Hands a slice in. Waits while the queue is full.
    pub(super) async fn stage(
        &self,
        batch: ChangeBatch,
        budget: OwnedSemaphorePermit,
    ) -> std::result::Result<(), Gone> {
        self.queue.send(Work::Stage(Box::new(batch), budget)).await.map_err(|_| Gone)
    }

    /// Commits everything handed in since the last commit.
    pub(super) async fn commit(
        &self,
        unit: UnitId,
        interval: Interval,
        marks: Marks,
    ) -> std::result::Result<(), Gone> {
        self.queue.send(Work::Commit(unit, interval, marks)).await.map_err(|_| Gone)
    }

    /// Follows the source's schema in place, from the next commit on.
    pub(super) async fn evolve(&self, schema: Arc<TableSchema>) -> std::result::Result<(), Gone> {
        self.queue.send(Work::Evolve(schema)).await.map_err(|_| Gone)
    }

    /// Forgets everything handed in since the last commit.
    pub(super) async fn discard(&self) -> std::result::Result<(), Gone> {
        self.queue.send(Work::Discard).await.map_err(|_| Gone)
    }
}

async fn serve<T: TableSink>(
    id: TableId,
    generation: u64,
    mut table: T,
    work: mpsc::Receiver<Work>,
    events: mpsc::UnboundedSender<TableEvent>,
) {
    work_through(id, generation, &mut table, work, events).await;
    table.close().await;
}

async fn work_through<T: TableSink>(
    id: TableId,
    generation: u64,
    table: &mut T,
    mut work: mpsc::Receiver<Work>,
    events: mpsc::UnboundedSender<TableEvent>,
) {
    let mut tally = Tally::default();
    loop {
        // Neither side may starve the other, so the order is left to chance.
        let next = tokio::select! {
            next = work.recv() => next,
            () = table.upkeep_ready() => {
                let failure = match table.upkeep().await {
                    Ok(None) => continue,
                    Ok(Some(by)) => TableEvent::Fenced { by },
                    Err(error) => failed(id, generation, error),
                };
                let _receiver_may_be_gone = events.send(failure);
                return;
            }
        };
        let Some(next) = next else { return };
        let event = match next {
            Work::Stage(batch, budget) => {
                tally.add(Tally::of(&batch));
                let staged = table.stage(*batch).await;
                drop(budget);
                staged.err().map(|error| failed(id, generation, error))
            }
            Work::Commit(unit, interval, marks) => {
                table.mark(marks);
                let began = std::time::Instant::now();
                let tally = std::mem::take(&mut tally);
                match table.commit(interval).await {
                    Ok(CommitOutcome::Committed { version }) => {
                        let _receiver_may_be_gone = events.send(TableEvent::Committed {
                            table: id,
                            generation,
                            unit,
                            version,
                            tally,
                            standing: table.standing(),
                            took: began.elapsed(),
                        });
                        None
                    }
                    Ok(CommitOutcome::Fenced { by }) => Some(TableEvent::Fenced { by }),
                    Err(error) => Some(failed(id, generation, error)),
                }
            }
            Work::Evolve(schema) => table.evolve(schema).err().map(|error| failed(id, generation, error)),
            Work::Amend(work) => amend(id, generation, table, work).await,
            Work::Discard => {
                tally = Tally::default();
                table.discard_staged();
                None
            }
        };
        if let Some(event) = event {
            // After a failure nothing may follow: what was staged is incomplete. The queue closes.
            let _receiver_may_be_gone = events.send(event);
            return;
        }
    }
}

/// Rows that are to be put right. Whoever asked may have gone: then the answer is not heard.
async fn amend<T: TableSink>(id: TableId, generation: u64, table: &mut T, work: Amend) -> Option<TableEvent> {
    let done = match work {
        Amend::Begin(request, reply) => reply.send(table.amend_begin(&request)).is_ok(),
        Amend::Watch(reply) => {
            table.amend_watch();
            reply.send(()).is_ok()
        }
        Amend::Writers(point, count, reply) => {
            reply.send((0..count).map(|_| table.amend_writer(&point)).collect()).is_ok()
        }
        Amend::Part(part, reply) => match table.amend(*part).await {
            Ok((amended, CommitOutcome::Committed { .. })) => reply.send(amended).is_ok(),
            Ok((_, CommitOutcome::Fenced { by })) => return Some(TableEvent::Fenced { by }),
            Err(error) => return Some(failed(id, generation, error)),
        },
        Amend::Left(reply) => reply.send(table.amend_left()).is_ok(),
        Amend::End => match table.amend_end() {
            Ok(()) => true,
            Err(error) => return Some(failed(id, generation, error)),
        },
    };
    if !done {
        tracing::debug!("nobody waits for rows to be put right any more");
    }
    None
}

fn failed(table: TableId, generation: u64, error: Error) -> TableEvent {
    match error.code().disposition {
        Disposition::HaltTable => TableEvent::Stopped { table, generation, error },
        Disposition::Retry | Disposition::HaltPipeline | Disposition::Bug => TableEvent::Broken { error },
    }
}
