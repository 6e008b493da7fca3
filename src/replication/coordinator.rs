//! The coordinator: owns progress, decides, never waits.

use super::invariant::{InvariantId, Mutant};
use super::ledger::{Ledger, Mark};
use super::message::{
    Action, HaltReason, Input, Limits, Millis, Resume, TableProgress, TableView, UnitId, View,
};
use super::recovery::Held;
use crate::error::Code;
use crate::position::{CommitLsn, Witness};
use crate::schema::TableId;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// Submit, make durable, cut, acknowledge, finish.
    Stopping,
    Ended,
}

/// What came in on this connection and is not submitted.
#[derive(Debug, Default)]
struct Open {
    touched: BTreeSet<TableId>,
    rows: u64,
    bytes: u64,
    transactions: u64,
    since: Millis,
}

/// The stream on this connection.
#[derive(Debug, Default)]
struct Stream {
    connected: bool,
    /// End of the last whole transaction, or where the connection began.
    through: CommitLsn,
    /// The last transaction with changes on this connection.
    witness: Option<Witness>,
    /// An idle keepalive after `through`.
    idle: CommitLsn,
}

impl Stream {
    fn received(&self) -> CommitLsn {
        self.through.max(self.idle)
    }
}

#[derive(Debug)]
struct CutInFlight {
    mark: Mark,
    named: BTreeSet<TableId>,
}

/// What a copy beside the stream holds back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hold {
    /// No cut at all: the table had content, and the next cut would leave it out.
    Cuts,
    /// No cut beyond what had been received when it began: the table had none.
    Beyond(CommitLsn),
}

/// Owns progress: what is received, submitted, durable, cut and acknowledged. See the header of
/// [`crate::replication`].
#[derive(Debug)]
pub struct Coordinator {
    limits: Limits,
    ledger: Ledger,
    stream: Stream,
    open: Open,
    next_unit: u64,
    cut: Mark,
    cut_in_flight: Option<CutInFlight>,
    cut_begun_at: Option<Millis>,
    acknowledged: CommitLsn,
    unrecorded: BTreeSet<TableId>,
    /// Copies beside the stream, and up to where cuts may go meanwhile.
    copying: BTreeMap<TableId, Hold>,
    target: Option<CommitLsn>,
    phase: Phase,
    paused: bool,
    /// The open unit is to be closed whatever its size and age.
    is_sealing: bool,
    wake: Option<Millis>,
    mutant: Option<Mutant>,
}

impl Coordinator {
    /// Takes up where the last owner left off. The stream begins with [`Input::SourceResumed`].
    pub fn resume(resume: Resume, limits: Limits) -> Self {
        Self::build(resume, limits, None)
    }

    /// A coordinator with a deliberate fault, for the simulation.
    #[doc(hidden)]
    pub fn resume_broken(resume: Resume, limits: Limits, mutant: Mutant) -> Self {
        Self::build(resume, limits, Some(mutant))
    }

    fn build(resume: Resume, limits: Limits, mutant: Option<Mutant>) -> Self {
        let cut = Mark { position: resume.cut, witness: resume.witness };
        Coordinator {
            limits: Limits { units_in_flight: limits.units_in_flight.max(1), ..limits },
            ledger: Ledger::resume(resume, mutant),
            stream: Stream::default(),
            open: Open::default(),
            next_unit: 1,
            cut,
            cut_in_flight: None,
            cut_begun_at: None,
            acknowledged: CommitLsn::ZERO,
            unrecorded: BTreeSet::new(),
            copying: BTreeMap::new(),
            target: None,
            phase: Phase::Running,
            paused: false,
            is_sealing: false,
            wake: None,
            mutant,
        }
    }

