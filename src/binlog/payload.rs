//! `TRANSACTION_PAYLOAD_EVENT`: the events of one transaction, compressed.
//!
//! The events within have no checksums (the compressed ones are covered by that of the payload). The size that the event
//! claims is not trusted: decompression stops at the caller's limit, and at the claimed size.

use super::header::{Checksum, EventHeader, RawEvent};
use super::wire::{DecodeError, Problem, Reader};
use std::borrow::Cow;
use std::io::Read;

const EVENT: &str = "TRANSACTION_PAYLOAD_EVENT";

/// How a payload is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As it is.
    None,
    /// zstd.
    Zstd,
}

/// A compressed transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionPayload<'a> {
    /// How it is packed.
    pub compression: Compression,
    /// What it says its events take. Zero: not said.
    pub uncompressed_size: u64,
    /// The packed bytes.
    pub payload: &'a [u8],
}

pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Result<TransactionPayload<'a>, DecodeError> {
    let (mut size, mut compression, mut uncompressed_size) = (None, Compression::None, 0);
    loop {
        let offset = reader.at();
        let field = reader.lenenc("field")?;
        if field == 0 {
            break;
        }
        let value = reader.lenenc_bytes("field")?;
        let mut value = Reader::new(EVENT, value);
        match field {
            1 => size = Some(value.lenenc("payload size")?),
            2 => {
                compression = match value.lenenc("compression")? {
                    0 => Compression::Zstd,
                    255 => Compression::None,
                    found => {
                        let problem = Problem::Tag { found, expected: "compression 0 (zstd) or 255 (none)" };
                        return Err(reader.error("compression", offset, problem));
                    }
                }
            }
            3 => uncompressed_size = value.lenenc("uncompressed size")?,
            found => {
                let problem = Problem::Tag { found, expected: "a field of a payload" };
                return Err(reader.error("field", offset, problem));
            }
        }
        value.end()?;
    }
    let payload = match size {
        Some(size) => reader.counted("payload", size)?,
        None => reader.take_rest(),
    };
    Ok(TransactionPayload { compression, uncompressed_size, payload })
}

impl<'a> TransactionPayload<'a> {
    /// The events as one piece of bytes: walk through them with [`PayloadEvents`].
    ///
    /// # Errors
    /// More than `limit` bytes, or than it says itself; damaged bytes.
    pub fn unpack(&self, limit: u64) -> Result<Cow<'a, [u8]>, DecodeError> {
        let error = |problem| DecodeError { event: EVENT, field: "payload", offset: 0, problem };
        if self.uncompressed_size > limit {
            return Err(error(Problem::TooLarge { limit }));
        }
        if self.compression == Compression::None {
            return Ok(Cow::Borrowed(self.payload));
        }
        let most = if self.uncompressed_size > 0 { self.uncompressed_size } else { limit };
        let mut out = Vec::new();
        let decoder = zstd::Decoder::new(self.payload).map_err(|_| error(Problem::Compressed))?;
        // One byte more than allowed, to see that there is none. Memory is taken as it is filled.
        decoder.take(most.saturating_add(1)).read_to_end(&mut out).map_err(|_| error(Problem::Compressed))?;
        match out.len() as u64 {
            found if found > most => Err(error(Problem::TooLarge { limit: most })),
            found if self.uncompressed_size > 0 && found != most => Err(error(Problem::Compressed)),
            _ => Ok(Cow::Owned(out)),
        }
    }
}

/// The events of an unpacked payload, in order.
#[derive(Clone, Debug)]
pub struct PayloadEvents<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> PayloadEvents<'a> {
    /// Of what [`TransactionPayload::unpack`] gave.
    pub fn new(bytes: &'a [u8]) -> Self {
        PayloadEvents { rest: bytes, at: 0 }
    }
}

impl<'a> Iterator for PayloadEvents<'a> {
    type Item = Result<RawEvent<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = EventHeader::parse(self.rest).and_then(|header| {
            self.rest.split_at_checked(header.size as usize).ok_or_else(|| {
                let problem = Problem::Short { need: header.size.into(), have: self.rest.len() };
                DecodeError { event: EVENT, field: "inner event", offset: self.at, problem }
            })
        });
        let (event, rest) = match split {
            Ok(parts) => parts,
            Err(error) => {
                self.rest = &[];
                return Some(Err(error));
            }
        };
        self.rest = rest;
        self.at += event.len();
        Some(RawEvent::parse(event, Checksum::None))
    }
}
