//! Events that are larger than a topic takes, and transactions that are larger than one of Kafka's should be.

use crate::harness::kafka::{Record, shared};
use crate::harness::{LONG, until};
use crate::kafka::{scene, value};
use serde_json::{Value, json};

const PLACEHOLDER: &str = "__debezium_unavailable_value";

fn header<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    record.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn after(record: &Record) -> Value {
    value(record).expect("a value")["after"].clone()
}

/// The widest values give way, a header names them; everything else of the event is as it was.
#[test]
fn a_large_event_comes_without_its_widest_values() {
    let broker = shared();
    let mut scene = scene("large-short", broker);
    scene.config.target = Some(format!(
        "  type: kafka\n  brokers: [\"{}\"]\n  max_record: 100KiB\n  oversize: truncate\n",
        broker.address()
    ));
    scene.sql().exec(
        "create table t(id int primary key, body text, n int, raw bytea, note text);
         alter table t replica identity full;
         insert into t values (1, 'a', 1, 'x', 'n'), (2, repeat('b', 150000), 2, repeat('y', 30000)::bytea, null)",
    );
    scene.drain();
    scene.sql().exec(
        "insert into t values (3, 'c', 3, null, 'n');
         update t set n = 20 where id = 2; update t set id = 22 where id = 2; insert into t values (4, null, 4, 'z', 'n');
         insert into t values (5, repeat('c', 70000), 5, repeat('c', 70000)::bytea, 'n'); delete from t where id = 22",
    );
    scene.drain();
    let records = broker.read_all(&["large-short.public.t"]);
    let told: Vec<String> = records
        .iter()
        .map(|r| {
            let op = value(r).map_or("tombstone".to_owned(), |v| v["op"].as_str().unwrap().to_owned());
            format!("{} {op}", r.key.as_deref().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            "{\"id\":1} r",
            "{\"id\":2} r",
            "{\"id\":3} c",
            "{\"id\":2} u",
            "{\"id\":2} d",
            "{\"id\":2} tombstone",
            "{\"id\":22} c",
            "{\"id\":4} c",
            "{\"id\":5} c",
            "{\"id\":22} d",
            "{\"id\":22} tombstone",
        ]
    );
    let marks: Vec<Option<&str>> = records.iter().map(|r| header(r, "__strandline.truncated")).collect();
    let wide = Some("{\"body\":150000}");
    assert_eq!(marks[..5], [None, wide, None, wide, wide]);
    assert_eq!(marks[5..], [None, wide, None, Some("{\"body\":70000}"), wide, None]);
    let read = after(&records[1]);
    assert_eq!((&read["body"], &read["n"], &read["note"]), (&json!(PLACEHOLDER), &json!(2), &Value::Null));
    assert_eq!(read["raw"].as_str().map(str::len), Some(40000), "the narrower value is there");
    let updated = value(&records[3]).unwrap();
    assert_eq!((&updated["before"]["body"], &updated["before"]["n"]), (&json!(PLACEHOLDER), &json!(2)));
    assert_eq!(after(&records[7])["body"], Value::Null);
    let both = after(&records[8]);
    assert_eq!((&both["body"], both["raw"].as_str().map(str::len)), (&json!(PLACEHOLDER), Some(93336)));
}

/// The limit is the topic's own; what is too large for it goes to another topic, in the same transaction.
#[test]
fn a_large_event_goes_to_another_topic() {
    let broker = shared();
    let mut scene = scene("large-dead", broker);
    scene.config.target = Some(format!(
        "  type: kafka\n  brokers: [\"{}\"]\n  oversize: dead_letter\n  dead_letter_topic: large-dead-letters\n",
        broker.address()
    ));
    scene.config.more = "format: {debezium: {provide_transaction_metadata: true}}\n".into();
    broker.create_topic("large-dead.public.t", 1, &[("max.message.bytes", "30000")]);
    scene.sql().exec("create table t(id int primary key, body text); create table u(id int primary key)");
    scene.drain();
    scene.sql().exec(
        "begin; insert into t values (1, 'small'); insert into t values (2, repeat('x', 40000));
         insert into u values (1); insert into t select i, repeat('m', 2000) from generate_series(3, 60) i; commit",
    );
    scene.drain();
    let ids = |records: &[Record]| -> Vec<i64> {
        records.iter().map(|r| after(r)["id"].as_i64().unwrap()).collect()
    };
    // More than one batch of what the topic takes.
    let all: Vec<i64> = [1].into_iter().chain(3..=60).collect();
    assert_eq!(ids(&broker.read_all(&["large-dead.public.t"])), all);
    let dead = broker.read_all(&["large-dead-letters"]);
    assert_eq!(ids(&dead), [2]);
    assert_eq!((dead[0].key.as_deref(), &after(&dead[0])["body"]), (Some("{\"id\":2}"), &json!(PLACEHOLDER)));
    assert_eq!(header(&dead[0], "__strandline.error.code"), Some("KF005"));
    assert_eq!(header(&dead[0], "__strandline.error.topic"), Some("large-dead.public.t"));
    assert_eq!(header(&dead[0], "__strandline.truncated"), Some("{\"body\":40000}"));
    assert_eq!(value(&dead[0]).unwrap()["transaction"], Value::Null);
    let told = broker.read_all(&["large-dead.transaction"]);
    assert_eq!(value(&told[1]).unwrap()["event_count"], 60);
}

/// A limit that is lowered under a running pipeline: a clear end, and everything once when it fits again.
#[test]
fn a_topic_that_takes_less_than_before_stops_the_pipeline() {
    let broker = shared();
    let scene = scene("large-less", broker);
    let topic = "large-less.public.t";
    scene.sql().exec("create table t(id int primary key, body text); insert into t values (1, 'a')");
    let running = scene.start_run(&[]);
    until(LONG, "the copy", || running.stderr().contains("table copied"));
    broker.set_topic(topic, "max.message.bytes", "20000");
    scene.sql().exec("insert into t values (2, repeat('x', 60000)); insert into t values (3, 'c')");
    running.wait(LONG).expect_code(3).expect_error("KF003");
    assert_eq!(broker.read_all(&[topic]).len(), 1);
    broker.set_topic(topic, "max.message.bytes", "200000");
    scene.drain();
    let ids: Vec<Value> = broker.read_all(&[topic]).iter().map(|r| after(r)["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

/// A transaction that is split between Kafka transactions, with kills while parts of it are there: every event once, in order, and
/// its metadata as if it had come whole.
#[test]
fn a_split_transaction_goes_on_where_it_was_killed() {
    let broker = shared();
    let mut scene = scene("large-split", broker);
    scene.config.target =
        Some(format!("  type: kafka\n  brokers: [\"{}\"]\n  max_transaction: 1MiB\n", broker.address()));
    scene.config.more = "format: {debezium: {provide_transaction_metadata: true}}\n".into();
    scene
        .sql()
        .exec("create table a(id int primary key, t text); create table b(id int primary key, t text)");
    scene.drain();
    scene.sql().exec("insert into a values (0, 'before')");
    let rows = 20_000;
    // Both tables in turns, an aborted part in between.
    scene.sql().exec(&format!(
        "do $$ begin for i in 1..{rows} loop
           if i % 3 = 0 then insert into b values (i, repeat('b', 300)); else insert into a values (i, repeat('a', 300)); end if;
           if i % 1000 = 0 then begin insert into a values (-i, 'gone'); raise exception 'x'; exception when others then null; end; end if;
         end loop; end $$"
    ));
    scene.sql().exec("insert into b values (0, 'after')");
    let mut reader = broker.reader(&["large-split.public.a"]);
    let (mut seen, mut kills) = (0, 0);
    while kills < 4 {
        let running = scene.start_run(&[]);
        let before = seen;
        while seen < before + 2000 && seen < rows * 2 / 3 {
            assert!(reader.next(LONG).is_some(), "nothing comes:\n{}", running.stderr());
            seen += 1;
        }
        running.kill9();
        kills += 1;
        seen += reader.committed().len();
    }
    println!("{seen} of {} events of table a before the last kill", rows * 2 / 3);
    assert!(seen < rows * 2 / 3, "the kills came too late to prove anything");
    scene.drain();
    let read = |topic: &str| -> Vec<Record> {
        broker.read_all(&[topic]).into_iter().filter(|r| r.value.is_some()).collect()
    };
    let mut orders = Vec::new();
    let mut ids = |topic: &str| -> Vec<i64> {
        let records = read(topic);
        for record in &records {
            let block = &value(record).unwrap()["transaction"];
            orders.push((
                block["total_order"].as_u64().unwrap(),
                block["data_collection_order"].as_u64().unwrap(),
            ));
        }
        records.iter().map(|r| after(r)["id"].as_i64().unwrap()).collect()
    };
    let wanted = |third: bool| (1..=rows as i64).filter(move |i| (i % 3 == 0) == third);
    assert_eq!(ids("large-split.public.a"), [0].into_iter().chain(wanted(false)).collect::<Vec<_>>());
    assert_eq!(ids("large-split.public.b"), wanted(true).chain([0]).collect::<Vec<_>>());
    let mut total: Vec<u64> = orders.iter().map(|(total, _)| *total).collect();
    total.sort_unstable();
    assert_eq!(total, [1, 1].into_iter().chain(1..=rows as u64).collect::<Vec<_>>());
    let told: Vec<Value> =
        read("large-split.transaction").iter().map(|r| value(r).unwrap()["event_count"].clone()).collect();
    assert_eq!(told, [Value::Null, json!(1), Value::Null, json!(rows), Value::Null, json!(1)]);
}

/// What a table's topic is made with: its own, else that of all.
#[test]
fn topics_are_made_as_their_table_wants_them() {
    let broker = shared();
    let mut scene = scene("topics-own", broker);
    scene.config.target = Some(format!(
        "  type: kafka\n  brokers: [\"{}\"]\n  topics: {{partitions: 3, settings: {{cleanup.policy: compact, segment.ms: \"777000\"}}, \
         tables: {{public.a: {{partitions: 5, settings: {{cleanup.policy: delete}}}}}}}}\n",
        broker.address()
    ));
    scene.sql().exec("create table a(id int primary key); create table b(id int primary key)");
    scene.drain();
    let of = |table: &str, setting: &str| broker.topic(&format!("topics-own.public.{table}"), setting);
    assert_eq!(of("a", "cleanup.policy"), (5, Some("delete".into())));
    assert_eq!(of("a", "segment.ms"), (5, Some("777000".into())));
    assert_eq!(of("b", "cleanup.policy"), (3, Some("compact".into())));
}

/// The process that runs is asked over its socket: the rows come again, others go on, and changes follow.
#[test]
fn a_running_pipeline_reads_a_table_again() {
    let broker = shared();
    let scene = scene("kafka-again", broker);
    scene.sql().exec("create table t(id int primary key); insert into t values (1), (2); create table u(id int primary key)");
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    until(LONG, "the copies", || running.stderr().matches("table copied").count() == 2);
    let plan = scene.start(&["resync", "public.t", "-c", &config]).wait(LONG);
    assert!(plan.expect_code(2).stdout.contains("op r"), "{}", plan.stdout);
    scene.start(&["resync", "public.t", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    until(LONG, "the copy", || running.stderr().matches("table copied").count() == 3);
    scene.sql().exec("insert into t values (3); insert into u values (1)");
    let mut reader = broker.reader(&["kafka-again.public.u"]);
    assert!(reader.next(LONG).is_some(), "{}", running.stderr());
    // The table that was read again may follow the other only after it.
    until(LONG, "its change", || broker.read_all(&["kafka-again.public.t"]).len() >= 5);
    assert!(running.is_running(), "it ended:\n{}", running.stderr());
    running.terminate();
    running.wait(LONG).expect_code(0);
    let told: Vec<(String, i64)> = broker
        .read_all(&["kafka-again.public.t"])
        .iter()
        .map(|r| (value(r).unwrap()["op"].as_str().unwrap().to_owned(), after(r)["id"].as_i64().unwrap()))
        .collect();
    let read = |id: i64| ("r".to_owned(), id);
    assert_eq!(told, [read(1), read(2), read(1), read(2), ("c".to_owned(), 3)]);
}
