//! A loss is noticed before anything further is committed.
//!
//! Each test runs strandline until it is caught up, takes something away behind its back, changes the
//! source, and starts it again: it must end with the right code, and the tables must not have moved.

use crate::harness::postgres::{Postgres, copy};
use crate::harness::reader::Engine;
use crate::harness::{LONG, NEWEST, Scene, deltalog, has, matrix, places, until};
use std::path::Path;
use std::time::Duration;

/// A pipeline that is caught up and stopped, with its slot still there.
fn caught_up(test: &str) -> Scene {
    let mut scene = Scene::new(test);
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'first' from generate_series(1, 100) i",
    );
    scene.drain();
    scene.sql().exec("insert into orders select i, 'second' from generate_series(101, 200) i");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    scene
}

/// What must not change: data files, and positions.
#[derive(PartialEq, Debug)]
struct Held {
    data_commits: usize,
    position: Option<i64>,
    cut: Option<i64>,
}

fn held(scene: &Scene) -> Held {
    let table = scene.table("public.orders");
    Held {
        data_commits: deltalog::commits(&table).iter().filter(|c| c.has("add") || c.has("remove")).count(),
        position: deltalog::position(&table, "shop"),
        cut: deltalog::position(&scene.control(), "shop"),
    }
}

/// Starts it and expects this code, with nothing committed.
#[track_caller]
fn expect_stop(scene: &Scene, before: &Held, codes: &[&str]) {
    let outcome = scene.run(&[]);
    outcome.expect_code(1);
    let code = codes.iter().find(|code| outcome.stderr.contains(&format!("error {code}: ")));
    outcome.expect_error(code.unwrap_or_else(|| panic!("none of {codes:?} in\n{}", outcome.stderr)));
    assert_eq!(&held(scene), before, "something was committed after the loss");
}

#[test]
fn a_dropped_slot() {
    let scene = caught_up("loss-dropped");
    let before = held(&scene);
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene.sql().exec("insert into orders values (1000, 'in the gap')");
    expect_stop(&scene, &before, &["PG040"]);
    let slots = scene.sql().value("select count(*) from pg_replication_slots");
    assert_eq!(slots, "0", "no new slot was made silently");
}

#[test]
fn a_slot_dropped_while_it_runs() {
    let scene = caught_up("loss-dropped-running");
    let before = held(&scene);
    let running = scene.start_run(&[]);
    let mut sql = scene.sql();
    let is_active =
        "select count(*) from pg_replication_slots where slot_name = 'strandline_shop' and active";
    until(LONG, "the slot is active", || sql.value(is_active) == "1");
    until(LONG, "the slot is dropped", || {
        sql.exec(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'strandline_shop' and active",
        );
        sql.try_exec("select pg_drop_replication_slot('strandline_shop')").is_ok()
    });
    let gap: i64 =
        sql.value("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").parse().expect("an LSN as a number");
    sql.exec("insert into orders values (1000, 'in the gap')");
    let outcome = running.wait(LONG);
    outcome.expect_code(1).expect_error("PG040");
    // What the slot had sent before it went is known, so the cut may still rise to there: not into the gap.
    let after = held(&scene);
    assert_eq!((after.data_commits, after.position), (before.data_commits, before.position));
    assert!(after.cut <= Some(gap), "the cut {:?} is past the slot's end {gap}", after.cut);
}

/// Where the operator has asked for it, a loss is mended by itself, at the start and while it runs.
#[test]
fn a_lost_position_is_copied_again_where_that_was_asked_for() {
    let mut scene = caught_up("loss-resync");
    scene.config.source = "  on_position_lost: resync\n".into();
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene.sql().exec("delete from orders where id % 2 = 0; insert into orders values (1000, 'in the gap')");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    let mut running = scene.start_run(&[]);
    let mut sql = scene.sql();
    until(LONG, "the slot is dropped", || {
        sql.exec(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null",
        );
        sql.try_exec("select pg_drop_replication_slot('strandline_shop')").is_ok()
    });
    sql.exec("delete from orders where id % 3 = 0; insert into orders values (1001, 'in the second gap')");
    until(LONG, "the table is equal again", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        scene.difference("public.orders", Engine::DuckDb).is_none()
    });
    sql.exec("insert into orders values (1002, 'after it')");
    until(LONG, "the stream goes on", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        scene.difference("public.orders", Engine::DuckDb).is_none()
    });
    running.terminate();
    running.wait(LONG).expect_code(0);
}

#[test]
fn a_slot_made_again() {
    let scene = caught_up("loss-again");
    let before = held(&scene);
    scene.sql().exec("select pg_drop_replication_slot('strandline_shop')");
    scene.sql().exec("insert into orders values (1000, 'in the gap')");
    scene.sql().exec("select pg_create_logical_replication_slot('strandline_shop', 'pgoutput')");
    scene.sql().exec("insert into orders values (1001, 'after the gap')");
    expect_stop(&scene, &before, &["PG041"]);
}

#[test]
fn an_advanced_slot() {
    let scene = caught_up("loss-advanced");
    let before = held(&scene);
    scene.sql().exec("insert into orders values (1000, 'skipped')");
    scene.sql().exec("select pg_replication_slot_advance('strandline_shop', pg_current_wal_lsn())");
    expect_stop(&scene, &before, &["PG041"]);
}

