//! `tables.overrides.*.columns`: what becomes of columns in events.

use super::pattern::TablePattern;
use super::problem::Show;
use super::reader::{Reader, Section, not_empty};
use super::tree::{Entry, Value};
use crate::debezium::{ColumnRules, Disguise, Options};
use crate::error::codes;
use crate::schema::TableName;
use serde_json::{Map, json};

const PATH: &str = "tables.overrides.*.columns";
/// Values of `mask`, beside asterisks.
const HASH: &str = "sha256";
/// As in Debezium's option.
const SALTED: &str = "SHA-256.with.salt.";

/// Reads those of all tables into the format. `for_events`: the sink writes events.
pub(super) fn read_columns(
    reader: &mut Reader<'_>,
    top: Section<'_>,
    for_events: bool,
    mut format: Options,
) -> Option<Options> {
    let map = |value: &Value| if let Value::Map(_) = value { Some(()) } else { None };
    let Some(tables) = top.entry("tables").filter(|entry| map(&entry.value.value).is_some()) else {
        return Some(format);
    };
    for table in under(tables, "overrides").into_iter().flat_map(entries) {
        let Some(columns) = under(table, "columns") else { continue };
        if !for_events {
            let advice = "remove it, or write events: sink.type kafka or stdout";
            let what = "tables.overrides.*.columns holds for events, and this sink writes none";
            reader.report(codes::CF003, columns.key_mark, Show::UpToMark, what.to_owned(), advice);
            return None;
        }
        // That it is a table's name is checked where the other choices are read.
        let name = TablePattern::parse(&table.key).ok().and_then(|pattern| pattern.exact())?;
        format.columns.push(read_rules(reader, columns, name)?);
    }
    Some(format)
}

fn entries(of: &Entry) -> &[Entry] {
    if let Value::Map(entries) = &of.value.value { entries } else { &[] }
}

fn under<'n>(of: &'n Entry, key: &str) -> Option<&'n Entry> {
    entries(of).iter().find(|entry| entry.key == key)
}

fn read_rules(reader: &mut Reader<'_>, entry: &Entry, table: TableName) -> Option<ColumnRules> {
    let section = reader.section(Some(&entry.value), PATH);
    let mut list = |key: &str| match section.entry(key) {
        None => Some(None),
        Some(_) => reader.list(section, key, "[internal_note]", not_empty).map(Some),
    };
    let (include, exclude) = (list("include")?, list("exclude")?.unwrap_or_default());
    let mut disguises = Vec::new();
    for (key, read) in [("mask", mask as fn(&str) -> Option<Disguise>), ("truncate", cut)] {
        let Some(entry) = section.entry(key) else { continue };
        for (column, word) in reader.pairs(section, key)? {
            let Some(disguise) = read(&word) else {
                let what = format!("{PATH}.{key}: \"{word}\" says not what stands for column \"{column}\"");
                let advice = "write mask: {email: sha256, name: SHA-256.with.salt.CzQMA0cB5K, phone: \"*****\"}, truncate: {note: 10}";
                reader.report(codes::CF003, entry.key_mark, Show::UpToMark, what, advice);
                return None;
            };
            if disguises.iter().any(|(other, _)| *other == column) {
                let what = format!("{PATH}: column \"{column}\" is named twice");
                reader.report(codes::CF003, entry.key_mark, Show::UpToMark, what, "choose one of the two");
                return None;
            }
            disguises.push((column, disguise));
        }
    }
    Some(ColumnRules { table, include, exclude, disguises })
}

fn mask(word: &str) -> Option<Disguise> {
    if word == HASH {
        return Some(Disguise::Hash);
    }
    if let Some(salt) = word.strip_prefix(SALTED).filter(|salt| !salt.is_empty()) {
        return Some(Disguise::Salted(salt.to_owned(), usize::MAX));
    }
    (!word.is_empty() && word.bytes().all(|byte| byte == b'*')).then_some(Disguise::Stars(word.len()))
}

fn cut(word: &str) -> Option<Disguise> {
    word.parse().ok().filter(|length| *length > 0).map(Disguise::Cut)
}

/// As it works.
pub(super) fn shown(rules: &ColumnRules) -> serde_json::Value {
    let (mut masks, mut cuts) = (Map::new(), Map::new());
    for (column, disguise) in &rules.disguises {
        match disguise {
            Disguise::Stars(count) => masks.insert(column.clone(), json!("*".repeat(*count))),
            Disguise::Hash => masks.insert(column.clone(), json!(HASH)),
            // Who knows the salt can try values.
            Disguise::Salted(..) => masks.insert(column.clone(), json!(format!("{SALTED}***"))),
            Disguise::Cut(length) => cuts.insert(column.clone(), json!(length)),
        };
    }
    let mut all = Map::new();
    if let Some(include) = &rules.include {
        all.insert("include".to_owned(), json!(include));
    }
    if !rules.exclude.is_empty() {
        all.insert("exclude".to_owned(), json!(rules.exclude));
    }
    for (key, map) in [("mask", masks), ("truncate", cuts)] {
        if !map.is_empty() {
            all.insert(key.to_owned(), serde_json::Value::Object(map));
        }
    }
    serde_json::Value::Object(all)
}
