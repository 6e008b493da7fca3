//! The state that a running process shows follows what happens to it: each transition, on real servers.

use crate::harness::process::{self, Strandline};
use crate::harness::s3::S3;
use crate::harness::{LONG, Scene, places, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Status code and body, or why there is none.
pub(crate) fn ask(scene: &Scene, path: &str) -> Result<(u16, String), std::io::Error> {
    let mut stream = TcpStream::connect(&scene.config.listen)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((code, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())))
}

fn status(scene: &Scene) -> serde_json::Value {
    ask(scene, "/api/v1/status")
        .ok()
        .and_then(|(_, body)| serde_json::from_str(&body).ok())
        .unwrap_or_default()
}

fn state(scene: &Scene) -> String {
    status(scene)["state"].as_str().unwrap_or("silent").to_owned()
}

#[track_caller]
fn becomes(scene: &Scene, running: &mut Strandline, wanted: &str) {
    until(LONG, &format!("it is {wanted}"), || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        state(scene) == wanted
    });
}

fn first_reason(scene: &Scene) -> String {
    status(scene)["reasons"][0]["code"].as_str().unwrap_or("none").to_owned()
}

/// For a while it is never anything else.
#[track_caller]
fn stays(scene: &Scene, wanted: &[&str], so_long: Duration) {
    let began = Instant::now();
    while began.elapsed() < so_long {
        let now = state(scene);
        assert!(wanted.contains(&now.as_str()), "{now}: {}", status(scene));
        assert_eq!(ask(scene, "/readyz").unwrap().0, 200);
    }
}

const SHORT: &str = "health: {grace: 1s, stall: 1s, wedged: 2s}\n";

#[test]
fn idle_and_long_transactions_are_healthy_and_a_lost_source_is_not() {
    let mut scene = Scene::new("health-source");
    scene.config.more = SHORT.into();
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders values (1);
         create table other (id int primary key, v int); insert into other values (1)",
    );
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "streaming");
    stays(&scene, &["streaming", "catching_up"], Duration::from_secs(3));

    // A transaction that is large enough to come in pieces, and does not end.
    let mut long = scene.sql();
    long.exec("begin; insert into orders select i, repeat('x', 1000) from generate_series(2, 20000) i");
    stays(&scene, &["streaming", "catching_up"], Duration::from_secs(3));
    long.exec("commit");

    // One table stands still; the others go on, and a load balancer does not care.
    scene.sql().exec("alter table other alter v type text; insert into other values (2, 'x')");
    becomes(&scene, &mut running, "degraded");
    let found = status(&scene);
    assert_eq!(found["reasons"][0]["table"], "public.other", "{found}");
    assert!(found["reasons"][0]["fix"].as_str().unwrap().contains("resync"), "{found}");
    assert_eq!(ask(&scene, "/readyz").unwrap().0, 200);
    scene.start(&["resync", "-c", &config, "public.other", "--yes"]).wait(LONG).expect_code(0);
    becomes(&scene, &mut running, "streaming");

    // The source goes, and comes back.
    scene.pg.crash();
    becomes(&scene, &mut running, "stalled");
    let found = status(&scene);
    assert!(found["reasons"][0]["code"].as_str().unwrap().starts_with("PG"), "{found}");
    assert_eq!(found["source"]["connected"], false, "{found}");
    assert_eq!(ask(&scene, "/livez").unwrap().0, 200, "killing us would not bring the source back");
    assert_eq!(ask(&scene, "/readyz").unwrap().0, 503);
    assert!(ask(&scene, "/healthz").unwrap().1.contains("\"status\":\"stalled\""));
    let shown = scene.start(&["status", "-c", &config]).wait(LONG);
    assert!(shown.stdout.contains("STALLED"), "{}", shown.stdout);
    scene.pg.restart();
    becomes(&scene, &mut running, "streaming");
    assert_eq!(ask(&scene, "/readyz").unwrap().0, 200);

    // The slot goes: nothing can mend that but a person.
    scene.sql().exec("select pg_terminate_backend(active_pid) from pg_replication_slots");
    until(LONG, "the slot can be dropped", || {
        scene.sql().try_exec("select pg_drop_replication_slot('strandline_shop')").is_ok()
            || running.is_done()
            || {
                let _again =
                    scene.sql().try_exec("select pg_terminate_backend(active_pid) from pg_replication_slots");
                false
            }
    });
    running.wait(LONG).expect_code(1).expect_error("PG040");
    let shown = scene.start(&["status", "-c", &config, "-o", "json"]).wait(LONG);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(
        (&shown["state"], &shown["reasons"][0]["code"]),
        (&"stopped".into(), &"PG040".into()),
        "{shown}"
    );
}

