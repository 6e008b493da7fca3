"""Sustained upserts into a large table with upkeep on: rate, drift, write amplification, files, and what reading costs after.

The table and the batches are those of the commit benchmark; `strandline bench merge --upkeep` merges one batch after the other
without a pause, with compaction beside, as a running pipeline has it. The rate is over the whole time, landings of compactions
included. Afterwards the same rows are written anew by delta-rs, and DuckDB scans both tables in turns.
"""

import json
import os
import shutil
import time

import commit
from commit import FILES, copy_of, expected, make_batches, make_table
from harness import STRANDLINE, WORK, duckdb, fresh, measure, middle, percentile, print_table, say, scaled, short, verdict

COMMITS = int(os.environ.get("SUSTAINED_COMMITS", "200"))
PARTITIONS = int(os.environ.get("SUSTAINED_PARTITIONS", "0"))
FEED = os.environ.get("SUSTAINED_FEED", "") == "1"
EDGE = 20
SCANS = 5
SCAN = "select count(*), sum(a), sum(b), sum(c), sum(d), max(e), max(epoch_us(f)), count(*) filter (where g) from delta_scan('{}')"


def run(postgres, report):
    del postgres
    rows, size = scaled(10_000_000), min(10_000, scaled(1_000_000) // 10)
    say(f"sustained: making a table of {rows:,} rows in {FILES} files")
    connection = duckdb()
    base = fresh(WORK / "base")
    rows = make_table(connection, base, rows, PARTITIONS, FEED)
    commit.COMMITS = COMMITS
    paths = make_batches(connection, WORK / "batches", rows, size, PARTITIONS)
    target = copy_of(base, WORK / "table")
    before = files_in(target)
    found = measure([STRANDLINE, "bench", "merge", "--upkeep", "-q", "--table", target, "--key", "id", *paths])
    if found["rc"]:
        report.check("sustained upserts", "failed")
        return
    lines = [json.loads(line) for line in found["lines"]]
    commits, end = [line for line in lines if "batch" in line], lines[-1]
    found |= {"commits": commits, "end": end, "check": verdict(f"delta_scan('{target}')", expected(base, paths))}
    report.check("sustained upserts", found["check"])
    found |= written(target, before)
    found["rate"] = size * len(commits) / end["total_s"]
    found |= scans(connection, target)
    found["restarts"] = restarts(target, paths[-1])
    report.raw["sustained"] = found
    table(report, size, rows, found)
    for name in ("base", "table", "batches", "anew"):
        shutil.rmtree(WORK / name, ignore_errors=True)


def files_in(target):
    """Below the table, as its log calls them."""
    found = (path.relative_to(target) for path in target.rglob("*") if path.is_file())
    return {str(path) for path in found if path.parts[0] != "_delta_log"}


def written(target, before):
    """Bytes by who wrote them: units, compaction, deletion vectors, change data, log."""
    new = files_in(target) - before
    sizes = {name: os.path.getsize(target / name) for name in new if (target / name).is_file()}
    data = vectors = moved = feed = 0
    compacted = set()
    log = target / "_delta_log"
    for name in sorted(os.listdir(log)):
        if not name.endswith(".json"):
            continue
        actions = [json.loads(line) for line in open(log / name)]
        info = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        if info.get("operation") == "OPTIMIZE":
            compacted |= {a["add"]["path"] for a in actions if "add" in a}
    for name, bytes_ in sizes.items():
        if name.startswith("deletion_vector_"):
            vectors += bytes_
        elif name.startswith("_change_data/"):
            feed += bytes_
        elif name in compacted:
            moved += bytes_
        else:
            data += bytes_
    from deltalake import DeltaTable

    table = DeltaTable(str(target))
    return {
        "data_bytes": data,
        "vector_bytes": vectors,
        "feed_bytes": feed,
        "moved_bytes": moved,
        "log_bytes": sum(os.path.getsize(log / name) for name in os.listdir(log)),
        "live_files": len(table.file_uris()),
    }


def restarts(target, path):
    """From the start of the process to its first commit: nothing saved, saved, and with little memory for the index."""
    cache = fresh(WORK / "cache")
    found = []
    for what, more in (("nothing saved", []), ("index saved", []), ("index saved, 32 MiB for it", ["--index-mib", "32"])):
        run = measure([STRANDLINE, "bench", "merge", "-q", "--cache", cache, *more, "--table", target, "--key", "id", path])
        if run["rc"]:
            raise RuntimeError(f"restart, {what}: failed")
        lines = [json.loads(line) for line in run["lines"]]
        first = lines[0]["open_s"] + lines[1]["s"]
        saved = sum(file.stat().st_size for file in cache.iterdir())
        found.append({"what": what, "first_commit_s": first, "commit_s": lines[1]["s"], "index_bytes": lines[0]["index_bytes"], "saved_bytes": saved, "rss_mb": run["rss_mb"]})
    shutil.rmtree(cache)
    return found


def scans(connection, target):
    from deltalake import write_deltalake

    anew = fresh(WORK / "anew")
    shutil.rmtree(anew)
    rows = connection.execute(f"select * from delta_scan('{target}')").to_arrow_table()
    write_deltalake(str(anew), rows, target_file_size=64 << 20)
    del rows
    times = {"after": [], "anew": []}
    for n in range(SCANS + 1):
        for name, path in (("after", target), ("anew", anew)):
            began = time.perf_counter()
            connection.execute(SCAN.format(path)).fetchall()
            if n:
                times[name].append(time.perf_counter() - began)
    return {"scan_after_s": middle(times["after"]), "scan_anew_s": middle(times["anew"])}


def table(report, size, rows, found):
    more = (f", {PARTITIONS} partitions" if PARTITIONS else "") + (", change data feed" if FEED else "")
    print(f"**{len(found['commits'])} commits of {size:,} random updates into {rows:,} rows, upkeep on{more}**\n")
    walls = [c["s"] for c in found["commits"]]
    landed = [c["landed_s"] for c in found["commits"] if c["landed_s"]]
    edge = min(EDGE, len(walls) // 3)
    first, last = middle(walls[2 : 2 + edge]), middle(walls[-edge:])
    units = found["data_bytes"] or 1
    amplification = (found["data_bytes"] + found["moved_bytes"]) / units
    ratio = found["scan_after_s"] / found["scan_anew_s"]
    print_table(
        ["rows/s", "median ms", "p95", "max", f"first {edge}", f"last {edge}", "landings", "longest", "CPU-s per M", "peak RSS MB"],
        [[
            f"{found['rate']:,.0f}",
            *(f"{x * 1000:,.1f}" for x in (middle(walls), percentile(walls, 0.95), max(walls), first, last)),
            str(len(landed)),
            f"{max(landed, default=0) * 1000:,.1f}",
            short(found["cpu_s"] * 1e6 / (size * len(walls))),
            f"{found['rss_mb']:.0f} ({found['end']['index_bytes'] / 1e6:.0f} index)",
        ]],
    )
    # A vector is written whole for each file that a commit touches, up to a bit a row: that is what drifts.
    edges = [("first", found["commits"][2 : 2 + edge]), ("last", found["commits"][-edge:])]
    print_table(
        ["", "median ms", "files touched", "KB of vectors"],
        [[f"{name} {edge}", f"{middle([c['s'] for c in of]) * 1000:.1f}", f"{middle([c['files_touched'] for c in of]):.0f}", f"{middle([c['dv_bytes'] for c in of]) / 1e3:.0f}"] for name, of in edges],
    )
    print_table(
        ["MB by units", "by compaction", "vectors", "change data", "log", "amplification", "live files", "scan after s", "scan anew s", "ratio"],
        [[
            *(short(found[k] / 1e6) for k in ("data_bytes", "moved_bytes", "vector_bytes", "feed_bytes", "log_bytes")),
            f"{amplification:.2f} ({amplification + found['vector_bytes'] / units:.2f} with vectors)",
            str(found["live_files"]),
            f"{found['scan_after_s']:.2f}",
            f"{found['scan_anew_s']:.2f}",
            f"{ratio:.2f}",
        ]],
    )
    print_table(
        ["restart", "to the first commit s", "that commit ms", "index MB", "bytes a row", "saved MB", "peak RSS MB"],
        [
            [r["what"], f"{r['first_commit_s']:.2f}", f"{r['commit_s'] * 1000:.1f}", f"{r['index_bytes'] / 1e6:.0f}", f"{r['index_bytes'] / rows:.1f}", f"{r['saved_bytes'] / 1e6:.0f}", f"{r['rss_mb']:.0f}"]
            for r in found["restarts"]
        ],
    )
    for r, limit in zip(found["restarts"], (5, 1)):
        report.limit(f"restart into {rows:,} rows, {r['what']}", f"{r['first_commit_s']:.2f} s to the first commit", f"< {limit} s", r["first_commit_s"] < limit)
    report.limit("sustained upserts: rate", f"{found['rate']:,.0f} rows/s", "≥ 400,000 rows/s", found["rate"] >= 400_000)
    report.limit("sustained upserts: drift", f"{last / first:.2f} ×", "last 20 commits ≤ 1.25 × the first", last / first <= 1.25)
    report.limit("sustained upserts: write amplification", f"{amplification:.2f}", "≤ 4", amplification <= 4)
    report.limit("sustained upserts: scan after", f"{ratio:.2f} × anew", "≤ 1.2 ×", ratio <= 1.2)
    report.limit("sustained upserts: live files", str(found["live_files"]), f"≤ {FILES} + 64", found["live_files"] <= FILES + 64)
