//! MySQL's binary JSON, and the text that the server writes for it.
//!
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/json__binary_8h.html>: objects and arrays are tables of offsets. A
//! damaged one could point to the same part again and again; so what is written may refer to each byte of the document
//! once at most.

use super::super::reason::Reason;
use super::super::table_map::FieldType;
use super::temporal::{Clock, Moment};
use super::{decimal, fixed, json};

/// Deeper than any document that the server accepts.
const MAX_DEPTH: usize = 101;

/// A value within a document: its type, and the bytes from its first on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value<'a> {
    kind: u8,
    bytes: &'a [u8],
}

/// What a value is.
pub(super) enum Shape<'a> {
    /// With names.
    Object(Members<'a>),
    /// Without.
    Array(Members<'a>),
    /// A value without parts.
    Leaf(Value<'a>),
}

/// The parts of an object or array.
#[derive(Clone, Copy)]
pub(super) struct Members<'a> {
    bytes: &'a [u8],
    count: usize,
    object: bool,
    /// Bytes of an offset: two or four.
    wide: usize,
}

/// How much of the document has not been referred to.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn of(document: &[u8]) -> Self {
        // A value in its parent's table takes three bytes at least; the outermost takes one.
        Budget(document.len().max(1))
    }

    /// For values that were counted before.
    pub(super) fn unlimited() -> Self {
        Budget(usize::MAX)
    }

    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), Reason> {
        self.0 = self.0.checked_sub(bytes).ok_or(Reason::Malformed)?;
        Ok(())
    }
}

/// The text of a document, as the server writes it.
pub(in crate::binlog) fn to_text(document: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    write(Value::of_document(document), &mut Budget::of(document), 0, out)
}

fn write(value: Value<'_>, budget: &mut Budget, depth: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    budget.spend(1)?;
    if depth > MAX_DEPTH {
        return Err(Reason::Malformed);
    }
    match value.shape()? {
        Shape::Leaf(leaf) => leaf.write(budget, out),
        Shape::Object(members) => {
            out.push(b'{');
            for index in 0..members.count {
                separate(index, out);
                let name = members.name(index)?;
                budget.spend(name.len())?;
                json::write_string(name, out);
                out.extend(b": ");
                write(members.value(index)?, budget, depth + 1, out)?;
            }
            out.push(b'}');
            Ok(())
        }
        Shape::Array(members) => {
            out.push(b'[');
            for index in 0..members.count {
                separate(index, out);
                write(members.value(index)?, budget, depth + 1, out)?;
            }
            out.push(b']');
            Ok(())
        }
    }
}

pub(super) fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.extend(b", ");
    }
}

impl<'a> Value<'a> {
    /// A whole document. Without bytes: null, as the server reads it.
    pub(super) fn of_document(document: &'a [u8]) -> Self {
        match document.split_first() {
            Some((&kind, bytes)) => Value { kind, bytes },
            None => Value { kind: 4, bytes: &[0] },
        }
    }

