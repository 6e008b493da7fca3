//! Reads keys out of the tree and collects every problem on the way.
//!
//! Each method returns `None` after it has reported why; the caller goes on with the next key, and whoever
//! puts the result together fails when anything was reported.

use super::keys;
use super::problem::{Mark, Place, Problem, Refusal, Show};
use super::secret::{Secret, SecretSource};
use super::substitute::substitute;
use super::suggest;
use super::tree::{Entry, Node, Value};
use super::units::{format_duration, format_size, parse_duration, parse_size};
use crate::error::{Code, codes};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// A section of the file; with no entries when it was not written.
#[derive(Clone, Copy)]
pub(super) struct Section<'n> {
    path: &'static str,
    entries: &'n [Entry],
}

impl<'n> Section<'n> {
    /// The entry of that key.
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Which of these keys were written.
    pub(super) fn written(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| self.entry(key).is_some()).collect()
    }
}

/// A scalar after substitution.
struct Scalar {
    value: String,
    /// What may be shown: the value, or the text as written when it came from the environment.
    shown: String,
    mark: Mark,
}

/// Whether messages may repeat a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// They may.
    Value,
    /// It may hold a secret.
    Never,
}

pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Reader { file, text, lookup, problems: Vec::new() }
    }

    /// The environment.
    pub(super) fn lookup(&self) -> &'a dyn Fn(&str) -> Option<String> {
        self.lookup
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Adds a problem with its place.
    pub(super) fn report(
        &mut self,
        code: Code,
        mark: Mark,
        show: Show,
        message: String,
        advice: impl Into<String>,
    ) {
        let place = Some(Place::new(self.file, self.text, mark, show));
        self.problems.push(Problem { code, message, advice: Some(advice.into()), place });
    }

    /// Adds a problem that has no place: something is missing, or stands on the command line.
    pub(super) fn report_missing(&mut self, message: impl Into<String>, advice: impl Into<String>) {
        self.problems.push(Problem::new(codes::CF003, message, advice));
    }

    /// Adds a problem with a value of the command line.
    pub(super) fn report_argument(&mut self, argument: &str, refusal: Refusal) {
        let message = format!("{argument} {}", refusal.problem);
        let code = if refusal.code == codes::CF003 { codes::CF005 } else { refusal.code };
        self.problems.push(Problem::new(code, message, refusal.advice));
    }

    /// Opens a section and reports its unknown keys.
    pub(super) fn section<'n>(&mut self, node: Option<&'n Node>, path: &'static str) -> Section<'n> {
        let empty = Section { path, entries: &[] };
        let Some(node) = node.filter(|node| !node.is_null()) else { return empty };
        let Value::Map(entries) = &node.value else {
            let message = match path {
                "" => format!("a configuration is a section with keys, this is {}", node.kind()),
                _ => format!("{path} is a section with keys, found {}", node.kind()),
            };
            let keys = keys::section(path).map_or(String::new(), |s| s.built.join(", "));
            self.report(codes::CF003, node.mark, Show::Nothing, message, format!("its keys are: {keys}"));
            return empty;
        };
        for entry in entries {
            self.check_key(path, entry);
        }
        Section { path, entries }
    }

    fn check_key(&mut self, path: &'static str, entry: &Entry) {
        let Some(known) = keys::section(path) else { return };
        if known.built.contains(&entry.key.as_str()) {
            return;
        }
        let name = keys::join(path, &entry.key);
        if known.later.contains(&entry.key.as_str()) {
            let advice = "remove the key: it would have no effect, so it is refused".to_owned();
            let message = format!("{name} is not built yet");
            return self.report(codes::CF004, entry.key_mark, Show::UpToMark, message, advice);
        }
        let near = suggest::nearest(&entry.key, known.built.iter().chain(known.later).copied());
        let advice = match (near, keys::home_of(&entry.key)) {
            (Some(near), _) => format!("did you mean \"{near}\"?"),
            (None, Some(home)) => format!("the key belongs in another section: {home}"),
            (None, None) => format!("remove it; the keys here are: {}", known.built.join(", ")),
        };
        let place = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in {path}") };
        // Broken YAML turns values into keys, and near a secret a key may be one: then it is not repeated.
        let repeat = path != "source.password" && is_word(&entry.key);
        let (message, show) = if repeat {
            (format!("unknown key \"{}\" {place}", entry.key), Show::UpToMark)
        } else {
            (format!("unknown key {place}"), Show::Nothing)
        };
        self.report(codes::CF002, entry.key_mark, show, message, advice);
    }

    fn scalar(&mut self, name: &str, node: &Node) -> Option<Scalar> {
        let Value::Scalar { text, .. } = &node.value else {
            let message = format!("{name} is a single value, found {}", node.kind());
            self.report(codes::CF003, node.mark, Show::Nothing, message, format!("write \"{name}: value\""));
            return None;
        };
        if node.is_null() {
            let message = format!("{name} has no value");
            let advice = "give it a value, or remove the key to get the default";
            self.report(codes::CF003, node.mark, Show::Nothing, message, advice);
            return None;
        }
        match substitute(text, self.lookup) {
            Ok(value) => {
                let shown = match &value {
                    std::borrow::Cow::Borrowed(_) => format!("\"{}\"", shorten(text)),
                    std::borrow::Cow::Owned(_) => format!("the value of \"{}\"", shorten(text)),
                };
                Some(Scalar { value: value.into_owned(), shown, mark: node.mark })
            }
            Err(error) => {
                let message = format!("{name}: {}", error.message);
                self.report(codes::CF003, node.mark, Show::Line, message, error.advice);
                None
            }
        }
    }

    /// A scalar, read by `parse`. `None` when it was not written or is wrong.
    pub(super) fn parsed<T>(
        &mut self,
        section: Section<'_>,
        key: &str,
        repeat: Repeat,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let entry = section.entry(key)?;
        let name = keys::join(section.path, key);
        if repeat == Repeat::Value {
            return self.parsed_node(&name, &entry.value, parse);
        }
        let scalar = self.scalar(&name, &entry.value)?;
        match parse(&scalar.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                // The caret stands under the key, and nothing behind it is shown.
                let message = format!("{name} {}", refusal.problem);
                self.report(refusal.code, entry.key_mark, Show::UpToMark, message, refusal.advice);
                None
            }
        }
    }

    fn parsed_node<T>(
        &mut self,
        name: &str,
        node: &Node,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let scalar = self.scalar(name, node)?;
        match parse(&scalar.value) {
            Ok(value) => Some(value),
            Err(refusal) => {
                let message = format!("{name}: {} {}", scalar.shown, refusal.problem);
                self.report(refusal.code, scalar.mark, Show::Line, message, refusal.advice);
                None
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&mut self, section: Section<'_>, key: &str) -> Option<String> {
        self.parsed(section, key, Repeat::Value, not_empty)
    }

    /// One of some words; those of `later` are known and not built yet.
    pub(super) fn choice<T: Copy>(
        &mut self,
        section: Section<'_>,
        key: &str,
        allowed: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        // YAML reads a bare `null` as "nothing"; where it is one of the words, it is that word.
        let node = section.entry(key).map(|entry| &entry.value.value);
        if let Some(Value::Scalar { text, plain: true }) = node
            && text == "null"
            && let Some((_, value)) = allowed.iter().find(|(word, _)| word == text)
        {
            return Some(*value);
        }
        self.parsed(section, key, Repeat::Value, |text| {
            if let Some((_, value)) = allowed.iter().find(|(word, _)| *word == text) {
                return Ok(*value);
            }
            let words = allowed.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            if later.contains(&text) {
                return Err(Refusal::not_built("is not built yet", format!("allowed now: {words}")));
            }
            Err(match suggest::nearest(text, allowed.iter().map(|(word, _)| *word)) {
                Some(near) if allowed.len() > 1 => {
                    Refusal::new("is not allowed", format!("did you mean \"{near}\"? allowed: {words}"))
                }
                _ => Refusal::new("is not allowed", format!("allowed: {words}")),
            })
        })
    }

    /// `true` or `false`, nothing else.
    pub(super) fn boolean(&mut self, section: Section<'_>, key: &str) -> Option<bool> {
        self.choice(section, key, &[("true", true), ("false", false)], &[])
    }

    /// A whole number within limits.
    pub(super) fn number(
        &mut self,
        section: Section<'_>,
        key: &str,
        limits: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.parsed(section, key, Repeat::Value, |text| match text.parse::<u64>() {
            Ok(number) => within(number, limits, |n| n.to_string()),
            Err(_) => Err(Refusal::new(
                "is not a whole number",
                format!("write a number from {}", span(&limits, |n| n)),
            )),
        })
    }

    /// A duration within limits.
    pub(super) fn duration(
        &mut self,
        section: Section<'_>,
        key: &str,
        limits: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.parsed(section, key, Repeat::Value, |text| {
            within(parse_duration(text)?, limits, |d| format_duration(*d))
        })
    }

    /// A size in bytes within limits.
    pub(super) fn size(
        &mut self,
        section: Section<'_>,
        key: &str,
        limits: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.parsed(section, key, Repeat::Value, |text| {
            within(parse_size(text)?, limits, |n| format_size(*n))
        })
    }

    /// A list, each item read by `parse`. Wrong items are reported and left out.
    pub(super) fn list<T>(
        &mut self,
        section: Section<'_>,
        key: &str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<Vec<T>> {
        let entry = section.entry(key)?;
        let name = keys::join(section.path, key);
        let Value::List(items) = &entry.value.value else {
            let message = format!("{name} is a list, found {}", entry.value.kind());
            self.report(
                codes::CF003,
                entry.key_mark,
                Show::UpToMark,
                message,
                format!("write {key}: {example}"),
            );
            return None;
        };
        Some(items.iter().filter_map(|item| self.parsed_node(&name, item, &parse)).collect())
    }

    /// A section of any keys with single values. No message repeats a value: it may be a secret.
    pub(super) fn pairs(&mut self, section: Section<'_>, key: &str) -> Option<Vec<(String, String)>> {
        let entry = section.entry(key)?;
        let name = keys::join(section.path, key);
        let Value::Map(entries) = &entry.value.value else {
            let message = format!("{name} is a section, found {}", entry.value.kind());
            let advice = format!("write {key}: {{name: value}}");
            self.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
            return None;
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for pair in entries {
            pairs.push((pair.key.clone(), self.scalar(&name, &pair.value)?.value));
        }
        Some(pairs)
    }

    /// A secret: text, or a section that says where it is. No message repeats it.
    pub(super) fn secret(
        &mut self,
        section: Section<'_>,
        key: &str,
        path: &'static str,
    ) -> Option<SecretSource> {
        let entry = section.entry(key)?;
        let Value::Map(_) = &entry.value.value else {
            return match &entry.value.value {
                Value::Scalar { .. } => self
                    .parsed(section, key, Repeat::Never, not_empty)
                    .map(|text| SecretSource::Plain(Secret::new(text))),
                Value::List(_) | Value::Map(_) => self.wrong_secret(entry, path),
            };
        };
        let inner = self.section(Some(&entry.value), path);
        match inner.written(&["file", "env", "command"]).as_slice() {
            ["file"] => self.text(inner, "file").map(|path| SecretSource::File(PathBuf::from(path))),
            ["env"] => self.text(inner, "env").map(SecretSource::Env),
            ["command"] => {
                let words = self.list(inner, "command", "[program, argument]", |t| Ok(t.to_owned()))?;
                if words.is_empty() {
                    self.wrong_secret(entry, path)
                } else {
                    Some(SecretSource::Command(words))
                }
            }
            _ => self.wrong_secret(entry, path),
        }
    }

    fn wrong_secret(&mut self, entry: &Entry, path: &str) -> Option<SecretSource> {
        let message = format!("{path} does not say where the secret is");
        let advice = format!(
            "write one of {0}: {{file: /path}}, {0}: {{env: NAME}}, {0}: {{command: [program, argument]}}, or the \
             text itself",
            entry.key
        );
        self.report(codes::CF003, entry.key_mark, Show::UpToMark, message, advice);
        None
    }
}

/// Whether a key is written like a key.
pub(super) fn is_word(key: &str) -> bool {
    (1..=40).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Any text but none.
pub(super) fn not_empty(text: &str) -> Result<String, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("is empty", "give it a value, or remove the key to get the default"));
    }
    Ok(text.to_owned())
}

fn within<T: PartialOrd>(
    value: T,
    limits: RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, Refusal> {
    if limits.contains(&value) {
        return Ok(value);
    }
    Err(Refusal::new("is out of range", format!("allowed: {}", span(&limits, show))))
}

fn span<'r, T, D: Display>(limits: &'r RangeInclusive<T>, show: impl Fn(&'r T) -> D) -> String {
    format!("{} to {}", show(limits.start()), show(limits.end()))
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(60).chain(['…']).collect()
}
