//! A table and its change log beside it, as one table of the pipeline.
//!
//! They are two Delta tables with a position each. A unit is committed to the log first, then to the table; the
//! pipeline knows the table's version and the lesser of both positions. Who dies where:
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | the log's commit landed, the table's did not | the log is ahead | begins at the table's position; the log skips the transactions that it holds |
//! | both landed | as every table | as every table |
//! | the log's new copy landed, the table's did not | the log is ahead, or the table has no position | as above; or both are copied again |
//!
//! A log behind its table was set back by somebody: it stops.

use super::commit::Core;
use super::layout::Form;
use super::state::Mode;
use super::{DeltaTable, cdc, copy};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, Chunks, CopyPart, CopyWriter, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Interval, Marks};
use crate::schema::{TableName, TableSchema};
use crate::sink::write::{WriteMode, WriteOptions};
use crate::sink::{AmendPart, Amended, Base, CommitOutcome, Standing, TableRecord, TableSink, table_error};
use std::sync::Arc;

/// The change log beside a table has the table's name with this behind it.
const SUFFIX: &str = "__changes";

/// Where the change log beside a table stands, and how it is written. `None`: there is none.
pub(super) fn log_of(options: &WriteOptions, source: &Arc<TableSchema>) -> Option<(TableName, Form)> {
    if options.write != WriteMode::Both || !source.has_key() {
        return None;
    }
    let mut form = Form::of(&WriteOptions { write: WriteMode::Append, ..options.clone() }, source);
    form.layout.beside = true;
    let name = TableName::new(source.name.schema.clone(), format!("{}{SUFFIX}", source.name.table));
    Some((name, form))
}

/// A directory may hold the change log of another table.
pub(super) fn check_role(core: &Core) -> Result<()> {
    if core.state.layout.beside == core.form.layout.beside {
        return Ok(());
    }
    let is = if core.state.layout.beside { "the change log of another table" } else { "another table" };
    let what = format!("\"{}\" holds {is}", core.files.url());
    Err(table_error(&core.schema.name, codes::TG010, what)
        .with_try("exclude one of the two tables, or rename it"))
}

/// What the pipeline is told of both.
pub(super) fn joined(main: TableRecord, log: &TableRecord, name: &TableName) -> Result<TableRecord> {
    let position = match (main.position, log.position) {
        (Some(main), Some(log)) if log < main => {
            let what = format!("its change log is at {log}, behind the table at {main}: it was set back");
            return Err(
                table_error(name, codes::TG011, what).with_try(format!("strandline resync \"{name}\" --yes"))
            );
        }
        (main, Some(_)) => main,
        (_, None) => None,
    };
    Ok(TableRecord { position, outdated: main.outdated.or_else(|| log.outdated.clone()), ..main })
}

/// The rows of transactions beyond the position.
fn beyond(batch: ChangeBatch, position: Option<CommitLsn>) -> ChangeBatch {
    let Some(position) = position else { return batch };
    let held = batch.runs.iter().take_while(|run| run.txn.held_at(position)).count();
    match (held, batch.runs.get(held)) {
        (0, _) => batch,
        (_, Some(next)) => {
            let from = next.first_row as usize;
            batch.slice(from, batch.len() - from)
        }
        (_, None) => batch.slice(batch.len(), 0),
    }
}

/// Writes both copies.
struct PairWriter {
    main: copy::DeltaCopyWriter,
    log: copy::DeltaCopyWriter,
}

struct Parts(CopyPart, CopyPart);

impl CopyWriter for PairWriter {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.log.write(batch.clone())?;
        self.main.write(batch)
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        let PairWriter { main, log } = *self;
        let log = Box::new(log).finish()?;
        Ok(CopyPart(Box::new(Parts(Box::new(main).finish()?, log))))
    }
}

impl DeltaTable {
    fn writer(&self) -> copy::DeltaCopyWriter {
        let (files, schema) = (self.core.files.clone(), Arc::clone(&self.core.stored));
        copy::DeltaCopyWriter::new(files, schema, self.core.form.clone(), &self.core.parted_by())
    }

    fn evolve_one(&mut self, schema: &Arc<TableSchema>) -> Result<()> {
        self.void_amending("its columns changed meanwhile");
        let schema = self.core.form.schema(schema);
        self.core.evolve(schema)
    }
}

