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
    // int4[], point, interval, timetz, money, bit, inet, xml, "char", oid: the catalogue knows more.
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
fn arrow_words(kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Decimal { .. } => "Decimal128(p, s)".into(),
        ColumnKind::Money { .. } => "Decimal128(19, s)".into(),
        ColumnKind::Timestamp => "Timestamp(µs)".into(),
        ColumnKind::TimestampTz => "Timestamp(µs, UTC)".into(),
        _ => kind.arrow().to_string(),
    }
}

/// What becomes text, in the words of the page.
const RENDERED: &[&str] = &[
    "interval",
    "timetz",
    "bit",
    "varbit",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "tsvector",
    "tsquery",
    "jsonpath",
    "pg_lsn",
    "tid",
    "pg_snapshot",
    "txid_snapshot",
    "\"char\"",
    "int2vector",
    "oidvector",
    "hstore",
    "ltree",
    "lquery",
    "ltxtquery",
    "vector",
    "halfvec",
    "sparsevec",
    "T[]",
    "range",
    "multirange",
    "composite",
];

/// The types of a kind in the words of the page. The match makes the compiler ask for a new kind's row here.
fn source_types(kind: &ColumnKind) -> &'static [&'static str] {
    match kind {
        ColumnKind::Bool => &["boolean"],
        ColumnKind::Int2 => &["smallint"],
        ColumnKind::Int4 => &["integer"],
        ColumnKind::Int8 => &["bigint"],
        ColumnKind::Float4 => &["real"],
        ColumnKind::Float8 => &["double precision"],
        ColumnKind::Decimal { .. } => &["numeric(p,s)"],
        ColumnKind::NumericText => &["numeric"],
        ColumnKind::NumericDouble => &["numeric"],
        ColumnKind::Text => &["text", "varchar", "name", "xml", "refcursor", "citext", "enum"],
        ColumnKind::Bpchar => &["char(n)"],
        ColumnKind::Json => &["json"],
        ColumnKind::Jsonb => &["jsonb"],
        ColumnKind::Bytea => &["bytea"],
        ColumnKind::Uuid => &["uuid"],
        ColumnKind::Date => &["date"],
        ColumnKind::Time => &["time"],
        ColumnKind::Timestamp => &["timestamp"],
        ColumnKind::TimestampTz => &["timestamptz"],
        ColumnKind::Unsigned4 => &["oid", "xid", "cid", "regclass", "regtype"],
        ColumnKind::Unsigned8 => &["xid8"],
        ColumnKind::Money { .. } => &["money"],
        ColumnKind::Ewkb => &["geometry", "geography"],
        ColumnKind::Rendered(_) => RENDERED,
        ColumnKind::Unknown => &["any other"],
    }
}

