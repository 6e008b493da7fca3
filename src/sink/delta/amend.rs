//! A table that is put right where it is, part by part, while its stream goes on.
//!
//! A part is all rows of the source with keys in a range, as a snapshot at position `P` has them. The table is at `Q`,
//! not before `P`: everything up to `P` is in it, and no unit is open. Each row of the part is looked up by the index
//! and compared with what stands there. What differs or is not there is written anew. A row of the table with a key
//! of the range that was neither confirmed nor written, and was not touched beyond `P`, is gone from the source: it is
//! removed. All of it is one commit that moves no position, so every version is the source's at its position for every
//! key that was right before, and for every key of the parts that are done.
//!
//! Which rows of the table may be gone is a bitmap of rows by file, made in one pass over the key columns for as many
//! parts as fit a bound. Rows that are confirmed or written are taken out of it. What remains is looked at by its key
//! only to leave out what the stream touched meanwhile: no set of keys is ever compared with another.
//!
//! From before the snapshot is taken on, the keys of everything that is staged are noted, each with the last
//! transaction that touched it. Whether the snapshot knows that transaction follows from `P` alone, the consistent
//! point of the slot that exported it: it holds exactly the transactions that end at or before it, so it does not
//! matter whether a commit was decoded before or after it became visible.
//!
//! | key of the part's range | so |
//! |---|---|
//! | not touched since the watch began, or last by a transaction up to `P` | as the part has it |
//! | touched beyond `P`, the last time by a whole row | as the stream has it: the part's row is older |
//! | touched beyond `P` by a row with values that the log does not repeat | these came from the old row, which may be wrong: it is read again, under a new snapshot |
//! | a row moved here from another key, with values that the log does not repeat | the same, and whichever part the key is in, a part that is done included: it is read again by its key; who starts anew begins with the first part |
//! | TRUNCATE, new columns, or too many keys meanwhile | the part says nothing: it is read again |
//! | the table's row moved by compaction or a foreign commit | the bitmaps are made anew |
//!
//! # Who dies where
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | a part is read, not committed | files that no version names | reads this part again, under a new snapshot |
//! | its commit's put is sent, the reply lost | the version, or nothing yet | [`Core::put`] knows its own bytes; the same is put again |
//! | a part is committed, the next is not | the rows, and in the table's state the request and where the part ended | the request is still on record: goes on there. What is behind it was right, and the stream kept it right |
//! | a part is committed, some of its rows are to be read again | the rows; the mark of an older part | reads this part again. The next part's mark covers both |
//! | a part changed nothing | nothing; where it ended goes with the next commit, whatever that is | perhaps reads this part again: it confirms it |
//! | the last part is committed, the request is not answered | the whole table right; its state has no mark, or one of the last parts | compares it once more |
//! | another process takes over | its epoch where ours was to go | `Fenced`; it goes on with the request |
//! | the table stops, or is copied anew | as after any stop | the request is answered by the copy, or refused |

