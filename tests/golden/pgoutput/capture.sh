#!/bin/sh
# Records the golden files of pgoutput from a real server: sh capture.sh 'host=/tmp port=5432 user=postgres'
#
# A fresh server is wanted (PostgreSQL 15, wal_level=logical, max_prepared_transactions=4,
# logical_decoding_work_mem=64kB). Each *.hex holds one message a line, or the whole COPY stream.
set -eu
cd "$(dirname "$0")"
server=$1
db="$server dbname=golden"
sql() { psql -X -q -At -v ON_ERROR_STOP=1 "$db" "$@"; }
pinned="set datestyle = 'ISO, YMD'; set timezone = 'UTC'; set extra_float_digits = 3; set bytea_output = 'hex'"

psql -X -q "$server dbname=postgres" -c 'create database golden'
sql -f setup.sql
slot() { sql -c "select pg_create_logical_replication_slot('$1', 'pgoutput', false, $2)" >/dev/null; }
messages() { # slot, output, options
    sql -c "$pinned" -c "select encode(data, 'hex') from pg_logical_slot_get_binary_changes('$1', null, null, 'publication_names', 'p', $3)" >"$2"
    sql -c "select pg_drop_replication_slot('$1')" >/dev/null
}

slot binary false
slot text false
sql -c "$pinned" -f types.sql
messages binary types.binary.hex "'proto_version', '1', 'binary', 'true'"
messages text types.text.hex "'proto_version', '1'"
sql -c "$pinned" -c 'copy types to stdout (format binary)' | od -An -v -tx1 | tr -d ' \n' >types.copy.hex
sql -c "$pinned" -c "\\pset null '(null)'" -c "$(cat expected.sql)" >types.expected

slot binary false
slot text false
sql -f changes.sql >/dev/null
messages binary changes.binary.hex "'proto_version', '1', 'binary', 'true', 'messages', 'true'"
messages text changes.text.hex "'proto_version', '1', 'messages', 'true'"

slot streamed false
sql -f streamed.sql
messages streamed streamed.hex "'proto_version', '2', 'binary', 'true', 'streaming', 'true'"

slot prepared true
sql -f prepared.sql
messages prepared prepared.hex "'proto_version', '3', 'binary', 'true', 'streaming', 'true', 'two_phase', 'true'"
