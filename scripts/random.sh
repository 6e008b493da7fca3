#!/usr/bin/env bash
# Random workloads in their long form: ROUNDS rounds of tables, values, transactions and configurations that nobody
# chose, with kills. STRANDLINE_SEED repeats a run's choices (not its timing).
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
export ROUNDS=${ROUNDS:-50}
scripts/install.sh test
say "$ROUNDS rounds"
cargo test --locked --test it random_ -- --nocapture
say "equal after $ROUNDS rounds"
