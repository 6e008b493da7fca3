//! From events to rows in per-table builders, and to what a caller must know beside them.
//!
//! No clock and no IO. A transaction is everything from the event that names its GTID to the event that ends it; in
//! the file its events stand one behind the other, so that its place is one stretch of the log: `start` is where the
//! first begins, `end` where the last ends. What is held at a position is what ends at or before it.
//!
//! ```text
//!  GTID ─ BEGIN ─ (TABLE_MAP ─ rows)* ─ XID | COMMIT        a transaction
//!  GTID ─ statement                                         definitions, one statement each
//!  GTID ─ payload[BEGIN ─ … ─ XID]                          a compressed transaction: its events come as they are unpacked
//!  GTID ─ rows ─ XA_PREPARE   …   GTID ─ XA COMMIT          a two-phase transaction ([`xa`])
//! ```
//!
//! One table's trouble stops that table and lets the others go on; anything that makes the stream itself doubtful is an
//! error of the whole. Nothing is skipped because it is not known.

mod definitions;
mod open;
mod statements;
#[cfg(test)]
mod tests;
mod xa;

use super::fault::event_error;
use super::gtids;
use super::server::{Gtids, too_large};
use crate::binlog::{
    BatchBuilder, CatalogColumn, Event, EventDecoder, EventHeader, Flavor, Missing, Policies, RawEvent,
    RowDecoder, Rows, RowsKind, TableMap, ValueError,
};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Txn};
use crate::position::{CommitLsn, LogPoint, Lsn, Marks, Witness};
use crate::schema::{TableId, TableName, TableSchema};
use crate::source::Burst;
use definitions::Definitions;
use hashbrown::HashMap;
use open::{Id, Open};
use std::sync::Arc;
use xa::{Branch, Branches};

pub(super) use definitions::{Found, push as push_definition};
pub(super) use xa::Recall;

/// Rows of a table go out as a batch at so many bytes.
const BATCH_BYTES: usize = 64 << 20;
/// From 1970 to 2000, microseconds.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// What one event was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// Something within a transaction, or beside.
    Within,
    /// A statement defines tables that the caller is to look up ([`Assembler::define`]); then it hands the event in again.
    Undefined,
    /// A transaction ended.
    Boundary,
    /// A table has other columns than it is followed with: the caller looks, and hands the event in again.
    Announced,
    /// The bound.
    Stopped,
    /// A two-phase transaction commits whose rows are elsewhere in the log: see [`Assembler::recall`].
    Recall,
}

struct Table {
    schema: Arc<TableSchema>,
    columns: Vec<CatalogColumn>,
    ready: Vec<ChangeBatch>,
    builder: BatchBuilder,
    skip_until: CommitLsn,
    /// The same by GTIDs, where the position is of another server.
    held: Option<Gtids>,
    /// The last description of it in the log, and what reads its rows.
    plan: Option<(Box<TableMap>, Arc<RowDecoder>)>,
    /// The caller was told that the columns are others.
    asked: bool,
    /// The caller was told that a statement changed the columns: if it follows no other ones, they are not known.
    altered: bool,
    /// It has rows of the open transaction.
    dirty: bool,
    touched: bool,
}

/// See the module.
pub(super) struct Assembler {
    decoder: EventDecoder,
    policies: Policies,
    shift: u32,
    /// The end of the last event.
    at: LogPoint,
    /// Where the compressed transaction begins whose events come.
    packed: LogPoint,
    /// The file's name.
    file: String,
    /// Rows carry what their events tell of themselves.
    tells: bool,
    /// … and the statements that made them.
    tells_queries: bool,
    /// The log may leave out values of created rows.
    is_partial: bool,
    definitions: Option<Definitions>,
    tables: HashMap<TableId, Table>,
    names: HashMap<TableName, TableId>,
    /// Of the open statement: table numbers, and the table if it is followed.
    maps: HashMap<u64, Option<TableId>>,
    open: Option<Open>,
    /// Two-phase transactions that are prepared.
    xa: Branches,
    gtids: Gtids,
    /// Held by some tables, and to be met before anything is told: the stream began before it, on another server.
    pending: Option<Gtids>,
    /// The end of a statement that waits for a look at its tables.
    looked_at: Option<LogPoint>,
    last_end: CommitLsn,
    /// What ends at or before this is not told: it was held when the stream began.
    from: CommitLsn,
    stop_before: Option<Lsn>,
    burst: Burst,
    /// Marks of positions that were told since the caller looked.
    marks: Vec<(CommitLsn, Marks)>,
    /// The last transaction that ended, told or not.
    last: Option<Witness>,
}

