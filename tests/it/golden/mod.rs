//! Events against those of a running Debezium 3.6: every case of `tests/golden/debezium`.
//!
//! A case's SQL runs on a real server, strandline writes events to standard output, and they must equal the
//! recorded ones byte for byte, but for what differs from run to run (`masks`) and for what is listed in
//! `docs/debezium-deviations.md` (`deviations`).

mod case;
mod deviations;
mod masks;
mod mysql;
mod on_kafka;

use crate::harness::{Scene, matrix};
use case::{Case, Mode};
use std::path::Path;

/// Cases that are not run, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("heartbeat_action", "kafka_control: how often it is run is no matter of bytes"),
    ("notifications", "on_kafka: they go to a topic"),
    (
        "schema_change_burst",
        "a table that changed twice before its stream was read is copied: it comes as op r",
    ),
    ("pg18_vector", "pgvector is not installed for tests: see the unit tests of its values"),
    ("snapshot_incremental", "on_kafka: a request must be on record"),
];

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debezium/postgres");
    let mut names: Vec<_> = std::fs::read_dir(root)
        .expect("the golden cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    let wanted = std::env::var("STRANDLINE_GOLDEN").ok();
    names
        .iter()
        .map(|path| Case::load(path))
        .filter(|case| !LEFT_OUT.iter().any(|(name, _)| *name == case.name))
        .filter(|case| wanted.as_deref().is_none_or(|wanted| case.name.starts_with(wanted)))
        .collect()
}

fn run(share: usize, of: usize, major: u32) {
    if matrix().is_some_and(|on| on != major) {
        return;
    }
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.major == major).collect();
    let share: Vec<&Case> =
        cases.iter().enumerate().filter(|(at, _)| at % of == share).map(|(_, c)| c).collect();
    if share.is_empty() {
        return;
    }
    let mut scene = Scene::on("golden", major);
    let mut failures = Vec::new();
    for case in share {
        let found = case.run(&mut scene);
        for mode in [Mode::Bare, Mode::WithSchema] {
            if let Err(difference) = case.compare(&found, mode) {
                failures.push(format!("== {} ({mode:?})\n{difference}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn as_debezium_writes_them_1() {
    run(0, 2, 15);
}

#[test]
fn as_debezium_writes_them_2() {
    run(1, 2, 15);
}

#[test]
fn as_debezium_writes_them_on_18() {
    run(0, 1, 18);
}

#[test]
fn what_is_left_out_is_there() {
    for (name, _) in LEFT_OUT {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debezium/postgres").join(name);
        assert!(path.is_dir(), "{name}");
    }
}

/// The page and the tests say the same.
#[test]
fn every_deviation_is_documented() {
    let page = include_str!("../../../docs/debezium-deviations.md");
    for deviation in deviations::ALL {
        let row = page.lines().find(|line| line.starts_with(&format!("| {} |", deviation.id)));
        let row = row.unwrap_or_else(|| panic!("docs/debezium-deviations.md has no row {}", deviation.id));
        assert!(
            row.contains(deviation.case),
            "row {} does not name the case {}",
            deviation.id,
            deviation.case
        );
    }
}
