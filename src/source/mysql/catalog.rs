//! Tables, columns and keys as the server's catalogue has them now.
//!
//! MySQL knows tables and columns by their names alone, so their identities are made from the names: a table that is
//! renamed is another table, and a column that is renamed is dropped and added
//! ([`crate::schema::change`] says what follows from that).
//!
//! # While definitions change
//! What the catalogue shows is not of one moment. For an instant, while a table is altered by copying or swapped by a
//! rename, it is not listed, or is listed without engine, columns or keys; and our questions come one after the other.
//! A table that is said to be gone or to have lost its key would be stopped. So a definition is believed when it was
//! seen before; every other one, and every absence, is asked for again in a transaction that has opened the table:
//! opening waits until whoever changes the definition is done, and nobody changes it until the transaction ends,
//! a few milliseconds later.

use super::fault::{fault, number, table_error};
use super::sql::{Sql, TextRow, literal, quoted};
use crate::binlog::{CatalogColumn, Policies, SqlType, schema_of_catalog};
use crate::error::{Disposition, Error, Result, codes};
use crate::schema::change::FIRST_OF_NAMES;
use crate::schema::{Declared, DeclaredColumn, DeclaredType, TableId, TableName, TableSchema};
use crate::source::pattern::Selection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Databases that belong to the server.
const SYSTEM: [&str; 4] = ["mysql", "information_schema", "performance_schema", "sys"];
/// Between the first two looks: what hides a table is over by then.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// An empty catalogue is looked at again so often before it is believed.
const EMPTY_LOOKS: u32 = 8;
/// So many tables are looked at closely at once: their definitions are held meanwhile.
const CLOSELY: usize = 64;
/// For a table whose definition is locked.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// No such database, no such table.
const NO_DATABASE: u16 = 1049;
const NO_TABLE: u16 = 1146;

/// A table.
#[derive(Clone, Debug)]
pub struct MyTable {
    /// Its schema.
    pub schema: Arc<TableSchema>,
    /// Rows, by the server's estimate.
    pub estimated_rows: Option<u64>,
    /// Bytes of its rows, likewise.
    pub bytes: u64,
    definition: Arc<Definition>,
}

impl MyTable {
    /// Its columns as the catalogue describes them.
    pub fn columns(&self) -> &[CatalogColumn] {
        &self.definition.columns
    }
}

/// Definitions that were seen before.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<TableName, Arc<Definition>>);

impl Known {
    /// Those of these tables.
    pub fn of<'a>(tables: impl Iterator<Item = &'a MyTable>) -> Known {
        Known(tables.map(|table| (table.schema.name.clone(), Arc::clone(&table.definition))).collect())
    }
}

/// How tables are to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// The operator's choices about values.
    pub policies: Policies,
    /// Changes carry the whole old row.
    pub full_before: bool,
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
pub async fn load(sql: &mut Sql, selection: &Selection, view: View, mut known: Known) -> Result<Catalog> {
    let system: Vec<String> = SYSTEM.iter().map(|name| literal(name)).collect();
    let wanted = format!("TABLE_SCHEMA NOT IN ({})", system.join(", "));
    let matches = |name: &TableName| selection.matches(name);
    known.0.retain(|name, _| matches(name));
    let mut looks = 0;
    while known.0.is_empty() && looks < EMPTY_LOOKS {
        looks += 1;
        let first = listed(sql, &wanted, matches).await?;
        known.0 = first.into_keys().map(|name| (name, Arc::default())).collect();
        tokio::time::sleep(FIRST_LOOK).await;
    }
    load_where(sql, &wanted, view, known, matches).await
}

/// These tables; who is not in the answer is not there.
///
/// # Errors
/// Those of the connection.
pub async fn load_named(
    sql: &mut Sql,
    names: &[&TableName],
    view: View,
    mut known: Known,
) -> Result<Catalog> {
    if names.is_empty() {
        return Ok(Catalog::default());
    }
    let wanted = is_one_of(names);
    known.0.retain(|name, _| names.contains(&name));
    for &name in names {
        known.0.entry(name.clone()).or_default();
    }
    // Names may be compared without regard to case: the exact ones count.
    load_where(sql, &wanted, view, known, |name| names.contains(&name)).await
}

/// What the catalogue says of a table, but for what changes by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Definition {
    engine: String,
    /// Rows of the past stand in it beside those of now.
    is_versioned: bool,
    columns: Vec<CatalogColumn>,
    declared: Vec<DeclaredColumn>,
    filled: Vec<bool>,
    key: Vec<String>,
    unique: BTreeMap<String, Vec<String>>,
    nullable: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Listed {
    definition: Definition,
    estimated_rows: Option<u64>,
    bytes: u64,
}

