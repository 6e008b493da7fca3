//! `decimal`: groups of nine digits in four bytes, big-endian; what is left over on either side in fewer.
//!
//! The first bit is the sign, inverted; below zero all bits are.

use super::super::column::ColumnBuilder;
use super::super::reason::Reason;

/// Bytes of so many digits.
const WIDTH: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
const POWERS: [u32; 10] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
/// No decimal takes more bytes: 65 digits.
const MAX_BYTES: usize = 40;

/// How the digits of a `decimal(p,s)` are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::binlog) struct Layout {
    scale: u8,
    /// Digits of the first group before the point, which is not full.
    head: u8,
    /// Full groups before the point.
    groups: u8,
    /// Full groups behind it.
    fraction_groups: u8,
    /// Digits of the last group, which is not full.
    tail: u8,
}

impl Layout {
    /// `None`: there is no such type.
    pub(super) fn new(precision: u8, scale: u8) -> Option<Self> {
        let integer = precision.checked_sub(scale)?;
        ((1..=65).contains(&precision)).then_some(Layout {
            scale,
            head: integer % 9,
            groups: integer / 9,
            fraction_groups: scale / 9,
            tail: scale % 9,
        })
    }

    /// Bytes that a value takes.
    pub(super) fn bytes(&self) -> usize {
        let part = |digits: u8| usize::from(WIDTH.get(usize::from(digits)).copied().unwrap_or_default());
        part(self.head) + part(self.tail) + 4 * usize::from(self.groups + self.fraction_groups)
    }

