//! A writer up to the stream: the takeover in its one order, and the committers of tables and control.

use crate::driver::{Driver, Event};
use crate::exec::{Call, Ctx, Queue, Reply};
use crate::source::{Msg, Op, Rows, TABLES};
use crate::store::{Applied, Cut, Kind, Record, Table, Version, What};
use crate::world::{Broken, Fault};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use strandline::error::{Code, codes};
use strandline::position::landing::{Found, Landing, Planned, judge};
use strandline::position::{CommitLsn, Epoch, Interval, Lineage, ServerPoint};
use strandline::replication::recovery::{
    CutFound, Held, LossReason, ReplayGuard, SlotView, SourceCheck, TableFound, TableMismatch, TableStart,
    check_source, judge_table,
};
use strandline::replication::{Coordinator, Resume, UnitId};
use strandline::schema::{TableId, TableName};

/// How a writer ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Exit {
    Fenced,
    Lost(LossReason),
    Finished,
}

/// Why a commit did not happen.
pub enum Refused {
    Fenced(Epoch),
    Stop(Code, &'static str),
}

pub fn name(table: TableId) -> TableName {
    TableName::new("public", format!("t{table}"))
}

fn fault(ctx: &Ctx) -> Option<Fault> {
    ctx.world.borrow().fault
}

pub async fn read_table(ctx: &Ctx, table: TableId) -> Table {
    loop {
        if let Reply::Table(found) = ctx.call(Call::ReadTable(table)).await {
            return found;
        }
    }
}

async fn read_control(ctx: &Ctx) -> Vec<Rc<Record>> {
    loop {
        if let Reply::Control(log) = ctx.call(Call::ReadControl).await {
            return log;
        }
    }
}

pub async fn info(ctx: &Ctx) -> (ServerPoint, Option<SlotView>) {
    loop {
        if let Reply::Info(server, slot) = ctx.call(Call::Info).await {
            return (server, slot);
        }
    }
}

/// First of all: the slot, active in our session. It is made only where nothing was ever recorded.
pub async fn hold_source(ctx: &Ctx) -> Result<u64, LossReason> {
    loop {
        if info(ctx).await.1.is_none() {
            let is_recorded = fault(ctx) != Some(Fault::TrustSource) && has_record(ctx).await;
            // Another writer may have made the slot and the record since we looked: look again.
            match is_recorded {
                true if info(ctx).await.1.is_none() => return Err(LossReason::SlotMissing),
                true => {}
                false => drop(ctx.call(Call::CreateSlot).await),
            }
        }
        match ctx.call(Call::Acquire).await {
            Reply::Session(Some(Some(session))) => return Ok(session),
            _ => ctx.call(Call::Nap).await,
        };
    }
}

async fn has_record(ctx: &Ctx) -> bool {
    let control = read_control(ctx).await;
    if control.last().is_some_and(|record| record.cut.is_some()) {
        return true;
    }
    for id in TABLES {
        if read_table(ctx, id).await.last().position.is_some() {
            return true;
        }
    }
    false
}

/// Second: the epoch in the control table.
async fn raise_epoch(ctx: &Ctx, lineage: &Lineage) -> Result<(Vec<Rc<Record>>, Epoch), Refused> {
    let owner = ctx.random();
    loop {
        let mut log = read_control(ctx).await;
        let Some(last) = log.last() else { continue };
        let mut mine = (**last).clone();
        mine.what = What::Epoch;
        mine.epoch = last.epoch.next();
        mine.owner = owner;
        mine.lineage.get_or_insert_with(|| lineage.clone());
        let mine = Rc::new(mine);
        let at = log.len();
        loop {
            let put = ctx.call(Call::PutControl { at, record: Rc::clone(&mine) }).await;
            if matches!(put, Reply::Put(true)) {
                log.push(Rc::clone(&mine));
                return Ok((log, mine.epoch));
            }
            let now = read_control(ctx).await;
            match now.get(at) {
                Some(stands) if stands.owner == owner => match now.last() {
                    Some(newest) if newest.epoch > mine.epoch => return Err(Refused::Fenced(newest.epoch)),
                    _ => return Ok((now, mine.epoch)),
                },
                Some(_) => break,
                None => {}
            }
        }
    }
}

/// Third: the epoch in a table, and only then its state.
async fn open_table(ctx: &Ctx, id: TableId, epoch: Epoch) -> Result<Table, Refused> {
    loop {
        let found = read_table(ctx, id).await;
        match found.last().epoch {
            Some(other) if other > epoch => return Err(Refused::Fenced(other)),
            Some(other) if other == epoch => return Ok(found),
            _ => {}
        }
        let mut version = found.last().next(Kind::Epoch);
        version.epoch = Some(epoch);
        let at = found.version() + 1;
        ctx.call(Call::PutTable { table: id, at, version: Rc::new(version) }).await;
    }
}

/// Commits newer than `base` that are not ours and changed rows.
fn has_foreign_rows(table: &Table, base: i64) -> bool {
    let newer = table.log.iter().enumerate().skip_while(|(at, _)| (*at as i64) <= base);
    newer.into_iter().any(|(_, version)| matches!(version.kind, Kind::ForeignData))
}

fn judge_start(id: TableId, table: &Table, cut: Option<&Cut>) -> Result<TableStart, Code> {
    let entry = cut.and_then(|cut| cut.tables.get(&id));
    let found = TableFound {
        name: name(id),
        target_id: table.target_id.clone(),
        version: table.version(),
        position: table.last().position,
        copied_at: table.last().copied_at,
        whole_from: None,
    };
    let start = judge_table(&found, cut.map(|cut| CutFound { position: cut.position, entry }));
    let base = entry.map_or(0, |entry| entry.version).max(table.last_copy().unwrap_or(0));
    let is_live = matches!(start, TableStart::Live(_));
    if is_live && has_foreign_rows(table, base) { Err(codes::TG012) } else { Ok(start) }
}

/// Reads the replay through the guard until all that we hold was met. `Ok(false)`: the session died.
pub async fn check_replay(ctx: &Ctx, session: u64, held: Held) -> Result<bool, LossReason> {
    let Reply::Stream(Some(from)) = ctx.call(Call::StartStream(session)).await else { return Ok(false) };
    let mut guard = ReplayGuard::new(held, from);
    let mut changes = 0;
    let mut within = None;
    while !guard.is_satisfied() {
        let Reply::Messages(Some(messages)) = ctx.call(Call::Read(session)).await else { return Ok(false) };
        for message in messages {
            match message {
                Msg::Begin { commit_start } => (changes, within) = (0, Some(commit_start)),
                Msg::Row { .. } => changes += 1,
                Msg::Commit { witness } => {
                    if let Some(start) = within.take().filter(|_| changes > 0) {
                        guard.transaction(start, witness)?;
                    }
                }
                Msg::Keepalive { end } if within.is_none() => guard.keepalive(end)?,
                Msg::Keepalive { .. } | Msg::Relation { .. } => {}
            }
        }
    }
    Ok(true)
}

/// What a connection is checked against, at the start and after each loss.
#[derive(Clone)]
pub struct Connect {
    pub epoch: Epoch,
    pub recorded: Option<Lineage>,
    pub cut: CommitLsn,
    pub tables: Vec<CommitLsn>,
    pub held: Held,
}

impl Connect {
    /// Where the stream begins; `None` when the session died.
    pub async fn check(&self, ctx: &Ctx, session: u64) -> Result<Option<CommitLsn>, Exit> {
        if fault(ctx) != Some(Fault::TrustSource)
            && let Err(reason) = self.compare(ctx, session).await
        {
            return Err(self.explain(ctx, reason).await);
        }
        match ctx.call(Call::StartStream(session)).await {
            Reply::Stream(from) => Ok(from),
            _ => Ok(None),
        }
    }

