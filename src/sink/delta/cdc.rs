//! The change data feed of a table that asks for one (`delta.enableChangeDataFeed`).
//!
//! A reader takes the changes of a version from the files that its `cdc` actions name; where there are none, what
//! was added are inserts and what was removed are deletes, and what is marked `dataChange=false` is nothing. So a unit
//! that only brings rows needs no file of changes, and compaction none ever. A unit that replaces or removes rows
//! names all its changes: old images are read from where the rows were, new ones from the unit's own files.
//! A row that moves to another key is deleted and inserted. Reading is what it costs: the old rows, and the
//! new ones once more; a TRUNCATE reads the table.
//!
//! Files that a commit was refused with are named by no version, and vacuum's business.

use super::commit::Core;
use super::compact::conform;
use super::encode::FinishedFile;
use super::keys::Key;
use super::log::{Action, Cdc, MetaData};
use super::table::{DataFile, Stored, columns_of, percent_encode, read_columns};
use super::unit::Unit;
use super::writers::{Layout, Open, Writers, close_all};
use crate::error::{Error, Result, codes};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The property that asks for it.
pub(super) const PROPERTY: &str = "delta.enableChangeDataFeed";

/// Where its files are.
const FOLDER: &str = "_change_data/";

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Insert,
    Before,
    After,
    Delete,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Insert => "insert",
            Kind::Before => "update_preimage",
            Kind::After => "update_postimage",
            Kind::Delete => "delete",
        }
    }
}

/// Whether a table asks for it.
pub(super) fn is_wanted(configuration: &BTreeMap<String, String>) -> bool {
    configuration.get(PROPERTY).is_some_and(|value| value == "true")
}

/// The metadata that the next commit has.
fn next(core: &Core) -> &MetaData {
    core.pending.as_ref().map_or(&core.metadata, |pending| &pending.metadata)
}

/// Whether the next commit of the table has changes to tell.
pub(super) fn is_on(core: &Core) -> bool {
    is_wanted(&next(core).configuration)
}

/// What a unit changes, to be told.
pub(super) struct Net {
    truncated: bool,
    /// Of the table's files, by number and row.
    replaced: BTreeMap<u32, BTreeMap<u32, Kind>>,
    /// The unit's files, their rows that do not stand, and those that replace one of the table.
    files: Vec<(Stored, RoaringBitmap, RoaringBitmap)>,
}

impl Net {
    /// Of a unit whose files are whole. `None`: nobody wants to know, or it is plain to see.
    ///
    /// # Errors
    /// `RT001`.
    pub(super) fn of<K: Key>(core: &Core, unit: &Unit<K>) -> Result<Option<Self>> {
        if !is_on(core) {
            return Ok(None);
        }
        let replaced = unit.replaced();
        if !unit.truncated && replaced.is_empty() && unit.files.iter().all(|file| file.masked.is_empty()) {
            return Ok(None);
        }
        let mut files = Vec::with_capacity(unit.files.len());
        for (file, updated) in unit.files.iter().zip(unit.updated()) {
            let Some(finished) = &file.finished else {
                return Err(Error::new(codes::RT001, "a unit's file is still open"));
            };
            files.push((finished.stored(), file.masked.clone(), updated));
        }
        Ok(Some(Net { truncated: unit.truncated, replaced, files }))
    }

    /// Writes it.
    ///
    /// # Errors
    /// `TG020`, `TG001` to `TG003` from storage; `RT001`.
    pub(super) async fn tell(self, core: &Core) -> Result<Vec<Action>> {
        let mut feed = Feed::new(core);
        if self.truncated {
            feed.all_gone().await?;
        }
        for (number, rows) in self.replaced {
            let file = core.slots.get(number).ok_or_else(|| {
                Error::new(codes::RT001, "the index points at a file that is not in the table")
            })?;
            let numbers: Vec<u32> = rows.keys().copied().collect();
            let mut kinds = rows.into_values();
            feed.copy(&file.stored(), Some(&numbers), |_| kinds.next()).await?;
        }
        for (stored, masked, updated) in self.files {
            let kind = |row: u32| match (masked.contains(row), updated.contains(row)) {
                (true, _) => None,
                (false, true) => Some(Kind::After),
                (false, false) => Some(Kind::Insert),
            };
            feed.copy(&stored, None, kind).await?;
        }
        feed.finish().await
    }
}

/// The changes of a new copy. Where no file has a deletion vector they are plain to see.
///
/// # Errors
/// As [`Net::tell`].
pub(super) async fn of_copy(core: &Core, finished: &[FinishedFile]) -> Result<Vec<Action>> {
    let was_on = is_wanted(&core.metadata.configuration);
    if !was_on || core.slots.iter().all(|(_, file)| file.add.deletion_vector.is_none()) {
        return Ok(Vec::new());
    }
    let mut feed = Feed::new(core);
    feed.all_gone().await?;
    for file in finished {
        feed.copy(&file.stored(), None, |_| Some(Kind::Insert)).await?;
    }
    feed.finish().await
}

