//! Avro's binary form, as Confluent's converter writes Connect's values.

use super::decimal::Decimal;
use super::out::{Nullness, Out, Pair};
use super::record::TransactionBlock;

/// Writes Avro.
pub(super) struct Avro<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

/// A whole number: zigzag, seven bits a byte.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7F).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn length(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

fn octets(value: &[u8], out: &mut Vec<u8>) {
    long(length(value.len()), out);
    out.extend_from_slice(value);
}

/// The transaction block where the value has the branch of null.
pub(super) fn transaction_block(block: &TransactionBlock<'_>, out: &mut Vec<u8>) {
    long(1, out);
    octets(block.id.as_bytes(), out);
    long(block.total_order.cast_signed(), out);
    long(block.data_collection_order.cast_signed(), out);
}

impl Out for Avro<'_> {
    fn position(&self) -> usize {
        self.out.len()
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn null(&mut self, nullness: Nullness) {
        match nullness {
            Nullness::Required => {}
            Nullness::Optional => long(0, self.out),
            Nullness::OptionalWithDefault => long(1, self.out),
        }
    }

    fn some(&mut self, nullness: Nullness) {
        match nullness {
            Nullness::Required => {}
            Nullness::Optional => long(1, self.out),
            Nullness::OptionalWithDefault => long(0, self.out),
        }
    }

    fn boolean(&mut self, value: bool) {
        self.out.push(value.into());
    }

    fn integer(&mut self, value: i64) {
        long(value, self.out);
    }

    fn float(&mut self, value: f32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn double(&mut self, value: f64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        octets(value.as_bytes(), self.out);
    }

    fn bytes(&mut self, value: &[u8]) {
        octets(value, self.out);
    }

    fn decimal(&mut self, unscaled: &[u8], _number: impl FnOnce() -> Decimal) {
        octets(unscaled, self.out);
    }

    fn begin_array(&mut self, items: usize) {
        if items > 0 {
            long(length(items), self.out);
        }
    }

    fn item(&mut self, _at: usize) {}

    fn end_array(&mut self, _items: usize) {
        long(0, self.out);
    }

    fn begin_struct(&mut self) {}

    fn field(&mut self, _label: &[u8], _at: usize) {}

    fn listed(&mut self, _label: &[u8], _at: usize) {}

    fn end_struct(&mut self) {}

    fn begin_map(&mut self, items: usize) {
        self.begin_array(items);
    }

    fn map_key(&mut self, key: &str, _at: usize) {
        self.text(key);
    }

    fn end_map(&mut self, items: usize) {
        self.end_array(items);
    }

    fn pair(&mut self, _part: Pair) {}

    fn may_nest(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag() {
        for (value, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (64, &[0x80, 1]), (-65, &[0x81, 1])] {
            let mut out = Vec::new();
            long(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
        let mut out = Vec::new();
        long(i64::MIN, &mut out);
        assert_eq!(out.len(), 10);
    }
}
