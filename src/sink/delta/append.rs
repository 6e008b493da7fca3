//! Tables without a key: a change log. Each change is a row, with its letter, position and ordinal.

use super::commit::{Core, PutEnd};
use super::encode::FileWriter;
use super::log::{self, Action};
use super::table::{APPEND_COLUMNS, DataFile, now_ms};
use super::unit::TARGET_FILE_BYTES;
use super::upsert::added;
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, Op};
use crate::position::Interval;
use crate::position::landing::Planned;
use crate::schema::TableSchema;
use crate::sink::CommitOutcome;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// The open unit of a change log.
#[derive(Default)]
pub(super) struct AppendUnit {
    writer: Option<FileWriter>,
    finished: Vec<super::encode::FinishedFile>,
}

/// The Arrow schema of the table: the source's columns, then ours.
pub(super) fn table_schema(schema: &TableSchema) -> SchemaRef {
    let mut fields: Vec<Field> = schema.arrow.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (name, kind) in APPEND_COLUMNS {
        let kind = if kind == "long" { DataType::Int64 } else { DataType::Utf8 };
        fields.push(Field::new(name, kind, true));
    }
    Arc::new(Schema::new(fields))
}

/// A batch as rows of the change log. A deleted row shows its old image, where the source gives one.
///
/// # Errors
/// `RT001`.
pub(super) fn as_rows(batch: &ChangeBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let failed =
        |e: arrow::error::ArrowError| Error::new(codes::RT001, "cannot build a change log").with_source(e);
    let mut columns: Vec<ArrayRef> = batch.after.columns().to_vec();
    if let Some(before) = &batch.before {
        let picks: Vec<(usize, usize)> = (0..batch.len())
            .map(|row| match (batch.ops[row], before.index[row]) {
                (Op::Delete, at) if at != Before::NONE => (1, at as usize),
                _ => (0, row),
            })
            .collect();
        for (i, column) in columns.iter_mut().enumerate() {
            *column =
                interleave(&[column.as_ref(), before.rows.column(i).as_ref()], &picks).map_err(failed)?;
        }
    }
    let positions: Vec<Option<i64>> = (0..batch.len())
        .map(|row| batch.txn_of(row).and_then(|txn| i64::try_from(super::position_of(&txn)).ok()))
        .collect();
    let ordinals: Vec<Option<i64>> =
        (0..batch.len()).map(|row| batch.ordinals.get(row).and_then(|&o| i64::try_from(o).ok())).collect();
    columns.push(Arc::new(StringArray::from_iter_values(batch.ops.iter().map(|op| op.letter()))));
    columns.push(Arc::new(Int64Array::from(positions)));
    columns.push(Arc::new(Int64Array::from(ordinals)));
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(failed)
}

impl AppendUnit {
    /// Stages a slice.
    ///
    /// # Errors
    /// `TG001` to `TG003`, `RT001`.
    pub(super) async fn stage(&mut self, core: &Core, batch: &ChangeBatch) -> Result<()> {
        let schema = table_schema(&batch.schema);
        let rows = as_rows(batch, &schema)?;
        if self.writer.as_ref().is_some_and(|w| w.size() >= TARGET_FILE_BYTES || !w.takes(&rows)) {
            self.close().await?;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => FileWriter::create(&core.files, schema, &[], &rows)?,
        };
        tokio::task::block_in_place(|| writer.write(&rows))?;
        self.writer = Some(writer);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.finished.push(writer.finish().await?);
        }
        Ok(())
    }

    /// Commits what was staged.
    ///
    /// # Errors
    /// As [`Core::put`].
    pub(super) async fn commit(&mut self, core: &mut Core, interval: Interval) -> Result<CommitOutcome> {
        self.close().await?;
        core.files.sync_names()?;
        loop {
            let planned = Planned { version: core.version, epoch: core.epoch, interval };
            let now = now_ms();
            let mut actions = core.head("WRITE", planned, now)?;
            let files: Vec<DataFile> = self
                .finished
                .iter()
                .map(|f| DataFile { add: added(f, now), rows: f.rows, deleted: Some(RoaringBitmap::new()) })
                .collect();
            actions.extend(files.iter().map(|f| Action::Add(f.add.clone())));
            match core.put(planned, log::encode(&actions)?.into()).await? {
                PutEnd::Landed => {
                    for file in files {
                        core.slots.push(Some(file));
                    }
                    core.advance(interval.to);
                    self.finished.clear();
                    return Ok(CommitOutcome::Committed { version: core.version });
                }
                PutEnd::Fenced { by } => return Ok(CommitOutcome::Fenced { by }),
                PutEnd::PlanAgain => {
                    if let Some(by) = core.reload().await? {
                        return Ok(CommitOutcome::Fenced { by });
                    }
                }
            }
        }
    }
}
