//! What is stored with the data, and whose history it belongs to.

use super::{CommitLsn, Lsn};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The writer's fencing number: rises by one with each takeover of a pipeline. A commit with a lower
/// epoch than the table's never becomes visible (CK-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The epoch of the next owner.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The identity within which positions may be compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lineage {
    /// `IDENTIFY_SYSTEM`'s system identifier, as text: it does not fit every reader's integer.
    pub system_id: String,
    /// The server's timeline.
    pub timeline: u32,
    /// The database: slots and relation ids belong to one.
    pub database: String,
}

/// The last applied source transaction. A restored backup keeps system identifier *and* timeline; only
/// meeting this transaction again, unchanged, shows that the history is the one that we applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Witness {
    /// End of its commit record.
    pub end: CommitLsn,
    /// Its transaction id.
    pub xid: u32,
    /// Its commit time, microseconds since 2000-01-01 UTC, as on the wire.
    pub commit_time: i64,
}

/// A half-open stretch of the source's log, `(from, to]`: what one commit unit covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval {
    /// Held before the unit.
    pub from: CommitLsn,
    /// Held after it.
    pub to: CommitLsn,
}

/// A server's answer to "where are you": identity and end of its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerPoint {
    /// Identity.
    pub lineage: Lineage,
    /// End of the server's flushed log.
    pub flushed: Lsn,
}
