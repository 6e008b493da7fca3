//! The index saved on this machine, so that opening a large table reads only the keys that came since.
//!
//! A cache: deleting it loses nothing, and on any doubt it is not used. One file per table, replaced whole;
//! it is not synced, its checksum says whether it is whole. It says for which files, with which rows gone,
//! it was made. A data file never changes, so an entry stays right as long as its file is in the table and
//! its row was not deleted. The saved index is used if
//!
//! - it is of this very table (`metaData.id`) and of this key,
//! - in each of its files that is still in the table, every row that was gone then is gone now (only a file
//!   set back can contradict that), and
//! - entries and live rows are the same number in the end.
//!
//! Entries whose row is gone are dropped, and files that came since are read. Anything else: built anew.

use super::commit::Core;
use super::foreign::vector_id;
use super::index::{Base, Builder, Place};
use super::keys::{Key, KeyWidth};
use super::moves::Moves;
use super::table::DataFile;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const MAGIC: &[u8; 8] = b"SLINDEX1";
/// Smaller tables are read again as quickly.
const FEWEST_ROWS: usize = if cfg!(test) { 10 } else { 100_000 };

/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 1 << 16;
/// Files have smaller numbers than this; otherwise the index is built anew, with small ones.
const MOST_NUMBERS: usize = 1 << 22;

#[derive(Serialize, Deserialize)]
struct SavedFile {
    number: u32,
    path: String,
    vector: Option<String>,
    gone_bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    table: String,
    /// Names and types of the key columns.
    key: Vec<String>,
    width: usize,
    files: Vec<SavedFile>,
    keys: usize,
}

/// A base, and what stood in front of it.
pub(super) type Shard<K> = (Arc<Base<K>>, Vec<(K, Place)>);

/// The index at a moment, to be written beside the commits.
pub(super) struct Snapshot<K> {
    /// Bases, and what stood in front of each.
    pub shards: Vec<Shard<K>>,
    /// What leads entries on.
    pub moves: Moves,
}

/// What a saved index is to be compared with.
pub(super) struct Plan<K> {
    path: PathBuf,
    header: Header,
    gone: Vec<u8>,
    snapshot: Snapshot<K>,
}

fn key_of(core: &Core) -> Vec<String> {
    let column = |&i: &usize| format!("{} {:?}", core.stored.columns[i].name, core.stored.columns[i].kind);
    let mut key: Vec<String> = core.stored.key.iter().map(column).collect();
    key.push(format!("{:?}", KeyWidth::of(&core.schema)));
    key
}

/// Where the table's index is saved.
fn path_of(dir: &Path, core: &Core) -> PathBuf {
    let name = format!("{}\n{}", core.files.url(), core.metadata.id);
    dir.join(format!("{:016x}.index", xxh3_64(name.as_bytes())))
}

/// Plans to save; `None`: there is no place for it, or it is not worth it.
pub(super) fn plan<K: Key>(
    core: &Core,
    keys: usize,
    snapshot: impl FnOnce() -> Snapshot<K>,
) -> Option<Plan<K>> {
    let path = path_of(core.cache.as_ref()?, core);
    if keys < FEWEST_ROWS {
        return None;
    }
    let mut gone = Vec::new();
    let mut files = Vec::new();
    for (number, file) in core.live_files() {
        let before = gone.len();
        file.deleted.as_ref()?.serialize_into(&mut gone).ok()?;
        let vector = vector_id(file.add.deletion_vector.as_ref());
        files.push(SavedFile {
            number,
            path: file.add.path.clone(),
            vector,
            gone_bytes: gone.len() - before,
        });
    }
    let header = Header { table: core.metadata.id.clone(), key: key_of(core), width: K::BYTES, files, keys };
    Some(Plan { path, header, gone, snapshot: snapshot() })
}

