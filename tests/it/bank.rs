//! Money only moves: the sum over all accounts is the same in every state of the source. So it must be the
//! same in every version of the table, read by time travel, and at every cut over two tables.

use crate::harness::random::Random;
use crate::harness::sql::{Row, Sql, SqlError};
use crate::harness::{Scene, deltalog};
use crate::workload::Clients;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ACCOUNTS: u64 = 500;
const KILLS: u64 = 5;

#[test]
fn every_version_keeps_the_sum() {
    let mut random = Random::from_env("bank-one");
    let mut scene = Scene::new("bank-one");
    scene.sql().exec(&format!(
        "create table accounts (id bigint primary key, balance bigint not null, memo text);
         insert into accounts select i, 100, repeat('x', 100) from generate_series(1, {ACCOUNTS}) i"
    ));
    run_with_kills(&mut scene, &mut random, one_table);
    let money = scene.sql().value("select sum(balance) from accounts");
    assert_eq!(money, (ACCOUNTS * 100).to_string(), "the source's own transfers lose nothing");
    scene.assert_equal(&["public.accounts"]);
    let table = scene.table("public.accounts");
    let first = first_live_version(&scene);
    let last = deltalog::version(&table).expect("a table");
    println!("versions {first} to {last}");
    assert!(last - first >= 20, "too few versions to prove anything");
    for version in first..=last {
        let sums = scene.readers().sql(&table, Some(version), "select sum(balance), count(*) from t");
        let expected = [Some((ACCOUNTS * 100).to_string()), Some(ACCOUNTS.to_string())];
        assert_eq!(sums[0], expected, "version {version}");
    }
}

/// A transfer: with a detour that is rolled back, over several hops, with a key that moves, or abandoned.
fn one_table(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let (from, to) = (random.between(1, ACCOUNTS + 1), random.between(1, ACCOUNTS + 1));
    let amount = random.between(1, 50);
    let pay = |account: u64, sign: &str| {
        format!("update accounts set balance = balance {sign} {amount} where id = {account};")
    };
    // Who waits for a row that is deleted and inserted again finds none, and money would be lost in the source
    // itself: so one transfer at a time per account.
    let lock = |account: u64| format!("select pg_advisory_xact_lock({account});");
    let mut script = format!("begin; {}{}{}", lock(from.min(to)), lock(from.max(to)), pay(from, "-"));
    match random.between(0, 8) {
        0 => {
            script.push_str("rollback");
            return sql.try_exec(&script);
        }
        1 => script.push_str(&format!("savepoint s; {} rollback to savepoint s;", pay(to, "+"))),
        2 => script.push_str(&format!(
            "update accounts set id = id + 1000000 where id = {to}; \
             update accounts set id = id - 1000000 where id = {to} + 1000000;"
        )),
        3 => script.push_str(&format!(
            "with gone as (delete from accounts where id = {to} returning *) insert into accounts select * from gone;"
        )),
        _ => {}
    }
    script.push_str(&pay(to, "+"));
    script.push_str("commit");
    sql.try_exec(&script)
}

#[test]
fn every_cut_keeps_the_sum_over_two_tables() {
    let mut random = Random::from_env("bank-two");
    let mut scene = Scene::new("bank-two");
    scene.sql().exec(&format!(
        "create table credit (id bigint primary key, balance bigint not null);
         create table debit (id bigint primary key, balance bigint not null);
         insert into credit select i, 100 from generate_series(1, {ACCOUNTS}) i;
         insert into debit select i, 100 from generate_series(1, {ACCOUNTS}) i"
    ));
    run_with_kills(&mut scene, &mut random, two_tables);
    scene.assert_equal(&["public.credit", "public.debit"]);
    let cuts = cuts(&mut scene);
    println!("{} cuts", cuts.len());
    assert!(cuts.len() >= 10, "too few cuts to prove anything");
    for (position, versions) in &cuts {
        let names: Vec<&str> = versions.keys().map(String::as_str).collect();
        assert_eq!(names, ["public.credit", "public.debit"], "the cut at {position} names both tables");
        let sum: i64 = versions.iter().map(|(name, version)| sum_at(&mut scene, name, *version)).sum();
        assert_eq!(sum, (2 * ACCOUNTS * 100) as i64, "the cut at {position}: {versions:?}");
    }
}

/// From one table to the other, never within one.
fn two_tables(sql: &mut Sql, random: &mut Random) -> Result<(), SqlError> {
    let (from, to) = if random.one_in(2) { ("credit", "debit") } else { ("debit", "credit") };
    let amount = random.between(1, 50);
    let end = if random.one_in(10) { "rollback" } else { "commit" };
    sql.try_exec(&format!(
        "begin; update {from} set balance = balance - {amount} where id = {};
         update {to} set balance = balance + {amount} where id = {}; {end}",
        random.between(1, ACCOUNTS + 1),
        random.between(1, ACCOUNTS + 1)
    ))
}

fn run_with_kills(
    scene: &mut Scene,
    random: &mut Random,
    step: impl Fn(&mut Sql, &mut Random) -> Result<(), SqlError> + Send + Sync + 'static,
) {
    scene.config.interval = "100ms".into();
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(4, &url, random, Duration::from_millis(4), step);
    for _ in 0..KILLS {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(300, 2500)));
        running.kill9();
    }
    let running = scene.start_run(&[]);
    clients.wait_for(400);
    let transfers = clients.stop();
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    println!("{transfers} transfers, {KILLS} kills");
}

/// As the table itself records it.
fn first_live_version(scene: &Scene) -> i64 {
    let table = scene.table("public.accounts");
    let mut states =
        deltalog::commits(&table).into_iter().flat_map(|commit| commit.actions).filter_map(|action| {
            let state = action.get("metaData")?["configuration"]["strandline.state"].as_str()?.to_owned();
            serde_json::from_str::<serde_json::Value>(&state).ok()?["first_live_version"].as_i64()
        });
    states.next_back().expect("the table records its first live version")
}

/// Every cut that was ever committed: position, and the version of each table.
fn cuts(scene: &mut Scene) -> BTreeMap<i64, BTreeMap<String, i64>> {
    let control = scene.control();
    let mut found: BTreeMap<i64, BTreeMap<String, i64>> = BTreeMap::new();
    let mut seen: BTreeSet<Row> = BTreeSet::new();
    for version in 0..=deltalog::version(&control).expect("a control table") {
        let rows = scene.readers().sql(
            &control,
            Some(version),
            "select position, name, version from t where kind = 'cut_table'",
        );
        for row in rows {
            if seen.insert(row.clone()) {
                let number =
                    |i: usize| row[i].as_ref().and_then(|n| n.parse::<i64>().ok()).expect("a number");
                let name = row[1].clone().expect("a name");
                let before = found.entry(number(0)).or_default().insert(name, number(2));
                assert_eq!(before, None, "one position, two cuts with different versions: {row:?}");
            }
        }
    }
    found
}

fn sum_at(scene: &mut Scene, name: &str, version: i64) -> i64 {
    let table = scene.table(name);
    let rows = scene.readers().sql(&table, Some(version), "select sum(balance)::bigint from t");
    rows[0][0].as_ref().and_then(|n| n.parse().ok()).expect("a sum")
}
