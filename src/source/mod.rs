//! Where changes come from: the traits of the sources.
//!
//! A source is *held* by one process at a time: [`Source::stream`] makes the slot active in this session,
//! and that comes before anything is written anywhere. A stream decodes straight into Arrow builders, one
//! per followed table, and tells of whole transactions by [`Burst`]s; the builders' content is taken out
//! by the driver when it is to be staged.

use crate::error::{Code, Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, CopyPart, CopyWriter, KeyRange, Pick, SnapshotPoint, Txn};
use crate::position::{CommitLsn, Lineage, Lsn, Marks, ServerPoint, Witness};
use crate::schema::{TableId, TableName, TableSchema};
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub mod mysql;
pub mod pattern;
pub mod postgres;
mod tls;

/// A slot as the server shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotState {
    /// Output plugin.
    pub plugin: String,
    /// Database.
    pub database: String,
    /// Acknowledged up to here.
    pub confirmed_flush: CommitLsn,
    /// The server has discarded WAL that it needs.
    pub wal_lost: bool,
}

/// A table of the source that is to be replicated.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its schema now.
    pub schema: Arc<TableSchema>,
    /// Rows by the server's estimate; unknown when it has none.
    pub estimated_rows: Option<u64>,
}

/// A table that cannot be replicated, and why.
#[derive(Debug)]
pub struct RefusedTable {
    /// Identity.
    pub id: TableId,
    /// Name.
    pub name: TableName,
    /// Why.
    pub error: Error,
}

/// How a followed table stands in the source.
#[derive(Debug)]
pub enum Standing {
    /// It is stored in another form, or has other columns: as it is now.
    Changed(Arc<TableSchema>),
    /// What comes in the stream is not the whole of its changes: `PG022` or `PG025`.
    Lost(Error),
}

/// What the source says of itself.
#[derive(Debug)]
pub struct SourceView {
    /// Identity, and end of its log.
    pub point: ServerPoint,
    /// The server's version, for people.
    pub server: String,
    /// Our slot; `None` when there is none.
    pub slot: Option<SlotState>,
    /// Tables to replicate.
    pub tables: Vec<SourceTable>,
    /// Tables that match but cannot be replicated.
    pub refused: Vec<RefusedTable>,
}

/// What a pipeline costs its source now, and how long that can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceHealth {
    /// Bytes of log that are kept for us.
    pub retained: u64,
    /// Bytes that may still be written before log that we need is discarded; `None`: no limit is set.
    pub safe: Option<u64>,
    /// End of the log.
    pub end: Lsn,
    /// The slot, where the source has one.
    pub slot: Option<SlotHealth>,
}

/// A log that the server keeps for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogHealth {
    /// Its end.
    pub end: Lsn,
    /// How long the server keeps what the target does not hold yet, at least; `None`: for ever, or unknown.
    pub left: Option<Duration>,
}

/// A slot as the server shows it, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotHealth {
    /// Whether the log that it needs is safe.
    pub wal: WalStatus,
    /// Whether somebody streams from it.
    pub active: bool,
    /// Bytes of log that are not acknowledged.
    pub unacknowledged: u64,
}

/// `wal_status` of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalStatus {
    /// Within `max_wal_size`.
    Reserved,
    /// Beyond it, and kept.
    Extended,
    /// The next checkpoint may remove some of it.
    Unreserved,
    /// Some of it is gone.
    Lost,
}

impl WalStatus {
    /// All of them.
    pub const ALL: [WalStatus; 4] =
        [WalStatus::Reserved, WalStatus::Extended, WalStatus::Unreserved, WalStatus::Lost];

    /// As the server writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            WalStatus::Reserved => "reserved",
            WalStatus::Extended => "extended",
            WalStatus::Unreserved => "unreserved",
            WalStatus::Lost => "lost",
        }
    }
}

/// How much to take in before returning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Rows.
    pub rows: u64,
    /// Bytes received.
    pub bytes: u64,
}

