//! How tables are written: of all of them in `sink`, of single ones in `tables.overrides`.

use super::pattern::TablePattern;
use super::problem::{Refusal, Show};
use super::reader::{Reader, Repeat, Section, not_empty};
use super::tree::{Entry, Value};
use super::units::parse_duration;
use crate::error::codes;
use crate::schema::TableName;
use crate::sink::write::{
    Deletes, Images, Maintenance, MetaColumns, OnForeignChange, Truncates, Vacuum, WriteChoices, WriteMode,
    WriteOptions, interval_ms,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The shortest time that a file stays.
const SHORTEST: Duration = Duration::from_secs(3600);

/// Reads both.
pub(super) fn read_choices(
    reader: &mut Reader<'_>,
    sink: Section<'_>,
    tables: Option<&Entry>,
) -> Option<WriteChoices> {
    let default = read_options(reader, sink, &WriteOptions::default());
    let overrides = read_overrides(reader, tables, default.as_ref().unwrap_or(&WriteOptions::default()));
    Some(WriteChoices { default: default?, tables: overrides? })
}

/// `sink.on_foreign_change`.
pub(super) fn read_foreign(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<OnForeignChange> {
    if sink.entry("on_foreign_change").is_none() {
        return Some(OnForeignChange::default());
    }
    let allowed = [("stop", OnForeignChange::Stop), ("accept", OnForeignChange::Accept)];
    reader.choice(sink, "on_foreign_change", &allowed, &[])
}

/// `sink.maintenance`.
pub(super) fn read_maintenance(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<Maintenance> {
    let section = reader.section(sink.entry("maintenance").map(|entry| &entry.value), "sink.maintenance");
    let mut found = Maintenance::default();
    if section.entry("optimize").is_some() {
        found.optimize = reader.choice(section, "optimize", &[("auto", true), ("off", false)], &[])?;
    }
    if section.entry("vacuum").is_some() {
        found.vacuum = reader.parsed(section, "vacuum", Repeat::Value, |text| match text {
            "off" => Ok(Vacuum::Off),
            _ => match parse_duration(text)? {
                // What is being written is younger than that.
                time if time < SHORTEST => {
                    Err(Refusal::new("is too short", "an hour at least: 1h, 7d; or off"))
                }
                time => Ok(Vacuum::After(time)),
            },
        })?;
    }
    Some(found)
}

fn read_overrides(
    reader: &mut Reader<'_>,
    tables: Option<&Entry>,
    default: &WriteOptions,
) -> Option<BTreeMap<TableName, WriteOptions>> {
    let entries = match tables.map(|entry| &entry.value.value) {
        Some(Value::Map(entries)) => entries,
        _ => return Some(BTreeMap::new()),
    };
    let Some(entry) = entries.iter().find(|entry| entry.key == "overrides") else {
        return Some(BTreeMap::new());
    };
    let Value::Map(named) = &entry.value.value else {
        let message = format!("tables.overrides is a section with tables, found {}", entry.value.kind());
        let advice = "write overrides: {public.orders: {write: append}}";
        reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        return None;
    };
    let mut found = BTreeMap::new();
    let mut is_right = true;
    for entry in named {
        let name = TablePattern::parse(&entry.key).ok().and_then(|pattern| pattern.exact());
        let section = reader.section(Some(&entry.value), "tables.overrides.*");
        let options = read_options(reader, section, default);
        match (name, options.and_then(|options| read_target(reader, section, options))) {
            (Some(name), Some(options)) => {
                found.insert(name, options);
            }
            (None, _) => {
                let message = format!("tables.overrides: \"{}\" is not a table", entry.key);
                let advice = "name it as the database does, schema.table, without patterns";
                reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
                is_right = false;
            }
            (Some(_), None) => is_right = false,
        }
    }
    is_right.then_some(found)
}

/// `tables.overrides.*.target`.
fn read_target(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    mut options: WriteOptions,
) -> Option<WriteOptions> {
    let Some(entry) = section.entry("target") else { return Some(options) };
    let target = reader.section(Some(&entry.value), "tables.overrides.*.target");
    if target.entry("partition_by").is_some() {
        options.partition_by = reader.list(target, "partition_by", "[order_date]", not_empty)?;
    }
    if let Some(entry) = target.entry("properties") {
        let pairs = reader.pairs(target, "properties")?;
        for (key, value) in pairs {
            if let Err(advice) = check_property(&key, &value) {
                let message = format!("target.properties: \"{key}\" cannot be set to this");
                reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
                return None;
            }
            options.properties.insert(key, value);
        }
    }
    Some(options)
}

/// Properties of Delta's that ask for something which we do not do are refused.
fn check_property(key: &str, value: &str) -> Result<(), &'static str> {
    match key {
        "delta.enableChangeDataFeed" if matches!(value, "true" | "false") => Ok(()),
        "delta.enableChangeDataFeed" => Err("write \"true\" or \"false\""),
        "delta.deletedFileRetentionDuration" | "delta.logRetentionDuration"
            if interval_ms(value).is_some() =>
        {
            Ok(())
        }
        "delta.deletedFileRetentionDuration" | "delta.logRetentionDuration" => {
            Err("write an interval: \"interval 7 days\"")
        }
        "delta.checkpointInterval" if value.parse::<u32>().is_ok_and(|every| every > 0) => Ok(()),
        "delta.checkpointInterval" => Err("write a number of commits: \"100\""),
        _ if key.starts_with("delta.") => Err(
            "of Delta's own properties these can be set: delta.enableChangeDataFeed, delta.checkpointInterval, \
             delta.deletedFileRetentionDuration, delta.logRetentionDuration",
        ),
        _ if key.starts_with("strandline.") => Err("these are the program's own"),
        _ => Ok(()),
    }
}

fn read_options(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    default: &WriteOptions,
) -> Option<WriteOptions> {
    let mut read = Choices { reader, section, is_right: true };
    let write = read.one(
        "write",
        default.write,
        &[
            ("upsert", WriteMode::Upsert),
            ("copy_on_write", WriteMode::CopyOnWrite),
            ("append", WriteMode::Append),
            ("both", WriteMode::Both),
        ],
    );
    let deletes = read.one("deletes", default.deletes, &[("hard", Deletes::Hard), ("soft", Deletes::Soft)]);
    let truncates = [("apply", Truncates::Apply), ("soft", Truncates::Soft), ("stop", Truncates::Stop)];
    // A TRUNCATE is so many deletes, unless something else is said.
    let usual = match (default.truncates, deletes) {
        (Truncates::Apply | Truncates::Soft, Deletes::Soft) => Truncates::Soft,
        (Truncates::Apply | Truncates::Soft, Deletes::Hard) => Truncates::Apply,
        (Truncates::Stop, _) => Truncates::Stop,
    };
    let truncates = read.one("truncates", usual, &truncates);
    let presets = [
        ("none", MetaColumns::None),
        ("strandline", MetaColumns::Strandline),
        ("debezium", MetaColumns::Debezium),
        ("fivetran", MetaColumns::Fivetran),
    ];
    let meta = read.one("meta_columns", default.meta, &presets);
    let images = read.one("images", default.images, &[("after", Images::After), ("both", Images::Both)]);
    let mapping = [("none", false), ("name", true)];
    let column_mapping = read.one("column_mapping", default.column_mapping, &mapping);
    if truncates == Truncates::Soft && deletes == Deletes::Hard {
        read.refuse("truncates", "marks rows that deletes: hard has no mark for", "set deletes: soft, too");
    }
    if write == WriteMode::Append {
        for key in ["deletes", "meta_columns"] {
            let advice = "remove it: each change is a row there, with its operation and position";
            read.refuse(key, "means nothing to a change log", advice);
        }
    } else if write != WriteMode::Both {
        read.refuse(
            "images",
            "means something only to a change log",
            "set write: append or both, or remove it",
        );
    }
    read.is_right.then_some(WriteOptions {
        write,
        deletes,
        truncates,
        meta,
        images,
        column_mapping,
        ..WriteOptions::default()
    })
}

struct Choices<'r, 'a, 'n> {
    reader: &'r mut Reader<'a>,
    section: Section<'n>,
    is_right: bool,
}

impl Choices<'_, '_, '_> {
    fn one<T: Copy>(&mut self, key: &str, default: T, allowed: &[(&str, T)]) -> T {
        if self.section.entry(key).is_none() {
            return default;
        }
        let found = self.reader.choice(self.section, key, allowed, &[]);
        self.is_right &= found.is_some();
        found.unwrap_or(default)
    }

    /// A key that was written and contradicts the others.
    fn refuse(&mut self, key: &str, problem: &str, advice: &str) {
        if let Some(entry) = self.section.entry(key) {
            self.is_right = false;
            let message = format!("{key} {problem}");
            self.reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        }
    }
}
