//! Cases that broke others (docs/TORTURE.md): what the log does not hold, names in upper and lower case, default character
//! sets that change, and servers where nobody may lock all tables.

use crate::harness::LONG;
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn warned(scene: &MyScene) -> Vec<String> {
    let config = scene.write_config();
    let outcome = scene.start(&["doctor", "-c", &config, "-o", "json"]).wait(LONG);
    let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let checks = found["checks"].as_array().expect("checks").iter();
    checks
        .filter(|check| check["verdict"] == "warning")
        .map(|check| check["check"].as_str().expect("a name").to_owned())
        .collect()
}

/// Foreign keys that the engine follows by itself, databases that are not logged, a log that is not synced: each is said,
/// and where rows differ `verify` says which.
#[test]
fn what_the_log_does_not_hold_is_said() {
    let lower = ["--lower-case-table-names=1", "--binlog-ignore-db=secret"];
    for (brand, options) in [(Brand::MariaDb118, &lower[..]), (Brand::MySql9, &["--binlog-ignore-db=secret"])]
    {
        let Some(mut scene) = MyScene::with("my-unlogged", brand, options) else { continue };
        let mut sql = scene.sql();
        sql.exec("create table Parent (id int primary key)");
        sql.exec(
            "create table child (id int primary key, p int, \
             constraint of_parent foreign key (p) references Parent (id) on delete cascade on update set null)",
        );
        sql.exec("insert into Parent values (1), (2)");
        sql.exec("insert into child values (10, 1), (11, 1), (20, 2)");
        scene.drain();
        let parent = if brand.is_mariadb() { "shop.parent" } else { "shop.Parent" };
        scene.assert_equal(&[parent, "shop.child"]);
        sql.exec("delete from Parent where id = 1");
        scene.drain();
        scene.assert_equal(&[parent]);
        let is_logged = scene.difference("shop.child").is_none();
        let warned = warned(&scene);
        println!("{brand:?}: cascades are logged: {is_logged}; warned of {warned:?}");
        assert_eq!(warned.contains(&"cascades".to_owned()), !is_logged, "{warned:?}");
        assert!(warned.contains(&"sync_binlog".to_owned()), "{warned:?}");
        assert!(warned.contains(&"binlog_filter".to_owned()), "{warned:?}");
        let config = scene.write_config();
        let verified = scene.start(&["verify", "-c", &config]).wait(LONG);
        verified.expect_code(if is_logged { 0 } else { 4 });
        if !is_logged {
            assert!(verified.stdout.contains("child"), "{}", verified.stdout);
            scene.start(&["resync", "shop.child", "--yes", "-c", &config]).wait(LONG).expect_code(0);
            scene.assert_equal(&["shop.child"]);
        }
    }
}

/// Nobody gets `RELOAD` on a managed server, and without GTIDs no place is exact without a lock: the followed tables are
/// locked for a moment, while others write.
#[test]
fn a_user_who_may_not_lock_all_tables_copies_too() {
    let options = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let Some(mut scene) = MyScene::with("my-managed", Brand::MySql9, &options) else { return };
    let mut sql = scene.sql();
    sql.exec("create user managed@'%' identified by 'managed'");
    sql.exec("grant select, lock tables, replication slave, replication client on *.* to managed@'%'");
    // Names that differ by case only are two tables.
    sql.exec("create table Orders (id int primary key auto_increment, v varchar(20))");
    sql.exec("create table orders (id int primary key auto_increment, v varchar(20))");
    sql.exec("insert into Orders (v) values ('upper')");
    sql.exec("insert into orders (v) values ('lower')");
    sql.exec("create database other");
    sql.exec("create table other.t (id int primary key auto_increment, v varchar(20))");
    scene.config.url = scene.server.url("managed", "shop");
    let stop = Arc::new(AtomicBool::new(false));
    let (url, is_over) = (scene.server.url("admin", "shop"), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut sql = MySql::connect(&url).expect("a session");
        let mut written = 0;
        while !is_over.load(Ordering::SeqCst) {
            sql.exec("insert into orders (v) values ('meanwhile')");
            sql.exec("begin; update Orders set v = 'changed'; insert into other.t (v) values ('o'); commit");
            written += 1;
        }
        written
    });
    let outcome = scene.run(&["--until-caught-up"]);
    stop.store(true, Ordering::SeqCst);
    let written: u32 = writer.join().expect("the writer");
    outcome.expect_code(0);
    assert!(outcome.stderr.contains("are locked for a moment"), "{}", outcome.stderr);
    println!("{written} transactions meanwhile");
    // What is added after a change of the default is of the new one; what was there stays as it was.
    sql.exec("alter table orders default character set latin1");
    sql.exec("alter table orders add column w varchar(20)");
    sql.exec("insert into orders (v, w) values ('naïve ✓', 'naïve')");
    sql.exec("alter table orders default character set utf8mb4, add column x varchar(20)");
    sql.exec("insert into orders (v, w, x) values ('✓', 'é', '✓')");
    scene.drain();
    scene.assert_equal(&["shop.Orders", "shop.orders"]);
}
