//! `strandline run`.

use super::args::{Global, RunArgs};
use super::options::{RunOptions, Snapshot, StopSignal, Until};
use super::reload::Reloader;
use super::{Outcome, exit, init_logging, load, progress, runtime, serving, signals, wire};
use crate::config::{Config, Overrides, SourceKind};
use crate::error::Result;
use crate::http::{Control, Face, Guard};
use crate::telemetry::status::PipelineState;
use crate::telemetry::{Metrics, MetricsOptions, StatusBoard};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::mpsc;

pub(super) fn command(global: &Global, args: RunArgs) -> Outcome {
    let options = options(&args);
    let overrides = Overrides {
        source_url: args.source_url,
        sink_uri: args.sink_uri,
        slot: args.slot,
        publication: args.publication,
        tables: args.tables,
    };
    let (config, found) = load(global, &overrides)?;
    init_logging(global, Some(&config.log));
    tracing::info!(
        pipeline = %config.name,
        version = env!("CARGO_PKG_VERSION"),
        config = %found.as_ref().map_or("command line".to_owned(), |found| found.path.display().to_string()),
        source = %config.source.address,
        slot = %config.source.slot,
        sink = %config.sink.target,
        "strandline starts"
    );
    if let Some(found) = &found {
        tracing::debug!(path = %found.path.display(), why = %found.wanted, "configuration file");
    }
    tracing::debug!(config = ?config, "effective configuration");
    let (apply, fresh) = mpsc::unbounded_channel();
    let reloader = Reloader {
        path: found.map(|found| found.path),
        overrides,
        current: Mutex::new(config.clone()),
        shown: Arc::new(RwLock::new(crate::config::effective(&config))),
        apply,
        has_level: global.quiet || global.verbose > 0 || crate::config::environment("RUST_LOG").is_some(),
    };
    runtime()?.block_on(run(config, options, Arc::new(reloader), fresh, global.quiet))?;
    Ok(ExitCode::from(exit::OK))
}

fn options(args: &RunArgs) -> RunOptions {
    let until = match (args.until_caught_up, args.until_lsn) {
        (true, _) => Until::CaughtUp,
        (false, Some(lsn)) => Until::Lsn(lsn),
        (false, None) => Until::Stopped,
    };
    let snapshot = match (args.snapshot_only, args.no_snapshot) {
        (true, _) => Snapshot::Only,
        (false, true) => Snapshot::Never,
        (false, false) => Snapshot::AsNeeded,
    };
    RunOptions { until, snapshot }
}

async fn run(
    mut config: Config,
    options: RunOptions,
    reloader: Arc<Reloader>,
    mut fresh: mpsc::UnboundedReceiver<Config>,
    quiet: bool,
) -> Result<()> {
    wire::signals::check(&config)?;
    let board = StatusBoard::new(&config.name);
    board.update(|status| {
        status.source.address = Some(config.source.address.to_string());
        status.source.slot = Some(config.source.slot.clone());
        status.source.publication = Some(config.source.publication.clone());
    });
    let metrics = Metrics::with(&board, shown(&config));
    let (sender, stop) = StopSignal::pair();
    let stopping = board.clone();
    signals::listen(sender, move || stopping.set_phase(PipelineState::Stopping))?;
    let (control, ears) = wire::control(&config);
    let mut face = face(&config, &board, &metrics, control).await?;
    face.config = Arc::clone(&reloader.shown);
    let again = Arc::clone(&reloader);
    face.reload = Some(Arc::new(move || reloader.reload()));
    signals::on_hangup(move || {
        if let Err(error) = again.reload() {
            tracing::error!(code = %error.code(), "the configuration stays as it was: {}", error.cause_line());
        }
    })?;
    let _served = serving::start(&config, face).await?;
    let _progress = progress::start(&board, quiet);
    let result = loop {
        let (end, ended) = StopSignal::pair();
        let ears = ears.clone();
        let run = wire::run(config.clone(), options, board.clone(), metrics.clone(), ended, ears);
        let mut run = Box::pin(run);
        let next = tokio::select! {
            result = &mut run => break result,
            () = stop.stopped() => {
                end.stop();
                break run.await;
            }
            Some(next) = fresh.recv() => next,
        };
        end.stop();
        if let Err(error) = run.await {
            break Err(error);
        }
        board.set_phase(PipelineState::Starting);
        config = next;
    };
    match &result {
        Ok(()) => tracing::info!("strandline ends"),
        Err(error) => {
            metrics.error(error.code());
            board.fail(error);
        }
    }
    result
}

fn shown(config: &Config) -> MetricsOptions {
    let plugin = match config.source.kind {
        SourceKind::Postgres => "postgres",
        SourceKind::MySql => "mysql",
    };
    MetricsOptions {
        debezium: config.metrics.debezium_compat.then_some(plugin),
        table_limit: config.metrics.max_table_labels,
        memory_limit: config.limits.memory.or_else(super::host::memory_limit),
    }
}

async fn face(
    config: &Config,
    board: &StatusBoard,
    metrics: &Metrics,
    control: Arc<dyn Control>,
) -> Result<Face> {
    let http = config.http.as_ref();
    let token = match http.and_then(|http| http.token.as_ref()) {
        Some(source) => source.resolve().await?,
        None => None,
    };
    Ok(Face {
        control: Some(control),
        guard: Guard { read_only: http.is_some_and(|http| http.read_only), token, ..Guard::default() },
        has_page: http.is_none_or(|http| http.ui),
        live_silence: config.health.wedged,
        ..Face::new(board.clone(), metrics.clone())
    })
}
