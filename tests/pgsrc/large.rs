//! The same log read in blocks and whole: what comes out must not differ in anything.

use crate::common::{PATIENCE, Told, catalog, lines, sql, stream_start};
use crate::server::Server;
use std::collections::BTreeMap;
use std::sync::Arc;
use strandline::position::{CommitLsn, Lsn, Witness};
use strandline::source::postgres::publication;
use strandline::source::postgres::spill::Spill;
use strandline::source::postgres::sql::field;
use strandline::source::postgres::stream::{Budget, PgStream};
use tokio::sync::watch;

/// Everything that a stream said, up to `end`.
#[derive(Default, PartialEq, Debug)]
struct Said {
    /// Per table: rows in words, each with transaction and ordinal.
    rows: BTreeMap<u32, Vec<String>>,
    replayed: Vec<(Lsn, Witness)>,
    transactions: u64,
    count: u64,
}

fn take(stream: &mut PgStream, said: &mut Said) {
    for (table, batch) in stream.take_all() {
        let batch = batch.told();
        let rows = said.rows.entry(table.0).or_default();
        for (row, line) in lines(&batch).into_iter().enumerate() {
            let txn = batch.txn_of(row).expect("a transaction");
            rows.push(format!("{} {} {} {line}", txn.xid, txn.commit_start, batch.ordinals[row]));
        }
    }
}

async fn read(stream: &mut PgStream, end: Lsn) -> Said {
    let mut said = Said::default();
    loop {
        let next = stream.next(Budget { rows: 1000, bytes: 1 << 20 });
        let burst = tokio::time::timeout(PATIENCE, next).await.expect("it comes").told();
        assert!(burst.table_errors.is_empty(), "{:?}", burst.table_errors);
        said.replayed.extend(burst.replayed);
        said.transactions += burst.transactions;
        said.count += burst.rows;
        take(stream, &mut said);
        if burst.through.map_or(Lsn::ZERO, CommitLsn::lsn).max(burst.keepalive.unwrap_or_default()) >= end {
            return said;
        }
    }
}

const SETUP: &str = "
    create table a(id int primary key, n int, big text); alter table a alter big set storage external;
    create table b(id bigint primary key, note text); alter table b replica identity full;
    create table c(n int); create table unwanted(n int);";

/// Sessions that overlap, each with its statements; `0`, `1` … is the session.
const SCRIPT: &[(usize, &str)] = &[
    (0, "insert into a select i, i, repeat('x', 3000) from generate_series(1, 50) i"),
    (0, "begin; insert into a select i, i, repeat(md5(i::text), 20) from generate_series(100, 1200) i"),
    (1, "insert into b values (1, 'between')"),
    (
        1,
        "begin; insert into b select i, 'one' from generate_series(100, 2000) i; insert into unwanted values (1)",
    ),
    (0, "savepoint s; insert into a select i, i, 'gone' from generate_series(5000, 7000) i"),
    (0, "savepoint t; insert into c select i from generate_series(1, 2000) i; release t"),
    (0, "update a set n = -n where id < 500; rollback to s"),
    (2, "insert into c values (7); select pg_logical_emit_message(false, 'other', 'free')"),
    (2, "begin; insert into c select i from generate_series(1, 3000) i"),
    (
        0,
        "update a set n = n + 1; update a set id = id + 100000 where id <= 50; insert into unwanted values (2)",
    ),
    (1, "update b set note = 'two' where id % 3 = 0; delete from b where id % 7 = 0; commit"),
    (2, "rollback"),
    (0, "truncate c; insert into c select i from generate_series(1, 3000) i; commit"),
    (1, "begin; insert into b select i, 'three' from generate_series(10000, 12000) i; truncate b"),
    (1, "insert into b select i, 'four' from generate_series(1, 1500) i; commit"),
    (
        2,
        "do $$ begin for i in 1..400 loop begin
           insert into a values (20000 + i, i, repeat('s', 500));
           if i % 4 = 0 then raise exception 'no'; end if;
         exception when raise_exception then null; end; end loop; end $$",
    ),
    (2, "begin; select pg_logical_emit_message(true, 'other', repeat('m', 100000)); delete from a; commit"),
    (0, "insert into c values (8)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn in_blocks_and_whole_are_the_same() {
    let server = Server::start("logical_decoding_work_mem=64kB");
    server.sql(SETUP);
    let options = server.options();
    let admin = sql(&options).await;
    let found = catalog(&admin, &["public.a", "public.b", "public.c"]).await;
    let published =
        publication::ensure(&admin, &options, &found.tables, publication::Second::Make).await.told();
    server.sql("alter publication strandline_test add table unwanted");
    for slot in ["blocks", "disk", "whole"] {
        server.sql(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    }
    let sessions = [sql(&options).await, sql(&options).await, sql(&options).await];
    for session in &sessions {
        session.rows("set search_path = public").await.told();
    }
    for (session, statements) in SCRIPT {
        sessions[*session].rows(statements).await.told();
    }
    server.sql("select pg_logical_emit_message(true, 'strandline', '')");
    let end: Lsn = field(&admin.row("select pg_catalog.pg_current_wal_insert_lsn()").await.told(), 0).told();
    let mut all = Vec::new();
    for slot in ["whole", "blocks", "disk"] {
        let mut ours = options.clone();
        ours.slot = slot.to_owned();
        let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
        let mut start = stream_start(published.names.clone(), acknowledged);
        start.streaming = slot != "whole";
        start.guard = Some(CommitLsn::of_keepalive(end));
        if slot == "disk" {
            start.spill = Spill { memory: 100_000, slice: 20_000, dir: server.dir.join("spill") };
        }
        let mut stream = PgStream::start(&ours, &admin, start).await.told();
        for table in &found.tables {
            stream.add_table(Arc::clone(&table.schema), CommitLsn::ZERO).told();
        }
        let said = read(&mut stream, end).await;
        assert_eq!(stream.spilled_bytes() > 1_000_000, slot == "disk", "{slot}: {}", stream.spilled_bytes());
        assert_eq!(stream.uncommitted_bytes(), 0, "{slot}");
        stream.finish(PATIENCE).await.told();
        all.push(said);
    }
    let sent = "select stream_txns > 3 from pg_stat_replication_slots where slot_name = 'blocks'";
    assert_eq!(server.sql(sent), "t", "nothing was sent in blocks");
    let (whole, rest) = all.split_first().expect("three");
    assert!(whole.count > 10_000 && whole.replayed.len() > 8, "{} {}", whole.count, whole.replayed.len());
    for said in rest {
        for (table, rows) in &whole.rows {
            let found = &said.rows[table];
            let at = (0..rows.len().max(found.len())).find(|&i| rows.get(i) != found.get(i));
            assert_eq!(at.map(|i| (rows.get(i), found.get(i))), None, "table {table}");
        }
        assert_eq!((said.replayed.clone(), said.count), (whole.replayed.clone(), whole.count));
    }
}
