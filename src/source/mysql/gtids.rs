//! Sets of GTIDs as marks beside a position, and back.
//!
//! | | name | number |
//! |---|---|---|
//! | MySQL | `uuid[:tag]/first` | the last of an unbroken run |
//! | MariaDB | `domain-server` | the newest that this server wrote in the domain |
//!
//! MariaDB's newest of a domain is the greatest number of its servers: numbers rise within a domain.

use super::server::Gtids;
use crate::binlog::Flavor;
use crate::position::gtid::{GtidRange, GtidSet, MariaGtid, MariaGtidSet};
use crate::position::{CommitLsn, Marks};
use std::collections::{BTreeMap, BTreeSet};

/// As marks.
pub(super) fn marks(gtids: &Gtids) -> Marks {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Marks(match gtids {
        Gtids::MySql(set) => {
            set.ranges().map(|(source, r)| (format!("{source}/{}", r.start), number(r.end))).collect()
        }
        Gtids::MariaDb(set) => {
            set.iter().map(|g| (format!("{}-{}", g.domain, g.server_id), number(g.number))).collect()
        }
    })
}

/// From marks; `None` when they are not of this kind.
pub(super) fn of_marks(marks: &Marks, flavor: Flavor) -> Option<Gtids> {
    match flavor {
        Flavor::MySql => {
            let mut set = GtidSet::new();
            for (name, &last) in &marks.0 {
                let (source, first) = name.rsplit_once('/')?;
                let range = GtidRange { start: first.parse().ok()?, end: u64::try_from(last).ok()? };
                if !set.insert_range(&source.parse().ok()?, range) {
                    return None;
                }
            }
            Some(Gtids::MySql(set))
        }
        Flavor::MariaDb => {
            let mut set = MariaGtidSet::new();
            for (name, &last) in &marks.0 {
                let (domain, server) = name.split_once('-')?;
                let gtid = MariaGtid {
                    domain: domain.parse().ok()?,
                    server_id: server.parse().ok()?,
                    number: u64::try_from(last).ok()?,
                };
                if !set.holds(gtid) {
                    set.set(gtid);
                }
            }
            Some(Gtids::MariaDb(set))
        }
    }
}

/// What positions are by GTIDs, as they were told while the log was read. A set is some hundred bytes, and one is told
/// with every burst: while no cut is made, as beside a copy that takes hours, only those are kept that may be asked for.
#[derive(Default)]
pub(super) struct Told {
    marks: BTreeMap<CommitLsn, Marks>,
    /// Kept until they are behind the last cut: where snapshots were taken.
    pinned: BTreeSet<CommitLsn>,
}

impl Told {
    /// As of the last one that was told at or before it.
    pub(super) fn of(&self, position: CommitLsn) -> Option<Marks> {
        self.marks.range(..=position).next_back().map(|(_, marks)| marks.clone())
    }

    pub(super) fn remember(&mut self, marks: impl IntoIterator<Item = (CommitLsn, Marks)>) {
        self.marks.extend(marks);
    }

    /// A position that nobody asks for before some table is there.
    pub(super) fn pin(&mut self, position: CommitLsn, marks: Marks) {
        self.marks.insert(position, marks);
        self.pinned.insert(position);
    }

    /// Only these will be asked for, and what is after all of them.
    pub(super) fn retain(&mut self, positions: &BTreeSet<CommitLsn>) {
        let Some(&last) = positions.last() else { return };
        let asked = |position| self.marks.range(..=position).next_back().map(|(&at, _)| at);
        let asked: BTreeSet<CommitLsn> = positions.iter().copied().filter_map(asked).collect();
        self.marks.retain(|at, _| *at > last || asked.contains(at) || self.pinned.contains(at));
    }

