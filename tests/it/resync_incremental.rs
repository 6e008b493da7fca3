//! A table that readers use is put right where it is, while a writer changes it and the process dies again and again: rows
//! that differ are written, rows that are gone from the source are removed, rows that are right stay in their files.

use crate::harness::process::{Outcome, Strandline};
use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{LONG, Scene, deltalog, until};
use crate::workload::Clients;
use std::path::Path;
use std::time::Duration;

const ROWS: u64 = 14_000;

/// Changes that fit a table whose rows are wrong: what they touch is there in source and target.
fn step(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let (a, n) = (random.between(1, ROWS), random.between(0, 1_000_000));
    // Multiples of 7 are the damaged ones.
    let id = a - a % 7 + 1 + a % 6;
    sql.try_exec(&match random.between(0, 4) {
        0 => format!("insert into big values ({}, {n}, 'new') on conflict do nothing", ROWS + 7 * a + 1),
        1 => format!("delete from big where id = {}", ROWS + 7 * a + 1),
        2 => format!("update big set v = repeat(md5('{n}'), 90) where id = {id}"),
        3 => format!("update other set v = '{n}' where id = {a} % 100"),
        // The large value is not in the log: it comes from the row that the target holds.
        _ => format!("update big set n = {n} where id = {id}"),
    })
}

/// Damages the rows of data files behind strandline's back, as the log does not know: sizes and statistics stay plausible.
fn damage(scene: &Scene, table: &Path, python: &str) {
    let script = format!(
        "import glob, pyarrow.parquet as pq, pyarrow.compute as pc, pyarrow as pa\n\
         for f in glob.glob({:?} + '/*.parquet'):\n\
         \x20   t = pq.read_table(f)\n\
         \x20   if 'id' not in t.column_names and 'c1' not in t.column_names: continue\n\
         {python}\n\
         \x20   pq.write_table(t, f, compression='zstd')\n",
        table.display().to_string()
    );
    let output = std::process::Command::new(crate::harness::places::reader_python())
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // An index that was saved knows the keys that were there.
    let _not_there = std::fs::remove_dir_all(scene.dir().join("cache"));
}

fn resync(scene: &Scene, more: &[&str]) -> Strandline {
    let config = scene.write_config();
    scene.start(&[&["resync", "public.big", "-c", &config], more].concat())
}

fn verify(scene: &Scene) -> Outcome {
    let config = scene.write_config();
    scene.start(&["verify", "public.big", "-c", &config, "-o", "json"]).wait(LONG)
}

/// A table that is wrong in every way.
fn damaged() -> Scene {
    let mut scene = Scene::new("resync-incremental");
    scene.config.more = "snapshot: {chunk_rows: 1200, workers: 2, hold: chunk}\n".into();
    scene.sql().exec(&format!(
        "create table big (id bigint primary key, n int not null, v text); alter table big alter v set storage external;
         insert into big select i, i, repeat(md5(i::text), 90) from generate_series(1, {ROWS}) i;
         create table other (id int primary key, v text); insert into other select i, '' from generate_series(0, 99) i; analyze big"
    ));
    scene.drain();
    let table = scene.table("public.big");
    // Every 49th row has another number, every 7th of the rest another id: one that is not in the source, and one missing. A
    // seventh has another large value, which changes of other columns take over from the row that is there.
    damage(
        &scene,
        &table,
        "    i = t['id'].to_pylist(); n = t['n'].to_pylist(); v = t['v'].to_pylist()\n\
         \x20   v = ['wrong' * 500 if k % 7 == 1 else x for k, x in zip(i, v)]\n\
         \x20   t = t.set_column(2, t.schema.field(2), pa.array(v, t.schema.field(2).type))\n\
         \x20   n = [-1 if k % 49 == 0 else x for k, x in zip(i, n)]\n\
         \x20   i = [-k if k % 7 == 0 and k % 49 != 0 else k for k in i]\n\
         \x20   t = t.set_column(0, t.schema.field(0), pa.array(i, t.schema.field(0).type))\n\
         \x20   t = t.set_column(1, t.schema.field(1), pa.array(n, t.schema.field(1).type))",
    );
    scene
}

