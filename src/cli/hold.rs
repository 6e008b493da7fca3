//! `strandline pause`, `resume` and `snapshot`: ask the process of this pipeline on this machine, over its socket.

use super::args::{Global, Output, SnapshotCommand};
use super::http_client::over_socket;
use super::output::{Failure, Grid, err, out, out_json, printable};
use super::{Outcome, exit, load_quietly, resync, runtime, socket, status};
use crate::config::Config;
use crate::error::{Error, codes};
use crate::schema::TableName;
use crate::telemetry::Status;
use crate::telemetry::status::{TableState, TableStatus};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn command(global: &Global, tables: &[String], hold: bool) -> Outcome {
    let names = tables.iter().map(|text| resync::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let config = load_quietly(global)?;
    let verb = if hold { "pause" } else { "resume" };
    if names.is_empty() {
        told(global, &config, "POST", &format!("/api/v1/pipeline/{verb}"))?;
    }
    told_each(global, &config, &names, verb)?;
    Ok(ExitCode::from(exit::OK))
}

/// `strandline snapshot …`.
pub(super) fn snapshot(global: &Global, command: &SnapshotCommand) -> Outcome {
    let config = load_quietly(global)?;
    match command {
        SnapshotCommand::Status => show(global, &runtime()?.block_on(status::ask(config))?),
        SnapshotCommand::Pause => told(global, &config, "POST", "/api/v1/snapshot/pause")?,
        SnapshotCommand::Resume => told(global, &config, "POST", "/api/v1/snapshot/resume")?,
        SnapshotCommand::Cancel { tables } => {
            let names = tables.iter().map(|text| resync::parse(text)).collect::<Result<Vec<_>, _>>()?;
            told_each(global, &config, &names, "cancel")?;
        }
    }
    Ok(ExitCode::from(exit::OK))
}

/// As a part of a path.
pub(super) fn escaped(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.bytes().fold(String::new(), |mut text, b| {
        if plain(b) {
            text.push(char::from(b));
        } else {
            text.push_str(&format!("%{b:02X}"));
        }
        text
    })
}

/// Asks for something, and prints the answer.
pub(super) fn told(global: &Global, config: &Config, method: &str, path: &str) -> Result<(), Failure> {
    print(global, &[asked(config, method, path)?]);
    Ok(())
}

/// The same of each of these tables: one answer for all. What was done before one is refused is said beside the error.
fn told_each(global: &Global, config: &Config, names: &[TableName], verb: &str) -> Result<(), Failure> {
    let mut done = Vec::new();
    for name in names {
        match asked(config, "POST", &format!("/api/v1/tables/{}/{verb}", escaped(&name.to_string()))) {
            Ok(text) => done.push(text),
            Err(failure) => {
                done.iter().for_each(|text| err(&printable(text)));
                return Err(failure);
            }
        }
    }
    if !done.is_empty() {
        print(global, &done);
    }
    Ok(())
}

fn print(global: &Global, done: &[String]) {
    match global.output {
        Output::Text => done.iter().for_each(|text| out(&printable(text))),
        Output::Json => out_json(&json!({"accepted": true, "text": done.join("; ")})),
    }
}

/// Asks for something; the answer.
fn asked(config: &Config, method: &str, path: &str) -> Result<String, Failure> {
    let socket = socket::path(config);
    let asked = runtime()?.block_on(over_socket(&socket, method, path));
    let (status, body) = asked.map_err(|why| {
        Error::new(
            codes::RT004,
            format!("no process of the pipeline \"{}\" answers on this machine: {why}", config.name),
        )
        .with_try(format!(
            "strandline status says whether one runs elsewhere; there, or over HTTP: {method} {path}"
        ))
    })?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status != 202 {
        let what = answer["detail"].as_str().unwrap_or("the process refused").to_owned();
        return Err(refused(status, answer["code"].as_str(), what, answer["fix"].as_str()).into());
    }
    Ok(answer["text"].as_str().unwrap_or("asked for").to_owned())
}

/// What a process that answers does not do. It names the code where there is one; else what was asked was wrong, or it is
/// not ready.
pub(super) fn refused(status: u16, code: Option<&str>, what: String, fix: Option<&str>) -> Error {
    let asked_wrong = matches!(status, 400 | 404 | 409 | 422);
    let code = code.and_then(codes::find).unwrap_or(if asked_wrong { codes::CF005 } else { codes::RT004 });
    let advice =
        if status == 404 { "strandline tables   names them" } else { fix.unwrap_or("strandline status") };
    Error::new(code, what).with_try(advice)
}

fn show(global: &Global, status: &Status) {
    let copied: Vec<&TableStatus> = status
        .tables
        .iter()
        .filter(|t| {
            matches!(t.state, TableState::Pending | TableState::Snapshotting) || t.copy_began.is_some()
        })
        .collect();
    match global.output {
        Output::Json => {
            let tables: Vec<Value> = copied
                .iter()
                .map(|t| {
                    json!({
                        "table": t.name, "state": t.state, "rows_copied": t.rows_copied,
                        "rows_estimate": t.rows_estimate, "began": t.copy_began, "seconds_left": seconds_left(t),
                    })
                })
                .collect();
            out_json(&json!({"name": status.name, "phase": status.phase, "tables": tables}));
        }
        Output::Text if copied.is_empty() => out("no table is being copied, or was by this process"),
        Output::Text => {
            let mut grid = Grid::new(&["TABLE", "STATE", "COPIED", "LEFT"]);
            for table in copied {
                let left = seconds_left(table).map_or(String::new(), |s| format!("~{s:.0} s"));
                grid.row(vec![
                    printable(&table.name),
                    table.state.to_string(),
                    status::copied(table).trim_start().to_owned(),
                    left,
                ]);
            }
            out(grid.text().trim_end());
        }
    }
}

/// At the rate so far, by the source's estimate of the rows; nothing for a copy that has ended.
pub(super) fn seconds_left(table: &TableStatus) -> Option<f64> {
    let (Some(rows), Some(estimate), Some(began)) =
        (table.rows_copied, table.rows_estimate, table.copy_began)
    else {
        return None;
    };
    if table.state != TableState::Snapshotting || rows == 0 || estimate <= rows {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate of an estimate")]
    let left = (estimate - rows) as f64 / rows as f64;
    Some(left * began.age_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_what_is_not_there_is_told_so_and_a_process_that_cannot_says_its_code() {
        let code = |status, code| refused(status, code, "what".into(), None).code();
        assert_eq!(code(404, None), codes::CF005);
        assert_eq!(code(409, None), codes::CF005);
        assert_eq!(code(503, None), codes::RT004);
        assert_eq!(code(503, Some("CF006")), codes::CF006);
    }

    #[test]
    fn names_become_parts_of_paths() {
        assert_eq!(escaped("public.orders"), "public.orders");
        assert_eq!(escaped("a/b.c d?"), "a%2Fb.c%20d%3F");
    }
}
