//! What is printed: data on standard output, all else on standard error. With `-o json` an error is JSON on
//! standard output, so that a program finds one thing in one place.

use super::args::{Color, Output};
use crate::config::ConfigError;
use crate::error::{Code, Error};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
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

/// Text from elsewhere (a table's name, a server's message) cannot move the cursor or begin a line.
pub(super) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// How things are marked: with colours or without, with signs or with words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paint {
    colors: bool,
    signs: bool,
}

impl Paint {
    /// As standard output and the environment allow.
    pub(super) fn for_stdout(color: Color) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let colors = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && !set("NO_COLOR"),
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(|name| set(name));
        let locale = locale.and_then(|name| std::env::var(name).ok()).unwrap_or_default().to_uppercase();
        Paint { colors, signs: locale.contains("UTF-8") || locale.contains("UTF8") }
    }

    fn mark(self, sign: &str, word: &str, color: &str) -> String {
        let text = if self.signs { sign } else { word };
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// As it should be.
    pub(super) fn good(self) -> String {
        self.mark("✓", "ok  ", "32")
    }

    /// Somebody should know.
    pub(super) fn warning(self) -> String {
        self.mark("⚠", "warn", "33")
    }

    /// Somebody must act.
    pub(super) fn bad(self) -> String {
        self.mark("✗", "FAIL", "31")
    }
}

/// Columns of text.
pub(super) struct Grid(Vec<Vec<String>>);

impl Grid {
    /// With this heading.
    pub(super) fn new(heading: &[&str]) -> Self {
        Grid(vec![heading.iter().map(|&name| name.to_owned()).collect()])
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// The lines; a column is as wide as its widest cell.
    pub(super) fn text(&self) -> String {
        let width = |column: usize| {
            self.0
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let mut text = String::new();
        for row in &self.0 {
            let cells: Vec<String> =
                row.iter().enumerate().map(|(i, cell)| format!("{cell:0$}", width(i))).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
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
