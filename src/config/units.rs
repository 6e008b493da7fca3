//! Durations and sizes with their units: `500ms`, `10s`, `256MiB`.
//!
//! A bare number is refused: every product reads it in another unit. Whole numbers only, one unit.

use super::problem::Refusal;
use std::time::Duration;

/// Units of time, in milliseconds, smallest first.
const TIME: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size, in bytes, smallest first. Binary before decimal, so that formatting prefers it.
const SIZE: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Reads `1s`, `500ms`, `2m`, `1h`, `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    parse(text, TIME, "duration", "s", |unit| match unit {
        "sec" | "secs" | "second" | "seconds" | "S" => Some("s"),
        "min" | "mins" | "minute" | "minutes" | "M" => Some("m"),
        "hour" | "hours" | "hr" | "H" => Some("h"),
        "day" | "days" | "D" => Some("d"),
        "msec" | "millis" | "milliseconds" | "MS" => Some("ms"),
        _ => None,
    })
    .map(Duration::from_millis)
}

/// Reads `256MiB`, `1GB`, `64KiB`, `100B`: bytes.
pub fn parse_size(text: &str) -> Result<u64, Refusal> {
    parse(text, SIZE, "size", "MiB", |unit| match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" | "ki" => Some("KiB"),
        "m" | "mb" | "mib" | "mi" => Some("MiB"),
        "g" | "gb" | "gib" | "gi" => Some("GiB"),
        "t" | "tb" | "tib" | "ti" => Some("TiB"),
        _ => None,
    })
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    kind: &str,
    usual: &str,
    guess: impl Fn(&str) -> Option<&'static str>,
) -> Result<u64, Refusal> {
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let refuse = |problem: String, advice: String| Err(Refusal::new(problem, advice));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if digits == 0 || unit.starts_with(['.', ',']) {
        return refuse(
            format!("is not a {kind}"),
            format!("write a whole number and a unit, such as 10{usual} (units: {})", names()),
        );
    }
    if unit.is_empty() {
        return refuse("has no unit".to_owned(), format!("write {number}{usual} (units: {})", names()));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let advice = match guess(unit) {
            Some(better) => format!("write {number}{better} (units: {})", names()),
            None => format!("use one of the units {}", names()),
        };
        return refuse(format!("has the unknown unit \"{unit}\""), advice);
    };
    match number.parse::<u64>().ok().and_then(|n| n.checked_mul(*factor)) {
        Some(value) => Ok(value),
        None => refuse("is too large".to_owned(), format!("write a smaller {kind}")),
    }
}

/// The shortest exact text. Fractions of a millisecond are not kept.
pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), TIME, "0s")
}

/// The shortest exact text.
pub fn format_size(bytes: u64) -> String {
    format(bytes, SIZE, "0B")
}

fn format(value: u64, units: &[(&str, u64)], zero: &str) -> String {
    if value == 0 {
        return zero.to_owned();
    }
    let exact = units.iter().filter(|(_, factor)| value.is_multiple_of(*factor));
    exact
        .map(|(name, factor)| format!("{}{name}", value / factor))
        .min_by_key(String::len)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn durations_round_trip(ms in 0..u64::MAX / 86_400_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn a_unit_multiplies(n in 0..1_000_000_u64, unit in 0..SIZE.len()) {
            let (name, factor) = SIZE[unit];
            prop_assert_eq!(parse_size(&format!("{n}{name}")), Ok(n * factor));
            prop_assert_eq!(parse_size(&format!("{n} {name}")), Ok(n * factor));
        }

        #[test]
        fn a_bare_number_is_refused_and_the_advice_is_taken(n: u32) {
            let refused = parse_duration(&n.to_string()).unwrap_err();
            prop_assert_eq!(refused.problem, "has no unit");
            let better = refused.advice.split(' ').nth(1).unwrap().to_owned();
            prop_assert_eq!(parse_duration(&better), Ok(Duration::from_secs(n.into())));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            prop_assert!(parse_size(&text).is_err() || text.as_bytes()[0].is_ascii_digit());
            prop_assert!(parse_duration(&text).is_err() || text.as_bytes()[0].is_ascii_digit());
        }
    }

    #[test]
    fn refusals_say_what_to_write() {
        let advice = |text| parse_size(text).unwrap_err().advice;
        assert!(advice("256M").starts_with("write 256MiB"));
        assert!(advice("256").starts_with("write 256MiB"));
        assert!(parse_duration("5min").unwrap_err().advice.starts_with("write 5m "));
        assert!(parse_duration("1.5s").is_err());
        assert!(parse_duration("-1s").is_err());
        assert_eq!(parse_size("99999999999TiB").unwrap_err().problem, "is too large");
    }
}
