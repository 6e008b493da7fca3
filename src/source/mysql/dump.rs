//! The log as the server sends it: a connection that became a stream of events.
//!
//! A compressed transaction is taken apart while it comes ([`PayloadStream`]): first its header is given
//! ([`Form::Packed`]), then the events within, one by one. So it takes the memory of one event, however large it is.

use super::fault::{event_error, fault, number};
use super::login;
use super::options::MyOptions;
use super::packets::{Packets, refusal};
use super::server::Gtids;
use crate::binlog::{
    Checksum, DecodeError, Event, EventDecoder, EventHeader, EventType, Flavor, PayloadStream, Problem,
    RawEvent, Unpacked,
};
use crate::error::{Code, Error, Result, codes};
use crate::position::gtid::GtidSet;
use crate::position::{FIRST_OFFSET, LogPoint};
use bytes::Bytes;
use futures_util::FutureExt as _;
use mysql_async::{DriverError, Sid};
use mysql_common::packets::{BinlogDumpFlags, ComBinlogDump, ComBinlogDumpGtid, ComRegisterSlave};
use mysql_common::proto::MySerialize;
use std::str::FromStr as _;
use std::time::Duration;
use tokio::time::Instant;

/// While nothing happens the server says so this often …
const HEARTBEAT: Duration = Duration::from_secs(5);
/// … and when it has said nothing for so long, the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(30);
/// The dump cannot be had; the message says why.
const FATAL_READING_LOG: u16 = 1236;
/// Before an event in its packet.
const OK: u8 = 0;
/// Of the header, with that byte.
const BEGINNING: usize = 1 + EventHeader::LEN;

/// A connection that sends its log.
pub(super) struct Dump {
    packets: Packets,
    /// Whether events end with a checksum, as the last format description said.
    checksum: Checksum,
    /// The compressed transaction that is being read.
    payload: Option<PayloadStream>,
    /// How long nothing was heard, up to `counted`.
    quiet: Duration,
    counted: Instant,
    /// How long nothing may be heard.
    silence: Duration,
}

/// How an event came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As it stands in the file.
    Plain(Checksum),
    /// Only the header: its events follow.
    Packed,
    /// Out of a packed one: it has no place of its own.
    Within,
}

/// An event as it was taken off the wire.
pub(super) struct Received {
    bytes: Bytes,
    form: Form,
}

impl Received {
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Its parts, with the checksum verified.
    ///
    /// # Errors
    /// The checksum does not match, or it is no event.
    pub(super) fn raw(&self) -> Result<RawEvent<'_>, DecodeError> {
        let Form::Plain(checksum) = self.form else {
            let header = EventHeader::parse(&self.bytes)?;
            return Ok(RawEvent { header, body: self.bytes.get(EventHeader::LEN..).unwrap_or_default() });
        };
        let header = EventHeader::parse(&self.bytes)?;
        let is_made_up = header.is_artificial() || header.log_pos == 0;
        if !is_made_up || header.size as usize != self.bytes.len() {
            return RawEvent::parse(&self.bytes, checksum);
        }
        let body = self.bytes.get(EventHeader::LEN..).unwrap_or_default();
        let parts = body.split_last_chunk::<4>();
        // The first rotation comes before anything says that events have checksums, and has one on MariaDB.
        if header.event_type == EventType::ROTATE
            && let Some((body, sum)) = parts
            && header.verify(body, u32::from_le_bytes(*sum)).is_ok()
        {
            return Ok(RawEvent { header, body });
        }
        // What a server makes up for one connection has no checksum of its file, but the room for it.
        match parts {
            Some((body, _))
                if checksum == Checksum::Crc32 || header.event_type == EventType::FORMAT_DESCRIPTION =>
            {
                Ok(RawEvent { header, body })
            }
            _ => Ok(RawEvent { header, body }),
        }
    }
}

