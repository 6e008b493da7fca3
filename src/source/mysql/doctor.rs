//! Everything that `strandline doctor` looks at on a MySQL or MariaDB: what `run` checks, and whether the log still
//! holds what follows the recorded position. Nothing is changed.

use super::catalog::{self, Catalog, Known, View};
use super::gtids;
use super::lock::Lock;
use super::options::MyOptions;
use super::preflight;
use super::server::{Server, too_large};
use super::sql::{Sql, quoted};
use super::stream::lineage;
use crate::binlog::Flavor;
use crate::error::finding::{Finding, Verdict};
use crate::error::{Result, codes};
use crate::position::{CommitLsn, Lineage, LogPoint, Marks};
use crate::source::pattern::Selection;

/// What was found on a server.
#[derive(Debug)]
pub struct Examined {
    /// The server.
    pub server: Server,
    /// The findings, in the order in which a person mends them.
    pub findings: Vec<Finding>,
    /// The tables.
    pub catalog: Catalog,
    /// A process of this pipeline reads from it.
    pub is_read: bool,
}

/// What is recorded of a pipeline.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Whose positions they are.
    pub lineage: Lineage,
    /// Everything up to here is held.
    pub position: CommitLsn,
    /// The same for other servers.
    pub marks: Marks,
}

/// Looks at the server.
///
/// # Errors
/// When the server cannot be asked at all.
pub async fn examine(options: &MyOptions, selection: &Selection, view: View) -> Result<Examined> {
    let mut sql = Sql::connect(options).await?;
    let server = Server::identify(&mut sql).await?;
    let mut findings = preflight::inspect(&mut sql, &server).await?;
    let catalog = catalog::load(&mut sql, selection, view, Known::default()).await?;
    let check = "tables";
    if catalog.tables.is_empty() && catalog.refused.is_empty() {
        let what = "no table of the server matches tables.include";
        findings.push(
            Finding::new(codes::MY010, check, Verdict::Stops, what)
                .advise("compare tables.include with SHOW TABLES FROM the database, as the same user"),
        );
    } else {
        let count = catalog.tables.len();
        findings.push(Finding::good(codes::MY010, check, format!("{count} tables can be replicated")));
    }
    for (_, name, error) in &catalog.refused {
        findings.push(Finding::of_error(error, check, Verdict::StopsTable).of_table(name));
    }
    for table in &catalog.tables {
        if !table.schema.has_key() {
            let name = &table.schema.name;
            let what = format!("table \"{name}\" has no key: its target is a log of its changes");
            findings.push(
                Finding::new(codes::MY026, "table_key", Verdict::Warning, what)
                    .run_sql([format!("ALTER TABLE `{}`.`{}` ADD PRIMARY KEY (…);", name.schema, name.table)])
                    .of_table(name),
            );
        }
    }
    findings.extend(cascades(&mut sql, &catalog).await?);
    let is_read = Lock::holder(&mut sql, &options.pipeline).await?.is_some();
    sql.close().await;
    Ok(Examined { server, findings, catalog, is_read })
}

/// Foreign keys that change rows of followed tables without the log saying so.
async fn cascades(sql: &mut Sql, catalog: &Catalog) -> Result<Vec<Finding>> {
    // Since MySQL 9.6 the server follows them above the engine, and logs what they change.
    let native = sql.rows("SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'").await?;
    let is_logged = native.first().and_then(|row| row.get(1).cloned().flatten()).is_some_and(|v| v == "OFF");
    if is_logged {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for name in catalog.tables.iter().map(|table| &table.schema.name) {
        // The lists of information_schema are hidden from who may only read.
        let shown =
            sql.rows(&format!("SHOW CREATE TABLE {}.{}", quoted(&name.schema), quoted(&name.table))).await?;
        let text = shown.into_iter().next().and_then(|row| row.into_iter().nth(1).flatten());
        for (key, rules) in text.iter().flat_map(|text| text.lines()).filter_map(cascade) {
            let what = format!(
                "foreign key \"{key}\" of table \"{name}\" ({rules}) changes rows that the log says nothing of"
            );
            let advice =
                "change these rows by the application, or compare with strandline verify now and then";
            let finding = Finding::new(codes::MY005, "cascades", Verdict::Warning, what);
            found.push(finding.advise(advice).of_table(name));
        }
    }
    Ok(found)
}

/// A line of `SHOW CREATE TABLE`: the name of a foreign key that changes rows, and how.
fn cascade(line: &str) -> Option<(&str, &str)> {
    let line = line.trim().trim_end_matches(',');
    let (name, rest) = line.strip_prefix("CONSTRAINT `")?.split_once("` FOREIGN KEY (")?;
    let (_, rules) = rest.rsplit_once(')')?;
    let changes = ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|rule| rules.contains(rule));
    changes.then(|| (name, rules.trim()))
}

