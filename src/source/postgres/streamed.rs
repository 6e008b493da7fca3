//! Transactions that the server sends before they commit (protocols 2 and 4, `streaming 'on'`).
//!
//! A transaction that outgrows the server's `logical_decoding_work_mem` comes in blocks, between which blocks
//! of others and whole ordinary transactions may stand. Whether it commits is known at its end only.
//!
//! # States of one transaction
//!
//! ```text
//!            Stream Start                 Stream Stop
//!   (none) ───────────────▶ in a block ◀──────────────▶ between blocks
//!                                                        │    │     │
//!                    Stream Abort of a subtransaction ◀──┘    │     └──▶ Stream Abort of it: dropped, (none)
//!                    (its rows are marked, stays here)        ▼
//!                                                Stream Commit: applied, slice by slice, then (none)
//! ```
//!
//! There is at most one block at a time; ordinary transactions begin and end between blocks. Anything else is
//! a stream that cannot be understood (PG024). A lost connection drops every transaction here: the server
//! sends each again, in blocks or whole.
//!
//! # As if it had come whole
//!
//! What is handed on must not depend on how the server chose to send a transaction: after a lost connection it
//! may choose otherwise. So nothing of a transaction is decided before its Stream Commit:
//!
//! - *Position*: commit record and time are those of Stream Commit; the transaction's id is the top one's.
//! - *Held already* (`skip_until`), *replayed* (guard), *bound* (`stop_before`): decided there, as at Begin.
//! - *Ordinals* count changes in the order of arrival, those of other tables too, and at the commit lose what
//!   was aborted. Each stretch of changes of one (sub)transaction is a [`Segment`]: its first ordinal and its
//!   id. Stream Abort marks segments; rows are taken out when the transaction is applied, wherever they are.
//! - *Errors* of a row (a value that cannot be represented, changed columns) wait with the ordinal of their
//!   row. Those of aborted rows are never seen. The catalogue cannot explain changed columns before the commit,
//!   so that rows behind an `ALTER TABLE` of the same streamed transaction are not decoded: if they commit, the
//!   connection is made again without blocks, and the transaction comes whole
//!   ([`super::assemble::Assembler::wants_whole`]).
//! - *Relation messages* in a block hold for that transaction, and for all from its commit on. The one that
//!   arrived last is the newest: one of an ordinary transaction that came after it stays.
//! - *Tables that join* (a copy that ended) while a transaction is open have not had their first rows kept. If
//!   the transaction then commits beyond the copy, it cannot be applied; the connection is made again (PG006),
//!   and the server sends it from its beginning.
//!
//! Stream Abort of a subtransaction takes exactly its own segments. The server sends one for each of its
//! children that was streamed, too, those first: of a child that was released before, rows of the parent may
//! stand behind, so it is not the tail that goes. The segments of one subtransaction are chained.
//!
//! # Keepalives
//!
//! A keepalive's position stays valid while transactions are open here, and may be acknowledged: everything
//! that committed before it has been sent, and each transaction that is open here commits after it. The server
//! keeps the log from the oldest open transaction on (`restart_lsn`) whatever is acknowledged, and sends a
//! transaction whole or in blocks when its commit is beyond the acknowledged position. Within a block, and
//! while a transaction is applied, keepalives do not count.
//!
//! # Memory
//!
//! Counted against [`Spill::memory`], every 256 KiB that come in blocks: content of builders and what finished
//! batches allocated, over all transactions. A builder is finished at [`Spill::slice`]. Past the budget the
//! largest (transaction, table) buffers go to the transaction's file, until half of it is free. Not counted,
//! and not spilled: about 30 bytes for each stretch of one subtransaction, 80 for each slice on disk, each
//! transaction's Relation messages. Aborted rows stay where they are until the transaction ends.
//!
//! At the commit what is on disk is read back slice by slice, about one slice for each call, in the order of
//! each table; then what is in memory. The rest of the program sees a transaction that is half received, as it
//! does when an ordinary one is large, and nothing is read from the socket meanwhile.

