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

/// It logs a `REPLACE` as an update that leaves out columns which it set to their defaults.
#[test]
fn mariadb_is_refused() {
    let Some(scene) = MyScene::with("my-image", Brand::MariaDb118, &["--binlog-row-image=MINIMAL"]) else {
        return;
    };
    scene.sql().exec("create table t (id int primary key)");
    scene.run(&["--until-caught-up"]).expect_code(3).expect_error("MY003");
}
