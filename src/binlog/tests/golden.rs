//! Every value of a real server's log against what the server says of it in SQL.

use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::*;
use arrow::util::display::{ArrayFormatter, FormatOptions};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// A value in the form of the page that `capture.py` wrote.
fn form(column: &dyn Array, row: usize, of: &SqlType) -> String {
    if column.is_null(row) {
        return "NULL".into();
    }
    let text = || column.as_string::<i32>().value(row).to_owned();
    let bytes = || hex(column.as_binary::<i32>().value(row));
    match of {
        SqlType::Bit { bits: 1 } => u8::from(column.as_boolean().value(row)).to_string(),
        SqlType::Char { .. } | SqlType::Varchar { .. } | SqlType::Text(_) => hex(text().as_bytes()),
        SqlType::Enum(_) | SqlType::Set(_) | SqlType::Json => hex(text().as_bytes()),
        SqlType::Binary { .. } | SqlType::Varbinary { .. } | SqlType::Blob(_) => bytes(),
        SqlType::Geometry(_) => {
            // Back to the server's own form, by hand.
            let ewkb = column.as_binary::<i32>().value(row);
            let head = u32::from_le_bytes(ewkb[1..5].try_into().unwrap());
            if head & 0x2000_0000 == 0 {
                return format!("00000000{}", hex(ewkb));
            }
            let kind = (head & 0xFF).to_le_bytes();
            format!("{}01{}{}", hex(&ewkb[5..9]), hex(&kind), hex(&ewkb[9..]))
        }
        SqlType::Vector { .. } => {
            let text = text();
            let entries = text.trim_matches(['[', ']']).split(',').map(|entry| entry.parse::<f32>().unwrap());
            entries.map(|entry| hex(&entry.to_le_bytes())).collect()
        }
        SqlType::Float { .. } => f64::from(column.as_primitive::<Float32Type>().value(row)).to_string(),
        SqlType::Year => format!("{:04}", column.as_primitive::<Int32Type>().value(row)),
        SqlType::DateTime { fraction } | SqlType::Timestamp { fraction } => {
            let micros = column.as_primitive::<TimestampMicrosecondType>().value(row);
            let moment = chrono::DateTime::from_timestamp_micros(micros).unwrap();
            let text = moment.format("%Y-%m-%d %H:%M:%S.%6f").to_string();
            let text = text.trim_start_matches('+').to_owned();
            let keep = if *fraction == 0 { 19 } else { 20 + usize::from(*fraction) };
            text[..keep].to_owned()
        }
        _ => {
            let options = FormatOptions::default();
            ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
        }
    }
}

fn shortened(text: String) -> String {
    if text.len() <= 200 { text } else { format!("#{}:{:08x}", text.len(), crc32fast::hash(text.as_bytes())) }
}

/// Numbers are equal as numbers: the server spells doubles otherwise.
fn same(found: &str, expected: &str, of: &SqlType) -> bool {
    match of {
        SqlType::Double { .. } | SqlType::Float { .. } => {
            found == expected || found.parse::<f64>().ok() == expected.parse::<f64>().ok()
        }
        _ => found == expected,
    }
}

fn maria_catalog() -> BTreeMap<String, Vec<CatalogColumn>> {
    let columns = [("id", "int(11)"), ("u", "uuid"), ("i6", "inet6"), ("i4", "inet4")];
    let of =
        |(name, text): &(&str, &str)| CatalogColumn { name: (*name).into(), column_type: (*text).into() };
    BTreeMap::from([("maria".to_owned(), columns.iter().map(of).collect())])
}

fn replay(name: &str) -> Replay {
    let mut replay = Replay::new(flavor(name));
    replay.policies.zero_dates = ZeroDates::Null;
    replay.catalog = maria_catalog();
    replay.file(&capture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    replay
}

fn every_value_is_the_servers(name: &str) {
    let path = format!("{}/tests/golden/binlog/{name}.tsv", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(path).unwrap();
    let mut expected: BTreeMap<&str, Vec<Vec<&str>>> = BTreeMap::new();
    for line in page.lines() {
        let mut cells = line.split('\t');
        expected.entry(cells.next().unwrap()).or_default().push(cells.collect());
    }
    let mut replay = replay(name);
    let (mut wrong, mut values) = (Vec::new(), 0);
    for (table, rows) in expected {
        let table = table.replace("``", "`");
        let schema = Arc::clone(replay.schema(&table));
        let batch = replay.batch(&table);
        let types: Vec<SqlType> =
            schema.columns.iter().map(|column| SqlType::of_catalog(&column.type_name).unwrap()).collect();
        let mut found: Vec<Vec<String>> = (0..batch.len())
            .map(|row| {
                let cells = batch.after.columns().iter().zip(&types);
                cells.map(|(column, of)| shortened(form(column, row, of))).collect()
            })
            .collect();
        assert_eq!(found.len(), rows.len(), "{table}");
        // By the first column, an id that is there once; else the rows are few and equal.
        let mut rows = rows;
        rows.sort_by(|a, b| a[0].cmp(b[0]));
        found.sort_by(|a, b| a[0].cmp(&b[0]));
        for (found, expected) in found.iter().zip(&rows) {
            for (i, of) in types.iter().enumerate() {
                values += 1;
                let zero = matches!(of, SqlType::Date | SqlType::DateTime { .. } | SqlType::Timestamp { .. })
                    && table == "zeros"
                    && found[i] == "NULL";
                if !zero && !same(&found[i], expected[i], of) {
                    let column = &schema.columns[i];
                    let (f, e) = (&found[i], expected[i]);
                    wrong.push(format!("{table}.{} ({of}), row {}: {f} for {e}", column.name, found[0]));
                    if matches!(of, SqlType::Json) && !f.starts_with('#') && !e.starts_with('#') {
                        wrong.push(format!(
                            "   {}\n   {}",
                            String::from_utf8_lossy(&unhex(f)),
                            String::from_utf8_lossy(&unhex(e))
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{name}, {} of {values} values:\n{}", wrong.len(), wrong.join("\n"));
    assert!(values > 700, "{name}: only {values} values");
}

#[test]
fn every_value_of_mysql_is_the_servers() {
    every_value_is_the_servers("mysql97");
}

#[test]
fn every_value_of_mariadb_11_8_is_the_servers() {
    every_value_is_the_servers("mariadb118");
}

#[test]
fn every_value_of_mariadb_10_11_is_the_servers() {
    every_value_is_the_servers("mariadb1011");
}
