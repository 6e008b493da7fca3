"""One giant transaction: 10 M rows inserted and committed at once, behind a slot; every contestant drains its own copy.

With streaming the server sends it in blocks while it decodes; without, it writes it to disk first and reads it back at the
commit. strandline runs with `limits.memory: 256MiB`, and keeps what does not fit in files until the commit.
"""

import shutil

from harness import (
    REPS, ROW, STRANDLINE, WORK, fresh, measure, middle, print_table, say, scaled, short, thousands, verdict,
)
from catchup import command

CONTESTANTS = {
    "recv1": "pg_recvlogical, proto 1: whole, at the commit",
    "recv2": "pg_recvlogical, proto 2, streaming",
    "discard": "strandline to discard",
    "delta": "strandline to Delta (synced)",
}
MEMORY = 256
# Keys, places and what became of each row of the open unit, and the index after it (docs/BENCHMARKS.md).
BYTES_PER_ROW = 120


def ours(postgres, slot, end, sink):
    path = WORK / "giant.yaml"
    path.write_text(
        f'version: 1\nname: bench\nsource: {{type: postgres, url: "{postgres.url}", slot: {slot}, publication: p_ev}}\n'
        f'tables: {{include: ["public.ev"]}}\nsink: {sink}\nlimits: {{memory: {MEMORY}MiB, spill_dir: "{WORK}/spill"}}\n'
    )
    return [STRANDLINE, "run", "-q", "-c", path, "--no-snapshot", "--until-lsn", end]


def run_one(postgres, name, end, wanted):
    slot, lake = f"s_{name}", fresh(WORK / "lake")
    postgres.copy_slot("s0", slot)
    postgres.sql("checkpoint")
    if name == "discard":
        what = ours(postgres, slot, end, "{type: discard}")
    elif name == "delta":
        what = ours(postgres, slot, end, f'{{type: delta, uri: "file://{lake}"}}')
    else:
        what = command(name, postgres, slot, end, lake)
    found = measure(what, postgres)
    found["check"] = "failed" if found["rc"] else "equal"
    if name == "delta" and not found["rc"]:
        found["check"] = verdict(f"delta_scan('{lake}/public/ev')", wanted)
    postgres.drop_slot(slot)
    shutil.rmtree(lake, ignore_errors=True)
    return found


def run(postgres, report):
    rows = scaled(10_000_000)
    title = f"{rows:,} rows in one transaction, limits.memory {MEMORY} MiB"
    say(f"giant: writing {title}")
    postgres.drop_slot("s0")
    postgres.table("ev")
    postgres.publication("p_ev", "ev")
    postgres.sql("select pg_create_logical_replication_slot('s0', 'pgoutput')")
    postgres.sql(f"insert into ev select {ROW} from generate_series(1::bigint, {rows}) i")
    end = postgres.sql("select pg_current_wal_insert_lsn()")
    postgres.sql("create table if not exists tick (i int)")
    postgres.sql("insert into tick values (1)")
    wanted = postgres.digest("ev")
    runs = {name: [] for name in CONTESTANTS}
    for _ in range(REPS):
        for name in CONTESTANTS:
            found = run_one(postgres, name, end, wanted)
            runs[name].append(found)
            say(f"  {name:8} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  walsender {found['walsender_cpu_s']:6.2f}  "
                f"{found['rss_mb']:5.0f} MB  {found['check']}")
    postgres.drop_slot("s0")
    report.raw["giant"] = {"title": title, "changes": rows, "runs": runs}
    table(report, title, rows, runs)


def table(report, title, rows, runs):
    figures, lines = {}, []
    for name, text in CONTESTANTS.items():
        for found in runs[name]:
            report.check(f"giant, {text}", found["check"])
        right = [r for r in runs[name] if r["check"] == "equal"]
        if not right:
            lines.append([text, "FAILED", *["-"] * 4])
            continue
        per_m = 1e6 / rows
        f = figures[name] = {
            "wall": middle([r["wall_s"] for r in right]),
            "cpu": middle([r["cpu_s"] * per_m for r in right]),
            "walsender": middle([r["walsender_cpu_s"] * per_m for r in right]),
            "rss": max(r["rss_mb"] for r in right),
        }
        lines.append([text, short(f["wall"], 1), thousands(rows / f["wall"]), short(f["cpu"]), short(f["walsender"]), f"{f['rss']:.0f}"])
    print(f"**giant: {title}**\n")
    print_table(["", "wall s", "changes/s", "CPU-s per M", "walsender CPU-s per M", "peak RSS MB"], lines)
    if "recv1" in figures and "discard" in figures:
        ratio = figures["recv1"]["walsender"] / figures["discard"]["walsender"]
        report.limit("giant: walsender CPU, whole against in blocks", f"{ratio:.2f} ×", "≥ 1.5 ×", ratio >= 1.5)
    if "discard" in figures:
        rss = figures["discard"]["rss"]
        report.limit("giant: peak RSS to discard", f"{rss:.0f} MB", f"≤ {MEMORY} MiB", rss <= MEMORY * 1.048576)
    if "delta" in figures:
        rss, most = figures["delta"]["rss"], MEMORY * 1.048576 + rows * BYTES_PER_ROW / 1e6
        report.limit("giant: peak RSS to Delta", f"{rss:.0f} MB", f"≤ {MEMORY} MiB + {BYTES_PER_ROW} B a row", rss <= most)
