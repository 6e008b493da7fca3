//! What people get wrong: each ends with its code, cause, remedy and exit code, and loses nothing.

use crate::harness::postgres::append;
use crate::harness::{LONG, Scene, deltalog, places, until};
use std::process::Command;

fn scene_with_a_table(test: &str) -> Scene {
    let scene = Scene::new(test);
    scene.sql().exec(
        "create table orders (id int primary key, v text); insert into orders select i, 'x' from generate_series(1, 100) i",
    );
    scene
}

/// Nothing was written where the tables would be.
#[track_caller]
fn assert_untouched(scene: &Scene) {
    assert!(deltalog::commits(&scene.table("public.orders")).is_empty(), "the table was touched");
    let slots = scene.sql().value("select count(*) from pg_replication_slots");
    assert_eq!(slots, "0", "a slot was left behind");
}

#[test]
fn a_wrong_password() {
    let mut scene = scene_with_a_table("bad-password");
    let hba = scene.pg.data().join("pg_hba.conf");
    let old = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("host all strandline 127.0.0.1/32 scram-sha-256\n{old}")).unwrap();
    scene.sql().exec("select pg_reload_conf()");
    let right = scene.config.url.clone();
    scene.config.url = right.replace("strandline:strandline@", "strandline:canary-secret@");
    let outcome = scene.run(&[]);
    outcome.expect_code(3).expect_error("PG001");
    assert!(!outcome.stderr.contains("canary-secret"), "the password was printed:\n{}", outcome.stderr);
    assert_untouched(&scene);
    // The right one works: it was the password.
    scene.config.url = right;
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

#[test]
fn wal_level_replica() {
    let mut scene = scene_with_a_table("bad-wal-level");
    scene.pg.set_and_restart("wal_level = replica");
    let outcome = scene.run(&[]);
    outcome.expect_code(3).expect_error("PG002");
    assert!(outcome.stderr.contains("ALTER SYSTEM SET wal_level"), "{}", outcome.stderr);
    assert_untouched(&scene);
}

#[test]
fn no_such_table() {
    let mut scene = scene_with_a_table("bad-table");
    scene.config.include = vec!["public.ordres".into()];
    let outcome = scene.run(&[]);
    outcome.expect_code(3).expect_error("PG009");
    assert!(outcome.stderr.contains("public.ordres"), "{}", outcome.stderr);
    assert_untouched(&scene);
}

#[test]
fn no_permission() {
    let scene = scene_with_a_table("bad-permission");
    scene.sql().exec("revoke pg_read_all_data from strandline");
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(3).expect_error("PG010");
    assert!(outcome.stderr.to_uppercase().contains("GRANT SELECT"), "{}", outcome.stderr);
}

#[test]
fn a_foreign_delta_table() {
    let mut scene = scene_with_a_table("bad-foreign");
    let table = scene.table("public.orders");
    scene.readers().make_foreign_table(&table);
    let before = deltalog::commits(&table).len();
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(3).expect_error("TG010");
    assert_eq!(deltalog::commits(&table).len(), before, "the foreign table was touched");
    let rows = scene.readers().sql(&table, None, "select count(*) from t");
    assert_eq!(rows[0][0].as_deref(), Some("3"), "the foreign table holds what it held");
}

#[test]
fn a_configuration_with_a_typo() {
    let scene = scene_with_a_table("bad-typo");
    let text = std::fs::read_to_string(scene.write_config()).unwrap().replace("tables:", "tabels:");
    let config = scene.write_text("typo.yaml", &text);
    for arguments in [["run", "-c", config.as_str()], ["validate", "-c", config.as_str()]] {
        let outcome = scene.start(&arguments).wait(LONG);
        outcome.expect_code(2).expect_error("CF002");
        assert!(outcome.stderr.contains("tables"), "no suggestion in\n{}", outcome.stderr);
        assert!(outcome.stderr.contains("typo.yaml:"), "no place in\n{}", outcome.stderr);
    }
    assert_untouched(&scene);
}

