//! Tables, values, transactions and configurations that nobody chose, kill -9 and cut connections; every table ends
//! equal.
//!
//! `ROUNDS` (default 1) scales it; `make random ROUNDS=50` is the long form. A round is a database of random tables
//! (keys of any type and width, partitions, replica identity, odd names), two clients that change them in transactions
//! with savepoints, two phases and rollbacks, one of which alters them too, and a strandline with a random
//! configuration that is killed again and again. A client looks up what a table is like in the transaction that
//! changes it, under a lock that holds off the other's ALTER: so a statement that fails is a defect of this file.

use crate::harness::compare;
use crate::harness::random::Random;
use crate::harness::reader::Engine;
use crate::harness::sql::{Sql, SqlError};
use crate::harness::{Scene, until};
use crate::random_shape::{Column, Dialect, Shape};
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
    rounds("random_postgres", one_round);
}

/// So many rounds as `ROUNDS` says, each of which may be repeated alone by the number that is printed.
pub(crate) fn rounds(what: &str, mut one_round: impl FnMut(&mut Random, Duration) -> u64) {
    let rounds = std::env::var("ROUNDS").map_or(1, |n| n.parse::<u64>().expect("ROUNDS is a number"));
    let mut random = Random::from_env(what);
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
    let soft = ways(&mut scene, random, &tables);
    let may_alter = random.between(0, 10) < 6;
    let clients = Clientele::start(&scene, random, &tables, may_alter);
    let kills = kill_for(lasts, &scene, random);
    clients.stop(&scene);
    scene.drain();
    for table in &tables {
        let name = format!("public.{table}");
        if soft.contains(table) {
            assert_standing_equal(&mut scene, &name);
        } else {
            scene.assert_equal(&[&name]);
        }
    }
    kills
}

/// Two clients that change the tables; one of them may alter them.
pub(crate) struct Clientele(Clients, Clients);

impl Clientele {
    pub(crate) fn start(scene: &Scene, random: &mut Random, tables: &[String], may_alter: bool) -> Clientele {
        let url = scene.pg.url("postgres", "shop");
        let (names, others) = (tables.to_vec(), tables.to_vec());
        Clientele(
            Clients::start(1, &url, random, Duration::from_millis(3), move |sql, random| {
                turn(sql, random, &names, may_alter)
            }),
            Clients::start(1, &url, random, Duration::from_millis(5), move |sql, random| {
                turn(sql, random, &others, false)
            }),
        )
    }

    /// Ends them, and what they left prepared.
    pub(crate) fn stop(self, scene: &Scene) {
        let committed = self.0.stop() + self.1.stop();
        assert!(committed > 10, "the workload did too little to prove anything: {committed} transactions");
        // A new session: 18.6 was seen to crash while it made a slot beside this workload.
        let mut sql = scene.sql();
        for row in sql.rows("select gid from pg_prepared_xacts") {
            sql.exec(&format!("rollback prepared '{}'", row[0].as_deref().expect("a name")));
        }
    }
}

