//! A table that was damaged is copied again, on request, and is equal again; the others go on.

use crate::harness::postgres::copy;
use crate::harness::{LONG, Scene, deltalog, until};
use std::time::Duration;

fn scene_with_two_tables(test: &str) -> Scene {
    let scene = Scene::new(test);
    scene.sql().exec(
        "create table orders (id int primary key, v text); create table items (id int primary key, v text);
         insert into orders select i, 'x' from generate_series(1, 1000) i;
         insert into items select i, 'x' from generate_series(1, 1000) i",
    );
    scene
}

#[track_caller]
fn resync(scene: &Scene, table: &str) {
    let config = scene.write_config();
    scene.start(&["resync", table, "--yes", "-c", &config]).wait(LONG).expect_code(0);
}

/// The target is set back by a restored directory: the table stops, the other goes on, resync mends it.
#[test]
fn a_damaged_table_is_equal_again() {
    let mut scene = scene_with_two_tables("resync-damaged");
    scene.drain();
    let (table, backup) = (scene.table("public.orders"), scene.dir().join("old-orders"));
    copy(&table, &backup);
    scene.sql().exec("update orders set v = 'changed' where id % 3 = 0; update items set v = 'changed'");
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
    std::fs::remove_dir_all(&table).unwrap();
    copy(&backup, &table);

    scene.sql().exec("delete from orders where id % 7 = 0; delete from items where id % 7 = 0");
    let outcome = scene.run(&["--until-caught-up"]);
    assert!(outcome.stderr.contains("TG011"), "the table that was set back is named:\n{}", outcome.stderr);
    scene.assert_equal(&["public.items"]);
    let config = scene.write_config();
    let status = scene.start(&["status", "-o", "json", "-c", &config]).wait(LONG);
    assert!(status.stdout.contains("TG011"), "status names the stopped table:\n{}", status.stdout);

    resync(&scene, "public.orders");
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
}

/// While it runs and the source changes, a table is copied again; no reader ever sees less than all.
#[test]
fn a_running_pipeline_copies_a_table_again() {
    let mut scene = scene_with_two_tables("resync-running");
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.orders");
    until(LONG, "the first copy", || {
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        deltalog::position(&table, "shop").is_some()
    });
    let before = deltalog::version(&table).unwrap();
    resync(&scene, "public.orders");
    let mut sql = scene.sql();
    let mut n = 0;
    until(Duration::from_secs(60), "the request is answered", || {
        n += 1;
        sql.exec(&format!("update orders set v = 'while copying {n}' where id = 1 + {n} % 1000"));
        assert!(running.is_running(), "it ended:\n{}", running.stderr());
        let control = scene.control();
        let open = scene.readers().sql(&control, None, "select count(*) from t where kind = 'request'");
        open[0][0].as_deref() == Some("0")
    });
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders", "public.items"]);
    let last = deltalog::version(&table).unwrap();
    assert!(last > before, "the table was copied again");
    for version in before..=last {
        let rows = scene.readers().sql(&table, Some(version), "select count(*) from t");
        assert_eq!(rows[0][0].as_deref(), Some("1000"), "version {version}");
    }
}

#[test]
fn it_wants_to_be_told_yes() {
    let scene = scene_with_two_tables("resync-yes");
    scene.drain();
    let before = deltalog::version(&scene.control());
    let config = scene.write_config();
    let outcome = scene.start(&["resync", "public.orders", "-c", &config]).wait(LONG);
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    assert_eq!(deltalog::version(&scene.control()), before, "nothing was asked for");
}
