//! `strandline bench merge`: the table writer alone, on any Delta table, for comparison with other writers.
//!
//! Each file holds new versions of rows, and is merged by key in one commit, as a unit of the stream would
//! be: index, deletion vectors, sync and all. The table is given deletion vectors first if it has none.

use super::cdc;
use super::commit::Core;
use super::index::Budget;
use super::keys::KeyWidth;
use super::layout::Form;
use super::log::{self, Action, AppIds, MetaData, Protocol};
use super::partition;
use super::policy::Policy;
use super::remote::StoreOptions;
use super::state::TableState;
use super::storage::Storage;
use super::table;
use super::upkeep::{Tally, Upkeep};
use super::{Applied, DeltaTable, upsert};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op, Txn, TxnRun};
use crate::position::{CommitLsn, Epoch, Interval, Lsn, Marks};
use crate::schema::{Column, ColumnKind, TableId, TableName, TableSchema};
use crate::sink::TableSink;
use crate::sink::write::Vacuum;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one merge did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Merged {
    /// Rows in the file.
    pub rows: usize,
    /// From the rows in memory to the synced commit.
    pub took: Duration,
    /// Data files that got a new deletion vector, or left.
    pub files_touched: usize,
    /// Bytes of the deletion vectors written.
    pub vector_bytes: u64,
}

/// A table open for the measurement.
pub struct MergeBench {
    table: DeltaTable,
    schema: Arc<TableSchema>,
    position: u64,
}

fn unreadable(path: &Path, e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(codes::TG020, format!("cannot read \"{}\"", path.display())).with_source(e)
}

/// The rows of a Parquet file, in one batch.
///
/// # Errors
/// `TG020`.
pub fn read_file(path: &Path) -> Result<RecordBatch> {
    let file = File::open(path).map_err(|e| unreadable(path, e))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))?;
    let schema = Arc::clone(reader.schema());
    let reader = reader.with_batch_size(1 << 20).build().map_err(|e| unreadable(path, e))?;
    let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| unreadable(path, e))?;
    arrow::compute::concat_batches(&schema, &batches).map_err(|e| unreadable(path, e))
}

impl MergeBench {
    /// Opens the table and builds its index. `like` gives the columns.
    ///
    /// # Errors
    /// `TG014` for a table that we cannot keep up, `TG020` for one that cannot be read.
    pub async fn open(
        directory: &Path,
        key: &[String],
        like: &SchemaRef,
        upkeep: bool,
        cache: Option<PathBuf>,
        index_bytes: Option<usize>,
    ) -> Result<Self> {
        let absolute = directory.canonicalize().map_err(|e| unreadable(directory, e))?;
        let files =
            Storage::open(&format!("file://{}", absolute.display()), &StoreOptions::default())?.table(&[])?;
        let ids = AppIds::new("bench");
        let schema = Arc::new(table_schema(like, key)?);
        let loaded = table::load(&files, &ids).await?;
        table::check_supported(&loaded.protocol, &loaded.metadata)?;
        let form = form_of(&loaded.metadata, &schema)?;
        let mut core = Core {
            files,
            ids,
            epoch: Epoch(1),
            state: TableState::new("bench", &schema, &form),
            form,
            accepts: false,
            schema: Arc::clone(&schema),
            stored: Arc::clone(&schema),
            names: None,
            metadata: loaded.metadata.clone(),
            protocol: loaded.protocol.clone(),
            pending: None,
            version: loaded.version,
            position: loaded.position,
            marks: Marks::default(),
            next_marks: None,
            slots: super::slots::Slots::default(),
            budget: Budget::new(index_bytes.unwrap_or(usize::MAX), cache.clone()),
            cache,
            seen: Instant::now(),
            checkpoint: None,
        };
        core.adopt(loaded);
        allow_vectors(&mut core).await?;
        core.position = core.position.or(Some(CommitLsn::ZERO));
        let position = core.position.map_or(0, |p| p.lsn().raw());
        let applied = match KeyWidth::of(&schema) {
            KeyWidth::Narrow => Applied::Narrow(upsert::Upsert::default()),
            KeyWidth::Wide | KeyWidth::Hashed => Applied::Wide(upsert::Upsert::default()),
        };
        core.state.first_live_version = Some(0);
        let policy = upkeep.then(Policy::default);
        let vacuum = if upkeep { Vacuum::AsTables } else { Vacuum::Off };
        let upkeep = Upkeep::new(policy, vacuum, Arc::new(tokio::sync::Semaphore::new(1)));
        let mut bench = MergeBench {
            table: DeltaTable {
                core,
                applied,
                upkeep,
                marks: None,
                is_open: false,
                shaped: None,
                beside: None,
            },
            schema,
            position,
        };
        match &mut bench.table.applied {
            Applied::Narrow(upsert) => upsert.build_index(&mut bench.table.core).await?,
            Applied::Wide(upsert) => upsert.build_index(&mut bench.table.core).await?,
            Applied::Log(_) => {}
        }
        Ok(bench)
    }

    /// Bytes of the index.
    pub fn index_bytes(&self) -> usize {
        self.table.index_bytes()
    }

    /// Lands what was compacted meanwhile, if there is something; how long that took.
    ///
    /// # Errors
    /// As a commit of the stream.
    pub async fn upkeep(&mut self) -> Result<Option<Duration>> {
        if !self.table.upkeep.is_due() {
            return Ok(None);
        }
        let began = Instant::now();
        self.table.upkeep.settle(&self.schema.name).await;
        self.table.land_finished().await?;
        Ok(Some(began.elapsed()))
    }

    /// What upkeep did so far.
    pub fn tally(&self) -> Tally {
        self.table.tally()
    }

