//! What a catalogue says of a table's columns that its rows do not need: for formats that show it.

use std::sync::Arc;

/// Of one table. Two tables that differ in this alone have the same rows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Declared {
    /// One for each column of the schema, in its order; none where nothing is known.
    pub columns: Vec<DeclaredColumn>,
    /// Indexes into the schema's columns: the primary key's, in its order, else those of a unique index, which
    /// may hold nulls. Empty: there is neither, or nothing is known.
    pub key: Vec<usize>,
}

/// One column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeclaredColumn {
    /// It may be null.
    pub nullable: bool,
    /// The default, as the source spells it. None for a generated column.
    pub default: Option<String>,
    /// Its type.
    pub declared_type: DeclaredType,
}

/// A type below all domains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeclaredType {
    /// The source's type id.
    pub oid: u32,
    /// The source's type modifier, -1 when there is none.
    pub modifier: i32,
    /// Its name, without schema and modifier.
    pub name: String,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// Of an enumeration: its labels in their order.
    pub labels: Option<Arc<[String]>>,
    /// Of an array: its elements.
    pub element: Option<Box<DeclaredType>>,
}
