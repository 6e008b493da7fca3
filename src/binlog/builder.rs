//! Collects the rows of one table over many transactions and yields them as one [`ChangeBatch`].
//!
//! Rows come from [`super::RowDecoder`] (the log) or [`super::SnapshotDecoder`] (a `SELECT`), never both in one batch.
//! A batch may be taken at any moment, also within a transaction.

use super::image::Image;
use super::reason::{Reason, ValueError};
use crate::event::{ChangeBatch, Frame, FrameMark, Images, Op, OriginRun, Txn};
use crate::position::Lsn;
use crate::schema::TableSchema;
use std::sync::Arc;

/// Collects rows of one table under one schema.
///
/// A call that fails leaves the builder as if it had never been made. [`BatchBuilder::take`] must be called before
/// [`BatchBuilder::bytes`] passes 1 GiB: no row is longer than that, and a column ends at 2 GiB.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: Arc<TableSchema>,
    frame: Frame,
    pub(super) after: Image,
    pub(super) before: Option<Image>,
    /// Dates that became null by policy, since the beginning.
    pub(super) replaced: u64,
    /// Where the values of the old row that is being read lie.
    pub(super) spans: Vec<super::decoder::Span>,
    /// Text on its way into a decimal, or JSON that is being put together.
    pub(super) scratch: Vec<u8>,
}

/// How far a builder was, to go back to: see [`BatchBuilder::rollback_to`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    frame: FrameMark,
    before_rows: usize,
    replaced: u64,
}

