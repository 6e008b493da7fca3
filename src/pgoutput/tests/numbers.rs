//! Numbers: numeric against arithmetic on strings, and the forms of the others.

use super::*;
use crate::pgoutput::{NumericUnbounded, Reason};
use proptest::prelude::*;

/// A numeric as the server would send it: made from its digits, by no arithmetic.
fn encode(negative: bool, integer: &str, fraction: &str) -> Vec<u8> {
    let padded = format!("{}{integer}", "0".repeat(integer.len().next_multiple_of(4) - integer.len()));
    let tail = format!("{fraction}{}", "0".repeat(fraction.len().next_multiple_of(4) - fraction.len()));
    let mut weight = (padded.len() / 4) as i16 - 1;
    let all = format!("{padded}{tail}");
    let mut groups: Vec<u16> = (0..all.len() / 4).map(|i| all[i * 4..i * 4 + 4].parse().unwrap()).collect();
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let zero = groups.is_empty();
    let sign = if negative && !zero { 0x4000 } else { 0 };
    let head = [groups.len() as u16, if zero { 0 } else { weight as u16 }, sign, fraction.len() as u16];
    head.into_iter().chain(groups).flat_map(u16::to_be_bytes).collect()
}

/// How PostgreSQL writes it.
fn spell(negative: bool, integer: &str, fraction: &str) -> String {
    let integer = integer.trim_start_matches('0');
    let zero = integer.is_empty() && fraction.bytes().all(|digit| digit == b'0');
    let sign = if negative && !zero { "-" } else { "" };
    let integer = if integer.is_empty() { "0" } else { integer };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{integer}{point}{fraction}")
}

/// What a decimal column must hold, by strings alone.
fn model(negative: bool, integer: &str, fraction: &str, precision: u8, scale: u8) -> Result<String, Reason> {
    let scale = usize::from(scale);
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if beyond.bytes().any(|digit| digit != b'0') {
        return Err(Reason::DoesNotFit);
    }
    let kept = format!("{kept}{}", "0".repeat(scale - kept.len()));
    let digits = format!("{integer}{kept}");
    if digits.trim_start_matches('0').len() > usize::from(precision) {
        return Err(Reason::DoesNotFit);
    }
    Ok(spell(negative, integer, &kept))
}

fn kind(precision: u8, scale: u8) -> ColumnKind {
    ColumnKind::Decimal { precision, scale: scale as i8 }
}

