//! `numeric`, exactly: to a 128-bit integer at a scale, or to PostgreSQL's own text. Nothing is rounded.
//!
//! Binary form (`numeric_send`): four 16-bit words (groups, weight of the first group, sign, display
//! scale), then groups of four decimal digits. The value is the sum of `group[i] * 10000^(weight - i)`.

use super::reason::Reason;

/// `10^n` for all n that a decimal of 38 digits needs.
const POW10: [u128; 39] = {
    let mut table = [1u128; 39];
    let mut n = 1;
    while n < table.len() {
        table[n] = table[n - 1] * 10;
        n += 1;
    }
    table
};

/// The largest display scale (`NUMERIC_DSCALE_MASK`).
const MAX_DSCALE: u16 = 0x3FFF;

fn pow10(n: i32) -> Option<u128> {
    usize::try_from(n).ok().and_then(|n| POW10.get(n)).copied()
}

enum Sign {
    Plus,
    Minus,
    NaN,
    PlusInfinity,
    MinusInfinity,
}

struct Numeric<'a> {
    sign: Sign,
    weight: i32,
    dscale: u16,
    /// Two bytes each.
    groups: &'a [[u8; 2]],
}

impl<'a> Numeric<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        let (head, body) = bytes.split_first_chunk::<8>().ok_or(Reason::Length)?;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let [c0, c1, w0, w1, s0, s1, d0, d1] = *head;
        let (groups, odd) = body.as_chunks::<2>();
        if !odd.is_empty() || groups.len() != usize::from(word(c0, c1)) {
            return Err(Reason::Length);
        }
        let sign = match word(s0, s1) {
            0x0000 => Sign::Plus,
            0x4000 => Sign::Minus,
            0xC000 => Sign::NaN,
            0xD000 => Sign::PlusInfinity,
            0xF000 => Sign::MinusInfinity,
            _ => return Err(Reason::Malformed),
        };
        let dscale = word(d0, d1);
        if dscale > MAX_DSCALE {
            return Err(Reason::Malformed);
        }
        let weight = i32::from(i16::from_be_bytes([w0, w1]));
        Ok(Numeric { sign, weight, dscale, groups })
    }

    /// Group `i`, zero outside of what is stored.
    fn group(&self, i: i32) -> Result<u16, Reason> {
        match usize::try_from(i).ok().and_then(|i| self.groups.get(i)) {
            Some(&group) => checked_group(group),
            None => Ok(0),
        }
    }
}

fn checked_group(bytes: [u8; 2]) -> Result<u16, Reason> {
    let group = u16::from_be_bytes(bytes);
    if group > 9999 { Err(Reason::Malformed) } else { Ok(group) }
}

/// The binary form as an integer at `scale`: `12.5` at scale 2 is 1250.
#[inline]
pub(super) fn binary_to_decimal(bytes: &[u8], precision: u8, scale: i8) -> Result<i128, Reason> {
    let numeric = Numeric::parse(bytes)?;
    let negative = match numeric.sign {
        Sign::Plus => false,
        Sign::Minus => true,
        Sign::NaN | Sign::PlusInfinity | Sign::MinusInfinity => return Err(Reason::NotANumber),
    };
    let value = magnitude(&numeric, i32::from(scale))?;
    signed(value, negative, precision)
}

fn signed(value: u128, negative: bool, precision: u8) -> Result<i128, Reason> {
    let limit = POW10.get(usize::from(precision)).ok_or(Reason::DoesNotFit)?;
    if value >= *limit {
        return Err(Reason::DoesNotFit);
    }
    let value = value.cast_signed();
    Ok(if negative { -value } else { value })
}

#[inline]
fn magnitude(numeric: &Numeric<'_>, scale: i32) -> Result<u128, Reason> {
    // Powers of ten of the units in which the last stored group counts, at this scale.
    let Ok(stored) = i32::try_from(numeric.groups.len()) else { return Err(Reason::Length) };
    let last = (numeric.weight - (stored - 1)) * 4 + scale;
    if numeric.groups.len() <= 4 && (-3..=2).contains(&last) {
        return small(numeric.groups, last).map(u128::from);
    }
    large(numeric, scale)
}

/// Up to four groups, the last of which counts in units of `10^last`, -3 to 2: fits 64 bits. Nearly all
/// values are of this kind; 128-bit arithmetic would cost three times as much.
#[inline]
fn small(groups: &[[u8; 2]], last: i32) -> Result<u64, Reason> {
    let Some((&tail, head)) = groups.split_last() else { return Ok(0) };
    let mut value = 0u64;
    for &group in head {
        value = value * 10_000 + u64::from(checked_group(group)?);
    }
    let tail = u64::from(checked_group(tail)?);
    let split = |value: u64, up: u64, down: u64| {
        if tail % down == 0 { Ok(value * up + tail / down) } else { Err(Reason::DoesNotFit) }
    };
    match last {
        -3 => split(value, 10, 1000),
        -2 => split(value, 100, 100),
        -1 => split(value, 1000, 10),
        0 => Ok(value * 10_000 + tail),
        1 => Ok((value * 10_000 + tail) * 10),
        _ => Ok((value * 10_000 + tail) * 100),
    }
}

