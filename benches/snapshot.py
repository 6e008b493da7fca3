"""The first copy of a table, beside COPY to nowhere and what a user would otherwise take."""

import glob
import os
import sys

from harness import (
    DATABASE, HERE, REPS, STRANDLINE, WORK, files_of, fresh, measure, middle, print_table, rate, say, scaled, short,
    thousands, verdict,
)

RSS_LIMIT = 150
CONTESTANTS = {
    "copy1": "limit: one COPY binary to nowhere",
    "copy2": "limit: two COPY binary (halves by ctid) to nowhere",
    "strandline": "strandline --snapshot-only to Delta (synced)",
    "scanner": "DuckDB postgres scanner to Parquet",
    "deltars": "DuckDB postgres scanner, write_deltalake",
}


def command(name, postgres, half, out):
    psql = " ".join(postgres.psql())
    if name == "copy1":
        return ["bash", "-c", f'{psql} -c "copy big to stdout (format binary)" >/dev/null']
    if name == "copy2":
        part = f'{psql} -c "copy (select * from big where ctid %s \'({half},0)\') to stdout (format binary)" >/dev/null'
        return ["bash", "-c", f"{part % '<'} & {part % '>='} && wait $!"]
    if name == "strandline":
        where = ["--slot", "s_big", "--publication", "p_big", "--table", "public.big"]
        return [STRANDLINE, "run", "-q", postgres.url, f"file://{out}", *where, "--snapshot-only"]
    return [sys.executable, HERE / "peer_scanner.py", name, postgres.port, DATABASE, "big", out]


def has_scanner():
    return bool(glob.glob(f"{os.environ['PEERS']}/duckdb_extension_postgres_scanner/**/*.duckdb_extension", recursive=True))


def check(name, out, wanted):
    if name == "strandline":
        return verdict(f"delta_scan('{out}/public/big')", wanted)
    if name == "deltars":
        return verdict(f"delta_scan('{out}')", wanted)
    if name == "scanner":
        return verdict(f"read_parquet('{out}/*.parquet')", wanted)
    return "equal"


def run_one(postgres, name, half, wanted):
    out = fresh(WORK / "out")
    postgres.drop_slot("s_big")
    postgres.sql("checkpoint")
    found = measure(command(name, postgres, half, out), postgres)
    found["check"] = "failed" if found["rc"] else check(name, out, wanted)
    found["files"], found["bytes"] = files_of(out)
    postgres.drop_slot("s_big")
    return found


def run(postgres, report):
    rows = scaled(5_000_000)
    say(f"snapshot: writing {rows:,} rows")
    postgres.table("big", rows)
    postgres.publication("p_big", "big")
    half = int(postgres.sql("select pg_relation_size('big') / 8192 / 2"))
    wanted = postgres.digest("big")  # and the whole table is in memory now, for all
    names = [n for n in CONTESTANTS if n not in ("scanner", "deltars") or has_scanner()]
    runs = {name: [] for name in names}
    for repetition in range(REPS):
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            found = run_one(postgres, name, half, wanted)
            runs[name].append(found)
            say(f"  {name:10} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  server {found['server_cpu_s']:6.2f}  {found['check']}")
    postgres.sql("drop table big")
    report.raw["snapshot"] = {"rows": rows, "runs": runs}
    table(report, rows, runs)


def table(report, rows, runs):
    figures = {}
    for name, found in runs.items():
        right = [r for r in found if r["check"] == "equal"]
        for r in found:
            report.check(f"snapshot, {CONTESTANTS[name]}", r["check"])
        if right:
            figures[name] = {
                "rate": rate(rows, right),
                "cpu": middle([r["cpu_s"] * 1e6 / rows for r in right]),
                "server": middle([r["server_cpu_s"] * 1e6 / rows for r in right]),
                "rss": max(r["rss_mb"] for r in right),
                "out": f"{right[-1]['files']} / {right[-1]['bytes'] / 1e6:.0f}",
            }
    base = figures.get("copy1", {}).get("rate", [None])[0]
    two = figures.get("copy2", {}).get("rate", [None])[0]
    lines = []
    for name in runs:
        if name not in figures:
            lines.append([CONTESTANTS[name], "FAILED", *["-"] * 7])
            continue
        f = figures[name]
        lines.append([
            CONTESTANTS[name],
            thousands(f["rate"][0]),
            f"{f['rate'][1]:,.0f}–{f['rate'][2]:,.0f}",
            f"{f['rate'][0] / base:.0%}" if base else "-",
            f"{f['rate'][0] / two:.0%}" if two else "-",
            short(f["cpu"]),
            short(f["server"]),
            f"{f['rss']:.0f}",
            f["out"] if not name.startswith("copy") else "-",
        ])
    print(f"**snapshot of {rows:,} rows**\n")
    head = ["", "rows/s", "min–max", "of one COPY", "of two COPY", "CPU-s per M", "server CPU-s per M", "peak RSS MB", "files / MB"]
    print_table(head, lines)
    if "strandline" not in figures or not base:
        report.limit("snapshot", "failed", "≥ 60 % of one COPY binary", False)
        return
    ours = figures["strandline"]
    share = ours["rate"][0] / base
    aim = f"80 % of two: {ours['rate'][0] / two:.0%}" if two else None
    report.limit("snapshot", f"{share:.0%}", "≥ 60 % of one COPY binary", share >= 0.6, aim)
    report.limit("snapshot: CPU-seconds per million rows", short(ours["cpu"]), "≤ 0.6", ours["cpu"] <= 0.6)
    report.limit("snapshot: peak RSS", f"{ours['rss']:.0f} MB", f"≤ {RSS_LIMIT} MB", ours["rss"] <= RSS_LIMIT)
