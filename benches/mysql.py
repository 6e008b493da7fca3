"""MySQL: the binary log drained beside `mysqlbinlog --raw`, and the first copy beside the server's own ways out.

A server of our own (the one of the tests, scripts/install.sh mysql), as fast as it can be. A backlog is written once into
one file of the log; every contestant reads that file. `mysqlbinlog --raw` writes the bytes as they come and decodes nothing.

strandline to discard keeps no position, so it is started before the backlog is written, held with SIGSTOP while it is
written, and its clock runs from SIGCONT to its end.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from harness import (
    DIR, REPS, STRANDLINE, WORK, cpu_of, duckdb, files_of, fresh, free_port, measure, middle, peak_of, print_table,
    rate, say, scaled, short, thousands,
)

HOME = pathlib.Path(os.environ["MYSQL_HOME"])
LOADER = [
    HOME / "usr/lib64/ld-linux-x86-64.so.2", "--library-path",
    f"{HOME}/usr/lib/x86_64-linux-gnu:{HOME}/lib/x86_64-linux-gnu",
]
PER_TXN = 100
RSS_LIMIT = 150
INDEX_BYTES = 36
COLUMNS = (
    "id bigint primary key, a int, b bigint, c double, d decimal(12,2), e varchar(64), f timestamp(6) null, g boolean"
)
ROW = (
    "i, (i * 7919) % 1000003, i * 31, i * 1.5e0, cast((i % 100000) / 100.0 as decimal(12,2)), left(sha2(i, 224), 32), "
    "timestamp'2026-01-01 00:00:00' + interval i second, i % 2 = 0"
)
# As harness.DIGEST_PG, in SQL of MySQL, which has no md5 any more.
DIGEST = (
    "select count(*), coalesce(sum(cast(conv(left(sha2(concat_ws('|', id, a, b, cast(c * 2 as signed), d, e, "
    "cast(unix_timestamp(f) * 1000000 as signed), g), 256), 15), 16, 10) as unsigned)), 0) from "
)
DIGEST_DUCKDB = (
    "count(*), coalesce(sum(('0x' || left(sha256(concat_ws('|', id, a, b, (c * 2)::bigint, d, e, "
    "epoch_us(f), g::int)), 15))::bigint::hugeint), 0)"
)
SETTINGS = [
    "--mysqlx=OFF", "--server-id=1", "--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON",
    "--binlog-row-metadata=FULL", "--max-binlog-size=1G", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=OFF", "--innodb-buffer-pool-size=2G", "--innodb-redo-log-capacity=1G", "--skip-name-resolve",
    "--performance-schema=OFF", "--secure-file-priv=", "--default-time-zone=+00:00", "--bind-address=127.0.0.1",
]
USER = "create user bench@'%' identified by 'bench'; grant all on *.* to bench@'%'; create database bench;"
CONTESTANTS = {
    "raw": "limit: mysqlbinlog --raw",
    "discard": "strandline to discard (decode only)",
    "delta": "strandline to Delta (synced)",
}
COPIES = {
    "quick": "limit: mysql --quick to nowhere",
    "outfile": "SELECT … INTO OUTFILE (the server's own disk)",
    "strandline": "strandline --snapshot-only to Delta (synced)",
}


def program(name):
    return [*map(str, LOADER), str(HOME / name)]


class Mysql:
    """A server that lives as long as the measurement."""

    def __init__(self):
        self.home = fresh(DIR / "mysql")
        self.port = free_port()
        share = HOME / "usr/share/mysql"
        self.base = [
            *program("usr/sbin/mysqld"), "--no-defaults", f"--datadir={self.home}/data", f"--lc-messages-dir={share}",
            f"--character-sets-dir={share}/charsets", f"--plugin-dir={HOME}/usr/lib/mysql/plugin",
        ]
        if os.geteuid() == 0:
            self.base.append("--user=root")
        self.log = open(DIR / "mysql.log", "wb")
        made = subprocess.run([*self.base, "--initialize-insecure"], stdout=self.log, stderr=self.log, cwd="/")
        if made.returncode:
            raise RuntimeError(f"mysqld --initialize-insecure failed; see {DIR}/mysql.log")
        users = self.home / "users.sql"
        users.write_text(USER.replace("; ", ";\n"))
        more = [f"--port={self.port}", f"--socket={self.home}/my.sock", f"--pid-file={self.home}/my.pid", f"--init-file={users}"]
        self.process = subprocess.Popen(
            [*self.base, *SETTINGS, *more, f"--tmpdir={self.home}"], stdout=self.log, stderr=self.log, cwd="/"
        )
        self._until_it_answers()
        self.version = self.sql("select version()")
        self.sql("create table nums (j int primary key)")
        self.sql("insert into nums with recursive r as (select 0 j union all select j + 1 from r where j < 99) select j from r")

    def _until_it_answers(self):
        deadline = time.time() + 90
        while time.time() < deadline and self.process.poll() is None:
            try:
                self.sql("select 1")
                return
            except RuntimeError:
                time.sleep(0.1)
        raise RuntimeError(f"MySQL did not start; see {DIR}/mysql.log")

    def client(self, name="usr/bin/mysql"):
        return [*program(name), "--no-defaults", f"--socket={self.home}/my.sock", "-uroot"]

    def sql(self, text):
        run = subprocess.run(
            [*self.client(), "-NB", "bench", "-e", text], capture_output=True, text=True, cwd="/"
        )
        if run.returncode:
            raise RuntimeError(run.stderr.strip())
        return run.stdout.strip()

    @property
    def url(self):
        return f"mysql://bench@127.0.0.1:{self.port}/bench"

    def table(self, name, rows=0):
        self.sql(f"drop table if exists {name}")
        self.sql(f"create table {name} ({COLUMNS})")
        if rows:
            self.sql("set session sql_log_bin = 0;\nset session unique_checks = 0;\n" + in_transactions(
                f"insert into {name} select {ROW} from (select 1 + k * 10000 + x.j * 100 + y.j as i from nums x, nums y) s "
                f"where i <= {rows}", -(-rows // 10000)))
        self.sql(f"analyze table {name}")

    def digest(self, table):
        return tuple(int(float(x)) if "e" in x else int(x) for x in self.sql(DIGEST + table).split("\t"))

    def log_end(self):
        """(file, number, offset)."""
        file, offset = self.sql("show binary log status").split("\t")[:2]
        return file, int(file.rsplit(".", 1)[1]), int(offset)

    def readers(self):
        """Connections that are sent the log, and wait at its end."""
        text = self.sql("select count(*) from information_schema.processlist where command like 'Binlog Dump%' and state like '%has sent all%'")
        return int(text)

    def cpu(self):
        return cpu_of(self.process.pid) or 0.0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


def in_transactions(body, count):
    """Statements that run `body` for k = 0 .. count - 1, each in a transaction of its own."""
    return (
        "drop procedure if exists work;\ndelimiter $$\n"
        f"create procedure work() begin declare k bigint default 0; while k < {count} do {body}; set k = k + 1; end while; end$$\n"
        "delimiter ;\ncall work()"
    )


def workloads():
    n = scaled(1_000_000) // PER_TXN * PER_TXN
    update = (
        f"update ev join nums on ev.id = 1 + ((k * {PER_TXN} + nums.j) * 999983) % {n} "
        "set a = a + 1, c = c + 1.5, d = d + 0.01, f = f + interval 1 second"
    )
    insert = f"insert into ev select {ROW} from (select 1 + k * {PER_TXN} + j as i from nums) s"
    return {
        "updates": (f"{n:,} updates in transactions of {PER_TXN}, table of {n:,} rows", n, n, in_transactions(update, n // PER_TXN)),
        "inserts": (f"{n:,} inserts in transactions of {PER_TXN}", n, 0, in_transactions(insert, n // PER_TXN)),
    }


def config(server, name, sink):
    path = WORK / f"{name}.yaml"
    path.write_text(
        f'version: 1\nname: {name}\nsource: {{type: mysql, url: "{server.url}", tls: {{mode: disable}}}}\n'
        f'tables: {{include: ["bench.ev", "bench.big"]}}\nsink: {sink}\n'
    )
    return path


def strandline(path, *more):
    return [STRANDLINE, "run", "-q", "-c", path, *more]


ENV = {"MYSQL_PWD": "bench"}


class Held:
    """strandline to discard, started and held before the backlog is written."""

    def __init__(self, server, number, until):
        path = config(server, f"discard{number}", "{type: discard}")
        self.errors = open(WORK / f"discard{number}.log", "w+b")
        before = server.readers()
        self.process = subprocess.Popen(
            [str(x) for x in strandline(path, "--no-snapshot", "--until-lsn", until)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors, env={**os.environ, **ENV},
            start_new_session=True,
        )
        deadline = time.time() + 60
        while server.readers() <= before:
            if self.process.poll() is not None or time.time() > deadline:
                raise RuntimeError(f"strandline to discard does not read: {self.text()}")
            time.sleep(0.05)
        os.kill(self.process.pid, signal.SIGSTOP)

    def text(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    def measure(self, server):
        pid, load = self.process.pid, os.getloadavg()[0]
        before, server_before, peak = cpu_of(pid), server.cpu(), 0.0
        began = time.time()
        os.kill(pid, signal.SIGCONT)
        while True:
            peak = max(peak, peak_of(pid))
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                break
            if time.time() - began > 900:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        wall, code = time.time() - began, os.waitstatus_to_exitcode(status)
        self.process.returncode = code
        if code:
            say(f"failed with {code}: {self.text()}")
        cpu = usage.ru_utime + usage.ru_stime - before
        return {
            "wall_s": wall, "cpu_s": cpu, "rss_mb": peak, "rc": code, "load": load, "server_cpu_s": server.cpu() - server_before,
        }

    def kill(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def verdict(path, wanted):
    try:
        connection = duckdb()
        found = connection.execute(f"select {DIGEST_DUCKDB} from delta_scan('{path}')").fetchone()
        connection.close()
        found = tuple(int(x) for x in found)
    except Exception as error:  # whatever it is, the line fails
        return f"unreadable: {str(error).splitlines()[0][:160]}"
    if found == wanted:
        return "equal"
    return f"{found[0]} rows, not {wanted[0]}" if found[0] != wanted[0] else "other values"


def drain(server, name, held, before, file, size, wanted):
    cpu = server.cpu()
    if name == "discard":
        found = held.measure(server)
        found["check"] = "failed" if found["rc"] else "equal"
        return found
    if name == "raw":
        out = fresh(WORK / "raw")
        command = [*server.client("usr/bin/mysqlbinlog"), "--read-from-remote-server", "--raw", f"--result-file={out}/", file]
        found = measure(command, cwd="/")
        got = (out / file).stat().st_size if (out / file).exists() else 0
        found["check"] = "failed" if found["rc"] else "equal" if got == size else f"{got} bytes, not {size}"
    else:
        lake = WORK / "lake"
        shutil.rmtree(lake, ignore_errors=True)
        shutil.copytree(before, lake)
        path = config(server, "delta", json.dumps({"type": "delta", "uri": f"file://{lake}"}))
        found = measure(strandline(path, "--until-caught-up"), env=ENV)
        found["check"] = "failed" if found["rc"] else verdict(lake / "bench" / "ev", wanted)
        if not found["rc"]:
            found["files"], found["bytes"] = files_of(lake)
            found["commits"] = len(list((lake / "bench" / "ev" / "_delta_log").glob("*.json")))
    found["server_cpu_s"] = server.cpu() - cpu
    return found


def prepare(server, rows, write):
    """The table, the lake as it is before the backlog, the held readers, the backlog."""
    server.table("ev", rows)
    before = fresh(WORK / "lake-before")
    path = config(server, "delta", json.dumps({"type": "delta", "uri": f"file://{before}"}))
    made = measure(strandline(path, "--snapshot-only"), env=ENV)
    if made["rc"]:
        raise RuntimeError(f"strandline cannot copy the table: {made['error']}")
    server.sql("flush binary logs")
    file, number, _ = server.log_end()
    held = [Held(server, n, f"{number + 1:X}/4") for n in range(REPS)]
    server.sql(write)
    if server.log_end()[0] != file:
        raise RuntimeError("the backlog is larger than one file of the log")
    server.sql("flush binary logs")
    # Something behind it, so that everybody is told that the end has been passed.
    server.sql("create table if not exists tick (i int)")
    server.sql("insert into tick values (1)")
    sizes = dict(line.split("\t")[:2] for line in server.sql("show binary logs").splitlines())
    return before, held, file, int(sizes[file])


def catchup(server, report):
    for work, (title, changes, rows, write) in workloads().items():
        say(f"mysql: writing the backlog: {title}")
        before, held, file, size = prepare(server, rows, write)
        try:
            wanted = server.digest("ev")
            runs = {name: [] for name in CONTESTANTS}
            order = list(CONTESTANTS)
            for repetition in range(REPS):
                for name in order[repetition % len(order) :] + order[: repetition % len(order)]:
                    found = drain(server, name, held[repetition], before, file, size, wanted)
                    runs[name].append(found)
                    say(f"  {name:8} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  server {found['server_cpu_s']:6.2f}  {found['check']}")
        finally:
            for process in held:
                process.kill()
        report.raw[f"mysql/{work}"] = {"title": title, "changes": changes, "log_bytes": size, "runs": runs}
        table(report, work, title, changes, size, runs)


def figures_of(report, what, names, changes, runs):
    figures = {}
    for name, found in runs.items():
        right = [r for r in found if r["check"] == "equal"]
        for r in found:
            report.check(f"mysql, {what}, {names[name]}", r["check"])
        if right:
            figures[name] = {
                "rate": rate(changes, right),
                "cpu": middle([r["cpu_s"] * 1e6 / changes for r in right]),
                "server": middle([r["server_cpu_s"] * 1e6 / changes for r in right]),
                "rss": max(r["rss_mb"] for r in right),
                "last": right[-1],
            }
    return figures


def table(report, work, title, changes, size, runs):
    figures = figures_of(report, work, CONTESTANTS, changes, runs)
    raw = figures.get("raw", {}).get("rate", [None])[0]
    lines = []
    for name, text in CONTESTANTS.items():
        if name not in figures:
            lines.append([text, "FAILED", *["-"] * 6])
            continue
        f = figures[name]
        last = f["last"]
        files = f"{last['commits']} / {last['files']} / {last['bytes'] / 1e6:.0f}" if name == "delta" else "-"
        share = f"{f['rate'][0] / raw:.0%}" if raw else "-"
        lines.append([
            text, thousands(f["rate"][0]), f"{f['rate'][1]:,.0f}–{f['rate'][2]:,.0f}", share, short(f["cpu"]), short(f["server"]),
            f"{f['rss']:.0f}", files,
        ])
    print(f"**MySQL, catch-up: {title}; {size / 1e6:.0f} MB of log**\n")
    head = ["", "changes/s", "min–max", "of --raw", "CPU-s per M", "server CPU-s per M", "peak RSS MB", "commits / files / MB"]
    print_table(head, lines)
    for name, least in (("discard", 0.8), ("delta", 0.5)):
        if name not in figures or not raw:
            report.limit(f"MySQL, {title}: {CONTESTANTS[name]}", "failed", f"≥ {least:.0%} of --raw", False)
            continue
        f = figures[name]
        share, per_core = f["rate"][0] / raw, 1e6 / f["cpu"] if f["cpu"] else 0.0
        is_met = share >= least or (name == "discard" and per_core >= 600_000)
        more = " or ≥ 600,000 a second of CPU" if name == "discard" else ""
        found = f"{share:.0%}" + (f", {per_core:,.0f} a second of CPU" if name == "discard" else "")
        report.limit(f"MySQL, {title}: {CONTESTANTS[name]}", found, f"≥ {least:.0%} of --raw{more}", is_met)
        index = changes * INDEX_BYTES / 1e6 if name == "delta" else 0
        report.limit(
            f"MySQL, {title}: {CONTESTANTS[name]}: peak RSS", f"{f['rss']:.0f} MB",
            f"≤ {RSS_LIMIT} MB" + (f" + index ({index:.0f} MB)" if index else ""), f["rss"] <= RSS_LIMIT + index,
        )


def copy(server, report):
    rows = scaled(5_000_000)
    say(f"mysql: writing {rows:,} rows")
    server.sql("drop table if exists ev")
    server.table("big", rows)
    wanted = server.digest("big")
    runs = {name: [] for name in COPIES}
    for repetition in range(REPS):
        order = list(COPIES)
        for name in order[repetition % len(order) :] + order[: repetition % len(order)]:
            found = copy_once(server, name, wanted)
            runs[name].append(found)
            say(f"  {name:10} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  server {found['server_cpu_s']:6.2f}  {found['check']}")
    server.sql("drop table big")
    report.raw["mysql/snapshot"] = {"rows": rows, "runs": runs}
    figures = figures_of(report, "snapshot", COPIES, rows, runs)
    base = figures.get("quick", {}).get("rate", [None])[0]
    lines = []
    for name, text in COPIES.items():
        if name not in figures:
            lines.append([text, "FAILED", *["-"] * 5])
            continue
        f = figures[name]
        lines.append([
            text, thousands(f["rate"][0]), f"{f['rate'][1]:,.0f}–{f['rate'][2]:,.0f}", f"{f['rate'][0] / base:.0%}" if base else "-",
            short(f["cpu"]), short(f["server"]), f"{f['rss']:.0f}",
        ])
    print(f"**MySQL, snapshot of {rows:,} rows**\n")
    print_table(["", "rows/s", "min–max", "of --quick", "CPU-s per M", "server CPU-s per M", "peak RSS MB"], lines)
    if "strandline" in figures and base:
        share = figures["strandline"]["rate"][0] / base
        report.limit("MySQL snapshot", f"{share:.0%}", "≥ 60 % of mysql --quick", share >= 0.6)
        rss = figures["strandline"]["rss"]
        report.limit("MySQL snapshot: peak RSS", f"{rss:.0f} MB", f"≤ {RSS_LIMIT} MB", rss <= RSS_LIMIT)
    else:
        report.limit("MySQL snapshot", "failed", "≥ 60 % of mysql --quick", False)


def copy_once(server, name, wanted):
    out, cpu = fresh(WORK / "out"), server.cpu()
    if name == "quick":
        client = " ".join(map(str, server.client()))
        found = measure(["bash", "-c", f'exec {client} --quick -NB bench -e "select * from big" >/dev/null'], cwd="/")
        found["check"] = "failed" if found["rc"] else "equal"
    elif name == "outfile":
        found = measure([*server.client(), "bench", "-e", f"select * from big into outfile '{out}/big.tsv'"], cwd="/")
        found["check"] = "failed" if found["rc"] else "equal"
    else:
        path = config(server, "copy", json.dumps({"type": "delta", "uri": f"file://{out}"}))
        found = measure(strandline(path, "--snapshot-only"), env=ENV)
        found["check"] = "failed" if found["rc"] else verdict(out / "bench" / "big", wanted)
    found["server_cpu_s"] = server.cpu() - cpu
    return found


def run(_postgres, report):
    server = Mysql()
    try:
        report.raw["mysql/about"] = server.version
        print(f"- MySQL: {server.version}, sync_binlog=0, buffer pool 2 GB\n", flush=True)
        catchup(server, report)
        copy(server, report)
    finally:
        server.stop()
