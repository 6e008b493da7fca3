//! Statements in the log: where transactions begin and end, and what happens to tables without a row event.

use super::super::fault::table_error;
use super::super::server::too_large;
use super::super::statement::{self, Effect, Named, Statement};
use super::super::words::Words;
use super::open::Id;
use super::{Assembler, Progress};
use crate::binlog::{EventHeader, Query};
use crate::error::{Error, Result, codes};
use crate::position::LogPoint;
use crate::schema::{TableId, TableName};
use std::collections::BTreeSet;

impl Assembler {
    pub(super) fn query(
        &mut self,
        query: &Query<'_>,
        start: LogPoint,
        header: EventHeader,
    ) -> Result<Progress> {
        let words = Words::of(query);
        let statement = statement::read(&words, &query.text);
        if self.is_to_be_looked_at(query.database, &statement) {
            return Ok(Progress::Announced);
        }
        if self.tell_definition(query, &words, (start, header))? == Progress::Undefined {
            return Ok(Progress::Undefined);
        }
        let has_begun = self.open.as_ref().is_some_and(|open| open.has_begun);
        match statement {
            Statement::Begin | Statement::CreateAndBegin => {
                if let Some(open) = &mut self.open {
                    open.has_begun = true;
                    // MariaDB has no such event; a replica of it makes one up.
                    if let Id::MySql(_) | Id::None = open.gtid {
                        open.thread = Some(query.thread_id);
                    }
                }
                return Ok(Progress::Within);
            }
            Statement::Commit => return self.end(),
            Statement::Savepoint => return Ok(Progress::Within),
            Statement::Rollback | Statement::RollbackTo => {
                if self.open.as_ref().is_some_and(|open| open.rows > 0) {
                    let what = format!(
                        "at {}: rows of replicated tables were logged and rolled back, beside tables without transactions",
                        self.at
                    );
                    return Err(Error::new(codes::MY025, what).with_try(
                        "give all tables an engine with transactions, then: strandline resync TABLE --yes",
                    ));
                }
                return if statement == Statement::Rollback { self.end() } else { Ok(Progress::Within) };
            }
            Statement::XaStart => {
                self.begin_branch();
                if let Some(open) = &mut self.open
                    && let Id::MySql(_) | Id::None = open.gtid
                {
                    open.thread = Some(query.thread_id);
                }
                return Ok(Progress::Within);
            }
            Statement::XaEnd => return Ok(Progress::Within),
            Statement::XaCommit(xid) => return self.commit_branch(xid),
            Statement::XaRollback(xid) => return self.drop_branch(xid),
            Statement::Dml(table) => self.dml(query.database, table)?,
            Statement::Truncate(table) => self.truncate(query, &table, (start, header))?,
            Statement::Ddl(tables) => {
                for (table, effect) in tables {
                    self.defined(query.database, &table, effect);
                }
            }
            Statement::DropDatabase(database) => {
                let gone: Vec<TableId> =
                    self.names.iter().filter(|(n, _)| n.schema == database).map(|(_, &id)| id).collect();
                for id in gone.into_iter().filter(|id| self.is_wanted(*id)).collect::<Vec<_>>() {
                    self.redefined(id, "its database was dropped");
                }
            }
            Statement::Other => {}
            Statement::Unknown(begins, names) => self.unknown(query.database, &begins, names),
        }
        if has_begun || self.open.is_none() { Ok(Progress::Within) } else { self.end() }
    }

    fn id_of(&self, default: &str, named: &Named) -> Option<TableId> {
        let database = named.database.as_deref().unwrap_or(default);
        // As the server compares them where names do not differ by case.
        let same = |name: &TableName| {
            name.schema.eq_ignore_ascii_case(database) && name.table.eq_ignore_ascii_case(&named.table)
        };
        let exact = self.names.get(&TableName::new(database, &named.table)).copied();
        let found = exact.or_else(|| self.names.iter().find(|(name, _)| same(name)).map(|(_, &id)| id));
        found.filter(|id| self.is_wanted(*id))
    }

    fn dml(&mut self, default: &str, table: Option<Named>) -> Result<()> {
        const NOT_OURS: [&str; 3] = ["mysql", "sys", "performance_schema"];
        if let Some(named) = &table {
            let database = named.database.as_deref().unwrap_or(default);
            let is_followed = self.names.keys().any(|name| {
                name.schema.eq_ignore_ascii_case(database) && name.table.eq_ignore_ascii_case(&named.table)
            });
            if NOT_OURS.contains(&database) || !is_followed {
                return Ok(());
            }
        }
        let what =
            format!("at {}: a session logged a change as a statement: its rows are not in the log", self.at);
        Err(Error::new(codes::MY029, what)
            .with_try("let no session change binlog_format, then: strandline resync TABLE --yes"))
    }

