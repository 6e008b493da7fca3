//! From a column of PostgreSQL to Connect's schema of it and the way its values are written.

use super::connect::{Schema, Type, names};
use super::default::{self, DefaultValue};
use super::options::{BinaryMode, Connector, DecimalMode, HstoreMode, IntervalMode, Options, TimeMode};
use super::out::{Nullness, Out};
use super::value::{Cell, Conv, Unit};
use crate::schema::{Column, DeclaredColumn, DeclaredType};

/// Type ids that never change (`pg_type.dat`).
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const BYTEA: u32 = 17;
    pub(super) const CHAR: u32 = 18;
    pub(super) const NAME: u32 = 19;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const TEXT: u32 = 25;
    pub(super) const OID: u32 = 26;
    pub(super) const OIDVECTOR: u32 = 30;
    pub(super) const JSON: u32 = 114;
    pub(super) const XML: u32 = 142;
    pub(super) const POINT: u32 = 600;
    pub(super) const CIDR: u32 = 650;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const MACADDR8: u32 = 774;
    pub(super) const MONEY: u32 = 790;
    pub(super) const MACADDR: u32 = 829;
    pub(super) const INET: u32 = 869;
    pub(super) const BPCHAR: u32 = 1042;
    pub(super) const VARCHAR: u32 = 1043;
    pub(super) const DATE: u32 = 1082;
    pub(super) const TIME: u32 = 1083;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
    pub(super) const INTERVAL: u32 = 1186;
    pub(super) const TIMETZ: u32 = 1266;
    pub(super) const BIT: u32 = 1560;
    pub(super) const VARBIT: u32 = 1562;
    pub(super) const NUMERIC: u32 = 1700;
    pub(super) const REFCURSOR: u32 = 1790;
    pub(super) const UUID: u32 = 2950;
    pub(super) const TSVECTOR: u32 = 3614;
    pub(super) const JSONB: u32 = 3802;
    /// `int4range`, `numrange`, `tsrange`, `tstzrange`, `daterange`, `int8range`.
    pub(super) const RANGES: [u32; 6] = [3904, 3906, 3908, 3910, 3912, 3926];
    /// Arrays of these are not known to Debezium.
    pub(super) const NO_ARRAYS: [u32; 7] = [MONEY, NAME, INTERVAL, VARBIT, XML, POINT, REFCURSOR];
}

const NO_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// How a column is written.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Compiled {
    pub(super) schema: Schema,
    pub(super) conv: Conv,
    pub(super) nullness: Nullness,
    /// The default that the schema shows.
    pub(super) default: Option<DefaultValue>,
    /// Digits of fraction of a decimal text's zero.
    pub(super) scale: i32,
}

/// `None`: a type that Debezium does not know, and that is not wanted.
pub(super) fn compile(
    column: &Column,
    declared: Option<&DeclaredColumn>,
    options: &Options,
) -> Option<Compiled> {
    if options.connector != Connector::Postgresql {
        return super::column_my::compile(column, declared, options);
    }
    let found = match declared {
        Some(declared) => declared.declared_type.clone(),
        None => DeclaredType {
            oid: column.type_oid,
            modifier: column.type_modifier,
            name: column.type_name.clone(),
            ..DeclaredType::default()
        },
    };
    let (schema, conv) = of_type(&found, options)?;
    // Debezium's builder of geometries makes them optional, whatever the column is.
    let optional = declared.is_none_or(|declared| declared.nullable) || conv == Conv::Geometry;
    let default = declared
        .and_then(|declared| declared.default.as_deref())
        .filter(|_| shows_default(&found))
        .and_then(default::parse)
        .map(|default| default.of_uuid(found.oid == oid::UUID))
        .filter(|default| default.is_of(&conv));
    let nullness = match (optional, &default) {
        (false, _) => Nullness::Required,
        (true, None) => Nullness::Optional,
        (true, Some(_)) => Nullness::OptionalWithDefault,
    };
    let scale = numeric_modifier(found.modifier).map_or(0, |(_, scale)| scale);
    Some(Compiled { schema: schema.nullable(optional), conv, nullness, default, scale })
}

impl DefaultValue {
    /// The zero of a `uuid` is one.
    fn of_uuid(self, is_uuid: bool) -> Self {
        match self {
            DefaultValue::Function if is_uuid => DefaultValue::Constant(NO_UUID.to_owned()),
            other => other,
        }
    }

