#!/usr/bin/env bash
# Every test that touches PostgreSQL, on every major version: scripts/matrix.sh [MAJOR…] (default: 14 to 18).
# Left out are what was recorded on one version, other sources, the page and the harness's tests of itself.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"
majors=("$@")
[ ${#majors[@]} -gt 0 ] || majors=(14 15 16 17 18)
scripts/install.sh test
scripts/install.sh postgres "${majors[@]}"
modules=(
    bad_input:: bank:: ddl:: every_type:: failover:: foreign:: keyless:: kill:: large:: loss:: messages:: odd:: operate::
    origin:: partitions:: pg_cases:: pg_edges:: resume:: resync:: resync_resume:: slot:: source_safe:: stdout:: teardown:: throttle:: types:: until::
    verify:: wire_ack:: zombie::
)
failed=()
for major in "${majors[@]}"; do
    say "PostgreSQL $major"
    export STRANDLINE_TEST_PG=$major
    cargo test --locked --test it -- "${modules[@]}" --skip mysql_ || failed+=("$major: it")
    cargo test --locked --test pgsrc || failed+=("$major: pgsrc")
done
# The types of extensions that those servers do not have.
scripts/install.sh pg-extensions
export STRANDLINE_PG_BIN_17=$SERVERS/pg17-extensions/usr/lib/postgresql/17/bin
if [ -x "$STRANDLINE_PG_BIN_17/postgres" ]; then
    say "PostgreSQL 17 with PostGIS and pgvector"
    STRANDLINE_TEST_PG=17 cargo test --locked --test it -- every_type::copied every_type::values || failed+=("17: extensions")
fi
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
say "all versions passed: ${majors[*]}"
