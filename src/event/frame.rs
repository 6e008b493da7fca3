//! What a batch under construction has beside its values: the operation, transaction and place of each row. Every
//! source's builder has one, with its own images beside it.

use super::{Before, ChangeBatch, Op, OriginRun, Txn, TxnRun};
use crate::position::{CommitLsn, Lsn};
use crate::schema::TableSchema;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// The rows of a batch so far, without their values: those of a stream, or those of a snapshot, never both.
#[derive(Default, Debug)]
pub struct Frame {
    ops: Vec<Op>,
    ordinals: Vec<u64>,
    lsns: Vec<Lsn>,
    /// Where the next change stands in the log.
    lsn: Lsn,
    /// What is told of the events that the rows are of, and of the one that comes now.
    origins: Vec<OriginRun>,
    origin: Option<OriginRun>,
    runs: Vec<TxnRun>,
    /// The first row that belongs to no run yet.
    open_from: usize,
    /// Shorter than `ops` while the last rows have no old image.
    before_index: Vec<u32>,
    wire_bytes: usize,
}

/// How far a frame was, to go back to: see [`Frame::rollback_to`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameMark {
    rows: usize,
    before_index: usize,
    wire_bytes: usize,
}

/// The values of a frame's rows, as they go into the batch.
#[derive(Debug)]
pub struct Images {
    /// As in [`ChangeBatch::after`].
    pub after: RecordBatch,
    /// The old rows, if there are any.
    pub before: Option<RecordBatch>,
    /// As in [`ChangeBatch::unchanged`].
    pub unchanged: Vec<Option<BooleanBuffer>>,
}

impl Frame {
    /// Rows so far.
    pub fn rows(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of memory, without spare capacity.
    pub fn bytes(&self) -> usize {
        self.ops.len() * size_of::<Op>() + self.ordinals.len() * 16 + self.before_index.len() * 4
    }

    /// Where the next changes stand in the log.
    pub fn at(&mut self, lsn: Lsn) {
        self.lsn = lsn;
    }

    /// What is to be told of the event whose rows come now, or of the snapshot that all of them are of; its row
    /// numbers do not matter.
    pub fn of(&mut self, origin: Option<OriginRun>) {
        self.origin = origin;
    }

    /// The rows from `first` on are of the event that came.
    pub fn end_event(&mut self, first: usize) {
        if let Some(origin) = &self.origin
            && first < self.ops.len()
        {
            let first_row = u32::try_from(first).unwrap_or(u32::MAX);
            self.origins.push(OriginRun { first_row, row: 0, ..origin.clone() });
        }
    }

    /// Whether a change of a stream may be added: no row of a snapshot is there.
    pub fn takes_changes(&self) -> bool {
        self.ordinals.len() == self.ops.len()
    }

    /// Whether a row of a snapshot may be added: no change of a stream is there.
    pub fn takes_reads(&self) -> bool {
        self.ordinals.is_empty()
    }

    /// A change whose values are complete.
    #[inline]
    pub fn add(&mut self, op: Op, ordinal: u64) {
        self.ops.push(op);
        self.ordinals.push(ordinal);
        self.lsns.push(self.lsn);
    }

    /// A row of a snapshot.
    #[inline]
    pub fn add_read(&mut self) {
        self.ops.push(Op::Read);
    }

    /// Bytes that the server sent for the rows.
    #[inline]
    pub fn add_wire_bytes(&mut self, bytes: usize) {
        self.wire_bytes += bytes;
    }

    /// The change that is added next has an old image: this row of the old ones.
    pub fn link_before(&mut self, row: usize) {
        self.before_index.resize(self.ops.len(), Before::NONE);
        self.before_index.push(u32::try_from(row).unwrap_or(Before::NONE));
    }

    /// Gives a transaction the changes since the last end. No changes, no run. `end`: of its commit record, where
    /// that is known.
    pub fn end_run(&mut self, txn: Txn, end: Option<CommitLsn>) {
        if self.open_from < self.ordinals.len() {
            // A batch ends long before 2^32 rows: a row takes a byte at least and a batch less than 2 GiB.
            let first_row = u32::try_from(self.open_from).unwrap_or(u32::MAX);
            self.runs.push(TxnRun { first_row, txn, end });
            self.open_from = self.ordinals.len();
        }
    }

    /// Rows of a named transaction, and then rows of one that is not: no batch can say whose they are.
    pub fn is_mixed(&self) -> bool {
        !self.runs.is_empty() && self.open_from < self.ops.len()
    }

    /// The batch of all rows, with these values.
    pub fn finish(mut self, schema: &Arc<TableSchema>, images: Images) -> ChangeBatch {
        if self.takes_reads() {
            self.end_event(0);
        }
        let Frame { ops, ordinals, lsns, origins, runs, before_index: mut index, wire_bytes, .. } = self;
        let Images { after, before, unchanged } = images;
        let before = before.map(|rows| {
            index.resize(ops.len(), Before::NONE);
            Before { rows, index }
        });
        ChangeBatch {
            schema: Arc::clone(schema),
            ops,
            runs,
            ordinals,
            lsns,
            origins,
            after,
            before,
            unchanged,
            wire_bytes,
        }
    }

    /// Forgets all rows: what they were.
    pub fn take(&mut self) -> Frame {
        let next = Frame { lsn: self.lsn, origin: self.origin.clone(), ..Frame::default() };
        std::mem::replace(self, next)
    }

    /// How far it is. Good until the next [`Frame::finish`] or [`Frame::end_run`].
    pub fn mark(&self) -> FrameMark {
        FrameMark { rows: self.ops.len(), before_index: self.before_index.len(), wire_bytes: self.wire_bytes }
    }

    /// Forgets the rows since `mark`. Returns how many stay.
    pub fn rollback_to(&mut self, mark: FrameMark) -> usize {
        self.ops.truncate(mark.rows);
        self.ordinals.truncate(mark.rows);
        self.lsns.truncate(mark.rows);
        self.before_index.truncate(mark.before_index);
        self.wire_bytes = mark.wire_bytes;
        mark.rows
    }
}
