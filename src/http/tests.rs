//! The server as clients see it: real requests over a real socket.

use super::*;
use crate::cli::http_get;
use crate::error::codes;
use crate::schema::TableName;
use crate::telemetry::status::{PipelineState, Status, TableState};
use serde_json::Value;

struct Fixture {
    board: StatusBoard,
    server: Server,
}

async fn serve(change: impl FnOnce(&mut Face)) -> Fixture {
    let board = StatusBoard::new("shop");
    let mut face = Face::new(board.clone(), Metrics::new(&board));
    change(&mut face);
    let server = Server::start("127.0.0.1:0".parse().unwrap(), face).await.unwrap();
    Fixture { board, server }
}

impl Fixture {
    async fn get(&self, path: &str) -> (u16, String) {
        http_get(self.server.address(), path).await.unwrap()
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn a_pipeline_is_ready_while_it_makes_progress() {
    let it = serve(|_| {}).await;
    assert_eq!(it.get("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(it.get("/startupz").await.0, 503);
    let (status, problem) = it.json("/readyz").await;
    assert_eq!((status, problem["detail"].as_str()), (503, Some("the pipeline is starting")));
    it.board.set_phase(PipelineState::Snapshotting);
    assert_eq!(it.get("/startupz").await.0, 200);
    assert_eq!(it.json("/readyz").await.1["detail"], "the source is not connected");
    it.board.update(|status| status.source.connected = true);
    assert_eq!(it.get("/readyz").await.0, 200);
    // A stopped table is a matter for a person, not for a load balancer.
    let orders = TableName::new("public", "orders");
    it.board.update_table(&orders, |table| table.stop(codes::PG022, "changed"));
    assert_eq!(it.json("/readyz").await.1["state"], "degraded");
    let (status, health) = it.json("/healthz").await;
    assert_eq!((status, health["status"].as_str()), (200, Some("degraded")));
    assert_eq!(health["reasons"][0]["code"], "PG022");
}

#[tokio::test]
async fn a_failure_names_its_code_and_fix() {
    let it = serve(|_| {}).await;
    it.board.fail(&Error::new(codes::PG040, "slot \"s\" is gone").with_try("resync"));
    let (status, problem) = it.json("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!((problem["code"].as_str(), problem["fix"].as_str()), (Some("PG040"), Some("resync")));
    assert_eq!(problem["detail"], "the pipeline is failed: slot \"s\" is gone");
    assert_eq!(it.json("/healthz").await.1["status"], "failed");
    assert_eq!(it.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_temporary_error_has_its_grace() {
    let grace = serve(|_| {}).await;
    let none = serve(|face| face.ready_grace = Duration::ZERO).await;
    for it in [&grace, &none] {
        it.board.set_phase(PipelineState::Streaming);
        it.board.set_retrying(&Error::new(codes::PG006, "refused"));
    }
    let since = none.board.status().retrying.unwrap().since;
    while since.age_seconds() <= 0.0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(grace.get("/readyz").await.0, 200);
    let (status, problem) = none.json("/readyz").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("PG006")));
}

#[tokio::test]
async fn a_wedged_core_loop_is_not_alive() {
    let it = serve(|face| face.live_silence = Duration::ZERO).await;
    while it.board.silence().is_zero() {
        tokio::task::yield_now().await;
    }
    assert_eq!(it.get("/livez").await.0, 503);
    assert_eq!(it.json("/healthz").await.1["status"], "wedged");
}

#[tokio::test]
async fn status_tables_and_metrics_are_served() {
    let it = serve(|_| {}).await;
    it.board.update_table(&TableName::new("s", "t"), |table| table.state = TableState::Live);
    let (_, body) = it.get("/api/v1/status").await;
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((status.name.as_str(), status.process.pid), ("shop", Some(std::process::id())));
    assert_eq!(it.json("/api/v1/tables").await.1["tables"][0]["name"], "s.t");
    assert_eq!(it.json("/api/v1/tables/s.t").await.1["state"], "live");
    assert_eq!(it.get("/api/v1/tables/s.other").await.0, 404);
    let (code, text) = it.get("/metrics").await;
    assert!(
        code == 200 && text.contains("strandline_tables{state=\"live\"} 1\n") && text.ends_with("# EOF\n")
    );
}

#[tokio::test]
async fn unknown_paths_are_problems() {
    let it = serve(|_| {}).await;
    let (status, problem) = it.json("/nothing").await;
    assert_eq!((status, problem["detail"].as_str()), (404, Some("there is nothing at /nothing")));
}

#[tokio::test]
async fn an_address_in_use_is_refused_with_its_code() {
    let it = serve(|_| {}).await;
    let face = Face::new(it.board.clone(), Metrics::new(&it.board));
    let error = Server::start(it.server.address(), face).await.unwrap_err();
    assert_eq!(error.code(), codes::RT002);
    assert!(error.advice().unwrap().contains("another process"), "{error:?}");
}
