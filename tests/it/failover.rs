//! Standbys: as the server that takes over, and as the source itself.

use crate::harness::kafka::{Broker, shared};
use crate::harness::process::Strandline;
use crate::harness::proxy::Proxy;
use crate::harness::reader::Engine;
use crate::harness::{LONG, NEWEST, Scene, deltalog, has, until};
use std::collections::BTreeSet;

const SYNCED: &str = "select count(*) from pg_replication_slots where slot_name like 'strandline_shop%' and synced \
                      and not temporary and invalidation_reason is null";

fn with_orders(test: &str) -> Scene {
    let scene = Scene::on(test, NEWEST);
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 100) i",
    );
    scene
}

#[track_caller]
fn wait_live(scene: &Scene, running: &mut Strandline) {
    let table = scene.table("public.orders");
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop").is_some()
    });
}

#[track_caller]
fn equal_at_last(scene: &mut Scene, running: &mut Strandline) {
    until(LONG, "the rows arrive", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        scene.difference("public.orders", Engine::DuckDb).is_none()
    });
}

/// The slot goes along to a standby only once its consumer has passed what the standby still has.
#[track_caller]
fn wait_synced(scene: &Scene, standby: &crate::harness::postgres::Postgres, running: &mut Strandline) {
    wait_for_slots(scene, standby, running, 1);
}

fn wait_for_slots(
    scene: &Scene,
    standby: &crate::harness::postgres::Postgres,
    running: &mut Strandline,
    slots: u32,
) {
    let mut n = 10_000;
    until(LONG, "the standby has the slot", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        n += 1;
        scene.sql().exec(&format!(
            "select pg_log_standby_snapshot(); insert into orders values ({n}, 'on the way')"
        ));
        standby.sql().value(SYNCED) == slots.to_string()
    });
}

fn into_kafka(scene: &Scene, broker: &Broker) -> String {
    format!(
        "version: 1\nname: shop_events\nsource:\n  url: {:?}\nsink:\n  type: kafka\n  brokers: [{:?}]\n  commit: {{interval: 5ms}}\n",
        scene.config.url,
        broker.address()
    )
}

/// Each row is created once, and each that is gone was deleted once.
#[track_caller]
fn each_comes_once(scene: &Scene, broker: &Broker, events: &Strandline) {
    let mut reader = broker.reader(&["shop_events.public.orders"]);
    let mut created = BTreeSet::new();
    let mut deleted = 0;
    while deleted < 9 || !created.contains(&9999) {
        let Some(record) = reader.next(LONG) else { panic!("nothing comes any more:\n{}", events.stderr()) };
        let Some(value) = record.value else { continue };
        let event: serde_json::Value = serde_json::from_str(&value).expect("JSON");
        match event["op"].as_str() {
            Some("r" | "c") => {
                let id = event["after"]["id"].as_i64().expect("an id");
                assert!(created.insert(id), "row {id} comes twice");
            }
            _ => deleted += 1,
        }
    }
    let rows = scene.sql().value("select count(*) from orders");
    assert_eq!((created.len() - 9).to_string(), rows);
}

