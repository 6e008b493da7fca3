//! Which shares belong to one Kafka transaction: pure bookkeeping.
//!
//! A unit is announced with the tables that it touches. Each table hands its share in; when the last one
//! has, the unit is complete, and units are given out in the order in which they were announced. A table
//! that ends (an error, a stop) is taken out of every unit that still waits for it: the others go on.

use crate::position::CommitLsn;
use crate::schema::TableId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A complete unit.
#[derive(Debug, PartialEq)]
pub(super) struct Complete<S> {
    pub to: CommitLsn,
    pub shares: Vec<(TableId, S)>,
}

#[derive(Debug)]
struct Pending<S> {
    to: CommitLsn,
    waiting: BTreeSet<TableId>,
    shares: Vec<(TableId, S)>,
}

/// Units under way.
#[derive(Debug)]
pub(super) struct Units<S> {
    /// Tables that are open, each with the number of its opening.
    open: BTreeMap<TableId, u64>,
    opened: u64,
    pending: VecDeque<Pending<S>>,
}

impl<S> Units<S> {
    pub(super) fn new() -> Self {
        Units { open: BTreeMap::new(), opened: 0, pending: VecDeque::new() }
    }

    /// A table is opened. The number tells it from its later self.
    pub(super) fn open(&mut self, table: TableId) -> u64 {
        self.opened += 1;
        self.open.insert(table, self.opened);
        self.opened
    }

    /// A unit is closed: these tables hand their share in next. One that has ended meanwhile does not.
    pub(super) fn announce(&mut self, to: CommitLsn, tables: &[TableId]) -> Vec<Complete<S>> {
        let waiting = tables.iter().copied().filter(|id| self.open.contains_key(id)).collect();
        self.pending.push_back(Pending { to, waiting, shares: Vec::new() });
        self.complete()
    }

    /// A table hands its share in. `Err`: nobody announced it.
    pub(super) fn hand_in(&mut self, table: TableId, to: CommitLsn, share: S) -> Result<Vec<Complete<S>>, S> {
        let announced = |unit: &&mut Pending<S>| unit.to == to && unit.waiting.contains(&table);
        let Some(unit) = self.pending.iter_mut().find(announced) else { return Err(share) };
        unit.waiting.remove(&table);
        unit.shares.push((table, share));
        Ok(self.complete())
    }

    /// A table has ended.
    pub(super) fn close(&mut self, table: TableId, number: u64) -> Vec<Complete<S>> {
        if self.open.get(&table) != Some(&number) {
            return Vec::new();
        }
        self.open.remove(&table);
        for unit in &mut self.pending {
            unit.waiting.remove(&table);
        }
        self.complete()
    }

    fn complete(&mut self) -> Vec<Complete<S>> {
        let mut done = Vec::new();
        while self.pending.front().is_some_and(|unit| unit.waiting.is_empty()) {
            if let Some(Pending { to, shares, .. }) = self.pending.pop_front()
                && !shares.is_empty()
            {
                done.push(Complete { to, shares });
            }
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    const A: TableId = TableId(1);
    const B: TableId = TableId(2);

    fn at(raw: u64) -> CommitLsn {
        CommitLsn::end_of_commit(Lsn::new(raw))
    }

    #[test]
    fn a_unit_waits_for_all_of_its_tables_and_for_the_one_before() {
        let mut units = Units::new();
        units.open(A);
        units.open(B);
        assert_eq!(units.announce(at(10), &[A, B]), []);
        assert_eq!(units.announce(at(20), &[A]), []);
        assert_eq!(units.hand_in(A, at(10), "a10").unwrap(), []);
        assert_eq!(units.hand_in(A, at(20), "a20").unwrap(), []);
        let done = units.hand_in(B, at(10), "b10").unwrap();
        assert_eq!(
            done,
            [
                Complete { to: at(10), shares: vec![(A, "a10"), (B, "b10")] },
                Complete { to: at(20), shares: vec![(A, "a20")] }
            ]
        );
    }

    #[test]
    fn a_table_that_ends_is_not_waited_for() {
        let mut units = Units::new();
        let a = units.open(A);
        units.open(B);
        units.announce(at(10), &[A, B]);
        units.announce(at(20), &[A]);
        assert_eq!(units.hand_in(B, at(10), "b10").unwrap(), []);
        assert_eq!(units.close(A, a), [Complete { to: at(10), shares: vec![(B, "b10")] }]);
        // It had ended before the unit was closed.
        assert_eq!(units.announce(at(30), &[A, B]), []);
        assert_eq!(
            units.hand_in(B, at(30), "b30").unwrap(),
            [Complete { to: at(30), shares: vec![(B, "b30")] }]
        );
        assert_eq!(units.hand_in(A, at(30), "a30"), Err("a30"));
    }

    #[test]
    fn the_end_of_an_older_self_does_not_count() {
        let mut units = Units::new();
        let old = units.open(A);
        units.open(A);
        units.announce(at(10), &[A]);
        assert_eq!(units.close(A, old), []);
        assert_eq!(units.hand_in(A, at(10), "a").unwrap().len(), 1);
    }
}
