//! What goes into the coordinator and what comes out.

use crate::error::Code;
use crate::position::{CommitLsn, Epoch, Interval, Lsn, Witness};
use crate::schema::{TableId, TableName};
use std::collections::BTreeMap;

/// Monotonic time in milliseconds since any fixed moment of this run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// `self` plus a span.
    pub fn plus(self, span: Millis) -> Millis {
        Millis(self.0.saturating_add(span.0))
    }
}

/// The name of a commit unit within one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitId(pub u64);

/// How much may be gathered and be under way (BD-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A unit is closed when it holds so many rows …
    pub unit_rows: u64,
    /// … or so many bytes …
    pub unit_bytes: u64,
    /// … or when its first row has waited so long.
    pub unit_age: Millis,
    /// Units closed and not yet durable in every table. At least one.
    pub units_in_flight: usize,
    /// A unit that is not full waits until none is under way: the target writes one after the other, and what
    /// comes meanwhile goes with it.
    pub one_by_one: bool,
    /// While no data comes, a cut is made at most so often.
    pub idle_cut_every: Millis,
}

/// Where a live table stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableProgress {
    /// Name.
    pub name: TableName,
    /// Identity of the target table.
    pub target_id: String,
    /// The position that the table itself carries: `from` of its next unit. Not the cut's.
    pub position: CommitLsn,
    /// The target table's version now.
    pub version: i64,
    /// Whether the last committed cut names it. `false` after a copy: then it is not behind the cut.
    pub covered: bool,
    /// Whether `position` is the consistent point of a copy, not the end of a commit.
    pub from_copy: bool,
    /// Its parts are at different moments up to here: no cut lies before it. Not after `position`, for most.
    pub whole_from: CommitLsn,
}

/// What was found when the pipeline was taken over.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resume {
    /// The last committed cut; [`CommitLsn::ZERO`] if there is none.
    pub cut: CommitLsn,
    /// Its witness.
    pub witness: Option<Witness>,
    /// The tables that may go on, as [`crate::replication::recovery::judge_table`] found them.
    pub tables: BTreeMap<TableId, TableProgress>,
}

/// One table as a cut names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutEntry {
    /// Name.
    pub name: TableName,
    /// Identity of the target table.
    pub target_id: String,
    /// The version that holds exactly what the source held at the cut's position.
    pub version: i64,
    /// The position that the table itself carries at that version.
    pub position: CommitLsn,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// Whole transactions came in since the last call; called per burst, not per row. Everything staged
    /// that is whole must be reported before any other input is handed in: a unit that is closed holds
    /// all that was reported, and nothing of a transaction that has not ended.
    Received {
        /// End of the last whole transaction.
        through: CommitLsn,
        /// The last one for which the server sent changes of any table, ours or not, if there was one.
        witness: Option<Witness>,
        /// Live tables for which rows were staged.
        touched: Vec<TableId>,
        /// Rows staged since the last call.
        rows: u64,
        /// Bytes of these.
        bytes: u64,
        /// Transactions since the last call.
        transactions: u64,
    },
    /// The server's position. The caller vouches that no transaction is half received: everything that
    /// committed before `end` has been reported.
    Keepalive {
        /// End of the log that the server has looked through.
        end: Lsn,
    },
    /// A table's share of a unit is durable.
    TableCommitted {
        /// The unit.
        unit: UnitId,
        /// The table.
        table: TableId,
        /// The version that holds it.
        version: i64,
    },
    /// A table cannot go on: a decode error or an error of its target. It leaves open and closed units,
    /// the minimum and the cuts; the driver discards what is staged for it. A decode error is handed in
    /// *before* an [`Input::Received`] that covers the transaction in question: otherwise a cut could pass
    /// that transaction and still name the table. It closes no unit, so that whole transactions of the same
    /// burst may be reported after it.
    TableStopped {
        /// The table; need not be live.
        table: TableId,
        /// Why.
        code: Code,
        /// What was found.
        message: String,
    },
    /// A table is no longer there at all, and another has its name: it leaves everything, without a record.
    TableGone {
        /// The table.
        table: TableId,
    },
    /// The record of a stop is durable. No cut is begun before that.
    StopRecorded {
        /// The table.
        table: TableId,
    },
    /// A cut is durable.
    CutCommitted {
        /// Its position.
        position: CommitLsn,
    },
    /// A copy beside the running stream is about to begin: handed in *before* its slot is made. The
    /// table, if live, is so no longer. Not needed when the stream stands still during the copy; not
    /// handed in once [`View::stopping`] is set, because it would hold back the last cut. Said again for
    /// the same copy it lets go of nothing.
    CopyStarted {
        /// The table.
        table: TableId,
    },
    /// A copy is committed, and the table follows the stream from here. Handed in only while the decoder
    /// holds no half-received transaction. Its position is not before the last cut.
    TableLive {
        /// The table.
        table: TableId,
        /// Where it stands; `position` is the copy's consistent point.
        progress: TableProgress,
    },
    /// The connection is gone. Everything received and not submitted is forgotten; the driver discards
    /// what is staged.
    SourceLost,
    /// The stream begins, at start as well as after a loss, and replays from `from`. It is not paused.
    /// The connection was checked against what is held *now*: a table that went live while it was being
    /// made is part of that.
    SourceResumed {
        /// The slot's confirmed position.
        from: CommitLsn,
    },
    /// Close the open unit as soon as one may be under way: a transaction too large to be kept is coming
    /// in, and its rows must not meet those of others in a unit before it has ended.
    Seal,
    /// Finish once a cut covers this and names every live table.
    Target(Lsn),
    /// Time has passed.
    Tick,
    /// Submit what is received, make it durable, cut, acknowledge, finish.
    StopRequested,
    /// A commit met a newer owner's epoch.
    Fenced {
        /// The newer epoch.
        by: Epoch,
    },
}

