//! How the server stores a table, publishes it and divides it: what must stay as it is, or the log does not tell
//! everything.
//!
//! A publication that is dropped and made again, or a table that is taken out of it and put back, leaves no trace in
//! the stream but missing rows (PostgreSQL 18 only warns in its own log; older versions stop decoding). So each entry
//! of the catalogue that publishes a table is remembered with the transaction that wrote it.

use super::catalog::list;
use super::quote::literal;
use super::sql::{Sql, field, partition_tree, text, truth};
use crate::error::Result;
use crate::schema::{Part, TableForm, TableId, TableName};
use std::collections::HashMap;
use std::sync::Arc;

/// A table as it is now.
#[derive(Clone, Debug)]
pub struct Found {
    /// Name.
    pub name: TableName,
    /// How it is stored and published.
    pub form: TableForm,
    /// Its partitions; none of a table without.
    pub parts: Arc<[Part]>,
}

/// Names and forms of these tables as they are now. One that is gone is not in it.
///
/// *Files* are those of the table and of all its leaves; *columns* are the transactions that last wrote the
/// columns' rows of `pg_attribute`, which stay what they are until an `ALTER` of that very column; *identity* is
/// the replica identity and the keys that it may mean; *published* are the entries of our publications.
pub async fn of(sql: &Sql, ids: &[TableId]) -> Result<HashMap<TableId, Found>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let published = published(sql);
    let query = format!(
        "SELECT c.oid, n.nspname, c.relname, \
         (SELECT string_agg(pg_catalog.pg_relation_filenode(f.oid)::text, ',' ORDER BY f.oid) \
          FROM (SELECT c.oid UNION SELECT t.relid FROM {} t) f(oid)), \
         (SELECT string_agg(a.attnum::text || ':' || a.xmin::text, ',' ORDER BY a.attnum) \
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0), \
         c.relreplident::text || coalesce((SELECT string_agg(concat_ws(':', i.indkey, i.indnkeyatts, \
           i.indisprimary, i.indisreplident, i.indimmediate), ',' ORDER BY i.indisprimary, i.indkey::text) \
          FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid \
          AND (i.indisprimary OR i.indisreplident)), ''), \
         (SELECT string_agg(e.entry, ',' ORDER BY e.entry) FROM ({published}) e(entry)), c.relnatts \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid IN ({})",
        partition_tree("c.oid"),
        list(ids)
    );
    let mut parts = parts(sql, ids).await?;
    let digest = |row, column| xxhash_rust::xxh3::xxh3_64(text(row, column).unwrap_or_default().as_bytes());
    let mut found = HashMap::new();
    for row in &sql.rows(&query).await? {
        let id = TableId(field(row, 0)?);
        let name = TableName::new(field::<String>(row, 1)?, field::<String>(row, 2)?);
        let own: Arc<[Part]> = parts.remove(&id).unwrap_or_default().into();
        let parts_to = own.iter().map(|part| part.id).max().unwrap_or(0);
        let form = TableForm {
            files: digest(row, 3),
            columns: digest(row, 4),
            identity: digest(row, 5),
            published: if text(row, 6).is_some() { digest(row, 6) } else { 0 },
            parts: Part::digest(&own, parts_to),
            parts_to,
            columns_to: field(row, 7)?,
        };
        found.insert(id, Found { name, form, parts: own });
    }
    Ok(found)
}

/// The entries by which our publications hold the table `c`.
fn published(sql: &Sql) -> String {
    let options = sql.options();
    let ours = format!(
        "p.pubname IN ({}, {})",
        literal(&options.publication),
        literal(&options.insert_publication())
    );
    let mut query = format!(
        "SELECT concat_ws(':', p.oid, p.xmin, r.oid, r.xmin) FROM pg_catalog.pg_publication p \
         JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid WHERE r.prrelid = c.oid AND {ours} \
         UNION ALL SELECT concat_ws(':', p.oid, p.xmin) FROM pg_catalog.pg_publication p WHERE p.puballtables AND {ours}"
    );
    if sql.major() >= 15 {
        query += &format!(
            " UNION ALL SELECT concat_ws(':', p.oid, p.xmin, s.oid, s.xmin) FROM pg_catalog.pg_publication p \
             JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid \
             WHERE s.pnnspid = c.relnamespace AND {ours}"
        );
    }
    query
}

/// The partitions of these tables, and the partitioned tables themselves.
///
/// `CREATE TABLE … PARTITION OF` writes a column's entry with the one of the row type, in one command; `ATTACH` writes
/// every column's entry anew. So a partition with an entry of that first command was made as one, and was empty
/// then, whatever else its transaction did. (Measured on 14 to 18. A partition that was altered since may
/// seem attached: then the table is copied once more than it must.)
async fn parts(sql: &Sql, ids: &[TableId]) -> Result<HashMap<TableId, Vec<Part>>> {
    let query = format!(
        "SELECT r.oid, c.oid, coalesce(i.xmin::text, '0'), t.relid = r.oid OR EXISTS (SELECT FROM pg_catalog.pg_attribute a \
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.xmin = y.xmin AND a.cmin = y.cmin), \
         coalesce(pg_catalog.pg_relation_filenode(c.oid), 0) \
         FROM pg_catalog.pg_class r CROSS JOIN LATERAL {} t \
         JOIN pg_catalog.pg_class c ON c.oid = t.relid LEFT JOIN pg_catalog.pg_type y ON y.oid = c.reltype \
         LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.relid AND t.relid <> r.oid \
         WHERE r.relkind = 'p' AND r.oid IN ({}) ORDER BY 1, 2",
        partition_tree("r.oid"),
        list(ids)
    );
    let mut map: HashMap<TableId, Vec<Part>> = HashMap::new();
    for row in &sql.rows(&query).await? {
        let part =
            Part { id: field(row, 1)?, since: field(row, 2)?, born: truth(row, 3), file: field(row, 4)? };
        map.entry(TableId(field(row, 0)?)).or_default().push(part);
    }
    Ok(map)
}
