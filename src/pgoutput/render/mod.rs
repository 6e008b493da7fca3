//! From a type's binary form to PostgreSQL's own text form of the value.
//!
//! What is written is what the type's output function writes under the settings that every connection of ours
//! pins (`DateStyle` ISO, `IntervalStyle` postgres, `TimeZone` UTC, `extra_float_digits` 3, `bytea_output` hex,
//! `lc_monetary` C): a value that the server sent as text is byte for byte the same. `tests/it/every_type.rs` holds
//! the two together on real servers.
//!
//! No bytes make this panic, and none make it recurse deeper than the type is nested or allocate by a number
//! that was not checked against the bytes at hand. What is not in the form of its type is an error.

mod extension;
mod float;
mod geometry;
mod nested;
mod network;
mod search;
mod time;

use super::numeric;
use super::reason::Reason;
use super::temporal;
use crate::schema::{Scalar, Shape};
use std::io::Write;

/// The version byte before `jsonb`, `jsonpath` and the types of `ltree`.
const VERSION: u8 = 1;
/// The longest value that a server holds or prints (`MaxAllocSize`).
const LONGEST: usize = 0x3FFF_FFFF;

/// Appends the text form of a value in its binary form.
pub(super) fn render(shape: &Shape, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    match shape {
        Shape::Scalar(scalar) => self::scalar(*scalar, bytes, out)?,
        Shape::Array { oid, of, delimiter } => nested::array(*oid, of, *delimiter, bytes, out)?,
        Shape::Blanks(scalar) => nested::blanks(*scalar, bytes, out)?,
        Shape::Range(of) => nested::range(of, bytes, out)?,
        Shape::Multirange(of) => nested::multirange(of, bytes, out)?,
        Shape::Composite(fields) => nested::composite(fields, bytes, out)?,
    }
    if out.len() - start > LONGEST { Err(Reason::OutOfRange) } else { Ok(()) }
}

fn scalar(scalar: Scalar, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    match scalar {
        Scalar::Bool => match bytes {
            [0] => out.push(b'f'),
            [1] => out.push(b't'),
            [_] => return Err(Reason::Malformed),
            _ => return Err(Reason::Length),
        },
        Scalar::Int2 => number(out, format_args!("{}", i16::from_be_bytes(fixed(bytes)?))),
        Scalar::Int4 => number(out, format_args!("{}", i32::from_be_bytes(fixed(bytes)?))),
        Scalar::Int8 => number(out, format_args!("{}", i64::from_be_bytes(fixed(bytes)?))),
        Scalar::Unsigned4 => number(out, format_args!("{}", u32::from_be_bytes(fixed(bytes)?))),
        Scalar::Unsigned8 => number(out, format_args!("{}", u64::from_be_bytes(fixed(bytes)?))),
        Scalar::Float4 => float::single(f32::from_be_bytes(fixed(bytes)?), out),
        Scalar::Float8 => float::double(f64::from_be_bytes(fixed(bytes)?), out),
        Scalar::Numeric => numeric::binary_to_text(bytes, out)?,
        Scalar::Money => money(i64::from_be_bytes(fixed(bytes)?), out),
        Scalar::Text => out.extend_from_slice(bytes),
        Scalar::Versioned => match bytes.split_first() {
            Some((&VERSION, text)) => out.extend_from_slice(text),
            _ => return Err(Reason::Malformed),
        },
        Scalar::Char => char(fixed(bytes)?, out),
        Scalar::Bytea => {
            out.extend_from_slice(b"\\x");
            hex(bytes, HEX, out);
        }
        Scalar::Uuid => uuid(fixed(bytes)?, out),
        Scalar::Bits => bits(bytes, out)?,
        Scalar::Date => time::date(i32::from_be_bytes(fixed(bytes)?), out),
        Scalar::Time => temporal::time_to_text(i64::from_be_bytes(fixed(bytes)?), out)?,
        Scalar::TimeTz => time::time_with_zone(bytes, out)?,
        Scalar::Timestamp => time::timestamp(i64::from_be_bytes(fixed(bytes)?), false, out)?,
        Scalar::TimestampTz => time::timestamp(i64::from_be_bytes(fixed(bytes)?), true, out)?,
        Scalar::Interval { infinities } => time::interval(bytes, infinities, out)?,
        Scalar::Inet => network::address(bytes, out)?,
        Scalar::Macaddr => network::hardware::<6>(fixed(bytes)?, out),
        Scalar::Macaddr8 => network::hardware::<8>(fixed(bytes)?, out),
        Scalar::Point => geometry::point(bytes, out)?,
        Scalar::Line => geometry::line(bytes, out)?,
        Scalar::Lseg => geometry::segment(bytes, out)?,
        Scalar::Box => geometry::rectangle(bytes, out)?,
        Scalar::Path => geometry::path(bytes, out)?,
        Scalar::Polygon => geometry::polygon(bytes, out)?,
        Scalar::Circle => geometry::circle(bytes, out)?,
        Scalar::TsVector => search::vector(bytes, out)?,
        Scalar::TsQuery => search::query(bytes, out)?,
        Scalar::Lsn => {
            let lsn = u64::from_be_bytes(fixed(bytes)?);
            number(out, format_args!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF));
        }
        Scalar::Tid => {
            let [b0, b1, b2, b3, o0, o1] = fixed(bytes)?;
            let (block, offset) = (u32::from_be_bytes([b0, b1, b2, b3]), u16::from_be_bytes([o0, o1]));
            number(out, format_args!("({block},{offset})"));
        }
        Scalar::Snapshot => snapshot(bytes, out)?,
        Scalar::Hstore => extension::hstore(bytes, out)?,
        Scalar::Vector => extension::vector(bytes, out)?,
        Scalar::Halfvec => extension::half_vector(bytes, out)?,
        Scalar::Sparsevec => extension::sparse_vector(bytes, out)?,
        Scalar::Ewkb => hex(bytes, HEX_UPPER, out),
    }
    Ok(())
}

