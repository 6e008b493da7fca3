//! Where a stream begins, and that the log there is the one that was applied; then bursts.
//!
//! The server keeps no place for us. [`MyChanges::seek`] goes where the target's bookmark says:
//!
//! | the server | what is held | the stream begins |
//! |---|---|---|
//! | the same | a cut at `P` | at the last applied transaction, which must stand there as it was applied; what ends at or before `P` is not told again |
//! | the same | copies, and no cut yet | at the first of their positions |
//! | the same | nothing | at an exact place of now, or where the first snapshot was taken |
//! | another, with GTIDs | sets | after the intersection of all sets; nothing is told before their union was met |
//! | another, without | | nowhere: `MY042` |
//!
//! What cannot be joined is found before anything is read for a table: the files are gone (`MY040`), transactions that
//! we hold are missing (`MY043`), the log ends before us (`MY044`), it is another history (`MY045`).

use super::adapter::Shared;
use super::assemble::{Assembler, Progress};
use super::dump::{Dump, Form, Received};
use super::fault::event_error;
use super::gtids;
use super::lock::Lock;
use super::lookup::{Learned, LookUp};
use super::options::MyOptions;
use super::recall::Reader;
use super::server::{Gtids, LogEnd, Server, too_large};
use super::snapshot::{self, Exact};
use super::sql::Sql;
use crate::binlog::Flavor;
use crate::error::{Code, Error, Result, codes};
use crate::event::{ChangeBatch, Txn};
use crate::position::gtid::{GtidSet, Tag};
use crate::position::{CommitLsn, FIRST_OFFSET, Lineage, LogPoint, Lsn, Marks, ServerPoint, Witness};
use crate::schema::{TableId, TableSchema};
use crate::source::{Bookmark, Budget, Burst, ChangeStream, Place, SlotState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How to go on after a loss.
const RESYNC: &str =
    "strandline resync TABLE --yes  (every table is copied; targets keep their content until then)";

/// The stream behind its trait.
pub struct MyChanges {
    shared: Arc<Shared>,
    server: Server,
    lock: Option<Lock>,
    live: Option<Live>,
    stop_before: Option<Lsn>,
}

/// A stream that was begun.
struct Live {
    dump: Dump,
    assembler: Assembler,
    /// Taken off the wire and not taken in: a table must be looked at first.
    held_back: Option<Received>,
    /// Rows that were prepared before, from where they stand in the log.
    recall: Option<Reader>,
    /// What must be known before the stream goes on.
    look_up: Option<LookUp>,
    /// Ends of transactions that tables hold: each must be met.
    ahead: BTreeSet<CommitLsn>,
    /// What positions of another server are by GTIDs.
    sets: BTreeMap<CommitLsn, Gtids>,
    has_marks: bool,
}

/// Where to begin.
struct Beginning {
    dump: Dump,
    at: LogPoint,
    from: CommitLsn,
    gtids: Gtids,
    has_marks: bool,
}

fn lost(code: Code, what: impl Into<String>) -> Error {
    Error::new(code, what).with_try(RESYNC)
}

fn closed() -> Error {
    Error::new(codes::MY032, "the stream of the binary log is closed")
}

impl MyChanges {
    pub(super) fn new(shared: Arc<Shared>, server: Server, lock: Lock) -> Self {
        MyChanges { shared, server, lock: Some(lock), live: None, stop_before: None }
    }

    fn live(&mut self) -> Result<&mut Live> {
        self.live.as_mut().ok_or_else(closed)
    }

    /// What is held, by GTIDs: of all tables and the cut. `None` where one of them is not known.
    fn sets(&self, bookmark: &Bookmark) -> Option<BTreeMap<CommitLsn, Gtids>> {
        let cut = (bookmark.position > CommitLsn::ZERO).then_some((bookmark.position, &bookmark.marks));
        let tables = bookmark.tables.iter().map(|(position, marks)| (*position, marks));
        cut.into_iter()
            .chain(tables)
            .map(|(position, marks)| {
                let known = self.shared.marks_of(position).filter(|known| !known.is_empty());
                let marks = if marks.is_empty() { known? } else { marks.clone() };
                Some((position, gtids::of_marks(&marks, self.server.flavor)?))
            })
            .collect()
    }

    /// The server is another one, or was, when the positions were taken.
    async fn begin_elsewhere(&self, sql: &mut Sql, bookmark: &Bookmark) -> Result<(Beginning, Gtids)> {
        let options = &self.shared.settings.options;
        let sets = self.sets(bookmark).filter(|sets| self.server.has_gtids && !sets.is_empty());
        let Some(sets) = sets else {
            let recorded = bookmark.lineage.as_ref().map_or("", |l| l.system_id.as_str());
            let what = format!(
                "the server is {}, the tables were filled from {recorded}, and no GTIDs say what they hold",
                self.server.identity
            );
            return Err(Error::new(codes::MY042, what)
                .with_try("connect to the right server, or use another pipeline name and sink uri"));
        };
        let mixed = || Error::new(codes::MY042, "the tables were filled from another product's server");
        let mut all = sets.values();
        let first = all.next().cloned().ok_or_else(mixed)?;
        let (mut common, mut union) = (first.clone(), first);
        for set in all {
            common = common.intersect(set).ok_or_else(mixed)?;
            union = union.union(set).ok_or_else(mixed)?;
        }
        let executed = self.server.executed(sql).await?;
        if !union.is_within(&executed) {
            let what = format!("server {} lacks transactions that the tables hold", self.server.identity);
            return Err(lost(codes::MY043, what));
        }
        if let (Flavor::MySql, Gtids::MySql(common)) = (self.server.flavor, &common) {
            let row = sql.row("SELECT @@GLOBAL.gtid_purged").await?;
            let purged = row.into_iter().next().flatten().unwrap_or_default();
            let purged: GtidSet = purged.parse().map_err(|e| {
                Error::new(codes::MY033, "the server's GTID set cannot be read").with_source(e)
            })?;
            if !purged.is_subset(common) {
                let what =
                    format!("server {} has deleted logs that the tables still need", self.server.identity);
                return Err(lost(codes::MY040, what));
            }
        }
        tracing::info!(server = %self.server.identity, "another server: the stream goes on by GTIDs");
        let (dump, at) = match &common {
            Gtids::MySql(set) if set.sources().any(|(source, _)| source.tag != Tag::default()) => {
                self.start_before(sql, set).await?
            }
            _ => {
                let dump = Dump::start_after(options, &common, options.server_id()).await?;
                (dump, LogPoint { file: 0, offset: FIRST_OFFSET })
            }
        };
        let beginning = Beginning { dump, at, from: bookmark.position, gtids: common, has_marks: true };
        Ok((beginning, union))
    }

    /// At the newest file that lacks nothing of what is not held: a request by GTIDs cannot name tags. What is held is
    /// met again, and skipped by each table's own set.
    async fn start_before(&self, sql: &mut Sql, held: &GtidSet) -> Result<(Dump, LogPoint)> {
        let options = &self.shared.settings.options;
        let base = self.server.log_end(sql).await?.base;
        let (flavor, id) = (self.server.flavor, options.server_id());
        for file in self.server.files(sql).await?.iter().rev().map(|file| file.file) {
            let at = LogPoint { file, offset: FIRST_OFFSET };
            let previous = Dump::start(options, flavor, &base, at, id).await?.previous(flavor).await?;
            if previous.is_some_and(|previous| previous.is_subset(held)) {
                return Ok((Dump::start(options, flavor, &base, at, id).await?, at));
            }
        }
        let what = format!("server {} has deleted logs that the tables still need", self.server.identity);
        Err(lost(codes::MY040, what))
    }

    /// Nothing is held.
    async fn begin_anew(&self, sql: &mut Sql, shift: u32) -> Result<Beginning> {
        let options = &self.shared.settings.options;
        let Exact { end, gtids } = match self.shared.take_beginning() {
            Some(exact) => exact,
            None => snapshot::place(options, &self.server, &self.shared.names()).await?,
        };
        let from = end.point.position(shift).map_err(too_large)?;
        let server_id = self.shared.free_server_id(sql).await?;
        let dump = Dump::start(options, self.server.flavor, &end.base, end.point, server_id).await?;
        Ok(Beginning { dump, at: end.point, from, gtids, has_marks: self.server.has_gtids })
    }

    /// The place is of this server: it must still be there, and be the same.
    async fn begin_here(
        &self,
        sql: &mut Sql,
        bookmark: &Bookmark,
        end: &LogEnd,
        from: (CommitLsn, LogPoint),
    ) -> Result<Beginning> {
        let (position, point) = from;
        let shift = self.shared.shift();
        let furthest = bookmark.tables.iter().map(|(p, _)| *p).chain(bookmark.ahead.iter().copied()).max();
        let furthest = furthest.unwrap_or(position).max(position);
        let flushed = end.point.position(shift).map_err(too_large)?;
        if flushed < furthest {
            let held = LogPoint::of(furthest, shift).map_or_else(|| furthest.to_string(), |p| p.to_string());
            return Err(lost(
                codes::MY044,
                format!(
                    "the log ends at {}, the tables hold everything up to {held}: the server was set back",
                    end.point
                ),
            ));
        }
        let files = self.server.files(sql).await?;
        if files.first().is_none_or(|first| first.file > point.file) {
            let oldest = files.first().map_or_else(|| "none".to_owned(), |first| first.file_name(&end.base));
            let what = format!(
                "log file {} is needed, and the oldest that is there is {oldest}",
                point.file_name(&end.base)
            );
            return Err(Error::new(codes::MY040, what)
                .with_try(format!("raise binlog_expire_logs_seconds, then: {RESYNC}")));
        }
        let of_table = bookmark.tables.iter().find(|(at, marks)| *at == position && !marks.is_empty());
        let marks = self.shared.marks_of(position).or_else(|| of_table.map(|(_, marks)| marks.clone()));
        let marks = marks.unwrap_or_else(|| bookmark.marks.clone());
        let mut set = gtids::of_marks(&marks, self.server.flavor)
            .filter(|_| self.server.has_gtids && !marks.is_empty());
        if set.is_none() && self.server.flavor == Flavor::MariaDb {
            set = Some(Gtids::MariaDb(self.server.gtids_at(sql, &end.base, point).await?));
        }
        if let Some(set) = &set
            && !set.is_within(&self.server.executed(sql).await?)
        {
            return Err(lost(codes::MY045, "the server lacks GTIDs that the tables hold: its log was reset"));
        }
        let has_marks = set.is_some();
        let gtids = set.unwrap_or_else(|| Gtids::none(self.server.flavor));
        let witness = bookmark.witnesses.iter().copied().filter(|w| w.end <= position).max_by_key(|w| w.end);
        let start = witness.and_then(|w| start_of(w, shift)).filter(|start| {
            // Its file may be gone while ours is there.
            files.iter().any(|file| file.file == start.file)
        });
        let options = &self.shared.settings.options;
        let server_id = self.shared.free_server_id(sql).await?;
        let at = start.unwrap_or(point);
        let dump = Dump::start(options, self.server.flavor, &end.base, at, server_id).await?;
        let mut beginning = Beginning { dump, at, from: position, gtids, has_marks };
        if let (Some(witness), Some(_)) = (witness, start) {
            let met = self.meet(&mut beginning, witness).await;
            let restart = met.map_err(|error| foreign(witness, shift, error))?;
            beginning.dump.close().await;
            // The tables' stream begins behind it.
            beginning.dump =
                Dump::start(options, self.server.flavor, &end.base, restart.max(point), server_id).await?;
            beginning.at = restart.max(point);
        }
        Ok(beginning)
    }

    /// Reads the last applied transaction again; where it ends.
    async fn meet(&self, beginning: &mut Beginning, witness: Witness) -> Result<LogPoint> {
        let shift = self.shared.shift();
        let nothing = Gtids::none(self.server.flavor);
        let policies = self.shared.settings.policies;
        let mut reader =
            Assembler::new(self.server.flavor, policies, shift, beginning.at, beginning.from, nothing);
        loop {
            let event = beginning.dump.next().await?;
            if hand(&mut reader, &event)? == Progress::Recall {
                reader.pass_over()?;
            }
            match reader.last() {
                Some(last) if last == witness => {
                    let end = LogPoint::of(witness.end, shift);
                    return end
                        .ok_or_else(|| Error::new(codes::RT001, "a witness of another server was read"));
                }
                Some(_) => return Err(Error::new(codes::MY045, "another transaction stands there")),
                None => {}
            }
        }
    }
}

/// Whatever stands where our last transaction should: it is not what was applied. A lost connection is none.
fn foreign(witness: Witness, shift: u32, error: Error) -> Error {
    // The server answered, and what it said is that there is no event: 1236 is its number for that.
    if error.code() == codes::MY032 && !error.cause_line().contains("ERROR 1236") {
        return error;
    }
    let at = LogPoint::of(witness.end, shift).map_or_else(String::new, |point| point.to_string());
    lost(codes::MY045, format!("the transaction that was applied last does not end at {at} of the log any more: it was reset or restored"))
        .with_source(error)
}

/// Gives an event to who puts transactions together.
fn hand(assembler: &mut Assembler, event: &Received) -> Result<Progress> {
    let raw = event.raw().map_err(|error| event_error("its place", error))?;
    match event.form() {
        Form::Plain(_) => assembler.on_event(raw),
        Form::Packed => Ok(assembler.on_payload(raw.header)),
        Form::Within => assembler.on_packed(raw),
    }
}

/// Where a transaction begins, by its end and its length.
fn start_of(witness: Witness, shift: u32) -> Option<LogPoint> {
    if witness.xid == u32::MAX {
        return None;
    }
    let end = LogPoint::of(witness.end, shift)?;
    let offset = end.offset.checked_sub(u64::from(witness.xid)).filter(|&offset| offset >= FIRST_OFFSET)?;
    (witness.xid > 0).then_some(LogPoint { offset, ..end })
}

impl ChangeStream for MyChanges {
    async fn next(&mut self, budget: Budget) -> Result<Burst> {
        let MyChanges { shared, server, live, lock, .. } = self;
        let (live, lock) = (live.as_mut().ok_or_else(closed)?, lock.as_mut().ok_or_else(closed)?);
        let read = async {
            live.look_up(&shared.settings.options, server).await?;
            live.read(budget).await
        };
        let mut burst = tokio::select! {
            biased;
            lost = lock.lost() => return Err(lost),
            burst = read => burst?,
        };
        let marks = live.assembler.take_marks();
        if live.has_marks {
            shared.remember(marks);
        }
        if let Some(end) = burst.keepalive {
            burst.server_end = Some(end);
        }
        Ok(burst)
    }

    fn follow(&mut self, schema: Arc<TableSchema>, held: CommitLsn) -> Result<()> {
        let columns = self.shared.columns_of(schema.id);
        let live = self.live()?;
        let set = live.sets.get(&held).cloned();
        live.assembler.add(schema, columns, held, set);
        Ok(())
    }

    fn unfollow(&mut self, table: TableId) {
        if let Some(live) = &mut self.live {
            live.assembler.remove(table);
        }
    }

    fn take(&mut self, table: TableId) -> Result<Option<ChangeBatch>> {
        match &mut self.live {
            Some(live) => live.assembler.take(table),
            None => Ok(None),
        }
    }

    fn open_transaction(&self) -> Option<Txn> {
        self.live.as_ref().and_then(|live| live.assembler.open_txn())
    }

    fn buffered_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.assembler.bytes())
    }

    async fn seek(&mut self, bookmark: Bookmark) -> Result<Option<Place>> {
        let mut sql = Sql::connect(&self.shared.settings.options).await?;
        let end = self.server.log_end(&mut sql).await?;
        let shift = self.shift_for(&bookmark);
        self.shared.set_shift(shift);
        let earliest = bookmark.tables.iter().map(|(p, _)| *p).min();
        let held = if bookmark.position > CommitLsn::ZERO { Some(bookmark.position) } else { earliest };
        let mut sets = BTreeMap::new();
        let mut pending = None;
        let beginning = match held {
            None => self.begin_anew(&mut sql, shift).await?,
            Some(position) => match LogPoint::of(position, shift) {
                Some(point) => self.begin_here(&mut sql, &bookmark, &end, (position, point)).await?,
                None => {
                    let (beginning, union) = self.begin_elsewhere(&mut sql, &bookmark).await?;
                    sets = self.sets(&bookmark).unwrap_or_default();
                    // A connection that is lost before the first cut on this server asks for them again.
                    let held = sets.iter().map(|(position, set)| (*position, gtids::marks(set)));
                    self.shared.remember(held.collect());
                    pending = Some(union);
                    beginning
                }
            },
        };
        sql.close().await;
        let flushed = end.point.position(shift).map_err(too_large)?.lsn();
        let Beginning { dump, at, from, gtids, has_marks } = beginning;
        if has_marks && pending.is_none() {
            self.shared.remember(vec![(from, gtids::marks(&gtids))]);
        }
        let policies = self.shared.settings.policies;
        let mut assembler = Assembler::new(self.server.flavor, policies, shift, at, from, gtids);
        if self.shared.settings.for_events {
            assembler.tell_origins();
        }
        if self.shared.settings.options.queries {
            assembler.tell_queries();
        }
        if self.shared.settings.tells_definitions {
            assembler.tell_definitions(self.shared.settings.selection.clone());
        }
        if self.shared.is_partial() {
            assembler.expect_partial();
        }
        if let Some(pending) = pending {
            assembler.wait_for(pending);
        }
        if let Some(bound) = self.stop_before {
            assembler.set_stop_before(bound);
        }
        let ahead = bookmark.ahead.iter().copied().filter(|_| sets.is_empty()).collect();
        let (held_back, recall, look_up) = (None, None, None);
        self.live = Some(Live { dump, assembler, held_back, recall, look_up, ahead, sets, has_marks });
        let lineage = self.lineage(shift);
        let slot = SlotState { confirmed_flush: from, ..place_of_ours() };
        Ok(Some(Place { slot, point: ServerPoint { lineage, flushed } }))
    }

    fn marks(&self, position: CommitLsn) -> Marks {
        self.shared.marks_of(position).unwrap_or_default()
    }

    fn retain_marks(&self, positions: &BTreeSet<CommitLsn>) {
        self.shared.retain(positions);
    }

    fn guard(&mut self, _until: Option<CommitLsn>) {}

    fn stop_before(&mut self, bound: Lsn) {
        self.stop_before = Some(bound);
        if let Some(live) = &mut self.live {
            live.assembler.set_stop_before(bound);
        }
    }

    fn acknowledge(&self, position: CommitLsn) {
        self.shared.forget_before(position);
    }

    fn hang_up(&mut self) {
        self.live = None;
        self.lock = None;
    }

    async fn finish(mut self) -> Result<()> {
        if let Some(live) = self.live.take() {
            live.dump.close().await;
        }
        Ok(())
    }
}

