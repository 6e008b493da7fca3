//! The HTTP server: probes, metrics, status. It only reads, so it may listen beyond this machine.
//!
//! | path | says |
//! |---|---|
//! | `/livez` | 200 unless the core loop gave no sign of life for 60 s; independent of source and target |
//! | `/startupz` | 200 once the pipeline holds its source |
//! | `/readyz` | 200 when source and target are usable; 503 says why not |
//! | `/healthz` | always 200: state and reasons |
//! | `/metrics` | OpenMetrics text |
//! | `/api/v1/status`, `/api/v1/tables`, `/api/v1/tables/{name}` | `docs/STATUS.md` |
//!
//! Errors are `application/problem+json`.

mod api;
mod health;
mod problem;

#[cfg(test)]
mod tests;

use crate::error::{Error, Result, codes};
use crate::telemetry::{Metrics, StatusBoard};
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Without a sign of life of the core loop for this long, `/livez` fails.
pub const LIVE_SILENCE: Duration = Duration::from_secs(60);
/// A temporary error older than this makes `/readyz` fail.
pub const READY_GRACE: Duration = Duration::from_secs(60);

/// What the handlers look at.
#[derive(Clone, Debug)]
pub struct Face {
    /// The status.
    pub board: StatusBoard,
    /// The metrics.
    pub metrics: Metrics,
    /// See [`LIVE_SILENCE`].
    pub live_silence: Duration,
    /// See [`READY_GRACE`].
    pub ready_grace: Duration,
}

impl Face {
    /// With the usual limits.
    pub fn new(board: StatusBoard, metrics: Metrics) -> Self {
        Face { board, metrics, live_silence: LIVE_SILENCE, ready_grace: READY_GRACE }
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds the address and begins to serve.
    ///
    /// Errors: RT002 when the address cannot be used.
    pub async fn start(listen: SocketAddr, face: Face) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.map_err(|cause| unusable(listen, cause))?;
        let address = listener.local_addr().map_err(|cause| unusable(listen, cause))?;
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
    Router::new()
        .route("/livez", get(health::livez))
        .route("/startupz", get(health::startupz))
        .route("/readyz", get(health::readyz))
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/tables", get(api::tables))
        .route("/api/v1/tables/{name}", get(api::table))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(axum::middleware::map_response(never_stored))
        .with_state(face)
}

/// What is served holds for this moment only.
async fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
