//! Object stores: how one is reached, and files of any size in pieces.
//!
//! What a store needs comes from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`), from a file of such settings,
//! and from the configuration, in this order; the last one counts. Files are sent in parts and read in windows, so
//! that memory does not grow with them. Requests are tried again by the client; what it gives up on is tried again
//! by whoever asked.

use crate::error::{Code, Error, Result, codes};
use bytes::{Buf, Bytes};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::{
    Certificate, ClientOptions, ObjectStore, ObjectStoreExt, ObjectStoreScheme, WriteMultipart,
};
use parquet::file::reader::{ChunkReader, Length};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::runtime::Handle;
use url::Url;

/// Bytes of a part: files below are sent whole.
const PART: usize = 8 << 20;
/// Parts that may be on their way.
const PARTS_ON_THE_WAY: usize = 2;
/// Bytes that are read ahead at first, and at most.
const WINDOW: std::ops::RangeInclusive<u64> = (1 << 20)..=(8 << 20);
/// Bytes of windows that an open file keeps.
const KEPT: usize = 48 << 20;

/// How object stores are reached, beside the environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreOptions {
    /// A file of settings: `KEY=VALUE` lines, an AWS credentials file, or a Google service account.
    pub credentials: Option<PathBuf>,
    /// Where the store answers, when it is not the provider's.
    pub endpoint: Option<Url>,
    /// S3's region.
    pub region: Option<String>,
    /// `https://endpoint/bucket/…` rather than `https://bucket.endpoint/…`.
    pub path_style: Option<bool>,
    /// Certificate authorities (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// Opens the store of an address.
///
/// # Errors
/// `CF003` when address or settings are none that can be used.
pub(super) fn open(url: &Url, options: &StoreOptions) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let refuse = |why: String| Error::new(codes::CF003, format!("sink uri \"{url}\": {why}"));
    let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|e| refuse(e.to_string()))?;
    let path = ObjectPath::parse(path).map_err(|e| refuse(e.to_string()))?;
    let settings = settings(options)?;
    let mut client = ClientOptions::new();
    if let Some(file) = &options.ca {
        let pem = read_file(file)?;
        let found = Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|e| refuse(format!("the certificates in \"{}\": {e}", file.display())))?;
        client = found.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    let made: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::new().with_url(url.as_str()).with_client_options(client);
            let known = settings.iter().filter_map(|(k, v)| Some((k.parse::<AmazonS3ConfigKey>().ok()?, v)));
            let builder = known.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            builder.build().map(|store| Arc::new(store) as _)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::new().with_url(url.as_str()).with_client_options(client);
            let known = settings.iter().filter_map(|(k, v)| Some((k.parse::<GoogleConfigKey>().ok()?, v)));
            let builder = known.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            builder.build().map(|store| Arc::new(store) as _)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::new().with_url(url.as_str()).with_client_options(client);
            let known = settings.iter().filter_map(|(k, v)| Some((k.parse::<AzureConfigKey>().ok()?, v)));
            let builder = known.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            builder.build().map(|store| Arc::new(store) as _)
        }
        _ => return Err(refuse("it is no place that can be written to".into())),
    };
    known_to_deltalake(url);
    Ok((made.map_err(|e| refuse(e.to_string()))?, path))
}

/// deltalake opens tables of every scheme that it knows in the same way, on the store that it is given.
fn known_to_deltalake(url: &Url) {
    let registry = deltalake::logstore::logstore_factories();
    let scheme = |name: &str| Url::parse(&format!("{name}://")).ok();
    let factory = scheme("memory").and_then(|memory| registry.get(&memory).map(|f| Arc::clone(f.value())));
    if let (Some(factory), Some(own)) = (factory, scheme(url.scheme())) {
        registry.entry(own).or_insert(factory);
    }
}

fn read_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::new(codes::CF003, format!("cannot read \"{}\"", path.display())).with_source(e))
}

