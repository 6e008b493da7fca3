//! What changes something: who may, and what is done.
//!
//! On the Unix socket the file's mode decides (0660). Over TCP every such request carries
//!  - the token, where one is configured (without one the server listens on this machine only, or does nothing), and
//!  - the header `X-Strandline-Confirm`, which no page of another origin can send without being asked first.

use super::Face;
use super::problem::{Given, Problem};
use crate::error::{Error, Result};
use crate::schema::TableName;
use crate::telemetry::status::TableState;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;

/// The header that says: a person meant it.
pub const CONFIRM: &str = "x-strandline-confirm";

/// What can be asked of a running pipeline.
pub trait Control: Send + Sync {
    /// Reads nothing more from the source (true), or goes on (false).
    fn hold(&self, hold: bool);

    /// Takes a table out of the stream; it comes back by [`Control::resync`].
    fn leave(&self, table: TableName);

    /// Copies wait (true), or go on.
    fn hold_copies(&self, hold: bool);

    /// Ends the copy of a table; it comes back by [`Control::resync`].
    fn cancel_copy(&self, table: TableName);

    /// Its changes as they are handed to the target, as lines of JSON, while somebody reads them.
    fn tap(&self, table: TableName) -> tokio::sync::mpsc::Receiver<String>;

    /// Copies a table again.
    fn resync(&self, table: TableName) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
}

/// Who may change something.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Nobody.
    pub read_only: bool,
    /// Who knows this.
    pub token: Option<crate::config::Secret>,
    /// Whoever reached us: the socket's mode has decided.
    pub is_trusted: bool,
}

impl Guard {
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.read_only {
            return Err(Problem {
                fix: Some("http.read_only is true in the configuration".to_owned()),
                ..Problem::new(StatusCode::FORBIDDEN, "this server only reads")
            });
        }
        if self.is_trusted {
            return Ok(());
        }
        if !headers.contains_key(CONFIRM) {
            return Err(Problem {
                fix: Some("send the header X-Strandline-Confirm: yes".to_owned()),
                ..Problem::new(StatusCode::FORBIDDEN, "the request is not confirmed")
            });
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
        if same(given.as_bytes(), token.expose().as_bytes()) {
            return Ok(());
        }
        Err(Problem {
            fix: Some("send the header Authorization: Bearer TOKEN, with the token of http.token".to_owned()),
            ..Problem::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong")
        })
    }
}

/// In a time that says nothing about where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (x, y)| different | (x ^ y)) == 0
}

/// Lets through who may.
pub(super) async fn guard(State(face): State<Face>, request: Request, next: Next) -> Response {
    match face.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn control(face: &Face) -> Result<&dyn Control, Problem> {
    face.control.as_deref().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is not running yet, or has ended")
    })
}

fn accepted(text: impl Into<String>) -> Response {
    let text: String = text.into();
    (StatusCode::ACCEPTED, Json(json!({"accepted": true, "text": text}))).into_response()
}

/// Reads nothing more.
pub(super) async fn pause(State(face): State<Face>) -> Response {
    held(&face, true)
}

/// Goes on reading.
pub(super) async fn resume(State(face): State<Face>) -> Response {
    held(&face, false)
}

fn held(face: &Face, hold: bool) -> Response {
    match control(face) {
        Ok(control) => {
            control.hold(hold);
            let text =
                if hold { "reading is paused; what is in flight is finished" } else { "reading goes on" };
            tracing::info!(hold, "an operator asked: {text}");
            accepted(text)
        }
        Err(problem) => problem.into_response(),
    }
}

/// Takes a table out of the stream.
pub(super) async fn pause_table(State(face): State<Face>, Path(name): Path<String>) -> Response {
    match known(&face, &name).and_then(|table| Ok((table, control(&face)?))) {
        Ok((table, control)) => {
            tracing::info!(table = name, "an operator asked: the table is paused");
            control.leave(table);
            accepted(format!("{name} leaves the stream; strandline resume {name} copies it again"))
        }
        Err(problem) => problem.into_response(),
    }
}

