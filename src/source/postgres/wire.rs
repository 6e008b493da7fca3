//! Our own connection: login, simple queries, COPY out, and the start of replication.
//!
//! `tokio-postgres` cannot replicate and copies every COPY row into a message of its own; this client
//! does both over `postgres-protocol`'s encoders. Every connection pins the settings that change how
//! values are written ([`pinned`]) and looks whether they hold, since a role or a pooler may have others.
//!
//! Reading is cancel-safe: what has come stays in the buffer.

use super::auth::{Channel, Login, Step};
use super::fault::{ServerError, connection, protocol};
use super::frame::{Frame, FrameBuffer};
use super::options::{Endpoint, PgOptions, TlsMode};
use super::socket::{self, BurstSocket, Duplex, Raw};
use super::tls;
use crate::error::{Error, Result, codes};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_rustls::TlsConnector;
use tracing::{debug, warn};

/// What the connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Replication commands (a walsender of this database).
    Replication,
    /// Queries and COPY.
    Query,
    /// One question: what `lc_monetary` is where nobody pins it.
    Money,
}

/// The settings that every connection pins, as startup parameters: they outrank `ALTER ROLE … SET`.
/// `row_security = off` makes a policy an error, where it would hide rows.
pub fn pinned(options: &PgOptions, purpose: Purpose) -> Vec<(&'static str, String)> {
    // Making a slot waits for running transactions by heavyweight locks: bounded by us, not by a lock
    // timeout that would fire on the first of them.
    let lock_timeout = if purpose == Purpose::Replication { "0" } else { "30s" };
    [
        ("application_name", options.application_name().as_str()),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("lc_monetary", "C"),
        ("search_path", ""),
        ("standard_conforming_strings", "on"),
        ("row_security", "off"),
        ("quote_all_identifiers", "off"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_deferrable", "off"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "0"),
        ("lock_timeout", lock_timeout),
        ("idle_in_transaction_session_timeout", "0"),
    ]
    .into_iter()
    .filter(|(name, _)| purpose != Purpose::Money || *name != "lc_monetary")
    .map(|(name, value)| (name, value.to_owned()))
    .collect()
}

/// What must be so once logged in, with the value that `pg_settings` shows.
const VERIFIED: [(&str, &str); 10] = [
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("extra_float_digits", "3"),
    ("IntervalStyle", "postgres"),
    ("lc_monetary", "C"),
    ("row_security", "off"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("TimeZone", "UTC"),
];

/// No answer to a statement takes longer, unless whoever waits has a deadline of their own: making a slot waits
/// for five minutes. TCP notices a peer that is gone, but not one that answers in its place.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// Switches off the limits that not every version knows (a startup parameter that a server does not know
/// refuses the login).
const LIFT_LIMITS: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
     WHERE name IN ('transaction_timeout', 'idle_session_timeout')";

/// Fails unless every pinned setting holds. `rows` are (name, value) of `pg_settings`.
pub fn verify_pinned(rows: &BTreeMap<String, String>, encoding: &str) -> Result<()> {
    for (name, expected) in VERIFIED {
        let expected = if name == "client_encoding" { encoding } else { expected };
        let found = rows.get(name).map_or("", String::as_str);
        let holds = if name == "DateStyle" { found.starts_with(expected) } else { found == expected };
        if !holds {
            return Err(Error::new(
                codes::PG014,
                format!("the connection has {name} = \"{found}\" where \"{expected}\" was asked for"),
            )
            .with_try("connect to PostgreSQL directly, not through a pooler"));
        }
    }
    Ok(())
}

/// The query that [`verify_pinned`] wants the answer of.
pub fn verify_query() -> String {
    let names: Vec<String> = VERIFIED.iter().map(|(name, _)| format!("'{name}'")).collect();
    format!("SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ({})", names.join(", "))
}

/// What the server told about itself and the session at login.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// `server_version_num`'s major part: 15.
    pub major: u32,
    /// The server's full version text.
    pub version: String,
    /// The backend's process id.
    pub pid: i32,
    /// TLS is on.
    pub encrypted: bool,
    secret: i32,
}

/// A row of a simple query: text, or null.
pub type TextRow = Vec<Option<String>>;

/// The reading half.
pub struct WireReader {
    stream: ReadHalf<Box<dyn Duplex>>,
    frames: FrameBuffer,
    options: Arc<PgOptions>,
    parameters: BTreeMap<String, String>,
}

/// The writing half.
pub struct WireWriter {
    stream: WriteHalf<Box<dyn Duplex>>,
    options: Arc<PgOptions>,
}

/// A connection that is logged in.
pub struct Wire {
    reader: WireReader,
    writer: WireWriter,
    session: Session,
    endpoint: Endpoint,
}

/// The next piece of a COPY.
#[derive(Debug, PartialEq, Eq)]
pub enum CopyNext<'a> {
    /// One CopyData body.
    Data(&'a [u8]),
    /// The buffer holds no whole frame: call [`Wire::fill`].
    NeedMore,
    /// The COPY is complete and the connection ready again.
    Done,
}

impl WireReader {
    /// Reads what is there. Cancel-safe.
    ///
    /// Errors: PG006 when the connection is gone.
    pub async fn fill(&mut self) -> Result<usize> {
        let read = self.stream.read(self.frames.room()).await;
        match read {
            Ok(0) => Err(connection(&self.options, "the server closed the connection", "end of stream")),
            Ok(n) => {
                self.frames.filled(n);
                Ok(n)
            }
            Err(error) => Err(connection(&self.options, "the connection was lost", error)),
        }
    }

    /// Takes the next frame if one is complete. Notices, parameter changes and notifications are dealt
    /// with here; an `ErrorResponse` is returned as a frame.
    pub fn try_frame(&mut self) -> Result<Option<Frame<'_>>> {
        loop {
            match self.frames.peek()? {
                None => return Ok(None),
                Some((b'N' | b'S' | b'A', _)) => self.aside()?,
                Some(_) => return self.frames.take(),
            }
        }
    }

    /// Waits for the next frame. Cancel-safe.
    pub async fn frame(&mut self) -> Result<Frame<'_>> {
        loop {
            match self.frames.peek()? {
                None => {
                    self.fill().await?;
                }
                Some((b'N' | b'S' | b'A', _)) => self.aside()?,
                Some(_) => break,
            }
        }
        self.frames.take()?.ok_or_else(|| protocol("a frame vanished"))
    }

    fn aside(&mut self) -> Result<()> {
        let Some(frame) = self.frames.take()? else { return Ok(()) };
        match frame.tag {
            b'N' => {
                let notice = ServerError::parse(frame.body);
                if notice.severity == "WARNING" {
                    warn!(sqlstate = notice.sqlstate, "the server warns: {}", notice.message);
                } else {
                    debug!("the server says: {notice}");
                }
            }
            b'S' => {
                let mut parts =
                    frame.body.split(|&b| b == 0).map(|p| String::from_utf8_lossy(p).into_owned());
                let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                self.parameters.insert(name, value);
            }
            _ => debug!("a notification from another session"),
        }
        Ok(())
    }

    /// Bytes received and not yet taken.
    pub fn buffered(&self) -> usize {
        self.frames.len()
    }
}

