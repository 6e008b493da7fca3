#!/usr/bin/env bash
# Measures strandline beside the physical limit and a peer, all in one run; the method is in docs/BENCHMARKS.md.
#
#   benches/run.sh                        everything: catchup wires snapshot source commit giant sustained latency kafka mysql
#   benches/run.sh catchup commit         some of them
#   SCALE=0.01 REPS=1 benches/run.sh      a quick look whether all of it works; its figures mean nothing
#   SCALE=10 benches/run.sh commit        100 million rows, with 256 MiB for the index (13 GB of disk)
#   SUSTAINED_PARTITIONS=30 SUSTAINED_FEED=1 benches/run.sh sustained   a partitioned table, one with a change data feed
#
#   STRANDLINE=FILE             the binary to measure (default: it is built, with --release)
#   STRANDLINE_BENCH_DIR=DIR    everything goes here (default /var/tmp/strandline-bench, about 8 GB at most);
#                               the user of PostgreSQL must be able to enter it. Results stay in DIR/results
#   STRANDLINE_BENCH_PG=DIR     bin directory of PostgreSQL with client programs (default: /usr/lib/postgresql)
#   REPS=3 COMMITS=22 SUSTAINED_COMMITS=200 LATENCY_SECONDS=20

. "$(dirname "$0")/../scripts/lib.sh"
cd "$ROOT"

for item in "$@"; do
    case $item in
    catchup | wires | snapshot | source | commit | giant | sustained | latency | kafka | mysql) ;;
    *) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done

BENCH_DIR=${STRANDLINE_BENCH_DIR:-/var/tmp/strandline-bench}
mkdir -p "$BENCH_DIR"
chmod 755 "$BENCH_DIR"

# pg_recvlogical is the limit to compare with, so this needs a PostgreSQL with its client programs. 15 is what the
# recorded figures were taken with.
find_postgres() {
    local bin
    for bin in /usr/lib/postgresql/15/bin $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr); do
        if [ -x "$bin/postgres" ] && [ -x "$bin/pg_recvlogical" ]; then
            echo "$bin"
            return
        fi
    done
}
PG_BIN=${STRANDLINE_BENCH_PG:-$(find_postgres)}
if [ -z "$PG_BIN" ]; then
    say "PostgreSQL's server and client programs are needed (the package also starts a server of its own; it is not used)"
    apt_install postgresql
    PG_BIN=$(find_postgres)
    [ -n "$PG_BIN" ] || die "no PostgreSQL with pg_recvlogical in /usr/lib/postgresql: set STRANDLINE_BENCH_PG"
fi
need setpriv util-linux

scripts/install.sh readers
scripts/install.sh kafka
export KAFKA_LIBS=$SERVERS/kafka/libs
scripts/install.sh mysql
export MYSQL_HOME=$SERVERS/mysql9

# The peer of the snapshot: DuckDB's scanner of PostgreSQL tables, of the same version as the readers' DuckDB.
PEERS=$BENCH_DIR/peers
PEER_PACKAGES="duckdb-extension-postgres-scanner==1.5.5"
if [ "$(cat "$PEERS/.stamp" 2>/dev/null)" != "$PEER_PACKAGES" ]; then
    say "fetching the peers into $PEERS: $PEER_PACKAGES"
    rm -rf "$PEERS"
    # shellcheck disable=SC2086
    if "$READERS/bin/pip" install --disable-pip-version-check --no-input -q --no-deps --target "$PEERS" $PEER_PACKAGES; then
        echo "$PEER_PACKAGES" >"$PEERS/.stamp"
    else
        say "not to be had; the line of DuckDB's scanner will be missing"
    fi
fi

if [ -z "${STRANDLINE:-}" ]; then
    scripts/install.sh build
    say "building strandline with --release (many minutes the first time)"
    cargo build --locked --release --bin strandline
    STRANDLINE=${CARGO_TARGET_DIR:-$ROOT/target}/release/strandline
fi
[ -x "$STRANDLINE" ] || die "no such program: $STRANDLINE"

export BENCH_DIR PG_BIN PEERS STRANDLINE
PG_USER=$(pg_user)
PG_GROUP=$(id -g "$PG_USER")
export PG_USER PG_GROUP
exec "$READERS/bin/python" benches/bench.py "$@"
