//! What must hold before anything is read, each miss with its remedy.

use super::server::Server;
use super::sql::Sql;
use crate::binlog::Flavor;
use crate::error::{Code, Error, Result, codes};
use std::collections::BTreeMap;

/// Logs should be kept at least this long.
const RETENTION_SECONDS: u64 = 3 * 24 * 3600;

/// A finding: it stops everything, or people should know of it.
pub(super) struct Finding {
    /// What it is about, what was found, what to do.
    pub(super) error: Error,
    /// It stops everything.
    pub(super) stops: bool,
}

impl Finding {
    fn stops(code: Code, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { error: Error::new(code, found).with_try(remedy), stops: true }
    }

    fn warns(code: Code, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { stops: false, ..Finding::stops(code, found, remedy) }
    }
}

/// Looks at everything.
///
/// # Errors
/// Those of the connection.
pub(super) async fn inspect(sql: &mut Sql, server: &Server) -> Result<Vec<Finding>> {
    let rows = sql
        .rows(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'binlog_row_image', \
             'binlog_row_metadata', 'binlog_row_value_options', 'binlog_expire_logs_seconds', 'expire_logs_days', \
             'sync_binlog')",
        )
        .await?;
    let settings: BTreeMap<String, String> = rows
        .into_iter()
        .filter_map(|row| {
            let mut cells = row.into_iter();
            Some((cells.next().flatten()?.to_ascii_lowercase(), cells.next().flatten().unwrap_or_default()))
        })
        .collect();
    let mut found = judge(&settings, server);
    found.extend(grants(sql).await?);
    Ok(found)
}

/// Judges the settings; see [`inspect`].
fn judge(settings: &BTreeMap<String, String>, server: &Server) -> Vec<Finding> {
    let get = |name: &str| settings.get(name).map(|value| value.to_ascii_uppercase()).unwrap_or_default();
    let set = |name: &str, value: &str| match server.flavor {
        Flavor::MySql => format!("SET PERSIST {name} = {value};"),
        Flavor::MariaDb => {
            format!("SET GLOBAL {name} = {value};   and the same in the server's configuration")
        }
    };
    let mut found = Vec::new();
    if !matches!(get("log_bin").as_str(), "ON" | "1") {
        found.push(Finding::stops(
            codes::MY001,
            "log_bin is OFF: the server writes no binary log",
            "put log_bin = binlog and a server_id into the server's configuration and restart it (RDS: switch automated backups on)",
        ));
    }
    let format = get("binlog_format");
    if !format.is_empty() && format != "ROW" {
        let what = format!("binlog_format is {format}: changes would be logged as statements");
        found.push(Finding::stops(codes::MY002, what, set("binlog_format", "'ROW'")));
    }
    let image = get("binlog_row_image");
    if !image.is_empty() && image != "FULL" {
        let what = format!("binlog_row_image is {image}: rows are not logged whole");
        found.push(Finding::stops(codes::MY003, what, set("binlog_row_image", "'FULL'")));
    }
    if get("binlog_row_value_options").contains("PARTIAL_JSON") {
        let what = "binlog_row_value_options has PARTIAL_JSON: JSON values are logged in part";
        found.push(Finding::warns(codes::MY004, what, set("binlog_row_value_options", "''")));
    }
    let metadata = get("binlog_row_metadata");
    if metadata != "FULL" {
        let what = format!("binlog_row_metadata is {metadata}: the log does not name columns");
        found.push(Finding::stops(codes::MY009, what, set("binlog_row_metadata", "'FULL'")));
    }
    let seconds = get("binlog_expire_logs_seconds").parse::<u64>().unwrap_or(0);
    let days = get("expire_logs_days").parse::<f64>().unwrap_or(0.0);
    let kept = if seconds > 0 { Some(seconds as f64) } else { Some(days * 86_400.0).filter(|_| days > 0.0) };
    if let Some(kept) = kept.filter(|&kept| kept < RETENTION_SECONDS as f64) {
        let what = format!("binary logs are kept for {:.1} hours only", kept / 3600.0);
        let remedy = set("binlog_expire_logs_seconds", &RETENTION_SECONDS.to_string())
            + "   (RDS: CALL mysql.rds_set_configuration('binlog retention hours', 72);)";
        found.push(Finding::warns(codes::MY006, what, remedy));
    }
    if !server.is_tested() {
        let what = format!("{} was not tested; it is expected to work", server.version);
        found.push(Finding::warns(codes::MY035, what, "report what does not"));
    }
    found
}

/// What the user may do: `SHOW GRANTS` is the only way to ask that needs no privilege.
async fn grants(sql: &mut Sql) -> Result<Vec<Finding>> {
    let grants: Vec<String> = sql
        .rows("SHOW GRANTS")
        .await?
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect();
    let global: Vec<String> =
        grants.iter().filter(|g| g.contains(" ON *.*")).map(|g| g.to_ascii_uppercase()).collect();
    // Roles hide what they hold.
    let has_roles = grants.iter().any(|g| !g.contains(" ON "));
    let has = |names: &[&str]| {
        global.iter().any(|g| g.contains("ALL PRIVILEGES") || names.iter().any(|name| g.contains(name)))
    };
    let mut missing = Vec::new();
    if !has(&["REPLICATION SLAVE", "REPLICATION REPLICA"]) {
        missing.push("REPLICATION SLAVE");
    }
    if !has(&["REPLICATION CLIENT", "BINLOG MONITOR"]) {
        missing.push("REPLICATION CLIENT");
    }
    if missing.is_empty() || has_roles {
        return Ok(Vec::new());
    }
    let user = sql.row("SELECT CURRENT_USER()").await?.into_iter().next().flatten().unwrap_or_default();
    let (name, host) = user.rsplit_once('@').unwrap_or((user.as_str(), "%"));
    let what = format!("user \"{user}\" lacks {}", missing.join(" and "));
    Ok(vec![Finding::stops(
        codes::MY007,
        what,
        format!("GRANT {} ON *.* TO '{name}'@'{host}';", missing.join(", ")),
    )])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(settings: &[(&str, &str)]) -> Vec<(String, bool)> {
        let server = Server {
            flavor: Flavor::MySql,
            version: "9.7.4".into(),
            identity: String::new(),
            has_gtids: true,
        };
        let settings = settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        judge(&settings, &server).into_iter().map(|f| (f.error.code().id.to_owned(), f.stops)).collect()
    }

    #[test]
    fn each_setting_is_judged() {
        let good = [
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_value_options", ""),
            ("binlog_expire_logs_seconds", "2592000"),
        ];
        assert_eq!(found(&good), []);
        for (name, value, code, stops) in [
            ("log_bin", "OFF", "MY001", true),
            ("binlog_format", "MIXED", "MY002", true),
            ("binlog_row_image", "MINIMAL", "MY003", true),
            ("binlog_row_value_options", "PARTIAL_JSON", "MY004", false),
            ("binlog_expire_logs_seconds", "3600", "MY006", false),
            ("binlog_row_metadata", "MINIMAL", "MY009", true),
        ] {
            let mut settings = good.to_vec();
            settings.retain(|(known, _)| *known != name);
            settings.push((name, value));
            assert_eq!(found(&settings), [(code.to_owned(), stops)], "{name}={value}");
        }
    }
}
