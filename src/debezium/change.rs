//! One row of a batch as its event shows it.

use super::encoder::{Change, EPOCH, Marker, Occasion};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op, Txn};
use crate::position::{CommitLsn, Lsn};

/// What an event says of a row beside its values.
pub(super) fn change_of<'a>(
    batch: &'a ChangeBatch,
    row: usize,
    op: Op,
    txn: Option<(Txn, Option<CommitLsn>)>,
    occasion: &Occasion,
) -> Result<Change<'a>> {
    let now_ns = occasion.now_ns;
    let origin = batch.origin_of(row);
    let first_made = origin.map(|(run, _)| run.time);
    if let Some(snapshot) = occasion.snapshot {
        let marker = match row {
            row if row + 1 == batch.len() => snapshot.last,
            0 => snapshot.first,
            _ => snapshot.between,
        };
        return Ok(Change {
            row,
            op,
            marker,
            lsn: snapshot.point.position.lsn(),
            // Beside the stream: of no transaction, and behind what was streamed.
            xid: snapshot.point.xid.filter(|_| marker != Marker::Incremental),
            previous: Some(snapshot.point.position.lsn()).filter(|_| marker == Marker::Incremental),
            ordinal: 0,
            commit_start: Lsn::ZERO,
            end: Lsn::ZERO,
            source_us: first_made.or(snapshot.point.time.map(|time| time + EPOCH)).unwrap_or(now_ns / 1000),
            now_ns,
            origin,
        });
    }
    let (txn, end) = txn.ok_or_else(|| Error::new(codes::RT001, "a streamed row without its transaction"))?;
    Ok(Change {
        row,
        op,
        marker: Marker::False,
        lsn: batch.lsns.get(row).copied().unwrap_or(txn.commit_start),
        xid: Some(txn.xid.into()),
        previous: Some(txn.after.lsn()).filter(|after| *after > Lsn::ZERO),
        ordinal: batch.ordinals.get(row).copied().unwrap_or(0),
        commit_start: txn.commit_start,
        end: end.map_or(txn.commit_start, CommitLsn::lsn),
        source_us: first_made.unwrap_or(txn.commit_time + EPOCH),
        now_ns,
        origin,
    })
}
