//! What the sink is told: plain values, all checked, secrets resolved.

use super::registry::RegistryOptions;
use crate::debezium::Options as EventOptions;
use crate::schema::TableName;
use std::collections::BTreeMap;
use std::fmt;

/// The sink's options.
#[derive(Clone)]
pub struct KafkaOptions {
    /// The pipeline: the key of its checkpoint, and a part of its transactional ids.
    pub pipeline: String,
    /// Properties of librdkafka's clients: brokers, security, compression and so on. May hold secrets.
    pub properties: Vec<(String, String)>,
    /// Events and checkpoint in one Kafka transaction. Otherwise events may come twice after a crash.
    pub exactly_once: bool,
    /// How topics are made that are missing.
    pub topics: TopicOptions,
    /// What happens with a record that the broker would refuse for its size.
    pub oversize: Oversize,
    /// So many bytes a record may have, key and headers included.
    pub max_record: usize,
    /// Units with more bytes of events come as several Kafka transactions.
    pub max_transaction: usize,
    /// Events that wait in memory may take so many bytes; beyond, they wait on disk.
    pub memory: usize,
    /// Where they wait.
    pub spill_dir: std::path::PathBuf,
    /// Where schemas are registered, for Avro.
    pub registry: Option<RegistryOptions>,
    /// The form of events.
    pub events: EventOptions,
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No properties: they may hold passwords.
        f.debug_struct("KafkaOptions")
            .field("pipeline", &self.pipeline)
            .field("exactly_once", &self.exactly_once)
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// How topics are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicOptions {
    /// Whether they are made at all.
    pub create: bool,
    /// Partitions; `None`: the broker's default.
    pub partitions: Option<i32>,
    /// Replicas; `None`: the broker's default.
    pub replication: Option<i32>,
    /// Settings of the topic: `cleanup.policy` and so on.
    pub settings: Vec<(String, String)>,
    /// Of single tables: what is not said there is as above, settings are added.
    pub tables: BTreeMap<TableName, TopicOptions>,
}

impl TopicOptions {
    /// How a table's topic is made.
    pub(super) fn of(&self, table: &TableName) -> TopicOptions {
        let Some(own) = self.tables.get(table) else { return self.clone() };
        TopicOptions {
            create: self.create,
            partitions: own.partitions.or(self.partitions),
            replication: own.replication.or(self.replication),
            // The last of a name counts.
            settings: self.settings.iter().chain(&own.settings).cloned().collect(),
            tables: BTreeMap::new(),
        }
    }
}

/// What happens with a record that is too large.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Oversize {
    /// Its table stops.
    Stop,
    /// It goes to this topic without its widest values, with headers that say what it was.
    DeadLetter {
        /// The topic.
        topic: String,
    },
    /// It lacks its widest values, and a header names them.
    Truncate,
}

/// The topic of all pipelines' checkpoints.
pub const CHECKPOINTS: &str = "__strandline_checkpoints";

/// Its partitions, when we make it. A pipeline that died in a transaction hides what follows in its partition:
/// with many of them that is nobody's, most of the time.
pub(super) const CHECKPOINT_PARTITIONS: i32 = 32;

impl KafkaOptions {
    /// The partition of the pipeline's checkpoint.
    pub(super) fn partition(&self, partitions: usize) -> i32 {
        let partitions = u32::try_from(partitions).unwrap_or(1).max(1);
        i32::try_from(crate::debezium::partition_of(self.pipeline.as_bytes(), partitions)).unwrap_or(0)
    }

    /// The fence of the stream.
    pub(super) fn transactional_id(&self) -> String {
        format!("strandline-{}", self.pipeline)
    }

    /// The fence of copies.
    pub(super) fn copy_id(&self) -> String {
        format!("strandline-{}-copy", self.pipeline)
    }
}
