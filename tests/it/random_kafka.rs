//! The workloads of `random_postgres` into Kafka: whatever happens, what a `read_committed` consumer sees is each change
//! once and in order, and after the last of them it knows the source's rows.
//!
//! The rows are kept as a consumer would: by key, from the topic's beginning. A row that comes twice, or that changes or
//! goes without being there, is an event that was lost or doubled. Where a client altered tables, rows that nobody
//! changed since lack the new columns, as with Debezium: then only the number of rows is compared.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::random::Random;
use crate::harness::sql::{Row, Sql};
use crate::kafka;
use crate::random_mysql;
use crate::random_postgres::{Clientele, fill, kill_for, make_table, rounds};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Types whose values look alike in JSON and in the source's text.
const PLAIN: &[&str] = &["smallint", "integer", "bigint", "text", "character varying(40)", "boolean", "uuid"];

#[test]
fn every_topic_tells_each_change_once_whatever_happens() {
    rounds("random_kafka", one_round);
}

#[test]
fn every_topic_of_mysql_tells_each_change_once_whatever_happens() {
    rounds("random_kafka_mysql", |random, lasts| mysql_round(Brand::MySql9, random, lasts));
}

#[test]
fn every_topic_of_mariadb_tells_each_change_once_whatever_happens() {
    rounds("random_kafka_mariadb", |random, lasts| mysql_round(Brand::MariaDb118, random, lasts));
}

fn mysql_round(brand: Brand, random: &mut Random, lasts: Duration) -> u64 {
    let broker = shared();
    let Some(mut scene) = MyScene::new("random-kafka", brand) else { return 0 };
    let mut sql = scene.sql();
    for i in 0..random_mysql::TABLES {
        random_mysql::make_table(&mut sql, random, &format!("t{i}"));
    }
    scene.config.name = format!("random-{:x}", random.next());
    scene.config.target = Some(format!(
        "  type: kafka\n  brokers: [\"{}\"]\n  commit: {{interval: {}, max_rows: {}}}\n",
        broker.address(),
        random.pick(&["0s", "10ms", "300ms"]),
        random.pick(&["50", "50000"])
    ));
    scene.config.more = format!(
        "format:\n  debezium: {{skipped_operations: [none], decimal_handling_mode: string, \
         bigint_unsigned_handling_mode: precise, provide_transaction_metadata: {}}}\nlimits: {{memory: {}}}\n",
        random.pick(&["true", "false"]),
        random.pick(&["128MiB", "512MiB"]),
    );
    println!("{} {}", scene.config.target.as_deref().unwrap_or_default(), scene.config.more);
    let altering = random.one_in(2);
    let (kills, mut sql) = random_mysql::work_and_kill(&scene, random, lasts, altering);
    scene.drain();
    for i in 0..random_mysql::TABLES {
        let topic = format!("{}.shop.t{i}", scene.config.name);
        let plain: Vec<String> = sql
            .texts(&format!(
                "select cast(column_name as char) from information_schema.columns where table_schema = 'shop'
                 and table_name = 't{i}' and data_type in ('tinyint', 'smallint', 'mediumint', 'int', 'varchar', 'text')
                 order by column_name"
            ))
            .into_iter()
            .map(|mut row| row.swap_remove(0))
            .collect();
        let spelled: Vec<String> =
            plain.iter().map(|name| format!("cast(convert(`{name}` using utf8mb4) as char)")).collect();
        let cells = [spelled, vec!["''".to_owned()]].concat().join(", ");
        let source = sql.rows(&format!("select {cells} from t{i}"));
        compare(broker, &topic, source, if altering { None } else { Some(&plain) });
    }
    kills
}

