//! Values of rows and secrets stay where they belong: not in a log at its loudest, not in metrics, status, page or the
//! output of a command.

use crate::harness::process;
use crate::harness::s3::S3;
use crate::harness::{LONG, Scene, places, until};
use crate::health::ask;
use std::process::{Child, Stdio};

/// Nobody writes these by chance.
const VALUE: &str = "canary-value-7f3a";
const PASSWORD: &str = "canary-password-91bc";
const STORE: &str = "canary-store-key-44d0";
const TOKEN: &str = "canary-token-e6e1";

/// What the process shows.
const PATHS: &[&str] = &[
    "/metrics",
    "/api/v1/status",
    "/api/v1/config",
    "/api/v1/tables",
    "/api/v1/history",
    "/",
    "/healthz",
    "/readyz",
    "/openapi.json",
];

/// What an operator may ask beside it.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["tables"],
    &["lag"],
    &["doctor"],
    &["config", "show"],
    &["config", "show", "-o", "json"],
    &["config", "diff"],
    &["checkpoint", "export"],
    &["slot", "show"],
    &["verify", "public.people"],
    &["resync", "public.loud", "--yes"],
    &["validate"],
    &["setup", "--print"],
    &["target", "inspect"],
];

#[track_caller]
fn clean(what: &str, text: &str) {
    for canary in [VALUE, PASSWORD, STORE, TOKEN] {
        if let Some(line) = text.lines().find(|line| line.contains(canary)) {
            panic!("{what} holds {canary}:\n{line}");
        }
    }
}

/// A command at the loudest; everything that it says.
fn loud(scene: &Scene, arguments: &[&str]) -> String {
    let output = process::command()
        .args(arguments)
        .env("RUST_LOG", "trace")
        .current_dir(scene.dir())
        .output()
        .expect("strandline runs");
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn run_loudly(scene: &Scene, config: &str, log: &std::path::Path) -> Child {
    process::command()
        .args(["run", "-c", config])
        .env("RUST_LOG", "trace")
        .current_dir(scene.dir())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).expect("the run directory can be written"))
        .spawn()
        .expect("strandline starts")
}

#[test]
fn values_and_secrets_are_said_nowhere() {
    let mut scene = Scene::new("canary");
    let s3 = S3::start();
    let keys = format!("[default]\naws_access_key_id = key\naws_secret_access_key = {STORE}\n");
    let file = scene.write_text("keys", &keys);
    scene.config.url = scene.config.url.replace("strandline:strandline@", &format!("strandline:{PASSWORD}@"));
    scene.config.lake = "s3://lake/app".to_owned();
    scene.config.sink = format!(
        "  credentials: {{file: {file:?}}}\n  storage: {{endpoint: {:?}, region: us-east-1, path_style: true}}\n",
        s3.endpoint()
    );
    scene.config.more = format!("  token: {TOKEN}\n");
    scene.sql().exec(&format!(
        "create table people (id int primary key, name text, born date, big text);
         insert into people select i, '{VALUE}', '2000-01-01', repeat('{VALUE}', 500) from generate_series(1, 50) i;
         create table loud (id int primary key, at date); insert into loud values (1, '2000-01-01');
         create table \"log\" (id serial primary key, what text); insert into \"log\" (what) values ('{VALUE}')"
    ));
    let config = scene.write_config();
    let log = scene.dir().join("loud.log");
    let mut child = run_loudly(&scene, &config, &log);
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    let status = |wanted: &str| ask(&scene, "/api/v1/status").is_ok_and(|(_, body)| body.contains(wanted));
    until(LONG, "it streams", || status("\"state\":\"streaming\""));
    let mut sql = scene.sql();
    sql.exec(&format!(
        "update people set name = '{VALUE}-2' where id < 10; delete from people where id > 40;
         insert into \"log\" (what) values ('{VALUE}'); alter table people add more text default '{VALUE}'"
    ));
    // One table stops at a value that its target cannot hold.
    sql.exec("update loud set at = 'infinity'");
    until(LONG, "it is degraded", || status("\"state\":\"degraded\""));
    // A large transaction, and one that the server refuses.
    sql.exec(&format!("insert into people select i, '{VALUE}' from generate_series(1000, 3000) i"));
    let _refused = sql.try_exec(&format!("insert into people values (1, '{VALUE}')"));
    for path in PATHS {
        let (code, body) = ask(&scene, path).unwrap();
        assert!(code == 200 && !body.is_empty(), "{path}: {code}");
        clean(path, &body);
    }
    for command in COMMANDS {
        let said = loud(&scene, &[*command, &["-c", &config]].concat());
        assert!(!said.trim().is_empty(), "{command:?} says nothing");
        clean(&command.join(" "), &said);
    }
    // A source that goes away, and a wrong secret.
    sql.exec("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
    until(LONG, "the loss is told", || text().contains("the source is lost"));
    places::signal("TERM", &[child.id()]);
    child.wait().unwrap();
    let said = text();
    assert!(said.len() > 10_000, "that is not loud:\n{said}");
    clean("the log", &said);
}
