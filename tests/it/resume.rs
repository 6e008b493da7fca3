//! Copies that are interrupted: `kill -9` between and within chunks, while clients change rows and move keys from one
//! chunk to another. No chunk is read again once it is committed, and the tables end equal.

use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene, deltalog, until};
use crate::workload::Clients;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Rows of each table, and the span of their keys.
const ROWS: u64 = 24_000;
const CHUNK_ROWS: u64 = 2_000;

fn make(sql: &mut Sql) {
    for (table, big, identity) in
        [("plain", "v", "default"), ("large", "repeat(md5(v), 90)", "default"), ("whole", "v", "full")]
    {
        sql.exec(&format!(
            "create table {table} (id bigint primary key, n int not null, big text);
             alter table {table} alter big set storage external;
             alter table {table} replica identity {identity};
             insert into {table} select i * 2, i, {big}
             from (select i, md5(i::text) as v from generate_series(1, {ROWS}) i) r"
        ));
    }
    sql.exec(&format!(
        "create table by_uuid (id uuid primary key, n int not null);
         insert into by_uuid select md5(i::text)::uuid, i from generate_series(1, {ROWS}) i"
    ));
}

const TABLES: &[&str] = &["public.plain", "public.large", "public.whole", "public.by_uuid"];

fn step(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let table = match random.between(0, 2) {
        0 => "plain",
        1 => "large",
        _ => "whole",
    };
    let mut key = || random.between(1, ROWS * 2);
    let (a, b, c) = (key(), key(), key());
    let n = random.between(0, 1_000_000);
    let change = match random.between(0, 9) {
        0 => format!("insert into {table} values ({a}, {n}, 'new') on conflict do nothing"),
        1 => format!("delete from {table} where id = {a}"),
        // From one chunk to another, and on; a large value does not come with it.
        2 | 3 => format!(
            "update {table} set id = {b} where id = {a} and not exists (select from {table} where id = {b});
             update {table} set id = {c}, n = {n} where id = {b} and not exists (select from {table} where id = {c})"
        ),
        4 => format!("update {table} set big = repeat(md5('{n}'), 90) where id between {a} and {a} + 3"),
        5 => format!(
            "update by_uuid set id = md5('{n}')::uuid where id = md5('{a}')::uuid;
             update by_uuid set n = {n} where id > md5('{b}')::uuid and id < md5('{b}')::uuid;
             delete from by_uuid where id = md5('{c}')::uuid"
        ),
        _ => format!("update {table} set n = {n} where id between {a} and {a} + 5"),
    };
    sql.try_exec(&format!("begin; {change}; commit"))
}

/// A commit of a chunk: whether it is the first of a copy, what is copied after it, and the position of its snapshot.
struct Chunk {
    is_first: bool,
    end: Option<Value>,
    positions: BTreeSet<i64>,
}

fn chunks(scene: &Scene, table: &str) -> Vec<Chunk> {
    let commits = deltalog::commits(&scene.table(table));
    let chunks = commits.iter().filter(|commit| {
        commit.actions.iter().any(|action| action["commitInfo"]["operation"] == "COPY CHUNK")
    });
    let mut seen = 0;
    let of = |commit: &deltalog::Commit| {
        let state = commit.actions.iter().find_map(|action| {
            let text = action["metaData"]["configuration"]["strandline.state"].as_str()?;
            Some(serde_json::from_str::<Value>(text).expect("a document"))
        });
        let copied = state.expect("each chunk says what is copied")["copied"].as_array().cloned();
        let copied = copied.unwrap_or_default();
        let positions: BTreeSet<i64> = copied.iter().filter_map(|chunk| chunk["at"].as_i64()).collect();
        let end = copied.last().map(|last| last["below"].clone()).filter(|end| !end.is_null());
        let is_first = seen == 0 || (copied.len() == 1 && positions.len() == 1 && seen > 0 && end.is_none());
        seen += 1;
        Chunk { is_first, end, positions }
    };
    chunks.map(of).collect()
}

fn number(end: &Value) -> i64 {
    end["number"].as_i64().expect("a number")
}

