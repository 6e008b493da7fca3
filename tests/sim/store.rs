//! The target: one log of versions per table, one for the control table. A version is put if absent.

use crate::source::{Change, Op, Rows};
use std::collections::BTreeMap;
use std::rc::Rc;
use strandline::position::{CommitLsn, Epoch, Interval, Lineage, Lsn, Witness};
use strandline::replication::CutEntry;
use strandline::schema::TableId;

/// A row of a commit, with what the checkers want to know of it.
#[derive(Clone, Debug)]
pub struct Applied {
    pub end: CommitLsn,
    pub ordinal: u64,
    pub op: Op,
    pub schema: u64,
    pub truth: Change,
    pub branch: usize,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Create,
    Epoch,
    Data {
        interval: Interval,
        rows: Rc<Vec<Applied>>,
    },
    Copy,
    /// Somebody compacted: other files, the same rows.
    Foreign,
    /// Somebody changed rows.
    ForeignData,
}

/// A version with everything that it carries on from the ones before.
#[derive(Clone, Debug)]
pub struct Version {
    pub kind: Kind,
    pub epoch: Option<Epoch>,
    pub position: Option<CommitLsn>,
    pub copied_at: Option<CommitLsn>,
    pub rows: Rc<Rows>,
    /// For the checkers: the branch that the rows come from.
    pub branch: usize,
}

impl Version {
    pub fn next(&self, kind: Kind) -> Version {
        Version { kind, ..self.clone() }
    }
}

#[derive(Clone)]
pub struct Table {
    pub target_id: String,
    pub log: Vec<Rc<Version>>,
    /// An older copy of it was put in its place, and no writer has been there since.
    pub is_set_back: bool,
}

impl Table {
    pub fn new(id: TableId) -> Self {
        let created = Version {
            kind: Kind::Create,
            epoch: None,
            position: None,
            copied_at: None,
            rows: Rc::default(),
            branch: 0,
        };
        Table { target_id: format!("target-{id}"), log: vec![Rc::new(created)], is_set_back: false }
    }

    pub fn last(&self) -> &Rc<Version> {
        &self.log[self.log.len() - 1]
    }

    pub fn version(&self) -> i64 {
        self.log.len() as i64 - 1
    }

    /// The newest copy's version.
    pub fn last_copy(&self) -> Option<i64> {
        self.log.iter().rposition(|v| matches!(v.kind, Kind::Copy)).map(|i| i as i64)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    pub position: CommitLsn,
    pub witness: Option<Witness>,
    pub tables: BTreeMap<TableId, CutEntry>,
}

/// What a control version is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Create,
    Epoch,
    Cut,
    Stop(TableId),
    Resume(TableId),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub what: What,
    pub epoch: Epoch,
    pub owner: u64,
    pub lineage: Option<Lineage>,
    pub cut: Option<Rc<Cut>>,
    pub stopped: BTreeMap<TableId, &'static str>,
}

impl Record {
    pub fn new() -> Self {
        Record {
            what: What::Create,
            epoch: Epoch(0),
            owner: 0,
            lineage: None,
            cut: None,
            stopped: BTreeMap::new(),
        }
    }

    pub fn cut_position(&self) -> CommitLsn {
        self.cut.as_ref().map_or(CommitLsn::end_of_commit(Lsn::ZERO), |cut| cut.position)
    }
}
