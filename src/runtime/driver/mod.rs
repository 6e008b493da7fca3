//! The loop of a session: bursts in, decisions out.
//!
//! What the driver promises the coordinator: everything whole that is handed to a worker has been reported
//! before any other input is handed in, and rows of a transaction that is still half received go to a
//! worker only when no unit is open (a transaction too large for memory), so that no commit can hold half
//! of one.

mod amends;
mod copies;
mod desk;
mod link;

use super::copying::{self, Copied};
use super::meters::{Meters, age};
use super::recorder::{self, Entry, RecordEvent};
use super::session::{LiveTable, Session, told};
use super::worker::{Gone, TableEvent, Worker};
use super::{Options, StopSignal};
use crate::error::{Code, Error, Result, codes};
use crate::event::ChangeBatch;
use crate::position::{CommitLsn, Lineage, Lsn};
use crate::replication::{Action, Coordinator, HaltReason, Input, Millis, Resume, View};
use crate::schema::change::Choice;
use crate::schema::{TableId, TableName};
use crate::sink::{Cut, CutTable, Request, Sink, StoppedTable, WriterLease};
use crate::source::{Budget, Burst, ChangeStream, Source, SourceView};
use crate::telemetry::status::{PipelineState, PositionText, TableState, Timestamp};
use crate::telemetry::{CommitResult, Stage, StatusBoard};
use amends::Amends;
use copies::{CopyEnd, LastCopy};
use desk::Taps;
use link::Lost;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Rows of half-received transactions may take so many bytes before they go to the sink by themselves.
const OPEN_BYTES: u64 = 32 << 20;
const BURST: Budget = Budget { rows: 65_536, bytes: 4 << 20 };
const POLL_EVERY: Duration = Duration::from_secs(1);
const SHOW_EVERY: Duration = Duration::from_millis(200);
const FIRST_RECONNECT: Duration = Duration::from_millis(50);
const LONGEST_RECONNECT: Duration = Duration::from_secs(5);
/// How often publication and catalogue are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(15);
/// A graceful stop takes no longer than this (systemd and Kubernetes kill after 30 s).
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// Tables have so long to end what they do beside the commits.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Why a copy that was asked for is put off.
const COPY_LATER: [Code; 6] =
    [codes::PG004, codes::PG005, codes::PG006, codes::PG013, codes::MY032, codes::MY036];
const KIB: usize = 1024;

/// Where the driver begins.
pub(super) struct Start {
    pub(super) lease: WriterLease,
    pub(super) lineage: Lineage,
    pub(super) flushed: Lsn,
    pub(super) from: CommitLsn,
    pub(super) resume: Resume,
    pub(super) target: Option<Lsn>,
    /// Nothing at or after this is taken.
    pub(super) end: Option<Lsn>,
    /// Tables that are known and do not follow the stream: stopped, or refused from the start.
    pub(super) stopped: BTreeMap<TableId, TableName>,
    /// Requests that were on record: the session has answered those by its copies that ask for copies.
    pub(super) requests: Vec<Request>,
}

