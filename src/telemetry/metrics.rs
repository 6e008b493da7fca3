//! Metrics: counters that the data path adds to, and gauges that are read off the status board.
//!
//! A counter is one atomic. What has a `table` label is looked up once per table ([`Metrics::table`]) and
//! kept by the caller; nothing is looked up per row. Gauges that say how things are (state, lag, tables) are
//! computed from the board at the moment of the scrape, so that metrics and status cannot disagree.

mod board;
mod debezium;
mod flow;

use super::names;
use super::status::StatusBoard;
use crate::error::{Code, Error, Result, codes};
use crate::sink::Standing;
use board::BoardCollector;
use debezium::Debezium;
pub use flow::{Flow, Stage};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;

/// What became of a commit to a target table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitResult {
    /// Visible and synced.
    Ok,
    /// Another writer owns the table.
    Fenced,
    /// Failed; it is tried again or the table stops.
    Error,
}

/// What is shown, and how much of it.
#[derive(Clone, Debug)]
pub struct MetricsOptions {
    /// Also show what Debezium's users know, as of this kind of connector.
    pub debezium: Option<&'static str>,
    /// Tables with their own label.
    pub table_limit: usize,
    /// What the process may take.
    pub memory_limit: Option<u64>,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        MetricsOptions { debezium: None, table_limit: names::TABLE_LIMIT, memory_limit: None }
    }
}

/// The metrics of this process. Clones are the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    events: Family<Labels, Counter>,
    snapshot_rows: Family<Labels, Counter>,
    named_tables: Mutex<BTreeSet<String>>,
    transactions: Counter,
    open_bytes: Gauge,
    spilled_bytes: Counter,
    commit_ok: Counter,
    commit_fenced: Counter,
    commit_error: Counter,
    commit_seconds: Histogram,
    rows: SinkRows,
    files: Counter,
    bytes: Counter,
    buffer_bytes: Gauge,
    errors: Family<Labels, Counter>,
    flow: Flow,
    table_limit: usize,
}

/// Counters of rows given to the target.
#[derive(Clone, Debug)]
pub struct SinkRows {
    /// Rows inserted or replaced.
    pub upsert: Counter,
    /// Rows deleted.
    pub delete: Counter,
    /// Rows of first copies.
    pub copy: Counter,
}

/// Counters of one table, to be kept by whoever reads it.
#[derive(Clone, Debug)]
pub struct TableMetrics {
    /// Rows read by a first copy, as events (`r`).
    pub read: Counter,
    /// Inserts (`c`).
    pub create: Counter,
    /// Updates (`u`).
    pub update: Counter,
    /// Deletes (`d`).
    pub delete: Counter,
    /// Truncates (`t`).
    pub truncate: Counter,
    /// Logical messages (`m`).
    pub message: Counter,
    /// Rows read by first copies.
    pub snapshot_rows: Counter,
    /// Data files of the target table.
    files: Gauge,
    /// Of the rows in them, the part that readers skip.
    debt: Gauge<f64, AtomicU64>,
}

impl TableMetrics {
    /// How the target table stands.
    #[expect(clippy::cast_precision_loss, reason = "a part of the rows of one table")]
    pub fn stands(&self, standing: Standing) {
        self.files.set(i64::try_from(standing.files).unwrap_or(i64::MAX));
        self.debt.set(standing.deleted_rows as f64 / standing.rows.max(1) as f64);
    }
}