impl Assembler {
    /// From this place on. `gtids`: what is before it.
    pub(super) fn new(
        flavor: Flavor,
        policies: Policies,
        shift: u32,
        at: LogPoint,
        from: CommitLsn,
        gtids: Gtids,
    ) -> Self {
        Assembler {
            decoder: EventDecoder::new(flavor),
            policies,
            shift,
            at,
            packed: at,
            file: String::new(),
            tells: false,
            tells_queries: false,
            is_partial: false,
            definitions: None,
            tables: HashMap::new(),
            names: HashMap::new(),
            maps: HashMap::new(),
            open: None,
            xa: Branches::default(),
            gtids,
            pending: None,
            looked_at: None,
            last_end: CommitLsn::ZERO,
            from,
            stop_before: None,
            burst: Burst::default(),
            marks: Vec::new(),
            last: None,
        }
    }

    /// Tells nothing before all of this was met.
    pub(super) fn wait_for(&mut self, pending: Gtids) {
        self.pending = Some(pending);
    }

    /// Rows carry the statements that made them, where the log has these.
    pub(super) fn tell_queries(&mut self) {
        self.tells_queries = true;
    }

    /// Rows carry what their events tell of themselves.
    pub(super) fn tell_origins(&mut self) {
        self.tells = true;
    }

    /// The log may leave out values of created rows.
    pub(super) fn expect_partial(&mut self) {
        self.is_partial = true;
    }

    pub(super) fn set_stop_before(&mut self, bound: Lsn) {
        self.stop_before = Some(bound);
    }

    /// Takes a table's rows from now on, but for transactions that `skip_until` holds already.
    pub(super) fn add(
        &mut self,
        schema: Arc<TableSchema>,
        columns: Vec<CatalogColumn>,
        skip_until: CommitLsn,
        held: Option<Gtids>,
    ) {
        let id = schema.id;
        self.names.insert(schema.name.clone(), id);
        let dirty = self.tables.get(&id).is_some_and(|old| old.dirty);
        let builder = BatchBuilder::new(Arc::clone(&schema));
        let table = Table {
            schema,
            columns,
            ready: Vec::new(),
            builder,
            skip_until,
            held,
            plan: None,
            asked: false,
            altered: false,
            dirty,
            touched: false,
        };
        self.tables.insert(id, table);
    }

    /// Takes a table's rows no more; what was not taken is dropped.
    pub(super) fn remove(&mut self, id: TableId) {
        if let Some(table) = self.tables.remove(&id) {
            self.names.remove(&table.schema.name);
        }
        self.maps.values_mut().filter(|of| **of == Some(id)).for_each(|of| *of = None);
    }

    /// Rows of a table so far, also within a transaction; to be called until there are none.
    pub(super) fn take(&mut self, id: TableId) -> Result<Option<ChangeBatch>> {
        let open = self.open.as_ref().map(|open| open.txn);
        let Some(table) = self.tables.get_mut(&id) else { return Ok(None) };
        if !table.ready.is_empty() {
            return Ok(Some(table.ready.remove(0)));
        }
        if table.builder.is_empty() {
            return Ok(None);
        }
        table.builder.take(open).map(Some).map_err(|error| error.into_error(&table.schema))
    }

    /// Bytes of memory of all rows.
    pub(super) fn bytes(&self) -> usize {
        let of = |t: &Table| t.builder.bytes() + t.ready.iter().map(|b| b.wire_bytes).sum::<usize>();
        self.tables.values().map(of).sum()
    }

    /// The half-received transaction.
    pub(super) fn open_txn(&self) -> Option<Txn> {
        self.open.as_ref().map(|open| open.txn)
    }

    /// The last transaction that ended.
    pub(super) fn last(&self) -> Option<Witness> {
        self.last
    }

