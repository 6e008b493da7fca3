//! The keys of a Kafka sink.

use super::pattern::TablePattern;
use super::problem::Refusal;
use super::reader::{Reader, Repeat, Section};
use super::secret::SecretSource;
use super::tree::Value;
use crate::schema::TableName;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where events go, and how.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaTarget {
    /// `host:port` of brokers to begin with.
    pub brokers: Vec<String>,
    /// The first part of topic names, when the address has one.
    pub prefix: Option<String>,
    /// Events and checkpoint in one Kafka transaction.
    pub exactly_once: bool,
    /// How many replicas must have a record.
    pub acks: Acks,
    /// Codec, as librdkafka calls it.
    pub compression: &'static str,
    /// How long a batch waits for more.
    pub linger: Duration,
    /// Bytes that one event may have.
    pub max_record: u64,
    /// Bytes of events that one Kafka transaction may have.
    pub max_transaction: u64,
    /// What happens with larger ones.
    pub oversize: OversizePolicy,
    /// Where they go by that policy; `None`: behind the prefix.
    pub dead_letter_topic: Option<String>,
    /// How topics are made.
    pub topics: TopicsConfig,
    /// Encryption; `None`: none.
    pub tls: Option<KafkaTls>,
    /// Login; `None`: none.
    pub sasl: Option<Sasl>,
    /// librdkafka's own properties, over everything else.
    pub properties: Vec<(String, String)>,
    /// Where schemas are registered, for Avro.
    pub registry: Option<SchemaRegistry>,
}

/// A Schema Registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaRegistry {
    /// Without a slash at its end.
    pub url: String,
    /// User.
    pub user: Option<String>,
    /// Password.
    pub password: Option<SecretSource>,
    /// Certificate authorities (PEM).
    pub ca: Option<PathBuf>,
    /// Whether schemas are registered.
    pub register: bool,
}

impl fmt::Debug for KafkaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values of properties may be passwords.
        let properties: Vec<&str> = self.properties.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("KafkaTarget")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("exactly_once", &self.exactly_once)
            .field("acks", &self.acks)
            .field("compression", &self.compression)
            .field("linger", &self.linger)
            .field("max_record", &self.max_record)
            .field("max_transaction", &self.max_transaction)
            .field("oversize", &self.oversize)
            .field("dead_letter_topic", &self.dead_letter_topic)
            .field("topics", &self.topics)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .field("properties", &properties)
            .field("registry", &self.registry)
            .finish()
    }
}

impl fmt::Display for KafkaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}", self.brokers.join(","))?;
        self.prefix.as_ref().map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

/// How many replicas must have a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// All that are in sync.
    All,
    /// The leader.
    Leader,
}

/// What happens with events that are too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OversizePolicy {
    /// Their table stops.
    Stop,
    /// They go to another topic, without their widest values.
    DeadLetter,
    /// They come without their widest values.
    Truncate,
}

impl OversizePolicy {
    const WORDS: [(&str, OversizePolicy); 3] = [
        ("stop", OversizePolicy::Stop),
        ("dead_letter", OversizePolicy::DeadLetter),
        ("truncate", OversizePolicy::Truncate),
    ];

    /// As in the file.
    pub fn as_str(self) -> &'static str {
        OversizePolicy::WORDS.iter().find(|(_, policy)| *policy == self).map_or("", |(word, _)| word)
    }
}

/// How topics are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicsConfig {
    /// Whether they are.
    pub create: bool,
    /// Partitions; `None`: the broker's default.
    pub partitions: Option<u64>,
    /// Replicas; `None`: the broker's default.
    pub replication: Option<u64>,
    /// Settings of new topics.
    pub settings: Vec<(String, String)>,
    /// The same for single tables, over the above.
    pub tables: BTreeMap<TableName, TopicConfig>,
}

/// How one table's topic is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TopicConfig {
    /// Partitions; `None`: as of all topics.
    pub partitions: Option<u64>,
    /// Replicas; `None`: as of all topics.
    pub replication: Option<u64>,
    /// Settings, over those of all topics.
    pub settings: Vec<(String, String)>,
}

