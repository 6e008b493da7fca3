//! One column of a row image while it is built: wire bytes straight into Arrow's memory layout.
//!
//! One enum of typed vectors; a cell is one branch on the column's kind and one `push`. There is no value
//! type in between and no allocation per row. Text is checked for UTF-8 once, when the column is finished.

use super::numeric;
use super::reason::Reason;
use super::render::{fixed, render, uuid};
use super::temporal::{self, Moment};
use super::types::Infinity;
use crate::event::Mask;
use crate::schema::{ColumnKind, Scalar, Shape};
use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use std::sync::Arc;

/// The version byte of jsonb's binary form.
const JSONB_VERSION: u8 = 1;

/// What a column of variable length holds.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Spelling {
    /// The bytes as they are, in both forms.
    Same,
    Jsonb,
    Bytea,
    Uuid,
    Time,
    Numeric,
    /// Written as the server writes it.
    Rendered(Shape),
    /// Bytes; hexadecimal digits as text.
    Ewkb,
    /// Known by its text only.
    Unknown,
}

/// Whole numbers that need 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wide {
    /// 64 bits without a sign.
    Unsigned8,
    /// 64 bits with a sign; as text with a currency.
    Money,
}

/// Values of variable length.
#[derive(Debug)]
struct Strings {
    spelling: Spelling,
    /// Start of each value, and the end of the last.
    offsets: Vec<i32>,
    values: Vec<u8>,
}

#[derive(Debug)]
enum Cells {
    Bool(Mask),
    Int2(Vec<i16>),
    Int4(Vec<i32>),
    Int8(Vec<i64>),
    Float4(Vec<f32>),
    Float8(Vec<f64>),
    NumericDouble(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Unsigned4(Vec<i64>),
    Wide { values: Vec<i128>, precision: u8, scale: i8, of: Wide },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, zoned: bool },
    Strings(Strings),
}

/// A column while it is built. The row count is the image's: every call names the row.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    cells: Cells,
    nulls: Mask,
    infinity: Infinity,
}

impl ColumnBuilder {
    /// Empty.
    pub(super) fn new(kind: &ColumnKind, infinity: Infinity) -> Self {
        ColumnBuilder { cells: Cells::new(kind), nulls: Mask::default(), infinity }
    }

