//! Addresses: the source's connection URL and the sink's URI.
//!
//! No message of this module repeats the text that it was given: it may hold a password.

use super::model::{SinkTarget, SourceAddress, SourceKind, TlsMode};
use super::problem::Refusal;
use super::secret::Secret;
use super::service::Service;
use super::suggest;
use std::path::PathBuf;
use url::Url;

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;

const SPECIAL_CHARACTERS: &str = "percent-encode special characters of user and password (@ is %40, : is %3A, \
     / is %2F, # is %23, ? is %3F, % is %25), or give the password by source.password or PGPASSWORD";

/// MySQL's port.
const MYSQL_PORT: u16 = 3306;

/// What a source URL said.
#[derive(Debug)]
pub(super) struct ParsedSource {
    pub(super) kind: SourceKind,
    pub(super) address: SourceAddress,
    pub(super) password: Option<Secret>,
    pub(super) tls_mode: Option<TlsMode>,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    /// What libpq's service file adds, where neither URL nor configuration says it.
    pub(super) service: Service,
}

/// Reads `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`, or the same with `mysql://`. `lookup`: the
/// environment, for the service that it may name.
pub(super) fn parse_source(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<ParsedSource, Refusal> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let kind = match scheme.as_deref() {
        Some("postgres" | "postgresql") => SourceKind::Postgres,
        Some("mysql" | "mariadb") => SourceKind::MySql,
        Some(other @ "kafka") => {
            return Err(Refusal::not_built(
                format!("names a {other} source, which is not built yet"),
                "use a source postgres://user@host:5432/database",
            ));
        }
        _ => {
            return Err(Refusal::new(
                "is not the address of a database",
                "write postgres://user:password@host:5432/database, or mysql://user:password@host:3306/database",
            ));
        }
    };
    let url = Url::parse(text)
        .map_err(|cause| Refusal::new(format!("cannot be read ({cause})"), SPECIAL_CHARACTERS))?;
    if url.fragment().is_some() {
        return Err(Refusal::new("holds an unescaped \"#\"", SPECIAL_CHARACTERS));
    }
    let mut found = Pieces {
        host: url.host_str().map(|h| h.trim_start_matches('[').trim_end_matches(']').to_owned()),
        port: url.port(),
        database: decode(url.path().trim_start_matches('/'))?,
        user: decode(url.username())?,
        password: url.password().map(decode).transpose()?,
        ..Pieces::default()
    };
    for (key, value) in url.query_pairs() {
        found.parameter(&key, &value)?;
    }
    let service = match kind {
        SourceKind::Postgres => Service::load(found.service.as_deref(), lookup)?,
        SourceKind::MySql if found.service.is_some() => {
            return Err(Refusal::new(
                "names a service, which only PostgreSQL has",
                "write host, user and database",
            ));
        }
        SourceKind::MySql => None,
    };
    found.finish(kind, service.unwrap_or_default())
}

#[derive(Default)]
struct Pieces {
    host: Option<String>,
    port: Option<u16>,
    database: String,
    user: String,
    password: Option<String>,
    tls_mode: Option<TlsMode>,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    service: Option<String>,
}

const PARAMETERS: [&str; 10] =
    ["host", "port", "user", "password", "dbname", "service", "sslmode", "sslrootcert", "sslcert", "sslkey"];

impl Pieces {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), Refusal> {
        match key {
            "host" => self.host = Some(value.to_owned()),
            "port" => self.port = Some(parse_port(value)?),
            "user" => self.user = value.to_owned(),
            "password" => self.password = Some(value.to_owned()),
            "dbname" => self.database = value.to_owned(),
            "service" => self.service = Some(value.to_owned()),
            "sslmode" => {
                let modes = || TlsMode::ALL.map(TlsMode::as_str).join(", ");
                self.tls_mode = Some(TlsMode::parse(value).ok_or_else(|| {
                    Refusal::new("has an sslmode that is not allowed", format!("allowed: {}", modes()))
                })?);
            }
            "sslrootcert" => self.tls_ca = Some(PathBuf::from(value)),
            "sslcert" => self.tls_cert = Some(PathBuf::from(value)),
            "sslkey" => self.tls_key = Some(PathBuf::from(value)),
            other => {
                let advice = match suggest::nearest(other, PARAMETERS) {
                    Some(near) => format!("did you mean \"{near}\"? allowed: {}", PARAMETERS.join(", ")),
                    None => format!("remove it; allowed: {}", PARAMETERS.join(", ")),
                };
                // A piece of an unescaped password may stand here: the name is not repeated.
                return Err(Refusal::new("has an unknown parameter behind the \"?\"", advice));
            }
        }
        Ok(())
    }

    fn finish(mut self, kind: SourceKind, mut service: Service) -> Result<ParsedSource, Refusal> {
        let need = |what: &str| {
            Refusal::new(format!("names no {what}"), "write postgres://user:password@host:5432/database")
        };
        let host = self.host.filter(|host| !host.is_empty()).or(service.host.take());
        let host = host.ok_or_else(|| need("host"))?;
        if self.user.is_empty() {
            self.user = service.user.take().unwrap_or_default();
        }
        if self.database.is_empty() {
            self.database = service.database.take().unwrap_or_default();
        }
        if self.user.is_empty() {
            return Err(need("user"));
        }
        if self.database.is_empty() {
            return Err(need("database"));
        }
        Ok(ParsedSource {
            kind,
            address: SourceAddress {
                host,
                port: self.port.or(service.port).unwrap_or(default_port(kind)),
                database: self.database,
                user: self.user,
            },
            password: self.password.map(Secret::new),
            tls_mode: self.tls_mode,
            tls_ca: self.tls_ca,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            service,
        })
    }
}

