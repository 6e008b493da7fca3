//! What a value is, whatever form it has on the wire.
//!
//! A [`Codec`] is compiled once per column. [`Codec::push_log`] takes the bytes of a row image, [`Codec::push_cell`]
//! a value of a result row; both end in the same calls of [`ColumnBuilder`], so that a value cannot depend on the way by
//! which it came.

mod decimal;
mod geometry;
mod json;
mod json_binary;
pub(super) mod json_diff;
mod network;
mod temporal;
mod text;

use super::charset::{self, Charset};
use super::column::ColumnBuilder;
use super::maria;
use super::reason::Reason;
use super::snapshot::Cell;
use super::sqltype::{IntSize, Policies, SqlType, ZeroDates, string_length};
use super::table_map::{FieldType, MapColumn};
use decimal::Layout;
use temporal::{Clock, Moment};

#[cfg(test)]
pub(super) use json_binary::to_text as json_to_text;

/// How long a value of a row image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// So many bytes.
    Fixed(usize),
    /// As many as the length says that stands before it, little-endian, so many bytes wide.
    Prefixed(usize),
}

/// How the bytes of a time type are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Era {
    /// Since MySQL 5.6: big-endian, with a fraction.
    Packed,
    /// Before that: decimal digits in a little-endian number. Tables that were never rebuilt, and MariaDB with
    /// `mysql56_temporal_format=OFF`.
    Digits,
}

/// How a column's values become Arrow.
#[derive(Clone, Debug)]
pub(super) enum Codec {
    Int {
        width: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal(Layout),
    Bool,
    Bits(u8),
    Year,
    Date,
    Time {
        fraction: u8,
        era: Era,
    },
    DateTime {
        fraction: u8,
        era: Era,
    },
    Timestamp {
        fraction: u8,
        era: Era,
    },
    Text(Charset),
    Bytes,
    /// `binary(n)`: the zeros at the end are not on the wire.
    Padded(usize),
    /// Labels, and the character set that result rows have them in.
    Enum(Vec<Box<[u8]>>, Charset),
    Set(Vec<Box<[u8]>>, Charset),
    Json,
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
    /// MariaDB's `COMPRESSED`, of text or bytes.
    Compressed(Option<Charset>),
}

/// What a value's way into a column needs beside the column.
pub(super) struct Context<'a> {
    zero_dates: ZeroDates,
    replaced: &'a mut u64,
    scratch: &'a mut Vec<u8>,
}

impl<'a> Context<'a> {
    pub(super) fn new(policies: Policies, replaced: &'a mut u64, scratch: &'a mut Vec<u8>) -> Self {
        Context { zero_dates: policies.zero_dates, replaced, scratch }
    }

    /// A date that no calendar has.
    #[cold]
    fn zero_date(&mut self, row: usize, column: &mut ColumnBuilder) -> Result<(), Reason> {
        match self.zero_dates {
            ZeroDates::Stop => Err(Reason::ZeroDate),
            ZeroDates::Null => {
                *self.replaced += 1;
                column.push_null(row);
                Ok(())
            }
        }
    }
}

/// Labels as UTF-8.
fn label_bytes(labels: &[String]) -> Vec<Box<[u8]>> {
    labels.iter().map(|label| label.as_bytes().into()).collect()
}

