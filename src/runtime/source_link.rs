//! Holding the source: connecting, checking its history, connecting again.

use crate::error::{Error, Result};
use crate::position::{CommitLsn, Lineage, Lsn, Marks, ServerPoint};
use crate::replication::recovery::{Held, LossReason, ReplayGuard, SlotView, SourceCheck, check_source};
use crate::source::{Bookmark, Budget, ChangeStream, HeldStream, SlotState, Source};

/// While only the guard reads, nothing is kept: any budget serves.
const GUARD_BUDGET: Budget = Budget { rows: u64::MAX, bytes: 1 << 20 };

/// As the recovery rules see a slot.
pub(super) fn slot_view(slot: &SlotState) -> SlotView {
    SlotView {
        plugin: slot.plugin.clone(),
        database: slot.database.clone(),
        confirmed_flush: slot.confirmed_flush,
        wal_lost: slot.wal_lost,
    }
}

/// Compares the source with what is held.
///
/// # Errors
/// `PG040` to `PG046`.
pub(super) fn check(
    server: &ServerPoint,
    slot: Option<&SlotState>,
    recorded: Option<&Lineage>,
    cut: CommitLsn,
    tables: &[CommitLsn],
) -> Result<()> {
    let slot = slot.map(slot_view);
    check_source(SourceCheck { recorded, cut, tables, server, slot: slot.as_ref() }).map_err(loss)
}

/// The lineage that our positions belong to, as seen from the server: a promoted standby carries our timeline
/// on where everything that we hold was there when it was promoted.
///
/// Two servers share the history of timeline `t` up to the point `S` where one of them left it. With
/// everything that we hold at or before `S`, nothing of it is missing there, and nothing that happened only on
/// the old server is with us. That the slot came along, and stands at or before the cut, is checked by
/// [`check`]; that the replay is the history that we applied, by [`watch_replay`]. Beyond `S` we would hold
/// what the new history never had: it stays a loss.
pub(super) async fn carried_on<S: Source>(
    source: &S,
    recorded: Option<Lineage>,
    server: &ServerPoint,
    held: &Held,
    tables: &[CommitLsn],
) -> Result<Option<Lineage>> {
    let Some(recorded) = recorded else { return Ok(None) };
    let furthest = tables.iter().copied().max().unwrap_or(CommitLsn::ZERO).max(held.furthest());
    let now = &server.lineage;
    let is_promoted = recorded.system_id == now.system_id
        && recorded.database == now.database
        && recorded.timeline < now.timeline;
    if !is_promoted {
        return Ok(Some(recorded));
    }
    match source.timeline_end(recorded.timeline).await? {
        Some(end) if furthest.lsn() <= end => {
            tracing::warn!(
                from = recorded.timeline,
                to = now.timeline,
                left_at = %end,
                held = %furthest,
                "the server was promoted, and has everything that the tables hold: it goes on"
            );
            Ok(Some(now.clone()))
        }
        Some(_) | None => Ok(Some(recorded)),
    }
}

/// Reads the replay through the guard, until everything that is held has been met again. Returns whether
/// anything was read: then the stream must be opened again for the tables.
///
/// # Errors
/// `PG045` when the history is another.
pub(super) async fn watch_replay<T: ChangeStream>(
    stream: &mut T,
    held: Held,
    slot: &SlotState,
) -> Result<bool> {
    let furthest = held.furthest();
    let mut guard = ReplayGuard::new(held, slot.confirmed_flush);
    let mut has_read = false;
    stream.guard(Some(furthest));
    while !guard.is_satisfied() {
        has_read = true;
        let burst = stream.next(GUARD_BUDGET).await?;
        for (commit_start, replayed) in burst.replayed {
            guard.transaction(commit_start, replayed).map_err(loss)?;
            if guard.is_satisfied() {
                break;
            }
        }
        if let Some(end) = burst.keepalive.filter(|_| !guard.is_satisfied()) {
            guard.keepalive(end).map_err(loss)?;
        }
    }
    stream.guard(None);
    Ok(has_read)
}

