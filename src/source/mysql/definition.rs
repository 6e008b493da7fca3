//! How tables are defined now, in the words in which Debezium tells it.

use super::assemble::Found;
use super::fault::{fault, number};
use super::sql::{Sql, TextRow, literal, quoted};
use crate::error::{Error, Result, codes};
use crate::schema::{DefinedColumn, Definition, TableChange, TableDefinition, TableName};
use std::collections::{BTreeMap, BTreeSet};

/// There is no such table.
const NO_TABLE: u16 = 1146;

/// These tables; who is not in the answer is not there.
///
/// # Errors
/// Those of the connection.
pub(super) async fn now(sql: &mut Sql, names: &[TableName]) -> Result<Found> {
    let mut found = Found::new();
    if names.is_empty() {
        return Ok(found);
    }
    let pairs: Vec<String> =
        names.iter().map(|n| format!("({}, {})", literal(&n.schema), literal(&n.table))).collect();
    let wanted = format!("(TABLE_SCHEMA, TABLE_NAME) IN ({})", pairs.join(", "));
    let tables = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_COLLATION FROM information_schema.TABLES \
             WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {wanted}"
        ))
        .await?;
    for row in &tables {
        // A collation begins with the name of its character set.
        let charset = cell(row, 2).map(|name| name.split('_').next().unwrap_or_default().to_owned());
        let name = name_of(row);
        // Names may be compared without regard to case: the exact ones count.
        if names.contains(&name) {
            found.insert(name, TableDefinition { charset, key: Vec::new(), columns: Vec::new() });
        }
    }
    let columns = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, IS_NULLABLE, \
             COLUMN_DEFAULT, EXTRA, VERSION() LIKE '%MariaDB%' \
             FROM information_schema.COLUMNS WHERE {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for row in &columns {
        if let Some(table) = found.get_mut(&name_of(row)) {
            table.columns.push(column(row));
        }
    }
    keys(sql, &wanted, &mut found).await?;
    Ok(found)
}