impl Codec {
    /// Of a column of a `TABLE_MAP`, whose type is `of`.
    ///
    /// # Errors
    /// The collation of a character set that we do not know; `None`: a layout that we do not know.
    pub(super) fn of_map(column: &MapColumn, of: &SqlType) -> Result<(Extent, Codec), Option<u16>> {
        let text = || column.collation.map_or(Some(Charset::Utf8mb4), Charset::of_collation);
        let text = || text().ok_or(column.collation);
        let wide = |length: u16| Extent::Prefixed(if length > 255 { 2 } else { 1 });
        let blob = Extent::Prefixed(column.meta[0].into());
        Ok(match column.field_type {
            FieldType::TIME2
            | FieldType::DATETIME2
            | FieldType::TIMESTAMP2
            | FieldType::TIME
            | FieldType::DATETIME
            | FieldType::TIMESTAMP => Codec::of_time(column.field_type, column.meta[0])?,
            FieldType::STRING => {
                let length = string_length(column.meta);
                let codec = match of {
                    SqlType::Char { .. } => Codec::Text(text()?),
                    SqlType::Uuid => Codec::Uuid,
                    SqlType::Inet4 => Codec::Inet4,
                    SqlType::Inet6 => Codec::Inet6,
                    _ => Codec::Padded(length.into()),
                };
                (wide(length), codec)
            }
            FieldType::VARCHAR | FieldType::VAR_STRING => {
                let codec = match of {
                    SqlType::Varchar { .. } => Codec::Text(text()?),
                    _ => Codec::Bytes,
                };
                (wide(column.meta()), codec)
            }
            FieldType::VARCHAR_COMPRESSED => {
                let charset = matches!(of, SqlType::Varchar { .. }).then(text).transpose()?;
                (wide(column.meta()), Codec::Compressed(charset))
            }
            FieldType::BLOB_COMPRESSED => {
                let charset = matches!(of, SqlType::Text(_)).then(text).transpose()?;
                (blob, Codec::Compressed(charset))
            }
            FieldType::BLOB => {
                let codec = if matches!(of, SqlType::Text(_)) { Codec::Text(text()?) } else { Codec::Bytes };
                (blob, codec)
            }
            FieldType::JSON => (blob, Codec::Json),
            FieldType::GEOMETRY => (blob, Codec::Geometry),
            FieldType::VECTOR => (blob, Codec::Vector),
            // The metadata's second byte: how wide the number is.
            FieldType::ENUM | FieldType::SET => {
                let width = usize::from(column.meta[1]);
                if !(1..=8).contains(&width) {
                    return Err(None);
                }
                (Extent::Fixed(width), Codec::of_result(of, charset::BINARY)?)
            }
            FieldType::BIT => {
                let bits = usize::from(column.meta[0]) + 8 * usize::from(column.meta[1]);
                (Extent::Fixed(bits.div_ceil(8)), Codec::of_result(of, charset::BINARY)?)
            }
            FieldType::NEWDECIMAL => {
                let layout = Layout::new(column.meta[0], column.meta[1]).ok_or(None)?;
                (Extent::Fixed(layout.bytes()), Codec::Decimal(layout))
            }
            _ => {
                let codec = Codec::of_result(of, charset::BINARY)?;
                let length = codec.fixed_length().ok_or(None)?;
                (Extent::Fixed(length), codec)
            }
        })
    }

    /// Bytes of a value in a row image, of types that are all of one length.
    fn fixed_length(&self) -> Option<usize> {
        match self {
            Codec::Int { width, .. } => Some((*width).into()),
            Codec::Float => Some(4),
            Codec::Double => Some(8),
            Codec::Year => Some(1),
            Codec::Date => Some(3),
            _ => None,
        }
    }

    fn of_time(field_type: FieldType, fraction: u8) -> Result<(Extent, Codec), Option<u16>> {
        let part = match fraction {
            0..=6 => usize::from(fraction).div_ceil(2),
            _ => return Err(None),
        };
        let (packed, digits) = (Era::Packed, Era::Digits);
        Ok(match field_type {
            FieldType::TIME2 => (Extent::Fixed(3 + part), Codec::Time { fraction, era: packed }),
            FieldType::DATETIME2 => (Extent::Fixed(5 + part), Codec::DateTime { fraction, era: packed }),
            FieldType::TIMESTAMP2 => (Extent::Fixed(4 + part), Codec::Timestamp { fraction, era: packed }),
            FieldType::TIME => (Extent::Fixed(3), Codec::Time { fraction: 0, era: digits }),
            FieldType::DATETIME => (Extent::Fixed(8), Codec::DateTime { fraction: 0, era: digits }),
            FieldType::TIMESTAMP => (Extent::Fixed(4), Codec::Timestamp { fraction: 0, era: digits }),
            _ => return Err(None),
        })
    }

