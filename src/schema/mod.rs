//! Tables and columns, as the source has them and as they travel.
//!
//! Layer 0. A [`TableSchema`] is one table at one moment: which relation, which columns by attribute
//! number, which key, and the Arrow schema of its row images.

pub mod change;
mod declared;
mod definitions;
mod kind;
mod messages;
mod shape;

pub use declared::{Declared, DeclaredColumn, DeclaredType};
pub use definitions::{DefinedColumn, Definition, TableChange, TableDefinition};
pub use kind::ColumnKind;
pub use shape::{Field as ShapeField, Scalar, Shape};

use arrow::datatypes::{Field, Schema, SchemaRef};
use change::Change;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The source's own identity of a table: the relation's oid. Survives a rename, not a re-creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableId(pub u32);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Schema and name, exactly as in the source (no quoting, no folding). Displays as `schema.table`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TableName {
    /// The namespace.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// From its two parts.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        TableName { schema: schema.into(), table: table.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schema.as_str() {
            // Of no schema: those that stand beside the source's.
            "" => f.write_str(&self.table),
            schema => write!(f, "{schema}.{}", self.table),
        }
    }
}

/// One column that travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    /// Name, exactly as in the source.
    pub name: String,
    /// `pg_attribute.attnum`: the identity that a rename keeps.
    pub attnum: i16,
    /// The source's type id.
    pub type_oid: u32,
    /// The source's type modifier (length, precision), -1 when there is none.
    pub type_modifier: i32,
    /// The source's name of the type, for people (`numeric(12,2)`).
    pub type_name: String,
    /// How its values are decoded and what they become.
    pub kind: ColumnKind,
}

/// What the source's catalogue says of a table's storage: enough to tell that its rows may have been
/// rewritten with other values, of which the log says nothing (`ALTER TABLE … TYPE … USING`). Digests, to be
/// compared only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TableForm {
    /// Of the files that hold its rows: `TRUNCATE` and `VACUUM FULL` change it, and every rewrite.
    pub files: u64,
    /// Of the transactions that last changed its columns' definitions: every `ALTER … COLUMN` changes it.
    pub columns: u64,
    /// Of what the log identifies its rows by.
    #[serde(default)]
    pub identity: u64,
    /// Of the entries by which it is published: with others, changes in between may not be in the log. Zero: it is
    /// not known.
    #[serde(default)]
    pub published: u64,
    /// Of its parts up to `parts_to`.
    #[serde(default)]
    pub parts: u64,
    /// The largest identity of a part. Zero: it has none, or they are not known.
    #[serde(default)]
    pub parts_to: u32,
    /// The largest number that a column was ever given, of those that do not travel, too. Zero: it is not known.
    #[serde(default)]
    pub columns_to: i16,
}

/// A piece of a partitioned table, however deep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Identity.
    pub id: u32,
    /// Which transaction made it a part.
    pub since: u32,
    /// The file of its rows: `TRUNCATE` of a part by its own name changes it, of which the log does not tell.
    pub file: u32,
    /// It was made as a part; one that was attached later may have brought rows of which the log does not tell.
    pub born: bool,
}