/// The loop.
pub(super) struct Driver<S: Source, K: Sink> {
    source: Arc<S>,
    sink: Arc<K>,
    options: Options,
    board: StatusBoard,
    lease: WriterLease,
    lineage: Lineage,
    flushed: Lsn,
    coordinator: Coordinator,
    meters: Meters,
    stream: S::Stream,
    workers: BTreeMap<TableId, Worker>,
    names: BTreeMap<TableId, TableName>,
    schemas: BTreeMap<TableId, Arc<crate::schema::TableSchema>>,
    /// Rows of the half-received transaction that were taken out of builders.
    carried: BTreeMap<TableId, VecDeque<ChangeBatch>>,
    events: mpsc::UnboundedReceiver<TableEvent>,
    report: mpsc::UnboundedSender<TableEvent>,
    recorder: mpsc::UnboundedSender<Entry>,
    records: mpsc::UnboundedReceiver<RecordEvent>,
    budget: Arc<Semaphore>,
    budget_kib: u32,
    copies: JoinSet<CopyEnd<K::Table>>,
    /// Tables that are being copied: one copy of a table at a time.
    copying: BTreeSet<TableName>,
    /// Copies that are recorded and wait for the end of a half-received transaction.
    arriving: Vec<(Copied<K::Table>, TableName)>,
    awaiting_record: Vec<(Copied<K::Table>, TableName)>,
    /// Tables that are to be copied by themselves, and why.
    wanted: BTreeMap<TableName, String>,
    copied: BTreeMap<TableName, LastCopy>,
    /// Copies that were asked for and begin again, because the table changed meanwhile: how often in a row.
    overtaken: BTreeMap<TableName, u32>,
    /// Tables that are put right where they are.
    amends: Amends,
    /// Tables that are known and do not follow the stream: stopped, or refused from the start.
    stopped: BTreeMap<TableId, TableName>,
    /// Who looks at changes.
    taps: Taps,
    /// A look at the source's tables that is under way.
    look: Option<JoinHandle<Result<SourceView>>>,
    start: Option<(CommitLsn, Option<Lsn>, Vec<String>)>,
    end: Option<Lsn>,
    stop: StopSignal,
    began: Instant,
    wake: Option<Millis>,
    shown: Instant,
    last_progress: CommitLsn,
    is_paused: bool,
    is_ended: bool,
    has_reached_end: bool,
    poll_pending: bool,
}

enum Next {
    Burst(Result<Burst>),
    Table(TableEvent),
    Record(RecordEvent),
    Tick,
    Poll,
    Beat,
    Stop,
}

impl<S: Source, K: Sink> Driver<S, K> {
    pub(super) fn new(
        session: Session<S, K>,
        start: Start,
        stream: S::Stream,
        live: BTreeMap<TableId, LiveTable<K::Table>>,
    ) -> Self {
        let Session { source, sink, options, board, metrics, stop } = session;
        let (report, events) = mpsc::unbounded_channel();
        let (recorder, records) = recorder::start(Arc::clone(&sink), start.lease.clone());
        let budget_kib = u32::try_from(options.staged_bytes / KIB).unwrap_or(u32::MAX).max(1);
        let now = Instant::now();
        let mut driver = Driver {
            coordinator: Coordinator::resume(start.resume, options.limits),
            meters: {
                metrics.flow().set_buffer_limit(options.staged_bytes.saturating_add(options.slice_bytes));
                Meters::new(metrics, sink.written())
            },
            source,
            sink,
            board,
            lease: start.lease,
            lineage: start.lineage,
            flushed: start.flushed,
            stream,
            workers: BTreeMap::new(),
            names: BTreeMap::new(),
            schemas: BTreeMap::new(),
            carried: BTreeMap::new(),
            events,
            report,
            recorder,
            records,
            budget: Arc::new(Semaphore::new(budget_kib as usize)),
            budget_kib,
            copies: JoinSet::new(),
            copying: BTreeSet::new(),
            arriving: Vec::new(),
            awaiting_record: Vec::new(),
            wanted: BTreeMap::new(),
            copied: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            amends: Amends::new(&start.requests),
            stopped: start.stopped,
            taps: Taps::default(),
            look: None,
            start: Some((start.from, start.target, amends::answered(start.requests))),
            end: start.end,
            stop,
            began: now,
            wake: None,
            shown: now,
            last_progress: CommitLsn::ZERO,
            is_paused: false,
            is_ended: false,
            has_reached_end: false,
            poll_pending: false,
            options,
        };
        for (id, table) in live {
            driver.names.insert(id, table.schema.name.clone());
            driver.schemas.insert(id, Arc::clone(&table.schema));
            driver.workers.insert(id, Worker::start(id, table.table, driver.report.clone()));
        }
        driver
    }