    fn truncate(
        &mut self,
        query: &Query<'_>,
        named: &Named,
        (start, header): (LogPoint, EventHeader),
    ) -> Result<()> {
        let Some(id) = self.id_of(query.database, named) else { return Ok(()) };
        let (Some(open), Some(table)) = (&mut self.open, self.tables.get_mut(&id)) else { return Ok(()) };
        table.builder.at(start.position(self.shift).map_err(too_large)?.lsn());
        if self.tells {
            table.builder.of(open.origin_of(&self.file, start, header));
        }
        match table.builder.push_truncate(open.ordinal, 0) {
            Ok(()) => {
                open.ordinal += 1;
                open.rows += 1;
                table.dirty = true;
                // Its number on the server's disk is another one.
                table.plan = None;
            }
            Err(error) => self.stop_by_value(id, error),
        }
        Ok(())
    }

    /// A statement gave columns another type than they are followed with: the caller looks, and hands it in again. If they
    /// have yet another type by then, or the old one again, their values were made to fit the one in between.
    fn is_to_be_looked_at(&mut self, default: &str, statement: &Statement) -> bool {
        let Statement::Ddl(tables) = statement else { return false };
        let mut others = Vec::new();
        for (named, effect) in tables {
            if let Effect::Retyped(columns) = effect
                && let Some(id) = self.id_of(default, named)
                && columns.iter().any(|(name, of)| self.is_of_another_type(id, name, of))
            {
                others.push(id);
            }
        }
        if others.is_empty() {
            return false;
        }
        if self.looked_at.take() == Some(self.at) {
            let what =
                "a column was given another type, and another one since: its values were made to fit both";
            others.into_iter().for_each(|id| self.redefined(id, what));
            return false;
        }
        self.looked_at = Some(self.at);
        self.burst.announced.extend(others);
        true
    }

    fn is_of_another_type(&self, id: TableId, name: &str, of: &str) -> bool {
        let Some(table) = self.tables.get(&id) else { return false };
        // One that is not there is dropped later in the log, or renamed.
        let column = table.schema.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        // MariaDB's word for a text.
        column.is_some_and(|c| c.type_name != of && !(of == "json" && c.type_name == "longtext"))
    }

    fn unknown(&mut self, default: &str, begins: &str, names: Vec<Named>) {
        let found: BTreeSet<TableId> = names.iter().filter_map(|named| self.id_of(default, named)).collect();
        if found.is_empty() {
            tracing::info!(at = %self.at, "a statement that is not known names no table that is followed: \"{begins} …\"");
        }
        for id in found {
            let what = format!("a statement names it that is not known, \"{begins} …\"");
            self.redefined(id, &what);
        }
    }

    fn defined(&mut self, default: &str, named: &Named, effect: Effect) {
        let Some(id) = self.id_of(default, named) else { return };
        match effect {
            Effect::Columns => self.burst.announced.push(id),
            // It was looked at before.
            Effect::Retyped(_) => {}
            Effect::Shape { added, dropped } => {
                let Some(table) = self.tables.get_mut(&id) else { return };
                let past = &table.schema.past;
                // Seen at the start, or with a statement before this one.
                let is_known = added.iter().all(|c| past.added.contains(c))
                    && dropped.iter().all(|c| past.dropped.contains(c));
                if !is_known {
                    table.altered = true;
                    self.burst.announced.push(id);
                }
            }
            // Created rows of which the log left something out were taken with the defaults of now.
            Effect::Defaults if self.is_partial => {
                self.redefined(id, "its defaults changed, and the log holds rows in part");
            }
            Effect::Defaults => {}
            Effect::Rows => self.redefined(id, "its rows were replaced, of which the log does not tell"),
            Effect::Gone => self.redefined(id, "it was dropped or renamed"),
        }
    }

    /// A new copy says what it holds now.
    pub(super) fn redefined(&mut self, id: TableId, what: &str) {
        let Some(table) = self.tables.get(&id) else { return };
        let name = table.schema.name.clone();
        let error = table_error(&name, codes::MY022, format!("{what} (at {})", self.at))
            .with_try(format!("strandline resync \"{name}\" --yes"));
        self.stop(id, error);
    }
}
