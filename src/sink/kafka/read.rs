//! Reading the checkpoint.
//!
//! The order decides (DESIGN §5): the fence first (`init_transactions`), then the end of the partition, then
//! reading what is committed until that end is passed. Another pipeline's open transaction hides what follows
//! it; who must know what is there waits, who only shows it does not.

use super::client::{self, ASK, explain, explain_code};
use super::options::{CHECKPOINTS, KafkaOptions};
use super::state::State;
use crate::error::{Error, Result, codes};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::metadata::Metadata;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(100);
/// Who waits says so after this …
const SAY_FIRST: Duration = Duration::from_secs(2);
/// … and then this often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// How far to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// To the end as it is now, whatever hides it.
    End,
    /// To the first open transaction.
    Visible,
}

/// Where the pipeline's checkpoint is. Blocking.
///
/// # Errors
/// `KF001`, `KF002`.
pub(super) fn partition(sender: &client::Sender, options: &KafkaOptions) -> Result<i32> {
    let metadata = sender
        .client()
        .fetch_metadata(Some(CHECKPOINTS), ASK)
        .map_err(|e| explain(e, "the partitions of the checkpoints"))?;
    Ok(options.partition(partitions(&metadata)?.ok_or_else(unknown)?))
}

/// How many partitions the topic has; `None`: this broker knows no such topic.
fn partitions(metadata: &Metadata) -> Result<Option<usize>> {
    let topic = metadata.topics().iter().find(|topic| topic.name() == CHECKPOINTS);
    topic.map_or(Err(unknown()), |topic| known(topic.error().map(Into::into), topic.partitions().len()))
}

/// No answer is no topic that is empty: whoever takes it for one writes an empty checkpoint over the real one.
fn known(error: Option<RDKafkaErrorCode>, partitions: usize) -> Result<Option<usize>> {
    use RDKafkaErrorCode as Rd;
    match error {
        None if partitions > 0 => Ok(Some(partitions)),
        Some(Rd::UnknownTopicOrPartition | Rd::UnknownTopic) => Ok(None),
        None => Err(unknown()),
        Some(code) => {
            let text = format!("the partitions of the topic \"{CHECKPOINTS}\" are not told ({code})");
            Err(explain_code(code, &text))
        }
    }
}

fn unknown() -> Error {
    Error::new(
        codes::KF001,
        format!("the brokers do not know the partitions of the topic \"{CHECKPOINTS}\" yet"),
    )
    .with_try("nothing, when it was made just now or its brokers come back")
}

/// Reads the pipeline's checkpoint. `None`: there is none. Blocking.
///
/// # Errors
/// `KF001`, `KF002`, `KF008`, `TG018`.
pub(super) fn read(options: &KafkaOptions, until: Until) -> Result<Option<State>> {
    let reader = client::consumer(options, true)?;
    let all = client::consumer(options, false)?;
    let ends_of: &BaseConsumer<_> = if until == Until::End { &all } else { &reader };
    let asked = |e| explain(e, "the end of the checkpoints' topic");
    let metadata = ends_of.fetch_metadata(Some(CHECKPOINTS), ASK).map_err(asked)?;
    let partition = match (partitions(&metadata)?, until) {
        (Some(partitions), _) => options.partition(partitions),
        // Who only looks comes before the topic is made, too.
        (None, Until::Visible) => return Ok(None),
        (None, Until::End) => return Err(unknown()),
    };
    let (_, end) = ends_of.fetch_watermarks(CHECKPOINTS, partition, ASK).map_err(asked)?;
    let mut assigned = TopicPartitionList::new();
    assigned
        .add_partition_offset(CHECKPOINTS, partition, Offset::Beginning)
        .and_then(|()| reader.assign(&assigned))
        .map_err(|e| explain(e, "reading the checkpoints"))?;
    let tables_key = format!("{}/tables", options.pipeline);
    let (mut main, mut tables): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    while position(&reader, partition) < end {
        if let Some(message) = reader.poll(STEP) {
            let message = message.map_err(|e| explain(e, "reading the checkpoints"))?;
            let key = message.key().unwrap_or_default();
            let value = message.payload().map(<[u8]>::to_vec);
            // A tombstone takes the record away.
            if key == options.pipeline.as_bytes() {
                main = value;
            } else if key == tables_key.as_bytes() {
                tables = value;
            }
        } else if said.map_or(started.elapsed() > SAY_FIRST, |said| said.elapsed() > SAY_EVERY) {
            said = Some(Instant::now());
            tracing::info!("waiting for an open Kafka transaction of another pipeline in {CHECKPOINTS}");
        }
        if started.elapsed() > LONGEST {
            let what = format!("an open transaction hides the end of {CHECKPOINTS}");
            return Err(Error::new(codes::KF001, what)
                .with_try("see which transaction it is: kafka-transactions.sh --bootstrap-server … list"));
        }
    }
    let Some(main) = main else { return Ok(None) };
    let mut state = State::default();
    if let Some(tables) = tables {
        state.take(true, &tables)?;
    }
    state.take(false, &main)?;
    Ok(Some(state))
}

/// The brokers end a transaction that is abandoned after its timeout, 15 minutes at most by default.
const LONGEST: Duration = Duration::from_secs(16 * 60);

fn position(reader: &BaseConsumer<client::Watch>, partition: i32) -> i64 {
    let positions = reader.position().ok();
    let found = positions.as_ref().and_then(|p| p.find_partition(CHECKPOINTS, partition));
    match found.map(|p| p.offset()) {
        Some(Offset::Offset(at)) => at,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_is_not_an_empty_topic() {
        use RDKafkaErrorCode as Rd;
        assert_eq!(known(None, 32).unwrap(), Some(32));
        assert_eq!(known(Some(Rd::UnknownTopicOrPartition), 0).unwrap(), None);
        for (error, code) in [
            (None, codes::KF001),
            (Some(Rd::LeaderNotAvailable), codes::KF001),
            (Some(Rd::RequestTimedOut), codes::KF001),
            (Some(Rd::TopicAuthorizationFailed), codes::KF002),
        ] {
            assert_eq!(known(error, 0).unwrap_err().code(), code, "{error:?}");
        }
        // With some partitions and an error, too.
        assert_eq!(known(Some(Rd::LeaderNotAvailable), 3).unwrap_err().code(), codes::KF001);
    }
}
