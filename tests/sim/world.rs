//! Everything outside of a writer: source, target, requests under way, and what was seen.

use crate::exec::{Call, Cell, Reply};
use crate::rng::Rng;
use crate::source::{Source, TABLES};
use crate::store::{Kind, Record, Table, Version, What};
use std::collections::BTreeMap;
use std::rc::Rc;
use strandline::position::{CommitLsn, Epoch};
use strandline::replication::{InvariantId, Limits, Millis, Mutant, View};
use strandline::schema::TableId;

/// Situations that a run of the simulation must reach; the report counts them.
pub const SITUATIONS: &[&str] = &[
    "death between two tables' commits",
    "death after the commit and before the cut",
    "death after the cut and before the acknowledgement",
    "a late PUT lands",
    "a late PUT is refused",
    "two claimants of one epoch",
    "a fenced writer wakes up",
    "a foreign commit between plan and put",
    "a restart inside a snapshot",
    "a lost reply whose commit had landed",
    "a lost reply, the same bytes put again",
    "a foreign change of rows stops a table",
    "a value that cannot be represented stops a table",
    "a table is ahead of the cut at start",
    "a copied table joins behind the stream",
    "a replay is skipped by a table that holds it",
    "the connection is lost while units are under way",
    "the source is paused",
    "a foreign history is refused",
    "a moved or missing slot is refused",
    "a log that ends too early is refused",
    "a table that was set back is refused",
    "a stopped table is copied again",
    "a table with content is copied by itself",
    "a run ends at its target",
];

/// A deliberately broken build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// In the coordinator.
    Library(Mutant),
    /// CK-2: what is received of a transaction counts as the whole.
    PartialTransaction,
    /// CK-4: a newer epoch is met as if it were a foreign commit.
    IgnoreFence,
    /// LN-1: neither slot and server nor the replay are checked.
    TrustSource,
    /// SC-1: rows are decoded with the catalogue of now.
    NewestSchema,
    /// SN-1: a copy claims the position at its end.
    CopyClaimsLater,
    /// OR-1: of several changes of a key the first wins.
    FirstWins,
    /// VA-1: what cannot be represented is clamped.
    Clamp,
    /// DL-1: a truncate is skipped.
    DropTruncate,
}

/// What a checker found broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Invariant(InvariantId),
    /// A promise without an invariant of its own.
    Promise(&'static str),
}

/// A request of a writer.
pub struct Request {
    pub writer: usize,
    pub call: Call,
    /// Executed, the answer is on its way.
    pub reply: Option<Reply>,
    pub cell: Cell,
    /// The writer was told that the outcome is unknown, or is dead: nobody waits.
    pub orphan: bool,
}

/// What the world may see of a writer: for reports and checks, not for decisions.
#[derive(Clone, Default)]
pub struct Probe {
    pub epoch: Option<Epoch>,
    pub view: Option<View>,
    pub copies: usize,
    /// Closed units: end, tables.
    pub units: Vec<(CommitLsn, Vec<TableId>)>,
    pub wake: Option<Millis>,
    pub fenced_in_sleep: bool,
    pub can_copy_again: Vec<TableId>,
}

pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub source: Source,
    pub tables: BTreeMap<TableId, Table>,
    pub control: Vec<Rc<Record>>,
    pub requests: Vec<Request>,
    pub session_owners: BTreeMap<u64, usize>,
    pub probes: Vec<Probe>,
    pub limits: Limits,
    pub fault: Option<Fault>,
    /// Someone moved the slot, or a backup was restored.
    pub tampered: bool,
    /// Target tables that somebody set back, once.
    pub set_back: std::collections::BTreeSet<TableId>,
    /// A writer ended because the source's history was lost: nothing can go on.
    pub ended_by_loss: bool,
    pub violation: Option<(Broken, String)>,
    pub reached: BTreeMap<&'static str, u64>,
    pub trace: bool,
}

impl World {
    pub fn new(seed: u64, fault: Option<Fault>, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let limits = Limits {
            unit_rows: rng.range(1, 12),
            unit_bytes: rng.range(20, 200),
            unit_age: Millis(rng.range(1, 200)),
            units_in_flight: rng.range(1, 3) as usize,
            one_by_one: rng.range(0, 1) == 1,
            idle_cut_every: Millis(rng.range(1, 500)),
        };
        World {
            now: Millis(0),
            source: Source::new(&mut rng),
            tables: TABLES.iter().map(|&id| (id, Table::new(id))).collect(),
            control: vec![Rc::new(Record::new())],
            requests: Vec::new(),
            session_owners: BTreeMap::new(),
            probes: Vec::new(),
            limits,
            fault,
            tampered: false,
            set_back: Default::default(),
            ended_by_loss: false,
            violation: None,
            reached: BTreeMap::new(),
            trace,
            rng,
        }
    }

