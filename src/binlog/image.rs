//! The columns of one row image: new rows, or rows from before.

use super::column::ColumnBuilder;
use super::reason::{Reason, ValueError};
use crate::event::Mask;
use crate::schema::TableSchema;
use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::sync::Arc;

/// Room that is made at the first row of a batch is that of the batch before, up to here: a quiet table must not
/// sit on the memory of its busiest minute.
const MAX_ROOM_ROWS: usize = 65_536;
/// The same for the content of one column, in bytes.
const MAX_ROOM_CONTENT: usize = 4 << 20;

/// The columns of one row image. A row is added column by column, then counted by [`Image::end_row`].
#[derive(Debug)]
pub(super) struct Image {
    columns: Vec<ColumnBuilder>,
    unchanged: Vec<Mask>,
    rows: usize,
    /// Rows of the batch before, and bytes of content of each of its columns.
    room: (usize, Vec<usize>),
}

impl Image {
    pub(super) fn new(schema: &TableSchema) -> Self {
        let columns: Vec<_> = schema.columns.iter().map(|column| ColumnBuilder::new(&column.kind)).collect();
        let unchanged = columns.iter().map(|_| Mask::default()).collect();
        let room = (0, vec![0; columns.len()]);
        Image { columns, unchanged, rows: 0, room }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(ColumnBuilder::bytes).sum()
    }

    /// Column `index`, to push the value of the row that is being added.
    #[inline]
    pub(super) fn column(&mut self, index: usize) -> Option<&mut ColumnBuilder> {
        self.columns.get_mut(index)
    }

    /// The row is complete.
    #[inline]
    pub(super) fn end_row(&mut self) {
        self.rows += 1;
    }

    /// Makes room before the first row.
    #[inline]
    pub(super) fn begin_row(&mut self) {
        if self.rows == 0 {
            self.make_room();
        }
    }

    /// The value of column `index` of the row that is being added is unchanged: not null and not a value.
    #[cold]
    pub(super) fn push_unchanged(&mut self, index: usize) {
        let row = self.rows;
        if let (Some(column), Some(mask)) = (self.columns.get_mut(index), self.unchanged.get_mut(index)) {
            column.push_null(row);
            mask.set(row);
        }
    }

    /// A null in column `index` of the row that is being added.
    #[inline]
    pub(super) fn push_null(&mut self, index: usize) {
        let row = self.rows;
        if let Some(column) = self.columns.get_mut(index) {
            column.push_null(row);
        }
    }

    /// Adds a row of nulls.
    pub(super) fn push_nulls(&mut self) {
        self.begin_row();
        for column in &mut self.columns {
            column.push_null(self.rows);
        }
        self.rows += 1;
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
        self.room = (rows, self.columns.iter().map(ColumnBuilder::content_bytes).collect());
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
        for (column, &content) in self.columns.iter_mut().zip(&self.room.1) {
            column.reserve(rows, content.min(MAX_ROOM_CONTENT));
        }
    }
}
