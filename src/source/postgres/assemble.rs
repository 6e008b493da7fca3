//! From messages of the stream to rows in per-table builders, and to what a caller must know beside them.
//!
//! No clock, and no IO but that of [`super::spill`]. One table's trouble (a value, a change of its columns) stops that table and lets the
//! others go on; anything that makes the stream itself doubtful is an error of the whole.
//!
//! Positions: a transaction is known by the *start* of its commit record from Begin on, and ends a burst by
//! its *end*. Event positions are not looked at: they repeat and go backwards.
//!
//! Transactions that are sent before they commit wait in [`super::streamed`]. From Stream Commit on they are
//! handed on as a half-received transaction: [`Assembler::apply`] moves about a slice at each call, and the
//! last one ends it.
//!
//! Logical messages of others are rows of a table that is not there ([`TableSchema::messages`]). They are changes of
//! their transaction whether that table is followed or not, so that what a replay must meet does not depend on the
//! target. One that is of no transaction is a transaction of its own. In blocks the server sends those of a
//! subtransaction under the id of the whole: when a part of such a transaction was rolled back, nobody can tell which of
//! its messages went with it, and the transaction is asked for whole ([`Assembler::wants_whole`]).

use super::announced::Announced;
use super::spill::Spill;
use super::streamed::{Applied, Applying, Fate, Streamed, StreamedTxn, changed};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Txn};
use crate::pgoutput::{
    BatchBuilder, Begin, Commit, Logical, Message, Policies, Relation, ReplicationFrame, StreamCommit,
    Truncate, ValueError, decode,
};
use crate::position::{CommitLsn, Lsn, Witness};
use crate::schema::{TableId, TableName, TableSchema};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// The prefix of our own logical messages.
pub const HEARTBEAT_PREFIX: &str = "strandline";

/// What one call brought; rows stay in the builders until they are taken.
#[derive(Debug, Default)]
pub struct Burst {
    /// End of the last transaction that is whole, empty ones too.
    pub through: Option<CommitLsn>,
    /// The last whole transaction that had a change.
    pub last_nonempty: Option<Witness>,
    /// Whole transactions.
    pub transactions: u64,
    /// Changes of whole transactions, taken for our tables.
    pub rows: u64,
    /// Bytes of messages of whole transactions.
    pub bytes: u64,
    /// Tables that got changes of whole transactions.
    pub touched: Vec<TableId>,
    /// The server's log up to here holds nothing more for us: set only when no transaction is open and
    /// nothing came after it.
    pub keepalive: Option<Lsn>,
    /// The server's clock at the last message, microseconds since 2000-01-01 UTC.
    pub server_time: Option<i64>,
    /// End of the server's log at the last message.
    pub server_end: Option<Lsn>,
    /// Followed tables that were announced.
    pub announced: Vec<TableId>,
    /// Tables that stopped. Their rows that were not taken are gone.
    pub table_errors: Vec<(TableId, Error)>,
    /// Transactions with changes at or below the guard: history that is met again.
    pub replayed: Vec<(Lsn, Witness)>,
    /// The open transaction, if one is.
    pub open: Option<Txn>,
    /// Changes of the open transaction so far.
    pub open_rows: u64,
    /// Bytes of messages of the open transaction so far.
    pub open_bytes: u64,
    /// The stop bound is reached: no more will come.
    pub stopped: bool,
    /// Our own heartbeats seen.
    pub heartbeats: u64,
}

impl Burst {
    /// Whether everything in the builders belongs to whole transactions.
    pub fn at_boundary(&self) -> bool {
        self.open.is_none()
    }
}

/// What one frame was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something within a transaction, or beside.
    Within,
    /// A transaction ended.
    Boundary,
    /// A keepalive; the server wants an answer at once.
    Keepalive {
        /// It asks for one.
        reply: bool,
    },
    /// The stop bound.
    Stopped,
    /// A table was announced otherwise than it is followed: the caller should look at it before it goes on.
    Announced,
}

