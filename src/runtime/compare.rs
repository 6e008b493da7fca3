//! Compares two sets of rows that are too large to be held: by digests of slices of the key space first, then row by
//! row in the slices that differ.
//!
//! Each row becomes two hashes of 128 bits, of its key and of all its values. A *slice* is the rows whose key hash
//! begins alike. A digest is the count of its rows and the sum of their hashes, which no order of reading changes.
//! Equal digests of unequal rows need a collision of 128 bits.
//!
//! Memory does not grow with the tables: 65,536 slices of 24 bytes a side, and at most [`HELD_ROWS`] rows of the
//! slices that differ.

use crate::error::{Error, Result, codes};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::HashMap;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// Slices of the key space.
const SLICES: usize = 1 << 16;
/// Rows of differing slices that are compared one by one; more are counted, not listed.
pub const HELD_ROWS: u64 = 1_000_000;

/// The hash of a row's key.
pub type KeyHash = u128;

/// A row as two hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowHash {
    /// Of its key.
    pub key: KeyHash,
    /// Of all its values.
    pub values: u128,
}

impl RowHash {
    fn slice(self) -> usize {
        slice_of(self.key)
    }
}

fn slice_of(key: KeyHash) -> usize {
    usize::try_from(key >> 112).unwrap_or(0)
}

/// Makes hashes of batches.
#[derive(Debug)]
pub struct Hasher {
    all: RowConverter,
    keys: RowConverter,
    key: Vec<usize>,
}

impl Hasher {
    /// For rows of this schema with these key columns.
    ///
    /// # Errors
    /// `RT001` for a type that rows cannot be made of.
    pub fn new(schema: &SchemaRef, key: &[usize]) -> Result<Self> {
        let field = |i: usize| SortField::new(schema.field(i).data_type().clone());
        let all = (0..schema.fields().len()).map(field).collect();
        let keys = key.iter().map(|&i| field(i)).collect();
        Ok(Hasher {
            all: RowConverter::new(all).map_err(broken)?,
            keys: RowConverter::new(keys).map_err(broken)?,
            key: key.to_vec(),
        })
    }

    /// Hands the hashes of each row to `take`, with the row's number in the batch.
    ///
    /// # Errors
    /// `RT001`.
    pub fn hash(&self, batch: &RecordBatch, mut take: impl FnMut(usize, RowHash)) -> Result<()> {
        let values = self.all.convert_columns(batch.columns()).map_err(broken)?;
        let columns: Vec<_> = self.key.iter().map(|&i| std::sync::Arc::clone(batch.column(i))).collect();
        let keys = self.keys.convert_columns(&columns).map_err(broken)?;
        for (row, (key, value)) in keys.iter().zip(values.iter()).enumerate() {
            let key = xxh3_128(key.data());
            take(row, RowHash { key, values: xxh3_128_with_seed(value.data(), 1) });
        }
        Ok(())
    }

    /// The key of a row for people.
    ///
    /// # Errors
    /// `RT001`.
    pub fn key_text(&self, batch: &RecordBatch, row: usize) -> Result<String> {
        let options = FormatOptions::default().with_null("null");
        let mut parts = Vec::with_capacity(self.key.len());
        for &column in &self.key {
            let formatter = ArrayFormatter::try_new(batch.column(column), &options).map_err(broken)?;
            let name = batch.schema().field(column).name().clone();
            parts.push(format!("{name}={}", formatter.value(row)));
        }
        Ok(parts.join(" "))
    }
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "rows cannot be compared").with_source(e)
}

/// Digests of one side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digests(Vec<Digest>);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Digest {
    rows: u64,
    sum: u128,
}

impl Default for Digests {
    fn default() -> Self {
        Digests(vec![Digest::default(); SLICES])
    }
}

impl Digests {
    /// Takes a row in.
    pub fn add(&mut self, row: RowHash) {
        if let Some(slice) = self.0.get_mut(row.slice()) {
            slice.rows += 1;
            // The key is in the values, but two rows must not swap keys unseen.
            slice.sum = slice.sum.wrapping_add(row.values ^ row.key.rotate_left(64));
        }
    }

    /// Takes in what another worker has.
    pub fn merge(&mut self, other: &Digests) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.rows += theirs.rows;
            mine.sum = mine.sum.wrapping_add(theirs.sum);
        }
    }

    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|slice| slice.rows).sum()
    }

    /// The slices that differ, as many as may be held.
    pub fn differing(&self, other: &Digests) -> Slices {
        let mut slices = Slices { chosen: vec![false; SLICES], count: 0, left_out: 0 };
        let mut held = 0;
        for (at, (a, b)) in self.0.iter().zip(&other.0).enumerate() {
            if a == b {
                continue;
            }
            let rows = a.rows.max(b.rows);
            // The first is taken whatever its size: something must be listed.
            if slices.count == 0 || held + rows <= HELD_ROWS {
                held += rows;
                slices.count += 1;
                slices.chosen[at] = true;
            } else {
                slices.left_out += 1;
            }
        }
        slices
    }
}

