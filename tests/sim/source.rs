//! The source: a database with tables, transactions, a slot, snapshots, backups.
//!
//! A history is a list of committed transactions. Restoring a backup begins another *branch* that shares
//! the old one's beginning. Every state that a table ever had can be asked for, by branch and position:
//! this is the truth that the checkers compare with.

use crate::rng::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use strandline::position::{CommitLsn, Lineage, Lsn, ServerPoint, Witness};
use strandline::replication::recovery::SlotView;
use strandline::schema::TableId;

/// The tables that are replicated.
pub const TABLES: [TableId; 3] = [TableId(1), TableId(2), TableId(3)];
/// Published, but not ours.
pub const OTHER: TableId = TableId(9);
/// Values beyond this cannot be represented in the target.
pub const REPRESENTABLE: i64 = 999_999;

pub type Row = [i64; 3];
pub type Rows = BTreeMap<u8, Row>;

/// What a change does; `Row` in logical order in the history, in the order of the schema on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Put(u8, Row),
    Move(u8, u8, Row),
    Delete(u8),
    Truncate,
}

impl Op {
    pub fn apply(&self, rows: &mut Rows) {
        match *self {
            Op::Put(key, row) => {
                rows.insert(key, row);
            }
            Op::Move(old, new, row) => {
                rows.remove(&old);
                rows.insert(new, row);
            }
            Op::Delete(key) => {
                rows.remove(&key);
            }
            Op::Truncate => rows.clear(),
        }
    }

    pub fn map_row(&self, change: impl Fn(Row) -> Row) -> Op {
        match *self {
            Op::Put(key, row) => Op::Put(key, change(row)),
            Op::Move(old, new, row) => Op::Move(old, new, change(row)),
            Op::Delete(key) => Op::Delete(key),
            Op::Truncate => Op::Truncate,
        }
    }

    pub fn row(&self) -> Option<Row> {
        match *self {
            Op::Put(_, row) | Op::Move(_, _, row) => Some(row),
            Op::Delete(_) | Op::Truncate => None,
        }
    }
}

/// Columns change places with each schema version: decoding with another version gives other values.
pub fn to_wire(schema: u64, row: Row) -> Row {
    std::array::from_fn(|i| row[(i + schema as usize) % 3])
}

pub fn from_wire(schema: u64, wire: Row) -> Row {
    let mut row = [0; 3];
    for (i, value) in wire.into_iter().enumerate() {
        row[(i + schema as usize) % 3] = value;
    }
    row
}

#[derive(Clone, Debug)]
pub struct Change {
    pub table: TableId,
    pub op: Op,
    pub schema: u64,
}

#[derive(Clone, Debug)]
pub struct Txn {
    pub start: Lsn,
    pub witness: Witness,
    pub changes: Vec<Change>,
}

#[derive(Clone, Default)]
pub struct Branch {
    pub txns: Vec<Rc<Txn>>,
    states: BTreeMap<TableId, Vec<(CommitLsn, Rc<Rows>)>>,
    schemas: BTreeMap<TableId, u64>,
}

impl Branch {
    pub fn state(&self, table: TableId, at: CommitLsn) -> Rc<Rows> {
        let states = self.states.get(&table).map_or(&[][..], Vec::as_slice);
        let index = states.partition_point(|(end, _)| *end <= at);
        index.checked_sub(1).map(|i| Rc::clone(&states[i].1)).unwrap_or_default()
    }

    pub fn find(&self, end: CommitLsn) -> Option<&Rc<Txn>> {
        self.txns.binary_search_by_key(&end, |txn| txn.witness.end).ok().map(|i| &self.txns[i])
    }

    /// Transactions in `(from, to]`.
    pub fn between(&self, from: CommitLsn, to: CommitLsn) -> &[Rc<Txn>] {
        let first = self.txns.partition_point(|txn| txn.witness.end <= from);
        let last = self.txns.partition_point(|txn| txn.witness.end <= to);
        self.txns.get(first..last).unwrap_or_default()
    }

