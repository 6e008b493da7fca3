//! The columns of one row image while a batch is built.

use super::column::ColumnBuilder;
use super::reason::{Reason, ValueError};
use super::tuple::Value;
use super::types::Policies;
use crate::event::Mask;
use crate::schema::TableSchema;
use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// Room that is made at the first row of a batch is that of the batch before, up to here: a quiet table
/// must not sit on the memory of its busiest minute.
const MAX_ROOM_ROWS: usize = 65_536;
/// The same for the text of one column, in bytes.
const MAX_ROOM_TEXT: usize = 4 << 20;

/// The columns of one row image.
#[derive(Debug)]
pub(super) struct Image {
    columns: Vec<ColumnBuilder>,
    /// Per column, rows whose value is unchanged.
    unchanged: Vec<Mask>,
    rows: usize,
    /// Rows of the batch before, and bytes of text of each of its columns.
    room: (usize, Vec<usize>),
}

impl Image {
    pub(super) fn new(schema: &TableSchema, policies: &Policies) -> Self {
        let columns: Vec<_> =
            schema.columns.iter().map(|column| ColumnBuilder::new(&column.kind, policies.infinity)).collect();
        let unchanged = columns.iter().map(|_| Mask::default()).collect();
        let room = (0, vec![0; columns.len()]);
        Image { columns, unchanged, rows: 0, room }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of content.
    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(ColumnBuilder::bytes).sum()
    }

    /// Adds a row of the values that `values` yields. `partial`: values may be unchanged. A failed row
    /// leaves nothing behind.
    #[inline]
    pub(super) fn push<'a>(
        &mut self,
        count: usize,
        values: impl Iterator<Item = Value<'a>>,
        partial: bool,
    ) -> Result<(), ValueError> {
        let result = self.try_push(count, values, partial);
        match result {
            Ok(()) => self.rows += 1,
            Err(_) => self.truncate(self.rows),
        }
        result
    }

    #[inline]
    fn try_push<'a>(
        &mut self,
        count: usize,
        values: impl Iterator<Item = Value<'a>>,
        partial: bool,
    ) -> Result<(), ValueError> {
        let expected = self.columns.len();
        if count != expected {
            return Err(ValueError::column_count(count, expected));
        }
        if self.rows == 0 {
            self.make_room();
        }
        let row = self.rows;
        let mut found = 0;
        for (column, value) in self.columns.iter_mut().zip(values) {
            let result = match value {
                Value::Binary(bytes) => column.push_binary(row, bytes),
                Value::Text(text) => column.push_text(row, text),
                Value::Null => {
                    column.push_null(row);
                    Ok(())
                }
                Value::Unchanged if !partial => Err(Reason::UnexpectedUnchanged),
                Value::Unchanged => {
                    column.push_null(row);
                    mark(&mut self.unchanged, found, row);
                    Ok(())
                }
            };
            if let Err(reason) = result {
                return Err(ValueError { column: Some(found), reason });
            }
            found += 1;
        }
        // Fewer than announced: only if the tuple was not checked.
        if found == expected { Ok(()) } else { Err(ValueError::column_count(found, expected)) }
    }

    /// Adds a row of nulls.
    pub(super) fn push_nulls(&mut self) {
        for column in &mut self.columns {
            column.push_null(self.rows);
        }
        self.rows += 1;
    }

    /// Whether column `column` of row `row` is unchanged.
    pub(super) fn is_unchanged(&self, column: usize, row: usize) -> bool {
        self.unchanged.get(column).is_some_and(|mask| mask.is_set(row))
    }

    /// Whether column `column` of row `row` is null or unchanged.
    pub(super) fn is_null(&self, column: usize, row: usize) -> bool {
        self.columns.get(column).is_none_or(|column| column.is_null(row))
    }

    /// Forgets everything from row `rows` on, also half a row.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows = self.rows.min(rows);
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        self.unchanged.iter_mut().for_each(|mask| mask.truncate(rows));
    }

    /// The rows as a batch; the image is empty afterwards, also when that failed.
    pub(super) fn finish(&mut self, schema: &TableSchema) -> Result<RecordBatch, ValueError> {
        let rows = self.rows;
        self.room = (rows, self.columns.iter().map(ColumnBuilder::text_bytes).collect());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter_mut().enumerate() {
            match column.finish(rows) {
                Ok(array) => arrays.push(array),
                Err(reason) => {
                    self.truncate(0);
                    return Err(ValueError { column: Some(index), reason });
                }
            }
        }
        self.rows = 0;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&schema.arrow), arrays, &options)
            .map_err(|_| ValueError::row(Reason::Misuse))
    }

    /// The masks of unchanged values of `rows` rows.
    pub(super) fn take_unchanged(&mut self, rows: usize) -> Vec<Option<BooleanBuffer>> {
        self.unchanged.iter_mut().map(|mask| mask.take_some(rows)).collect()
    }

    #[cold]
    fn make_room(&mut self) {
        let rows = self.room.0.min(MAX_ROOM_ROWS);
        for (column, &text) in self.columns.iter_mut().zip(&self.room.1) {
            column.reserve(rows, text.min(MAX_ROOM_TEXT));
        }
    }
}

#[cold]
fn mark(unchanged: &mut [Mask], column: usize, row: usize) {
    if let Some(mask) = unchanged.get_mut(column) {
        mask.set(row);
    }
}
