//! `strandline status`: asks the running process over HTTP, and without one the control table and the slot.

use super::args::{Global, Output};
use super::http_client::{http_get, over_socket};
use super::output::{out, out_json};
use super::{Outcome, exit, load_quietly, runtime, socket, wire};
use crate::config::{Config, format_size};
use crate::error::{Error, Result, codes};
use crate::telemetry::Status;
use crate::telemetry::status::{Severity, SourceStatus, TableState, TableStatus, Timestamp};
use serde_json::Value;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

/// Tables that are named one by one in the text form.
const NAMED_TABLES: usize = 30;

pub(super) fn command(global: &Global) -> Outcome {
    let config = load_quietly(global)?;
    let status = runtime()?.block_on(ask(config))?;
    match global.output {
        Output::Text => out(text(&status).trim_end()),
        Output::Json => {
            let value = serde_json::to_value(&status).map_err(|cause| {
                Error::new(codes::RT001, "the status cannot be written as JSON").with_source(cause)
            })?;
            out_json(&value);
        }
    }
    Ok(ExitCode::from(exit::OK))
}

pub(super) async fn ask(config: Config) -> Result<Status> {
    match over_socket(&socket::path(&config), "GET", "/api/v1/status").await {
        Ok((200, body)) => match understood(&body, &config.name, "the socket") {
            Ok(status) => return Ok(status),
            Err(why) => tracing::debug!(%why, "the socket's answer is not understood"),
        },
        Ok((code, _)) => tracing::debug!(code, "the socket's answer is not understood"),
        Err(why) => tracing::debug!(%why, "no process of this pipeline on this machine"),
    }
    if let Some(http) = &config.http {
        match ask_process(http.listen, &config.name).await {
            Ok(status) => return Ok(status),
            Err(why) => tracing::debug!(%why, "the process cannot be asked; asking target and source"),
        }
    }
    wire::offline_status(config).await
}

async fn ask_process(listen: SocketAddr, name: &str) -> Result<Status, String> {
    let (code, body) = http_get(listen, "/api/v1/status").await?;
    if code != 200 {
        return Err(format!("{listen} answered with {code}"));
    }
    understood(&body, name, &listen.to_string())
}

fn understood(body: &str, name: &str, listen: &str) -> Result<Status, String> {
    let value: Value = serde_json::from_str(body).map_err(|cause| format!("{listen}: {cause}"))?;
    // Any program may listen on that port, another pipeline too.
    match value.get("name").and_then(Value::as_str) {
        Some(other) if other != name => return Err(format!("{listen} is the pipeline \"{other}\"")),
        Some(_) => {}
        None => return Err(format!("{listen} is not strandline")),
    }
    serde_json::from_value(value).map_err(|cause| format!("{listen}: {cause}"))
}

/// For people. Written to the end, never a line that says more than is known.
pub(super) fn text(status: &Status) -> String {
    let mut text = format!("{}  {}", status.name, status.state.as_str().to_uppercase());
    if status.state != status.phase {
        let _ok = write!(text, " ({})", status.phase);
    }
    match (&status.process.pid, status.process.running) {
        (Some(pid), _) => {
            let _ok = write!(text, "   process {pid}");
        }
        (None, true) => text.push_str("   process: runs elsewhere"),
        (None, false) => text.push_str("   process: not running"),
    }
    if let Some(started) = status.process.started_at {
        let _ok = write!(text, ", up {}", span(started));
    }
    let _ok = writeln!(text, "\n{}", source(&status.source));
    let _ok = writeln!(text, "{}", progress(status));
    if let Some(retrying) = &status.retrying {
        let since = span(retrying.since);
        let _ok = writeln!(text, "retrying  for {since}: {} {}", retrying.code, retrying.text);
    }
    tables(&mut text, &status.tables);
    for reason in &status.reasons {
        let table = reason.table.as_ref().map_or(String::new(), |table| format!(" {table}"));
        let since = reason.since.map_or(String::new(), |since| format!(" (since {})", span(since)));
        let _ok = writeln!(text, "{} {}{table}{since}: {}", reason.severity, reason.code, reason.text);
        if let (Some(fix), true) = (&reason.fix, reason.severity >= Severity::Info) {
            let _ok = writeln!(text, "  try: {fix}");
        }
    }
    text
}

