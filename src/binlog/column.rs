//! One column of a row image while it is built: values straight into Arrow's memory layout.
//!
//! There is no value type in between and no allocation per row. What a value *is* was decided before it comes
//! here ([`super::value`]); text is checked for UTF-8 once, when the column is finished.

use super::reason::Reason;
use crate::event::Mask;
use crate::schema::ColumnKind;
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimeUnit,
};
use std::sync::Arc;

#[derive(Debug)]
enum Cells {
    Bool(Mask),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, zoned: bool },
    Bytes { values: Vec<u8>, offsets: Vec<i32>, text: bool },
}

/// A column while it is built. The row count is the image's: calls that need it name the row.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    cells: Cells,
    nulls: Mask,
}

impl ColumnBuilder {
    /// Empty.
    pub(super) fn new(kind: &ColumnKind) -> Self {
        let bytes = |text| Cells::Bytes { values: Vec::new(), offsets: vec![0], text };
        let cells = match kind.arrow() {
            DataType::Boolean => Cells::Bool(Mask::default()),
            DataType::Int16 => Cells::Int2(Vec::new()),
            DataType::Int32 => Cells::Int4(Vec::new()),
            DataType::Int64 => Cells::Int8(Vec::new()),
            DataType::Float32 => Cells::Float4(Vec::new()),
            DataType::Float64 => Cells::Float8(Vec::new()),
            DataType::Decimal128(precision, scale) => Cells::Decimal { values: Vec::new(), precision, scale },
            DataType::Date32 => Cells::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Cells::Timestamp { values: Vec::new(), zoned: zone.is_some() }
            }
            DataType::Binary => bytes(false),
            _ => bytes(true),
        };
        ColumnBuilder { cells, nulls: Mask::default() }
    }

    /// Makes room for `rows` rows, with `bytes` bytes of content if it is a column of variable length.
    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        match &mut self.cells {
            Cells::Bool(_) => {}
            Cells::Int2(values) => values.reserve(rows),
            Cells::Int4(values) | Cells::Date(values) => values.reserve(rows),
            Cells::Int8(values) | Cells::Timestamp { values, .. } => values.reserve(rows),
            Cells::Float4(values) => values.reserve(rows),
            Cells::Float8(values) => values.reserve(rows),
            Cells::Decimal { values, .. } => values.reserve(rows),
            Cells::Bytes { values, offsets, .. } => {
                offsets.reserve(rows);
                values.reserve(bytes);
            }
        }
    }

    /// Bytes of content of a column of variable length, zero for one of fixed width.
    pub(super) fn content_bytes(&self) -> usize {
        match &self.cells {
            Cells::Bytes { values, .. } => values.len(),
            _ => 0,
        }
    }

    /// A null in row `row`, which must be the next.
    #[inline]
    pub(super) fn push_null(&mut self, row: usize) {
        self.nulls.set(row);
        match &mut self.cells {
            Cells::Bool(_) => {}
            Cells::Int2(values) => values.push(0),
            Cells::Int4(values) | Cells::Date(values) => values.push(0),
            Cells::Int8(values) | Cells::Timestamp { values, .. } => values.push(0),
            Cells::Float4(values) => values.push(0.0),
            Cells::Float8(values) => values.push(0.0),
            Cells::Decimal { values, .. } => values.push(0),
            Cells::Bytes { offsets, .. } => {
                let end = offsets.last().copied().unwrap_or(0);
                offsets.push(end);
            }
        }
    }

    /// A truth value in row `row`, which must be the next.
    #[inline]
    pub(super) fn push_bool(&mut self, row: usize, value: bool) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Bool(_) if !value => Ok(()),
            Cells::Bool(values) => {
                values.set(row);
                Ok(())
            }
            _ => Err(Reason::Column),
        }
    }

    /// A whole number, into any column that holds it.
    #[inline]
    pub(super) fn push_int(&mut self, value: i64) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Int8(values) => values.push(value),
            Cells::Int4(values) => values.push(i32::try_from(value).map_err(|_| Reason::OutOfRange)?),
            Cells::Int2(values) => values.push(i16::try_from(value).map_err(|_| Reason::OutOfRange)?),
            Cells::Decimal { values, scale: 0, .. } => values.push(value.into()),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// A whole number without a sign.
    #[inline]
    pub(super) fn push_unsigned(&mut self, value: u64) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Decimal { values, scale: 0, .. } => values.push(value.into()),
            _ => return self.push_int(i64::try_from(value).map_err(|_| Reason::OutOfRange)?),
        }
        Ok(())
    }

    /// Precision and scale of a decimal column.
    #[inline]
    pub(super) fn decimal(&self) -> Option<(u8, i8)> {
        match &self.cells {
            Cells::Decimal { precision, scale, .. } => Some((*precision, *scale)),
            _ => None,
        }
    }

    /// A decimal at the column's scale, which fits its precision.
    #[inline]
    pub(super) fn push_decimal(&mut self, value: i128) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Decimal { values, .. } => values.push(value),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// A float.
    #[inline]
    pub(super) fn push_f32(&mut self, value: f32) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Float4(values) => values.push(value),
            // Exact: every float is a double.
            Cells::Float8(values) => values.push(value.into()),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// A double.
    #[inline]
    pub(super) fn push_f64(&mut self, value: f64) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Float8(values) => values.push(value),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// Whether it is a column of doubles.
    pub(super) fn is_double(&self) -> bool {
        matches!(self.cells, Cells::Float8(_))
    }

    /// Days since 1970.
    #[inline]
    pub(super) fn push_date(&mut self, days: i32) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Date(values) => values.push(days),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// Microseconds since 1970; `zoned`: of the universal time, not of a clock on some wall.
    #[inline]
    pub(super) fn push_timestamp(&mut self, micros: i64, zoned: bool) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Timestamp { values, zoned: own } if *own == zoned => values.push(micros),
            _ => return Err(Reason::Column),
        }
        Ok(())
    }

    /// A value of variable length as it is. `text`: it is UTF-8, or the column fails when it is finished.
    #[inline]
    pub(super) fn push_bytes(&mut self, bytes: &[u8], text: bool) -> Result<(), Reason> {
        self.push_with(text, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        })
    }

    /// A value of variable length that `write` appends.
    #[inline]
    pub(super) fn push_with(
        &mut self,
        text: bool,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Bytes { values, offsets, text: own } if *own == text => {
                write(values)?;
                let end = i32::try_from(values.len()).map_err(|_| Reason::BatchTooLarge)?;
                offsets.push(end);
                Ok(())
            }
            _ => Err(Reason::Column),
        }
    }

    /// Whether row `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_set(row)
    }

    /// Forgets everything from row `rows` on, also half a row.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.cells {
            Cells::Bool(values) => values.truncate(rows),
            Cells::Int2(values) => values.truncate(rows),
            Cells::Int4(values) | Cells::Date(values) => values.truncate(rows),
            Cells::Int8(values) | Cells::Timestamp { values, .. } => values.truncate(rows),
            Cells::Float4(values) => values.truncate(rows),
            Cells::Float8(values) => values.truncate(rows),
            Cells::Decimal { values, .. } => values.truncate(rows),
            Cells::Bytes { values, offsets, .. } => {
                offsets.truncate(rows + 1);
                // There is always one, and none is negative: they come from lengths.
                let end = offsets.last().and_then(|&end| usize::try_from(end).ok()).unwrap_or(0);
                values.truncate(end);
            }
        }
    }

    /// Bytes of content.
    pub(super) fn bytes(&self) -> usize {
        let cells = match &self.cells {
            Cells::Bool(values) => values.bytes(),
            Cells::Int2(values) => size_of_val(values.as_slice()),
            Cells::Int4(values) | Cells::Date(values) => size_of_val(values.as_slice()),
            Cells::Int8(values) | Cells::Timestamp { values, .. } => size_of_val(values.as_slice()),
            Cells::Float4(values) => size_of_val(values.as_slice()),
            Cells::Float8(values) => size_of_val(values.as_slice()),
            Cells::Decimal { values, .. } => size_of_val(values.as_slice()),
            Cells::Bytes { values, offsets, .. } => values.len() + size_of_val(offsets.as_slice()),
        };
        self.nulls.bytes() + cells
    }

    /// The finished column of `rows` rows. The builder is empty afterwards.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, Reason> {
        let nulls = self.nulls.take_nulls(rows);
        match &mut self.cells {
            Cells::Bool(values) => Ok(Arc::new(BooleanArray::new(values.take(rows), nulls))),
            Cells::Int2(values) => primitive::<Int16Type>(values, nulls),
            Cells::Int4(values) => primitive::<Int32Type>(values, nulls),
            Cells::Int8(values) => primitive::<Int64Type>(values, nulls),
            Cells::Float4(values) => primitive::<Float32Type>(values, nulls),
            Cells::Float8(values) => primitive::<Float64Type>(values, nulls),
            Cells::Decimal { values, precision, scale } => {
                let array = Decimal128Array::try_new(taken(values), nulls)
                    .and_then(|array| array.with_precision_and_scale(*precision, *scale));
                Ok(Arc::new(array.map_err(|_| Reason::Misuse)?))
            }
            Cells::Date(values) => primitive::<Date32Type>(values, nulls),
            Cells::Timestamp { values, zoned } => {
                let array =
                    TimestampMicrosecondArray::try_new(taken(values), nulls).map_err(|_| Reason::Misuse)?;
                Ok(if *zoned { Arc::new(array.with_timezone("UTC")) } else { Arc::new(array) })
            }
            Cells::Bytes { values, offsets, text } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let values = std::mem::take(values);
                if *text {
                    // Here all values are checked for UTF-8 at once, and that none begins within a character.
                    let array = StringArray::try_new(offsets, values.into(), nulls);
                    Ok(Arc::new(array.map_err(|_| Reason::NotText)?))
                } else {
                    let array = BinaryArray::try_new(offsets, values.into(), nulls);
                    Ok(Arc::new(array.map_err(|_| Reason::Misuse)?))
                }
            }
        }
    }
}

/// The values without copying them; an empty vector in their place.
fn taken<T: ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    ScalarBuffer::from(std::mem::take(values))
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, Reason> {
    let array = PrimitiveArray::<T>::try_new(taken(values), nulls).map_err(|_| Reason::Misuse)?;
    Ok(Arc::new(array))
}
