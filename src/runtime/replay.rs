//! Compares the rows of a source with the last record of each key in a log, both too large to be held.
//!
//! Rows and records come in any order among keys, the records of one key in theirs. They go to disk, each to one of
//! [`SHELVES`] files by the hash of its key; then one file after the other is read into a [`Book`], where the records of
//! a key follow each other and its last state meets the source's row. So memory is that of a 256th of the keys, and
//! the disk holds each row and each record once. The files have no names: nothing is left behind, whatever happens.
//!
//! A record need not repeat every value: [`Cell::KEPT`] is what the record before it said, and where there is none, or the
//! value was too large for any record, it cannot be compared. Such rows are counted, not passed over.

use super::compare::Fault;
use crate::debezium::{Cell, Key, Seen};
use crate::error::{Error, Result, codes};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Files that keys are spread over.
const SHELVES: usize = 256;
/// Bytes that wait for each file.
const BUFFER: usize = 32 << 10;
/// Keys that are held from one round to the next; more are counted.
const SUSPECTS: usize = 1_000_000;

/// What the log says of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
enum Logged {
    #[default]
    Nothing,
    Row(Box<[Cell]>),
}

impl Logged {
    fn follow(&mut self, seen: &Seen) {
        let before = std::mem::take(self);
        let Seen::Row(cells) = seen else { return };
        let kept = |at: usize| match &before {
            Logged::Row(cells) => cells.get(at).copied().unwrap_or(Cell::LOST),
            Logged::Nothing => Cell::LOST,
        };
        let now = |(at, cell): (usize, &Cell)| if *cell == Cell::KEPT { kept(at) } else { *cell };
        *self = Logged::Row(cells.iter().enumerate().map(now).collect());
    }
}

/// One key.
#[derive(Clone, Debug)]
struct Entry {
    text: Box<str>,
    source: Option<Box<[Cell]>>,
    logged: Logged,
    /// Some record of it may be from behind the source's position.
    is_touched: bool,
}

impl Entry {
    fn new(key: &Key) -> Self {
        Entry { text: key.text.as_str().into(), source: None, logged: Logged::Nothing, is_touched: false }
    }

    /// What is wrong, and whether some value could not be compared.
    fn judge(&self) -> (Option<Fault>, bool) {
        match (&self.source, &self.logged) {
            (None, Logged::Nothing) => (None, false),
            (Some(_), Logged::Nothing) => (Some(Fault::Missing), false),
            (None, Logged::Row(_)) => (Some(Fault::Extra), false),
            (Some(source), Logged::Row(logged)) => {
                let is_unknown = |cell: &Cell| matches!(*cell, Cell::LOST | Cell::KEPT);
                let mut unknown = false;
                let mut differs = source.len() != logged.len();
                for (one, other) in source.iter().zip(logged) {
                    if is_unknown(one) || is_unknown(other) {
                        unknown = true;
                    } else {
                        differs |= one != other;
                    }
                }
                (differs.then_some(Fault::Different), unknown)
            }
        }
    }
}

/// Keys with what both sides say of them.
#[derive(Debug, Default)]
pub struct Book {
    entries: HashMap<u128, Entry>,
    /// Other keys than these are of no interest.
    is_closed: bool,
}

impl Book {
    fn entry(&mut self, key: &Key) -> Option<&mut Entry> {
        if self.is_closed {
            return self.entries.get_mut(&key.hash);
        }
        Some(self.entries.entry(key.hash).or_insert_with(|| Entry::new(key)))
    }

    /// Whether nothing is to be compared.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Before another round: the source's rows are read anew, and what was told since the last round is settled.
    pub fn next_round(&mut self) {
        for entry in self.entries.values_mut() {
            (entry.source, entry.is_touched) = (None, false);
        }
    }

    /// A row of the source.
    pub fn source(&mut self, key: &Key, cells: &[Cell]) {
        if let Some(entry) = self.entry(key) {
            entry.source = Some(cells.into());
        }
    }

