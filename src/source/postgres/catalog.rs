//! The source's catalogue: which tables there are, their columns, their keys, and whether we may read them.
//!
//! Only permanent ordinary tables and partition roots; a partition travels as rows of its root. Names
//! are matched here, never in SQL. A table that cannot be taken gets an error of its own and the others
//! go on.
//!
//! *The columns are those that are published*, and the rows those that its row filter lets through ([`super::published`]):
//! a snapshot that held others would disagree with the stream.
//!
//! *The key is what the log identifies old rows by*: the primary key, or the index that `REPLICA IDENTITY
//! USING INDEX` names. With `FULL` it is the primary key, if there is one. A deferrable primary key is no key
//! (PostgreSQL logs no old key for it).

use super::fault::table_error;
use super::forms;
use super::pattern::Selection;
use super::published::{self, Generated, Sent};
use super::sql::{Sql, field, partition_tree, text, truth};
use super::wire::{Purpose, Wire};
use crate::error::{Error, Result, codes};
use crate::pgoutput::{CatalogType, Policies, ReplicaIdentity, TypeCatalog, TypeInfo, type_name};
use crate::schema::{
    Column, ColumnKind, Declared, DeclaredColumn, TableForm, TableId, TableName, TableSchema,
};
use std::collections::HashMap;
use std::sync::Arc;

/// One table that can be replicated.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Columns and key.
    pub schema: Arc<TableSchema>,
    /// The file that holds its rows; another one means that they were rewritten. Zero for a partition root.
    pub relfilenode: u32,
    /// Partition root: rows are in its leaves.
    pub partitioned: bool,
    /// What it logs of old rows.
    pub identity: ReplicaIdentity,
    /// Its owner.
    pub owner: String,
    /// Our role is the owner or a member of it: it may put the table into a publication.
    pub owned: bool,
    /// Rows, as the planner believes; none before the first ANALYZE.
    pub rows_estimate: Option<u64>,
    /// Bytes of its rows, all partitions together.
    pub bytes: u64,
    /// The row filter of the publication, as the server spells it: rows for which it does not hold are not in the
    /// stream.
    pub filter: Option<String>,
}

impl SourceTable {
    /// Identity.
    pub fn id(&self) -> TableId {
        self.schema.id
    }

    /// Name.
    pub fn name(&self) -> &TableName {
        &self.schema.name
    }

    /// Whether updates and deletes can be published. Where they cannot, publishing them would make the
    /// *application's* UPDATE and DELETE fail.
    pub fn publishes_changes(&self) -> bool {
        match self.identity {
            ReplicaIdentity::Full => true,
            ReplicaIdentity::Nothing => false,
            ReplicaIdentity::Default | ReplicaIdentity::Index => self.schema.has_key(),
        }
    }
}

/// A table that matches and cannot be taken.
#[derive(Debug)]
pub struct Rejected {
    /// Identity.
    pub id: TableId,
    /// Name.
    pub name: TableName,
    /// Why: PG008, PG010, PG020 or PG026.
    pub error: Error,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Tables to replicate, by name.
    pub tables: Vec<SourceTable>,
    /// Tables that match and cannot be.
    pub rejected: Vec<Rejected>,
    /// The stream must be asked for in text: some column has no binary form that the server can send and we can
    /// read. Such a column of a *rejected* table counts too, since the server sends what the publication holds.
    pub text_stream: bool,
}

/// Reads the catalogue.
///
/// Errors: those of the connection. No table at all is not an error here.
pub async fn load(sql: &Sql, selection: &Selection, policies: &Policies) -> Result<Catalog> {
    load_where(sql, policies, |table| selection.matches(&table.name)).await
}

/// Reads single tables again, by identity; one that is gone is in neither list.
pub async fn load_by_id(sql: &Sql, ids: &[TableId], policies: &Policies) -> Result<Catalog> {
    load_where(sql, policies, |table| ids.contains(&table.id)).await
}

