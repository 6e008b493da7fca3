//! Avro's binary form by the schema that wrote it.

use super::{Cell, Event, Read, Taste, Unreadable};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Schemas may be so deep.
const DEPTH: usize = 64;
/// Zero, and the id of the schema.
const HEAD: usize = 5;
const SHORT: Unreadable = Unreadable("it ends before its schema does");
const STRANGE: Unreadable = Unreadable("its schema is not understood");

/// The id of the schema that a record was written by.
pub(super) fn id(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// A schema, as far as bytes depend on it.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Null,
    Boolean,
    Integer,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Array(Arc<Shape>),
    Map(Arc<Shape>),
    Union(Vec<Arc<Shape>>),
    Record(Vec<(String, Arc<Shape>)>),
}

/// Named types that were met.
type Known = HashMap<String, Arc<Shape>>;

impl Shape {
    /// Of a schema's text.
    pub(super) fn parse(schema: &str) -> Read<Self> {
        let json: Value = serde_json::from_str(schema).map_err(|_| STRANGE)?;
        Shape::of(&json, "", &mut Known::new(), DEPTH).map(|shape| (*shape).clone())
    }

    fn of(json: &Value, space: &str, known: &mut Known, depth: usize) -> Read<Arc<Shape>> {
        let depth = depth.checked_sub(1).ok_or(STRANGE)?;
        match json {
            Value::String(name) => Shape::named(name, space, known),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| Shape::of(branch, space, known, depth));
                Ok(Arc::new(Shape::Union(branches.collect::<Read<_>>()?)))
            }
            Value::Object(object) => {
                let part = |name: &str| object.get(name).ok_or(STRANGE);
                let shape = match object.get("type") {
                    Some(Value::String(name)) if name == "array" => {
                        Shape::Array(Shape::of(part("items")?, space, known, depth)?)
                    }
                    Some(Value::String(name)) if name == "map" => {
                        Shape::Map(Shape::of(part("values")?, space, known, depth)?)
                    }
                    Some(Value::String(kind)) if matches!(&**kind, "record" | "fixed" | "enum") => {
                        let name = part("name")?.as_str().ok_or(STRANGE)?;
                        let own = object.get("namespace").and_then(Value::as_str);
                        let (full, space) = full_name(name, own.unwrap_or(space));
                        let shape = match &**kind {
                            "record" => Shape::record(part("fields")?, &space, known, depth)?,
                            "fixed" => Shape::Fixed(
                                part("size")?
                                    .as_u64()
                                    .and_then(|size| usize::try_from(size).ok())
                                    .ok_or(STRANGE)?,
                            ),
                            _ => Shape::Integer,
                        };
                        let shape = Arc::new(shape);
                        known.insert(full, Arc::clone(&shape));
                        return Ok(shape);
                    }
                    Some(inner) => return Shape::of(inner, space, known, depth),
                    None => return Err(STRANGE),
                };
                Ok(Arc::new(shape))
            }
            _ => Err(STRANGE),
        }
    }

    fn record(fields: &Value, space: &str, known: &mut Known, depth: usize) -> Read<Shape> {
        let fields = fields.as_array().ok_or(STRANGE)?.iter().map(|field| {
            let name = field.get("name").and_then(Value::as_str).ok_or(STRANGE)?;
            let shape = Shape::of(field.get("type").ok_or(STRANGE)?, space, known, depth)?;
            Ok((name.to_owned(), shape))
        });
        Ok(Shape::Record(fields.collect::<Read<_>>()?))
    }

    fn named(name: &str, space: &str, known: &Known) -> Read<Arc<Shape>> {
        Ok(Arc::new(match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "int" | "long" => Shape::Integer,
            "float" => Shape::Float,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "string" => Shape::Text,
            _ => {
                let (full, _) = full_name(name, space);
                return known.get(&full).or_else(|| known.get(name)).cloned().ok_or(STRANGE);
            }
        }))
    }

    /// The record that is this, or the one branch of it that is one.
    fn as_record(&self) -> Option<&[(String, Arc<Shape>)]> {
        match self {
            Shape::Record(fields) => Some(fields),
            Shape::Union(branches) => branches.iter().find_map(|branch| branch.as_record()),
            _ => None,
        }
    }

    /// A field of a record.
    pub(super) fn field(&self, wanted: &str) -> Option<&Arc<Shape>> {
        self.as_record()?.iter().find(|(name, _)| name == wanted).map(|(_, shape)| shape)
    }

    /// The rows in the values of this schema.
    pub(super) fn row(&self, is_flat: bool) -> Read<Shape> {
        let row = if is_flat { Some(self) } else { self.field("after").map(|after| &**after) };
        row.cloned().ok_or(STRANGE)
    }
}

fn full_name(name: &str, space: &str) -> (String, String) {
    match name.rsplit_once('.') {
        Some((space, _)) => (name.to_owned(), space.to_owned()),
        None if space.is_empty() => (name.to_owned(), String::new()),
        None => (format!("{space}.{name}"), space.to_owned()),
    }
}