use super::announced::Announced;
use super::assemble::doubtful;
use super::fault::table_error;
use super::spill::{Slice, Spill, SpillDir, SpillFile, filtered};
use crate::error::{Error, Result, codes};
use crate::event::ChangeBatch;
use crate::pgoutput::{BatchBuilder, Message, Policies, Relation, ValueError, decode};
use crate::schema::{TableId, TableSchema};
use arrow::array::BooleanArray;
use hashbrown::{HashMap, HashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Memory is counted each time so many bytes have come, or a quarter of the budget.
const COUNT_EVERY: usize = 256 << 10;
/// No transaction has this id: a segment that was aborted.
const ABORTED: u32 = 0;

/// No segment.
const NONE: u32 = u32::MAX;

/// Changes of one (sub)transaction that came in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Segment {
    first: u64,
    xid: u32,
    /// The segment before it of the same (sub)transaction, or [`NONE`].
    previous: u32,
}

/// Something that stops a table if a row with one of these ordinals commits.
struct Fault {
    ordinals: (u64, u64),
    error: Error,
}

/// A finished batch.
struct Part {
    batch: ChangeBatch,
    bytes: usize,
}

/// One table's rows of one transaction.
struct Rows {
    schema: Arc<TableSchema>,
    announced: Announced,
    builder: BatchBuilder,
    /// Ordinals of the builder's first and last row.
    ordinals: (u64, u64),
    parts: Vec<Part>,
    faults: Vec<Fault>,
    /// As last counted.
    bytes: usize,
    /// Rows have come since.
    is_dirty: bool,
}

impl Rows {
    /// Makes a batch of what the builder holds.
    fn finish(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        match self.builder.take(None) {
            Ok(batch) => {
                let bytes = memory_of(&batch);
                self.parts.push(Part { batch, bytes });
            }
            Err(error) => {
                let error = error.into_error(&self.schema);
                self.faults.push(Fault { ordinals: self.ordinals, error });
            }
        }
    }

    fn memory(&self) -> usize {
        self.builder.bytes() + self.parts.iter().map(|part| part.bytes).sum::<usize>()
    }
}

/// What a batch allocated.
fn memory_of(batch: &ChangeBatch) -> usize {
    let before = batch.before.as_ref().map_or(0, |b| b.rows.get_array_memory_size() + b.index.capacity() * 4);
    let masks: usize = batch.unchanged.iter().flatten().map(|mask| mask.len() / 8).sum();
    batch.after.get_array_memory_size()
        + before
        + masks
        + batch.ops.capacity()
        + batch.ordinals.capacity() * 8
        + batch.lsns.capacity() * 8
}

/// One transaction.
pub(super) struct StreamedTxn {
    xid: u32,
    /// Ordinal of the next change.
    next: u64,
    segments: Vec<Segment>,
    /// The last segment of each (sub)transaction.
    last_of: HashMap<u32, u32>,
    tables: HashMap<TableId, Rows>,
    /// Tables with rows that were not kept, because they are not followed.
    passed: HashSet<TableId>,
    /// Relation messages, each with its number of arrival.
    relations: HashMap<TableId, (u64, Vec<u8>)>,
    slices: Vec<(TableId, Slice)>,
    file: Option<SpillFile>,
    /// Bytes of its messages.
    bytes: u64,
    /// Logical messages in it.
    messages: u64,
    /// A subtransaction of it was rolled back.
    has_aborts: bool,
}

impl StreamedTxn {
    fn new(xid: u32) -> Self {
        StreamedTxn {
            xid,
            next: 0,
            segments: Vec::new(),
            last_of: HashMap::new(),
            tables: HashMap::new(),
            passed: HashSet::new(),
            relations: HashMap::new(),
            slices: Vec::new(),
            file: None,
            bytes: 0,
            messages: 0,
            has_aborts: false,
        }
    }

    /// Bytes of its messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether some of its logical messages may have been rolled back: the server does not tell of which
    /// subtransaction each was.
    pub(super) fn may_hold_lost_messages(&self) -> bool {
        self.messages > 0 && self.has_aborts
    }

    /// Whether nothing but such messages is left of it.
    pub(super) fn holds_messages_alone(&self) -> bool {
        self.survivors().count <= self.messages
    }

