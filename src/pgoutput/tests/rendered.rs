//! Text forms of types that Delta has not: what the server writes, and that no bytes break anything.
//!
//! The values here are few; `tests/it/every_type.rs` compares hundreds with real servers.

use super::*;
use crate::pgoutput::Reason;
use crate::pgoutput::render::render;
use crate::schema::ShapeField;
use proptest::prelude::*;

const INT4: u32 = 23;

/// A shape of every kind.
fn every_shape() -> Vec<Shape> {
    use Scalar::*;
    let scalars = [
        Bool,
        Int2,
        Int4,
        Int8,
        Unsigned4,
        Unsigned8,
        Float4,
        Float8,
        Numeric,
        Money,
        Text,
        Versioned,
        Char,
        Bytea,
        Uuid,
        Bits,
        Date,
        Time,
        TimeTz,
        Timestamp,
        TimestampTz,
        Interval { infinities: true },
        Interval { infinities: false },
        Inet,
        Macaddr,
        Macaddr8,
        Point,
        Line,
        Lseg,
        Box,
        Path,
        Polygon,
        Circle,
        TsVector,
        TsQuery,
        Lsn,
        Tid,
        Snapshot,
        Hstore,
        Vector,
        Halfvec,
        Sparsevec,
        Ewkb,
    ];
    let mut all: Vec<Shape> = scalars.into_iter().map(Shape::Scalar).collect();
    all.extend([Shape::Blanks(Int2), array(Shape::Scalar(Int4)), array(Shape::Scalar(Text))]);
    all.extend([Shape::Range(Arc::new(Shape::Scalar(Int4))), Shape::Range(Arc::new(Shape::Scalar(Text)))]);
    all.push(Shape::Multirange(Arc::new(Shape::Scalar(Int4))));
    let pair = composite(&[Shape::Scalar(Int4), Shape::Scalar(Text)]);
    all.extend([array(pair.clone()), composite(&[pair.clone(), array(pair)]), composite(&[])]);
    all
}

fn array(of: Shape) -> Shape {
    Shape::Array { oid: INT4, of: Arc::new(of), delimiter: b',' }
}

fn composite(fields: &[Shape]) -> Shape {
    Shape::Composite(fields.iter().map(|shape| ShapeField { oid: INT4, shape: shape.clone() }).collect())
}

fn written(shape: &Shape, bytes: &[u8]) -> Result<String, Reason> {
    let mut out = b"kept".to_vec();
    render(shape, bytes, &mut out)?;
    assert!(out.starts_with(b"kept"), "what was there is lost");
    Ok(String::from_utf8_lossy(&out[4..]).into_owned())
}

#[track_caller]
fn check(shape: &Shape, hex: &str, expected: &str) {
    assert_eq!(written(shape, &unhex(&hex.replace(' ', ""))).as_deref(), Ok(expected));
}

#[track_caller]
fn scalar(scalar: Scalar, hex: &str, expected: &str) {
    check(&Shape::Scalar(scalar), hex, expected);
}

#[test]
fn intervals() {
    let interval = |micros: i64, days: i32, months: i32, infinities| {
        let bytes = [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
        written(&Shape::Scalar(Scalar::Interval { infinities }), &bytes).unwrap()
    };
    assert_eq!(interval(0, 0, 0, true), "00:00:00");
    assert_eq!(interval(14_706_789_000, 3, 14, true), "1 year 2 mons 3 days 04:05:06.789");
    assert_eq!(interval(1, 1, -1, true), "-1 mons +1 day 00:00:00.000001");
    assert_eq!(interval(-1, -1, 12, true), "1 year -1 days -00:00:00.000001");
    assert_eq!(interval(i64::MIN, 0, 0, true), "-2562047788:00:54.775808");
    assert_eq!(interval(i64::MAX, i32::MAX, i32::MAX, true), "infinity");
    assert_eq!(interval(i64::MIN, i32::MIN, i32::MIN, true), "-infinity");
    let extreme = "178956970 years 7 mons 2147483647 days 2562047788:00:54.775807";
    assert_eq!(interval(i64::MAX, i32::MAX, i32::MAX, false), extreme, "before PostgreSQL 17");
}

#[test]
fn floats_as_the_server_writes_them() {
    let double = |value: f64| written(&Shape::Scalar(Scalar::Float8), &value.to_be_bytes()).unwrap();
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e23, "9.999999999999999e+22"),
        (1e15, "1e+15"),
        (999_999_999_999_999.0, "999999999999999"),
        (123_456.789, "123456.789"),
        (0.0001, "0.0001"),
        (0.000_01, "1e-05"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (1_125_899_906_842_624.0 + 0.25, "1.1258999068426242e+15"),
        (f64::NAN, "NaN"),
        (f64::NEG_INFINITY, "-Infinity"),
    ] {
        assert_eq!(double(value), expected);
    }
    let single = |value: f32| written(&Shape::Scalar(Scalar::Float4), &value.to_be_bytes()).unwrap();
    for (value, expected) in
        [(1e6, "1e+06"), (999_999.0, "999999"), (0.1, "0.1"), (1e-45, "1e-45"), (f32::MAX, "3.4028235e+38")]
    {
        assert_eq!(single(value), expected);
    }
}

