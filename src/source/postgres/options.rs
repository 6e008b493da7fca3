//! How to reach one PostgreSQL database, from a URL or from a configuration file.
//!
//! The URL is libpq's (`postgres://user:password@host1,host2:5433/db?sslmode=verify-full`), read by us
//! because general URL parsers refuse several hosts and sockets. What is not understood is refused by
//! name: an ignored `sslmode` misspelt as `ssl_mode` would be a plaintext password.
//!
//! The default `sslmode` is `prefer`, as in libpq: TLS when the server has it, without checking who
//! answers. It keeps the password from being read on the wire only by luck, so a password is never sent
//! in clear without TLS whatever the mode ([`super::auth`]); use `verify-full` over any network.

use crate::error::{Error, Result, codes};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A value that must not be seen: its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The secret itself; for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

type Asking = Pin<Box<dyn Future<Output = Result<Option<Secret>>> + Send>>;

/// Where the password comes from, asked again when the server refuses the one that is known: so a rotated
/// password, or a token that expired, needs no restart. Clones share what was learnt.
#[derive(Clone)]
pub struct Renewal {
    ask: Arc<dyn Fn() -> Asking + Send + Sync>,
    known: Arc<Mutex<Option<Secret>>>,
}

impl Renewal {
    /// Asks `ask`.
    pub fn new(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self {
        Renewal { ask: Arc::new(ask), known: Arc::default() }
    }

    fn known(&self) -> Option<Secret> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PartialEq for Renewal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.known, &other.known)
    }
}

impl Eq for Renewal {}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewal")
    }
}

/// How much TLS is demanded; libpq's `sslmode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS when the server offers it, else not; nothing is verified.
    #[default]
    Prefer,
    /// TLS or nothing; the certificate is verified only when a CA file is given.
    Require,
    /// TLS, and the certificate comes from a trusted CA.
    VerifyCa,
    /// TLS, a trusted CA, and the certificate names the host.
    VerifyFull,
}

impl TlsMode {
    /// libpq's name.
    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for TlsMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                Error::new(codes::CF003, format!("sslmode \"{text}\" is not known"))
                    .with_try("one of disable, prefer, require, verify-ca, verify-full")
            })
    }
}

/// One place where the server may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// A name or an address.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix-domain socket. TLS is never used on one, as in libpq.
    Unix {
        /// The directory that holds the socket.
        directory: PathBuf,
        /// The port in the socket's name, `.s.PGSQL.<port>`.
        port: u16,
    },
}

impl Endpoint {
    /// The path of a Unix-domain socket.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match self {
            Endpoint::Tcp { .. } => None,
            Endpoint::Unix { directory, port } => Some(directory.join(format!(".s.PGSQL.{port}"))),
        }
    }

    fn parse(host: String, port: u16) -> Self {
        if host.starts_with('/') {
            Endpoint::Unix { directory: PathBuf::from(host), port }
        } else {
            Endpoint::Tcp { host, port }
        }
    }

    /// Whether no network lies between.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix { .. } => true,
            Endpoint::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { directory, port } => write!(f, "{}/.s.PGSQL.{port}", directory.display()),
        }
    }
}

/// Everything that a connection to the source needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PgOptions {
    /// Where the server may be, tried in order. With more than one, a server in recovery is passed over.
    pub endpoints: Vec<Endpoint>,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Password, if any.
    pub password: Option<Secret>,
    /// Where a newer one comes from.
    pub renewal: Option<Renewal>,
    /// How much TLS is demanded.
    pub tls: TlsMode,
    /// A file of CA certificates (PEM); without one, `verify-*` uses the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key (PEM), for a server that asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A slot that is made is kept on standbys, too, where the server can (PostgreSQL 17).
    pub failover: bool,
    /// Name of the replication slot.
    pub slot: String,
    /// Name of the publication. Tables without a key go into a second one, `<publication>_insert`.
    pub publication: String,
    /// Name of the pipeline: shows as `strandline/<pipeline>` in `pg_stat_activity`.
    pub pipeline: String,
    /// Bound on connecting and logging in.
    pub connect_timeout: Duration,
    /// How often an idle pipeline writes a heartbeat; zero: never.
    pub heartbeat: Duration,
    /// SQL that is run at each beat.
    pub heartbeat_action: Option<String>,
}

