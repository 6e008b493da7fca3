//! From a column of MySQL or MariaDB to Connect's schema of it and the way its values are written.
//!
//! The type is read from the catalogue's spelling: `int unsigned`, `decimal(10,2)`, `enum('a','b')`.

use super::column::{Compiled, bytea, date, decimal, geometry, point, timestamp};
use super::connect::{Schema, Type, names};
use super::default::DefaultValue;
use super::options::{BigintUnsignedMode, Connector, DecimalMode, Options, TimeMode};
use super::out::Nullness;
use super::value::{Conv, Unit};
use crate::schema::{Column, DeclaredColumn, DeclaredType};

/// `None`: a type that Debezium does not know.
pub(super) fn compile(
    column: &Column,
    declared: Option<&DeclaredColumn>,
    options: &Options,
) -> Option<Compiled> {
    let found = match declared {
        Some(declared) => declared.declared_type.clone(),
        None => DeclaredType { name: column.type_name.clone(), ..DeclaredType::default() },
    };
    let spelled = Spelled::parse(&found.name);
    let (schema, conv) = of_type(&found, &spelled, options)?;
    let optional = declared.is_none_or(|declared| declared.nullable) || conv == Conv::Wkb;
    let default = declared
        .and_then(|declared| declared.default.as_deref())
        .filter(|_| shows_default(&conv))
        .and_then(|text| match conv {
            Conv::Octets(_) => octets(text, &spelled, options.connector),
            _ => parse_default(text, &conv, optional),
        })
        .filter(|default| default.is_of(&conv));
    let nullness = match (optional, &default) {
        (false, _) => Nullness::Required,
        (true, None) => Nullness::Optional,
        (true, Some(_)) => Nullness::OptionalWithDefault,
    };
    let scale = if spelled.base == "decimal" { spelled.second.unwrap_or(0) } else { 0 };
    Some(Compiled { schema: schema.nullable(optional), conv, nullness, default, scale })
}

/// A type's name taken apart.
struct Spelled {
    base: String,
    first: Option<i32>,
    second: Option<i32>,
    is_unsigned: bool,
}

impl Spelled {
    fn parse(name: &str) -> Self {
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        let (base, rest) = name.split_at(end);
        let (inside, behind) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            // The labels of an enumeration are not needed from here.
            Some((inside, behind)) => (inside, behind),
            None => ("", rest),
        };
        let mut numbers = inside.split(',').map(|number| number.trim().parse().ok());
        Spelled {
            base: base.to_ascii_lowercase(),
            first: numbers.next().flatten(),
            second: numbers.next().flatten(),
            is_unsigned: behind.contains("unsigned"),
        }
    }
}

