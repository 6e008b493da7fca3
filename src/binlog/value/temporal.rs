//! Dates and times: how they are packed, and what they are.

use super::super::reason::Reason;
use super::super::snapshot::Cell;

/// A date and a time of day as the server keeps it: it may be none that a calendar has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Moment {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    micros: u32,
}

/// The fraction of a second behind a packed time: one byte per two digits, big-endian.
#[inline]
fn fraction(bytes: &[u8], digits: u8) -> Result<u32, Reason> {
    let value = match *bytes {
        [] => 0,
        [a] => u32::from(a) * 10_000,
        [a, b] => u32::from(u16::from_be_bytes([a, b])) * 100,
        [a, b, c] => u32::from_be_bytes([0, a, b, c]),
        _ => return Err(Reason::Malformed),
    };
    if bytes.len() != usize::from(digits).div_ceil(2) || value > 999_999 {
        return Err(Reason::Malformed);
    }
    Ok(value)
}

/// `timestamp`: seconds since 1970, microseconds.
#[inline]
pub(super) fn timestamp(bytes: &[u8], digits: u8) -> Result<(u32, u32), Reason> {
    let (seconds, rest) = bytes.split_first_chunk::<4>().ok_or(Reason::Malformed)?;
    Ok((u32::from_be_bytes(*seconds), fraction(rest, digits)?))
}

#[expect(clippy::cast_possible_truncation, reason = "masked, or the remainder of a small number")]
impl Moment {
    /// `date`: 15 bits of year, 4 of month, 5 of day.
    #[inline]
    pub(super) fn of_date(packed: u32) -> Self {
        Moment {
            year: (packed >> 9) as u16,
            month: (packed >> 5 & 15) as u8,
            day: (packed & 31) as u8,
            ..Moment::default()
        }
    }

