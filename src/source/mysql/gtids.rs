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
use crate::position::Marks;
use crate::position::gtid::{GtidRange, GtidSet, MariaGtid, MariaGtidSet};

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
