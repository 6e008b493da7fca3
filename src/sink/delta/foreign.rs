//! Other people's commits: what is live before one, and whether it leaves the rows as they are.
//!
//! A commit that says `dataChange=false` (an OPTIMIZE) is believed only as far as it can be checked. It must
//! have been planned on the version before it: each file that it removes is live with exactly that deletion
//! vector. And it must bring as many live rows as it takes. An OPTIMIZE that read an older version and was
//! put after a commit of ours would bring back rows that we deleted: some writers do not see that conflict,
//! because they look for it only among changes of data.

use super::dv::Descriptor;
use super::log::{CommitSummary, FileAction, MetaData};
use super::storage::TableFiles;
use super::table::{self, DataFile, data_name};
use crate::error::Result;
use serde_json::Value;
use std::collections::HashMap;

/// What stands before a commit.
pub(super) struct Live {
    /// Path in the log → deletion vector, live rows.
    files: HashMap<String, (Option<String>, u64)>,
    /// As a value: others write the same document in another order.
    schema: Value,
}

fn schema_of(metadata: &MetaData) -> Value {
    serde_json::from_str(&metadata.schema_string).unwrap_or_default()
}

/// What names a deletion vector.
pub(super) fn vector_id(vector: Option<&Descriptor>) -> Option<String> {
    vector.map(|v| format!("{}{}@{}", v.storage_type, v.path_or_inline_dv, v.offset.unwrap_or(0)))
}

fn cardinality(vector: Option<&Descriptor>) -> u64 {
    vector.map_or(0, |v| u64::try_from(v.cardinality).unwrap_or(0))
}

impl Live {
    /// Of the files and the metadata of a version.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a DataFile>, metadata: &MetaData) -> Self {
        let entry = |file: &DataFile| {
            let vector = file.add.deletion_vector.as_ref();
            let rows = u64::from(file.rows).saturating_sub(cardinality(vector));
            (file.add.path.clone(), (vector_id(vector), rows))
        };
        Live { files: files.map(entry).collect(), schema: schema_of(metadata) }
    }

    /// Follows a commit's schema; whether it is another one.
    pub(super) fn follow_schema(&mut self, commit: &CommitSummary) -> bool {
        let Some(metadata) = &commit.metadata else { return false };
        let schema = schema_of(metadata);
        let is_other = schema != self.schema;
        self.schema = schema;
        is_other
    }

    /// Follows a commit. For one that claims to change no data, says what is wrong with that.
    ///
    /// # Errors
    /// `TG020`, `TG001` when a file without statistics cannot be read.
    pub(super) async fn follow(
        &mut self,
        files: &TableFiles,
        commit: &CommitSummary,
    ) -> Result<Option<&'static str>> {
        let (mut taken, mut brought) = (0u64, 0u64);
        let mut wrong = None;
        for remove in &commit.removes {
            match self.files.remove(&remove.path) {
                Some((vector, rows)) if vector == vector_id(remove.vector.as_ref()) => taken += rows,
                Some(_) => wrong = Some("rows that were deleted since it was planned"),
                None => wrong = Some("files that were not in the table"),
            }
        }
        for add in &commit.adds {
            let rows = rows(files, add).await?;
            brought += rows;
            // Adding a live path again replaces it, as it does for every reader.
            if let Some((_, before)) =
                self.files.insert(add.path.clone(), (vector_id(add.vector.as_ref()), rows))
            {
                taken += before;
            }
        }
        Ok(wrong.or((taken != brought).then_some("another number of rows")))
    }
}

async fn rows(files: &TableFiles, add: &FileAction) -> Result<u64> {
    let stated = add
        .stats
        .as_deref()
        .and_then(|stats| serde_json::from_str::<Value>(stats).ok())
        .and_then(|stats| stats.get("numRecords")?.as_u64());
    let rows = match stated {
        Some(rows) => rows,
        None => {
            let name = data_name(&add.path);
            table::check_within(&name)?;
            u64::from(table::rows_of(files, &name).await?)
        }
    };
    Ok(rows.saturating_sub(cardinality(add.vector.as_ref())))
}
