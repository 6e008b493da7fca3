//! The one place that names concrete adapters: PostgreSQL, MySQL, Delta, Kafka, standard output, discard.

mod amend;
mod control;
mod mysql;
pub mod signals;

pub use control::control;
pub use mysql::binlog;

pub mod inspect;
pub mod verify;

use super::options::{RunOptions, Snapshot, StopSignal, Until};
use super::wire_kafka::kafka_options;
use crate::config::{self as model, Config};
use crate::debezium::{DecimalMode, Options as Events};
use crate::error::{Error, Result, codes};
use crate::pgoutput::{Infinity, NumericUnbounded, Policies, UnknownTypes};
use crate::position::CommitLsn;
use crate::replication::{Limits, Millis};
use crate::runtime;
use crate::runtime::desk::Desk;
use crate::schema::TableName;
use crate::sink::Sink;
use crate::sink::delta::{DeltaSink, StoreOptions, bench};
use crate::sink::discard::DiscardSink;
use crate::sink::kafka::KafkaSink;
use crate::sink::stdout::StdoutSink;
use crate::sink::{AmendChoice, PipelineRecord, Request};
use crate::source::Source;
use crate::source::postgres::adapter::{PgSettings, PgSource};
use crate::source::postgres::catalog::{self, Catalog};
use crate::source::postgres::load::{MaxLoad, Sessions};
use crate::source::postgres::options::{Endpoint, PgOptions, Renewal, Secret, TlsMode};
use crate::source::postgres::passfile;
use crate::source::postgres::pattern::Selection;
pub(super) use crate::source::postgres::slot::SlotState;
pub(super) use crate::source::postgres::slot_admin::{Plan as SlotPlan, Wish};
use crate::source::postgres::spill::Spill;
use crate::source::postgres::sql::Sql;
use crate::source::postgres::stream::OriginFilter;
use crate::source::postgres::teardown::{self as pg_teardown, Teardown};
use crate::source::postgres::{setup as pg_setup, slot, slot_admin};
use crate::telemetry::status::{OfflineStatus, PositionText, TableState, TableStatus};
use crate::telemetry::{Metrics, Status, StatusBoard};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Rows and bytes of a unit of events: they stand in memory, longer than the rows, until it is whole.
const EVENT_ROWS: u64 = 50_000;
const EVENT_BYTES: u64 = 16 << 20;
/// The part of `limits.memory` that indexes may take.
const INDEX_SHARE: usize = 2;
/// Bytes in builders at which they go to the sink.
const SLICE_BYTES: usize = 8 << 20;
/// Bytes of batches that wait for the sink.
const STAGED_BYTES: usize = 24 << 20;
/// Units under way: one being written, one waiting.
const UNITS_IN_FLIGHT: usize = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a heartbeat, an idle position is recorded this often.
const IDLE_CUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);

/// Runs the pipeline until `opts.until` or `stop`.
///
/// # Errors
/// What stops the pipeline.
pub async fn run(
    cfg: Config,
    opts: RunOptions,
    board: StatusBoard,
    metrics: Metrics,
    stop: StopSignal,
    (hold, desk): (runtime::Hold, Desk),
) -> Result<()> {
    let options = runtime::Options { hold, desk, ..runtime_options(&cfg, opts) };
    start(cfg, options, board, metrics, stop).await
}

async fn start(
    cfg: Config,
    options: runtime::Options,
    board: StatusBoard,
    metrics: Metrics,
    stop: StopSignal,
) -> Result<()> {
    let (set, signal) = runtime::StopSignal::new();
    tokio::spawn(async move {
        stop.stopped().await;
        // Nobody listens any more when the run has ended by itself.
        let _ended = set.send(true);
    });
    board.update(|status| status.source.address = Some(cfg.source.address.to_string()));
    if cfg.source.kind == model::SourceKind::MySql {
        let mut cfg = cfg;
        if writes_events(&cfg) {
            let Some(connector) = mysql::connector(&cfg, &board, signal.clone()).await? else {
                return Ok(());
            };
            cfg.format.connector = connector;
        }
        let source = mysql::source(&cfg).await?;
        return into_sink(source, &cfg, options, board, metrics, signal).await;
    }
    let settings = pg_settings(&cfg).await?;
    board.update(|status| {
        status.source.slot = Some(cfg.source.slot.clone());
        status.source.publication = Some(cfg.source.publication.clone());
    });
    into_sink(PgSource::new(settings), &cfg, options, board, metrics, signal).await
}

