use super::*;
use crate::error::codes;
use crate::position::{CommitLsn, Epoch, Interval, Lsn, Witness};
use crate::schema::{TableId, TableName};
use std::collections::BTreeMap;

const A: TableId = TableId(1);
const B: TableId = TableId(2);

fn at(raw: u64) -> CommitLsn {
    CommitLsn::end_of_commit(Lsn::new(raw))
}

fn witness(raw: u64) -> Option<Witness> {
    Some(Witness { end: at(raw), xid: raw as u32, commit_time: raw as i64 })
}

fn progress(id: TableId, position: u64, version: i64, covered: bool) -> TableProgress {
    TableProgress {
        name: TableName::new("public", format!("t{id}")),
        target_id: format!("target-{id}"),
        position: at(position),
        version,
        covered,
        from_copy: !covered,
        whole_from: CommitLsn::ZERO,
    }
}

fn limits() -> Limits {
    Limits {
        unit_rows: 10,
        unit_bytes: 1000,
        unit_age: Millis(100),
        units_in_flight: 2,
        one_by_one: false,
        idle_cut_every: Millis(5000),
    }
}

/// A coordinator, the time, and what it said.
struct Rig {
    coordinator: Coordinator,
    now: Millis,
}

impl Rig {
    /// Cut at 100; `A` and `B` carry what is given.
    fn new(a: u64, b: u64) -> Rig {
        Rig::within(a, b, limits())
    }

    fn within(a: u64, b: u64, limits: Limits) -> Rig {
        let tables = BTreeMap::from([(A, progress(A, a, 5, true)), (B, progress(B, b, 7, true))]);
        let mut rig = Rig {
            coordinator: Coordinator::resume(Resume { cut: at(100), witness: witness(90), tables }, limits),
            now: Millis(1_000),
        };
        assert_eq!(rig.say(Input::SourceResumed { from: at(100) }), []);
        rig
    }

    fn say(&mut self, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        self.coordinator.handle(self.now, input, &mut out);
        out.retain(|action| !matches!(action, Action::WakeAt(_)));
        out
    }

    fn receive(&mut self, end: u64, touched: &[TableId], rows: u64) -> Vec<Action> {
        let touched = touched.to_vec();
        let input = Input::Received {
            through: at(end),
            witness: witness(end),
            touched,
            rows,
            bytes: rows,
            transactions: 1,
        };
        self.say(input)
    }

    fn committed(&mut self, unit: u64, table: TableId, version: i64) -> Vec<Action> {
        self.say(Input::TableCommitted { unit: UnitId(unit), table, version })
    }

    fn keepalive(&mut self, end: u64) -> Vec<Action> {
        self.say(Input::Keepalive { end: Lsn::new(end) })
    }

    fn cut(&mut self, position: u64) -> Vec<Action> {
        self.say(Input::CutCommitted { position: at(position) })
    }

    fn wait(&mut self, span: u64) -> Vec<Action> {
        self.now = self.now.plus(Millis(span));
        self.say(Input::Tick)
    }
}

fn close(unit: u64, to: u64, shares: &[(TableId, u64)]) -> Action {
    let share = |&(table, from): &(TableId, u64)| (table, Interval { from: at(from), to: at(to) });
    Action::CloseUnit { unit: UnitId(unit), to: at(to), tables: shares.iter().map(share).collect() }
}

fn cut(position: u64, last: u64, tables: &[(TableId, i64, u64)]) -> Action {
    let entry = |&(id, version, own): &(TableId, i64, u64)| {
        let TableProgress { name, target_id, .. } = progress(id, 0, 0, true);
        (id, CutEntry { name, target_id, version, position: at(own) })
    };
    Action::CommitCut {
        position: at(position),
        witness: witness(last),
        tables: tables.iter().map(entry).collect(),
    }
}

#[test]
fn a_unit_becomes_durable_then_cut_then_acknowledged() {
    let mut rig = Rig::new(100, 50);
    assert_eq!(rig.receive(150, &[A], 4), []);
    assert_eq!(rig.receive(200, &[A, B], 6), [close(1, 200, &[(A, 100), (B, 50)])]);
    assert_eq!(rig.committed(1, B, 8), []);
    assert_eq!(rig.coordinator.table(A).map(|t| t.durable), Some(at(100)));
    assert_eq!(rig.committed(1, A, 6), [cut(200, 200, &[(A, 6, 200), (B, 8, 200)])]);
    assert_eq!(rig.coordinator.view().acknowledged, at(100));
    assert_eq!(rig.cut(200), [Action::Acknowledge(at(200))]);
    assert_eq!(rig.coordinator.view().cut, at(200));
}

