//! Where we are in a source's log, and what that means.
//!
//! Layer 0. Pure: no clock, no IO, no module of ours above or beside it.

mod binlog;
mod checkpoint;
pub mod gtid;
pub mod landing;
mod lsn;

pub use binlog::{FIRST_OFFSET, FileNumberTooLarge, LogPoint, Marks};
pub use checkpoint::{Epoch, Interval, Lineage, ServerPoint, Witness};
pub use lsn::{CommitLsn, Lsn, ParseLsnError};