/// MariaDB sends statements beside their rows only to who asks for them, by the bit that MySQL never used.
fn wanted(options: &MyOptions, is_mariadb: bool) -> BinlogDumpFlags {
    match options.queries && is_mariadb {
        true => BinlogDumpFlags::BINLOG_THROUGH_POSITION,
        false => BinlogDumpFlags::empty(),
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
        let Ok(offset) = u32::try_from(from.offset) else {
            let what = format!("no server can be asked for its log from {from} on: it is beyond 4 GiB");
            return Err(Error::new(codes::MY033, what)
                .with_try("strandline resync TABLE --yes  (every table is copied)"));
        };
        let name = from.file_name(base);
        let command = ComBinlogDump::new(server_id).with_filename(name.as_bytes()).with_pos(offset);
        let command = command.with_flags(wanted(options, flavor == Flavor::MariaDb));
        let mut request = Vec::new();
        command.serialize(&mut request);
        // We know MariaDB's GTID events.
        let before: &[&str] =
            if flavor == Flavor::MariaDb { &["SET @mariadb_slave_capability = 4"] } else { &[] };
        Dump::request(options, before, server_id, &request).await
    }

    /// Asks for everything that is not in a set, on another server than the one where the set was read.
    ///
    /// # Errors
    /// As [`Dump::start`]; `MY042` for a set that this request cannot name.
    pub(super) async fn start_after(options: &MyOptions, gtids: &Gtids, server_id: u32) -> Result<Dump> {
        let mut request = Vec::new();
        let first = u32::try_from(FIRST_OFFSET).unwrap_or(0);
        match gtids {
            Gtids::MariaDb(set) => {
                let command = ComBinlogDump::new(server_id).with_pos(first).with_flags(wanted(options, true));
                command.serialize(&mut request);
                let from = format!("SET @slave_connect_state = '{set}'");
                let before = ["SET @mariadb_slave_capability = 4", &from, "SET @slave_gtid_strict_mode = 1"];
                Dump::request(options, &before, server_id, &request).await
            }
            Gtids::MySql(set) => {
                let sids = sids(set)?;
                let command = ComBinlogDumpGtid::new(server_id).with_pos(first.into()).with_sids(sids);
                command.serialize(&mut request);
                Dump::request(options, &[], server_id, &request).await
            }
        }
    }

    fn of(packets: Packets) -> Dump {
        let (checksum, quiet, counted) = (Checksum::None, Duration::ZERO, Instant::now());
        Dump { packets, checksum, payload: None, quiet, counted, silence: SILENCE }
    }

    async fn request(options: &MyOptions, before: &[&str], server_id: u32, request: &[u8]) -> Result<Dump> {
        let mut packets = login::connect(options).await?;
        let nanos = HEARTBEAT.as_nanos();
        let heartbeat = format!("SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}");
        let always =
            ["SET SESSION net_write_timeout = 600", &heartbeat, "SET @master_binlog_checksum = 'ALL'"];
        let asked = async {
            for statement in always.iter().chain(before) {
                login::exec(&mut packets, statement).await?;
            }
            let mut register = Vec::new();
            ComRegisterSlave::new(server_id).serialize(&mut register);
            packets.restart();
            packets.send(&register).await?;
            packets.answer().await?;
            packets.restart();
            packets.send(request).await
        };
        let doing = "cannot read the binary log";
        tokio::time::timeout(options.connect_timeout, asked)
            .await
            .map_err(|_| Error::new(codes::MY032, format!("{doing}: no answer in time")))?
            .map_err(|error| fault(doing, error))?;
        Ok(Dump::of(packets))
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
        loop {
            self.count();
            let left = self.silence.saturating_sub(self.quiet);
            if let Ok(next) = tokio::time::timeout(left.min(self.step()), self.event()).await {
                self.quiet = Duration::ZERO;
                return next;
            }
            if left.is_zero() && !self.packets.has_heard() {
                let what = format!("the server has said nothing for {} s", self.silence.as_secs());
                return Err(Error::new(codes::MY032, what));
            }
        }
    }

    fn step(&self) -> Duration {
        self.silence / 10
    }

    /// Counts the time in which not a byte came: an event may take long. Of a pause in which nobody listened only a
    /// step counts; calls that are dropped and made again are none.
    fn count(&mut self) {
        let now = Instant::now();
        let passed = now.duration_since(self.counted).min(self.step());
        self.counted = now;
        self.quiet =
            if self.packets.has_heard() { Duration::ZERO } else { self.quiet.saturating_add(passed) };
    }

    /// The next event, if one is there already.
    ///
    /// # Errors
    /// As [`Dump::next`].
    pub(super) fn ready(&mut self) -> Result<Option<Received>> {
        match self.event().now_or_never() {
            None => Ok(None),
            Some(next) => {
                self.quiet = Duration::ZERO;
                next.map(Some)
            }
        }
    }

    async fn event(&mut self) -> Result<Received> {
        loop {
            if self.payload.is_some() {
                match self.unpack().await? {
                    Some(event) => return Ok(event),
                    None => continue,
                }
            }
            // Within a packet the bytes of a row may look like any header.
            let begins = match self.packets.is_gathering() {
                true => &[][..],
                false => self.packets.peek(BEGINNING).await.map_err(refused)?,
            };
            if let [OK, header @ ..] = begins
                && let Ok(header) = EventHeader::parse(header)
                && header.event_type == EventType::TRANSACTION_PAYLOAD
            {
                let damaged = |error| event_error("a compressed transaction", error);
                let payload = PayloadStream::new(&header, self.checksum).map_err(damaged)?;
                self.payload = Some(payload);
                let bytes = self.packets.take(BEGINNING).slice(1..);
                return Ok(Received { bytes, form: Form::Packed });
            }
            let packet = self.packets.rest().await.map_err(refused)?;
            if let Some(error) = refusal(&packet) {
                return Err(refused(error));
            }
            return match packet.first() {
                Some(&OK) => Ok(self.plain(packet.slice(1..))),
                Some(0xFE) if packet.len() < 9 => {
                    Err(Error::new(codes::MY032, "the server ended the dump of its log"))
                }
                _ => Err(refused(DriverError::UnexpectedPacket { payload: Vec::new() }.into())),
            };
        }
    }

    fn plain(&mut self, bytes: Bytes) -> Received {
        if let Ok(header) = EventHeader::parse(&bytes)
            && header.event_type == EventType::FORMAT_DESCRIPTION
            && let Some((body, _)) = bytes.split_last_chunk::<4>()
        {
            // The last byte says which checksum events have.
            self.checksum = match body.last() {
                Some(1) => Checksum::Crc32,
                _ => Checksum::None,
            };
        }
        Received { bytes, form: Form::Plain(self.checksum) }
    }

    /// The next event of the compressed transaction; `None` at its end.
    async fn unpack(&mut self) -> Result<Option<Received>> {
        let damaged = |error| event_error("a compressed transaction", error);
        let Some(payload) = &mut self.payload else { return Ok(None) };
        let mut found = payload.next(&mut &[][..]).map_err(damaged)?;
        while found == Unpacked::More {
            let here = self.packets.peek(1).await.map_err(refused)?;
            if here.is_empty() {
                let problem = Problem::Short { need: 1, have: 0 };
                let event = EventType::TRANSACTION_PAYLOAD.name();
                return Err(damaged(DecodeError { event, field: "payload", offset: 0, problem }));
            }
            let mut rest = here;
            found = payload.next(&mut rest).map_err(damaged)?;
            let taken = here.len() - rest.len();
            self.packets.take(taken);
        }
        if let Unpacked::Event(bytes) = found {
            return Ok(Some(Received { bytes: bytes.into(), form: Form::Within }));
        }
        let after = self.packets.peek(1).await.map_err(refused)?.len();
        if after > 0 {
            let problem = Problem::Trailing { bytes: after };
            let event = EventType::TRANSACTION_PAYLOAD.name();
            return Err(damaged(DecodeError { event, field: "payload", offset: 0, problem }));
        }
        self.packets.end();
        self.payload = None;
        Ok(None)
    }

    /// Ends the connection.
    pub(super) async fn close(self) {
        self.packets.close().await;
    }
}

