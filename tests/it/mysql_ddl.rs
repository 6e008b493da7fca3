//! Definitions that change while MySQL or MariaDB is followed: what is followed in place, what is copied again, what
//! stops. In the end every table equals its source.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::until;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BOTH: [Brand; 2] = [Brand::MySql9, Brand::MariaDb118];

/// Columns are added, dropped, renamed, retyped and moved; tables are emptied, swapped and made again; all of it while
/// nobody looks, then while the process runs.
const CHANGES: &[&str] = &[
    "alter table t add column plain varchar(20)",
    "insert into t (id, v, plain) values (10, 'ten', 'new')",
    "alter table t add column filled int not null default 7",
    "insert into t (id, v) values (11, 'eleven')",
    "alter table t drop column plain",
    "update t set v = 'after' where id = 10",
    "alter table t rename column v to w",
    "insert into t (id, w) values (12, 'twelve')",
    "alter table t modify column w varchar(40) first",
    "insert into t (id, w) values (13, 'thirteen')",
    "alter table t drop column filled, add column filled int not null default 9",
    "insert into t (id, w) values (14, 'fourteen')",
    "truncate table t",
    "insert into t (id, w, filled) values (15, 'fifteen', 1)",
    "create table _t_gho like t",
    "insert into _t_gho (id, w, filled) values (15, 'fifteen', 1), (16, 'ghost', 2)",
    "rename table t to _t_del, _t_gho to t",
    "insert into t (id, w, filled) values (17, 'swapped', 3)",
    "drop table _t_del",
];

fn begin(test: &str, brand: Brand) -> Option<MyScene> {
    let mut scene = MyScene::new(test, brand)?;
    scene.config.include = vec!["shop.t".into()];
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, v varchar(20))");
    sql.exec("insert into t values (1, 'one'), (2, 'two')");
    scene.drain();
    Some(scene)
}

#[test]
fn each_change_is_followed_while_nobody_looks() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-ddl-off", brand) else { continue };
        for change in CHANGES {
            scene.sql().exec(change);
            if change.starts_with("insert into t") || change.starts_with("update") {
                scene.drain();
                assert_eq!(equal(&mut scene), None, "{brand:?}, after: {change}");
            }
        }
    }
}

#[test]
fn all_changes_in_one_backlog_end_equal() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-ddl-backlog", brand) else { continue };
        for change in CHANGES {
            scene.sql().exec(change);
        }
        scene.drain();
        assert_eq!(equal(&mut scene), None, "{brand:?}");
    }
}

/// While a table is made anew under its name, the catalogue does not list it for an instant.
#[test]
fn a_start_beside_changes_leaves_no_table_out() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-ddl-beside", brand) else { continue };
        let (mut sql, is_over) = (scene.sql(), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&is_over);
        let changes = std::thread::spawn(move || {
            let mut count = 0;
            while !ends.load(Ordering::SeqCst) {
                sql.exec("alter table t engine = InnoDB, algorithm = copy");
                count += 1;
            }
            count
        });
        for _ in 0..8 {
            scene.drain();
        }
        is_over.store(true, Ordering::SeqCst);
        assert!(changes.join().unwrap() >= 8, "the table was not changed often enough");
        assert_eq!(equal(&mut scene), None, "{brand:?}");
    }
}

#[test]
fn each_change_is_followed_while_it_runs() {
    for brand in BOTH {
        let Some(mut scene) = begin("my-ddl-on", brand) else { continue };
        let mut running = scene.start_run(&[]);
        for change in CHANGES {
            scene.sql().exec(change);
        }
        until(Duration::from_secs(60), "it is equal", || {
            assert!(running.is_running(), "it ended:\n{}", running.stderr());
            equal(&mut scene).is_none()
        });
        running.terminate();
        running.wait(Duration::from_secs(60)).expect_code(0);
    }
}

#[test]
fn a_dropped_table_and_another_type_stop_by_policy() {
    let Some(mut scene) = begin("my-ddl-stop", Brand::MySql9) else { return };
    scene.sql().exec("alter table t modify column v varbinary(20)");
    let _typed = scene.run(&["--until-caught-up"]).expect_error("MY022");
    scene.config.sink = "  schema_changes: {other: resync}\n".into();
    let config = scene.write_config();
    scene.start(&["resync", "shop.t", "--yes", "-c", &config]).wait(Duration::from_secs(60)).expect_code(0);
    assert_eq!(equal(&mut scene), None);
}

/// Dropped columns stay in the target: only those that the source has are compared.
fn equal(scene: &mut MyScene) -> Option<String> {
    scene.difference("shop.t")
}
