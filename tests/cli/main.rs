//! The built program as its users see it: what it prints where, and how it ends.
//!
//! Golden texts stand here in full, because people read them in the middle of the night. Nothing here needs
//! a database.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends here")]

mod config_files;
mod program;
mod run;

mod status;
mod usage;
