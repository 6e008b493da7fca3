//! The mixed workload on MySQL and MariaDB: as on PostgreSQL, clients that change several tables in transactions.

use crate::harness::mysql_sql::{Failed, MySql};
use crate::harness::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The tables of the mixed workload.
pub(crate) const MIXED: &[&str] = &[
    "shop.customers",
    "shop.orders",
    "shop.items",
    "shop.Mixed Case",
    "shop.scratch",
    "shop.ledger",
    "shop.bulk",
];

/// Running clients.
pub(crate) struct MyClients {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl MyClients {
    /// Starts `count` clients; each turn is one transaction, `pace` apart.
    pub(crate) fn start(count: u64, url: &str, random: &mut Random, pace: Duration) -> MyClients {
        MyClients::start_with(count, url, random, pace, step)
    }

    /// The same with turns of the test's own.
    pub(crate) fn start_with(
        count: u64,
        url: &str,
        random: &mut Random,
        pace: Duration,
        step: fn(&mut MySql, &mut Random) -> Result<(), Failed>,
    ) -> MyClients {
        let (stop, committed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..count)
            .map(|_| {
                let (stop, committed) = (Arc::clone(&stop), Arc::clone(&committed));
                let (url, mut random) = (url.to_owned(), random.fork());
                std::thread::spawn(move || {
                    let mut session: Option<MySql> = None;
                    while !stop.load(Ordering::SeqCst) {
                        let Some(sql) = &mut session else {
                            session = MySql::connect(&url).ok();
                            // Some write compressed transactions; MariaDB has no such thing.
                            if let Some(sql) = &mut session
                                && random.between(0, 3) == 0
                            {
                                let _unknown =
                                    sql.try_exec("set session binlog_transaction_compression = on");
                            }
                            std::thread::sleep(pace);
                            continue;
                        };
                        match step(sql, &mut random) {
                            Ok(()) => {
                                committed.fetch_add(1, Ordering::SeqCst);
                            }
                            // Deadlocks, lock waits and duplicates are a part of life.
                            Err(Failed { number: Some(1213 | 1205 | 1062), .. }) => {
                                let _undone = sql.try_exec("rollback");
                            }
                            Err(Failed { number: Some(number), message })
                                if (1050..1200).contains(&number) =>
                            {
                                panic!("the workload is wrong: {number} {message}")
                            }
                            Err(_) => session = None,
                        }
                        std::thread::sleep(pace);
                    }
                })
            })
            .collect();
        MyClients { stop, committed, threads }
    }

