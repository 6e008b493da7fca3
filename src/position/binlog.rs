//! Positions in a binary log, as numbers.
//!
//! A server of MySQL or MariaDB writes one sequence of numbered files. A place in it, *file and offset*, is totally
//! ordered as long as the server is the same, just as an address in a write-ahead log; so it travels as one: the file's
//! number in the upper half of an [`Lsn`], the offset in the lower, and `C/11D7` reads as offset 0x11D7 of file 12.
//! What orders a run, closes units and names cuts is that number (`docs/adr/0010-binlog-positions.md`).
//!
//! Another server of the same data numbers its files otherwise. What a position means there is said by GTIDs, which
//! stand beside it in the same commit: [`Marks`].
//!
//! A file beyond 4 GiB (one transaction larger than that) has offsets that do not fit. Nothing but what was committed
//! together with that transaction can follow it in its file, so all of that counts as ending at the beginning of the
//! next file: [`LogPoint::end_of`].

use super::{CommitLsn, Lsn};
use std::collections::BTreeMap;
use std::fmt;

/// What a position is in terms that other servers understand: the name of each unbroken run of GTIDs
/// (`uuid[:tag]/first` of MySQL, `domain-server` of MariaDB) and its last number. Empty where there are no GTIDs.
/// Opaque to everyone but the source that made it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks(pub BTreeMap<String, i64>);

impl Marks {
    /// Says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A place in a server's binary log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LogPoint {
    /// The file's number: 12 of `binlog.000012`.
    pub file: u32,
    /// Bytes before it in the file.
    pub offset: u64,
}

/// Where the events of every file begin.
pub const FIRST_OFFSET: u64 = 4;

/// The log numbers its files beyond what a position can hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the number of log file {file}, counted on by {shift} for servers before, is beyond 2^31")]
pub struct FileNumberTooLarge {
    file: u32,
    shift: u32,
}

impl LogPoint {
    /// As a number. `shift` is what this server's file numbers are counted on by, so that they follow those of the
    /// server before it.
    ///
    /// # Errors
    /// The number does not fit.
    pub fn position(self, shift: u32) -> Result<CommitLsn, FileNumberTooLarge> {
        let refuse = FileNumberTooLarge { file: self.file, shift };
        let (file, offset) = match u32::try_from(self.offset) {
            Ok(offset) => (self.file, offset),
            Err(_) => (self.file.checked_add(1).ok_or(refuse)?, 0),
        };
        let file = file.checked_add(shift).filter(|&file| file <= i32::MAX.cast_unsigned()).ok_or(refuse)?;
        Ok(CommitLsn::end_of_commit(Lsn::new(u64::from(file) << 32 | u64::from(offset))))
    }

    /// From a number that [`LogPoint::position`] made. `None` when it is of a server before.
    pub fn of(position: CommitLsn, shift: u32) -> Option<Self> {
        let raw = position.lsn().raw();
        let file = u32::try_from(raw >> 32).ok()?.checked_sub(shift)?;
        let offset = raw & u64::from(u32::MAX);
        Some(LogPoint { file, offset: offset.max(FIRST_OFFSET) })
    }

    /// The number of a file by its name: what is behind the last dot.
    pub fn file_number(name: &str) -> Option<u32> {
        let (_, digits) = name.rsplit_once('.')?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    /// The name of a file by its number: at least six digits.
    pub fn file_name(self, base: &str) -> String {
        format!("{base}.{:06}", self.file)
    }
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}:{}", self.file, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_of_numbers_is_the_order_of_places(a: (u16, u32), b: (u16, u32), shift in 0u32..1000) {
            let place = |(file, offset): (u16, u32)| LogPoint { file: file.into(), offset: offset.into() };
            let number = |p| place(p).position(shift).unwrap();
            prop_assert_eq!(number(a).cmp(&number(b)), place(a).cmp(&place(b)));
        }

        #[test]
        fn a_number_is_read_back(file in 0u32..1 << 30, offset in 4u32.., shift in 0u32..1000) {
            let place = LogPoint { file, offset: offset.into() };
            prop_assert_eq!(LogPoint::of(place.position(shift).unwrap(), shift), Some(place));
        }
    }

    #[test]
    fn what_does_not_fit_ends_with_its_file() {
        let place = LogPoint { file: 7, offset: 5 << 30 };
        let position = place.position(0).unwrap();
        assert!(position < LogPoint { file: 8, offset: FIRST_OFFSET }.position(0).unwrap());
        assert!(position > LogPoint { file: 7, offset: u64::from(u32::MAX) }.position(0).unwrap());
        assert_eq!(LogPoint::of(position, 0), Some(LogPoint { file: 8, offset: FIRST_OFFSET }));
        assert!(LogPoint { file: u32::MAX, offset: 4 }.position(0).is_err());
        assert!(LogPoint { file: 1, offset: 4 }.position(i32::MAX.cast_unsigned()).is_err());
        assert_eq!(LogPoint::of(place.position(0).unwrap(), 9), None, "of a server before");
    }

    #[test]
    fn file_names() {
        for (name, number) in [
            ("binlog.000012", Some(12)),
            ("db1-bin.2.000123", Some(123)),
            ("b.1000000", Some(1_000_000)),
            ("binlog", None),
            ("binlog.index", None),
            ("binlog.", None),
        ] {
            assert_eq!(LogPoint::file_number(name), number, "{name}");
        }
        assert_eq!(LogPoint { file: 12, offset: 4 }.file_name("db1-bin.2"), "db1-bin.2.000012");
        assert_eq!(LogPoint { file: 1_000_000, offset: 4 }.file_name("b"), "b.1000000");
    }
}
