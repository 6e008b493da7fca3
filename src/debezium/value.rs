//! From one cell to one value in the form that the column's schema announces.

use super::decimal::{self, Decimal};
use super::iso::{self, Short};
use super::options::{BinaryMode, Disguise};
use super::out::{Nullness, Out, Pair};
use super::text::{self, Item};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A value as it travels.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    /// Unscaled, and its scale.
    Decimal(i128, i8),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Units of a moment or of a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
    /// ISO 8601, fraction without zeros at its end, `Z`.
    Iso,
}

/// How a column's cells become values.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Conv {
    Bool,
    /// `bit(1)`.
    BitBool,
    Bits,
    Int,
    Float,
    Double,
    /// Connect's `Decimal` of this scale.
    Decimal {
        scale: i32,
    },
    /// Scale and unscaled number.
    VariableDecimal,
    /// Plain digits; with this scale, if it is fixed.
    DecimalText,
    DecimalDouble,
    Text,
    Octets(BinaryMode),
    /// The bytes of a text: types that Debezium does not know.
    OctetsOfText,
    DateDays,
    DateIso,
    Time(Unit),
    TimeTz,
    Timestamp(Unit),
    /// UTC with so many digits of fraction.
    Zoned(u8),
    IntervalMicros,
    IntervalIso,
    HstoreJson,
    HstoreMap,
    Point,
    /// EWKB with its SRID.
    Geometry,
    /// The same of MySQL: the bytes without the SRID, which stands beside them.
    Wkb,
    WkbPoint,
    /// An unsigned number of 64 bits in a signed one, as Debezium's `long` has it.
    Wrapped,
    /// Bits in as many bytes as the column has.
    WholeBits {
        bytes: usize,
    },
    /// MySQL's `time`: a span.
    Span(Unit),
    DoubleVector,
    FloatVector,
    SparseVector,
    Array {
        item: Box<Conv>,
        nullness: Nullness,
        delimiter: u8,
    },
    /// `1 2 3`.
    Blanks,
    /// Text that is shown as something else.
    Disguised(Disguise),
    /// A number that is a truth value: `tinyint(1)`.
    IntBool,
}

/// What a value cannot be; the caller knows the column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// `NaN` or an infinity where the format has none.
    NotANumber,
    /// Digits would be lost.
    Digits,
    /// Beyond the format's range.
    Range,
    /// More than one dimension where the schema has one.
    Dimensions,
    /// Not of its type's text form.
    Form,
    /// Unchanged, and the old value is not known.
    Unchanged,
}

impl Trouble {
    pub(super) fn text(self) -> &'static str {
        match self {
            Trouble::NotANumber => "NaN or an infinity, which this form of numbers does not have",
            Trouble::Digits => "more digits of fraction than the column announces",
            Trouble::Range => "a moment beyond the range of this form",
            Trouble::Dimensions => "an array of several dimensions, which a schema of one cannot hold",
            Trouble::Form => "a value that is not of its type's text form",
            Trouble::Unchanged => {
                "an unchanged value that the log does not repeat, of a type without a placeholder"
            }
        }
    }
}

type Written = Result<(), Trouble>;

impl Conv {
    /// Whether a cell that is there stands for no value: an empty `varbit(1)`.
    #[inline]
    pub(super) fn is_void(&self, cell: Cell<'_>) -> bool {
        matches!((self, cell), (Conv::BitBool, Cell::Text("")))
    }

