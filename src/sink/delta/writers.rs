//! The open files of a writer: one for each partition, closed by size, by number and by memory.

use super::encode::{FileWriter, FinishedFile};
use super::partition::{self, Values};
use super::storage::{NewFile, TableFiles};
use super::unit::TARGET_FILE_BYTES;
use crate::error::{Error, Result, codes};
use arrow::array::{RecordBatch, UInt32Array};
use std::sync::Arc;
use tokio::task::JoinSet;

/// So many files are open at once; beyond that the one that waits longest is closed.
const MOST_OPEN: usize = 100;
/// So many files are synced at once. In tests the steps are counted: one after the other.
pub(super) const AT_ONCE: usize = if cfg!(test) { 1 } else { 16 };
/// Bytes that all encoders together hold back, about.
const MOST_HELD: usize = 64 << 20;

/// Where the files of a writer go.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Columns of the partitions.
    pub by: Arc<[String]>,
    /// Names of the key columns.
    pub key: Arc<[String]>,
    /// What stands before the folder of a partition.
    pub folder: &'static str,
    /// What the names of files begin with.
    pub stem: &'static str,
}

impl Layout {
    /// Data files.
    pub(super) fn data(by: &[String], key: Vec<String>) -> Self {
        Layout { by: by.into(), key: key.into(), folder: "", stem: "part" }
    }

    /// A new name.
    ///
    /// # Errors
    /// `TG023`.
    pub(super) fn path(&self, values: &Values) -> Result<String> {
        let (folder, stem) = (self.folder, self.stem);
        let partition = partition::folder(&self.by, values)?;
        Ok(format!("{folder}{partition}{stem}-{}.parquet", uuid::Uuid::new_v4().hyphenated()))
    }
}

/// A file that is being written.
pub(super) struct Open {
    /// Its number, as [`Writers`] counts.
    pub number: u32,
    values: Arc<Values>,
    writer: FileWriter,
    turn: u64,
}

impl Open {
    /// Closes it; it is whole once the second part is finished, too.
    ///
    /// # Errors
    /// As [`FileWriter::finish_apart`].
    pub(super) fn finish_apart(self) -> Result<(u32, FinishedFile, NewFile)> {
        let (finished, file) = self.writer.finish_apart()?;
        Ok((self.number, finished, file))
    }
}

/// Closes files; they are synced when this returns. Each with its number.
///
/// # Errors
/// As [`FileWriter::finish`].
pub(super) async fn close_all(open: Vec<Open>) -> Result<Vec<(u32, FinishedFile)>> {
    let (mut finished, mut apart) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
    for open in open {
        let (number, file, rest) = tokio::task::block_in_place(|| open.finish_apart())?;
        finished.push((number, file));
        apart.push(rest);
    }
    finish_all(apart).await?;
    Ok(finished)
}

/// Syncs files, or sends them, some at a time: a unit of a partitioned table has many.
///
/// # Errors
/// `TG001` to `TG003`.
pub(super) async fn finish_all(files: Vec<NewFile>) -> Result<()> {
    let mut waiting = files.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(file) = waiting.next()
        {
            running.spawn(file.finish());
        }
        match running.join_next().await {
            None => return Ok(()),
            Some(ended) => {
                ended.map_err(|e| Error::new(codes::RT001, "syncing a data file broke").with_source(e))??
            }
        }
    }
}

/// Where rows went.
pub(super) struct Written {
    /// Number of the file.
    pub number: u32,
    /// Row in it of the first one.
    pub first: u32,
    /// Which rows of the batch. `None`: all.
    pub rows: Option<UInt32Array>,
}

/// The open files.
pub(super) struct Writers {
    layout: Layout,
    open: Vec<Open>,
    closing: Vec<Open>,
    next: u32,
    turn: u64,
}

impl Writers {
    /// None yet.
    pub(super) fn new(layout: Layout) -> Self {
        Writers { layout, open: Vec::new(), closing: Vec::new(), next: 0, turn: 0 }
    }

    /// Writes rows, by partition. What [`Writers::full`] gives must be closed afterwards.
    ///
    /// # Errors
    /// `TG001` to `TG003` from the files; `TG023` for a value that cannot name a partition; `RT001`.
    pub(super) fn write(&mut self, files: &TableFiles, rows: &RecordBatch) -> Result<Vec<Written>> {
        let mut written = Vec::new();
        for group in partition::split(rows, &self.layout.by)? {
            self.turn += 1;
            let at = self.file_for(files, &group.values, &group.data)?;
            let Some(open) = self.open.get_mut(at) else { continue };
            open.turn = self.turn;
            let first = open.writer.rows();
            open.writer.write(&group.data)?;
            written.push(Written { number: open.number, first, rows: group.rows });
            self.bound()?;
        }
        Ok(written)
    }

    fn file_for(&mut self, files: &TableFiles, values: &Arc<Values>, rows: &RecordBatch) -> Result<usize> {
        if let Some(at) = self.open.iter().position(|open| open.values == *values) {
            // A file holds the columns of its time: another schema, another file.
            if self.open.get(at).is_some_and(|open| open.writer.takes(rows)) {
                return Ok(at);
            }
            let open = self.open.swap_remove(at);
            self.closing.push(open);
        }
        let schema = rows.schema();
        let key: Vec<usize> = self.layout.key.iter().filter_map(|name| schema.index_of(name).ok()).collect();
        let path = self.layout.path(values)?;
        let writer = FileWriter::create_as(files, path, values, schema, &key, rows)?;
        self.open.push(Open { number: self.next, values: Arc::clone(values), writer, turn: self.turn });
        self.next += 1;
        Ok(self.open.len() - 1)
    }

    /// Closes and flushes what is too much.
    fn bound(&mut self) -> Result<()> {
        if let Some(at) = self.open.iter().position(|open| open.writer.size() >= TARGET_FILE_BYTES) {
            let full = self.open.swap_remove(at);
            self.closing.push(full);
        }
        while self.open.len() > MOST_OPEN {
            let oldest = self.open.iter().enumerate().min_by_key(|(_, open)| open.turn).map(|(at, _)| at);
            let Some(at) = oldest else { break };
            let idle = self.open.swap_remove(at);
            self.closing.push(idle);
        }
        if self.open.len() > 1 {
            let mut held: usize = self.open.iter().map(|open| open.writer.held()).sum();
            while held > MOST_HELD {
                let largest = self.open.iter_mut().max_by_key(|open| open.writer.held());
                let Some(open) = largest.filter(|open| open.writer.held() > 0) else { break };
                held -= open.writer.held();
                open.writer.flush()?;
            }
        }
        Ok(())
    }

    /// Files that are to be closed before more is written.
    pub(super) fn full(&mut self) -> Vec<Open> {
        std::mem::take(&mut self.closing)
    }

    /// All of them.
    pub(super) fn all(&mut self) -> Vec<Open> {
        let mut all = self.full();
        all.append(&mut self.open);
        all.sort_by_key(|open| open.number);
        all
    }

    /// So many files were begun.
    pub(super) fn begun(&self) -> u32 {
        self.next
    }
}
