//! What a new owner may believe of what the last one left.
//!
//! # Who dies where, and what is there then
//!
//! Tables `A` and `B`, the last cut at 100, a unit `(100, 200]` that touches both.
//!
//! | the writer dies | `A` holds | `B` holds | cut | acknowledged | the new owner |
//! |---|---|---|---|---|---|
//! | before any commit | 100 | 100 | 100 | ≤ 100 | replays `(100, 200]` into both |
//! | between the two tables' commits | 200 | 100 | 100 | ≤ 100 | `A` skips what it holds, `B` does not; no cut before 200 |
//! | after both, before the cut | 200 | 200 | 100 | ≤ 100 | both skip; a cut at 200 follows |
//! | after the cut, before the acknowledgement | 200 | 200 | 200 | ≤ 100 | the replay is at or below the cut: all of it is held, and its last transaction must be the witness |
//! | after the acknowledgement | 200 | 200 | 200 | 200 | nothing is replayed |
//! | with a put under way that lands later | 100, then? | 100 | 100 | ≤ 100 | the new epoch took that version: the late put is refused |
//! | inside a copy | none | 100 | 100 | ≤ 100 | `A` is copied again from its beginning, at a new consistent point |
//! | after a copy at 300, before a cut beyond it | 300 | 100 | 100 | ≤ 100 | `A` goes on from 300: it is not behind the cut that does not name it |
//! | after a table's stop, before its record | 100 | 200 | 100 | ≤ 100 | the cut has not moved: `A` goes on, and stops again |
//!
//! A writer that wakes up after a takeover finds another epoch in every table, or its put refused
//! because the epoch's commit took the version, or its control put refused: [`judge`] calls each of them
//! fenced.
//!
//! # The order
//!
//! Hold the source, raise the epoch in the control table, write it to every table, read the positions.
//! Then [`judge_table`] for each, [`check_source`], copies of what is unfinished, and the stream. While
//! [`ReplayGuard`] is not satisfied nothing may be committed. What it must see is what was under way
//! when the last owner died, so the simple way is to read the replay twice: once through the guard only,
//! dropping the rows; then connect again and stream.
//!
//! Both checks are made again after every loss of the connection: the server may have come back from a
//! backup. Five races belong to whoever calls them:
//!
//!  - *The slot is looked at when it is held.* Before that its position may still move: an acknowledgement of
//!    the last owner is on its way. A guard that begins at the older position waits for a witness that will
//!    not come, and takes our own history for a foreign one.
//!  - *A newer owner moves the slot, too.* A writer that was fenced without knowing finds the slot past its
//!    own cut. Before a [`LossReason`] is reported, the epoch in the control table is read: a newer one
//!    explains it, and the writer is fenced.
//!  - *A missing slot may have been made since.* The first start makes the slot. A writer that saw none,
//!    and then a record, looks at the slot again before it calls it lost.
//!  - *A table may join while the connection is being made.* It is part of what must be checked.
//!  - *A snapshot shows the server as it is then.* A connection that was checked, and that still lives once
//!    the snapshot is open, vouches for it; otherwise the copy could be of a restored backup, and be
//!    committed before the stream finds out.
//!
//! # What cannot be seen
//!
//! A backup from before a copy's consistent point, restored after that copy was read and before a cut
//! named the table: a consistent point is no transaction, so that there is nothing to meet again. And
//! a table that is ahead of the cut carries the end of its last transaction only: a foreign history in
//! which another transaction ends at exactly that address passes for ours. Both windows close with the
//! next cut. Nor can a table be told that was set back, and then carried on by somebody else beyond the
//! version that the cut names, if its position is the same again.
//!
//! [`judge`]: crate::position::landing::judge

use super::message::{CutEntry, TableProgress};
use crate::error::{Code, codes};
use crate::position::{CommitLsn, Lineage, Lsn, ServerPoint, Witness};
use crate::schema::TableName;
use std::collections::BTreeSet;

