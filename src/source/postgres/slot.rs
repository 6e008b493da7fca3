//! Replication slots: looking at ours, making it, and temporary ones for later snapshots.
//!
//! A slot is made over the replication protocol, because only that exports the snapshot which belongs to
//! its consistent point: the snapshot holds exactly the transactions before the point, the stream exactly
//! those after. Making one waits for every transaction that was running. That wait is wanted (it closes the hole
//! of a writer that was open while its table was added to the publication), but it is bounded, and who is
//! waited for is named.

use super::fault::protocol;
use super::options::PgOptions;
use super::quote::{identifier, literal};
use super::sql::{Sql, field, text, truth};
use super::wire::{Purpose, TextRow, Wire};
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, Lineage, Lsn, ServerPoint};
use std::time::Duration;
use tokio::time::Instant;
use tracing::info;

/// What `pg_replication_slots` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotState {
    /// Output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// Database; none for a physical slot.
    pub database: Option<String>,
    /// Prepared transactions are decoded at PREPARE: we refuse such a slot.
    pub two_phase: bool,
    /// It goes with its session.
    pub temporary: bool,
    /// The process that reads from it.
    pub active_pid: Option<i32>,
    /// Who that is: role, application, address.
    pub active_by: Option<String>,
    /// Everything before it has been acknowledged.
    pub confirmed_flush: Option<Lsn>,
    /// The oldest WAL that it keeps.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before it is lost; none when there is no limit.
    pub safe_wal_bytes: Option<i64>,
    /// Bytes of WAL that it keeps.
    pub retained_bytes: Option<u64>,
    /// Why the server gave it up, where it says so (PostgreSQL 17): `wal_removed`, `rows_removed`, `idle_timeout`, …
    pub invalidation: Option<String>,
    /// What the primary did is in conflict with it (PostgreSQL 16, of a slot on a standby).
    pub is_conflicting: bool,
    /// It is kept on standbys, too (PostgreSQL 17).
    pub failover: bool,
}

/// Looks at a slot, by its exact name.
pub async fn inspect(sql: &Sql, name: &str) -> Result<Option<SlotState>> {
    // On a standby the current position is that of the replay.
    let query = format!(
        "SELECT s.plugin, s.database, s.two_phase, s.temporary, s.active_pid, \
         concat_ws(' ', a.usename, nullif(a.application_name, ''), host(a.client_addr)), \
         s.confirmed_flush_lsn, s.restart_lsn, s.wal_status, s.safe_wal_size, \
         greatest(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() \
           THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn), 0)::int8, \
         pg_catalog.to_jsonb(s) ->> 'invalidation_reason', pg_catalog.to_jsonb(s) ->> 'failover', \
         pg_catalog.to_jsonb(s) ->> 'conflicting' \
         FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
         WHERE s.slot_name = {}",
        literal(name)
    );
    sql.rows(&query).await?.first().map(read_state).transpose()
}

fn read_state(row: &TextRow) -> Result<SlotState> {
    let lsn = |column: usize| text(row, column).map(str::parse::<Lsn>).transpose().map_err(protocol);
    let own = |column: usize| text(row, column).map(str::to_owned);
    Ok(SlotState {
        plugin: own(0),
        database: own(1),
        two_phase: truth(row, 2),
        temporary: truth(row, 3),
        active_pid: text(row, 4).map(|_| field(row, 4)).transpose()?,
        active_by: own(5).filter(|who| !who.is_empty()),
        confirmed_flush: lsn(6)?,
        restart: lsn(7)?,
        wal_status: own(8),
        safe_wal_bytes: text(row, 9).map(|_| field(row, 9)).transpose()?,
        retained_bytes: text(row, 10).map(|_| field(row, 10)).transpose()?,
        invalidation: own(11),
        failover: text(row, 12) == Some("true"),
        is_conflicting: text(row, 13) == Some("true"),
    })
}