    /// Merges the rows in one commit.
    ///
    /// # Errors
    /// As a commit of the stream.
    pub async fn merge(&mut self, rows: &RecordBatch) -> Result<Merged> {
        let began = Instant::now();
        let changes = self.changes(rows)?;
        self.table.stage(changes).await?;
        let at = |raw: u64| CommitLsn::end_of_commit(Lsn::new(raw));
        let interval = Interval { from: at(self.position), to: at(self.position + 1) };
        self.position += 1;
        self.table.commit(interval).await?;
        let took = began.elapsed();
        let (files_touched, vector_bytes) = self.touched().await?;
        Ok(Merged { rows: rows.num_rows(), took, files_touched, vector_bytes })
    }

    fn changes(&self, rows: &RecordBatch) -> Result<ChangeBatch> {
        let failed =
            |e: arrow::error::ArrowError| Error::new(codes::TG020, "rows of another type").with_source(e);
        let columns = rows
            .columns()
            .iter()
            .zip(&self.schema.columns)
            .map(|(array, column)| cast(array, &column.kind.arrow()))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(failed)?;
        let txn =
            Txn { commit_start: Lsn::new(self.position), xid: 1, commit_time: 0, after: CommitLsn::ZERO };
        Ok(ChangeBatch {
            schema: Arc::clone(&self.schema),
            ops: vec![Op::Update; rows.num_rows()],
            runs: vec![TxnRun { first_row: 0, txn, end: None }],
            ordinals: (0..rows.num_rows() as u64).collect(),
            lsns: Vec::new(),
            origins: Vec::new(),
            after: RecordBatch::try_new(Arc::clone(&self.schema.arrow), columns).map_err(failed)?,
            before: None,
            unchanged: vec![None; self.schema.columns.len()],
            wire_bytes: rows.get_array_memory_size(),
        })
    }

    /// What the last commit says of itself.
    async fn touched(&self) -> Result<(usize, u64)> {
        let core = &self.table.core;
        let bytes = core.files.get(&log::commit_name(core.version)).await?.unwrap_or_default();
        let mut removed = 0;
        let mut vectors = 0;
        for line in bytes.split(|&b| b == b'\n') {
            let Ok(action) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            removed += usize::from(action.get("remove").is_some());
            vectors +=
                action.pointer("/add/deletionVector/sizeInBytes").and_then(|v| v.as_u64()).unwrap_or(0);
        }
        Ok((removed, vectors))
    }
}

/// As the table is partitioned.
fn form_of(metadata: &MetaData, schema: &TableSchema) -> Result<Form> {
    let mut form = Form::upsert();
    form.layout.partition_by.clone_from(&metadata.partition_columns);
    partition::check(schema, &form.layout)?;
    Ok(form)
}

/// Gives the table deletion vectors, in a commit of its own.
async fn allow_vectors(core: &mut Core) -> Result<()> {
    let feature = "deletionVectors".to_owned();
    if core.protocol.writer_features.contains(&feature) {
        return Ok(());
    }
    let mut features = core.protocol.writer_features.clone();
    features.push(feature);
    // What an older protocol says by its number.
    let feed = "changeDataFeed".to_owned();
    if cdc::is_wanted(&core.metadata.configuration) && !features.contains(&feed) {
        features.push(feed);
    }
    let reader = features.iter().filter(|f| ["deletionVectors", "timestampNtz"].contains(&f.as_str()));
    let protocol = Protocol {
        min_reader_version: 3,
        min_writer_version: 7,
        reader_features: reader.cloned().collect(),
        writer_features: features,
    };
    let mut metadata = core.metadata.clone();
    metadata.configuration.insert("delta.enableDeletionVectors".into(), "true".into());
    let actions = [
        table::commit_info("SET TBLPROPERTIES", table::now_ms(), serde_json::json!({})),
        Action::Protocol(protocol.clone()),
        Action::MetaData(metadata.clone()),
    ];
    core.files.put_if_absent(&log::commit_name(core.version + 1), log::encode(&actions)?.into()).await?;
    (core.protocol, core.metadata) = (protocol, metadata);
    core.version += 1;
    Ok(())
}

fn table_schema(like: &SchemaRef, key: &[String]) -> Result<TableSchema> {
    let unsupported = |what: String| Error::new(codes::TG014, what);
    let mut columns = Vec::new();
    for (i, field) in like.fields().iter().enumerate() {
        let kind = match field.data_type() {
            DataType::Boolean => ColumnKind::Bool,
            DataType::Int16 => ColumnKind::Int2,
            DataType::Int32 => ColumnKind::Int4,
            DataType::Int64 => ColumnKind::Int8,
            DataType::Float32 => ColumnKind::Float4,
            DataType::Float64 => ColumnKind::Float8,
            DataType::Decimal128(precision, scale) => {
                ColumnKind::Decimal { precision: *precision, scale: *scale }
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnKind::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnKind::Bytea,
            DataType::Date32 => ColumnKind::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => ColumnKind::Timestamp,
            DataType::Timestamp(_, Some(_)) => ColumnKind::TimestampTz,
            other => {
                return Err(unsupported(format!("the column \"{}\" has the type {other}", field.name())));
            }
        };
        columns.push(Column {
            name: field.name().clone(),
            attnum: i16::try_from(i + 1).unwrap_or(i16::MAX),
            type_oid: 0,
            type_modifier: -1,
            type_name: field.data_type().to_string(),
            kind,
        });
    }
    let key = key
        .iter()
        .map(|name| {
            let at = columns.iter().position(|c| c.name == *name);
            at.ok_or_else(|| unsupported(format!("there is no column \"{name}\" for the key")))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(TableSchema::new(TableId(0), TableName::new("bench", "merge"), columns, key, false))
}