/// What a table said after our epoch was written to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFound {
    /// Name.
    pub name: TableName,
    /// Identity of the target table.
    pub target_id: String,
    /// Its version, with our epoch in it.
    pub version: i64,
    /// Its own position. `None`: the first copy has never finished.
    pub position: Option<CommitLsn>,
    /// The consistent point of its last copy, as the table remembers it.
    pub copied_at: Option<CommitLsn>,
    /// Its parts are at different moments up to here, if they are.
    pub whole_from: Option<CommitLsn>,
}

/// What the last cut says of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutFound<'a> {
    /// The cut's position.
    pub position: CommitLsn,
    /// The table in it, if the cut names it.
    pub entry: Option<&'a CutEntry>,
}

/// How a table starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableStart {
    /// It has no content yet: copy it.
    Copy,
    /// It goes on from here.
    Live(TableProgress),
    /// It must not be touched until it is copied again.
    Stop(TableMismatch),
}

/// Why a table may not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableMismatch {
    /// The cut names another target table, or content where there is none.
    Replaced,
    /// Its version or position is behind the cut's.
    SetBack,
    /// The cut is beyond its position and does not name it: changes in between are lost to it.
    LeftOut,
    /// It holds a position that the cut rules out.
    Contradicts,
}

impl TableMismatch {
    /// The error code.
    pub fn code(self) -> Code {
        codes::TG011
    }

    /// What was found, for people.
    pub fn text(self) -> &'static str {
        match self {
            TableMismatch::Replaced => "the target table is another one than the last cut names",
            TableMismatch::SetBack => "the target table is behind the last cut: it was set back",
            TableMismatch::LeftOut => "the last cut is beyond the target table's position and leaves it out",
            TableMismatch::Contradicts => "the target table holds a position that the last cut rules out",
        }
    }
}

/// Judges one table that is not recorded as stopped. `cut`: the last cut, if there was one.
///
/// The resume position is the later of the table's own and the cut's. Between its own position at the
/// cut and the cut it had no changes, so that a position of its own in there is a contradiction.
pub fn judge_table(found: &TableFound, cut: Option<CutFound<'_>>) -> TableStart {
    let entry = cut.and_then(|cut| cut.entry);
    let Some(position) = found.position else {
        return if entry.is_some() { TableStart::Stop(TableMismatch::Replaced) } else { TableStart::Copy };
    };
    if let (Some(cut), Some(entry)) = (cut, entry) {
        if entry.target_id != found.target_id {
            return TableStart::Stop(TableMismatch::Replaced);
        }
        // Our epoch is a version of its own, later than any that a cut of an older owner can name.
        if found.version <= entry.version || position < entry.position {
            return TableStart::Stop(TableMismatch::SetBack);
        }
        if position > entry.position && position <= cut.position {
            return TableStart::Stop(TableMismatch::Contradicts);
        }
    } else if cut.is_some_and(|cut| position < cut.position) {
        // A copy that was never made whole is worth as much as none.
        if found.whole_from.is_some() {
            return TableStart::Copy;
        }
        return TableStart::Stop(TableMismatch::LeftOut);
    }
    TableStart::Live(TableProgress {
        name: found.name.clone(),
        target_id: found.target_id.clone(),
        position,
        version: found.version,
        covered: entry.is_some(),
        from_copy: found.copied_at == Some(position),
        whole_from: found.whole_from.unwrap_or(position),
    })
}

/// Our slot, as the server shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotView {
    /// Its output plugin.
    pub plugin: String,
    /// Its database.
    pub database: String,
    /// Up to here it was acknowledged: a replay begins here.
    pub confirmed_flush: CommitLsn,
    /// `wal_status` is `lost`, or the slot was invalidated.
    pub wal_lost: bool,
}

