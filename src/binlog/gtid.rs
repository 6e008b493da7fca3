//! Events and byte forms of GTIDs.

use super::event::{MariaGtidList, Xid};
use super::wire::{DecodeError, Problem, Reader};
use crate::position::gtid::{
    Gtid, GtidRange, GtidSet, GtidSource, MAX_NUMBER, MariaGtid, MariaGtidSet, ServerUuid, Tag,
};

/// Begins a transaction of MySQL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GtidEvent {
    /// Its GTID; `None` where GTIDs are off.
    pub gtid: Option<Gtid>,
    /// Bit 0: the transaction may hold statements.
    pub flags: u8,
    /// Logical clock: the newest transaction that was committed when this one was prepared.
    pub last_committed: u64,
    /// Logical clock: its own number in the file.
    pub sequence_number: u64,
    /// When it was committed on this server, microseconds since 1970. Zero: not said.
    pub immediate_commit_time: u64,
    /// When it was committed where it came from first.
    pub original_commit_time: u64,
    /// Bytes of the whole transaction, this event included. Zero: not said.
    pub transaction_length: u64,
    /// Version of this server, `80403`. Zero: not said.
    pub immediate_server_version: u32,
    /// Version of the server where it came from first.
    pub original_server_version: u32,
}

/// Begins a transaction of MariaDB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MariaGtidEvent<'a> {
    /// Its GTID.
    pub gtid: MariaGtid,
    /// As on the wire; the methods name the bits.
    pub flags: u8,
    /// Transactions of one group commit have the same.
    pub commit_id: Option<u64>,
    /// The two-phase transaction that it prepares or completes: format, then global part and branch in one.
    pub xid: Option<MariaXid<'a>>,
    /// Bits of the later versions, zero where there are none.
    pub extra_flags: u8,
    /// Of the `ALTER` that it completes.
    pub alter_number: Option<u64>,
    /// The connection that wrote it (11.8 says so, 10.11 does not).
    pub thread_id: Option<u32>,
}

/// The name of a two-phase transaction in a [`MariaGtidEvent`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MariaXid<'a> {
    /// `formatID`.
    pub format: i32,
    /// Global part.
    pub gtrid: &'a [u8],
    /// Branch.
    pub bqual: &'a [u8],
}

impl MariaXid<'_> {
    /// By value.
    pub fn to_owned_xid(&self) -> Xid {
        Xid { format: self.format, gtrid: self.gtrid.to_vec(), bqual: self.bqual.to_vec() }
    }
}

impl MariaGtidEvent<'_> {
    /// One event follows that is a transaction by itself (DDL): no `COMMIT` ends it.
    pub fn is_standalone(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Its changes can be rolled back: only transactional engines took part.
    pub fn is_transactional(&self) -> bool {
        self.flags & 4 != 0
    }

    /// DDL.
    pub fn is_ddl(&self) -> bool {
        self.flags & 32 != 0
    }

    /// An `XA PREPARE` ends it.
    pub fn prepares_xa(&self) -> bool {
        self.flags & 64 != 0
    }

    /// `XA COMMIT` or `XA ROLLBACK` of what was prepared before.
    pub fn completes_xa(&self) -> bool {
        self.flags & 128 != 0
    }
}

fn uuid(reader: &mut Reader<'_>) -> Result<ServerUuid, DecodeError> {
    reader.array::<16>("server uuid").map(ServerUuid)
}

fn number(reader: &Reader<'_>, offset: usize, found: u64) -> Result<u64, DecodeError> {
    if (1..=MAX_NUMBER).contains(&found) {
        Ok(found)
    } else {
        Err(reader.error("transaction number", offset, Problem::Count { found }))
    }
}

/// Seven bytes.
fn u56(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    reader.uint(field, 7)
}

/// `GTID_LOG_EVENT` and `ANONYMOUS_GTID_LOG_EVENT`.
pub(super) fn read_gtid(reader: &mut Reader<'_>, anonymous: bool) -> Result<GtidEvent, DecodeError> {
    let mut event = GtidEvent { flags: reader.u8("flags")?, ..GtidEvent::default() };
    let source = GtidSource { uuid: uuid(reader)?, tag: Tag::default() };
    let offset = reader.at();
    let found = reader.u64("transaction number")?;
    if !anonymous {
        event.gtid = Some(Gtid { source, number: number(reader, offset, found)? });
    }
    if reader.is_empty() {
        return Ok(event);
    }
    let offset = reader.at();
    let kind = reader.u8("type of the logical clock")?;
    if kind != 2 {
        let problem = Problem::Tag { found: kind.into(), expected: "2" };
        return Err(reader.error("type of the logical clock", offset, problem));
    }
    event.last_committed = reader.u64("last committed")?;
    event.sequence_number = reader.u64("sequence number")?;
    // Each of the next came with another version: the rest may be missing.
    if reader.is_empty() {
        return Ok(event);
    }
    let time = u56(reader, "commit time")?;
    event.immediate_commit_time = time & !(1 << 55);
    event.original_commit_time =
        if time >> 55 == 1 { u56(reader, "original commit time")? } else { event.immediate_commit_time };
    if reader.is_empty() {
        return Ok(event);
    }
    event.transaction_length = reader.lenenc("transaction length")?;
    if reader.is_empty() {
        return Ok(event);
    }
    let version = reader.u32("server version")?;
    event.immediate_server_version = version & !(1 << 31);
    event.original_server_version = if version >> 31 == 1 {
        reader.u32("original server version")?
    } else {
        event.immediate_server_version
    };
    // What is left: the ticket of a group commit (since 8.3), which means nothing outside of the server.
    if !reader.is_empty() {
        reader.u64("commit group ticket")?;
    }
    Ok(event)
}