impl WireWriter {
    /// Sends and flushes.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|e| connection(&self.options, "the connection was lost", e))
    }

    /// Sends a `Terminate` and closes; errors no longer matter.
    pub async fn close(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        if let Err(error) = self.send(&out).await {
            debug!("closing: {error}");
        }
        if let Err(error) = self.stream.shutdown().await {
            debug!("closing: {error}");
        }
    }
}

impl Wire {
    /// Connects and logs in, trying the endpoints in order; with several, one in recovery is passed over
    /// while another may be the primary.
    ///
    /// Errors: PG001, PG003, PG005, PG006, PG015.
    pub async fn connect(options: &PgOptions, purpose: Purpose) -> Result<Wire> {
        let current = options.current();
        match Self::connect_any(&current, purpose).await {
            Err(error) if error.code() == codes::PG001 => match options.renewed(&current).await? {
                Some(renewed) => Self::connect_any(&renewed, purpose).await,
                None => Err(error),
            },
            result => result,
        }
    }

    async fn connect_any(options: &PgOptions, purpose: Purpose) -> Result<Wire> {
        let mut last = None;
        for endpoint in &options.endpoints {
            let attempt = Self::connect_to(options, endpoint, purpose);
            let result = match tokio::time::timeout(options.connect_timeout, attempt).await {
                Ok(result) => result,
                Err(elapsed) => {
                    Err(connection(options, &format!("no answer to the login at \"{endpoint}\""), elapsed))
                }
            };
            match result {
                Ok(wire) if options.endpoints.len() > 1 && wire.in_recovery() => {
                    let what = format!("the server \"{endpoint}\" is in recovery");
                    last = Some(connection(options, &what, "a standby"));
                }
                Ok(wire) => return Ok(wire),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(codes::CF003, "the source has no host")))
    }

