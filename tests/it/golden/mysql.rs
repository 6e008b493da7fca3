//! The same for MySQL and MariaDB: every case of `tests/golden/debezium/{mysql,mariadb}`.

use super::case::{Case, Event, Found, Mode, ours, thinned};
use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;
use crate::harness::process::Strandline;
use crate::harness::{LONG, until};
use std::path::Path;
use std::time::{Duration, Instant};

/// Databases that cases make.
const DATABASES: [&str; 4] = ["shop", "inv", "zz", "Weird-Db"];

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
    let Some(scene) = MyScene::with(&format!("golden-{name}"), brand, &["--sql-mode=NO_ENGINE_SUBSTITUTION"])
    else {
        return;
    };
    let mut failures = Vec::new();
    for mut case in cases(name) {
        case.keep(|event| event.topic != "app");
        let found = run_case(&case, &scene);
        for mode in [Mode::Bare, Mode::WithSchema] {
            if let Err(difference) = case.compare(&found, mode) {
                failures.push(format!("== {} ({mode:?})\n{difference}", case.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

fn run_case(case: &Case, scene: &MyScene) -> Found {
    let mut sql = scene.sql();
    for database in DATABASES {
        sql.exec(&format!("drop database if exists `{database}`"));
    }
    sql.exec("create database shop character set utf8mb4");
    sql.exec("use shop");
    run_all(&mut sql, &case.setup);
    let configs = [("bare", false), ("schemas", true)].map(|(name, schemas)| {
        let include = DATABASES.map(|database| format!("{database}.*"));
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  type: mysql\n  url: {:?}\ntables:\n  include: {include:?}\n\
             snapshot: {{workers: 1}}\nsink:\n  type: stdout\n  commit: {{interval: 20ms}}\nformat:\n{}",
            scene.config.url,
            case.format(schemas)
        );
        let path = scene.dir().join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("the run directory can be written");
        path.to_str().expect("plain characters").to_owned()
    });
    let mut processes = configs.each_ref().map(|config| scene.start(&["run", "-c", config]));
    let lines = |process: &Strandline| process.stdout().lines().count();
    let is_read = |event: &&Event| event.value.as_ref().is_some_and(|v| v.contains("\"op\":\"r\""));
    let copied = case.bare.iter().filter(is_read).count();
    until(LONG, "all rows are read", || {
        processes.iter_mut().all(|process| lines(process) >= copied || process.is_done())
    });
    run_all(&mut sql, &case.workload);
    let since = Instant::now();
    while processes.iter_mut().any(|process| lines(process) < case.bare.len() && process.is_running())
        && since.elapsed() < Duration::from_secs(8)
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    let [bare, with_schema] = processes.map(|process| {
        process.terminate();
        let outcome = process.wait(LONG);
        match outcome.code {
            Some(0) if !outcome.stderr.contains("\"level\":\"error\"") => Ok(ours(&outcome.stdout)),
            code => Err(format!("exit code {code:?}\n{}", outcome.stderr)),
        }
    });
    Found { bare, with_schema: with_schema.map(thinned) }
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
