//! What differs from run to run, as `tests/golden/debezium/README.md` lists it.

use super::case::Event;
use regex::{Captures, Regex};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Numbers that differ from run to run become the rank of their first appearance.
#[derive(Default)]
pub(super) struct Masks {
    pub(super) ranks: HashMap<(&'static str, String), usize>,
    /// Not even that: the recordings with schemas do not have every record.
    pub(super) blind: bool,
    pub(super) in_snapshot: bool,
}

static TIMES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""(ts_ms|ts_us|ts_ns|__source_ts_ms)":\d+"#).unwrap());
static VERSION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""version":"[^"]*","connector""#).unwrap());
static NUMBERS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""(txId|lsn|__lsn)":(\d+)"#).unwrap());
static SEQUENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""sequence":"\[(null|\\"\d+\\"),\\"(\d+)\\"\]""#).unwrap());
/// In an event, its own place; in BEGIN and END a place that no event need have.
static ID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""id":"(\d+):(\d+)""#).unwrap());
/// By GTIDs.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""id":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}:\d+|\d+-\d+-\d+)""#).unwrap()
});
static MESSAGE_ID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"io\.debezium\.connector\.postgresql\.LogicalDecodingMessageMonitor\$LogicalDecodingMessageId@[0-9a-f]+")
        .unwrap()
});
/// Of a binary log.
static PLACES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""(gtid|file|pos|thread)":("[^"]*"|\d+)"#).unwrap());
static SERVER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""server_id":[1-9]\d*"#).unwrap());
static COLLECTIONS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#""data_collections":\[([^\]]*)\]"#).unwrap());

impl Masks {
    /// The snapshot's own numbers may happen to be those of the first transaction after it.
    fn rank(&mut self, kind: &'static str, number: &str) -> usize {
        if self.blind {
            return 0;
        }
        let kind = match (kind, self.in_snapshot) {
            ("lsn", true) => "lsn of the snapshot",
            ("xid", true) => "xid of the snapshot",
            (kind, _) => kind,
        };
        let next = self.ranks.keys().filter(|(of, _)| *of == kind).count() + 1;
        *self.ranks.entry((kind, number.to_owned())).or_insert(next)
    }

    pub(super) fn apply(&mut self, event: &Event) -> Event {
        self.in_snapshot = event.value.as_ref().is_some_and(|value| {
            !value.contains("\"snapshot\":\"false\"") && value.contains("\"snapshot\":")
        });
        let is_transaction = event.value.as_ref().is_some_and(|value| value.contains("\"status\":\""));
        let mut mask = |text: &String| self.mask(text, is_transaction);
        let (key, value) = (event.key.as_ref().map(&mut mask), event.value.as_ref().map(&mut mask));
        let headers = event.headers.iter().map(|(name, value)| {
            let value = if name == "__debezium.context.runId" { "R" } else { value };
            (name.clone(), value.to_owned())
        });
        Event { topic: event.topic.clone(), key, value, headers: headers.collect() }
    }

    fn mask(&mut self, text: &str, is_transaction: bool) -> String {
        let text = TIMES.replace_all(text, "\"$1\":T");
        let text = VERSION.replace_all(&text, "\"version\":\"V\",\"connector\"");
        let text = SEQUENCE.replace_all(&text, |found: &Captures<'_>| {
            format!("\"sequence\":\"[P,{}]\"", self.rank("lsn", &found[2]))
        });
        let text = NUMBERS.replace_all(&text, |found: &Captures<'_>| {
            let kind = if &found[1] == "txId" { "xid" } else { "lsn" };
            format!("\"{}\":{}", &found[1], self.rank(kind, &found[2]))
        });
        let text = SERVER.replace_all(&text, "\"server_id\":S");
        let text = PLACES.replace_all(&text, |found: &Captures<'_>| {
            let kind = match &found[1] {
                "gtid" => return format!("\"gtid\":{}", self.rank("gtid", found[2].trim_matches('"'))),
                "file" => "file",
                "pos" => "pos",
                _ => "thread",
            };
            format!("\"{}\":{}", &found[1], self.rank(kind, &found[2]))
        });
        let text = ID.replace_all(&text, |found: &Captures<'_>| {
            let xid = self.rank("xid", &found[1]);
            let lsn = if is_transaction { "L".to_owned() } else { self.rank("lsn", &found[2]).to_string() };
            format!("\"id\":\"{xid}:{lsn}\"")
        });
        let text = NAMED.replace_all(&text, |found: &Captures<'_>| {
            format!("\"id\":\"{}\"", self.rank("gtid", &found[1]))
        });
        let text = MESSAGE_ID.replace_all(&text, "LOGICAL_DECODING_MESSAGE");
        let text = COLLECTIONS.replace_all(&text, |found: &Captures<'_>| {
            let mut items: Vec<&str> = found[1].split("},").map(|item| item.trim_end_matches('}')).collect();
            items.sort_unstable();
            format!("\"data_collections\":<{}>", items.join(";"))
        });
        text.into_owned()
    }
}

/// How long the JSON value at the beginning of a text is.
pub(super) fn json_length(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            if !in_string && depth == 0 {
                return Some(at + 1);
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    (depth == 0).then_some(text.len())
}

/// Two records, from a little before the first byte in which they differ.
pub(super) fn shown(theirs: Option<&Event>, ours: Option<&Event>) -> String {
    let text = |event: Option<&Event>| event.map_or("nothing".to_owned(), |event| format!("{event:?}"));
    let (theirs, ours) = (text(theirs), text(ours));
    let same = theirs.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| {
        let from = (0..=same.saturating_sub(160)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text[from..].chars().take(420).collect::<String>()
    };
    format!("  debezium …{}\n  ours     …{}", part(&theirs), part(&ours))
}
