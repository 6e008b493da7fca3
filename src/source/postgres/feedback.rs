//! Tells the server how far we are: a task of its own with the writing half of the connection.
//!
//! However busy the reader or slow the sink, the server hears from us at least every second (or four times
//! in its `wal_sender_timeout`), or it would hang up. It is told one position as written, flushed and
//! applied: the one that was handed in as acknowledged, which is durable in the sink and in a cut. Nothing
//! beyond it is ever said, and it never goes back; until one is known it is zero, which the server takes
//! for "nothing new".

use super::wire::WireWriter;
use crate::error::{Error, Result, codes};
use crate::pgoutput::StandbyStatus;
use crate::position::{CommitLsn, Lsn};
use bytes::BytesMut;
use postgres_protocol::message::frontend::{self, CopyData};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// Longest silence.
const INTERVAL: Duration = Duration::from_secs(1);
/// 2000-01-01 UTC in seconds since 1970.
const POSTGRES_EPOCH: u64 = 946_684_800;

/// The running task.
pub struct Feedback {
    reply: Arc<Notify>,
    ask: Arc<AtomicBool>,
    finish: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<WireWriter>>,
}

impl Feedback {
    /// Starts it. `acknowledged` may only rise. `timeout` is the server's `wal_sender_timeout`; zero: none.
    pub fn start(writer: WireWriter, acknowledged: watch::Receiver<CommitLsn>, timeout: Duration) -> Self {
        let (reply, ask) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (finish, finished) = oneshot::channel();
        let interval = if timeout.is_zero() { INTERVAL } else { INTERVAL.min(timeout / 4) };
        let interval = interval.max(Duration::from_millis(10));
        let requests = Requests { reply: Arc::clone(&reply), ask: Arc::clone(&ask) };
        let task = tokio::spawn(run(writer, acknowledged, interval, requests, finished));
        Feedback { reply, ask, finish: Some(finish), task }
    }

    /// The server asked for a status.
    pub fn reply_now(&self) {
        self.reply.notify_one();
    }

    /// Asks the server for a sign of life: it answers with a keepalive.
    pub fn ask(&self) {
        self.ask.store(true, Ordering::Relaxed);
        self.reply.notify_one();
    }

    /// Whether it has ended, which before [`Feedback::finish`] means that the connection is lost.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Sends the last status and CopyDone, and gives the writing half back.
    pub async fn finish(mut self) -> Result<WireWriter> {
        if let Some(finish) = self.finish.take() {
            // Fails only when the task has ended; then its own result says why.
            let _ended = finish.send(());
        }
        match (&mut self.task).await {
            Ok(result) => result,
            Err(panic) => Err(Error::new(codes::RT001, "the feedback task broke").with_source(panic)),
        }
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a status is sent before its time.
struct Requests {
    reply: Arc<Notify>,
    ask: Arc<AtomicBool>,
}

async fn run(
    mut writer: WireWriter,
    mut acknowledged: watch::Receiver<CommitLsn>,
    interval: Duration,
    requests: Requests,
    mut finished: oneshot::Receiver<()>,
) -> Result<WireWriter> {
    let mut tick = tokio::time::interval_at(Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = *acknowledged.borrow_and_update();
    let mut handed_in = true;
    writer.send(&status(told, false)).await?;
    loop {
        let mut end = false;
        tokio::select! {
            _ = tick.tick() => {}
            () = requests.reply.notified() => {}
            changed = acknowledged.changed(), if handed_in => handed_in = changed.is_ok(),
            _ = &mut finished => end = true,
        }
        told = told.max(*acknowledged.borrow_and_update());
        writer.send(&status(told, requests.ask.swap(false, Ordering::Relaxed))).await?;
        if end {
            let mut out = BytesMut::new();
            frontend::copy_done(&mut out);
            writer.send(&out).await?;
            return Ok(writer);
        }
    }
}

fn status(position: CommitLsn, reply: bool) -> BytesMut {
    let lsn: Lsn = position.lsn();
    let status = StandbyStatus { written: lsn, flushed: lsn, applied: lsn, time: now(), reply };
    let mut out = BytesMut::new();
    // 34 bytes always fit into a frame.
    if let Ok(frame) = CopyData::new(&status.encode()[..]) {
        frame.write(&mut out);
    }
    out
}

/// Microseconds since 2000-01-01 UTC.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = since.saturating_sub(Duration::from_secs(POSTGRES_EPOCH));
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
