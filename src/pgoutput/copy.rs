//! The stream of `COPY … TO STDOUT (FORMAT binary)`, cut into chunks anywhere.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>. Rows go straight into a
//! [`BatchBuilder`], through the same column builders as streamed rows. Only a row that a chunk cuts in two
//! is copied first.

use super::builder::BatchBuilder;
use super::reason::ValueError;
use super::tuple::Value;
use super::wire::{DecodeError, Problem};
use crate::error::Error;
use crate::schema::TableSchema;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xFF\r\n\0";
/// Flag bits that a reader must understand; none of them is of use to us.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;
/// The longest field that a server can send (`MaxAllocSize`).
const MAX_FIELD: usize = 0x3FFF_FFFF;
/// Name of the stream in errors.
const STREAM: &str = "COPY";

/// Why a copy ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyError {
    /// The stream is not of the format.
    Format(DecodeError),
    /// A row cannot be taken.
    Value(ValueError),
}

impl CopyError {
    /// With code and advice, for people.
    pub fn into_error(self, schema: &TableSchema) -> Error {
        match self {
            CopyError::Format(error) => error.into(),
            CopyError::Value(error) => error.into_error(schema),
        }
    }
}

impl From<ValueError> for CopyError {
    fn from(error: ValueError) -> Self {
        CopyError::Value(error)
    }
}

impl From<DecodeError> for CopyError {
    fn from(error: DecodeError) -> Self {
        CopyError::Format(error)
    }
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CopyError::Format(error) => error.fmt(f),
            CopyError::Value(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for CopyError {}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Header,
    /// So many bytes of the header's extension are still to skip.
    Extension(usize),
    Rows,
    Done,
    Failed(CopyError),
}

/// Reads one COPY stream.
#[derive(Debug)]
pub struct CopyDecoder {
    state: State,
    /// The beginning of a row, or of the header, that the last chunk cut.
    carry: Vec<u8>,
    /// `carry` is looked at again when it has so many bytes.
    need: usize,
    /// Bytes before the carry, for errors.
    offset: usize,
}

impl Default for CopyDecoder {
    fn default() -> Self {
        Self::new()
    }
}

/// What the bytes at hand begin with.
enum Piece {
    /// Something complete: take so many bytes.
    Whole(usize),
    /// Not complete: at least so many bytes are needed.
    Need(usize),
}

impl CopyDecoder {
    /// At the start of the stream.
    pub fn new() -> Self {
        CopyDecoder { state: State::Header, carry: Vec::new(), need: 0, offset: 0 }
    }

    /// Reads a chunk: every row that it completes goes into `into`. Call [`BatchBuilder::take`] between
    /// chunks.
    ///
    /// # Errors
    /// The rows before the bad one are in `into`. The decoder repeats its error from then on.
    pub fn feed(&mut self, chunk: &[u8], into: &mut BatchBuilder) -> Result<(), CopyError> {
        let result = self.try_feed(chunk, into);
        if let Err(error) = result {
            self.state = State::Failed(error);
            self.carry = Vec::new();
        }
        result
    }

    /// The stream has ended: it must have had its trailer.
    pub fn finish(&self) -> Result<(), CopyError> {
        match self.state {
            State::Done => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(self.error("trailer", 0, Problem::Short { need: 2, have: self.carry.len() })),
        }
    }

    fn try_feed(&mut self, chunk: &[u8], into: &mut BatchBuilder) -> Result<(), CopyError> {
        if self.carry.is_empty() {
            let used = self.read(chunk, into)?;
            self.carry.extend_from_slice(chunk.get(used..).unwrap_or_default());
            return Ok(());
        }
        self.carry.extend_from_slice(chunk);
        if self.carry.len() < self.need {
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        let used = self.read(&carry, into)?;
        carry.drain(..used);
        self.carry = carry;
        Ok(())
    }

    /// Reads what is complete in `bytes` and says how many bytes that was.
    fn read(&mut self, bytes: &[u8], into: &mut BatchBuilder) -> Result<usize, CopyError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let piece = match self.state {
                State::Failed(error) => return Err(error),
                State::Done if rest.is_empty() => Piece::Need(1),
                State::Done => {
                    return Err(self.error("end", 0, Problem::Trailing { bytes: rest.len() }));
                }
                State::Header => self.header(rest)?,
                State::Extension(left) => self.extension(left, rest),
                State::Rows => self.row(rest, into)?,
            };
            match piece {
                Piece::Whole(len) => {
                    at += len;
                    self.offset += len;
                }
                Piece::Need(need) => {
                    self.need = need;
                    return Ok(at);
                }
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Piece, CopyError> {
        let known = SIGNATURE.iter().zip(bytes).position(|(expected, found)| expected != found);
        if let Some(at) = known {
            let found = bytes.get(at).copied().unwrap_or_default();
            let problem = Problem::Tag { found, expected: "the signature of COPY's binary format" };
            return Err(self.error("signature", at, problem));
        }
        let Some((head, _)) = bytes.split_first_chunk::<19>() else { return Ok(Piece::Need(19)) };
        let [.., f0, f1, f2, f3, e0, e1, e2, e3] = *head;
        let flags = u32::from_be_bytes([f0, f1, f2, f3]);
        if flags & CRITICAL_FLAGS != 0 {
            return Err(self.error("flags", 11, Problem::Flags { found: flags }));
        }
        let extension = i32::from_be_bytes([e0, e1, e2, e3]);
        let left = usize::try_from(extension)
            .map_err(|_| self.error("extension", 15, Problem::Count { found: extension.into() }))?;
        self.state = State::Extension(left);
        Ok(Piece::Whole(19))
    }

    fn extension(&mut self, left: usize, bytes: &[u8]) -> Piece {
        let skipped = left.min(bytes.len());
        self.state = if skipped == left { State::Rows } else { State::Extension(left - skipped) };
        if skipped == 0 && left > 0 { Piece::Need(1) } else { Piece::Whole(skipped) }
    }

    fn row(&mut self, bytes: &[u8], into: &mut BatchBuilder) -> Result<Piece, CopyError> {
        let Some((count, fields)) = bytes.split_first_chunk::<2>() else { return Ok(Piece::Need(2)) };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.state = State::Done;
            return Ok(Piece::Whole(2));
        }
        let columns = usize::try_from(count)
            .map_err(|_| self.error("column count", 0, Problem::Count { found: count.into() }))?;
        let mut at = 2;
        let mut rest = fields;
        for _ in 0..columns {
            let Some((len, after)) = rest.split_first_chunk::<4>() else { return Ok(Piece::Need(at + 4)) };
            let len = i32::from_be_bytes(*len);
            let bytes = match usize::try_from(len) {
                Ok(bytes) if bytes <= MAX_FIELD => bytes,
                _ if len == -1 => 0,
                _ => return Err(self.error("field length", at, Problem::Count { found: len.into() })),
            };
            at += 4 + bytes;
            let Some(after) = after.get(bytes..) else { return Ok(Piece::Need(at)) };
            rest = after;
        }
        into.push_read(columns, Fields { rest: fields, left: columns }, at)?;
        Ok(Piece::Whole(at))
    }

    #[cold]
    fn error(&self, field: &'static str, at: usize, problem: Problem) -> CopyError {
        CopyError::Format(DecodeError { message: STREAM, field, offset: self.offset + at, problem })
    }
}

/// The fields of one row, whose lengths were checked.
struct Fields<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let len = i32::from_be_bytes(*len);
        if len == -1 {
            self.rest = rest;
            return Some(Value::Null);
        }
        let (bytes, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(Value::Binary(bytes))
    }
}
