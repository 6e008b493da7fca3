//! Up to where transactions are asked for whole, instead of in blocks before they commit.
//!
//! Two things need that, and the stream begins again for either:
//!
//! - What cannot be told of a transaction in blocks ([`super::assemble::Assembler::wants_whole`]): up to its end.
//! - The server's own decoding fails. A transaction that is sent before it commits is decoded while it may be rolled
//!   back, or was in part. For catalogue changes in what was rolled back PostgreSQL has an answer of its own, but not for
//!   each: seen on 18.6 with `ALTER TABLE`s in savepoints that are rolled back are `could not map filenumber … to relation
//!   OID` and `could not open relation with OID …`, both XX000 (internal error), the first at each attempt. Of the same
//!   log, transactions that are sent whole (`streaming` off) are decoded without a fault: what was rolled back is not
//!   looked at then. So from the first internal error on all are asked for whole, until the process ends.
//!
//! What differs is how much the server keeps on its disk for a large transaction, not what arrives ([`super::streamed`]).
//! An internal error that comes nevertheless is tried again a few times, and then stops the run as what it is.

use crate::error::{Error, codes};
use crate::position::Lsn;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So often the same internal error may come in a row although transactions are sent whole.
const PATIENCE: u32 = 5;
/// All transactions.
const ALL: Lsn = Lsn::new(u64::MAX);

/// What is known since the process began.
#[derive(Debug, Default)]
pub(super) struct Whole(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    until: Option<Lsn>,
    said: String,
    times: u32,
}

impl Whole {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions that end up to here are wanted whole. `None`: none.
    pub(super) fn until(&self) -> Option<Lsn> {
        self.known().until
    }

    /// The one that ends here is wanted whole.
    pub(super) fn want(&self, end: Lsn) {
        let mut known = self.known();
        known.until = known.until.max(Some(end));
    }

    /// What an error of the stream means: one that is worth another try, or itself.
    pub(super) fn judge(&self, error: Error) -> Error {
        if error.code() != codes::PG014 || !error.message().contains(" XX000 ") {
            return error;
        }
        let mut known = self.known();
        let was_whole = known.until.replace(ALL) == Some(ALL);
        if known.said != error.message() {
            (known.said, known.times) = (error.message().to_owned(), 0);
        }
        known.times += u32::from(was_whole);
        if known.times > PATIENCE {
            return error.with_try(
                "the server cannot decode its own log here (its log says more); a newer minor release may be able to. To \
                 go on behind it: strandline slot drop --yes, then strandline resync --all --yes",
            );
        }
        let what =
            "the server failed to decode its log; the stream begins again, each transaction sent whole";
        Error::new(codes::PG006, what).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(what: &str) -> Error {
        Error::new(codes::PG014, format!("the replication stream: ERROR XX000 {what}"))
    }

    #[test]
    fn the_farthest_end_that_was_asked_for_counts() {
        let whole = Whole::default();
        assert_eq!(whole.until(), None);
        whole.want(Lsn::new(20));
        whole.want(Lsn::new(10));
        assert_eq!(whole.until(), Some(Lsn::new(20)));
        assert_eq!(whole.judge(internal("could not map filenumber")).code(), codes::PG006);
        whole.want(Lsn::new(30));
        assert_eq!(whole.until(), Some(ALL));
    }

    #[test]
    fn an_internal_error_is_tried_again_with_whole_transactions_and_not_for_ever() {
        let whole = Whole::default();
        for _ in 0..=PATIENCE {
            assert_eq!(whole.judge(internal("could not map filenumber")).code(), codes::PG006);
            assert_eq!(whole.until(), Some(ALL));
        }
        assert_eq!(whole.judge(internal("could not map filenumber")).code(), codes::PG014);
        assert_eq!(whole.judge(internal("could not open relation")).code(), codes::PG006);
    }

    #[test]
    fn other_errors_stay_what_they_are() {
        let whole = Whole::default();
        let other = Error::new(codes::PG014, "the replication stream: ERROR 22012 division by zero");
        assert_eq!(whole.judge(other).code(), codes::PG014);
        assert_eq!(whole.until(), None);
    }
}
