"""What one commit of updates costs, against the size of the table: strandline's merge beside delta-rs' MERGE.

Two tables of the same number of files, made by delta-rs. The same batches of random existing keys go to both
writers, each on its own copy. The time of a commit is what the writer says: from the rows in memory to the commit,
strandline's with sync. What the table holds in the end is compared by DuckDB.
"""

import json
import os
import random
import shutil
import sys

from harness import HERE, STRANDLINE, WORK, digest, duckdb, files_of, fresh, measure, middle, percentile, print_table, say, scaled, short, thousands, verdict

COMMITS = int(os.environ.get("COMMITS", "22"))
WARM_UP = 2
PEER_COMMITS = 3
FILES = 20
RSS_LIMIT = 150
# Beyond so many rows only strandline is measured (delta-rs rewrites the table in every commit), with a bounded index.
PEER_ROWS = 20_000_000
INDEX_MIB = 256
# Row i, changed `bump` times.
COLUMNS = (
    "i as id, ((i * 7919) % 1000003 + {bump})::integer as a, i * 31 as b, i * 1.5::double + 1.5 * {bump} as c, "
    "((i % 100000) / 100 + {bump})::decimal(12,2) as d, md5((i * 31 + {bump})::varchar) as e, "
    "timestamptz '2026-01-01 00:00:00+00' + to_seconds(i + {bump}) as f, (i + {bump}) % 2 = 0 as g"
)


