//! Every event of MySQL 8.0 to 9.x and MariaDB 10.11 to 12, decoded or refused by name: nothing is skipped.
//!
//! An [`EventDecoder`] follows one stream: the format description that comes first says whether events have
//! checksums and how long their fixed parts are. Everything borrows from the event's bytes, but what is compressed.

use super::header::{Checksum, EventHeader, EventType, RawEvent};
use super::rows::{Rows, RowsKind, RowsVersion};
use super::table_map::TableMap;
use super::wire::{DecodeError, Problem, Reader};
use super::{gtid, maria, payload, query};
use crate::position::gtid::{GtidSet, MariaGtidSet};

pub use super::gtid::{GtidEvent, MariaGtidEvent};
pub use super::payload::TransactionPayload;
pub use super::query::{Query, StatusVars};

/// The product that writes the log: event numbers from 160 on and the meaning of some types differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Flavor {
    /// MySQL, and servers that are built from it.
    MySql,
    /// MariaDB.
    MariaDb,
}

/// One event, decoded.
#[derive(Clone, PartialEq, Debug)]
pub enum Event<'a> {
    /// Begins every file and every dump. The decoder has taken note of it.
    FormatDescription(FormatDescription<'a>),
    /// The log goes on in another file. Made up by the server ([`EventHeader::is_artificial`]) at the start of a dump,
    /// to name the file.
    Rotate {
        /// Where in the file.
        position: u64,
        /// The file.
        file: &'a str,
    },
    /// The server stopped; the file ends.
    Stop,
    /// MySQL: what the files before this one hold.
    PreviousGtids(GtidSet),
    /// MySQL: a transaction begins. `None` in an anonymous one (GTIDs are off).
    Gtid(GtidEvent),
    /// MariaDB: a transaction begins (there is no `BEGIN`), or one statement follows.
    MariaGtid(MariaGtidEvent<'a>),
    /// MariaDB: what the files before this one hold.
    MariaGtidList(MariaGtidList),
    /// MariaDB: nothing of older files is needed for crash recovery.
    MariaBinlogCheckpoint {
        /// The oldest file that is needed.
        file: &'a str,
    },
    /// MariaDB: the file is encrypted on the server's disk. On the wire it is not.
    MariaStartEncryption,
    /// A statement: `BEGIN`, `COMMIT`, `XA …`, DDL; or DML of a session that logs statements, which must not be
    /// passed over.
    Query(Query<'a>),
    /// What a DML statement in statement format refers to (`INTVAR`, `RAND`, `USER_VAR`). The statement follows.
    StatementContext(EventType),
    /// Which table the rows that follow belong to, and what its columns are.
    TableMap(Box<TableMap>),
    /// Rows.
    Rows(Rows<'a>),
    /// The statement that the rows come from, for information.
    RowsQuery(&'a [u8]),
    /// A transaction of a transactional engine commits.
    Xid(u64),
    /// `XA PREPARE`: the transaction's events end here; whether it commits is said by a later `XA COMMIT`.
    XaPrepare(XaPrepare<'a>),
    /// MySQL: a compressed transaction.
    TransactionPayload(TransactionPayload<'a>),
    /// The log lacks events: what comes after cannot follow from what came before.
    Incident {
        /// 1: lost events.
        number: u16,
        /// What the server says about it.
        message: &'a [u8],
    },
    /// The server is there and has nothing new.
    Heartbeat {
        /// The file that it is at.
        file: &'a str,
        /// Where in the file. 64 bits in version 2; else what the header says, modulo 2^32.
        position: u64,
    },
    /// Group Replication: the members changed.
    ViewChange,
    /// Group Replication: what a transaction read and wrote. In relay logs only.
    TransactionContext,
    /// An event without content for a replica.
    Ignorable,
}

/// What begins every file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatDescription<'a> {
    /// 4 since MySQL 5.0.
    pub binlog_version: u16,
    /// `9.7.4`, `11.8.6-MariaDB-log`.
    pub server_version: &'a str,
    /// When the server started, if this is the first file since; else zero.
    pub created: u32,
    /// Whether events have checksums.
    pub checksum: Checksum,
}

/// MariaDB: what older files hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MariaGtidList {
    /// The newest GTID per domain.
    pub newest: MariaGtidSet,
    /// All that the event names: per domain and server, the newest of the domain last.
    pub all: Vec<crate::position::gtid::MariaGtid>,
}

/// The name of a two-phase transaction. Displays as the server writes it in `XA COMMIT`: `X'31',X'',1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Xid {
    /// `formatID`.
    pub format: i32,
    /// Global part.
    pub gtrid: Vec<u8>,
    /// Branch.
    pub bqual: Vec<u8>,
}

impl std::fmt::Display for Xid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "X'{}',X'{}',{}", hex(&self.gtrid), hex(&self.bqual), self.format)
    }
}

