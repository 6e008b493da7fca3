//! Whether rows can be decoded as a Relation message announces them.

use crate::pgoutput::{Relation, RelationColumn, ReplicaIdentity};
use crate::schema::{Column, TableSchema};

/// What the last Relation message on this connection said of a table.
pub(super) enum Announced {
    /// None came.
    Not,
    /// It is what rows are decoded with.
    Agrees,
    /// Rows have other columns, which is known and followed: for each of ours, its place in them.
    Mapped(Vec<Option<usize>>),
    /// It differs, and how. An error only when a row comes that is to be taken: transactions that the table
    /// holds already may be of an older form.
    Differs(String),
}

impl Announced {
    /// Compares it with how the table is followed.
    pub(super) fn of(schema: &TableSchema, relation: &Relation<'_>) -> Self {
        if let Some(what) = other_table(schema, relation) {
            return Announced::Differs(what);
        }
        let mut map = vec![None; schema.columns.len()];
        for (place, column) in relation.columns.iter().enumerate() {
            let is_called = |name: &str| schema.columns.iter().position(|own| own.name == name);
            let found = is_called(column.name).or_else(|| is_called(schema.past.now(column.name)?));
            let Some(at) = found else {
                if schema.past.dropped.iter().any(|dropped| dropped == column.name) {
                    continue;
                }
                return Announced::Differs(format!("column \"{}\" is not known", column.name));
            };
            let Some(own) = schema.columns.get(at) else { continue };
            if !same_values(own, column) {
                let what = format!("column \"{}\" has another type than {}", own.name, own.type_name);
                return Announced::Differs(what);
            }
            if relation.identity != ReplicaIdentity::Full && schema.key.contains(&at) != column.key {
                return Announced::Differs(format!("column \"{}\" joined or left the key", own.name));
            }
            match map.get_mut(at) {
                Some(slot) if slot.is_none() => *slot = Some(place),
                _ => return Announced::Differs(format!("column \"{}\" is there twice", own.name)),
            }
        }
        for (own, place) in schema.columns.iter().zip(&map) {
            if place.is_none() && !schema.past.added.contains(&own.name) {
                return Announced::Differs(format!("column \"{}\" is not there", own.name));
            }
        }
        let is_identity = map.len() == relation.columns.len()
            && map.iter().enumerate().all(|(at, place)| *place == Some(at));
        if is_identity { Announced::Agrees } else { Announced::Mapped(map) }
    }
}

/// Whether a value announced like this is one of the column. Texts of any length are.
fn same_values(own: &Column, announced: &RelationColumn<'_>) -> bool {
    const TEXTS: [u32; 2] = [25, 1043];
    (own.type_oid, own.type_modifier) == (announced.type_oid, announced.type_modifier)
        || (TEXTS.contains(&own.type_oid) && TEXTS.contains(&announced.type_oid))
}

/// What speaks against its being the table that is followed, columns apart; for people.
fn other_table(schema: &TableSchema, relation: &Relation<'_>) -> Option<String> {
    let namespace = if relation.namespace.is_empty() { "pg_catalog" } else { relation.namespace };
    if (namespace, relation.name) != (schema.name.schema.as_str(), schema.name.table.as_str()) {
        return Some(format!("it was renamed to \"{namespace}.{}\"", relation.name));
    }
    // Whole old rows serve where keys do; the reverse is not so.
    (schema.full_before && !schema.has_key() && relation.identity != ReplicaIdentity::Full)
        .then(|| "its replica identity is not FULL any more".to_owned())
}
