"""The peer of a commit: delta-rs' MERGE by key, each file in one commit, the table opened once.

    peer_merge.py DIR FILE...
"""

import json
import sys
import time

import pyarrow.parquet as parquet
from deltalake import DeltaTable


def main():
    table = DeltaTable(sys.argv[1])
    print(json.dumps({"ready": 1}), flush=True)
    for n, path in enumerate(sys.argv[2:]):
        rows = parquet.read_table(path)
        began = time.perf_counter()
        # Collected, not streamed: the quicker of the two modes on these tables.
        merge = table.merge(rows, "t.id = s.id", source_alias="s", target_alias="t", streamed_exec=False)
        done = merge.when_matched_update_all().when_not_matched_insert_all().execute()
        took = time.perf_counter() - began
        print(json.dumps({"batch": n, "s": took, "files_touched": done["num_target_files_removed"]}), flush=True)


main()
