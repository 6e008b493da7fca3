//! Odd names, odd encodings, rows and partitions beyond the usual: exact, or stopped with a code.

use crate::harness::sql::Sql;
use crate::harness::{LONG, Scene, deltalog, until};
use std::path::PathBuf;
use std::time::Instant;

/// As the table's directory is called: what a path must not hold stands as `~` and its number.
pub(crate) fn path_of(scene: &Scene, table: &str) -> PathBuf {
    let mut name = String::new();
    for c in table.chars() {
        match c {
            '/' | '\\' | '%' | '~' | ':' | '?' | '*' | '"' | '<' | '>' | '|' | '#' | '\n' => {
                let mut bytes = [0; 4];
                c.encode_utf8(&mut bytes).bytes().for_each(|byte| name.push_str(&format!("~{byte:02X}")));
            }
            c => name.push(c),
        }
    }
    scene.dir().join("lake/public").join(if table == ".." { "~2E~2E".to_owned() } else { name })
}

/// Names that are statements, paths, keywords, as long as can be, equal but for their ends or their case: nothing is
/// run, nothing is written beside the lake, no table takes another's place.
#[test]
fn names_of_every_kind() {
    let mut scene = Scene::new("odd-names");
    let (long_a, long_b) = (format!("{}a", "x".repeat(62)), format!("{}b", "x".repeat(62)));
    let names = [
        "\"; drop table victim; --",
        "'; select 1; --",
        "../../etc/x",
        "..",
        "dots.in.it",
        " space ",
        "Ünï \"quoted\"",
        "select",
        "Case",
        "case",
        "back`tick",
        "per%cent",
        "til~de",
        "line\nbreak",
        "{{role}}",
        &long_a,
        &long_b,
    ];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut sql = scene.sql();
    sql.exec("drop publication strandline_pub; create table victim (id int primary key); insert into victim values (1)");
    sql.exec("grant create on database shop to strandline");
    for (n, name) in names.iter().enumerate() {
        let table = quoted(name);
        sql.exec(&format!(
            "create table {table} (\"select\" int primary key, \"Ünï\" text, \"quote\"\"d\" text, \"back`tick\" int);
             alter table {table} owner to strandline; insert into {table} values ({n}, 'copied', $$it's$$, 1)"
        ));
    }
    sql.exec("alter table victim owner to strandline");
    scene.drain();
    for (n, name) in names.iter().enumerate() {
        let table = quoted(name);
        sql.exec(&format!("insert into {table} values (1000 + {n}, 'streamed', null, 2); update {table} set \"back`tick\" = 3 where \"select\" = {n}"));
    }
    scene.drain();
    for (n, name) in names.iter().enumerate() {
        let path = path_of(&scene, name);
        let rows = scene.readers().sql(
            &path,
            None,
            "select \"select\", \"Ünï\", \"quote\"\"d\", \"back`tick\" from t order by 1",
        );
        let text = |s: &str| Some(s.to_owned());
        let (first, second) = (Some(n.to_string()), Some((1000 + n).to_string()));
        assert_eq!(
            rows,
            [
                vec![first, text("copied"), text("it's"), text("3")],
                vec![second, text("streamed"), None, text("2")]
            ],
            "{name}"
        );
    }
    assert_eq!(sql.value("select count(*) from victim"), "1", "nothing was run");
    let beside: Vec<_> = std::fs::read_dir(scene.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name == "etc"), "something was written beside the lake: {beside:?}");
    let config = scene.write_config();
    scene.start(&["teardown", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    assert_eq!(scene.sql().value("select count(*) from pg_publication"), "0");
}

/// Columns that Delta cannot tell apart, or that none of us can send: the table stops with a code, the others go on.
#[test]
fn columns_that_cannot_be_told_apart_stop_their_table() {
    let mut scene = Scene::new("odd-columns");
    scene.sql().exec(
        "create table twice (\"Id\" int primary key, id int, \"ID\" int); insert into twice values (1, 2, 3);
         create table nothing (); create table plain (id int primary key, v text); insert into plain values (1, 'x')",
    );
    let outcome = scene.run(&["--until-caught-up"]);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("TG019") && outcome.stderr.contains("PG026"), "{}", outcome.stderr);
    scene.assert_equal(&["public.plain"]);
}

/// Databases that are not UTF-8: the server converts where it can; where it cannot tell, text that is no UTF-8 stops
/// its table before another commit.
#[test]
fn databases_in_other_encodings() {
    for (encoding, stops) in [("LATIN1", false), ("EUC_JP", false), ("SQL_ASCII", true)] {
        let mut scene = Scene::new("odd-encoding");
        let mut admin = scene.sql();
        admin.exec(&format!(
            "create database odd encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
        ));
        let mut sql = Sql::connect(&scene.pg.url("postgres", "odd")).expect("the database");
        sql.exec(
            "create publication strandline_pub for all tables with (publish_via_partition_root = true); create table t (id int primary key, v text)",
        );
        let text = if encoding == "EUC_JP" {
            "convert_from('\\xa4a2', 'EUC_JP')"
        } else {
            "convert_from('\\xe4f6fc', 'LATIN1')"
        };
        let text = if stops { "'plain'" } else { text };
        sql.exec(&format!("insert into t select i, {text} || i from generate_series(1, 50) i"));
        scene.config.url = scene.pg.url("strandline", "odd");
        scene.drain();
        let position = deltalog::position(&scene.table("public.t"), "shop");
        if stops {
            sql.exec("insert into t values (100, 'good'); insert into t values (101, E'\\xe4')");
            scene.run(&["--until-caught-up"]).expect_code(1).expect_error("PG021");
            assert!(deltalog::position(&scene.table("public.t"), "shop") >= position);
            continue;
        }
        sql.exec(&format!("insert into t select i, {text} || i from generate_series(51, 100) i"));
        scene.drain();
        let expected = if encoding == "EUC_JP" { "あ" } else { "äöü" };
        let table = scene.table("public.t");
        let rows = scene.readers().sql(
            &table,
            None,
            &format!("select count(*) from t where v = '{expected}' || id"),
        );
        assert_eq!(rows[0][0].as_deref(), Some("100"), "{encoding}");
    }
}

/// A row of `LARGE_ROW_MB` (100) is copied and streamed exactly, in memory that is bounded by the row: three of it beside
/// `limits.memory` and the program itself. (The batch, and twice in the encoder: its values and its page.)
#[test]
fn a_large_row() {
    let megabytes: u64 = std::env::var("LARGE_ROW_MB").map_or(100, |n| n.parse().expect("megabytes"));
    let mut scene = Scene::new("odd-large-row");
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    let row =
        |id: u32| format!("insert into t select {id}, repeat(md5('{id}'), {} / 32)", megabytes * 1_000_000);
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v text); alter table t alter v set storage external");
    sql.exec(&row(1));
    sql.exec("insert into t select i, 'small' from generate_series(100, 200) i");
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.t");
    until(LONG, "the copy", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop").is_some()
    });
    sql.exec(&row(2));
    sql.exec("insert into t values (3, 'after'); update t set id = 4 where id = 2");
    until(LONG, "the rows arrive", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        let count = "select count(*) from t where id in (3, 4)";
        scene.readers().try_sql(&table, None, count).is_ok_and(|rows| rows[0][0].as_deref() == Some("2"))
    });
    let peak = running.peak_kib() * 1024;
    println!("a row of {megabytes} MB: peak {} MB", peak / 1_000_000);
    running.terminate();
    running.wait(LONG).expect_code(0);
    let source = scene.sql().rows("select id, md5(v), length(v) from t order by 1");
    let target = scene.readers().sql(&table, None, "select id, md5(v), length(v) from t order by 1");
    assert_eq!(source, target);
    let program = 64 << 20;
    let bound = (64 << 20) + program + 3 * megabytes * 1_000_000;
    assert!(peak < bound, "peak {} MB", peak / 1_000_000);
}

