//! The transaction that is half received.

use super::super::server::Gtids;
use super::xa::Branch;
use crate::binlog::EventHeader;
use crate::event::{Origin, OriginRun, Txn};
use crate::position::LogPoint;
use crate::position::gtid::{Gtid, MariaGtid};
use std::sync::Arc;

/// Its GTID.
#[derive(Clone)]
pub(super) enum Id {
    None,
    MySql(Gtid),
    MariaDb(MariaGtid),
}

impl Id {
    /// Whether a set holds it; `None` where the two have nothing in common.
    pub(super) fn is_in(&self, set: &Gtids) -> Option<bool> {
        match (set, self) {
            (Gtids::MySql(set), Id::MySql(gtid)) => Some(set.contains(gtid)),
            (Gtids::MariaDb(set), Id::MariaDb(gtid)) => Some(set.holds(*gtid)),
            _ => None,
        }
    }

    /// Adds it to a set.
    pub(super) fn add_to(&self, set: &mut Gtids) {
        match (set, self) {
            (Gtids::MySql(set), Id::MySql(gtid)) => {
                set.insert(gtid);
            }
            (Gtids::MariaDb(set), Id::MariaDb(gtid)) => set.set(*gtid),
            _ => {}
        }
    }
}

/// See the module.
pub(super) struct Open {
    pub(super) txn: Txn,
    pub(super) start: LogPoint,
    pub(super) gtid: Id,
    /// Where it was made: the server, and when it was committed there, microseconds since 1970; 0: not said.
    pub(super) server_id: u32,
    pub(super) made: u64,
    /// The connection that made it.
    pub(super) thread: Option<u32>,
    /// What is told of it, once it has rows.
    pub(super) origin: Option<Arc<Origin>>,
    /// The statement whose rows come next, where that is told.
    pub(super) query: Option<Arc<str>>,
    /// Its rows are those of a two-phase transaction.
    pub(super) branch: Option<Branch>,
    /// Of the next row: what the images of rows before it take, of all tables, followed or not.
    pub(super) ordinal: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows of any table came: a statement's end is not the transaction's.
    pub(super) has_begun: bool,
    pub(super) has_rows: bool,
    /// It has ended beyond 4 GiB of its file: what follows there is of it, too.
    pub(super) ends_with_file: bool,
    /// GTIDs of those that it went on from.
    pub(super) before: Vec<Id>,
}

impl Open {
    /// Another transaction follows that ends with the same file.
    pub(super) fn go_on(&mut self, gtid: Id) {
        self.before.push(std::mem::replace(&mut self.gtid, gtid));
        self.ends_with_file = false;
        self.has_begun = false;
        self.origin = None;
        self.query = None;
        self.branch = None;
        self.thread = None;
    }

    /// What is told of an event of it.
    pub(super) fn origin_of(
        &mut self,
        file: &str,
        start: LogPoint,
        header: EventHeader,
    ) -> Option<OriginRun> {
        let origin = self.origin.get_or_insert_with(|| {
            Arc::new(Origin {
                file: file.to_owned(),
                gtid: match &self.gtid {
                    Id::None => None,
                    Id::MySql(gtid) => Some(gtid.to_string()),
                    Id::MariaDb(gtid) => Some(gtid.to_string()),
                },
                begin: self.start.offset,
                server_id: self.server_id,
                thread: self.thread,
            })
        });
        let made = if self.made > 0 { self.made } else { u64::from(header.timestamp) * 1_000_000 };
        Some(OriginRun {
            first_row: 0,
            row: 0,
            position: start.offset,
            time: i64::try_from(made).unwrap_or(i64::MAX),
            origin: Arc::clone(origin),
            query: self.query.clone(),
        })
    }
}