    async fn compare(&self, ctx: &Ctx, session: u64) -> Result<bool, LossReason> {
        let (server, slot) = info(ctx).await;
        let check = SourceCheck {
            recorded: self.recorded.as_ref(),
            cut: self.cut,
            tables: &self.tables,
            server: &server,
            slot: slot.as_ref(),
        };
        check_source(check)?;
        check_replay(ctx, session, self.held.clone()).await
    }

    /// A newer owner moves the slot, too: before a loss is reported, the epoch is looked at.
    pub async fn explain(&self, ctx: &Ctx, reason: LossReason) -> Exit {
        let newest = read_control(ctx).await.last().map(|record| record.epoch);
        if newest > Some(self.epoch) { Exit::Fenced } else { Exit::Lost(reason) }
    }
}

/// The committer of one table: its queue, and whether it is done with what it had begun.
#[derive(Clone)]
pub struct Lane {
    pub queue: Queue<Job>,
    pub done: Rc<Cell<bool>>,
}

/// A table's share of a unit.
pub struct Job {
    pub unit: UnitId,
    pub interval: Interval,
    pub rows: Rc<Vec<Applied>>,
}

impl Lane {
    pub fn open(events: &Queue<Event>, mut committer: Committer) -> Lane {
        let lane = Lane { queue: Queue::new(), done: Rc::default() };
        let (ctx, events, own) = (committer.ctx.clone(), events.clone(), lane.clone());
        ctx.spawn(async move {
            let id = committer.id;
            while let Some(job) = own.queue.pop().await {
                match committer.commit(&job).await {
                    Ok(version) => events.push(Event::Committed { unit: job.unit, table: id, version }),
                    Err(Refused::Fenced(by)) => events.push(Event::Fenced(by)),
                    Err(Refused::Stop(code, why)) => {
                        events.push(Event::Failed { table: id, code, why });
                        break;
                    }
                }
            }
            own.done.set(true);
        });
        lane
    }
}

pub struct Committer {
    pub ctx: Ctx,
    pub id: TableId,
    pub epoch: Epoch,
    /// The version that the next unit is planned on.
    pub base: i64,
    pub last: Rc<Version>,
}

impl Committer {
    fn plan(&self, job: &Job) -> Version {
        let mut rows = (*self.last.rows).clone();
        if fault(&self.ctx) == Some(Fault::FirstWins) {
            apply_first_wins(&job.rows, &mut rows);
        } else {
            job.rows.iter().for_each(|row| row.op.apply(&mut rows));
        }
        let kind = Kind::Data { interval: job.interval, rows: Rc::clone(&job.rows) };
        Version {
            epoch: Some(self.epoch),
            position: Some(job.interval.to),
            rows: Rc::new(rows),
            branch: job.rows.last().map_or(self.last.branch, |row| row.branch),
            ..self.last.next(kind)
        }
    }

