//! One takeover, from holding the source to the driver.
//!
//! The order is fixed (DESIGN §5), and each step says what a death after it leaves behind:
//!
//! | step | a death after it leaves |
//! |---|---|
//! | publication, then slot if there is none | a slot that nobody holds, and the next start uses it; or one that the server is still making: it is waited for, and made anew if it goes |
//! | hold the slot in our session | the server frees it |
//! | raise the epoch in the pipeline's record | an owner that is gone; the next start raises it again |
//! | write the epoch to each table, then read its position | fenced tables; the next start fences them again |
//! | check slot, lineage, history | nothing new |
//! | copy what has no position | files that no version names, and chunks that are committed; the copy goes on after them, or begins again ([`Chunks`]) |
//! | stream | units held in part: each table skips what it holds |

use super::beside;
use super::copying::{self, Copied, Copying, Snapshotter};
use super::driver::{Driver, Start};
use super::health;
use super::notes::Round;
use super::source_link::{self, loss};
use super::{Options, Snapshots, StopSignal, Until};
use crate::error::{Code, Disposition, Error, Result, codes};
use crate::event::Chunks;
use crate::position::{CommitLsn, Lineage, Lsn, Marks};
use crate::replication::recovery::{
    CutFound, Held, LossReason, TableFound, TableStart, check_system, judge_table,
};
use crate::replication::{CutEntry, Resume, TableProgress};
use crate::schema::{TableId, TableName, TableSchema};
use crate::sink::{
    CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Sink, StoppedTable, TableRecord,
    WriterLease,
};
use crate::source::{Bookmark, ChangeStream, HeldStream, Place, Source, SourceTable, SourceView, Standing};
use crate::telemetry::status::{PipelineState, PositionText, TableState};
use crate::telemetry::{Metrics, StatusBoard};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was asked for at the start of the process: it does not move when a session begins again.
#[derive(Debug, Default)]
pub(super) struct Goal {
    target: Option<Lsn>,
    resynced: bool,
    /// The history cannot be joined, and the operator has said that everything may be copied again.
    replace_all: bool,
    /// A table changed under its copy: the session begins again, with a new snapshot.
    copy_again: bool,
    /// How often that happened.
    copies_lost: u32,
}

/// So often a copy begins again because its table was truncated or altered meanwhile; then the table stops.
const COPIES_LOST: u32 = 20;

/// How a session ended, when it was no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// What was asked for is done.
    Done,
    /// Begin again at once, with what was learnt.
    Again,
}

/// One session.
pub(super) struct Session<S: Source, K: Sink> {
    pub(super) source: Arc<S>,
    pub(super) sink: Arc<K>,
    pub(super) options: Options,
    pub(super) board: StatusBoard,
    pub(super) metrics: Metrics,
    pub(super) stop: StopSignal,
}

/// A table that follows the stream.
pub(super) struct LiveTable<T> {
    pub(super) schema: Arc<TableSchema>,
    pub(super) table: T,
    pub(super) progress: TableProgress,
    /// What its position means to other servers.
    pub(super) marks: Marks,
}

/// The tables as the takeover found them.
pub(super) struct Opened<T> {
    pub(super) live: BTreeMap<TableId, LiveTable<T>>,
    pub(super) to_copy: Vec<Copying<T>>,
    pub(super) stop: Vec<StoppedTable>,
}

impl<S: Source, K: Sink> Session<S, K> {
    pub(super) async fn run(self, goal: &mut Goal) -> Result<End> {
        let may_replace = self.options.may_replace_slot && !goal.replace_all;
        let may_replace_source = self.options.may_replace_source;
        let (source, board, budget) = (Arc::clone(&self.source), self.board.clone(), self.options.wal_budget);
        let watch = health::watch(source.as_ref(), budget, &board);
        let ended = tokio::select! {
            ended = self.work(goal) => ended,
            // Dropped where it stands, like a kill: what it has begun is found again at the next start.
            error = watch => Err(error),
        };
        if let Err(error) = &ended
            && error.code() == codes::PG047
        {
            tracing::error!(code = %codes::PG047, "{}: the slot is dropped", error.cause_line());
            health::release(source.as_ref()).await?;
        }
        match ended {
            Err(error) if may_replace && is_replaceable(&error, may_replace_source) => {
                tracing::warn!(code = %error.code(), "{}: every table is copied again", error.cause_line());
                goal.replace_all = true;
                Ok(End::Again)
            }
            Err(_) if std::mem::take(&mut goal.copy_again) => Ok(End::Again),
            other => other.map(|()| End::Done),
        }
    }

