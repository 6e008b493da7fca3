//! Somebody else writes to a target table with delta-rs while strandline keeps it: what changes no rows is
//! taken in, what changes rows stops the table with a code, and nothing is lost or brought back.

use crate::harness::process::Strandline;
use crate::harness::reader::Engine;
use crate::harness::{LONG, Scene, deltalog, until};

struct World {
    scene: Scene,
    running: Strandline,
    round: u32,
}

impl World {
    fn new(test: &str) -> World {
        let scene = Scene::new(test);
        scene.sql().exec(
            "create table orders (id bigint primary key, v text, big text);
             alter table orders alter column big set storage external;
             insert into orders select i, 'x', repeat(md5(i::text), 100) from generate_series(1, 3000) i",
        );
        scene.drain();
        let running = scene.start_run(&[]);
        let mut world = World { scene, running, round: 0 };
        world.change();
        world
    }

    /// Changes rows, large values untouched, and waits until they are in the target or the table stands still.
    fn change(&mut self) {
        self.round += 1;
        let n = self.round;
        let mut sql = self.scene.sql();
        sql.exec(&format!(
            "update orders set v = 'round {n}' where id % 7 = {n} % 7;
             delete from orders where id % 101 = {n};
             insert into orders values (1000000 + {n}, 'new', 'small')"
        ));
        let table = self.scene.table("public.orders");
        let wanted = format!("{}", 1_000_000 + n);
        until(LONG, "the change is in the target", || {
            assert!(self.running.is_running(), "it ended:\n{}", self.running.stderr());
            if self.running.stderr().contains("TG0") {
                return true;
            }
            let found = self.scene.readers().sql(
                &table,
                None,
                &format!("select count(*) from t where id = {wanted}"),
            );
            found[0][0].as_deref() == Some("1")
        });
    }

    fn foreign(&mut self, kind: &str) -> Result<(), String> {
        let table = self.scene.table("public.orders");
        let before = deltalog::version(&table);
        let done = self.scene.readers().foreign(&table, kind);
        println!("{kind}: {done:?}, version {before:?} -> {:?}", deltalog::version(&table));
        done
    }

    /// Ends well: everything is equal, by every reader.
    #[track_caller]
    fn ends_equal(mut self) {
        self.running.terminate();
        let outcome = self.running.wait(LONG);
        assert!(!outcome.stderr.contains("TG0"), "{}", outcome.stderr);
        self.scene.drain();
        for engine in Engine::ALL {
            assert_eq!(self.scene.difference("public.orders", engine), None, "{engine:?}");
        }
    }

    /// The table stopped with the code; a resync makes it equal again.
    #[track_caller]
    fn stops_with(mut self, code: &str) {
        self.change();
        until(LONG, "the table is stopped", || self.running.stderr().contains(code));
        self.running.terminate();
        self.running.wait(LONG);
        let config = self.scene.write_config();
        self.scene.start(&["resync", "public.orders", "--yes", "-c", &config]).wait(LONG).expect_code(0);
        self.scene.drain();
        self.scene.assert_equal(&["public.orders"]);
    }
}

#[test]
fn what_changes_no_rows_is_taken_in() {
    let mut world = World::new("foreign-harmless");
    for kind in ["property", "optimize", "checkpoint", "vacuum", "optimize", "vacuum"] {
        // delta-rs may refuse a table with deletion vectors; what it does not refuse must be right.
        let _refused = world.foreign(kind);
        world.change();
        world.change();
    }
    world.ends_equal();
}

#[test]
fn rows_of_somebody_else_stop_the_table() {
    let mut world = World::new("foreign-append");
    world.foreign("append").unwrap();
    world.stops_with("TG012");
}

#[test]
fn a_delete_of_somebody_else_stops_the_table() {
    let mut world = World::new("foreign-delete");
    if world.foreign("delete").is_ok() {
        world.stops_with("TG012");
    } else {
        world.ends_equal();
    }
}

#[test]
fn a_restore_stops_the_table() {
    let mut world = World::new("foreign-restore");
    if world.foreign("restore").is_ok() {
        world.stops_with("TG01");
    } else {
        world.ends_equal();
    }
}
