//! The open unit of an upsert table: net changes by key, staged slice by slice.
//!
//! A unit is every change of some whole source transactions. It may be larger than memory, so it comes in
//! slices; of each slice the surviving new row versions go to a data file at once. For every key touched
//! the unit remembers where its row was before the unit (`base`) and what became of it (`now`). At commit
//! the bases become deletion vectors, and rows of earlier slices that later slices replaced are masked in
//! the unit's own files, in the same commit.
//!
//! Changes are applied strictly: creating a key that is there, or changing one that is not, contradicts
//! the position and stops the table (TG015). Only a table that began without a copy takes such changes.
//!
//! A column may come *unchanged*: a TOASTed value that the log does not repeat. It is taken from the row's
//! previous version: earlier in the slice, in a file of this unit, or in the table, found by the index.

use super::cdc::Kind;
use super::encode::{FinishedFile, keep};
use super::exact::Led;
use super::fetch::{self, Fetch, Origin};
use super::index::{KeyMap, Place};
use super::keys::{self, Key};
use super::storage::{NewFile, TableFiles};
use super::table::Stored;
use super::writers::{Layout, Open, Writers, close_all};
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, ChunkKey, Chunks, Op};
use crate::position::CommitLsn;
use crate::schema::TableSchema;
use crate::sink::table_error;
use arrow::record_batch::RecordBatch;
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A data file is closed when it reaches this size.
pub(super) const TARGET_FILE_BYTES: usize = 128 << 20;

/// Rows with unchanged values that are filled in at once, at first.
const FIRST_FILL_ROWS: usize = 64;
/// Bytes of rows that are filled in at once.
const FILL_BYTES: usize = 32 << 20;

/// What became of a key in the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Now {
    /// Not changed after all.
    AsBefore,
    /// In a file of the unit.
    Row(Place),
    /// In the slice that is being staged.
    Slice(u32),
    /// Gone.
    Gone,
}

struct Entry<K> {
    key: K,
    base: Option<Place>,
    now: Now,
}

/// A file of the unit.
#[derive(Default)]
pub(super) struct UnitFile {
    /// Set when the file is closed.
    pub finished: Option<FinishedFile>,
    /// Rows that later slices replaced.
    pub masked: RoaringBitmap,
}

/// The open unit.
pub(super) struct Unit<K> {
    by_key: HashTable<u32>,
    entries: Vec<Entry<K>>,
    writers: Option<Writers>,
    /// Files of the unit, in the order in which they were begun; some may still be open.
    pub files: Vec<UnitFile>,
    /// Everything that the table held before the unit is gone.
    pub truncated: bool,
    /// What the index says of the slice's keys, where that took reading.
    ahead: HashMap<K, Option<Place>>,
}

impl<K: Key> Default for Unit<K> {
    fn default() -> Self {
        Unit {
            by_key: HashTable::new(),
            entries: Vec::new(),
            writers: None,
            files: Vec::new(),
            truncated: false,
            ahead: HashMap::new(),
        }
    }
}

/// What a slice is staged onto.
pub(super) struct Onto<'a, K> {
    /// The table's directory.
    pub files: &'a TableFiles,
    /// Each file of the table, by number.
    pub stored: &'a (dyn Fn(u32) -> Option<Stored> + Sync),
    /// Columns that the table is partitioned by.
    pub by: &'a [String],
    /// The table's index.
    pub index: &'a KeyMap<K>,
    /// The table began with a copy: a change must fit its rows.
    pub strict: bool,
    /// Deleted rows stay: a row may be created over one, and one that moves to another key leaves the old one.
    pub soft: bool,
    /// Its parts are at different moments: a key takes only what lies beyond its chunk's.
    pub chunks: Option<&'a Chunks>,
}

/// One slice while it is applied.
struct Slice {
    /// Rows that stand at its end.
    live: Vec<bool>,
    /// Entry of each row's key.
    entry: Vec<u32>,
    /// Where rows with unchanged columns had their previous version.
    origins: HashMap<u32, Origin>,
}

