//! From the tree and the command line's flags to a [`Config`].

use super::Overrides;
use super::address::{ParsedSource, default_port, parse_port, parse_sink, parse_source};
use super::columns;
use super::format::read_format as read_event_format;
use super::kafka;
use super::model::{
    BadRow, BudgetAction, CommitConfig, Config, ErrorsConfig, InfinityPolicy, LimitsConfig, LoadSessions,
    LogConfig, LogFormat, LogLevel, NewTable, NumericUnbounded, Origin, OriginChoice, PositionLost,
    SinkConfig, SinkTarget, SnapshotConfig, SnapshotHold, SourceAddress, SourceConfig, SourceKind,
    SourceLoad, TablesConfig, TlsConfig, TlsMode, UnknownTypesPolicy,
};
use super::operate;
use super::pattern::TablePattern;
use super::problem::{Refusal, Show};
use super::reader::{Reader, Repeat, Section};
use super::secret::SecretSource;
use super::service::Service;
use super::store;
use super::tree::Node;
use super::write;
use crate::debezium::Encoding;
use crate::error::codes;
use crate::schema::change::{ChangePolicy, Choice};
use std::path::PathBuf;
use std::time::Duration;

/// Longest name of a slot or a publication in PostgreSQL (`NAMEDATALEN` - 1).
const NAME_LIMIT: usize = 63;
/// What every file says as its format.
const FORMAT: &str = "1";
/// libpq's variable for the password.
const AMBIENT_PASSWORD: &str = "PGPASSWORD";
/// The `mysql` client's variable for the password.
const AMBIENT_MYSQL_PASSWORD: &str = "MYSQL_PWD";
const DEFAULT_PUBLICATION: &str = "strandline_pub";
const DEFAULT_TABLES: &str = "public.*";
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(10);
const DEFAULT_WORKERS: u64 = 4;
const DEFAULT_CHUNK_ROWS: u64 = 5_000_000;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_MAX_ROWS: u64 = 500_000;
const DEFAULT_MAX_BYTES: u64 = 256 * MEBIBYTE;
const KAFKA_INTERVAL: Duration = Duration::ZERO;
const KAFKA_MAX_ROWS: u64 = 50_000;
const KAFKA_MAX_BYTES: u64 = 4 * MEBIBYTE;
const HOUR: Duration = Duration::from_secs(3600);
const MEBIBYTE: u64 = 1024 * 1024;

/// Reads everything. `None` when something was reported.
pub(super) fn read_config(
    reader: &mut Reader<'_>,
    tree: Option<&Node>,
    origin: Origin,
    overrides: &Overrides,
) -> Option<Config> {
    let top = reader.section(tree, "");
    if matches!(origin, Origin::File(_)) {
        read_format(reader, top);
    }
    let name = reader.parsed(top, "name", Repeat::Value, parse_name);
    let source_section = reader.section(top.entry("source").map(|e| &e.value), "source");
    let connection = read_connection(reader, source_section, overrides);
    let name = match (name, top.entry("name"), &connection) {
        (Some(name), _, _) => Some(name),
        (None, None, Some(connection)) => default_name(reader, connection),
        _ => None,
    };
    let default_tables =
        connection.as_ref().map_or_else(|| DEFAULT_TABLES.to_owned(), Connection::default_tables);
    let source = read_source(reader, source_section, connection, name.as_deref(), overrides);
    let tables = read_tables(reader, top, overrides, &default_tables);
    let snapshot = read_snapshot(reader, top);
    let mut sink = read_sink(reader, top, overrides);
    let format = read_event_format(reader, top);
    // What is wrong with the sink is told already.
    let is_sink_known = sink.is_some();
    if let (Some(SinkConfig { target: SinkTarget::Kafka(target), .. }), Some(format)) = (&mut sink, &format) {
        kafka::with_prefix(reader, target, top, &format.topic_prefix);
    }
    let target = match &mut sink {
        Some(SinkConfig { target: SinkTarget::Kafka(target), .. }) => Some(&mut **target),
        _ => None,
    };
    if let (Some(format), true) = (&format, is_sink_known) {
        kafka::with_registry(reader, target, top, format.encoding == Encoding::Avro);
    }
    let for_events =
        !matches!(&sink, Some(SinkConfig { target: SinkTarget::Delta { .. } | SinkTarget::Discard, .. }));
    if !for_events {
        refuse_format(reader, top);
    }
    let format = format.and_then(|format| columns::read_columns(reader, top, for_events, format));
    let errors = read_errors(reader, top);
    let limits = read_limits(reader, top);
    let http = operate::read_http(reader, top);
    let health = operate::read_health(reader, top);
    let metrics = operate::read_metrics(reader, top);
    let signals = operate::read_signals(reader, top);
    let log = read_log(reader, top);
    Some(Config {
        origin,
        name: name?,
        source: source?,
        tables: tables?,
        snapshot: snapshot?,
        sink: sink?,
        format: format?,
        errors: errors?,
        limits: limits?,
        http: http?,
        health: health?,
        metrics: metrics?,
        signals: signals?,
        log: log?,
    })
}

