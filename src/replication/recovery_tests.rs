use super::*;

fn at(raw: u64) -> CommitLsn {
    CommitLsn::end_of_commit(Lsn::new(raw))
}

fn txn(end: u64) -> Witness {
    Witness { end: at(end), xid: end as u32, commit_time: end as i64 }
}

fn start(own: Option<u64>, version: i64, id: &str, cut: Option<(u64, Option<(u64, i64)>)>) -> TableStart {
    let name = TableName::new("public", "t");
    let found = TableFound {
        name: name.clone(),
        target_id: id.to_owned(),
        version,
        position: own.map(at),
        copied_at: Some(at(40)),
        whole_from: None,
    };
    let entry = cut.and_then(|(_, entry)| entry).map(|(position, version)| CutEntry {
        name,
        target_id: "x".to_owned(),
        version,
        position: at(position),
    });
    judge_table(&found, cut.map(|(position, _)| CutFound { position: at(position), entry: entry.as_ref() }))
}

fn live(start: TableStart) -> Option<(CommitLsn, bool, bool)> {
    match start {
        TableStart::Live(p) => Some((p.position, p.covered, p.from_copy)),
        TableStart::Copy | TableStart::Stop(_) => None,
    }
}

#[test]
fn a_table_goes_on_from_where_it_is() {
    let cut = Some((100, Some((50, 7))));
    assert_eq!(live(start(Some(50), 9, "x", cut)), Some((at(50), true, false)), "quiet");
    assert_eq!(live(start(Some(200), 9, "x", cut)), Some((at(200), true, false)), "ahead");
    assert_eq!(live(start(Some(200), 9, "x", Some((100, None)))), Some((at(200), false, false)), "copied");
    assert_eq!(live(start(Some(100), 9, "x", Some((100, None)))), Some((at(100), false, false)));
    assert_eq!(live(start(Some(40), 1, "x", None)), Some((at(40), false, true)), "never cut");
}

#[test]
fn a_table_without_a_position_is_copied() {
    assert_eq!(start(None, 1, "x", None), TableStart::Copy);
    assert_eq!(start(None, 1, "x", Some((100, None))), TableStart::Copy);
}

#[test]
fn a_table_that_was_tampered_with_stops() {
    let cut = Some((100, Some((50, 7))));
    let stop = TableStart::Stop;
    assert_eq!(start(None, 9, "x", cut), stop(TableMismatch::Replaced));
    assert_eq!(start(Some(50), 9, "y", cut), stop(TableMismatch::Replaced));
    assert_eq!(start(Some(50), 6, "x", cut), stop(TableMismatch::SetBack));
    assert_eq!(start(Some(50), 7, "x", cut), stop(TableMismatch::SetBack), "our epoch is the seventh");
    assert_eq!(start(Some(49), 9, "x", cut), stop(TableMismatch::SetBack));
    assert_eq!(start(Some(60), 9, "x", cut), stop(TableMismatch::Contradicts));
    assert_eq!(start(Some(99), 9, "x", Some((100, None))), stop(TableMismatch::LeftOut));
}

fn lineage(system: &str, timeline: u32, database: &str) -> Lineage {
    Lineage { system_id: system.to_owned(), timeline, database: database.to_owned() }
}

/// The source check against a record at (`s`, 1, `d`), a cut at 100 and a table at 150.
fn check(found: Lineage, flushed: u64, slot: Option<(u64, bool)>) -> Result<(), LossReason> {
    let slot = slot.map(|(confirmed, wal_lost)| SlotView {
        plugin: "pgoutput".to_owned(),
        database: found.database.clone(),
        confirmed_flush: at(confirmed),
        wal_lost,
    });
    check_source(SourceCheck {
        recorded: Some(&lineage("s", 1, "d")),
        cut: at(100),
        tables: &[at(60), at(150)],
        server: &ServerPoint { lineage: found, flushed: Lsn::new(flushed) },
        slot: slot.as_ref(),
    })
}

