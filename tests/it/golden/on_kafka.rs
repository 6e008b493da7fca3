//! Cases that need a target with a memory: as the others, in topics.

use super::case::{Case, Event};
use super::masks::{self, Masks};
use crate::harness::kafka::shared;
use crate::harness::{LONG, Scene, until};
use regex::Regex;
use std::path::Path;

fn load(name: &str) -> Case {
    Case::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/debezium/postgres").join(name))
}

/// All records of these topics, as the recordings show them.
fn events(topics: &[&str], prefix: &str) -> Vec<Event> {
    let named = |text: &str| text.replace(&format!("\"name\":\"{prefix}\""), "\"name\":\"app\"");
    let records = shared().read_all(topics).into_iter().map(|record| Event {
        topic: record.topic.replacen(prefix, "app", 1),
        key: record.key,
        value: record.value.map(|value| named(&value)),
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| (name, if value == prefix { "app".to_owned() } else { value }))
            .collect(),
    });
    records.collect()
}

/// Topics of a broker that others use, too.
fn format_of(case: &Case, prefix: &str) -> String {
    case.format(false).replace("topic_prefix: \"app\"", &format!("topic_prefix: {prefix:?}"))
}

/// The address within the sequence is that of a chunk's end, or of a snapshot.
fn without_sequences(events: &[Event]) -> Vec<Event> {
    let sequence = Regex::new(r#""sequence":"\[\\"\d+\\",\\"\d+\\"\]","#).expect("an expression");
    let one = |event: &Event| {
        let value = event.value.as_ref().filter(|value| value.contains("\"incremental\""));
        let masked = value.map(|value| sequence.replace(value, "\"sequence\":S,").into_owned());
        Event { value: masked.or(event.value.clone()), ..event.clone() }
    };
    events.iter().map(one).collect()
}

fn compare(theirs: &[Event], ours: &[Event]) {
    let masked = |events: &[Event]| -> Vec<Event> {
        let mut masks = Masks { blind: true, ..Masks::default() };
        events.iter().map(|event| masks.apply(event)).collect()
    };
    let (theirs, ours) = (masked(theirs), masked(ours));
    for at in 0..theirs.len().max(ours.len()) {
        let (theirs, ours) = (theirs.get(at), ours.get(at));
        assert!(theirs == ours, "record {at}:\n{}", masks::shown(theirs, ours));
    }
}

/// Ids are random, but for that of a signal.
fn without_ids(events: &[Event]) -> Vec<Event> {
    let id = Regex::new(r#""id":"[0-9a-f-]{36}""#).expect("an expression");
    let time = Regex::new(r#""timestamp":\d+"#).expect("an expression");
    let masked = |text: &str| time.replace(&id.replace(text, "\"id\":I"), "\"timestamp\":T").into_owned();
    let one = |event: &Event| {
        let (key, value) = (event.key.as_deref().map(masked), event.value.as_deref().map(masked));
        Event { key, value, ..event.clone() }
    };
    events.iter().map(one).collect()
}

fn of_topic(events: &[Event], topic: &str) -> Vec<Event> {
    events.iter().filter(|event| event.topic == topic).cloned().collect()
}

/// Notifications; then `execute-snapshot` by the signal table. Each chunk of Debezium's has a place of its own in the
/// log; of ours, each snapshot.
#[test]
fn snapshots_are_told_and_read_again_as_debezium_does() {
    let case = load("notifications");
    let mut scene = Scene::on("golden-kafka", 15);
    let begin = |scene: &mut Scene, case: &Case, (prefix, tables): (&str, &[&str]), more: &str| {
        scene.config.name = prefix.into();
        scene.config.include = tables.iter().map(|table| (*table).to_owned()).collect();
        scene.config.slot = prefix.replace('-', "_");
        scene.config.interval = "5ms".into();
        scene.config.target = Some(format!("  type: kafka\n  brokers: [\"{}\"]\n", shared().address()));
        let notes = format!(
            "notification_enabled_channels: [sink, log]\n    notification_sink_topic_name: {prefix}-notes"
        );
        let format = format!("{}    {notes}\n", format_of(case, prefix));
        scene.config.more = format!("{more}snapshot: {{workers: 1, chunk_rows: 2}}\nformat:\n{format}");
        scene.sql().exec(&case.setup);
    };
    let prefix = "golden-notes";
    begin(&mut scene, &case, (prefix, &["public.t", "public.u"]), "");
    let running = scene.start_run(&[]);
    until(LONG, "all rows are read", || running.stderr().contains("type='COMPLETED'"));
    scene.sql().exec(&case.workload);
    running.terminate();
    running.wait(LONG).expect_code(0);
    scene.drain();
    let told = events(&["golden-notes-notes"], prefix);
    let told: Vec<Event> = told
        .into_iter()
        .map(|event| Event {
            topic: "notes".into(),
            value: event.value.map(|value| {
                value.replace("\"connector_name\":\"golden-notes\"", "\"connector_name\":\"app\"")
            }),
            ..event
        })
        .collect();
    let theirs = of_topic(&case.bare, "notes");
    assert_eq!(without_ids(&theirs)[..], without_ids(&told)[..theirs.len()]);
    // The second run had nothing to copy.
    assert!(told.last().and_then(|event| event.value.clone()).is_some_and(|value| value.contains("SKIPPED")));

    let case = load("snapshot_incremental");
    scene.sql().exec("drop table t, u");
    let prefix = "golden-incremental";
    begin(&mut scene, &case, (prefix, &["public.t"]), "signals: {table: public.sig}\n");
    scene.sql().exec("grant select, delete on sig to strandline");
    scene.drain();
    let running = scene.start_run(&[]);
    until(LONG, "it streams", || running.stderr().contains("took over"));
    scene.sql().exec(&case.workload);
    until(LONG, "all rows are read", || running.stderr().contains("its rows are right"));
    running.terminate();
    running.wait(LONG).expect_code(0);
    let theirs = of_topic(&case.bare, "app.public.t");
    assert_eq!(theirs.len(), 12);
    let found = events(&["golden-incremental.public.t"], prefix);
    compare(&without_sequences(&theirs), &without_sequences(&found));
    let told = shared().read_all(&["golden-incremental-notes"]);
    let of_signal = told.iter().filter(|record| record.key.as_deref() == Some("{\"id\":\"s1\"}"));
    let kinds: Vec<String> = of_signal
        .map(|record| {
            let value: serde_json::Value =
                serde_json::from_str(record.value.as_deref().expect("a value")).expect("JSON");
            format!("{} {}", value["type"], value["additional_data"]["total_rows_scanned"])
        })
        .collect();
    assert_eq!(kinds, ["\"STARTED\" null", "\"TABLE_SCAN_COMPLETED\" \"6\"", "\"COMPLETED\" null"]);
}
