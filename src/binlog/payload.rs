//! `TRANSACTION_PAYLOAD_EVENT`: the events of one transaction, compressed.
//!
//! The events within have no checksums (the compressed ones are covered by that of the payload). A transaction may take
//! gigabytes, so [`PayloadStream`] takes the bytes as they come and gives the events one by one: what is in memory is one
//! of them. Nothing that the event claims about sizes is trusted: more than it says is an error, and memory is taken as
//! it is filled.

use super::header::{Checksum, EventHeader};
use super::wire::{DecodeError, Problem, Reader};
use zstd::stream::raw::{Decoder, Operation};

const EVENT: &str = "TRANSACTION_PAYLOAD_EVENT";
/// No server writes a larger event.
const EVENT_LIMIT: u64 = 1 << 30;
/// Bytes that are unpacked at once.
const STEP: usize = 128 << 10;
/// The fields before the payload take less: three numbers, each with its type and length.
const FIELDS: usize = 64;

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
    let Fields { size, compression, uncompressed_size } = fields(reader)?;
    let payload = match size {
        Some(size) => reader.counted("payload", size)?,
        None => reader.take_rest(),
    };
    Ok(TransactionPayload { compression, uncompressed_size, payload })
}

/// What stands before the payload.
struct Fields {
    size: Option<u64>,
    compression: Compression,
    uncompressed_size: u64,
}

fn fields(reader: &mut Reader<'_>) -> Result<Fields, DecodeError> {
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
    Ok(Fields { size, compression, uncompressed_size })
}

#[cold]
fn error(field: &'static str, problem: Problem) -> DecodeError {
    DecodeError { event: EVENT, field, offset: 0, problem }
}

impl TransactionPayload<'_> {
    /// The events, header and body of each in one piece. For who has the whole payload and knows it to be small.
    ///
    /// # Errors
    /// Damaged bytes, or more than the payload says itself.
    pub fn events(&self) -> Result<Vec<Vec<u8>>, DecodeError> {
        let mut unpacker = Unpacker::new(self.compression, self.uncompressed_size)?;
        let (mut rest, mut events) = (self.payload, Vec::new());
        while let Some(event) = unpacker.next(&mut rest)? {
            events.push(event);
        }
        unpacker.end()?;
        Ok(events)
    }
}

/// From packed bytes to events.
struct Unpacker {
    /// `None`: the bytes are as they are.
    decoder: Option<Decoder<'static>>,
    scratch: Vec<u8>,
    /// Unpacked; what is before `at` was given out.
    out: Vec<u8>,
    at: usize,
    /// What the payload says that its events take; zero where it does not say.
    claimed: u64,
    total: u64,
    /// The decoder has more to give without being fed.
    is_full: bool,
    /// A frame was begun and has not ended.
    is_within: bool,
}

impl Unpacker {
    fn new(compression: Compression, claimed: u64) -> Result<Self, DecodeError> {
        let decoder = match compression {
            Compression::None => None,
            Compression::Zstd => Some(Decoder::new().map_err(|_| error("payload", Problem::Compressed))?),
        };
        let scratch = vec![0; STEP];
        let (out, at) = (Vec::new(), 0);
        Ok(Unpacker { decoder, scratch, out, at, claimed, total: 0, is_full: false, is_within: false })
    }

    /// The next event; `None` when all of `input` was taken and there is no whole one.
    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
        loop {
            if let Some(event) = self.whole()? {
                return Ok(Some(event));
            }
            if input.is_empty() && !self.is_full {
                return Ok(None);
            }
            self.step(input)?;
        }
    }

    /// An event that is there in full.
    fn whole(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        let rest = self.out.get(self.at..).unwrap_or_default();
        if rest.len() < EventHeader::LEN {
            return Ok(None);
        }
        let size = EventHeader::parse(rest)?.size;
        if u64::from(size) > EVENT_LIMIT {
            return Err(error("inner event", Problem::TooLarge { limit: EVENT_LIMIT }));
        }
        let Some(event) = rest.get(..size as usize) else { return Ok(None) };
        let event = event.to_vec();
        self.at += event.len();
        Ok(Some(event))
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<(), DecodeError> {
        let damaged = || error("payload", Problem::Compressed);
        self.out.drain(..self.at);
        self.at = 0;
        if self.out.is_empty() && self.out.capacity() > 4 * STEP {
            self.out = Vec::new();
        }
        let unpacked = match &mut self.decoder {
            None => {
                let (now, later) = input.split_at(input.len().min(STEP));
                *input = later;
                now
            }
            Some(decoder) => {
                let status = decoder.run_on_buffers(input, &mut self.scratch).map_err(|_| damaged())?;
                if status.bytes_read == 0 && status.bytes_written == 0 && !self.is_full {
                    return Err(damaged());
                }
                *input = input.get(status.bytes_read..).unwrap_or_default();
                // At a frame's end nothing is left: asked again, it would wait for another frame.
                self.is_full = status.bytes_written == STEP && status.remaining > 0;
                self.is_within = status.remaining > 0;
                self.scratch.get(..status.bytes_written).unwrap_or_default()
            }
        };
        self.total = self.total.saturating_add(unpacked.len() as u64);
        self.out.extend_from_slice(unpacked);
        if self.claimed > 0 && self.total > self.claimed {
            return Err(error("payload", Problem::TooLarge { limit: self.claimed }));
        }
        Ok(())
    }

    /// Nothing more comes.
    fn end(&self) -> Result<(), DecodeError> {
        if self.is_within || (self.claimed > 0 && self.total != self.claimed) {
            return Err(error("payload", Problem::Compressed));
        }
        match self.out.len() - self.at {
            0 => Ok(()),
            have => Err(error("inner event", Problem::Short { need: (have as u64).saturating_add(1), have })),
        }
    }
}

