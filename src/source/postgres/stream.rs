//! The stream of changes: a replication connection, read in bursts, decoded as it comes.
//!
//! [`PgStream::next`] takes every complete message that is at hand straight into the tables' builders and
//! waits only when there is none. It is cancel-safe: what has come is kept, in the connection's buffer or in
//! the builders. The position that the server is told comes from elsewhere ([`super::feedback`]).

use super::assemble::{Assembler, Burst, Progress};
use super::fault::{ServerError, protocol};
use super::feedback::Feedback;
use super::held::Waiting;
use super::options::PgOptions;
use super::publication;
use super::quote::{identifier, identifiers, literal};
use super::slot;
use super::spill::Spill;
use super::sql::Sql;
use super::wire::{Purpose, Wire, WireReader};
use crate::error::{Error, Result, codes};
use crate::event::ChangeBatch;
use crate::pgoutput::Policies;
use crate::position::{CommitLsn, Lsn, ServerPoint};
use crate::schema::{TableId, TableSchema};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

/// Which transactions are wanted, by where they came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OriginFilter {
    /// All.
    #[default]
    Any,
    /// Only those that were made here: not what another replication brought.
    None,
}

/// How to stream.
pub struct StreamStart {
    /// The publications, as [`super::publication::Published::names`] has them.
    pub publications: Vec<String>,
    /// The operator's choices about values.
    pub policies: Policies,
    /// Values in text form: [`super::catalog::Catalog::text_stream`].
    pub text: bool,
    /// Transactions from here on are not taken and end the stream.
    pub stop_before: Option<Lsn>,
    /// Report replayed transactions that are held at this position.
    pub guard: Option<CommitLsn>,
    /// The position that may be told to the server: durable in the sink and in a cut.
    pub acknowledged: watch::Receiver<CommitLsn>,
    /// How long to wait for a slot that somebody else holds, who is alive.
    pub patience: Duration,
    /// Large transactions are sent before they commit.
    pub streaming: bool,
    /// Where they wait until then.
    pub spill: Spill,
    /// Which transactions are wanted.
    pub origin: OriginFilter,
}

/// When a call ends although more is at hand: at the first end of a transaction from here on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Changes taken for our tables.
    pub rows: u64,
    /// Bytes of messages.
    pub bytes: u64,
}

impl Budget {
    /// The first end of a transaction.
    pub const BOUNDARY: Budget = Budget { rows: 0, bytes: 0 };
    /// Whatever is at hand.
    pub const ALL: Budget = Budget { rows: u64::MAX, bytes: u64::MAX };
}

/// Least and most time for which a server may be silent before it is asked for a sign of life; then as long again
/// until it is taken for gone.
const QUIET: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// How long the server has said nothing. TCP notices a peer whose machine is gone; not one behind a proxy or a
/// firewall that lost its half of the connection and goes on answering for it.
struct Silence {
    /// Bytes came, or we asked, at this moment.
    since: Instant,
    /// The server was asked for a sign of life.
    asked: bool,
    quiet: Duration,
}

impl Silence {
    /// `timeout`: the server's `wal_sender_timeout`; zero: none.
    fn new(timeout: Duration) -> Self {
        let quiet = if timeout.is_zero() { *QUIET.end() } else { timeout };
        Silence { since: Instant::now(), asked: false, quiet: quiet.clamp(*QUIET.start(), *QUIET.end()) }
    }
}

/// A running stream. The slot is ours as long as it lives.
pub struct PgStream {
    reader: WireReader,
    feedback: Feedback,
    assembler: Assembler,
    point: ServerPoint,
    silence: Silence,
    stopped: bool,
    failed: Option<Error>,
}

impl PgStream {
    /// Takes the slot and starts streaming at its confirmed position.
    ///
    /// Errors: PG040 when the slot is not there, PG013 or PG046 when it cannot be used, PG011 with who holds
    /// it after the wait for it, PG007 when a publication is missing.
    pub async fn start(options: &PgOptions, sql: &Sql, start: StreamStart) -> Result<PgStream> {
        let missing = publication::missing(sql, &start.publications).await?;
        if !missing.is_empty() {
            let names = identifiers(missing.iter().map(String::as_str));
            return Err(Error::new(codes::PG007, format!("publication {names} does not exist"))
                .with_try("strandline setup"));
        }
        let mut waiting = Waiting::new(start.patience);
        loop {
            match Self::attempt(options, sql, &start).await {
                Err(error) if error.code() == codes::PG011 => waiting.again(options, sql, error).await?,
                result => return result,
            }
        }
    }