fn read_format(reader: &mut Reader<'_>, top: Section<'_>) {
    if top.entry("version").is_none() {
        return reader.report_missing(
            "the file does not say its format",
            format!("add the line \"version: {FORMAT}\" at its top"),
        );
    }
    let _checked = reader.parsed(top, "version", Repeat::Value, |text| match text {
        FORMAT => Ok(()),
        _ => Err(Refusal::new("is not a known format of this file", format!("write version: {FORMAT}"))),
    });
}

fn parse_name(text: &str) -> Result<String, Refusal> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "is not a name for a pipeline",
        "use 1 to 63 letters, digits, \"_\" and \"-\": the name becomes part of paths",
    ))
}

fn default_name(reader: &mut Reader<'_>, connection: &Connection) -> Option<String> {
    match parse_name(&connection.address.database) {
        Ok(name) => Some(name),
        Err(_) => {
            reader.report_missing(
                format!(
                    "the pipeline has no name, and the database's name \"{}\" cannot be used as one",
                    connection.address.database
                ),
                "set \"name\" in the configuration file: 1 to 63 letters, digits, \"_\" and \"-\"",
            );
            None
        }
    }
}

/// How to reach the source.
struct Connection {
    kind: SourceKind,
    address: SourceAddress,
    password: SecretSource,
    tls: TlsConfig,
}

impl Connection {
    /// All tables of the schema that everybody uses, or of the database.
    fn default_tables(&self) -> String {
        match self.kind {
            SourceKind::Postgres => DEFAULT_TABLES.to_owned(),
            SourceKind::MySql => format!("{}.*", self.address.database),
        }
    }

    fn from_url(parsed: ParsedSource) -> Self {
        let ambient = match parsed.kind {
            SourceKind::Postgres => AMBIENT_PASSWORD,
            SourceKind::MySql => AMBIENT_MYSQL_PASSWORD,
        };
        let service = parsed.service;
        Connection {
            kind: parsed.kind,
            address: parsed.address,
            password: parsed
                .password
                .or(service.password)
                .map_or(SecretSource::Ambient(ambient), SecretSource::Plain),
            tls: TlsConfig {
                mode: parsed.tls_mode.or(service.tls_mode).unwrap_or(TlsMode::Prefer),
                ca: parsed.tls_ca.or(service.tls_ca),
                identity: parsed.tls_cert.or(service.tls_cert).zip(parsed.tls_key.or(service.tls_key)),
            },
        }
    }
}

/// Keys of the section `source` that only PostgreSQL has.
const ONLY_POSTGRES: [&str; 7] =
    ["slot", "publication", "create_if_missing", "origin", "failover_slot", "wal_budget", "on_wal_budget"];
const CONNECTION_PARTS: [&str; 4] = ["host", "port", "database", "user"];