    async fn work(self, goal: &mut Goal) -> Result<()> {
        let mut stop = self.stop.clone();
        let driver = tokio::select! {
            prepared = self.prepare(goal) => prepared?,
            // As with a kill.
            () = stop.wait() => return Ok(()),
        };
        Box::pin(driver.run(&mut stop)).await
    }

    /// The source as it is, with every table that was asked for.
    async fn look(&self) -> Result<SourceView> {
        let view = self.source.inspect().await?;
        self.show_source(&view);
        self.check_names(&view)?;
        match (&view.tables[..], &view.refused[..]) {
            ([], [refused, ..]) => Err(refused.error.retold()),
            _ => Ok(view),
        }
    }

    /// Everything before the stream. See the module.
    async fn prepare(self, goal: &mut Goal) -> Result<Driver<S, K>> {
        let view = self.look().await?;
        let replaced = goal.replace_all;
        let (fresh, view) = self.make_slot(view, replaced).await?;
        // A table that is not published has missed changes since; it is looked at before it is added again.
        let missed = if fresh.is_some() { BTreeMap::new() } else { self.lost(&view).await? };
        let HeldStream { mut stream, mut slot, mut point } = self.source.stream().await?;
        let (lease, record) = self.sink.take_over().await?;
        tracing::info!(epoch = %lease.epoch, slot = %slot.confirmed_flush, "took over");
        let mut opened = self.open_tables(&lease, &record, &view, &missed, replaced, goal).await?;
        let is_same_server =
            record.lineage.as_ref().is_some_and(|was| was.system_id == point.lineage.system_id);
        if !is_same_server {
            self.copy_mixed_again(&lease, &record, &view, &mut opened).await?;
        }
        let held = held(&record, &opened.live);
        let bookmark = if replaced { Bookmark::default() } else { bookmark(&record, &opened.live, &held) };
        let partial = if is_same_server && !replaced { partial_copies(&opened.to_copy) } else { Vec::new() };
        if let Some(place) = seek(&mut stream, bookmark, partial).await? {
            (slot, point) = (place.slot, place.point);
        } else if !replaced {
            let positions: Vec<CommitLsn> = opened.live.values().map(|t| t.progress.position).collect();
            let was = fresh.is_none().then_some(&slot);
            let (source, recorded) = (self.source.as_ref(), record.lineage.clone());
            let recorded = source_link::carried_on(source, recorded, &point, &held, &positions).await?;
            source_link::check(&point, was, recorded.as_ref(), held.position, &positions)?;
            if source_link::watch_replay(&mut stream, held, &slot).await? {
                drop(stream);
                HeldStream { stream, slot, .. } = self.source.stream().await?;
            }
        }
        self.store(&lease, &record, &point.lineage, &opened, replaced).await?;
        if fresh.is_none() && !missed.is_empty() {
            self.publish_late(&lease, &record, &view, &mut opened).await?;
        }
        self.set_target(goal).await?;
        let Opened { mut live, mut to_copy, .. } = opened;
        let is_same_history = record.lineage.as_ref() == Some(&point.lineage);
        let cut = record.cut.filter(|_| !replaced);
        let begin = slot.confirmed_flush.max(cut.as_ref().map_or(CommitLsn::ZERO, |cut| cut.position));
        let known = if is_same_history { point.flushed } else { Lsn::ZERO };
        to_copy.iter_mut().for_each(|copying| copying.go_on(begin, known));
        for done in self.copy_all(&lease, to_copy, fresh, begin, goal).await? {
            let Copied { schema, table, progress } = done;
            live.insert(schema.id, LiveTable { schema, table, progress, marks: Marks::default() });
        }
        let last_copy = live.values().map(|t| t.progress.position.max(t.progress.whole_from)).max();
        goal.resynced = true;
        let end = self.end(goal, last_copy);
        let start = Start {
            lease,
            lineage: point.lineage,
            flushed: point.flushed,
            end,
            from: slot.confirmed_flush,
            resume: resume(cut.as_ref(), &live),
            target: self.target(goal, last_copy),
            stopped: standing_aside(&view, &live),
            requests: record.requests,
        };
        self.board.clear_retrying();
        // Everything is copied: the next loss is another one.
        goal.replace_all = false;
        Ok(Driver::new(self, start, stream, live))
    }

