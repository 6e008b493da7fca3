//! The HTTP server: probes, metrics, status, the page; and a few requests that change something.
//!
//! [`ROUTES`] names every path. Errors are `application/problem+json`. Who may change something is in [`control`].
//! The same paths are served on a Unix socket for the command line.

mod api;
pub mod control;
mod health;
mod openapi;
mod page;
mod problem;
mod signal;

pub use control::{CONFIRM, Control, Guard, Reread};
pub use signal::{Undone, signal_of};

#[cfg(test)]
mod tests;

use crate::error::{Error, Result, codes};
use crate::telemetry::{History, Metrics, StatusBoard};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::{get, post};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// A temporary error older than this makes `/readyz` fail.
pub const READY_GRACE: Duration = Duration::from_secs(60);

/// Largest body of a request.
const BODY_LIMIT: usize = 64 * 1024;

/// Every path: method, path, what it says or does.
pub const ROUTES: &[(&str, &str, &str)] = &[
    (
        "get",
        "/livez",
        "200 unless the core loop gave no sign of life for 60 s; independent of source and target",
    ),
    ("get", "/startupz", "200 once the pipeline holds its source"),
    ("get", "/readyz", "200 when source and target are usable; 503 says why not"),
    ("get", "/healthz", "always 200: a verdict and its reasons"),
    ("get", "/metrics", "OpenMetrics text"),
    ("get", "/", "the page"),
    ("get", "/openapi.json", "this document"),
    ("get", "/api/v1/status", "everything that is known (docs/STATUS.md)"),
    ("get", "/api/v1/tables", "the tables alone"),
    ("get", "/api/v1/tables/{name}", "one table"),
    ("get", "/api/v1/history", "samples of the last day; ?window=1h"),
    ("get", "/api/v1/events", "server-sent events: the status whenever it changes"),
    ("get", "/api/v1/abilities", "whether this client may change something, and how"),
    ("get", "/api/v1/config", "the configuration as it works, secrets masked"),
    ("post", "/api/v1/pipeline/pause", "read nothing more from the source; what is in flight is finished"),
    ("post", "/api/v1/pipeline/resume", "go on reading"),
    ("post", "/api/v1/pipeline/reload", "read the configuration again, and apply what can be applied"),
    ("post", "/api/v1/snapshot/pause", "copies wait; the stream goes on"),
    ("post", "/api/v1/snapshot/resume", "copies go on"),
    ("post", "/api/v1/tables/{name}/cancel", "end a table's copy"),
    ("post", "/api/v1/tables/{name}/pause", "take a table out of the stream"),
    ("post", "/api/v1/tables/{name}/resume", "copy a table again and let it follow the stream"),
    ("get", "/api/v1/tables/{name}/tap", "its changes as lines of JSON, as they come"),
    ("post", "/api/v1/tables/{name}/resync", "copy a table again"),
    ("post", "/api/v1/verified", "what strandline verify found, for the metrics"),
    (
        "post",
        "/api/signals",
        "a signal as Debezium Server takes it: execute-snapshot, pause-snapshot, resume-snapshot, stop-snapshot, log",
    ),
];

/// Reads the configuration again; says what became of it.
pub type Reload = Arc<dyn Fn() -> Result<String> + Send + Sync>;

/// What the handlers look at.
#[derive(Clone)]
pub struct Face {
    /// The status.
    pub board: StatusBoard,
    /// The metrics.
    pub metrics: Metrics,
    /// Without a sign of life of the core loop for this long, `/livez` fails.
    pub live_silence: Duration,
    /// See [`READY_GRACE`].
    pub ready_grace: Duration,
    /// The last day.
    pub history: History,
    /// What can be asked of the pipeline.
    pub control: Option<Arc<dyn Control>>,
    /// Reads the configuration again.
    pub reload: Option<Reload>,
    /// Who may ask.
    pub guard: Guard,
    /// The configuration, for `/api/v1/config`.
    pub config: Arc<std::sync::RwLock<serde_json::Value>>,
    /// Whether the page is served.
    pub has_page: bool,
}