/// At one moment: a table whose columns are of before somebody's change and whose key is of after it, is none.
async fn load_where(
    sql: &Sql,
    policies: &Policies,
    is_wanted: impl Fn(&RawTable) -> bool,
) -> Result<Catalog> {
    let moment = sql.at_one_moment().await?;
    let sql = moment.sql();
    let rows = sql.rows(TABLES).await?;
    let mut found = rows.iter().map(RawTable::read).collect::<Result<Vec<_>>>()?;
    found.retain(is_wanted);
    let catalog = describe(sql, found, policies).await?;
    moment.end().await?;
    Ok(catalog)
}

async fn describe(sql: &Sql, found: Vec<RawTable>, policies: &Policies) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    if found.is_empty() {
        return Ok(catalog);
    }
    let ids: Vec<TableId> = found.iter().map(|t| t.id).collect();
    let columns = columns(sql, &ids).await?;
    let keys = keys(sql, &ids).await?;
    let leaves = leaves(sql, &found).await?;
    let types = types(sql, &ids).await?;
    let forms = forms::of(sql, &ids).await?;
    let sent = published::of(sql, &ids).await?;
    for table in found {
        let id = table.id;
        let sent = sent.get(&id).cloned().unwrap_or_default();
        let (form, pieces) = match forms.get(&id) {
            Some(found) => (found.form, Arc::clone(&found.parts)),
            None => (TableForm::default(), Arc::default()),
        };
        let own = columns.get(&id).map_or(&[][..], Vec::as_slice);
        let mut travelling = own.iter().filter(|column| sent.holds(column.attnum, column.generated));
        catalog.text_stream |= travelling.any(|column| column.needs_text_stream(&types, policies));
        let index = keys.get(&id).map_or(&[][..], Vec::as_slice);
        let parts = leaves.get(&id).map_or(&[][..], Vec::as_slice);
        let name = table.name.clone();
        match table.build((own, &sent), index, parts, &types, policies) {
            Ok(table) => {
                let filled = own.iter().filter(|c| c.filled).map(|c| c.attnum).collect();
                let schema = Arc::new(TableSchema {
                    form,
                    filled,
                    parts: pieces,
                    ..TableSchema::clone(&table.schema)
                });
                catalog.tables.push(SourceTable { schema, ..table });
            }
            Err(error) => catalog.rejected.push(Rejected { id, name, error }),
        }
    }
    Ok(catalog)
}

/// `row_security_active` says whether a policy would hide rows from *us*.
const TABLES: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p', c.relreplident, \
     coalesce(pg_catalog.pg_relation_filenode(c.oid), 0), pg_catalog.pg_get_userbyid(c.relowner), \
     pg_catalog.pg_has_role(c.relowner, 'USAGE'), c.reltuples::int8, \
     CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END, \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
     pg_catalog.row_security_active(c.oid) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' \
     AND n.nspname NOT IN ('information_schema', 'strandline') AND left(n.nspname, 3) <> 'pg_' \
     ORDER BY n.nspname, c.relname";

#[derive(Debug)]
struct RawTable {
    id: TableId,
    name: TableName,
    partitioned: bool,
    identity: ReplicaIdentity,
    relfilenode: u32,
    owner: String,
    owned: bool,
    rows: i64,
    bytes: u64,
    readable: bool,
    policy_hides_rows: bool,
}

impl RawTable {
    fn read(row: &super::wire::TextRow) -> Result<Self> {
        Ok(RawTable {
            id: TableId(field(row, 0)?),
            name: TableName::new(field::<String>(row, 1)?, field::<String>(row, 2)?),
            partitioned: truth(row, 3),
            identity: identity(text(row, 4))?,
            relfilenode: field(row, 5)?,
            owner: field(row, 6)?,
            owned: truth(row, 7),
            rows: field(row, 8)?,
            bytes: field(row, 9)?,
            readable: truth(row, 10),
            policy_hides_rows: truth(row, 11),
        })
    }

