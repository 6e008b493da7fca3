//! Changes of a table itself: what the log does not tell must not go unnoticed, what leaves every value alone
//! must not stop anything.

use crate::harness::random::Random;
use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, deltalog, until};
use std::time::Duration;

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

/// Whether a table's target was written anew since `version`.
fn copied_since(scene: &Scene, table: &str, version: i64) -> bool {
    deltalog::commits(&scene.table(table)).iter().any(|commit| {
        commit.version > version
            && commit.actions.iter().any(|a| a["commitInfo"]["operation"].as_str() == Some("OVERWRITE"))
    })
}

fn version(scene: &Scene, table: &str) -> i64 {
    deltalog::version(&scene.table(table)).expect("a table")
}

/// Each step is a change of the source and whether it wants a new copy of the table.
const STEPS: [(&str, bool); 16] = [
    ("alter table orders add note text", false),
    ("alter table orders add at timestamp", false),
    ("alter table orders drop v", false),
    ("alter table orders add v text", true),
    ("alter table orders add filled int default 42", true),
    ("alter table orders rename n to number", true),
    ("alter table orders alter number type bigint", true),
    ("alter table orders alter note type varchar", false),
    ("alter table orders add random float8 default random()", true),
    // The catalogue is the same before and after, and so is everything that the stream says.
    ("alter table orders alter number type bigint using number + 1000", true),
    ("alter table orders alter number set default 7", false),
    ("alter table orders replica identity full", false),
    ("alter table orders replica identity default", false),
    ("truncate orders; alter table orders add late int", true),
    ("alter table orders drop late, add later int", false),
    ("drop table orders; create table orders (id int primary key, other text)", true),
];

/// Rows before and after the change, in transactions of their own and in that of the change.
fn around(scene: &Scene, n: usize, statement: &str) {
    let id = 1000 + n * 10;
    let row = |id: usize| format!("insert into orders (id) values ({id});");
    scene.sql().exec(&row(id));
    scene.sql().exec(&format!("begin; {} {statement}; {} commit", row(id + 1), row(id + 2)));
    scene.sql().exec(&format!("{} delete from orders where id % 13 = 0", row(id + 3)));
    scene.sql().exec(&format!("update items set v = v || '.' where id = {n}"));
}

/// The source's rows, in the source's columns, are in the target; what was dropped may stand beside them.
#[test]
fn every_change_is_followed_while_it_is_down() {
    let mut scene = scene_with_orders("ddl-down");
    for (n, (statement, copies)) in STEPS.into_iter().enumerate() {
        let before = version(&scene, "public.orders");
        around(&scene, n, statement);
        scene.drain();
        scene.assert_equal(&["public.orders", "public.items"]);
        assert_eq!(copied_since(&scene, "public.orders", before), copies, "copied anew after {statement}?");
    }
}

#[test]
fn every_change_is_followed_while_it_runs() {
    let mut scene = scene_with_orders("ddl-running");
    let mut running = scene.start_run(&[]);
    for (n, (statement, _)) in STEPS.into_iter().enumerate() {
        around(&scene, n, statement);
        until(LONG, &format!("what followed {statement} has come"), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            scene.difference("public.orders", Engine::DuckDb).is_none()
        });
    }
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.assert_equal(&["public.orders", "public.items"]);
}

/// Of a partitioned table, only the partitions' catalogue knows that older rows have a value in a new column.
#[test]
fn columns_of_a_partitioned_table_are_followed() {
    let mut scene = Scene::new("ddl-partitioned");
    scene.sql().exec(
        "create table orders (id int primary key, n int) partition by range (id);
         create table orders_a partition of orders for values from (0) to (1000);
         create table orders_b partition of orders for values from (1000) to (9000) partition by range (id);
         create table orders_b1 (n int, gone text, id int not null); alter table orders_b1 drop gone;
         alter table orders_b attach partition orders_b1 for values from (1000) to (5000);
         create table items (id int primary key, v text);
         insert into orders select i * 5, i from generate_series(1, 900) i; insert into items values (1, 'x'), (2, 'y')",
    );
    scene.drain();
    let steps = [
        ("alter table orders add note text", false),
        ("alter table orders add filled int default 42", true),
        ("alter table orders add never timestamptz not null default '2001-02-03'", true),
        ("alter table orders alter filled drop default, add late date default '2020-02-29', drop n", true),
    ];
    for (n, (statement, copies)) in steps.into_iter().enumerate() {
        let before = version(&scene, "public.orders");
        let (row, moved) = (5 * n + 1, 500 * (n + 1));
        scene.sql().exec(&format!(
            "insert into orders (id) values ({row}); update orders set id = id + 2 where id = {moved}"
        ));
        scene.sql().exec(statement);
        scene.sql().exec(&format!("insert into orders (id) values ({})", 1001 + 5 * n));
        scene.drain();
        scene.assert_equal(&["public.orders", "public.items"]);
        assert_eq!(copied_since(&scene, "public.orders", before), copies, "copied anew after {statement}?");
    }
}

