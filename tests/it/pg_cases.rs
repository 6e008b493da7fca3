//! Cases of logical replication that broke others (`docs/TORTURE.md` names them), each against a real server, read
//! by a reader that is not ours.

use crate::harness::process::Strandline;
use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, deltalog, until};

#[track_caller]
fn live(scene: &Scene, table: &str) -> Strandline {
    let mut running = scene.start_run(&[]);
    let path = scene.table(table);
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&path, "shop").is_some()
    });
    running
}

#[track_caller]
fn equal_at_last(scene: &mut Scene, running: &mut Strandline, tables: &[&str]) {
    until(LONG, &format!("{tables:?} are equal"), || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        tables.iter().all(|t| {
            scene.table(t).join("_delta_log").exists() && scene.difference(t, Engine::DuckDb).is_none()
        })
    });
}

/// Keys that move, swap and come back, in one transaction and over several; keys of several columns; savepoints by
/// the hundred; truncation of several tables between rows; empty transactions.
#[test]
fn keys_savepoints_and_truncations() {
    let mut scene = Scene::new("cases-keys");
    scene.sql().exec(
        "create table a (id int primary key, v text); create table pair (x int, y text, v text, primary key (y, x));
         create table parent (id int primary key, v text);
         create table child (id int primary key, p int references parent on delete cascade);
         create type mood as enum ('sad', 'ok', 'happy'); create domain label as text; create domain labels as label;
         create table moods (m mood, l labels, v text, primary key (m, l));
         create table renumbered (id int primary key deferrable initially immediate, v text);
         alter table renumbered replica identity full;
         insert into a select i, 'a' || i from generate_series(1, 200) i;
         insert into moods values ('sad', 'a', 'x'), ('ok', 'b', 'y'), ('ok', 'c', 'z');
         insert into pair select i, 'k' || i, 'v' from generate_series(1, 100) i;
         insert into renumbered select i, 'r' || i from generate_series(1, 50) i;
         insert into parent select i, 'p' from generate_series(1, 50) i; insert into child select i, i from generate_series(1, 50) i",
    );
    const TABLES: &[&str] = &["public.a", "public.pair", "public.parent", "public.child", "public.moods"];
    scene.drain();
    scene.assert_equal(TABLES);
    let mut nested = "begin; ".to_owned();
    for n in 0..100 {
        nested += &format!("savepoint s{n}; update a set v = 'deep {n}' where id = {}; ", n % 20 + 1);
        if n % 3 == 2 {
            nested += &format!("rollback to s{}; ", n - 1);
        }
    }
    nested += "insert into a values (900, 'deep'); commit";
    let changes = [
        "begin; update a set id = -1 where id = 1; update a set id = 1 where id = 2; update a set id = 2 where id = -1; commit",
        "begin; update a set id = 1000 + id where id between 10 and 20; update a set id = id - 1000 where id > 1000; commit",
        "update a set id = id + 5000 where id between 30 and 40",
        "begin; delete from a where id = 50; insert into a values (50, 'again'); update a set v = 'and again' where id = 50;
         delete from a where id = 50; insert into a values (50, 'last'); commit",
        "alter type mood add value if not exists 'new' before 'ok'; update moods set m = 'happy' where m = 'sad'; delete from moods where l = 'b'",
        "insert into moods values ('new', 'n', 'n') on conflict do nothing; update moods set m = 'new' where l = 'c'; delete from moods where m = 'happy'",
        "update pair set x = x + 1000 where x % 2 = 0; update pair set y = y || '!' where x % 3 = 0; delete from pair where x % 7 = 0",
        "begin; insert into a values (700, 'before'); truncate a; insert into a values (701, 'after'); commit",
        "begin; savepoint s; truncate parent, child; rollback to s; insert into parent values (60, 'kept'); commit",
        "begin; insert into child values (99, 60); truncate parent, child restart identity cascade; insert into parent values (1, 'new');
         insert into child values (1, 1); commit",
        "insert into parent values (2, 'x'); insert into child values (2, 2); delete from parent where id = 2",
        "begin; commit; begin; insert into a values (800, 'gone'); rollback",
        &nested,
    ];
    for change in changes {
        scene.sql().exec(change);
    }
    scene.drain();
    scene.assert_equal(TABLES);
    for change in changes {
        scene.sql().exec("truncate a; insert into a select i, 'a' || i from generate_series(1, 200) i");
        scene.drain();
        scene.sql().exec(change);
        scene.drain();
        scene.assert_equal(TABLES);
    }
    // A label keeps its old name in rows that are there: in a key that is noticed, before another commit.
    scene.sql().exec(
        "alter type mood rename value 'new' to 'newer'; update moods set v = 'after' where m = 'newer'",
    );
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("TG015");
    let config = scene.write_config();
    scene.start(&["resync", "public.moods", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.assert_equal(TABLES);
}

/// One target for a partitioned table: nested partitions, other orders of columns, rows that change partitions,
/// partitions with rows that are attached, that are detached, dropped, truncated.
#[test]
fn partitions_come_and_go() {
    let mut scene = Scene::new("cases-partitions");
    scene.sql().exec(
        "create table orders (id int, region text, v text, primary key (id, region)) partition by list (region);
         create table eu partition of orders for values in ('eu') partition by range (id);
         create table eu1 partition of eu for values from (0) to (100);
         create table eu2 (v text, id int not null, dropped int, region text not null);
         alter table eu2 drop dropped; alter table eu attach partition eu2 for values from (100) to (1000);
         create table us (v text, region text not null, id int not null); alter table orders attach partition us for values in ('us');
         create table other partition of orders default;
         insert into orders select i, (array['eu', 'us', 'jp'])[i % 3 + 1], 'x' from generate_series(1, 300) i",
    );
    let mut running = live(&scene, "public.orders");
    let mut sql = scene.sql();
    let logged = [
        "insert into orders select i, (array['eu', 'us', 'jp'])[i % 3 + 1], 'y' from generate_series(301, 400) i",
        "update orders set region = 'us' where id between 90 and 110 and region = 'eu'; update orders set id = id + 100 where region = 'eu' and id < 20",
        "update eu1 set v = 'by the leaf'; delete from us where id % 5 = 0",
        "create table fresh partition of orders for values in ('fresh'); insert into orders values (1, 'fresh', 'x')",
    ];
    for change in logged {
        sql.exec(change);
        equal_at_last(&mut scene, &mut running, &["public.orders"]);
    }
    assert!(!running.stderr().contains("it is copied"), "copied for nothing:\n{}", running.stderr());
    // In one transaction, and followed at once by a row that the log tells of.
    sql.exec(
        "create table late (id int not null, v text, region text not null); insert into late select i, 'late', 'late' from generate_series(1, 50) i;
         alter table orders attach partition late for values in ('late')",
    );
    equal_at_last(&mut scene, &mut running, &["public.orders"]);
    running.terminate();
    running.wait(LONG).expect_code(0);
    for change in [
        "insert into orders values (5000, 'late', 'after the attach'); update orders set v = 'moved in' where region = 'late' and id < 10",
        "truncate other; insert into orders values (6000, 'jp', 'after')",
        "create table older (like orders); insert into older values (1, 'old', 'old')",
        "alter table orders attach partition older for values in ('old')",
        "alter table orders detach partition us; insert into orders values (5001, 'jp', 'z')",
        "drop table late",
    ] {
        sql.exec(change);
        scene.drain();
        scene.assert_equal(&["public.orders"]);
    }
}

/// Two tables change places under one name; a key's column changes its type; a key's index goes; a table without log
/// gets one.
#[test]
fn tables_that_are_swapped_and_keys_that_change() {
    let mut scene = Scene::new("cases-swap");
    scene.sql().exec(
        "create table t (id int primary key, v text); insert into t select i, 'blue' from generate_series(1, 100) i;
         create table k (id int primary key, v text); insert into k select i, 'k' from generate_series(1, 100) i;
         create table by_index (id int not null, v text); create unique index by_index_id on by_index (id);
         alter table by_index replica identity using index by_index_id;
         insert into by_index select i, 'i' from generate_series(1, 100) i;
         create unlogged table quick (id int primary key, v text); insert into quick values (1, 'no log')",
    );
    scene.config.sink = "  schema_changes: {other: resync}\n".into();
    let mut running = live(&scene, "public.t");
    equal_at_last(&mut scene, &mut running, &["public.t", "public.k", "public.by_index"]);
    let mut sql = scene.sql();
    sql.exec(
        "create table t_new (id int primary key, v text); insert into t_new select i, 'green' from generate_series(1, 120) i;
         begin; alter table t rename to t_old; alter table t_new rename to t; insert into t values (500, 'after'); commit;
         insert into t values (501, 'later'); insert into t_old values (777, 'old')",
    );
    equal_at_last(&mut scene, &mut running, &["public.t", "public.t_old"]);
    sql.exec("alter table k alter id type bigint; insert into k values (5000000000, 'wide'); update k set v = 'w' where id < 10");
    equal_at_last(&mut scene, &mut running, &["public.k"]);
    sql.exec("alter table k drop constraint k_pkey, add primary key (id, v); delete from k where id > 90; insert into k values (7, 'second')");
    equal_at_last(&mut scene, &mut running, &["public.k"]);
    sql.exec("alter table quick set logged; insert into quick values (2, 'log')");
    equal_at_last(&mut scene, &mut running, &["public.quick"]);
    // The application's own UPDATE fails now: that is what the server does, and only who owns the table can mend it.
    sql.exec("drop index by_index_id");
    assert!(sql.try_exec("update by_index set v = 'x'").is_err());
    sql.exec("insert into by_index values (1000, 'more')");
    until(LONG, "the table has stopped, and says why", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stderr().contains("\"code\":\"PG0") && running.stderr().contains("public.by_index")
    });
    sql.exec("insert into t values (600, 'others go on')");
    equal_at_last(&mut scene, &mut running, &["public.t"]);
}

/// A writer that is open while its table joins the publication is in the copy or in the stream.
#[test]
fn an_open_writer_is_not_lost_when_its_table_joins() {
    let mut scene = Scene::new("cases-open-writer");
    scene.sql().exec("drop publication strandline_pub; grant create on database shop to strandline");
    scene.sql().exec("create table first (id int primary key); alter table first owner to strandline");
    let mut running = live(&scene, "public.first");
    let mut writer = scene.sql();
    scene.sql().exec("create table late (id int primary key); alter table late owner to strandline");
    writer.exec("begin; insert into late values (1)");
    let mut sql = scene.sql();
    until(LONG, "the table is in the publication", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        sql.value("select count(*) from pg_publication_tables where tablename = 'late'") == "1"
    });
    sql.exec("insert into late values (2)");
    writer.exec("insert into late values (3); commit");
    sql.exec("insert into late values (4)");
    equal_at_last(&mut scene, &mut running, &["public.late", "public.first"]);
}

