//! What `strandline target` asks of the concrete target.

use super::wire::delta;
use crate::config::Config;
use crate::error::{Error, Result, codes};
use crate::schema::TableName;
use crate::sink::Cut;
pub(super) use crate::sink::delta::{Optimized, TableReport, Vacuumed};
use std::time::Duration;

/// The tables that are meant: those that are named, else all of the last cut.
async fn meant(cfg: &Config, named: Vec<TableName>) -> Result<Vec<TableName>> {
    if !named.is_empty() {
        return Ok(named);
    }
    Ok(cut(cfg, &|_| true).await?.tables.into_values().map(|table| table.name).collect())
}

/// Looks at tables.
///
/// # Errors
/// Those of the target.
pub(super) async fn inspect(cfg: &Config, tables: Vec<TableName>) -> Result<Vec<TableReport>> {
    let sink = delta(cfg)?;
    let mut found = Vec::new();
    for table in meant(cfg, tables).await? {
        found.push(sink.inspect(&table).await?);
    }
    Ok(found)
}

/// Deletes what nobody can need, or says what that would be.
///
/// # Errors
/// Those of the target.
pub(super) async fn vacuum(
    cfg: &Config,
    tables: Vec<TableName>,
    retention: Option<Duration>,
    really: bool,
) -> Result<Vec<(TableName, Vacuumed)>> {
    let sink = delta(cfg)?;
    let mut done = Vec::new();
    for table in meant(cfg, tables).await? {
        let vacuumed = sink.vacuum(&table, retention, really).await?;
        done.push((table, vacuumed));
    }
    Ok(done)
}

/// Makes few whole files of many.
///
/// # Errors
/// Those of the target.
pub(super) async fn optimize(cfg: &Config, tables: Vec<TableName>) -> Result<Vec<(TableName, Optimized)>> {
    let sink = delta(cfg)?;
    let mut done = Vec::new();
    for table in meant(cfg, tables).await? {
        let optimized = sink.optimize(&table).await?;
        done.push((table, optimized));
    }
    Ok(done)
}

/// Tables and where they are.
///
/// # Errors
/// Those of the target.
pub(super) async fn locations(cfg: &Config, tables: Vec<TableName>) -> Result<Vec<(TableName, String)>> {
    let sink = delta(cfg)?;
    meant(cfg, tables).await?.into_iter().map(|name| Ok((name.clone(), sink.location(&name)?))).collect()
}

/// The newest cut that is as wanted.
///
/// # Errors
/// `TG020` when there is none; those of the target.
pub(super) async fn cut(cfg: &Config, wanted: &(dyn Fn(&Cut) -> bool + Sync)) -> Result<Cut> {
    delta(cfg)?.find_cut(wanted).await?.ok_or_else(|| {
        Error::new(
            codes::TG020,
            format!("the pipeline \"{}\" has no such cut at {}", cfg.name, cfg.sink.target),
        )
        .with_try("older cuts than a day are deleted; without --at the newest is taken")
    })
}