/// What to do. Performed in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Seal what is staged and let each table commit its share. Tables commit their units in the order
    /// of these actions.
    CloseUnit {
        /// The unit's name in [`Input::TableCommitted`].
        unit: UnitId,
        /// End of the last transaction in it.
        to: CommitLsn,
        /// The tables that it touches. `from` is the position that the table carries before it.
        tables: Vec<(TableId, Interval)>,
    },
    /// Commit a cut. There is one at a time.
    CommitCut {
        /// Its position.
        position: CommitLsn,
        /// The last transaction with changes at or before it.
        witness: Option<Witness>,
        /// The tables that it names.
        tables: BTreeMap<TableId, CutEntry>,
    },
    /// Record durably that a table stopped; answered by [`Input::StopRecorded`].
    RecordStop {
        /// The table.
        table: TableId,
        /// Why.
        code: Code,
        /// What was found.
        message: String,
        /// Everything up to here is durable in it.
        position: CommitLsn,
    },
    /// Tell the source that it may forget what is before this.
    Acknowledge(CommitLsn),
    /// Stop reading from the source.
    PauseSource,
    /// Read again.
    ResumeSource,
    /// Discard what is staged, drop the connection, connect again; then [`Input::SourceResumed`]. From
    /// this action on the source counts as lost.
    RestartSource,
    /// Hand in [`Input::Tick`] at this time. Replaces an earlier one.
    WakeAt(Millis),
    /// Everything is done that was asked for. Nothing follows.
    Finish,
    /// Stop at once; commit nothing more. Nothing follows.
    Halt(HaltReason),
}

/// Why a pipeline must stop at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HaltReason {
    /// Another writer has taken over.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
}

/// Progress in numbers, for status and metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// End of the last whole transaction or idle keepalive received.
    pub received: CommitLsn,
    /// Everything up to here is submitted.
    pub submitted: CommitLsn,
    /// Everything up to here is durable in every live table.
    pub durable: CommitLsn,
    /// The last committed cut.
    pub cut: CommitLsn,
    /// The cut that is being committed.
    pub cut_in_flight: Option<CommitLsn>,
    /// What the source was told, or confirmed itself when the connection began.
    pub acknowledged: CommitLsn,
    /// The last transaction with changes that the committed cut covers.
    pub witness: Option<Witness>,
    /// Units closed and not yet durable in every table.
    pub units_in_flight: usize,
    /// Rows in the open unit.
    pub open_rows: u64,
    /// Bytes in the open unit.
    pub open_bytes: u64,
    /// Transactions in the open unit.
    pub open_transactions: u64,
    /// Tables that follow the stream.
    pub live_tables: usize,
    /// Stops whose record is not durable yet.
    pub stops_unrecorded: usize,
    /// Whether the source is paused, because too much is under way or for the end.
    pub paused: bool,
    /// A stop was asked for, or the target is received: what is under way is being finished.
    pub stopping: bool,
}

/// One live table's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableView {
    /// Everything up to here is submitted to it.
    pub submitted: CommitLsn,
    /// Everything up to here is durable in it.
    pub durable: CommitLsn,
    /// The position that it carries in its newest durable version.
    pub own: CommitLsn,
    /// That version.
    pub version: i64,
    /// Whether the last committed cut names it.
    pub covered: bool,
}
