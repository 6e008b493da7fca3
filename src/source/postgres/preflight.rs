//! What must be so before anything is started, looked at all together: a person should see every finding in
//! one run, each with its remedy.

use super::catalog::{Catalog, SourceTable};
use super::options::PgOptions;
use super::pattern::Selection;
use super::provider::{Provider, Takes};
use super::quote::identifier;
use super::slot;
use super::sql::{Sql, field, text, truth};
use super::wire::{Purpose, Wire};
pub use crate::error::finding::{Finding, Verdict, stopping};
use crate::error::{Code, Result, codes};
use std::collections::BTreeMap;

/// Oldest and newest major version that are supported.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

/// Looks at the server, the role, the slot and the tables.
///
/// Errors: only when the server cannot be asked; everything else is a finding.
pub async fn inspect(
    sql: &Sql,
    options: &PgOptions,
    selection: &Selection,
    catalog: &Catalog,
) -> Result<Vec<Finding>> {
    let settings = settings(sql).await?;
    let provider = Provider::detect(sql).await?;
    let mut findings = vec![login(options).await, version(sql.major()), wal_level(&settings, provider)];
    findings.push(replication_privilege(sql, options, provider).await?);
    findings.push(free_slots(sql, options, &settings, provider).await?);
    findings.push(free_walsenders(sql, &settings, provider).await?);
    findings.push(retention(sql, &settings, provider).await?);
    findings.push(synchronous(&settings, options));
    findings.extend(own_slot(sql, options).await?);
    findings.extend(tables(selection, catalog));
    Ok(findings)
}

/// A login for replication, as the stream needs it: `pg_hba.conf` may have another line for it.
async fn login(options: &PgOptions) -> Finding {
    match Wire::connect(options, Purpose::Replication).await {
        Ok(wire) => {
            let how = if wire.session().encrypted { "with TLS" } else { "without TLS" };
            let found = format!("replication login to \"{}\" {how}", options.target());
            wire.close().await;
            Finding::good(codes::PG001, "connect", found)
        }
        Err(error) => Finding::of_error(&error, "connect", Verdict::Stops),
    }
}

async fn settings(sql: &Sql) -> Result<BTreeMap<String, String>> {
    let query = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('wal_level', \
                 'max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', \
                 'idle_replication_slot_timeout', 'synchronous_standby_names')";
    let rows = sql.rows(query).await?;
    Ok(rows.iter().filter_map(|r| Some((text(r, 0)?.to_owned(), text(r, 1)?.to_owned()))).collect())
}

fn version(major: u32) -> Finding {
    let found = format!("PostgreSQL {major}");
    let check = "server_version";
    if VERSIONS.contains(&major) {
        Finding::good(codes::PG012, check, found)
    } else if major < *VERSIONS.start() {
        Finding::new(codes::PG012, check, Verdict::Stops, format!("{found} is too old"))
            .advise("PostgreSQL 14 to 18")
    } else {
        let found = format!("{found} is newer than any version that was tested");
        Finding::new(codes::PG012, check, Verdict::Warning, found).advise("PostgreSQL 14 to 18")
    }
}

fn wal_level(settings: &BTreeMap<String, String>, provider: Provider) -> Finding {
    let found = settings.get("wal_level").map_or("unknown", String::as_str);
    if found == "logical" {
        return Finding::good(codes::PG002, "wal_level", "wal_level is logical");
    }
    let remedy = provider.set("wal_level", "logical", Takes::Restart);
    let found = format!("wal_level is {found}, and must be logical");
    Finding::new(codes::PG002, "wal_level", Verdict::Stops, found).advise(remedy.text).run_sql(remedy.sql)
}

async fn replication_privilege(sql: &Sql, options: &PgOptions, provider: Provider) -> Result<Finding> {
    let query = "SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles r \
         WHERE r.rolname = 'rds_replication' AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')) \
         FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let allowed = truth(&sql.row(query).await?, 0);
    let role = identifier(&options.user);
    let check = "replication_privilege";
    Ok(if allowed {
        Finding::good(codes::PG003, check, format!("role {role} may replicate"))
    } else {
        Finding::new(codes::PG003, check, Verdict::Stops, format!("role {role} may not replicate"))
            .run_sql([provider.allow_replication(&role)])
    })
}

