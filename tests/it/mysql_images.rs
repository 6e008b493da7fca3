//! Row images that leave values out (`binlog_row_image` `MINIMAL` and `NOBLOB`): what an update does not repeat stays what
//! it was in the target; what cannot be known stops the table.

use crate::harness::LONG;
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;

/// Values that were copied, that came in an earlier commit, and that came just before.
const CHANGES: &[&str] = &[
    "insert into t (id, a, b, c, n) values (10, 1, 'ten', repeat('c', 3000), 5), (11, 2, 'eleven', 'short', 6)",
    "update t set a = 7 where id = 1",
    "update t set c = 'other' where id = 2",
    "update t set a = a + 1 where id >= 10",
    "update t set b = null where id = 10",
    "update t set id = 100 where id = 3",
    "update t set id = 12, a = 9 where id = 11",
    "insert into t (id, a, n) values (13, 3, 1)",
    "insert into t (id, a, n) values (13, 4, 1) on duplicate key update b = 'twice'",
    "replace into t (id, a, n) values (1, 5, 2), (14, 6, 3)",
    "delete from t where id = 2",
];

fn begin(brand: Brand, image: &str) -> Option<MyScene> {
    let option = format!("--binlog-row-image={image}");
    let scene = MyScene::with("my-image", brand, &[&option])?;
    let mut sql = scene.sql();
    sql.exec(
        "create table t (id int primary key, a int, b varchar(20), c text, n int not null default 5, \
         g int generated always as (a * 2) stored, e varchar(20))",
    );
    sql.exec(
        "insert into t (id, a, b, c) values (1, 1, 'one', 'c1'), (2, 2, 'two', 'c2'), (3, 3, 'three', 'c3')",
    );
    drop(sql);
    let outcome = scene.drain();
    assert!(outcome.stderr.contains("MY003"), "it is said:\n{}", outcome.stderr);
    Some(scene)
}

#[test]
fn what_an_update_leaves_out_stays() {
    for image in ["MINIMAL", "NOBLOB"] {
        let Some(mut scene) = begin(Brand::MySql9, image) else { continue };
        // One by one, then all of the same again in one commit.
        for change in CHANGES {
            scene.sql().exec(change);
            scene.drain();
            let found = scene.difference("shop.t");
            assert_eq!(found, None, "{image}, after: {change}");
        }
        scene.sql().exec("delete from t where id >= 10");
        scene
            .sql()
            .exec("insert into t (id, a, b, c, n) values (2, 2, 'two', 'c2', 5), (3, 3, 'three', 'c3', 5)");
        CHANGES.iter().for_each(|change| scene.sql().exec(change));
        scene.drain();
        assert_eq!(scene.difference("shop.t"), None, "{image}, in one commit");
    }
}

#[test]
fn what_cannot_be_known_stops_the_table() {
    let Some(mut scene) = begin(Brand::MySql9, "MINIMAL") else { return };
    scene.sql().exec("insert into t (id, a) values (20, 1)");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("MY023");
    let config = scene.write_config();
    scene.start(&["resync", "shop.t", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.assert_equal(&["shop.t"]);
    // Rows from before a change of a default may be others than was read: a new copy says what they are.
    scene.sql().exec("alter table t alter column e set default 'x'");
    let outcome = scene.drain();
    assert!(outcome.stderr.contains("its defaults changed"), "{}", outcome.stderr);
    scene.assert_equal(&["shop.t"]);
}

/// MariaDB: the same, but for a `REPLACE`. It is logged as an update that leaves out columns which it set to their
/// defaults, and so is an update of a key that leaves out what stays: which of the two it is, the log does not say.
#[test]
fn what_an_update_of_mariadb_leaves_out_stays() {
    for brand in [Brand::MariaDb118, Brand::MariaDb1011] {
        let Some(mut scene) = begin(brand, "MINIMAL") else { continue };
        let (sure, other): (Vec<&str>, Vec<&str>) =
            CHANGES.iter().partition(|change| !change.starts_with("replace") && !change.contains("set id ="));
        for change in &sure {
            scene.sql().exec(change);
            let outcome = scene.run(&["--until-caught-up"]);
            // Whoever says what happens to a duplicate gives the key a value.
            if outcome.stderr.contains("MY023") {
                assert!(change.contains("duplicate"), "{brand:?}: {change}:\n{}", outcome.stderr);
                resync(&scene);
            }
            let found = scene.difference("shop.t");
            assert_eq!(found, None, "{brand:?}, after: {change}");
        }
        for change in other {
            scene.sql().exec(change);
            let outcome = scene.run(&["--until-caught-up"]);
            outcome.expect_code(1).expect_error("MY023");
            assert!(outcome.stderr.contains("REPLACE"), "{change}:\n{}", outcome.stderr);
            resync(&scene);
            assert_eq!(scene.difference("shop.t"), None, "{brand:?}, after: {change}");
        }
        // The key is made by the server, and the row is another one's by a second unique key.
        scene
            .sql()
            .exec("create table a (id int primary key auto_increment, u int unique, v varchar(9), n int)");
        scene.sql().exec("insert into a (u, v, n) values (1, 'one', 1), (2, 'two', 2)");
        scene.drain();
        scene.sql().exec("replace into a (u, n) values (2, 3)");
        scene.run(&["--until-caught-up"]).expect_code(1).expect_error("MY023");
    }
}

fn resync(scene: &MyScene) {
    let config = scene.write_config();
    scene.start(&["resync", "shop.t", "--yes", "-c", &config]).wait(LONG).expect_code(0);
    scene.drain();
}

/// With `NOBLOB` any update that leaves a value out could be a `REPLACE`; one of a single session stops its table.
#[test]
fn a_mariadb_that_leaves_out_blobs_is_refused() {
    let Some(scene) = MyScene::with("my-image", Brand::MariaDb118, &["--binlog-row-image=NOBLOB"]) else {
        return;
    };
    let mut sql = scene.sql();
    sql.exec("create table t (id int primary key, a int, c text)");
    sql.exec("insert into t values (1, 1, 'c'), (2, 2, 'c')");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY003");
    sql.exec("set global binlog_row_image = 'FULL'");
    scene.drain();
    sql.exec("replace into t (id, a) values (1, 5)");
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("MY023");
}
