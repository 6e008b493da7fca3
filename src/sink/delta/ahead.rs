//! A new copy of a table that readers use: made ahead of it, chunk by chunk, and put in its place in one commit.
//!
//! The files of a finished chunk belong to no version yet. They are *named in the table's own state*, by a commit that
//! changes no row and no position, together with what is copied so far ([`crate::event::Chunks`]). So readers keep every
//! row until the last chunk, and a copy that dies goes on where it was. The last chunk's commit takes the old files out and
//! all new ones in.
//!
//! While the copy runs no cut goes beyond where it began (`replication`), so the stream can be replayed from the oldest
//! chunk. Rows that are gone from the source are in no chunk: they go with the old files. A copy that was not interrupted
//! stands at one moment, and so does the table in the version that brings it. Chunks of an interrupted one stand at
//! several: from there on it is as with a first copy, and the table is live again with the commit that reaches the newest.
//!
//! # Who dies where
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | a chunk's files are written, not named | files that nothing names | reads this chunk again; the files are vacuum's business |
//! | a chunk is named, the next is not | the old rows in the table; the new files in its state | the request is still on record, the copy goes on there, if the stream can be replayed from the oldest chunk, the source's table is what it was, and every file is there; else it begins again |
//! | the put of a naming commit is sent, its reply is lost | the version, or nothing yet | [`Core::put`] knows its own bytes; the same is put again |
//! | the last chunk is committed, the request is not answered | the new rows | the table is copied once more: readers keep the new rows meanwhile |
//! | the last chunk is committed, the replay has not reached the newest position | new rows at different moments, which the state says | replays, as after a first copy |
//! | another process takes over | its epoch where ours was to go | `Fenced`; it goes on with what is named |
//! | the copy is given up: the table goes on without it | names of files in its state | the commit that opens the table again takes the names out; the files are vacuum's business |
//! | cleaning runs meanwhile | | files that are named are younger than its window, or it leaves them (`in_use_since`) |

use super::commit::{Core, PutEnd, part_files};
use super::encode::FinishedFile;
use super::evolve::Pending;
use super::log;
use super::partition::Values;
use super::state::{self, TableState};
use super::table::now_ms;
use super::upsert::start_of;
use crate::error::Result;
use crate::event::{Chunks, CopyPart};
use crate::position::landing::Planned;
use crate::position::{Interval, Marks};
use crate::sink::CommitOutcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What is copied ahead of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Ahead {
    /// The table's state once it is in place. What is copied stands in it.
    pub state: Box<TableState>,
    /// The files.
    files: Vec<AheadFile>,
    /// When the first of them was named, in milliseconds.
    since: i64,
    /// What the position of the first chunk, the oldest, means to other servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    marks: BTreeMap<String, i64>,
}

/// A file that no version names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct AheadFile {
    path: String,
    size: u64,
    rows: u32,
    stats: String,
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    values: Values,
}

impl Ahead {
    /// Chunks that are copied.
    pub(super) fn chunks(&self) -> &Chunks {
        &self.state.copied
    }

    /// What its position means to other servers.
    pub(super) fn marks(&self) -> Marks {
        Marks(self.marks.clone())
    }

    /// The files, as those who wrote them gave them.
    pub(super) fn finished(&self) -> impl Iterator<Item = FinishedFile> + '_ {
        self.files.iter().map(|file| FinishedFile {
            path: file.path.clone(),
            size: file.size,
            rows: file.rows,
            stats: file.stats.clone(),
            values: Arc::new(file.values.clone()),
        })
    }
}

impl Core {
    /// Readers use what it holds: nothing of it may go before the new copy is whole.
    pub(super) fn is_in_use(&self) -> bool {
        self.state.first_live_version.is_some() || self.state.copied.is_whole()
    }

    /// What was copied ahead can be gone on with only while every file of it is there.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn check_ahead(&mut self) -> Result<()> {
        let Some(ahead) = &self.state.ahead else { return Ok(()) };
        let there: HashSet<String> =
            self.files.list_data().await?.into_iter().map(|file| file.name).collect();
        if let Some(lost) = ahead.files.iter().find(|file| !there.contains(&file.path)) {
            tracing::warn!(table = %self.schema.name, file = %lost.path, "a file of the unfinished copy is gone: it begins again");
            self.state.ahead = None;
        }
        Ok(())
    }

    /// The marks of what is copied: of the table, or of what is copied ahead of it where that is gone on with.
    pub(super) fn marks_to_go_on(&self, chunks: &Chunks) -> Marks {
        match self.state.ahead.as_ref().filter(|ahead| ahead.chunks() == chunks) {
            Some(ahead) => ahead.marks(),
            None => self.held_marks(),
        }
    }

    /// Files written since then may belong to what is copied ahead: all of them, the first were written before anything
    /// named them.
    pub(super) fn ahead_since(&self) -> Option<i64> {
        self.state.ahead.as_ref().map(|_| i64::MIN)
    }
}

/// Names a chunk's files in the table's state. No row changes.
///
/// # Errors
/// As [`Core::put`].
pub(super) async fn commit_chunk(
    core: &mut Core,
    chunks: &Chunks,
    state: TableState,
    is_first: bool,
    parts: Vec<CopyPart>,
) -> Result<CommitOutcome> {
    let mut files = Vec::new();
    for part in parts {
        files.extend(part_files(part)?.into_iter().map(|file| AheadFile {
            path: file.path,
            size: file.size,
            rows: file.rows,
            stats: file.stats,
            values: file.values.as_ref().clone(),
        }));
    }
    core.files.sync_names()?;
    // No position moves: what this one means stands in the state until the copy is in place.
    let of_first = core.next_marks.take().unwrap_or_default();
    let before = core.state.ahead.take().filter(|_| !is_first);
    let marks = before.as_ref().map_or(of_first.0, |ahead| ahead.marks.clone());
    let since = before.as_ref().map_or_else(now_ms, |ahead| ahead.since);
    let mut all = before.map(|ahead| ahead.files).unwrap_or_default();
    all.append(&mut files);
    let state = TableState { copied: chunks.clone(), complete: false, ahead: None, ..state };
    let ahead = Ahead { state: Box::new(state), files: all, since, marks };
    loop {
        let state = TableState { ahead: Some(ahead.clone()), ..core.state.clone() };
        let mut metadata = core.metadata.clone();
        metadata.configuration.insert(state::KEY.into(), state.encode()?);
        core.pending = Some(Pending { state, metadata, protocol: None });
        let position = start_of(core.position);
        let interval = Interval { from: position, to: position };
        let planned = Planned { version: core.version, epoch: core.epoch, interval };
        let actions = core.head("COPY AHEAD", planned, now_ms())?;
        match core.put(planned, log::encode(&actions)?.into()).await? {
            PutEnd::Landed => {
                core.advance(position);
                return Ok(CommitOutcome::Committed { version: core.version });
            }
            PutEnd::Fenced { by } => return Ok(CommitOutcome::Fenced { by }),
            PutEnd::PlanAgain => {
                core.pending = None;
                if let Some(by) = core.reload().await? {
                    return Ok(CommitOutcome::Fenced { by });
                }
            }
        }
    }
}
