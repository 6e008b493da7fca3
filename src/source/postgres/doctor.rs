//! Everything that `strandline doctor` looks at on a server: what `run` checks, and what bites later.
//!
//! Each rule looks at one thing and says what is there, what is needed, and the statement or parameter that
//! leads from one to the other, in the words of whoever runs the server. Nothing is changed.

use super::catalog::{self, Catalog};
use super::options::PgOptions;
use super::pattern::Selection;
use super::preflight;
use super::provider::{Provider, Takes};
use super::publication::{self, Second};
use super::quote;
use super::slot;
use super::sql::{Sql, field, text, truth};
use crate::error::finding::{Finding, Verdict};
use crate::error::{Result, codes};
use crate::pgoutput::Policies;
use crate::position::ServerPoint;
use crate::schema::TableName;
use std::time::Duration;

/// What the configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// How to connect.
    pub options: &'a PgOptions,
    /// Which tables.
    pub selection: &'a Selection,
    /// Which values.
    pub policies: &'a Policies,
    /// `run` may make publication and slot.
    pub creates: bool,
    /// See [`LONG_TRANSACTION`].
    pub long_transaction: Duration,
}

/// What was found on a server.
#[derive(Debug)]
pub struct Examined {
    /// Who runs it.
    pub provider: Provider,
    /// Its version, in its own words.
    pub version: String,
    /// The findings, in the order in which a person mends them.
    pub findings: Vec<Finding>,
    /// The tables; none when the server could not be asked.
    pub catalog: Catalog,
    /// Identity, and end of the log; none where the role may not replicate.
    pub point: Option<ServerPoint>,
    /// Our slot.
    pub slot: Option<slot::SlotState>,
}

/// A transaction that is open for longer holds up every new slot noticeably.
pub const LONG_TRANSACTION: Duration = Duration::from_secs(300);
/// With less the server writes transactions of ordinary size to its own disk while it decodes them.
const DECODING_MEMORY_KB: u64 = 16 * 1024;

/// Looks at the server.
///
/// # Errors
/// When the server cannot be asked at all.
pub async fn examine(sql: &Sql, given: &Given<'_>) -> Result<Examined> {
    let Given { options, selection, policies, .. } = *given;
    let provider = Provider::detect(sql).await?;
    let version = sql.row("SELECT current_setting('server_version')").await?;
    let catalog = catalog::load(sql, selection, policies).await?;
    let mut findings = preflight::inspect(sql, options, selection, &catalog).await?;
    let slot = slot::inspect(sql, &options.slot).await?;
    findings.push(publication(sql, given, &catalog, slot.is_some()).await?);
    findings.extend(unpublished_kinds(sql, selection).await?);
    findings.push(standby(sql).await?);
    findings.push(failover(sql, options).await?);
    findings.push(long_transactions(sql, given.long_transaction).await?);
    findings.push(decoding_memory(sql, provider).await?);
    // Whoever may not replicate has been told so above.
    let point = slot::identify(options).await.ok();
    let version = text(&version, 0).unwrap_or_default().to_owned();
    Ok(Examined { provider, version, findings, catalog, point, slot })
}

/// The publications as they must be, with the statements for whoever owns the tables.
async fn publication(sql: &Sql, given: &Given<'_>, catalog: &Catalog, has_slot: bool) -> Result<Finding> {
    let (code, check) = (codes::PG007, "publication");
    let name = &given.options.publication;
    let second = if has_slot { Second::OnlyIfThere } else { Second::Make };
    let look = publication::look(sql, given.options, &catalog.tables, second).await?;
    if let [_, ..] = &look.warnings[..] {
        return Ok(Finding::new(code, check, Verdict::Warning, look.warnings.join("; ")));
    }
    if look.statements.is_empty() && look.obstacles.is_empty() {
        let count = catalog.tables.len();
        let filtered = catalog.tables.iter().filter(|table| table.filter.is_some()).count();
        let part = match filtered {
            0 => String::new(),
            _ => format!(", of {filtered} of them the rows that pass a row filter"),
        };
        return Ok(Finding::good(code, check, format!("\"{name}\" publishes all {count} tables{part}")));
    }
    if look.obstacles.is_empty() && given.creates {
        let found = format!("strandline run makes \"{name}\" as it must be");
        return Ok(Finding::good(code, check, found));
    }
    let why = match &look.obstacles[..] {
        [] => "and source.create_if_missing is false".to_owned(),
        some => some.join("; "),
    };
    let unread = catalog.rejected.iter().filter(|rejected| rejected.error.code() == codes::PG010).count();
    let later = match unread {
        0 => String::new(),
        n => format!(
            " (the statements lack {n} tables that the role may not read: grant that, then ask again)"
        ),
    };
    let found = format!("\"{name}\" is missing or incomplete: {why}{later}");
    Ok(Finding::new(code, check, Verdict::Stops, found)
        .advise(format!("-- as the owner of the tables, or a superuser\n{}", look.statements.join("\n")))
        .run_sql(look.statements))
}

