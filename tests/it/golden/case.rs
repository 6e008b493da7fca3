//! One case: its SQL, its configuration, what was recorded, and the run that is held against it.

use super::deviations;
use super::masks::{self, Masks};
use crate::harness::process::Strandline;
use crate::harness::sql::Sql;
use crate::harness::{LONG, Scene, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which of the two recordings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// `schemas.enable=false`.
    Bare,
    /// `schemas.enable=true`: only the first record of each kind.
    WithSchema,
}

/// A case.
pub(super) struct Case {
    pub(super) name: String,
    /// What deviations call it: `basic_crud`, `mysql/basic_crud`.
    pub(super) id: String,
    pub(super) major: u32,
    pub(super) setup: String,
    pub(super) workload: String,
    options: Vec<(String, String)>,
    pub(super) bare: Vec<Event>,
    with_schema: Vec<Event>,
    path: PathBuf,
}

/// A record, its parts as they were written.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Event {
    pub(super) topic: String,
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

/// What our runs wrote.
pub(super) struct Found {
    pub(super) bare: Result<Vec<Event>, String>,
    pub(super) with_schema: Result<Vec<Event>, String>,
}

impl Case {
    pub(super) fn load(path: &Path) -> Case {
        let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
        let options: serde_json::Map<String, Value> =
            serde_json::from_str(&read("connector.json")).expect("the connector's configuration");
        let options: Vec<(String, String)> = options
            .into_iter()
            .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let group = path.parent().and_then(|path| path.file_name()).and_then(|name| name.to_str());
        let id = match group.expect("a name") {
            "postgres" => name.clone(),
            brand => format!("{brand}/{name}"),
        };
        let on_18 = options.iter().any(|(key, value)| key == "#server" && value == "pg18");
        Case {
            name,
            id,
            major: if on_18 { 18 } else { 15 },
            setup: read("setup.sql"),
            workload: read("workload.sql"),
            options,
            path: path.to_owned(),
            bare: recorded(&read("events.jsonl")),
            with_schema: recorded(&read("events.schemas.jsonl")),
        }
    }

    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Runs it: the copy, then the workload, then what came of it; both modes beside each other.
    pub(super) fn run(&self, scene: &mut Scene) -> Found {
        fresh_database(scene);
        let mut sql = scene.sql();
        run_all(&mut sql, &self.setup);
        drop(sql);
        let configs = [Mode::Bare, Mode::WithSchema].map(|mode| self.config(scene, mode));
        if LIVE.contains(&self.name.as_str()) {
            return self.run_live(scene, &configs);
        }
        let has_snapshot = self.option("snapshot.mode") != Some("no_data");
        let copy =
            if has_snapshot { &["--until-caught-up"][..] } else { &["--until-caught-up", "--no-snapshot"] };
        let first = both(scene, &configs, copy);
        let mut sql = scene.sql();
        run_all(&mut sql, &self.workload);
        drop(sql);
        let second = both(scene, &configs, &["--until-caught-up", "--no-snapshot"]);
        let mut all = first.into_iter().zip(second).map(|(first, second)| {
            let mut events = ours(&first?);
            events.extend(ours(&second?));
            Ok(events)
        });
        let none = || Err("it was not run".to_owned());
        Found {
            bare: all.next().unwrap_or_else(none),
            with_schema: all.next().unwrap_or_else(none).map(thinned),
        }
    }

