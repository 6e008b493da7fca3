//! Every way to write a table, under the mixed workload and kills, read back by three readers.

use crate::harness::random::Random;
use crate::harness::reader::Engine;
use crate::harness::sql::Row;
use crate::harness::{Scene, compare, deltalog};
use crate::workload::{Clients, MIXED, make_mixed, mixed_step};
use std::time::Duration;

/// One table of the workload for each way.
pub(crate) const WAYS: &str = "  overrides:
    public.customers: {write: copy_on_write}
    public.orders: {write: both, images: both}
    public.items: {deletes: soft, meta_columns: strandline}
    public.Mixed Case: {write: copy_on_write, deletes: soft, meta_columns: debezium}
    public.scratch: {deletes: soft, meta_columns: fivetran}
    public.ledger: {write: append}
    public.bulk: {write: copy_on_write, meta_columns: strandline}
";

/// Rows of the source's columns where `mark` says that they stand.
pub(crate) fn standing(scene: &mut Scene, name: &str, mark: &str, engine: Engine) -> Option<String> {
    let (schema, table) = name.split_once('.').expect("schema.table");
    let mut sql = scene.sql();
    let columns = compare::spelled_columns(&mut sql, schema, table);
    let source = compare::source_rows(&mut sql, schema, table, &columns);
    let mut names: Vec<String> = columns.into_iter().map(|c| c.name).collect();
    names.push(mark.to_owned());
    let path = scene.table(name);
    let found = scene.readers().try_rows(engine, &path, None, Some(&names)).expect("it can be read");
    let stands = |mut row: Row| (row.pop().flatten().as_deref() == Some("false")).then_some(row);
    compare::difference(source, found.into_iter().filter_map(stands).collect())
}

/// What the table is by its change log.
const REPLAYED: &str = "select * exclude (n) from (select *, row_number() over (partition by id \
     order by _strandline_lsn desc nulls last, _strandline_ordinal desc, _strandline_image) n from t) \
     where n = 1 and _strandline_image = 'after'";

#[test]
fn every_way_ends_equal_after_kills() {
    let mut random = Random::from_env("modes");
    let mut scene = Scene::new("modes");
    scene.config.tables = WAYS.to_owned();
    make_mixed(&mut scene.sql(), 20_000);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(8), mixed_step);
    for kill in 0..8 {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(100, 1800)));
        let log = running.kill9();
        for code in ["RT001", "\"level\":\"error\""] {
            assert!(!log.contains(code), "kill {kill}: {code} in the log:\n{log}");
        }
    }
    clients.stop();
    scene.drain();
    for engine in Engine::ALL {
        for name in ["public.customers", "public.orders", "public.bulk"] {
            assert_eq!(scene.difference(name, engine), None, "{name} by {engine:?}");
        }
        for (name, mark) in [
            ("public.items", "_strandline_deleted"),
            ("public.Mixed Case", "__deleted"),
            ("public.scratch", "_fivetran_deleted"),
        ] {
            if name.contains(' ') && engine == Engine::Polars {
                continue; // Polars looks for "Mixed%20Case"
            }
            assert_eq!(standing(&mut scene, name, mark, engine), None, "{name} by {engine:?}");
        }
    }
    // Each change once: the ledger is only added to, and the log replayed is the table.
    scene.assert_equal(&["public.ledger"]);
    let log = scene.table("public.orders__changes");
    let places = scene.readers().sql(
        &log,
        None,
        "select count(*), count(distinct (_strandline_lsn, _strandline_ordinal, _strandline_image)) from t \
         where _strandline_op <> 'r'",
    );
    assert_eq!(places[0][0], places[0][1], "no two rows stand at one place");
    let count = format!("select count(*), sum(id), sum(total) from ({REPLAYED})");
    let replayed = scene.readers().sql(&log, None, &count);
    let orders = scene.table("public.orders");
    let table = scene.readers().sql(&orders, None, "select count(*), sum(id), sum(total) from t");
    assert_eq!(replayed, table);
    for name in ["public.customers", "public.Mixed Case", "public.bulk"] {
        let table = scene.table(name);
        let vectors = deltalog::commits(&table)
            .iter()
            .flat_map(|commit| &commit.actions)
            .filter(|action| !action["add"]["deletionVector"].is_null())
            .count();
        assert_eq!(vectors, 0, "{name}");
        scene.readers().read_as_pyarrow(&table).expect("a reader without deletion vectors reads it");
    }
    assert!(MIXED.len() == 7, "a new table of the workload needs its way");
}

