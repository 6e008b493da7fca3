//! Events as lines of JSON on standard output: for trying, and for pipes.
//!
//! ```json
//! {"topic":"app.public.t","key":{"id":1},"value":{"before":null,…},"headers":[["name","value"],…]}
//! ```
//!
//! Lines come in the order of the source over all tables, except within a transaction that is too large for memory
//! ([`HELD`]): that one comes table by table.
//!
//! # What holds
//!
//! *At least once.* A pipe keeps no position, so the slot's is the only one: it moves when a cut is committed, and a
//! cut is committed when its lines have been written and flushed. What a death leaves behind:
//!
//! | a death | leaves |
//! |---|---|
//! | before the lines of a cut are written | nothing; the server sends them again |
//! | while they are written | some of them, the last one perhaps without its end; all of them come again |
//! | after that, before the server has the acknowledgement | all of them; they come again, byte for byte but for the times of the events |
//! | while a table is copied | some of its rows; a copy begins anew |
//!
//! A line that comes again has the same `source.lsn`, `source.txId` and key, and comes before every line that is new.
//! There is no record of a finished copy: a run begins with copies of all tables, unless it is told not to
//! (`--no-snapshot`); then it goes on where the slot stands.

use crate::debezium::{
    Brackets, Control, ControlRecord, Encoder, Marker, Occasion, Options, Record, Records, SnapshotRows,
};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, CopyPart, CopyWriter, SnapshotPoint};
use crate::position::{CommitLsn, Epoch, Interval};
use crate::schema::{Past, TableName, TableSchema};
use crate::sink::{
    Base, CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Request, Sink, TableRecord,
    TableSink, WriterLease, Written,
};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of events that may wait for their cut; beyond it they are written in the order in which they come.
const HELD: usize = 128 << 20;

/// The sink.
pub struct StdoutSink {
    shared: Arc<Shared>,
}

struct Shared {
    options: Arc<Options>,
    control: Control,
    lines: Mutex<Lines>,
    /// What tables have committed and no cut covers yet.
    committed: Mutex<Vec<Staged>>,
    last_beat: Mutex<Option<Instant>>,
    held: AtomicU64,
    bytes: AtomicU64,
}

/// One table's events of one slice.
struct Staged {
    table: TableName,
    topic: Arc<str>,
    records: Records,
}

/// Where lines go.
struct Lines {
    out: Box<dyn Write + Send>,
    /// The round of copies that goes on.
    round: Round,
}

/// Rows of copies: the last one is held back, because only what comes next tells that it was the last.
#[derive(Default)]
struct Round {
    has_begun: bool,
    /// The topic whose first row is written.
    begun: Option<String>,
    last: Option<CopiedRows>,
}

/// Rows of one table's copy.
struct CopiedRows {
    encoder: Arc<Encoder>,
    batch: ChangeBatch,
    point: SnapshotPoint,
}

impl CopiedRows {
    fn part(&self, from: usize, rows: usize) -> CopiedRows {
        let (encoder, batch) = (Arc::clone(&self.encoder), self.batch.slice(from, rows));
        CopiedRows { encoder, batch, point: self.point }
    }
}

/// Of two markers that a row could have, the one that it gets: the later in this list.
const STRENGTH: [Marker; 5] =
    [Marker::True, Marker::FirstInDataCollection, Marker::LastInDataCollection, Marker::First, Marker::Last];

fn stronger(one: Marker, other: Marker) -> Marker {
    let place = |marker| STRENGTH.iter().position(|listed| *listed == marker);
    if place(one) >= place(other) { one } else { other }
}

impl StdoutSink {
    /// Writes to standard output.
    pub fn new(options: Options) -> Self {
        StdoutSink::over(options, Box::new(std::io::stdout()))
    }

