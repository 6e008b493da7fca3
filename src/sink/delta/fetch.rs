//! Unchanged column values, fetched from a row's previous version.
//!
//! Costs what is fetched: the index or the unit says where the old row is, and only those rows of only
//! those columns are read. A chain within a slice (the same row updated several times, its large value
//! never repeated) is followed to the version that holds the value.

use super::index::Place;
use super::storage::TableFiles;
use super::table::{Stored, read_held};
use crate::error::{Error, Result, codes};
use crate::event::ChangeBatch;
use arrow::array::{Array, ArrayRef};
use arrow::compute::{concat, interleave};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Where a row's previous version is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Origin {
    /// Earlier in the same slice.
    Slice(u32),
    /// In a file of the open unit.
    Unit(Place),
    /// In the table.
    Table(Place),
}

/// The end of the chain of a row's origins outside the slice, or its first version in the slice.
pub(super) fn root(mut origin: Origin, origins: &HashMap<u32, Origin>) -> Origin {
    while let Origin::Slice(row) = origin {
        match origins.get(&row) {
            Some(next) => origin = *next,
            None => break,
        }
    }
    origin
}

/// What is needed to fetch.
pub(super) struct Fetch<'a> {
    /// The table's directory.
    pub files: &'a TableFiles,
    /// The table's files.
    pub of_table: &'a (dyn Fn(u32) -> Option<Stored> + Sync),
    /// The unit's closed files.
    pub of_unit: &'a (dyn Fn(u32) -> Option<Stored> + Sync),
}

impl Fetch<'_> {
    /// `batch.after` with every unchanged value of a live row filled in.
    ///
    /// # Errors
    /// `TG020`, `TG001`; `RT001` when a file of the unit is not closed.
    pub(super) async fn fill(
        &self,
        batch: &ChangeBatch,
        live: &[bool],
        origins: &HashMap<u32, Origin>,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = batch.after.columns().to_vec();
        for (column, mask) in batch.unchanged.iter().enumerate() {
            let Some(mask) = mask else { continue };
            let mut sources: BTreeMap<u32, Origin> = BTreeMap::new();
            for row in mask.set_indices().filter(|&row| live[row]) {
                let row = u32::try_from(row).unwrap_or(u32::MAX);
                sources.insert(row, holder(row, origins, |at| mask.value(at as usize))?);
            }
            if !sources.is_empty() {
                columns[column] = self.filled(batch, column, &sources).await?;
            }
        }
        RecordBatch::try_new(batch.after.schema(), columns).map_err(arrow_error)
    }

    async fn filled(
        &self,
        batch: &ChangeBatch,
        column: usize,
        sources: &BTreeMap<u32, Origin>,
    ) -> Result<ArrayRef> {
        let name = &batch.schema.columns[column].name;
        let after = Arc::clone(batch.after.column(column));
        let wanted: BTreeSet<Origin> =
            sources.values().copied().filter(|o| !matches!(o, Origin::Slice(_))).collect();
        let (fetched, slots) = self.read(&wanted, name, &after).await?;
        let picks: Vec<(usize, usize)> = (0..after.len())
            .map(|row| match u32::try_from(row).ok().and_then(|row| sources.get(&row)) {
                None => (0, row),
                Some(Origin::Slice(earlier)) => (0, *earlier as usize),
                Some(origin) => (1, slots.get(origin).copied().unwrap_or(0)),
            })
            .collect();
        interleave(&[after.as_ref(), fetched.as_ref()], &picks).map_err(arrow_error)
    }

    /// Reads one column of the wanted rows, file by file.
    async fn read(
        &self,
        wanted: &BTreeSet<Origin>,
        column: &String,
        like: &ArrayRef,
    ) -> Result<(ArrayRef, HashMap<Origin, usize>)> {
        let mut by_file: BTreeMap<String, (Stored, Vec<(u32, Origin)>)> = BTreeMap::new();
        for origin in wanted {
            let (stored, place) = match origin {
                Origin::Table(place) => ((self.of_table)(place.file), place),
                Origin::Unit(place) => ((self.of_unit)(place.file), place),
                Origin::Slice(_) => continue,
            };
            let stored = stored.ok_or_else(|| Error::new(codes::RT001, "an old row's file is not known"))?;
            let of_file = by_file.entry(stored.name.clone()).or_insert_with(|| (stored, Vec::new()));
            of_file.1.push((place.row, *origin));
        }
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut slots = HashMap::new();
        for (name, (stored, mut rows)) in by_file {
            rows.sort_unstable();
            for (_, origin) in &rows {
                slots.insert(*origin, slots.len());
            }
            let numbers: Vec<u32> = rows.iter().map(|(row, _)| *row).collect();
            let held = read_held(self.files, &stored, std::slice::from_ref(column), Some(&numbers)).await?;
            let Some(batches) = held else {
                parts.push(arrow::array::new_null_array(like.data_type(), numbers.len()));
                continue;
            };
            let mut read = 0;
            for batch in batches {
                let batch = batch?;
                read += batch.num_rows();
                parts.push(arrow::compute::cast(batch.column(0), like.data_type()).map_err(arrow_error)?);
            }
            if read != numbers.len() {
                let what = format!("the data file \"{name}\" has fewer rows than the log says");
                return Err(Error::new(codes::TG020, what));
            }
        }
        if parts.is_empty() {
            return Ok((arrow::array::new_empty_array(like.data_type()), slots));
        }
        let parts: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
        Ok((concat(&parts).map_err(arrow_error)?, slots))
    }
}

/// The nearest earlier version of the row that holds the column's value.
fn holder(row: u32, origins: &HashMap<u32, Origin>, unchanged: impl Fn(u32) -> bool) -> Result<Origin> {
    let mut at = row;
    loop {
        match origins.get(&at) {
            Some(Origin::Slice(earlier)) if unchanged(*earlier) => at = *earlier,
            Some(origin) => return Ok(*origin),
            None => return Err(Error::new(codes::RT001, "an unchanged value has no earlier version")),
        }
    }
}

fn arrow_error(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "cannot put an unchanged value in its place").with_source(e)
}