fn large(numeric: &Numeric<'_>, scale: i32) -> Result<u128, Reason> {
    let mut value = 0u128;
    // Each group is at most 9999, so the exponent after which it cannot fit is reached long before i32's end.
    let mut exponent = numeric.weight * 4 + scale;
    for &group in numeric.groups {
        let group = u128::from(checked_group(group)?);
        if group != 0 {
            let term = if exponent >= 0 {
                pow10(exponent).and_then(|unit| unit.checked_mul(group)).ok_or(Reason::DoesNotFit)?
            } else {
                let unit = pow10(-exponent).ok_or(Reason::DoesNotFit)?;
                if group % unit != 0 {
                    return Err(Reason::DoesNotFit);
                }
                group / unit
            };
            value = value.checked_add(term).ok_or(Reason::DoesNotFit)?;
        }
        exponent -= 4;
    }
    Ok(value)
}

/// The binary form as PostgreSQL prints it, appended to `out`. At most 131,072 digits before the point and
/// 16,383 after it, whatever the bytes say.
pub(super) fn binary_to_text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let numeric = Numeric::parse(bytes)?;
    match numeric.sign {
        Sign::NaN => out.extend_from_slice(b"NaN"),
        Sign::PlusInfinity => out.extend_from_slice(b"Infinity"),
        Sign::MinusInfinity => out.extend_from_slice(b"-Infinity"),
        Sign::Plus => digits(&numeric, out)?,
        Sign::Minus => {
            out.push(b'-');
            digits(&numeric, out)?;
        }
    }
    Ok(())
}

fn digits(numeric: &Numeric<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let integer = out.len();
    for i in 0..=numeric.weight {
        push_group(out, numeric.group(i)?);
    }
    // Leading zeros go, the last digit before the point stays.
    let zeros = out.iter().skip(integer).take_while(|&&digit| digit == b'0').count();
    let zeros = if integer + zeros == out.len() { zeros.saturating_sub(1) } else { zeros };
    out.drain(integer..integer + zeros);
    if out.len() == integer {
        out.push(b'0');
    }
    let mut next = numeric.weight + 1;
    if numeric.dscale > 0 {
        out.push(b'.');
        let end = out.len() + usize::from(numeric.dscale);
        while out.len() < end {
            push_group(out, numeric.group(next)?);
            next += 1;
        }
        if out.drain(end..).any(|digit| digit != b'0') {
            return Err(Reason::Malformed);
        }
    }
    // The server rounds to the display scale: digits that it does not display cannot be.
    let rest = numeric.groups.iter().skip(usize::try_from(next).unwrap_or(0));
    if rest.into_iter().any(|&group| group != [0, 0]) { Err(Reason::Malformed) } else { Ok(()) }
}

fn push_group(out: &mut Vec<u8>, group: u16) {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(group / 1000), digit(group / 100), digit(group / 10), digit(group)]);
}

/// A text form, taken apart.
enum Text<'a> {
    NaN,
    PlusInfinity,
    MinusInfinity,
    Finite { negative: bool, integer: &'a [u8], fraction: &'a [u8] },
}

fn parse_text(text: &[u8]) -> Result<Text<'_>, Reason> {
    match text {
        b"NaN" => return Ok(Text::NaN),
        b"Infinity" => return Ok(Text::PlusInfinity),
        b"-Infinity" => return Ok(Text::MinusInfinity),
        _ => {}
    }
    let (negative, rest) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let (integer, fraction) = match rest.iter().position(|&byte| byte == b'.') {
        Some(point) => {
            let (integer, fraction) = rest.split_at(point);
            (integer, fraction.get(1..).filter(|part| digits(part)).ok_or(Reason::Malformed)?)
        }
        None => (rest, &b""[..]),
    };
    if !digits(integer) {
        return Err(Reason::Malformed);
    }
    Ok(Text::Finite { negative, integer, fraction })
}

/// The text form as an integer at `scale`.
pub(super) fn text_to_decimal(text: &[u8], precision: u8, scale: i8) -> Result<i128, Reason> {
    let Text::Finite { negative, integer, fraction } = parse_text(text)? else {
        return Err(Reason::NotANumber);
    };
    let scale = usize::try_from(scale).map_err(|_| Reason::DoesNotFit)?;
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if beyond.iter().any(|&digit| digit != b'0') {
        return Err(Reason::DoesNotFit);
    }
    let padding = std::iter::repeat_n(&b'0', scale - kept.len());
    let mut value = 0u128;
    for digit in integer.iter().chain(kept).chain(padding) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u128::from(digit - b'0')))
            .ok_or(Reason::DoesNotFit)?;
    }
    signed(value, negative, precision)
}

/// Checks that `text` is a numeric's text form.
pub(super) fn check_text(text: &[u8]) -> Result<(), Reason> {
    parse_text(text).map(|_| ())
}

/// The nearest double of a text form; beyond the range of a double is an error, as in the server.
pub(super) fn text_to_double(text: &[u8]) -> Result<f64, Reason> {
    match parse_text(text)? {
        Text::NaN => Ok(f64::NAN),
        Text::PlusInfinity => Ok(f64::INFINITY),
        Text::MinusInfinity => Ok(f64::NEG_INFINITY),
        Text::Finite { .. } => {
            let text = std::str::from_utf8(text).map_err(|_| Reason::Malformed)?;
            let value: f64 = text.parse().map_err(|_| Reason::Malformed)?;
            if value.is_finite() { Ok(value) } else { Err(Reason::OutOfRange) }
        }
    }
}
