//! `status` against a server of the library in this process, and with nobody there.

use crate::program::Place;
use std::net::TcpListener;
use strandline::error::codes;
use strandline::http::{Face, Server};
use strandline::schema::TableName;
use strandline::telemetry::status::PipelineState;
use strandline::telemetry::{Metrics, Status, StatusBoard};

fn config(port: u16) -> Place {
    // Port 1 refuses: nothing here may reach a database.
    Place::with_config(&format!(
        "version: 1\nname: shop\nsource: {{url: 'postgres://u:hunter2@127.0.0.1:1/shop'}}\n\
         sink: {{uri: 'file:///nonexistent/lake'}}\nhttp: {{listen: '127.0.0.1:{port}'}}\n"
    ))
}

async fn serve(name: &str) -> (StatusBoard, Server) {
    let board = StatusBoard::new(name);
    let face = Face::new(board.clone(), Metrics::new(&board));
    (board, Server::start("127.0.0.1:0".parse().unwrap(), face).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_answers_in_both_forms() {
    let (board, server) = serve("shop").await;
    board.set_phase(PipelineState::Streaming);
    board.update_table(&TableName::new("public", "z"), |table| table.stop(codes::PG022, "a column changed"));
    let place = config(server.address().port());
    let json = place.run(&["status", "-o", "json"]);
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    let status: Status = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(status, board.status());
    let text = place.run(&["status"]);
    assert_eq!(text.code, Some(0));
    assert!(text.stdout.starts_with("shop  DEGRADED (streaming)   process "), "{text:?}");
    assert!(text.stdout.contains("error PG022 public.z "), "{text:?}");
    assert!(text.stdout.contains("try: strandline resync \"public.z\" --yes"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pipeline_on_the_port_is_not_taken_for_ours() {
    let (_board, server) = serve("other").await;
    let ended = config(server.address().port()).run(&["status", "-o", "json"]);
    assert_ne!(ended.json()["name"], "other");
}

#[test]
fn with_nothing_running_the_answer_is_one_json_document_without_secrets() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let ended = config(port).run(&["status", "-o", "json"]);
    let json = ended.json();
    match json.get("error") {
        // Neither target nor source can be asked.
        Some(error) => {
            assert!(error["code"].is_string() && error["message"].is_string(), "{ended:?}");
            assert_ne!(ended.code, Some(0));
        }
        None => {
            assert_eq!(json["process"]["running"], false, "{ended:?}");
            assert_eq!(json["state"], "stopped");
        }
    }
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{ended:?}");
}
