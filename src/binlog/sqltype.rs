//! Column types of MySQL and MariaDB, by either way in: from a `TABLE_MAP` or from the catalogue's text
//! (`information_schema.columns.column_type`). Both give the same [`SqlType`], the same name and the same kind: that is
//! how snapshot and stream cannot differ.

use super::charset::{self, Charset};
use super::table_map::{FieldType, MapColumn};
use crate::schema::{ColumnKind, Scalar, Shape};
use std::fmt;

/// What to do with a `decimal` of more than 38 digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WideDecimal {
    /// Text in the server's spelling: nothing is lost.
    #[default]
    Text,
    /// A decimal; a value that does not fit exactly stops the table.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// A double, the nearest.
    Double,
}

/// What to do with `0000-00-00`, `2020-00-15`, `2020-02-31` and their like, which no calendar has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroDates {
    /// Stop the table.
    #[default]
    Stop,
    /// Write null. [`super::BatchBuilder::replaced`] counts them.
    Null,
}

/// Choices of the operator about values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policies {
    /// For `decimal` of more than 38 digits.
    pub wide_decimal: WideDecimal,
    /// For dates that no calendar has.
    pub zero_dates: ZeroDates,
}

/// How long a `text` or `blob` may be: the width of its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum LongSize {
    /// `tinytext`, `tinyblob`.
    Tiny,
    /// `text`, `blob`.
    Plain,
    /// `mediumtext`, `mediumblob`.
    Medium,
    /// `longtext`, `longblob`.
    Long,
}

impl LongSize {
    fn of_width(width: u8) -> Option<Self> {
        match width {
            1 => Some(LongSize::Tiny),
            2 => Some(LongSize::Plain),
            3 => Some(LongSize::Medium),
            4 => Some(LongSize::Long),
            _ => None,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            LongSize::Tiny => "tiny",
            LongSize::Plain => "",
            LongSize::Medium => "medium",
            LongSize::Long => "long",
        }
    }
}

/// Bytes of a whole number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum IntSize {
    /// `tinyint`: one.
    Tiny,
    /// `smallint`: two.
    Small,
    /// `mediumint`: three.
    Medium,
    /// `int`: four.
    Int,
    /// `bigint`: eight.
    Big,
}

/// A column's type. Displays as the catalogue writes it, without what changes no value (display widths, `zerofill`,
/// character sets): `bigint unsigned`, `varchar(20)`, `enum('a','b')`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SqlType {
    /// Whole numbers.
    Int {
        /// How wide.
        size: IntSize,
        /// Without a sign.
        unsigned: bool,
    },
    /// `decimal(p,s)`.
    Decimal {
        /// Digits in all, 1 to 65.
        precision: u8,
        /// Digits after the point, 0 to 38.
        scale: u8,
        /// Without a sign: changes nothing but the name.
        unsigned: bool,
    },
    /// `float`.
    Float {
        /// Without a sign.
        unsigned: bool,
    },
    /// `double`.
    Double {
        /// Without a sign.
        unsigned: bool,
    },
    /// `bit(n)`.
    Bit {
        /// 1 to 64.
        bits: u8,
    },
    /// `year`.
    Year,
    /// `date`.
    Date,
    /// `time(n)`.
    Time {
        /// Digits of the second's fraction.
        fraction: u8,
    },
    /// `datetime(n)`.
    DateTime {
        /// Digits of the second's fraction.
        fraction: u8,
    },
    /// `timestamp(n)`.
    Timestamp {
        /// Digits of the second's fraction.
        fraction: u8,
    },
    /// `char(n)`.
    Char {
        /// Characters.
        length: u32,
    },
    /// `varchar(n)`.
    Varchar {
        /// Characters.
        length: u32,
    },
    /// `text` and its kin.
    Text(LongSize),
    /// `binary(n)`.
    Binary {
        /// Bytes.
        length: u32,
    },
    /// `varbinary(n)`.
    Varbinary {
        /// Bytes.
        length: u32,
    },
    /// `blob` and its kin.
    Blob(LongSize),
    /// `enum(…)`.
    Enum(Vec<String>),
    /// `set(…)`.
    Set(Vec<String>),
    /// `json` of MySQL. MariaDB's is a `longtext`.
    Json,
    /// `geometry`, `point`, …
    Geometry(GeometryType),
    /// `vector(n)`.
    Vector {
        /// Entries.
        dimensions: u32,
    },
    /// MariaDB's `uuid`.
    Uuid,
    /// MariaDB's `inet4`.
    Inet4,
    /// MariaDB's `inet6`.
    Inet6,
}

