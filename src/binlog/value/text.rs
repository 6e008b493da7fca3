//! Values that become text: labels, bits, vectors, MariaDB's `uuid`.

use super::super::reason::Reason;
use super::fixed;

/// The label of an `enum` by its number from 1 on. Zero stands for the empty text of an invalid value.
#[inline]
pub(super) fn label(labels: &[Box<[u8]>], number: u64) -> Result<&[u8], Reason> {
    match number.checked_sub(1) {
        None => Ok(&[]),
        Some(index) => {
            let index = usize::try_from(index).map_err(|_| Reason::UnknownLabel)?;
            labels.get(index).map(|label| &**label).ok_or(Reason::UnknownLabel)
        }
    }
}

/// The labels of a `set` by their bits, with commas between.
pub(super) fn set(labels: &[Box<[u8]>], bits: u64, out: &mut Vec<u8>) -> Result<(), Reason> {
    if labels.len() < 64 && bits >> labels.len() != 0 {
        return Err(Reason::UnknownLabel);
    }
    let mut first = true;
    for (index, label) in labels.iter().enumerate().take(64) {
        if bits >> index & 1 == 1 {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(label);
        }
    }
    Ok(())
}

/// `bit(n)`: big-endian bytes, as `n` digits.
pub(super) fn bits(bytes: &[u8], digits: u8, out: &mut Vec<u8>) -> Result<(), Reason> {
    if bytes.len() != usize::from(digits).div_ceil(8) {
        return Err(Reason::Malformed);
    }
    let value = bytes.iter().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    if digits < 64 && value >> digits != 0 {
        return Err(Reason::Malformed);
    }
    out.extend((0..digits).rev().map(|place| b'0' + u8::from(value >> place & 1 == 1)));
    Ok(())
}

/// `vector`: floats, as `[1,2.5]`, each with the fewest digits that read back as the same.
pub(super) fn vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let (entries, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Reason::Malformed);
    }
    out.push(b'[');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        float(f32::from_le_bytes(*entry), out);
    }
    out.push(b']');
    Ok(())
}

/// As PostgreSQL writes a float (and pgvector its entries): with an exponent below 1e-4 and from 1e6 on.
fn float(value: f32, out: &mut Vec<u8>) {
    if !value.is_finite() {
        let name = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        out.extend_from_slice(name.as_bytes());
        return;
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        out.extend(format!("{digits}e{sign}{:02}", exponent.unsigned_abs()).bytes());
        return;
    }
    out.extend(value.to_string().bytes());
}

/// MariaDB's `uuid`. Those of versions 1 to 5 are kept with their parts in an order that sorts by time: last part first.
pub(super) fn maria_uuid(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut stored = [0; 16];
    // Zeros at the end are not on the wire.
    stored.get_mut(..bytes.len()).ok_or(Reason::Malformed)?.copy_from_slice(bytes);
    let [a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5] = fixed(&stored)?;
    let turned = a6 & 0x80 != 0 && (0x10..0x60).contains(&a8);
    let plain =
        if turned { [b2, b3, b4, b5, b0, b1, a8, a9, a6, a7, a0, a1, a2, a3, a4, a5] } else { stored };
    for (i, byte) in plain.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend(format!("{byte:02x}").bytes());
    }
    Ok(())
}
