//! Rows that are read again beside the stream: Debezium's incremental snapshots by signal.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::process::Strandline;
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene, until};
use crate::kafka::{scene, value};
use crate::workload::Clients;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Sends a signal: status and what was said.
fn signal(scene: &Scene, kind: &str, id: &str, data: &Value) -> (u16, String) {
    let body = json!({"id": id, "type": kind, "data": data}).to_string();
    let mut stream = TcpStream::connect(&scene.config.listen).expect("it listens");
    let head = "POST /api/signals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "{head}\r\nX-Strandline-Confirm: yes\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

fn is_incremental(record: &Record) -> bool {
    record.value.as_ref().is_some_and(|value| value.contains("\"snapshot\":\"incremental\""))
}

/// Rows that were read beside the stream so far.
fn read_again(broker: &Broker, topic: &str) -> Vec<Value> {
    let records = broker.read_all(&[topic]);
    records.iter().filter(|record| is_incremental(record)).filter_map(value).collect()
}

fn started(scene: &Scene) -> Strandline {
    let running = scene.start_run(&[]);
    until(LONG, "it streams", || {
        TcpStream::connect(&scene.config.listen).is_ok() && running.stderr().contains("took over")
    });
    running
}

fn change(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let id = random.between(1, 6_000);
    match random.between(0, 9) {
        0 => sql.try_exec(&format!("delete from t where id = {id}")),
        1 => sql.try_exec(&format!(
            "insert into t values ({id}, nextval('n'), 'x') on conflict (id) do update set v = nextval('n')"
        )),
        _ => sql.try_exec(&format!("update t set v = nextval('n') where id = {id}")),
    }
}

/// Kills in the middle: each row comes once, as the source had it at that place of the stream.
#[test]
fn rows_are_read_again_once_through_kills() {
    let mut random = Random::from_env("kafka-incremental");
    let broker = shared();
    let mut scene = scene("kafka-reread", broker);
    scene.config.more = "snapshot: {chunk_rows: 200, workers: 1}\n".into();
    scene.sql().exec(
        "create table t(id int primary key, v int not null, big text); create sequence n start 10000;
         alter table t alter big set storage external;
         insert into t select i, i, case when i % 10 = 0 then repeat('b', 3000) end from generate_series(1, 6000) i",
    );
    scene.drain();
    let url = scene.pg.url("postgres", "shop");
    let topic = "kafka-reread.public.t";
    let mut running = started(&scene);
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(2), change);
    let all = json!({"data-collections": ["public\\.T"]});
    let (status, said) = signal(&scene, "execute-snapshot", "once", &all);
    assert_eq!(status, 202, "{said}");
    let (mut so_far, mut kills, mut ended) = (0, 0, Vec::new());
    let is_done = |running: &Strandline| running.stderr().contains("its rows are right");
    while kills < 4 {
        until(LONG, "some more rows are read", || {
            let now = read_again(broker, topic).len();
            let is_more = now > so_far + 400;
            so_far = if is_more { now } else { so_far };
            is_more || is_done(&running)
        });
        if is_done(&running) {
            break;
        }
        ended.push(running.kill9());
        running = started(&scene);
        kills += 1;
    }
    assert!(kills > 0, "it was too fast to prove anything");
    // The last of those that were killed may have been done a moment before.
    let was_done = ended.iter().any(|log: &String| log.contains("its rows are right"));
    until(LONG, "all rows are read", || was_done || is_done(&running));
    clients.stop();
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    let mut rows: BTreeMap<i64, Vec<(String, Option<i64>, bool)>> = BTreeMap::new();
    for record in broker.read_all(&[topic]) {
        let Some(value) = value(&record) else { continue };
        let id = value["after"]["id"].as_i64().or(value["before"]["id"].as_i64()).expect("a key");
        let op = value["op"].as_str().expect("an op").to_owned();
        let is_again = is_incremental(&record);
        if is_again {
            assert_eq!((&value["source"]["lsn"], &value["source"]["txId"]), (&Value::Null, &Value::Null));
            assert_ne!(value["after"]["big"], "__debezium_unavailable_value");
        }
        rows.entry(id).or_default().push((op, value["after"]["v"].as_i64(), is_again));
    }
    let mut read = 0;
    for (id, events) in &rows {
        let mut now: Option<i64> = None;
        for (at, (op, v, is_again)) in events.iter().enumerate() {
            if *is_again {
                assert_eq!(now, *v, "row {id} was read as it was not at event {at}: {events:?}");
                read += 1;
            } else if op == "u" {
                assert!(v > &now, "row {id} goes back at event {at}: {events:?}");
            }
            now = *v;
        }
        let times = events.iter().filter(|(.., is_again)| *is_again).count();
        assert!(times <= 1, "row {id} was read {times} times: {events:?}");
        // What was not read again was touched meanwhile.
        assert!(times == 1 || events.len() > 1, "row {id} was not read again: {events:?}");
    }
    println!("{read} rows were read again");
    assert!(read > 4000, "{read}");
}