async fn into_sink<S: Source>(
    source: S,
    cfg: &Config,
    options: runtime::Options,
    board: StatusBoard,
    metrics: Metrics,
    signal: runtime::StopSignal,
) -> Result<()> {
    let source = Arc::new(source);
    match &cfg.sink.target {
        model::SinkTarget::Delta { uri } => {
            let mut sink = DeltaSink::open(uri.as_str(), &cfg.name, &store_options(cfg))?
                .with_choices(cfg.sink.choices.clone())
                .on_foreign_change(cfg.sink.on_foreign_change)
                .with_maintenance(cfg.sink.maintenance);
            if let Some(directory) = cache_directory() {
                sink = sink.with_cache(directory, memory_limit(cfg) / INDEX_SHARE);
            }
            runtime::run(source, Arc::new(sink), options, board, metrics, signal).await
        }
        model::SinkTarget::Kafka(target) => {
            let sink = KafkaSink::new(kafka_options(cfg, target).await?)?;
            runtime::run(source, Arc::new(sink), options, board, metrics, signal).await
        }
        model::SinkTarget::Stdout => {
            let sink = StdoutSink::new(events(cfg));
            runtime::run(source, Arc::new(sink), options, board, metrics, signal).await
        }
        model::SinkTarget::Discard => {
            runtime::run(source, Arc::new(DiscardSink), options, board, metrics, signal).await
        }
    }
}

/// How events look: what the file says, and what only this run knows.
pub(super) fn events(cfg: &Config) -> Events {
    let named = !cfg.format.topic_prefix.is_empty();
    Events {
        topic_prefix: if named { cfg.format.topic_prefix.clone() } else { cfg.name.clone() },
        database: cfg.source.address.database.clone(),
        run_id: uuid::Uuid::new_v4().to_string(),
        ..cfg.format.clone()
    }
}

/// Whether the sink writes events rather than tables.
fn writes_events(cfg: &Config) -> bool {
    matches!(cfg.sink.target, model::SinkTarget::Stdout | model::SinkTarget::Kafka(_))
}

/// The lake of the configuration.
///
/// # Errors
/// `CF003` when the target is none.
pub(super) fn delta(cfg: &Config) -> Result<DeltaSink> {
    match &cfg.sink.target {
        model::SinkTarget::Delta { uri } => DeltaSink::open(uri.as_str(), &cfg.name, &store_options(cfg)),
        other => Err(Error::new(codes::CF003, format!("the target {other} has no tables"))
            .with_try("this command is for sink.type: delta")),
    }
}

fn store_options(cfg: &Config) -> StoreOptions {
    let model::StoreConfig { credentials, endpoint, region, path_style, ca } = cfg.sink.store.clone();
    StoreOptions { credentials, endpoint, region, path_style, ca }
}

fn memory_limit(cfg: &Config) -> usize {
    cfg.limits.memory.and_then(|m| usize::try_from(m).ok()).unwrap_or(usize::MAX)
}