/// From the command line's URL, the file's URL, or the file's parts. The command line's URL replaces all of
/// the file's connection keys, so that a password never goes to another host.
fn read_connection(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    overrides: &Overrides,
) -> Option<Connection> {
    let kinds =
        [("postgres", SourceKind::Postgres), ("mysql", SourceKind::MySql), ("mariadb", SourceKind::MySql)];
    let kind = reader.choice(section, "type", &kinds, &["kafka"]);
    let lookup = reader.lookup();
    let from_url = reader.parsed(section, "url", Repeat::Never, |text| parse_source(text, lookup));
    let part_kind = kind.unwrap_or(SourceKind::Postgres);
    let from_parts = read_parts(reader, section, part_kind, overrides.source_url.is_some());
    let password = reader.secret(section, "password", "source.password");
    let tls = reader.section(section.entry("tls").map(|e| &e.value), "source.tls");
    let modes = TlsMode::ALL.map(|mode| (mode.as_str(), mode));
    let mode = reader.choice(tls, "mode", &modes, &[]);
    let ca = reader.text(tls, "ca").map(PathBuf::from);
    let cert = reader.text(tls, "cert").map(PathBuf::from);
    let key = reader.text(tls, "key").map(PathBuf::from);
    if let Some(url) = &overrides.source_url {
        return match parse_source(url, lookup) {
            Ok(parsed) => Some(Connection::from_url(parsed)),
            Err(refusal) => {
                reader.report_argument("SOURCE_URL", refusal);
                None
            }
        };
    }
    let mut parsed = if section.entry("url").is_some() {
        report_twice(reader, section, &CONNECTION_PARTS);
        from_url?
    } else {
        ParsedSource {
            kind: part_kind,
            address: from_parts?,
            password: None,
            tls_mode: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            service: Service::default(),
        }
    };
    check_kind(reader, section, kind, parsed.kind)?;
    if parsed.password.is_some() {
        report_twice(reader, section, &["password"]);
    }
    let is_twice = parsed.tls_mode.is_some() && mode.is_some()
        || parsed.tls_ca.is_some() && ca.is_some()
        || parsed.tls_cert.is_some() && cert.is_some()
        || parsed.tls_key.is_some() && key.is_some();
    if is_twice {
        report_twice(reader, section, &["tls"]);
    }
    parsed.tls_cert = parsed.tls_cert.or(cert);
    parsed.tls_key = parsed.tls_key.or(key);
    if parsed.tls_cert.is_some() != parsed.tls_key.is_some() {
        reader.report_missing(
            "source.tls has a certificate without its key, or a key without its certificate",
            "give both: source.tls.cert and source.tls.key (sslcert and sslkey in a URL)",
        );
    }
    parsed.tls_mode = parsed.tls_mode.or(mode);
    parsed.tls_ca = parsed.tls_ca.or(ca);
    let connection = Connection::from_url(parsed);
    Some(Connection { password: password.unwrap_or(connection.password), ..connection })
}

/// What the section says of its product must be true, and its keys must be of that product. `None`: it is another.
fn check_kind(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    said: Option<SourceKind>,
    found: SourceKind,
) -> Option<()> {
    let mut report = |key: &str, message: String, advice: &'static str| {
        if let Some(entry) = section.entry(key) {
            reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        }
    };
    if said.is_some_and(|said| said != found) {
        report("type", "source.type and source.url name different products".to_owned(), "let them agree");
        return None;
    }
    if found == SourceKind::MySql {
        for key in section.written(&ONLY_POSTGRES) {
            report(key, format!("source.{key} is of PostgreSQL alone"), "remove it");
        }
    }
    Some(())
}

fn report_twice(reader: &mut Reader<'_>, section: Section<'_>, keys: &[&'static str]) {
    for key in section.written(keys) {
        if let Some(entry) = section.entry(key) {
            let message = format!("source.{key} is given twice: here and in source.url");
            reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, "keep one of them");
        }
    }
}

