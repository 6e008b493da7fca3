//! The commands beside `run`, on MySQL and MariaDB.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::process::Outcome;
use crate::harness::{LONG, until};
use serde_json::Value;
use std::time::Duration;

const BOTH: [Brand; 2] = [Brand::MySql9, Brand::MariaDb118];

/// A command with the configuration of the scene.
fn ask(scene: &MyScene, arguments: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[arguments, &["-c", &config]].concat()).wait(LONG)
}

#[track_caller]
fn json(scene: &MyScene, arguments: &[&str]) -> (Value, Option<i32>) {
    let outcome = ask(scene, &[arguments, &["-o", "json"]].concat());
    let value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", outcome.stdout, outcome.stderr));
    (value, outcome.code)
}

/// The verdict of a check, the worst where there are several.
#[track_caller]
fn verdict(found: &Value, check: &str) -> String {
    let checks = found["checks"].as_array().expect("checks");
    let of = |wanted: &str| checks.iter().any(|c| c["check"] == check && c["verdict"] == wanted);
    let worst = ["stops", "stops_table", "warning", "ok"].into_iter().find(|wanted| of(wanted));
    worst.unwrap_or_else(|| panic!("no check {check} in {checks:#?}")).to_owned()
}

fn filled(test: &str, brand: Brand) -> Option<MyScene> {
    let scene = MyScene::new(test, brand)?;
    let mut sql = scene.sql();
    sql.exec("create table orders (id int primary key, v varchar(20))");
    sql.exec("insert into orders values (1, 'a'), (2, 'b'), (3, 'c')");
    sql.exec("create table items (id bigint unsigned, n int, t text, primary key (id, n))");
    sql.exec("insert into items values (1, 1, 'x'), (18446744073709551615, 2, null)");
    Some(scene)
}

#[test]
fn commands_that_only_look_know_what_mysql_has_not() {
    for brand in BOTH {
        let Some(scene) = filled("my-look", brand) else { continue };
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!(code, Some(0), "{found:#}");
        for check in ["log_bin", "binlog_format", "binlog_row_metadata", "privileges", "tables"] {
            assert_eq!(verdict(&found, check), "ok", "{check}: {found:#}");
        }
        assert!(!ask(&scene, &["validate"]).expect_code(0).stdout.contains("slot"));
        let (found, _) = json(&scene, &["validate"]);
        assert_eq!((&found["slot"], &found["publication"]), (&Value::Null, &Value::Null));
        ask(&scene, &["slot", "show"]).expect_code(2).expect_error("CF005");
        ask(&scene, &["teardown"]).expect_code(0);
        let shown = ask(&scene, &["setup", "--print"]);
        assert!(shown.expect_code(0).stdout.contains("GRANT"), "{}", shown.stdout);
        let (found, code) = json(&scene, &["config", "diff"]);
        assert_eq!((found["add"].as_array().map(Vec::len), code), (Some(2), Some(0)), "{found:#}");
        // A configuration that is made from the database works.
        let file = scene.dir().join("made.yaml").display().to_string();
        let (url, lake) = (scene.server.url("strandline", "shop"), format!("{}/made", scene.config.lake));
        scene.start(&["init", "--from", &url, "--to", &lake, "--file", &file]).wait(LONG).expect_code(0);
        let made = std::fs::read_to_string(&file).expect("it was written");
        assert!(made.contains("type: mysql") && made.contains("{env: MYSQL_PWD}"), "{made}");
        let made = made.replace("{env: MYSQL_PWD}", "strandline");
        std::fs::write(&file, made).expect("the run directory can be written");
        scene.start(&["doctor", "-c", &file]).wait(LONG).expect_code(0);
    }
}

