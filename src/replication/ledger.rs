//! The ledger: what is submitted, what is durable, and up to which position all of it is.
//!
//! Two positions per table. `own` is what the table itself carries (its `txn`), and what the next unit's
//! interval begins at. `seen` is up to where nothing of the stream is left for it; it moves with every
//! unit, whether the unit touches the table or not. `passed` is the `seen` of all tables at once, so that
//! a quiet pipeline of many tables costs nothing per table.

use super::invariant::{InvariantId, Mutant};
use super::message::{CutEntry, Resume, TableProgress, TableView, UnitId};
use super::recovery::Held;
use crate::position::{CommitLsn, Interval, Witness};
use crate::schema::{TableId, TableName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A position with the last transaction at or before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    pub(super) position: CommitLsn,
    pub(super) witness: Option<Witness>,
}

impl Mark {
    /// The later of two witnesses.
    pub(super) fn later(a: Option<Witness>, b: Option<Witness>) -> Option<Witness> {
        match (a, b) {
            (Some(x), Some(y)) => Some(if y.end > x.end { y } else { x }),
            (x, None) => x,
            (None, y) => y,
        }
    }
}

#[derive(Debug)]
struct Table {
    name: TableName,
    target_id: String,
    covered: bool,
    from_copy: bool,
    own: CommitLsn,
    seen: CommitLsn,
    /// Durable versions with the position that each carries, oldest first; never empty. The first is the
    /// one as of the last boundary, or the only one that is known.
    versions: VecDeque<(CommitLsn, i64)>,
}

#[derive(Debug)]
struct Unit {
    id: UnitId,
    mark: Mark,
    /// Tables whose share is not durable, with what each had seen before.
    remaining: BTreeMap<TableId, CommitLsn>,
    /// Whether `mark` may become a boundary.
    boundary: bool,
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Ledger {
    tables: BTreeMap<TableId, Table>,
    units: VecDeque<Unit>,
    /// Submitted to every table.
    pub(super) passed: Mark,
    /// The furthest that was ever submitted: unlike `passed` it never goes back.
    high: Mark,
    /// The newest position up to which all is durable, and as of which each table's version is known.
    pub(super) boundary: Mark,
    /// No boundary lies before this: a table is ahead of the stream up to here, or its parts are.
    floor: CommitLsn,
    /// A unit became durable since this was last cleared.
    pub(super) fresh: bool,
    /// Tables that no cut names yet.
    uncovered: BTreeSet<TableId>,
    mutant: Option<Mutant>,
}

impl Ledger {
    pub(super) fn resume(resume: Resume, mutant: Option<Mutant>) -> Self {
        let cut = Mark { position: resume.cut, witness: resume.witness };
        let mut ledger = Ledger {
            tables: BTreeMap::new(),
            units: VecDeque::new(),
            passed: cut,
            high: cut,
            boundary: cut,
            floor: cut.position,
            fresh: false,
            uncovered: BTreeSet::new(),
            mutant,
        };
        for (id, progress) in resume.tables {
            let position = progress.position;
            InvariantId::Sn1.hold(progress.covered || position >= cut.position, || {
                format!("table {id} is at {position}, behind the cut {} that does not name it", cut.position)
            });
            if progress.covered {
                ledger.floor = ledger.floor.max(progress.position);
            }
            ledger.insert(id, progress);
        }
        ledger
    }

    fn insert(&mut self, id: TableId, progress: TableProgress) {
        if !progress.covered {
            self.uncovered.insert(id);
        }
        if progress.whole_from > progress.position {
            self.floor = self.floor.max(progress.whole_from);
        }
        let table = Table {
            name: progress.name,
            target_id: progress.target_id,
            covered: progress.covered,
            from_copy: progress.from_copy,
            own: progress.position,
            seen: progress.position,
            versions: VecDeque::from([(progress.position, progress.version)]),
        };
        self.tables.insert(id, table);
    }

    /// Whether each table's version as of the boundary is known.
    pub(super) fn is_consistent(&self) -> bool {
        self.boundary.position >= self.floor
    }