    /// The end of the last event, as a position. Between transactions only.
    pub(super) fn position(&self) -> Result<CommitLsn> {
        self.at.position(self.shift).map_err(too_large)
    }

    /// Rows and bytes of whole transactions since the last burst.
    pub(super) fn pending(&self) -> (u64, u64) {
        (self.burst.rows, self.burst.bytes)
    }

    /// What came since the last call.
    pub(super) fn take_burst(&mut self) -> Result<Burst> {
        if self.pending.as_ref().is_some_and(|pending| !pending.is_within(&self.gtids)) {
            // Nothing of it is told yet, but what the caller must look at.
            let announced = std::mem::take(&mut self.burst.announced);
            let stopped = std::mem::take(&mut self.burst.stopped);
            return Ok(Burst { announced, stopped, ..Burst::default() });
        }
        self.pending = None;
        if let Some(through) = self.burst.through {
            self.marks.push((through, gtids::marks(&self.gtids)));
        }
        let mut burst = std::mem::take(&mut self.burst);
        for table in self.tables.values_mut().filter(|t| t.touched) {
            table.touched = false;
            burst.touched.push(table.schema.id);
        }
        burst.touched.sort_unstable();
        if self.open.is_none() {
            let at = self.position()?;
            if at >= self.from {
                burst.keepalive = Some(at.lsn());
            }
        }
        Ok(burst)
    }

    /// Marks of the positions that were told since the last call.
    pub(super) fn take_marks(&mut self) -> Vec<(CommitLsn, Marks)> {
        std::mem::take(&mut self.marks)
    }

    /// Takes one event. After [`Progress::Announced`] the same one is handed in again.
    ///
    /// # Errors
    /// What makes the stream doubtful.
    pub(super) fn on_event(&mut self, raw: RawEvent<'_>) -> Result<Progress> {
        self.settle();
        let mut decoder = self.decoder.clone();
        let event = decoder.decode(raw).map_err(|error| event_error(self.at, error))?;
        let before = self.at;
        let progress = self.dispatch(raw, event)?;
        if let Progress::Announced | Progress::Undefined = progress {
            self.at = before;
        } else {
            self.decoder = decoder;
        }
        Ok(progress)
    }

    /// Takes the header of a compressed transaction; what is in it comes by [`Assembler::on_packed`].
    pub(super) fn on_payload(&mut self, header: EventHeader) -> Progress {
        self.settle();
        self.advance(header);
        let offset = self.at.offset.saturating_sub(header.size.into());
        self.packed = LogPoint { offset, ..self.at };
        Progress::Within
    }

    /// Takes one event of a compressed transaction, whose place is that of the whole. After [`Progress::Announced`] the
    /// same one is handed in again.
    ///
    /// # Errors
    /// What makes the stream doubtful.
    pub(super) fn on_packed(&mut self, raw: RawEvent<'_>) -> Result<Progress> {
        self.settle();
        let mut decoder = self.decoder.clone();
        let event = decoder.decode(raw).map_err(|error| event_error(self.at, error))?;
        self.within(self.packed, raw, event)
    }

    /// The caller has looked at tables whose columns a statement changed, and found nothing: then it cannot be said
    /// what the columns held meanwhile.
    fn settle(&mut self) {
        if self.tables.values().any(|t| t.altered) {
            let altered: Vec<TableId> =
                self.tables.values().filter(|t| t.altered).map(|t| t.schema.id).collect();
            for id in altered {
                self.redefined(id, "its columns changed, and have changed again since");
            }
        }
    }

    /// The caller should look at tables before it goes on.
    pub(super) fn has_questions(&self) -> bool {
        !self.burst.announced.is_empty()
    }

    /// Where the event ends in its file.
    fn advance(&mut self, header: EventHeader) {
        // What the server made up has no place.
        if header.log_pos == 0 || header.is_artificial() {
            return;
        }
        let high = self.at.offset & !u64::from(u32::MAX);
        let mut offset = high | u64::from(header.log_pos);
        if offset < self.at.offset {
            offset += 1 << 32;
        }
        self.at.offset = offset;
    }