/// A place in the bytes.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    /// Behind the head.
    fn of_record(bytes: &'a [u8]) -> Read<Self> {
        Ok(Bytes { rest: bytes.get(HEAD..).ok_or(SHORT)? })
    }

    /// A registry that lost its schemas has others under the same ids.
    fn end(&self) -> Read<()> {
        let is_all = self.rest.is_empty();
        if is_all {
            Ok(())
        } else {
            Err(Unreadable("it is not of the schema that the registry has under its id"))
        }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    fn long(&mut self) -> Read<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Unreadable("a number in it is too long"))
    }

    fn length(&mut self) -> Read<usize> {
        usize::try_from(self.long()?).map_err(|_| SHORT)
    }

    fn octets(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Read<&'a str> {
        std::str::from_utf8(self.octets()?).map_err(|_| Unreadable("a text in it is not UTF-8"))
    }

    fn branch<'s>(&mut self, branches: &'s [Arc<Shape>]) -> Read<&'s Arc<Shape>> {
        let at = self.length()?;
        branches.get(at).ok_or(Unreadable("it has a branch that its schema does not have"))
    }

    /// Looks at a value.
    fn look(&mut self, shape: &Shape, taste: &mut Taste) -> Read<()> {
        match shape {
            Shape::Null => taste.null(),
            Shape::Boolean => taste.boolean(self.array::<1>()? != [0]),
            Shape::Integer => taste.integer(self.long()?),
            Shape::Float => taste.double(f32::from_le_bytes(self.array()?).into()),
            Shape::Double => taste.double(f64::from_le_bytes(self.array()?)),
            Shape::Bytes => taste.bytes(self.octets()?),
            Shape::Text => taste.text(self.text()?),
            Shape::Fixed(size) => taste.bytes(self.take(*size)?),
            Shape::Union(branches) => {
                let branch = self.branch(branches)?;
                self.look(branch, taste)?;
            }
            Shape::Array(items) => self.blocks(taste, |bytes, taste| bytes.look(items, taste))?,
            Shape::Map(values) => self.blocks(taste, |bytes, taste| {
                taste.text(bytes.text()?);
                bytes.look(values, taste)
            })?,
            Shape::Record(fields) => {
                taste.token(b'{', b"");
                for (name, field) in fields {
                    taste.token(b':', name.as_bytes());
                    self.look(field, taste)?;
                }
                taste.token(b'}', b"");
            }
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        taste: &mut Taste,
        mut item: impl FnMut(&mut Self, &mut Taste) -> Read<()>,
    ) -> Read<()> {
        taste.token(b'[', b"");
        loop {
            let count = self.long()?;
            if count < 0 {
                self.long()?;
            }
            if count == 0 {
                break;
            }
            for _ in 0..count.unsigned_abs() {
                // What takes no bytes is repeated at most as often as there are some.
                if self.rest.is_empty() {
                    return Err(SHORT);
                }
                item(self, taste)?;
            }
        }
        taste.token(b']', b"");
        Ok(())
    }
}

/// One value.
pub(super) fn cell(shape: &Shape, bytes: &[u8], taste: &mut Taste) -> Read<Cell> {
    Bytes { rest: bytes }.look(shape, taste)?;
    Ok(taste.taken())
}

fn each_field<'s>(
    bytes: &mut Bytes<'_>,
    shape: &'s Shape,
    mut take: impl FnMut(&'s str, &'s Shape, &mut Bytes<'_>) -> Read<()>,
) -> Read<()> {
    let Shape::Record(fields) = shape else { return Err(STRANGE) };
    fields.iter().try_for_each(|(name, field)| take(name, field, bytes))
}

/// Looks at the fields that have a place, and says where each belongs.
pub(super) fn fields(
    shape: &Shape,
    record: &[u8],
    place: impl Fn(&str) -> Option<usize>,
    taste: &mut Taste,
    take: &mut impl FnMut(usize, &mut Taste),
) -> Read<()> {
    let mut bytes = Bytes::of_record(record)?;
    each_field(&mut bytes, shape, |name, field, bytes| {
        bytes.look(field, taste)?;
        match place(name) {
            Some(at) => take(at, taste),
            None => forget(taste),
        }
        Ok(())
    })?;
    bytes.end()
}

fn forget(taste: &mut Taste) {
    taste.content.clear();
    if let Some(shown) = &mut taste.shown {
        shown.clear();
    }
}

/// An event's value: the row alone, or an envelope around it.
pub(super) fn event(
    shape: &Shape,
    record: &[u8],
    (is_flat, columns): (bool, usize),
    place: impl Fn(&str) -> Option<usize>,
    taste: &mut Taste,
) -> Read<Event> {
    let mut event = Event::default();
    let mut bytes = Bytes::of_record(record)?;
    let mut cells = vec![None; columns];
    let mut has_row = is_flat;
    each_field(&mut bytes, shape, |name, field, bytes| {
        match name {
            "op" if !is_flat => event.op = Some(bytes.text()?.to_owned()),
            "after" if !is_flat => has_row = row(bytes, field, &place, &mut cells, taste)?,
            "__deleted" if is_flat => {
                let mut shown = Taste { shown: Some(String::new()), ..Taste::default() };
                bytes.look(field, &mut shown)?;
                event.deleted = shown.shown.as_deref() == Some("true");
            }
            _ => {
                bytes.look(field, taste)?;
                let cell = taste.taken();
                if is_flat && let Some(slot) = place(name).and_then(|at| cells.get_mut(at)) {
                    *slot = Some(cell);
                }
            }
        }
        Ok(())
    })?;
    bytes.end()?;
    event.row = has_row.then_some(cells);
    Ok(event)
}

/// A row, or null.
fn row(
    bytes: &mut Bytes<'_>,
    shape: &Shape,
    place: &impl Fn(&str) -> Option<usize>,
    cells: &mut [Option<Cell>],
    taste: &mut Taste,
) -> Read<bool> {
    match shape {
        Shape::Null => Ok(false),
        Shape::Union(branches) => {
            let branch = bytes.branch(branches)?;
            row(bytes, branch, place, cells, taste)
        }
        record => {
            each_field(bytes, record, |name, field, bytes| {
                bytes.look(field, taste)?;
                let cell = taste.taken();
                if let Some(slot) = place(name).and_then(|at| cells.get_mut(at)) {
                    *slot = Some(cell);
                }
                Ok(())
            })?;
            Ok(true)
        }
    }
}
