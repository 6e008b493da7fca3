//! What a publication holds of a table is what the target holds: some of its rows, some of its columns, generated ones.

use crate::harness::process::Strandline;
use crate::harness::{LONG, NEWEST, OLDEST, Scene, deltalog, has, until};
use std::collections::BTreeMap;

/// A table of the source, and what is published of it.
struct Part {
    name: &'static str,
    columns: &'static str,
    filter: &'static str,
}

const fn part(name: &'static str, columns: &'static str, filter: &'static str) -> Part {
    Part { name, columns, filter }
}

const ACTIVE: &str =
    "select count(*) from pg_replication_slots where slot_name = 'strandline_shop' and active";

/// Whether each target holds what is published of its source, and nothing else.
fn differences(scene: &mut Scene, parts: &[Part]) -> Option<String> {
    let mut sql = scene.sql();
    for Part { name, columns, filter } in parts {
        let path = scene.table(&format!("public.{name}"));
        if !path.join("_delta_log").exists() {
            return Some(format!("{name} is not there"));
        }
        let mut source = sql.rows(&format!("select {columns} from {name} where {filter}"));
        let mut target = match scene.readers().try_sql(&path, None, &format!("select {columns} from t")) {
            Ok(rows) => rows,
            Err(error) => return Some(format!("{name}: {error}")),
        };
        source.sort();
        target.sort();
        if source != target {
            return Some(format!("{name}: {source:?}\n{target:?}"));
        }
    }
    None
}

#[track_caller]
fn assert_same(scene: &mut Scene, parts: &[Part]) {
    assert_eq!(differences(scene, parts), None);
}

#[track_caller]
fn until_same(scene: &mut Scene, running: &mut Strandline, parts: &[Part]) {
    let mut last = None;
    let began = std::time::Instant::now();
    while began.elapsed() < LONG {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        last = differences(scene, parts);
        if last.is_none() {
            return;
        }
    }
    panic!("{last:?}\n{}", running.stderr());
}

/// How often each table was copied.
fn copies(scene: &Scene, parts: &[Part]) -> BTreeMap<&'static str, usize> {
    let count = |name: &str| {
        let all = deltalog::commits(&scene.table(&format!("public.{name}")));
        let is_copy = |c: &&deltalog::Commit| {
            c.actions.iter().any(|a| a["commitInfo"]["operation"].as_str() == Some("OVERWRITE"))
        };
        all.iter().filter(is_copy).count()
    };
    parts.iter().map(|p| (p.name, count(p.name))).collect()
}

/// The publication of `filters`, and what it holds.
const FILTERED: [Part; 5] = [
    part("orders", "id, tenant, v, length(big)", "tenant < 3"),
    part("keyed", "tenant, id, v", "tenant <> 2 and id < 1000"),
    part("part", "id, v", "id % 3 = 0"),
    part("cols", "id, v", "id > 10"),
    part("bare", "v", "v % 2 = 0"),
];

const MAKE_FILTERED: &str = "drop publication strandline_pub;
    create table orders (id int primary key, tenant int, big text, v int); alter table orders replica identity full;
    alter table orders alter big set storage external;
    create table keyed (tenant int, id int, v text, primary key (tenant, id));
    create table part (id int primary key, v int) partition by range (id);
    create table part_1 partition of part for values from (0) to (100);
    create table part_2 (v int, id int primary key); alter table part attach partition part_2 for values from (100) to (900);
    create table cols (id int primary key, secret text, v int);
    create table bare (v int, w text);
    insert into orders select i, nullif(i % 5, 0), repeat('x', 3000), 0 from generate_series(1, 300) i;
    insert into keyed select i % 4, i, 'first' from generate_series(1, 100) i;
    insert into part select i, i from generate_series(1, 300) i;
    insert into cols select i, 'secret', i from generate_series(1, 100) i;
    insert into bare select i, 'w' from generate_series(1, 20) i;
    create publication strandline_pub for table orders where (tenant < 3), keyed where (tenant <> 2 and id < 1000),
      part where (id % 3 = 0), cols (id, v) where (id > 10) with (publish_via_partition_root = true);
    create publication strandline_pub_insert for table bare (v) where (v % 2 = 0)
      with (publish = 'insert, truncate', publish_via_partition_root = true)";

/// In and out, by updates of the filter's column and of the key, and what is of no concern.
const MOVES: &str = "update orders set tenant = coalesce(tenant, 0) + 1 where id % 3 = 0;
    update orders set tenant = null where id % 7 = 0; update orders set tenant = 2 where id % 11 = 0;
    update orders set v = v + 1; delete from orders where id % 13 = 0;
    insert into orders select max(id) + 1, 1, 'in', 1 from orders; insert into orders select max(id) + 1, 9, 'out', 1 from orders;
    begin; update keyed set tenant = (tenant + 1) % 4 where id % 2 = 0; update keyed set v = v || '.'; commit;
    update keyed set id = id + 1000 where id % 9 = 0; delete from keyed where id % 10 = 3;
    update part set id = id + 1 where id % 4 = 0 and id + 1 not in (select id from part);
    update part set v = v + 1 where id % 2 = 0; update part set id = 899 - id where id < 3; delete from part where id % 5 = 0;
    update cols set v = v + 1, secret = 'more'; update cols set id = id + 200 where id < 5; insert into bare values (101), (102);";

