//! The order of the source over several tables.
//!
//! Each share is in order by itself. Tables may be routed to one topic, and a transaction's events are counted
//! over all of them: so the shares are merged by place.

use super::spill::Part;
use crate::debezium::{Place, Record, Records};
use crate::error::{Error, Result};
use std::ops::ControlFlow;

/// Calls `each` for every record from `from` on, with the index of its share, in the order of the source, until it
/// breaks.
///
/// # Errors
/// The first of `each`; `RT003` when what waits on disk cannot be read.
pub(super) fn in_order<E: From<Error>>(
    shares: &[Vec<Part>],
    from: Option<(u64, u64)>,
    mut each: impl FnMut(usize, Record<'_>) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    let mut cursors = shares.iter().map(|parts| Cursor::new(parts, from)).collect::<Result<Vec<_>>>()?;
    loop {
        let mut first: Option<((u64, u64), usize)> = None;
        let mut second: Option<(u64, u64)> = None;
        for (index, cursor) in cursors.iter().enumerate() {
            let Some(place) = cursor.place() else { continue };
            match first {
                Some((earliest, _)) if place >= earliest => {
                    second = Some(second.map_or(place, |s| s.min(place)))
                }
                _ => {
                    second = first.map(|(place, _)| place);
                    first = Some((place, index));
                }
            }
        }
        let Some((_, index)) = first else { return Ok(()) };
        let Some(cursor) = cursors.get_mut(index) else { return Ok(()) };
        // As long as it is ahead of the others.
        while let Some(record) = cursor.record() {
            if second.is_some_and(|second| order(record.place()) > second) {
                break;
            }
            if each(index, record)?.is_break() {
                return Ok(());
            }
            cursor.advance()?;
        }
    }
}

/// As positions are compared.
pub(super) fn order(place: Place) -> (u64, u64) {
    (place.commit_start.raw(), place.ordinal)
}

struct Cursor<'a> {
    parts: &'a [Part],
    /// The first part, when it came from disk.
    loaded: Option<Records>,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(parts: &'a [Part], from: Option<(u64, u64)>) -> Result<Self> {
        // What is on disk is not read for nothing.
        let is_before =
            |part: &&Part| from.is_some_and(|from| part.last().is_none_or(|last| order(last) < from));
        let skipped = parts.iter().take_while(is_before).count();
        let mut cursor = Cursor { parts: parts.get(skipped..).unwrap_or_default(), loaded: None, at: 0 };
        cursor.settle()?;
        while cursor.place().is_some_and(|place| from.is_some_and(|from| place < from)) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    fn records(&self) -> Option<&Records> {
        match (&self.loaded, self.parts.first()?) {
            (Some(loaded), _) => Some(loaded),
            (None, Part::Memory(records, _)) => Some(records),
            (None, Part::Disk { .. }) => None,
        }
    }

    fn record(&self) -> Option<Record<'_>> {
        self.records()?.get(self.at)
    }

    fn place(&self) -> Option<(u64, u64)> {
        self.record().map(|record| order(record.place()))
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.settle()
    }

    /// To the next record, if there is one.
    fn settle(&mut self) -> Result<()> {
        while let Some(part) = self.parts.first() {
            if self.loaded.is_none()
                && let Part::Disk { file, at, bytes, form, .. } = part
            {
                self.loaded = Some(Part::load(file, *at, *bytes, form)?);
            }
            if self.records().is_some_and(|records| self.at < records.len()) {
                return Ok(());
            }
            self.parts = self.parts.get(1..).unwrap_or_default();
            self.loaded = None;
            self.at = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::spill::Shelf;
    use super::*;
    use crate::position::Lsn;
    use std::sync::Arc;

    /// What was sent up to a mark is passed over, but for the marked one: whether it is the same is to be seen.
    #[test]
    fn it_begins_at_the_marked_record() {
        let dir = tempfile::tempdir().unwrap();
        let places = |ordinals: &[u64]| -> Vec<Place> {
            let commit_start = Lsn::new(100);
            ordinals.iter().map(|&ordinal| Place { commit_start, ordinal, ..Place::default() }).collect()
        };
        for memory in [usize::MAX, 0] {
            let mut shelf = Shelf::new(Arc::default(), memory);
            let mut part = |ordinals: &[u64]| shelf.put(Records::at(&places(ordinals)), dir.path()).unwrap();
            let shares = [vec![part(&[1, 3]), part(&[5, 8])], vec![part(&[2, 4, 4, 6])]];
            let visited = |from: Option<u64>| {
                let mut seen = Vec::new();
                let each = |share: usize, record: Record<'_>| -> Result<ControlFlow<()>> {
                    seen.push((share, record.place().ordinal));
                    Ok(ControlFlow::Continue(()))
                };
                in_order(&shares, from.map(|ordinal| (100, ordinal)), each).unwrap();
                seen
            };
            assert_eq!(visited(Some(4)), [(1, 4), (1, 4), (0, 5), (1, 6), (0, 8)]);
            assert_eq!(visited(None)[..4], [(0, 1), (1, 2), (0, 3), (1, 4)]);
            // The table of the marked record is not there any more.
            assert_eq!(visited(Some(7)), [(0, 8)]);
        }
    }
}
