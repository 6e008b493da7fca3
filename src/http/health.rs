//! Probes. An idle source, a long transaction, a running first copy and a source or target that is away for
//! a moment are all healthy: none of them is cured by killing the process.

use super::Face;
use super::problem::Problem;
use crate::telemetry::status::{PipelineState, Reason, Severity, Status};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Whether the core loop lives.
pub(super) async fn livez(State(face): State<Face>) -> Response {
    let silence = face.board.silence();
    if silence <= face.live_silence {
        return "ok\n".into_response();
    }
    Problem {
        code: Some(crate::error::codes::RT013.id.to_owned()),
        fix: Some("restart the process; nothing is lost".to_owned()),
        ..Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the core loop has given no sign of life for {} s", silence.as_secs()),
        )
    }
    .into_response()
}

/// Whether the pipeline holds its source.
pub(super) async fn startupz(State(face): State<Face>) -> Response {
    match face.board.read(|status| status.phase) {
        PipelineState::Starting => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the pipeline is starting").into_response()
        }
        _ => "ok\n".into_response(),
    }
}

/// Whether source and target are usable.
pub(super) async fn readyz(State(face): State<Face>) -> Response {
    let status = face.board.status();
    match not_ready(&status, face.ready_grace.as_secs_f64()) {
        None => axum::Json(json!({"ready": true, "state": status.state, "reasons": status.reasons}))
            .into_response(),
        Some(problem) => problem.into_response(),
    }
}

fn not_ready(status: &Status, grace_seconds: f64) -> Option<Problem> {
    let unavailable = |detail: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    if let Some(stall) = &status.stalled {
        let since = stall.since;
        let fix = stall.fix.clone();
        let code = Some(stall.code.clone());
        return Some(Problem { code, fix, ..unavailable(format!("stalled since {since}: {}", stall.text)) });
    }
    if let Some(retrying) = &status.retrying
        && retrying.since.age_seconds() > grace_seconds
    {
        return Some(Problem {
            code: Some(retrying.code.clone()),
            ..unavailable(format!("trying again since {}: {}", retrying.since, retrying.text))
        });
    }
    match status.phase {
        PipelineState::Snapshotting
        | PipelineState::CatchingUp
        | PipelineState::Streaming
        | PipelineState::Paused => {}
        other => {
            let worst = status.reasons.iter().find(|reason| reason.severity == Severity::Error);
            let text = worst.map_or(String::new(), |reason| format!(": {}", reason.text));
            return Some(Problem {
                code: worst.map(|reason| reason.code.clone()),
                fix: worst.and_then(|reason| reason.fix.clone()),
                ..unavailable(format!("the pipeline is {other}{text}"))
            });
        }
    }
    // Between a lost connection and its retry there is a moment without an error: give it the same grace.
    (!status.source.connected && status.retrying.is_none())
        .then(|| unavailable("the source is not connected".to_owned()))
}

/// Everything that a person should know, always with 200.
pub(super) async fn healthz(State(face): State<Face>) -> Response {
    let status = face.board.status();
    let silent = face.board.silence() > face.live_silence;
    let verdict = match status.state {
        _ if silent => "wedged",
        PipelineState::Failed => "failed",
        PipelineState::Stalled => "stalled",
        PipelineState::Degraded => "degraded",
        _ => "ok",
    };
    let reasons: &[Reason] = &status.reasons;
    axum::Json(json!({
        "status": verdict,
        "reasons": reasons,
        "pipeline": {
            "name": status.name,
            "state": status.state,
            "phase": status.phase,
            "retrying": status.retrying,
            "lag_bytes": status.lag_bytes,
            "last_commit": status.last_commit,
        },
    }))
    .into_response()
}
