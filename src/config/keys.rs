//! Every key of the file: the built ones and those that are known and not built yet.
//!
//! One table, so that the reader, the suggestions and `docs/CONFIG.md` (held to it by a test) agree.

/// The keys of one section.
#[derive(Debug)]
pub(super) struct SectionKeys {
    /// `sink.commit`; empty for the top of the file.
    pub(super) path: &'static str,
    /// Keys that work.
    pub(super) built: &'static [&'static str],
    /// Keys that are refused as "not built yet": never ignored.
    pub(super) later: &'static [&'static str],
}

pub(super) const SECTIONS: &[SectionKeys] = &[
    SectionKeys {
        path: "",
        built: &[
            "version", "name", "source", "tables", "snapshot", "sink", "format", "errors", "limits", "http",
            "health", "metrics", "signals", "log",
        ],
        later: &["lineage"],
    },
    SectionKeys {
        path: "source",
        built: &[
            "type",
            "url",
            "host",
            "port",
            "database",
            "user",
            "password",
            "tls",
            "slot",
            "publication",
            "create_if_missing",
            "on_position_lost",
            "heartbeat",
            "heartbeat_action_query",
            "origin",
            "wal_budget",
            "on_wal_budget",
            "failover_slot",
        ],
        later: &["server_id", "gtid", "mode"],
    },
    SectionKeys { path: "source.tls", built: &["mode", "ca", "cert", "key"], later: &[] },
    SectionKeys { path: "source.password", built: &["file", "env", "command"], later: &[] },
    SectionKeys { path: "tables", built: &["include", "exclude", "on_new_table", "overrides"], later: &[] },
    SectionKeys {
        path: "tables.overrides.*",
        built: &[
            "write",
            "deletes",
            "truncates",
            "meta_columns",
            "images",
            "column_mapping",
            "target",
            "columns",
        ],
        later: &["key", "where"],
    },
    SectionKeys {
        path: "tables.overrides.*.columns",
        built: &["include", "exclude", "mask", "truncate"],
        later: &[],
    },
    SectionKeys {
        path: "tables.overrides.*.target",
        built: &["partition_by", "properties"],
        later: &["name"],
    },
    SectionKeys {
        path: "snapshot",
        built: &["workers", "chunk_rows", "hold", "max_source_load"],
        later: &["mode", "from"],
    },
    SectionKeys { path: "snapshot.max_source_load", built: &["active_sessions", "replica_lag"], later: &[] },
    SectionKeys {
        path: "sink",
        built: &[
            "type",
            "uri",
            "commit",
            "write",
            "deletes",
            "truncates",
            "meta_columns",
            "images",
            "column_mapping",
            "credentials",
            "storage",
            "on_foreign_change",
            "maintenance",
            "schema_changes",
            "numeric_unbounded",
            "infinity",
            "unknown_types",
            "brokers",
            "exactly_once",
            "acks",
            "compression",
            "linger",
            "max_record",
            "oversize",
            "dead_letter_topic",
            "max_transaction",
            "topics",
            "tls",
            "sasl",
            "properties",
        ],
        later: &["tombstones"],
    },
    SectionKeys { path: "sink.maintenance", built: &["optimize", "vacuum"], later: &[] },
    SectionKeys { path: "sink.credentials", built: &["file"], later: &["env"] },
    SectionKeys { path: "sink.storage", built: &["endpoint", "region", "path_style", "ca"], later: &[] },
    SectionKeys {
        path: "sink.topics",
        built: &["create", "partitions", "replication", "settings", "tables"],
        later: &[],
    },
    SectionKeys {
        path: "sink.topics.tables.*",
        built: &["partitions", "replication", "settings"],
        later: &[],
    },
    SectionKeys { path: "sink.tls", built: &["verify", "ca", "cert", "key", "key_password"], later: &[] },
    SectionKeys { path: "sink.tls.key_password", built: &["file", "env", "command"], later: &[] },
    SectionKeys { path: "sink.sasl", built: &["mechanism", "user", "password"], later: &[] },
    SectionKeys { path: "sink.sasl.password", built: &["file", "env", "command"], later: &[] },
    SectionKeys {
        path: "sink.schema_changes",
        built: &["add_column", "drop_column", "rename_column", "widen", "other", "partitions"],
        later: &[],
    },
    SectionKeys { path: "sink.commit", built: &["interval", "max_rows", "max_bytes"], later: &[] },
    SectionKeys {
        path: "format",
        built: &["style", "encoding", "schema_registry", "debezium", "flat", "route"],
        later: &[],
    },
    SectionKeys {
        path: "format.schema_registry",
        built: &["url", "user", "password", "ca", "register"],
        later: &[],
    },
    SectionKeys { path: "format.schema_registry.password", built: &["file", "env", "command"], later: &[] },
    SectionKeys {
        path: "format.debezium",
        built: &[
            "compat",
            "topic_prefix",
            "schemas_enable",
            "decimal_handling_mode",
            "time_precision_mode",
            "binary_handling_mode",
            "interval_handling_mode",
            "hstore_handling_mode",
            "bigint_unsigned_handling_mode",
            "decimal_format",
            "money_fraction_digits",
            "include_unknown_datatypes",
            "replace_null_with_default",
            "unavailable_value_placeholder",
            "schema_name_adjustment_mode",
            "field_name_adjustment_mode",
            "topic_delimiter",
            "topic_transaction",
            "topic_heartbeat_prefix",
            "heartbeat_interval",
            "notification_enabled_channels",
            "notification_sink_topic_name",
            "tombstones_on_delete",
            "provide_transaction_metadata",
            "extended_headers_enabled",
            "include_schema_changes",
            "skip_messages_without_change",
            "skipped_operations",
            "message_key_columns",
            "include_query",
            "tinyint_one_as_boolean",
        ],
        later: &[],
    },
    SectionKeys {
        path: "format.flat",
        built: &["delete_tombstone_handling_mode", "add_fields", "add_headers"],
        later: &[],
    },
    SectionKeys { path: "format.route", built: &["regex", "replacement"], later: &[] },
    SectionKeys { path: "errors", built: &["bad_row"], later: &["table_error", "retry", "dlq_max_rows"] },
    SectionKeys { path: "limits", built: &["memory", "spill_dir"], later: &["cpu"] },
    SectionKeys { path: "http", built: &["listen", "token", "read_only", "ui"], later: &[] },
    SectionKeys { path: "http.token", built: &["file", "env", "command"], later: &[] },
    SectionKeys { path: "health", built: &["grace", "stall", "wedged"], later: &[] },
    SectionKeys { path: "signals", built: &["table"], later: &[] },
    SectionKeys { path: "metrics", built: &["debezium_compat", "max_table_labels"], later: &[] },
    SectionKeys { path: "log", built: &["level", "format"], later: &[] },
];

/// The keys of the section at `path`.
pub(super) fn section(path: &str) -> Option<&'static SectionKeys> {
    SECTIONS.iter().find(|section| section.path == path)
}

/// `source.slot`, or `name` at the top of the file.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where else a key of that name belongs, when it belongs in exactly one place.
pub(super) fn home_of(key: &str) -> Option<String> {
    let mut homes = SECTIONS.iter().filter(|s| s.built.contains(&key)).map(|s| join(s.path, key));
    let first = homes.next()?;
    homes.next().is_none().then_some(first)
}