    /// Makes room for `rows` rows, with `bytes` bytes of text if it is a column of variable length.
    pub(super) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.cells.reserve(rows, bytes);
    }

    /// Bytes of text, zero for a column of fixed width.
    pub(super) fn text_bytes(&self) -> usize {
        match &self.cells {
            Cells::Strings(strings) => strings.values.len(),
            _ => 0,
        }
    }

    /// A null in row `row`, which must be the next.
    #[inline]
    pub(super) fn push_null(&mut self, row: usize) {
        self.nulls.set(row);
        self.cells.push_default();
    }

    /// A value in its binary form.
    #[inline]
    pub(super) fn push_binary(&mut self, row: usize, bytes: &[u8]) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Bool(values) => match fixed(bytes)? {
                [0] => {}
                [1] => values.set(row),
                _ => return Err(Reason::Malformed),
            },
            Cells::Int2(values) => values.push(i16::from_be_bytes(fixed(bytes)?)),
            Cells::Int4(values) => values.push(i32::from_be_bytes(fixed(bytes)?)),
            Cells::Int8(values) => values.push(i64::from_be_bytes(fixed(bytes)?)),
            Cells::Float4(values) => values.push(f32::from_be_bytes(fixed(bytes)?)),
            Cells::Float8(values) => values.push(f64::from_be_bytes(fixed(bytes)?)),
            Cells::NumericDouble(values) => {
                let mut text = Vec::new();
                numeric::binary_to_text(bytes, &mut text)?;
                values.push(numeric::text_to_double(&text)?);
            }
            Cells::Decimal { values, precision, scale } => {
                values.push(numeric::binary_to_decimal(bytes, *precision, *scale)?);
            }
            Cells::Unsigned4(values) => values.push(u32::from_be_bytes(fixed(bytes)?).into()),
            Cells::Wide { values, of: Wide::Unsigned8, .. } => {
                values.push(u64::from_be_bytes(fixed(bytes)?).into());
            }
            Cells::Wide { values, of: Wide::Money, .. } => {
                values.push(i64::from_be_bytes(fixed(bytes)?).into());
            }
            Cells::Date(values) => {
                let date = temporal::date(i32::from_be_bytes(fixed(bytes)?))?;
                push_moment(values, date, &mut self.nulls, row, self.infinity)?;
            }
            Cells::Timestamp { values, .. } => {
                let timestamp = temporal::timestamp(i64::from_be_bytes(fixed(bytes)?))?;
                push_moment(values, timestamp, &mut self.nulls, row, self.infinity)?;
            }
            Cells::Strings(strings) => strings.push_binary(bytes)?,
        }
        Ok(())
    }

    /// A value in its text form.
    #[cold]
    pub(super) fn push_text(&mut self, row: usize, text: &[u8]) -> Result<(), Reason> {
        match &mut self.cells {
            Cells::Bool(values) => match text {
                b"f" => {}
                b"t" => values.set(row),
                _ => return Err(Reason::Malformed),
            },
            Cells::Int2(values) => values.push(integer(text)?),
            Cells::Int4(values) => values.push(integer(text)?),
            Cells::Int8(values) => values.push(integer(text)?),
            Cells::Float4(values) => values.push(float(text)?),
            Cells::Float8(values) => values.push(float(text)?),
            Cells::NumericDouble(values) => values.push(numeric::text_to_double(text)?),
            Cells::Decimal { values, precision, scale } => {
                values.push(numeric::text_to_decimal(text, *precision, *scale)?);
            }
            Cells::Unsigned4(values) => values.push(integer::<u32>(text)?.into()),
            Cells::Wide { values, of: Wide::Unsigned8, .. } => values.push(integer::<u64>(text)?.into()),
            Cells::Wide { values, of: Wide::Money, .. } => values.push(money(text)?.into()),
            Cells::Date(values) => {
                let date = temporal::text_to_date(text)?;
                push_moment(values, date, &mut self.nulls, row, self.infinity)?;
            }
            Cells::Timestamp { values, zoned } => {
                let timestamp = temporal::text_to_timestamp(text, *zoned)?;
                push_moment(values, timestamp, &mut self.nulls, row, self.infinity)?;
            }
            Cells::Strings(strings) => strings.push_text(text)?,
        }
        Ok(())
    }

    /// Whether row `row` is null.
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_set(row)
    }

    /// Forgets everything from row `rows` on, also half a row.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        self.cells.truncate(rows);
    }

    /// Bytes of content.
    pub(super) fn bytes(&self) -> usize {
        self.nulls.bytes() + self.cells.bytes()
    }

    /// The finished column of `rows` rows. The builder is empty afterwards.
    pub(super) fn finish(&mut self, rows: usize) -> Result<ArrayRef, Reason> {
        let nulls = self.nulls.take_nulls(rows);
        match &mut self.cells {
            Cells::Bool(values) => Ok(Arc::new(BooleanArray::new(values.take(rows), nulls))),
            Cells::Int2(values) => primitive::<Int16Type>(values, nulls),
            Cells::Int4(values) => primitive::<Int32Type>(values, nulls),
            Cells::Int8(values) | Cells::Unsigned4(values) => primitive::<Int64Type>(values, nulls),
            Cells::Float4(values) => primitive::<Float32Type>(values, nulls),
            Cells::Float8(values) | Cells::NumericDouble(values) => primitive::<Float64Type>(values, nulls),
            Cells::Decimal { values, precision, scale } | Cells::Wide { values, precision, scale, .. } => {
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
            Cells::Strings(strings) => strings.finish(nulls),
        }
    }
}

/// An integer's text form; `from_str` also takes a leading plus, which the server never writes.
fn integer<T: std::str::FromStr>(text: &[u8]) -> Result<T, Reason> {
    let text = std::str::from_utf8(text).map_err(|_| Reason::Malformed)?;
    if text.starts_with('+') {
        return Err(Reason::Malformed);
    }
    text.parse().map_err(|_| Reason::Malformed)
}

