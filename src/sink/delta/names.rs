//! Column mapping: what a table's columns are called in its files.
//!
//! A table that asks for it (`column_mapping: name`) calls its columns `c1`, `c2`, … in files, statistics and
//! partition values; the names that people use stand in the schema alone, with a number and the file's name for each.
//! So a column is renamed in the log only, and its name may hold any character. Numbers are never given twice.
//!
//! Everything that touches rows knows a table by its *stored* schema, whose columns have the file's names; only
//! metadata and the state document speak of the others. The columns of a slice are led there by attribute number,
//! which a rename keeps: a slice that was decoded before a rename finds the same places as one from after it.
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | a column was given a number, the commit that says so was not put | perhaps files with that name, which no version names | gives the same number again, or another one: nothing names those files |
//! | a rename waits for its commit, we die | the old name, and rows without a gap | the catalogue says the new name: it waits for the commit that raises the epoch |
//! | a new copy is written, not committed | files with the new copy's names | they follow from schema and state alone: a copy that goes on gives them again |

use super::commit::Core;
use super::layout::is_ours;
use super::log::MetaData;
use super::state::TableState;
use super::table;
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch};
use crate::schema::{Column, TableSchema};
use crate::sink::table_error;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The property that says that columns have other names in files.
pub(super) const MODE: &str = "delta.columnMapping.mode";
/// The property that holds the greatest number of a column.
const GREATEST: &str = "delta.columnMapping.maxColumnId";
const ID: &str = "delta.columnMapping.id";
const PHYSICAL: &str = "delta.columnMapping.physicalName";
/// Where Parquet readers of Arrow find the number of a field.
const FIELD_ID: &str = "PARQUET:field_id";

/// A column in files.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    name: String,
    id: i64,
}

/// What the columns are called in files, by attribute number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    places: BTreeMap<i16, Place>,
    greatest: i64,
}

/// Whether the table's columns are mapped by name.
pub(super) fn is_mapped(configuration: &BTreeMap<String, String>) -> bool {
    configuration.get(MODE).is_some_and(|mode| mode == "name")
}

impl Names {
    /// Of a table that is made, or copied anew: a column that was there keeps its place. `is_same`: in the source it is
    /// the table that it was.
    pub(super) fn anew(old: Option<&Self>, is_same: bool, schema: &TableSchema) -> Self {
        let mut names = Names { places: BTreeMap::new(), greatest: old.map_or(0, |old| old.greatest) };
        for column in &schema.columns {
            let kept = old.and_then(|old| old.places.get(&column.attnum));
            match kept.filter(|_| is_same || is_ours(column)) {
                Some(place) => drop(names.places.insert(column.attnum, place.clone())),
                None => names.give(column),
            }
        }
        names
    }

    /// A place for a column that has none.
    pub(super) fn give(&mut self, column: &Column) {
        if self.places.contains_key(&column.attnum) {
            return;
        }
        self.greatest += 1;
        // Ours are never renamed, and are looked for by their names.
        let name = if is_ours(column) { column.name.clone() } else { format!("c{}", self.greatest) };
        self.places.insert(column.attnum, Place { name, id: self.greatest });
    }

    /// What metadata and state say of it, beside what is known: columns that went may still come in slices.
    ///
    /// # Errors
    /// `TG020` when a column has no place in the schema.
    pub(super) fn learn(
        &mut self,
        metadata: &MetaData,
        state: &TableState,
        schema: &TableSchema,
    ) -> Result<()> {
        let odd = |what: String| table_error(&schema.name, codes::TG020, what);
        let fields = fields_of(metadata).ok_or_else(|| odd("its Delta schema cannot be read".to_owned()))?;
        let by_name: HashMap<&str, &Value> =
            fields.iter().filter_map(|field| Some((field.get("name")?.as_str()?, field))).collect();
        self.greatest = metadata
            .configuration
            .get(GREATEST)
            .and_then(|text| text.parse::<i64>().ok())
            .unwrap_or(0)
            .max(self.greatest);
        let ours = schema.columns.iter().filter(|c| is_ours(c) && by_name.contains_key(c.name.as_str()));
        let ours = ours.map(|c| (c.attnum, c.name.as_str()));
        for (attnum, name) in state.columns.iter().map(|c| (c.attnum, c.name.as_str())).chain(ours) {
            let place = by_name.get(name).and_then(|field| place_of(field));
            let place =
                place.ok_or_else(|| odd(format!("its column \"{name}\" has no name for its files")))?;
            self.greatest = self.greatest.max(place.id);
            self.places.insert(attnum, place);
        }
        Ok(())
    }

    /// The same schema as files have it.
    ///
    /// # Errors
    /// `RT001` for a column without a place.
    pub(super) fn stored(&self, schema: &Arc<TableSchema>) -> Result<Arc<TableSchema>> {
        let mut columns = Vec::with_capacity(schema.columns.len());
        let mut fields = Vec::with_capacity(schema.columns.len());
        for (column, field) in schema.columns.iter().zip(schema.arrow.fields()) {
            let place = self.places.get(&column.attnum).ok_or_else(|| {
                let what = format!("column \"{}\" has no name for its files", column.name);
                table_error(&schema.name, codes::RT001, what)
            })?;
            columns.push(Column { name: place.name.clone(), ..column.clone() });
            let marks = HashMap::from([(FIELD_ID.to_owned(), place.id.to_string())]);
            fields.push(Field::clone(field).with_name(&place.name).with_metadata(marks));
        }
        let arrow = Arc::new(Schema::new(fields));
        Ok(Arc::new(TableSchema { columns, arrow, ..TableSchema::clone(schema) }))
    }

