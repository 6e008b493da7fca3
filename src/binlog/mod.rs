//! Bytes from MySQL and MariaDB straight into Arrow: the row binlog, and the result rows of a snapshot.
//!
//! Layer 1. Pure: never panics on any input, allocates nothing by a length that it has not checked, and no error
//! carries a row's content.
//!
//! ```text
//! packet ── EventDecoder ──▶ Event ─┬─ TableMap ── schema_of_map ──▶ TableSchema
//!  (header, checksum)               │      └────── RowDecoder::new ──▶ RowDecoder   once per TABLE_MAP
//!                                   ├─ Rows ────── RowDecoder::decode ─────────────▶ BatchBuilder ──▶ ChangeBatch
//!                                   ├─ TransactionPayload ── PayloadStream ──▶ EventDecoder again
//!                                   └─ Gtid, Query, Xid, XaPrepare, Rotate, Heartbeat, Incident …
//! SELECT rows ── Cell ── SnapshotDecoder::push ─────────────────────────────────────▶ BatchBuilder ──▶ ChangeBatch
//! ```
//!
//! Snapshot rows and streamed rows go through the same rules ([`SqlType`] and what it becomes), whatever form
//! the value has on the wire: that is how they cannot differ. `docs/TYPES_MYSQL.md` says what each type becomes.
//!
//! # How a source uses it
//!
//! - One [`EventDecoder`] per connection. Events that someone else took off the wire come in by
//!   [`RawEvent::from_parts`], whole ones by [`EventDecoder::decode_bytes`].
//! - A `TABLE_MAP`'s number is good until the row event that [`Rows::ends_statement`]. Its content is compared with the
//!   last one of that table; when it is equal but for the number, the [`RowDecoder`] is used again.
//! - A compressed transaction goes through a [`PayloadStream`] as it comes off the wire. Its events go through the same
//!   [`EventDecoder`]; they have positions of zero.
//! - DML in a [`Query`] is not told from other statements here: the caller stops on what is neither transaction
//!   control nor DDL.

mod builder;
pub mod charset;
mod column;
mod decoder;
mod event;
mod gtid;
mod header;
mod image;
mod maria;
mod outline;
mod payload;
mod query;
mod reason;
mod rows;
mod snapshot;
mod sqltype;
mod table_map;
mod value;
mod wire;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, Mark};
pub use decoder::{Missing, PlanError, RowDecoder};
pub use event::{
    Event, EventDecoder, Flavor, FormatDescription, GtidEvent, MariaGtidEvent, MariaGtidList, Query,
    StatusVars, TransactionPayload, XaPrepare, Xid,
};
pub use gtid::{MariaXid, decode_gtid_set, encode_gtid_set};
pub use header::{Checksum, EventHeader, EventType, RawEvent, flags};
pub use outline::{CatalogColumn, OutlineError, schema_of_catalog, schema_of_map};
pub use payload::{Compression, PayloadStream, Unpacked};
pub use reason::{Reason, ValueError};
pub use rows::{ColumnBits, Rows, RowsKind, RowsVersion};
pub use snapshot::{Cell, SnapshotDecoder};
pub use sqltype::{GeometryType, IntSize, LongSize, Policies, SqlType, UnknownType, WideDecimal, ZeroDates};
pub use table_map::{FieldType, KeyPart, MapColumn, TableMap};
pub use wire::{DecodeError, Problem};
