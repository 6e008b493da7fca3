//! Which type becomes what, and that `docs/TYPES.md` says the same.

use super::*;
use crate::pgoutput::{NumericUnbounded, Policies, TypeInfo, oid, resolve, type_name};

fn info(name: &str, typtype: char) -> TypeInfo {
    TypeInfo { name: name.into(), typtype, category: 'U' }
}

fn numeric(precision: i32, scale: i32) -> i32 {
    (precision << 16 | (scale & 0x7FF)) + 4
}

fn kind_of_numeric(precision: i32, scale: i32) -> ColumnKind {
    resolve(oid::NUMERIC, numeric(precision, scale), &info("numeric", 'b'), &Policies::default()).unwrap()
}

#[test]
fn numerics_with_precision() {
    let decimal = |precision, scale| ColumnKind::Decimal { precision, scale };
    assert_eq!(kind_of_numeric(12, 2), decimal(12, 2));
    assert_eq!(kind_of_numeric(38, 38), decimal(38, 38));
    assert_eq!(kind_of_numeric(38, 0), decimal(38, 0));
    assert_eq!(kind_of_numeric(39, 0), ColumnKind::NumericText);
    assert_eq!(kind_of_numeric(1000, 1000), ColumnKind::NumericText);
    assert_eq!(kind_of_numeric(3, 5), decimal(5, 5));
    assert_eq!(kind_of_numeric(3, 39), ColumnKind::NumericText);
    assert_eq!(kind_of_numeric(2, -3), decimal(5, 0));
    assert_eq!(kind_of_numeric(2, -36), decimal(38, 0));
    assert_eq!(kind_of_numeric(2, -37), ColumnKind::NumericText);
    assert_eq!(kind_of_numeric(2, -1000), ColumnKind::NumericText);
}

#[test]
fn a_decimal_that_delta_cannot_hold_is_text() {
    let policies = |precision, scale| Policies {
        numeric_unbounded: NumericUnbounded::Decimal { precision, scale },
        ..Policies::default()
    };
    for (precision, scale) in [(0, 0), (39, 2), (5, 6)] {
        let kind = resolve(oid::NUMERIC, -1, &info("numeric", 'b'), &policies(precision, scale));
        assert_eq!(kind, Some(ColumnKind::NumericText));
    }
}

#[test]
fn enums_by_the_catalogue_and_unknown_types_not_at_all() {
    let resolve = |oid, typtype| resolve(oid, -1, &info("x", typtype), &Policies::default());
    assert_eq!(resolve(16_400, 'e'), Some(ColumnKind::Text));
    for typtype in ['b', 'c', 'd', 'r', 'm', 'p', '\0'] {
        assert_eq!(resolve(16_400, typtype), None, "{typtype}");
    }
    // int4[], point, interval, timetz, money, bit, inet, xml, "char", oid
    for oid in [1007, 600, 1186, 1266, 790, 1560, 869, 142, 18, 26] {
        assert_eq!(resolve(oid, 'b'), None, "{oid}");
    }
}

#[test]
fn names_for_people() {
    let name = |oid, typmod, name| type_name(oid, typmod, &info(name, 'b'));
    assert_eq!(name(oid::NUMERIC, numeric(12, 2), "numeric"), "numeric(12,2)");
    assert_eq!(name(oid::NUMERIC, numeric(2, -3), "numeric"), "numeric(2,-3)");
    assert_eq!(name(oid::NUMERIC, -1, "numeric"), "numeric");
    assert_eq!(name(oid::VARCHAR, 24, "varchar"), "varchar(20)");
    assert_eq!(name(oid::VARCHAR, -1, "varchar"), "varchar");
    assert_eq!(name(oid::BPCHAR, 9, "bpchar"), "bpchar(5)");
    assert_eq!(name(oid::TIMESTAMPTZ, 3, "timestamptz"), "timestamptz(3)");
    assert_eq!(name(oid::INT4, -1, "int4"), "int4");
    assert_eq!(name(16_400, -1, "mood"), "mood");
}

/// Arrow's type in the words of the page.
fn arrow_words(kind: ColumnKind) -> String {
    match kind {
        ColumnKind::Decimal { .. } => "Decimal128(p, s)".into(),
        ColumnKind::Timestamp => "Timestamp(µs)".into(),
        ColumnKind::TimestampTz => "Timestamp(µs, UTC)".into(),
        _ => kind.arrow().to_string(),
    }
}

#[test]
fn the_page_has_a_row_for_every_kind() {
    let page = include_str!("../../../docs/TYPES.md");
    // The match makes the compiler ask for a new kind's row here.
    let source_types: fn(ColumnKind) -> &'static [&'static str] = |kind| match kind {
        ColumnKind::Bool => &["boolean"],
        ColumnKind::Int2 => &["smallint"],
        ColumnKind::Int4 => &["integer"],
        ColumnKind::Int8 => &["bigint"],
        ColumnKind::Float4 => &["real"],
        ColumnKind::Float8 => &["double precision"],
        ColumnKind::Decimal { .. } => &["numeric(p,s)"],
        ColumnKind::NumericText => &["numeric"],
        ColumnKind::NumericDouble => &["numeric"],
        ColumnKind::Text => &["text", "varchar", "name", "enum"],
        ColumnKind::Bpchar => &["char(n)"],
        ColumnKind::Json => &["json"],
        ColumnKind::Jsonb => &["jsonb"],
        ColumnKind::Bytea => &["bytea"],
        ColumnKind::Uuid => &["uuid"],
        ColumnKind::Date => &["date"],
        ColumnKind::Time => &["time"],
        ColumnKind::Timestamp => &["timestamp"],
        ColumnKind::TimestampTz => &["timestamptz"],
    };
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for &(_, kind) in EVERY_KIND {
        let delta = match kind {
            ColumnKind::Decimal { .. } => "decimal(p,s)".to_owned(),
            _ => kind.delta(),
        };
        for source in source_types(kind) {
            let found = rows.iter().any(|cells| {
                cells.get(1).is_some_and(|types| types.split(", ").any(|t| t == format!("`{source}`")))
                    && cells.get(2) == Some(&arrow_words(kind).as_str())
                    && cells.get(3) == Some(&delta.as_str())
            });
            assert!(found, "docs/TYPES.md has no row `{source}` | {} | {delta}", arrow_words(kind));
        }
    }
}
