//! JSON as Kafka Connect's converter prints it (Jackson, Java numbers), straight into a buffer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::LowerExp;
use std::io::Write as _;

/// A quoted string: only the quote, the backslash and control characters are escaped, and characters beyond the
/// basic plane, as surrogate pairs.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text.as_bytes(), out);
    out.push(b'"');
}

/// Quoted, of text that holds nothing to be escaped.
#[inline]
pub(super) fn plain(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Whether none of eight bytes needs anything: no control character, quote or backslash, and none that begins a
/// character of four bytes.
#[inline]
fn is_plain(eight: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(eight);
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = has_zero(word ^ (ONES * u64::from(b'"')));
    let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
    let of_four = word & word << 1 & word << 2 & word << 3;
    (control | quote | backslash | of_four) & HIGH == 0
}

/// What stands between the quotes. Bytes that need nothing are copied in stretches.
fn escaped(bytes: &[u8], out: &mut Vec<u8>) {
    let mut plain = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from)
            && is_plain(eight)
        {
            at += 8;
            continue;
        }
        // The first byte of four: the others of UTF-8 stay as they are.
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte < 0xF0 {
            at += 1;
            continue;
        }
        out.extend_from_slice(bytes.get(plain..at).unwrap_or_default());
        let length = if byte >= 0xF0 { 4 } else { 1 };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            0xF0.. => surrogates(bytes.get(at..at + 4).unwrap_or_default(), out),
            _ => unit(u16::from(byte), out),
        }
        at += length;
        plain = at;
    }
    out.extend_from_slice(bytes.get(plain..).unwrap_or_default());
}

#[cold]
fn surrogates(bytes: &[u8], out: &mut Vec<u8>) {
    for c in std::str::from_utf8(bytes).unwrap_or_default().chars() {
        c.encode_utf16(&mut [0; 2]).iter().for_each(|&u| unit(u, out));
    }
}

#[cold]
fn unit(unit: u16, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.extend(DIGITS.get(usize::from(unit >> shift & 15)));
    }
}

/// A whole number.
#[inline]
pub(super) fn integer(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Bytes, quoted, in base64.
pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    let written = STANDARD.encode_slice(value, target).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// A double as `Double.toString` prints it; what is no number is quoted.
pub(super) fn double(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return not_finite(value.is_nan(), value > 0.0, out);
    }
    java(value.is_sign_negative(), value.is_subnormal(), value.abs(), out);
}

/// A float as `Float.toString` prints it.
pub(super) fn float(value: f32, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return not_finite(value.is_nan(), value > 0.0, out);
    }
    java(value.is_sign_negative(), value.is_subnormal(), value.abs(), out);
}

fn not_finite(is_nan: bool, is_positive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(match (is_nan, is_positive) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    });
}

