//! A copy of a whole table: several workers write files, one commit replaces the content.

use super::ahead::{self, Ahead};
use super::cdc;
use super::commit::{Core, PutEnd, part_files};
use super::encode::FinishedFile;
use super::layout::Form;
use super::log::{self, Action};
use super::names;
use super::state::{Mode, TableState};
use super::storage::TableFiles;
use super::table::{self, DataFile, now_ms};
use super::upsert::start_of;
use super::writers::{Layout, Open, Writers, close_all};
use crate::error::{Result, codes};
use crate::event::{ChangeBatch, Chunks, CopyPart, CopyWriter};
use crate::position::landing::Planned;
use crate::position::{CommitLsn, Interval};
use crate::schema::TableSchema;
use crate::sink::{Base, CommitOutcome, table_error};
use std::sync::Arc;
use tokio::runtime::Handle;

/// One worker's files.
pub(super) struct DeltaCopyWriter {
    files: TableFiles,
    /// The table's, as files have it.
    schema: Arc<TableSchema>,
    form: Form,
    runtime: Handle,
    writers: Writers,
    finished: Vec<FinishedFile>,
}

impl DeltaCopyWriter {
    /// For one worker. Must be made inside the runtime.
    pub(super) fn new(files: TableFiles, schema: Arc<TableSchema>, form: Form, by: &[String]) -> Self {
        let key = schema.key.iter().map(|&i| schema.columns[i].name.clone()).collect();
        let writers = Writers::new(Layout::data(by, key));
        DeltaCopyWriter { files, schema, form, runtime: Handle::current(), writers, finished: Vec::new() }
    }

    fn close(&mut self, files: Vec<Open>) -> Result<()> {
        // The worker that calls is itself inside a `block_on`: that context is left for the time being.
        let finished = tokio::task::block_in_place(|| self.runtime.block_on(close_all(files)))?;
        self.finished.extend(finished.into_iter().map(|(_, file)| file));
        Ok(())
    }
}

impl CopyWriter for DeltaCopyWriter {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let rows = self.form.rows(batch, &self.schema, now_ms() * 1000)?;
        let rows = names::dressed(rows, &self.schema)?.after;
        self.writers.write(&self.files, &rows)?;
        let full = self.writers.full();
        self.close(full)
    }

    fn finish(mut self: Box<Self>) -> Result<CopyPart> {
        let all = self.writers.all();
        self.close(all)?;
        Ok(CopyPart(Box::new(std::mem::take(&mut self.finished))))
    }
}

/// Replaces the table's content by the parts, in one commit at `position`.
///
/// # Errors
/// As [`Core::put`].
pub(super) async fn commit_copy(
    core: &mut Core,
    position: CommitLsn,
    parts: Vec<CopyPart>,
    base: Base,
) -> Result<CommitOutcome> {
    let commit = CopyCommit { operation: "OVERWRITE", position, replaces: true, earlier: Vec::new() };
    commit
        .run(core, parts, |core| TableState {
            first_live_version: Some(core.version + 1),
            complete: base == Base::Copied,
            ..anew(core)
        })
        .await
}

/// Adds a chunk of a copy, in one commit with what is copied now. The first one replaces the table's content, but where
/// readers use it: there the last one does. The interleavings stand in [`crate::event::Chunks`]'s module and in
/// [`super::ahead`].
///
/// # Errors
/// As [`Core::put`].
pub(super) async fn commit_chunk(
    core: &mut Core,
    chunks: &Chunks,
    is_first: bool,
    parts: Vec<CopyPart>,
) -> Result<CommitOutcome> {
    let is_in_use = core.is_in_use();
    if is_in_use && !chunks.is_whole() {
        let state = anew(core);
        return ahead::commit_chunk(core, chunks, state, is_first, parts).await;
    }
    let position = chunks.oldest().unwrap_or_default();
    let is_live = chunks.is_whole() && !chunks.is_mixed();
    let before = core.state.ahead.take().filter(|_| is_in_use && !is_first);
    let earlier = before.iter().flat_map(Ahead::finished).collect();
    if let Some(before) = &before {
        core.next_marks = Some(before.marks());
    }
    let is_first = is_first || is_in_use;
    let commit = CopyCommit { operation: "COPY CHUNK", position, replaces: is_first, earlier };
    commit
        .run(core, parts, |core| TableState {
            first_live_version: is_live.then_some(core.version + 1),
            copied: if is_live { Chunks::default() } else { chunks.clone() },
            complete: chunks.is_whole(),
            ..if is_first { anew(core) } else { core.state.clone() }
        })
        .await
}

/// The state of a table whose content is replaced. Names of marks that are no longer used stay: what stands under
/// them is void, and must be known to be.
fn anew(core: &Core) -> TableState {
    let mut state = TableState::new(&core.state.pipeline, &core.schema, &core.form);
    state.marks = core.state.marks.clone();
    let used = core.next_marks.iter().flat_map(|marks| marks.0.keys());
    state.marks.extend(used.filter(|name| !core.state.marks.contains(name)).cloned());
    state
}

