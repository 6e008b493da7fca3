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

/// What must be more than nothing after a copy and some changes.
const MOVED: [&str; 25] = [
    "strandline_merge_write_amplification",
    "strandline_merge_read_debt_ratio{table=\"public.orders\"}",
    "strandline_sink_table_files{table=\"public.orders\"}",
    "strandline_events_bytes_total",
    "strandline_end_to_end_latency_seconds_count",
    "strandline_end_to_end_latency_seconds_sum",
    "strandline_backpressure_seconds_total{stage=\"buffer\"}",
    "strandline_buffer_limit_bytes",
    "strandline_memory_limit_bytes",
    "strandline_memory_resident_bytes",
    "strandline_process_open_fds",
    "strandline_process_start_time_seconds",
    "strandline_sink_table_version{table=\"public.orders\"}",
    "strandline_snapshot_state{table=\"public.orders\",state=\"done\"}",
    "strandline_pg_slot_wal_status{status=\"reserved\"}",
    "strandline_pg_slot_active",
    "strandline_pg_slot_retained_bytes",
    "strandline_last_commit_age_seconds",
    "strandline_last_event_age_seconds",
    "strandline_heartbeat_age_seconds",
    "strandline_sink_commit_seconds_count",
    "strandline_cpu_seconds_total",
    "debezium_metrics_TotalNumberOfEventsSeen{plugin=\"postgres\",name=\"shop\",context=\"streaming\"}",
    "debezium_metrics_Connected{plugin=\"postgres\",name=\"shop\",context=\"streaming\"}",
    "debezium_metrics_SnapshotCompleted{plugin=\"postgres\",name=\"shop\",context=\"snapshot\"}",
];

#[test]
fn metrics_count_what_happened() {
    let mut scene = Scene::new("face-metrics");
    scene.config.more = "metrics: {debezium_compat: true}\n".into();
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

    // What else must have moved by now.
    for name in MOVED {
        until(LONG, &format!("{name} is more than nothing"), || {
            metric(&scene, name).is_some_and(|n| n > 0.0)
        });
    }
    assert!(metric(&scene, "strandline_pg_confirmed_flush_lag_bytes").is_some());

    // Columns change, a table is compared, the connection is lost.
    scene.sql().exec("alter table orders add w int; insert into orders values (1000, 'w', 1)");
    let changes = "strandline_schema_changes_total{kind=\"added\",action=\"in_place\"}";
    wait_for(&mut running, changes, 1.0);
    let config = scene.write_config();
    scene.start(&["verify", "-c", &config]).wait(LONG).expect_code(0);
    assert!(metric(&scene, "strandline_verify_last_success_timestamp_seconds").unwrap() > 1e9);
    assert_eq!(metric(&scene, "strandline_verify_mismatched_rows{table=\"public.orders\"}"), Some(0.0));
    scene.sql().exec(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'strandline_shop'",
    );
    until(LONG, "the loss is counted", || {
        let text = get(&scene, "/metrics").unwrap_or_default();
        text.lines().any(|line| line.starts_with("strandline_source_reconnects_total{reason=\"PG"))
    });
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
