//! The scheduler: chooses the next thing that happens, and what goes wrong.

use crate::driver::Event;
use crate::exec::{Process, Queue, Reply};
use crate::source::{Slot, TABLES};
use crate::store::Kind;
use crate::world::{Broken, Fault, Probe, World};
use crate::writer::{Exit, live};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use strandline::position::{CommitLsn, Lsn};
use strandline::replication::recovery::LossReason;
use strandline::replication::{InvariantId, Millis};

/// What a run came to.
pub struct Outcome {
    pub violation: Option<(Broken, String)>,
    pub reached: BTreeMap<&'static str, u64>,
    pub steps: u64,
    pub digest: u64,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Execute,
    Deliver,
    LoseReply,
    Commit,
    Noise,
    Schema,
    Time,
    Start,
    Kill,
    Sleep,
    Wake,
    EndSessions,
    NoticeDeath,
    Compact,
    ChangeRows,
    CopyAgain,
    Stop,
    Target,
    Tamper,
    SetBack,
}

/// How someone tampers with the source in this run.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Tamper {
    Restore,
    RestoreWithoutSlot,
    RestoreAndRepeat,
    DropSlot,
    RemakeSlot,
    AdvanceSlot,
    DiscardWal,
    Promote,
}

struct Sim {
    world: Rc<RefCell<World>>,
    writers: Vec<(Process, Queue<Event>)>,
    weights: Vec<(Step, u64)>,
    tamper: Option<Tamper>,
    /// Tables may be replaced by older copies.
    may_set_back: bool,
    steps: u64,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs one seed. An assertion of the library counts as a violation of its invariant.
pub fn run(seed: u64, fault: Option<Fault>, trace: bool) -> Outcome {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(!trace);
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| Sim::new(seed, fault, trace).run()));
    QUIET.set(false);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_default();
        let id = InvariantId::ALL.iter().find(|id| text.starts_with(&format!("{id} broken")));
        let broken = id.map_or(Broken::Promise("no panic"), |&id| Broken::Invariant(id));
        Outcome { violation: Some((broken, text)), reached: BTreeMap::new(), steps: 0, digest: 0 }
    })
}

impl Sim {
    fn new(seed: u64, fault: Option<Fault>, trace: bool) -> Self {
        let mut world = World::new(seed, fault, trace);
        let rng = &mut world.rng;
        // How rough this run is: some are calm, so that there is progress to disturb in others.
        let rough = rng.below(4);
        let may_set_back = rng.permille(150);
        let weights = vec![
            (Step::Execute, 400),
            (Step::Deliver, 380),
            (Step::LoseReply, rough * 8),
            (Step::Commit, rng.range(30, 110)),
            (Step::Noise, 10),
            (Step::Schema, 5),
            (Step::Time, 70),
            (Step::Start, 10),
            (Step::Kill, rough * 2),
            (Step::Sleep, rough * 2),
            (Step::Wake, 8),
            (Step::EndSessions, rough),
            (Step::NoticeDeath, 12),
            (Step::Compact, rough * 3),
            (Step::ChangeRows, u64::from(rng.permille(250))),
            (Step::CopyAgain, 4),
            (Step::Stop, 1),
            (Step::Target, 1),
            (Step::Tamper, 2),
            (Step::SetBack, u64::from(may_set_back)),
        ];
        let kinds = [
            Tamper::Restore,
            Tamper::Restore,
            Tamper::RestoreWithoutSlot,
            Tamper::RestoreAndRepeat,
            Tamper::RestoreAndRepeat,
            Tamper::DropSlot,
            Tamper::RemakeSlot,
            Tamper::AdvanceSlot,
            Tamper::DiscardWal,
            Tamper::Promote,
        ];
        let tamper = if rng.permille(350) { rng.pick(&kinds).copied() } else { None };
        let world = Rc::new(RefCell::new(world));
        Sim { world, writers: Vec::new(), weights, tamper, may_set_back, steps: 0 }
    }

