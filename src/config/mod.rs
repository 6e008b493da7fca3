//! Configuration: one YAML file, flags over it, and nothing else.
//!
//! Two steps. What was written becomes a tree in which every key and value has its place (`tree`); the tree
//! becomes a checked [`Config`] of plain values (`read`). The second step reports everything that is wrong,
//! not only the first thing, and every message says where and what to write instead. Unknown keys are
//! errors; so are keys that are known and not built yet, because a key that is ignored is a wish that is
//! silently not granted.
//!
//! Secrets have their own type ([`Secret`]), and no message or snippet repeats what may be one.

mod address;
mod columns;
mod effective;
mod format;
mod kafka;
mod keys;
mod lookup;
mod model;
mod operate;
mod pattern;
mod problem;
mod read;
mod reader;
mod schema;
mod secret;
mod service;
mod store;
mod substitute;
mod suggest;
mod tree;
mod units;
mod write;

#[cfg(test)]
mod tests;

pub use effective::{effective, yaml};
pub use kafka::{
    Acks, KafkaTarget, KafkaTls, OversizePolicy, Sasl, SchemaRegistry, TopicConfig, TopicsConfig,
};
pub(crate) use lookup::none_found;
pub use lookup::{Found, Wanted, find};
pub use model::{
    BadRow, BudgetAction, CommitConfig, Config, ErrorsConfig, HttpConfig, InfinityPolicy, LimitsConfig,
    LoadSessions, LogConfig, LogFormat, LogLevel, NewTable, NumericUnbounded, Origin, OriginChoice,
    PositionLost, SinkConfig, SinkTarget, SnapshotConfig, SnapshotHold, SourceAddress, SourceConfig,
    SourceKind, SourceLoad, StoreConfig, TablesConfig, TlsConfig, TlsMode, UnknownTypesPolicy,
};
pub use pattern::TablePattern;
pub use problem::{ConfigError, Mark, Place, Problem, Refusal, Show};
pub use schema::json_schema;
pub use secret::{MASK, Secret, SecretSource, redact};
pub use units::{format_duration, format_size, parse_duration, parse_size};

use crate::error::codes;
use std::path::Path;

/// Largest configuration file, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;

/// What the command line says over the file.
#[derive(Clone, Default)]
pub struct Overrides {
    /// Replaces all connection keys of `source`.
    pub source_url: Option<String>,
    /// Replaces `sink.type` and `sink.uri`.
    pub sink_uri: Option<String>,
    /// Replaces `source.slot`.
    pub slot: Option<String>,
    /// Replaces `source.publication`.
    pub publication: Option<String>,
    /// Replaces `tables.include` when not empty.
    pub tables: Vec<String>,
}

/// A variable of this process's environment. Not UTF-8 counts as not set.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads a file, with the flags over it.
///
/// Errors: everything that is wrong, CF001 to CF005.
pub fn load_file(
    path: &Path,
    overrides: &Overrides,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |what: String| {
        let advice = "check the path, and that strandline's user may read the file";
        ConfigError::one(Problem::new(
            codes::CF001,
            format!("cannot read the file \"{name}\": {what}"),
            advice,
        ))
    };
    let size = std::fs::metadata(path).map_err(|cause| unreadable(cause.to_string()))?.len();
    if size > FILE_LIMIT {
        return Err(unreadable(format!("it is larger than {}", format_size(FILE_LIMIT))));
    }
    let bytes = std::fs::read(path).map_err(|cause| unreadable(cause.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8 text".to_owned()))?;
    load_text(&text, Origin::File(path.to_owned()), overrides, lookup)
}

/// Reads the text of a file, with the flags over it.
///
/// Errors: everything that is wrong, CF001 to CF005.
pub fn load_text(
    text: &str,
    origin: Origin,
    overrides: &Overrides,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let file = origin.to_string();
    let mut reader = reader::Reader::new(&file, text, lookup);
    let (tree, syntax) = tree::parse(text);
    let no_keys = tree.as_ref().is_some_and(|node| !matches!(node.value, tree::Value::Map(_)));
    let broken = tree.is_none() && !syntax.is_empty() || no_keys;
    for problem in syntax {
        reader.report(codes::CF001, problem.mark, problem.show, problem.message, problem.advice);
    }
    if no_keys {
        let _empty = reader.section(tree.as_ref(), "");
    }
    // A file that cannot be parsed says nothing about its keys: more messages would only mislead.
    let config = if broken { None } else { read::read_config(&mut reader, tree.as_ref(), origin, overrides) };
    match (config, ConfigError::from_problems(reader.into_problems())) {
        (Some(config), None) => Ok(config),
        (_, Some(error)) => Err(error),
        (None, None) => Err(ConfigError::one(Problem::new(
            codes::RT001,
            "the configuration could not be put together, and nothing says why",
            "report this as a bug, with the file",
        ))),
    }
}

/// From flags alone.
///
/// Errors: everything that is wrong, CF003 to CF005.
pub fn from_command_line(overrides: &Overrides) -> Result<Config, ConfigError> {
    load_text("", Origin::CommandLine, overrides, &environment)
}