/// A new metric of its kind, registered.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Fresh metrics that also show what the board says.
    pub fn new(board: &StatusBoard) -> Self {
        Metrics::with(board, MetricsOptions::default())
    }

    /// The same, as an operator wants them.
    pub fn with(board: &StatusBoard, options: MetricsOptions) -> Self {
        let mut whole = Registry::default();
        let flow = Flow::register(whole.sub_registry_with_prefix(names::PREFIX));
        let registry = whole.sub_registry_with_prefix(names::PREFIX);
        let events = add(registry, names::EVENTS, "Row events received, by table and operation");
        let snapshot_rows = add(registry, names::SNAPSHOT_ROWS, "Rows read by first copies");
        let transactions: Counter = add(registry, names::TRANSACTIONS, "Transactions received whole");
        let help = "Bytes in memory of transactions that have not committed";
        let open_bytes = add(registry, names::TRANSACTION_OPEN_BYTES, help);
        let help = "Bytes of transactions that had not committed, put on disk";
        let spilled_bytes = add(registry, names::TRANSACTION_SPILLED_BYTES, help);
        let commits: Family<Labels, Counter> =
            add(registry, names::SINK_COMMITS, "Commits to target tables, by result");
        let commit_seconds = Histogram::new(COMMIT_SECONDS);
        let help = "How long a commit to a target table took";
        registry.register(names::SINK_COMMIT_SECONDS, help, commit_seconds.clone());
        let rows: Family<Labels, Counter> =
            add(registry, names::SINK_ROWS, "Rows given to the target, by operation");
        let files = add(registry, names::SINK_FILES, "Files written, log entries apart");
        let bytes = add(registry, names::SINK_BYTES, "Bytes of files written, log entries apart");
        let buffer_bytes: Gauge = add(registry, names::BUFFER_BYTES, "Bytes held in buffers");
        let errors = add(registry, names::ERRORS, "Errors, by code");
        let commit = option_env!("STRANDLINE_COMMIT").unwrap_or("unknown");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION")), ("commit", commit)]);
        registry.register(names::BUILD, "Version of strandline", build);
        let (table_limit, memory_limit) = (options.table_limit, options.memory_limit);
        let (shown, ages) = (board.clone(), flow.ages.clone());
        registry.register_collector(Box::new(BoardCollector {
            board: shown,
            ages,
            table_limit,
            memory_limit,
        }));
        let one = |family: &Family<Labels, Counter>, key, value: &str| {
            family.get_or_create_owned(&vec![(key, value.to_owned())])
        };
        if let Some(plugin) = options.debezium {
            whole.register_collector(Box::new(Debezium {
                plugin,
                board: board.clone(),
                flow: flow.clone(),
                transactions: transactions.clone(),
                buffer_bytes: buffer_bytes.clone(),
            }));
        }
        Metrics(Arc::new(Inner {
            commit_ok: one(&commits, "result", "ok"),
            commit_fenced: one(&commits, "result", "fenced"),
            commit_error: one(&commits, "result", "error"),
            rows: SinkRows {
                upsert: one(&rows, "op", "upsert"),
                delete: one(&rows, "op", "delete"),
                copy: one(&rows, "op", "copy"),
            },
            registry: whole,
            events,
            snapshot_rows,
            named_tables: Mutex::default(),
            transactions,
            open_bytes,
            spilled_bytes,
            commit_seconds,
            files,
            bytes,
            buffer_bytes,
            errors,
            flow,
            table_limit,
        }))
    }

    /// The counters of a table. Takes locks: ask once and keep them. Tables beyond
    /// [`names::TABLE_LIMIT`] share one label.
    pub fn table(&self, name: &str) -> TableMetrics {
        let table = {
            let mut named = self.0.named_tables.lock().unwrap_or_else(PoisonError::into_inner);
            if named.contains(name) || named.len() < self.0.table_limit {
                named.insert(name.to_owned());
                name.to_owned()
            } else {
                names::OTHER_TABLES.to_owned()
            }
        };
        let op = |letter: &str| {
            self.0.events.get_or_create_owned(&vec![("table", table.clone()), ("op", letter.to_owned())])
        };
        let (files, debt) = self.0.flow.of_table(&table);
        TableMetrics {
            files,
            debt,
            read: op("r"),
            create: op("c"),
            update: op("u"),
            delete: op("d"),
            truncate: op("t"),
            message: op("m"),
            snapshot_rows: self.0.snapshot_rows.get_or_create_owned(&vec![("table", table.clone())]),
        }
    }

    /// What goes through: bytes, latencies, waiting, losses, changes of columns.
    pub fn flow(&self) -> &Flow {
        &self.0.flow
    }

    /// Events by operation, over all tables: `r`, `c`, `u`, `d`, `t`.
    pub fn op_totals(&self) -> &[Counter; 5] {
        &self.0.flow.op_totals
    }

    /// Transactions received whole.
    pub fn transactions(&self) -> &Counter {
        &self.0.transactions
    }

    /// Bytes in memory of transactions that have not committed.
    pub fn open_bytes(&self) -> &Gauge {
        &self.0.open_bytes
    }

    /// Bytes of such transactions that were put on disk.
    pub fn spilled_bytes(&self) -> &Counter {
        &self.0.spilled_bytes
    }

    /// Counts a commit to a target table and how long it took.
    pub fn commit(&self, result: CommitResult, took: Duration) {
        self.commit_failed(result);
        self.0.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts an attempt by its result alone: how long a failure took says nothing about commits.
    pub fn commit_failed(&self, result: CommitResult) {
        match result {
            CommitResult::Ok => self.0.commit_ok.inc(),
            CommitResult::Fenced => self.0.commit_fenced.inc(),
            CommitResult::Error => self.0.commit_error.inc(),
        };
    }

    /// Rows given to the target.
    pub fn rows(&self) -> &SinkRows {
        &self.0.rows
    }

    /// Data files written.
    pub fn files(&self) -> &Counter {
        &self.0.files
    }

    /// Bytes of data files written.
    pub fn bytes(&self) -> &Counter {
        &self.0.bytes
    }

    /// Bytes held in buffers.
    pub fn buffer_bytes(&self) -> &Gauge {
        &self.0.buffer_bytes
    }

    /// Rows given to the target, and commits to its tables, so far.
    pub fn totals(&self) -> (u64, u64) {
        let rows = &self.0.rows;
        (rows.upsert.get() + rows.delete.get() + rows.copy.get(), self.0.commit_ok.get())
    }

    /// Counts an error.
    pub fn error(&self, code: Code) {
        self.0.errors.get_or_create(&vec![("code", code.id.to_owned())]).inc();
    }

    /// Everything in OpenMetrics text.
    ///
    /// Errors: RT001 when the encoder fails, which it does only without memory.
    pub fn encode(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.0.registry)
            .map_err(|cause| Error::new(codes::RT001, "the metrics cannot be encoded").with_source(cause))?;
        Ok(text)
    }
}

