//! Keys of rows, as numbers that a map can hold.
//!
//! A key that fits 8 bytes is held exactly ([`u64`]); one that fits 16, or any longer one by its 128-bit
//! hash, as two words. The encoding is injective for what the *source* calls different and equal for what
//! it calls equal: `-0` is `0`, all NaN are one, `1.50` is `1.5`, trailing blanks of `bpchar` do not count.
//!
//! Where the source calls more values equal than their texts are (intervals, `citext`, arrays of `numeric`), the
//! text is the key. That is safe: the log gives a row's old key whenever its *bytes* changed, so that every row
//! is found under the very text that it was written with.

use crate::error::{Result, codes};
use crate::schema::{ColumnKind, TableSchema};
use crate::sink::table_error;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use std::hash::Hash;
use xxhash_rust::xxh3::xxh3_128;

/// A key in a map.
pub(super) trait Key: Copy + Eq + Hash + Send + Sync + 'static {
    /// From its encoded bytes; `exact` when they fit this width.
    fn from_bytes(bytes: &[u8], exact: bool) -> Self;
    /// Bytes of a key in a saved index.
    const BYTES: usize;
    /// Writes those bytes; `from_bytes` with `exact` reads them.
    fn put(self, out: &mut Vec<u8>);
    /// Well mixed bits for the map.
    fn mix(self) -> u64;
}

impl Key for u64 {
    fn from_bytes(bytes: &[u8], _exact: bool) -> Self {
        let mut raw = [0u8; 8];
        raw[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
        u64::from_le_bytes(raw)
    }

    const BYTES: usize = 8;

    fn put(self, out: &mut Vec<u8>) {
        out.extend(self.to_le_bytes());
    }

    fn mix(self) -> u64 {
        let mut x = self ^ (self >> 33);
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    }
}

impl Key for [u64; 2] {
    fn from_bytes(bytes: &[u8], exact: bool) -> Self {
        if exact {
            let (low, high) = bytes.split_at(bytes.len().min(8));
            [u64::from_bytes(low, true), u64::from_bytes(high, true)]
        } else {
            let hash = xxh3_128(bytes).to_le_bytes();
            let (low, high) = hash.split_at(8);
            [u64::from_bytes(low, true), u64::from_bytes(high, true)]
        }
    }

    const BYTES: usize = 16;

    fn put(self, out: &mut Vec<u8>) {
        self[0].put(out);
        self[1].put(out);
    }

    fn mix(self) -> u64 {
        (self[0] ^ self[1].rotate_left(32)).mix()
    }
}

/// How wide a table's keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KeyWidth {
    /// At most 8 bytes, exact.
    Narrow,
    /// At most 16 bytes, exact.
    Wide,
    /// Longer: by 128-bit hash.
    Hashed,
}

impl KeyWidth {
    /// Of a table's key.
    pub(super) fn of(schema: &TableSchema) -> Self {
        let sizes = schema.key.iter().map(|&i| fixed_size(&schema.columns[i].kind));
        match sizes.sum::<Option<usize>>() {
            Some(n) if n <= 8 => KeyWidth::Narrow,
            Some(n) if n <= 16 => KeyWidth::Wide,
            Some(_) | None => KeyWidth::Hashed,
        }
    }
}

fn fixed_size(kind: &ColumnKind) -> Option<usize> {
    match kind {
        ColumnKind::Bool => Some(1),
        ColumnKind::Int2 => Some(2),
        ColumnKind::Int4 | ColumnKind::Float4 | ColumnKind::Date => Some(4),
        ColumnKind::Int8
        | ColumnKind::Unsigned4
        | ColumnKind::Money { .. }
        | ColumnKind::Float8
        | ColumnKind::NumericDouble
        | ColumnKind::Timestamp
        | ColumnKind::TimestampTz => Some(8),
        ColumnKind::Decimal { precision, .. } => Some(if *precision <= 18 { 8 } else { 16 }),
        ColumnKind::Uuid | ColumnKind::Unsigned8 => Some(16),
        ColumnKind::NumericText
        | ColumnKind::Text
        | ColumnKind::Bpchar
        | ColumnKind::Json
        | ColumnKind::Jsonb
        | ColumnKind::Bytea
        | ColumnKind::Time
        | ColumnKind::Ewkb
        | ColumnKind::Rendered(_)
        | ColumnKind::Unknown => None,
    }
}

