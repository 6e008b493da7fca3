//! What strandline made on the source, to be taken away again: its slot and its publications.
//!
//! Only what is ours goes: a slot of ours by name, plugin and database; publications by name that our role
//! owns and that list their tables. The rest is named and left alone.

use super::options::PgOptions;
use super::quote::{identifier, literal};
use super::slot;
use super::sql::{Sql, text, truth};
use crate::error::Result;

/// What would be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Teardown {
    /// Statements, in order.
    pub statements: Vec<String>,
    /// What is there and stays, and why.
    pub kept: Vec<String>,
}

/// Looks at what is there.
///
/// Errors: PG011 when somebody reads from the slot; those of the connection.
pub async fn plan(sql: &Sql, options: &PgOptions) -> Result<Teardown> {
    let mut found = Teardown::default();
    if let Some(state) = slot::inspect(sql, &options.slot).await? {
        let is_ours = state.plugin.as_deref() == Some("pgoutput")
            && state.database.as_deref() == Some(options.database.as_str());
        if is_ours {
            state.check_free(options)?;
            found.statements.push(format!("SELECT pg_drop_replication_slot({});", literal(&options.slot)));
        } else {
            found.kept.push(format!("replication slot \"{}\" is not one of strandline's", options.slot));
        }
    }
    let names = [options.publication.clone(), options.insert_publication()];
    let listed: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let query = format!(
        "SELECT pubname, puballtables, pg_catalog.pg_get_userbyid(pubowner) = current_user \
         FROM pg_catalog.pg_publication WHERE pubname IN ({}) ORDER BY pubname",
        listed.join(", ")
    );
    for row in &sql.rows(&query).await? {
        let name = text(row, 0).unwrap_or_default();
        if truth(row, 1) {
            found
                .kept
                .push(format!("publication \"{name}\" is for all tables: strandline makes no such one"));
        } else if !truth(row, 2) {
            found.kept.push(format!("publication \"{name}\" belongs to another role"));
        } else {
            found.statements.push(format!("DROP PUBLICATION {};", identifier(name)));
        }
    }
    Ok(found)
}

/// Does it. The slot goes first: without its publication it could not be read any more.
///
/// Errors: the server's.
pub async fn run(sql: &Sql, teardown: &Teardown) -> Result<()> {
    for statement in &teardown.statements {
        sql.rows(statement).await?;
    }
    Ok(())
}
