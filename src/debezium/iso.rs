//! Days and moments as ISO 8601, in a few bytes of the stack.

use super::text::civil_of;

/// Text of digits and signs; as much as the longest moment has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    bytes: [u8; Short::MOST],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Short { bytes: [0; Short::MOST], length: 0 }
    }
}

impl Short {
    const MOST: usize = 48;

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        // Only ASCII was ever put in.
        std::str::from_utf8(self.bytes.get(..self.length).unwrap_or_default()).unwrap_or_default()
    }

    /// What has no room is left out; nothing that is written here is so long.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    #[inline]
    fn digit(&mut self, value: u64) {
        self.push(b'0' + u8::try_from(value % 10).unwrap_or(0));
    }

    #[inline]
    fn two(&mut self, value: u64) {
        self.digit(value / 10);
        self.digit(value);
    }

    /// `2016-11-04`; beyond four digits with a sign, as Java does.
    fn day(&mut self, days: i64) {
        let (year, month, day) = civil_of(days);
        match year {
            10_000.. => self.push(b'+'),
            ..=-1 => self.push(b'-'),
            _ => {}
        }
        let magnitude = year.unsigned_abs();
        if magnitude >= 10_000 {
            // No zeros before five digits or more.
            for byte in itoa::Buffer::new().format(magnitude).bytes() {
                self.push(byte);
            }
        } else {
            self.two(magnitude / 100);
            self.two(magnitude % 100);
        }
        self.push(b'-');
        self.two(month.into());
        self.push(b'-');
        self.two(day.into());
    }

    /// `13:51:30`.
    fn seconds(&mut self, micros: i64) {
        let seconds = micros.div_euclid(1_000_000).unsigned_abs();
        self.two(seconds / 3600);
        self.push(b':');
        self.two(seconds / 60 % 60);
        self.push(b':');
        self.two(seconds % 60);
    }

    /// Six digits of a second.
    fn fraction(&mut self, micros: i64) {
        let micros = micros.rem_euclid(1_000_000).unsigned_abs();
        self.push(b'.');
        self.two(micros / 10_000);
        self.two(micros / 100 % 100);
        self.two(micros % 100);
    }

    /// `13:51:30.5`: the fraction without zeros at its end.
    pub(super) fn clock(&mut self, micros: i64) {
        self.seconds(micros);
        if micros.rem_euclid(1_000_000) == 0 {
            return;
        }
        self.fraction(micros);
        while self.length > 0 && self.bytes.get(self.length - 1) == Some(&b'0') {
            self.length -= 1;
        }
    }

    fn word(text: &str) -> Short {
        let mut short = Short::default();
        text.bytes().for_each(|byte| short.push(byte));
        short
    }
}

const DAY: i64 = 86_400_000_000;

/// `2016-11-04Z`.
pub(super) fn date(days: i64) -> Short {
    let mut text = Short::default();
    text.day(days);
    text.push(b'Z');
    text
}

/// `2016-11-04T13:51:30.5Z`.
pub(super) fn timestamp(micros: i64) -> Short {
    let mut text = Short::default();
    text.day(micros.div_euclid(DAY));
    text.push(b'T');
    text.clock(micros.rem_euclid(DAY));
    text.push(b'Z');
    text
}

/// `13:51:30.5Z`.
pub(super) fn time_tz(micros: i64) -> Short {
    let mut text = Short::default();
    text.clock(micros.rem_euclid(DAY));
    text.push(b'Z');
    text
}

/// UTC with so many digits of fraction.
pub(super) fn zoned(digits: u8, micros: i64) -> Short {
    match micros {
        i64::MAX => return Short::word("infinity"),
        i64::MIN => return Short::word("-infinity"),
        _ => {}
    }
    let mut text = Short::default();
    text.day(micros.div_euclid(DAY));
    text.push(b'T');
    text.seconds(micros.rem_euclid(DAY));
    if digits > 0 {
        text.fraction(micros);
        text.length -= 6usize.saturating_sub(digits.into());
    }
    text.push(b'Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_java_prints_them() {
        assert_eq!(date(0).as_str(), "1970-01-01Z");
        assert_eq!(date(-719_529).as_str(), "-0001-12-31Z");
        assert_eq!(date(2_932_897).as_str(), "+10000-01-01Z");
        assert_eq!(date(-719_528).as_str(), "0000-01-01Z");
        assert_eq!(timestamp(1_234_500_000).as_str(), "1970-01-01T00:20:34.5Z");
        assert_eq!(timestamp(-1).as_str(), "1969-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(i64::MAX).as_str(), "+294247-01-10T04:00:54.775807Z");
        assert_eq!(time_tz(86_399_000_000).as_str(), "23:59:59Z");
        assert_eq!(zoned(6, 1).as_str(), "1970-01-01T00:00:00.000001Z");
        assert_eq!(zoned(3, 1_234_567).as_str(), "1970-01-01T00:00:01.234Z");
        assert_eq!(zoned(0, 1_999_999).as_str(), "1970-01-01T00:00:01Z");
        assert_eq!(zoned(6, i64::MAX).as_str(), "infinity");
        assert_eq!(zoned(6, i64::MIN).as_str(), "-infinity");
    }
}