    /// Tables with rows that were not kept.
    pub(super) fn passed(&self) -> impl Iterator<Item = TableId> + '_ {
        self.passed.iter().copied()
    }

    /// Its Relation messages, each with its number of arrival.
    pub(super) fn take_relations(&mut self) -> HashMap<TableId, (u64, Vec<u8>)> {
        std::mem::take(&mut self.relations)
    }

    /// The ordinal of a change of `xid`.
    fn count(&mut self, xid: u32) -> u64 {
        let ordinal = self.next;
        self.next += 1;
        if self.segments.last().is_none_or(|segment| segment.xid != xid) {
            // A transaction of 2^32 stretches does not fit into anybody's memory.
            let at = u32::try_from(self.segments.len()).unwrap_or(NONE);
            let previous = self.last_of.insert(xid, at).unwrap_or(NONE);
            self.segments.push(Segment { first: ordinal, xid, previous });
        }
        ordinal
    }

    fn abort(&mut self, xid: u32) {
        self.has_aborts = true;
        let mut at = self.last_of.remove(&xid);
        while let Some(segment) = at.and_then(|at| self.segments.get_mut(at as usize)) {
            segment.xid = ABORTED;
            at = Some(segment.previous);
        }
        while let [.., a, b] = self.segments[..]
            && (a.xid, b.xid) == (ABORTED, ABORTED)
        {
            self.segments.pop();
        }
    }

    /// The table stops if this change commits.
    fn fault(&mut self, id: TableId, ordinal: u64, error: Error) {
        let segments = &self.segments;
        let segment_of = |ordinal: u64| {
            let at = segments.partition_point(|segment| segment.first <= ordinal);
            at.checked_sub(1).and_then(|at| segments.get(at))
        };
        let Some(rows) = self.tables.get_mut(&id) else { return };
        while let Some(last) = rows.faults.last() {
            match segment_of(last.ordinals.1) {
                // One for each stretch is enough: it commits or aborts as a whole.
                Some(segment) if Some(segment) == segments.last() => return,
                Some(segment) if segment.xid == ABORTED => rows.faults.pop(),
                _ => break,
            };
        }
        rows.faults.push(Fault { ordinals: (ordinal, ordinal), error });
    }

    fn table(&mut self, id: TableId, schema: &Arc<TableSchema>, policies: Policies) -> Result<&mut Rows> {
        let relations = &self.relations;
        let entry = match self.tables.entry(id) {
            hashbrown::hash_map::Entry::Occupied(entry) => return Ok(entry.into_mut()),
            hashbrown::hash_map::Entry::Vacant(entry) => entry,
        };
        let announced = match relations.get(&id).map(|(_, bytes)| decode(bytes, true)).transpose()? {
            Some(Message::Relation(relation)) => Announced::of(schema, &relation),
            _ if schema.is_messages() => Announced::Agrees,
            _ => Announced::Not,
        };
        Ok(entry.insert(Rows {
            schema: Arc::clone(schema),
            announced,
            builder: BatchBuilder::new(Arc::clone(schema), policies),
            ordinals: (0, 0),
            parts: Vec::new(),
            faults: Vec::new(),
            bytes: 0,
            is_dirty: false,
        }))
    }

    /// The table's rows are not kept, from the first on. Returns the memory that is free now.
    fn drop_table(&mut self, id: TableId) -> usize {
        let Some(rows) = self.tables.remove(&id) else { return 0 };
        self.slices.retain(|(table, _)| *table != id);
        self.passed.insert(id);
        rows.bytes
    }

    /// Counts the memory of tables that got rows; finishes builders that are large. Returns by how much the
    /// memory grew.
    fn recount(&mut self, slice: usize) -> isize {
        let mut grown = 0;
        for rows in self.tables.values_mut().filter(|rows| rows.is_dirty) {
            rows.is_dirty = false;
            if rows.builder.bytes() >= slice {
                rows.finish();
            }
            let bytes = rows.memory();
            grown += bytes.cast_signed() - rows.bytes.cast_signed();
            rows.bytes = bytes;
        }
        grown
    }

    /// Puts a table's rows on disk. Returns the memory that is free now.
    fn spill(&mut self, id: TableId, dir: &mut SpillDir) -> Result<usize> {
        let Some(rows) = self.tables.get_mut(&id) else { return Ok(0) };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                tracing::info!(xid = self.xid, "a large transaction goes to disk until it commits");
                self.file.insert(dir.file()?)
            }
        };
        rows.finish();
        for part in rows.parts.drain(..) {
            self.slices.push((id, file.append(&part.batch)?));
        }
        let before = rows.bytes;
        rows.bytes = rows.memory();
        Ok(before.saturating_sub(rows.bytes))
    }

    /// Ends it: which changes survive.
    fn survivors(&self) -> Survivors {
        let mut live = Vec::new();
        let mut dead = 0;
        for (at, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1).map_or(self.next, |next| next.first);
            if segment.xid == ABORTED {
                dead += end - segment.first;
            } else {
                live.push(Stretch { first: segment.first, end, shift: dead });
            }
        }
        Survivors { live, count: self.next - dead, is_all: dead == 0 }
    }
}

