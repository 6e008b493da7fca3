#!/usr/bin/env bash
# Fuzzes one decoder for FUZZ_SECONDS (default 60): scripts/fuzz.sh message. Needs nightly and cargo-fuzz.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
target=${1:?which target: $(cd fuzz/fuzz_targets && echo *.rs | sed 's/\.rs//g')}
[ -f "fuzz/fuzz_targets/$target.rs" ] || die "no target $target; there are: $(cd fuzz/fuzz_targets && echo *.rs | sed 's/\.rs//g')"
cargo +nightly fuzz --version >/dev/null 2>&1 ||
    die "needs: rustup toolchain install nightly && cargo install --locked cargo-fuzz"
need xxd xxd
bash fuzz/seed.sh
cargo +nightly fuzz run "$target" -- -max_total_time="${FUZZ_SECONDS:-60}"