use super::commit::{Core, part_files};
use super::compact::conform;
use super::encode::{FinishedFile, keep};
use super::evolve::Pending;
use super::keys::{self, Key};
use super::layout::is_ours;
use super::state::{self, AmendMark, TableState};
use super::table::{DataFile, columns_of, read_columns, read_vectors};
use super::unit::{Onto, keys_of};
use super::upsert::{Upsert, start_of};
use super::{Applied, DeltaTable};
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, ChunkKey, KeyRange, Op};
use crate::position::{CommitLsn, Interval, Lsn};
use crate::schema::TableSchema;
use crate::sink::write::Truncates;
use crate::sink::{AmendPart, Amended, CommitOutcome, table_error};
use arrow::array::{Array, ArrayRef, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Keys that are noted at most.
const MOST_TOUCHED: usize = 2_000_000;
/// Rows that may be gone, of all parts that are prepared at once, about.
const MOST_SUSPECTS: u64 = 8_000_000;

/// Rows of the table, by file.
type Rows = BTreeMap<u32, RoaringBitmap>;

/// What the stream did to a key since the watch began.
#[derive(Clone, Copy)]
struct Touch {
    /// Start of the last transaction's commit record.
    last: Lsn,
    /// Some of its values came from the old row.
    is_partial: bool,
}

enum Verdict {
    /// As the part has it.
    Part,
    /// As the stream has it.
    Stream,
    /// To be read again.
    Again,
}

/// A request that is being met.
pub(super) struct Amending<K> {
    touched: HashMap<K, Touch>,
    /// Why what is read now says nothing.
    void: Option<&'static str>,
    /// Keys that rows moved to with values of the old row, which may be wrong. A new watch does not know of them less.
    moved: BTreeSet<ChunkKey>,
    /// Rows that may be gone, of the parts to come: where each ends. True of the places counted by the number.
    suspects: (u64, VecDeque<(Option<ChunkKey>, Rows)>),
}

impl<K> Default for Amending<K> {
    fn default() -> Self {
        Amending {
            touched: HashMap::new(),
            void: None,
            moved: BTreeSet::new(),
            suspects: (0, VecDeque::new()),
        }
    }
}

impl<K: Key> Amending<K> {
    fn watch(&mut self) {
        self.touched.clear();
        self.void = None;
    }

    /// Notes what is about to be staged.
    pub(super) fn note(&mut self, batch: &ChangeBatch) -> Result<()> {
        for row in moves::<K>(batch)? {
            match first_key(&batch.schema, &batch.after, row) {
                Some(key) => drop(self.moved.insert(key)),
                None => self.void = Some("a row of it moved to another key meanwhile"),
            }
        }
        if batch.ops.contains(&Op::Truncate) {
            self.void = Some("it was truncated meanwhile");
        }
        if self.void.is_some() {
            return Ok(());
        }
        let (new, old) = keys_of::<K>(batch)?;
        for (row, op) in batch.ops.iter().enumerate() {
            // A row of no transaction is newer than everything.
            let last = batch.txn_of(row).map_or(Lsn::new(u64::MAX), |txn| txn.commit_start);
            if matches!(op, Op::Create | Op::Update | Op::Read) {
                let is_partial = batch.unchanged.iter().flatten().any(|mask| mask.value(row));
                self.touch(new[row], last, is_partial);
            }
            let before = batch.before.as_ref().map_or(Before::NONE, |before| before.index[row]);
            if let Some(&key) = old.get(before as usize).filter(|key| **key != new[row] || *op == Op::Delete)
            {
                self.touch(key, last, false);
            }
        }
        if self.touched.len() > MOST_TOUCHED {
            self.void = Some("too many of its rows changed meanwhile");
        }
        Ok(())
    }

    fn touch(&mut self, key: K, last: Lsn, is_partial: bool) {
        let now = Touch { last, is_partial };
        let touch = self.touched.entry(key).or_insert(now);
        *touch = Touch { last: touch.last.max(last), is_partial: touch.is_partial || is_partial };
    }

    fn judge(&self, key: K, at: CommitLsn) -> Verdict {
        match self.touched.get(&key) {
            Some(touch) if !at.covers(touch.last) && touch.is_partial => Verdict::Again,
            Some(touch) if !at.covers(touch.last) => Verdict::Stream,
            Some(_) | None => Verdict::Part,
        }
    }

    /// Rows of the table with keys in the part's range; those of parts that follow are kept.
    async fn suspects(
        &mut self,
        core: &mut Core,
        range: &KeyRange,
        ends: &[ChunkKey],
        at: u64,
    ) -> Result<Rows> {
        let is_known =
            self.suspects.0 == at && self.suspects.1.front().is_some_and(|(below, _)| *below == range.below);
        if !is_known {
            read_vectors(&core.files, core.slots.iter_mut()).await?;
            self.suspects = (at, prepare(core, range, ends).await?);
        }
        Ok(self.suspects.1.pop_front().map(|(_, rows)| rows).unwrap_or_default())
    }
}

/// Rows that move to another key with values that come from the old row.
pub(super) fn moves<K: Key>(batch: &ChangeBatch) -> Result<Vec<usize>> {
    let masks: Vec<_> = batch.unchanged.iter().flatten().collect();
    let Some(before) = batch.before.as_ref().filter(|_| !masks.is_empty()) else { return Ok(Vec::new()) };
    let (new, old) = keys_of::<K>(batch)?;
    let is_move = |&row: &usize| {
        let from = before.index.get(row).and_then(|&at| old.get(at as usize));
        batch.ops[row] == Op::Update
            && from.is_some_and(|from| *from != new[row])
            && masks.iter().any(|mask| mask.value(row))
    };
    Ok((0..batch.len()).filter(is_move).collect())
}

/// Live rows of the parts from `range` on, as many parts as fit the bound.
async fn prepare(
    core: &Core,
    range: &KeyRange,
    ends: &[ChunkKey],
) -> Result<VecDeque<(Option<ChunkKey>, Rows)>> {
    let mut bounds = vec![range.below.clone()];
    if range.below.is_some() {
        bounds.extend(ends.iter().cloned().map(Some).chain([None]));
    }
    let live = |file: &DataFile| u64::from(file.rows) - file.deleted.as_ref().map_or(0, RoaringBitmap::len);
    let all: u64 = core.live_files().map(|(_, file)| live(file)).sum();
    let each = (all / bounds.len() as u64).max(1);
    bounds.truncate(usize::try_from(MOST_SUSPECTS / each).unwrap_or(1).max(1));
    let mut parts: VecDeque<(Option<ChunkKey>, Rows)> =
        bounds.iter().map(|bound| (bound.clone(), Rows::new())).collect();
    for (number, file) in core.live_files() {
        let alive = alive(file);
        if *range == KeyRange::default() {
            if let Some((_, rows)) = parts.front_mut() {
                rows.insert(number, alive);
            }
            continue;
        }
        sort_out(core, (number, file, &alive), range, &mut parts).await?;
    }
    Ok(parts)
}

/// Rows of the file that readers see.
fn alive(file: &DataFile) -> RoaringBitmap {
    let mut alive = RoaringBitmap::new();
    alive.insert_range(0..file.rows);
    if let Some(deleted) = &file.deleted {
        alive -= deleted;
    }
    alive
}

/// Puts the rows of a file to the parts that their keys belong to.
async fn sort_out(
    core: &Core,
    (number, file, alive): (u32, &DataFile, &RoaringBitmap),
    range: &KeyRange,
    parts: &mut VecDeque<(Option<ChunkKey>, Rows)>,
) -> Result<()> {
    let first = core.stored.key.first().and_then(|&i| core.stored.columns.get(i));
    let first = first.ok_or_else(|| Error::new(codes::RT001, "parts by key of a table without one"))?;
    let field = core.stored.arrow.field_with_name(&first.name).cloned().map_err(broken)?;
    let schema = Arc::new(Schema::new(vec![field]));
    let mut batches =
        read_columns(&core.files, &file.stored(), std::slice::from_ref(&first.name), None).await?;
    let mut at = 0u32;
    while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
        let batch = conform(&batch?, &schema)?;
        let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        for row in alive.range(at..at + rows) {
            let key = ChunkKey::of(batch.column(0), (row - at) as usize)
                .ok_or_else(|| Error::new(codes::RT001, "a key that was cut by is not to be compared"))?;
            if range.from.as_ref().is_some_and(|from| key < *from) {
                continue;
            }
            let part = parts.partition_point(|(below, _)| below.as_ref().is_some_and(|below| *below <= key));
            if let Some((_, rows)) = parts.get_mut(part) {
                rows.entry(number).or_default().insert(row);
            }
        }
        at += rows;
    }
    Ok(())
}

