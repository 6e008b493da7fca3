//! Signals as Debezium's users send them, whatever way they come: `POST /api/signals`, a table of the source, a topic.
//!
//! | type | what is done |
//! |---|---|
//! | `execute-snapshot` | `incremental`: rows are read again beside the stream, where source and target can do that; `blocking`: whole tables are copied again |
//! | `stop-snapshot` | what runs of these ends |
//! | `pause-snapshot` `resume-snapshot` | what runs waits, goes on |
//! | `log` | a line in the log |
//!
//! A signal is answered when what it asks is on record. One that is not understood as a whole is refused as a whole.

use super::Face;
use super::control::{Reread, accepted, control, known, of_error};
use super::problem::{Given, Problem};
use crate::schema::TableName;
use crate::telemetry::status::TableState;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use regex::RegexBuilder;
use serde::Deserialize;
use serde_json::Value;

/// A line of an operator's is so long at most.
const LINE: usize = 500;

/// A signal as Debezium Server takes it.
#[derive(Deserialize)]
pub(super) struct Signal {
    #[serde(default)]
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Value,
}

/// What `execute-snapshot` asks for.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    data_collections: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    additional_conditions: Option<Vec<Condition>>,
    #[serde(default)]
    surrogate_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Condition {
    data_collection: String,
    filter: String,
}

/// Why a signal was not done: text for people.
#[derive(Debug)]
pub enum Undone {
    /// It cannot be done, now or later.
    Never(String),
    /// It may be done later.
    NotYet(String),
}

/// Does what a signal asks that came by another way, and says what, or why not.
///
/// # Errors
/// See [`Undone`].
pub async fn signal_of(face: &Face, id: String, kind: String, data: &str) -> Result<String, Undone> {
    let data = match data.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|_| Undone::Never("its data is no JSON".to_owned()))?,
    };
    perform(face, &Signal { id, kind, data }).await.map_err(|problem| {
        if problem.status < 500 { Undone::Never(problem.detail) } else { Undone::NotYet(problem.detail) }
    })
}

/// `POST /api/signals`.
pub(super) async fn signal(State(face): State<Face>, Given(signal): Given<Signal>) -> Response {
    match perform(&face, &signal).await {
        Ok(text) => accepted(text),
        Err(problem) => problem.into_response(),
    }
}

fn bad(what: String, fix: &str) -> Problem {
    Problem { fix: Some(fix.to_owned()), ..Problem::new(StatusCode::BAD_REQUEST, what) }
}

async fn perform(face: &Face, signal: &Signal) -> Result<String, Problem> {
    match signal.kind.as_str() {
        "execute-snapshot" => execute(face, signal).await,
        "pause-snapshot" | "resume-snapshot" => {
            let hold = signal.kind == "pause-snapshot";
            control(face)?.hold_copies(hold);
            Ok(if hold { "copies wait" } else { "copies go on" }.to_owned())
        }
        "stop-snapshot" => stop(face, signal),
        "log" => {
            // Whoever may signal may write a line; control characters cannot forge another one.
            let text: String =
                signal.data["message"].as_str().unwrap_or_default().escape_debug().take(LINE).collect();
            tracing::info!(signal = %signal.id.escape_debug(), "{text}");
            Ok("logged".to_owned())
        }
        other => Err(bad(
            format!("the signal \"{}\" is not known", other.escape_debug()),
            "known: execute-snapshot, pause-snapshot, resume-snapshot, stop-snapshot, log",
        )),
    }
}