struct Stretch {
    first: u64,
    end: u64,
    /// Aborted changes before it.
    shift: u64,
}

/// The changes of a transaction that were not aborted.
struct Survivors {
    live: Vec<Stretch>,
    count: u64,
    is_all: bool,
}

impl Survivors {
    /// Whether any of these is among them.
    fn any(&self, (first, last): (u64, u64)) -> bool {
        let at = self.live.partition_point(|stretch| stretch.end <= first);
        self.live.get(at).is_some_and(|stretch| stretch.first <= last)
    }

    /// Without the rows that were aborted, and with the ordinals of a transaction without them.
    fn settle(&self, batch: ChangeBatch) -> Result<Option<ChangeBatch>> {
        if self.is_all {
            return Ok(Some(batch));
        }
        let first = batch.ordinals.first().copied().unwrap_or(0);
        let mut at = self.live.partition_point(|stretch| stretch.end <= first);
        let mut keep = Vec::with_capacity(batch.len());
        let mut batch = batch;
        for ordinal in &mut batch.ordinals {
            while self.live.get(at).is_some_and(|stretch| stretch.end <= *ordinal) {
                at += 1;
            }
            let stretch = self.live.get(at).filter(|stretch| stretch.first <= *ordinal);
            keep.push(stretch.is_some());
            *ordinal -= stretch.map_or(0, |stretch| stretch.shift);
        }
        match keep.iter().filter(|kept| **kept).count() {
            0 => Ok(None),
            n if n == keep.len() => Ok(Some(batch)),
            _ => filtered(batch, &BooleanArray::from(keep)).map(Some),
        }
    }
}

/// A piece of a transaction that is applied.
enum Piece {
    Held(TableId, Box<Part>),
    Spilled(TableId, Slice),
}

/// A transaction that has committed and is being handed on.
pub(super) struct Applying {
    pieces: VecDeque<Piece>,
    schemas: HashMap<TableId, Arc<TableSchema>>,
    survivors: Survivors,
    file: Option<SpillFile>,
}

/// What [`Applying::next`] gives.
pub(super) struct Applied {
    /// The table.
    pub(super) table: TableId,
    /// Its rows, without a transaction yet; `None`: all were aborted, or not wanted.
    pub(super) batch: Option<ChangeBatch>,
    /// Bytes that were handled.
    pub(super) bytes: usize,
}

impl Applying {
    /// The transaction's changes that were not aborted, in tables of ours or not.
    pub(super) fn changes(&self) -> u64 {
        self.survivors.count
    }

    /// Nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The table of the next piece.
    pub(super) fn table(&self) -> Option<(TableId, &Arc<TableSchema>)> {
        let table = match self.pieces.front()? {
            Piece::Held(table, _) | Piece::Spilled(table, _) => *table,
        };
        Some((table, self.schemas.get(&table)?))
    }

    /// The next piece; `wanted`: its table still takes rows.
    ///
    /// # Errors
    /// `RT003` when it cannot be read back.
    pub(super) fn next(&mut self, wanted: bool) -> Result<Option<Applied>> {
        let Some(piece) = self.pieces.pop_front() else { return Ok(None) };
        let table = match &piece {
            Piece::Held(table, _) | Piece::Spilled(table, _) => *table,
        };
        let nothing = Some(Applied { table, batch: None, bytes: 0 });
        let Some(schema) = self.schemas.get(&table).filter(|_| wanted) else {
            return Ok(nothing);
        };
        let (batch, bytes) = match (piece, &self.file) {
            (Piece::Held(_, part), _) => (part.batch, part.bytes),
            (Piece::Spilled(_, slice), _) if !self.survivors.any(slice.ordinals) => return Ok(nothing),
            (Piece::Spilled(_, slice), Some(file)) => (file.read(&slice, schema)?, slice.bytes()),
            (Piece::Spilled(..), None) => {
                return Err(Error::new(codes::RT001, "a slice of a large transaction has no file"));
            }
        };
        Ok(Some(Applied { table, batch: self.survivors.settle(batch)?, bytes }))
    }
}

/// What becomes of one table when a transaction is applied.
pub(super) enum Fate {
    /// Its rows are handed on.
    Take,
    /// It holds the transaction already, or has stopped.
    Skip,
}