    fn dispatch(&mut self, raw: RawEvent<'_>, event: Event<'_>) -> Result<Progress> {
        let header = raw.header;
        if let Event::Heartbeat { .. } = event {
            return Ok(Progress::Within);
        }
        let size = u64::from(header.size);
        self.advance(header);
        let start = LogPoint { offset: self.at.offset.saturating_sub(size), ..self.at };
        match event {
            Event::Stop => self.end_with_file(),
            Event::Rotate { position, file } => {
                let number = LogPoint::file_number(file).ok_or_else(|| {
                    Error::new(codes::MY024, format!("the log goes on in \"{file}\", which has no number"))
                })?;
                file.clone_into(&mut self.file);
                if number == self.at.file {
                    return Ok(Progress::Within);
                }
                let progress = self.end_with_file()?;
                self.at = LogPoint { file: number, offset: position };
                Ok(progress)
            }
            Event::Gtid(event) => {
                let micros =
                    [event.immediate_commit_time, event.original_commit_time].into_iter().find(|&t| t > 0);
                let id = event.gtid.map_or(Id::None, Id::MySql);
                let progress = self.begin(start, header, micros, id)?;
                if let Some(open) = &mut self.open {
                    open.made = event.original_commit_time;
                }
                Ok(progress)
            }
            Event::MariaGtid(event) => {
                let (is_standalone, thread) = (event.is_standalone(), event.thread_id);
                let prepares = event.prepares_xa();
                let progress = self.begin(start, header, None, Id::MariaDb(event.gtid))?;
                if let Some(open) = &mut self.open {
                    open.has_begun = !is_standalone;
                    open.thread = thread;
                    open.branch = prepares.then(Branch::default);
                }
                Ok(progress)
            }
            other => self.within(start, raw, other),
        }
    }

