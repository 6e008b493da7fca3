//! Where each key's row is: key → (file, row).
//!
//! A cache. It is rebuilt from the key columns whenever the table is opened or in doubt, and can be lost
//! at any time without losing anything. Most entries stand in *bases*: arrays without a gap, in the order of
//! buckets by hash, with a directory of where each bucket begins. A key that is there already is changed in
//! its place; new ones stand in a small hash map in front. Split into shards: one shard at a time is folded
//! (base and front become a new base), so that no commit waits for the whole, and the peak stays near the
//! steady size.
//! A key of up to 8 bytes takes about 16.5 bytes in a base, a longer one 24.5. Beyond the memory budget a
//! base's entries stand in a file ([`super::spill`]) and only its directory in memory, half a byte a key.
//!
//! When a file is rewritten its entries are led on by [`Moves`] and corrected by a sweep, some shards with
//! each commit: no commit waits for that either.

use super::keys::Key;
use super::moves::{Moved, Moves};
use super::saved::Snapshot;
use super::spill::{Region, Spill};
use crate::error::{Error, Result, codes};
use hashbrown::HashTable;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A row's place: a file of the table, by its number in memory, and the row's position in that file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    /// The file's number.
    pub file: u32,
    /// The row's position in the file, from 0.
    pub row: u32,
}

impl Place {
    /// The key is not there any more. In the front: nor does its entry in the base count.
    pub(super) const GONE: Place = Place { file: u32::MAX, row: u32::MAX };

    fn bytes(self) -> [u8; 8] {
        (u64::from(self.row) << 32 | u64::from(self.file)).to_le_bytes()
    }
}

/// A place in its 8 bytes.
fn place_of(bytes: &[u8]) -> Place {
    let word = |at: usize| {
        bytes.get(at..at + 4).map_or(0, |w| w.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)))
    };
    Place { file: word(0), row: word(4) }
}

const SHARD_BITS: u32 = 8;
/// Shards.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;
/// Entries of a bucket, about.
const BUCKET: usize = 8;
/// Bits of the directory, at most: the bits below are the same within a shard.
const MOST_BITS: u32 = 16;
/// Entries that a front may have however small its base is.
const FRONT: usize = 256;
/// Fewer keys than this are looked up by the thread that asks.
const WORTH_THREADS: usize = 1_000;
/// Threads that look keys up beyond the memory budget.
const LOOKERS: usize = 4;

/// What indexes may take together, and where they go beyond that.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: usize,
    /// `None`: everything stays in memory.
    dir: Option<PathBuf>,
    held: Arc<AtomicUsize>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(usize::MAX, None)
    }
}

impl Budget {
    /// Bytes in memory, the directories of bases apart, and a directory for what is beyond. Clones share it.
    pub(super) fn new(bytes: usize, dir: Option<PathBuf>) -> Self {
        Budget { bytes, dir, held: Arc::default() }
    }
}

/// Bytes held, and the file for what is beyond the budget.
struct Store {
    budget: Budget,
    held: usize,
    spill: Option<Spill>,
}

impl Store {
    fn of(budget: Budget) -> Self {
        Store { budget, held: 0, spill: None }
    }

    /// Puts entries where there is room for them.
    fn keep<K: Key>(&mut self, entries: Vec<(K, Place)>) -> io::Result<Entries<K>> {
        let bytes = entries.len() * size_of::<(K, Place)>();
        // What stands in front of the bases takes its part of the budget, too.
        let before = self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.held += bytes;
        if self.budget.dir.is_none() || before + bytes <= self.budget.bytes / 4 * 3 {
            return Ok(Entries::Memory(entries));
        }
        self.free(bytes);
        self.put_away(&entries)
    }

    fn free(&mut self, bytes: usize) {
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        self.held -= bytes;
    }