/// Encryption.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KafkaTls {
    /// Whether the brokers' certificates are checked.
    pub verify: bool,
    /// Certificate authorities (PEM).
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// The key's password.
    pub key_password: Option<SecretSource>,
}

/// Login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sasl {
    /// As librdkafka calls it.
    pub mechanism: &'static str,
    /// User.
    pub user: Option<String>,
    /// Password.
    pub password: Option<SecretSource>,
}

/// Every key of the section that only Kafka has.
pub(super) const KEYS: [&str; 13] = [
    "brokers",
    "exactly_once",
    "acks",
    "compression",
    "linger",
    "max_record",
    "oversize",
    "dead_letter_topic",
    "max_transaction",
    "topics",
    "tls",
    "sasl",
    "properties",
];

const DEFAULT_MAX_RECORD: u64 = 1_000_000;
/// Minutes of a slow cluster: the brokers end a transaction after five.
const DEFAULT_MAX_TRANSACTION: u64 = 2 << 30;
/// The client waits as long for partitions to be added to a transaction: see `sink::kafka::client`.
const LINGER: Duration = Duration::from_millis(1);
const FORMS: &str = "write kafka://host:9092,host:9092/prefix";

/// Reads `kafka://broker1:9092,broker2:9092/prefix`; brokers and prefix.
pub(super) fn parse_address(text: &str) -> Result<(Vec<String>, Option<String>), Refusal> {
    let rest = text.strip_prefix("kafka://").unwrap_or(text);
    let (brokers, prefix) = match rest.split_once('/') {
        Some((brokers, prefix)) => (brokers, Some(prefix.trim_end_matches('/')).filter(|p| !p.is_empty())),
        None => (rest, None),
    };
    if rest.contains('@') {
        return Err(Refusal::new("holds credentials", "give them in sink.sasl, never in the address"));
    }
    if rest.contains(['?', '#']) {
        return Err(Refusal::new("holds \"?\" or \"#\"", FORMS));
    }
    let brokers = brokers.split(',').map(parse_broker).collect::<Result<Vec<_>, _>>()?;
    if let Some(prefix) = prefix {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !prefix.bytes().all(allowed) {
            return Err(Refusal::new(
                "has a prefix that is no part of a topic's name",
                "use letters, digits, \".\", \"_\" and \"-\" behind the slash",
            ));
        }
    }
    Ok((brokers, prefix.map(str::to_owned)))
}

/// `host:port`; the port is 9092 when there is none.
pub(super) fn parse_broker(text: &str) -> Result<String, Refusal> {
    let refuse = || Refusal::new("is not the address of a broker", "write host:9092");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().map_err(|_| refuse())?),
        _ => (text, 9092),
    };
    let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'[' | b']' | b':');
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err(refuse());
    }
    Ok(format!("{host}:{port}"))
}

/// Reads the section. `address`: what a URI says, over `sink.brokers`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    address: Option<(Vec<String>, Option<String>)>,
) -> Option<KafkaTarget> {
    let from_file = match section.entry("brokers") {
        Some(_) => reader.list(section, "brokers", "[\"host:9092\"]", parse_broker),
        None => None,
    };
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"].map(|name| (name, name));
    let exactly_once = or(reader, section, "exactly_once", true, Reader::boolean);
    let acks = or(reader, section, "acks", Acks::All, |reader, section, key| {
        reader.choice(section, key, &[("all", Acks::All), ("1", Acks::Leader)], &["0"])
    });
    let compression = or(reader, section, "compression", "none", |reader, section, key| {
        reader.choice(section, key, &codecs, &[])
    });
    let linger = or(reader, section, "linger", LINGER, |reader, section, key| {
        reader.duration(section, key, Duration::ZERO..=Duration::from_secs(60))
    });
    let sizes = read_sizes(reader, section);
    let topics = read_topics(reader, section);
    let tls = read_tls(reader, section);
    let sasl = read_sasl(reader, section);
    let properties = match section.entry("properties") {
        Some(_) => reader.pairs(section, "properties"),
        None => Some(Vec::new()),
    };
    let properties = properties.filter(|all| are_free(reader, all, exactly_once == Some(true)));
    let (brokers, prefix) = match (address, from_file) {
        (Some((brokers, prefix)), _) => (brokers, prefix),
        (None, Some(brokers)) if !brokers.is_empty() => (brokers, None),
        (None, _) => {
            let advice = "give sink.brokers: [\"host:9092\"], or sink.uri: \"kafka://host:9092/prefix\"";
            reader.report_missing("the configuration does not say where the brokers are", advice);
            return None;
        }
    };
    if exactly_once == Some(true) && acks == Some(Acks::Leader) {
        reader.report_missing(
            "sink.acks: \"1\" cannot be with sink.exactly_once",
            "remove sink.acks, or write exactly_once: false",
        );
        return None;
    }
    let Sizes { max_record, max_transaction, oversize, dead_letter_topic } = sizes?;
    Some(KafkaTarget {
        brokers,
        prefix,
        exactly_once: exactly_once?,
        acks: acks?,
        compression: compression?,
        linger: linger?,
        max_record,
        oversize,
        dead_letter_topic,
        max_transaction,
        topics: topics?,
        tls: tls?,
        sasl: sasl?,
        properties: properties?,
        registry: None,
    })
}

