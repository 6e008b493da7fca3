//! Tables, columns and keys as the server's catalogue has them now.
//!
//! MySQL knows tables and columns by their names alone, so their identities are made from the names: a table that is
//! renamed is another table, and a column that is renamed is dropped and added
//! ([`crate::schema::change`] says what follows from that).
//!
//! # While definitions change
//! What the catalogue shows is not of one moment: for an instant, while a table is altered or swapped by a rename,
//! it is not listed, or is listed without engine or columns. A table that is not there would be stopped, or left out
//! of the pipeline; so an absence is believed only when the table itself says so: a statement that reads nothing
//! of it waits until its definition is settled, and either works, and the catalogue is asked again, or fails because
//! there is no such table.

use super::fault::{fault, table_error};
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
/// The catalogue is asked again so often when it does not agree with the tables; the pause grows each time.
const READINGS: u32 = 8;
/// For a table whose definition is locked.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// What counts as a table.
const KINDS: &str = "TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')";
const PAUSE: Duration = Duration::from_millis(20);

/// A table.
#[derive(Clone, Debug)]
pub struct MyTable {
    /// Its schema.
    pub schema: Arc<TableSchema>,
    /// Its columns as the catalogue describes them.
    pub columns: Vec<CatalogColumn>,
    /// Rows, by the server's estimate.
    pub estimated_rows: Option<u64>,
    /// Bytes of its rows, likewise.
    pub bytes: u64,
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

/// Everything that the selection wants. Tables that are `known` are looked for by themselves when the catalogue does
/// not list them; without any, an empty answer is asked for again.
///
/// # Errors
/// Those of the connection.
pub async fn load(
    sql: &mut Sql,
    selection: &Selection,
    view: View,
    known: &BTreeSet<TableName>,
) -> Result<Catalog> {
    let system: Vec<String> = SYSTEM.iter().map(|name| literal(name)).collect();
    let wanted = format!("TABLE_SCHEMA NOT IN ({})", system.join(", "));
    let known = known.iter().filter(|name| selection.matches(name)).cloned().collect();
    load_where(sql, &wanted, view, known, |name| selection.matches(name)).await
}

/// The tables that the selection matches, by name, as the catalogue lists them at this instant.
///
/// # Errors
/// Those of the connection.
pub async fn names(sql: &mut Sql, selection: &Selection) -> Result<BTreeSet<TableName>> {
    let query = format!("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE {KINDS}");
    let names = sql.rows(&query).await?.iter().map(named).collect::<BTreeSet<_>>();
    Ok(names
        .into_iter()
        .filter(|name| !SYSTEM.contains(&name.schema.as_str()) && selection.matches(name))
        .collect())
}

/// These tables; who is not in the answer is not there.
///
/// # Errors
/// Those of the connection.
pub async fn load_named(sql: &mut Sql, names: &[&TableName], view: View) -> Result<Catalog> {
    if names.is_empty() {
        return Ok(Catalog::default());
    }
    let pairs: Vec<String> =
        names.iter().map(|n| format!("({}, {})", literal(&n.schema), literal(&n.table))).collect();
    let wanted = format!("(TABLE_SCHEMA, TABLE_NAME) IN ({})", pairs.join(", "));
    let known = names.iter().copied().cloned().collect();
    // Names may be compared without regard to case: the exact ones count.
    load_where(sql, &wanted, view, known, |name| names.contains(&name)).await
}

struct Described {
    columns: Vec<CatalogColumn>,
    declared: Vec<DeclaredColumn>,
    filled: Vec<bool>,
    key: Vec<String>,
    unique: BTreeMap<String, Vec<String>>,
    nullable: BTreeSet<String>,
}

/// What the catalogue answered.
struct Reading {
    tables: Vec<TextRow>,
    described: BTreeMap<TableName, Described>,
}

impl Reading {
    async fn take(sql: &mut Sql, wanted: &str, is_wanted: impl Fn(&TableName) -> bool) -> Result<Reading> {
        let tables = sql
            .rows(&format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
                 WHERE {KINDS} AND {wanted} ORDER BY 1, 2"
            ))
            .await?;
        let tables = tables.into_iter().filter(|row| is_wanted(&named(row))).collect();
        Ok(Reading { tables, described: describe(sql, wanted).await? })
    }

    /// Tables that it does not show, or not whole.
    fn in_doubt<'a>(&'a self, known: &'a BTreeSet<TableName>) -> BTreeSet<TableName> {
        let listed: BTreeSet<TableName> = self.tables.iter().map(named).collect();
        let is_whole = |row: &&TextRow| !cell(row, 2).is_empty() && self.described.contains_key(&named(row));
        let broken = self.tables.iter().filter(|row| !is_whole(row)).map(named);
        known.difference(&listed).cloned().chain(broken).collect()
    }
}