    /// A column of the Delta schema.
    pub(super) fn field(&self, column: &Column) -> Value {
        let mut field = table::field(column);
        if let (Some(place), Some(marks)) =
            (self.places.get(&column.attnum), field.get_mut("metadata").and_then(Value::as_object_mut))
        {
            marks.insert(ID.to_owned(), json!(place.id));
            marks.insert(PHYSICAL.to_owned(), json!(place.name));
        }
        field
    }

    /// The properties of a table with these columns.
    pub(super) fn write_into(&self, configuration: &mut BTreeMap<String, String>) {
        configuration.insert(MODE.to_owned(), "name".to_owned());
        configuration.insert(GREATEST.to_owned(), self.greatest.to_string());
    }
}

fn fields_of(metadata: &MetaData) -> Option<Vec<Value>> {
    let mut schema: Value = serde_json::from_str(&metadata.schema_string).ok()?;
    serde_json::from_value(schema.get_mut("fields")?.take()).ok()
}

fn place_of(field: &Value) -> Option<Place> {
    let marks = field.get("metadata")?;
    Some(Place { name: marks.get(PHYSICAL)?.as_str()?.to_owned(), id: marks.get(ID)?.as_i64()? })
}

/// The number of a field, in files that have such.
pub(super) fn marks_of(field: &Field) -> HashMap<String, String> {
    let id = field.metadata().get(FIELD_ID);
    id.map(|id| (FIELD_ID.to_owned(), id.clone())).into_iter().collect()
}

/// The names that people use, each with the one that files have, in the order of the Delta schema. `None`: the schema
/// cannot be read.
pub(super) fn pairs(metadata: &MetaData) -> Option<Vec<(String, String)>> {
    let mapped = is_mapped(&metadata.configuration);
    let pair = |field: Value| {
        let name = field.get("name")?.as_str()?.to_owned();
        Some((name.clone(), if mapped { place_of(&field)?.name } else { name }))
    };
    fields_of(metadata)?.into_iter().map(pair).collect()
}

/// What files call this column.
pub(super) fn in_files(pairs: &[(String, String)], name: &str) -> Option<String> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, stored)| stored.clone())
}

/// The same rows under the stored schema.
///
/// # Errors
/// `RT001`.
pub(super) fn dressed(batch: ChangeBatch, stored: &Arc<TableSchema>) -> Result<ChangeBatch> {
    if Arc::ptr_eq(&batch.schema, stored) || batch.schema.arrow == stored.arrow {
        return Ok(batch);
    }
    let named = |rows: RecordBatch| {
        RecordBatch::try_new(Arc::clone(&stored.arrow), rows.columns().to_vec())
            .map_err(|e| Error::new(codes::RT001, "cannot name columns as files have them").with_source(e))
    };
    let before = match batch.before {
        Some(Before { rows, index }) => Some(Before { rows: named(rows)?, index }),
        None => None,
    };
    Ok(ChangeBatch { schema: Arc::clone(stored), after: named(batch.after)?, before, ..batch })
}

impl Core {
    /// The source's schema, with our columns, as files have it.
    ///
    /// # Errors
    /// As [`Names::stored`].
    pub(super) fn stored_as(&self, schema: &Arc<TableSchema>) -> Result<Arc<TableSchema>> {
        match &self.names {
            None => Ok(Arc::clone(schema)),
            Some(names) => names.stored(schema),
        }
    }

    /// Takes in what the newest metadata say, those that wait for the next commit included.
    ///
    /// # Errors
    /// As [`Names::learn`].
    pub(super) fn learn_names(&mut self) -> Result<()> {
        let (metadata, state) = match &self.pending {
            Some(pending) => (&pending.metadata, &pending.state),
            None => (&self.metadata, &self.state),
        };
        if let Some(names) = &mut self.names {
            names.learn(metadata, state, &self.schema)?;
        }
        Ok(())
    }

    /// The same once the table follows the source's schema.
    ///
    /// # Errors
    /// As [`Names::learn`] and [`Names::stored`].
    pub(super) fn follow_names(&mut self) -> Result<()> {
        self.learn_names()?;
        self.stored = self.stored_as(&self.schema)?;
        Ok(())
    }

    /// The columns get the places that a new copy gives them.
    ///
    /// # Errors
    /// As [`Names::stored`].
    pub(super) fn rename_anew(&mut self) -> Result<()> {
        let is_same = self.state.source_table == self.schema.id;
        let anew = || Names::anew(self.names.as_ref(), is_same, &self.schema);
        self.names = self.form.layout.column_mapping.then(anew);
        self.stored = self.stored_as(&self.schema)?;
        Ok(())
    }

    /// Columns that the table is partitioned by, as files have them.
    pub(super) fn parted_by(&self) -> Vec<String> {
        let by = &self.form.layout.partition_by;
        let stored = |name: &String| {
            let at = self.schema.columns.iter().position(|column| column.name == *name);
            at.and_then(|at| self.stored.columns.get(at)).map_or_else(|| name.clone(), |c| c.name.clone())
        };
        by.iter().map(stored).collect()
    }
}
