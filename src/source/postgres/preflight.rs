//! What must be so before anything is started, looked at all together: a person should see every finding in
//! one run, each with its remedy.

use super::catalog::{Catalog, SourceTable};
use super::options::PgOptions;
use super::pattern::Selection;
use super::quote::identifier;
use super::slot;
use super::sql::{Sql, field, text, truth};
use super::wire::{Purpose, Wire};
use crate::error::{Code, Error, Result, codes};
use crate::schema::TableName;
use std::collections::BTreeMap;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// It stops one table.
    StopsTable,
    /// It stops everything.
    Stops,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What it is about.
    pub code: Code,
    /// How bad.
    pub verdict: Verdict,
    /// The table, if it is about one.
    pub table: Option<TableName>,
    /// What was found.
    pub found: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Finding {
    fn new(code: Code, verdict: Verdict, found: impl Into<String>) -> Self {
        Finding { code, verdict, table: None, found: found.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn of_error(error: &Error, verdict: Verdict) -> Self {
        let finding = Finding::new(error.code(), verdict, error.cause_line());
        match error.advice() {
            Some(advice) => finding.advise(advice),
            None => finding,
        }
    }

    /// As an error.
    pub fn into_error(self) -> Error {
        let error = Error::new(self.code, self.found);
        match self.advice {
            Some(advice) => error.with_try(advice),
            None => error,
        }
    }
}

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
    let mut findings = vec![version(sql.major()), wal_level(&settings)];
    findings.push(replication_privilege(sql, options).await?);
    findings.push(free_slots(sql, options, &settings).await?);
    findings.push(free_walsenders(sql, &settings).await?);
    findings.push(retention(&settings));
    findings.push(synchronous(&settings, options));
    findings.extend(own_slot(sql, options).await?);
    findings.push(match Wire::connect(options, Purpose::Replication).await {
        Ok(wire) => {
            let how = if wire.session().encrypted { "with TLS" } else { "without TLS" };
            let found = format!("replication login to \"{}\" {how}", options.target());
            wire.close().await;
            Finding::new(codes::PG001, Verdict::Good, found)
        }
        Err(error) => Finding::of_error(&error, Verdict::Stops),
    });
    findings.extend(tables(selection, catalog));
    Ok(findings)
}

/// The error of everything that stops the pipeline, if anything does: the first, with the others named.
pub fn stopping(findings: &[Finding]) -> Option<Error> {
    let mut stops = findings.iter().filter(|f| f.verdict == Verdict::Stops);
    let first = stops.next()?.clone();
    let others: Vec<String> = stops.map(|f| format!("{} {}", f.code, f.found)).collect();
    if others.is_empty() {
        return Some(first.into_error());
    }
    let mut all = first;
    all.found = format!("{}; also: {}", all.found, others.join("; "));
    Some(all.into_error())
}

async fn settings(sql: &Sql) -> Result<BTreeMap<String, String>> {
    let query = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('wal_level', \
                 'max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', 'synchronous_standby_names')";
    let rows = sql.rows(query).await?;
    Ok(rows.iter().filter_map(|r| Some((text(r, 0)?.to_owned(), text(r, 1)?.to_owned()))).collect())
}

fn version(major: u32) -> Finding {
    let found = format!("PostgreSQL {major}");
    if VERSIONS.contains(&major) {
        Finding::new(codes::PG012, Verdict::Good, found)
    } else if major < *VERSIONS.start() {
        Finding::new(codes::PG012, Verdict::Stops, format!("{found} is too old"))
            .advise("PostgreSQL 14 to 18")
    } else {
        let found = format!("{found} is newer than any version that was tested");
        Finding::new(codes::PG012, Verdict::Warning, found).advise("PostgreSQL 14 to 18")
    }
}

fn wal_level(settings: &BTreeMap<String, String>) -> Finding {
    let found = settings.get("wal_level").map_or("unknown", String::as_str);
    let finding = Finding::new(codes::PG002, Verdict::Good, format!("wal_level is {found}"));
    if found == "logical" {
        return finding;
    }
    Finding { verdict: Verdict::Stops, ..finding }.advise(
        "ALTER SYSTEM SET wal_level = 'logical';   -- then restart. RDS, Aurora: rds.logical_replication = 1; \
         Cloud SQL: cloudsql.logical_decoding = on; Azure: wal_level = logical",
    )
}

async fn replication_privilege(sql: &Sql, options: &PgOptions) -> Result<Finding> {
    let query = "SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles r \
         WHERE r.rolname = 'rds_replication' AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')) \
         FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let allowed = truth(&sql.row(query).await?, 0);
    let role = identifier(&options.user);
    Ok(if allowed {
        Finding::new(codes::PG003, Verdict::Good, format!("role {role} may replicate"))
    } else {
        Finding::new(codes::PG003, Verdict::Stops, format!("role {role} may not replicate"))
            .advise(format!("ALTER ROLE {role} WITH REPLICATION;   -- RDS: GRANT rds_replication TO {role};"))
    })
}

async fn free_slots(sql: &Sql, options: &PgOptions, settings: &BTreeMap<String, String>) -> Result<Finding> {
    let query = format!(
        "SELECT count(*), coalesce(bool_or(slot_name = {}), false) FROM pg_catalog.pg_replication_slots",
        super::quote::literal(&options.slot)
    );
    let row = sql.row(&query).await?;
    let (used, ours): (i64, bool) = (field(&row, 0)?, truth(&row, 1));
    // One for the pipeline, if it is not there yet, and one for the snapshot of a table that comes later.
    let need = if ours { 1 } else { 2 };
    Ok(room(codes::PG004, "replication slots", "max_replication_slots", used, need, settings))
}

async fn free_walsenders(sql: &Sql, settings: &BTreeMap<String, String>) -> Result<Finding> {
    let used: i64 = field(&sql.row("SELECT count(*) FROM pg_catalog.pg_stat_replication").await?, 0)?;
    Ok(room(codes::PG005, "WAL senders", "max_wal_senders", used, 2, settings))
}

fn room(
    code: Code,
    what: &str,
    setting: &str,
    used: i64,
    need: i64,
    settings: &BTreeMap<String, String>,
) -> Finding {
    let limit: i64 = settings.get(setting).and_then(|v| v.parse().ok()).unwrap_or(0);
    let found = format!("{used} of {limit} {what} in use");
    let fix = format!("ALTER SYSTEM SET {setting} = {};   -- then restart", (limit + need).max(10));
    match limit - used {
        free if free >= need => Finding::new(code, Verdict::Good, found),
        0 if need == 2 => Finding::new(code, Verdict::Stops, found).advise(fix),
        _ => {
            let found = format!("{found}: none is left for the snapshot of a table that comes later");
            Finding::new(code, Verdict::Warning, found).advise(fix)
        }
    }
}

fn retention(settings: &BTreeMap<String, String>) -> Finding {
    let megabytes: i64 = settings.get("max_slot_wal_keep_size").and_then(|v| v.parse().ok()).unwrap_or(-1);
    if megabytes < 0 {
        let found = "max_slot_wal_keep_size is -1: a replicator that stands still can fill the server's disk";
        return Finding::new(codes::PG046, Verdict::Warning, found)
            .advise("ALTER SYSTEM SET max_slot_wal_keep_size = '20GB'; SELECT pg_reload_conf();");
    }
    Finding::new(codes::PG046, Verdict::Good, format!("max_slot_wal_keep_size is {megabytes} MB"))
}

fn synchronous(settings: &BTreeMap<String, String>, options: &PgOptions) -> Finding {
    let names = settings.get("synchronous_standby_names").map_or("", String::as_str);
    match super::health::not_synchronous(names, options) {
        Ok(()) => Finding::new(codes::PG016, Verdict::Good, "no commit of the source waits for strandline"),
        Err(error) => Finding::of_error(&error, Verdict::Stops),
    }
}

async fn own_slot(sql: &Sql, options: &PgOptions) -> Result<Vec<Finding>> {
    let Some(state) = slot::inspect(sql, &options.slot).await? else {
        let found = format!("replication slot \"{}\" does not exist yet", options.slot);
        return Ok(vec![Finding::new(codes::PG013, Verdict::Good, found)]);
    };
    let mut findings = Vec::new();
    match state.check_usable(options) {
        // Lost WAL is a loss, judged with everything else that is held; and a resync mends it.
        Err(error) if error.code() == codes::PG046 => {
            findings.push(Finding::of_error(&error, Verdict::Warning));
        }
        Err(error) => findings.push(Finding::of_error(&error, Verdict::Stops)),
        Ok(()) => {
            let kept = state.retained_bytes.unwrap_or(0) >> 20;
            let found = format!("replication slot \"{}\" keeps {kept} MiB of WAL", options.slot);
            findings.push(Finding::new(codes::PG013, Verdict::Good, found));
        }
    }
    if let Err(error) = state.check_free(options) {
        // Its own process may be the one that runs: not a fault of the set-up.
        findings.push(Finding::of_error(&error, Verdict::Warning));
    }
    Ok(findings)
}

fn tables(selection: &Selection, catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    if catalog.tables.is_empty() && catalog.rejected.is_empty() {
        let found = format!("no table matches {}", selection.describe());
        findings.push(
            Finding::new(codes::PG009, Verdict::Stops, found)
                .advise("strandline tables   shows what there is; patterns are schema.table"),
        );
    } else {
        let found = format!("{} tables match", catalog.tables.len() + catalog.rejected.len());
        findings.push(Finding::new(codes::PG009, Verdict::Good, found));
    }
    for rejected in &catalog.rejected {
        let mut finding = Finding::of_error(&rejected.error, Verdict::StopsTable);
        finding.table = Some(rejected.name.clone());
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
    let mut finding = Finding::new(codes::PG008, Verdict::Warning, found).advise(format!(
        "ALTER TABLE {name} ADD PRIMARY KEY (…);   -- or: ALTER TABLE {name} REPLICA IDENTITY FULL;"
    ));
    finding.table = Some(table.name().clone());
    Some(finding)
}
