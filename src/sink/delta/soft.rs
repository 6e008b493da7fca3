//! A TRUNCATE that marks every row as deleted instead of taking it away.
//!
//! It becomes an update of every row that stands: of the table's files, through deletion vectors and what the
//! unit has changed already, and of the unit's own. Rows that are marked already keep their mark. So it costs
//! what the table holds, and the unit remembers every key (about 40 bytes each).

use super::commit::Core;
use super::compact::conform;
use super::encode::FinishedFile;
use super::encode::keep;
use super::keys::Key;
use super::table::{Stored, columns_of, read_columns};
use super::unit::Onto;
use super::upsert::Upsert;
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op, TxnRun};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A data file, and its rows that do not count.
struct Source {
    stored: Stored,
    gone: RoaringBitmap,
}

impl<K: Key> Upsert<K> {
    /// Stages a slice with TRUNCATEs that mark.
    pub(super) async fn stage_marking(&mut self, core: &mut Core, batch: &ChangeBatch) -> Result<()> {
        let mut from = 0;
        for (row, _) in batch.ops.iter().enumerate().filter(|(_, op)| **op == Op::Truncate) {
            if row > from {
                self.stage_plain(core, &batch.slice(from, row - from)).await?;
            }
            self.mark_all(core, &batch.slice(row, 1)).await?;
            from = row + 1;
        }
        if from < batch.len() {
            self.stage_plain(core, &batch.slice(from, batch.len() - from)).await?;
        }
        Ok(())
    }

    async fn mark_all(&mut self, core: &mut Core, truncate: &ChangeBatch) -> Result<()> {
        self.build_index(core).await?;
        self.unit.close_files().await?;
        let mut sources: Vec<Source> = self
            .unit
            .files
            .iter()
            .filter_map(|file| Some((file.finished.as_ref()?, &file.masked)))
            .map(|(finished, masked)| Source { stored: FinishedFile::stored(finished), gone: masked.clone() })
            .collect();
        if !self.unit.truncated {
            let touched = self.unit.touched();
            for (number, file) in core.live_files() {
                let mut gone = file.deleted.clone().unwrap_or_default();
                if let Some(rows) = touched.get(&number) {
                    gone |= rows;
                }
                sources.push(Source { stored: file.stored(), gone });
            }
        }
        for source in sources {
            self.mark_file(core, &source, truncate).await?;
        }
        Ok(())
    }

    async fn mark_file(&mut self, core: &Core, source: &Source, truncate: &ChangeBatch) -> Result<()> {
        let schema = &truncate.schema;
        let found = columns_of(&core.files, &source.stored).await?;
        let wanted =
            schema.columns.iter().map(|c| c.name.clone()).filter(|name| found.index_of(name).is_ok());
        let names: Vec<String> = wanted.collect();
        let mark = core.form.mark().unwrap_or_default();
        let mut first = 0u32;
        let mut batches = read_columns(&core.files, &source.stored, &names, None).await?;
        while let Some(read) = tokio::task::block_in_place(|| batches.next()) {
            let rows = conform(&read?, &schema.arrow)?;
            let marked = marks(&rows, mark);
            let live: Vec<bool> = (first..)
                .zip(marked)
                .take(rows.num_rows())
                .map(|(row, marked)| !marked && !source.gone.contains(row))
                .collect();
            first += u32::try_from(rows.num_rows()).unwrap_or(u32::MAX);
            let rows = keep(&rows, &live)?;
            if rows.num_rows() > 0 {
                self.stage_plain(core, &updates(rows, truncate)?).await?;
            }
        }
        Ok(())
    }

    /// Stages a slice onto the index, which is there.
    pub(super) async fn stage_plain(&mut self, core: &Core, batch: &ChangeBatch) -> Result<()> {
        let Some(index) = &self.index else {
            return Err(Error::new(codes::RT001, "the index was not built"));
        };
        let stored = |file: u32| core.slots.get(file).map(super::table::DataFile::stored);
        let (strict, soft) = (core.is_strict(), core.form.is_soft());
        let chunks = Some(&core.state.copied).filter(|chunks| chunks.is_mixed());
        let by = core.parted_by();
        let onto = Onto { files: &core.files, stored: &stored, by: &by, index, strict, soft, chunks };
        let staged = self.unit.stage(batch, &onto).await;
        // An index that failed may have said anything.
        index.check()?;
        staged
    }
}

/// Which rows are marked as deleted.
fn marks(rows: &RecordBatch, mark: &str) -> Vec<bool> {
    let none = vec![false; rows.num_rows()];
    let Some(column) = rows.column_by_name(mark) else { return none };
    match column.data_type() {
        DataType::Boolean => column.as_boolean().iter().map(|m| m == Some(true)).collect(),
        DataType::Utf8 => column.as_string::<i32>().iter().map(|m| m == Some("true")).collect(),
        _ => none,
    }
}

/// Whole rows as updates of themselves, with our columns as the TRUNCATE has them.
fn updates(rows: RecordBatch, truncate: &ChangeBatch) -> Result<ChangeBatch> {
    let failed =
        |e: arrow::error::ArrowError| Error::new(codes::RT001, "cannot mark rows as deleted").with_source(e);
    let count = rows.num_rows();
    let zeros = UInt32Array::from(vec![0; count]);
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    for (i, column) in truncate.schema.columns.iter().enumerate() {
        if super::layout::is_ours(column)
            && let Some(slot) = columns.get_mut(i)
        {
            *slot = take(truncate.after.column(i), &zeros, None).map_err(failed)?;
        }
    }
    let runs = truncate.last_txn().map(|txn| TxnRun { first_row: 0, txn, end: None });
    let ordinal = truncate.ordinals.first().copied().unwrap_or_default();
    Ok(ChangeBatch {
        schema: Arc::clone(&truncate.schema),
        ops: vec![Op::Update; count],
        runs: runs.into_iter().collect(),
        ordinals: vec![ordinal; count],
        lsns: Vec::new(),
        origins: Vec::new(),
        after: RecordBatch::try_new(Arc::clone(&truncate.schema.arrow), columns).map_err(failed)?,
        before: None,
        unchanged: vec![None; truncate.schema.columns.len()],
        wire_bytes: 0,
    })
}