    /// A record of the log; `is_touched`: it may be from behind the source's position.
    pub fn record(&mut self, key: &Key, seen: &Seen, is_touched: bool) {
        if let Some(entry) = self.entry(key) {
            entry.logged.follow(seen);
            entry.is_touched |= is_touched;
        }
    }

    /// All rows went.
    pub fn truncated(&mut self, is_touched: bool) {
        for entry in self.entries.values_mut() {
            entry.logged.follow(&Seen::Truncated);
            entry.is_touched |= is_touched;
        }
    }

    /// Judges every key into `found`; those that must be looked at again stay.
    pub fn judge(&mut self, found: &mut Findings) {
        let mut again = HashMap::new();
        for (hash, entry) in std::mem::take(&mut self.entries) {
            let (fault, is_unknown) = entry.judge();
            found.source_rows += u64::from(entry.source.is_some());
            found.logged_rows += u64::from(entry.logged != Logged::Nothing);
            found.unknown += u64::from(is_unknown);
            match fault {
                Some(_) if entry.is_touched => {
                    again.insert(hash, entry);
                }
                Some(fault) => found.add(fault, &entry.text),
                None => {}
            }
        }
        (self.entries, self.is_closed) = (again, true);
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Rows of the source.
    pub source_rows: u64,
    /// Rows that the log says are there.
    pub logged_rows: u64,
    /// Rows with a value that no record says.
    pub unknown: u64,
    /// Rows that differ.
    pub different: u64,
    /// Some of them.
    pub listed: Vec<(Fault, String)>,
    /// Keys that would have to be looked at again, and are too many.
    pub too_many: u64,
    limit: usize,
}

impl Findings {
    /// So many are listed.
    pub fn listing(limit: usize) -> Self {
        Findings { limit, ..Findings::default() }
    }

    fn add(&mut self, fault: Fault, key: &str) {
        self.different += 1;
        if self.listed.len() < self.limit {
            self.listed.push((fault, key.to_owned()));
        }
    }
}

const SOURCE: u8 = 0;
const ROW: u8 = 1;
const GONE: u8 = 2;
const TRUNCATED: u8 = 3;
const TOUCHED: u8 = 16;

/// Rows and records on disk.
#[derive(Debug)]
pub struct Ledger {
    shelves: Vec<Mutex<BufWriter<File>>>,
    columns: usize,
}

impl Ledger {
    /// An empty one with its files in `dir`, for rows of so many columns.
    ///
    /// # Errors
    /// `RT003`.
    pub fn new(dir: &Path, columns: usize) -> Result<Self> {
        let shelf = |_| Ok(Mutex::new(BufWriter::with_capacity(BUFFER, nameless(dir).map_err(broken)?)));
        Ok(Ledger { shelves: (0..SHELVES).map(shelf).collect::<Result<_>>()?, columns })
    }

    fn put(&self, kind: u8, key: &Key, cells: &[Cell]) -> Result<()> {
        let mut line = Vec::with_capacity(32 + key.text.len() + cells.len() * 8);
        line.push(kind);
        line.extend_from_slice(&key.hash.to_le_bytes());
        line.extend_from_slice(&u32::try_from(key.text.len()).unwrap_or(u32::MAX).to_le_bytes());
        line.extend_from_slice(key.text.as_bytes());
        for cell in cells {
            line.extend_from_slice(&cell.raw().to_le_bytes());
        }
        let shelf = usize::try_from(key.hash >> 120).unwrap_or(0);
        self.shelves.get(shelf).map_or(Ok(()), |shelf| write(shelf, &line))
    }

    /// A row of the source.
    ///
    /// # Errors
    /// `RT003`.
    pub fn source(&self, key: &Key, cells: &[Cell]) -> Result<()> {
        self.put(SOURCE, key, cells)
    }

    /// A record of the log; `is_touched`: it may be from behind the source's position.
    ///
    /// # Errors
    /// `RT003`.
    pub fn record(&self, key: &Key, seen: &Seen, is_touched: bool) -> Result<()> {
        let touched = if is_touched { TOUCHED } else { 0 };
        match seen {
            Seen::Row(cells) => self.put(ROW | touched, key, cells),
            Seen::Gone => self.put(GONE | touched, key, &[]),
            Seen::Truncated => self.truncated(is_touched),
        }
    }

