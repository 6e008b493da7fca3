#!/usr/bin/env bash
# Asks DuckDB about one Delta table, which is called t:  scripts/query.sh DIR 'select … from t' [VERSION]
. "$(dirname "$0")/lib.sh"
[ $# -ge 2 ] || { sed -n '2s/^# //p' "$0"; exit 2; }
[ -x "$READERS/bin/python" ] || "$ROOT/scripts/install.sh" readers
exec "$READERS/bin/python" "$ROOT/tests/it/reader.py" sql "$@"
