//! `strandline target`: the tables, looked at and kept; nothing here takes the pipeline over.

use super::args::{Global, Output, System, Target};
use super::output::{Failure, err, out, out_json};
use super::wire_target::{self, TableReport};
use super::{Outcome, exit, load_quietly, runtime};
use crate::config::{Config, TablePattern, parse_duration};
use crate::error::{Error, codes};
use crate::position::Lsn;
use crate::schema::TableName;
use crate::sink::Cut;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

pub(super) fn command(global: &Global, what: Target) -> Outcome {
    let config = load_quietly(global)?;
    let runtime = runtime()?;
    match what {
        Target::Inspect { tables } => {
            let found = runtime.block_on(wire_target::inspect(&config, names(&tables)?))?;
            match global.output {
                Output::Json => out_json(&json!({"tables": found})),
                Output::Text => found.iter().for_each(|report| out(&told(report))),
            }
        }
        Target::Optimize { tables } => {
            let done = runtime.block_on(wire_target::optimize(&config, names(&tables)?))?;
            match global.output {
                Output::Json => out_json(&json!({"tables": done.iter().map(|(name, optimized)| {
                    json!({"table": name.to_string(), "done": optimized})
                }).collect::<Vec<_>>()})),
                Output::Text => done.iter().for_each(|(name, o)| {
                    out(&format!(
                        "{name}: {} files became {}, {} deleted rows dropped, {} bytes read, {} written, {} commits",
                        o.files_before, o.files_after, o.dropped_rows, o.bytes_read, o.bytes_written, o.commits
                    ));
                }),
            }
        }
        Target::Vacuum { tables, retention, yes } => {
            let retention = match retention.as_deref().map(parse_duration) {
                None => None,
                Some(Ok(retention)) => Some(retention),
                Some(Err(refusal)) => {
                    let what = format!("--retention {}", refusal.problem);
                    return Err(Error::new(codes::CF005, what).with_try(refusal.advice).into());
                }
            };
            let done = runtime.block_on(wire_target::vacuum(&config, names(&tables)?, retention, yes))?;
            let rows = done.iter().map(|(name, v)| {
                json!({"table": name.to_string(), "files": v.files, "bytes": v.bytes, "log_files": v.log_files})
            });
            match global.output {
                Output::Json => out_json(&json!({"tables": rows.collect::<Vec<_>>(), "done": yes})),
                Output::Text => {
                    let verb = if yes { "deleted" } else { "would delete" };
                    for (name, v) in &done {
                        out(&format!("{name}: {verb} {} files, {} bytes", v.files, v.bytes));
                    }
                    if !yes {
                        err("nothing was done: add --yes to do it");
                    }
                }
            }
            return Ok(ExitCode::from(if yes { exit::OK } else { exit::USAGE }));
        }
        Target::RegisterSql { tables, system } => {
            let found = runtime.block_on(wire_target::locations(&config, names(&tables)?))?;
            let statements: Vec<String> =
                found.iter().map(|(name, uri)| register(system, name, uri)).collect();
            match global.output {
                Output::Json => out_json(&json!({"statements": statements})),
                Output::Text => statements.iter().for_each(|statement| out(statement)),
            }
        }
        Target::Cut { at } => {
            let cut = runtime.block_on(find_cut(&config, at.as_deref()))?;
            let located = cut.tables.values().map(|table| table.name.clone()).collect();
            let located = runtime.block_on(wire_target::locations(&config, located))?;
            show_cut(global.output, &cut, &located);
        }
    }
    Ok(ExitCode::from(exit::OK))
}

fn names(texts: &[String]) -> Result<Vec<TableName>, Failure> {
    texts
        .iter()
        .map(|text| {
            TablePattern::parse(text).ok().and_then(|pattern| pattern.exact()).ok_or_else(|| {
                Error::new(codes::CF005, format!("\"{text}\" is not a table"))
                    .with_try("name it as schema.table, for example public.orders")
                    .into()
            })
        })
        .collect()
}

