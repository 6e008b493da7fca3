//! Reading little-endian fields out of bytes that a server sent, with an error that says where and what.
//!
//! Errors carry the name of the structure, the offset, and counts or tags: never content.

use crate::error::{Error, codes};

/// What did not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The field needs more bytes than there are.
    Short {
        /// Bytes that the field needs.
        need: u64,
        /// Bytes that are left.
        have: usize,
    },
    /// Bytes after the end.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A number that is none of those expected.
    Tag {
        /// The number.
        found: u64,
        /// What is expected, for people.
        expected: &'static str,
    },
    /// A count or length that cannot be.
    Count {
        /// The number.
        found: u64,
    },
    /// A name that is not UTF-8.
    NotUtf8,
    /// The checksum does not match: bytes were changed on their way or on disk.
    Checksum {
        /// That of the event.
        found: u32,
        /// That of its bytes.
        computed: u32,
    },
    /// Compressed bytes that do not decompress.
    Compressed,
    /// Compressed bytes that become more than the limit.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// A structure within itself, deeper than the server allows.
    TooDeep,
    /// An event that is known by name and cannot be applied, or is not known at all.
    Refused {
        /// Its type.
        number: u8,
    },
}

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// The event or structure that was being read.
    pub event: &'static str,
    /// The field.
    pub field: &'static str,
    /// Offset of the field in the bytes of the structure.
    pub offset: usize,
    /// What did not fit.
    pub problem: Problem,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DecodeError { event, field, offset, problem } = self;
        write!(f, "{event}, {field} at byte {offset}: ")?;
        match problem {
            Problem::Short { need, have } => write!(f, "expected {need} bytes, found {have}"),
            Problem::Trailing { bytes } => write!(f, "expected the end, found {bytes} more bytes"),
            Problem::Tag { found, expected } => write!(f, "expected {expected}, found {found}"),
            Problem::Count { found } => write!(f, "{found} is not a possible count or length"),
            Problem::NotUtf8 => f.write_str("the name is not UTF-8"),
            Problem::Checksum { found, computed } => {
                write!(f, "the event says {found:08x}, its bytes {computed:08x}")
            }
            Problem::Compressed => f.write_str("the compressed bytes are damaged"),
            Problem::TooLarge { limit } => write!(f, "more than {limit} bytes when decompressed"),
            Problem::TooDeep => f.write_str("nested too deep"),
            Problem::Refused { number } => write!(f, "events of type {number} cannot be applied"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let (code, what, advice) = match error.problem {
            Problem::Refused { .. } => (
                codes::MY025,
                "the binary log holds an event that cannot be applied",
                "let every session log rows (binlog_format=ROW), and upgrade this program if the server is newer; \
                 then resync",
            ),
            Problem::Checksum { .. } => (
                codes::MY024,
                "an event of the binary log is damaged: its checksum does not match",
                "look for damage on the server's disk (mysqlbinlog --verify-binlog-checksum) or on the network; \
                 if the log is damaged, resync from after it",
            ),
            Problem::TooLarge { .. } => (
                codes::MY024,
                "a compressed transaction is larger than the limit",
                "write smaller transactions, or switch binlog_transaction_compression off",
            ),
            _ => (
                codes::MY024,
                "the server sent bytes that are not of the binary log's format",
                "check that nothing but MySQL 8.0 to 9.x or MariaDB 10.11 to 11.x stands at this address; \
                 if so, report this as a defect",
            ),
        };
        Error::new(code, what).with_source(error).with_try(advice)
    }
}

/// A place in a structure's bytes.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    event: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`, reading `event`.
    pub(super) fn new(event: &'static str, bytes: &'a [u8]) -> Self {
        Reader { event, bytes, at: 0 }
    }

    /// Offset of the next field.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest().len()
    }

    /// Nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The rest, without moving.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The rest; nothing is left.
    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest();
        self.at += rest.len();
        rest
    }

    /// An error about a field that starts at `offset`.
    #[cold]
    pub(super) fn error(&self, field: &'static str, offset: usize, problem: Problem) -> DecodeError {
        DecodeError { event: self.event, field, offset, problem }
    }

    #[cold]
    fn short(&self, field: &'static str, need: u64) -> DecodeError {
        self.error(field, self.at, Problem::Short { need, have: self.left() })
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((array, _)) = self.rest().split_first_chunk::<N>() else {
            return Err(self.short(field, N as u64));
        };
        self.at += N;
        Ok(*array)
    }

    /// One byte.
    #[inline]
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes.
    #[inline]
    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes.
    #[inline]
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Six bytes.
    pub(super) fn u48(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array::<6>(field).map(|[a, b, c, d, e, f]| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// One to eight bytes; a wider one is an error.
    #[inline]
    pub(super) fn uint(&mut self, field: &'static str, width: usize) -> Result<u64, DecodeError> {
        let offset = self.at;
        let bytes = self.bytes(field, width)?;
        let mut wide = [0; 8];
        match wide.get_mut(..width) {
            Some(low) => low.copy_from_slice(bytes),
            None => return Err(self.error(field, offset, Problem::Count { found: width as u64 })),
        }
        Ok(u64::from_le_bytes(wide))
    }

    /// `len` bytes.
    #[inline]
    pub(super) fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((bytes, _)) = self.rest().split_at_checked(len) else {
            return Err(self.short(field, len as u64));
        };
        self.at += len;
        Ok(bytes)
    }

    /// So many bytes, a count from the wire.
    #[inline]
    pub(super) fn counted(&mut self, field: &'static str, len: u64) -> Result<&'a [u8], DecodeError> {
        match usize::try_from(len) {
            Ok(len) => self.bytes(field, len),
            Err(_) => Err(self.short(field, len)),
        }
    }

    /// A length-encoded integer.
    pub(super) fn lenenc(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let offset = self.at;
        match self.u8(field)? {
            small @ ..=250 => Ok(small.into()),
            252 => self.uint(field, 2),
            253 => self.uint(field, 3),
            254 => self.uint(field, 8),
            tag => {
                let expected = "a length-encoded integer";
                Err(self.error(field, offset, Problem::Tag { found: tag.into(), expected }))
            }
        }
    }

    /// A length-encoded integer that counts things which take a byte each at least.
    pub(super) fn lenenc_count(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let offset = self.at;
        let found = self.lenenc(field)?;
        match usize::try_from(found) {
            Ok(count) if count <= self.left() => Ok(count),
            _ => Err(self.error(field, offset, Problem::Count { found })),
        }
    }

    /// A length-encoded string.
    pub(super) fn lenenc_bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.lenenc(field)?;
        self.counted(field, len)
    }

    /// Bytes as a name.
    pub(super) fn name(&self, field: &'static str, bytes: &'a [u8]) -> Result<&'a str, DecodeError> {
        let offset = self.at.saturating_sub(bytes.len());
        std::str::from_utf8(bytes).map_err(|_| self.error(field, offset, Problem::NotUtf8))
    }

    /// A zero byte.
    pub(super) fn zero(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let offset = self.at;
        match self.u8(field)? {
            0 => Ok(()),
            found => {
                Err(self.error(field, offset, Problem::Tag { found: found.into(), expected: "a zero byte" }))
            }
        }
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            bytes => Err(self.error("end", self.at, Problem::Trailing { bytes })),
        }
    }
}
