//! `strandline teardown`: takes away what strandline made on the source. Without `--yes` it prints the plan; the
//! exit code is then 2, or 0 when the plan is what was asked for.

use super::args::{Global, Output, TeardownArgs};
use super::output::{err, out, out_json};
use super::{Outcome, exit, load_quietly, runtime, wire};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &TeardownArgs) -> Outcome {
    let config = load_quietly(global)?;
    let is_wanted = args.yes && !args.plan;
    let found = runtime()?.block_on(wire::teardown(&config, is_wanted))?;
    match global.output {
        Output::Json => {
            out_json(&json!({"statements": found.statements, "kept": found.kept, "done": is_wanted}))
        }
        Output::Text => {
            if found.statements.is_empty() {
                out("nothing of strandline's is there");
            }
            for statement in &found.statements {
                out(statement);
            }
            for kept in &found.kept {
                err(&format!("left alone: {kept}"));
            }
        }
    }
    if is_wanted || args.plan || found.statements.is_empty() {
        return Ok(ExitCode::from(exit::OK));
    }
    if global.output == Output::Text {
        err("nothing was done: add --yes to do it");
    }
    Ok(ExitCode::from(exit::USAGE))
}