/// Ends a table's copy.
pub(super) async fn cancel(State(face): State<Face>, Path(name): Path<String>) -> Response {
    match known(&face, &name).and_then(|table| Ok((table, control(&face)?))) {
        Ok((table, control)) => {
            let copies = face.board.read(|status| {
                status.tables.iter().any(|t| t.name == name && t.state == TableState::Snapshotting)
            });
            if !copies {
                let what = format!("{name} is not being copied");
                return Problem::new(StatusCode::CONFLICT, what).into_response();
            }
            tracing::info!(table = name, "an operator asked: its copy ends");
            control.cancel_copy(table);
            accepted(format!("the copy of {name} ends; strandline resume {name} begins another one"))
        }
        Err(problem) => problem.into_response(),
    }
}

/// Copies wait.
pub(super) async fn pause_copies(State(face): State<Face>) -> Response {
    hold_copies(&face, true)
}

/// Copies go on.
pub(super) async fn resume_copies(State(face): State<Face>) -> Response {
    hold_copies(&face, false)
}

fn hold_copies(face: &Face, hold: bool) -> Response {
    match control(face) {
        Ok(control) => {
            control.hold_copies(hold);
            let text = if hold { "copies wait; the stream goes on" } else { "copies go on" };
            tracing::info!(hold, "an operator asked: {text}");
            accepted(text)
        }
        Err(problem) => problem.into_response(),
    }
}

/// Reads the configuration again.
pub(super) async fn reload(State(face): State<Face>) -> Response {
    let Some(reload) = &face.reload else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "there is nothing to read again")
            .into_response();
    };
    match reload() {
        Ok(text) => accepted(text),
        Err(error) => of_error(&error).into_response(),
    }
}

