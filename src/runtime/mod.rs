//! Runs a pipeline: performs what the coordinator decides, and nothing else.
//!
//! ```text
//!            ┌───────────── driver ─────────────┐
//! stream ───►│ bursts ─► coordinator ─► actions │──► workers, one per table (stage, commit)
//!            │    ▲                        │    │──► recorder (cuts, stops, requests)
//!            └────┼────────────────────────┼────┘
//!                 └── events of workers ◄──┘ acknowledge
//! ```
//!
//! A *session* is one takeover: hold the source, raise the epoch, fence every table, read positions, check
//! the history, copy what has never been copied, stream. A temporary error ends it, and the next one
//! begins with a new takeover: starting again is the one way to recover, so it is the one that is tested.
//! Only a lost source connection is mended inside a session, because the tables' indexes are worth keeping.

mod amending;
mod beside;
pub mod compare;
mod copying;
pub mod desk;
mod driver;
mod health;
mod meters;
mod notes;
mod recorder;
pub mod replay;
mod session;
mod source_link;
mod worker;

pub use health::WalBudget;

use crate::error::{Disposition, Error, Result, codes};
use crate::position::Lsn;
use crate::replication::Limits;
use crate::schema::TableName;
use crate::schema::change::ChangePolicy;
use crate::sink::Sink;
use crate::source::Source;
use crate::telemetry::status::{PipelineState, TableState, TableStatus};
use crate::telemetry::{Metrics, StatusBoard};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What to do with tables that have never been copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snapshots {
    /// Copy them first.
    Initial,
    /// Copy them, and end when every table is consistent.
    Only,
    /// Do not copy: begin with what changes from here on.
    Never,
}

/// When to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Never, by itself.
    Stopped,
    /// When everything that was committed before the start is durable in every table.
    CaughtUp,
    /// When everything up to this position is; nothing after it is taken.
    Lsn(Lsn),
}

/// Whether an operator wants nothing more to be read from the source. What is in flight is finished.
#[derive(Clone, Debug)]
pub struct Hold(watch::Receiver<bool>);

impl Hold {
    /// What sets it, and what hears it.
    pub fn new() -> (watch::Sender<bool>, Hold) {
        let (set, seen) = watch::channel(false);
        (set, Hold(seen))
    }

