//! Tables in an S3 bucket: kills, readers, and stores that are refused.

use crate::harness::random::Random;
use crate::harness::reader::Engine;
use crate::harness::s3::S3;
use crate::harness::{Scene, compare};
use crate::workload::Clients;
use std::time::Duration;

fn at(scene: &mut Scene, endpoint: &str) {
    let file =
        scene.write_text("keys", "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n");
    scene.config.lake = "s3://lake/app".to_owned();
    scene.config.sink = format!(
        "  credentials: {{file: {file:?}}}\n  storage: {{endpoint: {endpoint:?}, region: us-east-1, path_style: true}}\n"
    );
}

fn difference(scene: &mut Scene, s3: &S3, table: &str, engine: Engine) -> Option<String> {
    let mut sql = scene.sql();
    let columns = compare::spelled_columns(&mut sql, "public", table);
    let source = compare::source_rows(&mut sql, "public", table, &columns);
    let names: Vec<String> = columns.into_iter().map(|c| c.name).collect();
    let path = format!("s3://lake/app/public/{table}");
    match scene.readers().try_stored_rows(engine, &path, &names, &s3.settings()) {
        Ok(target) => compare::difference(source, target),
        Err(error) => Some(error),
    }
}

#[test]
fn tables_in_a_bucket_end_equal_after_kills() {
    let mut random = Random::from_env("s3");
    let mut scene = Scene::new("s3");
    let s3 = S3::start();
    at(&mut scene, &s3.endpoint());
    scene.config.tables = "  overrides: {public.exact: {write: copy_on_write}}\n".to_owned();
    scene.sql().exec(
        "create table ev (id bigint primary key, v text, big text);
         insert into ev select i, md5(i::text), repeat(md5(i::text), 100) from generate_series(1, 3000) i;
         create table exact (id bigint primary key, v text);
         insert into exact select i, md5(i::text) from generate_series(1, 3000) i",
    );
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(15), |sql, random| {
        let n = random.between(1, 4000);
        sql.try_exec(&format!(
            "begin; update ev set v = 'x{n}' where id % 500 = {n} % 500; delete from ev where id = {n};
             insert into ev values ({n}, 'again', repeat('z{n}', 2000)) on conflict do nothing;
             update exact set v = 'y{n}' where id = {n}; commit"
        ))
    });
    for kill in 0..4 {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(500, 2500)));
        let log = running.kill9();
        for code in ["RT001", "\"level\":\"error\""] {
            assert!(!log.contains(code), "kill {kill}: {code} in the log:\n{log}");
        }
    }
    clients.stop();
    scene.drain();
    for engine in [Engine::DeltaRs, Engine::Polars] {
        for table in ["ev", "exact"] {
            assert_eq!(difference(&mut scene, &s3, table, engine), None, "{table} by {engine:?}");
        }
    }
}

#[test]
fn a_store_without_conditional_writes_is_refused() {
    let mut scene = Scene::new("s3-refused");
    scene.sql().exec("create table t (id int primary key)");
    let s3 = S3::start();
    let forgetful = s3.without_conditions();
    at(&mut scene, &format!("http://127.0.0.1:{}", forgetful.number()));
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG006");
    at(&mut scene, &s3.endpoint());
    scene.config.lake = "s3://no-such-bucket/app".to_owned();
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG003");
}
