//! What `strandline doctor` looks at in a lake: whether it can be written, by the one primitive that exactness
//! needs, and whether what is there is ours. It leaves nothing behind.

use super::storage::{Put, TableFiles};
use super::{DeltaSink, log, state, table};
use crate::error::finding::{Finding, Verdict};
use crate::error::{Error, Result, codes};
use crate::schema::{ColumnKind, TableName, TableSchema};
use bytes::Bytes;
use serde::Deserialize;

/// A clock that is off by more is worth a word.
const CLOCK_SECONDS: i64 = 60;
/// Where the probe writes, below `_strandline`.
const PROBE: &str = "probe";

impl DeltaSink {
    /// Looks at the lake; `tables` are those that will be written.
    pub async fn examine(&self, tables: &[&TableSchema]) -> Vec<Finding> {
        let mut findings = match self.storage.table(&["_strandline", PROBE]) {
            Ok(files) => write(&files).await.unwrap_or_else(|error| vec![stops(&error)]),
            Err(error) => vec![stops(&error)],
        };
        if findings.iter().any(Finding::is_error) {
            return findings;
        }
        findings.push(readers(tables));
        for schema in tables {
            match self.belongs(schema).await {
                Ok(()) => {}
                Err(error) if error.code() == codes::TG001 => findings.push(stops(&error)),
                Err(error) => findings.push(
                    Finding::of_error(&error, "target_table", Verdict::StopsTable).of_table(&schema.name),
                ),
            }
        }
        findings
    }

    /// Whether a table can be opened: it is not there, or it is ours.
    async fn belongs(&self, schema: &TableSchema) -> Result<()> {
        #[derive(Deserialize)]
        struct Owner {
            pipeline: String,
        }
        let TableName { schema: folder, table: name } = &schema.name;
        table::check_names(schema)?;
        let files = self.storage.table(&[folder, name])?;
        if !files.has_log().await? {
            return Ok(());
        }
        let loaded = table::load(&files, &log::AppIds::new(&self.pipeline)).await?;
        let refuse = |code, what: &str, advice: &str| {
            let what = format!("table \"{}\": \"{}\" {what}", schema.name, files.url());
            Err(Error::new(code, what).with_try(advice))
        };
        let Some(document) = loaded.metadata.configuration.get(state::KEY) else {
            let what = "holds a Delta table that strandline did not make";
            return refuse(codes::TG010, what, "move that table away, or use another sink uri");
        };
        let owner: Owner = serde_json::from_str(document)
            .map_err(|e| Error::new(codes::TG020, "a strandline.state cannot be read").with_source(e))?;
        if owner.pipeline != self.pipeline {
            let what = format!("belongs to the pipeline \"{}\"", owner.pipeline);
            return refuse(codes::TG017, &what, "use that pipeline's name, or another sink uri");
        }
        table::check_supported(&loaded.protocol, &loaded.metadata)
    }
}

fn stops(error: &Error) -> Finding {
    Finding::of_error(error, "target_write", Verdict::Stops)
}

/// Put, put again (refused), read, list, delete.
async fn write(files: &TableFiles) -> Result<Vec<Finding>> {
    let name = format!("{}.probe", uuid::Uuid::new_v4().simple());
    let ours = Bytes::from_static(b"strandline doctor\n");
    let began = table::now_ms();
    files.create_dirs()?;
    let first = files.put_if_absent(&name, ours.clone()).await?;
    let second = files.put_if_absent(&name, Bytes::from_static(b"another\n")).await?;
    let read = files.get(&name).await?;
    let listed = files.list_data().await?.into_iter().find(|listed| listed.name == name);
    files.delete(&name).await?;
    files.remove_probe();
    let place = files.url().as_str().trim_end_matches(&format!("_strandline/{PROBE}/")).to_owned();
    if (first, second) != (Put::Written, Put::Exists) || read.as_ref() != Some(&ours) {
        let what = format!("\"{place}\" does not refuse to write a file that is there already");
        return Err(Error::new(codes::TG003, what)
            .with_try("strandline needs conditional puts (If-None-Match): use a store that has them"));
    }
    let mut findings = vec![Finding::good(
        codes::TG003,
        "target_write",
        format!("\"{place}\": put, conditional put, get, list, delete"),
    )];
    let Some(listed) = listed else {
        return Err(Error::new(
            codes::TG003,
            format!("\"{place}\" does not list a file that was just written"),
        ));
    };
    let off = (listed.modified_ms - began) / 1000;
    findings.push(if off.abs() <= CLOCK_SECONDS {
        Finding::good(codes::TG030, "target_clock", "agrees with this machine's")
    } else {
        let found =
            format!("a file that was written now carries a time {off} s away from this machine's clock");
        Finding::new(codes::TG030, "target_clock", Verdict::Warning, found)
            .advise("synchronise this machine's clock (chrony, systemd-timesyncd)")
    });
    Ok(findings)
}

/// What readers must know.
fn readers(tables: &[&TableSchema]) -> Finding {
    let (code, check) = (codes::TG031, "readers");
    let vectors = tables.iter().any(|t| t.has_key());
    let without_zone = tables.iter().any(|t| t.columns.iter().any(|c| c.kind == ColumnKind::Timestamp));
    let found = match (vectors, without_zone) {
        (false, false) => "protocol (1, 2): every reader",
        (true, false) => {
            "protocol (3, 7) with deletionVectors: Spark, Databricks, DuckDB, Trino, Polars, delta-rs, \
                          Athena, Fabric"
        }
        (false, true) => {
            "protocol (3, 7) with timestampNtz: Spark, Databricks, DuckDB, Trino, Polars, delta-rs"
        }
        (true, true) => {
            "protocol (3, 7) with deletionVectors and timestampNtz: Spark, Databricks, DuckDB, Trino, \
                         Polars, delta-rs"
        }
    };
    Finding::good(code, check, found)
}