/// Whether the server still holds what comes after a position.
///
/// # Errors
/// Those of the connection.
pub async fn position(options: &MyOptions, server: &Server, recorded: &Recorded) -> Result<Finding> {
    let check = "position";
    let mut sql = Sql::connect(options).await?;
    let end = server.log_end(&mut sql).await?;
    let files = server.files(&mut sql).await?;
    let executed = if server.has_gtids { Some(server.executed(&mut sql).await?) } else { None };
    sql.close().await;
    let Recorded { lineage: held, position, marks } = recorded;
    let set = gtids::of_marks(marks, server.flavor).filter(|_| !marks.is_empty());
    if held.system_id != lineage(server, 0).system_id {
        return Ok(match (set, executed) {
            (Some(set), Some(executed)) if set.is_within(&executed) => Finding::good(
                codes::MY043,
                check,
                "another server than before, and it has everything that was applied",
            ),
            (Some(_), Some(_)) => Finding::new(
                codes::MY043,
                check,
                Verdict::Stops,
                "another server than before, and it lacks transactions that were applied",
            )
            .advise(
                "connect to the right server, or: strandline resync TABLE --yes  (every table is copied)",
            ),
            _ => Finding::new(
                codes::MY042,
                check,
                Verdict::Stops,
                format!("the server is {}, the tables were filled from {}", server.identity, held.system_id),
            )
            .advise("connect to the right server, or use another pipeline name and sink uri"),
        });
    }
    let Some(point) = LogPoint::of(*position, held.timeline) else {
        return Ok(Finding::good(
            codes::MY042,
            check,
            "the recorded position is of a server before this one",
        ));
    };
    if files.first().is_none_or(|first| first.file > point.file) {
        let what = format!("log file {} is needed and deleted", point.file_name(&end.base));
        return Ok(Finding::new(codes::MY040, check, Verdict::Stops, what).advise(
            "raise binlog_expire_logs_seconds, then: strandline resync TABLE --yes  (every table is copied)",
        ));
    }
    let is_behind = end.point.position(held.timeline).map_err(too_large)? < *position;
    if is_behind || set.zip(executed).is_some_and(|(set, executed)| !set.is_within(&executed)) {
        let what = format!("the log ends at {}, and more than it holds was applied", end.point);
        return Ok(Finding::new(codes::MY044, check, Verdict::Stops, what)
            .advise("the server was set back: strandline resync TABLE --yes  (every table is copied)"));
    }
    Ok(Finding::good(codes::MY040, check, format!("the server holds what follows {point}")))
}

impl Server {
    /// Product and version, for people.
    pub fn described(&self) -> String {
        match self.flavor {
            Flavor::MySql => format!("MySQL {}", self.version),
            Flavor::MariaDb => self.version.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cascade;

    #[test]
    fn foreign_keys_that_change_rows() {
        let line = "  CONSTRAINT `of` FOREIGN KEY (`p`) REFERENCES `parent` (`id`)";
        assert_eq!(cascade(line), None);
        assert_eq!(cascade(&format!("{line} ON DELETE RESTRICT,")), None);
        for rules in ["ON DELETE CASCADE", "ON DELETE CASCADE ON UPDATE NO ACTION", "ON UPDATE SET NULL"] {
            assert_eq!(cascade(&format!("{line} {rules},")), Some(("of", rules)));
        }
        assert_eq!(cascade("  KEY `CASCADE` (`p`)"), None);
    }
}
