//! Events on standard output: what a death leaves behind, and that it can be piped.

use crate::harness::{LONG, Scene, until};
use std::path::PathBuf;

fn config(scene: &Scene) -> String {
    let text = format!(
        "version: 1\nname: pipe\nsource:\n  type: postgres\n  url: {:?}\n  slot: {}\n  publication: {}\n\
         tables:\n  include: [\"public.*\"]\nsink:\n  type: stdout\n  commit: {{interval: 20ms}}\n",
        scene.config.url, scene.config.slot, scene.config.publication
    );
    scene.write_text("pipe.yaml", &text)
}

/// The whole lines of the run of that number.
fn lines(scene: &Scene, run: usize) -> Vec<serde_json::Value> {
    let path: PathBuf = scene.dir().join(format!("strandline-{run:04}.out"));
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    // A death may cut the last line.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn ids(scene: &Scene, run: usize) -> Vec<i64> {
    lines(scene, run).iter().map(|line| line["key"]["id"].as_i64().expect("an id")).collect()
}

/// Each run goes on where the last acknowledged one ended or before it: no gap, and order within a run.
#[test]
fn a_killed_pipe_repeats_its_end_and_loses_nothing() {
    const KILLS: usize = 5;
    let scene = Scene::new("stdout-kill");
    let mut sql = scene.sql();
    sql.exec("create table events (id bigint primary key, v text)");
    let config = config(&scene);
    scene.start(&["run", "-c", &config, "--until-caught-up"]).wait(LONG).expect_code(0);
    let mut last = 0;
    for run in 1..=KILLS {
        let process = scene.start(&["run", "-c", &config, "--no-snapshot"]);
        for _ in 0..60 {
            last += 1;
            sql.exec(&format!("insert into events values ({last}, 'x')"));
        }
        until(LONG, "lines of this run", || lines(&scene, run).len() >= 7 * run);
        process.kill9();
    }
    scene.start(&["run", "-c", &config, "--until-caught-up", "--no-snapshot"]).wait(LONG).expect_code(0);
    let mut held = 0;
    for run in 1..=KILLS + 1 {
        let ids = ids(&scene, run);
        let first = ids.first().copied().unwrap_or(held + 1);
        assert!(first <= held + 1, "run {run} begins with {first}, and {held} was the last");
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "run {run} is not in order: {ids:?}");
        held = held.max(ids.last().copied().unwrap_or(0));
    }
    assert_eq!(held, last, "events are missing at the end");
}

/// Without any file, for trying: the copy's rows, then the changes.
#[test]
fn from_the_command_line() {
    let scene = Scene::new("stdout-plain");
    scene.sql().exec("create table t (id int primary key, v text); insert into t values (1, 'a'), (2, 'b')");
    let arguments =
        ["run", &scene.config.url, "stdout:", "--until-caught-up", "--publication", "strandline_pub"];
    let outcome = scene.start(&arguments).wait(LONG);
    outcome.expect_code(0);
    let lines = lines(&scene, 0);
    let ops: Vec<_> = lines.iter().map(|line| line["value"]["op"].as_str().expect("an op")).collect();
    assert_eq!((lines.len(), ops), (2, vec!["r", "r"]), "{}", outcome.stdout);
    assert_eq!(lines[1]["value"]["source"]["snapshot"], "last");
    assert_eq!(lines[0]["topic"], "shop.public.t");
}
