//! Two-way replication makes no loop: what another replication brought is left out, where the operator asks so.

use crate::harness::sql::Sql;
use crate::harness::{LONG, Scene, has, until};

#[test]
fn what_another_replication_brought_is_left_out() {
    if !has(16, "the filter of origins") {
        return;
    }
    let mut scene = Scene::new("origin");
    let mut sql = scene.sql();
    sql.exec("create database other");
    let mut other = Sql::connect(&scene.pg.url("postgres", "other")).expect("the other database");
    let table = "create table t (id int primary key, v text)";
    other.exec(&format!("{table}; create publication away for all tables"));
    other.exec("select pg_create_logical_replication_slot('away', 'pgoutput')");
    sql.exec(table);
    let from = scene.pg.url("postgres", "other");
    sql.exec(&format!(
        "create subscription back connection '{from}' publication away \
         with (create_slot = false, slot_name = 'away', copy_data = false)"
    ));
    // Once with everything, once without what came by the subscription.
    for (lake, origin, expected) in [("any", "", "1,2,3"), ("none", "  origin: none\n", "2")] {
        sql.exec("truncate t");
        other.exec("truncate t");
        scene.config.name = format!("origin_{lake}");
        scene.config.slot = format!("strandline_{lake}");
        scene.config.lake = format!("file://{}", scene.dir().join(lake).display());
        scene.config.source = origin.into();
        until(LONG, "both are empty", || sql.value("select count(*) from t") == "0");
        scene.drain();
        other.exec("insert into t values (1, 'from there')");
        until(LONG, "the row comes", || sql.value("select count(*) from t") == "1");
        sql.exec("insert into t values (2, 'from here')");
        other.exec("insert into t values (3, 'from there')");
        until(LONG, "the row comes", || sql.value("select count(*) from t") == "3");
        scene.drain();
        let place = scene.dir().join(lake).join("public/t");
        let rows = scene.readers().sql(
            &place,
            None,
            "select string_agg(cast(id as varchar), ',' order by id) from t",
        );
        assert_eq!(rows[0][0].as_deref(), Some(expected), "origin {lake}");
    }
    sql.exec("alter subscription back disable; alter subscription back set (slot_name = none); drop subscription back");
}