#[test]
fn a_quiet_table_is_named_at_its_old_version_and_keeps_its_own_position() {
    let mut rig = Rig::new(100, 50);
    assert_eq!(rig.receive(200, &[A], 10), [close(1, 200, &[(A, 100)])]);
    assert_eq!(rig.committed(1, A, 6), [cut(200, 200, &[(A, 6, 200), (B, 7, 50)])]);
    assert_eq!(rig.coordinator.submitted(B), Some(at(200)), "nothing before 200 is left for it");
    rig.cut(200);
    assert_eq!(rig.receive(300, &[B], 10), [close(2, 300, &[(B, 50)])]);
}

#[test]
fn units_close_by_age_and_bytes() {
    let mut rig = Rig::new(100, 100);
    assert_eq!(rig.receive(150, &[A], 1), []);
    assert_eq!(rig.wait(99), []);
    assert_eq!(rig.wait(1), [close(1, 150, &[(A, 100)])]);
    let input = Input::Received {
        through: at(160),
        witness: witness(160),
        touched: vec![A],
        rows: 1,
        bytes: 1000,
        transactions: 1,
    };
    assert_eq!(rig.say(input), [close(2, 160, &[(A, 150)])]);
}

#[test]
fn small_units_go_one_by_one() {
    let limits = Limits { one_by_one: true, unit_age: Millis(0), ..limits() };
    let mut rig = Rig::within(100, 100, limits);
    assert_eq!(rig.receive(110, &[A], 1), [close(1, 110, &[(A, 100)])]);
    // What comes meanwhile is gathered.
    assert_eq!(rig.receive(120, &[A], 1), []);
    assert_eq!(rig.receive(130, &[B], 1), []);
    let actions = rig.committed(1, A, 6);
    assert!(actions.contains(&close(2, 130, &[(A, 110), (B, 100)])), "{actions:?}");
    // A full one waits for nobody.
    assert_eq!(rig.receive(140, &[A], 10), [close(3, 140, &[(A, 130)])]);
}

#[test]
fn the_alarm_is_set_for_the_age() {
    let mut rig = Rig::new(100, 100);
    let mut out = Vec::new();
    let input = Input::Received {
        through: at(150),
        witness: witness(150),
        touched: vec![A],
        rows: 1,
        bytes: 1,
        transactions: 1,
    };
    rig.coordinator.handle(Millis(2_000), input, &mut out);
    assert_eq!(out, [Action::WakeAt(Millis(2_100))]);
}

#[test]
fn a_cut_names_the_version_as_of_its_position() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A, B], 10);
    rig.receive(300, &[A], 10);
    assert_eq!(rig.committed(1, A, 6), []);
    assert_eq!(rig.committed(2, A, 7), [], "the first unit is not durable in B");
    assert_eq!(rig.receive(400, &[A], 10), [Action::PauseSource], "both places are taken");
    let next = rig.committed(1, B, 8);
    assert_eq!(next[0], close(3, 400, &[(A, 300)]));
    assert_eq!(next[2], cut(300, 300, &[(A, 7, 300), (B, 8, 200)]));
    assert_eq!(rig.committed(3, A, 8), [], "one cut at a time");
    let next = rig.cut(300);
    assert_eq!(next, [Action::Acknowledge(at(300)), cut(400, 400, &[(A, 8, 400), (B, 8, 200)])]);
}

#[test]
fn an_older_cut_names_an_older_version() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[B], 10);
    rig.receive(300, &[A, B], 10);
    rig.committed(2, A, 6);
    // A is at 300 already, the boundary is 200.
    assert_eq!(rig.committed(1, B, 8), [cut(200, 200, &[(A, 5, 100), (B, 8, 200)])]);
}

