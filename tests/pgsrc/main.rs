//! The PostgreSQL source against a real server, without the rest of the product.

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
