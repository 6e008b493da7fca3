//! Apache Spark reads what every way of writing leaves, follows its change data feed, and writes beside us.
//!
//! Not in `make test`: `make test-spark` installs Spark and delta-spark (0.5 GB) and runs this file, on Spark 4 and on 3.5.

use crate::harness::process::Strandline;
use crate::harness::random::Random;
use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, compare, deltalog, spark, until};
use crate::workload::{Clients, make_mixed, mixed_step};
use crate::{column_mapping, every_type, feed, modes, odd, partitions};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// What DuckDB reads is what Spark reads, in these versions.
#[track_caller]
fn versions_are_the_same(scene: &mut Scene, table: &Path, versions: impl Iterator<Item = i64>) {
    for version in versions {
        let mut read = |engine| {
            let rows = scene.readers().try_rows(engine, table, Some(version), None);
            rows.unwrap_or_else(|e| panic!("{} at {version} by {engine:?}: {e}", table.display()))
        };
        let (one, other) = (read(Engine::DuckDb), read(Engine::Spark));
        if let Some(found) = compare::difference(one, other) {
            panic!("{} at {version}, DuckDB against Spark: {found}", table.display());
        }
    }
}

#[track_caller]
fn equal_by_spark(scene: &mut Scene, names: &[&str], when: &str) {
    for name in names {
        assert_eq!(scene.difference(name, Engine::Spark), None, "{name} by Spark, {when}");
    }
}

