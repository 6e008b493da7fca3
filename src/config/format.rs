//! The section `format`: how events look, for sinks that write events.

use super::problem::Refusal;
use super::reader::{Reader, Repeat, Section};
use super::units::format_duration;
use crate::debezium::{
    Adjustment, BigintUnsignedMode, BinaryMode, DecimalFormat, DecimalMode, Encoding, FlatDeletes,
    HstoreMode, IntervalMode, KeyColumns, Options, Route, Style, TimeMode,
};
use crate::event::Op;
use crate::schema::TableName;
use serde_json::{Value, json};
use std::time::Duration;

/// The version of Debezium whose bytes are written.
const COMPAT: &str = "3.6";
/// Values of `skipped_operations`.
const OPERATIONS: [(&str, Option<Op>); 5] = [
    ("none", None),
    ("c", Some(Op::Create)),
    ("u", Some(Op::Update)),
    ("d", Some(Op::Delete)),
    ("t", Some(Op::Truncate)),
];

/// Values of `encoding`.
const ENCODINGS: [(&str, Encoding); 2] = [("json", Encoding::Json), ("avro", Encoding::Avro)];

/// A key with words, of an enum that knows its own.
macro_rules! word {
    ($reader:ident, $section:ident, $key:literal, $ty:ty, $into:expr) => {
        if $section.entry($key).is_some() {
            let words: Vec<(&str, $ty)> = <$ty>::ALL.iter().map(|value| (value.as_str(), *value)).collect();
            $into = $reader.choice($section, $key, &words, &[])?;
        }
    };
}

/// Reads the section. Everything that is not written is as in [`Options::default`].
pub(super) fn read_format(reader: &mut Reader<'_>, top: Section<'_>) -> Option<Options> {
    let section = reader.section(top.entry("format").map(|e| &e.value), "format");
    let mut options = unwritten();
    word!(reader, section, "style", Style, options.style);
    if section.entry("encoding").is_some() {
        options.encoding = reader.choice(section, "encoding", &ENCODINGS, &[])?;
    }
    let debezium = reader.section(section.entry("debezium").map(|e| &e.value), "format.debezium");
    let flat = reader.section(section.entry("flat").map(|e| &e.value), "format.flat");
    let route = reader.section(section.entry("route").map(|e| &e.value), "format.route");
    read_modes(reader, debezium, &mut options)?;
    read_names(reader, debezium, &mut options)?;
    read_events(reader, debezium, &mut options)?;
    word!(reader, flat, "delete_tombstone_handling_mode", FlatDeletes, options.flat_deletes);
    let any = |text: &str| Ok(text.to_owned());
    if flat.entry("add_fields").is_some() {
        options.flat_fields = reader.list(flat, "add_fields", "[op, table]", any)?;
    }
    if flat.entry("add_headers").is_some() {
        options.flat_headers = reader.list(flat, "add_headers", "[op]", any)?;
    }
    if !route.written(&["regex", "replacement"]).is_empty() {
        let regex = reader.text(route, "regex");
        let replacement = reader.text(route, "replacement");
        match (regex, replacement) {
            (Some(regex), Some(replacement)) => match Route::new(&regex, &replacement) {
                Ok(route) => options.routes = vec![route],
                Err(what) => {
                    reader.report_missing(
                        format!("format.route.regex is not a regular expression: {what}"),
                        "write it as for Kafka Connect's RegexRouter",
                    );
                    return None;
                }
            },
            _ => {
                reader.report_missing(
                    "format.route needs both regex and replacement",
                    r#"write route: {regex: "([^.]+)\\.([^.]+)\\.([^.]+)", replacement: "$$3-cdc"}"#,
                );
                return None;
            }
        }
    }
    Some(options)
}

fn read_modes(reader: &mut Reader<'_>, section: Section<'_>, options: &mut Options) -> Option<()> {
    if section.entry("compat").is_some() {
        reader.choice(section, "compat", &[(COMPAT, ())], &["3.7"])?;
    }
    word!(reader, section, "decimal_handling_mode", DecimalMode, options.decimal);
    word!(reader, section, "decimal_format", DecimalFormat, options.decimal_format);
    word!(reader, section, "time_precision_mode", TimeMode, options.time);
    word!(reader, section, "binary_handling_mode", BinaryMode, options.binary);
    word!(reader, section, "interval_handling_mode", IntervalMode, options.interval);
    word!(reader, section, "hstore_handling_mode", HstoreMode, options.hstore);
    word!(reader, section, "bigint_unsigned_handling_mode", BigintUnsignedMode, options.bigint_unsigned);
    if section.entry("money_fraction_digits").is_some() {
        let digits = reader.number(section, "money_fraction_digits", 0..=18)?;
        options.money_fraction_digits = u8::try_from(digits).ok()?;
    }
    for (key, into) in [
        ("include_unknown_datatypes", &mut options.include_unknown_datatypes),
        ("replace_null_with_default", &mut options.replace_null_with_default),
    ] {
        if section.entry(key).is_some() {
            *into = reader.boolean(section, key)?;
        }
    }
    if section.entry("schemas_enable").is_some() && reader.boolean(section, "schemas_enable")? {
        if options.encoding == Encoding::Avro {
            let advice = "remove format.debezium.schemas_enable: the registry has the schemas";
            reader.report_missing("format.encoding: avro has no schemas in its records", advice);
            return None;
        }
        options.encoding = Encoding::JsonWithSchema;
    }
    if section.entry("unavailable_value_placeholder").is_some() {
        options.unavailable_value_placeholder = reader.text(section, "unavailable_value_placeholder")?;
    }
    Some(())
}

