#!/usr/bin/env bash
# The coordinator under the seeded simulator: SEEDS histories. A failing one prints its seed; with
# SIM_SEED=17 that one is replayed and says what happens. SIM_BASE is added to every seed.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
if [ -n "${SIM_SEED:-}" ]; then
    exec cargo test --locked --test sim one_seed -- --ignored --nocapture
fi
export SIM_SEEDS=${SEEDS:-2000}
say "$SIM_SEEDS seeds"
cargo test --locked --test sim -- --nocapture
