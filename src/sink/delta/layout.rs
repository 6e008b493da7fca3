//! How a source's table becomes a table of ours: which columns it has beside the source's, and what a change
//! becomes in them.
//!
//! The columns are those of a schema that is the source's with ours behind: everything after this knows one
//! kind of table only. A row that is deleted and stays (soft) is an update by its key, whose other values are
//! *unchanged*: they come from where the row is. A row that moves to another key is that, and then an update
//! that leaves the old row standing.

use super::state::Mode;
use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, Op, TxnRun};
use crate::schema::{Column, ColumnKind, TableSchema};
use crate::sink::table_error;
use crate::sink::write::{Deletes, Images, MetaColumns, Truncates, WriteMode, WriteOptions};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::interleave;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Columns of ours have attribute numbers from here downwards: no source has such.
const FIRST_ATTNUM: i16 = -100;
/// Microseconds from 1970 to 2000.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// Whether a column is ours.
pub(super) fn is_ours(column: &Column) -> bool {
    column.attnum <= FIRST_ATTNUM
}

/// What is recorded of it in the table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Layout {
    /// What a deleted row becomes.
    pub deletes: Deletes,
    /// Columns that tell of the last change.
    pub meta: MetaColumns,
    /// Images in a change log.
    pub images: Images,
    /// A change log of a table with a key: the log does not always give whole rows.
    pub keyed_log: bool,
    /// Columns that it is partitioned by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition_by: Vec<String>,
    /// Columns have other names in files ([`super::names`]).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub column_mapping: bool,
    /// It stands beside a table.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
}

/// How a table is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Form {
    /// How changes are applied.
    pub mode: Mode,
    /// What the columns are.
    pub layout: Layout,
    /// What a TRUNCATE does.
    pub truncates: Truncates,
    /// Properties that the table has.
    pub properties: BTreeMap<String, String>,
}

/// What a column of ours holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holds {
    Op,
    Lsn,
    Ordinal,
    Time,
    Milliseconds,
    Synced,
    Deleted,
    DeletedText,
    Unchanged,
    Image,
}

impl Holds {
    fn kind(self) -> ColumnKind {
        match self {
            Holds::Op | Holds::DeletedText | Holds::Unchanged | Holds::Image => ColumnKind::Text,
            Holds::Lsn | Holds::Ordinal | Holds::Milliseconds => ColumnKind::Int8,
            Holds::Time | Holds::Synced => ColumnKind::TimestampTz,
            Holds::Deleted => ColumnKind::Bool,
        }
    }
}

/// A row of the target and what it is made of.
struct Row {
    /// The change.
    change: usize,
    /// Its values: of the new image (0) or of the old ones (1), and which.
    pick: (usize, usize),
    op: Op,
    deleted: bool,
    /// Only the key is known.
    key_only: bool,
    before: u32,
    /// An image from before the change.
    is_before: bool,
}

impl Form {
    /// As the operator wants it; a table without a key is a change log.
    pub(super) fn of(options: &WriteOptions, schema: &TableSchema) -> Self {
        let keyed = schema.has_key();
        let mode = match options.write {
            WriteMode::Upsert | WriteMode::Both if keyed => Mode::Upsert,
            WriteMode::CopyOnWrite if keyed => Mode::CopyOnWrite,
            _ => Mode::Append,
        };
        let column_mapping = options.column_mapping;
        let plain =
            Layout { partition_by: options.partition_by.clone(), column_mapping, ..Layout::default() };
        let layout = match mode {
            Mode::Append => Layout { images: options.images, keyed_log: keyed, ..plain },
            Mode::Upsert | Mode::CopyOnWrite => {
                Layout { deletes: options.deletes, meta: options.meta, ..plain }
            }
        };
        Form { mode, layout, truncates: options.truncates, properties: options.properties.clone() }
    }

