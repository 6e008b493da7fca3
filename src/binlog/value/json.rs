//! How MySQL spells JSON: blanks after `:` and `,`, numbers as `1.0` and `1e100`, few escapes.

use base64::Engine;

/// Text in quotes.
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        rest = after;
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0x08 => out.extend(b"\\b"),
            b'\t' => out.extend(b"\\t"),
            b'\n' => out.extend(b"\\n"),
            0x0C => out.extend(b"\\f"),
            b'\r' => out.extend(b"\\r"),
            other => out.extend(format!("\\u{other:04x}").bytes()),
        }
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Digits of a double before and behind the point, beyond which it is written with an exponent.
const PLAIN_DIGITS: i32 = 15;

/// A double: the shortest digits that read back as the same, with a point or an exponent.
pub(super) fn write_double(value: f64, out: &mut Vec<u8>) {
    // `1.25e-7`: digits and exponent by Rust's own shortest form.
    let text = format!("{:e}", value.abs());
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).collect();
    if value.is_sign_negative() {
        out.push(b'-');
    }
    // Where the point stands: digits before it.
    let point = exponent + 1;
    if !(1 - PLAIN_DIGITS..=PLAIN_DIGITS).contains(&point) {
        let (first, rest) = digits.split_first().unwrap_or((&b'0', &[]));
        out.push(*first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend(format!("e{exponent}").bytes());
        return;
    }
    if point <= 0 {
        out.extend(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(&digits);
        return;
    }
    let point = point.unsigned_abs() as usize;
    if digits.len() <= point {
        out.extend_from_slice(&digits);
        out.extend(std::iter::repeat_n(b'0', point - digits.len()));
        out.extend(b".0");
    } else {
        let (whole, fraction) = digits.split_at(point);
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

/// A value of another type: `"base64:type15:AQI="`.
pub(super) fn write_opaque(field_type: u8, bytes: &[u8], out: &mut Vec<u8>) {
    let mut text = format!("base64:type{field_type}:").into_bytes();
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    // The server's encoder breaks lines.
    for (i, line) in encoded.as_bytes().chunks(76).enumerate() {
        if i > 0 {
            text.push(b'\n');
        }
        text.extend_from_slice(line);
    }
    write_string(&text, out);
}
