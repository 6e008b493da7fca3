//! Who the server is, and where its log stands.

use super::fault::{fault, number};
use super::sql::Sql;
use crate::binlog::Flavor;
use crate::error::{Error, Result, codes};
use crate::position::gtid::{GtidSet, MariaGtidSet};
use crate::position::{FileNumberTooLarge, LogPoint};

/// MySQL and MariaDB from here on.
const OLDEST_MYSQL: (u32, u32) = (8, 0);
const OLDEST_MARIADB: (u32, u32) = (10, 11);
/// What was tested.
const TESTED_MYSQL: (u32, u32) = (9, 7);
/// There is no such statement.
const SYNTAX: u16 = 1064;

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// The product.
    pub flavor: Flavor,
    /// `9.7.4`, `11.8.6-MariaDB-log`.
    pub version: String,
    /// Its identity: a UUID, or for MariaDB, which has none, its server id.
    pub identity: String,
    /// GTIDs say what a position is on another server.
    pub has_gtids: bool,
}

/// Where the log ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEnd {
    /// `binlog` of `binlog.000012`.
    pub base: String,
    /// The place.
    pub point: LogPoint,
    /// MySQL: GTIDs that are committed.
    pub executed: String,
}

/// What a GTID set is for a flavor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gtids {
    /// MySQL's.
    MySql(GtidSet),
    /// MariaDB's.
    MariaDb(MariaGtidSet),
}

impl Server {
    /// Asks.
    ///
    /// # Errors
    /// `MY035` for one that is too old; those of the connection.
    pub async fn identify(sql: &mut Sql) -> Result<Server> {
        let version = one(sql, "SELECT @@GLOBAL.version").await?;
        let is_maria = version.to_ascii_lowercase().contains("mariadb");
        let numbers = numbers(&version);
        let (flavor, oldest) =
            if is_maria { (Flavor::MariaDb, OLDEST_MARIADB) } else { (Flavor::MySql, OLDEST_MYSQL) };
        if numbers < oldest {
            let what =
                format!("the server is {version}; strandline reads MySQL from 8.0 and MariaDB from 10.11 on");
            return Err(Error::new(codes::MY035, what).with_try("upgrade the server"));
        }
        let (identity, has_gtids) = if is_maria {
            (format!("mariadb-{}", one(sql, "SELECT @@GLOBAL.server_id").await?), true)
        } else {
            let row = sql.row("SELECT @@GLOBAL.server_uuid, @@GLOBAL.gtid_mode").await?;
            let cell = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
            (cell(0), cell(1) == "ON")
        };
        Ok(Server { flavor, version, identity, has_gtids })
    }

    /// Whether this version was tested; the others are expected to work.
    pub fn is_tested(&self) -> bool {
        let found = numbers(&self.version);
        match self.flavor {
            Flavor::MySql => found >= TESTED_MYSQL,
            Flavor::MariaDb => matches!(found, (10 | 11, 11 | 8)),
        }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// `MY001` when there is no log, `MY007`.
    pub async fn log_end(&self, sql: &mut Sql) -> Result<LogEnd> {
        let row = match sql.try_rows("SHOW BINARY LOG STATUS").await {
            Err(error) if number(&error) == Some(SYNTAX) => sql.rows("SHOW MASTER STATUS").await?,
            other => other.map_err(|error| privilege(fault("cannot ask where the log ends", error)))?,
        };
        let Some(row) = row.into_iter().next() else {
            return Err(Error::new(codes::MY001, "the server writes no binary log").with_try(
                "put log_bin = binlog and a server_id into the server's configuration and restart it",
            ));
        };
        let cell = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let (base, point) = parse(&cell(0), &cell(1))?;
        Ok(LogEnd { base, point, executed: cell(4) })
    }

    /// The files that are there, oldest first, with their sizes.
    ///
    /// # Errors
    /// `MY007`.
    pub async fn files(&self, sql: &mut Sql) -> Result<Vec<LogPoint>> {
        let rows = sql.rows("SHOW BINARY LOGS").await.map_err(privilege)?;
        let file = |row: &Vec<Option<String>>| {
            let cell = |i: usize| row.get(i).cloned().flatten().unwrap_or_default();
            parse(&cell(0), &cell(1)).map(|(_, point)| point)
        };
        rows.iter().map(file).collect()
    }

    /// The transactions that are committed.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn executed(&self, sql: &mut Sql) -> Result<Gtids> {
        let odd = |e: crate::position::gtid::ParseGtidError| {
            Error::new(codes::MY033, "the server's GTID set cannot be read").with_source(e)
        };
        Ok(match self.flavor {
            Flavor::MySql => {
                Gtids::MySql(one(sql, "SELECT @@GLOBAL.gtid_executed").await?.parse().map_err(odd)?)
            }
            Flavor::MariaDb => {
                Gtids::MariaDb(one(sql, "SELECT @@GLOBAL.gtid_binlog_pos").await?.parse().map_err(odd)?)
            }
        })
    }

    /// MariaDB: the GTIDs at a place of the log.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn gtids_at(&self, sql: &mut Sql, base: &str, point: LogPoint) -> Result<MariaGtidSet> {
        let query = format!("SELECT BINLOG_GTID_POS('{}', {})", point.file_name(base), point.offset);
        let text = sql.row(&query).await?.into_iter().next().flatten().ok_or_else(|| {
            Error::new(codes::MY033, format!("the server knows no GTIDs at {point} of its log"))
        })?;
        text.parse().map_err(|e| Error::new(codes::MY033, "the server's GTIDs cannot be read").with_source(e))
    }
}

async fn one(sql: &mut Sql, query: &str) -> Result<String> {
    Ok(sql.row(query).await?.into_iter().next().flatten().unwrap_or_default())
}

fn privilege(error: Error) -> Error {
    if error.code() == codes::MY007 {
        return error
            .with_try("GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO the user, as an administrator");
    }
    error
}

fn numbers(version: &str) -> (u32, u32) {
    // Before 11, MariaDB put 5.5.5- in front for old replicas.
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn parse(file: &str, offset: &str) -> Result<(String, LogPoint)> {
    let odd = || Error::new(codes::MY033, format!("the server names its log \"{file}\" at \"{offset}\""));
    let (base, _) = file.rsplit_once('.').ok_or_else(odd)?;
    let number = LogPoint::file_number(file).ok_or_else(odd)?;
    Ok((base.to_owned(), LogPoint { file: number, offset: offset.parse().map_err(|_| odd())? }))
}

/// A place that no position can hold.
pub(super) fn too_large(error: FileNumberTooLarge) -> Error {
    Error::new(codes::MY024, error.to_string())
        .with_try("RESET BINARY LOGS AND GTIDS; when nobody else reads them, then resync")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, found) in [
            ("9.7.4-2", (9, 7)),
            ("8.0.36", (8, 0)),
            ("11.8.6-MariaDB-0+deb13u1-log", (11, 8)),
            ("5.5.5-10.11.18-MariaDB-log", (10, 11)),
        ] {
            assert_eq!(numbers(text), found, "{text}");
        }
    }

    #[test]
    fn places() {
        let (base, point) = parse("db1-bin.2.000123", "4567").unwrap();
        assert_eq!((base.as_str(), point), ("db1-bin.2", LogPoint { file: 123, offset: 4567 }));
        assert!(parse("binlog", "4").is_err() && parse("binlog.000001", "").is_err());
    }
}
