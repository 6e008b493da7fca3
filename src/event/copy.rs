//! What a source hands the rows of a copy to, without knowing who takes them.

use super::ChangeBatch;
use crate::error::Result;

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
