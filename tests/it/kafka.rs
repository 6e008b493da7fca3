//! Events in Kafka: what a `read_committed` consumer sees is what happened in the source, once, in its order.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::places;
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene, until};
use crate::workload::Clients;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A scene whose sink is this broker; the pipeline's name is the first part of its topics.
pub(crate) fn scene(name: &str, broker: &Broker) -> Scene {
    let mut scene = Scene::new(name);
    scene.config.name = name.to_owned();
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", broker.address()));
    scene.config.interval = "5ms".into();
    scene
}

pub(crate) fn value(record: &Record) -> Option<Value> {
    record.value.as_ref().map(|text| serde_json::from_str(text).expect("JSON"))
}

/// `op` and the images, without what differs from run to run.
fn told(record: &Record) -> String {
    let key = record.key.as_deref().unwrap_or("null");
    match value(record) {
        None => format!("{key} tombstone"),
        Some(value) => {
            format!(
                "{key} {} {} -> {} {}",
                value["op"], value["before"], value["after"], value["source"]["snapshot"]
            )
        }
    }
}

#[test]
fn a_table_is_read_and_then_followed() {
    let broker = shared();
    let scene = scene("kafka-follow", broker);
    scene.sql().exec(
        "create table orders(id int primary key, what text); insert into orders select i, 'r' || i from generate_series(1, 3) i",
    );
    scene.drain();
    scene.sql().exec(
        "insert into orders values (4, 'new'); update orders set what = 'changed' where id = 1;
         begin; delete from orders where id = 2; update orders set id = 30 where id = 3; commit",
    );
    scene.drain();
    let seen: Vec<String> = broker.read_all(&["kafka-follow.public.orders"]).iter().map(told).collect();
    assert_eq!(
        seen,
        [
            r#"{"id":1} "r" null -> {"id":1,"what":"r1"} "first""#,
            r#"{"id":2} "r" null -> {"id":2,"what":"r2"} "true""#,
            r#"{"id":3} "r" null -> {"id":3,"what":"r3"} "last""#,
            r#"{"id":4} "c" null -> {"id":4,"what":"new"} "false""#,
            r#"{"id":1} "u" null -> {"id":1,"what":"changed"} "false""#,
            r#"{"id":2} "d" {"id":2,"what":null} -> null "false""#,
            r#"{"id":2} tombstone"#,
            r#"{"id":3} "d" {"id":3,"what":null} -> null "false""#,
            r#"{"id":3} tombstone"#,
            r#"{"id":30} "c" null -> {"id":30,"what":"r3"} "false""#,
        ]
    );
    // Nothing is done again by another start.
    scene.drain();
    assert_eq!(broker.read_all(&["kafka-follow.public.orders"]).len(), seen.len());
}

/// A transaction over several tables is in their topics when any of it is.
#[test]
fn tables_of_one_transaction_become_visible_together() {
    let broker = shared();
    let scene = scene("kafka-together", broker);
    scene.sql().exec("create table a(id int primary key); create table b(id int primary key)");
    scene.drain();
    scene
        .sql()
        .exec("begin; insert into a values (1); insert into b values (1); insert into a values (2); commit");
    scene.drain();
    let records = broker.read_all(&["kafka-together.public.a", "kafka-together.public.b"]);
    let of = |topic: &str| records.iter().filter(|r| r.topic.ends_with(topic)).map(told).collect::<Vec<_>>();
    assert_eq!(of(".a").len(), 2);
    assert_eq!(of(".b").len(), 1);
}

fn make_counters(sql: &mut Sql) {
    sql.exec(
        "create table counters(id int primary key, n bigint not null);
         create table things(id bigint generated always as identity primary key, what text);
         insert into counters select i, 0 from generate_series(0, 19) i;
         create table filler(id int primary key, t text);
         insert into filler select i, repeat(md5(i::text), 8) from generate_series(1, 20000) i",
    );
}

/// Each counter goes up by one at a time; each thing comes, and some go.
fn count(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let mut script = String::from("begin;");
    let mut ids: Vec<u64> = (0..random.between(1, 4)).map(|_| random.between(0, 20)).collect();
    ids.sort_unstable();
    for id in ids {
        script.push_str(&format!("update counters set n = n + 1 where id = {id};"));
    }
    let n = random.between(1, 9);
    script
        .push_str(&format!("insert into things (what) select repeat('x', 50) from generate_series(1, {n});"));
    if random.between(0, 4) == 0 {
        script.push_str("delete from things where id = (select min(id) from things where id % 3 = 0);");
    }
    script.push_str("commit");
    sql.try_exec(&script)
}