/// Java's form of the shortest digits: plain from 10⁻³ to below 10⁷, else with an exponent; at least one digit of
/// fraction.
fn java<F: ryu::Float + LowerExp>(is_negative: bool, is_subnormal: bool, magnitude: F, out: &mut Vec<u8>) {
    if is_negative {
        out.push(b'-');
    }
    let mut buffer = ryu::Buffer::new();
    let mut text = buffer.format_finite(magnitude).as_bytes();
    // Java has two digits at least: `4.9E-324`. The second is none but zero, unless digits are as rare as here.
    let mut two = [0u8; 40];
    if is_subnormal
        && text.iter().take_while(|&&byte| byte != b'e').filter(|b| b.is_ascii_digit()).count() < 3
    {
        text = digits(&mut two, format_args!("{magnitude:.1e}"));
    }
    let at = text.iter().position(|&byte| byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(at);
    let exponent: i32 =
        std::str::from_utf8(exponent).ok().and_then(|e| e.get(1..)?.parse().ok()).unwrap_or(0);
    // The digits from the first that is not zero, and the power of ten of that one.
    let (mut shortest, mut count) = ([0u8; 20], 0);
    let (mut power, mut has_point) = (exponent - 1, false);
    for &byte in mantissa {
        match byte {
            b'.' => has_point = true,
            b'0' if count == 0 => power -= i32::from(has_point),
            digit => {
                power += i32::from(!has_point);
                if let Some(slot) = shortest.get_mut(count) {
                    *slot = digit;
                    count += 1;
                }
            }
        }
    }
    if count == 0 {
        return out.extend_from_slice(b"0.0");
    }
    while count > 1 && shortest.get(count - 1) == Some(&b'0') {
        count -= 1;
    }
    positioned(shortest.get(..count).unwrap_or_default(), power, out);
}

/// Formats into the buffer.
fn digits<'a>(buffer: &'a mut [u8; 40], text: std::fmt::Arguments<'_>) -> &'a [u8] {
    let mut rest = &mut buffer[..];
    // Forty bytes hold every double.
    let _written = rest.write_fmt(text);
    let left = rest.len();
    buffer.get(..40 - left).unwrap_or_default()
}

fn positioned(digits: &[u8], exponent: i32, out: &mut Vec<u8>) {
    match exponent {
        -3..=-1 => {
            out.extend_from_slice(b"0.");
            (1..-exponent).for_each(|_| out.push(b'0'));
            out.extend_from_slice(digits);
        }
        0..=6 => {
            let whole = usize::try_from(exponent).unwrap_or(0) + 1;
            let (before, behind) = digits.split_at(whole.min(digits.len()));
            out.extend_from_slice(before);
            (before.len()..whole).for_each(|_| out.push(b'0'));
            out.push(b'.');
            out.extend_from_slice(if behind.is_empty() { b"0" } else { behind });
        }
        _ => {
            let (first, rest) = digits.split_at(1.min(digits.len()));
            out.extend_from_slice(first);
            out.push(b'.');
            out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
            out.push(b'E');
            integer(exponent.into(), out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_as_java_prints_them() {
        let doubles = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (1e10, "1.0E10"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (123.456, "123.456"),
            (0.001, "0.001"),
            (1e-4, "1.0E-4"),
            (0.002, "0.002"),
            (1.5e300, "1.5E300"),
            (5e-324, "4.9E-324"),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ];
        for (value, text) in doubles {
            assert_eq!(shown(|out| double(value, out)), text);
        }
        assert_eq!(shown(|out| float(1e10, out)), "1.0E10");
        assert_eq!(shown(|out| float(f32::from_bits(1), out)), "1.4E-45");
        for value in [0, -1, i64::MAX, i64::MIN, 1234567890] {
            assert_eq!(shown(|out| integer(value, out)), value.to_string());
        }
    }

    /// Digits as the standard library finds them: of a sample of doubles and floats.
    #[test]
    fn digits_are_the_shortest_that_come_back() {
        let mut state = 7u64;
        for at in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = if at % 2 == 0 { f64::from_bits(state) } else { (state >> 40) as f64 / 1000.0 };
            if !value.is_finite() {
                continue;
            }
            let text = shown(|out| double(value, out));
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            let count = |text: &str| {
                let mantissa = text.split(['e', 'E']).next().unwrap().replace(['.', '-'], "");
                mantissa.trim_matches('0').len()
            };
            assert!(value.is_subnormal() || count(&text) == count(&format!("{value:e}")), "{text} {value:e}");
        }
    }

    #[test]
    fn every_place_of_eight_is_escaped() {
        for (what, escaped) in [('"', "\\\""), ('\\', "\\\\"), ('\n', "\\n"), ('😀', "\\uD83D\\uDE00")] {
            for at in 0..20 {
                let text = format!("{}{what}{}é\u{7f}", "x".repeat(at), "y".repeat(20 - at));
                let expected = format!("\"{}{escaped}{}é\u{7f}\"", "x".repeat(at), "y".repeat(20 - at));
                assert_eq!(shown(|out| string(&text, out)), expected);
            }
        }
    }

    #[test]
    fn text_is_escaped_as_by_jackson() {
        assert_eq!(shown(|out| string("a\"\\\n\u{1f}/é\u{2028}", out)), "\"a\\\"\\\\\\n\\u001F/é\u{2028}\"");
        assert_eq!(shown(|out| string("x😀y", out)), "\"x\\uD83D\\uDE00y\"");
    }

    #[test]
    fn bytes_in_base64() {
        for value in [&b""[..], b"a", b"ab", b"abc", b"abcd"] {
            assert_eq!(shown(|out| bytes(value, out)), format!("\"{}\"", STANDARD.encode(value)));
        }
    }
}
