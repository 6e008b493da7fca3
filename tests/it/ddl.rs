//! Changes of a table itself: what the log does not tell must not go unnoticed, what leaves every value alone
//! must not stop anything.

use crate::harness::{LONG, Scene, deltalog, until};

fn scene_with_orders(test: &str) -> Scene {
    let mut scene = Scene::new(test);
    scene.sql().exec(
        "create table orders (id int primary key, n int, v text); create table items (id int primary key, v text);
         insert into orders select i, i, 'x' from generate_series(1, 500) i;
         insert into items select i, 'x' from generate_series(1, 500) i",
    );
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
    scene
}

/// The catalogue is the same before and after, and so is everything that the stream says.
const REWRITE: &str = "alter table orders alter n type int using n + 1000";

#[test]
fn values_rewritten_while_it_is_down_stop_the_table() {
    let mut scene = scene_with_orders("ddl-rewrite-down");
    let before = deltalog::position(&scene.table("public.orders"), "shop");
    scene.sql().exec(REWRITE);
    scene
        .sql()
        .exec("insert into orders values (1000, 1, 'after'); insert into items values (1000, 'after')");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(1).expect_error("PG022");
    assert_eq!(deltalog::position(&scene.table("public.orders"), "shop"), before, "nothing was added to it");
    scene.assert_equal(&["public.items"]);
    let config = scene.write_config();
    scene.start(&["resync", "public.orders", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}

#[test]
fn values_rewritten_while_it_runs_stop_the_table() {
    let mut scene = scene_with_orders("ddl-rewrite-running");
    let mut running = scene.start_run(&[]);
    scene.sql().exec("insert into orders values (1000, 1, 'before')");
    let table = scene.table("public.orders");
    let start = deltalog::position(&table, "shop");
    until(LONG, "the stream is followed", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop") > start
    });
    scene.sql().exec(REWRITE);
    scene.sql().exec("insert into orders values (1001, 1, 'after')");
    let config = scene.write_config();
    until(LONG, "the table is stopped", || {
        let status = scene.start(&["status", "-o", "json", "-c", &config]).wait(LONG);
        status.stdout.contains("PG022")
    });
    let rows = scene.readers().sql(&table, None, "select count(*) from t where v = 'after'");
    assert_eq!(rows[0][0].as_deref(), Some("0"), "a row was added beside values that are wrong now");
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.start(&["resync", "public.orders", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}

/// New files with the same values, other definitions with the same files: each by itself is harmless, and
/// is remembered, so that they do not add up to a suspicion.
#[test]
fn what_leaves_values_alone_stops_nothing() {
    let mut scene = scene_with_orders("ddl-harmless");
    for statement in [
        "vacuum full orders",
        "alter table orders alter n set default 7",
        "truncate orders; insert into orders values (1, 1, 'again')",
        "alter table orders alter v set statistics 50",
        "cluster orders using orders_pkey",
    ] {
        scene.sql().exec(statement);
        scene.sql().exec("update orders set v = v || '.'; update items set v = v || '.'");
        scene.drain();
        scene.assert_equal(&["public.orders", "public.items"]);
    }
}

#[test]
fn a_column_dropped_and_added_under_its_name_stops_the_table() {
    let mut scene = scene_with_orders("ddl-drop-add");
    scene.sql().exec(
        "alter table orders drop n; alter table orders drop v; alter table orders add n int, add v text",
    );
    scene.sql().exec("insert into orders values (1000, 1, 'after')");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("PG022");
    let config = scene.write_config();
    scene.start(&["resync", "public.orders", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}
