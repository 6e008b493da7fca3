//! What must hold before anything is read, each miss with its remedy.

use super::server::Server;
use super::sql::Sql;
use crate::binlog::Flavor;
use crate::error::finding::{Finding, Verdict};
use crate::error::{Code, Result, codes};
use std::collections::BTreeMap;

/// Logs should be kept at least this long.
const RETENTION_SECONDS: u64 = 3 * 24 * 3600;

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
    found.push(grants(sql).await?);
    found.extend(filters(sql).await?);
    Ok(found)
}

/// Judges the settings; see [`inspect`].
fn judge(settings: &BTreeMap<String, String>, server: &Server) -> Vec<Finding> {
    let get = |name: &str| settings.get(name).map(|value| value.to_ascii_uppercase()).unwrap_or_default();
    let set = |name: &str, value: &str| match server.flavor {
        Flavor::MySql => format!("SET PERSIST {name} = {value};"),
        Flavor::MariaDb => format!("SET GLOBAL {name} = {value};"),
    };
    let mut found = Vec::new();
    found.push(match get("log_bin").as_str() {
        "ON" | "1" => Finding::good(codes::MY001, "log_bin", "log_bin is ON"),
        _ => Finding::new(codes::MY001, "log_bin", Verdict::Stops, "log_bin is OFF: the server writes no binary log")
            .advise("put log_bin = binlog and a server_id into the server's configuration and restart it (RDS: switch automated backups on)"),
    });
    for (code, name, wanted, why) in [
        (codes::MY002, "binlog_format", "ROW", "changes would be logged as statements"),
        (codes::MY009, "binlog_row_metadata", "FULL", "the log does not name columns"),
    ] {
        found.push(must_be(code, name, &get(name), wanted, why, set(name, &format!("'{wanted}'")), server));
    }
    let image = get("binlog_row_image");
    let is_whole =
        matches!(image.as_str(), "" | "FULL") || image == "FULL_NODUP" && server.flavor == Flavor::MariaDb;
    found.push(if is_whole {
        Finding::good(codes::MY003, "binlog_row_image", "binlog_row_image is FULL")
    } else {
        // MariaDB logs a REPLACE as an update that leaves out columns which it set to their defaults; with NOBLOB any
        // update that leaves a column out could be one.
        let (verdict, why) = match (server.flavor, image.as_str()) {
            (Flavor::MySql, _) => (
                Verdict::Warning,
                "rows are logged in part, and a created row that leaves out a column with a default stops its table",
            ),
            (Flavor::MariaDb, "MINIMAL") => (
                Verdict::Warning,
                "rows are logged in part; a created row that leaves out a column with a default, and an update that \
                 could be a REPLACE, because it sets the key, stop their table",
            ),
            (Flavor::MariaDb, _) => {
                (Verdict::Stops, "rows are logged in part, and an update cannot be told from a REPLACE")
            }
        };
        Finding::new(codes::MY003, "binlog_row_image", verdict, format!("binlog_row_image is {image}: {why}"))
            .run_sql([set("binlog_row_image", "'FULL'")])
    });
    let options = get("binlog_row_value_options");
    found.push(if options.contains("PARTIAL_JSON") {
        let what = "binlog_row_value_options has PARTIAL_JSON: JSON values are logged in part";
        Finding::new(codes::MY004, "partial_json", Verdict::Warning, what)
            .run_sql([set("binlog_row_value_options", "''")])
    } else {
        Finding::good(codes::MY004, "partial_json", "JSON values are logged whole")
    });
    found.push(retention(&get("binlog_expire_logs_seconds"), &get("expire_logs_days"), &set));
    found.push(match get("sync_binlog").as_str() {
        "" | "1" => Finding::good(codes::MY005, "sync_binlog", "the log is synced with each commit"),
        other => {
            let what = format!(
                "sync_binlog is {other}: after a crash of its machine the server may hold rows that its log lacks"
            );
            Finding::new(codes::MY005, "sync_binlog", Verdict::Warning, what)
                .run_sql([set("sync_binlog", "1")])
        }
    });
    found.push(if server.is_tested() {
        Finding::good(codes::MY035, "server_version", format!("{} is supported", server.version))
    } else {
        let what = format!("{} was not tested; it is expected to work", server.version);
        Finding::new(codes::MY035, "server_version", Verdict::Warning, what).advise("report what does not")
    });
    found
}

/// Databases that the server does not log, as its configuration says.
async fn filters(sql: &mut Sql) -> Result<Option<Finding>> {
    let rows = match sql.try_rows("SHOW BINARY LOG STATUS").await {
        Ok(rows) => rows,
        // Before it had this name; without the privilege that is said already.
        Err(_) => sql.try_rows("SHOW MASTER STATUS").await.unwrap_or_default(),
    };
    let row = rows.into_iter().next().unwrap_or_default();
    let cell = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
    let (only, never) = (cell(2), cell(3));
    if only.is_empty() && never.is_empty() {
        return Ok(None);
    }
    let what = format!(
        "the server logs only some databases (binlog_do_db = \"{only}\", binlog_ignore_db = \"{never}\"): changes of \
         the others are never seen"
    );
    let advice = "take binlog_do_db and binlog_ignore_db out of the server's configuration and restart it";
    Ok(Some(Finding::new(codes::MY005, "binlog_filter", Verdict::Warning, what).advise(advice)))
}

