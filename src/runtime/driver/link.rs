//! The driver's connection to the source: mending it, and looking whether what it brings is still whole.

use super::super::copying;
use super::super::source_link::{self, Link};
use super::super::worker::Gone;
use super::{Driver, FIRST_RECONNECT, LONGEST_RECONNECT};
use crate::error::{Disposition, Error, Result, codes};
use crate::position::CommitLsn;
use crate::replication::Input;
use crate::schema::{TableId, TableSchema};
use crate::sink::Sink;
use crate::source::{ChangeStream, Source, Standing};
use std::sync::Arc;

impl<S: Source, K: Sink> Driver<S, K> {
    /// A newer owner moves the slot, too, or drops it: where there is one, that explains the loss.
    pub(super) async fn explained(&self, error: Error) -> Error {
        if !error.code().id.starts_with("PG04") {
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
        self.feed(Input::SourceLost).await?;
        self.restart().await
    }

    /// Drops what is staged, connects again, and follows every table from where it stands.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.carried.clear();
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
        let Link { stream, slot, flushed } = link;
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
                Ok(link) => return Ok(link),
                // The server may take a while to see that our last connection is gone.
                Err(error)
                    if error.code().disposition == Disposition::Retry || error.code() == codes::PG011 =>
                {
                    tracing::warn!(code = %error.code(), "cannot connect again: {}", error.cause_line());
                    self.board.set_retrying(&error);
                }
                Err(error) => return Err(self.explained(error).await),
            }
            self.board.beat();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RECONNECT);
        }
    }

    /// Looks at every live table: one that somebody took out of the publication, dropped or rewrote must not
    /// look live, even when nothing comes in the stream.
    pub(super) async fn check_all(&mut self) -> Result<()> {
        let live: Vec<TableId> = self.schemas.keys().copied().collect();
        match self.stand(&live).await {
            Ok(lost) => {
                for (table, error) in lost {
                    self.stop_table(table, &error).await?;
                }
                Ok(())
            }
            // It is looked again, and who reads the stream notices a lost connection.
            Err(error) if error.code().disposition == Disposition::Retry => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How these tables stand in the source: those that cannot go on are returned, another form is
    /// remembered.
    pub(super) async fn stand(&mut self, tables: &[TableId]) -> Result<Vec<(TableId, Error)>> {
        let schemas: Vec<_> = tables.iter().filter_map(|id| self.schemas.get(id).cloned()).collect();
        let mut lost = Vec::new();
        for (id, standing) in self.source.check(&schemas).await? {
            match standing {
                Standing::Lost(error) => lost.push((id, error)),
                Standing::Stored(form) => {
                    if let Some(schema) = self.schemas.get_mut(&id) {
                        *schema = Arc::new(TableSchema::clone(schema).with_form(form));
                    }
                    if let Some(worker) = self.workers.get(&id) {
                        // A worker that is gone has said why in an event.
                        let (Ok(()) | Err(Gone)) = worker.form(form).await;
                    }
                }
            }
        }
        Ok(lost)
    }
}