impl Part {
    /// Of the parts up to this identity. `parts` are in order.
    pub fn digest(parts: &[Part], to: u32) -> u64 {
        let mut bytes = Vec::with_capacity(parts.len() * 8);
        for part in parts.iter().filter(|part| part.id <= to) {
            bytes.extend(part.id.to_le_bytes());
            bytes.extend(part.since.to_le_bytes());
            bytes.extend(part.file.to_le_bytes());
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

impl TableForm {
    /// Whether the table may have lost changes since: it is published by other entries now.
    pub fn was_left_out(self, now: TableForm) -> bool {
        self.published != 0 && self.published != now.published
    }

    /// Whether rows may have come or gone with parts, of which the log does not tell. A part that was made as one
    /// came empty.
    pub fn parts_differ(self, now: &[Part]) -> bool {
        self.parts_to != 0
            && (Part::digest(now, self.parts_to) != self.parts
                || now.iter().any(|part| part.id > self.parts_to && !part.born))
    }

    /// A statement that rewrites values changes both, and what changes only one leaves the values alone.
    pub fn may_be_rewritten(self, now: TableForm) -> bool {
        self.files != now.files && self.columns != now.columns
    }
}

/// Columns by which older announcements of a table may differ from its schema: it was followed in place.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Past {
    /// Added since the last copy: a row that was announced without one has null in it.
    pub added: Vec<String>,
    /// Dropped since: a value in one is not wanted any more.
    pub dropped: Vec<String>,
    /// Renamed since: the name that rows may be announced under, and the one that the column has now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<(String, String)>,
}

impl Past {
    /// With what these changes add to it.
    pub fn after(&self, changes: &[Change]) -> Self {
        let mut past = self.clone();
        for change in changes {
            match change {
                Change::Added { column, .. } => past.added.push(column.clone()),
                Change::Dropped { column } => {
                    past.added.retain(|added| added != column);
                    let (gone, left) = past.renamed.into_iter().partition(|(_, now)| now == column);
                    past.renamed = left;
                    past.dropped.extend(Vec::into_iter(gone).map(|(old, _)| old));
                    past.dropped.push(column.clone());
                }
                Change::Renamed { from, to } => {
                    let names = past.added.iter_mut().chain(past.renamed.iter_mut().map(|(_, now)| now));
                    names.filter(|name| *name == from).for_each(|name| name.clone_from(to));
                    past.renamed.push((from.clone(), to.clone()));
                }
                // A text of another length is announced under the same name; the others are followed by a
                // new copy, which begins without a past.
                Change::Widened { .. }
                | Change::Retyped { .. }
                | Change::Replaced { .. }
                | Change::Key
                | Change::Partitions
                | Change::Rewritten => {}
            }
        }
        past
    }

    /// The name that a column has now which rows may be announced with under this one.
    pub fn now(&self, announced: &str) -> Option<&str> {
        self.renamed.iter().find(|(old, _)| old == announced).map(|(_, now)| now.as_str())
    }

    /// Whether rows may be announced with a column of this name that is another one than the table's.
    pub fn knows(&self, name: &str) -> bool {
        self.dropped.iter().chain(self.renamed.iter().map(|(old, _)| old)).any(|old| old == name)
    }
}

impl Column {
    /// The type as far as a change of it matters: its name and, of composite types, their fields' type ids.
    pub fn source_type(&self) -> String {
        self.type_name.clone() + &self.kind.parts()
    }
}

/// One table at one moment of its history.
#[derive(Clone, PartialEq, Debug)]
pub struct TableSchema {
    /// Identity.
    pub id: TableId,
    /// Name at that moment.
    pub name: TableName,
    /// The columns that travel, in the source's order.
    pub columns: Vec<Column>,
    /// Indexes into `columns` of the key, in key order. Empty: the table has no key.
    pub key: Vec<usize>,
    /// Whether the source logs whole old rows (`REPLICA IDENTITY FULL`).
    pub full_before: bool,
    /// How it was stored at that moment.
    pub form: TableForm,
    /// Its partitions, in order of identity, itself among them; none of a table that has none.
    pub parts: Arc<[Part]>,
    /// Attribute numbers of columns that rows from before the column got a value in, of which the log does
    /// not tell.
    pub filled: Vec<i16>,
    /// What older announcements of the table may have been.
    pub past: Past,
    /// What the catalogue said of its columns beyond that.
    pub declared: Arc<Declared>,
    /// The Arrow schema of a row image: one nullable field per column, same order.
    pub arrow: SchemaRef,
}

impl TableSchema {
    /// Derives the Arrow schema.
    pub fn new(
        id: TableId,
        name: TableName,
        columns: Vec<Column>,
        key: Vec<usize>,
        full_before: bool,
    ) -> Self {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), true)).collect();
        TableSchema {
            id,
            name,
            columns,
            key,
            full_before,
            form: TableForm::default(),
            parts: Arc::default(),
            filled: Vec::new(),
            past: Past::default(),
            declared: Arc::default(),
            arrow: Arc::new(Schema::new(fields)),
        }
    }

    /// The same, with what it has been.
    pub fn with_past(self, past: Past) -> Self {
        TableSchema { past, ..self }
    }

    /// Whether both describe the same rows, however they are stored.
    pub fn describes_same(&self, other: &TableSchema) -> bool {
        let (declared, parts) = (Arc::clone(&self.declared), Arc::clone(&self.parts));
        TableSchema { form: self.form, parts, past: self.past.clone(), declared, ..other.clone() } == *self
    }

    /// Whether rows can be found again: without a key a table is an append-only change log.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }
}
