//! What the commands that only look ask of source and target.

use super::{KafkaSink, Result, Sink, Sql, model, pg_settings};
use crate::config::Config;
use crate::error::finding::{Finding, Verdict};
use crate::error::{Error, codes};
use crate::position::{CommitLsn, ServerPoint};
use crate::schema::{TableName, TableSchema};
use crate::sink::{PipelineRecord, StoppedTable};
use crate::source::SlotState;
use crate::source::mysql::catalog::{Catalog as MyCatalog, MyTable};
use crate::source::mysql::doctor::{Examined as MyExamined, Recorded};
use crate::source::postgres::catalog::{self, Catalog, SourceTable as CatalogTable};
use crate::source::postgres::doctor::{Examined, Given, LONG_TRANSACTION, examine};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A cluster that elects a leader may take some seconds.
const BROKERS_WITHIN: Duration = Duration::from_secs(20);

/// What was found everywhere.
#[derive(Debug, Default)]
pub struct Examination {
    /// The source's server, for people; none when it cannot be asked.
    pub server: Option<String>,
    /// In order.
    pub findings: Vec<Finding>,
}

/// Looks at source and target; `long`: transactions that are open for longer are named.
pub async fn doctor(cfg: &Config, target_only: bool, long: Option<Duration>) -> Examination {
    source_and_target(cfg, target_only, long.unwrap_or(LONG_TRANSACTION)).await
}

/// What the target says of itself, and what it knows of the pipeline; `tables`: the source's.
async fn target(cfg: &Config, tables: &[&TableSchema]) -> (Vec<Finding>, Option<PipelineRecord>) {
    let sink = match &cfg.sink.target {
        model::SinkTarget::Delta { .. } => super::delta(cfg),
        model::SinkTarget::Kafka(target) => return brokers(cfg, target).await,
        model::SinkTarget::Stdout | model::SinkTarget::Discard => return (Vec::new(), None),
    };
    match sink {
        Ok(sink) => {
            let mut findings = sink.examine(tables).await;
            let record = sink.peek().await.unwrap_or_else(|error| {
                findings.push(Finding::of_error(&error, "position", Verdict::Stops));
                None
            });
            (findings, record)
        }
        Err(error) => (vec![Finding::of_error(&error, "target_write", Verdict::Stops)], None),
    }
}

/// Whether the brokers answer and let the pipeline's record be read: name, port, TLS, login, topic. And the record.
async fn brokers(cfg: &Config, target: &model::KafkaTarget) -> (Vec<Finding>, Option<PipelineRecord>) {
    let check = "brokers";
    let asked = async {
        let sink = KafkaSink::new(super::kafka_options(cfg, target).await?)?;
        tokio::time::timeout(BROKERS_WITHIN, sink.peek()).await.unwrap_or_else(|_| {
            let what = format!("{target} does not answer within {} s", BROKERS_WITHIN.as_secs());
            Err(Error::new(codes::KF001, what).with_try("check sink.brokers, the network, and sink.tls"))
        })
    };
    match asked.await {
        Ok(record) => {
            let is_there = record.as_ref().is_some_and(|record| record.cut.is_some());
            let what = if is_there { "the pipeline's record is there" } else { "nothing is recorded yet" };
            let found = Finding::good(codes::KF001, check, format!("the brokers answer; {what}"));
            (vec![found], record)
        }
        Err(error) => (vec![Finding::of_error(&error, check, Verdict::Stops)], None),
    }
}

async fn source_and_target(cfg: &Config, target_only: bool, long: Duration) -> Examination {
    if cfg.source.kind == model::SourceKind::MySql {
        return doctor_mysql(cfg, target_only).await;
    }
    let mut found = Examination::default();
    let mut source = None;
    let began = Instant::now();
    match source_of(cfg, long).await {
        Ok(examined) => {
            let took = began.elapsed().as_millis();
            found.server = Some(format!("PostgreSQL {} ({})", examined.version, examined.provider));
            tracing::debug!(took_ms = took, "looked at the source");
            source = Some(examined);
        }
        Err(error) => found.findings.push(Finding::of_error(&error, "connect", Verdict::Stops)),
    }
    if let (Some(examined), false) = (&source, target_only) {
        found.findings.extend(examined.findings.iter().cloned());
    }
    let tables: Vec<&TableSchema> =
        source.iter().flat_map(|examined| examined.catalog.tables.iter().map(|t| &*t.schema)).collect();
    let (findings, record) = target(cfg, &tables).await;
    found.findings.extend(findings);
    if let (Some(examined), Some(record)) = (&source, &record) {
        found.findings.extend(position(record, examined));
    }
    found
}