impl BatchBuilder {
    /// Empty.
    pub fn new(schema: Arc<TableSchema>) -> Self {
        let after = Image::new(&schema);
        BatchBuilder {
            schema,
            frame: Frame::default(),
            after,
            before: None,
            replaced: 0,
            spans: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// The schema of its rows.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Rows since the last [`BatchBuilder::take`].
    pub fn rows(&self) -> usize {
        self.frame.rows()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Dates that became null by [`super::ZeroDates::Null`], since the beginning.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Where in the log the rows that come now stand: the position of their event in its file. To be shown, never to
    /// resume by.
    pub fn at(&mut self, position: Lsn) {
        self.frame.at(position);
    }

    /// What is to be told of the event whose rows come now, or of the snapshot that all of them are of; its row
    /// numbers do not matter.
    pub fn of(&mut self, origin: Option<OriginRun>) {
        self.frame.of(origin);
    }

    /// The rows from `first` on are of the event that came.
    pub(super) fn end_event(&mut self, first: usize) {
        self.frame.end_event(first);
    }

    /// Bytes of memory that the rows take, without spare capacity. Costs a few nanoseconds per column: ask per
    /// transaction or per event, not per row.
    pub fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, Image::bytes);
        self.after.bytes() + before + self.frame.bytes()
    }

    /// The whole table was truncated.
    ///
    /// # Errors
    /// The builder holds snapshot rows.
    pub fn push_truncate(&mut self, ordinal: u64, wire_bytes: usize) -> Result<(), ValueError> {
        self.must_be_stream()?;
        self.after.push_nulls();
        self.add(Op::Truncate, ordinal);
        self.end_event(self.rows() - 1);
        self.add_wire_bytes(wire_bytes);
        Ok(())
    }

    /// A row of texts, one for each column. `ordinal`: in its transaction; `None`: it is of a snapshot.
    ///
    /// # Errors
    /// The builder holds rows of the other kind, or its columns are not as many texts.
    pub fn push_texts(&mut self, values: &[Option<&str>], ordinal: Option<u64>) -> Result<(), ValueError> {
        match ordinal {
            Some(_) => self.must_be_stream()?,
            None => self.must_be_snapshot()?,
        }
        if values.len() != self.schema.columns.len() {
            return Err(ValueError::column_count(values.len(), self.schema.columns.len()));
        }
        let mark = self.mark();
        let image = &mut self.after;
        image.begin_row();
        let row = image.rows();
        for (index, value) in values.iter().enumerate() {
            let Some(column) = image.column(index) else { continue };
            let pushed = match value {
                None => {
                    column.push_null(row);
                    Ok(())
                }
                Some(text) => column.push_bytes(text.as_bytes(), true),
            };
            if let Err(reason) = pushed {
                self.rollback_to(mark);
                return Err(ValueError { column: Some(index), reason });
            }
        }
        self.after.end_row();
        let bytes = values.iter().flatten().map(|text| text.len()).sum();
        match ordinal {
            Some(ordinal) => {
                self.add(Op::Create, ordinal);
                self.end_event(self.rows() - 1);
                self.add_wire_bytes(bytes);
            }
            None => self.add_read(bytes),
        }
        Ok(())
    }

    /// Ends a transaction: gives it the rows that came since the last end. No rows, no run.
    pub fn end_transaction(&mut self, txn: Txn) {
        self.frame.end_run(txn, None);
    }

    /// The batch so far, with everything before it forgotten. `open` is the transaction whose rows are not ended
    /// yet; it goes on, in the next batch. `None` is right between transactions, and for a builder that holds nothing
    /// but rows of one transaction that may still be rolled back: those stay without a transaction until
    /// [`ChangeBatch::stamp`].
    ///
    /// # Errors
    /// Text that is not of its character set: the rows are lost, the table must stop. Ended rows and rows of a
    /// transaction that is not named: a defect of the caller.
    pub fn take(&mut self, open: Option<Txn>) -> Result<ChangeBatch, ValueError> {
        if let Some(open) = open {
            self.end_transaction(open);
        }
        if self.frame.is_mixed() {
            return Err(ValueError::row(Reason::Misuse));
        }
        let after = self.after.finish(&self.schema);
        let unchanged = self.after.take_unchanged(self.frame.rows());
        let before = match &mut self.before {
            Some(image) if image.rows() > 0 => Some(image.finish(&self.schema)),
            _ => None,
        };
        // Also what cannot be finished is forgotten.
        let frame = self.frame.take();
        let images = Images { after: after?, before: before.transpose()?, unchanged };
        Ok(frame.finish(&self.schema, images))
    }

    /// How far it is. Good until the next [`BatchBuilder::take`] or [`BatchBuilder::end_transaction`].
    pub fn mark(&self) -> Mark {
        let before_rows = self.before.as_ref().map_or(0, Image::rows);
        Mark { frame: self.frame.mark(), before_rows, replaced: self.replaced }
    }

    /// Forgets the rows since `mark`.
    pub fn rollback_to(&mut self, mark: Mark) {
        self.after.truncate(self.frame.rollback_to(mark.frame));
        if let Some(before) = &mut self.before {
            before.truncate(mark.before_rows);
        }
        self.replaced = mark.replaced;
    }

    pub(super) fn must_be_stream(&self) -> Result<(), ValueError> {
        if self.frame.takes_changes() { Ok(()) } else { Err(ValueError::row(Reason::Misuse)) }
    }

    pub(super) fn must_be_snapshot(&self) -> Result<(), ValueError> {
        if self.frame.takes_reads() { Ok(()) } else { Err(ValueError::row(Reason::Misuse)) }
    }

    /// Counts a row whose images are complete.
    #[inline]
    pub(super) fn add(&mut self, op: Op, ordinal: u64) {
        self.frame.add(op, ordinal);
    }

    /// Counts a row of a snapshot.
    pub(super) fn add_read(&mut self, wire_bytes: usize) {
        self.frame.add_read();
        self.frame.add_wire_bytes(wire_bytes);
    }

    pub(super) fn add_wire_bytes(&mut self, bytes: usize) {
        self.frame.add_wire_bytes(bytes);
    }

    /// The image of old rows.
    pub(super) fn old(&mut self) -> &mut Image {
        let schema = &self.schema;
        self.before.get_or_insert_with(|| Image::new(schema))
    }

    /// The old row that was just completed is that of the row that is being added; its key must be there.
    pub(super) fn link_before(&mut self) -> Result<(), ValueError> {
        let Some(before) = &self.before else { return Err(ValueError::row(Reason::Misuse)) };
        let row = before.rows().saturating_sub(1);
        if let Some(&column) = self.schema.key.iter().find(|&&column| before.is_null(column, row)) {
            return Err(ValueError { column: Some(column), reason: Reason::NoKey });
        }
        self.frame.link_before(row);
        Ok(())
    }
}