/// Slices whose rows are looked at one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slices {
    chosen: Vec<bool>,
    /// How many.
    pub count: usize,
    /// Slices that differ, too, and are not looked at.
    pub left_out: usize,
}

impl Slices {
    /// Whether the row is in one of them.
    pub fn holds(&self, key: KeyHash) -> bool {
        self.chosen.get(slice_of(key)).copied().unwrap_or(false)
    }
}

/// What is wrong with a row of the target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// The source has it, the target has not.
    Missing,
    /// The target has it, the source has not.
    Extra,
    /// Both have it, with other values; or the target has it twice.
    Different,
}

impl Fault {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::Extra => "extra",
            Fault::Different => "different",
        }
    }
}

/// The source's rows of the differing slices, from which the target's are taken away.
#[derive(Debug, Default)]
pub struct Remainder(HashMap<KeyHash, Option<u128>>);

impl Remainder {
    /// A row of the source.
    pub fn source(&mut self, row: RowHash) {
        self.0.insert(row.key, Some(row.values));
    }

    /// Takes in what another worker has.
    pub fn merge(&mut self, other: Remainder) {
        self.0.extend(other.0);
    }

    /// A row of the target: what is wrong with it. A key that was met before is there twice.
    pub fn target(&mut self, row: RowHash) -> Option<Fault> {
        match self.0.get_mut(&row.key) {
            None => Some(Fault::Extra),
            Some(met) => match met.take() {
                Some(values) if values == row.values => None,
                Some(_) | None => Some(Fault::Different),
            },
        }
    }

    /// Keys of the source that the target has not.
    pub fn missing(&self) -> impl Iterator<Item = KeyHash> + '_ {
        self.0.iter().filter(|(_, values)| values.is_some()).map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn batch(ids: &[i64], texts: &[Option<&str>], numbers: &[f64]) -> RecordBatch {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
            ("v", Arc::new(StringArray::from(texts.to_vec())) as ArrayRef),
            ("f", Arc::new(Float64Array::from(numbers.to_vec())) as ArrayRef),
        ])
        .unwrap()
    }

    fn hashes(batch: &RecordBatch) -> Vec<RowHash> {
        let mut rows = Vec::new();
        Hasher::new(&batch.schema(), &[0]).unwrap().hash(batch, |_, row| rows.push(row)).unwrap();
        rows
    }

    fn digests(rows: &[RowHash]) -> Digests {
        let mut digests = Digests::default();
        rows.iter().for_each(|row| digests.add(*row));
        digests
    }

    #[test]
    fn one_flipped_bit_is_found_and_the_order_does_not_matter() {
        let ids: Vec<i64> = (0..5000).collect();
        let texts: Vec<Option<&str>> = ids.iter().map(|i| (i % 7 != 0).then_some("text")).collect();
        let mut numbers: Vec<f64> = ids.iter().map(|i| *i as f64).collect();
        let source = hashes(&batch(&ids, &texts, &numbers));
        let mut shuffled = source.clone();
        shuffled.reverse();
        assert_eq!(digests(&source), digests(&shuffled));
        numbers[1234] = f64::from_bits(numbers[1234].to_bits() ^ 1);
        let target = hashes(&batch(&ids, &texts, &numbers));
        let slices = digests(&source).differing(&digests(&target));
        assert_eq!((slices.count, slices.left_out), (1, 0));
        let mut remainder = Remainder::default();
        source.iter().filter(|row| slices.holds(row.key)).for_each(|row| remainder.source(*row));
        let found: Vec<Fault> = target
            .iter()
            .filter(|row| slices.holds(row.key))
            .filter_map(|row| remainder.target(*row))
            .collect();
        assert_eq!(found, [Fault::Different]);
        assert_eq!(remainder.missing().count(), 0);
    }

    #[test]
    fn null_is_not_empty_and_minus_zero_is_not_zero() {
        let a = hashes(&batch(&[1, 2], &[None, Some("")], &[0.0, 0.0]));
        let b = hashes(&batch(&[1, 2], &[Some(""), Some("")], &[0.0, -0.0]));
        assert_ne!(a[0].values, b[0].values);
        assert_ne!(a[1].values, b[1].values);
        assert_eq!(a[0].key, b[0].key);
    }

    #[test]
    fn missing_extra_and_doubled_rows_are_told_apart() {
        let all = hashes(&batch(&[1, 2, 3], &[None, None, None], &[0.0; 3]));
        let mut remainder = Remainder::default();
        remainder.source(all[0]);
        remainder.source(all[1]);
        assert_eq!(remainder.target(all[0]), None);
        assert_eq!(remainder.target(all[0]), Some(Fault::Different));
        assert_eq!(remainder.target(all[2]), Some(Fault::Extra));
        assert_eq!(remainder.missing().collect::<Vec<_>>(), [all[1].key]);
    }

    #[test]
    fn keys_are_shown_by_name() {
        let batch = batch(&[7], &[Some("x")], &[0.5]);
        let hasher = Hasher::new(&batch.schema(), &[1, 0]).unwrap();
        assert_eq!(hasher.key_text(&batch, 0).unwrap(), "v=x id=7");
    }
}