    fn put_away<K: Key>(&mut self, entries: &[(K, Place)]) -> io::Result<Entries<K>> {
        let mut bytes = Vec::with_capacity(entries.len() * width::<K>());
        for (key, place) in entries {
            key.put(&mut bytes);
            bytes.extend(place.bytes());
        }
        Ok(Entries::File(self.append(&bytes)?))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<Region> {
        let spill = match (&mut self.spill, &self.budget.dir) {
            (Some(spill), _) => spill,
            (none, Some(dir)) => none.insert(Spill::new(dir)?),
            (None, None) => return Err(io::Error::other("there is no directory for it")),
        };
        spill.append(bytes)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.free(self.held);
    }
}

/// Bytes of an entry in a file.
fn width<K: Key>() -> usize {
    K::BYTES + 8
}

fn decode<K: Key>(bytes: &[u8]) -> impl Iterator<Item = (K, Place)> {
    bytes.chunks_exact(width::<K>()).map(|entry| {
        let (key, place) = entry.split_at(K::BYTES);
        (K::from_bytes(key, true), place_of(place))
    })
}

enum Entries<K> {
    Memory(Vec<(K, Place)>),
    File(Region),
}

/// Entries without a gap, bucket by bucket.
pub(super) struct Base<K> {
    bits: u32,
    starts: Vec<u32>,
    entries: Entries<K>,
}

impl<K: Key> Base<K> {
    fn bits_for(entries: usize) -> u32 {
        (entries / BUCKET).max(1).ilog2().min(MOST_BITS)
    }

    fn bucket(key: K, bits: u32) -> usize {
        // Two shifts: one of 64 would be none.
        usize::try_from(key.mix() >> (63 - bits) >> 1).unwrap_or(0)
    }

    /// Puts entries into the order of buckets. `None`: a key stands twice.
    fn of(entries: Vec<(K, Place)>, store: &mut Store) -> io::Result<Option<Self>> {
        let bits = Self::bits_for(entries.len());
        let mut starts = vec![0u32; (1 << bits) + 1];
        for (key, _) in &entries {
            starts[Self::bucket(*key, bits) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut ordered = entries.clone();
        for entry in entries {
            let at = &mut next[Self::bucket(entry.0, bits)];
            ordered[*at as usize] = entry;
            *at += 1;
        }
        let distinct = starts.windows(2).all(|bounds| {
            let bucket = &ordered[bounds[0] as usize..bounds[1] as usize];
            bucket.iter().enumerate().all(|(i, (key, _))| bucket[..i].iter().all(|(other, _)| other != key))
        });
        if !distinct {
            return Ok(None);
        }
        Ok(Some(Base { bits, starts, entries: store.keep(ordered)? }))
    }

    fn len(&self) -> usize {
        self.starts.last().map_or(0, |&end| end as usize)
    }

    fn find(&self, key: K) -> io::Result<Option<Place>> {
        let bucket = Self::bucket(key, self.bits);
        let (Some(&from), Some(&to)) = (self.starts.get(bucket), self.starts.get(bucket + 1)) else {
            return Ok(None);
        };
        let (from, to) = (from as usize, to as usize);
        match &self.entries {
            Entries::Memory(entries) => {
                let bucket = entries.get(from..to).unwrap_or_default();
                Ok(bucket.iter().find(|entry| entry.0 == key).map(|entry| entry.1))
            }
            Entries::File(_) if from == to => Ok(None),
            Entries::File(region) => {
                let mut bytes = vec![0; (to - from) * width::<K>()];
                region.read((from * width::<K>()) as u64, &mut bytes)?;
                Ok(decode(&bytes).find(|entry: &(K, Place)| entry.0 == key).map(|entry| entry.1))
            }
        }
    }

    /// The key's place, to be changed. `None`: it has none, or none that can be changed.
    fn place_mut(&mut self, key: K) -> Option<&mut Place> {
        let bucket = Self::bucket(key, self.bits);
        let (from, to) = (*self.starts.get(bucket)? as usize, *self.starts.get(bucket + 1)? as usize);
        let Entries::Memory(entries) = &mut self.entries else { return None };
        entries.get_mut(from..to)?.iter_mut().find(|entry| entry.0 == key).map(|entry| &mut entry.1)
    }

    /// The entries, those that are gone included.
    ///
    /// # Errors
    /// Of the file that they are in.
    pub(super) fn entries(&self) -> io::Result<Cow<'_, [(K, Place)]>> {
        match &self.entries {
            Entries::Memory(entries) => Ok(Cow::Borrowed(entries)),
            Entries::File(region) => Ok(Cow::Owned(decode(&region.read_all()?).collect())),
        }
    }

    /// The same keys in the same order, led on, where the entries stand in a file. `None`: they do not.
    fn led_on(&self, moves: &Moves, store: &mut Store) -> io::Result<Option<Self>> {
        let Entries::File(region) = &self.entries else { return Ok(None) };
        let mut bytes = region.read_all()?;
        for entry in bytes.chunks_exact_mut(width::<K>()) {
            let place = place_of(&entry[K::BYTES..]);
            entry[K::BYTES..].copy_from_slice(&moves.resolve(place).bytes());
        }
        let entries = Entries::File(store.append(&bytes)?);
        Ok(Some(Base { bits: self.bits, starts: self.starts.clone(), entries }))
    }

    fn held(&self) -> usize {
        match &self.entries {
            Entries::Memory(entries) => entries.len() * size_of::<(K, Place)>(),
            Entries::File(_) => 0,
        }
    }
}

struct Shard<K> {
    base: Arc<Base<K>>,
    front: HashTable<(K, Place)>,
}

impl<K: Key> Shard<K> {
    fn empty() -> Self {
        let base = Base { bits: 0, starts: vec![0, 0], entries: Entries::Memory(Vec::new()) };
        Shard { base: Arc::new(base), front: HashTable::new() }
    }

