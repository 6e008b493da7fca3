//! Actions of the Delta log, as JSON lines, and what somebody else's commit did.
//!
//! Written by us from end to end: deltalake's `CommitBuilder` refuses most tables without datafusion and
//! its conflict checker may rebase a commit that removes files (docs/adr/0004). A commit of ours is never
//! rebased: it is put at the version after the one it was planned on, or planned again.

use super::dv::Descriptor;
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, Epoch, Marks};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A data file enters the table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    /// Path below the table, URL-encoded.
    pub path: String,
    /// Partition column values; empty for unpartitioned tables.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since the Unix epoch.
    pub modification_time: i64,
    /// Whether rows change by it (false: only moved).
    pub data_change: bool,
    /// Statistics as a JSON document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// Rows that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Descriptor>,
}

/// A data file leaves the table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    /// Path below the table, URL-encoded.
    pub path: String,
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    /// Whether rows change by it.
    pub data_change: bool,
    /// Whether size and partition values are given.
    #[serde(default)]
    pub extended_file_metadata: bool,
    /// Partition column values.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The vector that the file had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<Descriptor>,
}

/// A file of changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cdc {
    /// Path below the table, URL-encoded.
    pub path: String,
    /// Partition column values.
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Always false: it is no part of the table.
    pub data_change: bool,
}

/// An application's progress. Survives log checkpoints: the authority for positions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    /// `strandline/<pipeline>/lsn` or `strandline/<pipeline>/epoch`.
    pub app_id: String,
    /// The value.
    pub version: i64,
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// The file format of a table's data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Format {
    /// Always `parquet`.
    pub provider: String,
    /// None are in use.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Identity, schema and configuration of a table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaData {
    /// Identity of the table: a new one when somebody replaces it.
    pub id: String,
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Words for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Parquet.
    pub format: Format,
    /// The schema as a JSON document.
    pub schema_string: String,
    /// Partition columns.
    #[serde(default)]
    pub partition_columns: Vec<String>,
    /// Table properties, and our state.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// What a reader and a writer must understand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    /// 1, or 3 with features.
    pub min_reader_version: i32,
    /// 2, or 7 with features.
    pub min_writer_version: i32,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reader_features: Vec<String>,
    /// Features a writer must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writer_features: Vec<String>,
}

/// One line of a commit.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// Who and why; never read back.
    CommitInfo(serde_json::Value),
    /// Protocol.
    Protocol(Protocol),
    /// Metadata.
    MetaData(MetaData),
    /// Progress.
    Txn(Txn),
    /// A file leaves.
    Remove(Remove),
    /// A file enters.
    Add(Add),
    /// What changed, for who follows changes.
    Cdc(Cdc),
}

/// A commit as bytes.
///
/// # Errors
/// `RT001`: an action could not be written as JSON.
pub(super) fn encode(actions: &[Action]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(256 * actions.len());
    for action in actions {
        serde_json::to_writer(&mut bytes, action)
            .map_err(|e| Error::new(codes::RT001, "cannot encode a Delta action").with_source(e))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The name of a version's commit.
pub(super) fn commit_name(version: i64) -> String {
    format!("_delta_log/{version:020}.json")
}

/// The names under which positions stand.
#[derive(Clone, Debug)]
pub(super) struct AppIds {
    /// `strandline/<pipeline>/lsn`.
    pub lsn: String,
    /// `strandline/<pipeline>/epoch`.
    pub epoch: String,
    /// `strandline/<pipeline>/gtid/`: what begins the names of a position's marks.
    pub marks: String,
}

impl AppIds {
    /// Of a pipeline.
    pub(super) fn new(pipeline: &str) -> Self {
        AppIds {
            lsn: format!("strandline/{pipeline}/lsn"),
            epoch: format!("strandline/{pipeline}/epoch"),
            marks: format!("strandline/{pipeline}/gtid/"),
        }
    }

    /// The actions that turn what is `held` of a position's marks into `next`: a run that is no more gets 0, which
    /// is no number of a transaction.
    pub(super) fn mark_actions(&self, held: &Marks, next: &Marks, now_ms: i64) -> Vec<Action> {
        let gone = held.0.iter().filter(|&(name, &last)| last != 0 && !next.0.contains_key(name));
        let new = next.0.iter().filter(|&(name, last)| held.0.get(name) != Some(last));
        new.map(|(name, &last)| (name, last))
            .chain(gone.map(|(name, _)| (name, 0)))
            .map(|(name, version)| {
                Action::Txn(Txn {
                    app_id: format!("{}{name}", self.marks),
                    version,
                    last_updated: Some(now_ms),
                })
            })
            .collect()
    }

    /// The pair of actions of a commit.
    ///
    /// # Errors
    /// `RT001` for a position beyond 2^63.
    pub(super) fn actions(
        &self,
        epoch: Epoch,
        position: Option<CommitLsn>,
        now_ms: i64,
    ) -> Result<Vec<Action>> {
        let txn = |app_id: &str, version: i64| {
            Action::Txn(Txn { app_id: app_id.to_owned(), version, last_updated: Some(now_ms) })
        };
        let mut actions = vec![txn(&self.epoch, epoch.0)];
        if let Some(position) = position {
            let stored = position
                .to_stored()
                .ok_or_else(|| Error::new(codes::RT001, format!("position {position} is beyond 2^63")))?;
            actions.push(txn(&self.lsn, stored));
        }
        Ok(actions)
    }
}

/// A file that a commit names.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct FileAction {
    /// Path below the table, URL-encoded.
    pub path: String,
    /// Its deletion vector.
    pub vector: Option<Descriptor>,
    /// Statistics as a JSON document.
    pub stats: Option<String>,
}

impl FileAction {
    fn of(body: &serde_json::Value) -> std::result::Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            path: String,
            #[serde(default)]
            deletion_vector: Option<Descriptor>,
            #[serde(default)]
            stats: Option<String>,
        }
        let Form { path, deletion_vector, stats } = Form::deserialize(body)?;
        Ok(FileAction { path, vector: deletion_vector, stats })
    }
}

