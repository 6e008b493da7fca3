"""Catch-up: a backlog is written once behind a slot; every contestant drains its own copy of that slot.

So all decode the same WAL from the same position, in turns, several times.
"""

import shutil
import sys

from harness import (
    DATABASE, HERE, PG_BIN, REPS, ROW, STRANDLINE, WORK, files_of, fresh, measure, middle, own_clock, print_table, rate,
    say, scaled, short, thousands, verdict,
)

PER_TXN = 100
RSS_LIMIT = 150
# Bytes of the index for one key of up to 8 bytes, as an upper bound; `commit` measures it.
INDEX_BYTES = 36
CONTESTANTS = {
    "nap": "ceiling: socket read in bursts by naps, thrown away",
    "lowat": "ceiling: the same by SO_RCVLOWAT",
    "recv1": "pg_recvlogical, proto 1, binary",
    "recv2": "pg_recvlogical, proto 2, binary, streaming",
    "discard": "strandline to discard (decode only)",
    "delta": "strandline to Delta (synced)",
}


CEILINGS, PEERS = ("nap", "lowat"), ("recv1", "recv2")


def in_transactions(body, count, per_txn):
    """One statement that runs `body` for k = 0 .. count/per_txn - 1, each in a transaction of its own."""
    return f"do $$ begin for k in 0 .. {count // per_txn - 1} loop {body}; commit; end loop; end $$"


def workloads():
    n, single = scaled(1_000_000) // PER_TXN * PER_TXN, scaled(200_000)
    # Keys in an order that is not that of the table: a multiplication by a prime, modulo the rows, is a permutation.
    keys = f"select 1 + ((k * {PER_TXN} + j) * 999983) % {n} from generate_series(0::bigint, {PER_TXN - 1}) j"
    update = f"update ev set a = a + 1, c = c + 1.5, d = d + 0.01, f = f + interval '1 second' where id in ({keys})"
    insert = f"insert into ev select {ROW} from generate_series(1 + k::bigint * {PER_TXN}, {PER_TXN} + k::bigint * {PER_TXN}) i"
    one = f"insert into ev select {ROW} from (select k::bigint + 1 as i) i"
    return {
        "updates": (f"{n:,} updates in transactions of {PER_TXN}, table of {n:,} rows", n, n, in_transactions(update, n, PER_TXN)),
        "inserts": (f"{n:,} inserts in transactions of {PER_TXN}", n, 0, in_transactions(insert, n, PER_TXN)),
        "single": (f"{single:,} single-row transactions", single, 0, in_transactions(one, single, 1)),
    }


def config(postgres, slot):
    path = WORK / "discard.yaml"
    path.write_text(
        f'version: 1\nname: bench\nsource: {{type: postgres, url: "{postgres.url}", slot: {slot}, publication: p_ev}}\n'
        'tables: {include: ["public.ev"]}\nsink: {type: discard}\n'
    )
    return path


def strandline(postgres, slot, lake):
    return [STRANDLINE, "run", "-q", postgres.url, f"file://{lake}", "--slot", slot, "--publication", "p_ev", "--table", "public.ev"]


def command(name, postgres, slot, end, lake):
    if name in CEILINGS:
        return [sys.executable, HERE / "burst.py", name, postgres.port, DATABASE, slot, "p_ev"]
    if name == "discard":
        return [STRANDLINE, "run", "-q", "-c", config(postgres, slot), "--no-snapshot", "--until-lsn", end]
    if name == "delta":
        return [*strandline(postgres, slot, lake), "--no-snapshot", "--until-lsn", end]
    receive = [PG_BIN / "pg_recvlogical", "-h", "127.0.0.1", "-p", postgres.port, "-U", "postgres", "-d", DATABASE]
    receive += ["--slot", slot, "--start", "--endpos", end, "-F", "0", "-f", "/dev/null"]
    receive += ["-o", "publication_names=p_ev", "-o", "binary=true"]
    receive += ["-o", "proto_version=1"] if name == "recv1" else ["-o", "proto_version=2", "-o", "streaming=on"]
    return receive


def prepare(postgres, rows, write):
    """The table, slot s0, the lake as it is at s0's position, the backlog. Returns where it ends."""
    postgres.drop_slot("s0")
    postgres.table("ev", rows)
    postgres.publication("p_ev", "ev")
    lake = fresh(WORK / "lake-before")
    if rows:
        made = measure([*strandline(postgres, "s0", lake), "--snapshot-only"])
        if made["rc"]:
            raise RuntimeError(f"strandline cannot copy the table: {made['error']}")
    else:
        postgres.sql("select pg_create_logical_replication_slot('s0', 'pgoutput')")
    postgres.sql(write)
    end = postgres.sql("select pg_current_wal_insert_lsn()")
    # Something behind it, so that everybody is told that the end has been passed.
    postgres.sql("create table if not exists tick (i int)")
    postgres.sql("insert into tick values (1)")
    return lake, end