    /// Of a column of a result row.
    ///
    /// # Errors
    /// As [`Codec::of_map`].
    pub(super) fn of_result(of: &SqlType, collation: u16) -> Result<Codec, Option<u16>> {
        let charset = || Charset::of_collation(collation).ok_or(Some(collation));
        Ok(match of {
            SqlType::Int { size, unsigned } => {
                let width = match size {
                    IntSize::Tiny => 1,
                    IntSize::Small => 2,
                    IntSize::Medium => 3,
                    IntSize::Int => 4,
                    IntSize::Big => 8,
                };
                Codec::Int { width, unsigned: *unsigned }
            }
            SqlType::Decimal { precision, scale, .. } => {
                Codec::Decimal(Layout::new(*precision, *scale).ok_or(None)?)
            }
            SqlType::Float { .. } => Codec::Float,
            SqlType::Double { .. } => Codec::Double,
            SqlType::Bit { bits: 1 } => Codec::Bool,
            SqlType::Bit { bits: bits @ 2..=64 } => Codec::Bits(*bits),
            SqlType::Bit { .. } => return Err(None),
            SqlType::Year => Codec::Year,
            SqlType::Date => Codec::Date,
            SqlType::Time { fraction } => Codec::Time { fraction: *fraction, era: Era::Packed },
            SqlType::DateTime { fraction } => Codec::DateTime { fraction: *fraction, era: Era::Packed },
            SqlType::Timestamp { fraction } => Codec::Timestamp { fraction: *fraction, era: Era::Packed },
            SqlType::Char { .. } | SqlType::Varchar { .. } | SqlType::Text(_) => Codec::Text(charset()?),
            SqlType::Binary { length } => Codec::Padded(usize::try_from(*length).map_err(|_| None)?),
            SqlType::Varbinary { .. } | SqlType::Blob(_) => Codec::Bytes,
            SqlType::Enum(labels) => Codec::Enum(label_bytes(labels), charset()?),
            SqlType::Set(labels) => Codec::Set(label_bytes(labels), charset()?),
            SqlType::Json => Codec::Json,
            SqlType::Geometry(_) => Codec::Geometry,
            SqlType::Vector { .. } => Codec::Vector,
            SqlType::Uuid => Codec::Uuid,
            SqlType::Inet4 => Codec::Inet4,
            SqlType::Inet6 => Codec::Inet6,
        })
    }

    /// The bytes of a row image, without the length that stood before them.
    #[inline]
    pub(super) fn push_log(
        &self,
        bytes: &[u8],
        row: usize,
        column: &mut ColumnBuilder,
        context: &mut Context<'_>,
    ) -> Result<(), Reason> {
        match self {
            Codec::Int { width, unsigned } => push_int(bytes, *width, *unsigned, column),
            Codec::Float => column.push_f32(f32::from_le_bytes(fixed(bytes)?)),
            Codec::Double => column.push_f64(f64::from_le_bytes(fixed(bytes)?)),
            Codec::Decimal(layout) => layout.push_packed(bytes, column, context.scratch),
            Codec::Bool => match bytes {
                [value @ 0..=1] => column.push_bool(row, *value == 1),
                _ => Err(Reason::Malformed),
            },
            Codec::Bits(bits) => column.push_with(true, |out| text::bits(bytes, *bits, out)),
            Codec::Year => {
                let [year] = fixed(bytes)?;
                column.push_int(if year == 0 { 0 } else { 1900 + i64::from(year) })
            }
            Codec::Date => {
                let [a, b, c] = fixed(bytes)?;
                push_date(Moment::of_date(u32::from_le_bytes([a, b, c, 0])), row, column, context)
            }
            Codec::Time { fraction, era } => {
                let clock = match era {
                    Era::Packed => Clock::packed(bytes, *fraction)?,
                    Era::Digits => Clock::digits(fixed(bytes)?)?,
                };
                column.push_with(true, |out| clock.write(*fraction, out))
            }
            Codec::DateTime { fraction, era } => {
                let moment = match era {
                    Era::Packed => Moment::packed(bytes, *fraction)?,
                    Era::Digits => Moment::digits(u64::from_le_bytes(fixed(bytes)?))?,
                };
                push_moment(moment, false, row, column, context)
            }
            Codec::Timestamp { fraction, era } => {
                let (seconds, micros) = match era {
                    Era::Packed => temporal::timestamp(bytes, *fraction)?,
                    Era::Digits => (u32::from_le_bytes(fixed(bytes)?), 0),
                };
                if seconds == 0 {
                    return context.zero_date(row, column);
                }
                column.push_timestamp(i64::from(seconds) * 1_000_000 + i64::from(micros), true)
            }
            Codec::Enum(labels, _) => {
                let number = uint(bytes)?;
                let label = text::label(labels, number)?;
                column.push_bytes(label, true)
            }
            Codec::Set(labels, _) => {
                let bits = uint(bytes)?;
                column.push_with(true, |out| text::set(labels, bits, out))
            }
            Codec::Json => column.push_with(true, |out| json_binary::to_text(bytes, out)),
            Codec::Uuid => column.push_with(true, |out| text::maria_uuid(bytes, out)),
            Codec::Inet4 => column.push_with(true, |out| network::inet4(bytes, out)),
            Codec::Inet6 => column.push_with(true, |out| network::inet6(bytes, out)),
            Codec::Compressed(charset) => {
                let value = maria::column_value(bytes).ok_or(Reason::Malformed)?;
                match charset {
                    Some(charset) => column.push_with(true, |out| charset.decode(&value, out)),
                    None => column.push_bytes(&value, false),
                }
            }
            Codec::Text(_) | Codec::Bytes | Codec::Padded(_) | Codec::Geometry | Codec::Vector => {
                self.push_stored(bytes, column)
            }
        }
    }