/// Every event of the counters, once and in order; every thing once.
#[track_caller]
fn check_counters(scene: &Scene, broker: &Broker) -> usize {
    let source = |query: &str| scene.sql().value(query);
    check_events(
        broker,
        &format!("{}.public", scene.config.name),
        &source("select string_agg(id || '=' || n, ',' order by id) from counters"),
        &source("select count(*) from things"),
    )
}

/// The same of any source: its counters as `0=5,1=7`, and how many things there are.
#[track_caller]
pub(crate) fn check_events(broker: &Broker, prefix: &str, source: &str, things_left: &str) -> usize {
    let counters = format!("{prefix}.counters");
    let records = broker.read_all(&[&counters]);
    let mut last: BTreeMap<i64, (i64, bool)> = BTreeMap::new();
    for record in &records {
        let value = value(record).expect("no counter is deleted");
        let (id, n) = (value["after"]["id"].as_i64().unwrap(), value["after"]["n"].as_i64().unwrap());
        let streamed = value["op"] == "u";
        match last.get(&id) {
            Some(&(before, _)) if streamed => {
                assert_eq!(
                    n,
                    before + 1,
                    "counter {id} at {}@{}: {before} is followed by {n}",
                    record.partition,
                    record.offset
                );
            }
            Some(&(_, was_streamed)) => assert!(!was_streamed, "counter {id} is read after it was streamed"),
            None => assert!(!streamed, "counter {id} was never read"),
        }
        last.insert(id, (n, streamed));
    }
    let found = last.iter().map(|(id, (n, _))| format!("{id}={n}")).collect::<Vec<_>>().join(",");
    assert_eq!(found, source);
    // Per thing, what was said of it, and the copy that read it last.
    let mut things: BTreeMap<String, (Vec<String>, usize)> = BTreeMap::new();
    let mut copies = 0;
    for record in broker.read_all(&[&format!("{prefix}.things")]) {
        let value = value(&record);
        let snapshot = value.as_ref().and_then(|v| v["source"]["snapshot"].as_str()).unwrap_or_default();
        copies += usize::from(snapshot.starts_with("first"));
        let op = value.map_or("tombstone".to_owned(), |v| v["op"].as_str().unwrap().to_owned());
        let thing = things.entry(record.key.expect("a key")).or_default();
        if op == "r" {
            thing.1 = copies;
        }
        thing.0.push(op);
    }
    let mut alive = 0;
    for (key, (mut ops, read_by)) in things {
        if read_by > 0 && read_by < copies && ops.iter().all(|op| op == "r") {
            // Read by a copy that was interrupted, and deleted before the next one began.
            continue;
        }
        // What was read more than once was read by a copy that was interrupted.
        let reads = ops.iter().take_while(|op| *op == "r").count();
        ops.drain(..reads.saturating_sub(1));
        assert!(
            matches!(
                ops.iter().map(String::as_str).collect::<Vec<_>>()[..],
                ["r" | "c"] | ["r" | "c", "d", "tombstone"]
            ),
            "{key}: {ops:?}"
        );
        alive += usize::from(ops.len() == 1);
    }
    assert_eq!(alive.to_string(), things_left);
    records.len()
}

/// kill -9 of strandline and of the broker, at random. `KILLS` scales it.
#[test]
fn every_event_comes_once_and_in_order_through_kills() {
    let kills = std::env::var("KILLS").map_or(12, |k| k.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env("kafka-kill");
    let mut scene = scene("kafka-kill", shared());
    let mut broker = Broker::start(&scene.dir().join("kafka"));
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", broker.address()));
    make_counters(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(4), count);
    let started = Instant::now();
    let mut broker_kills = 0;
    for kill in 0..kills {
        let mut running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(20, 1800)));
        if kill % 4 == 2 {
            broker.crash();
            broker_kills += 1;
            std::thread::sleep(Duration::from_millis(random.between(1, 300)));
            if random.between(0, 2) == 0 {
                broker.restart();
                std::thread::sleep(Duration::from_millis(random.between(1, 1000)));
                assert!(running.is_running(), "it ended:\n{}", running.stderr());
            }
        }
        let log = running.kill9();
        for word in ["RT001", "\"level\":\"error\""] {
            assert!(!log.contains(word), "{word} in the log:\n{log}");
        }
        broker.restart_if_down();
    }
    let turns = clients.stop();
    scene.drain();
    let events = check_counters(&scene, &broker);
    println!(
        "{kills} kills, {broker_kills} of the broker, {turns} transactions, {events} events, {:?}",
        started.elapsed()
    );
    assert!(turns > 10 * kills, "the workload did too little to prove anything: {turns} transactions");
    assert!(broker_kills >= 2, "too few kills of the broker");
}