/// Where a product listens unless somebody says otherwise.
pub(super) fn default_port(kind: SourceKind) -> u16 {
    match kind {
        SourceKind::Postgres => DEFAULT_PORT,
        SourceKind::MySql => MYSQL_PORT,
    }
}

/// Reads a TCP port, 1 to 65535.
pub(super) fn parse_port(text: &str) -> Result<u16, Refusal> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(Refusal::new("is not a port", "write a whole number from 1 to 65535")),
    }
}

/// Undoes `%40` and its kind.
fn decode(text: &str) -> Result<String, Refusal> {
    let refuse =
        || Refusal::new("holds a \"%\" that is not followed by two hexadecimal digits", SPECIAL_CHARACTERS);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).ok_or_else(refuse)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| refuse())?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| Refusal::new("is not UTF-8 after decoding", SPECIAL_CHARACTERS))
}

const SINK_FORMS: &str = "write file:///path, s3://bucket/path, gs://bucket/path or \
     abfss://container@account.dfs.core.windows.net/path";

/// Reads the sink's URI; a path that begins with `/` or `.` is a file path. `discard:` keeps nothing.
pub(super) fn parse_sink(text: &str) -> Result<SinkTarget, Refusal> {
    if text.starts_with('/') || text.starts_with('.') {
        let path = std::path::absolute(text)
            .map_err(|cause| Refusal::new(format!("is not a path ({cause})"), SINK_FORMS))?;
        return Url::from_file_path(&path)
            .map(|uri| SinkTarget::Delta { uri: without_slash(uri) })
            .map_err(|()| Refusal::new("is not a path", SINK_FORMS));
    }
    if text == "discard:" || text == "discard://" {
        return Ok(SinkTarget::Discard);
    }
    if text == "stdout:" || text == "stdout://" || text == "-" {
        return Ok(SinkTarget::Stdout);
    }
    let Ok(uri) = Url::parse(text) else {
        return Err(Refusal::new("is not the address of a place for tables", SINK_FORMS));
    };
    if uri.password().is_some() || (!uri.username().is_empty() && !uri.scheme().starts_with("abfs")) {
        return Err(Refusal::new(
            "holds credentials",
            "give them by the environment (AWS_ACCESS_KEY_ID and so on), never in the address",
        ));
    }
    if uri.query().is_some() || uri.fragment().is_some() {
        return Err(Refusal::new("holds \"?\" or \"#\"", SINK_FORMS));
    }
    match uri.scheme() {
        "file" if !text.starts_with("file:///") => Err(Refusal::new(
            "is not an absolute file address",
            "write three slashes before the path: file:///path",
        )),
        "file" => Ok(SinkTarget::Delta { uri: without_slash(uri) }),
        "s3" | "gs" | "abfss" | "abfs" | "az" => match uri.host_str() {
            Some(host) if !host.is_empty() => Ok(SinkTarget::Delta { uri: without_slash(uri) }),
            _ => Err(Refusal::new("names no bucket", SINK_FORMS)),
        },
        "s3a" | "s3n" => Err(Refusal::new("has an unknown scheme", "write s3://bucket/path")),
        _ => Err(Refusal::new("is not the address of a place for tables", SINK_FORMS)),
    }
}