    /// A copied table joins. When its position is behind what the others were given, the stream must be
    /// read again from before it; until that has caught up with the others there is no boundary.
    pub(super) fn join(&mut self, id: TableId, progress: TableProgress, cut: Mark) {
        let position = progress.position;
        if position < self.passed.position {
            for table in self.tables.values_mut() {
                table.seen = table.seen.max(self.passed.position);
            }
            self.floor = self.floor.max(self.passed.position);
            self.passed = Mark { position, witness: cut.witness };
            self.boundary = cut;
            for unit in &mut self.units {
                unit.boundary = false;
            }
        }
        self.insert(id, progress);
    }

    /// Takes a table out: of units, of the minimum, of cuts. Answers up to where it is durable.
    pub(super) fn remove(&mut self, id: TableId) -> Option<CommitLsn> {
        let durable = self.view(id)?.durable;
        self.tables.remove(&id);
        self.uncovered.remove(&id);
        for unit in &mut self.units {
            unit.remaining.remove(&id);
        }
        self.settle();
        Some(durable)
    }

    /// Submits a unit that ends at `mark`: the share of each touched table.
    pub(super) fn close(
        &mut self,
        id: UnitId,
        mark: Mark,
        touched: &BTreeSet<TableId>,
    ) -> Vec<(TableId, Interval)> {
        let to = mark.position;
        InvariantId::Ck2.hold(to > self.passed.position || self.mutant.is_some(), || {
            format!("unit ends at {to}, already passed {}", self.passed.position)
        });
        let mut remaining = BTreeMap::new();
        let mut shares = Vec::with_capacity(touched.len());
        for &table_id in touched {
            let Some(table) = self.tables.get_mut(&table_id) else { continue };
            let seen = table.seen.max(self.passed.position);
            InvariantId::Ck5.hold(seen < to || self.mutant.is_some(), || {
                format!("table {table_id} holds all up to {seen} and is given a unit that ends at {to}")
            });
            InvariantId::Ck3
                .hold(table.own <= seen, || format!("table {table_id}: {} after {seen}", table.own));
            let from = match self.mutant {
                Some(Mutant::UnitFromPipeline) => self.passed.position,
                _ => table.own,
            };
            remaining.insert(table_id, seen);
            shares.push((table_id, Interval { from, to }));
            table.own = to;
            table.seen = to;
            table.from_copy = false;
        }
        self.units.push_back(Unit { id, mark, remaining, boundary: to >= self.floor });
        self.pass(mark);
        shares
    }

    /// The stream went on to `mark` without a change for any table.
    pub(super) fn pass(&mut self, mark: Mark) {
        if mark.position > self.passed.position {
            self.passed = mark;
        }
        if mark.position > self.high.position {
            self.high = mark;
        }
        self.settle();
    }

    /// A table's share of a unit is durable.
    pub(super) fn committed(&mut self, id: UnitId, table_id: TableId, version: i64) {
        let Some(table) = self.tables.get_mut(&table_id) else { return };
        let mut pending = self.units.iter_mut().filter(|unit| unit.remaining.contains_key(&table_id));
        // A share that was taken out when the table stopped, and that landed all the same.
        let Some(unit) = pending.next() else { return };
        if unit.id > id {
            return;
        }
        InvariantId::Or1
            .hold(unit.id == id, || format!("table {table_id} reports {id:?} before {:?}", unit.id));
        unit.remaining.remove(&table_id);
        let last = table.versions.back().map_or(i64::MIN, |&(_, version)| version);
        InvariantId::Ck3.hold(version > last, || format!("table {table_id}: version {version} after {last}"));
        table.versions.push_back((unit.mark.position, version));
        // No later cut can name what is older than the version as of the boundary.
        let at = self.boundary.position;
        while table.versions.get(1).is_some_and(|&(position, _)| position <= at) {
            table.versions.pop_front();
        }
        self.settle();
    }

    /// Moves the boundary over what has become durable.
    fn settle(&mut self) {
        while let Some(unit) = self.units.front() {
            if !unit.remaining.is_empty() {
                return;
            }
            if unit.boundary && unit.mark.position > self.boundary.position {
                self.boundary = unit.mark;
                self.fresh = true;
            }
            self.units.pop_front();
        }
        if self.passed.position >= self.floor && self.passed.position > self.boundary.position {
            self.boundary = self.passed;
        }
    }