#[test]
fn a_second_instance() {
    let mut scene = scene_with_a_table("bad-second");
    let mut first = scene.start_run(&[]);
    let table = scene.table("public.orders");
    until(LONG, "the first instance is live", || {
        assert!(first.is_running(), "it ended:\n{}", first.stderr());
        deltalog::position(&table, "shop").is_some()
    });
    scene.config.listen = scene.config.listen.replace("127.0.0.1", "127.0.0.2");
    let second = scene.run(&[]);
    second.expect_code(5).expect_error("PG011");
    assert!(first.is_running(), "the first instance goes on:\n{}", first.stderr());
    scene.sql().exec("insert into orders values (1000, 'after the second was refused')");
    first.terminate();
    first.wait(LONG).expect_code(0);
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

#[test]
fn a_full_disk() {
    let mut scene = scene_with_a_table("bad-disk");
    let Some(disk) = SmallDisk::mount(&scene, "lake", 4) else {
        println!("SKIPPED: a small file system can be mounted only as root or with sudo");
        return;
    };
    scene.drain();
    scene.assert_equal(&["public.orders"]);
    scene.sql().exec(
        "insert into orders select i, md5(i::text) || md5((-i)::text) from generate_series(1000, 200000) i",
    );
    let outcome = scene.run(&["--until-caught-up"]);
    outcome.expect_code(1).expect_error("TG002");
    // What was there can still be read, and it is a state of the source.
    let table = scene.table("public.orders");
    let rows = scene.readers().sql(&table, None, "select count(*) from t");
    assert_eq!(rows[0][0].as_deref(), Some("100"));
    disk.grow(200);
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

/// A transaction larger than the memory for it, and than the disk on which it is to wait.
#[test]
fn a_full_disk_for_large_transactions() {
    let mut scene = scene_with_a_table("bad-spill");
    let Some(disk) = SmallDisk::mount(&scene, "spill", 4) else {
        println!("SKIPPED: a small file system can be mounted only as root or with sudo");
        return;
    };
    scene.sql().exec("alter system set logical_decoding_work_mem = '64kB'");
    scene.sql().exec("select pg_reload_conf()");
    scene.config.more = format!(
        "limits: {{memory: 64MiB, spill_dir: {:?}}}\n",
        scene.dir().join("spill").display().to_string()
    );
    scene.drain();
    scene.sql().exec(
        "insert into orders select i, md5(i::text) || md5((-i)::text) from generate_series(1000, 600000) i",
    );
    scene.run(&["--until-caught-up"]).expect_code(1).expect_error("RT003");
    disk.grow(400);
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}

/// A file system in memory, of some megabytes, below the run directory.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(scene: &Scene, name: &str, megabytes: u32) -> Option<SmallDisk> {
        let path = scene.dir().join(name);
        std::fs::create_dir_all(&path).expect("the run directory can be written");
        let size = format!("size={megabytes}m,mode=0777");
        let mounted = as_root(&["mount", "-t", "tmpfs", "-o", &size, "strandline-test", path.to_str()?]);
        mounted.then_some(SmallDisk(path))
    }

    fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        assert!(as_root(&["mount", "-o", &size, self.0.to_str().unwrap()]), "the disk can grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(as_root(&["umount", "-l", self.0.to_str().unwrap()]), "the disk can be unmounted");
    }
}

fn as_root(command: &[&str]) -> bool {
    let mut all = if places::is_root() { Vec::new() } else { vec!["sudo", "-n"] };
    all.extend(command);
    Command::new(all[0]).args(&all[1..]).status().is_ok_and(|status| status.success())
}

/// The server's log shows what strandline may not do: it never asked for more than it was given.
#[test]
fn no_superuser_is_needed() {
    let mut scene = scene_with_a_table("bad-superuser");
    append(&scene.pg.data().join("postgresql.auto.conf"), "log_min_error_statement = error\n");
    let is_super = scene.sql().value("select rolsuper from pg_roles where rolname = 'strandline'");
    assert_eq!(is_super, "f");
    scene.drain();
    scene.assert_equal(&["public.orders"]);
}