/// What processes that were killed while they wrote have left of this file. One that is still at it has lost the table,
/// and is only hindered.
fn remove_leftovers(dir: &Path, path: &Path) -> io::Result<()> {
    let Some(stem) = path.file_stem() else { return Ok(()) };
    for entry in std::fs::read_dir(dir)? {
        let found = entry?.path();
        let is_ours = found.file_stem().is_some_and(|name| Path::new(name).file_stem() == Some(stem));
        if is_ours && found.extension().is_some_and(|extension| extension == "tmp") {
            match std::fs::remove_file(&found) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

struct Hashed<W> {
    to: W,
    hash: Xxh3,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<K: Key> Plan<K> {
    /// Writes the file under a temporary name and renames it. Returns its size.
    ///
    /// # Errors
    /// Of the file.
    pub(super) fn write(self) -> io::Result<u64> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
            remove_leftovers(dir, &self.path)?;
        }
        let temporary = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let result = self.write_to(&temporary).and_then(|size| {
            std::fs::rename(&temporary, &self.path)?;
            Ok(size)
        });
        if result.is_err() {
            // A leftover is only in the way.
            let _best_effort = std::fs::remove_file(&temporary);
        }
        result
    }

    fn write_to(&self, path: &Path) -> io::Result<u64> {
        let Snapshot { shards, moves } = &self.snapshot;
        let header = serde_json::to_vec(&self.header)?;
        let file = io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
        let mut out = Hashed { to: file, hash: Xxh3::new() };
        out.write_all(MAGIC)?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        out.write_all(&self.gone)?;
        let mut buffer = Vec::new();
        for (base, front) in shards {
            buffer.clear();
            let base = base.entries()?;
            let front: HashMap<K, Place> = front.iter().copied().collect();
            let base = base.iter().filter(|(key, place)| *place != Place::GONE && !front.contains_key(key));
            let front = front.iter().filter(|(_, place)| **place != Place::GONE);
            for (key, place) in base.copied().chain(front.map(|(key, place)| (*key, *place))) {
                let place = moves.resolve(place);
                key.put(&mut buffer);
                buffer.extend(place.file.to_le_bytes());
                buffer.extend(place.row.to_le_bytes());
            }
            out.write_all(&buffer)?;
        }
        let hash = out.hash.digest();
        out.to.write_all(&hash.to_le_bytes())?;
        let file = out.to.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(file.metadata()?.len())
    }
}

/// What was saved and still holds.
pub(super) struct Found<K> {
    /// Entries of it.
    pub builder: Builder<K>,
    /// How many.
    pub entries: u64,
    /// Files that it covers: the others are to be read.
    pub covered: HashSet<u32>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = self.to.read(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }
}

/// Reads what was saved. `None`: there is nothing that can be used.
pub(super) fn load<K: Key>(core: &Core, rows: usize) -> Option<Found<K>> {
    let path = path_of(core.cache.as_ref()?, core);
    let file = std::fs::File::open(&path).ok()?;
    let found = read(core, rows, file);
    if found.is_none() {
        tracing::info!(table = %core.schema.name, path = %path.display(), "the saved index is of no use; it is built anew");
    }
    found
}

fn read<K: Key>(core: &Core, rows: usize, file: std::fs::File) -> Option<Found<K>> {
    let length = file.metadata().ok()?.len();
    let mut from = Hashed { to: io::BufReader::with_capacity(1 << 20, file), hash: Xxh3::new() };
    let mut head = [0; 16];
    from.read_exact(&mut head).ok()?;
    let (magic, size) = head.split_at(8);
    let size = u64::from_le_bytes(size.try_into().ok()?);
    if magic != MAGIC || size > length {
        return None;
    }
    let header: Header = serde_json::from_slice(&take(&mut from, usize::try_from(size).ok()?)?).ok()?;
    if header.table != core.metadata.id || header.key != key_of(core) || header.width != K::BYTES {
        return None;
    }
    let gone_bytes: u64 = header.files.iter().map(|f| f.gone_bytes as u64).sum();
    let width = K::BYTES + 8;
    if length != 24 + size + gone_bytes + (header.keys * width) as u64 {
        return None;
    }
    let files = still_there(core, &header, &mut from)?;
    let builder = Builder::new(rows, core.budget.clone());
    let mut found = Found { builder, entries: 0, covered: HashSet::new() };
    // Entries stand in the order of hashes, so each may be of another file: found by number, without a search.
    let last = files.keys().max().map_or(0, |&last| last as usize + 1);
    if last > MOST_NUMBERS {
        return None;
    }
    let mut by_number = vec![None; last];
    for (&saved, &led) in &files {
        *by_number.get_mut(saved as usize)? = Some(led);
    }
    let mut left = header.keys;
    let mut entries = vec![0; ENTRIES_AT_ONCE.min(left) * width];
    while left > 0 {
        let count = ENTRIES_AT_ONCE.min(left);
        let part = entries.get_mut(..count * width)?;
        from.read_exact(part).ok()?;
        left -= count;
        for entry in part.chunks_exact(width) {
            let (key, place) = entry.split_at(K::BYTES);
            let word = |at: usize| Some(u32::from_le_bytes(place.get(at..at + 4)?.try_into().ok()?));
            let (saved, row) = (word(0)?, word(4)?);
            let Some(&Some((file, gone))) = by_number.get(saved as usize) else { continue };
            if gone.is_none_or(|gone| !gone.contains(row)) {
                found.builder.push(K::from_bytes(key, true), Place { file, row });
                found.entries += 1;
            }
        }
    }
    let hash = from.hash.digest().to_le_bytes();
    if take(&mut from, 8)? != hash {
        return None;
    }
    found.covered = files.into_values().map(|(number, _)| number).collect();
    Some(found)
}

/// Files of the saved index that are in the table: their number now, and the rows that are gone now where
/// that is not what was gone then. `None`: a row is back that was gone.
fn still_there<'a>(
    core: &'a Core,
    header: &Header,
    from: &mut impl Read,
) -> Option<HashMap<u32, (u32, Option<&'a RoaringBitmap>)>> {
    let by_path: HashMap<&str, (u32, &DataFile)> =
        core.live_files().map(|(number, file)| (file.add.path.as_str(), (number, file))).collect();
    let mut files = HashMap::new();
    for saved in &header.files {
        let gone = take(from, saved.gone_bytes)?;
        let Some(&(number, file)) = by_path.get(saved.path.as_str()) else { continue };
        let now = file.deleted.as_ref()?;
        if vector_id(file.add.deletion_vector.as_ref()) == saved.vector {
            files.insert(saved.number, (number, None));
        } else if RoaringBitmap::deserialize_from(gone.as_slice()).ok()?.is_subset(now) {
            files.insert(saved.number, (number, Some(now)));
        } else {
            return None;
        }
    }
    Some(files)
}

fn take(from: &mut impl Read, bytes: usize) -> Option<Vec<u8>> {
    let mut out = vec![0; bytes];
    from.read_exact(&mut out).ok()?;
    Some(out)
}
