//! The publication: made when it is missing, added to, and otherwise left alone.
//!
//! It lists the included tables and never is `FOR ALL TABLES`: that needs a superuser and would publish tables
//! whose updates then fail. For that is what publishing does to a table that has no key: *the
//! application's* UPDATE and DELETE become errors. So such tables go into a second publication,
//! `<publication>_insert`, which publishes only inserts and truncates, and the person is told.
//!
//! What it publishes of a table in part only (a row filter, a list of columns) is replicated in part only
//! ([`super::published`]).
//!
//! Where our role may not do it, the exact statements for the owner are the advice of the error.

use super::catalog::SourceTable;
use super::options::PgOptions;
use super::quote;
use super::sql::{Sql, field, text, truth};
use crate::error::{Error, Result, codes};
use crate::schema::{TableId, TableName};
use std::collections::BTreeSet;

/// What a publication of ours publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    /// Everything.
    Changes,
    /// Inserts and truncates.
    InsertOnly,
}

impl Scope {
    fn operations(self) -> &'static str {
        match self {
            Scope::Changes => "insert, update, delete, truncate",
            Scope::InsertOnly => "insert, truncate",
        }
    }
}

/// Whether the publication of tables without a key may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Second {
    /// There is no slot yet.
    Make,
    /// The slot is there: a publication that is younger than it would stop its decoding for ever.
    OnlyIfThere,
}

/// What is published now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Published {
    /// The publications to stream from.
    pub names: Vec<String>,
    /// Tables that were added just now: a slot or a temporary slot must be made *after* this.
    pub added: Vec<TableName>,
    /// Tables whose updates and deletes are not published, with the remedy for each.
    pub insert_only: Vec<(TableName, String)>,
    /// Tables without a key that cannot be published any more, with the remedy for each.
    pub refused: Vec<(TableId, TableName, String)>,
    /// For people.
    pub warnings: Vec<String>,
}

/// Makes or extends the publications so that they cover `tables`.
///
/// Errors: PG007 with the statements that somebody else must run.
pub async fn ensure(
    sql: &Sql,
    options: &PgOptions,
    tables: &[SourceTable],
    second: Second,
) -> Result<Published> {
    let plan = plan(sql, options, tables, second).await?;
    if !plan.obstacles.is_empty() {
        return Err(Error::new(
            codes::PG007,
            format!(
                "the publication \"{}\" must be changed: {}",
                options.publication,
                plan.obstacles.join("; ")
            ),
        )
        .with_try(plan.statements.join("\n")));
    }
    for statement in &plan.statements {
        sql.rows(statement).await?;
    }
    Ok(plan.published)
}

/// Only looks: errors when the publications do not cover `tables` as they are.
pub async fn check(
    sql: &Sql,
    options: &PgOptions,
    tables: &[SourceTable],
    second: Second,
) -> Result<Published> {
    let plan = plan(sql, options, tables, second).await?;
    if plan.obstacles.is_empty() && plan.statements.is_empty() {
        return Ok(plan.published);
    }
    let what =
        if plan.obstacles.is_empty() { "tables are missing".to_owned() } else { plan.obstacles.join("; ") };
    Err(Error::new(codes::PG007, format!("the publication \"{}\": {what}", options.publication))
        .with_try(plan.statements.join("\n")))
}

/// What lies between the publications and what they must be.
#[derive(Debug)]
pub struct Look {
    /// The statements that would make them so; none when they are.
    pub statements: Vec<String>,
    /// Why our role cannot run them.
    pub obstacles: Vec<String>,
    /// For people.
    pub warnings: Vec<String>,
}

/// Only looks.
///
/// # Errors
/// Those of the connection.
pub async fn look(sql: &Sql, options: &PgOptions, tables: &[SourceTable], second: Second) -> Result<Look> {
    let Plan { statements, obstacles, published } = plan(sql, options, tables, second).await?;
    Ok(Look { statements, obstacles, warnings: published.warnings })
}

/// The statements that would make the publications cover `tables`; empty when they do.
pub async fn statements(sql: &Sql, options: &PgOptions, tables: &[SourceTable]) -> Result<Vec<String>> {
    Ok(plan(sql, options, tables, Second::Make).await?.statements)
}

