//! The same as `random_postgres` on MySQL and MariaDB: tables, values, transactions and configurations that nobody
//! chose, kill -9 and cut connections; every table ends equal.
//!
//! `ROUNDS` (default 1) scales it, one round after the other on MySQL and MariaDB; `make random` is the long form. A
//! client holds a table's metadata lock before it looks what the table is like, so that no ALTER comes between.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::{Failed, MySql};
use crate::harness::random::Random;
use crate::mysql_workload::{MyClients, decide};
use crate::random_shape::{Column, Dialect, Shape};
use std::time::{Duration, Instant};

const KEYS: &[&str] = &[
    "bigint",
    "int",
    "bigint unsigned",
    "decimal(20,2)",
    "date",
    "datetime(3)",
    "binary(8)",
    "varchar(30)",
    "varchar(30) collate utf8mb4_bin",
    "varchar(30) character set latin1",
];

const TYPES: &[&str] = &[
    "tinyint",
    "smallint unsigned",
    "mediumint",
    "int",
    "bigint",
    "bigint unsigned",
    "varchar(40)",
    "varchar(40) character set latin1",
    "char(7)",
    "text",
    "decimal(18,4)",
    "double",
    "float",
    "date",
    "datetime(6)",
    "timestamp(3) null",
    "year",
    "json",
    "varbinary(40)",
    "blob",
    "enum('x','y','ü')",
    "set('p','q','r')",
];

pub(crate) const TABLES: u64 = 4;

#[test]
fn every_table_of_mysql_ends_equal_whatever_happens() {
    rounds(Brand::MySql9);
}

#[test]
fn every_table_of_mariadb_ends_equal_whatever_happens() {
    rounds(Brand::MariaDb118);
}

fn rounds(brand: Brand) {
    let rounds = std::env::var("ROUNDS").map_or(1, |n| n.parse::<u64>().expect("ROUNDS is a number"));
    let mut random = Random::from_env("random_mysql");
    for round in 0..rounds {
        let before = format!("{random:?}");
        let seconds = if rounds == 1 { 5 } else { random.between(5, 16) };
        if let Some(kills) = one_round(brand, &mut random.fork(), Duration::from_secs(seconds)) {
            println!("{brand:?}, round {round} ({before}): equal after {kills} kills");
        }
    }
}

fn one_round(brand: Brand, random: &mut Random, lasts: Duration) -> Option<u64> {
    let mut scene = MyScene::new("random_my", brand)?;
    let mut sql = scene.sql();
    for i in 0..TABLES {
        make_table(&mut sql, random, &format!("t{i}"));
    }
    configure(&mut scene, random);
    let (kills, _) = work_and_kill(&scene, random, lasts, true);
    scene.drain();
    let names: Vec<String> = (0..TABLES).map(|i| format!("shop.t{i}")).collect();
    scene.assert_equal(&names.iter().map(String::as_str).collect::<Vec<_>>());
    Some(kills)
}

/// Two clients change the tables, one of which may alter them, while strandline is killed; nothing is left prepared.
pub(crate) fn work_and_kill(
    scene: &MyScene,
    random: &mut Random,
    lasts: Duration,
    altering: bool,
) -> (u64, MySql) {
    let url = scene.server.url("admin", "shop");
    let first: fn(&mut MySql, &mut Random) -> Result<(), Failed> =
        if altering { turn_or_alter } else { turn };
    let first = MyClients::start_with(1, &url, random, Duration::from_millis(3), first);
    let others = MyClients::start_with(1, &url, random, Duration::from_millis(5), turn);
    let kills = kill_for(lasts, scene, random);
    let committed = first.stop() + others.stop();
    assert!(committed > 10, "the workload did too little to prove anything: {committed} transactions");
    let mut sql = scene.sql();
    decide(&mut sql);
    (kills, sql)
}

/// Starts strandline and kills it at any time, until the time is over; now and then its connection is cut.
fn kill_for(lasts: Duration, scene: &MyScene, random: &mut Random) -> u64 {
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < lasts {
        let mut running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(200, 2_500)));
        if random.one_in(4) {
            let mut sql = scene.sql();
            // MySQL's list of processes cannot show a running statement with characters of four bytes.
            let dumping = if scene.server.brand.is_mariadb() {
                "select id from information_schema.processlist where command like 'Binlog Dump%'"
            } else {
                "select processlist_id from performance_schema.threads where processlist_command like 'Binlog Dump%'"
            };
            for row in sql.rows(dumping) {
                // It may have gone by itself.
                let _gone = sql.try_exec(&format!("kill {}", row[0].as_deref().expect("an id")));
            }
            std::thread::sleep(Duration::from_millis(random.between(0, 800)));
        }
        assert!(running.is_running(), "it ended by itself:\n{}", running.stderr());
        running.kill9();
        kills += 1;
    }
    kills
}