impl SlotState {
    /// Whether we can stream from it, apart from who is using it now.
    ///
    /// Errors: PG013 when it is not one of ours, PG046 when its WAL is gone.
    pub fn check_usable(&self, options: &PgOptions) -> Result<()> {
        let slot = &options.slot;
        let wrong = |what: String| {
            Err(Error::new(codes::PG013, format!("replication slot \"{slot}\" {what}"))
                .with_try("choose another name (source.slot), or drop the slot if nobody needs it"))
        };
        match (self.plugin.as_deref(), self.database.as_deref()) {
            (Some("pgoutput"), Some(database)) if database == options.database => {}
            (Some("pgoutput"), Some(other)) => return wrong(format!("belongs to database \"{other}\"")),
            (Some(plugin), _) => return wrong(format!("has the plugin \"{plugin}\", not pgoutput")),
            (None, _) => return wrong("is a physical slot".to_owned()),
        }
        if self.two_phase {
            return wrong("has two_phase on".to_owned());
        }
        if self.temporary {
            return wrong("is temporary: it goes with another session".to_owned());
        }
        if self.wal_status.as_deref() == Some("lost") { Err(self.given_up(slot)) } else { Ok(()) }
    }

    /// The server has given the slot up: why, and what keeps it from doing so again.
    fn given_up(&self, slot: &str) -> Error {
        let why = self.invalidation.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let given_up = format!("the server has given replication slot \"{slot}\" up{why}");
        let (what, remedy) = match self.invalidation.as_deref() {
            Some("rows_removed") => (
                format!("{given_up}: the primary removed rows of the catalogue that it needs"),
                "hot_standby_feedback = on, and a physical slot on the primary for this standby",
            ),
            Some("wal_level_insufficient") => (
                format!("{given_up}: wal_level was lowered on the primary"),
                "wal_level = logical on the primary, and a restart of it; before anything else",
            ),
            Some("idle_timeout") => (
                format!("{given_up}: nobody read from it for longer than idle_replication_slot_timeout"),
                "idle_replication_slot_timeout = 0",
            ),
            // PostgreSQL 16 says no more of a standby's slot than that it is in conflict.
            _ if self.is_conflicting => (
                format!("{given_up}: what the primary did is in conflict with it"),
                "hot_standby_feedback = on, a physical slot on the primary for this standby, and wal_level = logical there",
            ),
            _ => (
                format!("the server has discarded WAL that replication slot \"{slot}\" needs{why}"),
                "raise max_slot_wal_keep_size",
            ),
        };
        Error::new(codes::PG046, what).with_try(format!(
            "SELECT pg_drop_replication_slot({});   then: strandline resync --all --yes   (and: {remedy})",
            literal(slot)
        ))
    }

    /// The server still waits for old transactions before the slot has a position. It goes if that session ends.
    pub fn is_in_the_making(&self) -> bool {
        self.plugin.is_some() && self.confirmed_flush.is_none() && self.active_pid.is_some()
    }

    /// Errors: PG011 when somebody reads from it, with who.
    pub fn check_free(&self, options: &PgOptions) -> Result<()> {
        let Some(pid) = self.active_pid else { return Ok(()) };
        let who = self.active_by.as_deref().unwrap_or("unknown");
        let what = format!("replication slot \"{}\" is in use by process {pid} ({who})", options.slot);
        Err(Error::new(codes::PG011, what).with_try(format!(
            "stop the other strandline, or, if it is gone: SELECT pg_terminate_backend({pid});"
        )))
    }
}

/// What kind of slot to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotKind {
    /// The pipeline's own.
    Permanent,
    /// For one snapshot; goes with its connection.
    Temporary,
}

/// A new slot with its exported snapshot. The snapshot can be used as long as this value lives, and no
/// longer: it goes with the connection.
pub struct SnapshotSlot {
    wire: Wire,
    name: String,
    kind: SlotKind,
    /// The snapshot holds exactly the transactions before this, the stream those after.
    pub point: CommitLsn,
    /// The snapshot's name, for `SET TRANSACTION SNAPSHOT`.
    pub snapshot: String,
}