/// What doctor prints with `--fix-sql` puts the server right.
#[test]
fn doctor_names_what_is_wrong_and_mends_it() {
    for brand in BOTH {
        let Some(mut scene) = filled("my-doctor", brand) else { continue };
        let mut sql = scene.sql();
        sql.exec("set global binlog_row_metadata = minimal");
        sql.exec("set global binlog_format = mixed");
        sql.exec("create table keyless (v int)");
        sql.exec("create table old (id int primary key) engine = MyISAM");
        sql.exec("grant select on shop.* to reader@'%'");
        scene.config.url = scene.server.url("reader", "shop");
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!(code, Some(3), "{found:#}");
        for check in ["binlog_format", "binlog_row_metadata", "privileges"] {
            assert_eq!(verdict(&found, check), "stops", "{check}: {found:#}");
        }
        assert_eq!(verdict(&found, "tables"), "stops_table", "{found:#}");
        assert_eq!(verdict(&found, "table_key"), "warning", "{found:#}");
        sql.exec("drop table keyless, old");
        let script = ask(&scene, &["doctor", "--fix-sql"]).stdout;
        for statement in script.lines().map(|line| line.split("--").next().unwrap_or_default().trim()) {
            if !statement.is_empty() {
                sql.exec(statement.trim_end_matches(';'));
            }
        }
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!(code, Some(0), "{script}\n{found:#}");
        scene.config.url = scene.server.url("nobody", "shop");
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!((verdict(&found, "connect"), code), ("stops".to_owned(), Some(3)), "{found:#}");
    }
}

#[test]
fn a_copy_alone_ends_and_is_followed_later() {
    for brand in BOTH {
        let Some(mut scene) = filled("my-only", brand) else { continue };
        scene.run(&["--snapshot-only"]).expect_code(0);
        scene.assert_equal(&["shop.orders", "shop.items"]);
        scene.sql().exec("insert into orders values (4, 'd')");
        assert!(scene.difference("shop.orders").is_some(), "it was copied, not followed");
        // What is copied stays; what came since is followed.
        scene.drain();
        scene.assert_equal(&["shop.orders", "shop.items"]);
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!((verdict(&found, "position"), code), ("ok".to_owned(), Some(0)), "{found:#}");
        let mut sql = scene.sql();
        sql.exec("flush binary logs");
        let last = sql.rows("show binary logs").last().and_then(|row| row[0].clone()).expect("a file");
        until(Duration::from_secs(30), "the logs are deleted", || {
            sql.exec(&format!("purge binary logs to '{last}'"));
            sql.rows("show binary logs").len() == 1
        });
        let (found, code) = json(&scene, &["doctor"]);
        assert_eq!((verdict(&found, "position"), code), ("stops".to_owned(), Some(3)), "{found:#}");
    }
}

#[test]
fn tables_are_compared_and_copied_again() {
    for brand in BOTH {
        let Some(mut scene) = filled("my-verify", brand) else { continue };
        scene.drain();
        scene.sql().exec("insert into orders values (5, 'e')");
        // Without a process it goes on to the snapshot by itself.
        let (found, code) = json(&scene, &["verify"]);
        assert_eq!(code, Some(0), "{found:#}");
        let tables = found["tables"].as_array().expect("tables");
        assert!(tables.len() == 2 && tables.iter().all(|t| t["equal"] == true), "{found:#}");
        // A change that no log tells of.
        let mut sql = scene.sql();
        sql.exec("set session sql_log_bin = 0");
        sql.exec("update orders set v = 'hidden' where id = 2");
        sql.exec("delete from items where n = 1");
        let running = scene.start_run(&[]);
        until(Duration::from_secs(60), "it runs", || running.stderr().contains("\"took over\""));
        let (found, code) = json(&scene, &["verify"]);
        assert_eq!(code, Some(4), "{found:#}");
        let rows = |table: &str| {
            let of = found["tables"].as_array().into_iter().flatten().find(|t| t["table"] == table);
            of.map(|t| (t["different"].as_u64(), t["rows"].to_string())).expect("the table")
        };
        assert!(rows("shop.orders").0 == Some(1) && rows("shop.orders").1.contains('2'), "{found:#}");
        assert_eq!(rows("shop.items").0, Some(1), "{found:#}");
        // The process that runs copies them.
        ask(&scene, &["resync", "shop.orders", "--yes"]).expect_code(0);
        scene.assert_equal(&["shop.orders"]);
        running.terminate();
        running.wait(LONG).expect_code(0);
        // And without one it is done here.
        ask(&scene, &["resync", "shop.items", "--yes"]).expect_code(0);
        scene.assert_equal(&["shop.orders", "shop.items"]);
        ask(&scene, &["resync", "shop.nothing", "--yes"]).expect_error("MY010");
        ask(&scene, &["verify", "shop.nothing"]).expect_error("MY010");
    }
}