    /// Whether a column of this kind can have it.
    pub(super) fn is_of(&self, conv: &Conv) -> bool {
        self.write(conv, 0, &mut super::out::Nowhere).is_some()
    }

    /// Writes it as a value. `None`: it is not of the column's type.
    pub(super) fn write<O: Out>(&self, conv: &Conv, scale: i32, out: &mut O) -> Option<()> {
        match (self, conv) {
            (DefaultValue::Constant(text), _) => conv.write_text(text, out).ok(),
            (DefaultValue::Octets(bytes), _) => conv.write(Cell::Bytes(bytes), out).ok(),
            (DefaultValue::Function, Conv::Zoned(_)) => conv.write_text("1970-01-01 00:00:00+00", out).ok(),
            (DefaultValue::Function, _) => {
                conv.write_zero(scale, out);
                Some(())
            }
        }
    }
}

/// Types whose defaults Debezium reads.
fn shows_default(found: &DeclaredType) -> bool {
    match found.oid {
        oid::BOOL | oid::CHAR | oid::INT8 | oid::INT2 | oid::INT4 | oid::TEXT | oid::JSON | oid::JSONB => {
            true
        }
        oid::FLOAT4 | oid::FLOAT8 | oid::BPCHAR | oid::VARCHAR | oid::UUID | oid::INTERVAL => true,
        oid::DATE | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ | oid::BIT | oid::VARBIT => true,
        oid::NUMERIC => found.modifier >= 0,
        _ => found.labels.is_some(),
    }
}

fn of_type(found: &DeclaredType, options: &Options) -> Option<(Schema, Conv)> {
    known(found, options).or_else(|| {
        let unknown = || Some((Schema::of(Type::Bytes), Conv::OctetsOfText));
        if !options.include_unknown_datatypes {
            return None;
        }
        match &found.element {
            Some(_) => {
                let (nullness, delimiter) = (Nullness::Required, b',');
                let conv = Conv::Array { item: Box::new(Conv::OctetsOfText), nullness, delimiter };
                Some((Schema::array(Schema::of(Type::Bytes)), conv))
            }
            None => unknown(),
        }
    })
}

fn known(found: &DeclaredType, options: &Options) -> Option<(Schema, Conv)> {
    if let Some(labels) = &found.labels {
        return Some((enumeration(labels), Conv::Text));
    }
    if let Some(element) = found.element.as_ref().filter(|_| found.oid != oid::OIDVECTOR) {
        return array(element, options);
    }
    let text = || Schema::of(Type::String);
    Some(match found.oid {
        oid::BOOL => (Schema::of(Type::Boolean), Conv::Bool),
        oid::INT2 => (Schema::of(Type::Int16), Conv::Int),
        oid::INT4 => (Schema::of(Type::Int32), Conv::Int),
        oid::INT8 | oid::OID => (Schema::of(Type::Int64), Conv::Int),
        oid::FLOAT4 => (Schema::of(Type::Float), Conv::Float),
        oid::FLOAT8 => (Schema::of(Type::Double), Conv::Double),
        oid::NUMERIC => numeric(found.modifier, options),
        oid::MONEY => money(options),
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR => (text(), Conv::Text),
        oid::INET | oid::CIDR | oid::MACADDR | oid::MACADDR8 => (text(), Conv::Text),
        oid::JSON | oid::JSONB => (text().named("io.debezium.data.Json"), Conv::Text),
        oid::XML => (text().named("io.debezium.data.Xml"), Conv::Text),
        oid::UUID => (text().named("io.debezium.data.Uuid"), Conv::Text),
        oid::TSVECTOR => (text().named("io.debezium.data.Tsvector"), Conv::Text),
        oid::BYTEA => bytea(options.binary),
        oid::BIT | oid::VARBIT => bits(found.modifier),
        oid::DATE => date(options.time),
        oid::TIME => time(precision(found.modifier), options.time),
        oid::TIMETZ => (text().named("io.debezium.time.ZonedTime"), Conv::TimeTz),
        oid::TIMESTAMP => timestamp(precision(found.modifier), options.time),
        oid::TIMESTAMPTZ => {
            (text().named("io.debezium.time.ZonedTimestamp"), Conv::Zoned(precision(found.modifier)))
        }
        oid::INTERVAL => interval(options.interval),
        oid::POINT => (point(), Conv::Point),
        oid::OIDVECTOR => (Schema::array(Schema::of(Type::Int64)), Conv::Blanks),
        range if oid::RANGES.contains(&range) => (text(), Conv::Text),
        _ => return of_extension(found, options),
    })
}

