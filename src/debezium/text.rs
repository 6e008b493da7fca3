//! What PostgreSQL's text forms say: they are what values of most types travel as (`docs/TYPES.md`).
//!
//! Every reader gives `None` for what is not of its form.

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// A month in microseconds: a twelfth of 365.25 days, as Debezium counts.
const MONTH: i128 = 2_629_800_000_000;

/// Days since 1970-01-01 of a civil date, proleptic Gregorian.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month, day.
pub(super) fn civil_of(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

/// MySQL's `time`: `-838:59:59.5`, in microseconds.
pub(super) fn span(text: &str) -> Option<i64> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let rest = parts.next().unwrap_or("0");
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if fraction.len() > 6 {
        return None;
    }
    let micros = number(&format!("{fraction:0<6}"))?;
    Some(sign * (((hours * 60 + minutes) * 60 + number(seconds)?) * 1_000_000 + micros))
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// `2016-11-04`, `0044-03-15 BC`, `infinity`: days since 1970-01-01.
pub(super) fn date(text: &str) -> Option<i32> {
    match text {
        "infinity" => return Some(i32::MAX),
        "-infinity" => return Some(i32::MIN),
        _ => {}
    }
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true));
    civil_date(text, is_bc)
}

fn civil_date(text: &str, is_bc: bool) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    let year = if is_bc { 1 - year } else { year };
    i32::try_from(days_of(year, month, day)).ok()
}

/// `13:51:30.123456`: microseconds; the hour has at least one digit.
pub(super) fn time(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (number(parts.next()?)?, number(parts.next()?)?);
    let seconds = parts.next().unwrap_or("0");
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let mut micros = 0;
    for at in 0..6 {
        let digit = fraction.as_bytes().get(at).map_or(Some(0), |d| d.is_ascii_digit().then(|| d - b'0'))?;
        micros = micros * 10 + i64::from(digit);
    }
    if fraction.len() > 6 {
        return None;
    }
    Some(((hours * 60 + minutes) * 60 + number(whole)?) * 1_000_000 + micros)
}

/// `13:51:30.123456+02:30:15`: microseconds of the day in UTC, not wrapped.
pub(super) fn time_with_zone(text: &str) -> Option<i64> {
    let at = text.rfind(['+', '-'])?;
    let (clock, zone) = (text.get(..at)?, text.get(at..)?);
    let (sign, zone) = match zone.strip_prefix('-') {
        Some(zone) => (-1, zone),
        None => (1, zone.strip_prefix('+')?),
    };
    let zone = if zone.contains(':') { time(zone)? } else { number(zone)? * 3_600_000_000 };
    Some(time(clock)? - sign * zone)
}

/// `2016-11-04 13:51:30.123456`, with `+00` or without, ` BC`, `infinity`: microseconds since 1970.
pub(super) fn timestamp(text: &str) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true));
    let (day, clock) = text.split_once(' ')?;
    let clock = clock.strip_suffix("+00").unwrap_or(clock);
    let days: i64 = civil_date(day, is_bc)?.into();
    days.checked_mul(DAY)?.checked_add(time(clock)?)
}

/// An interval's parts, each with its sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Interval {
    pub(super) months: i64,
    pub(super) days: i64,
    pub(super) micros: i64,
}

/// `1 year 2 mons -3 days +04:05:06.789`.
pub(super) fn interval(text: &str) -> Option<Interval> {
    let mut found = Interval::default();
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let (sign, rest) = match word.as_bytes().first()? {
            b'-' => (-1, word.get(1..)?),
            b'+' => (1, word.get(1..)?),
            _ => (1, word),
        };
        if rest.contains(':') {
            found.micros = sign * time(rest)?;
            continue;
        }
        let count = sign * number(rest)?;
        match words.next()? {
            "year" | "years" => found.months += count * 12,
            "mon" | "mons" => found.months += count,
            "day" | "days" => found.days += count,
            _ => return None,
        }
    }
    Some(found)
}

impl Interval {
    /// Microseconds; at the ends of 64 bits it stays there.
    pub(super) fn as_micros(self) -> i64 {
        let all = i128::from(self.months) * MONTH
            + i128::from(self.days) * i128::from(DAY)
            + i128::from(self.micros);
        i64::try_from(all).unwrap_or(if all < 0 { i64::MIN } else { i64::MAX })
    }

