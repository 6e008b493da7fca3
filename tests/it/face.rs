//! What a running process says of itself over HTTP agrees with what it did.

use crate::harness::{LONG, Scene, until};
use std::io::{Read, Write};
use std::net::TcpStream;

fn get(scene: &Scene, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(&scene.config.listen).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// The value of a metric's line; absent when there is no such line.
fn metric(scene: &Scene, name: &str) -> Option<f64> {
    let text = get(scene, "/metrics")?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn metrics_count_what_happened() {
    let scene = Scene::new("face-metrics");
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 300) i",
    );
    let mut running = scene.start_run(&[]);
    let wait_for = |running: &mut crate::harness::process::Strandline, name: &str, value: f64| {
        until(LONG, &format!("{name} is {value}"), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            metric(&scene, name) == Some(value)
        });
    };
    wait_for(&mut running, "strandline_snapshot_rows_total{table=\"public.orders\"}", 300.0);
    scene.sql().exec("insert into orders select i, 'y' from generate_series(301, 350) i");
    scene.sql().exec("update orders set v = 'z' where id <= 20; delete from orders where id > 340");
    wait_for(&mut running, "strandline_events_total{table=\"public.orders\",op=\"d\"}", 10.0);
    wait_for(&mut running, "strandline_events_total{table=\"public.orders\",op=\"u\"}", 20.0);
    wait_for(&mut running, "strandline_events_total{table=\"public.orders\",op=\"c\"}", 50.0);
    wait_for(&mut running, "strandline_sink_rows_total{op=\"upsert\"}", 70.0);
    wait_for(&mut running, "strandline_sink_rows_total{op=\"delete\"}", 10.0);
    wait_for(&mut running, "strandline_sink_rows_total{op=\"copy\"}", 300.0);
    assert!(metric(&scene, "strandline_sink_commits_total{result=\"ok\"}").unwrap() >= 1.0);
    // Looked at now and then, not with every file.
    until(LONG, "files and bytes are counted", || {
        let (files, bytes) = ("strandline_sink_files_total", "strandline_sink_bytes_total");
        metric(&scene, files).unwrap_or(0.0) >= 2.0 && metric(&scene, bytes).unwrap_or(0.0) > 500.0
    });
    assert!(metric(&scene, "strandline_transactions_total").unwrap() >= 2.0);
    assert_eq!(metric(&scene, "strandline_source_connected"), Some(1.0));
    running.terminate();
    running.wait(LONG).expect_code(0);
}

/// What an operator does on the machine where it runs: pause, look, go on. Nothing is read while it is paused, and
/// nothing is missing afterwards.
#[test]
fn a_paused_pipeline_reads_nothing_and_goes_on() {
    let mut scene = Scene::new("face-pause");
    scene.sql().exec("create table orders (id int primary key); insert into orders values (1)");
    let config = scene.write_config();
    let mut running = scene.start_run(&[]);
    let state = |running: &mut crate::harness::process::Strandline, wanted: &str| {
        until(LONG, &format!("it is {wanted}"), || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            get(&scene, "/api/v1/status")
                .is_some_and(|text| text.contains(&format!("\"state\":\"{wanted}\"")))
        });
    };
    state(&mut running, "streaming");
    let asked = scene.start(&["pause", "-c", &config]).wait(LONG);
    asked.expect_code(0);
    state(&mut running, "paused");
    let before = crate::harness::deltalog::position(&scene.table("public.orders"), "shop");
    scene.sql().exec("insert into orders select generate_series(2, 100)");
    let status = scene.start(&["status", "-c", &config]).wait(LONG);
    assert!(status.stdout.contains("PAUSED"), "{}", status.stdout);
    assert!(get(&scene, "/readyz").is_some(), "paused on purpose is no fault");
    assert_eq!(crate::harness::deltalog::position(&scene.table("public.orders"), "shop"), before);
    scene.start(&["resume", "-c", &config]).wait(LONG).expect_code(0);
    state(&mut running, "streaming");
    let page = get(&scene, "/").unwrap();
    assert!(page.contains("public.orders") && page.contains("</html>"), "{page}");
    until(LONG, "the lag is known and zero", || {
        get(&scene, "/api/v1/status").is_some_and(|text| text.contains("\"lag_seconds\":0.0"))
    });
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    scene.start(&["pause", "-c", &config]).wait(LONG).expect_code(1).expect_error("RT004");
}