impl<K: Key> Unit<K> {
    /// Stages a slice.
    ///
    /// # Errors
    /// `TG015` when a change does not fit the rows, `PG023` when an unchanged value's old row is not known;
    /// `TG001` to `TG003`, `TG020` from storage.
    pub(super) async fn stage(&mut self, batch: &ChangeBatch, onto: &Onto<'_, K>) -> Result<()> {
        if batch.unchanged.iter().all(Option::is_none) {
            return self.stage_slice(batch, onto).await.map(|_| ());
        }
        // Unchanged values are not in the batch's bytes: they come from where they are, and may be large.
        // The size of what came for the last rows says how many can be taken next.
        let (mut from, mut rows) = (0, FIRST_FILL_ROWS);
        while from < batch.len() {
            rows = rows.min(batch.len() - from);
            let bytes = self.stage_slice(&batch.slice(from, rows), onto).await?;
            from += rows;
            let each = (bytes / rows).max(1);
            rows = (FILL_BYTES / each).clamp(1, rows * 8);
        }
        Ok(())
    }

    /// Returns the bytes of the rows, with what was filled in.
    async fn stage_slice(&mut self, batch: &ChangeBatch, onto: &Onto<'_, K>) -> Result<usize> {
        let schema = &batch.schema;
        let slice = self.apply(batch, onto)?;
        let after = if slice.origins.is_empty() {
            batch.after.clone()
        } else {
            self.fill_unchanged(batch, &slice, onto).await?
        };
        let rows = keep(&after, &slice.live)?;
        if rows.num_rows() > 0 {
            let places = self.write(&rows, schema, onto).await?;
            self.place_rows(&slice, &places);
        }
        Ok(after.get_array_memory_size())
    }

    fn apply(&mut self, batch: &ChangeBatch, onto: &Onto<'_, K>) -> Result<Slice> {
        let keys = keys_of::<K>(batch)?;
        if onto.index.is_beyond_memory() {
            let entries = &self.entries;
            let is_new =
                |key: &K| self.by_key.find(key.mix(), |&at| entries[at as usize].key == *key).is_none();
            let wanted: HashSet<K> = keys.0.iter().chain(&keys.1).copied().filter(is_new).collect();
            self.ahead = onto.index.look_up(&wanted.into_iter().collect::<Vec<K>>());
        }
        let applied = self.apply_each(batch, keys, onto);
        self.ahead.clear();
        applied
    }

    fn apply_each(
        &mut self,
        batch: &ChangeBatch,
        (new_keys, old_keys): (Vec<K>, Vec<K>),
        onto: &Onto<'_, K>,
    ) -> Result<Slice> {
        let schema = &batch.schema;
        let old_key = |row: usize| {
            let at = batch.before.as_ref().map_or(Before::NONE, |before| before.index[row]);
            old_keys.get(at as usize).copied()
        };
        let masks: Vec<_> = batch.unchanged.iter().flatten().collect();
        let has_unchanged = |row: usize| masks.iter().any(|mask| mask.value(row));
        let rows = batch.len();
        let held = Held::of(batch, onto.chunks);
        // Rows may be ahead of the change: see the module of the chunks.
        let is_ahead = onto.chunks.is_some_and(|chunks| !chunks.is_exact());
        let strict = onto.strict && !is_ahead;
        let mut slice = Slice { live: vec![false; rows], entry: vec![0; rows], origins: HashMap::new() };
        for (row, &op) in batch.ops.iter().enumerate() {
            match op {
                Op::Create | Op::Read if held.of_new(row) => {}
                Op::Delete if held.of_old(row) => {}
                Op::Create | Op::Read => {
                    let entry = self.touch(new_keys[row], onto);
                    if strict && !onto.soft && self.is_live(entry) {
                        return Err(misfit(schema, "a row was created whose key the table already holds"));
                    }
                    self.put(entry, row, &mut slice);
                }
                Op::Update => {
                    let key = new_keys[row];
                    let old = old_key(row).unwrap_or(key);
                    if held.of_new(row) || held.of_old(row) {
                        self.update_in_part(row, (old, key), &held, &mut slice, onto, batch)?;
                        continue;
                    }
                    let from = self.touch(old, onto);
                    if strict && !self.is_live(from) {
                        return Err(misfit(schema, "a row was updated that the table does not hold"));
                    }
                    if has_unchanged(row) {
                        if is_ahead && old != key {
                            return Err(in_no_chunk(schema));
                        }
                        let unknown = || if is_ahead { in_no_chunk(schema) } else { unknown_old_row(schema) };
                        let origin = self.origin(from).ok_or_else(unknown)?;
                        slice.origins.insert(row_number(row), origin);
                    }
                    if old == key {
                        self.put(from, row, &mut slice);
                    } else {
                        if !onto.soft {
                            self.kill(from, &mut slice);
                        }
                        let to = self.touch(key, onto);
                        if strict && !onto.soft && self.is_live(to) {
                            return Err(misfit(schema, "a row moved to a key that the table already holds"));
                        }
                        self.put(to, row, &mut slice);
                    }
                }
                Op::Delete => {
                    let old = old_key(row)
                        .ok_or_else(|| misfit(schema, "a row was deleted and the log does not say which"))?;
                    let entry = self.touch(old, onto);
                    if strict && !self.is_live(entry) {
                        return Err(misfit(schema, "a row was deleted that the table does not hold"));
                    }
                    self.kill(entry, &mut slice);
                }
                // Its file would be another one now, and the copy would have begun again.
                Op::Truncate if onto.chunks.is_some() => return Err(in_no_chunk(schema)),
                Op::Truncate => self.truncate(&mut slice),
            }
        }
        Ok(slice)
    }

