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

/// Asks for what was recorded.
#[derive(Default)]
struct Recorded {
    held: std::sync::Mutex<Vec<bool>>,
    copied: std::sync::Mutex<Vec<String>>,
}

impl Control for Recorded {
    fn hold(&self, hold: bool) {
        self.held.lock().unwrap().push(hold);
    }

    fn leave(&self, table: TableName) {
        self.copied.lock().unwrap().push(format!("-{table}"));
    }

    fn hold_copies(&self, hold: bool) {
        self.copied.lock().unwrap().push(format!("hold {hold}"));
    }

    fn cancel_copy(&self, table: TableName) {
        self.copied.lock().unwrap().push(format!("x{table}"));
    }

    fn reread(&self, wanted: Reread) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        let Reread { table, id, condition, is_blocking } = wanted;
        self.copied.lock().unwrap().push(format!(
            "{}{table}{}",
            if is_blocking { "!" } else { "" },
            condition.map_or(String::new(), |condition| format!(" where {condition}"))
        ));
        assert!(!id.is_empty());
        Box::pin(std::future::ready(Ok(())))
    }

    fn end_rereads(&self, tables: &[TableName]) -> usize {
        self.copied.lock().unwrap().extend(tables.iter().map(|table| format!("xx{table}")));
        tables.len()
    }

    fn tap(&self, table: TableName) -> tokio::sync::mpsc::Receiver<String> {
        let (to, lines) = tokio::sync::mpsc::channel(1);
        to.try_send(format!("{{\"table\":\"{table}\"}}\n")).unwrap();
        lines
    }

    fn resync(&self, table: TableName) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        self.copied.lock().unwrap().push(table.to_string());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// One request with headers and a body, over a real socket: status and body.
async fn request(address: SocketAddr, head: &str, body: &str) -> (u16, String) {
    request_of(address, "localhost", head, body).await
}