/// Properties of librdkafka that nobody may set: strandline would be wrong with other values than its own.
const OURS: [&str; 7] = [
    "transactional.id",
    "group.id",
    "isolation.level",
    "enable.auto.commit",
    "enable.partition.eof",
    "delivery.report.only.error",
    "allow.auto.create.topics",
];

/// The operator may set these properties. Their values are not repeated: they may be secrets.
fn are_free(reader: &mut Reader<'_>, properties: &[(String, String)], exactly_once: bool) -> bool {
    let mut are_free = true;
    for (key, value) in properties {
        let needed = match key.as_str() {
            "acks" | "request.required.acks" => matches!(value.as_str(), "all" | "-1"),
            "enable.idempotence" => matches!(value.as_str(), "true" | "t" | "1"),
            _ => true,
        };
        let (message, advice) = if OURS.contains(&key.as_str()) {
            (format!("sink.properties: \"{key}\" is set by strandline itself"), "remove it")
        } else if exactly_once && !needed {
            let message = format!("sink.properties: this \"{key}\" cannot be with sink.exactly_once");
            (message, "remove it, or write exactly_once: false")
        } else {
            continue;
        };
        reader.report_missing(message, advice);
        are_free = false;
    }
    are_free
}

/// How large things may be, and what becomes of larger ones.
struct Sizes {
    max_record: u64,
    max_transaction: u64,
    oversize: OversizePolicy,
    dead_letter_topic: Option<String>,
}

fn read_sizes(reader: &mut Reader<'_>, section: Section<'_>) -> Option<Sizes> {
    let max_record = or(reader, section, "max_record", DEFAULT_MAX_RECORD, |reader, section, key| {
        reader.size(section, key, 1024..=1_000_000_000)
    });
    let oversize = or(reader, section, "oversize", OversizePolicy::Stop, |reader, section, key| {
        reader.choice(section, key, &OversizePolicy::WORDS, &[])
    });
    let max_transaction =
        or(reader, section, "max_transaction", DEFAULT_MAX_TRANSACTION, |reader, section, key| {
            reader.size(section, key, 1 << 20..=1 << 40)
        });
    let dead_letter_topic = or(reader, section, "dead_letter_topic", None, |reader, section, key| {
        reader.parsed(section, key, Repeat::Value, super::format::topic_part).map(Some)
    });
    Some(Sizes {
        max_record: max_record?,
        max_transaction: max_transaction?,
        oversize: oversize?,
        dead_letter_topic: dead_letter_topic?,
    })
}

/// The file's own prefix, where the address has none.
pub(super) fn with_prefix(reader: &mut Reader<'_>, target: &mut KafkaTarget, top: Section<'_>, prefix: &str) {
    let format = top.entry("format").and_then(|entry| entry.value.child("debezium"));
    if format.and_then(|debezium| debezium.child("topic_prefix")).is_none() {
        return;
    }
    match &target.prefix {
        Some(own) if own != prefix => reader.report_missing(
            format!("the prefix of topics is given twice: \"{own}\" in the address, \"{prefix}\" in format.debezium.topic_prefix"),
            "keep one of them",
        ),
        _ => target.prefix = Some(prefix.to_owned()),
    }
}

