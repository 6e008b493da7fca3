//! Topics: making those that are missing, seeing which are there.

use super::client::{ASK, admin_config, explain, explain_code};
use super::options::{CHECKPOINT_PARTITIONS, CHECKPOINTS, KafkaOptions, TopicOptions};
use crate::error::{Error, Result, codes};
use crate::schema::TableName;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So often a policy that is not the right one is looked at again …
const LOOKS: u32 = 8;
/// … after so long.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// The administrative client.
pub(super) struct Topics {
    admin: AdminClient<DefaultClientContext>,
    options: TopicOptions,
}

impl Topics {
    /// Connects lazily.
    ///
    /// # Errors
    /// `KF004`.
    pub(super) fn new(options: &KafkaOptions) -> Result<Self> {
        let admin = admin_config(options).create().map_err(|e| explain(e, "the administrative client"))?;
        Ok(Topics { admin, options: options.topics.clone() })
    }

    /// Names of all topics. Blocking.
    ///
    /// # Errors
    /// `KF001`, `KF002`.
    pub(super) fn names(&self) -> Result<BTreeSet<String>> {
        let metadata =
            self.admin.inner().fetch_metadata(None, ASK).map_err(|e| explain(e, "the list of topics"))?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// Makes a topic for events unless it is there.
    ///
    /// # Errors
    /// `KF003` when it may not be made, or is refused.
    pub(super) async fn ensure(&self, name: &str) -> Result<()> {
        self.ensure_as(name, &self.options).await
    }

    /// The same for a table's topic.
    ///
    /// # Errors
    /// As [`Topics::ensure`].
    pub(super) async fn ensure_of(&self, name: &str, table: &TableName) -> Result<()> {
        self.ensure_as(name, &self.options.of(table)).await
    }

    async fn ensure_as(&self, name: &str, options: &TopicOptions) -> Result<()> {
        if !options.create {
            return Ok(());
        }
        let mut topic = NewTopic::new(
            name,
            options.partitions.unwrap_or(-1),
            TopicReplication::Fixed(options.replication.unwrap_or(-1)),
        );
        let settings: BTreeMap<_, _> = options.settings.iter().map(|(key, value)| (key, value)).collect();
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        self.make(topic).await
    }

    /// Makes the checkpoints' topic unless it is there: compacted, whoever made it.
    ///
    /// # Errors
    /// As [`Topics::ensure`], and `KF003` when its records would be deleted by age.
    pub(super) async fn ensure_checkpoints(&self) -> Result<()> {
        let replication = TopicReplication::Fixed(self.options.replication.unwrap_or(-1));
        let topic = NewTopic::new(CHECKPOINTS, CHECKPOINT_PARTITIONS, replication)
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "16777216")
            .set("min.cleanable.dirty.ratio", "0.1");
        self.make(topic).await?;
        self.check_policy().await
    }

    /// Only compaction alone keeps the last record of a pipeline that is quiet for longer than the retention. A topic
    /// that was made just now may be shown without its settings at first.
    async fn check_policy(&self) -> Result<()> {
        let mut policy = self.policy().await?;
        for _ in 0..LOOKS {
            if policy.as_deref() == Some("compact") {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
            policy = self.policy().await?;
        }
        let Some(policy) = policy else {
            let what = format!("no answer about the cleanup.policy of the topic \"{CHECKPOINTS}\"");
            return Err(Error::new(codes::KF001, what));
        };
        let text = format!(
            "the topic \"{CHECKPOINTS}\" has cleanup.policy={policy}: its records would be deleted by age, and with them every position"
        );
        Err(Error::new(codes::KF003, text).with_try(format!(
            "kafka-configs.sh --alter --topic {CHECKPOINTS} --add-config cleanup.policy=compact"
        )))
    }

    /// The policy of the checkpoints' topic; `None`: this broker has not heard of it yet.
    async fn policy(&self) -> Result<Option<String>> {
        let what = format!("the cleanup.policy of the topic \"{CHECKPOINTS}\"");
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let asked = self.admin.describe_configs([&ResourceSpecifier::Topic(CHECKPOINTS)], &options).await;
        match asked.map_err(|e| explain(e, &what))?.into_iter().next() {
            Some(Ok(config)) => {
                let found = config.get("cleanup.policy").and_then(|entry| entry.value.clone());
                Ok(found.filter(|policy| !policy.is_empty()))
            }
            None | Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) => Ok(None),
            Some(Err(code)) => Err(explain_code(code, &format!("{what} is not told ({code})"))),
        }
    }

    /// Bytes of the largest batch that a topic takes; `None`: the brokers do not tell us.
    pub(super) async fn limit(&self, name: &str) -> Option<usize> {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let asked = self.admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await;
        let config = asked.ok()?.into_iter().next()?;
        match config {
            Ok(config) => config.get("max.message.bytes")?.value.as_ref()?.parse().ok(),
            Err(error) => {
                tracing::debug!(topic = name, %error, "its max.message.bytes is not told");
                None
            }
        }
    }

    async fn make(&self, topic: NewTopic<'_>) -> Result<()> {
        let name = topic.name.to_owned();
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let made = self.admin.create_topics([&topic], &options).await;
        let made = made.map_err(|e| explain(e, &format!("making the topic \"{name}\"")))?;
        match made.into_iter().next() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => {
                Err(explain_code(code, &format!("the topic \"{name}\" cannot be made ({code})")))
            }
            None => Err(Error::new(codes::KF001, format!("no answer about the topic \"{name}\""))),
        }
    }
}