    fn over(options: Options, out: Box<dyn Write + Send>) -> Self {
        let options = Arc::new(options);
        StdoutSink {
            shared: Arc::new(Shared {
                control: Control::new(&options),
                options,
                lines: Mutex::new(Lines { out, round: Round::default() }),
                committed: Mutex::new(Vec::new()),
                last_beat: Mutex::new(None),
                held: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl Shared {
    fn put(&self, lines: &mut Lines, text: &[u8]) -> Result<()> {
        let closed = |error: std::io::Error| {
            Error::new(codes::TG003, "standard output cannot be written")
                .with_source(error)
                .with_try("is the reader of the pipe still there?")
        };
        lines.out.write_all(text).and_then(|()| lines.out.flush()).map_err(closed)?;
        self.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Everything that transactions up to `position` did, in the order of the source.
    fn write_until(&self, position: CommitLsn) -> Result<()> {
        let mut waiting = lock(&self.committed);
        let (ready, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *waiting).into_iter().partition(|staged| {
                staged.records.iter().last().is_none_or(|record| position.covers(record.place().commit_start))
            });
        *waiting = later;
        drop(waiting);
        let mut text = Vec::new();
        if self.options.provide_transaction_metadata {
            self.bracketed(&ready, &mut text);
        } else {
            for (staged, record) in in_order(&ready) {
                line(&staged.topic, record.key(), record.value(), &headers(&record), &mut text);
            }
        }
        self.beat(&mut text);
        let mut lines = lock(&self.lines);
        self.end_table(&mut lines, Marker::LastInDataCollection)?;
        self.put(&mut lines, &text)?;
        let bytes: usize = ready.iter().map(|staged| staged.records.bytes()).sum();
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// With BEGIN, END and a block in each event.
    fn bracketed(&self, ready: &[Staged], text: &mut Vec<u8>) {
        let topic = self.control.transaction_topic();
        let mut brackets = Brackets::new(&self.control);
        for (staged, record) in in_order(ready) {
            brackets.before(&record).for_each(|control| control_line(&topic, &control, text));
            let value = brackets.value(&staged.table.to_string(), &record);
            line(&staged.topic, record.key(), value, &headers(&record), text);
        }
        if let Some(end) = brackets.end() {
            control_line(&topic, &end, text);
        }
    }

    /// A heartbeat, when it is time for one.
    fn beat(&self, text: &mut Vec<u8>) {
        let every = self.options.heartbeat_interval;
        let mut last = lock(&self.last_beat);
        if every.is_zero() || last.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        *last = Some(Instant::now());
        control_line(&self.control.heartbeat_topic(), &self.control.heartbeat(now_ns() / 1_000_000), text);
    }

    /// A table's rows without waiting for their cut.
    fn write_now(&self, staged: &[Staged]) -> Result<()> {
        let mut text = Vec::new();
        for (staged, record) in in_order(staged) {
            line(&staged.topic, record.key(), record.value(), &headers(&record), &mut text);
        }
        self.put(&mut lock(&self.lines), &text)
    }

    /// Rows of a copy. `last`: what the last of them is.
    fn write_rows(&self, lines: &mut Lines, rows: &CopiedRows, last: Marker) -> Result<()> {
        let topic = rows.encoder.topic();
        if lines.round.last.as_ref().is_some_and(|held| held.encoder.topic() != topic) {
            self.end_table(lines, Marker::LastInDataCollection)?;
        }
        let first = match (lines.round.has_begun, lines.round.begun.as_deref() == Some(topic)) {
            (false, _) => Marker::First,
            (true, false) => Marker::FirstInDataCollection,
            (true, true) => Marker::True,
        };
        let last = if rows.batch.len() == 1 { stronger(first, last) } else { last };
        let occasion = Occasion {
            now_ns: now_ns(),
            snapshot: Some(SnapshotRows { point: rows.point, first, between: Marker::True, last }),
        };
        let mut records = Records::new();
        rows.encoder.encode(&rows.batch, &occasion, &mut records)?;
        let mut text = Vec::new();
        for record in records.iter() {
            line(topic, record.key(), record.value(), &headers(&record), &mut text);
        }
        lines.round.has_begun = true;
        lines.round.begun = Some(topic.to_owned());
        self.put(lines, &text)
    }

    /// The row that is held back was the last of its table, or of all.
    fn end_table(&self, lines: &mut Lines, marker: Marker) -> Result<()> {
        match lines.round.last.take() {
            Some(last) => self.write_rows(lines, &last, marker),
            None => Ok(()),
        }
    }

    /// Holds a row back; what was held back before is written.
    fn hold(&self, lines: &mut Lines, row: CopiedRows) -> Result<()> {
        let is_same =
            lines.round.last.as_ref().is_some_and(|held| held.encoder.topic() == row.encoder.topic());
        self.end_table(lines, if is_same { Marker::True } else { Marker::LastInDataCollection })?;
        lines.round.last = Some(row);
        Ok(())
    }
}

/// Records of several tables by their places; those of one place stay in their order.
fn in_order(staged: &[Staged]) -> Vec<(&Staged, Record<'_>)> {
    let mut all: Vec<_> =
        staged.iter().flat_map(|staged| staged.records.iter().map(move |record| (staged, record))).collect();
    all.sort_by_key(|(_, record)| (record.place().commit_start, record.place().ordinal));
    all
}

/// A batch as lines, for who looks at changes.
///
/// # Errors
/// Those of the encoder.
pub fn event_lines(encoder: &Encoder, batch: &ChangeBatch) -> Result<String> {
    let mut records = Records::new();
    encoder.encode(batch, &Occasion { now_ns: now_ns(), snapshot: None }, &mut records)?;
    let mut text = Vec::new();
    for record in records.iter() {
        line(encoder.topic(), record.key(), record.value(), &headers(&record), &mut text);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn control_line(topic: &str, record: &ControlRecord, text: &mut Vec<u8>) {
    line(topic, Some(&record.key), Some(&record.value), &[], text);
}

type Header<'a> = (&'a str, &'a [u8]);

fn headers<'a>(record: &Record<'a>) -> Vec<Header<'a>> {
    record.headers().collect()
}

fn line(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>], text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"topic\":");
    quoted(topic, text);
    for (name, part) in [(&b",\"key\":"[..], key), (b",\"value\":", value)] {
        text.extend_from_slice(name);
        text.extend_from_slice(part.unwrap_or(b"null"));
    }
    text.extend_from_slice(b",\"headers\":[");
    for (at, (name, value)) in headers.iter().enumerate() {
        text.extend_from_slice(if at == 0 { b"[" } else { b",[" });
        quoted(name, text);
        text.push(b',');
        quoted(&String::from_utf8_lossy(value), text);
        text.push(b']');
    }
    text.extend_from_slice(b"]}\n");
}

fn quoted(content: &str, text: &mut Vec<u8>) {
    // A string is always written, and a vector takes it.
    let _written = serde_json::to_writer(text, content);
}

impl Sink for StdoutSink {
    type Table = StdoutTable;

    async fn peek(&self) -> Result<Option<PipelineRecord>> {
        Ok(None)
    }

    fn takes_beside(&self) -> bool {
        true
    }

    fn is_log(&self) -> bool {
        true
    }

    async fn take_over(&self) -> Result<(WriterLease, PipelineRecord)> {
        lock(&self.shared.committed).clear();
        self.shared.held.store(0, Ordering::Relaxed);
        Ok((WriterLease { epoch: Epoch(1), owner: "stdout".into() }, PipelineRecord::default()))
    }

    async fn open_table(
        &self,
        _lease: &WriterLease,
        schema: Arc<TableSchema>,
        _purpose: OpenFor,
        _cut: Option<&CutTable>,
    ) -> Result<(StdoutTable, TableRecord)> {
        let encoder = compile(&schema, &self.shared.options)?;
        let record = TableRecord {
            marks: crate::position::Marks::default(),
            target_id: encoder.topic().to_owned(),
            version: 0,
            position: None,
            copied_at: None,
            past: Past::default(),
            chunks: Default::default(),
            outdated: None,
        };
        let shared = Arc::clone(&self.shared);
        let is_last = Arc::default();
        Ok((StdoutTable { shared, encoder, staged: Vec::new(), is_last, version: 0 }, record))
    }

    async fn commit_cut(&self, _lease: &WriterLease, cut: Cut) -> Result<CommitOutcome> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.write_until(cut.position)).await?;
        Ok(CommitOutcome::Committed { version: 0 })
    }

    async fn record(&self, _lease: &WriterLease, _change: RecordChange) -> Result<CommitOutcome> {
        Ok(CommitOutcome::Committed { version: 0 })
    }

    async fn newest_epoch(&self) -> Result<Option<Epoch>> {
        Ok(None)
    }

    fn written(&self) -> Written {
        Written { bytes: self.shared.bytes.load(Ordering::Relaxed), ..Written::default() }
    }

    async fn poll_requests(&self, _lease: &WriterLease) -> Result<Vec<Request>> {
        Ok(Vec::new())
    }
}

/// A pipe may be full for as long as its reader wants.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(codes::RT001, "writing to standard output broke").with_source(e))?
}

fn compile(schema: &Arc<TableSchema>, options: &Arc<Options>) -> Result<Arc<Encoder>> {
    let encoder = Encoder::new(schema, options)?;
    if !encoder.dropped_columns().is_empty() {
        let columns = encoder.dropped_columns().join(", ");
        tracing::warn!(
            table = %schema.name, columns,
            "columns of types that Debezium does not know are left out: format.debezium.include_unknown_datatypes"
        );
    }
    Ok(Arc::new(encoder))
}

/// One table.
pub struct StdoutTable {
    shared: Arc<Shared>,
    encoder: Arc<Encoder>,
    staged: Vec<Staged>,
    /// Whether its copy is the last of its round.
    is_last: Arc<AtomicBool>,
    version: i64,
}

impl TableSink for StdoutTable {
    async fn stage(&mut self, batch: ChangeBatch) -> Result<()> {
        if !Arc::ptr_eq(self.encoder.schema(), &batch.schema) && **self.encoder.schema() != *batch.schema {
            self.encoder = compile(&batch.schema, &self.shared.options)?;
        }
        let mut records = Records::new();
        self.encoder.encode(&batch, &Occasion { now_ns: now_ns(), snapshot: None }, &mut records)?;
        let bytes = records.bytes() as u64;
        let table = batch.schema.name.clone();
        self.staged.push(Staged { table, topic: self.encoder.topic().into(), records });
        if self.shared.held.fetch_add(bytes, Ordering::Relaxed) + bytes > HELD as u64 {
            let staged = std::mem::take(&mut self.staged);
            let freed: usize = staged.iter().map(|staged| staged.records.bytes()).sum();
            let shared = Arc::clone(&self.shared);
            blocking(move || shared.write_now(&staged)).await?;
            self.shared.held.fetch_sub(freed as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn commit(&mut self, _interval: Interval) -> Result<CommitOutcome> {
        lock(&self.shared.committed).append(&mut self.staged);
        self.version += 1;
        Ok(CommitOutcome::Committed { version: self.version })
    }

    fn evolve(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        self.encoder = compile(&schema, &self.shared.options)?;
        Ok(())
    }

    fn discard_staged(&mut self) {
        let freed: usize = self.staged.drain(..).map(|staged| staged.records.bytes()).sum();
        self.shared.held.fetch_sub(freed as u64, Ordering::Relaxed);
    }

    fn copy_writer(&self, point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        let mut lines = lock(&self.shared.lines);
        if point.is_first && lines.round.last.is_none() {
            lines.round = Round::default();
        }
        drop(lines);
        self.is_last.store(point.is_last, Ordering::Relaxed);
        Ok(Box::new(RowWriter {
            shared: Arc::clone(&self.shared),
            encoder: Arc::clone(&self.encoder),
            point: *point,
            last: None,
        }))
    }

    async fn commit_copy(
        &mut self,
        _position: CommitLsn,
        parts: Vec<CopyPart>,
        _base: Base,
    ) -> Result<CommitOutcome> {
        let mut rests = Vec::new();
        for part in parts {
            let rest: Box<Option<CopiedRows>> =
                part.0.downcast().map_err(|_| Error::new(codes::RT001, "a part of another target's copy"))?;
            rests.extend(*rest);
        }
        let shared = Arc::clone(&self.shared);
        let is_last = self.is_last.load(Ordering::Relaxed);
        blocking(move || finish_copy(&shared, rests, is_last)).await?;
        self.version += 1;
        Ok(CommitOutcome::Committed { version: self.version })
    }
}

/// The rows that the workers held back: the last of them is held back further, until it is known what comes.
fn finish_copy(shared: &Shared, rests: Vec<CopiedRows>, is_last: bool) -> Result<()> {
    let mut lines = lock(&shared.lines);
    for rest in rests {
        shared.hold(&mut lines, rest)?;
    }
    if is_last {
        shared.end_table(&mut lines, Marker::Last)?;
    }
    Ok(())
}

/// One worker's share of a copy. Its newest row is held back.
struct RowWriter {
    shared: Arc<Shared>,
    encoder: Arc<Encoder>,
    point: SnapshotPoint,
    last: Option<CopiedRows>,
}

impl CopyWriter for RowWriter {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let Some(end) = batch.len().checked_sub(1) else { return Ok(()) };
        let rows = CopiedRows { encoder: Arc::clone(&self.encoder), batch, point: self.point };
        let mut lines = lock(&self.shared.lines);
        if self.encoder.schema().is_beside() {
            // None of the tables whose first and last rows are marked.
            let round = std::mem::take(&mut lines.round);
            let written = self.shared.write_rows(&mut lines, &rows, Marker::True);
            lines.round = round;
            return written;
        }
        if let Some(before) = self.last.replace(rows.part(end, 1)) {
            self.shared.write_rows(&mut lines, &before, Marker::True)?;
        }
        if end > 0 {
            self.shared.write_rows(&mut lines, &rows.part(0, end), Marker::True)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(self.last)))
    }
}
