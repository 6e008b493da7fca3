//! What a table of ours says of itself: `metaData.configuration["strandline.state"]`.
//!
//! It changes only in the commit that changes what it describes: a copy, or a new schema. Positions are
//! not here but in `txn` actions. The format carries a number; a newer one is refused.

use super::ahead::Ahead;
use super::layout::{Form, Layout, is_ours};
use crate::error::{Error, Result, codes};
use crate::event::{ChunkKey, Chunks};
use crate::schema::change::{Change, Outline, OutlineColumn, changes};
use crate::schema::{Past, TableForm, TableId, TableSchema};
use crate::sink::table_error;
use serde::{Deserialize, Serialize};

/// The configuration key.
pub(super) const KEY: &str = "strandline.state";
/// The newest format that this program writes.
pub(super) const FORMAT: u32 = 4;
/// The format of tables without column mapping.
const UNMAPPED_FORMAT: u32 = 3;
/// The format of tables without partitions.
const WHOLE_FORMAT: u32 = 2;
/// The format of tables that have nothing of what came later.
const FIRST_FORMAT: u32 = 1;

/// How changes are applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// By key: the table equals the source.
    Upsert,
    /// By key, without deletion vectors: files with a changed row are rewritten.
    CopyOnWrite,
    /// A change log: each change is a row.
    Append,
}

impl Mode {
    /// As the configuration has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Upsert => "upsert",
            Mode::CopyOnWrite => "copy_on_write",
            Mode::Append => "append",
        }
    }
}

/// A column as it was when the table's schema was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StoredColumn {
    /// Name in source and target.
    pub name: String,
    /// The identity that a rename keeps.
    pub attnum: i16,
    /// The source's type, for people and for comparison.
    pub source_type: String,
}

/// How far a request to put the table right is met: everything below is as in the source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct AmendMark {
    /// The request.
    pub request: String,
    /// Where it goes on.
    pub below: ChunkKey,
}

/// The state document.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct TableState {
    /// Format number.
    pub format: u32,
    /// The pipeline whose positions the table carries.
    pub pipeline: String,
    /// The source's identity of the table.
    pub source_table: TableId,
    /// Schema in the source.
    pub schema: String,
    /// Table in the source.
    pub table: String,
    /// The source's columns.
    pub columns: Vec<StoredColumn>,
    /// Names of the key columns, in key order.
    pub key: Vec<String>,
    /// How changes are applied.
    pub mode: Mode,
    /// What there is beside the source's columns.
    #[serde(default, skip_serializing_if = "is_plain")]
    pub layout: Layout,
    /// How the source stored the table when its schema was last found unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<TableForm>,
    /// What older announcements of the source's table may have been.
    #[serde(default)]
    pub past: Past,
    /// The first version that is a consistent prefix of the source's history. Absent: the first copy has
    /// not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_live_version: Option<i64>,
    /// Which parts are copied, while the copy goes on, and until all parts are at one moment.
    #[serde(default, skip_serializing_if = "Chunks::is_empty")]
    pub copied: Chunks,
    /// A new copy that is made while readers use the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<Ahead>,
    /// How far a request to put the table right is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amended: Option<AmendMark>,
    /// The position of the last copy: the consistent point of its snapshot, which ends no transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_at: Option<i64>,
    /// Names of the marks that stand beside its positions (`strandline/<pipeline>/gtid/…`): they must be asked for
    /// by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// Whether the table began with a copy of the source. When not (`--no-snapshot`), it holds only what
    /// changed since, and a change to a row that was never seen is no contradiction.
    pub complete: bool,
}

impl TableState {
    /// Of a new table.
    pub(super) fn new(pipeline: &str, schema: &TableSchema, form: &Form) -> Self {
        let is_first = form.mode != Mode::CopyOnWrite && is_plain(&form.layout);
        TableState {
            format: match (is_first, form.layout.partition_by.is_empty()) {
                _ if form.layout.column_mapping => FORMAT,
                (true, _) => FIRST_FORMAT,
                (false, true) => WHOLE_FORMAT,
                (false, false) => UNMAPPED_FORMAT,
            },
            pipeline: pipeline.to_owned(),
            source_table: schema.id,
            schema: schema.name.schema.clone(),
            table: schema.name.table.clone(),
            columns: stored_columns(schema),
            key: schema.key.iter().map(|&i| schema.columns[i].name.clone()).collect(),
            mode: form.mode,
            layout: form.layout.clone(),
            form: Some(schema.form),
            past: Past::default(),
            first_live_version: None,
            copied: Chunks::default(),
            ahead: None,
            amended: None,
            copied_at: None,
            marks: Vec::new(),
            complete: false,
        }
    }

