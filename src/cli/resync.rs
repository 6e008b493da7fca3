//! `strandline resync`: copies tables again. Without `--yes` it prints the plan and exits with 2.

use super::args::{Global, Output, ResyncArgs, ResyncMode};
use super::http_client::over_socket;
use super::output::{Failure, err, out, out_json, printable};
use super::wire::inspect::KnownTable;
use super::{Outcome, exit, hold, load_quietly, runtime, socket, wire};
use crate::config::{Config, SinkTarget, TablePattern};
use crate::error::{Error, codes};
use crate::schema::TableName;
use crate::sink::AmendChoice;
use serde_json::json;
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: ResyncArgs) -> Outcome {
    let amend = amend_choice(&args)?;
    let mut names = args.tables.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    names.dedup();
    let config = load_quietly(global)?;
    let known = match args.all || args.plan {
        true => runtime()?.block_on(wire::inspect::tables(&config))?.tables,
        false => Vec::new(),
    };
    if args.all {
        names = every(&known, &config)?;
    }
    for name in &names {
        if !name.is_beside() && !config.tables.covers(name) {
            let error = Error::new(
                codes::CF005,
                format!("the table \"{name}\" is not covered by tables.include and tables.exclude"),
            );
            return Err(error.with_try("add it to tables.include in the configuration").into());
        }
    }
    let tables: Vec<String> = names.iter().map(ToString::to_string).collect();
    if !args.yes {
        plan(global.output, &config, (&tables, amend.as_ref()), &known, args.plan);
        return Ok(ExitCode::from(if args.plan { exit::OK } else { exit::USAGE }));
    }
    if amend.is_none() && is_kafka(&config) && runtime()?.block_on(runs_here(&config)) {
        for name in &tables {
            let path = format!("/api/v1/tables/{}/resync", hold::escaped(name));
            hold::told(global, &config, "POST", &path)?;
        }
        return Ok(ExitCode::from(exit::OK));
    }
    runtime()?.block_on(wire::resync(config, tables.clone(), args.all, amend.clone()))?;
    match global.output {
        Output::Text => out(&format!("requested: {}", tables.join(", "))),
        Output::Json => out_json(&json!({"tables": tables, "mode": mode(amend.as_ref()), "requested": true})),
    }
    Ok(ExitCode::from(exit::OK))
}

/// Delta's control table takes requests; a Kafka pipeline is asked over its socket.
fn is_kafka(config: &Config) -> bool {
    matches!(config.sink.target, SinkTarget::Kafka(_))
}

async fn runs_here(config: &Config) -> bool {
    let asked = over_socket(&socket::path(config), "GET", "/livez").await;
    asked.is_ok_and(|(status, _)| status == 200)
}

/// Every table that the configuration selects in the source, as it is now.
fn every(known: &[KnownTable], config: &Config) -> Result<Vec<TableName>, Failure> {
    let mut names: Vec<TableName> = known.iter().map(|table| table.name.clone()).collect();
    names.sort();
    if names.is_empty() {
        let what = format!("{} has no table that tables.include selects", config.source.address);
        let error = Error::new(codes::CF005, what);
        return Err(error.with_try("strandline tables   shows what there is").into());
    }
    Ok(names)
}

/// How tables are made equal again; `None`: a new copy takes their place.
fn amend_choice(args: &ResyncArgs) -> Result<Option<AmendChoice>, Failure> {
    match (args.mode, &args.condition) {
        (None | Some(ResyncMode::Swap), None) => Ok(None),
        (Some(ResyncMode::Swap), Some(_)) => {
            let what = "--where with --mode swap: a part of a table cannot take the place of the whole";
            Err(Error::new(codes::CF005, what).with_try("leave --mode out, or --where").into())
        }
        (_, condition) => Ok(Some(AmendChoice { condition: condition.clone() })),
    }
}

pub(super) fn parse(text: &str) -> Result<TableName, Failure> {
    let refuse = |what: &str, advice: String| {
        Failure::from(Error::new(codes::CF005, format!("the table \"{text}\" {what}")).with_try(advice))
    };
    let beside = [TableName::messages(), TableName::definitions()];
    if let Some(name) = beside.into_iter().find(|name| name.table == *text) {
        return Ok(name);
    }
    match TablePattern::parse(text) {
        Ok(pattern) => pattern
            .exact()
            .ok_or_else(|| refuse("is a pattern", "name each table, as schema.table".to_owned())),
        Err(refusal) => Err(refuse(&refusal.problem, refusal.advice)),
    }
}

/// As `--mode` has it.
fn mode(amend: Option<&AmendChoice>) -> &'static str {
    if amend.is_some() { "incremental" } else { "swap" }
}

/// What will happen, in words.
fn told(config: &Config, amend: Option<&AmendChoice>) -> (&'static str, String) {
    match amend {
        None if is_kafka(config) => (
            "copy again",
            "Each table is read whole from the source while the others go on. Its rows come to its topic once more, with\n\
             op r, and its changes after them; a consumer by key converges. A row that was deleted while the table stood\n\
             still is not read again, and no event says so."
                .to_owned(),
        ),
        None => (
            "copy again",
            "Each table is read whole from the source while the others go on. Readers see its old rows until\nthe new copy \
             replaces them in one commit; rows that are gone from the source are gone then too."
                .to_owned(),
        ),
        Some(AmendChoice { condition: None }) => (
            "compare and put right",
            "Each table is read whole from the source, part by part, while its stream goes on. Rows that differ are\n\
             written, rows that are gone from the source are removed; all others stay where they are."
                .to_owned(),
        ),
        Some(AmendChoice { condition: Some(sql) }) => (
            "compare and put right",
            format!(
                "Of each table the rows of the source with  {}  are read, while its stream goes on.\nThose that differ \
                 are written. Rows that are gone from the source are NOT removed: that needs the whole table.",
                printable(sql)
            ),
        ),
    }
}

fn plan(
    output: Output,
    config: &Config,
    (tables, amend): (&[String], Option<&AmendChoice>),
    known: &[KnownTable],
    is_asked: bool,
) {
    let size = |name: &String| known.iter().find(|table| table.name.to_string() == *name);
    match output {
        Output::Text => {
            let line = |name: &String| match size(name) {
                Some(KnownTable { rows: Some(rows), bytes, .. }) if *bytes > 0 => {
                    format!("{name}  ~{rows} rows, {} MiB", bytes >> 20)
                }
                Some(KnownTable { rows: Some(rows), .. }) => format!("{name}  ~{rows} rows"),
                Some(_) | None => name.clone(),
            };
            let (what, how) = told(config, amend);
            out(&format!(
                "Will {what}, from {} to {}:\n  {}\n\n{how}{}",
                config.source.address,
                config.sink.target,
                tables.iter().map(line).collect::<Vec<_>>().join("\n  "),
                if is_asked {
                    format!("\nConnections on the source meanwhile: {} more.", config.snapshot.workers + 1)
                } else {
                    String::new()
                },
            ));
            if !is_asked {
                err("nothing was done: add --yes to do it");
            }
        }
        Output::Json => out_json(&json!({
            "tables": tables,
            "mode": mode(amend),
            "where": amend.and_then(|amend| amend.condition.as_deref()),
            "estimates": tables.iter().map(|name| json!({
                "table": name,
                "rows": size(name).and_then(|table| table.rows),
                "bytes": size(name).map(|table| table.bytes).filter(|bytes| *bytes > 0),
            })).collect::<Vec<_>>(),
            "source": config.source.address.to_string(),
            "sink": config.sink.target.to_string(),
            "requested": false,
            "try": "add --yes to do it",
        })),
    }
}