    fn get(&self, key: K) -> io::Result<Option<Place>> {
        match self.front.find(key.mix(), |entry| entry.0 == key) {
            Some((_, Place::GONE)) => Ok(None),
            Some((_, place)) => Ok(Some(*place)),
            None => Ok(self.base.find(key)?.filter(|&place| place != Place::GONE)),
        }
    }

    fn put(&mut self, key: K, place: Place) {
        match self.front.find_mut(key.mix(), |entry| entry.0 == key) {
            Some(entry) => entry.1 = place,
            None => {
                // Not while it is being saved.
                if let Some(there) = Arc::get_mut(&mut self.base).and_then(|base| base.place_mut(key)) {
                    *there = place;
                    return;
                }
                self.front.insert_unique(key.mix(), (key, place), |entry| entry.0.mix());
            }
        }
    }

    /// Every entry is led on.
    fn lead_on(&mut self, moves: &Moves, store: &mut Store) -> io::Result<()> {
        if let Some(base) = self.base.led_on(moves, store)? {
            self.base = Arc::new(base);
            for (_, place) in self.front.iter_mut() {
                *place = moves.resolve(*place);
            }
            return Ok(());
        }
        let Some(Base { entries: Entries::Memory(entries), .. }) = Arc::get_mut(&mut self.base) else {
            return self.fold(moves, store);
        };
        for (_, place) in entries.iter_mut().chain(self.front.iter_mut()) {
            *place = moves.resolve(*place);
        }
        Ok(())
    }

    /// Base and front become a new base, led on.
    fn fold(&mut self, moves: &Moves, store: &mut Store) -> io::Result<()> {
        let base = self.base.entries()?;
        let mut entries = Vec::with_capacity(base.len() + self.front.len());
        for &(key, place) in base.iter() {
            if place != Place::GONE
                && (self.front.is_empty() || self.front.find(key.mix(), |entry| entry.0 == key).is_none())
            {
                entries.push((key, moves.resolve(place)));
            }
        }
        for &(key, place) in &self.front {
            if place != Place::GONE {
                entries.push((key, moves.resolve(place)));
            }
        }
        let freed = self.base.held();
        // The keys of a map are distinct, so there is a base.
        let Some(base) = Base::of(entries, store)? else {
            return Err(io::Error::other("a key stands twice in a shard"));
        };
        store.free(freed);
        self.base = Arc::new(base);
        self.front = HashTable::new();
        Ok(())
    }
}

/// Key → place.
pub(super) struct KeyMap<K> {
    shards: Vec<Shard<K>>,
    keys: usize,
    moves: Moves,
    next_swept: usize,
    /// Entries that were not worth a shard yet.
    to_sweep: usize,
    store: Store,
    /// The first failure of the file beyond the budget: nothing that was said since then counts.
    failed: OnceLock<String>,
}

impl<K: Key> KeyMap<K> {
    /// An empty one.
    pub(super) fn new(budget: Budget) -> Self {
        KeyMap {
            shards: (0..SHARDS).map(|_| Shard::empty()).collect(),
            keys: 0,
            moves: Moves::default(),
            next_swept: 0,
            to_sweep: 0,
            store: Store::of(budget),
            failed: OnceLock::new(),
        }
    }

