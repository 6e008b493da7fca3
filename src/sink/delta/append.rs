//! Change logs: of tables without a key, and where it is wanted. Each change is a row ([`super::layout`]).

use super::commit::{Core, PutEnd};
use super::encode::FileWriter;
use super::log::{self, Action};
use super::table::{DataFile, now_ms};
use super::unit::TARGET_FILE_BYTES;
use super::upsert::added;
use crate::error::Result;
use crate::event::ChangeBatch;
use crate::position::Interval;
use crate::position::landing::Planned;
use crate::sink::CommitOutcome;
use roaring::RoaringBitmap;

/// The open unit of a change log.
#[derive(Default)]
pub(super) struct AppendUnit {
    writer: Option<FileWriter>,
    finished: Vec<super::encode::FinishedFile>,
}

impl AppendUnit {
    /// Stages a slice.
    ///
    /// # Errors
    /// `TG001` to `TG003`, `RT001`.
    pub(super) async fn stage(&mut self, core: &Core, batch: &ChangeBatch) -> Result<()> {
        let rows = &batch.after;
        if self.writer.as_ref().is_some_and(|w| w.size() >= TARGET_FILE_BYTES || !w.takes(rows)) {
            self.close().await?;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => FileWriter::create(&core.files, rows.schema(), &[], rows)?,
        };
        tokio::task::block_in_place(|| writer.write(rows))?;
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