/// What came in since the last call.
#[derive(Debug, Default)]
pub struct Burst {
    /// End of the last whole transaction, if one ended.
    pub through: Option<CommitLsn>,
    /// The last of them for which changes of any table came.
    pub witness: Option<Witness>,
    /// Whole transactions.
    pub transactions: u64,
    /// Rows of whole transactions put into builders.
    pub rows: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Tables with such rows.
    pub touched: Vec<TableId>,
    /// The server's position, when it came after everything else and no transaction is half received.
    pub keepalive: Option<Lsn>,
    /// End of the server's log, as it last said.
    pub server_end: Option<Lsn>,
    /// Tables whose columns the server announced, for the first time on this connection or again: rows that
    /// came after it may be taken once [`Source::check`] has found nothing.
    pub announced: Vec<TableId>,
    /// Tables that cannot go on: they are no longer followed, and what was in their builders is gone.
    pub stopped: Vec<(TableId, Error)>,
    /// Transactions with changes that the guard wants, in order, each with the start of its commit record.
    pub replayed: Vec<(Lsn, Witness)>,
    /// Bytes in memory of transactions that have not committed.
    pub open_bytes: usize,
    /// Bytes of such transactions that were put on disk since the last call.
    pub spilled_bytes: u64,
    /// The bound was reached: nothing more will come.
    pub is_end: bool,
}

/// What the target holds, for a source whose server keeps no place for us.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bookmark {
    /// Whose positions these are; `None` on the first start.
    pub lineage: Option<Lineage>,
    /// Everything up to here is held by every table that goes on; [`CommitLsn::ZERO`] when nothing is.
    pub position: CommitLsn,
    /// The same for other servers. Empty where the source should know: it streamed there itself.
    pub marks: Marks,
    /// Transactions with changes that are held: each must be met again, or stand where the log says.
    pub witnesses: Vec<Witness>,
    /// Ends of transactions beyond `position` that some table holds.
    pub ahead: BTreeSet<CommitLsn>,
    /// The position of each table that goes on, and the same for other servers.
    pub tables: Vec<(CommitLsn, Marks)>,
}

/// Where a stream begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The bookmark as the server would show it.
    pub slot: SlotState,
    /// Identity, and end of the log.
    pub point: ServerPoint,
}

/// Change events, decoded.
pub trait ChangeStream: Send {
    /// Takes in what has come, or waits for it. Returns at the latest when the budget is reached.
    /// Cancel-safe: a call that is dropped loses nothing.
    fn next(&mut self, budget: Budget) -> impl Future<Output = Result<Burst>> + Send;

    /// Follows a table from now on: transactions that `held` covers are skipped.
    ///
    /// # Errors
    /// `PG024` when what the server said of it cannot be read again.
    fn follow(&mut self, schema: Arc<TableSchema>, held: CommitLsn) -> Result<()>;

    /// Follows it no longer; what is in its builder is dropped.
    fn unfollow(&mut self, table: TableId);

    /// Takes rows out of the table's builder, a half-received transaction's too; to be called until there
    /// are none.
    ///
    /// # Errors
    /// `PG021` when a column's values cannot be represented: the table must stop.
    fn take(&mut self, table: TableId) -> Result<Option<ChangeBatch>>;

    /// The transaction that is half received, if one is.
    fn open_transaction(&self) -> Option<Txn>;

    /// Bytes of memory in all builders.
    fn buffered_bytes(&self) -> usize;

    /// Goes where the target's bookmark says, for a source whose server keeps no place for us; before anything is
    /// read. The source compares the server's history with what is held, by itself. `None`: the server keeps the
    /// place, and the caller compares.
    ///
    /// # Errors
    /// The losses of this source.
    fn seek(&mut self, _bookmark: Bookmark) -> impl Future<Output = Result<Option<Place>>> + Send {
        std::future::ready(Ok(None))
    }

    /// What a position that was streamed means to other servers.
    fn marks(&self, _position: CommitLsn) -> Marks {
        Marks::default()
    }

    /// [`ChangeStream::marks`] is asked for nothing from now on but these, and what is streamed after them.
    fn retain_marks(&self, _positions: &BTreeSet<CommitLsn>) {}

    /// Wants every transaction with changes up to this in [`Burst::replayed`]; `None`: no longer.
    fn guard(&mut self, until: Option<CommitLsn>);

