//! kill -9 of strandline at random instants, of the server now and then, of its dump connections and of the network, on
//! MySQL and on MariaDB, with compressed and two-phase transactions in the log: every table ends equal. `KILLS` scales it.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::proxy::Proxy;
use crate::harness::random::Random;
use crate::harness::{deltalog, until};
use crate::mysql_workload::{MIXED, MyClients, decide, make_mixed};
use std::time::{Duration, Instant};

#[test]
fn every_table_equals_mysql_after_kills() {
    kills(Brand::MySql9, "my-kill");
}

#[test]
fn every_table_equals_mariadb_after_kills() {
    kills(Brand::MariaDb118, "maria-kill");
}

fn kills(brand: Brand, test: &str) {
    let options: &[&str] =
        if brand.is_mariadb() { &["--log-bin-compress=ON", "--log-bin-compress-min-len=10"] } else { &[] };
    let Some(mut scene) = MyScene::with(test, brand, options) else { return };
    let proxy = Proxy::blind(scene.server.port());
    let (direct, through) = (scene.server.port().to_string(), proxy.port().to_string());
    scene.config.url = scene.config.url.replace(&direct, &through);
    let kills = std::env::var("KILLS").map_or(12, |k| k.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env(test);
    make_mixed(&mut scene.sql(), 60_000);
    let clients =
        MyClients::start(3, &scene.server.url("admin", "shop"), &mut random, Duration::from_millis(8));
    let started = Instant::now();
    let (mut servers, mut dumps, mut copies, mut cuts, mut left) = (0, 0, 0, 0, 0);
    for number in 0..kills {
        let is_live = MIXED.iter().all(|name| deltalog::position(&scene.table(name), "shop").is_some());
        if number % 4 == 1 && is_live {
            let config = scene.write_config();
            let mut arguments = vec!["resync", "--yes", "-c", &config];
            arguments.extend(MIXED);
            let mut asked = scene.start(&arguments);
            std::thread::sleep(Duration::from_millis(random.between(100, 900)));
            let _log = if asked.is_done() { String::new() } else { asked.kill9() };
            copies += 1;
        }
        let mut running = scene.start_run(&[]);
        until(Duration::from_secs(60), "the takeover", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            running.stderr().contains("\"took over\"")
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 1500)));
        match number % 5 {
            2 => {
                scene.server.crash();
                servers += 1;
                std::thread::sleep(Duration::from_millis(random.between(1, 300)));
            }
            3 => {
                dumps += kill_dumps(&scene);
                std::thread::sleep(Duration::from_millis(random.between(1, 600)));
            }
            4 => {
                for _ in 0..3 {
                    proxy.cut();
                    cuts += 1;
                    std::thread::sleep(Duration::from_millis(random.between(1, 400)));
                }
            }
            _ => {}
        }
        let log = running.kill9();
        for wrong in ["RT001", "\"level\":\"error\""] {
            assert!(!log.contains(wrong), "{wrong} in the log:\n{log}");
        }
        if number % 5 == 2 {
            scene.server.restart();
            left += decide(&mut scene.sql());
            clients.wait_for(5);
        }
    }
    let turns = clients.stop();
    left += decide(&mut scene.sql());
    scene.drain();
    scene.assert_equal(MIXED);
    println!(
        "{brand:?}: {kills} kills ({copies} in copies), {servers} of the server, {dumps} of its dumps, {cuts} cuts, {left} left prepared, {turns} transactions, {:?}",
        started.elapsed()
    );
    assert!(turns > 10 * kills, "the workload did too little to prove anything: {turns} transactions");
    assert!(servers >= 2, "too few kills of the server: {servers}");
}

/// Ends the connections that send the log.
fn kill_dumps(scene: &MyScene) -> u64 {
    let mut sql = scene.sql();
    let rows = sql.rows("select id from information_schema.processlist where command like 'Binlog Dump%'");
    let ids: Vec<String> = rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    for id in &ids {
        let _gone = sql.try_exec(&format!("kill {id}"));
    }
    ids.len() as u64
}
