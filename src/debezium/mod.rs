//! Events as Debezium 3.6 writes them, byte for byte where `docs/debezium-deviations.md` does not say otherwise.
//!
//! Layer 1: pure, no clock, no IO. Everything is compiled once per table schema; a row is then written from Arrow's
//! columns into one buffer, without a value type in between.
//!
//! ```text
//! Options ──► Encoder::new(TableSchema) ──► encode(&ChangeBatch, &Occasion, &mut Records)
//!        └──► Control::new               ──► begin / end / heartbeat / message
//! ```
//!
//! # For a sink
//!
//! - One [`Encoder`] per table and schema ([`Encoder::schema`] says which): make another one when a batch comes with
//!   another schema. It is `Send + Sync`; [`Records`] is a buffer to be used again.
//! - A batch of a snapshot needs [`Occasion::snapshot`]; the markers of its first and last row are the caller's to
//!   decide, because only it knows which row is the last of a table and of all ([`Marker`]).
//! - Records of one table are in source order. Records of several tables are merged by [`Record::place`], stably.
//! - [`Options::provide_transaction_metadata`]: the value of a record says that there is no transaction block;
//!   [`Record::with_transaction`] gives the value with one. [`Brackets`] counts the events and brackets each
//!   transaction with [`Control::begin`] and [`Control::end`].
//! - Avro: register [`Encoder::avro_schemas`] under `<topic>-key` and `<topic>-value`, then
//!   [`Encoder::set_schema_ids`].
//! - A [`Reader`] takes records apart again, to compare what they say with what an encoder would say now.
//! - [`partition_of`] is the Java client's partitioner; heartbeats go to partition 0.
//!
//! # Where values come from
//!
//! The source must be read with `Infinity::Keep`, so that infinite moments arrive, and numbers as [`Options`] need
//! them: see `cli::wire`.

mod avro;
mod avro_schema;
mod brackets;
mod change;
mod column;
mod column_my;
mod columns;
mod compile;
mod connect;
mod control;
mod decimal;
mod default;
mod definition;
mod encoder;
mod envelope;
mod flat;
mod image;
mod iso;
mod json;
mod message;
mod native;
mod notification;
mod options;
mod out;
mod partition;
mod read;
mod record;
mod stored;
mod text;
mod topic;
mod value;

#[cfg(test)]
mod tests;

pub use brackets::Brackets;
pub use control::{Control, ControlKind, ControlRecord, EndOfTransaction, LogicalMessage, transaction_id};
pub use encoder::{AvroSchemas, Encoder, Marker, Occasion, SnapshotRows};
pub use notification::Notification;
pub use options::{
    Adjustment, BigintUnsignedMode, BinaryMode, ColumnRules, Connector, DecimalFormat, DecimalMode, Disguise,
    Encoding, FlatDeletes, HstoreMode, IntervalMode, KeyColumns, Options, Route, Style, TimeMode,
};
pub use partition::{murmur2, partition_of};
pub use read::{Cell, Key, Reader, Seen, Unreadable};
pub use record::{Place, Record, Records, TransactionBlock};
pub use topic::{
    adjusted_field_name, adjusted_schema_name, heartbeat_topic, message_topic, routed, schema_change_topic,
    table_topic, transaction_topic,
};
