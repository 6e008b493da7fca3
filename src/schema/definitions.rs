//! Definitions of tables as rows of a table that the source does not have.
//!
//! Where a log tells statements that define tables, each of them travels like a row: it has a place among the changes,
//! is committed with a position, and comes exactly once. The table is copied like any other: its copy tells what the
//! tables are when the pipeline begins.

use super::{Column, ColumnKind, TableId, TableName, TableSchema};
use serde::{Deserialize, Serialize};

impl TableName {
    /// Of definitions.
    pub fn definitions() -> Self {
        TableName::new("", "SCHEMA_CHANGES")
    }

    /// Whether the source has no table of this name: it is one that stands beside its own.
    pub fn is_beside(&self) -> bool {
        *self == TableName::messages() || *self == TableName::definitions()
    }
}

impl TableSchema {
    /// Of definitions: see [`Definition`].
    pub fn definitions() -> Self {
        let column = |attnum: i16, name: &str| Column {
            name: name.into(),
            attnum,
            type_oid: 0,
            type_modifier: -1,
            type_name: "longtext".into(),
            kind: ColumnKind::Text,
        };
        let names = [(1, "database"), (2, "table"), (3, "ddl"), (4, "changes")];
        let columns = names.into_iter().map(|(number, name)| column(number, name)).collect();
        TableSchema::new(TableId::MESSAGES, TableName::definitions(), columns, Vec::new(), false)
    }

    /// Whether its rows are definitions.
    pub fn is_definitions(&self) -> bool {
        self.id == TableId::MESSAGES && self.name == TableName::definitions()
    }

    /// Whether the source has no such table.
    pub fn is_beside(&self) -> bool {
        self.is_messages() || self.is_definitions()
    }
}

/// A statement that defines something, as a row of that table has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// The database that it concerns; empty: the server.
    pub database: String,
    /// The table; empty where it is none of ours, `None` where it is about no table.
    pub table: Option<String>,
    /// The statement.
    pub ddl: String,
    /// What became of tables.
    pub changes: Vec<TableChange>,
}

/// What a statement made of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableChange {
    /// `CREATE`, `ALTER`, `DROP`.
    pub kind: String,
    /// Its database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// How it is now; `None`: it is gone.
    pub definition: Option<TableDefinition>,
}

/// How a table is defined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableDefinition {
    /// Its default character set.
    pub charset: Option<String>,
    /// Columns of its key.
    pub key: Vec<String>,
    /// Its columns, in order.
    pub columns: Vec<DefinedColumn>,
}

/// How a column is defined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DefinedColumn {
    /// Its name.
    pub name: String,
    /// The number of its type in `java.sql.Types`.
    pub jdbc_type: i32,
    /// Its type: `INT UNSIGNED`.
    pub type_name: String,
    /// Its character set.
    pub charset: Option<String>,
    /// The number in brackets behind the type.
    pub length: Option<i32>,
    /// The second one.
    pub scale: Option<i32>,
    /// It may be null.
    pub optional: bool,
    /// The server counts it up.
    pub auto_incremented: bool,
    /// The server fills it.
    pub generated: bool,
    /// Its default.
    pub default: Option<String>,
    /// Labels of an enum or a set, quoted.
    pub labels: Option<Vec<String>>,
}
