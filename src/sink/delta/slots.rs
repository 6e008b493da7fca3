//! The table's files by number.
//!
//! Numbers are ours: the index points with them. A number is never given twice, so an entry that points at
//! a file that left can never meet another file. Each time all numbers lose their meaning (the table was
//! opened again, or copied anew) the *generation* rises: what was prepared on an older one is void.

use super::table::DataFile;
use crate::sink::Standing;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// Number → file.
#[derive(Default)]
pub(super) struct Slots {
    files: BTreeMap<u32, DataFile>,
    next: u32,
    generation: u64,
}

impl Slots {
    /// Forgets everything and numbers these files.
    pub(super) fn replace(&mut self, files: impl IntoIterator<Item = DataFile>) {
        self.files.clear();
        self.next = 0;
        self.generation += 1;
        self.extend(files);
    }

    /// Gives a number to a file; or to one that is empty already and has no place in the table.
    pub(super) fn push(&mut self, file: Option<DataFile>) -> u32 {
        let number = self.next;
        self.next += 1;
        if let Some(file) = file {
            self.files.insert(number, file);
        }
        number
    }

    /// Gives numbers to files.
    pub(super) fn extend(&mut self, files: impl IntoIterator<Item = DataFile>) {
        for file in files {
            self.push(Some(file));
        }
    }

    /// The file of that number.
    pub(super) fn get(&self, number: u32) -> Option<&DataFile> {
        self.files.get(&number)
    }

    /// What became of a file: it has another deletion vector, or left.
    pub(super) fn set(&mut self, number: u32, file: Option<DataFile>) {
        match file {
            Some(file) => self.files.insert(number, file),
            None => self.files.remove(&number),
        };
    }

    /// All files, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &DataFile)> {
        self.files.iter().map(|(number, file)| (*number, file))
    }

    /// All files.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut DataFile> {
        self.files.values_mut()
    }

    /// How the table stands for readers. Of a vector that has not been read, its name says how many rows are gone.
    pub(super) fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for file in self.files.values() {
            let named = || {
                let vector = file.add.deletion_vector.as_ref();
                vector.and_then(|vector| u64::try_from(vector.cardinality).ok()).unwrap_or(0)
            };
            standing.files += 1;
            standing.rows += u64::from(file.rows);
            standing.deleted_rows += file.deleted.as_ref().map_or_else(named, RoaringBitmap::len);
        }
        standing
    }

    /// Rises whenever numbers lose their meaning.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }
}
