//! From the configuration to a Kafka sink's options: the second half of [`super::wire`].

use crate::config::{self as model, Config, KafkaTarget};
use crate::debezium::Options as EventOptions;
use crate::error::{Error, Result, codes};
use crate::sink::kafka::{KafkaOptions, Oversize, RegistryOptions, TopicOptions, bench};

/// Events that wait in memory.
const MEMORY: usize = 64 << 20;
/// librdkafka's own limit is of whole requests: the record and some.
const REQUEST_OVERHEAD: u64 = 512;

/// The sink's options, secrets resolved.
///
/// # Errors
/// `CF003` for a secret that cannot be had.
pub(super) async fn kafka_options(cfg: &Config, target: &KafkaTarget) -> Result<KafkaOptions> {
    let events = event_options(cfg, target)?;
    Ok(KafkaOptions {
        pipeline: cfg.name.clone(),
        properties: properties(target).await?,
        exactly_once: target.exactly_once,
        topics: topics(&target.topics),
        oversize: match target.oversize {
            model::OversizePolicy::Stop => Oversize::Stop,
            model::OversizePolicy::Truncate => Oversize::Truncate,
            model::OversizePolicy::DeadLetter => Oversize::DeadLetter {
                topic: target.dead_letter_topic.clone().unwrap_or_else(|| {
                    format!("{}{}dead-letter", events.topic_prefix, events.topic_delimiter)
                }),
            },
        },
        max_record: usize::try_from(target.max_record).unwrap_or(usize::MAX),
        max_transaction: usize::try_from(target.max_transaction).unwrap_or(usize::MAX),
        memory: cfg.limits.memory.and_then(|m| usize::try_from(m / 4).ok()).unwrap_or(MEMORY).min(MEMORY),
        spill_dir: cfg.limits.spill_dir.clone().unwrap_or_else(|| std::env::temp_dir().join("strandline")),
        registry: match &target.registry {
            Some(registry) => Some(registry_options(registry).await?),
            None => None,
        },
        events,
    })
}

fn topics(config: &model::TopicsConfig) -> TopicOptions {
    let number = |n: Option<u64>| n.and_then(|n| i32::try_from(n).ok());
    let of_table = |topic: &model::TopicConfig| TopicOptions {
        create: config.create,
        partitions: number(topic.partitions),
        replication: number(topic.replication),
        settings: topic.settings.clone(),
        tables: Default::default(),
    };
    TopicOptions {
        create: config.create,
        partitions: number(config.partitions),
        replication: number(config.replication),
        settings: config.settings.clone(),
        tables: config.tables.iter().map(|(name, topic)| (name.clone(), of_table(topic))).collect(),
    }
}

async fn registry_options(registry: &model::SchemaRegistry) -> Result<RegistryOptions> {
    let password = match &registry.password {
        Some(password) => password.resolve().await?.map(|password| password.expose().to_owned()),
        None => None,
    };
    Ok(RegistryOptions {
        url: registry.url.clone(),
        user: registry.user.clone(),
        password,
        ca: registry.ca.clone(),
        register: registry.register,
    })
}

/// The form of events: the address's prefix, else the file's, else the pipeline's name.
fn event_options(cfg: &Config, target: &KafkaTarget) -> Result<EventOptions> {
    let options = super::wire::events(cfg);
    let topic_prefix = target.prefix.clone().unwrap_or(options.topic_prefix);
    Ok(EventOptions { topic_prefix, ..options })
}

/// librdkafka's properties; the operator's own come last and win.
async fn properties(target: &KafkaTarget) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| all.push((key.to_owned(), value));
    set("bootstrap.servers", target.brokers.join(","));
    set("acks", if target.acks == model::Acks::All { "all" } else { "1" }.to_owned());
    set("compression.type", target.compression.to_owned());
    set("linger.ms", target.linger.as_millis().to_string());
    set("message.max.bytes", (target.max_record + REQUEST_OVERHEAD).to_string());
    set("security.protocol", protocol(target).to_owned());
    if let Some(tls) = &target.tls {
        let files = [
            ("ssl.ca.location", &tls.ca),
            ("ssl.certificate.location", &tls.cert),
            ("ssl.key.location", &tls.key),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                set(key, path.display().to_string());
            }
        }
        if !tls.verify {
            set("enable.ssl.certificate.verification", "false".to_owned());
        }
        if let Some(password) = &tls.key_password
            && let Some(password) = password.resolve().await?
        {
            set("ssl.key.password", password.expose().to_owned());
        }
    }
    if let Some(sasl) = &target.sasl {
        check_tokens(target, sasl.mechanism)?;
        set("sasl.mechanism", sasl.mechanism.to_owned());
        if let Some(user) = &sasl.user {
            set("sasl.username", user.clone());
        }
        if let Some(password) = &sasl.password
            && let Some(password) = password.resolve().await?
        {
            set("sasl.password", password.expose().to_owned());
        }
    }
    all.extend(target.properties.iter().cloned());
    Ok(all)
}

/// Tokens that the client makes itself are all that is built: without any, a client waits for ever.
fn check_tokens(target: &KafkaTarget, mechanism: &str) -> Result<()> {
    let property =
        |key: &str| target.properties.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let mechanism = property("sasl.mechanism").or(property("sasl.mechanisms")).unwrap_or(mechanism);
    if mechanism != "OAUTHBEARER" || property("enable.sasl.oauthbearer.unsecure.jwt") == Some("true") {
        return Ok(());
    }
    let what = "tokens of an identity provider (OAUTHBEARER) are not built";
    Err(Error::new(codes::CF004, what).with_try(
        "use SCRAM or client certificates; for tests: sink.properties: {enable.sasl.oauthbearer.unsecure.jwt: \"true\"}",
    ))
}

fn protocol(target: &KafkaTarget) -> &'static str {
    match (&target.tls, &target.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    }
}

/// Prints the milliseconds of one-record transactions, as JSON.
///
/// # Errors
/// `KF001`.
pub(super) async fn bench_floor(args: super::args::KafkaFloorArgs) -> Result<()> {
    let took = bench::floor(&args.brokers, &args.topic, args.transactions)?;
    super::output::out(&serde_json::json!(took).to_string());
    Ok(())
}

/// Prints seconds and CPU seconds of producing, as JSON.
///
/// # Errors
/// `CF003`, `KF001`, `KF004`.
pub(super) async fn bench_produce(args: super::args::KafkaProduceArgs) -> Result<()> {
    let property = |text: &String| {
        let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Error::new(codes::CF003, format!("--property {text} is not KEY=VALUE")))
    };
    let cpu = || crate::telemetry::cpu_seconds().unwrap_or_default();
    let before = cpu();
    let seconds = bench::produce(&bench::Load {
        brokers: args.brokers,
        topic: args.topic,
        records: args.records,
        size: args.size,
        has_headers: !args.no_headers,
        transaction: args.transaction,
        properties: args.properties.iter().map(property).collect::<Result<_>>()?,
    })?;
    super::output::out(&serde_json::json!({"s": seconds, "cpu": cpu() - before}).to_string());
    Ok(())
}

/// Prints what a consumer saw, as JSON.
///
/// # Errors
/// `KF001`.
pub(super) async fn bench_read(args: super::args::KafkaReadArgs) -> Result<()> {
    let ready = || super::output::err("ready");
    let seen = bench::read(&args.brokers, &args.topic, args.records, args.from_end, ready)?;
    let line = serde_json::json!({
        "records": seen.records, "bytes": seen.bytes, "s": seen.seconds, "latencies": seen.latencies,
    });
    super::output::out(&line.to_string());
    Ok(())
}
