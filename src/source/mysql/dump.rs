//! The log as the server sends it: a connection that became a stream of events.

use super::fault::{event_error, fault, number};
use super::options::MyOptions;
use super::server::Gtids;
use super::sql::Sql;
use crate::binlog::{Event, EventDecoder, EventHeader, EventType, Flavor, RawEvent};
use crate::error::{Code, Error, Result, codes};
use crate::position::LogPoint;
use crate::position::gtid::GtidSet;
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::binlog::BinlogChecksumAlg;
use mysql_async::{BinlogStream, BinlogStreamRequest, Sid};
use std::str::FromStr as _;
use std::time::Duration;
use tokio::time::Instant;

/// While nothing happens the server says so this often …
const HEARTBEAT: Duration = Duration::from_secs(5);
/// … and when it has said nothing for so long, the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// The dump cannot be had; the message says why.
const FATAL_READING_LOG: u16 = 1236;

/// A connection that sends its log.
pub(super) struct Dump {
    stream: BinlogStream,
    heard: Instant,
}

/// An event as the driver took it off the wire.
pub(super) struct Received {
    event: mysql_async::binlog::events::Event,
    /// The body, where the driver took something of it away.
    body: Option<Vec<u8>>,
}

impl Received {
    fn new(event: mysql_async::binlog::events::Event) -> Self {
        let is_description = event.header().event_type_raw() == EventType::FORMAT_DESCRIPTION.0;
        // The last byte says which checksum events have.
        let body = is_description.then(|| {
            let alg = event.footer().get_checksum_alg();
            let algorithm = u8::from(matches!(alg, Ok(Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32))));
            [event.data(), &[algorithm]].concat()
        });
        Received { event, body }
    }

    fn body(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_else(|| self.event.data())
    }

    /// Its parts, with the checksum verified.
    ///
    /// # Errors
    /// The checksum does not match.
    pub(super) fn raw(&self) -> Result<RawEvent<'_>, crate::binlog::DecodeError> {
        let header = self.event.header();
        let header = EventHeader {
            timestamp: header.timestamp(),
            event_type: EventType(header.event_type_raw()),
            server_id: header.server_id(),
            size: header.event_size(),
            log_pos: header.log_pos(),
            flags: header.flags_raw(),
        };
        // The first rotation comes before anything says that events have checksums, and has one on MariaDB.
        if header.event_type == EventType::ROTATE
            && let Some((body, sum)) = self.event.data().split_last_chunk::<4>()
            && header.verify(body, u32::from_le_bytes(*sum)).is_ok()
        {
            return Ok(RawEvent { header, body });
        }
        // What a server makes up for one connection has no checksum of its file.
        let sum = self.event.checksum().filter(|_| !header.is_artificial() && header.log_pos != 0);
        RawEvent::from_parts(header, self.body(), sum)
    }
}

