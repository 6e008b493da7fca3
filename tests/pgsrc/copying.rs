//! Snapshots of tables.

use crate::common::{PATIENCE, Told, catalog, copy, sorted, sql, table};
use crate::server::Server;
use strandline::error::codes;
use strandline::event::Op;
use strandline::source::postgres::slot::{self, SlotKind};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_holds_exactly_the_snapshot() {
    let server = Server::start("");
    server.sql(
        "create table big(id int primary key, n numeric(12,2), t text, ts timestamptz);
         insert into big select i, i / 7.0, repeat('x', i % 300), '2024-01-01Z'::timestamptz + i * interval '1 s'
           from generate_series(1, 200000) i;
         create table empty(id int primary key, \"Odd \"\"col\" text);
         create table part(id int primary key, v text) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         create table part_2(junk int, v text, id int not null); alter table part_2 drop column junk;
         alter table part attach partition part_2 for values from (10) to (20);
         insert into part select i, 'v' || i from generate_series(0, 19) i;
         create table parent(id int primary key); create table child() inherits (parent);
         insert into parent values (1); insert into child values (2);",
    );
    let options = server.options();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let made = slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told();
    // After the snapshot: not in it.
    server.sql("insert into big values (0, 0, 'late', now()); delete from big where id = 5; insert into part values (-0 + 19 - 19 + 9 - 9, 'x') on conflict do nothing");
    for workers in [1, 3] {
        let sinks = copy(&options, &sql, &made.snapshot, table(&found, "big"), workers).await.told();
        assert_eq!(sinks.len(), workers, "big enough for all");
        let (mut ids, mut rows) = (0i64, 0usize);
        for batch in sinks.iter().flat_map(|s| &s.0) {
            assert!(batch.ops.iter().all(|op| *op == Op::Read) && batch.runs.is_empty());
            assert!(batch.len() <= 80_000, "bounded: {}", batch.len());
            let id = batch.after.column(0).as_any().downcast_ref::<arrow::array::Int32Array>().unwrap();
            ids += id.values().iter().map(|v| i64::from(*v)).sum::<i64>();
            rows += batch.len();
        }
        assert_eq!((rows, ids), (200_000, 200_000 * 200_001 / 2));
    }
    let empty = copy(&options, &sql, &made.snapshot, table(&found, "empty"), 2).await.told();
    assert_eq!(sorted(&empty), [] as [String; 0]);
    let part = copy(&options, &sql, &made.snapshot, table(&found, "part"), 2).await.told();
    let mut expected: Vec<String> = (0..20).map(|i| format!("r {i} v{i}")).collect();
    expected.sort();
    assert_eq!(sorted(&part), expected, "columns by name in every leaf");
    let parent = copy(&options, &sql, &made.snapshot, table(&found, "parent"), 2).await.told();
    assert_eq!(sorted(&parent), ["r 1"], "children by inheritance are tables of their own");
    made.release().await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changed_since_the_snapshot_is_not_copied() {
    let server = Server::start("");
    server.sql(
        "create table r(id int primary key, v int); insert into r values (1, 1);
         create table t(id int primary key); insert into t values (1);
         create table c(id int primary key, v int); create table d(id int primary key);
         create table p(id int primary key) partition by range (id); create table p_1 partition of p default;
         insert into p values (1);",
    );
    let options = server.options();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let made = slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told();
    server.sql(
        "alter table r alter v type bigint; alter table r alter v type int; truncate t;
         alter table c rename v to w; drop table d; truncate p;",
    );
    for (name, code) in [
        ("r", codes::PG022),
        ("t", codes::PG022),
        ("c", codes::PG022),
        ("d", codes::PG025),
        ("p", codes::PG022),
    ] {
        let error =
            copy(&options, &sql, &made.snapshot, table(&found, name), 2).await.map(|_| ()).unwrap_err();
        assert_eq!(error.code(), code, "{name}: {}", error.report());
    }
    let gone = copy(&options, &sql, "00000000-00000000-1", table(&found, "c"), 1).await.map(|_| ());
    assert!(gone.is_err(), "a snapshot that is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_on_a_leaf_the_root_is_read() {
    let server = Server::start("");
    server.sql(
        "create table part(id int primary key) partition by range (id);
         create table part_1 partition of part default; insert into part select generate_series(1, 100);
         create role cdc login replication; grant select on part to cdc;",
    );
    let options = server.options_of("cdc", "");
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let made = slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told();
    let sinks = copy(&options, &sql, &made.snapshot, table(&found, "part"), 2).await.told();
    assert_eq!(sorted(&sinks).len(), 100);
}