/// What [`PayloadStream::next`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unpacked {
    /// An event, without checksum.
    Event(Vec<u8>),
    /// All bytes were taken: more are needed.
    More,
    /// The end; the checksum was right.
    End,
}

/// Takes one payload event apart while it comes.
///
/// An event is given out when another one follows it, the last when the checksum of the whole was compared: so the end of
/// a transaction never comes out of bytes that were damaged on their way.
pub struct PayloadStream {
    /// Bytes of the body that did not come yet, but for the checksum.
    left: u64,
    /// The beginning of the body, until the fields are read.
    beginning: Vec<u8>,
    unpacker: Option<Unpacker>,
    held: Option<Vec<u8>>,
    checksum: Option<(crc32fast::Hasher, Vec<u8>)>,
    is_ended: bool,
}

impl PayloadStream {
    /// After the event's header.
    ///
    /// # Errors
    /// The header's size is too small.
    pub fn new(header: &EventHeader, checksum: Checksum) -> Result<Self, DecodeError> {
        let trailer = match checksum {
            Checksum::None => 0,
            Checksum::Crc32 => 4,
        };
        let around = EventHeader::LEN as u64 + trailer;
        let size = u64::from(header.size);
        let left = size.checked_sub(around).ok_or_else(|| error("size", Problem::Count { found: size }))?;
        let checksum = (trailer > 0).then(|| (header.hasher(), Vec::new()));
        Ok(PayloadStream {
            left,
            beginning: Vec::new(),
            unpacker: None,
            held: None,
            checksum,
            is_ended: false,
        })
    }

    /// What is next, taking from `input` what it needs: bytes after the header, in order, in pieces of any size. After
    /// [`Unpacked::End`] nothing is taken.
    ///
    /// # Errors
    /// Damaged bytes, a wrong checksum, or more than the payload says itself.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Unpacked, DecodeError> {
        loop {
            if self.is_ended {
                return Ok(Unpacked::End);
            }
            if self.unpacker.is_none() && !self.begin(input)? {
                return Ok(Unpacked::More);
            }
            let Some(unpacker) = &mut self.unpacker else { return Ok(Unpacked::More) };
            // What was read with the fields comes first.
            let is_beginning = !self.beginning.is_empty();
            let found = if is_beginning {
                let mut now = self.beginning.as_slice();
                let found = unpacker.next(&mut now)?;
                let taken = self.beginning.len() - now.len();
                self.beginning.drain(..taken);
                found
            } else {
                let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                let (here, _) = input.split_at(most);
                let mut now = here;
                let found = unpacker.next(&mut now)?;
                let (taken, _) = here.split_at(most - now.len());
                if let Some((hasher, _)) = &mut self.checksum {
                    hasher.update(taken);
                }
                self.left -= taken.len() as u64;
                *input = input.get(taken.len()..).unwrap_or_default();
                found
            };
            if let Some(event) = found {
                if let Some(before) = self.held.replace(event) {
                    return Ok(Unpacked::Event(before));
                }
                continue;
            }
            if is_beginning {
                continue;
            }
            if self.left > 0 {
                return Ok(Unpacked::More);
            }
            unpacker.end()?;
            if !self.verify(input)? {
                return Ok(Unpacked::More);
            }
            self.is_ended = true;
            if let Some(last) = self.held.take() {
                return Ok(Unpacked::Event(last));
            }
        }
    }

    /// Reads the fields. False: more is needed.
    fn begin(&mut self, input: &mut &[u8]) -> Result<bool, DecodeError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(FIELDS - self.beginning.len());
        let (now, later) = input.split_at(most.min(input.len()));
        self.beginning.extend_from_slice(now);
        self.left -= now.len() as u64;
        *input = later;
        if self.left > 0 && self.beginning.len() < FIELDS {
            return Ok(false);
        }
        if let Some((hasher, _)) = &mut self.checksum {
            hasher.update(&self.beginning);
        }
        let mut reader = Reader::new(EVENT, &self.beginning);
        let Fields { size, compression, uncompressed_size } = fields(&mut reader)?;
        let at = reader.at();
        let payload = (self.beginning.len() - at) as u64 + self.left;
        if let Some(found) = size.filter(|&size| size != payload) {
            return Err(error("payload size", Problem::Count { found }));
        }
        self.unpacker = Some(Unpacker::new(compression, uncompressed_size)?);
        self.beginning.drain(..at);
        Ok(true)
    }

    /// Compares the checksum. False: more is needed.
    fn verify(&mut self, input: &mut &[u8]) -> Result<bool, DecodeError> {
        let Some((hasher, found)) = &mut self.checksum else { return Ok(true) };
        let (now, later) = input.split_at(input.len().min(4 - found.len()));
        found.extend_from_slice(now);
        *input = later;
        let Some(found) = found.first_chunk::<4>() else { return Ok(false) };
        let (found, computed) = (u32::from_le_bytes(*found), hasher.clone().finalize());
        if found == computed {
            return Ok(true);
        }
        Err(error("checksum", Problem::Checksum { found, computed }))
    }
}