    fn check_readable(&self, user: &str) -> Result<()> {
        let refuse =
            |what: String, remedy: String| Err(table_error(&self.name, codes::PG010, what).with_try(remedy));
        let (role, table) = (super::quote::identifier(user), super::quote::table(&self.name));
        if !self.readable {
            let schema = super::quote::identifier(&self.name.schema);
            return refuse(
                "the role may not read it".to_owned(),
                format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {table} TO {role};"),
            );
        }
        if self.policy_hides_rows {
            return refuse(
                "a row-level security policy would hide rows from us".to_owned(),
                format!("ALTER ROLE {role} BYPASSRLS;   -- by a superuser"),
            );
        }
        Ok(())
    }

    fn build(
        self,
        (columns, sent): (&[RawColumn], &Sent),
        indexes: &[RawIndex],
        leaves: &[Leaf],
        types: &Types,
        policies: &Policies,
    ) -> Result<SourceTable> {
        self.check_readable(&types.user)?;
        for leaf in leaves {
            leaf.check(&self)?;
        }
        let travelling: Vec<&RawColumn> =
            columns.iter().filter(|c| sent.holds(c.attnum, c.generated)).collect();
        if travelling.is_empty() {
            return Err(table_error(&self.name, codes::PG026, "it has no column that travels"));
        }
        self.check_harmless((columns, sent), indexes)?;
        let mut resolved = Vec::with_capacity(travelling.len());
        for column in &travelling {
            resolved.push(column.resolve(&self.name, types, policies)?);
        }
        let key = self.key(&travelling, indexes)?;
        let declared = Arc::new(declared(&travelling, indexes, types));
        let full = self.identity == ReplicaIdentity::Full;
        let bytes = if self.partitioned { leaves.iter().map(|l| l.bytes).sum() } else { self.bytes };
        let rows = if self.partitioned { leaves.iter().map(|l| l.rows.max(0)).sum() } else { self.rows };
        Ok(SourceTable {
            schema: Arc::new(TableSchema {
                declared,
                ..TableSchema::new(self.id, self.name, resolved, key, full)
            }),
            relfilenode: self.relfilenode,
            partitioned: self.partitioned,
            identity: self.identity,
            owner: self.owner,
            owned: self.owned,
            rows_estimate: u64::try_from(rows).ok(),
            bytes,
            filter: sent.filter.clone(),
        })
    }

    /// The index that rows are known by.
    fn key_index<'a>(&self, indexes: &'a [RawIndex]) -> Option<&'a RawIndex> {
        match self.identity {
            ReplicaIdentity::Index => indexes.iter().find(|i| i.identity),
            ReplicaIdentity::Default | ReplicaIdentity::Full => {
                indexes.iter().find(|i| i.primary && i.immediate)
            }
            ReplicaIdentity::Nothing => None,
        }
    }

    /// Indexes into the travelling columns, in the order of the index.
    fn key(&self, columns: &[&RawColumn], indexes: &[RawIndex]) -> Result<Vec<usize>> {
        let Some(index) = self.key_index(indexes) else { return Ok(Vec::new()) };
        let place = |attnum: &i16| {
            columns.iter().position(|c| c.attnum == *attnum).ok_or_else(|| {
                table_error(&self.name, codes::PG008, "its key has a column that is not published")
            })
        };
        index.attnums.iter().map(place).collect()
    }

    /// Where updates are published, the server refuses the *application's* UPDATE and DELETE when what it is to log of
    /// old rows is not published, or when the row filter looks at more than that.
    fn check_harmless(&self, (columns, sent): (&[RawColumn], &Sent), indexes: &[RawIndex]) -> Result<()> {
        let index = self.key_index(indexes);
        let is_full = self.identity == ReplicaIdentity::Full;
        if sent.is_insert_only || (index.is_none() && !is_full) {
            return Ok(());
        }
        let refuse = |what: String, remedy: String| {
            let what = format!("{what}: the application's own UPDATE and DELETE would fail");
            Err(table_error(&self.name, codes::PG008, what).with_try(remedy))
        };
        let table = super::quote::table(&self.name);
        let only = if self.partitioned { table.clone() } else { format!("ONLY {table}") };
        let keyed = format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;   -- it needs a primary key then");
        let is_key = |attnum: i16| is_full || index.is_some_and(|index| index.attnums.contains(&attnum));
        let left_out = columns.iter().find(|c| is_key(c.attnum) && !sent.holds(c.attnum, c.generated));
        if sent.columns.is_some() && (is_full || left_out.is_some()) {
            let what = match left_out {
                Some(column) => format!(
                    "the publication's column list leaves out \"{}\", of its replica identity",
                    column.name
                ),
                None => {
                    "the publication has a column list for it, and its replica identity is FULL".to_owned()
                }
            };
            return refuse(what, sent.again(&only));
        }
        // Before PostgreSQL 18 whole old rows are logged without their generated columns.
        if let Some(column) = left_out.filter(|_| sent.knows_generated) {
            let what = format!(
                "its replica identity holds the generated column \"{}\", which is not published",
                column.name
            );
            return refuse(
                what,
                match column.generated {
                    Generated::Virtual => keyed,
                    Generated::Stored | Generated::Not => {
                        format!("{keyed}\n-- or: {}", sent.with_generated())
                    }
                },
            );
        }
        if let Some(&beyond) = sent.filter_columns.iter().find(|attnum| !is_key(**attnum)) {
            let name = columns.iter().find(|c| c.attnum == beyond).map_or("?", |c| c.name.as_str());
            let what = format!(
                "the publication's row filter looks at \"{name}\", which is not in its replica identity"
            );
            return refuse(what, format!("ALTER TABLE {table} REPLICA IDENTITY FULL;"));
        }
        Ok(())
    }
}