/// The broker is away for a while: nothing is lost, nothing is doubled, nobody is asked.
#[test]
fn a_broker_that_was_away_is_waited_for() {
    let mut random = Random::from_env("kafka-away");
    let mut scene = scene("kafka-away", shared());
    let mut broker = Broker::start(&scene.dir().join("kafka"));
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", broker.address()));
    make_counters(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(2), count);
    let mut running = scene.start_run(&[]);
    let topic = "kafka-away.public.counters";
    until(Duration::from_secs(60), "the first events", || broker.topics().iter().any(|name| name == topic));
    clients.wait_for(200);
    broker.crash();
    clients.wait_for(1000);
    assert!(running.is_running(), "it ended:\n{}", running.stderr());
    broker.restart();
    clients.wait_for(200);
    clients.stop();
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    check_counters(&scene, &broker);
}

/// A process that slept through a takeover: nothing of it becomes visible, and it ends.
#[test]
fn a_process_that_was_asleep_is_fenced() {
    let mut random = Random::from_env("kafka-fence");
    let broker = shared();
    let mut scene = scene("kafka-fence", broker);
    make_counters(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(1), count);
    let mut first = scene.start_run(&[]);
    until(Duration::from_secs(60), "the first events", || {
        assert!(first.is_running(), "it ended:\n{}", first.stderr());
        first.stderr().matches("table copied").count() == 3
    });
    clients.wait_for(300);
    places::signal("STOP", &[first.pid()]);
    let held =
        "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null";
    scene.sql().exec(held);
    scene.config.listen = scene.config.listen.replace("127.0.0.1", "127.0.0.2");
    let second = scene.start_run(&[]);
    until(Duration::from_secs(60), "the takeover", || second.stderr().contains("took over"));
    clients.wait_for(300);
    places::signal("CONT", &[first.pid()]);
    first.wait(Duration::from_secs(60)).expect_code(5).expect_error("TG013");
    clients.wait_for(300);
    clients.stop();
    second.terminate();
    second.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    check_counters(&scene, broker);
}

#[test]
fn a_second_process_is_refused() {
    let broker = shared();
    let mut scene = scene("kafka-second", broker);
    scene.sql().exec("create table t(id int primary key); insert into t values (1)");
    let mut first = scene.start_run(&[]);
    until(Duration::from_secs(60), "the first copy", || first.stderr().contains("table copied"));
    scene.config.listen = scene.config.listen.replace("127.0.0.1", "127.0.0.2");
    scene.run(&[]).expect_code(5).expect_error("PG011");
    assert!(first.is_running(), "the first goes on:\n{}", first.stderr());
    scene.sql().exec("insert into t values (2)");
    first.terminate();
    first.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    assert_eq!(broker.read_all(&["kafka-second.public.t"]).len(), 2);
}

/// One transaction of 150,000 rows, five times the memory for it as events, waits on disk and comes as one.
#[test]
fn a_transaction_larger_than_memory_comes_whole() {
    let broker = shared();
    let mut scene = scene("kafka-large", broker);
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    scene.sql().exec("create table a(id int primary key, t text); create table b(id int primary key)");
    scene.drain();
    let mut running = scene.start_run(&[]);
    scene.sql().exec(
        "begin; insert into a select i, repeat('x', 300) from generate_series(1, 150000) i;
         insert into b values (1); update a set t = 'y' where id <= 10; commit; insert into b values (2)",
    );
    let mut reader = broker.reader(&["kafka-large.public.b"]);
    let first = reader.next(Duration::from_secs(100));
    assert!(first.is_some(), "nothing came:\n{}", running.stderr());
    let peak = running.peak_kib() / 1024;
    assert!(running.is_running(), "it ended:\n{}", running.stderr());
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    let records = broker.read_all(&["kafka-large.public.a"]);
    for (id, record) in (1..).zip(records.iter().take(150_000)) {
        assert_eq!(record.key, Some(format!("{{\"id\":{id}}}")));
    }
    assert_eq!(records.len(), 150_010);
    println!("at most {peak} MiB");
    assert!(peak < 300, "{peak} MiB");
}

