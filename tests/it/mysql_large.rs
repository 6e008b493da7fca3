//! Transactions of MySQL and MariaDB that are larger than the memory for them.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::{LONG, until};
use std::time::Duration;

/// 160 MB of rows inserted, changed in part and deleted in part, in one transaction.
fn huge(scene: &MyScene, first: u32) {
    let mut sql = scene.sql();
    sql.exec("begin");
    for turn in 0..10 {
        let from = first + turn * 1000;
        sql.exec(&format!(
            "insert into big select {from} + a.n * 100 + b.n * 10 + c.n, {turn}, repeat(char(97 + {turn}), 16000) \
             from ten a, ten b, ten c"
        ));
    }
    sql.exec(&format!("update big set n = -1 where id >= {first} and id % 7 = 0"));
    sql.exec(&format!("delete from big where id >= {first} and id % 5 = 0"));
    sql.exec(&format!("insert into side values ({first}, 'beside')"));
    sql.exec("commit");
}

fn begin(test: &str, brand: Brand) -> Option<MyScene> {
    let mut scene = MyScene::new(test, brand)?;
    let mut sql = scene.sql();
    sql.exec("create table ten (n int primary key)");
    sql.exec("insert into ten values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)");
    sql.exec("create table big (id int primary key, n int, v mediumtext)");
    sql.exec("create table side (id int primary key, v varchar(20))");
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    scene.drain();
    Some(scene)
}

#[test]
fn a_transaction_beyond_the_memory_is_applied_whole() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = begin("my-large", brand) else { continue };
        huge(&scene, 1);
        // Killed in the middle of it: nothing of it is there, or all.
        let running = scene.start_run(&[]);
        until(Duration::from_secs(60), "it reads", || running.stderr().contains("\"took over\""));
        std::thread::sleep(Duration::from_millis(300));
        let _log = running.kill9();
        let running = scene.start_run(&[]);
        let mut peak = 0;
        until(LONG, "everything is there", || {
            peak = running.peak_kib().max(peak);
            scene.difference("shop.side").is_none()
        });
        running.terminate();
        running.wait(LONG).expect_code(0);
        println!("{brand:?}: at most {} MiB", peak / 1024);
        assert!(peak < 190 * 1024, "{peak} KiB for a transaction of 160 MB");
        scene.assert_equal(&["shop.big", "shop.side"]);
    }
}
