//! Upkeep of a table by its only writer: when to compact, when to clean.
//!
//! Nothing here stands in a commit's way for long. A job runs beside the commits; landing it is one more
//! commit of the same committer, between two units. Cleaning runs beside everything. A failure of upkeep
//! is said and tried again later; it never stops a table. The number of files is bounded: with too many
//! small ones a unit waits for the job that is under way ([`Upkeep::is_overdue`]).

use super::clean::{self, Retention};
use super::commit::Core;
use super::compact::{Compacted, Job};
use super::policy::Policy;
use super::table::now_ms;
use crate::error::Result;
use crate::schema::TableName;
use crate::sink::write::Vacuum;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// The first cleaning after a table was opened, and the next ones.
const FIRST_CLEAN: Duration = Duration::from_secs(5 * 60);
/// Worn files are first rewritten beside units when a table has been open for so long.
const FIRST_WORN: Duration = Duration::from_secs(60);
const CLEAN_EVERY: Duration = Duration::from_secs(60 * 60);
/// A unit waits when there are so many times [`Policy::crowd`] small files.
const OVERDUE: usize = 4;

/// What upkeep has done since the table was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Compactions that landed.
    pub jobs: u64,
    /// Bytes that they read.
    pub bytes_read: u64,
    /// Bytes that they wrote.
    pub bytes_written: u64,
    /// Compactions that were void when they were finished.
    pub void: u64,
}

/// A task that ends with its owner.
struct Beside<T>(JoinHandle<T>);

impl<T> Drop for Beside<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The upkeep of one table.
pub(super) struct Upkeep {
    /// What is compacted; `None`: nothing.
    pub policy: Option<Policy>,
    /// What was done.
    pub tally: Tally,
    vacuum: Vacuum,
    permits: Arc<Semaphore>,
    job: Option<Beside<Result<Compacted>>>,
    job_began_ms: i64,
    /// Too much waits: the job is not to rest.
    hurry: Arc<AtomicBool>,
    finished: Option<Compacted>,
    not_before: Instant,
    /// When worn files are rewritten although units come.
    worn_at: Instant,
    /// When they are, if none comes; `None`: there is none.
    rest_at: Option<Instant>,
    cleaning: Option<Beside<()>>,
    clean_at: Instant,
}

impl Upkeep {
    /// Jobs take a permit, so that few run at a time in a process.
    pub(super) fn new(policy: Option<Policy>, vacuum: Vacuum, permits: Arc<Semaphore>) -> Self {
        let now = Instant::now();
        Upkeep {
            policy,
            tally: Tally::default(),
            vacuum,
            permits,
            job: None,
            job_began_ms: i64::MAX,
            hurry: Arc::default(),
            finished: None,
            not_before: now,
            worn_at: now + FIRST_WORN,
            rest_at: None,
            cleaning: None,
            clean_at: now + FIRST_CLEAN,
        }
    }

    /// After each commit: begins what is due.
    pub(super) fn begin(&mut self, core: &Core) {
        self.begin_job(core);
        self.begin_cleaning(core);
    }

    fn begin_job(&mut self, core: &Core) {
        let Some(policy) = &self.policy else { return };
        self.hurry.store(policy.small_files(&core.slots) >= policy.crowd, Ordering::Relaxed);
        let now = Instant::now();
        self.rest_at = None;
        if self.job.is_some() || self.finished.is_some() || now < self.not_before {
            return;
        }
        if let Some(job) = Job::plan(core, policy, Arc::clone(&self.hurry)) {
            self.start(job);
        } else if now >= self.worn_at {
            self.begin_worn(core);
        } else if policy.has_worn(&core.slots) {
            self.rest_at = Some(self.worn_at.min(now + policy.rest_after));
        }
    }

    /// Begins to rewrite worn files.
    fn begin_worn(&mut self, core: &Core) {
        let Some(policy) = self.policy.as_ref().map(Policy::at_rest) else { return };
        let Some(job) = Job::plan(core, &policy, Arc::clone(&self.hurry)) else { return };
        self.worn_at = Instant::now() + Duration::from_secs(job.bytes() / policy.worn_rate.max(1));
        self.start(job);
    }

