//! Result rows against row images: the same value by both ways in.

use super::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};

fn schema(types: &[&str]) -> Arc<TableSchema> {
    let columns: Vec<CatalogColumn> = types
        .iter()
        .enumerate()
        .map(|(i, of)| CatalogColumn { name: format!("c{i}"), column_type: (*of).into() })
        .collect();
    let name = crate::schema::TableName::new("d", "t");
    Arc::new(schema_of_catalog(name, TableId(1), &columns, vec![], &Policies::default(), false).unwrap())
}

/// One cell of one column.
fn read(of: &str, collation: u16, cell: Cell<'_>, policies: Policies) -> Result<String, Reason> {
    let schema = schema(&[of]);
    let decoder = SnapshotDecoder::new(&schema, &[collation], policies).unwrap();
    let mut builder = BatchBuilder::new(schema);
    decoder.push([cell], 1, &mut builder).map_err(|error| error.reason)?;
    let batch = builder.take(None).map_err(|error| error.reason)?;
    let options = FormatOptions::default().with_null("-");
    Ok(ArrayFormatter::try_new(batch.after.column(0), &options).unwrap().value(0).to_string())
}

const UTF8: u16 = 45;
const BINARY: u16 = charset::BINARY;

#[track_caller]
fn becomes(of: &str, collation: u16, cell: Cell<'_>, expected: &str) {
    let found = read(of, collation, cell, Policies::default());
    assert_eq!(found.as_deref(), Ok(expected), "{of}");
}

fn moment(year: u16, month: u8, day: u8, hour: u8, micros: u32) -> Cell<'static> {
    Cell::Moment { year, month, day, hour, minute: 0, second: 0, micros }
}

#[test]
fn cells_of_both_protocols() {
    becomes("bigint unsigned", BINARY, Cell::Unsigned(u64::MAX), "18446744073709551615");
    becomes("bigint(20) unsigned", BINARY, Cell::Bytes(b"18446744073709551615"), "18446744073709551615");
    becomes("bigint unsigned", BINARY, Cell::Int(5), "5");
    becomes("tinyint(1)", BINARY, Cell::Int(-128), "-128");
    becomes("int unsigned", BINARY, Cell::Unsigned(u64::from(u32::MAX)), "4294967295");
    becomes("year(4)", BINARY, Cell::Int(2155), "2155");
    becomes("float", BINARY, Cell::Float(0.1), "0.1");
    becomes("double", BINARY, Cell::Double(1e100), "1e100");
    becomes("decimal(10,2)", BINARY, Cell::Bytes(b"-12345678.90"), "-12345678.90");
    becomes(
        "decimal(65,30)",
        BINARY,
        Cell::Bytes(b"1.500000000000000000000000000000"),
        "1.500000000000000000000000000000",
    );
    becomes("bit(1)", BINARY, Cell::Bytes(b"\x01"), "true");
    becomes("bit(10)", BINARY, Cell::Bytes(b"\x02\x01"), "1000000001");
    becomes("date", BINARY, moment(2024, 2, 29, 0, 0), "2024-02-29");
    becomes("date", BINARY, Cell::Bytes(b"2024-02-29"), "2024-02-29");
    becomes("datetime(6)", BINARY, moment(2024, 2, 29, 3, 5), "2024-02-29T03:00:00.000005");
    becomes("datetime(6)", BINARY, Cell::Bytes(b"2024-02-29 03:00:00.000005"), "2024-02-29T03:00:00.000005");
    becomes("timestamp", BINARY, moment(2024, 2, 29, 3, 0), "2024-02-29T03:00:00Z");
    let time = |negative, days, hours, micros| Cell::Time {
        negative,
        days,
        hours,
        minutes: 59,
        seconds: 59,
        micros,
    };
    becomes("time(6)", BINARY, time(true, 34, 22, 999_999), "-838:59:59.999999");
    becomes("time(2)", BINARY, time(false, 0, 1, 990_000), "01:59:59.99");
    becomes("time", BINARY, Cell::Bytes(b"-838:59:59"), "-838:59:59");
    becomes("time(3)", BINARY, Cell::Bytes(b"00:00:00.120"), "00:00:00.120");
    becomes("varchar(5)", UTF8, Cell::Bytes("é😀".as_bytes()), "é😀");
    becomes("varchar(5)", 8, Cell::Bytes(b"\xE9\x80\x81"), "é€\u{81}");
    becomes("enum('ä','b')", 8, Cell::Bytes(b"\xE4"), "ä");
    becomes("enum('ä','b')", 8, Cell::Bytes(b""), "");
    becomes("set('ä','ö')", 8, Cell::Bytes(b"\xE4,\xF6"), "ä,ö");
    becomes("json", UTF8, Cell::Bytes(b"{\"a\": 1.0}"), "{\"a\": 1.0}");
    becomes("binary(3)", BINARY, Cell::Bytes(b"a"), "610000");
    becomes("varbinary(3)", BINARY, Cell::Bytes(b"a\0"), "6100");
    becomes("point", BINARY, Cell::Bytes(&[0, 0, 0, 0, 1, 1, 0, 0, 0]), "0101000000");
    becomes("geometry", BINARY, Cell::Bytes(&[0xE6, 0x10, 0, 0, 1, 1, 0, 0, 0]), "0101000020e6100000");
    becomes("vector(2)", BINARY, Cell::Bytes(&[0, 0, 128, 63, 0, 0, 0, 192]), "[1,-2]");
    becomes(
        "uuid",
        8,
        Cell::Bytes(b"0b8a1b52-9e3f-4f0c-8f7e-1234567890ab"),
        "0b8a1b52-9e3f-4f0c-8f7e-1234567890ab",
    );
    becomes("inet6", 8, Cell::Bytes(b"::1"), "::1");
    becomes("varchar(3)", UTF8, Cell::Null, "-");
}

