//! What `strandline doctor` looks at on a MySQL or MariaDB. It changes nothing, and needs no more than a run does.

use super::catalog::{self, Known, View};
use super::lock::Lock;
use super::options::MyOptions;
use super::preflight;
use super::server::Server;
use super::sql::Sql;
use crate::binlog::{Flavor, Policies};
use crate::error::finding::{Finding, Verdict};
use crate::error::{Code, Result, codes};
use crate::source::pattern::Selection;

/// Everything that was found.
pub struct Examined {
    /// The server, for people.
    pub server: String,
    /// In order.
    pub findings: Vec<Finding>,
    /// Somebody reads for this pipeline now.
    pub is_read: bool,
}

/// Checks that have no finding are as they should be.
const CHECKS: [(Code, &str, &str); 7] = [
    (codes::MY001, "log_bin", "the server writes a binary log"),
    (codes::MY002, "binlog_format", "ROW"),
    (codes::MY003, "binlog_row_image", "FULL"),
    (codes::MY004, "binlog_row_value_options", "JSON is logged whole"),
    (codes::MY006, "binlog_retention", "logs are kept for three days at least"),
    (codes::MY007, "privileges", "the user may read the log"),
    (codes::MY009, "binlog_row_metadata", "FULL: the log names columns"),
];

/// Looks.
///
/// # Errors
/// Those of the connection.
pub async fn examine(options: &MyOptions, selection: &Selection, policies: Policies) -> Result<Examined> {
    let mut sql = Sql::connect(options).await?;
    let server = Server::identify(&mut sql).await?;
    let brand = match server.flavor {
        Flavor::MySql => "MySQL",
        Flavor::MariaDb => "MariaDB",
    };
    let shown = if server.version.to_ascii_lowercase().contains("mariadb") {
        server.version.clone()
    } else {
        format!("{brand} {}", server.version)
    };
    let mut findings = vec![Finding::good(codes::MY030, "connect", format!("{shown} at {}", options.address()))];
    let found = preflight::inspect(&mut sql, &server).await?;
    for (code, check, good) in CHECKS {
        match found.iter().find(|finding| finding.error.code() == code) {
            Some(finding) => findings.push(of_preflight(finding, check)),
            None => findings.push(Finding::good(code, check, good)),
        }
    }
    if let Some(untested) = found.iter().find(|finding| finding.error.code() == codes::MY035) {
        findings.push(of_preflight(untested, "version"));
    }
    findings.push(if server.has_gtids {
        Finding::good(codes::MY045, "gtids", "transactions have GTIDs: another server can take over")
    } else {
        Finding::new(
            codes::MY045,
            "gtids",
            Verdict::Warning,
            "gtid_mode is OFF: positions hold for this server only, and do not survive a failover",
        )
        .advise(
            "SET PERSIST enforce_gtid_consistency = ON; then gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE, ON, one after the other",
        )
    });
    findings.extend(tables(&mut sql, selection, policies).await?);
    let holder = Lock::holder(&mut sql, &options.pipeline).await?;
    findings.push(match holder {
        Some(connection) => {
            Finding::good(codes::MY031, "reader", format!("connection {connection} reads for this pipeline"))
        }
        None => Finding::good(codes::MY031, "reader", "nobody reads for this pipeline now"),
    });
    sql.close().await;
    Ok(Examined { server: shown, findings, is_read: holder.is_some() })
}

fn of_preflight(finding: &preflight::Finding, check: &'static str) -> Finding {
    let verdict = if finding.stops { Verdict::Stops } else { Verdict::Warning };
    let shown = Finding::of_error(&finding.error, check, verdict);
    // What is one statement and nothing else can stand in a script.
    match finding.error.advice() {
        Some(advice) if (advice.starts_with("SET ") || advice.starts_with("GRANT ")) && advice.ends_with(';') => {
            let statement = advice.to_owned();
            shown.run_sql([statement])
        }
        _ => shown,
    }
}

async fn tables(sql: &mut Sql, selection: &Selection, policies: Policies) -> Result<Vec<Finding>> {
    let view = View { policies, full_before: false };
    let found = catalog::load(sql, selection, view, Known::default()).await?;
    let mut findings = Vec::new();
    if found.tables.is_empty() && found.refused.is_empty() {
        let what = "no table of the server matches tables.include";
        findings.push(
            Finding::new(codes::MY010, "tables", Verdict::Stops, what)
                .advise("compare tables.include with SHOW TABLES FROM the database, as the same user"),
        );
    } else {
        let count = found.tables.len();
        findings.push(Finding::good(codes::MY010, "tables", format!("{count} tables can be replicated")));
    }
    for (_, name, error) in &found.refused {
        findings.push(Finding::of_error(error, "table_kind", Verdict::StopsTable).of_table(name));
    }
    for table in found.tables.iter().filter(|table| table.schema.key.is_empty()) {
        let name = &table.schema.name;
        findings.push(
            Finding::new(
                codes::MY026,
                "primary_key",
                Verdict::Warning,
                format!("table \"{name}\" has no primary key: its target is a log of changes"),
            )
            .advise("ALTER TABLE … ADD PRIMARY KEY (…), where there is a key")
            .of_table(name),
        );
    }
    Ok(findings)
}
