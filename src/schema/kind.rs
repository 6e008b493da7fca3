//! The types that travel, and what each becomes.
//!
//! `docs/TYPES.md` is this file for readers; a test holds the two together. Delta has no time, interval,
//! unsigned or uuid type, so those travel as text in the source's own spelling.

use super::shape::Shape;
use arrow::datatypes::{DataType, TimeUnit};

/// Digits of 2^64, and of a `money`.
const MONEY_DIGITS: u8 = 19;
const UNSIGNED8_DIGITS: u8 = 20;

/// How a column's values are decoded and what they become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ColumnKind {
    /// `bool` → boolean.
    Bool,
    /// `int2` → short.
    Int2,
    /// `int4` → integer.
    Int4,
    /// `int8` → long.
    Int8,
    /// `float4` → float, bit for bit.
    Float4,
    /// `float8` → double, bit for bit.
    Float8,
    /// `numeric(p,s)` that fits 38 digits → decimal(p,s), exactly.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// Any other `numeric` → string, in the source's spelling (`1.50`, `NaN`, `Infinity`).
    NumericText,
    /// Unbounded `numeric` by the policy `double` → double, nearest.
    NumericDouble,
    /// `text`, `varchar`, `name`, enums → string.
    Text,
    /// `bpchar` → string with its padding; trailing blanks do not count in a key.
    Bpchar,
    /// `json` → string, byte for byte.
    Json,
    /// `jsonb` → string, the server's own text.
    Jsonb,
    /// `bytea` → binary.
    Bytea,
    /// `uuid` → string, lower case with hyphens.
    Uuid,
    /// `date` → date, proleptic Gregorian.
    Date,
    /// `time` → string `HH:MM:SS[.ffffff]`, up to `24:00:00`.
    Time,
    /// `timestamp` → timestamp_ntz, microseconds.
    Timestamp,
    /// `timestamptz` → timestamp (UTC), microseconds.
    TimestampTz,
    /// `oid` and its kin, `xid`, `cid` → long: 32 bits without a sign.
    Unsigned4,
    /// `xid8` → decimal(20,0): 64 bits without a sign.
    Unsigned8,
    /// `money` → decimal(19,scale), exactly.
    Money {
        /// Digits of fraction that the database's currency has.
        scale: u8,
    },
    /// `geometry` and `geography` of PostGIS → binary, EWKB.
    Ewkb,
    /// Any other type whose binary form we read → string, the server's own text form.
    Rendered(Shape),
    /// A type that we do not know, by the policy `text` → string, the server's own text form. It is asked
    /// for in text; its binary form means nothing to us.
    Unknown,
}

impl ColumnKind {
    /// The Arrow type of the column in a row image.
    pub fn arrow(&self) -> DataType {
        match self {
            ColumnKind::Bool => DataType::Boolean,
            ColumnKind::Int2 => DataType::Int16,
            ColumnKind::Int4 => DataType::Int32,
            ColumnKind::Int8 | ColumnKind::Unsigned4 => DataType::Int64,
            ColumnKind::Float4 => DataType::Float32,
            ColumnKind::Float8 | ColumnKind::NumericDouble => DataType::Float64,
            ColumnKind::Decimal { precision, scale } => DataType::Decimal128(*precision, *scale),
            ColumnKind::Unsigned8 => DataType::Decimal128(UNSIGNED8_DIGITS, 0),
            // A currency has at most ten digits of fraction.
            ColumnKind::Money { scale } => DataType::Decimal128(MONEY_DIGITS, scale.cast_signed()),
            ColumnKind::Bytea | ColumnKind::Ewkb => DataType::Binary,
            ColumnKind::Date => DataType::Date32,
            ColumnKind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnKind::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnKind::NumericText
            | ColumnKind::Text
            | ColumnKind::Bpchar
            | ColumnKind::Json
            | ColumnKind::Jsonb
            | ColumnKind::Uuid
            | ColumnKind::Time
            | ColumnKind::Rendered(_)
            | ColumnKind::Unknown => DataType::Utf8,
        }
    }

    /// The Delta primitive type's name in a table's schema.
    pub fn delta(&self) -> String {
        match self {
            ColumnKind::Bool => "boolean".into(),
            ColumnKind::Int2 => "short".into(),
            ColumnKind::Int4 => "integer".into(),
            ColumnKind::Int8 | ColumnKind::Unsigned4 => "long".into(),
            ColumnKind::Float4 => "float".into(),
            ColumnKind::Float8 | ColumnKind::NumericDouble => "double".into(),
            ColumnKind::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            ColumnKind::Unsigned8 => format!("decimal({UNSIGNED8_DIGITS},0)"),
            ColumnKind::Money { scale } => format!("decimal({MONEY_DIGITS},{scale})"),
            ColumnKind::Bytea | ColumnKind::Ewkb => "binary".into(),
            ColumnKind::Date => "date".into(),
            ColumnKind::Timestamp => "timestamp_ntz".into(),
            ColumnKind::TimestampTz => "timestamp".into(),
            ColumnKind::NumericText
            | ColumnKind::Text
            | ColumnKind::Bpchar
            | ColumnKind::Json
            | ColumnKind::Jsonb
            | ColumnKind::Uuid
            | ColumnKind::Time
            | ColumnKind::Rendered(_)
            | ColumnKind::Unknown => "string".into(),
        }
    }

    /// The composite types that its values hold ([`Shape::parts`]); empty for most.
    pub fn parts(&self) -> String {
        match self {
            ColumnKind::Rendered(shape) => shape.parts(),
            _ => String::new(),
        }
    }

    /// How the Delta type stands for the source's, where it does not say so itself: the value of
    /// `strandline.form` in the field's metadata.
    pub fn form(&self) -> Option<&'static str> {
        match self {
            ColumnKind::Rendered(_) | ColumnKind::NumericText => Some("text"),
            ColumnKind::Unknown => Some("unknown"),
            ColumnKind::Ewkb => Some("ewkb"),
            ColumnKind::Money { .. } | ColumnKind::Unsigned4 | ColumnKind::Unsigned8 => Some("number"),
            _ => None,
        }
    }
}
