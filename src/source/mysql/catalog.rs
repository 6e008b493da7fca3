//! Tables, columns and keys as the server's catalogue has them now.
//!
//! MySQL knows tables and columns by their names alone, so their identities are made from the names: a table that is
//! renamed is another table, and a column that is renamed is dropped and added
//! ([`crate::schema::change`] says what follows from that).

use super::fault::table_error;
use super::sql::{Sql, TextRow, literal};
use crate::binlog::{CatalogColumn, Policies, schema_of_catalog};
use crate::error::{Error, Result, codes};
use crate::schema::change::FIRST_OF_NAMES;
use crate::schema::{TableId, TableName, TableSchema};
use crate::source::pattern::Selection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Databases that belong to the server.
const SYSTEM: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];

/// A table.
#[derive(Clone, Debug)]
pub struct MyTable {
    /// Its schema.
    pub schema: Arc<TableSchema>,
    /// Its columns as the catalogue describes them.
    pub columns: Vec<CatalogColumn>,
    /// Rows, by the server's estimate.
    pub estimated_rows: Option<u64>,
}

/// What matches.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Tables to replicate.
    pub tables: Vec<MyTable>,
    /// Tables that match and cannot be replicated.
    pub refused: Vec<(TableId, TableName, Error)>,
}

/// The identity of a table: of its name.
pub fn table_id(name: &TableName) -> TableId {
    let mut sum = crc32fast::Hasher::new();
    sum.update(name.schema.as_bytes());
    sum.update(&[0]);
    sum.update(name.table.as_bytes());
    TableId(sum.finalize())
}

/// The identity of a column: of its name, from [`FIRST_OF_NAMES`] on as a sign that it is no more than that. Two names
/// of one table with the same number get different ones, by their order.
fn column_numbers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<i16> {
    let first = u32::from(FIRST_OF_NAMES.unsigned_abs());
    let count = u32::from(i16::MAX.unsigned_abs()) - first;
    let mut taken = BTreeSet::new();
    names
        .map(|name| {
            let mut place = crc32fast::hash(name.as_bytes()) % count;
            while !taken.insert(place) {
                place = (place + 1) % count;
            }
            i16::try_from(first + place).unwrap_or(i16::MAX)
        })
        .collect()
}

/// Everything that the selection wants.
///
/// # Errors
/// Those of the connection.
pub async fn load(sql: &mut Sql, selection: &Selection, policies: &Policies) -> Result<Catalog> {
    let system: Vec<String> = SYSTEM.iter().map(|name| literal(name)).collect();
    let wanted = format!("TABLE_SCHEMA NOT IN ({})", system.join(", "));
    load_where(sql, &wanted, policies, |name| selection.matches(name)).await
}

/// These tables; who is not in the answer is not there.
///
/// # Errors
/// Those of the connection.
pub async fn load_named(sql: &mut Sql, names: &[&TableName], policies: &Policies) -> Result<Catalog> {
    if names.is_empty() {
        return Ok(Catalog::default());
    }
    let pairs: Vec<String> =
        names.iter().map(|n| format!("({}, {})", literal(&n.schema), literal(&n.table))).collect();
    let wanted = format!("(TABLE_SCHEMA, TABLE_NAME) IN ({})", pairs.join(", "));
    // Names may be compared without regard to case: the exact ones count.
    load_where(sql, &wanted, policies, |name| names.contains(&name)).await
}

struct Described {
    columns: Vec<CatalogColumn>,
    filled: Vec<bool>,
    key: Vec<String>,
    unique: BTreeMap<String, Vec<String>>,
    nullable: BTreeSet<String>,
}

async fn load_where(
    sql: &mut Sql,
    wanted: &str,
    policies: &Policies,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Catalog> {
    let tables = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS FROM information_schema.TABLES \
             WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {wanted} ORDER BY 1, 2"
        ))
        .await?;
    let named = |row: &TextRow| TableName::new(cell(row, 0), cell(row, 1));
    let tables: Vec<TextRow> = tables.into_iter().filter(|row| is_wanted(&named(row))).collect();
    let mut described = describe(sql, wanted).await?;
    let mut catalog = Catalog::default();
    let mut ids = BTreeMap::new();
    for row in tables {
        let name = named(&row);
        let id = table_id(&name);
        let found = described.remove(&name);
        let table = check(&name, &row, ids.insert(id, name.clone()))
            .and_then(|()| build(&name, id, found, policies))
            .map(|(schema, columns)| MyTable {
                schema: Arc::new(schema),
                columns,
                estimated_rows: row.get(3).cloned().flatten().and_then(|rows| rows.parse().ok()),
            });
        match table {
            Ok(table) => catalog.tables.push(table),
            Err(error) => catalog.refused.push((id, name, error)),
        }
    }
    Ok(catalog)
}