    /// By key, with deletion vectors, and nothing else.
    pub(super) fn upsert() -> Self {
        Form {
            mode: Mode::Upsert,
            layout: Layout::default(),
            truncates: Truncates::Apply,
            properties: BTreeMap::new(),
        }
    }

    /// Deleted rows stay.
    pub(super) fn is_soft(&self) -> bool {
        self.layout.deletes == Deletes::Soft
    }

    fn columns(&self) -> Vec<(Holds, &'static str)> {
        if self.mode == Mode::Append {
            let mut columns = vec![
                (Holds::Op, "_strandline_op"),
                (Holds::Lsn, "_strandline_lsn"),
                (Holds::Ordinal, "_strandline_ordinal"),
                (Holds::Time, "_strandline_ts"),
            ];
            if self.layout.keyed_log {
                columns.push((Holds::Unchanged, "_strandline_unchanged"));
            }
            if self.layout.images == Images::Both {
                columns.push((Holds::Image, "_strandline_image"));
            }
            return columns;
        }
        let mut columns = match self.layout.meta {
            MetaColumns::None => vec![],
            MetaColumns::Strandline => vec![
                (Holds::Op, "_strandline_op"),
                (Holds::Lsn, "_strandline_lsn"),
                (Holds::Time, "_strandline_ts"),
            ],
            MetaColumns::Debezium => vec![
                (Holds::Op, "__op"),
                (Holds::Lsn, "__source_lsn"),
                (Holds::Milliseconds, "__source_ts_ms"),
            ],
            MetaColumns::Fivetran => vec![(Holds::Synced, "_fivetran_synced")],
        };
        if self.is_soft() {
            columns.push(match self.layout.meta {
                MetaColumns::None | MetaColumns::Strandline => (Holds::Deleted, "_strandline_deleted"),
                MetaColumns::Debezium => (Holds::DeletedText, "__deleted"),
                MetaColumns::Fivetran => (Holds::Deleted, "_fivetran_deleted"),
            });
        }
        columns
    }