/// `PARTITIONS` (300) partitions are one table, with the server's default room for locks. A statement that names the
/// whole table locks every partition and its index, of which there is no room for ten thousand: what the test does by
/// itself, it does for some hundred of them at a time.
#[test]
fn many_partitions() {
    let count: u32 = std::env::var("PARTITIONS").map_or(300, |n| n.parse().expect("a number"));
    let mut scene = Scene::new("odd-partitions");
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v text) partition by list (id)");
    let parts = || (0..count).step_by(500).map(|from| (from, (from + 500).min(count)));
    for (from, to) in parts() {
        sql.exec(&format!(
            "do $$ begin for i in {from} .. {to} - 1 loop execute format('create table t_%s partition of t for values in (%s)', i, i);
             end loop; end $$"
        ));
        sql.exec(&format!("insert into t select i, 'copied' from generate_series({from}, {to} - 1) i"));
    }
    let began = Instant::now();
    scene.drain();
    println!("{count} partitions: copied after {:?}", began.elapsed());
    for (from, to) in parts() {
        let these = format!("id >= {from} and id < {to}");
        sql.exec(&format!(
            "update t set v = 'streamed' where {these} and id % 10 = 0; delete from t where {these} and id % 7 = 0"
        ));
    }
    sql.exec(&format!("insert into t values (14 % {count}, 'again')"));
    scene.drain();
    println!("{count} partitions: equal after {:?}", began.elapsed());
    let rows = |(from, to)| format!("select id, v from t where id >= {from} and id < {to} order by id");
    let source: Vec<_> = parts().flat_map(|part| sql.rows(&rows(part))).collect();
    let table = scene.table("public.t");
    let target = scene.readers().sql(&table, None, "select id, v from t order by id");
    assert_eq!(source, target);
    assert_eq!(u32::try_from(source.len()), Ok(count - count.div_ceil(7) + 1));
}