#[test]
fn types_of_extensions() {
    scalar(
        Scalar::Hstore,
        "00000002 00000001 61 00000002 225c 00000001 62 ffffffff",
        "\"a\"=>\"\\\"\\\\\", \"b\"=>NULL",
    );
    // pgvector's own tests: [1,2,3]; {1:1,3:2,5:3}/5.
    scalar(Scalar::Vector, "0003 0000 3f800000 40000000 40400000", "[1,2,3]");
    scalar(Scalar::Halfvec, "0004 0000 3c00 c000 0001 7bff", "[1,-2,5.9604645e-08,65504]");
    let sparse = "00000005 00000003 00000000 00000000 00000002 00000004 3f800000 40000000 40400000";
    scalar(Scalar::Sparsevec, sparse, "{1:1,3:2,5:3}/5");
    scalar(Scalar::Sparsevec, "00000003 00000000 00000000", "{}/3");
    // PostGIS: SRID=4326;POINT(1 2), little-endian as its send function writes it.
    let point = "0101000020e6100000000000000000f03f0000000000000040";
    scalar(Scalar::Ewkb, point, &point.to_uppercase());
    let text =
        decode_one(ColumnKind::Ewkb, Policies::default(), Value::Text(point.to_uppercase().as_bytes()));
    let binary = decode_one(ColumnKind::Ewkb, Policies::default(), Value::Binary(&unhex(point)));
    assert_eq!((text.as_deref(), binary.as_deref()), (Ok(point), Ok(point)));
}

#[test]
fn money_by_both_ways() {
    let kind = ColumnKind::Money { scale: 2 };
    for (text, cents) in [
        ("$0.00", 0i64),
        ("-$0.01", -1),
        ("$1,234.56", 123_456),
        ("-$92,233,720,368,547,758.08", i64::MIN),
        ("$92,233,720,368,547,758.07", i64::MAX),
    ] {
        let binary = cents.to_be_bytes();
        let by_binary = decode_one(&kind, Policies::default(), Value::Binary(&binary));
        assert_eq!(decode_one(&kind, Policies::default(), Value::Text(text.as_bytes())), by_binary);
        assert_eq!(written(&Shape::Scalar(Scalar::Money), &binary).as_deref(), Ok(text));
    }
    // A currency without fraction: the same number, read otherwise.
    let yen =
        decode_one(ColumnKind::Money { scale: 0 }, Policies::default(), Value::Binary(&100i64.to_be_bytes()));
    assert_eq!(yen.as_deref(), Ok("100"));
    for text in ["1.00", "$1", "$1.0", "$.", "$92,233,720,368,547,758.08", "$1.0x", "", "-", "$-1.00"] {
        let found = decode_one(&kind, Policies::default(), Value::Text(text.as_bytes()));
        assert!(matches!(found, Err(Reason::Malformed | Reason::OutOfRange)), "{text}: {found:?}");
    }
}

#[test]
fn numbers_without_a_sign() {
    let by = |kind: &ColumnKind, value: Value<'_>| decode_one(kind, Policies::default(), value);
    assert_eq!(by(&ColumnKind::Unsigned4, Value::Binary(&[0xFF; 4])).as_deref(), Ok("4294967295"));
    assert_eq!(by(&ColumnKind::Unsigned4, Value::Text(b"4294967295")).as_deref(), Ok("4294967295"));
    assert_eq!(by(&ColumnKind::Unsigned8, Value::Binary(&[0xFF; 8])).as_deref(), Ok("18446744073709551615"));
    assert_eq!(
        by(&ColumnKind::Unsigned8, Value::Text(b"18446744073709551615")).as_deref(),
        Ok("18446744073709551615")
    );
    // A name where a number is meant, and one that is too large.
    for text in [&b"pg_class"[..], b"-1", b"4294967296", b"+1"] {
        assert_eq!(by(&ColumnKind::Unsigned4, Value::Text(text)), Err(Reason::Malformed));
    }
}

