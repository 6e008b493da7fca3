//! `strandline slot`: shows, makes, advances, drops; nothing without `--yes`.

use crate::harness::process::Outcome;
use crate::harness::{LONG, NEWEST, OLDEST, Scene};

fn slot(scene: &Scene, arguments: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[&["slot"], arguments, &["-c", &config]].concat()).wait(LONG)
}

#[test]
fn it_is_shown_made_advanced_and_dropped() {
    for major in [OLDEST, NEWEST] {
        let mut scene = Scene::on("slot", major);
        scene.sql().exec("create table t (id int primary key); insert into t values (1)");
        let slots = "select count(*) from pg_replication_slots";
        assert!(slot(&scene, &["show"]).expect_code(0).stdout.contains("there is no replication slot"));
        let plan = slot(&scene, &["create"]);
        assert!(plan.expect_code(2).stdout.contains("pg_create_logical_replication_slot"), "{}", plan.stdout);
        assert_eq!(scene.sql().value(slots), "0", "nothing was done");
        slot(&scene, &["create", "--yes"]).expect_code(0);
        slot(&scene, &["create", "--yes"]).expect_code(0);
        let shown: serde_json::Value =
            serde_json::from_str(&slot(&scene, &["show", "-o", "json"]).expect_code(0).stdout).unwrap();
        assert_eq!(shown["slot"]["plugin"], "pgoutput");
        assert_eq!(shown["slot"]["failover"], major >= 17);
        scene.drain();
        scene.assert_equal(&["public.t"]);
        scene.sql().exec("insert into t values (2)");
        let end = scene.sql().value("select pg_current_wal_lsn()");
        slot(&scene, &["advance", "--to", "0/1", "--yes"]).expect_code(2).expect_error_line("CF005");
        slot(&scene, &["advance", "--to", &end]).expect_code(2);
        slot(&scene, &["advance", "--to", &end, "--yes"]).expect_code(0);
        // What was skipped is noticed.
        scene.run(&["--until-caught-up"]).expect_code(1).expect_error("PG041");
        slot(&scene, &["drop"]).expect_code(2);
        slot(&scene, &["drop", "--yes"]).expect_code(0);
        assert_eq!(scene.sql().value(slots), "0");
        slot(&scene, &["drop", "--yes"]).expect_code(0);
        slot(&scene, &["advance", "--to", &end, "--yes"]).expect_code(1).expect_error("PG040");
    }
}
