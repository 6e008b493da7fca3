//! Clients of librdkafka: how they are made, what their errors mean.

use super::options::KafkaOptions;
use crate::error::{Error, Result, codes};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A call that asks a broker waits at most so long before it is asked again.
pub(super) const ASK: Duration = Duration::from_secs(10);
/// While messages are under way they are looked at this often.
const FIRST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(2);

/// What is produced waits so long for more to go with. It costs transactions next to nothing: a partition's first
/// records wait longer for the partition to be added to the transaction (the client begins that after 1 ms).
const LINGER_MS: &str = "1";

/// What librdkafka says beside the calls.
#[derive(Debug, Default)]
pub(super) struct Watch {
    failed: Mutex<Option<(RDKafkaErrorCode, String)>>,
    trouble: Mutex<Option<Trouble>>,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub code: RDKafkaErrorCode,
    pub reason: String,
}

impl Trouble {
    /// One of both does not take the other's certificate. After the handshake a broker says so by an alert.
    pub(super) fn is_tls(&self) -> bool {
        let is_alert =
            self.code == RDKafkaErrorCode::BrokerTransportFailure && self.reason.contains("tls alert");
        is_alert || self.code == RDKafkaErrorCode::SSL
    }

    /// A broker answered, and does not want us, or we not it.
    pub(super) fn is_refusal(&self) -> bool {
        use RDKafkaErrorCode as Rd;
        if self.is_tls() {
            return true;
        }
        matches!(
            self.code,
            Rd::Authentication
                | Rd::SaslAuthenticationFailed
                | Rd::UnsupportedSASLMechanism
                | Rd::IllegalSASLState
        )
    }
}

impl Watch {
    /// What stands in the way of a connection: a refusal, else the last that was told.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first message that could not be delivered since the last look, and its topic.
    pub(super) fn take_failure(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, "Kafka client: {message}");
            }
            _ => tracing::debug!(facility, "Kafka client: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "Kafka client: {reason}");
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down follows from what was told before it.
        let is_known = known.is_some() && code == RDKafkaErrorCode::AllBrokersDown;
        if !is_known && known.as_ref().is_none_or(|known| !known.is_refusal()) {
            *known = Some(Trouble { code, reason: reason.to_owned() });
        }
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert_with(|| (code, message.topic().to_owned()));
        }
    }
}

/// Our producer.
pub(super) type Sender = BaseProducer<Watch>;

/// What every client has; the operator's properties come over it. No topic is made by asking for it: the brokers would
/// give it their own settings, and one that was deleted would come back empty.
fn config(pipeline: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("client.id", format!("strandline-{pipeline}"))
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true")
        .set("topic.metadata.refresh.interval.ms", "60000");
    config
}

fn with_properties(
    mut config: ClientConfig,
    properties: &[(String, String)],
    is_producer: bool,
) -> ClientConfig {
    for (key, value) in properties {
        if is_producer || !PRODUCER_ONLY.contains(&key.as_str()) {
            // Of two names of one property librdkafka would take either.
            for (one, other) in SAME {
                match key.as_str() {
                    key if key == one => config.remove(other),
                    key if key == other => config.remove(one),
                    _ => &mut config,
                };
            }
            config.set(key, value);
        }
    }
    config
}

/// Names of one property.
const SAME: [(&str, &str); 9] = [
    ("acks", "request.required.acks"),
    ("batch.num.messages", "batch.size"),
    ("bootstrap.servers", "metadata.broker.list"),
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.send.max.retries", "retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// Properties that a consumer would only warn about.
const PRODUCER_ONLY: [&str; 18] = [
    "acks",
    "request.required.acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "linger.ms",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "transaction.timeout.ms",
    "retries",
    "message.send.max.retries",
    "enable.idempotence",
];

/// A producer; `transactional_id`: what it writes comes in transactions, under this fence.
///
/// # Errors
/// `KF004`.
pub(super) fn producer(options: &KafkaOptions, transactional_id: Option<&str>) -> Result<Sender> {
    producer_of(&options.pipeline, &options.properties, transactional_id)
}

/// The same, of these properties.
///
/// # Errors
/// `KF004`.
pub(super) fn producer_of(
    pipeline: &str,
    properties: &[(String, String)],
    transactional_id: Option<&str>,
) -> Result<Sender> {
    let mut config = config(pipeline);
    config
        .set("linger.ms", LINGER_MS)
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "32768")
        .set("queue.buffering.max.messages", "100000")
        .set("transaction.timeout.ms", "300000")
        .set("retry.backoff.ms", "50");
    let mut config = with_properties(config, properties, true);
    config.set("delivery.report.only.error", "true");
    match transactional_id {
        Some(id) => config.set("enable.idempotence", "true").set("transactional.id", id),
        None => in_order(config.remove("transaction.timeout.ms")),
    };
    config.create_with_context(Watch::default()).map_err(|e| explain(e, "a producer"))
}