impl<K: Key> Upsert<K> {
    async fn amend(&mut self, core: &mut Core, part: AmendPart) -> Result<(Amended, CommitOutcome)> {
        let mut files = Vec::new();
        let AmendPart { request, at, range, ends, parts, .. } = part;
        for part in parts {
            files.extend(part_files(part)?);
        }
        self.build_index(core).await?;
        let mut amending = self
            .amending
            .take()
            .ok_or_else(|| Error::new(codes::RT001, "rows to put right, and nobody asked for them"))?;
        let mut done = self.compare(core, &mut amending, (at, range.as_ref(), &ends), &files).await;
        if let Ok(Amended { void: None, again, .. }) = &mut done {
            // They were staged after this snapshot, or before it: the next one knows them.
            again.extend(std::mem::take(&mut amending.moved));
        }
        self.amending = Some(amending);
        let mut amended = done?;
        amended.again.sort();
        amended.again.dedup();
        let mut outcome = CommitOutcome::Committed { version: core.version };
        if amended.void.is_none() {
            // Rows that are to be read again would not be looked for by who goes on behind the mark.
            if let Some(range) = range.filter(|_| amended.again.is_empty()) {
                let mark = range.below.map(|below| AmendMark { request, below });
                core.mark_amended(mark)?;
            }
            if amended.written + amended.removed > 0 {
                let position = start_of(core.position);
                outcome = self.commit(core, Interval { from: position, to: position }).await?;
            }
        }
        for file in &files {
            // No version ever names them. One that stays is vacuum's business.
            if let Err(error) = core.files.delete(&file.path).await {
                tracing::debug!(table = %core.schema.name, "a file was not deleted: {}", error.cause_line());
            }
        }
        Ok((amended, outcome))
    }