    /// Writes a cell.
    #[inline]
    pub(super) fn write<O: Out>(&self, cell: Cell<'_>, out: &mut O) -> Written {
        match (self, cell) {
            (Conv::Int, Cell::Int(value)) => out.integer(value),
            (Conv::Text, Cell::Text(text)) => out.text(text),
            (Conv::Disguised(disguise), Cell::Text(text)) => out.text(&disguise.of(text)),
            (Conv::Bool, Cell::Bool(value)) => out.boolean(value),
            (Conv::IntBool, Cell::Int(value)) => out.boolean(value != 0),
            (Conv::Float, Cell::Float(value)) => out.float(value),
            (Conv::Double | Conv::DecimalDouble, Cell::Double(value)) => out.double(value),
            (Conv::DateDays, Cell::Int(days)) => out.integer(days),
            (Conv::DateIso, Cell::Int(days)) => out.plain(iso::date(days).as_str()),
            (Conv::Timestamp(unit), Cell::Int(micros)) => return timestamp(*unit, micros, out),
            (Conv::Zoned(digits), Cell::Int(micros)) => out.plain(iso::zoned(*digits, micros).as_str()),
            (Conv::Octets(mode), Cell::Bytes(bytes)) => octets(*mode, bytes, out),
            (Conv::Geometry, Cell::Bytes(bytes)) => geometry(bytes, out),
            (Conv::Wkb, Cell::Bytes(bytes)) => wkb(bytes, out).ok_or(Trouble::Form)?,
            (Conv::WkbPoint, Cell::Bytes(bytes)) => wkb_point(bytes, out).ok_or(Trouble::Form)?,
            (Conv::Double, Cell::Float(value)) => out.double(value.into()),
            (Conv::Wrapped, Cell::Int(value)) => out.integer(value),
            (_, Cell::Decimal(value, scale)) => return self.write_decimal(value, scale, out),
            (_, Cell::Text(text)) => return self.write_text(text, out),
            _ => return Err(Trouble::Form),
        }
        Ok(())
    }

    fn write_decimal<O: Out>(&self, value: i128, scale: i8, out: &mut O) -> Written {
        match self {
            Conv::Decimal { scale: wanted } if *wanted == i32::from(scale) => {
                let mut buffer = [0; 16];
                out.decimal(decimal::unscaled(value, &mut buffer), || Decimal::of(value, scale.into()));
                Ok(())
            }
            Conv::Int => i64::try_from(value).map(|value| out.integer(value)).map_err(|_| Trouble::Range),
            Conv::Wrapped => {
                u64::try_from(value).map(|value| out.integer(value.cast_signed())).map_err(|_| Trouble::Range)
            }
            _ => self.write_number(Decimal::of(value, scale.into()), out),
        }
    }

    fn write_number<O: Out>(&self, number: Decimal, out: &mut O) -> Written {
        match self {
            Conv::Decimal { scale } => {
                let number = number.scaled(*scale).ok_or(Trouble::Digits)?;
                out.decimal(&number.unscaled(), || number.clone());
            }
            Conv::VariableDecimal => {
                let number = number.stripped();
                variable(number.scale.into(), &number.unscaled(), out);
            }
            Conv::DecimalText => out.text(&number.plain()),
            Conv::DecimalDouble => out.double(number.plain().parse().map_err(|_| Trouble::Form)?),
            Conv::OctetsOfText => out.bytes(number.plain().as_bytes()),
            _ => return Err(Trouble::Form),
        }
        Ok(())
    }