    /// `datetime`: a bit that is always set, 17 bits of year and month, 5 of day, 5, 6 and 6 of the time.
    #[inline]
    pub(super) fn packed(bytes: &[u8], digits: u8) -> Result<Self, Reason> {
        let (&[a, b, c, d, e], rest) = bytes.split_first_chunk::<5>().ok_or(Reason::Malformed)?;
        let whole = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]);
        let value = whole.checked_sub(0x80_0000_0000).ok_or(Reason::Malformed)?;
        let months = value >> 22;
        Ok(Moment {
            year: u16::try_from(months / 13).map_err(|_| Reason::Malformed)?,
            month: (months % 13) as u8,
            day: (value >> 17 & 31) as u8,
            hour: (value >> 12 & 31) as u8,
            minute: (value >> 6 & 63) as u8,
            second: (value & 63) as u8,
            micros: fraction(rest, digits)?,
        })
    }

    /// The old `datetime`: `YYYYMMDDhhmmss` as a number.
    pub(super) fn digits(value: u64) -> Result<Self, Reason> {
        let (date, time) = (value / 1_000_000, value % 1_000_000);
        Ok(Moment {
            year: u16::try_from(date / 10_000).map_err(|_| Reason::Malformed)?,
            month: (date / 100 % 100) as u8,
            day: (date % 100) as u8,
            hour: (time / 10_000) as u8,
            minute: (time / 100 % 100) as u8,
            second: (time % 100) as u8,
            micros: 0,
        })
    }

    /// From a result row: `2020-01-31`, `2020-01-31 10:11:12.5`, or taken apart.
    pub(super) fn of_cell(cell: Cell<'_>) -> Result<Self, Reason> {
        match cell {
            Cell::Moment { year, month, day, hour, minute, second, micros } => {
                Ok(Moment { year, month, day, hour, minute, second, micros })
            }
            Cell::Bytes(text) => Moment::parse(text).ok_or(Reason::Malformed),
            _ => Err(Reason::Malformed),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2], time) = text.split_first_chunk::<10>()? else {
            return None;
        };
        let year = u16::from(two(y1, y2)?) * 100 + u16::from(two(y3, y4)?);
        let mut moment = Moment { year, month: two(m1, m2)?, day: two(d1, d2)?, ..Moment::default() };
        if time.is_empty() {
            return Some(moment);
        }
        let (&[b' ', h1, h2, b':', n1, n2, b':', s1, s2], rest) = time.split_first_chunk::<9>()? else {
            return None;
        };
        (moment.hour, moment.minute, moment.second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
        moment.micros = fraction_text(rest)?;
        Some(moment)
    }

    /// Days since 1970. `None`: no calendar has this date.
    #[inline]
    pub(super) fn days(&self) -> Option<i32> {
        let (year, month, day) = (i32::from(self.year), i32::from(self.month), i32::from(self.day));
        if !(1..=12).contains(&month) || day < 1 || (day > 28 && day > length_of_month(year, month)) {
            return None;
        }
        // Years from March on, in eras of 400 years: the day that a leap year adds is the last.
        let from_march = year - i32::from(month <= 2);
        let era = from_march.div_euclid(400);
        let of_era = from_march.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    /// Microseconds since midnight.
    #[inline]
    pub(super) fn micros_of_day(&self) -> Result<i64, Reason> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.micros > 999_999 {
            return Err(Reason::Malformed);
        }
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        Ok(seconds * 1_000_000 + i64::from(self.micros))
    }

    /// As the server writes it within JSON: `2020-01-31 10:11:12.500000`; a date alone without the time.
    pub(super) fn write_json(&self, date_only: bool, out: &mut Vec<u8>) {
        let Moment { year, month, day, .. } = self;
        out.extend(format!("{year:04}-{month:02}-{day:02}").bytes());
        if !date_only {
            let Moment { hour, minute, second, micros, .. } = self;
            out.extend(format!(" {hour:02}:{minute:02}:{second:02}.{micros:06}").bytes());
        }
    }

    /// The 64 bits that JSON packs a date or a date and time in: as [`Moment::packed`], with 24 bits of microseconds
    /// behind.
    pub(super) fn of_json(packed: u64) -> Result<Self, Reason> {
        let (whole, micros) = (packed >> 24, (packed & 0xFF_FFFF) as u32);
        let bytes = (whole | 0x80_0000_0000).to_be_bytes();
        let moment = Moment::packed(bytes.get(3..).unwrap_or_default(), 0)?;
        Ok(Moment { micros, ..moment })
    }
}

fn length_of_month(year: i32, month: i32) -> i32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

/// `` or `.5` to `.500000`.
fn fraction_text(text: &[u8]) -> Option<u32> {
    let Some(digits) = text.strip_prefix(b".") else { return text.is_empty().then_some(0) };
    if digits.is_empty() || digits.len() > 6 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = digits.iter().chain(std::iter::repeat_n(&b'0', 6 - digits.len()));
    Some(padded.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
}

/// A `time`: not of a day, but a span up to 838 hours either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Clock {
    negative: bool,
    hours: u32,
    minutes: u8,
    seconds: u8,
    micros: u32,
}

/// Beyond it the server has no time.
const MAX_HOURS: u32 = 838;

#[expect(clippy::cast_possible_truncation, reason = "masked, or the remainder of a small number")]
impl Clock {
    /// Since MySQL 5.6: three bytes of sign and time, then the fraction; below zero all of it as one negative number.
    #[inline]
    pub(super) fn packed(bytes: &[u8], digits: u8) -> Result<Self, Reason> {
        let (&[a, b, c], rest) = bytes.split_first_chunk::<3>().ok_or(Reason::Malformed)?;
        if rest.len() != usize::from(digits).div_ceil(2) {
            return Err(Reason::Malformed);
        }
        // A number of so many bits that says 0 by its highest bit alone; the fraction in its own unit.
        let tail = rest.iter().fold(0i64, |tail, &byte| tail << 8 | i64::from(byte));
        let shift = 8 * rest.len() as u32;
        let whole = i64::from(u32::from_be_bytes([0, a, b, c])) - 0x80_0000;
        let value = (whole << shift) + tail;
        let (negative, value) = (value < 0, value.unsigned_abs());
        let part = (value & ((1 << shift) - 1)) as u32;
        let micros = match rest.len() {
            1 => part * 10_000,
            2 => part * 100,
            _ => part,
        };
        Clock::of_bits(negative, (value >> shift) as u32, micros)
    }