/// The short form without a file; topics as they were asked for; partitions as the Java client computes them.
#[test]
fn topics_are_made_as_asked_for() {
    let broker = shared();
    let mut scene = scene("kafka-topics", broker);
    scene.sql().exec("create table t(id int primary key); insert into t select generate_series(1, 200)");
    let address = broker.address();
    scene.config.target = Some(format!(
        "  uri: kafka://{address}/pre.fix\n  topics: {{partitions: 6, settings: {{cleanup.policy: compact, segment.ms: \"777000\"}}}}\n  \
         compression: zstd\n  properties: {{batch.num.messages: \"100\"}}\n"
    ));
    scene.drain();
    let records = broker.read_all(&["pre.fix.public.t"]);
    assert_eq!(records.len(), 200);
    let mut used = BTreeSet::new();
    for record in &records {
        let key = record.key.as_deref().unwrap();
        let wanted = strandline::debezium::partition_of(key.as_bytes(), 6);
        assert_eq!(u32::try_from(record.partition), Ok(wanted), "{key}");
        used.insert(record.partition);
    }
    assert_eq!(used.len(), 6);
    // A second pipeline, by addresses alone.
    let sink = format!("kafka://{address}/short");
    let outcome =
        scene.start(&["run", &scene.config.url, &sink, "--slot", "short", "--until-caught-up"]).wait(LONG);
    outcome.expect_code(0);
    assert_eq!(broker.read_all(&["short.public.t"]).len(), 200);
}

