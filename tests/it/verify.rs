//! `strandline verify` finds what is wrong with a target, down to one bit, and calls nothing wrong that is not; with and
//! without a running process, while the source changes.

use crate::harness::places::reader_python;
use crate::harness::process::Outcome;
use crate::harness::{LONG, Scene, deltalog, until};
use serde_json::Value;

fn verify(scene: &Scene, more: &[&str]) -> Outcome {
    let config = scene.write_config();
    scene.start(&[&["verify", "-c", &config], more].concat()).wait(LONG)
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|e| panic!("{e}:\n{}\n{}", outcome.stdout, outcome.stderr))
}

/// Rewrites a table by a writer of the test's own (delta-rs), which is not strandline: the statement is applied to the rows.
fn tamper(scene: &mut Scene, table: &str, column: &str, id: i64, value: &str) {
    let path = scene.table(table);
    let script = format!(
        "import glob, pyarrow.parquet as pq, pyarrow.compute as pc, pyarrow as pa\n\
         done = 0\n\
         for f in glob.glob({:?} + '/*.parquet'):\n\
         \x20   if open(f, 'rb').read()[4:][-4:] != b'PAR1': continue  # being written\n\
         \x20   t = pq.read_table(f)\n\
         \x20   if {column:?} not in t.column_names: continue\n\
         \x20   hit = pc.equal(t['id'], {id})\n\
         \x20   if not pc.any(hit).as_py(): continue\n\
         \x20   i = t.column_names.index({column:?})\n\
         \x20   new = pc.if_else(hit, pa.scalar({value}, t[{column:?}].type), t[{column:?}])\n\
         \x20   pq.write_table(t.set_column(i, t.schema.field(i), new), f, compression='zstd')\n\
         \x20   done += 1\n\
         assert done, 'no such row'\n",
        path.display().to_string()
    );
    let output = std::process::Command::new(reader_python()).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn one_flipped_bit_is_found_named_and_repaired() {
    let mut scene = Scene::new("verify-bit");
    scene.sql().exec(
        "create table orders (id int primary key, v text, f float8, n numeric(20,4), t timestamptz, b bytea);
         insert into orders select i, case when i % 9 > 0 then 'row ' || i end, i / 7.0, i / 3.0, now() + i * interval '1 s', \
           int4send(i) from generate_series(1, 20000) i; create table items (id int primary key);
         insert into items select generate_series(1, 100); create table keyless (v text); insert into keyless values ('x');
         drop publication strandline_pub; grant create on database shop to strandline; alter table orders owner to strandline;
         alter table items owner to strandline; alter table keyless owner to strandline",
    );
    scene.drain();
    scene
        .sql()
        .exec("update orders set v = 'later ' || id where id % 10 = 0; delete from orders where id % 11 = 0");
    // Without a process: it is run up to the snapshot's position.
    let outcome = verify(&scene, &["public.orders", "public.items", "-o", "json"]);
    outcome.expect_code(0);
    let found = json(&outcome);
    assert_eq!(found["tables"][1]["source_rows"], 20000 - 20000 / 11, "{found}");
    assert_eq!(found["tables"][1]["target_rows"], found["tables"][1]["source_rows"], "{found}");
    // A table that cannot be compared is not called equal.
    let outcome = verify(&scene, &["-o", "json"]);
    outcome.expect_code(4);
    assert_eq!(json(&outcome)["tables"][1]["skipped"]["code"], "PG008", "{}", outcome.stdout);

    let bits = f64::from_bits((777.0_f64 / 7.0).to_bits() ^ 1);
    tamper(&mut scene, "public.orders", "f", 777, &format!("{bits:e}"));
    let outcome = verify(&scene, &["public.orders", "-o", "json"]);
    outcome.expect_code(4);
    let found = json(&outcome);
    assert_eq!(found["tables"][0]["different"], 1, "{found}");
    assert_eq!(found["tables"][0]["rows"][0]["key"], "id=777", "{found}");
    assert_eq!(found["tables"][0]["rows"][0]["fault"], "different", "{found}");
    let text = verify(&scene, &["public.orders"]);
    text.expect_code(4);
    assert!(text.stdout.contains("different id=777") && text.stderr.contains("--repair"), "{text:?}");
    // By samples: some do not see it, one that is the whole does; together they would.
    let sampled = json(&verify(&scene, &["public.orders", "--sample", "5%", "-o", "json"]));
    let of = &sampled["tables"][0];
    assert!(of["sample"]["ranges"].as_u64() < of["sample"]["of"].as_u64(), "{sampled}");
    assert_eq!(of["source_rows"], of["target_rows"], "{sampled}");
    assert!(of["source_rows"].as_u64().is_some_and(|rows| rows > 0 && rows < 18000), "{sampled}");
    assert!(of["different"].as_u64() <= Some(1), "{sampled}");
    let all = json(&verify(&scene, &["public.orders", "--sample", "100%", "-o", "json"]));
    assert_eq!(all["tables"][0]["rows"][0]["key"], "id=777", "{all}");
    verify(&scene, &["--sample", "0%"]).expect_code(2);
    // A key that moves is one row too many and one too few.
    tamper(&mut scene, "public.items", "id", 50, "5000");
    let found = json(&verify(&scene, &["public.items", "-o", "json"]));
    let mut rows: Vec<String> = found["tables"][0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {}", row["fault"].as_str().unwrap(), row["key"].as_str().unwrap()))
        .collect();
    rows.sort();
    assert_eq!(rows, ["extra id=5000", "missing id=50"], "{found}");
    verify(&scene, &["public.orders", "public.items", "--repair"]).expect_code(4);
    verify(&scene, &["public.orders", "public.items"]).expect_code(0);
    scene.assert_equal(&["public.orders", "public.items"]);
    verify(&scene, &["public.nothing"]).expect_code(3).expect_error("PG009");
}

/// While the pipeline runs and rows change all the time, nothing is called different; and a row that is, is found.
#[test]
fn a_running_pipeline_is_compared_while_the_source_changes() {
    let mut scene = Scene::new("verify-running");
    scene.sql().exec(
        "create table orders (id int primary key, v int, f float8);
         insert into orders select i, 0, i from generate_series(1, 30000) i",
    );
    let mut running = scene.start_run(&[]);
    let table = scene.table("public.orders");
    until(LONG, "the first copy", || {
        assert!(running.is_running(), "{}", running.stderr());
        deltalog::position(&table, "shop").is_some()
    });
    let url = scene.pg.url("postgres", "shop");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = std::sync::Arc::clone(&stop);
        move || {
            let mut sql = crate::harness::sql::Sql::connect(&url).unwrap();
            let mut n = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                let (a, b) = (1 + n * 7919 % 30000, 30000 + n);
                sql.exec(&format!(
                    "update orders set v = v + 1 where id = {a}; insert into orders values ({b}, 0, 1)"
                ));
            }
            n
        }
    });
    for _ in 0..3 {
        let outcome = verify(&scene, &["public.orders", "-o", "json"]);
        outcome.expect_code(0);
        assert_eq!(json(&outcome)["tables"][0]["different"], 0);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written = writer.join().unwrap();
    assert!(written > 50, "the source changed {written} times only");
    running.terminate();
    running.wait(LONG).expect_code(0);
    tamper(&mut scene, "public.orders", "f", 12345, "0.5");
    let running = scene.start_run(&[]);
    until(LONG, "it runs", || {
        scene.sql().value("select count(*) from pg_replication_slots where active") == "1"
    });
    let outcome = verify(&scene, &["public.orders", "-o", "json"]);
    outcome.expect_code(4);
    assert_eq!(json(&outcome)["tables"][0]["rows"][0]["key"], "id=12345", "{}", outcome.stdout);
    running.terminate();
    running.wait(LONG).expect_code(0);
}