fn read_names(reader: &mut Reader<'_>, section: Section<'_>, options: &mut Options) -> Option<()> {
    word!(reader, section, "schema_name_adjustment_mode", Adjustment, options.schema_name_adjustment);
    word!(reader, section, "field_name_adjustment_mode", Adjustment, options.field_name_adjustment);
    for (key, into) in [
        ("topic_prefix", &mut options.topic_prefix),
        ("topic_delimiter", &mut options.topic_delimiter),
        ("topic_transaction", &mut options.transaction_topic),
        ("topic_heartbeat_prefix", &mut options.heartbeat_topic_prefix),
    ] {
        if section.entry(key).is_some() {
            *into = reader.parsed(section, key, Repeat::Value, topic_part)?;
        }
    }
    Some(())
}

fn read_events(reader: &mut Reader<'_>, section: Section<'_>, options: &mut Options) -> Option<()> {
    for (key, into) in [
        ("tombstones_on_delete", &mut options.tombstones_on_delete),
        ("provide_transaction_metadata", &mut options.provide_transaction_metadata),
        ("skip_messages_without_change", &mut options.skip_unchanged),
        ("include_schema_changes", &mut options.include_schema_changes),
        ("include_query", &mut options.include_query),
        ("tinyint_one_as_boolean", &mut options.tinyint_one_as_boolean),
        ("extended_headers_enabled", &mut options.extended_headers),
    ] {
        if section.entry(key).is_some() {
            *into = reader.boolean(section, key)?;
        }
    }
    if section.entry("heartbeat_interval").is_some() {
        let most = Duration::from_secs(3600);
        options.heartbeat_interval = reader.duration(section, "heartbeat_interval", Duration::ZERO..=most)?;
    }
    read_notifications(reader, section, options)?;
    if section.entry("skipped_operations").is_some() {
        let skipped = reader.list(section, "skipped_operations", "[t]", |text| {
            let found = OPERATIONS.iter().find(|(letter, _)| *letter == text);
            let unknown = || Refusal::new("is not an operation", "allowed: none, c, u, d, t");
            found.map(|(_, op)| *op).ok_or_else(unknown)
        })?;
        options.skipped_operations = skipped.into_iter().flatten().collect();
    }
    if section.entry("message_key_columns").is_some() {
        let example = "[\"public.orders:id,region\"]";
        options.message_key_columns = reader.list(section, "message_key_columns", example, key_columns)?;
    }
    Some(())
}

/// `notification.enabled.channels` and `notification.sink.topic.name`, which need each other.
fn read_notifications(reader: &mut Reader<'_>, section: Section<'_>, options: &mut Options) -> Option<()> {
    let topic = match section.entry("notification_sink_topic_name") {
        Some(_) => Some(reader.parsed(section, "notification_sink_topic_name", Repeat::Value, topic_part)?),
        None => None,
    };
    let mut is_to_sink = false;
    if section.entry("notification_enabled_channels").is_some() {
        let channels =
            reader.list(section, "notification_enabled_channels", "[sink, log]", |text| match text {
                "sink" | "log" => Ok(text == "sink"),
                _ => Err(Refusal::new("is not a channel", "allowed: sink, log")),
            })?;
        is_to_sink = channels.contains(&true);
        options.log_notifications = channels.contains(&false);
    }
    if is_to_sink != topic.is_some() {
        let (what, advice) = if is_to_sink {
            ("the channel sink has no topic", "set format.debezium.notification_sink_topic_name")
        } else {
            (
                "notification_sink_topic_name is set, and the channel sink is off",
                "set format.debezium.notification_enabled_channels: [sink]",
            )
        };
        reader.report_missing(what, advice);
        return None;
    }
    options.notification_topic = topic;
    Some(())
}

pub(super) fn topic_part(text: &str) -> Result<String, Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.is_empty() && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new("cannot be part of a topic's name", "use letters, digits, \".\", \"_\" and \"-\""))
}

fn key_columns(text: &str) -> Result<KeyColumns, Refusal> {
    let wrong = || Refusal::new("names no key columns", "write schema.table:column,column");
    let (table, columns) = text.split_once(':').ok_or_else(wrong)?;
    let (schema, table) = table.split_once('.').ok_or_else(wrong)?;
    let columns: Vec<String> = columns.split(',').map(|name| name.trim().to_owned()).collect();
    if schema.is_empty() || table.is_empty() || columns.iter().any(String::is_empty) {
        return Err(wrong());
    }
    Ok(KeyColumns { table: TableName::new(schema, table), columns })
}

