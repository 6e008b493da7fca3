"""Latency when caught up: single-row commits, 50 a second, and the time until each is there.

Delta: from the commit's own time stamp (track_commit_timestamp) to the change of the log entry's inode, which is the
moment when the version gets its name. Discard: until the server has the acknowledgement, as a second session sees it.
"""

import json
import os
import signal
import subprocess
import threading
import time

from harness import REPS, ROW, SCALE, STRANDLINE, WORK, Session, fresh, percentile, print_table, say, verdict

PER_SECOND = 50
INTERVAL_MS = 100
SECONDS = float(os.environ.get("LATENCY_SECONDS", "20")) * min(1, max(SCALE, 0.1))


def config(postgres, sink):
    path = WORK / "latency.yaml"
    path.write_text(
        f'version: 1\nname: latency\nsource: {{type: postgres, url: "{postgres.url}", slot: s_lat, publication: p_lat}}\n'
        f'tables: {{include: ["public.lat"]}}\nsink: {{{sink}, commit: {{interval: {INTERVAL_MS}ms}}}}\n'
    )
    return path


def acknowledged(postgres):
    return postgres.session.ask("select coalesce(max(confirmed_flush_lsn) - '0/0', 0) from pg_replication_slots where slot_name = 's_lat'")


def wait_for(postgres, process, row):
    """Until strandline has acknowledged one row: it is caught up then."""
    postgres.session.ask(f"insert into lat select {ROW} from (select {row}::bigint as i) i")
    target = int(postgres.session.ask("select pg_current_wal_insert_lsn() - '0/0'"))
    deadline = time.time() + 60
    while int(acknowledged(postgres)) < target:
        if process.poll() is not None or time.time() > deadline:
            raise RuntimeError(f"strandline does not acknowledge; see {WORK}/latency.log")
        time.sleep(0.05)


class Watch(threading.Thread):
    """Asks for the slot's acknowledged position without a pause, in a session of its own."""

    def __init__(self, postgres):
        super().__init__(daemon=True)
        self.session, self.seen, self.done = Session(postgres), [], threading.Event()

    def run(self):
        query = (
            "select extract(epoch from clock_timestamp()), confirmed_flush_lsn - '0/0' from pg_replication_slots "
            "where slot_name = 's_lat'"
        )
        while not self.done.is_set():
            at, lsn = self.session.ask(query).split("|")
            if not self.seen or self.seen[-1][1] < int(lsn):
                self.seen.append((float(at), int(lsn)))
            self.done.wait(0.002)
        self.session.close()


def trickle(postgres, first, count):
    """Inserts rows, evenly. Returns [(id, end of the commit in the log)]."""
    began, rows = time.time(), []
    for n in range(count):
        time.sleep(max(0, began + n / PER_SECOND - time.time()))
        postgres.session.ask(f"insert into lat select {ROW} from (select {first + n}::bigint as i) i")
        rows.append((first + n, int(postgres.session.ask("select pg_current_wal_insert_lsn() - '0/0'"))))
    return rows


def visible(table):
    """{id: when its version got its name} by the log and the data files that it adds."""
    import pyarrow.parquet as parquet

    found = {}
    for entry in sorted((table / "_delta_log").glob("*.json")):
        at = entry.stat().st_ctime
        for line in entry.read_text().splitlines():
            add = json.loads(line).get("add")
            if add and (table / add["path"]).exists():
                for row in parquet.read_table(table / add["path"], columns=["id"])["id"].to_pylist():
                    found.setdefault(row, at)
    return found


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def one(postgres, kind):
    lake = fresh(WORK / "lake")
    sink = f'type: delta, uri: "file://{lake}"' if kind == "delta" else "type: discard"
    postgres.drop_slot("s_lat")
    postgres.table("lat")
    postgres.publication("p_lat", "lat")
    # Decoding sees only flushed log; otherwise the server's WAL writer would be measured, which comes by every 200 ms.
    postgres.session.ask("set synchronous_commit = on")
    with open(WORK / "latency.log", "wb") as log:
        process = subprocess.Popen([STRANDLINE, "run", "-q", "-c", config(postgres, sink)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.time() + 60
        while acknowledged(postgres) == "0" and time.time() < deadline and process.poll() is None:
            time.sleep(0.05)
        wait_for(postgres, process, 1)
        watch = Watch(postgres)
        watch.start()
        rows = trickle(postgres, 2, int(SECONDS * PER_SECOND))
        wait_for(postgres, process, len(rows) + 2)
        watch.done.set()
        watch.join()
    finally:
        stop(process)
    stamps = postgres.sql("select id, extract(epoch from pg_xact_commit_timestamp(xmin)) from lat")
    committed = {int(i): float(at) for i, at in (line.split("|") for line in stamps.splitlines())}
    if kind == "delta":
        check = verdict(f"delta_scan('{lake}/public/lat')", postgres.digest("lat"))
        seen = visible(lake / "public" / "lat")
        waits = [seen[i] - committed[i] for i, _ in rows if i in seen]
    else:
        waits = [at - committed[i] for i, lsn in rows if (at := next((t for t, l in watch.seen if l >= lsn), None))]
        check = "equal"
    if check == "equal" and len(waits) != len(rows):
        check = f"{len(rows) - len(waits)} of {len(rows)} rows never seen"
    if process.returncode != 0 and check == "equal":
        check = f"ended with {process.returncode}"
    postgres.drop_slot("s_lat")
    say(f"  {kind:8} p50 {percentile(waits, 0.5) or 0:.3f} s  p99 {percentile(waits, 0.99) or 0:.3f} s of {len(waits)} rows  {check}")
    return {"waits": waits, "check": check}


def run(postgres, report):
    say(f"latency: {PER_SECOND} rows a second for {SECONDS:.0f} s, commit interval {INTERVAL_MS} ms")
    kinds = {"delta": "commit to visible Delta version (synced)", "discard": "commit to acknowledged at the server (discard)"}
    lines = []
    for kind, text in kinds.items():
        runs = [one(postgres, kind) for _ in range(min(REPS, 2))]
        report.raw[f"latency/{kind}"] = runs
        for r in runs:
            report.check(f"latency, {text}", r["check"])
        waits = [w for r in runs if r["check"] == "equal" for w in r["waits"]]
        if not waits:
            lines.append([text, "FAILED", *["-"] * 4])
            continue
        half, most = percentile(waits, 0.5), percentile(waits, 0.99)
        lines.append([text, len(waits), *(f"{percentile(waits, s) * 1000:.0f}" for s in (0.5, 0.95, 0.99)), f"{max(waits) * 1000:.0f}"])
        if kind == "delta":
            aim = f"p99 ≤ 1.5 × the interval: {most * 1000:.0f} ms"
            report.limit(f"latency: {text}: p50", f"{half * 1000:.0f} ms", f"≤ the commit interval ({INTERVAL_MS} ms)", half * 1000 <= INTERVAL_MS, aim)
    print(f"**latency when caught up: {PER_SECOND} single-row commits a second, commit interval {INTERVAL_MS} ms**\n")
    print_table(["", "rows", "p50 ms", "p95 ms", "p99 ms", "max ms"], lines)
