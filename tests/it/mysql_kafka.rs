//! MySQL and MariaDB into Kafka: what a `read_committed` consumer sees is what happened in the source, once, in its order,
//! from snapshots that were taken while others wrote.

use crate::harness::kafka::{Broker, shared};
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::{Failed, MySql};
use crate::harness::random::Random;
use crate::harness::{LONG, until};
use crate::kafka::check_events;
use crate::mysql_workload::MyClients;
use serde_json::Value;
use std::time::{Duration, Instant};

fn into(mut scene: MyScene, name: &str, broker: &Broker) -> MyScene {
    scene.config.name = name.to_owned();
    let commit = "  commit: {interval: 5ms}\n";
    scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n{commit}", broker.address()));
    scene
}

fn make_counters(sql: &mut MySql) {
    for statement in [
        "create table counters(id int primary key, n bigint not null)",
        "create table things(id bigint primary key auto_increment, what text)",
        "create table filler(id int primary key auto_increment, t text)",
        "insert into filler (t) values (repeat('x', 250))",
    ] {
        sql.exec(statement);
    }
    for _ in 0..14 {
        sql.exec("insert into filler (t) select t from filler");
    }
    for id in 0..20 {
        sql.exec(&format!("insert into counters values ({id}, 0)"));
    }
}

/// Each counter goes up by one at a time; each thing comes, and some go.
fn count(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    let mut ids: Vec<u64> = (0..random.between(1, 4)).map(|_| random.between(0, 20)).collect();
    ids.sort_unstable();
    sql.try_exec("begin")?;
    for id in ids {
        sql.try_exec(&format!("update counters set n = n + 1 where id = {id}"))?;
    }
    for _ in 0..random.between(1, 9) {
        sql.try_exec("insert into things (what) values (repeat('x', 50))")?;
    }
    if random.between(0, 4) == 0 {
        sql.try_exec("delete from things where id % 3 = 0 order by id limit 1")?;
    }
    sql.try_exec("commit")
}

#[track_caller]
fn check(scene: &MyScene, broker: &Broker) -> usize {
    let mut sql = scene.sql();
    let counters = sql.value("select group_concat(concat(id, '=', n) order by id) from counters");
    let things = sql.value("select count(*) from things");
    check_events(broker, &format!("{}.shop", scene.config.name), &counters, &things)
}

