//! Decisions of the replication: pure state machines, value in, value out. Time is an argument.
//!
//! ```text
//!  source ──Received, Keepalive──▶ ┌─────────────┐ ──CloseUnit──▶ tables ──TableCommitted──┐
//!         ◀─Pause/ResumeSource──── │             │ ──CommitCut──▶ control table            │
//!         ◀─Acknowledge─────────── │ Coordinator │ ◀─CutCommitted─┘                        │
//!  copies ──TableLive────────────▶ │             │ ──RecordStop─▶ control ──StopRecorded─┐ │
//!  clock  ──Tick─────────────────▶ └─────────────┘ ◀─────────────────────────────────────┴─┘
//! ```
//!
//! The driver (layer 4) performs [`Action`]s and reports their outcomes as [`Input`]s. It decides
//! nothing about progress. The same [`Coordinator`] runs under the seeded simulation in `tests/sim`.
//!
//! # The ledger in one picture
//!
//! ```text
//!   log ─────────────────────────────────────────────────────────────────────────────▶
//!        acknowledged ≤ cut ≤ boundary ≤ closed units … ≤ passed ≤ open unit ≤ received
//! ```
//!
//!  - *received*: the end of the last whole transaction that came in, or of an idle keepalive.
//!  - the *open unit* `(passed, received]`: staged, not yet submitted. Lost when the connection is lost.
//!  - *passed*: all up to here is submitted to the tables that it touches; it touches no other.
//!  - a *boundary*: the end of a unit (or idle stretch) such that everything up to it is durable.
//!  - the *cut*: the last boundary that the control table holds, with a version of each table.
//!  - *acknowledged*: what the source was told. Always a committed cut.
//!
//! # Which version a cut names, and which tables
//!
//! A cut at `X` names, for each table, the last version whose own position is at or before `X`. All
//! units close at the same positions for all tables, so between that version and `X` the table had no
//! changes, and the version *is* the table as of `X`. Two kinds of table do not follow that grid:
//!
//!  - A table that is **ahead because of a crash** (its unit landed, its neighbour's did not). Between
//!    the last cut and its own position no version of it is consistent with its neighbours. It was named
//!    by the last cut, and a cut that leaves out a table that an earlier one named would look like a
//!    stop. So no cut is made before `X` reaches it. The stretch is at most what was in flight.
//!  - A table that was **just copied**: its consistent point may lie far ahead of the stream. It is left
//!    out of cuts until `X` reaches its position. Nothing of it can be lost meanwhile: the slot is
//!    acknowledged only up to a cut below that position, so a restart replays all that follows it. This
//!    is why recovery accepts a table that the last cut does not name if its own position is not behind
//!    that cut ([`recovery::judge_table`]).
//!
//! While a copy of a table without content runs beside the stream ([`Input::CopyStarted`]) no cut goes
//! beyond what had been received when it began, because the copy's consistent point cannot be before that.
//! When the copied table turns out to be behind the stream, the stream starts again from the acknowledged
//! position ([`Action::RestartSource`]): the other tables skip what they hold, the new one does not.
//!
//! While a table that *has* content is copied again, there is no cut at all. Nothing on record says that
//! it is being copied (only an operator's request is on record); its content still carries its old
//! position. What a kill during the copy leaves, a table `t` at its own position 80, a change that calls
//! for a copy at 150:
//!
//! | the last cut | it names `t` | the new owner |
//! |---|---|---|
//! | at 100, and none since | yes | `t` goes on from 100, meets the change at 150, is copied again |
//! | at 120, begun before 150 was met, committed after | yes, it was begun with it | the same |
//! | at 140 or 160, begun while `t` was copied | no | [`recovery::TableMismatch::LeftOut`]: `t` would stop until an operator came |
//!
//! The last line must not be. [`Input::CopyStarted`] comes twice, when `t` leaves the stream and when its
//! copy begins some time later (and again, when the copy begins anew): the first is what counts, a
//! later one lets go of nothing. The hold ends when `t` is live again, stops (its record comes before the
//! next cut), or is gone.
//!
//! # Invariants
//!
//! [`InvariantId`]. They are asserted in release builds: a crash is better than a wrong position, and a
//! crash is recovered from.

mod coordinator;
mod invariant;
mod ledger;
mod message;
pub mod recovery;
pub mod retry;
#[cfg(test)]
mod tests;

pub use coordinator::Coordinator;
pub use invariant::InvariantId;
#[doc(hidden)]
pub use invariant::Mutant;
pub use message::{
    Action, CutEntry, HaltReason, Input, Limits, Millis, Resume, TableProgress, TableView, UnitId, View,
};
