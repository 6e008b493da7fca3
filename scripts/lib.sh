# Shared by the scripts: messages, places, privileges. Sourced, never run.
# shellcheck shell=bash

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
START=$SECONDS

# Everything that takes longer than a blink says so, with the seconds since the start.
say() { printf '\033[1m[%3ds]\033[0m %s\n' "$((SECONDS - START))" "$*" >&2; }
die() { printf '\033[1;31merror:\033[0m %s\n' "$*" >&2; exit 1; }

is_root() { [ "$(id -u)" -eq 0 ]; }

# Downloaded servers and readers live outside the checkout, so that several checkouts share them.
# PostgreSQL refuses to run as root; its files must then be reachable by another user, and root's home
# usually is not. tests/it/harness/places.rs computes the same path.
if is_root; then
    CACHE=${STRANDLINE_CACHE:-/var/cache/strandline}
else
    CACHE=${STRANDLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/strandline}
fi
SERVERS=$CACHE/servers
READERS=$CACHE/readers
export STRANDLINE_CACHE=$CACHE

# Installs Debian packages. Says what and why before it does.
apt_install() {
    command -v apt-get >/dev/null || die "please install: $* (this script knows only apt)"
    local sudo=()
    if ! is_root; then
        command -v sudo >/dev/null || die "please install as root: apt-get install $*"
        sudo=(sudo)
    fi
    say "installing with apt: $*"
    if ! "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1; then
        say "package lists are old or missing: apt-get update"
        "${sudo[@]}" apt-get update -q >"$CACHE/apt.log" 2>&1 || true
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1 ||
            { tail -n 20 "$CACHE/apt.log" >&2; die "apt could not install: $*"; }
    fi
}

# need COMMAND PACKAGE [COMMAND PACKAGE ...]: installs the packages whose command is missing, in one go.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

# The user that PostgreSQL runs as: ourselves, or, as root, one that may own its data.
pg_user() {
    if ! is_root; then
        id -un
    elif [ -n "${STRANDLINE_PG_USER:-}" ]; then
        echo "$STRANDLINE_PG_USER"
    elif id postgres >/dev/null 2>&1; then
        echo postgres
    else
        echo strandline-pg
    fi
}

# Runs a command as that user, in this very process (its pid is the command's pid).
as_pg() {
    if is_root; then
        exec setpriv --reuid="$(pg_user)" --regid="$(id -g "$(pg_user)")" --clear-groups "$@"
    else
        exec "$@"
    fi
}

# A port that nobody listens on, below the range of outgoing connections.
free_port() {
    local port tries
    for tries in $(seq 1 200); do
        port=$((20000 + (RANDOM * 32768 + RANDOM + tries) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port between 20000 and 32000"
}