/// From the first one that was told on, each definition comes once, in order, in one partition; before them those of the
/// copy.
fn check_definitions(broker: &Broker, topic: &str, statements: u64) {
    let records = broker.read_all(&[topic]);
    let told: Vec<String> = records
        .iter()
        .filter_map(|record| {
            serde_json::from_str::<Value>(record.value.as_deref()?).ok()?["ddl"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(told.iter().any(|ddl| ddl.starts_with("CREATE TABLE `counters`")), "{told:?}");
    let altered: Vec<&String> = told.iter().filter(|ddl| ddl.starts_with("alter table mark")).collect();
    let first = statements - u64::try_from(altered.len()).expect("a number");
    let expected: Vec<String> =
        (first..statements).map(|kill| format!("alter table mark comment 'c{kill}'")).collect();
    assert!(altered.iter().copied().eq(&expected), "{altered:?}");
    assert!(!altered.is_empty(), "none was told");
    assert!(records.iter().all(|record| record.partition == 0), "another partition than the first");
}

#[test]
fn every_event_of_mysql_comes_once_and_in_order_through_kills() {
    kills(Brand::MySql9, "my-kafka-kill");
}

#[test]
fn every_event_of_mariadb_comes_once_and_in_order_through_kills() {
    kills(Brand::MariaDb1011, "maria-kafka-kill");
}

/// kill -9 of strandline, of the server and of the broker, at random; the first ones while tables are copied, and all the
/// time others write. `KILLS` scales it.
fn kills(brand: Brand, test: &str) {
    let Some(scene) = MyScene::new(test, brand) else { return };
    let kills = std::env::var("KILLS").map_or(8, |k| k.parse::<u64>().expect("KILLS is a number"));
    let mut random = Random::from_env(test);
    let mut broker = Broker::start(&scene.dir().join("kafka"));
    let mut scene = into(scene, test, &broker);
    scene.config.more = "format:\n  debezium: {include_schema_changes: true}\n".into();
    make_counters(&mut scene.sql());
    scene.sql().exec("create table mark(id int primary key)");
    let url = scene.server.url("admin", "shop");
    let clients = MyClients::start_with(3, &url, &mut random, Duration::from_millis(4), count);
    let started = Instant::now();
    let (mut broker_kills, mut server_kills) = (0, 0);
    for kill in 0..kills {
        let mut running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(20, 1800)));
        if kill % 4 == 2 {
            broker.crash();
            broker_kills += 1;
            std::thread::sleep(Duration::from_millis(random.between(1, 300)));
            broker.restart();
            std::thread::sleep(Duration::from_millis(random.between(1, 1000)));
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
        }
        if kill % 4 == 3 {
            scene.server.crash();
            server_kills += 1;
            std::thread::sleep(Duration::from_millis(random.between(1, 300)));
        }
        let log = running.kill9();
        for word in ["RT001", "\"level\":\"error\""] {
            assert!(!log.contains(word), "{word} in the log:\n{log}");
        }
        if kill % 4 == 3 {
            scene.server.restart();
            clients.wait_for(5);
        }
        scene.sql().exec(&format!("alter table mark comment 'c{kill}'"));
    }
    let turns = clients.stop();
    scene.drain();
    scene.sql().exec(&format!("alter table mark comment 'c{kills}'"));
    scene.drain();
    let events = check(&scene, &broker);
    check_definitions(&broker, test, kills + 1);
    println!(
        "{brand:?}: {kills} kills, {broker_kills} of the broker, {server_kills} of the server, {turns} transactions, \
         {events} events, {:?}",
        started.elapsed()
    );
    assert!(turns > 10 * kills, "the workload did too little to prove anything: {turns} transactions");
}

#[test]
fn a_copy_of_mysql_meets_the_stream_without_hole_or_overlap() {
    copies_under_writers(Brand::MySql9, "my-kafka-copy", &[], Duration::ZERO);
}

/// Without GTIDs the place of a snapshot is taken under a read lock.
#[test]
fn a_copy_of_mysql_without_gtids_meets_the_stream_without_hole_or_overlap() {
    let options = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    copies_under_writers(Brand::MySql9, "my-kafka-lock", &options, Duration::from_millis(3));
}

#[test]
fn a_copy_of_mariadb_meets_the_stream_without_hole_or_overlap() {
    copies_under_writers(Brand::MariaDb118, "maria-kafka-copy", &[], Duration::ZERO);
}

/// Clients write while the tables are copied, most as fast as they can; each counter's events say whether one lacks.
fn copies_under_writers(brand: Brand, test: &str, options: &[&str], pace: Duration) {
    let Some(scene) = MyScene::with(test, brand, options) else { return };
    let mut random = Random::from_env(test);
    let broker = shared();
    let scene = into(scene, test, broker);
    make_counters(&mut scene.sql());
    let url = scene.server.url("admin", "shop");
    let clients = MyClients::start_with(4, &url, &mut random, pace, count);
    clients.wait_for(50);
    let mut running = scene.start_run(&[]);
    until(Duration::from_secs(60), "the copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        running.stderr().matches("table copied").count() == 3
    });
    clients.wait_for(200);
    let turns = clients.stop();
    running.terminate();
    running.wait(Duration::from_secs(60)).expect_code(0);
    scene.drain();
    let compared = scene.start(&["verify", "-c", &scene.write_config(), "shop.counters", "shop.things"]);
    compared.wait(Duration::from_secs(60)).expect_code(0);
    let events = check(&scene, broker);
    println!("{brand:?}: {turns} transactions, {events} events");
}