fn settings(options: &StoreOptions) -> Result<BTreeMap<String, String>> {
    let variables = std::env::vars_os().filter_map(|(key, value)| {
        Some((key.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
    });
    let mut settings: BTreeMap<String, String> = variables.collect();
    if let Some(file) = &options.credentials {
        let profile = settings.get("aws_profile").map_or("default", String::as_str).to_owned();
        let text = read_file(file)?;
        settings.extend(from_file(&text, &profile));
    }
    if let Some(endpoint) = &options.endpoint {
        for key in ["aws_endpoint_url", "google_base_url", "azure_storage_endpoint"] {
            settings.insert(key.into(), endpoint.as_str().trim_end_matches('/').to_owned());
        }
        if endpoint.scheme() == "http" {
            settings.insert("allow_http".into(), "true".into());
        }
    }
    if let Some(region) = &options.region {
        settings.insert("aws_region".into(), region.clone());
    }
    if let Some(path_style) = options.path_style {
        settings.insert("aws_virtual_hosted_style_request".into(), (!path_style).to_string());
    }
    Ok(settings)
}

/// `KEY=VALUE` lines outside of sections and in the profile's section; a JSON document is a Google service account.
fn from_file(text: &str, profile: &str) -> BTreeMap<String, String> {
    if text.trim_start().starts_with('{') {
        return BTreeMap::from([("google_service_account_key".to_owned(), text.to_owned())]);
    }
    let mut counts = true;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            counts = section.trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| counts) {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// What a store said, as the kind that decides what to do.
pub(super) fn kind_of(error: &object_store::Error) -> io::ErrorKind {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            io::ErrorKind::Unsupported
        }
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    }
}

fn as_io(error: object_store::Error) -> io::Error {
    io::Error::new(kind_of(&error), error)
}

/// Runs a request from code that blocks.
fn wait<T>(request: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    Ok(tokio::task::block_in_place(|| runtime.block_on(request)))
}

/// A file on its way to the store.
pub(super) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: ObjectPath,
    waiting: Vec<u8>,
    parts: Option<WriteMultipart>,
}

impl Upload {
    /// Nothing is sent before there is something to send.
    pub(super) fn new(store: &Arc<dyn ObjectStore>, path: ObjectPath) -> Self {
        Upload { store: Arc::clone(store), path, waiting: Vec::new(), parts: None }
    }

    /// Adds bytes; waits while too much is on its way.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() < PART {
            return Ok(bytes.len());
        }
        let full = std::mem::take(&mut self.waiting);
        let (store, path, parts) = (&self.store, &self.path, &mut self.parts);
        wait(async move {
            let upload = match parts {
                Some(upload) => upload,
                None => {
                    let upload = store.put_multipart(path).await.map_err(as_io)?;
                    parts.insert(WriteMultipart::new_with_chunk_size(upload, PART))
                }
            };
            upload.put(Bytes::from(full));
            upload.wait_for_capacity(PARTS_ON_THE_WAY).await.map_err(as_io)
        })??;
        Ok(bytes.len())
    }

    /// Sends the rest; the file is there when this returns.
    pub(super) async fn finish(mut self) -> object_store::Result<()> {
        let rest = Bytes::from(std::mem::take(&mut self.waiting));
        match self.parts.take() {
            None => self.store.put(&self.path, rest.into()).await.map(drop),
            Some(mut upload) => {
                upload.put(rest);
                upload.finish().await.map(drop)
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Parts that are never put together cost money until the bucket's own rules remove them.
        if let (Some(upload), Ok(runtime)) = (self.parts.take(), Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(e) = upload.abort().await {
                    tracing::debug!("an unfinished upload was not taken back: {e}");
                }
            });
        }
    }
}

/// Why a request failed.
pub(super) type Failed = OnceLock<Code>;

/// A file of the store, read in windows.
#[derive(Clone)]
pub(super) struct RemoteFile {
    store: Arc<dyn ObjectStore>,
    path: ObjectPath,
    size: u64,
    windows: Arc<Mutex<VecDeque<(u64, Bytes)>>>,
    /// A request failed: what the reader of Parquet says then tells nothing of the file.
    failed: Arc<Failed>,
}

