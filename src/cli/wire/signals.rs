//! The signal table, as Debezium's users know it: who may write a row into it asks for what `POST /api/signals` takes.
//!
//! A row is taken by deleting it, in a transaction of its own that ends after it was done. A death in between does it again,
//! which is harmless: a copy begins anew, a pause is a pause. What could not be done yet stays, and so does what follows it:
//! the order is theirs. What can never be done (a word that is not known, a table that is not ours) goes with a warning.
//!
//! Only a pipeline that is at work looks ([`is_at_work`]): one that starts knows its tables not yet, and one that waits for
//! the slot would take what another process is to do.
//!
//! Who may write there may make this pipeline work: it belongs to its owner.

use super::{Config, Result, Sql, pg_options};
use crate::error::{Error, codes};
use crate::http::{Face, Undone, signal_of};
use crate::schema::TableName;
use crate::source::postgres::quote;
use crate::telemetry::Status;
use crate::telemetry::status::PipelineState;
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
    let (mut told, mut waiting) = (None, None);
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sql: Option<Sql> = None;
    loop {
        every.tick().await;
        if !face.board.read(is_at_work) {
            sql = None;
            continue;
        }
        let looked = match &sql {
            Some(sql) => look(sql, &table, &face, &mut waiting).await,
            None => match connected(&cfg).await {
                Ok(fresh) => look(sql.insert(fresh), &table, &face, &mut waiting).await,
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

/// Whether this process holds the source and knows its tables.
fn is_at_work(status: &Status) -> bool {
    use PipelineState as P;
    matches!(status.phase, P::Snapshotting | P::CatchingUp | P::Streaming | P::Paused)
        && status.retrying.is_none()
}

async fn look(sql: &Sql, table: &TableName, face: &Face, waiting: &mut Option<String>) -> Result<()> {
    let name = quote::table(table);
    let found = sql.rows(&format!("SELECT ctid::text FROM {name} ORDER BY ctid LIMIT {AT_ONCE}")).await?;
    for at in found.into_iter().filter_map(|row| row.into_iter().next().flatten()) {
        if !face.board.read(is_at_work) {
            return Ok(());
        }
        sql.rows("BEGIN").await?;
        let taken = sql
            .rows(&format!(
                "DELETE FROM {name} WHERE ctid = {} RETURNING id::text, type::text, data::text",
                quote::literal(&at)
            ))
            .await?;
        let is_done = match taken.first() {
            Some(row) => take(row, face, waiting).await,
            // Its writer has changed or deleted it meanwhile.
            None => true,
        };
        sql.rows(if is_done { "COMMIT" } else { "ROLLBACK" }).await?;
        if !is_done {
            return Ok(());
        }
    }
    Ok(())
}

/// Does what a row asks for; false: not yet. `waiting`: of whom that was said.
async fn take(row: &[Option<String>], face: &Face, waiting: &mut Option<String>) -> bool {
    let cell = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let id = cell(0).escape_debug().to_string();
    match signal_of(face, cell(0), cell(1), &cell(2)).await {
        Ok(text) => tracing::info!(signal = %id, "{text}"),
        Err(Undone::Never(why)) => tracing::warn!(signal = %id, "not done, and taken away: {why}"),
        Err(Undone::NotYet(why)) => {
            if waiting.as_ref() != Some(&id) {
                tracing::warn!(signal = %id, "not done yet, and tried again: {why}");
                *waiting = Some(id);
            }
            return false;
        }
    }
    *waiting = None;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::StatusBoard;

    #[test]
    fn only_who_holds_the_source_looks() {
        let board = StatusBoard::new("shop");
        for phase in PipelineState::ALL {
            board.set_phase(*phase);
            use PipelineState as P;
            let expected = matches!(phase, P::Snapshotting | P::CatchingUp | P::Streaming | P::Paused);
            assert_eq!(board.read(is_at_work), expected, "{phase}");
        }
        board.set_phase(PipelineState::Streaming);
        board.set_retrying(&Error::new(codes::PG006, "away"));
        assert!(!board.read(is_at_work), "another process may have the slot by now");
    }
}
