//! MySQL and MariaDB as a source: the row binlog of one server, from its own protocol.
//!
//! ```text
//!  options ─ sql ─┬─ server     who it is, where its log ends, which files it has
//!                 ├─ preflight  what must hold before anything is read
//!                 ├─ doctor     what an administrator should see
//!                 ├─ catalog    tables, columns and keys as they are now
//!                 ├─ definition  tables as statements define them, for those who are told of definitions
//!                 ├─ lock       one process per pipeline: GET_LOCK('strandline/NAME')
//!                 ├─ snapshot ─ chunk   copies at one exact place of the log, in stretches of the key
//!  options ─ login ─ dump ─ assemble ─ stream   events to rows, transactions, positions
//!                     └─ recall ─ lookup      rows of a two-phase transaction, a second time; what takes long is asked beside
//!                     └─ statement ─ words   what a statement in the log means to the rows around it
//!  adapter: all of it behind the traits of [`crate::source`]
//! ```
//!
//! The server keeps no place for us: where to go on is what the target holds ([`crate::source::Bookmark`]), and
//! [`stream`] compares the server's history with it before anything is read. A place in the log is a number
//! ([`crate::position::LogPoint`]).

pub mod adapter;
mod assemble;
pub mod catalog;
mod chunk;
mod definition;
pub mod doctor;
mod dump;
mod fault;
mod gtids;
pub mod lock;
pub mod logfiles;
mod login;
mod lookup;
pub mod options;
mod packets;
mod preflight;
mod recall;
#[cfg(test)]
mod rogue_tests;
pub mod server;
mod snapshot;
pub mod sql;
mod statement;
mod stream;
mod tls;
mod words;