/// `XA PREPARE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XaPrepare<'a> {
    /// `XA COMMIT … ONE PHASE`: it is committed.
    pub one_phase: bool,
    /// `formatID`.
    pub format: i32,
    /// Global part.
    pub gtrid: &'a [u8],
    /// Branch.
    pub bqual: &'a [u8],
}

impl XaPrepare<'_> {
    /// Its name.
    pub fn xid(&self) -> Xid {
        Xid { format: self.format, gtrid: self.gtrid.to_vec(), bqual: self.bqual.to_vec() }
    }
}

/// Decodes the events of one stream, in order.
#[derive(Clone, Debug)]
pub struct EventDecoder {
    flavor: Flavor,
    checksum: Checksum,
    /// Length of each type's fixed part, by type number less one; empty before the format description.
    fixed: Vec<u8>,
}

impl EventDecoder {
    /// Before the first event. Without a format description events are taken as of version 4 without checksums.
    pub fn new(flavor: Flavor) -> Self {
        EventDecoder { flavor, checksum: Checksum::None, fixed: Vec::new() }
    }

    /// The product.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Whether events end with a checksum, as the last format description said. A format description that a
    /// server sends without checksums announced (`@master_binlog_checksum` not set) says so itself.
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// Takes one whole event apart, verifies it, and decodes it.
    ///
    /// # Errors
    /// Damage, unknown bytes, or an event that is refused ([`Problem::Refused`]).
    pub fn decode_bytes<'a>(&mut self, bytes: &'a [u8]) -> Result<(EventHeader, Event<'a>), DecodeError> {
        let raw = RawEvent::parse(bytes, self.checksum)?;
        Ok((raw.header, self.decode(raw)?))
    }

    /// Decodes an event whose frame was checked.
    ///
    /// # Errors
    /// As [`EventDecoder::decode_bytes`].
    pub fn decode<'a>(&mut self, raw: RawEvent<'a>) -> Result<Event<'a>, DecodeError> {
        let kind = raw.header.event_type;
        let mut reader = Reader::new(kind.name(), raw.body);
        let event = self.read(&mut reader, raw)?;
        reader.end()?;
        Ok(event)
    }

    fn read<'a>(&mut self, reader: &mut Reader<'a>, raw: RawEvent<'a>) -> Result<Event<'a>, DecodeError> {
        use EventType as T;
        let event = match raw.header.event_type {
            T::FORMAT_DESCRIPTION => self.format_description(reader)?,
            T::ROTATE => {
                let position = reader.u64("position")?;
                Event::Rotate { position, file: rest_as_name(reader, "file")? }
            }
            T::STOP => Event::Stop,
            T::QUERY => Event::Query(query::read(reader, self.fixed_of(T::QUERY))?),
            T::XID => Event::Xid(reader.u64("xid")?),
            T::TABLE_MAP => Event::TableMap(Box::new(TableMap::read(reader, self.flavor)?)),
            T::WRITE_ROWS_V1 => rows(reader, RowsKind::Write, RowsVersion::V1)?,
            T::UPDATE_ROWS_V1 => rows(reader, RowsKind::Update, RowsVersion::V1)?,
            T::DELETE_ROWS_V1 => rows(reader, RowsKind::Delete, RowsVersion::V1)?,
            T::WRITE_ROWS => rows(reader, RowsKind::Write, RowsVersion::V2)?,
            T::UPDATE_ROWS => rows(reader, RowsKind::Update, RowsVersion::V2)?,
            T::DELETE_ROWS => rows(reader, RowsKind::Delete, RowsVersion::V2)?,
            T::PARTIAL_UPDATE_ROWS => rows(reader, RowsKind::PartialUpdate, RowsVersion::V2)?,
            T::ROWS_QUERY => {
                // The length byte is not of use: longer statements are there in full.
                reader.u8("length")?;
                Event::RowsQuery(reader.take_rest())
            }
            T::INCIDENT => {
                let number = reader.u16("incident")?;
                let length = reader.u8("message length")?;
                Event::Incident { number, message: reader.bytes("message", length.into())? }
            }
            T::HEARTBEAT => {
                let position = raw.header.log_pos.into();
                Event::Heartbeat { file: rest_as_name(reader, "file")?, position }
            }
            T::HEARTBEAT_V2 => heartbeat(reader)?,
            T::XA_PREPARE => xa_prepare(reader)?,
            T::INTVAR | T::RAND | T::USER_VAR => {
                reader.take_rest();
                Event::StatementContext(raw.header.event_type)
            }
            T::IGNORABLE => {
                reader.take_rest();
                Event::Ignorable
            }
            _ => match self.flavor {
                Flavor::MySql => read_mysql(reader, raw)?,
                Flavor::MariaDb => self.read_mariadb(reader, raw)?,
            },
        };
        Ok(event)
    }

    fn read_mariadb<'a>(&self, reader: &mut Reader<'a>, raw: RawEvent<'a>) -> Result<Event<'a>, DecodeError> {
        use EventType as T;
        let event = match raw.header.event_type {
            T::MARIA_ANNOTATE_ROWS => Event::RowsQuery(reader.take_rest()),
            T::MARIA_BINLOG_CHECKPOINT => {
                let length = reader.u32("length")?;
                let file = reader.counted("file", length.into())?;
                Event::MariaBinlogCheckpoint { file: reader.name("file", file)? }
            }
            T::MARIA_GTID => Event::MariaGtid(gtid::read_maria(reader, raw.header.server_id)?),
            T::MARIA_GTID_LIST => Event::MariaGtidList(gtid::read_maria_list(reader)?),
            T::MARIA_START_ENCRYPTION => {
                reader.take_rest();
                Event::MariaStartEncryption
            }
            T::MARIA_QUERY_COMPRESSED => {
                Event::Query(maria::query(reader, self.fixed_of(T::MARIA_QUERY_COMPRESSED))?)
            }
            T::MARIA_WRITE_ROWS_COMPRESSED_V1 => compressed(reader, RowsKind::Write, RowsVersion::V1)?,
            T::MARIA_UPDATE_ROWS_COMPRESSED_V1 => compressed(reader, RowsKind::Update, RowsVersion::V1)?,
            T::MARIA_DELETE_ROWS_COMPRESSED_V1 => compressed(reader, RowsKind::Delete, RowsVersion::V1)?,
            T::MARIA_WRITE_ROWS_COMPRESSED => compressed(reader, RowsKind::Write, RowsVersion::V2)?,
            T::MARIA_UPDATE_ROWS_COMPRESSED => compressed(reader, RowsKind::Update, RowsVersion::V2)?,
            T::MARIA_DELETE_ROWS_COMPRESSED => compressed(reader, RowsKind::Delete, RowsVersion::V2)?,
            other => return Err(refused(other)),
        };
        Ok(event)
    }

    /// The length of a type's fixed part, as the format description said.
    fn fixed_of(&self, kind: EventType) -> Option<u8> {
        self.fixed.get(usize::from(kind.0).checked_sub(1)?).copied()
    }

    fn format_description<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Event<'a>, DecodeError> {
        let binlog_version = reader.u16("version")?;
        if binlog_version != 4 {
            let problem = Problem::Tag { found: binlog_version.into(), expected: "version 4" };
            return Err(reader.error("version", 0, problem));
        }
        let version = reader.bytes("server version", 50)?;
        let length = version.iter().position(|&byte| byte == 0).unwrap_or(version.len());
        let server_version = reader.name("server version", version.get(..length).unwrap_or_default())?;
        let created = reader.u32("creation time")?;
        let offset = reader.at();
        let header = reader.u8("header length")?;
        if usize::from(header) != EventHeader::LEN {
            let problem = Problem::Tag { found: header.into(), expected: "19" };
            return Err(reader.error("header length", offset, problem));
        }
        // The last byte is the checksum's algorithm, since MySQL 5.6 and MariaDB 5.3.
        let offset = reader.at();
        let Some((&algorithm, fixed)) = reader.take_rest().split_last() else {
            return Err(reader.error("checksum algorithm", offset, Problem::Short { need: 1, have: 0 }));
        };
        let checksum = match algorithm {
            0 => Checksum::None,
            1 => Checksum::Crc32,
            // Whoever took the checksum off has taken the algorithm with it ([`RawEvent::from_parts`]).
            _ => self.checksum,
        };
        self.checksum = checksum;
        self.fixed = fixed.to_vec();
        Ok(Event::FormatDescription(FormatDescription { binlog_version, server_version, created, checksum }))
    }
}

