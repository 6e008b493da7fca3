//! What strandline costs the server: log that its slot keeps, and commits that would wait for it.
//!
//! A walsender whose `application_name` stands in `synchronous_standby_names` (or `*` does) is a synchronous
//! standby, a logical one too: every COMMIT of the application would then wait until its rows are in the
//! target. The server offers no way to decline, so it is refused before the stream begins, and again when
//! the setting comes while it runs.

use super::options::PgOptions;
use super::quote::literal;
use super::sql::{Sql, field, text, truth};
use super::wire::TextRow;
use crate::error::{Error, Result, codes};
use crate::source::{SlotHealth, SourceHealth, WalStatus};

/// Looks. `None`: the slot is not there.
///
/// Errors: PG016; those of the connection.
pub async fn look(sql: &Sql, options: &PgOptions) -> Result<Option<SourceHealth>> {
    let query = format!(
        "SELECT now.lsn, greatest(pg_catalog.pg_wal_lsn_diff(now.lsn, s.restart_lsn), 0)::int8, s.safe_wal_size, \
         pg_catalog.current_setting('synchronous_standby_names'), s.slot_name IS NOT NULL, \
         s.wal_status, s.active, greatest(pg_catalog.pg_wal_lsn_diff(now.lsn, s.confirmed_flush_lsn), 0)::int8 \
         FROM (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
           ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) now \
         LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = {}",
        literal(&options.slot)
    );
    let row = sql.row(&query).await?;
    not_synchronous(text(&row, 3).unwrap_or_default(), options)?;
    if !truth(&row, 4) || text(&row, 1).is_none() {
        return Ok(None);
    }
    let safe = text(&row, 2).map(|_| field::<i64>(&row, 2)).transpose()?;
    Ok(Some(SourceHealth {
        retained: field(&row, 1)?,
        safe: safe.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
        end: field(&row, 0)?,
        slot: slot(&row)?,
    }))
}

fn slot(row: &TextRow) -> Result<Option<SlotHealth>> {
    let Some(word) = text(row, 5) else { return Ok(None) };
    // A word of a later version is no reason to say anything.
    let Some(wal) = WalStatus::ALL.into_iter().find(|status| status.as_str() == word) else {
        return Ok(None);
    };
    let unacknowledged = text(row, 7).map(|_| field(row, 7)).transpose()?.unwrap_or(0);
    Ok(Some(SlotHealth { wal, active: truth(row, 6), unacknowledged }))
}

/// Errors: PG016 when this value of `synchronous_standby_names` names our connections.
pub fn not_synchronous(names: &str, options: &PgOptions) -> Result<()> {
    let ours = options.application_name();
    let Some(named) = standby_names(names).into_iter().find(|n| n == "*" || n.eq_ignore_ascii_case(&ours))
    else {
        return Ok(());
    };
    let what = format!(
        "synchronous_standby_names is {names:?}, and {named:?} means strandline too: each COMMIT of the source would \
         wait until its rows are in the target"
    );
    Err(Error::new(codes::PG016, what).with_try(
        "name the standbys: ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby1)'; SELECT pg_reload_conf();",
    ))
}

/// The names in a value of `synchronous_standby_names`: plain, quoted, or in a list after `FIRST n`, `ANY n` or
/// `n`. These words and numbers come along where they stand for no name: they are none of ours.
fn standby_names(value: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut plain = String::new();
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                let mut quoted = String::new();
                while let Some(inner) = letters.next() {
                    if inner != '"' {
                        quoted.push(inner);
                    } else if letters.next_if_eq(&'"').is_some() {
                        quoted.push('"');
                    } else {
                        break;
                    }
                }
                names.push(quoted);
            }
            ',' | '(' | ')' => names.push(std::mem::take(&mut plain)),
            c if c.is_whitespace() => names.push(std::mem::take(&mut plain)),
            c => plain.push(c),
        }
    }
    names.push(plain);
    names.retain(|name| !name.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_be_waited_for() {
        let options = PgOptions::from_url("postgres://me@db/x", "Shop").unwrap();
        for names in [
            "*",
            "FIRST 1 (*)",
            "ANY 2 (a, *)",
            "1(*)",
            "\"strandline/Shop\"",
            "a,\"STRANDLINE/shop\"",
            "\"*\"",
        ] {
            assert_eq!(not_synchronous(names, &options).unwrap_err().code(), codes::PG016, "{names}");
        }
        for names in
            ["", "standby1", "FIRST 1 (a, b)", "\"a*\"", "strandline", "\"strandline/other\"", "\"a\"\"*\""]
        {
            not_synchronous(names, &options).unwrap();
        }
    }
}