/// The primary key, or else the first unique one without nulls.
async fn keys(sql: &mut Sql, wanted: &str, found: &mut Found) -> Result<()> {
    let rows = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE NON_UNIQUE = 0 AND {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    let mut indexes: BTreeMap<TableName, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for row in &rows {
        let index = cell(row, 2).unwrap_or_default();
        let columns = indexes.entry(name_of(row)).or_default().entry(index).or_default();
        // An index on an expression has no column.
        columns.push(cell(row, 3).unwrap_or_default());
    }
    for (name, mut indexes) in indexes {
        let Some(table) = found.get_mut(&name) else { continue };
        let required: BTreeSet<&str> =
            table.columns.iter().filter(|c| !c.optional).map(|c| c.name.as_str()).collect();
        let is_sound = |columns: &Vec<String>| columns.iter().all(|c| required.contains(c.as_str()));
        let key = indexes.remove("PRIMARY").or_else(|| indexes.into_values().find(is_sound));
        table.key = key.unwrap_or_default();
    }
    Ok(())
}

/// What a copy of these tables begins with: as if everything was made anew.
///
/// # Errors
/// Those of the connection.
pub(super) async fn at_the_start(sql: &mut Sql, names: &[TableName]) -> Result<Vec<Definition>> {
    let mut names = names.to_vec();
    names.sort();
    let mut definitions = now(sql, &names).await?;
    let server = sql.row("SELECT @@character_set_server, @@collation_server").await?;
    let of_server = |at: usize| cell(&server, at).unwrap_or_default();
    let plain = |database: &str, table: Option<&str>, ddl: String| Definition {
        database: database.to_owned(),
        table: table.map(str::to_owned),
        ddl,
        changes: Vec::new(),
    };
    let set = format!("SET character_set_server={}, collation_server={}", of_server(0), of_server(1));
    let mut rows = vec![plain("", None, set)];
    for name in &names {
        let drop = format!("DROP TABLE IF EXISTS {}.{}", quoted(&name.schema), quoted(&name.table));
        let row = plain(&name.schema, Some(&name.table), drop);
        rows.push(Definition { changes: vec![change("DROP", name, None)], ..row });
    }
    let databases: BTreeSet<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    for database in databases {
        rows.push(plain(database, None, format!("DROP DATABASE IF EXISTS {}", quoted(database))));
        let of = sql
            .row(&format!(
                "SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA \
                 WHERE SCHEMA_NAME = {}",
                literal(database)
            ))
            .await?;
        let of = |at: usize| cell(&of, at).unwrap_or_default();
        let create = format!("CREATE DATABASE {} CHARSET {} COLLATE {}", quoted(database), of(0), of(1));
        rows.push(plain(database, None, create));
        rows.push(plain(database, None, format!("USE {}", quoted(database))));
        for name in names.iter().filter(|name| name.schema == database) {
            let show = format!("SHOW CREATE TABLE {}.{}", quoted(&name.schema), quoted(&name.table));
            let shown = match sql.try_rows(&show).await {
                Ok(rows) => rows.into_iter().next().unwrap_or_default(),
                // It is gone since it was looked at.
                Err(error) if number(&error) == Some(NO_TABLE) => continue,
                Err(error) => return Err(fault("cannot see how a table is made", error)),
            };
            let ddl = cell(&shown, 1).ok_or_else(|| {
                Error::new(codes::MY033, format!("the server does not show how \"{name}\" is created"))
            })?;
            let row = plain(database, Some(&name.table), ddl);
            let changes = definitions.remove(name).map(|table| change("CREATE", name, Some(table)));
            rows.push(Definition { changes: changes.into_iter().collect(), ..row });
        }
    }
    Ok(rows)
}

fn change(kind: &str, name: &TableName, definition: Option<TableDefinition>) -> TableChange {
    TableChange {
        kind: kind.to_owned(),
        database: name.schema.clone(),
        table: name.table.clone(),
        definition,
    }
}

fn cell(row: &TextRow, index: usize) -> Option<String> {
    row.get(index).cloned().flatten()
}

fn name_of(row: &TextRow) -> TableName {
    TableName::new(cell(row, 0).unwrap_or_default(), cell(row, 1).unwrap_or_default())
}

fn column(row: &TextRow) -> DefinedColumn {
    let Spelled { base, signs, numbers, labels } = spelled(&cell(row, 3).unwrap_or_default());
    let (length, scale) = match labels.len() {
        0 => (numbers.first().copied(), numbers.get(1).copied()),
        _ if base == "ENUM" => (Some(1), None),
        // As many labels as there are, each of one character, with commas.
        many => (Some(i32::try_from(many).unwrap_or(i32::MAX).saturating_mul(2).saturating_sub(1)), None),
    };
    let extra = cell(row, 7).unwrap_or_default().to_ascii_uppercase();
    let is_mariadb = cell(row, 8).as_deref() == Some("1");
    // The server counts it up, or sets it with every update: of MySQL, Debezium has one word for both.
    let is_filled = extra.contains("AUTO_INCREMENT") || extra.contains("ON UPDATE") && !is_mariadb;
    let is_sql = is_mariadb || extra.contains("DEFAULT_GENERATED");
    let type_name = if signs.is_empty() { base.clone() } else { format!("{base} {}", signs.join(" ")) };
    DefinedColumn {
        name: cell(row, 2).unwrap_or_default(),
        jdbc_type: jdbc_type(&base),
        charset: cell(row, 4).filter(|_| is_text(&base)),
        length,
        scale,
        optional: cell(row, 5).as_deref() == Some("YES"),
        auto_incremented: is_filled,
        generated: is_filled,
        default: cell(row, 6).and_then(|text| default(&text, is_sql)),
        labels: (!labels.is_empty()).then_some(labels),
        type_name,
    }
}

/// A default as a value: a moment that the server fills in is the first of all, and what is calculated is none.
fn default(text: &str, is_sql: bool) -> Option<String> {
    if !is_sql {
        return Some(bits(text).unwrap_or(text).to_owned());
    }
    let upper = text.to_ascii_uppercase();
    if upper == "NULL" {
        return None;
    }
    if upper.starts_with("CURRENT_TIMESTAMP") || upper.starts_with("NOW(") {
        return Some("1970-01-01 00:00:00".to_owned());
    }
    if let Some(quoted) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Some(quoted.replace("''", "'"));
    }
    if let Some(bits) = bits(text) {
        return Some(bits.to_owned());
    }
    text.parse::<f64>().is_ok().then(|| text.to_owned())
}

