//! The checkers: they look at each commit at the moment when it becomes visible, and compare it with the
//! source's own history.

use crate::source::TABLES;
use crate::store::{Applied, Cut, Kind, Record, Version, What};
use crate::world::{Broken, World};
use std::collections::BTreeMap;
use std::rc::Rc;
use strandline::position::{CommitLsn, Interval};
use strandline::replication::{CutEntry, InvariantId};
use strandline::schema::TableId;

impl World {
    /// A version is about to become visible.
    pub fn check_version(&mut self, id: TableId, version: &Rc<Version>) {
        let before = Rc::clone(self.tables[&id].last());
        self.require(InvariantId::Ck4, version.epoch >= before.epoch, || {
            format!("table {id}: epoch {:?} after {:?}", version.epoch, before.epoch)
        });
        if self.violation.is_some() {
            return;
        }
        match &version.kind {
            Kind::Data { interval, rows } => {
                if matches!(before.kind, Kind::ForeignData) {
                    let text = format!("table {id}: committed on top of rows that someone else changed");
                    self.violate(Broken::Promise("never silently wrong"), text);
                }
                self.check_lineage(id, &before, version, interval.to);
                self.check_rows(id, &before, *interval, rows);
                self.check_order(id, &before, version, rows);
                self.check_content(id, version);
            }
            Kind::Copy => self.check_content(id, version),
            Kind::Epoch => {
                let same = version.rows == before.rows && version.position == before.position;
                self.require(InvariantId::Ck3, same, || format!("table {id}: a fence changed content"));
            }
            Kind::Create | Kind::Foreign | Kind::ForeignData => {}
        }
    }

    /// Rows of one branch onto a table of another: what the table holds must be that branch's as well.
    fn check_lineage(&mut self, id: TableId, before: &Version, version: &Version, to: CommitLsn) {
        if version.branch == before.branch {
            return;
        }
        let held = before.position.unwrap_or_default();
        let is_same = *self.source.branches[version.branch].state(id, held) == *before.rows;
        let result = *self.source.branches[version.branch].state(id, to) == *version.rows;
        self.require(InvariantId::Ln1, is_same && result, || {
            format!("table {id}: branch {} continued on branch {}", version.branch, before.branch)
        });
    }

    fn check_rows(&mut self, id: TableId, before: &Version, interval: Interval, rows: &[Applied]) {
        let held = before.position.unwrap_or_default();
        let doubled = rows.iter().find(|row| row.end <= held);
        self.require(InvariantId::Ck5, doubled.is_none(), || {
            format!("table {id} holds all up to {held}, given {:?}", doubled.map(|row| row.end))
        });
        self.require(InvariantId::Ck3, interval.from == held && interval.to > held, || {
            format!("table {id} is at {held}, the unit is ({}, {}]", interval.from, interval.to)
        });
        let schema = rows.iter().find(|row| row.schema != row.truth.schema);
        self.require(InvariantId::Sc1, schema.is_none(), || {
            format!("table {id}: decoded with schema {:?}", schema.map(|row| (row.schema, row.truth.schema)))
        });
        let value = rows.iter().find(|row| row.schema == row.truth.schema && row.op != row.truth.op);
        self.require(InvariantId::Va1, value.is_none(), || {
            format!("table {id}: {:?} for {:?}", value.map(|v| &v.op), value.map(|v| &v.truth.op))
        });
        self.check_transactions(id, interval, rows);
    }

    fn check_transactions(&mut self, id: TableId, interval: Interval, rows: &[Applied]) {
        let mut counts: BTreeMap<(usize, CommitLsn), usize> = BTreeMap::new();
        for row in rows {
            *counts.entry((row.branch, row.end)).or_default() += 1;
        }
        for (&(branch, end), &count) in &counts {
            let txn = self.source.branches[branch].find(end);
            let whole = txn.map(|txn| txn.changes.iter().filter(|change| change.table == id).count());
            self.require(InvariantId::Ck2, whole == Some(count) && end <= interval.to, || {
                format!("table {id}: {count} of {whole:?} rows of the transaction that ends at {end}")
            });
        }
        let Some(branch) = rows.first().map(|row| row.branch) else { return };
        let touches = |txn: &Rc<crate::source::Txn>| txn.changes.iter().any(|change| change.table == id);
        let due = self.source.branches[branch].between(interval.from, interval.to);
        let missing = due.iter().find(|txn| touches(txn) && !counts.contains_key(&(branch, txn.witness.end)));
        let missing = missing.map(|txn| txn.witness.end);
        self.require(InvariantId::Dl1, missing.is_none(), || {
            format!("table {id}: ({}, {}] lacks {missing:?}", interval.from, interval.to)
        });
    }

