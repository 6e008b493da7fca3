//! Names of topics, schemas and fields.

use super::options::{Adjustment, Options};
use crate::schema::TableName;

/// The longest name that a broker takes.
const MAX_TOPIC: usize = 249;

/// A table's topic before routing; schema names are made of it.
pub fn table_topic(options: &Options, table: &TableName) -> String {
    topic(options, &[&table.schema, &table.table])
}

/// The topic that a table's records go to.
pub fn routed(options: &Options, topic: &str) -> String {
    let route = options.routes.iter().find(|route| route.regex.is_match(topic));
    route.map_or_else(
        || topic.to_owned(),
        |route| route.regex.replace(topic, route.replacement.as_str()).into_owned(),
    )
}

/// `<prefix>.transaction`.
pub fn transaction_topic(options: &Options) -> String {
    topic(options, &[&options.transaction_topic])
}

/// `<prefix>.message`.
pub fn message_topic(options: &Options) -> String {
    topic(options, &["message"])
}

/// `<prefix>`: definitions of tables.
pub fn schema_change_topic(options: &Options) -> String {
    topic(options, &[])
}

/// `__debezium-heartbeat.<prefix>`.
pub fn heartbeat_topic(options: &Options) -> String {
    let (prefix, delimiter) = (&options.heartbeat_topic_prefix, &options.topic_delimiter);
    sanitized(&format!("{prefix}{delimiter}{}", options.topic_prefix))
}

fn topic(options: &Options, parts: &[&str]) -> String {
    let mut name = options.topic_prefix.clone();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        name.push_str(&options.topic_delimiter);
        name.push_str(part);
    }
    sanitized(&name)
}

/// What a broker does not take becomes `_`: one for each UTF-16 unit, as in Java.
fn sanitized(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => out.push(c),
            other => (0..other.len_utf16()).for_each(|_| out.push('_')),
        }
    }
    out.truncate(MAX_TOPIC);
    out
}

/// A schema's full name, for Avro if asked: parts between dots are names.
pub fn adjusted_schema_name(mode: Adjustment, name: &str) -> String {
    adjusted(mode, name, true)
}

/// A field's name.
pub fn adjusted_field_name(mode: Adjustment, name: &str) -> String {
    adjusted(mode, name, false)
}

fn adjusted(mode: Adjustment, name: &str, dots: bool) -> String {
    if mode == Adjustment::None {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    let mut is_first = true;
    for c in name.chars() {
        if dots && c == '.' {
            out.push(c);
            continue;
        }
        let is_plain = match mode {
            // `_` is the escape's first letter, so it is escaped as well.
            Adjustment::AvroUnicode => c.is_ascii_alphabetic() || (!is_first && c.is_ascii_digit()),
            _ => c.is_ascii_alphabetic() || c == '_' || (!is_first && c.is_ascii_digit()),
        };
        if is_plain {
            out.push(c);
        } else {
            escape(mode, c, is_first, &mut out);
        }
        is_first = false;
    }
    out
}

fn escape(mode: Adjustment, c: char, is_first: bool, out: &mut String) {
    match mode {
        Adjustment::AvroUnicode => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("_u{unit:04x}"));
            }
        }
        _ if is_first && c.is_ascii_digit() => {
            out.push('_');
            out.push(c);
        }
        _ => (0..c.len_utf16()).for_each(|_| out.push('_')),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Route;
    use super::*;

    #[test]
    fn a_regex_router_names_topics() {
        let route = Route::new(r"([^.]+)\.([^.]+)\.([^.]+)", "$3-cdc").unwrap();
        let options = Options { routes: vec![route], ..Options::default() };
        assert_eq!(routed(&options, "app.public.orders"), "orders-cdc");
        assert_eq!(routed(&options, "app.transaction"), "app.transaction", "the whole name must match");
    }

    #[test]
    fn topics_have_only_what_a_broker_takes() {
        let options = Options::default();
        assert_eq!(table_topic(&options, &TableName::new("sch é", "t ab")), "app.sch__.t_ab");
    }
}
