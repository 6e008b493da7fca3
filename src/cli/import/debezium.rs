//! From a Debezium connector's configuration to ours. Pure: text in, text out.
//!
//! Every option ends in one of four lists: *mapped* (it stands in the new file), *ignored* (it makes no difference
//! here, and why), *unsupported* (it makes one, and is not built), and *notes* (what a person must do).

mod columns;
mod tables;

use crate::error::{Error, Result, codes};
use serde_json::Value;
use std::collections::BTreeMap;

/// What became of a connector.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Imported {
    /// The new file.
    pub(super) yaml: String,
    /// Option, and what it became.
    pub(super) mapped: Vec<(String, String)>,
    /// Option, and why it is of no use.
    pub(super) ignored: Vec<(String, &'static str)>,
    /// Option, and what is missing.
    pub(super) unsupported: Vec<(String, String)>,
    /// What a person must do or know.
    pub(super) notes: Vec<String>,
}

/// Options that have the same name in `format.debezium`, with `_` for `.`.
const SAME: [&str; 16] = [
    "decimal.handling.mode",
    "time.precision.mode",
    "binary.handling.mode",
    "interval.handling.mode",
    "hstore.handling.mode",
    "money.fraction.digits",
    "include.unknown.datatypes",
    "unavailable.value.placeholder",
    "schema.name.adjustment.mode",
    "field.name.adjustment.mode",
    "topic.delimiter",
    "topic.transaction",
    "topic.heartbeat.prefix",
    "tombstones.on.delete",
    "provide.transaction.metadata",
    "bigint.unsigned.handling.mode",
];

/// Options that make no difference here: how they begin, and why.
const IGNORED: [(&str, &str); 31] = [
    ("name", "the pipeline is named after the topic prefix"),
    ("tasks.max", "a pipeline is one process"),
    ("max.batch.size", "memory is bounded by limits.memory"),
    ("max.queue.size", "memory is bounded by limits.memory"),
    ("poll.interval.ms", "the log is read as it comes"),
    ("snapshot.fetch.size", "tables are copied as they come"),
    ("snapshot.max.threads", "see snapshot.workers"),
    ("snapshot.locking.mode", "a lock is held for milliseconds at most, where there is no other way"),
    ("database.server.id", "a free one is taken"),
    ("connect.keep.alive", "a lost connection is tried again for ever"),
    ("connect.timeout.ms", "a lost connection is tried again for ever"),
    ("database.allowPublicKeyRetrieval", "asked for where it is needed"),
    ("min.row.count.to.stream.results", "tables are copied as they come"),
    ("enable.time.adjuster", "the server completes years of two digits itself"),
    ("gtid.source", "a transaction is met once, whichever server made it"),
    ("use.nongraceful.disconnect", "always so"),
    ("snapshot.isolation.mode", "a copy sees one snapshot"),
    ("schema.history.internal", "rows are read with the schema of their own moment"),
    ("database.history", "rows are read with the schema of their own moment"),
    ("status.update.interval.ms", "the slot moves when the target holds the data"),
    ("slot.max.retries", "a lost connection is tried again for ever"),
    ("slot.retry.delay.ms", "a lost connection is tried again for ever"),
    ("retriable.restart.connector.wait.ms", "a lost connection is tried again for ever"),
    ("errors.retry", "what is temporary is tried again for ever"),
    ("errors.max.retries", "what is temporary is tried again for ever"),
    ("errors.log", "errors are always logged"),
    ("database.tcpKeepAlive", "always on"),
    ("header.converter", "headers are text"),
    ("signal.poll.interval.ms", "signals are looked for every two seconds"),
    ("incremental.snapshot.chunk.size", "at most 16384 rows at once; see snapshot.chunk_rows"),
    ("incremental.snapshot.watermarking.strategy", "no watermarks are written"),
];