impl SnapshotSlot {
    /// The slot's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends the snapshot; a temporary slot is dropped, the pipeline's stays.
    pub async fn release(mut self) -> Result<()> {
        if self.kind == SlotKind::Temporary {
            self.wire.simple_query(&format!("DROP_REPLICATION_SLOT {}", identifier(&self.name))).await?;
        }
        self.wire.close().await;
        Ok(())
    }
}

/// The newest transaction id, and the server's clock in microseconds since 2000-01-01 UTC.
///
/// Errors: those of the connection.
pub async fn moment(sql: &Sql) -> Result<(u64, i64)> {
    let query = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::int8 - 1, \
         (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8 - 946684800000000";
    let rows = sql.rows(query).await?;
    let row = rows.first().ok_or_else(|| protocol("no row of the server's clock"))?;
    Ok((field(row, 0)?, field(row, 1)?))
}

/// Makes a slot and exports its snapshot. Waits for running transactions, at most `patience`.
///
/// Errors: PG013 with the processes that are waited for; PG004 when no slot is free; PG003.
pub async fn create(
    options: &PgOptions,
    sql: &Sql,
    kind: SlotKind,
    patience: Duration,
) -> Result<SnapshotSlot> {
    let mut wire = Wire::connect(options, Purpose::Replication).await?;
    let pid = wire.session().pid;
    let name = match kind {
        SlotKind::Permanent => options.slot.clone(),
        // The pid makes it unique on the server, for as long as it lives.
        SlotKind::Temporary => format!("strandline_tmp_{pid}"),
    };
    let temporary = if kind == SlotKind::Temporary { " TEMPORARY" } else { "" };
    let export = match (wire.session().major, kind) {
        (..15, _) => "EXPORT_SNAPSHOT",
        (17.., SlotKind::Permanent) if options.failover && !wire.in_recovery() => {
            "(SNAPSHOT 'export', FAILOVER true)"
        }
        _ => "(SNAPSHOT 'export')",
    };
    let command =
        format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput {export}", identifier(&name));
    let (endpoint, session) = (wire.endpoint().clone(), wire.session().clone());
    let made = {
        let creating = wire.simple_query(&command);
        wait_or_name(sql, creating, pid, patience).await
    };
    let rows = match made {
        Ok(rows) => rows,
        Err(error) => {
            // Ends the server's wait; a slot that is not ready yet goes with it.
            Wire::cancel(options, &endpoint, &session).await?;
            return Err(error);
        }
    };
    let row = rows.first().ok_or_else(|| protocol("no answer to CREATE_REPLICATION_SLOT"))?;
    let (point, snapshot) = (field::<Lsn>(row, 1)?, field(row, 2)?);
    Ok(SnapshotSlot { wire, name, kind, point: CommitLsn::consistent_point(point), snapshot })
}

/// Waits for the slot; says now and then for whom, and gives up in the end.
async fn wait_or_name(
    sql: &Sql,
    creating: impl Future<Output = Result<Vec<TextRow>>>,
    pid: i32,
    patience: Duration,
) -> Result<Vec<TextRow>> {
    tokio::pin!(creating);
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_secs(2).min(patience);
    loop {
        tokio::select! {
            rows = &mut creating => return rows,
            () = tokio::time::sleep(pause) => {}
        }
        let blockers = blockers(sql, pid).await?;
        if Instant::now() >= deadline {
            let what = format!(
                "no replication slot after {} s: the server waits for transactions that are still open: {blockers}",
                patience.as_secs()
            );
            return Err(Error::new(codes::PG013, what).with_try(
                "end these transactions (SELECT pg_terminate_backend(<pid>); or COMMIT PREPARED), then start again",
            ));
        }
        info!("waiting for the replication slot: transactions that are still open: {blockers}");
        pause =
            (pause * 2).min(Duration::from_secs(15)).min(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The sessions that `pid` waits for. Their statements are not shown: they may hold values.
async fn blockers(sql: &Sql, pid: i32) -> Result<String> {
    let query = format!(
        "SELECT b.pid, concat_ws(' ', a.usename, nullif(a.application_name, ''), a.state, \
         'for ' || extract(epoch FROM now() - a.xact_start)::int8 || ' s') \
         FROM unnest(pg_catalog.pg_blocking_pids({pid})) AS b(pid) \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid WHERE b.pid <> 0 \
         UNION ALL SELECT NULL, 'prepared transaction ' || quote_literal(gid) FROM pg_catalog.pg_prepared_xacts \
         WHERE 0 = ANY (pg_catalog.pg_blocking_pids({pid}))"
    );
    let mut names = Vec::new();
    for row in &sql.rows(&query).await? {
        let who = text(row, 1).unwrap_or("unknown");
        names.push(match text(row, 0) {
            Some(pid) => format!("process {pid} ({who})"),
            None => who.to_owned(),
        });
    }
    Ok(if names.is_empty() { "not known".to_owned() } else { names.join(", ") })
}

/// Drops a slot by its exact name. One that is not there is fine.
///
/// Errors: PG011 when somebody reads from it.
pub async fn drop_slot(sql: &Sql, name: &str) -> Result<()> {
    let query = format!(
        "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots \
         WHERE slot_name = {}",
        literal(name)
    );
    sql.rows(&query).await.map(|_| ())
}

/// Asks the server who and where it is.
pub async fn identify(options: &PgOptions) -> Result<ServerPoint> {
    let mut wire = Wire::connect(options, Purpose::Replication).await?;
    let point = identify_on(&mut wire).await;
    wire.close().await;
    point
}

/// The same on a replication connection that is at hand.
pub async fn identify_on(wire: &mut Wire) -> Result<ServerPoint> {
    let rows = wire.simple_query("IDENTIFY_SYSTEM").await?;
    let row = rows.first().ok_or_else(|| protocol("no answer to IDENTIFY_SYSTEM"))?;
    let lineage = Lineage { system_id: field(row, 0)?, timeline: field(row, 1)?, database: field(row, 3)? };
    Ok(ServerPoint { lineage, flushed: field(row, 2)? })
}

/// Where the server's history left that timeline; `None`: it was never on it, or is on it now.
pub async fn timeline_end(options: &PgOptions, timeline: u32) -> Result<Option<Lsn>> {
    let mut wire = Wire::connect(options, Purpose::Replication).await?;
    let now = identify_on(&mut wire).await?.lineage.timeline;
    if now <= timeline {
        return Ok(None);
    }
    let rows = wire.simple_query(&format!("TIMELINE_HISTORY {now}")).await?;
    wire.close().await;
    let content = rows.first().and_then(|row| text(row, 1)).ok_or_else(|| protocol("no timeline history"))?;
    left_at(content, timeline)
}

/// Reads a history file: the number of a timeline, where it was left, why.
fn left_at(content: &str, timeline: u32) -> Result<Option<Lsn>> {
    for line in content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let number: Option<u32> = words.next().and_then(|word| word.parse().ok());
        let end: Option<Lsn> = words.next().and_then(|word| word.parse().ok());
        match (number, end) {
            (Some(number), Some(end)) if number == timeline => return Ok(Some(end)),
            (Some(_), Some(_)) => {}
            _ => return Err(protocol(format!("a line of the timeline history: {line:?}"))),
        }
    }
    Ok(None)
}

/// Writes a heartbeat: a transaction that the stream carries, so that an idle pipeline's slot moves on.
/// A transactional message needs no table and no grant.
pub async fn heartbeat(sql: &Sql) -> Result<()> {
    sql.rows("SELECT pg_catalog.pg_logical_emit_message(true, 'strandline', '')").await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_says_where_a_timeline_was_left() {
        let content =
            "1\t0/3000158\tno recovery target specified\n\n# a remark\n2\t1/50\tbefore 2026-01-01\n";
        assert_eq!(left_at(content, 1).unwrap(), Some("0/3000158".parse().unwrap()));
        assert_eq!(left_at(content, 2).unwrap(), Some("1/50".parse().unwrap()));
        assert_eq!(left_at(content, 3).unwrap(), None);
        assert!(left_at("1 what", 1).is_err());
    }
}
