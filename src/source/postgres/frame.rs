//! Frames of the protocol, taken in place from one large buffer.
//!
//! A frame is a tag, a length that counts itself, and a body. Bodies are lent, not copied: no allocation
//! per row. The buffer grows only as bytes come in, never on the word of a length field, so a lying peer
//! costs at most twice what it sends; it shrinks back after a large frame.

use super::fault::protocol;
use crate::error::Result;

/// Room for a burst and more, bytes.
const ROOM: usize = 256 * 1024;
/// Reads into less room than this would be too small, bytes.
const MIN_READ: usize = 64 * 1024;
/// The server's own limit of an allocation is 1 GiB; no frame is larger but for its framing.
const MAX_FRAME: usize = (1 << 30) + 1024;
/// A buffer beyond this is given back when it is empty, bytes.
const KEEP: usize = 4 * 1024 * 1024;

/// One frame, lent from the buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Kind of message.
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
}

/// Bytes received and not yet taken.
pub struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        FrameBuffer { bytes: vec![0; ROOM], start: 0, end: 0 }
    }
}

impl FrameBuffer {
    /// Tag and whole size of the next frame, if it is complete.
    ///
    /// Errors: the length is below 4 or beyond what the server can make.
    pub fn peek(&self) -> Result<Option<(u8, usize)>> {
        let held = &self.bytes[self.start..self.end];
        let Some((&[tag, a, b, c, d], _)) = held.split_first_chunk::<5>() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0);
        if !(4..=MAX_FRAME).contains(&length) {
            return Err(protocol(format!(
                "a message of kind {:?} with a length of {length}",
                char::from(tag)
            )));
        }
        Ok((held.len() > length).then_some((tag, length + 1)))
    }

    /// Takes the next frame, if it is complete.
    pub fn take(&mut self) -> Result<Option<Frame<'_>>> {
        let Some((tag, size)) = self.peek()? else { return Ok(None) };
        let from = self.start;
        self.start += size;
        Ok(Some(Frame { tag, body: &self.bytes[from + 5..from + size] }))
    }

    /// Room to read into: never empty.
    pub fn room(&mut self) -> &mut [u8] {
        self.give_back();
        if self.bytes.len() - self.end < MIN_READ {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() - self.end < MIN_READ {
                let size = self.next_size();
                self.bytes.reserve_exact(size - self.bytes.len());
                self.bytes.resize(size, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Gives back what a large frame took, when little is held.
    pub fn give_back(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let held = self.end - self.start;
        if self.bytes.len() > KEEP && held < MIN_READ {
            let mut small = vec![0; ROOM];
            small[..held].copy_from_slice(&self.bytes[self.start..self.end]);
            (self.bytes, self.start, self.end) = (small, 0, held);
        }
    }

    /// How large the buffer is to be next: twice as large, but no larger than the frame that comes needs.
    fn next_size(&self) -> usize {
        let twice = self.bytes.len() * 2;
        let Some((_, length)) = self.bytes[..self.end].split_first_chunk::<5>().map(|(head, _)| {
            let [tag, a, b, c, d] = *head;
            (tag, usize::try_from(i32::from_be_bytes([a, b, c, d])).unwrap_or(0))
        }) else {
            return twice;
        };
        twice.min((length + 1 + MIN_READ).max(self.bytes.len() + MIN_READ))
    }

    /// `n` bytes were read into [`FrameBuffer::room`].
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Nothing held.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn feed(buffer: &mut FrameBuffer, mut bytes: &[u8], step: usize) -> Vec<(u8, Vec<u8>)> {
        let mut got = Vec::new();
        while !bytes.is_empty() {
            let room = buffer.room();
            let n = step.min(bytes.len()).min(room.len());
            room[..n].copy_from_slice(&bytes[..n]);
            buffer.filled(n);
            bytes = &bytes[n..];
            while let Some(frame) = buffer.take().unwrap() {
                got.push((frame.tag, frame.body.to_vec()));
            }
        }
        got
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(sizes in prop::collection::vec(0usize..300_000, 1..12), step in 1usize..100_000) {
            let frames: Vec<(u8, Vec<u8>)> =
                sizes.iter().enumerate().map(|(i, &n)| (b'a' + i as u8, vec![i as u8; n])).collect();
            let mut bytes = Vec::new();
            for (tag, body) in &frames {
                bytes.push(*tag);
                bytes.extend(((body.len() + 4) as i32).to_be_bytes());
                bytes.extend(body);
            }
            let mut buffer = FrameBuffer::default();
            prop_assert_eq!(feed(&mut buffer, &bytes, step.max(64)), frames);
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_or_cost_nothing() {
        for length in [-1i32, 0, 3, i32::MAX, (1 << 30) + 1025] {
            let mut buffer = FrameBuffer::default();
            let mut bytes = vec![b'd'];
            bytes.extend(length.to_be_bytes());
            buffer.room()[..5].copy_from_slice(&bytes);
            buffer.filled(5);
            assert!(buffer.take().is_err(), "{length}");
        }
        let mut buffer = FrameBuffer::default();
        buffer.room()[..5].copy_from_slice(&[b'd', 0x3f, 0xff, 0xff, 0xff]);
        buffer.filled(5);
        assert_eq!(buffer.take().unwrap(), None);
        assert!(buffer.room().len() <= ROOM, "a gigabyte was promised, none came, none was allocated");
    }

    #[test]
    fn a_large_frame_is_given_back() {
        let mut buffer = FrameBuffer::default();
        let body = vec![1u8; 9_000_000];
        let mut bytes = vec![b'd'];
        bytes.extend(9_000_004i32.to_be_bytes());
        bytes.extend(&body);
        assert_eq!(feed(&mut buffer, &bytes, 100_000).len(), 1);
        buffer.room();
        assert_eq!(buffer.bytes.len(), ROOM);
    }
}