/// Kinds of geometry columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum GeometryType {
    /// Any of the others.
    Geometry,
    /// `point`.
    Point,
    /// `linestring`.
    LineString,
    /// `polygon`.
    Polygon,
    /// `multipoint`.
    MultiPoint,
    /// `multilinestring`.
    MultiLineString,
    /// `multipolygon`.
    MultiPolygon,
    /// `geomcollection`; `geometrycollection` in MariaDB.
    Collection,
}

impl GeometryType {
    const ALL: [(GeometryType, &'static str); 8] = [
        (GeometryType::Geometry, "geometry"),
        (GeometryType::Point, "point"),
        (GeometryType::LineString, "linestring"),
        (GeometryType::Polygon, "polygon"),
        (GeometryType::MultiPoint, "multipoint"),
        (GeometryType::MultiLineString, "multilinestring"),
        (GeometryType::MultiPolygon, "multipolygon"),
        (GeometryType::Collection, "geometrycollection"),
    ];

    fn of_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).map(|(kind, _)| *kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("geometry", |(_, name)| name)
    }
}

/// Why a column's type is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownType(pub String);

impl SqlType {
    /// Of a column of a `TABLE_MAP`. MariaDB's `uuid`, `inet4` and `inet6` look like `binary(n)` there: see
    /// [`SqlType::refined`].
    ///
    /// # Errors
    /// A type that no column has, or metadata that is missing or damaged.
    pub fn of_map(column: &MapColumn) -> Result<Self, UnknownType> {
        let unknown = || UnknownType(format!("{:?}", column.field_type));
        let unsigned = column.unsigned.unwrap_or(false);
        let int = |size| SqlType::Int { size, unsigned };
        let fraction = column.meta[0];
        let binary = column.collation.is_none_or(|collation| collation == charset::BINARY);
        Ok(match column.field_type {
            FieldType::TINY => int(IntSize::Tiny),
            FieldType::SHORT => int(IntSize::Small),
            FieldType::INT24 => int(IntSize::Medium),
            FieldType::LONG => int(IntSize::Int),
            FieldType::LONGLONG => int(IntSize::Big),
            FieldType::NEWDECIMAL => {
                SqlType::Decimal { precision: column.meta[0], scale: column.meta[1], unsigned }
            }
            FieldType::FLOAT => SqlType::Float { unsigned },
            FieldType::DOUBLE => SqlType::Double { unsigned },
            FieldType::BIT => {
                let bits = u16::from(column.meta[0]) + 8 * u16::from(column.meta[1]);
                SqlType::Bit { bits: u8::try_from(bits).map_err(|_| unknown())? }
            }
            FieldType::YEAR => SqlType::Year,
            FieldType::DATE | FieldType::NEWDATE => SqlType::Date,
            FieldType::TIME | FieldType::TIME2 => SqlType::Time { fraction },
            FieldType::DATETIME | FieldType::DATETIME2 => SqlType::DateTime { fraction },
            FieldType::TIMESTAMP | FieldType::TIMESTAMP2 => SqlType::Timestamp { fraction },
            FieldType::STRING if binary => SqlType::Binary { length: string_length(column.meta).into() },
            FieldType::STRING => SqlType::Char { length: characters(column, string_length(column.meta)) },
            FieldType::VARCHAR | FieldType::VAR_STRING if binary => {
                SqlType::Varbinary { length: column.meta().into() }
            }
            FieldType::VARCHAR | FieldType::VAR_STRING => {
                SqlType::Varchar { length: characters(column, column.meta()) }
            }
            // A byte of its length says how it is packed.
            FieldType::VARCHAR_COMPRESSED if binary => {
                SqlType::Varbinary { length: column.meta().saturating_sub(1).into() }
            }
            FieldType::VARCHAR_COMPRESSED => {
                SqlType::Varchar { length: characters(column, column.meta().saturating_sub(1)) }
            }
            FieldType::BLOB | FieldType::BLOB_COMPRESSED => {
                let size = LongSize::of_width(column.meta[0]).ok_or_else(unknown)?;
                if binary { SqlType::Blob(size) } else { SqlType::Text(size) }
            }
            FieldType::ENUM => SqlType::Enum(labels(column).ok_or_else(unknown)?),
            FieldType::SET => SqlType::Set(labels(column).ok_or_else(unknown)?),
            FieldType::JSON => SqlType::Json,
            FieldType::GEOMETRY => {
                let of = column.geometry.unwrap_or_default();
                SqlType::Geometry(GeometryType::of_number(of).ok_or_else(unknown)?)
            }
            FieldType::VECTOR => {
                let dimensions = column.dimensions.unwrap_or_default();
                SqlType::Vector { dimensions: u32::try_from(dimensions).map_err(|_| unknown())? }
            }
            _ => return Err(unknown()),
        })
    }