    fn run(mut self) -> Outcome {
        let rounds = 1_500 + self.below(1_500);
        for _ in 0..rounds {
            let step = self.choose();
            self.step(step);
            // After a loss nothing goes on; a few writers more may find that out.
            let is_lost = self.world.borrow().ended_by_loss && self.writers.len() > 12;
            if self.is_over() || is_lost {
                break;
            }
        }
        self.come_to_rest();
        let mut world = self.world.borrow_mut();
        let digest = world.rng.next() ^ (world.control.len() as u64) << 32 ^ world.now.0;
        let reached = std::mem::take(&mut world.reached);
        Outcome { violation: world.violation.take(), reached, steps: self.steps, digest }
    }

    fn below(&self, n: u64) -> u64 {
        self.world.borrow_mut().rng.below(n)
    }

    fn is_over(&self) -> bool {
        self.world.borrow().violation.is_some()
    }

    fn choose(&self) -> Step {
        let total = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut at = self.below(total);
        for &(step, weight) in &self.weights {
            if at < weight {
                return step;
            }
            at -= weight;
        }
        Step::Execute
    }

    fn step(&mut self, step: Step) {
        self.steps += 1;
        match step {
            Step::Execute => self.execute(),
            Step::Deliver => self.deliver(),
            Step::LoseReply => self.lose_reply(),
            Step::Commit => self.with_source(|source, rng| source.commit(rng)),
            Step::Noise => self.with_source(|source, rng| source.write_noise(rng)),
            Step::Schema => self.with_source(|source, rng| source.change_schema(rng)),
            Step::Time => self.pass_time(40),
            Step::Start => self.start_some(),
            Step::Kill => self.kill_one(),
            Step::Sleep => self.sleep_one(),
            Step::Wake => self.wake_one(),
            Step::EndSessions => {
                self.world.borrow().log(|| "all connections end".to_owned());
                self.world.borrow_mut().source.end_sessions();
            }
            Step::NoticeDeath => self.notice_death(),
            Step::Compact | Step::ChangeRows => {
                let table = TABLES[self.below(3) as usize];
                self.world.borrow_mut().foreign_commit(table, matches!(step, Step::ChangeRows));
            }
            Step::CopyAgain => self.copy_again(),
            Step::Stop => self.tell_one(Event::Stop),
            Step::Target => self.tell_one(Event::Target),
            Step::Tamper => self.tamper(),
            Step::SetBack => self.set_back(),
        }
    }

    fn with_source(&self, act: impl FnOnce(&mut crate::source::Source, &mut crate::rng::Rng)) {
        let world = &mut *self.world.borrow_mut();
        act(&mut world.source, &mut world.rng);
    }

    /// A request takes effect.
    fn execute(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let open: Vec<usize> =
            (0..world.requests.len()).filter(|&i| world.requests[i].reply.is_none()).collect();
        let Some(&index) = world.rng.pick(&open) else { return };
        let request = &world.requests[index];
        let (writer, orphan, call) = (request.writer, request.orphan, request.call.clone());
        let reply = world.execute(writer, orphan, &call);
        if orphan {
            world.requests.remove(index);
        } else {
            world.requests[index].reply = Some(reply);
        }
    }

    fn is_awake(&self, writer: usize) -> bool {
        self.writers.get(writer).is_some_and(|(process, _)| process.is_running() && !process.asleep)
    }

    /// An answer arrives.
    fn deliver(&mut self) {
        let ready: Vec<usize> = {
            let requests = &self.world.borrow().requests;
            let is_ready = |i: &usize| requests[*i].reply.is_some() && self.is_awake(requests[*i].writer);
            (0..requests.len()).filter(is_ready).collect()
        };
        let Some(&index) = self.world.borrow_mut().rng.pick(&ready) else { return };
        let mut request = self.world.borrow_mut().requests.remove(index);
        *request.cell.borrow_mut() = request.reply.take();
        self.poll(request.writer);
    }

