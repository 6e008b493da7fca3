//! From a table as the log or the catalogue describes it to the [`TableSchema`] that its rows travel under.

use super::sqltype::{Policies, SqlType, UnknownType};
use super::table_map::TableMap;
use crate::error::{Error, codes};
use crate::schema::{Column, TableId, TableName, TableSchema};

/// A column as `information_schema.columns` describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogColumn {
    /// `column_name`.
    pub name: String,
    /// `column_type`: `bigint unsigned`, `enum('a','b')`.
    pub column_type: String,
}

/// Why a table cannot be described.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutlineError {
    /// The `TABLE_MAP` names no columns: `binlog_row_metadata` is not `FULL`.
    NoNames,
    /// A column has a type that we do not know.
    UnknownType {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
}

impl OutlineError {
    /// With code and advice, for people.
    pub fn into_error(self, table: &TableName) -> Error {
        match self {
            OutlineError::NoNames => Error::new(
                codes::MY022,
                format!("table \"{table}\": the binary log does not name its columns"),
            )
            .with_try("SET PERSIST binlog_row_metadata=FULL; on the server, then resync the table"),
            OutlineError::UnknownType { column, type_name } => Error::new(
                codes::MY020,
                format!("table \"{table}\", column \"{column}\": the type {type_name} is not supported"),
            )
            .with_try("leave the table out, or report the type"),
        }
    }
}

/// The column, as it travels. `position`: from 1, as in the catalogue.
fn column(name: &str, position: usize, sql_type: &SqlType, policies: &Policies) -> Column {
    Column {
        name: name.to_owned(),
        attnum: i16::try_from(position).unwrap_or(i16::MAX),
        type_oid: sql_type.number(),
        type_modifier: -1,
        type_name: sql_type.to_string(),
        kind: sql_type.kind(policies),
    }
}

/// The columns' types as a `TABLE_MAP` has them, completed by what the catalogue knows of columns of the same name.
///
/// # Errors
/// The table cannot be described.
pub(super) fn map_types(
    map: &TableMap,
    catalog: &[CatalogColumn],
) -> Result<Vec<(String, SqlType)>, OutlineError> {
    let typed = |column: &super::table_map::MapColumn| {
        let name = column.name.clone().ok_or(OutlineError::NoNames)?;
        let unknown = |UnknownType(type_name)| OutlineError::UnknownType { column: name.clone(), type_name };
        let found = SqlType::of_map(column).map_err(unknown)?;
        let known = catalog.iter().find(|known| known.name == name);
        let known = known.and_then(|known| SqlType::of_catalog(&known.column_type).ok());
        Ok((
            name.clone(),
            match known {
                Some(known) => found.refined(&known),
                None => found,
            },
        ))
    };
    map.columns.iter().map(typed).collect()
}

/// The schema of a table as the log describes it. `catalog`: what the catalogue says of the table, if anything: it is
/// asked only for what the log does not tell (MariaDB's `uuid`, `inet4`, `inet6`).
///
/// `full_before`: whether old rows are to be whole, as `TableSchema::full_before`.
///
/// # Errors
/// The table cannot be described.
pub fn schema_of_map(
    map: &TableMap,
    id: TableId,
    catalog: &[CatalogColumn],
    policies: &Policies,
    full_before: bool,
) -> Result<TableSchema, OutlineError> {
    let types = map_types(map, catalog)?;
    let columns = types.iter().enumerate().map(|(i, (name, of))| column(name, i + 1, of, policies)).collect();
    let key = map.key.iter().map(|part| part.column).collect();
    let name = TableName::new(&map.database, &map.table);
    Ok(TableSchema::new(id, name, columns, key, full_before))
}

/// The schema of a table as the catalogue describes it: the same as [`schema_of_map`] of a row that is written now.
/// `key`: the primary key's columns, by index.
///
/// # Errors
/// The table cannot be described.
pub fn schema_of_catalog(
    name: TableName,
    id: TableId,
    catalog: &[CatalogColumn],
    key: Vec<usize>,
    policies: &Policies,
    full_before: bool,
) -> Result<TableSchema, OutlineError> {
    let typed = |(i, known): (usize, &CatalogColumn)| {
        let unknown =
            |UnknownType(type_name)| OutlineError::UnknownType { column: known.name.clone(), type_name };
        let of = SqlType::of_catalog(&known.column_type).map_err(unknown)?;
        Ok(column(&known.name, i + 1, &of, policies))
    };
    let columns = catalog.iter().enumerate().map(typed).collect::<Result<_, _>>()?;
    Ok(TableSchema::new(id, name, columns, key, full_before))
}