    /// An update of a row whose old or new key is in a chunk that knows of it already.
    fn update_in_part(
        &mut self,
        row: usize,
        (old, new): (K, K),
        held: &Held,
        slice: &mut Slice,
        onto: &Onto<'_, K>,
        batch: &ChangeBatch,
    ) -> Result<()> {
        let schema = &batch.schema;
        if old == new {
            return Ok(());
        }
        if !held.of_old(row) {
            let from = self.touch(old, onto);
            if onto.strict && !self.is_live(from) {
                return Err(misfit(schema, "a row was updated that the table does not hold"));
            }
            self.kill(from, slice);
        }
        if !held.of_new(row) {
            if batch.unchanged.iter().flatten().any(|mask| mask.value(row)) {
                return Err(in_no_chunk(schema));
            }
            let to = self.touch(new, onto);
            if onto.strict && self.is_live(to) {
                return Err(misfit(schema, "a row moved to a key that the table already holds"));
            }
            self.put(to, row, slice);
        }
        Ok(())
    }

    /// The key's entry, made from the index on first touch.
    fn touch(&mut self, key: K, onto: &Onto<'_, K>) -> u32 {
        let hash = key.mix();
        let entries = &self.entries;
        if let Some(found) = self.by_key.find(hash, |&at| entries[at as usize].key == key) {
            return *found;
        }
        let known = self.ahead.get(&key).copied();
        let base = if self.truncated { None } else { known.unwrap_or_else(|| onto.index.get(key)) };
        let at = row_number(self.entries.len());
        self.entries.push(Entry { key, base, now: Now::AsBefore });
        let entries = &self.entries;
        self.by_key.insert_unique(hash, at, |&at| entries[at as usize].key.mix());
        at
    }

    fn is_live(&self, entry: u32) -> bool {
        let entry = &self.entries[entry as usize];
        match entry.now {
            Now::AsBefore => entry.base.is_some(),
            Now::Row(_) | Now::Slice(_) => true,
            Now::Gone => false,
        }
    }

    fn origin(&self, entry: u32) -> Option<Origin> {
        let entry = &self.entries[entry as usize];
        match entry.now {
            Now::AsBefore => entry.base.map(Origin::Table),
            Now::Row(place) => Some(Origin::Unit(place)),
            Now::Slice(row) => Some(Origin::Slice(row)),
            Now::Gone => None,
        }
    }

    /// Ends the version of the row that the entry stands for.
    fn end_version(&mut self, entry: u32, slice: &mut Slice) {
        match self.entries[entry as usize].now {
            Now::Row(place) => {
                self.files[place.file as usize].masked.insert(place.row);
            }
            Now::Slice(row) => slice.live[row as usize] = false,
            Now::AsBefore | Now::Gone => {}
        }
    }

    fn put(&mut self, entry: u32, row: usize, slice: &mut Slice) {
        self.end_version(entry, slice);
        self.entries[entry as usize].now = Now::Slice(row_number(row));
        slice.live[row] = true;
        slice.entry[row] = entry;
    }

    fn kill(&mut self, entry: u32, slice: &mut Slice) {
        self.end_version(entry, slice);
        self.entries[entry as usize].now = Now::Gone;
    }

    fn truncate(&mut self, slice: &mut Slice) {
        self.by_key.clear();
        self.entries.clear();
        slice.live.fill(false);
        slice.origins.clear();
        // What the unit wrote so far is void; the files are not named in the commit.
        self.writers = None;
        self.files.clear();
        self.truncated = true;
    }

