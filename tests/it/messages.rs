//! Logical messages of the application (`pg_logical_emit_message`) are passed on to targets that have a place for them.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, NEWEST, OLDEST, Scene, until};
use crate::workload::Clients;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

fn scene(name: &str, major: u32, broker: &Broker) -> Scene {
    let mut scene = Scene::on(name, major);
    scene.config.name = name.to_owned();
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", broker.address()));
    scene.config.interval = "5ms".into();
    scene.sql().exec("create table t (id int primary key, v text)");
    scene
}

fn value(record: &Record) -> Value {
    serde_json::from_str(record.value.as_deref().expect("a value")).expect("JSON")
}

/// The content as text, by the source's own decoder of base64.
fn content(sql: &mut Sql, record: &Record) -> String {
    let value = value(record);
    let content = value["message"]["content"].as_str().expect("a content");
    sql.value(&format!("select convert_from(decode('{content}', 'base64'), 'UTF8')"))
}

/// Of transactions and of none, of prefixes that are not ours, in large transactions that are rolled back in part: each
/// once, in its place. One that is too large stops the messages alone, and a resync takes them up again.
fn each_once(major: u32) {
    let broker = shared();
    let mut scene = scene(&format!("messages{major}"), major, broker);
    let name = scene.config.name.clone();
    scene.config.target =
        Some(format!("  type: kafka\n  brokers: [\"{}\"]\n  max_record: 1MiB\n", broker.address()));
    scene.config.more = "format:\n  debezium: {provide_transaction_metadata: true}\n".into();
    let mut sql = scene.sql();
    sql.exec("alter system set logical_decoding_work_mem = '64kB'");
    sql.exec("select pg_reload_conf()");
    scene.drain();
    let topic = format!("{name}.message");
    assert!(!broker.topics().contains(&topic), "no topic before the first one");
    let large = "insert into t select i, repeat(md5(i::text), 8) from generate_series(FROM, FROM + 1500) i";
    let large = |from: u32| large.replace("FROM", &from.to_string());
    for script in [
        "select pg_logical_emit_message(false, 'app', 'alone')".to_owned(),
        "begin; insert into t values (1, 'a'); select pg_logical_emit_message(true, 'app', 'within');
         insert into t values (2, 'b'); select pg_logical_emit_message(true, '', ''); commit"
            .to_owned(),
        "begin; insert into t values (3, 'c'); select pg_logical_emit_message(true, 'app', 'rolled back');
         select pg_logical_emit_message(false, 'app', 'of what is rolled back'); rollback"
            .to_owned(),
        "select pg_logical_emit_message(true, 'strandline', 'as if it were ours')".to_owned(),
        format!(
            "begin; {}; select pg_logical_emit_message(true, 'app', 'in a block'); savepoint s;
             select pg_logical_emit_message(true, 'app', 'rolled back to a savepoint'); {}; rollback to s;
             {}; select pg_logical_emit_message(true, 'app', 'at its end'); commit",
            large(1000),
            large(3000),
            large(5000)
        ),
        format!(
            "begin; {}; select pg_logical_emit_message(true, 'app', 'of a large one'); {}; commit",
            large(7000),
            large(9000)
        ),
    ] {
        sql.exec(&script);
    }
    scene.drain();
    let streamed = sql.value("select sum(stream_txns) from pg_stat_replication_slots");
    assert!(streamed != "0", "nothing came in blocks");
    let records = broker.read_all(&[&topic]);
    let mut told = Vec::new();
    for record in &records {
        let (value, content) = (value(record), content(&mut sql, record));
        assert!(record.headers.is_empty() && value["op"] == "m");
        let block = &value["transaction"];
        assert_eq!(block.is_null(), value["source"]["txId"].is_null(), "{value}");
        told.push(format!("{} {content} {}", value["message"]["prefix"], block["total_order"]));
    }
    // By prefix they go to partitions: in order within each.
    let of_app: Vec<&str> =
        told.iter().filter(|line| line.starts_with("\"app\"")).map(String::as_str).collect();
    assert_eq!(
        of_app,
        [
            "\"app\" alone null",
            "\"app\" within 2",
            "\"app\" of what is rolled back null",
            "\"app\" in a block 1502",
            "\"app\" at its end 3004",
            "\"app\" of a large one 1502"
        ]
    );
    assert_eq!(told.len(), 7, "{told:?}");
    stopped_and_taken_up_again(&scene, broker, &topic);
    // Nothing but them was touched by all this.
    let rows = broker.read_all(&[&format!("{name}.public.t")]).len();
    assert_eq!(rows.to_string(), sql.value("select count(*) from t"));
}