fn configure(scene: &mut MyScene, random: &mut Random) {
    let config = &mut scene.config;
    config.target = Some(format!(
        "  type: delta\n  uri: {:?}\n  commit: {{interval: {}, max_rows: {}}}\n  write: {}\n  schema_changes: {{other: resync}}\n",
        config.lake,
        random.pick(&["10ms", "50ms", "300ms", "1s"]),
        random.pick(&["50", "1000", "500000"]),
        random.pick(&["upsert", "upsert", "copy_on_write"])
    ));
    config.more = format!(
        "snapshot: {{workers: {}, chunk_rows: {}}}\nlimits: {{memory: {}}}\n",
        random.pick(&["1", "2", "4"]),
        random.pick(&["200", "1000", "100000"]),
        random.pick(&["128MiB", "512MiB"]),
    );
    println!("{} {}", config.target.as_deref().unwrap_or_default(), config.more);
}

pub(crate) fn make_table(sql: &mut MySql, random: &mut Random, table: &str) {
    let wide = random.pick(&[1, 1, 1, 2]);
    let mut columns: Vec<String> =
        (0..wide).map(|i| format!("k{i} {} not null", random.pick(KEYS))).collect();
    for i in 0..random.between(1, 9) {
        let odd = random.pick(&["c", "c", "c", "c", "weird col", "UPPER", "sél", "q\"uote", "a.b", "x'y"]);
        let column = format!("`{odd}{i}` {}", random.pick(TYPES));
        columns.insert(random.below(columns.len() + 1), column);
    }
    let key = if wide == 1 { "k0" } else { "k0, k1" };
    sql.exec(&format!(
        "create table {table} ({}, primary key ({key})) default charset utf8mb4",
        columns.join(", ")
    ));
    let rows = random.pick(&[0, 20, 1_500]);
    if rows > 0 {
        let now = shape(sql, table).expect("a table");
        sql.exec(&insert(&now, random, 0, rows));
    }
}

fn turn_or_alter(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    if !random.one_in(12) {
        return turn(sql, random);
    }
    let table = format!("t{}", random.between(0, TABLES));
    let now = shape(sql, &table)?;
    sql.try_exec(&alter(&now, random))
}

/// One turn of a client: a transaction of one or many statements.
fn turn(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    sql.try_exec("set session innodb_lock_wait_timeout = 3, lock_wait_timeout = 3")?;
    // With snapshots of whole transactions it would be told columns of before an ALTER.
    sql.try_exec("set session transaction isolation level read committed")?;
    let branch = random.one_in(20).then(|| format!("'x{}'", random.between(1, 1 << 40)));
    sql.try_exec(&branch.as_ref().map_or("begin".to_owned(), |name| format!("xa start {name}")))?;
    for _ in 0..random.pick(&[1, 1, 2, 5, 30]) {
        if random.one_in(6) {
            sql.try_exec("savepoint s")?;
            for _ in 0..random.between(1, 5) {
                change(sql, random)?;
            }
            sql.try_exec(random.pick(&["rollback to savepoint s", "release savepoint s"]))?;
        } else {
            change(sql, random)?;
        }
    }
    let Some(name) = branch else {
        return sql.try_exec(random.pick(&["commit", "commit", "commit", "commit", "commit", "rollback"]));
    };
    sql.try_exec(&format!("xa end {name}"))?;
    sql.try_exec(&format!("xa prepare {name}"))?;
    std::thread::sleep(Duration::from_millis(random.between(0, 100)));
    sql.try_exec(&format!("xa {} {name}", random.pick(&["commit", "rollback"])))
}

/// One statement on one table, whose columns cannot change meanwhile.
fn change(sql: &mut MySql, random: &mut Random) -> Result<(), Failed> {
    let table = format!("t{}", random.between(0, TABLES));
    sql.try_exec(&format!("select 1 from {table} limit 0"))?;
    let now = shape(sql, &table)?;
    let (key, some) = (random.between(0, 2_000), random.pick(&["1", "3", "40"]));
    let statement = match random.between(0, 100) {
        0..40 => {
            let rows = random.pick(&[1, 1, 5, 60]);
            insert(&now, random, key, rows)
        }
        40..70 if !now.columns.is_empty() => {
            let which = match random.between(0, 3) {
                0 => format!("order by rand() limit {some}"),
                _ => format!("where {}", now.is_key(key)),
            };
            format!("update {table} set {} {which}", now.assignments(random))
        }
        // A key moves; where the new one is taken, nothing happens.
        40..80 => {
            let to = random.between(0, 2_000);
            format!("update ignore {table} set {} where {}", now.key_values(to).join(", "), now.is_key(key))
        }
        80..93 => format!("delete from {table} order by rand() limit {some}"),
        93..95 => format!("delete from {table}"),
        _ => format!("delete from {table} where {}", now.is_key(key)),
    };
    sql.try_exec(&statement)
}

const DIALECT: Dialect = Dialect { key, literal };