    async fn commit(&mut self, job: &Job) -> Result<i64, Refused> {
        loop {
            let planned = Rc::new(self.plan(job));
            if let Some(version) = self.put(planned, job.interval, true).await? {
                return Ok(version);
            }
        }
    }

    /// Puts one version; `None`: plan again on what is there now.
    pub async fn put(
        &mut self,
        version: Rc<Version>,
        interval: Interval,
        keep_foreign: bool,
    ) -> Result<Option<i64>, Refused> {
        loop {
            let at = self.base + 1;
            let call = Call::PutTable { table: self.id, at, version: Rc::clone(&version) };
            let reply = self.ctx.call(call).await;
            if matches!(reply, Reply::Put(true)) {
                (self.base, self.last) = (at, version);
                return Ok(Some(at));
            }
            let is_unknown = matches!(reply, Reply::Unknown);
            let table = read_table(&self.ctx, self.id).await;
            let planned = Planned { version: self.base, epoch: self.epoch, interval };
            let last = table.last();
            let found = Found { version: table.version(), epoch: last.epoch, position: last.position };
            match judge(planned, found) {
                Landing::Landed => {
                    self.reach_if(is_unknown, "a lost reply whose commit had landed");
                    (self.base, self.last) = (at, version);
                    return Ok(Some(at));
                }
                Landing::PutAgain => self.reach_if(is_unknown, "a lost reply, the same bytes put again"),
                Landing::Fenced { .. } if fault(&self.ctx) == Some(Fault::IgnoreFence) => {
                    (self.base, self.last) = (table.version(), Rc::clone(last));
                    return Ok(None);
                }
                Landing::Fenced { by } => return Err(Refused::Fenced(by)),
                Landing::Foreign if keep_foreign && has_foreign_rows(&table, self.base) => {
                    self.reach_if(true, "a foreign change of rows stops a table");
                    return Err(Refused::Stop(codes::TG012, "rows were changed"));
                }
                Landing::Foreign => {
                    (self.base, self.last) = (table.version(), Rc::clone(last));
                    return Ok(None);
                }
                Landing::Impossible => panic!("RT001 table {}: {planned:?} {found:?}", self.id),
            }
        }
    }