    /// Its parts, if it has any.
    pub(super) fn shape(self) -> Result<Shape<'a>, Reason> {
        let (object, wide) = match self.kind {
            0 => (true, 2),
            1 => (true, 4),
            2 => (false, 2),
            3 => (false, 4),
            _ => return Ok(Shape::Leaf(self)),
        };
        let number = |at: usize| uint(self.bytes, at, wide);
        let (count, size) = (number(0)?, number(wide)?);
        let bytes = self.bytes.get(..size).ok_or(Reason::Malformed)?;
        let members = Members { bytes, count, object, wide };
        // The tables are there.
        let names = if object { count.checked_mul(wide + 2) } else { Some(0) };
        let tables = count.checked_mul(wide + 1).and_then(|n| n.checked_add(names?)?.checked_add(2 * wide));
        if tables.is_none_or(|end| end > bytes.len()) {
            return Err(Reason::Malformed);
        }
        Ok(if object { Shape::Object(members) } else { Shape::Array(members) })
    }

    /// The text of a value without parts.
    pub(super) fn write(self, budget: &mut Budget, out: &mut Vec<u8>) -> Result<(), Reason> {
        let bytes = self.bytes;
        match self.kind {
            4 => out.extend_from_slice(match bytes.first() {
                Some(0) => b"null",
                Some(1) => b"true",
                Some(2) => b"false",
                _ => return Err(Reason::Malformed),
            }),
            5 => integer(i16::from_le_bytes(first(bytes)?), out),
            6 => integer(u16::from_le_bytes(first(bytes)?), out),
            7 => integer(i32::from_le_bytes(first(bytes)?), out),
            8 => integer(u32::from_le_bytes(first(bytes)?), out),
            9 => integer(i64::from_le_bytes(first(bytes)?), out),
            10 => integer(u64::from_le_bytes(first(bytes)?), out),
            11 => {
                let value = f64::from_le_bytes(first(bytes)?);
                if !value.is_finite() {
                    return Err(Reason::Malformed);
                }
                json::write_double(value, out);
            }
            12 => {
                let text = counted(bytes)?;
                budget.spend(text.len())?;
                json::write_string(text, out);
            }
            15 => {
                let (&field_type, rest) = bytes.split_first().ok_or(Reason::Malformed)?;
                let value = counted(rest)?;
                budget.spend(value.len())?;
                opaque(FieldType(field_type), value, out)?;
            }
            _ => return Err(Reason::Malformed),
        }
        Ok(())
    }
}

fn integer(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend(value.to_string().bytes());
}

fn opaque(field_type: FieldType, value: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    match field_type {
        FieldType::NEWDECIMAL => return decimal::write_json(value, out),
        FieldType::DATE | FieldType::NEWDATE | FieldType::DATETIME | FieldType::TIMESTAMP => {
            let date_only = matches!(field_type, FieldType::DATE | FieldType::NEWDATE);
            let moment = Moment::of_json(u64::from_le_bytes(fixed(value)?))?;
            out.push(b'"');
            moment.write_json(date_only, out);
            out.push(b'"');
        }
        FieldType::TIME => {
            let clock = Clock::of_json(i64::from_le_bytes(fixed(value)?))?;
            out.push(b'"');
            clock.write(6, out)?;
            out.push(b'"');
        }
        FieldType(number) => json::write_opaque(number, value, out),
    }
    Ok(())
}

/// The first bytes.
fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Reason> {
    bytes.first_chunk().copied().ok_or(Reason::Malformed)
}

/// Two or four bytes at `at`.
fn uint(bytes: &[u8], at: usize, wide: usize) -> Result<usize, Reason> {
    let bytes = at.checked_add(wide).and_then(|end| bytes.get(at..end)).ok_or(Reason::Malformed)?;
    Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | usize::from(byte)))
}

/// A length of seven bits a byte, and so many bytes.
fn counted(bytes: &[u8]) -> Result<&[u8], Reason> {
    let (mut length, mut rest) = (0usize, bytes);
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(Reason::Malformed)?;
        rest = after;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return rest.get(..length).ok_or(Reason::Malformed);
        }
    }
    Err(Reason::Malformed)
}

impl<'a> Members<'a> {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The name of a member of an object.
    pub(super) fn name(&self, index: usize) -> Result<&'a [u8], Reason> {
        let entry = 2 * self.wide + index * (self.wide + 2);
        let (start, length) = (uint(self.bytes, entry, self.wide)?, uint(self.bytes, entry + self.wide, 2)?);
        start.checked_add(length).and_then(|end| self.bytes.get(start..end)).ok_or(Reason::Malformed)
    }

    /// A member.
    pub(super) fn value(&self, index: usize) -> Result<Value<'a>, Reason> {
        let names = if self.object { self.count * (self.wide + 2) } else { 0 };
        let entry = 2 * self.wide + names + index * (self.wide + 1);
        let kind = uint(self.bytes, entry, 1)?;
        let kind = u8::try_from(kind).map_err(|_| Reason::Malformed)?;
        // Small values stand in the table itself.
        let inside = matches!(kind, 4..=6) || (self.wide == 4 && matches!(kind, 7 | 8));
        let start = if inside { entry + 1 } else { uint(self.bytes, entry + 1, self.wide)? };
        let bytes = self.bytes.get(start..).ok_or(Reason::Malformed)?;
        Ok(Value { kind, bytes })
    }
}
