//! Staged events: in memory, or beyond the sink's budget in a file without a name.
//!
//! The file is deleted as soon as it is open, so nothing is left behind whatever happens. Its parts are read in
//! the order in which they were written, once for each attempt of their transaction.

use crate::debezium::{Place, Record, Records};
use crate::error::{Error, Result, codes};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory in use, given back when dropped.
#[derive(Debug)]
pub(super) struct Charge {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Charge {
    /// `None`: it would be more than the limit.
    fn take(of: &Arc<AtomicUsize>, bytes: usize, limit: usize) -> Option<Self> {
        let taken = of.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            let now = used.saturating_add(bytes);
            (now <= limit).then_some(now)
        });
        taken.ok().map(|_| Charge { bytes, of: Arc::clone(of) })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Some records of a share.
#[derive(Debug)]
pub(super) enum Part {
    /// The charge ends with it.
    Memory(Records, #[expect(dead_code, reason = "held, not read")] Charge),
    Disk {
        file: Arc<File>,
        at: u64,
        bytes: usize,
        form: Records,
        last: Option<Place>,
    },
}

/// Where a table's parts go.
#[derive(Debug)]
pub(super) struct Shelf {
    used: Arc<AtomicUsize>,
    limit: usize,
    /// The open unit's file and its length.
    file: Option<(Arc<File>, u64)>,
}

impl Shelf {
    pub(super) fn new(used: Arc<AtomicUsize>, limit: usize) -> Self {
        Shelf { used, limit, file: None }
    }

    /// Keeps records in memory if there is room, else on disk.
    ///
    /// # Errors
    /// `RT003` when they cannot be written.
    pub(super) fn put(&mut self, records: Records, dir: &Path) -> Result<Part> {
        if let Some(charge) = Charge::take(&self.used, records.bytes(), self.limit) {
            return Ok(Part::Memory(records, charge));
        }
        let (file, at) = match &self.file {
            Some((file, length)) => (Arc::clone(file), *length),
            None => (Arc::new(nameless(dir).map_err(|e| broken(dir, e))?), 0),
        };
        let mut stored = Vec::with_capacity(records.bytes());
        records.store(&mut stored);
        file.write_all_at(&stored, at).map_err(|e| broken(dir, e))?;
        let length = at + u64::try_from(stored.len()).unwrap_or(u64::MAX);
        self.file = Some((Arc::clone(&file), length));
        Ok(Part::Disk { file, at, bytes: stored.len(), form: records.emptied(), last: last(&records) })
    }

    /// The unit is closed: the next one has another file.
    pub(super) fn next_unit(&mut self) {
        self.file = None;
    }
}

fn last(records: &Records) -> Option<Place> {
    records.get(records.len().checked_sub(1)?).map(|record| record.place())
}

impl Part {
    /// Where its last record stands.
    pub(super) fn last(&self) -> Option<Place> {
        match self {
            Part::Memory(records, _) => last(records),
            Part::Disk { last, .. } => *last,
        }
    }

    /// Bytes of its records, and some.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Part::Memory(records, _) => records.bytes(),
            Part::Disk { bytes, .. } => *bytes,
        }
    }

    /// Calls `each` for its records, until one fails.
    ///
    /// # Errors
    /// The first of `each`; `RT003` when they cannot be read.
    pub(super) fn each<E: From<Error>>(
        &self,
        each: impl FnMut(Record<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        match self {
            Part::Memory(records, _) => records.iter().try_for_each(each),
            Part::Disk { file, at, bytes, form, .. } => {
                Part::load(file, *at, *bytes, form)?.iter().try_for_each(each)
            }
        }
    }

    /// Reads records of this part that are on disk.
    ///
    /// # Errors
    /// `RT003`.
    pub(super) fn load(file: &File, at: u64, bytes: usize, form: &Records) -> Result<Records> {
        let mut stored = vec![0; bytes];
        file.read_exact_at(&mut stored, at).map_err(|e| {
            Error::new(codes::RT003, "events that wait on disk cannot be read").with_source(e)
        })?;
        let mut records = form.emptied();
        if records.load(&stored) {
            return Ok(records);
        }
        Err(Error::new(codes::RT003, "events that wait on disk are damaged"))
    }
}

fn broken(dir: &Path, error: std::io::Error) -> Error {
    Error::new(
        codes::RT003,
        format!("events of a large transaction cannot be put into \"{}\"", dir.display()),
    )
    .with_source(error)
    .with_try("make room, or set limits.spill_dir to a directory with more")
}

fn nameless(dir: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("events-{}", uuid::Uuid::new_v4().simple()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back() {
        let used = Arc::new(AtomicUsize::new(0));
        let first = Charge::take(&used, 60, 100);
        assert!(first.is_some());
        assert!(Charge::take(&used, 60, 100).is_none());
        drop(first);
        assert!(Charge::take(&used, 60, 100).is_some());
        assert_eq!(used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_has_no_room_comes_back_from_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(Arc::default(), 0);
        let mut records = Records::new();
        let mut stored = Vec::new();
        Records::new().store(&mut stored);
        assert!(records.load(&stored));
        // Nothing needs no room.
        assert!(matches!(shelf.put(records.emptied(), dir.path()).unwrap(), Part::Memory(..)));
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    }
}
