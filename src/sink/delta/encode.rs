//! Arrow to Parquet files, with exact Delta statistics.
//!
//! zstd level 1; a dictionary where a sample says that it pays; statistics of the key and the first
//! columns only. The statistics are ours, read from what the Parquet writer itself counted: delta-rs'
//! decimal statistics go through `f64` and hide rows. A bound that cannot be given exactly is left out,
//! or widened and said to be wide (`tightBounds: false`), never guessed.

use super::partition::Values;
use super::storage::{NewFile, TableFiles};
use super::table::Stored;
use crate::error::{Error, Result, codes};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Columns after the key that get statistics.
const STATS_COLUMNS: usize = 32;
/// Rows of a row group: bounds the writer's memory.
const ROW_GROUP_ROWS: usize = 131_072;
/// A longer text gets no bound.
const LONGEST_BOUND: usize = 64;
const SAMPLE_ROWS: usize = 1024;
/// A row group is closed when its encoded pages take so much, however few rows it has.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// A finished data file, not yet in any commit.
#[derive(Clone, Debug)]
pub(super) struct FinishedFile {
    /// Name below the table.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u32,
    /// Delta statistics.
    pub stats: String,
    /// What its rows share.
    pub values: Arc<Values>,
}

impl FinishedFile {
    /// To be read.
    pub(super) fn stored(&self) -> Stored {
        Stored { name: self.path.clone(), values: Arc::clone(&self.values) }
    }
}

/// The file under an [`ArrowWriter`], reachable after the writer is gone.
#[derive(Clone)]
struct SharedFile(Arc<Mutex<Option<NewFile>>>);

impl SharedFile {
    fn with<T>(&self, f: impl FnOnce(&mut NewFile) -> io::Result<T>) -> io::Result<T> {
        let mut file = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        file.as_mut().map_or_else(|| Err(io::Error::other("the file is closed")), f)
    }

    fn take(&self) -> Option<NewFile> {
        self.0.lock().ok()?.take()
    }
}

impl Write for SharedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one Parquet file.
pub(super) struct FileWriter {
    writer: ArrowWriter<SharedFile>,
    file: SharedFile,
    schema: SchemaRef,
    stats_columns: Vec<usize>,
    has_nan: Vec<bool>,
    rows: u32,
    values: Arc<Values>,
}

impl FileWriter {
    /// Starts a file. `first` is the batch that will be written first: a sample of it decides on
    /// dictionaries. `key` are the key columns.
    ///
    /// # Errors
    /// `TG001` to `TG003` when the file cannot be made.
    pub(super) fn create(
        files: &TableFiles,
        schema: SchemaRef,
        key: &[usize],
        first: &RecordBatch,
    ) -> Result<Self> {
        let name = format!("part-{}.parquet", uuid::Uuid::new_v4().hyphenated());
        Self::create_as(files, name, &Arc::default(), schema, key, first)
    }