/// A table's changes, while they are read.
pub(super) async fn tap(State(face): State<Face>, Path(name): Path<String>) -> Response {
    match known(&face, &name).and_then(|table| Ok((table, control(&face)?))) {
        Ok((table, control)) => {
            let lines = futures_util::stream::unfold(control.tap(table), |mut lines| async move {
                let line = lines.recv().await?;
                Some((Ok::<_, std::convert::Infallible>(line), lines))
            });
            let kind = [(header::CONTENT_TYPE, "application/jsonl")];
            (kind, axum::body::Body::from_stream(lines)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn known(face: &Face, name: &str) -> Result<TableName, Problem> {
    let is_known = face.board.read(|status| status.tables.iter().any(|table| table.name == name));
    let split = name.split_once('.').filter(|_| is_known);
    split.map(|(schema, table)| TableName::new(schema, table)).ok_or_else(|| Problem {
        fix: Some("GET /api/v1/tables names all tables".to_owned()),
        ..Problem::new(StatusCode::NOT_FOUND, format!("this pipeline has no table \"{name}\""))
    })
}

/// Copies a table again.
pub(super) async fn resync(State(face): State<Face>, Path(name): Path<String>) -> Response {
    match resync_one(&face, &name).await {
        Ok(()) => accepted(format!("{name} is copied again")),
        Err(problem) => problem.into_response(),
    }
}

async fn resync_one(face: &Face, name: &str) -> Result<(), Problem> {
    let table = known(face, name)?;
    tracing::info!(table = name, "an operator asked for a new copy");
    control(face)?.resync(table).await.map_err(|error| of_error(&error))
}

fn of_error(error: &Error) -> Problem {
    Problem {
        code: Some(error.code().id.to_owned()),
        fix: error.advice().map(str::to_owned),
        ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.cause_line())
    }
}

/// What a comparison found.
#[derive(Deserialize)]
pub(super) struct Verified {
    equal: bool,
    tables: Vec<VerifiedTable>,
}

#[derive(Deserialize)]
struct VerifiedTable {
    table: String,
    different: u64,
}

/// Puts it into the metrics. Only tables of this pipeline count: a label is for ever.
pub(super) async fn verified(State(face): State<Face>, Given(found): Given<Verified>) -> Response {
    for one in &found.tables {
        if face.board.read(|status| status.tables.iter().any(|table| table.name == one.table)) {
            face.metrics.flow().verified(&one.table, one.different);
        }
    }
    if found.equal {
        face.metrics.flow().all_equal(crate::telemetry::status::Timestamp::now());
    }
    accepted("noted")
}

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

/// Does what a signal asks that came by another way, and says what, or why not.
///
/// # Errors
/// Text for people.
pub async fn signal_of(face: &Face, id: String, kind: String, data: &str) -> Result<String, String> {
    let data = match data.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|_| "its data is no JSON".to_owned())?,
    };
    perform(face, &Signal { id, kind, data }).await.map_err(|problem| problem.detail)
}

/// `POST /api/signals`: `execute-snapshot`, `pause-snapshot` and `resume-snapshot` of Debezium, and `log`.
pub(super) async fn signal(State(face): State<Face>, Given(signal): Given<Signal>) -> Response {
    match perform(&face, &signal).await {
        Ok(text) => accepted(text),
        Err(problem) => problem.into_response(),
    }
}

fn names_in(signal: &Signal) -> Vec<&str> {
    signal.data["data-collections"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

async fn perform(face: &Face, signal: &Signal) -> Result<String, Problem> {
    let bad = |what: String, fix: &str| Problem {
        fix: Some(fix.to_owned()),
        ..Problem::new(StatusCode::BAD_REQUEST, what)
    };
    match signal.kind.as_str() {
        "execute-snapshot" => {
            if signal
                .data
                .get("additional-conditions")
                .is_some_and(|given| !given.is_null() && *given != json!([]))
            {
                return Err(bad(
                    "additional-conditions are not supported".to_owned(),
                    "leave them out: whole tables are copied",
                ));
            }
            let wanted = names_in(signal);
            if wanted.is_empty() {
                let fix =
                    "{\"type\": \"execute-snapshot\", \"data\": {\"data-collections\": [\"public.orders\"]}}";
                return Err(bad("data-collections names no table".to_owned(), fix));
            }
            for table in &wanted {
                resync_one(face, table).await?;
            }
            Ok(format!("{} tables are copied again (signal \"{}\")", wanted.len(), signal.id))
        }
        "pause-snapshot" | "resume-snapshot" => {
            let hold = signal.kind == "pause-snapshot";
            control(face)?.hold_copies(hold);
            Ok(if hold { "copies wait" } else { "copies go on" }.to_owned())
        }
        "stop-snapshot" => {
            let wanted: Vec<&str> = names_in(signal);
            let running: Vec<String> = face.board.read(|status| {
                let copied = status.tables.iter().filter(|t| t.state == TableState::Snapshotting);
                copied.map(|t| t.name.clone()).collect()
            });
            let ended = running.iter().filter(|name| wanted.is_empty() || wanted.contains(&name.as_str()));
            let mut count = 0;
            for name in ended {
                control(face)?.cancel_copy(known(face, name)?);
                count += 1;
            }
            Ok(format!("{count} copies end (signal \"{}\")", signal.id.escape_debug()))
        }
        "log" => {
            // Whoever may signal may write a line; control characters cannot forge another one.
            let text: String =
                signal.data["message"].as_str().unwrap_or_default().escape_debug().take(500).collect();
            tracing::info!(signal = %signal.id.escape_debug(), "{text}");
            Ok("logged".to_owned())
        }
        other => Err(bad(
            format!("the signal \"{}\" is not known", other.escape_debug()),
            "known: execute-snapshot, pause-snapshot, resume-snapshot, stop-snapshot, log",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_who_may_gets_through() {
        let with = |token: Option<&str>, confirmed: bool| {
            let mut headers = HeaderMap::new();
            if let Some(token) = token {
                headers.insert(
                    header::AUTHORIZATION,
                    HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
                );
            }
            if confirmed {
                headers.insert(CONFIRM, HeaderValue::from_static("yes"));
            }
            headers
        };
        let status = |guard: &Guard, headers| guard.check(&headers).err().map(|problem| problem.status);
        let locked = Guard { token: Some(crate::config::Secret::new("s3cret")), ..Guard::default() };
        assert_eq!(status(&locked, with(Some("s3cret"), true)), None);
        assert_eq!(status(&locked, with(Some("s3cret"), false)), Some(403));
        assert_eq!(status(&locked, with(Some("s3crex"), true)), Some(401));
        assert_eq!(status(&locked, with(None, true)), Some(401));
        assert_eq!(status(&Guard::default(), with(None, true)), None);
        assert_eq!(status(&Guard::default(), with(None, false)), Some(403));
        assert_eq!(status(&Guard { is_trusted: true, ..locked.clone() }, with(None, false)), None);
        assert_eq!(
            status(&Guard { read_only: true, is_trusted: true, ..locked }, with(Some("s3cret"), true)),
            Some(403)
        );
    }
}