async fn doctor_mysql(cfg: &Config, target_only: bool) -> Examination {
    let mut found = Examination::default();
    let examined = match super::mysql::examine(cfg).await {
        Ok(examined) => {
            found.server = Some(examined.server.described());
            if !target_only {
                found.findings.extend(examined.findings.iter().cloned());
            }
            Some(examined)
        }
        Err(error) => {
            found.findings.push(Finding::of_error(&error, "connect", Verdict::Stops));
            None
        }
    };
    let tables: Vec<&TableSchema> =
        examined.iter().flat_map(|e| e.catalog.tables.iter().map(|t| &*t.schema)).collect();
    let (findings, record) = target(cfg, &tables).await;
    found.findings.extend(findings);
    if let (Some(examined), Some(record)) = (&examined, record) {
        found.findings.extend(position_mysql(cfg, record, examined).await);
    }
    found
}

async fn position_mysql(cfg: &Config, record: PipelineRecord, examined: &MyExamined) -> Vec<Finding> {
    let check = "position";
    let mut findings = stopped(&record);
    // A running process moves on while we look: its own checks are the better ones.
    if examined.is_read {
        return findings;
    }
    let found = match (record.lineage, record.cut) {
        (Some(lineage), Some(cut)) => {
            let recorded = Recorded { lineage, position: cut.position, marks: cut.marks };
            super::mysql::position(cfg, examined, &recorded).await
        }
        _ => Ok(Finding::good(codes::MY040, check, "nothing is recorded yet")),
    };
    findings.push(found.unwrap_or_else(|error| Finding::of_error(&error, check, Verdict::Stops)));
    findings
}

fn stopped(record: &PipelineRecord) -> Vec<Finding> {
    let finding = |stopped: &StoppedTable| {
        let found = format!("table \"{}\" is stopped: {}", stopped.name, stopped.message);
        Finding::new(stopped.code, "stopped", Verdict::StopsTable, found)
            .advise(format!("strandline resync {} --yes", stopped.name))
            .of_table(&stopped.name)
    };
    record.stopped.values().map(finding).collect()
}

async fn source_of(cfg: &Config, long_transaction: Duration) -> Result<Examined> {
    let settings = pg_settings(cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let given = Given {
        options: &settings.options,
        selection: &settings.selection,
        policies: &settings.policies,
        creates: settings.create_if_missing,
        long_transaction,
    };
    examine(&sql, &given).await
}

/// Whether the source still holds what comes after the recorded position.
fn position(record: &PipelineRecord, examined: &Examined) -> Vec<Finding> {
    let check = "position";
    let mut findings = stopped(record);
    let Some(point) = &examined.point else { return findings };
    // A running process moves slot and cut while we look: its own checks are the better ones.
    if examined.slot.as_ref().is_some_and(|slot| slot.active_pid.is_some()) {
        return findings;
    }
    findings.push(match check_history(point, examined.slot.as_ref(), record) {
        Err(error) => Finding::of_error(&error, check, Verdict::Stops),
        Ok(()) => match &record.cut {
            Some(cut) => {
                Finding::good(codes::PG040, check, format!("the source holds what follows {}", cut.position))
            }
            None => Finding::good(codes::PG040, check, "nothing is recorded yet"),
        },
    });
    findings
}

/// Compares source and record, as every start does.
///
/// # Errors
/// The losses.
pub fn check_history(
    point: &ServerPoint,
    slot: Option<&super::SlotState>,
    record: &PipelineRecord,
) -> Result<()> {
    let slot = slot.map(|slot| SlotState {
        plugin: slot.plugin.clone().unwrap_or_default(),
        database: slot.database.clone().unwrap_or_default(),
        confirmed_flush: CommitLsn::of_keepalive(slot.confirmed_flush.unwrap_or(crate::position::Lsn::ZERO)),
        wal_lost: slot.wal_status.as_deref() == Some("lost"),
    });
    // Before the first cut there is nothing that a missing slot could lose.
    match (&slot, &record.cut) {
        (None, Some(_)) => Err(crate::runtime::slot_missing()),
        _ => crate::runtime::check_record(point, slot.as_ref(), record),
    }
}

/// The pipeline's own record in the target; `None` where there is none.
///
/// # Errors
/// Those of the target.
pub async fn record(cfg: &Config) -> Result<Option<PipelineRecord>> {
    match &cfg.sink.target {
        model::SinkTarget::Delta { .. } => super::delta(cfg)?.peek().await,
        model::SinkTarget::Kafka(target) => {
            KafkaSink::new(super::kafka_options(cfg, target).await?)?.peek().await
        }
        model::SinkTarget::Stdout | model::SinkTarget::Discard => Ok(None),
    }
}

/// The record as JSON: documented in `docs/CLI.md`.
pub fn record_json(name: &str, record: &PipelineRecord) -> Value {
    let cut = record.cut.as_ref().map(|cut| {
        let tables: Vec<Value> = cut
            .tables
            .values()
            .map(|table| {
                json!({
                    "name": table.name.to_string(),
                    "source_id": table.id.0,
                    "target_id": table.target_id,
                    "version": table.version,
                    "position": table.position.to_string(),
                })
            })
            .collect();
        let witness = cut.witness.map(
            |w| json!({"end": w.end.to_string(), "xid": w.xid, "commit_time_us_since_2000": w.commit_time}),
        );
        json!({"position": cut.position.to_string(), "witness": witness, "tables": tables})
    });
    let stopped: Vec<Value> = record
        .stopped
        .values()
        .map(|table| {
            json!({
                "name": table.name.to_string(),
                "source_id": table.id.0,
                "code": table.code.id,
                "message": table.message,
                "position": table.position.to_string(),
            })
        })
        .collect();
    json!({
        "pipeline": name,
        "lineage": record.lineage.as_ref().map(|l| json!({
            "system_id": l.system_id, "timeline": l.timeline, "database": l.database,
        })),
        "cut": cut,
        "stopped": stopped,
        "requests": record.requests.iter().map(|r| json!({"id": r.id, "table": r.table.to_string()})).collect::<Vec<_>>(),
    })
}

/// A table of the source.
#[derive(Clone, Debug)]
pub struct KnownTable {
    /// Name.
    pub name: TableName,
    /// Rows, as the server estimates.
    pub rows: Option<u64>,
    /// Bytes of its rows.
    pub bytes: u64,
    /// Its updates and deletes are replicated, too.
    pub has_changes: bool,
}

/// The source's tables as the configuration selects them.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Those that can be replicated.
    pub tables: Vec<KnownTable>,
    /// Those that cannot, and why.
    pub refused: Vec<(TableName, String)>,
}

