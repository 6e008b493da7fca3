//! One task per table: its only committer. Slices and commits come in order through a short queue.
//!
//! What a table does beside its commits (compaction) is made visible by the same task, between two of them.
//!
//! The queue and a budget of bytes over all tables bound what waits here (BD-1); whoever sends a slice
//! waits for both. Events go back through an unbounded channel: there is at most one for each commit under
//! way and each table, and the driver must never be waited for by a worker that it waits for itself.

use super::meters::Tally;
use crate::error::{Disposition, Error, codes};
use crate::event::ChangeBatch;
use crate::position::{Epoch, Interval, Marks};
use crate::replication::UnitId;
use crate::schema::{TableId, TableSchema};
use crate::sink::{CommitOutcome, Standing, TableSink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Slices and commits that may wait for one table.
const QUEUE: usize = 4;

/// What a table is told.
enum Work {
    Stage(Box<ChangeBatch>, OwnedSemaphorePermit),
    Commit(UnitId, Interval, Marks),
    Discard,
    Evolve(Arc<TableSchema>),
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
    pub(super) async fn stage(&self, batch: ChangeBatch, budget: OwnedSemaphorePermit) -> Result<(), Gone> {
        self.queue.send(Work::Stage(Box::new(batch), budget)).await.map_err(|_| Gone)
    }

    /// Commits everything handed in since the last commit.
    pub(super) async fn commit(&self, unit: UnitId, interval: Interval, marks: Marks) -> Result<(), Gone> {
        self.queue.send(Work::Commit(unit, interval, marks)).await.map_err(|_| Gone)
    }

    /// Follows the source's schema in place, from the next commit on.
    pub(super) async fn evolve(&self, schema: Arc<TableSchema>) -> Result<(), Gone> {
        self.queue.send(Work::Evolve(schema)).await.map_err(|_| Gone)
    }

    /// Forgets everything handed in since the last commit.
    pub(super) async fn discard(&self) -> Result<(), Gone> {
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

fn failed(table: TableId, generation: u64, error: Error) -> TableEvent {
    match error.code().disposition {
        Disposition::HaltTable => TableEvent::Stopped { table, generation, error },
        Disposition::Retry | Disposition::HaltPipeline | Disposition::Bug => TableEvent::Broken { error },
    }
}
