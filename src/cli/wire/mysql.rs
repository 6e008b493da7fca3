//! MySQL and MariaDB, as the configuration names them.

use super::{CONNECT_TIMEOUT, answered};
use crate::binlog::{Policies, WideDecimal, ZeroDates};
use crate::config::{self as model, Config};
use crate::debezium::Connector;
use crate::error::finding::Finding;
use crate::error::{Error, Result, codes};
use crate::schema::TableName;
use crate::sink::delta::DeltaSink;
use crate::sink::{Request, Sink};
use crate::source::mysql::adapter::{MySettings, MySource};
use crate::source::mysql::catalog::{self, Known, View};
use crate::source::mysql::doctor::{self, Examined, Recorded};
use crate::source::mysql::lock::Lock;
use crate::source::mysql::options::{MyOptions, TlsMode};
use crate::source::mysql::server::Server;
use crate::source::mysql::sql::Sql;
use crate::source::pattern::Selection;
use crate::telemetry::status::{OfflineStatus, PositionText};
use std::collections::BTreeSet;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);

/// The source.
pub(super) async fn source(cfg: &Config) -> Result<MySource> {
    Ok(MySource::new(MySettings {
        options: options(cfg).await?,
        selection: selection(cfg)?,
        policies: policies(cfg),
        copy_workers: cfg.snapshot.workers,
        for_events: super::writes_events(cfg),
    }))
}

/// Events that are not written yet.
pub(super) fn check_sink(cfg: &Config) -> Result<()> {
    if super::writes_events(cfg) && cfg.format.provide_transaction_metadata {
        let what = "format.debezium.provide_transaction_metadata is not built for MySQL and MariaDB yet";
        return Err(Error::new(codes::CF004, what).with_try("remove the key"));
    }
    Ok(())
}

/// Whose events they are: the server says.
pub(super) async fn connector(cfg: &Config) -> Result<Connector> {
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
    let password = source.password.resolve().await?;
    Ok(MyOptions {
        host: source.address.host.clone(),
        port: source.address.port,
        user: source.address.user.clone(),
        password: password.map(|p| p.expose().to_owned()),
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
pub(super) async fn setup(cfg: &Config, print: bool) -> Result<()> {
    let user = &cfg.source.address.user;
    let script = format!(
        "-- strandline reads the binary log and makes nothing on the source\n\
         GRANT SELECT, RELOAD, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{user}'@'%';\n"
    );
    if print {
        super::super::output::out(&script);
        return Ok(());
    }
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    Server::identify(&mut sql).await?;
    sql.close().await;
    tracing::info!("nothing to do: strandline makes nothing on a MySQL or MariaDB; --print shows the grants");
    Ok(())
}

/// Asks the process that runs for new copies, if one does. False: none does, or it has gone.
pub(super) async fn is_answered(cfg: &Config, names: &BTreeSet<TableName>) -> Result<bool> {
    let settings = options(cfg).await?;
    let mut sql = Sql::connect(&settings).await?;
    let found = catalog::load(&mut sql, &selection(cfg)?, view(cfg), Known::default()).await?;
    for name in names {
        if let Some((_, _, error)) = found.refused.iter().find(|(_, refused, _)| refused == name) {
            return Err(
                Error::new(error.code(), error.cause_line()).with_try(error.advice().unwrap_or_default())
            );
        }
        if !found.tables.iter().any(|t| t.schema.name == *name) {
            return Err(Error::new(codes::MY010, format!("the source has no table \"{name}\" to replicate"))
                .with_try("check the name, and tables.include in the configuration"));
        }
    }
    let holder = Lock::holder(&mut sql, &cfg.name).await?;
    let (Some(connection), model::SinkTarget::Delta { uri }) = (holder, &cfg.sink.target) else {
        return Ok(false);
    };
    tracing::info!(connection, "a process of this pipeline runs: it is asked to copy");
    let sink = DeltaSink::open(uri.as_str(), &cfg.name, &super::store_options(cfg))?;
    let mut waiting = BTreeSet::new();
    for name in names {
        let id = uuid::Uuid::new_v4().simple().to_string();
        sink.request(&Request { id: id.clone(), table: name.clone() }).await?;
        waiting.insert(id);
    }
    loop {
        let record = sink.peek().await?.unwrap_or_default();
        if !record.requests.iter().any(|request| waiting.contains(&request.id)) {
            return answered(&record, names).map(|()| true);
        }
        if Lock::holder(&mut sql, &cfg.name).await?.is_none() {
            tracing::info!("the process has ended meanwhile: the copy is made here");
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What the server says, without the process.
pub(super) async fn show_source(cfg: &Config, status: &mut OfflineStatus) -> Result<()> {
    let mut sql = Sql::connect(&options(cfg).await?).await?;
    let server = Server::identify(&mut sql).await?;
    let end = server.log_end(&mut sql).await?;
    let shift = status.source.timeline.unwrap_or(0);
    status.source.server_version = Some(server.version.clone());
    status.source.slot_active = Some(Lock::holder(&mut sql, &cfg.name).await?.is_some());
    if let Ok(position) = end.point.position(shift) {
        status.source.server_flushed = Some(PositionText(position.lsn()));
    }
    sql.close().await;
    Ok(())
}