/// A stream of a source that was checked.
pub(super) struct Link<T> {
    /// The stream, at the slot's confirmed position.
    pub(super) stream: T,
    /// The slot as it was when the stream was opened.
    pub(super) slot: SlotState,
    /// End of the server's log then.
    pub(super) flushed: Lsn,
    /// Whose history it is.
    pub(super) lineage: Lineage,
}

/// Connects again after a loss, checking everything that a start checks.
///
/// # Errors
/// Temporary ones, and the losses.
pub(super) async fn reconnect<S: Source>(
    source: &S,
    recorded: &Lineage,
    cut: CommitLsn,
    held: Held,
    tables: &[CommitLsn],
) -> Result<Link<S::Stream>> {
    let view = source.inspect().await?;
    if view.slot.is_none() {
        return Err(loss(LossReason::SlotMissing));
    }
    let HeldStream { mut stream, mut slot, point } = source.stream().await?;
    let bookmark = Bookmark {
        lineage: Some(recorded.clone()),
        position: cut,
        // The source has streamed there itself.
        marks: Marks::default(),
        witnesses: held.witness.into_iter().collect(),
        ahead: held.ahead.clone(),
        tables: tables.iter().map(|&position| (position, Marks::default())).collect(),
    };
    if let Some(place) = stream.seek(bookmark).await? {
        let ServerPoint { lineage, flushed } = place.point;
        return Ok(Link { stream, slot: place.slot, flushed, lineage });
    }
    let recorded = carried_on(source, Some(recorded.clone()), &point, &held, tables).await?;
    check(&point, Some(&slot), recorded.as_ref(), cut, tables)?;
    if watch_replay(&mut stream, held, &slot).await? {
        drop(stream);
        HeldStream { stream, slot, .. } = source.stream().await?;
    }
    Ok(Link { stream, slot, flushed: point.flushed, lineage: point.lineage })
}

/// A loss, for people.
pub(super) fn loss(reason: LossReason) -> Error {
    let resync = "strandline resync --all --yes  (the slot is made anew and every table is copied; targets keep their content until then)";
    let (text, advice) = match &reason {
        LossReason::SlotMissing => (
            "the replication slot is gone, and with it the changes since the last acknowledgement".to_owned(),
            resync,
        ),
        LossReason::SlotMoved { confirmed_flush, held } => (
            format!(
                "the slot stands at {confirmed_flush}, the tables hold everything only up to {held}: somebody moved it or made it anew"
            ),
            resync,
        ),
        LossReason::WalDiscarded => (
            "the server discarded WAL that the slot still needed".to_owned(),
            "raise max_slot_wal_keep_size, then: strandline resync --all --yes  (the slot is made anew and every table is copied)",
        ),
        LossReason::OtherSystem { recorded, found } => (
            format!("the server's system identifier is {found}, the tables were filled from {recorded}"),
            "connect to the right server; or, if this one took its place: strandline resync --all --yes  (every table is copied from it)",
        ),
        LossReason::OtherDatabase { recorded, found } => (
            format!("the database is \"{found}\", the tables were filled from \"{recorded}\""),
            "connect to the right database; or, if this one took its place: strandline resync --all --yes  (every table is copied from it)",
        ),
        LossReason::OtherTimeline { recorded, found } => (
            format!(
                "the server is on timeline {found}, the tables were filled from timeline {recorded}: it was promoted or restored"
            ),
            resync,
        ),
        LossReason::LogEndsBefore { flushed, held } => (
            format!(
                "the server's log ends at {flushed}, the tables hold everything up to {held}: it was set back"
            ),
            resync,
        ),
        LossReason::ForeignHistory { at } => (
            format!(
                "around {at} the server's history is not the one that was applied: it was restored from a backup"
            ),
            resync,
        ),
    };
    Error::new(reason.code(), text).with_try(advice)
}
