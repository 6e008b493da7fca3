//! The last day in this process's memory, so that charts need no other program: a sample every ten seconds, in a ring.

use super::process;
use super::{Metrics, StatusBoard};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two samples.
pub const EVERY: Duration = Duration::from_secs(10);
/// A day of samples.
const KEPT: usize = 8640;

/// One moment. What was not known is absent, never zero.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Sample {
    /// Unix time in milliseconds.
    pub at: i64,
    /// Seconds that the target was behind.
    pub lag_seconds: Option<f64>,
    /// Bytes that the target was behind.
    pub lag_bytes: Option<u64>,
    /// Rows given to the target since the last sample, a second.
    pub events_per_second: Option<f64>,
    /// Commits to target tables since the last sample, a minute.
    pub commits_per_minute: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    last: Option<(Instant, u64, u64)>,
}

/// The samples. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Ring>>);

impl History {
    /// Takes a sample now.
    pub fn sample(&self, board: &StatusBoard, metrics: &Metrics) {
        let (rows, commits) = metrics.totals();
        let (lag_seconds, lag_bytes) = board.read(|status| (status.lag_seconds, status.lag_bytes));
        self.take(Instant::now(), rows, commits, lag_seconds, lag_bytes);
    }

    fn take(&self, now: Instant, rows: u64, commits: u64, lag_seconds: Option<f64>, lag_bytes: Option<u64>) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = ring.last.map(|(then, rows_then, commits_then)| {
            let seconds = now.saturating_duration_since(then).as_secs_f64().max(0.001);
            (per(rows, rows_then, seconds), per(commits, commits_then, seconds) * 60.0)
        });
        ring.last = Some((now, rows, commits));
        if ring.samples.len() >= KEPT {
            ring.samples.pop_front();
        }
        ring.samples.push_back(Sample {
            at: chrono::Utc::now().timestamp_millis(),
            lag_seconds,
            lag_bytes,
            events_per_second: since.map(|(events, _)| events),
            commits_per_minute: since.map(|(_, commits)| commits),
            memory_bytes: process::resident_bytes(),
        });
    }

    /// The samples of the last `window`.
    pub fn last(&self, window: Duration) -> Vec<Sample> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = usize::try_from(window.as_secs() / EVERY.as_secs()).unwrap_or(KEPT).clamp(1, KEPT);
        ring.samples.iter().skip(ring.samples.len().saturating_sub(count)).copied().collect()
    }
}

fn per(now: u64, then: u64, seconds: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for a chart")]
    let difference = now.saturating_sub(then) as f64;
    difference / seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_with_the_second_sample_and_old_ones_go() {
        let history = History::default();
        let began = Instant::now();
        history.take(began, 100, 1, None, Some(5));
        history.take(began + Duration::from_secs(10), 200, 3, Some(0.5), None);
        let samples = history.last(Duration::from_secs(3600));
        assert_eq!((samples[0].events_per_second, samples[0].lag_bytes), (None, Some(5)));
        assert_eq!((samples[1].events_per_second, samples[1].commits_per_minute), (Some(10.0), Some(12.0)));
        assert_eq!((samples[1].lag_bytes, samples[1].lag_seconds), (None, Some(0.5)));
        for _ in 0..KEPT {
            history.take(began, 0, 0, None, None);
        }
        assert_eq!(history.last(Duration::from_secs(1_000_000)).len(), KEPT);
        assert_eq!(history.last(Duration::from_secs(60)).len(), 6);
    }
}
