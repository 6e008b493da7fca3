//! The stream: every kind of change, table errors, positions, bounds.

use crate::common::{PATIENCE, Pipeline, Told, catalog, copy, drain, lines, start, stream_start, table};
use crate::server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use strandline::error::codes;
use strandline::event::{Before, Op};
use strandline::position::{CommitLsn, Lsn};
use strandline::source::postgres::options::TlsMode;
use strandline::source::postgres::publication;
use strandline::source::postgres::slot::{self, SlotKind};
use strandline::source::postgres::sql::text;
use strandline::source::postgres::stream::{Budget, PgStream};
use tokio::sync::watch;

fn taken(pipeline: &mut Pipeline, name: &str) -> Vec<String> {
    let id = table(&pipeline.catalog, name).id();
    pipeline.stream.take(id).told().map_or_else(Vec::new, |batch| lines(&batch))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change() {
    let server = Server::start("");
    server.sql(
        "create table t(id int primary key, n numeric(12,2), s text, big text);
         alter table t alter big set storage external;
         create table f(a int, b text); alter table f replica identity full;
         create table k(a int); create table part(id int primary key) partition by range (id);
         create table part_1 partition of part default; create table other(id int primary key);",
    );
    let mut p = start(&server, &["public.t", "public.f", "public.k", "public.part"]).await;
    server.sql(
        "begin; insert into t values (1, 1.5, null, repeat('b', 5000)), (2, null, 'two', 'x'); commit;
         update t set s = 'one' where id = 1; update t set id = 3 where id = 2; delete from t where id = 3;
         update t set id = 10 where id = 1;
         insert into f values (1, 'x'); update f set b = 'y'; delete from f;
         insert into k values (7); update k set a = 8; delete from k;
         insert into part values (5); insert into other values (1);
         begin; insert into t values (20, 0, '', ''); truncate t; insert into t values (21, 0, '', ''); commit;
         begin; insert into t values (99); rollback;",
    );
    let all = drain(&p.sql, &mut p.stream).await;
    assert_eq!(all.table_errors.len(), 0);
    let big = "b".repeat(5000);
    assert_eq!(
        taken(&mut p, "t"),
        [
            format!("c 1 1.50 null {big}"),
            "c 2 null two x".to_owned(),
            "u 1 1.50 one ~".to_owned(),
            "u 3 null two x [2 null null null]".to_owned(),
            "d [3 null null null]".to_owned(),
            "u 10 1.50 one ~ [1 null null null]".to_owned(),
            "c 20 0.00  ".to_owned(),
            "t".to_owned(),
            "c 21 0.00  ".to_owned(),
        ]
    );
    assert_eq!(taken(&mut p, "f"), ["c 1 x", "u 1 y [1 x]", "d [1 y]"]);
    assert_eq!(taken(&mut p, "k"), ["c 7"], "no key: inserts only, and the application's UPDATE worked");
    assert_eq!(taken(&mut p, "part"), ["c 5"]);
    assert!(p.stream.held_bytes() < 1024, "all was taken");
    p.stream.finish(PATIENCE).await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_told_what_was_acknowledged_and_nothing_else() {
    let server = Server::start("wal_sender_timeout=2s");
    server.sql("create table t(id int primary key)");
    let mut p = start(&server, &["public.*"]).await;
    let confirmed = || {
        server
            .sql("select confirmed_flush_lsn from pg_replication_slots where slot_name = 'strandline_test'")
            .parse::<Lsn>()
            .unwrap()
    };
    let at_first = confirmed();
    assert_eq!(at_first, p.point.lsn());
    server.sql("insert into t values (1)");
    let first = drain(&p.sql, &mut p.stream).await.through.unwrap();
    server.sql("insert into t values (2)");
    let second = drain(&p.sql, &mut p.stream).await.through.unwrap();
    assert!(second > first);
    // The reader sleeps longer than the server's patience, and nothing is acknowledged: still connected.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(confirmed(), at_first, "nothing was acknowledged");
    p.ack.send(first).unwrap();
    let started = Instant::now();
    while confirmed() != first.lsn() {
        assert!(started.elapsed() < Duration::from_secs(1), "at once, not with the next tick");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Never backwards.
    p.ack.send(CommitLsn::ZERO).unwrap();
    server.sql("insert into t values (3)");
    drain(&p.sql, &mut p.stream).await;
    assert_eq!(confirmed(), first.lsn());
    // The last one is told before the end.
    p.ack.send(second).unwrap();
    p.stream.finish(PATIENCE).await.told();
    assert_eq!(confirmed(), second.lsn());
    let state = slot::inspect(&p.sql, "strandline_test").await.told().unwrap();
    assert_eq!(state.active_pid, None, "the slot is free once finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_skipped_and_what_is_replayed_is_reported() {
    let server = Server::start("");
    server.sql("create table a(id int primary key); create table b(id int primary key)");
    let mut p = start(&server, &["public.*"]).await;
    server.sql("insert into a values (1); insert into b values (1);");
    let first = drain(&p.sql, &mut p.stream).await;
    server.sql("insert into a values (2); insert into b values (2);");
    let second = drain(&p.sql, &mut p.stream).await;
    let (a, b) = (table(&p.catalog, "a").clone(), table(&p.catalog, "b").clone());
    p.stream.finish(PATIENCE).await.told();

    // Nothing was acknowledged: all of it comes again.
    let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
    let mut again = stream_start(vec!["strandline_test".into()], acknowledged);
    again.guard = second.through;
    let mut stream = PgStream::start(&server.options(), &p.sql, again).await.told();
    stream.add_table(Arc::clone(&a.schema), first.through.unwrap()).told();
    stream.add_table(Arc::clone(&b.schema), CommitLsn::ZERO).told();
    server.sql("insert into a values (3)");
    let all = drain(&p.sql, &mut stream).await;
    assert_eq!(lines(&stream.take(a.id()).told().unwrap()), ["c 2", "c 3"]);
    let batch = stream.take(b.id()).told().unwrap();
    assert_eq!(lines(&batch), ["c 1", "c 2"]);
    assert_eq!(batch.runs.len(), 2);
    assert_eq!(all.replayed.len(), 4, "four transactions with changes up to the guard");
    assert_eq!(
        all.replayed.last().map(|(_, witness)| witness),
        second.last_nonempty.as_ref(),
        "the witness is met again, unchanged"
    );
    stream.finish(PATIENCE).await.told();

    // A bound: transactions that commit at or after it are not taken.
    let bound = all.replayed[2].1.end.lsn();
    let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
    let mut bounded = stream_start(vec!["strandline_test".into()], acknowledged);
    bounded.stop_before = Some(bound);
    let mut stream = PgStream::start(&server.options(), &p.sql, bounded).await.told();
    stream.add_table(Arc::clone(&a.schema), CommitLsn::ZERO).told();
    let mut rows = Vec::new();
    loop {
        let burst = tokio::time::timeout(PATIENCE, stream.next(Budget::ALL)).await.unwrap().told();
        rows.extend(stream.take(a.id()).told().iter().flat_map(lines));
        if burst.stopped {
            break;
        }
    }
    assert_eq!(rows, ["c 1", "c 2"]);
    stream.finish(PATIENCE).await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_stops_and_the_others_go_on() {
    let server = Server::start("");
    server.sql("create table a(id int primary key, v text); create table b(id int primary key); create table d(id int primary key, d date)");
    let mut p = start(&server, &["public.*"]).await;
    server.sql(
        "insert into a values (1, 'x'); insert into b values (1); alter table a add w int;
         begin; insert into a values (2, 'y', 3); insert into b values (2); commit; insert into b values (3);
         insert into d values (1, '2024-01-01'); insert into d values (2, 'infinity'); insert into d values (3, null)",
    );
    let all = drain(&p.sql, &mut p.stream).await;
    let codes: Vec<_> = all.table_errors.iter().map(|(id, e)| (*id, e.code())).collect();
    let (a, d) = (table(&p.catalog, "a").id(), table(&p.catalog, "d").id());
    assert_eq!(codes, [(a, codes::PG022), (d, codes::PG021)]);
    let report = all.table_errors[0].1.report();
    assert!(
        report.contains("\"w\" is not known") && report.contains("strandline resync public.a --yes"),
        "{report}"
    );
    assert!(!all.table_errors[1].1.report().contains("4711"));
    assert_eq!(taken(&mut p, "b"), ["c 1", "c 2", "c 3"]);
    assert_eq!(taken(&mut p, "a"), [""; 0], "what was not handed on is dropped");
    // Registered again as it is now (after a resync), it goes on, although the server announced it before.
    let fresh = catalog(&p.sql, &["public.a"]).await;
    p.stream.add_table(Arc::clone(&fresh.tables[0].schema), all.through.unwrap()).told();
    server.sql("insert into a values (4, 'z', 5)");
    drain(&p.sql, &mut p.stream).await;
    assert_eq!(lines(&p.stream.take(a).told().unwrap()), ["c 4 z 5"]);
    // Removed: nothing more of it.
    p.stream.remove_table(a);
    server.sql("insert into a values (5, 'z', 5)");
    drain(&p.sql, &mut p.stream).await;
    assert!(p.stream.take(a).told().is_none());
    server.sql("alter table b rename to bb; insert into bb values (9)");
    let all = drain(&p.sql, &mut p.stream).await;
    assert!(all.table_errors[0].1.message().contains("renamed"), "{:?}", all.table_errors);
    p.stream.finish(PATIENCE).await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_transaction_can_be_taken_in_slices() {
    let server = Server::start("");
    server.sql("create table t(id int primary key, v text)");
    let mut p = start(&server, &["public.*"]).await;
    let id = table(&p.catalog, "t").id();
    server.sql("insert into t select i, repeat('v', 50) from generate_series(1, 200000) i; insert into t values (0, '')");
    let (mut rows, mut slices, mut whole) = (0, 0, 0);
    let mut next_ordinal = 0;
    while whole < 2 {
        let burst = tokio::time::timeout(PATIENCE, p.stream.next(Budget::BOUNDARY)).await.unwrap().told();
        whole += burst.transactions;
        if burst.open.is_some() {
            assert!(burst.open_rows > 0 || burst.rows == 0);
        }
        if let Some(batch) = p.stream.take(id).told() {
            assert_eq!(batch.runs.len(), 1, "one transaction at a time with this budget");
            for ordinal in &batch.ordinals {
                assert!(*ordinal == next_ordinal || *ordinal == 0);
                next_ordinal = ordinal + 1;
            }
            (rows, slices) = (rows + batch.len(), slices + 1);
        }
    }
    assert_eq!(rows, 200_001);
    assert!(slices > 10, "{slices} slices");
    p.stream.finish(PATIENCE).await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_held_gone_or_unpublished_is_named() {
    let server = Server::start("");
    server.sql("create table t(id int primary key)");
    let p = start(&server, &["public.*"]).await;
    let pid = server.sql("select active_pid from pg_replication_slots");
    let refusal = async |publication: &str| {
        let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
        let mut start = stream_start(vec![publication.into()], acknowledged);
        start.patience = Duration::from_millis(100);
        PgStream::start(&server.options(), &p.sql, start).await.map(|_| ()).unwrap_err()
    };
    let held = refusal("strandline_test").await;
    assert_eq!(held.code(), codes::PG011);
    assert!(
        held.message().contains(&format!("process {pid} (postgres strandline/test")),
        "{}",
        held.report()
    );
    assert_eq!(refusal("Strandline_test").await.code(), codes::PG007);
    p.stream.finish(PATIENCE).await.told();
    slot::drop_slot(&p.sql, "strandline_test").await.told();
    assert_eq!(refusal("strandline_test").await.code(), codes::PG040);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_walsender_is_a_lost_connection_after_what_came() {
    let server = Server::start("");
    server.sql("create table t(id int primary key)");
    let mut p = start(&server, &["public.*"]).await;
    let id = table(&p.catalog, "t").id();
    server.sql("insert into t values (1)");
    drain(&p.sql, &mut p.stream).await;
    assert_eq!(lines(&p.stream.take(id).told().unwrap()), ["c 1"]);
    server.sql("select pg_terminate_backend(active_pid) from pg_replication_slots");
    let error = loop {
        match tokio::time::timeout(PATIENCE, p.stream.next(Budget::ALL)).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), codes::PG006, "{}", error.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_is_quick() {
    let server = Server::start("");
    server.sql("create table t(id int primary key, v text)");
    let mut p = start(&server, &["public.*"]).await;
    // A backlog first, so that the socket has been in bursts.
    server.sql("insert into t select i, repeat('v', 100) from generate_series(1, 50000) i");
    drain(&p.sql, &mut p.stream).await;
    let mut worst = Duration::ZERO;
    for i in 0..20 {
        p.sql.rows(&format!("insert into public.t values ({}, 'x')", 100_000 + i)).await.told();
        let committed = Instant::now();
        while p.stream.next(Budget::ALL).await.told().rows == 0 {}
        worst = worst.max(committed.elapsed());
    }
    println!("worst latency of 20 single rows: {worst:?}");
    assert!(worst < Duration::from_millis(50), "{worst:?}");
    p.stream.finish(PATIENCE).await.told();
}

/// A copy and the stream from the same point give the source again, whatever happened meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn copy_and_stream_meet_without_gap_or_overlap() {
    let server = Server::start("");
    server.sql("create table t(id int primary key, v int); insert into t select i, 0 from generate_series(1, 2000) i");
    let options = server.options();
    let sql = crate::common::sql(&options).await;
    let found = catalog(&sql, &["public.t"]).await;
    let t = table(&found, "t");
    let published =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    let load = server.load(3, Duration::from_secs(3), |random| {
        format!(
            "begin; insert into t values ({}, {}) on conflict (id) do update set v = excluded.v;
             delete from t where id = {}; commit",
            random.between(1, 3001),
            random.between(1, 1_000_001),
            random.between(1, 3001)
        )
    });
    let made = slot::create(&options, &sql, SlotKind::Permanent, PATIENCE).await.told();
    let sinks = copy(&options, &sql, &made.snapshot, t, 2).await.told();
    let point = made.point;
    made.release().await.told();
    let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
    let mut stream =
        PgStream::start(&options, &sql, stream_start(published.names, acknowledged)).await.told();
    stream.add_table(Arc::clone(&t.schema), point).told();
    for client in load {
        client.join().unwrap();
    }
    let all = drain(&sql, &mut stream).await;
    assert!(all.transactions > 100, "{} transactions", all.transactions);

    let mut held: BTreeMap<i32, i32> = BTreeMap::new();
    let int = |rows: &arrow::record_batch::RecordBatch, column: usize, row: usize| {
        rows.column(column).as_any().downcast_ref::<arrow::array::Int32Array>().unwrap().value(row)
    };
    let streamed = stream.take(t.id()).told().unwrap();
    for batch in sinks.iter().flat_map(|s| &s.0).chain([&streamed]) {
        for (row, op) in batch.ops.iter().enumerate() {
            let old = batch.before.as_ref().filter(|b| b.index[row] != Before::NONE);
            if let Some(old) = old {
                let gone = held.remove(&int(&old.rows, 0, old.index[row] as usize));
                assert!(gone.is_some(), "a delete of what is not held: a gap or an overlap");
            }
            if *op != Op::Delete {
                let (key, value) = (int(&batch.after, 0, row), int(&batch.after, 1, row));
                let before = held.insert(key, value);
                assert_eq!(before.is_some(), *op == Op::Update, "row {row} {op:?}");
            }
        }
    }
    let rows = sql.rows("select id, v from public.t order by id").await.told();
    let source: Vec<(i32, i32)> = rows
        .iter()
        .map(|r| (text(r, 0).unwrap().parse().unwrap(), text(r, 1).unwrap().parse().unwrap()))
        .collect();
    assert_eq!(held.into_iter().collect::<Vec<_>>(), source);
    stream.finish(PATIENCE).await.told();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_socket_too() {
    let server = Server::start("");
    server.sql("create table t(id int primary key, v text)");
    let mut options = server.options();
    options.tls = TlsMode::Disable;
    options.endpoints = vec![strandline::source::postgres::options::Endpoint::Unix {
        directory: server.dir.clone(),
        port: server.port,
    }];
    let sql = crate::common::sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let published =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    slot::create(&options, &sql, SlotKind::Permanent, PATIENCE).await.told().release().await.told();
    let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
    let mut stream =
        PgStream::start(&options, &sql, stream_start(published.names, acknowledged)).await.told();
    stream.add_table(Arc::clone(&found.tables[0].schema), CommitLsn::ZERO).told();
    server.sql("insert into t select i, repeat('v', 100) from generate_series(1, 50000) i");
    assert_eq!(drain(&sql, &mut stream).await.rows, 50_000);
    stream.finish(PATIENCE).await.told();
}
