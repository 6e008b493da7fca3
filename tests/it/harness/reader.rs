//! The other readers: one Python process (`tests/it/reader.py`), kept running, JSON lines both ways.

use super::places;
use super::spark;
use super::sql::Row;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Which reader; all of them know deletion vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    DuckDb,
    DeltaRs,
    Polars,
    /// Only where `make test-spark` runs.
    Spark,
}

impl Engine {
    /// Those of `make test`.
    pub(crate) const ALL: [Engine; 3] = [Engine::DuckDb, Engine::DeltaRs, Engine::Polars];

    fn name(self) -> &'static str {
        match self {
            Engine::DuckDb => "duckdb",
            Engine::DeltaRs => "deltalake",
            Engine::Polars => "polars",
            Engine::Spark => "spark",
        }
    }
}

/// The process.
pub(crate) struct Readers {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Readers {
    /// Starts it.
    pub(crate) fn start() -> Readers {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/reader.py");
        let mut child = Command::new(places::reader_python())
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the readers' python starts");
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        Readers { child, to, from }
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let to = self.to.as_mut().expect("the pipe is open");
        writeln!(to, "{request}").map_err(|e| e.to_string())?;
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(|e| e.to_string())?;
        let mut reply: Value = serde_json::from_str(&line).map_err(|e| format!("{e} in {line:?}"))?;
        if reply["ok"] == json!(true) {
            Ok(reply.take())
        } else {
            Err(reply["error"].as_str().unwrap_or("no answer").to_owned())
        }
    }

    /// The rows of a table, in any order, in the canonical spelling. `None`: all columns; newest version.
    pub(crate) fn try_rows(
        &mut self,
        engine: Engine,
        table: &Path,
        version: Option<i64>,
        columns: Option<&[String]>,
    ) -> Result<Vec<Row>, String> {
        let request = json!({
            "op": "rows", "path": table, "reader": engine.name(), "version": version, "columns": columns,
        });
        if engine == Engine::Spark {
            return spark::ask(&request);
        }
        to_rows(&self.ask(&request)?)
    }

    /// The rows of a table in an object store, which needs these settings.
    pub(crate) fn try_stored_rows(
        &mut self,
        engine: Engine,
        table: &str,
        columns: &[String],
        storage: &Value,
    ) -> Result<Vec<Row>, String> {
        let reply = self.ask(&json!({
            "op": "rows", "path": table, "reader": engine.name(), "columns": columns, "storage": storage,
        }))?;
        to_rows(&reply)
    }

    /// SQL over one table, called `t`, by DuckDB.
    pub(crate) fn try_sql(
        &mut self,
        table: &Path,
        version: Option<i64>,
        sql: &str,
    ) -> Result<Vec<Row>, String> {
        let reply = self.ask(&json!({ "op": "sql", "path": table, "version": version, "sql": sql }))?;
        to_rows(&reply)
    }

    /// delta-rs' change data feed from a version on: the columns, the kind of change, the version.
    #[track_caller]
    pub(crate) fn feed(&mut self, table: &Path, from: i64, columns: &[&str]) -> Vec<Row> {
        let reply = self.ask(&json!({ "op": "cdf", "path": table, "version": from, "columns": columns }));
        to_rows(&reply.expect("the feed can be read")).expect("rows")
    }

    /// Writes a small Delta table of somebody else's: three rows.
    #[track_caller]
    pub(crate) fn make_foreign_table(&mut self, table: &Path) {
        self.ask(&json!({ "op": "make_foreign", "path": table })).expect("the table can be written");
    }

    /// Does something to a table as somebody else, with delta-rs. An error says that delta-rs refused.
    pub(crate) fn foreign(&mut self, table: &Path, kind: &str) -> Result<(), String> {
        self.ask(&json!({ "op": "foreign", "path": table, "kind": kind })).map(|_| ())
    }

    /// What delta-rs' `to_pyarrow_table` says.
    pub(crate) fn read_as_pyarrow(&mut self, table: &Path) -> Result<(), String> {
        self.ask(&json!({ "op": "to_pyarrow_table", "path": table })).map(|_| ())
    }

    /// SQL that must succeed.
    #[track_caller]
    pub(crate) fn sql(&mut self, table: &Path, version: Option<i64>, sql: &str) -> Vec<Row> {
        match self.try_sql(table, version, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{error}\n  reading {} at {version:?}", table.display()),
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // The end of its input ends it.
        self.to = None;
        let _status = self.child.wait();
    }
}

/// The rows of an answer.
pub(super) fn to_rows(reply: &Value) -> Result<Vec<Row>, String> {
    let rows = reply["rows"].as_array().ok_or("no rows in the answer")?;
    rows.iter()
        .map(|row| {
            let cells = row.as_array().ok_or("a row that is no list")?;
            Ok(cells.iter().map(|cell| cell.as_str().map(str::to_owned)).collect())
        })
        .collect()
}
