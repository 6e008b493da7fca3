//! A table read as it stands at one version, for whoever compares: its rows in batches, and which of them came
//! or went since an older version. Nothing is written.
//!
//! Files that a version names stay for the retention of upkeep (days), so that a version can be read while the
//! table goes on.

use super::layout::{Form, Layout};
use super::state::Mode;
use super::storage::TableFiles;
use super::table::{self, DataFile, Stored};
use super::{DeltaSink, encode, log, names, state};
use crate::error::{Error, Result, codes};
use crate::position::CommitLsn;
use crate::schema::{TableName, TableSchema};
use crate::sink::table_error;
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use roaring::RoaringBitmap;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table at one version.
#[derive(Debug)]
pub struct TableView {
    files: TableFiles,
    data: Vec<DataFile>,
    /// Names of the columns, each with the one that files have.
    names: Vec<(String, String)>,
    /// The column that marks rows which the source has no longer.
    mark: Option<&'static str>,
    /// The version.
    pub version: i64,
    /// The position of the last commit that changed rows.
    pub position: Option<CommitLsn>,
}

/// Rows of one data file.
#[derive(Clone, Debug)]
pub struct Part {
    stored: Stored,
    /// Rows in the file.
    rows: u32,
    /// Those that are wanted.
    wanted: RoaringBitmap,
}

/// File → it, its rows, those of them that are live.
type Rows = BTreeMap<String, (Stored, u32, RoaringBitmap)>;

impl DeltaSink {
    /// The table as it is now. `None`: there is none, or its first copy has not finished.
    ///
    /// # Errors
    /// `TG010`, `TG017` for a table that is not this pipeline's; `TG020`, `TG001`.
    pub async fn view(&self, schema: &TableSchema) -> Result<Option<TableView>> {
        #[derive(Deserialize)]
        struct Stored {
            pipeline: String,
            first_live_version: Option<i64>,
            mode: Mode,
            #[serde(default)]
            layout: Layout,
        }
        let TableName { schema: folder, table: name } = &schema.name;
        let files = self.storage.table(&[folder, name])?;
        if !files.has_log().await? {
            return Ok(None);
        }
        let mut loaded = table::load(&files, &log::AppIds::new(&self.pipeline)).await?;
        let Some(document) = loaded.metadata.configuration.get(state::KEY) else {
            return Err(table_error(&schema.name, codes::TG010, "strandline did not make it"));
        };
        let stored: Stored = serde_json::from_str(document).map_err(|e| {
            table_error(&schema.name, codes::TG020, "its strandline.state cannot be read").with_source(e)
        })?;
        if stored.pipeline != self.pipeline {
            let what = format!("it belongs to the pipeline \"{}\"", stored.pipeline);
            return Err(table_error(&schema.name, codes::TG017, what));
        }
        if stored.first_live_version.is_none() {
            return Ok(None);
        }
        if stored.mode == Mode::Append {
            let what = "its target is a log of changes, which cannot be compared row by row";
            return Err(table_error(&schema.name, codes::TG021, what)
                .with_try("only tables that are written by key can be compared: sink.write"));
        }
        table::read_vectors(&files, loaded.files.iter_mut()).await?;
        let names = names::pairs(&loaded.metadata)
            .ok_or_else(|| table_error(&schema.name, codes::TG020, "its Delta schema cannot be read"))?;
        Ok(Some(TableView {
            names,
            files,
            data: loaded.files,
            mark: Form { mode: stored.mode, layout: stored.layout, ..Form::upsert() }.mark(),
            version: loaded.version,
            position: loaded.position,
        }))
    }
}

fn live(file: &DataFile) -> RoaringBitmap {
    let mut all = RoaringBitmap::new();
    all.insert_range(0..file.rows);
    match &file.deleted {
        Some(deleted) => all - deleted,
        None => all,
    }
}

impl TableView {
    /// All of its rows, file by file.
    pub fn parts(&self) -> Vec<Part> {
        let part = |file: &DataFile| Part { stored: file.stored(), rows: file.rows, wanted: live(file) };
        self.data.iter().map(part).filter(|part| !part.wanted.is_empty()).collect()
    }

