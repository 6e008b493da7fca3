//! The harness of MySQL and MariaDB: each server starts, crashes, and comes back with its rows.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;

#[test]
fn every_server_survives_a_crash_with_its_rows() {
    for brand in [Brand::MySql9, Brand::MariaDb118, Brand::MariaDb1011] {
        let Some(mut scene) = MyScene::new("my-selftest", brand) else { continue };
        let mut sql = scene.sql();
        println!("{brand:?}: {}", sql.value("select version()"));
        sql.exec(
            "create table t(id int primary key, v varchar(20)); insert into t values (1, 'a'), (2, 'ß')",
        );
        drop(sql);
        scene.server.crash();
        assert!(scene.server.try_sql().is_err(), "nobody listens after a crash");
        scene.server.restart();
        assert_eq!(scene.sql().value("select count(*) from t where v in ('a', 'ß')"), "2");
        assert_eq!(scene.sql().value("select @@binlog_row_metadata"), "FULL");
    }
}
