//! What stands beside the tables' topics: transactions and heartbeats.

use crate::harness::Scene;
use crate::harness::kafka::{Record, shared};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn value(record: &Record) -> Value {
    serde_json::from_str(record.value.as_deref().expect("a value")).expect("JSON")
}

/// BEGIN, END and the blocks within the events say the same of each transaction, in the order of the source.
#[test]
fn transactions_are_told_in_a_topic_of_their_own() {
    let broker = shared();
    let mut scene = Scene::new("kafka-transactions");
    scene.config.name = "kt".into();
    let format = "format:\n  debezium: {provide_transaction_metadata: true, heartbeat_interval: 20ms}\n";
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", broker.address()));
    scene.config.more = format.into();
    scene.sql().exec("create table a(id int primary key, v text); create table b(id int primary key)");
    scene.drain();
    scene.sql().exec(
        "begin; insert into a values (1, 'x'); insert into b values (1); update a set id = 2; commit;
         begin; delete from a; commit; begin; insert into b values (9); rollback; insert into b values (3)",
    );
    scene.drain();
    scene.config.more = String::new();
    scene.config.source =
        "  heartbeat: 50ms\n  heartbeat_action_query: \"update beat set n = n + 1\"\n".into();
    scene.sql().exec(
        "create table beat(id int primary key, n int); insert into beat values (1, 0); grant update, select on beat to strandline",
    );
    let running = scene.start_run(&[]);
    crate::harness::until(crate::harness::LONG, "the action is run", || {
        let beats = broker.read_all(&["kt.public.beat"]);
        beats.iter().filter(|record| value(record)["op"] == "u").count() >= 2
    });
    running.terminate();
    running.wait(crate::harness::LONG).expect_code(0);
    let told = broker.read_all(&["kt.transaction"]);
    let shown: Vec<Value> = told
        .iter()
        .map(|record| {
            let value = value(record);
            assert_eq!(record.key.as_deref(), Some(json!({"id": value["id"]}).to_string().as_str()));
            assert!(record.headers.is_empty());
            json!([value["status"], value["event_count"], value["data_collections"]])
        })
        .collect();
    let tables = |all: &[(&str, u64)]| -> Value {
        all.iter().map(|(name, n)| json!({"data_collection": name, "event_count": n})).collect()
    };
    assert_eq!(
        shown,
        [
            json!(["BEGIN", null, null]),
            json!(["END", 4, tables(&[("public.a", 3), ("public.b", 1)])]),
            json!(["BEGIN", null, null]),
            json!(["END", 1, tables(&[("public.a", 1)])]),
            json!(["BEGIN", null, null]),
            json!(["END", 1, tables(&[("public.b", 1)])]),
        ]
    );
    // Per transaction, the places of its events.
    let mut places: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for record in broker.read_all(&["kt.public.a", "kt.public.b"]) {
        if record.value.is_none() {
            continue;
        }
        let block = value(&record)["transaction"].clone();
        let xid = block["id"].as_str().expect("an id").split(':').next().unwrap_or_default().to_owned();
        let number = |name: &str| block[name].as_u64().expect("a number");
        places.entry(xid).or_default().push((number("total_order"), number("data_collection_order")));
    }
    let mut places: Vec<Vec<(u64, u64)>> = places.into_values().collect();
    places.iter_mut().for_each(|places| places.sort_unstable());
    assert_eq!(places, [vec![(1, 1), (2, 1), (3, 2), (4, 3)], vec![(1, 1)], vec![(1, 1)]]);
    let beats = broker.read_all(&["__debezium-heartbeat.kt"]);
    assert!(!beats.is_empty());
    for beat in beats {
        assert_eq!((beat.partition, beat.key.as_deref()), (0, Some(r#"{"serverName":"kt"}"#)));
        assert!(beat.value.is_some_and(|value| value.starts_with("{\"ts_ms\":")) && beat.headers.is_empty());
    }
}
