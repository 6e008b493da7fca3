//! Commits without deletion vectors: files with a changed row are rewritten, exactly those.
//!
//! The unit says which rows of which files are gone. Their other rows, and those of the unit's own files that are
//! small or hold rows that later slices replaced, are written anew, one after the other, and one commit
//! takes the old files out and brings the new ones. The index is led on as after a compaction: no key is read.
//! So a commit costs what the touched files hold; files that are untouched are compacted as usual, and a compaction
//! whose files a unit has rewritten meanwhile is void.
//!
//! Dying anywhere before the put leaves files that no version names.

use super::commit::Core;
use super::compact::{Compacted, Input, Job};
use super::index::Place;
use super::moves::Moved;
use super::policy::Policy;
use super::table::{DataFile, now_ms};
use super::unit::UnitFile;
use crate::error::{Error, Result, codes};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Files of the unit stand behind all numbers of the table while they are rewritten.
const OWN: u32 = 1 << 31;
/// A file of the unit below this size is put together with what is rewritten.
const SMALL: u64 = 16 << 20;

/// What was rewritten for a unit.
#[derive(Default)]
pub(super) struct Rewritten {
    /// Table files that leave.
    pub left: Vec<u32>,
    /// New files.
    pub files: Vec<DataFile>,
    /// Unit files whose rows are in the new ones.
    own: Vec<u32>,
    done: Option<Compacted>,
}

/// Where the unit's rows are once it is committed.
pub(super) struct Led {
    /// Of table files.
    pub table: Vec<(u32, Moved)>,
    own: BTreeMap<u32, Moved>,
}

impl Led {
    /// The place of a row of a unit file, when it was rewritten.
    pub(super) fn place(&self, place: Place) -> Option<Place> {
        self.own.get(&place.file).map(|moved| moved.place(place.row))
    }
}

/// Rewrites what the unit touches.
///
/// # Errors
/// `TG020` for a damaged file; `TG001` to `TG003` from storage.
pub(super) async fn rewrite(
    core: &Core,
    touched: HashMap<u32, RoaringBitmap>,
    unit: &[UnitFile],
) -> Result<Rewritten> {
    let mut inputs = Vec::new();
    let (mut left, mut own) = (Vec::new(), Vec::new());
    let mut touched: Vec<_> = touched.into_iter().collect();
    touched.sort_unstable_by_key(|(number, _)| *number);
    for (number, gone) in touched {
        let file = core
            .slots
            .get(number)
            .ok_or_else(|| Error::new(codes::RT001, "the index points at a file that is not in the table"))?;
        // Rows that somebody deleted by a vector are not the unit's to bring back.
        let deleted = file.deleted.as_ref().ok_or_else(|| {
            Error::new(codes::RT001, "a file is rewritten whose deleted rows are not known")
        })?;
        left.push(number);
        let bytes = u64::try_from(file.add.size).unwrap_or(0);
        inputs.push(Input { number, stored: file.stored(), rows: file.rows, bytes, gone: gone | deleted });
    }
    let any = !inputs.is_empty();
    for (i, file) in (0u32..).zip(unit) {
        let finished =
            file.finished.as_ref().ok_or_else(|| Error::new(codes::RT001, "a unit's file is still open"))?;
        if !file.masked.is_empty() || (any && finished.size < SMALL) {
            own.push(i);
            inputs.push(Input {
                number: OWN | i,
                stored: finished.stored(),
                rows: finished.rows,
                bytes: finished.size,
                gone: file.masked.clone(),
            });
        }
    }
    if inputs.is_empty() {
        return Ok(Rewritten::default());
    }
    let policy = Policy { rate: u64::MAX, work_percent: 100, ..Policy::default() };
    let done = Job::of(core, inputs, policy, Arc::new(AtomicBool::new(true)))?.run().await?;
    let now = now_ms();
    let files = done.outputs().map(|finished| DataFile::new(finished, now)).collect();
    Ok(Rewritten { left, files, own, done: Some(done) })
}

impl Rewritten {
    /// Whether the rows of that file of the unit are in the new files.
    pub(super) fn holds(&self, own: usize) -> bool {
        u32::try_from(own).is_ok_and(|own| self.own.contains(&own))
    }

    /// Where everything went, once the new files have these numbers.
    pub(super) fn led(self, numbers: &[u32]) -> Led {
        let mut led = Led { table: Vec::new(), own: BTreeMap::new() };
        for (number, moved) in self.done.map(|done| done.moved(numbers)).unwrap_or_default() {
            if number & OWN == 0 {
                led.table.push((number, moved));
            } else {
                led.own.insert(number & !OWN, moved);
            }
        }
        led
    }
}
