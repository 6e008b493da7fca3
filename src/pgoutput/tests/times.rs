//! Dates and times beyond what the golden files hold.

use super::*;
use crate::pgoutput::{Infinity, Reason};
use chrono::{Datelike, NaiveDate};
use proptest::prelude::*;

const STOP: Policies = Policies {
    numeric_unbounded: crate::pgoutput::NumericUnbounded::Text,
    infinity: Infinity::Stop,
    unknown_types: crate::pgoutput::UnknownTypes::Stop,
};
const NULL: Policies = Policies { infinity: Infinity::Null, ..STOP };

fn text(kind: impl Borrow<ColumnKind>, text: &str) -> Result<String, Reason> {
    decode_one(kind, STOP, Value::Text(text.as_bytes()))
}

#[test]
fn infinity_stops_or_becomes_null() {
    let cases: [(ColumnKind, &[u8], &[u8]); 3] = [
        (ColumnKind::Date, &i32::MAX.to_be_bytes(), &i32::MIN.to_be_bytes()),
        (ColumnKind::Timestamp, &i64::MAX.to_be_bytes(), &i64::MIN.to_be_bytes()),
        (ColumnKind::TimestampTz, &i64::MAX.to_be_bytes(), &i64::MIN.to_be_bytes()),
    ];
    for (kind, plus, minus) in cases {
        for value in
            [Value::Binary(plus), Value::Binary(minus), Value::Text(b"infinity"), Value::Text(b"-infinity")]
        {
            assert_eq!(decode_one(&kind, STOP, value), Err(Reason::Infinity));
            assert_eq!(decode_one(&kind, NULL, value), Ok("(null)".into()));
        }
    }
}

#[test]
fn beyond_arrow_is_an_error() {
    // 294247-01-10 04:00:54.775807 is the last microsecond since 1970 that 64 bits hold.
    let last = i64::MAX - 946_684_800_000_000;
    for kind in [ColumnKind::Timestamp, ColumnKind::TimestampTz] {
        let found = decode_one(&kind, STOP, Value::Binary(&last.to_be_bytes()));
        assert_eq!(found, Ok(i64::MAX.to_string()));
        assert_eq!(
            decode_one(&kind, STOP, Value::Binary(&(last + 1).to_be_bytes())),
            Err(Reason::OutOfRange)
        );
    }
    let kind = ColumnKind::Timestamp;
    assert_eq!(text(&kind, "294247-01-10 04:00:54.775807"), Ok(i64::MAX.to_string()));
    assert_eq!(text(&kind, "294247-01-10 04:00:54.775808"), Err(Reason::OutOfRange));
    let last = i32::MAX - 10_957;
    assert_eq!(
        decode_one(ColumnKind::Date, STOP, Value::Binary(&last.to_be_bytes())),
        Ok(i32::MAX.to_string())
    );
    assert_eq!(
        decode_one(ColumnKind::Date, STOP, Value::Binary(&(last + 1).to_be_bytes())),
        Err(Reason::OutOfRange)
    );
    assert_eq!(text(ColumnKind::Date, "9999999-01-01"), Err(Reason::OutOfRange));
}

#[test]
fn offsets_of_all_lengths() {
    let at = |offset| text(ColumnKind::TimestampTz, &format!("1970-01-02 00:00:00{offset}"));
    assert_eq!(at("+00"), Ok("86400000000".into()));
    assert_eq!(at("+02"), Ok((22 * 3_600_000_000i64).to_string()));
    assert_eq!(at("-03:30"), Ok((86_400_000_000i64 + 12_600_000_000).to_string()));
    assert_eq!(at("+00:19:32"), Ok((86_400_000_000i64 - 1_172_000_000).to_string()));
    for bad in ["", "Z", "+2", "+16", "+02:60", "+02:00:60", "+02 ", "+02 AD", "+02:"] {
        assert_eq!(at(bad), Err(Reason::Malformed), "{bad:?}");
    }
    assert_eq!(text(ColumnKind::Timestamp, "1970-01-02 00:00:00+00"), Err(Reason::Malformed));
}

