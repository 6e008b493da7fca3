#!/usr/bin/env bash
# The demo: a throw-away PostgreSQL with 100,000 rows, strandline beside it, a workload, kill -9 in the middle,
# and the proof by a reader that is not ours that every table is equal, row by row. Non-zero if one row differs.
#
#   DEMO_SECONDS=10   how long the workload runs
#   DEMO_DIR=/tmp/strandline-demo   everything goes here and is replaced by the next run

. "$(dirname "$0")/lib.sh"
cd "$ROOT"

DEMO_SECONDS=${DEMO_SECONDS:-10}
DEMO_DIR=${DEMO_DIR:-${TMPDIR:-/tmp}/strandline-demo}
LAKE=$DEMO_DIR/lake
TABLES="customers products orders order_items"
PG_PID="" RUN_PID="" CLIENT_PIDS=""

cleanup() {
    local pid
    for pid in $CLIENT_PIDS $RUN_PID; do kill -9 "$pid" 2>/dev/null || true; done
    if [ -n "$PG_PID" ]; then
        kill -INT "$PG_PID" 2>/dev/null || true
        wait "$PG_PID" 2>/dev/null || true
    fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

scripts/install.sh demo

say "building strandline (some minutes the first time)"
cargo build --locked --bin strandline
STRANDLINE=${CARGO_TARGET_DIR:-$ROOT/target}/debug/strandline
BUILT=$SECONDS

# ------------------------------------------------------------------------------------------------ source
start_postgres() {
    rm -rf "$DEMO_DIR"
    mkdir -p "$DEMO_DIR/pg"
    chmod 755 "$DEMO_DIR"
    if is_root; then chown "$(pg_user)" "$DEMO_DIR/pg"; fi
    local bin=$SERVERS/pg18/bin
    (cd / && as_pg "$bin/initdb" -D "$DEMO_DIR/pg/data" -U postgres -A trust -E UTF8 --locale=C --no-sync) >"$DEMO_DIR/initdb.log" 2>&1 ||
        { cat "$DEMO_DIR/initdb.log" >&2; die "initdb failed"; }
    PORT=$(free_port)
    (cd / && as_pg "$bin/postgres" -D "$DEMO_DIR/pg/data" -p "$PORT" -c listen_addresses=127.0.0.1 \
        -c unix_socket_directories= -c wal_level=logical -c fsync=off -c max_slot_wal_keep_size=2GB) >"$DEMO_DIR/postgres.log" 2>&1 &
    PG_PID=$!
    export PGHOST=127.0.0.1 PGPORT=$PORT PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=5
    local try
    for try in $(seq 1 300); do
        psql -Atqc 'select 1' >/dev/null 2>&1 && break
        kill -0 "$PG_PID" 2>/dev/null || { cat "$DEMO_DIR/postgres.log" >&2; die "PostgreSQL did not start"; }
        [ "$try" -lt 300 ] || die "PostgreSQL did not answer"
        sleep 0.1
    done
    psql -qc 'create database shop'
    export PGDATABASE=shop
}

say "starting a throw-away PostgreSQL 18 in $DEMO_DIR"
start_postgres
say "seeding 100,000 rows in 4 tables"
psql -v ON_ERROR_STOP=1 -q -f scripts/demo/seed.sql
psql -v ON_ERROR_STOP=1 -q -f scripts/demo/workload.sql

# ------------------------------------------------------------------------------------------------ run
URL="postgres://postgres@127.0.0.1:$PORT/shop"
CONFIG=$DEMO_DIR/strandline.yaml
cat >"$CONFIG" <<YAML
version: 1
name: demo
source: {type: postgres, url: "$URL", slot: strandline_demo, publication: strandline_demo}
tables: {include: ["public.*"]}
sink: {type: delta, uri: "file://$LAKE", commit: {interval: 500ms}}
http: {listen: "127.0.0.1:$(free_port)"}
YAML
start_strandline() {
    "$STRANDLINE" run -c "$CONFIG" "$@" >>"$DEMO_DIR/strandline.out" 2>>"$DEMO_DIR/strandline.log" &
    RUN_PID=$!
}

# One line a second: what the source has done, what the lake has.
progress() {
    local steps versions=0 table
    steps=$(psql -Atqc 'select coalesce(sum(n), 0) from demo.steps')
    for table in $TABLES; do
        versions=$((versions + $(find "$LAKE/public/$table/_delta_log" -name '*.json' 2>/dev/null | wc -l)))
    done
    say "  $steps source transactions · $versions Delta commits"
}

running() {
    kill -0 "$RUN_PID" 2>/dev/null || { tail -n 20 "$DEMO_DIR/strandline.log" >&2; die "strandline ended; see $DEMO_DIR/strandline.log"; }
}

client() {
    local i
    while [ ! -e "$DEMO_DIR/stop" ]; do
        for i in 1 2 3 4 5 6 7 8 9 10; do echo "call demo.step($1);"; done
        sleep 0.05
    done | psql -q >>"$DEMO_DIR/client-$1.log" 2>&1
}

say "strandline run -c $CONFIG"
start_strandline
say "workload: two clients insert, update, move keys and delete, for $DEMO_SECONDS s"
for n in 1 2; do
    client $n &
    CLIENT_PIDS="$CLIENT_PIDS $!"
done
for second in $(seq 1 "$DEMO_SECONDS"); do
    sleep 1
    running
    progress
    if [ "$second" -eq $((DEMO_SECONDS / 2)) ]; then
        say "kill -9 $RUN_PID"
        kill -9 "$RUN_PID"
        wait "$RUN_PID" 2>/dev/null || true
        say "starting it again"
        start_strandline
    fi
done
touch "$DEMO_DIR/stop"
for pid in $CLIENT_PIDS; do wait "$pid" || die "the workload failed; see $DEMO_DIR/client-*.log"; done
CLIENT_PIDS=""
say "workload stopped; stopping strandline, then once more until it has caught up"
kill -TERM "$RUN_PID"
wait "$RUN_PID" || die "strandline did not stop cleanly; see $DEMO_DIR/strandline.log"
start_strandline --until-caught-up
wait "$RUN_PID" || { tail -n 20 "$DEMO_DIR/strandline.log" >&2; die "strandline did not catch up"; }
RUN_PID=""

# ------------------------------------------------------------------------------------------------ proof
say "comparing, row by row: PostgreSQL's own text against DuckDB reading the Delta tables"
reader() { "$READERS/bin/python" tests/it/reader.py "$@"; }
differ=0
printf '\n  %-12s %12s %12s  %-18s %-18s\n' table "source rows" "Delta rows" "source digest" "Delta digest"
for table in $TABLES; do
    spelled=$(psql -Atq -v table="$table" -f scripts/demo/spelling.sql)
    columns=$(psql -Atqc "select attname from pg_attribute where attrelid = 'public.$table'::regclass and attnum > 0 and not attisdropped order by attnum")
    read -r source_rows source_digest < <(psql -Atqc "select json_build_array($spelled) from public.$table" | reader digest-lines)
    # shellcheck disable=SC2086
    read -r delta_rows delta_digest < <(reader digest "$LAKE/public/$table" $columns) || { delta_rows=unreadable delta_digest=-; }
    verdict=equal
    if [ "$source_rows $source_digest" != "$delta_rows $delta_digest" ]; then
        verdict=DIFFERENT
        differ=1
    fi
    printf '  %-12s %12s %12s  %-18s %-18s %s\n' "$table" "$source_rows" "$delta_rows" "${source_digest:0:16}" "${delta_digest:0:16}" "$verdict"
done
echo
[ $differ -eq 0 ] || die "the tables differ; everything is kept in $DEMO_DIR"
say "every row is equal ($((SECONDS - BUILT)) s without building)"

cat <<TRY

What to try next:
  read a table                    scripts/query.sh $LAKE/public/orders 'select status, count(*), sum(total) from t group by 1 order by 1'
  read it as it was (version 3)   scripts/query.sh $LAKE/public/orders 'select count(*) from t' 3
  look at the log and positions   ls $LAKE/public/orders/_delta_log; cat $DEMO_DIR/strandline.log
  how the pipeline stands         $STRANDLINE status -c $CONFIG
  replicate your own database     $STRANDLINE run postgres://user:password@host/database file:///some/where
  kill it a thousand times        make fault KILLS=1000
TRY
