//! `strandline doctor` names everything that is missing on a real server, with the remedy; and what it prints with
//! `--fix-sql` puts it right.

use crate::harness::process::Outcome;
use crate::harness::{LONG, NEWEST, OLDEST, Scene, until};
use serde_json::Value;

fn doctor(scene: &Scene, more: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[&["doctor", "-c", &config], more].concat()).wait(LONG)
}

/// The checks as JSON, and the exit code.
pub(crate) fn checks(scene: &Scene) -> (Vec<Value>, Option<i32>) {
    let outcome = doctor(scene, &["-o", "json"]);
    let value: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", outcome.stdout, outcome.stderr));
    let list = value["checks"].as_array().unwrap_or_else(|| panic!("{value}")).clone();
    assert_eq!(value["ok"].as_bool(), Some(outcome.code == Some(0)), "{value}");
    (list, outcome.code)
}

/// The verdict on the check, the worst where there are several.
#[track_caller]
pub(crate) fn verdict<'a>(checks: &'a [Value], check: &str) -> (&'a str, &'a str) {
    let rank =
        |v: &Value| ["ok", "warning", "stops_table", "stops"].iter().position(|name| v["verdict"] == *name);
    let worst = checks.iter().filter(|c| c["check"] == check).max_by_key(|c| rank(c));
    let worst = worst.unwrap_or_else(|| panic!("no check {check} in {checks:#?}"));
    (worst["verdict"].as_str().unwrap(), worst["found"].as_str().unwrap())
}

/// On both ends of the supported versions: nothing is right, each thing is named, then everything is mended by
/// what was printed.
#[test]
fn everything_that_is_missing_is_named_with_its_remedy() {
    for major in [OLDEST, NEWEST] {
        everything_on(major);
    }
}

fn everything_on(major: u32) {
    let mut scene = Scene::on("doctor-missing", major);
    scene.config.url = scene.pg.url("poor", "shop");
    let mut sql = scene.sql();
    sql.exec(
        "drop publication strandline_pub; create role poor login password 'poor'; create role owner;
         create table orders (id int primary key, v text); alter table orders owner to owner;
         create table keyless (v text); create unlogged table fast (id int primary key);
         create table hidden (id int primary key); alter table hidden enable row level security;
         grant select on orders, keyless, hidden to poor; create table secret (id int primary key)",
    );
    sql.exec("alter system set logical_decoding_work_mem = '64kB'");
    scene.pg.set_and_restart("wal_level = 'replica'\nmax_replication_slots = 0\nmax_wal_senders = 0");
    let (found, code) = checks(&scene);
    assert_eq!(code, Some(3), "{found:#?}");
    for check in
        ["wal_level", "replication_privilege", "replication_slots", "wal_senders", "publication", "connect"]
    {
        let (verdict, text) = verdict(&found, check);
        assert_eq!(verdict, "stops", "{check}: {text}");
    }
    for (check, expected) in [
        ("table_privilege", "stops_table"),
        ("replica_identity", "warning"),
        ("table_kind", "warning"),
        ("wal_retention", "warning"),
        ("decoding_memory", "warning"),
        ("server_version", "ok"),
        ("tables", "ok"),
        ("target_write", "ok"),
    ] {
        let (verdict, text) = verdict(&found, check);
        assert_eq!(verdict, expected, "{check}: {text}");
    }
    let text = doctor(&scene, &[]);
    text.expect_code(3);
    for needed in ["PG002", "wal_level is replica", "ALTER ROLE \"poor\" WITH REPLICATION;", "errors"] {
        assert!(text.stdout.contains(needed), "no {needed} in\n{}", text.stdout);
    }
    let only = doctor(&scene, &["--check", "wal_level", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&only.stdout).unwrap()["checks"].as_array().unwrap().len(), 1);
    doctor(&scene, &["--check", "nonsense"]).expect_code(2).expect_error("CF005");

    // The printed script, run by a superuser, puts right what statements can.
    for _ in 0..3 {
        let script = doctor(&scene, &["--fix-sql"]).stdout;
        for line in script.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("--")) {
            scene.sql().exec(line);
        }
        scene.pg.stop();
        scene.pg.restart();
    }
    scene.sql().exec("alter system set max_wal_senders = 10");
    scene.pg.stop();
    scene.pg.restart();
    let (found, code) = checks(&scene);
    assert_eq!(code, Some(0), "{found:#?}");
    let warned: Vec<&str> =
        found.iter().filter(|c| c["verdict"] != "ok").map(|c| c["check"].as_str().unwrap()).collect();
    assert!(warned.iter().all(|check| ["replica_identity", "table_kind"].contains(check)), "{found:#?}");
    // And it is enough to run.
    scene.sql().exec("alter publication strandline_pub owner to owner");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