/// What keeps the order without a transaction: idempotence, which needs all replicas; else one request at a time.
fn in_order(config: &mut ClientConfig) -> &mut ClientConfig {
    let acks = config.get("acks").or(config.get("request.required.acks")).unwrap_or("all");
    let is_all = matches!(acks, "all" | "-1");
    if config.get("enable.idempotence").is_none() {
        config.set("enable.idempotence", is_all.to_string());
    }
    let is_idempotent = config.get("enable.idempotence") == Some("true");
    let is_set = ["max.in.flight", "max.in.flight.requests.per.connection"]
        .iter()
        .any(|key| config.get(key).is_some());
    if !is_idempotent && !is_set {
        config.set("max.in.flight", "1");
    }
    config
}

/// A consumer of one topic's partitions, without a group's duties.
///
/// # Errors
/// `KF004`.
pub(super) fn consumer(options: &KafkaOptions, is_committed: bool) -> Result<BaseConsumer<Watch>> {
    let mut config = with_properties(config(&options.pipeline), &options.properties, false);
    config
        .set("group.id", options.transactional_id())
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("fetch.wait.max.ms", "50")
        .set("isolation.level", if is_committed { "read_committed" } else { "read_uncommitted" });
    config.create_with_context(Watch::default()).map_err(|e| explain(e, "a consumer"))
}

/// A configuration for the administrative client.
pub(super) fn admin_config(options: &KafkaOptions) -> ClientConfig {
    with_properties(config(&options.pipeline), &options.properties, false)
}

/// So many bytes are under way at most. It is less than a batch, which is 1 MB at most for brokers and client.
pub(super) const UNDER_WAY: usize = 768 << 10;
/// What the client writes beside key, value and headers of a record.
const FRAMING: usize = 24;

/// Holds records back, because the client would spin over them: it sends one batch at a time to a partition, and
/// while that is under way and more is due, its thread asks for the time in a loop, which takes a core.
/// So what it gets is sent as one batch, or one for each partition, and awaited before there is more.
#[derive(Debug)]
pub(super) struct Pace {
    bytes: Cell<usize>,
    /// What a topic takes as one batch, of the topic that takes least: [`UNDER_WAY`] or less.
    limit: Arc<AtomicUsize>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace::new(Arc::new(AtomicUsize::new(UNDER_WAY)))
    }
}

impl Pace {
    pub(super) fn new(limit: Arc<AtomicUsize>) -> Self {
        Pace { bytes: Cell::new(0), limit }
    }

    /// Before a record of so many bytes is handed over.
    pub(super) fn admit(&self, sender: &Sender, bytes: usize) {
        let (before, bytes) = (self.bytes.get(), bytes + FRAMING);
        if before > 0 && before + bytes > self.limit.load(Ordering::Relaxed) {
            settle(sender);
            self.bytes.set(bytes);
        } else {
            self.bytes.set(before + bytes);
        }
    }
}

/// Waits until nothing is under way. The client's own `flush` waits in steps of 100 ms.
pub(super) fn settle(sender: &Sender) {
    let mut nap = FIRST_NAP;
    loop {
        sender.poll(Duration::ZERO);
        if sender.in_flight_count() == 0 {
            return;
        }
        std::thread::sleep(nap);
        if nap < LONGEST_NAP {
            nap += nap / 8;
        }
    }
}

