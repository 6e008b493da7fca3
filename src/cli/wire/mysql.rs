//! MySQL and MariaDB, as the configuration names them.

use super::CONNECT_TIMEOUT;
use crate::binlog::{Policies, WideDecimal, ZeroDates};
use crate::config::{self as model, Config};
use crate::debezium::{Connector, Style};
use crate::error::finding::Finding;
use crate::error::{Disposition, Error, Result, codes};
use crate::position::Lsn;
use crate::runtime::StopSignal;
use crate::schema::TableName;
use crate::sink::delta::DeltaSink;
use crate::source::Source;
use crate::source::mysql::adapter::{MySettings, MySource};
use crate::source::mysql::catalog::{self, Known, View};
use crate::source::mysql::doctor::{self, Examined, Recorded};
use crate::source::mysql::lock::Lock;
use crate::source::mysql::logfiles;
use crate::source::mysql::options::{MyOptions, Passwords, Patience, TlsMode};
use crate::source::mysql::server::Server;
use crate::source::mysql::sql::Sql;
use crate::source::pattern::Selection;
use crate::telemetry::status::{OfflineStatus, PositionText, StatusBoard};
use std::collections::BTreeSet;
use std::time::Duration;

/// The source.
pub(super) async fn source(cfg: &Config) -> Result<MySource> {
    Ok(MySource::new(MySettings {
        options: options(cfg).await?,
        selection: selection(cfg)?,
        policies: policies(cfg),
        copy_workers: cfg.snapshot.workers,
        for_events: super::writes_events(cfg),
        tells_definitions: super::writes_events(cfg)
            && cfg.format.include_schema_changes
            && cfg.format.style != Style::Native,
    }))
}

