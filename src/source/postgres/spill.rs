//! Slices of large transactions on disk, as Arrow IPC.
//!
//! One file for each streamed transaction that does not fit into memory ([`super::streamed`]). A slice is
//! written whole and read back whole, at its offset; what says where it is stays in memory, so that a file is
//! worth nothing without the process that wrote it. A slice is up to three IPC streams, each with its own
//! schema: the new row images with op, ordinal and index of the old image; the old images, where there are
//! any; the masks of unchanged values, where there are any. Its checksum is compared when it is read.
//!
//! # What a death leaves behind
//!
//! | killed | left | why that is right |
//! |---|---|---|
//! | between making a file and unlinking it | an empty file | the next process that spills here removes it |
//! | at any later moment | nothing: the file has no name, the kernel frees it | the transaction has not been acknowledged, the server sends it again |
//!
//! So deleting the directory loses nothing, at any moment. Files are readable by their owner only.

use crate::error::{Error, Result, codes};
use crate::event::{Before, ChangeBatch, Op};
use crate::position::Lsn;
use crate::schema::TableSchema;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};
use xxhash_rust::xxh3::xxh3_64;

/// How a file is called in the moment in which it has a name.
const PREFIX: &str = "strandline-";
const SUFFIX: &str = ".arrow";

/// How much of transactions that have not committed is kept in memory, and where the rest goes.
#[derive(Clone, Debug)]
pub struct Spill {
    /// Bytes of memory.
    pub memory: usize,
    /// Bytes of one slice: what is written and read at once.
    pub slice: usize,
    /// The directory. Made when it is first needed.
    pub dir: PathBuf,
}

impl Default for Spill {
    fn default() -> Self {
        Spill { memory: 64 << 20, slice: 8 << 20, dir: std::env::temp_dir().join("strandline") }
    }
}

/// The directory of spilled slices.
#[derive(Debug)]
pub(super) struct SpillDir {
    path: PathBuf,
    is_ready: bool,
}

impl SpillDir {
    /// Nothing is touched before the first file.
    pub(super) fn new(path: PathBuf) -> Self {
        SpillDir { path, is_ready: false }
    }

    /// A new file that nobody else can open.
    ///
    /// # Errors
    /// `RT003`.
    pub(super) fn file(&mut self) -> Result<SpillFile> {
        blocking(|| self.make()).map_err(|error| self.failed("cannot make a file in", error))
    }

    fn make(&mut self) -> io::Result<SpillFile> {
        if !self.is_ready {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            remove_leftovers(&self.path)?;
            self.is_ready = true;
        }
        let name = format!("{PREFIX}{}{SUFFIX}", uuid::Uuid::new_v4().simple());
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        gone(std::fs::remove_file(&path))?;
        Ok(SpillFile { file, dir: self.path.clone(), end: 0 })
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        failed(what, &self.path, error)
    }
}

/// Files of a process that died before it could unlink them.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if is_ours {
            gone(std::fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// That another process removed it first is as good.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn failed(what: &str, dir: &Path, error: io::Error) -> Error {
    Error::new(codes::RT003, format!("{what} the spill directory \"{}\"", dir.display()))
        .with_source(error)
        .with_try("give limits.spill_dir a directory with room for the largest transaction, or raise limits.memory; nothing is lost")
}

/// Work on files must not hold up the tasks of a shared thread.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// Where a slice is, and what must be known of it without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slice {
    offset: u64,
    /// Bytes of rows, old images and masks.
    lengths: [usize; 3],
    checksum: u64,
    wire_bytes: usize,
    /// Ordinals of its first and last row.
    pub(super) ordinals: (u64, u64),
}

