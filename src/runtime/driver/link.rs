//! The driver's connection to the source: mending it, and looking whether what it brings is still whole.

use super::super::copying;
use super::super::jittered;
use super::super::source_link::{self, Link};
use super::super::worker::Gone;
use super::{Driver, FIRST_RECONNECT, LONGEST_RECONNECT};
use crate::error::{Disposition, Error, Result, codes};
use crate::position::CommitLsn;
use crate::replication::Input;
use crate::schema::change::{Change, Outline, Remedy, changes, told};
use crate::schema::{TableId, TableName, TableSchema};
use crate::sink::{Sink, change_refused};
use crate::source::{ChangeStream, Source, SourceView, Standing};
use crate::telemetry::status::TableState;
use std::sync::Arc;

impl<S: Source, K: Sink> Driver<S, K> {
    /// A newer owner moves the slot, too, or drops it: where there is one, that explains the loss.
    pub(super) async fn explained(&self, error: Error) -> Error {
        if !error.code().is_loss() {
            return error;
        }
        match self.sink.newest_epoch().await {
            Ok(Some(by)) if by > self.lease.epoch => copying::fenced(by).with_source(error),
            // The record cannot be read, or is ours: the loss stands.
            Ok(_) | Err(_) => error,
        }
    }

    /// The connection is lost: connect again, or give the error up when it is no temporary one.
    pub(super) async fn mend(&mut self, error: Error) -> Result<()> {
        if error.code().disposition != Disposition::Retry {
            return Err(error);
        }
        tracing::warn!(code = %error.code(), "the source is lost: {}", error.cause_line());
        self.board.set_retrying(&error);
        self.meters.metrics.flow().lost(error.code());
        self.meters.metrics.error(error.code());
        self.feed(Input::SourceLost).await?;
        self.restart().await
    }