/// The slot is a failover slot by itself. With `synchronized_standby_slots` we are never ahead of the standby: its
/// promotion, while we run, loses nothing and is followed.
#[test]
fn a_promotion_is_followed_where_nothing_is_lost() {
    if !has(17, "a slot on a standby") {
        return;
    }
    let mut scene = with_orders("failover-follow");
    let mut standby = scene.pg.standby(&scene.dir().join("standby"));
    let proxy = Proxy::start(scene.pg.port(), |_| {});
    scene.config.url = scene.config.url.replace(&scene.pg.port().to_string(), &proxy.port().to_string());
    let mut running = scene.start_run(&[]);
    // The same into Kafka, whose position is in the checkpoint.
    let broker = shared();
    let kafka = scene.write_text("kafka.yaml", &into_kafka(&scene, broker));
    let events = scene.start(&["run", "-c", &kafka]);
    wait_live(&scene, &mut running);
    until(LONG, "it is copied into Kafka", || events.stderr().contains("table copied"));
    wait_for_slots(&scene, &standby, &mut running, 2);
    scene.sql().exec("alter system set synchronized_standby_slots = 'standby'");
    scene.sql().exec("select pg_reload_conf()");
    for n in 0..20 {
        scene.sql().exec(&format!(
            "insert into orders select {n} * 100 + i, 'before' from generate_series(1000, 1050) i"
        ));
    }
    scene.pg.crash();
    standby.promote();
    std::mem::swap(&mut scene.pg, &mut standby);
    proxy.lead_to(scene.pg.port());
    proxy.cut();
    scene
        .sql()
        .exec("insert into orders values (9999, 'after the promotion'); delete from orders where id < 10");
    equal_at_last(&mut scene, &mut running);
    assert!(running.stderr().contains("the server was promoted, and has everything"), "{}", running.stderr());
    each_comes_once(&scene, broker, &events);
    assert!(events.stderr().contains("the server was promoted, and has everything"), "{}", events.stderr());
    events.terminate();
    events.wait(LONG).expect_code(0);
    running.terminate();
    running.wait(LONG).expect_code(0);
    // The new timeline is on record.
    scene.sql().exec("insert into orders values (10000, 'later')");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

/// The tables hold what the standby never got: the run stops before another commit.
#[test]
fn a_promotion_that_loses_rows_stops_the_run() {
    if !has(17, "a slot on a standby") {
        return;
    }
    let mut scene = with_orders("failover-lost");
    let mut standby = scene.pg.standby(&scene.dir().join("standby"));
    let mut running = scene.start_run(&[]);
    wait_live(&scene, &mut running);
    wait_synced(&scene, &standby, &mut running);
    standby.stop();
    scene.sql().exec("insert into orders values (20000, 'only on the old primary')");
    equal_at_last(&mut scene, &mut running);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.pg.crash();
    standby.restart();
    standby.promote();
    std::mem::swap(&mut scene.pg, &mut standby);
    scene.config.url = scene.pg.url("strandline", "shop");
    for n in 0..50 {
        scene.sql().exec(&format!("insert into orders values (30000 + {n}, repeat('z', 1000))"));
    }
    let position = deltalog::position(&scene.table("public.orders"), "shop");
    scene.run(&[]).expect_code(1).expect_error("PG043");
    assert_eq!(
        deltalog::position(&scene.table("public.orders"), "shop"),
        position,
        "something was committed"
    );
}

/// A standby as the source: slot, copy and stream are the standby's, the publication is the primary's.
#[test]
fn a_standby_is_a_source() {
    if !has(16, "decoding on a standby") {
        return;
    }
    let mut scene = with_orders("failover-standby");
    let standby = scene.pg.standby(&scene.dir().join("standby"));
    scene.config.url = standby.url("strandline", "shop");
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.orders");
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        // What a slot on a standby waits for; a busy primary writes it by itself.
        scene.sql().exec("select pg_log_standby_snapshot()");
        deltalog::position(&table, "shop").is_some()
    });
    scene
        .sql()
        .exec("insert into orders values (1000, 'on the primary'); update orders set v = 'y' where id < 50");
    equal_at_last(&mut scene, &mut running);
    running.terminate();
    running.wait(LONG).expect_code(0);
    assert_eq!(
        scene.sql().value("select count(*) from pg_replication_slots where slot_type = 'logical'"),
        "0"
    );
    scene.sql().exec("insert into orders values (1001, 'while it was down')");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    // The primary cleans up what only the standby's slot needs: the slot is gone, and why is said.
    standby.sql().exec("alter system set hot_standby_feedback = off");
    standby.sql().exec("select pg_reload_conf()");
    let held =
        "select count(*) from pg_replication_slots where slot_name = 'standby' and catalog_xmin is not null";
    until(LONG, "the primary holds nothing for the standby", || scene.sql().value(held) == "0");
    let position = deltalog::position(&table, "shop");
    let lost = "select count(*) from pg_replication_slots where slot_name = 'strandline_shop' and wal_status = 'lost'";
    until(LONG, "the slot is given up", || {
        scene.sql().exec("create table gone (id int); drop table gone");
        scene.sql().exec("vacuum pg_class");
        scene.sql().exec("vacuum pg_attribute");
        standby.sql().value(lost) == "1"
    });
    let outcome = scene.run(&[]);
    outcome.expect_code(1).expect_error("PG046");
    assert!(!has(17, "the reason") || outcome.stderr.contains("rows_removed"), "{}", outcome.stderr);
    assert_eq!(deltalog::position(&table, "shop"), position, "something was committed");
    lowered_wal_level(&mut scene, &standby);
}

/// The primary lowers `wal_level` while a new slot on its standby streams: noticed, named, and nothing further is
/// committed.
fn lowered_wal_level(scene: &mut Scene, standby: &crate::harness::postgres::Postgres) {
    standby.sql().exec("alter system set hot_standby_feedback = on");
    standby.sql().exec("select pg_reload_conf()");
    let config = scene.write_config();
    let mut resync = scene.start(&["resync", "--all", "--yes", "-c", &config]);
    until(LONG, "everything is copied again", || {
        scene.sql().exec("select pg_log_standby_snapshot()");
        resync.is_done()
    });
    resync.wait(LONG).expect_code(0);
    let mut running = scene.start_run(&[]);
    scene.sql().exec("insert into orders values (1002, 'with the new slot')");
    equal_at_last(scene, &mut running);
    let position = deltalog::position(&scene.table("public.orders"), "shop");
    scene.pg.set_and_restart("wal_level = 'replica'");
    let outcome = running.wait(LONG);
    outcome.expect_code(1).expect_error("PG046");
    assert_eq!(
        deltalog::position(&scene.table("public.orders"), "shop"),
        position,
        "something was committed"
    );
    for command in [&["run"][..], &["doctor"], &["slot", "show"]] {
        let said = scene.start(&[command, &["-c", &config]].concat()).wait(LONG);
        let said = said.stdout + &said.stderr;
        let code = if command[0] == "slot" { "lost" } else { "PG046" };
        assert!(said.contains(code), "{command:?}:\n{said}");
        assert!(!has(17, "the reason") || said.contains("wal_level_insufficient"), "{command:?}:\n{said}");
    }
    // A new slot cannot be made before the primary is put right, and that is said.
    standby.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    let refused = scene.start(&["resync", "--all", "--yes", "-c", &config]).wait(LONG);
    assert!(refused.code != Some(0) && refused.stderr.contains("PG002"), "{}", refused.stderr);
    assert!(refused.stderr.contains("on the primary"), "{}", refused.stderr);
}