impl Known {
    fn of(catalog: &Catalog) -> Self {
        let table = |t: &CatalogTable| KnownTable {
            name: t.name().clone(),
            rows: t.rows_estimate,
            bytes: t.bytes,
            has_changes: t.publishes_changes(),
        };
        Known {
            tables: catalog.tables.iter().map(table).collect(),
            refused: catalog.rejected.iter().map(|r| (r.name.clone(), r.error.to_string())).collect(),
        }
    }

    fn of_mysql(catalog: &MyCatalog) -> Self {
        let table = |t: &MyTable| KnownTable {
            name: t.schema.name.clone(),
            rows: t.estimated_rows,
            bytes: t.bytes,
            has_changes: true,
        };
        Known {
            tables: catalog.tables.iter().map(table).collect(),
            refused: catalog.refused.iter().map(|(_, name, e)| (name.clone(), e.to_string())).collect(),
        }
    }
}

/// The source's tables.
///
/// # Errors
/// Those of the connection.
pub async fn tables(cfg: &Config) -> Result<Known> {
    if cfg.source.kind == model::SourceKind::MySql {
        return super::mysql::known_tables(cfg).await;
    }
    let settings = pg_settings(cfg).await?;
    let sql = Sql::connect(&settings.options).await?;
    let catalog = catalog::load(&sql, &settings.selection, &settings.policies).await?;
    Ok(Known::of(&catalog))
}

/// A database that was looked at for the first time.
#[derive(Debug)]
pub struct Introduced {
    /// The server, for people.
    pub server: String,
    /// Its tables.
    pub known: Known,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Looks at a database for the first time.
///
/// # Errors
/// Those of the connection.
pub async fn introduce(cfg: &Config) -> Result<Introduced> {
    if cfg.source.kind == model::SourceKind::MySql {
        let examined = super::mysql::examine(cfg).await?;
        return Ok(Introduced {
            server: examined.server.described(),
            known: Known::of_mysql(&examined.catalog),
            findings: examined.findings,
        });
    }
    let examined = source_of(cfg, LONG_TRANSACTION).await?;
    Ok(Introduced {
        server: format!("PostgreSQL {} ({})", examined.version, examined.provider),
        known: Known::of(&examined.catalog),
        findings: examined.findings,
    })
}