    /// Writes a value from PostgreSQL's text of it: columns that travel so, items of arrays, defaults.
    pub(super) fn write_text<O: Out>(&self, text: &str, out: &mut O) -> Written {
        let form = Trouble::Form;
        match self {
            Conv::Text => out.text(text),
            Conv::OctetsOfText => out.bytes(text.as_bytes()),
            Conv::Bool => out.boolean(matches!(text, "t" | "true" | "1")),
            Conv::IntBool => out.boolean(text != "0"),
            Conv::BitBool => out.boolean(text.ends_with('1')),
            Conv::Bits => out.bytes(&text::bits(text).ok_or(form)?),
            Conv::WholeBits { bytes } => {
                let bits = u64::from_str_radix(text, 2).map_err(|_| form)?.to_le_bytes();
                out.bytes(bits.get(..*bytes).ok_or(form)?);
            }
            Conv::Span(unit) => return span(*unit, text::span(text).ok_or(form)?, out),
            Conv::Wrapped => {
                let number: u64 = text.parse().map_err(|_| form)?;
                out.integer(number.cast_signed());
            }
            Conv::Int => out.integer(text.parse().map_err(|_| form)?),
            Conv::Float => out.float(text.parse().map_err(|_| form)?),
            Conv::Double => out.double(text.parse().map_err(|_| form)?),
            Conv::DateDays => out.integer(text::date(text).ok_or(form)?.into()),
            Conv::DateIso => out.plain(iso::date(text::date(text).ok_or(form)?.into()).as_str()),
            Conv::Time(unit) => time(*unit, text::time(text).ok_or(form)?, out),
            Conv::TimeTz => out.plain(iso::time_tz(text::time_with_zone(text).ok_or(form)?).as_str()),
            Conv::Timestamp(unit) => return timestamp(*unit, text::timestamp(text).ok_or(form)?, out),
            Conv::Zoned(digits) => {
                out.plain(iso::zoned(*digits, text::timestamp(text).ok_or(form)?).as_str());
            }
            Conv::IntervalMicros => out.integer(text::interval(text).ok_or(form)?.as_micros()),
            Conv::IntervalIso => out.text(&text::interval(text).ok_or(form)?.as_iso()),
            Conv::Octets(mode) => octets(*mode, &text::hex(text).ok_or(form)?, out),
            Conv::Array { item, nullness, delimiter } => {
                let items = text::array(text, *delimiter).ok_or(form)?;
                return array(item, *nullness, &items, out);
            }
            Conv::Decimal { .. } | Conv::VariableDecimal | Conv::DecimalText | Conv::DecimalDouble => {
                return self.write_numeric(text, out);
            }
            Conv::HstoreJson => out.text(&hstore_json(text).ok_or(form)?),
            _ => return self.write_compound(text, out),
        }
        Ok(())
    }

    fn write_numeric<O: Out>(&self, text: &str, out: &mut O) -> Written {
        match (self, Decimal::parse(text)) {
            (_, Some(number)) => self.write_number(number, out),
            (Conv::DecimalDouble, None) => text.parse().map(|n| out.double(n)).map_err(|_| Trouble::Form),
            (Conv::DecimalText, None) => {
                out.text(match text {
                    "NaN" => "NAN",
                    "Infinity" => "POSITIVE_INFINITY",
                    "-Infinity" => "NEGATIVE_INFINITY",
                    _ => return Err(Trouble::Form),
                });
                Ok(())
            }
            (_, None) => Err(Trouble::NotANumber),
        }
    }