/// Bytes that are still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Reason::Length)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Reason> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Reason> {
        self.array().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Reason> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Reason> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Reason> {
        self.array().map(i64::from_be_bytes)
    }

    fn f32(&mut self) -> Result<f32, Reason> {
        self.array().map(f32::from_be_bytes)
    }

    fn f64(&mut self) -> Result<f64, Reason> {
        self.array().map(f64::from_be_bytes)
    }

    /// A number of things that take at least `least` bytes each.
    fn count(&mut self, least: usize) -> Result<usize, Reason> {
        let count = usize::try_from(self.i32()?).map_err(|_| Reason::Malformed)?;
        if count > self.0.len() / least.max(1) { Err(Reason::Length) } else { Ok(count) }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Reason::Length)?;
        self.0 = rest;
        Ok(head)
    }

    /// A length, then so many bytes; -1: null.
    fn counted(&mut self) -> Result<Option<&'a [u8]>, Reason> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| Reason::Malformed)?).map(Some),
        }
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<&'a [u8], Reason> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Reason::Length)?;
        let text = self.take(end)?;
        self.u8()?;
        Ok(text)
    }

    fn end(&self) -> Result<(), Reason> {
        if self.0.is_empty() { Ok(()) } else { Err(Reason::Length) }
    }
}

/// Exactly `N` bytes.
pub(super) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    bytes.try_into().map_err(|_| Reason::Length)
}

/// Appends formatted text; writing into a vector does not fail.
fn number(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    drop(out.write_fmt(text));
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

fn hex(bytes: &[u8], digits: &[u8; 16], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        out.extend([digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
    }
}

/// Lower case with hyphens.
pub(super) fn uuid(bytes: [u8; 16], out: &mut Vec<u8>) {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
}

/// `-$1,234.56`: the C locale has neither currency nor digits of fraction, and PostgreSQL then takes these.
fn money(cents: i64, out: &mut Vec<u8>) {
    let magnitude = cents.unsigned_abs();
    out.extend_from_slice(if cents < 0 { b"-$" } else { b"$" });
    let whole = (magnitude / 100).to_string();
    for (i, digit) in whole.bytes().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(b',');
        }
        out.push(digit);
    }
    number(out, format_args!(".{:02}", magnitude % 100));
}

/// One byte. Those that are no ASCII are written in octal, as the server does since PostgreSQL 16.
fn char([byte]: [u8; 1], out: &mut Vec<u8>) {
    match byte {
        0 => {}
        1..=0x7F => out.push(byte),
        _ => number(out, format_args!("\\{byte:03o}")),
    }
}

fn bits(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = usize::try_from(bytes.i32()?).map_err(|_| Reason::Malformed)?;
    let packed = bytes.take(count.div_ceil(8))?;
    bytes.end()?;
    out.extend((0..count).map(|i| b'0' + (packed[i / 8] >> (7 - i % 8) & 1)));
    Ok(())
}

/// `xmin:xmax:xip,…`
fn snapshot(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = usize::try_from(bytes.i32()?).map_err(|_| Reason::Malformed)?;
    let (xmin, xmax) = (bytes.i64()?.cast_unsigned(), bytes.i64()?.cast_unsigned());
    if bytes.0.len() / 8 < count {
        return Err(Reason::Length);
    }
    number(out, format_args!("{xmin}:{xmax}:"));
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        number(out, format_args!("{}", bytes.i64()?.cast_unsigned()));
    }
    bytes.end()
}
