//! From a connector of Debezium's to a pipeline that goes on where it was; and columns that change while processes die.

use crate::harness::kafka::shared;
use crate::harness::{LONG, until};
use crate::kafka::{scene, value};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The connector's slot, publication, route and offset, as they were left.
#[test]
fn a_pipeline_goes_on_from_a_connectors_slot() {
    let broker = shared();
    let scene = scene("kafka-import", broker);
    let mut sql = scene.sql();
    sql.exec("create table inventory_orders(id int primary key, v text)");
    sql.exec("create publication dbz_publication for all tables with (publish_via_partition_root = true)");
    sql.exec("select pg_create_logical_replication_slot('dbz_slot', 'pgoutput')");
    sql.exec("insert into inventory_orders select i, 'sent by the connector' from generate_series(1, 3) i");
    let sent = sql.value("select pg_current_wal_lsn() - '0/0'");
    sql.exec("select pg_replication_slot_advance('dbz_slot', pg_current_wal_lsn())");
    sql.exec("insert into inventory_orders values (4, 'not sent'); update inventory_orders set v = 'new' where id = 1");
    let url = scene.pg.url("strandline", "shop");
    let at = url.split_once('@').expect("a user").1;
    let (host, rest) = at.split_once(':').expect("a port");
    let port = rest.split(['/', '?']).next().expect("a port");
    let user = url.split_once("://").expect("an address").1.split([':', '@']).next().expect("a user");
    let connector = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput", "slot.name": "dbz_slot", "publication.name": "dbz_publication",
        "database.hostname": host, "database.port": port, "database.user": user, "database.dbname": "shop",
        "database.server.name": "kafka-import", "table.include.list": "public.inventory_orders",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false", "tombstones.on.delete": "true",
        "transforms": "route", "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.route.regex": "([^.]+)\\.([^.]+)\\.([^.]+)", "transforms.route.replacement": "$3-cdc",
        "bootstrap.servers": broker.address(),
    });
    let offsets = json!({"offsets": [{
        "partition": {"server": "kafka-import"},
        "offset": {"lsn_commit": sent.parse::<u64>().expect("a number"), "lsn": 1, "txId": 5},
    }]});
    let connector = scene.write_text("connector.json", &connector.to_string());
    let offsets = scene.write_text("offsets.json", &offsets.to_string());
    let done =
        scene.start(&["import", "debezium", &connector, "--offsets", &offsets, "--partial"]).wait(LONG);
    done.expect_code(0);
    assert!(done.stderr.contains("--no-snapshot"), "{}", done.stderr);
    let config = scene.write_text("imported.yaml", &done.stdout.replace("localhost:9092", &broker.address()));
    let run = |more: &[&str]| {
        let mut arguments = vec!["run", "-c", &config, "--until-caught-up"];
        arguments.extend(more);
        scene.start(&arguments).wait(LONG).expect_code(0);
    };
    run(&["--no-snapshot"]);
    sql.exec("delete from inventory_orders where id = 2");
    // It is an ordinary pipeline from here on.
    run(&[]);
    let told: Vec<(Value, Value)> = broker
        .read_all(&["inventory_orders-cdc"])
        .iter()
        .filter_map(value)
        .map(|value| (value["op"].clone(), value["after"]["id"].clone()))
        .collect();
    assert_eq!(told, [(json!("c"), json!(4)), (json!("u"), json!(1)), (json!("d"), Value::Null)]);
    assert_eq!(sql.value("select count(*) from pg_replication_slots"), "1");
}

/// Columns come while processes die on either side of the transaction that holds the first row with them: no event comes
/// twice, each with the columns of its own moment.
#[test]
fn columns_that_come_between_kills() {
    let broker = shared();
    let scene = scene("kafka-columns", broker);
    let topic = "kafka-columns.public.t";
    scene.sql().exec("create table t(id int primary key)");
    scene.drain();
    for step in 1..=4 {
        let mut running = scene.start_run(&[]);
        until(LONG, "it streams", || running.stderr().contains("took over"));
        let (before, after) = (step * 10, step * 10 + 1);
        scene.sql().exec(&format!(
            "insert into t(id) values ({before}); alter table t add c{step} int default {step}; insert into t(id) values ({after})"
        ));
        if step % 2 == 0 {
            let is_there = |record: &crate::harness::kafka::Record| {
                value(record).is_some_and(|value| value["after"]["id"] == after)
            };
            until(LONG, "the row is there", || broker.read_all(&[topic]).iter().any(is_there));
        }
        assert!(running.is_running(), "{}", running.stderr());
        running.kill9();
    }
    scene.drain();
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    for record in broker.read_all(&[topic]) {
        let value = value(&record).expect("an event");
        let after = &value["after"];
        let id = after["id"].as_i64().expect("a key");
        if value["op"] == "r" {
            continue;
        }
        assert_eq!(value["op"], "c");
        *times.entry(id).or_default() += 1;
        let step = id / 10;
        let newest = if id % 10 == 1 { json!(step) } else { Value::Null };
        assert_eq!(after[format!("c{step}")], newest, "{value}");
    }
    assert!(times.values().all(|times| *times == 1), "{times:?}");
    let seen = broker
        .read_all(&[topic])
        .iter()
        .filter_map(value)
        .filter_map(|v| v["after"]["id"].as_i64())
        .collect();
    let wanted: std::collections::BTreeSet<i64> =
        (1..=4).flat_map(|step| [step * 10, step * 10 + 1]).collect();
    assert_eq!(wanted, seen);
}