/// A set as the request names it.
fn sids(set: &GtidSet) -> Result<Vec<Sid<'static>>> {
    let mut sids = Vec::new();
    for (source, ranges) in set.sources() {
        let text = ranges.iter().fold(source.to_string(), |t, r| format!("{t}:{}-{}", r.start, r.end));
        let sid = Sid::from_str(&text).map_err(|e| {
            Error::new(codes::MY042, format!("the set {text} cannot be asked for on another server"))
                .with_source(e)
        })?;
        sids.push(sid);
    }
    Ok(sids)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    /// What the server writes from now on, and who reads it.
    fn wire() -> (tokio::io::DuplexStream, Dump) {
        let (server, client) = tokio::io::duplex(1 << 20);
        (server, Dump::of(Packets::new(Box::new(client))))
    }

    fn event(event_type: EventType, body: &[u8], checksum: bool) -> Vec<u8> {
        let trailer = if checksum { 4 } else { 0 };
        let size = (EventHeader::LEN + body.len() + trailer) as u32;
        let header = EventHeader { timestamp: 1, event_type, server_id: 1, size, log_pos: 500, flags: 0 };
        let sum = header.checksum(body).to_le_bytes();
        [&header.to_bytes()[..], body, &sum[..trailer]].concat()
    }

    /// As packets, each with a zero byte in front.
    fn packets(events: &[Vec<u8>], frame: usize) -> Vec<u8> {
        let (mut out, mut sequence) = (Vec::new(), 0u8);
        for event in events {
            let packet = [&[OK], &event[..]].concat();
            let mut frames: Vec<&[u8]> = packet.chunks(frame).collect();
            if packet.len() % frame == 0 {
                frames.push(&[]);
            }
            for frame in frames {
                let length = (frame.len() as u32).to_le_bytes();
                out.extend([length[0], length[1], length[2], sequence]);
                out.extend(frame);
                sequence = sequence.wrapping_add(1);
            }
        }
        out
    }

    const FULL: usize = 0xFF_FFFF;

    /// A tunnel that forwards nothing any more, and does not say so.
    #[tokio::test]
    async fn a_server_that_is_silent_is_gone() {
        let (_server, mut dump) = wire();
        dump.silence = Duration::from_millis(50);
        assert_eq!(dump.next().await.err().map(|error| error.code()), Some(codes::MY032));
    }

    /// Also for who never waits as long as that.
    #[tokio::test]
    async fn silence_is_found_by_calls_that_are_dropped() {
        let (_server, mut dump) = wire();
        dump.silence = Duration::from_millis(200);
        let mut calls = 0;
        let error = loop {
            calls += 1;
            if let Ok(next) = tokio::time::timeout(Duration::from_millis(4), dump.next()).await {
                break next.err();
            }
        };
        assert_eq!(error.map(|error| error.code()), Some(codes::MY032));
        assert!(calls > 5, "{calls}");
    }

    /// An event takes longer than the silence may, and before it nobody listened for longer.
    #[tokio::test]
    async fn what_comes_slowly_is_no_silence() {
        let (mut server, mut dump) = wire();
        dump.silence = Duration::from_millis(200);
        let slow = event(EventType::ROWS_QUERY, &[7; 1000], false);
        let sent = packets(std::slice::from_ref(&slow), FULL);
        let (first, later) = sent.split_at(100);
        server.write_all(first).await.unwrap();
        assert!(dump.ready().unwrap().is_none());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let later = later.to_vec();
        let writer = tokio::spawn(async move {
            for piece in later.chunks(100) {
                tokio::time::sleep(Duration::from_millis(40)).await;
                server.write_all(piece).await.unwrap();
            }
            server
        });
        let received = dump.next().await.unwrap();
        assert!(received.raw().unwrap().body == &slow[EventHeader::LEN..]);
        drop(writer);
    }

    #[tokio::test]
    async fn an_event_of_several_packets_is_one() {
        for length in [3, FULL - 1 - EventHeader::LEN - 1, FULL - 1 - EventHeader::LEN, 2 * FULL + 7] {
            let (mut server, mut dump) = wire();
            let big = event(EventType::ROWS_QUERY, &vec![7; length], false);
            let small = event(EventType::ROWS_QUERY, b"\x02ab", false);
            let sent = packets(&[small.clone(), big.clone(), small.clone()], FULL);
            let writer = tokio::spawn(async move { server.write_all(&sent).await.map(|()| server) });
            for expected in [&small, &big, &small] {
                let received = dump.next().await.unwrap();
                assert!(received.raw().unwrap().body == &expected[EventHeader::LEN..], "{length}");
            }
            drop(writer);
        }
    }

    /// A row may hold what looks like the header of another event, and a call may be dropped anywhere in it.
    #[tokio::test]
    async fn a_row_is_taken_for_no_header() {
        let (mut server, mut dump) = wire();
        let alike = [&[OK], &event(EventType::TRANSACTION_PAYLOAD, b"", true)[..EventHeader::LEN]].concat();
        let big = event(EventType::ROWS_QUERY, &alike.repeat((17 << 20) / BEGINNING), false);
        let small = event(EventType::ROWS_QUERY, b"\x02ab", false);
        let sent = packets(&[big.clone(), small.clone()], FULL);
        // So that each piece begins with such a header.
        let (first, later) = sent.split_at(4 + BEGINNING);
        let mut found = Vec::new();
        for piece in std::iter::once(first).chain(later.chunks(BEGINNING << 12)) {
            server.write_all(piece).await.unwrap();
            while let Some(received) = dump.ready().unwrap() {
                assert_eq!(received.form(), Form::Plain(Checksum::None));
                found.push(received.raw().unwrap().body.to_vec());
            }
        }
        assert_eq!(found.len(), 2);
        assert!(found[0] == big[EventHeader::LEN..] && found[1] == small[EventHeader::LEN..]);
    }

    /// Events out of a compressed one, between others; a call that was dropped is made again without loss.
    #[tokio::test]
    async fn a_compressed_transaction_comes_event_by_event() {
        let inner: Vec<Vec<u8>> =
            (0..500usize).map(|n| event(EventType::ROWS_QUERY, &vec![n as u8; n * 13], false)).collect();
        let packed = zstd::encode_all(inner.concat().as_slice(), 3).unwrap();
        let mut description = vec![4, 0];
        description.extend([0; 50]);
        description.extend([0, 0, 0, 0, 19, 0, 1]);
        let body = [&[2, 1, 0, 0][..], &packed].concat();
        let before = event(EventType::ROWS_QUERY, b"\x02ab", true);
        let events = [
            event(EventType::FORMAT_DESCRIPTION, &description, true),
            before.clone(),
            event(EventType::TRANSACTION_PAYLOAD, &body, true),
            before.clone(),
        ];
        let sent = packets(&events, FULL);
        let (mut server, mut dump) = wire();
        let (mut found, mut forms) = (Vec::new(), Vec::new());
        for piece in sent.chunks(10) {
            server.write_all(piece).await.unwrap();
            while let Some(received) = dump.ready().unwrap() {
                let raw = received.raw().unwrap();
                forms.push(received.form());
                if received.form() == Form::Within {
                    found.push([&raw.header.to_bytes()[..], raw.body].concat());
                }
            }
        }
        assert!(found == inner);
        assert_eq!(forms[..3], [Form::Plain(Checksum::Crc32), Form::Plain(Checksum::Crc32), Form::Packed]);
        assert_eq!(forms.last(), Some(&Form::Plain(Checksum::Crc32)));
        assert_eq!(forms.len(), 4 + inner.len());
        // Another frame than the next one.
        server.write_all(&[1, 0, 0, 99, 0]).await.unwrap();
        assert!(dump.next().await.is_err());
    }
}