#[test]
fn a_server_that_does_not_answer_and_a_wrong_password_are_findings() {
    let mut scene = Scene::new("doctor-login");
    scene.config.url = scene.pg.url("nobody", "shop");
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "connect").0), (Some(3), "stops"), "{found:#?}");
    assert_eq!(verdict(&found, "target_write").0, "ok", "the target is looked at all the same");
    scene.config.url = scene.pg.url("strandline", "shop");
    scene.pg.stop();
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "connect").0), (Some(3), "stops"), "{found:#?}");
    let text = doctor(&scene, &[]);
    assert!(text.stdout.contains("PG006"), "{}", text.stdout);
}

/// Slots that cannot be ours, and a target that is not ours.
#[test]
fn slots_and_targets_of_others_are_named() {
    let mut scene = Scene::new("doctor-others");
    scene.sql().exec("create table orders (id int primary key)");
    scene.sql().exec("select pg_create_physical_replication_slot('strandline_shop')");
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "slot").0), (Some(3), "stops"), "{found:#?}");
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene.sql().exec("select pg_create_logical_replication_slot('strandline_shop', 'test_decoding')");
    let (found, _) = checks(&scene);
    assert!(verdict(&found, "slot").1.contains("test_decoding"), "{found:#?}");
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene.config.name = "another".into();
    scene.config.slot = "strandline_another".into();
    scene.drain();
    scene.config.name = "shop".into();
    scene.config.slot = "strandline_shop".into();
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "target_table").0), (Some(3), "stops_table"), "{found:#?}");
    assert!(verdict(&found, "target_table").1.contains("another"), "{found:#?}");
    // A place that cannot be written.
    let blocked = scene.dir().join("blocked");
    std::fs::write(&blocked, "a file").unwrap();
    let good = scene.config.clone();
    scene.config.lake = format!("file://{}/lake", blocked.display());
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "target_write").0), (Some(3), "stops"), "{found:#?}");
    scene.config = good;
    what_bites_later(&mut scene);
}

/// Settings of the server, kinds of tables and limits of this machine, each in its bad state.
fn what_bites_later(scene: &mut Scene) {
    let has = |scene: &Scene, name: &str| {
        scene.sql().value(&format!("select count(*) from pg_settings where name = '{name}'")) == "1"
    };
    for (setting, value, check, expected) in [
        ("synchronous_standby_names", "*", "synchronous", "stops"),
        ("idle_replication_slot_timeout", "1min", "wal_retention", "warning"),
        ("max_slot_wal_keep_size", "2GB", "wal_retention", "ok"),
    ] {
        if !has(scene, setting) {
            continue;
        }
        let shown = |scene: &Scene| scene.sql().value(&format!("show {setting}"));
        let before = shown(scene);
        scene.sql().exec(&format!("alter system set {setting} = '{value}'"));
        scene.sql().exec("select pg_reload_conf()");
        until(LONG, "the setting is read", || shown(scene) != before);
        let (found, _) = checks(scene);
        let (verdict, text) = verdict(&found, check);
        assert_eq!(verdict, expected, "{setting}: {text}");
        assert!(expected == "ok" || text.contains(setting), "{text}");
        scene.sql().exec(&format!("alter system reset {setting}"));
        scene.sql().exec("select pg_reload_conf()");
        until(LONG, "the setting is as it was", || shown(scene) == before);
    }
    scene.sql().exec("create foreign data wrapper nothing");
    scene.sql().exec("create server nowhere foreign data wrapper nothing");
    scene.sql().exec("create foreign table elsewhere (id int) server nowhere");
    scene.config.more = "limits: {memory: 1TiB, spill_dir: /proc/none}\n".into();
    let (found, code) = checks(scene);
    assert_eq!(code, Some(3), "{found:#?}");
    for (check, expected, word) in [
        ("table_kind", "warning", "elsewhere"),
        ("memory", "warning", "1TiB"),
        ("spill_dir", "stops", "/proc/none"),
    ] {
        let (verdict, text) = verdict(&found, check);
        assert_eq!(verdict, expected, "{check}: {text}");
        assert!(text.contains(word), "{check}: {text}");
    }
    scene.config.more = String::new();
    scene.config.include = vec!["public.nothing".into()];
    let (found, code) = checks(scene);
    assert_eq!((code, verdict(&found, "tables").0), (Some(3), "stops"), "{found:#?}");
}