/// Keys of the rows of `batch` whose entry in `wanted` is true; the others' slots are filled with a
/// default that means nothing. `columns` maps key columns to columns of `batch`.
///
/// # Errors
/// `TG015` for a null in a key: the source does not allow one.
pub(super) fn extract<K: Key>(
    schema: &TableSchema,
    columns: &[usize],
    batch: &RecordBatch,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<K>> {
    let width = KeyWidth::of(schema);
    let parts: Vec<(&ColumnKind, &ArrayRef)> = schema
        .key
        .iter()
        .zip(columns)
        .map(|(&of_schema, &of_batch)| (&schema.columns[of_schema].kind, batch.column(of_batch)))
        .collect();
    if let ([(kind, array)], KeyWidth::Narrow) = (parts.as_slice(), width)
        && let Some(keys) = single_integer::<K>(kind, array)
    {
        return Ok(keys);
    }
    let exact = width != KeyWidth::Hashed;
    let mut buffer = Vec::with_capacity(32);
    let mut keys = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        buffer.clear();
        if wanted(row) {
            for (kind, array) in &parts {
                if array.is_null(row) {
                    return Err(table_error(&schema.name, codes::TG015, "a row's key holds a null"));
                }
                encode(kind, array, row, &mut buffer);
            }
        }
        keys.push(K::from_bytes(&buffer, exact));
    }
    Ok(keys)
}

/// The common case, one integer column without nulls, without going through bytes.
fn single_integer<K: Key>(kind: &ColumnKind, array: &ArrayRef) -> Option<Vec<K>> {
    if array.null_count() > 0 {
        return None;
    }
    let narrow = |raw: u64| K::from_bytes(&raw.to_le_bytes(), true);
    match kind {
        ColumnKind::Int8 => {
            let values = array.as_primitive::<Int64Type>().values();
            Some(values.iter().map(|v| narrow(v.cast_unsigned())).collect())
        }
        ColumnKind::Int4 => {
            let values = array.as_primitive::<Int32Type>().values();
            Some(values.iter().map(|v| narrow(u64::from(v.cast_unsigned()))).collect())
        }
        _ => None,
    }
}