    /// The writer is told that it will never know; what it asked for may still happen.
    fn lose_reply(&mut self) {
        let waiting: Vec<usize> = {
            let requests = &self.world.borrow().requests;
            let is_waiting = |i: &usize| {
                let request = &requests[*i];
                !request.orphan && request.call.is_target() && self.is_awake(request.writer)
            };
            (0..requests.len()).filter(is_waiting).collect()
        };
        let Some(&index) = self.world.borrow_mut().rng.pick(&waiting) else { return };
        let writer = {
            let world = &mut *self.world.borrow_mut();
            let request = &mut world.requests[index];
            *request.cell.borrow_mut() = Some(Reply::Unknown);
            request.orphan = true;
            let (writer, is_late) = (request.writer, request.reply.is_none() && request.call.is_put());
            if !is_late {
                world.requests.remove(index);
            }
            writer
        };
        self.poll(writer);
    }

    fn poll(&mut self, writer: usize) {
        let (process, _) = &mut self.writers[writer];
        if !process.run() {
            self.bury(writer);
        }
    }

    fn pass_time(&mut self, most: u64) {
        let due: Vec<usize> = {
            let world = &mut *self.world.borrow_mut();
            world.now = Millis(world.now.0 + world.rng.below(most));
            let now = world.now;
            let is_due = |probe: &Probe| probe.wake.is_some_and(|at| at <= now);
            (0..world.probes.len()).filter(|&i| is_due(&world.probes[i])).collect()
        };
        for writer in due {
            if self.is_awake(writer) {
                self.world.borrow_mut().probes[writer].wake = None;
                self.tell(writer, Event::Tick);
            }
        }
    }

    fn tell(&mut self, writer: usize, event: Event) {
        self.writers[writer].1.push(event);
        self.poll(writer);
    }

    fn streaming(&self) -> Vec<usize> {
        let is_streaming = |i: &usize| self.is_awake(*i) && self.world.borrow().probes[*i].view.is_some();
        (0..self.writers.len()).filter(is_streaming).collect()
    }

    fn tell_one(&mut self, event: Event) {
        let streaming = self.streaming();
        let one = self.world.borrow_mut().rng.pick(&streaming).copied();
        if let Some(writer) = one {
            self.tell(writer, event);
        }
    }

