//! Files of a target: local directories, synced, or an object store.
//!
//! `object_store` never syncs a local file, and *durable* here means synced: data, deletion-vector and log
//! files, then their directories. So local paths are written by `std::fs` and everything else goes through
//! `object_store`. Both offer the one primitive that exactness needs: [`TableFiles::put_if_absent`].
//!
//! A local put-if-absent writes a temporary file, syncs it, and links it to its name: the name appears
//! with its content or not at all, and never replaces another.

use super::remote::{self, RemoteFile, StoreOptions, Upload};
use crate::error::{Error, Result, codes};
use crate::sink::Written;
use bytes::Bytes;
use deltalake::DeltaTable;
use futures_util::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// The folder of change data, below a table.
pub(super) const CHANGE_DATA: &str = "_change_data";

/// What names of files of deletion vectors begin with.
const VECTORS: &str = "deletion_vector_";

/// What a put-if-absent did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Put {
    /// The name was free; it holds our bytes now, synced.
    Written,
    /// The name was taken; nothing changed.
    Exists,
}

/// The root of a sink: `file:///lake`, `s3://bucket/lake`.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    root: TableFiles,
}

impl Storage {
    /// Opens the root.
    ///
    /// # Errors
    /// `CF003` when the URI is none that we can write to.
    pub(super) fn open(uri: &str, options: &StoreOptions) -> Result<Self> {
        let refuse = |why: String| {
            Error::new(codes::CF003, format!("sink uri \"{uri}\": {why}"))
                .with_try("use file:///absolute/path, s3://bucket/path, gs://bucket/path or abfss://container@account.dfs.core.windows.net/path")
        };
        let mut url = Url::parse(uri).map_err(|e| refuse(e.to_string()))?;
        if !url.path().ends_with('/') {
            let with_slash = format!("{}/", url.path());
            url.set_path(&with_slash);
        }
        let place = if url.scheme() == "file" {
            Place::Local(url.to_file_path().map_err(|()| refuse("it is not an absolute local path".into()))?)
        } else {
            let (store, prefix) = remote::open(&url, options)?;
            Place::Remote { store, prefix }
        };
        let root = TableFiles {
            place,
            url,
            tally: Arc::default(),
            #[cfg(test)]
            faults: None,
        };
        Ok(Storage { root })
    }

    /// Lets a test break it.
    #[cfg(test)]
    pub(super) fn set_faults(&mut self, faults: &Arc<super::faults::Faults>) {
        self.root.faults = Some(Arc::clone(faults));
    }

    /// On a store of a test.
    #[cfg(test)]
    pub(super) fn on(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let url = Url::parse("memory:///").map_err(|e| Error::new(codes::CF003, e.to_string()))?;
        let place = Place::Remote { store, prefix: ObjectPath::default() };
        Ok(Storage { root: TableFiles { place, url, tally: Arc::default(), faults: None } })
    }

    /// Whether two writers of one name cannot both believe that they wrote it. Without that, two processes
    /// could put the same version of a table, and one of them would be lost without a word.
    ///
    /// # Errors
    /// `TG006` where a store does not refuse to overwrite; `TG001`, `TG003`.
    pub(super) async fn check_put_if_absent(&self) -> Result<()> {
        if let Place::Local(_) = self.root.place {
            return Ok(());
        }
        let files = self.root.join("_strandline")?;
        let name = format!("probe-{}", uuid::Uuid::new_v4().simple());
        // A lost reply says as little as a refusal: only one that was written twice counts.
        let first = files.put_once(&name, Bytes::from_static(b"1")).await;
        let second = files.put_once(&name, Bytes::from_static(b"2")).await;
        files.delete(&name).await?;
        if (first?, second?) == (Put::Written, Put::Written) {
            let what = format!(
                "the object store of \"{}\" overwrites where it was asked not to (If-None-Match: *)",
                self.root.url
            );
            return Err(Error::new(codes::TG006, what).with_try(
                "use a store or a version of it that has conditional writes; without them two writers can replace each other's commits",
            ));
        }
        Ok(())
    }