    /// Of the catalogue's text, `column_type`.
    ///
    /// # Errors
    /// A type that we do not know.
    pub fn of_catalog(column_type: &str) -> Result<Self, UnknownType> {
        parse(column_type).ok_or_else(|| UnknownType(column_type.to_owned()))
    }

    /// With what the catalogue knows and a `TABLE_MAP` does not tell: MariaDB's own types, which look like
    /// `binary(n)`. Everything else stays as the `TABLE_MAP` says, which is of the right moment.
    #[must_use]
    pub fn refined(self, catalog: &SqlType) -> SqlType {
        match (&self, catalog) {
            (SqlType::Binary { length: 16 }, SqlType::Uuid | SqlType::Inet6)
            | (SqlType::Binary { length: 4 }, SqlType::Inet4) => catalog.clone(),
            _ => self,
        }
    }

    /// How its values travel.
    pub fn kind(&self, policies: &Policies) -> ColumnKind {
        match self {
            SqlType::Int { size, unsigned } => match (size, unsigned) {
                (IntSize::Tiny, _) | (IntSize::Small, false) => ColumnKind::Int2,
                (IntSize::Small, true) | (IntSize::Medium, _) | (IntSize::Int, false) => ColumnKind::Int4,
                (IntSize::Int, true) => ColumnKind::Unsigned4,
                (IntSize::Big, false) => ColumnKind::Int8,
                (IntSize::Big, true) => ColumnKind::Unsigned8,
            },
            SqlType::Decimal { precision, scale, .. } => decimal_kind(*precision, *scale, policies),
            SqlType::Float { .. } => ColumnKind::Float4,
            SqlType::Double { .. } => ColumnKind::Float8,
            SqlType::Bit { bits: 1 } => ColumnKind::Bool,
            SqlType::Bit { .. } => ColumnKind::Rendered(Shape::Scalar(Scalar::Bits)),
            SqlType::Year => ColumnKind::Int4,
            SqlType::Date => ColumnKind::Date,
            SqlType::Time { .. } => ColumnKind::Time,
            SqlType::DateTime { .. } => ColumnKind::Timestamp,
            SqlType::Timestamp { .. } => ColumnKind::TimestampTz,
            SqlType::Char { .. }
            | SqlType::Varchar { .. }
            | SqlType::Text(_)
            | SqlType::Enum(_)
            | SqlType::Set(_) => ColumnKind::Text,
            SqlType::Binary { .. } | SqlType::Varbinary { .. } | SqlType::Blob(_) => ColumnKind::Bytea,
            SqlType::Json => ColumnKind::Jsonb,
            SqlType::Geometry(_) => ColumnKind::Ewkb,
            SqlType::Vector { .. } => ColumnKind::Rendered(Shape::Scalar(Scalar::Vector)),
            SqlType::Uuid => ColumnKind::Uuid,
            SqlType::Inet4 | SqlType::Inet6 => ColumnKind::Rendered(Shape::Scalar(Scalar::Inet)),
        }
    }

    /// A number for `Column::type_oid`: the type's number on the wire, so that two types of different nature differ.
    pub fn number(&self) -> u32 {
        let field = match self {
            SqlType::Int { size, .. } => match size {
                IntSize::Tiny => FieldType::TINY,
                IntSize::Small => FieldType::SHORT,
                IntSize::Medium => FieldType::INT24,
                IntSize::Int => FieldType::LONG,
                IntSize::Big => FieldType::LONGLONG,
            },
            SqlType::Decimal { .. } => FieldType::NEWDECIMAL,
            SqlType::Float { .. } => FieldType::FLOAT,
            SqlType::Double { .. } => FieldType::DOUBLE,
            SqlType::Bit { .. } => FieldType::BIT,
            SqlType::Year => FieldType::YEAR,
            SqlType::Date => FieldType::DATE,
            SqlType::Time { .. } => FieldType::TIME2,
            SqlType::DateTime { .. } => FieldType::DATETIME2,
            SqlType::Timestamp { .. } => FieldType::TIMESTAMP2,
            SqlType::Char { .. } | SqlType::Binary { .. } => FieldType::STRING,
            SqlType::Varchar { .. } | SqlType::Varbinary { .. } => FieldType::VARCHAR,
            SqlType::Text(_) | SqlType::Blob(_) => FieldType::BLOB,
            SqlType::Enum(_) => FieldType::ENUM,
            SqlType::Set(_) => FieldType::SET,
            SqlType::Json => FieldType::JSON,
            SqlType::Geometry(_) => FieldType::GEOMETRY,
            SqlType::Vector { .. } => FieldType::VECTOR,
            SqlType::Uuid | SqlType::Inet4 | SqlType::Inet6 => FieldType::STRING,
        };
        field.0.into()
    }
}