    /// Runs until the coordinator says that everything is done.
    ///
    /// # Errors
    /// What ends the session.
    pub(super) async fn run(mut self, stop: &mut StopSignal) -> Result<()> {
        let result = Box::pin(self.drive(stop)).await;
        self.show(true);
        let closing = std::mem::take(&mut self.workers).into_values().map(Worker::close);
        let closed = futures_util::future::join_all(closing);
        if tokio::time::timeout(CLOSE_WITHIN, closed).await.is_err() {
            tracing::debug!("a table was not closed in time");
        }
        result?;
        self.stream.finish().await
    }

    /// Once: follows the tables from where they are.
    async fn set_out(&mut self) -> Result<()> {
        let Some((from, target, answered)) = self.start.take() else { return Ok(()) };
        if !answered.is_empty() {
            self.tell(Entry::Resumed { tables: Vec::new(), answered })?;
        }
        self.follow_all()?;
        self.feed(Input::SourceResumed { from }).await?;
        if let Some(target) = target.and_then(|target| self.amends.hold_target(target)) {
            self.feed(Input::Target(target)).await?;
        }
        Ok(())
    }

    async fn drive(&mut self, stop: &mut StopSignal) -> Result<()> {
        self.set_out().await?;
        self.board.set_phase(PipelineState::CatchingUp);
        let mut poll = tokio::time::interval(POLL_EVERY);
        let has_heartbeat = !self.options.heartbeat.is_zero();
        let every = if has_heartbeat { self.options.heartbeat } else { Duration::from_secs(3600) };
        let mut beat = tokio::time::interval_at(Instant::now() + every, every);
        let mut check = tokio::time::interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
        let mut deadline: Option<Instant> = None;
        while !self.is_ended {
            self.place_amends().await;
            let wake = self.wake.map(|at| self.began + Duration::from_millis(at.0));
            let may_read = !self.is_paused && !self.has_reached_end && !self.options.hold.is_set();
            let next = tokio::select! {
                biased;
                Some(event) = self.events.recv() => Next::Table(event),
                Some(event) = self.records.recv() => Next::Record(event),
                () = stop.wait(), if deadline.is_none() => Next::Stop,
                () = sleep_until(deadline), if deadline.is_some() => {
                    tracing::warn!("what is in flight did not become durable in time: it is found again at the next start");
                    return Ok(());
                }
                Some(ended) = self.copies.join_next() => {
                    self.copy_ended(ended).await?;
                    continue;
                }
                what = self.amends.next() => {
                    self.beside(what).await?;
                    continue;
                }
                () = sleep_until(wake), if wake.is_some() => Next::Tick,
                _ = poll.tick() => Next::Poll,
                _ = check.tick() => {
                    self.check_all().await?;
                    self.begin_wanted().await?;
                    continue;
                }
                view = finished(&mut self.look), if self.look.is_some() => {
                    self.look = None;
                    self.looked(view).await?;
                    self.begin_wanted().await?;
                    continue;
                }
                _ = beat.tick(), if has_heartbeat => Next::Beat,
                wish = self.options.desk.next() => {
                    self.grant(wish).await?;
                    self.show(true);
                    continue;
                }
                () = self.options.hold.changed() => {
                    self.show(true);
                    continue;
                }
                burst = self.stream.next(BURST), if may_read => Next::Burst(burst),
            };
            if matches!(next, Next::Stop) {
                deadline = Some(Instant::now() + STOP_WITHIN);
            }
            self.happened(next).await?;
            self.admit().await?;
            self.show(false);
        }
        Ok(())
    }

