"""Runs the measurements that are asked for, prints tables and limits, keeps everything raw as JSON.

Called by benches/run.sh. Ends with 1 when a result was wrong; a limit that was missed is printed, not an error,
because the machine may be busy.
"""

import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys

import catchup
import commit
import giant
import kafka
import latency
import mysql
import snapshot
import source
import sustained
import wires
from harness import DIR, PG_BIN, REPS, SCALE, STRANDLINE, WORK, Postgres, Report, fresh, print_table, say

ITEMS = {"catchup": catchup, "wires": wires, "snapshot": snapshot, "source": source, "commit": commit, "giant": giant, "sustained": sustained, "latency": latency, "kafka": kafka, "mysql": mysql}


class Tee:
    """What is printed is kept as Markdown beside the raw figures, to be recorded in docs/BENCHMARKS.md."""

    def __init__(self, path):
        self.screen, self.file = sys.stdout, open(path, "w")

    def write(self, text):
        self.screen.write(text)
        self.file.write(text)

    def flush(self):
        self.screen.flush()
        self.file.flush()


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {platform.release()}"


def about(postgres):
    version = subprocess.run([STRANDLINE, "version"], capture_output=True, text=True).stdout.strip()
    import deltalake
    import duckdb

    server = postgres.version if postgres else "not used"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine(),
        "load at start": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "strandline": f"{version}, {STRANDLINE}",
        "PostgreSQL": f"{server} ({PG_BIN}), fsync=off, shared_buffers 2GB",
        "peers": f"deltalake {deltalake.__version__}, DuckDB {duckdb.__version__}",
        "repetitions": str(REPS),
        "scale": f"{SCALE:g}" + (" (a smoke run: its figures mean nothing)" if SCALE < 1 else ""),
    }


def main():
    items = sys.argv[1:] or list(ITEMS)
    # So that the server is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.getloadavg()[0] > os.cpu_count() / 2:
        say("the machine is busy: times will be too long; believe the CPU seconds only")
    fresh(WORK)
    results = DIR / "results"
    results.mkdir(exist_ok=True)
    path = results / f"{datetime.datetime.now(datetime.timezone.utc):%Y%m%dT%H%M%SZ}"
    sys.stdout = Tee(path.with_suffix(".md"))
    report = Report()
    postgres = Postgres() if set(items) - {"commit", "sustained", "mysql"} else None
    try:
        facts = about(postgres)
        report.raw["about"] = facts
        for name, value in facts.items():
            print(f"- {name}: {value}")
        print(flush=True)
        for item in items:
            try:
                ITEMS[item].run(postgres, report)
            except Exception as error:  # the other items are still worth having
                say(f"{item} failed: {error}")
                report.wrong.append(f"{item}: {type(error).__name__}: {error}")
    finally:
        if postgres:
            postgres.stop()
        shutil.rmtree(WORK, ignore_errors=True)
    end(report, path.with_suffix(".json"))


def end(report, path):
    report.raw["limits"], report.raw["wrong"] = report.limits, report.wrong
    load = " ".join(f"{x:.2f}" for x in os.getloadavg())
    report.raw["about"]["load at end"] = load
    print(f"**limits** (load at the end: {load})\n")
    print_table(
        ["", "found", "limit", "", "aim"],
        [[x["what"], x["found"], x["limit"], "met" if x["met"] else "MISSED", x["aim"] or "-"] for x in report.limits],
    )
    path.write_text(json.dumps(report.raw, indent=1))
    print(f"raw figures: {path}, tables: {path.with_suffix('.md').name}")
    for line in report.wrong:
        print(f"WRONG: {line}")
    sys.exit(1 if report.wrong else 0)


main()
