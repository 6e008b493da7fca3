//! kill -9 of strandline at random instants, of PostgreSQL now and then; every table ends equal.
//!
//! `KILLS` (default 30) scales it; `make fault KILLS=1000` is the long form. Every third kill is meant for a
//! copy: of the first ones, as long as they last, then of all tables again, on request. The others fall into
//! start-up and streaming. Every tenth time PostgreSQL is killed, too.

use crate::harness::random::Random;
use crate::harness::{Scene, deltalog, until};
use crate::workload::{Clients, MIXED, make_mixed, mixed_step};
use std::time::{Duration, Instant};

#[test]
fn every_table_equals_the_source_after_kills() {
    let kills = std::env::var("KILLS").map_or(30, |k| k.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env("kill");
    let mut scene = Scene::new("kill");
    make_mixed(&mut scene.sql(), 150_000);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(3, &url, &mut random, Duration::from_millis(8), mixed_step);
    let started = Instant::now();
    let mut tally = Tally::default();
    while tally.kills < kills {
        one_kill(&mut scene, &mut random, &mut tally, &clients);
        if tally.kills.is_multiple_of(25) && tally.kills < kills {
            clients.while_paused(|| {
                scene.drain();
                scene.assert_equal(MIXED);
            });
            println!("{} kills: equal after {:?}", tally.kills, started.elapsed());
        }
    }
    let turns = clients.stop();
    scene.drain();
    scene.assert_equal(MIXED);
    let rows = scene.sql().value("select count(*) from ledger");
    println!(
        "{} kills ({} while tables were copied), {} of PostgreSQL, {turns} transactions, {rows} in the ledger, {:?}",
        tally.kills,
        tally.while_copying,
        tally.postgres,
        started.elapsed()
    );
    assert!(turns > 10 * kills, "the workload did too little to prove anything: {turns} transactions");
    assert!(tally.while_copying >= kills / 6, "too few kills fell into a copy: {}", tally.while_copying);
    assert!(tally.postgres >= 3, "too few kills of PostgreSQL: {}", tally.postgres);
}

#[derive(Default)]
struct Tally {
    kills: u64,
    while_copying: u64,
    postgres: u64,
}

/// Every table has a position: the first copy is over.
fn is_live(scene: &Scene) -> bool {
    MIXED.iter().all(|name| deltalog::position(&scene.table(name), &scene.config.name).is_some())
}

fn ask_for_copies(scene: &Scene) {
    let config = scene.write_config();
    let mut arguments = vec!["resync", "--yes", "-c", &config];
    arguments.extend(MIXED);
    scene.start(&arguments).wait(Duration::from_secs(60)).expect_code(0);
}

fn one_kill(scene: &mut Scene, random: &mut Random, tally: &mut Tally, clients: &Clients) {
    let at_copies = tally.kills.is_multiple_of(3);
    if at_copies && is_live(scene) {
        ask_for_copies(scene);
    }
    let mut running = scene.start_run(&[]);
    if at_copies {
        // From the takeover on it copies; the instant within is random.
        until(Duration::from_secs(60), "the takeover", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            running.stderr().contains("\"took over\"")
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 400)));
    } else {
        std::thread::sleep(Duration::from_millis(random.between(20, 1500)));
    }
    let kill_postgres = tally.kills % 10 == 6;
    if kill_postgres {
        scene.pg.crash();
        tally.postgres += 1;
        // It may notice, or be killed first.
        std::thread::sleep(Duration::from_millis(random.between(1, 300)));
    }
    let log = running.kill9();
    tally.kills += 1;
    if at_copies && log.matches("\"table copied\"").count() < MIXED.len() {
        tally.while_copying += 1;
    }
    if kill_postgres {
        scene.pg.restart();
        clients.wait_for(5);
    }
    for code in ["RT001", "\"level\":\"error\""] {
        assert!(!log.contains(code), "{code} in the log:\n{log}");
    }
}

/// The same without a crash of anything, as the yardstick: if this fails, kills are not the reason.
#[test]
fn every_table_equals_the_source_without_kills() {
    let mut random = Random::from_env("no-kill");
    let mut scene = Scene::new("no-kill");
    make_mixed(&mut scene.sql(), 5_000);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(4), mixed_step);
    let mut running = scene.start_run(&[]);
    until(Duration::from_secs(60), "the first copy", || is_live(&scene) || !running.is_running());
    assert!(running.is_running(), "it ended:\n{}", running.stderr());
    clients.wait_for(300);
    clients.stop();
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    scene.assert_equal(MIXED);
}