/// Whose events they are: the server says, once it answers. `None`: the run was ended before it did.
pub(super) async fn connector(
    cfg: &Config,
    board: &StatusBoard,
    mut stop: StopSignal,
) -> Result<Option<Connector>> {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        match ask_connector(cfg).await {
            Ok(connector) => return Ok(Some(connector)),
            Err(error) if error.code().disposition == Disposition::Retry => {
                tracing::warn!(code = %error.code(), "{}; trying again", error.cause_line());
                board.set_retrying(&error);
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.wait() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

pub(super) async fn ask_connector(cfg: &Config) -> Result<Connector> {
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let version = sql.row("SELECT VERSION()").await?.into_iter().next().flatten().unwrap_or_default();
    sql.close().await;
    Ok(if version.contains("MariaDB") { Connector::Mariadb } else { Connector::Mysql })
}

fn selection(cfg: &Config) -> Result<Selection> {
    let patterns =
        |list: &[model::TablePattern]| -> Vec<String> { list.iter().map(ToString::to_string).collect() };
    Selection::parse(&patterns(&cfg.tables.include), &patterns(&cfg.tables.exclude))
}

async fn options(cfg: &Config) -> Result<MyOptions> {
    let source = &cfg.source;
    let secret = source.password.clone();
    let passwords = Passwords::new(move || {
        let secret = secret.clone();
        Box::pin(async move { Ok(secret.resolve().await?.map(|p| p.expose().to_owned())) })
    });
    // What cannot be had is said before anything else is tried.
    source.password.resolve().await?;
    Ok(MyOptions {
        host: source.address.host.clone(),
        port: source.address.port,
        user: source.address.user.clone(),
        passwords,
        tls: match source.tls.mode {
            model::TlsMode::Disable => TlsMode::Disable,
            model::TlsMode::Prefer => TlsMode::Prefer,
            model::TlsMode::Require => TlsMode::Require,
            model::TlsMode::VerifyCa => TlsMode::VerifyCa,
            model::TlsMode::VerifyFull => TlsMode::VerifyFull,
        },
        ca: source.tls.ca.clone(),
        identity: source.tls.identity.clone(),
        pipeline: cfg.name.clone(),
        connect_timeout: CONNECT_TIMEOUT,
        patience: Patience::default(),
        queries: cfg.format.include_query,
    })
}

/// The server's tables as the configuration selects them. How many bytes they have is not asked.
pub(super) async fn known_tables(cfg: &Config) -> Result<super::inspect::Known> {
    use super::inspect::{Known as Found, KnownTable};
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let view = View { policies: policies(cfg), full_before: false };
    let found = catalog::load(&mut sql, &selection(cfg)?, view, Known::default()).await?;
    sql.close().await;
    let tables = found.tables.iter().map(|table| KnownTable {
        name: table.schema.name.clone(),
        rows: table.estimated_rows,
        bytes: 0,
        has_changes: true,
    });
    Ok(Found {
        tables: tables.collect(),
        refused: found.refused.iter().map(|(_, name, error)| (name.clone(), error.to_string())).collect(),
    })
}

/// The choices that PostgreSQL's `numeric` and `infinity` have, for what is like them.
fn policies(cfg: &Config) -> Policies {
    if super::writes_events(cfg) {
        // Events have a number as text, and of a date that no calendar has that it is none.
        return Policies { wide_decimal: WideDecimal::Text, zero_dates: ZeroDates::Null };
    }
    Policies {
        wide_decimal: match cfg.sink.numeric_unbounded {
            model::NumericUnbounded::String => WideDecimal::Text,
            model::NumericUnbounded::Decimal { precision, scale } => {
                WideDecimal::Decimal { precision, scale }
            }
            model::NumericUnbounded::Double => WideDecimal::Double,
        },
        zero_dates: match cfg.sink.infinity {
            model::InfinityPolicy::Stop => ZeroDates::Stop,
            model::InfinityPolicy::Null => ZeroDates::Null,
        },
    }
}

/// Looks at the server, for an administrator.
pub(super) async fn examine(cfg: &Config) -> Result<Examined> {
    doctor::examine(&options(cfg).await?, &selection(cfg)?, view(cfg)).await
}

/// Whether the server still holds what comes after what is recorded.
pub(super) async fn position(cfg: &Config, examined: &Examined, recorded: &Recorded) -> Result<Finding> {
    doctor::position(&options(cfg).await?, &examined.server, recorded).await
}

/// Whether a process of this pipeline reads.
pub(super) async fn is_read(cfg: &Config) -> Result<bool> {
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let holder = Lock::holder(&mut sql, &cfg.name).await?;
    sql.close().await;
    Ok(holder.is_some())
}

fn view(cfg: &Config) -> View {
    View { policies: policies(cfg), full_before: super::writes_events(cfg) }
}

/// What `setup` would run: the grants. It is for an administrator to run them.
pub(super) async fn setup(cfg: &Config, print: bool) -> Result<String> {
    let user = &cfg.source.address.user;
    let script = format!(
        "-- strandline reads the binary log and makes nothing on the source\n\
         GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%';\n"
    );
    if print {
        return Ok(script);
    }
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    Server::identify(&mut sql).await?;
    sql.close().await;
    tracing::info!("nothing to do: strandline makes nothing on a MySQL or MariaDB; --print shows the grants");
    Ok(String::new())
}

/// Asks the process that runs for new copies, if one does. False: none does, or it has gone.
pub(super) async fn is_answered(cfg: &Config, names: &BTreeSet<TableName>) -> Result<bool> {
    let settings = options(cfg).await?;
    let mut sql = Sql::connect(&settings).await?;
    let found = catalog::load(&mut sql, &selection(cfg)?, view(cfg), Known::default()).await?;
    MySource::CODES.check_names(
        names,
        |name| found.tables.iter().any(|t| t.schema.name == *name),
        |name| found.refused.iter().find(|(_, refused, _)| refused == name).map(|(_, _, error)| error),
    )?;
    let holder = Lock::holder(&mut sql, &cfg.name).await?;
    let (Some(connection), model::SinkTarget::Delta { uri }) = (holder, &cfg.sink.target) else {
        return Ok(false);
    };
    tracing::info!(connection, "a process of this pipeline runs: it is asked to copy");
    let sink = DeltaSink::open(uri.as_str(), &cfg.name, &super::store_options(cfg))?;
    super::ask(&sink, names, None, async || Ok(Lock::holder(&mut sql, &cfg.name).await?.is_some())).await
}

/// The binary log, for people.
///
/// # Errors
/// `CF003` for another source; those of the connection.
pub async fn binlog(cfg: &Config) -> Result<BinlogShown> {
    if cfg.source.kind != model::SourceKind::MySql {
        let what = "the source is a PostgreSQL, which has no binary log";
        return Err(Error::new(codes::CF003, what).with_try("strandline slot show"));
    }
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let server = Server::identify(&mut sql).await?;
    let end = server.log_end(&mut sql).await?;
    let files = server.files(&mut sql).await?;
    sql.close().await;
    let record = super::inspect::record(cfg).await?;
    let named = |file: u32| format!("{}.{file:06}", end.base);
    Ok(BinlogShown {
        server: server.version.clone(),
        end: format!("{}:{}", named(end.point.file), end.point.offset),
        executed: end.executed.replace('\n', ""),
        files: files.iter().map(|file| (named(file.file), file.offset)).collect(),
        position: record.and_then(|record| record.cut).map(|cut| cut.position.to_string()),
    })
}

/// See [`binlog`].
pub struct BinlogShown {
    /// The server's version.
    pub server: String,
    /// File and offset.
    pub end: String,
    /// GTIDs that are committed.
    pub executed: String,
    /// Files, oldest first, with their bytes.
    pub files: Vec<(String, u64)>,
    /// Of the last cut.
    pub position: Option<String>,
}

/// What the server says, without the process.
pub(super) async fn show_source(cfg: &Config, status: &mut OfflineStatus) -> Result<()> {
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let server = Server::identify(&mut sql).await?;
    let shift = status.source.timeline.unwrap_or(0);
    status.source.server_version = Some(server.version.clone());
    status.source.slot_active = Some(Lock::holder(&mut sql, &cfg.name).await?.is_some());
    let held = status.position.map_or(Lsn::ZERO, |position| position.0);
    let (lag, end) = logfiles::lag(&mut sql, &server, shift, held).await?;
    status.source.server_flushed = Some(PositionText(end));
    status.lag_bytes = lag.filter(|_| status.position.is_some());
    sql.close().await;
    Ok(())
}