/// The stored position against the slot: lost, and moved.
#[test]
fn a_position_that_cannot_go_on_is_named_before_a_start() {
    let scene = Scene::new("doctor-position");
    scene.sql().exec("create table orders (id int primary key); insert into orders values (1)");
    scene.drain();
    let (found, code) = checks(&scene);
    assert_eq!((code, verdict(&found, "position").0), (Some(0), "ok"), "{found:#?}");
    let mut running = scene.start_run(&[]);
    until(LONG, "it holds the slot", || {
        assert!(running.is_running(), "{}", running.stderr());
        checks(&scene).0.iter().any(|c| c["code"] == "PG011")
    });
    assert_eq!(checks(&scene).1, Some(0), "a running process is no fault");
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.sql().exec("insert into orders values (2)");
    scene.sql().exec("select pg_replication_slot_advance('strandline_shop', pg_current_wal_lsn())");
    let (found, _) = checks(&scene);
    assert!(found.iter().any(|c| c["code"] == "PG041" && c["verdict"] == "stops"), "{found:#?}");
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    let (found, code) = checks(&scene);
    assert_eq!(code, Some(3));
    assert!(found.iter().any(|c| c["code"] == "PG040" && c["verdict"] == "stops"), "{found:#?}");
}

/// Transactions that hold up a new slot; a standby, seen from its primary and asked itself.
#[test]
fn open_transactions_and_standbys_are_named() {
    let mut scene = Scene::on("doctor-standby", NEWEST);
    scene.sql().exec("create table orders (id int primary key)");
    crate::harness::postgres::append(
        &scene.pg.data().join("postgresql.auto.conf"),
        "max_prepared_transactions = 5\nmax_slot_wal_keep_size = '20GB'\n",
    );
    // It is stopped for the copy, and reads its settings.
    let standby = scene.pg.standby(&scene.dir().join("standby"));
    let of = |found: &[Value], check: &str| {
        let (verdict, text) = verdict(found, check);
        (verdict.to_owned(), text.to_owned())
    };
    let (found, code) = checks(&scene);
    assert_eq!((code, of(&found, "long_transactions").0), (Some(0), "ok".to_owned()), "{found:#?}");
    let (_, text) = of(&found, "long_transactions");
    assert!(text.contains("GRANT pg_read_all_stats TO strandline;"), "{text}");
    scene.sql().exec("grant pg_read_all_stats to strandline");
    let mut idle = scene.sql();
    idle.exec("set application_name = 'forgotten'");
    idle.exec("begin; insert into orders values (1)");
    let mut prepared = scene.sql();
    prepared.exec("begin; insert into orders values (2); prepare transaction 'half done'");
    let old = ["--long-transaction", "0s", "-o", "json", "--check", "long_transactions"];
    until(LONG, "both are older than nothing", || {
        let shown = doctor(&scene, &old);
        shown.expect_code(0);
        let found: Value = serde_json::from_str(&shown.stdout).unwrap();
        let (verdict, text) = of(found["checks"].as_array().unwrap(), "long_transactions");
        let advice = found["checks"][0]["fix"].as_str().unwrap_or_default();
        verdict == "warning"
            && ["forgotten", "idle in transaction", "prepared 'half done'"]
                .iter()
                .all(|word| text.contains(word))
            && advice.contains("ROLLBACK PREPARED")
    });
    doctor(&scene, &["--long-transaction", "soon"]).expect_code(2);
    prepared.exec("rollback prepared 'half done'");
    idle.exec("rollback");

    until(LONG, "the standby streams", || {
        scene.sql().value("select count(*) from pg_stat_replication where state = 'streaming'") == "1"
    });
    let failover = |scene: &Scene| of(&checks(scene).0, "failover");
    let (verdict, text) = failover(&scene);
    assert_eq!(verdict, "ok", "{text}");
    scene.config.source = "  failover_slot: false\n".into();
    let (verdict, text) = failover(&scene);
    assert!(verdict == "warning" && text.contains("failover_slot is false"), "{text}");
    scene.config.source = String::new();
    scene.sql().exec("select pg_create_logical_replication_slot('strandline_shop', 'pgoutput')");
    let (verdict, text) = failover(&scene);
    assert!(verdict == "warning" && text.contains("the slot is not synchronised"), "{text}");
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene
        .sql()
        .exec("select pg_create_logical_replication_slot('strandline_shop', 'pgoutput', false, false, true)");
    let (verdict, text) = failover(&scene);
    assert!(verdict == "ok" && text.contains("synchronised to 1 standby"), "{text}");

    // The standby itself as the source.
    let primary = scene.config.url.clone();
    scene.config.url = standby.url("strandline", "shop");
    let (verdict, text) = of(&checks(&scene).0, "primary");
    assert!(verdict == "warning" && text.contains("pg_log_standby_snapshot"), "{text}");
    let mut sql = standby.sql();
    sql.exec("alter system set hot_standby_feedback = off");
    sql.exec("select pg_reload_conf()");
    until(LONG, "the setting is read", || sql.value("show hot_standby_feedback") == "off");
    let (verdict, text) = of(&checks(&scene).0, "primary");
    assert!(verdict == "warning" && text.contains("without hot_standby_feedback"), "{text}");
    let script = doctor(&scene, &["--fix-sql"]).stdout;
    assert!(script.contains("ALTER SYSTEM SET hot_standby_feedback = on;"), "{script}");
    scene.config.url = primary;
}

