//! `strandline explain CODE`: the page of the code, from inside the binary.

use super::args::{ExplainArgs, Output};
use super::output::{out, out_json};
use super::{Outcome, exit};
use crate::error::{Code, Disposition, Error, codes};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn command(output: Output, args: &ExplainArgs) -> Outcome {
    let Some(text) = &args.code else {
        return Ok(all(output));
    };
    let Some(code) = codes::find(text.trim()) else { return Err(unknown(text).into()) };
    let page = codes::page(code);
    match output {
        Output::Text => out(page.trim_end()),
        Output::Json => out_json(&json!({
            "code": code.id,
            "title": code.title,
            "exit": code.exit,
            "effect": effect(code),
            "page": page,
        })),
    }
    Ok(ExitCode::from(exit::OK))
}

/// Every code, one line each.
fn all(output: Output) -> ExitCode {
    match output {
        Output::Text => {
            for code in codes::ALL {
                out(&format!("{}  exit {}  {}", code.id, code.exit, code.title));
            }
        }
        Output::Json => {
            let list: Vec<_> = codes::ALL
                .iter()
                .map(|code| {
                    json!({"code": code.id, "title": code.title, "exit": code.exit, "effect": effect(*code)})
                })
                .collect();
            out_json(&json!({"codes": list}));
        }
    }
    ExitCode::from(exit::OK)
}

fn unknown(text: &str) -> Error {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(20).collect();
    let areas = "CF configuration, PG PostgreSQL, MY MySQL, TG Delta target, KF Kafka, RT the program itself";
    Error::new(codes::CF005, format!("there is no error code \"{shown}\""))
        .with_try(format!("copy the code from the message, such as PG041; the areas are {areas}"))
}

fn effect(code: Code) -> &'static str {
    if [codes::CF005, codes::TG029, codes::RT011].contains(&code) {
        return "the command ends; a pipeline that runs goes on";
    }
    match code.disposition {
        Disposition::Retry => "temporary: it is tried again, for ever",
        Disposition::HaltTable => "the table stops, the others go on",
        Disposition::HaltPipeline => "the pipeline stops until a person acts",
        Disposition::Bug => "the pipeline stops before it does harm; please report it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_page() {
        for code in codes::ALL {
            assert!(codes::page(*code).starts_with(&format!("# {}: {}", code.id, code.title)), "{code}");
        }
    }
}