/// What the columns are beyond what their rows need. The key is what consumers of events know rows by: the
/// primary key, also where the log identifies old rows by something else; without one a whole unique index.
fn declared(columns: &[&RawColumn], indexes: &[RawIndex], types: &Types) -> Declared {
    let place = |attnum: &i16| columns.iter().position(|column| column.attnum == *attnum);
    let places = |index: &RawIndex| index.attnums.iter().map(place).collect::<Option<Vec<_>>>();
    let primary = indexes.iter().find(|index| index.primary);
    let mut unique: Vec<&RawIndex> = indexes.iter().filter(|index| index.whole).collect();
    unique.sort_by_key(|index| (!index.clustered, &index.name));
    let key = primary.or(unique.first().copied()).and_then(places).unwrap_or_default();
    let columns = columns.iter().map(|column| DeclaredColumn {
        nullable: column.nullable,
        default: column.default.clone(),
        declared_type: types.all.declared(column.type_oid, column.type_modifier),
    });
    Declared { columns: columns.collect(), key }
}

fn identity(letter: Option<&str>) -> Result<ReplicaIdentity> {
    match letter {
        Some("d") => Ok(ReplicaIdentity::Default),
        Some("n") => Ok(ReplicaIdentity::Nothing),
        Some("f") => Ok(ReplicaIdentity::Full),
        Some("i") => Ok(ReplicaIdentity::Index),
        other => Err(super::fault::protocol(format!("an unknown replica identity {other:?}"))),
    }
}

/// A column as the catalogue has it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct RawColumn {
    attnum: i16,
    name: String,
    type_oid: u32,
    type_modifier: i32,
    generated: Generated,
    /// `atthasmissing`: rows from before it have a value that is stored in the catalogue only.
    filled: bool,
    nullable: bool,
    /// Its default, as the server spells it.
    default: Option<String>,
    /// The type's name with modifier, by the server.
    formatted: String,
}

impl RawColumn {
    fn kind(&self, types: &Types, policies: &Policies) -> Option<ColumnKind> {
        types.all.kind(self.type_oid, self.type_modifier, policies)
    }

    fn needs_text_stream(&self, types: &Types, policies: &Policies) -> bool {
        types.all.needs_text_stream(self.type_oid, self.kind(types, policies).as_ref())
    }