    async fn happened(&mut self, next: Next) -> Result<()> {
        match next {
            Next::Burst(Ok(burst)) => self.burst(burst).await,
            Next::Burst(Err(error)) => self.mend(error).await,
            Next::Table(event) => self.table_event(event).await,
            Next::Record(event) => self.record_event(event).await,
            Next::Tick => {
                self.wake = None;
                self.feed(Input::Tick).await
            }
            Next::Poll => {
                self.poll()?;
                self.begin_wanted().await
            }
            Next::Beat => {
                self.heartbeat();
                Ok(())
            }
            Next::Stop => {
                self.board.set_phase(PipelineState::Stopping);
                self.feed(Input::StopRequested).await
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Hands an input in and performs what follows from it.
    async fn feed(&mut self, input: Input) -> Result<()> {
        self.feed_all(vec![input]).await
    }

    async fn feed_all(&mut self, inputs: Vec<Input>) -> Result<()> {
        let mut actions = Vec::new();
        self.coordinator.handle_all(self.now(), inputs, &mut actions);
        for action in actions {
            self.perform(action).await?;
        }
        Ok(())
    }

    async fn perform(&mut self, action: Action) -> Result<()> {
        match action {
            Action::CloseUnit { unit, to, tables } => {
                let touched: Vec<TableId> = tables.iter().map(|(table, _)| *table).collect();
                self.sink.close_unit(to, &touched);
                for (table, interval) in tables {
                    self.stage(table).await?;
                    let marks = self.stream.marks(interval.to);
                    let Some(worker) = self.workers.get(&table) else { continue };
                    self.amends.staged.remove(&table);
                    if let Err(Gone) = worker.commit(unit, interval, marks).await {
                        // Its event says why, and is on its way.
                        continue;
                    }
                }
                self.place_amends().await;
                Ok(())
            }
            Action::CommitCut { position, witness, tables } => {
                let tables = tables
                    .into_iter()
                    .map(|(id, t)| {
                        let table = CutTable {
                            id,
                            name: t.name,
                            target_id: t.target_id,
                            version: t.version,
                            position: t.position,
                        };
                        (id, table)
                    })
                    .collect();
                let marks = self.stream.marks(position);
                self.tell(Entry::Cut(Cut { position, marks, witness, tables }))
            }
            Action::RecordStop { table, code, message, position } => {
                let code = S::CODES.own(code);
                let name =
                    self.names.get(&table).cloned().unwrap_or_else(|| TableName::new("", table.to_string()));
                tracing::error!(table = %name, code = %code, lsn = %position, "table stopped: {message}");
                self.board.update_table(&name, |t| t.stop(code, message.clone()));
                let stopped = StoppedTable { id: table, name, code, message, position };
                self.tell(Entry::Stop(Box::new(stopped)))
            }
            Action::Acknowledge(position) => {
                self.stream.acknowledge(position);
                Ok(())
            }
            Action::PauseSource => {
                self.meters.pause(true);
                self.is_paused = true;
                Ok(())
            }
            Action::ResumeSource => {
                self.meters.pause(false);
                self.is_paused = false;
                Ok(())
            }
            Action::RestartSource => Box::pin(self.restart()).await,
            Action::WakeAt(at) => {
                self.wake = Some(at);
                Ok(())
            }
            Action::Finish => {
                self.is_ended = true;
                Ok(())
            }
            Action::Halt(HaltReason::Fenced { by }) => Err(copying::fenced(by)),
        }
    }

    fn tell(&self, entry: Entry) -> Result<()> {
        self.recorder
            .send(entry)
            .map_err(|_| Error::new(codes::TG001, "the pipeline's record cannot be written"))
    }

    fn follow_all(&mut self) -> Result<()> {
        if let Some(end) = self.end {
            self.stream.stop_before(end);
        }
        for (id, schema) in &self.schemas {
            if let Some(held) = self.coordinator.submitted(*id) {
                self.stream.follow(Arc::clone(schema), held)?;
            }
        }
        Ok(())
    }

    async fn burst(&mut self, burst: Burst) -> Result<()> {
        self.meters.transactions(&burst);
        // All of it at once: a unit that is closed holds everything whole that is in the builders.
        let mut inputs = Vec::new();
        // Nothing of a table is handed on before it is known that it is still the one that was copied.
        let lost = if burst.announced.is_empty() { Vec::new() } else { self.stand(&burst.announced).await? };
        let stopped = burst.stopped.into_iter().map(|(table, error)| (table, self.unexplained(error)));
        for (table, lost) in stopped.collect::<Vec<_>>().into_iter().chain(lost) {
            inputs.push(self.leave(table, lost));
        }
        if let Some(through) = burst.through {
            inputs.push(Input::Received {
                through,
                witness: burst.witness,
                touched: burst.touched,
                rows: burst.rows,
                bytes: burst.bytes,
                transactions: burst.transactions,
            });
        }
        self.flushed = self.flushed.max(burst.server_end.unwrap_or_default());
        if let Some(end) = burst.keepalive {
            self.flushed = self.flushed.max(end);
            inputs.push(Input::Keepalive { end });
        }
        if !inputs.is_empty() {
            self.feed_all(inputs).await?;
        }
        self.begin_wanted().await?;
        if burst.is_end && !self.has_reached_end {
            self.has_reached_end = true;
            self.feed(Input::StopRequested).await?;
        }
        if self.stream.buffered_bytes() >= self.options.slice_bytes {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Hands what builders hold to the workers: whole transactions at once, a transaction that is too
    /// large to be kept here only after the open unit is closed.
    async fn hand_over(&mut self) -> Result<()> {
        let tables: Vec<TableId> = self.workers.keys().copied().collect();
        for &table in &tables {
            self.stage(table).await?;
        }
        let carried: u64 = self.carried.values().flatten().map(|b| b.wire_bytes as u64).sum();
        if carried < OPEN_BYTES {
            return Ok(());
        }
        self.feed(Input::Seal).await?;
        while self.coordinator.view().open_rows > 0 && !self.is_ended {
            tokio::select! {
                Some(event) = self.events.recv() => self.table_event(event).await?,
                Some(event) = self.records.recv() => self.record_event(event).await?,
            }
        }
        for table in tables {
            for batch in self.carried.remove(&table).unwrap_or_default() {
                self.send(table, batch).await?;
            }
        }
        Ok(())
    }

    /// Sends the table's whole transactions to its worker; rows of a half-received one stay here.
    async fn stage(&mut self, table: TableId) -> Result<()> {
        let open = self.stream.open_transaction();
        let mut parts = self.carried.remove(&table).unwrap_or_default();
        while let Some(taken) = self.stream.take(table).transpose() {
            match taken {
                Ok(batch) => parts.push_back(batch),
                Err(error) => return Box::pin(self.stop_table(table, &error)).await,
            }
        }
        let mut rest = VecDeque::new();
        for part in parts {
            let (whole, half) = part.split_open(open);
            if let Some(whole) = whole {
                self.send(table, whole).await?;
            }
            rest.extend(half);
        }
        if !rest.is_empty() {
            self.carried.insert(table, rest);
        }
        Ok(())
    }

    async fn send(&mut self, table: TableId, batch: ChangeBatch) -> Result<()> {
        let Some(worker) = self.workers.get(&table) else { return Ok(()) };
        self.amends.staged.insert(table);
        if let Some(name) = self.names.get(&table) {
            self.meters.staged(table, name, &batch);
        }
        self.taps.show(&batch);
        let kib = u32::try_from(batch.wire_bytes / KIB).unwrap_or(u32::MAX).clamp(1, self.budget_kib);
        if self.budget.available_permits() < kib as usize {
            self.board.set_owed(true);
        }
        let began = Instant::now();
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(kib)
            .await
            .map_err(|e| Error::new(codes::RT001, "the memory budget is closed").with_source(e))?;
        // A worker that is gone has said why in an event.
        let (Ok(()) | Err(Gone)) = worker.stage(batch, permit).await;
        self.meters.metrics.flow().waited(Stage::Buffer, began.elapsed());
        Ok(())
    }

    /// A table was announced in a form that the catalogue does not explain: several changes in one backlog.
    fn unexplained(&self, error: Error) -> Lost {
        let follows =
            self.options.changes.other == Choice::Apply || self.options.changes.add_column == Choice::Apply;
        if error.code().is_change() && follows { Lost::Copy(error.cause_line()) } else { Lost::Stop(error) }
    }

    fn is_ending(&self) -> bool {
        self.has_reached_end || self.coordinator.view().stopping
    }

    async fn stop_table(&mut self, table: TableId, error: &Error) -> Result<()> {
        let input = self.forget_stopped(table, error);
        Box::pin(self.feed(input)).await
    }

    /// Takes the table out of everything here; what is returned tells the coordinator.
    fn forget_stopped(&mut self, table: TableId, error: &Error) -> Input {
        self.meters.metrics.error(error.code());
        if let Some(name) = self.names.get(&table) {
            self.stopped.insert(table, name.clone());
        }
        self.forget(table);
        Input::TableStopped { table, code: error.code(), message: told(error) }
    }

    async fn table_event(&mut self, event: TableEvent) -> Result<()> {
        let is_current = |table: &TableId, generation: u64| {
            self.workers.get(table).is_some_and(|worker| worker.generation() == generation)
        };
        match event {
            // A worker whose table was stopped or is copied again has no say any more.
            TableEvent::Committed { table, generation, .. }
            | TableEvent::Stopped { table, generation, .. }
                if !is_current(&table, generation) =>
            {
                Ok(())
            }
            TableEvent::Committed { table, unit, version, tally, standing, took, .. } => {
                if let Some(name) = self.names.get(&table) {
                    self.meters.stands(table, name, standing);
                    let rows = tally.rows();
                    tracing::debug!(table = %name, version, rows, ms = took.as_millis(), "committed");
                }
                self.board.advance();
                self.meters.metrics.commit(CommitResult::Ok, took);
                self.meters.metrics.rows().upsert.inc_by(tally.upserts);
                self.meters.metrics.rows().delete.inc_by(tally.deletes);
                self.feed(Input::TableCommitted { unit, table, version }).await
            }
            // What the target cannot follow in place.
            TableEvent::Stopped { table, error, .. } => {
                self.meters.metrics.commit_failed(CommitResult::Error);
                let lost = self.unexplained(error);
                let input = self.leave(table, lost);
                self.feed(input).await?;
                self.begin_wanted().await
            }
            TableEvent::Fenced { by } => {
                self.meters.metrics.commit_failed(CommitResult::Fenced);
                self.feed(Input::Fenced { by }).await
            }
            TableEvent::Broken { error } => {
                self.meters.metrics.commit_failed(CommitResult::Error);
                Err(error)
            }
        }
    }

    async fn record_event(&mut self, event: RecordEvent) -> Result<()> {
        match event {
            RecordEvent::CutCommitted { position } => {
                self.board.advance();
                let now = Timestamp::now();
                self.meters.visible(position, now);
                self.board.update(|status| status.last_commit = Some(now));
                self.feed(Input::CutCommitted { position }).await
            }
            RecordEvent::StopRecorded { table } => self.feed(Input::StopRecorded { table }).await,
            RecordEvent::Resumed { tables } => {
                let (recorded, waiting) = std::mem::take(&mut self.awaiting_record)
                    .into_iter()
                    .partition(|(copied, _)| tables.contains(&copied.schema.id));
                self.awaiting_record = waiting;
                self.arriving.extend::<Vec<_>>(recorded);
                Ok(())
            }
            RecordEvent::Requests(requests) => {
                self.poll_pending = false;
                self.settle(&requests).await?;
                // Who ends begins nothing new; the request stays on record.
                let is_ending = self.is_ending();
                for request in requests.into_iter().filter(|_| !is_ending) {
                    self.answer(request).await?;
                }
                Ok(())
            }
            RecordEvent::Asked(request) => self.asked(*request).await,
            RecordEvent::Fenced { by } => self.feed(Input::Fenced { by }).await,
            RecordEvent::Broken { error } => Err(error),
        }
    }

    fn poll(&mut self) -> Result<()> {
        if self.poll_pending {
            return Ok(());
        }
        self.poll_pending = true;
        self.stream.retain_marks(&self.coordinator.positions());
        self.tell(Entry::Poll)
    }

    fn heartbeat(&mut self) {
        let received = self.coordinator.view().received;
        let is_idle = received == self.last_progress;
        let source = Arc::clone(&self.source);
        tokio::spawn(async move {
            let beat = if is_idle { source.heartbeat().await } else { Ok(()) };
            if let Err(error) = beat.and(source.beat_action().await) {
                tracing::warn!(code = %error.code(), "no heartbeat: {}", error.cause_line());
            }
        });
        self.last_progress = received;
    }

    fn show(&mut self, now: bool) {
        if !now && self.shown.elapsed() < SHOW_EVERY {
            return;
        }
        self.shown = Instant::now();
        self.meters.written(self.sink.written());
        let waiting = (self.budget_kib as usize).saturating_sub(self.budget.available_permits()) * KIB;
        let held = self.stream.buffered_bytes() + waiting;
        self.meters.metrics.buffer_bytes().set(i64::try_from(held).unwrap_or(i64::MAX));
        let view = self.coordinator.view();
        self.flushed = self.flushed.max(view.received.lsn());
        let lag = self.source.log_bytes(view.cut.lsn(), self.flushed);
        let ahead = self.source.log_bytes(view.received.lsn(), self.flushed);
        let is_caught_up = view.units_in_flight == 0 && view.open_rows == 0;
        let is_held = self.options.hold.is_set();
        let owed = view.units_in_flight > 0 || view.cut_in_flight.is_some() || view.stops_unrecorded > 0;
        self.board.set_owed(owed);
        let lag_seconds = behind(&view, ahead, Timestamp::now());
        let tables: Vec<_> =
            self.coordinator.live().filter_map(|id| Some((id, self.coordinator.table(id)?))).collect();
        let names = &self.names;
        self.board.update(|status| {
            if matches!(
                status.phase,
                PipelineState::CatchingUp
                    | PipelineState::Streaming
                    | PipelineState::Snapshotting
                    | PipelineState::Paused
            ) {
                status.phase = match (is_held, is_caught_up) {
                    (true, _) => PipelineState::Paused,
                    (false, true) => PipelineState::Streaming,
                    (false, false) => PipelineState::CatchingUp,
                };
            }
            status.source.connected = true;
            status.source.received = Some(PositionText(view.received.lsn()));
            status.position = Some(PositionText(view.cut.lsn())).filter(|_| view.cut > CommitLsn::ZERO);
            status.acknowledged =
                Some(PositionText(view.acknowledged.lsn())).filter(|_| view.acknowledged > CommitLsn::ZERO);
            status.lag_bytes = lag;
            status.lag_seconds = lag_seconds;
            for (id, table) in tables {
                let Some(name) = names.get(&id) else { continue };
                // Shown when there is something to say.
                if name.is_beside() && !status.has_table(name) {
                    continue;
                }
                let shown = status.table(name);
                shown.state = if table.covered { TableState::Live } else { TableState::CatchingUp };
                shown.position = Some(PositionText(table.own.lsn()));
                shown.version = Some(table.version);
            }
        });
    }
}

/// Bytes of log that hold nothing of ours: the server's own records, and the heartbeat that is on its way.
const QUIET_BYTES: u64 = 64 * 1024;

/// Seconds that the target is behind. It is not, when everything that was received is durable and next to nothing is
/// left in the log; else it is the age of the last transaction in the cut. Unknown before the first one.
fn behind(view: &View, ahead: Option<u64>, now: Timestamp) -> Option<f64> {
    let is_whole = view.units_in_flight == 0 && view.open_rows == 0;
    if is_whole && ahead.is_some_and(|bytes| bytes <= QUIET_BYTES) {
        return Some(0.0);
    }
    // Zero: of a message of no transaction.
    let witness = view.witness.filter(|witness| witness.commit_time != 0)?;
    age(witness.commit_time, now).map(|age| age.as_secs_f64())
}

async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> std::result::Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