/// The source's history cannot be joined to what we hold. Each stops the pipeline before a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LossReason {
    /// The slot is gone.
    SlotMissing,
    /// The slot is past what we hold, or is not the kind of slot that we made.
    SlotMoved {
        /// Where the slot is.
        confirmed_flush: CommitLsn,
        /// What we hold.
        held: CommitLsn,
    },
    /// The server has discarded WAL that the slot needs.
    WalDiscarded,
    /// Another system identifier.
    OtherSystem {
        /// Recorded.
        recorded: String,
        /// Found.
        found: String,
    },
    /// Another timeline.
    OtherTimeline {
        /// Recorded.
        recorded: u32,
        /// Found.
        found: u32,
    },
    /// Another database.
    OtherDatabase {
        /// Recorded.
        recorded: String,
        /// Found.
        found: String,
    },
    /// The server's log ends before what we hold.
    LogEndsBefore {
        /// Its end.
        flushed: Lsn,
        /// What we hold.
        held: CommitLsn,
    },
    /// A replayed transaction is not the one that we applied, or one is missing.
    ForeignHistory {
        /// Where the histories were seen to differ.
        at: CommitLsn,
    },
}

impl LossReason {
    /// The error code.
    pub fn code(&self) -> Code {
        match self {
            LossReason::SlotMissing => codes::PG040,
            LossReason::SlotMoved { .. } => codes::PG041,
            LossReason::OtherSystem { .. } | LossReason::OtherDatabase { .. } => codes::PG042,
            LossReason::OtherTimeline { .. } => codes::PG043,
            LossReason::LogEndsBefore { .. } => codes::PG044,
            LossReason::ForeignHistory { .. } => codes::PG045,
            LossReason::WalDiscarded => codes::PG046,
        }
    }
}

/// What must agree with the source. At start it is the last cut and what tables hold beyond it; later,
/// everything that was submitted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Everything up to here is held; [`CommitLsn::ZERO`] if nothing is.
    pub position: CommitLsn,
    /// The last transaction with changes at or before `position`.
    pub witness: Option<Witness>,
    /// Ends of transactions beyond `position` that some table holds.
    pub ahead: BTreeSet<CommitLsn>,
}

impl Held {
    /// The furthest position that anything of ours holds.
    pub fn furthest(&self) -> CommitLsn {
        self.ahead.last().map_or(self.position, |&last| last.max(self.position))
    }
}

/// What the source check compares.
#[derive(Clone, Copy, Debug)]
pub struct SourceCheck<'a> {
    /// The lineage that our positions belong to; `None` on the first start.
    pub recorded: Option<&'a Lineage>,
    /// The last cut, or zero.
    pub cut: CommitLsn,
    /// Own positions of the live tables.
    pub tables: &'a [CommitLsn],
    /// The server.
    pub server: &'a ServerPoint,
    /// Our slot; `None` when it does not exist.
    pub slot: Option<&'a SlotView>,
}

/// Compares slot and server with the record. On the first start (nothing recorded, no cut, no live
/// table) a missing slot is no loss.
///
/// # Errors
///
/// The first reason in the order: another system, database, timeline; log too short; slot missing, WAL
/// discarded, slot moved. The first of them explains the others.
pub fn check_source(check: SourceCheck<'_>) -> Result<(), LossReason> {
    if let Some(recorded) = check.recorded {
        check_lineage(recorded, &check.server.lineage)?;
    }
    let furthest = check.tables.iter().copied().max().unwrap_or(CommitLsn::ZERO).max(check.cut);
    if check.server.flushed < furthest.lsn() {
        return Err(LossReason::LogEndsBefore { flushed: check.server.flushed, held: furthest });
    }
    // Where the stream must begin at the latest. Without a cut, every table is at its own position.
    let earliest = check.tables.iter().copied().min();
    let held = if check.cut > CommitLsn::ZERO { Some(check.cut) } else { earliest };
    let Some(slot) = check.slot else {
        return if held.is_some() { Err(LossReason::SlotMissing) } else { Ok(()) };
    };
    if slot.wal_lost {
        return Err(LossReason::WalDiscarded);
    }
    if slot.database != check.server.lineage.database {
        let (recorded, found) = (check.server.lineage.database.clone(), slot.database.clone());
        return Err(LossReason::OtherDatabase { recorded, found });
    }
    match held {
        Some(held) if slot.confirmed_flush > held || slot.plugin != "pgoutput" => {
            Err(LossReason::SlotMoved { confirmed_flush: slot.confirmed_flush, held })
        }
        _ => Ok(()),
    }
}