    /// The same under a name, for rows that share values which are not written.
    ///
    /// # Errors
    /// As [`FileWriter::create`].
    pub(super) fn create_as(
        files: &TableFiles,
        name: String,
        values: &Arc<Values>,
        schema: SchemaRef,
        key: &[usize],
        first: &RecordBatch,
    ) -> Result<Self> {
        let file = SharedFile(Arc::new(Mutex::new(Some(files.create(&name)?))));
        let mut stats_columns: Vec<usize> = key.to_vec();
        stats_columns.extend((0..schema.fields().len().min(STATS_COLUMNS)).filter(|i| !key.contains(i)));
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_statistics_truncate_length(None)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_write_batch_size(8192)
            .set_created_by(concat!("strandline ", env!("CARGO_PKG_VERSION")).into());
        for (i, field) in schema.fields().iter().enumerate() {
            let path = ColumnPath::new(vec![field.name().clone()]);
            if stats_columns.contains(&i) {
                properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk);
            }
            if first.columns().get(i).is_some_and(repeats) {
                properties = properties.set_column_dictionary_enabled(path, true);
            }
        }
        let writer = ArrowWriter::try_new(file.clone(), Arc::clone(&schema), Some(properties.build()))
            .map_err(encode_error)?;
        let has_nan = vec![false; schema.fields().len()];
        let values = Arc::clone(values);
        Ok(FileWriter { writer, file, schema, stats_columns, has_nan, rows: 0, values })
    }

    /// Whether these rows have the file's columns.
    pub(super) fn takes(&self, rows: &RecordBatch) -> bool {
        Arc::ptr_eq(&self.schema, rows.schema_ref()) || self.schema == rows.schema()
    }

    /// Adds rows.
    ///
    /// # Errors
    /// `TG001` to `TG003` from the file; `RT001` from the encoder.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for (i, column) in batch.columns().iter().enumerate() {
            self.has_nan[i] = self.has_nan[i] || holds_nan(column);
        }
        self.writer.write(batch).map_err(|e| self.failed(e))?;
        self.rows += u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Bytes that the encoder holds back, about.
    pub(super) fn held(&self) -> usize {
        self.writer.in_progress_size()
    }

    /// Ends the row group: what the encoder held back goes to the file.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub(super) fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|e| self.failed(e))
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u32 {
        self.rows
    }

    /// Bytes that the file will have, about.
    pub(super) fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Closes the file; it is synced when this returns.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub(super) async fn finish(self) -> Result<FinishedFile> {
        let (finished, file) = self.finish_apart()?;
        file.finish().await?;
        Ok(finished)
    }

    /// Closes the file. It is whole once the second part is finished, too: no commit may name it before.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub(super) fn finish_apart(mut self) -> Result<(FinishedFile, NewFile)> {
        let metadata = self.writer.finish().map_err(|e| self.failed(e))?;
        let FileWriter { writer, file, schema, stats_columns, has_nan, rows, values } = self;
        // Its buffer was flushed by `finish`; what is left holds only the handle.
        drop(writer);
        let file = file.take().ok_or_else(|| Error::new(codes::RT001, "a data file was closed twice"))?;
        let finished = FinishedFile {
            path: file.name().to_owned(),
            size: file.written(),
            rows,
            stats: statistics(&metadata, &schema, &stats_columns, &has_nan, rows),
            values,
        };
        Ok((finished, file))
    }

    fn failed(&self, e: parquet::errors::ParquetError) -> Error {
        // The encoder wraps the file's own error; find it again for its code.
        if let parquet::errors::ParquetError::External(inner) = &e
            && let Some(io) = inner.downcast_ref::<io::Error>()
            && let Ok(guard) = self.file.0.lock()
            && let Some(file) = guard.as_ref()
        {
            return file.error(io);
        }
        encode_error(e)
    }
}

fn encode_error(e: parquet::errors::ParquetError) -> Error {
    Error::new(codes::RT001, "cannot encode a Parquet file").with_source(e)
}

/// Only the rows whose bit is set; the batch itself when all are.
///
/// # Errors
/// `RT001`.
pub(super) fn keep(batch: &RecordBatch, live: &[bool]) -> Result<RecordBatch> {
    if live.iter().all(|&l| l) {
        return Ok(batch.clone());
    }
    filter_record_batch(batch, &arrow::array::BooleanArray::from(live.to_vec()))
        .map_err(|e| Error::new(codes::RT001, "cannot select rows").with_source(e))
}

/// Whether a dictionary pays: a sample holds each of its values four times or more.
fn repeats(column: &ArrayRef) -> bool {
    let rows = column.len().min(SAMPLE_ROWS);
    if rows < 32 || matches!(column.data_type(), DataType::Boolean) {
        return false;
    }
    let sample = column.slice(0, rows);
    let distinct = match sample.data_type() {
        DataType::Utf8 => sample.as_string::<i32>().iter().collect::<HashSet<_>>().len(),
        DataType::Binary => sample.as_binary::<i32>().iter().collect::<HashSet<_>>().len(),
        _ => {
            let data = sample.to_data();
            let Some(width) = data.data_type().primitive_width() else { return false };
            let Some(values) = data.buffers().first() else { return false };
            let from = data.offset() * width;
            let bytes = values.as_slice().get(from..from + rows * width).unwrap_or_default();
            bytes.chunks_exact(width).collect::<HashSet<_>>().len()
        }
    };
    distinct * 4 <= rows
}

fn holds_nan(column: &ArrayRef) -> bool {
    match column.data_type() {
        DataType::Float32 => column.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
        _ => false,
    }
}

/// Delta's per-file statistics document.
fn statistics(
    meta: &ParquetMetaData,
    schema: &SchemaRef,
    columns: &[usize],
    has_nan: &[bool],
    rows: u32,
) -> String {
    let (mut mins, mut maxs, mut nulls) = (Map::new(), Map::new(), Map::new());
    let mut tight = true;
    for &i in columns {
        let field = schema.field(i);
        let chunks: Vec<&Statistics> =
            meta.row_groups().iter().filter_map(|group| group.column(i).statistics()).collect();
        if chunks.len() != meta.num_row_groups() {
            continue;
        }
        if let Some(count) = chunks.iter().map(|s| s.null_count_opt()).sum::<Option<u64>>() {
            nulls.insert(field.name().clone(), json!(count));
        }
        if has_nan[i] {
            continue; // NaN stands above every bound for some readers and outside for others
        }
        if let Some((min, max, exact)) = bounds(&chunks, field.data_type()) {
            mins.insert(field.name().clone(), min);
            maxs.insert(field.name().clone(), max);
            tight &= exact;
        }
    }
    json!({
        "numRecords": rows,
        "minValues": mins,
        "maxValues": maxs,
        "nullCount": nulls,
        "tightBounds": tight,
    })
    .to_string()
}