impl MyChanges {
    /// What this server's file numbers are counted on by.
    fn shift_for(&self, bookmark: &Bookmark) -> u32 {
        match &bookmark.lineage {
            None => 0,
            Some(lineage) if lineage.system_id == self.server.identity => lineage.timeline,
            // On from the last one that anything was held of.
            Some(_) => {
                let all = bookmark.tables.iter().map(|(p, _)| *p).chain(bookmark.ahead.iter().copied());
                let furthest = all.max().unwrap_or(CommitLsn::ZERO).max(bookmark.position);
                u32::try_from(furthest.lsn().raw() >> 32).unwrap_or(u32::MAX).saturating_add(1)
            }
        }
    }

    fn lineage(&self, shift: u32) -> Lineage {
        lineage(&self.server, shift)
    }
}

/// Whose history it is.
pub(super) fn lineage(server: &Server, shift: u32) -> Lineage {
    let database = match server.flavor {
        Flavor::MySql => "mysql",
        Flavor::MariaDb => "mariadb",
    };
    Lineage { system_id: server.identity.clone(), timeline: shift, database: database.to_owned() }
}

/// Our place as a server would show it that keeps one.
pub(super) fn place_of_ours() -> SlotState {
    SlotState {
        plugin: "binlog".to_owned(),
        database: String::new(),
        confirmed_flush: CommitLsn::ZERO,
        wal_lost: false,
    }
}