/// Rows that pass the filter, by copy and by stream; rows that begin to pass and no longer do.
fn filtered(major: u32) -> Scene {
    let mut scene = Scene::on(&format!("published-filter-{major}"), major);
    scene.sql().exec(MAKE_FILTERED);
    scene.config.more = "snapshot: {chunk_rows: 50, workers: 2}\n".into();
    scene.drain();
    assert_same(&mut scene, &FILTERED);
    scene.sql().exec(MOVES);
    let said = scene.drain().stderr;
    assert!(!said.contains("\"table copied\""), "nothing was copied again: {said}");
    assert_same(&mut scene, &FILTERED);
    scene
}

/// Another filter while it is down, and its table is copied again where that was asked for; the others are not.
fn changed_while_down(scene: &mut Scene) {
    scene.config.source = "  on_position_lost: resync\n".into();
    scene.sql().exec(&redone("v > 0 and tenant < 3"));
    scene.sql().exec("update orders set v = 0 where id % 2 = 0; update orders set v = 1 where id % 4 = 0");
    let said = scene.drain().stderr;
    let copied: Vec<&str> = said.lines().filter(|line| line.contains("\"table copied\"")).collect();
    assert!(matches!(copied[..], [one] if one.contains("public.orders")), "{copied:?}");
    assert_same(scene, &[part("orders", "id, tenant, v, length(big)", "v > 0 and tenant < 3")]);
    assert_same(scene, &FILTERED[1..]);
}

/// Put right where they are and copied anew, while rows move; and another filter: what passed before it may be in the
/// target, so the table stops and the others go on.
fn while_it_runs(scene: &mut Scene) {
    let mut sql = scene.sql();
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    until(LONG, "it holds the slot", || sql.value(ACTIVE) == "1");
    for arguments in [["public.keyed", "--mode", "incremental"], ["public.orders", "--mode", "swap"]] {
        sql.exec("update keyed set tenant = (tenant + 1) % 4 where id % 2 = 1; update orders set tenant = 1 where id % 17 = 0");
        let resync = [&["resync", "-c", &config, "--yes"], &arguments[..]].concat();
        scene.start(&resync).wait(LONG).expect_code(0);
        until_same(scene, &mut running, &FILTERED);
    }
    sql.exec(&redone("tenant < 2"));
    sql.exec("update orders set tenant = 2 where id % 2 = 0; update keyed set v = v || '+'");
    until(LONG, "the table stops", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stderr().contains("PG025")
    });
    until_same(scene, &mut running, &FILTERED[1..]);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.start(&["resync", "-c", &config, "--yes", "public.orders"]).wait(LONG).expect_code(0);
    assert_same(scene, &[part("orders", "id, tenant, v, length(big)", "tenant < 2")]);
}

/// A row that enters by its key without a large value, which the log of the key alone does not hold: never null.
fn enters_without_a_large_value(scene: &mut Scene) {
    scene.sql().exec(
        "alter table keyed alter v set storage external; update keyed set v = repeat('y', 4000) where id = 1;
         update keyed set tenant = 2 where id = 1",
    );
    scene.drain();
    scene.sql().exec("update keyed set tenant = 1 where id = 1");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("PG023");
    let config = scene.write_config();
    scene.start(&["resync", "-c", &config, "--yes", "public.keyed"]).wait(LONG).expect_code(0);
    assert_same(scene, &FILTERED[1..]);
}

/// The same publication with another filter of one table.
fn redone(filter: &str) -> String {
    format!(
        "alter publication strandline_pub set table orders where ({filter}), keyed where (tenant <> 2 and id < 1000), \
         part where (id % 3 = 0), cols (id, v) where (id > 10)"
    )
}

#[test]
fn rows_that_pass_the_filter_are_there_and_no_others() {
    if !has(15, "a row filter") {
        return;
    }
    let mut scene = filtered(NEWEST);
    let config = scene.write_config();
    let doctor = scene.start(&["doctor", "-c", &config]).wait(LONG);
    assert!(doctor.stdout.contains("of 5 of them the rows that pass a row filter"), "{}", doctor.stdout);
    let compare = ["verify", "-c", &config, "public.orders", "public.keyed", "public.part", "public.cols"];
    scene.start(&compare).wait(LONG).expect_code(0);
    while_it_runs(&mut scene);
    changed_while_down(&mut scene);
    enters_without_a_large_value(&mut scene);
}

#[test]
fn rows_that_pass_the_filter_are_there_and_no_others_on_the_oldest() {
    if has(15, "a row filter") {
        changed_while_down(&mut filtered(OLDEST));
    }
}