    /// `P1Y2M3DT4H5M6.78S`.
    pub(super) fn as_iso(self) -> String {
        let (seconds, fraction) = (self.micros / 1_000_000, self.micros % 1_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let sign = if self.micros < 0 && seconds == 0 && fraction != 0 { "-" } else { "" };
        let mut text = format!(
            "P{}Y{}M{}DT{hours}H{minutes}M{sign}{seconds}",
            self.months / 12,
            self.months % 12,
            self.days
        );
        if fraction != 0 {
            text.push('.');
            text.push_str(format!("{:06}", fraction.abs()).trim_end_matches('0'));
        }
        text.push('S');
        text
    }
}

/// An item of an array.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Item {
    Null,
    Text(String),
    /// Another dimension.
    Array(Vec<Item>),
}

/// `{1,"a b",NULL,{…}}`, `[0:1]={7,8}`.
pub(super) fn array(text: &str, delimiter: u8) -> Option<Vec<Item>> {
    let body = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    let bytes = body.as_bytes();
    let mut at = 0;
    let items = array_at(bytes, &mut at, delimiter, 0)?;
    (at == bytes.len()).then_some(items)
}

/// Dimensions that PostgreSQL allows.
const MAX_DIMENSIONS: usize = 6;

fn array_at(bytes: &[u8], at: &mut usize, delimiter: u8, depth: usize) -> Option<Vec<Item>> {
    if bytes.get(*at) != Some(&b'{') || depth >= MAX_DIMENSIONS {
        return None;
    }
    *at += 1;
    let mut items = Vec::new();
    if bytes.get(*at) == Some(&b'}') {
        *at += 1;
        return Some(items);
    }
    loop {
        items.push(match bytes.get(*at)? {
            b'{' => Item::Array(array_at(bytes, at, delimiter, depth + 1)?),
            b'"' => Item::Text(quoted(bytes, at)?),
            _ => bare(bytes, at, delimiter)?,
        });
        let next = *bytes.get(*at)?;
        *at += 1;
        if next == b'}' {
            return Some(items);
        }
        if next != delimiter {
            return None;
        }
    }
}

fn bare(bytes: &[u8], at: &mut usize, delimiter: u8) -> Option<Item> {
    let start = *at;
    while *bytes.get(*at)? != delimiter && bytes.get(*at) != Some(&b'}') {
        *at += 1;
    }
    let text = std::str::from_utf8(bytes.get(start..*at)?).ok()?;
    Some(if text == "NULL" { Item::Null } else { Item::Text(text.to_owned()) })
}

/// From the opening quote to behind the closing one; a backslash takes the next byte as it is.
fn quoted(bytes: &[u8], at: &mut usize) -> Option<String> {
    let mut value = Vec::new();
    *at += 1;
    loop {
        let mut byte = *bytes.get(*at)?;
        *at += 1;
        match byte {
            b'"' => return String::from_utf8(value).ok(),
            b'\\' => {
                byte = *bytes.get(*at)?;
                *at += 1;
            }
            _ => {}
        }
        value.push(byte);
    }
}

/// `"a"=>"1", "b"=>NULL`.
pub(super) fn hstore(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut pairs = Vec::new();
    while at < bytes.len() {
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key = quoted(bytes, &mut at)?;
        if bytes.get(at..at + 2) != Some(b"=>") {
            return None;
        }
        at += 2;
        let value = if bytes.get(at) == Some(&b'"') {
            Some(quoted(bytes, &mut at)?)
        } else {
            if bytes.get(at..at + 4) != Some(b"NULL") {
                return None;
            }
            at += 4;
            None
        };
        pairs.push((key, value));
        if at < bytes.len() {
            if bytes.get(at..at + 2) != Some(b", ") {
                return None;
            }
            at += 2;
        }
    }
    Some(pairs)
}

/// `(1.5,-2)`.
pub(super) fn point(text: &str) -> Option<(f64, f64)> {
    let (x, y) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some((x.parse().ok()?, y.parse().ok()?))
}

/// `[1,2,3]`.
pub(super) fn vector(text: &str) -> Option<Vec<f64>> {
    let body = text.strip_prefix('[')?.strip_suffix(']')?;
    body.split(',').map(|number| number.parse().ok()).collect()
}