/// Relations that match and whose changes never reach the log: they are not replicated, and nobody would say so.
async fn unpublished_kinds(sql: &Sql, selection: &Selection) -> Result<Vec<Finding>> {
    let query = "SELECT n.nspname, c.relname, c.relkind, c.relpersistence \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE (c.relkind = 'f' OR (c.relkind IN ('r', 'p') AND c.relpersistence = 'u')) \
         AND NOT c.relispartition AND n.nspname <> 'information_schema' AND left(n.nspname, 3) <> 'pg_' \
         ORDER BY 1, 2";
    let mut findings = Vec::new();
    for row in &sql.rows(query).await? {
        let name = TableName::new(field::<String>(row, 0)?, field::<String>(row, 1)?);
        if !selection.matches(&name) {
            continue;
        }
        let (what, advice) = if text(row, 2) == Some("f") {
            let advice = "replicate it from the server where its rows are, or leave it out: tables.exclude";
            ("a foreign table", advice.to_owned())
        } else {
            let statement = format!("ALTER TABLE {} SET LOGGED;", quote::table(&name));
            ("UNLOGGED", format!("{statement}   -- rewrites the table; or leave it out: tables.exclude"))
        };
        let found = format!("\"{name}\" is {what}: its changes are not in the log, and it is not replicated");
        findings.push(
            Finding::new(codes::PG034, "table_kind", Verdict::Warning, found).advise(advice).of_table(&name),
        );
    }
    Ok(findings)
}

async fn standby(sql: &Sql) -> Result<Finding> {
    let (code, check) = (codes::PG031, "primary");
    if !truth(&sql.row("SELECT pg_catalog.pg_is_in_recovery()").await?, 0) {
        return Ok(Finding::good(code, check, "the server is a primary"));
    }
    let feedback = truth(&sql.row("SELECT current_setting('hot_standby_feedback') = 'on'").await?, 0);
    if sql.major() < 16 {
        let found = "the server is a standby, and PostgreSQL decodes on standbys from version 16 on";
        return Ok(Finding::new(code, check, Verdict::Stops, found).advise("name the primary in source.host"));
    }
    if !feedback {
        let found = "the server is a standby without hot_standby_feedback: its primary can invalidate the slot at any time";
        return Ok(Finding::new(code, check, Verdict::Warning, found).run_sql([
            "ALTER SYSTEM SET hot_standby_feedback = on;".into(),
            "SELECT pg_reload_conf();".into(),
        ]));
    }
    let found = "the server is a standby: the publication must be made on its primary, and a slot waits until the \
                 primary logs what runs (SELECT pg_log_standby_snapshot(); there)";
    Ok(Finding::new(code, check, Verdict::Warning, found))
}

