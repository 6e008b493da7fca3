//! Dates, times and intervals as PostgreSQL writes them: ISO, UTC, interval style `postgres`.

use super::{Bytes, number};
use crate::pgoutput::reason::Reason;
use crate::pgoutput::temporal::time_to_text;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;
const SECOND: i64 = 1_000_000;
/// Days from 0000-03-01, where the arithmetic begins, to 2000-01-01.
const EPOCH: i64 = 730_425;

/// Year, month and day of a day counted from 2000-01-01; the year before 1 is 0. Howard Hinnant's
/// `civil_from_days`: years begin in March, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// Writes a day and says whether it is before Christ, which stands at the end.
fn day(days: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil(days);
    let bc = year <= 0;
    number(out, format_args!("{:04}-{month:02}-{day:02}", if bc { 1 - year } else { year }));
    bc
}

/// Days since 2000-01-01.
pub(super) fn date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            if day(days.into(), out) {
                out.extend_from_slice(b" BC");
            }
        }
    }
}

/// Microseconds since 2000-01-01.
pub(super) fn timestamp(micros: i64, zoned: bool, out: &mut Vec<u8>) -> Result<(), Reason> {
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        _ => {
            let bc = day(micros.div_euclid(DAY), out);
            out.push(b' ');
            time_to_text(micros.rem_euclid(DAY), out)?;
            if zoned {
                out.extend_from_slice(b"+00");
            }
            if bc {
                out.extend_from_slice(b" BC");
            }
        }
    }
    Ok(())
}

/// A time of day, and the seconds by which its zone is *behind* UTC.
pub(super) fn time_with_zone(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    time_to_text(bytes.i64()?, out)?;
    let behind = bytes.i32()?;
    bytes.end()?;
    let (sign, seconds) = (if behind > 0 { '-' } else { '+' }, behind.unsigned_abs());
    number(out, format_args!("{sign}{:02}", seconds / 3600));
    if !seconds.is_multiple_of(3600) {
        number(out, format_args!(":{:02}", seconds / 60 % 60));
    }
    if !seconds.is_multiple_of(60) {
        number(out, format_args!(":{:02}", seconds % 60));
    }
    Ok(())
}

/// Microseconds, days and months, none of which says anything of the others.
pub(super) fn interval(bytes: &[u8], infinities: bool, out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let (micros, days, months) = (bytes.i64()?, bytes.i32()?, bytes.i32()?);
    bytes.end()?;
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) if infinities => out.extend_from_slice(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) if infinities => out.extend_from_slice(b"-infinity"),
        _ => finite(micros, days, months, out),
    }
    Ok(())
}

fn finite(micros: i64, days: i32, months: i32, out: &mut Vec<u8>) {
    let start = out.len();
    // A part is given its plus only after a negative one.
    let mut after_negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        let blank = if out.len() > start { " " } else { "" };
        let plus = if after_negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        number(out, format_args!("{blank}{plus}{count} {unit}{plural}"));
        after_negative = count < 0;
    }
    if micros == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(b' ');
    }
    if micros < 0 {
        out.push(b'-');
    } else if after_negative {
        out.push(b'+');
    }
    let micros = i128::from(micros).abs();
    let part = |unit: i64| micros / i128::from(unit);
    number(out, format_args!("{:02}:{:02}:{:02}", part(HOUR), part(MINUTE) % 60, part(SECOND) % 60));
    let fraction = micros % i128::from(SECOND);
    if fraction != 0 {
        number(out, format_args!(".{fraction:06}"));
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}