    /// Ten bits of hours, six and six.
    fn of_bits(negative: bool, bits: u32, micros: u32) -> Result<Self, Reason> {
        let (hours, minutes, seconds) = (bits >> 12 & 1023, (bits >> 6 & 63) as u8, (bits & 63) as u8);
        Clock { negative, hours, minutes, seconds, micros }.checked()
    }

    fn checked(self) -> Result<Self, Reason> {
        let wrong = self.hours > MAX_HOURS || self.minutes > 59 || self.seconds > 59 || self.micros > 999_999;
        if wrong { Err(Reason::Malformed) } else { Ok(self) }
    }

    /// The old form: `hhmmss` as a number of three bytes with a sign.
    pub(super) fn digits([a, b, c]: [u8; 3]) -> Result<Self, Reason> {
        let value = i32::from_le_bytes([0, a, b, c]) >> 8;
        let digits = value.unsigned_abs();
        let (minutes, seconds) = ((digits / 100 % 100) as u8, (digits % 100) as u8);
        Clock { negative: value < 0, hours: digits / 10_000, minutes, seconds, micros: 0 }.checked()
    }

    /// The 64 bits that JSON packs a time in, with a sign.
    pub(super) fn of_json(packed: i64) -> Result<Self, Reason> {
        let value = packed.unsigned_abs();
        Clock::of_bits(packed < 0, (value >> 24) as u32, (value & 0xFF_FFFF) as u32)
    }

    /// From a result row.
    pub(super) fn of_cell(cell: Cell<'_>) -> Result<Self, Reason> {
        match cell {
            Cell::Time { negative, days, hours, minutes, seconds, micros } => {
                let hours = days.checked_mul(24).and_then(|days| days.checked_add(hours.into()));
                let hours = hours.ok_or(Reason::Malformed)?;
                Clock { negative, hours, minutes, seconds, micros }.checked()
            }
            Cell::Bytes(text) => Clock::parse(text).ok_or(Reason::Malformed)?.checked(),
            _ => Err(Reason::Malformed),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let colon = rest.iter().position(|&byte| byte == b':').filter(|at| (2..=3).contains(at))?;
        let (hours, rest) = rest.split_at_checked(colon)?;
        let (&[b':', m1, m2, b':', s1, s2], rest) = rest.split_first_chunk::<6>()? else { return None };
        let hours = std::str::from_utf8(hours).ok()?.parse().ok()?;
        let (minutes, seconds) = (two(m1, m2)?, two(s1, s2)?);
        Some(Clock { negative, hours, minutes, seconds, micros: fraction_text(rest)? })
    }

    /// As the server writes it, with so many digits of fraction.
    pub(super) fn write(&self, digits: u8, out: &mut Vec<u8>) -> Result<(), Reason> {
        let two = |value: u32| [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8];
        // A zero has no sign, however it was written.
        if self.negative && (self.hours, self.minutes, self.seconds, self.micros) != (0, 0, 0, 0) {
            out.push(b'-');
        }
        if self.hours > 99 {
            out.push(b'0' + (self.hours / 100) as u8);
        }
        out.extend(two(self.hours));
        out.push(b':');
        out.extend(two(self.minutes.into()));
        out.push(b':');
        out.extend(two(self.seconds.into()));
        if digits > 0 {
            out.push(b'.');
            let mut unit = 100_000;
            for _ in 0..digits.min(6) {
                out.push(b'0' + (self.micros / unit % 10) as u8);
                unit /= 10;
            }
        }
        Ok(())
    }
}
