//! The signal table, as Debezium's users know it: who may write a row into it asks for what `POST /api/signals` takes.
//!
//! A row is taken by deleting it, in a transaction that ends after it was done. A death in between does it again, which is
//! harmless: a copy begins anew, a pause is a pause. Who may write there may make this pipeline work: it belongs to its owner.

use super::{Config, Result, Sql, pg_options};
use crate::error::{Error, codes};
use crate::http::{Face, signal_of};
use crate::schema::TableName;
use crate::source::postgres::quote;
use std::time::Duration;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Rows of one look.
const AT_ONCE: usize = 100;

/// Whether the configuration asks for something that is not there.
///
/// # Errors
/// `CF004` for a source that is no PostgreSQL.
pub fn check(cfg: &Config) -> Result<()> {
    if cfg.signals.is_some() && cfg.source.kind != crate::config::SourceKind::Postgres {
        return Err(Error::new(codes::CF004, "signals.table is built for PostgreSQL only")
            .with_try("use POST /api/signals, or the command line"));
    }
    Ok(())
}

/// Looks for rows, for ever. A source that is away is looked at again: who streams tells of it.
pub async fn follow(cfg: Config, face: Face) {
    let Some(table) = cfg.signals.clone() else { return };
    let mut told = None;
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sql: Option<Sql> = None;
    loop {
        every.tick().await;
        let looked = match &sql {
            Some(sql) => look(sql, &table, &face).await,
            None => match connected(&cfg).await {
                Ok(fresh) => look(sql.insert(fresh), &table, &face).await,
                Err(error) => Err(error),
            },
        };
        match looked {
            Ok(()) => told = None,
            Err(error) => {
                // A transaction that is half done goes with its connection.
                sql = None;
                if told != Some(error.code()) {
                    let advice = "CREATE TABLE … (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text); GRANT SELECT, DELETE ON … TO the role";
                    tracing::warn!(code = %error.code(), %table, "the signal table cannot be read: {}; {advice}", error.cause_line());
                    told = Some(error.code());
                }
            }
        }
    }
}

async fn connected(cfg: &Config) -> Result<Sql> {
    Sql::connect(&pg_options(cfg).await?).await
}

async fn look(sql: &Sql, table: &TableName, face: &Face) -> Result<()> {
    let name = quote::table(table);
    if sql.rows(&format!("SELECT 1 FROM {name} LIMIT 1")).await?.is_empty() {
        return Ok(());
    }
    sql.rows("BEGIN").await?;
    let taken = sql
        .rows(&format!(
            "DELETE FROM {name} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {name} ORDER BY ctid LIMIT {AT_ONCE})) \
             RETURNING id::text, type::text, data::text"
        ))
        .await?;
    for row in taken {
        let cell = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        match signal_of(face, cell(0), cell(1), &cell(2)).await {
            Ok(text) => tracing::info!(signal = %cell(0).escape_debug(), "{text}"),
            Err(why) => tracing::warn!(signal = %cell(0).escape_debug(), "not done: {why}"),
        }
    }
    sql.rows("COMMIT").await?;
    Ok(())
}
