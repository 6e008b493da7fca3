//! The one thread that writes: each unit with its checkpoint in one Kafka transaction.
//!
//! # Who dies where
//!
//! Unit `(100, 200]` of tables `A` and `B`, the last cut at 100. A transaction holds the events of both, the
//! positions `A` 200 and `B` 200, and the cut that was decided before it began.
//!
//! | the writer dies | what a `read_committed` consumer sees | the checkpoint | the next owner |
//! |---|---|---|---|
//! | while it produces | nothing of the unit; what follows is hidden until the fence | 100, 100, cut 100 | its fence aborts it; the stream is read again from the slot |
//! | after the commit was sent, before the answer | all or nothing: the coordinator's log decides | 200 or 100 | the fence waits until that is decided; then the checkpoint is read |
//! | after the answer, before a cut at 200 | the unit | 200, 200, cut 100 | both tables skip what they hold; the replay must meet the transaction that ends at 200 |
//! | after the cut, before the acknowledgement | the unit | cut 200 | the witness must match |
//! | asleep, woken after a takeover | nothing of it | the new owner's | its commit is refused: `Fenced` |
//! | before a unit, its table changed meanwhile | nothing of it | 100 and the columns from before | the change is met when the table is opened; what cannot be followed in place is copied |
//! | in a copy | rows that are read again, all `r` | the table has no position | its copy begins again |
//!
//! # Large transactions
//!
//! A unit with more bytes than `sink.max_transaction` comes as several Kafka transactions, because the brokers end one that is
//! too old. All but the last leave the positions where they were and name the last change that they wrote
//! ([`Written`]); the one that completes the unit moves the positions.
//!
//! | the writer dies | a consumer sees | the checkpoint | the next owner |
//! |---|---|---|---|
//! | in the third part | the first two | 100, 100, second part's last change | reads the transaction again from the source, and sends what is behind that change |
//! | in the last part | all but the last | as above, of the part before | the same |
//! | after the last part | the unit | 200, 200, no part | as above |
//!
//! The mark must mean the same change when the source tells the transaction again, with other tables than before, too: an
//! ordinal counts what the transaction holds, not what is followed of it.
//!
//! Units that are made anew after a restart may end elsewhere: an earlier transaction alone is skipped as a whole, and
//! the mark stays until a unit ends behind the start of the marked transaction's commit.
//!
//! A cut alone costs a transaction, too. So it waits for the next unit and goes with it, but no longer than
//! [`CUT_WAITS`]. The acknowledgement waits with it, which costs the source nothing.
//!
//! # Errors
//!
//! What the client can resume, it resumes. What must be aborted is aborted, and the unit is written again from
//! memory, in another transaction. Anything else leaves the outcome unknown: the writer ends with `KF007`, the
//! session begins again with a takeover, and the checkpoint says what became of it. A transaction that was too
//! long is ended by the broker with the same error as a fence, so the checkpoint's epoch tells them apart.

use super::client::{self, ASK, Pace, Sender as Client, code_of, explain, explain_code, settle};
use super::options::{CHECKPOINTS, KafkaOptions};
use super::order::{in_order, order};
use super::read::{self, Until};
use super::spill::Part;
use super::state::{Asked, State, Written};
use super::units::Complete;
use crate::debezium::{Brackets, Control, ControlRecord, Notification, Place, Record};
use crate::error::{Error, Result, codes};
use crate::position::{Epoch, Marks};
use crate::schema::TableSchema;
use crate::sink::{CommitOutcome, Cut};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// So long a cut waits for a unit to go with.
const CUT_WAITS: Duration = Duration::from_millis(100);
/// A unit that had to be aborted is written again so often before the session begins anew.
const ATTEMPTS: u32 = 5;
const FULL_NAP: Duration = Duration::from_micros(500);
/// While the brokers do not answer, this is said so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Where an outcome goes.
pub(super) type Reply = oneshot::Sender<Result<CommitOutcome>>;

/// One table's part of a unit.
pub(super) struct Share {
    /// `schema.table`.
    pub table: Arc<str>,
    pub topic: Arc<str>,
    pub parts: Vec<Part>,
    /// What the end of the unit means to other servers.
    pub marks: Marks,
    /// What the table became meanwhile, in order.
    pub follows: Vec<Arc<TableSchema>>,
    pub reply: Reply,
}

