//! Where each key's row is: key → (file, row).
//!
//! A cache. It is rebuilt from the key columns whenever the table is opened or in doubt, and can be lost
//! at any time without losing anything. Most entries stand in *bases*: arrays without a gap, in the order of
//! buckets by hash, with a directory of where each bucket begins. What changed since stands in a small hash
//! map in front. Split into shards: one shard at a time is folded (base and front become a new base), a
//! little with each commit, so that no commit waits for the whole, and the peak stays near the steady size.
//! A key of up to 8 bytes takes about 16.5 bytes in a base, a longer one 24.5.
//!
//! When a file is rewritten its entries are led on by [`Moves`] and corrected by a sweep, some shards with
//! each commit: no commit waits for that either.

use super::keys::Key;
use super::moves::{Moved, Moves};
use super::saved::Snapshot;
use hashbrown::HashTable;
use std::sync::Arc;

/// A row's place: a file of the table, by its number in memory, and the row's position in that file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    /// The file's number.
    pub file: u32,
    /// The row's position in the file, from 0.
    pub row: u32,
}

impl Place {
    /// In the front: the key's entry in the base counts no more.
    pub(super) const GONE: Place = Place { file: u32::MAX, row: u32::MAX };
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

/// Entries without a gap, bucket by bucket.
#[derive(Clone)]
pub(super) struct Base<K> {
    bits: u32,
    starts: Vec<u32>,
    entries: Vec<(K, Place)>,
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
    fn of(entries: Vec<(K, Place)>) -> Option<Self> {
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
        let base = Base { bits, starts, entries: ordered };
        base.keys_are_distinct().then_some(base)
    }

    fn keys_are_distinct(&self) -> bool {
        self.starts.windows(2).all(|bounds| {
            let bucket = &self.entries[bounds[0] as usize..bounds[1] as usize];
            bucket.iter().enumerate().all(|(i, (key, _))| bucket[..i].iter().all(|(other, _)| other != key))
        })
    }

    fn find(&self, key: K) -> Option<Place> {
        let bucket = Self::bucket(key, self.bits);
        let bounds = self.starts.get(bucket..bucket + 2)?;
        let entries = self.entries.get(bounds[0] as usize..bounds[1] as usize)?;
        entries.iter().find(|entry| entry.0 == key).map(|entry| entry.1)
    }

    /// The entries.
    pub(super) fn entries(&self) -> &[(K, Place)] {
        &self.entries
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(K, Place)>() + self.starts.capacity() * 4
    }
}

struct Shard<K> {
    base: Arc<Base<K>>,
    front: HashTable<(K, Place)>,
}

impl<K: Key> Shard<K> {
    fn empty() -> Self {
        let base = Base { bits: 0, starts: vec![0, 0], entries: Vec::new() };
        Shard { base: Arc::new(base), front: HashTable::new() }
    }

    fn get(&self, key: K) -> Option<Place> {
        match self.front.find(key.mix(), |entry| entry.0 == key) {
            Some((_, Place::GONE)) => None,
            Some((_, place)) => Some(*place),
            None => self.base.find(key),
        }
    }

    fn put(&mut self, key: K, place: Place) {
        match self.front.find_mut(key.mix(), |entry| entry.0 == key) {
            Some(entry) => entry.1 = place,
            None => {
                self.front.insert_unique(key.mix(), (key, place), |entry| entry.0.mix());
            }
        }
    }

    /// Base and front become a new base, led on.
    fn fold(&mut self, moves: &Moves) {
        let mut entries = Vec::with_capacity(self.base.entries.len() + self.front.len());
        for &(key, place) in &self.base.entries {
            if self.front.find(key.mix(), |entry| entry.0 == key).is_none() {
                entries.push((key, moves.resolve(place)));
            }
        }
        for (key, place) in self.front.drain() {
            if place != Place::GONE {
                entries.push((key, moves.resolve(place)));
            }
        }
        self.front = HashTable::new();
        // The keys of a map are distinct, so there is a base.
        if let Some(base) = Base::of(entries) {
            self.base = Arc::new(base);
        }
    }
}

/// Key → place.
pub(super) struct KeyMap<K> {
    shards: Vec<Shard<K>>,
    keys: usize,
    moves: Moves,
    next_swept: usize,
}

impl<K: Key> Default for KeyMap<K> {
    fn default() -> Self {
        KeyMap {
            shards: (0..SHARDS).map(|_| Shard::empty()).collect(),
            keys: 0,
            moves: Moves::default(),
            next_swept: 0,
        }
    }
}

impl<K: Key> KeyMap<K> {
    fn shard(key: K) -> usize {
        // The front uses the low bits and the top seven, the directory the upper ones: take from between.
        (key.mix() >> 40) as usize & (SHARDS - 1)
    }

    /// Where the key's row is.
    pub(super) fn get(&self, key: K) -> Option<Place> {
        self.shards[Self::shard(key)].get(key).map(|place| self.moves.resolve(place))
    }