    /// Drops what is staged, connects again, and follows every table from where it stands.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.carried.clear();
        self.amends.staged.clear();
        self.meters.forget();
        for worker in self.workers.values() {
            // A worker that is gone has nothing staged.
            let (Ok(()) | Err(Gone)) = worker.discard().await;
        }
        // The old stream must let go of the slot first.
        self.stream.hang_up();
        let mut stop = self.stop.clone();
        let link = tokio::select! {
            link = self.connect_again() => link?,
            // The session ends as it stands: what is in flight is found again at the next start.
            () = stop.wait() => {
                self.is_ended = true;
                return Ok(());
            }
        };
        let Link { stream, slot, flushed, .. } = link;
        self.board.clear_retrying();
        self.stream = stream;
        self.flushed = self.flushed.max(flushed);
        self.is_paused = false;
        self.stream.acknowledge(self.coordinator.view().acknowledged);
        self.follow_all()?;
        Box::pin(self.feed(Input::SourceResumed { from: slot.confirmed_flush })).await
    }

    pub(super) async fn connect_again(&self) -> Result<Link<S::Stream>> {
        let mut pause = FIRST_RECONNECT;
        loop {
            let (cut, held) = (self.coordinator.view().cut, self.coordinator.held());
            let positions: Vec<CommitLsn> =
                self.coordinator.live().filter_map(|t| self.coordinator.submitted(t)).collect();
            match source_link::reconnect(self.source.as_ref(), &self.lineage, cut, held, &positions).await {
                // The new timeline goes on record before anything of it is committed: a new session does that.
                Ok(link) if link.lineage != self.lineage => {
                    let what = "the server was promoted: the session begins again";
                    return Err(Error::new(codes::PG006, what));
                }
                Ok(link) => return Ok(link),
                // The server may take a while to see that our last connection is gone.
                Err(error)
                    if error.code().disposition == Disposition::Retry || error.code().is_held_elsewhere() =>
                {
                    if error.code() == codes::PG011
                        && let Ok(Some(by)) = self.sink.newest_epoch().await
                        && by > self.lease.epoch
                    {
                        return Err(copying::fenced(by).with_source(error));
                    }
                    tracing::warn!(code = %error.code(), "cannot connect again: {}", error.cause_line());
                    self.board.set_retrying(&error);
                }
                Err(error) => return Err(self.explained(error).await),
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_RECONNECT);
        }
    }

    /// Looks at the source's tables: one that somebody took out of the publication, dropped or altered must
    /// not look live, even when nothing comes in the stream; and new ones, which are
    /// looked for beside the loop, are to be copied.
    pub(super) async fn check_all(&mut self) -> Result<()> {
        let live: Vec<TableId> = self.schemas.keys().copied().collect();
        match self.stand(&live).await {
            Ok(lost) => {
                for (table, standing) in lost {
                    let input = self.leave(table, standing);
                    self.feed(input).await?;
                }
            }
            // It is looked again, and who reads the stream notices a lost connection.
            Err(error) if error.code().disposition == Disposition::Retry => return Ok(()),
            Err(error) => return Err(error),
        }
        if self.options.new_tables && self.look.is_none() && !self.is_ending() {
            let source = Arc::clone(&self.source);
            self.look = Some(tokio::spawn(async move { source.inspect().await }));
        }
        Ok(())
    }

    /// Tables that were not there before are wanted; those that cannot be replicated are recorded once.
    pub(super) async fn looked(
        &mut self,
        view: std::result::Result<Result<SourceView>, tokio::task::JoinError>,
    ) -> Result<()> {
        let view = match view
            .map_err(|e| Error::new(codes::RT001, "a look at the source broke").with_source(e))?
        {
            Ok(view) => view,
            Err(error) => {
                // Who streams notices what matters.
                tracing::warn!(code = %error.code(), "cannot look for new tables: {}", error.cause_line());
                return Ok(());
            }
        };
        for table in view.tables {
            let name = &table.schema.name;
            let is_known = self.names.get(&table.schema.id) == Some(name)
                || self.stopped.get(&table.schema.id) == Some(name)
                || self.copying.contains(name);
            if !is_known {
                self.want_copy(name, "it is new".to_owned());
            }
        }
        for refused in view.refused {
            let known = self.names.get(&refused.id).or_else(|| self.stopped.get(&refused.id));
            if known != Some(&refused.name) {
                self.names.insert(refused.id, refused.name);
                self.stop_table(refused.id, &refused.error).await?;
            }
        }
        Ok(())
    }

    /// Takes a table out of the stream: for a new copy, or stopped. What is returned tells the coordinator.
    pub(super) fn leave(&mut self, table: TableId, lost: Lost) -> Input {
        match lost {
            // Nothing that a new copy could hold is wanted any more.
            Lost::Copy(why) if self.has_reached_end => {
                let name = self.names.get(&table).cloned().unwrap_or_else(|| TableName::new("", ""));
                let error = crate::sink::table_error(&name, S::CODES.changed, why);
                let advice = format!("strandline resync \"{name}\" --yes");
                self.forget_stopped(table, &error.with_try(advice))
            }
            Lost::Stop(error) => self.forget_stopped(table, &error),
            Lost::Copy(why) => {
                if let Some(name) = self.names.get(&table).cloned() {
                    self.board.update_table(&name, |t| t.state = TableState::Snapshotting);
                    self.want_copy(&name, why);
                }
                self.stream.unfollow(table);
                self.carried.remove(&table);
                self.schemas.remove(&table);
                Input::CopyStarted { table }
            }
        }
    }

    /// How these tables stand in the source. What can be followed in place is; the others are returned.
    pub(super) async fn stand(&mut self, tables: &[TableId]) -> Result<Vec<(TableId, Lost)>> {
        // What stands beside the tables is not in the source's catalogue.
        let known = |id: &TableId| self.schemas.get(id).filter(|schema| !schema.is_beside()).cloned();
        let schemas: Vec<_> = tables.iter().filter_map(known).collect();
        let mut lost = Vec::new();
        for (id, standing) in self.source.check(&schemas).await? {
            match standing {
                Standing::Lost(error) if error.code() == codes::PG025 && self.options.may_replace_slot => {
                    lost.push((id, Lost::Copy(error.cause_line())));
                }
                Standing::Lost(error) => lost.push((id, Lost::Stop(error))),
                Standing::Changed(now) => {
                    lost.extend(self.follow_change(id, now).await?.map(|lost| (id, lost)))
                }
            }
        }
        Ok(lost)
    }

    async fn follow_change(&mut self, id: TableId, now: Arc<TableSchema>) -> Result<Option<Lost>> {
        let Some(then) = self.schemas.get(&id).cloned() else { return Ok(None) };
        let rewritten = then.form.may_be_rewritten(now.form);
        let mut changes = changes(&Outline::of(&then), &Outline::of(&now), rewritten);
        if then.form.parts_differ(&now.parts) {
            changes.push(Change::Partitions);
        }
        let policy = self.options.changes;
        let remedy =
            if self.sink.is_log() { policy.remedy_of_log(&changes) } else { policy.remedy(&changes) };
        let action = match remedy {
            Remedy::Stop => "stop",
            Remedy::Copy => "resync",
            Remedy::InPlace => "in_place",
        };
        self.meters.changed(&changes, action);
        match remedy {
            Remedy::Stop => return Ok(Some(Lost::Stop(change_refused(&now.name, &changes)))),
            Remedy::Copy => return Ok(Some(Lost::Copy(told(&changes)))),
            Remedy::InPlace => {}
        }
        if !changes.is_empty() {
            tracing::info!(table = %now.name, "{}: followed in place", told(&changes));
        }
        // What was decoded with the old columns goes first; rows of a half-received transaction keep them.
        self.stage(id).await?;
        let past = then.past.after(&changes);
        let schema = Arc::new(TableSchema::clone(&now).with_past(past));
        let Some(worker) = self.workers.get(&id) else { return Ok(None) };
        // A worker that is gone has said why in an event.
        let (Ok(()) | Err(Gone)) = worker.evolve(Arc::clone(&schema)).await;
        self.schemas.insert(id, Arc::clone(&schema));
        if let Some(held) = self.coordinator.submitted(id) {
            self.stream.follow(schema, held)?;
        }
        Ok(None)
    }
}

/// Why a table leaves the stream.
pub(super) enum Lost {
    /// It stops.
    Stop(Error),
    /// It is copied again.
    Copy(String),
}