    /// Takes no transaction whose commit record starts at or after this.
    fn stop_before(&mut self, bound: Lsn);

    /// Everything up to here is durable: the source may forget it.
    fn acknowledge(&self, position: CommitLsn);

    /// Closes the connection without more ado, so that the slot is free.
    fn hang_up(&mut self);

    /// Ends the stream: the last acknowledgement is delivered, within a bounded time.
    fn finish(self) -> impl Future<Output = Result<()>> + Send;
}

/// A stream, and what the server said once the slot was ours. Before that another process may still have
/// moved it.
pub struct HeldStream<T> {
    /// The stream, at the slot's confirmed position.
    pub stream: T,
    /// The slot.
    pub slot: SlotState,
    /// Identity, and end of the log.
    pub point: ServerPoint,
}

/// A snapshot that tables can be copied under.
pub trait CopySession: Send {
    /// Holds exactly the transactions up to here.
    fn position(&self) -> CommitLsn;

    /// The same for other servers.
    fn marks(&self) -> Marks {
        Marks::default()
    }

    /// What can be told of the snapshot.
    fn point(&self) -> SnapshotPoint {
        SnapshotPoint { position: self.position(), xid: None, time: None, is_first: true, is_last: true }
    }

    /// Copies a table: each writer takes a share. Rows copied are counted in `progress`.
    fn copy(
        &mut self,
        schema: Arc<TableSchema>,
        writers: Vec<Box<dyn CopyWriter>>,
        progress: Arc<AtomicU64>,
    ) -> impl Future<Output = Result<Vec<CopyPart>>> + Send;

    /// Cuts what is left of a table, from `from` on, into chunks of about so many rows, by the first column of its
    /// key: where each ends but the last. `None`: it can be copied only as a whole, or is not worth cutting.
    fn chunks(
        &mut self,
        _schema: &TableSchema,
        _from: Option<&ChunkKey>,
        _rows: u64,
    ) -> impl Future<Output = Result<Option<Vec<ChunkKey>>>> + Send {
        std::future::ready(Ok(None))
    }

    /// Copies a chunk of a table, as [`CopySession::copy`] copies the whole.
    fn copy_range(
        &mut self,
        _schema: Arc<TableSchema>,
        _range: KeyRange,
        _writers: Vec<Box<dyn CopyWriter>>,
        _progress: Arc<AtomicU64>,
    ) -> impl Future<Output = Result<Vec<CopyPart>>> + Send {
        std::future::ready(Err(Error::new(codes::RT001, "a chunk of a source that has none")))
    }

    /// Whether it can copy some rows of a table: [`CopySession::copy_some`].
    const CAN_PICK: bool = false;

    /// Copies some rows of a table, each once, all as they were at [`CopySession::position`].
    fn copy_some(
        &mut self,
        _schema: Arc<TableSchema>,
        _pick: Pick,
        _writers: Vec<Box<dyn CopyWriter>>,
        _progress: Arc<AtomicU64>,
    ) -> impl Future<Output = Result<Vec<CopyPart>>> + Send {
        std::future::ready(Err(Error::new(codes::RT001, "a choice of rows of a source that cannot choose")))
    }

    /// Ends the snapshot in order, so that what it held on the server is free when this returns.
    fn release(self) -> impl Future<Output = Result<()>> + Send;
}

/// Codes of a kind of source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceCodes {
    /// There is no such table.
    pub no_table: Code,
    /// The table is not there any more, or not in what is replicated.
    pub gone: Code,
    /// The table's columns changed.
    pub changed: Code,
    /// A value cannot be represented.
    pub value: Code,
    /// The log does not repeat a value that is needed.
    pub unknown: Code,
    /// The table cannot be replicated as a whole.
    pub partial: Code,
    /// Another process reads.
    pub busy: Code,
}

impl SourceCodes {
    /// That each of these tables can be replicated: it is `known`, or `refused` says why it cannot.
    ///
    /// # Errors
    /// The table's own, or that there is none of this name.
    pub fn check_names<'a>(
        self,
        names: &BTreeSet<TableName>,
        known: impl Fn(&TableName) -> bool,
        refused: impl Fn(&TableName) -> Option<&'a Error>,
    ) -> Result<()> {
        match names.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(refused(name).map_or_else(|| self.no_table_named(name), Error::retold)),
        }
    }

    fn no_table_named(self, name: &TableName) -> Error {
        Error::new(self.no_table, format!("the source has no table \"{name}\" to replicate"))
            .with_try("check the name, and tables.include in the configuration")
    }
}