    async fn fill_unchanged(
        &mut self,
        batch: &ChangeBatch,
        slice: &Slice,
        onto: &Onto<'_, K>,
    ) -> Result<RecordBatch> {
        let needs_own_file = slice.origins.iter().any(|(&row, origin)| {
            slice.live[row as usize] && matches!(fetch::root(*origin, &slice.origins), Origin::Unit(_))
        });
        if needs_own_file {
            self.close_files().await?;
        }
        let own: Vec<Option<Stored>> =
            self.files.iter().map(|f| f.finished.as_ref().map(FinishedFile::stored)).collect();
        let fetch = Fetch {
            files: onto.files,
            of_table: onto.stored,
            of_unit: &|file| own.get(file as usize).cloned().flatten(),
        };
        fetch.fill(batch, &slice.live, &slice.origins).await
    }

    /// Where each row went.
    async fn write(
        &mut self,
        rows: &RecordBatch,
        schema: &TableSchema,
        onto: &Onto<'_, K>,
    ) -> Result<Vec<Place>> {
        let writers = self.writers.get_or_insert_with(|| {
            let key = schema.key.iter().map(|&i| schema.columns[i].name.clone()).collect();
            Writers::new(Layout::data(onto.by, key))
        });
        let written = tokio::task::block_in_place(|| writers.write(onto.files, rows))?;
        let (begun, full) = (writers.begun(), writers.full());
        self.files.resize_with(begun as usize, UnitFile::default);
        self.finish(full).await?;
        let mut places = vec![Place { file: u32::MAX, row: 0 }; rows.num_rows()];
        for part in written {
            match &part.rows {
                None => {
                    for (row, place) in (part.first..).zip(&mut places) {
                        *place = Place { file: part.number, row };
                    }
                }
                Some(members) => {
                    for (row, at) in (part.first..).zip(members.values()) {
                        places[*at as usize] = Place { file: part.number, row };
                    }
                }
            }
        }
        Ok(places)
    }

    /// Rows of the slice that were written get their places.
    fn place_rows(&mut self, slice: &Slice, places: &[Place]) {
        let live = slice.live.iter().zip(&slice.entry).filter(|(live, _)| **live);
        for (place, (_, &entry)) in places.iter().zip(live) {
            self.entries[entry as usize].now = Now::Row(*place);
        }
    }

    async fn finish(&mut self, files: Vec<Open>) -> Result<()> {
        for (number, finished) in close_all(files).await? {
            if let Some(file) = self.files.get_mut(number as usize) {
                file.finished = Some(finished);
            }
        }
        Ok(())
    }

    /// Closes the open files, if there are any.
    ///
    /// # Errors
    /// `TG001` to `TG003`.
    pub(super) async fn close_files(&mut self) -> Result<()> {
        let open = self.writers.as_mut().map(Writers::all).unwrap_or_default();
        self.finish(open).await
    }

    /// Closes the open files, if there are any. They are whole once what is returned is finished.
    ///
    /// # Errors
    /// `TG001` to `TG003`.
    pub(super) fn close_files_apart(&mut self) -> Result<Vec<NewFile>> {
        let mut apart = Vec::new();
        for open in self.writers.as_mut().map(Writers::all).unwrap_or_default() {
            let (number, finished, file) = tokio::task::block_in_place(|| open.finish_apart())?;
            if let Some(slot) = self.files.get_mut(number as usize) {
                slot.finished = Some(finished);
            }
            apart.push(file);
        }
        Ok(apart)
    }

    /// Looks every base up again: the index was rebuilt under the unit.
    pub(super) fn rebase(&mut self, index: &KeyMap<K>) {
        for entry in &mut self.entries {
            entry.base = if self.truncated { None } else { index.get(entry.key) };
        }
    }

    /// Rows of the table that the unit replaces or removes, by file.
    pub(super) fn touched(&self) -> HashMap<u32, RoaringBitmap> {
        let mut by_file: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in &self.entries {
            if let (Some(base), false) = (entry.base, entry.now == Now::AsBefore) {
                by_file.entry(base.file).or_default().push(base.row);
            }
        }
        by_file
            .into_iter()
            .map(|(file, mut rows)| {
                rows.sort_unstable();
                (file, rows.into_iter().collect())
            })
            .collect()
    }

    /// The same rows one by one, in order, and what became of them.
    pub(super) fn replaced(&self) -> BTreeMap<u32, BTreeMap<u32, Kind>> {
        let mut by_file: BTreeMap<u32, BTreeMap<u32, Kind>> = BTreeMap::new();
        for entry in &self.entries {
            let kind = match entry.now {
                Now::AsBefore => continue,
                Now::Gone => Kind::Delete,
                Now::Row(_) | Now::Slice(_) => Kind::Before,
            };
            if let Some(base) = entry.base {
                by_file.entry(base.file).or_default().insert(base.row, kind);
            }
        }
        by_file
    }