    /// The tables as of the boundary. Forgets the versions that no later cut can name.
    pub(super) fn name_tables(&mut self) -> BTreeMap<TableId, CutEntry> {
        let at = self.boundary.position;
        let newest = self.mutant == Some(Mutant::CutNamesNewest);
        let mut named = BTreeMap::new();
        for (&id, table) in &mut self.tables {
            while table.versions.get(1).is_some_and(|&(position, _)| position <= at) {
                table.versions.pop_front();
            }
            let version = if newest { table.versions.back() } else { table.versions.front() };
            let Some(&(position, version)) = version.filter(|&&(position, _)| position <= at || newest)
            else {
                InvariantId::Ct1.hold(!table.covered, || format!("table {id} is unknown as of {at}"));
                continue;
            };
            let entry =
                CutEntry { name: table.name.clone(), target_id: table.target_id.clone(), version, position };
            named.insert(id, entry);
        }
        for unit in &self.units {
            InvariantId::Ck1.hold(unit.remaining.is_empty() || unit.mark.position > at, || {
                format!("a cut at {at} while {:?} is under way to {}", unit.id, unit.mark.position)
            });
        }
        named
    }

    /// A cut that names these tables is committed.
    pub(super) fn cover(&mut self, named: &BTreeSet<TableId>) {
        for id in named {
            if let Some(table) = self.tables.get_mut(id) {
                table.covered = true;
                self.uncovered.remove(id);
            }
        }
    }

    /// The position from which a cut can name every live table.
    pub(super) fn reach(&self) -> CommitLsn {
        let first = |t: &Table| t.versions.front().map(|&(position, _)| position);
        let copied = self.uncovered.iter().filter_map(|id| self.tables.get(id)).filter_map(first).max();
        copied.map_or(self.floor, |position| position.max(self.floor))
    }

    /// Whether a cut at the boundary would name a table that none names yet.
    pub(super) fn would_cover_more(&self) -> bool {
        let at = self.boundary.position;
        let known = |t: &Table| t.versions.front().is_some_and(|&(position, _)| position <= at);
        self.uncovered.iter().filter_map(|id| self.tables.get(id)).any(known)
    }

    pub(super) fn submitted(&self, id: TableId) -> Option<CommitLsn> {
        let table = self.tables.get(&id)?;
        if self.mutant == Some(Mutant::ForgetTablePosition) {
            return Some(self.passed.position);
        }
        Some(table.seen.max(self.passed.position))
    }

    pub(super) fn view(&self, id: TableId) -> Option<TableView> {
        let table = self.tables.get(&id)?;
        let submitted = table.seen.max(self.passed.position);
        let pending = self.units.iter().find_map(|unit| unit.remaining.get(&id));
        let (own, version) = table.versions.back().copied().unwrap_or((table.own, 0));
        let durable = pending.copied().unwrap_or(submitted);
        Some(TableView { submitted, durable, own, version, covered: table.covered })
    }

    /// Every position that a unit, a boundary or a table may be at.
    pub(super) fn positions(&self) -> impl Iterator<Item = CommitLsn> + '_ {
        let own = [self.passed, self.high, self.boundary].map(|mark| mark.position);
        let units = self.units.iter().map(|unit| unit.mark.position);
        let tables = self.tables.values().flat_map(|table| [table.own, table.seen]);
        own.into_iter().chain([self.floor]).chain(units).chain(tables)
    }

    pub(super) fn all_covered(&self) -> bool {
        self.uncovered.is_empty()
    }

    pub(super) fn live(&self) -> impl Iterator<Item = TableId> + '_ {
        self.tables.keys().copied()
    }

    pub(super) fn live_count(&self) -> usize {
        self.tables.len()
    }

    pub(super) fn is_live(&self, id: TableId) -> bool {
        self.tables.contains_key(&id)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.units.len()
    }

    /// What a replay must agree with: everything that was submitted, and what tables hold beyond it.
    pub(super) fn held(&self) -> Held {
        let at = self.high.position;
        let ahead = self.tables.values().filter(|t| !t.from_copy && t.own > at).map(|t| t.own).collect();
        Held { position: at, witness: self.high.witness, ahead }
    }
}