fn decimal_kind(precision: u8, scale: u8, policies: &Policies) -> ColumnKind {
    let decimal = |precision: u8, scale: u8| match i8::try_from(scale) {
        Ok(narrow) if (1..=38).contains(&precision) && scale <= precision => {
            Some(ColumnKind::Decimal { precision, scale: narrow })
        }
        _ => None,
    };
    let fits = decimal(precision, scale);
    let wide = || match policies.wide_decimal {
        WideDecimal::Text => None,
        WideDecimal::Double => Some(ColumnKind::NumericDouble),
        WideDecimal::Decimal { precision, scale } => decimal(precision, scale),
    };
    fits.or_else(wide).unwrap_or(ColumnKind::NumericText)
}

/// Bytes of a `STRING`: two bits of the length hide, inverted, in the byte of the type.
pub(super) fn string_length(meta: [u8; 2]) -> u16 {
    let [kind, low] = meta;
    if kind & 0x30 == 0x30 { low.into() } else { u16::from(low) | u16::from((kind & 0x30) ^ 0x30) << 4 }
}

/// Characters of a column of so many bytes.
fn characters(column: &MapColumn, bytes: u16) -> u32 {
    let widest = column.collation.and_then(Charset::of_collation).map_or(1, Charset::widest);
    u32::from(bytes) / u32::from(widest)
}

fn labels(column: &MapColumn) -> Option<Vec<String>> {
    let charset = column.collation.map_or(Some(Charset::Utf8mb4), Charset::of_collation)?;
    column.labels.as_ref()?.iter().map(|label| charset.to_text(label)).collect()
}

impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |unsigned: &bool| if *unsigned { " unsigned" } else { "" };
        match self {
            SqlType::Int { size, unsigned } => {
                let name = match size {
                    IntSize::Tiny => "tinyint",
                    IntSize::Small => "smallint",
                    IntSize::Medium => "mediumint",
                    IntSize::Int => "int",
                    IntSize::Big => "bigint",
                };
                write!(f, "{name}{}", sign(unsigned))
            }
            SqlType::Decimal { precision, scale, unsigned } => {
                write!(f, "decimal({precision},{scale}){}", sign(unsigned))
            }
            SqlType::Float { unsigned } => write!(f, "float{}", sign(unsigned)),
            SqlType::Double { unsigned } => write!(f, "double{}", sign(unsigned)),
            SqlType::Bit { bits } => write!(f, "bit({bits})"),
            SqlType::Year => f.write_str("year"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time { fraction } => moment(f, "time", *fraction),
            SqlType::DateTime { fraction } => moment(f, "datetime", *fraction),
            SqlType::Timestamp { fraction } => moment(f, "timestamp", *fraction),
            SqlType::Char { length } => write!(f, "char({length})"),
            SqlType::Varchar { length } => write!(f, "varchar({length})"),
            SqlType::Text(size) => write!(f, "{}text", size.prefix()),
            SqlType::Binary { length } => write!(f, "binary({length})"),
            SqlType::Varbinary { length } => write!(f, "varbinary({length})"),
            SqlType::Blob(size) => write!(f, "{}blob", size.prefix()),
            SqlType::Enum(labels) => list(f, "enum", labels),
            SqlType::Set(labels) => list(f, "set", labels),
            SqlType::Json => f.write_str("json"),
            SqlType::Geometry(of) => f.write_str(of.name()),
            SqlType::Vector { dimensions } => write!(f, "vector({dimensions})"),
            SqlType::Uuid => f.write_str("uuid"),
            SqlType::Inet4 => f.write_str("inet4"),
            SqlType::Inet6 => f.write_str("inet6"),
        }
    }
}

fn moment(f: &mut fmt::Formatter<'_>, name: &str, fraction: u8) -> fmt::Result {
    if fraction == 0 { f.write_str(name) } else { write!(f, "{name}({fraction})") }
}

fn list(f: &mut fmt::Formatter<'_>, name: &str, labels: &[String]) -> fmt::Result {
    let escaped = |label: &String| {
        let mut text = String::from("'");
        for letter in label.chars() {
            match letter {
                '\'' => text.push_str("''"),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\0' => text.push_str("\\0"),
                other => text.push(other),
            }
        }
        text + "'"
    };
    let quoted: Vec<String> = labels.iter().map(escaped).collect();
    write!(f, "{name}({})", quoted.join(","))
}