    /// Publication and slot, in this order, where there is no slot, or where it is given up. `None`: the slot
    /// was there and stays.
    async fn make_slot(&self, view: SourceView, replaced: bool) -> Result<(Option<S::Copy>, SourceView)> {
        if view.slot.is_some() && !replaced {
            return Ok((None, view));
        }
        let before = self.sink.peek().await?.unwrap_or_default();
        // A wrong address must not empty the target, whatever may be replaced by itself.
        if S::ONE_SYSTEM
            && !self.options.may_replace_source
            && let Some(recorded) = before.lineage.as_ref().filter(|_| before.cut.is_some())
        {
            check_system(recorded, &view.point.lineage).map_err(loss)?;
        }
        if view.slot.is_none() && before.cut.is_some() && !replaced {
            return Err(loss(LossReason::SlotMissing));
        }
        if view.slot.is_some() {
            self.source.drop_slot().await?;
        }
        self.source.publish(&view.tables, false).await?;
        // How tables are published is part of what their copies remember.
        Ok((Some(self.source.create_slot().await?), self.source.inspect().await?))
    }

    /// Adds tables to the publication of a slot that is there. Those that held something were stopped, and
    /// that is recorded; those that held nothing are copied after this.
    async fn publish_late(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        view: &SourceView,
        opened: &mut Opened<K::Table>,
    ) -> Result<()> {
        let refused = self.source.publish(&view.tables, true).await?;
        let mut stop = Vec::new();
        for refused in refused {
            opened.to_copy.retain(|copying| copying.schema.id != refused.id);
            if opened.live.remove(&refused.id).is_some() || !record.stopped.contains_key(&refused.id) {
                stop.push(self.stopped(refused.id, &refused.name, record, &refused.error));
            }
        }
        let now = self.source.inspect().await?;
        for copying in &mut opened.to_copy {
            let found = now.tables.iter().find(|t| t.schema.id == copying.schema.id);
            if let Some(found) = found.filter(|found| found.schema.form != copying.schema.form) {
                let (table, record, _) = self.open_one(lease, record, found, OpenFor::Replace).await?;
                let (schema, estimate) = (Arc::clone(&found.schema), found.estimated_rows);
                *copying = Copying { schema, table, record, estimate, chunks: Chunks::default() };
            }
        }
        if stop.is_empty() {
            return Ok(());
        }
        match self.sink.record(lease, RecordChange { stop, ..RecordChange::default() }).await? {
            CommitOutcome::Committed { .. } => Ok(()),
            CommitOutcome::Fenced { by } => Err(copying::fenced(by)),
        }
    }

    /// Every table that is to be copied again must be there.
    fn check_names(&self, view: &SourceView) -> Result<()> {
        S::CODES.check_names(
            &self.options.resync,
            |name| {
                let is_ours = |table: SourceTable| table.schema.name == *name;
                beside::table(&*self.source, &*self.sink).is_some_and(is_ours)
                    || view.tables.iter().any(|t| t.schema.name == *name)
            },
            |name| view.refused.iter().find(|refused| refused.name == *name).map(|refused| &refused.error),
        )
    }

    fn show_source(&self, view: &SourceView) {
        let lineage = &view.point.lineage;
        self.board.update(|status| {
            status.source.system_id = Some(lineage.system_id.clone());
            status.source.timeline = Some(lineage.timeline);
            status.source.server_version = Some(view.server.clone());
            status.source.server_flushed = Some(PositionText(view.point.flushed));
            for refused in &view.refused {
                status.table(&refused.name).stop(refused.error.code(), told(&refused.error));
            }
            for table in &view.tables {
                status.table(&table.schema.name);
            }
        });
        for refused in &view.refused {
            tracing::error!(table = %refused.name, code = %refused.error.code(), "{}", told(&refused.error));
        }
    }

