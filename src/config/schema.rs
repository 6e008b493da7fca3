//! The JSON schema of the file (draft 7, which editors' YAML servers read), made from the table of keys.

use super::keys::{SectionKeys, join, section};
use serde_json::{Map, Value, json};

/// The schema. Keys that are not built yet are not in it.
pub fn json_schema() -> Value {
    let mut schema = section("").map_or(Value::Null, object);
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        map.insert("title".into(), json!("strandline"));
        map.insert("required".into(), json!(["version"]));
    }
    schema
}

fn object(keys: &SectionKeys) -> Value {
    let properties: Map<String, Value> = keys
        .built
        .iter()
        .map(|key| {
            let path = join(keys.path, key);
            let value = match section(&path) {
                // A secret may stand there as plain text, too.
                Some(inner) if ["password", "token", "key_password"].contains(key) => {
                    json!({"oneOf": [{"type": "string"}, object(inner)]})
                }
                Some(inner) => object(inner),
                None => match section(&format!("{path}.*")) {
                    Some(each) => json!({"type": "object", "additionalProperties": object(each)}),
                    None => leaf(&path),
                },
            };
            ((*key).to_owned(), value)
        })
        .collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// What a key may be. A key without an entry takes what the program takes: the schema does not refuse more.
fn leaf(path: &str) -> Value {
    let texts = |about: &str| json!({"type": "array", "items": {"type": "string"}, "description": about});
    let one_of = |words: &[&str], about: &str| json!({"enum": words, "description": about});
    let text = |about: &str| json!({"type": "string", "description": about});
    let whole = |about: &str| json!({"type": "integer", "minimum": 0, "description": about});
    let flag = |about: &str| json!({"type": "boolean", "description": about});
    let time =
        |about: &str| json!({"type": "string", "pattern": "^[0-9]+ *(ms|s|m|h|d)$", "description": about});
    let size = |about: &str| json!({"type": "string", "pattern": "^[0-9]+ *(B|[kMGT]i?B|KiB)$", "description": about});
    match path {
        "version" => json!({"const": 1, "description": "format of this file"}),
        "name" => json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,63}$",
            "description": "the pipeline; part of paths and stored positions, so it must never change"}),
        "source.url" => text("the whole address, instead of host, port, database, user"),
        "source.host" => text("name, address, or directory of a Unix socket"),
        "source.port" => whole("TCP port"),
        "source.database" => text("database"),
        "source.user" => text("role"),
        "source.tls.mode" => {
            one_of(&["disable", "prefer", "require", "verify-ca", "verify-full"], "how strict encryption is")
        }
        "source.tls.ca" => text("certificate authorities (PEM)"),
        "source.slot" => text("replication slot"),
        "source.publication" => text("publication"),
        "source.create_if_missing" => flag("make slot and publication when they are missing"),
        "source.on_position_lost" => one_of(&["stop", "resync"], "when slot, log or history is lost"),
        "source.heartbeat_action_query" => text("SQL that is run at each heartbeat"),
        "source.heartbeat" => time("how often an idle database is touched; 0s: never"),
        "tables.include" => texts("patterns, such as public.*"),
        "tables.exclude" => texts("patterns of tables to leave out"),
        "tables.on_new_table" => {
            one_of(&["snapshot", "ignore"], "what happens with a table that is made later")
        }
        "snapshot.workers" => whole("connections that copy at the same time"),
        "snapshot.chunk_rows" => whole("rows that are copied between two commits, so that a copy can go on"),
        "snapshot.max_source_load.active_sessions" => text("copies wait above so many, such as 20 or 80%"),
        "snapshot.max_source_load.replica_lag" => time("copies wait while a standby is further behind"),
        "snapshot.hold" => one_of(&["table", "chunk"], "how long a snapshot is held on the source"),
        "sink.uri" => {
            text("file:///path, s3://bucket/path, gs://bucket/path, abfss://container@account/path")
        }
        "sink.commit.interval" => time("a commit at the latest after this"),
        "sink.commit.max_rows" => whole("a commit at the latest with so many rows"),
        "sink.commit.max_bytes" => size("a commit at the latest with so many bytes"),
        "limits.memory" => size("bytes that buffers may hold"),
        "limits.spill_dir" => text("where large transactions wait until they commit"),
        "http.listen" => text("address:port"),
        "http.read_only" => flag("nothing can be changed over HTTP"),
        "http.ui" => flag("serve the page"),
        "health.grace" => time("a temporary error that lasts longer makes the state stalled"),
        "health.stall" => time("no progress for longer although something waits makes the state stalled"),
        "health.wedged" => time("no sign of life of the core loop for longer makes /livez fail"),
        "signals.table" => text("schema.table in which signals are written"),
        "metrics.debezium_compat" => flag("also show debezium_metrics_*"),
        "metrics.max_table_labels" => whole("tables with a label of their own"),
        "log.level" => one_of(&["error", "warn", "info", "debug", "trace"], "from this level up"),
        "log.format" => one_of(&["auto", "text", "json"], "form of the log"),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::SECTIONS;
    use super::*;

    #[test]
    fn every_key_that_works_is_in_the_schema_and_no_other() {
        let schema = json_schema();
        let paths = SECTIONS.iter().flat_map(|keys| keys.built.iter().map(|key| join(keys.path, key)));
        for path in paths.filter(|path| !path.contains('*')) {
            let mut place = &schema;
            for part in path.split('.') {
                let inside = if place["oneOf"].is_array() { &place["oneOf"][1] } else { place };
                place = &inside["properties"][part];
            }
            assert!(place.is_object(), "{path}");
        }
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["properties"]["lineage"].is_null(), "a key that is not built");
        assert_eq!(schema["properties"]["sink"]["properties"]["commit"]["additionalProperties"], false);
    }
}