/// One that is too large stops the messages alone, and a resync takes them up again.
fn stopped_and_taken_up_again(scene: &Scene, broker: &Broker, topic: &str) {
    let mut sql = scene.sql();
    let before = broker.read_all(&[topic]).len();
    sql.exec("select pg_logical_emit_message(true, 'app', repeat('x', 3000000)); insert into t values (10, 'after')");
    scene.run(&["--until-caught-up"]).expect_error("KF005");
    sql.exec("select pg_logical_emit_message(true, 'app', 'while they are stopped'); insert into t values (11, 'after')");
    scene.run(&["--until-caught-up"]);
    assert_eq!(broker.read_all(&[topic]).len(), before);
    let config = scene.write_config();
    scene.start(&["resync", "LOGICAL_DECODING_MESSAGE", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    sql.exec("select pg_logical_emit_message(true, 'app', 'again')");
    scene.drain();
    let records = broker.read_all(&[topic]);
    assert_eq!(content(&mut sql, records.last().expect("a record")), "again");
    assert_eq!(records.len(), before + 1);
}

#[test]
fn each_once_on_the_newest() {
    each_once(NEWEST);
}

#[test]
fn each_once_on_the_oldest() {
    each_once(OLDEST);
}

/// Messages and rows with the same number, of a transaction and beside it.
fn speak(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let id = random.between(1, i32::MAX as u64);
    let rows = random.between(0, 3);
    sql.try_exec(&format!(
        "begin; select pg_logical_emit_message({}, 'n', '{id}'); insert into said values ({id});
         insert into t select {id} + i, 'x' from generate_series(1, {rows}) i on conflict do nothing;
         select pg_logical_emit_message(true, 'n', '{id}'); commit",
        random.one_in(2)
    ))
}

/// kill -9 at any moment: each message comes once.
#[test]
fn kills_double_and_lose_none() {
    let kills = std::env::var("KILLS").map_or(8, |kills| kills.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env("messages-kill");
    let broker = shared();
    let scene = scene("messages-kill", NEWEST, broker);
    let mut sql = scene.sql();
    sql.exec("create table said (id bigint primary key)");
    scene.drain();
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(3), speak);
    for _ in 0..kills {
        let mut running = scene.start_run(&[]);
        until(LONG, "it streams", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            running.stderr().contains("took over")
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 700)));
        let log = running.kill9();
        assert!(!log.contains("\"level\":\"error\""), "{log}");
    }
    let turns = clients.stop();
    scene.drain();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut all = String::new();
    for record in broker.read_all(&["messages-kill.message"]) {
        let content = value(&record)["message"]["content"].as_str().expect("a content").to_owned();
        *seen.entry(content.clone()).or_default() += 1;
        all.push_str(&content);
        all.push('\n');
    }
    assert!(seen.values().all(|times| *times == 2), "not twice: {seen:?}");
    sql.exec("create temp table heard (content text)");
    let mut rest: Vec<&String> = seen.keys().collect();
    while !rest.is_empty() {
        let values: Vec<String> =
            rest.drain(..rest.len().min(1000)).map(|content| format!("('{content}')")).collect();
        sql.exec(&format!("insert into heard values {}", values.join(",")));
    }
    let differing = "select count(*) from said full join (select convert_from(decode(content, 'base64'), 'UTF8')::bigint id from heard) h
                     using (id) where said.id is null or h.id is null";
    // A message that is of no transaction is there even when its transaction was not.
    assert_eq!(sql.value(differing), "0", "{turns} turns, {} heard", seen.len());
    println!("{kills} kills, {turns} turns, {} messages", 2 * seen.len());
}
