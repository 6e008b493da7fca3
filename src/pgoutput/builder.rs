//! Collects the rows of one table over many transactions and yields them as one [`ChangeBatch`].
//!
//! A batch may be taken at any moment, also within a transaction: rows carry the *start* of their
//! transaction's commit record, which Begin already tells. Rows of a transaction that is streamed before it
//! commits have no transaction at first; their batch is stamped at Stream Commit ([`ChangeBatch::stamp`]).

use super::image::Image;
use super::message::OldRow;
use super::reason::{Reason, ValueError};
use super::tuple::{TupleData, Value};
use super::types::Policies;
use crate::event::{ChangeBatch, Frame, FrameMark, Images, Op, Txn};
use crate::position::{CommitLsn, Lsn};
use crate::schema::{ColumnKind, TableSchema};
use std::sync::Arc;

/// Collects rows of one table under one schema.
///
/// The columns of a tuple must be `TableSchema::columns`, all and in order: as Relation announced them, or
/// as the `COPY` statement lists them.
///
/// A call that fails leaves the builder as if it had never been made. [`BatchBuilder::take`] must be called
/// before [`BatchBuilder::bytes`] passes 1 GiB: no row is longer than that, and a column ends at 2 GiB.
#[derive(Debug)]
pub struct BatchBuilder {
    schema: Arc<TableSchema>,
    policies: Policies,
    is_key: Vec<bool>,
    /// Columns that are known by their text only, if there are any.
    text_only: Option<Vec<bool>>,
    frame: Frame,
    after: Image,
    before: Option<Image>,
}

/// How far a builder was, to go back to: see [`BatchBuilder::rollback_to`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    frame: FrameMark,
    before_rows: usize,
}