    /// Takes what happened and says what to do, in order. Cheap: no work per row or per table but for
    /// units and cuts.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Action>) {
        self.handle_all(now, [input], out);
    }

    /// Takes several things that happened at once, in order, and decides only then: what a burst brings
    /// belongs together, and a unit closed in between would not hold what was reported.
    pub fn handle_all(
        &mut self,
        now: Millis,
        inputs: impl IntoIterator<Item = Input>,
        out: &mut Vec<Action>,
    ) {
        let mut may_decide = false;
        for input in inputs {
            if self.phase == Phase::Ended {
                return;
            }
            // A stop alone closes no unit: whole transactions beside it may not be reported yet.
            may_decide |= !matches!(input, Input::TableStopped { .. });
            self.take(input, now, out);
        }
        if may_decide && self.phase != Phase::Ended {
            self.decide(now, out);
        }
    }

    fn take(&mut self, input: Input, now: Millis, out: &mut Vec<Action>) {
        match input {
            Input::Received { through, witness, touched, rows, bytes, transactions } => {
                if self.stream.connected {
                    self.received(now, through, witness, touched.len());
                    self.open.touched.extend(touched.into_iter().filter(|&id| self.ledger.is_live(id)));
                    self.open.rows = self.open.rows.saturating_add(rows);
                    self.open.bytes = self.open.bytes.saturating_add(bytes);
                    self.open.transactions = self.open.transactions.saturating_add(transactions);
                }
            }
            Input::Keepalive { end } => {
                if self.stream.connected {
                    self.stream.idle = self.stream.idle.max(CommitLsn::of_keepalive(end));
                }
            }
            Input::TableCommitted { unit, table, version } => self.ledger.committed(unit, table, version),
            Input::TableStopped { table, code, message } => self.stop_table(table, code, message, out),
            Input::StopRecorded { table } => {
                self.unrecorded.remove(&table);
            }
            Input::CutCommitted { position } => self.cut_committed(position, out),
            Input::CopyStarted { table } => {
                let had_content = self.ledger.is_live(table) || self.copying.get(&table) == Some(&Hold::Cuts);
                self.drop_table(table);
                // What was to be reached is not, while a table is left behind.
                if self.phase == Phase::Stopping && self.target.is_some() {
                    self.phase = Phase::Running;
                }
                let received = self.stream.received().max(self.cut.position);
                self.copying.insert(table, if had_content { Hold::Cuts } else { Hold::Beyond(received) });
            }
            Input::TableLive { table, progress } => self.table_live(table, progress, out),
            Input::SourceLost => self.source_lost(),
            Input::SourceResumed { from } => self.source_resumed(from, out),
            Input::Target(lsn) => {
                if self.phase == Phase::Running {
                    self.target = Some(CommitLsn::of_keepalive(lsn));
                }
            }
            Input::Seal => self.is_sealing = !self.open.touched.is_empty(),
            // The alarm has gone off: the next one must be said again.
            Input::Tick => self.wake = None,
            Input::TableGone { table } => {
                self.drop_table(table);
            }
            Input::StopRequested => {
                self.phase = Phase::Stopping;
                self.target = None;
            }
            Input::Fenced { by } => {
                out.push(Action::Halt(HaltReason::Fenced { by }));
                self.phase = Phase::Ended;
            }
        }
    }

    /// The decoder skips, for this table, transactions that this position covers
    /// ([`CommitLsn::covers`] of the commit record's start). `None`: the table is not live, skip all.
    pub fn submitted(&self, table: TableId) -> Option<CommitLsn> {
        self.ledger.submitted(table)
    }

    /// Progress in numbers.
    pub fn view(&self) -> View {
        View {
            received: self.stream.received().max(self.cut.position),
            submitted: self.ledger.passed.position,
            durable: self.ledger.boundary.position,
            cut: self.cut.position,
            cut_in_flight: self.cut_in_flight.as_ref().map(|cut| cut.mark.position),
            acknowledged: self.acknowledged,
            witness: self.cut.witness,
            units_in_flight: self.ledger.in_flight(),
            open_rows: self.open.rows,
            open_bytes: self.open.bytes,
            open_transactions: self.open.transactions,
            live_tables: self.ledger.live_count(),
            stops_unrecorded: self.unrecorded.len(),
            paused: self.paused,
            stopping: self.phase == Phase::Stopping,
        }
    }

    /// Every position that a commit, a cut or a new connection may name from now on, but for those that are still to be
    /// received, and those of copies that are under way.
    pub fn positions(&self) -> BTreeSet<CommitLsn> {
        let stream = [self.stream.through, self.stream.idle, self.cut.position, self.acknowledged];
        let witness = self.stream.witness.map(|witness| witness.end);
        let in_flight = self.cut_in_flight.as_ref().map(|cut| cut.mark.position);
        self.ledger.positions().chain(stream).chain(witness).chain(in_flight).collect()
    }

    /// Whether changes of the table have come that are not submitted.
    pub fn is_touched(&self, table: TableId) -> bool {
        self.open.touched.contains(&table)
    }

    /// One live table's progress.
    pub fn table(&self, table: TableId) -> Option<TableView> {
        self.ledger.view(table)
    }

    /// The live tables.
    pub fn live(&self) -> impl Iterator<Item = TableId> + '_ {
        self.ledger.live()
    }

    /// What a replay of the source must agree with, at start and after each loss of the connection: for
    /// [`super::recovery::ReplayGuard`].
    pub fn held(&self) -> Held {
        self.ledger.held()
    }

    fn received(&mut self, now: Millis, through: CommitLsn, witness: Option<Witness>, touched: usize) {
        let before = self.stream.through;
        InvariantId::Ck2.hold(through >= before, || format!("received through {through} after {before}"));
        let is_new = |w: Witness| w.end > self.ledger.passed.position;
        InvariantId::Ck2.hold(touched == 0 || witness.is_some_and(is_new) || self.mutant.is_some(), || {
            format!("{touched} tables touched, with no new transaction up to {through}")
        });
        InvariantId::Ck2
            .hold(witness.is_none_or(|w| w.end <= through), || format!("a witness beyond {through}"));
        if self.open.touched.is_empty() {
            self.open.since = now;
        }
        self.stream.through = through;
        self.stream.witness = Mark::later(self.stream.witness, witness);
    }

    fn drop_table(&mut self, table: TableId) -> Option<CommitLsn> {
        self.open.touched.remove(&table);
        self.copying.remove(&table);
        if let Some(cut) = &mut self.cut_in_flight {
            cut.named.remove(&table);
        }
        self.ledger.remove(table)
    }

    fn stop_table(&mut self, table: TableId, code: Code, message: String, out: &mut Vec<Action>) {
        let position = self.drop_table(table).unwrap_or(self.cut.position);
        self.unrecorded.insert(table);
        out.push(Action::RecordStop { table, code, message, position });
    }

    fn cut_committed(&mut self, position: CommitLsn, out: &mut Vec<Action>) {
        let begun = self.cut_in_flight.take();
        InvariantId::Ck1.hold(begun.as_ref().is_some_and(|cut| cut.mark.position == position), || {
            format!("a cut at {position} was committed that was not begun")
        });
        let Some(begun) = begun else { return };
        self.ledger.cover(&begun.named);
        self.cut = begun.mark;
        self.acknowledge(begun.mark.position, out);
    }

    fn acknowledge(&mut self, position: CommitLsn, out: &mut Vec<Action>) {
        InvariantId::Ck1.hold(position <= self.cut.position || self.mutant.is_some(), || {
            format!("acknowledging {position}, the cut is {}", self.cut.position)
        });
        if position > self.acknowledged {
            self.acknowledged = position;
            out.push(Action::Acknowledge(position));
        }
    }

    fn table_live(&mut self, table: TableId, progress: TableProgress, out: &mut Vec<Action>) {
        let position = progress.position;
        let cut = self.cut_in_flight.as_ref().map_or(self.cut.position, |cut| cut.mark.position);
        InvariantId::Sn1.hold(position >= cut, || {
            format!("table {table} was copied at {position}, before the cut {cut}")
        });
        self.drop_table(table);
        self.ledger.join(table, progress, self.cut);
        if self.stream.connected && position < self.stream.through {
            out.push(Action::RestartSource);
            self.source_lost();
        }
    }

    fn source_lost(&mut self) {
        self.open = Open::default();
        self.is_sealing = false;
        if self.target.is_some() && self.phase == Phase::Stopping {
            // What was received up to the target may be forgotten with the connection.
            self.phase = Phase::Running;
        }
        self.stream.connected = false;
        self.paused = false;
    }

    fn source_resumed(&mut self, from: CommitLsn, out: &mut Vec<Action>) {
        for table in self.ledger.live() {
            let seen = self.ledger.submitted(table).unwrap_or_default();
            InvariantId::Ck5.hold(from <= seen || self.mutant.is_some(), || {
                format!("the stream begins at {from}, table {table} holds all up to {seen} only")
            });
        }
        self.open = Open::default();
        self.paused = false;
        self.stream = Stream { connected: true, through: from, witness: None, idle: CommitLsn::ZERO };
        // The source knows less than it was told when an acknowledgement was lost, or the last owner died
        // between the cut and it. Without new data no other cut would release the slot.
        self.acknowledged = from;
        self.acknowledge(self.cut.position, out);
    }

    fn decide(&mut self, now: Millis, out: &mut Vec<Action>) {
        self.check_target();
        self.close_unit(now, out);
        self.throttle(out);
        self.begin_cut(now, out);
        if self.is_finished() {
            out.push(Action::Finish);
            self.phase = Phase::Ended;
            return;
        }
        self.set_alarm(now, out);
    }

    /// Reaching the target is a request to stop.
    fn check_target(&mut self) {
        let Some(target) = self.target.map(|t| t.max(self.ledger.reach())) else { return };
        let is_cut = self.cut.position >= target && self.ledger.all_covered();
        let is_received = self.stream.connected && self.stream.received() >= target;
        if self.copying.is_empty() && (is_cut || is_received) {
            self.phase = Phase::Stopping;
        }
    }

    fn is_full(&self) -> bool {
        self.is_sealing
            || self.open.rows >= self.limits.unit_rows
            || self.open.bytes >= self.limits.unit_bytes
    }

    fn may_submit(&self) -> bool {
        let most = if self.limits.one_by_one && !self.is_full() { 1 } else { self.limits.units_in_flight };
        self.ledger.in_flight() < most || self.mutant == Some(Mutant::EndlessUnits)
    }

    fn close_unit(&mut self, now: Millis, out: &mut Vec<Action>) {
        if !self.stream.connected {
            return;
        }
        let is_due = self.is_full()
            || self.phase == Phase::Stopping
            || now >= self.open.since.plus(self.limits.unit_age);
        if !self.open.touched.is_empty() {
            if !is_due || !self.may_submit() {
                return;
            }
            // A unit ends with the last transaction that has changes: a replay is certain to meet it.
            let to = self.stream.witness.map_or(self.stream.through, |witness| witness.end);
            let mark = Mark { position: to, witness: self.witness() };
            let unit = UnitId(self.next_unit);
            self.next_unit += 1;
            let tables = self.ledger.close(unit, mark, &self.open.touched);
            out.push(Action::CloseUnit { unit, to, tables });
            InvariantId::Bd1.hold(
                self.ledger.in_flight() <= self.limits.units_in_flight || self.mutant.is_some(),
                || format!("{} units in flight", self.ledger.in_flight()),
            );
        }
        self.open = Open::default();
        self.is_sealing = false;
        self.ledger.pass(Mark { position: self.stream.received(), witness: self.witness() });
    }

    fn witness(&self) -> Option<Witness> {
        Mark::later(self.ledger.passed.witness, self.stream.witness)
    }

    fn throttle(&mut self, out: &mut Vec<Action>) {
        let too_much = self.is_full() && !self.may_submit();
        let pause = self.stream.connected && (too_much || self.phase == Phase::Stopping);
        if pause != self.paused {
            self.paused = pause;
            // A lost connection is not read from: nothing to say.
            if self.stream.connected {
                out.push(if pause { Action::PauseSource } else { Action::ResumeSource });
            }
        }
    }

    /// Whether a cut at the boundary is allowed and would say more than the last one.
    fn can_cut(&self) -> bool {
        let at = self.ledger.boundary.position;
        let is_new = at > self.cut.position || self.ledger.would_cover_more();
        let is_held = self.copying.values().any(|&hold| match hold {
            Hold::Cuts => true,
            Hold::Beyond(position) => at > position,
        });
        is_new
            && !is_held
            && self.ledger.is_consistent()
            && self.cut_in_flight.is_none()
            && self.unrecorded.is_empty()
    }

    fn begin_cut(&mut self, now: Millis, out: &mut Vec<Action>) {
        if !self.can_cut() {
            return;
        }
        let is_urgent = self.ledger.fresh || self.ledger.would_cover_more() || self.phase == Phase::Stopping;
        if !is_urgent && self.idle_cut_at().is_some_and(|at| now < at) {
            return;
        }
        let mark = self.ledger.boundary;
        InvariantId::Ck1.hold(mark.position >= self.cut.position, || "a cut behind the last one".to_owned());
        let tables = self.ledger.name_tables();
        self.ledger.fresh = false;
        self.cut_begun_at = Some(now);
        self.cut_in_flight = Some(CutInFlight { mark, named: tables.keys().copied().collect() });
        out.push(Action::CommitCut { position: mark.position, witness: mark.witness, tables });
        if self.mutant == Some(Mutant::AcknowledgeEarly) {
            self.acknowledge(self.stream.received(), out);
        }
    }

    fn idle_cut_at(&self) -> Option<Millis> {
        self.cut_begun_at.map(|at| at.plus(self.limits.idle_cut_every))
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Stopping
            && self.open.touched.is_empty()
            && self.ledger.in_flight() == 0
            && self.cut_in_flight.is_none()
            && self.unrecorded.is_empty()
    }

    fn set_alarm(&mut self, now: Millis, out: &mut Vec<Action>) {
        let unit = (!self.open.touched.is_empty() && self.may_submit())
            .then(|| self.open.since.plus(self.limits.unit_age));
        let cut = self.idle_cut_at().filter(|_| self.can_cut());
        let wake = [unit, cut].into_iter().flatten().min().filter(|&at| at > now);
        if wake != self.wake {
            self.wake = wake;
            if let Some(at) = wake {
                out.push(Action::WakeAt(at));
            }
        }
    }
}
