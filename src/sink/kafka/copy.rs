//! A table's copy: rows go to the topic while they are read, in transactions of their own.
//!
//! A copy may be larger than any transaction should be, so its rows become visible as they come, under a fence of
//! their own: a writer that lost the pipeline cannot add rows behind what its successor streams. Only the end of
//! the copy is in the checkpoint. A copy that was interrupted begins again; rows that were read twice are all
//! `op r`, and all of them come before the first streamed event of their table.
//!
//! The last row of a table is marked, so each worker keeps its last row back until all are done.
//!
//! A copy may stand still for hours: an operator holds it up, or the source is busy. Its transaction must not stay open
//! meanwhile: consumers would wait behind it, and the brokers would end it, and the producer with it. So a thread of
//! the lane's own commits what is older than [`AGE`]; what it meets, the next one who sends is told.
//!
//! | the tick commits | a consumer sees | what follows |
//! |---|---|---|
//! | while no rows come | the rows so far, all `r` | the next rows begin another transaction |
//! | and the process dies after it | the same | the copy begins again, as ever: its end is not in the checkpoint |
//! | and is fenced | nothing of it | the next rows meet the fence's error; no row is sent before it |

use super::client::{self, Pace, Sender, code_of, explain, explain_code, settle};
use super::options::KafkaOptions;
use super::oversize::{Fit, Limits};
use super::read::{self, Until};
use super::table::{ends, now_ns};
use super::writer::{Counters, fence, is_fence, is_retriable, send};
use super::{Live, fenced, lock};
use crate::debezium::{Encoder, Marker, Occasion, Records, SnapshotRows};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, CopyPart, CopyWriter, SnapshotPoint};
use crate::position::Epoch;
use rdkafka::producer::Producer;
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::{Duration, Instant};

/// A transaction of a copy is committed when it has so many bytes …
const CHUNK: usize = 8 << 20;
/// … or is so old.
const AGE: Duration = Duration::from_secs(1);

/// The producer of copies.
pub(super) struct Lane {
    sender: Sender,
    pace: Pace,
    is_transactional: bool,
    open: Option<(Instant, usize)>,
    /// A transaction was lost: rows of several copies may have been in it.
    is_broken: bool,
    /// Why, when nobody was told yet.
    trouble: Option<Error>,
    /// Who commits what is old is told when a transaction begins.
    begun: Option<mpsc::Sender<Instant>>,
    options: Arc<KafkaOptions>,
    /// Whose fence it is.
    pub(super) epoch: Epoch,
}

impl Lane {
    /// Takes the fence of copies.
    ///
    /// # Errors
    /// `KF001`, `KF002`, `KF004`.
    pub(super) fn open(options: &Arc<KafkaOptions>, pace: Pace) -> Result<Self> {
        let id = options.exactly_once.then(|| options.copy_id());
        let sender = client::producer(options, id.as_deref())?;
        if options.exactly_once {
            fence(&sender)?;
        }
        let (is_transactional, options) = (options.exactly_once, Arc::clone(options));
        let epoch = Epoch::default();
        let (open, trouble, begun) = (None, None, None);
        Ok(Lane { sender, pace, is_transactional, open, is_broken: false, trouble, begun, options, epoch })
    }

    /// From here on what is old is committed, whether more comes or not.
    ///
    /// # Errors
    /// `RT001`: no thread.
    pub(super) fn looked_after(mut self) -> Result<Arc<Mutex<Lane>>> {
        let (begun, transactions) = mpsc::channel();
        self.begun = Some(begun);
        let lane = Arc::new(Mutex::new(self));
        let weak = Arc::downgrade(&lane);
        std::thread::Builder::new()
            .name("kafka-copies".into())
            .spawn(move || look_after(&weak, &transactions))
            .map_err(|e| Error::new(codes::RT001, "no thread for the copies to Kafka").with_source(e))?;
        Ok(lane)
    }

    /// The transaction that began then, unless it is committed.
    fn commit_of(&mut self, since: Instant) {
        if !self.is_broken
            && self.open.is_some_and(|(begun, _)| begun == since)
            && let Err(error) = self.commit()
        {
            (self.is_broken, self.trouble) = (true, Some(error));
        }
    }

    fn check(&mut self) -> Result<()> {
        if self.is_broken { Err(self.trouble.take().unwrap_or_else(lost)) } else { Ok(()) }
    }

    fn send(&mut self, topic: &str, records: &Records, counters: &Counters) -> Result<()> {
        self.check()?;
        let sent = self.try_send(topic, records, counters);
        self.is_broken |= sent.is_err();
        sent
    }

    fn try_send(&mut self, topic: &str, records: &Records, counters: &Counters) -> Result<()> {
        if self.is_transactional && self.open.is_none() {
            self.sender.begin_transaction().map_err(|e| self.explained(e))?;
        }
        let (since, bytes) = self.open.unwrap_or_else(|| (Instant::now(), 0));
        for record in records.iter() {
            let topic = record.diverted().unwrap_or(topic);
            send(&self.sender, &self.pace, topic, (&record, record.value()), counters)
                .map_err(|e| self.explained(e))?;
        }
        let bytes = bytes + records.bytes();
        if self.open.replace((since, bytes)).is_none()
            && let Some(begun) = &self.begun
        {
            // It ends with the lane.
            let _gone = begun.send(since);
        }
        if bytes >= CHUNK || since.elapsed() > AGE { self.commit() } else { Ok(()) }
    }

