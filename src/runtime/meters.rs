//! What the driver counts. Nothing per row: operations are counted once per batch, by their letters.

use crate::event::{ChangeBatch, Op};
use crate::schema::{TableId, TableName};
use crate::sink::Written;
use crate::source::Burst;
use crate::telemetry::{Metrics, TableMetrics};
use std::collections::BTreeMap;

/// Changes of a batch or a unit, by what they do to the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    /// Rows inserted or replaced.
    pub(super) upserts: u64,
    /// Rows deleted.
    pub(super) deletes: u64,
}

impl Tally {
    /// Of one batch.
    pub(super) fn of(batch: &ChangeBatch) -> Self {
        let [read, create, update, deletes, _truncates] = by_op(batch);
        Tally { upserts: read + create + update, deletes }
    }

    /// Adds another.
    pub(super) fn add(&mut self, other: Tally) {
        self.upserts += other.upserts;
        self.deletes += other.deletes;
    }

    /// Rows in all.
    pub(super) fn rows(self) -> u64 {
        self.upserts + self.deletes
    }
}

/// How often each operation stands in the batch: `r`, `c`, `u`, `d`, `t`.
fn by_op(batch: &ChangeBatch) -> [u64; 5] {
    let mut counts = [0; 5];
    for op in &batch.ops {
        let place = match op {
            Op::Read => 0,
            Op::Create => 1,
            Op::Update => 2,
            Op::Delete => 3,
            Op::Truncate => 4,
        };
        counts[place] += 1;
    }
    counts
}

/// The counters of a session.
pub(super) struct Meters {
    pub(super) metrics: Metrics,
    tables: BTreeMap<TableId, TableMetrics>,
    /// What the sink had written when it was last looked at.
    seen: Written,
}

impl Meters {
    pub(super) fn new(metrics: Metrics, seen: Written) -> Self {
        Meters { metrics, tables: BTreeMap::new(), seen }
    }

    /// Counts transactions, and what those take that have not committed.
    pub(super) fn transactions(&self, burst: &Burst) {
        self.metrics.transactions().inc_by(burst.transactions);
        self.metrics.open_bytes().set(i64::try_from(burst.open_bytes).unwrap_or(i64::MAX));
        self.metrics.spilled_bytes().inc_by(burst.spilled_bytes);
    }

    /// Counts the changes of a batch that goes to the sink.
    pub(super) fn staged(&mut self, id: TableId, name: &TableName, batch: &ChangeBatch) {
        let table = self.tables.entry(id).or_insert_with(|| self.metrics.table(&name.to_string()));
        let counters = [&table.read, &table.create, &table.update, &table.delete, &table.truncate];
        for (counter, count) in counters.into_iter().zip(by_op(batch)) {
            counter.inc_by(count);
        }
    }

    /// Adds what the sink has written since the last look.
    pub(super) fn written(&mut self, now: Written) {
        self.metrics.files().inc_by(now.files.saturating_sub(self.seen.files));
        self.metrics.bytes().inc_by(now.bytes.saturating_sub(self.seen.bytes));
        self.seen = now;
    }
}
