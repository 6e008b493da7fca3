//! MySQL and MariaDB from nothing: the first copy, the stream, a stop and a start, on every server.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::{deltalog, until};
use std::time::Duration;

const ALL: [Brand; 3] = [Brand::MySql9, Brand::MariaDb118, Brand::MariaDb1011];

#[test]
fn tables_are_copied_and_followed() {
    for brand in ALL {
        let Some(mut scene) = MyScene::new("my-basic", brand) else { continue };
        let mut sql = scene.sql();
        sql.exec(
            "create table t (id bigint unsigned primary key, v varchar(20), d decimal(10,2), at datetime(3))",
        );
        sql.exec("create table pair (a int, b varchar(10), n int, primary key (a, b))");
        sql.exec("create table log (what varchar(20), n int)");
        sql.exec("insert into t values (1, 'eins', 1.5, '2024-02-29 01:02:03.004'), (18446744073709551615, null, null, null)");
        sql.exec("insert into log values ('first', 1), ('first', 1)");
        scene.drain();
        scene.assert_equal(&["shop.t", "shop.pair"]);
        sql.exec(
            "begin; insert into t values (2, 'zwei', 2, now(3)); insert into pair values (1, 'x', 1); commit",
        );
        sql.exec("update t set v = 'ß' where id = 1");
        sql.exec("delete from t where id = 18446744073709551615");
        sql.exec("update pair set b = 'y' where a = 1");
        sql.exec("insert into log values ('second', 2)");
        scene.drain();
        scene.assert_equal(&["shop.t", "shop.pair"]);
        let commits = deltalog::commits(&scene.table("shop.t"));
        let last = commits.last().expect("a commit").txns();
        println!("{brand:?}: {last:?}");
        assert!(
            commits
                .iter()
                .flat_map(|c| c.txns().into_keys())
                .any(|id| id.starts_with("strandline/shop/gtid/"))
        );
        sql.exec("truncate t; insert into t values (9, 'nine', 9, null)");
        scene.drain();
        scene.assert_equal(&["shop.t", "shop.pair"]);
        // Nothing came twice into the change log of the table without a key.
        let rows = {
            let path = scene.table("shop.log");
            scene.readers().sql(&path, None, "select what, n from t")
        };
        assert_eq!(rows.len(), 3, "{rows:?}");
    }
}

#[test]
fn a_running_process_shows_what_it_does_and_stops_in_order() {
    let Some(mut scene) = MyScene::new("my-run", Brand::MySql9) else { return };
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v varchar(20))");
    sql.exec("insert into t values (1, 'a')");
    let mut running = scene.start_run(&[]);
    until(Duration::from_secs(60), "the first copy", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&scene.table("shop.t"), "shop").is_some()
    });
    // A second one is told who is there.
    let address = std::mem::replace(&mut scene.config.listen, "127.0.0.1:0".into());
    let second = scene.run(&["--until-caught-up"]);
    scene.config.listen = address;
    second.expect_code(5).expect_error("MY031");
    for n in 2..50 {
        sql.exec(&format!("insert into t values ({n}, 'b')"));
    }
    until(Duration::from_secs(30), "the rows arrive", || scene.difference("shop.t").is_none());
    let config = scene.write_config();
    scene.start(&["resync", "shop.t", "--yes", "-c", &config]).wait(Duration::from_secs(60)).expect_code(0);
    until(Duration::from_secs(30), "the table is shown as live", || {
        let status = scene.start(&["status", "-c", &config, "-o", "json"]).wait(Duration::from_secs(30));
        status.stdout.contains("\"live\"")
    });
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.assert_equal(&["shop.t"]);
}