fn source(source: &SourceStatus) -> String {
    let mut line = format!("source    {}", source.address.as_deref().unwrap_or("not known"));
    if let Some(version) = &source.server_version {
        let _ok = write!(line, ", PostgreSQL {version}");
    }
    if let Some(slot) = &source.slot {
        let _ok = write!(line, ", slot {slot}");
    }
    match source.slot_active {
        Some(true) => line.push_str(" (active)"),
        Some(false) => line.push_str(" (not active)"),
        None => {}
    }
    if let Some(bytes) = source.retained_bytes {
        let _ok = write!(line, ", keeps {} of WAL", rounded(bytes));
    }
    line
}

fn progress(status: &Status) -> String {
    let known = |position: Option<_>| position.map_or("none yet".to_owned(), |p: _| format!("{p}"));
    let mut line = format!("position  {}", known(status.position));
    let _ok = write!(line, ", acknowledged {}", known(status.acknowledged));
    if let Some(bytes) = status.lag_bytes {
        let _ok = write!(line, ", behind {}", rounded(bytes));
    }
    if let Some(seconds) = status.lag_seconds {
        let _ok = write!(line, " ({seconds:.1} s)");
    }
    if let Some(at) = status.last_commit {
        let _ok = write!(line, ", last commit {} ago", span(at));
    }
    line
}

fn tables(text: &mut String, tables: &[TableStatus]) {
    let count = |state: &TableState| tables.iter().filter(|table| table.state == *state).count();
    let counts: Vec<String> = TableState::ALL
        .iter()
        .map(|state| (count(state), state))
        .filter(|(number, _)| *number > 0)
        .map(|(number, state)| format!("{number} {state}"))
        .collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let _ok = writeln!(text, "tables    {}{counts}", tables.len());
    // Live tables need no line, and stopped ones have a reason below.
    let quiet = |table: &&TableStatus| !matches!(table.state, TableState::Live | TableState::Stopped);
    let named: Vec<&TableStatus> = tables.iter().filter(quiet).collect();
    for table in named.iter().take(NAMED_TABLES) {
        let _ok = writeln!(text, "  {}  {}{}", table.name, table.state, copied(table));
    }
    if named.len() > NAMED_TABLES {
        let _ok = writeln!(text, "  and {} more", named.len() - NAMED_TABLES);
    }
}

pub(super) fn copied(table: &TableStatus) -> String {
    match (table.rows_copied, table.rows_estimate) {
        (Some(rows), Some(estimate)) if estimate > 0 => {
            // An estimate can be too small: never show more than 99 % of a copy that runs.
            let percent = rows.saturating_mul(100).checked_div(estimate).unwrap_or(0).min(99);
            format!("  ~{percent} % ({rows} of ~{estimate} rows)")
        }
        (Some(rows), _) => format!("  {rows} rows"),
        (None, _) => String::new(),
    }
}

/// How long ago, in at most two units.
fn span(since: Timestamp) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and short")]
    let seconds = since.age_seconds() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// For people: three digits or so.
fn rounded(bytes: u64) -> String {
    let (mut value, mut factor) = (bytes, 1_u64);
    while value >= 10_000 && factor < 1 << 40 {
        value /= 1024;
        factor *= 1024;
    }
    format_size(value.saturating_mul(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;
    use crate::schema::TableName;
    use crate::telemetry::status::PipelineState;

    #[test]
    fn the_text_says_what_is_known() {
        let mut status = Status::starting("shop");
        status.phase = PipelineState::Streaming;
        status.process.pid = Some(42);
        status.position = Some(Lsn::new(0x10_0000_0001).into());
        status.lag_bytes = Some(123_456_789);
        status.source.address = Some("u@h:5432/shop".to_owned());
        status.source.slot = Some("strandline_shop".to_owned());
        status.table(&TableName::new("public", "a")).state = TableState::Live;
        let big = status.table(&TableName::new("public", "big"));
        big.state = TableState::Snapshotting;
        (big.rows_copied, big.rows_estimate) = (Some(50), Some(40));
        status.table(&TableName::new("public", "z")).stop(codes::PG022, "column \"total\" changed");
        status.settle();
        assert_eq!(
            text(&status),
            "shop  DEGRADED (streaming)   process 42, up 0 s\n\
             source    u@h:5432/shop, slot strandline_shop\n\
             position  10/1, acknowledged none yet, behind 117MiB\n\
             tables    3: 1 snapshotting, 1 live, 1 stopped\n  \
             public.big  snapshotting  ~99 % (50 of ~40 rows)\n\
             error PG022 public.z (since 0 s): column \"total\" changed\n  \
             try: strandline resync \"public.z\" --yes\n"
        );
    }
}
