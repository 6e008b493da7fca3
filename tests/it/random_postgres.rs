//! Tables, values, transactions and configurations that nobody chose, kill -9 and cut connections; every table ends
//! equal.
//!
//! `ROUNDS` (default 1) scales it; `make random ROUNDS=50` is the long form. A round is a database of random tables
//! (keys of any type and width, partitions, replica identity, odd names), two clients that change them in transactions
//! with savepoints, two phases and rollbacks, one of which alters them too, and a strandline with a random
//! configuration that is killed again and again. A client looks up what a table is like in the transaction that
//! changes it, under a lock that holds off the other's ALTER: so a statement that fails is a defect of this file.

use crate::harness::random::Random;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{Scene, until};
use crate::workload::Clients;
use std::time::{Duration, Instant};

const KEYS: &[&str] = &[
    "bigint",
    "text",
    "uuid",
    "integer",
    "numeric(20,2)",
    "date",
    "timestamp with time zone",
    "character varying(30)",
];

const TYPES: &[&str] = &[
    "smallint",
    "integer",
    "bigint",
    "text",
    "character varying(40)",
    "character(7)",
    "numeric(18,4)",
    "numeric",
    "boolean",
    "double precision",
    "real",
    "date",
    "timestamp with time zone",
    "timestamp without time zone",
    "uuid",
    "jsonb",
    "bytea",
    "integer[]",
    "interval",
    "inet",
];

/// What ALTER makes of a type, without a loss.
const WIDER: &[(&str, &str)] = &[
    ("smallint", "integer"),
    ("integer", "bigint"),
    ("real", "double precision"),
    ("character varying(40)", "text"),
    ("numeric(18,4)", "numeric(24,4)"),
];

#[test]
fn every_table_ends_equal_whatever_happens() {
    let rounds = std::env::var("ROUNDS").map_or(1, |n| n.parse::<u64>().expect("ROUNDS is a number"));
    let mut random = Random::from_env("random_postgres");
    for round in 0..rounds {
        let before = format!("{random:?}");
        let seconds = if rounds == 1 { 6 } else { random.between(5, 16) };
        let kills = one_round(&mut random.fork(), Duration::from_secs(seconds));
        println!("round {round} ({before}): equal after {kills} kills");
    }
}

fn one_round(random: &mut Random, lasts: Duration) -> u64 {
    let mut scene = Scene::new("random");
    scene.pg.set_and_restart("max_prepared_transactions=10");
    let mut sql = scene.sql();
    // Larger transactions are streamed before their end, so that each round meets both ways.
    sql.exec("alter role strandline set logical_decoding_work_mem = '64kB'");
    let tables: Vec<String> = (0..random.between(1, 6)).map(|i| format!("t{i}")).collect();
    for table in &tables {
        make_table(&mut sql, random, table);
        fill(&mut sql, random, table);
    }
    configure(&mut scene, random);
    let (url, names, may_alter) =
        (scene.pg.url("postgres", "shop"), tables.clone(), random.between(0, 10) < 6);
    let writers = Clients::start(1, &url, random, Duration::from_millis(3), {
        let names = names.clone();
        move |sql, random| turn(sql, random, &names, may_alter)
    });
    let others = Clients::start(1, &url, random, Duration::from_millis(5), move |sql, random| {
        turn(sql, random, &names, false)
    });
    let kills = kill_for(lasts, &scene, random);
    let committed = writers.stop() + others.stop();
    assert!(committed > 10, "the workload did too little to prove anything: {committed} transactions");
    // A new session: 18.6 was seen to crash while it made a slot beside this workload.
    let mut sql = scene.sql();
    for row in sql.rows("select gid from pg_prepared_xacts") {
        sql.exec(&format!("rollback prepared '{}'", row[0].as_deref().expect("a name")));
    }
    scene.drain();
    let names: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
    scene.assert_equal(&names.iter().map(String::as_str).collect::<Vec<_>>());
    kills
}