fn check(name: &TableName, row: &TextRow, same: Option<TableName>) -> Result<()> {
    if let Some(other) = same {
        let what = format!("its name and \"{other}\" have the same sum: rename one of them, or exclude it");
        return Err(table_error(name, codes::MY026, what));
    }
    let engine = cell(row, 2);
    if matches!(engine.as_str(), "InnoDB" | "ROCKSDB" | "RocksDB") {
        return Ok(());
    }
    let what = format!(
        "its engine is {engine}, which has no transactions: no snapshot can be taken at one place of the log"
    );
    Err(table_error(name, codes::MY026, what)
        .with_try(format!("ALTER TABLE `{}`.`{}` ENGINE = InnoDB, or exclude it", name.schema, name.table)))
}

fn build(
    name: &TableName,
    id: TableId,
    described: Option<Described>,
    policies: &Policies,
) -> Result<(TableSchema, Vec<CatalogColumn>)> {
    let Some(described) = described else {
        return Err(table_error(name, codes::MY037, "its columns may not be seen")
            .with_try("GRANT SELECT ON it TO the user of the connection"));
    };
    let Described { columns, filled, key, unique, nullable } = described;
    // Without a primary key, a unique one that holds no nulls says as well which row is which.
    let key = if key.is_empty() {
        let sound = |columns: &&Vec<String>| columns.iter().all(|c| !nullable.contains(c));
        unique.values().find(sound).cloned().unwrap_or_default()
    } else {
        key
    };
    let key = key.iter().filter_map(|key| columns.iter().position(|c| c.name == *key)).collect();
    let schema = schema_of_catalog(name.clone(), id, &columns, key, policies, false)
        .map_err(|error| error.into_error(name))?;
    let numbers = column_numbers(columns.iter().map(|c| c.name.as_str()));
    let mut schema = schema;
    for (column, &number) in schema.columns.iter_mut().zip(&numbers) {
        column.attnum = number;
    }
    schema.filled = numbers.into_iter().zip(filled).filter(|(_, filled)| *filled).map(|(n, _)| n).collect();
    Ok((schema, columns))
}

async fn describe(sql: &mut Sql, wanted: &str) -> Result<BTreeMap<TableName, Described>> {
    let mut all: BTreeMap<TableName, Described> = BTreeMap::new();
    let columns = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA \
             FROM information_schema.COLUMNS WHERE {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for row in columns {
        let name = TableName::new(cell(&row, 0), cell(&row, 1));
        let table = all.entry(name).or_insert_with(|| Described {
            columns: Vec::new(),
            filled: Vec::new(),
            key: Vec::new(),
            unique: BTreeMap::new(),
            nullable: BTreeSet::new(),
        });
        let is_nullable = cell(&row, 4) == "YES";
        let default = row.get(5).cloned().flatten();
        // MariaDB writes the word for no default.
        let has_default = default.is_some_and(|text| !text.eq_ignore_ascii_case("null"));
        let is_generated = cell(&row, 6).to_ascii_uppercase().contains("GENERATED") && !has_default;
        if is_nullable {
            table.nullable.insert(cell(&row, 2));
        }
        // What rows from before the column got in it, the log does not say.
        table.filled.push(!is_nullable || has_default || is_generated);
        table.columns.push(CatalogColumn { name: cell(&row, 2), column_type: cell(&row, 3) });
    }
    let keys = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE NON_UNIQUE = 0 AND {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    for row in keys {
        let name = TableName::new(cell(&row, 0), cell(&row, 1));
        let Some(table) = all.get_mut(&name) else { continue };
        // An index on an expression has no column.
        let column = row.get(3).cloned().flatten();
        let index = cell(&row, 2);
        if index == "PRIMARY" {
            table.key.extend(column);
        } else {
            // An expression counts as nullable: no key.
            table.unique.entry(index).or_default().push(column.unwrap_or_else(|| {
                table.nullable.insert(String::new());
                String::new()
            }));
        }
    }
    Ok(all)
}

fn cell(row: &TextRow, index: usize) -> String {
    row.get(index).cloned().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_columns_are_of_their_names() {
        let names = ["id", "name", "total"];
        let (all, swapped) = (column_numbers(names.into_iter()), column_numbers(["total", "id"].into_iter()));
        assert!(all.iter().all(|&n| n >= FIRST_OF_NAMES));
        assert_eq!((all[0], all[2]), (swapped[1], swapped[0]));
        assert_eq!(column_numbers(["a", "a"].into_iter()).iter().collect::<BTreeSet<_>>().len(), 2);
    }

    #[test]
    fn tables_are_told_by_both_names() {
        assert_ne!(table_id(&TableName::new("a", "bc")), table_id(&TableName::new("ab", "c")));
    }
}
