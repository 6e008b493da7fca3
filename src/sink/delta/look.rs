//! Looking at a lake without taking it over: what a table is like, which versions belong together, what can be
//! deleted.

use super::clean::{self, Retention};
use super::policy::Policy;
use super::state::{self, TableState};
use super::table::{self, read_vectors};
use super::{DeltaSink, control, log};
use crate::error::{Error, Result, codes};
use crate::position::Epoch;
use crate::schema::{TableId, TableName, TableSchema};
use crate::sink::{Cut, table_error};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// A table as its newest version is.
#[derive(Clone, Debug, Serialize)]
pub struct TableReport {
    /// `schema.table`.
    pub table: String,
    /// Where it is.
    pub uri: String,
    /// `metaData.id`.
    pub id: String,
    /// Version.
    pub version: i64,
    /// The position in it, as the source spells it.
    pub position: Option<String>,
    /// The last owner's epoch.
    pub epoch: Option<i64>,
    /// How it is written: `upsert`, `copy_on_write`, `append`.
    pub write: String,
    /// The first version that is a picture of the source.
    pub first_live_version: Option<i64>,
    /// Columns and their Delta types.
    pub columns: Vec<(String, String)>,
    /// Key columns.
    pub key: Vec<String>,
    /// What readers and writers must know.
    pub reader_version: i32,
    /// What writers must know.
    pub writer_version: i32,
    /// Features by name.
    pub features: Vec<String>,
    /// Data files.
    pub files: usize,
    /// Files below the size that compaction aims at.
    pub small_files: usize,
    /// Files with a deletion vector.
    pub files_with_deletions: usize,
    /// Bytes of the data files.
    pub bytes: u64,
    /// Rows that readers see.
    pub rows: u64,
    /// Rows that readers skip: the read debt.
    pub deleted_rows: u64,
    /// The table's properties, ours apart.
    pub properties: BTreeMap<String, String>,
    /// A new copy is under way, chunk by chunk: there are files that are in use and that no version names.
    #[serde(skip)]
    pub is_copied: bool,
}

/// What a vacuum deleted, or would delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Vacuumed {
    /// Data and deletion-vector files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the log.
    pub log_files: usize,
}

impl DeltaSink {
    /// Where a table is.
    ///
    /// # Errors
    /// `TG019`.
    pub fn location(&self, name: &TableName) -> Result<String> {
        let files = self.storage.table(&[&name.schema, &name.table])?;
        Ok(files.url().as_str().trim_end_matches('/').to_owned())
    }

    /// The newest cut that is as wanted: of the record's newest version, or of older ones.
    ///
    /// # Errors
    /// `TG001`, `TG018`, `TG020`.
    pub async fn find_cut(&self, wanted: &(dyn Fn(&Cut) -> bool + Sync)) -> Result<Option<Cut>> {
        control::find_cut(&self.control_files()?, &self.pipeline, wanted).await
    }

    /// Looks at a table.
    ///
    /// # Errors
    /// `TG010` when there is none of ours, `TG020`, `TG001`.
    pub async fn inspect(&self, name: &TableName) -> Result<TableReport> {
        let files = self.storage.table(&[&name.schema, &name.table])?;
        let none = || {
            table_error(name, codes::TG010, format!("there is no table of strandline at \"{}\"", files.url()))
                .with_try("check the name, and sink.uri; a table is there once its copy has begun")
        };
        if !files.has_log().await? {
            return Err(none());
        }
        let mut loaded = table::load(&files, &log::AppIds::new(&self.pipeline)).await?;
        let nameless = TableSchema::new(TableId(0), name.clone(), Vec::new(), Vec::new(), false);
        let document = loaded.metadata.configuration.get(state::KEY).ok_or_else(none)?;
        let state = TableState::parse(document, &nameless)?;
        read_vectors(&files, loaded.files.iter_mut()).await?;
        let gone = |file: &table::DataFile| file.deleted.as_ref().map_or(0, roaring::RoaringBitmap::len);
        let all: u64 = loaded.files.iter().map(|file| u64::from(file.rows)).sum();
        let deleted_rows: u64 = loaded.files.iter().map(gone).sum();
        let files_with_deletions = loaded.files.iter().filter(|file| gone(file) > 0).count();
        let bytes = loaded.files.iter().map(|file| u64::try_from(file.add.size).unwrap_or(0)).sum();
        let count = loaded.files.len();
        let small_files = Policy::default().small_among(std::mem::take(&mut loaded.files));
        let mut features = loaded.protocol.reader_features.clone();
        features.extend(
            loaded
                .protocol
                .writer_features
                .iter()
                .filter(|f| !features.contains(f))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let mut properties = loaded.metadata.configuration.clone();
        properties.remove(state::KEY);
        Ok(TableReport {
            table: name.to_string(),
            uri: self.location(name)?,
            id: loaded.metadata.id.clone(),
            version: loaded.version,
            position: loaded.position.map(|position| position.to_string()),
            epoch: loaded.epoch.map(|Epoch(epoch)| epoch),
            write: state.mode.name().to_owned(),
            first_live_version: state.first_live_version,
            columns: columns(&loaded.metadata.schema_string)?,
            key: state.key,
            reader_version: loaded.protocol.min_reader_version,
            writer_version: loaded.protocol.min_writer_version,
            features,
            files: count,
            small_files,
            files_with_deletions,
            bytes,
            rows: all - deleted_rows.min(all),
            deleted_rows,
            properties,
            is_copied: state.ahead.is_some(),
        })
    }

    /// Deletes files that no version within the retention names. `None`: the table's own retention. What is written by
    /// a process that runs is younger than an hour, and stays. While a new copy is under way no data file goes.
    ///
    /// # Errors
    /// `CF005` for a retention below an hour; `TG001`, `TG003`, `TG020`.
    pub async fn vacuum(
        &self,
        name: &TableName,
        retention: Option<Duration>,
        really: bool,
    ) -> Result<Vacuumed> {
        let files = self.storage.table(&[&name.schema, &name.table])?;
        let report = self.inspect(name).await?;
        let Some(mut kept) = Retention::of(&report.properties, Retention::OF_TABLES, &report.table) else {
            let what = "its retention is no interval: see delta.deletedFileRetentionDuration";
            return Err(table_error(name, codes::TG020, what));
        };
        if let Some(retention) = retention {
            kept.files_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
            if kept.files_ms < clean::LEAST_MS {
                return Err(Error::new(
                    codes::CF005,
                    "a retention below an hour could delete what is being written",
                )
                .with_try("--retention 1h, or more"));
            }
            kept.log_ms = kept.log_ms.max(kept.files_ms);
        }
        let in_use_since = if report.is_copied { i64::MIN } else { i64::MAX };
        let cleaned = if really {
            clean::clean(&files, kept, table::now_ms(), in_use_since).await?
        } else {
            clean::would_clean(&files, kept, table::now_ms(), in_use_since).await?
        };
        Ok(Vacuumed { files: cleaned.files, bytes: cleaned.bytes, log_files: cleaned.log_files })
    }
}

/// Names and types of a Delta schema.
fn columns(schema: &str) -> Result<Vec<(String, String)>> {
    let damaged = || Error::new(codes::TG020, "a Delta schema cannot be read");
    let schema: serde_json::Value = serde_json::from_str(schema).map_err(|e| damaged().with_source(e))?;
    let fields = schema.get("fields").and_then(serde_json::Value::as_array).ok_or_else(damaged)?;
    let text = |value: Option<&serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    Ok(fields.iter().map(|field| (text(field.get("name")), text(field.get("type")))).collect())
}