    async fn connect_to(options: &PgOptions, endpoint: &Endpoint, purpose: Purpose) -> Result<Wire> {
        let (stream, channel) = secure(options, endpoint).await?;
        let (read, write) = tokio::io::split(stream);
        let options = Arc::new(options.clone());
        let mut wire = Wire {
            session: Session { encrypted: channel.encrypted, ..Session::default() },
            reader: WireReader {
                stream: read,
                frames: FrameBuffer::default(),
                options: Arc::clone(&options),
                parameters: BTreeMap::new(),
            },
            writer: WireWriter { stream: write, options: Arc::clone(&options) },
            endpoint: endpoint.clone(),
        };
        wire.log_in(&options, purpose, channel).await?;
        wire.simple_query(LIFT_LIMITS).await?;
        if purpose == Purpose::Money {
            return Ok(wire);
        }
        let mut encoding = "UTF8";
        if wire.parameter("server_encoding") == Some("SQL_ASCII") {
            // Such a database takes any bytes, and would refuse to send those that are no UTF-8: one of them would
            // stop everything. As they are, they stop their table.
            encoding = "SQL_ASCII";
            wire.simple_query("SET client_encoding = 'SQL_ASCII'").await?;
        }
        let rows = wire.simple_query(&verify_query()).await?;
        let pairs = rows.into_iter().filter_map(|row| {
            let mut row = row.into_iter().flatten();
            Some((row.next()?, row.next()?))
        });
        verify_pinned(&pairs.collect(), encoding)?;
        Ok(wire)
    }

