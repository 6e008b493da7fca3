//! `strandline target`: reads of one cut, reports, vacuum; and tables in which nothing happens cost nothing.

use crate::harness::process::Outcome;
use crate::harness::{LONG, Scene, deltalog, until};
use serde_json::Value;

fn target(scene: &Scene, arguments: &[&str]) -> Outcome {
    let config = scene.write_config();
    let mut all = vec!["target"];
    all.extend(arguments);
    all.extend(["-c", &config]);
    scene.start(&all).wait(LONG)
}

fn json(scene: &Scene, arguments: &[&str]) -> Value {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    let outcome = target(scene, &all);
    outcome.expect_code(0);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

#[test]
fn a_cut_is_read_by_position_and_by_time() {
    let mut scene = Scene::new("target");
    scene.sql().exec(
        "create table a (id int primary key, v int); create table b (id int primary key, v int);
         insert into a select i, 0 from generate_series(1, 100) i; insert into b select i, 0 from generate_series(1, 100) i",
    );
    scene.drain();
    scene.sql().exec("update a set v = 1; update b set v = 1");
    scene.drain();
    let first = json(&scene, &["cut"]);
    scene.sql().exec("begin; update a set v = 2; update b set v = 2; delete from a where id > 50; commit");
    scene.drain();
    let (position, time) = (first["position"].as_str().unwrap(), first["committed_at"].as_str().unwrap());
    assert_eq!(json(&scene, &["cut", "--at", position]), first);
    assert_eq!(json(&scene, &["cut", "--at", time])["committed_at"], first["committed_at"]);
    assert_ne!(json(&scene, &["cut"])["tables"], first["tables"]);
    let tables = first["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 2);
    for table in tables {
        let name = table["table"].as_str().unwrap();
        let path = scene.table(name);
        assert_eq!(table["uri"].as_str().unwrap(), format!("file://{}", path.display()));
        let rows =
            scene.readers().sql(&path, table["version"].as_i64(), "select count(*), min(v), max(v) from t");
        assert_eq!(rows[0], ["100", "1", "1"].map(|n| Some(n.to_owned())), "{name}");
    }
    let text = target(&scene, &["cut", "--at", position, "-o", "sql"]).stdout;
    let reads = text.lines().filter(|line| line.contains("delta_scan(")).count();
    assert!(reads == 2 && text.contains("version = "), "{text}");
    target(&scene, &["cut", "--at", "0/1"]).expect_code(1).expect_error("TG020");
    target(&scene, &["cut", "--at", "yesterday"]).expect_code(2).expect_error("CF005");
    let report = &json(&scene, &["inspect", "public.a"])["tables"][0];
    assert_eq!((report["rows"].as_u64(), report["write"].as_str()), (Some(50), Some("upsert")));
    assert_eq!(report["version"].as_i64(), deltalog::version(&scene.table("public.a")));
    target(&scene, &["inspect", "public.nothing"]).expect_code(3).expect_error("TG010");
    let registered = target(&scene, &["register-sql", "public.a", "--for", "spark"]).stdout;
    assert!(registered.contains("USING DELTA LOCATION 'file:///"), "{registered}");
    target(&scene, &["vacuum", "--retention", "1h"]).expect_code(2);
    target(&scene, &["vacuum", "--yes"]).expect_code(0);
    target(&scene, &["vacuum", "--retention", "5m", "--yes"]).expect_code(2).expect_error("CF005");
    scene.assert_equal(&["public.a", "public.b"]);
}

/// `TABLES=1000` is the long form.
#[test]
fn quiet_tables_cost_no_commits() {
    let tables: u32 = std::env::var("TABLES").map_or(60, |n| n.parse().expect("TABLES is a number"));
    let mut scene = Scene::new("quiet");
    scene.config.interval = "50ms".into();
    scene.sql().exec(&format!(
        "create table busy (id bigint primary key);
         do $$ begin for i in 1..{tables} loop execute format('create table quiet_%s (id int primary key)', i); end loop; end $$"
    ));
    let mut running = scene.start_run(&[]);
    let last = scene.table(&format!("public.quiet_{tables}"));
    let busy = scene.table("public.busy");
    let is_live = |table: &std::path::Path| deltalog::position(table, "shop").is_some();
    until(LONG * 4, "the first copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        (1..=tables).all(|i| is_live(&scene.table(&format!("public.quiet_{i}")))) && is_live(&busy)
    });
    let versions = |scene: &Scene| -> Vec<Option<i64>> {
        (1..=tables).map(|i| deltalog::version(&scene.table(&format!("public.quiet_{i}")))).collect()
    };
    let before = versions(&scene);
    let from = deltalog::version(&busy).expect("a table");
    let mut sql = scene.sql();
    for round in 1..=20 {
        sql.exec(&format!("insert into busy select {round} * 1000 + i from generate_series(1, 10) i"));
        let next = from + round;
        until(LONG, "a commit", || deltalog::version(&busy).is_some_and(|version| version >= next));
    }
    assert_eq!(versions(&scene), before, "only the busy table was committed to");
    assert!(last.exists());
    running.terminate();
    running.wait(LONG).expect_code(0);
    let cut = json(&scene, &["cut"]);
    assert_eq!(cut["tables"].as_array().map(Vec::len), Some(tables as usize + 1), "the cut names them all");
    let end = scene
        .sql()
        .value("select confirmed_flush_lsn from pg_replication_slots where slot_name = 'strandline_shop'");
    assert_eq!(cut["position"].as_str(), Some(end.as_str()), "and the slot is not held back");
    scene.assert_equal(&["public.busy"]);
}
