#!/usr/bin/env bash
# Installs what the tests need and runs every test. Arguments go to `cargo test`:
#   scripts/test.sh --test it kill::
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
scripts/install.sh test
# A test waits for processes most of the time: more of them than cores.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-3}
say "building and running the tests (the first build takes some minutes)"
cargo test --locked "$@"
say "all tests passed"