fn runtime_options(cfg: &Config, opts: RunOptions) -> runtime::Options {
    let millis = |d: Duration| Millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let heartbeat = cfg.source.heartbeat.unwrap_or(Duration::ZERO);
    let memory = memory_limit(cfg);
    runtime::Options {
        limits: Limits {
            unit_rows: if writes_events(cfg) { EVENT_ROWS } else { u64::MAX }.min(cfg.sink.commit.max_rows),
            unit_bytes: if writes_events(cfg) { EVENT_BYTES } else { u64::MAX }
                .min(cfg.sink.commit.max_bytes),
            unit_age: millis(cfg.sink.commit.interval),
            units_in_flight: UNITS_IN_FLIGHT,
            one_by_one: writes_events(cfg),
            idle_cut_every: millis(if heartbeat.is_zero() { IDLE_CUT } else { heartbeat }),
        },
        staged_bytes: STAGED_BYTES.min(memory / 8),
        slice_bytes: SLICE_BYTES.min(memory / 16),
        copies: runtime::Copies {
            workers: cfg.snapshot.workers,
            chunk_rows: cfg.snapshot.chunk_rows,
            short_snapshots: cfg.snapshot.hold == model::SnapshotHold::Chunk,
        },
        heartbeat,
        snapshots: match opts.snapshot {
            Snapshot::AsNeeded => runtime::Snapshots::Initial,
            Snapshot::Only => runtime::Snapshots::Only,
            Snapshot::Never => runtime::Snapshots::Never,
        },
        until: match opts.until {
            Until::Stopped => runtime::Until::Stopped,
            Until::CaughtUp => runtime::Until::CaughtUp,
            Until::Lsn(lsn) => runtime::Until::Lsn(lsn),
        },
        hold: runtime::Hold::never(),
        desk: Desk::nobody(),
        changes: cfg.sink.schema_changes,
        new_tables: cfg.tables.on_new_table == model::NewTable::Snapshot,
        resync: BTreeSet::new(),
        wal_budget: runtime::WalBudget {
            bytes: cfg.source.wal_budget,
            drop_slot: cfg.source.on_wal_budget == model::BudgetAction::DropSlot,
        },
        may_replace_slot: cfg.source.on_position_lost == model::PositionLost::Resync,
        may_replace_source: false,
    }
}

async fn pg_settings(cfg: &Config) -> Result<PgSettings> {
    let patterns =
        |list: &[model::TablePattern]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    Ok(PgSettings {
        options: pg_options(cfg).await?,
        selection: Selection::parse(&patterns(&cfg.tables.include), &patterns(&cfg.tables.exclude))?,
        policies: policies(cfg),
        create_if_missing: cfg.source.create_if_missing,
        spill: spill(cfg),
        origin: match cfg.source.origin {
            model::OriginChoice::Any => OriginFilter::Any,
            model::OriginChoice::None => OriginFilter::None,
        },
        max_load: MaxLoad {
            active_sessions: cfg.snapshot.max_source_load.active_sessions.map(|sessions| match sessions {
                model::LoadSessions::Count(count) => Sessions::Count(count),
                model::LoadSessions::Percent(percent) => Sessions::Percent(percent),
            }),
            replica_lag: cfg.snapshot.max_source_load.replica_lag,
        },
    })
}

/// A quarter of the memory is for transactions that have not committed.
fn spill(cfg: &Config) -> Spill {
    let default = Spill::default();
    let memory = cfg.limits.memory.map_or(default.memory, |_| memory_limit(cfg) / 4);
    Spill {
        memory,
        slice: default.slice.min(memory / 8),
        dir: cfg.limits.spill_dir.clone().unwrap_or(default.dir),
    }
}