def make_table(connection, path, rows, partitions=0, feed=False):
    """In as many files as `FILES`; with partitions, a twentieth of them in each partition."""
    from deltalake import DeltaTable, write_deltalake

    files = max(1, FILES // 20) if partitions else FILES
    per_file = rows // files
    more = {"partition_by": ["p"]} if partitions else {}
    if feed:
        more["configuration"] = {"delta.enableChangeDataFeed": "true"}
    for n in range(files):
        source = f"select i::bigint as i from range({n * per_file}, {(n + 1) * per_file}) t(i)"
        arrow = connection.execute(f"select {columns(0, partitions)} from ({source})").to_arrow_table()
        write_deltalake(str(path), arrow, mode="append", target_file_size=1 << 30, **more)
    found = len(DeltaTable(str(path)).file_uris())
    if found != files * max(1, partitions):
        raise RuntimeError(f"the table has {found} files, not {files * max(1, partitions)}")
    return per_file * files


def columns(bump, partitions=0):
    return COLUMNS.format(bump=bump) + (f", (i % {partitions})::integer as p" if partitions else "")


def make_batches(connection, directory, rows, size, partitions=0):
    directory = fresh(directory)
    paths = []
    for n in range(COMMITS):
        keys = sorted(random.Random(n).sample(range(rows), size))
        listed = f"select unnest({keys}::bigint[]) as i"
        paths.append(directory / f"{n:04}.parquet")
        connection.execute(f"copy (select {columns(n + 1, partitions)} from ({listed})) to '{paths[-1]}' (format parquet)")
    return paths


def copy_of(table, to):
    """Data files are never changed in place, so they may be links; the log is copied."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(table, to, copy_function=lambda a, b: (os.link if a.endswith(".parquet") else shutil.copy2)(a, b))
    return to


def expected(table, paths):
    """The base with the last version of each key that is in the batches."""
    listed = ", ".join(f"'{path}'" for path in paths)
    latest = f"select * exclude (filename) from read_parquet([{listed}], filename = true) qualify row_number() over (partition by id order by filename desc) = 1"
    base = f"select * from delta_scan('{table}')"
    return digest(f"({base} anti join ({latest}) using (id) union all by name {latest})")


def steps(found):
    lines = [json.loads(line) for line in found["lines"]]
    return lines[0], [line for line in lines if "batch" in line]


def run(postgres, report):
    del postgres
    size = min(10_000, scaled(1_000_000) // 10)
    figures = {}
    for rows in (scaled(1_000_000), scaled(10_000_000)):
        say(f"commit: making a table of {rows:,} rows in {FILES} files")
        connection = duckdb()
        base = fresh(WORK / "base")
        rows = make_table(connection, base, rows)
        paths = make_batches(connection, WORK / "batches", rows, size)
        connection.close()
        figures[rows] = {"ours": ours(base, paths, rows > PEER_ROWS)}
        if rows <= PEER_ROWS:
            figures[rows]["peer"] = peer(base, paths)
        shutil.rmtree(base)
        report.raw[f"commit/{rows}"] = figures[rows]
    shutil.rmtree(WORK / "table", ignore_errors=True)
    shutil.rmtree(WORK / "batches", ignore_errors=True)
    table(report, size, figures)


def ours(base, paths, is_bounded=False):
    target = copy_of(base, WORK / "table")
    before = files_of(target)
    bound = ["--index-mib", INDEX_MIB, "--cache", fresh(WORK / "cache")] if is_bounded else []
    found = measure([STRANDLINE, "bench", "merge", "-q", *bound, "--table", target, "--key", "id", *paths])
    if found["rc"]:
        found["check"] = "failed"
        return found
    ready, commits = steps(found)
    after = files_of(target)
    found["check"] = verdict(f"delta_scan('{target}')", expected(base, paths))
    found |= {"ready": ready, "commits": commits, "bytes_per_commit": (after[1] - before[1]) / len(commits)}
    found["live_files"] = live_files(target)
    walls = [c["s"] for c in commits[WARM_UP:]]
    say(f"  strandline: median {middle(walls) * 1000:.1f} ms of {len(walls)} commits; {found['check']}")
    return found


def peer(base, paths):
    target = copy_of(base, WORK / "table")
    used = paths[:PEER_COMMITS]
    before = files_of(target)
    found = measure([sys.executable, HERE / "peer_merge.py", target, *used])
    if found["rc"]:
        found["check"] = "failed"
        return found
    ready, commits = steps(found)
    after = files_of(target)
    found["check"] = verdict(f"delta_scan('{target}')", expected(base, used))
    found |= {"ready": ready, "commits": commits, "bytes_per_commit": (after[1] - before[1]) / len(commits)}
    say(f"  delta-rs: median {middle([c['s'] for c in commits]):.2f} s of {len(commits)} commits; {found['check']}")
    return found


def live_files(target):
    from deltalake import DeltaTable

    return len(DeltaTable(str(target)).file_uris())


def table(report, size, figures):
    print(f"**one commit of {size:,} random-key updates**\n")
    lines = []
    for rows, found in figures.items():
        for who, name in (("ours", "strandline (synced)"), ("peer", "delta-rs MERGE")):
            f = found.get(who)
            if f is None:
                continue
            report.check(f"commit, {name}, {rows:,} rows", f["check"])
            if f["check"] != "equal":
                lines.append([f"{name}, {rows:,} rows", "FAILED", *["-"] * 8])
                continue
            commits = f["commits"][WARM_UP:] if who == "ours" else f["commits"]
            walls = [c["s"] for c in commits]
            f["median_s"] = middle(walls)
            changes = size * len(f["commits"])
            lines.append([
                f"{name}, {rows:,} rows",
                f"{f['median_s'] * 1000:,.1f}",
                f"{min(walls) * 1000:,.1f}–{max(walls) * 1000:,.1f}",
                f"{percentile(walls, 0.95) * 1000:,.1f}",
                f"{len(walls)}",
                thousands(middle([c.get("files_touched") for c in commits])),
                thousands(middle([c.get("dv_bytes") for c in commits])),
                short(f["bytes_per_commit"] / 1e6),
                short(f["cpu_s"] * 1e6 / changes),
                f"{f['rss_mb']:.0f}" + (f" ({f['ready']['index_bytes'] / 1e6:.0f} index)" if "index_bytes" in f["ready"] else ""),
            ])
    head = ["", "median ms", "min–max", "p95", "commits", "files touched", "bytes of DVs", "MB written", "CPU-s per M", "peak RSS MB"]
    print_table(head, lines)
    judge(report, figures)


def judge(report, figures):
    medians = {}
    for rows, found in figures.items():
        mine, other = found["ours"].get("median_s"), found.get("peer", {}).get("median_s")
        medians[rows] = mine
        what = f"commit into {rows:,} rows"
        report.limit(what, "failed" if mine is None else f"{mine * 1000:.1f} ms", "≤ 50 ms with sync", mine is not None and mine <= 0.05)
        if mine and other:
            report.limit(f"{what}: beside delta-rs MERGE", f"{other / mine:.0f} ×", "≥ 100 × faster", other / mine >= 100)
        if mine and rows > PEER_ROWS:
            report.limit(f"{what}: with {INDEX_MIB} MiB for the index", f"{mine * 1000:.1f} ms, {found['ours']['rss_mb']:.0f} MB", "≤ 100 ms, < 512 MiB", mine <= 0.1 and found["ours"]["rss_mb"] < 537)
        elif mine:
            index = found["ours"]["ready"].get("index_bytes", 0) / 1e6
            rss = found["ours"]["rss_mb"]
            report.limit(f"{what}: peak RSS", f"{rss:.0f} MB", f"≤ {RSS_LIMIT} MB + index ({index:.0f} MB)", rss <= RSS_LIMIT + index)
    if all(medians.values()):
        low, high = min(medians.values()), max(medians.values())
        files = " and ".join(str(found["ours"]["live_files"]) for found in figures.values())
        report.limit("commit: the two sizes of table", f"{high / low - 1:.0%} apart, {files} files", "medians within 25 %, same number of files", high / low <= 1.25 and len({f["ours"]["live_files"] for f in figures.values()}) == 1)