impl TableSink for DeltaTable {
    async fn stage(&mut self, batch: ChangeBatch) -> Result<()> {
        if let Some(log) = &mut self.beside {
            let rows = beyond(batch.clone(), log.core.position);
            log.stage_one(rows).await?;
        }
        self.stage_one(batch).await
    }

    fn mark(&mut self, marks: Marks) {
        if let Some(log) = &mut self.beside {
            log.marks = Some(marks.clone());
        }
        self.marks = Some(marks);
    }

    async fn commit(&mut self, interval: Interval) -> Result<CommitOutcome> {
        if let Some(log) = &mut self.beside {
            let from = log.core.position.map_or(interval.from, |own| own.max(interval.from));
            if from < interval.to {
                let outcome = log.commit_one(Interval { from, to: interval.to }).await?;
                if let CommitOutcome::Fenced { .. } = outcome {
                    return Ok(outcome);
                }
            }
        }
        self.commit_one(interval).await
    }

    async fn close(&mut self) {
        if let Some(log) = &mut self.beside {
            log.upkeep.close().await;
            log.core.end_checkpoint().await;
        }
        self.upkeep.close().await;
        self.core.end_checkpoint().await;
    }

    fn standing(&self) -> Option<Standing> {
        Some(self.core.slots.standing())
    }

    async fn upkeep_ready(&mut self) {
        let own = self.upkeep.ready(&self.core.schema.name);
        match &mut self.beside {
            None => own.await,
            Some(log) => tokio::select! {
                () = own => {}
                () = log.upkeep.ready(&log.core.schema.name) => {}
            },
        }
    }

    async fn upkeep(&mut self) -> Result<Option<Epoch>> {
        if let Some(log) = &mut self.beside
            && let Some(by) = log.land_finished().await?
        {
            return Ok(Some(by));
        }
        self.land_finished().await
    }

    fn evolve(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        if let Some(log) = &mut self.beside {
            log.evolve_one(&schema)?;
        }
        self.evolve_one(&schema)
    }

    fn discard_staged(&mut self) {
        if let Some(log) = &mut self.beside {
            log.discard_one();
        }
        self.discard_one();
    }

    fn copy_writer(&self, _point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        Ok(match &self.beside {
            None => Box::new(self.writer()),
            Some(log) => Box::new(PairWriter { main: self.writer(), log: log.writer() }),
        })
    }

    fn renames_in_place(&self) -> bool {
        self.core.names.is_some()
    }

    fn takes_chunks(&self) -> bool {
        let form = &self.core.form;
        // A feed of changes tells of the whole copy at once.
        let is_told = self.core.is_in_use() && cdc::is_on(&self.core);
        self.beside.is_none()
            && form.mode != Mode::Append
            && !form.is_soft()
            && !is_told
            && self.core.schema.has_key()
    }

    async fn commit_chunk(
        &mut self,
        chunks: Chunks,
        is_first: bool,
        parts: Vec<CopyPart>,
    ) -> Result<CommitOutcome> {
        self.commit_chunk_one(chunks, is_first, parts).await
    }

    fn amend_begin(&mut self, request: &str) -> Result<Option<ChunkKey>> {
        self.begin_amending(request)
    }

    fn amend_watch(&mut self) {
        self.watch_amending();
    }

    async fn amend(&mut self, part: AmendPart) -> Result<(Amended, CommitOutcome)> {
        self.amend_part(part).await
    }

    fn amend_left(&mut self) -> Vec<ChunkKey> {
        self.left_to_amend()
    }

    fn amend_end(&mut self) -> Result<()> {
        self.end_amending()
    }

    async fn commit_copy(
        &mut self,
        position: CommitLsn,
        parts: Vec<CopyPart>,
        base: Base,
    ) -> Result<CommitOutcome> {
        let Some(log) = &mut self.beside else { return self.commit_copy_one(position, parts, base).await };
        let (mut main, mut logged) = (Vec::new(), Vec::new());
        for part in parts {
            let Ok(both) = part.0.downcast::<Parts>() else {
                return Err(Error::new(codes::RT001, "a copy part of another sink"));
            };
            let Parts(of_main, of_log) = *both;
            main.push(of_main);
            logged.push(of_log);
        }
        let outcome = log.commit_copy_one(position, logged, base).await?;
        if let CommitOutcome::Fenced { .. } = outcome {
            return Ok(outcome);
        }
        self.commit_copy_one(position, main, base).await
    }
}