/// Values with which an option changes nothing.
const HARMLESS: [(&str, &str); 13] = [
    ("slot.drop.on.stop", "false"),
    ("inconsistent.schema.handling.mode", "fail"),
    ("event.deserialization.failure.handling.mode", "fail"),
    ("xmin.fetch.interval.ms", "0"),
    ("incremental.snapshot.allow.schema.changes", "false"),
    ("errors.tolerance", "none"),
    ("event.processing.failure.handling.mode", "fail"),
    ("lsn.flush.mode", "connector"),
    ("flush.lsn.source", "true"),
    ("slot.failover", "false"),
    ("sanitize.field.names", "false"),
    ("topic.naming.strategy", "io.debezium.schema.SchemaTopicNamingStrategy"),
    ("snapshot.mode", "initial"),
];

/// Reads a connector's configuration: JSON as of the REST interface (`config` or the options alone), or properties.
///
/// # Errors
/// `CF001` for what is neither.
pub(super) fn options(text: &str) -> Result<BTreeMap<String, String>> {
    if text.trim_start().starts_with('{') {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            Error::new(codes::CF001, "the connector's configuration is no JSON").with_source(e)
        })?;
        let inner = value.get("config").unwrap_or(&value);
        let Value::Object(map) = inner else {
            return Err(Error::new(codes::CF001, "the connector's configuration has no options"));
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        return Ok(map.iter().map(|(key, value)| (key.clone(), text(value))).collect());
    }
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            pair(line)
                .ok_or_else(|| Error::new(codes::CF001, format!("\"{line}\" is not an option and its value")))
        })
        .collect()
}

/// Maps a connector.
///
/// # Errors
/// `CF001` for what is no configuration, `CF003` for another connector than those of PostgreSQL, MySQL and MariaDB, or
/// for an offset within an unfinished snapshot.
pub(super) fn import(connector: &str, offsets: Option<&str>) -> Result<Imported> {
    let options = options(connector)?;
    let class = options.get("connector.class").map_or("", String::as_str);
    let kind = match class.rsplit('.').next().unwrap_or_default() {
        "PostgresConnector" => "postgres",
        "MySqlConnector" => "mysql",
        "MariaDbConnector" => "mariadb",
        other => {
            let what = format!("\"{other}\" is not a connector for PostgreSQL, MySQL or MariaDB");
            return Err(
                Error::new(codes::CF003, what).with_try("give the configuration of a Debezium connector")
            );
        }
    };
    let mut work = Work { left: options, done: Imported::default(), sections: Sections::default() };
    work.left.remove("connector.class");
    work.source(kind);
    work.tables();
    work.events();
    work.columns();
    work.converters();
    work.transforms();
    work.snapshot();
    work.rest();
    if let Some(offsets) = offsets {
        work.offsets(offsets)?;
    }
    Ok(work.finish(kind))
}

#[derive(Default)]
struct Sections {
    source: Vec<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    /// The connector says which tables: where nothing of that can be mapped, it is not all of them.
    is_chosen: bool,
    format: Vec<String>,
    debezium: Vec<String>,
    flat: Vec<String>,
    route: Vec<String>,
    signals: Vec<String>,
    prefix: String,
    brokers: Option<String>,
    style: Option<&'static str>,
    columns: BTreeMap<String, columns::Rules>,
}

struct Work {
    left: BTreeMap<String, String>,
    done: Imported,
    sections: Sections,
}

/// A YAML scalar that cannot be misread.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('$', "$$")
}

impl Work {
    fn take(&mut self, key: &str) -> Option<String> {
        self.left.remove(key)
    }

    /// The newer name, or the one of Debezium 1.x.
    fn take_either(&mut self, new: &str, old: &str) -> Option<(String, String)> {
        let taken = self.take(new).map(|value| (new.to_owned(), value));
        let older = self.take(old).map(|value| (old.to_owned(), value));
        taken.or(older)
    }

    fn mapped(&mut self, from: &str, to: impl Into<String>) {
        self.done.mapped.push((from.to_owned(), to.into()));
    }

    fn unsupported(&mut self, from: &str, what: impl Into<String>) {
        self.done.unsupported.push((from.to_owned(), what.into()));
    }

