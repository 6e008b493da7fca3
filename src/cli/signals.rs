//! SIGTERM and SIGINT: the first one asks for a graceful stop, the second one ends the process at once.
//! Ending at once is safe: nothing is ever acknowledged before it is durable.

use super::exit;
use super::options::StopSender;
use crate::error::{Error, Result, codes};
use tokio::signal::unix::{SignalKind, signal};

/// Begins to listen. `on_stop` runs at the first signal.
pub(super) fn listen(sender: StopSender, on_stop: impl FnOnce() + Send + 'static) -> Result<()> {
    let unusable = |cause| Error::new(codes::RT001, "signals cannot be received").with_source(cause);
    let mut terminate = signal(SignalKind::terminate()).map_err(unusable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unusable)?;
    tokio::spawn(async move {
        let mut on_stop = Some(on_stop);
        loop {
            let (name, code) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", exit::TERMINATED),
                _ = interrupt.recv() => ("SIGINT", exit::INTERRUPTED),
            };
            match on_stop.take() {
                Some(act) => {
                    tracing::info!(signal = name, "stopping: a second signal ends the process at once");
                    act();
                    sender.stop();
                }
                None => {
                    tracing::warn!(
                        signal = name,
                        "ended at once; nothing is lost, work in flight is repeated"
                    );
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "ending at once is what the second signal asks for"
                    )]
                    std::process::exit(i32::from(code));
                }
            }
        }
    });
    Ok(())
}

/// Does this at each SIGHUP, which without it would end the process.
pub(super) fn on_hangup(act: impl Fn() + Send + 'static) -> Result<()> {
    let unusable = |cause| Error::new(codes::RT001, "signals cannot be received").with_source(cause);
    let mut hangup = signal(SignalKind::hangup()).map_err(unusable)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            act();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::options::StopSignal;
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    /// Not a test of its own: the child of the one below.
    #[tokio::test]
    #[ignore = "runs as a child process"]
    async fn child() {
        let (sender, stop) = StopSignal::pair();
        listen(sender, || println!("asked")).unwrap();
        println!("ready");
        stop.stopped().await;
        println!("stopping");
        std::future::pending::<()>().await;
    }

    fn second_signal_of(signal: &str) -> Option<i32> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::signals::tests::child", "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wait_for = |word: &str| {
            while !lines.next().expect("the child ended early").unwrap().contains(word) {}
        };
        let kill = |id: u32| Command::new("kill").args([signal, &id.to_string()]).status().unwrap();
        wait_for("ready");
        assert!(kill(child.id()).success());
        wait_for("asked");
        wait_for("stopping");
        assert!(kill(child.id()).success());
        child.wait().unwrap().code()
    }

    #[test]
    fn the_first_signal_asks_and_the_second_one_ends() {
        assert_eq!(second_signal_of("-TERM"), Some(143));
        assert_eq!(second_signal_of("-INT"), Some(130));
    }
}
