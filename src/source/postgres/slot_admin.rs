//! The slot in an operator's hands: shown, made, advanced, dropped.
//!
//! Each change is a statement that is shown first and run only when that was asked for. Advancing skips changes for
//! good: the next start finds the slot past what the tables hold, and stops (`PG041`) instead of going on with a gap.

use super::options::PgOptions;
use super::publication;
use super::quote::literal;
use super::slot::{self, SlotState};
use super::sql::{Sql, field};
use crate::error::{Error, Result, codes};
use crate::position::Lsn;

/// What an operator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// To see it.
    Show,
    /// To make it, without a copy of anything.
    Create,
    /// To move it on, past changes that nobody will get.
    Advance(Lsn),
    /// To drop it.
    Drop,
}

/// What is there, and what is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The slot.
    pub slot: Option<SlotState>,
    /// The statement; `None`: there is nothing to do.
    pub statement: Option<String>,
    /// What follows from it, for people.
    pub remark: Option<String>,
}

/// Looks, and plans.
///
/// Errors: PG013 for a slot that is not one of ours, PG011 while somebody reads from it, PG040 when there is none to
/// move, PG007 when a publication is missing, CF005 for a position that it cannot be moved to.
pub async fn plan(sql: &Sql, options: &PgOptions, wish: Wish) -> Result<Plan> {
    let found = slot::inspect(sql, &options.slot).await?;
    let name = literal(&options.slot);
    let (statement, remark) = match (wish, &found) {
        (Wish::Show, _) => (None, None),
        (Wish::Create, Some(state)) => {
            state.check_usable(options)?;
            (None, Some("it is there already".to_owned()))
        }
        (Wish::Create, None) => {
            published(sql, options).await?;
            let failover = if sql.major() >= 17 && options.failover { ", failover => true" } else { "" };
            let statement =
                format!("SELECT pg_create_logical_replication_slot({name}, 'pgoutput'{failover});");
            (Some(statement), Some("from now on the server keeps WAL for it".to_owned()))
        }
        (Wish::Advance(_), None) => {
            let what = format!("replication slot \"{}\" does not exist", options.slot);
            return Err(Error::new(codes::PG040, what).with_try("strandline slot create --yes"));
        }
        (Wish::Advance(to), Some(state)) => {
            state.check_usable(options)?;
            state.check_free(options)?;
            check_between(sql, state, to).await?;
            let statement = format!("SELECT pg_replication_slot_advance({name}, '{to}');");
            let remark = "the changes before it are skipped for good: unless every table holds them, the next run \
                          stops with PG041, and the tables must be copied again";
            (Some(statement), Some(remark.to_owned()))
        }
        (Wish::Drop, None) => (None, Some("it is not there".to_owned())),
        (Wish::Drop, Some(state)) => {
            // A slot that lost its WAL is of no use, and may go.
            match state.check_usable(options) {
                Err(error) if error.code() != codes::PG046 => return Err(error),
                Ok(()) | Err(_) => {}
            }
            state.check_free(options)?;
            let remark =
                "the changes that were not applied are lost to the tables: the next run stops with PG040";
            (Some(format!("SELECT pg_drop_replication_slot({name});")), Some(remark.to_owned()))
        }
    };
    Ok(Plan { slot: found, statement, remark })
}

/// Does it.
///
/// Errors: the server's.
pub async fn run(sql: &Sql, plan: &Plan) -> Result<()> {
    match &plan.statement {
        Some(statement) => sql.rows(statement).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Decoding knows only publications that are older than the slot.
async fn published(sql: &Sql, options: &PgOptions) -> Result<()> {
    let missing = publication::missing(sql, std::slice::from_ref(&options.publication)).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let what =
        format!("publication \"{}\" does not exist, and must be older than the slot", options.publication);
    Err(Error::new(codes::PG007, what).with_try("strandline setup"))
}

async fn check_between(sql: &Sql, state: &SlotState, to: Lsn) -> Result<()> {
    let confirmed = state.confirmed_flush.unwrap_or(Lsn::ZERO);
    let end: Lsn = field(&sql.row("SELECT pg_catalog.pg_current_wal_lsn()").await?, 0)?;
    if to > confirmed && to <= end {
        return Ok(());
    }
    let what = format!("the slot is at {confirmed} and the log ends at {end}: it cannot be moved to {to}");
    Err(Error::new(codes::CF005, what).with_try("a position between the two"))
}