struct Table {
    schema: Arc<TableSchema>,
    /// Finished batches and the bytes of each, before what is in `builder`.
    ready: VecDeque<(ChangeBatch, usize)>,
    builder: BatchBuilder,
    skip_until: CommitLsn,
    announced: Announced,
    /// In `Assembler::dirty`: it has rows of the open transaction.
    dirty: bool,
    /// In the next burst's `touched`.
    touched: bool,
    failed: bool,
}

impl Table {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.builder.is_empty()
    }

    fn bytes(&self) -> usize {
        self.builder.bytes() + self.ready.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }
}

struct Open {
    txn: Txn,
    ordinal: u64,
    changes: u64,
    rows: u64,
    bytes: u64,
}

/// See the module.
pub struct Assembler {
    policies: Policies,
    tables: Vec<Table>,
    index: HashMap<TableId, usize>,
    /// The last Relation message of each relation, as received, with the number of its arrival and whether it
    /// came in a block: the server does not repeat it for a table that is added later.
    relations: HashMap<TableId, (u64, bool, Vec<u8>)>,
    /// Relation messages so far.
    arrivals: u64,
    streamed: Streamed,
    /// A streamed transaction that has committed, and the end of its commit record.
    applying: Option<(Box<Applying>, CommitLsn)>,
    /// A transaction came in blocks that can be told when it comes whole only: the end of it.
    wants_whole: Option<CommitLsn>,
    /// Tables with rows of the open transaction.
    dirty: Vec<usize>,
    open: Option<Open>,
    last_end: CommitLsn,
    stop_before: Option<Lsn>,
    guard: Option<CommitLsn>,
    burst: Burst,
}

impl Assembler {
    /// For one connection: what Relation messages said does not outlive it.
    pub fn new(policies: Policies, stop_before: Option<Lsn>, guard: Option<CommitLsn>) -> Self {
        Assembler {
            policies,
            tables: Vec::new(),
            index: HashMap::new(),
            relations: HashMap::new(),
            arrivals: 0,
            streamed: Streamed::new(policies, Spill::default()),
            applying: None,
            wants_whole: None,
            dirty: Vec::new(),
            open: None,
            last_end: CommitLsn::ZERO,
            stop_before,
            guard,
            burst: Burst::default(),
        }
    }