impl Live {
    /// Looks up what the stream cannot go on without. Cancel-safe.
    async fn look_up(&mut self, options: &MyOptions, server: &Server) -> Result<()> {
        loop {
            if self.look_up.is_none() {
                let wanted = self.assembler.recall().filter(|_| self.recall.is_none());
                let undefined = self.assembler.undefined();
                self.look_up = match wanted {
                    Some(wanted) => Some(LookUp::prepared(options.clone(), server.clone(), wanted.clone())),
                    None if undefined.is_empty() => return Ok(()),
                    None => Some(LookUp::definitions(options.clone(), undefined.to_vec())),
                };
            }
            let Some(look) = &mut self.look_up else { return Ok(()) };
            let learned = look.done().await;
            self.look_up = None;
            match learned? {
                Learned::Definitions(found) => self.assembler.define(found),
                Learned::Prepared(reader) => {
                    self.assembler.forget_recalled();
                    self.recall = Some(*reader);
                }
            }
        }
    }

    async fn read(&mut self, budget: Budget) -> Result<Burst> {
        if self.recall.is_some() && !self.read_again(budget).await? {
            return self.assembler.take_burst();
        }
        let mut waited = false;
        loop {
            let event = match self.held_back.take() {
                Some(event) => event,
                None if !waited => {
                    waited = true;
                    self.dump.next().await?
                }
                None => match self.dump.ready()? {
                    Some(event) => event,
                    None => break,
                },
            };
            match hand(&mut self.assembler, &event)? {
                Progress::Announced | Progress::Undefined => {
                    self.held_back = Some(event);
                    break;
                }
                // The caller looks for what is to be read first.
                Progress::Stopped | Progress::Recall => break,
                Progress::Within | Progress::Boundary => {}
            }
            self.check_ahead()?;
            let (rows, bytes) = self.assembler.pending();
            if rows >= budget.rows || bytes >= budget.bytes || self.assembler.has_questions() {
                break;
            }
            if self.assembler.open_txn().is_some()
                && self.assembler.bytes() as u64 >= budget.bytes.saturating_mul(2)
            {
                break;
            }
        }
        self.assembler.take_burst()
    }