    fn copy_again(&mut self) {
        let mut can = Vec::new();
        for writer in self.streaming() {
            let tables = self.world.borrow().probes[writer].can_copy_again.clone();
            can.extend(tables.into_iter().map(|table| (writer, table)));
        }
        let one = self.world.borrow_mut().rng.pick(&can).copied();
        if let Some((writer, table)) = one {
            self.tell(writer, Event::CopyAgain(table));
        }
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.writers.len()).filter(|&i| self.writers[i].0.is_running()).collect()
    }

    /// One writer at least, three at most.
    fn start_some(&mut self) {
        let alive = self.alive();
        let all_asleep = !alive.iter().any(|&writer| self.is_awake(writer));
        if (all_asleep && alive.len() < 5) || (alive.len() < 3 && self.below(6) == 0) {
            self.start();
        }
    }

    fn start(&mut self) {
        let id = self.writers.len();
        self.world.borrow_mut().probes.push(Probe::default());
        self.world.borrow().log(|| format!("w{id} starts"));
        let events = Queue::new();
        let main = {
            let events = events.clone();
            move |ctx| live(ctx, events)
        };
        let process = Process::start(id, Rc::clone(&self.world), main);
        self.writers.push((process, events));
    }

    fn kill_one(&mut self) {
        let alive = self.alive();
        let Some(writer) = self.world.borrow_mut().rng.pick(&alive).copied() else { return };
        self.world.borrow().log(|| format!("w{writer} dies"));
        self.world.borrow_mut().note_death(writer);
        self.writers[writer].0.kill();
        self.bury(writer);
        if self.may_set_back && self.below(3) == 0 {
            self.set_back();
        }
        if self.tamper == Some(Tamper::RestoreAndRepeat) {
            self.tamper();
        }
    }

    /// What a writer leaves: puts that may still arrive, and connections until the server notices.
    fn bury(&mut self, writer: usize) {
        let world = &mut *self.world.borrow_mut();
        let mut requests = std::mem::take(&mut world.requests);
        requests.retain_mut(|request| {
            if request.writer != writer || request.orphan {
                return true;
            }
            request.orphan = true;
            request.reply.is_none() && request.call.is_put() && world.rng.permille(600)
        });
        world.requests = requests;
        world.probes[writer].wake = None;
    }

    fn notice_death(&mut self) {
        let world = &mut *self.world.borrow_mut();
        let is_dead = |writer: usize| !self.writers[writer].0.is_running();
        let dead: Vec<u64> =
            world.session_owners.iter().filter(|(_, writer)| is_dead(**writer)).map(|(id, _)| *id).collect();
        if let Some(&session) = world.rng.pick(&dead) {
            world.source.end_session(session);
            world.session_owners.remove(&session);
        }
    }

    fn sleep_one(&mut self) {
        let mut awake: Vec<usize> = self.alive().into_iter().filter(|&i| self.is_awake(i)).collect();
        if self.below(2) == 0 {
            // Within a takeover more than elsewhere: two writers then meet in it.
            awake.retain(|&i| self.world.borrow().probes[i].epoch.is_none());
        }
        let Some(writer) = self.world.borrow_mut().rng.pick(&awake).copied() else { return };
        self.world.borrow().log(|| format!("w{writer} falls asleep"));
        self.writers[writer].0.asleep = true;
        // The server gives up on a client that is silent; the client does not know.
        let world = &mut *self.world.borrow_mut();
        if world.rng.permille(700) {
            let sessions = world.session_owners.iter().filter(|(_, owner)| **owner == writer);
            let sessions: Vec<u64> = sessions.map(|(id, _)| *id).collect();
            sessions.into_iter().for_each(|id| world.source.end_session(id));
        }
    }

    fn wake_one(&mut self) {
        let asleep: Vec<usize> = self.alive().into_iter().filter(|&i| self.writers[i].0.asleep).collect();
        let Some(writer) = self.world.borrow_mut().rng.pick(&asleep).copied() else { return };
        self.wake(writer);
    }

    fn wake(&mut self, writer: usize) {
        self.writers[writer].0.asleep = false;
        let world = &mut *self.world.borrow_mut();
        let newest = world.last_record().epoch;
        let probe = &mut world.probes[writer];
        probe.fenced_in_sleep |= probe.epoch.is_some_and(|epoch| epoch < newest);
        world.log(|| format!("w{writer} wakes up"));
    }

    fn tamper(&mut self) {
        let Some(kind) = self.tamper else { return };
        let alive = self.alive().len();
        let world = &mut *self.world.borrow_mut();
        if self.steps < 300 || world.tampered || !world.may_tamper() {
            return;
        }
        if kind == Tamper::RestoreAndRepeat && (alive > 0 || world.is_anything_ahead()) {
            return;
        }
        world.log(|| format!("the source is tampered with: {kind:?}"));
        world.tampered = true;
        world.tamper_source(kind);
    }

    /// Somebody puts an older copy of a table in its place, while nobody writes.
    fn set_back(&mut self) {
        if !self.alive().is_empty() {
            return;
        }
        let world = &mut *self.world.borrow_mut();
        let table = TABLES[world.rng.below(3) as usize];
        let Some(target) = world.tables.get_mut(&table) else { return };
        target.is_set_back = true;
        let log = &mut target.log;
        let back = if world.rng.permille(500) { 6 } else { log.len() as u64 };
        let keep = log.len() - world.rng.below(back.min(log.len() as u64)) as usize;
        log.truncate(keep);
        // What was on its way to the old directory does not arrive in the new one.
        world.requests.retain(|request| !request.orphan);
        world.set_back.insert(table);
        world.log(|| format!("table {table} is set back to {} versions", keep));
    }

    /// No more faults: what was promised must come true in bounded time.
    fn come_to_rest(&mut self) {
        for writer in self.alive() {
            self.wake(writer);
        }
        for round in 0..30_000 {
            if self.is_over() || (round % 32 == 0 && self.world.borrow().is_at_rest()) {
                return;
            }
            if self.alive().is_empty() {
                if self.world.borrow().ended_by_loss {
                    return;
                }
                self.start();
            }
            let calm =
                [Step::Execute, Step::Deliver, Step::Execute, Step::Deliver, Step::Time, Step::NoticeDeath];
            let step = calm[self.below(calm.len() as u64) as usize];
            self.step(step);
        }
        let text = format!("{} writers alive", self.alive().len());
        self.world.borrow_mut().violate(Broken::Promise("it comes to rest"), text);
    }
}

