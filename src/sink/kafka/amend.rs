//! Rows that are read again while their table streams: Debezium's incremental snapshot.
//!
//! A part is the rows of a range of keys, as a snapshot at position `P` has them. It is placed between two units of its
//! table, when everything up to `P` is in the topic. A row whose key was touched beyond `P` gives way to what the stream
//! said of it; every other row is what the source has at that place, and goes out as `op r`, `snapshot: incremental`. So an
//! event that follows is newer than the row that was read, and no row that was read is older than an event before it.
//!
//! From before the snapshot is taken on, the keys of everything that is staged are noted, each with the last transaction
//! that touched it; whether the snapshot knows that one follows from `P` alone (`runtime::amending`).
//!
//! | key of the part's range | so |
//! |---|---|
//! | not touched since the watch began, or last by a transaction up to `P` | the row goes out |
//! | touched beyond `P` by whole rows | nothing: the stream's event is newer |
//! | touched beyond `P` by a row with values that the log does not repeat | it is read again, so that they come once |
//! | TRUNCATE, other columns, or too many keys meanwhile | the part says nothing: it is read again |
//!
//! # Who dies where
//!
//! The request, and where its last part ended, stand in the checkpoint. Part `[a, b)` of it:
//!
//! | moment | a `read_committed` consumer sees | the checkpoint | the next start |
//! |---|---|---|---|
//! | asked, not on record | nothing | no request | who asked is not answered: a signal's row is still in its table |
//! | on record, not answered | nothing, or some parts | the request | a signal with the same id is the same request while it is on record |
//! | the part is read, not placed | nothing of it | the request, `a` | reads it again, under a new snapshot |
//! | its transaction is sent, the outcome unknown | all of it or nothing | `b` or `a` | as the checkpoint says |
//! | the part has more bytes than `sink.max_transaction`: behind its first transaction | some of its rows | `a` | reads it again: these rows come twice, both `op r` |
//! | some of its rows are to be read again | the others | `b`, and their values in the key's first column | goes on at `b`, and reads those at the end. Under a composite key, others with such a value come twice |
//! | the last part is committed | all rows | no request, or what is to be read again | reads that, and nothing else |
//! | another process takes over | nothing of ours | its own | `Fenced`; it goes on with the request |