    /// What was written below the root, log entries apart.
    pub(super) fn written(&self) -> Written {
        let Tally { files, bytes, conflicts, rewritten, vectors, moved } = &*self.root.tally;
        Written {
            files: files.load(Ordering::Relaxed),
            bytes: bytes.load(Ordering::Relaxed),
            conflicts: conflicts.load(Ordering::Relaxed),
            rewritten: rewritten.load(Ordering::Relaxed),
            vector_bytes: vectors.load(Ordering::Relaxed),
            moved_bytes: moved.load(Ordering::Relaxed),
        }
    }

    /// The files of the table at the given path segments below the root. Segments are encoded so that
    /// no name can leave its directory.
    ///
    /// # Errors
    /// `TG019` when the names cannot be made into a path.
    pub(super) fn table(&self, segments: &[&str]) -> Result<TableFiles> {
        let mut files = self.root.clone();
        for segment in segments {
            files = files.join(&encode_segment(segment))?;
        }
        Ok(files)
    }
}

/// Encodes one path segment injectively: `/`, `\`, `%`, control characters, and the names `.` and `..`. By `~`, since
/// readers (delta kernel among them) decode a `%` once too often.
fn encode_segment(name: &str) -> String {
    if name == "." || name == ".." {
        return name.replace('.', "~2E");
    }
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '/' | '\\' | '%' | '~' | ':' | '?' | '*' | '"' | '<' | '>' | '|' | '#')
            || c.is_control()
        {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("~{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A file as a listing names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listed {
    /// Name below the table.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the Unix epoch, by the storage's clock.
    pub modified_ms: i64,
}

#[derive(Clone, Debug)]
enum Place {
    Local(PathBuf),
    Remote { store: Arc<dyn ObjectStore>, prefix: ObjectPath },
}

/// The directory of one Delta table.
#[derive(Clone, Debug)]
pub(super) struct TableFiles {
    place: Place,
    url: Url,
    /// Where a test makes the process die, or a reply get lost.
    #[cfg(test)]
    pub faults: Option<Arc<super::faults::Faults>>,
    /// Of the whole sink.
    tally: Arc<Tally>,
}

/// Files and bytes written.
#[derive(Debug, Default)]
struct Tally {
    files: AtomicU64,
    bytes: AtomicU64,
    conflicts: AtomicU64,
    rewritten: AtomicU64,
    /// Bytes of deletion vectors.
    vectors: AtomicU64,
    /// Bytes of rows that were there before.
    moved: AtomicU64,
}

impl TableFiles {
    fn join(&self, segment: &str) -> Result<TableFiles> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| {
                Error::new(codes::TG019, format!("cannot place \"{segment}\" under \"{}\"", self.url))
            })?
            .pop_if_empty()
            .push(segment)
            .push("");
        let place = match &self.place {
            Place::Local(root) => Place::Local(root.join(segment)),
            Place::Remote { store, prefix } => {
                Place::Remote { store: Arc::clone(store), prefix: prefix.clone().join(segment) }
            }
        };
        Ok(TableFiles {
            place,
            url,
            tally: Arc::clone(&self.tally),
            #[cfg(test)]
            faults: self.faults.clone(),
        })
    }

    /// A step of a writer: between any two of them the process may die.
    #[cfg(test)]
    fn step(&self) -> Result<()> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults.step())
    }

    #[cfg(not(test))]
    fn step(&self) -> Result<()> {
        Ok(())
    }

    /// Where it is, for people.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// A handle of deltalake's on the same place, not loaded.
    ///
    /// # Errors
    /// `TG001`.
    pub(super) fn delta(&self) -> Result<DeltaTable> {
        let failed = |e: deltalake::DeltaTableError| self.failed("open", "the table", e);
        let builder = deltalake::DeltaTableBuilder::from_url(self.url.clone()).map_err(failed)?;
        match &self.place {
            Place::Local(_) => builder.build().map_err(failed),
            Place::Remote { store, .. } => {
                builder.with_storage_backend(Arc::clone(store), self.url.clone()).build().map_err(failed)
            }
        }
    }

    /// Makes the directories of a new table and syncs their parents. Nothing to do on object stores.
    ///
    /// # Errors
    /// `TG002`, `TG003`.
    pub(super) fn create_dirs(&self) -> Result<()> {
        self.step()?;
        let Place::Local(root) = &self.place else { return Ok(()) };
        let log = root.join("_delta_log");
        fs::create_dir_all(&log).map_err(|e| self.io("create", "_delta_log", &e))?;
        let mut dir = Some(root.as_path());
        // Up to three levels can be new: the lake, the schema, the table.
        for _ in 0..3 {
            let Some(d) = dir else { break };
            sync_dir(d).map_err(|e| self.io("sync", "the directory", &e))?;
            dir = d.parent();
        }
        Ok(())
    }

    /// Starts a new data file. Write to it, then [`NewFile::finish`].
    ///
    /// # Errors
    /// `TG001` to `TG003`.
    pub(super) fn create(&self, name: &str) -> Result<NewFile> {
        self.step()?;
        let target = match &self.place {
            Place::Local(root) => {
                let path = root.join(name);
                if let (true, Some(folder)) = (name.contains('/'), path.parent()) {
                    fs::create_dir_all(folder).map_err(|e| self.io("create", name, &e))?;
                }
                Target::Local(File::create_new(path).map_err(|e| self.io("create", name, &e))?)
            }
            Place::Remote { store, prefix } => Target::Remote(Upload::new(store, child(prefix, name))),
        };
        Ok(NewFile { files: self.clone(), name: name.to_owned(), target: Some(target), written: 0 })
    }

    /// Writes a whole new file, synced.
    ///
    /// # Errors
    /// `TG001` to `TG003`.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let mut file = self.create(name)?;
        file.write_all(&bytes).map_err(|e| self.io("write", name, &e))?;
        file.finish().await
    }

    /// Puts `bytes` under `name` unless the name is taken.
    ///
    /// # Errors
    /// `TG001` to `TG003`: the outcome is *unknown*, the bytes may be there.
    pub(super) async fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put> {
        self.step()?;
        let put = self.put_once(name, bytes).await?;
        if put == Put::Exists {
            self.tally.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        // What was done is done, whether or not anybody hears of it.
        self.step()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.reply(&self.url)?;
        }
        Ok(put)
    }

    async fn put_once(&self, name: &str, bytes: Bytes) -> Result<Put> {
        match &self.place {
            Place::Local(root) => {
                let path = root.join(name);
                tokio::task::block_in_place(|| link_if_absent(&path, &bytes))
                    .map_err(|e| self.io("write", name, &e))
            }
            Place::Remote { store, prefix } => {
                let options = PutOptions { mode: PutMode::Create, ..Default::default() };
                match store.put_opts(&child(prefix, name), bytes.into(), options).await {
                    Ok(_) => Ok(Put::Written),
                    Err(
                        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. },
                    ) => Ok(Put::Exists),
                    Err(e) => Err(self.refused("write", name, e)),
                }
            }
        }
    }

    /// Counts files that were written anew into others.
    pub(super) fn count_rewritten(&self, files: usize) {
        let files = u64::try_from(files).unwrap_or(u64::MAX);
        self.tally.rewritten.fetch_add(files, Ordering::Relaxed);
    }

    /// Counts bytes of files into which rows were moved.
    pub(super) fn count_moved(&self, bytes: u64) {
        self.tally.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reads a whole file. `None` when it is not there.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.step()?;
        match &self.place {
            Place::Local(root) => match fs::read(root.join(name)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(self.io("read", name, &e)),
            },
            Place::Remote { store, prefix } => match store.get(&child(prefix, name)).await {
                Ok(found) => found.bytes().await.map(Some).map_err(|e| self.refused("read", name, e)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(self.refused("read", name, e)),
            },
        }
    }

    /// A file of an object store, to be read in pieces. `None`: it is not there.
    ///
    /// # Errors
    /// `TG001`, `TG003`; `RT001` for a local one.
    pub(super) async fn open_remote(&self, name: &str) -> Result<Option<RemoteFile>> {
        self.step()?;
        let Place::Remote { store, prefix } = &self.place else {
            return Err(Error::new(codes::RT001, "a local file was opened as a remote one"));
        };
        match RemoteFile::open(store, child(prefix, name)).await {
            Ok(file) => Ok(Some(file)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.refused("read", name, e)),
        }
    }

    /// The local path of a file, where there is one.
    pub(super) fn local_path(&self, name: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Local(root) => Some(root.join(name)),
            Place::Remote { .. } => None,
        }
    }

    /// Syncs the table's own directory, so that new data files' names survive a crash.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) fn sync_names(&self) -> Result<()> {
        self.step()?;
        let Place::Local(root) = &self.place else { return Ok(()) };
        sync_dir(root).map_err(|e| self.io("sync", "the directory", &e))
    }

    /// Syncs the folders between the table's directory and a file: a partition may be new.
    fn sync_folders(&self, name: &str) -> io::Result<()> {
        let Place::Local(root) = &self.place else { return Ok(()) };
        for (at, _) in name.match_indices('/') {
            sync_dir(&root.join(&name[..at]))?;
        }
        Ok(())
    }

    /// Takes away the directory of a probe, and what was made on the way to it, where nothing is in it.
    pub(super) fn remove_probe(&self) {
        if let Place::Local(root) = &self.place {
            for directory in [root.join("_delta_log"), root.clone()] {
                // It may hold something: then it stays.
                let _kept = fs::remove_dir(directory);
            }
            if let Some(parent) = root.parent() {
                let _kept = fs::remove_dir(parent);
            }
        }
    }

    /// The files of the log, newest and oldest, checkpoints and leftovers.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn list_log(&self) -> Result<Vec<Listed>> {
        self.step()?;
        let mut found = Vec::new();
        match &self.place {
            Place::Local(root) => list_dir(root, "_delta_log", false, &mut found)
                .map_err(|e| self.io("list", "_delta_log", &e))?,
            Place::Remote { store, prefix } => {
                self.list_remote(store, prefix, "_delta_log", &mut found).await?;
            }
        }
        Ok(found)
    }

    /// The files outside the log and other places whose name begins with `_` or `.`, but those of change data.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn list_data(&self) -> Result<Vec<Listed>> {
        self.step()?;
        let mut found = Vec::new();
        match &self.place {
            Place::Local(root) => {
                tokio::task::block_in_place(|| list_dir(root, "", true, &mut found))
                    .map_err(|e| self.io("list", "the directory", &e))?;
                tokio::task::block_in_place(|| list_dir(root, CHANGE_DATA, true, &mut found))
                    .map_err(|e| self.io("list", "the directory", &e))?;
            }
            Place::Remote { store, prefix } => self.list_remote(store, prefix, "", &mut found).await?,
        }
        // Another table that lies below this one is not this one's.
        let others: std::collections::BTreeSet<String> =
            found.iter().filter_map(|f| Some(format!("{}/", f.name.split_once("/_delta_log/")?.0))).collect();
        found.retain(|file| {
            !file.name.split('/').any(|part| is_hidden(part) && part != CHANGE_DATA)
                && !others.iter().any(|other| file.name.starts_with(other))
        });
        Ok(found)
    }

    async fn list_remote(
        &self,
        store: &Arc<dyn ObjectStore>,
        prefix: &ObjectPath,
        under: &str,
        found: &mut Vec<Listed>,
    ) -> Result<()> {
        let place = if under.is_empty() { prefix.clone() } else { child(prefix, under) };
        let mut listing = store.list(Some(&place));
        while let Some(meta) = listing.try_next().await.map_err(|e| self.refused("list", "the files", e))? {
            let Some(parts) = meta.location.prefix_match(prefix) else { continue };
            let name: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            let modified_ms = meta.last_modified.timestamp_millis();
            found.push(Listed { name: name.join("/"), size: meta.size, modified_ms });
        }
        Ok(())
    }

    /// Deletes a file; one that is gone already is fine.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        self.step()?;
        match &self.place {
            Place::Local(root) => match fs::remove_file(root.join(name)) {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(self.io("delete", name, &e)),
            },
            Place::Remote { store, prefix } => match store.delete(&child(prefix, name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(self.refused("delete", name, e)),
            },
        }
    }

    /// Whether there is a Delta log: any commit or checkpoint.
    ///
    /// # Errors
    /// `TG001`, `TG003`.
    pub(super) async fn has_log(&self) -> Result<bool> {
        match &self.place {
            Place::Local(root) => match fs::read_dir(root.join("_delta_log")) {
                Ok(mut entries) => {
                    Ok(entries.any(|e| e.is_ok_and(|e| is_log_name(&e.file_name().to_string_lossy()))))
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(e) => Err(self.io("read", "_delta_log", &e)),
            },
            Place::Remote { store, prefix } => {
                let mut found = store.list(Some(&child(prefix, "_delta_log")));
                while let Some(meta) =
                    found.try_next().await.map_err(|e| self.refused("list", "_delta_log", e))?
                {
                    if meta.location.filename().is_some_and(is_log_name) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    fn failed(&self, verb: &str, what: &str, e: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::new(codes::TG001, format!("cannot {verb} {what} in \"{}\"", self.url)).with_source(e)
    }

    /// An answer of an object store.
    fn refused(&self, verb: &str, what: &str, e: object_store::Error) -> Error {
        let text = format!("cannot {verb} {what} in \"{}\"", self.url);
        let (code, advice) = match remote::kind_of(&e) {
            io::ErrorKind::PermissionDenied => (
                codes::TG003,
                "give credentials that may read, write, list and delete there (sink.credentials, or the environment)",
            ),
            io::ErrorKind::NotFound => (codes::TG003, "make the bucket, or correct sink.uri"),
            io::ErrorKind::Unsupported => (codes::TG006, "use a store that has conditional writes"),
            _ => (codes::TG001, "it is tried again until it works"),
        };
        Error::new(code, text).with_source(e).with_try(advice)
    }

    fn io(&self, verb: &str, what: &str, e: &io::Error) -> Error {
        let (code, advice) = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (codes::TG002, "free space there; the source keeps its log until then, nothing is lost")
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => {
                (codes::TG003, "give the process write permission there, or use another sink uri")
            }
            _ => (codes::TG001, "it is tried again until it works"),
        };
        Error::new(code, format!("cannot {verb} {what} in \"{}\": {e}", self.url)).with_try(advice)
    }
}

/// The name of a file is its key, as it is: folders of partitions hold a `%`.
fn child(prefix: &ObjectPath, name: &str) -> ObjectPath {
    let raw = if prefix.as_ref().is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    ObjectPath::parse(raw)
        .unwrap_or_else(|_| name.split('/').fold(prefix.clone(), |path, part| path.join(part)))
}

/// Folders of partitions are not.
fn is_hidden(part: &str) -> bool {
    part.starts_with(['_', '.']) && !part.contains('=')
}

fn is_log_name(name: &str) -> bool {
    name.len() >= 25 && name.as_bytes()[..20].iter().all(u8::is_ascii_digit) && name.as_bytes()[20] == b'.'
}

fn list_dir(root: &Path, under: &str, deep: bool, found: &mut Vec<Listed>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(under)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        // A name that is no text is none that a log can hold.
        let Ok(last) = entry.file_name().into_string() else { continue };
        let name = if under.is_empty() { last.clone() } else { format!("{under}/{last}") };
        // It may be gone since it was listed.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let is_other = root.join(&name).join("_delta_log").exists();
            if deep && !is_other && !is_hidden(&last) {
                list_dir(root, &name, deep, found)?;
            }
            continue;
        }
        let age = meta.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let modified_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        found.push(Listed { name, size: meta.len(), modified_ms });
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn link_if_absent(path: &Path, bytes: &[u8]) -> io::Result<Put> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()));
    let result = (|| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        match fs::hard_link(&temporary, path) {
            Ok(()) => Ok(Put::Written),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Exists),
            Err(e) => Err(e),
        }
    })();
    // The temporary name has done its work; a leftover is hidden from every reader and harms nothing.
    let removed = fs::remove_file(&temporary);
    if matches!(result, Ok(Put::Written)) {
        removed?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
    }
    result
}