/// The digits of `b'101'`.
fn bits(text: &str) -> Option<&str> {
    text.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\''))
}

fn is_text(base: &str) -> bool {
    matches!(base, "CHAR" | "VARCHAR" | "ENUM" | "SET") || base.ends_with("TEXT")
}

/// As `java.sql.Types` counts them.
fn jdbc_type(base: &str) -> i32 {
    match base {
        "BIT" => -7,
        "TINYINT" | "SMALLINT" => 5,
        "MEDIUMINT" | "INT" | "YEAR" => 4,
        "BIGINT" => -5,
        "FLOAT" => 6,
        "DOUBLE" => 8,
        "DECIMAL" => 3,
        "CHAR" | "ENUM" | "SET" => 1,
        "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" => 12,
        "BINARY" => -2,
        "VARBINARY" => -3,
        "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => 2004,
        "DATE" => 91,
        "TIME" => 92,
        "DATETIME" => 93,
        "TIMESTAMP" => 2014,
        _ => 1111,
    }
}

/// A type as the catalogue spells it, taken apart.
struct Spelled {
    base: String,
    /// `UNSIGNED`, `ZEROFILL`.
    signs: Vec<String>,
    numbers: Vec<i32>,
    /// With their quotes.
    labels: Vec<String>,
}

fn spelled(text: &str) -> Spelled {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    let (base, rest) = text.split_at(end);
    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    let mut behind = rest;
    if let Some(inner) = rest.strip_prefix('(') {
        let close = closing(inner);
        let (inside, after) = inner.split_at(close);
        behind = after;
        for part in parts(inside) {
            match part.trim().parse() {
                Ok(number) => numbers.push(number),
                Err(_) => labels.push(part.to_owned()),
            }
        }
    }
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_uppercase);
    let signs = words.filter(|word| word == "UNSIGNED" || word == "ZEROFILL").collect();
    Spelled { base: base.to_ascii_uppercase(), signs, numbers, labels }
}

/// Where the bracket closes, outside of quotes.
fn closing(text: &str) -> usize {
    let mut quoted = false;
    text.find(|c: char| {
        quoted ^= c == '\'';
        c == ')' && !quoted
    })
    .unwrap_or(text.len())
}

/// What stands between commas, outside of quotes.
fn parts(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c: char| {
        quoted ^= c == '\'';
        c == ',' && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let Spelled { base, signs, numbers, labels } = spelled(text);
        format!("{base} {signs:?} {numbers:?} {labels:?}")
    }

    #[test]
    fn types_are_taken_apart() {
        assert_eq!(shown("int"), "INT [] [] []");
        assert_eq!(shown("int(5) unsigned zerofill"), r#"INT ["UNSIGNED", "ZEROFILL"] [5] []"#);
        assert_eq!(shown("decimal(10,2)"), "DECIMAL [] [10, 2] []");
        assert_eq!(shown("enum('a,b',')','q''x')"), r#"ENUM [] [] ["'a,b'", "')'", "'q''x'"]"#);
        assert_eq!(shown("varchar(9) /*M!100301 COMPRESSED*/"), "VARCHAR [] [9] []");
        assert_eq!(shown(""), " [] [] []");
    }

    #[test]
    fn defaults_are_values() {
        assert_eq!(default("de'fault", false).as_deref(), Some("de'fault"));
        assert_eq!(default("b'101'", false).as_deref(), Some("101"));
        assert_eq!(default("'it''s'", true).as_deref(), Some("it's"));
        assert_eq!(default("current_timestamp(3)", true).as_deref(), Some("1970-01-01 00:00:00"));
        assert_eq!(default("42", true).as_deref(), Some("42"));
        assert_eq!(default("NULL", true), None);
        assert_eq!(default("uuid()", true), None);
    }
}
