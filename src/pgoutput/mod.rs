//! Bytes from PostgreSQL straight into Arrow: pgoutput (protocol 1 to 4) and `COPY … (FORMAT binary)`.
//!
//! Layer 1. Pure: never panics on any input, allocates nothing by a length that it has not checked, and no
//! error carries a row's content.
//!
//! ```text
//! CopyData frame ── ReplicationFrame ──▶ XLogData.data ── decode ──▶ Message<'_>  (borrowed)
//!                                                                       │ tuples
//!                                                                       ▼
//! COPY chunks ───── CopyDecoder ───────────────────────────────▶ BatchBuilder ──▶ ChangeBatch
//! ```
//!
//! Snapshot rows and streamed rows go through the same column builders, in binary or text form: that is
//! how they cannot differ. `docs/TYPES.md` says what each type becomes.

mod builder;
mod column;
mod copy;
mod image;
mod message;
mod numeric;
mod reason;
mod registry;
mod render;
mod standby;
mod temporal;
mod tuple;
mod types;
mod wire;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, Mark};
pub use copy::{CopyDecoder, CopyError};
pub use message::*;
pub use reason::{Reason, ValueError};
pub use registry::{CatalogType, TypeCatalog};
pub use standby::{Keepalive, ReplicationFrame, StandbyStatus, XLogData};
pub use tuple::{TupleData, Value, Values};
pub use types::{Infinity, NumericUnbounded, Policies, TypeInfo, UnknownTypes, oid, resolve, type_name};
pub use wire::{DecodeError, Problem};
