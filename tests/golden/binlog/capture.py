#!/usr/bin/env python3
"""Runs the SQL of this folder on a server and keeps the binary log and what the server says of every value.

    capture.py NAME CLIENT... < script.sql     CLIENT: the command of a client that logs in as an administrator

Writes NAME.binlog.zst and NAME.tsv: a line per row, `table <tab> value <tab> ...`, each value in the form that
`src/binlog/tests/golden.rs` compares with. Values over 200 characters stand as `#length:crc32`.
"""
import re, subprocess, sys, zlib

name, client = sys.argv[1], sys.argv[2:]


def run(sql, db=None):
    args = client + ["-N", "--batch", "--raw", "--default-character-set=utf8mb4"] + (["-D", db] if db else [])
    done = subprocess.run(args, input=sql.encode(), capture_output=True)
    if done.returncode:
        sys.exit(done.stderr.decode())
    return done.stdout


mysql = "MariaDB" not in run("select version()").decode()
run("drop database if exists cap")
run("reset binary logs and gtids" if mysql else "reset master")
run("create database cap character set utf8mb4")
run(sys.stdin.read(), "cap")
datadir = run("select @@datadir").decode().strip()
file = run("show binary log status" if mysql else "show master status").decode().split("\t")[0]
run("flush binary logs")
subprocess.run(["zstd", "-q", "-f", "-19", datadir + "/" + file, "-o", name + ".binlog.zst"], check=True)

TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"}
BYTES = {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector",
         "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
         "geomcollection", "geometrycollection"}
lines = []
tables = run("select table_name from information_schema.tables where table_schema='cap' order by 1").decode().splitlines()
for table in tables:
    quoted = "`" + table.replace("`", "``") + "`"
    columns = run("select column_name, data_type, column_type from information_schema.columns where "
                  f"table_schema='cap' and table_name='{table}' order by ordinal_position").decode().splitlines()
    parts = []
    for line in columns:
        column, kind, full = line.split("\t")
        c = "`" + column.replace("`", "``") + "`"
        if kind in TEXT:
            e = f"hex(convert({c} using utf8mb4))"
        elif kind in BYTES:
            e = f"hex({c})"
        elif kind == "json":
            e = f"hex(cast({c} as char))" if mysql else f"hex(convert({c} using utf8mb4))"
        elif kind == "bit":
            e = f"lpad(bin({c}+0), {re.search('[0-9]+', full)[0]}, '0')"
        elif kind == "float" or (kind == "double" and "(" in full):
            e = f"cast({c} + 0e0 as char)"
        elif "zerofill" in full:
            e = f"cast({c} + 0 as char)"
        elif kind == "year":
            e = f"lpad({c}, 4, '0')"
        else:
            e = f"cast({c} as char)"
        parts.append(f"ifnull({e}, 'NULL')")
    sql = f"set time_zone='+00:00'; select {', '.join(parts)} from {quoted}"
    for row in run(sql, "cap").decode().splitlines():
        values = [v if len(v) <= 200 else f"#{len(v)}:{zlib.crc32(v.encode()):08x}" for v in row.split("\t")]
        lines.append("\t".join([table] + values))
with open(name + ".tsv", "w") as out:
    out.write("\n".join(sorted(lines)) + "\n")
print(name, len(lines), "rows")