    /// After a rest: begins what is due then.
    pub(super) fn begin_at_rest(&mut self, core: &Core) {
        let is_due = self.rest_at.is_some_and(|at| Instant::now() >= at);
        if is_due && self.job.is_none() {
            self.rest_at = None;
            self.begin_worn(core);
        }
    }

    fn start(&mut self, job: Job) {
        let permits = Arc::clone(&self.permits);
        self.job_began_ms = now_ms();
        self.job = Some(Beside(tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire_owned().await;
            job.run().await
        })));
    }

    fn begin_cleaning(&mut self, core: &Core) {
        let now = Instant::now();
        let is_running = self.cleaning.as_ref().is_some_and(|task| !task.0.is_finished());
        if self.vacuum == Vacuum::Off || is_running || now < self.clean_at {
            return;
        }
        self.clean_at = now + CLEAN_EVERY;
        let name = core.schema.name.to_string();
        let usual = match self.vacuum {
            Vacuum::After(time) => Retention::OF_TABLES.with_files(time),
            Vacuum::AsTables | Vacuum::Off => Retention::OF_TABLES,
        };
        let Some(retention) = Retention::of(&core.metadata.configuration, usual, &name) else {
            return;
        };
        // What a job has written so far is named by no version, and must stay whatever the retention.
        let in_use_since = self.job.as_ref().map_or(i64::MAX, |_| self.job_began_ms);
        let in_use_since = core.ahead_since().map_or(in_use_since, |since| in_use_since.min(since));
        self.cleaning = Some(Beside(clean::beside(core.files.clone(), retention, in_use_since, name)));
    }

    /// Waits until a job is finished, or one is due after a rest; for ever when there is neither. Losing the wait loses
    /// nothing.
    pub(super) async fn ready(&mut self, name: &TableName) {
        while self.finished.is_none() {
            match (&self.job, self.rest_at) {
                (Some(_), _) => self.settle(name).await,
                (None, Some(at)) => return tokio::time::sleep_until(at.into()).await,
                (None, None) => return std::future::pending().await,
            }
        }
    }

    /// Waits for the end of the job that runs, if one does.
    pub(super) async fn settle(&mut self, name: &TableName) {
        let Some(job) = &mut self.job else { return };
        let ended = (&mut job.0).await;
        self.job = None;
        match ended {
            Ok(Ok(compacted)) => self.finished = Some(compacted),
            Ok(Err(error)) => {
                tracing::warn!(table = %name, code = %error.code(), "compaction failed: {}", error.cause_line());
                self.not_before = Instant::now() + PAUSE;
            }
            Err(panic) => {
                tracing::error!(table = %name, "compaction broke: {panic}");
                self.not_before = Instant::now() + PAUSE;
            }
        }
    }

    /// Whether a finished job waits, or one has just ended.
    pub(super) fn is_due(&self) -> bool {
        self.finished.is_some() || self.job.as_ref().is_some_and(|job| job.0.is_finished())
    }

    /// A finished job, to be landed.
    pub(super) fn take(&mut self) -> Option<Compacted> {
        self.finished.take()
    }

    /// So many small files that the next unit must wait for the job that is under way.
    pub(super) fn is_overdue(&self, core: &Core) -> bool {
        let crowded = |policy: &Policy| policy.small_files(&core.slots) >= policy.crowd * OVERDUE;
        (self.job.is_some() || self.finished.is_some()) && self.policy.as_ref().is_some_and(crowded)
    }

    /// Ends what is under way, and waits until it has ended: a task must not outlive the runtime's timers.
    pub(super) async fn close(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
        self.finished = None;
        if let Some(mut job) = self.job.take() {
            job.0.abort();
            let _aborted = (&mut job.0).await;
        }
        if let Some(mut cleaning) = self.cleaning.take() {
            cleaning.0.abort();
            let _aborted = (&mut cleaning.0).await;
        }
    }

    /// What is under way is void.
    pub(super) fn abandon(&mut self) {
        self.rest_at = None;
        self.job = None;
        self.finished = None;
    }
}
