//! `strandline binlog show`: the files of a MySQL's or MariaDB's binary log, where it ends, and where the pipeline stands in it.

use super::args::{BinlogArgs, BinlogCommand, Global, Output};
use super::output::{Grid, out, out_json};
use super::{Outcome, exit, load_quietly, runtime, wire};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &BinlogArgs) -> Outcome {
    let BinlogCommand::Show = args.command;
    let config = load_quietly(global)?;
    let log = runtime()?.block_on(wire::binlog(&config))?;
    match global.output {
        Output::Json => {
            let files: Vec<Value> =
                log.files.iter().map(|(name, bytes)| json!({"file": name, "bytes": bytes})).collect();
            out_json(&json!({
                "server": log.server, "end": log.end, "position": log.position, "executed": log.executed,
                "files": files,
            }));
        }
        Output::Text => {
            out(&format!("server    {}", log.server));
            out(&format!("ends at   {}", log.end));
            out(&format!("position  {}", log.position.as_deref().unwrap_or("nothing is recorded yet")));
            if !log.executed.is_empty() {
                out(&format!("executed  {}", log.executed));
            }
            let mut grid = Grid::new(&["FILE", "BYTES"]);
            for (name, bytes) in &log.files {
                grid.row(vec![name.clone(), bytes.to_string()]);
            }
            out(grid.text().trim_end());
        }
    }
    Ok(ExitCode::from(exit::OK))
}