#[test]
fn a_table_ahead_after_a_crash_skips_and_holds_the_cut_back() {
    let mut rig = Rig::new(300, 100);
    assert_eq!(rig.coordinator.held().ahead, [at(300)].into());
    assert_eq!(rig.coordinator.submitted(A), Some(at(300)));
    assert_eq!(rig.coordinator.submitted(B), Some(at(100)));
    assert_eq!(rig.receive(200, &[B], 10), [close(1, 200, &[(B, 100)])]);
    assert_eq!(rig.committed(1, B, 8), [], "A as of 200 does not exist");
    assert_eq!(rig.receive(300, &[B], 10), [close(2, 300, &[(B, 200)])]);
    assert_eq!(rig.committed(2, B, 9), [cut(300, 300, &[(A, 5, 300), (B, 9, 300)])]);
}

#[test]
fn a_copied_table_is_left_out_until_the_cut_reaches_it() {
    let mut rig = Rig::new(100, 100);
    let c = TableId(3);
    let live = |position| TableProgress { position: at(position), ..progress(c, 0, 1, false) };
    assert_eq!(rig.say(Input::TableLive { table: c, progress: live(250) }), []);
    assert_eq!(rig.receive(200, &[A], 10), [close(1, 200, &[(A, 100)])]);
    assert_eq!(rig.committed(1, A, 6), [cut(200, 200, &[(A, 6, 200), (B, 7, 100)])]);
    rig.cut(200);
    assert_eq!(rig.keepalive(260), [cut(260, 200, &[(A, 6, 200), (B, 7, 100), (c, 1, 250)])]);
    assert_eq!(rig.coordinator.held().ahead, [].into(), "a consistent point is no commit");
}

#[test]
fn a_table_copied_beside_the_stream_joins_by_a_second_reading() {
    let mut rig = Rig::new(100, 100);
    let c = TableId(3);
    assert_eq!(rig.receive(110, &[], 0), [cut(110, 110, &[(A, 5, 100), (B, 7, 100)])]);
    rig.cut(110);
    rig.say(Input::CopyStarted { table: c });
    rig.receive(200, &[A], 10);
    assert_eq!(rig.committed(1, A, 6), [], "no cut beyond the copy's beginning");
    let live = TableProgress { position: at(150), ..progress(c, 0, 1, false) };
    assert_eq!(rig.say(Input::TableLive { table: c, progress: live }), [Action::RestartSource]);
    assert_eq!(rig.receive(210, &[A], 10), [], "of the lost connection");
    rig.say(Input::SourceResumed { from: at(100) });
    assert_eq!(rig.coordinator.submitted(A), Some(at(200)));
    assert_eq!(rig.coordinator.submitted(c), Some(at(150)));
    assert_eq!(rig.receive(180, &[c], 10), [close(2, 180, &[(c, 150)])]);
    assert_eq!(rig.committed(2, c, 2), [], "A as of 180 does not exist");
    rig.receive(200, &[], 0);
    assert_eq!(rig.coordinator.view().cut_in_flight, Some(at(200)), "caught up with the others");
}

/// Killed meanwhile, the next owner finds a cut that names it.
#[test]
fn no_cut_leaves_out_a_table_that_is_copied_again() {
    let mut rig = Rig::new(100, 50);
    rig.receive(200, &[A, B], 10);
    rig.receive(300, &[A], 10);
    rig.committed(1, B, 8);
    // The first unit's cut is begun with it, and committed after it left.
    assert_eq!(rig.committed(1, A, 6), [cut(200, 200, &[(A, 6, 200), (B, 8, 200)])]);
    rig.say(Input::CopyStarted { table: B });
    assert_eq!(rig.committed(2, A, 7), []);
    assert_eq!(rig.cut(200), [Action::Acknowledge(at(200))], "at 300 it would be left out");
    // It left the stream then; now its copy begins.
    rig.receive(400, &[A], 10);
    rig.say(Input::CopyStarted { table: B });
    assert_eq!(rig.committed(3, A, 8), []);
    assert_eq!(rig.wait(10_000), []);
    // Nor is one made where the last one is, for the sake of a table that none names yet.
    let c = TableId(3);
    rig.say(Input::CopyStarted { table: c });
    let live = TableProgress { position: at(400), ..progress(c, 0, 1, false) };
    assert_eq!(rig.say(Input::TableLive { table: c, progress: live }), []);
    let live = TableProgress { position: at(400), version: 12, ..progress(B, 0, 0, false) };
    let named = [(A, 8, 400), (B, 12, 400), (c, 1, 400)];
    assert_eq!(rig.say(Input::TableLive { table: B, progress: live }), [cut(400, 400, &named)]);
}

