//! Measurements: the floor that a broker sets, and what a consumer sees. For `make bench`, not for operators.

use super::client::{Pace, settle};
use crate::error::{Error, Result, codes};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(codes::KF001, "the measurement failed").with_source(error)
}

/// One-record transactions, one after the other, with nothing of ours around them; milliseconds each.
///
/// # Errors
/// `KF001`.
pub fn floor(brokers: &str, topic: &str, transactions: usize) -> Result<Vec<f64>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "0").set("delivery.report.only.error", "true");
    config.set("transactional.id", "strandline-bench-floor");
    let sender: super::client::Sender = config.create_with_context(Default::default()).map_err(broken)?;
    sender.init_transactions(WAIT).map_err(broken)?;
    let payload = [b'x'; 600];
    let mut took = Vec::with_capacity(transactions);
    for _ in 0..transactions {
        let began = Instant::now();
        sender.begin_transaction().map_err(broken)?;
        sender.send(BaseRecord::to(topic).key("k").payload(&payload[..])).map_err(|(e, _)| broken(e))?;
        settle(&sender);
        sender.commit_transaction(WAIT).map_err(broken)?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(took)
}

/// What is to be produced.
#[derive(Debug)]
pub struct Load {
    /// Brokers.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Records.
    pub records: usize,
    /// Bytes of each value.
    pub size: usize,
    /// Whether each has the four headers of Debezium's events.
    pub has_headers: bool,
    /// Records of a transaction; `None`: there is none.
    pub transaction: Option<usize>,
    /// librdkafka's properties over the sink's.
    pub properties: Vec<(String, String)>,
}

/// The client's own cost of a record: the sink's producer without anything else of ours. Seconds.
///
/// # Errors
/// `KF001`, `KF004`.
pub fn produce(load: &Load) -> Result<f64> {
    let mut properties = vec![("bootstrap.servers".to_owned(), load.brokers.clone())];
    properties.extend(load.properties.iter().cloned());
    let id = load.transaction.map(|_| "strandline-bench-produce");
    let sender = super::client::producer_of("bench-produce", &properties, id)?;
    if id.is_some() {
        sender.init_transactions(WAIT).map_err(broken)?;
    }
    let value = vec![b'x'; load.size];
    let names = ["connectorLogicalName", "taskId", "connectorName", "runId"];
    let values = ["app", "0", "postgresql", "0a0b0c0d-0a0b-0c0d-0a0b-0a0b0c0d0e0f"];
    let names = names.map(|name| format!("__debezium.context.{name}"));
    let headers_bytes: usize =
        names.iter().zip(values).map(|(name, value)| name.len() + value.len() + 4).sum();
    let pace = Pace::default();
    let began = Instant::now();
    for at in 0..load.records {
        if let Some(size) = load.transaction
            && at % size == 0
        {
            if at > 0 {
                settle(&sender);
                sender.commit_transaction(WAIT).map_err(broken)?;
            }
            sender.begin_transaction().map_err(broken)?;
        }
        let key = format!("{{\"id\":{at}}}");
        let headers = load.has_headers.then(|| {
            names.iter().zip(values).fold(OwnedHeaders::new_with_capacity(4), |all, (key, value)| {
                all.insert(Header { key, value: Some(value) })
            })
        });
        let bytes = key.len() + value.len() + if load.has_headers { headers_bytes } else { 0 };
        pace.admit(&sender, bytes);
        let mut record = BaseRecord::to(&load.topic).key(key.as_bytes()).payload(&value[..]);
        record.headers = headers;
        super::writer::enqueue(&sender, record).map_err(broken)?;
    }
    settle(&sender);
    if id.is_some() {
        sender.commit_transaction(WAIT).map_err(broken)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What a consumer saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// From the first to the last, seconds.
    pub seconds: f64,
    /// From the source's commit to the arrival, milliseconds.
    pub latencies: Vec<f64>,
}

/// Reads committed records of a topic until there are so many; waits for them. Prints `ready` when it waits.
///
/// # Errors
/// `KF001`.
pub fn read(brokers: &str, topic: &str, records: u64, from_end: bool, ready: impl FnOnce()) -> Result<Seen> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("group.id", "strandline-bench")
        .set("enable.auto.commit", "false");
    config
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "500")
        .set("fetch.min.bytes", "1");
    let consumer: BaseConsumer = config.create().map_err(broken)?;
    let metadata = consumer.fetch_metadata(Some(topic), WAIT).map_err(broken)?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
        let at = if from_end {
            Offset::Offset(consumer.fetch_watermarks(topic, partition.id(), WAIT).map_err(broken)?.1)
        } else {
            Offset::Beginning
        };
        all.add_partition_offset(topic, partition.id(), at).map_err(broken)?;
    }
    consumer.assign(&all).map_err(broken)?;
    ready();
    let mut seen = Seen::default();
    let (mut first, mut last) = (None, Instant::now());
    while seen.records < records {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.map_err(broken)?;
        last = Instant::now();
        first.get_or_insert(last);
        seen.records += 1;
        let value = message.payload().unwrap_or_default();
        seen.bytes += u64::try_from(value.len()).unwrap_or_default();
        if from_end && let Some(committed) = committed_us(value) {
            let now = super::table::now_ns() / 1000;
            // Microseconds of a measurement: far below 2^52.
            #[expect(clippy::cast_precision_loss, reason = "a duration of a measurement")]
            seen.latencies.push((now - committed) as f64 / 1000.0);
        }
    }
    seen.seconds = first.map_or(0.0, |first| last.duration_since(first).as_secs_f64());
    Ok(seen)
}

/// `source.ts_us` of an event: the first of that name behind `source`.
fn committed_us(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let (_, source) = text.split_once("\"source\":")?;
    let (_, number) = source.split_once("\"ts_us\":")?;
    number.get(..number.find(|c: char| !c.is_ascii_digit())?)?.parse().ok()
}