impl Slice {
    /// Bytes on disk.
    pub(super) fn bytes(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// The slices of one transaction. Dropping it frees the disk.
#[derive(Debug)]
pub(super) struct SpillFile {
    file: File,
    dir: PathBuf,
    end: u64,
}

impl SpillFile {
    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes a batch of a streamed transaction behind what is there. After an error the file is as before.
    ///
    /// # Errors
    /// `RT003`; `RT001` for a batch that is none of a streamed transaction.
    pub(super) fn append(&mut self, batch: &ChangeBatch) -> Result<Slice> {
        let (Some(&first), Some(&last)) = (batch.ordinals.first(), batch.ordinals.last()) else {
            return Err(Error::new(codes::RT001, "a batch without ordinals is put on disk"));
        };
        blocking(|| {
            let mut bytes = Vec::new();
            let lengths = encode(batch, &mut bytes).map_err(|e| broken("cannot be written", e))?;
            self.file
                .write_all_at(&bytes, self.end)
                .map_err(|error| failed("cannot write into", &self.dir, error))?;
            let offset = self.end;
            self.end += bytes.len() as u64;
            let checksum = xxh3_64(&bytes);
            Ok(Slice { offset, lengths, checksum, wire_bytes: batch.wire_bytes, ordinals: (first, last) })
        })
    }

    /// Reads a slice of this file.
    ///
    /// # Errors
    /// `RT003` when it cannot be read or is not what was written.
    pub(super) fn read(&self, slice: &Slice, schema: &Arc<TableSchema>) -> Result<ChangeBatch> {
        blocking(|| {
            let mut bytes = vec![0; slice.bytes()];
            self.file
                .read_exact_at(&mut bytes, slice.offset)
                .map_err(|error| failed("cannot read from", &self.dir, error))?;
            if xxh3_64(&bytes) != slice.checksum {
                let error = io::Error::new(io::ErrorKind::InvalidData, "it is not what was written");
                return Err(failed("cannot read from", &self.dir, error));
            }
            decode(&bytes, slice, schema).map_err(|e| broken("cannot be read back", e))
        })
    }
}

fn broken(what: &str, error: ArrowError) -> Error {
    Error::new(codes::RT001, format!("a slice of a large transaction {what}")).with_source(error)
}

/// Writes the up to three streams, and says how long each is.
fn encode(batch: &ChangeBatch, out: &mut Vec<u8>) -> Result<[usize; 3], ArrowError> {
    let mut lengths = [0; 3];
    lengths[0] = write(out, &rows_of(batch)?)?;
    if let Some(before) = &batch.before {
        lengths[1] = write(out, &before.rows)?;
    }
    if batch.unchanged.iter().any(Option::is_some) {
        lengths[2] = write(out, &masks_of(batch)?)?;
    }
    Ok(lengths)
}

fn write(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<usize, ArrowError> {
    let start = out.len();
    let mut writer = StreamWriter::try_new(&mut *out, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(out.len() - start)
}

/// The new images, with op, ordinal and index of the old image behind the table's columns.
fn rows_of(batch: &ChangeBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Field> = batch.schema.arrow.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("op", DataType::UInt8, false));
    fields.push(Field::new("ordinal", DataType::UInt64, false));
    fields.push(Field::new("lsn", DataType::UInt64, false));
    fields.push(Field::new("before", DataType::UInt32, true));
    let mut columns = batch.after.columns().to_vec();
    columns.push(Arc::new(UInt8Array::from_iter_values(batch.ops.iter().map(|op| number(*op)))));
    columns.push(Arc::new(UInt64Array::from(batch.ordinals.clone())));
    columns.push(Arc::new(UInt64Array::from_iter_values(batch.lsns.iter().map(|lsn| lsn.raw()))));
    columns.push(match &batch.before {
        Some(before) => Arc::new(UInt32Array::from(before.index.clone())) as ArrayRef,
        None => Arc::new(UInt32Array::new_null(batch.len())),
    });
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn masks_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("column", DataType::UInt32, false),
        Field::new("bits", DataType::Binary, false),
    ]))
}

/// One row for each column with unchanged values.
fn masks_of(batch: &ChangeBatch) -> Result<RecordBatch, ArrowError> {
    let masks = (0u32..).zip(&batch.unchanged).filter_map(|(column, mask)| Some((column, mask.as_ref()?)));
    let (columns, bits): (Vec<u32>, Vec<Buffer>) = masks.map(|(c, mask)| (c, mask.sliced())).unzip();
    let bits = BinaryArray::from_iter_values(bits.iter().map(Buffer::as_slice));
    RecordBatch::try_new(masks_schema(), vec![Arc::new(UInt32Array::from(columns)), Arc::new(bits)])
}

