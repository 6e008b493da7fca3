//! Where changes go: the trait of the targets.
//!
//! A sink holds data *and* position, and makes both visible together or not at all. The order of a
//! takeover is fixed (DESIGN §5): the caller holds the source, then [`Sink::take_over`] raises the
//! pipeline's epoch, then [`Sink::open_table`] writes the epoch to the table *and only then* reads its
//! position.

use crate::error::{Code, Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, Chunks, CopyPart, CopyWriter, KeyRange, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Interval, Lineage, Marks, Witness};
use crate::schema::change::{Change, ChangePolicy, told};
use crate::schema::{Past, TableId, TableName, TableSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

pub mod delta;
pub mod discard;
pub mod kafka;
pub mod stdout;
pub mod write;

/// Proof of a takeover: without one nothing can be committed.
#[derive(Clone, Debug)]
pub struct WriterLease {
    /// Our fencing number.
    pub epoch: Epoch,
    /// Our random owner id.
    pub owner: String,
}

/// One table as a cut names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutTable {
    /// The source's identity of the table.
    pub id: TableId,
    /// Name.
    pub name: TableName,
    /// Identity of the target table (Delta's `metaData.id`).
    pub target_id: String,
    /// The target table's version at the cut.
    pub version: i64,
    /// The table's own position at that version.
    pub position: CommitLsn,
}

/// One position and the version of each table at it: everything up to `position` is durable in every
/// table that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The position.
    pub position: CommitLsn,
    /// The same for other servers, where the source knows.
    pub marks: Marks,
    /// The last applied transaction at or before it, if any was ever applied.
    pub witness: Option<Witness>,
    /// The tables covered.
    pub tables: BTreeMap<TableId, CutTable>,
}

/// A table that stopped: out of every cut until a resync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoppedTable {
    /// The source's identity of the table.
    pub id: TableId,
    /// Name.
    pub name: TableName,
    /// Why.
    pub code: Code,
    /// What was found and what to do, for people.
    pub message: String,
    /// Where it stopped.
    pub position: CommitLsn,
}

/// A request that was not met, and why: known until another one of its table is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRequest {
    /// The request.
    pub id: String,
    /// Its table.
    pub table: TableName,
    /// Why.
    pub code: Code,
    /// What was found, for people.
    pub message: String,
}

/// What an operator asked for through the control table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Random id of the request.
    pub id: String,
    /// The table to copy again.
    pub table: TableName,
    /// To be put right where it is, while its stream goes on; `None`: a new copy takes its place.
    pub amend: Option<AmendChoice>,
}

/// What of a table is put right.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AmendChoice {
    /// Only rows for which this holds, as the source spells it; rows that the source has not stay then.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// Rows of the source that a table is compared with where it is, and put right by.
pub struct AmendPart {
    /// Whose request it is.
    pub request: String,
    /// The snapshot that they were read under. Everything up to here is in the table.
    pub at: CommitLsn,
    /// All rows of the source with these keys; what the table holds beside them is gone from the source. `None`: some
    /// rows, which say nothing of others.
    pub range: Option<KeyRange>,
    /// Where the ranges that follow end.
    pub ends: Vec<ChunkKey>,
    /// The rows.
    pub parts: Vec<CopyPart>,
}

/// What became of such a part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Amended {
    /// Rows that were as in the source.
    pub confirmed: u64,
    /// Rows that were not, or were not there.
    pub written: u64,
    /// Rows that the source has not.
    pub removed: u64,
    /// Rows that changed since the snapshot in a way that does not tell the whole row: they must be read again, all
    /// those with these values in the first key column.
    pub again: Vec<ChunkKey>,
    /// All of it must be read again, and why.
    pub void: Option<String>,
}

/// What the pipeline's own record says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PipelineRecord {
    /// The lineage that its positions belong to.
    pub lineage: Option<Lineage>,
    /// The last committed cut.
    pub cut: Option<Cut>,
    /// Stopped tables.
    pub stopped: BTreeMap<TableId, StoppedTable>,
    /// Requests that wait.
    pub requests: Vec<Request>,
    /// Requests that were refused last.
    pub refused: Vec<RefusedRequest>,
}

/// What a table said when it was opened, after our epoch was written to it.
#[derive(Clone, PartialEq, Debug)]
pub struct TableRecord {
    /// Identity of the target table.
    pub target_id: String,
    /// Its version, with our epoch in it.
    pub version: i64,
    /// Its own position. `None`: the first copy has never finished.
    pub position: Option<CommitLsn>,
    /// The same for other servers.
    pub marks: Marks,
    /// The position of its last copy.
    pub copied_at: Option<CommitLsn>,
    /// What older announcements of the source's table may have been.
    pub past: Past,
    /// Which parts of it are copied: an unfinished copy that can go on, or a finished one whose parts are at
    /// different moments.
    pub chunks: Chunks,
    /// Why it must be copied again: the source's table changed in a way that cannot be followed in place.
    pub outdated: Option<String>,
}

