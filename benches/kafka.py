"""Kafka: a backlog of inserts and of updates as Debezium events, exactly once and not, beside the brokers' own producer
and the bare client; and the latency of single changes at a steady rate.

The broker is one process (KRaft) on this machine, like the database. CPU is that of strandline alone.
"""

import json
import os
import shutil
import signal
import subprocess
import time

from harness import (
    DATABASE, DIR, PG_BIN, REPS, ROW, SCALE, STRANDLINE, TICKS, WORK, free_port, middle, percentile, print_table, say, scaled, thousands,
)

LIBS = os.environ["KAFKA_LIBS"] + "/*"
JAVA = ["java", "-Xmx1g", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", LIBS]
PER_TXN = 100
PER_SECOND = 1000
SECONDS = float(os.environ.get("LATENCY_SECONDS", "20")) * min(1, max(SCALE, 0.1))


class Broker:
    def __init__(self):
        self.home = DIR / "kafka"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.port, controller = free_port(), free_port()
        properties = self.home / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self.home}/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
"""
        )
        log = open(self.home / "broker.log", "wb")
        subprocess.run([*JAVA, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c", properties], check=True, stdout=log, stderr=log)
        self.process = subprocess.Popen([*JAVA, "kafka.Kafka", properties], stdout=log, stderr=log)
        self.address = f"127.0.0.1:{self.port}"
        self.topic("floor")

    def topic(self, name):
        subprocess.run(
            [*JAVA, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.address, "--create", "--topic", name, "--partitions", "1"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    def perf(self, records, size, transactional):
        """The Java producer's own measurement: records a second."""
        name = f"perf{int(transactional)}-{time.time_ns()}"
        self.topic(name)
        extra = ["--transaction-duration-ms", "500"] if transactional else []
        done = subprocess.run(
            [*JAVA, "org.apache.kafka.tools.ProducerPerformance", "--topic", name, "--num-records", str(records), "--record-size", str(size),
             "--throughput", "-1", "--producer-props", f"bootstrap.servers={self.address}", "acks=all", "linger.ms=5", "batch.size=131072", *extra],
            check=True, capture_output=True, text=True,
        )
        return float(done.stdout.strip().splitlines()[-1].split(" records/sec")[0].split()[-1])

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.home, ignore_errors=True)


def config(postgres, broker, name, exactly_once, slot):
    path = WORK / f"{name}.yaml"
    path.write_text(
        f'version: 1\nname: {name}\nsource: {{type: postgres, url: "{postgres.url}", slot: {slot}, publication: p_ev}}\n'
        f'tables: {{include: ["public.ev"]}}\n'
        f'sink: {{type: kafka, brokers: ["{broker.address}"], exactly_once: {str(exactly_once).lower()}}}\n'
    )
    return path