    /// Tables whose changes the stream does not hold whole.
    async fn lost(&self, view: &SourceView) -> Result<BTreeMap<TableId, Error>> {
        let schemas: Vec<_> = view.tables.iter().map(|table| Arc::clone(&table.schema)).collect();
        let found = self.source.check(&schemas).await?.into_iter();
        Ok(found
            .filter_map(|(id, standing)| match standing {
                Standing::Lost(error) => Some((id, error)),
                // It was looked at a moment ago, and is looked at again when it streams.
                Standing::Changed(_) => None,
            })
            .collect())
    }

    pub(super) fn wants_copy(&self, schema: &TableSchema, record: &PipelineRecord, goal: &Goal) -> bool {
        let asked = self.options.resync.contains(&schema.name) && !goal.resynced;
        asked || record.requests.iter().any(|request| request.amend.is_none() && request.table == schema.name)
    }

    async fn open_tables(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        view: &SourceView,
        missed: &BTreeMap<TableId, Error>,
        replaced: bool,
        goal: &Goal,
    ) -> Result<Opened<K::Table>> {
        let mut opened = Opened { live: BTreeMap::new(), to_copy: Vec::new(), stop: Vec::new() };
        for refused in view.refused.iter().filter(|r| !record.stopped.contains_key(&r.id)) {
            // From here on the cuts leave it out: that must be on record.
            opened.stop.push(self.stopped(refused.id, &refused.name, record, &refused.error));
        }
        for source in &view.tables {
            let schema = &source.schema;
            let replace = replaced || self.wants_copy(schema, record, goal);
            if let Some(stopped) = record.stopped.get(&schema.id).filter(|_| !replace) {
                self.board.update_table(&schema.name, |t| t.stop(stopped.code, stopped.message.clone()));
                continue;
            }
            let purpose = if replace { OpenFor::Replace } else { OpenFor::Continue(self.options.changes) };
            match self.open_one(lease, record, source, purpose).await {
                Ok((table, found, TableStart::Live(progress))) => {
                    if let Some(error) = missed.get(&schema.id) {
                        opened.stop.push(self.stopped(schema.id, &schema.name, record, error));
                        continue;
                    }
                    self.board.update_table(&schema.name, |t| {
                        t.state = TableState::CatchingUp;
                        t.version = Some(found.version);
                        t.position = found.position.map(|p| PositionText(p.lsn()));
                    });
                    let schema = Arc::new(TableSchema::clone(schema).with_past(found.past));
                    opened.live.insert(schema.id, LiveTable { schema, table, progress, marks: found.marks });
                }
                Ok((table, record, TableStart::Copy | TableStart::Stop(_))) => {
                    let chunks = Some(&record.chunks).filter(|chunks| !chunks.is_whole());
                    let (estimate, chunks) = (source.estimated_rows, chunks.cloned().unwrap_or_default());
                    opened.to_copy.push(Copying {
                        schema: Arc::clone(schema),
                        table,
                        record,
                        estimate,
                        chunks,
                    });
                }
                Err(error) if error.code() == codes::PG025 && self.options.may_replace_slot => {
                    tracing::warn!(table = %schema.name, "{}: it is copied again", error.cause_line());
                    let (table, record, _) = self.open_one(lease, record, source, OpenFor::Replace).await?;
                    let (estimate, chunks) = (source.estimated_rows, Chunks::default());
                    opened.to_copy.push(Copying {
                        schema: Arc::clone(schema),
                        table,
                        record,
                        estimate,
                        chunks,
                    });
                }
                Err(error) if error.code().disposition == Disposition::HaltTable => {
                    opened.stop.push(self.stopped(schema.id, &schema.name, record, &error));
                }
                Err(error) => return Err(error),
            }
        }
        self.open_beside(lease, record, replaced, goal, &mut opened).await?;
        Ok(opened)
    }

    /// Tables whose chunks are of different moments: positions of another server cannot be compared with those.
    async fn copy_mixed_again(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        view: &SourceView,
        opened: &mut Opened<K::Table>,
    ) -> Result<()> {
        for source in &view.tables {
            let id = source.schema.id;
            let is_mixed =
                |t: &LiveTable<K::Table>| !t.progress.covered && t.progress.whole_from > t.progress.position;
            if !opened.live.get(&id).is_some_and(is_mixed) {
                continue;
            }
            opened.live.remove(&id);
            tracing::info!(table = %source.schema.name, "its copy was of several moments of another server: it is copied again");
            let (table, found, _) = self.open_one(lease, record, source, OpenFor::Replace).await?;
            opened.to_copy.push(Copying {
                schema: Arc::clone(&source.schema),
                table,
                record: found,
                estimate: source.estimated_rows,
                chunks: Chunks::default(),
            });
        }
        Ok(())
    }

