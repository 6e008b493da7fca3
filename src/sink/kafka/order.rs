//! The order of the source over several tables.
//!
//! Each share is in order by itself. Tables may be routed to one topic, and a transaction's events are counted
//! over all of them: so the shares are merged by place.

use super::spill::Part;
use crate::debezium::{Place, Record, Records};
use crate::error::{Error, Result};
use std::ops::ControlFlow;

/// Calls `each` for every record behind `after`, with the index of its share, in the order of the source, until it
/// breaks.
///
/// # Errors
/// The first of `each`; `RT003` when what waits on disk cannot be read.
pub(super) fn in_order<E: From<Error>>(
    shares: &[Vec<Part>],
    after: Option<(u64, u64)>,
    mut each: impl FnMut(usize, Record<'_>) -> std::result::Result<ControlFlow<()>, E>,
) -> std::result::Result<(), E> {
    let mut cursors = shares.iter().map(|parts| Cursor::new(parts, after)).collect::<Result<Vec<_>>>()?;
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
    fn new(parts: &'a [Part], after: Option<(u64, u64)>) -> Result<Self> {
        // What is on disk is not read for nothing.
        let is_behind =
            |part: &&Part| after.is_some_and(|after| part.last().is_none_or(|last| order(last) <= after));
        let skipped = parts.iter().take_while(is_behind).count();
        let mut cursor = Cursor { parts: parts.get(skipped..).unwrap_or_default(), loaded: None, at: 0 };
        cursor.settle()?;
        while cursor.place().is_some_and(|place| after.is_some_and(|after| place <= after)) {
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
