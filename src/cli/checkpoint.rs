//! `strandline checkpoint show|export`: the pipeline's own record in the target, as it is. Nothing is changed.

use super::args::{Checkpoint, CheckpointArgs, Global, Output};
use super::output::{Grid, out, out_json, printable};
use super::{Outcome, exit, load_quietly, runtime, wire};
use crate::error::{Error, codes};
use crate::sink::PipelineRecord;
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &CheckpointArgs) -> Outcome {
    let config = load_quietly(global)?;
    let record = runtime()?.block_on(wire::inspect::record(&config))?;
    let Some(record) = record else {
        let what = format!("there is no record of a pipeline \"{}\" in {}", config.name, config.sink.target);
        return Err(Error::new(codes::CF005, what)
            .with_try("strandline run makes it; check name and sink in the configuration")
            .into());
    };
    match (&args.what, global.output) {
        (Checkpoint::Show, Output::Text) => out(text(&config.name, &record).trim_end()),
        _ => out_json(&wire::inspect::record_json(&config.name, &record)),
    }
    Ok(ExitCode::from(exit::OK))
}

fn text(name: &str, record: &PipelineRecord) -> String {
    let mut text = format!("pipeline  {name}\n");
    if let Some(lineage) = &record.lineage {
        let _ok = writeln!(
            text,
            "source    database {}, system {}, timeline {}",
            printable(&lineage.database),
            lineage.system_id,
            lineage.timeline
        );
    }
    let Some(cut) = &record.cut else {
        text.push_str("cut       none yet\n");
        return text;
    };
    let _ok = writeln!(text, "cut       {}", cut.position);
    if let Some(witness) = cut.witness {
        let _ok = writeln!(text, "witness   transaction {} that ends at {}", witness.xid, witness.end);
    }
    let mut grid = Grid::new(&["TABLE", "POSITION", "VERSION", "TARGET ID"]);
    for table in cut.tables.values() {
        grid.row(vec![
            printable(&table.name.to_string()),
            table.position.to_string(),
            table.version.to_string(),
            table.target_id.clone(),
        ]);
    }
    for table in record.stopped.values() {
        let stopped = format!("stopped: {}", table.code);
        grid.row(vec![
            printable(&table.name.to_string()),
            table.position.to_string(),
            "-".to_owned(),
            stopped,
        ]);
    }
    text.push_str(&grid.text());
    for request in &record.requests {
        let _ok =
            writeln!(text, "request   {}: copy {} again", request.id, printable(&request.table.to_string()));
    }
    text
}