    /// Bounds the memory of transactions that have not committed. Before the first frame.
    #[must_use]
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.streamed = Streamed::new(self.policies, spill);
        self
    }

    /// Reports transactions with changes up to `guard` from now on, or no longer.
    pub fn set_guard(&mut self, guard: Option<CommitLsn>) {
        self.guard = guard;
    }

    /// Takes no transaction whose commit record starts at or after `bound`.
    pub fn set_stop_before(&mut self, bound: Lsn) {
        self.stop_before = Some(bound);
    }

    /// Takes a table's changes from now on, but for transactions that `skip_until` holds already. Rows of a
    /// former registration are dropped; where they are of a transaction that has not ended, its commit asks
    /// for a new connection.
    ///
    /// Errors: PG024 when what was announced of it cannot be read again.
    pub fn add(&mut self, schema: Arc<TableSchema>, skip_until: CommitLsn) -> Result<()> {
        let id = schema.id;
        let last = self.relations.get(&id);
        let announced = match last.map(|(_, in_block, bytes)| decode(bytes, *in_block)).transpose()? {
            Some(Message::Relation(relation)) => Announced::of(&schema, &relation),
            _ if schema.is_messages() => Announced::Agrees,
            _ => Announced::Not,
        };
        self.streamed.drop_table(id);
        let builder = BatchBuilder::new(Arc::clone(&schema), self.policies);
        let ready = VecDeque::new();
        let mut table = Table {
            ready,
            builder,
            skip_until,
            announced,
            dirty: false,
            touched: false,
            failed: false,
            schema,
        };
        match self.table(id) {
            Some(old) => {
                table.dirty = old.dirty;
                *old = table;
            }
            None => {
                self.index.insert(id, self.tables.len());
                self.tables.push(table);
            }
        }
        Ok(())
    }

    /// Takes a table's changes no more; its rows are dropped.
    pub fn remove(&mut self, id: TableId) {
        self.streamed.drop_table(id);
        if let Some(table) = self.table(id) {
            table.failed = true;
        }
        self.discard(id);
    }

    /// Drops the rows of a table that were not taken.
    pub fn discard(&mut self, id: TableId) {
        let policies = self.policies;
        if let Some(table) = self.table(id) {
            table.builder = BatchBuilder::new(Arc::clone(&table.schema), policies);
            table.ready.clear();
        }
    }

    /// Rows of a table so far, also within a transaction; to be called until there are none.
    ///
    /// Errors: PG021 for text that is not UTF-8; the table has stopped then.
    pub fn take(&mut self, id: TableId) -> Result<Option<ChangeBatch>> {
        let open = self.open.as_ref().map(|open| open.txn);
        let Some(table) = self.table(id) else { return Ok(None) };
        if let Some((batch, _)) = table.ready.pop_front() {
            return Ok(Some(batch));
        }
        if table.builder.is_empty() {
            return Ok(None);
        }
        match table.builder.take(open) {
            Ok(batch) => Ok(Some(batch)),
            Err(error) => {
                table.failed = true;
                let error = error.into_error(&table.schema);
                self.discard(id);
                Err(error)
            }
        }
    }

    /// Bytes of memory that a table's rows take.
    pub fn bytes_of(&self, id: TableId) -> usize {
        self.index.get(&id).and_then(|&i| self.tables.get(i)).map_or(0, Table::bytes)
    }

    /// Bytes of memory that all rows take which can be taken.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(Table::bytes).sum()
    }

    /// Bytes of memory that rows take whose transactions have not committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.streamed.held()
    }

    /// Bytes of such rows that were put on disk so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.streamed.spilled()
    }

    /// Streamed transactions that have not ended.
    pub fn uncommitted(&self) -> usize {
        self.streamed.open()
    }

    /// Tables with rows.
    pub fn tables_with_rows(&self) -> Vec<TableId> {
        self.tables.iter().filter(|t| !t.is_empty()).map(|t| t.schema.id).collect()
    }

    /// What came since the last call.
    pub fn take_burst(&mut self) -> Burst {
        let mut burst = std::mem::take(&mut self.burst);
        for table in self.tables.iter_mut().filter(|t| t.touched) {
            table.touched = false;
            burst.touched.push(table.schema.id);
        }
        if let Some(open) = &self.open {
            (burst.open, burst.open_rows, burst.open_bytes) = (Some(open.txn), open.rows, open.bytes);
        }
        burst
    }

    /// Rows and bytes since the last [`Assembler::take_burst`].
    pub fn pending(&self) -> (u64, u64) {
        (self.burst.rows, self.burst.bytes)
    }

    fn table(&mut self, id: TableId) -> Option<&mut Table> {
        let place = self.index.get(&id).copied()?;
        self.tables.get_mut(place)
    }

    /// Takes one CopyData payload.
    ///
    /// Errors: PG024 when the stream cannot be understood; it must not be read on.
    pub fn on_frame(&mut self, payload: &[u8]) -> Result<Progress> {
        match ReplicationFrame::decode(payload)? {
            ReplicationFrame::Keepalive(keepalive) => {
                self.burst.server_time = Some(keepalive.time);
                self.burst.server_end = Some(keepalive.end);
                if self.open.is_none() && !self.streamed.in_block() {
                    self.burst.keepalive = Some(keepalive.end);
                    if self.stop_before.is_some_and(|bound| keepalive.end >= bound) {
                        self.burst.stopped = true;
                        return Ok(Progress::Stopped);
                    }
                }
                Ok(Progress::Keepalive { reply: keepalive.reply })
            }
            ReplicationFrame::XLogData(data) => {
                // The time is that of sending; the end of the log is zero for some messages.
                self.burst.server_time = Some(data.time);
                if data.end > Lsn::ZERO {
                    self.burst.server_end = Some(data.end);
                }
                self.on_message(data.data, data.start)
            }
        }
    }

    fn on_message(&mut self, bytes: &[u8], at: Lsn) -> Result<Progress> {
        // A caller that did not go on with it has room for all of it.
        while self.is_applying() {
            self.apply()?;
        }
        let size = bytes.len();
        let in_block = self.streamed.in_block();
        if let Some(open) = &mut self.open {
            open.bytes += size as u64;
        }
        if in_block {
            self.streamed.came(size)?;
        }
        match decode(bytes, in_block)? {
            Message::Insert(m) => self.change(m.xid, m.relation, |b, n, map| {
                b.at(at);
                match map {
                    None => b.push_insert(&m.new, n, size),
                    Some(map) => b.push_insert(&m.new.arranged(map, &mut Vec::new()), n, size),
                }
            }),
            Message::Update(m) => self.change(m.xid, m.relation, |b, n, map| {
                b.at(at);
                match map {
                    None => b.push_update(m.old.as_ref(), &m.new, n, size),
                    Some(map) => {
                        let (mut new, mut old) = (Vec::new(), Vec::new());
                        let old = m.old.as_ref().map(|row| row.arranged(map, &mut old));
                        b.push_update(old.as_ref(), &m.new.arranged(map, &mut new), n, size)
                    }
                }
            }),
            Message::Delete(m) => self.change(m.xid, m.relation, |b, n, map| {
                b.at(at);
                match map {
                    None => b.push_delete(&m.old, n, size),
                    Some(map) => b.push_delete(&m.old.arranged(map, &mut Vec::new()), n, size),
                }
            }),
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit),
            Message::Relation(relation) => Ok(self.relation(&relation, bytes)),
            Message::Truncate(truncate) => self.truncate(&truncate, at, size),
            Message::Logical(message) => self.message(&message, at, size),
            // The name of a type, and of the server that a transaction came from: of no use to us.
            Message::Type(_) | Message::Origin(_) => Ok(Progress::Within),
            Message::StreamStart(m) if self.open.is_none() => {
                self.streamed.start(m.xid, m.first_segment).map(within)
            }
            Message::StreamStop => self.streamed.stop().map(within),
            Message::StreamAbort(m) if self.open.is_none() => {
                self.streamed.abort(m.xid, m.subxid).map(within)
            }
            Message::StreamCommit(m) => self.stream_commit(m),
            Message::StreamStart(_) | Message::StreamAbort(_) => {
                Err(doubtful("a streamed transaction within an ordinary one"))
            }
            Message::BeginPrepare(_)
            | Message::Prepare(_)
            | Message::CommitPrepared(_)
            | Message::RollbackPrepared(_)
            | Message::StreamPrepare(_) => Err(doubtful("a message of a protocol that was not asked for")),
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<Progress> {
        let txn = Txn {
            commit_start: begin.final_lsn,
            xid: begin.xid,
            commit_time: begin.commit_time,
            after: self.last_end,
        };
        if self.open(txn)? { Ok(Progress::Within) } else { Ok(Progress::Stopped) }
    }

    /// Opens a transaction, unless the bound is before it.
    fn open(&mut self, txn: Txn) -> Result<bool> {
        if self.open.is_some() || self.streamed.in_block() {
            return Err(doubtful("a transaction begins within another"));
        }
        if self.last_end.lsn() > txn.commit_start {
            return Err(doubtful("transactions are not in the order of their commits"));
        }
        if self.stop_before.is_some_and(|bound| txn.commit_start >= bound) {
            self.burst.stopped = true;
            return Ok(false);
        }
        self.open = Some(Open { txn, ordinal: 0, changes: 0, rows: 0, bytes: 0 });
        self.burst.keepalive = None;
        Ok(true)
    }

    fn commit(&mut self, commit: Commit) -> Result<Progress> {
        let Some(open) = self.open.take() else { return Err(doubtful("a commit without a beginning")) };
        if commit.commit_lsn != open.txn.commit_start || commit.end.lsn() <= commit.commit_lsn {
            return Err(doubtful("a commit that does not belong to its beginning"));
        }
        self.ended(open, commit.end);
        Ok(Progress::Boundary)
    }

    /// A transaction is whole.
    fn ended(&mut self, open: Open, end: CommitLsn) {
        for place in self.dirty.drain(..) {
            if let Some(table) = self.tables.get_mut(place) {
                table.dirty = false;
                table.touched = !table.failed;
                table.builder.commit(open.txn, end);
            }
        }
        self.last_end = end;
        self.burst.through = Some(end);
        self.burst.transactions += 1;
        self.burst.rows += open.rows;
        self.burst.bytes += open.bytes;
        if open.changes > 0 {
            let mut witness = open.txn.witness(end);
            if open.txn.xid == 0 {
                // The time of a message of no transaction is that of sending: another one each time.
                witness.commit_time = 0;
            }
            self.burst.last_nonempty = Some(witness);
            if self.guard.is_some_and(|guard| open.txn.held_at(guard)) {
                self.burst.replayed.push((open.txn.commit_start, witness));
            }
        }
    }

    /// A streamed transaction has committed: it is opened as Begin would, and handed on from here.
    fn stream_commit(&mut self, commit: StreamCommit) -> Result<Progress> {
        if commit.end.lsn() <= commit.commit_lsn {
            return Err(doubtful("a commit that ends before it begins"));
        }
        let mut streamed = self.streamed.take(commit.xid)?;
        let txn = Txn {
            commit_start: commit.commit_lsn,
            xid: commit.xid,
            commit_time: commit.commit_time,
            after: self.last_end,
        };
        if !self.open(txn)? {
            return Ok(Progress::Stopped);
        }
        self.check_messages(&txn, &streamed, commit.end)?;
        for (id, (arrival, bytes)) in streamed.take_relations() {
            if self.index.contains_key(&id) {
                self.burst.announced.push(id);
            }
            if self.relations.get(&id).is_none_or(|(known, ..)| *known < arrival) {
                self.announce(id, arrival, true, bytes)?;
            }
        }
        for id in streamed.passed() {
            let Some(table) = self.index.get(&id).and_then(|&place| self.tables.get(place)) else { continue };
            if !table.failed && !txn.held_at(table.skip_until) {
                return Err(joined_within(&table.schema.name));
            }
        }
        let bytes = streamed.bytes();
        let (applying, failed) =
            streamed.apply(|id| match self.index.get(&id).and_then(|&p| self.tables.get(p)) {
                Some(table) if !table.failed && !txn.held_at(table.skip_until) => Fate::Take,
                _ => Fate::Skip,
            });
        // Whole, the catalogue can be asked as each announcement comes.
        if failed.iter().any(|(_, error)| error.code().is_change()) {
            return Err(self.ask_whole(commit.end, "changes the columns of a table"));
        }
        for (id, error) in failed {
            self.fail(id, error);
        }
        if let Some(open) = &mut self.open {
            (open.changes, open.bytes) = (applying.changes(), bytes);
        }
        self.applying = Some((Box::new(applying), commit.end));
        self.apply()
    }

    /// Whether it is known which of its messages were not rolled back. See the module.
    fn check_messages(&mut self, txn: &Txn, streamed: &StreamedTxn, end: CommitLsn) -> Result<()> {
        let table = self.index.get(&TableId::MESSAGES).and_then(|&place| self.tables.get(place));
        let is_wanted = table.is_some_and(|table| !table.failed && !txn.held_at(table.skip_until));
        if !streamed.may_hold_lost_messages() || !(is_wanted || streamed.holds_messages_alone()) {
            return Ok(());
        }
        Err(self.ask_whole(end, "has messages, and a part of it was rolled back"))
    }

    /// The connection is made again, and the server sends the transaction that ends here whole.
    fn ask_whole(&mut self, end: CommitLsn, why: &str) -> Error {
        self.wants_whole = Some(end);
        Error::new(codes::PG006, format!("a large transaction {why}: it is asked for whole"))
    }

    /// Up to where the connection must be made again without blocks, if the last error was of that.
    pub fn wants_whole(&self) -> Option<CommitLsn> {
        self.wants_whole
    }

    /// Whether a streamed transaction is being handed on: [`Assembler::apply`] goes on before any frame.
    pub fn is_applying(&self) -> bool {
        self.applying.is_some()
    }

    /// Hands on about a slice of the streamed transaction that has committed.
    ///
    /// Errors: RT003 when what was put on disk cannot be read.
    pub fn apply(&mut self) -> Result<Progress> {
        let Some((mut applying, end)) = self.applying.take() else { return Ok(Progress::Within) };
        let mut moved = 0;
        while moved < self.streamed.slice() && !applying.is_done() {
            let table = applying.table().and_then(|(id, schema)| {
                let table = self.index.get(&id).and_then(|&place| self.tables.get(place))?;
                Some((!table.failed, Arc::ptr_eq(&table.schema, schema), &table.schema.name))
            });
            let wanted = match table {
                // Half of its rows went to the registration before.
                Some((true, false, name)) => return Err(joined_within(name)),
                Some((true, true, _)) => true,
                _ => false,
            };
            if let Some(Applied { table, batch, bytes }) = applying.next(wanted)? {
                moved += bytes;
                if let Some(batch) = batch {
                    self.hand_on(table, batch, end, bytes);
                }
            }
        }
        if !applying.is_done() {
            self.applying = Some((applying, end));
            return Ok(Progress::Within);
        }
        if let Some(open) = self.open.take() {
            self.ended(open, end);
        }
        Ok(Progress::Boundary)
    }

    /// A batch of the open transaction, behind everything that the table has.
    fn hand_on(&mut self, id: TableId, mut batch: ChangeBatch, end: CommitLsn, bytes: usize) {
        let Some(&place) = self.index.get(&id) else { return };
        let (Some(open), Some(table)) = (&mut self.open, self.tables.get_mut(place)) else { return };
        if !table.builder.is_empty() {
            let bytes = table.builder.bytes();
            match table.builder.take(None) {
                Ok(before) => table.ready.push_back((before, bytes)),
                Err(error) => {
                    let error = error.into_error(&table.schema);
                    return self.fail(id, error);
                }
            }
        }
        batch.stamp(open.txn, end);
        open.rows += batch.len() as u64;
        table.ready.push_back((batch, bytes));
        if !table.dirty {
            table.dirty = true;
            self.dirty.push(place);
        }
    }

    /// One change of one table, in a block with its (sub)transaction. Every change counts for the ordinal,
    /// taken or not, so that it does not depend on which tables are replicated.
    #[inline]
    fn change(
        &mut self,
        streamed: Option<u32>,
        id: TableId,
        push: impl FnOnce(&mut BatchBuilder, u64, Option<&[Option<usize>]>) -> Result<(), ValueError>,
    ) -> Result<Progress> {
        if let Some(xid) = streamed {
            let table = self.index.get(&id).and_then(|&place| self.tables.get(place));
            let schema = table.filter(|table| !table.failed).map(|table| &table.schema);
            return self.streamed.change(xid, id, schema, push).map(within);
        }
        let Some(open) = &mut self.open else { return Err(doubtful("a change outside of a transaction")) };
        let ordinal = open.ordinal;
        open.ordinal += 1;
        open.changes += 1;
        // A table of the publication that is not ours to take is passed over.
        let Some(&place) = self.index.get(&id) else { return Ok(Progress::Within) };
        let Some(table) = self.tables.get_mut(place) else { return Ok(Progress::Within) };
        if table.failed || open.txn.held_at(table.skip_until) {
            return Ok(Progress::Within);
        }
        let map = match &table.announced {
            Announced::Agrees => None,
            Announced::Mapped(map) => Some(map.as_slice()),
            Announced::Not => return Err(doubtful("a change of a table that was not announced")),
            Announced::Differs(what) => {
                let error = changed(&table.schema, what);
                self.fail(id, error);
                return Ok(Progress::Within);
            }
        };
        match push(&mut table.builder, ordinal, map) {
            Ok(()) => {
                if !table.dirty {
                    table.dirty = true;
                    self.dirty.push(place);
                }
                open.rows += 1;
            }
            Err(error) => {
                let error = error.into_error(&table.schema);
                self.fail(id, error);
            }
        }
        Ok(Progress::Within)
    }

    /// A logical message: a change of its transaction, or a transaction of its own. Our own are nothing.
    fn message(&mut self, message: &Logical<'_>, at: Lsn, size: usize) -> Result<Progress> {
        if message.prefix == HEARTBEAT_PREFIX {
            self.burst.heartbeats += 1;
            return Ok(Progress::Within);
        }
        let push = |builder: &mut BatchBuilder, ordinal: u64, _: Option<&[Option<usize>]>| {
            builder.at(at);
            builder.push_message(message.prefix, message.content, ordinal, size)
        };
        if message.transactional {
            return self.change(message.xid, TableId::MESSAGES, push);
        }
        // Its address is the end of its record; where that starts does not matter, as long as it is within.
        let (start, end) =
            (Lsn::new(message.lsn.raw().saturating_sub(1)), CommitLsn::end_of_commit(message.lsn));
        let commit_time = self.burst.server_time.unwrap_or_default();
        if !self.open(Txn { commit_start: start, xid: 0, commit_time, after: end })? {
            return Ok(Progress::Stopped);
        }
        self.change(None, TableId::MESSAGES, push)?;
        if let Some(open) = self.open.take() {
            self.ended(Open { bytes: size as u64, ..open }, end);
        }
        Ok(Progress::Boundary)
    }

    fn truncate(&mut self, truncate: &Truncate, at: Lsn, size: usize) -> Result<Progress> {
        for &id in &truncate.relations {
            self.change(truncate.xid, id, |builder, ordinal, _| {
                builder.at(at);
                builder.push_truncate(ordinal, size)
            })?;
        }
        Ok(Progress::Within)
    }

    /// The table stops; what it had not handed on is dropped.
    fn fail(&mut self, id: TableId, error: Error) {
        if let Some(table) = self.table(id) {
            table.failed = true;
            table.touched = false;
        }
        self.streamed.drop_table(id);
        self.discard(id);
        self.burst.table_errors.push((id, error));
    }

    /// A table's columns as the server will send them from now on; in a block, of that transaction.
    fn relation(&mut self, relation: &Relation<'_>, bytes: &[u8]) -> Progress {
        self.arrivals += 1;
        if self.streamed.in_block() {
            self.streamed.relation(self.arrivals, relation, bytes);
            return Progress::Within;
        }
        self.relations.insert(relation.id, (self.arrivals, false, bytes.to_vec()));
        let Some(table) = self.table(relation.id).filter(|table| !table.failed) else {
            return Progress::Within;
        };
        table.announced = Announced::of(&table.schema, relation);
        let agrees = matches!(table.announced, Announced::Agrees);
        self.burst.announced.push(relation.id);
        if agrees { Progress::Within } else { Progress::Announced }
    }

    /// The same for what a streamed transaction that has committed said of a table.
    fn announce(&mut self, id: TableId, arrival: u64, in_block: bool, bytes: Vec<u8>) -> Result<()> {
        if let (Some(table), Message::Relation(relation)) = (self.table(id), decode(&bytes, in_block)?) {
            table.announced = Announced::of(&table.schema, &relation);
        }
        self.relations.insert(id, (arrival, in_block, bytes));
        Ok(())
    }
}

/// Temporary: the connection is made again, and the server sends the transaction from its beginning.
fn joined_within(name: &TableName) -> Error {
    let what = format!("\"{name}\" joined within a large transaction, which is asked for again");
    Error::new(codes::PG006, what)
}

fn within((): ()) -> Progress {
    Progress::Within
}

pub(super) fn doubtful(what: &str) -> Error {
    Error::new(codes::PG024, format!("the replication stream: {what}"))
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
