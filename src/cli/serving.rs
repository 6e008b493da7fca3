//! The face of a running process, on a thread of its own: it must answer, and say what is wrong, while the core loop
//! cannot run. Nothing here may wait for the pipeline.

use super::{http_client, notify, socket, wire};
use crate::config::{Config, SourceKind};
use crate::error::{Error, Result, codes};
use crate::http::{Face, Server, SocketServer};
use crate::telemetry::health;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Serves until it is dropped.
pub(super) struct Serving {
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ended = thread.join();
        }
    }
}

/// Begins to serve.
///
/// # Errors
/// RT002 when the address cannot be used; RT001 when there is no thread to be had.
pub(super) async fn start(config: &Config, face: Face) -> Result<Serving> {
    let (end, ended) = oneshot::channel();
    let (told, ready) = oneshot::channel();
    let config = config.clone();
    let thread = std::thread::Builder::new()
        .name("face".to_owned())
        .spawn(move || serve(&config, &face, told, ended))
        .map_err(|cause| no_thread().with_source(cause))?;
    let serving = Serving { end: Some(end), thread: Some(thread) };
    match ready.await {
        Ok(ready) => ready.map(|()| serving),
        Err(_) => Err(no_thread()),
    }
}

fn no_thread() -> Error {
    Error::new(codes::RT001, "the thread of the HTTP server cannot be started")
        .with_try("raise the limit of processes for strandline's user")
}

fn serve(config: &Config, face: &Face, told: oneshot::Sender<Result<()>>, ended: oneshot::Receiver<()>) {
    // Of several threads, one of them its own: who writes to a target blocks in place.
    let built = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("face-work")
        .enable_all()
        .build();
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(cause) => {
            // Who asked has gone when this fails.
            let _gone = told.send(Err(no_thread().with_source(cause)));
            return;
        }
    };
    runtime.block_on(async {
        let _watching = health::watch(face.board.clone(), config.health);
        let _sampled = sample(face);
        let _notifier = notify::start(&face.board, config.health.wedged);
        let _signals = Sampled(tokio::spawn(wire::signals::follow(config.clone(), face.clone())));
        let socket = listen_on_socket(config, face).await;
        let _server = match listen(config, face).await {
            Ok(server) => server,
            Err(error) => {
                let error = if socket.is_none() { in_use(config).await.unwrap_or(error) } else { error };
                let _gone = told.send(Err(error));
                return;
            }
        };
        let _gone = told.send(Ok(()));
        // An error says that the other end was dropped, which is the sign.
        let _dropped = ended.await;
    });
    // A log line that nobody takes must not hold up the end.
    runtime.shutdown_background();
}

/// Where address and socket are taken, a process of this very pipeline may have them: then that is what to say.
async fn in_use(config: &Config) -> Option<Error> {
    let answered = http_client::over_socket(&socket::path(config), "GET", "/api/v1/status").await.ok()?;
    let status: serde_json::Value = serde_json::from_str(&answered.1).ok()?;
    if status["name"].as_str() != Some(config.name.as_str()) {
        return None;
    }
    let code = match config.source.kind {
        SourceKind::Postgres => codes::PG011,
        SourceKind::MySql => codes::MY031,
    };
    let pid = status["process"]["pid"].as_u64().map_or(String::new(), |pid| format!(", pid {pid}"));
    let what = format!("a process of the pipeline \"{}\" runs on this machine already{pid}", config.name);
    Some(
        Error::new(code, what)
            .with_try("strandline status   says what it does; one process of a pipeline at a time"),
    )
}

async fn listen(config: &Config, face: &Face) -> Result<Option<Server>> {
    let Some(http) = &config.http else { return Ok(None) };
    let server = Server::start(http.listen, face.clone()).await?;
    tracing::info!(address = %server.address(), "HTTP server listens");
    Ok(Some(server))
}

/// For `status`, `pause` and the like on this machine. A pipeline runs without it, too.
async fn listen_on_socket(config: &Config, face: &Face) -> Option<SocketServer> {
    let listening = match socket::prepare(config) {
        Ok(path) => SocketServer::start(&path, face.clone()).await,
        Err(error) => Err(error),
    };
    match listening {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(code = %error.code(), "no control socket: {}", error.cause_line());
            None
        }
    }
}

/// Ends when it is dropped.
struct Sampled(JoinHandle<()>);

impl Drop for Sampled {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn sample(face: &Face) -> Sampled {
    let face = face.clone();
    Sampled(tokio::spawn(async move {
        let mut tick = tokio::time::interval(crate::telemetry::history::EVERY);
        loop {
            tick.tick().await;
            face.history.sample(&face.board, &face.metrics);
        }
    }))
}
