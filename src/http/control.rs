//! What changes something: who may, and what is done.
//!
//! On the Unix socket the file's mode decides (0660). Over TCP every such request carries
//!  - the token, where one is configured (without one the server listens on this machine only, or does nothing), and
//!  - the header `X-Strandline-Confirm`, which no page of another origin can send without being asked first.
//!
//! A page of elsewhere can make its own name lead to 127.0.0.1 and is then no other origin for the browser. Its name
//! stands in `Host`: a server for this machine only, without a token, shows and does nothing under a name but `localhost`
//! (nobody can make a number lead elsewhere). Probes and metrics are answered under any name.

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
use serde_json::json;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
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

    /// Reads rows of a table again.
    fn reread(&self, wanted: Reread) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;

    /// Reads no more rows of these tables again; empty: of any. How many that were.
    fn end_rereads(&self, tables: &[TableName]) -> usize;

    /// Copies a table again.
    fn resync(&self, table: TableName) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
}

/// Rows of a table that are wanted once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reread {
    /// The table.
    pub table: TableName,
    /// Who asks twice with the same id asks once, as long as the first is not done.
    pub id: String,
    /// Only rows for which this holds, as the source spells it.
    pub condition: Option<String>,
    /// The whole table anew, while its stream waits.
    pub is_blocking: bool,
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
    /// The server listens on this machine only. [`super::Server`] says so.
    pub is_local: bool,
}

impl Guard {
    /// Whether the name under which we were asked is one that a page of elsewhere cannot have.
    fn check_name(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.is_trusted || self.token.is_some() || !self.is_local {
            return Ok(());
        }
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if is_own_name(host) {
            return Ok(());
        }
        let fix =
            "ask under localhost or the address of http.listen, or set http.token: then any name will do";
        Err(Problem {
            fix: Some(fix.to_owned()),
            ..Problem::new(
                StatusCode::FORBIDDEN,
                format!("this server does not answer under the name \"{}\"", host.escape_debug()),
            )
        })
    }

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
        // An empty token is refused at the start; should one come here all the same, nobody knows it.
        if !token.expose().is_empty() && same(given.as_bytes(), token.expose().as_bytes()) {
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

/// `localhost` or an address in numbers, with or without a port.
fn is_own_name(host: &str) -> bool {
    let of_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = host.strip_prefix('[') {
        let parts = rest.split_once(']');
        return parts.is_some_and(|(name, port)| {
            name.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(of_port))
        });
    }
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    of_port(port) && (name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok())
}

/// Answers under names that are ours.
pub(super) async fn named(State(face): State<Face>, request: Request, next: Next) -> Response {
    match face.guard.check_name(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets through who may.
pub(super) async fn guard(State(face): State<Face>, request: Request, next: Next) -> Response {
    match face.guard.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

pub(super) fn control(face: &Face) -> Result<&dyn Control, Problem> {
    face.control.as_deref().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is not running yet, or has ended")
    })
}

pub(super) fn accepted(text: impl Into<String>) -> Response {
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

pub(super) fn known(face: &Face, name: &str) -> Result<TableName, Problem> {
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

pub(super) fn of_error(error: &Error) -> Problem {
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_name_of_elsewhere_is_not_ours() {
        let local = Guard { is_local: true, ..Guard::default() };
        let with = |host: Option<&str>| {
            host.map(|host| (header::HOST, HeaderValue::from_str(host).unwrap())).into_iter().collect()
        };
        let passes = |guard: &Guard, host| guard.check_name(&with(host)).is_ok();
        for own in [
            "localhost",
            "LocalHost:9187",
            "127.0.0.1:9187",
            "127.0.0.2",
            "[::1]:9187",
            "[::1]",
            "10.0.0.5:80",
        ] {
            assert!(passes(&local, Some(own)), "{own}");
        }
        for foreign in [
            "evil.example:9187",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9187",
            "127.0.0.1@evil.example",
            "",
            "[::1",
            "[::1].evil.example",
            "[evil]",
            "::1",
            "localhost:x",
            "127.1",
        ] {
            assert!(!passes(&local, Some(foreign)), "{foreign}");
        }
        assert!(!passes(&local, None));
        let token = Some(crate::config::Secret::new("s3cret"));
        for guard in [
            Guard { token, ..local.clone() },
            Guard { is_trusted: true, ..local.clone() },
            Guard { read_only: true, is_local: false, ..local },
        ] {
            assert!(passes(&guard, Some("strandline.example:9187")), "{guard:?}");
        }
    }

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
        let empty = Guard { token: Some(crate::config::Secret::new("")), ..Guard::default() };
        for given in [None, Some(""), Some("x")] {
            assert_eq!(status(&empty, with(given, true)), Some(401), "{given:?}");
        }
        assert_eq!(status(&Guard { is_trusted: true, ..locked.clone() }, with(None, false)), None);
        assert_eq!(
            status(&Guard { read_only: true, is_trusted: true, ..locked }, with(Some("s3cret"), true)),
            Some(403)
        );
    }
}
