//! Runs that end by themselves: caught up, at a position, after the copy.

use crate::harness::random::Random;
use crate::harness::{LONG, Scene};
use crate::workload::Clients;
use std::time::Duration;

fn rows_in(scene: &mut Scene, condition: &str) -> u64 {
    let table = scene.table("public.events");
    let rows = scene.readers().sql(&table, None, &format!("select count(*) from t where {condition}"));
    rows[0][0].as_ref().and_then(|n| n.parse().ok()).expect("a count")
}

fn scene_with_events(test: &str, rows: u64) -> Scene {
    let scene = Scene::new(test);
    scene.sql().exec(&format!(
        "create table events (id bigint generated always as identity primary key, v text);
         insert into events (v) select 'x' from generate_series(1, {rows})"
    ));
    scene
}

/// Under a writer that does not stop, it ends, and holds all that was there when it started.
#[test]
fn until_caught_up_holds_everything() {
    let mut random = Random::from_env("until");
    let mut scene = scene_with_events("until-caught-up", 1000);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(1, &url, &mut random, Duration::from_millis(2), |sql, _| {
        sql.try_exec("insert into events (v) values ('more')")
    });
    for _ in 0..3 {
        clients.wait_for(50);
        let last: u64 = scene.sql().value("select max(id) from events").parse().unwrap();
        scene.drain();
        assert!(rows_in(&mut scene, &format!("id <= {last}")) >= last, "rows up to {last} are missing");
    }
    clients.stop();
    scene.drain();
    scene.assert_equal(&["public.events"]);
}

#[test]
fn until_lsn_ends_there() {
    let mut scene = scene_with_events("until-lsn", 100);
    scene.drain();
    scene.sql().exec("insert into events (v) select 'before' from generate_series(1, 100)");
    let lsn = scene.sql().value("select pg_current_wal_insert_lsn()");
    scene.run(&["--until-lsn", &lsn]).expect_code(0);
    assert_eq!(rows_in(&mut scene, "v = 'before'"), 100);
    // A position that is behind us already: it ends at once, with nothing doubled.
    scene.run(&["--until-lsn", &lsn]).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.events"]);
}

#[test]
fn snapshot_only_then_stream() {
    let mut scene = scene_with_events("until-snapshot", 1000);
    scene.run(&["--snapshot-only"]).expect_code(0);
    scene.assert_equal(&["public.events"]);
    scene.sql().exec("update events set v = 'changed' where id % 2 = 0; delete from events where id % 5 = 0");
    assert!(scene.difference("public.events", crate::harness::reader::Engine::DuckDb).is_some());
    scene.drain();
    scene.assert_equal(&["public.events"]);
}

#[test]
fn no_snapshot_holds_only_what_came_after() {
    let mut scene = scene_with_events("until-no-snapshot", 100);
    scene.run(&["--no-snapshot", "--until-caught-up"]).expect_code(0);
    scene.sql().exec("insert into events (v) select 'after' from generate_series(1, 50)");
    scene.run(&["--no-snapshot", "--until-caught-up"]).expect_code(0);
    assert_eq!(rows_in(&mut scene, "v = 'after'"), 50);
    assert_eq!(rows_in(&mut scene, "true"), 50, "rows from before are not copied");
}

/// An idle second run changes nothing and adds no version to a table.
#[test]
fn an_idle_run_commits_no_data() {
    let mut scene = scene_with_events("until-idle", 100);
    scene.drain();
    let data = |scene: &Scene| {
        let commits = crate::harness::deltalog::commits(&scene.table("public.events"));
        commits.iter().filter(|c| c.has("add") || c.has("remove")).count()
    };
    let before = data(&scene);
    for _ in 0..3 {
        scene.drain();
    }
    assert_eq!(data(&scene), before);
    scene.assert_equal(&["public.events"]);
}

/// No file at all: the source and the target as arguments, everything else made or chosen.
#[test]
fn two_arguments_are_enough() {
    let mut scene = scene_with_events("until-arguments", 100);
    scene.sql().exec("drop publication strandline_pub");
    let (url, lake) = (scene.pg.url("postgres", "shop"), scene.config.lake.clone());
    let run = ["run", url.as_str(), lake.as_str(), "--until-caught-up"];
    scene.start(&run).wait(LONG).expect_code(0);
    scene.sql().exec("update events set v = 'changed' where id % 2 = 0");
    scene.start(&run).wait(LONG).expect_code(0);
    scene.assert_equal(&["public.events"]);
}
