//! From messages of the stream to rows in per-table builders, and to what a caller must know beside them.
//!
//! Pure: no IO, no clock. One table's trouble (a value, a change of its columns) stops that table and lets the
//! others go on; anything that makes the stream itself doubtful is an error of the whole.
//!
//! Positions: a transaction is known by the *start* of its commit record from Begin on, and ends a burst by
//! its *end*. Event positions are not looked at: they repeat and go backwards.

use super::fault::table_error;
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Txn};
use crate::pgoutput::{
    BatchBuilder, Begin, Commit, Message, Policies, Relation, RelationColumn, ReplicaIdentity,
    ReplicationFrame, Truncate, ValueError, decode,
};
use crate::position::{CommitLsn, Lsn, Witness};
use crate::schema::{Column, TableId, TableSchema};
use hashbrown::HashMap;
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
    builder: BatchBuilder,
    skip_until: CommitLsn,
    announced: Announced,
    /// In `Assembler::dirty`: it has rows of the open transaction.
    dirty: bool,
    /// In the next burst's `touched`.
    touched: bool,
    failed: bool,
}

/// What the last Relation message on this connection said of a table.
enum Announced {
    /// None came.
    Not,
    /// It is what rows are decoded with.
    Agrees,
    /// Rows have other columns, which is known and followed: for each of ours, its place in them.
    Mapped(Vec<Option<usize>>),
    /// It differs, and how. An error only when a row comes that is to be taken: transactions that the table
    /// holds already may be of an older form.
    Differs(String),
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
    /// The last Relation message of each relation, as received: the server does not repeat it for a table
    /// that is added later.
    relations: HashMap<TableId, Vec<u8>>,
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
            dirty: Vec::new(),
            open: None,
            last_end: CommitLsn::ZERO,
            stop_before,
            guard,
            burst: Burst::default(),
        }
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
    /// former registration are dropped.
    ///
    /// Errors: PG024 when what was announced of it cannot be read again.
    pub fn add(&mut self, schema: Arc<TableSchema>, skip_until: CommitLsn) -> Result<()> {
        let id = schema.id;
        let announced = match self.relations.get(&id).map(|bytes| decode(bytes, false)).transpose()? {
            Some(Message::Relation(relation)) => Announced::of(&schema, &relation),
            _ => Announced::Not,
        };
        let builder = BatchBuilder::new(Arc::clone(&schema), self.policies);
        let mut table =
            Table { builder, skip_until, announced, dirty: false, touched: false, failed: false, schema };
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
        }
    }

    /// The rows of a table so far, also within a transaction.
    ///
    /// Errors: PG021 for text that is not UTF-8; the table has stopped then.
    pub fn take(&mut self, id: TableId) -> Result<Option<ChangeBatch>> {
        let open = self.open.as_ref().map(|open| open.txn);
        let Some(table) = self.table(id) else { return Ok(None) };
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
        self.index.get(&id).and_then(|&i| self.tables.get(i)).map_or(0, |t| t.builder.bytes())
    }

    /// Bytes of memory that all rows take.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|t| t.builder.bytes()).sum()
    }

    /// Tables with rows.
    pub fn tables_with_rows(&self) -> Vec<TableId> {
        self.tables.iter().filter(|t| !t.builder.is_empty()).map(|t| t.schema.id).collect()
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
                if self.open.is_none() {
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
                self.on_message(data.data)
            }
        }
    }

    fn on_message(&mut self, bytes: &[u8]) -> Result<Progress> {
        let size = bytes.len();
        if let Some(open) = &mut self.open {
            open.bytes += size as u64;
        }
        match decode(bytes, false)? {
            Message::Insert(m) => self.change(m.relation, |b, n, map| match map {
                None => b.push_insert(&m.new, n, size),
                Some(map) => b.push_insert(&m.new.arranged(map, &mut Vec::new()), n, size),
            }),
            Message::Update(m) => self.change(m.relation, |b, n, map| match map {
                None => b.push_update(m.old.as_ref(), &m.new, n, size),
                Some(map) => {
                    let (mut new, mut old) = (Vec::new(), Vec::new());
                    let old = m.old.as_ref().map(|row| row.arranged(map, &mut old));
                    b.push_update(old.as_ref(), &m.new.arranged(map, &mut new), n, size)
                }
            }),
            Message::Delete(m) => self.change(m.relation, |b, n, map| match map {
                None => b.push_delete(&m.old, n, size),
                Some(map) => b.push_delete(&m.old.arranged(map, &mut Vec::new()), n, size),
            }),
            Message::Begin(begin) => self.begin(begin),
            Message::Commit(commit) => self.commit(commit),
            Message::Relation(relation) => Ok(self.relation(&relation, bytes)),
            Message::Truncate(truncate) => self.truncate(&truncate, size),
            Message::Logical(message) => {
                self.burst.heartbeats += u64::from(message.prefix == HEARTBEAT_PREFIX);
                Ok(Progress::Within)
            }
            // The name of a type, and of the server that a transaction came from: of no use to us.
            Message::Type(_) | Message::Origin(_) => Ok(Progress::Within),
            Message::StreamStart(_)
            | Message::StreamStop
            | Message::StreamCommit(_)
            | Message::StreamAbort(_)
            | Message::BeginPrepare(_)
            | Message::Prepare(_)
            | Message::CommitPrepared(_)
            | Message::RollbackPrepared(_)
            | Message::StreamPrepare(_) => Err(doubtful("a message of a protocol that was not asked for")),
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<Progress> {
        if self.open.is_some() {
            return Err(doubtful("a transaction begins within another"));
        }
        if self.last_end.lsn() > begin.final_lsn {
            return Err(doubtful("transactions are not in the order of their commits"));
        }
        if self.stop_before.is_some_and(|bound| begin.final_lsn >= bound) {
            self.burst.stopped = true;
            return Ok(Progress::Stopped);
        }
        let txn = Txn { commit_start: begin.final_lsn, xid: begin.xid, commit_time: begin.commit_time };
        self.open = Some(Open { txn, ordinal: 0, changes: 0, rows: 0, bytes: 0 });
        self.burst.keepalive = None;
        Ok(Progress::Within)
    }

    fn commit(&mut self, commit: Commit) -> Result<Progress> {
        let Some(open) = self.open.take() else { return Err(doubtful("a commit without a beginning")) };
        if commit.commit_lsn != open.txn.commit_start || commit.end.lsn() <= commit.commit_lsn {
            return Err(doubtful("a commit that does not belong to its beginning"));
        }
        for place in self.dirty.drain(..) {
            if let Some(table) = self.tables.get_mut(place) {
                table.dirty = false;
                table.touched = !table.failed;
                table.builder.end_transaction(open.txn);
            }
        }
        self.last_end = commit.end;
        self.burst.through = Some(commit.end);
        self.burst.transactions += 1;
        self.burst.rows += open.rows;
        self.burst.bytes += open.bytes;
        if open.changes > 0 {
            let witness = open.txn.witness(commit.end);
            self.burst.last_nonempty = Some(witness);
            if self.guard.is_some_and(|guard| open.txn.held_at(guard)) {
                self.burst.replayed.push((open.txn.commit_start, witness));
            }
        }
        Ok(Progress::Boundary)
    }

    /// One change of one table. Every change counts for the ordinal, taken or not, so that it does not
    /// depend on which tables are replicated.
    #[inline]
    fn change(
        &mut self,
        id: TableId,
        push: impl FnOnce(&mut BatchBuilder, u64, Option<&[Option<usize>]>) -> Result<(), ValueError>,
    ) -> Result<Progress> {
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
                let name = table.schema.name.clone();
                let error = table_error(&name, codes::PG022, what)
                    .with_try(format!("strandline resync {name} --yes"));
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

    fn truncate(&mut self, truncate: &Truncate, size: usize) -> Result<Progress> {
        for &id in &truncate.relations {
            self.change(id, |builder, ordinal, _| builder.push_truncate(ordinal, size))?;
        }
        Ok(Progress::Within)
    }

    /// The table stops; what it had not handed on is dropped.
    fn fail(&mut self, id: TableId, error: Error) {
        if let Some(table) = self.table(id) {
            table.failed = true;
            table.touched = false;
        }
        self.discard(id);
        self.burst.table_errors.push((id, error));
    }

    /// A table's columns as the server will send them from now on.
    fn relation(&mut self, relation: &Relation<'_>, bytes: &[u8]) -> Progress {
        self.relations.insert(relation.id, bytes.to_vec());
        let Some(table) = self.table(relation.id).filter(|table| !table.failed) else {
            return Progress::Within;
        };
        table.announced = Announced::of(&table.schema, relation);
        let agrees = matches!(table.announced, Announced::Agrees);
        self.burst.announced.push(relation.id);
        if agrees { Progress::Within } else { Progress::Announced }
    }
}

impl Announced {
    fn of(schema: &TableSchema, relation: &Relation<'_>) -> Self {
        if let Some(what) = other_table(schema, relation) {
            return Announced::Differs(what);
        }
        let mut map = vec![None; schema.columns.len()];
        for (place, column) in relation.columns.iter().enumerate() {
            let Some(at) = schema.columns.iter().position(|own| own.name == column.name) else {
                if schema.past.dropped.iter().any(|dropped| dropped == column.name) {
                    continue;
                }
                return Announced::Differs(format!("column \"{}\" is not known", column.name));
            };
            let Some(own) = schema.columns.get(at) else { continue };
            if !same_values(own, column) {
                let what = format!("column \"{}\" has another type than {}", own.name, own.type_name);
                return Announced::Differs(what);
            }
            if relation.identity != ReplicaIdentity::Full && schema.key.contains(&at) != column.key {
                return Announced::Differs(format!("column \"{}\" joined or left the key", own.name));
            }
            if let Some(slot) = map.get_mut(at) {
                *slot = Some(place);
            }
        }
        for (own, place) in schema.columns.iter().zip(&map) {
            if place.is_none() && !schema.past.added.contains(&own.name) {
                return Announced::Differs(format!("column \"{}\" is not there", own.name));
            }
        }
        let is_identity = map.len() == relation.columns.len()
            && map.iter().enumerate().all(|(at, place)| *place == Some(at));
        if is_identity { Announced::Agrees } else { Announced::Mapped(map) }
    }
}

/// Whether a value announced like this is one of the column. Texts of any length are.
fn same_values(own: &Column, announced: &RelationColumn<'_>) -> bool {
    const TEXTS: [u32; 2] = [25, 1043];
    (own.type_oid, own.type_modifier) == (announced.type_oid, announced.type_modifier)
        || (TEXTS.contains(&own.type_oid) && TEXTS.contains(&announced.type_oid))
}

/// What speaks against its being the table that is followed, columns apart; for people.
fn other_table(schema: &TableSchema, relation: &Relation<'_>) -> Option<String> {
    let namespace = if relation.namespace.is_empty() { "pg_catalog" } else { relation.namespace };
    if (namespace, relation.name) != (schema.name.schema.as_str(), schema.name.table.as_str()) {
        return Some(format!("it was renamed to \"{namespace}.{}\"", relation.name));
    }
    // Whole old rows serve where keys do; the reverse is not so.
    (schema.full_before && relation.identity != ReplicaIdentity::Full)
        .then(|| "its replica identity is not FULL any more".to_owned())
}

fn doubtful(what: &str) -> Error {
    Error::new(codes::PG024, format!("the replication stream: {what}"))
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