    /// Stages what is to be put right.
    async fn compare(
        &mut self,
        core: &mut Core,
        amending: &mut Amending<K>,
        (at, range, ends): (CommitLsn, Option<&KeyRange>, &[ChunkKey]),
        files: &[FinishedFile],
    ) -> Result<Amended> {
        let mut amended = Amended { void: amending.void.map(str::to_owned), ..Amended::default() };
        if amended.void.is_some() {
            return Ok(amended);
        }
        let mut suspects = match range {
            Some(range) => amending.suspects(core, range, ends, self.places).await?,
            None => Rows::new(),
        };
        let columns: Vec<String> = core.stored.columns.iter().map(|c| c.name.clone()).collect();
        for file in files {
            let mut batches = read_columns(&core.files, &file.stored(), &columns, None).await?;
            while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
                let rows = conform(&batch?, &core.stored.arrow)?;
                self.compare_rows(core, amending, at, &rows, &mut suspects, &mut amended).await?;
            }
        }
        if amended.void.is_some() {
            self.discard();
            return Ok(amended);
        }
        if range.is_some() {
            self.remove(core, amending, at, suspects, &mut amended).await?;
        }
        Ok(amended)
    }

    async fn compare_rows(
        &mut self,
        core: &Core,
        amending: &Amending<K>,
        at: CommitLsn,
        rows: &RecordBatch,
        suspects: &mut Rows,
        amended: &mut Amended,
    ) -> Result<()> {
        let Some(index) = &self.index else { return Err(Error::new(codes::RT001, "there is no index")) };
        let schema = &core.stored;
        let keys = keys::extract::<K>(schema, &schema.key, rows, |_| true)?;
        let mut wanted = vec![false; rows.num_rows()];
        let mut there: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for ((row, &key), number) in keys.iter().enumerate().zip(0u32..) {
            match amending.judge(key, at) {
                Verdict::Stream => continue,
                Verdict::Again => {
                    match first_key(schema, rows, row) {
                        Some(key) => amended.again.push(key),
                        None => amended.void = Some("a row of it changed in part meanwhile".to_owned()),
                    }
                    continue;
                }
                Verdict::Part => {}
            }
            match index.get(key) {
                Some(place) => there.entry(place.file).or_default().push((place.row, number)),
                None => wanted[row] = true,
            }
        }
        index.check()?;
        for (file, mut of_file) in there {
            of_file.sort_unstable();
            let same = same_rows(core, file, &of_file, rows).await?;
            let mut gone = suspects.get_mut(&file);
            for ((place, row), same) in of_file.into_iter().zip(same) {
                if let Some(rows) = &mut gone {
                    rows.remove(place);
                }
                wanted[row as usize] = !same;
                amended.confirmed += u64::from(same);
            }
        }
        let new = keep(rows, &wanted)?;
        amended.written += new.num_rows() as u64;
        self.stage_amended(core, &batch_of(schema, Op::Create, new)?).await
    }

    /// Removes what is left: the source has it no more.
    async fn remove(
        &mut self,
        core: &Core,
        amending: &Amending<K>,
        at: CommitLsn,
        suspects: Rows,
        amended: &mut Amended,
    ) -> Result<()> {
        let schema = &core.stored;
        let names: Vec<String> = schema.key.iter().map(|&i| schema.columns[i].name.clone()).collect();
        for (number, mut rows) in suspects {
            let Some(file) = core.slots.get(number) else { continue };
            if let Some(deleted) = &file.deleted {
                rows -= deleted;
            }
            let rows: Vec<u32> = rows.into_iter().collect();
            if rows.is_empty() {
                continue;
            }
            let mut batches = read_columns(&core.files, &file.stored(), &names, Some(&rows)).await?;
            while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
                let rows = conform(&batch?, &schema.arrow)?;
                let keys = keys::extract::<K>(schema, &schema.key, &rows, |_| true)?;
                let gone: Vec<bool> =
                    keys.iter().map(|&key| matches!(amending.judge(key, at), Verdict::Part)).collect();
                let gone = keep(&rows, &gone)?;
                amended.removed += gone.num_rows() as u64;
                self.stage_amended(core, &batch_of(schema, Op::Delete, gone)?).await?;
            }
        }
        Ok(())
    }

    async fn stage_amended(&mut self, core: &Core, batch: &ChangeBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let Some(index) = &self.index else { return Err(Error::new(codes::RT001, "there is no index")) };
        let stored = |file: u32| core.slots.get(file).map(DataFile::stored);
        let by = core.parted_by();
        let onto = Onto {
            files: &core.files,
            stored: &stored,
            by: &by,
            index,
            strict: false,
            soft: false,
            chunks: None,
        };
        let staged = self.unit.stage(batch, &onto).await;
        index.check()?;
        staged
    }
}

