//! What is told of copies while they go on, in Debezium's words.
//!
//! Told once where it happens; a death in between may leave one out, or tell it again.

use crate::debezium::Notification;
use crate::schema::TableName;
use crate::telemetry::status::Timestamp;

const INITIAL: &str = "Initial Snapshot";
const INCREMENTAL: &str = "Incremental Snapshot";

fn note(
    id: Option<&str>,
    aggregate: &'static str,
    kind: &'static str,
    data: Vec<(&'static str, String)>,
) -> Notification {
    let id = id.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    Notification { id, aggregate, kind, data, time_ms: Timestamp::now().utc().timestamp_millis() }
}

/// Notes of a round of copies.
pub(super) struct Round(String);

impl Round {
    /// Of these tables.
    pub(super) fn new<'a>(tables: impl Iterator<Item = &'a TableName>) -> Self {
        Round(tables.map(ToString::to_string).collect::<Vec<_>>().join(","))
    }

    fn all(&self) -> (&'static str, String) {
        ("data_collections", self.0.clone())
    }

    /// There is nothing to copy.
    pub(super) fn skipped() -> Notification {
        note(None, INITIAL, "SKIPPED", Vec::new())
    }

    pub(super) fn started() -> Notification {
        note(None, INITIAL, "STARTED", Vec::new())
    }

    pub(super) fn in_progress(&self, table: &TableName) -> Notification {
        let data = vec![("current_collection_in_progress", table.to_string()), self.all()];
        note(None, INITIAL, "IN_PROGRESS", data)
    }

    pub(super) fn scanned(&self, table: &TableName, rows: u64) -> Notification {
        note(None, INITIAL, "TABLE_SCAN_COMPLETED", scan(table, rows, "SUCCEEDED", self.all()))
    }

    pub(super) fn completed() -> Notification {
        note(None, INITIAL, "COMPLETED", Vec::new())
    }

    pub(super) fn aborted() -> Notification {
        note(None, INITIAL, "ABORTED", Vec::new())
    }
}

fn scan(
    table: &TableName,
    rows: u64,
    status: &str,
    all: (&'static str, String),
) -> Vec<(&'static str, String)> {
    vec![
        ("scanned_collection", table.to_string()),
        ("total_rows_scanned", rows.to_string()),
        ("status", status.to_owned()),
        all,
    ]
}

/// What happened to a request for rows beside the stream.
pub(super) enum Reread<'a> {
    Started,
    Scanned(u64),
    Completed,
    /// With Debezium's word for why.
    Aborted(Option<&'a str>),
}

/// The note of it.
pub(super) fn reread(id: &str, table: &TableName, what: &Reread<'_>) -> Notification {
    let all = ("data_collections", table.to_string());
    let (kind, data) = match what {
        Reread::Started => ("STARTED", vec![all]),
        Reread::Scanned(rows) => ("TABLE_SCAN_COMPLETED", scan(table, *rows, "SUCCEEDED", all)),
        Reread::Completed => ("COMPLETED", Vec::new()),
        Reread::Aborted(None) => ("ABORTED", Vec::new()),
        Reread::Aborted(Some(status)) => ("TABLE_SCAN_COMPLETED", scan(table, 0, status, all)),
    };
    // The signal's own.
    let id = id.split_once('/').map_or(id, |(signal, _)| signal);
    note(Some(id), INCREMENTAL, kind, data)
}