fn command(scene: &Scene, arguments: &[&str]) {
    let config = scene.write_config();
    let mut all = arguments.to_vec();
    all.extend(["-c", &config]);
    scene.start(&all).wait(LONG).expect_code(0);
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn every_way_of_writing_is_read() {
    let mut random = Random::from_env("spark-modes");
    let mut scene = Scene::new("spark-modes");
    scene.config.tables = modes::WAYS.to_owned();
    make_mixed(&mut scene.sql(), 10_000);
    let url = scene.pg.url("postgres", "shop");
    let clients = Clients::start(2, &url, &mut random, Duration::from_millis(8), mixed_step);
    for _ in 0..3 {
        let running = scene.start_run(&[]);
        std::thread::sleep(Duration::from_millis(random.between(1000, 2500)));
        running.kill9();
    }
    clients.stop();
    scene.drain();
    let whole = ["public.customers", "public.orders", "public.bulk", "public.ledger"];
    let marked = [
        ("public.items", "_strandline_deleted"),
        ("public.Mixed Case", "__deleted"),
        ("public.scratch", "_fivetran_deleted"),
    ];
    for when in ["as written", "after optimize and vacuum"] {
        equal_by_spark(&mut scene, &whole, when);
        for (name, mark) in marked {
            assert_eq!(modes::standing(&mut scene, name, mark, Engine::Spark), None, "{name}, {when}");
        }
        let log = scene.table("public.orders__changes");
        let last = deltalog::version(&log).expect("a version");
        versions_are_the_same(&mut scene, &log, [last].into_iter());
        let orders = scene.table("public.orders");
        let last = deltalog::version(&orders).expect("a version");
        versions_are_the_same(&mut scene, &orders, (last - 4).max(1)..=last);
        command(&scene, &["target", "optimize"]);
        command(&scene, &["target", "vacuum", "--retention", "1h", "--yes"]);
    }
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn every_type_is_read() {
    let mut scene = Scene::new("spark-types");
    let found = every_type::differences_by(&mut scene, Engine::Spark);
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}

/// The table in `docs/TYPES.md`.
#[test]
#[ignore = "needs Spark: make test-spark"]
fn types_have_the_names_of_the_page() {
    let scene = Scene::new("spark-type-names");
    let types = [
        ("boolean", "boolean"),
        ("smallint", "smallint"),
        ("integer", "int"),
        ("bigint", "bigint"),
        ("real", "float"),
        ("double precision", "double"),
        ("numeric(38,9)", "decimal(38,9)"),
        ("text", "string"),
        ("bytea", "binary"),
        ("date", "date"),
        ("timestamp", "timestamp_ntz"),
        ("timestamptz", "timestamp"),
    ];
    let columns: Vec<String> =
        types.iter().enumerate().map(|(i, (kind, _))| format!("c{i} {kind}")).collect();
    scene.sql().exec(&format!("create table t (id int primary key, {})", columns.join(", ")));
    scene.drain();
    let found = spark::types(&scene.table("public.t"));
    let expected: Vec<_> = [("id".to_owned(), "int")]
        .into_iter()
        .chain(types.iter().enumerate().map(|(i, (_, name))| (format!("c{i}"), *name)))
        .map(|(column, name)| vec![Some(column), Some(name.to_owned())])
        .collect();
    assert_eq!(found, expected);
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn partitions_are_read() {
    let mut scene = Scene::new("spark-partitions");
    scene.config.tables = partitions::WAYS.to_owned();
    scene.config.interval = "20ms".into();
    let mut sql = scene.sql();
    sql.exec(partitions::MAKE);
    scene.drain();
    for round in 1..=12 {
        sql.exec(&partitions::change(round));
        scene.drain();
    }
    let names = ["public.orders", "public.exact", "public.tenants", "public.logged", "public.keyless"];
    equal_by_spark(&mut scene, &names, "as written");
    let odd = partitions::scene_path(&scene, "Odd ~25");
    let rows = "select id, `_the key`, v from t order by id";
    assert_eq!(
        spark::sql(&odd, None, rows),
        sql.rows("select id, \"_the key\", v from \"Odd %\" order by id")
    );
    let orders = scene.table("public.orders");
    for (place, n) in [("../../up", 2), ("日本", 5), ("ä=ö%2F%", 3), ("a+b&c#d?e", 9), (" ", 11)] {
        let count = format!("select count(*) from t where region = '{place}'");
        let expected = sql.rows(&format!(
            "select count(*) from orders where region = (select text from odd where n = {n})"
        ));
        assert_eq!(spark::sql(&orders, None, &count), expected, "{place}");
    }
    for name in ["orders", "exact", "tenants"] {
        partitions::only_from_the_checkpoint(&scene.table(&format!("public.{name}")));
    }
    equal_by_spark(&mut scene, &names, "from a log checkpoint");
    command(&scene, &["target", "optimize"]);
    equal_by_spark(&mut scene, &names, "after optimize");
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn column_mapping_is_read() {
    let mut scene = Scene::new("spark-mapping");
    scene.config.tables = column_mapping::WAYS.to_owned();
    for table in column_mapping::TABLES {
        scene.sql().exec(&format!(
            "create table {table} (id int primary key, p text, \"a.b\" text, \" ,;{{}}()=\" numeric(9,2), big text);
             alter table {table} alter big set storage external;
             insert into {table} select i, 'p' || i % 3, 'text ' || i, i / 4.0, repeat('b' || i, 900) from generate_series(1, 120) i"
        ));
    }
    scene.drain();
    let names: Vec<String> = column_mapping::TABLES.iter().map(|table| format!("public.{table}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    equal_by_spark(&mut scene, &names, "copied");
    for (round, changes) in column_mapping::CHANGES.into_iter().enumerate() {
        column_mapping::change(&scene, round, changes);
        scene.drain();
        equal_by_spark(&mut scene, &names, changes[0]);
    }
    command(&scene, &["target", "optimize"]);
    equal_by_spark(&mut scene, &names, "after optimize");
    let plain = scene.table("public.plain");
    let rows = "select count(*) from t where `the key` > 1000";
    let expected = scene.sql().rows("select count(*) from plain where \"the key\" > 1000");
    assert_eq!(spark::sql(&plain, None, rows), expected);
}

/// Columns with names that are not plain, in tables without column mapping, and tables with any name.
#[test]
#[ignore = "needs Spark: make test-spark"]
fn names_are_read() {
    let scene = Scene::new("spark-names");
    let mut sql = scene.sql();
    let names = [
        "..",
        "dots.in.it",
        " space ",
        "Ünï \"quoted\"",
        "select",
        "back`tick",
        "per%cent",
        "til~de",
        "q'uote",
    ];
    for (n, name) in names.iter().enumerate() {
        let table = format!("\"{}\"", name.replace('"', "\"\""));
        sql.exec(&format!(
            "create table {table} (\"select\" int primary key, \"Ünï\" text, \"quote\"\"d\" text, \"back`tick\" int, \"a.b\" int, \"two words\" int, \"(x);\" int, \"t\tn\" int);
             insert into {table} values ({n}, 'copied', $$it's$$, 1, 2, 3, 4, 5), (-1, null, null, null, null, null, null, null)"
        ));
    }
    scene.drain();
    for name in names {
        let table = format!("\"{}\"", name.replace('"', "\"\""));
        sql.exec(&format!("update {table} set \"a.b\" = 7, \"two words\" = 8 where \"select\" >= 0; delete from {table} where \"select\" = -1"));
    }
    scene.drain();
    for (n, name) in names.iter().enumerate() {
        let path = odd::path_of(&scene, name);
        let rows = spark::sql(
            &path,
            None,
            "select `select`, `Ünï`, `quote\"d`, `back``tick`, `a.b`, `two words`, `(x);`, `t\tn` from t where `a.b` > 6 and `two words` = 8",
        );
        let text = |s: &str| Some(s.to_owned());
        let n = n.to_string();
        assert_eq!(
            rows,
            [["copied", "it's", "1", "7", "8", "4", "5"].iter().fold(vec![Some(n)], |mut row, cell| {
                row.push(text(cell));
                row
            })],
            "{name}"
        );
    }
}

/// As PostgreSQL writes it, and Spark where that is otherwise.
const CONDITIONS: &[(&str, &str)] = &[
    ("n = 9999999999999999999999999999.9999999999", ""),
    ("n < -1", ""),
    ("n = 17.0000000017", ""),
    ("n is null", ""),
    ("t = repeat('z', 200)", ""),
    ("t > repeat('z', 100)", ""),
    ("t = ''", ""),
    ("t like 'key 300%'", ""),
    ("t like 'é%'", ""),
    ("t collate \"C\" > U&'\\+01F600'", "t > '😀'"),
    ("d = date '9999-12-31'", ""),
    ("d < date '1900-01-01'", ""),
    ("d = date '1500-03-01'", ""),
    // Days that the Julian calendar's reform skipped (1582-10-05 to 14) are found by no filter of Spark's: java.sql.Date lacks them.
    ("id = -2", ""),
    ("id between 4990 and 5010", ""),
    ("f = 'NaN'::float8", "f = double('NaN')"),
    ("f > 1600", ""),
    ("f = '-Infinity'::float8", "f = double('-Infinity')"),
    ("f = 'Infinity'::float8", "f = double('Infinity')"),
    ("f = 0", ""),
    ("r > 700", ""),
    ("r = 0", ""),
    ("ts > timestamp '2021-01-01'", "ts > timestamp_ntz '2021-01-01'"),
    ("ts = timestamp '2020-01-01 00:00:17.000017'", "ts = timestamp_ntz '2020-01-01 00:00:17.000017'"),
    ("ts = timestamp '9999-12-31 23:59:59.999999'", "ts = timestamp_ntz '9999-12-31 23:59:59.999999'"),
    ("ts < timestamp '1970-01-01'", "ts < timestamp_ntz '1970-01-01'"),
    ("tz = timestamptz '9999-12-31 23:59:59.999999Z'", "tz = timestamp '9999-12-31 23:59:59.999999Z'"),
    ("tz < timestamptz '1970-01-01Z'", "tz < timestamp '1970-01-01 00:00:00Z'"),
    ("tz = timestamptz '1969-12-31 23:59:59.999999Z'", "tz = timestamp '1969-12-31 23:59:59.999999Z'"),
    (
        "tz between timestamptz '2020-01-01 00:00:10Z' and timestamptz '2020-01-01 00:00:20Z'",
        "tz between timestamp '2020-01-01 00:00:10Z' and timestamp '2020-01-01 00:00:20Z'",
    ),
    ("b", ""),
    ("b is null", ""),
    ("u is not null", ""),
    ("not b and id < 100", ""),
];

/// What is skipped by statistics is not there: a filter finds what a scan of every file finds, and what the source has.
#[test]
#[ignore = "needs Spark: make test-spark"]
fn filters_find_what_is_there() {
    let mut scene = Scene::new("spark-filters");
    let mut sql = scene.sql();
    scene.config.interval = "50ms".into();
    sql.exec(
        "create table m (id bigint primary key, n numeric(38,10), t text, d date, f float8, r real, ts timestamp, tz timestamptz, b boolean, u uuid);
         insert into m select i, (i * 1.0000000001)::numeric(38,10), 'key ' || i, date '2000-01-01' + i, i / 3.0, i / 7.0,
                timestamp '2020-01-01' + i * interval '1.000001 s', timestamptz '2020-01-01 UTC' + i * interval '1.0000015 s', i % 2 = 0, null
                from generate_series(1, 5000) i",
    );
    scene.drain();
    for rows in [
        "(-1, 9999999999999999999999999999.9999999999, repeat('z', 200), '9999-12-31', 'NaN', 'NaN', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999Z', true, null)",
        "(-2, -9999999999999999999999999999.9999999999, '', '0001-01-01', '-Infinity', '-Infinity', '0001-01-01', '0001-01-01 00:00Z', null, null)",
        "(-3, null, repeat('é', 100) || 'end', '1500-03-01', '-0', '-0', '1500-03-01', '1500-03-01 00:00Z', false, null)",
        "(-4, 0, U&'\\+01F600' || repeat(U&'\\+10FFFF', 40), '1582-10-10', 'Infinity', 'Infinity', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999Z', null, null)",
    ] {
        sql.exec(&format!("insert into m values {rows}"));
        scene.drain();
    }
    sql.exec("update m set t = t || '!' where id % 3 = 0; delete from m where id % 11 = 5");
    scene.drain();
    let table = scene.table("public.m");
    for when in ["as written", "after optimize"] {
        for &(ours, theirs) in CONDITIONS {
            let expected = sql.rows(&format!("select count(*) from m where {ours}"));
            let count =
                format!("select count(*) from t where {}", if theirs.is_empty() { ours } else { theirs });
            let all = spark::scan(&table, &count);
            assert_eq!(spark::sql(&table, None, &count), all, "{ours}, {when}: filtered against scanned");
            assert_eq!(all, expected, "{ours}, {when}: scanned against the source");
        }
        // Answered from statistics alone, where Spark does that.
        let ends = "select min(id), max(id), min(d), max(d), count(*), count(n) from t";
        assert_eq!(spark::sql(&table, None, ends), spark::scan(&table, ends), "{when}");
        let expected = "select min(id), max(id), (min(d) - date '1970-01-01')::text, (max(d) - date '1970-01-01')::text, count(*), count(n) from m";
        assert_eq!(spark::sql(&table, None, ends), sql.rows(expected), "{when}");
        command(&scene, &["target", "optimize"]);
    }
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn the_feed_leads_from_one_picture_to_the_next() {
    let fed = feed::FED;
    let mut scene = Scene::new("spark-feed");
    scene.config.tables = format!(
        "  overrides:\n    public.up: {{target: {{{fed}}}}}\n    public.exact: {{write: copy_on_write, target: {{{fed}}}}}\n    \
         public.parts: {{target: {{partition_by: [p], {fed}}}}}\n    public.log: {{write: append}}\n"
    );
    scene.config.interval = "20ms".into();
    let mut sql = scene.sql();
    let names = ["up", "exact", "parts", "log"];
    for table in names {
        sql.exec(&format!(
            "create table {table} (id int primary key, p text, v text); alter table {table} alter v set storage external;
             insert into {table} select i, 'p' || i % 3, i::text from generate_series(1, 60) i"
        ));
    }
    let mut running = scene.start_run(&[]);
    until(LONG, "the first copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        names.iter().all(|name| deltalog::position(&scene.table(&format!("public.{name}")), "shop").is_some())
    });
    let up = scene.table("public.up");
    for round in 1..=14 {
        let before = deltalog::version(&up);
        for table in names {
            sql.exec(&format!(
                "begin; update {table} set v = v || '.{round}' where id % 5 = {round} % 5; update {table} set p = 'p' || (id + {round}) % 3 where id % 4 = {round} % 4;
                 delete from {table} where id = {round}; update {table} set id = id + 1000 where id = 40 + {round};
                 insert into {table} values ({round} + 100, 'p1', repeat('large', 2000)); update {table} set p = 'p0' where id > 100; commit"
            ));
        }
        until(LONG, "a commit", || deltalog::version(&up) > before);
    }
    running.kill9();
    scene.drain();
    for table in ["up", "exact", "parts"] {
        let name = format!("public.{table}");
        let told = spark::feed(&scene.table(&name), 0, &["id", "v"]);
        assert_eq!(feed::follow(&name, told), feed::source(&scene, table), "{name}");
        equal_by_spark(&mut scene, &[&name], "with its feed");
    }
    // A stream of the feed, and one of a change log, bring each change once, compactions or not.
    let feed_options = json!({"readChangeFeed": "true"});
    let columns = ["id", "v", "_change_type", "_commit_version"];
    let streamed = spark::streamed(&up, 0, &columns, &feed_options, &scene.dir().join("streamed-up"));
    let told = streamed.expect("a stream of the feed");
    assert_eq!(feed::follow("public.up", told), feed::source(&scene, "up"), "streamed");
    let log = scene.table("public.log");
    let columns = ["id", "_strandline_op", "v"];
    let streamed = spark::streamed(&log, 0, &columns, &json!({}), &scene.dir().join("streamed-log"));
    let in_table = spark::sql(&log, None, "select id, _strandline_op, v from t");
    assert_eq!(compare::difference(in_table, streamed.expect("a stream of the log")), None);
}

/// Spark beside us.
struct Beside {
    scene: Scene,
    running: Strandline,
    round: u32,
}

impl Beside {
    fn new(test: &str, options: &str) -> Beside {
        let mut scene = Scene::new(test);
        scene.config.tables = options.to_owned();
        scene.sql().exec(
            "create table orders (id bigint primary key, v text, big text);
             alter table orders alter column big set storage external;
             insert into orders select i, 'x', repeat(md5(i::text), 100) from generate_series(1, 3000) i",
        );
        scene.drain();
        let running = scene.start_run(&[]);
        let mut beside = Beside { scene, running, round: 0 };
        beside.change();
        beside
    }

    fn table(&self) -> std::path::PathBuf {
        self.scene.table("public.orders")
    }

    /// Changes rows and waits until the table has them, or stands still.
    #[track_caller]
    fn change(&mut self) {
        self.round += 1;
        let n = self.round;
        self.scene.sql().exec(&format!(
            "begin; update orders set v = 'round {n}' where id % 7 = {n} % 7; delete from orders where id % 101 = {n};
             insert into orders values (1000000 + {n}, 'new', 'small'); commit"
        ));
        let table = self.table();
        let query = format!("select count(*) from t where id = {}", 1_000_000 + n);
        until(LONG, "the change is in the target", || {
            assert!(self.running.is_running(), "it ended:\n{}", self.running.stderr());
            self.running.stderr().contains("TG0")
                || self
                    .scene
                    .readers()
                    .try_sql(&table, None, &query)
                    .is_ok_and(|rows| rows[0][0].as_deref() == Some("1"))
        });
    }

    /// Spark does this.
    #[track_caller]
    fn exec(&mut self, statement: &str) {
        let table = self.table();
        let before = deltalog::version(&table);
        let done = spark::exec(&table, statement);
        println!("{statement}: version {before:?} -> {:?}", deltalog::version(&table));
        if let Err(error) = done {
            panic!("{statement}: {error}");
        }
    }

    /// What Spark sees is what the source holds, once what it holds now is in the table.
    #[track_caller]
    fn ends_equal(mut self, engines: &[Engine]) {
        self.running.terminate();
        let outcome = self.running.wait(LONG);
        assert!(!outcome.stderr.contains("TG0"), "{}", outcome.stderr);
        self.scene.drain();
        for &engine in engines {
            assert_eq!(self.scene.difference("public.orders", engine), None, "{engine:?}");
        }
    }

    /// The table stopped; a new copy makes it equal.
    #[track_caller]
    fn stops_with(mut self, code: &str) {
        self.change();
        until(LONG, "the table is stopped", || self.running.stderr().contains(code));
        self.running.terminate();
        self.running.wait(LONG);
        command(&self.scene, &["resync", "public.orders", "--yes"]);
        self.scene.drain();
        equal_by_spark(&mut self.scene, &["public.orders"], "copied again");
    }
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn what_changes_no_rows_is_taken_in() {
    let mut beside = Beside::new("spark-harmless", "");
    for statement in [
        "alter table {t} set tblproperties ('note' = 'x')",
        "optimize {t}",
        "vacuum {t} retain 0 hours",
        "optimize {t} zorder by (v)",
        "reorg table {t} apply (purge)",
        "vacuum {t} retain 0 hours",
        "comment on table {t} is 'of the shop'",
    ] {
        beside.exec(statement);
        beside.change();
        beside.change();
    }
    beside.ends_equal(&[Engine::DuckDb, Engine::DeltaRs, Engine::Polars, Engine::Spark]);
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn what_changes_rows_stops_the_table() {
    for (n, statement) in [
        "insert into {t} values (5000000, 'theirs', 'theirs')",
        "delete from {t} where id = 17",
        "update {t} set v = 'theirs' where id = 18",
        "merge into {t} t using (select 19L id, 'theirs' v) s on t.id = s.id when matched then update set v = s.v",
        "alter table {t} add columns (theirs int)",
        "truncate table {t}",
    ]
    .into_iter()
    .enumerate()
    {
        let mut beside = Beside::new(&format!("spark-rows-{n}"), "");
        if statement.starts_with("truncate") {
            // Not known for tables named by their path.
            beside.exec("delete from {t}");
        } else {
            beside.exec(statement);
        }
        beside.stops_with("TG012");
    }
}

#[test]
#[ignore = "needs Spark: make test-spark"]
fn a_restore_stops_the_table() {
    let mut beside = Beside::new("spark-restore", "");
    let before = deltalog::version(&beside.table()).expect("a version");
    beside.change();
    beside.exec(&format!("restore table {{t}} to version as of {before}"));
    beside.stops_with("TG01");
}

/// A protocol that we do not write is met with a code, not with commits that break it.
#[test]
#[ignore = "needs Spark: make test-spark"]
fn features_of_others_are_known_or_refused() {
    for (n, (statement, works)) in [
        ("alter table {t} set tblproperties ('delta.enableChangeDataFeed' = 'true')", true),
        ("alter table {t} set tblproperties ('delta.checkpointPolicy' = 'v2')", true),
        ("alter table {t} set tblproperties ('delta.enableInCommitTimestamps' = 'true')", false),
        ("alter table {t} set tblproperties ('delta.enableRowTracking' = 'true')", false),
        ("alter table {t} set tblproperties ('delta.enableTypeWidening' = 'true')", false),
        ("alter table {t} add constraint short check (length(v) < 10)", false),
        ("alter table {t} set tblproperties ('delta.appendOnly' = 'true')", false),
        ("alter table {t} set tblproperties ('delta.columnMapping.mode' = 'name')", false),
        ("alter table {t} alter column v set not null", false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut beside = Beside::new(&format!("spark-features-{n}"), "");
        let table = beside.table();
        if let Err(error) = spark::exec(&table, statement) {
            println!("Spark refuses {statement}: {}", error.lines().next().unwrap_or_default());
            continue;
        }
        beside.change();
        beside.change();
        let log = beside.running.stderr();
        let code =
            log.split("TG0").nth(1).map(|rest| format!("TG0{}", rest.chars().take(2).collect::<String>()));
        println!("{statement}: {code:?}");
        if works {
            assert_eq!(code, None, "{statement}");
            // Polars does not know every feature.
            beside.ends_equal(&[Engine::DuckDb, Engine::Spark]);
        } else {
            let before = deltalog::version(&table);
            assert!(code.is_some(), "{statement}: it goes on, at version {before:?}");
            // What is there can be read, whoever wrote it.
            spark::sql(&table, None, "select count(*) from t");
        }
    }
}
