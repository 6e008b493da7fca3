//! Why a value or row cannot be taken. Never says what the value was.

use crate::error::{Code, Error, codes};
use crate::schema::TableSchema;

/// Why a value or row cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// The binary form has another length than the type's.
    Length,
    /// Not in the form that the type has on the wire.
    Malformed,
    /// More digits than the column's decimal type holds; nothing is rounded.
    DoesNotFit,
    /// `NaN` or `Infinity` in a column that becomes a decimal.
    NotANumber,
    /// An infinite date or timestamp, and [`super::Infinity::Stop`].
    Infinity,
    /// Beyond what the target's type can hold.
    OutOfRange,
    /// The value names other parts than its type had when the table was looked at.
    TypeChanged,
    /// A value of a type that is known by its text only came in binary form: a defect of the caller.
    BinaryUnknown,
    /// Text that is not UTF-8. Found when the batch is taken.
    NotUtf8,
    /// More than 2 GiB of one column in one batch: [`super::BatchBuilder::take`] was called too late.
    BatchTooLarge,
    /// The row has not as many columns as the table.
    ColumnCount {
        /// Columns in the row. 16 bits, as on the wire: a small `Reason` keeps results in registers.
        found: u16,
        /// Columns of the table.
        expected: u16,
    },
    /// A key column of an old row is null or missing: the row cannot be found.
    NoKey,
    /// A value that is said to be unchanged in a row that must be whole: an inserted or an old one.
    UnexpectedUnchanged,
    /// A new row's key column is said to be unchanged, and there is no old row to take it from.
    UnchangedKey,
    /// The table logs whole old rows, and this one is not whole.
    OldRowNotWhole,
    /// Snapshot rows and streamed rows in one builder, or a batch taken with rows of a transaction that
    /// nobody named: a defect of the caller.
    Misuse,
}

impl Reason {
    fn code(self) -> Code {
        match self {
            Reason::Length
            | Reason::Malformed
            | Reason::DoesNotFit
            | Reason::NotANumber
            | Reason::Infinity
            | Reason::OutOfRange
            | Reason::NotUtf8 => codes::PG021,
            Reason::ColumnCount { .. } | Reason::OldRowNotWhole | Reason::TypeChanged => codes::PG022,
            Reason::UnexpectedUnchanged | Reason::UnchangedKey => codes::PG023,
            Reason::NoKey => codes::PG008,
            Reason::BatchTooLarge | Reason::BinaryUnknown | Reason::Misuse => codes::RT001,
        }
    }

    fn advice(self) -> Option<&'static str> {
        match self {
            Reason::DoesNotFit => Some(
                "correct the value in the source, or give the column more digits there, then resync the table",
            ),
            Reason::NotANumber => Some(
                "correct the value in the source, or let unbounded numeric columns travel as text, then resync the table",
            ),
            Reason::Infinity => Some(
                "correct the value in the source, or let infinite dates become null, then resync the table",
            ),
            Reason::OutOfRange | Reason::NotUtf8 => {
                Some("correct the value in the source, then resync the table")
            }
            Reason::ColumnCount { .. } | Reason::OldRowNotWhole | Reason::TypeChanged => {
                Some("resync the table")
            }
            Reason::UnexpectedUnchanged => Some(
                "a row that begins to pass the publication's row filter is sent without large values that did not change: \
                 let the table log whole rows (REPLICA IDENTITY FULL), then resync it",
            ),
            Reason::NoKey => Some(
                "let the table log its key (REPLICA IDENTITY DEFAULT with a primary key, or FULL), then resync it",
            ),
            _ => None,
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Reason::Length => "the value has another length than its type",
            Reason::Malformed => "the value is not in the form of its type",
            Reason::DoesNotFit => "the value has more digits than the column's decimal type",
            Reason::NotANumber => "the value is NaN or infinite, which a decimal cannot be",
            Reason::Infinity => "the value is infinite",
            Reason::OutOfRange => "the value is beyond the range of the target's type",
            Reason::TypeChanged => "the parts of the value's type changed",
            Reason::BinaryUnknown => "a type that is known by its text only came in binary form",
            Reason::NotUtf8 => "a value is not UTF-8",
            Reason::BatchTooLarge => "one batch holds more than 2 GiB of the column",
            Reason::ColumnCount { found, expected } => {
                return write!(f, "the row has {found} columns, the table {expected}");
            }
            Reason::NoKey => "the old row has no key",
            Reason::UnexpectedUnchanged => "the row does not repeat a value that it must hold",
            Reason::UnchangedKey => "the new row does not repeat its key",
            Reason::OldRowNotWhole => "the table logs whole old rows, but the old row has its key only",
            Reason::Misuse => "rows of different origin in one batch",
        })
    }
}

/// A row that cannot be taken. The builder is as if it had never seen the row.
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