    fn check_order(&mut self, id: TableId, before: &Version, version: &Version, rows: &[Applied]) {
        let sorted = rows.is_sorted_by_key(|row| (row.end, row.ordinal));
        let mut expected = (*before.rows).clone();
        rows.iter().for_each(|row| row.op.apply(&mut expected));
        self.require(InvariantId::Or1, sorted && expected == *version.rows, || {
            format!("table {id}: the unit's changes in their order give other rows")
        });
    }

    /// Promise 4, for one table: each version is a state that the source had at that position.
    fn check_content(&mut self, id: TableId, version: &Version) {
        let at = version.position.unwrap_or_default();
        let truth = self.source.branches[version.branch].state(id, at);
        self.require(InvariantId::Sn1, *truth == *version.rows, || {
            format!("table {id} at {at}: {:?}, the source had {truth:?}", version.rows)
        });
    }

    /// A record is about to become visible in the control table.
    pub fn check_record(&mut self, record: &Rc<Record>) {
        let before = Rc::clone(self.last_record());
        self.require(InvariantId::Ck4, record.epoch >= before.epoch, || {
            format!("control: epoch {} after {}", record.epoch, before.epoch)
        });
        if record.what == What::Cut
            && let Some(cut) = &record.cut
        {
            self.check_cut(&before, cut);
        }
    }

    fn check_cut(&mut self, before: &Record, cut: &Cut) {
        let at = cut.position;
        self.require(InvariantId::Ck1, at >= before.cut_position(), || "a cut went back".to_owned());
        for id in TABLES {
            let table = &self.tables[&id];
            let own = table.last().position;
            let Some(entry) = cut.tables.get(&id) else {
                // Left out: it is stopped, has no content yet, or is ahead.
                let is_out = before.stopped.contains_key(&id) || own.is_none_or(|own| own >= at);
                self.require(InvariantId::Ck1, is_out, || {
                    format!("the cut at {at} leaves out table {id} at {own:?}")
                });
                continue;
            };
            let version = usize::try_from(entry.version).ok().and_then(|v| table.log.get(v)).cloned();
            let carried = version.and_then(|version| version.position);
            let is_exact = carried == Some(entry.position) && entry.position <= at;
            self.require(InvariantId::Ct1, is_exact, || {
                format!(
                    "cut {at}: table {id} v{} carries {carried:?}, named {}",
                    entry.version, entry.position
                )
            });
        }
        // One history in which every table is the source as of the cut. (A backup that forgets only what
        // we never held makes another one.)
        let differs =
            |branch: usize| cut.tables.iter().find(|(id, entry)| !self.is_as_of(branch, **id, entry, at));
        let different =
            (0..self.source.branches.len()).rev().map(differs).min_by_key(Option::is_some).flatten();
        let different =
            different.map(|(id, entry)| format!("cut {at}: table {id} v{} is not the source", entry.version));
        self.require(InvariantId::Ct1, different.is_none(), || different.unwrap_or_default());
        self.check_witness(cut);
    }

    fn is_as_of(&self, branch: usize, id: TableId, entry: &CutEntry, at: CommitLsn) -> bool {
        let version = usize::try_from(entry.version).ok().and_then(|v| self.tables[&id].log.get(v));
        version.is_some_and(|version| *version.rows == *self.source.branches[branch].state(id, at))
    }

    /// The witness is the last transaction with changes at or before the cut, on the branch of old.
    fn check_witness(&mut self, cut: &Cut) {
        // Before the slot was made nothing was seen.
        let is_last_since = |from: CommitLsn| {
            self.source.branches.iter().any(|branch| {
                let all = branch.between(from, cut.position);
                cut.witness == all.iter().rev().find(|txn| !txn.changes.is_empty()).map(|txn| txn.witness)
            })
        };
        let is_last = self.source.slots_made_at.iter().any(|&from| is_last_since(from));
        self.require(InvariantId::Ln1, is_last, || {
            format!("cut {}: wrong witness {:?}", cut.position, cut.witness)
        });
    }

    /// The source was told that it may forget.
    pub fn check_acknowledged(&mut self, position: CommitLsn) {
        let cut = self.last_record().cut_position();
        self.require(InvariantId::Ck1, position <= cut, || {
            format!("acknowledged {position}, the cut is {cut}")
        });
    }
}