/// What the catalogue answered.
struct Reading(BTreeMap<TableName, Listed>);

impl Reading {
    async fn take(sql: &mut Sql, wanted: &str, is_wanted: impl Fn(&TableName) -> bool) -> Result<Reading> {
        let mut all = listed(sql, wanted, is_wanted).await?;
        describe(sql, wanted, &mut all).await?;
        Ok(Reading(all))
    }

    /// Tables that are not as they are known.
    fn in_doubt(&self, known: &Known) -> BTreeSet<TableName> {
        let changed = self
            .0
            .iter()
            .filter(|(name, now)| known.0.get(name).is_none_or(|known| **known != now.definition));
        let absent = known.0.keys().filter(|name| !self.0.contains_key(name));
        changed.map(|(name, _)| name).chain(absent).cloned().collect()
    }
}

/// Tables without their columns and keys.
async fn listed(
    sql: &mut Sql,
    wanted: &str,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<BTreeMap<TableName, Listed>> {
    let tables = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH, TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND {wanted}"
        ))
        .await?;
    let mut all = BTreeMap::new();
    for row in tables {
        let name = named(&row);
        if is_wanted(&name) {
            let estimated_rows = row.get(3).cloned().flatten().and_then(|rows| rows.parse().ok());
            let is_versioned = cell(&row, 5) == "SYSTEM VERSIONED";
            let definition = Definition { engine: cell(&row, 2), is_versioned, ..Definition::default() };
            let bytes = row.get(4).cloned().flatten().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
            all.insert(name, Listed { definition, estimated_rows, bytes });
        }
    }
    Ok(all)
}

/// What is said of these tables while nobody can change them; those that are not there are not in it.
async fn look_closely(sql: &mut Sql, names: &[&TableName]) -> Result<Reading> {
    sql.exec("START TRANSACTION READ ONLY").await?;
    let mut there = Vec::new();
    for &name in names {
        // With an error the connection ends: nothing stays open.
        if opens(sql, name).await? {
            there.push(name);
        }
    }
    let reading = match &there[..] {
        [] => Reading(BTreeMap::new()),
        there => Reading::take(sql, &is_one_of(there), |name| there.contains(&name)).await?,
    };
    sql.exec("ROLLBACK").await?;
    Ok(reading)
}

fn is_one_of(names: &[&TableName]) -> String {
    let pairs: Vec<String> =
        names.iter().map(|n| format!("({}, {})", literal(&n.schema), literal(&n.table))).collect();
    format!("(TABLE_SCHEMA, TABLE_NAME) IN ({})", pairs.join(", "))
}

/// Opens a table, once whoever changes its definition is done, and holds its definition until the transaction ends.
/// False: there is no such table. One that may not be read counts as there: the catalogue shows what it shows.
async fn opens(sql: &mut Sql, name: &TableName) -> Result<bool> {
    let probe = format!("SELECT 1 FROM {}.{} LIMIT 0", quoted(&name.schema), quoted(&name.table));
    let Ok(answer) = tokio::time::timeout(LONGEST_WAIT, sql.try_rows(&probe)).await else {
        return Err(table_error(name, codes::MY032, "somebody holds its definition locked")
            .with_try("see who does: SHOW PROCESSLIST; strandline asks again by itself"));
    };
    match answer {
        Ok(_) => Ok(true),
        Err(error) if matches!(number(&error), Some(NO_DATABASE | NO_TABLE)) => Ok(false),
        Err(error) => match fault("cannot look at a table", error) {
            error if error.code().disposition == Disposition::Retry => Err(error),
            _ => Ok(true),
        },
    }
}

