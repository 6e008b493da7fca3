//! `GET /openapi.json`: made from the list of paths, so that it cannot name another one.

use super::ROUTES;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// The document.
pub(super) async fn document() -> Response {
    axum::Json(openapi()).into_response()
}

/// OpenAPI 3.1.
pub(super) fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, about) in ROUTES {
        let mut operation = json!({"summary": about, "responses": responses(method, path)});
        let parameters: Vec<Value> = parameters(path);
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        if *method == "post" {
            operation["security"] = json!([{"token": []}]);
        }
        if *path == "/api/signals" {
            operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": {
                "type": "object", "required": ["type"], "properties": {
                    "id": {"type": "string"}, "type": {"enum": ["execute-snapshot", "pause-snapshot", "resume-snapshot", "stop-snapshot", "log"]}, "data": {"type": "object"},
                },
            }}}});
        }
        let place = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        place[*method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "strandline", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {
                "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                "code": {"type": ["string", "null"]}, "detail": {"type": "string"}, "fix": {"type": ["string", "null"]},
            }}},
        },
    })
}

fn parameters(path: &str) -> Vec<Value> {
    let mut list = Vec::new();
    if path.contains("{name}") {
        list.push(json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "schema.table"}));
    }
    if path == "/api/v1/history" {
        list.push(json!({"name": "window", "in": "query", "schema": {"type": "string", "default": "1h"}}));
    }
    list
}

fn responses(method: &str, path: &str) -> Value {
    let problem = json!({"description": "a problem", "content": {"application/problem+json": {
        "schema": {"$ref": "#/components/schemas/Problem"}}}});
    let mut list = json!({"404": problem, "503": problem});
    let more: &[&str] = match (method, path) {
        ("post", "/api/signals" | "/api/v1/verified") => &["400", "401", "403", "413"],
        ("post", path) if path.ends_with("/cancel") => &["401", "403", "409"],
        ("post", _) | (_, "/api/v1/tables/{name}/tap") => &["401", "403"],
        (_, "/api/v1/history") => &["400"],
        _ => &[],
    };
    for status in more {
        list[*status] = problem.clone();
    }
    if method == "post" {
        list["202"] = json!({"description": "accepted"});
        return list;
    }
    let content = match path {
        "/" => "text/html",
        "/metrics" => "application/openmetrics-text",
        "/livez" | "/startupz" => "text/plain",
        "/api/v1/events" => "text/event-stream",
        "/api/v1/tables/{name}/tap" => "application/jsonl",
        _ => "application/json",
    };
    list["200"] = json!({"description": "as said", "content": {content: {}}});
    list
}