fn encode(kind: &ColumnKind, array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    match kind {
        ColumnKind::Bool => out.push(u8::from(array.as_boolean().value(row))),
        ColumnKind::Int2 => out.extend(array.as_primitive::<Int16Type>().value(row).to_le_bytes()),
        ColumnKind::Int4 => out.extend(array.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        ColumnKind::Int8 | ColumnKind::Unsigned4 => {
            out.extend(array.as_primitive::<Int64Type>().value(row).to_le_bytes())
        }
        ColumnKind::Date => out.extend(array.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            out.extend(array.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        ColumnKind::Float4 => {
            let v = array.as_primitive::<Float32Type>().value(row);
            let v = if v.is_nan() { f32::NAN } else { v + 0.0 };
            out.extend(v.to_bits().to_le_bytes());
        }
        ColumnKind::Float8 | ColumnKind::NumericDouble => {
            let v = array.as_primitive::<Float64Type>().value(row);
            let v = if v.is_nan() { f64::NAN } else { v + 0.0 };
            out.extend(v.to_bits().to_le_bytes());
        }
        ColumnKind::Decimal { precision, .. } => {
            let bytes = array.as_primitive::<Decimal128Type>().value(row).to_le_bytes();
            // The value's magnitude is below 10^18: the low eight bytes hold it with its sign.
            out.extend(&bytes[..if *precision <= 18 { 8 } else { 16 }]);
        }
        // 19 digits in name, 64 bits in fact.
        ColumnKind::Money { .. } => {
            out.extend(&array.as_primitive::<Decimal128Type>().value(row).to_le_bytes()[..8]);
        }
        ColumnKind::Unsigned8 => {
            out.extend(array.as_primitive::<Decimal128Type>().value(row).to_le_bytes());
        }
        ColumnKind::Uuid => {
            let text = array.as_string::<i32>().value(row);
            match uuid::Uuid::parse_str(text) {
                Ok(id) => out.extend(id.as_bytes()),
                // Ours are always well-formed; a foreign spelling must still not meet another key.
                Err(_) => out.extend(xxh3_128(text.as_bytes()).to_le_bytes()),
            }
        }
        ColumnKind::Bytea | ColumnKind::Ewkb => variable(array.as_binary::<i32>().value(row), out),
        ColumnKind::Bpchar => {
            variable(array.as_string::<i32>().value(row).trim_end_matches(' ').as_bytes(), out);
        }
        ColumnKind::NumericText => {
            variable(canonical_numeric(array.as_string::<i32>().value(row)).as_bytes(), out);
        }
        ColumnKind::Text
        | ColumnKind::Json
        | ColumnKind::Jsonb
        | ColumnKind::Time
        | ColumnKind::Rendered(_)
        | ColumnKind::Unknown => {
            variable(array.as_string::<i32>().value(row).as_bytes(), out);
        }
    }
}

fn variable(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// `1.50` and `1.5` are one value to the source.
fn canonical_numeric(text: &str) -> &str {
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    if text == "-0" { "0" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, TableId, TableName};
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn schema(kinds: &[ColumnKind]) -> TableSchema {
        let columns = kinds
            .iter()
            .enumerate()
            .map(|(i, kind)| Column {
                name: format!("c{i}"),
                attnum: i as i16 + 1,
                type_oid: 0,
                type_modifier: -1,
                type_name: String::new(),
                kind: kind.clone(),
            })
            .collect();
        TableSchema::new(TableId(1), TableName::new("s", "t"), columns, (0..kinds.len()).collect(), false)
    }

    fn keys<K: Key>(kinds: &[ColumnKind], columns: Vec<ArrayRef>) -> Vec<K> {
        let schema = schema(kinds);
        let batch = RecordBatch::try_new(schema.arrow.clone(), columns).unwrap();
        let at: Vec<usize> = (0..kinds.len()).collect();
        extract::<K>(&schema, &at, &batch, |_| true).unwrap()
    }

    #[test]
    fn widths() {
        use ColumnKind::*;
        assert_eq!(KeyWidth::of(&schema(&[Int8])), KeyWidth::Narrow);
        assert_eq!(KeyWidth::of(&schema(&[Int4, Int4])), KeyWidth::Narrow);
        assert_eq!(KeyWidth::of(&schema(&[Int8, Int4])), KeyWidth::Wide);
        assert_eq!(KeyWidth::of(&schema(&[Uuid])), KeyWidth::Wide);
        assert_eq!(KeyWidth::of(&schema(&[Text])), KeyWidth::Hashed);
        assert_eq!(KeyWidth::of(&schema(&[Uuid, Int2])), KeyWidth::Hashed);
    }

    #[test]
    fn fast_and_general_way_agree() {
        let ints = vec![0, 1, -1, i32::MIN, i32::MAX];
        let fast = keys::<u64>(&[ColumnKind::Int4], vec![Arc::new(Int32Array::from(ints.clone()))]);
        let general: Vec<u64> = ints.iter().map(|v| u64::from_bytes(&v.to_le_bytes(), true)).collect();
        assert_eq!(fast, general);
        let pairs = keys::<u64>(
            &[ColumnKind::Int4, ColumnKind::Int4],
            vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int32Array::from(vec![2, 1]))],
        );
        assert_ne!(pairs[0], pairs[1]);
        let longs = keys::<u64>(&[ColumnKind::Int8], vec![Arc::new(Int64Array::from(vec![-1, 1]))]);
        assert_eq!(longs, [u64::MAX, 1]);
    }

    #[test]
    fn what_the_source_calls_equal_is_equal() {
        let f = keys::<u64>(
            &[ColumnKind::Float8],
            vec![Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN]))],
        );
        assert_eq!(f[0], f[1]);
        assert_eq!(f[2], f[3]);
        let n = keys::<[u64; 2]>(
            &[ColumnKind::NumericText],
            vec![Arc::new(StringArray::from(vec!["1.50", "1.5", "15", "150", "100", "1", "-0.00", "0"]))],
        );
        assert_eq!(n[0], n[1]);
        assert_ne!(n[2], n[3]);
        assert_ne!(n[4], n[5]);
        assert_eq!(n[6], n[7]);
        let b = keys::<[u64; 2]>(
            &[ColumnKind::Bpchar],
            vec![Arc::new(StringArray::from(vec!["a  ", "a", " a"]))],
        );
        assert_eq!(b[0], b[1]);
        assert_ne!(b[1], b[2]);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let k = keys::<[u64; 2]>(
            &[ColumnKind::Text, ColumnKind::Text],
            vec![Arc::new(StringArray::from(vec!["ab", "a"])), Arc::new(StringArray::from(vec!["c", "bc"]))],
        );
        assert_ne!(k[0], k[1]);
    }

    #[test]
    fn a_null_in_a_key_is_refused() {
        let schema = schema(&[ColumnKind::Int8]);
        let batch =
            RecordBatch::try_new(schema.arrow.clone(), vec![Arc::new(Int64Array::from(vec![None::<i64>]))])
                .unwrap();
        assert_eq!(extract::<u64>(&schema, &[0], &batch, |_| true).unwrap_err().code(), codes::TG015);
    }
}