/// What a configuration without the section has.
fn unwritten() -> Options {
    // The prefix is the pipeline's name then.
    Options { topic_prefix: String::new(), ..Options::default() }
}

/// The section as it works; null where nothing was written.
pub(super) fn shown(options: &Options) -> Value {
    // Those stand beside their tables.
    let options = &Options { columns: Vec::new(), ..options.clone() };
    if *options == unwritten() {
        return Value::Null;
    }
    let skipped: Vec<&str> = match options.skipped_operations.as_slice() {
        [] => vec!["none"],
        some => some.iter().map(|op| op.letter()).collect(),
    };
    let key_columns: Vec<String> = options
        .message_key_columns
        .iter()
        .map(|asked| format!("{}:{}", asked.table, asked.columns.join(",")))
        .collect();
    let channels = [("sink", options.notification_topic.is_some()), ("log", options.log_notifications)];
    let channels: Vec<&str> = channels.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let prefix = Some(&options.topic_prefix).filter(|prefix| !prefix.is_empty());
    // The expression was anchored when it was read.
    let route = options.routes.first().map(|route| {
        let regex = route.regex.as_str();
        let regex = regex.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(regex);
        json!({"regex": regex, "replacement": route.replacement})
    });
    json!({
        "style": options.style.as_str(),
        "encoding": if options.encoding == Encoding::Avro { "avro" } else { "json" },
        "debezium": {
            "compat": COMPAT,
            "topic_prefix": prefix,
            "schemas_enable": options.encoding == Encoding::JsonWithSchema,
            "decimal_handling_mode": options.decimal.as_str(),
            "decimal_format": options.decimal_format.as_str(),
            "time_precision_mode": options.time.as_str(),
            "binary_handling_mode": options.binary.as_str(),
            "interval_handling_mode": options.interval.as_str(),
            "hstore_handling_mode": options.hstore.as_str(),
            "bigint_unsigned_handling_mode": options.bigint_unsigned.as_str(),
            "money_fraction_digits": options.money_fraction_digits,
            "include_unknown_datatypes": options.include_unknown_datatypes,
            "replace_null_with_default": options.replace_null_with_default,
            "unavailable_value_placeholder": options.unavailable_value_placeholder,
            "schema_name_adjustment_mode": options.schema_name_adjustment.as_str(),
            "field_name_adjustment_mode": options.field_name_adjustment.as_str(),
            "topic_delimiter": options.topic_delimiter,
            "topic_transaction": options.transaction_topic,
            "heartbeat_interval": format_duration(options.heartbeat_interval),
            "topic_heartbeat_prefix": options.heartbeat_topic_prefix,
            "notification_enabled_channels": channels,
            "notification_sink_topic_name": options.notification_topic,
            "tombstones_on_delete": options.tombstones_on_delete,
            "provide_transaction_metadata": options.provide_transaction_metadata,
            "skip_messages_without_change": options.skip_unchanged,
            "include_schema_changes": options.include_schema_changes,
            "extended_headers_enabled": options.extended_headers,
            "skipped_operations": skipped,
            "message_key_columns": key_columns,
            "include_query": options.include_query,
            "tinyint_one_as_boolean": options.tinyint_one_as_boolean,
        },
        "flat": {
            "delete_tombstone_handling_mode": options.flat_deletes.as_str(),
            "add_fields": options.flat_fields,
            "add_headers": options.flat_headers,
        },
        "route": route,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Overrides, load_text};
    use super::*;

    #[test]
    fn what_is_shown_means_the_same() {
        let load = |format: &str| {
            let text = format!(
                "version: 1\nname: n\nsource: {{url: 'postgres://u@h/d'}}\nsink: {{type: stdout}}\nformat: {format}\n"
            );
            load_text(&text, Origin::File("f".into()), &Overrides::default(), &|_| None)
                .unwrap_or_else(|e| panic!("{}", e.report()))
                .format
        };
        assert_eq!(shown(&load("{}")), Value::Null);
        let all = r#"{style: flat, flat: {add_fields: [op], delete_tombstone_handling_mode: rewrite},
            route: {regex: "([^.]+)\\.(.*)", replacement: "$$2-cdc"},
            debezium: {topic_prefix: app, schemas_enable: true, decimal_handling_mode: string, skipped_operations: [none],
            message_key_columns: ["public.t:a,b"], unavailable_value_placeholder: "~~", notification_enabled_channels: [sink],
            notification_sink_topic_name: notes}}"#;
        let first = load(all);
        let again = load(&super::super::effective::escaped(shown(&first)).to_string());
        // The replacement's groups are written out when it is read.
        assert_eq!(again, first);
        assert_eq!(crate::debezium::routed(&first, "app.x"), "x-cdc");
    }
}