impl Dump {
    /// Asks for the log from this place on.
    ///
    /// # Errors
    /// `MY032`, `MY007`.
    pub(super) async fn start(
        options: &MyOptions,
        flavor: Flavor,
        base: &str,
        from: LogPoint,
        server_id: u32,
    ) -> Result<Dump> {
        let mut sql = Sql::connect(options).await?;
        let nanos = HEARTBEAT.as_nanos();
        sql.exec(&format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"))
            .await?;
        if flavor == Flavor::MariaDb {
            // We know its GTID events.
            sql.exec("SET @mariadb_slave_capability = 4").await?;
        }
        let name = from.file_name(base);
        let request =
            BinlogStreamRequest::new(server_id).with_filename(name.as_bytes()).with_pos(from.offset);
        let stream = sql
            .into_conn()
            .get_binlog_stream(request)
            .await
            .map_err(|error| fault("cannot read the binary log", error))?;
        Ok(Dump { stream, heard: Instant::now() })
    }

    /// Asks for everything that is not in a set, on another server than the one where the set was read.
    ///
    /// # Errors
    /// As [`Dump::start`]; `MY042` for a set that this request cannot name.
    pub(super) async fn start_after(options: &MyOptions, gtids: &Gtids, server_id: u32) -> Result<Dump> {
        let mut sql = Sql::connect(options).await?;
        let nanos = HEARTBEAT.as_nanos();
        sql.exec(&format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}"))
            .await?;
        let mut request = BinlogStreamRequest::new(server_id);
        match gtids {
            Gtids::MariaDb(set) => {
                sql.exec("SET @mariadb_slave_capability = 4").await?;
                sql.exec(&format!("SET @slave_connect_state = '{set}'")).await?;
                sql.exec("SET @slave_gtid_strict_mode = 1").await?;
            }
            Gtids::MySql(set) => {
                let mut sids = Vec::new();
                for (source, ranges) in set.sources() {
                    let text =
                        ranges.iter().fold(source.to_string(), |t, r| format!("{t}:{}-{}", r.start, r.end));
                    let sid = Sid::from_str(&text).map_err(|e| {
                        Error::new(
                            codes::MY042,
                            format!("the set {text} cannot be asked for on another server"),
                        )
                        .with_source(e)
                    })?;
                    sids.push(sid);
                }
                request = request.with_gtid().with_gtid_set(sids);
            }
        }
        let stream = sql
            .into_conn()
            .get_binlog_stream(request)
            .await
            .map_err(|error| fault("cannot read the binary log", error))?;
        Ok(Dump { stream, heard: Instant::now() })
    }

    /// What the files before this one hold, as its beginning says. `None` where it does not say.
    ///
    /// # Errors
    /// As [`Dump::start`].
    pub(super) async fn previous(mut self, flavor: Flavor) -> Result<Option<GtidSet>> {
        let mut decoder = EventDecoder::new(flavor);
        let mut found = None;
        // Behind the rotation and the description; nothing of an old log says so.
        for _ in 0..4 {
            let received = self.next().await?;
            let raw = received.raw().map_err(|error| event_error("the beginning of a file", error))?;
            match decoder.decode(raw).map_err(|error| event_error("the beginning of a file", error))? {
                Event::PreviousGtids(set) => {
                    found = Some(set);
                    break;
                }
                Event::Rotate { .. } | Event::FormatDescription(_) | Event::Heartbeat { .. } => {}
                _ => break,
            }
        }
        self.close().await;
        Ok(found)
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// `MY032` and what the server says.
    pub(super) async fn next(&mut self) -> Result<Received> {
        let next = tokio::time::timeout_at(self.heard + SILENCE, self.stream.next()).await;
        let next = next.map_err(|_| {
            Error::new(codes::MY032, format!("the server has said nothing for {} s", SILENCE.as_secs()))
        })?;
        self.heard = Instant::now();
        received(next)
    }

    /// The next event, if one is there already.
    ///
    /// # Errors
    /// As [`Dump::next`].
    pub(super) fn ready(&mut self) -> Result<Option<Received>> {
        match self.stream.next().now_or_never() {
            None => Ok(None),
            Some(next) => {
                self.heard = Instant::now();
                received(next).map(Some)
            }
        }
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        if let Err(error) = self.stream.close().await {
            tracing::debug!("the dump was not closed in order: {error}");
        }
    }
}

fn received(next: Option<mysql_async::Result<mysql_async::binlog::events::Event>>) -> Result<Received> {
    match next {
        Some(Ok(event)) => Ok(Received::new(event)),
        Some(Err(error)) => Err(refused(error)),
        None => Err(Error::new(codes::MY032, "the server ended the dump of its log")),
    }
}

/// What the server says when it cannot send the log.
fn refused(error: mysql_async::Error) -> Error {
    const KNOWN: [(&str, Code); 7] = [
        ("first log file name", codes::MY040),
        ("purged", codes::MY040),
        ("position > file size", codes::MY044),
        ("impossible position", codes::MY044),
        ("same server_uuid/server_id", codes::MY032),
        ("bogus data", codes::MY045),
        ("truncated", codes::MY032),
    ];
    let text = error.to_string();
    if number(&error) == Some(FATAL_READING_LOG)
        && let Some((_, code)) = KNOWN.iter().find(|(words, _)| text.contains(words))
    {
        let advice = match code.id {
            "MY040" => {
                "raise binlog_expire_logs_seconds, then: strandline resync TABLE --yes  (every table is copied)"
            }
            _ => "strandline resync TABLE --yes  (every table is copied)",
        };
        return Error::new(*code, "the server cannot send its log from our position")
            .with_source(error)
            .with_try(advice);
    }
    // A dump thread that somebody killed, a server that goes down: the connection is gone, whatever it says.
    if matches!(number(&error), Some(FATAL_READING_LOG)) {
        return Error::new(codes::MY033, "the server cannot send its log").with_source(error);
    }
    fault("the binary log cannot be read", error)
}
