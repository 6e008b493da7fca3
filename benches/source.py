"""What the source pays: pgbench's transactions a second without a slot, and with strandline or pg_recvlogical behind it.

TPC-B-like, four clients, all on the same machine: the CPU that a reader takes is taken from the server, too. The reader
is caught up before the clock runs, and follows while it does.
"""

import os
import re
import signal
import subprocess
import time

from harness import DATABASE, PG_BIN, REPS, SCALE, STRANDLINE, WORK, fresh, middle, print_table, say, short, thousands

SECONDS = max(2, int(float(os.environ.get("SOURCE_SECONDS", "20")) * min(1, max(SCALE, 0.1))))
CLIENTS = 4
READERS = {
    "alone": "nobody reads",
    "recv": "pg_recvlogical, proto 2, binary, streaming",
    "discard": "strandline to discard",
    "delta": "strandline to Delta (synced)",
}
LEAST = 0.9


def pgbench(postgres, *options):
    where = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres"]
    run = subprocess.run([PG_BIN / "pgbench", *where, *options, DATABASE], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"pgbench: {run.stderr.strip()[-300:]}")
    return run.stdout


def start(name, postgres):
    """The reader, from now on; None: there is none."""
    if name == "alone":
        return None
    postgres.sql("select pg_create_logical_replication_slot('s_source', 'pgoutput')")
    if name == "recv":
        command = [PG_BIN / "pg_recvlogical", "-h", "127.0.0.1", "-p", postgres.port, "-U", "postgres", "-d", DATABASE]
        command += ["--slot", "s_source", "--start", "-F", "0", "-f", "/dev/null", "-o", "publication_names=p_source"]
        command += ["-o", "binary=true", "-o", "proto_version=2", "-o", "streaming=on", "-s", "1"]
    else:
        lake = fresh(WORK / "lake")
        sink = f'type: delta, uri: "file://{lake}"' if name == "delta" else "type: discard"
        path = WORK / "source.yaml"
        path.write_text(
            f'version: 1\nname: bench\nsource: {{type: postgres, url: "{postgres.url}", slot: s_source, publication: p_source}}\n'
            f'tables: {{include: ["public.pgbench_*"]}}\nsink: {{{sink}, commit: {{interval: 1s}}}}\n'
        )
        # The rows from before are not wanted: what is measured is the stream.
        command = [STRANDLINE, "run", "-q", "-c", path, "--no-snapshot"]
    with open(WORK / "source.log", "wb") as log:
        return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def caught_up(postgres, process):
    """Waits until what is written now is acknowledged."""
    postgres.session.ask("update pgbench_branches set bbalance = bbalance where bid = 1")
    target = int(postgres.session.ask("select pg_current_wal_insert_lsn() - '0/0'"))
    began = time.time()
    asked = "select coalesce(max(confirmed_flush_lsn) - '0/0', 0) from pg_replication_slots where slot_name = 's_source'"
    while int(postgres.session.ask(asked)) < target:
        if process.poll() is not None or time.time() - began > 300:
            raise RuntimeError(f"the reader does not acknowledge; see {WORK}/source.log")
        time.sleep(0.05)
    return time.time() - began


def one(postgres, name):
    process = start(name, postgres)
    behind = None
    try:
        if process:
            caught_up(postgres, process)
        out = pgbench(postgres, "-n", "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS))
        if process:
            behind = caught_up(postgres, process)
    finally:
        if process:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            postgres.drop_slot("s_source")
    return {"tps": float(re.search(r"tps = ([0-9.]+)", out)[1]), "behind_s": behind}


def run(postgres, report):
    say(f"source: pgbench for {SECONDS} s with {CLIENTS} clients, beside each reader")
    pgbench(postgres, "-i", "-q", "-s", str(max(1, int(20 * SCALE))))
    postgres.sql("drop publication if exists p_source")
    postgres.sql("create publication p_source for table pgbench_accounts, pgbench_branches, pgbench_tellers, pgbench_history "
                 "with (publish_via_partition_root = true)")
    runs = {name: [] for name in READERS}
    order = list(READERS)
    for repetition in range(REPS):
        at = repetition % len(order)
        for name in order[at:] + order[:at]:
            found = one(postgres, name)
            runs[name].append(found)
            say(f"  {name:8} {found['tps']:10,.0f} tps" + (f", caught up after {found['behind_s']:.2f} s" if found["behind_s"] is not None else ""))
    report.raw["source"] = runs
    alone = middle([r["tps"] for r in runs["alone"]])
    lines = []
    for name, text in READERS.items():
        rates = [r["tps"] for r in runs[name]]
        found = middle(rates)
        behind = middle([r["behind_s"] for r in runs[name]])
        lines.append([text, thousands(found), f"{min(rates):,.0f}–{max(rates):,.0f}", f"{found / alone:.0%}", short(behind)])
    print(f"**the source: pgbench (TPC-B-like), {CLIENTS} clients, {SECONDS} s**\n")
    print_table(["beside it", "tps", "min–max", "of nobody", "s behind at the end"], lines)
    peer = middle([r["tps"] for r in runs["recv"]])
    for name in ("discard", "delta"):
        share = middle([r["tps"] for r in runs[name]]) / peer
        report.limit(f"source: pgbench beside {READERS[name]}", f"{share:.0%} of that beside pg_recvlogical", f"≥ {LEAST:.0%}", share >= LEAST)
    for table in ("accounts", "branches", "tellers", "history"):
        postgres.sql(f"drop table if exists pgbench_{table}")
