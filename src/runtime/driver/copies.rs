//! Copies beside the stream: an operator's requests, from the record to the table's return into the stream.

use super::super::copying::{Copied, Copying, Snapshotter};
use super::super::recorder::Entry;
use super::super::worker::Worker;
use super::{COPY_LATER, Driver};
use crate::error::{Disposition, Error, Result, codes};
use crate::replication::Input;
use crate::schema::TableId;
use crate::sink::{OpenFor, Request, Sink, WriterLease};
use crate::source::{ChangeStream, Source, SourceTable};
use crate::telemetry::status::TableState;
use crate::telemetry::{Metrics, StatusBoard};
use std::sync::Arc;

/// The end of a copy that ran beside the stream.
pub(super) struct CopyEnd<T> {
    request: Request,
    gone: Vec<TableId>,
    result: Result<Copied<T>>,
}

impl<S: Source, K: Sink> Driver<S, K> {
    /// A copy beside the stream, because an operator asked for it. A second request for the same table
    /// waits in the record until the first is done.
    pub(super) async fn begin_copy(&mut self, request: Request) -> Result<()> {
        if self.copying.contains(&request.table) {
            return Ok(());
        }
        let view = self.source.inspect().await?;
        let Some(found) = view.tables.into_iter().find(|t| t.schema.name == request.table) else {
            tracing::error!(table = %request.table, "a resync was asked for, and the source has no such table to replicate");
            return self.tell(Entry::Resumed { tables: Vec::new(), answered: vec![request.id] });
        };
        let refused = self.source.publish(std::slice::from_ref(&found), true).await?;
        let id = found.schema.id;
        let mut gone: Vec<TableId> =
            self.names.iter().filter(|(_, name)| **name == request.table).map(|(id, _)| *id).collect();
        for old in gone.iter().copied().filter(|old| *old != id) {
            self.feed(Input::TableGone { table: old }).await?;
            self.forget(old);
            self.names.remove(&old);
        }
        self.names.insert(id, found.schema.name.clone());
        if let Some(refused) = refused.first() {
            self.stop_table(id, &refused.error).await?;
            return self.tell(Entry::Resumed { tables: Vec::new(), answered: vec![request.id] });
        }
        gone.push(id);
        self.copying.insert(request.table.clone());
        self.feed(Input::CopyStarted { table: id }).await?;
        let old = self.workers.remove(&id).map(Worker::close);
        self.forget(id);
        let task = copy_beside(
            Arc::clone(&self.source),
            Arc::clone(&self.sink),
            self.lease.clone(),
            found,
            self.options.copy_workers,
            self.board.clone(),
            self.meters.metrics.clone(),
        );
        self.copies.spawn(async move {
            // The old committer finishes first: the copy is planned on what it leaves.
            if let Some(old) = old {
                old.await;
            }
            let result = task.await;
            CopyEnd { request, gone, result }
        });
        Ok(())
    }

    pub(super) fn forget(&mut self, table: TableId) {
        self.stream.unfollow(table);
        self.carried.remove(&table);
        self.workers.remove(&table);
        self.schemas.remove(&table);
    }

    pub(super) async fn copy_ended(
        &mut self,
        ended: std::result::Result<CopyEnd<K::Table>, tokio::task::JoinError>,
    ) -> Result<()> {
        let CopyEnd { request, gone, result } =
            ended.map_err(|e| Error::new(codes::RT001, "a copy panicked").with_source(e))?;
        match result {
            Ok(copied) => {
                self.awaiting_record.push((copied, request.table));
                self.tell(Entry::Resumed { tables: gone, answered: vec![request.id] })
            }
            Err(error) if error.code().disposition == Disposition::HaltTable => {
                self.copying.remove(&request.table);
                // The stop is on record before the answer: who waits for the answer sees it.
                if let Some(&table) = gone.last() {
                    self.stop_table(table, &error).await?;
                }
                self.tell(Entry::Resumed { tables: Vec::new(), answered: vec![request.id] })
            }
            // No slot to be had, or an old transaction in the way: the others go on, and the request,
            // which is still on record, is met again.
            Err(error) if COPY_LATER.contains(&error.code()) => {
                tracing::warn!(table = %request.table, code = %error.code(), "the copy is tried again: {}", error.cause_line());
                self.copying.remove(&request.table);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Copied tables join the stream, between two transactions.
    pub(super) async fn admit(&mut self) -> Result<()> {
        if self.arriving.is_empty() || self.stream.open_transaction().is_some() {
            return Ok(());
        }
        for (Copied { schema, table, progress }, name) in std::mem::take(&mut self.arriving) {
            self.copying.remove(&name);
            let id = schema.id;
            let held = progress.position;
            self.board.update_table(&schema.name, |t| {
                t.state = TableState::CatchingUp;
                (t.code, t.message) = (None, None);
            });
            self.workers.insert(id, Worker::start(id, table, self.report.clone()));
            self.schemas.insert(id, Arc::clone(&schema));
            self.stream.follow(schema, held)?;
            self.feed(Input::TableLive { table: id, progress }).await?;
        }
        Ok(())
    }
}

async fn copy_beside<S: Source, K: Sink>(
    source: Arc<S>,
    sink: Arc<K>,
    lease: WriterLease,
    found: SourceTable,
    workers: usize,
    board: StatusBoard,
    metrics: Metrics,
) -> Result<Copied<K::Table>> {
    let schema = found.schema;
    let (table, record) = sink.open_table(&lease, Arc::clone(&schema), OpenFor::Replace, None).await?;
    let copying = Copying { schema, table, record, estimate: found.estimated_rows };
    Snapshotter::new(source, None, metrics).copy::<K>(copying, workers, &board).await
}