/// A float's text form. With `extra_float_digits` at least 1 the server writes the shortest text that
/// reads back as the same bits. `from_str` also knows `inf` and other spellings, which the server never
/// writes, and it reads a number that is too large as infinity.
fn float<T: std::str::FromStr + Into<f64> + Copy>(text: &[u8]) -> Result<T, Reason> {
    let special = matches!(text, b"NaN" | b"Infinity" | b"-Infinity");
    let plain = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let text = std::str::from_utf8(text).map_err(|_| Reason::Malformed)?;
    if !special && !plain {
        return Err(Reason::Malformed);
    }
    let value: T = text.parse().map_err(|_| Reason::Malformed)?;
    if plain && !value.into().is_finite() { Err(Reason::OutOfRange) } else { Ok(value) }
}

/// The text form of `money` under `lc_monetary = C`: `-$1,234.56`, always with two digits after the point.
fn money(text: &[u8]) -> Result<i64, Reason> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let text = text.strip_prefix(b"$").ok_or(Reason::Malformed)?;
    let (whole, cents) = text.split_last_chunk::<3>().ok_or(Reason::Malformed)?;
    let [b'.', tens, ones] = *cents else { return Err(Reason::Malformed) };
    let digits = whole.iter().filter(|&&byte| byte != b',').chain([&tens, &ones]);
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Reason::Malformed);
        }
        let digit = i64::from(digit - b'0');
        let next = value.checked_mul(10).and_then(|value| value.checked_sub(digit));
        value = next.ok_or(Reason::OutOfRange)?;
    }
    // Counted below zero, where there is one more.
    if negative { Ok(value) } else { value.checked_neg().ok_or(Reason::OutOfRange) }
}

/// The least and the greatest value of a type.
trait Extremes {
    fn is_extreme(&self) -> bool;
}

impl Extremes for i32 {
    fn is_extreme(&self) -> bool {
        matches!(*self, i32::MIN | i32::MAX)
    }
}

impl Extremes for i64 {
    fn is_extreme(&self) -> bool {
        matches!(*self, i64::MIN | i64::MAX)
    }
}