/// The value that a row can be asked for by.
fn first_key(schema: &TableSchema, rows: &RecordBatch, row: usize) -> Option<ChunkKey> {
    let first = *schema.key.first()?;
    let column = schema.columns.get(first).filter(|column| ChunkKey::is_exact(&column.kind))?;
    ChunkKey::of(rows.column_by_name(&column.name)?, row)
}

/// Whether each row of the table, by its place in the file, is the row of `rows` beside it. Places ascend.
async fn same_rows(core: &Core, file: u32, pairs: &[(u32, u32)], rows: &RecordBatch) -> Result<Vec<bool>> {
    let stored = core.slots.get(file).map(DataFile::stored);
    let stored = stored.ok_or_else(|| Error::new(codes::RT001, "a row's file is not in the table"))?;
    let held = columns_of(&core.files, &stored).await?;
    let source = core.stored.columns.iter().filter(|column| !is_ours(column));
    let fields = source.map(|column| core.stored.arrow.field_with_name(&column.name).cloned());
    let schema = Arc::new(Schema::new(fields.collect::<std::result::Result<Vec<_>, _>>().map_err(broken)?));
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let names: Vec<String> = names.into_iter().filter(|name| held.field_with_name(name).is_ok()).collect();
    let places: Vec<u32> = pairs.iter().map(|(place, _)| *place).collect();
    let mut same = vec![true; pairs.len()];
    let mut at = 0;
    let mut batches = read_columns(&core.files, &stored, &names, Some(&places)).await?;
    while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
        let theirs = conform(&batch?, &schema)?;
        let end = at + theirs.num_rows();
        let (Some(of_batch), Some(same)) = (pairs.get(at..end), same.get_mut(at..end)) else { break };
        let picks = UInt32Array::from_iter_values(of_batch.iter().map(|(_, row)| *row));
        for (column, field) in theirs.columns().iter().zip(schema.fields()) {
            let Some(wanted) = rows.column_by_name(field.name()) else { continue };
            mark_different(column, &take(wanted, &picks, None).map_err(broken)?, same);
        }
        at = end;
    }
    if at == pairs.len() {
        return Ok(same);
    }
    let what = format!("the data file \"{}\" has fewer rows than the log says", stored.name);
    Err(table_error(&core.schema.name, codes::TG020, what))
}

/// Compared by their bytes.
fn mark_different(a: &ArrayRef, b: &ArrayRef, same: &mut [bool]) {
    if a.as_ref() == b.as_ref() {
        return;
    }
    for (row, same) in same.iter_mut().enumerate().filter(|(_, same)| **same) {
        *same = a.slice(row, 1).as_ref() == b.slice(row, 1).as_ref();
    }
}

/// Rows that are written, or the old images of rows that go.
fn batch_of(schema: &Arc<TableSchema>, op: Op, rows: RecordBatch) -> Result<ChangeBatch> {
    let count = rows.num_rows();
    let wire_bytes = rows.get_array_memory_size();
    let (after, before) = match op {
        Op::Delete => {
            let none = schema.arrow.fields().iter().map(|field| new_null_array(field.data_type(), count));
            let none = RecordBatch::try_new(Arc::clone(&schema.arrow), none.collect()).map_err(broken)?;
            let index = (0u32..).take(count).collect();
            (none, Some(Before { rows, index }))
        }
        _ => (rows, None),
    };
    Ok(ChangeBatch {
        schema: Arc::clone(schema),
        ops: vec![op; count],
        runs: Vec::new(),
        ordinals: Vec::new(),
        lsns: Vec::new(),
        origins: Vec::new(),
        after,
        before,
        unchanged: vec![None; schema.columns.len()],
        wire_bytes,
    })
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "cannot compare a table's rows").with_source(e)
}