/// Several changes in one backlog, each with rows of its own form.
#[test]
fn two_changes_in_one_backlog_are_followed() {
    let mut scene = scene_with_orders("ddl-backlog");
    for (n, statements) in [
        ["alter table orders add a text", "alter table orders add b text"],
        ["alter table orders add c text", "alter table orders drop c"],
        ["alter table orders drop a", "alter table orders add a int"],
        ["alter table orders rename b to bb", "alter table orders rename v to b"],
    ]
    .into_iter()
    .enumerate()
    {
        around(&scene, 2 * n, statements[0]);
        scene.sql().exec("update orders set v = 'between' where id % 2 = 0");
        around(&scene, 2 * n + 1, statements[1]);
        scene.drain();
        scene.assert_equal(&["public.orders", "public.items"]);
    }
}

/// Kills at random instants while columns come and go.
#[test]
fn kills_between_changes_lose_nothing() {
    let mut random = Random::from_env("ddl-kills");
    let mut scene = scene_with_orders("ddl-kills");
    for n in 0..10 {
        let running = scene.start_run(&[]);
        let step = if n % 2 == 0 { format!("add c{n} text") } else { format!("drop c{}", n - 1) };
        around(&scene, n, &format!("alter table orders {step}"));
        std::thread::sleep(Duration::from_millis(random.between(0, 900)));
        running.kill9();
    }
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}

/// A change that nobody allowed stops the table before another commit; the others go on.
#[test]
fn what_is_not_allowed_stops_the_table() {
    let mut scene = scene_with_orders("ddl-quarantine");
    let before = deltalog::position(&scene.table("public.orders"), "shop");
    around(&scene, 1, "alter table orders alter n type text");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(1).expect_error("PG022");
    assert_eq!(deltalog::position(&scene.table("public.orders"), "shop"), before, "nothing was added to it");
    scene.assert_equal(&["public.items"]);
    let config = scene.write_config();
    scene.start(&["resync", "public.orders", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}

/// New files with the same values, other definitions with the same files: each by itself is harmless, and
/// is remembered, so that they do not add up to a suspicion.
#[test]
fn what_leaves_values_alone_copies_nothing() {
    let mut scene = scene_with_orders("ddl-harmless");
    let before = version(&scene, "public.orders");
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
    assert!(!copied_since(&scene, "public.orders", before));
}

/// Tables that are made, dropped and made again, renamed, moved: while it runs.
#[test]
fn tables_come_and_go_while_it_runs() {
    let mut scene = scene_with_orders("ddl-tables");
    let mut running = scene.start_run(&[]);
    let mut wait_for = |scene: &mut Scene, tables: &[&str]| {
        until(LONG, &format!("{tables:?} are equal"), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            tables.iter().all(|t| {
                scene.table(t).join("_delta_log").exists() && scene.difference(t, Engine::DuckDb).is_none()
            })
        });
    };
    scene.sql().exec("create table late (id int primary key, v text); insert into late values (1, 'x')");
    wait_for(&mut scene, &["public.late", "public.orders"]);
    scene.sql().exec("insert into late values (2, 'y'); update orders set v = 'z' where id = 1");
    wait_for(&mut scene, &["public.late", "public.orders"]);
    scene.sql().exec(
        "drop table late; create table late (id int primary key, w int); insert into late values (3, 4)",
    );
    wait_for(&mut scene, &["public.late", "public.orders"]);
    scene.sql().exec("alter table items rename to things; insert into things values (9999, 'new name')");
    wait_for(&mut scene, &["public.things"]);
    scene.sql().exec("update things set v = 'again' where id = 9999");
    wait_for(&mut scene, &["public.things", "public.late"]);
}
