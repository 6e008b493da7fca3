//! Tables that are put right where they are: what can be known before anybody is asked.

use super::{
    AmendChoice, BTreeSet, Config, DeltaSink, Metrics, Request, Result, RunOptions, Snapshot, Sql,
    StatusBoard, StopSignal, TableName, Until, ask, catalog_with, model, pg_settings, runtime_options, slot,
    start, store_options,
};
use crate::error::{Error, codes};
use crate::schema::TableSchema;
use crate::sink::write::{Deletes, Truncates, WriteMode};
use crate::sink::{RefusedRequest, Sink};
use crate::source::postgres::quote;

/// Has these tables put right: by the process that runs, or here.
///
/// # Errors
/// `TG029` for a table that cannot be, `CF005` for a condition that the server refuses; as a resync.
pub(super) async fn amend(cfg: Config, names: BTreeSet<TableName>, choice: AmendChoice) -> Result<()> {
    let refuse = |what: String| {
        Error::new(codes::TG029, what)
            .with_try("resync --mode swap: a new copy takes the place of the old rows")
    };
    let model::SinkTarget::Delta { uri } = &cfg.sink.target else {
        return Err(refuse("the target holds events, which are never changed".to_owned()));
    };
    if cfg.source.kind == model::SourceKind::MySql {
        return Err(refuse("with MySQL and MariaDB, tables are not put right where they are yet".to_owned()));
    }
    let settings = pg_settings(&cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let catalog = catalog_with(&sql, &settings, &names).await?;
    let sink = DeltaSink::open(uri.as_str(), &cfg.name, &store_options(&cfg))?;
    let record = sink.peek().await?.unwrap_or_default();
    for table in catalog.tables.iter().filter(|table| names.contains(table.name())) {
        if let Some(why) = why_not(&cfg, &table.schema) {
            return Err(refuse(format!("table \"{}\": {why}", table.name())));
        }
        if record.stopped.values().any(|stopped| stopped.name == *table.name()) {
            let what = "it is stopped, and where its rows are in the source's history is not known";
            return Err(refuse(format!("table \"{}\": {what}", table.name())));
        }
        if let Some(condition) = &choice.condition {
            // The same brackets as when it is read.
            let query =
                format!("SELECT 1 FROM {} WHERE (\n{condition}\n) LIMIT 0", quote::table(table.name()));
            sql.rows(&query).await.map_err(|e| {
                let what = format!("table \"{}\": the server does not take the condition", table.name());
                let error = Error::new(codes::CF005, what).with_source(e);
                error.with_try("write it as after WHERE, with columns of the source's table")
            })?;
        }
    }
    let slot = settings.options.slot.clone();
    let is_there = async || Ok(slot::inspect(&sql, &slot).await?.is_some_and(|s| s.active_pid.is_some()));
    if is_there().await? {
        tracing::info!("a process of this pipeline runs: it is asked to put the tables right");
        if ask(&sink, &names, Some(choice.clone()), is_there).await? {
            return Ok(());
        }
    } else {
        for table in names.iter().cloned() {
            let id = uuid::Uuid::new_v4().simple().to_string();
            sink.request(&Request { id, table, amend: Some(choice.clone()) }).await?;
        }
    }
    // The requests are on record: whoever runs meets them before it has caught up.
    let options = runtime_options(&cfg, RunOptions { until: Until::CaughtUp, snapshot: Snapshot::AsNeeded });
    let board = StatusBoard::new(&cfg.name);
    let (_sender, stop) = StopSignal::pair();
    let metrics = Metrics::new(&board);
    start(cfg, options, board, metrics, stop).await?;
    let now = sink.peek().await?.unwrap_or_default();
    let is_new =
        |refused: &&RefusedRequest| names.contains(&refused.table) && !record.refused.contains(refused);
    if let Some(refused) = now.refused.iter().find(is_new) {
        return Err(Error::new(refused.code, refused.message.clone()));
    }
    if now.requests.iter().any(|request| request.amend.is_some() && names.contains(&request.table)) {
        let what = "the request waits still: its rows are not known to be right";
        return Err(Error::new(codes::TG029, what).with_try("strandline run   goes on with it"));
    }
    Ok(())
}

/// Why a table cannot be put right where it is, as far as the configuration and its form say.
fn why_not(cfg: &Config, schema: &TableSchema) -> Option<&'static str> {
    let choice = cfg.sink.choices.of(&schema.name);
    match choice.write {
        _ if !schema.has_key() => Some("it has no key, and is a change log, which is never changed"),
        WriteMode::Append => Some("it is written as a change log, which is never changed"),
        WriteMode::Both => Some("the change log beside it would not tell of what is put right"),
        _ if choice.deletes == Deletes::Soft || choice.truncates == Truncates::Soft => {
            Some("its deleted rows stay, and cannot be told from rows that the source never had")
        }
        _ => None,
    }
}