fn read_mysql<'a>(reader: &mut Reader<'a>, raw: RawEvent<'a>) -> Result<Event<'a>, DecodeError> {
    use EventType as T;
    let event = match raw.header.event_type {
        T::GTID => Event::Gtid(gtid::read_gtid(reader, false)?),
        T::ANONYMOUS_GTID => Event::Gtid(gtid::read_gtid(reader, true)?),
        T::GTID_TAGGED => Event::Gtid(gtid::read_tagged(reader)?),
        T::PREVIOUS_GTIDS => Event::PreviousGtids(gtid::read_set(reader)?),
        T::TRANSACTION_PAYLOAD => Event::TransactionPayload(payload::read(reader)?),
        T::VIEW_CHANGE => {
            reader.take_rest();
            Event::ViewChange
        }
        T::TRANSACTION_CONTEXT => {
            reader.take_rest();
            Event::TransactionContext
        }
        other => return Err(refused(other)),
    };
    Ok(event)
}

#[cold]
fn refused(kind: EventType) -> DecodeError {
    let problem = Problem::Refused { number: kind.0 };
    DecodeError { event: kind.name(), field: "type", offset: 0, problem }
}

fn rows<'a>(reader: &mut Reader<'a>, kind: RowsKind, version: RowsVersion) -> Result<Event<'a>, DecodeError> {
    Rows::read(reader, kind, version).map(Event::Rows)
}