#[test]
fn rows_are_put_right_where_they_are_through_kills_and_changes() {
    let mut random = Random::from_env("resync-incremental");
    let mut scene = damaged();
    let table = scene.table("public.big");
    let before = deltalog::version(&table).unwrap();
    let plan = resync(&scene, &["--mode", "incremental", "--plan"]).wait(LONG);
    plan.expect_code(0);
    assert!(plan.stdout.contains("put right") && plan.stdout.contains("~14000 rows"), "{}", plan.stdout);

    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(2), step);
    let mut running = scene.start_run(&[]);
    until(LONG, "it streams", || deltalog::version(&table).unwrap() > before + 1);
    let mut asked = Some(resync(&scene, &["--mode", "incremental", "--yes"]));
    let marks = |from: i64| {
        let state = |commit: deltalog::Commit| {
            let text = commit.actions.iter().find_map(|a| {
                a["metaData"]["configuration"]["strandline.state"].as_str().map(str::to_owned)
            })?;
            let state: serde_json::Value = serde_json::from_str(&text).expect("a document");
            state["amended"]["below"]["number"].as_i64()
        };
        deltalog::commits(&table)
            .into_iter()
            .filter(|c| c.version > from)
            .filter_map(state)
            .collect::<Vec<_>>()
    };
    let mut kills = 0;
    let mut said = String::new();
    loop {
        let seen = marks(before).len();
        until(LONG, "a part is put right, or all of it", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            marks(before).len() > seen || running.stderr().contains("its rows are right")
        });
        if running.stderr().contains("its rows are right") {
            break;
        }
        if kills < 2 {
            std::thread::sleep(Duration::from_millis(random.between(0, 40)));
            let log = running.kill9();
            assert!(!log.contains("RT001") && !log.contains("TG015"), "{log}");
            said += &log;
            kills += 1;
            // Who asked goes on by itself when nobody is there: here another process does.
            drop(asked.take());
            running = scene.start_run(&[]);
        }
    }
    let found = verify(&scene);
    found.expect_code(0);
    clients.wait_for(20);
    let turns = clients.stop();
    said += &running.stderr();
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.big", "public.other"]);
    check_history(&table, before, &marks(before));
    assert!(kills >= 2 && turns > 20, "{kills} kills, {turns} transactions");
    let begun: Vec<&str> = said.lines().filter(|line| line.contains("compared and put right")).collect();
    assert!(begun.len() > kills, "{begun:#?}");
    let anew = begun.iter().filter(|line| line.contains("\"from\":\"None\"")).count();
    assert_eq!(anew, 1, "it goes on where it was: {begun:#?}");
    println!("{kills} kills, {turns} transactions, parts end at {:?}", marks(before));
}

/// Parts went on where they were; nothing replaced the table, and most of its rows stayed in their files.
fn check_history(table: &Path, before: i64, marks: &[i64]) {
    assert!(marks.len() >= 5, "{marks:?}");
    assert!(marks.is_sorted(), "a part that was done was begun again: {marks:?}");
    let commits: Vec<_> = deltalog::commits(table).into_iter().filter(|c| c.version > before).collect();
    let operations: Vec<String> = commits
        .iter()
        .filter_map(|c| {
            c.actions.iter().find_map(|a| a["commitInfo"]["operation"].as_str().map(str::to_owned))
        })
        .collect();
    let other = |name: &&String| !["MERGE", "TAKE OVER", "OPTIMIZE"].contains(&name.as_str());
    assert_eq!(operations.iter().find(other), None, "{operations:?}");
}

#[test]
fn some_rows_by_a_condition_and_without_a_process() {
    let mut scene = Scene::new("resync-where");
    scene.config.tables = "  overrides:\n    public.mapped: {column_mapping: name}\n".into();
    scene.sql().exec(
        "create table big (id text primary key, n int, at date); insert into big select 'k' || i, i, date '2026-01-01' + i % 10
           from generate_series(1, 2000) i;
         create table mapped (c2 int primary key, c1 int, p text);
         insert into mapped select i, 1000 + i, 'p' || i % 3 from generate_series(1, 500) i; create table keyless (v text); insert into keyless values ('x');
         alter table keyless replica identity full",
    );
    scene.drain();
    let table = scene.table("public.big");
    damage(&scene, &table, "    t = t.set_column(1, t.schema.field(1), pc.negate(t['n']))");
    let config = scene.write_config();
    // What cannot be is said before anything is asked for.
    let ask = |scene: &Scene, more: &[&str]| resync(scene, more).wait(LONG);
    let refused = ask(&scene, &["--where", "at > nonsense", "--yes"]);
    refused.expect_code(2).expect_error("CF005");
    assert!(refused.stderr.contains("nonsense"), "{}", refused.stderr);
    ask(&scene, &["--where", "true", "--mode", "swap", "--yes"]).expect_code(2).expect_error("CF005");
    let keyless = scene
        .start(&["resync", "public.keyless", "--mode", "incremental", "--yes", "-c", &config])
        .wait(LONG);
    keyless.expect_code(2).expect_error("TG029");
    let planned = ask(&scene, &["--where", "n < 100", "-o", "json"]);
    planned.expect_code(2);
    let plan: serde_json::Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(
        (plan["mode"].as_str(), plan["where"].as_str()),
        (Some("incremental"), Some("n < 100")),
        "{plan}"
    );

    ask(&scene, &["--where", "at = '2026-01-04' -- three days in", "--yes"]).expect_code(0);
    // Not by a filter: statistics would leave the files out.
    let wrong = |scene: &mut Scene| -> u64 {
        let rows = scene.readers().sql(&table, None, "select sum(case when n < 0 then 1 else 0 end) from t");
        rows[0][0].as_deref().unwrap().parse().unwrap()
    };
    assert_eq!(wrong(&mut scene), 1800, "a tenth is right");
    // Keys that only the source compares: the table is one part.
    ask(&scene, &["--mode", "incremental", "--yes"]).expect_code(0);
    assert_eq!(wrong(&mut scene), 0);
    scene.assert_equal(&["public.big"]);

    // Columns that files call otherwise, and by each other's names: the key is c1 there.
    let mapped = scene.table("public.mapped");
    damage(
        &scene,
        &mapped,
        "    a = [-k if k % 7 == 0 else k for k in t['c1'].to_pylist()]\n\
         \x20   t = t.set_column(0, t.schema.field(0), pa.array(a, t.schema.field(0).type))\n\
         \x20   t = t.set_column(1, t.schema.field(1), pc.negate(t['c2']))",
    );
    let resync = ["resync", "public.mapped", "--mode", "incremental", "--yes", "-c", &config];
    scene.start(&resync).wait(LONG).expect_code(0);
    scene.assert_equal(&["public.mapped"]);
}