/// The registry that events in Avro need.
pub(super) fn with_registry(
    reader: &mut Reader<'_>,
    target: Option<&mut KafkaTarget>,
    top: Section<'_>,
    is_avro: bool,
) {
    let written = top.entry("format").and_then(|entry| entry.value.child("schema_registry"));
    let written = written.filter(|value| !value.is_null());
    let Some(target) = target else {
        if is_avro || written.is_some() {
            let advice = "write format.encoding: json, without format.schema_registry";
            reader.report_missing("format.encoding: avro is for sink.type kafka", advice);
        }
        return;
    };
    let Some(written) = written else {
        if is_avro {
            let advice = "add format.schema_registry: {url: \"http://host:8081\"}";
            reader.report_missing("format.encoding: avro needs a schema registry", advice);
        }
        return;
    };
    let section = reader.section(Some(written), "format.schema_registry");
    if !is_avro {
        let advice = "remove it, or write format.encoding: avro";
        return reader.report_missing("format.schema_registry is for events in Avro", advice);
    }
    let register = or(reader, section, "register", true, Reader::boolean);
    let user = reader.parsed(section, "user", Repeat::Value, super::reader::not_empty);
    let password = reader.secret(section, "password", "format.schema_registry.password");
    let ca = reader.text(section, "ca").map(PathBuf::from);
    let Some(url) = reader.parsed(section, "url", Repeat::Never, registry_url) else {
        if section.entry("url").is_none() {
            reader.report_missing("format.schema_registry lacks its url", "add url: \"http://host:8081\"");
        }
        return;
    };
    let Some(register) = register else { return };
    target.registry = Some(SchemaRegistry { url, user, password, ca, register });
}

