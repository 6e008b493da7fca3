//! The same for MySQL and MariaDB: every case of `tests/golden/debezium/{mysql,mariadb}`.

use super::case::{Case, Event, Found, Mode, ours, thinned};
use super::deviations;
use super::masks::{self, Masks};
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;
use crate::harness::process::Strandline;
use crate::harness::{LONG, until};
use std::path::Path;

/// Databases that cases make.
const DATABASES: [&str; 4] = ["shop", "inv", "zz", "Weird-Db"];

/// Cases whose tables change so fast that their log would be read with columns of later.
const PACED: [&str; 2] = ["schema_change", "bulk"];

/// The topic of definitions.
const DEFINITIONS: &str = "app";

/// Its table is left out.
const UNTOLD: &str = r#""table":"s""#;

/// Cases that are not run, and why.
const LEFT_OUT: &[(&str, &str)] = &[];

fn cases(brand: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debezium").join(brand);
    let mut paths: Vec<_> = std::fs::read_dir(root)
        .expect("the golden cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort();
    let wanted = std::env::var("STRANDLINE_GOLDEN").ok();
    paths
        .iter()
        .map(|path| Case::load(path))
        .filter(|case| !LEFT_OUT.iter().any(|(name, _)| *name == format!("{brand}/{}", case.name)))
        .filter(|case| wanted.as_deref().is_none_or(|wanted| case.name.starts_with(wanted)))
        .collect()
}

fn run(name: &str, brand: Brand) {
    // As when the cases were recorded.
    let charset = if name == "mariadb" { "latin1" } else { "utf8mb4" };
    let options = ["--sql-mode=NO_ENGINE_SUBSTITUTION", &format!("--character-set-server={charset}")];
    let Some(scene) = MyScene::with(&format!("golden-{name}"), brand, &options) else {
        return;
    };
    let mut failures = Vec::new();
    for mut case in cases(name) {
        let recorded = case.take_topic(DEFINITIONS);
        let (found, told) = apart(run_case(&case, &scene));
        for (mut recorded, told) in recorded.into_iter().zip(told) {
            // Of a connector that stopped at once.
            if (recorded.is_empty() && case.has_definitions()) || deviations::defines_else(&case.id) {
                continue;
            }
            recorded.retain(|event| !event.value.as_ref().is_some_and(|value| value.contains(UNTOLD)));
            if let Err(difference) = compare_definitions(&case.id, recorded, &told) {
                failures.push(format!("== {}: definitions\n{difference}", case.id));
            }
        }
        if deviations::is_copied(&case.id) {
            continue;
        }
        for mode in [Mode::Bare, Mode::WithSchema] {
            if let Err(difference) = case.compare(&found, mode) {
                failures.push(format!("== {} ({mode:?})\n{difference}", case.id));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// The definitions by themselves; where there was an error, what was written until then is not known.
fn apart(found: Found) -> (Found, [Option<Vec<Event>>; 2]) {
    let split = |events: Result<Vec<Event>, String>| match events {
        Ok(events) => {
            let (told, rows) = events.into_iter().partition(|event: &Event| event.topic == DEFINITIONS);
            (Ok(rows), Some(told))
        }
        Err(said) => (Err(said), None),
    };
    let ((bare, told_bare), (with_schema, told)) = (split(found.bare), split(found.with_schema));
    (Found { bare, with_schema }, [told_bare, told])
}

fn compare_definitions(id: &str, recorded: Vec<Event>, told: &Option<Vec<Event>>) -> Result<(), String> {
    let Some(told) = told else { return Ok(()) };
    // The table of marks is not of the case.
    let is_of_case = |event: &&Event| !event.key.as_ref().is_some_and(|key| key.contains("\"zz\""));
    let masked = |events: Vec<Event>| -> Vec<Event> {
        let mut masks = Masks::default();
        events.iter().map(|event| masks.apply(event)).collect()
    };
    let recorded = masked(recorded.into_iter().map(|event| deviations::defined(id, event)).collect());
    let told = masked(told.iter().filter(is_of_case).cloned().collect());
    let differs = |at: &usize| recorded.get(*at) != told.get(*at);
    let first = (0..recorded.len().max(told.len())).filter(differs).take(12);
    let shown: Vec<String> =
        first.map(|at| format!("record {at}:\n{}", masks::shown(recorded.get(at), told.get(at)))).collect();
    if shown.is_empty() { Ok(()) } else { Err(shown.join("\n")) }
}

fn run_case(case: &Case, scene: &MyScene) -> Found {
    let mut sql = scene.sql();
    for database in DATABASES {
        sql.exec(&format!("drop database if exists `{database}`"));
    }
    sql.exec("create database shop");
    sql.exec("use shop");
    run_all(&mut sql, &case.setup);
    sql.exec("create database zz");
    sql.exec("create table zz.done (id int primary key)");
    sql.exec("use shop");
    let configs = [("bare", false), ("schemas", true)].map(|(name, schemas)| {
        let include = DATABASES.map(|database| format!("{database}.*"));
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  type: mysql\n  url: {:?}\ntables:\n  include: {include:?}\n  exclude: [\"shop.s\"]\n{}snapshot: {{workers: 1}}\nsink:\n  type: stdout\n  commit: {{interval: 20ms}}\nformat:\n{}",
            scene.config.url,
            case.overrides(),
            case.format(schemas)
        );
        let path = scene.dir().join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("the run directory can be written");
        path.to_str().expect("plain characters").to_owned()
    });
    let mut processes = configs.each_ref().map(|config| scene.start(&["run", "-c", config]));
    let mut marker = Marker { sql: scene.sql(), next: FIRST_MARK };
    // The rows of the copies come first.
    until(LONG, "everything is copied", || {
        processes.iter_mut().all(|process| process.stderr().contains("\"zz.done\"") || process.is_done())
    });
    marker.passes(&mut processes);
    let is_paced = case.option("#pace").is_some() || PACED.iter().any(|start| case.name.starts_with(start));
    for statement in statements(&case.workload) {
        sql.exec(&statement);
        if is_paced {
            marker.passes(&mut processes);
        }
    }
    marker.passes(&mut processes);
    let [bare, with_schema] = processes.map(|process| {
        process.terminate();
        let outcome = process.wait(LONG);
        match outcome.code {
            Some(_) if deviations::is_copied(&case.id) => Ok(without_marks(ours(&outcome.stdout))),
            Some(0) if !outcome.stderr.contains("\"level\":\"error\"") => {
                Ok(without_marks(ours(&outcome.stdout)))
            }
            code => Err(format!("exit code {code:?}\n{}", outcome.stderr)),
        }
    });
    Found { bare, with_schema: with_schema.map(thinned) }
}

/// A table beside the case's own, as there was one when the cases were recorded: what stands in the output before its
/// row has come.
struct Marker {
    sql: MySql,
    next: u32,
}

const FIRST_MARK: u32 = 7_700_001;

impl Marker {
    /// Everything that was done until now is in all outputs.
    fn passes(&mut self, processes: &mut [Strandline; 2]) {
        let mark = format!("\"id\":{}", self.next);
        self.sql.exec(&format!("insert into zz.done values ({})", self.next));
        self.next += 1;
        until(LONG, "the mark comes through", || {
            processes.iter_mut().all(|process| process.stdout().contains(&mark) || process.is_done())
        });
    }
}

fn without_marks(mut events: Vec<Event>) -> Vec<Event> {
    // Its transactions are told, too.
    let id =
        |event: &Event| event.key.as_ref().and_then(|key| key.split("\"id\":").last().map(str::to_owned));
    let is_end = |event: &Event| event.value.as_ref().is_some_and(|value| value.contains("\"zz.done\""));
    let ended: Vec<_> = events.iter().filter(|event| is_end(event)).filter_map(id).collect();
    events.retain(|event| {
        let of_mark = event.topic.ends_with("transaction") && id(event).is_some_and(|id| ended.contains(&id));
        !of_mark && !event.topic.ends_with("zz.done")
    });
    events
}

/// Each statement by itself.
fn run_all(sql: &mut MySql, script: &str) {
    for statement in statements(script) {
        sql.exec(&statement);
    }
}

/// Splits at semicolons outside of quotes, in which a backslash takes the next character.
fn statements(script: &str) -> Vec<String> {
    let (mut all, mut current, mut open) = (Vec::new(), String::new(), None);
    let mut chars = script.chars();
    while let Some(c) = chars.next() {
        match (open, c) {
            (Some(_), '\\') => {
                current.push(c);
                current.extend(chars.next());
                continue;
            }
            (Some(quote), c) if c == quote => open = None,
            (None, '\'' | '"' | '`') => open = Some(c),
            (None, ';') => {
                all.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    all.push(current);
    all.retain(|statement| !statement.trim().is_empty());
    all
}

#[test]
fn as_debezium_writes_them_for_mysql() {
    run("mysql", Brand::MySql9);
}

#[test]
fn as_debezium_writes_them_for_mariadb() {
    run("mariadb", Brand::MariaDb1011);
}
