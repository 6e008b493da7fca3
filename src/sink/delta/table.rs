//! One Delta table as its only writer holds it: version, files, deletion vectors, identity.
//!
//! Opened through deltalake's snapshot; from then on kept by ourselves, because each commit of ours is
//! the only thing that changes it, and a commit must cost what the change costs, not what the table's
//! file list costs. When somebody else's commit is met, it is opened again.

use super::cdc;
use super::dv::{Descriptor, Location};
use super::encode::FinishedFile;
use super::layout::{Form, is_ours};
use super::log::{Action, Add, AppIds, Format, MetaData, Protocol, Remove};
use super::names::{self, Names};
use super::partition::{self, Values};
use super::remote::{Failed, RemoteFile};
use super::state::{self, TableState};
use super::storage::TableFiles;
use crate::error::{Code, Error, Result, codes};
use crate::position::{CommitLsn, Epoch, Marks};
use crate::schema::{Column, ColumnKind, TableSchema};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use roaring::RoaringBitmap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

/// Features of tables that we can keep up. Anything else is refused before it is written wrongly.
/// Those of column types that our tables do not have ask nothing of us (delta-rs adds them with any property);
/// properties that would ask something are refused by themselves.
const KNOWN_FEATURES: [&str; 10] = [
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "appendOnly",
    "invariants",
    "v2Checkpoint",
    "changeDataFeed",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
];

/// What the kernel puts before a store's error.
const KERNEL_STORE_ERROR: &str = "Error interacting with object store";
/// What a store's error says when something is not allowed.
const DENIED: [&str; 2] = ["lacked the necessary privileges", "lacked valid authentication credentials"];

/// Bytes of rows that are read at once.
const BATCH_BYTES: usize = 16 << 20;

/// A data file of the table.
#[derive(Clone, Debug)]
pub(super) struct DataFile {
    /// As the log has it.
    pub add: Add,
    /// Rows, gone ones included.
    pub rows: u32,
    /// Gone rows. `None`: there is a vector that has not been read yet.
    pub deleted: Option<RoaringBitmap>,
}

/// Rows on storage: the name of their file, and what they share and the file does not hold.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Name below the table.
    pub name: String,
    /// What all of its rows share.
    pub values: Arc<Values>,
}

impl DataFile {
    /// The name on storage.
    pub(super) fn name(&self) -> String {
        data_name(&self.add.path)
    }

    /// That a commit brings, whole.
    pub(super) fn new(finished: &FinishedFile, now_ms: i64) -> Self {
        DataFile { add: added(finished, now_ms), rows: finished.rows, deleted: Some(RoaringBitmap::new()) }
    }

    /// Those that a commit brings, with the actions that bring them.
    pub(super) fn all_new(finished: &[FinishedFile], now_ms: i64, actions: &mut Vec<Action>) -> Vec<Self> {
        let files: Vec<Self> = finished.iter().map(|file| DataFile::new(file, now_ms)).collect();
        actions.extend(files.iter().map(|file| Action::Add(file.add.clone())));
        files
    }

    /// To be read.
    pub(super) fn stored(&self) -> Stored {
        Stored { name: self.name(), values: Arc::new(self.add.partition_values.clone()) }
    }

    /// The action that takes it out of the table.
    pub(super) fn remove(&self, now_ms: i64, data_change: bool) -> Remove {
        Remove {
            path: self.add.path.clone(),
            deletion_timestamp: Some(now_ms),
            data_change,
            extended_file_metadata: true,
            partition_values: self.add.partition_values.clone(),
            size: Some(self.add.size),
            deletion_vector: self.add.deletion_vector.clone(),
        }
    }
}

/// The action that brings a finished file.
pub(super) fn added(finished: &FinishedFile, now_ms: i64) -> Add {
    Add {
        path: percent_encode(&finished.path),
        partition_values: finished.values.as_ref().clone(),
        size: i64::try_from(finished.size).unwrap_or(i64::MAX),
        modification_time: now_ms,
        data_change: true,
        stats: Some(finished.stats.clone()),
        deletion_vector: None,
    }
}

/// The table as the log describes it.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Version.
    pub version: i64,
    /// Protocol.
    pub protocol: Protocol,
    /// Identity, schema, properties.
    pub metadata: MetaData,
    /// Live files.
    pub files: Vec<DataFile>,
    /// Our epoch in it.
    pub epoch: Option<Epoch>,
    /// Our position in it.
    pub position: Option<CommitLsn>,
    /// The same for other servers.
    pub marks: Marks,
}