impl PgOptions {
    /// Parses a `postgres://` URL. Slot and publication get their defaults from `pipeline`.
    ///
    /// Errors: CF003 names what is wrong, never the password.
    pub fn from_url(url: &str, pipeline: &str) -> Result<Self> {
        let parts = UrlParts::split(url)?;
        let mut options = PgOptions {
            endpoints: Vec::new(),
            database: decode(parts.path)?,
            user: parts.user.map(decode).transpose()?.unwrap_or_default(),
            password: parts.password.map(decode).transpose()?.map(Secret),
            renewal: None,
            tls: TlsMode::default(),
            ca: None,
            identity: None,
            failover: true,
            slot: default_slot(pipeline),
            publication: default_publication(pipeline),
            pipeline: pipeline.to_owned(),
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            heartbeat_action: None,
        };
        let (mut hosts, mut ports) = split_hosts(parts.hosts)?;
        for (name, value) in parts.query {
            options.set_parameter(&name, value, &mut hosts, &mut ports)?;
        }
        options.endpoints = endpoints(hosts, ports)?;
        if options
            .identity
            .as_ref()
            .is_some_and(|(cert, key)| cert.as_os_str().is_empty() || key.as_os_str().is_empty())
        {
            return Err(bad("the source URL has one of sslcert and sslkey").with_try("give both, or none"));
        }
        if options.user.is_empty() {
            return Err(Error::new(codes::CF003, "the source URL names no user")
                .with_try("postgres://USER@HOST/DATABASE"));
        }
        if options.database.is_empty() {
            options.database.clone_from(&options.user);
        }
        Ok(options)
    }

    fn set_parameter(
        &mut self,
        name: &str,
        value: String,
        hosts: &mut Vec<String>,
        ports: &mut Vec<Option<u16>>,
    ) -> Result<()> {
        match name {
            "sslmode" => self.tls = value.parse()?,
            "sslcert" => {
                self.identity = Some((PathBuf::from(value), self.identity.take().unwrap_or_default().1))
            }
            "sslkey" => {
                self.identity = Some((self.identity.take().unwrap_or_default().0, PathBuf::from(value)))
            }
            "sslrootcert" if value == "system" => self.ca = None,
            "sslrootcert" => self.ca = Some(PathBuf::from(value)),
            "host" => {
                *hosts = value.split(',').map(str::to_owned).collect();
                if ports.len() != hosts.len() && ports.iter().any(Option::is_none) {
                    ports.clear();
                }
            }
            "port" => *ports = value.split(',').map(|p| parse_port(p).map(Some)).collect::<Result<_>>()?,
            "user" => self.user = value,
            "password" => self.password = Some(Secret(value)),
            "dbname" => self.database = value,
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| bad("connect_timeout is not a number"))?;
                // libpq: zero means no bound; ours is an hour, so that nothing waits for ever.
                self.connect_timeout = Duration::from_secs(if seconds == 0 { 3600 } else { seconds });
            }
            _ => {
                return Err(bad(format!("the source URL has a parameter \"{name}\" that is not known"))
                    .with_try(
                        "known: sslmode, sslrootcert, sslcert, sslkey, host, port, user, password, dbname, connect_timeout",
                    ));
            }
        }
        Ok(())
    }

    /// These options with the newest password that is known.
    pub fn current(&self) -> PgOptions {
        let known = self.renewal.as_ref().and_then(Renewal::known);
        PgOptions { password: known.or_else(|| self.password.clone()), ..self.clone() }
    }

    /// Asks for a newer password than `refused`. `None`: there is none.
    ///
    /// Errors: CF003 when it cannot be asked for.
    pub async fn renewed(&self, refused: &PgOptions) -> Result<Option<PgOptions>> {
        let Some(renewal) = &self.renewal else { return Ok(None) };
        let found = (renewal.ask)().await?;
        if found.is_none() || found == refused.password {
            return Ok(None);
        }
        *renewal.known.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(Some(self.current()))
    }

    /// Server and database for messages: no user, no secret.
    pub fn target(&self) -> String {
        let places: Vec<String> = self.endpoints.iter().map(Endpoint::to_string).collect();
        format!("{}/{}", places.join(","), self.database)
    }

    /// How our connections show in `pg_stat_activity`. The server cuts it after 63 bytes.
    pub fn application_name(&self) -> String {
        let mut name = format!("strandline/{}", self.pipeline);
        name.truncate(63);
        name
    }

    /// Name of the publication for tables whose updates and deletes must not be published.
    pub fn insert_publication(&self) -> String {
        // Identifiers end at 63 bytes in the server; a silent cut would make both names one.
        let mut name = self.publication.clone();
        while name.len() > 63 - "_insert".len() {
            name.pop();
        }
        name + "_insert"
    }
}