    /// The groups of a value, each with its number of digits; `f` gets them from the left.
    #[inline]
    fn walk(&self, bytes: &[u8], mut f: impl FnMut(u32, u8) -> Result<(), Reason>) -> Result<bool, Reason> {
        let mut copy = [0u8; MAX_BYTES];
        let copy = copy.get_mut(..bytes.len()).filter(|copy| copy.len() == self.bytes());
        let copy = copy.ok_or(Reason::Malformed)?;
        copy.copy_from_slice(bytes);
        let negative = copy.first().is_some_and(|first| first & 0x80 == 0);
        if let Some(first) = copy.first_mut() {
            *first ^= 0x80;
        }
        if negative {
            copy.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let mut rest: &[u8] = copy;
        let mut group = |digits: u8| {
            let width = WIDTH.get(usize::from(digits)).copied().unwrap_or_default();
            let (part, after) = rest.split_at_checked(width.into()).ok_or(Reason::Malformed)?;
            rest = after;
            let value = part.iter().fold(0u32, |value, &byte| value << 8 | u32::from(byte));
            if value >= POWERS.get(usize::from(digits)).copied().unwrap_or_default() && digits > 0 {
                return Err(Reason::Malformed);
            }
            f(value, digits)
        };
        if self.head > 0 {
            group(self.head)?;
        }
        for _ in 0..self.groups + self.fraction_groups {
            group(9)?;
        }
        if self.tail > 0 {
            group(self.tail)?;
        }
        Ok(negative)
    }

    /// The packed form, into a column of decimals, doubles or text.
    #[inline]
    pub(super) fn push_packed(
        &self,
        bytes: &[u8],
        column: &mut ColumnBuilder,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Reason> {
        match column.decimal() {
            Some((precision, scale)) if self.fits() => {
                let mut value = 0u128;
                let negative = self.walk(bytes, |group, digits| {
                    let power = POWERS.get(usize::from(digits)).copied().unwrap_or(1);
                    value = value * u128::from(power) + u128::from(group);
                    Ok(())
                })?;
                column.push_decimal(scaled(value, negative, self.scale, precision, scale)?)
            }
            None if !column.is_double() => column.push_with(true, |out| self.write(bytes, out)),
            _ => {
                scratch.clear();
                self.write(bytes, scratch)?;
                push_text(scratch, column)
            }
        }
    }

    /// At most 38 digits, which 128 bits hold.
    #[inline]
    fn fits(&self) -> bool {
        let digits = u16::from(self.head)
            + 9 * (u16::from(self.groups) + u16::from(self.fraction_groups))
            + u16::from(self.tail);
        digits <= 38
    }

    /// The text form of a result row.
    pub(super) fn push_text(&self, text: &[u8], column: &mut ColumnBuilder) -> Result<(), Reason> {
        push_text(text, column)
    }

    /// The server's text: no zeros in front, all digits behind the point.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        let start = out.len();
        out.push(b'-');
        // The digits before the point: as many as the type has, and the point goes after them.
        let mut before = u16::from(self.head) + 9 * u16::from(self.groups);
        let negative = self.walk(bytes, |group, digits| {
            for place in (0..digits).rev() {
                if before == 0 {
                    out.push(b'.');
                    before = u16::MAX;
                }
                let power = POWERS.get(usize::from(place)).copied().unwrap_or(1);
                let digit = u8::try_from(group / power % 10).unwrap_or_default();
                // Zeros in front are left out, all but the one before the point.
                let first = out.len() == start + 1;
                if !(first && digit == 0 && before > 1 && before <= 65) {
                    out.push(b'0' + digit);
                }
                if before <= 65 {
                    before -= 1;
                }
            }
            Ok(())
        })?;
        // Of 0.5 the zero stands in no group if the type has no digit before the point.
        if out.get(start + 1) == Some(&b'.') {
            out.insert(start + 1, b'0');
        }
        let zero = out.get(start + 1..).unwrap_or_default().iter().all(|byte| matches!(byte, b'0' | b'.'));
        if !negative || zero {
            out.remove(start);
        }
        Ok(())
    }
}

/// At the column's scale.
#[inline]
fn scaled(value: u128, negative: bool, from: u8, precision: u8, scale: i8) -> Result<i128, Reason> {
    let more = u32::from(u8::try_from(scale).map_err(|_| Reason::DoesNotFit)?).checked_sub(from.into());
    let value = match more {
        Some(0) => value,
        Some(more) => {
            10u128.checked_pow(more).and_then(|power| value.checked_mul(power)).ok_or(Reason::DoesNotFit)?
        }
        None => return Err(Reason::DoesNotFit),
    };
    signed(value, negative, precision)
}

#[inline]
fn signed(value: u128, negative: bool, precision: u8) -> Result<i128, Reason> {
    // Of 38 digits the power is 10^38, below 2^127.
    let limit = 10u128.checked_pow(precision.into()).ok_or(Reason::DoesNotFit)?;
    if value >= limit {
        return Err(Reason::DoesNotFit);
    }
    let value = i128::try_from(value).map_err(|_| Reason::DoesNotFit)?;
    Ok(if negative { -value } else { value })
}

/// The server's text form, into a column of decimals, doubles or text.
fn push_text(text: &[u8], column: &mut ColumnBuilder) -> Result<(), Reason> {
    let (negative, rest) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (integer, fraction) = match rest.iter().position(|&byte| byte == b'.') {
        Some(point) => (rest.get(..point).unwrap_or_default(), rest.get(point + 1..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if integer.is_empty() || !digits(integer) || !digits(fraction) {
        return Err(Reason::Malformed);
    }
    let Some((precision, scale)) = column.decimal() else {
        if !column.is_double() {
            return column.push_bytes(text, true);
        }
        let text = std::str::from_utf8(text).map_err(|_| Reason::Malformed)?;
        return column.push_f64(text.parse().map_err(|_| Reason::Malformed)?);
    };
    let scale = usize::try_from(scale).map_err(|_| Reason::DoesNotFit)?;
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if beyond.iter().any(|&digit| digit != b'0') {
        return Err(Reason::DoesNotFit);
    }
    let padding = std::iter::repeat_n(&b'0', scale - kept.len());
    let mut value = 0u128;
    for digit in integer.iter().chain(kept).chain(padding) {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(u128::from(digit - b'0')));
        value = next.ok_or(Reason::DoesNotFit)?;
    }
    column.push_decimal(signed(value, negative, precision)?)
}

/// A decimal within JSON: precision, scale, the packed form.
pub(super) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let [precision, scale, packed @ ..] = bytes else { return Err(Reason::Malformed) };
    Layout::new(*precision, *scale).ok_or(Reason::Malformed)?.write(packed, out)
}