    /// Waits until this many more turns have succeeded.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let goal = self.committed.load(Ordering::SeqCst) + more;
        let started = Instant::now();
        while self.committed.load(Ordering::SeqCst) < goal {
            assert!(started.elapsed() < Duration::from_secs(60), "the workload stands still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops them and waits for each; the number of turns that succeeded.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
        self.committed.load(Ordering::SeqCst)
    }
}

/// Makes the tables, with `bulk` rows in the largest.
pub(crate) fn make_mixed(sql: &mut MySql, bulk: u64) {
    for statement in [
        "create table customers (id bigint unsigned primary key, name varchar(60), email varchar(80), \
         balance decimal(14,2), notes longtext, photo blob, changed datetime(6), active boolean) default charset utf8mb4",
        "create table orders (id bigint primary key auto_increment, customer bigint, status enum('new','paid','again'), \
         total decimal(12,2), placed timestamp(6) null, due date, weight double)",
        "create table items (order_id bigint, line int, product varchar(40), quantity smallint unsigned, price decimal(20,6), \
         primary key (order_id, line))",
        "create table `Mixed Case` (`The Key` varchar(40) primary key, v int, note varchar(80) character set latin1)",
        "create table scratch (id int primary key, v float)",
        "create table ledger (event bigint primary key auto_increment, what varchar(40))",
        "create table bulk (id int primary key, a bigint, b varchar(40), c varbinary(20))",
        "set session cte_max_recursion_depth = 1000000",
        "insert into customers with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) \
         select i, concat('customer ', i), concat(i, '@example.org'), i / 7, if(i % 5 = 0, repeat('näh', 300), null), \
         null, now(6), true from n",
        "insert into orders (customer, status, total, placed, due, weight) with recursive n(i) as \
         (select 1 union all select i + 1 from n where i < 3000) select 1 + i % 1000, 'new', i / 3, now(6), curdate(), i / 7 from n",
        "insert into items with recursive n(i) as (select 0 union all select i + 1 from n where i < 8999) \
         select 1 + floor(i / 3), i % 3, concat('p', i), i % 100, i / 9 from n",
        "insert into `Mixed Case` with recursive n(i) as (select 1 union all select i + 1 from n where i < 400) \
         select concat('key ', i), i, 'prix: 3 €' from n",
    ] {
        // MariaDB has another name for the bound.
        if let Err(error) = sql.try_exec(statement) {
            assert!(error.number == Some(1193), "{error:?}\n  in: {statement}");
            sql.exec("set session max_recursive_iterations = 1000000");
        }
    }
    sql.exec(&format!(
        "insert into bulk with recursive n(i) as (select 1 union all select i + 1 from n where i < {bulk}) \
         select i, i * 1000003, left(sha2(i, 256), 32), unhex(left(sha2(i, 256), 20)) from n"
    ));
}

/// One transaction: some changes in several tables, always an entry in the ledger.
fn step(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    let kind = random.between(0, 100);
    match kind {
        25..37 => return two_phases(sql, random),
        // MariaDB compresses for the whole server, or not at all.
        37..43 => match sql
            .try_exec("set session binlog_transaction_compression = 1 - @@binlog_transaction_compression")
        {
            Err(error) if error.number != Some(1193) => return Err(error),
            _ => {}
        },
        _ => {}
    }
    sql.try_exec("begin")?;
    for _ in 0..random.between(1, 4) {
        change(sql, random)?;
    }
    match kind {
        0..15 => {
            sql.try_exec("savepoint s")?;
            change(sql, random)?;
            sql.try_exec("rollback to savepoint s")?;
            change(sql, random)?;
        }
        20..25 => return sql.try_exec("rollback"),
        _ => {}
    }
    sql.try_exec(&format!("insert into ledger (what) values ('kind {kind}')"))?;
    sql.try_exec("commit")
}

/// The same in two phases. One that loses its connection between them stays prepared, for [`decide`].
fn two_phases(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    sql.try_exec("set session innodb_lock_wait_timeout = 2")?;
    let name = format!("'x{}'", random.between(1, u64::from(u32::MAX)));
    sql.try_exec(&format!("xa start {name}"))?;
    for _ in 0..random.between(1, 4) {
        change(sql, random)?;
    }
    sql.try_exec("insert into ledger (what) values ('two phases')")?;
    sql.try_exec(&format!("xa end {name}"))?;
    sql.try_exec(&format!("xa prepare {name}"))?;
    std::thread::sleep(Duration::from_millis(random.between(0, 60)));
    sql.try_exec(&format!("xa {} {name}", if random.between(0, 4) == 0 { "rollback" } else { "commit" }))
}

/// Commits what is still prepared; how many there were.
pub(crate) fn decide(sql: &mut MySql) -> usize {
    let prepared = sql.texts("xa recover");
    for row in &prepared {
        // Its session may just be about to end it.
        let _done = sql.try_exec(&format!("xa commit '{}'", row[3]));
    }
    prepared.len()
}

fn change(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    let customer = random.between(1, 1001);
    let order = random.between(1, 3001);
    let n = random.between(1, 1000);
    match random.between(0, 16) {
        0 | 1 => {
            sql.try_exec(&format!(
                "insert into orders (customer, status, total, placed, due, weight) \
                 values ({customer}, 'new', {n}.25, now(6), curdate(), {n} / 3)"
            ))?;
            sql.try_exec(&format!(
                "insert into items values (last_insert_id(), 1, 'product {n}', {n} % 50, {n} / 7), \
                 (last_insert_id(), 2, 'ü {n}', 0, null)"
            ))
        }
        2 | 3 => sql.try_exec(&format!(
            "update customers set balance = balance + {n}, changed = now(6) where id = {customer}"
        )),
        4 => sql.try_exec(&format!(
            "update customers set notes = repeat(sha2('{n}', 256), {}), photo = unhex(repeat(sha2('{n}', 256), {})) where id = {customer}",
            50 + n % 100,
            50 + n % 100
        )),
        // A key moves and comes back.
        5 => {
            sql.try_exec(&format!("update customers set id = id + 18446744073709540000 where id = {customer}"))?;
            sql.try_exec(&format!(
                "update customers set id = id - 18446744073709540000 where id = {customer} + 18446744073709540000"
            ))
        }
        6 => sql.try_exec(&format!("update items set line = line + 100 where order_id = {order} and line < 100")),
        7 => sql.try_exec(&format!(
            "update `Mixed Case` set `The Key` = if(`The Key` like 'key%', concat('moved ', v), concat('key ', v)) where v = {}",
            n % 400
        )),
        8 => {
            sql.try_exec(&format!("delete from items where order_id = {order}"))?;
            sql.try_exec(&format!("delete from orders where id = {order}"))
        }
        9 => sql.try_exec(&format!("replace into orders values ({order}, {customer}, 'again', {n}, now(6), null, null)")),
        10 => {
            sql.try_exec(&format!("insert into scratch values ({n} + 100000, 1)"))?;
            sql.try_exec(&format!("delete from scratch where id = {n} + 100000"))
        }
        11 => sql.try_exec(&format!(
            "insert into scratch values ({n}, {n} / 3) on duplicate key update v = v + 1"
        )),
        12 => sql.try_exec(&format!(
            "update bulk set a = a + {n} where id between {n} * 20 and {n} * 20 + {}",
            random.between(1, 400)
        )),
        13 => sql.try_exec(&format!("delete from bulk where id = {n} * 7")),
        _ => sql.try_exec(&format!(
            "update items set quantity = {n} % 100, price = price + 0.01 where order_id = {order}"
        )),
    }
}
