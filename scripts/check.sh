#!/usr/bin/env bash
# Format, lints, house rules, dependencies. Every warning is an error.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
scripts/install.sh build
say "format"
cargo fmt --check
say "lints"
cargo clippy --locked --all-targets -- -D warnings
say "house rules"
cargo test --locked --quiet --test tidy
if cargo deny --version >/dev/null 2>&1; then
    say "dependencies"
    cargo deny --locked check
else
    say "dependencies: SKIPPED, cargo-deny is not installed (cargo install --locked cargo-deny)"
fi
say "checked"