async fn free_slots(
    sql: &Sql,
    options: &PgOptions,
    settings: &BTreeMap<String, String>,
    provider: Provider,
) -> Result<Finding> {
    let query = format!(
        "SELECT count(*), coalesce(bool_or(slot_name = {}), false) FROM pg_catalog.pg_replication_slots",
        super::quote::literal(&options.slot)
    );
    let row = sql.row(&query).await?;
    let (used, ours): (i64, bool) = (field(&row, 0)?, truth(&row, 1));
    // One for the pipeline, if it is not there yet, and one for the snapshot of a table that comes later.
    let need = if ours { 1 } else { 2 };
    Ok(Room {
        code: codes::PG004,
        check: "replication_slots",
        what: "replication slots",
        setting: "max_replication_slots",
    }
    .judge(used, need, settings, provider))
}

async fn free_walsenders(
    sql: &Sql,
    settings: &BTreeMap<String, String>,
    provider: Provider,
) -> Result<Finding> {
    let used: i64 = field(&sql.row("SELECT count(*) FROM pg_catalog.pg_stat_replication").await?, 0)?;
    Ok(Room { code: codes::PG005, check: "wal_senders", what: "WAL senders", setting: "max_wal_senders" }
        .judge(used, 2, settings, provider))
}

/// Something of which the server has only so many.
struct Room {
    code: Code,
    check: &'static str,
    what: &'static str,
    setting: &'static str,
}

impl Room {
    fn judge(self, used: i64, need: i64, settings: &BTreeMap<String, String>, provider: Provider) -> Finding {
        let Room { code, check, what, setting } = self;
        let limit: i64 = settings.get(setting).and_then(|v| v.parse().ok()).unwrap_or(0);
        let found = format!("{used} of {limit} {what} in use");
        let (verdict, found) = match limit - used {
            free if free >= need => return Finding::good(code, check, found),
            0 if need == 2 => (Verdict::Stops, found),
            _ => {
                let found = format!("{found}: none is left for the snapshot of a table that comes later");
                (Verdict::Warning, found)
            }
        };
        let remedy = provider.set(setting, &(limit + need).max(10).to_string(), Takes::Restart);
        Finding::new(code, check, verdict, found).advise(remedy.text).run_sql(remedy.sql)
    }
}

/// How much WAL the server keeps for a slot that stands still. The rate is the server's own, since its
/// statistics began; without half an hour of them nothing is said about it.
async fn retention(sql: &Sql, settings: &BTreeMap<String, String>, provider: Provider) -> Result<Finding> {
    let query =
        "SELECT wal_bytes::int8, extract(epoch FROM now() - stats_reset)::int8 FROM pg_catalog.pg_stat_wal";
    let row = sql.row(query).await?;
    let (bytes, seconds): (u64, u64) = (field(&row, 0)?, field(&row, 1).unwrap_or(0));
    let hourly = (seconds >= 1800).then(|| bytes / seconds * 3600);
    let megabytes: i64 = settings.get("max_slot_wal_keep_size").and_then(|v| v.parse().ok()).unwrap_or(-1);
    let idle: u64 = settings.get("idle_replication_slot_timeout").and_then(|v| v.parse().ok()).unwrap_or(0);
    Ok(judge_retention(megabytes, hourly, idle, provider))
}

/// A limit that fewer hours of WAL fill than this is a slot that is lost overnight.
const RETENTION_HOURS: u64 = 10;

fn judge_retention(megabytes: i64, hourly: Option<u64>, idle_seconds: u64, provider: Provider) -> Finding {
    let (code, check) = (codes::PG030, "wal_retention");
    let warn = |found: String, name: &str, value: &str| {
        let remedy = provider.set(name, value, Takes::Reload);
        Finding::new(code, check, Verdict::Warning, found).advise(remedy.text).run_sql(remedy.sql)
    };
    let rate = hourly.map_or(String::new(), |bytes| format!(" (it writes {} MiB an hour)", bytes >> 20));
    if idle_seconds > 0 {
        let found = format!(
            "idle_replication_slot_timeout is {idle_seconds} s: a replicator that is stopped for longer loses its slot"
        );
        return warn(found, "idle_replication_slot_timeout", "0");
    }
    let needed = hourly.map(|bytes| (bytes * RETENTION_HOURS) >> 20);
    match (u64::try_from(megabytes), needed) {
        (Err(_), _) => {
            let found = format!(
                "max_slot_wal_keep_size is -1: a replicator that stands still can fill the server's disk{rate}"
            );
            let gigabytes = needed.map_or(20, |mb| (mb >> 10) + 1).max(20);
            warn(found, "max_slot_wal_keep_size", &format!("{gigabytes}GB"))
        }
        (Ok(limit), Some(needed)) if limit < needed => {
            let found = format!(
                "max_slot_wal_keep_size is {limit} MB: the slot is lost when strandline is away for less than \
                 {RETENTION_HOURS} hours{rate}"
            );
            warn(found, "max_slot_wal_keep_size", &format!("{}GB", (needed >> 10) + 1))
        }
        (Ok(limit), _) => Finding::good(code, check, format!("max_slot_wal_keep_size is {limit} MB{rate}")),
    }
}