use super::options::KafkaOptions;
use super::oversize::{Fit, Limits};
use super::spill::{Part, Shelf};
use super::table::now_ns;
use super::writer::{Job, Rows};
use super::{KafkaTable, gone, lock};
use crate::debezium::{Encoder, Marker, Occasion, SnapshotRows};
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, ChunkKey, CopyPart, CopyWriter, Op, SnapshotPoint};
use crate::position::{CommitLsn, Lsn};
use crate::schema::TableSchema;
use crate::sink::{AmendPart, Amended, CommitOutcome, table_error};
use arrow::array::{Array, ArrayRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

/// Keys that are noted at most.
const MOST_TOUCHED: usize = 1_000_000;
/// Rows and bytes that become events at once.
const PIECE: (usize, usize) = (4096, 8 << 20);

/// What the stream did to a key since the watch began.
#[derive(Clone, Copy)]
struct Touch {
    /// Start of the last transaction's commit record.
    last: Lsn,
    /// Some of its values are not in the stream.
    is_partial: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// As it was read.
    Read,
    /// As the stream has it.
    Stream,
    /// To be read again.
    Again,
}

/// A request that is being met.
#[derive(Default)]
pub(super) struct Amending {
    /// By the hash of the key's bytes.
    touched: HashMap<u128, Touch>,
    /// Why what is read now says nothing.
    void: Option<&'static str>,
    /// Keys of parts that are done whose rows are to be read once more …
    pending: HashSet<u128>,
    /// … and those that were on record when the request was taken up, by the first column of the key.
    recorded: BTreeSet<ChunkKey>,
    /// Nothing else is left of the request.
    is_read: bool,
}

impl Amending {
    /// A new snapshot is about to be taken.
    pub(super) fn watch(&mut self) {
        self.touched.clear();
        self.void = None;
    }

    /// What is read now says nothing.
    pub(super) fn spoil(&mut self, why: &'static str) {
        self.void = Some(why);
    }

    /// Notes what is about to be staged.
    pub(super) fn note(&mut self, schema: &TableSchema, batch: &ChangeBatch) -> Result<()> {
        if batch.ops.contains(&Op::Truncate) {
            self.spoil("it was truncated meanwhile");
        }
        if !batch.schema.describes_same(schema) {
            self.spoil("its columns changed meanwhile");
        }
        if self.void.is_some() {
            return Ok(());
        }
        let new = keys(schema, &batch.after)?;
        let old = batch.before.as_ref().map(|before| keys(schema, &before.rows)).transpose()?;
        for (row, op) in batch.ops.iter().enumerate() {
            // A row of no transaction is newer than everything.
            let last = batch.txn_of(row).map_or(Lsn::new(u64::MAX), |txn| txn.commit_start);
            if let Some(key) = new.get(row).filter(|_| *op != Op::Delete) {
                let is_partial = batch.unchanged.iter().flatten().any(|mask| mask.value(row));
                self.touch(*key, Touch { last, is_partial });
            }
            let before = batch.before.as_ref().and_then(|before| before.index.get(row).copied());
            let before =
                before.filter(|at| *at != Before::NONE).and_then(|at| old.as_ref()?.get(at as usize));
            if let Some(key) = before.filter(|key| *op == Op::Delete || new.get(row) != Some(key)) {
                self.touch(*key, Touch { last, is_partial: false });
            }
        }
        if self.touched.len() > MOST_TOUCHED {
            self.spoil("too many of its rows changed meanwhile");
        }
        Ok(())
    }

    fn touch(&mut self, key: u128, now: Touch) {
        let touch = self.touched.entry(key).or_insert(now);
        *touch = Touch { last: touch.last.max(now.last), is_partial: touch.is_partial || now.is_partial };
    }

    fn judge(&self, key: u128, at: CommitLsn) -> Verdict {
        match self.touched.get(&key) {
            Some(touch) if !at.covers(touch.last) && touch.is_partial => Verdict::Again,
            Some(touch) if !at.covers(touch.last) => Verdict::Stream,
            Some(_) | None => Verdict::Read,
        }
    }
}

/// Hashes of the rows' keys.
fn keys(schema: &TableSchema, rows: &RecordBatch) -> Result<Vec<u128>> {
    let broken = |e| Error::new(codes::RT001, "cannot compare the keys of a table's rows").with_source(e);
    let columns: Vec<ArrayRef> = schema.key.iter().filter_map(|&i| rows.columns().get(i).cloned()).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converted =
        RowConverter::new(fields).and_then(|rows| rows.convert_columns(&columns)).map_err(broken)?;
    Ok(converted.iter().map(|row| xxh3_128(row.as_ref())).collect())
}

/// Whether the keys of such a table can be told from each other here.
fn has_comparable_key(schema: &TableSchema) -> bool {
    let types = schema.key.iter().filter_map(|&i| schema.arrow.fields().get(i));
    let fields: Vec<SortField> = types.map(|field| SortField::new(field.data_type().clone())).collect();
    !fields.is_empty() && RowConverter::supports_fields(&fields)
}

/// Rows that were read, as events.
struct Piece {
    part: Part,
    /// By the row that a record says it is of.
    keys: Vec<u128>,
    /// The first column of the key, where rows can be asked for by it.
    first: Option<ArrayRef>,
}

/// What one worker read.
struct Read(Vec<Piece>);

/// One worker of a part.
struct Writer {
    encoder: Arc<Encoder>,
    options: Arc<KafkaOptions>,
    limits: Limits,
    point: SnapshotPoint,
    shelf: Shelf,
    pieces: Vec<Piece>,
}

impl Writer {
    fn put(&mut self, batch: &ChangeBatch) -> Result<()> {
        let all = Marker::Incremental;
        let snapshot = Some(SnapshotRows { point: self.point, first: all, between: all, last: all });
        let fit = Fit { encoder: &self.encoder, options: &self.options, limits: self.limits };
        let mut records = fit.encode(batch, &Occasion { now_ns: now_ns(), snapshot })?;
        if records.len() > 1 && batch.len() > 1 {
            // Some were too large and were made anew: those do not tell their row.
            return (0..batch.len()).try_for_each(|row| self.put(&batch.slice(row, 1)));
        }
        let schema = self.encoder.schema();
        let first = schema
            .key
            .first()
            .filter(|&&i| schema.columns.get(i).is_some_and(|column| ChunkKey::is_exact(&column.kind)));
        let first = first.and_then(|&i| batch.after.columns().get(i).cloned());
        let keys = keys(schema, &batch.after)?;
        for records in records.drain(..) {
            let part = self.shelf.put(records, &self.options.spill_dir)?;
            self.pieces.push(Piece { part, keys: keys.clone(), first: first.clone() });
        }
        Ok(())
    }
}

impl CopyWriter for Writer {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let (rows, bytes) = PIECE;
        let at_once = (bytes / (batch.wire_bytes / batch.len().max(1)).max(1)).clamp(1, rows);
        (0..batch.len())
            .step_by(at_once)
            .try_for_each(|from| self.put(&batch.slice(from, at_once.min(batch.len() - from))))
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(Read(self.pieces))))
    }
}

