//! What is printed: data on standard output, all else on standard error. With `-o json` an error is JSON on
//! standard output, so that a program finds one thing in one place.

use super::args::Output;
use crate::config::ConfigError;
use crate::error::{Code, Error};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;

/// Why a command ended without success.
pub(super) enum Failure {
    /// With a code.
    Coded(Error),
    /// With everything that is wrong in a configuration.
    Config(ConfigError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Coded(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error)
    }
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Failure::Coded(error) => error.code(),
            Failure::Config(error) => error.code(),
        }
    }

    /// Reports it, once, and gives its exit code.
    pub(super) fn report(&self, output: Output) -> ExitCode {
        match output {
            Output::Text => err(&match self {
                Failure::Coded(error) => error.report(),
                Failure::Config(error) => error.report(),
            }),
            Output::Json => out_json(&self.json()),
        }
        ExitCode::from(self.code().exit)
    }

    fn json(&self) -> Value {
        match self {
            Failure::Coded(error) => error_json(error.code().id, &error.cause_line(), error.advice()),
            Failure::Config(config) => {
                let one = Error::from(config.clone());
                let mut value = error_json(one.code().id, &one.cause_line(), one.advice());
                let problems: Vec<Value> = config
                    .problems()
                    .iter()
                    .map(|problem| {
                        json!({
                            "code": problem.code.id,
                            "message": problem.message,
                            "try": problem.advice,
                            "file": problem.place.as_ref().map(|place| &place.file),
                            "line": problem.place.as_ref().map(|place| place.line),
                            "column": problem.place.as_ref().map(|place| place.column),
                        })
                    })
                    .collect();
                value["error"]["problems"] = Value::from(problems);
                value
            }
        }
    }
}

/// `{"error": {"code", "message", "try"}}`.
pub(super) fn error_json(code: &str, message: &str, advice: Option<&str>) -> Value {
    json!({"error": {"code": code, "message": message, "try": advice}})
}

/// A line on standard output. A reader that went away is not an error of ours.
pub(super) fn out(text: &str) {
    let _gone = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line on standard error.
pub(super) fn err(text: &str) {
    let _gone = writeln!(std::io::stderr().lock(), "{text}");
}

/// JSON on standard output, indented.
pub(super) fn out_json(value: &Value) {
    out(&format!("{value:#}"));
}
