#!/bin/sh
# Fills fuzz/corpus with the messages and COPY streams of tests/golden/pgoutput.
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