#[test]
fn cells_that_are_refused() {
    let refused = |of: &str, collation, cell, reason| {
        let found = read(of, collation, cell, Policies::default());
        assert_eq!(found, Err(reason), "{of}");
    };
    refused("float", BINARY, Cell::Bytes(b"0.1"), Reason::Lossy);
    refused("double", BINARY, Cell::Bytes(b"0.1"), Reason::Lossy);
    refused("int", BINARY, Cell::Int(1 << 40), Reason::OutOfRange);
    refused("int", BINARY, Cell::Bytes(b"1x"), Reason::Malformed);
    refused("decimal(4,2)", BINARY, Cell::Bytes(b"123.45"), Reason::DoesNotFit);
    refused("enum('a')", UTF8, Cell::Bytes(b"b"), Reason::UnknownLabel);
    refused("varchar(5)", UTF8, Cell::Bytes(b"\xFF"), Reason::NotText);
    refused("varchar(5)", 87, Cell::Bytes(b"\xA2\xE3"), Reason::NotText);
    // Browsers know a character 0x80 in these sets; the servers do not.
    refused("varchar(5)", 87, Cell::Bytes(b"\x80A"), Reason::NotText);
    refused("varchar(5)", 95, Cell::Bytes(b"\x80A"), Reason::NotText);
    refused("bit(1)", BINARY, Cell::Bytes(b"\x02"), Reason::Malformed);
    refused("date", BINARY, moment(0, 0, 0, 0, 0), Reason::ZeroDate);
    refused("date", BINARY, moment(2020, 0, 15, 0, 0), Reason::ZeroDate);
    refused("datetime", BINARY, Cell::Bytes(b"2021-02-29 10:00:00"), Reason::ZeroDate);
    refused("timestamp", BINARY, Cell::Bytes(b"0000-00-00 00:00:00"), Reason::ZeroDate);
    refused("time", BINARY, Cell::Bytes(b"839:00:00"), Reason::Malformed);
    refused("binary(1)", BINARY, Cell::Bytes(b"ab"), Reason::Malformed);
    let null = Policies { zero_dates: ZeroDates::Null, ..Policies::default() };
    assert_eq!(read("date", BINARY, moment(0, 0, 0, 0, 0), null).as_deref(), Ok("-"));
}

#[test]
fn a_failed_row_leaves_nothing_and_counts_are_checked() {
    let schema = schema(&["int", "varchar(3)"]);
    let decoder = SnapshotDecoder::new(&schema, &[BINARY, UTF8], Policies::default()).unwrap();
    let mut builder = BatchBuilder::new(schema);
    decoder.push([Cell::Int(1), Cell::Bytes(b"a")], 2, &mut builder).unwrap();
    let bytes = builder.bytes();
    assert!(decoder.push([Cell::Int(1)], 2, &mut builder).is_err());
    assert!(decoder.push([Cell::Int(1), Cell::Int(1)], 2, &mut builder).is_err());
    assert!(decoder.push([Cell::Int(1), Cell::Null, Cell::Null], 2, &mut builder).is_err());
    assert_eq!((builder.rows(), builder.bytes()), (1, bytes));
    let batch = builder.take(None).unwrap();
    assert_eq!((batch.len(), batch.wire_bytes, batch.is_stamped()), (1, 2, true));
    assert!(SnapshotDecoder::new(&self::schema(&["text"]), &[9999], Policies::default()).is_err());
}