fn synchronous(settings: &BTreeMap<String, String>, options: &PgOptions) -> Finding {
    let names = settings.get("synchronous_standby_names").map_or("", String::as_str);
    match super::health::not_synchronous(names, options) {
        Ok(()) => Finding::good(codes::PG016, "synchronous", "no commit of the source waits for strandline"),
        Err(error) => Finding::of_error(&error, "synchronous", Verdict::Stops),
    }
}

async fn own_slot(sql: &Sql, options: &PgOptions) -> Result<Vec<Finding>> {
    let Some(state) = slot::inspect(sql, &options.slot).await? else {
        let found = format!("replication slot \"{}\" does not exist yet", options.slot);
        return Ok(vec![Finding::good(codes::PG013, "slot", found)]);
    };
    let mut findings = Vec::new();
    match state.check_usable(options) {
        // Lost WAL is a loss, judged with everything else that is held; and a resync mends it.
        Err(error) if error.code() == codes::PG046 => {
            findings.push(Finding::of_error(&error, "slot", Verdict::Warning));
        }
        Err(error) => findings.push(Finding::of_error(&error, "slot", Verdict::Stops)),
        Ok(()) => {
            let kept = state.retained_bytes.unwrap_or(0) >> 20;
            let found = format!("replication slot \"{}\" keeps {kept} MiB of WAL", options.slot);
            findings.push(Finding::good(codes::PG013, "slot", found));
        }
    }
    if let Err(error) = state.check_free(options) {
        // Its own process may be the one that runs: not a fault of the set-up.
        findings.push(Finding::of_error(&error, "slot", Verdict::Warning));
    }
    Ok(findings)
}

fn tables(selection: &Selection, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    if catalog.tables.is_empty() && catalog.rejected.is_empty() {
        let found = format!("no table matches {}", selection.describe());
        findings.push(
            Finding::new(codes::PG009, "tables", Verdict::Stops, found)
                .advise("strandline tables   shows what there is; patterns are schema.table"),
        );
    } else {
        let found = format!("{} tables match", catalog.tables.len() + catalog.rejected.len());
        findings.push(Finding::good(codes::PG009, "tables", found));
    }
    for rejected in &catalog.rejected {
        let check = check_of(rejected.error.code());
        let mut finding =
            Finding::of_error(&rejected.error, check, Verdict::StopsTable).of_table(&rejected.name);
        // The advice of a missing privilege is made of statements.
        finding.sql.extend(finding.advice.clone().filter(|_| rejected.error.code() == codes::PG010));
        findings.push(finding);
    }
    findings.extend(catalog.tables.iter().filter_map(identity));
    findings
}

/// A table without a key is replicated as inserts only, and said to be.
fn identity(table: &SourceTable) -> Option<Finding> {
    if table.publishes_changes() {
        return None;
    }
    let name = super::quote::table(table.name());
    let found = format!(
        "table \"{}\": no primary key and not REPLICA IDENTITY FULL: only inserts and truncates are replicated",
        table.name()
    );
    Some(
        Finding::new(codes::PG008, "replica_identity", Verdict::Warning, found)
            .advise(format!(
                "ALTER TABLE {name} ADD PRIMARY KEY (…);\n-- or, with more WAL: ALTER TABLE {name} REPLICA IDENTITY FULL;"
            ))
            .of_table(table.name()),
    )
}

fn check_of(code: Code) -> &'static str {
    match code.id {
        "PG008" => "replica_identity",
        "PG010" => "table_privilege",
        "PG020" => "column_types",
        _ => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_judged_by_the_servers_own_rate() {
        let judge = |megabytes, hourly, idle| judge_retention(megabytes, hourly, idle, Provider::SelfManaged);
        let unlimited = judge(-1, None, 0);
        assert_eq!(unlimited.verdict, Verdict::Warning);
        assert_eq!(unlimited.sql[0], "ALTER SYSTEM SET max_slot_wal_keep_size = '20GB';");
        let hour = 6 << 30;
        assert_eq!(judge(-1, Some(hour), 0).sql[0], "ALTER SYSTEM SET max_slot_wal_keep_size = '61GB';");
        assert_eq!(judge(20_480, Some(hour), 0).verdict, Verdict::Warning);
        assert_eq!(judge(81_920, Some(hour), 0).verdict, Verdict::Good);
        assert_eq!(judge(20_480, None, 0).verdict, Verdict::Good);
        assert!(judge(81_920, None, 60).found.contains("idle_replication_slot_timeout"));
    }
}