fn one_round(random: &mut Random, lasts: Duration) -> u64 {
    let broker = shared();
    let mut scene = kafka::scene(&format!("random-{:x}", random.next()), broker);
    scene.pg.set_and_restart("max_prepared_transactions=10");
    let mut sql = scene.sql();
    sql.exec("alter role strandline set logical_decoding_work_mem = '64kB'");
    let tables: Vec<String> = (0..random.between(1, 4)).map(|i| format!("t{i}")).collect();
    for table in &tables {
        make_table(&mut sql, random, table);
        fill(&mut sql, random, table);
    }
    let style = random.pick(&["", "  style: debezium\n"]);
    scene.config.interval =
        format!("{}, max_rows: {}", random.pick(&["0s", "10ms", "300ms"]), random.pick(&["50", "50000"]));
    scene.config.more = format!(
        "format:\n{style}  debezium: {{skipped_operations: [none], decimal_handling_mode: string, provide_transaction_metadata: {}}}\n\
         limits: {{memory: {}}}\n",
        random.pick(&["true", "false"]),
        random.pick(&["128MiB", "512MiB"]),
    );
    println!("{} {}", scene.config.interval, scene.config.more);
    let altering = random.one_in(2);
    let clients = Clientele::start(&scene, random, &tables, altering);
    let kills = kill_for(lasts, &scene, random);
    clients.stop(&scene);
    scene.drain();
    let mut sql = scene.sql();
    for table in &tables {
        check(broker, &format!("{}.public.{table}", scene.config.name), &mut sql, table, altering);
    }
    kills
}

#[track_caller]
fn check(broker: &Broker, topic: &str, sql: &mut Sql, table: &str, altered: bool) {
    let plain: Vec<String> = sql
        .rows(&format!(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute
             where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped order by attname"
        ))
        .into_iter()
        .filter(|row| row[1].as_deref().is_some_and(|kind| PLAIN.contains(&kind)))
        .map(|mut row| row.swap_remove(0).expect("a name"))
        .collect();
    let spelled: Vec<String> =
        plain.iter().map(|name| format!("\"{}\"::text", name.replace('"', "\"\""))).collect();
    // A row of no columns is a row, too.
    let source =
        sql.rows(&format!("select {} from {table}", [spelled, vec!["''".to_owned()]].concat().join(", ")));
    compare(broker, topic, source, if altered { None } else { Some(&plain) });
}

/// Compares what the topic told with the source's rows: the columns with these names, or only how many there are.
/// A row of the source has one cell more.
#[track_caller]
fn compare(broker: &Broker, topic: &str, mut source: Vec<Row>, names: Option<&[String]>) {
    if source.is_empty() && !broker.topics().iter().any(|name| name == topic) {
        return;
    }
    let rows = follow(&broker.read_all(&[topic]));
    assert_eq!(rows.len(), source.len(), "{topic}: rows");
    let Some(names) = names else { return };
    let cell = |row: &Map<String, Value>, name: &String| {
        text(row.get(name).unwrap_or_else(|| panic!("{topic}: no {name}")))
    };
    let shown = |row: &Map<String, Value>| -> Row { names.iter().map(|name| cell(row, name)).collect() };
    let mut told: Vec<Row> = rows.values().map(shown).collect();
    source.iter_mut().for_each(|row| row.truncate(names.len()));
    told.sort();
    source.sort();
    if told != source {
        let odd = told.iter().zip(&source).find(|(told, source)| told != source);
        panic!("{topic}: told and source differ, first: {odd:?}");
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The rows by key after all events; fails at an event that cannot come after those before it.
#[track_caller]
fn follow(records: &[Record]) -> BTreeMap<String, Map<String, Value>> {
    let mut rows: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for record in records {
        let at = || format!("{}[{}]@{} {:?}", record.topic, record.partition, record.offset, record.key);
        let Some(value) = kafka::value(record) else { continue };
        let op = value["op"].as_str().expect("an operation");
        if op == "t" {
            rows.clear();
            continue;
        }
        let key = record.key.clone().expect("a key");
        let after = value["after"].as_object().cloned();
        let before = match op {
            "d" => rows.remove(&key),
            _ => rows.insert(key.clone(), after.unwrap_or_else(|| panic!("{}: no row", at()))),
        };
        match (op, before) {
            ("r", _) | ("c", None) | ("d", Some(_)) => {}
            ("u", Some(before)) => {
                // A large value that the log does not repeat.
                for (name, value) in rows.get_mut(&key).into_iter().flatten() {
                    if value == "__debezium_unavailable_value" {
                        *value = before.get(name).cloned().unwrap_or(Value::Null);
                    }
                }
            }
            ("c", Some(_)) => panic!("{}: it was there already", at()),
            (_, None) => panic!("{}: {op} of a row that is not there", at()),
            (other, _) => panic!("{}: operation {other}", at()),
        }
    }
    rows
}
