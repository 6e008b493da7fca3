//! The 19 bytes that begin every event, what the types are called, and the checksum.

use super::wire::{DecodeError, Problem, Reader};

/// An event's type: the byte on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u8);

macro_rules! event_types {
    ($($number:literal $name:ident $text:literal)*) => {
        impl EventType {
            $(
                #[doc = $text]
                pub const $name: EventType = EventType($number);
            )*

            /// Its name, as the server's documentation spells it.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "unknown event",
                }
            }

            /// Whether it has a name: a type of MySQL up to 9.x or of MariaDB up to 12.
            pub fn is_named(self) -> bool {
                matches!(self.0, $($number)|*)
            }
        }
    };
}

event_types! {
    0 UNKNOWN "UNKNOWN_EVENT"
    1 START_V3 "START_EVENT_V3"
    2 QUERY "QUERY_EVENT"
    3 STOP "STOP_EVENT"
    4 ROTATE "ROTATE_EVENT"
    5 INTVAR "INTVAR_EVENT"
    6 LOAD "LOAD_EVENT"
    7 SLAVE "SLAVE_EVENT"
    8 CREATE_FILE "CREATE_FILE_EVENT"
    9 APPEND_BLOCK "APPEND_BLOCK_EVENT"
    10 EXEC_LOAD "EXEC_LOAD_EVENT"
    11 DELETE_FILE "DELETE_FILE_EVENT"
    12 NEW_LOAD "NEW_LOAD_EVENT"
    13 RAND "RAND_EVENT"
    14 USER_VAR "USER_VAR_EVENT"
    15 FORMAT_DESCRIPTION "FORMAT_DESCRIPTION_EVENT"
    16 XID "XID_EVENT"
    17 BEGIN_LOAD_QUERY "BEGIN_LOAD_QUERY_EVENT"
    18 EXECUTE_LOAD_QUERY "EXECUTE_LOAD_QUERY_EVENT"
    19 TABLE_MAP "TABLE_MAP_EVENT"
    20 PRE_GA_WRITE_ROWS "PRE_GA_WRITE_ROWS_EVENT"
    21 PRE_GA_UPDATE_ROWS "PRE_GA_UPDATE_ROWS_EVENT"
    22 PRE_GA_DELETE_ROWS "PRE_GA_DELETE_ROWS_EVENT"
    23 WRITE_ROWS_V1 "WRITE_ROWS_EVENT_V1"
    24 UPDATE_ROWS_V1 "UPDATE_ROWS_EVENT_V1"
    25 DELETE_ROWS_V1 "DELETE_ROWS_EVENT_V1"
    26 INCIDENT "INCIDENT_EVENT"
    27 HEARTBEAT "HEARTBEAT_LOG_EVENT"
    28 IGNORABLE "IGNORABLE_LOG_EVENT"
    29 ROWS_QUERY "ROWS_QUERY_LOG_EVENT"
    30 WRITE_ROWS "WRITE_ROWS_EVENT"
    31 UPDATE_ROWS "UPDATE_ROWS_EVENT"
    32 DELETE_ROWS "DELETE_ROWS_EVENT"
    33 GTID "GTID_LOG_EVENT"
    34 ANONYMOUS_GTID "ANONYMOUS_GTID_LOG_EVENT"
    35 PREVIOUS_GTIDS "PREVIOUS_GTIDS_LOG_EVENT"
    36 TRANSACTION_CONTEXT "TRANSACTION_CONTEXT_EVENT"
    37 VIEW_CHANGE "VIEW_CHANGE_EVENT"
    38 XA_PREPARE "XA_PREPARE_LOG_EVENT"
    39 PARTIAL_UPDATE_ROWS "PARTIAL_UPDATE_ROWS_EVENT"
    40 TRANSACTION_PAYLOAD "TRANSACTION_PAYLOAD_EVENT"
    41 HEARTBEAT_V2 "HEARTBEAT_LOG_EVENT_V2"
    42 GTID_TAGGED "GTID_TAGGED_LOG_EVENT"
    160 MARIA_ANNOTATE_ROWS "ANNOTATE_ROWS_EVENT"
    161 MARIA_BINLOG_CHECKPOINT "BINLOG_CHECKPOINT_EVENT"
    162 MARIA_GTID "GTID_EVENT"
    163 MARIA_GTID_LIST "GTID_LIST_EVENT"
    164 MARIA_START_ENCRYPTION "START_ENCRYPTION_EVENT"
    165 MARIA_QUERY_COMPRESSED "QUERY_COMPRESSED_EVENT"
    166 MARIA_WRITE_ROWS_COMPRESSED_V1 "WRITE_ROWS_COMPRESSED_EVENT_V1"
    167 MARIA_UPDATE_ROWS_COMPRESSED_V1 "UPDATE_ROWS_COMPRESSED_EVENT_V1"
    168 MARIA_DELETE_ROWS_COMPRESSED_V1 "DELETE_ROWS_COMPRESSED_EVENT_V1"
    169 MARIA_WRITE_ROWS_COMPRESSED "WRITE_ROWS_COMPRESSED_EVENT"
    170 MARIA_UPDATE_ROWS_COMPRESSED "UPDATE_ROWS_COMPRESSED_EVENT"
    171 MARIA_DELETE_ROWS_COMPRESSED "DELETE_ROWS_COMPRESSED_EVENT"
    172 MARIA_PARTIAL_ROW_DATA "PARTIAL_ROW_DATA_EVENT"
}

