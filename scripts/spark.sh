#!/usr/bin/env bash
# Tables that strandline wrote, read and written by Apache Spark with delta-spark: on Spark 4, then on 3.5.
#   scripts/spark.sh                      everything
#   SPARK=3.5 scripts/spark.sh foreign    one series, tests whose name holds a word
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
scripts/install.sh build
scripts/install.sh psql
scripts/install.sh postgres 18
scripts/install.sh readers
for series in ${SPARK:-4 3.5}; do
    scripts/install.sh spark "$series"
    say "Spark $series"
    # One Spark for all tests; it is what they wait for.
    STRANDLINE_SPARK=$series cargo test --locked --test it -- --ignored "spark::${1:-}" --nocapture
done
say "read and written by Spark ${SPARK:-4 and 3.5}"
