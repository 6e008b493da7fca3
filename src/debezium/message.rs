//! Logical messages that came as rows ([`TableSchema::messages`]), as records.

use super::control::{Control, LogicalMessage};
use super::encoder::{Frame, Occasion};
use super::record::{Entry, KeyHeader, Place, Records};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op};
use crate::position::{CommitLsn, Lsn};
use arrow::array::{Array, AsArray, BinaryArray, StringArray};

/// The columns of messages.
fn columns(batch: &ChangeBatch) -> Option<(&StringArray, &BinaryArray)> {
    let prefix = batch.after.columns().first()?.as_string_opt::<i32>()?;
    let content = batch.after.columns().get(1)?.as_binary_opt::<i32>()?;
    Some((prefix, content))
}

/// Adds a record for each row to `out`.
///
/// # Errors
/// `RT001` for a batch that is not of messages.
pub(super) fn encode(
    control: &Control,
    frames: (&Frame, &Frame),
    batch: &ChangeBatch,
    occasion: &Occasion,
    out: &mut Records,
) -> Result<()> {
    let misuse = || Error::new(codes::RT001, "a batch that is not of logical messages");
    let (prefixes, contents) = columns(batch).ok_or_else(misuse)?;
    let mut runs = batch.runs.iter().peekable();
    let mut run = None;
    for row in 0..prefixes.len() {
        while let Some(next) = runs.next_if(|next| next.first_row as usize <= row) {
            run = Some(next);
        }
        let run = run.ok_or_else(misuse)?;
        let txn = run.txn;
        let lsn = batch.lsns.get(row).copied().unwrap_or(txn.commit_start);
        let message = LogicalMessage {
            prefix: prefixes.value(row),
            content: contents.value(row),
            xid: Some(txn.xid).filter(|xid| *xid != 0),
            lsn,
            previous: Some(txn.after.lsn()).filter(|after| *after > Lsn::ZERO),
            time: txn.commit_time,
        };
        let parts = control.message_parts(frames, &message, occasion.now_ns, &mut out.bytes);
        let is_alone = message.xid.is_none();
        let ordinal = if is_alone { Place::ALONE } else { batch.ordinals.get(row).copied().unwrap_or(0) };
        let end = out.bytes.len();
        out.entries.push(Entry {
            // A batch has fewer rows than that.
            row: u32::try_from(row).unwrap_or(u32::MAX),
            place: Place {
                commit_start: txn.commit_start,
                ordinal,
                lsn,
                xid: txn.xid,
                commit_time: txn.commit_time,
                end: run.end.map_or(txn.commit_start, CommitLsn::lsn),
            },
            op: Op::Create,
            key: Some(parts.key),
            value: Some(parts.value),
            transaction: Some(parts.transaction).filter(|_| !is_alone),
            key_header: KeyHeader::None,
            is_tombstone: false,
            own_headers: end..end,
            named: end..end,
        });
    }
    Ok(())
}