    async fn log_in(&mut self, options: &PgOptions, purpose: Purpose, channel: Channel) -> Result<()> {
        let settings = pinned(options, purpose);
        let mut parameters = vec![("user", options.user.as_str()), ("database", options.database.as_str())];
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        parameters.extend(settings.iter().map(|(name, value)| (*name, value.as_str())));
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out).map_err(protocol)?;
        self.writer.send(&out).await?;
        let mut login = Login::new(options, channel);
        loop {
            let frame = self.reader.frame().await?;
            match frame.tag {
                b'R' => {
                    if let Step::Send(bytes) = login.answer(frame.body)? {
                        self.writer.send(&bytes).await?;
                    }
                }
                b'K' => {
                    let (pid, rest) =
                        frame.body.split_first_chunk::<4>().ok_or_else(|| protocol("short key data"))?;
                    self.session.pid = i32::from_be_bytes(*pid);
                    self.session.secret = rest.first_chunk::<4>().map_or(0, |s| i32::from_be_bytes(*s));
                }
                b'E' => {
                    let error = ServerError::parse(frame.body);
                    return Err(self.login_error(options, error));
                }
                b'Z' => break,
                b'v' => return Err(protocol("version 3.0 of the protocol was refused")),
                tag => return Err(protocol(format!("kind {:?} during login", char::from(tag)))),
            }
        }
        let version = self.parameter("server_version").unwrap_or_default().to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        self.session.major = digits.parse().map_err(|_| protocol("no server version"))?;
        self.session.version = version;
        Ok(())
    }

    fn login_error(&self, options: &PgOptions, error: ServerError) -> Error {
        let hint = if error.message.contains("pg_hba.conf") {
            let tls = if self.session.encrypted { "hostssl" } else { "host" };
            Some(format!(
                "add to pg_hba.conf:  {tls} {} {} <our address>/32 scram-sha-256   (logical replication uses the \
                 database's line, not \"replication\")",
                options.database, options.user
            ))
        } else if error.sqlstate == "08P01" {
            // Only a pooler finds fault with how we log in, and it calls everything by this state.
            Some("connect to PostgreSQL directly, not through a pooler".to_owned())
        } else {
            None
        };
        let found = error.into_error(&format!("cannot log in to \"{}\"", self.endpoint));
        match hint {
            Some(hint) => Error::new(codes::PG001, found.message().to_owned()).with_try(hint),
            None if found.code() == codes::PG001 && found.advice().is_none() => found.with_try(format!(
                "check user, password and database; by hand:  psql \"host=… user={} dbname={}\"",
                options.user, options.database
            )),
            None => found,
        }
    }

    /// What the server told at login.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// A parameter that the server reports (`server_version`, `in_hot_standby`, …).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.reader.parameters.get(name).map(String::as_str)
    }

    /// Whether the server is a standby.
    pub fn in_recovery(&self) -> bool {
        self.parameter("in_hot_standby") == Some("on")
    }

    /// Runs statements by the simple protocol; rows of all of them, as text.
    ///
    /// Errors: the server's first one, with `sql`'s first words.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.simple_query_within(sql, ANSWER_WITHIN).await
    }

    /// The same with a bound on the wait. After an error of that kind the connection is of no use.
    ///
    /// Errors: PG006 when there is no answer in time.
    pub async fn simple_query_within(&mut self, sql: &str, within: Duration) -> Result<Vec<TextRow>> {
        match tokio::time::timeout(within, self.answer_to(sql)).await {
            Ok(answer) => answer,
            Err(elapsed) => {
                let doing = format!("no answer within {} s to: {}", within.as_secs(), excerpt(sql));
                Err(connection(&self.reader.options, &doing, elapsed))
            }
        }
    }

    async fn answer_to(&mut self, sql: &str) -> Result<Vec<TextRow>> {
        self.send_query(sql).await?;
        let (mut rows, mut failed) = (Vec::new(), None);
        loop {
            let frame = match self.reader.frame().await {
                Ok(frame) => frame,
                // After a FATAL the server closes: its reason says more than the closing.
                Err(error) => return Err(failed.unwrap_or(error)),
            };
            match frame.tag {
                b'D' => rows.push(text_row(frame.body)?),
                b'E' => {
                    let error = ServerError::parse(frame.body).into_error(&excerpt(sql));
                    failed = failed.or(Some(error));
                }
                b'T' | b'C' | b'I' => {}
                b'Z' => break,
                tag => return Err(protocol(format!("kind {:?} in answer to a query", char::from(tag)))),
            }
        }
        failed.map_or(Ok(rows), Err)
    }

    async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(protocol)?;
        self.writer.send(&out).await
    }

    /// Starts `COPY … TO STDOUT`; then [`Wire::copy_next`] until it is done.
    pub async fn copy_out(&mut self, sql: &str) -> Result<()> {
        self.send_query(sql).await?;
        match self.reader.frame().await? {
            Frame { tag: b'H', .. } => Ok(()),
            Frame { tag: b'E', body } => {
                let error = ServerError::parse(body).into_error(&excerpt(sql));
                self.drain().await;
                Err(error)
            }
            Frame { tag, .. } => Err(protocol(format!("kind {:?} in answer to COPY", char::from(tag)))),
        }
    }

    /// The next piece that is already here, in place.
    pub fn copy_next(&mut self) -> Result<CopyNext<'_>> {
        // Looked at before it is taken: the borrow of a taken frame would last for the whole function.
        loop {
            match self.reader.frames.peek()? {
                None => return Ok(CopyNext::NeedMore),
                Some((b'd', _)) => break,
                Some((b'N' | b'S' | b'A', _)) => self.reader.aside()?,
                Some((tag, _)) => {
                    let body = self.reader.frames.take()?.map(|f| f.body).unwrap_or_default();
                    match tag {
                        b'c' | b'C' => {}
                        b'Z' => return Ok(CopyNext::Done),
                        b'E' => return Err(ServerError::parse(body).into_error("COPY")),
                        _ => return Err(protocol(format!("kind {:?} within COPY", char::from(tag)))),
                    }
                }
            }
        }
        let frame = self.reader.frames.take()?.ok_or_else(|| protocol("a frame vanished"))?;
        Ok(CopyNext::Data(frame.body))
    }

    /// Reads more. Cancel-safe.
    pub async fn fill(&mut self) -> Result<usize> {
        self.reader.fill().await
    }

    /// Gives back the memory that a large message took, if it is taken.
    pub fn give_back(&mut self) {
        self.reader.frames.give_back();
    }

    async fn drain(&mut self) {
        while let Ok(frame) = self.reader.frame().await {
            if frame.tag == b'Z' {
                break;
            }
        }
    }

    /// Sends `START_REPLICATION …` and, once the server agrees, gives the two directions.
    pub async fn start_replication(mut self, sql: &str) -> Result<(WireReader, WireWriter)> {
        self.send_query(sql).await?;
        match self.reader.frame().await? {
            Frame { tag: b'W', .. } => Ok((self.reader, self.writer)),
            Frame { tag: b'E', body } => Err(ServerError::parse(body).into_error("START_REPLICATION")),
            Frame { tag, .. } => Err(protocol(format!("kind {:?} for START_REPLICATION", char::from(tag)))),
        }
    }

    /// Asks the server, over a connection of its own, to cancel what this one is running.
    pub async fn cancel(options: &PgOptions, endpoint: &Endpoint, session: &Session) -> Result<()> {
        let (mut stream, _) = secure(options, endpoint).await?;
        let mut out = BytesMut::new();
        frontend::cancel_request(session.pid, session.secret, &mut out);
        let sent = async {
            stream.write_all(&out).await?;
            stream.flush().await?;
            // The server answers by closing.
            stream.read(&mut [0u8; 1]).await
        };
        sent.await.map(|_| ()).map_err(|e| connection(options, "cannot cancel", e))
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.writer.close().await;
    }
}

