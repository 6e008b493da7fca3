//! `strandline tables`: the tables with their states, from the running process or from what is recorded.

use super::args::{Global, Output};
use super::output::{Grid, out, out_json, printable};
use super::{Outcome, exit, load_quietly, runtime, status};
use crate::telemetry::status::{PositionText, TableStatus};
use serde_json::json;
use std::process::ExitCode;

pub(super) fn command(global: &Global) -> Outcome {
    let config = load_quietly(global)?;
    let status = runtime()?.block_on(status::ask(config))?;
    match global.output {
        Output::Json => out_json(&json!({"name": status.name, "tables": status.tables})),
        Output::Text if status.tables.is_empty() => {
            out("no table is known yet; strandline run makes the first copies")
        }
        Output::Text => {
            let mut grid = Grid::new(&["TABLE", "STATE", "POSITION", "VERSION", ""]);
            for table in &status.tables {
                grid.row(row(table));
            }
            out(grid.text().trim_end());
        }
    }
    Ok(ExitCode::from(exit::OK))
}

fn row(table: &TableStatus) -> Vec<String> {
    let shown = |position: Option<PositionText>| position.map_or("-".to_owned(), |p| p.to_string());
    let note = match (&table.code, status::copied(table)) {
        (Some(code), _) => {
            format!("{code} {}", printable(table.message.as_deref().unwrap_or_default()))
        }
        (None, copied) => copied.trim_start().to_owned(),
    };
    vec![
        printable(&table.name),
        table.state.to_string(),
        shown(table.position),
        table.version.map_or("-".to_owned(), |v| v.to_string()),
        note,
    ]
}