fn compressed<'a>(
    reader: &mut Reader<'a>,
    kind: RowsKind,
    version: RowsVersion,
) -> Result<Event<'a>, DecodeError> {
    let mut rows = Rows::read(reader, kind, version)?;
    rows.data = maria::decompress("rows", &rows.data)?.into();
    Ok(Event::Rows(rows))
}

fn rest_as_name<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a str, DecodeError> {
    let bytes = reader.take_rest();
    reader.name(field, bytes)
}

/// `HEARTBEAT_LOG_EVENT_V2`: type, length, value, up to a zero type.
fn heartbeat<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, DecodeError> {
    let (mut file, mut position) = ("", 0);
    loop {
        let offset = reader.at();
        match reader.lenenc("field")? {
            0 => break,
            1 => {
                let bytes = reader.lenenc_bytes("file")?;
                file = reader.name("file", bytes)?;
            }
            2 => {
                reader.lenenc("length of the position")?;
                position = reader.lenenc("position")?;
            }
            found => {
                let expected = "a field of a heartbeat";
                return Err(reader.error("field", offset, Problem::Tag { found, expected }));
            }
        }
    }
    Ok(Event::Heartbeat { file, position })
}

fn xa_prepare<'a>(reader: &mut Reader<'a>) -> Result<Event<'a>, DecodeError> {
    let one_phase = reader.u8("one phase")? != 0;
    let format = reader.u32("format id")?.cast_signed();
    let global = reader.u32("length of the global part")?;
    let branch = reader.u32("length of the branch")?;
    let gtrid = reader.counted("global part", global.into())?;
    let bqual = reader.counted("branch", branch.into())?;
    Ok(Event::XaPrepare(XaPrepare { one_phase, format, gtrid, bqual }))
}
