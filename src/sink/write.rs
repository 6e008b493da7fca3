//! How the operator wants a table to be written.

use crate::schema::TableName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How changes become rows of the target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WriteMode {
    /// The table equals the source: by key, with deletion vectors.
    #[default]
    Upsert,
    /// The table equals the source: by key, files with a changed row are rewritten. For readers that know no
    /// deletion vectors.
    CopyOnWrite,
    /// A change log: each change is a row.
    Append,
    /// The table equals the source, and a change log beside it.
    Both,
}

/// What a deleted row becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deletes {
    /// It is gone.
    #[default]
    Hard,
    /// It stays, marked as deleted.
    Soft,
}

/// What a TRUNCATE does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncates {
    /// Every row is gone.
    #[default]
    Apply,
    /// Every row stays, marked as deleted.
    Soft,
    /// The table stops.
    Stop,
}

/// Columns that tell of a row's last change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetaColumns {
    /// None, but the mark of deleted rows where they stay.
    #[default]
    None,
    /// `_strandline_op`, `_strandline_lsn`, `_strandline_ts`.
    Strandline,
    /// `__op`, `__source_lsn`, `__source_ts_ms`, as Debezium's flattened events.
    Debezium,
    /// `_fivetran_synced`.
    Fivetran,
}

/// Which images of a changed row a change log holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// The row after the change; of a deleted row what the source says of it.
    #[default]
    After,
    /// And before it a row with what the source says of the row before the change.
    Both,
}

/// How one table is written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteOptions {
    /// How changes become rows.
    pub write: WriteMode,
    /// What a deleted row becomes.
    pub deletes: Deletes,
    /// What a TRUNCATE does.
    pub truncates: Truncates,
    /// Columns that tell of the last change.
    pub meta: MetaColumns,
    /// Images in a change log.
    pub images: Images,
    /// Columns that the target is partitioned by.
    pub partition_by: Vec<String>,
    /// Columns have other names in the target's files (`delta.columnMapping.mode = name`).
    pub column_mapping: bool,
    /// Properties that the target has.
    pub properties: BTreeMap<String, String>,
}

/// How the tables are written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteChoices {
    /// Of every table that is not named.
    pub default: WriteOptions,
    /// Of single tables.
    pub tables: BTreeMap<TableName, WriteOptions>,
}

impl WriteChoices {
    /// Of this table.
    pub fn of(&self, name: &TableName) -> &WriteOptions {
        self.tables.get(name).unwrap_or(&self.default)
    }
}

/// What happens when somebody else has changed the rows of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnForeignChange {
    /// The table stops.
    #[default]
    Stop,
    /// What was changed stays, and is no longer compared with the source.
    Accept,
}

/// When files that no version needs are deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Vacuum {
    /// As the table's own properties say; a week where they say nothing.
    #[default]
    AsTables,
    /// Where the table's properties say nothing, after this time.
    After(Duration),
    /// Never by us.
    Off,
}

/// What is done beside the commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Maintenance {
    /// Small and much-deleted files become few whole ones.
    pub optimize: bool,
    /// Files that nobody needs go.
    pub vacuum: Vacuum,
}

impl Default for Maintenance {
    fn default() -> Self {
        Maintenance { optimize: true, vacuum: Vacuum::default() }
    }
}

/// Milliseconds of an interval as properties of Delta tables have it: `interval 1 week`, `7 days`, `interval 1 day 12 hours`.
pub fn interval_ms(text: &str) -> Option<i64> {
    let lower = text.to_lowercase();
    let mut words = lower.split_whitespace().peekable();
    words.next_if_eq(&"interval");
    let mut total: Option<i64> = None;
    while let Some(number) = words.next() {
        let number: i64 = number.parse().ok()?;
        let unit = match words.next()?.trim_end_matches('s') {
            "week" => 7 * 24 * 3_600_000,
            "day" => 24 * 3_600_000,
            "hour" => 3_600_000,
            "minute" => 60_000,
            "second" => 1000,
            "millisecond" => 1,
            _ => return None,
        };
        total = Some(total.unwrap_or(0).checked_add(number.checked_mul(unit)?)?);
    }
    total.filter(|&ms| ms >= 0)
}