/// The slot's default name: a pipeline's name in the letters that slots may have.
pub fn default_slot(pipeline: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name = pipeline.to_ascii_lowercase();
    let name: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).take(50).collect();
    format!("strandline_{name}")
}

/// The publication's default name.
pub fn default_publication(pipeline: &str) -> String {
    default_slot(pipeline)
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(codes::CF003, message)
}

struct UrlParts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    hosts: &'a str,
    path: &'a str,
    query: Vec<(String, String)>,
}

impl<'a> UrlParts<'a> {
    fn split(url: &'a str) -> Result<Self> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(
            || {
                bad("the source URL does not begin with \"postgres://\"")
                    .with_try("postgres://USER@HOST/DATABASE")
            },
        )?;
        if rest.contains('#') {
            return Err(bad("the source URL contains \"#\"").with_try("write it as %23"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = match login.map(|l| l.split_once(':')) {
            None => (None, None),
            Some(None) => (login, None),
            Some(Some((user, password))) => (Some(user), Some(password)),
        };
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| bad("a parameter of the source URL has no \"=\""))?;
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(UrlParts { user, password, hosts, path, query: pairs })
    }
}

fn split_hosts(text: &str) -> Result<(Vec<String>, Vec<Option<u16>>)> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for part in text.split(',') {
        let (host, port) = if let Some(v6) = part.strip_prefix('[') {
            let (host, after) =
                v6.split_once(']').ok_or_else(|| bad("the source URL has an unclosed \"[\""))?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or_else(|| bad("text after \"]\" in the source URL"))?),
            };
            (host, port)
        } else {
            part.split_once(':').map_or((part, None), |(host, port)| (host, Some(port)))
        };
        hosts.push(decode(host)?);
        ports.push(port.filter(|p| !p.is_empty()).map(parse_port).transpose()?);
    }
    Ok((hosts, ports))
}

fn endpoints(hosts: Vec<String>, ports: Vec<Option<u16>>) -> Result<Vec<Endpoint>> {
    let port = |i: usize| match ports.len() {
        0 => Ok(5432),
        1 => Ok(ports.first().copied().flatten().unwrap_or(5432)),
        n if n == hosts.len() => Ok(ports.get(i).copied().flatten().unwrap_or(5432)),
        n => Err(bad(format!("the source URL has {} hosts but {n} ports", hosts.len()))),
    };
    let ports: Vec<u16> = (0..hosts.len()).map(port).collect::<Result<_>>()?;
    let name = |host: String| if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(hosts.into_iter().zip(ports).map(|(host, port)| Endpoint::parse(name(host), port)).collect())
}

fn parse_port(text: &str) -> Result<u16> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(bad(format!("\"{text}\" is not a port"))),
    }
}

/// Percent-decoding; a `%` that begins no escape is refused, since the password may hold one.
fn decode(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |i: usize| rest.get(i).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(bad("the source URL has a \"%\" that begins no escape").with_try("write % as %25"));
        };
        // Two hexadecimal digits always fit.
        bytes.push(u8::try_from(high * 16 + low).unwrap_or(0));
        rest = rest.get(2..).unwrap_or(&[]);
    }
    if bytes.contains(&0) {
        return Err(bad("the source URL has a zero byte"));
    }
    String::from_utf8(bytes).map_err(|_| bad("the source URL is not UTF-8 after decoding"))
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