    fn write_compound<O: Out>(&self, text: &str, out: &mut O) -> Written {
        let form = Trouble::Form;
        match self {
            Conv::HstoreMap => {
                let pairs = text::hstore(text).ok_or(form)?;
                out.begin_map(pairs.len());
                for (at, (key, value)) in pairs.iter().enumerate() {
                    out.map_key(key, at);
                    optional_text(value.as_deref(), out);
                }
                out.end_map(pairs.len());
            }
            Conv::Point => {
                let (x, y) = text::point(text).ok_or(form)?;
                point(x, y, out);
            }
            Conv::Geometry => geometry(&hex_digits(text).ok_or(form)?, out),
            Conv::DoubleVector => {
                let numbers = text::vector(text).ok_or(form)?;
                listed(&numbers, out, |number, out| out.double(*number));
            }
            Conv::FloatVector => {
                let body = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).ok_or(form)?;
                let numbers = body.split(',').map(str::parse).collect::<Result<Vec<f32>, _>>();
                listed(&numbers.map_err(|_| form)?, out, |number, out| out.float(*number));
            }
            Conv::SparseVector => sparse(text, out).ok_or(form)?,
            Conv::Blanks => {
                let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
                out.begin_array(words.len());
                for (at, word) in words.iter().enumerate() {
                    out.item(at);
                    out.integer(word.parse().map_err(|_| form)?);
                }
                out.end_array(words.len());
            }
            _ => return Err(form),
        }
        Ok(())
    }

    /// What Debezium writes for a NOT NULL column that the log does not hold.
    pub(super) fn write_zero<O: Out>(&self, scale: i32, out: &mut O) {
        match self {
            Conv::Bool | Conv::BitBool | Conv::IntBool => out.boolean(false),
            Conv::Int | Conv::Wrapped | Conv::DateDays | Conv::IntervalMicros => out.integer(0),
            Conv::Time(unit) | Conv::Span(unit) => time(*unit, 0, out),
            Conv::WholeBits { bytes } => out.bytes(&vec![0; *bytes]),
            Conv::Timestamp(Unit::Iso) => out.plain(iso::timestamp(0).as_str()),
            Conv::Timestamp(_) => out.integer(0),
            Conv::Float => out.float(0.0),
            Conv::Double | Conv::DecimalDouble => out.double(0.0),
            Conv::Decimal { scale } => out.decimal(&[0], || Decimal::of(0, *scale)),
            Conv::VariableDecimal => variable(0, &[0], out),
            Conv::DecimalText => out.text(&Decimal::of(0, scale).plain()),
            Conv::Bits | Conv::Octets(BinaryMode::Bytes) | Conv::OctetsOfText => out.bytes(&[]),
            Conv::Text | Conv::Octets(_) => out.text(""),
            Conv::Disguised(disguise) => out.text(&disguise.of("")),
            Conv::DateIso => out.plain(iso::date(0).as_str()),
            Conv::TimeTz => out.text("00:00:00Z"),
            Conv::Zoned(_) => out.text("1970-01-01T00:00:00Z"),
            Conv::IntervalIso => out.text(&text::Interval::default().as_iso()),
            Conv::HstoreJson => out.text("{}"),
            Conv::HstoreMap => {
                out.begin_map(0);
                out.end_map(0);
            }
            Conv::Point | Conv::WkbPoint => point(0.0, 0.0, out),
            Conv::Geometry | Conv::Wkb => geometry(EMPTY_COLLECTION, out),
            Conv::SparseVector => {
                let _always_of_its_form = sparse("{}/0", out);
            }
            Conv::DoubleVector | Conv::FloatVector | Conv::Array { .. } | Conv::Blanks => {
                out.begin_array(0);
                out.end_array(0);
            }
        }
    }

    /// What stands for an unchanged value that is not known.
    pub(super) fn write_placeholder<O: Out>(&self, placeholder: &str, out: &mut O) -> Written {
        match self {
            Conv::Text => out.text(placeholder),
            Conv::Disguised(Disguise::Stars(count)) => out.text(&"*".repeat(*count)),
            Conv::Disguised(_) => out.text(placeholder),
            Conv::Octets(BinaryMode::Bytes) => out.bytes(placeholder.as_bytes()),
            Conv::Octets(_) => out.text(placeholder),
            Conv::HstoreJson => {
                let mut pair = Vec::new();
                super::json::string(placeholder, &mut pair);
                let pair = String::from_utf8_lossy(&pair).into_owned();
                out.text(&format!("{{{pair}:{pair}}}"));
            }
            Conv::HstoreMap => {
                out.begin_map(1);
                out.map_key(placeholder, 0);
                optional_text(Some(placeholder), out);
                out.end_map(1);
            }
            Conv::Array { item, nullness, .. } => match **item {
                Conv::Text | Conv::Octets(_) => {
                    out.begin_array(1);
                    out.item(0);
                    out.some(*nullness);
                    item.write_placeholder(placeholder, out)?;
                    out.end_array(1);
                }
                Conv::Int | Conv::DateDays => {
                    let bytes = placeholder.as_bytes();
                    out.begin_array(bytes.len());
                    for (at, byte) in bytes.iter().enumerate() {
                        out.item(at);
                        out.some(*nullness);
                        out.integer((*byte).into());
                    }
                    out.end_array(bytes.len());
                }
                _ => return Err(Trouble::Unchanged),
            },
            _ => return Err(Trouble::Unchanged),
        }
        Ok(())
    }
}

/// A collection of nothing, as Debezium writes where it knows no geometry.
const EMPTY_COLLECTION: &[u8] = &[1, 7, 0, 0, 0, 0, 0, 0, 0];

fn optional_text<O: Out>(value: Option<&str>, out: &mut O) {
    match value {
        None => out.null(Nullness::Optional),
        Some(value) => {
            out.some(Nullness::Optional);
            out.text(value);
        }
    }
}