/// From one millisecond to a minute, in steps of about two and a half.
const COMMIT_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[cfg(test)]
mod tests {
    use super::super::status::TableState;
    use super::*;
    use crate::schema::TableName;

    #[test]
    fn what_is_counted_is_shown_and_what_is_unknown_is_absent() {
        let board = StatusBoard::new("shop");
        let metrics = Metrics::new(&board);
        let orders = metrics.table("public.orders");
        orders.create.inc_by(3);
        metrics.table("public.orders").create.inc();
        orders.snapshot_rows.inc_by(7);
        metrics.commit(CommitResult::Ok, Duration::from_millis(3));
        metrics.rows().delete.inc_by(2);
        metrics.error(codes::PG022);
        metrics.buffer_bytes().set(11);
        metrics.open_bytes().set(5);
        metrics.spilled_bytes().inc_by(6);
        let text = metrics.encode().unwrap();
        for line in [
            "strandline_events_total{table=\"public.orders\",op=\"c\"} 4",
            "strandline_snapshot_rows_total{table=\"public.orders\"} 7",
            "strandline_sink_commits_total{result=\"ok\"} 1",
            "strandline_sink_commits_total{result=\"fenced\"} 0",
            "strandline_sink_commit_seconds_count 1",
            "strandline_sink_rows_total{op=\"delete\"} 2",
            "strandline_errors_total{code=\"PG022\"} 1",
            "strandline_buffer_bytes 11",
            "strandline_transaction_open_bytes 5",
            "strandline_transaction_spilled_bytes_total 6",
            "strandline_up_state{state=\"starting\"} 1",
            "strandline_up_state{state=\"streaming\"} 0",
            "strandline_tables{state=\"live\"} 0",
            "strandline_source_connected 0.0",
            concat!(
                "strandline_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\",commit=\"unknown\"} 1"
            ),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("strandline_source_lag") && !text.contains("retained_bytes"), "{text}");
        assert!(!text.contains("last_commit_age"), "{text}");
        assert!(text.ends_with("# EOF\n"));
        board.update(|status| {
            status.lag_bytes = Some(5);
            status.table(&TableName::new("public", "orders")).state = TableState::Live;
        });
        let text = metrics.encode().unwrap();
        assert!(text.contains("strandline_source_lag_bytes 5.0\n"), "{text}");
        assert!(text.contains("strandline_tables{state=\"live\"} 1\n"), "{text}");
    }

    #[test]
    fn the_number_of_table_labels_is_bounded() {
        let metrics = Metrics::new(&StatusBoard::new("shop"));
        for number in 0..names::TABLE_LIMIT + 10 {
            metrics.table(&format!("s.t{number}")).update.inc();
        }
        let text = metrics.encode().unwrap();
        assert!(text.contains("strandline_events_total{table=\"__other__\",op=\"u\"} 10\n"));
        assert!(!text.contains(&format!("s.t{}\"", names::TABLE_LIMIT)));
    }
}
