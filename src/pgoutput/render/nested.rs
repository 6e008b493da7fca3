//! Arrays, ranges and composite values as PostgreSQL writes them.
//!
//! A part is written where it belongs and then looked at: only one that needs quotation marks is moved.

use super::{Bytes, render};
use crate::pgoutput::reason::Reason;
use crate::schema::{Scalar, Shape, ShapeField};

/// The most dimensions of an array (`MAXDIM`).
const MAX_DIMENSIONS: usize = 6;

/// What the server calls white space in all of these.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

/// Puts quotation marks around what was written from `start` on. `escape` is what goes before a quotation mark or
/// backslash within; `None`: it is doubled.
fn quote(out: &mut Vec<u8>, start: usize, escape: Option<u8>) {
    let text = out.split_off(start);
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(escape.unwrap_or(byte));
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// Counts of elements and lower bounds.
struct Dimensions {
    of: [(usize, i32); MAX_DIMENSIONS],
    count: usize,
}

impl Dimensions {
    /// Dimensions, whether there are nulls, element type, then length and lower bound of each.
    fn read(oid: u32, bytes: &mut Bytes<'_>) -> Result<Self, Reason> {
        let count = usize::try_from(bytes.i32()?).map_err(|_| Reason::Malformed)?;
        let nulls = bytes.i32()?;
        if count > MAX_DIMENSIONS || !matches!(nulls, 0 | 1) {
            return Err(Reason::Malformed);
        }
        if bytes.u32()? != oid {
            return Err(Reason::TypeChanged);
        }
        let mut dimensions = Dimensions { of: [(0, 1); MAX_DIMENSIONS], count };
        for place in dimensions.of.iter_mut().take(count) {
            let (len, lower) = (bytes.i32()?, bytes.i32()?);
            *place = (usize::try_from(len).map_err(|_| Reason::Malformed)?, lower);
            if len == 0 || lower.checked_add(len - 1).is_none() {
                return Err(Reason::Malformed);
            }
        }
        Ok(dimensions)
    }

    fn get(&self) -> &[(usize, i32)] {
        self.of.get(..self.count).unwrap_or_default()
    }

    /// All elements; each takes four bytes at least.
    fn elements(&self, bytes: &Bytes<'_>) -> Result<usize, Reason> {
        let product = self.get().iter().try_fold(1usize, |product, (len, _)| product.checked_mul(*len));
        match product {
            Some(_) if self.count == 0 => Ok(0),
            Some(elements) if elements <= bytes.0.len() / 4 => Ok(elements),
            _ => Err(Reason::Length),
        }
    }
}

/// `{1,2,NULL}`, `{{1,2},{3,4}}`, `[0:1]={7,8}`
pub(super) fn array(
    oid: u32,
    of: &Shape,
    delimiter: u8,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let dimensions = Dimensions::read(oid, &mut bytes)?;
    let elements = dimensions.elements(&bytes)?;
    if elements == 0 {
        out.extend_from_slice(b"{}");
        return bytes.end();
    }
    let dimensions = dimensions.get();
    if dimensions.iter().any(|&(_, lower)| lower != 1) {
        for &(len, lower) in dimensions {
            let upper = i64::from(lower) + i64::try_from(len).unwrap_or(i64::MAX) - 1;
            super::number(out, format_args!("[{lower}:{upper}]"));
        }
        out.push(b'=');
    }
    // How many dimensions begin or end at element `i`.
    let edges = |i: usize| {
        let mut size = 1usize;
        let full = dimensions.iter().rev().take_while(|(len, _)| {
            size = size.saturating_mul(*len);
            i.is_multiple_of(size)
        });
        full.count()
    };
    for i in 0..elements {
        if i > 0 {
            out.push(delimiter);
        }
        out.extend(std::iter::repeat_n(b'{', edges(i)));
        element(of, delimiter, bytes.counted()?, out)?;
        out.extend(std::iter::repeat_n(b'}', edges(i + 1)));
    }
    bytes.end()
}

fn element(of: &Shape, delimiter: u8, bytes: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    let Some(bytes) = bytes else {
        out.extend_from_slice(b"NULL");
        return Ok(());
    };
    render(of, bytes, out)?;
    let text = out.get(start..).unwrap_or_default();
    let special =
        |byte: u8| matches!(byte, b'"' | b'\\' | b'{' | b'}') || byte == delimiter || is_space(byte);
    if text.is_empty() || text.eq_ignore_ascii_case(b"NULL") || text.iter().any(|&byte| special(byte)) {
        quote(out, start, Some(b'\\'));
    }
    Ok(())
}

/// `1 2 3`: always of one dimension, from zero, without nulls.
pub(super) fn blanks(of: Scalar, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let (dimensions, _, _) = (bytes.i32()?, bytes.i32()?, bytes.u32()?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let count = bytes.i32()?;
            bytes.i32()?;
            usize::try_from(count).map_err(|_| Reason::Malformed)?
        }
        _ => return Err(Reason::Malformed),
    };
    for i in 0..count {
        if i > 0 {
            out.push(b' ');
        }
        let element = bytes.counted()?.ok_or(Reason::Malformed)?;
        super::scalar(of, element, out)?;
    }
    bytes.end()
}

const EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;
/// A bound that is null (never stored), and a hint of the GiST index.
const OTHERS: u8 = 0x20 | 0x40 | 0x80;

/// `empty`, `[1,10)`, `(,"2024-01-01 00:00:00"]`
pub(super) fn range(of: &Shape, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let flags = bytes.u8()?;
    if flags & OTHERS != 0 {
        return Err(Reason::Malformed);
    }
    if flags & EMPTY != 0 {
        out.extend_from_slice(b"empty");
        return bytes.end();
    }
    out.push(if flags & LOWER_INCLUSIVE != 0 { b'[' } else { b'(' });
    if flags & LOWER_INFINITE == 0 {
        bound(of, bytes.counted()?, out)?;
    }
    out.push(b',');
    if flags & UPPER_INFINITE == 0 {
        bound(of, bytes.counted()?, out)?;
    }
    out.push(if flags & UPPER_INCLUSIVE != 0 { b']' } else { b')' });
    bytes.end()
}

fn bound(of: &Shape, bytes: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    render(of, bytes.ok_or(Reason::Malformed)?, out)?;
    let text = out.get(start..).unwrap_or_default();
    let special =
        |byte: u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b'[' | b']' | b',') || is_space(byte);
    if text.is_empty() || text.iter().any(|&byte| special(byte)) {
        quote(out, start, None);
    }
    Ok(())
}

/// `{[1,3),[5,8)}`
pub(super) fn multirange(of: &Shape, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = bytes.count(5)?;
    out.push(b'{');
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        range(of, bytes.counted()?.ok_or(Reason::Malformed)?, out)?;
    }
    out.push(b'}');
    bytes.end()
}

/// `(1,"two words",)`
pub(super) fn composite(fields: &[ShapeField], bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    if usize::try_from(bytes.i32()?).ok() != Some(fields.len()) {
        return Err(Reason::TypeChanged);
    }
    out.push(b'(');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if bytes.u32()? != field.oid {
            return Err(Reason::TypeChanged);
        }
        let Some(value) = bytes.counted()? else { continue };
        let start = out.len();
        render(&field.shape, value, out)?;
        let text = out.get(start..).unwrap_or_default();
        let special = |byte: u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',') || is_space(byte);
        if text.is_empty() || text.iter().any(|&byte| special(byte)) {
            quote(out, start, None);
        }
    }
    out.push(b')');
    bytes.end()
}
