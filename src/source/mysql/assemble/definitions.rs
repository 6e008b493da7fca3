//! Statements that define tables, as rows of a table of their own ([`TableSchema::definitions`]).
//!
//! What a statement made of a table the log does not say: the server is asked how the table is now. Who reads far behind
//! sees what later statements made of it, too; a table that is gone since comes without columns.

use super::super::server::too_large;
use super::super::statement::{Named, Told, told};
use super::super::words::Words;
use super::{Assembler, Progress};
use crate::binlog::{BatchBuilder, EventHeader, Query};
use crate::error::{Error, Result, codes};
use crate::position::LogPoint;
use crate::schema::{Definition, TableChange, TableDefinition, TableId, TableName};
use crate::source::pattern::Selection;
use std::collections::BTreeMap;

/// How tables are now: those of a statement.
pub(crate) type Found = BTreeMap<TableName, TableDefinition>;

/// What is known of the statement that is being looked at.
pub(super) struct Definitions {
    selection: Selection,
    wanted: Vec<TableName>,
    found: Option<Found>,
}

impl Definitions {
    pub(super) fn new(selection: Selection) -> Self {
        Definitions { selection, wanted: Vec::new(), found: None }
    }

    fn follows(&self, name: &TableName) -> bool {
        self.selection.matches(name)
    }
}

/// A row of the table of definitions. `ordinal`: in its transaction; `None`: of a copy.
///
/// # Errors
/// `RT001`.
pub(crate) fn push(row: &Definition, ordinal: Option<u64>, into: &mut BatchBuilder) -> Result<()> {
    let broken = |what: String| Error::new(codes::RT001, what);
    let changes = serde_json::to_string(&row.changes)
        .map_err(|e| broken(format!("a definition is not written: {e}")))?;
    let values = [Some(row.database.as_str()), row.table.as_deref(), Some(&row.ddl), Some(&changes)];
    into.push_texts(&values, ordinal).map_err(|e| broken(format!("a definition is not taken: {e:?}")))
}

impl Assembler {
    /// Tells definitions of tables that are selected.
    pub(in super::super) fn tell_definitions(&mut self, selection: Selection) {
        self.definitions = Some(Definitions::new(selection));
    }

    /// Tables that the caller is to look up, for [`Assembler::define`].
    pub(in super::super) fn undefined(&self) -> &[TableName] {
        self.definitions.as_ref().map_or(&[], |d| d.wanted.as_slice())
    }

    /// How they are now.
    pub(in super::super) fn define(&mut self, found: Found) {
        if let Some(definitions) = &mut self.definitions {
            definitions.wanted.clear();
            definitions.found = Some(found);
        }
    }

    /// A row for each definition that a statement is. [`Progress::Undefined`]: tables are to be looked up before.
    pub(super) fn tell_definition(
        &mut self,
        query: &Query<'_>,
        words: &Words,
        (start, header): (LogPoint, EventHeader),
    ) -> Result<Progress> {
        let id = TableId::MESSAGES;
        if self.definitions.is_none() || !self.is_wanted(id) {
            return Ok(Progress::Within);
        }
        let Some(definitions) = &mut self.definitions else { return Ok(Progress::Within) };
        let name = |named: &Named| {
            TableName::new(named.database.as_deref().unwrap_or(query.database), named.table.as_str())
        };
        let statements: Vec<Told> = told(words)
            .into_iter()
            .filter(|told| match told {
                Told::Created(table) | Told::Altered(table) | Told::Dropped(table) | Told::Other(table) => {
                    definitions.follows(&name(table))
                }
                // `shop.` is what `shop.*` and `*.*` match.
                Told::Database(database) => definitions.follows(&TableName::new(database, "")),
            })
            .collect();
        if statements.is_empty() {
            return Ok(Progress::Within);
        }
        let looked_at = |told: &Told| match told {
            Told::Created(table) | Told::Altered(table) => Some(name(table)),
            _ => None,
        };
        let wanted: Vec<TableName> = statements.iter().filter_map(looked_at).collect();
        let found = match definitions.found.take() {
            Some(found) => found,
            None if wanted.is_empty() => Found::new(),
            None => {
                definitions.wanted = wanted;
                return Ok(Progress::Undefined);
            }
        };
        let text = String::from_utf8_lossy(&query.text);
        let rows: Vec<Definition> =
            statements.iter().map(|told| row_of(told, name, query.database, &text, &found)).collect();
        let at = start.position(self.shift).map_err(too_large)?.lsn();
        let (Some(open), Some(table)) = (&mut self.open, self.tables.get_mut(&id)) else {
            return Ok(Progress::Within);
        };
        table.builder.at(at);
        table.builder.of(open.origin_of(&self.file, start, header));
        for row in &rows {
            push(row, Some(open.ordinal), &mut table.builder)?;
            open.rows += 1;
        }
        table.dirty = true;
        Ok(Progress::Within)
    }
}

fn row_of(
    told: &Told,
    name: impl Fn(&Named) -> TableName,
    database: &str,
    text: &str,
    found: &Found,
) -> Definition {
    let ddl = text.to_owned();
    let change = |kind: &str, name: TableName, definition| TableChange {
        kind: kind.to_owned(),
        database: name.schema,
        table: name.table,
        definition,
    };
    let defined = |kind: &str, named: &Named| {
        let name = name(named);
        let definition = found.get(&name).cloned();
        let changes = match definition {
            Some(definition) => vec![change(kind, name.clone(), Some(definition))],
            None => Vec::new(),
        };
        Definition { database: name.schema, table: Some(name.table), ddl: ddl.clone(), changes }
    };
    match told {
        Told::Created(table) => defined("CREATE", table),
        Told::Altered(table) => defined("ALTER", table),
        Told::Dropped(table) => {
            let name = name(table);
            Definition {
                database: name.schema.clone(),
                table: Some(name.table.clone()),
                ddl: format!("DROP TABLE `{}`.`{}`", name.schema, name.table),
                changes: vec![change("DROP", name, None)],
            }
        }
        Told::Other(table) => {
            let database = table.database.as_deref().unwrap_or(database).to_owned();
            Definition { database, table: Some(String::new()), ddl, changes: Vec::new() }
        }
        Told::Database(name) => {
            Definition { database: name.clone(), table: Some(String::new()), ddl, changes: Vec::new() }
        }
    }
}