    /// Types whose bytes are the same in a row image and in a result row.
    #[inline]
    fn push_stored(&self, bytes: &[u8], column: &mut ColumnBuilder) -> Result<(), Reason> {
        match self {
            Codec::Text(charset) => column.push_with(true, |out| charset.decode(bytes, out)),
            Codec::Bytes => column.push_bytes(bytes, false),
            Codec::Padded(length) => column.push_with(false, |out| {
                out.extend_from_slice(bytes);
                match length.checked_sub(bytes.len()) {
                    Some(zeros) => out.extend(std::iter::repeat_n(0, zeros)),
                    None => return Err(Reason::Malformed),
                }
                Ok(())
            }),
            Codec::Geometry => column.push_with(false, |out| geometry::to_ewkb(bytes, out)),
            Codec::Vector => column.push_with(true, |out| text::vector(bytes, out)),
            _ => Err(Reason::Column),
        }
    }

    /// A value of a result row, not null.
    pub(super) fn push_cell(
        &self,
        cell: Cell<'_>,
        row: usize,
        column: &mut ColumnBuilder,
        context: &mut Context<'_>,
    ) -> Result<(), Reason> {
        match (self, cell) {
            (Codec::Int { .. } | Codec::Year, Cell::Int(value)) => column.push_int(value),
            (Codec::Int { .. } | Codec::Year, Cell::Unsigned(value)) => column.push_unsigned(value),
            (Codec::Int { unsigned: true, .. }, Cell::Bytes(text)) => column.push_unsigned(number(text)?),
            (Codec::Int { .. } | Codec::Year, Cell::Bytes(text)) => column.push_int(number(text)?),
            (Codec::Float, Cell::Float(value)) => column.push_f32(value),
            (Codec::Double, Cell::Double(value)) => column.push_f64(value),
            // `float` has six digits in text, `double(10,2)` two behind the point.
            (Codec::Float | Codec::Double, _) => Err(Reason::Lossy),
            (Codec::Decimal(layout), Cell::Bytes(text)) => layout.push_text(text, column),
            (Codec::Bool, Cell::Bytes([value @ 0..=1])) => column.push_bool(row, *value == 1),
            (Codec::Bool, _) => Err(Reason::Malformed),
            (Codec::Bits(bits), Cell::Bytes(bytes)) => {
                column.push_with(true, |out| text::bits(bytes, *bits, out))
            }
            (Codec::Date, cell) => push_date(Moment::of_cell(cell)?, row, column, context),
            (Codec::DateTime { .. }, cell) => {
                push_moment(Moment::of_cell(cell)?, false, row, column, context)
            }
            (Codec::Timestamp { .. }, cell) => {
                push_moment(Moment::of_cell(cell)?, true, row, column, context)
            }
            (Codec::Time { fraction, .. }, cell) => {
                let clock = Clock::of_cell(cell)?;
                column.push_with(true, |out| clock.write(*fraction, out))
            }
            (Codec::Enum(labels, charset), Cell::Bytes(label)) => {
                let scratch = &mut *context.scratch;
                scratch.clear();
                charset.decode(label, scratch)?;
                let known = scratch.is_empty() || labels.iter().any(|own| **own == **scratch);
                if known { column.push_bytes(scratch, true) } else { Err(Reason::UnknownLabel) }
            }
            (Codec::Set(_, charset), Cell::Bytes(text)) => {
                column.push_with(true, |out| charset.decode(text, out))
            }
            (Codec::Json, Cell::Bytes(text)) => column.push_bytes(text, true),
            (Codec::Uuid | Codec::Inet4 | Codec::Inet6, Cell::Bytes(text)) => column.push_bytes(text, true),
            (Codec::Compressed(Some(charset)), Cell::Bytes(bytes)) => {
                column.push_with(true, |out| charset.decode(bytes, out))
            }
            (Codec::Compressed(None), Cell::Bytes(bytes)) => column.push_bytes(bytes, false),
            (_, Cell::Bytes(bytes)) => self.push_stored(bytes, column),
            _ => Err(Reason::Malformed),
        }
    }
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    <[u8; N]>::try_from(bytes).map_err(|_| Reason::Malformed)
}

