//! The change data feed, read by delta-rs: each version's changes lead from one picture of the source to the next.

use crate::harness::sql::Row;
use crate::harness::{LONG, Scene, deltalog, until};
use std::collections::BTreeMap;

pub(crate) const FED: &str = "properties: {delta.enableChangeDataFeed: \"true\"}";

fn followed(scene: &mut Scene, name: &str, from: i64) -> BTreeMap<String, Option<String>> {
    let path = scene.table(name);
    let changes = scene.readers().feed(&path, from, &["id", "v"]);
    follow(name, changes)
}

/// Key → value, as the feed tells it from the first version to the last: rows of key, value, kind of change, version.
pub(crate) fn follow(name: &str, mut changes: Vec<Row>) -> BTreeMap<String, Option<String>> {
    let of = |row: &[Option<String>], i: usize| row[i].clone().expect("a value");
    // Within a version what leaves comes before what enters.
    let leaves = |kind: &str| ["delete", "update_preimage"].contains(&kind);
    changes.sort_by_key(|row| (of(row, 3).parse::<i64>().expect("a version"), !leaves(&of(row, 2))));
    let mut rows = BTreeMap::new();
    for row in changes {
        let (id, kind) = (of(&row, 0), of(&row, 2));
        if leaves(&kind) {
            assert_eq!(rows.remove(&id), Some(row[1].clone()), "{name}: {row:?}");
        } else {
            assert_eq!(rows.insert(id, row[1].clone()), None, "{name}: {row:?}");
        }
    }
    rows
}

pub(crate) fn source(scene: &Scene, table: &str) -> BTreeMap<String, Option<String>> {
    let rows = scene.sql().rows(&format!("select id::text, v::text from {table}"));
    rows.into_iter().map(|row| (row[0].clone().expect("a key"), row[1].clone())).collect()
}

#[test]
fn a_feed_tells_what_every_way_of_writing_does() {
    let mut scene = Scene::new("feed");
    scene.config.tables = format!(
        "  overrides:\n    public.up: {{target: {{{FED}}}}}\n    public.exact: {{write: copy_on_write, target: {{{FED}}}}}\n    \
         public.parts: {{target: {{partition_by: [p], {FED}}}}}\n    public.soft: {{deletes: soft, target: {{{FED}}}}}\n    \
         public.log: {{write: append, target: {{{FED}}}}}\n"
    );
    scene.config.interval = "20ms".into();
    let mut sql = scene.sql();
    for table in ["up", "exact", "parts", "soft", "later", "log"] {
        sql.exec(&format!(
            "create table {table} (id int primary key, p text, v text); alter table {table} alter v set storage external;
             insert into {table} select i, 'p' || i % 3, i::text from generate_series(1, 60) i"
        ));
    }
    let mut running = scene.start_run(&[]);
    let names = ["up", "exact", "parts", "soft", "later", "log"];
    until(LONG, "the first copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        names.iter().all(|name| deltalog::position(&scene.table(&format!("public.{name}")), "shop").is_some())
    });
    let up = scene.table("public.up");
    for round in 1..=14 {
        let before = deltalog::version(&up);
        for table in names {
            sql.exec(&format!(
                "begin; update {table} set v = v || '.{round}' where id % 5 = {round} % 5; update {table} set p = 'p' || (id + {round}) % 3 where id % 4 = {round} % 4;
                 delete from {table} where id = {round}; update {table} set id = id + 1000 where id = 40 + {round};
                 insert into {table} values ({round} + 100, 'p1', repeat('large', 2000)); update {table} set p = 'p0' where id > 100; commit"
            ));
        }
        until(LONG, "a commit", || deltalog::version(&up) > before);
    }
    let compacted = |scene: &Scene, name: &str| {
        let all = deltalog::commits(&scene.table(name));
        all.iter().any(|commit| commit.actions[0]["commitInfo"]["operation"] == "OPTIMIZE")
    };
    until(LONG, "compactions", || ["public.up", "public.parts"].iter().all(|name| compacted(&scene, name)));
    running.kill9();
    scene.drain();
    // Somebody asks for a feed of a table that has none.
    let later = scene.table("public.later");
    scene.readers().foreign(&later, "feed").expect("the property can be set");
    let first = deltalog::version(&later).expect("a table");
    sql.exec("update later set v = 'x' where id < 30; delete from later where id > 1000; truncate exact; insert into exact values (1, 'p', '1')");
    scene.drain();
    for (name, table) in [("public.up", "up"), ("public.exact", "exact"), ("public.parts", "parts")] {
        assert_eq!(followed(&mut scene, name, 0), source(&scene, table), "{name}");
        scene.assert_equal(&[name]);
    }
    let soft = scene.table("public.soft");
    let told = scene.readers().feed(&soft, 0, &["id", "_strandline_deleted"]);
    let marked = |row: &&Vec<Option<String>>| {
        row[1].as_deref() == Some("true") && row[2].as_deref() == Some("update_postimage")
    };
    assert!(
        told.iter().filter(marked).count() >= 14
            && told.iter().all(|row| row[2].as_deref() != Some("delete"))
    );
    let told = scene.readers().feed(&later, first, &["id", "v"]);
    let count = |kind: &str| told.iter().filter(|row| row[2].as_deref() == Some(kind)).count();
    let below: usize = sql.value("select count(*) from later where id < 30").parse().expect("a number");
    assert_eq!((count("update_postimage"), count("update_preimage"), count("insert")), (below, below, 0));
    assert!(count("delete") > 0);
    let log = scene.table("public.log");
    let told = scene.readers().feed(&log, 0, &["id", "_strandline_op"]);
    assert!(told.iter().all(|row| row[2].as_deref() == Some("insert")) && told.len() > 60);
}
