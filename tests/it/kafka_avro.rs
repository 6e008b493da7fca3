//! Events in Avro, with a Schema Registry, read back by a library that is not ours.

use crate::harness::kafka::{Broker, Record, shared};
use crate::harness::registry::Registry;
use crate::harness::{LONG, Scene, until};
use crate::kafka::scene;
use crate::kafka_verify::is_equal;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

fn hex(bytes: &str) -> &str {
    bytes.strip_prefix("hex:").expect("bytes that are no text")
}

/// Keys and values, decoded.
fn read(registry: &Registry, broker: &Broker, topic: &str) -> (Vec<Value>, Vec<Value>) {
    let records: Vec<Record> = broker.read_all(&[topic]).into_iter().filter(|r| r.value.is_some()).collect();
    let keys: Vec<&str> = records.iter().filter_map(|r| r.key.as_deref()).map(hex).collect();
    let values: Vec<&str> = records.iter().filter_map(|r| r.value.as_deref()).map(hex).collect();
    (registry.decoded(&keys), registry.decoded(&values))
}

/// So many records come.
fn expect(broker: &Broker, topic: &str, count: usize) {
    let mut reader = broker.reader(&[topic]);
    for at in 0..count {
        assert!(reader.next(LONG).is_some(), "{topic}: record {at} of {count} does not come");
    }
}

fn avro(scene: &mut Scene, registry: &Registry, more: &str) {
    scene.config.more = format!(
        "format:\n  encoding: avro\n  schema_registry: {{url: \"{}\"}}\n  debezium: {{schema_name_adjustment_mode: avro, {more}}}\n",
        registry.url()
    );
}

