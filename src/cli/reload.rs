//! Reading the configuration again while the pipeline runs (SIGHUP, `strandline reload`): what can be applied is applied by a
//! new takeover of the same process, which costs about a second; what cannot is refused, and then nothing is applied.

use super::exit;
use super::hold::told;
use super::{Outcome, args::Global, load_quietly};
use crate::config::{self, Config, KafkaTarget, Overrides, SinkTarget};
use crate::error::{Error, Result, codes};
use crate::telemetry::logging;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::mpsc;

/// Keys that stand for what was set up once: where rows come from and go, and what others have opened.
const FIXED: [&str; 18] = [
    "signals",
    "name",
    "source.type",
    "source.host",
    "source.port",
    "source.database",
    "source.slot",
    "source.publication",
    "sink.type",
    "sink.uri",
    "sink.storage",
    "sink.credentials",
    "http",
    "metrics",
    "health",
    "limits",
    "log.format",
    "format",
];

/// `strandline reload`: asks the process of this pipeline on this machine.
pub(super) fn command(global: &Global) -> Outcome {
    let config = load_quietly(global)?;
    told(global, &config, "POST", "/api/v1/pipeline/reload")?;
    Ok(ExitCode::from(exit::OK))
}

/// Reads the file again.
pub(super) struct Reloader {
    pub(super) path: Option<PathBuf>,
    pub(super) overrides: Overrides,
    pub(super) current: Mutex<Config>,
    pub(super) shown: Arc<RwLock<Value>>,
    pub(super) apply: mpsc::UnboundedSender<Config>,
    /// The level of the log was given on the command line or by `RUST_LOG`.
    pub(super) has_level: bool,
}

impl Reloader {
    /// What became of it, in words.
    ///
    /// # Errors
    /// Those of the configuration; `CF006` when something changed that needs a restart. Then all is as it was.
    pub(super) fn reload(&self) -> Result<String> {
        let Some(path) = &self.path else {
            return Err(Error::new(codes::CF006, "the configuration came from the command line")
                .with_try("write a file, and start with -c FILE"));
        };
        let next = config::load_file(path, &self.overrides, &config::environment).map_err(Error::from)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (leaves(&config::effective(&current)), leaves(&config::effective(&next)));
        let mut changed: Vec<String> = before
            .keys()
            .chain(after.keys().filter(|key| !before.contains_key(*key)))
            .filter(|key| before.get(*key) != after.get(*key))
            .cloned()
            .collect();
        let mut hidden = hidden(&current, &next);
        hidden.retain(|key| !is_within(&changed, key));
        changed.extend(hidden);
        if changed.is_empty() && *current != next {
            changed.push("what is not shown".to_owned());
        }
        let is_fixed = |key: &&String| {
            FIXED
                .iter()
                .any(|fixed| key.strip_prefix(fixed).is_some_and(|r| r.is_empty() || r.starts_with('.')))
        };
        let fixed: Vec<&str> = changed.iter().filter(is_fixed).map(String::as_str).collect();
        if !fixed.is_empty() {
            let what = format!("{} changed, which needs a restart; nothing was applied", fixed.join(", "));
            return Err(Error::new(codes::CF006, what)
                .with_try("systemctl restart strandline; nothing is lost by it"));
        }
        if changed.is_empty() {
            return Ok("the configuration has not changed".to_owned());
        }
        if next.log.level != current.log.level && !self.has_level {
            logging::set_level(next.log.level);
        }
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = config::effective(&next);
        *current = next.clone();
        let text = format!("applied: {}", changed.join(", "));
        tracing::info!("the configuration was read again; {text}");
        if changed.iter().any(|key| key != "log.level") {
            // Who would take it has ended when this fails.
            let _ended = self.apply.send(next);
        }
        Ok(text)
    }
}

/// Keys that differ where the two look the same, because what is shown of them is masked.
fn hidden(before: &Config, after: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |key: &str, differs: bool| {
        if differs {
            found.push(key.to_owned());
        }
    };
    compare("source.password", before.source.password != after.source.password);
    let token = |config: &Config| config.http.as_ref().and_then(|http| http.token.clone());
    compare("http.token", token(before) != token(after));
    match (&before.sink.target, &after.sink.target) {
        (SinkTarget::Delta { uri }, SinkTarget::Delta { uri: next }) => {
            compare("sink.uri", uri != next);
            compare("sink.storage.endpoint", before.sink.store.endpoint != after.sink.store.endpoint);
        }
        (SinkTarget::Kafka(kafka), SinkTarget::Kafka(next)) => {
            let of_key = |target: &KafkaTarget| target.tls.as_ref().and_then(|tls| tls.key_password.clone());
            compare("sink.tls.key_password", of_key(kafka) != of_key(next));
            let of_login = |target: &KafkaTarget| target.sasl.as_ref().and_then(|sasl| sasl.password.clone());
            compare("sink.sasl.password", of_login(kafka) != of_login(next));
            let of_registry = |target: &KafkaTarget| {
                target.registry.as_ref().and_then(|registry| registry.password.clone())
            };
            compare("format.schema_registry.password", of_registry(kafka) != of_registry(next));
            compare("sink.properties", kafka.properties != next.properties);
        }
        _ => {}
    }
    found
}