    /// Rows of this version that the older one has not (first), and rows of the older one that this one has not.
    /// Compaction moves rows that did not change: then there are more of both than need be.
    pub fn changed_since(&self, older: &TableView) -> (Vec<Part>, Vec<Part>) {
        let of = |view: &TableView| -> Rows {
            view.data.iter().map(|file| (file.name(), (file.stored(), file.rows, live(file)))).collect()
        };
        let (now, then) = (of(self), of(older));
        let minus = |a: &Rows, b: &Rows| {
            a.iter()
                .map(|(name, (stored, rows, live))| {
                    let wanted = b.get(name).map_or_else(|| live.clone(), |(_, _, other)| live - other);
                    Part { stored: stored.clone(), rows: *rows, wanted }
                })
                .filter(|part| !part.wanted.is_empty())
                .collect::<Vec<_>>()
        };
        (minus(&now, &then), minus(&then, &now))
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.data.iter().map(|file| live(file).len()).sum()
    }

    /// Hands the rows of a part to `take`, in batches of this schema. A column that came later is null in older
    /// files. Blocking work is done where it is called: for a worker's thread.
    ///
    /// # Errors
    /// `TG020`, `TG001`, and those of `take`.
    pub async fn read(
        &self,
        part: &Part,
        schema: &SchemaRef,
        mut take: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let in_file = table::columns_of(&self.files, &part.stored).await?;
        let wanted = schema.fields().iter().map(|field| {
            let stored = names::in_files(&self.names, field.name()).unwrap_or_else(|| field.name().clone());
            Field::clone(field).with_name(stored)
        });
        let stored: SchemaRef = Arc::new(Schema::new(wanted.collect::<Vec<_>>()));
        let names = stored.fields().iter().map(|field| field.name().as_str());
        let there: Vec<String> = names
            .chain(self.mark)
            .filter(|name| in_file.column_with_name(name).is_some())
            .map(str::to_owned)
            .collect();
        if there.is_empty() {
            let what = format!("the data file \"{}\" has none of the table's columns", part.stored.name);
            return Err(Error::new(codes::TG020, what));
        }
        let mut first = 0_u32;
        for batch in table::read_columns(&self.files, &part.stored, &there, None).await? {
            let batch = batch?;
            let rows = u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            let mut wanted: Vec<bool> =
                (first..first.saturating_add(rows)).map(|row| part.wanted.contains(row)).collect();
            self.drop_marked(&batch, &mut wanted);
            first = first.saturating_add(rows);
            if !wanted.contains(&true) {
                continue;
            }
            let rows = conform(&encode::keep(&batch, &wanted)?, &stored, &part.stored.name)?;
            take(&named(&rows, schema)?)?;
        }
        if first != part.rows {
            let what = format!(
                "the data file \"{}\" has {first} rows, the log says {}",
                part.stored.name, part.rows
            );
            return Err(Error::new(codes::TG020, what));
        }
        Ok(())
    }
}

impl TableView {
    /// A row that is marked as deleted is not there for who compares.
    fn drop_marked(&self, batch: &RecordBatch, wanted: &mut [bool]) {
        let Some(column) = self.mark.and_then(|name| batch.column_by_name(name)) else { return };
        for (row, wanted) in wanted.iter_mut().enumerate().filter(|(row, _)| column.is_valid(*row)) {
            let is_deleted = match column.data_type() {
                DataType::Boolean => column.as_boolean().value(row),
                DataType::Utf8 => column.as_string::<i32>().value(row) == "true",
                _ => false,
            };
            *wanted &= !is_deleted;
        }
    }
}

/// The same rows under the names that people use.
fn named(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(nullable)), rows.columns().to_vec())
        .map_err(|e| Error::new(codes::RT001, "cannot name the columns of a table").with_source(e))
}

/// The same rows under the wanted schema, whose names are those of files.
fn conform(batch: &RecordBatch, schema: &SchemaRef, file: &str) -> Result<RecordBatch> {
    let damaged = |e: arrow::error::ArrowError| {
        Error::new(codes::TG020, format!("the columns of the data file \"{file}\" are not the table's"))
            .with_source(e)
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            None => new_null_array(field.data_type(), batch.num_rows()),
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => cast(column, field.data_type()).map_err(damaged)?,
        });
    }
    let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns).map_err(damaged)
}
