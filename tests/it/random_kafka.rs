//! The workloads of `random_postgres` into Kafka: whatever happens, what a `read_committed` consumer sees is each change
//! once and in order, and after the last of them it knows the source's rows.
//!
//! The rows are kept as a consumer would: by key, from the topic's beginning. A row that comes twice, or that changes or
//! goes without being there, is an event that was lost or doubled. Where a client altered tables, rows that nobody
//! changed since lack the new columns, as with Debezium: then only the number of rows is compared.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::random::Random;
use crate::harness::sql::Sql;
use crate::kafka;
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
        "format:\n{style}  debezium: {{skipped_operations: [none], provide_transaction_metadata: {}}}\n\
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
    let there = sql.value(&format!("select count(*) from {table}"));
    if there == "0" && !broker.topics().iter().any(|name| name == topic) {
        return;
    }
    let rows = follow(&broker.read_all(&[topic]));
    assert_eq!(rows.len().to_string(), there, "{topic}: rows");
    if altered {
        return;
    }
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
    let shown = |row: &Map<String, Value>| -> Vec<Option<String>> {
        plain.iter().map(|name| text(row.get(name).unwrap_or_else(|| panic!("{topic}: no {name}")))).collect()
    };
    let mut told: Vec<Vec<Option<String>>> = rows.values().map(shown).collect();
    let nothing = if spelled.is_empty() { "select" } else { "select " };
    let mut source = sql.rows(&format!("{nothing}{} from {table}", spelled.join(", ")));
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