/// A reading that agrees with the tables themselves, or the last of many.
async fn settled(
    sql: &mut Sql,
    wanted: &str,
    mut known: BTreeSet<TableName>,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Reading> {
    let mut reading = Reading::take(sql, wanted, &is_wanted).await?;
    for round in 1..READINGS {
        let mut is_unsettled = reading.tables.is_empty() && known.is_empty();
        for name in reading.in_doubt(&known) {
            // What cannot be opened is shown by the catalogue as well as it ever will be.
            let opens = opens(sql, &name).await?;
            is_unsettled |= opens;
            if !opens {
                known.remove(&name);
            }
        }
        if !is_unsettled {
            break;
        }
        tokio::time::sleep(PAUSE * round).await;
        reading = Reading::take(sql, wanted, &is_wanted).await?;
    }
    Ok(reading)
}

/// Whether the table is there and can be opened, once whoever changes its definition is done.
async fn opens(sql: &mut Sql, name: &TableName) -> Result<bool> {
    let probe = format!("SELECT 1 FROM {}.{} LIMIT 0", quoted(&name.schema), quoted(&name.table));
    let Ok(answer) = tokio::time::timeout(LONGEST_WAIT, sql.try_rows(&probe)).await else {
        return Err(table_error(name, codes::MY032, "somebody holds its definition locked")
            .with_try("see who does: SHOW PROCESSLIST; strandline asks again by itself"));
    };
    match answer {
        Ok(_) => Ok(true),
        Err(error) => match fault("cannot look at a table", error) {
            error if error.code().disposition == Disposition::Retry => Err(error),
            // It is not there, or not for us.
            _ => Ok(false),
        },
    }
}

async fn load_where(
    sql: &mut Sql,
    wanted: &str,
    view: View,
    known: BTreeSet<TableName>,
    is_wanted: impl Fn(&TableName) -> bool,
) -> Result<Catalog> {
    let Reading { tables, mut described } = settled(sql, wanted, known, is_wanted).await?;
    let mut catalog = Catalog::default();
    let mut ids = BTreeMap::new();
    for row in tables {
        let name = named(&row);
        let id = table_id(&name);
        let found = described.remove(&name);
        let table = check(&name, &row, ids.insert(id, name.clone()))
            .and_then(|()| build(&name, id, found, view))
            .map(|(schema, columns)| MyTable {
                schema: Arc::new(schema),
                columns,
                estimated_rows: row.get(3).cloned().flatten().and_then(|rows| rows.parse().ok()),
                bytes: row.get(4).cloned().flatten().and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
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
    view: View,
) -> Result<(TableSchema, Vec<CatalogColumn>)> {
    let Some(described) = described else {
        return Err(table_error(name, codes::MY037, "its columns may not be seen")
            .with_try("GRANT SELECT ON it TO the user of the connection"));
    };
    let Described { columns, declared, filled, key, unique, nullable } = described;
    // Without a primary key, a unique one that holds no nulls says as well which row is which.
    let key = if key.is_empty() {
        let sound = |columns: &&Vec<String>| columns.iter().all(|c| !nullable.contains(c));
        unique.values().find(sound).cloned().unwrap_or_default()
    } else {
        key
    };
    let key = key.iter().filter_map(|key| columns.iter().position(|c| c.name == *key)).collect();
    let schema = schema_of_catalog(name.clone(), id, &columns, key, &view.policies, view.full_before)
        .map_err(|error| error.into_error(name))?;
    let numbers = column_numbers(columns.iter().map(|c| c.name.as_str()));
    let mut schema = schema;
    for (column, &number) in schema.columns.iter_mut().zip(&numbers) {
        column.attnum = number;
    }
    schema.filled = numbers.into_iter().zip(filled).filter(|(_, filled)| *filled).map(|(n, _)| n).collect();
    schema.declared = Arc::new(Declared { columns: declared, key: Vec::new() });
    Ok((schema, columns))
}

async fn describe(sql: &mut Sql, wanted: &str) -> Result<BTreeMap<TableName, Described>> {
    let mut all: BTreeMap<TableName, Described> = BTreeMap::new();
    let columns = sql
        .rows(&format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, \
             VERSION() LIKE '%MariaDB%' \
             FROM information_schema.COLUMNS WHERE {wanted} ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        ))
        .await?;
    for row in columns {
        let name = TableName::new(cell(&row, 0), cell(&row, 1));
        let table = all.entry(name).or_insert_with(|| Described {
            columns: Vec::new(),
            declared: Vec::new(),
            filled: Vec::new(),
            key: Vec::new(),
            unique: BTreeMap::new(),
            nullable: BTreeSet::new(),
        });
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
