//! Large transactions: sent by the server before they commit, in blocks; rolled back in part or whole; larger
//! than the memory for them; killed in the middle.
//!
//! `logical_decoding_work_mem` is set to its least value, so that a few hundred rows are sent in blocks. Each
//! test looks at `pg_stat_replication_slots` to see that they were.

use crate::harness::random::Random;
use crate::harness::sql::Sql;
use crate::harness::{LONG, NEWEST, OLDEST, Scene, deltalog, until};
use std::time::Duration;

const TABLES: &[&str] = &["public.wide", "public.side", "public.log"];

/// A server that sends everything above 64 kB in blocks, and three tables with some rows.
fn scene(test: &str, major: u32) -> Scene {
    let scene = Scene::on(test, major);
    let mut sql = scene.sql();
    sql.exec("alter system set logical_decoding_work_mem = '64kB'");
    sql.exec("select pg_reload_conf()");
    sql.exec(
        "create table wide(id int primary key, n int, note text, big text);
         alter table wide alter big set storage external;
         create table side(id bigint primary key, note text); alter table side replica identity full;
         create table log(at int primary key, note text);
         insert into wide select i, i, 'w' || i, repeat('b', 3000) from generate_series(1, 300) i;
         insert into side select i, 's' || i from generate_series(1, 300) i;",
    );
    scene
}

/// Transactions that the server has sent in blocks.
fn streamed(scene: &Scene) -> u64 {
    let query = "select coalesce(sum(stream_txns), 0) from pg_stat_replication_slots";
    scene.sql().value(query).parse().expect("a number")
}

fn is_live(scene: &Scene) -> bool {
    TABLES.iter().all(|name| deltalog::position(&scene.table(name), &scene.config.name).is_some())
}

/// Inserts into `wide` what takes some blocks.
fn many(from: i32, to: i32) -> String {
    format!(
        "insert into wide select i, i, 'w' || i, repeat(md5(i::text), 5) from generate_series({from}, {to}) i"
    )
}

/// Everything that a large transaction can hold.
const SCRIPTS: &[&str] = &[
    // Savepoints: rolled back, released, released within one that is rolled back.
    "begin; MANY(1000,1999);
     savepoint a; MANY(2000,2999); update wide set n = -1 where id between 1000 and 1500;
     savepoint b; MANY(3000,3999); release b; MANY(4000,4100); rollback to a;
     MANY(2000,2200); savepoint c; delete from wide where id between 1100 and 1900; release c;
     savepoint d; insert into side select i, 'd' from generate_series(1000, 3000) i; rollback to d;
     insert into side select i, 'kept' from generate_series(1000, 2000) i; commit;",
    // Rolled back whole.
    "begin; MANY(10000,12000); truncate side; MANY(12001,13000); rollback;",
    // Unchanged large values, keys that move.
    "begin; update wide set n = n + 1; update wide set id = id + 100000 where id <= 300;
     update wide set note = note || '!' where id > 100000; update side set id = id + 50000 where id < 200;
     insert into log select i, 'x' || i from generate_series(1, 3000) i; update wide set n = n + 1; commit;",
    // Emptied in the middle.
    "begin; insert into side select i, 'gone' from generate_series(70000, 73000) i; truncate side;
     insert into side select i, 'new' from generate_series(1, 3000) i; commit;",
    // Rows that come and go, in subtransactions that fail by themselves.
    "do $$ begin for i in 1..300 loop begin
       insert into wide select 200000 + i, i, repeat('f', 500), null; insert into side values (90000 + i, 'f');
       if i % 3 = 0 then raise exception 'no'; end if;
     exception when raise_exception then null; end; end loop; end $$;",
];

fn expanded(script: &str) -> String {
    let mut text = String::new();
    let mut rest = script;
    while let Some((before, after)) = rest.split_once("MANY(") {
        let (range, after) = after.split_once(')').expect("a range");
        let (from, to) = range.split_once(',').expect("two numbers");
        text += before;
        text += &many(from.parse().expect("a number"), to.parse().expect("a number"));
        rest = after;
    }
    text + rest
}

