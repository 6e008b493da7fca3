//! Following the source's columns in place: what is added to the target or no longer filled.
//!
//! Nothing is read and nothing is written but metadata, in the commit that brings the next unit, or in the
//! one that raises the epoch at the start. A column that is added stands at the end of the Delta schema; files
//! from before it lack it, which reads as null. A column that is dropped in the source stays in the Delta
//! schema; files from then on lack it. So a file needs no more than the columns of its own time. A column that is
//! renamed is that only where files call it otherwise ([`super::names`]): then its name in the schema is another one.

use super::commit::Core;
use super::log::{MetaData, Protocol};
use super::state::{self, TableState};
use super::table;
use crate::error::{Error, Result, codes};
use crate::schema::TableSchema;
use crate::schema::change::{Change, ChangePolicy, Remedy, told};
use crate::sink::{change_refused, left_out, table_error};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the next commit brings with it.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// The state document.
    pub state: TableState,
    /// The metadata that holds it.
    pub metadata: MetaData,
    /// A protocol with more features, where a new column needs one.
    pub protocol: Option<Protocol>,
}

/// How the table follows its source.
#[derive(Debug)]
pub(super) enum Follow {
    /// It is as the source has it.
    Same,
    /// In place.
    InPlace(Box<Pending>),
    /// By a new copy, and why.
    Copy(String),
}

/// Compares the table with the source's schema.
///
/// # Errors
/// `PG022` when the operator's policy is to stop, or the configuration gives the columns other types; `PG025` when
/// the table was left out of the log for a while; `TG020` when the Delta schema cannot be read.
pub(super) fn follow(core: &Core, schema: &TableSchema, policy: ChangePolicy) -> Result<Follow> {
    if core.state.form.is_some_and(|form| form.was_left_out(schema.form)) {
        return Err(left_out(&schema.name));
    }
    let changes = core.state.changes(schema);
    match policy.remedy_where(&changes, core.names.is_some()) {
        Remedy::Stop => Err(change_refused(&schema.name, &changes)),
        Remedy::Copy => Ok(Follow::Copy(told(&changes))),
        Remedy::InPlace => in_place(core, schema, &changes),
    }
}

fn in_place(core: &Core, schema: &TableSchema, changes: &[Change]) -> Result<Follow> {
    let unreadable = |e: serde_json::Error| {
        table_error(&schema.name, codes::TG020, "its Delta schema cannot be read").with_source(e)
    };
    let mut delta: Value = serde_json::from_str(&core.metadata.schema_string).map_err(unreadable)?;
    let Some(fields) = delta.get_mut("fields").and_then(Value::as_array_mut) else {
        return Err(table_error(&schema.name, codes::TG020, "its Delta schema has no fields"));
    };
    if let Some(why) = rename(core, fields, changes) {
        return Ok(Follow::Copy(why));
    }
    let mut names = core.names.clone();
    let added =
        |name: &str| changes.iter().any(|c| matches!(c, Change::Added { column, .. } if column == name));
    let name_of = |field: &Value| field.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    for column in &schema.columns {
        let same = fields.iter().find(|field| name_of(field) == column.name);
        match same {
            Some(_) if added(&column.name) => {
                return Ok(Follow::Copy(format!(
                    "column \"{}\" was there before, and was dropped",
                    column.name
                )));
            }
            Some(field) if field.get("type") != Some(&json!(column.kind.delta())) => {
                let what =
                    "its columns have other types in the target: the configuration or the source changed";
                return Err(table_error(&schema.name, codes::PG022, what)
                    .with_try(format!("strandline resync \"{}\" --yes", schema.name)));
            }
            Some(_) => {}
            None if fields.iter().any(|f| name_of(f).to_lowercase() == column.name.to_lowercase()) => {
                let what = format!("column \"{}\" differs from a dropped one only in case", column.name);
                return Ok(Follow::Copy(what));
            }
            None => fields.push(match &mut names {
                None => table::field(column),
                Some(names) => {
                    names.give(column);
                    names.field(column)
                }
            }),
        }
    }
    if (core.state.mode, &core.state.layout) != (core.form.mode, &core.form.layout) {
        return Err(core
            .written_otherwise()
            .with_try(format!("strandline resync \"{}\" --yes", schema.name)));
    }
    let state = core.state.evolved(schema, changes);
    if state == core.state {
        return Ok(Follow::Same);
    }
    if !core.state.copied.is_empty() {
        return Ok(Follow::Copy("it changed while an interrupted copy was made whole".to_owned()));
    }
    let document = serde_json::to_string(&state)
        .map_err(|e| Error::new(codes::RT001, "cannot encode a table's state").with_source(e))?;
    let mut metadata = core.metadata.clone();
    metadata.schema_string = delta.to_string();
    metadata.configuration.insert(state::KEY.into(), document);
    if let Some(names) = &names {
        names.write_into(&mut metadata.configuration);
    }
    let protocol = protocol_of(core, schema, &metadata);
    Ok(Follow::InPlace(Box::new(Pending { state, metadata, protocol })))
}