/// A commit of copied files.
struct CopyCommit {
    operation: &'static str,
    position: CommitLsn,
    /// What the table held goes.
    replaces: bool,
    /// Files that were copied ahead.
    earlier: Vec<FinishedFile>,
}

impl CopyCommit {
    /// Commits the parts; `state` says the table's state at each attempt, but for where it was copied.
    async fn run(
        self,
        core: &mut Core,
        parts: Vec<CopyPart>,
        state: impl Fn(&Core) -> TableState,
    ) -> Result<CommitOutcome> {
        let mut finished = self.earlier;
        for part in parts {
            finished.extend(part_files(part)?);
        }
        core.files.sync_names()?;
        core.pending = None;
        loop {
            if self.replaces && cdc::is_on(core) {
                // What goes is told, row by row.
                table::read_vectors(&core.files, core.slots.iter_mut()).await?;
            }
            let interval = Interval { from: start_of(core.position), to: self.position };
            let planned = Planned { version: core.version, epoch: core.epoch, interval };
            let now = now_ms();
            let state = TableState { copied_at: self.position.to_stored(), ..state(core) };
            let names = core.names.as_ref();
            let metadata =
                table::metadata_for(&core.schema, &state, Some(&core.metadata), &core.form, names, now)?;
            let mut actions = core.head(self.operation, planned, now)?;
            if self.replaces {
                actions.extend(cdc::of_copy(core, &finished).await?);
            }
            let wanted = table::protocol_for(&core.schema, core.form.mode, &metadata.configuration);
            let protocol = wider(&core.protocol, &wanted);
            if protocol != core.protocol {
                actions.push(Action::Protocol(protocol.clone()));
            }
            actions.push(Action::MetaData(metadata.clone()));
            if self.replaces {
                actions.extend(core.live_files().map(|(_, file)| Action::Remove(file.remove(now, true))));
            }
            let files = DataFile::all_new(&finished, now, &mut actions);
            match core.put(planned, log::encode(&actions)?.into()).await? {
                PutEnd::Landed => {
                    if self.replaces {
                        core.slots.replace(files);
                    } else {
                        core.slots.extend(files);
                    }
                    (core.state, core.metadata, core.protocol) = (state, metadata, protocol);
                    core.advance(self.position);
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

/// A table's protocol never loses a feature.
pub(super) fn wider(old: &log::Protocol, new: &log::Protocol) -> log::Protocol {
    let join = |a: &[String], b: &[String]| {
        let mut all = a.to_vec();
        all.extend(b.iter().filter(|f| !a.contains(f)).cloned());
        all
    };
    log::Protocol {
        min_reader_version: old.min_reader_version.max(new.min_reader_version),
        min_writer_version: old.min_writer_version.max(new.min_writer_version),
        reader_features: join(&old.reader_features, &new.reader_features),
        writer_features: join(&old.writer_features, &new.writer_features),
    }
}

/// Another table of the source takes the place of this one: its columns get other names in files. A feed would tell of the
/// rows that go under names that only the old schema has.
///
/// # Errors
/// `TG021`.
pub(super) fn check_followed_by_another(core: &Core) -> Result<()> {
    let is_mapped = core.state.layout.column_mapping && core.form.layout.column_mapping;
    if core.state.source_table == core.schema.id || !is_mapped || !core.is_in_use() || !cdc::is_on(core) {
        return Ok(());
    }
    let what = "in the source it was dropped and made again, and a change data feed of a table with column mapping \
                cannot tell that its rows are gone";
    Err(table_error(&core.schema.name, codes::TG021, what)
        .with_try("move the target directory away, then start again"))
}

/// Whether a table can be opened to be copied anew although it is to be written in another way.
///
/// # Errors
/// `TG021`: a change log cannot become a table in place, nor the reverse, while readers hold it; and a table never
/// loses a feature that its readers must know.
pub(super) fn check_replaceable(core: &Core) -> Result<()> {
    let (is, wanted) = (core.state.mode, core.form.mode);
    let (was_mapped, is_mapped) = (core.state.layout.column_mapping, core.form.layout.column_mapping);
    // A feed would tell of old rows under names that only the new ones have.
    if was_mapped && !is_mapped || !was_mapped && is_mapped && core.is_in_use() && cdc::is_on(core) {
        return Err(core.written_otherwise().with_try("move the target directory away, then start again"));
    }
    let can_become = is == wanted || (is, wanted) == (Mode::CopyOnWrite, Mode::Upsert);
    if can_become || core.state.first_live_version.is_none() && is != Mode::Upsert {
        return Ok(());
    }
    Err(core.written_otherwise().with_try("move the target directory away, then start again"))
}
