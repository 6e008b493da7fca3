//! Log positions of PostgreSQL.
//!
//! Two types, because they are two things. An [`Lsn`] is any byte address in the WAL: of an event, of
//! the server's write pointer, of a record's start. Event addresses repeat and go backwards in a decoded
//! stream (interleaved transactions, `COPY`, prepared transactions), so nothing may resume by one. A
//! [`CommitLsn`] is a *position*: everything that ends at or before it is held. It is made only from the
//! three things that mean that: the end of a commit record, a keepalive with nothing received still
//! unapplied, and the consistent point of a slot.

use std::fmt;
use std::str::FromStr;

/// A byte address in the write-ahead log. Text form `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The invalid address, `0/0`: PostgreSQL's way to say "none".
    pub const ZERO: Lsn = Lsn(0);

    /// From the wire's 64-bit form.
    pub const fn new(raw: u64) -> Self {
        Lsn(raw)
    }

    /// The wire's 64-bit form.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Bytes from `earlier` to `self`; zero when `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not of the form `16/B374D848`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a log position: expected two hexadecimal numbers such as 16/B374D848")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseLsnError(text.to_owned());
        let half = |part: &str| {
            let digits = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits { u64::from_str_radix(part, 16).map_err(|_| refuse()) } else { Err(refuse()) }
        };
        let (high, low) = text.split_once('/').ok_or_else(refuse)?;
        Ok(Lsn(half(high)? << 32 | half(low)?))
    }
}

/// A resume position: everything whose end is at or before it is held, nothing after it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitLsn(Lsn);

impl CommitLsn {
    /// Before everything.
    pub const ZERO: CommitLsn = CommitLsn(Lsn::ZERO);

    /// The *end* address of a commit record (`end_lsn` of pgoutput's Commit message).
    pub const fn end_of_commit(end: Lsn) -> Self {
        CommitLsn(end)
    }

    /// The end of a keepalive. The caller vouches that nothing received is still unapplied.
    pub const fn of_keepalive(end: Lsn) -> Self {
        CommitLsn(end)
    }

    /// The consistent point of a logical slot: its snapshot holds exactly the transactions before it.
    pub const fn consistent_point(lsn: Lsn) -> Self {
        CommitLsn(lsn)
    }

    /// From the stored `txn` version. `None` when negative: no position of ours is.
    pub fn from_stored(version: i64) -> Option<Self> {
        u64::try_from(version).ok().map(|raw| CommitLsn(Lsn(raw)))
    }

    /// The stored form, a Delta `txn` version. `None` beyond 2^63, which no server reaches.
    pub fn to_stored(self) -> Option<i64> {
        i64::try_from(self.0.raw()).ok()
    }

    /// As an address.
    pub const fn lsn(self) -> Lsn {
        self.0
    }

    /// Whether the transaction whose commit record *starts* at `commit_start` is held at this position.
    /// Exact: commit records do not overlap and a position is the end of a record, so a record that
    /// starts before it also ends at or before it.
    pub fn covers(self, commit_start: Lsn) -> bool {
        commit_start < self.0
    }
}

impl fmt::Display for CommitLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CommitLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(raw: u64) {
            prop_assert_eq!(Lsn::new(raw).to_string().parse::<Lsn>(), Ok(Lsn::new(raw)));
        }

        #[test]
        fn order_is_the_order_of_addresses(a: u64, b: u64) {
            prop_assert_eq!(Lsn::new(a).cmp(&Lsn::new(b)), a.cmp(&b));
        }
    }

    #[test]
    fn refuses_what_is_not_a_position() {
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "g/0", "+1/0", "1/-2", " 1/2", "123456789/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_record_that_starts_at_the_position_is_not_held() {
        let position = CommitLsn::end_of_commit(Lsn::new(100));
        assert!(position.covers(Lsn::new(99)));
        assert!(!position.covers(Lsn::new(100)));
    }

    #[test]
    fn stored_form_refuses_what_cannot_be_ours() {
        assert_eq!(CommitLsn::from_stored(-1), None);
        assert_eq!(CommitLsn::end_of_commit(Lsn::new(u64::MAX)).to_stored(), None);
        assert_eq!(CommitLsn::from_stored(7), Some(CommitLsn::end_of_commit(Lsn::new(7))));
    }
}
