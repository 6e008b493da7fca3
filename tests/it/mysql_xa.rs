//! Two-phase transactions: whole at `XA COMMIT`, never before, never after `XA ROLLBACK`; across restarts of strandline
//! and of the server between the two phases.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::proxy::Proxy;
use crate::harness::{LONG, until};
use std::time::Duration;

const BOTH: [Brand; 2] = [Brand::MySql9, Brand::MariaDb118];

fn begin(test: &str, brand: Brand) -> Option<MyScene> {
    let scene = MyScene::new(test, brand)?;
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v longtext)");
    sql.exec("create table log (n int)");
    sql.exec("insert into t values (1, 'a'), (2, 'b')");
    drop(sql);
    scene.drain();
    Some(scene)
}

/// Prepares a transaction, in a session of its own.
fn prepare(scene: &MyScene, name: &str, statements: &[&str]) {
    let mut sql = scene.sql();
    sql.exec(&format!("xa start {name}"));
    statements.iter().for_each(|statement| sql.exec(statement));
    sql.exec(&format!("xa end {name}"));
    sql.exec(&format!("xa prepare {name}"));
}

/// Ends a branch from another session. The server lets go of it some time after the session that prepared it is gone.
fn end_branch(scene: &MyScene, statement: &str) {
    const UNKNOWN_XID: u16 = 1397;
    let mut sql = scene.sql();
    until(Duration::from_secs(30), "the branch is free", || match sql.try_exec(statement) {
        Ok(()) => true,
        Err(failed) if failed.number == Some(UNKNOWN_XID) => false,
        Err(failed) => panic!("{statement}: {failed:?}"),
    });
}

/// What the source shows to others, the target has.
#[track_caller]
fn equal(scene: &mut MyScene, rows_of_log: usize) {
    scene.drain();
    scene.assert_equal(&["shop.t"]);
    let path = scene.table("shop.log");
    assert_eq!(scene.readers().sql(&path, None, "select n from t").len(), rows_of_log);
}

#[test]
fn a_branch_comes_when_it_commits_also_after_restarts() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-xa", brand) else { continue };
        prepare(&scene, "'one','b',7", &["insert into t values (3, 'c')", "insert into log values (1), (2)"]);
        prepare(&scene, "'two'", &["update t set v = 'never' where id = 2"]);
        // Others go on, and are ahead of it.
        scene.sql().exec("insert into t values (4, 'd')");
        equal(&mut scene, 0);
        // The position is behind the preparation now, and in another file of the log.
        scene.sql().exec("flush binary logs");
        scene.sql().exec("update t set v = 'dd' where id = 4");
        equal(&mut scene, 0);
        scene.server.crash();
        scene.server.restart();
        scene.sql().exec("xa rollback 'two'");
        scene.sql().exec("xa commit 'one','b',7");
        scene.sql().exec("insert into t values (5, 'e')");
        equal(&mut scene, 2);
        // Once more: what was applied stays applied once.
        scene.sql().exec("delete from t where id = 3");
        equal(&mut scene, 2);
    }
}

#[test]
fn branches_in_a_running_stream() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-xa-run", brand) else { continue };
        let proxy = Proxy::blind(scene.server.port());
        let (direct, through) = (scene.server.port().to_string(), proxy.port().to_string());
        scene.config.url = scene.config.url.replace(&direct, &through);
        let running = scene.start_run(&[]);
        until(Duration::from_secs(60), "it runs", || running.stderr().contains("\"took over\""));
        for n in 10..20 {
            let name = format!("'x{n}'");
            prepare(&scene, &name, &[&format!("insert into t values ({n}, 'x')")]);
            scene.sql().exec(&format!("insert into t values ({}, 'between')", n + 100));
            end_branch(&scene, &format!("xa {} {name}", if n % 3 == 0 { "rollback" } else { "commit" }));
        }
        // In one phase, and one that is too large to be kept: it is read from the log again.
        let mut sql = scene.sql();
        sql.exec("xa start 'short'");
        sql.exec("insert into t values (30, 'short')");
        sql.exec("xa end 'short'");
        sql.exec("xa commit 'short' one phase");
        sql.exec("create table seed (n int primary key)");
        sql.exec("insert into seed values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)");
        let fill = "insert into t select 1000 + a.n * 10 + b.n, repeat('y', 100000) from seed a, seed b";
        prepare(&scene, "'large'", &[fill, "update t set v = 'late' where id = 1"]);
        scene.sql().exec("update t set v = 'after' where id = 2");
        // To look for it takes longer than a call of the stream may last: two connections, one behind the other.
        proxy.delay_new(Duration::from_millis(700));
        end_branch(&scene, "xa commit 'large'");
        scene.sql().exec("insert into t values (41, 'end')");
        until(Duration::from_secs(60), "everything is there", || scene.difference("shop.t").is_none());
        proxy.delay_new(Duration::ZERO);
        running.terminate();
        running.wait(LONG).expect_code(0);
        equal(&mut scene, 0);
    }
}

#[test]
fn a_branch_whose_log_is_deleted_stops() {
    let Some(mut scene) = begin("my-xa-purged", Brand::MySql9) else { return };
    prepare(&scene, "'old'", &["insert into t values (3, 'c')"]);
    scene.drain();
    let mut sql = scene.sql();
    sql.exec("flush binary logs");
    sql.exec("insert into t values (4, 'd')");
    scene.drain();
    let last = sql.rows("show binary logs").last().and_then(|row| row[0].clone()).expect("a file");
    sql.exec(&format!("purge binary logs to '{last}'"));
    end_branch(&scene, "xa commit 'old'");
    scene.run(&["--until-caught-up"]).expect_error("MY028");
    let config = scene.write_config();
    scene.start(&["resync", "shop.t", "shop.log", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    equal(&mut scene, 0);
}