fn through_json<T: DeserializeOwned>(value: &impl Serialize) -> std::result::Result<T, serde_json::Error> {
    serde_json::from_value(serde_json::to_value(value)?)
}

/// Whether storage failed to answer, rather than answered with something damaged: a fault of the network,
/// of credentials or of the machine must not be taken for a fault of the table.
pub(super) fn is_temporary(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(store) = error.downcast_ref::<object_store::Error>() {
            return !matches!(store, object_store::Error::NotFound { .. });
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return !matches!(
                io.kind(),
                std::io::ErrorKind::NotFound
                    | std::io::ErrorKind::UnexpectedEof
                    | std::io::ErrorKind::InvalidData
            );
        }
        // The kernel keeps a store's error to itself; a file that is not there is another error of it. The tests
        // over a store that fails notice when this text changes.
        if error.to_string().starts_with(KERNEL_STORE_ERROR) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The code of a failure to read: the storage did not answer, does not allow it, or holds something damaged.
pub(super) fn code_of_failure(error: &(dyn std::error::Error + 'static)) -> Code {
    let mut next = Some(error);
    while let Some(error) = next {
        let denied =
            match (error.downcast_ref::<object_store::Error>(), error.downcast_ref::<std::io::Error>()) {
                (Some(store), _) => matches!(
                    store,
                    object_store::Error::PermissionDenied { .. }
                        | object_store::Error::Unauthenticated { .. }
                ),
                (None, Some(io)) => io.kind() == std::io::ErrorKind::PermissionDenied,
                // As in `is_temporary`.
                (None, None) => {
                    let text = error.to_string();
                    text.starts_with(KERNEL_STORE_ERROR) && DENIED.iter().any(|words| text.contains(words))
                }
            };
        if denied {
            return codes::TG003;
        }
        next = error.source();
    }
    if is_temporary(error) { codes::TG001 } else { codes::TG020 }
}

/// Opens the newest version.
///
/// # Errors
/// `TG020` when log or files cannot be read, `TG001` when the storage does not answer.
pub(super) async fn load(files: &TableFiles, ids: &AppIds) -> Result<Loaded> {
    load_at(files, ids, None).await
}

/// Opens a version; `None`: the newest.
///
/// # Errors
/// As [`load`].
pub(super) async fn load_at(files: &TableFiles, ids: &AppIds, version: Option<i64>) -> Result<Loaded> {
    let url = files.url().clone();
    let unreadable = |e: deltalake::DeltaTableError| {
        Error::new(code_of_failure(&e), format!("cannot open the Delta table at \"{url}\"")).with_source(e)
    };
    let odd = |e: serde_json::Error| {
        Error::new(codes::TG020, format!("the Delta table at \"{url}\" has an odd log")).with_source(e)
    };
    let mut table = files.delta()?;
    match version.and_then(|version| u64::try_from(version).ok()) {
        None => table.load().await.map_err(unreadable)?,
        Some(version) => table.load_version(version).await.map_err(unreadable)?,
    }
    let snapshot = table.snapshot().map_err(unreadable)?;
    let log_store = table.log_store();
    let epoch = snapshot.transaction_version(&log_store, &ids.epoch).await.map_err(unreadable)?;
    let lsn = snapshot.transaction_version(&log_store, &ids.lsn).await.map_err(unreadable)?;
    let position = match lsn {
        None => None,
        Some(stored) => Some(CommitLsn::from_stored(stored).ok_or_else(|| {
            Error::new(codes::TG020, format!("the Delta table at \"{url}\" holds a negative position"))
        })?),
    };
    let metadata: MetaData = through_json(snapshot.metadata()).map_err(odd)?;
    let mut marks = Marks::default();
    for name in
        metadata.configuration.get(state::KEY).map_or_else(Vec::new, |text| TableState::mark_names(text))
    {
        let app_id = format!("{}{name}", ids.marks);
        if let Some(last) = snapshot.transaction_version(&log_store, &app_id).await.map_err(unreadable)? {
            marks.0.insert(name, last);
        }
    }
    Ok(Loaded {
        version: i64::try_from(snapshot.version()).unwrap_or(i64::MAX),
        protocol: through_json(snapshot.protocol()).map_err(odd)?,
        metadata,
        files: data_files(files, &table).await?,
        epoch: epoch.map(Epoch),
        position,
        marks,
    })
}

/// The metadata of the version that is loaded.
///
/// # Errors
/// `TG020`.
pub(super) fn metadata_of(table: &deltalake::DeltaTable) -> Result<MetaData> {
    let snapshot = table
        .snapshot()
        .map_err(|e| Error::new(codes::TG020, "a Delta table has no snapshot").with_source(e))?;
    through_json(snapshot.metadata())
        .map_err(|e| Error::new(codes::TG020, "a Delta table has odd metadata").with_source(e))
}

/// The files of the version that is loaded.
///
/// # Errors
/// As [`load`].
pub(super) async fn data_files(files: &TableFiles, table: &deltalake::DeltaTable) -> Result<Vec<DataFile>> {
    let url = files.url();
    let odd = |e: serde_json::Error| {
        Error::new(codes::TG020, format!("the Delta table at \"{url}\" has an odd log")).with_source(e)
    };
    let snapshot = table.snapshot().map_err(|e| {
        Error::new(codes::TG020, format!("cannot open the Delta table at \"{url}\"")).with_source(e)
    })?;
    let mut data = Vec::with_capacity(snapshot.log_data().num_files());
    for view in snapshot.log_data().iter() {
        let deletion_vector: Option<Descriptor> = match view.deletion_vector_descriptor() {
            None => None,
            Some(descriptor) => Some(through_json(&descriptor).map_err(odd)?),
        };
        let path = view.path();
        check_within(&path)?;
        let add = Add {
            path: percent_encode(&path),
            partition_values: view.partition_values_map().into_iter().collect(),
            size: view.size(),
            modification_time: view.modification_time(),
            data_change: true,
            stats: view.stats(),
            deletion_vector,
        };
        let rows = match view.num_records() {
            Some(rows) => u32::try_from(rows).map_err(|_| {
                Error::new(codes::TG014, format!("a file of the Delta table at \"{url}\" has over 2^32 rows"))
            })?,
            None => rows_of(files, &percent_decode(&add.path)).await?,
        };
        let deleted = add.deletion_vector.is_none().then(RoaringBitmap::new);
        data.push(DataFile { add, rows, deleted });
    }
    Ok(data)
}

/// Refuses tables that need more of a writer than we give.
///
/// # Errors
/// `TG014`.
pub(super) fn check_supported(protocol: &Protocol, metadata: &MetaData) -> Result<()> {
    let refuse = |what: String| Err(Error::new(codes::TG014, what));
    for feature in protocol.reader_features.iter().chain(&protocol.writer_features) {
        if !KNOWN_FEATURES.contains(&feature.as_str()) {
            return refuse(format!("the table has the feature \"{feature}\""));
        }
    }
    // Version 4 is what a change data feed asks for; what else it stands for would show in the metadata.
    if protocol.writer_features.is_empty() && protocol.min_writer_version > 4 {
        return refuse(format!("the table has writer version {}", protocol.min_writer_version));
    }
    let key = "delta.setTransactionRetentionDuration";
    if metadata.configuration.get(key).is_some_and(|v| v != "none") {
        return refuse(format!("the table has the property \"{key}\": positions stored in it would expire"));
    }
    let mode = metadata.configuration.get(names::MODE).map_or("none", String::as_str);
    let is_wanted = metadata.configuration.get(state::KEY).is_some_and(|text| TableState::is_mapped(text));
    match (mode, is_wanted) {
        ("none", false) | ("name", true) => {}
        (_, false) => {
            let harm = "its columns have other names in its files, which strandline did not give them";
            return refuse(format!("the table has the property \"{}\": {harm}", names::MODE));
        }
        (_, true) => {
            let what = "its columns have other names in its files";
            return refuse(format!("the table has the property \"{}\" = \"{mode}\": {what}", names::MODE));
        }
    }
    if metadata.configuration.get("delta.appendOnly").is_some_and(|v| v == "true") {
        return refuse("the table has the property \"delta.appendOnly\"".into());
    }
    if let Some(key) = metadata.configuration.keys().find(|key| key.starts_with("delta.constraints.")) {
        return refuse(format!("the table has the property \"{key}\": rows would have to be checked"));
    }
    for mark in ["delta.generationExpression", "delta.invariants", "delta.identity."] {
        if metadata.schema_string.contains(mark) {
            return refuse(format!("a column of the table has \"{mark}\""));
        }
    }
    Ok(())
}

/// The protocol of a table with this schema.
pub(super) fn protocol_for(
    schema: &TableSchema,
    mode: state::Mode,
    configuration: &BTreeMap<String, String>,
) -> Protocol {
    let has_feed = cdc::is_wanted(configuration);
    let mut features = Vec::new();
    if mode == state::Mode::Upsert {
        features.push("deletionVectors".to_owned());
    }
    if names::is_mapped(configuration) {
        features.push("columnMapping".to_owned());
    }
    if schema.columns.iter().any(|c| c.kind == ColumnKind::Timestamp) {
        features.push("timestampNtz".to_owned());
    }
    if features.is_empty() {
        return Protocol {
            min_reader_version: 1,
            min_writer_version: if has_feed { 4 } else { 2 },
            reader_features: Vec::new(),
            writer_features: Vec::new(),
        };
    }
    let mut writer_features = features.clone();
    if has_feed {
        writer_features.push("changeDataFeed".to_owned());
    }
    Protocol { min_reader_version: 3, min_writer_version: 7, reader_features: features, writer_features }
}

/// The metadata of a table with this schema and state. `old` gives identity and foreign properties.
///
/// # Errors
/// `RT001`: the state could not be written as JSON.
pub(super) fn metadata_for(
    schema: &TableSchema,
    state: &TableState,
    old: Option<&MetaData>,
    form: &Form,
    names: Option<&Names>,
    now_ms: i64,
) -> Result<MetaData> {
    let fields: Vec<_> =
        schema.columns.iter().map(|c| names.map_or_else(|| field(c), |names| names.field(c))).collect();
    let mut configuration = old.map_or_else(BTreeMap::new, |m| m.configuration.clone());
    if state.mode == state::Mode::Upsert {
        configuration.insert("delta.enableDeletionVectors".into(), "true".into());
    }
    configuration.extend(form.properties.clone());
    configuration.entry("delta.checkpointInterval".into()).or_insert_with(|| "100".into());
    if let Some(names) = names {
        names.write_into(&mut configuration);
    }
    let document = serde_json::to_string(state)
        .map_err(|e| Error::new(codes::RT001, "cannot encode a table's state").with_source(e))?;
    configuration.insert(state::KEY.into(), document);
    Ok(MetaData {
        id: old.map_or_else(|| uuid::Uuid::new_v4().to_string(), |m| m.id.clone()),
        name: Some(schema.name.table.clone()),
        description: None,
        format: Format { provider: "parquet".into(), options: BTreeMap::new() },
        schema_string: json!({"type": "struct", "fields": fields}).to_string(),
        partition_columns: state.layout.partition_by.clone(),
        configuration,
        created_time: old.and_then(|m| m.created_time).or(Some(now_ms)),
    })
}

/// A column of the Delta schema. Where its type does not tell the source's, the metadata do (`docs/TYPES.md`).
pub(super) fn field(column: &Column) -> serde_json::Value {
    let marks = match column.kind.form() {
        _ if is_ours(column) => json!({}),
        Some(form) => json!({"strandline.type": column.type_name, "strandline.form": form}),
        None => json!({}),
    };
    json!({"name": column.name, "type": column.kind.delta(), "nullable": true, "metadata": marks})
}

/// Two column names that differ only in case cannot stand in one Delta table.
///
/// # Errors
/// `TG019`.
pub(super) fn check_names(schema: &TableSchema) -> Result<()> {
    let mut seen = BTreeMap::new();
    for name in schema.columns.iter().map(|c| c.name.as_str()) {
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            let what =
                format!("the columns \"{other}\" and \"{name}\" differ only in case, which Delta forbids");
            return Err(crate::sink::table_error(&schema.name, codes::TG019, what)
                .with_try("rename one of them, or exclude the table"));
        }
    }
    Ok(())
}

/// `commitInfo`: for people only, never read back.
pub(super) fn commit_info(operation: &str, now_ms: i64, more: serde_json::Value) -> Action {
    Action::CommitInfo(json!({
        "timestamp": now_ms,
        "operation": operation,
        "operationParameters": {},
        "engineInfo": concat!("strandline/", env!("CARGO_PKG_VERSION")),
        "isBlindAppend": false,
        "userMetadata": more.to_string(),
    }))
}

/// Milliseconds since the Unix epoch, for labels only: nothing is decided by it.
pub(super) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// A Parquet file opened for reading.
pub(super) enum Readable {
    /// On this machine.
    Local(File),
    /// In an object store.
    Remote(RemoteFile),
}

/// Opens a data file.
///
/// # Errors
/// `TG020` when it is not there, `TG001` when the storage does not answer.
pub(super) async fn open_data(files: &TableFiles, name: &str) -> Result<Readable> {
    let missing =
        || Error::new(codes::TG020, format!("the data file \"{name}\" is missing in \"{}\"", files.url()));
    match files.local_path(name) {
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Readable::Local(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(missing()),
            Err(e) => Err(Error::new(codes::TG001, format!("cannot read \"{name}\"")).with_source(e)),
        },
        None => Ok(Readable::Remote(files.open_remote(name).await?.ok_or_else(missing)?)),
    }
}

/// What a data file says of itself.
async fn parquet_metadata(files: &TableFiles, name: &str) -> Result<ArrowReaderMetadata> {
    let damaged = |e: parquet::errors::ParquetError| unreadable(name, e, &Failed::new());
    let options = ArrowReaderOptions::new();
    match open_data(files, name).await? {
        Readable::Local(file) => ArrowReaderMetadata::load(&file, options).map_err(damaged),
        Readable::Remote(file) => {
            ArrowReaderMetadata::load(&file, options).map_err(|e| unreadable(name, e, &file.failed()))
        }
    }
}

/// Rows of a data file, as it says itself.
///
/// # Errors
/// `TG020`, `TG001`; `TG014` beyond 2^32.
pub(super) async fn rows_of(files: &TableFiles, name: &str) -> Result<u32> {
    let meta = parquet_metadata(files, name).await?;
    u32::try_from(meta.metadata().file_metadata().num_rows())
        .map_err(|_| Error::new(codes::TG014, format!("\"{name}\" has over 2^32 rows")))
}

/// Columns of a data file, those that its rows share included, as texts.
///
/// # Errors
/// `TG020`, `TG001`.
pub(super) async fn columns_of(files: &TableFiles, file: &Stored) -> Result<arrow::datatypes::SchemaRef> {
    let found = parquet_metadata(files, &file.name).await?;
    Ok(partition::with_shared(found.schema(), &file.values))
}

/// Reads columns of a data file, all rows or a selection, in batches. What the rows share comes as texts.
///
/// # Errors
/// `TG020`, `TG001`.
pub(super) async fn read_columns(
    files: &TableFiles,
    file: &Stored,
    columns: &[String],
    rows: Option<&[u32]>,
) -> Result<Batches> {
    read_held(files, file, columns, rows).await?.ok_or_else(|| {
        let what = format!("the data file \"{}\" lacks one of the columns {columns:?}", file.name);
        Error::new(codes::TG020, what)
    })
}

/// As [`read_columns`]; `None`: the file is from before one of the columns, which is null in all of its rows.
///
/// # Errors
/// `TG020`, `TG001`.
pub(super) async fn read_held(
    files: &TableFiles,
    file: &Stored,
    columns: &[String],
    rows: Option<&[u32]>,
) -> Result<Option<Batches>> {
    let Stored { name, values } = file;
    let held: Vec<String> = columns.iter().filter(|name| !values.contains_key(*name)).cloned().collect();
    let batches = match open_data(files, name).await? {
        Readable::Local(file) => reader(file, name, &held, rows, Arc::default())?,
        Readable::Remote(file) => {
            let failed = file.failed();
            reader(file, name, &held, rows, failed)?
        }
    };
    if held.len() == columns.len() {
        return Ok(batches);
    }
    let (columns, values) = (columns.to_vec(), Arc::clone(values));
    Ok(batches.map(|batches| -> Batches {
        Box::new(batches.map(move |batch| partition::share(&batch?, &columns, &values)))
    }))
}

/// Rows as they are read.
pub(super) type Batches = Box<dyn Iterator<Item = Result<arrow::record_batch::RecordBatch>> + Send>;

fn reader<T: parquet::file::reader::ChunkReader + 'static>(
    source: T,
    name: &str,
    columns: &[String],
    rows: Option<&[u32]>,
    failed: Arc<Failed>,
) -> Result<Option<Batches>> {
    use parquet::arrow::ProjectionMask;
    use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
    let name = name.to_owned();
    let damaged = |e: parquet::errors::ParquetError| unreadable(&name, e, &failed);
    let builder = ParquetRecordBatchReaderBuilder::try_new(source).map_err(damaged)?;
    let roots = builder.parquet_schema().root_schema().get_fields();
    let mut wanted = Vec::with_capacity(columns.len());
    for column in columns {
        let Some(at) = roots.iter().position(|f| f.name() == column) else { return Ok(None) };
        wanted.push(at);
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let most = rows.map_or(usize::MAX, <[u32]>::len);
    let batch_rows = rows_at_once(builder.metadata()).min(most).clamp(1, 65_536);
    let mut builder = builder.with_projection(mask).with_batch_size(batch_rows);
    if let Some(rows) = rows {
        let mut selectors = Vec::with_capacity(rows.len() * 2);
        let mut at = 0usize;
        for &row in rows {
            selectors.push(RowSelector::skip(row as usize - at));
            selectors.push(RowSelector::select(1));
            at = row as usize + 1;
        }
        builder = builder.with_row_selection(RowSelection::from(selectors));
    }
    let reader = builder.build().map_err(damaged)?;
    Ok(Some(Box::new(reader.map(move |batch| batch.map_err(|e| unreadable(&name, e, &failed))))))
}

/// A data file that is damaged, or a storage that did not answer.
fn unreadable(name: &str, e: impl std::error::Error + Send + Sync + 'static, failed: &Failed) -> Error {
    let code = failed.get().copied().unwrap_or_else(|| code_of_failure(&e));
    Error::new(code, format!("cannot read the data file \"{name}\"")).with_source(e)
}

/// So many rows of a file take no more than [`BATCH_BYTES`], about.
fn rows_at_once(meta: &parquet::file::metadata::ParquetMetaData) -> usize {
    let bytes: i64 = meta.row_groups().iter().map(|group| group.total_byte_size()).sum();
    let each = bytes / meta.file_metadata().num_rows().max(1);
    BATCH_BYTES / usize::try_from(each).unwrap_or(1).max(1)
}

/// Reads the vectors that have not been read yet.
///
/// # Errors
/// `TG020`, `TG001`.
pub(super) async fn read_vectors<'a>(
    files: &TableFiles,
    data: impl Iterator<Item = &'a mut DataFile>,
) -> Result<()> {
    let mut cache: Option<(String, Bytes)> = None;
    for file in data {
        let (None, Some(descriptor)) = (&file.deleted, &file.add.deletion_vector) else { continue };
        let deleted = match descriptor.location()? {
            Location::Inline(bytes) => descriptor.decode(&bytes)?,
            Location::Relative(name) => {
                if cache.as_ref().is_none_or(|(cached, _)| *cached != name) {
                    let bytes = files.get(&name).await?.ok_or_else(|| {
                        Error::new(codes::TG020, format!("the deletion vector file \"{name}\" is missing"))
                    })?;
                    cache = Some((name, bytes));
                }
                let bytes = cache.as_ref().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
                descriptor.decode(&bytes)?
            }
        };
        file.deleted = Some(deleted);
    }
    Ok(())
}