impl KafkaTable {
    /// Begins to meet a request. Returns where it goes on.
    ///
    /// # Errors
    /// `TG029`.
    pub(super) fn begin_amending(&mut self, request: &str) -> Result<Option<ChunkKey>> {
        if !has_comparable_key(&self.schema) {
            let what = "its key cannot be compared: its rows cannot be read while it streams";
            return Err(table_error(&self.schema.name, codes::TG029, what)
                .with_try("a signal of the type \"blocking\": the whole table is copied again"));
        }
        self.amending = Some(Amending::default());
        let requests = lock(&self.live.requests);
        let Some(known) = requests.iter().find(|known| known.id == request) else { return Ok(None) };
        let (recorded, is_read) = (known.again.iter().cloned().collect(), known.is_read);
        self.amending = Some(Amending { recorded, is_read, ..Amending::default() });
        Ok(known.below.clone())
    }

    /// Keys that are to be read once more, of an earlier life.
    pub(super) fn left_to_amend(&self) -> Vec<ChunkKey> {
        self.amending.iter().flat_map(|amending| amending.recorded.iter().cloned()).collect()
    }

    /// A writer of rows that are read again.
    ///
    /// # Errors
    /// `CF003`; `KF007` where the registry must be asked about new columns first.
    pub(super) fn reader(&self, point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        let encoder = match *self.encoder.schema() == self.schema {
            true => Arc::clone(&self.encoder),
            // Its columns changed, and no row of it has come since.
            false if self.live.registry.is_none() => Arc::new(Encoder::new(&self.schema, &self.events)?),
            false => {
                let what = format!("table \"{}\" changed before its rows were read", self.schema.name);
                return Err(Error::new(codes::KF007, what).with_try("nothing: it is opened again"));
            }
        };
        Ok(Box::new(Writer {
            encoder,
            options: Arc::clone(&self.live.options),
            limits: self.limits,
            point: *point,
            shelf: Shelf::new(Arc::clone(&self.live.memory), self.live.options.memory),
            pieces: Vec::new(),
        }))
    }