/// All transactions that have not ended.
pub(super) struct Streamed {
    policies: Policies,
    limits: Spill,
    dir: SpillDir,
    /// Between blocks.
    waiting: HashMap<u32, StreamedTxn>,
    /// In a block.
    block: Option<StreamedTxn>,
    /// Memory as last counted.
    held: usize,
    uncounted: usize,
    /// Bytes put on disk on this connection.
    spilled: u64,
}

impl Streamed {
    pub(super) fn new(policies: Policies, limits: Spill) -> Self {
        let dir = SpillDir::new(limits.dir.clone());
        Streamed {
            policies,
            limits,
            dir,
            waiting: HashMap::new(),
            block: None,
            held: 0,
            uncounted: 0,
            spilled: 0,
        }
    }

    /// Whether a block is open.
    #[inline]
    pub(super) fn in_block(&self) -> bool {
        self.block.is_some()
    }

    /// Bytes of a slice.
    pub(super) fn slice(&self) -> usize {
        self.limits.slice
    }

    /// Bytes of memory, as last counted.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes put on disk so far.
    pub(super) fn spilled(&self) -> u64 {
        self.spilled
    }

    /// Transactions that have not ended.
    pub(super) fn open(&self) -> usize {
        self.waiting.len() + usize::from(self.block.is_some())
    }

    /// Stream Start.
    pub(super) fn start(&mut self, xid: u32, is_first: bool) -> Result<()> {
        if self.block.is_some() {
            return Err(doubtful("a block within a block"));
        }
        let txn = match (self.waiting.remove(&xid), is_first) {
            (Some(txn), false) => txn,
            (None, true) => StreamedTxn::new(xid),
            (Some(_), true) => return Err(doubtful("a streamed transaction begins twice")),
            (None, false) => return Err(doubtful("a block of a transaction that has not begun")),
        };
        self.block = Some(txn);
        Ok(())
    }