    fn resolve(&self, table: &TableName, types: &Types, policies: &Policies) -> Result<Column> {
        let kind = self.kind(types, policies).ok_or_else(|| {
            let what =
                format!("column \"{}\" has type {}, which is not known", self.name, self.formatted);
            table_error(table, codes::PG020, what)
                .with_try("take the server's text for it (sink.unknown_types: text), or leave the table out (tables.exclude)")
        })?;
        Ok(Column {
            name: self.name.clone(),
            attnum: self.attnum,
            type_oid: self.type_oid,
            type_modifier: self.type_modifier,
            type_name: self.type_name(types),
            kind,
        })
    }

    /// Short names where we know them, else the server's.
    fn type_name(&self, types: &Types) -> String {
        match types.all.get(self.type_oid) {
            Some(found) if matches!(found.info.typtype, 'b' | 'r' | 'm') && found.element == 0 => {
                let short = type_name(self.type_oid, self.type_modifier, &found.info);
                let has_modifier = self.formatted.ends_with(')');
                if has_modifier && !short.ends_with(')') { self.formatted.clone() } else { short }
            }
            Some(found) if matches!(found.info.typtype, 'e' | 'd') => found.info.name.clone(),
            _ => self.formatted.clone(),
        }
    }
}

pub(super) fn list(ids: &[TableId]) -> String {
    ids.iter().map(TableId::to_string).collect::<Vec<_>>().join(",")
}

async fn columns(sql: &Sql, ids: &[TableId]) -> Result<HashMap<TableId, Vec<RawColumn>>> {
    // A partitioned table holds no rows: what those from before a column have in it, its partitions know.
    let query = format!(
        "WITH filled(root, name) AS MATERIALIZED (SELECT DISTINCT c.oid, l.attname FROM pg_catalog.pg_class c, \
         LATERAL {0} t JOIN pg_catalog.pg_attribute l ON l.attrelid = t.relid AND l.atthasmissing \
         WHERE c.oid IN ({1}) AND c.relkind = 'p') \
         SELECT attrelid, attnum, attname, atttypid, atttypmod, attgenerated, \
         pg_catalog.format_type(atttypid, atttypmod), \
         atthasmissing OR (attrelid, attname) IN (SELECT root, name FROM filled), NOT attnotnull, \
         (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d \
         WHERE d.adrelid = attrelid AND d.adnum = attnum AND attgenerated = '') \
         FROM pg_catalog.pg_attribute WHERE attrelid IN ({1}) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum",
        partition_tree("c.oid"),
        list(ids)
    );
    let mut map: HashMap<TableId, Vec<RawColumn>> = HashMap::new();
    for row in &sql.rows(&query).await? {
        map.entry(TableId(field(row, 0)?)).or_default().push(RawColumn {
            attnum: field(row, 1)?,
            name: field(row, 2)?,
            type_oid: field(row, 3)?,
            type_modifier: field(row, 4)?,
            generated: Generated::read(text(row, 5))?,
            formatted: field(row, 6)?,
            filled: truth(row, 7),
            nullable: truth(row, 8),
            default: text(row, 9).map(str::to_owned),
        });
    }
    Ok(map)
}

/// Whether what is published of the table is, at this moment, what was found: the same columns of the same rows.
pub async fn still_matches(sql: &Sql, table: &SourceTable) -> Result<bool> {
    let schema = &table.schema;
    let sent = published::of(sql, &[schema.id]).await?.remove(&schema.id).unwrap_or_default();
    let now = columns(sql, &[schema.id]).await?;
    let now = now.get(&schema.id).map_or(&[][..], Vec::as_slice);
    let now = now
        .iter()
        .filter(|c| sent.holds(c.attnum, c.generated))
        .map(|c| (c.attnum, c.name.as_str(), c.type_oid, c.type_modifier));
    let then = schema.columns.iter().map(|c| (c.attnum, c.name.as_str(), c.type_oid, c.type_modifier));
    Ok(sent.filter == table.filter && then.eq(now))
}

#[derive(Debug)]
struct RawIndex {
    name: String,
    /// Unique over rows as a whole: no predicate, no expression.
    whole: bool,
    clustered: bool,
    primary: bool,
    identity: bool,
    immediate: bool,
    attnums: Vec<i16>,
}

