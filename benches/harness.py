"""What every measurement needs: a PostgreSQL of our own, a stopwatch that stands outside, and a judge.

Processes are measured from outside. CPU seconds of a contestant are the kernel's account of the finished process
and the children that it waited for; those of the server are read from /proc until the backend ends, so up
to one sample (10 ms) is missing. Peak memory is VmHWM from /proc, not ru_maxrss: that one inherits the
peak of the process that started it.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

DIR = pathlib.Path(os.environ["BENCH_DIR"])
WORK = DIR / "work"
PG_BIN = pathlib.Path(os.environ["PG_BIN"])
STRANDLINE = os.environ["STRANDLINE"]
HERE = pathlib.Path(__file__).resolve().parent
DATABASE = "bench"
SCALE = float(os.environ.get("SCALE", "1"))
REPS = int(os.environ.get("REPS", "3"))
EVERY = 0.01  # seconds between two samples
TICKS = os.sysconf("SC_CLK_TCK")
TIMEOUT = 900

# The one table of all measurements, and its row number i.
COLUMNS = (
    "id bigint primary key, a int, b bigint, c double precision, d numeric(12,2), e text, f timestamptz, g boolean"
)
ROW = (
    "i, ((i * 7919) % 1000003)::int, i * 31, i * 1.5::float8, ((i % 100000) / 100.0)::numeric(12,2), md5(i::text), "
    "timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second', i % 2 = 0"
)


def scaled(n):
    return max(1000, int(n * SCALE))


def say(text):
    print(f"  {text}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------ PostgreSQL
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "wal_level": "logical",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "2GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "24GB",
    "checkpoint_timeout": "60min",
    "max_replication_slots": "32",
    "max_wal_senders": "32",
    "wal_sender_timeout": "10min",
    "track_commit_timestamp": "on",
    "autovacuum": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}


def as_postgres(command):
    if os.geteuid() != 0:
        return command
    user, group = os.environ["PG_USER"], os.environ["PG_GROUP"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *command]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """A cluster that lives as long as the measurement; settings that make the source as fast as it can be."""

    def __init__(self):
        self.home = DIR / "pg"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.home, os.environ["PG_USER"])
        data = self.home / "data"
        made = subprocess.run(
            as_postgres([PG_BIN / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]),
            cwd="/",
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr.strip()}")
        self.port = free_port()
        settings = {**SETTINGS, "unix_socket_directories": str(self.home)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.log = open(DIR / "postgres.log", "wb")
        self.process = subprocess.Popen(
            as_postgres([PG_BIN / "postgres", "-D", data, "-p", str(self.port), *options]),
            cwd="/",
            stdout=self.log,
            stderr=self.log,
        )
        self._until_it_answers()
        self.sql(f"create database {DATABASE}", "postgres")
        self.version = self.sql("show server_version").split()[0]
        self.session = Session(self)

    def _until_it_answers(self):
        deadline = time.time() + 60
        while time.time() < deadline and self.process.poll() is None:
            try:
                self.sql("select 1", "postgres")
                return
            except RuntimeError:
                time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL did not start; see {DIR}/postgres.log")

    def psql(self, database=DATABASE):
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database]
        return [str(PG_BIN / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *where]

    def sql(self, text, database=DATABASE):
        run = subprocess.run([*self.psql(database), "-c", text], capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr.strip())
        return run.stdout.strip()

    @property
    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/{DATABASE}"

    def table(self, name, rows=0):
        self.sql(f"drop table if exists {name}")
        self.sql(f"create table {name} ({COLUMNS})")
        if rows:
            self.sql(f"insert into {name} select {ROW} from generate_series(1::bigint, {rows}) i")
        self.sql(f"vacuum analyze {name}")

    def publication(self, name, table):
        self.sql(f"drop publication if exists {name}")
        self.sql(f"create publication {name} for table {table} with (publish_via_partition_root = true)")

    def drop_slot(self, name):
        """Waits for a walsender that still holds it."""
        for _ in range(200):
            try:
                self.sql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{name}'")
                return
            except RuntimeError:
                time.sleep(0.05)
        raise RuntimeError(f"slot {name} cannot be dropped")

    def copy_slot(self, old, new):
        self.drop_slot(new)
        self.sql(f"select pg_copy_logical_replication_slot('{old}', '{new}')")

    def digest(self, table):
        return tuple(int(x) for x in self.sql(f"select {DIGEST_PG} from {table}").split("|"))

    def children(self):
        """Its processes: {pid: title}."""
        pid = self.process.pid
        try:
            found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return [int(x) for x in found]

    def stop(self):
        self.session.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


class Session:
    """A psql that stays connected: one statement, one line of answer."""

    def __init__(self, postgres):
        self.process = subprocess.Popen(
            postgres.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )

    def ask(self, statement):
        self.process.stdin.write(f"{statement};\n\\echo .\n")
        lines = []
        for line in self.process.stdout:
            if line == ".\n":
                return "\n".join(lines)
            lines.append(line.rstrip("\n"))
        raise RuntimeError(f"{statement}: {lines}")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ------------------------------------------------------------------------------------------------ the judge
# Rows counted, and the sum of a hash of each: the same in SQL of PostgreSQL and of DuckDB, whatever the order.
# c holds multiples of 1.5, so that twice its value is an integer and spelled alike by both.
DIGEST_PG = (
    "count(*), coalesce(sum(('x' || left(md5(concat_ws('|', id, a, b, (c * 2)::bigint, d, e, "
    "(extract(epoch from f) * 1000000)::bigint, g::text)), 15))::bit(60)::bigint), 0)"
)
DIGEST_DUCKDB = (
    "count(*), coalesce(sum(('0x' || left(md5(concat_ws('|', id, a, b, (c * 2)::bigint, d, e, "
    "epoch_us(f), g::varchar)), 15))::bigint::hugeint), 0)"
)


def duckdb():
    sys.path.insert(0, str(HERE.parent / "tests" / "it"))
    import reader

    connection = reader.duckdb_connection()
    connection.execute("set timezone = 'UTC'")
    return connection


def digest(relation):
    """Of `delta_scan('DIR')`, `read_parquet([..])` or any other relation."""
    connection = duckdb()
    found = connection.execute(f"select {DIGEST_DUCKDB} from {relation}").fetchone()
    connection.close()
    return tuple(int(x) for x in found)


def verdict(relation, wanted):
    """"equal", or what is wrong."""
    try:
        found = digest(relation)
    except Exception as error:  # whatever it is, the line fails
        return f"unreadable: {str(error).splitlines()[0][:160]}"
    if found == wanted:
        return "equal"
    return f"{found[0]} rows, not {wanted[0]}" if found[0] != wanted[0] else "other values"


# ------------------------------------------------------------------------------------------------ the stopwatch
def cpu_of(pid):
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    except (OSError, IndexError):
        return None


def peak_of(pid):
    """MB."""
    try:
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1000 * 1.024
    except OSError:
        pass
    return 0.0


def descendants(pid):
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        found.append(parent)
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                todo += [int(x) for x in open(f"/proc/{parent}/task/{task}/children").read().split()]
        except OSError:
            pass
    return found


class Sampler(threading.Thread):
    """Watches a process, its children, and what the server starts for them, until told to stop."""

    def __init__(self, pid, postgres):
        super().__init__(daemon=True)
        self.pid, self.postgres = pid, postgres
        self.before = set(postgres.children()) if postgres else set()
        self.titles, self.server, self.peaks = {}, {}, {}
        self.done = threading.Event()

    def title(self, pid):
        """Given by the process itself, some time after its start."""
        if not self.titles.get(pid, "").startswith("postgres:"):
            try:
                self.titles[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                pass

    def run(self):
        while not self.done.is_set():
            for pid in descendants(self.pid):
                self.peaks[pid] = max(self.peaks.get(pid, 0.0), peak_of(pid))
            for pid in self.postgres.children() if self.postgres else ():
                if pid not in self.before:
                    cpu = cpu_of(pid)
                    if cpu is not None:
                        self.server[pid] = cpu
                        self.title(pid)
            self.done.wait(EVERY)

    def server_cpu(self, kind):
        return sum(cpu for pid, cpu in self.server.items() if kind in self.titles.get(pid, ""))


def measure(command, postgres=None, on_line=None, cwd=None, env=None):
    """Runs a command to its end. `on_line` is called with each line that it prints."""
    load = os.getloadavg()[0]
    errors = open(WORK / "stderr", "w+b")
    began = time.time()
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=cwd,
        env={**os.environ, "BEGAN": repr(began), **(env or {})},
        start_new_session=True,
    )
    sampler = Sampler(process.pid, postgres)
    sampler.start()
    timer = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    lines = []
    for line in process.stdout:
        lines.append(line.decode(errors="replace").rstrip("\n"))
        if on_line:
            on_line(lines[-1])
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.time() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    sampler.done.set()
    sampler.join()
    errors.seek(0)
    log = errors.read().decode(errors="replace")
    errors.close()
    found = {
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": sum(sampler.peaks.values()),
        "walsender_cpu_s": sampler.server_cpu("walsender"),
        "server_cpu_s": sampler.server_cpu("postgres:"),
        "rc": process.returncode,
        "load": load,
        "lines": lines,
    }
    if process.returncode:
        found["error"] = "\n".join(log.strip().splitlines()[-6:])
        say(f"failed with {process.returncode}: {found['error']}")
    return found


def own_clock(found):
    """For a contestant that waits after its work to see that nothing more comes: its own figure counts."""
    if not found["rc"]:
        found["wall_s"] = json.loads(found["lines"][-1])["s"]
    return found


# ------------------------------------------------------------------------------------------------ figures
def middle(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else None


def rate(changes, runs):
    """Median, least and most changes a second of the runs that were right."""
    rates = sorted(changes / r["wall_s"] for r in runs)
    return statistics.median(rates), rates[0], rates[-1]


def thousands(value):
    return "-" if value is None else f"{value:,.0f}"


def short(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def files_of(directory):
    """(files, bytes) below a directory."""
    sizes = [p.stat().st_size for p in pathlib.Path(directory).rglob("*") if p.is_file()]
    return len(sizes), sum(sizes)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def print_table(head, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for n, row in enumerate([head, *rows]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print("| " + " | ".join(cells) + " |")
        if n == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    print(flush=True)


class Report:
    """Lines of judgement, and everything raw for the file."""

    def __init__(self):
        self.raw, self.limits, self.wrong = {}, [], []

    def limit(self, what, found, wanted, is_met, aim=None):
        self.limits.append({"what": what, "found": found, "limit": wanted, "met": bool(is_met), "aim": aim})

    def check(self, what, says):
        if says != "equal":
            self.wrong.append(f"{what}: {says}")
        return says