#[test]
fn a_truncate_is_refused_and_another_way_is_noticed() {
    let mut scene = Scene::new("modes-stop");
    scene.config.sink = "  truncates: stop\n".to_owned();
    scene.sql().exec(
        "create table a (id int primary key); insert into a select generate_series(1, 10);
         create table b (id int primary key); insert into b select generate_series(1, 10)",
    );
    scene.drain();
    scene.sql().exec("truncate a; insert into b values (11)");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("TG022");
    scene.assert_equal(&["public.b"]);
    let config = scene.write_config();
    scene.start(&["resync", "--yes", "-c", &config, "public.a"]).wait(Duration::from_secs(60)).expect_code(0);
    scene.assert_equal(&["public.a"]);
    scene.config.tables = "  overrides: {public.b: {deletes: soft}}\n".to_owned();
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG021");
    scene.config.tables = "  overrides: {public.b: {write: copy_on_write}}\n".to_owned();
    let config = scene.write_config();
    let refused = scene.start(&["resync", "--yes", "-c", &config, "public.b"]).wait(Duration::from_secs(60));
    refused.expect_code(3).expect_error("TG021");
    std::fs::remove_dir_all(scene.table("public.b")).expect("the table can be removed");
    scene.start(&["resync", "--yes", "-c", &config, "public.b"]).wait(Duration::from_secs(60)).expect_code(0);
    scene.assert_equal(&["public.b"]);
}

/// Values of a megabyte that the log does not repeat, in every way: the table has them, and no more is written than the way needs.
#[test]
fn large_values_that_do_not_change_stay_in_every_way() {
    let mut scene = Scene::new("modes-large");
    scene.config.tables = "  overrides:
    public.exact: {write: copy_on_write}
    public.logged: {write: both, images: both}
    public.soft: {deletes: soft}
    public.parts: {target: {partition_by: [n]}}
"
    .to_owned();
    let names = ["plain", "exact", "logged", "soft", "parts"];
    for name in names {
        scene.sql().exec(&format!(
            "create table {name} (id int primary key, n int, big text, more text);
             alter table {name} alter big set storage external, alter more set storage external;
             insert into {name} select i, i % 3, (select string_agg(md5(i || '/' || j), '') from generate_series(1, 32768) j),
               repeat('m' || i, 4000) from generate_series(1, 6) i"
        ));
    }
    scene.drain();
    for round in 0..4 {
        for name in names {
            // Each in a transaction of its own, and several times in one; keys that move; one that is deleted in the end.
            scene.sql().exec(&format!("update {name} set n = (n + 1) % 3 where id % 2 = {round} % 2"));
            scene.sql().exec(&format!(
                "begin; update {name} set n = 0 where id = 2; update {name} set more = 'new ' || {round} where id = 2;
                 update {name} set id = 100 + {round} where id = {round} + 3; update {name} set n = n + 1 where id > 99; commit"
            ));
        }
        scene.drain();
    }
    for name in names {
        scene.sql().exec(&format!("alter table {name} add late text; update {name} set n = 5 where id = 1"));
        scene
            .sql()
            .exec(&format!("delete from {name} where id = 100; update {name} set late = 'x' where id = 101"));
    }
    scene.drain();
    for name in names {
        let rows = format!("select id, n, md5(big), md5(more), late from {name} order by id");
        let source = scene.sql().rows(&rows);
        let table = scene.table(&format!("public.{name}"));
        let standing = if name == "soft" { "where not _strandline_deleted" } else { "" };
        let query = format!("select id, n, md5(big), md5(more), late from t {standing} order by id");
        assert_eq!(scene.readers().sql(&table, None, &query), source, "{name}");
    }
    let deleted = "select id, n, length(big) from t where _strandline_deleted order by id";
    let soft = scene.table("public.soft");
    let deleted = scene.readers().sql(&soft, None, deleted);
    assert_eq!(deleted.len(), 5, "the four keys that moved and the row that was deleted: {deleted:?}");
    assert!(deleted.iter().all(|row| row[2].as_deref() == Some("1048576")), "{deleted:?}");
}