    fn source(&mut self, kind: &'static str) {
        self.sections.source.push(format!("type: {kind}"));
        for (from, to) in [
            ("database.hostname", "host"),
            ("database.port", "port"),
            ("database.dbname", "database"),
            ("database.user", "user"),
            ("slot.name", "slot"),
            ("publication.name", "publication"),
        ] {
            if let Some(value) = self.take(from) {
                self.sections.source.push(format!("{to}: {}", quoted(&value)));
                self.mapped(from, format!("source.{to}"));
            }
        }
        if self.take("database.password").is_some() {
            self.sections.source.push("password: {env: STRANDLINE_SOURCE_PASSWORD}".to_owned());
            self.mapped("database.password", "source.password");
            self.done.notes.push("the password is not copied: set STRANDLINE_SOURCE_PASSWORD".to_owned());
        }
        if kind == "postgres" {
            self.postgres();
        } else {
            self.mysql();
        }
        self.tls();
        match self.take("heartbeat.interval.ms") {
            None => {}
            Some(value) if value == "0" => {
                self.done
                    .ignored
                    .push(("heartbeat.interval.ms".to_owned(), "strandline has heartbeats by default"));
            }
            Some(value) => {
                self.sections.source.push(format!("heartbeat: {value}ms"));
                self.sections.debezium.push(format!("heartbeat_interval: {value}ms"));
                self.mapped("heartbeat.interval.ms", "source.heartbeat, format.debezium.heartbeat_interval");
            }
        }
    }

    fn postgres(&mut self) {
        if let Some(query) = self.take("heartbeat.action.query") {
            self.sections.source.push(format!("heartbeat_action_query: {}", quoted(&query)));
            self.mapped("heartbeat.action.query", "source.heartbeat_action_query");
        }
        if !self.done.mapped.iter().any(|(from, _)| from == "slot.name") {
            self.sections.source.push("slot: debezium".to_owned());
            self.done
                .notes
                .push("the connector names no slot: Debezium's default \"debezium\" is taken".to_owned());
        }
        if !self.done.mapped.iter().any(|(from, _)| from == "publication.name") {
            self.sections.source.push("publication: dbz_publication".to_owned());
        }
        match self.take("plugin.name").as_deref() {
            Some("pgoutput") => self.mapped("plugin.name", "nothing: pgoutput is what is read"),
            other => {
                let plugin = other.unwrap_or("decoderbufs, Debezium's default");
                let what =
                    format!("the slot uses {plugin}: it cannot be read, name another slot and copy anew");
                self.unsupported("plugin.name", what);
            }
        }
        if let Some(mode) = self.take("publication.autocreate.mode") {
            let create = mode != "disabled";
            self.sections.source.push(format!("create_if_missing: {create}"));
            self.mapped("publication.autocreate.mode", "source.create_if_missing");
        }
    }

    /// The connector names no database; a session has one.
    fn mysql(&mut self) {
        const LISTS: [&str; 4] =
            ["database.include.list", "database.whitelist", "table.include.list", "table.whitelist"];
        let first = LISTS.iter().find_map(|list| self.left.get(*list)).and_then(|list| {
            let name: String = list
                .trim_start_matches('^')
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            (!name.is_empty()).then_some(name)
        });
        let database = first.unwrap_or_else(|| {
            self.done.notes.push("source.database: name any database of the server".to_owned());
            "mysql".to_owned()
        });
        self.sections.source.push(format!("database: {}", quoted(&database)));
        // The connector has its topic unless it is told otherwise.
        let changes = self.take("include.schema.changes").unwrap_or_else(|| "true".to_owned());
        self.sections.debezium.push(format!("include_schema_changes: {changes}"));
        self.mapped("include.schema.changes", "format.debezium.include_schema_changes");
    }

    fn tls(&mut self) {
        let mode = self.take("database.sslmode").or_else(|| self.take("database.ssl.mode"));
        let ca = self.take("database.sslrootcert");
        if mode.is_none() && ca.is_none() {
            return;
        }
        let word = match mode.as_deref() {
            Some("allow" | "preferred") | None => "prefer",
            Some("disabled") => "disable",
            Some("required") => "require",
            Some("verify_ca") => "verify-ca",
            Some("verify_identity") => "verify-full",
            Some(mode) => mode,
        };
        let ca_part = ca.as_ref().map(|ca| format!(", ca: {}", quoted(ca))).unwrap_or_default();
        self.sections.source.push(format!("tls: {{mode: {word}{ca_part}}}"));
        if mode.is_some() {
            self.mapped("database.sslmode", "source.tls.mode");
        }
        if ca.is_some() {
            self.mapped("database.sslrootcert", "source.tls.ca");
        }
    }