fn decode(bytes: &[u8], slice: &Slice, schema: &Arc<TableSchema>) -> Result<ChangeBatch, ArrowError> {
    let [rows, before, masks] = slice.lengths;
    let (rows, rest) = bytes.split_at(rows);
    let (before, masks) = rest.split_at(before.min(rest.len().saturating_sub(masks)));
    let rows = read_one(rows)?;
    let width = schema.columns.len();
    let [op, ordinal, lsn, index] = rows.columns().get(width..).unwrap_or_default() else {
        return Err(ArrowError::IpcError("a slice of another table".into()));
    };
    let ops = op.as_primitive::<UInt8Type>().values().iter().map(|&n| letter(n)).collect::<Result<_, _>>()?;
    let before = match before {
        [] => None,
        bytes => {
            let rows = as_images(&schema.arrow, read_one(bytes)?.columns(), None)?;
            Some(Before { rows, index: index.as_primitive::<UInt32Type>().values().to_vec() })
        }
    };
    let mut unchanged = vec![None; width];
    if !masks.is_empty() {
        let masks = read_one(masks)?;
        let (columns, bits) =
            (masks.column(0).as_primitive::<UInt32Type>(), masks.column(1).as_binary::<i32>());
        for (column, bits) in columns.values().iter().zip(bits.iter().flatten()) {
            if let Some(mask) = unchanged.get_mut(*column as usize) {
                *mask = Some(BooleanBuffer::new(Buffer::from_slice_ref(bits), 0, rows.num_rows()));
            }
        }
    }
    Ok(ChangeBatch {
        schema: Arc::clone(schema),
        ops,
        runs: Vec::new(),
        ordinals: ordinal.as_primitive::<UInt64Type>().values().to_vec(),
        lsns: lsn.as_primitive::<UInt64Type>().values().iter().map(|&raw| Lsn::new(raw)).collect(),
        origins: Vec::new(),
        after: as_images(&schema.arrow, &rows.columns()[..width], Some(rows.num_rows()))?,
        before,
        unchanged,
        wire_bytes: slice.wire_bytes,
    })
}

fn as_images(
    schema: &SchemaRef,
    columns: &[ArrayRef],
    rows: Option<usize>,
) -> Result<RecordBatch, ArrowError> {
    let rows = rows.or_else(|| columns.first().map(|column| column.len()));
    let options = RecordBatchOptions::new().with_row_count(rows);
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.to_vec(), &options)
}

fn read_one(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    reader.next().unwrap_or_else(|| Err(ArrowError::IpcError("an empty slice".into())))
}

fn number(op: Op) -> u8 {
    match op {
        Op::Read => 0,
        Op::Create => 1,
        Op::Update => 2,
        Op::Delete => 3,
        Op::Truncate => 4,
    }
}

fn letter(number: u8) -> Result<Op, ArrowError> {
    Ok(match number {
        0 => Op::Read,
        1 => Op::Create,
        2 => Op::Update,
        3 => Op::Delete,
        4 => Op::Truncate,
        other => return Err(ArrowError::IpcError(format!("an operation {other}"))),
    })
}

/// The rows of a batch for which `keep` is set.
///
/// # Errors
/// `RT001`.
pub(super) fn filtered(batch: ChangeBatch, keep: &BooleanArray) -> Result<ChangeBatch> {
    let failed = |e: ArrowError| Error::new(codes::RT001, "rows cannot be taken out").with_source(e);
    let kept = |row: usize| keep.value(row);
    let rows = keep.true_count();
    let all = batch.len();
    let mut unchanged = Vec::with_capacity(batch.unchanged.len());
    for mask in &batch.unchanged {
        let mask = match mask {
            None => None,
            Some(mask) => {
                let mask = BooleanArray::new(mask.clone(), None);
                let mask = arrow::compute::filter(&mask, keep).map_err(failed)?;
                let mask = mask.as_boolean().values().clone();
                (mask.count_set_bits() > 0).then_some(mask)
            }
        };
        unchanged.push(mask);
    }
    Ok(ChangeBatch {
        ops: pick(&batch.ops, kept),
        ordinals: pick(&batch.ordinals, kept),
        lsns: pick(&batch.lsns, kept),
        origins: Vec::new(),
        after: arrow::compute::filter_record_batch(&batch.after, keep).map_err(failed)?,
        before: batch.before.map(|before| Before { index: pick(&before.index, kept), rows: before.rows }),
        unchanged,
        wire_bytes: batch.wire_bytes * rows / all.max(1),
        runs: batch.runs,
        schema: batch.schema,
    })
}

fn pick<T: Copy>(all: &[T], kept: impl Fn(usize) -> bool) -> Vec<T> {
    all.iter().enumerate().filter(|(row, _)| kept(*row)).map(|(_, item)| *item).collect()
}

#[cfg(test)]
#[path = "spill_tests.rs"]
mod tests;
