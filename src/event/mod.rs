//! The one form in which data travels: columns of Arrow, decoded once from the wire.
//!
//! Layer 0. A [`ChangeBatch`] holds changes of *one* table under *one* schema, in source order. It spans
//! source transactions; [`TxnRun`] says which rows belong to which. Decisions are made on control items
//! beside the batches, never on cell values.

mod chunks;
mod copy;
mod frame;
mod mask;
mod origin;

pub use chunks::{ChunkKey, Chunks, KeyRange, Pick};
pub use copy::{CopyPart, CopyWriter, SnapshotPoint};
pub use frame::{Frame, FrameMark, Images};
pub(crate) use mask::Mask;
pub use origin::{Origin, OriginRun};

use crate::position::{CommitLsn, Lsn, Witness};
use crate::schema::TableSchema;
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

/// What happened to a row; Debezium's letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Op {
    /// `r`: read by a snapshot.
    Read,
    /// `c`: created.
    Create,
    /// `u`: updated.
    Update,
    /// `d`: deleted.
    Delete,
    /// `t`: the whole table was truncated.
    Truncate,
}

impl Op {
    /// Debezium's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Op::Read => "r",
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Truncate => "t",
        }
    }
}

/// A source transaction, as far as its Begin message tells. The *end* of its commit record is known only
/// at Commit, and a batch may be taken in the middle of a large transaction: so rows carry the *start*,
/// which decides as well (see [`CommitLsn::covers`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Txn {
    /// Start of its commit record (`final_lsn` of Begin, `commit_lsn` of Commit and Stream Commit).
    pub commit_start: Lsn,
    /// Its transaction id.
    pub xid: u32,
    /// Its commit time, microseconds since 2000-01-01 UTC, as on the wire.
    pub commit_time: i64,
    /// End of the transaction that was received before it on this connection; [`CommitLsn::ZERO`]: none was.
    pub after: CommitLsn,
}

impl Txn {
    /// Whether a target at `position` holds this transaction already.
    pub fn held_at(&self, position: CommitLsn) -> bool {
        position.covers(self.commit_start)
    }

    /// As a witness, once the end of its commit record is known.
    pub fn witness(&self, end: CommitLsn) -> Witness {
        Witness { end, xid: self.xid, commit_time: self.commit_time }
    }
}

/// The rows of one source transaction within a batch: from `first_row` to the next run's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TxnRun {
    /// Index of its first row in the batch.
    pub first_row: u32,
    /// The transaction.
    pub txn: Txn,
    /// End of its commit record, if that has come.
    pub end: Option<CommitLsn>,
}

/// Row images from before the change.
#[derive(Clone, Debug)]
pub struct Before {
    /// The images, under the table's Arrow schema. Key columns are always set; the others only when
    /// the table logs whole old rows (`TableSchema::full_before`).
    pub rows: RecordBatch,
    /// For each row of the batch, its image in `rows`, or [`Before::NONE`].
    pub index: Vec<u32>,
}

impl Before {
    /// The row has no image from before.
    pub const NONE: u32 = u32::MAX;
}

/// Changes of one table under one schema, in source order.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The schema that every row was decoded with.
    pub schema: Arc<TableSchema>,
    /// What happened, one entry per row.
    pub ops: Vec<Op>,
    /// Which rows belong to which transaction; ascending, covers all rows. Empty for snapshot rows.
    pub runs: Vec<TxnRun>,
    /// Ordinal of each change in its transaction, counted over all tables. Empty for snapshot rows.
    pub ordinals: Vec<u64>,
    /// Where each change stood in the log. Empty for snapshot rows. An address of an event: to be shown, never
    /// to resume by.
    pub lsns: Vec<Lsn>,
    /// What the events of a binary log tell of themselves; ascending, covers all rows. Empty for sources without one,
    /// and where nobody shows it.
    pub origins: Vec<OriginRun>,
    /// New row images. For `d` and `t` the row is all null.
    pub after: RecordBatch,
    /// Old images: of each `d`, and of each `u` that changed its key or whose table logs whole old rows.
    pub before: Option<Before>,
    /// Per column: rows whose value is *unchanged* (a TOASTed value that the log does not repeat): not
    /// null and not a value. `None`: no such row. In `after` the slot is null.
    pub unchanged: Vec<Option<BooleanBuffer>>,
    /// Bytes received for these rows.
    pub wire_bytes: usize,
}

impl ChangeBatch {
    /// Rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Which event of a binary log `row` is of, and which row of it: where [`ChangeBatch::origins`] says.
    pub fn origin_of(&self, row: usize) -> Option<(&OriginRun, u32)> {
        let after = self.origins.partition_point(|run| run.first_row as usize <= row);
        let run = after.checked_sub(1).and_then(|i| self.origins.get(i))?;
        let more = u32::try_from(row).unwrap_or(u32::MAX).saturating_sub(run.first_row);
        Some((run, run.row.saturating_add(more)))
    }

    /// The transaction of `row`. `None` for snapshot rows.
    pub fn txn_of(&self, row: usize) -> Option<Txn> {
        let after = self.runs.partition_point(|run| run.first_row as usize <= row);
        after.checked_sub(1).and_then(|i| self.runs.get(i)).map(|run| run.txn)
    }

    /// The last row's transaction. `None` for snapshot rows, and for no rows.
    pub fn last_txn(&self) -> Option<Txn> {
        self.runs.last().map(|run| run.txn)
    }

