//! Limits of the target: a file system that is full, one that turns read-only, a store that takes files in parts; tables
//! of a thousand columns. Each ends exactly, or with a code, loses nothing, and goes on once it is mended.

use crate::harness::s3::S3;
use crate::harness::{LONG, Scene, deltalog, until};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, in memory.
struct Disk(PathBuf);

impl Disk {
    /// Mounts it where the lake is to be. `None`, with a word: this user may mount none.
    fn mount(scene: &Scene, megabytes: u32) -> Option<Disk> {
        let at = scene.dir().join("lake");
        std::fs::create_dir_all(&at).expect("a directory");
        let options = format!("size={megabytes}m,mode=755");
        if run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs"], &at) {
            return Some(Disk(at));
        }
        println!("SKIPPED: no file system can be mounted here; run it as root");
        None
    }

    fn remount(&self, options: &str) -> bool {
        run("mount", &["-o", &format!("remount,{options}")], &self.0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], at: &Path) -> bool {
    Command::new(program).args(arguments).arg(at).output().is_ok_and(|output| output.status.success())
}

/// So many megabytes that no encoding makes smaller, in some rows.
fn noise(from: u32, megabytes: u32) -> String {
    format!(
        "insert into t select i, (select string_agg(md5(i || '/' || j || random()), '') from generate_series(1, 320) j)
         from generate_series({from}, {from} + {megabytes} * 100 - 1) i"
    )
}

/// Full at one moment after another: while copying, while a unit is written, while it is committed. Each time it says
/// so and ends; what was committed stands, and the slot keeps the rest.
#[test]
fn a_target_that_is_full_loses_nothing() {
    let mut scene = Scene::new("limits-full");
    let Some(disk) = Disk::mount(&scene, 1) else { return };
    scene.sql().exec(
        "create table t (id int primary key, v text); create table small (id int primary key, n int);
         insert into small select i, i from generate_series(1, 200) i",
    );
    scene.sql().exec(&noise(1, 3));
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("TG002");
    assert!(disk.remount("size=4m"));
    scene.drain();
    scene.assert_equal(&["public.t", "public.small"]);
    let position = deltalog::position(&scene.table("public.t"), "shop");
    scene.sql().exec("update small set n = n + 1");
    // Up to here the table has everything, though it says so of its last change only.
    let whole = scene.sql().value("select pg_current_wal_insert_lsn()");
    scene.sql().exec(&noise(1000, 24));
    scene.sql().exec("update t set v = 'short' where id % 3 = 0; update small set n = n + 1");
    // What was begun goes when it is given up, so a little more room each time is enough in the end.
    let mut failed = 0;
    for megabytes in (5..60).step_by(3) {
        assert!(disk.remount(&format!("size={megabytes}m")));
        let outcome = scene.run(&["--until-caught-up"]);
        if outcome.code == Some(0) {
            break;
        }
        outcome.expect_code(1).expect_error("TG002");
        failed += 1;
        let held = deltalog::position(&scene.table("public.t"), "shop");
        assert!(held >= position, "a position went back: {held:?}, {position:?}");
        let stayed = format!("select confirmed_flush_lsn <= '{whole}' from pg_replication_slots");
        assert!(held != position || scene.sql().value(&stayed) == "t", "the slot moved without the table");
    }
    println!("full {failed} times");
    assert!((2..18).contains(&failed));
    scene.assert_equal(&["public.t", "public.small"]);
}

/// While it runs: it stops with a code, and goes on where it was once that is mended.
#[test]
fn a_target_that_may_be_written_no_more_loses_nothing() {
    let mut scene = Scene::new("limits-read-only");
    let disk = Disk::mount(&scene, 200);
    scene.sql().exec("create table t (id int primary key, v text); insert into t values (1, 'first')");
    scene.drain();
    let (table, control) = (scene.table("public.t"), scene.control());
    let mut round = 0;
    if let Some(disk) = &disk {
        for _ in 0..3 {
            round += 1;
            // Busy while a file is open for writing.
            let take = || until(LONG, "it is read-only", || disk.remount("ro"));
            is_refused_until(&mut scene, round, take, || assert!(disk.remount("rw")));
        }
    }
    for place in [&table, &table.join("_delta_log"), &control.join("_delta_log")] {
        round += 1;
        let set = |mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place, mode).expect("we own it");
        };
        is_refused_until(&mut scene, round, || set(0o555), || set(0o755));
    }
}

