//! Putting a commit, and finding out what became of it.
//!
//! Who dies where, and what is on storage then:
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | data or vector files written, log not | files that no version names | never seen; left for vacuum, because a put may still be on its way |
//! | put sent, reply lost, we live | the version, or nothing yet | [`Core::put`] reads, then [`judge`]s: landed, or the *same* bytes at the *same* version again |
//! | put landed, we die | data and position in one version | the position says so; the unit is skipped for this table |
//! | put landed for one table, not for another, we die | tables at different positions | each table filters transactions by its own position |
//! | a newer writer raised the epoch | its epoch commit stands where ours was to go | `Fenced`: nothing more is written |
//! | a put of ours arrives late, after a newer writer's epoch | its version is taken: refused | nothing; `v + 1` was theirs |
//!
//! A unit is never rebased: refused means read, then plan again on what is there.

use super::evolve::Pending;
use super::foreign::Live;
use super::index::Budget;
use super::layout::Form;
use super::log::{self, Action, AppIds, CommitSummary, MetaData, Protocol};
use super::names::Names;
use super::slots::Slots;
use super::state::{self, TableState};
use super::storage::{Put, TableFiles};
use super::table::{self, DataFile, Loaded};
use crate::error::{Disposition, Error, Result, codes};
use crate::event::{ChunkKey, Chunks, CopyPart};
use crate::position::landing::{Found, Landing, Planned, judge};
use crate::position::{CommitLsn, Epoch, Marks};
use crate::schema::TableSchema;
use crate::sink::{OpenFor, table_error};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a store is asked whether somebody else has committed.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Log checkpoints are written every so many versions, unless the table says otherwise.
/// The operation of a commit that moves no position.
pub(super) const COMPACTION: &str = "OPTIMIZE";
pub(super) const CHECKPOINT_EVERY: i64 = 100;
/// How long the end waits for one that is being written.
const CHECKPOINT_WAIT: Duration = Duration::from_secs(10);

/// How a put ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PutEnd {
    /// Our bytes are the version.
    Landed,
    /// A newer writer owns the table.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// Somebody who is no strandline committed without changing rows: open again, plan again.
    PlanAgain,
}

/// What every mode of table has.
pub(super) struct Core {
    /// The directory.
    pub files: TableFiles,
    /// Names of our `txn`s.
    pub ids: AppIds,
    /// Our fencing number.
    pub epoch: Epoch,
    /// How it is written.
    pub form: Form,
    /// Somebody else may change its rows.
    pub accepts: bool,
    /// The source's table, with our columns.
    pub schema: Arc<TableSchema>,
    /// The same with the names that files have.
    pub stored: Arc<TableSchema>,
    /// What columns are called in files, where that is not what they are called.
    pub names: Option<Names>,
    /// The stored state document.
    pub state: TableState,
    /// Metadata of the current version.
    pub metadata: MetaData,
    /// Protocol of the current version.
    pub protocol: Protocol,
    /// What the next commit brings with it.
    pub pending: Option<Pending>,
    /// Current version.
    pub version: i64,
    /// Our position in it.
    pub position: Option<CommitLsn>,
    /// The same for other servers, as it stands in the log: a run that is no more has 0.
    pub marks: Marks,
    /// The same of the next commit's position; `None`: as it is.
    pub next_marks: Option<Marks>,
    /// The table's files by number.
    pub slots: Slots,
    /// Where indexes are saved on this machine.
    pub cache: Option<PathBuf>,
    /// What the table's index may take of memory.
    pub budget: Budget,
    /// When the log was last known to end with our version.
    pub seen: Instant,
    /// The last log checkpoint, which may still be being written.
    pub checkpoint: Option<JoinHandle<()>>,
}

impl Core {
    /// It was written in another way than it is to be.
    pub(super) fn written_otherwise(&self) -> Error {
        let (is, wanted) = (&self.state, &self.form);
        let what = format!(
            "it is written as {:?} with {:?}, and the configuration says {:?} with {:?}",
            is.mode, is.layout, wanted.mode, wanted.layout
        );
        table_error(&self.schema.name, codes::TG021, what)
    }

    /// Takes over what was loaded.
    pub(super) fn adopt(&mut self, loaded: Loaded) {
        self.version = loaded.version;
        self.metadata = loaded.metadata;
        self.protocol = loaded.protocol;
        self.position = loaded.position;
        self.marks = loaded.marks;
        self.slots.replace(loaded.files);
        self.seen = Instant::now();
    }

