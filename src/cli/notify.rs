//! Tells systemd how we are (`sd_notify(3)`), where it wants to know: `READY=1` once, then the state in words, and a sign
//! of life only while the core loop gives one.

use crate::telemetry::StatusBoard;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two words, without a watchdog.
const EVERY: Duration = Duration::from_secs(10);

/// Ends when it is dropped.
pub(super) struct Notifier(JoinHandle<()>);

impl Drop for Notifier {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins, where systemd asked for it.
pub(super) fn start(board: &StatusBoard, wedged: Duration) -> Option<Notifier> {
    let name = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty())?;
    let watchdog =
        std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    // systemd advises half of its patience; a third also bears a lost one.
    let every = watchdog.map_or(EVERY, |patience: Duration| (patience / 3).min(EVERY));
    // A database that is away at boot must not make the start fail: it is tried again for ever.
    tell(&name, "READY=1\n");
    let board = board.clone();
    Some(Notifier(tokio::spawn(async move {
        let mut tick = tokio::time::interval(every.max(Duration::from_millis(100)));
        loop {
            tick.tick().await;
            tell(&name, &words(&board, wedged));
        }
    })))
}

fn words(board: &StatusBoard, wedged: Duration) -> String {
    let status = board.read(|status| {
        let stopped = status.reasons.len();
        let more = if stopped > 0 { format!(", {stopped} need attention") } else { String::new() };
        format!("STATUS={}, {} tables{more}\n", status.state, status.tables.len())
    });
    if board.silence() <= wedged { format!("WATCHDOG=1\n{status}") } else { status }
}

/// Nobody there is no fault of ours.
fn tell(name: &str, text: &str) {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(cause) = sent {
        tracing::debug!(error = %cause, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::status::PipelineState;

    #[test]
    fn words_arrive_and_carry_a_sign_of_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let there = UnixDatagram::bind(&path).unwrap();
        let board = StatusBoard::new("shop");
        board.set_phase(PipelineState::Streaming);
        tell(path.to_str().unwrap(), &words(&board, Duration::from_secs(60)));
        let mut heard = [0; 256];
        let size = there.recv(&mut heard).unwrap();
        assert_eq!(&heard[..size], b"WATCHDOG=1\nSTATUS=streaming, 0 tables\n");
        tell("/nowhere/at/all", "READY=1\n");
    }
}