    fn events(&mut self) {
        if let Some((from, prefix)) = self.take_either("topic.prefix", "database.server.name") {
            self.sections.debezium.push(format!("topic_prefix: {}", quoted(&prefix)));
            self.mapped(&from, "format.debezium.topic_prefix");
            self.sections.prefix = prefix;
        }
        for from in SAME {
            if let Some(value) = self.take(from) {
                let key = from.replace('.', "_");
                let is_word =
                    value == "true" || value == "false" || value.bytes().all(|b| b.is_ascii_digit());
                let value = if is_word { value } else { quoted(&value) };
                self.sections.debezium.push(format!("{key}: {value}"));
                self.mapped(from, format!("format.debezium.{key}"));
            }
        }
        if let Some(value) = self.take("skip.messages.without.change") {
            self.sections.debezium.push(format!("skip_messages_without_change: {value}"));
            self.mapped("skip.messages.without.change", "format.debezium.skip_messages_without_change");
        }
        if let Some(value) = self.take("extended.headers.enabled") {
            self.sections.debezium.push(format!("extended_headers_enabled: {value}"));
            self.mapped("extended.headers.enabled", "format.debezium.extended_headers_enabled");
        }
        if let Some(value) = self.take("skipped.operations") {
            self.sections.debezium.push(format!("skipped_operations: [{value}]"));
            self.mapped("skipped.operations", "format.debezium.skipped_operations");
        }
        if let Some(value) = self.take("message.key.columns") {
            let items: Vec<String> = value.split(';').filter(|v| !v.is_empty()).map(quoted).collect();
            self.sections.debezium.push(format!("message_key_columns: [{}]", items.join(", ")));
            self.mapped("message.key.columns", "format.debezium.message_key_columns");
        }
    }

    fn converters(&mut self) {
        self.custom_converters();
        self.notifications();
        let mut is_avro = false;
        let mut class = |side| self.take(side).and_then(|class| class.rsplit('.').next().map(str::to_owned));
        let (key, value) = (class("key.converter"), class("value.converter"));
        for (side, class) in [("key.converter", &key), ("value.converter", &value)] {
            match class.as_deref() {
                None => {}
                Some("JsonConverter") => self.mapped(side, "format.encoding: json"),
                Some("AvroConverter") => {
                    is_avro = true;
                    self.avro(side);
                }
                Some(other) => {
                    let what = format!("the converter {other}: JSON and Avro are built");
                    self.unsupported(side, what);
                }
            }
        }
        self.same_converters(key.as_deref(), value.as_deref());
        // The converter's own default is true.
        let schemas = self.take("value.converter.schemas.enable");
        if schemas.is_some() {
            self.mapped("value.converter.schemas.enable", "format.debezium.schemas_enable");
        } else if !is_avro {
            self.done.notes.push(
                "the connector does not say value.converter.schemas.enable: the worker's setting holds, and its \
                 default is true"
                    .to_owned(),
            );
        }
        let schemas = schemas.is_none_or(|value| value == "true");
        if !is_avro {
            self.sections.debezium.push(format!("schemas_enable: {schemas}"));
        }
        if let Some(format) = self.take("value.converter.decimal.format") {
            self.sections.debezium.push(format!("decimal_format: {}", format.to_lowercase()));
            self.mapped("value.converter.decimal.format", "format.debezium.decimal_format");
        }
        let replace = self.take("value.converter.replace.null.with.default");
        if replace.is_some() {
            self.mapped(
                "value.converter.replace.null.with.default",
                "format.debezium.replace_null_with_default",
            );
        }
        // Avro's has no such switch: it writes nulls.
        let replace = replace.map_or(!is_avro, |value| value == "true");
        self.sections.debezium.push(format!("replace_null_with_default: {replace}"));
    }