fn array<O: Out>(of: &Conv, nullness: Nullness, items: &[Item], out: &mut O) -> Written {
    out.begin_array(items.len());
    for (at, item) in items.iter().enumerate() {
        out.item(at);
        match item {
            Item::Null if nullness.is_optional() => out.null(nullness),
            Item::Null if out.is_strict() => return Err(Trouble::Form),
            Item::Null => out.null(nullness),
            Item::Text(text) => {
                out.some(nullness);
                of.write_text(text, out)?;
            }
            Item::Array(items) if out.may_nest() => array(of, nullness, items, out)?,
            Item::Array(_) => return Err(Trouble::Dimensions),
        }
    }
    out.end_array(items.len());
    Ok(())
}

fn listed<T, O: Out>(items: &[T], out: &mut O, write: impl Fn(&T, &mut O)) {
    out.begin_array(items.len());
    for (at, item) in items.iter().enumerate() {
        out.item(at);
        write(item, out);
    }
    out.end_array(items.len());
}

fn octets<O: Out>(mode: BinaryMode, bytes: &[u8], out: &mut O) {
    match mode {
        BinaryMode::Bytes => out.bytes(bytes),
        BinaryMode::Base64 => out.text(&STANDARD.encode(bytes)),
        BinaryMode::Base64UrlSafe => out.text(&URL_SAFE.encode(bytes)),
        BinaryMode::Hex => out.text(&hex_of(bytes)),
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|d| char::from_digit(d.into(), 16))
        .collect()
}

fn hex_digits(text: &str) -> Option<Vec<u8>> {
    text::hex(&format!("\\x{text}"))
}

fn variable<O: Out>(scale: i64, unscaled: &[u8], out: &mut O) {
    out.begin_struct();
    out.field(b"\"scale\":", 0);
    out.integer(scale);
    out.field(b"\"value\":", 1);
    out.bytes(unscaled);
    out.end_struct();
}

fn point<O: Out>(x: f64, y: f64, out: &mut O) {
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend_from_slice(&x.to_le_bytes());
    wkb.extend_from_slice(&y.to_le_bytes());
    point_of((x, y), &wkb, None, out);
}

fn point_of<O: Out>((x, y): (f64, f64), wkb: &[u8], srid: Option<i32>, out: &mut O) {
    out.begin_struct();
    out.field(b"\"x\":", 0);
    out.double(x);
    out.field(b"\"y\":", 1);
    out.double(y);
    out.field(b"\"wkb\":", 2);
    out.some(Nullness::Optional);
    out.bytes(wkb);
    out.field(b"\"srid\":", 3);
    optional_integer(srid, out);
    out.end_struct();
}

fn geometry<O: Out>(ewkb: &[u8], out: &mut O) {
    out.begin_struct();
    out.field(b"\"wkb\":", 0);
    out.bytes(ewkb);
    out.field(b"\"srid\":", 1);
    match srid(ewkb) {
        Some(srid) => {
            out.some(Nullness::Optional);
            out.integer(srid.into());
        }
        None => out.null(Nullness::Optional),
    }
    out.end_struct();
}

/// The bytes without the SRID, little-endian as MySQL stores them, and the SRID.
fn without_srid(ewkb: &[u8]) -> Option<(Vec<u8>, Option<i32>)> {
    const HAS_SRID: u32 = 0x2000_0000;
    let Some(srid) = srid(ewkb) else { return Some((ewkb.to_vec(), None)) };
    let kind: [u8; 4] = ewkb.get(1..5)?.try_into().ok()?;
    let is_little = *ewkb.first()? == 1;
    let kind = if is_little { u32::from_le_bytes(kind) } else { u32::from_be_bytes(kind) } & !HAS_SRID;
    let mut bytes = vec![*ewkb.first()?];
    bytes.extend_from_slice(&if is_little { kind.to_le_bytes() } else { kind.to_be_bytes() });
    bytes.extend_from_slice(ewkb.get(9..)?);
    Some((bytes, Some(srid).filter(|srid| *srid != 0)))
}

fn wkb<O: Out>(ewkb: &[u8], out: &mut O) -> Option<()> {
    let (bytes, srid) = without_srid(ewkb)?;
    out.begin_struct();
    out.field(b"\"wkb\":", 0);
    out.bytes(&bytes);
    out.field(b"\"srid\":", 1);
    optional_integer(srid, out);
    out.end_struct();
    Some(())
}