impl SourceCodes {
    /// What a target found, which names PostgreSQL's codes, as a code of this source.
    pub fn own(&self, code: Code) -> Code {
        const FOUND: [Code; 3] = [codes::PG022, codes::PG021, codes::PG023];
        let own = [self.changed, self.value, self.unknown];
        FOUND.iter().position(|&found| found == code).and_then(|at| own.get(at)).copied().unwrap_or(code)
    }
}

/// A source.
pub trait Source: Send + Sync + 'static {
    /// Its stream.
    type Stream: ChangeStream + 'static;
    /// Its snapshots.
    type Copy: CopySession + 'static;
    /// Its codes, for what the runtime finds.
    const CODES: SourceCodes;
    /// A server of another identity never has the history that was read, so that its address is taken for a wrong one.
    const ONE_SYSTEM: bool = false;

    /// A table that it does not have, whose rows are what else its log tells: messages of applications
    /// ([`TableSchema::messages`]), or definitions ([`TableSchema::definitions`]).
    fn beside(&self) -> Option<TableSchema> {
        None
    }

    /// Logs in, checks what must hold, and looks around.
    fn inspect(&self) -> impl Future<Output = Result<SourceView>> + Send;

    /// Makes the publication, or adds the tables to it. Returns the tables that cannot be published any
    /// more, because the slot is there already.
    fn publish(
        &self,
        tables: &[SourceTable],
        slot_exists: bool,
    ) -> impl Future<Output = Result<Vec<RefusedTable>>> + Send;

    /// How these tables stand in the source now, each that does not stand as its schema says.
    fn check(
        &self,
        tables: &[Arc<TableSchema>],
    ) -> impl Future<Output = Result<Vec<(TableId, Standing)>>> + Send;

    /// Makes the slot; the snapshot is of its very beginning.
    fn create_slot(&self) -> impl Future<Output = Result<Self::Copy>> + Send;

    /// Drops the slot.
    fn drop_slot(&self) -> impl Future<Output = Result<()>> + Send;

    /// A snapshot of now, by a temporary slot.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Copy>> + Send;

    /// Holds the slot and starts at its confirmed position. Follows no table yet.
    fn stream(&self) -> impl Future<Output = Result<HeldStream<Self::Stream>>> + Send;

    /// End of the log: everything committed before this call ends at or before it.
    fn end_of_log(&self) -> impl Future<Output = Result<Lsn>> + Send;

    /// Where the server's history left a timeline that it was on before; `None`: it never was, or still is.
    fn timeline_end(&self, timeline: u32) -> impl Future<Output = Result<Option<Lsn>>> + Send {
        let _ = timeline;
        async { Ok(None) }
    }

    /// What we cost the source now; `None` where it keeps no log for us.
    ///
    /// # Errors
    /// `PG016` when the server would wait for us at each commit; others are those of asking.
    fn health(&self) -> impl Future<Output = Result<Option<SourceHealth>>> + Send {
        async { Ok(None) }
    }

    /// Bytes of log between two places; `None`: the source cannot tell.
    fn log_bytes(&self, from: Lsn, to: Lsn) -> Option<u64> {
        Some(to.bytes_since(from))
    }

    /// Looks at a log that the server keeps for a time, whoever needs it; `None` where it keeps it for us. `held` is what
    /// the target holds all up to, `age` how old the last transaction in it is.
    fn look_at_log(
        &self,
        held: Option<Lsn>,
        age: Option<Duration>,
    ) -> impl Future<Output = Result<Option<LogHealth>>> + Send {
        let _ = (held, age);
        async { Ok(None) }
    }

    /// Puts a small transaction of ours into the log, so that an idle slot moves.
    fn heartbeat(&self) -> impl Future<Output = Result<()>> + Send;

    /// Does what the operator wants done at each beat, idle or not.
    fn beat_action(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}