fn of_extension(found: &DeclaredType, options: &Options) -> Option<(Schema, Conv)> {
    let text = || Schema::of(Type::String);
    Some(match (found.extension.as_deref()?, found.name.as_str()) {
        ("citext", "citext") | ("isn", "isbn") => (text(), Conv::Text),
        ("ltree", "ltree") => (text().named("io.debezium.data.Ltree"), Conv::Text),
        ("hstore", "hstore") => match options.hstore {
            HstoreMode::Json => (text().named("io.debezium.data.Json"), Conv::HstoreJson),
            HstoreMode::Map => {
                let (keys, values) = (text(), text().optional());
                (Schema::of(Type::Map(Box::new(keys), Box::new(values))), Conv::HstoreMap)
            }
        },
        ("postgis", "geometry") => (geometry("Geometry"), Conv::Geometry),
        ("postgis", "geography") => (geometry("Geography"), Conv::Geometry),
        ("vector", "vector") => {
            let items = Schema::of(Type::Double);
            (Schema::array(items).named("io.debezium.data.DoubleVector"), Conv::DoubleVector)
        }
        ("vector", "halfvec") => {
            let items = Schema::of(Type::Float);
            (Schema::array(items).named("io.debezium.data.FloatVector"), Conv::FloatVector)
        }
        ("vector", "sparsevec") => {
            let (keys, values) = (Schema::of(Type::Int16), Schema::of(Type::Double));
            let vector = Schema::of(Type::Map(Box::new(keys), Box::new(values)));
            let fields = vec![("dimensions", Schema::of(Type::Int16)), ("vector", vector)];
            let schema = Schema::structure(fields).named("io.debezium.data.SparseDoubleVector");
            (schema.doc("Sparse double vector"), Conv::SparseVector)
        }
        _ => return None,
    })
}

fn array(element: &DeclaredType, options: &Options) -> Option<(Schema, Conv)> {
    if oid::NO_ARRAYS.contains(&element.oid) {
        return None;
    }
    let (schema, conv) = known(element, options)?;
    let is_required = element.labels.is_some()
        || matches!(conv, Conv::DoubleVector | Conv::FloatVector | Conv::SparseVector);
    let nullness = if is_required { Nullness::Required } else { Nullness::Optional };
    let schema = Schema::array(schema.nullable(!is_required));
    Some((schema, Conv::Array { item: Box::new(conv), nullness, delimiter: b',' }))
}

fn enumeration(labels: &[String]) -> Schema {
    Schema::of(Type::String).named(names::ENUM).parameter("allowed", labels.join(","))
}