/// Every record decodes under the schema that its id names, and says what the row says; columns come; a change that the
/// subject's rules forbid stops its table alone; a registry that is away is waited for.
#[test]
fn events_in_avro_are_read_with_the_registry() {
    let broker = shared();
    let mut scene = scene("avro-events", broker);
    let mut registry = Registry::start(&scene.dir().join("registry"));
    avro(&mut scene, &registry, "provide_transaction_metadata: true, heartbeat_interval: 20ms");
    scene.sql().exec(
        "create table t(id int primary key, name text not null, total numeric(10,2), flag bool default true, at timestamptz, raw bytea,
           tags text[], day date, price float8, doc jsonb, uid uuid);
         create table u(id int primary key, v int); create table strict(id int primary key, v int);
         insert into t values (1, 'ä€', -12.34, null, '2026-01-02T03:04:05.678901Z', '\\x00ff', '{a,null}', '2026-01-02', 1.5,
           '{\"a\": 1}', '00000000-0000-0000-0000-000000000001'), (2, '', null, false, null, null, null, null, null, null, null)",
    );
    scene.drain();
    scene.sql().exec(
        "begin; update t set total = 99999999.99, name = 'x' where id = 1; insert into u values (1, 2); commit;
         update t set id = 3 where id = 2; delete from t where id = 3; insert into strict values (1, 1)",
    );
    scene.drain();
    let (keys, values) = read(&registry, broker, "avro-events.public.t");
    assert_eq!(keys[0]["schema"], "avro_events.public.t.Key");
    let ids: Vec<&Value> = keys.iter().map(|key| &key["value"]["id"]).collect();
    assert_eq!(ids, [1, 2, 1, 2, 3, 3]);
    assert_eq!(values[0]["schema"], "avro_events.public.t.Envelope");
    let ops: Vec<&str> = values.iter().map(|v| v["value"]["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["r", "r", "u", "d", "c", "d"]);
    let first = &values[0]["value"];
    assert_eq!(
        first["after"],
        json!({"id": 1, "name": "ä€", "total": "-12.34", "flag": null, "at": "2026-01-02T03:04:05.678901Z", "raw": "AP8=",
            "tags": ["a", null], "day": 20455, "price": 1.5, "doc": "{\"a\": 1}", "uid": "00000000-0000-0000-0000-000000000001"})
    );
    assert_eq!((&first["before"], &first["transaction"]), (&Value::Null, &Value::Null));
    assert_eq!(first["source"]["connector"], "postgresql");
    let updated = &values[2]["value"];
    assert_eq!(updated["after"]["total"], "99999999.99");
    assert_eq!(
        (&updated["transaction"]["total_order"], &updated["source"]["snapshot"]),
        (&json!(1), &json!("false"))
    );
    transactions_and_heartbeats_are_avro_too(broker, &registry);
    is_equal(&scene, &["public.t", "public.u", "public.strict"]);

    // A column that comes is allowed by the rules.
    registry.set_rule("avro-events.public.t-value", "BACKWARD");
    let running = scene.start_run(&[]);
    scene.sql().exec(
        "alter table t add more int; insert into t values (4, 'n', null, null, null, null, null, null, null, null, null, 7);
         insert into u values (2, 3)",
    );
    expect(broker, "avro-events.public.t", 9);
    expect(broker, "avro-events.public.u", 2);
    // By the schemas that wrote the records: two of the table by now.
    is_equal(&scene, &["public.t", "public.u"]);
    // Of a registry that is away.
    registry.stop();
    scene.sql().exec("alter table u add more text; insert into u values (3, 4, 'm')");
    until(LONG, "the registry is missed", || running.stderr().contains("KF009"));
    registry.restart();
    expect(broker, "avro-events.public.u", 3);
    running.terminate();
    running.wait(LONG).expect_code(0);
    let running = scene.start_run(&[]);
    scene.sql().exec("insert into strict values (5, 5)");
    expect(broker, "avro-events.public.strict", 2);
    // A wider type is not allowed where older readers must follow; the others go on.
    registry.set_rule("avro-events.public.strict-value", "FORWARD");
    scene.sql().exec("alter table strict alter v type bigint; insert into strict values (2, 2)");
    until(LONG, "the refusal", || running.stderr().contains("KF011"));
    scene.sql().exec("insert into u values (4, 5, 'n')");
    expect(broker, "avro-events.public.u", 4);
    running.terminate();
    let outcome = running.wait(LONG);
    assert!(outcome.stderr.contains("avro-events.public.strict-value"), "{}", outcome.stderr);
    assert_eq!(broker.read_all(&["avro-events.public.strict"]).len(), 2);
    assert_eq!(broker.read_all(&["avro-events.public.t"]).len(), 9);
    refusals_are_told(broker, &registry);
}

fn transactions_and_heartbeats_are_avro_too(broker: &Broker, registry: &Registry) {
    let (_, told) = read(registry, broker, "avro-events.transaction");
    let counts: Vec<&Value> = told.iter().map(|end| &end["value"]["event_count"]).collect();
    assert_eq!(counts[..2], [&Value::Null, &json!(2)]);
    let (beats, _) = read(registry, broker, "__debezium-heartbeat.avro-events");
    assert_eq!(beats[0]["value"], json!({"serverName": "avro-events"}));
}

/// A login that the registry refuses, schemas that are not there, a wrong address: each with its code.
fn refusals_are_told(broker: &Broker, registry: &Registry) {
    let mut scene = scene("avro-refused", broker);
    scene.sql().exec("create table t(id int primary key)");
    let mut refused = |keys: &str, code: &str, exit: i32| {
        scene.config.more = format!(
            "format:\n  encoding: avro\n  debezium: {{schema_name_adjustment_mode: avro}}\n  schema_registry: {{{keys}}}\n"
        );
        scene.run(&["--until-caught-up"]).expect_code(exit).expect_error(code);
    };
    let wrong = registry.url().replace("/apis/ccompat/v7", "/nowhere");
    refused(&format!("url: \"{wrong}\""), "KF010", 3);
    let url = with_a_login();
    refused(&format!("url: \"{url}\", user: strandline, password: hunter2x"), "KF010", 3);
    refused(&format!("url: \"{url}\""), "KF010", 3);
    scene.config.more = format!(
        "format:\n  encoding: avro\n  schema_registry: {{url: \"{url}\", user: strandline, password: secret}}\n"
    );
    scene.sql().exec("insert into t values (1)");
    scene.drain();
    let records = broker.read_all(&["avro-refused.public.t"]);
    assert!(
        records[0].value.as_deref().is_some_and(|value| value.starts_with("hex:0000000007")),
        "{records:?}"
    );
    scene.config.more = format!(
        "format:\n  encoding: avro\n  schema_registry: {{url: \"{}\", register: false}}\n",
        registry.url()
    );
    scene.run(&["--until-caught-up"]).expect_error("KF011");
}

/// A registry that knows one user and one id.
fn with_a_login() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut is_known, mut length) = (false, 0);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|n| n > 2) {
                let lower = line.trim().to_lowercase();
                // strandline:secret
                is_known |= line.trim().ends_with("Basic c3RyYW5kbGluZTpzZWNyZXQ=");
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("the body");
            let (status, body) = if is_known {
                ("200 OK", "{\"id\": 7}")
            } else {
                ("401 Unauthorized", "{\"message\": \"who?\"}")
            };
            let n = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n{body}");
            stream.get_mut().write_all(answer.as_bytes()).expect("it is read");
        }
    });
    url
}
