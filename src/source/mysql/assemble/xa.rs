//! Two-phase transactions (`XA`).
//!
//! Their rows stand in the log where they were *prepared*, and whether they commit is said later, by another
//! transaction of the log, perhaps days and restarts later. To us the rows are of that one: `XA COMMIT` is where they
//! get their position, and what is held at a position holds them if that ends at or before it. The preparation itself
//! is a transaction without rows.
//!
//! What was prepared is kept in memory, as the bytes of its events, as long as it is small. Else, and when this
//! stream began behind the preparation, its rows are read from the log once more when it commits ([`Recall`]): the log
//! is the only place where they are stored, and nothing about them is recorded in the target (ADR-0012).
//!
//! | who dies where | so |
//! |---|---|
//! | after the preparation, before a commit of ours | the position is before it: it is met again |
//! | after a position behind the preparation was committed | `XA COMMIT` is met, and its branch is not known: it is looked for in the log, backwards |
//! | while rows are recalled | nothing of the transaction was told: it is met again |
//! | the log of the preparation was deleted meanwhile | `MY028`: every table is copied again |
//! | another server follows | its own log has the preparation: it is looked for there |

use super::{Assembler, Progress};
use crate::binlog::{Event, EventDecoder, RawEvent, XaPrepare, Xid};
use crate::error::{Error, Result, codes};
use crate::position::LogPoint;
use crate::source::mysql::fault::event_error;
use std::collections::BTreeMap;

/// Of one transaction, and of all that are prepared: more is read again when it commits.
const ONE: usize = 4 << 20;
const ALL: usize = 32 << 20;

/// Events of a transaction that is not committed: headers and bodies.
#[derive(Default)]
pub(super) struct Branch {
    events: Vec<Vec<u8>>,
    bytes: usize,
    /// There are more than were kept.
    is_cut: bool,
}

/// A prepared transaction.
struct Prepared {
    /// Where the transaction begins that prepared it.
    start: LogPoint,
    branch: Branch,
}

/// All that are prepared.
#[derive(Default)]
pub(super) struct Branches {
    prepared: BTreeMap<Xid, Prepared>,
    bytes: usize,
    recall: Option<Recall>,
    decoder: Option<EventDecoder>,
}

/// Rows that are to be read from the log again, and handed to [`Assembler::recalled`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::source::mysql) struct Recall {
    /// Of this transaction.
    pub(in crate::source::mysql) xid: Xid,
    /// Where it was prepared; `None`: before this stream began.
    pub(in crate::source::mysql) start: Option<LogPoint>,
    /// It was prepared before this.
    pub(in crate::source::mysql) before: LogPoint,
}

impl Branches {
    fn take(&mut self, xid: &Xid) -> Option<Prepared> {
        let found = self.prepared.remove(xid)?;
        self.bytes = self.bytes.saturating_sub(found.branch.bytes);
        Some(found)
    }

    fn put(&mut self, xid: Xid, mut prepared: Prepared) {
        if self.bytes.saturating_add(prepared.branch.bytes) > ALL {
            prepared.branch = Branch { is_cut: true, ..Branch::default() };
        }
        self.bytes = self.bytes.saturating_add(prepared.branch.bytes);
        self.prepared.insert(xid, prepared);
    }
}

impl Assembler {
    /// Keeps an event of a transaction that is not committed yet. False: it is of another one.
    pub(super) fn is_set_aside(&mut self, raw: RawEvent<'_>) -> bool {
        let Some(branch) = self.open.as_mut().and_then(|open| open.branch.as_mut()) else { return false };
        branch.bytes = branch.bytes.saturating_add(raw.body.len());
        if branch.bytes > ONE {
            *branch = Branch { is_cut: true, bytes: 0, events: Vec::new() };
        }
        if !branch.is_cut {
            branch.events.push([&raw.header.to_bytes(), raw.body].concat());
        }
        true
    }

    /// `XA START`: what follows waits for its end.
    pub(super) fn begin_branch(&mut self) {
        if let Some(open) = &mut self.open {
            open.has_begun = true;
            open.branch.get_or_insert_with(Branch::default);
        }
    }

    /// `XA_PREPARE`: the end of the rows, and of this transaction of the log.
    pub(super) fn prepared(&mut self, prepare: &XaPrepare<'_>) -> Result<Progress> {
        let Some(open) = &mut self.open else {
            let what =
                format!("at {}: a two-phase transaction is prepared outside of a transaction", self.at);
            return Err(Error::new(codes::MY024, what));
        };
        let (start, xid) = (open.start, prepare.xid());
        let found = open.branch.take().map(|branch| Prepared { start, branch });
        // This event may be handed in again.
        let found =
            found.or_else(|| self.xa.take(&xid)).unwrap_or(Prepared { start, branch: Branch::default() });
        if prepare.one_phase {
            return self.apply(xid, found);
        }
        self.xa.put(xid, found);
        self.end()
    }