    /// Files of the table with their numbers.
    pub(super) fn live_files(&self) -> impl Iterator<Item = (u32, &DataFile)> {
        self.slots.iter()
    }

    /// Opens the table again after somebody else's commit.
    ///
    /// # Errors
    /// As [`table::load`]; `TG014` when the table now needs more than we can do.
    /// A newer owner's epoch is returned.
    pub(super) async fn reload(&mut self) -> Result<Option<Epoch>> {
        let (before, position) = (self.version, self.position);
        let loaded = table::load(&self.files, &self.ids).await?;
        // More may have been committed since the refusal was looked into.
        if let Some(by) = loaded.epoch.filter(|&epoch| epoch != self.epoch) {
            return Ok(Some(by));
        }
        if loaded.position != position {
            let what = "its position moved, and not by us";
            return Err(table_error(&self.schema.name, codes::RT001, what));
        }
        self.check_same(&loaded)?;
        let live = Live::of(self.slots.iter().map(|(_, file)| file), &self.metadata);
        self.examine_commits(before, loaded.version, Some(live)).await?;
        self.adopt(loaded);
        self.evolve_again()?;
        Ok(None)
    }

    /// Whether somebody else has committed since we looked. Where looking is a request to a store, it is
    /// looked now and then: a file that we know is deleted only long after a commit took it out.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn is_behind(&mut self) -> Result<bool> {
        let next = log::commit_name(self.version + 1);
        if self.files.local_path(&next).is_none() && self.seen.elapsed() < LOOK_EVERY {
            return Ok(false);
        }
        self.seen = Instant::now();
        Ok(self.files.get(&next).await?.is_some())
    }

    /// The table must be the one that we hold, with what we say of it.
    fn check_same(&self, loaded: &Loaded) -> Result<()> {
        table::check_supported(&loaded.protocol, &loaded.metadata)?;
        let advice = format!("strandline resync \"{}\" --yes", self.schema.name);
        if loaded.version < self.version || loaded.metadata.id != self.metadata.id {
            let what = "it is no longer the table that we hold: it was replaced";
            return Err(table_error(&self.schema.name, codes::TG011, what).with_try(advice));
        }
        let document = |metadata: &MetaData| metadata.configuration.get(state::KEY).cloned();
        if document(&loaded.metadata) != document(&self.metadata) {
            let what = "what strandline says of it in its properties was changed or set back";
            return Err(table_error(&self.schema.name, codes::TG011, what).with_try(advice));
        }
        Ok(())
    }

    /// Puts `bytes` as the version after `planned.version`, until it is known what became of it.
    ///
    /// # Errors
    /// `TG002`, `TG003` from storage; `TG012` when somebody else changed rows; `RT001` when the table
    /// contradicts us. Temporary errors are tried again here, for ever.
    pub(super) async fn put(&self, planned: Planned, bytes: Bytes) -> Result<PutEnd> {
        let name = log::commit_name(planned.version + 1);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.files.put_if_absent(&name, bytes.clone()).await {
                Ok(Put::Written) => return Ok(PutEnd::Landed),
                Ok(Put::Exists) => {}
                Err(e) if e.code().disposition == Disposition::Retry => {
                    tracing::warn!(table = %self.schema.name, code = %e.code(), "commit outcome unknown: {}", e.cause_line());
                }
                Err(e) => return Err(e),
            }
            match self.resolve(planned, &bytes).await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {} // put again
                Err(e) if e.code().disposition == Disposition::Retry => {
                    tracing::warn!(table = %self.schema.name, code = %e.code(), "cannot read the table: {}", e.cause_line());
                }
                Err(e) => return Err(e),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Reads what stands after `planned.version` and decides. `None`: put the same bytes again.
    async fn resolve(&self, planned: Planned, bytes: &Bytes) -> Result<Option<PutEnd>> {
        let mut found = Found {
            version: planned.version,
            epoch: Some(planned.epoch),
            position: Some(planned.interval.from),
        };
        let mut landed = false;
        while let Some(there) = self.files.get(&log::commit_name(found.version + 1)).await? {
            found.version += 1;
            landed |= found.version == planned.version + 1 && there == *bytes;
            let summary = log::summarize(&there)?;
            let epoch = summary.txns.get(&self.ids.epoch).map(|&e| Epoch(e));
            found.epoch = epoch.or(found.epoch);
            found.position =
                summary.txns.get(&self.ids.lsn).and_then(|&p| CommitLsn::from_stored(p)).or(found.position);
        }
        // The bytes tell more than the position: a commit that moves no position (a new copy at the same
        // point) is recognised by them.
        let verdict = match judge(planned, found) {
            Landing::Landed if !landed && planned.interval.from == planned.interval.to => Landing::Foreign,
            other => other,
        };
        match verdict {
            // Perhaps somebody wrote after it: then the next put is refused, and that is examined.
            Landing::Landed => Ok(Some(PutEnd::Landed)),
            Landing::PutAgain => Ok(None),
            Landing::Fenced { by } => Ok(Some(PutEnd::Fenced { by })),
            // Examined when the table is opened again.
            Landing::Foreign => Ok(Some(PutEnd::PlanAgain)),
            Landing::Impossible => {
                let what = format!(
                    "after version {} it is at version {} with epoch {:?} and position {:?}, which no commit of ours makes",
                    planned.version, found.version, found.epoch, found.position
                );
                Err(table_error(&self.schema.name, codes::RT001, what))
            }
        }
    }

    /// Whether we can live with somebody else's commit. `wrong` says why its claim to change no rows does
    /// not hold.
    ///
    /// # Errors
    /// `TG012` when it changed rows or schema.
    fn examine(
        &self,
        version: i64,
        summary: &CommitSummary,
        wrong: Option<&str>,
        other_schema: bool,
    ) -> Result<()> {
        if self.accepts && !other_schema && (summary.data_change || wrong.is_some()) {
            tracing::warn!(
                table = %self.schema.name, version, operation = %summary.operation,
                "somebody else changed its rows; that stays, as the configuration says"
            );
            return Ok(());
        }
        let what = match (summary.data_change, wrong, other_schema) {
            (true, _, _) => "changed its rows".to_owned(),
            (false, Some(wrong), _) => format!("claims to change no rows and brings {wrong}"),
            (false, None, true) => "changed its columns".to_owned(),
            (false, None, false) => {
                tracing::info!(
                    table = %self.schema.name, version, operation = %summary.operation,
                    "somebody else's commit that changes no rows"
                );
                return Ok(());
            }
        };
        let text = format!("somebody else's commit {what} (version {version}, {})", summary.operation);
        Err(table_error(&self.schema.name, codes::TG012, text).with_try(format!(
            "strandline resync \"{}\" --yes   (or let it be: sink.on_foreign_change: accept)",
            self.schema.name
        )))
    }

    /// Whether a change must fit the rows.
    pub(super) fn is_strict(&self) -> bool {
        self.state.complete && !self.accepts
    }

    /// Examines every commit from `after` (exclusive) to the current version that is not ours.
    ///
    /// # Errors
    /// `TG011` when such a commit is no longer there to be examined, `TG012` when it changed rows.
    pub(super) async fn examine_since(&self, after: i64) -> Result<()> {
        self.examine_commits(after, self.version, None).await
    }

    /// `live`: the files of version `after`, when they are known.
    async fn examine_commits(&self, after: i64, until: i64, mut live: Option<Live>) -> Result<()> {
        for version in after + 1..=until {
            let Some(bytes) = self.files.get(&log::commit_name(version)).await? else {
                let what = format!("version {version} cannot be examined: its log entry is gone");
                return Err(table_error(&self.schema.name, codes::TG011, what)
                    .with_try(format!("strandline resync \"{}\" --yes", self.schema.name)));
            };
            let summary = log::summarize(&bytes)?;
            let is_ours = summary.txns.contains_key(&self.ids.epoch);
            let moves_files = summary.files && !summary.data_change;
            // What is live is followed once it matters: when somebody else touches files or metadata.
            if live.is_none() && !is_ours && (moves_files || summary.metadata.is_some()) {
                live = Some(self.live_at(version - 1).await?);
            }
            let (mut wrong, mut other_schema) = (None, false);
            if let Some(live) = &mut live {
                wrong = live.follow(&self.files, &summary).await?.filter(|_| moves_files);
                other_schema = live.follow_schema(&summary);
            }
            if !is_ours {
                self.examine(version, &summary, wrong, other_schema)?;
            }
        }
        Ok(())
    }

    async fn live_at(&self, version: i64) -> Result<Live> {
        let failed = |e: deltalake::DeltaTableError| {
            let code = table::code_of_failure(&e);
            let code = if code == codes::TG020 { codes::TG011 } else { code };
            table_error(&self.schema.name, code, format!("cannot read its version {version}")).with_source(e)
        };
        let mut delta = self.files.delta()?;
        delta.load_version(u64::try_from(version).unwrap_or_default()).await.map_err(failed)?;
        let metadata = table::metadata_of(&delta)?;
        Ok(Live::of(table::data_files(&self.files, &delta).await?.iter(), &metadata))
    }

    /// Which parts are copied: to go on with, or to replay for.
    pub(super) fn chunks_to_go_on(&self, purpose: OpenFor, is_outdated: bool) -> Chunks {
        let copied = &self.state.copied;
        let goes_on = copied.is_whole() || self.state.can_go_on(&self.schema, &self.form);
        match purpose {
            OpenFor::Continue(_) if goes_on && !is_outdated => copied.clone(),
            // It is copied anew: what was copied ahead of it is not read again.
            OpenFor::Continue(_) | OpenFor::Replace => {
                let ahead = self.state.ahead.as_ref().filter(|_| self.is_in_use());
                // Where only the source compares keys, a row may go back in time on the way: not under readers.
                let ahead =
                    ahead.filter(|ahead| !matches!(ahead.chunks().end(), Some(ChunkKey::Source { .. })));
                let ahead = ahead.filter(|ahead| ahead.state.can_go_on(&self.schema, &self.form));
                ahead.map(|ahead| ahead.chunks().clone()).unwrap_or_default()
            }
        }
    }

    /// A unit that ends at `to` is about to be planned: where it brings all parts to one moment, its commit says so.
    ///
    /// # Errors
    /// `RT001`.
    pub(super) fn ripen(&mut self, to: CommitLsn) -> Result<()> {
        if self.state.copied.newest().is_none_or(|newest| newest > to) {
            return Ok(());
        }
        let pending = self.pending.take();
        let (state, metadata, protocol) = match pending {
            Some(Pending { state, metadata, protocol }) => (state, metadata, protocol),
            None => (self.state.clone(), self.metadata.clone(), None),
        };
        let first_live_version = Some(self.version + 1);
        let state = TableState { copied: Chunks::default(), first_live_version, ..state };
        let mut metadata = metadata;
        metadata.configuration.insert(state::KEY.into(), state.encode()?);
        self.pending = Some(Pending { state, metadata, protocol });
        Ok(())
    }

    /// The head of every commit of ours: who, epoch, position.
    ///
    /// # Errors
    /// `RT001`.
    pub(super) fn head(&self, operation: &str, planned: Planned, now_ms: i64) -> Result<Vec<Action>> {
        let more = serde_json::json!({
            "pipeline": self.state.pipeline,
            "from": planned.interval.from.to_string(),
            "to": planned.interval.to.to_string(),
        });
        let mut actions = vec![table::commit_info(operation, now_ms, more)];
        actions.extend(self.ids.actions(planned.epoch, Some(planned.interval.to), now_ms)?);
        if let Some(next) = self.next_marks.as_ref().filter(|_| operation != COMPACTION) {
            actions.extend(self.ids.mark_actions(&self.marks, next, now_ms));
        }
        actions.extend(self.pending_actions());
        Ok(actions)
    }

    /// The actions of what waits for the next commit.
    pub(super) fn pending_actions(&self) -> Vec<Action> {
        let Some(pending) = &self.pending else { return Vec::new() };
        let protocol = pending.protocol.iter().cloned().map(Action::Protocol);
        protocol.chain([Action::MetaData(pending.metadata.clone())]).collect()
    }

    /// What waited has been committed.
    pub(super) fn take_pending(&mut self) {
        if let Some(Pending { state, metadata, protocol }) = self.pending.take() {
            (self.state, self.metadata) = (state, metadata);
            self.protocol = protocol.unwrap_or_else(|| self.protocol.clone());
        }
    }

    /// What the next commit's position means to other servers. The names that are new go into the state document of
    /// the same commit.
    ///
    /// # Errors
    /// `RT001`.
    pub(super) fn mark(&mut self, next: Marks) -> Result<()> {
        let (state, metadata) = match &self.pending {
            Some(pending) => (&pending.state, &pending.metadata),
            None => (&self.state, &self.metadata),
        };
        let new: Vec<String> = next.0.keys().filter(|name| !state.marks.contains(name)).cloned().collect();
        if !new.is_empty() {
            let (mut state, mut metadata) = (state.clone(), metadata.clone());
            state.marks.extend(new);
            metadata.configuration.insert(state::KEY.into(), state.encode()?);
            let protocol = self.pending.take().and_then(|pending| pending.protocol);
            self.pending = Some(Pending { state, metadata, protocol });
        }
        self.next_marks = Some(next);
        Ok(())
    }

    /// The commit that [`Core::mark`] was for is in the table.
    pub(super) fn marked(&mut self) {
        if let Some(next) = self.next_marks.take() {
            self.marks = next;
        }
    }

    /// What the position means to other servers.
    pub(super) fn held_marks(&self) -> Marks {
        Marks(
            self.marks
                .0
                .iter()
                .filter(|&(_, &last)| last > 0)
                .map(|(name, &last)| (name.clone(), last))
                .collect(),
        )
    }

    /// A commit landed as the version after the current one.
    pub(super) fn advance(&mut self, position: CommitLsn) {
        self.seen = Instant::now();
        self.version += 1;
        self.position = Some(position);
        self.take_pending();
        self.checkpoint_if_due();
    }

    /// Begins a log checkpoint where the current version, which is new, is one for it.
    pub(super) fn checkpoint_if_due(&mut self) {
        let interval = self.metadata.configuration.get("delta.checkpointInterval");
        let every =
            interval.and_then(|text| text.parse().ok()).filter(|&n| n > 0).unwrap_or(CHECKPOINT_EVERY);
        if self.version % every == 0 {
            let checkpoint = checkpoint(self.files.clone(), self.version, self.schema.name.to_string());
            self.checkpoint = Some(tokio::spawn(checkpoint));
        }
    }

    /// Waits, not for ever, for the log checkpoint that is being written: a process that is started for a few commits
    /// at a time would otherwise never write one.
    pub(super) async fn end_checkpoint(&mut self) {
        if let Some(task) = self.checkpoint.take() {
            // What it cannot say it has logged.
            let _ended = tokio::time::timeout(CHECKPOINT_WAIT, task).await;
        }
    }
}

