"""The peer of the snapshot: DuckDB's scanner (ranges of ctid, COPY binary, 2 threads), into Parquet or by delta-rs.

    peer_scanner.py scanner|deltars PORT DATABASE TABLE DIR
"""

import glob
import os
import sys

import duckdb


def main():
    how, port, database, table, out = sys.argv[1:]
    # The extension comes from a Python package, signed by DuckDB.
    (extension,) = glob.glob(
        f"{os.environ['PEERS']}/duckdb_extension_postgres_scanner/**/postgres_scanner.duckdb_extension", recursive=True
    )
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "preserve_insertion_order": False})
    connection.execute("set timezone = 'UTC'")
    connection.execute(f"load '{extension}'")
    where = f"host=127.0.0.1 port={port} user=postgres dbname={database}"
    connection.execute(f"attach '{where}' as pg (type postgres, read_only)")
    if how == "scanner":
        options = "format parquet, compression zstd, compression_level 1, per_thread_output"
        connection.execute(f"copy (select * from pg.public.{table}) to '{out}/part' ({options})")
        for file in glob.glob(f"{out}/part/*"):
            os.rename(file, f"{out}/{os.path.basename(file)}")
    else:
        from deltalake import write_deltalake

        rows = connection.execute(f"select * from pg.public.{table}")
        write_deltalake(out, rows.to_arrow_reader(65_536))


main()
