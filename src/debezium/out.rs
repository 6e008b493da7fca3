//! Where values are written: as JSON, or as Avro's binary form.

use super::decimal::Decimal;
use super::json;
use super::options::DecimalFormat;

/// Whether a value may be missing, and how that is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Nullness {
    Required,
    /// Avro: a union whose first branch is null.
    Optional,
    /// Avro: a union whose second branch is null, because the first has the default's type.
    OptionalWithDefault,
}

impl Nullness {
    pub(super) fn is_optional(self) -> bool {
        self != Nullness::Required
    }
}

/// A place in a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pair {
    Begin,
    Middle,
    End,
}

/// Writes values one after the other. What belongs around them is told by the caller, so that both forms come from
/// the same description of a column.
pub(super) trait Out {
    /// Bytes written so far, those before it in the same buffer counted.
    fn position(&self) -> usize;
    /// Bytes that an `Out` of the same kind has written before.
    fn raw(&mut self, bytes: &[u8]);
    /// No value.
    fn null(&mut self, nullness: Nullness);
    /// A value follows where there may be none.
    fn some(&mut self, nullness: Nullness);
    fn boolean(&mut self, value: bool);
    fn integer(&mut self, value: i64);
    fn float(&mut self, value: f32);
    fn double(&mut self, value: f64);
    fn text(&mut self, value: &str);
    /// Text of which it is known that it has nothing to be escaped.
    fn plain(&mut self, value: &str) {
        self.text(value);
    }
    fn bytes(&mut self, value: &[u8]);
    /// An unscaled number, two's complement.
    fn decimal(&mut self, unscaled: &[u8], number: impl FnOnce() -> Decimal);
    fn begin_array(&mut self, items: usize);
    /// Before the item of this number.
    fn item(&mut self, at: usize);
    fn end_array(&mut self, items: usize);
    fn begin_struct(&mut self);
    /// Before the field of this number. `label`: its name as JSON, with quotes and colon.
    fn field(&mut self, label: &[u8], at: usize);
    /// The same, of a label with a comma before it.
    fn listed(&mut self, label: &[u8], at: usize);
    fn end_struct(&mut self);
    /// A map with text keys.
    fn begin_map(&mut self, items: usize);
    fn map_key(&mut self, key: &str, at: usize);
    fn end_map(&mut self, items: usize);
    /// Around the two parts of a pair: JSON's array of two. Avro's record needs nothing.
    fn pair(&mut self, part: Pair);
    /// Whether arrays may hold arrays although the schema does not say so: where there is no schema.
    fn may_nest(&self) -> bool;
    /// Whether every value must be of its schema's type.
    fn is_strict(&self) -> bool {
        !self.may_nest()
    }
}

/// JSON as Connect's converter prints it.
pub(super) struct Json<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) decimals: DecimalFormat,
    /// A schema goes with it.
    pub(super) with_schema: bool,
}

impl Json<'_> {
    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.out.push(b',');
        }
    }
}

impl Out for Json<'_> {
    fn position(&self) -> usize {
        self.out.len()
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn null(&mut self, _nullness: Nullness) {
        self.out.extend_from_slice(b"null");
    }

    #[inline]
    fn some(&mut self, _nullness: Nullness) {}

    #[inline]
    fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn integer(&mut self, value: i64) {
        json::integer(value, self.out);
    }

    fn float(&mut self, value: f32) {
        json::float(value, self.out);
    }

    fn double(&mut self, value: f64) {
        json::double(value, self.out);
    }

    #[inline]
    fn text(&mut self, value: &str) {
        json::string(value, self.out);
    }

    #[inline]
    fn plain(&mut self, value: &str) {
        json::plain(value, self.out);
    }

    fn bytes(&mut self, value: &[u8]) {
        json::bytes(value, self.out);
    }

    fn decimal(&mut self, unscaled: &[u8], number: impl FnOnce() -> Decimal) {
        match self.decimals {
            DecimalFormat::Base64 => json::bytes(unscaled, self.out),
            DecimalFormat::Numeric => self.out.extend_from_slice(number().java().as_bytes()),
        }
    }

    fn begin_array(&mut self, _items: usize) {
        self.out.push(b'[');
    }

    fn item(&mut self, at: usize) {
        self.comma(at);
    }

    fn end_array(&mut self, _items: usize) {
        self.out.push(b']');
    }

    #[inline]
    fn begin_struct(&mut self) {
        self.out.push(b'{');
    }

    #[inline]
    fn field(&mut self, label: &[u8], at: usize) {
        self.comma(at);
        self.out.extend_from_slice(label);
    }

    #[inline]
    fn listed(&mut self, label: &[u8], at: usize) {
        let comma = usize::from(at == 0);
        self.out.extend_from_slice(label.get(comma..).unwrap_or_default());
    }

    #[inline]
    fn end_struct(&mut self) {
        self.out.push(b'}');
    }

    fn begin_map(&mut self, _items: usize) {
        self.out.push(b'{');
    }

    fn map_key(&mut self, key: &str, at: usize) {
        self.comma(at);
        json::string(key, self.out);
        self.out.push(b':');
    }

    fn end_map(&mut self, _items: usize) {
        self.out.push(b'}');
    }

    fn pair(&mut self, part: Pair) {
        self.out.push(match part {
            Pair::Begin => b'[',
            Pair::Middle => b',',
            Pair::End => b']',
        });
    }

    fn may_nest(&self) -> bool {
        !self.with_schema
    }
}

/// A field's label with a comma before it.
pub(super) fn listed(name: &str) -> Vec<u8> {
    let mut listed = vec![b','];
    listed.extend_from_slice(&label(name));
    listed
}

/// A field's label.
pub(super) fn label(name: &str) -> Vec<u8> {
    let mut label = Vec::with_capacity(name.len() + 3);
    json::string(name, &mut label);
    label.push(b':');
    label
}

/// Writes nothing: to see whether something can be written.
pub(super) struct Nowhere;

impl Out for Nowhere {
    fn position(&self) -> usize {
        0
    }

    fn raw(&mut self, _bytes: &[u8]) {}
    fn null(&mut self, _nullness: Nullness) {}
    fn some(&mut self, _nullness: Nullness) {}
    fn boolean(&mut self, _value: bool) {}
    fn integer(&mut self, _value: i64) {}
    fn float(&mut self, _value: f32) {}
    fn double(&mut self, _value: f64) {}
    fn text(&mut self, _value: &str) {}
    fn bytes(&mut self, _value: &[u8]) {}
    fn decimal(&mut self, _unscaled: &[u8], _number: impl FnOnce() -> Decimal) {}
    fn begin_array(&mut self, _items: usize) {}
    fn item(&mut self, _at: usize) {}
    fn end_array(&mut self, _items: usize) {}
    fn begin_struct(&mut self) {}
    fn field(&mut self, _label: &[u8], _at: usize) {}
    fn listed(&mut self, _label: &[u8], _at: usize) {}
    fn end_struct(&mut self) {}
    fn begin_map(&mut self, _items: usize) {}
    fn map_key(&mut self, _key: &str, _at: usize) {}
    fn end_map(&mut self, _items: usize) {}
    fn pair(&mut self, _part: Pair) {}
    fn may_nest(&self) -> bool {
        true
    }
}