    /// Nobody asks for anything before this any more.
    pub(super) fn forget_before(&mut self, position: CommitLsn) {
        let keep = self.marks.range(..=position).next_back().map(|(&first, _)| first);
        if let Some(first) = keep {
            self.marks = self.marks.split_off(&first);
            self.pinned = self.pinned.split_off(&first);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Told::default();
    }
}

impl Gtids {
    /// Nothing, of a flavor.
    pub(super) fn none(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Gtids::MySql(GtidSet::new()),
            Flavor::MariaDb => Gtids::MariaDb(MariaGtidSet::new()),
        }
    }

    /// What both hold.
    pub(super) fn intersect(&self, other: &Gtids) -> Option<Gtids> {
        match (self, other) {
            (Gtids::MySql(own), Gtids::MySql(other)) => Some(Gtids::MySql(own.intersect(other))),
            (Gtids::MariaDb(own), Gtids::MariaDb(other)) => Some(Gtids::MariaDb(own.intersect(other))),
            _ => None,
        }
    }

    /// What either holds.
    pub(super) fn union(&self, other: &Gtids) -> Option<Gtids> {
        match (self, other) {
            (Gtids::MySql(own), Gtids::MySql(other)) => Some(Gtids::MySql(own.union(other))),
            (Gtids::MariaDb(own), Gtids::MariaDb(other)) => Some(Gtids::MariaDb(own.union(other))),
            _ => None,
        }
    }

    /// Whether everything here is there. Two flavors have nothing in common.
    pub(super) fn is_within(&self, other: &Gtids) -> bool {
        match (self, other) {
            (Gtids::MySql(own), Gtids::MySql(other)) => own.is_subset(other),
            (Gtids::MariaDb(own), Gtids::MariaDb(other)) => own.is_held_by(other),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    #[test]
    fn what_may_be_asked_for_is_kept_exactly_and_no_more() {
        let at = |n: u64| CommitLsn::end_of_commit(Lsn::new(n));
        let set = |n: u64| Marks([("s/1".to_owned(), n as i64)].into());
        let mut told = Told::default();
        for n in 1..=1000 {
            told.remember([(at(n * 10), set(n))]);
            if n == 500 {
                told.pin(at(5_003), set(503));
            }
        }
        // A cut at 100, a unit up to 9000, all up to 10000 received; nothing was told at 9505 itself.
        told.retain(&BTreeSet::from([at(100), at(9_000), at(9_505), at(10_000)]));
        for (position, n) in [(100, 10), (9_000, 900), (9_505, 950), (10_000, 1000), (5_003, 503)] {
            assert_eq!(told.of(at(position)), Some(set(n)), "{position}");
        }
        assert_eq!(told.marks.len(), 5);
        // What comes after them is not judged yet.
        told.remember([(at(10_010), set(1001)), (at(10_020), set(1002))]);
        told.retain(&BTreeSet::from([at(100), at(10_005)]));
        assert_eq!(told.of(at(10_010)), Some(set(1001)));
        told.forget_before(at(10_010));
        assert_eq!(told.marks.len(), 2);
        assert!(told.pinned.is_empty());
    }

    #[test]
    fn sets_round_trip_with_gaps_and_tags() {
        for text in [
            "",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7-9",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:tag:2-4,4e11fa47-71ca-11e1-9e33-c80aa9429562:3",
        ] {
            let set = Gtids::MySql(text.parse().unwrap());
            assert_eq!(of_marks(&marks(&set), Flavor::MySql), Some(set), "{text}");
        }
        let set = Gtids::MariaDb("0-1-100,7-3-12".parse().unwrap());
        assert_eq!(of_marks(&marks(&set), Flavor::MariaDb), Some(set.clone()));
        assert!(of_marks(&marks(&set), Flavor::MySql).is_none());
    }

    #[test]
    fn the_newest_server_of_a_domain_counts() {
        let marks = Marks([("0-1".to_owned(), 90), ("0-2".to_owned(), 100)].into());
        assert_eq!(of_marks(&marks, Flavor::MariaDb), Some(Gtids::MariaDb("0-2-100".parse().unwrap())));
    }
}
