//! Change logs: of tables without a key, and where it is wanted. Each change is a row ([`super::layout`]).

use super::commit::{Core, PutEnd};
use super::log;
use super::table::{DataFile, now_ms};
use super::writers::{Layout, Open, Writers, close_all};
use crate::error::Result;
use crate::event::ChangeBatch;
use crate::position::Interval;
use crate::position::landing::Planned;
use crate::sink::CommitOutcome;

/// The open unit of a change log.
#[derive(Default)]
pub(super) struct AppendUnit {
    writers: Option<Writers>,
    finished: Vec<super::encode::FinishedFile>,
}

impl AppendUnit {
    /// Stages a slice.
    ///
    /// # Errors
    /// `TG001` to `TG003`, `RT001`.
    pub(super) async fn stage(&mut self, core: &Core, batch: &ChangeBatch) -> Result<()> {
        let writers =
            self.writers.get_or_insert_with(|| Writers::new(Layout::data(&core.parted_by(), Vec::new())));
        tokio::task::block_in_place(|| writers.write(&core.files, &batch.after))?;
        let full = writers.full();
        self.finish(full).await
    }

    async fn finish(&mut self, files: Vec<Open>) -> Result<()> {
        self.finished.extend(close_all(files).await?.into_iter().map(|(_, file)| file));
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        let open = self.writers.as_mut().map(Writers::all).unwrap_or_default();
        self.finish(open).await
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
            let files = DataFile::all_new(&self.finished, now, &mut actions);
            match core.put(planned, log::encode(&actions)?.into()).await? {
                PutEnd::Landed => {
                    core.slots.extend(files);
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
