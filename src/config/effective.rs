//! The configuration as it works, in the form of the file: defaults included, secrets masked.

use super::columns;
use super::kafka::{Acks, KafkaTarget};
use super::model::{
    BadRow, BudgetAction, Config, InfinityPolicy, LoadSessions, NewTable, NumericUnbounded, OriginChoice,
    PositionLost, SinkTarget, SnapshotHold, SourceKind, UnknownTypesPolicy,
};
use super::secret::{MASK, SecretSource};
use super::units::{format_duration, format_size};
use crate::schema::change::{ChangePolicy, Choice};
use crate::sink::write::{
    Deletes, Images, MetaColumns, OnForeignChange, Truncates, Vacuum, WriteMode, WriteOptions,
};
use crate::telemetry::logging::LogFormat;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Every setting with its value. What is off is `null`.
pub fn effective(config: &Config) -> Value {
    escaped(unescaped(config))
}

/// As a file has to have it: a `$` may begin a variable of the environment there.
pub(super) fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('$', "$$")),
        Value::Array(list) => Value::Array(list.into_iter().map(escaped).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, escaped(value))).collect())
        }
        other => other,
    }
}

fn unescaped(config: &Config) -> Value {
    let patterns =
        |list: &[super::TablePattern]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    json!({
        "version": 1,
        "name": config.name,
        "source": source(config),
        "tables": {
            "include": patterns(&config.tables.include),
            "exclude": patterns(&config.tables.exclude),
            "on_new_table": match config.tables.on_new_table {
                NewTable::Snapshot => "snapshot",
                NewTable::Ignore => "ignore",
            },
            "overrides": overrides(config),
        },
        "snapshot": {
            "workers": config.snapshot.workers,
            "chunk_rows": config.snapshot.chunk_rows,
            "hold": match config.snapshot.hold { SnapshotHold::Table => "table", SnapshotHold::Chunk => "chunk" },
            "max_source_load": {
                "active_sessions": config.snapshot.max_source_load.active_sessions.map(|sessions| match sessions {
                    LoadSessions::Count(count) => count.to_string(),
                    LoadSessions::Percent(percent) => format!("{percent}%"),
                }),
                "replica_lag": config.snapshot.max_source_load.replica_lag.map(format_duration),
            },
        },
        "sink": sink(config),
        "format": event_format(config),
        "errors": {"bad_row": match config.errors.bad_row { BadRow::Stop => "stop" }},
        "limits": {
            "memory": config.limits.memory.map(format_size),
            "spill_dir": config.limits.spill_dir.as_ref().map(|dir| dir.display().to_string()),
        },
        "http": config.http.as_ref().map(|http| json!({
            "listen": http.listen.to_string(),
            "token": http.token.as_ref().map(password),
            "read_only": http.read_only,
            "ui": http.ui,
        })),
        "health": {
            "grace": format_duration(config.health.grace),
            "stall": format_duration(config.health.stall),
            "wedged": format_duration(config.health.wedged),
        },
        "signals": {"table": config.signals.as_ref().map(ToString::to_string)},
        "metrics": {
            "debezium_compat": config.metrics.debezium_compat,
            "max_table_labels": config.metrics.max_table_labels,
        },
        "log": {
            "level": config.log.level.as_str(),
            "format": match config.log.format {
                LogFormat::Auto => "auto",
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            },
        },
    })
}

fn source(config: &Config) -> Value {
    let source = &config.source;
    let (is_postgres, kind) = match source.kind {
        SourceKind::Postgres => (true, "postgres"),
        SourceKind::MySql => (false, "mysql"),
    };
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let identity = source.tls.identity.as_ref();
    let mut shown = json!({
        "type": kind,
        "host": source.address.host,
        "port": source.address.port,
        "database": source.address.database,
        "user": source.address.user,
        "password": password(&source.password),
        "tls": {
            "mode": source.tls.mode.as_str(),
            "ca": source.tls.ca.as_ref().map(path),
            "cert": identity.map(|(cert, _)| path(cert)),
            "key": identity.map(|(_, key)| path(key)),
        },
        "on_position_lost": match source.on_position_lost {
            PositionLost::Stop => "stop",
            PositionLost::Resync => "resync",
        },
        "heartbeat": source.heartbeat.map_or("0s".to_owned(), format_duration),
    });
    if let (true, Value::Object(map)) = (is_postgres, &mut shown) {
        map.extend(of_postgres(config));
    }
    shown
}

