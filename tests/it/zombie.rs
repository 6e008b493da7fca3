//! A connection that was lost without the server's knowledge still holds the slot.

use crate::harness::proxy::Proxy;
use crate::harness::{LONG, NEWEST, Scene, deltalog, until};

/// The machine of the first process is gone, and the network tells nobody. The next one says whom it waits for, and goes
/// on when the server has given the old connection up.
#[test]
fn the_slot_is_taken_over_from_a_lost_connection() {
    let mut scene = Scene::on("zombie", NEWEST);
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v text); insert into t values (1, 'x')");
    sql.exec("alter system set wal_sender_timeout = '14s'");
    sql.exec("select pg_reload_conf()");
    let direct = scene.config.url.clone();
    let proxy = Proxy::start(scene.pg.port(), |_| {});
    scene.config.url = direct.replace(&scene.pg.port().to_string(), &proxy.port().to_string());
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.t");
    let walsender = "select count(*) from pg_stat_replication where state = 'streaming'";
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop").is_some() && sql.value(walsender) == "1"
    });
    proxy.hold();
    running.kill9();
    sql.exec("insert into t values (2, 'meanwhile')");
    scene.config.url = direct;
    let mut next = scene.start_run(&[]);
    until(LONG, "it says whom it waits for", || {
        assert!(next.is_running(), "it ended:\n{}", next.stderr());
        next.stderr().contains("who has said nothing for")
    });
    assert_eq!(sql.value(walsender), "1", "the old one is there still");
    assert!(next.stderr().contains("pg_terminate_backend"), "{}", next.stderr());
    until(LONG, "it takes over", || {
        assert!(next.is_running(), "it ended:\n{}", next.stderr());
        next.stderr().contains("took over")
    });
    next.terminate();
    next.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.t"]);
}