/// The same under another name.
async fn request_of(address: SocketAddr, host: &str, head: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{head}\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn who_may_changes_something_and_nobody_else() {
    let control = Arc::new(Recorded::default());
    let it = serve(|face| {
        face.control = Some(Arc::clone(&control) as Arc<dyn Control>);
        face.guard.token = Some(crate::config::Secret::new("s3cret"));
    })
    .await;
    it.board.update_table(&TableName::new("public", "orders"), |table| table.state = TableState::Live);
    let address = it.server.address();
    let path = "POST /api/v1/pipeline/pause HTTP/1.1";
    assert_eq!(request(address, path, "").await.0, 403);
    let confirmed = "\r\nX-Strandline-Confirm: yes";
    assert_eq!(request(address, &format!("{path}{confirmed}"), "").await.0, 401);
    let allowed = format!("{confirmed}\r\nAuthorization: Bearer s3cret\r\nContent-Type: application/json");
    assert_eq!(request(address, &format!("{path}{allowed}"), "").await.0, 202);
    let resume = format!("POST /api/v1/pipeline/resume HTTP/1.1{allowed}");
    assert_eq!(request(address, &resume, "").await.0, 202);
    assert_eq!(*control.held.lock().unwrap(), [true, false]);
    let resync = |table: &str| format!("POST /api/v1/tables/{table}/resync HTTP/1.1{allowed}");
    assert_eq!(request(address, &resync("public.orders"), "").await.0, 202);
    assert_eq!(request(address, &resync("public.nothing"), "").await.0, 404);
    let signals = format!("POST /api/signals HTTP/1.1{allowed}");
    let signal =
        |kind: &str, data: &str| format!("{{\"id\": \"1\", \"type\": \"{kind}\", \"data\": {data}}}");
    let execute = signal("execute-snapshot", "{\"data-collections\": [\"public.orders\"]}");
    assert_eq!(request(address, &signals, &execute).await.0, 202);
    assert_eq!(request(address, &signals, &signal("execute-snapshot", "{}")).await.0, 400);
    assert_eq!(request(address, &signals, &signal("unknown", "{}")).await.0, 400);
    assert_eq!(request(address, &signals, &signal("log", "{\"message\": \"x\"}")).await.0, 202);
    assert_eq!(*control.copied.lock().unwrap(), ["public.orders", "public.orders"]);
    control.copied.lock().unwrap().clear();
    for (path, status) in [
        ("tables/public.orders/pause", 202),
        ("tables/public.orders/resume", 202),
        ("tables/public.orders/cancel", 409),
        ("tables/public.nothing/pause", 404),
        ("snapshot/pause", 202),
        ("pipeline/reload", 503),
    ] {
        let head = format!("POST /api/v1/{path} HTTP/1.1{allowed}");
        assert_eq!(request(address, &head, "").await.0, status, "{path}");
    }
    assert_eq!(request(address, &signals, &signal("resume-snapshot", "{}")).await.0, 202);
    let heard = ["-public.orders", "public.orders", "hold true", "hold false"];
    assert_eq!(*control.copied.lock().unwrap(), heard);
    let tap = format!("GET /api/v1/tables/public.orders/tap HTTP/1.1{allowed}");
    assert!(request(address, &tap, "").await.1.contains("{\"table\":\"public.orders\"}"));
    let unasked = "GET /api/v1/tables/public.orders/tap HTTP/1.1";
    assert_eq!(request(address, unasked, "").await.0, 403, "rows are for who may");
    let (status, told) = request(address, &signals, "{\"type\": 7").await;
    assert!(status == 400 && told.contains("about:blank") && told.contains("is not the JSON"), "{told}");
    assert_eq!(request(address, &signals, &"x".repeat(BODY_LIMIT + 1)).await.0, 413);
    assert_eq!(it.json("/api/v1/abilities").await.1, serde_json::json!({"act": true, "token": true}));
}

#[tokio::test]
async fn a_page_of_elsewhere_sees_and_does_nothing_under_its_own_name() {
    let control = Arc::new(Recorded::default());
    let it = serve(|face| face.control = Some(Arc::clone(&control) as Arc<dyn Control>)).await;
    it.board.update_table(&TableName::new("public", "orders"), |table| table.state = TableState::Live);
    let (address, confirmed) = (it.server.address(), "\r\nX-Strandline-Confirm: yes");
    for (method, path, _) in ROUTES {
        let filled = path.replace("{name}", "public.orders");
        let head = format!("{} {filled} HTTP/1.1{confirmed}", method.to_uppercase());
        let (status, body) = request_of(address, "evil.example:9187", &head, "").await;
        let is_open = *path == "/openapi.json" || !(*path == "/" || path.starts_with("/api"));
        assert_eq!(status == 403, !is_open, "{method} {path}: {status} {body}");
        assert!(is_open || body.contains("http.token"), "{body}");
    }
    assert!(control.held.lock().unwrap().is_empty() && control.copied.lock().unwrap().is_empty());
    let pause = format!("POST /api/v1/pipeline/pause HTTP/1.1{confirmed}");
    for host in ["localhost:1".to_owned(), address.to_string()] {
        assert_eq!(request_of(address, &host, &pause, "").await.0, 202, "{host}");
    }
}

#[tokio::test]
async fn a_signal_that_cannot_be_done_yet_is_not_one_that_never_can() {
    let board = StatusBoard::new("shop");
    let mut face = Face::new(board.clone(), Metrics::new(&board));
    let orders = "{\"data-collections\": [\"public.orders\"]}";
    let ask = async |face: &Face, kind: &str, data: &str| {
        signal_of(face, "1".to_owned(), kind.to_owned(), data).await
    };
    assert!(matches!(ask(&face, "execute-snapshot", orders).await, Err(Undone::Never(_))), "no such table");
    board.update_table(&TableName::new("public", "orders"), |table| table.state = TableState::Live);
    assert!(matches!(ask(&face, "execute-snapshot", orders).await, Err(Undone::NotYet(_))));
    assert!(matches!(ask(&face, "pause-snapshot", "").await, Err(Undone::NotYet(_))));
    assert!(matches!(ask(&face, "nonsense", "").await, Err(Undone::Never(_))));
    assert!(matches!(ask(&face, "execute-snapshot", "{").await, Err(Undone::Never(_))));
    face.control = Some(Arc::new(Recorded::default()));
    assert!(ask(&face, "execute-snapshot", orders).await.is_ok());
}

#[tokio::test]
async fn the_document_names_every_path_and_no_other() {
    let it = serve(|face| face.control = Some(Arc::new(Recorded::default()))).await;
    let source = include_str!("mod.rs");
    for line in source.lines().filter_map(|line| {
        line.trim().strip_prefix(".route(\"").or(line.trim().strip_prefix("shown = shown.route(\""))
    }) {
        let path = line.split('"').next().unwrap();
        assert!(ROUTES.iter().any(|(_, named, _)| *named == path), "{path} is not in ROUTES");
    }
    let (status, document) = it.json("/openapi.json").await;
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    for (method, path, _) in ROUTES {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
        // The other method is refused by the path, which is therefore there.
        let other = if *method == "get" { "DELETE" } else { "GET" };
        let filled = path.replace("{name}", "public.orders");
        let head = format!("{other} {filled} HTTP/1.1\r\nX-Strandline-Confirm: yes");
        let status = request(it.server.address(), &head, "").await.0;
        assert_eq!(status, 405, "{other} {path}");
    }
    assert_eq!(document["paths"].as_object().unwrap().len(), ROUTES.len());
}

#[tokio::test]
async fn the_page_says_something_without_javascript_and_can_be_off() {
    let it = serve(|_| {}).await;
    it.board.update_table(&TableName::new("public", "orders"), |t| t.stop(codes::PG022, "changed"));
    let (status, page) = it.get("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("public.orders") && page.contains("PG022"), "{page}");
    assert_eq!(serve(|face| face.has_page = false).await.get("/").await.0, 404);
    let (status, history) = it.json("/api/v1/history?window=1h").await;
    assert_eq!((status, history["every_seconds"].as_u64()), (200, Some(10)));
    assert_eq!(it.get("/api/v1/history?window=soon").await.0, 400);
}

#[tokio::test]
async fn the_socket_belongs_to_its_owner_and_replaces_a_dead_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    std::fs::write(&path, "left over").unwrap();
    let board = StatusBoard::new("shop");
    let face = Face::new(board.clone(), Metrics::new(&board));
    let server = SocketServer::start(&path, face.clone()).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let error = SocketServer::start(&path, face).await.unwrap_err();
    assert_eq!(error.code(), codes::RT002);
    drop(server);
    assert!(!path.exists());
}

/// Every name of a metric in a text exists; how many were found.
fn names_exist(text: &str) -> usize {
    let names = include_str!("../telemetry/names.rs");
    let mut found = 0;
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let Some(name) = word.strip_prefix("strandline_") else { continue };
        let name = ["_total", "_info", "_bucket"].iter().fold(name, |name, end| name.trim_end_matches(end));
        assert!(names.contains(&format!("= \"{name}\";")), "there is no metric {word}");
        found += 1;
    }
    found
}