async fn pg_options(cfg: &Config) -> Result<PgOptions> {
    let source = &cfg.source;
    let address = &source.address;
    let endpoint = if address.host.starts_with('/') {
        Endpoint::Unix { directory: PathBuf::from(&address.host), port: address.port }
    } else {
        Endpoint::Tcp { host: address.host.clone(), port: address.port }
    };
    let password = pg_password(&source.password, &endpoint, address).await?;
    let (secret, place, at) = (source.password.clone(), endpoint.clone(), address.clone());
    let renewal = Renewal::new(move || {
        let (secret, place, at) = (secret.clone(), place.clone(), at.clone());
        Box::pin(async move { pg_password(&secret, &place, &at).await })
    });
    Ok(PgOptions {
        endpoints: vec![endpoint],
        database: address.database.clone(),
        user: address.user.clone(),
        password,
        renewal: Some(renewal),
        tls: match source.tls.mode {
            model::TlsMode::Disable => TlsMode::Disable,
            model::TlsMode::Prefer => TlsMode::Prefer,
            model::TlsMode::Require => TlsMode::Require,
            model::TlsMode::VerifyCa => TlsMode::VerifyCa,
            model::TlsMode::VerifyFull => TlsMode::VerifyFull,
        },
        ca: source.tls.ca.clone(),
        identity: source.tls.identity.clone(),
        failover: source.failover_slot,
        slot: source.slot.clone(),
        publication: source.publication.clone(),
        pipeline: cfg.name.clone(),
        connect_timeout: CONNECT_TIMEOUT,
        heartbeat: source.heartbeat.unwrap_or(Duration::ZERO),
        heartbeat_action: source.heartbeat_action.clone(),
    })
}

/// The password as configured, or of libpq's password file where nothing says it.
async fn pg_password(
    source: &model::SecretSource,
    endpoint: &Endpoint,
    address: &model::SourceAddress,
) -> Result<Option<Secret>> {
    match source.resolve().await? {
        Some(password) => Ok(Some(Secret::new(password.expose()))),
        None => passfile::password(endpoint, &address.database, &address.user).await,
    }
}

/// Events have infinities and `NaN`, and say themselves what they do with types that they do not know.
fn event_policies(cfg: &Config) -> Policies {
    Policies {
        numeric_unbounded: match cfg.format.decimal {
            DecimalMode::Precise => NumericUnbounded::Text,
            DecimalMode::Double | DecimalMode::String => NumericUnbounded::AllText,
        },
        infinity: Infinity::Keep,
        unknown_types: UnknownTypes::Text,
    }
}

fn policies(cfg: &Config) -> Policies {
    if writes_events(cfg) {
        return event_policies(cfg);
    }
    Policies {
        numeric_unbounded: match cfg.sink.numeric_unbounded {
            model::NumericUnbounded::String => NumericUnbounded::Text,
            model::NumericUnbounded::Decimal { precision, scale } => {
                NumericUnbounded::Decimal { precision, scale }
            }
            model::NumericUnbounded::Double => NumericUnbounded::Double,
        },
        infinity: match cfg.sink.infinity {
            model::InfinityPolicy::Stop => Infinity::Stop,
            model::InfinityPolicy::Null => Infinity::Null,
        },
        unknown_types: match cfg.sink.unknown_types {
            model::UnknownTypesPolicy::Stop => UnknownTypes::Stop,
            model::UnknownTypesPolicy::Text => UnknownTypes::Text,
        },
    }
}

