//! What is shown of a MySQL's or MariaDB's log: how far the target is behind in bytes, across files, and how long the server keeps
//! what is not read yet; while a process runs, and without one.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::{LONG, until};
use serde_json::Value;

fn status(scene: &MyScene) -> Value {
    let config = scene.write_config();
    let outcome = scene.start(&["status", "-o", "json", "-c", &config]).wait(LONG);
    serde_json::from_str(&outcome.stdout).unwrap_or_default()
}

#[test]
fn lag_is_in_bytes_of_log_across_files_and_logs_expire() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(scene) = MyScene::new("my-gauges", brand) else { continue };
        let mut sql = scene.sql();
        sql.exec("set global binlog_expire_logs_seconds = 7200");
        sql.exec("create table orders (id int primary key, v varchar(2000))");
        sql.exec("insert into orders values (1, 'a')");
        let running = scene.start_run(&[]);
        until(LONG, "it streams, and has looked at the log", || {
            let now = status(&scene);
            now["state"] == "streaming" && now["source"]["log_seconds_left"] == 7200
        });
        sql.exec("flush binary logs");
        sql.exec("flush binary logs");
        sql.exec("insert into orders values (2, repeat('x', 1500))");
        until(LONG, "nothing is left, in a newer file", || {
            let now = status(&scene);
            now["lag_bytes"].as_u64().is_some_and(|bytes| bytes < 10_000) && now["lag_seconds"] == 0.0
        });
        running.terminate();
        running.wait(LONG).expect_code(0);
        // Without a process: a file's end, a whole file, and the beginning of another, and not gigabytes.
        for id in 3..23 {
            sql.exec(&format!("insert into orders values ({id}, repeat('x', 1500))"));
            if id % 10 == 0 {
                sql.exec("flush binary logs");
            }
        }
        let lag = status(&scene)["lag_bytes"].as_u64().expect("it is known");
        assert!((30_000..200_000).contains(&lag), "{brand:?}: {lag}");
    }
}