    fn begin(
        &mut self,
        start: LogPoint,
        header: EventHeader,
        micros: Option<u64>,
        gtid: Id,
    ) -> Result<Progress> {
        match &mut self.open {
            Some(open) if open.ends_with_file => {
                open.go_on(gtid);
                return Ok(Progress::Within);
            }
            Some(_) => {
                let what = format!("at {start}: a transaction begins within another");
                return Err(Error::new(codes::MY024, what));
            }
            None => {}
        }
        let commit_start = start.position(self.shift).map_err(too_large)?.lsn();
        if self.stop_before.is_some_and(|bound| commit_start >= bound) {
            self.at = start;
            self.burst.is_end = true;
            return Ok(Progress::Stopped);
        }
        let micros = micros.unwrap_or_else(|| u64::from(header.timestamp) * 1_000_000);
        let number = match &gtid {
            Id::None => 0,
            Id::MySql(gtid) => gtid.number,
            Id::MariaDb(gtid) => gtid.number,
        };
        let txn = Txn {
            commit_start,
            xid: u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0),
            commit_time: i64::try_from(micros).unwrap_or(i64::MAX) - EPOCH_2000,
            after: self.last_end,
        };
        self.open = Some(Open {
            txn,
            start,
            gtid,
            server_id: header.server_id,
            made: 0,
            thread: None,
            origin: None,
            query: None,
            branch: None,
            ordinal: 0,
            rows: 0,
            bytes: 0,
            has_begun: false,
            has_rows: false,
            ends_with_file: false,
            before: Vec::new(),
        });
        Ok(Progress::Within)
    }

    /// `start`: where the event begins; of those in a compressed transaction, where that begins.
    fn within(&mut self, start: LogPoint, raw: RawEvent<'_>, event: Event<'_>) -> Result<Progress> {
        let header = raw.header;
        if let Event::TableMap(_) | Event::Rows(_) = event
            && self.is_set_aside(raw)
        {
            return Ok(Progress::Within);
        }
        match event {
            Event::TableMap(map) => self.table_map(map),
            Event::Rows(rows) => self.rows(&rows, start, header),
            Event::Xid(_) => self.end(),
            Event::Query(query) => self.query(&query, start, header),
            Event::TransactionPayload(_) => {
                let what = format!("at {}: a compressed transaction within another event", self.at);
                Err(Error::new(codes::MY024, what))
            }
            Event::XaPrepare(prepare) => self.prepared(&prepare),
            Event::Incident { number, message } => {
                let what = format!(
                    "at {}: the server says that its log lacks events (incident {number}: {})",
                    self.at,
                    String::from_utf8_lossy(message)
                );
                Err(Error::new(codes::MY027, what)
                    .with_try("strandline resync TABLE --yes  (every table is copied)"))
            }
            Event::RowsQuery(text) => {
                if let Some(open) = self.open.as_mut().filter(|_| self.tells_queries) {
                    open.query = Some(String::from_utf8_lossy(text).into());
                }
                Ok(Progress::Within)
            }
            // A statement follows, and decides.
            Event::StatementContext(_)
            | Event::FormatDescription(_)
            | Event::Stop
            | Event::PreviousGtids(_)
            | Event::MariaGtidList(_)
            | Event::MariaBinlogCheckpoint { .. }
            | Event::MariaStartEncryption
            | Event::Ignorable
            | Event::ViewChange
            | Event::TransactionContext
            | Event::Heartbeat { .. }
            | Event::Rotate { .. }
            | Event::Gtid(_)
            | Event::MariaGtid(_) => Ok(Progress::Within),
        }
    }

    fn table_map(&mut self, map: Box<TableMap>) -> Result<Progress> {
        let name = TableName::new(&map.database, &map.table);
        let number = map.table_id;
        let followed = self.names.get(&name).copied().filter(|id| self.is_wanted(*id));
        let Some(id) = followed else {
            self.maps.insert(number, None);
            return Ok(Progress::Within);
        };
        let policies = self.policies;
        let Some(table) = self.tables.get_mut(&id) else { return Ok(Progress::Within) };
        let is_known = table.plan.as_ref().is_some_and(|(last, _)| is_same(last, &map));
        if !is_known {
            match plan(&map, table, policies) {
                Ok(decoder) => {
                    table.plan = Some((map, Arc::new(decoder)));
                    table.asked = false;
                }
                Err(_) if !table.asked => {
                    table.asked = true;
                    self.burst.announced.push(id);
                    return Ok(Progress::Announced);
                }
                Err(error) => {
                    self.stop(id, error);
                    self.maps.insert(number, None);
                    return Ok(Progress::Within);
                }
            }
        }
        self.maps.insert(number, Some(id));
        Ok(Progress::Within)
    }

    /// Whether the open transaction is one that the table does not hold.
    fn is_wanted(&self, id: TableId) -> bool {
        let table = self.tables.get(&id);
        match (&self.open, table) {
            (Some(open), Some(table)) => {
                let by_gtid = table.held.as_ref().and_then(|set| open.gtid.is_in(set));
                !by_gtid.unwrap_or_else(|| open.txn.held_at(table.skip_until))
            }
            _ => false,
        }
    }

    fn rows(&mut self, rows: &Rows<'_>, start: LogPoint, header: EventHeader) -> Result<Progress> {
        if let Some(open) = &mut self.open {
            open.has_rows = true;
        }
        if !rows.is_dummy() {
            let Some(&of) = self.maps.get(&rows.table_id) else {
                let what = format!(
                    "at {}: rows of table number {}, which no event describes",
                    self.at, rows.table_id
                );
                return Err(Error::new(codes::MY024, what));
            };
            if let Some(id) = of {
                self.take_rows(id, rows, start, header)?;
            }
            // Whoever is followed: an ordinal is the same whenever the transaction is read, and a place in it may be on
            // record. The rows of an event are numbered from where the images of those before it end; each has a byte.
            if let Some(open) = &mut self.open {
                open.ordinal += rows.data.len() as u64;
            }
        }
        if rows.ends_statement {
            if let Some(open) = &mut self.open {
                open.query = None;
            }
            self.maps.clear();
        }
        Ok(Progress::Within)
    }

    fn take_rows(
        &mut self,
        id: TableId,
        rows: &Rows<'_>,
        start: LogPoint,
        header: EventHeader,
    ) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::new(codes::MY024, format!("at {}: rows outside of a transaction", self.at)));
        };
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        let Some((_, decoder)) = &table.plan else { return Ok(()) };
        table.builder.at(start.position(self.shift).map_err(too_large)?.lsn());
        if self.tells {
            table.builder.of(open.origin_of(&self.file, start, header));
        }
        self.is_partial |= rows.kind == RowsKind::Write && !rows.after.is_full();
        match decoder.decode(rows, open.ordinal, &mut table.builder) {
            Ok(count) => {
                open.rows += count as u64;
                open.bytes += u64::from(header.size);
                table.dirty = true;
                if table.builder.bytes() >= BATCH_BYTES {
                    let taken = table.builder.take(Some(open.txn));
                    match taken {
                        Ok(batch) => table.ready.push(batch),
                        Err(error) => self.stop_by_value(id, error),
                    }
                }
            }
            Err(error) => self.stop_by_value(id, error),
        }
        Ok(())
    }

    fn stop_by_value(&mut self, id: TableId, error: ValueError) {
        if let Some(table) = self.tables.get(&id) {
            let error = error.into_error(&table.schema);
            self.stop(id, error);
        }
    }

    fn stop(&mut self, id: TableId, error: Error) {
        self.remove(id);
        self.burst.stopped.push((id, error));
    }

    /// The open transaction ends here. Beyond 4 GiB of a file all places have one position: there it ends with the file,
    /// and whatever follows it there is of it, so that nothing is held in the middle.
    fn end(&mut self) -> Result<Progress> {
        if self.at.offset > u64::from(u32::MAX)
            && let Some(open) = &mut self.open
        {
            open.ends_with_file = true;
            return Ok(Progress::Within);
        }
        self.close()
    }

    /// The file ends.
    fn end_with_file(&mut self) -> Result<Progress> {
        if self.open.as_ref().is_some_and(|open| open.ends_with_file) {
            return self.close();
        }
        Ok(Progress::Within)
    }

    fn close(&mut self) -> Result<Progress> {
        let Some(open) = self.open.take() else {
            return Err(Error::new(codes::MY024, format!("at {}: the end of no transaction", self.at)));
        };
        self.maps.clear();
        let end = self.at.position(self.shift).map_err(too_large)?;
        for table in self.tables.values_mut().filter(|t| t.dirty) {
            table.builder.end_transaction(open.txn);
            table.dirty = false;
            table.touched = true;
        }
        let length = self.at.offset - open.start.offset;
        let witness = Witness {
            end,
            xid: u32::try_from(length).unwrap_or(u32::MAX),
            commit_time: open.txn.commit_time,
        };
        self.last = Some(witness);
        self.last_end = end;
        if end <= self.from {
            return Ok(Progress::Boundary);
        }
        open.before.iter().chain([&open.gtid]).for_each(|gtid| gtid.add_to(&mut self.gtids));
        let burst = &mut self.burst;
        burst.through = Some(end);
        burst.witness = Some(witness);
        burst.transactions += 1;
        burst.rows += open.rows;
        burst.bytes += open.bytes;
        Ok(Progress::Boundary)
    }
}