/// Smallest, largest, and whether both are values that occur.
fn bounds(chunks: &[&Statistics], kind: &DataType) -> Option<(Value, Value, bool)> {
    // A chunk of nulls only has no bounds and does not count.
    let chunks: Vec<&&Statistics> = chunks.iter().filter(|s| s.min_bytes_opt().is_some()).collect();
    if chunks.is_empty() || chunks.iter().any(|s| !s.min_is_exact() || !s.max_is_exact()) {
        return None;
    }
    match kind {
        DataType::Boolean => None,
        DataType::Int16 | DataType::Int32 => {
            let (min, max) = fold(&chunks, |s| match s {
                Statistics::Int32(v) => Some((*v.min_opt()?, *v.max_opt()?)),
                _ => None,
            })?;
            Some((json!(min), json!(max), true))
        }
        DataType::Int64 => {
            let (min, max) = fold(&chunks, int64)?;
            Some((json!(min), json!(max), true))
        }
        DataType::Date32 => {
            let (min, max) = fold(&chunks, |s| match s {
                Statistics::Int32(v) => Some((*v.min_opt()?, *v.max_opt()?)),
                _ => None,
            })?;
            Some((json!(date_text(min)?), json!(date_text(max)?), true))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let (min, max) = fold(&chunks, int64)?;
            // Readers expect milliseconds: widen to whole ones, and say so.
            let (low, high) =
                (min.div_euclid(1000), max.div_euclid(1000) + i64::from(max.rem_euclid(1000) != 0));
            let exact = min.rem_euclid(1000) == 0 && max.rem_euclid(1000) == 0;
            Some((timestamp_text(low, zone.is_some())?, timestamp_text(high, zone.is_some())?, exact))
        }
        DataType::Float64 => {
            let (min, max) = fold(&chunks, |s| match s {
                Statistics::Double(v) => Some((*v.min_opt()?, *v.max_opt()?)),
                _ => None,
            })?;
            (min.is_finite() && max.is_finite()).then(|| (json!(min), json!(max), true))
        }
        DataType::Float32 => None, // its shortest text is not its value for a reader that takes doubles
        DataType::Decimal128(precision, scale) if *precision <= 15 => decimal_bounds(&chunks, *scale),
        DataType::Utf8 => {
            let (min, max) = fold(&chunks, |s| match s {
                Statistics::ByteArray(v) => {
                    Some((v.min_opt()?.data().to_vec(), v.max_opt()?.data().to_vec()))
                }
                _ => None,
            })?;
            if min.len() > LONGEST_BOUND || max.len() > LONGEST_BOUND {
                return None;
            }
            Some((json!(String::from_utf8(min).ok()?), json!(String::from_utf8(max).ok()?), true))
        }
        _ => None,
    }
}

fn int64(s: &Statistics) -> Option<(i64, i64)> {
    match s {
        Statistics::Int64(v) => Some((*v.min_opt()?, *v.max_opt()?)),
        _ => None,
    }
}

/// Decimals of up to 15 digits: a reader that goes through doubles still sees the exact value.
fn decimal_bounds(chunks: &[&&Statistics], scale: i8) -> Option<(Value, Value, bool)> {
    let (min, max) = fold(chunks, |s| match s {
        Statistics::Int32(v) => Some((i64::from(*v.min_opt()?), i64::from(*v.max_opt()?))),
        other => int64(other),
    })?;
    let number = |unscaled: i64| -> Option<Value> {
        serde_json::from_str(&decimal_text(unscaled, usize::try_from(scale).ok()?)).ok()
    };
    Some((number(min)?, number(max)?, true))
}

fn decimal_text(unscaled: i64, scale: usize) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

fn fold<T: PartialOrd>(
    chunks: &[&&Statistics],
    read: impl Fn(&Statistics) -> Option<(T, T)>,
) -> Option<(T, T)> {
    let mut bounds: Option<(T, T)> = None;
    for chunk in chunks {
        let (min, max) = read(chunk)?;
        bounds = Some(match bounds {
            None => (min, max),
            Some((low, high)) => (if min < low { min } else { low }, if max > high { max } else { high }),
        });
    }
    bounds
}

/// ISO date of the years that every reader can parse; none beyond.
pub(super) fn date_text(days: i32) -> Option<String> {
    let date = chrono::DateTime::from_timestamp(i64::from(days) * 86_400, 0)?.date_naive();
    in_common_range(&date).then(|| date.format("%Y-%m-%d").to_string())
}

