//! Copies from MySQL and MariaDB that are interrupted, as `resume` has them from PostgreSQL: `kill -9` between and within
//! chunks, while clients change rows and move keys, with keys that we compare and keys that only the server does. No
//! chunk is read again once it is committed, and the tables end equal.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::{Failed, MySql};
use crate::harness::random::Random;
use crate::harness::{LONG, deltalog, until};
use crate::mysql_workload::MyClients;
use serde_json::Value;
use std::time::Duration;

/// Rows of each table.
const ROWS: u64 = 16_000;
const CHUNK_ROWS: u64 = 2_000;
const TABLES: &[&str] = &["shop.by_number", "shop.by_text", "shop.by_pair", "shop.by_bytes"];

fn make(sql: &mut MySql) {
    for statement in [
        "set session cte_max_recursion_depth = 1000000",
        "create table n (i int primary key)",
        "create table by_number (id int unsigned primary key, n int not null, v varchar(60))",
        "create table by_text (name varchar(80) character set latin1 collate latin1_german1_ci primary key, n int, v text)",
        "create table by_pair (kind enum('z','a','m') not null, name varchar(40) not null, at datetime(3) not null, n int, \
         primary key (kind, name, at)) default charset utf8mb4",
        "create table by_bytes (id binary(16) primary key, n int, big text)",
    ] {
        if let Err(error) = sql.try_exec(statement) {
            assert!(error.number == Some(1193), "{error:?}\n  in: {statement}");
            sql.exec("set session max_recursive_iterations = 1000000");
        }
    }
    sql.exec(&format!(
        "insert into n with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS}) select i from n"
    ));
    for insert in [
        "by_number select i * 2, i, sha2(i, 224) from n",
        "by_text select concat(elt(1 + i % 4, 'Ä', 'a', 'ß', 'z'), sha2(i, 224)), i, 'v' from n",
        "by_pair select 1 + i % 3, concat(elt(1 + i % 3, 'é', 'E', '中'), i div 5), \
         '2024-01-01' + interval i second, i from n",
        "by_bytes select unhex(left(sha2(i, 256), 32)), i, repeat(sha2(i, 224), 20) from n",
    ] {
        sql.exec(&format!("insert into {insert}"));
    }
    sql.exec("drop table n");
}

fn step(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    let (a, b, n) = (random.between(1, ROWS), random.between(1, ROWS), random.between(0, 1_000_000));
    let change = match random.between(0, 11) {
        0 => format!("insert into by_number values ({}, {n}, 'new')", a * 2 + 1),
        1 => format!("delete from by_number where id between {a} and {a} + 2"),
        // From one chunk to another.
        2 => format!("update by_number set id = {} where id = {}", b * 2 + 1, a * 2),
        3 => format!("update by_number set n = {n} where id between {a} and {a} + 9"),
        4 => format!("update by_text set name = concat('Q', sha2('{n}', 224)) where n = {a}"),
        // The same key for the server, another one for us.
        5 => format!("update by_text set name = upper(name) where n between {a} and {a} + 5"),
        6 => format!("delete from by_text where n = {a}"),
        7 => format!("update by_pair set kind = 'm', name = concat('x', {n}) where n = {a}"),
        8 => format!("update by_pair set at = at + interval 1 day where n between {a} and {a} + 3"),
        9 => format!(
            "update by_bytes set id = unhex(left(sha2('x{n}', 256), 32)), n = {n} where id = unhex(left(sha2({a}, 256), 32))"
        ),
        _ => format!(
            "update by_bytes set big = repeat('{n}', 30) where id > unhex(left(sha2({a}, 256), 32)) limit 3"
        ),
    };
    sql.try_exec(&change)
}

/// The states after each commit of a chunk.
fn chunks(scene: &MyScene, table: &str) -> Vec<Vec<Value>> {
    let commits = deltalog::commits(&scene.table(table));
    let is_chunk = |commit: &&deltalog::Commit| {
        commit.actions.iter().any(|action| action["commitInfo"]["operation"] == "COPY CHUNK")
    };
    commits
        .iter()
        .filter(is_chunk)
        .map(|commit| copied(commit).expect("each chunk says what is copied"))
        .collect()
}

fn copied(commit: &deltalog::Commit) -> Option<Vec<Value>> {
    let state = state(commit)?;
    Some(state["copied"].as_array().cloned().unwrap_or_default())
}

fn state(commit: &deltalog::Commit) -> Option<Value> {
    commit.actions.iter().find_map(|action| {
        let text = action["metaData"]["configuration"]["strandline.state"].as_str()?;
        Some(serde_json::from_str(text).expect("a document"))
    })
}

