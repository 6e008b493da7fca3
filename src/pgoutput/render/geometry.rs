//! Geometric types as PostgreSQL writes them: 64-bit numbers, two a point.

use super::Bytes;
use super::float::double;
use crate::pgoutput::reason::Reason;

/// `(x,y)`
fn pair(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
    out.push(b'(');
    double(bytes.f64()?, out);
    out.push(b',');
    double(bytes.f64()?, out);
    out.push(b')');
    Ok(())
}

fn pairs(count: usize, bytes: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        pair(bytes, out)?;
    }
    bytes.end()
}

pub(super) fn point(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    pairs(1, &mut Bytes(bytes), out)
}

/// `{A,B,C}`
pub(super) fn line(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    for before in [b'{', b',', b','] {
        out.push(before);
        double(bytes.f64()?, out);
    }
    out.push(b'}');
    bytes.end()
}

/// `[(x,y),(x,y)]`
pub(super) fn segment(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    out.push(b'[');
    pairs(2, &mut Bytes(bytes), out)?;
    out.push(b']');
    Ok(())
}

/// `(x,y),(x,y)`: upper right, lower left.
pub(super) fn rectangle(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    pairs(2, &mut Bytes(bytes), out)
}

/// `((x,y),…)` closed, `[(x,y),…]` open.
pub(super) fn path(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let (open, close) = match bytes.u8()? {
        0 => (b'[', b']'),
        1 => (b'(', b')'),
        _ => return Err(Reason::Malformed),
    };
    let count = bytes.count(16)?;
    out.push(open);
    pairs(count, &mut bytes, out)?;
    out.push(close);
    Ok(())
}

/// `((x,y),…)`
pub(super) fn polygon(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = bytes.count(16)?;
    out.push(b'(');
    pairs(count, &mut bytes, out)?;
    out.push(b')');
    Ok(())
}

/// `<(x,y),r>`
pub(super) fn circle(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    out.push(b'<');
    pair(&mut bytes, out)?;
    out.push(b',');
    double(bytes.f64()?, out);
    out.push(b'>');
    bytes.end()
}