    /// The document.
    ///
    /// # Errors
    /// `RT001`.
    pub(super) fn encode(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|e| Error::new(codes::RT001, "cannot encode a table's state").with_source(e))
    }

    /// Reads the document.
    ///
    /// # Errors
    /// `TG018` for a newer format, `TG020` when it cannot be read.
    pub(super) fn parse(text: &str, schema: &TableSchema) -> Result<Self> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let damaged = |e: serde_json::Error| {
            table_error(&schema.name, codes::TG020, "its strandline.state cannot be read").with_source(e)
        };
        let FormatOnly { format } = serde_json::from_str(text).map_err(damaged)?;
        if format > FORMAT {
            let what = format!("its state has format {format}, this program knows up to {FORMAT}");
            return Err(table_error(&schema.name, codes::TG018, what).with_try("upgrade strandline"));
        }
        serde_json::from_str(text).map_err(damaged)
    }

    /// The names of the marks alone, of a document that is parsed later; none where it is no document of ours.
    pub(super) fn mark_names(text: &str) -> Vec<String> {
        #[derive(Deserialize)]
        struct MarksOnly {
            #[serde(default)]
            marks: Vec<String>,
        }
        serde_json::from_str(text).map_or_else(|_| Vec::new(), |MarksOnly { marks }| marks)
    }

    /// Whether it says that columns have other names in files; the same of a document that is parsed later.
    pub(super) fn is_mapped(text: &str) -> bool {
        #[derive(Deserialize)]
        struct LayoutOnly {
            #[serde(default)]
            layout: Layout,
        }
        serde_json::from_str(text).is_ok_and(|LayoutOnly { layout }| layout.column_mapping)
    }

    /// What changed in the source since the table was written.
    pub(super) fn changes(&self, schema: &TableSchema) -> Vec<Change> {
        let columns = self.columns.iter().map(|c| OutlineColumn {
            attnum: c.attnum,
            name: c.name.clone(),
            source_type: c.source_type.clone(),
            filled: false,
        });
        let columns_to = self.form.map_or(0, |form| form.columns_to);
        let then = Outline { columns: columns.collect(), key: self.key.clone(), columns_to };
        let rewritten = self.form.is_some_and(|form| form.may_be_rewritten(schema.form));
        let mut now = Outline::of(schema);
        let ours: Vec<i16> = schema.columns.iter().filter(|c| is_ours(c)).map(|c| c.attnum).collect();
        now.columns.retain(|column| !ours.contains(&column.attnum));
        let mut found = changes(&then, &now, rewritten);
        if self.form.is_some_and(|form| form.parts_differ(&schema.parts)) {
            found.push(Change::Partitions);
        }
        found
    }

    /// Whether a copy that was interrupted can go on: the source's table is what it was.
    pub(super) fn can_go_on(&self, schema: &TableSchema, form: &Form) -> bool {
        self.source_table == schema.id
            && self.form == Some(schema.form)
            && (self.mode, &self.layout) == (form.mode, &form.layout)
            && self.changes(schema).is_empty()
    }

    /// The state once these changes are followed in place.
    pub(super) fn evolved(&self, schema: &TableSchema, changes: &[Change]) -> Self {
        TableState {
            columns: stored_columns(schema),
            key: schema.key.iter().map(|&i| schema.columns[i].name.clone()).collect(),
            form: Some(schema.form),
            past: self.past.after(changes),
            amended: self.amended.clone().filter(|_| changes.is_empty()),
            ..self.clone()
        }
    }
}

fn is_plain(layout: &Layout) -> bool {
    *layout == Layout::default()
}

fn stored_columns(schema: &TableSchema) -> Vec<StoredColumn> {
    schema
        .columns
        .iter()
        .filter(|c| !is_ours(c))
        .map(|c| StoredColumn { name: c.name.clone(), attnum: c.attnum, source_type: c.source_type() })
        .collect()
}
