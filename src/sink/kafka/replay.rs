//! Reading a table's topic again, from its first record to an end that was noted before.
//!
//! The end is what the brokers have, committed or not: the records of a transaction are there before its
//! commit is. It is reached when everything before it is decided, as a `read_committed` consumer sees it.

use super::client::{self, ASK, Watch, explain};
use super::options::KafkaOptions;
use super::oversize::TRUNCATED;
use super::{KafkaSink, blocking};
use crate::debezium::Encoder;
use crate::error::{Error, Result, codes};
use crate::schema::{TableName, TableSchema};
use crate::sink::table_error;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const STEP: Duration = Duration::from_millis(100);
/// The brokers end a transaction that is abandoned after its timeout, 15 minutes at most by default.
const LONGEST: Duration = Duration::from_secs(16 * 60);
/// Records that are handed over at once …
const BATCH: usize = 2048;
/// … or so many bytes of them.
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait.
const WAITING: usize = 4;

/// Where each partition begins and ends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ends(BTreeMap<i32, (i64, i64)>);

impl Ends {
    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.0.len()
    }

    /// A partition whose first records are gone, and where it begins.
    pub fn cut_off(&self) -> Option<(i32, i64)> {
        self.0.iter().find(|(_, (begin, _))| *begin > 0).map(|(at, (begin, _))| (*at, *begin))
    }

    /// Whether the record is at or behind the end.
    pub fn is_behind(&self, record: &Logged) -> bool {
        self.0.get(&record.partition).is_none_or(|(_, end)| record.offset >= *end)
    }

    fn end(&self, partition: i32) -> i64 {
        self.0.get(&partition).map_or(0, |(_, end)| *end)
    }
}

/// A record of a topic.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its partition.
    pub partition: i32,
    /// Its place in it.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// The header that names values which were too large.
    pub truncated: Option<Vec<u8>>,
}

/// A topic that is being read.
pub struct Replay(mpsc::Receiver<Result<Vec<Logged>>>);

impl Replay {
    /// The next records; `None`: all were read.
    ///
    /// # Errors
    /// `KF001`, `KF002`.
    pub async fn next(&mut self) -> Result<Option<Vec<Logged>>> {
        self.0.recv().await.transpose()
    }
}

impl KafkaSink {
    /// An encoder for this table, whose schemas are not registered.
    ///
    /// # Errors
    /// `CF003`.
    pub fn encoder(&self, schema: &Arc<TableSchema>) -> Result<Encoder> {
        Encoder::new(schema, &self.events)
    }

    /// The directory for what does not fit into memory.
    pub fn spill_dir(&self) -> &std::path::Path {
        &self.options.spill_dir
    }

    /// Where the topic of a table ends now.
    ///
    /// # Errors
    /// `KF006` when it is not there; `KF001`, `KF002`.
    pub async fn ends(&self, table: &TableName, topic: &str) -> Result<Ends> {
        let (options, topic, table) = (Arc::clone(&self.options), topic.to_owned(), table.clone());
        blocking(move || {
            let consumer = client::consumer(&options, false)?;
            let asked = |e| explain(e, "the end of a topic");
            let metadata = consumer.fetch_metadata(Some(&topic), ASK).map_err(asked)?;
            let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            if partitions.is_empty() {
                let what = format!("its topic \"{topic}\" is gone");
                return Err(table_error(&table, codes::KF006, what)
                    .with_try(format!("strandline resync \"{table}\" --yes")));
            }
            let mut ends = Ends::default();
            for partition in partitions {
                let marks = consumer.fetch_watermarks(&topic, partition.id(), ASK).map_err(asked)?;
                ends.0.insert(partition.id(), marks);
            }
            Ok(ends)
        })
        .await
    }

    /// Reads a topic up to these ends; `from`: only what is behind those.
    pub fn replay(&self, topic: &str, from: Option<&Ends>, to: &Ends) -> Replay {
        let (send, receive) = mpsc::channel(WAITING);
        let (options, topic) = (Arc::clone(&self.options), topic.to_owned());
        let parts =
            to.0.iter().map(|(at, (begin, end))| (*at, from.map_or(*begin, |from| from.end(*at)), *end));
        let parts: Vec<(i32, i64, i64)> = parts.filter(|(_, begin, end)| begin < end).collect();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&options, &topic, &parts, &send) {
                // Who reads may have ended.
                let _gone = send.blocking_send(Err(error));
            }
        });
        Replay(receive)
    }

    /// The schema that the registry has under an id.
    ///
    /// # Errors
    /// `KF009`, `KF010`.
    pub async fn schema(&self, id: u32) -> Result<String> {
        match &self.registry {
            Some(registry) => registry.schema(id).await,
            None => {
                Err(Error::new(codes::KF010, "a schema is needed, and there is no format.schema_registry"))
            }
        }
    }
}

/// Reads these parts of a topic: partition, first record, end.
fn read(
    options: &KafkaOptions,
    topic: &str,
    parts: &[(i32, i64, i64)],
    to: &mpsc::Sender<Result<Vec<Logged>>>,
) -> Result<()> {
    let consumer = client::consumer(options, true)?;
    let asked = |e| explain(e, "reading a topic");
    let mut assigned = TopicPartitionList::new();
    for (partition, begin, _) in parts {
        assigned.add_partition_offset(topic, *partition, Offset::Offset(*begin)).map_err(asked)?;
    }
    consumer.assign(&assigned).map_err(asked)?;
    let (mut batch, mut bytes, mut heard) = (Vec::new(), 0, Instant::now());
    loop {
        let message = consumer.poll(STEP).transpose().map_err(asked)?;
        let is_idle = message.is_none();
        if let Some(message) = message {
            heard = Instant::now();
            let end = parts.iter().find(|(at, ..)| *at == message.partition()).map_or(0, |(.., end)| *end);
            if message.offset() < end {
                let record = logged(&message);
                bytes += record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len);
                batch.push(record);
            }
        }
        let is_full = batch.len() >= BATCH || bytes >= BATCH_BYTES;
        if !(is_idle || is_full) {
            continue;
        }
        let is_done = is_done(&consumer, topic, parts);
        if !batch.is_empty() {
            bytes = 0;
            if to.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                return Ok(());
            }
        }
        if is_done {
            return Ok(());
        }
        if heard.elapsed() > LONGEST {
            let what = format!("an open transaction hides the end of the topic \"{topic}\"");
            return Err(Error::new(codes::KF001, what)
                .with_try("see which transaction it is: kafka-transactions.sh --bootstrap-server … list"));
        }
    }
}

fn logged(message: &impl Message) -> Logged {
    let headers = message.headers();
    let truncated = headers.and_then(|all| all.iter().find(|header| header.key == TRUNCATED)?.value);
    Logged {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        truncated: truncated.map(<[u8]>::to_vec),
    }
}

/// Whether every partition was read to its end, the marks of transactions counted.
fn is_done(consumer: &BaseConsumer<Watch>, topic: &str, parts: &[(i32, i64, i64)]) -> bool {
    let Ok(positions) = consumer.position() else { return false };
    parts.iter().all(|(partition, _, end)| {
        let found = positions.find_partition(topic, *partition).map(|place| place.offset());
        matches!(found, Some(Offset::Offset(at)) if at >= *end)
    })
}
