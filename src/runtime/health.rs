//! Watches what the pipeline costs its source, beside everything else that a session does.
//!
//! It runs while tables are copied, while the driver waits for a target that is away: those are the moments
//! when the source keeps more and more log. It only looks and tells; the one thing that it can do is to end
//! the session, after which the slot is dropped.
//!
//! # When the slot is dropped
//!
//! Only with `on_wal_budget: drop_slot`. The session is dropped where it stands, which is what a kill does,
//! then the slot. A death before the slot is dropped leaves it, and the next start finds the budget used up
//! again; a death after it leaves tables that hold a position and no slot: the loss that `PG040` names. In
//! no case is anything committed after the slot went.

use crate::error::{Disposition, Error, codes};
use crate::position::Lsn;
use crate::source::{Source, SourceHealth};
use crate::telemetry::StatusBoard;
use crate::telemetry::status::{PositionText, Reason, Severity};
use std::time::Duration;
use tokio::time::Instant;

/// How often the source is asked.
const EVERY: Duration = Duration::from_secs(5);
/// Longer than a busy server takes for one row of a system view.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Weight of the newest stretch in the rate at which log is written.
const NEWEST: f64 = 0.3;
/// How long a slot that is to be dropped may still be held by our own last connection.
const DROP_WITHIN: Duration = Duration::from_secs(90);

/// How much log the source may keep for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalBudget {
    /// Bytes; `None`: only the server's own limit counts.
    pub bytes: Option<u64>,
    /// When they are used up, the slot is dropped.
    pub drop_slot: bool,
}

/// How near the limit is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Fine,
    Half,
    Near,
    UsedUp,
}

impl Level {
    fn of(used: f64, before: Level) -> Level {
        match used {
            u if u >= 1.0 => Level::UsedUp,
            u if u >= 0.8 => Level::Near,
            u if u >= 0.5 => Level::Half,
            // Not back and forth around the edge.
            u if u >= 0.45 && before == Level::Half => Level::Half,
            _ => Level::Fine,
        }
    }
}

/// What was seen so far.
struct Watch {
    budget: WalBudget,
    last: Option<(Lsn, Instant)>,
    /// Bytes of log a second.
    rate: Option<f64>,
    level: Level,
}

/// A limit, how much of it is used, and what is left.
struct Used {
    part: f64,
    limit: u64,
    left: u64,
    of: &'static str,
}

/// Watches for ever; returns when the session must not go on.
pub(super) async fn watch<S: Source>(source: &S, budget: WalBudget, board: &StatusBoard) -> Error {
    let mut watch = Watch { budget, last: None, rate: None, level: Level::Fine };
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let looked = tokio::time::timeout(ANSWER_WITHIN, source.health()).await.unwrap_or_else(|_| {
            let what = format!("the source does not answer within {} s", ANSWER_WITHIN.as_secs());
            Err(Error::new(codes::PG006, what))
        });
        look_at_log(source, board).await;
        let temporary = |error: &&Error| error.code().disposition == Disposition::Retry;
        board.set_unanswered(looked.as_ref().err().filter(temporary));
        match looked {
            Ok(Some(health)) => {
                if let Some(error) = watch.see(health, Instant::now(), board) {
                    return error;
                }
            }
            Ok(None) => {}
            Err(error) if error.code() == codes::PG016 => return error,
            // Who streams notices what matters.
            Err(error) => {
                tracing::debug!(code = %error.code(), "cannot look at the slot: {}", error.cause_line())
            }
        }
    }
}

/// A log that is kept for a time, not for us: how long is left.
async fn look_at_log<S: Source>(source: &S, board: &StatusBoard) {
    let (held, age) = board
        .read(|status| (status.position.map(|at| at.0), status.lag_seconds.map(Duration::from_secs_f64)));
    match tokio::time::timeout(ANSWER_WITHIN, source.look_at_log(held, age)).await {
        Ok(Ok(Some(log))) => board.update(|status| {
            status.source.log_seconds_left = log.left.map(|left| left.as_secs());
            status.source.server_flushed = status.source.server_flushed.max(Some(PositionText(log.end)));
        }),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => {
            tracing::debug!(code = %error.code(), "cannot look at the log: {}", error.cause_line());
        }
        Err(_) => tracing::debug!("the source does not say in time what it keeps of its log"),
    }
}

