//! Health from progress: whether the pipeline stands still although it has something to do.
//!
//! ```text
//!   facts of the moment ──▶ [ Health::see ] ──▶ nothing, or one reason why it stands still
//!   (retrying, owed and no progress, a silent core loop)      (code, since, text, what to try)
//! ```
//!
//! A value goes in, a value comes out; time is an argument. What the machine promises:
//!
//! | it says | when |
//! |---|---|
//! | nothing | idle, a long transaction that has not committed, a first copy that reads rows, a slow commit that writes: all of these are work or rest |
//! | the error's code | a temporary error has been tried again for [`Patience::grace`]; stretches in between count half |
//! | `RT014` | something is owed to the target and neither rows, files nor commits were seen for [`Patience::stall`] (ten times that while the processor works) |
//! | `RT013` | the core loop gave no sign of life for [`Patience::wedged`] |
//!
//! Neither edge flaps. A source that comes and goes fills a bucket with the seconds that it was away, which drains at half
//! speed; full means standing still. The way back is a third of [`Patience::grace`] without a fault.

use super::process;
use super::status::{PipelineState, Stall, Status, StatusBoard, Timestamp};
use crate::error::codes;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(250);
/// So much of one processor is work.
const WORKING: f64 = 0.1;
/// Work without any other progress counts as progress for so many times [`Patience::stall`].
const WORK_ALONE: u32 = 10;

/// How long something may last before it is called by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Trying again.
    pub grace: Duration,
    /// No progress while something is owed.
    pub stall: Duration,
    /// No sign of life of the core loop.
    pub wedged: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            grace: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            wedged: Duration::from_secs(60),
        }
    }
}

/// What is so at a moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What the runtime does.
    pub phase: PipelineState,
    /// Code and text of a temporary error that is being tried again, and since when.
    pub retrying: Option<(String, String, Timestamp)>,
    /// Something was handed to the target, or a copy runs, and it is not durable yet.
    pub owed: bool,
    /// What is owed may take long without a sign: ten times the patience.
    pub may_take_long: bool,
    /// Counts rows of copies, files, commits, cuts: another number is progress.
    pub progress: u64,
    /// Processor seconds of the process.
    pub cpu_seconds: Option<f64>,
    /// How long the core loop gave no sign of life.
    pub silence: Duration,
}

/// What is wrong now.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fault {
    Wedged,
    Away(String, String),
    Standing(Duration),
}

/// The machine.
#[derive(Debug)]
pub struct Health {
    patience: Patience,
    last: Option<Instant>,
    /// Seconds of trouble, drained at half speed.
    trouble: f64,
    /// Since when nothing is wrong.
    clean: Option<Instant>,
    progress: u64,
    moved: Option<Instant>,
    worked: Option<Instant>,
    cpu: Option<(Instant, f64)>,
    told: Option<Stall>,
}

impl Health {
    /// Nothing seen yet.
    pub fn new(patience: Patience) -> Self {
        Health {
            patience,
            last: None,
            trouble: 0.0,
            clean: None,
            progress: 0,
            moved: None,
            worked: None,
            cpu: None,
            told: None,
        }
    }

    /// Takes in what is so at `now`; says why it stands still, if it does.
    pub fn see(&mut self, facts: &Facts, now: Instant, wall: Timestamp) -> Option<&Stall> {
        let passed = self.last.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last = Some(now);
        self.count_progress(facts, now);
        match self.fault(facts, now) {
            None => {
                self.trouble = (self.trouble - passed / 2.0).max(0.0);
                let clean = *self.clean.get_or_insert(now);
                if now.saturating_duration_since(clean) >= self.patience.grace / 3 {
                    (self.told, self.trouble) =
                        (None, self.trouble.min(self.patience.grace.as_secs_f64() / 2.0));
                }
            }
            Some(fault) => {
                self.clean = None;
                let is_sure = match &fault {
                    // These have waited for their own time already.
                    Fault::Wedged | Fault::Standing(_) => true,
                    Fault::Away(..) => {
                        self.trouble = (self.trouble + passed).min(self.patience.grace.as_secs_f64());
                        self.trouble >= self.patience.grace.as_secs_f64()
                    }
                };
                if is_sure || self.told.is_some() {
                    self.tell(fault, facts, wall);
                }
            }
        }
        self.told.as_ref()
    }

