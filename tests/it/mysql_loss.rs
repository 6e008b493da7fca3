//! Histories that cannot be joined, on MySQL and MariaDB: each is found before another commit, with its code and its
//! remedy. And failovers, which are followed when nothing is missing.

use crate::harness::deltalog;
use crate::harness::mysql::{Brand, Mysqld};
use crate::harness::mysql_scene::MyScene;
use crate::harness::proxy::Proxy;
use crate::harness::{LONG, until};

/// A table of three rows in the lake.
fn filled(test: &str, brand: Brand, options: &[&str]) -> Option<MyScene> {
    let mut scene = MyScene::with(test, brand, options)?;
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v varchar(20))");
    sql.exec("create table log (n int)");
    sql.exec("insert into t values (1, 'a'), (2, 'b'), (3, 'c')");
    scene.drain();
    sql.exec("insert into t values (4, 'd')");
    sql.exec("insert into log values (1)");
    scene.drain();
    scene.assert_equal(&["shop.t"]);
    Some(scene)
}

#[track_caller]
fn stops(scene: &MyScene, code: &str) {
    let before = deltalog::version(&scene.table("shop.t"));
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_error(code);
    assert_ne!(outcome.code, Some(0));
    // The takeover's own epoch is a version.
    let after = deltalog::version(&scene.table("shop.t"));
    assert!(after <= before.map(|v| v + 1), "committed after the loss: {before:?} {after:?}");
}

#[track_caller]
fn comes_back(scene: &mut MyScene) {
    scene.config.source = "  on_position_lost: resync\n".into();
    scene.drain();
    scene.assert_equal(&["shop.t"]);
}

#[test]
fn deleted_logs_are_named() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = filled("my-purged", brand, &[]) else { continue };
        let mut sql = scene.sql();
        sql.exec("flush binary logs");
        sql.exec("insert into t values (5, 'e')");
        sql.exec("flush binary logs");
        let files = sql.rows("show binary logs");
        let last = files.last().and_then(|row| row[0].clone()).expect("a file");
        // A file that a dying connection still reads is left alone by MariaDB.
        until(std::time::Duration::from_secs(30), "the logs are deleted", || {
            sql.exec(&format!("purge binary logs to '{last}'"));
            sql.rows("show binary logs").len() == 1
        });
        stops(&scene, "MY040");
        comes_back(&mut scene);
    }
}

#[test]
fn a_log_that_was_reset_is_another_history() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = filled("my-reset", brand, &[]) else { continue };
        let mut sql = scene.sql();
        sql.exec(if brand.is_mariadb() { "reset master" } else { "reset binary logs and gtids" });
        let outcome = scene.run(&["--until-caught-up"]);
        assert!(outcome.stderr.contains("error MY04"), "{}", outcome.stderr);
        // It grows past our position.
        sql.exec("flush binary logs");
        for n in 10..60 {
            sql.exec(&format!("insert into t values ({n}, repeat('x', 20))"));
        }
        stops(&scene, "MY045");
        comes_back(&mut scene);
    }
}

#[test]
fn a_server_that_was_set_back_is_noticed() {
    let Some(mut scene) = MyScene::new("my-restore", Brand::MySql9) else { return };
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v varchar(20))");
    sql.exec("insert into t values (1, 'a')");
    drop(sql);
    scene.server.stop();
    let mut backup = scene.server.clone_stopped(&scene.dir().join("backup"), &[]);
    scene.server.restart();
    scene.drain();
    for n in 2..20 {
        scene.sql().exec(&format!("insert into t values ({n}, 'b')"));
    }
    scene.drain();
    // The backup has the same identity, and less of the log.
    scene.server.crash();
    backup.restart();
    scene.config.url = backup.url("strandline", "shop");
    let outcome = scene.run(&["--until-caught-up"]);
    assert!(outcome.stderr.contains("error MY04"), "{}", outcome.stderr);
    // And when it has grown past our position, by other transactions.
    for n in 100..160 {
        backup.sql().exec(&format!("insert into t values ({n}, 'other')"));
    }
    stops(&scene, "MY045");
}

/// A second server that has everything that the first has, from the first's log.
fn replica(scene: &MyScene, brand: Brand) -> Mysqld {
    let replica = Mysqld::start_with(
        brand,
        &scene.dir().join("replica"),
        &[
            "--server-id=2",
            if brand.is_mariadb() { "--log-slave-updates=ON" } else { "--log-replica-updates=ON" },
        ],
    );
    let mut sql = replica.sql();
    let port = scene.server.port();
    if brand.is_mariadb() {
        sql.exec(&format!(
            "change master to master_host='127.0.0.1', master_port={port}, master_user='admin', master_password='admin', \
             master_use_gtid=slave_pos"
        ));
        sql.exec("start slave");
    } else {
        sql.exec(&format!(
            "change replication source to source_host='127.0.0.1', source_port={port}, source_user='admin', \
             source_password='admin', source_auto_position=1, get_source_public_key=1"
        ));
        sql.exec("start replica");
    }
    replica
}

