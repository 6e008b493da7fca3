//! What `run` was asked for beyond the configuration, and how it is asked to stop.

use crate::position::Lsn;
use tokio::sync::watch;

/// When `run` ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Never.
    Stopped,
    /// When the target holds all that the source had flushed at the start.
    CaughtUp,
    /// When the target holds all up to this position.
    Lsn(Lsn),
}

/// Which first copies `run` makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snapshot {
    /// Those that are missing; then it streams.
    AsNeeded,
    /// Those that are missing; then it ends.
    Only,
    /// None.
    Never,
}

/// What `run` was asked for beyond the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunOptions {
    /// When it ends.
    pub until: Until,
    /// Which first copies it makes.
    pub snapshot: Snapshot,
}

/// Asks for a graceful stop.
#[derive(Debug)]
pub struct StopSender(watch::Sender<bool>);

impl StopSender {
    /// Asks. Asking twice is the same as asking once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Hears when a graceful stop is asked for. Clones hear the same.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Receiver<bool>);

impl StopSignal {
    /// A sender and its signal.
    pub fn pair() -> (StopSender, StopSignal) {
        let (sender, receiver) = watch::channel(false);
        (StopSender(sender), StopSignal(receiver))
    }

    /// Returns once a stop was asked for; never, when nobody can ask any more.
    pub async fn stopped(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a stop was asked for.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_heard_by_every_clone_also_afterwards() {
        let (sender, signal) = StopSignal::pair();
        let early = tokio::spawn({
            let signal = signal.clone();
            async move { signal.stopped().await }
        });
        assert!(!signal.is_stopped());
        sender.stop();
        early.await.unwrap();
        drop(sender);
        signal.clone().stopped().await;
        assert!(signal.is_stopped());
    }
}