    pub(super) async fn open_one(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        source: &SourceTable,
        purpose: OpenFor,
    ) -> Result<(K::Table, TableRecord, TableStart)> {
        let schema = &source.schema;
        self.board.advance();
        let named: Option<&CutTable> = record.cut.as_ref().and_then(|cut| cut.tables.get(&schema.id));
        let (table, found) = self.sink.open_table(lease, Arc::clone(schema), purpose, named).await?;
        if let Some(why) = &found.outdated {
            tracing::info!(table = %schema.name, "{why}: it is copied again");
        }
        if purpose == OpenFor::Replace || found.outdated.is_some() {
            return Ok((table, found, TableStart::Copy));
        }
        let entry = named.map(|named| CutEntry {
            name: named.name.clone(),
            target_id: named.target_id.clone(),
            version: named.version,
            position: named.position,
        });
        let cut = record.cut.as_ref().map(|cut| CutFound { position: cut.position, entry: entry.as_ref() });
        let judged = TableFound {
            name: schema.name.clone(),
            target_id: found.target_id.clone(),
            version: found.version,
            position: found.position,
            copied_at: found.copied_at,
            whole_from: found.chunks.newest(),
        };
        match judge_table(&judged, cut) {
            TableStart::Stop(mismatch) => {
                Err(crate::sink::table_error(&schema.name, mismatch.code(), mismatch.text())
                    .with_try(format!("strandline resync \"{}\" --yes", schema.name)))
            }
            start => Ok((table, found, start)),
        }
    }

    pub(super) fn stopped(
        &self,
        id: TableId,
        name: &TableName,
        record: &PipelineRecord,
        error: &Error,
    ) -> StoppedTable {
        let code = S::CODES.own(error.code());
        tracing::error!(table = %name, code = %code, "{}", told(error));
        self.board.update_table(name, |t| t.stop(code, told(error)));
        StoppedTable {
            id,
            name: name.clone(),
            code,
            message: told(error),
            position: record.cut.as_ref().map_or(CommitLsn::ZERO, |cut| cut.position),
        }
    }

    /// Lineage on the first start, and the tables that may not go on.
    async fn store(
        &self,
        lease: &WriterLease,
        record: &PipelineRecord,
        found: &Lineage,
        opened: &Opened<K::Table>,
        replaced: bool,
    ) -> Result<()> {
        let lineage = Some(found.clone()).filter(|found| record.lineage.as_ref() != Some(found));
        // A table that is to be copied is no longer stopped; nor is one of its name that is gone.
        let names: BTreeSet<_> = opened.to_copy.iter().map(|c| &c.schema.name).collect();
        let resume: Vec<TableId> =
            record.stopped.values().filter(|s| names.contains(&s.name)).map(|s| s.id).collect();
        if lineage.is_none() && opened.stop.is_empty() && resume.is_empty() && !replaced {
            return Ok(());
        }
        let stop = opened.stop.clone();
        let change = RecordChange { lineage, stop, resume, forget_cuts: replaced, ..RecordChange::default() };
        match self.sink.record(lease, change).await? {
            CommitOutcome::Committed { .. } => Ok(()),
            CommitOutcome::Fenced { by } => Err(copying::fenced(by)),
        }
    }