impl std::fmt::Debug for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Bits of [`EventHeader::flags`].
pub mod flags {
    /// The log is being written. Not part of the checksum.
    pub const BINLOG_IN_USE: u16 = 0x0001;
    /// Made for this connection, not in the file: a rotation at the start of a dump.
    pub const ARTIFICIAL: u16 = 0x0020;
    /// Of a relay log.
    pub const RELAY_LOG: u16 = 0x0040;
    /// A reader that does not know the type may pass over it.
    pub const IGNORABLE: u16 = 0x0080;
}

/// The header of every event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventHeader {
    /// When the statement began, seconds since 1970. Zero in events that the server made up.
    pub timestamp: u32,
    /// The type.
    pub event_type: EventType,
    /// The server where the event first was written.
    pub server_id: u32,
    /// Bytes of the event, header and checksum included.
    pub size: u32,
    /// Where the next event begins in its file, modulo 2^32 (a file beyond 4 GiB wraps it). Zero in events that
    /// the server made up, and in events within a compressed transaction.
    pub log_pos: u32,
    /// [`flags`].
    pub flags: u16,
}

impl EventHeader {
    /// Bytes that it takes.
    pub const LEN: usize = 19;

    /// From the first bytes of an event.
    ///
    /// # Errors
    /// Fewer than [`EventHeader::LEN`] bytes, or a size that is smaller.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("event header", bytes);
        let header = EventHeader {
            timestamp: reader.u32("timestamp")?,
            event_type: EventType(reader.u8("type")?),
            server_id: reader.u32("server id")?,
            size: reader.u32("size")?,
            log_pos: reader.u32("position")?,
            flags: reader.u16("flags")?,
        };
        if (header.size as usize) < Self::LEN {
            return Err(reader.error("size", 9, Problem::Count { found: header.size.into() }));
        }
        Ok(header)
    }

    /// As on the wire.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields = self
            .timestamp
            .to_le_bytes()
            .into_iter()
            .chain([self.event_type.0])
            .chain(self.server_id.to_le_bytes())
            .chain(self.size.to_le_bytes())
            .chain(self.log_pos.to_le_bytes())
            .chain(self.flags.to_le_bytes());
        for (byte, field) in bytes.iter_mut().zip(fields) {
            *byte = field;
        }
        bytes
    }

    /// Whether the server made it up for this connection.
    pub fn is_artificial(&self) -> bool {
        self.flags & flags::ARTIFICIAL != 0
    }

    /// CRC32 of the event: of the header without [`flags::BINLOG_IN_USE`], then of the body. `body` is all
    /// between header and checksum (with the checksum algorithm's byte that ends a format description).
    pub fn checksum(&self, body: &[u8]) -> u32 {
        let mut hasher = self.hasher();
        hasher.update(body);
        hasher.finalize()
    }

    /// The checksum so far: the body is to be added.
    pub(super) fn hasher(&self) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new();
        let header = EventHeader { flags: self.flags & !flags::BINLOG_IN_USE, ..*self };
        hasher.update(&header.to_bytes());
        hasher
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// It is another: [`Problem::Checksum`].
    pub fn verify(&self, body: &[u8], found: u32) -> Result<(), DecodeError> {
        let computed = self.checksum(body);
        if computed == found {
            return Ok(());
        }
        let problem = Problem::Checksum { found, computed };
        let offset = Self::LEN + body.len();
        Err(DecodeError { event: self.event_type.name(), field: "checksum", offset, problem })
    }
}