/// Starts strandline and kills it at any time, until the time is over; now and then its connections are cut.
fn kill_for(lasts: Duration, scene: &Scene, random: &mut Random) -> u64 {
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < lasts {
        let mut running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(200, 2_500)));
        if random.one_in(4) {
            scene.sql().exec(
                "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'",
            );
            std::thread::sleep(Duration::from_millis(random.between(0, 800)));
        }
        assert!(running.is_running(), "it ended by itself:\n{}", running.stderr());
        running.kill9();
        kills += 1;
    }
    until(Duration::from_secs(60), "the slot is free", || {
        scene.sql().value("select count(*) from pg_replication_slots where active") == "0"
    });
    kills
}

fn configure(scene: &mut Scene, random: &mut Random) {
    let config = &mut scene.config;
    let interval = random.pick(&["10ms", "50ms", "300ms", "1s"]);
    config.interval = format!("{interval}, max_rows: {}", random.pick(&["50", "1000", "500000"]));
    config.source = format!("  heartbeat: {}\n", random.pick(&["1s", "0s", "10s"]));
    config.sink = format!(
        "  write: {}\n  schema_changes: {{other: resync}}\n",
        random.pick(&["upsert", "upsert", "copy_on_write"])
    );
    config.more = format!(
        "snapshot: {{workers: {}, chunk_rows: {}, hold: {}}}\nlimits: {{memory: {}}}\n",
        random.pick(&["1", "2", "4"]),
        random.pick(&["200", "1000", "100000"]),
        random.pick(&["table", "chunk"]),
        random.pick(&["128MiB", "512MiB"]),
    );
    println!("{} {} {}", config.interval, config.sink, config.more);
}

fn make_table(sql: &mut Sql, random: &mut Random, table: &str) {
    let wide = random.pick(&[1, 1, 1, 2, 3]);
    let keys: Vec<String> = (0..wide).map(|i| format!("k{i}")).collect();
    let mut columns: Vec<String> =
        keys.iter().map(|key| format!("{key} {} not null", random.pick(KEYS))).collect();
    for i in 0..random.between(1, 9) {
        let odd = random.pick(&["c", "c", "c", "c", "weird col", "UPPER", "sél", "q\"uote", "a.b", "x'y"]);
        let column = format!("{} {}", quoted(&format!("{odd}{i}")), random.pick(TYPES));
        columns.insert(random.below(columns.len() + 1), column);
    }
    let head = format!("create table {table} ({}, primary key ({}))", columns.join(", "), keys.join(", "));
    match random.between(0, 5) {
        0 => {
            sql.exec(&format!("{head} partition by hash (k0)"));
            for i in 0..3 {
                sql.exec(&format!(
                    "create table {table}_p{i} partition of {table} for values with (modulus 3, remainder {i})"
                ));
            }
        }
        1 => sql.exec(&format!("{head}; alter table {table} replica identity full")),
        _ => sql.exec(&head),
    }
}

/// Some rows before strandline first sees the table, sometimes enough for several chunks.
fn fill(sql: &mut Sql, random: &mut Random, table: &str) {
    let rows = random.pick(&[0, 20, 20, 5_000]);
    if rows > 0 {
        let now = Shape::of(sql, table).expect("a table");
        sql.exec(&now.insert(random, 0, rows));
    }
}

/// One turn of a client: a transaction of one or many statements.
fn turn(sql: &mut Sql, random: &mut Random, tables: &[String], may_alter: bool) -> Result<(), SqlError> {
    sql.try_exec("set statement_timeout = '20s'; begin")?;
    for _ in 0..random.pick(&[1, 1, 2, 5, 30]) {
        if random.one_in(6) {
            sql.try_exec("savepoint s")?;
            for _ in 0..random.between(1, 5) {
                let rarely = may_alter && random.one_in(4);
                change(sql, random, tables, rarely)?;
            }
            sql.try_exec(random.pick(&["rollback to savepoint s", "release savepoint s"]))?;
        } else {
            change(sql, random, tables, may_alter)?;
        }
    }
    if random.one_in(30) {
        let name = format!("p{:x}", random.next());
        sql.try_exec(&format!("prepare transaction '{name}'"))?;
        std::thread::sleep(Duration::from_millis(random.between(0, 200)));
        return sql.try_exec(&format!("{} prepared '{name}'", random.pick(&["commit", "rollback"])));
    }
    sql.try_exec(random.pick(&["commit", "commit", "commit", "commit", "commit", "commit", "rollback"]))
}