    /// The column that marks deleted rows.
    pub(super) fn mark(&self) -> Option<&'static str> {
        let marks = |holds| matches!(holds, Holds::Deleted | Holds::DeletedText);
        self.columns().into_iter().find(|(holds, _)| marks(*holds)).map(|(_, name)| name)
    }

    /// The table's schema: the source's columns, then ours. A change log has no key.
    pub(super) fn schema(&self, source: &Arc<TableSchema>) -> Arc<TableSchema> {
        let ours = self.columns();
        if ours.is_empty() {
            return Arc::clone(source);
        }
        let mut columns = source.columns.clone();
        columns.extend((0..).zip(ours).map(|(i, (holds, name))| Column {
            name: name.to_owned(),
            attnum: FIRST_ATTNUM - i,
            type_oid: 0,
            type_modifier: -1,
            type_name: "strandline".to_owned(),
            kind: holds.kind(),
        }));
        let key = if self.mode == Mode::Append { Vec::new() } else { source.key.clone() };
        let made = TableSchema::new(source.id, source.name.clone(), columns, key.clone(), source.full_before);
        Arc::new(TableSchema { columns: made.columns, key, arrow: made.arrow, ..TableSchema::clone(source) })
    }

    /// The changes as rows of the table, whose schema is given.
    ///
    /// # Errors
    /// `TG022` for a TRUNCATE that is refused; `RT001`.
    pub(super) fn rows(
        &self,
        batch: ChangeBatch,
        schema: &Arc<TableSchema>,
        now_us: i64,
    ) -> Result<ChangeBatch> {
        if self.truncates == Truncates::Stop && batch.ops.contains(&Op::Truncate) {
            let what = "it was truncated in the source, and the configuration refuses that";
            return Err(table_error(&schema.name, codes::TG022, what)
                .with_try(format!("strandline resync \"{}\" --yes", schema.name)));
        }
        let ours = self.columns();
        if ours.is_empty() {
            return Ok(batch);
        }
        let rows = self.plan(&batch);
        let same = rows.len() == batch.len()
            && rows.iter().enumerate().all(|(i, row)| row.pick == (0, i) && !row.key_only);
        let mut columns: Vec<ArrayRef> = batch.after.columns().to_vec();
        let mut unchanged = batch.unchanged.clone();
        if !same {
            let picks: Vec<(usize, usize)> = rows.iter().map(|row| row.pick).collect();
            for (i, column) in columns.iter_mut().enumerate() {
                let before = batch.before.as_ref().map_or(&*column, |before| before.rows.column(i));
                *column = interleave(&[column.as_ref(), before.as_ref()], &picks).map_err(broken)?;
                let masked = |row: &Row| match row.pick {
                    (0, at) => batch.unchanged.get(i).and_then(Option::as_ref).is_some_and(|m| m.value(at)),
                    _ => row.key_only && !batch.schema.key.contains(&i),
                };
                let mask = BooleanBuffer::collect_bool(rows.len(), |at| masked(&rows[at]));
                if let Some(slot) = unchanged.get_mut(i) {
                    *slot = (mask.count_set_bits() > 0).then_some(mask);
                }
            }
        }
        for (holds, _) in ours {
            columns.push(self.column(holds, &batch, &rows, &unchanged, now_us));
            unchanged.push(None);
        }
        if self.mode == Mode::Append {
            unchanged.fill(None);
        }
        finish(batch, schema, &rows, columns, unchanged)
    }

    fn plan(&self, batch: &ChangeBatch) -> Vec<Row> {
        let old = |row: usize| {
            let at = batch.before.as_ref().map_or(Before::NONE, |before| before.index[row]);
            (at != Before::NONE).then_some(at)
        };
        let is_log = self.mode == Mode::Append;
        let key_only = !batch.schema.full_before && !is_log;
        let mut rows = Vec::with_capacity(batch.len());
        for (i, &op) in batch.ops.iter().enumerate() {
            let plain = Row {
                change: i,
                pick: (0, i),
                op,
                deleted: matches!(op, Op::Delete | Op::Truncate),
                key_only: false,
                before: old(i).unwrap_or(Before::NONE),
                is_before: false,
            };
            let from_old = |at: u32| Row {
                change: i,
                pick: (1, at as usize),
                op,
                deleted: true,
                key_only,
                before: Before::NONE,
                is_before: true,
            };
            match (op, old(i)) {
                (Op::Delete, Some(at)) if is_log => rows.push(from_old(at)),
                (Op::Update, Some(at)) if is_log && self.layout.images == Images::Both => {
                    rows.extend([from_old(at), plain]);
                }
                (Op::Delete, Some(at)) if self.is_soft() => {
                    rows.push(Row { op: Op::Update, ..from_old(at) });
                }
                (Op::Update, Some(at)) if self.is_soft() && moves(batch, i, at) => {
                    rows.extend([Row { op: Op::Update, ..from_old(at) }, plain]);
                }
                _ => rows.push(plain),
            }
        }
        rows
    }

    fn column(
        &self,
        holds: Holds,
        batch: &ChangeBatch,
        rows: &[Row],
        unchanged: &[Option<BooleanBuffer>],
        now_us: i64,
    ) -> ArrayRef {
        let txn = |row: &Row| batch.txn_of(row.change);
        let time = |row: &Row| txn(row).map(|txn| txn.commit_time.saturating_add(EPOCH_2000));
        let stamps = |values: Vec<Option<i64>>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        match holds {
            Holds::Op => Arc::new(StringArray::from_iter_values(rows.iter().map(|row| {
                let soft = row.deleted && self.mode != Mode::Append && batch.ops[row.change] == Op::Update;
                if soft { Op::Delete.letter() } else { batch.ops[row.change].letter() }
            }))),
            Holds::Lsn => Arc::new(Int64Array::from_iter(
                rows.iter().map(|row| txn(row).and_then(|t| i64::try_from(super::position_of(&t)).ok())),
            )),
            Holds::Ordinal => Arc::new(Int64Array::from_iter(
                rows.iter().map(|r| batch.ordinals.get(r.change).and_then(|&o| i64::try_from(o).ok())),
            )),
            Holds::Time => stamps(rows.iter().map(time).collect()),
            Holds::Milliseconds => Arc::new(Int64Array::from_iter(
                rows.iter().map(|row| time(row).map(|us| us.div_euclid(1000))),
            )),
            Holds::Synced => stamps(vec![Some(now_us); rows.len()]),
            Holds::Deleted => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.deleted)))),
            Holds::DeletedText => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| if row.deleted { "true" } else { "false" }),
            )),
            Holds::Unchanged => {
                Arc::new(StringArray::from_iter((0..rows.len()).map(|at| names_of(batch, unchanged, at))))
            }
            Holds::Image => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| if row.is_before { "before" } else { "after" }),
            )),
        }
    }
}