async fn load_where(
    sql: &mut Sql,
    wanted: &str,
    view: View,
    known: Known,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Catalog> {
    let mut reading = Reading::take(sql, wanted, is_wanted).await?;
    let doubted: Vec<TableName> = reading.in_doubt(&known).into_iter().collect();
    for some in doubted.chunks(CLOSELY) {
        let some: Vec<&TableName> = some.iter().collect();
        reading.0.retain(|name, _| !some.contains(&name));
        reading.0.extend(look_closely(sql, &some).await?.0);
    }
    let mut catalog = Catalog::default();
    let mut ids = BTreeMap::new();
    for (name, listed) in reading.0 {
        let id = table_id(&name);
        let Listed { definition, estimated_rows, bytes } = listed;
        let table = check(&name, &definition, ids.insert(id, name.clone()))
            .and_then(|()| build(&name, id, &definition, view))
            .map(|schema| MyTable {
                schema: Arc::new(schema),
                estimated_rows,
                bytes,
                definition: Arc::new(definition),
            });
        match table {
            Ok(table) => catalog.tables.push(table),
            Err(error) => catalog.refused.push((id, name, error)),
        }
    }
    Ok(catalog)
}

fn check(name: &TableName, definition: &Definition, same: Option<TableName>) -> Result<()> {
    if let Some(other) = same {
        let what = format!("its name and \"{other}\" have the same sum: rename one of them, or exclude it");
        return Err(table_error(name, codes::MY026, what));
    }
    if definition.is_versioned {
        let what = "it is system-versioned: the log tells of its rows of the past as of those of now";
        return Err(table_error(name, codes::MY026, what).with_try(format!(
            "ALTER TABLE `{}`.`{}` DROP SYSTEM VERSIONING, or exclude it",
            name.schema, name.table
        )));
    }
    let engine = definition.engine.as_str();
    if matches!(engine, "InnoDB" | "ROCKSDB" | "RocksDB") {
        return Ok(());
    }
    let what = format!(
        "its engine is {engine}, which has no transactions: no snapshot can be taken at one place of the log"
    );
    Err(table_error(name, codes::MY026, what)
        .with_try(format!("ALTER TABLE `{}`.`{}` ENGINE = InnoDB, or exclude it", name.schema, name.table)))
}

fn build(name: &TableName, id: TableId, definition: &Definition, view: View) -> Result<TableSchema> {
    let Definition { columns, declared, filled, key, unique, nullable, .. } = definition;
    if columns.is_empty() {
        return Err(table_error(name, codes::MY037, "its columns may not be seen")
            .with_try("GRANT SELECT ON it TO the user of the connection"));
    }
    // Without a primary key, a unique one that holds no nulls says as well which row is which.
    let sound = |columns: &&Vec<String>| columns.iter().all(|c| !nullable.contains(c));
    let key = if key.is_empty() { unique.values().find(sound).unwrap_or(key) } else { key };
    let key = key.iter().filter_map(|key| columns.iter().position(|c| c.name == *key)).collect();
    let mut schema = schema_of_catalog(name.clone(), id, columns, key, &view.policies, view.full_before)
        .map_err(|error| error.into_error(name))?;
    let numbers = column_numbers(columns.iter().map(|c| c.name.as_str()));
    for (column, &number) in schema.columns.iter_mut().zip(&numbers) {
        column.attnum = number;
    }
    schema.filled = numbers.into_iter().zip(filled).filter(|&(_, &filled)| filled).map(|(n, _)| n).collect();
    schema.declared = Arc::new(Declared { columns: declared.clone(), key: Vec::new() });
    Ok(schema)
}

/// Columns and keys of the tables that are listed.
async fn describe(sql: &mut Sql, wanted: &str, all: &mut BTreeMap<TableName, Listed>) -> Result<()> {
    let columns = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
             VERSION() LIKE '%MariaDB%' \
             FROM information_schema.COLUMNS WHERE {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for row in columns {
        let Some(Listed { definition: table, .. }) = all.get_mut(&named(&row)) else { continue };
        let is_nullable = cell(&row, 4) == "YES";
        let default = row.get(5).cloned().flatten();
        // MariaDB writes the word for no default.
        let default = default.filter(|text| !text.eq_ignore_ascii_case("null"));
        let has_default = default.is_some();
        let extra = cell(&row, 6).to_ascii_uppercase();
        let is_generated = extra.contains("GENERATED") && !has_default;
        // MariaDB writes defaults as SQL, MySQL constants as they are.
        let is_sql = cell(&row, 7) == "1" || extra.contains("DEFAULT_GENERATED");
        let default = default.map(|text| if is_sql { text } else { literal(&text) });
        if is_nullable {
            table.nullable.insert(cell(&row, 2));
        }
        // What rows from before the column got in it, the log does not say.
        table.filled.push(!is_nullable || has_default || is_generated);
        let declared_type = declared_type(cell(&row, 3));
        table.declared.push(DeclaredColumn { nullable: is_nullable, default, declared_type });
        table.columns.push(CatalogColumn { name: cell(&row, 2), column_type: cell(&row, 3) });
    }
    let keys = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE NON_UNIQUE = 0 AND {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    for row in keys {
        let Some(Listed { definition: table, .. }) = all.get_mut(&named(&row)) else { continue };
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
    Ok(())
}

/// The type as the catalogue spells it, `int unsigned`, with the labels that it has.
fn declared_type(name: String) -> DeclaredType {
    let labels = match SqlType::of_catalog(&name) {
        Ok(SqlType::Enum(labels) | SqlType::Set(labels)) => Some(labels.into()),
        _ => None,
    };
    DeclaredType { modifier: -1, name, labels, ..DeclaredType::default() }
}

fn named(row: &TextRow) -> TableName {
    TableName::new(cell(row, 0), cell(row, 1))
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