/// Whether the slot is there after a failover.
async fn failover(sql: &Sql, options: &PgOptions) -> Result<Finding> {
    let (code, check) = (codes::PG032, "failover");
    // Who only asks by the replication protocol, as we do, or copies the cluster, streams nothing.
    let query = "SELECT count(*) FROM pg_catalog.pg_stat_replication r WHERE r.state IN ('streaming', 'catchup') AND NOT EXISTS \
         (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')";
    let standbys: i64 = field(&sql.row(query).await?, 0)?;
    if standbys == 0 {
        return Ok(Finding::good(code, check, "no standby is connected"));
    }
    if sql.major() < 17 {
        let found = format!(
            "{standbys} standby(s) connected, and PostgreSQL {} does not carry slots over: after a failover every table \
             is copied again",
            sql.major()
        );
        return Ok(Finding::new(code, check, Verdict::Warning, found)
            .advise("after a failover: strandline run, with source.on_position_lost: resync"));
    }
    let slot = quote::literal(&options.slot);
    let query = format!("SELECT failover FROM pg_catalog.pg_replication_slots WHERE slot_name = {slot}");
    match sql.rows(&query).await?.first() {
        Some(row) if truth(row, 0) => {
            Ok(Finding::good(code, check, format!("the slot is synchronised to {standbys} standby(s)")))
        }
        None if options.failover => {
            let found =
                format!("{standbys} standby(s) connected: strandline run makes a slot that goes along");
            Ok(Finding::good(code, check, found))
        }
        found => {
            let state = if found.is_some() {
                "is not synchronised"
            } else {
                "will not be (source.failover_slot is false)"
            };
            let found = format!(
                "{standbys} standby(s) connected, and the slot {state}: after a failover every table is copied again"
            );
            Ok(Finding::new(code, check, Verdict::Warning, found).advise(
                "on the standby: sync_replication_slots = on and hot_standby_feedback = on; on the primary: \
                 synchronized_standby_slots; and a slot with failover (source.failover_slot: true, before it is made)",
            ))
        }
    }
}

/// A new slot waits for the end of every transaction that is open, prepared ones included.
async fn long_transactions(sql: &Sql, limit: Duration) -> Result<Finding> {
    let (code, check) = (codes::PG033, "long_transactions");
    let seconds = limit.as_secs();
    let query = format!(
        "SELECT 'pid ' || pid || ' (' || concat_ws(' ', usename, nullif(application_name, '')) || ', ' || \
         coalesce(state, 'unknown') || ')', extract(epoch FROM now() - xact_start)::int8 FROM pg_catalog.pg_stat_activity \
         WHERE xact_start < now() - interval '{seconds} seconds' AND backend_type = 'client backend' \
         AND pid <> pg_backend_pid() \
         UNION ALL SELECT 'prepared ' || quote_literal(gid) || ' (' || owner || ')', \
         extract(epoch FROM now() - prepared)::int8 FROM pg_catalog.pg_prepared_xacts \
         WHERE prepared < now() - interval '{seconds} seconds' ORDER BY 2 DESC"
    );
    let rows = sql.rows(&query).await?;
    if rows.is_empty() {
        // Of sessions of others the server tells a role without this right nothing.
        let query = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'usage'), quote_ident(current_user)";
        let role = sql.row(query).await?;
        let unseen = match truth(&role, 0) {
            true => String::new(),
            false => format!(
                ", of those that the role may see; of all with: GRANT pg_read_all_stats TO {};",
                text(&role, 1).unwrap_or("…")
            ),
        };
        let found = format!("none is older than {}{unseen}", span(seconds));
        return Ok(Finding::good(code, check, found));
    }
    let named: Vec<String> = rows
        .iter()
        .take(5)
        .map(|row| {
            let seconds: i64 = field(row, 1).unwrap_or(0);
            format!("{} for {}", text(row, 0).unwrap_or("?"), span(seconds.unsigned_abs()))
        })
        .collect();
    let more = if rows.len() > named.len() {
        format!(" and {} more", rows.len() - named.len())
    } else {
        String::new()
    };
    let found = format!("a new slot waits for open transactions: {}{more}", named.join(", "));
    Ok(Finding::new(code, check, Verdict::Warning, found).advise(
        "let them end, or end them: SELECT pg_terminate_backend(PID);   for a prepared one: ROLLBACK PREPARED 'NAME';",
    ))
}

fn span(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

async fn decoding_memory(sql: &Sql, provider: Provider) -> Result<Finding> {
    let (code, check) = (codes::PG035, "decoding_memory");
    let query = "SELECT setting, pg_catalog.pg_size_pretty(setting::int8 * 1024) FROM pg_catalog.pg_settings \
         WHERE name = 'logical_decoding_work_mem'";
    let row = sql.row(query).await?;
    let (kilobytes, shown): (u64, String) = (field(&row, 0)?, field(&row, 1)?);
    let found = format!("logical_decoding_work_mem is {shown}");
    if kilobytes >= DECODING_MEMORY_KB {
        return Ok(Finding::good(code, check, found));
    }
    let remedy = provider.set("logical_decoding_work_mem", "64MB", Takes::Reload);
    let found =
        format!("{found}: the server hands over larger transactions in pieces, through its disk or ours");
    Ok(Finding::new(code, check, Verdict::Warning, found).advise(remedy.text).run_sql(remedy.sql))
}