fn without_slash(mut uri: Url) -> Url {
    let path = uri.path().trim_end_matches('/').to_owned();
    uri.set_path(&path);
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_source(text: &str) -> Result<ParsedSource, Refusal> {
        super::parse_source(text, &|_| None)
    }

    #[test]
    fn a_source_url_is_taken_apart() {
        let parsed = parse_source(
            "postgresql://us%40er:p%40%2F%3A@[::1]:6000/sh%20op?sslmode=verify-full&sslrootcert=/ca.pem",
        )
        .unwrap();
        assert_eq!(
            parsed.address,
            SourceAddress { host: "::1".into(), port: 6000, database: "sh op".into(), user: "us@er".into() }
        );
        assert_eq!(parsed.password.unwrap().expose(), "p@/:");
        assert_eq!(parsed.tls_mode, Some(TlsMode::VerifyFull));
        assert_eq!(parsed.tls_ca, Some(PathBuf::from("/ca.pem")));
        let socket = parse_source("postgres:///shop?host=/run/postgresql&user=me").unwrap();
        assert_eq!((socket.address.host.as_str(), socket.address.port), ("/run/postgresql", 5432));
    }

    #[test]
    fn a_service_says_what_the_url_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services");
        let text = "[shop]\nhost=db\nport=6000\ndbname=shop\nuser=me\npassword=pw\nsslmode=require\nsslrootcert=/ca\n";
        std::fs::write(&file, text).unwrap();
        let lookup = |name: &str| match name {
            "PGSERVICEFILE" => Some(file.display().to_string()),
            "PGSERVICE" => Some("shop".to_owned()),
            _ => None,
        };
        for url in ["postgres://?service=shop", "postgres:///?service=shop", "postgresql://"] {
            let parsed = super::parse_source(url, &lookup).unwrap();
            assert_eq!(parsed.address.to_string(), "me@db:6000/shop", "{url}");
            assert_eq!((parsed.password, parsed.tls_mode), (None, None));
            assert_eq!(parsed.service.password.unwrap().expose(), "pw");
            assert_eq!(parsed.service.tls_mode, Some(TlsMode::Require));
        }
        let parsed = super::parse_source("postgres://you:own@other/db?service=shop", &lookup).unwrap();
        assert_eq!(parsed.address.to_string(), "you@other:6000/db");
        assert_eq!(parsed.password.unwrap().expose(), "own");
        let other = super::parse_source("postgres:///d?service=none", &lookup).unwrap_err();
        assert_eq!(other.problem, "names the service \"none\", which no service file defines");
        assert!(super::parse_source("mysql://u@h/d?service=shop", &lookup).is_err());
        assert_eq!(super::parse_source("mysql://u@h/d", &lookup).unwrap().address.port, 3306);
    }

    #[test]
    fn a_refused_source_says_why() {
        for (text, problem) in [
            ("shop", "is not the address of a database"),
            ("http://x/y", "is not the address of a database"),
            ("kafka://u@h/d", "names a kafka source, which is not built yet"),
            ("mysql://u@h", "names no database"),
            ("postgres://h/d", "names no user"),
            ("postgres://u@h", "names no database"),
            ("postgres:///d?user=u", "names no host"),
            ("postgres://u@h/d?sslmode=on", "has an sslmode that is not allowed"),
            ("postgres://u@h/d?ssl_mode=require", "has an unknown parameter behind the \"?\""),
            ("postgres://u:p#w@h/d", "holds an unescaped \"#\""),
            ("postgres://u:50%off@h/d", "holds a \"%\" that is not followed by two hexadecimal digits"),
        ] {
            match parse_source(text) {
                Err(refusal) => assert!(
                    refusal.problem == problem || refusal.advice == SPECIAL_CHARACTERS,
                    "{text}: {refusal:?}"
                ),
                Ok(parsed) => panic!("{text} was taken: {parsed:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_refusal_never_repeats_the_password(pw in "[ -~]{0,12}") {
            let text = format!("postgres://u:{pw}Q7xQ@h/d");
            if let Err(refusal) = parse_source(&text) {
                prop_assert!(!format!("{refusal:?}").contains("Q7xQ"), "{refusal:?}");
            }
        }

        #[test]
        fn percent_encoding_is_undone(text in any::<String>()) {
            let encoded: String = text.bytes().map(|b| format!("%{b:02X}")).collect();
            prop_assert_eq!(decode(&encoded).unwrap(), text);
        }
    }

    #[test]
    fn sinks() {
        let uri = |text: &str| match parse_sink(text) {
            Ok(SinkTarget::Delta { uri }) => uri.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(uri("file:///lake/"), "file:///lake");
        assert_eq!(uri("/lake"), "file:///lake");
        assert_eq!(uri("s3://bucket/a/"), "s3://bucket/a");
        assert_eq!(uri("abfss://c@a.dfs.core.windows.net/x"), "abfss://c@a.dfs.core.windows.net/x");
        assert!(uri("./lake").starts_with("file:///") && uri("./lake").ends_with("/lake"));
        assert_eq!(parse_sink("discard:").unwrap(), SinkTarget::Discard);
        for (text, problem) in [
            ("file://lake/x", "is not an absolute file address"),
            ("lake", "is not the address of a place for tables"),
            ("s3:///x", "names no bucket"),
            ("s3://key:secret@bucket/x", "holds credentials"),
            ("s3://bucket/x?region=y", "holds \"?\" or \"#\""),
            ("ftp://x/y", "is not the address of a place for tables"),
        ] {
            assert_eq!(parse_sink(text).unwrap_err().problem, problem, "{text}");
        }
    }
}
