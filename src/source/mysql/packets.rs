//! Packets of the client protocol on a connection of our own, in pieces if they are large.
//!
//! A packet is a number of frames of at most 16 MiB, the last of which is shorter than that. Everything that was read
//! stays here until it is taken: each call may be dropped and made again.

use bytes::{Buf as _, Bytes, BytesMut};
use mysql_async::{DriverError, IoError, ServerError};
use std::io::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What the protocol is spoken over.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

type Result<T> = mysql_async::Result<T>;

/// A frame of this size is followed by another one of its packet.
const FULL: usize = 0xFF_FFFF;
/// Bytes that are read at once.
const READ: usize = 256 << 10;
/// No server sends a larger packet: the largest event, and a byte.
const MOST: usize = (1 << 30) + (1 << 20);

/// The frame that is being read.
#[derive(Clone, Copy)]
struct Frame {
    /// Bytes of it that were not taken.
    left: usize,
    /// Its packet goes on after it.
    goes_on: bool,
}

/// A connection.
pub(super) struct Packets {
    io: Box<dyn Io>,
    buffer: BytesMut,
    frame: Option<Frame>,
    /// Frames of the packet before the one that is being read.
    gathered: BytesMut,
    sequence: u8,
    /// Bytes came since it was asked last.
    has_heard: bool,
}

fn io(error: Error) -> mysql_async::Error {
    mysql_async::Error::Io(IoError::Io(error))
}

impl Packets {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        let (buffer, gathered) = (BytesMut::with_capacity(READ), BytesMut::new());
        Packets { io, buffer, frame: None, gathered, sequence: 0, has_heard: false }
    }

    /// The connection below, for who puts something between. Nothing may have been read ahead.
    pub(super) fn into_io(self) -> (Box<dyn Io>, u8) {
        (self.io, self.sequence)
    }

    /// Goes on above another connection.
    pub(super) fn resume(io: Box<dyn Io>, sequence: u8) -> Self {
        Packets { sequence, ..Packets::new(io) }
    }

    /// Whether bytes came since this was asked last.
    pub(super) fn has_heard(&mut self) -> bool {
        std::mem::take(&mut self.has_heard)
    }

    /// A new command begins.
    pub(super) fn restart(&mut self) {
        self.sequence = 0;
    }

    /// Sends a packet.
    pub(super) async fn send(&mut self, packet: &[u8]) -> Result<()> {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let [a, b, c, 0] = length.to_le_bytes() else {
            return Err(mysql_async::Error::Driver(DriverError::PacketTooLarge));
        };
        let header = [a, b, c, self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        self.io.write_all(&[&header[..], packet].concat()).await.map_err(io)?;
        self.io.flush().await.map_err(io)
    }

    /// Reads until so many bytes are here.
    async fn fill(&mut self, need: usize) -> Result<()> {
        while self.buffer.len() < need {
            if self.buffer.is_empty() && self.buffer.capacity() > 8 * READ {
                self.buffer = BytesMut::with_capacity(READ);
            }
            self.buffer.reserve(READ.max(need - self.buffer.len()));
            if self.io.read_buf(&mut self.buffer).await.map_err(io)? == 0 {
                return Err(io(Error::from(ErrorKind::UnexpectedEof)));
            }
            self.has_heard = true;
        }
        Ok(())
    }

    /// The frame that has bytes to be taken; `None` at the packet's end.
    async fn frame(&mut self) -> Result<Option<Frame>> {
        loop {
            match self.frame {
                Some(Frame { left: 0, goes_on: false }) => return Ok(None),
                Some(frame) if frame.left > 0 => return Ok(Some(frame)),
                _ => {}
            }
            self.fill(4).await?;
            let Some(&[a, b, c, sequence]) = self.buffer.first_chunk::<4>() else { continue };
            if sequence != self.sequence {
                return Err(mysql_async::Error::Driver(DriverError::PacketOutOfOrder));
            }
            self.sequence = self.sequence.wrapping_add(1);
            self.buffer.advance(4);
            let left = u32::from_le_bytes([a, b, c, 0]) as usize;
            self.frame = Some(Frame { left, goes_on: left == FULL });
        }
    }

    /// Bytes of the packet that are here and were not taken: at least `need`, or all that its frame has. None at its end.
    pub(super) async fn peek(&mut self, need: usize) -> Result<&[u8]> {
        let Some(frame) = self.frame().await? else { return Ok(&[]) };
        self.fill(need.min(frame.left)).await?;
        let here = self.buffer.len().min(frame.left);
        Ok(self.buffer.get(..here).unwrap_or_default())
    }

    /// Takes bytes that were seen.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        if let Some(frame) = &mut self.frame {
            frame.left = frame.left.saturating_sub(count);
        }
        self.buffer.split_to(count.min(self.buffer.len())).freeze()
    }

    /// The packet's end was seen: the next one follows.
    pub(super) fn end(&mut self) {
        self.frame = None;
    }

    /// A part of this packet was moved aside: what comes next is not its beginning.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// The rest of the packet.
    pub(super) async fn rest(&mut self) -> Result<Bytes> {
        loop {
            let Some(frame) = self.frame().await? else {
                self.end();
                return Ok(self.gathered.split().freeze());
            };
            if self.gathered.is_empty() && !frame.goes_on {
                self.fill(frame.left).await?;
                let bytes = self.take(frame.left);
                self.end();
                return Ok(bytes);
            }
            let here = self.peek(1).await?.len();
            let bytes = self.take(here);
            self.gathered.extend_from_slice(&bytes);
            if self.gathered.len() > MOST {
                return Err(mysql_async::Error::Driver(DriverError::PacketTooLarge));
            }
        }
    }

    /// A packet that is an answer.
    ///
    /// # Errors
    /// What the server says when it refuses.
    pub(super) async fn answer(&mut self) -> Result<Bytes> {
        let packet = self.rest().await?;
        match refusal(&packet) {
            Some(error) => Err(error),
            None => Ok(packet),
        }
    }

    /// Ends the connection; who does not listen is gone already.
    pub(super) async fn close(mut self) {
        if let Err(error) = self.io.shutdown().await {
            tracing::debug!("a connection was not closed in order: {error}");
        }
    }
}

/// What an error packet says.
pub(super) fn refusal(packet: &[u8]) -> Option<mysql_async::Error> {
    let [0xFF, a, b, rest @ ..] = packet else { return None };
    let (state, message) = match rest {
        [b'#', rest @ ..] => rest.split_at(rest.len().min(5)),
        _ => (&[][..], rest),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = u16::from_le_bytes([*a, *b]);
    Some(mysql_async::Error::Server(ServerError { code, message: text(message), state: text(state) }))
}
