//! Secrets: where they come from, and what keeps them out of logs and messages.
//!
//! A [`SecretSource`] says *where* a secret is; it is read when a connection is made, and again after the
//! server refused it, so that rotation needs no restart. A [`Secret`] is the text itself. Neither can be
//! printed or serialised. [`redact`] is the second line of defence: it masks what looks like a secret in
//! text that people typed (a line of the configuration file, an argument).

use crate::error::{Error, Result, codes};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a secret command may run.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// The text of a secret. `Debug` and `Display` print [`MASK`]; the memory is overwritten on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<SecretBytes>);

#[derive(PartialEq, Eq)]
struct SecretBytes(Vec<u8>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from dropping the store: without it nobody reads the buffer again.
        std::hint::black_box(&self.0);
    }
}

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Arc::new(SecretBytes(text.into().into_bytes())))
    }

    /// The text, for the one place that hands it to the server.
    pub fn expose(&self) -> &str {
        // Made from a `String` and never changed, so it is always UTF-8.
        std::str::from_utf8(&self.0.0).unwrap_or_default()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Where a secret is kept.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Not configured: the environment variable named here is used when it is set, else nothing.
    Ambient(&'static str),
    /// In the configuration itself.
    Plain(Secret),
    /// In a file; one line break at its end is not part of it.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// On the standard output of a command; one line break at its end is not part of it.
    Command(Vec<String>),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl SecretSource {
    /// Reads the secret now. `None` only for [`SecretSource::Ambient`] with nothing set. An empty secret is none: what
    /// is empty by a slip (a file that is being replaced, a variable without a value) would open what it should close.
    ///
    /// Errors: CF003 when the file, variable or command does not give it, or gives nothing.
    pub async fn resolve(&self) -> Result<Option<Secret>> {
        match self {
            SecretSource::Ambient(name) => {
                Ok(std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new))
            }
            SecretSource::Plain(secret) => Ok(Some(secret.clone())),
            SecretSource::Env(name) => match std::env::var(name) {
                Ok(text) if text.is_empty() => Err(Error::new(
                    codes::CF003,
                    format!("the secret's environment variable \"{name}\" is empty"),
                )
                .with_try(format!(
                    "set {name} in the environment of the strandline process, or leave the key out"
                ))),
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(_) => Err(Error::new(
                    codes::CF003,
                    format!("the secret's environment variable \"{name}\" is not set"),
                )
                .with_try(format!("set {name} in the environment of the strandline process"))),
            },
            SecretSource::File(path) => match tokio::fs::read_to_string(path).await {
                Ok(text) if without_line_break(&text).is_empty() => Err(Error::new(
                    codes::CF003,
                    format!("the secret's file \"{}\" is empty", path.display()),
                )
                .with_try("write the secret into it, or leave the key out")),
                Ok(text) => Ok(Some(Secret::new(without_line_break(&text)))),
                Err(cause) => Err(Error::new(
                    codes::CF003,
                    format!("cannot read the secret's file \"{}\"", path.display()),
                )
                .with_source(cause)
                .with_try("check that the file exists and that strandline's user may read it")),
            },
            SecretSource::Command(words) => run_command(words).await.map(Some),
        }
    }

    /// Where the secret is, without the secret, for people.
    pub fn describe(&self) -> String {
        match self {
            SecretSource::Ambient(name) => format!("environment variable {name}, if set"),
            SecretSource::Plain(_) => "given in the configuration".to_owned(),
            SecretSource::File(path) => format!("file {}", path.display()),
            SecretSource::Env(name) => format!("environment variable {name}"),
            SecretSource::Command(words) => {
                format!("command {}", words.first().map_or("", String::as_str))
            }
        }
    }
}

async fn run_command(words: &[String]) -> Result<Secret> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Error::new(codes::CF003, "the secret's command is empty"));
    };
    let failed =
        |what: String| Error::new(codes::CF003, format!("the secret's command \"{program}\" {what}"));
    let child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(COMMAND_LIMIT, child).await {
        Err(_) => return Err(failed(format!("gave nothing within {} s", COMMAND_LIMIT.as_secs()))),
        Ok(Err(cause)) => return Err(failed("cannot be started".to_owned()).with_source(cause)),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        return Err(failed(format!("failed ({})", output.status))
            .with_try("run the command by hand, as strandline's user, to see its message"));
    }
    match String::from_utf8(output.stdout) {
        Ok(text) if !without_line_break(&text).is_empty() => Ok(Secret::new(without_line_break(&text))),
        Ok(_) => Err(failed("printed nothing".to_owned())),
        Err(_) => Err(failed("printed something that is not UTF-8".to_owned())),
    }
}

fn without_line_break(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Whether a key of that name may hold a secret. Generous, because misspelt keys count too.
pub(super) fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["pas", "pw", "secret", "token", "cred"].iter().any(|part| key.contains(part))
}