    pub fn log(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>7} {}", self.now.0, text());
        }
    }

    pub fn reach(&mut self, situation: &'static str) {
        debug_assert!(SITUATIONS.contains(&situation), "{situation}");
        *self.reached.entry(situation).or_default() += 1;
    }

    pub fn violate(&mut self, broken: Broken, detail: String) {
        self.log(|| format!("BROKEN {broken:?}: {detail}"));
        self.violation.get_or_insert((broken, detail));
    }

    pub fn require(&mut self, invariant: InvariantId, truth: bool, detail: impl FnOnce() -> String) {
        if !truth {
            self.violate(Broken::Invariant(invariant), detail());
        }
    }

    pub fn last_record(&self) -> &Rc<Record> {
        &self.control[self.control.len() - 1]
    }

    /// Performs a request: its effect takes place now.
    pub fn execute(&mut self, writer: usize, orphan: bool, call: &Call) -> Reply {
        match call {
            Call::Nap => Reply::Done,
            Call::Info => {
                let (server, slot) = self.source.info();
                Reply::Info(server, slot)
            }
            Call::CreateSlot => {
                self.source.create_slot(&mut self.rng);
                Reply::Done
            }
            Call::Acquire => {
                let session = self.source.acquire();
                if let Some(Some(id)) = session {
                    self.session_owners.insert(id, writer);
                }
                Reply::Session(session)
            }
            Call::StartStream(session) => Reply::Stream(self.source.start_stream(*session)),
            Call::Read(session) => {
                let count = self.rng.range(1, 12);
                Reply::Messages(self.source.read(*session, count, &mut self.rng))
            }
            Call::Acknowledge(session, position) => {
                if self.source.acknowledge(*session, *position) {
                    self.check_acknowledged(*position);
                }
                Reply::Done
            }
            Call::EndSession(session) => {
                self.source.end_session(*session);
                Reply::Done
            }
            Call::Ping(session) => Reply::Alive(self.source.is_alive(*session)),
            Call::OpenSnapshot => {
                let (session, point) = self.source.open_snapshot(&mut self.rng);
                self.session_owners.insert(session, writer);
                Reply::Snapshot(session, point)
            }
            Call::Copy { session, table, keys } => {
                Reply::Rows(self.source.copy(*session, *table, keys.clone()))
            }
            Call::ReadTable(table) => Reply::Table(self.tables[table].clone()),
            Call::PutTable { table, at, version } => self.put_table(orphan, *table, *at, version),
            Call::ReadControl => Reply::Control(self.control.clone()),
            Call::PutControl { at, record } => self.put_control(*at, record),
        }
    }

    fn put_table(&mut self, orphan: bool, id: TableId, at: i64, version: &Rc<Version>) -> Reply {
        let Some(table) = self.tables.get(&id) else { return Reply::Put(false) };
        let lands = table.version() + 1 == at;
        self.log(|| format!("  put table {id} v{at} {:?} lands={lands} late={orphan}", short(version)));
        if orphan {
            self.reach(if lands { "a late PUT lands" } else { "a late PUT is refused" });
        }
        if !lands {
            let stands = usize::try_from(at).ok().and_then(|at| self.tables[&id].log.get(at));
            let is_foreign = stands.is_some_and(|v| matches!(v.kind, Kind::Foreign | Kind::ForeignData));
            if is_foreign && matches!(version.kind, Kind::Data { .. }) {
                self.reach("a foreign commit between plan and put");
            }
            return Reply::Put(false);
        }
        self.check_version(id, version);
        if let Some(table) = self.tables.get_mut(&id) {
            table.log.push(Rc::clone(version));
            table.is_set_back = false;
        }
        Reply::Put(true)
    }

    fn put_control(&mut self, at: usize, record: &Rc<Record>) -> Reply {
        let lands = self.control.len() == at;
        self.log(|| format!("  put control v{at} {:?} epoch {} lands={lands}", record.what, record.epoch));
        if !lands {
            let stands = self.control.get(at);
            let claims = |r: &Rc<Record>| r.what == What::Epoch && r.epoch == record.epoch;
            if record.what == What::Epoch && stands.is_some_and(|r| claims(r) && r.owner != record.owner) {
                self.reach("two claimants of one epoch");
            }
            return Reply::Put(false);
        }
        self.check_record(record);
        self.control.push(Rc::clone(record));
        Reply::Put(true)
    }

    /// Commits that are not ours.
    pub fn foreign_commit(&mut self, id: TableId, changes_rows: bool) {
        // Carried on by others, a table that was set back looks as if it never was: a known limit.
        let Some(table) = self.tables.get_mut(&id).filter(|table| !table.is_set_back) else { return };
        let mut version = table.last().next(if changes_rows { Kind::ForeignData } else { Kind::Foreign });
        if changes_rows {
            let mut rows = (*version.rows).clone();
            rows.insert(200, [0, 0, 0]);
            version.rows = Rc::new(rows);
        }
        table.log.push(Rc::new(version));
        self.log(|| format!("foreign commit to table {id}, rows changed: {changes_rows}"));
    }
}

fn short(version: &Version) -> String {
    let kind = match &version.kind {
        Kind::Data { interval, rows } => {
            format!("data ({}, {}] {} rows", interval.from, interval.to, rows.len())
        }
        other => format!("{other:?}"),
    };
    format!("{kind} epoch {:?} at {:?}", version.epoch.map(|e| e.0), version.position)
}