/// The address from `host`, `port`, `database`, `user`. Says what is missing, unless another source of the
/// address is there.
fn read_parts(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    kind: SourceKind,
    overridden: bool,
) -> Option<SourceAddress> {
    let port = match section.entry("port") {
        None => Some(default_port(kind)),
        Some(_) => reader.parsed(section, "port", Repeat::Value, parse_port),
    };
    let host = reader.text(section, "host");
    let database = reader.text(section, "database");
    let user = reader.text(section, "user");
    if section.entry("url").is_none() && !overridden {
        if section.written(&CONNECTION_PARTS).is_empty() {
            reader.report_missing(
                "the configuration does not say where the source database is",
                "give source.url: \"postgres://user@host:5432/database\", or source.host, .database and .user",
            );
            return None;
        }
        for key in ["host", "database", "user"] {
            if section.entry(key).is_none() {
                reader.report_missing(format!("source.{key} is missing"), format!("add {key} to source"));
            }
        }
    }
    Some(SourceAddress { host: host?, port: port?, database: database?, user: user? })
}

fn read_source(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    connection: Option<Connection>,
    name: Option<&str>,
    overrides: &Overrides,
) -> Option<SourceConfig> {
    let from_file = reader.parsed(section, "slot", Repeat::Value, parse_slot);
    let slot = match (&overrides.slot, section.entry("slot")) {
        (Some(slot), _) => argument(reader, "--slot", slot, parse_slot),
        (None, Some(_)) => from_file,
        (None, None) => name.and_then(|name| default_slot(reader, name)),
    };
    let from_file = reader.parsed(section, "publication", Repeat::Value, parse_publication);
    let publication = match (&overrides.publication, section.entry("publication")) {
        (Some(publication), _) => argument(reader, "--publication", publication, parse_publication),
        (None, Some(_)) => from_file,
        (None, None) => Some(DEFAULT_PUBLICATION.to_owned()),
    };
    let choices = [("stop", PositionLost::Stop), ("resync", PositionLost::Resync)];
    let on_position_lost =
        or_default(reader, section, "on_position_lost", PositionLost::Stop, |reader, section, key| {
            reader.choice(section, key, &choices, &[])
        });
    let create_if_missing = or_default(reader, section, "create_if_missing", true, |reader, section, key| {
        reader.boolean(section, key)
    });
    let heartbeat = or_default(reader, section, "heartbeat", DEFAULT_HEARTBEAT, |reader, section, key| {
        reader.duration(section, key, Duration::ZERO..=HOUR)
    });
    let origin = or_default(reader, section, "origin", OriginChoice::Any, |reader, section, key| {
        reader.choice(section, key, &[("any", OriginChoice::Any), ("none", OriginChoice::None)], &[])
    });
    let failover_slot = or_default(reader, section, "failover_slot", true, |reader, section, key| {
        reader.boolean(section, key)
    });
    let (wal_budget, on_wal_budget) = read_budget(reader, section)?;
    let Connection { kind, address, password, tls } = connection?;
    Some(SourceConfig {
        kind,
        address,
        password,
        tls,
        slot: slot?,
        publication: publication?,
        create_if_missing: create_if_missing?,
        on_position_lost: on_position_lost?,
        heartbeat: heartbeat.map(|every| (!every.is_zero()).then_some(every))?,
        origin: origin?,
        wal_budget,
        on_wal_budget,
        failover_slot: failover_slot?,
    })
}

fn read_budget(reader: &mut Reader<'_>, section: Section<'_>) -> Option<(Option<u64>, BudgetAction)> {
    let bytes = match section.entry("wal_budget") {
        None => Some(None),
        Some(_) => reader.size(section, "wal_budget", MEBIBYTE..=1024 * 1024 * MEBIBYTE).map(Some),
    };
    let choices = [("warn", BudgetAction::Warn), ("drop_slot", BudgetAction::DropSlot)];
    let action = or_default(reader, section, "on_wal_budget", BudgetAction::Warn, |reader, section, key| {
        reader.choice(section, key, &choices, &[])
    });
    if let (Some(None), Some(BudgetAction::DropSlot), Some(entry)) =
        (bytes, action, section.entry("on_wal_budget"))
    {
        let message = "source.on_wal_budget has no effect without source.wal_budget".to_owned();
        reader.report(
            codes::CF003,
            entry.key_mark,
            Show::UpToMark,
            message,
            "set source.wal_budget, such as 20GiB",
        );
        return None;
    }
    Some((bytes?, action?))
}