async fn find_cut(config: &Config, at: Option<&str>) -> Result<Cut, Error> {
    let Some(at) = at else { return wire_target::cut(config, &|_| true).await };
    if let Ok(lsn) = at.parse::<Lsn>() {
        return wire_target::cut(config, &move |cut| cut.position.lsn() <= lsn).await;
    }
    let time = chrono::DateTime::parse_from_rfc3339(at).map_err(|e| {
        Error::new(codes::CF005, format!("--at \"{at}\" is neither a log position nor a time"))
            .with_source(e)
            .with_try("write 16/B374D848, or 2026-01-31T12:00:00Z")
    })?;
    let until = time.timestamp_micros() - EPOCH_2000;
    // A cut before the first transaction holds what the copies held, of which nobody knows the time.
    wire_target::cut(config, &move |cut| cut.witness.is_some_and(|witness| witness.commit_time <= until))
        .await
}

fn show_cut(output: Output, cut: &Cut, located: &[(TableName, String)]) {
    let committed = cut.witness.and_then(|witness| {
        let time = chrono::DateTime::from_timestamp_micros(witness.commit_time.saturating_add(EPOCH_2000))?;
        Some(time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
    });
    let uri = |name: &TableName| {
        located.iter().find(|(other, _)| other == name).map_or("", |(_, uri)| uri.as_str()).to_owned()
    };
    if output == Output::Json {
        let tables: Vec<Value> = cut
            .tables
            .values()
            .map(|table| {
                json!({
                    "table": table.name.to_string(), "uri": uri(&table.name), "version": table.version,
                    "id": table.target_id, "position": table.position.to_string(),
                })
            })
            .collect();
        return out_json(&json!({
            "position": cut.position.to_string(), "committed_at": committed, "tables": tables,
        }));
    }
    let time = committed.map_or(String::new(), |time| format!(", the last transaction was committed {time}"));
    out(&format!("-- all tables at {}{time}", cut.position));
    for table in cut.tables.values() {
        let (name, version) = (&table.name, table.version);
        let place = uri(name);
        out(&duckdb_view(name, &format!("{}, version = {version}", literal(&place))));
        out(&format!("-- Spark: select * from delta.`{place}` version as of {version}"));
    }
}

fn register(system: System, name: &TableName, uri: &str) -> String {
    let (schema, table) = (&name.schema, &name.table);
    match system {
        System::DuckDb => duckdb_view(name, &literal(uri)),
        System::Spark => format!(
            "CREATE SCHEMA IF NOT EXISTS `{0}`;\nCREATE TABLE IF NOT EXISTS `{0}`.`{1}` USING DELTA LOCATION {2};",
            schema.replace('`', "``"),
            table.replace('`', "``"),
            literal(uri)
        ),
        System::Trino => format!(
            "CALL delta.system.register_table(schema_name => {}, table_name => {}, table_location => {});",
            literal(schema),
            literal(table),
            literal(uri)
        ),
        System::Athena => format!(
            "CREATE EXTERNAL TABLE `{}`.`{}` LOCATION {} TBLPROPERTIES ('table_type' = 'DELTA');",
            schema.replace('`', "``"),
            table.replace('`', "``"),
            literal(&format!("{uri}/"))
        ),
    }
}

/// A view of what `delta_scan` gives.
fn duckdb_view(name: &TableName, scanned: &str) -> String {
    format!(
        "create schema if not exists {};\ncreate or replace view {} as select * from delta_scan({scanned});",
        quoted(&name.schema),
        both(name),
    )
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn both(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.table))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn told(report: &TableReport) -> String {
    let debt = report.deleted_rows as f64 * 100.0 / (report.rows + report.deleted_rows).max(1) as f64;
    format!(
        "{}  version {}  position {}  {}\n  {}\n  {} rows, {} files ({} small), {} bytes\n  read debt: {} deleted rows in {} files, {debt:.1} %\n  \
         reader version {}, writer version {}{}",
        report.table,
        report.version,
        report.position.as_deref().unwrap_or("none yet"),
        report.write,
        report.uri,
        report.rows,
        report.files,
        report.small_files,
        report.bytes,
        report.deleted_rows,
        report.files_with_deletions,
        report.reader_version,
        report.writer_version,
        if report.features.is_empty() { String::new() } else { format!(" ({})", report.features.join(", ")) },
    )
}