    /// All rows went.
    ///
    /// # Errors
    /// `RT003`.
    pub fn truncated(&self, is_touched: bool) -> Result<()> {
        let kind = TRUNCATED | if is_touched { TOUCHED } else { 0 };
        let mut line = vec![kind];
        line.extend_from_slice(&[0; 20]);
        self.shelves.iter().try_for_each(|shelf| write(shelf, &line))
    }

    /// Compares everything. The book holds the keys that must be looked at again. Blocking.
    ///
    /// # Errors
    /// `RT003`.
    pub fn compare(&self, found: &mut Findings) -> Result<Book> {
        let mut again = Book { is_closed: true, ..Book::default() };
        for shelf in &self.shelves {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.flush().map_err(broken)?;
            let file = shelf.get_mut();
            file.rewind().map_err(broken)?;
            let mut book = self.read(file)?;
            book.judge(found);
            for (hash, entry) in book.entries {
                if again.entries.len() < SUSPECTS {
                    again.entries.insert(hash, entry);
                } else {
                    found.too_many += 1;
                }
            }
        }
        Ok(again)
    }

    fn read(&self, file: &File) -> Result<Book> {
        let mut from = BufReader::with_capacity(1 << 20, file);
        let mut book = Book::default();
        let mut head = [0_u8; 21];
        let mut cells = vec![0_u8; self.columns * 8];
        loop {
            match from.read_exact(&mut head) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(book),
                Err(e) => return Err(broken(e)),
            }
            let (kind, rest) = head.split_at(1);
            let (hash, length) = rest.split_at(16);
            let kind = kind.first().copied().unwrap_or_default();
            let hash = u128::from_le_bytes(hash.try_into().unwrap_or_default());
            let length = u32::from_le_bytes(length.try_into().unwrap_or_default());
            let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
            from.read_exact(&mut text).map_err(broken)?;
            let key = Key { hash, text: String::from_utf8_lossy(&text).into_owned() };
            let is_touched = kind & TOUCHED != 0;
            match kind & !TOUCHED {
                GONE => book.record(&key, &Seen::Gone, is_touched),
                TRUNCATED => book.truncated(is_touched),
                row => {
                    from.read_exact(&mut cells).map_err(broken)?;
                    let raw = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
                    let row_of = cells.chunks_exact(8).map(|bytes| Cell::from_raw(raw(bytes))).collect();
                    if row == SOURCE {
                        let row_of: Vec<Cell> = row_of;
                        book.source(&key, &row_of);
                    } else {
                        book.record(&key, &Seen::Row(row_of), is_touched);
                    }
                }
            }
        }
    }
}

fn write(shelf: &Mutex<BufWriter<File>>, line: &[u8]) -> Result<()> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner).write_all(line).map_err(broken)
}

fn broken(error: std::io::Error) -> Error {
    Error::new(codes::RT003, "rows that are compared cannot be put on disk")
        .with_source(error)
        .with_try("make room in limits.spill_dir, or name another directory there")
}

