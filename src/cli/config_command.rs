//! `strandline config show|schema|diff`.

use super::args::{ConfigArgs, ConfigCommand, Global, Output};
use super::output::{out, out_json, printable};
use super::{Outcome, exit, load_quietly, runtime, wire};
use crate::config::{self, Config};
use crate::error::Result;
use crate::schema::TableName;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &ConfigArgs) -> Outcome {
    match args.what {
        ConfigCommand::Schema => out_json(&config::json_schema()),
        ConfigCommand::Show => {
            let config = load_quietly(global)?;
            let value = config::effective(&config);
            match global.output {
                Output::Json => out_json(&value),
                Output::Text => {
                    out(&format!("# {}, with all defaults; secrets are masked", config.origin));
                    out(config::yaml(&value).trim_end());
                }
            }
        }
        ConfigCommand::Diff => {
            let config = load_quietly(global)?;
            let diff = runtime()?.block_on(Diff::of(&config))?;
            diff.print(global.output);
        }
    }
    Ok(ExitCode::from(exit::OK))
}

/// What the next start changes.
struct Diff {
    /// With the source's estimate of rows and bytes.
    added: Vec<(TableName, Option<u64>, u64)>,
    removed: Vec<TableName>,
    kept: usize,
    refused: Vec<(TableName, String)>,
}

impl Diff {
    async fn of(config: &Config) -> Result<Diff> {
        let record = wire::inspect::record(config).await?.unwrap_or_default();
        let known = wire::inspect::tables(config).await?;
        let cut = record.cut.iter().flat_map(|cut| cut.tables.values().map(|t| t.name.clone()));
        let held: BTreeSet<TableName> = cut.chain(record.stopped.values().map(|t| t.name.clone())).collect();
        let wanted: BTreeSet<TableName> = known.tables.iter().map(|t| t.name.clone()).collect();
        let refused = known.refused;
        Ok(Diff {
            added: known
                .tables
                .iter()
                .filter(|t| !held.contains(&t.name))
                .map(|t| (t.name.clone(), t.rows, t.bytes))
                .collect(),
            removed: held
                .iter()
                .filter(|name| !wanted.contains(name) && !refused.iter().any(|(other, _)| other == *name))
                .cloned()
                .collect(),
            kept: wanted.intersection(&held).count(),
            refused,
        })
    }

    fn print(&self, output: Output) {
        if output == Output::Json {
            let name = |name: &TableName| name.to_string();
            out_json(&json!({
                "add": self.added.iter().map(|(table, rows, bytes)| json!({
                    "table": name(table), "rows_estimate": rows, "bytes": bytes,
                })).collect::<Vec<_>>(),
                "remove": self.removed.iter().map(name).collect::<Vec<_>>(),
                "keep": self.kept,
                "refused": self.refused.iter().map(|(table, why)| json!({
                    "table": name(table), "why": why,
                })).collect::<Vec<_>>(),
            }));
            return;
        }
        for (table, rows, bytes) in &self.added {
            let rows =
                rows.map_or("an unknown number of rows".to_owned(), |rows| format!("about {rows} rows"));
            out(&format!("+ {}   to be copied: {rows}, {} MiB", printable(&table.to_string()), bytes >> 20));
        }
        for table in &self.removed {
            out(&format!(
                "- {}   no longer followed; the target keeps its rows",
                printable(&table.to_string())
            ));
        }
        for (table, why) in &self.refused {
            out(&format!("! {}   cannot be replicated: {}", printable(&table.to_string()), printable(why)));
        }
        out(&format!("  {} tables stay as they are", self.kept));
    }
}
