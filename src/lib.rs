//! strandline reads a database's own log and keeps Delta Lake tables equal to it, exactly.
//!
//! # Map
//!
//! Imports only point down; `tests/tidy.rs` enforces it.
//!
//! | layer | modules | rule |
//! |---|---|---|
//! | 5 | `cli` `http` `config` | the face; `cli::wire` alone names concrete adapters |
//! | 4 | `runtime` `telemetry` | performs what the coordinator decides |
//! | 3 | [`source`] [`sink`] | the outside world; adapters never see each other |
//! | 2 | [`replication`] | decisions: pure state machines, no await, clock, IO or randomness |
//! | 1 | [`binlog`] [`pgoutput`] [`debezium`] | codecs: bytes to types and types to bytes; never panic on input |
//! | 0 | [`position`] [`schema`] [`event`] [`error`] | vocabulary |

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    expect(
        clippy::cast_possible_truncation,
        clippy::clone_on_ref_ptr,
        clippy::let_underscore_must_use,
        reason = "small numbers, and results that only must not panic"
    )
)]

pub mod binlog;
pub mod cli;
pub mod config;
pub mod debezium;
pub mod error;
pub mod event;
pub mod http;
pub mod pgoutput;
pub mod position;
pub mod replication;
pub mod runtime;
pub mod schema;
pub mod sink;
pub mod source;
pub mod telemetry;