/// While it streams, writing is forbidden, and allowed again after it and another start ended with the code.
fn is_refused_until(scene: &mut Scene, round: u32, take: impl Fn(), give_back: impl Fn()) {
    let table = scene.table("public.t");
    let mut running = scene.start_unprivileged(&["run"]);
    scene.sql().exec(&format!("insert into t values (10 + {round}, 'before')"));
    until(LONG, "it streams", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        let count = format!("select count(*) from t where id = 10 + {round}");
        scene.readers().try_sql(&table, None, &count).is_ok_and(|rows| rows[0][0].as_deref() == Some("1"))
    });
    take();
    scene
        .sql()
        .exec(&format!("update t set v = 'during {round}'; insert into t values (20 + {round}, 'during')"));
    running.wait(LONG).expect_code(3).expect_error("TG003");
    let again = scene.start_unprivileged(&["run", "--until-caught-up"]);
    again.wait(LONG).expect_code(3).expect_error("TG003");
    give_back();
    scene.drain();
    scene.assert_equal(&["public.t"]);
}

/// A thousand columns of every common type: copied, changed one at a time, more of them added, read by others.
#[test]
fn a_thousand_columns() {
    let mut scene = Scene::new("limits-columns");
    let kinds = ["int", "bigint", "text", "numeric(12,2)", "timestamptz", "boolean", "float8", "date"];
    let column = |i: usize| format!("c{i} {}", kinds[i % kinds.len()]);
    let columns = |range: std::ops::Range<usize>| range.map(column).collect::<Vec<_>>();
    scene.sql().exec(&format!("create table wide (id int primary key, {})", columns(1..1000).join(", ")));
    let fill = |ids: &str, of: std::ops::Range<usize>| {
        let names: Vec<String> = of.clone().map(|i| format!("c{i}")).collect();
        let value = |i: usize| match i % kinds.len() {
            0 | 1 => format!("g + {i}"),
            2 => format!("'text ' || g || '/{i}'"),
            3 => format!("g + {i} / 100.0"),
            4 => format!("timestamptz '2024-01-01 00:00Z' + g * interval '1 second' * {i}"),
            5 => format!("(g + {i}) % 2 = 0"),
            6 => format!("g / {i}.0"),
            _ => format!("date '2024-01-01' + g + {i}"),
        };
        let values: Vec<String> = of.map(value).collect();
        format!("insert into wide (id, {}) select g, {} from {ids} g", names.join(", "), values.join(", "))
    };
    scene.sql().exec(&fill("generate_series(1, 150)", 1..1000));
    scene.drain();
    scene.sql().exec(&fill("generate_series(200, 260)", 1..1000));
    for i in (1..1000).step_by(97) {
        scene.sql().exec(&format!("update wide set c{i} = null where id % 10 = {}", i % 10));
    }
    scene.sql().exec("delete from wide where id % 7 = 0");
    scene.drain();
    scene.assert_equal(&["public.wide"]);
    let added: Vec<String> = columns(1000..1020).into_iter().map(|column| format!("add {column}")).collect();
    scene.sql().exec(&format!("alter table wide {}, drop c5", added.join(", ")));
    scene.sql().exec("update wide set c1 = 7, c2 = null, c10 = null where id < 20");
    scene.drain();
    scene.assert_equal(&["public.wide"]);
}

/// A unit of `LIMITS_MB` (200) goes to a store in parts, from bounded memory: beside `limits.memory` and the program itself
/// what is being encoded and the parts on their way. (400 MB: peak 267.)
#[test]
fn a_large_unit_goes_to_a_bucket_in_bounded_memory() {
    let mut scene = Scene::new("limits-s3");
    let s3 = S3::start();
    let keys =
        scene.write_text("keys", "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n");
    scene.config.lake = "s3://lake/app".to_owned();
    scene.config.sink = format!(
        "  credentials: {{file: {keys:?}}}\n  storage: {{endpoint: {:?}, region: us-east-1, path_style: true}}\n",
        s3.endpoint()
    );
    scene.config.more = "limits: {memory: 64MiB}\n".into();
    scene
        .sql()
        .exec("create table t (id int primary key, v text); alter table t alter v set storage external");
    scene.drain();
    let megabytes: u32 = std::env::var("LIMITS_MB").map_or(200, |n| n.parse().expect("megabytes"));
    scene.sql().exec(&format!(
        "insert into t select i, string_agg(md5(i || '/' || j), '') from generate_series(1, {megabytes}) i,
         generate_series(1, 31250) j group by i"
    ));
    let mut running = scene.start_run(&["--until-caught-up"]);
    let mut peak = 0;
    until(LONG, "it has ended", || {
        peak = peak.max(running.peak_kib());
        running.is_done()
    });
    running.wait(LONG).expect_code(0);
    println!("a unit of {megabytes} MB into a bucket: peak {} MB", peak / 1024);
    let config = scene.write_config();
    scene.start(&["verify", "-c", &config]).wait(LONG).expect_code(0);
    assert!(peak / 1024 < 64 + 64 + 160, "peak {} MB", peak / 1024);
}
