//! Which type becomes what, and that `docs/TYPES_MYSQL.md` says the same.

use super::*;
use crate::schema::ColumnKind;

/// One of each type, as the catalogue writes it, and its row on the page: source, Arrow, Delta.
const TYPES: &[(&str, &str, &str, &str)] = &[
    ("tinyint(4)", "tinyint", "Int16", "short"),
    ("tinyint(3) unsigned", "tinyint unsigned", "Int16", "short"),
    ("tinyint(1)", "tinyint(1)", "Int16", "short"),
    ("smallint", "smallint", "Int16", "short"),
    ("smallint unsigned", "smallint unsigned", "Int32", "integer"),
    ("mediumint", "mediumint", "Int32", "integer"),
    ("mediumint unsigned", "mediumint unsigned", "Int32", "integer"),
    ("int(11)", "int", "Int32", "integer"),
    ("int(5) unsigned zerofill", "int unsigned", "Int64", "long"),
    ("bigint", "bigint", "Int64", "long"),
    ("bigint unsigned", "bigint unsigned", "Decimal128(20, 0)", "decimal(20,0)"),
    ("decimal(10,2)", "decimal(p,s)", "Decimal128(10, 2)", "decimal(10,2)"),
    ("decimal(65,30)", "decimal(p,s)", "Utf8", "string"),
    ("float", "float", "Float32", "float"),
    ("double(10,2)", "double", "Float64", "double"),
    ("bit(1)", "bit(1)", "Boolean", "boolean"),
    ("bit(64)", "bit(n)", "Utf8", "string"),
    ("year(4)", "year", "Int32", "integer"),
    ("date", "date", "Date32", "date"),
    ("time(3)", "time", "Utf8", "string"),
    ("datetime(6)", "datetime", "Timestamp(µs)", "timestamp_ntz"),
    ("timestamp", "timestamp", "Timestamp(µs, \"UTC\")", "timestamp"),
    ("char(5)", "char", "Utf8", "string"),
    ("varchar(20)", "varchar", "Utf8", "string"),
    ("tinytext", "tinytext", "Utf8", "string"),
    ("text", "text", "Utf8", "string"),
    ("mediumtext", "mediumtext", "Utf8", "string"),
    ("longtext", "longtext", "Utf8", "string"),
    ("enum('a','b')", "enum", "Utf8", "string"),
    ("set('a','b')", "set", "Utf8", "string"),
    ("json", "json", "Utf8", "string"),
    ("binary(16)", "binary", "Binary", "binary"),
    ("varbinary(20)", "varbinary", "Binary", "binary"),
    ("tinyblob", "tinyblob", "Binary", "binary"),
    ("blob", "blob", "Binary", "binary"),
    ("mediumblob", "mediumblob", "Binary", "binary"),
    ("longblob", "longblob", "Binary", "binary"),
    ("geometry", "geometry", "Binary", "binary"),
    ("point", "point", "Binary", "binary"),
    ("linestring", "linestring", "Binary", "binary"),
    ("polygon", "polygon", "Binary", "binary"),
    ("multipoint", "multipoint", "Binary", "binary"),
    ("multilinestring", "multilinestring", "Binary", "binary"),
    ("multipolygon", "multipolygon", "Binary", "binary"),
    ("geomcollection", "geometrycollection", "Binary", "binary"),
    ("vector(3)", "vector", "Utf8", "string"),
    ("uuid", "uuid", "Utf8", "string"),
    ("inet4", "inet4", "Utf8", "string"),
    ("inet6", "inet6", "Utf8", "string"),
];

#[test]
fn the_page_has_a_row_for_every_type() {
    let page = include_str!("../../../docs/TYPES_MYSQL.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    for (catalog, source, arrow, delta) in TYPES {
        let of = SqlType::of_catalog(catalog).unwrap();
        let kind = of.kind(&Policies::default());
        assert_eq!((&*kind.arrow().to_string(), &*kind.delta()), (*arrow, *delta), "{catalog}");
        // The name leads back to the type: the schema of a table keeps names only.
        assert_eq!(SqlType::of_catalog(&of.to_string()), Ok(of), "{catalog}");
        let words = |text: &str| {
            text.replace("(10, 2)", "(p, s)").replace("(10,2)", "(p,s)").replace("\"UTC\"", "UTC")
        };
        let found = rows.iter().any(|cells| {
            cells[1].split(", ").any(|name| name == format!("`{source}`"))
                && cells[2] == words(arrow)
                && cells[3] == words(delta)
        });
        assert!(found, "docs/TYPES_MYSQL.md has no row `{source}` | {} | {}", words(arrow), words(delta));
    }
}