    async fn attempt(options: &PgOptions, sql: &Sql, start: &StreamStart) -> Result<PgStream> {
        let slot = &options.slot;
        let Some(state) = slot::inspect(sql, slot).await? else {
            let what = format!("replication slot \"{slot}\" does not exist");
            return Err(Error::new(codes::PG040, what).with_try("strandline resync --all --yes"));
        };
        state.check_usable(options)?;
        let mut wire = Wire::connect(options, Purpose::Replication).await?;
        let point = slot::identify_on(&mut wire).await?;
        let timeout = sender_timeout(&mut wire).await?;
        // Zero: where the slot was acknowledged.
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 ({}, publication_names {}, binary '{}', messages 'true')",
            identifier(slot),
            protocol_options(sql.major(), start.streaming, start.origin)?,
            literal(&identifiers(start.publications.iter().map(String::as_str))),
            !start.text
        );
        let (reader, writer) = wire.start_replication(&command).await?;
        let feedback = Feedback::start(writer, start.acknowledged.clone(), timeout);
        let assembler =
            Assembler::new(start.policies, start.stop_before, start.guard).with_spill(start.spill.clone());
        let silence = Silence::new(timeout);
        Ok(PgStream { reader, feedback, assembler, point, silence, stopped: false, failed: None })
    }

    /// Who the server is, and the end of its log when the stream began.
    pub fn server(&self) -> &ServerPoint {
        &self.point
    }

    /// Reports transactions with changes up to `guard` in [`Burst::replayed`] from now on, or no longer.
    pub fn set_guard(&mut self, guard: Option<CommitLsn>) {
        self.assembler.set_guard(guard);
    }

    /// Takes no transaction whose commit record starts at or after `bound`; then the stream ends.
    pub fn set_stop_before(&mut self, bound: Lsn) {
        self.assembler.set_stop_before(bound);
    }

    /// Takes a table's changes from now on, but for transactions that `skip_until` holds already.
    pub fn add_table(&mut self, schema: Arc<TableSchema>, skip_until: CommitLsn) -> Result<()> {
        self.assembler.add(schema, skip_until)
    }

    /// Takes a table's changes no more.
    pub fn remove_table(&mut self, id: TableId) {
        self.assembler.remove(id);
    }

    /// Rows of a table so far, also within a transaction. `None`: there are none, or no more.
    ///
    /// Errors: PG021 when a text is not UTF-8; the table has stopped then.
    pub fn take(&mut self, id: TableId) -> Result<Option<ChangeBatch>> {
        self.assembler.take(id)
    }

    /// The rows of all tables, each batch with its own outcome.
    pub fn take_all(&mut self) -> Vec<(TableId, Result<ChangeBatch>)> {
        let mut taken = Vec::new();
        for id in self.assembler.tables_with_rows() {
            while let Some(batch) = self.assembler.take(id).transpose() {
                taken.push((id, batch));
            }
        }
        taken
    }

    /// Drops the rows of a table that were not taken.
    pub fn discard(&mut self, id: TableId) {
        self.assembler.discard(id);
    }

    /// Bytes of memory that rows take which were not taken.
    pub fn held_bytes(&self) -> usize {
        self.assembler.bytes()
    }

    /// The same for one table.
    pub fn held_bytes_of(&self, id: TableId) -> usize {
        self.assembler.bytes_of(id)
    }

    /// Bytes of memory that rows take whose transactions have not committed.
    pub fn uncommitted_bytes(&self) -> usize {
        self.assembler.uncommitted_bytes()
    }

    /// Bytes of such rows that were put on disk so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.assembler.spilled_bytes()
    }

    /// Up to where transactions are needed whole, not in blocks, if the last error was of that.
    pub fn wants_whole(&self) -> Option<CommitLsn> {
        self.assembler.wants_whole()
    }

    /// Takes what is at hand, or waits for it. Returns at the end of a transaction once the budget is reached,
    /// else when no complete message is left, which may be within a transaction ([`Burst::open`]), or with
    /// each slice of a large one that is handed on. Cancel-safe.
    ///
    /// Errors: PG006 when the connection is lost, PG024 when the stream cannot be understood, PG046 and others
    /// by what the server says. After an error only [`PgStream::finish`] is of use; what came before it was
    /// given by the call before.
    pub async fn next(&mut self, budget: Budget) -> Result<Burst> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.stopped {
                return Ok(Burst { stopped: true, ..self.assembler.take_burst() });
            }
            let progressed = match self.take_buffered(budget) {
                Ok(progressed) => progressed,
                Err((error, false)) => return Err(error),
                // What came before the error is good.
                Err((error, true)) => {
                    self.failed = Some(error);
                    true
                }
            };
            if progressed {
                return Ok(self.assembler.take_burst());
            }
            // In backlog the socket is read without the runtime knowing: give way to others now and then.
            tokio::task::consume_budget().await;
            self.fill().await?;
        }
    }

    /// Reads more. A server that says nothing is asked, and then given up. Cancel-safe.
    async fn fill(&mut self) -> Result<()> {
        let Silence { since, asked, quiet } = self.silence;
        match tokio::time::timeout_at(since + quiet, self.reader.fill()).await {
            Ok(read) => {
                read?;
                self.silence = Silence { since: Instant::now(), asked: false, quiet };
                Ok(())
            }
            Err(_) if !asked => {
                self.feedback.ask();
                self.silence = Silence { since: Instant::now(), asked: true, quiet };
                Ok(())
            }
            Err(_) => {
                let what =
                    format!("the server has said nothing for {} s, although it was asked", quiet.as_secs());
                Err(Error::new(codes::PG006, what))
            }
        }
    }

    /// A server that was silent for so long may be busy rather than gone: each time in a row it is given twice the
    /// time, so that work which takes long is not begun again and again.
    pub fn be_patient(&mut self, times: u32) {
        self.silence.quiet = self.silence.quiet.saturating_mul(1 << times.min(8));
    }

    /// Whether the stream ended because the server said nothing.
    pub fn was_silent(&self) -> bool {
        self.silence.asked
    }

    /// Whether any message was taken. An error comes with the same.
    fn take_buffered(&mut self, budget: Budget) -> Result<bool, (Error, bool)> {
        let mut progressed = false;
        if self.assembler.is_applying() {
            return self.assembler.apply().map(|_| true).map_err(|error| (error, false));
        }
        loop {
            let frame = match self.reader.try_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(progressed),
                Err(error) => return Err((error, progressed)),
            };
            let progress = match frame.tag {
                b'd' => self.assembler.on_frame(frame.body),
                b'E' => Err(ServerError::parse(frame.body).into_error("the replication stream")),
                b'c' => Err(Error::new(codes::PG006, "the server ended the replication stream")),
                tag => Err(protocol(format!("kind {:?} in the replication stream", char::from(tag)))),
            };
            match progress {
                Ok(Progress::Within) if self.assembler.is_applying() => return Ok(true),
                Ok(Progress::Within) => {}
                // Its next rows wait until somebody has looked.
                Ok(Progress::Announced) => return Ok(true),
                Ok(Progress::Keepalive { reply }) => {
                    if reply {
                        self.feedback.reply_now();
                    }
                }
                Ok(Progress::Boundary) => {
                    let (rows, bytes) = self.assembler.pending();
                    if rows >= budget.rows || bytes >= budget.bytes {
                        return Ok(true);
                    }
                }
                Ok(Progress::Stopped) => {
                    self.stopped = true;
                    return Ok(true);
                }
                Err(error) => return Err((error, progressed)),
            }
            progressed = true;
        }
    }

    /// Ends in order: the last acknowledged position is told, the server agrees to the end, and the slot
    /// is free for the next. Waits at most `patience` for the server.
    pub async fn finish(self, patience: Duration) -> Result<()> {
        let PgStream { mut reader, feedback, .. } = self;
        let writer = feedback.finish().await?;
        let drained = async {
            loop {
                match reader.frame().await {
                    Ok(frame) if frame.tag == b'Z' => return,
                    // Messages that were on their way.
                    Ok(_) => {}
                    Err(error) => return debug!("ending: {error}"),
                }
            }
        };
        if tokio::time::timeout(patience, drained).await.is_err() {
            debug!("the server did not end the stream in time");
        }
        writer.close().await;
        Ok(())
    }
}