fn registry_url(text: &str) -> Result<String, Refusal> {
    let parsed = url::Url::parse(text)
        .map_err(|e| Refusal::new(format!("is no address: {e}"), "write http://host:8081"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(Refusal::new(
            "is not the address of a registry",
            "write http://host:8081 or https://host:8081",
        ));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(Refusal::new(
            "holds credentials",
            "give them in format.schema_registry.user and password",
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn or<'r, T>(
    reader: &mut Reader<'r>,
    section: Section<'_>,
    key: &str,
    default: T,
    read: impl FnOnce(&mut Reader<'r>, Section<'_>, &str) -> Option<T>,
) -> Option<T> {
    if section.entry(key).is_some() { read(reader, section, key) } else { Some(default) }
}

fn read_topics(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<TopicsConfig> {
    let section = reader.section(sink.entry("topics").map(|e| &e.value), "sink.topics");
    let create = or(reader, section, "create", true, Reader::boolean);
    let all = read_topic(reader, section);
    let tables = read_topics_of_tables(reader, section);
    let TopicConfig { partitions, replication, settings } = all?;
    Some(TopicsConfig { create: create?, partitions, replication, settings, tables: tables? })
}

fn read_topic(reader: &mut Reader<'_>, section: Section<'_>) -> Option<TopicConfig> {
    let partitions = or(reader, section, "partitions", None, |reader, section, key| {
        reader.number(section, key, 1..=100_000).map(Some)
    });
    let replication = or(reader, section, "replication", None, |reader, section, key| {
        reader.number(section, key, 1..=100).map(Some)
    });
    let settings = match section.entry("settings") {
        Some(_) => reader.pairs(section, "settings"),
        None => Some(Vec::new()),
    };
    Some(TopicConfig { partitions: partitions?, replication: replication?, settings: settings? })
}

fn read_topics_of_tables(
    reader: &mut Reader<'_>,
    topics: Section<'_>,
) -> Option<BTreeMap<TableName, TopicConfig>> {
    let Some(entry) = topics.entry("tables") else { return Some(BTreeMap::new()) };
    let Value::Map(named) = &entry.value.value else {
        let advice = "write tables: {public.orders: {partitions: 12}}";
        reader.report_missing("sink.topics.tables is no section with tables", advice);
        return None;
    };
    let mut found = BTreeMap::new();
    for entry in named {
        let section = reader.section(Some(&entry.value), "sink.topics.tables.*");
        let Some(name) = TablePattern::parse(&entry.key).ok().and_then(|pattern| pattern.exact()) else {
            let advice = "name it as the database does, schema.table, without patterns";
            reader.report_missing(format!("sink.topics.tables: \"{}\" is not a table", entry.key), advice);
            return None;
        };
        found.insert(name, read_topic(reader, section)?);
    }
    Some(found)
}

fn read_tls(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<Option<KafkaTls>> {
    let Some(entry) = sink.entry("tls").filter(|entry| !entry.value.is_null()) else { return Some(None) };
    let section = reader.section(Some(&entry.value), "sink.tls");
    let verify = or(reader, section, "verify", true, Reader::boolean);
    let ca = reader.text(section, "ca").map(PathBuf::from);
    let cert = reader.text(section, "cert").map(PathBuf::from);
    let key = reader.text(section, "key").map(PathBuf::from);
    let key_password = reader.secret(section, "key_password", "sink.tls.key_password");
    Some(Some(KafkaTls { verify: verify?, ca, cert, key, key_password }))
}

fn read_sasl(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<Option<Sasl>> {
    let Some(entry) = sink.entry("sasl").filter(|entry| !entry.value.is_null()) else { return Some(None) };
    let section = reader.section(Some(&entry.value), "sink.sasl");
    let names = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"].map(|name| (name, name));
    let mechanism = or(reader, section, "mechanism", "PLAIN", |reader, section, key| {
        reader.choice(section, key, &names, &["GSSAPI"])
    })?;
    let user = reader.parsed(section, "user", Repeat::Value, super::reader::not_empty);
    let password = reader.secret(section, "password", "sink.sasl.password");
    if mechanism != "OAUTHBEARER" && (user.is_none() || password.is_none()) {
        reader.report_missing("sink.sasl lacks user or password", "add user and password to sink.sasl");
        return None;
    }
    Some(Some(Sasl { mechanism, user, password }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_brokers_and_prefix() {
        let parse = |text: &str| parse_address(text).unwrap();
        assert_eq!(parse("kafka://a:1,b/app"), (vec!["a:1".into(), "b:9092".into()], Some("app".into())));
        assert_eq!(parse("kafka://[::1]:9093"), (vec!["[::1]:9093".into()], None));
        assert_eq!(parse("kafka://k/"), (vec!["k:9092".into()], None));
        for (text, problem) in [
            ("kafka://", "is not the address of a broker"),
            ("kafka://a:x", "is not the address of a broker"),
            ("kafka://a,,b", "is not the address of a broker"),
            ("kafka://u:p@a", "holds credentials"),
            ("kafka://a/x?y=z", "holds \"?\" or \"#\""),
            ("kafka://a/x y", "has a prefix that is no part of a topic's name"),
        ] {
            assert_eq!(parse_address(text).unwrap_err().problem, problem, "{text}");
        }
    }
    #[test]
    fn properties_of_our_own_are_refused() {
        let loads = |sink: &str| {
            let text = format!(
                "version: 1\nsource: {{url: \"postgres://u@h/d\"}}\nsink: {{type: kafka, brokers: [b], {sink}}}\n"
            );
            let origin = super::super::Origin::File("f".into());
            super::super::load_text(&text, origin, &super::super::Overrides::default(), &|_| None)
                .map_err(|error| error.report().to_string())
        };
        for (sink, words) in [
            ("properties: {group.id: x}", "\"group.id\" is set by strandline itself"),
            ("properties: {allow.auto.create.topics: \"true\"}", "is set by strandline itself"),
            ("properties: {request.required.acks: 1}", "cannot be with sink.exactly_once"),
            ("properties: {enable.idempotence: false}", "cannot be with sink.exactly_once"),
        ] {
            let report = loads(sink).err().unwrap_or_default();
            assert!(report.contains(words), "{sink}: {report}");
        }
        for sink in [
            "properties: {acks: -1, batch.size: 1}",
            "exactly_once: false, properties: {acks: 1, enable.idempotence: false}",
        ] {
            assert!(loads(sink).is_ok(), "{sink}");
        }
    }
}