enum Target {
    Local(File),
    Remote(Upload),
}

/// A file being written: nothing refers to it before it is finished, so one that is given up goes at once. Otherwise a
/// file system that is full would be filled by what each new start begins.
pub(super) struct NewFile {
    files: TableFiles,
    name: String,
    /// `None`: it is finished.
    target: Option<Target>,
    written: u64,
}

impl NewFile {
    /// Its name below the table.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Syncs it, or sends it to the object store.
    ///
    /// # Errors
    /// `TG001` to `TG003`.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.files.step()?;
        self.files.tally.files.fetch_add(1, Ordering::Relaxed);
        self.files.tally.bytes.fetch_add(self.written, Ordering::Relaxed);
        if self.name.starts_with(VECTORS) {
            self.files.tally.vectors.fetch_add(self.written, Ordering::Relaxed);
        }
        if let Some(Target::Local(file)) = &self.target {
            tokio::task::block_in_place(|| {
                file.sync_data()?;
                self.files.sync_folders(&self.name)
            })
            .map_err(|e| self.files.io("sync", &self.name, &e))?;
        }
        match self.target.take() {
            Some(Target::Remote(upload)) => {
                upload.finish().await.map_err(|e| self.files.refused("write", &self.name, e))
            }
            Some(Target::Local(_)) | None => Ok(()),
        }
    }

    /// As an error of this file.
    pub(super) fn error(&self, e: &io::Error) -> Error {
        self.files.io("write", &self.name, e)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.files.faults.as_ref().is_some_and(|faults| faults.is_dead()) {
            return;
        }
        if let (Some(Target::Local(_)), Some(path)) = (&self.target, self.files.local_path(&self.name)) {
            // What stays is vacuum's business.
            let _best_effort = fs::remove_file(path);
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = match &mut self.target {
            Some(Target::Local(file)) => file.write(bytes)?,
            Some(Target::Remote(upload)) => upload.write(bytes)?,
            None => return Err(io::Error::other("the file is finished")),
        };
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cannot_leave_their_directory_or_meet() {
        for (name, encoded) in [
            ("orders", "orders"),
            ("Order Items", "Order Items"),
            ("..", "~2E~2E"),
            ("a/../b", "a~2F..~2Fb"),
            ("50%", "50~25"),
            ("tab\there", "tab~09here"),
            ("日本", "日本"),
        ] {
            assert_eq!(encode_segment(name), encoded);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn put_if_absent_never_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let storage =
            Storage::open(&format!("file://{}", dir.path().display()), &StoreOptions::default()).unwrap();
        let table = storage.table(&["public", "t"]).unwrap();
        table.create_dirs().unwrap();
        let name = "_delta_log/00000000000000000000.json";
        assert_eq!(table.put_if_absent(name, Bytes::from_static(b"a")).await.unwrap(), Put::Written);
        assert_eq!(table.put_if_absent(name, Bytes::from_static(b"b")).await.unwrap(), Put::Exists);
        assert_eq!(table.get(name).await.unwrap().unwrap(), "a");
        let left: Vec<_> = fs::read_dir(dir.path().join("public/t/_delta_log")).unwrap().collect();
        assert_eq!(left.len(), 1, "the temporary file is gone");
        assert!(table.has_log().await.unwrap());
    }

    #[test]
    fn a_uri_that_is_none_is_refused() {
        for uri in ["lake", "/lake", "ftp://x/y", "file://relative/lake"] {
            assert_eq!(
                Storage::open(uri, &StoreOptions::default()).unwrap_err().code(),
                codes::CF003,
                "{uri}"
            );
        }
    }
}