    /// Stream Stop.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(txn) = self.block.take() else { return Err(doubtful("a block ends that has not begun")) };
        self.waiting.insert(txn.xid, txn);
        Ok(())
    }

    /// Stream Abort. Of a transaction that never came, there is nothing to drop.
    pub(super) fn abort(&mut self, xid: u32, subxid: u32) -> Result<()> {
        if self.block.is_some() {
            return Err(doubtful("an abort within a block"));
        }
        let Some(txn) = self.waiting.get_mut(&xid) else {
            return Ok(());
        };
        if subxid != xid {
            txn.abort(subxid);
            return Ok(());
        }
        let freed: usize = txn.tables.values().map(|rows| rows.bytes).sum();
        self.held = self.held.saturating_sub(freed);
        self.waiting.remove(&xid);
        Ok(())
    }

    /// A message of `size` bytes came in the block: counts memory now and then, and spills past the budget.
    ///
    /// # Errors
    /// `RT003`.
    #[inline]
    pub(super) fn came(&mut self, size: usize) -> Result<()> {
        if let Some(txn) = &mut self.block {
            txn.bytes += size as u64;
        }
        self.uncounted += size;
        if self.uncounted >= COUNT_EVERY.min(self.limits.memory / 4) { self.recount() } else { Ok(()) }
    }

    #[cold]
    fn recount(&mut self) -> Result<()> {
        self.uncounted = 0;
        if let Some(txn) = &mut self.block {
            self.held = self.held.saturating_add_signed(txn.recount(self.limits.slice));
        }
        if self.held > self.limits.memory { self.relieve() } else { Ok(()) }
    }

    /// The largest buffers go to disk.
    fn relieve(&mut self) -> Result<()> {
        let all = self.waiting.values().chain(&self.block);
        let mut buffers: Vec<(usize, u32, TableId)> = all
            .flat_map(|txn| txn.tables.iter().map(|(id, rows)| (rows.bytes, txn.xid, *id)))
            .filter(|(bytes, ..)| *bytes > 0)
            .collect();
        buffers.sort_unstable_by(|a, b| b.cmp(a));
        for (_, xid, table) in buffers {
            if self.held <= self.limits.memory / 2 {
                break;
            }
            let block = self.block.as_mut().filter(|txn| txn.xid == xid);
            let Some(txn) = block.or_else(|| self.waiting.get_mut(&xid)) else { continue };
            let before = txn.file.as_ref().map_or(0, SpillFile::bytes);
            let freed = txn.spill(table, &mut self.dir)?;
            self.spilled += txn.file.as_ref().map_or(0, SpillFile::bytes) - before;
            self.held = self.held.saturating_sub(freed);
        }
        Ok(())
    }

    /// A Relation message of the block.
    pub(super) fn relation(&mut self, arrival: u64, relation: &Relation<'_>, bytes: &[u8]) {
        let Some(txn) = &mut self.block else { return };
        txn.relations.insert(relation.id, (arrival, bytes.to_vec()));
        if let Some(rows) = txn.tables.get_mut(&relation.id) {
            rows.announced = Announced::of(&rows.schema, relation);
        }
    }

    /// A change of the block. `schema`: of the table, if it is followed.
    pub(super) fn change(
        &mut self,
        xid: u32,
        id: TableId,
        schema: Option<&Arc<TableSchema>>,
        push: impl FnOnce(&mut BatchBuilder, u64, Option<&[Option<usize>]>) -> Result<(), ValueError>,
    ) -> Result<()> {
        let policies = self.policies;
        let Some(txn) = &mut self.block else { return Err(doubtful("a streamed change outside of a block")) };
        let ordinal = txn.count(xid);
        txn.messages += u64::from(id == TableId::MESSAGES);
        let Some(schema) = schema.filter(|_| !txn.passed.contains(&id)) else {
            txn.passed.insert(id);
            return Ok(());
        };
        let rows = txn.table(id, schema, policies)?;
        let map = match &rows.announced {
            Announced::Agrees => Ok(None),
            Announced::Mapped(map) => Ok(Some(map.as_slice())),
            Announced::Not => return Err(doubtful("a change of a table that was not announced")),
            Announced::Differs(what) => Err(changed(&rows.schema, what)),
        };
        let pushed = map.and_then(|map| {
            push(&mut rows.builder, ordinal, map).map_err(|error| error.into_error(&rows.schema))
        });
        let Err(error) = pushed else {
            rows.ordinals = (if rows.builder.rows() == 1 { ordinal } else { rows.ordinals.0 }, ordinal);
            rows.is_dirty = true;
            return Ok(());
        };
        txn.fault(id, ordinal, error);
        Ok(())
    }

    /// Forgets a table's rows in all transactions: it has stopped, or is registered anew.
    pub(super) fn drop_table(&mut self, id: TableId) {
        for txn in self.waiting.values_mut().chain(&mut self.block) {
            self.held = self.held.saturating_sub(txn.drop_table(id));
        }
    }

    /// Stream Commit: the transaction, no longer here.
    pub(super) fn take(&mut self, xid: u32) -> Result<StreamedTxn> {
        if self.block.is_some() {
            return Err(doubtful("a streamed commit within a block"));
        }
        let Some(txn) = self.waiting.remove(&xid) else {
            return Err(doubtful("a commit of a transaction that was not streamed"));
        };
        let freed: usize = txn.tables.values().map(|rows| rows.bytes).sum();
        self.held = self.held.saturating_sub(freed);
        Ok(txn)
    }
}

/// The error of a row whose table has other columns than it is decoded with.
pub(super) fn changed(schema: &TableSchema, what: &str) -> Error {
    let name = &schema.name;
    table_error(name, codes::PG022, what).with_try(format!("strandline resync {name} --yes"))
}

impl StreamedTxn {
    /// Makes it ready to be handed on. Also the errors of rows that committed, one for each table.
    pub(super) fn apply(mut self, fate: impl Fn(TableId) -> Fate) -> (Applying, Vec<(TableId, Error)>) {
        let survivors = self.survivors();
        let mut failed = Vec::new();
        let mut pieces = VecDeque::new();
        let mut schemas = HashMap::new();
        for (id, mut rows) in self.tables {
            if matches!(fate(id), Fate::Skip) {
                continue;
            }
            rows.finish();
            if let Some(fault) = rows.faults.into_iter().find(|fault| survivors.any(fault.ordinals)) {
                failed.push((id, fault.error));
                continue;
            }
            pieces.extend(rows.parts.into_iter().map(|part| Piece::Held(id, Box::new(part))));
            schemas.insert(id, rows.schema);
        }
        self.slices.retain(|(id, _)| schemas.contains_key(id));
        for (id, slice) in self.slices.into_iter().rev() {
            pieces.push_front(Piece::Spilled(id, slice));
        }
        (Applying { pieces, schemas, survivors, file: self.file }, failed)
    }
}

#[cfg(test)]
#[path = "streamed_tests.rs"]
mod tests;
