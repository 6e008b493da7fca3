//! SQL on the real server, from plain threads.
//!
//! Everything goes by the simple protocol, so that results are the server's own text.

use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A row of the server's text; `None` is null.
pub(crate) type Row = Vec<Option<String>>;

/// One session. Driven only while a call is in progress.
pub(crate) struct Sql {
    client: Client,
    runtime: Runtime,
}

/// What went wrong: the server's own message where there is one.
#[derive(Debug)]
pub(crate) struct SqlError {
    /// SQLSTATE, when the server answered.
    pub(crate) state: Option<String>,
    /// Text.
    pub(crate) message: String,
}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.state.as_deref().unwrap_or("no SQLSTATE"))
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => {
                SqlError { state: Some(db.code().code().to_owned()), message: db.message().to_owned() }
            }
            None => SqlError { state: None, message: error.to_string() },
        }
    }
}

/// No single statement of a test takes longer.
const LONGEST: Duration = Duration::from_secs(120);

impl Sql {
    /// Connects once.
    pub(crate) fn connect(url: &str) -> Result<Sql, SqlError> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let connecting = tokio_postgres::connect(url, NoTls);
            let (client, connection) = tokio::time::timeout(Duration::from_secs(20), connecting)
                .await
                .map_err(|_| SqlError { state: None, message: "timed out while connecting".into() })??;
            tokio::spawn(async move {
                // The error reaches whoever uses the client next.
                let _ended = connection.await;
            });
            Ok::<_, SqlError>(client)
        })?;
        Ok(Sql { client, runtime })
    }

    /// Runs one or more statements; the rows of the last one that returned any.
    pub(crate) fn try_rows(&mut self, sql: &str) -> Result<Vec<Row>, SqlError> {
        let query = self.client.simple_query(sql);
        let messages = self
            .runtime
            .block_on(async { tokio::time::timeout(LONGEST, query).await })
            .map_err(|_| SqlError { state: None, message: "timed out".into() })??;
        let mut rows = Vec::new();
        for message in messages {
            match message {
                SimpleQueryMessage::RowDescription(_) => rows.clear(),
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(rows)
    }

    /// Rows of a statement that must succeed.
    #[track_caller]
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Row> {
        match self.try_rows(sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{error}\n  in: {sql}"),
        }
    }

    /// Runs statements that must succeed.
    #[track_caller]
    pub(crate) fn exec(&mut self, sql: &str) {
        self.rows(sql);
    }

    /// `copy … from stdin` with this data.
    #[track_caller]
    pub(crate) fn copy_in(&mut self, statement: &str, data: &str) {
        use futures_util::SinkExt as _;
        let data = bytes::Bytes::from(data.to_owned());
        let client = &self.client;
        let copied: Result<u64, tokio_postgres::Error> = self.runtime.block_on(async {
            let mut sink = Box::pin(client.copy_in(statement).await?);
            sink.send(data).await?;
            sink.as_mut().finish().await
        });
        if let Err(error) = copied {
            panic!("{error}\n  in: {statement}");
        }
    }

    /// Runs statements; the error is for the caller to judge.
    pub(crate) fn try_exec(&mut self, sql: &str) -> Result<(), SqlError> {
        self.try_rows(sql).map(|_| ())
    }

    /// The single value of a statement that must return one.
    #[track_caller]
    pub(crate) fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.unwrap_or_else(|| panic!("no value from: {sql}"))
    }
}

/// `16/B374D848` as a number.
pub(crate) fn parse_lsn(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("an LSN");
    (u64::from_str_radix(high, 16).expect("hex") << 32) | u64::from_str_radix(low, 16).expect("hex")
}
