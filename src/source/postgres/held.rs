//! Waiting for a slot that another process of the server reads.
//!
//! Who holds it may be alive: another strandline. Or it is what a lost connection left behind: the server has not noticed
//! that its client is gone, and gives it up after `wal_sender_timeout`. The two are told apart by the slot, which moves
//! when its reader acknowledges a heartbeat that we write, and by the time of the reader's last answer, where our role may
//! see that. For one that is alive we wait a moment, because it may be about to end; for one that is silent, until the
//! server has had its time. Nobody's session is ended by us.
//!
//! A slot that the server is still making is held by whoever asked for it: that may be a process of ours that was killed,
//! and then the slot goes with its session.

use super::options::PgOptions;
use super::quote::literal;
use super::slot;
use super::sql::{Sql, field, text};
use crate::error::{Error, Result, codes};
use std::time::Duration;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(250);
/// It is said again so often.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The server looks at its timeouts now and then only.
const MARGIN: Duration = Duration::from_secs(10);

/// Who holds the slot.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Holder {
    pid: i32,
    who: String,
    /// When it last answered; `None`: we may not see that.
    answered: Option<String>,
    /// What it has acknowledged.
    acknowledged: Option<String>,
}

/// A wait.
pub(super) struct Waiting {
    began: Instant,
    patience: Duration,
    first: Option<Holder>,
    /// It has answered since the wait began, or another one holds the slot.
    is_alive: bool,
    said: Option<Instant>,
}

impl Waiting {
    /// Begins. `patience`: for one that is alive.
    pub(super) fn new(patience: Duration) -> Self {
        Waiting { began: Instant::now(), patience, first: None, is_alive: false, said: None }
    }

    /// The slot is held: waits a little. An error says who holds it, when the wait is over.
    pub(super) async fn again(&mut self, options: &PgOptions, sql: &Sql, error: Error) -> Result<()> {
        let Some((holder, timeout)) = holder(sql, &options.slot).await? else {
            // It has just gone.
            tokio::time::sleep(PAUSE).await;
            return Ok(());
        };
        if self.first.is_none() && !sql.in_recovery().await? {
            // A server that is full answers reads still.
            if let Err(error) = slot::heartbeat(sql).await {
                tracing::debug!("no heartbeat: {error}");
            }
        }
        let first = self.first.get_or_insert_with(|| holder.clone());
        self.is_alive |= *first != holder;
        let waited = self.began.elapsed();
        let silent = (!self.is_alive).then_some(timeout);
        let limit = match silent {
            Some(timeout) if !timeout.is_zero() => self.patience.max(timeout + MARGIN),
            Some(_) | None => self.patience,
        };
        if waited >= limit {
            return Err(given_up(options, &holder, silent).unwrap_or(error));
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            let Holder { pid, who, .. } = &holder;
            let slot = &options.slot;
            match silent.filter(|_| waited >= self.patience / 2) {
                None => {
                    tracing::warn!(code = %codes::PG011, pid, "replication slot \"{slot}\" is held by {who}; waiting")
                }
                Some(timeout) => tracing::warn!(
                    code = %codes::PG011, pid,
                    "replication slot \"{slot}\" is held by {who}, who has said nothing for {} s: a lost connection, it seems, \
                     which the server gives up after wal_sender_timeout ({} s); waiting. At once: SELECT pg_terminate_backend({pid})",
                    waited.as_secs(),
                    timeout.as_secs(),
                ),
            }
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

/// The slot once the server has made it; `None`: there is none. `patience`: for one that is still being made.
///
/// Errors: PG011 with who has it made, when the wait is over.
pub(super) async fn settled(
    sql: &Sql,
    options: &PgOptions,
    patience: Duration,
) -> Result<Option<slot::SlotState>> {
    let deadline = Instant::now() + patience;
    let mut is_told = false;
    loop {
        let found = slot::inspect(sql, &options.slot).await?;
        let Some(unready) = found.as_ref().filter(|slot| slot.is_in_the_making()) else {
            return Ok(found);
        };
        if Instant::now() >= deadline {
            unready.check_free(options)?;
        }
        if !std::mem::replace(&mut is_told, true) {
            tracing::warn!(slot = %options.slot, "the server is making this slot for somebody; waiting");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who holds the slot, and how long the server waits for answers; zero: for ever.
async fn holder(sql: &Sql, name: &str) -> Result<Option<(Holder, Duration)>> {
    let query = format!(
        "SELECT s.active_pid, concat_ws(' ', a.usename, nullif(a.application_name, ''), host(a.client_addr)), \
         r.reply_time, s.confirmed_flush_lsn, (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout') \
         FROM pg_catalog.pg_replication_slots s \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
         LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid \
         WHERE s.slot_name = {} AND s.active_pid IS NOT NULL",
        literal(name)
    );
    let rows = sql.rows(&query).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let who = text(row, 1).filter(|who| !who.is_empty()).unwrap_or("unknown").to_owned();
    let own = |column: usize| text(row, column).map(str::to_owned);
    let holder = Holder { pid: field(row, 0)?, who, answered: own(2), acknowledged: own(3) };
    Ok(Some((holder, Duration::from_millis(field(row, 4)?))))
}

/// The wait is over. `silent`: it has not answered, and the server's patience.
fn given_up(options: &PgOptions, holder: &Holder, silent: Option<Duration>) -> Option<Error> {
    let state = slot::SlotState {
        active_pid: Some(holder.pid),
        active_by: Some(match silent {
            None => holder.who.clone(),
            Some(timeout) if timeout.is_zero() => format!(
                "{}, who says nothing; wal_sender_timeout is 0, so that the server never gives a lost connection up",
                holder.who
            ),
            Some(_) => format!("{}, who says nothing", holder.who),
        }),
        ..slot::SlotState::default()
    };
    state.check_free(options).err()
}