def usage(pid):
    """(CPU seconds, peak MiB) of a process that runs."""
    stat = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    status = open(f"/proc/{pid}/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return (int(stat[11]) + int(stat[12])) / TICKS, peak


def drain(path):
    """Runs until caught up: (seconds, CPU seconds, peak MiB)."""
    began = time.time()
    process = subprocess.Popen([STRANDLINE, "run", "-q", "-c", str(path), "--until-caught-up", "--no-snapshot"])
    cpu = peak = 0
    while process.poll() is None:
        try:
            cpu, peak = usage(process.pid)
        except (OSError, IndexError, ValueError):
            pass
        time.sleep(0.01)
    if process.returncode:
        raise RuntimeError(f"strandline ended with {process.returncode}")
    return time.time() - began, cpu, peak


def backlog(postgres, broker, report):
    n = scaled(1_000_000) // PER_TXN * PER_TXN
    keys = f"select 1 + ((k * {PER_TXN} + j) * 999983) % {n} from generate_series(0::bigint, {PER_TXN - 1}) j"
    bodies = {
        "inserts": (0, f"insert into ev select {ROW} from generate_series(1 + k::bigint * {PER_TXN}, {PER_TXN} + k::bigint * {PER_TXN}) i"),
        "updates": (n, f"update ev set a = a + 1, c = c + 1.5, d = d + 0.01, f = f + interval '1 second' where id in ({keys})"),
    }
    rows = []
    for what, (before, body) in bodies.items():
        postgres.table("ev", before)
        postgres.publication("p_ev", "ev")
        postgres.drop_slot("kafka_base")
        postgres.sql("select pg_create_logical_replication_slot('kafka_base', 'pgoutput')")
        say(f"kafka: writing a backlog of {thousands(n)} {what}")
        postgres.sql(f"do $$ begin for k in 0 .. {n // PER_TXN - 1} loop {body}; commit; end loop; end $$")
        size = 0
        for exactly_once in (True, False):
            runs = []
            for rep in range(REPS):
                name, slot = f"kb-{what}-{int(exactly_once)}-{rep}", f"kb_{rep}"
                postgres.copy_slot("kafka_base", slot)
                runs.append(drain(config(postgres, broker, name, exactly_once, slot)))
                postgres.drop_slot(slot)
            seen = json.loads(
                subprocess.run(
                    [STRANDLINE, "bench", "kafka-read", "--brokers", broker.address, "--topic", f"kb-{what}-{int(exactly_once)}-0.public.ev", "--records", str(n)],
                    check=True, capture_output=True, text=True,
                ).stdout
            )
            size = seen["bytes"] // seen["records"]
            seconds, cpu, peak = (middle([run[i] for run in runs]) for i in range(3))
            label = f"strandline, {n:,} {what}, " + ("exactly once" if exactly_once else "at least once")
            rows.append([label, f"{thousands(n / seconds)}/s", f"{cpu / n * 1e6:.2f}", f"{peak:.0f}"])
            report.raw[f"kafka/{what}/{'exactly' if exactly_once else 'least'}"] = runs
            report.limit(f"kafka, {label}: peak memory", f"{peak:.0f} MiB", "150 MiB", peak <= 150)
            report.limit(f"kafka, {label}: rate", f"{thousands(n / seconds)}/s", "-", True, "200,000/s")
            report.limit(f"kafka, {label}: CPU", f"{cpu / n * 1e6:.2f} µs", "-", True, "2.5 µs an event")
        for transactional in (True, False):
            records = scaled(500_000)
            label = f"kafka-producer-perf-test, {size} bytes, " + ("transactions of 500 ms" if transactional else "idempotent")
            rows.append([label, thousands(middle([broker.perf(records, size, transactional) for _ in range(REPS)])) + "/s", "", ""])
    # What the client takes of the same record, without anything before it: what is left is decoding and encoding.
    broker.topic("produce")
    records = scaled(500_000)
    done = [
        json.loads(
            subprocess.run(
                [STRANDLINE, "bench", "kafka-produce", "--brokers", broker.address, "--topic", "produce", "--records", str(records),
                 "--size", str(size), "--transaction", "40000"],
                check=True, capture_output=True, text=True,
            ).stdout
        )
        for _ in range(REPS)
    ]
    report.raw["kafka/produce"] = done
    seconds, cpu = middle([run["s"] for run in done]), middle([run["cpu"] for run in done])
    rows.append([f"the client alone, {size} bytes and four headers", f"{thousands(records / seconds)}/s", f"{cpu / records * 1e6:.2f}", ""])
    print("\n**Kafka: backlog (one partition, no compression)**\n")
    print_table(["contestant", "events", "CPU µs/event", "peak MiB"], rows)


def latency(postgres, broker, report):
    floor = json.loads(
        subprocess.run([STRANDLINE, "bench", "kafka-floor", "--brokers", broker.address, "--topic", "floor", "--transactions", "500"], check=True, capture_output=True, text=True).stdout
    )
    postgres.table("ev")
    postgres.publication("p_ev", "ev")
    postgres.drop_slot("kl")
    path = config(postgres, broker, "kl", True, "kl")
    process = subprocess.Popen([STRANDLINE, "run", "-q", "-c", str(path)])
    count = int(PER_SECOND * SECONDS)
    try:
        time.sleep(3)
        first = [STRANDLINE, "bench", "kafka-read", "--brokers", broker.address, "--topic", "kl.public.ev", "--records", str(count), "--from-end"]
        reader = subprocess.Popen(first, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        reader.stderr.readline()
        before, began = usage(process.pid)[0], time.time()
        clients = 4
        script = WORK / "rate.sql"
        script.write_text(f"insert into ev select {ROW} from (select nextval('ev_ids') as i) i;\n")
        postgres.sql("drop sequence if exists ev_ids; create sequence ev_ids")
        subprocess.run(
            [str(PG_BIN / "pgbench"), "-n", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres", "-c", str(clients), "-R", str(PER_SECOND),
             "-t", str(count // clients), "-f", str(script), DATABASE],
            # The server is set to flush its log late; what is not flushed is not sent.
            env={**os.environ, "PGOPTIONS": "-c synchronous_commit=on"}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        out, _ = reader.communicate(timeout=120)
        seen, took = json.loads(out), time.time() - began
        cpu, peak = usage(process.pid)
        idle_before = usage(process.pid)[0]
        time.sleep(5)
        idle = (usage(process.pid)[0] - idle_before) / 5
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    rows = [
        ["floor: one-record transactions, bare client", f"{percentile(floor, 0.5):.1f}", f"{percentile(floor, 0.99):.1f}", "", ""],
        [f"strandline, {PER_SECOND:,} changes/s, commit to read_committed consumer", f"{percentile(seen['latencies'], 0.5):.1f}",
         f"{percentile(seen['latencies'], 0.99):.1f}", f"{(cpu - before) / took * 100:.1f} %", f"{peak:.0f}"],
        ["strandline, idle", "", "", f"{idle * 100:.1f} %", ""],
    ]
    report.raw["kafka/latency"] = {"floor": floor, "seen": seen["latencies"], "idle": idle}
    print("**Kafka: latency, exactly once**\n")
    print_table(["", "p50 ms", "p99 ms", "CPU of a core", "peak MiB"], rows)


def run(postgres, report):
    broker = Broker()
    try:
        latency(postgres, broker, report)
        backlog(postgres, broker, report)
    finally:
        broker.stop()