/// Logical messages of the application, with and without a transaction, large ones, and of our own prefix: they change
/// nothing, and a restart right after one loses nothing.
#[test]
fn messages_of_the_application_change_nothing() {
    let mut scene = Scene::new("cases-messages");
    scene.sql().exec("create table t (id int primary key, v text); insert into t values (1, 'x')");
    scene.drain();
    for (n, message) in [
        "select pg_logical_emit_message(true, 'app', 'in a transaction')",
        "select pg_logical_emit_message(false, 'app', 'without one')",
        "select pg_logical_emit_message(true, 'strandline', 'as if it were ours')",
        "select pg_logical_emit_message(false, '', repeat('x', 3000000))",
        "begin; insert into t values (100, 'a'); select pg_logical_emit_message(true, 'app', 'between'); insert into t values (101, 'b'); commit",
        "begin; insert into t values (102, 'gone'); select pg_logical_emit_message(false, 'app', 'of what is rolled back'); rollback",
    ]
    .into_iter()
    .enumerate()
    {
        scene.sql().exec(message);
        scene.drain();
        scene.sql().exec(&format!("insert into t values ({}, 'after')", 200 + n));
    }
    scene.drain();
    scene.assert_equal(&["public.t"]);
}

/// Changes of tables that are not published move the slot; a publication that is made again is named, and where that
/// was asked for it is mended.
#[test]
fn a_publication_that_is_made_again() {
    let mut scene = Scene::new("cases-publication");
    scene.sql().exec(
        "drop publication strandline_pub; create table t (id int primary key, v text); insert into t values (1, 'x');
         create table hidden (id int primary key, v text);
         create publication strandline_pub for table t with (publish_via_partition_root = true)",
    );
    scene.config.include = vec!["public.t".into()];
    let mut running = live(&scene, "public.t");
    let mut sql = scene.sql();
    sql.exec("insert into hidden select i, repeat('h', 200) from generate_series(1, 20000) i");
    let end = sql.value("select pg_current_wal_lsn()");
    until(LONG, "the slot has passed them", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        sql.value(&format!("select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = 'strandline_shop'")) == "t"
    });
    running.terminate();
    running.wait(LONG).expect_code(0);
    sql.exec("insert into t values (2, 'before')");
    sql.exec(
        "drop publication strandline_pub; insert into t values (3, 'in between');
         create publication strandline_pub for table t with (publish_via_partition_root = true); insert into t values (4, 'after')",
    );
    scene.config.source = "  on_position_lost: resync\n".into();
    scene.drain();
    scene.assert_equal(&["public.t"]);
    scene.sql().exec("insert into t values (5, 'later')");
    scene.drain();
    scene.assert_equal(&["public.t"]);
}