    /// Whether every row has its transaction. Rows of a transaction that is streamed before it commits
    /// have none until [`ChangeBatch::stamp`]; such a batch must not reach a sink.
    pub fn is_stamped(&self) -> bool {
        self.is_empty() || !self.runs.is_empty() || self.ordinals.is_empty()
    }

    /// Gives all rows their transaction, at Stream Commit. Does nothing to rows that have one and to
    /// snapshot rows.
    pub fn stamp(&mut self, txn: Txn, end: CommitLsn) {
        if !self.is_stamped() {
            self.runs.push(TxnRun { first_row: 0, txn, end: Some(end) });
        }
    }

    /// Splits off the rows of the transaction that is still half received: `(whole, open)`. Nothing is
    /// copied but the small per-row vectors.
    pub fn split_open(self, open: Option<Txn>) -> (Option<ChangeBatch>, Option<ChangeBatch>) {
        let first = match (open, self.runs.last()) {
            (Some(open), Some(last)) if last.txn == open => last.first_row as usize,
            _ => self.len(),
        };
        match first {
            0 if self.is_empty() => (None, None),
            0 => (None, Some(self)),
            n if n == self.len() => (Some(self), None),
            n => {
                let bytes = self.wire_bytes * n / self.len();
                let whole = self.part(0, n, bytes);
                let rest = self.part(n, self.len() - n, self.wire_bytes - bytes);
                (Some(whole), Some(rest))
            }
        }
    }

    /// `rows` rows from `from` on.
    pub fn slice(&self, from: usize, rows: usize) -> ChangeBatch {
        self.part(from, rows, self.wire_bytes * rows / self.len().max(1))
    }

    fn part(&self, from: usize, rows: usize, wire_bytes: usize) -> ChangeBatch {
        let first = u32::try_from(from).unwrap_or(u32::MAX);
        let begun = self.runs.partition_point(|run| run.first_row <= first).saturating_sub(1);
        let runs = self.runs[begun..]
            .iter()
            .take_while(|run| (run.first_row as usize) < from + rows)
            .map(|run| TxnRun { first_row: run.first_row.saturating_sub(first), ..*run })
            .collect();
        ChangeBatch {
            schema: Arc::clone(&self.schema),
            ops: self.ops[from..from + rows].to_vec(),
            runs,
            ordinals: self.ordinals.get(from..from + rows).map(<[u64]>::to_vec).unwrap_or_default(),
            lsns: self.lsns.get(from..from + rows).map(<[Lsn]>::to_vec).unwrap_or_default(),
            origins: origin::slice(&self.origins, from, rows),
            after: self.after.slice(from, rows),
            before: self.before.as_ref().map(|before| Before {
                rows: before.rows.clone(),
                index: before.index[from..from + rows].to_vec(),
            }),
            unchanged: self.unchanged.iter().map(|m| m.as_ref().map(|m| m.slice(from, rows))).collect(),
            wire_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, ColumnKind, TableId, TableName};
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    fn txn(start: u64) -> Txn {
        Txn { commit_start: Lsn::new(start), xid: start as u32, commit_time: 0, after: CommitLsn::ZERO }
    }

    fn batch(transactions: &[(u64, usize)]) -> ChangeBatch {
        let column = Column {
            name: "id".into(),
            attnum: 1,
            type_oid: 20,
            type_modifier: -1,
            type_name: "bigint".into(),
            kind: ColumnKind::Int8,
        };
        let schema =
            Arc::new(TableSchema::new(TableId(1), TableName::new("s", "t"), vec![column], vec![0], false));
        let (mut runs, mut rows) = (vec![], 0);
        for &(start, n) in transactions {
            runs.push(TxnRun { first_row: rows as u32, txn: txn(start), end: None });
            rows += n;
        }
        let ids = Int64Array::from((0..rows as i64).collect::<Vec<_>>());
        ChangeBatch {
            after: RecordBatch::try_new(schema.arrow.clone(), vec![Arc::new(ids)]).unwrap(),
            schema,
            ops: vec![Op::Create; rows],
            runs,
            ordinals: (0..rows as u64).collect(),
            lsns: (0..rows as u64).map(Lsn::new).collect(),
            origins: Vec::new(),
            before: None,
            unchanged: vec![None],
            wire_bytes: rows * 10,
        }
    }

    #[test]
    fn the_open_transaction_is_split_off() {
        let (whole, open) = batch(&[(10, 2), (20, 3), (30, 4)]).split_open(Some(txn(30)));
        let (whole, open) = (whole.unwrap(), open.unwrap());
        assert_eq!((whole.len(), open.len()), (5, 4));
        assert_eq!(whole.txn_of(4), Some(txn(20)));
        assert_eq!(open.txn_of(0), Some(txn(30)));
        assert_eq!(open.runs[0].first_row, 0);
        assert_eq!(open.after.column(0).as_primitive::<Int64Type>().value(0), 5);
        assert_eq!(open.ordinals, [5, 6, 7, 8]);
        assert_eq!(whole.wire_bytes + open.wire_bytes, 90);

        let (whole, open) = batch(&[(10, 2), (20, 3)]).split_open(Some(txn(30)));
        assert_eq!((whole.unwrap().len(), open.is_none()), (5, true));
        let (whole, open) = batch(&[(30, 3)]).split_open(Some(txn(30)));
        assert_eq!((whole.is_none(), open.unwrap().len()), (true, 3));
        let (whole, open) = batch(&[]).split_open(Some(txn(30)));
        assert!(whole.is_none() && open.is_none());
    }
}
