//! Metrics and status.

use super::Face;
use super::problem::Problem;
use crate::telemetry::Status;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// Between two events of one client.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// OpenMetrics text.
pub(super) async fn metrics(State(face): State<Face>) -> Response {
    match face.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => Problem {
            code: Some(error.code().id.to_owned()),
            ..Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.cause_line())
        }
        .into_response(),
    }
}

/// The documented status.
pub(super) async fn status(State(face): State<Face>) -> Response {
    axum::Json(face.board.status()).into_response()
}

/// The status's tables alone.
pub(super) async fn tables(State(face): State<Face>) -> Response {
    axum::Json(json!({"tables": face.board.status().tables})).into_response()
}

/// One table, by `schema.table`.
pub(super) async fn table(State(face): State<Face>, Path(name): Path<String>) -> Response {
    let table = face.board.read(|status| status.tables.iter().find(|table| table.name == name).cloned());
    match table {
        Some(table) => axum::Json(table).into_response(),
        None => Problem {
            fix: Some("GET /api/v1/tables names all tables".to_owned()),
            ..Problem::new(StatusCode::NOT_FOUND, format!("this pipeline has no table \"{name}\""))
        }
        .into_response(),
    }
}

/// Samples of the last hour, or of `?window=`.
pub(super) async fn history(
    State(face): State<Face>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let window = query.get("window").map_or("1h", String::as_str);
    match crate::config::parse_duration(window) {
        Ok(window) => axum::Json(json!({
            "every_seconds": crate::telemetry::history::EVERY.as_secs(),
            "samples": face.history.last(window),
        }))
        .into_response(),
        Err(_) => Problem {
            fix: Some("?window=1h".to_owned()),
            ..Problem::new(StatusCode::BAD_REQUEST, "the window is not a duration")
        }
        .into_response(),
    }
}

/// The status now, and whenever it changes, at most once a second.
pub(super) async fn events(State(face): State<Face>) -> Response {
    let follow = (face.board.subscribe(), true);
    let events = stream::unfold(follow, |(mut seen, is_first)| async move {
        if !is_first {
            tokio::time::sleep(EVENT_EVERY).await;
            // Nobody changes it any more: the process ends.
            seen.changed().await.ok()?;
        }
        let event = event_of(&mut seen);
        Some((Ok::<_, Infallible>(event), (seen, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

fn event_of(seen: &mut watch::Receiver<Status>) -> Event {
    let text = serde_json::to_string(&*seen.borrow_and_update());
    Event::default().event("status").data(text.unwrap_or_default())
}

/// What this server lets be changed.
pub(super) async fn abilities(State(face): State<Face>) -> Response {
    let token = face.guard.token.is_some() && !face.guard.is_trusted;
    axum::Json(json!({"act": !face.guard.read_only && face.control.is_some(), "token": token}))
        .into_response()
}

/// The configuration as it works.
pub(super) async fn config(State(face): State<Face>) -> Response {
    let config = face.config.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    axum::Json(config).into_response()
}