#[inline]
fn push_moment<T: Default + Extremes>(
    values: &mut Vec<T>,
    moment: Moment<T>,
    nulls: &mut Mask,
    row: usize,
    infinity: Infinity,
) -> Result<(), Reason> {
    match (moment, infinity) {
        // That very microsecond stands for infinity then.
        (Moment::Finite(value), Infinity::Keep) if value.is_extreme() => return Err(Reason::OutOfRange),
        (Moment::Finite(value), _) | (Moment::Infinite(value), Infinity::Keep) => values.push(value),
        (Moment::Infinite(_), Infinity::Null) => {
            nulls.set(row);
            values.push(T::default());
        }
        (Moment::Infinite(_), Infinity::Stop) => return Err(Reason::Infinity),
    }
    Ok(())
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

impl Cells {
    fn new(kind: &ColumnKind) -> Self {
        let strings = |spelling| Cells::Strings(Strings::new(spelling));
        match kind {
            ColumnKind::Bool => Cells::Bool(Mask::default()),
            ColumnKind::Int2 => Cells::Int2(Vec::new()),
            ColumnKind::Int4 => Cells::Int4(Vec::new()),
            ColumnKind::Int8 => Cells::Int8(Vec::new()),
            ColumnKind::Float4 => Cells::Float4(Vec::new()),
            ColumnKind::Float8 => Cells::Float8(Vec::new()),
            ColumnKind::NumericDouble => Cells::NumericDouble(Vec::new()),
            ColumnKind::Decimal { precision, scale } => {
                Cells::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            ColumnKind::Unsigned4 => Cells::Unsigned4(Vec::new()),
            ColumnKind::Unsigned8 => Cells::wide(kind, Wide::Unsigned8),
            ColumnKind::Money { .. } => Cells::wide(kind, Wide::Money),
            ColumnKind::Date => Cells::Date(Vec::new()),
            ColumnKind::Timestamp => Cells::Timestamp { values: Vec::new(), zoned: false },
            ColumnKind::TimestampTz => Cells::Timestamp { values: Vec::new(), zoned: true },
            ColumnKind::NumericText => strings(Spelling::Numeric),
            ColumnKind::Text | ColumnKind::Bpchar | ColumnKind::Json => strings(Spelling::Same),
            ColumnKind::Jsonb => strings(Spelling::Jsonb),
            ColumnKind::Bytea => strings(Spelling::Bytea),
            ColumnKind::Uuid => strings(Spelling::Uuid),
            ColumnKind::Time => strings(Spelling::Time),
            ColumnKind::Ewkb => strings(Spelling::Ewkb),
            ColumnKind::Rendered(Shape::Scalar(Scalar::Text)) => strings(Spelling::Same),
            ColumnKind::Rendered(shape) => strings(Spelling::Rendered(shape.clone())),
            ColumnKind::Unknown => strings(Spelling::Unknown),
        }
    }

    fn wide(kind: &ColumnKind, of: Wide) -> Self {
        let (precision, scale) = match kind.arrow() {
            DataType::Decimal128(precision, scale) => (precision, scale),
            _ => (38, 0),
        };
        Cells::Wide { values: Vec::new(), precision, scale, of }
    }

    #[inline]
    fn push_default(&mut self) {
        match self {
            Cells::Bool(_) => {}
            Cells::Int2(values) => values.push(0),
            Cells::Int4(values) | Cells::Date(values) => values.push(0),
            Cells::Int8(values) | Cells::Unsigned4(values) | Cells::Timestamp { values, .. } => {
                values.push(0)
            }
            Cells::Float4(values) => values.push(0.0),
            Cells::Float8(values) | Cells::NumericDouble(values) => values.push(0.0),
            Cells::Decimal { values, .. } | Cells::Wide { values, .. } => values.push(0),
            Cells::Strings(strings) => {
                let end = strings.offsets.last().copied().unwrap_or(0);
                strings.offsets.push(end);
            }
        }
    }

    fn reserve(&mut self, rows: usize, bytes: usize) {
        match self {
            Cells::Bool(_) => {}
            Cells::Int2(values) => values.reserve(rows),
            Cells::Int4(values) | Cells::Date(values) => values.reserve(rows),
            Cells::Int8(values) | Cells::Unsigned4(values) | Cells::Timestamp { values, .. } => {
                values.reserve(rows)
            }
            Cells::Float4(values) => values.reserve(rows),
            Cells::Float8(values) | Cells::NumericDouble(values) => values.reserve(rows),
            Cells::Decimal { values, .. } | Cells::Wide { values, .. } => values.reserve(rows),
            Cells::Strings(strings) => {
                strings.offsets.reserve(rows);
                strings.values.reserve(bytes);
            }
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Cells::Bool(values) => values.truncate(rows),
            Cells::Int2(values) => values.truncate(rows),
            Cells::Int4(values) | Cells::Date(values) => values.truncate(rows),
            Cells::Int8(values) | Cells::Unsigned4(values) | Cells::Timestamp { values, .. } => {
                values.truncate(rows)
            }
            Cells::Float4(values) => values.truncate(rows),
            Cells::Float8(values) | Cells::NumericDouble(values) => values.truncate(rows),
            Cells::Decimal { values, .. } | Cells::Wide { values, .. } => values.truncate(rows),
            Cells::Strings(strings) => strings.truncate(rows),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Cells::Bool(values) => values.bytes(),
            Cells::Int2(values) => size_of_val(values.as_slice()),
            Cells::Int4(values) | Cells::Date(values) => size_of_val(values.as_slice()),
            Cells::Int8(values) | Cells::Unsigned4(values) | Cells::Timestamp { values, .. } => {
                size_of_val(values.as_slice())
            }
            Cells::Float4(values) => size_of_val(values.as_slice()),
            Cells::Float8(values) | Cells::NumericDouble(values) => size_of_val(values.as_slice()),
            Cells::Decimal { values, .. } | Cells::Wide { values, .. } => size_of_val(values.as_slice()),
            Cells::Strings(strings) => strings.values.len() + size_of_val(strings.offsets.as_slice()),
        }
    }
}

impl Strings {
    fn new(spelling: Spelling) -> Self {
        Strings { spelling, offsets: vec![0], values: Vec::new() }
    }

    #[inline]
    fn push_binary(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        match &self.spelling {
            Spelling::Same | Spelling::Bytea | Spelling::Ewkb => self.values.extend_from_slice(bytes),
            Spelling::Jsonb => match bytes.split_first() {
                Some((&JSONB_VERSION, text)) => self.values.extend_from_slice(text),
                _ => return Err(Reason::Malformed),
            },
            Spelling::Uuid => uuid(fixed(bytes)?, &mut self.values),
            Spelling::Time => {
                temporal::time_to_text(i64::from_be_bytes(fixed(bytes)?), &mut self.values)?;
            }
            Spelling::Numeric => numeric::binary_to_text(bytes, &mut self.values)?,
            Spelling::Rendered(shape) => render(shape, bytes, &mut self.values)?,
            Spelling::Unknown => return Err(Reason::BinaryUnknown),
        }
        self.end_value()
    }

    fn push_text(&mut self, text: &[u8]) -> Result<(), Reason> {
        match &self.spelling {
            Spelling::Same | Spelling::Jsonb | Spelling::Rendered(_) | Spelling::Unknown => {
                self.values.extend_from_slice(text);
            }
            // The old escape form is refused: it cannot be told from bad data.
            Spelling::Bytea => {
                let digits = text.strip_prefix(b"\\x").ok_or(Reason::Malformed)?;
                push_hex(digits, &mut self.values)?;
            }
            Spelling::Ewkb => push_hex(text, &mut self.values)?,
            Spelling::Uuid => uuid(parse_uuid(text)?, &mut self.values),
            Spelling::Time => temporal::time_to_text(temporal::text_to_time(text)?, &mut self.values)?,
            Spelling::Numeric => {
                numeric::check_text(text)?;
                self.values.extend_from_slice(text);
            }
        }
        self.end_value()
    }

    #[inline]
    fn end_value(&mut self) -> Result<(), Reason> {
        let end = i32::try_from(self.values.len()).map_err(|_| Reason::BatchTooLarge)?;
        self.offsets.push(end);
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        // Offsets are never negative and there is always one: they come from lengths.
        let end = self.offsets.last().and_then(|&end| usize::try_from(end).ok()).unwrap_or(0);
        self.values.truncate(end);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, Reason> {
        let fresh = Strings::new(self.spelling.clone());
        let Strings { spelling, offsets, values } = std::mem::replace(self, fresh);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        if matches!(spelling, Spelling::Bytea | Spelling::Ewkb) {
            let array = BinaryArray::try_new(offsets, values.into(), nulls).map_err(|_| Reason::Misuse)?;
            return Ok(Arc::new(array));
        }
        // Here all values of the column are checked for UTF-8 at once, and that none begins or ends within
        // a character.
        let array = StringArray::try_new(offsets, values.into(), nulls).map_err(|_| Reason::NotUtf8)?;
        Ok(Arc::new(array))
    }
}

fn hex_digit(digit: u8) -> Result<u8, Reason> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Reason::Malformed),
    }
}

fn parse_uuid(text: &[u8]) -> Result<[u8; 16], Reason> {
    let text: [u8; 36] = fixed(text)?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return Err(Reason::Malformed);
            }
            at += 1;
        }
        *byte = hex_digit(text[at])? << 4 | hex_digit(text[at + 1])?;
        at += 2;
    }
    Ok(bytes)
}

/// Hexadecimal digits.
fn push_hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Reason::Malformed);
    }
    for &[high, low] in pairs {
        out.push(hex_digit(high)? << 4 | hex_digit(low)?);
    }
    Ok(())
}