    /// Puts the key at `place`; returns where it was.
    pub(super) fn insert(&mut self, key: K, place: Place) -> Option<Place> {
        let number = Self::shard(key);
        let before = self.get(key);
        let shard = &mut self.shards[number];
        shard.put(key, place);
        self.keys += usize::from(before.is_none());
        // Not all at the same time: each shard has another limit.
        let limit = FRONT + shard.base.entries.len() / 16 * (SHARDS + number) / SHARDS;
        if shard.front.len() > limit {
            shard.fold(&self.moves);
        }
        before
    }

    /// Forgets the key; returns where it was.
    pub(super) fn remove(&mut self, key: K) -> Option<Place> {
        let before = self.get(key)?;
        self.shards[Self::shard(key)].put(key, Place::GONE);
        self.keys -= 1;
        Some(before)
    }

    /// A file's rows went elsewhere.
    pub(super) fn lead_on(&mut self, file: u32, moved: Moved) {
        self.moves.add(file, moved);
    }

    /// Corrects the entries of the next `shards` shards.
    pub(super) fn sweep(&mut self, shards: usize) {
        for _ in 0..shards {
            if self.moves.is_empty() {
                return;
            }
            if let Some(shard) = self.shards.get_mut(self.next_swept) {
                shard.fold(&self.moves);
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
        let shard = |s: &Shard<K>| s.base.bytes() + s.front.capacity() * slot * 8 / 7;
        self.shards.iter().map(shard).sum::<usize>() + self.moves.bytes()
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
}

impl<K: Key> Builder<K> {
    /// With room for about `rows` entries.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let each = rows >> SHARD_BITS;
        // A little more than the mean, so that hardly a shard has to grow.
        let each = if rows == 0 { 0 } else { each + each / 64 + 64 };
        Builder { shards: (0..SHARDS).map(|_| Vec::with_capacity(each)).collect() }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, key: K, place: Place) {
        self.shards[KeyMap::shard(key)].push((key, place));
    }

    /// The map; `None` when a key stands twice.
    pub(super) fn finish(self) -> Option<KeyMap<K>> {
        let mut map = KeyMap::default();
        for (shard, entries) in map.shards.iter_mut().zip(self.shards) {
            map.keys += entries.len();
            shard.base = Arc::new(Base::of(entries)?);
        }
        Some(map)
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

    fn behaves_like_a_map<K: Key + std::fmt::Debug>(make: impl Fn(u64) -> K) {
        let mut x = 12345u64;
        let mut model = HashMap::new();
        let mut builder = Builder::with_capacity(50_000);
        for i in 0..50_000u32 {
            let place = Place { file: 9, row: i };
            builder.push(make(u64::from(i) * 3), place);
            model.insert(make(u64::from(i) * 3), place);
        }
        let mut ours = builder.finish().unwrap();
        for i in 0..400_000u32 {
            let key = make(random(&mut x) % 200_000);
            let place = Place { file: i % 7, row: i };
            if random(&mut x) % 5 == 0 {
                assert_eq!(ours.remove(key), model.remove(&key));
            } else {
                assert_eq!(ours.insert(key, place), model.insert(key, place));
            }
        }
        assert_eq!(ours.len(), model.len());
        for key in 0..200_000 {
            assert_eq!(ours.get(make(key)), model.get(&make(key)).copied());
        }
    }

    #[test]
    fn narrow_keys() {
        behaves_like_a_map(|n| n);
    }

    #[test]
    fn wide_keys() {
        behaves_like_a_map(|n| [n % 1000, n]);
    }

    #[test]
    fn a_key_that_stands_twice_is_noticed() {
        let mut builder = Builder::with_capacity(0);
        for i in 0..1000u64 {
            builder.push(i % 999, Place { file: 0, row: 0 });
        }
        assert!(builder.finish().is_none());
    }

    #[test]
    fn a_rewritten_file_is_led_on_and_swept() {
        let mut builder = Builder::with_capacity(0);
        for row in 0..10_000u32 {
            builder.push(u64::from(row), Place { file: 1, row });
        }
        let mut map = builder.finish().unwrap();
        // Key 5 is deleted, key 6 updated, before the file is rewritten; 7 after.
        map.remove(5);
        map.insert(6, Place { file: 2, row: 0 });
        let gone: RoaringBitmap = [5, 6].into_iter().collect();
        map.lead_on(1, Moved { gone, first: 0, to: Arc::from([(0, 3)]) });
        map.insert(7, Place { file: 4, row: 1 });
        for sweep in 0..3 * SHARDS {
            assert_eq!(map.get(4), Some(Place { file: 3, row: 4 }), "{sweep}");
            assert_eq!(map.get(5), None);
            assert_eq!(map.get(6), Some(Place { file: 2, row: 0 }));
            assert_eq!(map.get(7), Some(Place { file: 4, row: 1 }));
            assert_eq!(map.get(8), Some(Place { file: 3, row: 6 }));
            map.sweep(1);
        }
        assert!(map.moves.is_empty());
        assert_eq!(map.len(), 9_999);
    }
}
