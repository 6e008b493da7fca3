//! Reads a Delta table's log as plain files: what each commit carries.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// One commit.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Its version.
    pub(crate) version: i64,
    /// Its actions.
    pub(crate) actions: Vec<Value>,
}

impl Commit {
    /// `txn` actions: application id to version.
    pub(crate) fn txns(&self) -> BTreeMap<String, i64> {
        self.actions
            .iter()
            .filter_map(|action| {
                let txn = action.get("txn")?;
                Some((txn["appId"].as_str()?.to_owned(), txn["version"].as_i64()?))
            })
            .collect()
    }

    /// The pipeline's position in this commit, if it carries one.
    pub(crate) fn position(&self, pipeline: &str) -> Option<i64> {
        self.txns().get(&format!("strandline/{pipeline}/lsn")).copied()
    }

    /// Whether it has an action of this kind.
    pub(crate) fn has(&self, action: &str) -> bool {
        self.actions.iter().any(|a| a.get(action).is_some())
    }
}

/// All commits whose files are still there, oldest first. Empty when there is no table.
pub(crate) fn commits(table: &Path) -> Vec<Commit> {
    versions(table).into_iter().filter_map(|version| commit(table, version)).collect()
}

/// The newest version, if there is a table.
pub(crate) fn version(table: &Path) -> Option<i64> {
    versions(table).last().copied()
}

/// The newest position that the table's log holds.
pub(crate) fn position(table: &Path, pipeline: &str) -> Option<i64> {
    let newest_first = versions(table).into_iter().rev();
    newest_first.filter_map(|version| commit(table, version)).find_map(|commit| commit.position(pipeline))
}

fn versions(table: &Path) -> Vec<i64> {
    let Ok(entries) = std::fs::read_dir(table.join("_delta_log")) else { return Vec::new() };
    let mut found: Vec<i64> = entries
        .filter_map(|entry| {
            let name = entry.expect("the log can be listed").file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        })
        .collect();
    found.sort_unstable();
    found
}

/// `None` when the file is gone: log clean-up may be quicker. One that is there is whole.
fn commit(table: &Path, version: i64) -> Option<Commit> {
    let path = table.join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(&path).ok()?;
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(Commit { version, actions: text.lines().map(parse).collect() })
}
