//! Workloads: clients on threads that change the source until they are told to stop.
//!
//! A client survives a crash of the server: it connects again and goes on. What a transaction did is not
//! remembered; the source itself is the truth that the target is compared with.

use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Running clients.
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    pause: Arc<AtomicBool>,
    paused: Arc<AtomicU64>,
    committed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts `count` clients. Each call of `step` is one turn of one client; a turn that fails is rolled
    /// back, and a lost connection made again. `pace` is the pause between turns: the rate, not a wait.
    pub(crate) fn start(
        count: u64,
        url: &str,
        random: &mut Random,
        pace: Duration,
        step: impl Fn(&mut Sql, &mut Random) -> Result<(), SqlError> + Send + Sync + 'static,
    ) -> Clients {
        let clients = Clients {
            stop: Arc::default(),
            pause: Arc::default(),
            paused: Arc::default(),
            committed: Arc::default(),
            threads: Vec::new(),
        };
        let step = Arc::new(step);
        let threads = (0..count)
            .map(|_| {
                let (stop, pause) = (Arc::clone(&clients.stop), Arc::clone(&clients.pause));
                let (paused, committed) = (Arc::clone(&clients.paused), Arc::clone(&clients.committed));
                let (url, step, mut random) = (url.to_owned(), Arc::clone(&step), random.fork());
                std::thread::spawn(move || {
                    let mut session = None;
                    while !stop.load(Ordering::SeqCst) {
                        if pause.load(Ordering::SeqCst) {
                            paused.fetch_add(1, Ordering::SeqCst);
                            while pause.load(Ordering::SeqCst) && !stop.load(Ordering::SeqCst) {
                                std::thread::sleep(Duration::from_millis(2));
                            }
                            paused.fetch_sub(1, Ordering::SeqCst);
                            continue;
                        }
                        if turn(&mut session, &url, &mut random, &*step) {
                            committed.fetch_add(1, Ordering::SeqCst);
                        }
                        std::thread::sleep(pace);
                    }
                })
            })
            .collect();
        Clients { threads, ..clients }
    }

    /// Turns that succeeded so far.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::SeqCst)
    }

    /// Waits until this many more turns have succeeded.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let goal = self.committed() + more;
        let started = Instant::now();
        while self.committed() < goal {
            assert!(started.elapsed() < Duration::from_secs(60), "the workload stands still");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Holds all clients between two turns, runs `then`, lets them go on.
    pub(crate) fn while_paused<T>(&self, then: impl FnOnce() -> T) -> T {
        self.pause.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while self.paused.load(Ordering::SeqCst) < self.threads.len() as u64 {
            assert!(started.elapsed() < Duration::from_secs(60), "a client does not pause");
            std::thread::sleep(Duration::from_millis(2));
        }
        let result = then();
        self.pause.store(false, Ordering::SeqCst);
        result
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

fn turn(
    session: &mut Option<Sql>,
    url: &str,
    random: &mut Random,
    step: &(impl Fn(&mut Sql, &mut Random) -> Result<(), SqlError> + ?Sized),
) -> bool {
    let Some(sql) = session else {
        *session = Sql::connect(url).ok();
        return false;
    };
    match step(sql, random) {
        Ok(()) => true,
        // A conflict with another client is a part of life, a wrong statement is not. Without a SQLSTATE
        // the connection is gone.
        Err(error) => {
            let class = error.state.as_deref().map_or("", |state| &state[..2]);
            assert!(!matches!(class, "22" | "42"), "the workload is wrong: {error}");
            if error.state.is_none() || sql.try_exec("rollback").is_err() {
                *session = None;
            }
            false
        }
    }
}

/// The tables of the mixed workload.
pub(crate) const MIXED: &[&str] = &[
    "public.customers",
    "public.orders",
    "public.items",
    "public.Mixed Case",
    "public.scratch",
    "public.ledger",
    "public.bulk",
];

/// Makes the tables of the mixed workload, with `bulk` rows in the largest, so that a copy takes a while.
pub(crate) fn make_mixed(sql: &mut Sql, bulk: u64) {
    sql.exec(
        "create table customers (id bigint primary key, name text, email varchar(80), balance numeric(14,2),
                                 notes text, photo bytea, changed timestamptz, active boolean);
         alter table customers alter notes set storage external, alter photo set storage external;
         create table orders (id bigint primary key, customer bigint, status text, total numeric(12,2),
                              placed timestamp, due date, weight double precision);
         create table items (order_id bigint, line int, product text, quantity smallint, price numeric,
                             primary key (order_id, line));
         create table \"Mixed Case\" (\"The Key\" text primary key, v int, doc jsonb);
         create table scratch (id int primary key, v real);
         create table ledger (event bigint generated always as identity primary key, txid bigint, what text);
         create table bulk (id int primary key, a bigint, b text, c uuid);
         create sequence fresh start 1000000;
         insert into customers select i, 'customer ' || i, i || '@example.org', i / 7.0,
                case when i % 5 = 0 then repeat(md5(i::text), 300) end, null, now(), true
                from generate_series(1, 2000) i;
         insert into orders select i, 1 + i % 2000, 'new', i / 3.0, now(), current_date, i / 7.0
                from generate_series(1, 5000) i;
         insert into items select 1 + i / 3, i % 3, 'p' || i, i % 100, i / 9.0 from generate_series(0, 14999) i;
         insert into \"Mixed Case\" select 'key ' || i, i, jsonb_build_object('n', i) from generate_series(1, 500) i;
         insert into scratch select i, i / 3.0 from generate_series(1, 200) i;",
    );
    sql.exec(&format!(
        "insert into bulk select i, i * 1000003::bigint, md5(i::text), md5(i::text)::uuid from generate_series(1, {bulk}) i"
    ));
}

/// One transaction of the mixed workload: some changes in several tables, always an entry in the ledger.
pub(crate) fn mixed_step(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let kind = random.between(0, 100);
    let mut script = String::from("begin;");
    let changes = random.between(1, 4);
    for _ in 0..changes {
        script.push_str(&mixed_change(random));
    }
    match kind {
        // Part of it never happened.
        0..15 => {
            script.push_str("savepoint s;");
            script.push_str(&mixed_change(random));
            script.push_str(&mixed_change(random));
            script.push_str("rollback to savepoint s;");
            script.push_str(&mixed_change(random));
        }
        // Nested, the inner one kept.
        15..20 => {
            script.push_str("savepoint a; savepoint b;");
            script.push_str(&mixed_change(random));
            script.push_str("release savepoint b;");
            script.push_str(&mixed_change(random));
        }
        // Nothing of it happened.
        20..25 => {
            script.push_str("rollback");
            return sql.try_exec(&script);
        }
        _ => {}
    }
    script.push_str(&format!(
        "insert into ledger (txid, what) values (pg_current_xact_id()::text::bigint, 'kind {kind}'); commit"
    ));
    sql.try_exec(&script)
}

fn mixed_change(random: &mut Random) -> String {
    let customer = random.between(1, 2001);
    let order = random.between(1, 5001);
    let n = random.between(1, 1000);
    let any_order = format!("(select id from orders where id >= {order} order by id limit 1)");
    match random.between(0, 17) {
        // A new order with its items.
        0 | 1 => format!(
            "insert into orders values (nextval('fresh'), {customer}, 'new', {n}.25, now(), current_date, {n} / 3.0);
             insert into items select currval('fresh'), l, 'product {n}', {n} % 50, {n} / 7.0
                    from generate_series(1, {}) l;",
            1 + n % 5
        ),
        // A change beside large values that the log does not repeat.
        2 | 3 => format!(
            "update customers set balance = balance + {n}, changed = clock_timestamp() where id = {customer};"
        ),
        // New large values.
        4 => format!(
            "update customers set notes = repeat(md5('{n}'), {}), photo = decode(repeat(md5('{n}'), {}), 'hex')
             where id = {customer};",
            100 + n % 300,
            100 + n % 200
        ),
        // A key moves with its large values.
        5 => format!(
            "update customers set id = id + 10000 where id = {customer};
             update customers set id = id - 10000 where id = {} + 10000;",
            random.between(1, 2001)
        ),
        // A key moves, and the rows that name it.
        6 | 7 => format!(
            "with old as (select id, nextval('fresh') as fresh from orders where id = {any_order}),
                  moved as (update orders o set id = old.fresh from old where o.id = old.id returning old.id, old.fresh)
             update items i set order_id = m.fresh from moved m where i.order_id = m.id;"
        ),
        // Text keys move, also to one that was there before.
        8 => format!(
            "update \"Mixed Case\" set \"The Key\" = 'moved ' || v where v = {};
             update \"Mixed Case\" set \"The Key\" = 'key ' || v, doc = doc || '{{\"n\": {n}}}' where v = {};",
            n % 500,
            random.between(1, 501)
        ),
        // A delete with all that belongs to it.
        9 => format!(
            "with gone as (delete from orders where id = {any_order} returning id)
             delete from items using gone where items.order_id = gone.id;"
        ),
        // Delete and insert the same key in one transaction.
        10 => format!(
            "delete from orders where id = {order}; insert into orders values ({order}, {customer}, 'again', {n}, \
             now(), null, null) on conflict do nothing;"
        ),
        // Insert and delete in one transaction: nothing remains.
        11 => format!("insert into scratch values ({n} + 100000, 1); delete from scratch where id = {n} + 100000;"),
        // A key twice in one transaction.
        12 => format!(
            "insert into scratch values ({n}, {n} / 3.0) on conflict (id) do update set v = excluded.v;
             update scratch set v = v + 1 where id = {n};"
        ),
        // Everything goes, something comes.
        13 if n.is_multiple_of(4) => {
            format!("truncate scratch; insert into scratch select i, {n} / 7.0 from generate_series(1, {n}) i;")
        }
        // Many rows at once.
        14 => format!(
            "update bulk set a = a + {n} where id between {n} * 20 and {n} * 20 + {};",
            random.between(1, 400)
        ),
        15 => format!("delete from bulk where id % 9973 = {n};"),
        _ => format!("update items set quantity = {n} % 100, price = price + 0.01 where order_id = {order};"),
    }
}
