//! Where rows went when their files were rewritten.
//!
//! A rewritten file keeps the order of its live rows, so a row's new place follows from its old one: its
//! rank among the rows that were live when the file was read, counted on from the file's first row in the
//! output. No key is needed, and nothing has to be moved at once: an entry of the index that still points
//! at the old file is led on when it is met, and a sweep corrects the rest a little with each commit.

use super::index::Place;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// Where one rewritten file's rows went.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    /// Rows that were gone when the file was read; they went nowhere.
    pub gone: RoaringBitmap,
    /// Its first live row's number in the whole output.
    pub first: u64,
    /// The output: for each new file its first row's number in the whole output, and its number; ascending.
    pub to: Arc<[(u64, u32)]>,
}

impl Moved {
    /// The new place of a row that was live when the file was read; any place for another, whose entry counts no more.
    pub(super) fn place(&self, row: u32) -> Place {
        // A live row is not in `gone` itself: its rank counts the gone rows before it.
        let at = (self.first + u64::from(row)).saturating_sub(self.gone.rank(row));
        locate(&self.to, at)
    }
}

/// The place of a row of the whole output.
pub(super) fn locate(to: &[(u64, u32)], at: u64) -> Place {
    let file = to.partition_point(|(first, _)| *first <= at).saturating_sub(1);
    let (first, number) = to.get(file).copied().unwrap_or((0, u32::MAX));
    Place { file: number, row: u32::try_from(at - first.min(at)).unwrap_or(u32::MAX) }
}

/// Every file that was rewritten and that entries may still point at.
#[derive(Clone, Default)]
pub(super) struct Moves {
    from: HashMap<u32, (Moved, u64)>,
    /// Whole sweeps of the index so far.
    sweeps: u64,
}

impl Moves {
    /// Nothing is to be led on.
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// A file was rewritten.
    pub(super) fn add(&mut self, file: u32, moved: Moved) {
        self.from.insert(file, (moved, self.sweeps));
    }

    /// Where the row of an entry is now. A place in the output may have been rewritten again.
    pub(super) fn resolve(&self, mut place: Place) -> Place {
        while let Some((moved, _)) = self.from.get(&place.file) {
            place = moved.place(place.row);
        }
        place
    }

    /// A sweep reached the end: files that were rewritten before it began are pointed at by no entry.
    pub(super) fn swept(&mut self) {
        self.sweeps += 1;
        let sweeps = self.sweeps;
        // The sweep during which a file was added may have passed entries before that.
        self.from.retain(|_, (_, added)| *added + 2 > sweeps);
    }

    /// Bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.from.values().map(|(moved, _)| 96 + moved.gone.serialized_size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: u32, row: u32) -> Place {
        Place { file, row }
    }

    #[test]
    fn a_row_is_found_by_its_rank() {
        let to: Arc<[(u64, u32)]> = Arc::from([(0, 10), (4, 11)]);
        let mut moves = Moves::default();
        moves.add(1, Moved { gone: [0, 2].into_iter().collect(), first: 0, to: Arc::clone(&to) });
        moves.add(2, Moved { gone: RoaringBitmap::new(), first: 3, to });
        // File 1 has five rows, three of them live; file 2 has three.
        assert_eq!(moves.resolve(place(1, 1)), place(10, 0));
        assert_eq!(moves.resolve(place(1, 3)), place(10, 1));
        assert_eq!(moves.resolve(place(1, 4)), place(10, 2));
        assert_eq!(moves.resolve(place(2, 0)), place(10, 3));
        assert_eq!(moves.resolve(place(2, 1)), place(11, 0));
        assert_eq!(moves.resolve(place(3, 7)), place(3, 7));
        // The output is rewritten again.
        moves.add(10, Moved { gone: [1].into_iter().collect(), first: 0, to: Arc::from([(0, 12)]) });
        assert_eq!(moves.resolve(place(2, 0)), place(12, 2));
        moves.swept();
        assert!(!moves.is_empty(), "the sweep may have passed before they were added");
        moves.swept();
        assert!(moves.is_empty());
    }
}