/// Writes a log checkpoint: it only shortens reading, nothing depends on it.
pub(super) async fn checkpoint(files: TableFiles, version: i64, name: String) {
    if let Err(e) = write_log_checkpoint(&files, version).await {
        tracing::warn!(table = %name, version, "no log checkpoint: {}", e.cause_line());
    }
}

/// Writes a log checkpoint of `version` and syncs it.
async fn write_log_checkpoint(files: &TableFiles, version: i64) -> Result<()> {
    let failed = |e: deltalake::DeltaTableError| {
        Error::new(codes::TG001, format!("cannot write a log checkpoint in \"{}\"", files.url()))
            .with_source(e)
    };
    let mut table = files.delta()?;
    table.load_version(u64::try_from(version).unwrap_or_default()).await.map_err(failed)?;
    deltalake::checkpoints::create_checkpoint(&table, None).await.map_err(failed)?;
    for name in [format!("_delta_log/{version:020}.checkpoint.parquet"), "_delta_log/_last_checkpoint".into()]
    {
        if let Some(path) = files.local_path(&name)
            && let Ok(file) = std::fs::File::open(path)
        {
            file.sync_all().map_err(|e| {
                Error::new(codes::TG001, format!("cannot sync \"{name}\" in \"{}\"", files.url()))
                    .with_source(e)
            })?;
        }
    }
    Ok(())
}