pub(super) fn or_default<T>(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    key: &str,
    default: T,
    read: impl FnOnce(&mut Reader<'_>, Section<'_>, &str) -> Option<T>,
) -> Option<T> {
    if section.entry(key).is_some() { read(reader, section, key) } else { Some(default) }
}

fn argument<T>(
    reader: &mut Reader<'_>,
    argument: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, Refusal>,
) -> Option<T> {
    match parse(text) {
        Ok(value) => Some(value),
        Err(refusal) => {
            reader.report_argument(&format!("{argument} \"{text}\""), refusal);
            None
        }
    }
}

fn parse_slot(text: &str) -> Result<String, Refusal> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=NAME_LIMIT).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "is not a name for a replication slot",
        "use 1 to 63 lower-case letters, digits and \"_\": PostgreSQL allows no other",
    ))
}

fn parse_publication(text: &str) -> Result<String, Refusal> {
    if (1..=NAME_LIMIT).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("is not a name for a publication", "use 1 to 63 bytes of text"))
}

fn default_slot(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let slot = format!("strandline_{}", name.chars().map(plain).collect::<String>());
    if slot.len() <= NAME_LIMIT {
        return Some(slot);
    }
    reader.report_missing(
        format!(
            "the slot's name \"{slot}\", made from the pipeline's name, is longer than {NAME_LIMIT} bytes"
        ),
        "set source.slot, or a shorter name",
    );
    None
}

fn read_tables(
    reader: &mut Reader<'_>,
    top: Section<'_>,
    overrides: &Overrides,
    default: &str,
) -> Option<TablesConfig> {
    let section = reader.section(top.entry("tables").map(|e| &e.value), "tables");
    let example = "[\"public.*\"]";
    let exclude = match section.entry("exclude") {
        Some(_) => reader.list(section, "exclude", example, TablePattern::parse)?,
        None => Vec::new(),
    };
    let choices = [("snapshot", NewTable::Snapshot), ("ignore", NewTable::Ignore)];
    let on_new_table =
        or_default(reader, section, "on_new_table", NewTable::Snapshot, |reader, section, key| {
            reader.choice(section, key, &choices, &["stream_only"])
        })?;
    let include = match section.entry("include") {
        Some(_) => reader.list(section, "include", example, TablePattern::parse),
        None => TablePattern::parse(default).ok().map(|pattern| vec![pattern]),
    };
    if !overrides.tables.is_empty() {
        let patterns = overrides.tables.iter();
        let include = patterns.map(|text| argument(reader, "--table", text, TablePattern::parse)).collect();
        return Some(TablesConfig { include: all(include)?, exclude, on_new_table });
    }
    let include = include?;
    if include.is_empty() && section.entry("include").is_some() {
        reader.report_missing("tables.include names no table", format!("write include: {example}"));
        return None;
    }
    Some(TablesConfig { include, exclude, on_new_table })
}

fn all<T>(items: Vec<Option<T>>) -> Option<Vec<T>> {
    items.into_iter().collect()
}

fn read_snapshot(reader: &mut Reader<'_>, top: Section<'_>) -> Option<SnapshotConfig> {
    let section = reader.section(top.entry("snapshot").map(|e| &e.value), "snapshot");
    let workers = or_default(reader, section, "workers", DEFAULT_WORKERS, |reader, section, key| {
        reader.number(section, key, 1..=64)
    })?;
    let chunk_rows = or_default(reader, section, "chunk_rows", DEFAULT_CHUNK_ROWS, |reader, section, key| {
        reader.number(section, key, 1..=u64::from(u32::MAX))
    });
    let hold = or_default(reader, section, "hold", SnapshotHold::Table, |reader, section, key| {
        reader.choice(section, key, &[("table", SnapshotHold::Table), ("chunk", SnapshotHold::Chunk)], &[])
    });
    let max_source_load = read_load(reader, section);
    Some(SnapshotConfig {
        workers: usize::try_from(workers).ok()?,
        chunk_rows: chunk_rows?,
        hold: hold?,
        max_source_load: max_source_load?,
    })
}

