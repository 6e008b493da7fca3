#!/bin/sh
# Fills fuzz/corpus with the messages and COPY streams of tests/golden/pgoutput, and the events of
# tests/golden/binlog.
set -eu
cd "$(dirname "$0")"
golden=../tests/golden/pgoutput
mkdir -p corpus/message corpus/tuple corpus/copy corpus/numeric
n=0
cat "$golden"/*.binary.hex "$golden"/*.text.hex "$golden"/streamed.hex "$golden"/prepared.hex | while read -r line; do
    n=$((n + 1))
    printf '%s' "$line" | cut -c1-2000 | xxd -r -p >"corpus/message/$n"
    # The tuple of an insert: two bytes of choices for the target, then what follows I, table and N.
    case $line in 49*) printf '0000%s' "${line#????????????}" | xxd -r -p >"corpus/tuple/$n" ;; esac
done
# The rows of a stream: two bytes of choices, then what follows the header up to the extension's length.
{ printf '1907'; cut -c31- "$golden/types.copy.hex"; } | xxd -r -p >corpus/copy/types
n=0
for numeric in 0002000000000002007b11d0 000000004000000200 0001ffff00000004270f 0000 0000c0000000 \
    0003000100000002000109d2115c 0001400000000000000f; do
    n=$((n + 1))
    printf '0b02%s' "$numeric" | xxd -r -p >"corpus/numeric/$n"
done

# Events: the type, then the body. Rows: the length of their table map, its body, the kind of rows, their body.
if command -v python3 >/dev/null && command -v zstd >/dev/null; then
    mkdir -p corpus/binlog_event corpus/binlog_rows corpus/binlog_table_map corpus/gtid_set
    python3 - <<'PYTHON'
import struct, subprocess, pathlib
kinds = {30: 0, 31: 1, 32: 2, 39: 3, 23: 4, 24: 5}
for name in ("mysql97", "events_mysql97", "mariadb118", "events_mariadb118"):
    data = subprocess.run(["zstd", "-dc", f"../tests/golden/binlog/{name}.binlog.zst"], capture_output=True, check=True).stdout
    at, n, table = 4, 0, b""
    while at < len(data):
        size, kind = struct.unpack_from("<I", data, at + 9)[0], data[at + 4]
        body = data[at + 19 : at + size - 4]
        at, n = at + size, n + 1
        if len(body) > 4000:
            continue
        pathlib.Path(f"corpus/binlog_event/{name}{n}").write_bytes(bytes([kind]) + body)
        if kind == 19:
            table = body
            pathlib.Path(f"corpus/binlog_table_map/{name}{n}").write_bytes(body)
        if kind == 35:
            pathlib.Path(f"corpus/gtid_set/{name}{n}").write_bytes(body)
        if kind in kinds:
            row = struct.pack("<H", len(table)) + table + bytes([kinds[kind]]) + body
            pathlib.Path(f"corpus/binlog_rows/{name}{n}").write_bytes(row)
PYTHON
    printf '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:1-3' >corpus/gtid_set/text
    printf '0-1-100,1-2-7' >corpus/gtid_set/maria
fi
