//! Counters of what goes through: bytes, latencies, waiting, losses, changes of columns, comparisons.

use super::Labels;
use crate::error::Code;
use crate::sink::Written;
use crate::telemetry::names;
use crate::telemetry::status::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// From a hundredth of a second to an hour.
const LATENCY_SECONDS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

/// What reading waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Room for rows in memory: the target writes them more slowly than they come.
    Buffer,
    /// Units under way: the target commits more slowly than they close.
    Commit,
}

/// When something last came, in milliseconds after the beginning; 0: never.
#[derive(Clone, Debug)]
pub(super) struct Ages {
    began: Instant,
    event: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
}

impl Ages {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn since(&self, at: &AtomicU64) -> Option<f64> {
        let then = Some(at.load(Ordering::Relaxed)).filter(|then| *then > 0)?;
        Some(Duration::from_millis(self.now().saturating_sub(then)).as_secs_f64())
    }

    pub(super) fn event(&self) -> Option<f64> {
        self.since(&self.event)
    }

    pub(super) fn heard(&self) -> Option<f64> {
        self.since(&self.heard)
    }
}

/// The counters. Clones are the same.
#[derive(Clone, Debug)]
pub struct Flow {
    pub(super) op_totals: [Counter; 5],
    pub(super) ages: Ages,
    pub(super) event_bytes: Counter,
    pub(super) buffer_limit: Gauge,
    pub(super) reconnects: Family<Labels, Counter>,
    pub(super) lost: Counter,
    latency: Histogram,
    waited: [Counter<f64, AtomicU64>; 2],
    conflicts: Counter,
    rewritten: Counter,
    amplification: Gauge<f64, AtomicU64>,
    table_files: Family<Labels, Gauge>,
    read_debt: Family<Labels, Gauge<f64, AtomicU64>>,
    schema_changes: Family<Labels, Counter>,
    mismatched: Family<Labels, Gauge>,
    verified_at: Gauge<f64, AtomicU64>,
}

impl Flow {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let waited = Family::<Labels, Counter<f64, AtomicU64>>::default();
        let stage = |name: &str| waited.get_or_create_owned(&vec![("stage", name.to_owned())]);
        let flow = Flow {
            op_totals: Default::default(),
            ages: Ages { began: Instant::now(), event: Arc::default(), heard: Arc::default() },
            event_bytes: Counter::default(),
            buffer_limit: Gauge::default(),
            reconnects: Family::default(),
            lost: Counter::default(),
            latency: Histogram::new(LATENCY_SECONDS),
            waited: [stage("buffer"), stage("commit")],
            conflicts: Counter::default(),
            rewritten: Counter::default(),
            amplification: Gauge::default(),
            table_files: Family::default(),
            read_debt: Family::default(),
            schema_changes: Family::default(),
            mismatched: Family::default(),
            verified_at: Gauge::default(),
        };
        registry.register(names::EVENTS_BYTES, "Bytes of row events received", flow.event_bytes.clone());
        registry.register(
            names::BUFFER_LIMIT_BYTES,
            "Bytes that buffers may hold",
            flow.buffer_limit.clone(),
        );
        let help = "How often the replication connection was lost, by code";
        registry.register(names::SOURCE_RECONNECTS, help, flow.reconnects.clone());
        let help = "From the commit at the source to the cut that makes it visible in the target";
        registry.register(names::END_TO_END_LATENCY_SECONDS, help, flow.latency.clone());
        registry.register(names::BACKPRESSURE_SECONDS, "Seconds for which reading waited, by stage", waited);
        let help = "Commits of the target that found their version taken";
        registry.register(names::SINK_CONFLICTS, help, flow.conflicts.clone());
        let help = "Files that upkeep wrote anew into others";
        registry.register(names::MERGE_FILES_REWRITTEN, help, flow.rewritten.clone());
        let help = "Bytes written for each byte of new rows, since the process began; 0: none yet";
        registry.register(names::MERGE_WRITE_AMPLIFICATION, help, flow.amplification.clone());
        let help = "Data files of the target table";
        registry.register(names::SINK_TABLE_FILES, help, flow.table_files.clone());
        let help = "Of the rows in a target table's files, the part that readers skip";
        registry.register(names::MERGE_READ_DEBT_RATIO, help, flow.read_debt.clone());
        let help = "Changes of tables' columns, by kind and what was done";
        registry.register(names::SCHEMA_CHANGES, help, flow.schema_changes.clone());
        let help = "Rows that the last verify found to differ";
        registry.register(names::VERIFY_MISMATCHED_ROWS, help, flow.mismatched.clone());
        let help = "When verify last found everything that it compared equal, Unix time; 0: never";
        registry.register(names::VERIFY_LAST_SUCCESS_TIMESTAMP_SECONDS, help, flow.verified_at.clone());
        flow
    }

    /// The source said something: changes, or only that it is there.
    pub fn heard(&self, changes: bool, bytes: u64) {
        let now = self.ages.now();
        self.ages.heard.store(now, Ordering::Relaxed);
        if changes {
            self.ages.event.store(now, Ordering::Relaxed);
            self.event_bytes.inc_by(bytes);
        }
    }

    /// The connection was lost.
    pub fn lost(&self, code: Code) {
        self.lost.inc();
        self.reconnects.get_or_create(&vec![("reason", code.id.to_owned())]).inc();
    }

    /// A transaction is visible so long after its commit.
    pub fn visible_after(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// Reading waited.
    pub fn waited(&self, stage: Stage, so_long: Duration) {
        let at = match stage {
            Stage::Buffer => 0,
            Stage::Commit => 1,
        };
        self.waited[at].inc_by(so_long.as_secs_f64());
    }

    /// What buffers may hold.
    pub fn set_buffer_limit(&self, bytes: usize) {
        self.buffer_limit.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Conflicts and rewritten files since the last look.
    pub fn target(&self, conflicts: u64, rewritten: u64) {
        self.conflicts.inc_by(conflicts);
        self.rewritten.inc_by(rewritten);
    }

    /// What was written for what had to be written: new rows.
    #[expect(clippy::cast_precision_loss, reason = "2^53 bytes are 9 PB")]
    pub fn amplification(&self, written: Written) {
        let new = written.bytes.saturating_sub(written.vector_bytes).saturating_sub(written.moved_bytes);
        if new > 0 {
            self.amplification.set(written.bytes as f64 / new as f64);
        }
    }

    /// The gauges of a target table; those of tables without a label of their own are not shown.
    pub(super) fn of_table(&self, name: &str) -> (Gauge, Gauge<f64, AtomicU64>) {
        if name == names::OTHER_TABLES {
            return Default::default();
        }
        let labels = vec![("table", name.to_owned())];
        (self.table_files.get_or_create_owned(&labels), self.read_debt.get_or_create_owned(&labels))
    }

    /// A table's columns changed.
    pub fn schema_change(&self, kind: &str, action: &str) {
        let labels = vec![("kind", kind.to_owned()), ("action", action.to_owned())];
        self.schema_changes.get_or_create(&labels).inc();
    }

    /// What a comparison of a table found.
    pub fn verified(&self, table: &str, different: u64) {
        let different = i64::try_from(different).unwrap_or(i64::MAX);
        self.mismatched.get_or_create(&vec![("table", table.to_owned())]).set(different);
    }

    /// Everything that was compared is equal.
    pub fn all_equal(&self, now: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
        self.verified_at.set(now.utc().timestamp_millis() as f64 / 1000.0);
    }
}