    /// Takes rows from where they were prepared. False: there is something to do before the stream goes on.
    async fn read_again(&mut self, budget: Budget) -> Result<bool> {
        while let Some(reader) = &mut self.recall {
            let event = reader.next().await?;
            if event.form() == Form::Packed {
                continue;
            }
            let progress = {
                let raw = event.raw().map_err(|error| event_error("its place", error))?;
                self.assembler.recalled(raw)?
            };
            match progress {
                Progress::Announced => {
                    reader.hold_back(event);
                    return Ok(false);
                }
                Progress::Boundary => {
                    // This call may be dropped while the connection is closed.
                    let reader = self.recall.take();
                    self.check_ahead()?;
                    if let Some(reader) = reader {
                        reader.close().await;
                    }
                    return Ok(true);
                }
                Progress::Within | Progress::Undefined | Progress::Stopped | Progress::Recall => {}
            }
            if self.assembler.bytes() as u64 >= budget.bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A table that is ahead of the others carries the end of its last transaction: one must end there.
    fn check_ahead(&mut self) -> Result<()> {
        let Some(last) = self.assembler.last() else { return Ok(()) };
        while let Some(&first) = self.ahead.first() {
            if first > last.end {
                break;
            }
            if first < last.end {
                return Err(lost(
                    codes::MY045,
                    "a transaction that a table holds is not in the log any more",
                ));
            }
            self.ahead.remove(&first);
        }
        Ok(())
    }
}