    /// An empty one in its place.
    pub(super) fn clear(&mut self) {
        *self = KeyMap::new(self.store.budget.clone());
    }

    /// Whether everything that it said so far counts.
    ///
    /// # Errors
    /// `TG001`: the file beyond the memory budget failed. The index must be built again.
    pub(super) fn check(&self) -> Result<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(what) => Err(Error::new(
                codes::TG001,
                format!("the part of an index that is beyond the memory budget cannot be used: {what}"),
            )
            .with_try("see to the space in strandline's cache directory")),
        }
    }

    fn note<T: Default>(&self, result: io::Result<T>) -> T {
        result.unwrap_or_else(|e| {
            // Only the first one is kept.
            let _first_or_not = self.failed.set(e.to_string());
            T::default()
        })
    }

    /// How many entries may stand in front of a base.
    fn front_limit(&self, number: usize, base: usize) -> usize {
        // Not all at the same time: each shard has another limit.
        let usual = FRONT + base / 16 * (SHARDS + number) / SHARDS;
        let fair = self.store.budget.bytes / 4 / SHARDS / (2 * size_of::<(K, Place)>());
        usual.min((fair / 2 + fair / 2 * number / SHARDS).max(SHARDS / 16))
    }

    fn shard(key: K) -> usize {
        // The front uses the low bits and the top seven, the directory the upper ones: take from between.
        (key.mix() >> 40) as usize & (SHARDS - 1)
    }

    /// Where the key's row is.
    pub(super) fn get(&self, key: K) -> Option<Place> {
        self.note(self.shards[Self::shard(key)].get(key)).map(|place| self.moves.resolve(place))
    }

    /// Whether a look-up may have to read a file.
    pub(super) fn is_beyond_memory(&self) -> bool {
        self.store.spill.is_some()
    }

    /// Where many keys' rows are, where that takes reading; asked by several threads. Empty: ask for each.
    pub(super) fn look_up(&self, keys: &[K]) -> HashMap<K, Option<Place>> {
        if !self.is_beyond_memory() || keys.len() < WORTH_THREADS {
            return HashMap::new();
        }
        let each = keys.len().div_ceil(LOOKERS);
        std::thread::scope(|scope| {
            let find = |keys: &[K]| keys.iter().map(|&key| (key, self.get(key))).collect::<Vec<_>>();
            let parts: Vec<_> = keys.chunks(each).map(|part| scope.spawn(move || find(part))).collect();
            // Keys of a thread that broke are asked for one by one.
            parts.into_iter().filter_map(|part| part.join().ok()).flatten().collect()
        })
    }

    /// Puts the key at `place`; whether it `was` there is known from having looked.
    pub(super) fn set(&mut self, key: K, place: Place, was: bool) {
        let number = Self::shard(key);
        let limit = self.front_limit(number, self.shards[number].base.len());
        let shard = &mut self.shards[number];
        shard.put(key, place);
        self.keys += usize::from(!was);
        if shard.front.len() > limit {
            let folded = shard.fold(&self.moves, &mut self.store);
            self.note(folded);
        }
    }

    /// Forgets a key that is there.
    pub(super) fn unset(&mut self, key: K) {
        self.shards[Self::shard(key)].put(key, Place::GONE);
        self.keys -= 1;
    }

    /// A file's rows went elsewhere.
    pub(super) fn lead_on(&mut self, file: u32, moved: Moved) {
        self.moves.add(file, moved);
    }

    /// Corrects the entries of the next shards, about so many entries with each call.
    pub(super) fn sweep(&mut self, entries: usize) {
        if self.moves.is_empty() {
            return;
        }
        self.to_sweep += entries.min(SHARDS << 20);
        loop {
            let length = self.shards.get(self.next_swept).map_or(0, |shard| shard.base.len()).max(1);
            if self.moves.is_empty() || length > self.to_sweep {
                return;
            }
            self.to_sweep -= length;
            if let Some(shard) = self.shards.get_mut(self.next_swept) {
                let led_on = shard.lead_on(&self.moves, &mut self.store);
                self.note(led_on);
            }
            self.next_swept += 1;
            if self.next_swept == self.shards.len() {
                self.next_swept = 0;
                self.moves.swept();
            }
        }
    }