#[test]
fn a_target_that_does_not_answer_is_seen_and_forgiven() {
    let mut scene = Scene::new("health-sink");
    let s3 = S3::start();
    let file =
        scene.write_text("keys", "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n");
    scene.config.lake = "s3://lake/app".to_owned();
    scene.config.sink = format!(
        "  credentials: {{file: {file:?}}}\n  storage: {{endpoint: {:?}, region: us-east-1, path_style: true}}\n",
        s3.endpoint()
    );
    scene.config.more = SHORT.into();
    scene.sql().exec("create table orders (id int primary key); insert into orders values (1)");
    let mut running = scene.start_run(&[]);
    becomes(&scene, &mut running, "streaming");
    places::signal("STOP", &[s3.pid()]);
    scene.sql().exec("insert into orders values (2)");
    becomes(&scene, &mut running, "stalled");
    let code = first_reason(&scene);
    assert!(["RT014", "TG001"].contains(&code.as_str()), "{code}");
    assert_eq!(ask(&scene, "/livez").unwrap().0, 200);
    assert_eq!(ask(&scene, "/readyz").unwrap().0, 503);
    places::signal("CONT", &[s3.pid()]);
    becomes(&scene, &mut running, "streaming");
    assert_eq!(first_reason(&scene), "none");
    running.terminate();
    running.wait(LONG).expect_code(0);
}

/// Nobody reads the log any more: the core loop waits for ever within a line of it. The face answers, says so, and
/// all is well again when the log is read.
#[test]
fn a_wedged_core_loop_is_said_by_a_face_that_still_answers() {
    let mut scene = Scene::new("health-wedged");
    scene.config.more = SHORT.into();
    scene.sql().exec("create table orders (id int primary key, v int); insert into orders values (1)");
    let config = scene.write_config();
    let (mut log, end) = std::io::pipe().unwrap();
    let mut same = end.try_clone().unwrap();
    let mut child = process::command()
        .args(["run", "-c", &config])
        // Nobody else's lines: it is the loop that waits.
        .env("RUST_LOG", "strandline::runtime::driver=debug")
        .stdout(Stdio::null())
        .stderr(Stdio::from(end))
        .spawn()
        .unwrap();
    until(LONG, "it streams", || state(&scene) == "streaming");
    // Fills the pipe, and waits like everybody else who writes to it.
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let filler = std::thread::spawn(move || {
        while !over.load(Ordering::SeqCst) {
            same.write_all(&[b'\n'; 4096]).unwrap();
        }
    });
    let mut sql = scene.sql();
    let mut n = 2;
    until(LONG, "it is wedged", || {
        n += 1;
        let _written = sql.try_exec(&format!("insert into orders values ({n})"));
        matches!(ask(&scene, "/livez"), Ok((503, body)) if body.contains("RT013"))
    });
    until(LONG, "the state says so", || state(&scene) == "stalled" && first_reason(&scene) == "RT013");
    is_over.store(true, Ordering::SeqCst);
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        log.read_to_end(&mut text).unwrap();
    });
    until(LONG, "it lives again", || matches!(ask(&scene, "/livez"), Ok((200, _))));
    until(LONG, "the state is well", || state(&scene) == "streaming");
    places::signal("TERM", &[child.id()]);
    assert!(child.wait().unwrap().success());
    filler.join().unwrap();
    reader.join().unwrap();
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}