    /// The same, with processes that run all the time.
    fn run_live(&self, scene: &mut Scene, configs: &[String; 2]) -> Found {
        let processes = configs.each_ref().map(|config| scene.start(&["run", "-c", config]));
        let lines = |process: &Strandline| process.stdout().lines().count();
        let is_read = |event: &&Event| event.value.as_ref().is_some_and(|v| v.contains("\"op\":\"r\""));
        let copied = self.bare.iter().filter(is_read).count();
        let is_copied =
            |process: &Strandline| lines(process) >= copied && process.stderr().contains("table copied");
        until(LONG, "all rows are read", || processes.iter().all(is_copied));
        let mut sql = scene.sql();
        // A message of our own says that everything before it came through.
        let pass = |sql: &mut Sql, mark: &str| {
            sql.exec(&format!("select pg_logical_emit_message(true, '{mark}', '')"));
            until(LONG, "the mark comes through", || {
                processes.iter().all(|process| process.stdout().contains(mark))
            });
        };
        pass(&mut sql, "mark-at-first.");
        match self.option("#pace") {
            None => run_all(&mut sql, &self.workload),
            Some(_) => {
                for (at, statement) in paced(&self.workload).iter().enumerate() {
                    run_all(&mut sql, statement);
                    pass(&mut sql, &format!("mark-{at}."));
                }
            }
        }
        pass(&mut sql, "mark-at-last.");
        drop(sql);
        let [bare, with_schema] = processes.map(|process| {
            process.terminate();
            let outcome = process.wait(LONG);
            match outcome.code {
                Some(0) if !outcome.stderr.contains("\"level\":\"error\"") => {
                    let is_mark = |event: &Event| event.key.as_ref().is_some_and(|key| key.contains("mark-"));
                    Ok(ours(&outcome.stdout).into_iter().filter(|event| !is_mark(event)).collect())
                }
                code => Err(format!("exit code {code:?}\n{}", outcome.stderr)),
            }
        });
        Found { bare, with_schema: with_schema.map(thinned) }
    }

    /// The configuration's path. One worker: several read the partitions of a table in no order.
    fn config(&self, scene: &Scene, mode: Mode) -> String {
        let (name, schemas) = match mode {
            Mode::Bare => ("bare", false),
            Mode::WithSchema => ("schemas", true),
        };
        let url = scene.pg.url("postgres", "shop");
        // A publication that the case makes itself.
        let publication = match self.option("publication.autocreate.mode") {
            Some("disabled") => "dbz_publication".to_owned(),
            _ => format!("pub_{name}"),
        };
        let include = match self.option("table.include.list") {
            Some(_) => "[\"public.p\"]",
            // New tables are copied when they are noticed.
            None if self.name == "schema_change" => "[\"public.t\"]",
            None => "[\"*.*\"]",
        };
        let text = format!(
            "version: 1\nname: {name}\nsource:\n  type: postgres\n  url: {url:?}\n  publication: {publication}\n\
             tables:\n  include: {include}\n{}snapshot: {{workers: 1}}\nsink:\n  type: stdout\n  commit: {{interval: 20ms}}\n\
             format:\n{}",
            self.overrides(),
            self.format(schemas)
        );
        scene.write_text(&format!("{name}.yaml"), &text)
    }

    /// The connector tells definitions. Those of PostgreSQL have none.
    pub(super) fn has_definitions(&self) -> bool {
        self.id.contains('/') && self.option("include.schema.changes") != Some("false")
    }

    /// `tables.overrides`, of the options about columns.
    pub(super) fn overrides(&self) -> String {
        let mut tables: BTreeMap<&str, serde_json::Map<String, Value>> = BTreeMap::new();
        for (key, value) in &self.options {
            let number = |key: &str| key.split('.').find_map(|word| word.parse::<usize>().ok());
            for column in value.split(',').filter(|_| key.starts_with("column.")) {
                let Some((table, column)) = column.rsplit_once('.') else { continue };
                let (into, value) = match key.as_str() {
                    "column.include.list" => ("include", None),
                    "column.exclude.list" => ("exclude", None),
                    // The first form of hashes left the value as it is.
                    key if key.starts_with("column.mask.hash") || key.starts_with("column.propagate") => {
                        continue;
                    }
                    key if key.starts_with("column.mask") => {
                        ("mask", Some(Value::from("*".repeat(number(key).expect("a length")))))
                    }
                    key => ("truncate", Some(Value::from(number(key).expect("a length")))),
                };
                let table = tables.entry(table).or_default();
                match value {
                    None => {
                        let list = table.entry(into).or_insert_with(|| Value::from(Vec::<Value>::new()));
                        list.as_array_mut().expect("a list").push(Value::from(column));
                    }
                    Some(value) => {
                        let map = table.entry(into).or_insert_with(|| serde_json::json!({}));
                        map.as_object_mut().expect("a map").insert(column.to_owned(), value);
                    }
                }
            }
        }
        let all = tables.into_iter().map(|(table, rules)| (table, serde_json::json!({"columns": rules})));
        let all: BTreeMap<_, _> = all.collect();
        if all.is_empty() { String::new() } else { format!("  overrides: {}\n", serde_json::json!(all)) }
    }