/// The byte ranges of one line that may be secrets: passwords in addresses, and values of keys that
/// [`looks_secret`]. Masks too much rather than too little.
pub(super) fn secret_ranges(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    address_ranges(line, &mut found);
    parameter_ranges(line, &mut found);
    key_ranges(line, &mut found);
    found.retain(|range| !range.is_empty());
    found.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// `scheme://user:SECRET@host`, also with a slip in `://`. The last `@` of the line counts, because a
/// password typed without escaping may hold anything.
fn address_ranges(line: &str, found: &mut Vec<Range<usize>>) {
    for (start, _) in line.match_indices("//") {
        let rest = &line[start + 2..];
        if let (Some(colon), Some(at)) = (rest.find(':'), rest.rfind('@'))
            && colon < at
        {
            found.push(start + 2 + colon + 1..start + 2 + at);
        }
    }
    for (at, _) in line.match_indices('@') {
        let from = line[..at].rfind([' ', '"', '\'']).map_or(0, |space| space + 1);
        let word = &line[from..at];
        if let (Some(colon), false) = (word.find(':'), word.contains("//")) {
            found.push(from + colon + 1..at);
        }
    }
}

/// `?password=SECRET` and `--password=SECRET`.
fn parameter_ranges(line: &str, found: &mut Vec<Range<usize>>) {
    for (equals, _) in line.match_indices('=') {
        let name_start = line[..equals]
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '.'))
            .map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
        if looks_secret(&line[name_start..equals]) {
            let value = &line[equals + 1..];
            let end = value.find(['&', ' ', '"', '\'']).unwrap_or(value.len());
            found.push(equals + 1..equals + 1 + end);
        }
    }
}

/// `password: SECRET` to the end of the line, unless the value says where the secret is.
fn key_ranges(line: &str, found: &mut Vec<Range<usize>>) {
    for (colon, _) in line.match_indices(':') {
        let before = line[..colon].trim_end_matches([' ', '"', '\'']);
        let name_start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        if !looks_secret(&before[name_start..]) {
            continue;
        }
        let value_start = colon + 1 + (line[colon + 1..].len() - line[colon + 1..].trim_start().len());
        let value = &line[value_start..];
        let says_where = value.strip_prefix('{').map(str::trim_start).is_some_and(|inner| {
            ["file", "env", "command"]
                .iter()
                .any(|key| inner.strip_prefix(key).is_some_and(|r| r.starts_with(':')))
        });
        if !says_where {
            found.push(value_start..line.trim_end().len().max(value_start));
        }
    }
}

/// The text with everything of [`secret_ranges`] masked, line by line.
pub fn redact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let mut from = 0;
        for range in secret_ranges(line) {
            out.push_str(&line[from..range.start]);
            out.push_str(MASK);
            from = range.end;
        }
        out.push_str(&line[from..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", SecretSource::Plain(secret.clone())),
            "*** *** given in the configuration"
        );
        assert_eq!(secret.expose(), "hunter2");
        let words = ["get", "--key=hunter2"].map(str::to_owned).to_vec();
        assert_eq!(format!("{:?}", SecretSource::Command(words)), "command get");
    }

    #[test]
    fn addresses_parameters_and_keys_are_masked() {
        for (given, shown) in [
            ("url: postgres://u:pw@h/db", "url: postgres://u:***@h/db"),
            ("postgres://u:p@ss/w:rd@h/db", "postgres://u:***@h/db"),
            ("postgres://u@h:5432/db", "postgres://u@h:5432/db"),
            ("postgres //u:pw@h/db", "postgres //u:***@h/db"),
            ("url: \"postgres:/u:pw@h/db\"", "url: \"postgres:***@h/db\""),
            ("postgres://h/db?password=x&sslmode=require", "postgres://h/db?password=***&sslmode=require"),
            ("  password: hunter2", "  password: ***"),
            ("  pasword: \"hunter2\"", "  pasword: ***"),
            ("  password: {file: /run/secrets/pg}", "  password: {file: /run/secrets/pg}"),
            ("  password: {plain: hunter2}", "  password: ***"),
            ("name: shop", "name: shop"),
        ] {
            assert_eq!(redact(given), shown);
        }
    }

    proptest! {
        #[test]
        fn no_password_of_an_address_survives(pw in "[ -~éü€]{1,20}", tail in "[ -~]{0,20}") {
            // A mark that stands nowhere else, so that finding it means that it leaked.
            let pw = format!("{pw}Q7x{pw}");
            let line = format!("url: postgres://user:{pw}@host/db {tail}");
            prop_assert!(!redact(&line).contains("Q7x"));
        }

        #[test]
        fn redaction_takes_any_text(text in any::<String>()) {
            let _shown: String = redact(&text);
            for line in text.split('\n') {
                for range in secret_ranges(line) {
                    prop_assert!(line.is_char_boundary(range.start) && line.is_char_boundary(range.end));
                }
            }
        }
    }

    #[tokio::test]
    async fn secrets_are_read_from_files_and_commands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pw");
        std::fs::write(&path, "from file\n").unwrap();
        let file = SecretSource::File(path.clone()).resolve().await.unwrap().unwrap();
        assert_eq!(file.expose(), "from file");
        let words = ["printf", "from command\\n"].map(str::to_owned).to_vec();
        let command = SecretSource::Command(words).resolve().await.unwrap().unwrap();
        assert_eq!(command.expose(), "from command");
        for empty in ["", "\n", "\r\n"] {
            std::fs::write(&path, empty).unwrap();
            let error = SecretSource::File(path.clone()).resolve().await.unwrap_err();
            assert_eq!(error.code(), codes::CF003);
            assert!(error.message().contains("is empty"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(SecretSource::File(path).resolve().await.unwrap_err().code(), codes::CF003);
        let failing = SecretSource::Command(vec!["false".to_owned()]).resolve().await.unwrap_err();
        assert!(failing.message().contains("failed"), "{failing}");
        let missing = SecretSource::Env("STRANDLINE_TEST_NOT_SET".to_owned()).resolve().await.unwrap_err();
        assert!(missing.message().contains("STRANDLINE_TEST_NOT_SET"));
    }
}
