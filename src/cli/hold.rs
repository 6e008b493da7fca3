//! `strandline pause` and `strandline resume`: asks the process of this pipeline on this machine, over its socket.

use super::args::{Global, Output};
use super::http_client::over_socket;
use super::output::{out, out_json};
use super::{Outcome, exit, load_quietly, runtime, socket};
use crate::error::{Error, codes};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn command(global: &Global, hold: bool) -> Outcome {
    let config = load_quietly(global)?;
    let verb = if hold { "pause" } else { "resume" };
    let socket = socket::path(&config);
    let asked = runtime()?.block_on(over_socket(&socket, "POST", &format!("/api/v1/pipeline/{verb}")));
    let (status, body) = asked.map_err(|why| {
        Error::new(codes::RT004, format!("no process of the pipeline \"{}\" answers on this machine: {why}", config.name))
            .with_try("strandline status says whether one runs elsewhere; there, or over HTTP: POST /api/v1/pipeline/pause")
    })?;
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    if status != 202 {
        let what = answer["detail"].as_str().unwrap_or("the process refused").to_owned();
        return Err(Error::new(codes::RT004, what).with_try("strandline status").into());
    }
    match global.output {
        Output::Text => out(answer["text"].as_str().unwrap_or("asked for")),
        Output::Json => out_json(&json!({"accepted": true, "paused": hold})),
    }
    Ok(ExitCode::from(exit::OK))
}
