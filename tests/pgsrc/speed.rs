//! Rates, beside `pg_recvlogical` and a bare `COPY` in the same run. Not part of the ordinary tests:
//! `cargo test --test pgsrc -- --ignored --nocapture speed`.

use crate::common::{PATIENCE, Told, catalog, sql, stream_start, table};
use crate::server::{Server, as_postgres};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use strandline::error::Error;
use strandline::event::ChangeBatch;
use strandline::pgoutput::Policies;
use strandline::position::CommitLsn;
use strandline::source::postgres::publication;
use strandline::source::postgres::slot::{self, SlotKind};
use strandline::source::postgres::snapshot::{CopyJob, CopyProgress, CopySink, copy_table};
use strandline::source::postgres::stream::{Budget, PgStream};
use tokio::sync::watch;

const TABLE: &str =
    "create table t(id bigint primary key, a int, b bigint, c double precision, d numeric(12,2), e text,
     f timestamptz, g bool)";
const ROW: &str = "i, i % 1000, i * 7, i / 3.0, (i % 100000) / 100.0, md5(i::text), now(), i % 2 = 0";

fn own_cpu() -> f64 {
    Server::cpu_seconds(std::process::id())
}

struct Null(Arc<AtomicU64>);

impl CopySink for Null {
    fn write(&mut self, batch: ChangeBatch) -> Result<(), Error> {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_the_snapshot() {
    let server = Server::start("shared_buffers=1GB\nmax_wal_size=8GB");
    server.sql(&format!(
        "{TABLE}; insert into t select {ROW} from generate_series(1, 3000000) i; vacuum analyze t;"
    ));
    let options = server.options();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let made = slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told();
    for workers in [1, 2] {
        let rows = Arc::new(AtomicU64::new(0));
        let job = CopyJob {
            options: &options,
            sql: &sql,
            snapshot: &made.snapshot,
            table: table(&found, "t"),
            policies: Policies::default(),
            workers,
            progress: Arc::new(CopyProgress::default()),
            max_load: strandline::source::postgres::load::MaxLoad::default(),
            keys: None,
            only: String::new(),
        };
        let (started, cpu) = (Instant::now(), own_cpu());
        copy_table(&job, |_| Ok(Null(Arc::clone(&rows)))).await.told();
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), own_cpu() - cpu);
        let rows = rows.load(Ordering::Relaxed) as f64;
        println!(
            "snapshot, {workers} workers: {:.2} M rows/s, {:.3} CPU-s per M",
            rows / seconds / 1e6,
            cpu / rows * 1e6
        );
    }
    let started = Instant::now();
    let status = as_postgres("/usr/bin/psql")
        .args(["-X", "-q", "-U", "postgres", "-h", "127.0.0.1", "-p", &server.port.to_string()])
        .args(["-d", "postgres", "-c", "copy t to stdout (format binary)"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    println!("psql COPY binary to /dev/null: {:.2} M rows/s", 3.0 / started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_the_stream() {
    let server = Server::start("shared_buffers=1GB\nmax_wal_size=8GB\nwal_sender_timeout=60s");
    server.sql(TABLE);
    let options = server.options();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let published =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    for (name, load, changes) in [
        (
            "1 M inserts, 100 a transaction",
            format!("do $$ begin for k in 0..9999 loop insert into t select {ROW} from generate_series(k*100+1, k*100+100) i; commit; end loop; end $$"),
            1_000_000,
        ),
        (
            "1 M updates, 100 a transaction",
            "do $$ begin for k in 0..9999 loop update t set a = a + 1 where id between k*100+1 and k*100+100; commit; end loop; end $$".to_owned(),
            1_000_000,
        ),
        (
            "200 k single-row transactions",
            "do $$ begin for k in 1..200000 loop update t set a = a + 1 where id = k; commit; end loop; end $$".to_owned(),
            200_000,
        ),
    ] {
        for slot_name in ["ours", "theirs"] {
            server.sql(&format!("select pg_create_logical_replication_slot('{slot_name}', 'pgoutput')"));
        }
        server.sql(&load);
        let end = server.sql("select pg_current_wal_insert_lsn()");
        server.sql("select pg_switch_wal(); select pg_logical_emit_message(true, 'strandline', '')");
        let mut ours = options.clone();
        ours.slot = "ours".to_owned();
        let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
        let start = stream_start(published.names.clone(), acknowledged);
        let mut stream = PgStream::start(&ours, &sql, start).await.told();
        stream.add_table(Arc::clone(&found.tables[0].schema), CommitLsn::ZERO).told();
        let sender: u32 = server.sql("select pid from pg_stat_replication").parse().unwrap();
        let (started, cpu, sender_cpu) = (Instant::now(), own_cpu(), Server::cpu_seconds(sender));
        // On a worker, as in the product: the main thread of a test pays for each wake-up.
        let reading = tokio::spawn(async move {
            let (mut rows, mut bursts, mut heartbeats) = (0u64, 0u64, 0);
            while heartbeats == 0 {
                let burst = stream.next(Budget { rows: 65_536, bytes: 16 << 20 }).await.told();
                rows += burst.rows;
                bursts += 1;
                heartbeats += burst.heartbeats;
                if stream.held_bytes() > 16 << 20 {
                    for (_, batch) in stream.take_all() {
                        drop(batch.told());
                    }
                }
            }
            (stream, rows, bursts)
        });
        let (stream, rows, bursts) = reading.await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let (cpu, sender_cpu) = (own_cpu() - cpu, Server::cpu_seconds(sender) - sender_cpu);
        assert_eq!(rows, changes);
        let n = changes as f64;
        println!(
            "{name}: ours {:.0} k/s, {:.3} CPU-s per M, walsender {:.0} k per CPU-s, {bursts} bursts",
            n / seconds / 1e3, cpu / n * 1e6, n / sender_cpu / 1e3
        );
        stream.finish(PATIENCE).await.told();
        let started = Instant::now();
        let mut peer = as_postgres("/usr/lib/postgresql/15/bin/pg_recvlogical")
            .args(["-U", "postgres", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-d", "postgres"])
            .args(["-S", "theirs", "--start", "-f", "-", "-E", &end, "--no-loop"])
            .args(["-o", "proto_version=1", "-o", "binary=true", "-o", "publication_names=strandline_test"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The walsender ends with its client: the last look at it counts.
        let (mut peer_cpu, mut sender_cpu, mut sender) = (0.0f64, 0.0f64, None);
        while peer.try_wait().unwrap().is_none() {
            if sender.is_none() {
                sender = server.sql("select pid from pg_stat_replication").parse::<u32>().ok();
            }
            peer_cpu = peer_cpu.max(Server::cpu_seconds(peer.id()));
            sender_cpu = sender_cpu.max(sender.map_or(0.0, Server::cpu_seconds));
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(peer.wait().unwrap().success());
        println!(
            "{name}: pg_recvlogical {:.0} k/s, {:.3} CPU-s per M, walsender {:.0} k per CPU-s",
            n / started.elapsed().as_secs_f64() / 1e3, peer_cpu / n * 1e6, n / sender_cpu / 1e3
        );
        for slot_name in ["ours", "theirs"] {
            slot::drop_slot(&sql, slot_name).await.told();
        }
    }
}

/// Bytes of memory at the peak since the last call.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak can be set back");
    kib * 1024
}

/// `ROWS` (default 1 M) in one transaction, in blocks and whole.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_of_one_giant_transaction() {
    let rows = std::env::var("ROWS").map_or(1_000_000, |n| n.parse::<u64>().expect("ROWS is a number"));
    let server = Server::start("shared_buffers=1GB\nmax_wal_size=16GB\nwal_sender_timeout=60s");
    server.sql(TABLE);
    let options = server.options();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let published =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    for slot_name in ["blocks", "whole"] {
        server.sql(&format!("select pg_create_logical_replication_slot('{slot_name}', 'pgoutput')"));
    }
    server.sql(&format!("insert into t select {ROW} from generate_series(1, {rows}) i"));
    server.sql("select pg_switch_wal(); select pg_logical_emit_message(true, 'strandline', '')");
    let mut senders = Vec::new();
    for (slot_name, streaming) in [("blocks", true), ("whole", false)] {
        let mut ours = options.clone();
        ours.slot = slot_name.to_owned();
        let (_ack, acknowledged) = watch::channel(CommitLsn::ZERO);
        let mut start = stream_start(published.names.clone(), acknowledged);
        start.streaming = streaming;
        peak_memory();
        let (started, cpu) = (Instant::now(), own_cpu());
        let mut stream = PgStream::start(&ours, &sql, start).await.told();
        stream.add_table(Arc::clone(&found.tables[0].schema), CommitLsn::ZERO).told();
        let sender: u32 = server.sql("select pid from pg_stat_replication").parse().unwrap();
        let reading = tokio::spawn(async move {
            let (mut taken, mut heartbeats) = (0, 0);
            while heartbeats == 0 {
                let burst = stream.next(Budget { rows: 65_536, bytes: 16 << 20 }).await.told();
                heartbeats += burst.heartbeats;
                if stream.held_bytes() > 8 << 20 || heartbeats > 0 {
                    taken += stream.take_all().into_iter().map(|(_, b)| b.told().len() as u64).sum::<u64>();
                }
            }
            (stream, taken)
        });
        let (stream, taken) = reading.await.unwrap();
        assert_eq!(taken, rows);
        let sender_cpu = Server::cpu_seconds(sender);
        println!(
            "{rows} rows in one transaction, {slot_name}: {:.1} s, {:.2} CPU-s, walsender {sender_cpu:.2} CPU-s, \
             peak memory {} MB, {} MB through the disk",
            started.elapsed().as_secs_f64(),
            own_cpu() - cpu,
            peak_memory() / 1_000_000,
            stream.spilled_bytes() / 1_000_000,
        );
        senders.push(sender_cpu);
        stream.finish(PATIENCE).await.told();
    }
    println!("walsender, whole / blocks: {:.2}", senders[1] / senders[0]);
}