    /// Nobody holds anything.
    pub fn never() -> Hold {
        Hold::new().1
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for another wish; for ever when nobody can have one any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How tables are copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copies {
    /// Workers of a copy.
    pub workers: usize,
    /// Rows of a chunk: what is copied between two commits, where source and target can do that.
    pub chunk_rows: u64,
    /// No snapshot outlives a chunk.
    pub short_snapshots: bool,
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The operator's wish to read nothing more.
    pub hold: Hold,
    /// What else an operator may ask for.
    pub desk: desk::Desk,
    /// Bounds of commit units.
    pub limits: Limits,
    /// Bytes of change batches that may wait for the sink.
    pub staged_bytes: usize,
    /// Bytes in builders at which they are handed to the sink.
    pub slice_bytes: usize,
    /// How tables are copied.
    pub copies: Copies,
    /// How often an idle slot is moved; zero: never.
    pub heartbeat: Duration,
    /// What to do with tables that have never been copied.
    pub snapshots: Snapshots,
    /// When to end.
    pub until: Until,
    /// How changes of a table's columns are followed.
    pub changes: ChangePolicy,
    /// Tables that are made later are copied, too.
    pub new_tables: bool,
    /// Tables to copy again.
    pub resync: BTreeSet<TableName>,
    /// How much log the source may keep for us.
    pub wal_budget: WalBudget,
    /// The slot may be made anew although it was there before; then every table is copied again.
    pub may_replace_slot: bool,
    /// So may the server, by one of another identity: nothing of what the tables hold counts then.
    pub may_replace_source: bool,
}

/// Asked to stop: flush, commit, acknowledge, end.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// A signal and what sets it.
    pub fn new() -> (watch::Sender<bool>, StopSignal) {
        let (set, seen) = watch::channel(false);
        (set, StopSignal(seen))
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is set; for ever when nobody can set it any more.
    pub async fn wait(&mut self) {
        if self.0.wait_for(|set| *set).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether the source still holds what follows the record, as every start checks it.
///
/// # Errors
/// `PG040` to `PG046`.
pub fn check_record(
    server: &crate::position::ServerPoint,
    slot: Option<&crate::source::SlotState>,
    record: &crate::sink::PipelineRecord,
) -> Result<()> {
    let cut = record.cut.as_ref().map_or(crate::position::CommitLsn::ZERO, |cut| cut.position);
    source_link::check(server, slot, record.lineage.as_ref(), cut, &[])
}

/// The loss of a slot that is not there.
pub fn slot_missing() -> Error {
    source_link::loss(crate::replication::recovery::LossReason::SlotMissing)
}

/// Runs until asked to stop, until what was asked for is reached, or until a person is needed.
///
/// # Errors
/// What stops the pipeline. Temporary errors are tried again for ever.
pub async fn run<S: Source, K: Sink>(
    source: Arc<S>,
    sink: Arc<K>,
    options: Options,
    board: StatusBoard,
    metrics: Metrics,
    stop: StopSignal,
) -> Result<()> {
    // In one task with the work: what blocks the one silences the other.
    tokio::select! {
        ended = sessions(source, Arc::clone(&sink), options, board.clone(), metrics, stop) => ended,
        never = pulse(sink.as_ref(), &board) => match never {},
    }
}

/// Gives the core loop's signs of life, and sees what the target has taken meanwhile.
async fn pulse<K: Sink>(sink: &K, board: &StatusBoard) -> std::convert::Infallible {
    let mut every = tokio::time::interval(PULSE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = sink.written();
    loop {
        every.tick().await;
        board.beat();
        let now = sink.written();
        if now != seen {
            board.advance();
        }
        seen = now;
    }
}

async fn sessions<S: Source, K: Sink>(
    source: Arc<S>,
    sink: Arc<K>,
    options: Options,
    board: StatusBoard,
    metrics: Metrics,
    mut stop: StopSignal,
) -> Result<()> {
    let mut goal = session::Goal::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let began = std::time::Instant::now();
        let run = session::Session {
            source: Arc::clone(&source),
            sink: Arc::clone(&sink),
            options: options.clone(),
            board: board.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        match Box::pin(run.run(&mut goal)).await {
            Ok(session::End::Done) => return nothing_stands_still(&options, &board, &stop),
            Ok(session::End::Again) => continue,
            Err(error) if error.code().disposition == Disposition::Retry && !stop.is_set() => {
                tracing::warn!(code = %error.code(), "{}; trying again", error.cause_line());
                metrics.error(error.code());
                board.set_retrying(&error);
            }
            Err(error) => {
                board.fail(&error);
                return Err(error);
            }
        }
        if began.elapsed() > LONGEST_PAUSE * 2 {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            () = stop.wait() => return Ok(()),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        board.set_phase(PipelineState::Starting);
    }
}

/// Half of it, and some of the other half: many pipelines that lost one server must not come back at once.
fn jittered(pause: Duration) -> Duration {
    let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
    let part = u32::from(low.to_le_bytes()[0]);
    pause / 2 + pause * part / 512
}

/// A run that was to reach something has not reached it while a table stands still: to end without an error
/// would say that everything is there.
fn nothing_stands_still(options: &Options, board: &StatusBoard, stop: &StopSignal) -> Result<()> {
    if stop.is_set() || (options.until == Until::Stopped && options.snapshots != Snapshots::Only) {
        return Ok(());
    }
    let stopped: Vec<TableStatus> = board.read(|status| {
        status.tables.iter().filter(|table| table.state == TableState::Stopped).cloned().collect()
    });
    let Some(first) = stopped.first() else { return Ok(()) };
    let code = first.code.as_deref().and_then(codes::find).unwrap_or(codes::RT001);
    let message = first.message.as_deref().unwrap_or("it stopped");
    let others = match stopped.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more tables stopped)"),
    };
    let error = Error::new(code, format!("{message}{others}")).with_try(format!(
        "see the page; a table that was live before comes back by: strandline resync \"{}\" --yes",
        first.name
    ));
    board.fail(&error);
    Err(error)
}

const PULSE_EVERY: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