fn every_kind(major: u32) {
    let mut scene = scene("large-kinds", major);
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    let mut running = scene.start_run(&[]);
    until(LONG, "the first copy", || is_live(&scene) || !running.is_running());
    let (mut one, mut two) = (scene.sql(), scene.sql());
    // Others come and go between its blocks; a second large one commits first.
    one.exec(&format!("begin; {}; update wide set n = 7 where id = 1", many(30_000, 31_000)));
    two.exec("insert into side values (5000, 'between'); update wide set n = 8 where id = 2");
    two.exec(&format!("begin; {}", many(40_000, 41_000)));
    one.exec(&format!("savepoint s; {}", many(31_001, 32_000)));
    two.exec("delete from wide where id between 40000 and 40100; commit");
    two.exec("insert into side values (5001, 'after')");
    one.exec("rollback to s; delete from wide where id = 3; insert into side values (5002, 'last'); commit");
    for script in SCRIPTS {
        scene.sql().exec(&expanded(script));
    }
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(TABLES);
    assert!(streamed(&scene) >= 5, "only {} transactions came in blocks", streamed(&scene));
}

#[test]
fn every_kind_on_the_newest() {
    every_kind(NEWEST);
}

#[test]
fn every_kind_on_the_oldest() {
    every_kind(OLDEST);
}

#[test]
fn prepared_transactions_arrive_when_they_commit() {
    for major in [OLDEST, NEWEST] {
        let mut scene = scene("large-prepared", major);
        scene.pg.set_and_restart("max_prepared_transactions=4");
        scene.drain();
        let mut sql = scene.sql();
        sql.exec("begin; insert into side values (5000, 'small'); prepare transaction 'small'");
        sql.exec(&format!("begin; {}; prepare transaction 'large'", many(1000, 3000)));
        sql.exec(&format!("begin; {}; prepare transaction 'never'", many(5000, 8000)));
        sql.exec("insert into side values (5001, 'between')");
        scene.drain();
        scene.assert_equal(TABLES);
        sql.exec("commit prepared 'large'");
        sql.exec("rollback prepared 'never'");
        scene.drain();
        scene.assert_equal(TABLES);
        sql.exec("commit prepared 'small'");
        scene.drain();
        scene.assert_equal(TABLES);
        assert!(streamed(&scene) > 0);
    }
}

#[test]
fn larger_than_memory_goes_to_disk_and_comes_back() {
    let mut scene = scene("large-spill", NEWEST);
    let spill = scene.dir().join("spill");
    scene.config.more = format!("limits: {{memory: 64MiB, spill_dir: {:?}}}\n", spill.display().to_string());
    scene.drain();
    scene.sql().exec(&format!(
        "begin; {}; savepoint s; {}; rollback to s; delete from wide where id % 10 = 0; commit",
        many(1000, 150_000),
        many(200_000, 250_000)
    ));
    let outcome = scene.drain();
    assert!(outcome.stderr.contains("goes to disk"), "it fitted into memory:\n{}", outcome.stderr);
    let left = std::fs::read_dir(&spill).expect("the directory was made").count();
    assert_eq!(left, 0, "files have no name");
    scene.assert_equal(TABLES);
}

#[test]
fn a_spill_directory_that_cannot_be_used_stops_the_run_and_loses_nothing() {
    let mut scene = scene("large-no-room", NEWEST);
    scene.drain();
    scene.sql().exec(&many(1000, 100_000));
    let file = scene.write_text("not-a-directory", "");
    scene.config.more = format!("limits: {{memory: 64MiB, spill_dir: \"{file}/below\"}}\n");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("RT003");
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    scene.drain();
    scene.assert_equal(TABLES);
}

