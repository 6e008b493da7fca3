"""Catch-up over each kind of connection: plain TCP, a Unix socket, TLS.

The backlog of inserts of `catchup`, drained by pg_recvlogical, by strandline to discard and to Delta, each over the
same kind of connection in the same run. TLS is 1.3 with a certificate of the measurement's own, verified by nobody.
"""

import subprocess
import time

from catchup import PEERS, check, prepare, workloads
from harness import (
    DATABASE, PG_BIN, REPS, STRANDLINE, WORK, as_postgres, fresh, measure, middle, print_table, rate, say, short, thousands,
)

WIRES = {"tcp": "plain TCP", "unix": "Unix socket", "tls": "TLS"}
CONTESTANTS = {
    "recv1": "pg_recvlogical, proto 1, binary",
    "recv2": "pg_recvlogical, proto 2, binary, streaming",
    "discard": "strandline to discard (decode only)",
    "delta": "strandline to Delta (synced)",
}


def address(postgres, wire):
    """The URL, and what libpq's programs are told."""
    mode = "require" if wire == "tls" else "disable"
    if wire == "unix":
        socket = postgres.home
        return f"postgres:///{DATABASE}?host={socket}&port={postgres.port}&user=postgres", str(socket), mode
    return f"{postgres.url}?sslmode={mode}", "127.0.0.1", mode


def command(name, postgres, wire, slot, end, lake):
    url, host, _ = address(postgres, wire)
    if name == "discard":
        path = WORK / "wires.yaml"
        path.write_text(
            f'version: 1\nname: bench\nsource: {{type: postgres, url: "{url}", slot: {slot}, publication: p_ev}}\n'
            'tables: {include: ["public.ev"]}\nsink: {type: discard}\n'
        )
        return [STRANDLINE, "run", "-q", "-c", path, "--no-snapshot", "--until-lsn", end]
    if name == "delta":
        where = ["--slot", slot, "--publication", "p_ev", "--table", "public.ev"]
        return [STRANDLINE, "run", "-q", url, f"file://{lake}", *where, "--no-snapshot", "--until-lsn", end]
    receive = [PG_BIN / "pg_recvlogical", "-h", host, "-p", postgres.port, "-U", "postgres", "-d", DATABASE]
    receive += ["--slot", slot, "--start", "--endpos", end, "-F", "0", "-f", "/dev/null"]
    receive += ["-o", "publication_names=p_ev", "-o", "binary=true"]
    return receive + (["-o", "proto_version=1"] if name == "recv1" else ["-o", "proto_version=2", "-o", "streaming=on"])


def one(postgres, name, wire, before, end, wanted):
    slot = f"s_{name}"
    postgres.copy_slot("s0", slot)
    lake = fresh(WORK / "lake")
    postgres.sql("checkpoint")
    mode = address(postgres, wire)[2]
    found = measure(command(name, postgres, wire, slot, end, lake), postgres, env={"PGSSLMODE": mode})
    found["check"] = "failed" if found["rc"] else check(postgres, name, slot, end, lake, wanted)
    postgres.drop_slot(slot)
    return found


def encrypt(postgres, is_on):
    """Turns TLS on or off; new connections have it."""
    if is_on:
        key, certificate = postgres.home / "server.key", postgres.home / "server.pem"
        made = subprocess.run(
            as_postgres(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                         "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]),
            cwd="/", capture_output=True, text=True,
        )
        if made.returncode:
            raise RuntimeError(f"openssl: {made.stderr.strip()}")
        subprocess.run(as_postgres(["chmod", "600", str(key)]), cwd="/", check=True)
        postgres.sql(f"alter system set ssl_cert_file = '{certificate}'")
        postgres.sql(f"alter system set ssl_key_file = '{key}'")
    postgres.sql(f"alter system set ssl = {'on' if is_on else 'off'}")
    postgres.sql("select pg_reload_conf()")
    deadline = time.time() + 10
    while postgres.sql("show ssl") != ("on" if is_on else "off"):
        if time.time() > deadline:
            raise RuntimeError("the server does not turn TLS on or off")
        time.sleep(0.05)


def run(postgres, report):
    title, changes, rows, write = workloads()["inserts"]
    say(f"wires: writing the backlog: {title}")
    before, end = prepare(postgres, rows, write)
    wanted = postgres.digest("ev")
    runs = {(wire, name): [] for wire in WIRES for name in CONTESTANTS}
    encrypt(postgres, True)
    try:
        order = list(runs)
        for repetition in range(REPS):
            at = repetition * 5 % len(order)
            for wire, name in order[at:] + order[:at]:
                found = one(postgres, name, wire, before, end, wanted)
                runs[wire, name].append(found)
                say(f"  {wire:5} {name:8} {found['wall_s']:7.2f} s  cpu {found['cpu_s']:6.2f}  walsender {found['walsender_cpu_s']:6.2f}  {found['check']}")
    finally:
        encrypt(postgres, False)
        postgres.drop_slot("s0")
    report.raw["wires"] = {f"{wire}/{name}": found for (wire, name), found in runs.items()}
    table(report, title, changes, runs)


def table(report, title, changes, runs):
    figures = {}
    for (wire, name), found in runs.items():
        for r in found:
            report.check(f"wires, {WIRES[wire]}, {CONTESTANTS[name]}", r["check"])
        right = [r for r in found if r["check"] == "equal"]
        if right:
            per_m = 1e6 / changes
            figures[wire, name] = {
                "rate": rate(changes, right),
                "cpu": middle([r["cpu_s"] * per_m for r in right]),
                "walsender": middle([r["walsender_cpu_s"] * per_m for r in right]),
            }
    lines = []
    for wire, name in runs:
        text = f"{WIRES[wire]}: {CONTESTANTS[name]}"
        f = figures.get((wire, name))
        if f is None:
            lines.append([text, "FAILED", *["-"] * 5])
            continue
        peer = best(wire, figures)
        plain = figures.get(("tcp", name))
        lines.append([
            text,
            thousands(f["rate"][0]),
            f"{f['rate'][1]:,.0f}–{f['rate'][2]:,.0f}",
            short(f["rate"][0] / figures[peer]["rate"][0]) if peer else "-",
            f"{f['rate'][0] / plain['rate'][0]:.0%}" if plain else "-",
            short(f["cpu"]),
            short(f["walsender"]),
        ])
    print(f"**kinds of connection: {title}**\n")
    print_table(["", "changes/s", "min–max", "× pg_recvlogical", "of plain TCP", "CPU-s per M", "walsender CPU-s per M"], lines)
    for wire, text in WIRES.items():
        peer, ours = best(wire, figures), figures.get((wire, "discard"))
        if not peer or not ours:
            report.limit(f"{text}: strandline to discard", "failed", "≥ 1 × pg_recvlogical over the same", False)
            continue
        ratio = ours["rate"][0] / figures[peer]["rate"][0]
        report.limit(f"{text}: strandline to discard", f"{ratio:.2f} ×", "≥ 1 × pg_recvlogical over the same", ratio >= 1)


def best(wire, figures):
    """The quicker of pg_recvlogical's two."""
    return max(((wire, n) for n in PEERS if (wire, n) in figures), key=lambda at: figures[at]["rate"][0], default=None)
