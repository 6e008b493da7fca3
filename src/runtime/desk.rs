//! What an operator asks of a pipeline that runs: handed over a desk, and done by the driver between two bursts.
//!
//! Nothing here is stored. What must survive a death (a table that is to be copied again) stands in the target's record
//! before it is answered; a table that was told to leave is recorded as stopped by the coordinator, like any other.

use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, CopyPart, CopyWriter};
use crate::schema::TableName;
use crate::sink::Request;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Between two looks of a copy that is paused.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One wish.
#[derive(Debug)]
pub enum Wish {
    /// Copy the table again, beside the stream.
    Copy(TableName),
    /// Meet this request, once it is on the target's record: then the answer comes. No answer: put it down again.
    Meet(Request, oneshot::Sender<()>),
    /// Take the table out of the stream: it stops, and comes back by a copy.
    Leave(TableName),
    /// Show its changes as they are handed to the target. What the reader does not take in time it does not see.
    Tap(TableName, mpsc::Sender<ChangeBatch>),
}

/// Where wishes are put.
#[derive(Clone, Debug)]
pub struct Counter {
    wishes: mpsc::UnboundedSender<Wish>,
    /// Holds copies up, or ends them.
    pub gate: CopyGate,
}

impl Counter {
    /// Puts one down. Nobody takes it when the pipeline has ended.
    pub fn put(&self, wish: Wish) {
        let _ended = self.wishes.send(wish);
    }

    /// Has a request put on the target's record.
    ///
    /// # Errors
    /// `RT015` when the pipeline has ended.
    pub async fn meet(&self, request: &Request) -> Result<()> {
        loop {
            let (reply, answer) = oneshot::channel();
            let is_taken = self.wishes.send(Wish::Meet(request.clone(), reply)).is_ok();
            if !is_taken {
                return Err(stopped(&request.table, "the pipeline has ended"));
            }
            // A session that ended in between has not met it: the next one does.
            if answer.await.is_ok() {
                return Ok(());
            }
        }
    }
}

/// Where the driver takes them. Sessions share it.
#[derive(Clone, Debug)]
pub struct Desk {
    wishes: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Wish>>>,
    /// The same gate.
    pub gate: CopyGate,
}

impl Desk {
    /// Both sides. Unbounded: people are slow.
    pub fn new() -> (Counter, Desk) {
        let (wishes, taken) = mpsc::unbounded_channel();
        let gate = CopyGate::default();
        let desk = Desk { wishes: Arc::new(tokio::sync::Mutex::new(taken)), gate: gate.clone() };
        (Counter { wishes, gate }, desk)
    }

    /// Nobody asks for anything.
    pub fn nobody() -> Desk {
        Desk::new().1
    }

    /// The next wish; for ever when nobody can have one any more. Cancel-safe.
    pub(super) async fn next(&self) -> Wish {
        match self.wishes.lock().await.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

/// Holds copies up, or ends them. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct CopyGate(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    is_shut: AtomicBool,
    cancelled: Mutex<BTreeSet<TableName>>,
    /// Tables whose rows are read beside their stream.
    reread: Mutex<BTreeSet<TableName>>,
}

impl CopyGate {
    /// Copies wait (true), or go on.
    pub fn shut(&self, is_shut: bool) {
        self.0.is_shut.store(is_shut, Ordering::SeqCst);
    }

    /// Whether copies wait.
    pub fn is_shut(&self) -> bool {
        self.0.is_shut.load(Ordering::SeqCst)
    }

    /// Ends the copy of this table, if one runs or begins before [`CopyGate::admit`].
    pub fn cancel(&self, table: &TableName) {
        self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner).insert(table.clone());
    }

    /// Ends what is read of these tables beside their streams; empty: of any. How many that were.
    pub fn cancel_rereads(&self, tables: &[TableName]) -> usize {
        let running = self.0.reread.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = running.iter().filter(|name| tables.is_empty() || tables.contains(name));
        meant.map(|name| self.cancel(name)).count()
    }

    /// Rows of it are read beside its stream, or no more.
    pub(super) fn rereads(&self, table: &TableName, is_running: bool) {
        let mut running = self.0.reread.lock().unwrap_or_else(PoisonError::into_inner);
        if is_running {
            running.insert(table.clone());
        } else {
            running.remove(table);
        }
    }

    /// A new copy of it is wanted: what was said of an older one does not count.
    pub(super) fn admit(&self, table: &TableName) {
        self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner).remove(table);
    }

    fn is_cancelled(&self, table: &TableName) -> bool {
        self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner).contains(table)
    }

    /// A share of a table's copy that goes through the gate. It ends when `passage` does.
    pub(super) fn through(
        &self,
        table: &TableName,
        passage: &Passage,
        writer: Box<dyn CopyWriter>,
    ) -> Box<dyn CopyWriter> {
        Box::new(Gated { gate: self.clone(), table: table.clone(), is_over: Arc::clone(&passage.0), writer })
    }
}

/// How long a copy's shares may wait: as long as this is there.
#[derive(Debug, Default)]
pub(super) struct Passage(Arc<AtomicBool>);

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Gated {
    gate: CopyGate,
    table: TableName,
    is_over: Arc<AtomicBool>,
    writer: Box<dyn CopyWriter>,
}

impl CopyWriter for Gated {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        loop {
            if self.gate.is_cancelled(&self.table) {
                return Err(cancelled(&self.table));
            }
            if self.is_over.load(Ordering::SeqCst) {
                return Err(Error::new(codes::RT001, "the copy was given up"));
            }
            if !self.gate.is_shut() {
                return self.writer.write(batch);
            }
            // A thread of its own: nobody else waits for it.
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        self.writer.finish()
    }
}

fn cancelled(table: &TableName) -> Error {
    stopped(table, "an operator ended its copy")
}

/// A table that stands still because somebody wanted it.
pub(super) fn stopped(table: &TableName, why: &str) -> Error {
    crate::sink::table_error(table, codes::RT015, why)
        .with_try(format!("strandline resume \"{table}\" copies it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TableName {
        TableName::new("public", "orders")
    }

    #[tokio::test]
    async fn what_is_put_down_is_taken_in_order() {
        let (counter, desk) = Desk::new();
        counter.put(Wish::Copy(orders()));
        counter.put(Wish::Leave(orders()));
        assert!(matches!(desk.next().await, Wish::Copy(name) if name == orders()));
        assert!(matches!(desk.clone().next().await, Wish::Leave(_)));
    }

    #[test]
    fn a_cancelled_copy_may_begin_again() {
        let gate = CopyGate::default();
        gate.cancel(&orders());
        assert!(gate.is_cancelled(&orders()) && !gate.is_cancelled(&TableName::new("public", "other")));
        gate.admit(&orders());
        assert!(!gate.is_cancelled(&orders()));
        assert_eq!(cancelled(&orders()).code(), codes::RT015);
    }
}
