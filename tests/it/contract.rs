//! What programs read: with `-o json` each command prints one document with the keys that `docs/CLI.md` names, bad input
//! included, and ends with the exit code that it says.

use crate::harness::process::Outcome;
use crate::harness::{LONG, Scene, until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The table of the section JSON: keys by command.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CLI.md")).unwrap();
    let section = text.split("\n## JSON\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let mut found = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        for command in words(cells[1]) {
            found.insert(command, words(cells[2]).into_iter().collect());
        }
    }
    found
}

/// What a command needs beside its name.
fn more(command: &str) -> &'static [&'static str] {
    match command {
        "verify" | "resync --plan" | "resync --yes" | "target optimize" => &["public.b"],
        "explain" => &["PG040"],
        _ => &[],
    }
}

#[track_caller]
fn one_document(what: &str, outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{what}: {e}:\n{}\n{}", outcome.stdout, outcome.stderr))
}

#[test]
fn each_command_prints_the_document_that_is_written_down() {
    let scene = Scene::new("contract");
    scene.sql().exec("create table a (id int primary key); create table b (id int primary key, v text); insert into b values (1, 'x')");
    let running = scene.start_run(&[]);
    until(LONG, "both are copied", || running.stderr().matches("table copied").count() == 2);
    let config = scene.write_config();
    let ask = |scene: &Scene, arguments: &[&str]| {
        scene.start(&[arguments, &["-c", &config, "-o", "json"]].concat()).wait(LONG)
    };
    let documented = documented();
    assert!(documented.len() > 25, "{documented:?}");
    for (command, keys) in &documented {
        let mut arguments: Vec<&str> = command.split(' ').chain(more(command).iter().copied()).collect();
        let (url, file) = (scene.config.url.clone(), scene.dir().join("init.yaml"));
        let file = file.to_str().unwrap().to_owned();
        if command == "init" {
            arguments.extend(["--from", &url, "--to", "file:///nowhere", "--file", &file]);
        }
        if command == "teardown --plan" {
            continue;
        }
        let outcome = ask(&scene, &arguments);
        let found = one_document(command, &outcome);
        let found: BTreeSet<String> = found.as_object().unwrap().keys().cloned().collect();
        assert_eq!(found, *keys, "{command}");
        let expected = if command == "target vacuum" { 2 } else { 0 };
        assert_eq!(outcome.code, Some(expected), "{command}: {}", outcome.stderr);
    }
    // Several tables: one answer.
    let both = one_document("pause", &ask(&scene, &["pause", "public.a", "public.b"]));
    assert!(
        both["text"].as_str().unwrap().contains("public.a")
            && both["text"].as_str().unwrap().contains("public.b")
    );
    for (wrong, code, exit) in [
        (&["pause", "public.nothing"][..], "CF005", 2),
        (&["resume", "nothing"], "CF005", 2),
        (&["snapshot", "cancel", "public.a"], "CF005", 2),
        (&["tap", "public.nothing"], "CF005", 2),
        (&["verify", "public.nothing"], "PG009", 3),
        (&["verify", "public.b", "--sample", "200%"], "CF005", 2),
        (&["lag", "--fail-if", "soon"], "CF005", 2),
        (&["resync", "public.nothing", "--yes"], "PG009", 3),
        (&["explain", "XX999"], "CF005", 2),
        (&["slot", "drop", "--yes"], "PG011", 5),
        (&["teardown", "--yes"], "PG011", 5),
        (&["binlog", "show"], "CF003", 2),
        (&["target", "vacuum", "--retention", "1"], "CF005", 2),
        // The address and the socket are taken: by a process of this very pipeline.
        (&["run"], "PG011", 5),
    ] {
        let outcome = ask(&scene, wrong);
        let error = one_document(&format!("{wrong:?}"), &outcome);
        assert_eq!(
            (error["error"]["code"].as_str(), outcome.code),
            (Some(code), Some(exit)),
            "{wrong:?}: {error}"
        );
        assert!(error["error"]["message"].is_string() && error["error"].get("try").is_some(), "{error}");
    }
    running.terminate();
    running.wait(LONG).expect_code(0);
    // Without a process: what can be said is, what cannot is an error.
    for command in ["status", "tables", "lag", "checkpoint show", "teardown --plan", "target inspect"] {
        let found = one_document(command, &ask(&scene, &command.split(' ').collect::<Vec<_>>()));
        let found: BTreeSet<String> = found.as_object().unwrap().keys().cloned().collect();
        assert_eq!(found, documented[command], "{command}");
    }
    for command in ["pause", "reload", "snapshot pause"] {
        let outcome = ask(&scene, &command.split(' ').collect::<Vec<_>>());
        let error = one_document(command, &outcome);
        assert_eq!((error["error"]["code"].as_str(), outcome.code), (Some("RT004"), Some(1)), "{command}");
    }
}