    /// Copies what is to be copied. `begin`: where a table begins that is not copied.
    async fn copy_all(
        &self,
        lease: &WriterLease,
        to_copy: Vec<Copying<K::Table>>,
        fresh: Option<S::Copy>,
        begin: CommitLsn,
        goal: &mut Goal,
    ) -> Result<Vec<Copied<K::Table>>> {
        let mut copied = Vec::new();
        let is_never = self.options.snapshots == Snapshots::Never;
        let (bare, to_copy): (Vec<_>, Vec<_>) =
            to_copy.into_iter().partition(|copying| is_never || copying.schema.is_messages());
        for copying in bare {
            copied.push(copying::begin_without::<K>(copying, begin).await?);
        }
        if is_never {
            return Ok(copied);
        }
        if !to_copy.is_empty() {
            self.board.set_phase(PipelineState::Snapshotting);
        }
        let round = self.tell_begin(&to_copy);
        let mut snapshots = Snapshotter::new(
            Arc::clone(&self.source),
            fresh,
            self.metrics.clone(),
            self.options.copies,
            self.options.desk.gate.clone(),
        );
        let count = to_copy.iter().filter(|copying| !copying.schema.is_beside()).count();
        let mut at = 0;
        for copying in to_copy {
            let schema = Arc::clone(&copying.schema);
            at += usize::from(!schema.is_beside());
            // What stands beside the tables is none of them.
            let place = if schema.is_beside() { (false, false) } else { (at == 1, at == count) };
            if !schema.is_beside() {
                self.sink.notify(round.in_progress(&schema.name));
            }
            match snapshots.copy::<K>(copying, place, &self.board).await {
                Ok(done) => {
                    self.tell_scanned(&round, &done.schema);
                    copied.push(done);
                }
                Err(error) if error.code().is_change() && goal.copies_lost < COPIES_LOST => {
                    tracing::info!(table = %schema.name, "{}: its copy begins again", error.cause_line());
                    self.sink.notify(Round::aborted());
                    (goal.copy_again, goal.copies_lost) = (true, goal.copies_lost + 1);
                    return Err(error);
                }
                Err(error) if error.code().disposition == Disposition::HaltTable => {
                    let record = PipelineRecord::default();
                    let stop = vec![self.stopped(schema.id, &schema.name, &record, &error)];
                    let change = RecordChange { stop, ..RecordChange::default() };
                    if let CommitOutcome::Fenced { by } = self.sink.record(lease, change).await? {
                        return Err(copying::fenced(by));
                    }
                }
                Err(error) => {
                    self.sink.notify(Round::aborted());
                    return Err(error);
                }
            }
        }
        snapshots.end().await?;
        if count > 0 {
            self.sink.notify(Round::completed());
        }
        Ok(copied)
    }

    /// What is told before the first copy.
    fn tell_begin(&self, to_copy: &[Copying<K::Table>]) -> Round {
        let tables: Vec<&TableName> =
            to_copy.iter().filter(|c| !c.schema.is_beside()).map(|c| &c.schema.name).collect();
        self.sink.notify(if tables.is_empty() { Round::skipped() } else { Round::started() });
        Round::new(tables.into_iter())
    }

    fn tell_scanned(&self, round: &Round, schema: &TableSchema) {
        if schema.is_beside() {
            return;
        }
        let name = &schema.name;
        let rows = |status: &crate::telemetry::status::Status| {
            status
                .tables
                .iter()
                .find(|table| table.name == name.to_string())
                .and_then(|table| table.rows_copied)
        };
        self.sink.notify(round.scanned(name, self.board.read(rows).unwrap_or_default()));
    }

    /// Fixes what "everything before the start" means, once a process.
    async fn set_target(&self, goal: &mut Goal) -> Result<()> {
        if goal.target.is_none() {
            goal.target = match self.options.until {
                Until::Stopped => None,
                Until::Lsn(lsn) => Some(lsn),
                Until::CaughtUp => {
                    let end = self.source.end_of_log().await?;
                    // A transaction of ours behind it: the stream passes it even when nothing else comes.
                    if let Err(error) = self.source.heartbeat().await {
                        tracing::warn!(code = %error.code(), "no heartbeat: {}", error.cause_line());
                    }
                    Some(end)
                }
            };
        }
        Ok(())
    }

    /// Where the stream ends: nothing at or after it is taken.
    fn end(&self, goal: &Goal, last_copy: Option<CommitLsn>) -> Option<Lsn> {
        match (self.options.until, self.options.snapshots) {
            (Until::Lsn(_), _) => goal.target,
            (_, Snapshots::Only) => Some(last_copy.map_or(Lsn::ZERO, CommitLsn::lsn)),
            _ => None,
        }
    }

    /// What a cut must cover before the run is done.
    fn target(&self, goal: &Goal, last_copy: Option<CommitLsn>) -> Option<Lsn> {
        match self.options.snapshots {
            Snapshots::Only => Some(last_copy.map_or(Lsn::ZERO, CommitLsn::lsn)),
            Snapshots::Initial | Snapshots::Never => goal.target,
        }
    }
}