    /// Takes a topic's records out of both recordings.
    pub(super) fn take_topic(&mut self, topic: &str) -> [Vec<Event>; 2] {
        [&mut self.bare, &mut self.with_schema].map(|events| {
            let (taken, left) = std::mem::take(events).into_iter().partition(|event| event.topic == topic);
            *events = left;
            taken
        })
    }

    pub(super) fn format(&self, schemas: bool) -> String {
        let mut debezium = format!("    schemas_enable: {schemas}\n");
        // The converter's own default, which is not ours.
        let replace = self.option("#converter.replace.null.with.default") != Some("false");
        debezium.push_str(&format!("    replace_null_with_default: {replace}\n"));
        // Likewise.
        if self.has_definitions() {
            debezium.push_str("    include_schema_changes: true\n");
        }
        if let Some(format) = self.option("#converter.decimal.format") {
            debezium.push_str(&format!("    decimal_format: {}\n", format.to_lowercase()));
        }
        let mut flat = String::new();
        for (key, value) in &self.options {
            if let Some(key) = key.strip_prefix("transforms.unwrap.") {
                match key {
                    "type" => {}
                    "add.fields" | "add.headers" => {
                        flat.push_str(&format!("    {}: [{value}]\n", key.replace('.', "_")));
                    }
                    _ => flat.push_str(&format!("    {}: {value:?}\n", key.replace('.', "_"))),
                }
                continue;
            }
            if value.ends_with("TinyIntOneToBooleanConverter") {
                debezium.push_str("    tinyint_one_as_boolean: true\n");
            }
            if key == "heartbeat.interval.ms" {
                debezium.push_str(&format!("    heartbeat_interval: {value}ms\n"));
            }
            if KNOWN.contains(&key.as_str()) {
                let value = match key.as_str() {
                    "skipped.operations" => format!("[{value}]"),
                    "message.key.columns" => format!("[{value:?}]"),
                    _ if value == "true" || value == "false" => value.clone(),
                    _ => format!("{value:?}"),
                };
                debezium.push_str(&format!("    {}: {value}\n", key.replace('.', "_")));
            }
        }
        let style = if self.option("transforms").is_some() { "flat" } else { "debezium" };
        let flat = if flat.is_empty() { flat } else { format!("  flat:\n{flat}") };
        format!("  style: {style}\n{flat}  debezium:\n{debezium}")
    }