impl World {
    /// Which of the situations a death falls into.
    fn note_death(&mut self, writer: usize) {
        let probe = self.probes[writer].clone();
        if probe.copies > 0 {
            self.reach("a restart inside a snapshot");
        }
        let record = Rc::clone(self.last_record());
        if probe.epoch != Some(record.epoch) {
            return;
        }
        let holds = |id, to| self.tables[&id].last().position.is_some_and(|own: CommitLsn| own >= to);
        let (mut between, mut before_cut) = (false, false);
        for (to, tables) in probe.units.iter().filter(|(to, _)| *to > record.cut_position()) {
            let landed = tables.iter().filter(|id| holds(**id, *to)).count();
            between |= landed > 0 && landed < tables.len();
            before_cut |= landed == tables.len();
        }
        if between {
            self.reach("death between two tables' commits");
        }
        if before_cut {
            self.reach("death after the commit and before the cut");
        }
        let confirmed = self.source.slot.as_ref().map(|slot| slot.confirmed);
        if probe.view.is_some() && confirmed.is_some_and(|confirmed| confirmed < record.cut_position()) {
            self.reach("death after the cut and before the acknowledgement");
        }
    }

    pub fn writer_ended(&mut self, writer: usize, end: &Exit) {
        match end {
            Exit::Fenced => {
                if self.probes[writer].fenced_in_sleep {
                    self.reach("a fenced writer wakes up");
                }
            }
            Exit::Lost(reason) => {
                self.ended_by_loss = true;
                let situation = match reason {
                    LossReason::ForeignHistory { .. } => "a foreign history is refused",
                    LossReason::LogEndsBefore { .. } => "a log that ends too early is refused",
                    _ => "a moved or missing slot is refused",
                };
                self.reach(situation);
                if !self.tampered {
                    self.violate(Broken::Promise("no false alarm"), format!("{reason:?}"));
                }
            }
            Exit::Finished => {}
        }
        // A process that ends closes its connections.
        let mine: Vec<u64> =
            self.session_owners.iter().filter(|(_, owner)| **owner == writer).map(|(id, _)| *id).collect();
        for session in mine {
            self.source.end_session(session);
            self.session_owners.remove(&session);
        }
    }

    /// A backup from before a copy whose position no cut has reached cannot be told from the present:
    /// there is no transaction to compare. That window is a known limit; it is kept out of here.
    fn may_tamper(&self) -> bool {
        let cut = self.last_record().cut.clone();
        let is_uncovered = |id| {
            let last = self.tables[id].last();
            let named = cut.as_ref().is_some_and(|cut| cut.tables.contains_key(id));
            last.position.is_some() && last.copied_at == last.position && !named
        };
        let copies_put = self.requests.iter().any(|request| {
            matches!(&request.call, crate::exec::Call::PutTable { version, .. } if matches!(version.kind, Kind::Copy))
        });
        !TABLES.iter().any(is_uncovered)
            && !self.source.has_snapshots()
            && !copies_put
            && self.probes.iter().all(|probe| probe.copies == 0)
    }