/// A hosted server's remedies are its own; a standby and a failover are named.
#[test]
fn remedies_are_those_of_the_provider() {
    let mut scene = Scene::new("doctor-provider");
    scene.sql().exec("create table orders (id int primary key); create role rdsadmin");
    scene.pg.set_and_restart("wal_level = 'replica'");
    let outcome = doctor(&scene, &[]);
    outcome.expect_code(3);
    assert!(outcome.stdout.contains("Amazon RDS"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("rds.logical_replication = 1"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("ALTER SYSTEM SET wal_level"), "{}", outcome.stdout);
    scene.sql().exec("drop role rdsadmin; create role cloudsqladmin");
    let outcome = doctor(&scene, &[]);
    assert!(outcome.stdout.contains("cloudsql.logical_decoding=on"), "{}", outcome.stdout);
}

/// What `init` writes is accepted, holds no password, and runs.
#[test]
fn what_init_writes_runs() {
    let mut scene = Scene::new("init");
    scene.sql().exec(
        "create schema \"od d\"; create table orders (id int primary key, v text); create table log (v text); create table gone (id int primary key);
         create table \"od d\".\"li\nne\" (id int primary key); insert into orders values (1, 'x'); analyze",
    );
    scene.config.publication = "strandline".into();
    let file = scene.dir().join("made.yaml").to_str().unwrap().to_owned();
    let (url, lake) = (scene.config.url.clone(), scene.config.lake.clone());
    let init = ["init", "--from", &url, "--to", &lake, "--file", &file];
    let outcome = scene.start(&init).wait(LONG);
    outcome.expect_code(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("strandline:strandline"), "{text}");
    assert!(text.contains("public.orders") && text.contains("~1 rows") && text.contains("no key"), "{text}");
    assert!(text.contains("password: {env: PGPASSWORD}"), "{text}");
    scene.start(&init).wait(LONG).expect_code(2).expect_error("CF005");
    let validate = scene.start(&["validate", &file]).wait(LONG);
    validate.expect_code(0);
    // With the password written in by hand it runs as it is.
    let text =
        text.replace("{env: PGPASSWORD}", "strandline").replace("127.0.0.1:9187", &scene.config.listen);
    let file = scene.write_text("made.yaml", &text);
    scene.sql().exec("drop table log");
    scene.start(&["run", "--until-caught-up", "-c", &file]).wait(LONG).expect_code(0);
    scene.assert_equal(&["public.orders"]);
    let tables = scene.start(&["tables", "-c", &file]).wait(LONG);
    assert!(tables.stdout.contains("public.orders") && tables.stdout.contains("live"), "{}", tables.stdout);
    let lag = scene.start(&["lag", "--fail-if", ">1TiB", "-c", &file]).wait(LONG);
    lag.expect_code(0);
    scene.start(&["lag", "--fail-if", ">1s", "-c", &file]).wait(LONG).expect_code(4).expect_error("RT012");
    let export = scene.start(&["checkpoint", "export", "-c", &file]).wait(LONG);
    let export: Value = serde_json::from_str(&export.stdout).unwrap();
    assert!(export["cut"]["tables"][0]["target_id"].is_string(), "{export}");
    let show = scene.start(&["checkpoint", "show", "-c", &file]).wait(LONG);
    assert!(show.stdout.contains("public.orders") && show.stdout.contains("cut "), "{}", show.stdout);
    scene.sql().exec("create table later (id int primary key); drop table gone");
    let diff = scene.start(&["config", "diff", "-c", &file]).wait(LONG);
    assert!(
        diff.stdout.contains("+ public.later") && diff.stdout.contains("- public.gone"),
        "{}",
        diff.stdout
    );
    let shown = scene.start(&["config", "show", "-c", &file]).wait(LONG);
    assert!(shown.stdout.contains("password: \"***\""), "{}", shown.stdout);
}
