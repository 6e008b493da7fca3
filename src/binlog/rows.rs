//! Row events: which table, which columns are there, and the row images, not yet taken apart.

use super::wire::{DecodeError, Problem, Reader};
use std::borrow::Cow;

/// What happened to the rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowsKind {
    /// Created.
    Write,
    /// Updated: each row has two images.
    Update,
    /// Updated, where the new image may say of JSON values only what changed.
    PartialUpdate,
    /// Deleted.
    Delete,
}

impl RowsKind {
    /// Whether each row has an image from before.
    pub fn has_before(self) -> bool {
        self != RowsKind::Write
    }

    /// Whether each row has a new image.
    pub fn has_after(self) -> bool {
        self != RowsKind::Delete
    }
}

/// The layout of the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowsVersion {
    /// MariaDB's.
    V1,
    /// MySQL's since 5.6.
    V2,
}

/// Which columns are in a row image: a bit each, from the lowest on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ColumnBits<'a> {
    bits: &'a [u8],
    columns: usize,
}

impl<'a> ColumnBits<'a> {
    /// Of so many columns.
    pub fn new(bits: &'a [u8], columns: usize) -> Self {
        ColumnBits { bits, columns }
    }

    /// Whether the column is there.
    #[inline]
    pub fn has(&self, column: usize) -> bool {
        column < self.columns && self.bits.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 1)
    }

    /// Whether all are there.
    pub fn is_full(&self) -> bool {
        self.count() == self.columns
    }

    /// How many are there.
    pub fn count(&self) -> usize {
        (0..self.columns).filter(|&column| self.has(column)).count()
    }

    /// Columns of the table.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// A row event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows<'a> {
    /// What happened.
    pub kind: RowsKind,
    /// The number that a `TABLE_MAP` of this statement gave the table.
    pub table_id: u64,
    /// Of the first version, which only MariaDB still writes. It logs a `REPLACE` of a row as an update, and leaves out of
    /// it what the statement set to its default, if `binlog_row_image` lets it.
    pub is_v1: bool,
    /// The statement's last row event: table numbers end.
    pub ends_statement: bool,
    /// Columns of the table.
    pub columns: usize,
    /// Columns of the images from before. Of created rows: none.
    pub before: ColumnBits<'a>,
    /// Columns of the new images. Of deleted rows: none.
    pub after: ColumnBits<'a>,
    /// The images.
    pub data: Cow<'a, [u8]>,
}

/// More columns than a table can have (4096).
const MAX_COLUMNS: u64 = 4096;
/// The number in an event without rows, which only ends a statement.
const DUMMY_TABLE: u64 = 0x00FF_FFFF;

impl<'a> Rows<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        kind: RowsKind,
        version: RowsVersion,
    ) -> Result<Self, DecodeError> {
        let table_id = reader.u48("table id")?;
        let flags = reader.u16("flags")?;
        if version == RowsVersion::V2 {
            let offset = reader.at();
            let length = reader.u16("length of the extra data")?;
            let problem = Problem::Count { found: length.into() };
            let length = length.checked_sub(2).ok_or_else(|| reader.error("length", offset, problem))?;
            // Partition numbers, and what NDB says.
            reader.bytes("extra data", length.into())?;
        }
        let offset = reader.at();
        let found = reader.lenenc("column count")?;
        let columns = match usize::try_from(found) {
            Ok(columns) if found <= MAX_COLUMNS => columns,
            _ => return Err(reader.error("column count", offset, Problem::Count { found })),
        };
        let first = reader.bytes("columns", columns.div_ceil(8))?;
        let none = ColumnBits { bits: &[], columns };
        let first = ColumnBits { bits: first, columns };
        let (before, after) = match kind {
            RowsKind::Write => (none, first),
            RowsKind::Delete => (first, none),
            RowsKind::Update | RowsKind::PartialUpdate => {
                let bits = reader.bytes("columns of the new row", columns.div_ceil(8))?;
                (first, ColumnBits { bits, columns })
            }
        };
        let data = Cow::Borrowed(reader.take_rest());
        let is_v1 = version == RowsVersion::V1;
        Ok(Rows { kind, table_id, is_v1, ends_statement: flags & 1 != 0, columns, before, after, data })
    }

    /// An event without a table and without rows.
    pub fn is_dummy(&self) -> bool {
        self.table_id == DUMMY_TABLE && self.data.is_empty()
    }
}
