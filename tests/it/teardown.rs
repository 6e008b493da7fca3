//! What strandline made on the source goes when it is told to, and nothing else does.

use crate::harness::{LONG, Scene, deltalog, until};

#[test]
fn only_what_is_ours_goes() {
    let mut scene = Scene::new("teardown");
    scene.sql().exec(
        "drop publication strandline_pub; create table orders (id int primary key, v text); alter table orders owner to strandline;
         create table log (v text); alter table log owner to strandline; grant create on database shop to strandline;
         create publication theirs for table orders; insert into orders values (1, 'x')",
    );
    let there = "select string_agg(pubname, ' ' order by pubname) from pg_publication";
    let slots = "select count(*) from pg_replication_slots";
    let running = scene.start_run(&[]);
    let orders = scene.table("public.orders");
    until(LONG, "the table is copied", || deltalog::position(&orders, "shop").is_some());
    assert_eq!(scene.sql().value(there), "strandline_pub strandline_pub_insert theirs");
    let config = scene.write_config();
    let teardown = |more: &[&str]| {
        let arguments = [&["teardown", "-c", &config], more].concat();
        scene.start(&arguments).wait(LONG)
    };
    teardown(&["--yes"]).expect_code(5).expect_error("PG011");
    running.terminate();
    running.wait(LONG).expect_code(0);
    let plan = teardown(&["--plan"]);
    plan.expect_code(0);
    assert!(plan.stdout.contains("pg_drop_replication_slot('strandline_shop')"), "{}", plan.stdout);
    teardown(&[]).expect_code(2);
    assert_eq!(scene.sql().value(slots), "1", "nothing was done");
    teardown(&["--yes"]).expect_code(0);
    assert_eq!((scene.sql().value(slots).as_str(), scene.sql().value(there).as_str()), ("0", "theirs"));
    let again = teardown(&["--yes"]);
    again.expect_code(0);
    assert!(again.stdout.contains("nothing of strandline's is there"), "{}", again.stdout);
    scene.assert_equal(&["public.orders"]);
}