#[test]
fn the_page_has_a_row_for_every_kind() {
    let page = include_str!("../../../docs/TYPES.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (_, kind) in EVERY_KIND {
        let delta = match kind {
            ColumnKind::Decimal { .. } => "decimal(p,s)".to_owned(),
            ColumnKind::Money { .. } => "decimal(19,s)".to_owned(),
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

#[test]
fn the_page_says_what_readers_see_of_every_delta_type() {
    let page = include_str!("../../../docs/TYPES.md");
    for (_, kind) in EVERY_KIND {
        let delta = kind.delta();
        let delta = if delta.starts_with("decimal(") { "decimal(p,s)" } else { &delta };
        let row = format!("| {delta} | ");
        assert!(page.lines().any(|line| line.starts_with(&row)), "docs/TYPES.md has no row {row}");
    }
}

mod catalogue {
    use super::*;
    use crate::pgoutput::{CatalogType, TypeCatalog, UnknownTypes};

    fn catalog(types: &[(u32, CatalogType)]) -> TypeCatalog {
        let mut catalog = TypeCatalog::new(18);
        for (oid, found) in types {
            catalog.insert(*oid, found.clone());
        }
        catalog
    }

    fn base(name: &str) -> CatalogType {
        CatalogType { info: info(name, 'b'), delimiter: b',', has_send: true, ..CatalogType::default() }
    }

    fn domain(below: u32) -> CatalogType {
        CatalogType { base: below, modifier: -1, info: info("d", 'd'), ..base("d") }
    }

    fn array_of(element: u32) -> CatalogType {
        CatalogType { element, ..base("_x") }
    }

    const TEXT: Policies = Policies {
        numeric_unbounded: NumericUnbounded::Text,
        infinity: crate::pgoutput::Infinity::Stop,
        unknown_types: UnknownTypes::Text,
    };

    #[test]
    fn an_extensions_type_is_known_by_name_whatever_its_oid() {
        let of = |extension: &str, name: &str| {
            let found = CatalogType { extension: Some(extension.into()), ..base(name) };
            catalog(&[(90_001, found)]).kind(90_001, -1, &Policies::default())
        };
        assert_eq!(of("citext", "citext"), Some(ColumnKind::Text));
        assert_eq!(of("postgis", "geography"), Some(ColumnKind::Ewkb));
        assert_eq!(of("hstore", "hstore"), Some(ColumnKind::Rendered(Shape::Scalar(Scalar::Hstore))));
        // Somebody's own type of the same name is another type.
        assert_eq!(catalog(&[(90_001, base("hstore"))]).kind(90_001, -1, &Policies::default()), None);
        assert_eq!(of("hstore", "ghstore"), None);
        assert_eq!(of("mine", "vector"), None);
    }

    #[test]
    fn parts_of_parts() {
        let composite = CatalogType { fields: vec![oid::INT4, 103], info: info("pair", 'c'), ..base("pair") };
        let types = catalog(&[
            (oid::INT4, base("int4")),
            (oid::BOX, CatalogType { delimiter: b';', ..base("box") }),
            (100, domain(101)),
            (101, domain(oid::INT4)),
            (102, array_of(100)),
            (103, array_of(oid::BOX)),
            (104, composite),
            (105, array_of(104)),
        ]);
        let kind = |oid| types.kind(oid, -1, &Policies::default());
        assert_eq!(kind(100), Some(ColumnKind::Int4));
        let Some(ColumnKind::Rendered(Shape::Array { oid: 100, of, delimiter: b',' })) = kind(102) else {
            panic!("{:?}", kind(102))
        };
        assert_eq!(*of, Shape::Scalar(Scalar::Int4));
        let Some(ColumnKind::Rendered(Shape::Array { of, .. })) = kind(105) else {
            panic!("{:?}", kind(105))
        };
        let Shape::Composite(fields) = &*of else { panic!("{of:?}") };
        assert!(
            matches!(fields[1].shape, Shape::Array { delimiter: b';', .. }),
            "boxes are separated otherwise"
        );
    }

    #[test]
    fn a_damaged_catalogue_is_refused() {
        let types = catalog(&[(1, domain(1)), (2, array_of(2)), (3, domain(99)), (4, array_of(99))]);
        for oid in 1..6 {
            assert_eq!(types.kind(oid, -1, &Policies::default()), None, "{oid}");
        }
    }

    /// Yen have no digits of fraction: as text under `lc_monetary = C` five of them would be `$0.05`.
    #[test]
    fn an_amount_is_never_another_amount() {
        for (scale, within) in [(Some(2), true), (Some(0), false), (Some(3), false), (None, false)] {
            let mut types = catalog(&[(oid::MONEY, base("money")), (200, array_of(oid::MONEY))]);
            if let Some(scale) = scale {
                types.set_money_scale(scale);
            }
            let money = scale.map(|scale| ColumnKind::Money { scale });
            assert_eq!(types.kind(oid::MONEY, -1, &Policies::default()), money);
            for policies in [Policies::default(), TEXT] {
                assert_eq!(types.kind(200, -1, &policies).is_some(), within, "{scale:?}");
            }
        }
    }

    #[test]
    fn what_is_unknown_is_refused_or_text() {
        let types = catalog(&[
            (oid::REGCLASS, base("regclass")),
            (200, array_of(oid::REGCLASS)),
            (201, base("cube")),
            (202, CatalogType { has_send: false, ..base("aclitem") }),
            (203, array_of(202)),
        ]);
        let stop = |oid| types.kind(oid, -1, &Policies::default());
        assert_eq!(stop(oid::REGCLASS), Some(ColumnKind::Unsigned4));
        for oid in [200, 201, 202, 203] {
            assert_eq!(stop(oid), None, "{oid}");
        }
        for oid in [oid::REGCLASS, 200, 201, 202, 203] {
            assert_eq!(types.kind(oid, -1, &TEXT), Some(ColumnKind::Unknown), "{oid}");
        }
        // The server would send these in a form that means nothing to us, or fail.
        let needs =
            |oid, policies: Policies| types.needs_text_stream(oid, types.kind(oid, -1, &policies).as_ref());
        assert!(needs(201, TEXT) && needs(203, TEXT) && needs(oid::REGCLASS, TEXT));
        assert!(!needs(202, TEXT), "it comes as text by itself");
        assert!(needs(203, Policies::default()), "the server sends it for a table that is not taken, too");
        assert!(!needs(201, Policies::default()) && !needs(oid::REGCLASS, Policies::default()));
    }
}