/// A table that is taken out of the publication and put back has missed what happened meanwhile.
#[test]
fn a_table_that_left_the_publication_and_came_back() {
    let mut scene = Scene::new("cases-left");
    scene.sql().exec(
        "drop publication strandline_pub; create table t (id int primary key, v text); insert into t values (1, 'x');
         create table u (id int primary key, v text); insert into u values (1, 'x');
         create publication strandline_pub for table t, u with (publish_via_partition_root = true)",
    );
    scene.drain();
    scene.sql().exec("alter publication strandline_pub drop table t; insert into t values (2, 'missed')");
    scene.sql().exec("alter publication strandline_pub add table t; insert into t values (3, 'seen'); insert into u values (2, 'y')");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(1).expect_error("PG025");
    scene.assert_equal(&["public.u"]);
    let config = scene.write_config();
    scene.start(&["resync", "public.t", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.t", "public.u"]);
    // The same while it runs, between two looks at the catalogue.
    let mut running = live(&scene, "public.t");
    let mut sql = scene.sql();
    sql.exec("insert into t values (10, 'live')");
    equal_at_last(&mut scene, &mut running, &["public.t"]);
    sql.exec("alter publication strandline_pub drop table t; insert into t values (11, 'missed')");
    sql.exec("alter publication strandline_pub add table t; insert into t values (12, 'seen')");
    until(LONG, "the table has stopped", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stderr().contains("\"code\":\"PG025\"")
    });
    // It is on record, and holds neither the others nor the slot.
    sql.exec("insert into t values (13, 'not taken'); insert into u values (13, 'taken')");
    let end = sql.value("select pg_current_wal_lsn()");
    equal_at_last(&mut scene, &mut running, &["public.u"]);
    until(LONG, "the slot moves on", || {
        sql.value(&format!("select confirmed_flush_lsn >= '{end}' from pg_replication_slots where slot_name = 'strandline_shop'")) == "t"
    });
    running.kill9();
    let config = scene.write_config();
    let status = scene.start(&["status", "-o", "json", "-c", &config]).wait(LONG);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).expect("a document");
    let of = |name: &str| {
        status["tables"].as_array().unwrap().iter().find(|t| t["name"] == name).cloned().unwrap()
    };
    assert_eq!(
        (of("public.t")["state"].as_str(), of("public.t")["code"].as_str()),
        (Some("stopped"), Some("PG025"))
    );
    assert_eq!(of("public.u")["code"], serde_json::Value::Null);
    scene.start(&["resync", "public.t", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.assert_equal(&["public.t", "public.u"]);
}