/// A change to the checkpoint.
pub(super) type Change = Box<dyn FnOnce(&mut State) + Send>;

/// What the writer is told.
pub(super) enum Job {
    /// Write a unit.
    Unit(Complete<Share>),
    /// Write a cut, with the next unit or soon.
    Cut(Cut, Reply),
    /// Change the checkpoint.
    Change(Change, Reply),
    /// Write a notification.
    Tell(Notification),
    /// Write rows that were read beside the stream.
    Rows(Rows, Reply),
    /// Look at the checkpoint.
    Look(oneshot::Sender<State>),
    /// End: a transaction that a process leaves open hides what follows from consumers until it times out.
    End(Sender<()>),
}

/// Rows that were read beside the stream, between two units of their table.
pub(super) struct Rows {
    pub topic: Arc<str>,
    /// Each with which rows of it go out.
    pub parts: Vec<(Part, Vec<bool>)>,
    /// How far that is, in the transaction of the last of them.
    pub change: Box<dyn Fn(&mut State) + Send>,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub records: AtomicU64,
    pub bytes: AtomicU64,
}

/// The writer.
pub(super) struct Writer {
    pub sender: Client,
    pub options: Arc<KafkaOptions>,
    pub state: State,
    /// Where the checkpoint goes.
    pub partition: i32,
    pub counters: Arc<Counters>,
    pub pace: Pace,
    pub control: Control,
    /// When the next heartbeat is due; `None`: there are none.
    pub beat: Option<Instant>,
    /// What an operator asked for, for others to see.
    pub requests: Arc<Mutex<Vec<Asked>>>,
}

/// The shares of a unit.
#[derive(Default)]
struct Shares {
    /// `schema.table` and topic.
    names: Vec<(Arc<str>, Arc<str>)>,
    parts: Vec<Vec<Part>>,
}

/// Why a transaction did not happen.
enum Failure {
    /// It was aborted: nothing of it is there.
    Aborted(Error),
    /// Nobody knows, or the producer is of no more use.
    Lost(Error),
    /// Another owner has the fence.
    Fenced(Epoch),
    /// Not Kafka's fault: the session must not try again.
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Broken(error)
    }
}

/// What answers every job after the end.
enum End {
    Fenced(Epoch),
    Lost(String),
    Broken(Error),
}