impl Core {
    /// How far a request is met: said by the next commit.
    pub(super) fn mark_amended(&mut self, amended: Option<AmendMark>) -> Result<()> {
        let (state, metadata, protocol) = match self.pending.take() {
            Some(Pending { state, metadata, protocol }) => (state, metadata, protocol),
            None => (self.state.clone(), self.metadata.clone(), None),
        };
        let state = TableState { amended, ..state };
        let mut metadata = metadata;
        metadata.configuration.insert(state::KEY.into(), state.encode()?);
        self.pending = Some(Pending { state, metadata, protocol });
        Ok(())
    }

    /// How far a request was met.
    pub(super) fn amended(&self) -> Option<&AmendMark> {
        self.pending.as_ref().map_or(&self.state, |pending| &pending.state).amended.as_ref()
    }
}

impl DeltaTable {
    /// Begins to meet a request. Returns where it goes on.
    ///
    /// # Errors
    /// `TG029`.
    pub(super) fn begin_amending(&mut self, request: &str) -> Result<Option<ChunkKey>> {
        let is_soft = self.core.form.is_soft() || self.core.form.truncates == Truncates::Soft;
        let why = match (&mut self.applied, self.beside.is_some()) {
            (Applied::Log(_), _) => "it is written as a change log, which is never changed",
            (_, true) => "the change log beside it would not tell of what is put right",
            _ if is_soft => "its deleted rows stay, and cannot be told from rows that the source never had",
            (Applied::Narrow(upsert), _) => {
                upsert.amending = Some(Amending::default());
                return Ok(self.goes_on(request));
            }
            (Applied::Wide(upsert), _) => {
                upsert.amending = Some(Amending::default());
                return Ok(self.goes_on(request));
            }
        };
        Err(table_error(&self.core.schema.name, codes::TG029, why)
            .with_try(format!("strandline resync \"{}\" --mode swap --yes", self.core.schema.name)))
    }

    fn goes_on(&self, request: &str) -> Option<ChunkKey> {
        self.core.amended().filter(|mark| mark.request == request).map(|mark| mark.below.clone())
    }

    /// A new snapshot is about to be taken.
    pub(super) fn watch_amending(&mut self) {
        match &mut self.applied {
            Applied::Narrow(Upsert { amending: Some(amending), .. }) => amending.watch(),
            Applied::Wide(Upsert { amending: Some(amending), .. }) => amending.watch(),
            Applied::Narrow(_) | Applied::Wide(_) | Applied::Log(_) => {}
        }
    }

    /// What is read now says nothing.
    pub(super) fn void_amending(&mut self, why: &'static str) {
        match &mut self.applied {
            Applied::Narrow(Upsert { amending: Some(amending), .. }) => amending.void = Some(why),
            Applied::Wide(Upsert { amending: Some(amending), .. }) => amending.void = Some(why),
            Applied::Narrow(_) | Applied::Wide(_) | Applied::Log(_) => {}
        }
    }

    /// Puts a part right.
    ///
    /// # Errors
    /// As a commit.
    pub(super) async fn amend_part(&mut self, part: AmendPart) -> Result<(Amended, CommitOutcome)> {
        if self.is_open {
            return Err(Error::new(codes::RT001, "rows are put right inside of a unit"));
        }
        self.catch_up().await?;
        let done = match &mut self.applied {
            Applied::Narrow(upsert) => upsert.amend(&mut self.core, part).await,
            Applied::Wide(upsert) => upsert.amend(&mut self.core, part).await,
            Applied::Log(_) => Err(Error::new(codes::RT001, "a change log cannot be put right")),
        }?;
        self.upkeep.begin(&self.core);
        Ok(done)
    }

    /// Keys that must be read once more, after the last part too.
    pub(super) fn left_to_amend(&mut self) -> Vec<ChunkKey> {
        let moved = match &mut self.applied {
            Applied::Narrow(Upsert { amending: Some(amending), .. }) => std::mem::take(&mut amending.moved),
            Applied::Wide(Upsert { amending: Some(amending), .. }) => std::mem::take(&mut amending.moved),
            Applied::Narrow(_) | Applied::Wide(_) | Applied::Log(_) => BTreeSet::new(),
        };
        moved.into_iter().collect()
    }

    /// No more is put right.
    pub(super) fn end_amending(&mut self) -> Result<()> {
        match &mut self.applied {
            Applied::Narrow(upsert) => upsert.amending = None,
            Applied::Wide(upsert) => upsert.amending = None,
            Applied::Log(_) => {}
        }
        if self.core.amended().is_some() { self.core.mark_amended(None) } else { Ok(()) }
    }
}