fn read_load(reader: &mut Reader<'_>, snapshot: Section<'_>) -> Option<SourceLoad> {
    let section =
        reader.section(snapshot.entry("max_source_load").map(|e| &e.value), "snapshot.max_source_load");
    let active_sessions = or_default(reader, section, "active_sessions", None, |reader, section, key| {
        reader.parsed(section, key, Repeat::Value, parse_sessions).map(Some)
    });
    let replica_lag = or_default(reader, section, "replica_lag", None, |reader, section, key| {
        reader.duration(section, key, Duration::from_secs(1)..=HOUR).map(Some)
    });
    Some(SourceLoad { active_sessions: active_sessions?, replica_lag: replica_lag? })
}

fn parse_sessions(text: &str) -> Result<LoadSessions, Refusal> {
    let (number, percent) = match text.strip_suffix('%') {
        Some(number) => (number.trim(), true),
        None => (text, false),
    };
    match (number.parse::<u64>(), percent) {
        (Ok(number @ 1..=100), true) => Ok(LoadSessions::Percent(number)),
        (Ok(number @ 1..=1_000_000), false) => Ok(LoadSessions::Count(number)),
        _ => Err(Refusal::new("is no number of sessions", "write 20, or 80% of what the server allows")),
    }
}

fn read_sink(reader: &mut Reader<'_>, top: Section<'_>, overrides: &Overrides) -> Option<SinkConfig> {
    let section = reader.section(top.entry("sink").map(|e| &e.value), "sink");
    let target = read_target(reader, section, overrides);
    let commit = read_commit(reader, section, matches!(target, Some(SinkTarget::Kafka(_))));
    let store = store::read_store(reader, section);
    let choices = write::read_choices(reader, section, top.entry("tables"));
    let foreign = write::read_foreign(reader, section);
    let maintenance = write::read_maintenance(reader, section);
    let is_log = matches!(target, Some(SinkTarget::Kafka(_) | SinkTarget::Stdout));
    let schema_changes = read_schema_changes(reader, section, is_log);
    let numeric =
        or_default(reader, section, "numeric_unbounded", NumericUnbounded::String, |reader, section, key| {
            reader.parsed(section, key, Repeat::Value, parse_numeric)
        });
    let infinity = or_default(reader, section, "infinity", InfinityPolicy::Stop, |reader, section, key| {
        reader.choice(section, key, &[("stop", InfinityPolicy::Stop), ("null", InfinityPolicy::Null)], &[])
    });
    let unknown =
        or_default(reader, section, "unknown_types", UnknownTypesPolicy::Stop, |reader, section, key| {
            let allowed = [("stop", UnknownTypesPolicy::Stop), ("text", UnknownTypesPolicy::Text)];
            reader.choice(section, key, &allowed, &[])
        });
    Some(SinkConfig {
        target: target?,
        commit: commit?,
        store: store?,
        choices: choices?,
        on_foreign_change: foreign?,
        maintenance: maintenance?,
        schema_changes: schema_changes?,
        numeric_unbounded: numeric?,
        infinity: infinity?,
        unknown_types: unknown?,
    })
}