/// Connects the socket and, as the mode says, TLS.
async fn secure(options: &PgOptions, endpoint: &Endpoint) -> Result<(Box<dyn Duplex>, Channel)> {
    let broken = |e| connection(options, "the socket cannot be used", e);
    let plain = |raw: Raw| -> Result<(Box<dyn Duplex>, Channel)> {
        Ok((Box::new(BurstSocket::new(raw).map_err(broken)?), Channel::default()))
    };
    let mut stream = match socket::connect(options, endpoint).await? {
        raw @ Raw::Unix(_) => return plain(raw),
        Raw::Tcp(stream) => stream,
    };
    let Some(config) = tls::client_config(options)? else { return plain(Raw::Tcp(stream)) };
    let mut out = BytesMut::new();
    frontend::ssl_request(&mut out);
    let asked = async {
        stream.write_all(&out).await?;
        // One byte and no more: what a man in the middle puts behind it must not be read as the server's.
        stream.read_u8().await
    };
    match asked.await.map_err(|e| connection(options, "no answer to the request for TLS", e))? {
        b'S' => {}
        b'N' if options.tls == TlsMode::Prefer => return plain(Raw::Tcp(stream)),
        b'N' => {
            let what = format!("the server \"{endpoint}\" has no TLS and sslmode is {}", options.tls.name());
            return Err(Error::new(codes::PG015, what)
                .with_try("ssl = on in postgresql.conf, with ssl_cert_file and ssl_key_file"));
        }
        other => return Err(protocol(format!("{:?} in answer to the request for TLS", char::from(other)))),
    }
    let host = match endpoint {
        Endpoint::Tcp { host, .. } => host.as_str(),
        Endpoint::Unix { .. } => "",
    };
    let socket = BurstSocket::buffered(Raw::Tcp(stream)).map_err(broken)?;
    let secured = TlsConnector::from(config)
        .connect(tls::server_name(host)?, socket)
        .await
        .map_err(|e| tls::handshake_error(options, e))?;
    let certificates = secured.get_ref().1.peer_certificates();
    let binding = certificates.and_then(|chain| tls::server_end_point(chain.first()?));
    Ok((Box::new(secured), Channel { encrypted: true, binding }))
}

/// The beginning of a statement of ours, for messages. Statements hold names, never values.
fn excerpt(sql: &str) -> String {
    let short: String = sql.chars().take(120).collect();
    if short.len() < sql.len() { format!("{short} …") } else { short }
}

fn text_row(body: &[u8]) -> Result<TextRow> {
    let short = || protocol("a short row");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            continue;
        };
        let (value, after) = rest.split_at_checked(length).ok_or_else(short)?;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_short_ones_refused() {
        let row = text_row(b"\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\0").unwrap();
        assert_eq!(row, [Some("hi".to_owned()), None, Some(String::new())]);
        for bad in [&b""[..], b"\0\x01", b"\0\x01\0\0\0\x05hi", b"\0\x02\0\0\0\0"] {
            assert!(text_row(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_setting_that_does_not_hold_is_named() {
        let mut rows: BTreeMap<String, String> =
            VERIFIED.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        rows.insert("DateStyle".into(), "ISO, MDY".into());
        verify_pinned(&rows, "UTF8").unwrap();
        rows.insert("extra_float_digits".into(), "-10".into());
        assert!(verify_pinned(&rows, "UTF8").unwrap_err().message().contains("extra_float_digits"));
    }
}