    fn count_progress(&mut self, facts: &Facts, now: Instant) {
        if facts.progress != self.progress || !facts.owed || self.moved.is_none() {
            self.progress = facts.progress;
            (self.moved, self.worked) = (Some(now), Some(now));
        }
        let Some(cpu) = facts.cpu_seconds else { return };
        match self.cpu {
            Some((then, before)) if now.saturating_duration_since(then) >= Duration::from_secs(1) => {
                let seconds = now.saturating_duration_since(then).as_secs_f64();
                if (cpu - before) / seconds >= WORKING {
                    self.worked = Some(now);
                }
                self.cpu = Some((now, cpu));
            }
            Some(_) => {}
            None => self.cpu = Some((now, cpu)),
        }
    }

    fn fault(&self, facts: &Facts, now: Instant) -> Option<Fault> {
        if facts.silence > self.patience.wedged {
            return Some(Fault::Wedged);
        }
        let works = matches!(
            facts.phase,
            PipelineState::Starting
                | PipelineState::Snapshotting
                | PipelineState::CatchingUp
                | PipelineState::Streaming
        );
        if !works {
            return None;
        }
        if let Some((code, text, _)) = &facts.retrying {
            return Some(Fault::Away(code.clone(), text.clone()));
        }
        let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let (still, rested) = (since(self.moved), since(self.worked));
        let is_standing = still > self.patience.stall * WORK_ALONE
            || (rested > self.patience.stall && !facts.may_take_long);
        (facts.owed && is_standing).then_some(Fault::Standing(still))
    }

    fn tell(&mut self, fault: Fault, facts: &Facts, wall: Timestamp) {
        let (code, text, fix, since) = match fault {
            Fault::Away(code, text) => {
                let since = facts.retrying.as_ref().map_or(wall, |(_, _, since)| *since);
                let advice = "it is tried again for ever, no restart is needed: strandline doctor says what is missing";
                (code, format!("trying again: {text}"), advice, since)
            }
            Fault::Standing(still) => (
                codes::RT014.id.to_owned(),
                format!("nothing became durable for {} s although something waits for it", still.as_secs()),
                "look whether the target answers (strandline doctor --target); a restart loses nothing",
                wall.before(still),
            ),
            Fault::Wedged => (
                codes::RT013.id.to_owned(),
                format!("the core loop has given no sign of life for {} s", facts.silence.as_secs()),
                "restart the process: nothing is lost; is what reads its log (standard error) alive?",
                wall.before(facts.silence),
            ),
        };
        let since = match &self.told {
            Some(old) if old.code == code => old.since,
            Some(_) | None => since,
        };
        self.told = Some(Stall { code, since, text, fix: Some(fix.to_owned()) });
    }
}