async fn keys(sql: &Sql, ids: &[TableId]) -> Result<HashMap<TableId, Vec<RawIndex>>> {
    let query = format!(
        "SELECT indrelid, indisprimary, indisreplident, indimmediate, indkey::text, indnkeyatts, c.relname, \
         indisunique AND indpred IS NULL AND indexprs IS NULL, indisclustered \
         FROM pg_catalog.pg_index JOIN pg_catalog.pg_class c ON c.oid = indexrelid \
         WHERE indrelid IN ({}) AND indisvalid AND (indisunique OR indisreplident)",
        list(ids)
    );
    let mut map: HashMap<TableId, Vec<RawIndex>> = HashMap::new();
    for row in &sql.rows(&query).await? {
        let own: usize = field(row, 5)?;
        let numbers = text(row, 4).unwrap_or_default().split(' ').take(own);
        let attnums = numbers.map(|n| n.parse().map_err(super::fault::protocol)).collect::<Result<_>>()?;
        map.entry(TableId(field(row, 0)?)).or_default().push(RawIndex {
            primary: truth(row, 1),
            identity: truth(row, 2),
            immediate: truth(row, 3),
            name: field(row, 6)?,
            whole: truth(row, 7),
            clustered: truth(row, 8),
            attnums,
        });
    }
    Ok(map)
}

/// A partition that holds rows.
#[derive(Debug)]
struct Leaf {
    name: TableName,
    kind: String,
    persistence: String,
    identity: ReplicaIdentity,
    bytes: u64,
    rows: i64,
}

impl Leaf {
    fn check(&self, root: &RawTable) -> Result<()> {
        if self.kind != "r" || self.persistence != "p" {
            let what = format!(
                "its partition \"{}\" is a foreign or unlogged table: no log has its rows",
                self.name
            );
            return Err(table_error(&root.name, codes::PG026, what));
        }
        if self.identity != root.identity {
            // The server announces the root's identity but logs by the leaf's.
            let what = format!("its partition \"{}\" has another replica identity than the root", self.name);
            return Err(table_error(&root.name, codes::PG008, what).with_try(format!(
                "ALTER TABLE {} REPLICA IDENTITY …, the same for the root and all partitions",
                super::quote::table(&self.name)
            )));
        }
        if self.identity == ReplicaIdentity::Index {
            let what = "a partition root with REPLICA IDENTITY USING INDEX is not supported";
            return Err(table_error(&root.name, codes::PG008, what).with_try("use the primary key, or FULL"));
        }
        Ok(())
    }
}

async fn leaves(sql: &Sql, tables: &[RawTable]) -> Result<HashMap<TableId, Vec<Leaf>>> {
    let roots: Vec<TableId> = tables.iter().filter(|t| t.partitioned).map(|t| t.id).collect();
    let mut map: HashMap<TableId, Vec<Leaf>> = HashMap::new();
    if roots.is_empty() {
        return Ok(map);
    }
    let query = format!(
        "SELECT r.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, \
         CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END, c.reltuples::int8 \
         FROM pg_catalog.pg_class r CROSS JOIN LATERAL {} t \
         JOIN pg_catalog.pg_class c ON c.oid = t.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE r.oid IN ({}) AND c.relkind <> 'p' ORDER BY 1, 2, 3",
        partition_tree("r.oid"),
        list(&roots)
    );
    for row in &sql.rows(&query).await? {
        map.entry(TableId(field(row, 0)?)).or_default().push(Leaf {
            name: TableName::new(field::<String>(row, 1)?, field::<String>(row, 2)?),
            kind: field(row, 3)?,
            persistence: field(row, 4)?,
            identity: identity(text(row, 5))?,
            bytes: field(row, 6)?,
            rows: field(row, 7)?,
        });
    }
    Ok(map)
}

struct Types {
    user: String,
    all: TypeCatalog,
}