#[test]
fn arrays_and_composite_values() {
    let ints = array(Shape::Scalar(Scalar::Int4));
    check(&ints, "00000000 00000000 00000017", "{}");
    check(&ints, "00000001 00000001 00000017 00000002 00000001 00000004 00000001 ffffffff", "{1,NULL}");
    check(
        &ints,
        "00000002 00000000 00000017 00000002 00000000 00000001 00000003 00000004 00000001 00000004 00000002",
        "[0:1][3:3]={{1},{2}}",
    );
    let texts = array(Shape::Scalar(Scalar::Text));
    check(
        &texts,
        "00000001 00000000 00000017 00000003 00000001 00000000 00000004 6e756c6c 00000003 61225c",
        "{\"\",\"null\",\"a\\\"\\\\\"}",
    );
    let pair = composite(&[Shape::Scalar(Scalar::Int4), Shape::Scalar(Scalar::Text)]);
    check(&pair, "00000002 00000017 ffffffff 00000017 00000003 61225c", "(,\"a\"\"\\\\\")");
    check(&pair, "00000002 00000017 00000004 00000007 00000017 00000000", "(7,\"\")");
    // Another element type, another number of fields: the type is not what it was.
    let changed = Err(Reason::TypeChanged);
    assert_eq!(written(&ints, &unhex("000000000000000000000014")), changed);
    assert_eq!(written(&pair, &unhex("0000000100000017ffffffff")), changed);
    assert_eq!(written(&pair, &unhex("0000000200000014ffffffff00000017ffffffff")), changed);
    // Dimensions that promise more than there is.
    let huge = "00000006 00000000 00000017".to_owned() + &" 7fffffff 00000000".repeat(6);
    assert_eq!(written(&ints, &unhex(&huge.replace(' ', ""))), Err(Reason::Length));
}

#[test]
fn a_search_query_of_any_depth() {
    // a & (a & (a & …)): operator, right operand, left operand.
    let depth = 200_000;
    let mut bytes = (2 * depth + 1i32).to_be_bytes().to_vec();
    for _ in 0..depth {
        bytes.extend([2, 2]);
    }
    for _ in 0..=depth {
        bytes.extend([1, 0, 0, b'a', 0]);
    }
    let text = written(&Shape::Scalar(Scalar::TsQuery), &bytes).unwrap();
    assert_eq!(text.matches('&').count(), depth as usize);
    // The same without its last leaf is no tree.
    bytes.truncate(bytes.len() - 5);
    bytes[..4].copy_from_slice(&(2 * depth).to_be_bytes());
    assert_eq!(written(&Shape::Scalar(Scalar::TsQuery), &bytes), Err(Reason::Malformed));
}

#[test]
fn a_type_known_by_its_text_only() {
    let by = |value: Value<'_>| decode_one(ColumnKind::Unknown, Policies::default(), value);
    assert_eq!(by(Value::Text(b"(1,2)")).as_deref(), Ok("(1,2)"));
    assert_eq!(by(Value::Binary(b"(1,2)")), Err(Reason::BinaryUnknown));
}

/// Bytes that look like the beginning of something.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => (0u32..5).prop_map(|n| n.to_be_bytes().to_vec()),
        1 => Just(INT4.to_be_bytes().to_vec()),
        1 => Just(vec![0xFF; 4]),
        2 => prop::collection::vec(any::<u8>(), 0..9),
        2 => prop::collection::vec(0u8..6, 0..6),
        1 => Just(b"a\0".to_vec()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_break_anything(bytes in likely()) {
        for shape in every_shape() {
            if let Ok(text) = written(&shape, &bytes) {
                prop_assert!(text.len() <= 140_000 * (bytes.len() + 1), "{shape:?} grows {} bytes to {}", bytes.len(), text.len());
            }
        }
    }

    /// Every number comes back from its text, and no shorter text of the same value is the server's.
    #[test]
    fn floats_come_back(bits: u64, half: u32) {
        let (double, single) = (f64::from_bits(bits), f32::from_bits(half));
        let text = written(&Shape::Scalar(Scalar::Float8), &double.to_be_bytes()).unwrap();
        let back: f64 = text.parse().unwrap();
        prop_assert!(back == double || back.is_nan() && double.is_nan(), "{text} {double:e}");
        let text = written(&Shape::Scalar(Scalar::Float4), &single.to_be_bytes()).unwrap();
        let back: f32 = text.parse().unwrap();
        prop_assert!(back == single || back.is_nan() && single.is_nan(), "{text} {single:e}");
    }

    /// Dates and timestamps of every kind go to text and back through the readers of the text form.
    #[test]
    fn moments_come_back(days in -2_451_545i32..2_145_031_948, micros in -211_813_488_000_000_000i64..9_223_371_331_200_000_000) {
        use crate::pgoutput::temporal::{Moment, date, text_to_date, text_to_timestamp, timestamp};
        let text = written(&Shape::Scalar(Scalar::Date), &days.to_be_bytes()).unwrap();
        prop_assert_eq!(text_to_date(text.as_bytes()), date(days), "{}", text);
        for (scalar, zoned) in [(Scalar::Timestamp, false), (Scalar::TimestampTz, true)] {
            let text = written(&Shape::Scalar(scalar), &micros.to_be_bytes()).unwrap();
            if let Ok(Moment::Finite(_)) = timestamp(micros) {
                prop_assert_eq!(text_to_timestamp(text.as_bytes(), zoned), timestamp(micros), "{}", text);
            }
        }
    }
}
