//! A table that readers use is copied again while a writer changes it, and the process dies in the middle, again and again: the copy
//! goes on where it was, readers keep every row until the new copy replaces them, and what is gone from the source is gone.

use crate::harness::postgres::copy;
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene, deltalog, until};
use crate::workload::Clients;
use serde_json::Value;
use std::time::Duration;

const ROWS: u64 = 24_000;
const CHUNK_ROWS: u64 = 2_000;

fn step(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let (a, n) = (random.between(1, ROWS * 2), random.between(0, 1_000_000));
    let change = match random.between(0, 5) {
        0 => format!("insert into big values ({a}, {n}, 'new') on conflict do nothing"),
        1 => format!("delete from big where id = {a}"),
        2 => format!("update big set v = repeat(md5('{n}'), 90) where id between {a} and {a} + 3"),
        3 => format!("update other set v = '{n}' where id = {a} % 100"),
        _ => format!("update big set n = {n} where id between {a} and {a} + 5"),
    };
    sql.try_exec(&change)
}

/// Operation and state of each commit of the table.
fn operations(scene: &Scene) -> Vec<(i64, String, Option<Value>)> {
    let of = |commit: deltalog::Commit| {
        let operation = commit.actions.iter().find_map(|a| a["commitInfo"]["operation"].as_str());
        let state = commit.actions.iter().find_map(|action| {
            let text = action["metaData"]["configuration"]["strandline.state"].as_str()?;
            Some(serde_json::from_str::<Value>(text).expect("a document"))
        });
        (commit.version, operation.unwrap_or_default().to_owned(), state)
    };
    deltalog::commits(&scene.table("public.big")).into_iter().map(of).collect()
}

fn request(scene: &Scene) -> crate::harness::process::Strandline {
    let config = scene.write_config();
    scene.start(&["resync", "public.big", "--yes", "-c", &config])
}

#[test]
fn a_killed_resync_goes_on_where_it_was_and_readers_keep_every_row() {
    let mut random = Random::from_env("resync-resume");
    let mut scene = Scene::new("resync-resume");
    scene.config.more = format!("snapshot: {{chunk_rows: {CHUNK_ROWS}, workers: 2}}\n");
    scene.sql().exec(&format!(
        "create table big (id bigint primary key, n int not null, v text);
         alter table big alter v set storage external;
         insert into big select i * 2, i, repeat(md5(i::text), 90) from generate_series(1, {ROWS}) i;
         create table other (id int primary key, v text); insert into other select i, '' from generate_series(0, 99) i"
    ));
    scene.drain();
    // The target is set back behind deletes: rows that the source has not, and no log will ever name again.
    let (table, backup) = (scene.table("public.big"), scene.dir().join("old-big"));
    copy(&table, &backup);
    scene.sql().exec("delete from big where id % 14 = 0");
    scene.drain();
    std::fs::remove_dir_all(&table).unwrap();
    copy(&backup, &table);
    let before = deltalog::version(&table).unwrap();

    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(2), step);
    let mut running = scene.start_run(&[]);
    until(LONG, "it is seen to be set back", || running.stderr().contains("TG011"));
    let mut asked = request(&scene);
    let named = |scene: &Scene| operations(scene).iter().filter(|(_, what, _)| what == "COPY AHEAD").count();
    until(LONG, "a chunk is named", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        named(&scene) > 0
    });
    let mut kills = 0;
    let done = |scene: &Scene| {
        operations(scene).iter().any(|(version, what, _)| *version > before && what == "COPY CHUNK")
    };
    while !done(&scene) {
        let (seen, wanted) = (named(&scene), usize::try_from(random.between(1, 3)).unwrap());
        until(LONG, "more chunks, or the end", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            named(&scene) >= seen + wanted || done(&scene)
        });
        std::thread::sleep(Duration::from_millis(random.between(0, 30)));
        let log = running.kill9();
        assert!(!log.contains("RT001") && !log.contains("TG015"), "{log}");
        kills += 1;
        assert!(kills < 100, "the copy does not come to an end");
        // Who asked would make the copy itself when nobody is there: here another process does.
        drop(std::mem::replace(&mut asked, scene.start(&["version"])));
        running = scene.start_run(&[]);
    }
    clients.wait_for(20);
    let turns = clients.stop();
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.big", "public.other"]);
    check_history(&mut scene, before);
    println!("{kills} kills, {turns} transactions");
    assert!(kills >= 2 && turns > 20, "{kills} kills, {turns} transactions");
}

/// Chunks were read once; every version before the new copy has the old rows, every later one the new.
fn check_history(scene: &mut Scene, before: i64) {
    let all: Vec<_> = operations(scene).into_iter().filter(|(version, _, _)| *version > before).collect();
    let first = all.iter().position(|(_, what, _)| what == "COPY AHEAD").expect("chunks");
    let swap = all.iter().position(|(_, what, _)| what == "COPY CHUNK").expect("the new copy");
    let mut ends = Vec::new();
    for (_, _, state) in all[first..swap].iter().filter(|(_, what, _)| what == "COPY AHEAD") {
        let copied = state.as_ref().expect("a state")["ahead"]["state"]["copied"].clone();
        ends.push(
            copied.as_array().and_then(|c| c.last().cloned()).expect("a chunk")["below"]["number"].as_i64(),
        );
    }
    assert!(ends.len() >= 5 && ends.is_sorted_by(|a, b| a < b), "a chunk was read twice: {ends:?}");
    let table = scene.table("public.big");
    let mut count = |version: i64| -> u64 {
        let rows = scene.readers().sql(&table, Some(version), "select count(*) from t");
        rows[0][0].as_deref().expect("a number").parse().expect("a number")
    };
    for (version, _, _) in &all[..swap] {
        assert_eq!(count(*version), ROWS, "version {version}: readers keep the old rows");
    }
    for (version, _, _) in all[swap..].iter().step_by(5) {
        let rows = count(*version);
        assert!(rows > ROWS / 2 && rows < ROWS, "version {version}: {rows} rows");
    }
}