/// How events end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checksum {
    /// Without a checksum.
    #[default]
    None,
    /// With four bytes of CRC32.
    Crc32,
}

/// An event whose frame was checked: header, and body without checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawEvent<'a> {
    /// The header.
    pub header: EventHeader,
    /// What is between header and checksum.
    pub body: &'a [u8],
}

impl<'a> RawEvent<'a> {
    /// Takes an event apart and verifies its checksum. `bytes` is the whole event and nothing else. A format
    /// description says itself whether it has a checksum, whatever `checksum` says.
    ///
    /// # Errors
    /// The frame is damaged.
    pub fn parse(bytes: &'a [u8], checksum: Checksum) -> Result<Self, DecodeError> {
        let header = EventHeader::parse(bytes)?;
        let event = header.event_type.name();
        if header.size as usize != bytes.len() {
            let problem = Problem::Short { need: header.size.into(), have: bytes.len() };
            return Err(DecodeError { event, field: "event", offset: 0, problem });
        }
        let body = bytes.get(EventHeader::LEN..).unwrap_or_default();
        let described = header.event_type == EventType::FORMAT_DESCRIPTION;
        if checksum == Checksum::None && !described {
            return Ok(RawEvent { header, body });
        }
        let Some((body, sum)) = body.split_last_chunk::<4>() else {
            let problem = Problem::Short { need: 4, have: body.len() };
            return Err(DecodeError { event, field: "checksum", offset: EventHeader::LEN, problem });
        };
        // The last byte of a format description is the algorithm: 0 stands for none, the four bytes are there.
        match body.last() {
            Some(0) if described => {}
            Some(&found) if described && found != 1 => {
                let problem = Problem::Tag { found: found.into(), expected: "checksum algorithm 0 or 1" };
                let offset = EventHeader::LEN + body.len() - 1;
                return Err(DecodeError { event, field: "checksum algorithm", offset, problem });
            }
            _ => header.verify(body, u32::from_le_bytes(*sum))?,
        }
        Ok(RawEvent { header, body })
    }

    /// From parts that someone else separated: `checksum` is what ended the event, if anything did. Of a format
    /// description, `body` may have its last byte, the checksum's algorithm, or have lost it.
    ///
    /// # Errors
    /// The checksum does not match.
    pub fn from_parts(
        header: EventHeader,
        body: &'a [u8],
        checksum: Option<[u8; 4]>,
    ) -> Result<Self, DecodeError> {
        let Some(sum) = checksum.map(u32::from_le_bytes) else { return Ok(RawEvent { header, body }) };
        let described = header.event_type == EventType::FORMAT_DESCRIPTION;
        let whole = || [body, &[1]].concat();
        if !described || header.verify(&whole(), sum).is_err() {
            header.verify(body, sum)?;
        }
        Ok(RawEvent { header, body })
    }
}
