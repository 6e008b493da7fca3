//! The task that writes the pipeline's record: cuts, stops, answers to requests. One at a time, in order.

use crate::error::{Disposition, Error, codes};
use crate::position::{CommitLsn, Epoch};
use crate::schema::TableId;
use crate::sink::{CommitOutcome, Cut, RecordChange, Request, Sink, WriterLease};
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the recorder is told.
#[derive(Debug)]
pub(super) enum Entry {
    /// Commit a cut.
    Cut(Cut),
    /// Record that a table stopped.
    Stop(Box<crate::sink::StoppedTable>),
    /// Tables that are live again, and the requests that this answers.
    Resumed { tables: Vec<TableId>, answered: Vec<String> },
    /// A request is refused.
    Refused(Box<crate::sink::RefusedRequest>),
    /// A request is made here: put it on record.
    Asked(Box<Request>),
    /// Look for requests.
    Poll,
}

/// What the recorder says.
#[derive(Debug)]
pub(super) enum RecordEvent {
    /// The cut is durable.
    CutCommitted { position: CommitLsn },
    /// The stop is durable.
    StopRecorded { table: TableId },
    /// The tables are recorded as live.
    Resumed { tables: Vec<TableId> },
    /// The request is on record.
    Asked(Box<Request>),
    /// Requests that wait.
    Requests(Vec<Request>),
    /// A newer owner was met.
    Fenced { by: Epoch },
    /// It could not be written.
    Broken { error: Error },
}

/// Starts the task. It ends when the driver drops its end.
pub(super) fn start<K: Sink>(
    sink: Arc<K>,
    lease: WriterLease,
) -> (mpsc::UnboundedSender<Entry>, mpsc::UnboundedReceiver<RecordEvent>) {
    // Unbounded: the coordinator has one cut under way, a table stops once, polls are skipped when late.
    let (entries, mut work) = mpsc::unbounded_channel();
    let (events, out) = mpsc::unbounded_channel();
    let last_word = events.clone();
    let task = tokio::spawn(async move {
        while let Some(entry) = work.recv().await {
            let is_poll = matches!(entry, Entry::Poll);
            let event = match perform(sink.as_ref(), &lease, entry).await {
                Ok(event) => event,
                // A look that failed is looked again.
                Err(error) if is_poll && error.code().disposition == Disposition::Retry => {
                    RecordEvent::Requests(Vec::new())
                }
                Err(error) => RecordEvent::Broken { error },
            };
            let is_end = matches!(event, RecordEvent::Broken { .. } | RecordEvent::Fenced { .. });
            if events.send(event).is_err() || is_end {
                return;
            }
        }
    });
    tokio::spawn(async move {
        if let Err(panic) = task.await {
            let error = Error::new(codes::RT001, "the recorder broke").with_source(panic);
            let _receiver_may_be_gone = last_word.send(RecordEvent::Broken { error });
        }
    });
    (entries, out)
}

async fn perform<K: Sink>(sink: &K, lease: &WriterLease, entry: Entry) -> Result<RecordEvent, Error> {
    let (outcome, event) = match entry {
        Entry::Cut(cut) => {
            let position = cut.position;
            (sink.commit_cut(lease, cut).await?, RecordEvent::CutCommitted { position })
        }
        Entry::Stop(stopped) => {
            let table = stopped.id;
            let change = RecordChange { stop: vec![*stopped], ..RecordChange::default() };
            (sink.record(lease, change).await?, RecordEvent::StopRecorded { table })
        }
        Entry::Resumed { tables, answered } => {
            let change = RecordChange { resume: tables.clone(), answered, ..RecordChange::default() };
            (sink.record(lease, change).await?, RecordEvent::Resumed { tables })
        }
        Entry::Refused(refused) => {
            let change = RecordChange { refused: vec![*refused], ..RecordChange::default() };
            (sink.record(lease, change).await?, RecordEvent::Resumed { tables: Vec::new() })
        }
        Entry::Asked(request) => {
            let change = RecordChange { asked: vec![(*request).clone()], ..RecordChange::default() };
            (sink.record(lease, change).await?, RecordEvent::Asked(request))
        }
        Entry::Poll => return Ok(RecordEvent::Requests(sink.poll_requests(lease).await?)),
    };
    Ok(match outcome {
        CommitOutcome::Committed { .. } => event,
        CommitOutcome::Fenced { by } => RecordEvent::Fenced { by },
    })
}