impl RemoteFile {
    /// Asks for its size.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn open(store: &Arc<dyn ObjectStore>, path: ObjectPath) -> object_store::Result<Self> {
        let size = store.head(&path).await?.size;
        Ok(RemoteFile {
            store: Arc::clone(store),
            path,
            size,
            windows: Arc::default(),
            failed: Arc::default(),
        })
    }

    /// Set once a request failed.
    pub(super) fn failed(&self) -> Arc<Failed> {
        Arc::clone(&self.failed)
    }

    /// Bytes from `start` on: at least one, at most what a window holds.
    fn some(&self, start: u64, wanted: u64) -> io::Result<Bytes> {
        if start >= self.size {
            return Ok(Bytes::new());
        }
        let mut ahead = *WINDOW.start();
        {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            for (first, bytes) in windows.iter() {
                let end = first + bytes.len() as u64;
                if (*first..end).contains(&start) {
                    let from = usize::try_from(start - first).unwrap_or(usize::MAX);
                    return Ok(bytes.slice(from..));
                }
                // Read on from where a window ended: more the next time.
                if end == start {
                    ahead = (bytes.len() as u64 * 2).clamp(*WINDOW.start(), *WINDOW.end());
                }
            }
        }
        let end = start.saturating_add(ahead.max(wanted)).min(self.size);
        let bytes = wait(self.store.get_range(&self.path, start..end))?.map_err(|e| {
            let denied = kind_of(&e) == io::ErrorKind::PermissionDenied;
            // The first failure says why.
            let _set_before = self.failed.set(if denied { codes::TG003 } else { codes::TG001 });
            as_io(e)
        })?;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.push_back((start, bytes.clone()));
        while windows.len() > 1 && windows.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > KEPT {
            windows.pop_front();
        }
        Ok(bytes)
    }
}

impl Length for RemoteFile {
    fn len(&self) -> u64 {
        self.size
    }
}

/// Reads on from some place.
pub(super) struct Onward {
    file: RemoteFile,
    at: u64,
}

impl Read for Onward {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.file.some(self.at, 0)?;
        let n = bytes.len().min(into.len());
        bytes.copy_to_slice(into.get_mut(..n).unwrap_or_default());
        self.at += n as u64;
        Ok(n)
    }
}

impl ChunkReader for RemoteFile {
    type T = Onward;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Onward> {
        Ok(Onward { file: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.some(start, length as u64)?;
        if bytes.len() >= length {
            return Ok(bytes.slice(..length));
        }
        // It goes on behind the window.
        let mut whole = Vec::with_capacity(length);
        Onward { file: self.clone(), at: start }.take(length as u64).read_to_end(&mut whole)?;
        if whole.len() < length {
            return Err(parquet::errors::ParquetError::EOF(format!("{} ends early", self.path)));
        }
        Ok(whole.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[test]
    fn settings_come_from_a_file() {
        let text =
            "# mine\nAWS_REGION = eu-1\n[other]\naws_access_key_id=no\n[default]\naws_access_key_id = yes\n";
        let found = from_file(text, "default");
        assert_eq!(found["aws_access_key_id"], "yes");
        assert_eq!(found["aws_region"], "eu-1");
        assert_eq!(from_file(text, "other")["aws_access_key_id"], "no");
        assert!(from_file("{\"type\": \"service_account\"}", "x").contains_key("google_service_account_key"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn large_files_go_in_parts_and_come_in_windows() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bytes: Vec<u8> = (0..30_000_000u32).map(|i| (i % 251) as u8).collect();
        let mut upload = Upload::new(&store, ObjectPath::from("a"));
        for piece in bytes.chunks(700_000) {
            upload.write(piece).unwrap();
        }
        assert!(upload.parts.is_some() && upload.waiting.len() < PART);
        upload.finish().await.unwrap();
        let file = RemoteFile::open(&store, ObjectPath::from("a")).await.unwrap();
        assert_eq!(file.len(), 30_000_000);
        for (start, length) in
            [(0u64, 10usize), (29_999_990, 10), (5_000_000, 3_000_000), (7_999_999, 1_500_000)]
        {
            let at = start as usize;
            assert_eq!(file.get_bytes(start, length).unwrap(), bytes[at..at + length]);
        }
        let mut all = Vec::new();
        file.get_read(0).unwrap().read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
        assert!(file.get_bytes(29_999_995, 10).is_err());
        let kept: usize = file.windows.lock().unwrap().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(kept <= KEPT, "{kept}");
    }
}