    fn schema(&self, table: TableId) -> u64 {
        self.schemas.get(&table).copied().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
pub enum Msg {
    Relation {
        table: TableId,
        schema: u64,
    },
    Begin {
        commit_start: Lsn,
    },
    /// `truth` is for the checkers.
    Row {
        table: TableId,
        wire: Op,
        ordinal: u64,
        truth: Change,
        branch: usize,
    },
    Commit {
        witness: Witness,
    },
    Keepalive {
        end: Lsn,
    },
}

pub struct Slot {
    pub confirmed: CommitLsn,
    pub wal_lost: bool,
    pub session: Option<u64>,
}

/// A connection: of the slot, or of a temporary slot with its snapshot.
struct Session {
    txn: usize,
    change: Option<usize>,
    relations: BTreeMap<TableId, u64>,
    snapshot: Option<(usize, CommitLsn)>,
}

pub struct Source {
    pub lineage: Lineage,
    pub branches: Vec<Branch>,
    pub flushed: Lsn,
    pub slot: Option<Slot>,
    /// Where slots of ours began.
    pub slots_made_at: Vec<CommitLsn>,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    xid: u32,
    time: i64,
    /// PostgreSQL 14 sends transactions without changes.
    sends_empty: bool,
    /// Per mille of rows whose value cannot be represented.
    pub unrepresentable: u64,
    /// Commit records that come next exactly where lost ones were: the same work done again.
    repeat: VecDeque<(Lsn, CommitLsn)>,
}

impl Source {
    pub fn new(rng: &mut Rng) -> Self {
        Source {
            lineage: Lineage { system_id: "7001".to_owned(), timeline: 1, database: "d".to_owned() },
            branches: vec![Branch::default()],
            flushed: Lsn::new(8_000),
            slot: None,
            slots_made_at: Vec::new(),
            sessions: BTreeMap::new(),
            next_session: 1,
            xid: 700,
            time: 1,
            sends_empty: rng.permille(300),
            unrepresentable: if rng.permille(250) { 4 } else { 0 },
            repeat: VecDeque::new(),
        }
    }

    pub fn branch(&self) -> usize {
        self.branches.len() - 1
    }

    pub fn now(&self) -> &Branch {
        &self.branches[self.branch()]
    }

    /// Log records that are no commits.
    pub fn write_noise(&mut self, rng: &mut Rng) {
        // Each branch has its own residue, so that two branches never have a record end in common: a
        // table carries a position only, and could not tell them apart.
        if !self.repeat.is_empty() {
            return;
        }
        let step = 64 * rng.range(1, 40);
        let residue = self.branch() as u64;
        self.flushed = Lsn::new((self.flushed.raw() / 64) * 64 + step + residue);
    }

    pub fn change_schema(&mut self, rng: &mut Rng) {
        let table = TABLES[rng.below(3) as usize];
        let at = self.branch();
        *self.branches[at].schemas.entry(table).or_default() += 1;
        self.write_noise(rng);
    }

    fn make_row(&mut self, rng: &mut Rng) -> Row {
        let mut row = std::array::from_fn(|_| rng.below(5_000) as i64);
        if rng.permille(self.unrepresentable) {
            row[rng.below(3) as usize] = REPRESENTABLE + 1 + rng.below(5) as i64;
        }
        row
    }

    fn make_op(&mut self, rng: &mut Rng, rows: &Rows) -> Op {
        let row = self.make_row(rng);
        let keys: Vec<u8> = rows.keys().copied().collect();
        match (rng.below(20), rng.pick(&keys)) {
            (0..=3, Some(&key)) => Op::Delete(key),
            (4..=6, Some(&old)) => {
                let free = (0..10).filter(|key| !rows.contains_key(key)).collect::<Vec<u8>>();
                rng.pick(&free).map_or(Op::Put(old, row), |&new| Op::Move(old, new, row))
            }
            (7, _) => Op::Truncate,
            _ => Op::Put(rng.below(10) as u8, row),
        }
    }

    /// One transaction: of our tables, of another's, or without changes.
    pub fn commit(&mut self, rng: &mut Rng) {
        let at = self.branch();
        let mut changes = Vec::new();
        let mut states: BTreeMap<TableId, Rows> = BTreeMap::new();
        let count = if rng.permille(120) { 0 } else { rng.range(1, 5) };
        for _ in 0..count {
            if rng.permille(80) {
                changes.push(Change { table: OTHER, op: Op::Put(0, [0; 3]), schema: 0 });
                continue;
            }
            if rng.permille(30) {
                *self.branches[at].schemas.entry(TABLES[rng.below(3) as usize]).or_default() += 1;
            }
            let table = TABLES[rng.below(3) as usize];
            let before = self.branches[at].state(table, CommitLsn::of_keepalive(Lsn::new(u64::MAX)));
            let rows = states.entry(table).or_insert_with(|| (*before).clone());
            let op = self.make_op(rng, rows);
            op.apply(states.entry(table).or_default());
            changes.push(Change { table, op, schema: self.branches[at].schema(table) });
        }
        let start = match self.repeat.pop_front() {
            Some((start, end)) => {
                self.flushed = end.lsn();
                start
            }
            None => {
                self.write_noise(rng);
                let start = self.flushed;
                self.write_noise(rng);
                start
            }
        };
        self.xid += 1;
        self.time += 1 + rng.below(1000) as i64;
        let end = CommitLsn::end_of_commit(self.flushed);
        let branch = &mut self.branches[at];
        for (table, rows) in states {
            branch.states.entry(table).or_default().push((end, Rc::new(rows)));
        }
        let witness = Witness { end, xid: self.xid, commit_time: self.time };
        branch.txns.push(Rc::new(Txn { start, witness, changes }));
    }

    /// Goes back to what was flushed at `fork`, with the slot as it was then or without it. `repeats`: the
    /// work that was lost is done again, and its records come to lie where the lost ones did.
    pub fn restore(&mut self, fork: Lsn, slot: Option<CommitLsn>, repeats: bool, rng: &mut Rng) {
        let mut branch = self.now().clone();
        let fork_position = CommitLsn::of_keepalive(fork);
        let lost = branch.between(fork_position, CommitLsn::of_keepalive(Lsn::new(u64::MAX)));
        let records = lost.iter().map(|txn| (txn.start, txn.witness.end)).filter(|(start, _)| *start >= fork);
        self.repeat = records.filter(|_| repeats).collect();
        branch.txns.retain(|txn| txn.witness.end <= fork_position);
        for states in branch.states.values_mut() {
            states.retain(|(end, _)| *end <= fork_position);
        }
        self.branches.push(branch);
        self.sessions.clear();
        self.slot = slot.map(|confirmed| Slot { confirmed, wal_lost: false, session: None });
        self.flushed = fork;
        self.write_noise(rng);
        // Transaction ids are given again; times differ.
        self.xid = self.now().txns.last().map_or(700, |txn| txn.witness.xid);
        self.time += 1_000_000;
    }

    pub fn end_sessions(&mut self) {
        self.sessions.clear();
        if let Some(slot) = &mut self.slot {
            slot.session = None;
        }
    }

    pub fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
        if let Some(slot) = &mut self.slot
            && slot.session == Some(session)
        {
            slot.session = None;
        }
    }

    pub fn is_alive(&self, session: u64) -> bool {
        self.sessions.contains_key(&session)
    }

    pub fn has_snapshots(&self) -> bool {
        self.sessions.values().any(|session| session.snapshot.is_some())
    }

    pub fn info(&self) -> (ServerPoint, Option<SlotView>) {
        let slot = self.slot.as_ref().map(|slot| SlotView {
            plugin: "pgoutput".to_owned(),
            database: self.lineage.database.clone(),
            confirmed_flush: slot.confirmed,
            wal_lost: slot.wal_lost,
        });
        (ServerPoint { lineage: self.lineage.clone(), flushed: self.flushed }, slot)
    }

    pub fn create_slot(&mut self, rng: &mut Rng) {
        self.write_noise(rng);
        let confirmed = CommitLsn::consistent_point(self.flushed);
        if self.slot.is_none() {
            self.slots_made_at.push(confirmed);
            self.slot = Some(Slot { confirmed, wal_lost: false, session: None });
        }
    }

    fn open(&mut self, snapshot: Option<(usize, CommitLsn)>) -> u64 {
        let id = self.next_session;
        self.next_session += 1;
        let session = Session { txn: 0, change: None, relations: BTreeMap::new(), snapshot };
        self.sessions.insert(id, session);
        id
    }

    /// `None`: there is no slot. `Some(None)`: it is active elsewhere.
    pub fn acquire(&mut self) -> Option<Option<u64>> {
        if self.slot.as_ref()?.session.is_some() {
            return Some(None);
        }
        let id = self.open(None);
        if let Some(slot) = &mut self.slot {
            slot.session = Some(id);
        }
        Some(Some(id))
    }

    /// Begins to replay from the confirmed position.
    pub fn start_stream(&mut self, id: u64) -> Option<CommitLsn> {
        let from = self.slot.as_ref().filter(|slot| slot.session == Some(id))?.confirmed;
        let first = self.now().txns.partition_point(|txn| from.covers(txn.start));
        let session = self.sessions.get_mut(&id)?;
        (session.txn, session.change) = (first, None);
        session.relations.clear();
        Some(from)
    }

    /// The next messages. `None`: the session is dead.
    pub fn read(&mut self, id: u64, count: u64, rng: &mut Rng) -> Option<Vec<Msg>> {
        let mut session = self.sessions.remove(&id)?;
        let mut out = Vec::new();
        while (out.len() as u64) < count && self.send_next(&mut session, &mut out) {
            if rng.permille(100) {
                out.push(Msg::Keepalive { end: self.keepalive_end(&session, rng) });
            }
        }
        if session.change.is_none() && session.txn == self.now().txns.len() {
            out.push(Msg::Keepalive { end: self.flushed });
        }
        self.sessions.insert(id, session);
        Some(out)
    }

    /// Between transactions: anything from the last commit to the next. Within one: anything.
    fn keepalive_end(&self, session: &Session, rng: &mut Rng) -> Lsn {
        let txns = &self.now().txns;
        let sent = session.txn.checked_sub(1).map_or(Lsn::ZERO, |last| txns[last].witness.end.lsn());
        let limit = txns.get(session.txn).map_or(self.flushed, |txn| txn.start);
        if session.change.is_some() || rng.permille(500) { limit } else { sent }
    }

    fn send_next(&self, session: &mut Session, out: &mut Vec<Msg>) -> bool {
        let branch = self.branch();
        let Some(txn) = self.now().txns.get(session.txn) else { return false };
        let Some(index) = session.change else {
            if txn.changes.is_empty() && !self.sends_empty {
                session.txn += 1;
            } else {
                session.change = Some(0);
                out.push(Msg::Begin { commit_start: txn.start });
            }
            return true;
        };
        let Some(change) = txn.changes.get(index) else {
            out.push(Msg::Commit { witness: txn.witness });
            (session.txn, session.change) = (session.txn + 1, None);
            return true;
        };
        if session.relations.insert(change.table, change.schema) != Some(change.schema) {
            out.push(Msg::Relation { table: change.table, schema: change.schema });
        }
        let wire = change.op.map_row(|row| to_wire(change.schema, row));
        let (table, truth) = (change.table, change.clone());
        out.push(Msg::Row { table, wire, ordinal: index as u64, truth, branch });
        session.change = Some(index + 1);
        true
    }

    /// The schema that the catalogue shows now: what a decoder must not use for old rows.
    pub fn newest_schema(&self, table: TableId) -> u64 {
        self.now().schema(table)
    }

    pub fn acknowledge(&mut self, id: u64, position: CommitLsn) -> bool {
        match &mut self.slot {
            Some(slot) if slot.session == Some(id) => {
                slot.confirmed = slot.confirmed.max(position);
                true
            }
            _ => false,
        }
    }

    /// A temporary slot: a session, its consistent point.
    pub fn open_snapshot(&mut self, rng: &mut Rng) -> (u64, CommitLsn) {
        self.write_noise(rng);
        let point = CommitLsn::consistent_point(self.flushed);
        (self.open(Some((self.branch(), point))), point)
    }

    /// Rows of the snapshot with keys in `[from, to)`.
    pub fn copy(&self, id: u64, table: TableId, keys: std::ops::Range<u8>) -> Option<(usize, Rows)> {
        let (branch, point) = self.sessions.get(&id)?.snapshot?;
        let rows = self.branches[branch].state(table, point);
        Some((branch, rows.range(keys).map(|(&key, &row)| (key, row)).collect()))
    }
}