impl BatchBuilder {
    /// Empty.
    pub fn new(schema: Arc<TableSchema>, policies: Policies) -> Self {
        let mut is_key = vec![false; schema.columns.len()];
        for &index in &schema.key {
            if let Some(flag) = is_key.get_mut(index) {
                *flag = true;
            }
        }
        let text_only: Vec<_> =
            schema.columns.iter().map(|column| column.kind == ColumnKind::Unknown).collect();
        let text_only = text_only.contains(&true).then_some(text_only);
        let after = Image::new(&schema, &policies);
        BatchBuilder { schema, policies, is_key, text_only, frame: Frame::default(), after, before: None }
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

    /// Bytes of memory that the rows take, without spare capacity. Costs a few nanoseconds per column: ask
    /// per transaction or per read, not per row.
    pub fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, Image::bytes);
        self.after.bytes() + before + self.frame.bytes()
    }

    /// Where the next changes stand in the log.
    pub fn at(&mut self, lsn: Lsn) {
        self.frame.at(lsn);
    }

    /// An inserted row. `ordinal`: of the change in its transaction. `wire_bytes`: of its message.
    pub fn push_insert(
        &mut self,
        new: &TupleData<'_>,
        ordinal: u64,
        wire_bytes: usize,
    ) -> Result<(), ValueError> {
        self.must_be_stream()?;
        self.after.push(new.len(), new.values(), false)?;
        self.add(Op::Create, ordinal, wire_bytes);
        Ok(())
    }

    /// An updated row. Values that the new row does not repeat are taken from a whole old row, and those of
    /// the key from any old row; the others are marked as unchanged.
    pub fn push_update(
        &mut self,
        old: Option<&OldRow<'_>>,
        new: &TupleData<'_>,
        ordinal: u64,
        wire_bytes: usize,
    ) -> Result<(), ValueError> {
        self.must_be_stream()?;
        let mark = self.mark();
        let result = self.try_update(old, new);
        match result {
            Ok(()) => self.add(Op::Update, ordinal, wire_bytes),
            Err(_) => self.rollback_to(mark),
        }
        result
    }

    fn try_update(&mut self, old: Option<&OldRow<'_>>, new: &TupleData<'_>) -> Result<(), ValueError> {
        let row = self.after.rows();
        match old {
            None => self.after.push(new.len(), new.values(), true)?,
            Some(OldRow::Full(full)) => {
                let filled = new.values().zip(full.values()).map(|(new, old)| match new {
                    Value::Unchanged => old,
                    _ => new,
                });
                self.after.push(new.len(), filled, true)?;
            }
            Some(OldRow::Key(key)) => {
                // The other columns stand as null in a key-only row: that is not their value.
                let filled =
                    new.values().zip(key.values()).zip(&self.is_key).map(|((new, old), &is_key)| match new {
                        Value::Unchanged if is_key => old,
                        _ => new,
                    });
                self.after.push(new.len(), filled, true)?;
            }
        }
        if let Some(&column) = self.schema.key.iter().find(|&&column| self.after.is_unchanged(column, row)) {
            return Err(ValueError { column: Some(column), reason: Reason::UnchangedKey });
        }
        match old {
            Some(old) => self.push_before(old),
            None => Ok(()),
        }
    }

    /// A deleted row.
    pub fn push_delete(
        &mut self,
        old: &OldRow<'_>,
        ordinal: u64,
        wire_bytes: usize,
    ) -> Result<(), ValueError> {
        self.must_be_stream()?;
        let mark = self.mark();
        if let Err(error) = self.push_before(old) {
            self.rollback_to(mark);
            return Err(error);
        }
        self.after.push_nulls();
        self.add(Op::Delete, ordinal, wire_bytes);
        Ok(())
    }

    /// The whole table was truncated.
    pub fn push_truncate(&mut self, ordinal: u64, wire_bytes: usize) -> Result<(), ValueError> {
        self.must_be_stream()?;
        self.after.push_nulls();
        self.add(Op::Truncate, ordinal, wire_bytes);
        Ok(())
    }

    /// A logical message, for a builder of [`TableSchema::messages`].
    pub fn push_message(
        &mut self,
        prefix: &str,
        content: &[u8],
        ordinal: u64,
        wire_bytes: usize,
    ) -> Result<(), ValueError> {
        self.must_be_stream()?;
        let values = [Value::Binary(prefix.as_bytes()), Value::Binary(content)];
        self.after.push(values.len(), values.into_iter(), false)?;
        self.add(Op::Create, ordinal, wire_bytes);
        Ok(())
    }

    /// A row of a snapshot: `count` values.
    pub(super) fn push_read<'a>(
        &mut self,
        count: usize,
        values: impl Iterator<Item = Value<'a>>,
        wire_bytes: usize,
    ) -> Result<(), ValueError> {
        if !self.frame.takes_reads() {
            return Err(ValueError::row(Reason::Misuse));
        }
        match &self.text_only {
            None => self.after.push(count, values, false)?,
            Some(columns) => {
                // COPY knows no forms; what it sends for these columns was cast to text.
                let given = values.zip(columns).map(|(value, &text_only)| match value {
                    Value::Binary(text) if text_only => Value::Text(text),
                    value => value,
                });
                self.after.push(count, given, false)?;
            }
        }
        self.frame.add_read();
        self.frame.add_wire_bytes(wire_bytes);
        Ok(())
    }

    /// Ends a transaction: gives it the rows that came since the last end. No rows, no run.
    pub fn end_transaction(&mut self, txn: Txn) {
        self.frame.end_run(txn, None);
    }

    /// The same, when the end of its commit record is known.
    pub fn commit(&mut self, txn: Txn, end: CommitLsn) {
        self.frame.end_run(txn, Some(end));
    }

    /// The batch so far, with everything before it forgotten. `open` is the transaction whose rows are not
    /// ended yet; it goes on, in the next batch. `None` is right between transactions, and for a builder
    /// that holds nothing but rows of one streamed transaction: those stay without a transaction until
    /// [`ChangeBatch::stamp`].
    ///
    /// # Errors
    /// Text that is not UTF-8: the rows are lost, the table must stop. Ended rows and rows of a transaction
    /// that is not named: a defect of the caller.
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
        Mark { frame: self.frame.mark(), before_rows: self.before.as_ref().map_or(0, Image::rows) }
    }

    /// Forgets the rows since `mark`: a streamed subtransaction that aborted. All rows that were streamed
    /// since its first belong to it, because the outer transaction writes nothing while it runs.
    pub fn rollback_to(&mut self, mark: Mark) {
        self.after.truncate(self.frame.rollback_to(mark.frame));
        if let Some(before) = &mut self.before {
            before.truncate(mark.before_rows);
        }
    }

    fn must_be_stream(&self) -> Result<(), ValueError> {
        if self.frame.takes_changes() { Ok(()) } else { Err(ValueError::row(Reason::Misuse)) }
    }

    #[inline]
    fn add(&mut self, op: Op, ordinal: u64, wire_bytes: usize) {
        self.frame.add(op, ordinal);
        self.frame.add_wire_bytes(wire_bytes);
    }

    /// Adds the old image of the next row.
    fn push_before(&mut self, old: &OldRow<'_>) -> Result<(), ValueError> {
        let (tuple, whole) = match old {
            OldRow::Key(tuple) => (tuple, false),
            OldRow::Full(tuple) => (tuple, true),
        };
        // With a key, rows from before the table logged whole ones may still come.
        if self.schema.full_before && !self.schema.has_key() && !whole {
            return Err(ValueError::row(Reason::OldRowNotWhole));
        }
        let (schema, policies) = (&self.schema, &self.policies);
        let before = self.before.get_or_insert_with(|| Image::new(schema, policies));
        let row = before.rows();
        before.push(tuple.len(), tuple.values(), false)?;
        if let Some(&column) = self.schema.key.iter().find(|&&column| before.is_null(column, row)) {
            return Err(ValueError { column: Some(column), reason: Reason::NoKey });
        }
        self.frame.link_before(row);
        Ok(())
    }
}
