//! Exit codes: part of the contract, documented in `docs/CLI.md`. Each error code carries its own.

/// Done.
pub const OK: u8 = 0;
/// Something went wrong while running.
pub const RUNTIME: u8 = 1;
/// Wrong use of the command line, or a wrong configuration.
pub const USAGE: u8 = 2;
/// Something that must be there first is not: a grant, a server setting, an empty path.
pub const PREREQUISITE: u8 = 3;
/// A condition that was asked for does not hold.
pub const CONDITION: u8 = 4;
/// Another process does this already.
pub const ALREADY_RUNNING: u8 = 5;
/// A second SIGINT.
pub const INTERRUPTED: u8 = 130;
/// A second SIGTERM.
pub const TERMINATED: u8 = 143;