/// What a commit holds, as far as it matters to us.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct CommitSummary {
    /// Files that entered.
    pub adds: Vec<FileAction>,
    /// Files that left.
    pub removes: Vec<FileAction>,
    /// Paths of change data files.
    pub others: Vec<String>,
    /// `txn` values, by app id.
    pub txns: BTreeMap<String, i64>,
    /// Some file entered or left with `dataChange`.
    pub data_change: bool,
    /// Some file entered or left.
    pub files: bool,
    /// Schema, properties or identity changed.
    pub metadata: Option<MetaData>,
    /// The protocol changed.
    pub protocol: bool,
    /// `commitInfo.operation`, for people.
    pub operation: String,
}

/// Reads a commit.
///
/// # Errors
/// `TG020` when a line is not JSON or an action has not the form that the protocol gives it.
pub(super) fn summarize(bytes: &[u8]) -> Result<CommitSummary> {
    let damaged = |e: serde_json::Error| {
        Error::new(codes::TG020, "a commit in the table's log cannot be read").with_source(e)
    };
    let mut summary = CommitSummary::default();
    for line in bytes.split(|&b| b == b'\n').filter(|l| !l.iter().all(u8::is_ascii_whitespace)) {
        let action: BTreeMap<String, serde_json::Value> = serde_json::from_slice(line).map_err(damaged)?;
        for (kind, body) in action {
            match kind.as_str() {
                "add" | "remove" | "cdc" => {
                    summary.files = true;
                    // An absent flag counts as a change of data: the careful reading.
                    summary.data_change |= body.get("dataChange").and_then(|v| v.as_bool()).unwrap_or(true);
                    let file = FileAction::of(&body).map_err(damaged)?;
                    match kind.as_str() {
                        "add" => summary.adds.push(file),
                        "remove" => summary.removes.push(file),
                        _ => summary.others.push(file.path),
                    }
                }
                "txn" => {
                    let txn: Txn = serde_json::from_value(body).map_err(damaged)?;
                    summary.txns.insert(txn.app_id, txn.version);
                }
                "metaData" => summary.metadata = Some(serde_json::from_value(body).map_err(damaged)?),
                "protocol" => summary.protocol = true,
                "commitInfo" => {
                    let operation = body.get("operation").and_then(|v| v.as_str()).unwrap_or("unknown");
                    summary.operation = operation.to_owned();
                }
                // domainMetadata, sidecar, checkpointMetadata: nothing of ours depends on them.
                _ => {}
            }
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_reads_back() {
        let ids = AppIds::new("shop");
        let position = CommitLsn::from_stored(77).unwrap();
        let mut actions = vec![Action::CommitInfo(serde_json::json!({"operation": "MERGE"}))];
        actions.extend(ids.actions(Epoch(4), Some(position), 1).unwrap());
        let bytes = encode(&actions).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains(r#"{"txn":{"appId":"strandline/shop/lsn","version":77,"lastUpdated":1}}"#),
            "{text}"
        );
        let summary = summarize(&bytes).unwrap();
        assert_eq!(summary.txns["strandline/shop/epoch"], 4);
        assert_eq!(summary.operation, "MERGE");
        assert!(!summary.files && !summary.data_change);
    }

    #[test]
    fn a_foreign_change_of_data_is_seen() {
        let optimize = br#"{"remove":{"path":"a","dataChange":false}}
{"add":{"path":"b","dataChange":false,"size":1,"modificationTime":1}}"#;
        let summary = summarize(optimize).unwrap();
        assert!(summary.files && !summary.data_change);
        assert!(summarize(br#"{"remove":{"path":"a","dataChange":true}}"#).unwrap().data_change);
        assert!(summarize(br#"{"remove":{"path":"a"}}"#).unwrap().data_change);
        assert_eq!(summarize(b"{").unwrap_err().code(), codes::TG020);
    }
}
