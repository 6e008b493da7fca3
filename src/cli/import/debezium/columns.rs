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
