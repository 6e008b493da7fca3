//! Parts of an index beyond its memory budget, in a file on this machine that has no name.
//!
//! The file is deleted as soon as it is open, so nothing is left behind whatever happens. Parts are only
//! appended: one that is replaced is garbage, and when a file is mostly garbage the next parts go to a new
//! one; the old one goes when nothing points into it any more. Read by position, so that the operating
//! system's page cache keeps what is hot.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file may have so many bytes beside what is in use.
const SLACK: u64 = 64 << 20;

/// A part of a spill file.
#[derive(Debug)]
pub(super) struct Region {
    file: Arc<File>,
    at: u64,
    bytes: u64,
    in_use: Arc<AtomicU64>,
}

impl Drop for Region {
    fn drop(&mut self) {
        self.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Region {
    /// Reads from an offset within the part.
    ///
    /// # Errors
    /// Of the file.
    pub(super) fn read(&self, from: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, self.at + from)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Of the file.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let mut out = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        self.read(0, &mut out)?;
        Ok(out)
    }
}

/// The file that parts go to now.
pub(super) struct Spill {
    dir: PathBuf,
    file: Arc<File>,
    end: u64,
    in_use: Arc<AtomicU64>,
}

impl Spill {
    /// A new file in the directory.
    ///
    /// # Errors
    /// Of the directory.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Spill { dir: dir.to_owned(), file: nameless(dir)?, end: 0, in_use: Arc::default() })
    }

    /// Appends a part.
    ///
    /// # Errors
    /// Of the file, such as a full disk.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<Region> {
        if self.end > SLACK + 3 * self.in_use.load(Ordering::Relaxed) {
            *self = Spill::new(&self.dir)?;
        }
        self.file.write_all_at(bytes, self.end)?;
        let length = bytes.len() as u64;
        self.in_use.fetch_add(length, Ordering::Relaxed);
        let region = Region {
            file: Arc::clone(&self.file),
            at: self.end,
            bytes: length,
            in_use: Arc::clone(&self.in_use),
        };
        self.end += length;
        Ok(region)
    }
}

fn nameless(dir: &Path) -> io::Result<Arc<File>> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(format!("spill-{}.tmp", uuid::Uuid::new_v4().simple()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(Arc::new(file))
}