fn timestamp_text(millis: i64, zoned: bool) -> Option<Value> {
    let at = chrono::DateTime::from_timestamp_millis(millis)?;
    let zone = if zoned { "Z" } else { "" };
    in_common_range(&at.date_naive()).then(|| json!(format!("{}{zone}", at.format("%Y-%m-%dT%H:%M:%S%.3f"))))
}

fn in_common_range(date: &chrono::NaiveDate) -> bool {
    use chrono::Datelike;
    (1..=9999).contains(&date.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::delta::StoreOptions;
    use crate::sink::delta::storage::Storage;
    use arrow::array::*;
    use arrow::datatypes::{Field, Schema};
    use proptest::prelude::*;

    async fn stats_of(columns: Vec<(&str, ArrayRef)>) -> Value {
        let dir = tempfile::tempdir().unwrap();
        let files = Storage::open(&format!("file://{}", dir.path().display()), &StoreOptions::default())
            .unwrap()
            .table(&["t"])
            .unwrap();
        files.create_dirs().unwrap();
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, array)| array).collect())
                .unwrap();
        let mut writer = FileWriter::create(&files, schema, &[0], &batch).unwrap();
        writer.write(&batch).unwrap();
        let finished = writer.finish().await.unwrap();
        assert_eq!(
            finished.size,
            std::fs::metadata(dir.path().join("t").join(&finished.path)).unwrap().len()
        );
        serde_json::from_str(&finished.stats).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn bounds_are_exact_or_wide_or_absent() {
        let stats = stats_of(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
            (
                "d",
                Arc::new(
                    Decimal128Array::from(vec![-5, 0, 123_456]).with_precision_and_scale(12, 2).unwrap(),
                ),
            ),
            (
                "big",
                Arc::new(
                    Decimal128Array::from(vec![1, 2, 10i128.pow(30)])
                        .with_precision_and_scale(38, 0)
                        .unwrap(),
                ),
            ),
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN, -2.0]))),
            ("g", Arc::new(Float64Array::from(vec![1.5, 0.5, -2.0]))),
            ("ts", Arc::new(TimestampMicrosecondArray::from(vec![1, 2_500, 3_001]))),
            ("s", Arc::new(StringArray::from(vec!["b", "a", "ü"]))),
            ("long", Arc::new(StringArray::from(vec!["x".repeat(65), "y".into(), "z".into()]))),
            ("far", Arc::new(Date32Array::from(vec![0, 1, 5_000_000]))),
        ])
        .await;
        assert_eq!(stats["numRecords"], 3);
        assert_eq!(stats["minValues"]["id"], json!(i64::MIN));
        assert_eq!(stats["maxValues"]["id"], json!(i64::MAX));
        assert_eq!(stats["nullCount"]["id"], 1);
        assert_eq!(stats["minValues"]["d"].to_string(), "-0.05");
        assert_eq!(stats["maxValues"]["d"].to_string(), "1234.56");
        assert_eq!(stats["minValues"].get("big"), None);
        assert_eq!(stats["minValues"].get("f"), None, "NaN: no bound is true for every reader");
        assert_eq!(stats["minValues"]["g"], json!(-2.0));
        assert_eq!(stats["minValues"]["ts"], "1970-01-01T00:00:00.000");
        assert_eq!(stats["maxValues"]["ts"], "1970-01-01T00:00:00.004", "widened upwards");
        assert_eq!(stats["tightBounds"], false);
        assert_eq!(stats["maxValues"]["s"], "ü");
        assert_eq!(stats["minValues"].get("long"), None);
        assert_eq!(stats["minValues"].get("far"), None, "beyond what readers parse");
        assert_eq!(stats["nullCount"]["far"], 0);
    }

    proptest! {
        #[test]
        fn decimal_text_is_the_value(unscaled in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0usize..=15) {
            let text = decimal_text(unscaled, scale);
            let digits: String = text.chars().filter(|c| *c != '.').collect();
            prop_assert_eq!(digits.parse::<i64>().unwrap(), unscaled);
            prop_assert_eq!(text.split_once('.').map_or(0, |(_, part)| part.len()), scale);
        }
    }

    #[test]
    fn a_dictionary_is_for_what_repeats() {
        let few: ArrayRef =
            Arc::new(StringArray::from((0..1000).map(|i| format!("{}", i % 7)).collect::<Vec<_>>()));
        let many: ArrayRef =
            Arc::new(StringArray::from((0..1000).map(|i| format!("{i}")).collect::<Vec<_>>()));
        let ints: ArrayRef = Arc::new(Int64Array::from((0..1000).map(|i| i % 3).collect::<Vec<_>>()));
        assert!(repeats(&few) && repeats(&ints) && !repeats(&many));
    }
}
