//! How an object store is reached: `sink.credentials` and `sink.storage`.

use super::model::StoreConfig;
use super::problem::{Refusal, Show};
use super::reader::{Reader, Repeat, Section};
use super::tree::Value;
use crate::error::codes;
use std::path::PathBuf;
use url::Url;

/// Reads both. `None` when something was reported.
pub(super) fn read_store(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<StoreConfig> {
    let credentials = read_credentials(reader, sink);
    let section = reader.section(sink.entry("storage").map(|entry| &entry.value), "sink.storage");
    let endpoint =
        optional(section, "endpoint", |key| reader.parsed(section, key, Repeat::Value, parse_endpoint));
    let region = optional(section, "region", |key| reader.text(section, key));
    let path_style = optional(section, "path_style", |key| reader.boolean(section, key));
    let ca = optional(section, "ca", |key| reader.text(section, key).map(PathBuf::from));
    Some(StoreConfig {
        credentials: credentials?,
        endpoint: endpoint?,
        region: region?,
        path_style: path_style?,
        ca: ca?,
    })
}

/// A key that was not written is none; one that is wrong is nothing at all.
fn optional<T>(section: Section<'_>, key: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if section.entry(key).is_none() { Some(None) } else { read(key).map(Some) }
}

/// `ambient`, or `{file: PATH}`.
fn read_credentials(reader: &mut Reader<'_>, sink: Section<'_>) -> Option<Option<PathBuf>> {
    let Some(entry) = sink.entry("credentials") else { return Some(None) };
    if let Value::Scalar { .. } = entry.value.value {
        return reader.choice(sink, "credentials", &[("ambient", ())], &[]).map(|()| None);
    }
    let section = reader.section(Some(&entry.value), "sink.credentials");
    if section.entry("file").is_none() {
        let advice = "write credentials: ambient, or credentials: {file: /path}";
        let message = "sink.credentials does not say where they are".to_owned();
        reader.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        return None;
    }
    reader.text(section, "file").map(|path| Some(PathBuf::from(path)))
}

fn parse_endpoint(text: &str) -> Result<Url, Refusal> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(Refusal::new("is not the address of a server", "write \"https://host:port\"")),
    }
}