/// Paths stand URL-encoded in the log.
pub(super) fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/=!$&'()*+,;:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The name on storage of a path in the log.
pub(super) fn data_name(path: &str) -> String {
    percent_decode(path)
}

/// Refuses a name that leads out of its table: somebody else's log may hold any.
///
/// # Errors
/// `TG014`.
pub(super) fn check_within(name: &str) -> Result<()> {
    let leads_out = name.starts_with('/') || name.contains("://") || name.split('/').any(|part| part == "..");
    match leads_out {
        true => Err(Error::new(codes::TG014, "the log names a file outside of the table's directory")),
        false => Ok(()),
    }
}

fn percent_decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
            }
            (byte, _) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip() {
        for path in ["part-1.parquet", "day=2024-01-01/a b%.parquet", "日本/x"] {
            assert_eq!(percent_decode(&percent_encode(path)), path);
        }
    }

    #[test]
    fn a_table_that_needs_more_is_refused() {
        let mut protocol = Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: vec!["deletionVectors".into()],
            writer_features: vec!["deletionVectors".into()],
        };
        let mut metadata = MetaData {
            id: "x".into(),
            name: None,
            description: None,
            format: Format { provider: "parquet".into(), options: BTreeMap::new() },
            schema_string: String::new(),
            partition_columns: vec![],
            configuration: BTreeMap::new(),
            created_time: None,
        };
        check_supported(&protocol, &metadata).unwrap();
        metadata
            .configuration
            .insert("delta.setTransactionRetentionDuration".into(), "interval 1 day".into());
        assert_eq!(check_supported(&protocol, &metadata).unwrap_err().code(), codes::TG014);
        metadata.configuration.clear();
        protocol.writer_features.push("rowTracking".into());
        assert_eq!(check_supported(&protocol, &metadata).unwrap_err().code(), codes::TG014);
    }
}