#[test]
fn a_table_that_stops_while_it_is_copied_again_holds_nothing_back() {
    let mut rig = Rig::new(100, 100);
    rig.say(Input::CopyStarted { table: B });
    rig.receive(200, &[A], 10);
    assert_eq!(rig.committed(1, A, 6), []);
    rig.say(Input::TableStopped { table: B, code: codes::PG021, message: String::new() });
    assert_eq!(rig.say(Input::StopRecorded { table: B }), [cut(200, 200, &[(A, 6, 200)])]);
}

#[test]
#[should_panic(expected = "SN-1 broken")]
fn a_copy_from_before_the_cut_is_refused() {
    let mut rig = Rig::new(100, 100);
    rig.say(Input::TableLive { table: TableId(3), progress: progress(TableId(3), 99, 1, false) });
}

#[test]
fn a_stopped_table_leaves_and_its_record_comes_before_the_next_cut() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A, B], 10);
    rig.committed(1, A, 6);
    let stop = rig.say(Input::TableStopped { table: B, code: codes::PG021, message: "x".into() });
    let record = Action::RecordStop { table: B, code: codes::PG021, message: "x".into(), position: at(100) };
    assert_eq!(stop, [record]);
    assert_eq!(rig.coordinator.submitted(B), None);
    assert_eq!(rig.committed(1, B, 8), [], "landed all the same");
    assert_eq!(rig.say(Input::StopRecorded { table: B }), [cut(200, 200, &[(A, 6, 200)])]);
}

#[test]
fn a_stop_closes_no_unit() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[B], 10);
    rig.receive(300, &[A], 10);
    rig.receive(400, &[A], 10);
    // The first place is free now, and what was received after 400 is not reported yet.
    let stop = rig.say(Input::TableStopped { table: B, code: codes::PG021, message: String::new() });
    assert!(matches!(stop[..], [Action::RecordStop { .. }]), "{stop:?}");
    assert_eq!(rig.receive(500, &[A], 1)[0], close(3, 500, &[(A, 300)]));
}

#[test]
fn a_seal_closes_what_is_open() {
    let mut rig = Rig::new(100, 100);
    assert_eq!(rig.say(Input::Seal), []);
    rig.receive(200, &[A], 1);
    assert_eq!(rig.say(Input::Seal), [close(1, 200, &[(A, 100)])]);
}

#[test]
#[should_panic(expected = "SN-1 broken")]
fn a_table_behind_a_cut_that_leaves_it_out_is_refused() {
    let tables = BTreeMap::from([(A, progress(A, 99, 5, false))]);
    Coordinator::resume(Resume { cut: at(100), witness: witness(90), tables }, limits());
}

#[test]
fn a_full_unit_pauses_the_source_until_there_is_room() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A], 10);
    rig.receive(300, &[A], 10);
    assert_eq!(rig.receive(400, &[A], 10), [Action::PauseSource]);
    assert!(rig.coordinator.view().paused);
    let next = rig.committed(1, A, 6);
    assert_eq!(next[0], close(3, 400, &[(A, 300)]));
    assert_eq!(next[1], Action::ResumeSource);
}

#[test]
fn idle_cuts_are_rare_and_immediate_at_the_end() {
    let mut rig = Rig::new(100, 100);
    assert_eq!(rig.keepalive(110), [cut(110, 90, &[(A, 5, 100), (B, 7, 100)])]);
    assert_eq!(rig.cut(110), [Action::Acknowledge(at(110))]);
    assert_eq!(rig.keepalive(120), []);
    assert_eq!(rig.wait(4_999), []);
    assert_eq!(rig.wait(1), [cut(120, 90, &[(A, 5, 100), (B, 7, 100)])]);
    rig.cut(120);
    assert_eq!(rig.keepalive(130), []);
    let end = rig.say(Input::StopRequested);
    assert_eq!(end, [Action::PauseSource, cut(130, 90, &[(A, 5, 100), (B, 7, 100)])]);
    assert_eq!(rig.cut(130), [Action::Acknowledge(at(130)), Action::Finish]);
    assert_eq!(rig.keepalive(140), [], "nothing follows");
}

#[test]
fn a_keepalive_counts_only_behind_what_is_applied() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A], 1);
    assert_eq!(rig.keepalive(250), []);
    assert_eq!(rig.coordinator.view().submitted, at(100));
    assert_eq!(rig.wait(100), [close(1, 200, &[(A, 100)])], "a unit ends with a commit");
    assert_eq!(rig.committed(1, A, 6), [cut(250, 200, &[(A, 6, 200), (B, 7, 100)])]);
}

