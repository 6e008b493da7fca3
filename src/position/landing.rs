//! What became of a commit whose put was refused, or whose outcome is unknown.
//!
//! A unit is planned on table version `v` and is put, if absent, as `v + 1`. Success needs no reading. A
//! refusal ("that version exists") or an unknown outcome (a lost reply) does: the table is read again and
//! [`judge`] says what to do. The cases, with what stands in the log at `v + 1`:
//!
//! | stands there | so | verdict |
//! |---|---|---|
//! | our epoch, our `to` | the put landed; its reply was lost | [`Landing::Landed`] |
//! | nothing (version still `v`), our epoch, our `from` | the put never arrived, or may still be on its way | [`Landing::PutAgain`]: the *same* bytes at the *same* version, so that a late first put and the second are one commit |
//! | another epoch | a newer writer took over | [`Landing::Fenced`] |
//! | our epoch, our `from`, version beyond `v` | someone who is not a strandline wrote | [`Landing::Foreign`]: examine what they did, plan again or stop |
//! | our epoch, a position that is neither | our own state is not what we believe | [`Landing::Impossible`] |
//!
//! An epoch *below* ours cannot be there: ours was written to the table before its position was read.

use super::{CommitLsn, Epoch, Interval};

/// What the unit was planned on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// The version it was planned on; it was put as the next one.
    pub version: i64,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// What the unit covers.
    pub interval: Interval,
}

/// What the table says now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its newest version.
    pub version: i64,
    /// Its epoch, if any writer of ours ever wrote one.
    pub epoch: Option<Epoch>,
    /// Its position, if it has one.
    pub position: Option<CommitLsn>,
}

/// The verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landing {
    /// The commit is in the table.
    Landed,
    /// Not there: put the same bytes at the same version again.
    PutAgain,
    /// Another writer owns the table.
    Fenced {
        /// Its epoch.
        by: Epoch,
    },
    /// Somebody else's commit stands where ours was to go.
    Foreign,
    /// The table contradicts us.
    Impossible,
}

/// Decides; see the table above.
pub fn judge(planned: Planned, found: Found) -> Landing {
    let Some(epoch) = found.epoch else { return Landing::Impossible };
    if epoch != planned.epoch {
        return Landing::Fenced { by: epoch };
    }
    let position = found.position.unwrap_or(CommitLsn::ZERO);
    if position == planned.interval.to && found.version > planned.version {
        return Landing::Landed;
    }
    if position != planned.interval.from {
        return Landing::Impossible;
    }
    match found.version.cmp(&planned.version) {
        std::cmp::Ordering::Less => Landing::Impossible,
        std::cmp::Ordering::Equal => Landing::PutAgain,
        std::cmp::Ordering::Greater => Landing::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    fn at(raw: u64) -> CommitLsn {
        CommitLsn::end_of_commit(Lsn::new(raw))
    }

    fn verdict(version: i64, epoch: i64, position: u64) -> Landing {
        let planned =
            Planned { version: 7, epoch: Epoch(3), interval: Interval { from: at(100), to: at(200) } };
        judge(planned, Found { version, epoch: Some(Epoch(epoch)), position: Some(at(position)) })
    }

    #[test]
    fn every_row_of_the_table() {
        assert_eq!(verdict(8, 3, 200), Landing::Landed);
        assert_eq!(verdict(9, 3, 200), Landing::Landed, "somebody wrote after us");
        assert_eq!(verdict(7, 3, 100), Landing::PutAgain);
        assert_eq!(verdict(8, 4, 100), Landing::Fenced { by: Epoch(4) });
        assert_eq!(verdict(8, 4, 200), Landing::Fenced { by: Epoch(4) }, "fenced even when ours landed");
        assert_eq!(verdict(8, 3, 100), Landing::Foreign);
        assert_eq!(verdict(8, 3, 150), Landing::Impossible);
        assert_eq!(verdict(6, 3, 100), Landing::Impossible, "the table went backwards");
    }
}
