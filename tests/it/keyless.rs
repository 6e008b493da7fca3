//! Tables without a key are change logs: each change arrives once, as a row with its letter and position.

use crate::harness::Scene;
use crate::harness::random::Random;
use crate::workload::Clients;
use std::time::Duration;

fn count(scene: &mut Scene, name: &str, condition: &str) -> String {
    let table = scene.table(name);
    let rows = scene.readers().sql(&table, None, &format!("select count(*) from t where {condition}"));
    rows[0][0].clone().expect("a count")
}

#[test]
fn changes_arrive_once_as_rows() {
    let mut scene = Scene::new("keyless");
    scene.sql().exec(
        "create table log (n int, what text); alter table log replica identity full;
         insert into log select i, 'copied' from generate_series(1, 100) i",
    );
    scene.drain();
    assert_eq!(count(&mut scene, "public.log", "_strandline_op = 'r'"), "100");
    scene.sql().exec(
        "insert into log select i, 'streamed' from generate_series(101, 200) i;
         update log set what = 'changed' where n = 150; delete from log where n between 1 and 10",
    );
    scene.drain();
    assert_eq!(count(&mut scene, "public.log", "_strandline_op = 'c' and what = 'streamed'"), "100");
    assert_eq!(count(&mut scene, "public.log", "_strandline_op = 'u' and n = 150 and what = 'changed'"), "1");
    assert_eq!(count(&mut scene, "public.log", "_strandline_op = 'd' and n <= 10 and what = 'copied'"), "10");
    let places = "select count(*), count(distinct (_strandline_lsn, _strandline_ordinal)) from t where _strandline_op <> 'r'";
    let table = scene.table("public.log");
    let rows = scene.readers().sql(&table, None, places);
    assert_eq!(rows[0][0], rows[0][1], "no two changes stand at one place");
}

/// A doubled append would show here, where no key hides it.
#[test]
fn kills_double_nothing() {
    let mut random = Random::from_env("keyless");
    let mut scene = Scene::new("keyless-kills");
    scene.config.interval = "100ms".into();
    scene.sql().exec("create table log (n bigint, what text); create sequence s");
    scene.sql().exec("alter table log replica identity full");
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(3), |sql, random| {
        let end = if random.one_in(8) { "rollback" } else { "commit" };
        sql.try_exec(&format!(
            "begin; insert into log select nextval('s'), 'x' from generate_series(1, {}); {end}",
            random.between(1, 20)
        ))
    });
    for _ in 0..8 {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(100, 1500)));
        running.kill9();
    }
    clients.stop();
    scene.drain();
    scene.assert_equal(&["public.log"]);
}