/// The options that depend on the server's version.
fn protocol_options(major: u32, streaming: bool, origin: OriginFilter) -> Result<String> {
    let mut options = match (streaming, major) {
        (false, _) => "proto_version '1'".to_owned(),
        (true, ..16) => "proto_version '2', streaming 'on'".to_owned(),
        (true, _) => "proto_version '4', streaming 'on'".to_owned(),
    };
    match (origin, major) {
        (OriginFilter::Any, _) => {}
        (OriginFilter::None, 16..) => options.push_str(", origin 'none'"),
        (OriginFilter::None, _) => {
            let what = format!("PostgreSQL {major} cannot leave out what other replication brought");
            return Err(
                Error::new(codes::PG012, what).with_try("source.origin: any, or PostgreSQL 16 or newer")
            );
        }
    }
    Ok(options)
}

/// The server's `wal_sender_timeout`; zero: none.
async fn sender_timeout(wire: &mut Wire) -> Result<Duration> {
    let query = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
    let rows = wire.simple_query(query).await?;
    let row = rows.first().ok_or_else(|| protocol("no wal_sender_timeout"))?;
    super::sql::field(row, 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_the_newest_that_the_server_has() {
        let options = |major, streaming, origin| protocol_options(major, streaming, origin).unwrap();
        assert_eq!(options(14, true, OriginFilter::Any), "proto_version '2', streaming 'on'");
        assert_eq!(options(16, true, OriginFilter::Any), "proto_version '4', streaming 'on'");
        assert_eq!(options(18, false, OriginFilter::None), "proto_version '1', origin 'none'");
        let error = protocol_options(15, true, OriginFilter::None).unwrap_err();
        assert_eq!(error.code(), codes::PG012);
    }
}