/// Why a table is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenFor {
    /// To go on from its position: it must still be the table of this source table, or follow its changes
    /// by this policy.
    Continue(ChangePolicy),
    /// To be copied anew: whatever it holds of ours is replaced.
    Replace,
}

/// What a table stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// A whole copy of the source: a change must fit its rows.
    Copied,
    /// Nothing (`--no-snapshot`): it holds what changed since, and no more can be said of its rows.
    Nothing,
}

/// What became of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommitOutcome {
    /// Visible and synced; the table's version now.
    Committed {
        /// The version that holds the unit.
        version: i64,
    },
    /// Another writer owns the table: stop at once.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
}

/// A target.
pub trait Sink: Send + Sync + 'static {
    /// Its tables.
    type Table: TableSink;

    /// The pipeline's record as it is, without taking over. `None`: there is none.
    fn peek(&self) -> impl Future<Output = Result<Option<PipelineRecord>>> + Send;

    /// Raises the pipeline's epoch by put-if-absent and reads its record.
    fn take_over(&self) -> impl Future<Output = Result<(WriterLease, PipelineRecord)>> + Send;

    /// Whether it has a place for what stands beside the source's tables ([`TableSchema::messages`],
    /// [`TableSchema::definitions`]), which then is one of its tables.
    fn takes_beside(&self) -> bool {
        false
    }

    /// Whether it is a log of events: what it holds need not become what a definition makes of the rows.
    fn is_log(&self) -> bool {
        false
    }

    /// Opens a table, making it when it is not there, writes the epoch to it, then reads its position.
    /// Commits newer than the cut that are not ours are examined.
    fn open_table(
        &self,
        lease: &WriterLease,
        schema: Arc<TableSchema>,
        purpose: OpenFor,
        cut: Option<&CutTable>,
    ) -> impl Future<Output = Result<(Self::Table, TableRecord)>> + Send;

    /// A unit that ends at `to` is closed: these tables commit their share of it next. For targets that make
    /// the shares of all tables visible at once; a table that has ended by then is not waited for.
    fn close_unit(&self, _to: CommitLsn, _tables: &[TableId]) {}

    /// Commits a cut. Every table that it names must hold all up to its position, synced.
    fn commit_cut(&self, lease: &WriterLease, cut: Cut)
    -> impl Future<Output = Result<CommitOutcome>> + Send;

    /// Records lineage and stopped tables, and takes answered requests away.
    fn record(
        &self,
        lease: &WriterLease,
        change: RecordChange,
    ) -> impl Future<Output = Result<CommitOutcome>> + Send;

    /// The newest epoch of the pipeline, without taking over. `None`: it has never been taken over.
    fn newest_epoch(&self) -> impl Future<Output = Result<Option<Epoch>>> + Send;

    /// What this sink has written so far.
    fn written(&self) -> Written;

    /// Requests of the operator that arrived since the last look.
    fn poll_requests(&self, lease: &WriterLease) -> impl Future<Output = Result<Vec<Request>>> + Send;
}

/// Files written by this process: data and what belongs to it, no log entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits that found their version taken.
    pub conflicts: u64,
    /// Files that upkeep wrote anew into others.
    pub rewritten: u64,
    /// Of the bytes: marks of rows that are gone.
    pub vector_bytes: u64,
    /// Of the bytes: rows that were there before, moved by upkeep or by a commit that rewrites files.
    pub moved_bytes: u64,
}

/// How a table stands for its readers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Data files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows among these that readers skip.
    pub deleted_rows: u64,
}

/// A change to the pipeline's record.
#[derive(Clone, Debug, Default)]
pub struct RecordChange {
    /// Store this lineage.
    pub lineage: Option<Lineage>,
    /// These tables stopped.
    pub stop: Vec<StoppedTable>,
    /// These tables are no longer stopped.
    pub resume: Vec<TableId>,
    /// These requests are answered.
    pub answered: Vec<String>,
    /// These requests are refused, and wait no more.
    pub refused: Vec<RefusedRequest>,
    /// The cuts belong to a history that is given up: every table is copied again.
    pub forget_cuts: bool,
}

