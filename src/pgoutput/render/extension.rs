//! Types of extensions as their output functions write them: `hstore`, and pgvector's three.

use super::float::single;
use super::{Bytes, number};
use crate::pgoutput::reason::Reason;

/// `"a"=>"1", "b"=>NULL`
pub(super) fn hstore(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = bytes.count(8)?;
    for i in 0..count {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        quoted(bytes.counted()?.ok_or(Reason::Malformed)?, out);
        out.extend_from_slice(b"=>");
        match bytes.counted()? {
            Some(value) => quoted(value, out),
            None => out.extend_from_slice(b"NULL"),
        }
    }
    bytes.end()
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// `[1,2,3]`: a number of dimensions, two bytes that are not used, 32-bit numbers.
pub(super) fn vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    list(bytes, out, |bytes| bytes.f32())
}

/// The same of 16-bit numbers.
pub(super) fn half_vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    list(bytes, out, |bytes| bytes.u16().map(half))
}

fn list(
    bytes: &[u8],
    out: &mut Vec<u8>,
    next: impl Fn(&mut Bytes<'_>) -> Result<f32, Reason>,
) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let dimensions = bytes.u16()?;
    if bytes.u16()? != 0 {
        return Err(Reason::Malformed);
    }
    out.push(b'[');
    for i in 0..dimensions {
        if i > 0 {
            out.push(b',');
        }
        single(next(&mut bytes)?, out);
    }
    out.push(b']');
    bytes.end()
}

/// A 16-bit number; every one is a 32-bit number too.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (bits >> 10 & 0x1F, f32::from(bits & 0x3FF));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        0x1F if fraction == 0.0 => f32::INFINITY,
        0x1F => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// `{1:0.5,3:2}/5`: places count from one in the text, from zero in the bytes.
pub(super) fn sparse_vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let dimensions = bytes.i32()?;
    let count = usize::try_from(bytes.i32()?).map_err(|_| Reason::Malformed)?;
    if bytes.i32()? != 0 || dimensions < 0 {
        return Err(Reason::Malformed);
    }
    let mut places = Bytes(bytes.take(count.checked_mul(4).ok_or(Reason::Length)?)?);
    out.push(b'{');
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        let place = places.i32()?.checked_add(1).ok_or(Reason::Malformed)?;
        number(out, format_args!("{place}:"));
        single(bytes.f32()?, out);
    }
    number(out, format_args!("}}/{dimensions}"));
    bytes.end()
}