    /// `XA COMMIT`: the rows are of the transaction that says so.
    pub(super) fn commit_branch(&mut self, xid: Option<Xid>) -> Result<Progress> {
        let xid = xid.ok_or_else(|| self.nameless())?;
        let Some(before) = self.open.as_ref().map(|open| open.start) else { return Err(self.nameless()) };
        match self.xa.take(&xid) {
            Some(prepared) => self.apply(xid, prepared),
            // Every table holds it, or is copied from a later place.
            None if !self.tables.keys().any(|id| self.is_wanted(*id)) => self.end(),
            None => {
                self.xa.recall = Some(Recall { xid, start: None, before });
                Ok(Progress::Recall)
            }
        }
    }

    /// `XA ROLLBACK`: it never was.
    pub(super) fn drop_branch(&mut self, xid: Option<Xid>) -> Result<Progress> {
        let xid = xid.ok_or_else(|| self.nameless())?;
        self.xa.take(&xid);
        self.end()
    }

    fn nameless(&self) -> Error {
        let what = format!("at {}: a two-phase transaction whose name cannot be read", self.at);
        Error::new(codes::MY024, what)
    }

    fn apply(&mut self, xid: Xid, prepared: Prepared) -> Result<Progress> {
        let Some(start) = self.open.as_ref().map(|open| open.start) else { return Err(self.nameless()) };
        if prepared.branch.is_cut {
            self.xa.recall = Some(Recall { xid, start: Some(prepared.start), before: self.at });
            return Ok(Progress::Recall);
        }
        // Nothing of it is taken before every table in it is understood.
        for bytes in &prepared.branch.events {
            if let Event::TableMap(map) = self.event_of(bytes)?.1
                && self.table_map(map)? == Progress::Announced
            {
                self.maps.clear();
                self.xa.put(xid, prepared);
                return Ok(Progress::Announced);
            }
        }
        self.maps.clear();
        for bytes in &prepared.branch.events {
            let (raw, event) = self.event_of(bytes)?;
            self.within(start, raw, event)?;
        }
        self.end()
    }

    fn event_of<'a>(&self, bytes: &'a [u8]) -> Result<(RawEvent<'a>, Event<'a>)> {
        let error = |error| event_error(self.at, error);
        let header = crate::binlog::EventHeader::parse(bytes).map_err(error)?;
        let body = bytes.get(crate::binlog::EventHeader::LEN..).unwrap_or_default();
        let raw = RawEvent { header, body };
        Ok((raw, self.decoder.clone().decode(raw).map_err(error)?))
    }

    /// What is to be read again before the stream goes on.
    pub(in crate::source::mysql) fn recall(&self) -> Option<&Recall> {
        self.xa.recall.as_ref()
    }

    /// Takes an event of what is read again. After [`Progress::Announced`] the same one is handed in again;
    /// [`Progress::Boundary`]: that was all.
    ///
    /// # Errors
    /// What makes the stream doubtful.
    pub(in crate::source::mysql) fn recalled(&mut self, raw: RawEvent<'_>) -> Result<Progress> {
        self.settle();
        let flavor = self.decoder.flavor();
        let mut decoder = self.xa.decoder.clone().unwrap_or_else(|| EventDecoder::new(flavor));
        let event = decoder.decode(raw).map_err(|error| event_error(self.at, error))?;
        let wanted = self.xa.recall.as_ref().map(|recall| recall.xid.clone());
        let start = self.open.as_ref().map_or(self.at, |open| open.start);
        let progress = match event {
            Event::TableMap(_) | Event::Rows(_) => self.within(start, raw, event)?,
            Event::XaPrepare(prepare) if Some(prepare.xid()) == wanted => {
                self.xa.recall = None;
                self.xa.decoder = None;
                self.end()?;
                return Ok(Progress::Boundary);
            }
            Event::XaPrepare(_) | Event::Xid(_) => {
                let what = format!("at {}: the log does not hold what was prepared where it stood", self.at);
                return Err(Error::new(codes::MY045, what)
                    .with_try("strandline resync TABLE --yes  (every table is copied)"));
            }
            _ => Progress::Within,
        };
        if progress != Progress::Announced {
            self.xa.decoder = Some(decoder);
        }
        Ok(progress)
    }

    /// Ends the transaction without its rows, for who wants none.
    ///
    /// # Errors
    /// What makes the stream doubtful.
    pub(in crate::source::mysql) fn pass_over(&mut self) -> Result<Progress> {
        self.xa.recall = None;
        self.end()
    }

    /// The reading begins anew.
    pub(in crate::source::mysql) fn forget_recalled(&mut self) {
        self.xa.decoder = None;
    }
}