/// Conditions, patterns, pauses, ends; and what is refused.
#[test]
fn signals_say_which_rows_are_read_again() {
    let broker = shared();
    let mut scene = scene("kafka-some", broker);
    scene.config.more = "snapshot: {chunk_rows: 100, workers: 1}\n".into();
    scene.sql().exec(
        "create table a(id int primary key); insert into a select generate_series(1, 5);
         create table b(id int primary key); insert into b select generate_series(1, 3);
         create table big(id int primary key); insert into big select generate_series(1, 2000);
         create table keyless(id int); alter table keyless replica identity full",
    );
    scene.drain();
    let running = started(&scene);
    let send = |kind: &str, data: Value| signal(&scene, kind, "", &data);
    let ids = |table: &str| -> Vec<i64> {
        let found = read_again(broker, &format!("kafka-some.public.{table}"));
        found.iter().filter_map(|value| value["after"]["id"].as_i64()).collect()
    };
    let some = json!({
        "data-collections": ["public.[ab]"],
        "additional-conditions": [{"data-collection": "public.a", "filter": "id > 3"}],
    });
    assert_eq!(send("execute-snapshot", some).0, 202);
    until(LONG, "rows are read", || ids("a").len() + ids("b").len() == 5);
    assert_eq!((ids("a"), ids("b")), (vec![4, 5], vec![1, 2, 3]));
    let of = |table: &str, more: Value| {
        let mut data = json!({"data-collections": [table]});
        data.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
        send("execute-snapshot", data)
    };
    for (more, says) in [
        (
            json!({"additional-conditions": [{"data-collection": "public.a", "filter": "nonsense"}]}),
            "condition",
        ),
        (
            json!({"additional-conditions": [{"data-collection": "public.b", "filter": "true"}]}),
            "no table that is read",
        ),
        (json!({"surrogate-key": "id"}), "surrogate-key"),
        (json!({"type": "other"}), "type"),
        (json!({"typo": 1}), "typo"),
    ] {
        let (status, said) = of("public.a", more);
        assert!(status >= 400 && said.contains(says), "{said}");
    }
    assert_eq!(of("public.nothing", json!({})).0, 404);
    // A table without a key stays as it is, and is told.
    assert_eq!(of("public.keyless", json!({})).0, 202);
    until(LONG, "it is refused", || running.stderr().contains("it has no key"));
    // What waits goes on; what is ended does not.
    assert_eq!(send("pause-snapshot", json!({})).0, 202);
    assert_eq!(of("public.big", json!({})).0, 202);
    let (_, said) = send("stop-snapshot", json!({"data-collections": ["public.a"]}));
    assert!(said.contains("0 copies end"), "{said}");
    let (_, said) = send("stop-snapshot", json!({"data-collections": ["public.big"]}));
    assert!(said.contains("1 copies end"), "{said}");
    until(LONG, "it ends", || running.stderr().contains("an operator ended its copy"));
    assert_eq!(send("resume-snapshot", json!({})).0, 202);
    assert_eq!(of("public.b", json!({})).0, 202);
    until(LONG, "it is read again", || ids("b").len() == 6);
    assert!(ids("big").len() < 2000);
    // Another definition in between.
    scene.sql().exec("alter table a add c text default 'new'; insert into a values (6)");
    assert_eq!(of("public.a", json!({})).0, 202);
    until(LONG, "it is read again", || ids("a").len() == 8);
    let last = read_again(broker, "kafka-some.public.a");
    assert!(last[2..].iter().all(|value| value["after"]["c"] == "new"), "{last:?}");
    running.terminate();
    running.wait(LONG).expect_code(0);
}