#[test]
fn every_loss_has_its_reason() {
    let ours = || lineage("s", 1, "d");
    assert_eq!(check(ours(), 150, Some((100, false))), Ok(()));
    assert_eq!(check(ours(), 150, Some((60, false))), Ok(()), "a replay");
    assert_eq!(check(ours(), 150, None), Err(LossReason::SlotMissing));
    let code = |result: Result<(), LossReason>| result.err().map(|reason| reason.code().id);
    assert_eq!(code(check(ours(), 150, Some((101, false)))), Some("PG041"));
    assert_eq!(code(check(ours(), 150, Some((100, true)))), Some("PG046"));
    assert_eq!(code(check(ours(), 149, Some((100, false)))), Some("PG044"));
    assert_eq!(code(check(lineage("z", 1, "d"), 150, Some((100, false)))), Some("PG042"));
    assert_eq!(code(check(lineage("s", 2, "d"), 150, Some((100, false)))), Some("PG043"));
    assert_eq!(code(check(lineage("s", 1, "e"), 150, Some((100, false)))), Some("PG042"));
}

#[test]
fn a_first_start_has_nothing_to_lose() {
    let server = ServerPoint { lineage: lineage("s", 1, "d"), flushed: Lsn::new(10) };
    let check = SourceCheck { recorded: None, cut: at(0), tables: &[], server: &server, slot: None };
    assert_eq!(check_source(check), Ok(()));
    let copied = SourceCheck { tables: &[at(5)], ..check };
    assert_eq!(check_source(copied), Err(LossReason::SlotMissing), "a copy was finished, the slot is gone");
}

/// Cut at 100 with its last transaction at 90; a table ahead at 150.
fn guard(confirmed: u64) -> ReplayGuard {
    let held = Held { position: at(100), witness: Some(txn(90)), ahead: BTreeSet::from([at(150)]) };
    ReplayGuard::new(held, at(confirmed))
}

#[test]
fn the_history_that_was_applied_passes() {
    let mut guard = guard(50);
    for end in [60, 90, 120] {
        assert_eq!(guard.transaction(Lsn::new(end - 5), txn(end)), Ok(()));
        assert!(!guard.is_satisfied());
    }
    assert_eq!(guard.keepalive(Lsn::new(149)), Ok(()));
    assert_eq!(guard.transaction(Lsn::new(150 - 5), txn(150)), Ok(()));
    assert!(guard.is_satisfied());
    assert_eq!(guard.transaction(Lsn::new(500 - 5), txn(500)), Ok(()));
}

#[test]
fn a_start_at_the_cut_needs_no_witness() {
    let held = Held { position: at(100), witness: Some(txn(90)), ahead: BTreeSet::new() };
    let mut guard = ReplayGuard::new(held, at(100));
    assert!(guard.is_satisfied());
    assert_eq!(guard.transaction(Lsn::new(110 - 5), txn(110)), Ok(()));
}

#[test]
fn another_history_does_not() {
    let foreign = |end| Err(LossReason::ForeignHistory { at: at(end) });
    assert_eq!(
        guard(50).transaction(Lsn::new(85), Witness { xid: 1, ..txn(90) }),
        foreign(90),
        "another transaction"
    );
    assert_eq!(
        guard(50).transaction(Lsn::new(85), Witness { commit_time: 1, ..txn(90) }),
        foreign(90),
        "another time"
    );
    assert_eq!(guard(50).transaction(Lsn::new(91 - 5), txn(91)), foreign(91), "the witness was passed");
    assert_eq!(guard(50).keepalive(Lsn::new(90)), foreign(90), "the witness did not come");
    assert_eq!(
        guard(90).transaction(Lsn::new(95 - 5), txn(95)),
        foreign(95),
        "between the witness and the cut"
    );
    assert_eq!(
        guard(100).transaction(Lsn::new(151 - 5), txn(151)),
        foreign(151),
        "the table's last did not come"
    );
    assert_eq!(guard(100).keepalive(Lsn::new(150)), foreign(150));
    assert_eq!(guard(90).transaction(Lsn::new(99), txn(104)), foreign(104), "across our position");
    let none = Held { position: at(100), witness: None, ahead: BTreeSet::new() };
    assert_eq!(
        ReplayGuard::new(none, at(50)).transaction(Lsn::new(70 - 5), txn(70)),
        foreign(70),
        "nothing was ever applied"
    );
}
