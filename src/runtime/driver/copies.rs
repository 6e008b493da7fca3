//! Copies beside the stream: what an operator asked for, new tables, and tables that changed in a way that
//! cannot be followed in place; up to the table's return into the stream.

use super::super::beside;
use super::super::copying::{self, Copied, Copying, Snapshotter};
use super::super::recorder::Entry;
use super::super::worker::Worker;
use super::{COPY_LATER, Driver};
use crate::error::{Disposition, Error, Result, codes};
use crate::event::Chunks;
use crate::replication::Input;
use crate::schema::{TableForm, TableId, TableName, TableSchema};
use crate::sink::{OpenFor, Request, Sink, WriterLease};
use crate::source::{ChangeStream, Source, SourceTable};
use crate::telemetry::StatusBoard;
use crate::telemetry::status::TableState;
use std::sync::Arc;

/// So often a table is copied by itself while nothing about it changes: another copy would not help.
const FUTILE_COPIES: u32 = 3;

/// So often a request is met again whose copy was overtaken by changes of the table.
const OVERTAKEN: u32 = 10;

/// The end of a copy that ran beside the stream.
pub(super) struct CopyEnd<T> {
    name: TableName,
    answers: Vec<String>,
    gone: Vec<TableId>,
    result: Result<Copied<T>>,
}

/// The last copy of a table: of which form, and how often of the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LastCopy {
    id: TableId,
    form: TableForm,
    times: u32,
}

impl<S: Source, K: Sink> Driver<S, K> {
    /// A table is to be copied as soon as may be.
    pub(super) fn want_copy(&mut self, name: &TableName, why: String) {
        self.wanted.entry(name.clone()).or_insert(why);
    }

    /// Begins the copies that are wanted.
    pub(super) async fn begin_wanted(&mut self) -> Result<()> {
        if self.wanted.is_empty() || self.is_ending() {
            return Ok(());
        }
        for (name, why) in std::mem::take(&mut self.wanted) {
            if self.copying.contains(&name) {
                self.wanted.insert(name, why);
                continue;
            }
            tracing::info!(table = %name, "{why}: it is copied");
            self.begin_copy(name, Vec::new(), &why).await?;
        }
        Ok(())
    }

    /// Counts a copy. Returns why it would be futile.
    fn count(&mut self, table: &TableSchema, why: &str) -> Option<Error> {
        let form = TableForm { files: 0, ..table.form };
        let times = match self.copied.get(&table.name) {
            Some(last) if (last.id, last.form) == (table.id, form) => last.times + 1,
            Some(_) | None => 1,
        };
        self.copied.insert(table.name.clone(), LastCopy { id: table.id, form, times });
        (times > FUTILE_COPIES).then(|| {
            let what = format!("it was copied {FUTILE_COPIES} times, and is still not understood: {why}");
            crate::sink::table_error(&table.name, S::CODES.changed, what)
                .with_try(format!("strandline resync \"{}\" --yes", table.name))
        })
    }

    async fn stop_by_name(&mut self, name: &TableName, error: &Error) -> Result<()> {
        let ids: Vec<TableId> = self.names.iter().filter(|(_, n)| *n == name).map(|(id, _)| *id).collect();
        for id in ids {
            self.stop_table(id, error).await?;
        }
        Ok(())
    }

    /// An operator's request. A second one for the same table waits in the record until the first is done.
    pub(super) async fn answer(&mut self, request: Request) -> Result<()> {
        if request.amend.is_some() {
            return self.begin_amending(request).await;
        }
        if self.copying.contains(&request.table) {
            return Ok(());
        }
        self.wanted.remove(&request.table);
        self.copied.remove(&request.table);
        self.begin_copy(request.table, vec![request.id], "a resync was asked for").await
    }

    /// A copy beside the stream. `answers`: the requests that it fulfils.
    async fn begin_copy(&mut self, name: TableName, answers: Vec<String>, why: &str) -> Result<()> {
        let told = beside::table(&*self.source, &*self.sink).filter(|table| table.schema.name == name);
        if let Some(table) = told {
            return self.begin_beside(table, answers).await;
        }
        let mut view = self.source.inspect().await?;
        // How it is published is part of what its copy remembers.
        let unpublished: Vec<_> = view
            .tables
            .iter()
            .filter(|t| t.schema.name == name && t.schema.form.published == 0)
            .cloned()
            .collect();
        if let [table] = &unpublished[..]
            && self.publish(table).await?.is_none()
        {
            view = self.source.inspect().await?;
        }
        let found = view.tables.into_iter().find(|t| t.schema.name == name);
        let refused = view.refused.into_iter().find(|t| t.name == name);
        let Some(found) = found else {
            let what = "the source has no such table to replicate";
            let gone = || crate::sink::table_error(&name, S::CODES.gone, what);
            let error = refused.map_or_else(gone, |refused| refused.error);
            tracing::error!(table = %name, code = %error.code(), "{}", error.cause_line());
            self.stop_by_name(&name, &error).await?;
            return self.tell(Entry::Resumed { tables: Vec::new(), answered: answers });
        };
        let id = found.schema.id;
        let mut gone: Vec<TableId> =
            self.names.iter().filter(|(_, known)| **known == name).map(|(id, _)| *id).collect();
        for old in gone.iter().copied().filter(|old| *old != id) {
            self.feed(Input::TableGone { table: old }).await?;
            self.forget(old);
            self.names.remove(&old);
        }
        self.names.insert(id, name.clone());
        let futile = self.count(&found.schema, why);
        let error = match futile {
            Some(error) => Some(error),
            None => self.publish(&found).await?,
        };
        if let Some(error) = error {
            self.stop_table(id, &error).await?;
            return self.tell(Entry::Resumed { tables: Vec::new(), answered: answers });
        }
        gone.push(id);
        self.stopped.retain(|stopped, _| !gone.contains(stopped));
        self.copying.insert(name.clone());
        self.feed(Input::CopyStarted { table: id }).await?;
        let old = self.workers.remove(&id).map(Worker::close);
        self.forget(id);
        let (metrics, gate) = (self.meters.metrics.clone(), self.options.desk.gate.clone());
        let snapshotter =
            Snapshotter::new(Arc::clone(&self.source), None, metrics, self.options.copies, gate);
        let (sink, lease) = (Arc::clone(&self.sink), self.lease.clone());
        let task = copy_beside(snapshotter, sink, lease, found, self.board.clone());
        self.copies.spawn(async move {
            // The old committer finishes first: the copy is planned on what it leaves.
            if let Some(old) = old {
                old.await;
            }
            let result = task.await;
            CopyEnd { name, answers, gone, result }
        });
        Ok(())
    }