#[test]
fn another_system() {
    let mut scene = caught_up("loss-system");
    let before = held(&scene);
    let other = Postgres::start_afresh(matrix().unwrap_or(NEWEST), &scene.dir().join("other"));
    let mut sql = other.sql();
    sql.exec("create publication strandline_pub for all tables with (publish_via_partition_root = true)");
    sql.exec("create table orders (id int primary key, v text)");
    sql.exec("select pg_create_logical_replication_slot('strandline_shop', 'pgoutput')");
    sql.exec("insert into orders values (1, 'of another system')");
    scene.config.url = other.url("strandline", "shop");
    expect_stop(&scene, &before, &["PG042"]);
    // Nor is it followed by itself, where it has no slot of ours.
    sql.exec("select pg_drop_replication_slot('strandline_shop')");
    scene.config.source = "  on_position_lost: resync\n".into();
    expect_stop(&scene, &before, &["PG042"]);
    assert_eq!(sql.value("select count(*) from pg_replication_slots"), "0", "nothing was made there");
    // An operator who moved to it says so.
    let config = scene.write_config();
    scene.start(&["resync", "--all", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    sql.exec("insert into orders values (2, 'streamed')");
    scene.pg = other;
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

#[test]
fn another_timeline() {
    let mut scene = caught_up("loss-timeline");
    let before = held(&scene);
    scene.pg.stop();
    promote(scene.pg.data());
    scene.pg.restart();
    until(LONG, "the promotion", || scene.sql().value("select pg_is_in_recovery()") == "f");
    scene.sql().exec("insert into orders values (1000, 'on the new timeline')");
    // All that the tables hold was there before the new timeline began: nothing is lost.
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    assert!(held(&scene).cut > before.cut);
}

/// A backup from before what the tables hold, recovered to a timeline of its own.
#[test]
fn another_timeline_that_lacks_what_was_applied() {
    let mut scene = caught_up("loss-timeline-behind");
    back_up(&mut scene);
    scene.sql().exec("insert into orders values (1000, 'on the old timeline only')");
    scene.drain();
    let before = held(&scene);
    scene.pg.stop();
    std::fs::remove_dir_all(scene.pg.data()).expect("the data directory can be removed");
    copy(&scene.dir().join("backup"), scene.pg.data());
    promote(scene.pg.data());
    scene.pg.restart();
    until(LONG, "the promotion", || scene.sql().value("select pg_is_in_recovery()") == "f");
    for n in 2000..2050 {
        scene.sql().exec(&format!("insert into orders values ({n}, repeat('y', 500))"));
    }
    expect_stop(&scene, &before, &["PG043"]);
}

/// A slot that the server gave up because nobody used it (PostgreSQL 18): the reason is named.
#[test]
fn a_slot_that_was_idle_for_too_long() {
    if !has(18, "idle_replication_slot_timeout") {
        return;
    }
    let mut scene = caught_up("loss-idle");
    let before = held(&scene);
    scene.pg.set_and_restart("idle_replication_slot_timeout = '1s'");
    let status = "select wal_status from pg_replication_slots where slot_name = 'strandline_shop'";
    until(LONG, "the server gives the slot up", || {
        scene.sql().exec("checkpoint");
        scene.sql().value(status) == "lost"
    });
    expect_stop(&scene, &before, &["PG046"]);
    let said = scene.run(&[]).stderr;
    assert!(said.contains("idle_timeout"), "no reason in\n{said}");
}

/// Ends a recovery at once, on a new timeline: what a promoted standby looks like.
fn promote(data: &Path) {
    std::fs::write(data.join("recovery.signal"), "").expect("the data directory can be written");
    places::give_to_postgres(&data.join("recovery.signal"));
    crate::harness::postgres::append(&data.join("postgresql.auto.conf"), "restore_command = 'false'\n");
}

#[test]
fn a_restored_backup_that_is_behind() {
    let mut scene = caught_up("loss-behind");
    back_up(&mut scene);
    scene.sql().exec("insert into orders select i, repeat('x', 1000) from generate_series(1000, 3000) i");
    scene.drain();
    let before = held(&scene);
    restore(&mut scene);
    expect_stop(&scene, &before, &["PG044"]);
}

#[test]
fn a_restored_backup_with_another_history() {
    let mut scene = caught_up("loss-history");
    back_up(&mut scene);
    scene.sql().exec("insert into orders values (1000, 'in the first history')");
    scene.drain();
    let before = held(&scene);
    restore(&mut scene);
    // The same identity, the same timeline, and a log that goes beyond the stored position.
    for n in 2000..2050 {
        scene.sql().exec(&format!("insert into orders values ({n}, repeat('y', 500))"));
    }
    expect_stop(&scene, &before, &["PG045", "PG044"]);
}

/// A cold copy of the data directory, made before what comes.
fn back_up(scene: &mut Scene) {
    scene.pg.stop();
    copy(scene.pg.data(), &scene.dir().join("backup"));
    scene.pg.restart();
}

fn restore(scene: &mut Scene) {
    scene.pg.stop();
    std::fs::remove_dir_all(scene.pg.data()).expect("the data directory can be removed");
    copy(&scene.dir().join("backup"), scene.pg.data());
    scene.pg.restart();
}

#[test]
fn discarded_log() {
    let mut scene = caught_up("loss-discarded");
    let before = held(&scene);
    scene.pg.set_and_restart("max_slot_wal_keep_size = '1MB'\nmax_wal_size = '32MB'\nmin_wal_size = '32MB'");
    let mut sql = scene.sql();
    let status = "select wal_status from pg_replication_slots where slot_name = 'strandline_shop'";
    until(Duration::from_secs(60), "the server gives the slot's log up", || {
        sql.exec("select pg_logical_emit_message(false, 'fill', repeat('x', 4000000)); select pg_switch_wal(); checkpoint");
        sql.value(status) == "lost"
    });
    expect_stop(&scene, &before, &["PG046"]);
}