#[test]
fn a_killed_copy_goes_on_where_it_was() {
    let mut random = Random::from_env("resume");
    let mut scene = Scene::new("resume");
    scene.config.more = format!("snapshot: {{chunk_rows: {CHUNK_ROWS}, workers: 2}}\n");
    make(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(2), step);
    let (mut kills, mut in_copies) = (0, 0);
    let copied_in = |log: &str| log.matches("\"chunk copied\"").count();
    loop {
        let mut running = scene.start_run(&[]);
        let wanted = usize::try_from(random.between(1, 5)).expect("a small number");
        until(LONG, "chunks, or the end of the copies", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            let log = running.stderr();
            copied_in(&log) >= wanted || log.contains("\"streaming\"") || is_live(&scene)
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 40)));
        let log = running.kill9();
        assert!(!log.contains("RT001") && !log.contains("TG015"), "{log}");
        kills += 1;
        if is_live(&scene) {
            break;
        }
        in_copies += 1;
        assert!(kills < 200, "the copies do not come to an end");
    }
    for table in ["public.plain", "public.large", "public.whole"] {
        let chunks = chunks(&scene, table);
        let ends: Vec<i64> = chunks.iter().filter_map(|chunk| chunk.end.as_ref()).map(number).collect();
        // A table whose keys have moved about is read in few passes when its copy goes on.
        assert!(ends.len() >= 3, "{table}: {} chunks", ends.len());
        assert!(ends.is_sorted_by(|a, b| a < b), "{table}: a chunk was read twice: {ends:?}");
        let firsts = chunks.iter().filter(|chunk| chunk.is_first).count();
        assert_eq!(firsts, 1, "{table}: its copy began again");
    }
    // Keys in no order: each chunk is a pass over the whole table, and there are few, whatever was killed between them.
    let passes = chunks(&scene, "public.by_uuid").len();
    assert!((2..=5).contains(&passes), "{passes} chunks of a table in no order");
    let turns = clients.stop();
    let outcome = scene.drain();
    scene.assert_equal(TABLES);
    let moments = chunks(&scene, "public.plain").last().map_or(0, |chunk| chunk.positions.len());
    let again = outcome.stderr.matches("is in neither part").count();
    println!(
        "{kills} kills, {in_copies} in copies; {turns} transactions; the last table's chunks are of {moments} moments; {again} copied again"
    );
    assert!(in_copies >= 5, "too few kills fell into copies: {in_copies}");
    assert!(turns > 50, "the workload did too little: {turns}");
}

fn is_live(scene: &Scene) -> bool {
    TABLES.iter().all(|name| {
        let last = deltalog::commits(&scene.table(name)).into_iter().rev().find_map(|commit| {
            commit.actions.iter().find_map(|action| {
                let text = action["metaData"]["configuration"]["strandline.state"].as_str()?;
                serde_json::from_str::<Value>(text).ok()
            })
        });
        last.is_some_and(|state| {
            let whole = state["copied"].as_array().and_then(|c| c.last().cloned());
            state["first_live_version"].is_i64() || whole.is_some_and(|last| last["below"].is_null())
        })
    })
}

/// The operator wants no snapshot to outlive a chunk; and a table that is truncated between two chunks.
#[test]
fn each_chunk_has_a_snapshot_of_its_own() {
    let mut random = Random::from_env("resume-hold");
    let mut scene = Scene::new("resume-hold");
    scene.config.more = format!("snapshot: {{chunk_rows: {CHUNK_ROWS}, hold: chunk}}\n");
    make(&mut scene.sql());
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(2), step);
    let running = scene.start_run(&[]);
    until(LONG, "three chunks of the table", || chunks(&scene, "public.large").len() >= 3);
    // Two chunks later no snapshot is held that is older than now: neither by a session nor by a slot.
    let mut sql = scene.sql();
    let now: u64 = sql.value("select pg_snapshot_xmin(pg_current_snapshot())").parse().expect("a number");
    let done = |scene: &Scene| TABLES.iter().map(|table| chunks(scene, table).len()).sum::<usize>();
    let later = done(&scene) + 3;
    let oldest = "select coalesce(min(x::text::bigint), 0) from (select backend_xmin from pg_stat_activity \
                  where application_name like 'strandline/%' union all select xmin from pg_replication_slots \
                  union all select catalog_xmin from pg_replication_slots where temporary) held(x)";
    let mut held = 0;
    until(LONG, "a snapshot two chunks later", || {
        held = sql.value(oldest).parse::<u64>().expect("a number");
        held > 0 && done(&scene) >= later
    });
    assert!(held >= now, "a snapshot of {held} is held two chunks after {now}");
    running.kill9();
    scene
        .sql()
        .exec("truncate large; insert into large select i, i, 'after' from generate_series(1, 5000) i");
    let running = scene.start_run(&[]);
    until(LONG, "the copies", || is_live(&scene));
    clients.wait_for(20);
    clients.stop();
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(TABLES);
    let passes = chunks(&scene, "public.by_uuid").len();
    assert!((2..=4).contains(&passes), "{passes} chunks of a table in no order");
    let last = chunks(&scene, "public.whole").pop().expect("chunks");
    let (all, moments) = (chunks(&scene, "public.whole").len(), last.positions.len());
    println!("{all} chunks of {moments} moments");
    assert!(moments > 5, "{moments} snapshots for {all} chunks");
}