/// A setting with one right value. One that the server does not have is as it must be, but the naming of columns.
fn must_be(
    code: Code,
    name: &'static str,
    value: &str,
    wanted: &str,
    why: &str,
    remedy: String,
    server: &Server,
) -> Finding {
    if value == wanted || value.is_empty() && code != codes::MY009 {
        return Finding::good(code, name, format!("{name} is {wanted}"));
    }
    let finding = Finding::new(code, name, Verdict::Stops, format!("{name} is {value}: {why}"))
        .run_sql([remedy.clone()]);
    match server.flavor {
        Flavor::MySql => finding,
        Flavor::MariaDb => finding.advise(format!("{remedy}   and the same in the server's configuration")),
    }
}

fn retention(seconds: &str, days: &str, set: &dyn Fn(&str, &str) -> String) -> Finding {
    let check = "binlog_retention";
    let seconds = seconds.parse::<u64>().unwrap_or(0);
    let days = days.parse::<f64>().unwrap_or(0.0);
    let kept = if seconds > 0 { Some(seconds as f64) } else { Some(days * 86_400.0).filter(|_| days > 0.0) };
    match kept {
        Some(kept) if kept < RETENTION_SECONDS as f64 => {
            let what = format!("binary logs are kept for {:.1} hours only", kept / 3600.0);
            let sql = set("binlog_expire_logs_seconds", &RETENTION_SECONDS.to_string());
            let advice =
                format!("{sql}   (RDS: CALL mysql.rds_set_configuration('binlog retention hours', 72);)");
            Finding::new(codes::MY006, check, Verdict::Warning, what).run_sql([sql]).advise(advice)
        }
        Some(kept) => Finding::good(
            codes::MY006,
            check,
            format!("binary logs are kept for {:.1} days", kept / 86_400.0),
        ),
        None => Finding::good(codes::MY006, check, "binary logs are kept until they are purged"),
    }
}

/// What the user may do: `SHOW GRANTS` is the only way to ask that needs no privilege.
async fn grants(sql: &mut Sql) -> Result<Finding> {
    let check = "privileges";
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
    let user = sql.row("SELECT CURRENT_USER()").await?.into_iter().next().flatten().unwrap_or_default();
    if missing.is_empty() || has_roles {
        return Ok(Finding::good(codes::MY007, check, format!("user \"{user}\" may read the log")));
    }
    let (name, host) = user.rsplit_once('@').unwrap_or((user.as_str(), "%"));
    let what = format!("user \"{user}\" lacks {}", missing.join(" and "));
    Ok(Finding::new(codes::MY007, check, Verdict::Stops, what)
        .run_sql([format!("GRANT {} ON *.* TO '{name}'@'{host}';", missing.join(", "))]))
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
        judge(&settings, &server)
            .into_iter()
            .filter(|f| f.verdict != Verdict::Good)
            .map(|f| (f.code.id.to_owned(), f.is_error()))
            .collect()
    }

    #[test]
    fn what_was_not_tested_is_said() {
        let good = [("log_bin", "ON"), ("binlog_format", "ROW"), ("binlog_row_metadata", "FULL")];
        let settings: BTreeMap<String, String> =
            good.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        for (flavor, version, image, expected) in [
            (Flavor::MySql, "8.0.44", "FULL", &["MY035"][..]),
            (Flavor::MySql, "8.4.6", "FULL", &["MY035"]),
            (Flavor::MySql, "9.7.4", "FULL", &[]),
            (Flavor::MariaDb, "10.11.14-MariaDB", "FULL", &[]),
            (Flavor::MariaDb, "11.4.8-MariaDB", "FULL_NODUP", &["MY035"]),
            (Flavor::MariaDb, "11.8.6-MariaDB", "MINIMAL", &["MY003"]),
        ] {
            let server = Server { flavor, version: version.into(), identity: String::new(), has_gtids: true };
            let mut settings = settings.clone();
            settings.insert("binlog_row_image".into(), image.into());
            settings.insert("binlog_expire_logs_seconds".into(), "2592000".into());
            let told = judge(&settings, &server).into_iter().filter(|f| f.verdict == Verdict::Warning);
            let told: Vec<&str> = told.map(|f| f.code.id).collect();
            assert_eq!(told, expected, "{version}");
        }
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
            ("binlog_row_image", "MINIMAL", "MY003", false),
            ("binlog_row_value_options", "PARTIAL_JSON", "MY004", false),
            ("binlog_expire_logs_seconds", "3600", "MY006", false),
            ("sync_binlog", "0", "MY005", false),
            ("binlog_row_metadata", "MINIMAL", "MY009", true),
        ] {
            let mut settings = good.to_vec();
            settings.retain(|(known, _)| *known != name);
            settings.push((name, value));
            assert_eq!(found(&settings), [(code.to_owned(), stops)], "{name}={value}");
        }
    }
}
