//! `strandline verify` of topics: what the last record of each key says is what the source has, in every form of events,
//! while others write; and what is not so is found and named.

use crate::harness::kafka::{Broker, shared};
use crate::harness::process::Outcome;
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene};
use crate::kafka::scene;
use crate::workload::Clients;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use std::time::Duration;

fn verify(scene: &Scene, more: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[&["verify", "-c", &config], more].concat()).wait(LONG)
}

#[track_caller]
fn found(outcome: &Outcome) -> Vec<Value> {
    let found: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", outcome.stdout, outcome.stderr));
    found["tables"].as_array().expect("tables").clone()
}

#[track_caller]
pub(crate) fn is_equal(scene: &Scene, tables: &[&str]) {
    let outcome = verify(scene, &[tables, &["-o", "json"]].concat());
    outcome.expect_code(0);
    assert!(found(&outcome).iter().all(|table| table["equal"] == true), "{}", outcome.stdout);
}

fn produce(broker: &Broker, topic: &str, records: &[(&str, Option<&str>)]) {
    let mut config = rdkafka::ClientConfig::new();
    // To the partitions that strandline writes to.
    config.set("bootstrap.servers", broker.address()).set("partitioner", "murmur2_random");
    let producer: BaseProducer = config.create().unwrap();
    for (key, value) in records {
        let record = BaseRecord::to(topic).key(*key);
        let record = match value {
            Some(value) => record.payload(*value),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LONG).unwrap();
}

const TABLE: &str = "create table t(id int, part text, v text, f float8, n numeric(20,4), at timestamptz, b bytea, j jsonb, wide text,
       primary key (id, part));
     alter table t alter wide set storage external;
     insert into t select i, 'p', case when i % 9 > 0 then 'row \"' || i end, i / 7.0, i / 3.0, '2026-01-01'::timestamptz + i * interval '1 s',
       int4send(i), jsonb_build_object('i', i, 'x', array[1.50, null]), repeat('w' || i, 700) from generate_series(1, 3000) i;";

/// Changes of all kinds, one with a value that the log does not repeat.
const CHANGES: &str = "update t set v = 'later ' || id where id % 10 = 0; delete from t where id % 11 = 0;
     update t set part = 'q' where id % 13 = 0; update t set wide = 'short' where id % 17 = 0; insert into t (id, part) values (5000, 'é ='), (5001, '')";