/// A column that was generated, and not published, has values in every row when it becomes an ordinary one.
#[test]
fn a_column_that_is_generated_no_more_comes_with_its_values() {
    let mut scene = Scene::on("published-expression", OLDEST);
    scene.sql().exec(
        "create table t (id int primary key, a int, g int generated always as (a * 2) stored);
         create table u (id int primary key, g int generated always as (id * 2) stored, a int);
         insert into t select i, i from generate_series(1, 50) i; insert into u (id) select generate_series(1, 50)",
    );
    scene.drain();
    assert_same(&mut scene, &[part("t", "id, a", "true"), part("u", "id, a", "true")]);
    let mut running = scene.start_run(&[]);
    let whole = [part("t", "id, a, g", "true"), part("u", "id, a, g", "true")];
    scene.sql().exec("alter table u alter g drop expression; insert into u values (51, 7)");
    until_same(&mut scene, &mut running, &whole[1..]);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.sql().exec("insert into t values (51, 1); alter table t alter g drop expression; insert into t values (52, 7, 7)");
    scene.drain();
    assert_same(&mut scene, &whole);
}

/// Generated columns that are published: by copy and by stream the same, and through every change of what they are.
#[test]
fn generated_columns_travel_where_they_are_published() {
    if !has(18, "publish_generated_columns") {
        return;
    }
    let mut scene = Scene::new("published-generated");
    let mut sql = scene.sql();
    sql.exec(
        "alter publication strandline_pub set (publish_generated_columns = stored);
         create table t (id int primary key, a int, s int generated always as (a * 2) stored, v int generated always as (a * 3),
           big text generated always as (repeat(a::text, 2000)) stored);
         alter table t alter big set storage external;
         create table keyed (a int, k int generated always as (a + 1) stored primary key, v text);
         create table whole (id int primary key, s int generated always as (id * 2) stored, v text);
         alter table whole replica identity full;
         create table part (id int primary key, a int, s int generated always as (a + 1) stored) partition by range (id);
         create table part_1 partition of part for values from (0) to (50);
         create table part_2 (s int generated always as (a + 1) stored, a int, id int not null);
         alter table part attach partition part_2 for values from (50) to (900);
         insert into t select i, i from generate_series(1, 100) i; insert into keyed (a, v) select i, 'x' from generate_series(1, 100) i;
         insert into whole (id, v) select i, 'x' from generate_series(1, 100) i; insert into part select i, i from generate_series(1, 100) i",
    );
    let parts = [
        part("t", "id, a, s, big", "true"),
        part("keyed", "a, k, v", "true"),
        part("whole", "id, s, v", "true"),
        part("part", "id, a, s", "true"),
    ];
    let changes = "insert into t select max(id) + 1, 7 from t; update t set a = a + 1 where id % 3 = 0; update t set id = id + 1000 where id = 5;
         delete from t where id % 17 = 0; update keyed set a = a + 500 where a % 3 = 0; update keyed set v = v || '.'; delete from keyed where a % 7 = 0;
         update whole set id = id + 1000 where id % 5 = 0; update whole set v = v || '.'; delete from whole where id % 9 = 0;
         update part set a = a + 1; update part set id = id + 100 where id % 8 = 0; delete from part where id % 11 = 0;";
    scene.drain();
    assert_same(&mut scene, &parts);
    sql.exec(changes);
    scene.drain();
    assert_same(&mut scene, &parts);
    sql.exec(changes);
    scene.drain();
    assert_same(&mut scene, &parts);
    assert!(copies(&scene, &parts).values().all(|n| *n == 1), "{:?}", copies(&scene, &parts));
    let config = scene.write_config();
    scene.start(&["verify", "-c", &config]).wait(LONG).expect_code(0);
    what_is_generated_changes(&mut scene);
    assert_same(&mut scene, &parts);
}

/// Expressions, new columns, columns that are generated no more: twice while it is down, then while it runs.
fn what_is_generated_changes(scene: &mut Scene) {
    let mut sql = scene.sql();
    let (with_n, without) = ("id, a, s, big, n", "id, a, s, big");
    let steps = [
        ("alter table t alter s set expression as (a * 5)", without),
        ("alter table t add n int generated always as (id + 1) stored", with_n),
        ("alter table part alter s set expression as (a + 100)", with_n),
        ("alter table t alter n drop expression", with_n),
        ("alter table t drop n", without),
    ];
    let mut running: Option<Strandline> = None;
    for (round, (statement, columns)) in steps.into_iter().enumerate() {
        let now = [part("t", columns, "true"), part("part", "id, a, s", "true")];
        let before = copies(scene, &now);
        if round == 2 {
            running = Some(scene.start_run(&[]));
            until(LONG, "it holds the slot", || sql.value(ACTIVE) == "1");
        }
        sql.exec(&format!(
            "update t set a = a + 1 where id % 2 = 0; {statement}; update t set a = a + 1 where id % 3 = 0"
        ));
        match &mut running {
            Some(running) => until_same(scene, running, &now),
            None => {
                scene.drain();
                assert_same(scene, &now);
                assert_ne!(copies(scene, &now), before, "copied after {statement}");
            }
        }
    }
    let config = scene.write_config();
    let resync = ["resync", "-c", &config, "--yes", "--mode", "incremental", "public.t"];
    scene.start(&resync).wait(LONG).expect_code(0);
    let running = running.expect("it runs");
    running.terminate();
    running.wait(LONG).expect_code(0);
}