/// A file that is gone with its last handle.
fn nameless(dir: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("verify-{}", uuid::Uuid::new_v4().simple()));
    let file = OpenOptions::new().create_new(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Key {
        Key { hash: xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()), text: format!("id={n}") }
    }

    fn cells(values: &[u64]) -> Vec<Cell> {
        values.iter().map(|value| Cell::from_raw(*value)).collect()
    }

    fn row(values: &[u64]) -> Seen {
        Seen::Row(cells(values))
    }

    fn ledger(name: &str) -> Ledger {
        Ledger::new(&std::env::temp_dir().join("strandline-replay").join(name), 2).unwrap()
    }

    #[test]
    fn the_last_record_of_each_key_counts_and_faults_are_told_apart() {
        let ledger = ledger("last");
        for n in 0..5000 {
            ledger.record(&key(n), &row(&[n + 10, 7]), false).unwrap();
            ledger.record(&key(n), &row(&[n + 10, 8]), false).unwrap();
            ledger.source(&key(n), &cells(&[n + 10, 8])).unwrap();
        }
        ledger.record(&key(1), &row(&[11, 9]), false).unwrap();
        ledger.record(&key(2), &Seen::Gone, false).unwrap();
        ledger.record(&key(5000), &row(&[1, 1]), false).unwrap();
        ledger.record(&key(5001), &row(&[1, 1]), false).unwrap();
        ledger.record(&key(5001), &Seen::Gone, false).unwrap();
        let mut found = Findings::listing(10);
        assert!(ledger.compare(&mut found).unwrap().is_empty());
        found.listed.sort();
        let listed: Vec<_> = found.listed.iter().map(|(fault, key)| (*fault, key.as_str())).collect();
        assert_eq!(listed, [(Fault::Missing, "id=2"), (Fault::Extra, "id=5000"), (Fault::Different, "id=1")]);
        assert_eq!(
            (found.different, found.source_rows, found.logged_rows, found.unknown),
            (3, 5000, 5000, 0)
        );
    }

    #[test]
    fn what_a_record_does_not_repeat_is_as_it_was_and_what_none_says_is_counted() {
        let ledger = ledger("kept");
        let (kept, lost) = (Cell::KEPT.raw(), Cell::LOST.raw());
        for n in 0..4 {
            ledger.source(&key(n), &cells(&[10, 20])).unwrap();
        }
        ledger.record(&key(0), &row(&[9, 20]), false).unwrap();
        ledger.record(&key(0), &row(&[10, kept]), false).unwrap();
        ledger.record(&key(1), &row(&[10, kept]), false).unwrap();
        ledger.record(&key(2), &row(&[10, lost]), false).unwrap();
        ledger.record(&key(3), &row(&[11, 21]), false).unwrap();
        ledger.record(&key(3), &Seen::Gone, false).unwrap();
        ledger.record(&key(3), &row(&[10, kept]), false).unwrap();
        let mut found = Findings::listing(10);
        assert!(ledger.compare(&mut found).unwrap().is_empty());
        assert_eq!((found.different, found.unknown), (0, 3));
    }

    #[test]
    fn what_was_told_meanwhile_is_looked_at_again() {
        let ledger = ledger("again");
        for n in 0..3 {
            ledger.source(&key(n), &cells(&[10, 20])).unwrap();
            ledger.record(&key(n), &row(&[10, 20]), false).unwrap();
        }
        // Newer than the source's rows; the third is a fault whoever looks.
        ledger.record(&key(0), &row(&[11, 20]), true).unwrap();
        ledger.record(&key(1), &Seen::Gone, true).unwrap();
        ledger.record(&key(2), &row(&[12, 20]), false).unwrap();
        let mut found = Findings::listing(10);
        let mut book = ledger.compare(&mut found).unwrap();
        assert_eq!((found.different, book.len()), (1, 2));
        book.next_round();
        book.record(&key(7), &row(&[1, 1]), false);
        book.source(&key(7), &cells(&[2, 2]));
        book.source(&key(0), &cells(&[11, 20]));
        book.source(&key(1), &cells(&[10, 20]));
        book.judge(&mut found);
        assert!(book.is_empty());
        assert_eq!(found.different, 2);
        assert_eq!(found.listed[1], (Fault::Missing, "id=1".into()));
    }

    #[test]
    fn a_truncation_takes_every_row() {
        let ledger = ledger("truncated");
        for n in 0..1000 {
            ledger.record(&key(n), &row(&[10, 20]), false).unwrap();
        }
        ledger.truncated(false).unwrap();
        ledger.record(&key(3), &row(&[10, 20]), false).unwrap();
        ledger.source(&key(3), &cells(&[10, 20])).unwrap();
        let mut found = Findings::listing(10);
        assert!(ledger.compare(&mut found).unwrap().is_empty());
        assert_eq!((found.different, found.source_rows, found.logged_rows), (0, 1, 1));
    }
}