/// One statement on one table, whose columns cannot change meanwhile.
fn change(sql: &mut Sql, random: &mut Random, tables: &[String], may_alter: bool) -> Result<(), SqlError> {
    let table = &tables[random.below(tables.len())];
    sql.try_exec(&format!("lock table {table} in row exclusive mode"))?;
    let now = Shape::of(sql, table)?;
    let (key, some) = (random.between(0, 3_000), random.pick(&["0.002", "0.01", "0.1", "0.5"]));
    let statement = match random.between(0, 100) {
        0..40 => {
            let rows = random.pick(&[1, 1, 5, 60]);
            now.insert(random, key, rows)
        }
        40..70 if !now.columns.is_empty() => {
            let condition = match random.between(0, 3) {
                0 => format!("random() < {some}"),
                _ => now.is_key(key),
            };
            format!("update {table} set {} where {condition}", now.assignments(random))
        }
        // A key moves; where the new one is taken, nothing happens.
        40..80 => {
            let to = random.between(0, 3_000);
            format!(
                "update {table} set {} where {} and not exists (select 1 from {table} where {})",
                now.key_values(to).join(", "),
                now.is_key(key),
                now.is_key(to)
            )
        }
        80..93 => format!("delete from {table} where random() < {some}"),
        93..95 => format!("delete from {table}"),
        95..97 => format!("truncate {table}"),
        _ if may_alter => now.alter(random),
        _ => format!("delete from {table} where {}", now.is_key(key)),
    };
    sql.try_exec(&statement)
}

/// What a table is like in this moment.
struct Shape {
    table: String,
    keys: Vec<(String, String)>,
    columns: Vec<Column>,
}

struct Column {
    /// Quoted.
    name: String,
    kind: String,
    may_be_null: bool,
}

impl Shape {
    fn of(sql: &mut Sql, table: &str) -> Result<Shape, SqlError> {
        let rows = sql.try_rows(&format!(
            "select quote_ident(attname), format_type(atttypid, atttypmod), attnotnull, attname ~ '^k[0-9]$'
             from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped order by attnum"
        ))?;
        let mut shape = Shape { table: table.to_owned(), keys: Vec::new(), columns: Vec::new() };
        for row in rows {
            let cell = |i: usize| row[i].clone().unwrap_or_default();
            if cell(3) == "t" {
                shape.keys.push((cell(0), cell(1)));
            } else {
                shape.columns.push(Column { name: cell(0), kind: cell(1), may_be_null: cell(2) == "f" });
            }
        }
        Ok(shape)
    }

    /// Rows of the keys from `first` on, all with the same values; those that are there stay.
    fn insert(&self, random: &mut Random, first: u64, rows: u64) -> String {
        let keys = self.keys.iter().map(|(name, kind)| (name.clone(), key(kind, "g")));
        let values = self.columns.iter().map(|c| (c.name.clone(), c.value(random)));
        let (names, values): (Vec<String>, Vec<String>) = keys.chain(values).unzip();
        format!(
            "insert into {} ({}) select {} from generate_series({first}, {}) g on conflict do nothing",
            self.table,
            names.join(", "),
            values.join(", "),
            first + rows - 1
        )
    }

    fn assignments(&self, random: &mut Random) -> String {
        let sure = random.below(self.columns.len());
        let mut all = Vec::new();
        for (i, column) in self.columns.iter().enumerate() {
            if i == sure || random.one_in(3) {
                all.push(format!("{} = {}", column.name, column.value(random)));
            }
        }
        all.join(", ")
    }

    /// `name = value` of each key column of the row with this number.
    fn key_values(&self, number: u64) -> Vec<String> {
        self.keys.iter().map(|(name, kind)| format!("{name} = {}", key(kind, &number.to_string()))).collect()
    }

    fn is_key(&self, number: u64) -> String {
        self.key_values(number).join(" and ")
    }

