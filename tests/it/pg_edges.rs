//! What lies at the edges of a server: rows that it cannot send, and how it is found, by a service file and a password
//! file.

use crate::harness::process::{Outcome, command};
use crate::harness::{LONG, Scene, deltalog};
use std::os::unix::fs::PermissionsExt;

/// Runs it until it is caught up, with these variables.
fn run_with(scene: &Scene, variables: &[(&str, &str)]) -> Outcome {
    let config = scene.write_config();
    let mut command = command();
    command.args(["run", "-c", &config, "--until-caught-up"]).envs(variables.iter().copied());
    let output = command.output().expect("strandline starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The server by a service, named in the URL or by `PGSERVICE`; the password by libpq's file, which nobody else may read.
#[test]
fn a_service_file_and_a_password_file() {
    let mut scene = Scene::new("edges-service");
    scene.sql().exec("create table t (id int primary key); insert into t values (1)");
    let hba = scene.pg.data().join("pg_hba.conf");
    let old = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all strandline 127.0.0.1/32 scram-sha-256\n{old}")).unwrap();
    scene.sql().exec("select pg_reload_conf()");
    let port = scene.pg.port();
    let services = scene.write_text(
        "services",
        &format!("[other]\nhost=nowhere\n\n[shop]\nhost=127.0.0.1\nport={port}\ndbname=shop\nuser=strandline\nsslmode=prefer\n"),
    );
    let passwords = scene.write_text(
        "passwords",
        &format!("# ours\nnowhere:*:*:*:wrong\n127.0.0.1:{port}:shop:strandline:strandline\n"),
    );
    let allow = |mode| std::fs::set_permissions(&passwords, PermissionsExt::from_mode(mode)).unwrap();
    let files = [("PGSERVICEFILE", services.as_str()), ("PGPASSFILE", passwords.as_str())];
    scene.config.url = "postgres://?service=shop".into();
    allow(0o644);
    run_with(&scene, &files).expect_code(3).expect_error("PG001");
    allow(0o600);
    run_with(&scene, &files).expect_code(0);
    scene.assert_equal(&["public.t"]);
    scene.sql().exec("insert into t values (2)");
    scene.config.url = "postgres://".into();
    run_with(&scene, &[&files[..], &[("PGSERVICE", "shop")]].concat()).expect_code(0);
    scene.assert_equal(&["public.t"]);
    run_with(&scene, &[&files[..], &[("PGSERVICE", "none")]].concat()).expect_code(2);
}

/// A row that can be stored and not sent: its values are more than 1 GB in all (arrays of nothing, which are small until
/// they are sent). Nothing is skipped, and there is a way on.
#[test]
fn a_row_that_the_server_cannot_send() {
    let mut scene = Scene::new("edges-enormous");
    let mut sql = scene.sql();
    sql.exec(
        "create table t (id int primary key, a int[], b int[], c int[]); create table u (id int primary key)",
    );
    sql.exec("insert into u values (1)");
    scene.drain();
    let position = deltalog::position(&scene.table("public.u"), "shop");
    sql.exec("insert into t select 1, v, v, v from (select array_fill(null::int, array[95000000]) as v) r; insert into u values (2)");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(1).expect_error("PG014");
    assert!(outcome.stderr.contains("larger than the server can send"), "{}", outcome.stderr);
    assert_eq!(deltalog::position(&scene.table("public.u"), "shop"), position, "something was skipped");
    sql.exec("update t set b = '{1,null}', c = null, a = '{}'");
    let config = scene.write_config();
    for arguments in [["slot", "drop", "--yes"], ["resync", "--all", "--yes"]] {
        scene.start(&[&arguments[..], &["-c", &config]].concat()).wait(LONG).expect_code(0);
    }
    scene.assert_equal(&["public.t", "public.u"]);
}