/// A rule that puts several tables into one topic keeps the source's order over all of them.
#[test]
fn tables_in_one_topic_keep_the_order_of_the_source() {
    let broker = shared();
    let mut scene = scene("kafka-route", broker);
    scene.config.more =
        "format:\n  route: {regex: '([^.]+)\\.([^.]+)\\.([^.]+)', replacement: '$$1-all'}\n".into();
    scene.sql().exec("create table a(id int primary key); create table b(id int primary key); create table c(id int primary key)");
    scene.drain();
    let mut script = String::new();
    for id in 0..300 {
        let table = ["a", "b", "c"][id % 3];
        match id % 10 {
            0 => script.push_str("begin;"),
            9 => script.push_str("commit;"),
            _ => {}
        }
        script.push_str(&format!("insert into {table} values ({id});"));
    }
    scene.sql().exec(&script);
    scene.drain();
    let ids: Vec<i64> = broker
        .read_all(&["kafka-route-all"])
        .iter()
        .map(|record| value(record).unwrap()["after"]["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, (0..300).collect::<Vec<i64>>());
}

/// Columns come and go, while it runs and while it is down, and no row is read again for it.
#[test]
fn changes_of_columns_are_followed() {
    let broker = shared();
    let scene = scene("kafka-ddl", broker);
    scene.sql().exec("create table t(id int primary key, a text)");
    scene.drain();
    scene
        .sql()
        .exec("insert into t values (1, 'x'); alter table t add b int; insert into t values (2, 'y', 7)");
    scene.drain();
    let running = scene.start_run(&[]);
    let mut reader = broker.reader(&["kafka-ddl.public.t"]);
    let mut next = || value(&reader.next(LONG).expect("an event")).unwrap()["after"].to_string();
    // A row from before the column was added: nobody could have given it a value.
    assert_eq!(next(), r#"{"a":"x","b":null,"id":1}"#);
    assert_eq!(next(), r#"{"a":"y","b":7,"id":2}"#);
    scene.sql().exec("insert into t values (3, 'z', 8)");
    assert_eq!(next(), r#"{"a":"z","b":8,"id":3}"#);
    scene.sql().exec("alter table t drop a; insert into t values (4, 9)");
    assert_eq!(next(), r#"{"b":9,"id":4}"#);
    running.terminate();
    running.wait(LONG).expect_code(0);
    assert_eq!(broker.read_all(&["kafka-ddl.public.t"]).len(), 4);
    // A copy would tell nothing of the row that went, nor of what the others were meanwhile.
    scene.sql().exec(
        "update t set b = 10 where id = 3; delete from t where id = 4; alter table t add c int default 5;
         insert into t values (5, 1, 6); alter table t rename b to bee; insert into t values (6, 2, 7)",
    );
    scene.drain();
    let rows = broker.read_all(&["kafka-ddl.public.t"]);
    let told: Vec<String> = rows[4..].iter().map(told).collect();
    assert_eq!(
        told,
        [
            r#"{"id":3} "u" null -> {"bee":10,"c":null,"id":3} "false""#,
            r#"{"id":4} "d" {"bee":null,"c":null,"id":4} -> null "false""#,
            r#"{"id":4} tombstone"#,
            r#"{"id":5} "c" null -> {"bee":1,"c":6,"id":5} "false""#,
            r#"{"id":6} "c" null -> {"bee":2,"c":7,"id":6} "false""#,
        ]
    );
}

/// The rows of a partitioned table are told as they change; a TRUNCATE, which looks like another partition to the
/// catalogue, copies nothing, so that what went before it is told.
#[test]
fn a_partitioned_table_is_not_read_again() {
    let broker = shared();
    let mut scene = scene("kafka-parts", broker);
    scene.config.more = "format: {debezium: {skipped_operations: [none]}}\n".to_owned();
    scene.sql().exec(
        "create table p(id int primary key) partition by hash (id);
         create table p0 partition of p for values with (modulus 2, remainder 0);
         create table p1 partition of p for values with (modulus 2, remainder 1); insert into p values (1), (2)",
    );
    scene.drain();
    scene
        .sql()
        .exec("delete from p where id = 1; insert into p values (3); truncate p; insert into p values (4)");
    scene.drain();
    let ops: Vec<String> = broker
        .read_all(&["kafka-parts.public.p"])
        .iter()
        .map(|record| {
            value(record).map_or_else(|| "-".to_owned(), |value| value["op"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(ops.concat(), "rrd-ctc");
}

/// An event that is too large stops its table, with a code; the others go on.
#[test]
fn a_large_event_stops_its_table() {
    let broker = shared();
    let mut scene = scene("kafka-size", broker);
    scene.config.target =
        Some(format!("  type: kafka\n  brokers: [\"{}\"]\n  max_record: 100KiB\n", broker.address()));
    scene.sql().exec("create table big(id int primary key, t text); create table small(id int primary key)");
    scene.drain();
    scene.sql().exec("insert into big values (1, repeat('x', 200000)); insert into small values (1)");
    scene.run(&["--until-caught-up"]).expect_error("KF005");
    assert_eq!(broker.read_all(&["kafka-size.public.big"]).len(), 0);
    assert_eq!(broker.read_all(&["kafka-size.public.small"]).len(), 1);
}

/// Without transactions events may come again after a kill, in order; none is lost.
#[test]
fn without_transactions_nothing_is_lost() {
    let mut random = Random::from_env("kafka-once");
    let broker = shared();
    let mut scene = scene("kafka-once", broker);
    scene.config.target =
        Some(format!("  type: kafka\n  brokers: [\"{}\"]\n  exactly_once: false\n", broker.address()));
    make_counters(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(4), count);
    for _ in 0..3 {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(500, 2000)));
        running.kill9();
    }
    clients.stop();
    scene.drain();
    let mut seen: BTreeMap<i64, i64> = BTreeMap::new();
    for record in broker.read_all(&["kafka-once.public.counters"]) {
        let value = value(&record).unwrap();
        let (id, n) = (value["after"]["id"].as_i64().unwrap(), value["after"]["n"].as_i64().unwrap());
        // One that comes again goes back, never too far ahead.
        let before = seen.insert(id, n);
        assert!(before.is_none_or(|before| n <= before + 1), "counter {id}: {before:?} is followed by {n}");
    }
    let found = seen.iter().map(|(id, n)| format!("{id}={n}")).collect::<Vec<_>>().join(",");
    assert_eq!(found, scene.sql().value("select string_agg(id || '=' || n, ',' order by id) from counters"));
}

/// Another pipeline's open transaction hides what follows it: a start waits until it can see everything.
#[test]
fn an_open_transaction_of_another_pipeline_is_waited_for() {
    const CHECKPOINTS: &str = "__strandline_checkpoints";
    let broker = shared();
    let scene = scene("kafka-hidden", broker);
    scene.sql().exec("create table t(id int primary key); insert into t values (1)");
    scene.drain();
    let partition = i32::try_from(strandline::debezium::partition_of(b"kafka-hidden", 32)).unwrap();
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("transactional.id", "another");
    let other: BaseProducer = config.create().unwrap();
    other.init_transactions(LONG).unwrap();
    other.begin_transaction().unwrap();
    let record = BaseRecord::to(CHECKPOINTS).partition(partition).key("another").payload("{}");
    other.send(record).map_err(|(error, _)| error).unwrap();
    other.flush(LONG).unwrap();
    let running = scene.start_run(&[]);
    until(LONG, "it waits", || running.stderr().contains("waiting for an open Kafka transaction"));
    assert!(!running.stderr().contains("took over"), "it did not wait:\n{}", running.stderr());
    other.abort_transaction(LONG).unwrap();
    until(LONG, "the takeover", || running.stderr().contains("took over"));
    running.terminate();
    running.wait(LONG).expect_code(0);
    assert_eq!(broker.read_all(&["kafka-hidden.public.t"]).len(), 1);
}