/// The checkpoint says by GTIDs where it is, so that another server can go on. A transaction that is split between Kafka
/// transactions goes on where it was killed, also where another table of it is copied again meanwhile.
#[test]
fn the_checkpoint_has_gtids() {
    let Some(scene) = MyScene::new("my-kafka-gtid", Brand::MySql9) else { return };
    let broker = shared();
    let mut scene = into(scene, "my-kafka-gtid", broker);
    let target = scene.config.target.clone().expect("a target");
    scene.config.target = Some(format!("{target}  max_transaction: 1MiB\n"));
    scene.sql().exec("create table t(id int primary key)");
    scene.drain();
    scene.sql().exec("insert into t values (1)");
    scene.drain();
    let executed = scene.sql().value("select @@gtid_executed");
    let (uuid, numbers) = executed.split_once(':').expect("one interval");
    let last: i64 = numbers.rsplit('-').next().unwrap().parse().expect("a number");
    let checkpoints = broker.read_all(&["__strandline_checkpoints"]);
    let newest = checkpoints.iter().rfind(|record| record.key.as_deref() == Some("my-kafka-gtid"));
    let newest = newest.and_then(|record| record.value.as_ref()).expect("a checkpoint");
    let newest: Value = serde_json::from_str(newest).expect("JSON");
    assert_eq!(newest["marks"][format!("{uuid}/1")], last, "{newest}");
    let (mut sql, rows) = (scene.sql(), 12_000);
    sql.exec("create table big(id int primary key auto_increment, t text)");
    scene.drain();
    sql.exec("set session cte_max_recursion_depth = 100000");
    sql.exec(&format!(
        "insert into big (t) with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows}) \
         select repeat('b', 300) from n"
    ));
    let mut reader = broker.reader(&["my-kafka-gtid.shop.big"]);
    let mut seen = 0;
    for _ in 0..2 {
        let running = scene.start_run(&[]);
        let before = seen;
        while seen < before + 1500 {
            assert!(reader.next(Duration::from_secs(60)).is_some(), "nothing comes:\n{}", running.stderr());
            seen += 1;
        }
        running.kill9();
        seen += reader.committed().len();
    }
    assert!(seen < rows, "the kills came too late to prove anything: {seen}");
    scene.drain();
    let ids = broker
        .read_all(&["my-kafka-gtid.shop.big"])
        .iter()
        .map(|record| record.key.clone())
        .collect::<Vec<_>>();
    let wanted: Vec<_> = (1..=rows).map(|id| Some(format!("{{\"id\":{id}}}"))).collect();
    assert!(ids == wanted, "{} of {rows}", ids.len());
    a_split_transaction_whose_other_table_is_copied_again(scene, broker);
}

/// Its rows are not told again with the transaction: the others' must be found in it all the same.
fn a_split_transaction_whose_other_table_is_copied_again(scene: MyScene, broker: &Broker) {
    const BLOCK: usize = 500;
    let mut sql = scene.sql();
    sql.exec("create table a(id int primary key, t text)");
    sql.exec("create table b(id int primary key, t text)");
    scene.drain();
    sql.exec("begin");
    let last = 8 * BLOCK;
    for first in (1..last).step_by(BLOCK) {
        for table in ["a", "b"] {
            sql.exec(&format!(
                "insert into {table} with recursive n(i) as (select {first} union all select i + 1 from n where i < {first} + {BLOCK} - 1) \
                 select i, repeat('x', 300) from n"
            ));
        }
    }
    sql.exec("commit");
    let topic = "my-kafka-gtid.shop.b";
    let mut reader = broker.reader(&[topic]);
    let running = scene.start_run(&[]);
    assert!(reader.next(Duration::from_secs(60)).is_some(), "nothing comes:\n{}", running.stderr());
    running.kill9();
    let seen = 1 + reader.committed().len();
    assert!(seen < last, "the kill came too late to prove anything");
    let config = scene.write_config();
    scene.start(&["resync", "shop.a", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
    let records = broker.read_all(&[topic]);
    let keys: Vec<&str> = records.iter().filter_map(|record| record.key.as_deref()).collect();
    let expected: Vec<String> = (1..=last).map(|id| format!("{{\"id\":{id}}}")).collect();
    assert!(keys.iter().eq(&expected), "{seen} before the kill, {} of {last} in all", keys.len());
}