def run_one(postgres, name, before, end, wanted):
    slot = f"s_{name}"
    postgres.copy_slot("s0", slot)
    lake = WORK / "lake"
    if name == "delta":
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(before, lake)
    postgres.sql("checkpoint")
    found = measure(command(name, postgres, slot, end, lake), postgres)
    if name in CEILINGS:
        found = own_clock(found)
    found["check"] = "failed" if found["rc"] else check(postgres, name, slot, end, lake, wanted)
    if name == "delta" and not found["rc"]:
        found["files"], found["bytes"] = files_of(lake)
        found["commits"] = len(list((lake / "public" / "ev" / "_delta_log").glob("*.json")))
    postgres.drop_slot(slot)
    return found


def check(postgres, name, slot, end, lake, wanted):
    if name == "delta":
        return verdict(f"delta_scan('{lake}/public/ev')", wanted)
    if name == "discard":
        passed = postgres.sql(f"select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = '{slot}'")
        return "equal" if passed == "t" else "the slot was not acknowledged up to the end"
    return "equal"


def run(postgres, report):
    for work, (title, changes, rows, write) in workloads().items():
        say(f"catch-up: writing the backlog: {title}")
        before, end = prepare(postgres, rows, write)
        wanted = postgres.digest("ev")
        runs = {name: [] for name in CONTESTANTS}
        order = list(CONTESTANTS)
        for repetition in range(REPS):
            for name in order[repetition % len(order) :] + order[: repetition % len(order)]:
                found = run_one(postgres, name, before, end, wanted)
                runs[name].append(found)
                say(f"  {name:8} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  walsender {found['walsender_cpu_s']:6.2f}  {found['check']}")
        postgres.drop_slot("s0")
        report.raw[f"catchup/{work}"] = {"title": title, "changes": changes, "runs": runs}
        table(report, work, title, changes, rows, runs)


def table(report, work, title, changes, rows, runs):
    figures = {}
    for name, found in runs.items():
        right = [r for r in found if r["check"] == "equal"]
        for r in found:
            report.check(f"catch-up, {work}, {CONTESTANTS[name]}", r["check"])
        if right:
            per_m = 1e6 / changes
            figures[name] = {
                "rate": rate(changes, right),
                "cpu": middle([r["cpu_s"] * per_m for r in right]),
                "walsender": middle([r["walsender_cpu_s"] * per_m for r in right]),
                "rss": max(r["rss_mb"] for r in right),
                "runs": right,
            }
    # The quicker one of each is the one to be held against.
    peer, ceiling = best(PEERS, figures), best(CEILINGS, figures)
    lines = []
    for name, text in CONTESTANTS.items():
        if name not in figures:
            lines.append([text, "FAILED", *["-"] * 7])
            continue
        f = figures[name]
        files = "-"
        if name == "delta":
            last = f["runs"][-1]
            files = f"{last['commits']} / {last['files']} / {last['bytes'] / 1e6:.0f}"
        lines.append([
            text,
            thousands(f["rate"][0]),
            f"{f['rate'][1]:,.0f}–{f['rate'][2]:,.0f}",
            short(f["rate"][0] / figures[peer]["rate"][0]) if peer else "-",
            f"{f['rate'][0] / figures[ceiling]['rate'][0]:.0%}" if ceiling else "-",
            short(f["cpu"]),
            short(f["walsender"]),
            f"{f['rss']:.0f}",
            files,
        ])
    print(f"**catch-up: {title}**\n")
    head = ["", "changes/s", "min–max", "× pg_recvlogical", "of the ceiling", "CPU-s per M", "walsender CPU-s per M", "peak RSS MB", "commits / files / MB"]
    print_table(head, lines)
    judge(report, title, rows, changes, figures, peer, ceiling)


def best(names, figures):
    return max((n for n in names if n in figures), key=lambda n: figures[n]["rate"][0], default=None)


def judge(report, title, rows, changes, figures, peer, ceiling):
    if peer is None:
        return
    base = figures[peer]
    for name, least in (("discard", 1.8), ("delta", 1.0)):
        if name not in figures:
            report.limit(f"{title}: {CONTESTANTS[name]}", "failed", f"≥ {least} × pg_recvlogical", False)
            continue
        f = figures[name]
        ratio = f["rate"][0] / base["rate"][0]
        aim = None
        if name == "delta" and ceiling:
            aim = f"75 % of the ceiling: {f['rate'][0] / figures[ceiling]['rate'][0]:.0%}"
        report.limit(f"{title}: {CONTESTANTS[name]}", f"{ratio:.2f} ×", f"≥ {least} × pg_recvlogical", ratio >= least, aim)
        keys = max(rows, changes) if name == "delta" else 0
        index = keys * INDEX_BYTES / 1e6
        report.limit(
            f"{title}: {CONTESTANTS[name]}: peak RSS",
            f"{f['rss']:.0f} MB",
            f"≤ {RSS_LIMIT} MB + index" + (f" ({index:.0f} MB at {INDEX_BYTES} bytes a key)" if keys else ""),
            f["rss"] <= RSS_LIMIT + index,
        )
    if "discard" in figures and base["walsender"]:
        share = figures["discard"]["walsender"] / base["walsender"]
        report.limit(f"{title}: walsender's CPU under strandline to discard", f"{share:.2f} × that under pg_recvlogical", "≤ 0.5 × (halved)", share <= 0.5)
