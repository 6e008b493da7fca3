//! Rows of a two-phase transaction, read from the log a second time: from where they were prepared
//! ([`super::assemble::Recall`]).
//!
//! Where that is not known, the stream began behind it: the log is looked through backwards, file by file, for the last
//! preparation under that name before the commit. It may be days old; when its file is deleted there is nothing to
//! apply, and that is said (`MY028`).

use super::assemble::Recall;
use super::dump::{Dump, Form, Received};
use super::fault::event_error;
use super::options::MyOptions;
use super::server::Server;
use super::sql::Sql;
use crate::binlog::{Event, EventDecoder};
use crate::error::{Error, Result, codes};
use crate::position::{FIRST_OFFSET, LogPoint};

/// A second reader of the log.
pub(super) struct Reader {
    dump: Dump,
    held_back: Option<Received>,
}

impl Reader {
    /// The next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Received> {
        match self.held_back.take() {
            Some(event) => Ok(event),
            None => self.dump.next().await,
        }
    }

    /// To be given again.
    pub(super) fn hold_back(&mut self, event: Received) {
        self.held_back = Some(event);
    }

    pub(super) async fn close(self) {
        self.dump.close().await;
    }
}

/// Begins where it was prepared.
///
/// # Errors
/// `MY028` when that is not in the log any more; those of the connection.
pub(super) async fn open(options: &MyOptions, server: &Server, wanted: &Recall) -> Result<Reader> {
    let mut sql = Sql::connect(options).await?;
    let base = server.log_end(&mut sql).await?.base;
    let files = server.files(&mut sql).await?;
    sql.close().await;
    let start = match wanted.start {
        Some(start) => start,
        None => {
            tracing::info!(xid = %wanted.xid, "a two-phase transaction commits that was prepared before: it is looked for in the log");
            let files = files.iter().map(|file| file.file).rev().filter(|&file| file <= wanted.before.file);
            find(options, server, &base, files, wanted).await?
        }
    };
    let dump = Dump::start(options, server.flavor, &base, start, options.second_server_id()).await?;
    Ok(Reader { dump, held_back: None })
}

async fn find(
    options: &MyOptions,
    server: &Server,
    base: &str,
    files: impl Iterator<Item = u32>,
    wanted: &Recall,
) -> Result<LogPoint> {
    for file in files {
        let begin = LogPoint { file, offset: FIRST_OFFSET };
        let mut dump = Dump::start(options, server.flavor, base, begin, options.second_server_id()).await?;
        let found = look_through(&mut dump, server, begin, wanted).await;
        dump.close().await;
        if let Some(start) = found? {
            return Ok(start);
        }
    }
    let what = format!(
        "two-phase transaction {} commits at {}, and the log where it was prepared is deleted",
        wanted.xid, wanted.before
    );
    Err(Error::new(codes::MY028, what).with_try(
        "raise binlog_expire_logs_seconds, then: strandline resync TABLE --yes  (every table is copied)",
    ))
}

/// Where the last transaction of a file begins that prepares it, before a place.
async fn look_through(
    dump: &mut Dump,
    server: &Server,
    begin: LogPoint,
    wanted: &Recall,
) -> Result<Option<LogPoint>> {
    let mut decoder = EventDecoder::new(server.flavor);
    let (mut at, mut start, mut found) = (begin, None, None);
    loop {
        let received = dump.next().await?;
        let raw = received.raw().map_err(|error| event_error(at, error))?;
        let header = raw.header;
        if header.log_pos != 0 && !header.is_artificial() && received.form() != Form::Within {
            let high = at.offset & !u64::from(u32::MAX);
            let offset = high | u64::from(header.log_pos);
            at.offset = if offset < at.offset { offset + (1 << 32) } else { offset };
            let place = at.offset.saturating_sub(header.size.into());
            if (LogPoint { offset: place, ..at }) >= wanted.before {
                return Ok(found);
            }
        }
        if received.form() == Form::Packed {
            continue;
        }
        let place = LogPoint { offset: at.offset.saturating_sub(header.size.into()), ..at };
        match decoder.decode(raw).map_err(|error| event_error(at, error))? {
            Event::Rotate { file, .. } if LogPoint::file_number(file) != Some(begin.file) => {
                return Ok(found);
            }
            Event::Gtid(_) | Event::MariaGtid(_) => start = Some(place),
            Event::XaPrepare(prepare) if !prepare.one_phase && prepare.xid() == wanted.xid => found = start,
            _ => {}
        }
    }
}