/// One to eight bytes, little-endian.
#[inline]
fn uint(bytes: &[u8]) -> Result<u64, Reason> {
    let mut wide = [0; 8];
    wide.get_mut(..bytes.len()).ok_or(Reason::Malformed)?.copy_from_slice(bytes);
    Ok(u64::from_le_bytes(wide))
}

/// A number's text form.
fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, Reason> {
    let plain = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let text = std::str::from_utf8(text).map_err(|_| Reason::Malformed)?;
    text.parse().ok().filter(|_| plain).ok_or(Reason::Malformed)
}

#[inline]
fn push_int(bytes: &[u8], width: u8, unsigned: bool, column: &mut ColumnBuilder) -> Result<(), Reason> {
    let value = match (width, unsigned) {
        (1, false) => i64::from(i8::from_le_bytes(fixed(bytes)?)),
        (1, true) => i64::from(u8::from_le_bytes(fixed(bytes)?)),
        (2, false) => i64::from(i16::from_le_bytes(fixed(bytes)?)),
        (2, true) => i64::from(u16::from_le_bytes(fixed(bytes)?)),
        (4, false) => i64::from(i32::from_le_bytes(fixed(bytes)?)),
        (4, true) => i64::from(u32::from_le_bytes(fixed(bytes)?)),
        (8, false) => i64::from_le_bytes(fixed(bytes)?),
        (8, true) => return column.push_unsigned(u64::from_le_bytes(fixed(bytes)?)),
        (_, unsigned) => {
            let [a, b, c] = fixed(bytes)?;
            let low = i32::from_le_bytes([0, a, b, c]);
            i64::from(if unsigned { (low.cast_unsigned() >> 8).cast_signed() } else { low >> 8 })
        }
    };
    column.push_int(value)
}

#[inline]
fn push_date(
    moment: Moment,
    row: usize,
    column: &mut ColumnBuilder,
    context: &mut Context<'_>,
) -> Result<(), Reason> {
    match moment.days() {
        Some(days) => column.push_date(days),
        None => context.zero_date(row, column),
    }
}

#[inline]
fn push_moment(
    moment: Moment,
    zoned: bool,
    row: usize,
    column: &mut ColumnBuilder,
    context: &mut Context<'_>,
) -> Result<(), Reason> {
    match moment.days() {
        Some(days) => {
            let micros = i64::from(days) * 86_400_000_000 + moment.micros_of_day()?;
            // 1970-01-01 00:00:00 of a `timestamp` is not storable: there, zero is the zero date.
            column.push_timestamp(micros, zoned)
        }
        None => context.zero_date(row, column),
    }
}