fn read_schema_changes(reader: &mut Reader<'_>, sink: Section<'_>, is_log: bool) -> Option<ChangePolicy> {
    let section = reader.section(sink.entry("schema_changes").map(|e| &e.value), "sink.schema_changes");
    let default = if is_log { ChangePolicy::of_log() } else { ChangePolicy::default() };
    let mut read = |key: &str, apply: &'static str, default: Choice| {
        or_default(reader, section, key, default, |reader, section, key| {
            reader.choice(section, key, &[(apply, Choice::Apply), ("quarantine", Choice::Quarantine)], &[])
        })
    };
    let add_column = read("add_column", "apply", default.add_column);
    let drop_column = read("drop_column", "keep_nullable", default.drop_column);
    let rename_column = read("rename_column", "apply", default.rename_column);
    let widen = read("widen", "apply", default.widen);
    let other = read("other", "resync", default.other);
    let choices = [("resync", Some(Choice::Apply)), ("keep", None), ("quarantine", Some(Choice::Quarantine))];
    let partitions = or_default(reader, section, "partitions", default.partitions, |reader, section, key| {
        reader.choice(section, key, &choices, &[])
    });
    Some(ChangePolicy {
        add_column: add_column?,
        drop_column: drop_column?,
        rename_column: rename_column?,
        widen: widen?,
        other: other?,
        partitions: partitions?,
    })
}

#[derive(Clone, Copy)]
enum SinkType {
    Delta,
    Kafka,
    Stdout,
    Discard,
}

fn read_target(reader: &mut Reader<'_>, section: Section<'_>, overrides: &Overrides) -> Option<SinkTarget> {
    let allowed = [
        ("delta", SinkType::Delta),
        ("kafka", SinkType::Kafka),
        ("stdout", SinkType::Stdout),
        ("discard", SinkType::Discard),
    ];
    let uri = overrides.sink_uri.as_deref();
    let is_kafka = |text: &str| text.starts_with("kafka://");
    let written = section.entry("uri").and_then(|entry| entry.value.as_text());
    // An address says what it is an address of.
    let default = if written.is_some_and(is_kafka) { SinkType::Kafka } else { SinkType::Delta };
    let kind = or_default(reader, section, "type", default, |reader, section, key| {
        reader.choice(section, key, &allowed, &[])
    });
    if let Some(uri) = uri.filter(|uri| is_kafka(uri)) {
        let address = argument(reader, "SINK_URI", uri, kafka::parse_address)?;
        return kafka::read(reader, section, Some(address)).map(|target| SinkTarget::Kafka(Box::new(target)));
    }
    if let Some(uri) = uri {
        return match parse_sink(uri) {
            Ok(target) => Some(target),
            Err(refusal) => {
                reader.report_argument("SINK_URI", refusal);
                None
            }
        };
    }
    let kind = kind?;
    if let SinkType::Kafka = kind {
        let address = match section.entry("uri") {
            Some(_) => Some(reader.parsed(section, "uri", Repeat::Never, kafka::parse_address)?),
            None => None,
        };
        return kafka::read(reader, section, address).map(|target| SinkTarget::Kafka(Box::new(target)));
    }
    refuse_kafka_keys(reader, section);
    let from_file = reader.parsed(section, "uri", Repeat::Never, parse_sink);
    match (kind, section.entry("uri")) {
        (SinkType::Stdout, _) => Some(SinkTarget::Stdout),
        (SinkType::Discard, _) => Some(SinkTarget::Discard),
        (_, Some(_)) => from_file,
        (_, None) => {
            reader.report_missing(
                "the configuration does not say where the tables go",
                "give sink.uri: \"file:///path\", \"s3://bucket/path\", \"gs://…\", \"abfss://…\" or \"kafka://…\"",
            );
            None
        }
    }
}

/// A key that would have no effect is a wish that is silently not granted.
fn refuse_kafka_keys(reader: &mut Reader<'_>, section: Section<'_>) {
    for key in section.written(&kafka::KEYS) {
        if let Some(entry) = section.entry(key) {
            let message = format!("sink.{key} belongs to a Kafka sink");
            let advice = "write type: kafka, or remove the key";
            reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        }
    }
}

/// Tables have no events whose format could be chosen.
fn refuse_format(reader: &mut Reader<'_>, top: Section<'_>) {
    if let Some(entry) = top.entry("format") {
        let message = "format belongs to a Kafka or stdout sink".to_owned();
        let advice = "remove the key: it would have no effect, so it is refused";
        reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
    }
}