    /// Everything sent is visible when this returns.
    fn flush(&mut self) -> Result<()> {
        self.check()?;
        let flushed = self.commit();
        self.is_broken |= flushed.is_err();
        flushed
    }

    fn commit(&mut self) -> Result<()> {
        if self.open.take().is_none() {
            return Ok(());
        }
        settle(&self.sender);
        if let Some((code, topic)) = self.sender.context().take_failure() {
            let error = explain_code(code, &format!("the topic \"{topic}\" did not take a row ({code})"));
            return Err(if is_fence(code) { self.fenced(error) } else { error });
        }
        if !self.is_transactional {
            return Ok(());
        }
        loop {
            match self.sender.commit_transaction(client::ASK) {
                Ok(()) => return Ok(()),
                Err(error) if is_retriable(&error) => {}
                Err(error) => return Err(self.explained(error)),
            }
        }
    }

    fn explained(&self, error: rdkafka::error::KafkaError) -> Error {
        let is_fence = code_of(&error).is_some_and(is_fence);
        let error = explain(error, "a transaction of a copy");
        match error.code() {
            _ if is_fence => self.fenced(error),
            code if code == codes::KF001 => {
                Error::new(codes::KF007, "a Kafka transaction of a copy was lost").with_source(error)
            }
            _ => error,
        }
    }

    /// A newer owner explains it, if there is one.
    fn fenced(&self, error: Error) -> Error {
        match read::read(&self.options, Until::End) {
            Ok(Some(found)) if found.epoch > self.epoch => fenced(found.epoch),
            Ok(_) => Error::new(codes::KF007, "a Kafka transaction of a copy was lost").with_source(error),
            Err(unread) => unread,
        }
    }
}

/// Commits each transaction that is still open at its age.
fn look_after(lane: &Weak<Mutex<Lane>>, begun: &mpsc::Receiver<Instant>) {
    while let Ok(since) = begun.recv() {
        std::thread::sleep(AGE.saturating_sub(since.elapsed()));
        let Some(lane) = lane.upgrade() else { return };
        lock(&lane).commit_of(since);
    }
}

fn lost() -> Error {
    Error::new(codes::KF007, "a Kafka transaction with rows of several copies was lost")
}

/// One copy of one table.
pub(super) struct CopyRun {
    pub(super) point: SnapshotPoint,
    limits: Limits,
    live: Arc<Live>,
    encoder: Arc<Encoder>,
    /// Whether the first row is in the topic: it goes before all others.
    has_begun: Mutex<bool>,
}

/// The last row of a worker.
pub(super) struct Held(Option<ChangeBatch>);

impl CopyRun {
    pub(super) fn new(
        live: Arc<Live>,
        encoder: Arc<Encoder>,
        (point, limits): (SnapshotPoint, Limits),
    ) -> Self {
        CopyRun { point, limits, live, encoder, has_begun: Mutex::new(false) }
    }

    fn send(&self, batch: &ChangeBatch, first: Marker, last: Marker) -> Result<()> {
        let snapshot = Some(SnapshotRows { point: self.point, first, between: Marker::True, last });
        let fit = Fit { encoder: &self.encoder, options: &self.live.options, limits: self.limits };
        for records in fit.encode(batch, &Occasion { now_ns: now_ns(), snapshot })? {
            lock(&self.live.lane).send(self.encoder.topic(), &records, &self.live.counters)?;
        }
        Ok(())
    }

    /// Sends rows that are not the last.
    fn pass_on(&self, batch: &ChangeBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut begun = lock(&self.has_begun);
        if *begun {
            drop(begun);
            return self.send(batch, Marker::True, Marker::True);
        }
        let (first, _) = ends(&self.point);
        // Of a batch of one row the last marker holds.
        let last = if batch.len() == 1 { first } else { Marker::True };
        self.send(batch, first, last)?;
        *begun = true;
        Ok(())
    }

    /// Sends what the workers kept back, the last one marked, and makes everything visible.
    ///
    /// # Errors
    /// `KF001`, `KF005`, `KF007`, `PG021`.
    pub(super) fn finish(&self, held: Vec<Held>) -> Result<()> {
        let mut rows: Vec<ChangeBatch> = held.into_iter().filter_map(|held| held.0).collect();
        let last_row = rows.pop();
        for row in &rows {
            self.pass_on(row)?;
        }
        if let Some(row) = last_row {
            let (_, last) = ends(&self.point);
            self.send(&row, last, last)?;
        }
        lock(&self.live.lane).flush()
    }
}

/// One worker of a copy.
pub(super) struct Writer {
    run: Arc<CopyRun>,
    held: Option<ChangeBatch>,
}

impl Writer {
    pub(super) fn new(run: Arc<CopyRun>) -> Self {
        Writer { run, held: None }
    }
}

impl CopyWriter for Writer {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let Some(rest) = batch.len().checked_sub(1) else { return Ok(()) };
        if let Some(held) = self.held.take() {
            self.run.pass_on(&held)?;
        }
        self.run.pass_on(&batch.slice(0, rest))?;
        self.held = Some(batch.slice(rest, 1));
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(Held(self.held))))
    }
}