    fn reach_if(&self, truth: bool, situation: &'static str) {
        if truth {
            self.ctx.world.borrow_mut().reach(situation);
        }
    }
}

/// What [`Fault::FirstWins`] does.
fn apply_first_wins(changes: &[Applied], rows: &mut Rows) {
    let mut met = std::collections::BTreeSet::new();
    for change in changes {
        let key = match change.op {
            Op::Put(key, _) | Op::Move(_, key, _) | Op::Delete(key) => Some(key),
            Op::Truncate => None,
        };
        if key.is_none_or(|key| met.insert(key)) {
            change.op.apply(rows);
        }
    }
}

/// A change to the control table.
pub enum Note {
    Cut(Cut),
    Stop(TableId, Code),
    Resume(TableId),
}

/// The committer of the control table. It takes what waits in any order: where the order matters, the
/// coordinator must wait itself.
pub fn open_control(ctx: &Ctx, events: &Queue<Event>, mut log: Vec<Rc<Record>>, epoch: Epoch) -> Queue<Note> {
    let queue: Queue<Note> = Queue::new();
    let (ctx, events, notes) = (ctx.clone(), events.clone(), queue.clone());
    ctx.clone().spawn(async move {
        while let Some(note) = notes.pop_any(&ctx).await {
            let Some(last) = log.last() else { return };
            let mut next = (**last).clone();
            let done = match note {
                Note::Cut(cut) => {
                    let position = cut.position;
                    (next.what, next.cut) = (What::Cut, Some(Rc::new(cut)));
                    Event::CutDone(position)
                }
                Note::Stop(table, code) => {
                    next.stopped.insert(table, code.id);
                    next.what = What::Stop(table);
                    Event::StopDone(table)
                }
                Note::Resume(table) => {
                    next.stopped.remove(&table);
                    next.what = What::Resume(table);
                    Event::ResumeDone(table)
                }
            };
            match put_record(&ctx, &mut log, Rc::new(next), epoch).await {
                Ok(()) => events.push(done),
                Err(by) => events.push(Event::Fenced(by)),
            }
        }
    });
    queue
}

async fn put_record(
    ctx: &Ctx,
    log: &mut Vec<Rc<Record>>,
    next: Rc<Record>,
    epoch: Epoch,
) -> Result<(), Epoch> {
    let at = log.len();
    loop {
        let put = ctx.call(Call::PutControl { at, record: Rc::clone(&next) }).await;
        if matches!(put, Reply::Put(true)) {
            log.push(next);
            return Ok(());
        }
        let now = read_control(ctx).await;
        match (now.get(at), now.last()) {
            (Some(stands), _) if *stands == next => {
                *log = now;
                log.truncate(at + 1);
                return Ok(());
            }
            (Some(_), Some(newest)) if newest.epoch > epoch => return Err(newest.epoch),
            (Some(stands), _) => panic!("RT001 control: {stands:?} stands where {next:?} was to go"),
            (None, _) => {}
        }
    }
}

/// The takeover; answers the driver that streams.
pub async fn take_over(ctx: &Ctx, events: &Queue<Event>) -> Result<Driver, Exit> {
    let session = hold_source(ctx).await.map_err(Exit::Lost)?;
    let lineage = info(ctx).await.0.lineage;
    let fenced = |_| Exit::Fenced;
    let (control, epoch) = raise_epoch(ctx, &lineage).await.map_err(fenced)?;
    ctx.world.borrow_mut().probes[ctx.id].epoch = Some(epoch);
    let mut tables = BTreeMap::new();
    for id in TABLES {
        tables.insert(id, open_table(ctx, id, epoch).await.map_err(fenced)?);
    }
    let record = control.last().cloned().unwrap_or_else(|| Rc::new(Record::new()));
    let cut = record.cut.clone();
    ctx.log(|| format!("epoch {epoch}, cut {:?}", cut.as_ref().map(|cut| cut.position)));
    let mut resume = Resume::default();
    if let Some(cut) = &cut {
        (resume.cut, resume.witness) = (cut.position, cut.witness);
    }
    let (mut copy, mut stop) = (Vec::new(), Vec::new());
    for (&id, table) in tables.iter().filter(|(id, _)| !record.stopped.contains_key(id)) {
        match judge_start(id, table, cut.as_deref()) {
            Ok(TableStart::Live(progress)) => {
                if progress.covered && progress.position > resume.cut {
                    ctx.world.borrow_mut().reach("a table is ahead of the cut at start");
                }
                resume.tables.insert(id, progress);
            }
            Ok(TableStart::Copy) => copy.push(id),
            Ok(TableStart::Stop(mismatch)) => {
                let mut world = ctx.world.borrow_mut();
                world.reach("a table that was set back is refused");
                let is_set_back = world.set_back.contains(&id);
                if mismatch == TableMismatch::LeftOut && !world.tampered && !is_set_back {
                    let text = format!("table {id}");
                    world.violate(Broken::Promise("a cut leaves out no table that goes on"), text);
                }
                stop.push((id, mismatch.code()));
            }
            Err(code) => stop.push((id, code)),
        }
    }
    let (limits, broken) = (ctx.world.borrow().limits, fault(ctx));
    let own: Vec<CommitLsn> = resume.tables.values().map(|progress| progress.position).collect();
    let at = resume.cut;
    let coordinator = match broken {
        Some(Fault::Library(mutant)) => Coordinator::resume_broken(resume, limits, mutant),
        _ => Coordinator::resume(resume, limits),
    };
    let connect =
        Connect { epoch, recorded: record.lineage.clone(), cut: at, tables: own, held: coordinator.held() };
    let from = connect.check(ctx, session).await?;
    let stopped = record.stopped.keys().copied().collect();
    let notes = open_control(ctx, events, control, epoch);
    let mut driver = Driver::new(ctx.clone(), events.clone(), coordinator, notes, connect, stopped);
    driver.begin(session, from, &tables, &copy, &stop);
    Ok(driver)
}

/// A writer's whole life.
pub async fn live(ctx: Ctx, events: Queue<Event>) {
    let end = match take_over(&ctx, &events).await {
        Ok(driver) => driver.stream().await,
        Err(end) => end,
    };
    ctx.log(|| format!("ends: {end:?}"));
    ctx.world.borrow_mut().writer_ended(ctx.id, &end);
}