    /// Of each file of the unit, the rows that replace one of the table.
    pub(super) fn updated(&self) -> Vec<RoaringBitmap> {
        let mut by_file = vec![RoaringBitmap::new(); self.files.len()];
        for entry in &self.entries {
            if let (Some(_), Now::Row(place)) = (entry.base, entry.now)
                && let Some(rows) = by_file.get_mut(place.file as usize)
            {
                rows.insert(place.row);
            }
        }
        by_file
    }

    /// Brings the index up to the committed unit. `numbers` gives the table's number of each unit file; rows of
    /// files that were rewritten have been led on.
    pub(super) fn publish(&self, index: &mut KeyMap<K>, numbers: &[u32], led: Option<&Led>) {
        if self.truncated {
            index.clear();
        }
        for entry in &self.entries {
            let was = entry.base.is_some() && !self.truncated;
            match entry.now {
                Now::Row(place) => {
                    let now = led.and_then(|led| led.place(place)).unwrap_or_else(|| {
                        let file = numbers.get(place.file as usize).copied().unwrap_or(u32::MAX);
                        Place { file, row: place.row }
                    });
                    index.set(entry.key, now, was);
                }
                Now::Gone if was => index.unset(entry.key),
                Now::Gone | Now::AsBefore | Now::Slice(_) => {}
            }
        }
    }
}

/// Which keys of a batch are in chunks that know of the change already. Nothing, when the table is at one moment.
#[derive(Default)]
struct Held {
    new: Vec<bool>,
    old: Vec<bool>,
}

impl Held {
    fn of(batch: &ChangeBatch, chunks: Option<&Chunks>) -> Self {
        let Some((chunks, &first)) = chunks.zip(batch.schema.key.first()) else { return Held::default() };
        let (mut new, mut old) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let before = batch.before.as_ref();
        for row in 0..batch.len() {
            let txn = batch.txn_of(row);
            let is_held = |key: Option<ChunkKey>| {
                let at = key.map_or(CommitLsn::ZERO, |key| chunks.position_of(&key));
                txn.is_some_and(|txn| txn.held_at(at))
            };
            let of_new = is_held(ChunkKey::of(batch.after.column(first), row));
            let old_at = before.map_or(Before::NONE, |before| before.index[row]);
            let of_old = match before.filter(|_| old_at != Before::NONE) {
                Some(before) => is_held(ChunkKey::of(before.rows.column(first), old_at as usize)),
                None => of_new,
            };
            new.push(of_new);
            old.push(of_old);
        }
        Held { new, old }
    }

    fn of_new(&self, row: usize) -> bool {
        self.new.get(row).copied().unwrap_or(false)
    }

    fn of_old(&self, row: usize) -> bool {
        self.old.get(row).copied().unwrap_or(false)
    }
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// Keys of the rows as they are after their changes, and of the old rows.
pub(super) fn keys_of<K: Key>(batch: &ChangeBatch) -> Result<(Vec<K>, Vec<K>)> {
    let schema = &batch.schema;
    let new = keys::extract::<K>(schema, &schema.key, &batch.after, |row| {
        matches!(batch.ops[row], Op::Create | Op::Update | Op::Read)
    })?;
    let old = match &batch.before {
        None => Vec::new(),
        Some(before) => keys::extract::<K>(schema, &schema.key, &before.rows, |_| true)?,
    };
    Ok((new, old))
}

fn misfit(schema: &TableSchema, what: &str) -> Error {
    table_error(&schema.name, codes::TG015, what)
        .with_try(format!("strandline resync \"{}\" --yes", schema.name))
}

/// The driver copies such a table again.
fn in_no_chunk(schema: &TableSchema) -> Error {
    let what = "a row moved between parts of an interrupted copy, and a large value of it is in neither part";
    table_error(&schema.name, codes::PG022, what)
        .with_try(format!("strandline resync \"{}\" --yes", schema.name))
}

fn unknown_old_row(schema: &TableSchema) -> Error {
    table_error(
        &schema.name,
        codes::PG023,
        "a row came with an unchanged large value, and its old row is not held",
    )
    .with_try(format!("strandline resync \"{}\" --yes", schema.name))
}