/// What a table is like in this moment.
fn shape(sql: &mut MySql, table: &str) -> Result<Shape, Failed> {
    let rows = sql.try_rows(&format!(
        "select cast(column_name as char), cast(column_type as char), cast(is_nullable as char),
                cast(coalesce(character_set_name, '') as char)
         from information_schema.columns
         where table_schema = 'shop' and table_name = '{table}' order by ordinal_position"
    ))?;
    let mut shape =
        Shape { table: table.to_owned(), keys: Vec::new(), columns: Vec::new(), dialect: &DIALECT };
    for row in rows {
        let cell = |i: usize| row[i].clone().unwrap_or_default();
        let kind = if cell(3) == "latin1" { format!("{} latin1", cell(1)) } else { cell(1) };
        let name = format!("`{}`", cell(0));
        if cell(0).len() == 2 && cell(0).starts_with('k') {
            shape.keys.push((name, kind));
        } else {
            shape.columns.push(Column { name, kind, may_be_null: cell(2) == "YES" });
        }
    }
    Ok(shape)
}

/// Rows of the keys from `first` on; those that are there stay, or are replaced.
fn insert(now: &Shape, random: &mut Random, first: u64, rows: u64) -> String {
    let values: Vec<String> =
        (first..first + rows).map(|number| format!("({})", now.row(random, &number.to_string()))).collect();
    let verb = random.pick(&["insert ignore", "insert ignore", "replace"]);
    format!("{verb} into {} ({}) values {}", now.table, now.names(), values.join(", "))
}

fn alter(now: &Shape, random: &mut Random) -> String {
    let fresh = format!("n{:x}", random.next());
    let column = now.any_column(random);
    let place = random.pick(&["", " first", " after k0"]);
    let what = match (random.between(0, 5), column) {
        (0, Some(column)) if now.columns.len() > 1 => format!("drop column {}", column.name),
        (1, Some(column)) => format!("rename column {} to {fresh}", column.name),
        (2, Some(column)) => match wider(&column.kind) {
            Some(to) => format!("modify column {} {to}{place}", column.name),
            None => "engine = innodb".to_owned(),
        },
        (3, _) => return format!("truncate {}", now.table),
        _ => format!("add column {fresh} {}{place}", random.pick(TYPES)),
    };
    format!("alter table {} {what}", now.table)
}

/// The type without width and the rest: `bigint` of `bigint(20) unsigned`.
fn plain(kind: &str) -> &str {
    kind.split(['(', ' ']).next().unwrap_or(kind)
}

/// What ALTER makes of a type, without a loss.
fn wider(kind: &str) -> Option<&'static str> {
    match plain(kind) {
        _ if kind.ends_with("unsigned") || kind.ends_with("latin1") => None,
        "tinyint" => Some("int"),
        "mediumint" | "int" => Some("bigint"),
        "float" => Some("double"),
        "varchar" => Some("varchar(300)"),
        _ => None,
    }
}

/// The key of the row with this number.
fn key(kind: &str, i: &str) -> String {
    match plain(kind) {
        "date" => format!("date '1999-12-01' + interval {i} day"),
        "datetime" => format!("timestamp '1969-12-31 23:00:00' + interval {i}.001 second"),
        "binary" => format!("x'{i:0>16}'"),
        "decimal" => format!("{i} / 4 - 100"),
        "bigint" if kind.ends_with("unsigned") => format!("9223372036854775808 + {i}"),
        "varchar" => format!("'ü{i}'"),
        _ => format!("{i} * 7919 - 50000"),
    }
}

/// Any value of a type, in SQL.
fn literal(kind: &str, random: &mut Random) -> String {
    let value = match plain(kind) {
        "tinyint" => random.signed(8).to_string(),
        "smallint" => random.between(0, 1 << 16).to_string(),
        "mediumint" => random.signed(24).to_string(),
        "int" => random.signed(32).to_string(),
        "bigint" if kind.ends_with("unsigned") => random.next().to_string(),
        "bigint" => random.signed(64).to_string(),
        "varchar" if kind.ends_with("latin1") => random.pick(&["", "ä", "ÿ€", "a'b\\c"]).to_owned(),
        // MariaDB's json.
        "json" | "longtext" => {
            format!("{{\"ü\": [null, {}], \"a\": \"{:x}\"}}", random.signed(9), random.next())
        }
        "varchar" | "text" => random.text(12),
        "char" => random.pick(&["a", "bc", "", "xyz"]).to_owned(),
        "decimal" => format!("{}e-4", random.signed(46)),
        "double" => format!("{}e{}", random.signed(20), random.signed(5)),
        "float" => format!("{}e-4", random.signed(20)),
        "date" => return format!("date '1000-01-01' + interval {} day", random.between(0, 3_000_000)),
        "datetime" => {
            return format!("timestamp '1900-01-01 00:00:00' + interval {} microsecond", random.next() >> 11);
        }
        "timestamp" => {
            return format!("timestamp '1971-01-01 00:00:00' + interval {} microsecond", random.next() >> 14);
        }
        "year" => random.pick(&["1901", "1999", "2155"]).to_owned(),
        "varbinary" | "blob" => return format!("x'{:016x}'", random.next()),
        "enum" => random.pick(&["x", "y", "ü"]).to_owned(),
        "set" => random.pick(&["", "p", "p,r", "q,r"]).to_owned(),
        other => panic!("no values of type {other} ({kind})"),
    };
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