/// Drops the slot, once our own connection has let go of it.
pub(super) async fn release<S: Source>(source: &S) -> crate::error::Result<()> {
    let deadline = Instant::now() + DROP_WITHIN;
    loop {
        match source.drop_slot().await {
            Err(error)
                if Instant::now() < deadline
                    && (error.code() == codes::PG011 || error.code() == codes::PG006) =>
            {
                tracing::debug!("the slot is not dropped yet: {}", error.cause_line());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            done => return done,
        }
    }
}

impl Watch {
    /// Takes in what was seen. What is returned ends the session.
    fn see(&mut self, health: SourceHealth, now: Instant, board: &StatusBoard) -> Option<Error> {
        self.measure(health.end, now);
        let used = self.used(health);
        let before = self.level;
        self.level = used.as_ref().map_or(Level::Fine, |used| Level::of(used.part, before));
        let seconds = used.as_ref().and_then(|used| self.seconds(used.left));
        let text = used.map(|used| told(health.retained, &used, seconds));
        if let Some(text) = &text {
            tell(before, self.level, text);
        }
        let level = self.level;
        board.update(|status| {
            status.source.retained_bytes = Some(health.retained);
            status.source.safe_wal_bytes = health.safe;
            status.source.seconds_to_loss = seconds;
            if let Some(slot) = health.slot {
                status.source.slot_active = Some(slot.active);
                status.source.wal_status = Some(slot.wal.as_str().to_owned());
                status.source.unacknowledged_bytes = Some(slot.unacknowledged);
            }
            status.source.server_flushed = status.source.server_flushed.max(Some(PositionText(health.end)));
            let severity = match level {
                Level::Fine => return status.clear_reason(codes::PG047),
                Level::Half => Severity::Warning,
                Level::Near | Level::UsedUp => Severity::Error,
            };
            let error = Error::new(codes::PG047, text.clone().unwrap_or_default());
            status.add_reason(Reason::from_error(&error.with_try(ADVICE), severity));
        });
        if level == Level::UsedUp && self.budget.drop_slot && self.over_budget(health) {
            return Some(Error::new(codes::PG047, text.unwrap_or_default()).with_try(
                "the slot is dropped, as source.on_wal_budget asks; make room, then: strandline resync TABLE --yes",
            ));
        }
        None
    }

    fn over_budget(&self, health: SourceHealth) -> bool {
        self.budget.bytes.is_some_and(|bytes| health.retained >= bytes)
    }

    fn measure(&mut self, end: Lsn, now: Instant) {
        if let Some((then, at)) = self.last
            && let seconds = now.duration_since(at).as_secs_f64()
            && seconds > 0.0
        {
            let newest = as_float(end.bytes_since(then)) / seconds;
            self.rate = Some(self.rate.map_or(newest, |rate| rate + NEWEST * (newest - rate)));
        }
        self.last = Some((end, now));
    }

    /// The limit that is reached first.
    fn used(&self, health: SourceHealth) -> Option<Used> {
        let part = |limit: u64| as_float(health.retained) / as_float(limit.max(1));
        let own = self.budget.bytes.map(|limit| Used {
            part: part(limit),
            limit,
            left: limit.saturating_sub(health.retained),
            of: "source.wal_budget",
        });
        let servers = health.safe.map(|left| {
            let limit = health.retained.saturating_add(left);
            Used { part: part(limit), limit, left, of: "max_slot_wal_keep_size" }
        });
        match (own, servers) {
            (Some(own), Some(servers)) => Some(if servers.part > own.part { servers } else { own }),
            (own, servers) => own.or(servers),
        }
    }

    /// Until so much has been written; `None` while nothing is.
    fn seconds(&self, bytes: u64) -> Option<u64> {
        let rate = self.rate.filter(|rate| *rate >= 1.0)?;
        let seconds = (as_float(bytes) / rate).min(1e12);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1e12")]
        Some(seconds as u64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share and a rate; 2^53 bytes are 9 PB")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

const ADVICE: &str = "see what holds it up (strandline status), or give a larger source.wal_budget";

fn told(retained: u64, used: &Used, seconds: Option<u64>) -> String {
    let when = match seconds {
        Some(s) if used.left > 0 => format!("; should nothing be acknowledged, the rest lasts ~{}", span(s)),
        _ => String::new(),
    };
    format!(
        "the slot keeps {} MiB of WAL, {:.0} % of the {} MiB of {}{when}",
        retained >> 20,
        used.part * 100.0,
        used.limit >> 20,
        used.of
    )
}

fn span(seconds: u64) -> String {
    match seconds {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3600),
    }
}

/// Says it once for each step up, and when it is over.
fn tell(before: Level, now: Level, text: &str) {
    let code = codes::PG047;
    match now {
        Level::Fine if before > Level::Fine => tracing::info!("{text}"),
        Level::Half if before < now => tracing::warn!(%code, "{text}"),
        Level::Near | Level::UsedUp if before < now => tracing::error!(%code, "{text}"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::status::PipelineState;

    const MIB: u64 = 1 << 20;

    fn seen(
        watch: &mut Watch,
        board: &StatusBoard,
        at: u64,
        retained: u64,
        safe: Option<u64>,
    ) -> Option<Error> {
        let health = SourceHealth { retained: retained * MIB, safe, end: Lsn::new(at * MIB), slot: None };
        watch.see(health, Instant::now() + Duration::from_secs(at), board)
    }

    fn watching(budget: WalBudget) -> (Watch, StatusBoard) {
        let board = StatusBoard::new("x");
        board.set_phase(PipelineState::Streaming);
        (Watch { budget, last: None, rate: None, level: Level::Fine }, board)
    }

    #[tokio::test]
    async fn half_is_a_warning_and_four_fifths_degrade() {
        let (mut watch, board) = watching(WalBudget { bytes: Some(100 * MIB), drop_slot: false });
        for (at, retained, severity, state) in [
            (1, 10, None, PipelineState::Streaming),
            (2, 50, Some(Severity::Warning), PipelineState::Streaming),
            (3, 46, Some(Severity::Warning), PipelineState::Streaming),
            (4, 80, Some(Severity::Error), PipelineState::Degraded),
            (5, 120, Some(Severity::Error), PipelineState::Degraded),
            (6, 44, None, PipelineState::Streaming),
        ] {
            assert!(seen(&mut watch, &board, at, retained, None).is_none());
            let status = board.status();
            let found = status.reasons.iter().find(|r| r.code == "PG047").map(|r| r.severity);
            assert_eq!((found, status.state), (severity, state), "at {at}");
            assert_eq!(status.source.retained_bytes, Some(retained * MIB));
        }
    }

    #[tokio::test]
    async fn the_declared_action_is_taken_at_the_budget_only() {
        let (mut watch, board) = watching(WalBudget { bytes: Some(100 * MIB), drop_slot: true });
        assert!(seen(&mut watch, &board, 1, 99, None).is_none());
        // The server's own limit is the server's own business.
        assert!(seen(&mut watch, &board, 2, 99, Some(0)).is_none());
        assert_eq!(seen(&mut watch, &board, 3, 100, None).unwrap().code(), codes::PG047);
    }

    #[tokio::test]
    async fn the_time_that_is_left_follows_the_rate() {
        let (mut watch, board) = watching(WalBudget::default());
        assert!(seen(&mut watch, &board, 1, 10, Some(90 * MIB)).is_none());
        assert_eq!(board.status().source.seconds_to_loss, None);
        // A mebibyte a second.
        assert!(seen(&mut watch, &board, 11, 20, Some(80 * MIB)).is_none());
        let seconds = board.status().source.seconds_to_loss.unwrap();
        assert!((79..=81).contains(&seconds), "{seconds}");
    }
}
