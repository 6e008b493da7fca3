#!/usr/bin/env bash
# The kill test in its long form. KILLS kills of strandline, one of PostgreSQL for every ten of them; equality is
# checked on the way and at the end. STRANDLINE_SEED repeats a run's choices (not its timing).
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
export KILLS=${KILLS:-1000}
scripts/install.sh test
say "$KILLS kills"
cargo test --locked --test it kill:: -- --nocapture
say "equal after $KILLS kills"