fn of_type(found: &DeclaredType, spelled: &Spelled, options: &Options) -> Option<(Schema, Conv)> {
    let text = || Schema::of(Type::String);
    let int = |ty| (Schema::of(ty), Conv::Int);
    let fraction = u8::try_from(spelled.first.unwrap_or(0)).unwrap_or(6);
    Some(match (spelled.base.as_str(), spelled.is_unsigned) {
        ("tinyint", _) if options.tinyint_one_as_boolean && spelled.first == Some(1) => {
            (Schema::of(Type::Boolean), Conv::IntBool)
        }
        ("tinyint", _) | ("smallint", false) => int(Type::Int16),
        ("smallint", true) | ("mediumint", _) | ("int", false) => int(Type::Int32),
        ("int", true) | ("bigint", false) => int(Type::Int64),
        ("bigint", true) => match options.bigint_unsigned {
            BigintUnsignedMode::Long => (Schema::of(Type::Int64), Conv::Wrapped),
            BigintUnsignedMode::Precise => {
                (decimal(0).parameter("connect.decimal.precision", "20"), Conv::Decimal { scale: 0 })
            }
        },
        ("decimal", _) => fixed(spelled, options),
        ("float", _) if spelled.second.is_none() => (Schema::of(Type::Float), Conv::Float),
        ("float" | "double", _) => (Schema::of(Type::Double), Conv::Double),
        ("bit", _) => match spelled.first.unwrap_or(1) {
            1 => (Schema::of(Type::Boolean), Conv::Bool),
            length => {
                let schema = Schema::of(Type::Bytes).named("io.debezium.data.Bits");
                let bytes = usize::try_from(length).unwrap_or(64).div_ceil(8);
                (schema.parameter("length", length.to_string()), Conv::WholeBits { bytes })
            }
        },
        ("year", _) => (Schema::of(Type::Int32).named("io.debezium.time.Year"), Conv::Int),
        ("date", _) => date(options.time),
        ("time", _) => time(options.time),
        ("datetime", _) => timestamp(fraction, options.time),
        ("timestamp", _) => (text().named("io.debezium.time.ZonedTimestamp"), Conv::Zoned(fraction)),
        ("char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext", _) => (text(), Conv::Text),
        ("enum", _) => (labelled("Enum", found), Conv::Text),
        ("set", _) => (labelled("EnumSet", found), Conv::Text),
        ("binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", _) => {
            bytea(options.binary)
        }
        ("json", _) => (text().named("io.debezium.data.Json"), Conv::Text),
        ("point", _) => (point(), Conv::WkbPoint),
        (
            "geometry" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection",
            _,
        ) => (geometry("Geometry"), Conv::Wkb),
        ("vector", _) => {
            let items = Schema::of(Type::Float);
            (Schema::array(items).named("io.debezium.data.FloatVector"), Conv::FloatVector)
        }
        ("uuid", _) => (text().named("io.debezium.data.Uuid"), Conv::Text),
        ("inet4" | "inet6", _) => (text(), Conv::Text),
        _ => return None,
    })
}

fn fixed(spelled: &Spelled, options: &Options) -> (Schema, Conv) {
    let (precision, scale) = (spelled.first.unwrap_or(10), spelled.second.unwrap_or(0));
    match options.decimal {
        DecimalMode::String => (Schema::of(Type::String), Conv::DecimalText),
        DecimalMode::Double => (Schema::of(Type::Double), Conv::DecimalDouble),
        DecimalMode::Precise => {
            let schema = decimal(scale).parameter("connect.decimal.precision", precision.to_string());
            (schema, Conv::Decimal { scale })
        }
    }
}

/// A time of day, which is a span here: it may be negative, and longer than a day.
fn time(mode: TimeMode) -> (Schema, Conv) {
    let (ty, name, unit) = match mode {
        TimeMode::Connect => (Type::Int32, names::CONNECT_TIME, Unit::Millis),
        TimeMode::IsoString => (Type::String, "io.debezium.time.IsoTime", Unit::Iso),
        TimeMode::Nanoseconds => (Type::Int64, "io.debezium.time.NanoTime", Unit::Nanos),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            (Type::Int64, "io.debezium.time.MicroTime", Unit::Micros)
        }
    };
    (Schema::of(ty).named(name), Conv::Span(unit))
}

/// Debezium escapes what separates the labels.
fn labelled(name: &str, found: &DeclaredType) -> Schema {
    let escaped = |label: &String| label.replace('\\', "\\\\").replace(',', "\\,");
    let labels: Vec<String> = found.labels.iter().flat_map(|labels| labels.iter()).map(escaped).collect();
    let schema = Schema::of(Type::String).named(format!("io.debezium.data.{name}"));
    schema.parameter("allowed", labels.join(","))
}

/// Types whose defaults Debezium reads.
fn shows_default(conv: &Conv) -> bool {
    !matches!(conv, Conv::Wkb | Conv::WkbPoint | Conv::FloatVector)
}

/// The default of a column of bytes. MySQL's catalogue spells them as hexadecimal digits, MariaDB's as a text, which
/// tells them only where all of them are plain characters.
fn octets(text: &str, spelled: &Spelled, connector: Connector) -> Option<DefaultValue> {
    let inside = text.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let mut bytes: Vec<u8> = if connector == Connector::Mysql {
        let digits = inside.strip_prefix("0x")?.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.chunks(2).map(byte).collect::<Option<_>>()?
    } else {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'\\' | b'\'');
        inside.bytes().all(is_plain).then(|| inside.as_bytes().to_vec())?
    };
    if spelled.base == "binary" {
        bytes.resize(usize::try_from(spelled.first.unwrap_or(1)).ok()?, 0);
    }
    Some(DefaultValue::Octets(bytes))
}