fn has_all(scene: &MyScene, replica: &Mysqld) {
    let count = scene.sql().value("select count(*) from t");
    until(std::time::Duration::from_secs(60), "the replica has everything", || {
        replica
            .sql()
            .try_rows("select count(*) from t")
            .is_ok_and(|rows| rows[0][0].as_deref() == Some(&count))
    });
}

fn promote(replica: &Mysqld, brand: Brand) {
    replica.sql().exec(if brand.is_mariadb() { "stop slave" } else { "stop replica" });
}

#[test]
fn a_failover_without_loss_is_followed() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let options: &[&str] = if brand.is_mariadb() { &["--log-slave-updates=ON"] } else { &[] };
        let Some(mut scene) = filled("my-failover", brand, options) else { continue };
        let replica = replica(&scene, brand);
        crate::mysql_silence::is_given_up(&scene.server);
        has_all(&scene, &replica);
        promote(&replica, brand);
        scene.server.crash();
        replica.sql().exec("insert into t values (20, 'after'), (21, 'after')");
        replica.sql().exec("update t set v = 'moved' where id = 1");
        replica.sql().exec("insert into log values (2)");
        // The connection is lost before the first cut on the new server.
        let proxy = Proxy::blind(replica.port());
        let (direct, through) = (replica.port().to_string(), proxy.port().to_string());
        scene.config.url = replica.url("strandline", "shop").replace(&direct, &through);
        let running = scene.start_run(&["--until-caught-up"]);
        until(LONG, "it goes on by GTIDs", || running.stderr().contains("the stream goes on by GTIDs"));
        proxy.cut();
        running.wait(LONG).expect_code(0);
        replica.sql().exec("delete from t where id = 2");
        scene.drain();
        scene.server = replica;
        scene.assert_equal(&["shop.t"]);
        let path = scene.table("shop.log");
        let rows = scene.readers().sql(&path, None, "select n from t order by n");
        assert_eq!(rows.len(), 2, "nothing came twice: {rows:?}");
    }
}

/// GTIDs with tags, which a request for the log cannot name.
#[test]
fn a_failover_with_tags_is_followed() {
    let brand = Brand::MySql9;
    let Some(mut scene) = filled("my-tags", brand, &[]) else { return };
    let replica = replica(&scene, brand);
    let mut sql = scene.sql();
    sql.exec("set gtid_next = 'automatic:ours'");
    sql.exec("insert into t values (40, 'tagged')");
    sql.exec("set gtid_next = 'automatic'");
    sql.exec("insert into log values (40)");
    scene.drain();
    has_all(&scene, &replica);
    promote(&replica, brand);
    scene.server.crash();
    let mut sql = replica.sql();
    sql.exec("flush binary logs");
    sql.exec("set gtid_next = 'automatic:theirs'");
    sql.exec("insert into t values (41, 'after')");
    sql.exec("insert into log values (41)");
    scene.config.url = replica.url("strandline", "shop");
    scene.drain();
    sql.exec("update t set v = 'again' where id = 40");
    scene.drain();
    scene.server = replica;
    scene.assert_equal(&["shop.t"]);
    let path = scene.table("shop.log");
    let rows = scene.readers().sql(&path, None, "select n from t order by n");
    assert_eq!(rows.len(), 3, "nothing came twice: {rows:?}");
}

#[test]
fn a_failover_that_lost_transactions_stops() {
    let brand = Brand::MySql9;
    let Some(mut scene) = filled("my-lossy", brand, &[]) else { return };
    let replica = replica(&scene, brand);
    has_all(&scene, &replica);
    promote(&replica, brand);
    scene.sql().exec("insert into t values (30, 'only here')");
    scene.drain();
    scene.server.crash();
    scene.config.url = replica.url("strandline", "shop");
    stops(&scene, "MY043");
    replica.sql().exec("insert into t values (31, 'there')");
    scene.server = replica;
    comes_back(&mut scene);
}

#[test]
fn without_gtids_another_server_is_refused_and_a_restart_goes_on() {
    let options = &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    let Some(mut scene) = filled("my-filepos", Brand::MySql9, options) else { return };
    scene.sql().exec("insert into t values (7, 'g')");
    scene.drain();
    scene.assert_equal(&["shop.t"]);
    let other = Mysqld::start_with(Brand::MySql9, &scene.dir().join("other"), options);
    other.sql().exec("create table t (id int primary key, v varchar(20))");
    scene.config.url = other.url("strandline", "shop");
    stops(&scene, "MY042");
}