/// What only a slot has.
fn of_postgres(config: &Config) -> Map<String, Value> {
    let source = &config.source;
    let map = json!({
        "slot": source.slot,
        "publication": source.publication,
        "create_if_missing": source.create_if_missing,
        "failover_slot": source.failover_slot,
        "wal_budget": source.wal_budget.map(format_size),
        "on_wal_budget": match source.on_wal_budget {
            BudgetAction::Warn => "warn",
            BudgetAction::DropSlot => "drop_slot",
        },
        "heartbeat_action_query": source.heartbeat_action,
        "origin": match source.origin {
            OriginChoice::Any => "any",
            OriginChoice::None => "none",
        },
    });
    match map {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Where a secret is, never what it is. The arguments of a command may hold one.
pub(super) fn password(secret: &SecretSource) -> Value {
    match secret {
        SecretSource::Ambient(_) => Value::Null,
        SecretSource::Plain(_) => json!(MASK),
        SecretSource::File(path) => json!({"file": path.display().to_string()}),
        SecretSource::Env(name) => json!({"env": name}),
        SecretSource::Command(words) => {
            let arguments = (words.len() > 1).then(|| MASK.to_owned());
            json!({"command": words.iter().take(1).cloned().chain(arguments).collect::<Vec<_>>()})
        }
    }
}

fn sink(config: &Config) -> Value {
    let sink = &config.sink;
    let mut map = Map::new();
    match &sink.target {
        SinkTarget::Delta { uri } => {
            map.insert("type".into(), json!("delta"));
            map.insert("uri".into(), json!(super::redact(uri.as_str())));
            map.extend(of_delta(config));
        }
        SinkTarget::Kafka(target) => map.extend(kafka(target)),
        SinkTarget::Stdout => {
            map.insert("type".into(), json!("stdout"));
        }
        SinkTarget::Discard => {
            map.insert("type".into(), json!("discard"));
        }
    }
    let commit = &sink.commit;
    map.insert(
        "commit".into(),
        json!({
            "interval": format_duration(commit.interval),
            "max_rows": commit.max_rows,
            "max_bytes": format_size(commit.max_bytes),
        }),
    );
    if !matches!(sink.target, SinkTarget::Kafka(_)) {
        map.extend(chosen(&sink.choices.default, &WriteOptions::default()));
    }
    map.insert("schema_changes".into(), changes(sink.schema_changes));
    let numeric = match sink.numeric_unbounded {
        NumericUnbounded::String => "string".to_owned(),
        NumericUnbounded::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        NumericUnbounded::Double => "double".to_owned(),
    };
    map.insert("numeric_unbounded".into(), json!(numeric));
    let infinity = match sink.infinity {
        InfinityPolicy::Stop => "stop",
        InfinityPolicy::Null => "null",
    };
    map.insert("infinity".into(), json!(infinity));
    let unknown = match sink.unknown_types {
        UnknownTypesPolicy::Stop => "stop",
        UnknownTypesPolicy::Text => "text",
    };
    map.insert("unknown_types".into(), json!(unknown));
    Value::Object(map)
}

/// How the lake is reached and kept. An address may hold credentials.
fn of_delta(config: &Config) -> Map<String, Value> {
    let sink = &config.sink;
    let store = &sink.store;
    let map = json!({
        "credentials": store.credentials.as_ref().map_or(json!("ambient"), |file| {
            json!({"file": file.display().to_string()})
        }),
        "storage": {
            "endpoint": store.endpoint.as_ref().map(|url| super::redact(url.as_str())),
            "region": store.region,
            "path_style": store.path_style,
            "ca": store.ca.as_ref().map(|ca| ca.display().to_string()),
        },
        "on_foreign_change": match sink.on_foreign_change {
            OnForeignChange::Stop => "stop",
            OnForeignChange::Accept => "accept",
        },
        "maintenance": {
            "optimize": if sink.maintenance.optimize { "auto" } else { "off" },
            "vacuum": match sink.maintenance.vacuum {
                Vacuum::AsTables => None,
                Vacuum::After(time) => Some(format_duration(time)),
                Vacuum::Off => Some("off".to_owned()),
            },
        },
    });
    match map {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// How events look, and where their schemas are.
fn event_format(config: &Config) -> Value {
    let mut shown = super::format::shown(&config.format);
    if let SinkTarget::Kafka(target) = &config.sink.target
        && let (Some(registry), Value::Object(map)) = (&target.registry, &mut shown)
    {
        let registry = json!({
            "url": registry.url,
            "user": registry.user,
            "password": registry.password.as_ref().map(password),
            "ca": registry.ca,
            "register": registry.register,
        });
        map.insert("schema_registry".to_owned(), registry);
    }
    shown
}

/// A Kafka target. The values of librdkafka's own properties may be passwords.
fn kafka(target: &KafkaTarget) -> Map<String, Value> {
    let value = json!({
        "type": "kafka",
        "uri": target.to_string(),
        "exactly_once": target.exactly_once,
        "acks": match target.acks {
            Acks::All => "all",
            Acks::Leader => "1",
        },
        "compression": target.compression,
        "linger": format_duration(target.linger),
        "max_record": format_size(target.max_record),
        "oversize": target.oversize.as_str(),
        "dead_letter_topic": target.dead_letter_topic,
        "max_transaction": format_size(target.max_transaction),
        "topics": {
            "create": target.topics.create,
            "partitions": target.topics.partitions,
            "replication": target.topics.replication,
            "settings": target.topics.settings.iter().cloned().collect::<BTreeMap<_, _>>(),
            "tables": target.topics.tables.iter().map(|(name, topic)| (name.to_string(), json!({
                "partitions": topic.partitions,
                "replication": topic.replication,
                "settings": topic.settings.iter().cloned().collect::<BTreeMap<_, _>>(),
            }))).collect::<BTreeMap<_, _>>(),
        },
        "tls": target.tls.as_ref().map(|tls| json!({
            "verify": tls.verify,
            "ca": tls.ca,
            "cert": tls.cert,
            "key": tls.key,
            "key_password": tls.key_password.as_ref().map(password),
        })),
        "sasl": target.sasl.as_ref().map(|sasl| json!({
            "mechanism": sasl.mechanism,
            "user": sasl.user,
            "password": sasl.password.as_ref().map(password),
        })),
        "properties": target.properties.iter().map(|(key, _)| (key.clone(), MASK)).collect::<BTreeMap<_, _>>(),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// How a table is written, by the keys of the file.
fn written(options: &WriteOptions) -> [(&'static str, &'static str); 6] {
    [
        (
            "write",
            match options.write {
                WriteMode::Upsert => "upsert",
                WriteMode::CopyOnWrite => "copy_on_write",
                WriteMode::Append => "append",
                WriteMode::Both => "both",
            },
        ),
        (
            "deletes",
            match options.deletes {
                Deletes::Hard => "hard",
                Deletes::Soft => "soft",
            },
        ),
        (
            "truncates",
            match options.truncates {
                Truncates::Apply => "apply",
                Truncates::Soft => "soft",
                Truncates::Stop => "stop",
            },
        ),
        (
            "meta_columns",
            match options.meta {
                MetaColumns::None => "none",
                MetaColumns::Strandline => "strandline",
                MetaColumns::Debezium => "debezium",
                MetaColumns::Fivetran => "fivetran",
            },
        ),
        (
            "images",
            match options.images {
                Images::After => "after",
                Images::Both => "both",
            },
        ),
        ("column_mapping", if options.column_mapping { "name" } else { "none" }),
    ]
}

/// How a table is written, and what else of it is not as usual: some choices are allowed beside others only.
fn chosen(options: &WriteOptions, usual: &WriteOptions) -> Map<String, Value> {
    let both = written(options).into_iter().zip(written(usual));
    both.filter(|((key, word), (_, usual))| *key == "write" || word != usual)
        .map(|((key, word), _)| (key.to_owned(), json!(word)))
        .collect()
}

fn overrides(config: &Config) -> Value {
    let choices = &config.sink.choices;
    let tables = choices.tables.iter().map(|(name, options)| {
        let mut map = chosen(options, &choices.default);
        let mut target = Map::new();
        if !options.partition_by.is_empty() {
            target.insert("partition_by".to_owned(), json!(options.partition_by));
        }
        if !options.properties.is_empty() {
            target.insert("properties".to_owned(), json!(options.properties));
        }
        if !target.is_empty() {
            map.insert("target".to_owned(), Value::Object(target));
        }
        if let Some(rules) = config.format.columns.iter().find(|rules| rules.table == *name) {
            map.insert("columns".to_owned(), columns::shown(rules));
        }
        (name.to_string(), Value::Object(map))
    });
    Value::Object(tables.collect())
}

fn changes(policy: ChangePolicy) -> Value {
    let word = |choice: Choice, apply: &'static str| match choice {
        Choice::Apply => apply,
        Choice::Quarantine => "quarantine",
    };
    json!({
        "add_column": word(policy.add_column, "apply"),
        "drop_column": word(policy.drop_column, "keep_nullable"),
        "rename_column": word(policy.rename_column, "apply"),
        "widen": word(policy.widen, "apply"),
        "other": word(policy.other, "resync"),
        "partitions": match policy.partitions {
            Some(Choice::Apply) => "resync",
            Some(Choice::Quarantine) => "quarantine",
            None => "keep",
        },
    })
}

/// As YAML: sections as blocks, everything else as JSON, which YAML contains. What is off is left out.
pub fn yaml(value: &Value) -> String {
    let mut text = String::new();
    if let Value::Object(map) = value {
        block(map, 0, &mut text);
    }
    text
}

fn block(map: &Map<String, Value>, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, value) in map {
        match value {
            Value::Null => {}
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(inner) => {
                let key = if key.contains(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                    Value::from(key.as_str()).to_string()
                } else {
                    key.clone()
                };
                let _ok = writeln!(text, "{indent}{key}:");
                block(inner, depth + 1, text);
            }
            other => {
                let _ok = writeln!(text, "{indent}{key}: {other}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Overrides, load_text};
    use super::*;

    #[test]
    fn what_is_shown_is_accepted_and_means_the_same() {
        let text = "version: 1\nname: shop\nsource: {host: db, database: shop, user: u, password: {file: /run/x}, \
                    tls: {mode: verify-full, ca: /ca.pem}}\ntables: {include: [\"a.*\"], exclude: [\"a.b\"], \
                    overrides: {\"a.c\": {write: append, column_mapping: name, target: {partition_by: [d], properties: {\"delta.enableChangeDataFeed\": \"true\", \
                    note: \"a: b\"}}}}}\nsink: \
                    {uri: \"file:///lake\", numeric_unbounded: \"decimal(20,4)\", schema_changes: {widen: quarantine}}\n\
                    limits: {memory: 512MiB}\nhttp: {listen: \"127.0.0.1:9187\"}\n";
        let load = |text: &str| {
            load_text(text, Origin::File("f".into()), &Overrides::default(), &|_| None)
                .unwrap_or_else(|e| panic!("{}", e.report()))
        };
        let first = load(text);
        let shown = yaml(&effective(&first));
        assert_eq!(format!("{:?}", load(&shown)), format!("{first:?}"), "{shown}");
        let mysql = "version: 1\nname: shop\nsource: {type: mysql, host: db, database: shop, user: u, password: {env: P}, \
                     tls: {mode: require}}\nsink: {uri: \"s3://lake/app\", credentials: {file: /k}, storage: {endpoint: \
                     \"https://minio:9000\", region: r, path_style: true}, on_foreign_change: accept, maintenance: {vacuum: 2d, \
                     optimize: off}}\n";
        let first = load(mysql);
        let shown = yaml(&effective(&first));
        assert_eq!(format!("{:?}", load(&shown)), format!("{first:?}"), "{shown}");
        let budget = "version: 1\nsource: {url: \"postgres://u@h/d\", password: {env: P}, wal_budget: 5GiB, on_wal_budget: drop_slot, \
                      failover_slot: true}\nsink: {uri: \"file:///lake\"}\nmetrics: {debezium_compat: true}\nhealth: {grace: 5s}\n";
        let first = load(budget);
        let shown = yaml(&effective(&first));
        assert_eq!(format!("{:?}", load(&shown)), format!("{first:?}"), "{shown}");
    }

    const DELTA: &str = r#"version: 1
name: shop
source: {type: postgres, host: "::1", port: 6432, database: shop, user: "a$$$$b", password: SECRET, slot: s, publication: p,
  tls: {mode: verify-full, ca: /ca.pem, cert: /c.pem, key: /k.pem}, create_if_missing: false, on_position_lost: resync,
  heartbeat: 7s, heartbeat_action_query: "INSERT INTO b VALUES (1)", origin: none, wal_budget: 5GiB, on_wal_budget: drop_slot, failover_slot: false}
tables:
  include: ["a.*", b.c]
  exclude: [a.b]
  on_new_table: ignore
  overrides:
    a.c: {write: append, images: after, column_mapping: none,
      target: {partition_by: [d], properties: {note: "a: b $${c}", delta.checkpointInterval: "100"}}}
    "a.D-$$e": {write: copy_on_write, deletes: hard, truncates: apply, meta_columns: debezium}
snapshot: {workers: 3, chunk_rows: 5000, hold: chunk, max_source_load: {active_sessions: "50%", replica_lag: 9s}}
sink: {type: delta, uri: "s3://lake/app", commit: {interval: 1500ms, max_rows: 7000, max_bytes: 5MB}, write: both, deletes: soft,
  truncates: stop, meta_columns: strandline, images: both, column_mapping: name, credentials: {file: /k},
  storage: {endpoint: "https://minio:9000", region: r, path_style: true, ca: /ca.pem}, on_foreign_change: accept,
  maintenance: {optimize: off, vacuum: 2d}, numeric_unbounded: "decimal(20,4)", infinity: "null", unknown_types: text,
  schema_changes: {add_column: quarantine, drop_column: quarantine, rename_column: quarantine, widen: quarantine,
    other: quarantine, partitions: quarantine}}
errors: {bad_row: stop}
limits: {memory: 512MiB, spill_dir: "/sp$${il}l"}
http: {listen: "0.0.0.0:9187", token: SECRET, read_only: true, ui: false}
health: {grace: 5s, stall: 6s, wedged: 7s}
metrics: {debezium_compat: true, max_table_labels: 7}
signals: {table: a.sig}
log: {level: debug, format: json}
"#;
    const KAFKA: &str = r#"version: 1
source: {url: "postgres://u@h/d"}
tables:
  overrides:
    "a.D-$$e": {columns: {include: [id, v]}}
    a.c: {columns: {exclude: [x], mask: {email: sha256, "null": "*", phone: "***"}, truncate: {"1": 10}}}
sink: {type: kafka, brokers: ["b:1", "[::1]:9093"], exactly_once: false, acks: "1", compression: lz4, linger: 9ms,
  max_record: 2MiB, oversize: dead_letter, dead_letter_topic: dead, max_transaction: 64MiB,
  topics: {create: false, partitions: 3, replication: 2, settings: {cleanup.policy: compact},
    tables: {public.t: {partitions: 1, replication: 1, settings: {retention.ms: "5"}}}},
  tls: {verify: false, ca: /ca.pem, cert: /c.pem, key: /k.pem, key_password: SECRET},
  sasl: {mechanism: SCRAM-SHA-256, user: u, password: SECRET}, properties: {batch.size: 5}}
format:
  style: flat
  encoding: avro
  schema_registry: {url: "https://r:8081", user: u, password: SECRET, ca: /ca.pem, register: false}
  debezium: {compat: "3.6", topic_prefix: app, schemas_enable: false, decimal_handling_mode: string,
    time_precision_mode: connect, binary_handling_mode: base64, interval_handling_mode: string, hstore_handling_mode: map,
    bigint_unsigned_handling_mode: precise, decimal_format: numeric, money_fraction_digits: 3,
    include_unknown_datatypes: true, replace_null_with_default: false, unavailable_value_placeholder: "$$x",
    schema_name_adjustment_mode: avro, field_name_adjustment_mode: avro, topic_delimiter: "-", topic_transaction: tx,
    topic_heartbeat_prefix: hb, heartbeat_interval: 5s, tombstones_on_delete: false, provide_transaction_metadata: true,
    extended_headers_enabled: false, include_schema_changes: false, skip_messages_without_change: true,
    skipped_operations: [c, t], message_key_columns: ["public.t:a,b"], notification_enabled_channels: [sink, log],
    notification_sink_topic_name: notes, include_query: true, tinyint_one_as_boolean: true}
  flat: {delete_tombstone_handling_mode: rewrite, add_fields: [op], add_headers: [table]}
  route: {regex: "([^.]+)\\.(.*)", replacement: "$$2-cdc"}
"#;

    /// Whether the key is written somewhere in the text; `*` stands for any.
    fn is_written(node: &super::super::tree::Node, path: &[&str]) -> bool {
        let Some((first, rest)) = path.split_first() else { return true };
        let super::super::tree::Value::Map(entries) = &node.value else { return false };
        let mut those = entries.iter().filter(|entry| *first == "*" || entry.key == *first);
        those.any(|entry| is_written(&entry.value, rest))
    }

    /// With every key that there is, each of them not as usual.
    #[test]
    fn every_key_that_is_shown_is_accepted_and_means_the_same() {
        let load = |text: &str| {
            load_text(text, Origin::File("f".into()), &Overrides::default(), &|_| None)
                .unwrap_or_else(|e| panic!("{}\n{text}", e.report()))
        };
        let mut texts = Vec::new();
        for secret in ["hunter2", "{file: /run/x}", "{env: P}", "{command: [get, it]}"] {
            texts.extend([DELTA, KAFKA].map(|text| text.replace("SECRET", secret)));
        }
        for text in &texts {
            let first = load(text);
            let shown = effective(&first);
            let again = yaml(&shown);
            let read = load(&again);
            assert_eq!(format!("{read:#?}"), format!("{first:#?}"), "{again}");
            assert_eq!(effective(&read), shown, "{again}");
        }
        let trees: Vec<_> = texts.iter().filter_map(|text| super::super::tree::parse(text).0).collect();
        for section in super::super::keys::SECTIONS {
            for key in section.built {
                let path = super::super::keys::join(section.path, key);
                let parts: Vec<&str> = path.split('.').collect();
                assert!(trees.iter().any(|tree| is_written(tree, &parts)), "{path} is in none of the texts");
            }
        }
    }

    /// A key that works and is not shown would be lost to whoever copies what is shown.
    #[test]
    fn every_key_that_works_is_shown() {
        let text = "version: 1\nsource: {url: \"postgres://u@h/d\"}\nsink: {uri: \"file:///lake\"}\nhttp: {listen: \"127.0.0.1:1\"}\n";
        let delta = load_text(text, Origin::File("f".into()), &Overrides::default(), &|_| None).unwrap();
        let text = "version: 1\nsource: {url: \"postgres://u@h/d\"}\nsink: {type: kafka, brokers: [b], tls: {verify: true}, \
                    sasl: {mechanism: PLAIN, user: u, password: {env: P}}}\n";
        let kafka = load_text(text, Origin::File("f".into()), &Overrides::default(), &|_| None)
            .unwrap_or_else(|e| panic!("{}", e.report()));
        let shown = [effective(&delta), effective(&kafka)];
        // Another form of the same, secrets, and choices that are shown where they are not as usual.
        let otherwise = |path: &str| {
            [
                "source.url",
                "sink.brokers",
                "sink.deletes",
                "sink.truncates",
                "sink.meta_columns",
                "sink.images",
                "sink.column_mapping",
            ]
            .contains(&path)
                || path.contains("password.")
                || path.contains("token.")
                || path.contains('*')
                || path == "sink.credentials.file"
                || path.starts_with("format")
        };
        for section in super::super::keys::SECTIONS {
            for key in section.built {
                let path = super::super::keys::join(section.path, key);
                let is_there = |value: &Value| {
                    let found = path.split('.').try_fold(value, |value, part| value.get(part));
                    found.is_some()
                };
                assert!(otherwise(&path) || shown.iter().any(is_there), "{path} is not shown");
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let plain = SecretSource::Plain(super::super::Secret::new("canary"));
        let command = SecretSource::Command(vec!["aws".into(), "--token".into(), "canary".into()]);
        for secret in [plain, command] {
            assert!(!password(&secret).to_string().contains("canary"));
        }
    }
}
