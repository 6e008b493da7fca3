//! Statements on the catalogue, over a connection that heals itself.
//!
//! It is our own client, not `tokio-postgres`: that one sends a password in clear to any server that asks,
//! has other rules for TLS and several hosts, and typed parameters are of no use for a dozen catalogue
//! queries. Results are text, names are quoted by [`super::quote`].
//!
//! A connection that was lost, or whose query was dropped half-way, is made anew for the next one. No
//! statement here depends on the session.

use super::fault::protocol;
use super::options::PgOptions;
use super::wire::{Purpose, TextRow, Wire};
use crate::error::{Result, codes};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// Longer than any lock that a statement here may wait for.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A connection for queries; clones of a pipeline's tasks share one.
pub struct Sql {
    options: PgOptions,
    wire: Mutex<Option<Wire>>,
    major: u32,
}

impl Sql {
    /// Connects and logs in.
    ///
    /// Errors: as [`Wire::connect`].
    pub async fn connect(options: &PgOptions) -> Result<Sql> {
        let wire = Wire::connect(options, Purpose::Query).await?;
        let major = wire.session().major;
        Ok(Sql { options: options.clone(), wire: Mutex::new(Some(wire)), major })
    }

    /// The server's major version at the first connection.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The options that it connects with.
    pub fn options(&self) -> &PgOptions {
        &self.options
    }

    /// Runs statements; rows of all of them.
    ///
    /// Errors: the server's, by its state; PG006 when the connection is lost (the next call makes a new
    /// one).
    pub async fn rows(&self, sql: &str) -> Result<Vec<TextRow>> {
        let mut place = self.wire.lock().await;
        // Out of its place while it is in use: should this future be dropped, so is the connection.
        let mut wire = match place.take() {
            Some(wire) => wire,
            None => Wire::connect(&self.options, Purpose::Query).await?,
        };
        let result = wire.simple_query_within(sql, ANSWER_WITHIN).await;
        if !matches!(&result, Err(error) if error.code() == codes::PG006) {
            *place = Some(wire);
        }
        result
    }

    /// Begins to look at one moment of the database: what other transactions do meanwhile is not seen. Others who
    /// ask by this connection wait.
    ///
    /// Errors: as [`Sql::rows`].
    pub async fn at_one_moment(&self) -> Result<Moment<'_>> {
        let mut place = self.wire.lock().await;
        let inner = Sql { options: self.options.clone(), wire: Mutex::new(place.take()), major: self.major };
        inner.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Moment { place, inner })
    }

    /// Whether the server is a standby.
    pub async fn in_recovery(&self) -> Result<bool> {
        Ok(truth(&self.row("SELECT pg_catalog.pg_is_in_recovery()").await?, 0))
    }

    /// The single row of a query that has one.
    pub async fn row(&self, sql: &str) -> Result<TextRow> {
        let mut rows = self.rows(sql).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(protocol("a catalogue query did not give one row")),
        }
    }

    /// Says goodbye.
    pub async fn close(self) {
        if let Some(wire) = self.wire.into_inner() {
            wire.close().await;
        }
    }
}

/// One moment of the database, until [`Moment::end`]. Dropped before, its connection is closed.
pub struct Moment<'a> {
    place: MutexGuard<'a, Option<Wire>>,
    inner: Sql,
}

impl Moment<'_> {
    /// To ask by.
    pub fn sql(&self) -> &Sql {
        &self.inner
    }

    /// The connection goes back.
    ///
    /// Errors: as [`Sql::rows`].
    pub async fn end(mut self) -> Result<()> {
        self.inner.rows("COMMIT").await?;
        *self.place = self.inner.wire.into_inner();
        Ok(())
    }
}

/// A column of a row that may be null.
pub fn text(row: &TextRow, column: usize) -> Option<&str> {
    row.get(column).and_then(Option::as_deref)
}

/// A column that the query never gives as null, parsed.
pub fn field<T: FromStr>(row: &TextRow, column: usize) -> Result<T>
where
    T::Err: Display,
{
    let value =
        text(row, column).ok_or_else(|| protocol(format!("no column {column} in a catalogue row")))?;
    value.parse().map_err(|e| protocol(format!("column {column} of a catalogue row: {e}")))
}

/// A column of type boolean; null is false.
pub fn truth(row: &TextRow, column: usize) -> bool {
    text(row, column) == Some("t")
}
