"""Reads Delta tables with readers that are not ours, and writes every value in one canonical spelling.

The harness keeps one such process running and talks JSON lines with it; `scripts/demo.sh` calls it with
arguments. Three independent readers serve: DuckDB (delta-kernel-rs), delta-rs' DataFusion engine, Polars.

The canonical spelling of a value is text or null, made so that PostgreSQL can produce the same by an SQL
expression (tests/it/harness/compare.rs): integers and decimals in plain digits, floats as the hex of their
bits (so that NaN, -0 and the last bit count), binary as hex, dates as days and timestamps as microseconds
since 1970.

Requests, one JSON object a line; each is answered by one line {"ok": true, ...} or {"ok": false, "error": ...}:
  {"op": "rows",   "path": DIR, "reader": "duckdb", "version": N or null, "columns": [..] or null,
                   "storage": settings of an object store or absent}
  {"op": "digest", same}                    rows counted and hashed instead of listed
  {"op": "sql",    "path": DIR, "version": N or null, "sql": "select .. from t"}   DuckDB; the table is called t
  {"op": "make_foreign", "path": DIR}       writes a table of three rows
  {"op": "foreign", "path": DIR, "kind": K} changes a table with delta-rs
  {"op": "cdf", "path": DIR, "version": N, "columns": [..]}   rows of delta-rs' change data feed from version N on
  {"op": "to_pyarrow_table", "path": DIR}   reads by a call that refuses deletion vectors
"""

import hashlib
import json
import struct
import sys

import pyarrow as pa

READERS = ("duckdb", "deltalake", "polars")


def duckdb_connection():
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    try:
        connection.execute("load delta")
    except Exception:
        from duckdb_extensions import import_extension

        import_extension("delta")
        connection.execute("load delta")
    return connection


_connection = None


def connection():
    global _connection
    if _connection is None:
        _connection = duckdb_connection()
    return _connection


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def scan(path, version):
    at = "" if version is None else f", version={int(version)}"
    return f"delta_scan({literal(path)}{at})"


def read_duckdb(path, version, columns):
    picked = "*" if columns is None else ", ".join(map(quote, columns))
    return connection().execute(f"select {picked} from {scan(path, version)}").to_arrow_table()


def read_deltalake(path, version, columns, storage=None):
    from deltalake import DeltaTable, QueryBuilder

    table = DeltaTable(path, version=version, storage_options=storage)
    picked = "*" if columns is None else ", ".join(map(quote, columns))
    reader = QueryBuilder().register("t", table).execute(f"select {picked} from t")
    return pa.table(reader.read_all())


def read_polars(path, version, columns, storage=None):
    import polars

    frame = polars.read_delta(path, version=version, storage_options=storage)
    return (frame if columns is None else frame.select(columns)).to_arrow()


