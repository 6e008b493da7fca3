//! The names that Debezium's users have on their dashboards: `debezium_metrics_*`, with the labels `plugin`, `name` and `context`,
//! as the usual rules of the JMX exporter make them. Only what we know is shown; what a connector counts and we do not is absent.

use super::flow::Flow;
use crate::telemetry::names::DEBEZIUM_PREFIX;
use crate::telemetry::status::{PipelineState, Status, StatusBoard, TableState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};

#[derive(Debug)]
pub(super) struct Debezium {
    pub(super) plugin: &'static str,
    pub(super) board: StatusBoard,
    pub(super) flow: Flow,
    pub(super) transactions: Counter,
    pub(super) buffer_bytes: Gauge,
}

impl Collector for Debezium {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.board.status();
        for (context, name, value) in self.streaming(&status).into_iter().chain(self.snapshot(&status)) {
            let Some(value) = value else { continue };
            let labels = [("plugin", self.plugin), ("name", status.name.as_str()), ("context", context)];
            let gauge = ConstGauge::new(value);
            let name = format!("{DEBEZIUM_PREFIX}_{name}");
            let help = "As Debezium's connector of this kind says it";
            let mut family = encoder.encode_descriptor(&name, help, None, gauge.metric_type())?;
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

type Line = (&'static str, &'static str, Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn number(n: u64) -> Option<f64> {
    Some(n as f64)
}

fn yes(is: bool) -> Option<f64> {
    Some(f64::from(u8::from(is)))
}

impl Debezium {
    fn streaming(&self, status: &Status) -> Vec<Line> {
        let [_, create, update, delete, _] = self.flow.op_totals.each_ref().map(Counter::get);
        let all: u64 = self.flow.op_totals.iter().map(Counter::get).sum();
        let size = |gauge: &Gauge| u64::try_from(gauge.get()).ok().and_then(number);
        let free = self.flow.buffer_limit.get().saturating_sub(self.buffer_bytes.get()).max(0);
        let of = "streaming";
        vec![
            (of, "Connected", yes(status.source.connected)),
            (of, "MilliSecondsBehindSource", status.lag_seconds.map(|s| s * 1000.0)),
            (of, "MilliSecondsSinceLastEvent", self.flow.ages.event().map(|s| s * 1000.0)),
            (of, "TotalNumberOfEventsSeen", number(all)),
            (of, "TotalNumberOfCreateEventsSeen", number(create)),
            (of, "TotalNumberOfUpdateEventsSeen", number(update)),
            (of, "TotalNumberOfDeleteEventsSeen", number(delete)),
            (of, "NumberOfCommittedTransactions", number(self.transactions.get())),
            (of, "NumberOfDisconnects", number(self.flow.lost.get())),
            (of, "MaxQueueSizeInBytes", size(&self.flow.buffer_limit)),
            (of, "CurrentQueueSizeInBytes", size(&self.buffer_bytes)),
            (of, "QueueRemainingCapacity", u64::try_from(free).ok().and_then(number)),
        ]
    }

    fn snapshot(&self, status: &Status) -> Vec<Line> {
        let tables = |wanted: &[TableState]| {
            let count = status.tables.iter().filter(|table| wanted.contains(&table.state)).count();
            u64::try_from(count).ok().and_then(number)
        };
        let waiting = tables(&[TableState::Pending, TableState::Snapshotting]);
        let is_running = status.phase == PipelineState::Snapshotting;
        let of = "snapshot";
        vec![
            (of, "SnapshotRunning", yes(is_running)),
            (of, "SnapshotCompleted", yes(!is_running && waiting == Some(0.0) && !status.tables.is_empty())),
            (of, "TotalTableCount", tables(TableState::ALL)),
            (of, "RemainingTableCount", waiting),
            (of, "TotalNumberOfEventsSeen", number(self.flow.op_totals[0].get())),
        ]
    }
}
