//! Partitioned tables in every way of writing, with rows that move between partitions and values that paths cannot
//! hold, read back by three readers.

use crate::harness::reader::Engine;
use crate::harness::sql::Sql;
use crate::harness::{LONG, Scene, deltalog, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) const WAYS: &str = "  overrides:
    public.orders: {target: {partition_by: [day, region], properties: {delta.checkpointInterval: '5'}}}
    public.exact: {write: copy_on_write, target: {partition_by: [n, region], properties: {delta.checkpointInterval: '5'}}}
    public.soft: {deletes: soft, meta_columns: strandline, target: {partition_by: [amount]}}
    public.logged: {write: both, images: both, target: {partition_by: [flag]}}
    public.tenants: {target: {partition_by: [tenant], properties: {delta.checkpointInterval: '5'}}}
    'public.Odd %': {target: {partition_by: [_the key]}}
    public.keyless: {write: append, target: {partition_by: [kind]}}
";

pub(crate) const MAKE: &str = r#"
create table orders (id bigint primary key, day date, region text, v int, big text);
create table "Odd %" (id int primary key, "_the key" text, v int);
insert into "Odd %" select i, chr(64 + i % 3), 0 from generate_series(1, 9) i;
create table exact (id int primary key, n int, region text, v int);
create table soft (id int primary key, amount numeric(8,2), v int);
create table logged (id int primary key, flag boolean, v int);
create table tenants (tenant int, id bigint, v int, primary key (tenant, id));
create table keyless (kind text, v int); alter table keyless replica identity full;
alter table orders alter big set storage external;
create table odd (n int primary key, text text);
insert into odd values (0, 'plain'), (1, 'two words'), (2, '../../up'), (3, 'ä=ö%2F%'), (4, 'q"u''o'), (5, '日本'),
  (6, null), (7, repeat('long', 60)), (8, E'line\nbreak'), (9, 'a+b&c#d?e'), (10, '__HIVE_DEFAULT_PARTITION_'), (11, ' ');
insert into orders select i, date '2024-02-28' + (i % 4)::int, (select text from odd where n = i % 12), 0, repeat('x', 3000)
  from generate_series(1, 480) i;
insert into exact select i, nullif(i % 5, 0), (select text from odd where n = i % 12), 0 from generate_series(1, 200) i;
insert into soft select i, (i % 3) - 1.5, 0 from generate_series(1, 100) i;
insert into logged select i, i % 2 = 0, 0 from generate_series(1, 100) i;
insert into tenants select i % 3 - 1, i, 0 from generate_series(1, 300) i;
insert into keyless select chr(97 + i % 3), i from generate_series(1, 30) i;
"#;

pub(crate) fn change(round: i32) -> String {
    format!(
        "update orders set v = v + 1, region = (select text from odd where n = (orders.id + {round}) % 12) where id % 7 = {round} % 7;
         update orders set day = day + 1 where id % 11 = {round} % 11;
         update orders set v = -v where id % 13 = {round} % 13;
         delete from orders where id % 97 = {round};
         insert into orders values ({round} + 1000, '2024-03-05', '../../up', 7, 'new');
         update exact set n = nullif((n + 1) % 5, 0), v = v + 1 where id % 4 = {round} % 4; delete from exact where id = {round};
         update soft set amount = amount + 1 where id % 5 = {round} % 5; delete from soft where id = 50 + {round};
         update logged set flag = not flag where id % 3 = {round} % 3; delete from logged where id = 10 + {round};
         update tenants set tenant = tenant + 1 where id % 9 = {round}; update tenants set v = v + 1 where id % 2 = 0;
         update \"Odd %\" set v = v + 1, \"_the key\" = chr(64 + {round} % 5) where id % 3 = {round} % 3;
         insert into keyless select chr(97 + i % 3), {round} from generate_series(1, 3) i;"
    )
}

pub(crate) fn scene_path(scene: &Scene, folder: &str) -> PathBuf {
    scene.dir().join("lake/public").join(folder)
}

fn partition(action: &Value) -> String {
    action["partitionValues"].to_string()
}

/// Compactions of a table; each keeps rows in their partitions.
fn compactions(table: &Path) -> usize {
    let all = deltalog::commits(table);
    let is_one = |commit: &&deltalog::Commit| commit.actions[0]["commitInfo"]["operation"] == "OPTIMIZE";
    all.iter()
        .filter(is_one)
        .map(|commit| {
            let of = |kind: &str| -> BTreeSet<String> {
                let actions = commit.actions.iter().filter_map(|a| a.get(kind));
                actions.map(partition).collect()
            };
            assert!(of("add").is_subset(&of("remove")), "{}: {commit:?}", table.display());
        })
        .count()
}

/// Takes away what the last log checkpoint makes superfluous, as a clean-up of the log does.
pub(crate) fn only_from_the_checkpoint(table: &Path) {
    let log = table.join("_delta_log");
    let last = std::fs::read_to_string(log.join("_last_checkpoint")).expect("a checkpoint");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    let version = last["version"].as_i64().expect("a version");
    assert!(version >= 10, "{last}");
    for gone in 0..version {
        std::fs::remove_file(log.join(format!("{gone:020}.json"))).expect("a log entry");
    }
}

fn parquet_in(folder: &Path) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a directory").flatten().map(|entry| entry.path()).collect();
    entries.retain(|path| !path.ends_with("_delta_log"));
    entries.sort();
    entries.iter().find_map(|path| match path.is_dir() {
        true => parquet_in(path),
        false => path.extension().is_some_and(|ext| ext == "parquet").then(|| path.clone()),
    })
}