def spell_column(column):
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_boolean(kind):
        return [None if v is None else ("true" if v else "false") for v in column.to_pylist()]
    if pa.types.is_integer(kind):
        return [None if v is None else str(v) for v in column.to_pylist()]
    if pa.types.is_date32(kind):
        return [None if v is None else str(v) for v in column.cast(pa.int32()).to_pylist()]
    if pa.types.is_timestamp(kind):
        if kind.unit != "us":
            raise ValueError(f"timestamps in {kind.unit}")
        return [None if v is None else str(v) for v in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_float32(kind):
        return [None if v is None else struct.pack(">f", v).hex() for v in column.to_pylist()]
    if pa.types.is_float64(kind):
        return [None if v is None else struct.pack(">d", v).hex() for v in column.to_pylist()]
    if pa.types.is_decimal(kind):
        return [None if v is None else format(v, "f") for v in column.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return [None if v is None else v.hex() for v in column.to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.to_pylist()
    raise ValueError(f"no canonical spelling for {kind}")


def spelled_rows(path, reader="duckdb", version=None, columns=None, storage=None):
    if reader == "duckdb":
        table = read_duckdb(path, version, columns)
    elif reader == "deltalake":
        table = read_deltalake(path, version, columns, storage)
    elif reader == "polars":
        table = read_polars(path, version, columns, storage)
    else:
        raise ValueError(f"reader {reader}: known are {READERS}")
    names = table.schema.names
    return names, list(zip(*(spell_column(table.column(i)) for i in range(len(names)))))


def digest(rows):
    """Rows counted and hashed, whatever their order; a row twice counts twice."""
    lines = sorted(json.dumps(row, ensure_ascii=True, separators=(",", ":")) for row in rows)
    sha = hashlib.sha256()
    for line in lines:
        sha.update(line.encode())
        sha.update(b"\n")
    return {"rows": len(lines), "sha256": sha.hexdigest()}


def foreign(path, kind):
    """What somebody else's program may do to a table."""
    import deltalake

    table = deltalake.DeltaTable(path)
    if kind == "optimize":
        table.optimize.compact()
    elif kind == "checkpoint":
        table.create_checkpoint()
    elif kind == "vacuum":
        table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    elif kind == "property":
        table.alter.set_table_properties({"foreign.note": "x"}, raise_if_not_exists=False)
    elif kind == "feed":
        table.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    elif kind == "append":
        row = {"id": pa.array([5_000_000], pa.int64()), "v": pa.array(["theirs"]), "big": pa.array(["theirs"])}
        deltalake.write_deltalake(path, pa.table(row), mode="append")
    elif kind == "delete":
        table.delete("id = 2")
    elif kind == "restore":
        table.restore(table.version() - 1)
    else:
        raise ValueError(f"unknown kind {kind}")


def answer(request):
    op = request["op"]
    path = request["path"]
    version = request.get("version")
    if op == "make_foreign":
        import deltalake

        deltalake.write_deltalake(path, pa.table({"id": [1, 2, 3]}))
        return {}
    if op == "foreign":
        foreign(path, request["kind"])
        return {}
    if op == "to_pyarrow_table":
        import deltalake

        deltalake.DeltaTable(path).to_pyarrow_table()
        return {}
    if op == "cdf":
        import deltalake

        read = pa.table(deltalake.DeltaTable(path).load_cdf(starting_version=version).read_all())
        wanted = request["columns"] + ["_change_type", "_commit_version"]
        return {"rows": list(zip(*(spell_column(read.column(name)) for name in wanted)))}
    if op == "sql":
        connection().execute(f"create or replace temp view t as select * from {scan(path, version)}")
        table = connection().execute(request["sql"]).to_arrow_table()
        return {"rows": [list(r) for r in zip(*(spell_column(c) for c in table.columns))]}
    names, rows = spelled_rows(
        path, request.get("reader") or "duckdb", version, request.get("columns"), request.get("storage")
    )
    if op == "rows":
        return {"columns": names, "rows": rows}
    if op == "digest":
        return digest(rows)
    raise ValueError(f"unknown op {op}")


def serve():
    for line in sys.stdin:
        try:
            reply = {"ok": True, **answer(json.loads(line))}
        except Exception as error:  # every failure is the caller's to judge
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def main():
    if len(sys.argv) == 1 or sys.argv[1] == "serve":
        serve()
    elif sys.argv[1] == "digest":  # digest PATH COLUMN...
        _, rows = spelled_rows(sys.argv[2], "duckdb", None, sys.argv[3:] or None)
        found = digest(rows)
        print(found["rows"], found["sha256"])
    elif sys.argv[1] == "sql":  # sql PATH QUERY [VERSION]
        version = sys.argv[4] if len(sys.argv) > 4 else None
        connection().execute(f"create temp view t as select * from {scan(sys.argv[2], version)}")
        connection().sql(sys.argv[3]).show(max_width=160, max_rows=100)
    elif sys.argv[1] == "digest-lines":  # JSON arrays on stdin, one a line
        found = digest([json.loads(line) for line in sys.stdin if line.strip()])
        print(found["rows"], found["sha256"])
    else:
        sys.exit("usage: reader.py serve | digest PATH [COLUMN...] | digest-lines < FILE | sql PATH QUERY [VERSION]")


if __name__ == "__main__":
    main()