#[derive(Default)]
struct Plan {
    statements: Vec<String>,
    /// Why we cannot run them ourselves.
    obstacles: Vec<String>,
    published: Published,
}

/// The tables that these publications cover now.
pub async fn covered(sql: &Sql, names: &[String]) -> Result<BTreeSet<TableName>> {
    let mut tables = BTreeSet::new();
    for name in names {
        if let Some(existing) = inspect(sql, name).await? {
            tables.extend(existing.tables);
        }
    }
    Ok(tables)
}

async fn plan(sql: &Sql, options: &PgOptions, tables: &[SourceTable], how: Second) -> Result<Plan> {
    let mut plan = Plan::default();
    // On a standby nothing can be made: that is for the primary.
    let query = "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE') \
                 AND NOT pg_catalog.pg_is_in_recovery()";
    let may_create = truth(&sql.row(query).await?, 0);
    let (whole, insert_only): (Vec<_>, Vec<_>) = tables.iter().partition(|t| t.publishes_changes());
    let existing = inspect(sql, &options.publication).await?;
    // A table that lost its key while it was published whole: its owner must know, but taking it out is
    // their decision.
    if let Some(publication) = &existing {
        for table in insert_only.iter().filter(|t| publication.tables.contains(t.name())) {
            plan.published.warnings.push(format!(
                "table \"{}\" has no key and is in \"{}\": the application's UPDATE and DELETE on it fail; {}",
                table.name(),
                options.publication,
                remedy(table.name())
            ));
        }
    }
    let name = options.insert_publication();
    let second = inspect(sql, &name).await?;
    plan.refuse_two(existing.as_ref(), (&name, second.as_ref()), tables);
    // What the first publishes in part only, a second entry would publish whole.
    let in_part = |t: &SourceTable| existing.as_ref().is_some_and(|first| first.narrowed.contains(t.name()));
    let second_own: Vec<&SourceTable> = insert_only.iter().copied().filter(|t| !in_part(t)).collect();
    plan.cover(&options.publication, Scope::Changes, existing, &whole, may_create);
    if second.is_none() && how == Second::OnlyIfThere {
        for table in insert_only {
            plan.published.refused.push((table.id(), table.name().clone(), remedy(table.name())));
        }
        return Ok(plan);
    }
    // Made together with the first, even when it is empty: decoding knows only publications that are older
    // than the slot.
    if second.is_some() || !insert_only.is_empty() || may_create {
        plan.cover(&name, Scope::InsertOnly, second, &second_own, may_create);
    }
    for table in insert_only {
        plan.published.insert_only.push((table.name().clone(), remedy(table.name())));
    }
    Ok(plan)
}

fn remedy(table: &TableName) -> String {
    let table = quote::table(table);
    format!("ALTER TABLE {table} ADD PRIMARY KEY (…);   -- or: ALTER TABLE {table} REPLICA IDENTITY FULL;")
}

impl Plan {
    fn cover(
        &mut self,
        name: &str,
        scope: Scope,
        existing: Option<Existing>,
        tables: &[&SourceTable],
        may_create: bool,
    ) {
        self.published.names.push(name.to_owned());
        let quoted = quote::identifier(name);
        let Some(existing) = existing else {
            if !may_create {
                self.obstacles
                    .push("our role may not create publications (no CREATE on the database)".to_owned());
            }
            self.note_owners(tables);
            let list =
                if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", clause(tables)) };
            self.statements.push(format!(
                "CREATE PUBLICATION {quoted}{list} WITH (publish = '{}', publish_via_partition_root = true);",
                scope.operations()
            ));
            self.published.added.extend(tables.iter().map(|t| t.name().clone()));
            return;
        };
        existing.check_options(scope, &quoted, self);
        let missing: Vec<&SourceTable> =
            tables.iter().copied().filter(|t| !existing.covers(t.name())).collect();
        if !missing.is_empty() {
            if !existing.owned {
                self.obstacles.push(format!("\"{name}\" is not ours to change"));
            }
            self.note_owners(&missing);
            self.statements.push(format!("ALTER PUBLICATION {quoted} ADD TABLE {};", clause(&missing)));
            self.published.added.extend(missing.iter().map(|t| t.name().clone()));
        }
    }

