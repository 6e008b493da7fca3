//! Where each key's row is: key → (file, row).
//!
//! A cache. It is rebuilt from the key columns whenever the table is opened or in doubt, and can be lost
//! at any time without losing anything. Split into shards so that growing moves a small part at a time:
//! no commit waits for one great rehash, and the peak stays near the steady size.
//!
//! When a file is rewritten its entries are led on by [`Moves`] and corrected by a sweep, some shards with
//! each commit: no commit waits for that either.

use super::keys::Key;
use super::moves::{Moved, Moves};
use hashbrown::HashTable;

/// A row's place: a file of the table, by its number in memory, and the row's position in that file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Place {
    /// The file's number.
    pub file: u32,
    /// The row's position in the file, from 0.
    pub row: u32,
}

const SHARD_BITS: u32 = 8;

/// Key → place.
pub(super) struct KeyMap<K> {
    shards: Vec<HashTable<(K, Place)>>,
    moves: Moves,
    next_swept: usize,
}

impl<K: Key> Default for KeyMap<K> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<K: Key> KeyMap<K> {
    /// With room for about `rows` keys.
    pub(super) fn with_capacity(rows: usize) -> Self {
        let each = rows >> SHARD_BITS;
        // A little more than the mean, so that hardly a shard has to grow again.
        let each = if rows == 0 { 0 } else { each + each / 32 + 8 };
        KeyMap {
            shards: (0..1usize << SHARD_BITS).map(|_| HashTable::with_capacity(each)).collect(),
            moves: Moves::default(),
            next_swept: 0,
        }
    }

    fn split(key: K) -> (usize, u64) {
        let hash = key.mix();
        // The map inside uses the low bits and the top seven: take the shard from between.
        ((hash >> 40) as usize & ((1 << SHARD_BITS) - 1), hash)
    }

    /// Where the key's row is.
    pub(super) fn get(&self, key: K) -> Option<Place> {
        let (shard, hash) = Self::split(key);
        self.shards[shard].find(hash, |entry| entry.0 == key).map(|entry| self.moves.resolve(entry.1))
    }

    /// Puts the key at `place`; returns where it was.
    pub(super) fn insert(&mut self, key: K, place: Place) -> Option<Place> {
        let (shard, hash) = Self::split(key);
        let table = &mut self.shards[shard];
        match table.find_mut(hash, |entry| entry.0 == key) {
            Some(entry) => Some(self.moves.resolve(std::mem::replace(&mut entry.1, place))),
            None => {
                table.insert_unique(hash, (key, place), |entry| entry.0.mix());
                None
            }
        }
    }

    /// Forgets the key; returns where it was.
    pub(super) fn remove(&mut self, key: K) -> Option<Place> {
        let (shard, hash) = Self::split(key);
        let entry = self.shards[shard].find_entry(hash, |entry| entry.0 == key).ok()?;
        Some(self.moves.resolve(entry.remove().0.1))
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
                for entry in shard.iter_mut() {
                    entry.1 = self.moves.resolve(entry.1);
                }
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
        self.shards.iter().map(HashTable::len).sum()
    }

    /// Bytes allocated, about.
    pub(super) fn bytes(&self) -> usize {
        let slot = size_of::<(K, Place)>() + 1;
        self.shards.iter().map(|s| s.capacity() * slot * 8 / 7).sum::<usize>() + self.moves.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn behaves_like_a_map() {
        let mut ours = KeyMap::<u64>::default();
        let mut model = HashMap::new();
        let mut x = 12345u64;
        for i in 0..200_000u32 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (x >> 33) % 20_000;
            let place = Place { file: i % 7, row: i };
            if x % 5 == 0 {
                assert_eq!(ours.remove(key), model.remove(&key));
            } else {
                assert_eq!(ours.insert(key, place), model.insert(key, place));
            }
        }
        assert_eq!(ours.len(), model.len());
        for key in 0..20_000 {
            assert_eq!(ours.get(key), model.get(&key).copied());
        }
    }
}