/// Whether the server is the one that was recorded, promoted or not, and the database, too.
///
/// # Errors
/// Another system, another database.
pub fn check_system(recorded: &Lineage, found: &Lineage) -> Result<(), LossReason> {
    if recorded.system_id != found.system_id {
        let (recorded, found) = (recorded.system_id.clone(), found.system_id.clone());
        return Err(LossReason::OtherSystem { recorded, found });
    }
    if recorded.database != found.database {
        let (recorded, found) = (recorded.database.clone(), found.database.clone());
        return Err(LossReason::OtherDatabase { recorded, found });
    }
    Ok(())
}

fn check_lineage(recorded: &Lineage, found: &Lineage) -> Result<(), LossReason> {
    check_system(recorded, found)?;
    if recorded.timeline != found.timeline {
        return Err(LossReason::OtherTimeline { recorded: recorded.timeline, found: found.timeline });
    }
    Ok(())
}

/// Watches the replay after a connect: it must be the history that we applied.
///
/// Fed with every replayed transaction for which the server sent changes, of any table, and with idle
/// keepalives. PostgreSQL 15 and later do not send transactions without changes, 14 does: those are not
/// fed. The rules:
///
///  - the transaction that ends where the witness ends has its xid and commit time;
///  - if the replay begins before the witness, the witness comes;
///  - no transaction with changes ends after the witness and at or before the position that we hold;
///  - no commit record starts before that position and ends after it: positions are ends of records, and
///    what starts before one is skipped as held;
///  - where a table is ahead of that, a transaction ends at exactly the table's position. A table carries
///    no more than its position, so that this is as far as it can be checked.
#[derive(Clone, Debug)]
pub struct ReplayGuard {
    position: CommitLsn,
    witness: Option<Witness>,
    /// Positions that must be met, the witness's end among them.
    expected: BTreeSet<CommitLsn>,
    reached: CommitLsn,
    furthest: CommitLsn,
}

impl ReplayGuard {
    /// For a replay that begins at `confirmed_flush`.
    pub fn new(held: Held, confirmed_flush: CommitLsn) -> Self {
        let furthest = held.furthest();
        let mut expected = held.ahead;
        expected.extend(held.witness.map(|witness| witness.end));
        expected.retain(|&end| end > confirmed_flush);
        ReplayGuard {
            position: held.position,
            witness: held.witness,
            expected,
            reached: confirmed_flush,
            furthest,
        }
    }

    /// Whether everything that we hold has been met. Then the guard need not be fed any more.
    pub fn is_satisfied(&self) -> bool {
        self.expected.is_empty() && self.reached >= self.furthest
    }

    /// A transaction with changes, replayed. `commit_start` is the start of its commit record (`final_lsn`
    /// of pgoutput's Begin message).
    ///
    /// # Errors
    ///
    /// [`LossReason::ForeignHistory`].
    pub fn transaction(&mut self, commit_start: Lsn, replayed: Witness) -> Result<(), LossReason> {
        let at = replayed.end;
        let foreign = Err(LossReason::ForeignHistory { at });
        if self.expected.first().is_some_and(|&end| end < at) {
            return foreign;
        }
        if self.position.covers(commit_start) && at > self.position {
            return foreign;
        }
        match self.witness {
            Some(witness) if witness.end == at && witness != replayed => return foreign,
            Some(witness) if at > witness.end && at <= self.position => return foreign,
            None if at <= self.position => return foreign,
            Some(_) | None => {}
        }
        self.expected.remove(&at);
        self.reached = self.reached.max(at);
        Ok(())
    }

    /// An idle keepalive: everything that ends at or before `end` has been replayed.
    ///
    /// # Errors
    ///
    /// [`LossReason::ForeignHistory`] when something that we hold did not come.
    pub fn keepalive(&mut self, end: Lsn) -> Result<(), LossReason> {
        let end = CommitLsn::of_keepalive(end);
        match self.expected.first() {
            Some(&missing) if missing <= end => Err(LossReason::ForeignHistory { at: missing }),
            _ => {
                self.reached = self.reached.max(end);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
