//! Apache Spark with delta-spark: one process (`tests/it/spark.py`) for all tests, started when the first one asks.
//!
//! `make test-spark` installs it; `STRANDLINE_SPARK` names the series (`4`, the default, or `3.5`).

use super::places;
use super::reader::to_rows;
use super::sql::Row;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

struct Spark {
    _child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

static SPARK: Mutex<Option<Spark>> = Mutex::new(None);

/// The series of Spark that the tests run on.
pub(crate) fn series() -> String {
    std::env::var("STRANDLINE_SPARK").unwrap_or_else(|_| "4".to_owned())
}

fn installed() -> PathBuf {
    let dir = places::cache().join(format!("spark{}", series()));
    assert!(
        dir.join(".stamp").exists(),
        "no Spark in {}: run scripts/install.sh spark {}",
        dir.display(),
        series()
    );
    dir
}

impl Spark {
    fn start() -> Spark {
        let dir = installed();
        let jars: Vec<String> = std::fs::read_dir(dir.join("jars"))
            .expect("jars")
            .map(|entry| entry.expect("a jar").path().display().to_string())
            .collect();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/spark.py");
        // It ends with its input: a thread that starts it may end before.
        let mut child = Command::new(dir.join("python/bin/python"))
            .arg(script)
            .env("STRANDLINE_SPARK_JARS", jars.join(","))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("SPARK_HOME")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the python of Spark starts");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Spark { _child: child, to, from }
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.to, "{request}").map_err(|e| e.to_string())?;
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(|e| e.to_string())?;
        let mut reply: Value = serde_json::from_str(&line).map_err(|e| format!("{e} in {line:?}"))?;
        if reply["ok"] == json!(true) {
            Ok(reply.take())
        } else {
            Err(reply["error"].as_str().unwrap_or("no answer").to_owned())
        }
    }
}

/// One question, one answer.
pub(crate) fn ask(request: &Value) -> Result<Vec<Row>, String> {
    let mut spark = SPARK.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = spark.get_or_insert_with(Spark::start).ask(request)?;
    to_rows(&reply)
}

/// SQL over one table, called `t`.
#[track_caller]
pub(crate) fn sql(table: &Path, version: Option<i64>, sql: &str) -> Vec<Row> {
    let asked = json!({ "op": "sql", "path": table, "version": version, "sql": sql });
    ask(&asked).unwrap_or_else(|e| panic!("{e}\n  reading {} at {version:?}", table.display()))
}

/// The same, looking at every file.
#[track_caller]
pub(crate) fn scan(table: &Path, sql: &str) -> Vec<Row> {
    let asked = json!({ "op": "scan", "path": table, "sql": sql });
    ask(&asked).unwrap_or_else(|e| panic!("{e}\n  reading {}", table.display()))
}

/// A statement; `{t}` is the table. An error says that Spark refused.
pub(crate) fn exec(table: &Path, sql: &str) -> Result<Vec<Row>, String> {
    ask(&json!({ "op": "exec", "path": table, "sql": sql }))
}

/// The columns, with their types as Spark calls them.
#[track_caller]
pub(crate) fn types(table: &Path) -> Vec<Row> {
    ask(&json!({ "op": "types", "path": table })).expect("the table can be opened")
}

/// Spark's change data feed from a version on: the columns, the kind of change, the version.
#[track_caller]
pub(crate) fn feed(table: &Path, from: i64, columns: &[&str]) -> Vec<Row> {
    ask(&json!({ "op": "cdf", "path": table, "version": from, "columns": columns }))
        .expect("the feed can be read")
}

/// The rows that a stream of the table brings from a version on; `to` is a directory for what it keeps.
pub(crate) fn streamed(
    table: &Path,
    from: i64,
    columns: &[&str],
    options: &Value,
    to: &Path,
) -> Result<Vec<Row>, String> {
    ask(&json!({
        "op": "streamed", "path": table, "version": from, "columns": columns, "options": options, "to": to
    }))
}