/// A coded error for what librdkafka said. `what` was being done.
pub(super) fn explain(error: KafkaError, what: &str) -> Error {
    if let KafkaError::ClientConfig(_, description, key, _) = &error {
        let text = format!("the Kafka client does not take the property \"{key}\": {description}");
        return Error::new(codes::KF004, text)
            .with_try("check sink.properties, and librdkafka's CONFIGURATION.md");
    }
    if let KafkaError::ClientCreation(description) = &error {
        return Error::new(
            codes::KF004,
            format!("no Kafka client can be made of this configuration: {description}"),
        )
        .with_try("check the section sink");
    }
    let code = code_of(&error);
    let text = format!("Kafka: {what}");
    match code {
        Some(code) => explain_code(code, &text).with_source(error),
        None => Error::new(codes::KF001, text).with_source(error),
    }
}

/// The code within an error.
pub(super) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(inner) => Some(inner.code()),
        other => other.rdkafka_error_code(),
    }
}

/// A coded error for librdkafka's.
pub(super) fn explain_code(code: RDKafkaErrorCode, text: &str) -> Error {
    use RDKafkaErrorCode as Rd;
    match code {
        Rd::SaslAuthenticationFailed
        | Rd::Authentication
        | Rd::SSL
        | Rd::TopicAuthorizationFailed
        | Rd::ClusterAuthorizationFailed
        | Rd::GroupAuthorizationFailed
        | Rd::TransactionalIdAuthorizationFailed
        | Rd::UnsupportedSASLMechanism
        | Rd::IllegalSASLState => Error::new(codes::KF002, format!("{text}: the brokers refuse it"))
            .with_try("check user, password and certificates in sink.tls and sink.sasl, and the rights that docs/KAFKA.md lists"),
        Rd::MessageSizeTooLarge => Error::new(codes::KF003, format!("{text}: it is larger than the topic's max.message.bytes"))
            .with_try("raise the topic's max.message.bytes, or lower sink.max_record below it"),
        Rd::UnknownTopic | Rd::UnknownTopicOrPartition | Rd::PolicyViolation | Rd::InvalidTopic
        | Rd::InvalidReplicationFactor | Rd::InvalidPartitions | Rd::InvalidConfig => {
            Error::new(codes::KF003, text).with_try("make the topic by hand, or change sink.topics")
        }
        _ => Error::new(codes::KF001, text).with_try("check that the brokers run and can be reached"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(properties: &[(&str, &str)], transactional_id: Option<&str>) -> Result<()> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let properties: Vec<_> = properties.iter().map(owned).collect();
        producer_of("shop", &properties, transactional_id).map(|_| ())
    }

    /// librdkafka refuses what contradicts itself when a client is made, without a broker.
    #[test]
    fn the_leaders_answer_alone_may_be_enough() {
        made(&[("acks", "1")], None).unwrap();
        made(&[("acks", "all")], Some("id")).unwrap();
        made(&[("acks", "all"), ("enable.idempotence", "false")], None).unwrap();
        // The later one stands, whatever it is called.
        made(&[("acks", "1"), ("request.required.acks", "-1")], Some("id")).unwrap();
        for wrong in [&[("acks", "1")][..], &[("acks", "all"), ("request.required.acks", "1")]] {
            assert_eq!(made(wrong, Some("id")).unwrap_err().code(), codes::KF004);
        }
    }

    #[test]
    fn the_order_is_kept_without_idempotence_too() {
        let of = |pairs: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            pairs.iter().for_each(|(key, value)| {
                config.set(*key, *value);
            });
            in_order(&mut config);
            let get = |key: &str| config.get(key).unwrap_or("unset").to_owned();
            (get("enable.idempotence"), get("max.in.flight"))
        };
        let is = |idempotence: &str, in_flight: &str| (idempotence.to_owned(), in_flight.to_owned());
        assert_eq!(of(&[]), is("true", "unset"));
        assert_eq!(of(&[("acks", "1")]), is("false", "1"));
        assert_eq!(of(&[("enable.idempotence", "false")]), is("false", "1"));
        assert_eq!(of(&[("acks", "1"), ("max.in.flight", "5")]), is("false", "5"));
    }
}