/// Statistics of a file that now has a deletion vector: its bounds are no longer tight.
pub(super) fn loosened(stats: Option<&str>, rows: u32) -> String {
    match stats {
        None => format!("{{\"numRecords\":{rows},\"tightBounds\":false}}"),
        Some(stats) if stats.contains("\"tightBounds\"") => {
            stats.replace("\"tightBounds\":true", "\"tightBounds\":false")
        }
        Some(stats) => match stats.strip_suffix('}') {
            Some(open) if open.len() > 1 => format!("{open},\"tightBounds\":false}}"),
            _ => format!("{{\"numRecords\":{rows},\"tightBounds\":false}}"),
        },
    }
}

/// Unwraps a copy part of ours.
///
/// # Errors
/// `RT001` for a part of another sink.
pub(super) fn part_files(part: CopyPart) -> Result<Vec<super::encode::FinishedFile>> {
    part.0
        .downcast::<Vec<super::encode::FinishedFile>>()
        .map(|files| *files)
        .map_err(|_| Error::new(codes::RT001, "a copy part of another sink"))
}

#[cfg(test)]
mod tests {
    use super::loosened;

    #[test]
    fn loose_statistics_keep_everything_else() {
        assert_eq!(
            loosened(Some(r#"{"numRecords":3,"tightBounds":true}"#), 3),
            r#"{"numRecords":3,"tightBounds":false}"#
        );
        assert_eq!(loosened(Some(r#"{"numRecords":3}"#), 3), r#"{"numRecords":3,"tightBounds":false}"#);
        assert_eq!(loosened(None, 7), r#"{"numRecords":7,"tightBounds":false}"#);
    }
}
