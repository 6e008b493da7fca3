//! Copies wait while the source is busy.

use crate::harness::sql::Sql;
use crate::harness::{LONG, Scene, deltalog, until};

#[test]
fn a_copy_waits_while_the_source_is_busy() {
    let mut scene = Scene::new("throttle");
    scene.config.more =
        "snapshot: {workers: 2, max_source_load: {active_sessions: 2, replica_lag: 30s}}\n".into();
    let mut sql = scene.sql();
    sql.exec(
        "create table t (id int primary key, v text); alter table t alter v set storage external;
         insert into t select i, repeat(md5(i::text), 40) from generate_series(1, 20000) i",
    );
    // A role that cannot see the load would never wait: that is said, and nothing is read.
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("PG036");
    sql.exec("grant pg_read_all_stats to strandline");
    let url = scene.pg.url("postgres", "shop");
    let sleepers: Vec<_> = (0..3)
        .map(|_| {
            let mut busy = Sql::connect(&url).expect("a session");
            std::thread::spawn(move || busy.try_exec("select pg_sleep(600)"))
        })
        .collect();
    let sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'";
    until(LONG, "the sessions are busy", || sql.value(sleeping) == "3");
    let mut running = scene.start_run(&[]);
    let waits = |running: &mut crate::harness::process::Strandline| {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stderr().contains("the copy waits: 3 sessions are active, more than 2")
    };
    until(LONG, "the copy waits", || waits(&mut running));
    let table = scene.table("public.t");
    assert_eq!(deltalog::position(&table, "shop"), None, "nothing is copied");
    sql.exec("select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(600)'");
    until(LONG, "the copy", || deltalog::position(&table, "shop").is_some());
    assert!(running.stderr().contains("the copy goes on"), "{}", running.stderr());
    running.terminate();
    running.wait(LONG).expect_code(0);
    for sleeper in sleepers {
        assert!(sleeper.join().expect("no panic").is_err(), "it was ended");
    }
    scene.drain();
    scene.assert_equal(&["public.t"]);
}