#[test]
fn names_of_the_catalogue() {
    let name = |text: &str| SqlType::of_catalog(text).map(|of| of.to_string());
    for (given, expected) in [
        ("int(10) unsigned", "int unsigned"),
        ("bigint(20) unsigned zerofill", "bigint unsigned"),
        ("DECIMAL(5)", "decimal(5,0)"),
        ("double(10,2) unsigned", "double unsigned"),
        ("datetime(6)", "datetime(6)"),
        ("timestamp(0)", "timestamp"),
        (r"enum('it''s','a,b',')','\\','\n')", r"enum('it''s','a,b',')','\\','\n')"),
        ("set('')", "set('')"),
        ("varchar(20) /*M!100301 COMPRESSED*/", "varchar(20)"),
        ("longtext /*M!100301 COMPRESSED*/", "longtext"),
        ("geomcollection", "geometrycollection"),
    ] {
        assert_eq!(name(given).as_deref(), Ok(expected), "{given}");
    }
    for unknown in
        ["", "xmltype", "enum(a)", "enum('a'", "varchar", "decimal(300,2)", "bit(999)", "set('a' 'b')"]
    {
        assert!(name(unknown).is_err(), "{unknown} was taken");
    }
}

#[test]
fn wide_decimals_by_policy() {
    let of = SqlType::of_catalog("decimal(65,30)").unwrap();
    let kind = |wide_decimal| of.kind(&Policies { wide_decimal, ..Policies::default() });
    assert_eq!(kind(WideDecimal::Text), ColumnKind::NumericText);
    assert_eq!(kind(WideDecimal::Double), ColumnKind::NumericDouble);
    let decimal = kind(WideDecimal::Decimal { precision: 38, scale: 10 });
    assert_eq!(decimal, ColumnKind::Decimal { precision: 38, scale: 10 });
    assert_eq!(kind(WideDecimal::Decimal { precision: 39, scale: 0 }), ColumnKind::NumericText);
}

/// The log and the catalogue describe each table of the captures alike.
#[test]
fn log_and_catalogue_agree() {
    let mut replay = Replay::new(Flavor::MySql);
    replay.policies.zero_dates = ZeroDates::Null;
    replay.file(&capture("mysql97")).unwrap();
    assert!(replay.builders.len() > 15);
    for table in replay.builders.keys() {
        let schema = replay.schema(table);
        for column in &schema.columns {
            let of = SqlType::of_catalog(&column.type_name).unwrap();
            assert_eq!(of.kind(&Policies::default()), column.kind, "{table}.{}", column.name);
            assert_eq!(of.number(), column.type_oid, "{table}.{}", column.name);
        }
    }
    let key = |table: &str| replay.schema(table).key.clone();
    assert_eq!((key("keyed"), key("nokey")), (vec![1, 0], vec![]));
    // The server's own invisible key.
    let generated = replay.schema("gipk");
    assert_eq!((generated.columns[0].name.as_str(), &generated.key), ("my_row_id", &vec![0]));
}

/// Rows of an older form of the table, and columns that a newer one has.
#[test]
fn columns_meet_by_name() {
    let mut maps = BTreeMap::new();
    let file = capture("events_mysql97");
    let mut decoder = EventDecoder::new(Flavor::MySql);
    let (mut older, mut newer, mut inserted) = (None, None, None);
    for bytes in split(&file) {
        match decoder.decode_bytes(bytes).unwrap().1 {
            Event::TableMap(map) if map.table == "t" => {
                older = older.or_else(|| Some((*map).clone()));
                newer = Some((*map).clone());
                maps.insert(map.table_id, *map);
            }
            Event::Rows(rows) if inserted.is_none() && rows.after.is_full() => {
                inserted = Some(Rows {
                    data: rows.data.into_owned().into(),
                    before: ColumnBits::new(&[], 6),
                    after: ColumnBits::new(&[0xFF], 6),
                    ..rows
                });
            }
            _ => {}
        }
    }
    let (older, newer, rows) = (older.unwrap(), newer.unwrap(), inserted.unwrap());
    let policies = Policies::default();
    let schema = Arc::new(schema_of_map(&newer, TableId(1), &[], &policies, false).unwrap());
    let refused = RowDecoder::new(&older, &schema, &[], policies, Missing::Refuse).unwrap_err();
    assert_eq!(refused, PlanError::Column { name: "d".into() });
    for (missing, unchanged) in [(Missing::Null, false), (Missing::Unchanged, true)] {
        let decoder = RowDecoder::new(&older, &schema, &[], policies, missing).unwrap();
        let mut builder = BatchBuilder::new(Arc::clone(&schema));
        assert_eq!(decoder.decode(&rows, 0, &mut builder), Ok(2));
        let batch = builder.take(None).unwrap();
        let last = batch.after.num_columns() - 1;
        assert_eq!(batch.after.column(last).null_count(), 2);
        assert_eq!(batch.unchanged[last].is_some(), unchanged);
    }
}