#[test]
fn a_target_ends_the_run_when_a_cut_covers_it() {
    let mut rig = Rig::new(100, 100);
    rig.say(Input::Target(Lsn::new(210)));
    assert_eq!(rig.receive(200, &[A], 1), []);
    assert_eq!(rig.keepalive(210), [close(1, 200, &[(A, 100)]), Action::PauseSource]);
    assert_eq!(rig.committed(1, A, 6), [cut(210, 200, &[(A, 6, 200), (B, 7, 100)])]);
    assert_eq!(rig.cut(210), [Action::Acknowledge(at(210)), Action::Finish]);
}

#[test]
fn a_target_outlives_a_lost_connection() {
    let mut rig = Rig::new(100, 100);
    rig.receive(150, &[A], 10);
    rig.receive(180, &[A], 10);
    rig.say(Input::Target(Lsn::new(200)));
    assert_eq!(rig.receive(200, &[A], 1), [Action::PauseSource], "received, and no place for it");
    rig.say(Input::SourceLost);
    rig.committed(1, A, 6);
    rig.committed(2, A, 7);
    rig.cut(150);
    assert_eq!(rig.cut(180), [Action::Acknowledge(at(180))], "not finished");
    rig.say(Input::SourceResumed { from: at(180) });
    assert_eq!(rig.receive(200, &[A], 1)[0], close(3, 200, &[(A, 180)]));
    rig.committed(3, A, 8);
    assert_eq!(rig.cut(200), [Action::Acknowledge(at(200)), Action::Finish]);
}

#[test]
fn a_target_that_is_covered_already_ends_at_once() {
    let mut rig = Rig::new(100, 100);
    assert_eq!(rig.say(Input::Target(Lsn::new(80))), [Action::PauseSource, Action::Finish]);
}

#[test]
fn a_lost_connection_forgets_what_is_not_submitted() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A], 10);
    rig.receive(300, &[A], 4);
    rig.say(Input::SourceLost);
    assert_eq!(rig.wait(1_000), [], "nothing to close");
    assert_eq!(rig.committed(1, A, 6), [cut(200, 200, &[(A, 6, 200), (B, 7, 100)])]);
    rig.say(Input::SourceResumed { from: at(100) });
    assert_eq!(rig.coordinator.submitted(A), Some(at(200)));
    assert_eq!(rig.receive(200, &[], 0), []);
    assert_eq!(rig.receive(300, &[A], 10), [close(2, 300, &[(A, 200)])]);
}

#[test]
fn a_lost_acknowledgement_is_made_good() {
    let mut rig = Rig::new(100, 100);
    rig.say(Input::SourceLost);
    let again = rig.say(Input::SourceResumed { from: at(60) });
    assert_eq!(again, [Action::Acknowledge(at(100))]);
}

#[test]
#[should_panic(expected = "CK-5 broken")]
fn a_stream_that_begins_beyond_a_table_is_refused() {
    let mut rig = Rig::new(100, 100);
    rig.say(Input::SourceResumed { from: at(101) });
}

#[test]
#[should_panic(expected = "CK-1 broken")]
fn a_cut_that_was_not_begun_is_refused() {
    Rig::new(100, 100).cut(150);
}

#[test]
#[should_panic(expected = "OR-1 broken")]
fn shares_of_a_table_come_in_order() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A], 10);
    rig.receive(300, &[A], 10);
    rig.committed(2, A, 6);
}

#[test]
fn a_fence_ends_everything() {
    let mut rig = Rig::new(100, 100);
    rig.receive(200, &[A], 10);
    let halt = rig.say(Input::Fenced { by: Epoch(9) });
    assert_eq!(halt, [Action::Halt(HaltReason::Fenced { by: Epoch(9) })]);
    assert_eq!(rig.committed(1, A, 6), []);
}

#[test]
fn a_pipeline_without_live_tables_still_moves_the_slot() {
    let mut rig = Rig::new(100, 100);
    for table in [A, B] {
        rig.say(Input::TableStopped { table, code: codes::PG025, message: String::new() });
        rig.say(Input::StopRecorded { table });
    }
    assert_eq!(rig.receive(200, &[A], 3), [cut(200, 200, &[])]);
}
