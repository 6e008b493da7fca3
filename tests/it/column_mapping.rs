//! Tables whose columns have other names in their files: renames touch the log only, names hold any character, and
//! readers that are not ours see the source's rows under the source's names.

use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, deltalog, until};
use serde_json::Value;
use std::path::Path;

pub(crate) const WAYS: &str = "  overrides:
    public.plain: {column_mapping: name, target: {properties: {delta.checkpointInterval: '4'}}}
    public.exact: {column_mapping: name, write: copy_on_write}
    public.logged: {column_mapping: name, write: both, images: both}
";
pub(crate) const TABLES: [&str; 3] = ["plain", "exact", "logged"];

/// Changes of every table, in one transaction each: none of them wants its rows read again.
pub(crate) const CHANGES: [&[&str]; 4] = [
    &["rename \"a.b\" to \"c/d \"\"q\"\"\"", "add \"new col\" int"],
    &["rename id to \"the key\""],
    &["drop \" ,;{}()=\"", "rename big to \"ta\tb\nline\""],
    &["rename \"new col\" to \"größer = 1\"", "rename \"c/d \"\"q\"\"\" to plain"],
];

fn schema(table: &Path) -> Value {
    let commits = deltalog::commits(table);
    let found = commits.iter().rev().flat_map(|commit| &commit.actions).find_map(|a| a.get("metaData"));
    let text = found.expect("metadata")["schemaString"].as_str().expect("a schema").to_owned();
    serde_json::from_str(&text).expect("a schema")
}

/// Name in the schema → name in files.
fn stored(table: &Path, name: &str) -> Option<String> {
    let schema = schema(table);
    let field = schema["fields"].as_array()?.iter().find(|field| field["name"] == name)?.clone();
    Some(field["metadata"]["delta.columnMapping.physicalName"].as_str()?.to_owned())
}

pub(crate) fn change(scene: &Scene, round: usize, changes: &[&str]) {
    let mut sql = scene.sql();
    for table in TABLES {
        let (before, after) = match round {
            0 => ("id", "id"),
            1 => ("id", "\"the key\""),
            _ => ("\"the key\"", "\"the key\""),
        };
        let (a, b) = (1000 + round * 10, 1001 + round * 10);
        let rows = |id: usize, key: &str| {
            format!(
                "insert into {table} ({key}, p) values ({id}, 'p1'); update {table} set p = 'p' || {round} % 3 where {key} % 9 = {round} % 9;"
            )
        };
        let altered: String = changes.iter().map(|what| format!("alter table {table} {what};")).collect();
        sql.exec(&format!(
            "begin; {} {altered} {} delete from {table} where {after} % 31 = {round}; commit",
            rows(a, before),
            rows(b, after)
        ));
    }
}

fn check(scene: &mut Scene, what: &str) {
    for table in TABLES {
        let name = format!("public.{table}");
        // Polars says that it knows no column mapping.
        for engine in [Engine::DuckDb, Engine::DeltaRs] {
            assert_eq!(scene.difference(&name, engine), None, "{name} by {engine:?} after {what}");
        }
    }
}

#[test]
fn renames_touch_the_log_only() {
    let mut scene = Scene::new("mapping");
    scene.config.tables = WAYS.to_owned();
    scene.config.interval = "50ms".into();
    for table in TABLES {
        scene.sql().exec(&format!(
            "create table {table} (id int primary key, p text, \"a.b\" text, \" ,;{{}}()=\" numeric(9,2), big text);
             alter table {table} alter big set storage external;
             insert into {table} select i, 'p' || i % 3, 'text ' || i, i / 4.0, repeat('b' || i, 900) from generate_series(1, 120) i"
        ));
    }
    scene.drain();
    check(&mut scene, "the copy");
    let plain = scene.table("public.plain");
    let (in_files, first) =
        (stored(&plain, "a.b").expect("a name"), deltalog::version(&plain).expect("a version"));
    for (round, changes) in CHANGES.into_iter().enumerate() {
        if round % 2 == 0 {
            change(&scene, round, changes);
        } else {
            // While it runs, and dies.
            let held = || deltalog::version(&plain);
            let before = held();
            let running = scene.start_run(&[]);
            change(&scene, round, changes);
            until(LONG, "a commit", || held() > before);
            running.kill9();
        }
        scene.drain();
        check(&mut scene, changes[0]);
    }
    assert_eq!(stored(&plain, "plain"), Some(in_files), "one name in files through two renames");
    for table in TABLES {
        let commits = deltalog::commits(&scene.table(&format!("public.{table}")));
        let copies =
            commits.iter().filter(|c| c.actions[0]["commitInfo"]["operation"] == "OVERWRITE").count();
        assert!(copies <= 1, "{table} was copied again");
    }
    // Compaction, statistics and older versions.
    let config = scene.write_config();
    scene.start(&["target", "optimize", "-c", &config, "public.plain"]).wait(LONG).expect_code(0);
    check(&mut scene, "an optimize");
    let count = |scene: &mut Scene, version, filter: &str| {
        scene.readers().sql(&plain, version, &format!("select count(*) from t where {filter}"))
    };
    let rows = scene.sql().rows("select count(*)::text from plain where \"the key\" > 1000");
    assert_eq!(count(&mut scene, None, "\"the key\" > 1000"), rows, "filtered by statistics");
    assert_eq!(count(&mut scene, Some(first), "\"a.b\" is not null")[0][0].as_deref(), Some("120"));
    // What a name meant before is never guessed: the table is copied again.
    scene.sql().exec("alter table plain add \"a.b\" text; update plain set \"a.b\" = 'other' where p = 'p1'");
    scene.drain();
    check(&mut scene, "a name that another column had");
    // There is a reader that shows nulls for the columns of its partitions.
    scene.sql().exec("create table parts (id int primary key, p text)");
    scene.config.tables =
        format!("{WAYS}    public.parts: {{column_mapping: name, target: {{partition_by: [p]}}}}\n");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG023");
    // The choice is the table's own.
    scene.config.tables = WAYS.replace("public.exact: {column_mapping: name, ", "public.exact: {");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("TG021");
}