/// Kafka takes small units often, and holds no more of them than it must.
fn read_commit(reader: &mut Reader<'_>, sink: Section<'_>, is_kafka: bool) -> Option<CommitConfig> {
    let section = reader.section(sink.entry("commit").map(|e| &e.value), "sink.commit");
    let (interval, shortest, rows, bytes) = if is_kafka {
        (KAFKA_INTERVAL, Duration::ZERO, KAFKA_MAX_ROWS, KAFKA_MAX_BYTES)
    } else {
        (DEFAULT_INTERVAL, Duration::from_millis(10), DEFAULT_MAX_ROWS, DEFAULT_MAX_BYTES)
    };
    let interval = or_default(reader, section, "interval", interval, |reader, section, key| {
        reader.duration(section, key, shortest..=HOUR)
    });
    let max_rows = or_default(reader, section, "max_rows", rows, |reader, section, key| {
        reader.number(section, key, 1..=100_000_000)
    });
    let max_bytes = or_default(reader, section, "max_bytes", bytes, |reader, section, key| {
        reader.size(section, key, MEBIBYTE..=1024 * 1024 * MEBIBYTE)
    });
    Some(CommitConfig { interval: interval?, max_rows: max_rows?, max_bytes: max_bytes? })
}

fn parse_numeric(text: &str) -> Result<NumericUnbounded, Refusal> {
    const FORMS: &str = "allowed: string, double, decimal(precision, scale) such as decimal(38,10)";
    match text {
        "string" => return Ok(NumericUnbounded::String),
        "double" => return Ok(NumericUnbounded::Double),
        _ => {}
    }
    let inside = text.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')'));
    let Some((precision, scale)) = inside.and_then(|inside| inside.split_once(',')) else {
        return Err(Refusal::new("is not allowed", FORMS));
    };
    match (precision.trim().parse::<u8>(), scale.trim().parse::<u8>()) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => {
            Ok(NumericUnbounded::Decimal { precision, scale })
        }
        _ => Err(Refusal::new(
            "is not a decimal that Delta can hold",
            "the precision is 1 to 38, the scale 0 to the precision: decimal(38,10)",
        )),
    }
}

fn read_errors(reader: &mut Reader<'_>, top: Section<'_>) -> Option<ErrorsConfig> {
    let section = reader.section(top.entry("errors").map(|e| &e.value), "errors");
    let bad_row = or_default(reader, section, "bad_row", BadRow::Stop, |reader, section, key| {
        reader.choice(section, key, &[("stop", BadRow::Stop)], &["dlq"])
    })?;
    Some(ErrorsConfig { bad_row })
}

fn read_limits(reader: &mut Reader<'_>, top: Section<'_>) -> Option<LimitsConfig> {
    let section = reader.section(top.entry("limits").map(|e| &e.value), "limits");
    let memory = match section.entry("memory") {
        None => Some(None),
        Some(_) => reader.size(section, "memory", 64 * MEBIBYTE..=1024 * 1024 * MEBIBYTE).map(Some),
    };
    let spill_dir = match section.entry("spill_dir") {
        None => Some(None),
        Some(_) => reader.parsed(section, "spill_dir", Repeat::Value, parse_directory).map(Some),
    };
    Some(LimitsConfig { memory: memory?, spill_dir: spill_dir? })
}

fn parse_directory(text: &str) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Refusal::new("is not an absolute path", "write \"/var/lib/strandline\""))
}

fn read_log(reader: &mut Reader<'_>, top: Section<'_>) -> Option<LogConfig> {
    let section = reader.section(top.entry("log").map(|e| &e.value), "log");
    let levels = LogLevel::ALL.map(|level| (level.as_str(), level));
    let level = or_default(reader, section, "level", LogLevel::Info, |reader, section, key| {
        reader.choice(section, key, &levels, &[])
    });
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = or_default(reader, section, "format", LogFormat::Auto, |reader, section, key| {
        reader.choice(section, key, &formats, &[])
    });
    Some(LogConfig { level: level?, format: format? })
}
