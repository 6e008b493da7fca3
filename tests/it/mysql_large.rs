//! Transactions of MySQL and MariaDB that are larger than the memory for them.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::{LONG, until};
use std::time::Duration;

/// 160 MB of rows inserted, changed in part and deleted in part, in one transaction.
fn huge(scene: &MyScene, first: u32, is_compressed: bool) {
    let mut sql = scene.sql();
    if is_compressed {
        sql.exec("set session binlog_transaction_compression = on");
    }
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

/// Killed in the middle of one: nothing of it is there, or all; and never more memory than a part of it.
fn in_bounded_memory(scene: &mut MyScene, first: u32, is_compressed: bool) {
    huge(scene, first, is_compressed);
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
    println!("{:?}, compressed: {is_compressed}: at most {} MiB", scene.server.brand, peak / 1024);
    assert!(peak < 190 * 1024, "{peak} KiB for a transaction of 160 MB");
    scene.assert_equal(&["shop.big", "shop.side"]);
}

#[test]
fn a_transaction_beyond_the_memory_is_applied_whole() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = begin("my-large", brand) else { continue };
        in_bounded_memory(&mut scene, 1, false);
        if !brand.is_mariadb() {
            // Compressed, it is one event of the log.
            let size = |scene: &MyScene| -> u64 {
                let sizes = scene.sql().rows("show binary logs");
                sizes.iter().filter_map(|row| row[1].as_ref()?.parse::<u64>().ok()).sum()
            };
            let before = size(&scene);
            scene.sql().exec("delete from big");
            let deleted = size(&scene) - before;
            in_bounded_memory(&mut scene, 20_001, true);
            let took = size(&scene) - before - deleted;
            assert!(took < 40 << 20, "it was compressed: {took} bytes");
        }
        // A row of more than one packet of the protocol.
        scene.sql().exec("set global max_allowed_packet = 64 * 1024 * 1024");
        scene.sql().exec("create table rows_of_packets (id int primary key, v longblob)");
        scene.drain();
        scene.sql().exec("insert into rows_of_packets values (1, repeat('x', 20000000)), (2, 'small')");
        scene.drain();
        let path = scene.table("shop.rows_of_packets");
        let found = scene.readers().sql(&path, None, "select id, octet_length(v) from t order by id");
        let expected =
            [["1", "20000000"], ["2", "5"]].map(|row| row.map(|cell| Some(cell.to_owned())).to_vec());
        assert_eq!(found, expected);
    }
}
