//! Options about columns, and converters to Avro.

use super::{Work, quoted};
use std::collections::BTreeMap;

/// What becomes of a table's columns.
#[derive(Default)]
pub(super) struct Rules {
    include: Vec<String>,
    exclude: Vec<String>,
    mask: Vec<(String, String)>,
    truncate: Vec<(String, String)>,
}

impl Work {
    /// `column.include.list` and its kin.
    pub(super) fn columns(&mut self) {
        let options: Vec<String> =
            self.left.keys().filter(|key| key.starts_with("column.")).cloned().collect();
        for option in options {
            let lists = ["column.include.list", "column.whitelist"];
            let excluded = ["column.exclude.list", "column.blacklist"];
            let number = |prefix: &str| -> Option<usize> {
                option.strip_prefix(prefix)?.strip_suffix(".chars")?.parse().ok().filter(|n| *n > 0)
            };
            let (into, value) = if lists.contains(&option.as_str()) {
                ("include", String::new())
            } else if excluded.contains(&option.as_str()) {
                ("exclude", String::new())
            } else if let Some(length) = number("column.mask.with.") {
                ("mask", quoted(&"*".repeat(length)))
            } else if let Some(salt) = option.strip_prefix("column.mask.hash.v2.SHA-256.with.salt.") {
                ("mask", quoted(&format!("SHA-256.with.salt.{salt}")))
            } else if let Some(length) = number("column.truncate.to.") {
                ("truncate", length.to_string())
            } else {
                // Those that are not known are told as all others.
                continue;
            };
            let Some(list) = self.left.get(&option) else { continue };
            let names: Option<Vec<(String, String)>> =
                list.split(',').map(|name| column(name.trim())).collect();
            let Some(names) = names else {
                let what = "columns by expressions: name them in tables.overrides";
                self.unsupported(&option, what);
                self.left.remove(&option);
                continue;
            };
            for (table, column) in names {
                let rules = self.sections.columns.entry(table).or_default();
                match into {
                    "include" => rules.include.push(column),
                    "exclude" => rules.exclude.push(column),
                    "mask" => rules.mask.push((column, value.clone())),
                    _ => rules.truncate.push((column, value.clone())),
                }
            }
            self.left.remove(&option);
            self.mapped(&option, format!("tables.overrides.*.columns.{into}"));
        }
    }

    /// `converters`: names, each with its type.
    pub(super) fn custom_converters(&mut self) {
        let Some(names) = self.take("converters") else { return };
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let option = format!("{name}.type");
            let class = self.take(&option).unwrap_or_default();
            if class.ends_with(".TinyIntOneToBooleanConverter") {
                self.sections.debezium.push("tinyint_one_as_boolean: true".to_owned());
                self.mapped(&option, "format.debezium.tinyint_one_as_boolean");
            } else {
                self.unsupported(
                    &option,
                    format!("the converter {class}: TinyIntOneToBooleanConverter is built"),
                );
            }
        }
    }

    /// Channels of notifications and of signals.
    pub(super) fn notifications(&mut self) {
        if let Some(channels) = self.take("notification.enabled.channels") {
            let known: Vec<&str> =
                channels.split(',').map(str::trim).filter(|name| matches!(*name, "sink" | "log")).collect();
            if known.len() < channels.split(',').count() {
                self.unsupported("notification.enabled.channels", "channels beside sink and log");
            }
            if !known.is_empty() {
                self.sections.debezium.push(format!("notification_enabled_channels: [{}]", known.join(", ")));
                self.mapped("notification.enabled.channels", "format.debezium.notification_enabled_channels");
            }
        }
        if let Some(channels) = self.take("signal.enabled.channels")
            && channels.split(',').any(|channel| channel.trim() != "source")
        {
            self.unsupported(
                "signal.enabled.channels",
                "channels beside source: POST /api/signals takes signals, too",
            );
        }
        if let Some(table) = self.take("signal.data.collection") {
            self.sections.signals.push(format!("table: {}", quoted(&table)));
            self.mapped("signal.data.collection", "signals.table");
            let note =
                "signals: a row is deleted when it was done: GRANT SELECT, DELETE ON the table TO the role";
            self.done.notes.push(note.to_owned());
        }
        if let Some(wanted) = self.take("include.query") {
            self.sections.debezium.push(format!("include_query: {}", wanted == "true"));
            self.mapped("include.query", "format.debezium.include_query");
        }
        if let Some(topic) = self.take("notification.sink.topic.name") {
            self.sections.debezium.push(format!("notification_sink_topic_name: {}", quoted(&topic)));
            self.mapped("notification.sink.topic.name", "format.debezium.notification_sink_topic_name");
        }
    }

    /// A converter to Avro with a Schema Registry, once for key and value.
    pub(super) fn avro(&mut self, side: &str) {
        let prefix = format!("{side}.");
        let url = self.take(&format!("{prefix}schema.registry.url"));
        let registers = self.take(&format!("{prefix}auto.register.schemas"));
        self.mapped(side, "format.encoding: avro");
        if side != "value.converter" {
            return;
        }
        let url = url.unwrap_or_else(|| {
            let note = "format.schema_registry.url: the connector does not say where it is";
            self.done.notes.push(note.to_owned());
            "http://localhost:8081".to_owned()
        });
        let first = url.split(',').next().unwrap_or_default().trim().to_owned();
        let register = registers.map_or(String::new(), |value| format!(", register: {value}"));
        self.sections.format.push("encoding: avro".to_owned());
        self.sections.format.push(format!("schema_registry: {{url: {}{register}}}", quoted(&first)));
        self.mapped(&format!("{prefix}schema.registry.url"), "format.schema_registry.url");
    }
}

/// `schema.table.column`, when it is no expression.
fn column(name: &str) -> Option<(String, String)> {
    let plain = name.trim_start_matches('^').trim_end_matches('$').replace("\\.", ".");
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    let parts: Vec<&str> = plain.split('.').collect();
    match parts[..] {
        [schema, table, column] if is_name(schema) && is_name(table) && is_name(column) => {
            Some((format!("{schema}.{table}"), column.to_owned()))
        }
        _ => None,
    }
}

/// `tables.overrides`, as lines of YAML.
pub(super) fn overrides(tables: &BTreeMap<String, Rules>) -> String {
    let mut text = String::new();
    for (table, rules) in tables {
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let map = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .map(|(name, value)| format!("{}: {value}", quoted(name)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut parts = Vec::new();
        if !rules.include.is_empty() {
            parts.push(format!("include: [{}]", list(&rules.include)));
        }
        if !rules.exclude.is_empty() {
            parts.push(format!("exclude: [{}]", list(&rules.exclude)));
        }
        if !rules.mask.is_empty() {
            parts.push(format!("mask: {{{}}}", map(&rules.mask)));
        }
        if !rules.truncate.is_empty() {
            parts.push(format!("truncate: {{{}}}", map(&rules.truncate)));
        }
        text.push_str(&format!("    {}: {{columns: {{{}}}}}\n", quoted(table), parts.join(", ")));
    }
    if text.is_empty() { text } else { format!("  overrides:\n{text}") }
}