impl Writer {
    /// Works until nobody has jobs any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let mut waiting: Option<(Cut, Reply, Instant)> = None;
        let mut end = None;
        while end.is_none() {
            let cut_at = waiting.as_ref().map(|(.., until)| *until);
            let job = match cut_at.into_iter().chain(self.beat).min() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(until) => jobs.recv_timeout(until.saturating_duration_since(Instant::now())),
            };
            end = match job {
                Ok(Job::Cut(cut, reply)) => {
                    // There is one at a time; an older one that nobody waits for any more is dropped.
                    waiting = Some((cut, reply, Instant::now() + CUT_WAITS));
                    None
                }
                Ok(Job::Unit(unit)) => self.unit(unit, waiting.take()).err(),
                Ok(Job::Change(change, reply)) => self.change(|state| change(state), Some(reply)).err(),
                Ok(Job::Rows(rows, reply)) => self.rows(&rows, reply).err(),
                Ok(Job::Tell(told)) => self.tell(&told).err(),
                Ok(Job::Look(reply)) => {
                    // Who asked may be gone.
                    let _gone = reply.send(self.state.clone());
                    None
                }
                Ok(Job::End(done)) => return ended(&done),
                Err(RecvTimeoutError::Timeout) => {
                    let (cut, reply) = waiting.take().map(|(cut, reply, _)| (cut, reply)).unzip();
                    let change = |state: &mut State| cut.iter().for_each(|cut| state.cut(cut));
                    self.change(change, reply).err()
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
        let Some(end) = end else { return };
        if let Some((_, reply, _)) = waiting {
            answer(reply, end.result());
        }
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Cut(_, reply) | Job::Change(_, reply) | Job::Rows(_, reply) => {
                    answer(reply, end.result());
                }
                Job::Unit(unit) => {
                    unit.shares.into_iter().for_each(|(_, share)| answer(share.reply, end.result()));
                }
                Job::Look(reply) => drop(reply),
                Job::Tell(_) => {}
                Job::End(done) => return ended(&done),
            }
        }
    }

    fn unit(
        &mut self,
        unit: Complete<Share>,
        cut: Option<(Cut, Reply, Instant)>,
    ) -> std::result::Result<(), End> {
        let (mut replies, mut ids, mut unit_of) = (Vec::new(), Vec::new(), Shares::default());
        let mut changed = Vec::new();
        for (id, Share { table, topic, parts, marks, follows, reply }) in unit.shares {
            replies.push(reply);
            changed.push((id, follows));
            ids.push((id, marks));
            unit_of.names.push((table, topic));
            unit_of.parts.push(parts);
        }
        let (cut, reply) = cut.map(|(cut, reply, _)| (cut, reply)).unzip();
        replies.extend(reply);
        let bytes: usize = unit_of.parts.iter().flatten().map(Part::bytes).sum();
        let is_split = self.options.exactly_once && bytes > self.options.max_transaction;
        let budget = if is_split { self.options.max_transaction } else { usize::MAX };
        let written = loop {
            let is_whole = Cell::new(true);
            let written = self.write(self.state.clone(), |writer, next| {
                let part = writer.produce(&unit_of, next.part, budget)?;
                is_whole.set(part.is_none());
                match part {
                    Some(part) => next.part = Some(part),
                    None => {
                        changed.iter().for_each(|(id, schemas)| next.follow(*id, schemas));
                        next.advance(ids.iter().cloned(), unit.to);
                        cut.iter().for_each(|cut| next.cut(cut));
                    }
                }
                Ok(())
            });
            match written {
                Ok(_) if !is_whole.get() => {
                    tracing::debug!(to = %unit.to, "a part of a transaction is written")
                }
                written => break written,
            }
        };
        answer_all(replies, written)
    }

    /// Sends the events behind `after`, until there are more bytes than that: then the last change that was sent.
    /// With transaction metadata there are BEGIN, END and a block in each event. A unit holds whole transactions.
    fn produce(
        &self,
        Shares { names, parts }: &Shares,
        after: Option<Written>,
        budget: usize,
    ) -> std::result::Result<Option<Written>, Failure> {
        let has_brackets = self.options.events.provide_transaction_metadata;
        let bracket_topic = self.control.transaction_topic();
        let mut brackets = Brackets::new(&self.control);
        let held = after.map(|part| (part.commit_start.raw(), part.ordinal));
        let (mut bytes, mut last, mut stopped, mut is_told) = (0, None::<Place>, None, false);
        // Events are counted from the first one of their transaction on. Else from the marked one, to see that it is the same.
        let from = held.filter(|_| !has_brackets);
        in_order(parts, from, |share, record| -> std::result::Result<_, Failure> {
            let Some((table, topic)) = names.get(share) else { return Ok(ControlFlow::Continue(())) };
            let place = record.place();
            if bytes > budget && last.is_some_and(|last| order(last) != order(place)) {
                stopped = last;
                return Ok(ControlFlow::Break(()));
            }
            let is_held = held.is_some_and(|held| order(place) <= held);
            if is_held {
                check_repeated(place, after)?;
                // The end of a transaction was told when the next one began.
                is_told = after.is_some_and(|part| place.commit_start < part.commit_start);
            }
            let topic = record.diverted().unwrap_or(topic);
            let mut value = record.value();
            if has_brackets && record.diverted().is_none() {
                for control in brackets.before(&record).filter(|_| !is_held) {
                    self.send_control(&bracket_topic, None, &control)?;
                }
                value = brackets.value(table, &record);
            }
            if !is_held {
                bytes += record.key().map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                last = Some(place);
                self.send(topic, &record, value)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(Place { commit_start, ordinal, lsn, .. }) = stopped {
            return Ok(Some(Written { commit_start, ordinal, lsn }));
        }
        let end = brackets.end().filter(|_| !(is_told && last.is_none()));
        end.map_or(Ok(()), |end| self.send_control(&bracket_topic, None, &end))?;
        Ok(None)
    }

    /// A notification, in a transaction of its own.
    fn tell(&mut self, told: &Notification) -> std::result::Result<(), End> {
        let Some(topic) = self.options.events.notification_topic.clone() else { return Ok(()) };
        let record = self.control.notification(told);
        self.write(self.state.clone(), |writer, _| writer.send_control(&topic, None, &record)).map(|_| ())
    }

    /// Rows that were read beside the stream: in one transaction with how far that is, unless there are too many bytes.
    fn rows(&mut self, rows: &Rows, reply: Reply) -> std::result::Result<(), End> {
        let budget = if self.options.exactly_once { self.options.max_transaction } else { usize::MAX };
        let mut rest = rows.parts.as_slice();
        let written = loop {
            let mut bytes = 0;
            let fits = |part: &&(Part, Vec<bool>)| {
                bytes += part.0.bytes();
                bytes <= budget
            };
            let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
            let (now, later) = rest.split_at(count);
            let written = self.write(self.state.clone(), |writer, next| {
                for (part, wanted) in now {
                    part.each(|record| match wanted.get(record.row()) {
                        Some(true) => {
                            let topic = record.diverted().unwrap_or(&rows.topic);
                            writer.send(topic, &record, record.value())
                        }
                        Some(false) | None => Ok(()),
                    })?;
                }
                if later.is_empty() {
                    (rows.change)(next);
                }
                Ok(())
            });
            match written {
                Ok(_) if !later.is_empty() => rest = later,
                written => break written,
            }
        };
        answer_all(vec![reply], written)
    }

    fn send_control(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &ControlRecord,
    ) -> std::result::Result<(), Failure> {
        self.pace.admit(&self.sender, record.key.len() + record.value.len());
        let mut base = BaseRecord::to(topic).key(&record.key[..]).payload(&record.value[..]);
        base.partition = partition;
        self.enqueue(base)
    }

    /// A heartbeat, when it is time for one: it goes with whatever is written, or by itself.
    fn heartbeat(&self) -> std::result::Result<bool, Failure> {
        let is_due = self.beat.is_some_and(|due| due <= Instant::now());
        if is_due {
            let heartbeat = self.control.heartbeat(super::table::now_ns() / 1_000_000);
            self.send_control(&self.control.heartbeat_topic(), Some(0), &heartbeat)?;
        }
        Ok(is_due)
    }

    fn change(
        &mut self,
        change: impl FnOnce(&mut State),
        reply: Option<Reply>,
    ) -> std::result::Result<(), End> {
        let mut next = self.state.clone();
        change(&mut next);
        let written = self.write(next, |_, _| Ok(()));
        answer_all(reply.into_iter().collect(), written)
    }

    /// One transaction: events, then the checkpoint as they leave it. Its version.
    fn write(
        &mut self,
        mut next: State,
        events: impl Fn(&Self, &mut State) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<i64, End> {
        next.sequence += 1;
        let mut attempt = 1;
        loop {
            match self.transaction(&mut next.clone(), &events) {
                Ok((written, has_beaten)) => {
                    if written.requests != self.state.requests {
                        super::lock(&self.requests).clone_from(&written.requests);
                    }
                    self.state = written;
                    if has_beaten {
                        self.beat = Some(Instant::now() + self.options.events.heartbeat_interval);
                    }
                    return Ok(next.sequence);
                }
                Err(Failure::Aborted(error)) if attempt < ATTEMPTS => {
                    tracing::warn!(code = %error.code(), attempt, "{}: written again", error.cause_line());
                    attempt += 1;
                }
                Err(Failure::Aborted(error) | Failure::Lost(error)) => {
                    return Err(End::Lost(error.cause_line()));
                }
                Err(Failure::Fenced(by)) => return Err(End::Fenced(by)),
                Err(Failure::Broken(error)) => return Err(End::Broken(error)),
            }
        }
    }

    fn transaction(
        &self,
        next: &mut State,
        events: impl Fn(&Self, &mut State) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(State, bool), Failure> {
        if self.options.exactly_once {
            self.sender.begin_transaction().map_err(|e| self.judge(e))?;
        }
        let produced = events(self, next).and_then(|()| self.heartbeat()).and_then(|has_beaten| {
            if !self.options.exactly_once {
                // The checkpoint must not be there before the events.
                self.delivered()?;
            }
            for (suffix, value) in &next.records()? {
                self.checkpoint(suffix, value)?;
            }
            self.delivered().map(|()| has_beaten)
        });
        match produced {
            Ok(has_beaten) => {
                if self.options.exactly_once {
                    self.finish()?;
                }
                Ok((std::mem::take(next), has_beaten))
            }
            Err(failure) => Err(self.give_up(failure)),
        }
    }

    /// Everything produced is in the logs, or something is not.
    fn delivered(&self) -> std::result::Result<(), Failure> {
        settle(&self.sender);
        match self.sender.context().take_failure() {
            None => Ok(()),
            Some((code, topic)) => {
                let error =
                    explain_code(code, &format!("the topic \"{topic}\" did not take a record ({code})"));
                Err(self.failed_with(code, error))
            }
        }
    }

    fn finish(&self) -> std::result::Result<(), Failure> {
        let mut said = Instant::now();
        loop {
            let error = match self.sender.commit_transaction(ASK) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !is_retriable(&error) {
                let failure = self.judge(error);
                return Err(self.give_up(failure));
            }
            if said.elapsed() > SAY_EVERY {
                said = Instant::now();
                tracing::warn!("Kafka does not answer to a commit: {error}");
            }
        }
    }

    /// Aborts what is begun. When that cannot be, the producer is of no more use.
    fn give_up(&self, failure: Failure) -> Failure {
        let error = match failure {
            Failure::Aborted(error) => error,
            Failure::Broken(error) => return self.give_up_for(error),
            failure => return failure,
        };
        if !self.options.exactly_once {
            return Failure::Aborted(error);
        }
        loop {
            match self.sender.abort_transaction(ASK) {
                Ok(()) => {
                    settle(&self.sender);
                    self.sender.context().take_failure();
                    return Failure::Aborted(error);
                }
                Err(abort) if is_retriable(&abort) => {}
                Err(abort) => {
                    return match self.judge(abort) {
                        Failure::Aborted(error) => Failure::Lost(error),
                        other => other,
                    };
                }
            }
        }
    }

    /// The process ends; others need not wait for its transaction to time out.
    fn give_up_for(&self, error: Error) -> Failure {
        if self.options.exactly_once
            && let Err(abort) = self.sender.abort_transaction(ASK)
        {
            tracing::debug!("the transaction stays open: {abort}");
        }
        Failure::Broken(error)
    }

    fn judge(&self, error: KafkaError) -> Failure {
        let code = code_of(&error).unwrap_or(RDKafkaErrorCode::Unknown);
        let may_abort = matches!(&error, KafkaError::Transaction(e) if e.txn_requires_abort());
        let failure = self.failed_with(code, explain(error, "a transaction"));
        match failure {
            Failure::Aborted(error) if !may_abort => Failure::Lost(error),
            failure => failure,
        }
    }

    /// Aborted, unless this code says that somebody else may have the fence.
    fn failed_with(&self, code: RDKafkaErrorCode, error: Error) -> Failure {
        if code == RDKafkaErrorCode::MessageSizeTooLarge {
            return Failure::Broken(error);
        }
        if !is_fence(code) && self.sender.client().fatal_error().is_none() {
            return Failure::Aborted(error);
        }
        match read::read(&self.options, Until::End) {
            Ok(Some(found)) if found.epoch > self.state.epoch => Failure::Fenced(found.epoch),
            Ok(_) => Failure::Lost(error),
            Err(unread) => Failure::Lost(unread),
        }
    }

    fn checkpoint(&self, suffix: &str, value: &[u8]) -> std::result::Result<(), Failure> {
        let key = format!("{}{suffix}", self.options.pipeline);
        self.enqueue(BaseRecord::to(CHECKPOINTS).partition(self.partition).key(key.as_bytes()).payload(value))
    }

    fn send(
        &self,
        topic: &str,
        record: &Record<'_>,
        value: Option<&[u8]>,
    ) -> std::result::Result<(), Failure> {
        send(&self.sender, &self.pace, topic, (record, value), &self.counters).map_err(|e| self.judge_send(e))
    }

    fn enqueue(&self, record: BaseRecord<'_, [u8], [u8]>) -> std::result::Result<(), Failure> {
        enqueue(&self.sender, record).map_err(|e| self.judge_send(e))
    }

    fn judge_send(&self, error: KafkaError) -> Failure {
        let code = code_of(&error).unwrap_or(RDKafkaErrorCode::Unknown);
        self.failed_with(code, explain(error, "producing"))
    }
}

/// Produces one record; waits while the client's queue is full.
pub(super) fn send(
    sender: &Client,
    pace: &Pace,
    topic: &str,
    (record, value): (&Record<'_>, Option<&[u8]>),
    counters: &Counters,
) -> std::result::Result<(), KafkaError> {
    let mut base: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    base.key = record.key();
    base.payload = value;
    base.partition = record.partition();
    let bytes = base.key.map_or(0, <[u8]>::len) + base.payload.map_or(0, <[u8]>::len);
    let (mut headers, mut header_bytes): (Option<OwnedHeaders>, usize) = (None, 0);
    for (key, value) in record.headers() {
        headers = Some(headers.unwrap_or_default().insert(Header { key, value: Some(value) }));
        header_bytes += key.len() + value.len() + 4;
    }
    base.headers = headers;
    pace.admit(sender, bytes + header_bytes);
    counters.records.fetch_add(1, Ordering::Relaxed);
    counters.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    enqueue(sender, base)
}

pub(super) fn enqueue(
    sender: &Client,
    mut record: BaseRecord<'_, [u8], [u8]>,
) -> std::result::Result<(), KafkaError> {
    loop {
        match sender.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => record = again,
            Err((error, _)) => return Err(error),
        }
        sender.poll(Duration::ZERO);
        std::thread::sleep(FULL_NAP);
    }
}

/// The same call may be made again.
pub(super) fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(e) => e.is_retriable(),
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => true,
        _ => false,
    }
}

impl End {
    fn result(&self) -> Result<CommitOutcome> {
        match self {
            End::Fenced(by) => Ok(CommitOutcome::Fenced { by: *by }),
            End::Broken(error) => Err(error.retold()),
            End::Lost(what) => Err(Error::new(codes::KF007, format!("a Kafka transaction was lost: {what}"))
                .with_try(
                    "nothing: the checkpoint says what became of it, and strandline goes on from there",
                )),
        }
    }
}

/// Nothing is under way.
fn ended(done: &Sender<()>) {
    // Who waited may have lost patience.
    let _gone = done.send(());
}

/// Everybody who waits for a transaction is told; how the writer ends, if it does.
fn answer_all(replies: Vec<Reply>, written: std::result::Result<i64, End>) -> std::result::Result<(), End> {
    for reply in replies {
        answer(
            reply,
            match &written {
                Ok(version) => Ok(CommitOutcome::Committed { version: *version }),
                Err(end) => end.result(),
            },
        );
    }
    written.map(|_| ())
}

/// The change up to which a transaction was written is the one that the source repeats there.
fn check_repeated(place: Place, after: Option<Written>) -> Result<()> {
    match after {
        Some(part) if order(place) == (part.commit_start.raw(), part.ordinal) && place.lsn != part.lsn => {
            let what = format!(
                "the transaction at {} was written in part, and its changes come in another order now",
                part.commit_start
            );
            Err(Error::new(codes::KF008, what)
                .with_try("undo the change of the publication or of tables.include that was made meanwhile"))
        }
        _ => Ok(()),
    }
}

fn answer(reply: Reply, outcome: Result<CommitOutcome>) {
    // Who asked may have ended.
    let _gone = reply.send(outcome);
}

/// What a fence says; a broker that ends a transaction for its age says the same.
pub(super) fn is_fence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Rd;
    matches!(code, Rd::Fenced | Rd::ProducerFenced | Rd::InvalidProducerEpoch)
}

/// The producer of the stream, with its fence.
pub(super) fn client_for(options: &KafkaOptions) -> Result<Client> {
    let sender =
        client::producer(options, options.exactly_once.then(|| options.transactional_id()).as_deref())?;
    if options.exactly_once {
        fence(&sender)?;
    }
    Ok(sender)
}

/// Takes the fence of this transactional id; whoever had it is refused from here on.
pub(super) fn fence(sender: &Client) -> Result<()> {
    sender.init_transactions(ASK).map_err(|e| explain(e, "taking the fence (InitProducerId)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    #[test]
    fn another_change_in_the_place_of_the_marked_one_is_met() {
        let commit_start = Lsn::new(100);
        let mark = Written { commit_start, ordinal: 7, lsn: Lsn::new(90) };
        let place = |ordinal, lsn| Place { commit_start, ordinal, lsn: Lsn::new(lsn), ..Place::default() };
        check_repeated(place(7, 90), Some(mark)).unwrap();
        check_repeated(place(6, 80), Some(mark)).unwrap();
        check_repeated(place(7, 80), None).unwrap();
        assert_eq!(check_repeated(place(7, 80), Some(mark)).unwrap_err().code(), codes::KF008);
    }
}