    /// What stands beside the tables begins anew, behind what was received.
    async fn begin_beside(&mut self, table: SourceTable, answers: Vec<String>) -> Result<()> {
        let SourceTable { schema, estimated_rows: estimate } = table;
        let (id, name) = (schema.id, schema.name.clone());
        self.names.insert(id, name.clone());
        self.stopped.remove(&id);
        self.copying.insert(name.clone());
        self.feed(Input::CopyStarted { table: id }).await?;
        let begin = self.coordinator.view().received;
        let old = self.workers.remove(&id).map(Worker::close);
        self.forget(id);
        let (sink, lease) = (Arc::clone(&self.sink), self.lease.clone());
        self.copies.spawn(async move {
            if let Some(old) = old {
                old.await;
            }
            let begun = async {
                let (table, record) =
                    sink.open_table(&lease, Arc::clone(&schema), OpenFor::Replace, None).await?;
                let copying = Copying { schema, table, record, estimate, chunks: Chunks::default() };
                copying::begin_without::<K>(copying, begin).await
            };
            CopyEnd { name, answers, gone: vec![id], result: begun.await }
        });
        Ok(())
    }

    /// Puts the table into the publication, where it is not. Returned is why that cannot be.
    async fn publish(&self, table: &SourceTable) -> Result<Option<Error>> {
        match self.source.publish(std::slice::from_ref(table), true).await {
            Ok(refused) => Ok(refused.into_iter().next().map(|refused| refused.error)),
            // Somebody else owns it: one table must not stop the others.
            Err(error) if error.code() == codes::PG007 => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn forget(&mut self, table: TableId) {
        self.stream.unfollow(table);
        self.carried.remove(&table);
        self.amends.staged.remove(&table);
        self.workers.remove(&table);
        self.schemas.remove(&table);
    }

    pub(super) async fn copy_ended(
        &mut self,
        ended: std::result::Result<CopyEnd<K::Table>, tokio::task::JoinError>,
    ) -> Result<()> {
        let CopyEnd { name, answers, gone, result } =
            ended.map_err(|e| Error::new(codes::RT001, "a copy panicked").with_source(e))?;
        match result {
            Ok(copied) => {
                self.overtaken.remove(&name);
                self.awaiting_record.push((copied, name));
                self.tell(Entry::Resumed { tables: gone, answered: answers })
            }
            // Its columns changed while it was copied.
            Err(error) if error.code().is_change() && answers.is_empty() => {
                self.copying.remove(&name);
                self.want_copy(&name, error.cause_line());
                Ok(())
            }
            // The request is still on record: it is met again, by a fresh look at the table.
            Err(error) if error.code().is_change() && self.may_begin_again(&name) => {
                tracing::info!(table = %name, "{}: its copy begins again", error.cause_line());
                self.copying.remove(&name);
                Ok(())
            }
            Err(error) if error.code().disposition == Disposition::HaltTable => {
                self.copying.remove(&name);
                self.overtaken.remove(&name);
                // The stop is on record before the answer: who waits for the answer sees it.
                if let Some(&table) = gone.last() {
                    self.stop_table(table, &error).await?;
                }
                self.tell(Entry::Resumed { tables: Vec::new(), answered: answers })
            }
            // No slot to be had, or an old transaction in the way: the others go on, and the request,
            // which is still on record, is met again.
            Err(error) if COPY_LATER.contains(&error.code()) => {
                tracing::warn!(table = %name, code = %error.code(), "the copy is tried again: {}", error.cause_line());
                self.copying.remove(&name);
                self.copied.remove(&name);
                if answers.is_empty() {
                    self.want_copy(&name, error.cause_line());
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Counts a copy that was asked for and that the table's changes overtook.
    fn may_begin_again(&mut self, name: &TableName) -> bool {
        let times = self.overtaken.entry(name.clone()).or_default();
        *times += 1;
        *times <= OVERTAKEN
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
    mut snapshotter: Snapshotter<S>,
    sink: Arc<K>,
    lease: WriterLease,
    found: SourceTable,
    board: StatusBoard,
) -> Result<Copied<K::Table>> {
    let schema = found.schema;
    let (table, record) = sink.open_table(&lease, Arc::clone(&schema), OpenFor::Replace, None).await?;
    let copying =
        Copying { schema, table, record, estimate: found.estimated_rows, chunks: Chunks::default() };
    snapshotter.copy::<K>(copying, (true, true), &board).await
}