    /// Keys and values have one encoding here.
    fn same_converters(&mut self, key: Option<&str>, value: Option<&str>) {
        if let (Some(key), Some(value)) = (key, value)
            && key != value
        {
            let what = format!(
                "another converter ({key}) than the values' ({value}): keys and values are encoded alike"
            );
            self.unsupported("key.converter", what);
        }
        // A converter that is named has its own default, which is true; one that is not is the worker's.
        let told = |switch: Option<&String>, class: Option<&str>| match switch {
            Some(switch) => Some(switch == "true"),
            None => (class == Some("JsonConverter")).then_some(true),
        };
        let switch = self.take("key.converter.schemas.enable");
        let keys = told(switch.as_ref(), key);
        let values = told(self.left.get("value.converter.schemas.enable"), value);
        match (keys, values) {
            (Some(keys), Some(values)) if keys != values => {
                let what = format!("{keys} for keys, {values} for values: keys and values are encoded alike");
                self.unsupported("key.converter.schemas.enable", what);
            }
            (None, Some(values)) if key.is_none() => self.done.notes.push(format!(
                "the connector does not say key.converter.schemas.enable: the worker's setting holds; here it is \
                 {values}, as for values"
            )),
            _ if switch.is_some() => {
                self.mapped("key.converter.schemas.enable", "format.debezium.schemas_enable");
            }
            _ => {}
        }
    }

