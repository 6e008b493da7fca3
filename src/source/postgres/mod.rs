//! PostgreSQL as a source: our own replication client, catalogue, snapshot and stream.

pub mod adapter;
mod announced;
pub mod assemble;
pub mod auth;
pub mod catalog;
pub mod fault;
pub mod feedback;
pub mod forms;
pub mod frame;
pub mod health;
pub mod options;
pub use super::pattern;
pub mod preflight;
pub mod publication;
pub mod quote;
pub mod setup;
pub mod slot;
pub mod slot_admin;
pub mod snapshot;
pub mod socket;
pub mod spill;
pub mod sql;
pub mod stream;
mod streamed;
pub mod teardown;
pub mod tls;
pub mod wire;
