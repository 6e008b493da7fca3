//! Readers that are not ours see the source's rows, in the newest version and in older ones.

use crate::harness::reader::Engine;
use crate::harness::{Scene, compare, deltalog};

#[test]
fn three_readers_read_the_same_rows() {
    let mut scene = Scene::new("readers");
    scene.sql().exec(
        "create table orders (id bigint primary key, status text, total numeric(12,2), placed timestamptz, due date);
         insert into orders select i, 'new', i / 7.0, now(), current_date + i % 100 from generate_series(1, 20000) i",
    );
    scene.drain();
    for round in 1..=5 {
        scene.sql().exec(&format!(
            "update orders set status = 'round {round}', total = total + 1 where id % 10 = {round};
             delete from orders where id % 97 = {round};
             update orders set id = id + 1000000 where id % 1009 = {round};
             insert into orders select 100000 * {round} + i, 'more', null, null, null from generate_series(1, 100) i"
        ));
        scene.drain();
    }
    let table = scene.table("public.orders");
    let with_vectors = deltalog::commits(&table)
        .iter()
        .flat_map(|commit| &commit.actions)
        .filter(|action| !action["add"]["deletionVector"].is_null())
        .count();
    assert!(with_vectors > 0, "no deletion vector: the test proves nothing");
    for engine in Engine::ALL {
        if let Some(found) = scene.difference("public.orders", engine) {
            panic!("{engine:?}: {found}");
        }
    }
    let last = deltalog::version(&table).unwrap();
    for version in (1..=last).rev().take(6) {
        let rows = |scene: &mut Scene, engine| {
            scene
                .readers()
                .try_rows(engine, &table, Some(version), None)
                .unwrap_or_else(|e| panic!("{engine:?}: {e}"))
        };
        let first = rows(&mut scene, Engine::DuckDb);
        for engine in [Engine::DeltaRs, Engine::Polars] {
            let other = rows(&mut scene, engine);
            if let Some(found) = compare::difference(first.clone(), other) {
                panic!("version {version}, DuckDB against {engine:?}: {found}");
            }
        }
    }
}

/// Readers skip files by statistics: a filter finds the same rows as a scan of everything.
#[test]
fn filters_find_what_is_there() {
    let mut scene = Scene::new("readers-filters");
    scene.sql().exec(
        "create table m (id bigint primary key, n numeric(38,10), t text, d date, f float8);
         insert into m select i, (i * 1.0000000001)::numeric(38,10), 'key ' || i, date '2000-01-01' + i, i / 3.0
                from generate_series(1, 5000) i;
         insert into m values (-1, 9999999999999999999999999999.9999999999, repeat('z', 200), '9999-12-31', 'NaN'),
                              (-2, -9999999999999999999999999999.9999999999, '', '0001-01-01', '-Infinity')",
    );
    scene.drain();
    scene.sql().exec("update m set t = t || '!' where id % 3 = 0");
    scene.drain();
    let table = scene.table("public.m");
    let conditions = [
        "n = 9999999999999999999999999999.9999999999",
        "n < -1",
        "n = 17.0000000017",
        "t = repeat('z', 200)",
        "t = ''",
        "t like 'key 300%'",
        "d = date '9999-12-31'",
        "d < date '1900-01-01'",
        "id = -2",
        "id between 4990 and 5010",
        "f = 'NaN'::float8",
        "f > 1600",
    ];
    for condition in conditions {
        let expected = scene.sql().value(&format!("select count(*) from m where {condition}"));
        let found = scene.readers().sql(&table, None, &format!("select count(*) from t where {condition}"));
        assert_eq!(found[0][0].as_deref(), Some(expected.as_str()), "{condition}");
    }
}

/// The README says which call refuses; if it reads one day, the README is to be changed.
#[test]
fn to_pyarrow_table_refuses_deletion_vectors() {
    let mut scene = Scene::new("readers-refuse");
    scene.sql().exec("create table t1 (id int primary key); insert into t1 select generate_series(1, 100)");
    scene.drain();
    scene.sql().exec("delete from t1 where id = 5");
    scene.drain();
    let table = scene.table("public.t1");
    let error = scene.readers().read_as_pyarrow(&table).unwrap_err();
    assert!(error.to_lowercase().contains("deletion"), "{error}");
}
