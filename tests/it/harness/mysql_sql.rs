//! SQL on MySQL and MariaDB, from plain threads.

use super::sql::Row;
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, Value};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// No single statement of a test takes longer.
const LONGEST: Duration = Duration::from_secs(120);

/// One session. Driven only while a call is in progress.
pub(crate) struct MySql {
    conn: Option<Conn>,
    runtime: Runtime,
}

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The server's number of the error, when it answered.
    pub(crate) number: Option<u16>,
    /// Text.
    pub(crate) message: String,
}

impl From<mysql_async::Error> for Failed {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(server) => {
                Failed { number: Some(server.code), message: server.message }
            }
            other => Failed { number: None, message: other.to_string() },
        }
    }
}

impl MySql {
    /// Connects once.
    pub(crate) fn connect(url: &str) -> Result<MySql, Failed> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let opts = Opts::from_url(url).expect("a URL");
        let opts = OptsBuilder::from_opts(opts).init(vec!["set time_zone = '+00:00'"]).prefer_socket(false);
        let conn = runtime.block_on(async {
            let connecting = Conn::new(opts);
            tokio::time::timeout(Duration::from_secs(20), connecting)
                .await
                .map_err(|_| Failed { number: None, message: "timed out while connecting".into() })?
                .map_err(Failed::from)
        })?;
        Ok(MySql { conn: Some(conn), runtime })
    }

    /// Runs one statement; its rows, each value spelled as `tests/it/reader.py` spells it.
    pub(crate) fn try_rows(&mut self, sql: &str) -> Result<Vec<Row>, Failed> {
        let conn = self.conn.as_mut().expect("a connection");
        let rows = self.runtime.block_on(async {
            tokio::time::timeout(LONGEST, async {
                let mut result = conn.exec_iter(sql, ()).await?;
                let mut rows = Vec::new();
                while let Some(row) = result.next().await? {
                    let columns = row.columns();
                    rows.push(
                        row.unwrap().into_iter().zip(columns.iter()).map(|(v, c)| spell(v, c)).collect(),
                    );
                }
                result.drop_result().await?;
                Ok::<_, mysql_async::Error>(rows)
            })
            .await
        });
        Ok(rows.map_err(|_| Failed { number: None, message: "timed out".into() })??)
    }

    /// Rows of a statement that must succeed.
    #[track_caller]
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Row> {
        match self.try_rows(sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{error:?}\n  in: {sql}"),
        }
    }

    /// Runs statements, `;` between them, by the text protocol.
    pub(crate) fn try_exec(&mut self, sql: &str) -> Result<(), Failed> {
        let conn = self.conn.as_mut().expect("a connection");
        let done = self.runtime.block_on(async { tokio::time::timeout(LONGEST, conn.query_drop(sql)).await });
        Ok(done.map_err(|_| Failed { number: None, message: "timed out".into() })??)
    }

    /// Runs statements that must succeed.
    #[track_caller]
    pub(crate) fn exec(&mut self, sql: &str) {
        if let Err(error) = self.try_exec(sql) {
            panic!("{error:?}\n  in: {sql}");
        }
    }

    /// Rows of text, by the text protocol: some statements know no other.
    #[track_caller]
    pub(crate) fn texts(&mut self, sql: &str) -> Vec<Vec<String>> {
        let conn = self.conn.as_mut().expect("a connection");
        let rows = self.runtime.block_on(async {
            tokio::time::timeout(LONGEST, conn.query::<mysql_async::Row, _>(sql))
                .await
                .expect("an answer in time")
        });
        let text = |value: Value| match value {
            Value::Bytes(bytes) => String::from_utf8(bytes).expect("text"),
            other => panic!("{other:?} is no text"),
        };
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}\n  in: {sql}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// The single value of a statement that must return one.
    #[track_caller]
    pub(crate) fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.unwrap_or_else(|| panic!("no value from: {sql}"))
    }
}

impl Drop for MySql {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            let _gone = self
                .runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(2), conn.disconnect()).await });
        }
    }
}

const BINARY: u16 = 63;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spell(value: Value, column: &mysql_async::Column) -> Option<String> {
    let kind = column.column_type();
    let is_text = matches!(
        kind,
        ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_JSON
    );
    match value {
        Value::NULL => None,
        Value::Int(n) => Some(n.to_string()),
        Value::UInt(n) => Some(n.to_string()),
        Value::Float(f) => Some(hex(&f.to_bits().to_be_bytes())),
        Value::Double(f) => Some(hex(&f.to_bits().to_be_bytes())),
        Value::Bytes(bytes)
            if kind == ColumnType::MYSQL_TYPE_BIT || (column.character_set() == BINARY && !is_text) =>
        {
            Some(hex(&bytes))
        }
        Value::Bytes(bytes) => Some(String::from_utf8(bytes).expect("text")),
        Value::Date(y, m, d, h, min, s, us) => {
            let days = chrono::NaiveDate::from_ymd_opt(y.into(), m.into(), d.into())?
                .signed_duration_since(chrono::NaiveDate::default())
                .num_days();
            if kind == ColumnType::MYSQL_TYPE_DATE {
                return Some(days.to_string());
            }
            let seconds = days * 86_400 + i64::from(h) * 3600 + i64::from(min) * 60 + i64::from(s);
            Some((seconds * 1_000_000 + i64::from(us)).to_string())
        }
        Value::Time(negative, days, h, m, s, us) => {
            let sign = if negative { "-" } else { "" };
            let fraction = match column.decimals() {
                0 | 31 => String::new(),
                n => format!(".{us:06}").chars().take(usize::from(n) + 1).collect(),
            };
            Some(format!("{sign}{:02}:{m:02}:{s:02}{fraction}", days * 24 + u32::from(h)))
        }
    }
}