    /// Keys held.
    pub(super) fn len(&self) -> usize {
        self.keys
    }

    /// Bytes allocated, about.
    pub(super) fn bytes(&self) -> usize {
        let slot = size_of::<(K, Place)>() + 1;
        let shard = |s: &Shard<K>| s.base.starts.len() * 4 + s.front.capacity() * slot * 8 / 7;
        self.store.held + self.shards.iter().map(shard).sum::<usize>() + self.moves.bytes()
    }

    /// All of it as it is, to be saved: what is large is shared.
    pub(super) fn snapshot(&self) -> Snapshot<K> {
        let shard = |s: &Shard<K>| (Arc::clone(&s.base), s.front.iter().copied().collect());
        Snapshot { shards: self.shards.iter().map(shard).collect(), moves: self.moves.clone() }
    }
}

/// Makes a [`KeyMap`] of many entries at once.
pub(super) struct Builder<K> {
    shards: Vec<Vec<(K, Place)>>,
    /// What was put away, by shard.
    away: Vec<Vec<Entries<K>>>,
    store: Store,
    held: usize,
    failed: Option<io::Error>,
}

impl<K: Key> Builder<K> {
    /// With room for about `rows` entries.
    pub(super) fn new(rows: usize, budget: Budget) -> Self {
        let each = rows.min(budget.bytes / size_of::<(K, Place)>()) >> SHARD_BITS;
        // A little more than the mean, so that hardly a shard has to grow.
        let each = if each == 0 { 0 } else { each + each / 64 + 64 };
        Builder {
            shards: (0..SHARDS).map(|_| Vec::with_capacity(each)).collect(),
            away: (0..SHARDS).map(|_| Vec::new()).collect(),
            store: Store::of(budget),
            held: 0,
            failed: None,
        }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, key: K, place: Place) {
        self.shards[KeyMap::shard(key)].push((key, place));
        self.held += size_of::<(K, Place)>();
        if self.held > self.store.budget.bytes && self.store.budget.dir.is_some() {
            self.put_away();
        }
    }

    fn put_away(&mut self) {
        for (shard, away) in self.shards.iter_mut().zip(&mut self.away) {
            if !shard.is_empty() {
                match self.store.put_away(shard) {
                    Ok(entries) => away.push(entries),
                    Err(e) => self.failed = Some(e),
                }
                shard.clear();
            }
        }
        self.held = 0;
    }