/// `0000-00-00`, `2020-00-15`: of no calendar.
fn is_no_date(text: &str) -> bool {
    let mut parts = text.trim_matches('\'').split([' ', 'T']).next().unwrap_or_default().split('-').skip(1);
    parts.any(|part| part.trim_start_matches('0').is_empty())
}

/// Reads a default as SQL spells it. `None`: there is none that can be told.
fn parse_default(text: &str, conv: &Conv, optional: bool) -> Option<DefaultValue> {
    let text = text.trim();
    let is_moment = matches!(conv, Conv::Zoned(_) | Conv::Timestamp(_));
    if (is_moment || matches!(conv, Conv::DateDays | Conv::DateIso)) && is_no_date(text) {
        // As with values: nothing, or zero where there must be something.
        return (!optional).then_some(DefaultValue::Function);
    }
    if is_moment && text.to_ascii_lowercase().starts_with("current_timestamp") {
        return Some(DefaultValue::Function);
    }
    if let Some(bits) = text.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\'')) {
        return Some(DefaultValue::Constant(bits.to_owned()));
    }
    if let Some(inside) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        let literal = inside.replace("''", "'");
        // The catalogue of MySQL spells bits within the quotes.
        let bits = literal.strip_prefix("b'").and_then(|rest| rest.strip_suffix('\'')).map(str::to_owned);
        return Some(DefaultValue::Constant(bits.unwrap_or(literal)));
    }
    let is_number = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e' | b'E' | b'+'));
    is_number.then(|| DefaultValue::Constant(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_taken_apart() {
        let parsed = |text| {
            let Spelled { base, first, second, is_unsigned } = Spelled::parse(text);
            (base, first, second, is_unsigned)
        };
        assert_eq!(parsed("int(5) unsigned zerofill"), ("int".into(), Some(5), None, true));
        assert_eq!(parsed("decimal(10,2)"), ("decimal".into(), Some(10), Some(2), false));
        assert_eq!(parsed("datetime"), ("datetime".into(), None, None, false));
        assert_eq!(parsed("enum('a(b','unsigned')"), ("enum".into(), None, None, false));
    }

    #[test]
    fn defaults_as_the_catalogue_spells_them() {
        let constant = |text: &str| Some(DefaultValue::Constant(text.to_owned()));
        let parsed = |text, conv: Conv| parse_default(text, &conv, true);
        assert_eq!(parsed("'de''fault'", Conv::Text), constant("de'fault"));
        assert_eq!(parsed("'b''101'''", Conv::WholeBits { bytes: 1 }), constant("101"));
        assert_eq!(parsed("b'101'", Conv::WholeBits { bytes: 1 }), constant("101"));
        assert_eq!(parsed("-1.5", Conv::Double), constant("-1.5"));
        assert_eq!(parsed("CURRENT_TIMESTAMP(3)", Conv::Zoned(3)), Some(DefaultValue::Function));
        assert_eq!(parsed("(1 + 1)", Conv::Int), None);
        assert_eq!(parsed("'2020-01-10'", Conv::DateDays), constant("2020-01-10"));
        assert_eq!(parsed("'0000-00-00'", Conv::DateDays), None);
        assert_eq!(parse_default("'2020-00-10'", &Conv::DateDays, false), Some(DefaultValue::Function));
    }

    #[test]
    fn defaults_of_bytes() {
        let of = |text, name, connector| octets(text, &Spelled::parse(name), connector);
        let bytes = |bytes: &[u8]| Some(DefaultValue::Octets(bytes.to_vec()));
        assert_eq!(of("'0x6162'", "binary(3)", Connector::Mysql), bytes(b"ab\0"));
        assert_eq!(of("'ab'", "binary(3)", Connector::Mariadb), bytes(b"ab\0"));
        assert_eq!(of("'a\\0'", "varbinary(3)", Connector::Mariadb), None);
    }
}
