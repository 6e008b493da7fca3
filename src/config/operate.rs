//! What an operator meets: the HTTP server, and when the state says that the pipeline stands still.

use super::model::{HttpConfig, MetricsConfig};
use super::pattern::TablePattern;
use super::problem::{Refusal, Show};
use super::read::or_default;
use super::reader::{Reader, Repeat, Section};
use crate::error::codes;
use crate::schema::TableName;
use crate::telemetry::health::Patience;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn read_http(reader: &mut Reader<'_>, top: Section<'_>) -> Option<Option<HttpConfig>> {
    let Some(entry) = top.entry("http").filter(|entry| !entry.value.is_null()) else { return Some(None) };
    let section = reader.section(Some(&entry.value), "http");
    if section.entry("listen").is_none() {
        let (message, advice) = ("http.listen is missing", "write http: {listen: \"127.0.0.1:9187\"}");
        reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message.to_owned(), advice);
        return None;
    }
    let listen = reader.parsed(section, "listen", Repeat::Value, |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            Refusal::new(
                "is not an address and a port",
                "write \"127.0.0.1:9187\" for this machine only, \"0.0.0.0:9187\" or \"[::]:9187\" for all",
            )
        })
    })?;
    let token = reader.secret(section, "token", "http.token");
    let read_only =
        or_default(reader, section, "read_only", false, |reader, section, key| reader.boolean(section, key))?;
    let ui = or_default(reader, section, "ui", true, |reader, section, key| reader.boolean(section, key))?;
    if !listen.ip().is_loopback() && token.is_none() && !read_only {
        let message = format!("http.listen is {listen}, which others reach, and there is no http.token");
        let advice = "add token: {file: /run/secrets/strandline_token} to http, or read_only: true";
        reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        return None;
    }
    Some(Some(HttpConfig { listen, token, read_only, ui }))
}

/// Between a moment and an hour.
pub(super) fn read_health(reader: &mut Reader<'_>, top: Section<'_>) -> Option<Patience> {
    let section = reader.section(top.entry("health").map(|e| &e.value), "health");
    let usual = Patience::default();
    let limits = Duration::from_millis(100)..=Duration::from_secs(3600);
    let mut read = |key: &str, default| {
        or_default(reader, section, key, default, |reader, section, key| {
            reader.duration(section, key, limits.clone())
        })
    };
    let (grace, stall) = (read("grace", usual.grace), read("stall", usual.stall));
    let wedged = read("wedged", usual.wedged);
    Some(Patience { grace: grace?, stall: stall?, wedged: wedged? })
}

pub(super) fn read_metrics(reader: &mut Reader<'_>, top: Section<'_>) -> Option<MetricsConfig> {
    let section = reader.section(top.entry("metrics").map(|e| &e.value), "metrics");
    let debezium_compat = or_default(reader, section, "debezium_compat", false, |reader, section, key| {
        reader.boolean(section, key)
    });
    let usual = crate::telemetry::names::TABLE_LIMIT;
    let max_table_labels = or_default(reader, section, "max_table_labels", usual, |reader, section, key| {
        reader.number(section, key, 0..=100_000).and_then(|n| usize::try_from(n).ok())
    });
    Some(MetricsConfig { debezium_compat: debezium_compat?, max_table_labels: max_table_labels? })
}

/// `signals.table`: one table, by its name.
pub(super) fn read_signals(reader: &mut Reader<'_>, top: Section<'_>) -> Option<Option<TableName>> {
    let section = reader.section(top.entry("signals").map(|e| &e.value), "signals");
    if section.entry("table").is_none() {
        return Some(None);
    }
    let table = reader.parsed(section, "table", Repeat::Value, |text| {
        let name = TablePattern::parse(text)?.exact();
        name.ok_or_else(|| Refusal::new("is not one table", "write \"public.strandline_signal\""))
    })?;
    Some(Some(table))
}