/// Everything is copied; whether all of it is at one moment is another matter.
fn is_copied(scene: &MyScene) -> bool {
    TABLES.iter().all(|name| {
        let last = deltalog::commits(&scene.table(name)).iter().rev().find_map(state);
        last.is_some_and(|state| {
            let last = state["copied"].as_array().and_then(|c| c.last().cloned());
            state["first_live_version"].is_i64() || last.is_some_and(|last| last["below"].is_null())
        })
    })
}

#[test]
fn a_killed_copy_of_mysql_goes_on_where_it_was() {
    kills(Brand::MySql9, "my-resume");
}

#[test]
fn a_killed_copy_of_mariadb_goes_on_where_it_was() {
    kills(Brand::MariaDb118, "maria-resume");
}

fn kills(brand: Brand, test: &str) {
    let Some(mut scene) = MyScene::new(test, brand) else { return };
    let mut random = Random::from_env(test);
    scene.config.more = format!("snapshot: {{chunk_rows: {CHUNK_ROWS}, workers: 2}}\n");
    make(&mut scene.sql());
    let url = scene.server.url("admin", "shop");
    let clients = MyClients::start_with(2, &url, &mut random, Duration::from_millis(4), step);
    let (mut kills, mut in_copies) = (0, 0);
    loop {
        let mut running = scene.start_run(&[]);
        let wanted = usize::try_from(random.between(1, 5)).expect("a small number");
        until(LONG, "chunks, or the end of the copies", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            let log = running.stderr();
            log.matches("\"chunk copied\"").count() >= wanted || is_copied(&scene)
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 40)));
        let log = running.kill9();
        for wrong in ["RT001", "TG015", "\"level\":\"error\""] {
            assert!(!log.contains(wrong), "{wrong} in the log:\n{log}");
        }
        kills += 1;
        if is_copied(&scene) {
            break;
        }
        in_copies += 1;
        assert!(kills < 200, "the copies do not come to an end");
    }
    let mut moments = Vec::new();
    for table in TABLES {
        let chunks = chunks(&scene, table);
        assert!(chunks.len() >= 5, "{table}: {} chunks", chunks.len());
        let read: Vec<u64> =
            chunks.iter().map(|c| c.iter().filter_map(|chunk| chunk["rows"].as_u64()).sum()).collect();
        // One whose last chunk was of the same snapshot has nothing to remember any more.
        let read = if read.last() == Some(&0) { &read[..read.len() - 1] } else { &read[..] };
        assert!(read.is_sorted(), "{table}: its copy began again: {read:?}");
        let ends: Vec<&Value> = chunks.iter().filter_map(|c| c.last()).map(|last| &last["below"]).collect();
        let number = |end: &&Value| end["number"].as_i64();
        assert!(ends.iter().filter_map(number).is_sorted_by(|a, b| a < b), "{table}: read twice: {ends:?}");
        moments.push(chunks.last().map_or(0, Vec::len));
    }
    let turns = clients.stop();
    let outcome = scene.drain();
    scene.assert_equal(TABLES);
    let again = outcome.stderr.matches("is in neither part").count();
    println!(
        "{brand:?}: {kills} kills, {in_copies} in copies; {turns} transactions; moments of the chunks: {moments:?}; {again} copied again"
    );
    assert_eq!(again, 0, "whole rows are in the log");
    assert!(in_copies >= 5, "too few kills fell into copies: {in_copies}");
    assert!(turns > 50, "the workload did too little: {turns}");
}

/// The operator wants no snapshot to outlive a chunk; a table that is truncated between two chunks, and one whose key is
/// sorted otherwise from then on. Values that are not in the log, too.
#[test]
fn each_chunk_of_mysql_has_a_snapshot_of_its_own() {
    let Some(mut scene) = MyScene::with("my-resume-hold", Brand::MySql9, &["--binlog-row-image=MINIMAL"])
    else {
        return;
    };
    let mut random = Random::from_env("my-resume-hold");
    scene.config.more = format!("snapshot: {{chunk_rows: {CHUNK_ROWS}, hold: chunk}}\n");
    make(&mut scene.sql());
    let url = scene.server.url("admin", "shop");
    let clients = MyClients::start_with(2, &url, &mut random, Duration::from_millis(4), step);
    let mut running = scene.start_run(&[]);
    until(LONG, "three chunks of the table", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        chunks(&scene, "shop.by_pair").len() >= 3
    });
    running.kill9();
    let mut sql = scene.sql();
    sql.exec(
        "alter table by_pair modify name varchar(40) character set utf8mb4 collate utf8mb4_bin not null",
    );
    sql.exec("truncate by_number");
    sql.exec("insert into by_number values (1, 1, 'after'), (2, 2, 'after')");
    let mut running = scene.start_run(&[]);
    until(LONG, "the copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        is_copied(&scene)
    });
    clients.wait_for(20);
    clients.stop();
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(TABLES);
}
