//! Where our bytes differ from Debezium's on purpose: `docs/debezium-deviations.md`.

use super::case::{Event, Mode};

/// What is different.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// In Debezium's keys and values stands the first text, in ours the second.
    Bytes(&'static str, &'static str),
    /// The table stops with this code, in this mode or in both.
    Stops(&'static str, Option<Mode>),
    /// More than that: our records stand in `tests/golden/debezium/ours`.
    Recorded,
    /// The value is JSON's null there, and no value here.
    Tombstones,
    /// Records of this topic are not written.
    Without(&'static str),
    /// In Debezium's records of definitions stands the first text, in ours the second.
    Defined(&'static str, &'static str),
    /// Definitions alone are compared: rows are copied again.
    Copied,
    /// Our definitions are others: they are not compared.
    OwnDefinitions,
    /// What this mode has is not written.
    Not(Mode),
}

/// One difference of one case.
pub(super) struct Deviation {
    /// The row of the page.
    pub(super) id: &'static str,
    pub(super) case: &'static str,
    pub(super) kind: Kind,
}

const fn of(id: &'static str, case: &'static str, kind: Kind) -> Deviation {
    Deviation { id, case, kind }
}

/// All of them.
pub(super) const ALL: &[Deviation] = &[
    of("D01", "decimal_nan_precise", Kind::Stops("PG021", None)),
    of("D01", "decimal_nan_not_null", Kind::Stops("PG021", None)),
    of("D01", "decimal_nan_fixed_scale", Kind::Stops("PG021", None)),
    of("D01", "decimal_infinity_precise", Kind::Stops("PG021", None)),
    of("D02", "temporal_isostring_infinity", Kind::Bytes("-5877611-06-21Z", "+5881580-07-11Z")),
    of("D03", "types_temporal", Kind::Bytes("\"d\":-141422", "\"d\":-141432")),
    of("D04", "types_temporal_extreme", Kind::Stops("PG021", None)),
    of("D04", "temporal_date_max", Kind::Stops("PG021", None)),
    of("D05", "types_arrays", Kind::Recorded),
    of("D05", "types_arrays", Kind::Stops("PG021", Some(Mode::WithSchema))),
    of("D06", "replica_identity_index", Kind::Recorded),
    of("D07", "types_text", Kind::Recorded),
    of("D08", "decimal_negative_scale", Kind::Recorded),
    of("D08", "decimal_negative_scale_string", Kind::Recorded),
    of("D09", "timetz_offset_seconds", Kind::Recorded),
    of(
        "D10",
        "tx_metadata",
        Kind::Bytes(
            "io.debezium.connector.postgresql.LogicalDecodingMessageMonitor$LogicalDecodingMessageId@1a24d65b",
            "LOGICAL_DECODING_MESSAGE",
        ),
    ),
    of("D11", "defaults", Kind::Recorded),
    of("D12", "defaults_null_kept", Kind::Bytes("\"snapshot\":null", "\"snapshot\":\"false\"")),
    of("D13", "partitioned", Kind::Recorded),
    of("D14", "generated_columns", Kind::Recorded),
    of("D14", "pg18_generated", Kind::Recorded),
    of("D15", "unwrap", Kind::Tombstones),
    of("D15", "unwrap_tombstone", Kind::Tombstones),
    of("D16", "types_float", Kind::Bytes("1.17549435E-38", "1.1754944E-38")),
    of("D17", "toast", Kind::Stops("PG023", None)),
    of("D18", "types_unsupported_included", Kind::Recorded),
    of("D18", "types_unsupported", Kind::Recorded),
    of("D19", "publication_columns", Kind::Stops("PG008", None)),
    of("D21", "mysql/column_options", Kind::Bytes("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000Z")),
    of("D35", "mysql/column_options", Kind::Not(Mode::WithSchema)),
    of("D36", "column_options", Kind::Stops("CF003", None)),
    of("D37", "enum_grows", Kind::Recorded),
    of("D20", "mysql/types_float", Kind::Recorded),
    of("D20", "mariadb/types_numeric", Kind::Recorded),
    of("D21", "mysql/types_temporal", Kind::Recorded),
    of("D21", "mariadb/types_temporal", Kind::Recorded),
    of("D22", "mysql/types_enum_set", Kind::Recorded),
    of("D22", "mariadb/types_string_binary", Kind::Recorded),
    of("D23", "mysql/types_json_mysql", Kind::Recorded),
    of("D24", "mysql/json_partial_update", Kind::Recorded),
    of("D25", "mysql/statement_format", Kind::Stops("MY029", None)),
    of("D26", "mysql/xa_transaction", Kind::Recorded),
    of("D27", "mysql/row_image_minimal", Kind::Stops("MY023", None)),
    of("D27", "mysql/row_image_noblob", Kind::Recorded),
    of("D28", "mariadb/year_zero", Kind::Recorded),
    of("D28", "mariadb/year_zero_snapshot", Kind::Recorded),
    of("D28", "mysql/types_integer", Kind::Recorded),
    of("D29", "mariadb/types_mariadb", Kind::Recorded),
    of("D29", "mariadb/create_or_replace", Kind::Copied),
    of("D30", "mariadb/log_bin_compress", Kind::Recorded),
    of("D31", "mysql/binary_base64", Kind::Bytes("YWJcMA==", "YWIA")),
    of("D31", "mysql/binary_hex", Kind::Bytes("61625c30", "616200")),
    of("D31", "mysql/defaults", Kind::Recorded),
    of("D31", "mariadb/defaults", Kind::Bytes("de''fault", "de'fault")),
    of("D32", "mysql/bulk_statements", Kind::Without("app.shop.s")),
    of("D33", "mysql/binary_base64", Kind::Defined(r#":"ab\\0""#, r#":"0x6162""#)),
    of("D33", "mysql/binary_hex", Kind::Defined(r#":"ab\\0""#, r#":"0x6162""#)),
    of("D33", "mysql/defaults", Kind::Defined(r#":"de''fault""#, r#":"de'fault""#)),
    of("D33", "mysql/defaults", Kind::Defined(r#":"ab\\0""#, r#":"0x6162""#)),
    of("D33", "mysql/defaults", Kind::Defined(r#":"\u0001\u0002""#, r#":"0x0102""#)),
    of("D33", "mariadb/schema_change", Kind::Defined(r#"00:00:00.5""#, r#"00:00:00.500""#)),
    of("D32", "schema_change", Kind::Without("app.public.fresh")),
    of("D32", "schema_change", Kind::Without("app.public.renamed")),
    of("D38", "schema_change", Kind::Bytes(r#""vv":"six","x":null,"d":8"#, r#""vv":"six","x":null,"d":7"#)),
    of("D38", "schema_change", Kind::Not(Mode::WithSchema)),
    of("D33", "mariadb/defaults", Kind::Defined(r#":"de''fault""#, r#":"de'fault""#)),
    of("D33", "mysql/schema_change", Kind::Defined(r#":"2020-01-01""#, r#":"2020-01-01 00:00:00""#)),
    of("D29", "mariadb/create_or_replace", Kind::OwnDefinitions),
    of(
        "D33",
        "mariadb/schema_change",
        Kind::Defined(
            r#""INT","typeExpression":"INT","charsetName":null,"length":null"#,
            r#""INT","typeExpression":"INT","charsetName":null,"length":11"#,
        ),
    ),
    of("D34", "mysql/schema_change", Kind::Copied),
    of("D34", "mariadb/schema_change", Kind::Copied),
];

fn of_case(case: &str) -> impl Iterator<Item = Kind> {
    ALL.iter().filter(move |deviation| deviation.case == case).map(|deviation| deviation.kind)
}

/// The code that a case stops with.
pub(super) fn stops(case: &str, mode: Mode) -> Option<&'static str> {
    of_case(case).find_map(|kind| match kind {
        Kind::Stops(code, in_mode) if in_mode.is_none_or(|in_mode| in_mode == mode) => Some(code),
        _ => None,
    })
}

/// Whether our own records are on file.
pub(super) fn is_recorded(case: &str) -> bool {
    of_case(case).any(|kind| matches!(kind, Kind::Recorded))
}

/// Whether definitions alone are compared.
pub(super) fn is_copied(case: &str) -> bool {
    of_case(case).any(|kind| matches!(kind, Kind::Copied))
}

/// Whether definitions are not compared.
pub(super) fn defines_else(case: &str) -> bool {
    of_case(case).any(|kind| matches!(kind, Kind::OwnDefinitions))
}

/// Whether this mode is not compared.
pub(super) fn is_left_out(case: &str, mode: Mode) -> bool {
    of_case(case).any(|kind| matches!(kind, Kind::Not(left) if left == mode))
}

/// A record of a definition as ours is to be.
pub(super) fn defined(case: &str, mut event: Event) -> Event {
    for kind in of_case(case) {
        if let Kind::Defined(theirs, ours) = kind {
            event.value = event.value.map(|value| value.replace(theirs, ours));
        }
    }
    event
}

/// What we are to write, made of what Debezium wrote; before the numbers are masked.
pub(super) fn applied(case: &str, mut events: Vec<Event>) -> Vec<Event> {
    for kind in of_case(case) {
        match kind {
            Kind::Without(topic) => events.retain(|event| event.topic != topic),
            Kind::Tombstones => {
                for event in &mut events {
                    let is_null = |value: &String| value == "null" || value.ends_with("\"payload\":null}");
                    if event.value.as_ref().is_some_and(is_null) {
                        event.value = None;
                    }
                }
            }
            Kind::Bytes(theirs, ours) => {
                for event in &mut events {
                    for part in [&mut event.key, &mut event.value].into_iter().flatten() {
                        *part = part.replace(theirs, ours);
                    }
                }
            }
            Kind::Stops(..)
            | Kind::Recorded
            | Kind::Defined(..)
            | Kind::Copied
            | Kind::OwnDefinitions
            | Kind::Not(_) => {}
        }
    }
    events
}