    fn transforms(&mut self) {
        let Some(list) = self.take("transforms") else { return };
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let prefix = format!("transforms.{name}.");
            let class = self.take(&format!("{prefix}type")).unwrap_or_default();
            match class.rsplit('.').next().unwrap_or_default() {
                "RegexRouter" => self.route(&prefix, "regex", "replacement"),
                "ByLogicalTableRouter" => {
                    self.route(&prefix, "topic.regex", "topic.replacement");
                    let unique = format!("{prefix}key.enforce.uniqueness");
                    if self.take(&unique).is_none_or(|value| value != "false") {
                        let what = "the field that it adds to each key, which is its default: set it to false, \
                                    or route each table to a topic of its own";
                        self.unsupported(&unique, what);
                    }
                }
                "ExtractNewRecordState" => self.unwrap(&prefix),
                other => {
                    let what = format!("the transform {other}");
                    self.unsupported(&format!("{prefix}type"), what);
                }
            }
        }
    }

    fn route(&mut self, prefix: &str, regex: &str, replacement: &str) {
        let (from, to) = (format!("{prefix}{regex}"), format!("{prefix}{replacement}"));
        let (Some(regex), Some(replacement)) = (self.take(&from), self.take(&to)) else {
            return self.unsupported(&from, "a route without its two parts");
        };
        if !self.sections.route.is_empty() {
            return self.unsupported(&from, "more than one route");
        }
        self.sections.route =
            vec![format!("regex: {}", quoted(&regex)), format!("replacement: {}", quoted(&replacement))];
        self.mapped(&from, "format.route.regex");
        self.mapped(&to, "format.route.replacement");
    }

    fn unwrap(&mut self, prefix: &str) {
        self.sections.style = Some("flat");
        self.mapped(&format!("{prefix}type"), "format.style: flat");
        let drop_tombstones = self.take(&format!("{prefix}drop.tombstones"));
        let old = self.take(&format!("{prefix}delete.handling.mode"));
        let new = self.take(&format!("{prefix}delete.tombstone.handling.mode"));
        let mode = match (&new, old.as_deref(), drop_tombstones.as_deref()) {
            (Some(mode), _, _) => Some(mode.clone()),
            (None, Some("rewrite"), Some("false")) => Some("rewrite-with-tombstone".to_owned()),
            (None, Some("rewrite"), _) => Some("rewrite".to_owned()),
            (None, Some("none"), _) => Some("tombstone".to_owned()),
            (None, Some("drop") | None, Some("false")) => Some("delete-to-tombstone".to_owned()),
            (None, Some("drop"), _) => Some("drop".to_owned()),
            _ => None,
        };
        if let Some(mode) = mode {
            self.sections.flat.push(format!("delete_tombstone_handling_mode: {mode}"));
            self.mapped(&format!("{prefix}delete…"), "format.flat.delete_tombstone_handling_mode");
        }
        for (from, to) in [("add.fields", "add_fields"), ("add.headers", "add_headers")] {
            if let Some(list) = self.take(&format!("{prefix}{from}")) {
                let items: Vec<String> = list.split(',').map(|item| quoted(item.trim())).collect();
                self.sections.flat.push(format!("{to}: [{}]", items.join(", ")));
                self.mapped(&format!("{prefix}{from}"), format!("format.flat.{to}"));
            }
        }
    }

    fn snapshot(&mut self) {
        let Some(mode) = self.take("snapshot.mode") else { return };
        match mode.as_str() {
            "initial" | "when_needed" => {
                self.mapped("snapshot.mode", "nothing: tables without a copy are copied")
            }
            "never" | "no_data" | "schema_only" => {
                self.mapped("snapshot.mode", "strandline run --no-snapshot");
                self.done.notes.push("start with: strandline run --no-snapshot".to_owned());
            }
            "initial_only" => {
                self.mapped("snapshot.mode", "strandline run --snapshot-only");
                self.done.notes.push("start with: strandline run --snapshot-only".to_owned());
            }
            other => self.unsupported("snapshot.mode", other.to_owned()),
        }
    }

    /// What nobody asked for by name.
    fn rest(&mut self) {
        for key in
            ["schema.history.internal.kafka.bootstrap.servers", "database.history.kafka.bootstrap.servers"]
        {
            if let Some(servers) = self.take(key) {
                self.mapped(key, "sink.brokers");
                self.sections.brokers.get_or_insert(servers);
            }
        }
        for (key, value) in std::mem::take(&mut self.left) {
            let harmless = HARMLESS.iter().any(|(name, with)| *name == key && *with == value);
            let ignored =
                IGNORED.iter().find(|(name, _)| key == *name || key.starts_with(&format!("{name}.")));
            match (harmless, ignored) {
                (true, _) => self.done.ignored.push((key, "its value changes nothing")),
                (false, Some((_, why))) => self.done.ignored.push((key, why)),
                (false, None) => self.unsupported(&key, "is not built"),
            }
        }
    }

    fn offsets(&mut self, text: &str) -> Result<()> {
        let value: Value = serde_json::from_str(text)
            .map_err(|e| Error::new(codes::CF001, "the offsets are no JSON").with_source(e))?;
        let listed = value.get("offsets").and_then(|all| all.get(0)).and_then(|first| first.get("offset"));
        let offset = listed.unwrap_or(&value);
        let is_set = |key: &str| offset.get(key).is_some_and(|v| !v.is_null() && *v != Value::Bool(false));
        if is_set("snapshot") && !is_set("snapshot_completed") && !is_set("last_snapshot_record") {
            let what = "Debezium's offset stands within its snapshot, which had not ended";
            return Err(Error::new(codes::CF003, what).with_try(
                "let the connector finish its snapshot, or start without --offsets: tables are copied anew",
            ));
        }
        if offset.get("file").is_some() {
            let what = "Debezium's offset is a place in a binary log, which strandline cannot begin at yet";
            return Err(Error::new(codes::CF003, what).with_try(
                "start without --offsets: tables are copied, or not with strandline run --no-snapshot",
            ));
        }
        let position =
            offset.get("lsn_commit").or_else(|| offset.get("lsn_proc")).or_else(|| offset.get("lsn"));
        match position.and_then(Value::as_u64) {
            Some(lsn) => {
                let lsn = crate::position::Lsn::new(lsn);
                self.done.notes.push(format!(
                    "Debezium had sent everything up to {lsn}. Stop the connector, then go on from its slot with: \
                     strandline run --no-snapshot. Events between the slot's confirmed position and {lsn} come again"
                ));
                Ok(())
            }
            None => Err(Error::new(codes::CF003, "the offsets hold no lsn_commit, lsn_proc or lsn")
                .with_try("save them with: curl …/connectors/NAME/offsets")),
        }
    }

    fn finish(mut self, kind: &str) -> Imported {
        let name: String =
            self.sections.prefix.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let name = if name.is_empty() { kind.to_owned() } else { name };
        let mut yaml = format!("version: 1\nname: {name}\n");
        section(&mut yaml, "source", 0, &self.sections.source);
        let overrides = columns::overrides(&self.sections.columns);
        if self.sections.is_chosen || !self.sections.exclude.is_empty() || !overrides.is_empty() {
            let list =
                |items: &[String]| items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ");
            yaml.push_str(&format!("tables:\n  include: [{}]\n", list(&self.include())));
            if !self.sections.exclude.is_empty() {
                yaml.push_str(&format!("  exclude: [{}]\n", list(&self.sections.exclude)));
            }
            yaml.push_str(&overrides);
        }
        let brokers = self.sections.brokers.clone().unwrap_or_else(|| {
            self.done
                .notes
                .push("sink.brokers: the connector does not say where its worker's brokers are".to_owned());
            "localhost:9092".to_owned()
        });
        let brokers: Vec<String> = brokers.split(',').map(|broker| quoted(broker.trim())).collect();
        yaml.push_str(&format!("sink:\n  type: kafka\n  brokers: [{}]\n", brokers.join(", ")));
        yaml.push_str("format:\n");
        if let Some(style) = self.sections.style {
            yaml.push_str(&format!("  style: {style}\n"));
        }
        for line in &self.sections.format {
            yaml.push_str(&format!("  {line}\n"));
        }
        section(&mut yaml, "debezium", 1, &self.sections.debezium);
        section(&mut yaml, "flat", 1, &self.sections.flat);
        section(&mut yaml, "route", 1, &self.sections.route);
        section(&mut yaml, "signals", 0, &self.sections.signals);
        self.done.yaml = yaml;
        self.done
    }

    fn include(&self) -> Vec<String> {
        if self.sections.is_chosen { self.sections.include.clone() } else { vec!["*.*".to_owned()] }
    }
}

