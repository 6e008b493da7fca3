//! What a source hands the rows of a copy to, without knowing who takes them.

use super::ChangeBatch;
use crate::error::Result;
use crate::position::CommitLsn;

/// What the rows of a copy are a picture of, and which place the copy has in its round: the tables that are
/// copied one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotPoint {
    /// The snapshot holds exactly the transactions up to here.
    pub position: CommitLsn,
    /// The newest transaction id when it was taken, if the source has such numbers.
    pub xid: Option<u64>,
    /// When it was taken, by the source's clock, microseconds since 2000-01-01 UTC.
    pub time: Option<i64>,
    /// The first table of its round.
    pub is_first: bool,
    /// The last table of its round.
    pub is_last: bool,
}

/// Writes one worker's share of a copy. Blocking: call it from a blocking thread.
pub trait CopyWriter: Send {
    /// Adds rows.
    ///
    /// # Errors
    /// Those of the target.
    fn write(&mut self, batch: ChangeBatch) -> Result<()>;
    /// Finishes; nothing is visible yet.
    ///
    /// # Errors
    /// Those of the target.
    fn finish(self: Box<Self>) -> Result<CopyPart>;
}

/// A finished share of a copy: opaque to everyone but the target that made it.
pub struct CopyPart(pub Box<dyn std::any::Any + Send>);
