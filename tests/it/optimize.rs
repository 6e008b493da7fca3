//! `strandline target optimize`: few whole files, the same rows; with nobody there, and beside a running process.

use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, deltalog, until};
use serde_json::Value;

const TABLES: [&str; 3] = ["public.up", "public.parts", "public.exact"];

fn target(scene: &Scene, arguments: &[&str]) -> Value {
    let config = scene.write_config();
    let mut all = vec!["target"];
    all.extend(arguments);
    all.extend(["-c", &config, "-o", "json"]);
    let outcome = scene.start(&all).wait(LONG);
    outcome.expect_code(0);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

fn change(scene: &Scene, round: i32) {
    for table in ["up", "parts", "exact"] {
        scene.sql().exec(&format!(
            "update {table} set v = v + 1 where id % 7 = {round} % 7; delete from {table} where id = {round};
             insert into {table} values ({round} + 10000, {round} % 3, 0); update {table} set p = (p + 1) % 3 where id % 11 = {round} % 11"
        ));
    }
}

#[test]
fn optimize_leaves_few_files_and_the_same_rows() {
    let mut scene = Scene::new("optimize");
    scene.config.sink = "  maintenance: {optimize: off}\n".into();
    scene.config.interval = "10ms".into();
    scene.config.tables =
        "  overrides: {public.parts: {target: {partition_by: [p]}}, public.exact: {write: copy_on_write}}\n"
            .into();
    for table in ["up", "parts", "exact"] {
        scene.sql().exec(&format!(
            "create table {table} (id int primary key, p int, v int); insert into {table} select i, i % 3, 0 from generate_series(1, 1000) i"
        ));
    }
    scene.drain();
    for round in 1..=3 {
        change(&scene, round);
        scene.drain();
    }
    let done = target(&scene, &["optimize"]);
    let tables = done["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), 3, "{done}");
    for table in tables {
        let name = table["table"].as_str().expect("a name");
        let most = if name == "public.parts" { 3 } else { 1 };
        assert_eq!(table["done"]["files_after"].as_u64(), Some(most), "{table}");
        assert!(table["done"]["files_before"].as_u64() >= Some(most), "{table}");
        let report = &target(&scene, &["inspect", name])["tables"][0];
        assert_eq!(
            (report["deleted_rows"].as_u64(), report["files"].as_u64()),
            (Some(0), Some(most)),
            "{name}"
        );
    }
    for engine in Engine::ALL {
        for name in TABLES {
            assert_eq!(scene.difference(name, engine), None, "{name} by {engine:?}");
        }
    }
    let again = target(&scene, &["optimize", "public.up"]);
    assert_eq!(again["tables"][0]["done"]["commits"].as_u64(), Some(0), "{again}");
    // Beside a process that writes.
    let mut running = scene.start_run(&[]);
    let up = scene.table("public.up");
    let mut optimized = 0;
    for round in 4..=12 {
        let before = deltalog::version(&up);
        change(&scene, round);
        if round % 3 == 0 {
            let done = target(&scene, &["optimize"]);
            let commits =
                done["tables"].as_array().expect("tables").iter().map(|t| t["done"]["commits"].as_u64());
            optimized += commits.map(Option::unwrap_or_default).sum::<u64>();
        }
        until(LONG, "a commit", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            deltalog::version(&up) > before
        });
    }
    assert!(optimized >= 3, "{optimized} commits");
    running.terminate();
    let ended = running.wait(LONG);
    ended.expect_code(0);
    assert!(!ended.stderr.contains("\"level\":\"error\""), "{}", ended.stderr);
    scene.drain();
    scene.assert_equal(&TABLES);
    let config = scene.write_config();
    let refused = scene.start(&["target", "optimize", "public.nothing", "-c", &config]).wait(LONG);
    refused.expect_code(3).expect_error("TG010");
    what_was_deleted_is_gone(&mut scene);
}

/// Whether a data file below the directory holds this text.
fn holds(dir: &std::path::Path, what: &str) -> bool {
    let script = "import glob, sys, pyarrow.parquet as pq\n\
        for f in glob.glob(sys.argv[1] + '/**/*.parquet', recursive=True):\n\
        \x20   if '_delta_log' not in f and sys.argv[2] in str(pq.read_table(f, partitioning=None).to_pydict()): sys.exit(7)\n";
    let mut python = std::process::Command::new(crate::harness::places::reader_python());
    let code = python.arg("-c").arg(script).arg(dir).arg(what).status().expect("python runs").code();
    assert!(matches!(code, Some(0 | 7)), "{code:?}");
    code == Some(7)
}

/// A row that is deleted in the source is in no file of the target any more, once it was written anew and cleaned up.
fn what_was_deleted_is_gone(scene: &mut Scene) {
    let up = scene.table("public.up");
    scene.sql().exec("alter table up add note text; insert into up values (77777, 1, 1, 'forget-me'), (77778, 1, 1, 'keep')");
    scene.drain();
    assert!(holds(&up, "forget-me"));
    scene.sql().exec("delete from up where id = 77777");
    scene.drain();
    target(scene, &["optimize", "public.up"]);
    assert!(holds(&up, "forget-me"), "older versions can be read still");
    // A month later.
    let aged = std::process::Command::new("find")
        .arg(&up)
        .args(["-exec", "touch", "-d", "1 month ago", "{}", "+"])
        .status();
    assert!(aged.expect("find runs").success());
    target(scene, &["vacuum", "public.up", "--retention", "1h", "--yes"]);
    assert!(!holds(&up, "forget-me"));
    scene.drain();
    scene.assert_equal(&TABLES);
}