    /// A table that is ahead of the cut carries the end of its last transaction and no more: when another
    /// transaction ends at that same place, nothing tells them apart. Known, and kept out of here.
    fn is_anything_ahead(&self) -> bool {
        let cut = self.last_record().cut_position();
        let is_ahead = |id| self.tables[id].last().position.is_some_and(|own| own > cut);
        TABLES.iter().any(is_ahead) || self.requests.iter().any(|request| request.call.is_put())
    }

    /// Where the backup was taken: anywhere, or shortly after the last transaction that is covered.
    fn choose_fork(&mut self) -> Lsn {
        let now = self.source.flushed.raw();
        let witness = self.last_record().cut.as_ref().and_then(|cut| cut.witness);
        match witness.filter(|_| self.rng.permille(400)) {
            Some(witness) => {
                let after = self.rng.below(1_500);
                Lsn::new((witness.end.lsn().raw() + after).min(now))
            }
            None => {
                let most = now.saturating_sub(8_000).max(1);
                let most = if self.rng.permille(500) { most } else { most.min(20_000) };
                Lsn::new(now - self.rng.below(most))
            }
        }
    }

    fn tamper_source(&mut self, kind: Tamper) {
        self.source.end_sessions();
        match kind {
            Tamper::Restore | Tamper::RestoreWithoutSlot | Tamper::RestoreAndRepeat => {
                let fork = self.choose_fork();
                let slot = self.source.slot.as_ref().map(|slot| slot.confirmed);
                let is_later = |at: &CommitLsn| fork >= at.lsn();
                let keeps_slot = self.source.slots_made_at.iter().any(is_later);
                let slot = slot
                    .filter(|_| kind != Tamper::RestoreWithoutSlot && keeps_slot)
                    .map(|confirmed| confirmed.min(CommitLsn::of_keepalive(fork)));
                let repeats = kind == Tamper::RestoreAndRepeat;
                self.source.restore(fork, slot, repeats, &mut self.rng);
            }
            Tamper::DropSlot => self.source.slot = None,
            Tamper::RemakeSlot => {
                self.source.slot = None;
                self.source.create_slot(&mut self.rng);
            }
            Tamper::AdvanceSlot => {
                let flushed = CommitLsn::of_keepalive(self.source.flushed);
                if let Some(Slot { confirmed, .. }) = &mut self.source.slot {
                    *confirmed = flushed;
                    // Where nothing was held yet this does no harm: the slot begins here.
                    self.source.slots_made_at.push(flushed);
                }
            }
            Tamper::DiscardWal => {
                if let Some(slot) = &mut self.source.slot {
                    slot.wal_lost = true;
                }
            }
            Tamper::Promote => self.source.lineage.timeline += 1,
        }
    }

    /// Everything of the source is in the tables, in a cut, acknowledged.
    fn is_at_rest(&self) -> bool {
        let record = self.last_record();
        let Some(cut) = &record.cut else { return false };
        let last = self.source.now().txns.last().map_or(CommitLsn::ZERO, |txn| txn.witness.end);
        let is_same = |id| {
            // A foreign change is noticed by the next commit or start, and there may be none.
            let ours = self.tables[id]
                .log
                .iter()
                .rev()
                .find(|v| !matches!(v.kind, Kind::ForeignData | Kind::Foreign));
            let Some(table) = ours else { return false };
            let is_out = record.stopped.contains_key(id);
            is_out || (*table.rows == *self.source.now().state(*id, last) && cut.tables.contains_key(id))
        };
        let confirmed = self.source.slot.as_ref().map(|slot| slot.confirmed);
        cut.position >= last && confirmed == Some(cut.position) && TABLES.iter().all(is_same)
    }
}
