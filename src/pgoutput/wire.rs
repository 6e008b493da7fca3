//! Reading big-endian fields out of bytes that a server sent, with an error that says where and what.
//!
//! Errors carry the name of the message, the offset, and counts or tag bytes: never content.

use crate::error::{Error, codes};

/// What did not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The field needs more bytes than there are.
    Short {
        /// Bytes that the field needs.
        need: usize,
        /// Bytes that are left.
        have: usize,
    },
    /// Bytes after the end of the message.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A byte that is none of those expected.
    Tag {
        /// The byte.
        found: u8,
        /// What is expected, for people.
        expected: &'static str,
    },
    /// A count or length that cannot be.
    Count {
        /// The number.
        found: i64,
    },
    /// Flag bits that this version does not know.
    Flags {
        /// All bits found.
        found: u32,
    },
    /// A name that has no terminating zero byte.
    Unterminated,
    /// A name that is not UTF-8.
    NotUtf8,
}

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// The message that was being read.
    pub message: &'static str,
    /// The field.
    pub field: &'static str,
    /// Offset of the field in the message's bytes.
    pub offset: usize,
    /// What did not fit.
    pub problem: Problem,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DecodeError { message, field, offset, problem } = self;
        write!(f, "{message} message, {field} at byte {offset}: ")?;
        match problem {
            Problem::Short { need, have } => write!(f, "expected {need} bytes, found {have}"),
            Problem::Trailing { bytes } => write!(f, "expected the end, found {bytes} more bytes"),
            Problem::Tag { found, expected } => {
                write!(f, "expected {expected}, found \"{}\"", found.escape_ascii())
            }
            Problem::Count { found } => write!(f, "{found} is not a possible count or length"),
            Problem::Flags { found } => write!(f, "unknown flags {found:#x}"),
            Problem::Unterminated => f.write_str("the name has no end"),
            Problem::NotUtf8 => f.write_str("the name is not UTF-8"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::new(codes::PG024, "the server sent bytes that are not of the protocol").with_source(error).with_try(
            "check that nothing but PostgreSQL 14 to 18 stands at this address; if so, report this as a defect",
        )
    }
}

/// A place in a message's bytes.
pub(super) struct Reader<'a> {
    message: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`, reading `message`.
    pub(super) fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        Reader { message, bytes, at: 0 }
    }

    /// From here on the fields belong to `message`.
    pub(super) fn name(&mut self, message: &'static str) {
        self.message = message;
    }

    /// Offset of the next field.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest().len()
    }

    /// The rest, without moving.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// An error about a field that starts at `offset`.
    #[cold]
    pub(super) fn error(&self, field: &'static str, offset: usize, problem: Problem) -> DecodeError {
        DecodeError { message: self.message, field, offset, problem }
    }

    #[cold]
    fn short(&self, field: &'static str, need: usize) -> DecodeError {
        self.error(field, self.at, Problem::Short { need, have: self.left() })
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((array, _)) = self.rest().split_first_chunk::<N>() else {
            return Err(self.short(field, N));
        };
        self.at += N;
        Ok(*array)
    }

    /// One byte.
    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes.
    pub(super) fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_be_bytes)
    }

    /// Four bytes.
    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Four bytes, signed.
    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.array(field).map(i32::from_be_bytes)
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Eight bytes, signed.
    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// `len` bytes.
    pub(super) fn bytes(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((bytes, _)) = self.rest().split_at_checked(len) else {
            return Err(self.short(field, len));
        };
        self.at += len;
        Ok(bytes)
    }

    /// A length, then so many bytes.
    pub(super) fn counted(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let offset = self.at;
        let found = self.i32(field)?;
        match usize::try_from(found) {
            Ok(len) => self.bytes(field, len),
            Err(_) => Err(self.error(field, offset, Problem::Count { found: found.into() })),
        }
    }

    /// Text up to a zero byte.
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let offset = self.at;
        let rest = self.rest();
        let Some((text, _)) = rest.iter().position(|&b| b == 0).and_then(|end| rest.split_at_checked(end))
        else {
            return Err(self.error(field, offset, Problem::Unterminated));
        };
        self.at += text.len() + 1;
        std::str::from_utf8(text).map_err(|_| self.error(field, offset, Problem::NotUtf8))
    }

    /// One byte of flags, of which only `known` may be set.
    pub(super) fn flags(&mut self, field: &'static str, known: u8) -> Result<u8, DecodeError> {
        let offset = self.at;
        let found = self.u8(field)?;
        if found & !known != 0 {
            return Err(self.error(field, offset, Problem::Flags { found: found.into() }));
        }
        Ok(found)
    }

    /// One of the bytes that `pick` knows.
    pub(super) fn tag<T>(
        &mut self,
        field: &'static str,
        expected: &'static str,
        pick: impl FnOnce(u8) -> Option<T>,
    ) -> Result<T, DecodeError> {
        let offset = self.at;
        let found = self.u8(field)?;
        pick(found).ok_or_else(|| self.error(field, offset, Problem::Tag { found, expected }))
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            bytes => Err(self.error("end", self.at, Problem::Trailing { bytes })),
        }
    }
}