/// `{1:0.5,3:2}/5`: places and values, and how many dimensions.
pub(super) fn sparse(text: &str) -> Option<(Vec<(i64, f64)>, i64)> {
    let (body, dimensions) = text.strip_prefix('{')?.split_once("}/")?;
    let pair = |pair: &str| {
        let (place, value) = pair.split_once(':')?;
        Some((place.parse().ok()?, value.parse().ok()?))
    };
    let pairs = body.split(',').filter(|pair| !pair.is_empty()).map(pair).collect::<Option<_>>()?;
    Some((pairs, dimensions.parse().ok()?))
}

/// `1010`: the number's bytes, the lowest first, without those that are zero at its end.
pub(super) fn bits(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len().div_ceil(8));
    for chunk in text.as_bytes().rchunks(8) {
        let mut byte = 0u8;
        for bit in chunk {
            byte = byte << 1
                | match bit {
                    b'0' => 0,
                    b'1' => 1,
                    _ => return None,
                };
        }
        bytes.push(byte);
    }
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Some(bytes)
}

/// `\x0102`.
pub(super) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(date("2016-11-04"), Some(17_109));
        assert_eq!(date("0044-03-15 BC"), Some(-735_160));
        assert_eq!(date("4713-01-01 BC"), Some(-2_440_550));
        assert_eq!(civil_of(-735_160), (-43, 3, 15));
        assert_eq!(time("24:00:00"), Some(DAY));
        assert_eq!(time("00:00:00.5"), Some(500_000));
        assert_eq!(time_with_zone("13:51:30.123456-05:30"), Some(time("19:21:30.123456").unwrap()));
        assert_eq!(time_with_zone("12:00:00+00:00:15"), Some(time("11:59:45").unwrap()));
        assert_eq!(timestamp("2016-11-04 13:51:30.123456+00"), Some(1_478_267_490_123_456));
        assert_eq!(timestamp("0044-03-15 12:00:00 BC"), Some(-63_517_780_800_000_000));
        for bad in ["", "2016", "2016-11", "x-1-1", "2016-1x-01"] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }

    #[test]
    fn intervals() {
        let all = interval("1 year 2 mons 3 days 04:05:06.78").unwrap();
        assert_eq!(all.as_micros(), 37_091_106_780_000);
        assert_eq!(all.as_iso(), "P1Y2M3DT4H5M6.78S");
        assert_eq!(interval("-1 days").unwrap().as_micros(), -86_400_000_000);
        assert_eq!(interval("-00:00:00.5").unwrap().as_iso(), "P0Y0M0DT0H0M-0.5S");
        assert_eq!(interval("178000000 years").unwrap().as_micros(), i64::MAX);
        assert_eq!(interval("1 fortnight"), None);
    }

    #[test]
    fn arrays() {
        let text = |t: &str| Item::Text(t.to_owned());
        assert_eq!(array("{}", b','), Some(vec![]));
        assert_eq!(
            array(r#"{a,"b c",NULL,"NULL","q\"x"}"#, b','),
            Some(vec![text("a"), text("b c"), Item::Null, text("NULL"), text("q\"x")])
        );
        assert_eq!(array("[0:1]={5,6}", b','), Some(vec![text("5"), text("6")]));
        assert_eq!(array("{{1},{2}}", b',').unwrap().len(), 2);
        for bad in ["", "{", "{a", "{a}b", "{\"a}", "{a;b}x"] {
            assert_eq!(array(bad, b','), None, "{bad}");
        }
    }

    #[test]
    fn others() {
        assert_eq!(bits("1000000000000001"), Some(vec![1, 0x80]));
        assert_eq!(bits("00000000"), Some(vec![]));
        assert_eq!(hex("\\x0aff"), Some(vec![10, 255]));
        assert_eq!(hex("\\x0"), None);
        assert_eq!(sparse("{1:1.5,3:2}/5"), Some((vec![(1, 1.5), (3, 2.0)], 5)));
        assert_eq!(
            hstore(r#""a"=>"1", "b"=>NULL"#),
            Some(vec![("a".into(), Some("1".into())), ("b".into(), None)])
        );
    }
}
