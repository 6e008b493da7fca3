//! No acknowledgement is ahead of the tables, seen on the wire.
//!
//! A proxy holds each standby status update until the test has read the tables by another reader. Each
//! source transaction inserts its number into two tables; the log position directly after its commit is
//! remembered. An update that acknowledges a position must find every transaction before it in both tables.

use crate::harness::proxy::{Proxy, StatusUpdate};
use crate::harness::random::Random;
use crate::harness::reader::Readers;
use crate::harness::sql::parse_lsn;
use crate::harness::{Scene, until};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    updates: u64,
    advances: u64,
    last_flush: u64,
    /// Of update number n: transactions that had to be there.
    checked: u64,
    violations: Vec<String>,
}

/// Log positions after each commit; the index is the transaction's number.
type Commits = Arc<Mutex<Vec<u64>>>;

#[test]
fn no_acknowledgement_is_ahead_of_the_tables() {
    let mut random = Random::from_env("wire-ack");
    let mut scene = Scene::new("wire-ack");
    scene.config.interval = "100ms".into();
    scene.sql().exec("create table ledger (n bigint primary key); create table other (n bigint primary key)");
    scene.sql().exec("insert into ledger values (0); insert into other values (0)");
    let commits: Commits = Arc::default();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let proxy = {
        let tables = [scene.table("public.ledger"), scene.table("public.other")];
        let (commits, seen) = (Arc::clone(&commits), Arc::clone(&seen));
        let readers = Mutex::new(Readers::start());
        Proxy::start(scene.pg.port(), move |update| {
            let expected = durable_before(&commits, update.flush);
            check(&mut seen.lock().unwrap(), &mut readers.lock().unwrap(), &tables, update, expected);
        })
    };
    scene.config.url = scene.config.url.replace(&scene.pg.port().to_string(), &proxy.port().to_string());

    let mut running = scene.start_run(&[]);
    let mut sql = scene.sql();
    until(Duration::from_secs(60), "the slot exists", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        sql.value("select count(*) from pg_replication_slots where slot_name = 'strandline_shop'") == "1"
    });
    for n in 1..=600_u64 {
        sql.exec(&format!("begin; insert into ledger values ({n}); insert into other values ({n}); commit"));
        let after = parse_lsn(&sql.value("select pg_current_wal_insert_lsn()"));
        commits.lock().unwrap().push(after);
        if n % 150 == 75 {
            running.kill9();
            running = scene.start_run(&[]);
        }
        if n % 150 == 149 {
            proxy.cut();
        }
        // The rate: commits of the target fall between those of the source.
        std::thread::sleep(Duration::from_millis(random.between(1, 20)));
    }
    let last = commits.lock().unwrap().last().copied().unwrap_or_default();
    until(Duration::from_secs(60), "everything is acknowledged", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        sql.exec("select pg_logical_emit_message(false, 'tick', '')");
        seen.lock().unwrap().last_flush >= last
    });
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.assert_equal(&["public.ledger", "public.other"]);

    let seen = seen.lock().unwrap();
    println!("{} status updates observed, {} of them advanced the position", seen.updates, seen.advances);
    assert!(seen.violations.is_empty(), "{}", seen.violations.join("\n"));
    assert!(seen.updates >= 10 && seen.advances >= 10, "too few updates to prove anything");
    assert_eq!(seen.checked, 600, "the last update covered every transaction");
}

/// How many transactions end at or before a position: their numbers are 1 to this.
fn durable_before(commits: &Commits, flush: u64) -> u64 {
    commits.lock().unwrap().iter().filter(|after| **after <= flush).count() as u64
}

fn check(seen: &mut Seen, readers: &mut Readers, tables: &[PathBuf; 2], update: StatusUpdate, expected: u64) {
    seen.updates += 1;
    if update.flush > seen.last_flush {
        seen.advances += 1;
        seen.last_flush = update.flush;
    }
    if update.apply > update.flush || update.write < update.flush {
        seen.violations.push(format!("{update:?}: out of order"));
    }
    if expected == 0 {
        return;
    }
    seen.checked = seen.checked.max(expected);
    for table in tables {
        let sql = format!("select count(*) from t where n between 1 and {expected}");
        match readers.try_sql(table, None, &sql) {
            Ok(rows) if rows[0][0] == Some(expected.to_string()) => {}
            found => seen.violations.push(format!(
                "{update:?} acknowledges {expected} transactions; {} holds {found:?}",
                table.display()
            )),
        }
    }
}