/// Prepares the source, or prints the SQL.
///
/// # Errors
/// Those of the connection; `PG007` and others when a statement may not be run.
pub async fn setup(cfg: Config, print: bool) -> Result<String> {
    if cfg.source.kind == model::SourceKind::MySql {
        return mysql::setup(&cfg, print).await;
    }
    let settings = pg_settings(&cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let catalog = catalog::load(&sql, &settings.selection, &settings.policies).await?;
    let steps = pg_setup::render(&sql, &settings.options, &settings.options.user, &catalog.tables).await?;
    if !print {
        pg_setup::run(&sql, &steps).await?;
    }
    Ok(pg_setup::script(&steps))
}

/// What strandline made on the source; it is taken away when `yes`.
///
/// # Errors
/// Those of the connection; `PG011` while somebody reads from the slot.
pub async fn teardown(cfg: &Config, yes: bool) -> Result<Teardown> {
    if cfg.source.kind == model::SourceKind::MySql {
        // Nothing is made on such a source.
        return Ok(Teardown::default());
    }
    let settings = pg_settings(cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let found = pg_teardown::plan(&sql, &settings.options).await?;
    if yes {
        pg_teardown::run(&sql, &found).await?;
    }
    Ok(found)
}

/// Looks at the replication slot, and changes it when `yes`.
///
/// # Errors
/// Those of the connection and of [`slot_admin::plan`].
pub(super) async fn slot(cfg: &Config, wish: Wish, yes: bool) -> Result<SlotPlan> {
    if cfg.source.kind == model::SourceKind::MySql {
        return Err(Error::new(
            codes::CF005,
            "MySQL and MariaDB keep no place for a reader: there is no slot",
        )
        .with_try("strandline checkpoint   shows the position, which stands in the target"));
    }
    let options = pg_options(cfg).await?;
    let sql = Sql::connect(&options).await?;
    let plan = slot_admin::plan(&sql, &options, wish).await?;
    if yes {
        slot_admin::run(&sql, &plan).await?;
    }
    Ok(plan)
}

/// Copies these tables again: by the process that runs, or here.
///
/// # Errors
/// `CF005` for a name that is none, `PG009` for a table that is not replicated; what stops a run.
pub async fn resync(cfg: Config, tables: Vec<String>, all: bool, amend: Option<AmendChoice>) -> Result<()> {
    let names = tables.iter().map(|text| table_name(text)).collect::<Result<BTreeSet<_>>>()?;
    if let Some(amend) = amend {
        return amend::amend(cfg, names, amend).await;
    }
    if cfg.source.kind == model::SourceKind::MySql {
        if mysql::is_answered(&cfg, &names).await? {
            return Ok(());
        }
        return resync_here(cfg, names, all).await;
    }
    let settings = pg_settings(&cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let state = slot::inspect(&sql, &settings.options.slot).await?;
    if let (Some(pid), model::SinkTarget::Delta { uri }) =
        (state.and_then(|s| s.active_pid), &cfg.sink.target)
    {
        let sink = DeltaSink::open(uri.as_str(), &cfg.name, &store_options(&cfg))?;
        tracing::info!(backend = pid, "a process of this pipeline runs: it is asked to copy");
        catalog_with(&sql, &settings, &names).await?;
        let slot = &settings.options.slot;
        let is_there = async || Ok(slot::inspect(&sql, slot).await?.is_some_and(|s| s.active_pid.is_some()));
        if ask(&sink, &names, None, is_there).await? {
            return Ok(());
        }
    }
    resync_here(cfg, names, all).await
}

/// The catalogue, in which these tables are, and can be replicated.
async fn catalog_with(sql: &Sql, settings: &PgSettings, names: &BTreeSet<TableName>) -> Result<Catalog> {
    let catalog = catalog::load(sql, &settings.selection, &settings.policies).await?;
    PgSource::CODES.check_names(
        names,
        |name| catalog.tables.iter().any(|t| t.name() == name),
        |name| catalog.rejected.iter().find(|r| r.name == *name).map(|r| &r.error),
    )?;
    Ok(catalog)
}

async fn resync_here(cfg: Config, names: BTreeSet<TableName>, all: bool) -> Result<()> {
    let mut options =
        runtime_options(&cfg, RunOptions { until: Until::CaughtUp, snapshot: Snapshot::AsNeeded });
    options.resync = names;
    options.may_replace_slot = true;
    options.may_replace_source = all;
    let board = StatusBoard::new(&cfg.name);
    let (_sender, stop) = StopSignal::pair();
    let metrics = Metrics::new(&board);
    start(cfg, options, board, metrics, stop).await
}

/// Puts requests into the control table and waits until they are answered. False: the process that was
/// asked has gone.
async fn ask(
    sink: &DeltaSink,
    names: &BTreeSet<TableName>,
    amend: Option<AmendChoice>,
    mut is_there: impl AsyncFnMut() -> Result<bool>,
) -> Result<bool> {
    let mut waiting = BTreeSet::new();
    for name in names {
        let id = uuid::Uuid::new_v4().simple().to_string();
        sink.request(&Request { id: id.clone(), table: name.clone(), amend: amend.clone() }).await?;
        waiting.insert(id);
    }
    loop {
        let record = sink.peek().await?.unwrap_or_default();
        if !record.requests.iter().any(|request| waiting.contains(&request.id)) {
            let refused = record.refused.iter().find(|refused| waiting.contains(&refused.id));
            return match refused {
                Some(refused) => Err(Error::new(refused.code, refused.message.clone())),
                None => answered(&record, names).map(|()| true),
            };
        }
        if !is_there().await? {
            tracing::info!("the process has ended meanwhile: the copy is made here");
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn answered(record: &PipelineRecord, names: &BTreeSet<TableName>) -> Result<()> {
    match record.stopped.values().find(|stopped| names.contains(&stopped.name)) {
        Some(stopped) => Err(Error::new(stopped.code, stopped.message.clone())),
        None => Ok(()),
    }
}

fn table_name(text: &str) -> Result<TableName> {
    let bare = text.replace('"', "");
    let beside = [TableName::messages(), TableName::definitions()];
    if let Some(name) = beside.into_iter().find(|name| name.table == bare) {
        return Ok(name);
    }
    match bare.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(TableName::new(schema, table)),
        _ => Err(Error::new(codes::CF005, format!("\"{text}\" is not a table"))
            .with_try("name it as schema.table, for example public.orders")),
    }
}

/// What control table and slot say, without asking the process.
///
/// # Errors
/// Those of the target; a source that cannot be asked is a reason in the status.
pub async fn offline_status(cfg: Config) -> Result<Status> {
    let mut status = OfflineStatus::default();
    status.source.address = Some(cfg.source.address.to_string());
    if cfg.source.kind == model::SourceKind::Postgres {
        status.source.slot = Some(cfg.source.slot.clone());
        status.source.publication = Some(cfg.source.publication.clone());
    }
    let record = match &cfg.sink.target {
        model::SinkTarget::Delta { uri } => {
            DeltaSink::open(uri.as_str(), &cfg.name, &store_options(&cfg))?.peek().await?
        }
        model::SinkTarget::Kafka(target) => {
            KafkaSink::new(kafka_options(&cfg, target).await?)?.peek().await?
        }
        model::SinkTarget::Stdout | model::SinkTarget::Discard => None,
    };
    if let Some(record) = &record {
        show_record(&mut status, record);
    }
    if let Err(error) = show_source(&cfg, &mut status, record.as_ref()).await {
        let severity = crate::telemetry::status::Severity::Warning;
        status.reasons.push(crate::telemetry::status::Reason::from_error(&error, severity));
    }
    Ok(status.into_status(&cfg.name))
}

fn show_record(status: &mut OfflineStatus, record: &PipelineRecord) {
    if let Some(cut) = &record.cut {
        status.position = Some(PositionText(cut.position.lsn()));
        for table in cut.tables.values() {
            let mut shown = TableStatus::new(&table.name, TableState::Live);
            shown.position = Some(PositionText(table.position.lsn()));
            shown.version = Some(table.version);
            status.tables.push(shown);
        }
    }
    for stopped in record.stopped.values() {
        let mut shown = TableStatus::new(&stopped.name, TableState::Stopped);
        shown.stop(stopped.code, stopped.message.clone());
        shown.position =
            Some(PositionText(stopped.position.lsn())).filter(|_| stopped.position > CommitLsn::ZERO);
        status.tables.retain(|table| table.name != shown.name);
        status.tables.push(shown);
    }
    if let Some(lineage) = &record.lineage {
        status.source.system_id = Some(lineage.system_id.clone());
        status.source.timeline = Some(lineage.timeline);
    }
}

async fn show_source(
    cfg: &Config,
    status: &mut OfflineStatus,
    record: Option<&PipelineRecord>,
) -> Result<()> {
    if cfg.source.kind == model::SourceKind::MySql {
        return mysql::show_source(cfg, status).await;
    }
    show_postgres(cfg, status, record).await?;
    let ends = status.source.server_flushed.zip(status.position);
    status.lag_bytes = ends.map(|(end, position)| end.0.bytes_since(position.0));
    Ok(())
}

async fn show_postgres(
    cfg: &Config,
    status: &mut OfflineStatus,
    record: Option<&PipelineRecord>,
) -> Result<()> {
    let options = pg_options(cfg).await?;
    let sql = Sql::connect(&options).await?;
    let found = slot::inspect(&sql, &options.slot).await?;
    status.source.server_version = Some(sql.major().to_string());
    status.source.slot_active = Some(found.as_ref().is_some_and(|slot| slot.active_pid.is_some()));
    status.source.retained_bytes = found.as_ref().and_then(|slot| slot.retained_bytes);
    status.acknowledged = found.as_ref().and_then(|slot| slot.confirmed_flush).map(PositionText);
    let point = slot::identify(&options).await?;
    status.source.server_flushed = Some(PositionText(point.flushed));
    // A process that streams looks for itself, and moves what is compared here.
    if let Some(record) = record.filter(|_| status.source.slot_active != Some(true))
        && let Err(error) = inspect::check_history(&point, found.as_ref(), record)
    {
        let severity = crate::telemetry::status::Severity::Error;
        status.reasons.push(crate::telemetry::status::Reason::from_error(&error, severity));
    }
    Ok(())
}

/// Where indexes are saved: `$STRANDLINE_CACHE_DIR`, or the user's cache directory.
fn cache_directory() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    of("STRANDLINE_CACHE_DIR")
        .or_else(|| of("XDG_CACHE_HOME").map(|dir| dir.join("strandline")))
        .or_else(|| of("HOME").map(|dir| dir.join(".cache/strandline")))
}

/// Merges files into a Delta table by key, one commit each, and prints a JSON line for each.
///
/// # Errors
/// As a commit of the stream.
pub(super) async fn bench_merge(args: super::args::MergeArgs) -> Result<()> {
    let super::args::MergeArgs { table, key, upkeep, cache, index_mib, files } = args;
    let Some(first) = files.first() else {
        return Err(Error::new(codes::CF005, "no file to merge"));
    };
    let like = bench::read_file(first)?.schema();
    let began = std::time::Instant::now();
    let mut bench =
        bench::MergeBench::open(&table, &key, &like, upkeep, cache, index_mib.map(|mib| mib << 20)).await?;
    let ready = serde_json::json!({
        "ready": 1, "open_s": began.elapsed().as_secs_f64(), "index_bytes": bench.index_bytes(),
    });
    super::output::out(&ready.to_string());
    let mut batches = Vec::new();
    if upkeep {
        batches = files.iter().map(|file| bench::read_file(file)).collect::<Result<Vec<_>>>()?;
    }
    let began = std::time::Instant::now();
    for (batch, file) in files.iter().enumerate() {
        let merged = match batches.get(batch) {
            Some(rows) => bench.merge(rows).await?,
            None => bench.merge(&bench::read_file(file)?).await?,
        };
        let landed = bench.upkeep().await?;
        let line = serde_json::json!({
            "batch": batch, "s": merged.took.as_secs_f64(), "rows": merged.rows,
            "files_touched": merged.files_touched, "dv_bytes": merged.vector_bytes,
            "landed_s": landed.map(|took| took.as_secs_f64()),
        });
        super::output::out(&line.to_string());
    }
    let tally = bench.tally();
    let line = serde_json::json!({
        "total_s": began.elapsed().as_secs_f64(), "jobs": tally.jobs, "void": tally.void,
        "bytes_read": tally.bytes_read, "bytes_written": tally.bytes_written,
        "index_bytes": bench.index_bytes(),
    });
    super::output::out(&line.to_string());
    Ok(())
}
