//! The source's load: a copy waits while it is more than the operator wants.
//!
//! It is looked at every second. Workers wait between two ranges of pages or keys, so that a range that has begun ends:
//! a statement that is held up half-way would hold its snapshot for longer and give nothing back.

use super::fault::protocol;
use super::quote;
use super::sql::{Sql, field, truth};
use crate::error::{Error, Result, codes};
use std::time::Duration;
use tokio::sync::watch;

/// How often the load is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Sessions that may be active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sessions {
    /// So many.
    Count(u64),
    /// So many of a hundred that the server allows.
    Percent(u64),
}

/// More load than this, and a copy waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MaxLoad {
    /// Active sessions of others.
    pub active_sessions: Option<Sessions>,
    /// What a physical standby is behind in applying.
    pub replica_lag: Option<Duration>,
}

impl MaxLoad {
    /// No limit is set.
    pub fn is_unlimited(&self) -> bool {
        *self == MaxLoad::default()
    }
}

/// What the server does for others.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Load {
    active: u64,
    allowed: u64,
    lag: Duration,
}

impl Load {
    /// Why a copy must wait; `None`: it need not.
    fn is_above(&self, max: &MaxLoad) -> Option<String> {
        let (most, of) = match max.active_sessions {
            None => (u64::MAX, String::new()),
            Some(Sessions::Count(most)) => (most, format!("{most}")),
            Some(Sessions::Percent(percent)) => {
                (self.allowed * percent / 100, format!("{percent} % of {}", self.allowed))
            }
        };
        if self.active > most {
            return Some(format!("{} sessions are active, more than {of}", self.active));
        }
        let lag = max.replica_lag.filter(|most| self.lag > *most)?;
        Some(format!("a standby is {} s behind, more than {} s", self.lag.as_secs(), lag.as_secs()))
    }
}

/// Tells `gate` whether copies must wait, for as long as it is polled. It ends only with an error.
///
/// # Errors
/// `PG036` when the load cannot be seen; those of asking.
pub async fn watch(sql: &Sql, max: &MaxLoad, gate: &watch::Sender<bool>) -> Result<()> {
    if max.is_unlimited() {
        return std::future::pending().await;
    }
    let mut told = false;
    loop {
        let above = look(sql).await?.is_above(max);
        let waits = above.is_some();
        match above {
            Some(why) if !told => tracing::info!("the copy waits: {why}"),
            None if told => tracing::info!("the copy goes on: the source's load is low again"),
            Some(_) | None => {}
        }
        told = waits;
        gate.send_replace(waits);
        tokio::time::sleep(EVERY).await;
    }
}

async fn look(sql: &Sql) -> Result<Load> {
    // What other roles' sessions do is hidden from a role without this right: it would look like no load.
    let query = format!(
        "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'MEMBER'), \
         (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' \
          AND state = 'active' AND application_name IS DISTINCT FROM {}), \
         pg_catalog.current_setting('max_connections'), \
         (SELECT coalesce(max(extract(epoch FROM r.replay_lag)), 0)::pg_catalog.float8 \
          FROM pg_catalog.pg_stat_replication r WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s \
          WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))",
        quote::literal(&sql.options().application_name())
    );
    let row = sql.row(&query).await?;
    if !truth(&row, 0) {
        let what = "snapshot.max_source_load is set, and the role may not see what other sessions do";
        return Err(Error::new(codes::PG036, what).with_try("GRANT pg_read_all_stats TO the role"));
    }
    let lag: f64 = field(&row, 3)?;
    let lag = Duration::try_from_secs_f64(lag.max(0.0)).map_err(protocol)?;
    Ok(Load { active: field(&row, 1)?, allowed: field(&row, 2)?, lag })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_waits_for_what_was_asked() {
        let load = Load { active: 12, allowed: 100, lag: Duration::from_secs(40) };
        let sessions = |sessions| MaxLoad { active_sessions: Some(sessions), replica_lag: None };
        assert_eq!(load.is_above(&MaxLoad::default()), None);
        assert_eq!(load.is_above(&sessions(Sessions::Count(12))), None);
        assert!(load.is_above(&sessions(Sessions::Count(11))).is_some());
        assert_eq!(load.is_above(&sessions(Sessions::Percent(12))), None);
        assert!(load.is_above(&sessions(Sessions::Percent(11))).is_some());
        let lag = |secs| MaxLoad { active_sessions: None, replica_lag: Some(Duration::from_secs(secs)) };
        assert_eq!(load.is_above(&lag(40)), None);
        assert!(load.is_above(&lag(39)).is_some());
    }
}
