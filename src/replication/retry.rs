//! What a failure means for whoever met it. The one place where [`Disposition`] is turned into conduct.

use super::message::Millis;
use crate::error::Disposition;

/// How long to wait between attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// The first wait is up to this.
    pub first: Millis,
    /// No wait is longer than this.
    pub longest: Millis,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy { first: Millis(200), longest: Millis(30_000) }
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AfterFailure {
    /// Try again after so long.
    RetryAfter(Millis),
    /// Stop the table; the others go on.
    HaltTable,
    /// Stop the pipeline.
    HaltPipeline,
}

impl RetryPolicy {
    /// Decides. `attempt` counts failures in a row, from 0. `jitter` is any random number: of each wait
    /// the first half is fixed and the second is drawn, so that many pipelines do not come back at once.
    ///
    /// A temporary failure is retried for ever: the wait is bounded, the number of attempts is not,
    /// because giving up would only move the retry to whoever restarts the process. A bug stops the
    /// pipeline: what this program believes is wrong, and the next commit could be too.
    pub fn after_failure(&self, disposition: Disposition, attempt: u32, jitter: u64) -> AfterFailure {
        match disposition {
            Disposition::Retry => AfterFailure::RetryAfter(self.wait(attempt, jitter)),
            Disposition::HaltTable => AfterFailure::HaltTable,
            Disposition::HaltPipeline | Disposition::Bug => AfterFailure::HaltPipeline,
        }
    }

    fn wait(&self, attempt: u32, jitter: u64) -> Millis {
        let doubled = self.first.0.max(1).saturating_mul(1_u64.checked_shl(attempt).unwrap_or(u64::MAX));
        let whole = doubled.min(self.longest.0.max(1));
        let fixed = whole / 2;
        Millis(fixed + jitter % (whole - fixed + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_are_bounded_and_grow(attempt in 0_u32..200, jitter: u64) {
            let policy = RetryPolicy::default();
            let AfterFailure::RetryAfter(wait) = policy.after_failure(Disposition::Retry, attempt, jitter) else {
                return Err(TestCaseError::fail("temporary failures are retried"));
            };
            let whole = policy.first.0.saturating_mul(1_u64.checked_shl(attempt).unwrap_or(u64::MAX));
            let whole = whole.min(policy.longest.0);
            prop_assert!(wait.0 >= whole / 2 && wait.0 <= whole, "{wait:?} of {whole}");
        }
    }

    #[test]
    fn the_draw_reaches_both_ends() {
        let policy = RetryPolicy { first: Millis(100), longest: Millis(100) };
        let waits: Vec<_> = (0..51).map(|jitter| policy.wait(0, jitter).0).collect();
        assert_eq!((waits[0], waits[50]), (50, 100));
    }

    #[test]
    fn what_is_not_temporary_is_not_retried() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.after_failure(Disposition::HaltTable, 0, 0), AfterFailure::HaltTable);
        assert_eq!(policy.after_failure(Disposition::HaltPipeline, 0, 0), AfterFailure::HaltPipeline);
        assert_eq!(policy.after_failure(Disposition::Bug, 0, 0), AfterFailure::HaltPipeline);
    }
}