/// Precision and scale of a `numeric`; the scale has eleven bits and a sign.
fn numeric_modifier(modifier: i32) -> Option<(i32, i32)> {
    let packed = modifier.checked_sub(4).filter(|packed| *packed >= 0)?;
    Some(((packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024))
}

fn numeric(modifier: i32, options: &Options) -> (Schema, Conv) {
    match (options.decimal, numeric_modifier(modifier)) {
        (DecimalMode::String, _) => (Schema::of(Type::String), Conv::DecimalText),
        (DecimalMode::Double, _) => (Schema::of(Type::Double), Conv::DecimalDouble),
        (DecimalMode::Precise, Some((precision, scale))) => {
            let schema = decimal(scale).parameter("connect.decimal.precision", precision.to_string());
            (schema, Conv::Decimal { scale })
        }
        (DecimalMode::Precise, None) => {
            let fields = vec![("scale", Schema::of(Type::Int32)), ("value", Schema::of(Type::Bytes))];
            let schema = Schema::structure(fields).named("io.debezium.data.VariableScaleDecimal");
            (schema.doc("Variable scaled decimal"), Conv::VariableDecimal)
        }
    }
}

pub(super) fn decimal(scale: i32) -> Schema {
    Schema::of(Type::Bytes).named(names::DECIMAL).parameter("scale", scale.to_string())
}

fn money(options: &Options) -> (Schema, Conv) {
    match options.decimal {
        DecimalMode::String => (Schema::of(Type::String), Conv::DecimalText),
        DecimalMode::Double => (Schema::of(Type::Double), Conv::DecimalDouble),
        DecimalMode::Precise => {
            let scale = options.money_fraction_digits.into();
            (decimal(scale), Conv::Decimal { scale })
        }
    }
}

pub(super) fn bytea(mode: BinaryMode) -> (Schema, Conv) {
    let ty = if mode == BinaryMode::Bytes { Type::Bytes } else { Type::String };
    (Schema::of(ty), Conv::Octets(mode))
}

fn bits(modifier: i32) -> (Schema, Conv) {
    match modifier {
        1 => (Schema::of(Type::Boolean), Conv::BitBool),
        length => {
            let length = if length < 0 { i32::MAX } else { length };
            let schema = Schema::of(Type::Bytes).named("io.debezium.data.Bits");
            (schema.parameter("length", length.to_string()), Conv::Bits)
        }
    }
}

/// Digits of fraction of seconds; six where none are declared.
fn precision(modifier: i32) -> u8 {
    u8::try_from(modifier).unwrap_or(6)
}

pub(super) fn date(mode: TimeMode) -> (Schema, Conv) {
    match mode {
        TimeMode::Connect => (Schema::of(Type::Int32).named(names::CONNECT_DATE), Conv::DateDays),
        TimeMode::IsoString => (Schema::of(Type::String).named("io.debezium.time.IsoDate"), Conv::DateIso),
        _ => (Schema::of(Type::Int32).named("io.debezium.time.Date"), Conv::DateDays),
    }
}

fn time(precision: u8, mode: TimeMode) -> (Schema, Conv) {
    let (ty, name, unit) = match mode {
        TimeMode::Connect => (Type::Int32, names::CONNECT_TIME, Unit::Millis),
        TimeMode::IsoString => (Type::String, "io.debezium.time.IsoTime", Unit::Iso),
        TimeMode::Nanoseconds => (Type::Int64, "io.debezium.time.NanoTime", Unit::Nanos),
        TimeMode::Adaptive if precision <= 3 => (Type::Int32, "io.debezium.time.Time", Unit::Millis),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            (Type::Int64, "io.debezium.time.MicroTime", Unit::Micros)
        }
    };
    (Schema::of(ty).named(name), Conv::Time(unit))
}

pub(super) fn timestamp(precision: u8, mode: TimeMode) -> (Schema, Conv) {
    let (ty, name, unit) = match mode {
        TimeMode::Connect => (Type::Int64, names::CONNECT_TIMESTAMP, Unit::Millis),
        TimeMode::IsoString => (Type::String, "io.debezium.time.IsoTimestamp", Unit::Iso),
        TimeMode::Nanoseconds => (Type::Int64, "io.debezium.time.NanoTimestamp", Unit::Nanos),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds if precision <= 3 => {
            (Type::Int64, "io.debezium.time.Timestamp", Unit::Millis)
        }
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            (Type::Int64, "io.debezium.time.MicroTimestamp", Unit::Micros)
        }
    };
    (Schema::of(ty).named(name), Conv::Timestamp(unit))
}

fn interval(mode: IntervalMode) -> (Schema, Conv) {
    match mode {
        IntervalMode::Numeric => {
            (Schema::of(Type::Int64).named("io.debezium.time.MicroDuration"), Conv::IntervalMicros)
        }
        IntervalMode::String => {
            (Schema::of(Type::String).named("io.debezium.time.Interval"), Conv::IntervalIso)
        }
    }
}

pub(super) fn point() -> Schema {
    let fields = vec![
        ("x", Schema::of(Type::Double)),
        ("y", Schema::of(Type::Double)),
        ("wkb", Schema::of(Type::Bytes).optional()),
        ("srid", Schema::of(Type::Int32).optional()),
    ];
    Schema::structure(fields).named("io.debezium.data.geometry.Point").doc("Geometry (POINT)")
}

pub(super) fn geometry(name: &str) -> Schema {
    let fields = vec![("wkb", Schema::of(Type::Bytes)), ("srid", Schema::of(Type::Int32).optional())];
    let doc = if name == "Geometry" { "Geometry" } else { "Geography" };
    Schema::structure(fields).named(format!("io.debezium.data.geometry.{name}")).doc(doc)
}