/// Gives columns their new names, in the schema alone. Says why that cannot be.
fn rename(core: &Core, fields: &mut [Value], changes: &[Change]) -> Option<String> {
    for change in changes {
        let name = match change {
            Change::Renamed { to, .. } => to,
            Change::Added { column, .. } => column,
            _ => continue,
        };
        // Rows from before may still come, and would be taken for rows of this column.
        if core.state.past.knows(name) {
            return Some(format!("the name \"{name}\" was another column's"));
        }
    }
    for change in changes {
        let Change::Renamed { from, to } = change else { continue };
        if core.state.layout.partition_by.contains(from) {
            return Some(format!("column \"{from}\", which it is partitioned by, was renamed"));
        }
        let is_called = |field: &Value, name: &str| {
            let known = field.get("name").and_then(Value::as_str);
            known.is_some_and(|known| known.to_lowercase() == name.to_lowercase())
        };
        let is_taken = |field: &Value| is_called(field, to) && !is_called(field, from);
        if fields.iter().any(is_taken) {
            return Some(format!("a dropped column has the name \"{to}\""));
        }
        let name = fields
            .iter_mut()
            .find(|field| field.get("name").and_then(Value::as_str) == Some(from))
            .and_then(|field| field.get_mut("name"));
        match name {
            Some(name) => *name = json!(to),
            None => return Some(format!("column \"{from}\" is not in the target")),
        }
    }
    None
}

/// The protocol that these metadata need, where it is another one.
fn protocol_of(core: &Core, schema: &TableSchema, metadata: &MetaData) -> Option<Protocol> {
    let needed = table::protocol_for(schema, core.form.mode, &metadata.configuration);
    let protocol = super::copy::wider(&core.protocol, &needed);
    Some(protocol).filter(|protocol| *protocol != core.protocol)
}

impl Core {
    /// The table's properties become what the operator wants, with the next commit.
    pub(super) fn set_properties(&mut self) {
        let (state, metadata) = match &self.pending {
            Some(pending) => (&pending.state, &pending.metadata),
            None => (&self.state, &self.metadata),
        };
        let differs = |(key, value): (&String, &String)| metadata.configuration.get(key) != Some(value);
        if !self.form.properties.iter().any(differs) {
            return;
        }
        let (state, mut metadata) = (state.clone(), metadata.clone());
        metadata.configuration.extend(self.form.properties.clone());
        let protocol = protocol_of(self, &self.schema, &metadata);
        self.pending = Some(Pending { state, metadata, protocol });
    }

    /// Follows the source's schema in place, with the next commit.
    ///
    /// # Errors
    /// `PG022` when that cannot be.
    pub(super) fn evolve(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        // Several changes may wait for one commit: the last stands on the one before. What is committed stays
        // what it is, to be compared with what is found.
        let committed = (self.state.clone(), self.metadata.clone());
        if let Some(pending) = &self.pending {
            (self.state, self.metadata) = (pending.state.clone(), pending.metadata.clone());
        }
        let followed = follow(self, &schema, ChangePolicy::default());
        (self.state, self.metadata) = committed;
        match followed? {
            Follow::Same => {}
            Follow::InPlace(pending) => self.pending = Some(*pending),
            Follow::Copy(why) => return Err(table_error(&schema.name, codes::PG022, why)),
        }
        self.schema = schema;
        self.follow_names()
    }

    /// What waits for the next commit, on the metadata as somebody else left them.
    ///
    /// # Errors
    /// `PG022` when that cannot be.
    pub(super) fn evolve_again(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        self.evolve(Arc::clone(&self.schema))?;
        // A mark that is withdrawn stays withdrawn.
        let marked = pending.state.amended;
        if self.amended() != marked.as_ref() { self.mark_amended(marked) } else { Ok(()) }
    }
}