fn one(kind: impl Borrow<ColumnKind>, value: Value<'_>) -> Result<String, Reason> {
    decode_one(kind, Policies::default(), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn numeric_is_exact(
        negative: bool,
        integer in "0{0,9}[0-9]{1,45}",
        fraction in prop_oneof!["[0-9]{0,45}", "0{0,9}[0-9]{0,3}0{0,9}"],
        precision in 1u8..=38,
        scale_of in 0u8..=38,
    ) {
        let scale = scale_of.min(precision);
        let binary = encode(negative, &integer, &fraction);
        let spelled = spell(negative, &integer, &fraction);
        prop_assert_eq!(one(ColumnKind::NumericText, Value::Binary(&binary)), Ok(spelled.clone()));
        prop_assert_eq!(one(ColumnKind::NumericText, Value::Text(spelled.as_bytes())), Ok(spelled.clone()));
        let expected = model(negative, &integer, &fraction, precision, scale);
        prop_assert_eq!(one(kind(precision, scale), Value::Binary(&binary)), expected.clone());
        prop_assert_eq!(one(kind(precision, scale), Value::Text(spelled.as_bytes())), expected);
        let double: f64 = spelled.parse().unwrap();
        let bits = Ok(format!("{:016x}", double.to_bits()));
        prop_assert_eq!(one(ColumnKind::NumericDouble, Value::Binary(&binary)), bits.clone());
        prop_assert_eq!(one(ColumnKind::NumericDouble, Value::Text(spelled.as_bytes())), bits);
    }

    /// The common kind, where nearly every value fits.
    #[test]
    fn money_is_exact(cents in -999_999_999_999i64..=999_999_999_999) {
        let (integer, fraction) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
        let (integer, fraction) = (integer.to_string(), format!("{fraction:02}"));
        let expected = spell(cents < 0, &integer, &fraction);
        let binary = encode(cents < 0, &integer, &fraction);
        prop_assert_eq!(one(kind(12, 2), Value::Binary(&binary)), Ok(expected.clone()));
        prop_assert_eq!(one(kind(12, 2), Value::Text(expected.as_bytes())), Ok(expected));
    }

    #[test]
    fn integers_and_floats(bits: u64) {
        let (i8, i4, i2) = (bits as i64, bits as i32, bits as i16);
        prop_assert_eq!(one(ColumnKind::Int8, Value::Text(i8.to_string().as_bytes())), Ok(i8.to_string()));
        prop_assert_eq!(one(ColumnKind::Int4, Value::Text(i4.to_string().as_bytes())), Ok(i4.to_string()));
        prop_assert_eq!(one(ColumnKind::Int2, Value::Text(i2.to_string().as_bytes())), Ok(i2.to_string()));
        let f8 = f64::from_bits(bits);
        prop_assert_eq!(one(ColumnKind::Float8, Value::Binary(&bits.to_be_bytes())), Ok(format!("{bits:016x}")));
        if f8.is_finite() {
            prop_assert_eq!(one(ColumnKind::Float8, Value::Text(f8.to_string().as_bytes())), Ok(format!("{bits:016x}")));
        }
        let f4 = f32::from_bits(bits as u32);
        prop_assert_eq!(one(ColumnKind::Float4, Value::Binary(&(bits as u32).to_be_bytes())), Ok(format!("{:08x}", bits as u32)));
        if f4.is_finite() {
            prop_assert_eq!(one(ColumnKind::Float4, Value::Text(f4.to_string().as_bytes())), Ok(format!("{:08x}", bits as u32)));
        }
    }
}

fn numeric(weight: i16, sign: u16, dscale: u16, groups: &[u16]) -> Vec<u8> {
    let head = [groups.len() as u16, weight as u16, sign, dscale];
    head.into_iter().chain(groups.iter().copied()).flat_map(u16::to_be_bytes).collect()
}

#[test]
fn the_largest_numerics() {
    // 1e131071, and the smallest number of the largest scale.
    let large = one(ColumnKind::NumericText, Value::Binary(&numeric(32_767, 0, 0, &[1000]))).unwrap();
    assert_eq!(large.len(), 131_072);
    assert!(large.starts_with('1') && large[1..].bytes().all(|digit| digit == b'0'));
    let small = one(ColumnKind::NumericText, Value::Binary(&numeric(-4096, 0, 16_383, &[10]))).unwrap();
    assert_eq!(small.len(), 16_385);
    assert!(small.starts_with("0.0") && small.ends_with("01"));
    for bytes in [numeric(32_767, 0, 0, &[1000]), numeric(i16::MIN, 0, 16_383, &[1])] {
        assert_eq!(one(kind(38, 10), Value::Binary(&bytes)), Err(Reason::DoesNotFit));
    }
    let bytes = numeric(32_767, 0, 0, &[1000]);
    assert_eq!(one(ColumnKind::NumericDouble, Value::Binary(&bytes)), Err(Reason::OutOfRange));
}

#[test]
fn numerics_that_are_no_numbers() {
    for (sign, text, bits) in [
        (0xC000, "NaN", f64::NAN.to_bits()),
        (0xD000, "Infinity", f64::INFINITY.to_bits()),
        (0xF000, "-Infinity", f64::NEG_INFINITY.to_bits()),
    ] {
        let binary = numeric(0, sign, 0, &[]);
        for value in [Value::Binary(&binary), Value::Text(text.as_bytes())] {
            assert_eq!(one(ColumnKind::NumericText, value), Ok(text.into()));
            assert_eq!(one(ColumnKind::NumericDouble, value), Ok(format!("{bits:016x}")));
            assert_eq!(one(kind(38, 0), value), Err(Reason::NotANumber));
        }
    }
}

#[test]
fn malformed_numerics() {
    let refused = |bytes: &[u8], reason| {
        for kind in [kind(38, 2), ColumnKind::NumericText, ColumnKind::NumericDouble] {
            assert_eq!(one(&kind, Value::Binary(bytes)), Err(reason), "{kind:?} {bytes:?}");
        }
    };
    refused(&[], Reason::Length);
    refused(&[0; 7], Reason::Length);
    refused(&numeric(0, 0, 0, &[1])[..9], Reason::Length);
    refused(&[numeric(0, 0, 0, &[1]), vec![0, 0]].concat(), Reason::Length);
    refused(&numeric(0, 0x8000, 0, &[1]), Reason::Malformed);
    refused(&numeric(0, 0, 0x4000, &[1]), Reason::Malformed);
    refused(&numeric(0, 0, 0, &[10_000]), Reason::Malformed);
    refused(&numeric(3, 0, 0, &[1, 1, 1, 65_535]), Reason::Malformed);
    // Digits that the display scale hides: the server never sends them, and its text would drop them.
    for bytes in [numeric(0, 0, 1, &[1, 1230]), numeric(0, 0, 0, &[1, 1]), numeric(-1, 0, 0, &[5])] {
        assert_eq!(one(ColumnKind::NumericText, Value::Binary(&bytes)), Err(Reason::Malformed), "{bytes:?}");
    }
    for text in ["", "-", ".5", "5.", "1e5", "+1", "1.2.3", "nan", "inf", " 1", "1 ", "0x1", "--1", "1.-2"] {
        for kind in [kind(38, 2), ColumnKind::NumericText, ColumnKind::NumericDouble] {
            assert_eq!(one(&kind, Value::Text(text.as_bytes())), Err(Reason::Malformed), "{kind:?} {text:?}");
        }
    }
}

#[test]
fn unbounded_numeric_by_policy() {
    let policies = |numeric_unbounded| Policies { numeric_unbounded, ..Policies::default() };
    let kind_by = |choice| {
        crate::pgoutput::resolve(crate::pgoutput::oid::NUMERIC, -1, &Default::default(), &policies(choice))
    };
    assert_eq!(kind_by(NumericUnbounded::Text), Some(ColumnKind::NumericText));
    assert_eq!(kind_by(NumericUnbounded::Double), Some(ColumnKind::NumericDouble));
    assert_eq!(kind_by(NumericUnbounded::Decimal { precision: 38, scale: 10 }), Some(kind(38, 10)));
}

#[test]
fn malformed_integers_and_floats() {
    for text in ["", "+1", " 1", "1.0", "32768", "-32769", "0x1", "１"] {
        assert_eq!(one(ColumnKind::Int2, Value::Text(text.as_bytes())), Err(Reason::Malformed), "{text:?}");
    }
    for kind in [ColumnKind::Float4, ColumnKind::Float8] {
        for text in ["", "inf", "nan", "infinity", "1,5", "0x1", "1e", "-NaN"] {
            assert_eq!(one(&kind, Value::Text(text.as_bytes())), Err(Reason::Malformed), "{text:?}");
        }
    }
    assert_eq!(one(ColumnKind::Float4, Value::Text(b"1e39")), Err(Reason::OutOfRange));
    assert_eq!(one(ColumnKind::Float8, Value::Text(b"1e309")), Err(Reason::OutOfRange));
    for (kind, len) in [
        (ColumnKind::Bool, 1),
        (ColumnKind::Int2, 2),
        (ColumnKind::Int4, 4),
        (ColumnKind::Float4, 4),
        (ColumnKind::Int8, 8),
        (ColumnKind::Float8, 8),
        (ColumnKind::Uuid, 16),
    ] {
        for wrong in [0, len - 1, len + 1].into_iter().filter(|wrong| *wrong != len) {
            assert_eq!(one(&kind, Value::Binary(&vec![0; wrong])), Err(Reason::Length), "{kind:?} {wrong}");
        }
    }
    assert_eq!(one(ColumnKind::Bool, Value::Binary(&[2])), Err(Reason::Malformed));
    for text in ["true", "", "T", "1"] {
        assert_eq!(one(ColumnKind::Bool, Value::Text(text.as_bytes())), Err(Reason::Malformed));
    }
}

#[test]
fn text_like_values() {
    assert_eq!(one(ColumnKind::Text, Value::Binary(b"\xff")), Err(Reason::NotUtf8));
    assert_eq!(one(ColumnKind::Jsonb, Value::Binary(b"\x02{}")), Err(Reason::Malformed));
    assert_eq!(one(ColumnKind::Jsonb, Value::Binary(b"")), Err(Reason::Malformed));
    assert_eq!(one(ColumnKind::Jsonb, Value::Text(b"{}")), Ok("\"{}\"".into()));
    assert_eq!(one(ColumnKind::Bytea, Value::Text(b"\\xDEadBE")), Ok("deadbe".into()));
    for bad in [&b"abc"[..], b"\\x1", b"\\xgg", b"\\000", b""] {
        assert_eq!(one(ColumnKind::Bytea, Value::Text(bad)), Err(Reason::Malformed));
    }
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    assert_eq!(one(ColumnKind::Uuid, Value::Text(uuid.to_uppercase().as_bytes())), Ok(uuid.into()));
    assert_eq!(one(ColumnKind::Uuid, Value::Text(&uuid.as_bytes()[1..])), Err(Reason::Length));
    for bad in [
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
        "a0eebc99-9c0b-4ef8-bb6d+6bb9bd380a11",
        "a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11",
    ] {
        assert_eq!(one(ColumnKind::Uuid, Value::Text(bad.as_bytes())), Err(Reason::Malformed), "{bad}");
    }
}
