//! What an operator asks of a running process: one table out and in again, copies held up and ended, another configuration,
//! a look at what comes. Whatever was asked, the target equals the source in the end.

use crate::harness::process::Strandline;
use crate::harness::{LONG, Scene, places, until};
use crate::health::ask;
use serde_json::Value;

fn status(scene: &Scene) -> Value {
    ask(scene, "/api/v1/status")
        .ok()
        .and_then(|(_, body)| serde_json::from_str(&body).ok())
        .unwrap_or_default()
}

fn table(scene: &Scene, name: &str) -> Value {
    let status = status(scene);
    let tables = status["tables"].as_array().cloned().unwrap_or_default();
    tables.into_iter().find(|table| table["name"] == name).unwrap_or_default()
}

#[track_caller]
fn becomes(scene: &Scene, running: &mut Strandline, name: &str, state: &str) {
    until(LONG, &format!("{name} is {state}"), || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        table(scene, name)["state"] == state
    });
}

#[test]
fn a_table_leaves_and_comes_back_and_changes_are_shown() {
    let mut scene = Scene::new("operate-table");
    scene.sql().exec(
        "create table a (id int primary key, v text); create table b (id int primary key, v text);
         insert into a select i, 'x' from generate_series(1, 100) i; insert into b values (1, 'x')",
    );
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "public.a", "live");
    becomes(&scene, &mut running, "public.b", "live");

    let tap = scene.start(&["tap", "-c", &config, "public.b", "--limit", "1"]);
    let mut n = 1;
    let mut sql = scene.sql();
    let mut tap = Some(tap);
    until(LONG, "the tap has shown something", || {
        n += 1;
        sql.exec(&format!("insert into b values ({n}, 'shown')"));
        tap.as_mut().is_some_and(Strandline::is_done)
    });
    let shown = tap.take().unwrap().wait(LONG);
    shown.expect_code(0);
    let event: Value = serde_json::from_str(shown.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&event["value"]["op"], &event["value"]["after"]["v"]),
        (&"c".into(), &"shown".into()),
        "{event}"
    );
    scene.start(&["tap", "-c", &config, "public.nothing"]).wait(LONG).expect_code(2).expect_error("CF005");

    scene.start(&["pause", "-c", &config, "public.a"]).wait(LONG).expect_code(0);
    becomes(&scene, &mut running, "public.a", "stopped");
    assert_eq!(table(&scene, "public.a")["code"], "RT015");
    scene.sql().exec("update a set v = 'y' where id < 50; delete from a where id > 90; insert into b values (100000, 'on')");
    until(LONG, "the other one goes on", || {
        status(&scene)["state"] == "streaming"
            && scene.difference("public.b", crate::harness::reader::Engine::DuckDb).is_none()
    });
    // It is no fault, and it survives the process.
    assert_eq!(status(&scene)["reasons"][0]["severity"], "info");
    let _log = running.kill9();
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "public.b", "live");
    assert_eq!(table(&scene, "public.a")["code"], "RT015");
    scene.start(&["resume", "-c", &config, "public.a"]).wait(LONG).expect_code(0);
    becomes(&scene, &mut running, "public.a", "live");
    let top = scene.start(&["top", "-c", &config]).wait(LONG);
    top.expect_code(0);
    assert!(top.stdout.contains("STREAMING") && top.stdout.contains("public.a"), "{}", top.stdout);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.a", "public.b"]);
    scene.start(&["binlog", "show", "-c", &config]).wait(LONG).expect_code(2).expect_error("CF003");
}

