//! What the driver counts. Nothing per row: operations are counted once per batch, by their letters.

use crate::event::{ChangeBatch, Op};
use crate::position::CommitLsn;
use crate::schema::change::Change;
use crate::schema::{TableId, TableName};
use crate::sink::{Standing, Written};
use crate::source::Burst;
use crate::telemetry::status::Timestamp;
use crate::telemetry::{Metrics, Stage, TableMetrics};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

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
    /// Transactions that are not in a cut yet: where they end, and when they committed. The first and the last of a burst stand for it.
    on_the_way: VecDeque<(CommitLsn, i64)>,
    /// Since when reading waits for commits.
    paused: Option<Instant>,
}

/// So many are remembered; of more only some are looked at.
const ON_THE_WAY: usize = 4096;

impl Meters {
    pub(super) fn new(metrics: Metrics, seen: Written) -> Self {
        Meters { metrics, tables: BTreeMap::new(), seen, on_the_way: VecDeque::new(), paused: None }
    }

    /// Counts transactions, and what those take that have not committed.
    pub(super) fn transactions(&mut self, burst: &Burst) {
        self.metrics.flow().heard(burst.rows > 0, burst.bytes);
        // Zero: a message of no transaction.
        let told = burst.witness.filter(|witness| witness.commit_time != 0);
        if let Some(witness) = told.filter(|_| self.on_the_way.len() < ON_THE_WAY) {
            self.on_the_way.push_back((witness.end, witness.commit_time));
        }
        self.metrics.transactions().inc_by(burst.transactions);
        self.metrics.open_bytes().set(i64::try_from(burst.open_bytes).unwrap_or(i64::MAX));
        self.metrics.spilled_bytes().inc_by(burst.spilled_bytes);
    }

    /// Counts the changes of a batch that goes to the sink.
    pub(super) fn staged(&mut self, id: TableId, name: &TableName, batch: &ChangeBatch) {
        let table = self.tables.entry(id).or_insert_with(|| self.metrics.table(&name.to_string()));
        let counters = [&table.read, &table.create, &table.update, &table.delete, &table.truncate];
        let totals = self.metrics.op_totals();
        for ((counter, total), count) in counters.into_iter().zip(totals).zip(by_op(batch)) {
            counter.inc_by(count);
            total.inc_by(count);
        }
    }

    /// How a table stands after a commit.
    pub(super) fn stands(&mut self, id: TableId, name: &TableName, standing: Option<Standing>) {
        let Some(standing) = standing else { return };
        let table = self.tables.entry(id).or_insert_with(|| self.metrics.table(&name.to_string()));
        table.stands(standing);
    }

    /// Adds what the sink has written since the last look.
    pub(super) fn written(&mut self, now: Written) {
        self.metrics.files().inc_by(now.files.saturating_sub(self.seen.files));
        self.metrics.bytes().inc_by(now.bytes.saturating_sub(self.seen.bytes));
        self.metrics.flow().target(
            now.conflicts.saturating_sub(self.seen.conflicts),
            now.rewritten.saturating_sub(self.seen.rewritten),
        );
        self.metrics.flow().amplification(now);
        self.seen = now;
    }

    /// Everything up to here is visible.
    pub(super) fn visible(&mut self, cut: CommitLsn, now: Timestamp) {
        while let Some((_, committed)) = self.on_the_way.pop_front_if(|(end, _)| *end <= cut) {
            if let Some(latency) = age(committed, now) {
                self.metrics.flow().visible_after(latency);
            }
        }
    }

    /// The stream begins again: what had come and is not in a cut comes again.
    pub(super) fn forget(&mut self) {
        self.on_the_way.clear();
    }

    /// Reading waits for commits, or goes on.
    pub(super) fn pause(&mut self, is_paused: bool) {
        let now = Instant::now();
        if let Some(since) = self.paused.take() {
            self.metrics.flow().waited(Stage::Commit, now.saturating_duration_since(since));
        }
        self.paused = is_paused.then_some(now);
    }

    /// Counts changes of a table's columns.
    pub(super) fn changed(&self, changes: &[Change], action: &str) {
        for change in changes {
            self.metrics.flow().schema_change(change.kind(), action);
        }
    }
}

/// How long ago a transaction committed; commit times count microseconds from the year 2000.
pub(super) fn age(commit_time: i64, now: Timestamp) -> Option<Duration> {
    let epoch = chrono::DateTime::from_timestamp(946_684_800, 0)?;
    let committed = epoch.checked_add_signed(chrono::Duration::microseconds(commit_time))?;
    Some((now.utc() - committed).to_std().unwrap_or(Duration::ZERO))
}