/// The serialization library's integer: as many one bits in front as bytes follow.
fn varlen(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    let first = *reader.rest().first().unwrap_or(&0);
    match first.trailing_ones() {
        8 => {
            reader.u8(field)?;
            reader.u64(field)
        }
        ones => {
            let width = ones as usize + 1;
            // Of eight bytes one is length: nothing is shifted out.
            Ok(reader.uint(field, width)? >> width)
        }
    }
}

/// The same with a sign, which must be plus.
fn varlen_positive(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, DecodeError> {
    let offset = reader.at();
    let found = varlen(reader, field)?;
    if found & 1 == 0 { Ok(found >> 1) } else { Err(reader.error(field, offset, Problem::Count { found })) }
}

fn tag<'a>(reader: &mut Reader<'a>) -> Result<Tag, DecodeError> {
    let offset = reader.at();
    let length = varlen(reader, "tag length")?;
    let bytes = reader.counted("tag", length)?;
    let text = reader.name("tag", bytes)?;
    Tag::new(text).map_err(|_| reader.error("tag", offset, Problem::Count { found: length }))
}

/// `GTID_TAGGED_LOG_EVENT`: MySQL's serialization library, format 2. Fields by number, in order, those without
/// a value left out.
pub(super) fn read_tagged(reader: &mut Reader<'_>) -> Result<GtidEvent, DecodeError> {
    let format = varlen(reader, "format")?;
    if format != 1 {
        let problem = Problem::Tag { found: format, expected: "serialization format 1" };
        return Err(reader.error("format", 0, problem));
    }
    varlen(reader, "size")?;
    let last_needed = varlen(reader, "last field that must be known")?;
    let mut event = GtidEvent::default();
    let (mut source, mut own_number) = (GtidSource::default(), 0);
    while !reader.is_empty() {
        let offset = reader.at();
        match varlen(reader, "field")? {
            0 => event.flags = u8::try_from(varlen(reader, "flags")?).unwrap_or(u8::MAX),
            1 => {
                for byte in &mut source.uuid.0 {
                    let offset = reader.at();
                    let found = varlen(reader, "server uuid")?;
                    *byte = u8::try_from(found)
                        .map_err(|_| reader.error("server uuid", offset, Problem::Count { found }))?;
                }
            }
            2 => own_number = varlen_positive(reader, "transaction number")?,
            3 => source.tag = tag(reader)?,
            4 => event.last_committed = varlen_positive(reader, "last committed")?,
            5 => event.sequence_number = varlen_positive(reader, "sequence number")?,
            6 => event.immediate_commit_time = varlen(reader, "commit time")?,
            7 => event.original_commit_time = varlen(reader, "original commit time")?,
            8 => event.transaction_length = varlen(reader, "transaction length")?,
            9 => event.immediate_server_version = version(reader)?,
            10 => event.original_server_version = version(reader)?,
            11 => {
                varlen(reader, "commit group ticket")?;
            }
            found if found <= last_needed => {
                let problem = Problem::Tag { found, expected: "a field of a tagged GTID" };
                return Err(reader.error("field", offset, problem));
            }
            // The server says that a reader need not know it, and its length is not said.
            _ => {
                reader.take_rest();
            }
        }
    }
    if event.original_commit_time == 0 {
        event.original_commit_time = event.immediate_commit_time;
    }
    if event.original_server_version == 0 {
        event.original_server_version = event.immediate_server_version;
    }
    let end = reader.at();
    event.gtid = Some(Gtid { source, number: number(reader, end, own_number)? });
    Ok(event)
}

fn version(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let offset = reader.at();
    let found = varlen(reader, "server version")?;
    u32::try_from(found).map_err(|_| reader.error("server version", offset, Problem::Count { found }))
}

/// Reads the byte form of a set: `PREVIOUS_GTIDS_LOG_EVENT`, and what a dump by GTID is asked for with.
///
/// # Errors
/// Damaged bytes.
pub fn decode_gtid_set(bytes: &[u8]) -> Result<GtidSet, DecodeError> {
    let mut reader = Reader::new("GTID set", bytes);
    let set = read_set(&mut reader)?;
    reader.end()?;
    Ok(set)
}