/// The files of changes of one commit.
struct Feed<'a> {
    core: &'a Core,
    writers: Writers,
    finished: Vec<FinishedFile>,
}

impl<'a> Feed<'a> {
    fn new(core: &'a Core) -> Self {
        // A new copy may be partitioned in another way than what it replaces.
        let by = core.parted_by();
        let layout = Layout { folder: FOLDER, stem: "cdc", ..Layout::data(&by, Vec::new()) };
        Feed { core, writers: Writers::new(layout), finished: Vec::new() }
    }

    /// Every row that stands is deleted.
    async fn all_gone(&mut self) -> Result<()> {
        let core = self.core;
        for (_, file) in core.live_files() {
            let gone = deleted(file)?;
            self.copy(&file.stored(), None, |row| (!gone.contains(row)).then_some(Kind::Delete)).await?;
        }
        Ok(())
    }

    /// Rows of a file, of which `kind` says what became of them; it is asked for each row in turn.
    async fn copy(
        &mut self,
        file: &Stored,
        rows: Option<&[u32]>,
        mut kind: impl FnMut(u32) -> Option<Kind>,
    ) -> Result<()> {
        let found = columns_of(&self.core.files, file).await?;
        let known = &self.core.stored.arrow;
        let by = self.core.parted_by();
        let was_shared = |name: &String| file.values.contains_key(name) && !by.contains(name);
        let fields: Vec<FieldRef> = found
            .fields()
            .iter()
            .map(|field| match known.field_with_name(field.name()) {
                Ok(known) if was_shared(field.name()) || follows(field.data_type(), known.data_type()) => {
                    Arc::new(known.clone())
                }
                Ok(_) | Err(_) => Arc::clone(field),
            })
            .collect();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let plain = Arc::new(Schema::new(fields.clone()));
        let change: FieldRef = Arc::new(Field::new("_change_type", DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.into_iter().chain([change]).collect::<Vec<_>>()));
        let mut batches = read_columns(&self.core.files, file, &names, rows).await?;
        let mut row = 0;
        while let Some(batch) = tokio::task::block_in_place(|| batches.next()) {
            let batch = conform(&batch?, &plain)?;
            let kinds: Vec<Option<&str>> =
                (row..).take(batch.num_rows()).map(|row| kind(row).map(Kind::name)).collect();
            row += u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            let told = arrow::array::BooleanArray::from_iter(kinds.iter().map(|kind| Some(kind.is_some())));
            let columns = batch.columns().iter().cloned();
            let kinds: ArrayRef = Arc::new(StringArray::from(kinds));
            let changes = RecordBatch::try_new(Arc::clone(&schema), columns.chain([kinds]).collect())
                .and_then(|changes| filter_record_batch(&changes, &told))
                .map_err(broken)?;
            if changes.num_rows() > 0 {
                tokio::task::block_in_place(|| self.writers.write(&self.core.files, &changes))?;
                let full = self.writers.full();
                self.close(full).await?;
            }
        }
        Ok(())
    }

    async fn close(&mut self, files: Vec<Open>) -> Result<()> {
        self.finished.extend(close_all(files).await?.into_iter().map(|(_, file)| file));
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<Action>> {
        let all = self.writers.all();
        self.close(all).await?;
        let action = |file: &FinishedFile| {
            Action::Cdc(Cdc {
                path: percent_encode(&file.path),
                partition_values: file.values.as_ref().clone(),
                size: i64::try_from(file.size).unwrap_or(i64::MAX),
                data_change: false,
            })
        };
        Ok(self.finished.iter().map(action).collect())
    }
}

/// Whether every value of `from` is a value of `to`: the same kind, however it is laid out, or a wider one. What the
/// rows of a partition share comes as texts.
fn follows(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Decimal128, Dictionary, Float32, Float64, Int16, Int32, Int64, LargeBinary,
        LargeUtf8, Timestamp, Utf8, Utf8View,
    };
    match (from, to) {
        (Dictionary(_, from), to) => follows(from, to),
        (LargeUtf8 | Utf8View, Utf8) | (LargeBinary | BinaryView, Binary) => true,
        (Int16, Int32 | Int64) | (Int32, Int64) | (Float32, Float64) => true,
        (Decimal128(p1, s1), Decimal128(p2, s2)) => {
            s2 >= s1 && i16::from(*p2) - i16::from(*s2) >= i16::from(*p1) - i16::from(*s1)
        }
        (Timestamp(_, from), Timestamp(_, to)) => from.is_some() == to.is_some(),
        (from, to) => from == to,
    }
}

fn deleted(file: &DataFile) -> Result<&RoaringBitmap> {
    file.deleted.as_ref().ok_or_else(|| Error::new(codes::RT001, "a deletion vector was not read"))
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "cannot build rows of a change data feed").with_source(e)
}