/// PostgreSQL 18 sends nothing of a transaction that it knows to be rolled back, but the aborts of its subtransactions.
#[test]
fn what_was_rolled_back_before_it_was_sent_is_not_missed() {
    for major in [OLDEST, NEWEST] {
        let mut scene = scene(&format!("large-gone-{major}"), major);
        scene.drain();
        let mut sql = scene.sql();
        for how in ["release s", "rollback to s"] {
            sql.exec(&format!(
                "begin; {}; savepoint s; {}; {how}; {}; rollback",
                many(1000, 1001),
                many(2000, 3999),
                many(4000, 4999)
            ));
        }
        sql.exec(&many(5000, 6999));
        scene.drain();
        scene.assert_equal(TABLES);
    }
}

#[test]
fn columns_that_change_in_what_is_rolled_back_do_not_matter() {
    let mut scene = scene("large-ddl", NEWEST);
    scene.drain();
    let mut sql = scene.sql();
    sql.exec(&format!("begin; alter table wide add extra int; {}; rollback", many(1000, 3000)));
    sql.exec(&format!(
        "begin; {}; savepoint s; alter table wide add extra int; {}; rollback to s; {}; commit",
        many(1000, 1999),
        many(2000, 2999),
        many(3000, 3999)
    ));
    scene.drain();
    scene.assert_equal(TABLES);
    // Rolled back behind the last row of its table: nothing of it is left for the next transaction.
    sql.exec(&format!(
        "begin; {}; savepoint s; alter table wide add extra int; {}; rollback to s; insert into side values (6000, 'last'); commit",
        many(4000, 4999),
        many(10_000, 10_999)
    ));
    sql.exec("insert into wide values (20000, 1, 'next', null)");
    scene.drain();
    scene.assert_equal(TABLES);
}

/// What follows each other in one large transaction, with rows of each form between.
fn changes_within(scene: &Scene) {
    let mut sql = scene.sql();
    sql.exec(&format!(
        "begin; {}; alter table wide add extra int; {}; update wide set extra = 3 where id > 6900; insert into side values (5000, 'with it'); commit",
        many(5000, 5999),
        many(6000, 6999)
    ));
    sql.exec(&format!(
        "begin; {}; alter table wide add more text; {}; update wide set more = 'm' where id > 7500; alter table wide add last int; {};
         update wide set last = id where id > 8900; commit",
        many(7000, 7999),
        many(8000, 8999),
        many(9000, 9999)
    ));
    sql.exec(&format!(
        "begin; {}; savepoint s; alter table wide drop extra; {}; rollback to s; alter table wide add kept int; {}; commit",
        many(11_000, 11_999),
        many(12_000, 12_999),
        many(13_000, 13_999)
    ));
}

/// The table is followed in place: no other row of it is read again.
#[test]
fn columns_that_change_within_are_followed() {
    let mut scene = scene("large-columns", NEWEST);
    let mut running = scene.start_run(&[]);
    until(LONG, "the first copy", || is_live(&scene) || !running.is_running());
    changes_within(&scene);
    until(LONG, "all of it arrives", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        scene.difference("public.wide", crate::harness::reader::Engine::DuckDb).is_none()
    });
    let log = running.stderr();
    assert!(log.contains("it is asked for whole"), "{log}");
    assert!(!log.contains("it is copied"), "copied for nothing:\n{log}");
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(TABLES);
    // From the first one on they are asked for whole for a while.
    assert!(streamed(&scene) >= 1, "none came in blocks");
    // Two changes in one backlog, met while nobody ran.
    let mut sql = scene.sql();
    sql.exec(&format!(
        "begin; {}; alter table wide add one int; {}; alter table wide drop one; {}; commit",
        many(14_000, 14_999),
        many(15_000, 15_999),
        many(16_000, 16_999)
    ));
    scene.drain();
    scene.assert_equal(TABLES);
}

