//! Why a value or row cannot be taken. Never says what the value was.

use crate::error::{Code, Error, codes};
use crate::schema::TableSchema;

/// Why a value or row cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The row ends within a value, or its images do not fill it: it is not of these columns.
    Truncated,
    /// Not in the form that the type has on the wire.
    Malformed,
    /// More digits than the column's decimal type holds; nothing is rounded.
    DoesNotFit,
    /// A date that no calendar has, and [`super::ZeroDates::Stop`].
    ZeroDate,
    /// Beyond what the target's type can hold.
    OutOfRange,
    /// Bytes that the column's character set does not define.
    NotText,
    /// A character set that we do not know.
    UnknownCharset,
    /// A label's number beyond the labels of the type.
    UnknownLabel,
    /// A value that came as text, where text does not hold all of it: a `float` or `double` of the text protocol.
    Lossy,
    /// More than 2 GiB of one column in one batch: [`super::BatchBuilder::take`] was called too late.
    BatchTooLarge,
    /// The row has not as many columns as the table.
    ColumnCount {
        /// Columns in the row.
        found: u16,
        /// Columns of the table.
        expected: u16,
    },
    /// A column of the table is not in the rows, or has another type there.
    Column,
    /// A key column of an old row is null or missing: the row cannot be found.
    NoKey,
    /// A created row, or the old row of a deleted one, lacks a value that it must hold.
    MissingValue,
    /// The row lacks a value that is either what it was or the column's default: MariaDB logs a `REPLACE` so.
    Replaced,
    /// A new JSON value is said by what changed in it, and the old one is not there to be changed.
    PartialJson,
    /// What changed in a JSON value does not fit the old one.
    JsonDiff,
    /// Snapshot rows and streamed rows in one builder, or rows for another schema: a defect of the caller.
    Misuse,
}

impl Reason {
    fn code(self) -> Code {
        match self {
            Reason::Malformed
            | Reason::DoesNotFit
            | Reason::ZeroDate
            | Reason::OutOfRange
            | Reason::NotText
            | Reason::UnknownLabel
            | Reason::JsonDiff => codes::MY021,
            Reason::UnknownCharset => codes::MY020,
            Reason::Truncated | Reason::ColumnCount { .. } | Reason::Column => codes::MY022,
            Reason::NoKey | Reason::MissingValue | Reason::Replaced | Reason::PartialJson => codes::MY023,
            Reason::Lossy | Reason::BatchTooLarge | Reason::Misuse => codes::RT001,
        }
    }

    fn advice(self) -> Option<&'static str> {
        match self {
            Reason::DoesNotFit | Reason::OutOfRange | Reason::NotText => {
                Some("correct the value in the source, then resync the table")
            }
            Reason::ZeroDate => {
                Some("correct the value in the source, or let such dates become null, then resync the table")
            }
            Reason::Truncated | Reason::ColumnCount { .. } | Reason::Column => Some("resync the table"),
            Reason::NoKey | Reason::MissingValue => {
                Some("SET PERSIST binlog_row_image=FULL; on the server, then resync the table")
            }
            Reason::Replaced => {
                Some("SET GLOBAL binlog_row_image=FULL; on the server, then resync the table")
            }
            Reason::PartialJson => {
                Some("SET PERSIST binlog_row_value_options=''; on the server, then resync the table")
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Truncated => "the row's bytes are not of these columns",
            Reason::Malformed => "the value is not in the form of its type",
            Reason::DoesNotFit => "the value has more digits than the column's decimal type",
            Reason::ZeroDate => "the value is a date that no calendar has",
            Reason::OutOfRange => "the value is beyond the range of the target's type",
            Reason::NotText => "the value has bytes that its character set does not define",
            Reason::UnknownCharset => "the column's character set is not known",
            Reason::UnknownLabel => "the value is none of the type's labels",
            Reason::Lossy => "the value came in a form that does not hold all of it",
            Reason::BatchTooLarge => "one batch holds more than 2 GiB of the column",
            Reason::ColumnCount { found, expected } => {
                return write!(f, "the row has {found} columns, the table {expected}");
            }
            Reason::Column => "the rows do not have this column as the table has it",
            Reason::NoKey => "the old row has no key",
            Reason::MissingValue => "the row lacks a value that it must hold",
            Reason::Replaced => {
                "the row lacks a value that is as before, or the default if this was a REPLACE: the log does not say which"
            }
            Reason::PartialJson => {
                "the log says only what changed in a JSON value, and the old value is not there"
            }
            Reason::JsonDiff => "what changed in a JSON value does not fit the old one",
            Reason::Misuse => "rows of different origin in one batch",
        })
    }
}

/// A row that cannot be taken. The builder is as if it had never seen the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueError {
    /// Index of the column in `TableSchema::columns`. `None`: the row as a whole.
    pub column: Option<usize>,
    /// Why.
    pub reason: Reason,
}

impl ValueError {
    pub(super) fn row(reason: Reason) -> Self {
        ValueError { column: None, reason }
    }

    #[cold]
    pub(super) fn column_count(found: usize, expected: usize) -> Self {
        let narrow = |count| u16::try_from(count).unwrap_or(u16::MAX);
        ValueError::row(Reason::ColumnCount { found: narrow(found), expected: narrow(expected) })
    }

    /// With code, table, column and advice, for people.
    pub fn into_error(self, schema: &TableSchema) -> Error {
        let table = &schema.name;
        let message = match self.column.and_then(|index| schema.columns.get(index)) {
            Some(column) => {
                format!("table \"{table}\", column \"{}\" ({}): {self}", column.name, column.type_name)
            }
            None => format!("table \"{table}\": {self}"),
        };
        let error = Error::new(self.reason.code(), message);
        match self.reason.advice() {
            Some(advice) => error.with_try(advice),
            None => error,
        }
    }
}

impl std::fmt::Display for ValueError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reason.fmt(f)
    }
}

impl std::error::Error for ValueError {}