/// Takes `bigint(20) unsigned zerofill` apart: name, what stands in parentheses, the words after it.
fn parse(text: &str) -> Option<SqlType> {
    let text = text.trim();
    // MariaDB adds the version that would understand it: `varchar(20) /*M!100301 COMPRESSED*/`.
    let text = text.split("/*").next().unwrap_or(text).trim();
    let (name, inside, after) = match text.find('(') {
        Some(open) => {
            let close = text.rfind(')')?;
            (text.get(..open)?, Some(text.get(open + 1..close)?), text.get(close + 1..)?)
        }
        None => {
            let end = text.find(' ').unwrap_or(text.len());
            (text.get(..end)?, None, text.get(end..)?)
        }
    };
    let name = name.trim().to_ascii_lowercase();
    let words: Vec<String> = after.split_whitespace().map(str::to_ascii_lowercase).collect();
    let unsigned = words.iter().any(|word| word == "unsigned" || word == "zerofill");
    let mut numbers = inside.unwrap_or_default().split(',').map(|part| part.trim().parse::<u32>().ok());
    let (first, second) = (numbers.next().flatten(), numbers.next().flatten());
    let narrow = |number: Option<u32>, default: u8| number.map_or(Some(default), |n| u8::try_from(n).ok());
    let int = |size| SqlType::Int { size, unsigned };
    let fraction = narrow(first, 0);
    Some(match name.as_str() {
        "tinyint" | "boolean" | "bool" => int(IntSize::Tiny),
        "smallint" => int(IntSize::Small),
        "mediumint" => int(IntSize::Medium),
        "int" | "integer" => int(IntSize::Int),
        "bigint" => int(IntSize::Big),
        "decimal" | "numeric" | "dec" | "fixed" => {
            SqlType::Decimal { precision: narrow(first, 10)?, scale: narrow(second, 0)?, unsigned }
        }
        "float" => SqlType::Float { unsigned },
        "double" | "real" => SqlType::Double { unsigned },
        "bit" => SqlType::Bit { bits: narrow(first, 1)? },
        "year" => SqlType::Year,
        "date" => SqlType::Date,
        "time" => SqlType::Time { fraction: fraction? },
        "datetime" => SqlType::DateTime { fraction: fraction? },
        "timestamp" => SqlType::Timestamp { fraction: fraction? },
        "char" => SqlType::Char { length: first.unwrap_or(1) },
        "varchar" => SqlType::Varchar { length: first? },
        "binary" => SqlType::Binary { length: first.unwrap_or(1) },
        "varbinary" => SqlType::Varbinary { length: first? },
        "tinytext" => SqlType::Text(LongSize::Tiny),
        "text" => SqlType::Text(LongSize::Plain),
        "mediumtext" => SqlType::Text(LongSize::Medium),
        "longtext" => SqlType::Text(LongSize::Long),
        "tinyblob" => SqlType::Blob(LongSize::Tiny),
        "blob" => SqlType::Blob(LongSize::Plain),
        "mediumblob" => SqlType::Blob(LongSize::Medium),
        "longblob" => SqlType::Blob(LongSize::Long),
        "enum" => SqlType::Enum(quoted(inside?)?),
        "set" => SqlType::Set(quoted(inside?)?),
        "json" => SqlType::Json,
        "vector" => SqlType::Vector { dimensions: first.unwrap_or(2048) },
        "uuid" => SqlType::Uuid,
        "inet4" => SqlType::Inet4,
        "inet6" => SqlType::Inet6,
        "geomcollection" => SqlType::Geometry(GeometryType::Collection),
        other => {
            let found = GeometryType::ALL.iter().find(|(_, name)| *name == other)?;
            SqlType::Geometry(found.0)
        }
    })
}

/// `'a','it''s'`: as the catalogue writes labels: quotes doubled, backslashes and line ends escaped.
fn quoted(text: &str) -> Option<Vec<String>> {
    let (mut labels, mut rest) = (Vec::new(), text.trim());
    loop {
        let mut label = String::new();
        let mut chars = rest.strip_prefix('\'')?.char_indices().peekable();
        let end = loop {
            match chars.next()? {
                (_, '\'') if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                    chars.next();
                    label.push('\'');
                }
                (at, '\'') => break at + 2,
                (_, '\\') => label.push(match chars.next()?.1 {
                    'n' => '\n',
                    'r' => '\r',
                    '0' => '\0',
                    other => other,
                }),
                (_, other) => label.push(other),
            }
        };
        labels.push(label);
        rest = rest.get(end..)?.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return rest.is_empty().then_some(labels),
        }
    }
}
