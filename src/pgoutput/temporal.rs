//! Dates and times: proleptic Gregorian, our own arithmetic, every step checked.
//!
//! PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01. A calendar crate would end at year 262142 and
//! know no 24:00:00; PostgreSQL goes from 4713 BC to 5874897 (dates) and 294276 (timestamps).

use super::reason::Reason;

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY;

/// A date or timestamp in Arrow's count, or one of the infinities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Moment<T> {
    /// Days or microseconds since 1970-01-01.
    Finite(T),
    /// `infinity` or `-infinity`: the type's greatest or least value.
    Infinite(T),
}

/// The binary form of a date: days since 2000-01-01.
#[inline]
pub(super) fn date(days: i32) -> Result<Moment<i32>, Reason> {
    if days == i32::MAX || days == i32::MIN {
        return Ok(Moment::Infinite(days));
    }
    days.checked_add(EPOCH_DAYS).map(Moment::Finite).ok_or(Reason::OutOfRange)
}

/// The binary form of a timestamp: microseconds since 2000-01-01. The last years that PostgreSQL knows,
/// from 294247 on, are beyond Arrow's microseconds.
#[inline]
pub(super) fn timestamp(micros: i64) -> Result<Moment<i64>, Reason> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(Moment::Infinite(micros));
    }
    micros.checked_add(EPOCH_MICROS).map(Moment::Finite).ok_or(Reason::OutOfRange)
}

/// A time of day in microseconds, as PostgreSQL prints it, appended to `out`.
pub(super) fn time_to_text(micros: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
    if !(0..=DAY).contains(&micros) {
        return Err(Reason::Malformed);
    }
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let two = |out: &mut Vec<u8>, n: i64| {
        out.extend([n / 10, n % 10].map(|digit| b"0123456789"[usize::try_from(digit).unwrap_or(0) % 10]));
    };
    two(out, seconds / 3600);
    out.push(b':');
    two(out, seconds / 60 % 60);
    out.push(b':');
    two(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        for pair in [fraction / 10_000, fraction / 100 % 100, fraction % 100] {
            two(out, pair);
        }
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    Ok(())
}

/// A place in a text form.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    /// Takes `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        match self.0.split_first() {
            Some((&first, rest)) if first == byte => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// `byte` must be next.
    fn must(&mut self, byte: u8) -> Result<(), Reason> {
        if self.take(byte) { Ok(()) } else { Err(Reason::Malformed) }
    }

    /// A number of `min` to `max` digits (at most 9), and how many it had.
    fn number(&mut self, min: usize, max: usize) -> Result<(i64, usize), Reason> {
        let len = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at_checked(len).ok_or(Reason::Malformed)?;
        if len < min || rest.first().is_some_and(u8::is_ascii_digit) {
            return Err(Reason::Malformed);
        }
        self.0 = rest;
        Ok((digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')), len))
    }

    /// A number of two digits, at most `limit`.
    fn two(&mut self, limit: i64) -> Result<i64, Reason> {
        let (number, _) = self.number(2, 2)?;
        if number > limit { Err(Reason::Malformed) } else { Ok(number) }
    }

    fn end(&self) -> Result<(), Reason> {
        if self.0.is_empty() { Ok(()) } else { Err(Reason::Malformed) }
    }

    /// `YYYY-MM-DD`, the year of four to seven digits.
    fn date(&mut self) -> Result<(i64, i64, i64), Reason> {
        let (year, _) = self.number(4, 7)?;
        self.must(b'-')?;
        let month = self.two(12)?;
        self.must(b'-')?;
        Ok((year, month, self.two(31)?))
    }

    /// `HH:MM:SS[.ffffff]` in microseconds.
    fn time(&mut self) -> Result<i64, Reason> {
        let hours = self.two(24)?;
        self.must(b':')?;
        let minutes = self.two(59)?;
        self.must(b':')?;
        let seconds = self.two(59)?;
        let mut micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
        if self.take(b'.') {
            let (fraction, len) = self.number(1, 6)?;
            micros += (len..6).fold(fraction, |value, _| value * 10);
        }
        if micros > DAY { Err(Reason::Malformed) } else { Ok(micros) }
    }

    /// `+HH[:MM[:SS]]` in microseconds.
    fn offset(&mut self) -> Result<i64, Reason> {
        let negative = self.take(b'-');
        if !negative {
            self.must(b'+')?;
        }
        let mut seconds = self.two(15)? * 3600;
        if self.take(b':') {
            seconds += self.two(59)? * 60;
            if self.take(b':') {
                seconds += self.two(59)?;
            }
        }
        Ok(if negative { -seconds } else { seconds } * 1_000_000)
    }

    /// The rest is nothing, or ` BC`.
    fn before_christ(&mut self) -> Result<bool, Reason> {
        if self.take(b' ') {
            self.must(b'B')?;
            self.must(b'C')?;
            return self.end().map(|()| true);
        }
        self.end().map(|()| false)
    }
}

/// Days from 1970-01-01 to a date; 1 BC is year 0 of the arithmetic.
fn days((year, month, day): (i64, i64, i64), bc: bool) -> Result<i64, Reason> {
    if year == 0 || month == 0 || day == 0 {
        return Err(Reason::Malformed);
    }
    let year = if bc { 1 - year } else { year };
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if day > length {
        return Err(Reason::Malformed);
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Ok(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The text form of a date.
pub(super) fn text_to_date(text: &[u8]) -> Result<Moment<i32>, Reason> {
    match text {
        b"infinity" => return Ok(Moment::Infinite(i32::MAX)),
        b"-infinity" => return Ok(Moment::Infinite(i32::MIN)),
        _ => {}
    }
    let mut scan = Scan(text);
    let date = scan.date()?;
    let bc = scan.before_christ()?;
    i32::try_from(days(date, bc)?).map(Moment::Finite).map_err(|_| Reason::OutOfRange)
}

/// The text form of a timestamp; with an offset if it is a `timestamptz`.
pub(super) fn text_to_timestamp(text: &[u8], zoned: bool) -> Result<Moment<i64>, Reason> {
    match text {
        b"infinity" => return Ok(Moment::Infinite(i64::MAX)),
        b"-infinity" => return Ok(Moment::Infinite(i64::MIN)),
        _ => {}
    }
    let mut scan = Scan(text);
    let date = scan.date()?;
    scan.must(b' ')?;
    let time = scan.time()?;
    if time == DAY {
        return Err(Reason::Malformed);
    }
    let offset = if zoned { scan.offset()? } else { 0 };
    let bc = scan.before_christ()?;
    // In 128 bits nothing overflows; only the result must fit.
    let micros = i128::from(days(date, bc)?) * i128::from(DAY) + i128::from(time - offset);
    i64::try_from(micros).map(Moment::Finite).map_err(|_| Reason::OutOfRange)
}

/// The text form of a time of day, in microseconds.
pub(super) fn text_to_time(text: &[u8]) -> Result<i64, Reason> {
    let mut scan = Scan(text);
    let micros = scan.time()?;
    scan.end().map(|()| micros)
}
