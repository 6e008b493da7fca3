//! The files of a binary log: how many bytes lie between two places of it, and how long the server keeps them.
//!
//! A place is a file's number and an offset, so the difference of two places is a number of bytes only within a file.

use super::server::{Server, too_large};
use super::sql::Sql;
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, LogPoint, Lsn};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was seen of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// Files and their sizes; numbers are counted on.
    pub sizes: BTreeMap<u64, u64>,
    /// Where it ends.
    pub end: Lsn,
    /// How long the server keeps a file that is no longer written to; `None`: for ever.
    pub kept: Option<Duration>,
}

fn file_of(place: Lsn) -> u64 {
    place.raw() >> 32
}

fn offset_of(place: Lsn) -> u64 {
    place.raw() & u64::from(u32::MAX)
}

/// Bytes from one place to another; `None` when a file in between is not known.
pub(super) fn between(sizes: &BTreeMap<u64, u64>, from: Lsn, to: Lsn) -> Option<u64> {
    let (first, last) = (file_of(from), file_of(to));
    if from >= to {
        return Some(0);
    }
    if first == last {
        return Some(offset_of(to) - offset_of(from));
    }
    let mut bytes = sizes.get(&first)?.saturating_sub(offset_of(from)) + offset_of(to);
    for file in first + 1..last {
        bytes += sizes.get(&file)?;
    }
    Some(bytes)
}

impl Seen {
    /// How long what follows `held` is there at least. A file is deleted so long after it was last written to; the one that
    /// the server writes to is never. `age`: of the last transaction that is held, which is in that file or before it.
    pub(super) fn left(&self, held: Option<Lsn>, age: Option<Duration>) -> Option<Duration> {
        let (held, kept) = (held?, self.kept?);
        if self.sizes.keys().next().is_some_and(|oldest| *oldest > file_of(held)) {
            return Some(Duration::ZERO);
        }
        if file_of(held) >= file_of(self.end) {
            return Some(kept);
        }
        age.map(|age| kept.saturating_sub(age))
    }
}

/// Bytes from a place to the end of the log, and the end; `None`: the place's file is gone.
///
/// # Errors
/// Those of asking; `MY024`.
pub async fn lag(sql: &mut Sql, server: &Server, shift: u32, held: Lsn) -> Result<(Option<u64>, Lsn)> {
    let seen = look(sql, server, shift).await?;
    Ok((between(&seen.sizes, held, seen.end), seen.end))
}

/// Looks at the log. `shift` is what file numbers are counted on by.
///
/// # Errors
/// Those of asking; `MY024`.
pub(super) async fn look(sql: &mut Sql, server: &Server, shift: u32) -> Result<Seen> {
    let counted = |point: LogPoint| point.position(shift).map(CommitLsn::lsn).map_err(too_large);
    let mut sizes = BTreeMap::new();
    for file in server.files(sql).await? {
        sizes.insert(file_of(counted(LogPoint { offset: 0, ..file })?), file.offset);
    }
    let end = counted(server.log_end(sql).await?.point)?;
    let row = sql.row("SELECT @@GLOBAL.binlog_expire_logs_seconds").await?;
    let kept = kept_for(row.first().and_then(Option::as_deref))?;
    Ok(Seen { sizes, end, kept })
}

/// `binlog_expire_logs_seconds`: whole seconds, on MariaDB with a fraction. Zero is for ever.
fn kept_for(said: Option<&str>) -> Result<Option<Duration>> {
    let seconds = said.and_then(|said| said.parse().ok());
    let kept = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let kept = kept.ok_or_else(|| {
        let said = said.unwrap_or("NULL");
        Error::new(
            codes::MY033,
            format!("binlog_expire_logs_seconds is {said}, which is no number of seconds"),
        )
    })?;
    Ok(Some(kept).filter(|kept| !kept.is_zero()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: u64, offset: u64) -> Lsn {
        Lsn::new(file << 32 | offset)
    }

    fn seen() -> Seen {
        let sizes = [(11, 5000), (12, 700), (13, 90)].into();
        Seen { sizes, end: place(13, 90), kept: Some(Duration::from_secs(3600)) }
    }

    #[test]
    fn bytes_between_files_are_those_of_the_files() {
        let sizes = seen().sizes;
        assert_eq!(between(&sizes, place(12, 100), place(12, 650)), Some(550));
        assert_eq!(between(&sizes, place(11, 4000), place(13, 90)), Some(1000 + 700 + 90));
        assert_eq!(between(&sizes, place(11, 5000), place(12, 4)), Some(4), "a file that was just begun");
        assert_eq!(between(&sizes, place(13, 90), place(13, 4)), Some(0));
        assert_eq!(between(&sizes, place(10, 4), place(13, 4)), None, "not known is not zero");
    }

    #[test]
    fn how_long_files_are_kept_is_said_or_refused() {
        let seconds = |said| kept_for(said).map(|kept| kept.map(|kept| kept.as_secs_f64()));
        assert_eq!(seconds(Some("2592000")).unwrap(), Some(2_592_000.0));
        assert_eq!(seconds(Some("0.000001")).unwrap(), Some(0.000_001));
        assert_eq!(seconds(Some("0.000000")).unwrap(), None, "for ever");
        for nonsense in [None, Some(""), Some("-1"), Some("soon"), Some("NaN"), Some("1e300")] {
            assert_eq!(seconds(nonsense).unwrap_err().code(), codes::MY033, "{nonsense:?}");
        }
    }

    #[test]
    fn what_is_left_is_never_said_too_long() {
        let seen = seen();
        let left = |file, age: Option<u64>| {
            seen.left(Some(place(file, 50)), age.map(Duration::from_secs)).map(|left| left.as_secs())
        };
        assert_eq!(left(13, Some(9000)), Some(3600), "the file that is written to stays");
        assert_eq!(left(12, Some(600)), Some(3000));
        assert_eq!(left(12, Some(9000)), Some(0));
        assert_eq!(left(12, None), None);
        assert_eq!(left(10, Some(1)), Some(0), "it is gone");
        assert_eq!(Seen { kept: None, ..seen.clone() }.left(Some(place(12, 50)), None), None);
        assert_eq!(seen.left(None, None), None);
    }
}