/// Starts strandline and kills it at any time, until the time is over; now and then its connections are cut.
pub(crate) fn kill_for(lasts: Duration, scene: &Scene, random: &mut Random) -> u64 {
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

/// Some tables are written in other ways; the names of those whose deleted rows stay.
fn ways(scene: &mut Scene, random: &mut Random, tables: &[String]) -> Vec<String> {
    let (mut lines, mut soft) = (String::new(), Vec::new());
    for table in tables {
        let parted = scene.sql().value(&format!(
            "select exists (select from pg_attribute where attrelid = '{table}'::regclass and attname = 'p0')"
        )) == "t";
        let mut keys = Vec::new();
        match random.between(0, 8) {
            0 => keys.push(format!("write: both, images: {}", random.pick(&["both", "after"]))),
            1 => {
                keys.push("write: upsert, deletes: soft".to_owned());
                soft.push(table.clone());
            }
            2 => keys
                .push("write: upsert, target: {properties: {delta.enableChangeDataFeed: 'true'}}".to_owned()),
            3 if !parted => keys.push("column_mapping: name".to_owned()),
            4 => keys.push(format!("meta_columns: {}", random.pick(&["strandline", "debezium", "fivetran"]))),
            _ if parted => keys.push("target: {partition_by: [p0]}".to_owned()),
            _ => {}
        }
        if !keys.is_empty() {
            lines += &format!("    public.{table}: {{{}}}\n", keys.join(", "));
        }
    }
    if !lines.is_empty() {
        scene.config.tables = format!("  overrides:\n{lines}");
    }
    println!("{}", scene.config.tables);
    soft
}

/// Fails unless the rows that are not marked as deleted are the source's.
fn assert_standing_equal(scene: &mut Scene, name: &str) {
    let mut sql = scene.sql();
    let (schema, table) = name.split_once('.').expect("schema.table");
    let columns = compare::spelled_columns(&mut sql, schema, table);
    let source = compare::source_rows(&mut sql, schema, table, &columns);
    let mut names: Vec<String> = columns.into_iter().map(|c| c.name).collect();
    names.push("_strandline_deleted".to_owned());
    let path = scene.table(name);
    let rows = scene.readers().try_rows(Engine::DuckDb, &path, None, Some(&names)).expect("a table");
    let mut standing = Vec::new();
    for mut row in rows {
        match row.pop().flatten().as_deref() {
            Some("false") => standing.push(row),
            Some("true") => {}
            other => panic!("{name}: a mark of deletion {other:?}"),
        }
    }
    if let Some(found) = compare::difference(source, standing) {
        panic!("{name}: {found}");
    }
}

pub(crate) fn make_table(sql: &mut Sql, random: &mut Random, table: &str) {
    let wide = random.pick(&[1, 1, 1, 2, 3]);
    let keys: Vec<String> = (0..wide).map(|i| format!("k{i}")).collect();
    let mut columns: Vec<String> =
        keys.iter().map(|key| format!("{key} {} not null", random.pick(KEYS))).collect();
    for i in 0..random.between(1, 9) {
        let odd = random.pick(&["c", "c", "c", "c", "weird col", "UPPER", "sél", "q\"uote", "a.b", "x'y"]);
        let column = format!("{} {}", quoted(&format!("{odd}{i}")), random.pick(TYPES));
        columns.insert(random.below(columns.len() + 1), column);
    }
    // What a target may be partitioned by: no ALTER touches it.
    if random.one_in(3) {
        columns.push("p0 boolean not null".to_owned());
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
pub(crate) fn fill(sql: &mut Sql, random: &mut Random, table: &str) {
    let rows = random.pick(&[0, 20, 20, 5_000]);
    if rows > 0 {
        let now = shape(sql, table).expect("a table");
        sql.exec(&insert(&now, random, 0, rows));
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
    let now = shape(sql, table)?;
    let (key, some) = (random.between(0, 3_000), random.pick(&["0.002", "0.01", "0.1", "0.5"]));
    let statement = match random.between(0, 100) {
        0..40 => {
            let rows = random.pick(&[1, 1, 5, 60]);
            insert(&now, random, key, rows)
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
        _ if may_alter => alter(&now, random),
        _ => format!("delete from {table} where {}", now.is_key(key)),
    };
    sql.try_exec(&statement)
}

const DIALECT: Dialect = Dialect { key, literal };

/// What a table is like in this moment.
fn shape(sql: &mut Sql, table: &str) -> Result<Shape, SqlError> {
    let rows = sql.try_rows(&format!(
        "select quote_ident(attname), format_type(atttypid, atttypmod), attnotnull, attname ~ '^k[0-9]$'
         from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and not attisdropped order by attnum"
    ))?;
    let mut shape =
        Shape { table: table.to_owned(), keys: Vec::new(), columns: Vec::new(), dialect: &DIALECT };
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
fn insert(now: &Shape, random: &mut Random, first: u64, rows: u64) -> String {
    format!(
        "insert into {} ({}) select {} from generate_series({first}, {}) g on conflict do nothing",
        now.table,
        now.names(),
        now.row(random, "g"),
        first + rows - 1
    )
}

fn alter(now: &Shape, random: &mut Random) -> String {
    let fresh = format!("n{:x}", random.next());
    let column = now.any_column(random).filter(|column| column.name != "p0");
    let what = match (random.between(0, 4), column) {
        (0, Some(column)) if now.columns.len() > 1 => format!("drop column {}", column.name),
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
    format!("alter table {} {what}", now.table)
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