/// Tables whose whole names a pattern matches, as Debezium reads patterns.
fn tables_like(face: &Face, pattern: &str) -> Result<Vec<TableName>, Problem> {
    if let Ok(table) = known(face, pattern) {
        return Ok(vec![table]);
    }
    let found = RegexBuilder::new(&format!("^(?:{pattern})$")).case_insensitive(true).build();
    let Ok(found) = found else {
        let what = format!("\"{}\" is no table and no regular expression", pattern.escape_debug());
        return Err(bad(what, "data-collections: [\"public.orders\"]"));
    };
    let names: Vec<String> = face.board.read(|status| {
        status.tables.iter().map(|table| &table.name).filter(|name| found.is_match(name)).cloned().collect()
    });
    let tables = names.iter().map(|name| known(face, name)).collect::<Result<Vec<_>, _>>()?;
    let tables: Vec<TableName> = tables.into_iter().filter(|table| !table.is_beside()).collect();
    // The same words as for a name.
    if tables.is_empty() { known(face, pattern).map(|table| vec![table]) } else { Ok(tables) }
}

async fn execute(face: &Face, signal: &Signal) -> Result<String, Problem> {
    let fix = "{\"type\": \"execute-snapshot\", \"data\": {\"data-collections\": [\"public.orders\"]}}";
    let wanted: Wanted = serde_json::from_value(signal.data.clone())
        .map_err(|e| bad(format!("the data of execute-snapshot cannot be read: {e}"), fix))?;
    if wanted.data_collections.is_empty() {
        return Err(bad("data-collections names no table".to_owned(), fix));
    }
    if wanted.surrogate_key.is_some() {
        return Err(bad(
            "surrogate-key is not supported".to_owned(),
            "leave it out: tables are read by their keys",
        ));
    }
    let is_blocking = match wanted.kind.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("incremental") => false,
        Some("blocking") => true,
        Some(_) => {
            return Err(bad(
                "the type of a snapshot is not known".to_owned(),
                "known: incremental, blocking",
            ));
        }
    };
    let mut all: Vec<Reread> = Vec::new();
    for pattern in &wanted.data_collections {
        for table in tables_like(face, pattern)? {
            if all.iter().all(|one| one.table != table) {
                let id = id_of(&signal.id, &table);
                all.push(Reread { table, id, condition: None, is_blocking });
            }
        }
    }
    for Condition { data_collection, filter } in wanted.additional_conditions.unwrap_or_default() {
        let of = tables_like(face, &data_collection)?;
        let mut is_used = false;
        for one in all.iter_mut().filter(|one| of.contains(&one.table)) {
            one.condition.get_or_insert_with(|| filter.clone());
            is_used = true;
        }
        if !is_used {
            let what = format!(
                "the condition for \"{}\" is of no table that is read",
                data_collection.escape_debug()
            );
            return Err(bad(what, fix));
        }
    }
    let count = all.len();
    for one in all {
        tracing::info!(table = %one.table, signal = %signal.id.escape_debug(), "a signal asks for its rows again");
        control(face)?.reread(one).await.map_err(|error| of_error(&error))?;
    }
    Ok(format!("{count} tables are read again (signal \"{}\")", signal.id.escape_debug()))
}

/// One signal asks for a table once.
fn id_of(signal: &str, table: &TableName) -> String {
    match signal {
        "" => uuid::Uuid::new_v4().simple().to_string(),
        id => format!("{id}/{table}"),
    }
}

fn stop(face: &Face, signal: &Signal) -> Result<String, Problem> {
    let patterns = signal.data["data-collections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut wanted = Vec::new();
    for pattern in patterns.iter().filter_map(Value::as_str) {
        wanted.extend(tables_like(face, pattern)?);
    }
    let running: Vec<String> = face.board.read(|status| {
        let copied = status.tables.iter().filter(|t| t.state == TableState::Snapshotting);
        copied.map(|t| t.name.clone()).collect()
    });
    let mut count = 0;
    for name in running {
        let table = known(face, &name)?;
        if patterns.is_empty() || wanted.contains(&table) {
            control(face)?.cancel_copy(table);
            count += 1;
        }
    }
    if patterns.is_empty() || !wanted.is_empty() {
        count += control(face)?.end_rereads(&wanted);
    }
    Ok(format!("{count} copies end (signal \"{}\")", signal.id.escape_debug()))
}