fn section(yaml: &mut String, name: &str, depth: usize, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let indent = "  ".repeat(depth);
    yaml.push_str(&format!("{indent}{name}:\n"));
    for line in lines {
        yaml.push_str(&format!("{indent}  {line}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTOR: &str = r#"{
        "name": "shop-connector",
        "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "db", "database.port": "5432", "database.user": "debezium",
            "database.password": "secret-word", "database.dbname": "shop",
            "database.server.name": "app",
            "slot.name": "debezium_shop", "publication.name": "dbz_pub",
            "table.include.list": "public.orders,public\\.items",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "transforms": "route",
            "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
            "transforms.route.regex": "([^.]+)\\.([^.]+)\\.([^.]+)",
            "transforms.route.replacement": "$3-cdc",
            "tasks.max": "1", "column.mask.with.5.chars": "public.orders.card"
        }
    }"#;

    #[test]
    fn a_connector_of_the_first_major_version() {
        let done = import(CONNECTOR, None).unwrap();
        for line in [
            "type: postgres\n",
            "slot: \"debezium_shop\"\n",
            "publication: \"dbz_pub\"\n",
            "include: [\"public.orders\", \"public.items\"]\n",
            "topic_prefix: \"app\"\n",
            "schemas_enable: false\n",
            "regex: \"([^.]+)\\\\.([^.]+)\\\\.([^.]+)\"\n",
            "replacement: \"$$3-cdc\"\n",
        ] {
            assert!(done.yaml.contains(line), "{line} is not in\n{}", done.yaml);
        }
        assert!(!done.yaml.contains("secret-word"), "{}", done.yaml);
        assert_eq!(done.unsupported, []);
        assert!(
            done.yaml.contains("  \"public.orders\": {columns: {mask: {\"card\": \"*****\"}}}\n"),
            "{}",
            done.yaml
        );
        assert!(done.ignored.iter().any(|(name, _)| name == "tasks.max"));
        assert!(done.mapped.iter().any(|(from, _)| from == "database.server.name"));
    }

    #[test]
    fn a_connector_of_mysql() {
        let connector = r#"{
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "database.hostname": "db", "database.port": "3306", "database.user": "debezium",
            "database.server.id": "184054", "database.ssl.mode": "verify_identity",
            "topic.prefix": "app", "database.include.list": "shop,stock",
            "bigint.unsigned.handling.mode": "precise", "include.schema.changes": "false",
            "heartbeat.interval.ms": "500", "value.converter.schemas.enable": "false",
            "schema.history.internal.kafka.bootstrap.servers": "k1:9092,k2:9092",
            "schema.history.internal.kafka.topic": "history", "snapshot.locking.mode": "minimal"
        }"#;
        let done = import(connector, None).unwrap();
        for line in [
            "type: mysql\n",
            "database: \"shop\"\n",
            "include: [\"shop.*\", \"stock.*\"]\n",
            "tls: {mode: verify-full}\n",
            "bigint_unsigned_handling_mode: \"precise\"\n",
            "heartbeat_interval: 500ms\n",
            "brokers: [\"k1:9092\", \"k2:9092\"]\n",
        ] {
            assert!(done.yaml.contains(line), "{line} is not in\n{}", done.yaml);
        }
        assert!(!done.yaml.contains("server_id"), "{}", done.yaml);
        assert_eq!(done.unsupported, []);
        let quiet = connector.replace("\"include.schema.changes\": \"false\",", "");
        let quiet = import(&quiet, None).unwrap();
        assert_eq!(quiet.unsupported, []);
        assert!(quiet.yaml.contains("include_schema_changes: true"), "{}", quiet.yaml);
        let offset = r#"{"file":"binlog.000003","pos":4,"gtids":"u:1-5"}"#;
        assert_eq!(import(connector, Some(offset)).unwrap_err().code(), codes::CF003);
    }

    #[test]
    fn what_would_make_other_keys_is_told() {
        let unsupported = |from: &str, to: &str| -> Vec<String> {
            let done = import(&CONNECTOR.replace(from, to), None).unwrap();
            done.unsupported.into_iter().map(|(name, _)| name).collect()
        };
        let schemas = "\"value.converter.schemas.enable\": \"false\",";
        let json = "org.apache.kafka.connect.json.JsonConverter";
        let with = |more: &str| format!("{schemas} {more},");
        let differs = ["key.converter.schemas.enable"];
        assert_eq!(unsupported(schemas, &with("\"key.converter.schemas.enable\": \"true\"")), differs);
        assert_eq!(unsupported(schemas, &with(&format!("\"key.converter\": \"{json}\""))), differs);
        let same = format!("\"key.converter\": \"{json}\", \"key.converter.schemas.enable\": \"false\"");
        assert_eq!(unsupported(schemas, &with(&same)), [""; 0]);
        let avro = with("\"key.converter\": \"io.confluent.connect.avro.AvroConverter\"");
        assert!(unsupported(schemas, &avro).contains(&"key.converter".to_owned()));
        let (plain, logical) = (
            "org.apache.kafka.connect.transforms.RegexRouter",
            "io.debezium.transforms.ByLogicalTableRouter",
        );
        let router = |more: &str| {
            let router = CONNECTOR.replace(plain, logical).replace("route.re", "route.topic.re");
            let router = router.replace("\"transforms\":", &format!("{more}\"transforms\":"));
            let done = import(&router, None).unwrap();
            assert!(done.yaml.contains("replacement: \"$$3-cdc\""), "{}", done.yaml);
            done.unsupported.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(router(""), ["transforms.route.key.enforce.uniqueness"]);
        assert_eq!(router("\"transforms.route.key.enforce.uniqueness\": \"false\","), [""; 0]);
    }

    #[test]
    fn offsets_within_a_snapshot_are_refused() {
        let offsets = |offset: &str| format!("{{\"offsets\":[{{\"partition\":{{}},\"offset\":{offset}}}]}}");
        let bad = offsets(r#"{"snapshot":"INITIAL","lsn":100}"#);
        assert_eq!(import(CONNECTOR, Some(&bad)).unwrap_err().code(), codes::CF003);
        let good = offsets(r#"{"lsn_commit":24023119,"lsn":24023128,"txId":555}"#);
        let done = import(CONNECTOR, Some(&good)).unwrap();
        assert!(done.notes.iter().any(|note| note.contains("0/16E904F")), "{:?}", done.notes);
    }

    #[test]
    fn what_is_no_connector_is_refused() {
        assert_eq!(import("{", None).unwrap_err().code(), codes::CF001);
        assert_eq!(import("no options", None).unwrap_err().code(), codes::CF001);
        let other = r#"{"connector.class":"io.debezium.connector.oracle.OracleConnector"}"#;
        assert_eq!(import(other, None).unwrap_err().code(), codes::CF003);
    }
}