    /// Two entries for one table must say the same: the server would refuse to decode other columns, and let through what
    /// one of the row filters lets through.
    fn refuse_two(
        &mut self,
        first: Option<&Existing>,
        second: (&str, Option<&Existing>),
        tables: &[SourceTable],
    ) {
        let (Some(first), (name, Some(second))) = (first, second) else { return };
        for table in tables.iter().map(SourceTable::name) {
            let is_narrowed = first.narrowed.contains(table) || second.narrowed.contains(table);
            if is_narrowed && first.covers(table) && second.covers(table) {
                self.obstacles.push(format!(
                    "\"{table}\" is in \"{name}\", too, and one of them has a row filter or a column list for it"
                ));
                let (name, table) = (quote::identifier(name), quote::table(table));
                self.statements.push(format!("ALTER PUBLICATION {name} DROP TABLE {table};"));
            }
        }
    }

    fn note_owners(&mut self, tables: &[&SourceTable]) {
        let foreign: BTreeSet<&str> = tables.iter().filter(|t| !t.owned).map(|t| t.owner.as_str()).collect();
        if !foreign.is_empty() {
            let owners = foreign.into_iter().collect::<Vec<_>>().join(", ");
            self.obstacles.push(format!("tables belong to {owners}, who must add them"));
        }
    }
}

/// `ONLY` keeps children by inheritance out; for a partition root it says nothing and is not written.
fn clause(tables: &[&SourceTable]) -> String {
    let one = |t: &&SourceTable| {
        let only = if t.partitioned { "" } else { "ONLY " };
        format!("{only}{}", quote::table(t.name()))
    };
    tables.iter().map(one).collect::<Vec<_>>().join(", ")
}

struct Existing {
    operations: [bool; 4],
    via_root: bool,
    owned: bool,
    tables: BTreeSet<TableName>,
    /// Tables of which it publishes some rows or columns only.
    narrowed: BTreeSet<TableName>,
}

impl Existing {
    fn covers(&self, table: &TableName) -> bool {
        self.tables.contains(table)
    }

    fn check_options(&self, scope: Scope, quoted: &str, plan: &mut Plan) {
        let wanted = match scope {
            Scope::Changes => [true, true, true, true],
            Scope::InsertOnly => [true, false, false, true],
        };
        let missing = wanted.iter().zip(&self.operations).any(|(want, have)| *want && !have);
        if missing || !self.via_root {
            plan.obstacles
                .push(format!("{quoted} does not publish everything, or not via the partition root"));
            plan.statements.push(format!(
                "ALTER PUBLICATION {quoted} SET (publish = '{}', publish_via_partition_root = true);",
                scope.operations()
            ));
        }
    }
}

async fn inspect(sql: &Sql, name: &str) -> Result<Option<Existing>> {
    let name = quote::literal(name);
    let rows = sql
        .rows(&format!(
            "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, \
             pg_catalog.pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication WHERE pubname = {name}"
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut found = Existing {
        operations: [truth(row, 0), truth(row, 1), truth(row, 2), truth(row, 3)],
        via_root: truth(row, 4),
        owned: truth(row, 5),
        tables: BTreeSet::new(),
        narrowed: BTreeSet::new(),
    };
    // The effective list, whatever clause it comes from.
    let tables =
        format!("SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = {name}");
    for row in &sql.rows(&tables).await? {
        found.tables.insert(TableName::new(field::<String>(row, 0)?, field::<String>(row, 1)?));
    }
    // Row filters and column lists exist since 15.
    if sql.major() >= 15 {
        let filters = format!(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication_rel r \
             JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE p.pubname = {name} AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)"
        );
        for row in &sql.rows(&filters).await? {
            found.narrowed.insert(TableName::new(field::<String>(row, 0)?, field::<String>(row, 1)?));
        }
    }
    Ok(Some(found))
}

/// Which of the names do not exist: from PostgreSQL 18 on, streaming from a missing publication only
/// warns and sends nothing.
pub async fn missing(sql: &Sql, names: &[String]) -> Result<Vec<String>> {
    let rows = sql.rows("SELECT pubname FROM pg_catalog.pg_publication").await?;
    let have: BTreeSet<&str> = rows.iter().filter_map(|row| text(row, 0)).collect();
    Ok(names.iter().filter(|n| !have.contains(n.as_str())).cloned().collect())
}