    /// What differs, if anything does.
    pub(super) fn compare(&self, found: &Found, mode: Mode) -> Result<(), String> {
        let (recorded, found) = match mode {
            Mode::Bare => (&self.bare, &found.bare),
            Mode::WithSchema => (&self.with_schema, &found.with_schema),
        };
        if deviations::is_left_out(&self.id, mode) {
            return Ok(());
        }
        let found = match (found, deviations::stops(&self.id, mode)) {
            (Ok(found), None) => found,
            (Err(said), Some(code))
                if said.contains(&format!("error {code}"))
                    || said.contains(&format!("\"code\":\"{code}\"")) =>
            {
                return Ok(());
            }
            (Ok(_), Some(code)) => return Err(format!("it did not stop with {code}")),
            (Err(said), _) => return Err(said.clone()),
        };
        let blind = mode == Mode::WithSchema;
        let masked = |events: &[Event]| -> Vec<Event> {
            let mut masks = Masks { blind, ..Masks::default() };
            events.iter().map(|event| masks.apply(event)).collect()
        };
        let found = masked(found);
        let expected = if deviations::is_recorded(&self.id) {
            self.on_file(mode, &found)
        } else {
            masked(&deviations::applied(&self.id, recorded.clone()))
        };
        let (expected, found) = (beats_last(expected), beats_last(found));
        let mut differences = Vec::new();
        for at in 0..expected.len().max(found.len()) {
            let (theirs, ours) = (expected.get(at), found.get(at));
            if theirs != ours {
                differences.push(format!("record {at}:\n{}", masks::shown(theirs, ours)));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        let total = differences.len();
        differences.truncate(4);
        Err(format!("{total} of {} records differ\n{}", expected.len(), differences.join("\n")))
    }

    /// Our own records, written when `STRANDLINE_GOLDEN_WRITE` is set: to be looked at before they are kept.
    fn on_file(&self, mode: Mode, found: &[Event]) -> Vec<Event> {
        let name = match mode {
            Mode::Bare => "events.jsonl",
            Mode::WithSchema => "events.schemas.jsonl",
        };
        let ours = self.path.join("../../ours").join(&self.id);
        if std::env::var_os("STRANDLINE_GOLDEN_WRITE").is_some() {
            std::fs::create_dir_all(&ours).expect("a directory");
            let line = |event: &Event| {
                serde_json::json!({"topic": event.topic, "key": event.key, "value": event.value, "headers": event.headers})
                    .to_string() + "\n"
            };
            std::fs::write(ours.join(name), found.iter().map(line).collect::<String>()).expect("a file");
        }
        recorded(&std::fs::read_to_string(ours.join(name)).expect("our own records"))
    }
}

/// Heartbeats come at any time and in any number: one of each form, behind everything else.
fn beats_last(events: Vec<Event>) -> Vec<Event> {
    let is_beat = |event: &Event| event.key.as_ref().is_some_and(|key| key.contains("serverName"));
    let (mut beats, mut events): (Vec<Event>, Vec<Event>) = events.into_iter().partition(is_beat);
    beats.dedup();
    events.append(&mut beats);
    events
}

/// Cases whose tables change: a process that does not run meanwhile would copy them again.
const LIVE: [&str; 4] = ["enum_grows", "heartbeat", "schema_change", "schema_change_burst"];

/// Options that have the same name here, with `_` for `.`.
const KNOWN: [&str; 23] = [
    "include.query",
    "skip.messages.without.change",
    "bigint.unsigned.handling.mode",
    "topic.prefix",
    "decimal.handling.mode",
    "time.precision.mode",
    "binary.handling.mode",
    "interval.handling.mode",
    "hstore.handling.mode",
    "money.fraction.digits",
    "include.unknown.datatypes",
    "unavailable.value.placeholder",
    "schema.name.adjustment.mode",
    "field.name.adjustment.mode",
    "topic.delimiter",
    "topic.transaction",
    "topic.heartbeat.prefix",
    "tombstones.on.delete",
    "provide.transaction.metadata",
    "extended.headers.enabled",
    "skipped.operations",
    "message.key.columns",
    "delete.tombstone.handling.mode",
];

fn both(scene: &Scene, configs: &[String; 2], more: &[&str]) -> [Result<String, String>; 2] {
    let started = configs.each_ref().map(|config| {
        let mut arguments = vec!["run", "-c", config];
        arguments.extend(more);
        scene.start(&arguments)
    });
    started.map(|process| {
        let outcome = process.wait(LONG);
        if outcome.code == Some(0) && !outcome.stderr.contains("\"level\":\"error\"") {
            Ok(outcome.stdout)
        } else {
            Err(format!("exit code {:?}\n{}", outcome.code, outcome.stderr))
        }
    })
}

/// A database without anything, as when the case was recorded.
fn fresh_database(scene: &Scene) {
    let mut sql = Sql::connect(&scene.pg.url("postgres", "postgres")).expect("a session");
    sql.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active");
    sql.exec("drop database if exists shop with (force)");
    sql.exec("create database shop");
}

/// Each statement by itself, so that only those between `begin` and `commit` share a transaction.
fn run_all(sql: &mut Sql, script: &str) {
    let mut rest = script;
    while let Some(at) = rest.find("from stdin;\n") {
        let (before, copy) = rest.split_at(at + "from stdin".len());
        let (data, behind) = copy[";\n".len()..].split_once("\\.\n").expect("an end of the copy's data");
        let start = before.rfind("copy ").expect("a copy");
        statements(&before[..start]).iter().for_each(|statement| sql.exec(statement));
        sql.copy_in(&before[start..], data);
        rest = behind;
    }
    statements(rest).iter().for_each(|statement| sql.exec(statement));
}

/// The lines of a script, each with the statements that it holds.
fn paced(script: &str) -> Vec<&str> {
    script.lines().filter(|line| !line.trim().is_empty()).collect()
}

/// Splits at semicolons outside of quotes.
fn statements(script: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    let mut open: Option<String> = None;
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let dollar = dollar_tag(rest);
        let length = match (&open, c) {
            (Some(quote), _) if rest.starts_with(quote.as_str()) => {
                let length = quote.len();
                open = None;
                length
            }
            (None, '\'' | '"') => {
                open = Some(c.to_string());
                1
            }
            (None, '$') if dollar.is_some() => {
                let tag = dollar.expect("a tag").to_owned();
                let length = tag.len();
                open = Some(tag);
                length
            }
            (None, ';') => {
                all.push(std::mem::take(&mut current));
                rest = &rest[1..];
                continue;
            }
            _ => c.len_utf8(),
        };
        current.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    all.push(current);
    all.retain(|statement| !statement.trim().is_empty());
    all
}

/// `$$` or `$tag$` at the beginning.
fn dollar_tag(text: &str) -> Option<&str> {
    let end = text.strip_prefix('$')?.find('$')?;
    let tag = &text[..end + 2];
    tag[1..=end].chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(tag)
}

fn recorded(text: &str) -> Vec<Event> {
    let one = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("a record");
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        if let (Some(key), Some(partition)) = (text("key"), value["partition"].as_u64())
            && !value["topic"].as_str().is_some_and(|topic| topic.contains("heartbeat"))
            && !key.contains("databaseName")
        {
            let ours = strandline::debezium::partition_of(key.as_bytes(), 4);
            assert_eq!(u64::from(ours), partition, "the partition of {key}");
        }
        let headers = value["headers"].as_array().into_iter().flatten().map(|pair| {
            let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
            (text(0), text(1))
        });
        Event {
            topic: text("topic").expect("a topic"),
            key: text("key"),
            value: text("value"),
            headers: headers.collect(),
        }
    };
    text.lines().map(one).collect()
}

/// Our lines; keys and values as they stand there.
pub(super) fn ours(stdout: &str) -> Vec<Event> {
    stdout.lines().map(|line| own(line).unwrap_or_else(|| panic!("not a record: {line}"))).collect()
}

fn own(line: &str) -> Option<Event> {
    let rest = line.strip_prefix("{\"topic\":")?;
    let (topic, rest) = rest.split_at(masks::json_length(rest)?);
    let rest = rest.strip_prefix(",\"key\":")?;
    let (key, rest) = rest.split_at(masks::json_length(rest)?);
    let rest = rest.strip_prefix(",\"value\":")?;
    let (value, rest) = rest.split_at(masks::json_length(rest)?);
    let headers = rest.strip_prefix(",\"headers\":")?.strip_suffix('}')?;
    let some = |text: &str| (text != "null").then(|| text.to_owned());
    Some(Event {
        topic: serde_json::from_str(topic).ok()?,
        key: some(key),
        value: some(value),
        headers: serde_json::from_str(headers).ok()?,
    })
}

/// The first record of each kind: as the recordings with schemas are.
pub(super) fn thinned(events: Vec<Event>) -> Vec<Event> {
    let mut seen = std::collections::HashSet::new();
    let schema = |part: &Option<String>| {
        part.as_ref().and_then(|text| {
            let rest = text.strip_prefix("{\"schema\":")?;
            Some(rest[..masks::json_length(rest)?].to_owned())
        })
    };
    let op = |event: &Event| {
        let value: Value = serde_json::from_str(event.value.as_deref()?).ok()?;
        let payload = &value["payload"];
        payload["op"].as_str().or_else(|| payload["status"].as_str()).map(str::to_owned)
    };
    events
        .into_iter()
        .filter(|event| {
            seen.insert((event.topic.clone(), op(event), schema(&event.key), schema(&event.value)))
        })
        .collect()
}