/// Losses that a new copy of every table mends. Another system or database is a wrong address, not a loss, unless an
/// operator says otherwise ([`super::Options::may_replace_source`]).
const REPLACEABLE: [Code; 12] = [
    codes::PG040,
    codes::PG041,
    codes::PG043,
    codes::PG044,
    codes::PG045,
    codes::PG046,
    codes::PG047,
    codes::PG007,
    codes::MY040,
    codes::MY043,
    codes::MY044,
    codes::MY045,
];

fn is_replaceable(error: &Error, may_replace_source: bool) -> bool {
    REPLACEABLE.contains(&error.code()) || (may_replace_source && error.code() == codes::PG042)
}

/// What was found and what to do, in one line: for the log, the status and the record of a stopped table.
pub(super) fn told(error: &Error) -> String {
    match error.advice() {
        Some(advice) => format!("{}; try: {}", error.cause_line(), advice.replace('\n', " ")),
        None => error.cause_line(),
    }
}

/// Tables of the source that do not follow the stream.
fn standing_aside<T>(
    view: &SourceView,
    live: &BTreeMap<TableId, LiveTable<T>>,
) -> BTreeMap<TableId, TableName> {
    let all = view.tables.iter().map(|t| (t.schema.id, t.schema.name.clone()));
    let refused = view.refused.iter().map(|t| (t.id, t.name.clone()));
    all.chain(refused).filter(|(id, _)| !live.contains_key(id)).collect()
}

/// What tables and record hold, for a source that keeps no place for us.
fn bookmark<T>(record: &PipelineRecord, live: &BTreeMap<TableId, LiveTable<T>>, held: &Held) -> Bookmark {
    let cut = record.cut.as_ref();
    let of_cut = cut.map(|cut| cut.marks.clone()).unwrap_or_default();
    let tables = live.values().map(|t| match cut {
        // Between its own position and the cut it had no changes.
        Some(cut) if t.progress.covered && t.progress.position <= cut.position => {
            (cut.position, of_cut.clone())
        }
        Some(_) | None => (t.progress.position, t.marks.clone()),
    });
    Bookmark {
        lineage: record.lineage.clone(),
        position: held.position,
        marks: of_cut.clone(),
        witnesses: held.witness.into_iter().collect(),
        ahead: held.ahead.clone(),
        tables: tables.collect(),
    }
}

/// Copies that are to go on: the stream is to be replayed from the oldest chunk.
fn partial_copies<T>(copies: &[Copying<T>]) -> Vec<(CommitLsn, Marks)> {
    let place = |copying: &Copying<T>| Some((copying.chunks.oldest()?, copying.record.marks.clone()));
    copies.iter().filter_map(place).collect()
}

/// Goes where the bookmark says; where the log does not reach back to copies that could go on, these begin again.
async fn seek<C: ChangeStream>(
    stream: &mut C,
    bookmark: Bookmark,
    partial: Vec<(CommitLsn, Marks)>,
) -> Result<Option<Place>> {
    if partial.is_empty() {
        return stream.seek(bookmark).await;
    }
    let mut with = bookmark.clone();
    with.tables.extend(partial);
    match stream.seek(with).await {
        Err(error) if REPLACEABLE.contains(&error.code()) => {
            tracing::info!("{}: copies that were begun begin again", error.cause_line());
            stream.seek(bookmark).await
        }
        other => other,
    }
}

/// Where the stream goes on.
fn resume<T>(cut: Option<&Cut>, live: &BTreeMap<TableId, LiveTable<T>>) -> Resume {
    Resume {
        cut: cut.map_or(CommitLsn::ZERO, |cut| cut.position),
        witness: cut.and_then(|cut| cut.witness),
        tables: live.iter().map(|(id, t)| (*id, t.progress.clone())).collect(),
    }
}

/// What the tables and the record hold, for the check of the replay.
fn held<T>(record: &PipelineRecord, live: &BTreeMap<TableId, LiveTable<T>>) -> Held {
    let cut = record.cut.as_ref().map_or(CommitLsn::ZERO, |cut| cut.position);
    let ahead = live
        .values()
        .filter(|t| !t.progress.from_copy && t.progress.position > cut)
        .map(|t| t.progress.position)
        .collect();
    Held { position: cut, witness: record.cut.as_ref().and_then(|cut| cut.witness), ahead }
}
