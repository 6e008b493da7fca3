//! The PostgreSQL source against a real server, without the rest of the product.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::print_stdout,
    clippy::let_underscore_must_use,
    reason = "a test that cannot go on ends here, and says what it measured"
)]

mod common;
mod copying;
#[expect(dead_code, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness/mod.rs"]
mod harness;
mod large;
mod login;
mod prepare;
mod server;
mod speed;
mod streaming;