#[test]
fn rows_find_their_partitions_in_every_way_of_writing() {
    let mut scene = Scene::new("partitions");
    scene.config.tables = WAYS.to_owned();
    scene.config.interval = "20ms".into();
    scene.sql().exec(MAKE);
    let names = ["orders", "exact", "soft", "logged", "tenants", "keyless"];
    let mut running = scene.start_run(&[]);
    let live = |scene: &Scene, name: &str| deltalog::position(&scene.table(name), "shop").is_some();
    until(LONG, "the first copies", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        names.iter().all(|name| live(&scene, &format!("public.{name}")))
    });
    let orders = scene.table("public.orders");
    let mut sql = scene.sql();
    for round in 1..=16 {
        let before = deltalog::version(&orders);
        sql.exec(&format!("begin; {}; commit", change(round)));
        until(LONG, "a commit", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            deltalog::version(&orders) > before
        });
    }
    until(LONG, "a compaction", || compactions(&orders) > 0);
    running.kill9();
    sql.exec(&change(17));
    scene.drain();
    for name in ["orders", "exact", "tenants"] {
        only_from_the_checkpoint(&scene.table(&format!("public.{name}")));
    }
    for engine in Engine::ALL {
        for name in ["orders", "exact", "tenants", "logged"] {
            if (name, engine) == ("orders", Engine::Polars) {
                continue; // Polars 2.1 applies no deletion vector to a file whose path is encoded in the log
            }
            assert_eq!(scene.difference(&format!("public.{name}"), engine), None, "{name} by {engine:?}");
        }
    }
    scene.assert_equal(&["public.keyless"]);
    // Polars and delta-rs look for another name of this table's folder.
    let odd = scene_path(&scene, "Odd ~25");
    let rows = scene.readers().sql(&odd, None, "select id, \"_the key\", v from t order by id");
    assert_eq!(rows, sql.rows("select id, \"_the key\", v from \"Odd %\" order by id"));
    let standing = "select count(*), sum(v), sum(amount) from t where not _strandline_deleted";
    let soft = scene.table("public.soft");
    let found = scene.readers().sql(&soft, None, standing);
    let source = sql.rows("select count(*), sum(v), sum(amount) from soft");
    assert_eq!(found, source);
    // A filter on the partition finds what a filter on the rows finds.
    for (place, n) in [("../../up", 2), ("日本", 5), ("ä=ö%2F%", 3), ("a+b&c#d?e", 9), (" ", 11)] {
        let count =
            scene.readers().sql(&orders, None, &format!("select count(*) from t where region = '{place}'"));
        let expected = sql.rows(&format!(
            "select count(*) from orders where region = (select text from odd where n = {n})"
        ));
        assert_eq!(count, expected, "{place}");
    }
    let beside: Vec<_> =
        std::fs::read_dir(scene.dir()).expect("a directory").flatten().map(|e| e.file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().starts_with("up")), "{beside:?}");
    assert!(orders.join("day=2024-03-05").is_dir(), "folders are named after their partitions");
    let log = scene.table("public.logged__changes");
    let last = "select count(*), sum(v) from (select *, row_number() over (partition by id order by _strandline_lsn desc \
                nulls last, _strandline_ordinal desc, _strandline_image) n from t) \
                where n = 1 and _strandline_op <> 'd'";
    let replayed = scene.readers().sql(&log, None, last);
    assert_eq!(replayed, sql.rows("select count(*), sum(v) from logged"));
    what_cannot_be(&mut scene, &mut sql);
}

/// Values and columns that no partition can have, and what is done about them.
fn what_cannot_be(scene: &mut Scene, sql: &mut Sql) {
    // An empty text cannot be told from null: the table stops, the others go on.
    sql.exec("insert into orders values (5000, '2024-03-05', '', 1, 'x'); insert into exact values (5000, 1, 'x', 1)");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG023");
    scene.assert_equal(&["public.exact"]);
    sql.exec("delete from orders where id = 5000");
    let config = scene.write_config();
    scene.start(&["resync", "--yes", "-c", &config, "public.orders"]).wait(LONG).expect_code(0);
    scene.assert_equal(&["public.orders"]);
    // TRUNCATE, and the partitioning itself.
    sql.exec("truncate exact; insert into exact values (1, 3, 'x', 3)");
    scene.drain();
    scene.assert_equal(&["public.exact"]);
    // The writer alone, for comparison with others: rows that do not say their partition are refused.
    let tenants = scene.table("public.tenants");
    let rows = parquet_in(&tenants).expect("a data file");
    let (table, rows) = (tenants.to_string_lossy(), rows.to_string_lossy());
    scene
        .start(&["bench", "merge", "--table", &table, "--key", "id", &rows])
        .wait(LONG)
        .expect_code(3)
        .expect_error("TG023");
    scene.config.tables = WAYS.replace("[n, region]", "[v]");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG021");
    let config = scene.write_config();
    scene.start(&["resync", "--yes", "-c", &config, "public.exact"]).wait(LONG).expect_code(0);
    for engine in Engine::ALL {
        assert_eq!(scene.difference("public.exact", engine), None, "{engine:?}");
    }
    scene.config.tables = WAYS.replace("[n, region]", "[nothing]");
    let config = scene.write_config();
    let refused = scene.start(&["resync", "--yes", "-c", &config, "public.exact"]).wait(LONG);
    refused.expect_code(3).expect_error("TG023");
    assert!(sql.value("select count(*) from odd").parse::<u32>().is_ok());
    let checked = scene.start(&["verify", "-c", &config, "public.orders", "public.tenants"]).wait(LONG);
    checked.expect_code(0);
}