/// One table of a target. Not shared: each has one committer.
pub trait TableSink: Send + 'static {
    /// Takes a slice of the open unit. Slices come in source order; nothing is visible before `commit`.
    fn stage(&mut self, batch: ChangeBatch) -> impl Future<Output = Result<()>> + Send;

    /// What the position of the next commit or copy means to other servers: it stands in the same commit.
    fn mark(&mut self, _marks: Marks) {}

    /// Makes everything staged visible together with the position `interval.to`.
    fn commit(&mut self, interval: Interval) -> impl Future<Output = Result<CommitOutcome>> + Send;

    /// The source's table has this schema now, which the target follows in place: with the next commit.
    /// Slices that were decoded before may still come.
    ///
    /// # Errors
    /// `PG022` when it cannot be followed in place; `RT001`.
    fn evolve(&mut self, schema: Arc<TableSchema>) -> Result<()>;

    /// Forgets everything staged.
    fn discard_staged(&mut self);

    /// A writer for a copy of the whole table, as it was at `point`; several may write at once.
    fn copy_writer(&self, point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>>;

    /// Replaces the table's content by the finished copies in one commit, at `position` (the snapshot's
    /// consistent point). Readers see the old content before it and the new after it.
    fn commit_copy(
        &mut self,
        position: CommitLsn,
        parts: Vec<CopyPart>,
        base: Base,
    ) -> impl Future<Output = Result<CommitOutcome>> + Send;

    /// Whether it can take the copy chunk by chunk, each with a commit of its own.
    fn takes_chunks(&self) -> bool {
        false
    }

    /// Whether it follows the rename of a column in place ([`TableSink::evolve`]).
    fn renames_in_place(&self) -> bool {
        false
    }

    /// Adds a finished chunk, in one commit with what is copied now, this chunk included. The first one of a copy
    /// replaces what the table held. The table is not live before the last one.
    fn commit_chunk(
        &mut self,
        _chunks: Chunks,
        _is_first: bool,
        _parts: Vec<CopyPart>,
    ) -> impl Future<Output = Result<CommitOutcome>> + Send {
        std::future::ready(Err(Error::new(codes::RT001, "a chunk for a target that takes none")))
    }

    /// Begins to put rows right for a request; from now on it is noted which keys are staged. Returned is where an
    /// earlier attempt for the same request ended; `None`: at the beginning.
    ///
    /// # Errors
    /// `TG029`: this table cannot be put right where it is.
    fn amend_begin(&mut self, _request: &str) -> Result<Option<ChunkKey>> {
        Err(Error::new(codes::TG029, "this target's tables cannot be put right where they are"))
    }

    /// A new snapshot is about to be taken: keys that were staged before count no more.
    fn amend_watch(&mut self) {}

    /// Puts rows right in one commit that moves no position. Nothing of a unit is staged.
    fn amend(&mut self, _part: AmendPart) -> impl Future<Output = Result<(Amended, CommitOutcome)>> + Send {
        std::future::ready(Err(Error::new(codes::RT001, "rows to put right, for a target that does not")))
    }

    /// Keys that must be read once more, under a new snapshot, although no part is left.
    fn amend_left(&mut self) -> Vec<ChunkKey> {
        Vec::new()
    }

    /// No more is put right.
    ///
    /// # Errors
    /// `RT001`.
    fn amend_end(&mut self) -> Result<()> {
        Ok(())
    }

    /// How it stands after the last commit; `None` where that means nothing.
    fn standing(&self) -> Option<Standing> {
        None
    }

    /// Resolves when work beside the commits wants the table: then [`TableSink::upkeep`] is called. Never,
    /// for a target that has none. Dropping the future loses nothing.
    fn upkeep_ready(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// Ends the work beside the commits; what it had not finished is void.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Makes visible what was done beside the commits; no row changes. The epoch of a newer owner, if one
    /// is met.
    fn upkeep(&mut self) -> impl Future<Output = Result<Option<Epoch>>> + Send {
        std::future::ready(Ok(None))
    }
}

/// The table, or its publication, is another entry of the source's catalogue than the one that its rows came by.
pub fn left_out(name: &TableName) -> Error {
    let what = "it left the publication and came back, its row filter or column list was changed, or the publication was made or altered again: changes in between may not be in the stream";
    table_error(name, codes::PG025, what).with_try(format!("strandline resync \"{name}\" --yes"))
}

/// The operator's policy is to stop at these changes: `PG022`.
pub fn change_refused(name: &TableName, changes: &[Change]) -> Error {
    table_error(name, codes::PG022, told(changes))
        .with_try(format!("strandline resync \"{name}\" --yes   (or allow it: sink.schema_changes)"))
}

/// Shorthand for a table error with its name in front.
pub fn table_error(name: &TableName, code: Code, what: impl Into<String>) -> Error {
    Error::new(code, format!("table \"{name}\": {}", what.into()))
}