/// Whether that key, or something within it, was found already.
fn is_within(changed: &[String], key: &str) -> bool {
    let inner = |one: &String| one.strip_prefix(key).is_some_and(|r| r.is_empty() || r.starts_with('.'));
    changed.iter().any(inner)
}

/// Each setting by its path, as text.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = vec![(String::new(), value)];
    while let Some((path, value)) = rest.pop() {
        match value {
            Value::Object(map) => rest.extend(map.iter().map(|(key, inner)| {
                (if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, inner)
            })),
            other => {
                found.insert(path, other.to_string());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str, directory: &std::path::Path) -> (PathBuf, Config) {
        let path = directory.join("s.yaml");
        std::fs::write(&path, text).unwrap();
        let config = config::load_file(&path, &Overrides::default(), &|_| None).unwrap();
        (path, config)
    }

    #[test]
    fn what_needs_a_restart_is_refused_whole_and_the_rest_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let text = |more: &str| {
            format!(
                "version: 1\nsource: {{url: \"postgres://u@h/d\", password: {{env: P}}}}\nsink: {{uri: \"file:///lake\"}}\n{more}"
            )
        };
        let (path, first) = config(&text(""), directory.path());
        let (apply, mut applied) = mpsc::unbounded_channel();
        let reloader = Reloader {
            path: Some(path.clone()),
            overrides: Overrides::default(),
            shown: Arc::default(),
            current: Mutex::new(first),
            apply,
            has_level: true,
        };
        assert_eq!(reloader.reload().unwrap(), "the configuration has not changed");
        std::fs::write(&path, text("tables: {include: [\"a.*\"]}\nhealth: {grace: 5s}\n")).unwrap();
        let error = reloader.reload().unwrap_err();
        assert_eq!(error.code(), codes::CF006);
        assert!(error.message().contains("health.grace"), "{}", error.message());
        assert!(applied.try_recv().is_err());
        std::fs::write(&path, text("tables: {includes: [\"a.*\"]}\n")).unwrap();
        assert!(reloader.reload().is_err());
        std::fs::write(&path, text("tables: {include: [\"a.*\"]}\n")).unwrap();
        assert_eq!(reloader.reload().unwrap(), "applied: tables.include");
        assert_eq!(applied.try_recv().unwrap().tables.include[0].to_string(), "a.*");
        std::fs::write(&path, text("tables: {include: [\"a.*\"]}\nlog: {level: debug}\n")).unwrap();
        assert_eq!(reloader.reload().unwrap(), "applied: log.level");
        assert!(applied.try_recv().is_err(), "the log's level needs no takeover");
    }

    /// What is shown as `***` is compared as it is.
    #[test]
    fn a_secret_that_changed_is_applied() {
        let directory = tempfile::tempdir().unwrap();
        let text = |password: &str, property: &str, token: &str| {
            format!(
                "version: 1\nsource: {{url: \"postgres://u@h/d\", password: {password}}}\n\
                 sink: {{type: kafka, brokers: [b], properties: {{ssl.key.pem: {property}}}}}\n\
                 http: {{listen: \"127.0.0.1:1\", token: {token}}}\n"
            )
        };
        let (path, first) = config(&text("a", "x", "t"), directory.path());
        let (apply, mut applied) = mpsc::unbounded_channel();
        let reloader = Reloader {
            path: Some(path.clone()),
            overrides: Overrides::default(),
            shown: Arc::default(),
            current: Mutex::new(first),
            apply,
            has_level: true,
        };
        let reload = |password: &str, property: &str, token: &str| {
            std::fs::write(&path, text(password, property, token)).unwrap();
            reloader.reload().map_err(|error| error.message().to_owned())
        };
        assert_eq!(reload("b", "x", "t").unwrap(), "applied: source.password");
        let other_form = "applied: source.password, source.password.command";
        assert_eq!(reload("{command: [get, one]}", "x", "t").unwrap(), other_form);
        assert_eq!(reload("{command: [get, two]}", "x", "t").unwrap(), "applied: source.password");
        assert_eq!(reload("{command: [get, two]}", "y", "t").unwrap(), "applied: sink.properties");
        assert_eq!(reload("{command: [get, two]}", "y", "t").unwrap(), "the configuration has not changed");
        assert!(reload("{command: [get, two]}", "y", "u").unwrap_err().starts_with("http.token changed"));
        let last = std::iter::from_fn(|| applied.try_recv().ok()).last().unwrap();
        let SinkTarget::Kafka(target) = &last.sink.target else { panic!("Kafka") };
        assert_eq!(target.properties, [("ssl.key.pem".to_owned(), "y".to_owned())]);
    }
}
