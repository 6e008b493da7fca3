//! `strandline slot`: shows, makes, advances, drops; nothing without `--yes`.

use crate::harness::process::Outcome;
use crate::harness::{LONG, NEWEST, OLDEST, Scene, matrix, until};

fn slot(scene: &Scene, arguments: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[&["slot"], arguments, &["-c", &config]].concat()).wait(LONG)
}

#[test]
fn it_is_shown_made_advanced_and_dropped() {
    for major in [OLDEST, NEWEST] {
        let mut scene = Scene::on("slot", major);
        let major = matrix().unwrap_or(major);
        scene.sql().exec("create table t (id int primary key); insert into t values (1)");
        let slots = "select count(*) from pg_replication_slots";
        assert!(slot(&scene, &["show"]).expect_code(0).stdout.contains("there is no replication slot"));
        let plan = slot(&scene, &["create"]);
        assert!(plan.expect_code(2).stdout.contains("pg_create_logical_replication_slot"), "{}", plan.stdout);
        assert_eq!(scene.sql().value(slots), "0", "nothing was done");
        slot(&scene, &["create", "--yes"]).expect_code(0);
        slot(&scene, &["create", "--yes"]).expect_code(0);
        let shown: serde_json::Value =
            serde_json::from_str(&slot(&scene, &["show", "-o", "json"]).expect_code(0).stdout).unwrap();
        assert_eq!(shown["slot"]["plugin"], "pgoutput");
        assert_eq!(shown["slot"]["failover"], major >= 17);
        scene.drain();
        scene.assert_equal(&["public.t"]);
        scene.sql().exec("insert into t values (2)");
        let end = scene.sql().value("select pg_current_wal_lsn()");
        slot(&scene, &["advance", "--to", "0/1", "--yes"]).expect_code(2).expect_error_line("CF005");
        slot(&scene, &["advance", "--to", &end]).expect_code(2);
        slot(&scene, &["advance", "--to", &end, "--yes"]).expect_code(0);
        // What was skipped is noticed.
        scene.run(&["--until-caught-up"]).expect_code(1).expect_error("PG041");
        slot(&scene, &["drop"]).expect_code(2);
        slot(&scene, &["drop", "--yes"]).expect_code(0);
        assert_eq!(scene.sql().value(slots), "0");
        slot(&scene, &["drop", "--yes"]).expect_code(0);
        slot(&scene, &["advance", "--to", &end, "--yes"]).expect_code(1).expect_error("PG040");
    }
}

/// The server makes a slot for a process that is gone, and then does not: the next start makes its own.
#[test]
fn one_that_goes_while_it_is_made_is_made_anew() {
    let mut scene = Scene::on("slot-unborn", NEWEST);
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key); insert into t select generate_series(1, 100)");
    // A slot cannot be made before this ends.
    let mut old = scene.sql();
    old.exec("begin; insert into t values (1000)");
    let first = scene.start_run(&[]);
    let unborn = "select count(*) from pg_replication_slots where confirmed_flush_lsn is null and active";
    until(LONG, "the server makes the slot", || sql.value(unborn) == "1");
    first.kill9();
    let second = scene.start_run(&["--until-caught-up"]);
    until(LONG, "the second start waits", || second.stderr().contains("is making this slot"));
    sql.exec("select pg_terminate_backend(active_pid) from pg_replication_slots");
    old.exec("commit");
    second.wait(LONG).expect_code(0);
    scene.assert_equal(&["public.t"]);
}