    /// The map; `None` when a key stands twice.
    ///
    /// # Errors
    /// `TG001`: what is beyond the memory budget could not be written.
    pub(super) fn finish(mut self) -> Result<Option<KeyMap<K>>> {
        let failed = |e: io::Error| {
            Error::new(
                codes::TG001,
                "the part of an index that is beyond the memory budget cannot be written",
            )
            .with_source(e)
        };
        if let Some(e) = self.failed.take() {
            return Err(failed(e));
        }
        let mut map = KeyMap::new(Budget::default());
        map.store = self.store;
        for (shard, (mut entries, away)) in map.shards.iter_mut().zip(self.shards.into_iter().zip(self.away))
        {
            for part in away {
                match part {
                    Entries::Memory(part) => entries.extend(part),
                    Entries::File(region) => entries.extend(decode::<K>(&region.read_all().map_err(failed)?)),
                }
            }
            map.keys += entries.len();
            let Some(base) = Base::of(entries, &mut map.store).map_err(failed)? else { return Ok(None) };
            shard.base = Arc::new(base);
        }
        Ok(Some(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roaring::RoaringBitmap;
    use std::collections::HashMap;

    fn random(x: &mut u64) -> u64 {
        *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *x >> 33
    }

    fn behaves_like_a_map<K: Key + std::fmt::Debug>(budget: Budget, changes: u32, make: impl Fn(u64) -> K) {
        let mut x = 12345u64;
        let mut model = HashMap::new();
        let mut builder = Builder::new(50_000, budget);
        for i in 0..50_000u32 {
            let place = Place { file: 9, row: i };
            builder.push(make(u64::from(i) * 3), place);
            model.insert(make(u64::from(i) * 3), place);
        }
        let mut ours = builder.finish().unwrap().unwrap();
        for i in 0..changes {
            let key = make(random(&mut x) % 200_000);
            let place = Place { file: i % 7, row: i };
            if random(&mut x).is_multiple_of(5) {
                let was = model.remove(&key);
                assert_eq!(ours.get(key), was);
                if was.is_some() {
                    ours.unset(key);
                }
            } else {
                let was = model.insert(key, place);
                assert_eq!(ours.get(key), was);
                ours.set(key, place, was.is_some());
            }
        }
        ours.check().unwrap();
        assert_eq!(ours.len(), model.len());
        let all: Vec<K> = (0..200_000).map(&make).collect();
        let at_once = ours.look_up(&all);
        assert_eq!(at_once.is_empty(), ours.store.spill.is_none());
        for key in all {
            assert_eq!(ours.get(key), model.get(&key).copied());
            assert!(at_once.is_empty() || at_once[&key] == ours.get(key));
        }
    }

    #[test]
    fn narrow_keys() {
        behaves_like_a_map(Budget::default(), 400_000, |n| n);
    }

    #[test]
    fn wide_keys() {
        behaves_like_a_map(Budget::default(), 400_000, |n| [n % 1000, n]);
    }

    #[test]
    fn beyond_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [0, 300_000] {
            let budget = Budget::new(bytes, Some(dir.path().join("spill")));
            behaves_like_a_map(budget.clone(), 60_000, |n| n);
            behaves_like_a_map(budget.clone(), 60_000, |n| [n % 1000, n]);
            assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        }
        assert_eq!(std::fs::read_dir(dir.path().join("spill")).unwrap().count(), 0, "no file has a name");
    }

    #[test]
    fn no_room_beyond_the_budget() {
        let budget = Budget::new(0, Some("/proc/no/such".into()));
        let mut builder = Builder::new(10, budget);
        builder.push(1u64, Place { file: 0, row: 0 });
        assert_eq!(builder.finish().err().map(|e| e.code()), Some(codes::TG001));
    }

    #[test]
    fn a_key_that_stands_twice_is_noticed() {
        let mut builder = Builder::new(0, Budget::default());
        for i in 0..1000u64 {
            builder.push(i % 999, Place { file: 0, row: 0 });
        }
        assert!(builder.finish().unwrap().is_none());
    }

    #[test]
    fn a_rewritten_file_is_led_on_and_swept() {
        led_on_and_swept(Budget::default());
        let dir = tempfile::tempdir().unwrap();
        led_on_and_swept(Budget::new(0, Some(dir.path().to_owned())));
    }

    fn led_on_and_swept(budget: Budget) {
        let mut builder = Builder::new(0, budget);
        for row in 0..10_000u32 {
            builder.push(u64::from(row), Place { file: 1, row });
        }
        let mut map = builder.finish().unwrap().unwrap();
        // Key 5 is deleted, key 6 updated, before the file is rewritten; 7 after.
        map.unset(5);
        map.unset(0);
        map.set(6, Place { file: 2, row: 0 }, true);
        let gone: RoaringBitmap = [0, 5, 6].into_iter().collect();
        map.lead_on(1, Moved { gone, first: 0, to: Arc::from([(0, 3)]) });
        map.set(7, Place { file: 4, row: 1 }, true);
        for sweep in 0..3 * SHARDS {
            assert_eq!(map.get(4), Some(Place { file: 3, row: 3 }), "{sweep}");
            assert_eq!((map.get(0), map.get(5)), (None, None));
            assert_eq!(map.get(6), Some(Place { file: 2, row: 0 }));
            assert_eq!(map.get(7), Some(Place { file: 4, row: 1 }));
            assert_eq!(map.get(8), Some(Place { file: 3, row: 5 }));
            map.sweep(40);
        }
        assert!(map.moves.is_empty());
        assert_eq!(map.len(), 9_998);
    }
}
