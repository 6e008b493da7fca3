//! The order of the source over several tables.
//!
//! Each share is in order by itself. Tables may be routed to one topic, and a transaction's events are counted
//! over all of them: so the shares are merged by place.

use crate::debezium::{Place, Record, Records};

/// Calls `each` for every record, with the index of its share, in the order of the source.
///
/// # Errors
/// The first of `each`.
pub(super) fn in_order<'a, E>(
    shares: &'a [Vec<Records>],
    mut each: impl FnMut(usize, Record<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut cursors: Vec<Cursor<'a>> = shares.iter().map(|parts| Cursor::new(parts)).collect();
    loop {
        let mut first: Option<(Place, usize)> = None;
        let mut second: Option<Place> = None;
        for (index, cursor) in cursors.iter().enumerate() {
            let Some(place) = cursor.place() else { continue };
            match first {
                Some((earliest, _)) if order(place) >= order(earliest) => {
                    if second.is_none_or(|s| order(place) < order(s)) {
                        second = Some(place);
                    }
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
            if second.is_some_and(|second| order(record.place()) > order(second)) {
                break;
            }
            each(index, record)?;
            cursor.advance();
        }
    }
}

fn order(place: Place) -> (u64, u64) {
    (place.commit_start.raw(), place.ordinal)
}

struct Cursor<'a> {
    parts: &'a [Records],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn new(parts: &'a [Records]) -> Self {
        let mut cursor = Cursor { parts, at: 0 };
        cursor.skip_empty();
        cursor
    }

    fn record(&self) -> Option<Record<'a>> {
        self.parts.first()?.get(self.at)
    }

    fn place(&self) -> Option<Place> {
        self.record().map(|record| record.place())
    }

    fn advance(&mut self) {
        self.at += 1;
        self.skip_empty();
    }

    fn skip_empty(&mut self) {
        while self.parts.first().is_some_and(|part| self.at >= part.len()) {
            self.parts = self.parts.get(1..).unwrap_or_default();
            self.at = 0;
        }
    }
}