fn wkb_point<O: Out>(ewkb: &[u8], out: &mut O) -> Option<()> {
    let (bytes, srid) = without_srid(ewkb)?;
    let number = |from: usize| Some(f64::from_le_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
    point_of((number(5)?, number(13)?), &bytes, srid, out);
    Some(())
}

fn optional_integer<O: Out>(value: Option<i32>, out: &mut O) {
    match value {
        Some(value) => {
            out.some(Nullness::Optional);
            out.integer(value.into());
        }
        None => out.null(Nullness::Optional),
    }
}

/// A span; as a time of day it cannot be negative or longer than a day.
fn span<O: Out>(unit: Unit, micros: i64, out: &mut O) -> Written {
    if matches!(unit, Unit::Millis | Unit::Iso) && !(0..86_400_000_000).contains(&micros) {
        return Err(Trouble::Range);
    }
    time(unit, micros, out);
    Ok(())
}

/// The SRID within EWKB, if it has one.
fn srid(ewkb: &[u8]) -> Option<i32> {
    const HAS_SRID: u32 = 0x2000_0000;
    let is_little = *ewkb.first()? == 1;
    let kind: [u8; 4] = ewkb.get(1..5)?.try_into().ok()?;
    let srid: [u8; 4] = ewkb.get(5..9)?.try_into().ok()?;
    let (kind, srid) = if is_little {
        (u32::from_le_bytes(kind), i32::from_le_bytes(srid))
    } else {
        (u32::from_be_bytes(kind), i32::from_be_bytes(srid))
    };
    (kind & HAS_SRID != 0).then_some(srid)
}

fn sparse<O: Out>(text: &str, out: &mut O) -> Option<()> {
    let (pairs, dimensions) = text::sparse(text)?;
    out.begin_struct();
    out.field(b"\"dimensions\":", 0);
    out.integer(dimensions);
    out.field(b"\"vector\":", 1);
    out.begin_array(pairs.len());
    for (at, (place, value)) in pairs.iter().enumerate() {
        out.item(at);
        // A map whose keys are no text: an array of pairs. Avro has records of them.
        out.pair(Pair::Begin);
        out.integer(*place);
        out.pair(Pair::Middle);
        out.double(*value);
        out.pair(Pair::End);
    }
    out.end_array(pairs.len());
    out.end_struct();
    Some(())
}

fn hstore_json(text: &str) -> Option<String> {
    let mut out = vec![b'{'];
    for (at, (key, value)) in text::hstore(text)?.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        super::json::string(key, &mut out);
        out.push(b':');
        match value {
            Some(value) => super::json::string(value, &mut out),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    String::from_utf8(out).ok()
}

fn time<O: Out>(unit: Unit, micros: i64, out: &mut O) {
    match unit {
        Unit::Millis => out.integer(micros.div_euclid(1000)),
        Unit::Micros => out.integer(micros),
        Unit::Nanos => out.integer(micros.saturating_mul(1000)),
        Unit::Iso => {
            let mut text = Short::default();
            text.clock(micros);
            text.push(b'Z');
            out.plain(text.as_str());
        }
    }
}

/// Debezium's microseconds of `infinity` and `-infinity`: those of PostgreSQL's JDBC driver.
const INFINITY: i64 = 9_223_372_036_825_200_000;
const MINUS_INFINITY: i64 = -9_223_372_036_832_400_000;

fn timestamp<O: Out>(unit: Unit, micros: i64, out: &mut O) -> Written {
    let (micros, is_infinite) = match micros {
        i64::MAX => (INFINITY, true),
        i64::MIN => (MINUS_INFINITY, true),
        micros => (micros, false),
    };
    match unit {
        Unit::Millis => out.integer(micros.div_euclid(1000)),
        Unit::Micros => out.integer(micros),
        Unit::Nanos if is_infinite => out.integer(if micros > 0 { i64::MAX } else { i64::MIN }),
        Unit::Nanos => out.integer(micros.checked_mul(1000).ok_or(Trouble::Range)?),
        Unit::Iso => out.plain(iso::timestamp(micros).as_str()),
    }
    Ok(())
}
