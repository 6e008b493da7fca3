//! Metrics and status.

use super::Face;
use super::problem::Problem;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

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
