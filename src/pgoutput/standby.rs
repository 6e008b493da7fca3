//! What stands in the CopyData frames of a replication connection: WAL and keepalives from the server,
//! status updates from us. <https://www.postgresql.org/docs/current/protocol-replication.html>

use super::wire::{DecodeError, Problem, Reader};
use crate::position::Lsn;

/// A CopyData payload from the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicationFrame<'a> {
    /// `w`: a piece of the stream; with pgoutput exactly one message.
    XLogData(XLogData<'a>),
    /// `k`: the server is alive.
    Keepalive(Keepalive),
}

/// One message of the output plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XLogData<'a> {
    /// Where it stands in the log. Of no use to resume by: it repeats and goes backwards.
    pub start: Lsn,
    /// End of the server's log when it was sent.
    pub end: Lsn,
    /// The server's clock, microseconds since 2000-01-01 UTC.
    pub time: i64,
    /// The message, for [`super::decode`].
    pub data: &'a [u8],
}

/// A keepalive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// End of the server's log, as far as the walsender has read it.
    pub end: Lsn,
    /// The server's clock, microseconds since 2000-01-01 UTC.
    pub time: i64,
    /// The server wants a status update at once, or it will close the connection.
    pub reply: bool,
}

impl<'a> ReplicationFrame<'a> {
    /// Reads a CopyData payload.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("replication", bytes);
        match r.u8("kind")? {
            b'w' => {
                r.name("XLogData");
                let (start, end, time) = (r.u64("start")?, r.u64("end")?, r.i64("time")?);
                let (start, end) = (Lsn::new(start), Lsn::new(end));
                Ok(ReplicationFrame::XLogData(XLogData { start, end, time, data: r.rest() }))
            }
            b'k' => {
                r.name("Keepalive");
                let (end, time) = (Lsn::new(r.u64("end")?), r.i64("time")?);
                let reply = r.tag("reply", "0 or 1", |byte| match byte {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                })?;
                r.end()?;
                Ok(ReplicationFrame::Keepalive(Keepalive { end, time, reply }))
            }
            found => Err(r.error("kind", 0, Problem::Tag { found, expected: "w or k" })),
        }
    }
}

/// Standby Status Update, from us: how far we are. `flushed` is what lets the server discard log; it must
/// never pass what the sink has made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyStatus {
    /// Received up to here.
    pub written: Lsn,
    /// Durable up to here: the slot's `confirmed_flush_lsn`.
    pub flushed: Lsn,
    /// Visible up to here.
    pub applied: Lsn,
    /// Our clock, microseconds since 2000-01-01 UTC.
    pub time: i64,
    /// Ask the server for a keepalive at once.
    pub reply: bool,
}

impl StandbyStatus {
    /// Length of the encoded form.
    pub const LEN: usize = 34;

    /// The CopyData payload.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields = [
            (1, self.written.raw()),
            (9, self.flushed.raw()),
            (17, self.applied.raw()),
            (25, self.time.cast_unsigned()),
        ];
        bytes[0] = b'r';
        for (at, field) in fields {
            bytes[at..at + 8].copy_from_slice(&field.to_be_bytes());
        }
        bytes[33] = u8::from(self.reply);
        bytes
    }
}