/// Alerts name metrics that exist, and each has its section in the runbook.
#[test]
fn every_alert_has_its_metric_and_its_page() {
    let rules = include_str!("../../contrib/prometheus/rules.yaml");
    let runbook = include_str!("../../docs/operate/runbook.md");
    assert!(names_exist(rules) >= 7);
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(runbook.contains(&format!("## {line}\n")), "the runbook has no section {line}");
        assert!(rules.contains(&format!("runbook.md#{}", line.to_lowercase())), "{line} names no section");
    }
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let text = include_str!("../../contrib/grafana/strandline.json");
    let dashboard: Value = serde_json::from_str(text).unwrap();
    assert!(names_exist(text) >= 30);
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
}

/// A metric without a line in the documentation is none, and the reverse.
#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let names = include_str!("../telemetry/names.rs");
    let page = include_str!("../../docs/STATUS.md");
    let section = page.split("## Metrics").nth(1).unwrap();
    let documented: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(|cell| cell.split('`'))
        .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !word.is_empty())
        .map(|word| word.trim_end_matches("_total").trim_end_matches("_info"))
        .collect();
    let inner = ["PREFIX", "OTHER_TABLES", "DEBEZIUM_PREFIX"];
    let mut known = Vec::new();
    for line in names.lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let (constant, rest) = line.split_once(':').unwrap();
        let Some(name) = rest.split('"').nth(1).filter(|_| !inner.contains(&constant)) else { continue };
        assert!(documented.contains(&name), "docs/STATUS.md has no line for {name}");
        known.push(name);
    }
    for name in documented {
        assert!(known.contains(&name), "docs/STATUS.md documents {name}, which is none");
    }
}