#[test]
fn a_topic_is_compared_with_its_source_and_faults_are_named() {
    let broker = shared();
    let scene = scene("kafka-verify", broker);
    scene
        .sql()
        .exec(&format!("{TABLE} create table keyless(v text); alter table keyless replica identity full; create table other(id int primary key)"));
    broker.create_topic("kafka-verify.public.t", 3, &[]);
    scene.drain();
    scene.sql().exec(CHANGES);
    // Without a process: it is run up to the snapshot's position.
    let outcome = verify(&scene, &["-o", "json", "public.t", "public.other"]);
    outcome.expect_code(0);
    let tables = found(&outcome);
    let rows: u64 = scene.sql().value("select count(*) from t").parse().unwrap();
    // A row that moved to another key without its large value: no record of the new key says it.
    let moved = scene.sql().value("select count(*) from t where part = 'q' and id % 17 > 0");
    let moved: u64 = moved.parse().unwrap();
    let counted = [&tables[1]["source_rows"], &tables[1]["target_rows"], &tables[1]["unknown"]];
    assert_eq!(counted, [&json!(rows), &json!(rows), &json!(moved)], "{tables:?}");
    assert!(tables[1]["records"].as_u64().unwrap() > 3000 && tables[1]["version"].is_null());
    // Somebody else writes: a digit, a row that is gone, one that never was.
    let topic = "kafka-verify.public.t";
    let key = |id: i32| format!(r#"{{"id":{id},"part":"p"}}"#);
    let is_five = |record: &&crate::harness::kafka::Record| record.key.as_deref() == Some(&*key(5));
    let records = broker.read_all(&[topic]);
    let five = records.iter().rfind(is_five).and_then(|record| record.value.clone()).unwrap();
    let wrong = five.replacen("w5w5w5", "w5w4w5", 1);
    assert_ne!(five, wrong);
    produce(broker, topic, &[(&key(5), Some(&wrong)), (&key(6), None), (&key(7777), Some(&five))]);
    let outcome = verify(&scene, &["-o", "json", "public.t"]);
    outcome.expect_code(4);
    let table = found(&outcome).remove(0);
    let mut named: Vec<(String, String)> = table["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["fault"].as_str().unwrap().to_owned(), row["key"].as_str().unwrap().to_owned()))
        .collect();
    named.sort();
    let expected = [("different", "id=5 part=p"), ("extra", "id=7777 part=p"), ("missing", "id=6 part=p")];
    assert_eq!(named, expected.map(|(fault, key)| (fault.to_owned(), key.to_owned())));
    assert_eq!((&table["different"], &table["skipped"]), (&json!(3), &Value::Null));
    let text = verify(&scene, &["public.t"]);
    assert!(
        text.stdout.contains("missing   id=6 part=p")
            && text.stderr.contains("strandline resync public.t --yes"),
        "{}\n{}",
        text.stdout,
        text.stderr
    );
    for (option, why) in [("--repair", "--repair"), ("--sample=10%", "--sample")] {
        let refused = verify(&scene, &["public.t", option]);
        refused.expect_code(2);
        assert!(refused.stderr.contains("CF004") && refused.stderr.contains(why), "{}", refused.stderr);
    }
    // What is no event of the table is not passed over; nor is a table without a key, or a topic without its beginning.
    produce(broker, topic, &[(r#"{"id":1,"part":"p"}"#, Some(r#"{"secret":"row value"}"#))]);
    let outcome = verify(&scene, &["-o", "json"]);
    outcome.expect_code(4);
    let codes: Vec<Value> = found(&outcome).iter().map(|t| t["skipped"]["code"].clone()).collect();
    assert_eq!(codes, [json!("PG008"), Value::Null, json!("KF014")]);
    assert!(!outcome.stdout.contains("row value"), "{}", outcome.stdout);
}

/// The row alone in its topic, and the project's own form.
#[test]
fn other_forms_of_events_are_compared_too() {
    let broker = shared();
    for (name, format) in [
        ("kafka-verify-flat", "format:\n  style: flat\n  debezium: {decimal_handling_mode: string}\n"),
        ("kafka-verify-native", "format:\n  style: native\n"),
        (
            "kafka-verify-schema",
            "format:\n  debezium: {schemas_enable: true, decimal_handling_mode: double}\n",
        ),
    ] {
        let mut scene = scene(name, broker);
        scene.config.more = format.into();
        scene.sql().exec(TABLE);
        scene.drain();
        scene.sql().exec(CHANGES);
        is_equal(&scene, &["public.t"]);
        scene
            .sql()
            .exec("alter table t add later int; insert into t (id, part, later) values (6000, 'p', 1)");
        is_equal(&scene, &["public.t"]);
    }
}

fn write(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let id = random.between(0, 400);
    sql.try_exec(&match random.between(0, 4) {
        0 => format!("delete from w where id = {id}"),
        1 => format!("update w set n = n + 1 where id between {id} and {id} + 5"),
        _ => format!(
            "insert into w values ({id}, 0, repeat('x', 3000)) on conflict (id) do update set n = w.n + 1"
        ),
    })
}

/// While a process runs and clients write, nothing is called wrong that is not.
#[test]
fn a_topic_is_compared_while_others_write() {
    let broker = shared();
    let scene = scene("kafka-verify-busy", broker);
    let mut random = Random::from_env("kafka-verify-busy");
    scene.sql().exec(
        "create table w(id int primary key, n int, wide text); alter table w alter wide set storage external",
    );
    scene.drain();
    let running = scene.start_run(&[]);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(2), write);
    clients.wait_for(100);
    let outcome = verify(&scene, &["-o", "json", "public.w"]);
    let turns = clients.stop();
    let table = found(&outcome).remove(0);
    assert_eq!(table["different"], 0, "{}", outcome.stdout);
    assert!(table["skipped"].is_null() && turns > 100, "{}", outcome.stdout);
    is_equal(&scene, &["public.w"]);
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
}