/// The types of these tables' columns, and those that they are made of.
async fn types(sql: &Sql, ids: &[TableId]) -> Result<Types> {
    let mut all = TypeCatalog::new(sql.major());
    for row in &sql.rows(&TYPES.replace("$1", &list(ids))).await? {
        let info = TypeInfo { name: field(row, 1)?, typtype: field(row, 2)?, category: field(row, 3)? };
        let fields = text(row, 9).unwrap_or_default().split(' ').filter(|oid| !oid.is_empty());
        let found = CatalogType {
            info,
            extension: text(row, 10).map(str::to_owned),
            base: field(row, 4)?,
            modifier: field(row, 5)?,
            element: field(row, 6)?,
            delimiter: text(row, 7).and_then(|text| text.bytes().next()).unwrap_or(b','),
            subtype: field(row, 8)?,
            fields: fields.map(|oid| oid.parse().map_err(super::fault::protocol)).collect::<Result<_>>()?,
            has_send: truth(row, 11),
            labels: labels(text(row, 12))?,
        };
        all.insert(field(row, 0)?, found);
    }
    if all.has_money() {
        all.set_money_scale(money_scale(sql).await?);
    }
    Ok(Types { user: sql.options().user.clone(), all })
}

/// The closure of the columns' types over domains, elements, ranges and fields. An array is what the server
/// itself calls one: `point` and others have elements as well, and are none.
const TYPES: &str = "WITH RECURSIVE used(oid) AS (\
     SELECT atttypid FROM pg_catalog.pg_attribute WHERE attrelid IN ($1) AND attnum > 0 AND NOT attisdropped \
     UNION SELECT part.oid FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (\
         SELECT t.typbasetype UNION ALL \
         SELECT t.typelem WHERE t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc UNION ALL \
         SELECT rngsubtype FROM pg_catalog.pg_range WHERE rngtypid = t.oid UNION ALL \
         SELECT rngtypid FROM pg_catalog.pg_range WHERE rngmultitypid = t.oid UNION ALL \
         SELECT atttypid FROM pg_catalog.pg_attribute \
         WHERE attrelid = t.typrelid AND t.typtype = 'c' AND attnum > 0 AND NOT attisdropped\
     ) part(oid) WHERE part.oid <> 0) \
     SELECT t.oid, t.typname, t.typtype, t.typcategory, t.typbasetype, t.typtypmod, \
     CASE WHEN t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc \
     THEN t.typelem ELSE 0 END, t.typdelim, \
     coalesce((SELECT rngsubtype FROM pg_catalog.pg_range WHERE rngtypid = t.oid), \
     (SELECT rngtypid FROM pg_catalog.pg_range WHERE rngmultitypid = t.oid), 0), \
     (SELECT pg_catalog.string_agg(atttypid::pg_catalog.text, ' ' ORDER BY attnum) FROM pg_catalog.pg_attribute \
     WHERE attrelid = t.typrelid AND t.typtype = 'c' AND attnum > 0 AND NOT attisdropped), \
     (SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
     WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e' \
     AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass LIMIT 1), \
     t.typsend <> 0, (SELECT pg_catalog.json_agg(enumlabel ORDER BY enumsortorder)::pg_catalog.text \
     FROM pg_catalog.pg_enum WHERE enumtypid = t.oid) FROM used JOIN pg_catalog.pg_type t ON t.oid = used.oid";

fn labels(list: Option<&str>) -> Result<Vec<String>> {
    list.map_or(Ok(Vec::new()), |list| serde_json::from_str(list).map_err(super::fault::protocol))
}

/// How many digits of fraction the database's currency has. `money` is a whole number of its smallest unit;
/// which unit that is, only `lc_monetary` says. A connection of its own, since ours pin it.
async fn money_scale(sql: &Sql) -> Result<u8> {
    let mut wire = Wire::connect(sql.options(), Purpose::Money).await?;
    let query = "SELECT pg_catalog.scale('0'::pg_catalog.money::pg_catalog.numeric)";
    let rows = wire.simple_query(query).await?;
    wire.close().await;
    rows.first().map_or_else(|| Err(super::fault::protocol("no scale of money")), |row| field(row, 0))
}