/// The same but for the number, which is another one after each time that the server opened the table.
fn is_same(last: &TableMap, map: &TableMap) -> bool {
    last.columns == map.columns && last.key == map.key
}

/// What reads the rows. Columns that the table was followed through may be missing, or be there still.
fn plan(map: &TableMap, table: &Table, policies: Policies) -> Result<RowDecoder> {
    let schema = &table.schema;
    match RowDecoder::new(map, schema, &table.columns, policies, Missing::Refuse) {
        Ok(decoder) => Ok(decoder),
        Err(error) => {
            let is_column = |name: &str| schema.columns.iter().any(|c| c.name == name);
            let in_map = |name: &str| map.columns.iter().any(|c| c.name.as_deref() == Some(name));
            let hidden = |name: &str| name.starts_with("!hidden!");
            let explained = map.has_names
                && map.columns.iter().filter_map(|c| c.name.as_deref()).all(|name| {
                    is_column(name) || hidden(name) || schema.past.dropped.iter().any(|d| d == name)
                })
                && schema.columns.iter().all(|c| in_map(&c.name) || schema.past.added.contains(&c.name));
            if !explained {
                return Err(error.into_error(schema));
            }
            RowDecoder::new(map, schema, &table.columns, policies, Missing::Null)
                .map_err(|error| error.into_error(schema))
        }
    }
}