#[test]
fn a_new_configuration_is_applied_without_a_restart() {
    let mut scene = Scene::new("operate-reload");
    scene.sql().exec(
        "create table a (id int primary key); insert into a values (1);
         create schema later; create table later.c (id int primary key); insert into later.c values (1)",
    );
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "public.a", "live");
    let pid = running.pid();
    let reload = |scene: &Scene| scene.start(&["reload", "-c", &config]).wait(LONG);
    assert!(reload(&scene).stdout.contains("has not changed"));

    // What needs a restart is refused whole, and so is what is wrong.
    let good = scene.config.clone();
    scene.config.include.push("later.*".into());
    scene.config.more = "health: {grace: 5s}\n".into();
    let _written = scene.write_config();
    let refused = reload(&scene);
    refused.expect_code(2).expect_error("CF006");
    assert!(refused.stderr.contains("health.grace"), "{}", refused.stderr);
    scene.config = good;
    scene.config.include.push("later.*".into());
    scene.config.more = "nonsense: 1\n".into();
    let _written = scene.write_config();
    places::signal("HUP", &[pid]);
    until(LONG, "it says why not", || running.stderr().contains("stays as it was"));
    assert!(table(&scene, "later.c").is_null());

    scene.config.more = "log: {level: debug}\n".into();
    let _written = scene.write_config();
    places::signal("HUP", &[pid]);
    becomes(&scene, &mut running, "later.c", "live");
    assert_eq!(running.pid(), pid);
    assert!(ask(&scene, "/api/v1/config").unwrap().1.contains("later.*"));
    scene.sql().exec("insert into later.c values (2); insert into a values (2)");
    until(LONG, "the log is louder", || running.stderr().contains("\"level\":\"debug\""));
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.a", "later.c"]);
}

#[test]
fn copies_are_held_up_and_ended() {
    let mut scene = Scene::new("operate-copies");
    scene.sql().exec("create table small (id int primary key); insert into small values (1)");
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "public.small", "live");
    scene.start(&["snapshot", "pause", "-c", &config]).wait(LONG).expect_code(0);
    scene.sql().exec(
        "create table big (id int primary key, v text); insert into big select i, repeat('x', 200) from generate_series(1, 50000) i",
    );
    becomes(&scene, &mut running, "public.big", "snapshotting");
    // The stream goes on meanwhile.
    scene.sql().exec("insert into small values (2)");
    until(LONG, "the other table follows", || {
        scene.difference("public.small", crate::harness::reader::Engine::DuckDb).is_none()
    });
    assert_eq!(table(&scene, "public.big")["state"], "snapshotting");
    let shown = scene.start(&["snapshot", "status", "-c", &config]).wait(LONG);
    assert!(shown.stdout.contains("public.big"), "{}", shown.stdout);
    scene.start(&["snapshot", "cancel", "-c", &config, "public.big"]).wait(LONG).expect_code(0);
    becomes(&scene, &mut running, "public.big", "stopped");
    assert_eq!(table(&scene, "public.big")["code"], "RT015");
    scene.start(&["snapshot", "resume", "-c", &config]).wait(LONG).expect_code(0);
    scene.start(&["resume", "-c", &config, "public.big"]).wait(LONG).expect_code(0);
    becomes(&scene, &mut running, "public.big", "live");
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.small", "public.big"]);
}

#[test]
fn signals_come_by_a_table() {
    let mut scene = Scene::new("operate-signals");
    scene.config.more = "signals: {table: public.strandline_signal}\n".into();
    scene.config.include = vec!["public.a".into()];
    scene.sql().exec(
        "create table a (id int primary key); insert into a values (1);
         create table strandline_signal (id varchar(64) primary key, type varchar(32) not null, data text);
         grant select, delete on strandline_signal to strandline;
         insert into strandline_signal values ('0', 'execute-snapshot', '{\"data-collections\": [\"public.a\"]}')",
    );
    let mut running = scene.start_run(&[]);
    // What stood there before the start waits until the tables are known.
    until(LONG, "the first row is taken", || {
        scene.sql().value("select count(*) from strandline_signal") == "0"
    });
    let log = running.stderr();
    assert!(log.contains("1 tables are read again (signal \\\"0\\\")"), "{log}");
    becomes(&scene, &mut running, "public.a", "live");
    let began = table(&scene, "public.a")["copy_began"].clone();
    scene.sql().exec(
        "insert into strandline_signal values
         ('1', 'log', '{\"message\": \"heard it\"}'),
         ('2', 'execute-snapshot', '{\"data-collections\": [\"public.a\"], \"type\": \"blocking\"}'),
         ('3', 'nonsense', null)",
    );
    until(LONG, "the table is copied again", || {
        let now = table(&scene, "public.a");
        now["copy_began"] != began && now["state"] == "live"
    });
    until(LONG, "the rows are taken", || scene.sql().value("select count(*) from strandline_signal") == "0");
    let log = running.stderr();
    assert!(log.contains("heard it") && log.contains("\\\"nonsense\\\" is not known"), "{log}");
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.a"]);
}