pub(super) fn read_set(reader: &mut Reader<'_>) -> Result<GtidSet, DecodeError> {
    let head = reader.u64("number of sources")?;
    // The highest byte is the format: with tags it is 1, and stands in the lowest byte too.
    let (sources, tagged) = match head >> 56 {
        0 => (head, false),
        1 => (head << 8 >> 16, true),
        found => {
            let problem = Problem::Tag { found, expected: "format 0 or 1 of a GTID set" };
            return Err(reader.error("format", 0, problem));
        }
    };
    let mut set = GtidSet::new();
    for _ in 0..sources {
        let uuid = uuid(reader)?;
        let tag = if tagged { tag(reader)? } else { Tag::default() };
        let source = GtidSource { uuid, tag };
        let count = reader.u64("number of intervals")?;
        for _ in 0..count {
            let offset = reader.at();
            let (start, end) = (reader.u64("start of an interval")?, reader.u64("end of an interval")?);
            // The end does not belong to it.
            let range = GtidRange { start, end: end.saturating_sub(1) };
            if !set.insert_range(&source, range) {
                return Err(reader.error("interval", offset, Problem::Count { found: end }));
            }
        }
    }
    Ok(set)
}

/// The byte form of a set, as a dump by GTID asks for it. With tags only where there are any: servers before 8.3
/// do not know them.
pub fn encode_gtid_set(set: &GtidSet) -> Vec<u8> {
    let tagged = set.sources().any(|(source, _)| !source.tag.is_empty());
    let count = set.sources().count() as u64;
    let head = if tagged { 1 << 56 | count << 8 | 1 } else { count };
    let mut bytes = head.to_le_bytes().to_vec();
    for (source, ranges) in set.sources() {
        bytes.extend(source.uuid.0);
        if tagged {
            // At most 32 bytes: a length of one byte, shifted by the one bit that says so.
            let tag = source.tag.as_str().as_bytes();
            bytes.push(u8::try_from(tag.len() << 1).unwrap_or_default());
            bytes.extend_from_slice(tag);
        }
        bytes.extend((ranges.len() as u64).to_le_bytes());
        for range in ranges {
            bytes.extend(range.start.to_le_bytes());
            bytes.extend((range.end + 1).to_le_bytes());
        }
    }
    bytes
}

/// MariaDB's `GTID_EVENT`.
pub(super) fn read_maria<'a>(
    reader: &mut Reader<'a>,
    server_id: u32,
) -> Result<MariaGtidEvent<'a>, DecodeError> {
    let number = reader.u64("transaction number")?;
    let domain = reader.u32("domain")?;
    let flags = reader.u8("flags")?;
    let mut event = MariaGtidEvent {
        gtid: MariaGtid { domain, server_id, number },
        flags,
        commit_id: None,
        xid: None,
        extra_flags: 0,
        alter_number: None,
        thread_id: None,
    };
    if flags & 2 != 0 {
        event.commit_id = Some(reader.u64("commit id")?);
    }
    if flags & (64 | 128) != 0 {
        let format = reader.u32("format id")?.cast_signed();
        let (global, branch) = (reader.u8("length of the global part")?, reader.u8("length of the branch")?);
        let gtrid = reader.bytes("global part", global.into())?;
        event.xid = Some(MariaXid { format, gtrid, bqual: reader.bytes("branch", branch.into())? });
    }
    // The rest is fields that later versions added, or zeros up to the fixed length.
    if !reader.is_empty() {
        event.extra_flags = reader.u8("more flags")?;
    }
    if event.extra_flags & 1 != 0 {
        reader.u8("number of engines")?;
    }
    if event.extra_flags & (4 | 8) != 0 {
        event.alter_number = Some(reader.u64("number of the ALTER")?);
    }
    if event.extra_flags & 16 != 0 {
        event.thread_id = Some(reader.u32("thread id")?);
    }
    if event.extra_flags & !31 == 0 {
        while !reader.is_empty() {
            reader.zero("padding")?;
        }
    } else {
        let found = event.extra_flags.into();
        let problem = Problem::Tag { found, expected: "flags of a MariaDB GTID up to 31" };
        return Err(reader.error("more flags", reader.at(), problem));
    }
    Ok(event)
}

/// MariaDB's `GTID_LIST_EVENT`: per domain and server; the last of a domain is its newest.
pub(super) fn read_maria_list(reader: &mut Reader<'_>) -> Result<MariaGtidList, DecodeError> {
    // The upper four bits are flags of the list.
    let count = reader.u32("count")? & 0x0FFF_FFFF;
    let (mut newest, mut all) = (MariaGtidSet::new(), Vec::new());
    for _ in 0..count {
        let (domain, server_id) = (reader.u32("domain")?, reader.u32("server id")?);
        let gtid = MariaGtid { domain, server_id, number: reader.u64("transaction number")? };
        all.push(gtid);
        newest.set(gtid);
    }
    while !reader.is_empty() {
        reader.zero("padding")?;
    }
    Ok(MariaGtidList { newest, all })
}