#[test]
fn malformed_text() {
    for bad in [
        "",
        "1",
        "2024-02-30",
        "2023-02-29",
        "1900-02-29",
        "2024-13-01",
        "2024-00-01",
        "2024-01-00",
        "0000-01-01",
        "2024-1-01",
        "24-01-01",
        "2024-01-01 ",
        "2024-01-01 BCE",
        "2024-01-01BC",
        "04/03/2024",
        "Infinity",
        "12345678-01-01",
        "2024-04-31",
        "-2024-01-01",
        "2024-01-01 AD",
    ] {
        assert_eq!(text(ColumnKind::Date, bad), Err(Reason::Malformed), "{bad:?}");
    }
    for bad in [
        "",
        "24:00:01",
        "24:00:00.000001",
        "25:00:00",
        "23:60:00",
        "23:59:60",
        "1:00:00",
        "12:00",
        "12:00:00.",
        "12:00:00.1234567",
        "12:00:00 ",
    ] {
        assert_eq!(text(ColumnKind::Time, bad), Err(Reason::Malformed), "{bad:?}");
    }
    for bad in ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01 24:00:00", "2024-01-01 00:00"] {
        assert_eq!(text(ColumnKind::Timestamp, bad), Err(Reason::Malformed), "{bad:?}");
    }
    for micros in [-1, 86_400_000_001, i64::MAX, i64::MIN] {
        let found = decode_one(ColumnKind::Time, STOP, Value::Binary(&i64::to_be_bytes(micros)));
        assert_eq!(found, Err(Reason::Malformed), "{micros}");
    }
}

#[test]
fn wrong_lengths() {
    for kind in [ColumnKind::Date, ColumnKind::Time, ColumnKind::Timestamp, ColumnKind::TimestampTz] {
        for len in [0, 3, 5, 7, 9] {
            assert_eq!(decode_one(&kind, STOP, Value::Binary(&vec![0; len])), Err(Reason::Length));
        }
    }
}

proptest! {
    /// Both forms of a date, against a calendar of other people.
    #[test]
    fn dates(days in -4_000_000i32..4_000_000) {
        let date = NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
        let year = date.year();
        let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
        let words = format!("{shown:04}-{:02}-{:02}{era}", date.month(), date.day());
        prop_assert_eq!(text(ColumnKind::Date, &words), Ok(days.to_string()));
        let binary = (days - 10_957).to_be_bytes();
        prop_assert_eq!(decode_one(ColumnKind::Date, STOP, Value::Binary(&binary)), Ok(days.to_string()));
    }

    #[test]
    fn timestamps(micros in -100_000_000_000_000_000i64..100_000_000_000_000_000) {
        let moment = chrono::DateTime::from_timestamp_micros(micros).unwrap().naive_utc();
        let year = moment.year();
        let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
        let words = format!("{shown:04}-{}", moment.format("%m-%d %H:%M:%S%.6f"));
        prop_assert_eq!(text(ColumnKind::Timestamp, &format!("{words}{era}")), Ok(micros.to_string()));
        prop_assert_eq!(text(ColumnKind::TimestampTz, &format!("{words}+00{era}")), Ok(micros.to_string()));
        let binary = (micros - 946_684_800_000_000).to_be_bytes();
        for kind in [ColumnKind::Timestamp, ColumnKind::TimestampTz] {
            prop_assert_eq!(decode_one(&kind, STOP, Value::Binary(&binary)), Ok(micros.to_string()));
        }
    }

    #[test]
    fn times(hour in 0u32..24, minute in 0u32..60, second in 0u32..60, micro in 0u32..1_000_000, cut in 0usize..6) {
        // As many zeros at the end as there may be in life.
        let micro = micro - micro % 10u32.pow(cut as u32);
        let mut words = format!("{hour:02}:{minute:02}:{second:02}.{micro:06}");
        words.truncate(words.trim_end_matches('0').len());
        if micro == 0 {
            words = format!("{hour:02}:{minute:02}:{second:02}");
        }
        let micros = i64::from((hour * 60 + minute) * 60 + second) * 1_000_000 + i64::from(micro);
        let found = decode_one(ColumnKind::Time, STOP, Value::Binary(&micros.to_be_bytes()));
        prop_assert_eq!(found, Ok(words.clone()));
        prop_assert_eq!(text(ColumnKind::Time, &words), Ok(words));
    }
}
