//! Gauges that are computed from the status board when they are asked for, so that metrics and status cannot disagree.

use super::flow::Ages;
use crate::telemetry::names;
use crate::telemetry::process;
use crate::telemetry::status::{PipelineState, Status, StatusBoard, TableState, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads the board at the moment of the scrape.
#[derive(Debug)]
pub(super) struct BoardCollector {
    pub(super) board: StatusBoard,
    pub(super) ages: Ages,
    pub(super) table_limit: usize,
    pub(super) memory_limit: Option<u64>,
}

impl Collector for BoardCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.board.status();
        encode_states(&mut encoder, &status)?;
        encode_tables(&mut encoder, &status, self.table_limit)?;
        let known = source_gauges(&status).into_iter().chain(self.process_gauges(&status));
        for (name, help, value) in known {
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

fn encode_tables(
    encoder: &mut DescriptorEncoder<'_>,
    status: &Status,
    limit: usize,
) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let shown = &status.tables[..status.tables.len().min(limit)];
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut family =
        encoder.encode_descriptor(names::SNAPSHOT_STATE, "Copies of tables, by state", None, kind)?;
    for table in shown.iter().filter(|table| table.copy_began.is_some()) {
        let state = match table.state {
            TableState::Pending | TableState::Snapshotting => "running",
            TableState::CatchingUp | TableState::Live => "done",
            TableState::Stopped => "stopped",
        };
        let labels = [("table", table.name.as_str()), ("state", state)];
        ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
    }
    let help = "Rows to copy, by the source's estimate";
    let mut family = encoder.encode_descriptor(names::SNAPSHOT_ROWS_ESTIMATED, help, None, kind)?;
    for table in shown {
        let Some(rows) = table.rows_estimate else { continue };
        ConstGauge::new(count(rows)).encode(family.encode_family(&[("table", table.name.as_str())])?)?;
    }
    let help = "Version of the target table";
    let mut family = encoder.encode_descriptor(names::SINK_TABLE_VERSION, help, None, kind)?;
    for table in shown {
        let Some(version) = table.version else { continue };
        ConstGauge::new(version).encode(family.encode_family(&[("table", table.name.as_str())])?)?;
    }
    let Some(found) = &status.source.wal_status else { return Ok(()) };
    let help = "Whether the log that the slot needs is safe";
    let mut family = encoder.encode_descriptor(names::PG_SLOT_WAL_STATUS, help, None, kind)?;
    for word in ["reserved", "extended", "unreserved", "lost"] {
        ConstGauge::new(i64::from(found == word)).encode(family.encode_family(&[("status", word)])?)?;
    }
    Ok(())
}

/// How long the oldest running copy has run.
fn copying_for(status: &Status) -> Option<f64> {
    let running = status.tables.iter().filter(|table| table.state == TableState::Snapshotting);
    running.filter_map(|table| table.copy_began).min().map(Timestamp::age_seconds)
}

type Line = (&'static str, &'static str, Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "OpenMetrics gauges are floats; 2^53 bytes are 9 PB")]
fn source_gauges(status: &Status) -> Vec<Line> {
    let connected = if status.source.connected { 1.0 } else { 0.0 };
    vec![
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
            names::MYSQL_BINLOG_REMAINING_SECONDS,
            "Seconds for which the server keeps what the target does not hold yet, at least",
            status.source.log_seconds_left.map(|n| n as f64),
        ),
        (
            names::LAST_COMMIT_AGE_SECONDS,
            "Seconds since the last commit to the target",
            status.last_commit.map(Timestamp::age_seconds),
        ),
        (
            names::PG_CONFIRMED_FLUSH_LAG_BYTES,
            "Bytes of log that are not acknowledged, as the server says it",
            status.source.unacknowledged_bytes.map(|n| n as f64),
        ),
        (
            names::PG_SLOT_ACTIVE,
            "Whether somebody streams from the slot, as the server says it",
            status.source.slot_active.map(|active| f64::from(u8::from(active))),
        ),
    ]
}

impl BoardCollector {
    #[expect(clippy::cast_precision_loss, reason = "OpenMetrics gauges are floats; 2^53 bytes are 9 PB")]
    fn process_gauges(&self, status: &Status) -> Vec<Line> {
        vec![
            (names::LAST_EVENT_AGE_SECONDS, "Seconds since the last change came", self.ages.event()),
            (
                names::HEARTBEAT_AGE_SECONDS,
                "Seconds since the source said anything, a keepalive too",
                self.ages.heard(),
            ),
            (
                names::SNAPSHOT_ELAPSED_SECONDS,
                "How long the oldest running copy has run",
                copying_for(status),
            ),
            (names::MEMORY_LIMIT_BYTES, "What the process may take", self.memory_limit.map(|n| n as f64)),
            (names::PROCESS_OPEN_FDS, "Open file descriptors", process::open_files().map(|n| n as f64)),
            (
                names::PROCESS_START_TIME_SECONDS,
                "When the process began, Unix time",
                status.process.started_at.map(|at| at.utc().timestamp_millis() as f64 / 1000.0),
            ),
            (
                names::MEMORY_RESIDENT_BYTES,
                "Resident memory of the process",
                process::resident_bytes().map(|n| n as f64),
            ),
        ]
    }
}