    fn alter(&self, random: &mut Random) -> String {
        let fresh = format!("n{:x}", random.next());
        let column = (!self.columns.is_empty()).then(|| &self.columns[random.below(self.columns.len())]);
        let what = match (random.between(0, 4), column) {
            (0, Some(column)) if self.columns.len() > 1 => format!("drop column {}", column.name),
            (1, Some(column)) => format!("rename column {} to {fresh}", column.name),
            (2, Some(column)) => match WIDER.iter().find(|(from, _)| *from == column.kind) {
                Some((_, to)) => format!("alter column {} type {to}", column.name),
                None => format!("alter column {} drop not null", column.name),
            },
            _ => {
                let kind = random.pick(TYPES);
                let value = literal(kind, random);
                let default = random.pick(&["", " default ", " not null default "]);
                format!("add column {fresh} {kind}{default}{}", if default.is_empty() { "" } else { &value })
            }
        };
        format!("alter table {} {what}", self.table)
    }
}

impl Column {
    fn value(&self, random: &mut Random) -> String {
        if self.may_be_null && random.one_in(7) { "null".to_owned() } else { literal(&self.kind, random) }
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The key of the row with the number that the SQL `i` gives.
fn key(kind: &str, i: &str) -> String {
    match kind {
        "text" | "character varying(30)" => format!("('ü' || {i})"),
        "uuid" => format!("md5(({i})::text)::uuid"),
        "date" => format!("(date '1999-12-01' + ({i})::int)"),
        "timestamp with time zone" => {
            format!("(timestamptz '1969-12-31 23:00:00Z' + ({i}) * interval '1.000001 s')")
        }
        "numeric(20,2)" => format!("(({i})::numeric / 4 - 100)::numeric(20,2)"),
        whole => format!("(({i}) * 7919::bigint - 50000)::{whole}"),
    }
}

/// Any value of a type, in SQL.
fn literal(kind: &str, random: &mut Random) -> String {
    let value = match kind {
        "smallint" => random.signed(16).to_string(),
        "integer" => random.signed(32).to_string(),
        "bigint" => random.signed(64).to_string(),
        "text" if random.one_in(9) => {
            return format!("repeat(md5('{}'), {})", random.next(), random.between(100, 400));
        }
        "text" | "character varying(40)" => random.text(12),
        "character(7)" => random.pick(&["a", "bc ", "", "xyz"]).to_owned(),
        "numeric" => random
            .pick(&[
                "NaN",
                "1.50",
                "0.000",
                "123456789012345678901234567890.123456789",
                "-0.1",
                "1e-20",
                "1e30",
            ])
            .to_owned(),
        "boolean" => random.pick(&["true", "false"]).to_owned(),
        "double precision" | "real" => match random.between(0, 5) {
            0 => random.pick(&["NaN", "Infinity", "-Infinity", "-0"]).to_owned(),
            _ => format!("{}e{}", random.signed(20), random.signed(5)),
        },
        "date" => return format!("(date '0001-01-01' + {})", random.between(0, 3_600_000)),
        "timestamp with time zone" | "timestamp without time zone" => {
            let moved = random.between(0, 6_000_000_000_000_000);
            return format!("(timestamp '1900-01-01' + {moved} * interval '1 microsecond')");
        }
        "uuid" => format!("{:016x}{:016x}", random.next(), random.next()),
        "jsonb" => format!("{{\"ü\": [null, {}], \"a\": \"{:x}\"}}", random.signed(9), random.next()),
        "bytea" => format!("\\x{:016x}", random.next()),
        "integer[]" => format!("{{{}, NULL, {}}}", random.signed(32), random.signed(4)),
        "interval" => format!("{} mon {} days {} sec", random.signed(5), random.signed(6), random.signed(20)),
        "inet" => format!("10.0.{}.{}/24", random.between(0, 256), random.between(0, 256)),
        exact if exact.starts_with("numeric(") => format!("{}e-4", random.signed(56)),
        other => panic!("no values of type {other}"),
    };
    format!("'{}'::{kind}", value.replace('\'', "''"))
}
