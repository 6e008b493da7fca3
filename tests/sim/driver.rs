//! A writer at the stream: decodes, performs what the coordinator decides, copies tables.

use crate::exec::{Call, Ctx, Queue, Reply};
use crate::source::{Change, Msg, OTHER, Op, REPRESENTABLE, Rows, TABLES, from_wire};
use crate::store::{Applied, Cut, Kind, Table, Version};
use crate::world::{Broken, Fault};
use crate::writer::{
    Committer, Connect, Exit, Job, Lane, Note, Refused, hold_source, info, name, read_table,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::task::Poll;
use strandline::error::{Code, codes};
use strandline::position::{CommitLsn, Epoch, Interval, Lsn, Witness};
use strandline::replication::{Action, Coordinator, HaltReason, Input, InvariantId, TableProgress, UnitId};
use strandline::schema::TableId;

pub enum Event {
    Connected {
        session: u64,
        from: CommitLsn,
        joined: u64,
    },
    Messages {
        session: u64,
        messages: Option<Vec<Msg>>,
    },
    Committed {
        unit: UnitId,
        table: TableId,
        version: i64,
    },
    Failed {
        table: TableId,
        code: Code,
        why: &'static str,
    },
    Fenced(Epoch),
    CutDone(CommitLsn),
    StopDone(TableId),
    ResumeDone(TableId),
    /// The connection that a copy is to be vouched for by is dead.
    Unheld(u64),
    Copied {
        progress: TableProgress,
        committer: Committer,
    },
    Ended(Exit),
    Tick,
    Stop,
    Target,
    CopyAgain(TableId),
    /// The copy of a table that has left the stream for it begins.
    CopyBegins(TableId),
}

/// A transaction that is half received.
struct OpenTxn {
    start: Lsn,
    has_changes: bool,
    rows: BTreeMap<TableId, Vec<Applied>>,
}

#[derive(Default)]
struct Decoder {
    relations: BTreeMap<TableId, u64>,
    open: Option<OpenTxn>,
    staged: BTreeMap<TableId, Vec<Applied>>,
}

/// What a burst of messages amounts to.
#[derive(Default)]
struct Burst {
    through: Option<CommitLsn>,
    witness: Option<Witness>,
    touched: Vec<TableId>,
    rows: u64,
    transactions: u64,
    keepalive: Option<Lsn>,
    unrepresentable: BTreeSet<TableId>,
    items: u64,
    fates: u64,
}

pub struct Driver {
    ctx: Ctx,
    events: Queue<Event>,
    coordinator: Coordinator,
    notes: Queue<Note>,
    connect: Connect,
    lanes: BTreeMap<TableId, Lane>,
    ended_lanes: BTreeMap<TableId, Lane>,
    stopped: BTreeSet<TableId>,
    copying: BTreeSet<TableId>,
    /// Copied while a transaction was half received.
    joining: BTreeMap<TableId, (TableProgress, Committer)>,
    copied: BTreeMap<TableId, (TableProgress, Committer)>,
    session: Option<u64>,
    /// Held, but not read before the first copies are done.
    waiting: Option<u64>,
    copies_first: bool,
    /// The connection whose history was checked: it vouches for snapshots.
    checked: Rc<Cell<Option<u64>>>,
    reading: bool,
    paused: bool,
    decoder: Decoder,
    /// How many tables have joined.
    joined: u64,
    target: Option<CommitLsn>,
    is_stopping: bool,
    exit: Option<Exit>,
}

impl Driver {
    pub fn new(
        ctx: Ctx,
        events: Queue<Event>,
        coordinator: Coordinator,
        notes: Queue<Note>,
        connect: Connect,
        stopped: BTreeSet<TableId>,
    ) -> Self {
        Driver {
            ctx,
            events,
            coordinator,
            notes,
            connect,
            lanes: BTreeMap::new(),
            ended_lanes: BTreeMap::new(),
            stopped,
            copying: BTreeSet::new(),
            joining: BTreeMap::new(),
            copied: BTreeMap::new(),
            session: None,
            waiting: None,
            copies_first: false,
            checked: Rc::default(),
            reading: false,
            paused: false,
            decoder: Decoder::default(),
            joined: 0,
            target: None,
            is_stopping: false,
            exit: None,
        }
    }

    pub fn begin(
        &mut self,
        session: u64,
        from: Option<CommitLsn>,
        tables: &BTreeMap<TableId, Table>,
        copy: &[TableId],
        stop: &[(TableId, Code)],
    ) {
        for id in self.coordinator.live().collect::<Vec<_>>() {
            let committer = self.committer(id, &tables[&id]);
            self.lanes.insert(id, Lane::open(&self.events, committer));
        }
        for &(table, code) in stop {
            self.handle(Input::TableStopped { table, code, message: String::new() });
        }
        let copy_first = self.ctx.rng(|rng| rng.permille(500)) && !copy.is_empty();
        self.copies_first = copy_first;
        for &table in copy {
            if !copy_first {
                self.handle(Input::CopyStarted { table });
            }
            self.start_copy(table);
        }
        match from {
            _ if copy_first => self.wait_for_copies(session),
            Some(from) => self.events.push(Event::Connected { session, from, joined: 0 }),
            None => self.start_connect(None),
        }
    }

    fn committer(&self, id: TableId, table: &Table) -> Committer {
        let (base, last) = (table.version(), Rc::clone(table.last()));
        Committer { ctx: self.ctx.clone(), id, epoch: self.connect.epoch, base, last }
    }

    /// The main loop: one event, its consequences, the next.
    pub async fn stream(mut self) -> Exit {
        loop {
            self.publish();
            if let Some(exit) = self.exit.take() {
                return exit;
            }
            let Some(event) = self.events.pop().await else { continue };
            self.on(event);
            self.join_tables();
            self.read_on();
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Connected { session, from: _, joined } if joined != self.joined => {
                // A table joined meanwhile: what was checked is not all that we hold.
                self.start_connect(Some(session));
            }
            Event::Connected { session, .. } if self.copies_first && !self.copying.is_empty() => {
                self.wait_for_copies(session);
            }
            Event::Connected { session, from, .. } => self.connected(session, from),
            Event::Unheld(session) => {
                if self.waiting == Some(session) {
                    self.waiting = None;
                    self.checked.set(None);
                    self.start_connect(None);
                }
            }
            Event::Messages { session, messages } => self.received(session, messages),
            Event::Committed { unit, table, version } => {
                self.handle(Input::TableCommitted { unit, table, version });
            }
            Event::Failed { table, code, why } => {
                self.copying.remove(&table);
                self.stop_table(table, code, why);
                self.copies_done();
            }
            Event::Fenced(by) => self.handle(Input::Fenced { by }),
            Event::CutDone(position) => self.handle(Input::CutCommitted { position }),
            Event::StopDone(table) => {
                self.stopped.insert(table);
                self.handle(Input::StopRecorded { table });
            }
            Event::ResumeDone(table) => {
                self.stopped.remove(&table);
                self.ctx.world.borrow_mut().reach("a stopped table is copied again");
                if let Some(copied) = self.copied.remove(&table) {
                    self.joining.insert(table, copied);
                }
            }
            Event::Copied { progress, committer } => {
                let id = committer.id;
                if self.stopped.contains(&id) {
                    self.copied.insert(id, (progress, committer));
                    self.notes.push(Note::Resume(id));
                } else {
                    self.joining.insert(id, (progress, committer));
                }
            }
            Event::Ended(exit) => self.exit = Some(exit),
            Event::Tick => self.handle(Input::Tick),
            Event::Stop => {
                self.is_stopping = true;
                self.handle(Input::StopRequested);
            }
            Event::Target if self.target.is_some() => {}
            Event::Target => {
                let target = self.ctx.world.borrow().source.flushed;
                self.target = Some(CommitLsn::of_keepalive(target));
                self.handle(Input::Target(target));
            }
            Event::CopyAgain(table) => self.copy_again(table),
            Event::CopyBegins(table) => {
                if !self.coordinator.view().stopping {
                    self.handle(Input::CopyStarted { table });
                }
                self.start_copy(table);
            }
        }
    }

    fn copy_again(&mut self, table: TableId) {
        let is_live = self.lanes.contains_key(&table);
        let is_known = self.stopped.contains(&table) || is_live;
        if !is_known || self.coordinator.view().stopping || !self.copying.insert(table) {
            return;
        }
        if is_live {
            self.take_out(table);
        }
        self.handle(Input::CopyStarted { table });
        if !is_live {
            return self.start_copy(table);
        }
        self.ctx.world.borrow_mut().reach("a table with content is copied by itself");
        let (ctx, events) = (self.ctx.clone(), self.events.clone());
        self.ctx.spawn(async move {
            ctx.call(Call::Nap).await;
            events.push(Event::CopyBegins(table));
        });
    }

    /// Tables join between transactions only.
    fn join_tables(&mut self) {
        if self.session.is_some() && self.decoder.open.is_some() {
            return;
        }
        while let Some((table, (progress, committer))) = self.joining.pop_first() {
            self.copying.remove(&table);
            self.ctx.log(|| format!("table {table} is live at {}", progress.position));
            self.lanes.insert(table, Lane::open(&self.events, committer));
            self.joined += 1;
            self.handle(Input::TableLive { table, progress });
            self.copies_done();
        }
    }

    fn wait_for_copies(&mut self, session: u64) {
        self.waiting = Some(session);
        self.checked.set(Some(session));
    }

    fn copies_done(&mut self) {
        if self.copying.is_empty()
            && let Some(session) = self.waiting.take()
        {
            self.start_connect(Some(session));
        }
    }

    fn connected(&mut self, session: u64, from: CommitLsn) {
        self.ctx.log(|| format!("stream from {from}"));
        self.checked.set(Some(session));
        (self.session, self.paused, self.reading) = (Some(session), false, false);
        self.decoder = Decoder::default();
        self.handle(Input::SourceResumed { from });
    }

    fn lost(&mut self) {
        if self.coordinator.view().units_in_flight > 0 {
            self.ctx.world.borrow_mut().reach("the connection is lost while units are under way");
        }
        self.session = None;
        self.checked.set(None);
        self.decoder = Decoder::default();
        self.handle(Input::SourceLost);
        self.start_connect(None);
    }

    fn start_connect(&mut self, session: Option<u64>) {
        let view = self.coordinator.view();
        let tables = self.coordinator.live().filter_map(|id| self.coordinator.submitted(id)).collect();
        let connect =
            Connect { cut: view.cut, tables, held: self.coordinator.held(), ..self.connect.clone() };
        let (ctx, events, joined) = (self.ctx.clone(), self.events.clone(), self.joined);
        self.ctx.spawn(async move {
            let mut held = session;
            loop {
                let session = match held.take() {
                    Some(session) => session,
                    None => match hold_source(&ctx).await {
                        Ok(session) => session,
                        Err(reason) => return events.push(Event::Ended(connect.explain(&ctx, reason).await)),
                    },
                };
                match connect.check(&ctx, session).await {
                    Ok(Some(from)) => return events.push(Event::Connected { session, from, joined }),
                    Ok(None) => {}
                    Err(exit) => return events.push(Event::Ended(exit)),
                }
            }
        });
    }

    fn read_on(&mut self) {
        let Some(session) = self.session.filter(|_| !self.reading && !self.paused) else { return };
        self.reading = true;
        let (ctx, events) = (self.ctx.clone(), self.events.clone());
        self.ctx.spawn(async move {
            if let Reply::Messages(messages) = ctx.call(Call::Read(session)).await {
                events.push(Event::Messages { session, messages });
            }
        });
    }

    fn received(&mut self, session: u64, messages: Option<Vec<Msg>>) {
        if self.session != Some(session) {
            return;
        }
        self.reading = false;
        let Some(messages) = messages else { return self.lost() };
        let mut burst = Burst::default();
        for message in messages {
            self.decode(message, &mut burst);
        }
        for table in std::mem::take(&mut burst.unrepresentable) {
            self.ctx.world.borrow_mut().reach("a value that cannot be represented stops a table");
            self.stop_table(table, codes::PG021, "value");
        }
        if self.fault() == Some(Fault::PartialTransaction) {
            self.pretend_whole(&mut burst);
        }
        self.report(burst);
    }

    fn report(&mut self, burst: Burst) {
        if burst.items != burst.fates {
            let text = format!("{} rows decoded, {} accounted for", burst.items, burst.fates);
            self.ctx.world.borrow_mut().violate(Broken::Invariant(InvariantId::Dl1), text);
        }
        if let Some(through) = burst.through {
            self.handle(Input::Received {
                through,
                witness: burst.witness,
                touched: burst.touched,
                rows: burst.rows,
                bytes: burst.rows * 7,
                transactions: burst.transactions,
            });
        }
        if let Some(end) = burst.keepalive {
            self.handle(Input::Keepalive { end });
        }
        // As if the half-received transaction were too large to be kept.
        if self.decoder.open.is_some() && self.ctx.rng(|rng| rng.permille(100)) {
            self.handle(Input::Seal);
        }
    }

    fn decode(&mut self, message: Msg, burst: &mut Burst) {
        match message {
            Msg::Relation { table, schema } => {
                self.decoder.relations.insert(table, schema);
            }
            Msg::Begin { commit_start } => {
                let rows = BTreeMap::new();
                self.decoder.open = Some(OpenTxn { start: commit_start, has_changes: false, rows });
            }
            Msg::Row { table, wire, ordinal, truth, branch } => {
                burst.items += 1;
                if let Some(open) = &mut self.decoder.open {
                    open.has_changes = true;
                }
                let applied = |op, schema| Applied {
                    end: CommitLsn::ZERO,
                    ordinal,
                    op,
                    schema,
                    truth: truth.clone(),
                    branch,
                };
                if self.stage(table, &wire, &truth, burst, &applied) {
                    burst.fates += 1;
                }
            }
            Msg::Commit { witness } => self.commit(witness, burst),
            Msg::Keepalive { end } => {
                if self.decoder.open.is_none() {
                    burst.keepalive = Some(end);
                }
            }
        }
    }

    /// Whether the row was accounted for: staged, or left out by a named rule.
    fn stage(
        &mut self,
        table: TableId,
        wire: &Op,
        truth: &Change,
        burst: &mut Burst,
        applied: &dyn Fn(Op, u64) -> Applied,
    ) -> bool {
        let fault = self.fault();
        let Some(open) = &mut self.decoder.open else { return false };
        if table == OTHER || !TABLES.contains(&table) || burst.unrepresentable.contains(&table) {
            return true;
        }
        let Some(held) = self.coordinator.submitted(table) else { return true };
        if held.covers(open.start) {
            self.ctx.world.borrow_mut().reach("a replay is skipped by a table that holds it");
            return true;
        }
        if fault == Some(Fault::DropTruncate) && truth.op == Op::Truncate {
            return false;
        }
        let Some(&relation) = self.decoder.relations.get(&table) else { return false };
        let schema = match fault {
            Some(Fault::NewestSchema) => self.ctx.world.borrow().source.newest_schema(table),
            _ => relation,
        };
        let mut op = wire.map_row(|row| from_wire(schema, row));
        if op.row().is_some_and(|row| row.iter().any(|&value| value > REPRESENTABLE)) {
            if fault != Some(Fault::Clamp) {
                burst.unrepresentable.insert(table);
                open.rows.remove(&table);
                return true;
            }
            op = op.map_row(|row| row.map(|value| value.min(REPRESENTABLE)));
        }
        open.rows.entry(table).or_default().push(applied(op, schema));
        true
    }

    fn commit(&mut self, witness: Witness, burst: &mut Burst) {
        let Some(open) = self.decoder.open.take() else { return };
        burst.through = Some(witness.end);
        burst.transactions += 1;
        if open.has_changes {
            burst.witness = Some(witness);
        }
        for (table, mut rows) in open.rows {
            rows.iter_mut().for_each(|row| row.end = witness.end);
            burst.rows += rows.len() as u64;
            burst.touched.push(table);
            self.decoder.staged.entry(table).or_default().append(&mut rows);
        }
    }

    /// [`Fault::PartialTransaction`].
    fn pretend_whole(&mut self, burst: &mut Burst) {
        let Some(start) = self.decoder.open.as_ref().filter(|o| !o.rows.is_empty()).map(|o| o.start) else {
            return;
        };
        let end =
            self.ctx.world.borrow().source.now().txns.iter().find(|t| t.start == start).map(|t| t.witness);
        if let Some(witness) = end {
            self.commit(witness, burst);
            self.decoder.open = Some(OpenTxn { start, has_changes: true, rows: BTreeMap::new() });
        }
    }

    fn stop_table(&mut self, table: TableId, code: Code, why: &'static str) {
        self.ctx.log(|| format!("table {table} stops: {code}"));
        self.take_out(table);
        self.handle(Input::TableStopped { table, code, message: why.to_owned() });
    }

    fn take_out(&mut self, table: TableId) {
        if let Some(lane) = self.lanes.remove(&table) {
            lane.queue.close();
            self.ended_lanes.insert(table, lane);
        }
        self.decoder.staged.remove(&table);
        if let Some(open) = &mut self.decoder.open {
            open.rows.remove(&table);
        }
    }

    fn handle(&mut self, input: Input) {
        let now = self.ctx.world.borrow().now;
        self.ctx.log(|| format!("> {input:?}"));
        let mut actions = Vec::new();
        self.coordinator.handle(now, input, &mut actions);
        for action in actions {
            self.ctx.log(|| format!("< {action:?}"));
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::CloseUnit { unit, to, tables } => self.close_unit(unit, to, tables),
            Action::CommitCut { position, witness, tables } => {
                self.notes.push(Note::Cut(Cut { position, witness, tables }));
            }
            Action::RecordStop { table, code, .. } => self.notes.push(Note::Stop(table, code)),
            Action::Acknowledge(position) => self.acknowledge(position),
            Action::PauseSource => {
                self.paused = true;
                self.ctx.world.borrow_mut().reach("the source is paused");
            }
            Action::ResumeSource => self.paused = false,
            Action::RestartSource => {
                self.ctx.world.borrow_mut().reach("a copied table joins behind the stream");
                self.restart();
            }
            Action::WakeAt(at) => self.ctx.world.borrow_mut().probes[self.ctx.id].wake = Some(at),
            Action::Finish => {
                self.exit = Some(Exit::Finished);
                self.check_target();
            }
            Action::Halt(HaltReason::Fenced { .. }) => self.exit = Some(Exit::Fenced),
        }
    }

    fn restart(&mut self) {
        let Some(session) = self.session.take() else { return };
        self.checked.set(None);
        self.decoder = Decoder::default();
        let ctx = self.ctx.clone();
        self.ctx.spawn(async move {
            ctx.call(Call::EndSession(session)).await;
        });
        self.start_connect(None);
    }

    fn close_unit(&mut self, unit: UnitId, to: CommitLsn, tables: Vec<(TableId, Interval)>) {
        let ids = tables.iter().map(|(id, _)| *id).collect();
        self.ctx.world.borrow_mut().probes[self.ctx.id].units.push((to, ids));
        for (id, interval) in tables {
            let rows = Rc::new(self.decoder.staged.remove(&id).unwrap_or_default());
            if let Some(lane) = self.lanes.get(&id) {
                lane.queue.push(Job { unit, interval, rows });
            }
        }
    }

    fn acknowledge(&self, position: CommitLsn) {
        let Some(session) = self.session else { return };
        let ctx = self.ctx.clone();
        self.ctx.spawn(async move {
            ctx.call(Call::Acknowledge(session, position)).await;
        });
    }

    fn start_copy(&mut self, table: TableId) {
        self.copying.insert(table);
        let (ctx, events, epoch) = (self.ctx.clone(), self.events.clone(), self.connect.epoch);
        let (before, checked) = (self.ended_lanes.remove(&table), Rc::clone(&self.checked));
        self.ctx.spawn(async move {
            // What the table's committer had begun must be over: a late put of it could pass the copy.
            if let Some(lane) = before {
                std::future::poll_fn(|_| if lane.done.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            }
            let copied = copy_table(&ctx, &events, table, epoch, &checked).await;
            events.push(copied);
        });
    }

    fn fault(&self) -> Option<Fault> {
        self.ctx.world.borrow().fault
    }

    fn check_target(&self) {
        let Some(target) = self.target.filter(|_| !self.is_stopping) else { return };
        let mut world = self.ctx.world.borrow_mut();
        world.reach("a run ends at its target");
        let cut = world.last_record().cut_position();
        if cut < target {
            world.violate(Broken::Promise("a finished run covers its target"), format!("{cut} < {target}"));
        }
    }

    /// Shows the world where we are, and checks the bounds.
    fn publish(&mut self) {
        let view = self.coordinator.view();
        let mut world = self.ctx.world.borrow_mut();
        let limits = world.limits;
        // A unit may be exceeded by the bursts that were under way when the source was paused.
        let most = limits.unit_rows + 3 * 13 + 5;
        let staged: usize = self.decoder.staged.values().map(Vec::len).sum();
        let is_bounded = view.units_in_flight <= limits.units_in_flight && staged as u64 <= most;
        world.require(InvariantId::Bd1, is_bounded, || {
            format!("{} units in flight, {staged} rows staged, limits {limits:?}", view.units_in_flight)
        });
        let probe = &mut world.probes[self.ctx.id];
        (probe.view, probe.copies) = (Some(view), self.copying.len());
        let known = self.stopped.iter().chain(self.lanes.keys());
        probe.can_copy_again = known.filter(|id| !self.copying.contains(id)).copied().collect();
    }
}

/// A snapshot of the history that was checked: when it was open, the checked connection still lived, so
/// that no backup was restored in between.
async fn open_snapshot(
    ctx: &Ctx,
    events: &Queue<Event>,
    checked: &Cell<Option<u64>>,
) -> Option<(u64, CommitLsn)> {
    let held = checked.get()?;
    let Reply::Snapshot(session, point) = ctx.call(Call::OpenSnapshot).await else { return None };
    if matches!(ctx.call(Call::Ping(held)).await, Reply::Alive(true)) {
        return Some((session, point));
    }
    ctx.call(Call::EndSession(session)).await;
    events.push(Event::Unheld(held));
    None
}

/// One copy, from its snapshot to its commit. Begins again when its connection is lost.
async fn copy_table(
    ctx: &Ctx,
    events: &Queue<Event>,
    id: TableId,
    epoch: Epoch,
    checked: &Cell<Option<u64>>,
) -> Event {
    loop {
        let Some((session, point)) = open_snapshot(ctx, events, checked).await else {
            ctx.call(Call::Nap).await;
            continue;
        };
        let Some((branch, rows)) = copy_rows(ctx, id, session).await else {
            ctx.call(Call::Nap).await;
            continue;
        };
        if rows.values().flatten().any(|&value| value > REPRESENTABLE) {
            ctx.call(Call::EndSession(session)).await;
            return Event::Failed { table: id, code: codes::PG021, why: "value" };
        }
        let mut position = point;
        if ctx.world.borrow().fault == Some(Fault::CopyClaimsLater) {
            position = CommitLsn::consistent_point(info(ctx).await.0.flushed);
        }
        let result = commit_copy(ctx, id, epoch, position, (branch, Rc::new(rows))).await;
        ctx.call(Call::EndSession(session)).await;
        return match result {
            Ok((progress, committer)) => Event::Copied { progress, committer },
            Err(Refused::Fenced(by)) => Event::Fenced(by),
            Err(Refused::Stop(code, why)) => Event::Failed { table: id, code, why },
        };
    }
}

async fn copy_rows(ctx: &Ctx, table: TableId, session: u64) -> Option<(usize, Rows)> {
    let (mut branch, mut all) = (0, Rows::new());
    for keys in [0..3, 3..6, 6..u8::MAX] {
        let Reply::Rows(Some((of, rows))) = ctx.call(Call::Copy { session, table, keys }).await else {
            return None;
        };
        branch = of;
        all.extend(rows);
    }
    Some((branch, all))
}

async fn commit_copy(
    ctx: &Ctx,
    id: TableId,
    epoch: Epoch,
    to: CommitLsn,
    (branch, rows): (usize, Rc<Rows>),
) -> Result<(TableProgress, Committer), Refused> {
    let table = read_table(ctx, id).await;
    let last = Rc::clone(table.last());
    if last.epoch.is_some_and(|found| found > epoch) {
        return Err(Refused::Fenced(last.epoch.unwrap_or(epoch)));
    }
    let interval = Interval { from: last.position.unwrap_or_default(), to };
    let mut committer = Committer { ctx: ctx.clone(), id, epoch, base: table.version(), last };
    loop {
        let version = Version {
            epoch: Some(epoch),
            position: Some(to),
            copied_at: Some(to),
            rows: Rc::clone(&rows),
            branch,
            ..committer.last.next(Kind::Copy)
        };
        if let Some(version) = committer.put(Rc::new(version), interval, false).await? {
            let target_id = table.target_id.clone();
            let (name, position) = (name(id), to);
            let progress = TableProgress {
                name,
                target_id,
                position,
                version,
                covered: false,
                from_copy: true,
                whole_from: CommitLsn::ZERO,
            };
            return Ok((progress, committer));
        }
    }
}
