//! A target that keeps nothing: for measuring the source. It is never behind and never full.

use crate::error::Result;
use crate::event::{ChangeBatch, CopyPart, CopyWriter, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Interval, Marks};
use crate::schema::{Past, TableSchema};
use crate::sink::{
    Base, CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Request, Sink, TableRecord,
    TableSink, WriterLease, Written,
};
use std::sync::Arc;

/// The sink.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardSink;

/// One of its tables.
#[derive(Debug)]
pub struct DiscardTable {
    version: i64,
}

struct DiscardWriter;

impl Sink for DiscardSink {
    type Table = DiscardTable;

    async fn peek(&self) -> Result<Option<PipelineRecord>> {
        Ok(None)
    }

    async fn take_over(&self) -> Result<(WriterLease, PipelineRecord)> {
        Ok((WriterLease { epoch: Epoch(1), owner: "discard".into() }, PipelineRecord::default()))
    }

    async fn open_table(
        &self,
        _lease: &WriterLease,
        _schema: Arc<TableSchema>,
        _purpose: OpenFor,
        _cut: Option<&CutTable>,
    ) -> Result<(DiscardTable, TableRecord)> {
        let record = TableRecord {
            target_id: "discard".into(),
            version: 0,
            position: None,
            marks: Marks::default(),
            copied_at: None,
            past: Past::default(),
            chunks: Default::default(),
            outdated: None,
        };
        Ok((DiscardTable { version: 0 }, record))
    }

    async fn commit_cut(&self, _lease: &WriterLease, _cut: Cut) -> Result<CommitOutcome> {
        Ok(CommitOutcome::Committed { version: 0 })
    }

    async fn record(&self, _lease: &WriterLease, _change: RecordChange) -> Result<CommitOutcome> {
        Ok(CommitOutcome::Committed { version: 0 })
    }

    async fn newest_epoch(&self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn written(&self) -> Written {
        Written::default()
    }

    async fn poll_requests(&self, _lease: &WriterLease) -> Result<Vec<Request>> {
        Ok(Vec::new())
    }
}

impl TableSink for DiscardTable {
    async fn stage(&mut self, batch: ChangeBatch) -> Result<()> {
        drop(batch);
        Ok(())
    }

    async fn commit(&mut self, _interval: Interval) -> Result<CommitOutcome> {
        self.version += 1;
        Ok(CommitOutcome::Committed { version: self.version })
    }

    fn evolve(&mut self, _schema: Arc<TableSchema>) -> Result<()> {
        Ok(())
    }

    fn discard_staged(&mut self) {}

    fn copy_writer(&self, _point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        Ok(Box::new(DiscardWriter))
    }

    async fn commit_copy(
        &mut self,
        _position: CommitLsn,
        _parts: Vec<CopyPart>,
        _base: Base,
    ) -> Result<CommitOutcome> {
        self.version += 1;
        Ok(CommitOutcome::Committed { version: self.version })
    }
}

impl CopyWriter for DiscardWriter {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        drop(batch);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(())))
    }
}