/// The same as events: each row once, with the columns that it had or got.
#[test]
fn columns_that_change_within_are_told() {
    let mut scene = scene("large-told", NEWEST);
    scene.config.target = Some("  type: stdout\n".into());
    let mut running = scene.start_run(&[]);
    until(LONG, "the copy", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stdout().lines().count() >= 600
    });
    changes_within(&scene);
    scene.sql().exec("insert into log values (1, 'end')");
    until(LONG, "the last event", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running
            .stdout()
            .lines()
            .any(|line| line.contains("large-told.public.log") || line.contains(".public.log\""))
    });
    running.terminate();
    let outcome = running.wait(LONG);
    let mut last: std::collections::BTreeMap<i64, serde_json::Value> = std::collections::BTreeMap::new();
    let (mut created, mut read) = (0, 0);
    for line in outcome.stdout.lines().filter(|line| line.contains(".public.wide\"")) {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let (op, after) = (event["value"]["op"].as_str().expect("an op"), event["value"]["after"].clone());
        created += usize::from(op == "c");
        read += usize::from(op == "r");
        last.insert(event["key"]["id"].as_i64().expect("an id"), after);
    }
    let mut sql = scene.sql();
    let count = sql.value("select count(*) from wide where id >= 5000");
    assert_eq!((created.to_string(), read), (count, 300), "each is told once:\n{}", outcome.stderr);
    for row in sql
        .rows("select id, more, last, kept, extra from wide where id between 5000 and 13999 and id % 97 = 0")
    {
        let id: i64 = row[0].as_deref().expect("an id").parse().expect("a number");
        let told = &last[&id];
        let is_told = |name: &str, value: &Option<String>| match (&told[name], value) {
            (serde_json::Value::Null, None) => true,
            (serde_json::Value::String(told), Some(value)) => told == value,
            (serde_json::Value::Number(told), Some(value)) => told.to_string() == *value,
            _ => false,
        };
        assert!(
            is_told("more", &row[1]) && is_told("last", &row[2]) && is_told("extra", &row[4]),
            "{row:?} {told}"
        );
    }
}

/// One large transaction on `side` and `wide`, rolled back in part.
fn turn(sql: &mut Sql, random: &mut Random, n: i32) {
    let from = 1_000_000 + n * 20_000;
    let to = from + i32::try_from(random.between(500, 15_000)).expect("small");
    let way = if random.between(0, 4) == 0 { "rollback" } else { "commit" };
    let cut = random.between(1, 9);
    // A lost connection is part of the test: PostgreSQL is killed, too.
    let _lost = sql.try_exec(&format!(
        "begin; {}; update wide set n = n + 1 where id % 10 = {cut}; savepoint s; {}; rollback to s;
         insert into side select i, 'turn' from generate_series({from}, {to}) i;
         delete from side where id % 10 = {cut}; {way}",
        many(from, to),
        many(to + 1, to + 2000)
    ));
}

#[test]
fn kills_in_the_middle() {
    let kills = std::env::var("KILLS").map_or(12, |k| k.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env("large-kill");
    let mut scene = scene("large-kill", NEWEST);
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    scene.drain();
    let mut turns = 0;
    for kill in 0..kills {
        let mut running = scene.start_run(&[]);
        until(LONG, "the takeover", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            running.stderr().contains("\"took over\"")
        });
        let url = scene.pg.url("postgres", "shop");
        let mut writer_random = random.fork();
        let writer = std::thread::spawn(move || {
            let Ok(mut sql) = Sql::connect(&url) else { return };
            for n in turns..turns + 3 {
                turn(&mut sql, &mut writer_random, n);
            }
        });
        turns += 3;
        std::thread::sleep(Duration::from_millis(random.between(20, 2500)));
        if kill % 4 == 3 {
            scene.pg.crash();
            std::thread::sleep(Duration::from_millis(random.between(1, 200)));
        }
        let log = running.kill9();
        assert!(
            !log.contains("RT001") && !log.contains("\"level\":\"error\""),
            "an error in the log:\n{log}"
        );
        writer.join().expect("the writer ends");
        if kill % 4 == 3 {
            scene.pg.restart();
        }
        if kill % 4 == 1 {
            scene.drain();
            scene.assert_equal(TABLES);
        }
    }
    scene.drain();
    scene.assert_equal(TABLES);
}