/// Names of the columns whose value the log does not repeat, as a JSON list.
fn names_of(batch: &ChangeBatch, unchanged: &[Option<BooleanBuffer>], row: usize) -> Option<String> {
    let names: Vec<&str> = batch
        .schema
        .columns
        .iter()
        .zip(unchanged)
        .filter(|(_, mask)| mask.as_ref().is_some_and(|mask| mask.value(row)))
        .map(|(column, _)| column.name.as_str())
        .collect();
    if names.is_empty() { None } else { serde_json::to_string(&names).ok() }
}

/// Whether an update moves its row to another key: without whole old rows there is an old image for no other
/// reason.
fn moves(batch: &ChangeBatch, row: usize, at: u32) -> bool {
    if !batch.schema.full_before {
        return true;
    }
    let Some(before) = &batch.before else { return false };
    batch.schema.key.iter().any(|&i| {
        let (new, old) = (batch.after.column(i), before.rows.column(i));
        new.slice(row, 1).to_data() != old.slice(at as usize, 1).to_data()
    })
}

fn finish(
    batch: ChangeBatch,
    schema: &Arc<TableSchema>,
    rows: &[Row],
    columns: Vec<ArrayRef>,
    unchanged: Vec<Option<BooleanBuffer>>,
) -> Result<ChangeBatch> {
    let mut runs: Vec<TxnRun> = Vec::with_capacity(batch.runs.len());
    for run in &batch.runs {
        let first = rows.partition_point(|row| row.change < run.first_row as usize);
        runs.push(TxnRun { first_row: u32::try_from(first).unwrap_or(u32::MAX), ..*run });
    }
    let widen = |before: Before| -> Result<Before> {
        let mut columns = before.rows.columns().to_vec();
        for field in schema.arrow.fields().iter().skip(columns.len()) {
            columns.push(arrow::array::new_null_array(field.data_type(), before.rows.num_rows()));
        }
        let rows_before = RecordBatch::try_new(Arc::clone(&schema.arrow), columns).map_err(broken)?;
        Ok(Before { rows: rows_before, index: rows.iter().map(|row| row.before).collect() })
    };
    let before = batch.before.map(widen).transpose()?;
    Ok(ChangeBatch {
        schema: Arc::clone(schema),
        ops: rows.iter().map(|row| row.op).collect(),
        runs,
        ordinals: match batch.ordinals.len() {
            0 => Vec::new(),
            _ => rows.iter().map(|row| batch.ordinals.get(row.change).copied().unwrap_or_default()).collect(),
        },
        lsns: Vec::new(),
        origins: Vec::new(),
        after: RecordBatch::try_new(Arc::clone(&schema.arrow), columns).map_err(broken)?,
        before,
        unchanged,
        wire_bytes: batch.wire_bytes,
    })
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "cannot build rows of the target").with_source(e)
}