/// What the board says now.
fn facts(status: &Status, board: &StatusBoard) -> Facts {
    // A takeover of thousands of tables, a copy that waits for a transaction of the source.
    let may_take_long = matches!(status.phase, PipelineState::Starting | PipelineState::Snapshotting);
    Facts {
        phase: status.phase,
        retrying: board.trouble(status).map(|r| (r.code, r.text, r.since)),
        owed: board.is_owed() || may_take_long,
        may_take_long,
        progress: board.progress(),
        cpu_seconds: process::cpu_seconds(),
        silence: board.silence(),
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches the board from a task. It must run where a wedged core loop cannot hold it up: on another thread.
pub fn watch(board: StatusBoard, patience: Patience) -> Watching {
    Watching(tokio::spawn(async move {
        let mut health = Health::new(patience);
        let mut every = tokio::time::interval(EVERY.min(patience.grace / 4).max(Duration::from_millis(10)));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let now = board.read(|status| facts(status, &board));
            let stall = health.see(&now, Instant::now(), Timestamp::now()).cloned();
            if board.read(|status| status.stalled == stall) {
                continue;
            }
            if board.read(|status| status.stalled.is_none() != stall.is_none()) {
                say(stall.clone());
            }
            board.update(|status| status.stalled = stall);
        }
    }))
}

/// A log that nobody reads may be what holds everything up: it must not hold us, too.
fn say(stall: Option<Stall>) {
    tokio::task::spawn_blocking(move || match stall {
        Some(stall) => tracing::error!(code = %stall.code, "it stands still: {}", stall.text),
        None => tracing::info!("it goes on"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        health: Health,
        began: Instant,
        facts: Facts,
    }

    impl Run {
        fn new() -> Self {
            let facts = Facts {
                phase: PipelineState::Streaming,
                retrying: None,
                owed: false,
                may_take_long: false,
                progress: 0,
                cpu_seconds: Some(0.0),
                silence: Duration::ZERO,
            };
            Run { health: Health::new(Patience::default()), began: Instant::now(), facts }
        }

        /// Looks each second from `from` to `to`; the code at the end.
        fn during(&mut self, from: u64, to: u64) -> Option<String> {
            let mut found = None;
            for second in from..=to {
                let now = self.began + Duration::from_secs(second);
                found = self.health.see(&self.facts, now, Timestamp::now()).map(|stall| stall.code.clone());
            }
            found
        }

        fn away(&mut self, is_away: bool) {
            let what = ("PG006".to_owned(), "refused".to_owned(), Timestamp::now());
            self.facts.retrying = is_away.then_some(what);
        }
    }

    #[test]
    fn rest_is_no_fault_and_nor_is_a_pause() {
        let mut run = Run::new();
        assert_eq!(run.during(0, 10_000), None);
        run.facts.phase = PipelineState::Paused;
        (run.facts.owed, run.facts.retrying) = (true, None);
        assert_eq!(run.during(10_001, 20_000), None);
    }

    #[test]
    fn a_source_that_is_away_has_its_grace_and_comes_back_after_a_while() {
        let mut run = Run::new();
        run.during(0, 100);
        run.away(true);
        assert_eq!(run.during(101, 129), None);
        assert_eq!(run.during(130, 140).as_deref(), Some("PG006"));
        run.away(false);
        // A moment of rest is no recovery.
        assert_eq!(run.during(141, 145).as_deref(), Some("PG006"));
        assert_eq!(run.during(146, 152), None);
    }

    #[test]
    fn a_source_that_comes_and_goes_is_seen() {
        let mut run = Run::new();
        let mut at = 0;
        let mut seen = None;
        for _ in 0..12 {
            run.away(true);
            run.during(at, at + 5);
            run.away(false);
            seen = run.during(at + 6, at + 8);
            at += 9;
        }
        assert_eq!(seen.as_deref(), Some("PG006"));
        assert_eq!(run.during(at, at + 30), None);
    }

    #[test]
    fn what_is_owed_must_move() {
        let mut run = Run::new();
        run.facts.owed = true;
        assert_eq!(run.during(0, 60), None);
        assert_eq!(run.during(61, 62).as_deref(), Some("RT014"));
        run.facts.progress = 1;
        assert_eq!(run.during(63, 80), None);
        // Slow, and it moves.
        for n in 0..10 {
            run.facts.progress += 1;
            assert_eq!(run.during(100 + n * 50, 149 + n * 50), None);
        }
    }

    #[test]
    fn a_commit_that_computes_is_work_but_not_for_ever() {
        let mut run = Run::new();
        run.facts.owed = true;
        let mut found = None;
        for second in 0..700 {
            run.facts.cpu_seconds = Some(f64::from(u32::try_from(second).unwrap()) / 2.0);
            found = run.during(second, second);
            assert!(found.is_none() || second > 600, "{second}");
        }
        assert_eq!(found.as_deref(), Some("RT014"));
    }

    #[test]
    fn a_silent_core_loop_is_wedged_whatever_it_does() {
        let mut run = Run::new();
        run.facts.silence = Duration::from_secs(61);
        assert_eq!(run.during(0, 0).as_deref(), Some("RT013"));
        run.facts.silence = Duration::ZERO;
        assert_eq!(run.during(1, 12), None);
    }
}