impl Face {
    /// With the usual limits.
    pub fn new(board: StatusBoard, metrics: Metrics) -> Self {
        Face {
            board,
            metrics,
            live_silence: crate::telemetry::health::Patience::default().wedged,
            ready_grace: READY_GRACE,
            history: History::default(),
            control: None,
            reload: None,
            guard: Guard::default(),
            config: Arc::default(),
            has_page: true,
        }
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A server on a Unix socket. It ends, and takes the socket away, when this is dropped.
#[derive(Debug)]
pub struct SocketServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl SocketServer {
    /// Makes the socket, for its owner and group, and begins to serve. What is left of a dead process is replaced.
    ///
    /// Errors: RT002 when the socket cannot be made, or a living process has it.
    pub async fn start(path: &Path, face: Face) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |cause: std::io::Error| {
            Error::new(codes::RT002, format!("cannot make the socket {}", path.display())).with_source(cause)
        };
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            let what = format!("another process listens at {}", path.display());
            return Err(Error::new(codes::RT002, what));
        }
        // It may not be there.
        let _gone = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let guard = Guard { is_trusted: true, ..Guard::default() };
        let service = router(Face { guard, ..face });
        let task = tokio::spawn(async move {
            if let Err(cause) = axum::serve(listener, service).await {
                tracing::error!(code = "RT002", error = %cause, "the socket's server ended");
            }
        });
        Ok(SocketServer { path: path.to_owned(), task })
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.task.abort();
        let _gone = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Binds the address and begins to serve.
    ///
    /// Errors: RT002 when the address cannot be used.
    pub async fn start(listen: SocketAddr, mut face: Face) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.map_err(|cause| unusable(listen, cause))?;
        let address = listener.local_addr().map_err(|cause| unusable(listen, cause))?;
        face.guard.is_local = address.ip().is_loopback();
        let service = router(face);
        let task = tokio::spawn(async move {
            if let Err(cause) = axum::serve(listener, service).await {
                tracing::error!(code = "RT002", error = %cause, "the HTTP server ended");
            }
        });
        Ok(Server { address, task })
    }

    /// Where it listens: with the port that the system chose when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn unusable(listen: SocketAddr, cause: std::io::Error) -> Error {
    let advice = match cause.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process listens there: stop it, or set another port in http.listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a privilege: set a higher one in http.listen"
        }
        _ => "set an address of this machine in http.listen, such as \"127.0.0.1:9187\"",
    };
    Error::new(codes::RT002, format!("cannot listen on {listen}")).with_source(cause).with_try(advice)
}

/// All paths.
pub fn router(face: Face) -> Router {
    let acting = Router::new()
        .route("/api/v1/pipeline/pause", post(control::pause))
        .route("/api/v1/pipeline/resume", post(control::resume))
        .route("/api/v1/pipeline/reload", post(control::reload))
        .route("/api/v1/snapshot/pause", post(control::pause_copies))
        .route("/api/v1/snapshot/resume", post(control::resume_copies))
        .route("/api/v1/tables/{name}/cancel", post(control::cancel))
        .route("/api/v1/tables/{name}/pause", post(control::pause_table))
        .route("/api/v1/tables/{name}/resume", post(control::resync))
        .route("/api/v1/tables/{name}/tap", get(control::tap))
        .route("/api/v1/tables/{name}/resync", post(control::resync))
        .route("/api/v1/verified", post(control::verified))
        .route("/api/signals", post(signal::signal))
        .layer(axum::middleware::from_fn_with_state(face.clone(), control::guard));
    let mut shown = Router::new()
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/tables", get(api::tables))
        .route("/api/v1/tables/{name}", get(api::table))
        .route("/api/v1/history", get(api::history))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/abilities", get(api::abilities))
        .route("/api/v1/config", get(api::config));
    if face.has_page {
        shown = shown.route("/", get(page::page));
    }
    let shown = shown.merge(acting).layer(axum::middleware::from_fn_with_state(face.clone(), control::named));
    Router::new()
        .route("/livez", get(health::livez))
        .route("/startupz", get(health::startupz))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(api::metrics))
        .route("/openapi.json", get(openapi::document))
        .merge(shown)
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::map_response(never_stored))
        .with_state(face)
}

/// What is served holds for this moment only.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
