//! Which columns and which rows of a table its publication sends.
//!
//! Without a list of columns these are all but generated ones; from PostgreSQL 18 on stored generated ones, too, if the
//! publication says so (`publish_generated_columns`) or its list of columns names them. A row filter (15) lets through
//! rows for which it holds; an UPDATE that makes a row pass, or no longer pass, comes as an INSERT or DELETE. Copies
//! select the same columns of the same rows, so that nothing is in the target that the stream could not take away.
//!
//! Where both of our publications hold a table, the first says what is sent; [`super::publication`] refuses two that
//! say different things. A change of either is seen by the entries of the catalogue ([`super::forms`]): an entry is
//! written anew for it, and the table is copied again, or stops.

use super::catalog::list;
use super::fault::protocol;
use super::quote::{identifier, literal};
use super::sql::{Sql, field, text, truth};
use super::wire::TextRow;
use crate::error::Result;
use crate::schema::TableId;
use std::collections::HashMap;

/// Whether a column is generated, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Generated {
    /// An ordinary one.
    Not,
    /// Its values are stored.
    Stored,
    /// Computed when it is read (PostgreSQL 18): never in the log.
    Virtual,
}

impl Generated {
    /// Reads `attgenerated`.
    pub(super) fn read(letter: Option<&str>) -> Result<Self> {
        match letter {
            Some("") | None => Ok(Generated::Not),
            Some("s") => Ok(Generated::Stored),
            Some("v") => Ok(Generated::Virtual),
            Some(other) => Err(protocol(format!("a column that is generated in another way ({other:?})"))),
        }
    }
}

/// What is sent of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sent {
    /// The list of columns, by number; `None`: there is no list.
    pub(super) columns: Option<Vec<i16>>,
    /// Without a list: stored generated columns, too.
    pub(super) generated: bool,
    /// The server can send generated columns, and refuses updates where old rows would lack one.
    pub(super) knows_generated: bool,
    /// Updates and deletes are not published.
    pub(super) is_insert_only: bool,
    /// The row filter, as the server spells it.
    pub(super) filter: Option<String>,
    /// The numbers of the columns that it looks at.
    pub(super) filter_columns: Vec<i16>,
    /// The publication that sends it, or that it will be added to.
    publication: String,
}

impl Sent {
    /// Whether a column is sent.
    pub(super) fn holds(&self, attnum: i16, generated: Generated) -> bool {
        match (&self.columns, generated) {
            (Some(list), _) => list.contains(&attnum),
            (None, Generated::Not) => true,
            (None, Generated::Stored) => self.generated,
            (None, Generated::Virtual) => false,
        }
    }

    /// The statement that publishes generated columns, too.
    pub(super) fn with_generated(&self) -> String {
        format!(
            "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
            identifier(&self.publication)
        )
    }

    /// The statements that publish the table (quoted, as it stands in a publication) without a list of columns.
    pub(super) fn again(&self, table: &str) -> String {
        let name = identifier(&self.publication);
        let filter = self.filter.as_ref().map(|filter| format!(" WHERE ({filter})")).unwrap_or_default();
        format!(
            "ALTER PUBLICATION {name} DROP TABLE {table}; ALTER PUBLICATION {name} ADD TABLE {table}{filter};"
        )
    }
}

/// What our publications send of these tables. One that none of them holds yet is taken as it will be published.
///
/// Errors: those of the connection.
pub(super) async fn of(sql: &Sql, ids: &[TableId]) -> Result<HashMap<TableId, Sent>> {
    let options = sql.options();
    let (first, second) = (options.publication.clone(), options.insert_publication());
    let unheld = Sent { knows_generated: sql.major() >= 18, publication: first.clone(), ..Sent::default() };
    let mut found: HashMap<TableId, Sent> = ids.iter().map(|id| (*id, unheld.clone())).collect();
    if ids.is_empty() {
        return Ok(found);
    }
    // Lists and filters exist since 15, and so do publications of schemas.
    let (own, of_schema) = if sql.major() >= 15 {
        (
            "r.prattrs::text, pg_catalog.pg_get_expr(r.prqual, r.prrelid), \
             (SELECT string_agg(m[1], ' ') FROM pg_catalog.regexp_matches(r.prqual::text, ':varattno (-?[0-9]+)', 'g') m)",
            "EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid \
             AND s.pnnspid = c.relnamespace)",
        )
    } else {
        ("NULL, NULL, NULL", "false")
    };
    // In the order of the names: what the first says is read last, and stays.
    let query = format!(
        "SELECT c.oid, p.pubname, p.puballtables OR {of_schema}, r.oid IS NOT NULL, p.pubupdate OR p.pubdelete, \
         coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 'n') = 's', {own} \
         FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.pg_publication p \
         LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid \
         WHERE c.oid IN ({}) AND p.pubname IN ({}, {}) ORDER BY p.pubname = {}",
        list(ids),
        literal(&first),
        literal(&second),
        literal(&first),
    );
    for row in &sql.rows(&query).await? {
        let sent = found.entry(TableId(field(row, 0)?)).or_default();
        let (is_whole, is_listed) = (truth(row, 2), truth(row, 3));
        if is_whole || is_listed {
            *sent = held(row, sql.major() >= 18, !is_whole)?;
        } else if field::<String>(row, 1)? == first && sent.publication == first {
            sent.generated = truth(row, 5);
        }
    }
    Ok(found)
}

/// What a publication sends of a table that it holds. `narrowed`: by its own entry alone, which may have a list and a
/// filter; one that publishes its whole schema, or all tables, has none.
fn held(row: &TextRow, knows_generated: bool, narrowed: bool) -> Result<Sent> {
    let numbers = |column: usize| {
        let words = text(row, column).unwrap_or_default().split_whitespace();
        words.map(|n| n.parse().map_err(protocol)).collect::<Result<Vec<i16>>>()
    };
    Ok(Sent {
        columns: match text(row, 6).filter(|_| narrowed) {
            Some(_) => Some(numbers(6)?),
            None => None,
        },
        generated: truth(row, 5),
        knows_generated,
        is_insert_only: !truth(row, 4),
        filter: text(row, 7).filter(|_| narrowed).map(str::to_owned),
        filter_columns: if narrowed { numbers(8)? } else { Vec::new() },
        publication: field(row, 1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_columns_are_sent() {
        let plain = Sent::default();
        let generated = Sent { generated: true, ..Sent::default() };
        let listed = Sent { columns: Some(vec![1, 3]), ..Sent::default() };
        for (sent, stored) in [(&plain, false), (&generated, true)] {
            assert!(sent.holds(1, Generated::Not) && !sent.holds(1, Generated::Virtual));
            assert_eq!(sent.holds(1, Generated::Stored), stored);
        }
        // A list says it all, generated columns among them.
        assert!(listed.holds(3, Generated::Stored) && !listed.holds(2, Generated::Not));
    }

    #[test]
    fn a_table_is_published_again_with_its_filter() {
        let sent = Sent { filter: Some("(a > 1)".into()), publication: "p\"q".into(), ..Sent::default() };
        assert_eq!(
            sent.again("ONLY \"s\".\"t\""),
            "ALTER PUBLICATION \"p\"\"q\" DROP TABLE ONLY \"s\".\"t\"; \
             ALTER PUBLICATION \"p\"\"q\" ADD TABLE ONLY \"s\".\"t\" WHERE ((a > 1));"
        );
        assert!(Generated::read(Some("x")).is_err());
    }
}
