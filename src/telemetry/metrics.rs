//! Metrics: counters that the data path adds to, and gauges that are read off the status board.
//!
//! A counter is one atomic. What has a `table` label is looked up once per table ([`Metrics::table`]) and
//! kept by the caller; nothing is looked up per row. Gauges that say how things are (state, lag, tables) are
//! computed from the board at the moment of the scrape, so that metrics and status cannot disagree.

use super::names;
use super::process;
use super::status::{PipelineState, Status, StatusBoard, TableState};
use crate::error::{Code, Error, Result, codes};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
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
}

impl Metrics {
    /// Fresh metrics that also show what the board says.
    pub fn new(board: &StatusBoard) -> Self {
        let mut registry = Registry::with_prefix(names::PREFIX);
        let events = Family::default();
        registry.register(names::EVENTS, "Row events received, by table and operation", events.clone());
        let snapshot_rows = Family::default();
        registry.register(names::SNAPSHOT_ROWS, "Rows read by first copies", snapshot_rows.clone());
        let transactions = Counter::default();
        registry.register(names::TRANSACTIONS, "Transactions received whole", transactions.clone());
        let (open_bytes, spilled_bytes) = (Gauge::default(), Counter::default());
        let help = "Bytes in memory of transactions that have not committed";
        registry.register(names::TRANSACTION_OPEN_BYTES, help, open_bytes.clone());
        let help = "Bytes of transactions that had not committed, put on disk";
        registry.register(names::TRANSACTION_SPILLED_BYTES, help, spilled_bytes.clone());
        let commits = Family::<Labels, Counter>::default();
        registry.register(names::SINK_COMMITS, "Commits to target tables, by result", commits.clone());
        let commit_seconds = Histogram::new(COMMIT_SECONDS);
        registry.register(
            names::SINK_COMMIT_SECONDS,
            "How long a commit to a target table took",
            commit_seconds.clone(),
        );
        let rows = Family::<Labels, Counter>::default();
        registry.register(names::SINK_ROWS, "Rows given to the target, by operation", rows.clone());
        let (files, bytes) = (Counter::default(), Counter::default());
        registry.register(names::SINK_FILES, "Files written, log entries apart", files.clone());
        registry.register(names::SINK_BYTES, "Bytes of files written, log entries apart", bytes.clone());
        let buffer_bytes = Gauge::default();
        registry.register(names::BUFFER_BYTES, "Bytes held in buffers", buffer_bytes.clone());
        let errors = Family::default();
        registry.register(names::ERRORS, "Errors, by code", errors.clone());
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register(names::BUILD, "Version of strandline", build);
        registry.register_collector(Box::new(BoardCollector { board: board.clone() }));
        let one = |family: &Family<Labels, Counter>, key, value: &str| {
            family.get_or_create_owned(&vec![(key, value.to_owned())])
        };
        Metrics(Arc::new(Inner {
            commit_ok: one(&commits, "result", "ok"),
            commit_fenced: one(&commits, "result", "fenced"),
            commit_error: one(&commits, "result", "error"),
            rows: SinkRows {
                upsert: one(&rows, "op", "upsert"),
                delete: one(&rows, "op", "delete"),
                copy: one(&rows, "op", "copy"),
            },
            registry,
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
        }))
    }

    /// The counters of a table. Takes locks: ask once and keep them. Tables beyond
    /// [`names::TABLE_LIMIT`] share one label.
    pub fn table(&self, name: &str) -> TableMetrics {
        let table = {
            let mut named = self.0.named_tables.lock().unwrap_or_else(PoisonError::into_inner);
            if named.contains(name) || named.len() < names::TABLE_LIMIT {
                named.insert(name.to_owned());
                name.to_owned()
            } else {
                names::OTHER_TABLES.to_owned()
            }
        };
        let op = |letter: &str| {
            self.0.events.get_or_create_owned(&vec![("table", table.clone()), ("op", letter.to_owned())])
        };
        TableMetrics {
            read: op("r"),
            create: op("c"),
            update: op("u"),
            delete: op("d"),
            truncate: op("t"),
            message: op("m"),
            snapshot_rows: self.0.snapshot_rows.get_or_create_owned(&vec![("table", table.clone())]),
        }
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

#[derive(Debug)]
struct BoardCollector {
    board: StatusBoard,
}

impl Collector for BoardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.board.status();
        encode_states(&mut encoder, &status)?;
        let connected = if status.source.connected { 1.0 } else { 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "OpenMetrics gauges are floats; 2^53 bytes are 9 PB")]
        let optional = [
            (names::SOURCE_CONNECTED, "Whether the replication stream is open", Some(connected)),
            (
                names::SOURCE_LAG_BYTES,
                "Bytes of log that the target does not hold yet",
                status.lag_bytes.map(|n| n as f64),
            ),
            (names::SOURCE_LAG_SECONDS, "Seconds that the target is behind the source", status.lag_seconds),
            (
                names::PG_SLOT_RETAINED_BYTES,
                "Bytes of WAL that the slot keeps on the server",
                status.source.retained_bytes.map(|n| n as f64),
            ),
            (
                names::PG_SLOT_SAFE_WAL_BYTES,
                "Bytes of WAL that may still be written before the slot loses some",
                status.source.safe_wal_bytes.map(|n| n as f64),
            ),
            (
                names::PG_SLOT_SECONDS_TO_LOSS,
                "Seconds until the nearer limit of retained WAL is reached",
                status.source.seconds_to_loss.map(|n| n as f64),
            ),
            (
                names::LAST_COMMIT_AGE_SECONDS,
                "Seconds since the last commit to the target",
                status.last_commit.map(super::status::Timestamp::age_seconds),
            ),
            (
                names::MEMORY_RESIDENT_BYTES,
                "Resident memory of the process",
                process::resident_bytes().map(|n| n as f64),
            ),
        ];
        for (name, help, value) in optional {
            // What is not known is absent: a zero would be read as "all is well".
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(seconds) = process::cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "Processor time of the process, user and system";
            counter.encode(encoder.encode_descriptor(
                names::CPU_SECONDS,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

fn encode_states(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(names::UP_STATE, "The pipeline's state", None, kind)?;
    for state in PipelineState::ALL {
        let value = i64::from(*state == status.state);
        ConstGauge::new(value).encode(family.encode_family(&[("state", state.as_str())])?)?;
    }
    let mut family = encoder.encode_descriptor(names::TABLES, "Tables, by state", None, kind)?;
    for state in TableState::ALL {
        let count = status.tables.iter().filter(|table| table.state == *state).count();
        let value = i64::try_from(count).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&[("state", state.as_str())])?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            concat!("strandline_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
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