    /// Puts the rows of a part out, and how far that is on record.
    ///
    /// # Errors
    /// As a commit.
    pub(super) async fn put_out(&mut self, part: AmendPart) -> Result<(Amended, CommitOutcome)> {
        let nobody = || Error::new(codes::RT001, "rows that were read, and nobody asked for them");
        let AmendPart { request, at, read, keys, parts, .. } = part;
        let amending = self.amending.as_mut().ok_or_else(nobody)?;
        let mut amended = Amended { void: amending.void.map(str::to_owned), ..Amended::default() };
        let unchanged = CommitOutcome::Committed { version: 0 };
        if amended.void.is_some() {
            return Ok((amended, unchanged));
        }
        let mut chosen = Chosen { is_range: read.is_some(), ..Chosen::default() };
        for part in parts {
            for piece in part.0.downcast::<Read>().map_err(|_| nobody())?.0 {
                chosen.choose(amending, at, piece);
            }
        }
        if chosen.is_void {
            amended.void = Some("a row of it changed in part meanwhile".to_owned());
            return Ok((amended, unchanged));
        }
        let Chosen { parts, again, written, waits, .. } = chosen;
        amending.take_in(&keys, &again, waits);
        (amended.written, amended.again) = (written, again.iter().cloned().collect());
        let change = Box::new(move |state: &mut super::State| {
            state.read_part(&request, read.as_ref().map(|range| range.below.as_ref()), &keys, &again);
        });
        let (reply, outcome) = oneshot::channel();
        let rows = Rows { topic: Arc::clone(&self.topic), parts, change };
        self.live.send(Job::Rows(rows, reply))?;
        Ok((amended, outcome.await.map_err(|_| gone())??))
    }
}

impl Amending {
    /// A part is put out: rows with these values were read once more, those are to be.
    fn take_in(&mut self, keys: &[ChunkKey], again: &BTreeSet<ChunkKey>, waits: Vec<(u128, bool)>) {
        for (key, is_waiting) in waits {
            if is_waiting {
                self.pending.insert(key);
            } else {
                self.pending.remove(&key);
            }
        }
        self.recorded.retain(|key| !keys.contains(key) || again.contains(key));
    }
}

/// What of a part goes out.
#[derive(Default)]
struct Chosen {
    is_range: bool,
    /// Each with which of its rows go out.
    parts: Vec<(Part, Vec<bool>)>,
    written: u64,
    /// Values of the first key column whose rows are to be read once more.
    again: BTreeSet<ChunkKey>,
    /// Keys that wait for that, or do no more.
    waits: Vec<(u128, bool)>,
    /// A row must be read once more and cannot be asked for.
    is_void: bool,
}

impl Chosen {
    fn choose(&mut self, amending: &Amending, at: CommitLsn, piece: Piece) {
        let mut wanted = Vec::with_capacity(piece.keys.len());
        for (row, key) in piece.keys.iter().enumerate() {
            let first = || piece.first.as_ref().and_then(|first| ChunkKey::of(first, row));
            let is_meant = if self.is_range {
                !amending.is_read
            } else {
                // Others with the same value in the first column are out.
                amending.pending.contains(key) || first().is_some_and(|key| amending.recorded.contains(&key))
            };
            let verdict = amending.judge(*key, at);
            wanted.push(is_meant && verdict == Verdict::Read);
            self.written += u64::from(is_meant && verdict == Verdict::Read);
            if !is_meant {
                continue;
            }
            self.waits.push((*key, verdict == Verdict::Again));
            if verdict == Verdict::Again {
                match first() {
                    Some(key) => drop(self.again.insert(key)),
                    None => self.is_void = true,
                }
            }
        }
        self.parts.push((piece.part, wanted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> CommitLsn {
        CommitLsn::end_of_commit(Lsn::new(raw))
    }

    #[test]
    fn what_the_stream_said_later_is_newer() {
        let mut amending = Amending::default();
        amending.touch(1, Touch { last: Lsn::new(50), is_partial: false });
        amending.touch(2, Touch { last: Lsn::new(150), is_partial: false });
        amending.touch(3, Touch { last: Lsn::new(50), is_partial: true });
        amending.touch(3, Touch { last: Lsn::new(150), is_partial: false });
        let verdicts = [1, 2, 3, 4].map(|key| amending.judge(key, at(100)));
        assert_eq!(verdicts, [Verdict::Read, Verdict::Stream, Verdict::Again, Verdict::Read]);
        amending.watch();
        assert_eq!(amending.judge(2, at(100)), Verdict::Read);
    }
}
