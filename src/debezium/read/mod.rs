//! Records taken apart again: which row a record is of, and what it says of the row's values.
//!
//! A [`Reader`] belongs to an [`Encoder`] and reads what that one writes, and what one of another schema of the same table
//! wrote before. Values become hashes ([`Cell`]), because all that is asked is whether two records say the same: the
//! form of a value (spaces, escapes, how a number is spelled, Avro's widths) does not count, its content does.
//!
//! A column that a record does not have is null: it was added later. A column that the table does not have any more
//! is passed over. The placeholder of unchanged values is no value: [`Cell::KEPT`].

mod avro;
mod json;

use super::encoder::Encoder;
use super::options::{Encoding, Style};
use avro::Shape;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What a record says of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell(u64);

impl Cell {
    /// The value is as it was: the record does not repeat it.
    pub const KEPT: Cell = Cell(0);
    /// The value was too large for the record: no record says it.
    pub const LOST: Cell = Cell(1);
    const FIRST: u64 = 2;

    /// As a number, to be stored.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// What [`Cell::raw`] gave.
    pub fn from_raw(raw: u64) -> Self {
        Cell(raw)
    }

    fn null() -> Self {
        Taste::default().cell(Taste::null)
    }
}

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// The row is there and has these values, one for each column of [`Reader::columns`].
    Row(Vec<Cell>),
    /// The row is gone.
    Gone,
    /// All rows are gone.
    Truncated,
}

/// Which row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// A hash of the key's values.
    pub hash: u128,
    /// For people: `id=7`.
    pub text: String,
}

/// A record that cannot be understood; never with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unreadable(pub &'static str);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

type Read<T> = Result<T, Unreadable>;

/// Where values go that are looked at: their content, and the same for people.
#[derive(Default)]
struct Taste {
    content: Vec<u8>,
    shown: Option<String>,
}

impl Taste {
    fn token(&mut self, kind: u8, content: &[u8]) {
        self.content.push(kind);
        self.content.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.content.extend_from_slice(content);
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        if let Some(shown) = &mut self.shown {
            shown.push_str(&text());
        }
    }

    fn null(&mut self) {
        self.content.push(b'n');
        self.show(|| "null".to_owned());
    }

    fn boolean(&mut self, value: bool) {
        self.content.push(if value { b't' } else { b'f' });
        self.show(|| value.to_string());
    }

    fn text(&mut self, value: &str) {
        self.token(b's', value.as_bytes());
        self.show(|| value.to_owned());
    }

    fn bytes(&mut self, value: &[u8]) {
        self.token(b'b', value);
        self.show(|| value.iter().map(|byte| format!("{byte:02x}")).collect());
    }

    fn integer(&mut self, value: i64) {
        self.token(b'i', &value.to_le_bytes());
        self.show(|| value.to_string());
    }

    fn double(&mut self, value: f64) {
        self.token(b'd', &value.to_bits().to_le_bytes());
        self.show(|| value.to_string());
    }

    /// One value, as a cell.
    fn cell(&mut self, write: impl FnOnce(&mut Self)) -> Cell {
        self.content.clear();
        write(self);
        self.taken()
    }

    /// What was written since the last one was taken.
    fn taken(&mut self) -> Cell {
        let hash = xxh3_64(&self.content);
        self.content.clear();
        Cell(hash.max(Cell::FIRST))
    }
}

/// A column of the records.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    /// Its name in the source.
    own_name: String,
    /// What stands for an unchanged value.
    placeholder: Option<Cell>,
}

/// What a value's top level said.
#[derive(Default)]
struct Event {
    op: Option<String>,
    deleted: bool,
    row: Option<Vec<Option<Cell>>>,
}

/// Takes the records of one table apart.
#[derive(Clone, Debug)]
pub struct Reader {
    encoding: Encoding,
    is_flat: bool,
    columns: Vec<Column>,
    key: Vec<String>,
    shapes: HashMap<u32, Arc<Shape>>,
    null: Cell,
}

/// The ids of an encoder's own schemas, which no registry gives.
const OWN: (u32, u32) = (u32::MAX - 1, u32::MAX);

impl Reader {
    /// For the records of this encoder, and for those that were written before. The encoder's ids of Avro are its own from
    /// then on: its records are for this reader alone.
    ///
    /// # Errors
    /// A schema of the encoder's own that is not understood.
    pub fn new(encoder: &mut Encoder) -> Read<Self> {
        if encoder.options.encoding == Encoding::Avro {
            encoder.set_schema_ids(OWN.0, OWN.1);
        }
        let mut reader = Reader {
            encoding: encoder.options.encoding,
            is_flat: encoder.options.style == Style::Flat,
            columns: Vec::new(),
            key: encoder.key.iter().flat_map(|key| &key.fields).map(|field| field.name.clone()).collect(),
            shapes: HashMap::new(),
            null: Cell::null(),
        };
        let mut own = None;
        if let Some(schemas) = encoder.avro_schemas() {
            reader.learn(OWN.0, schemas.key.as_deref().unwrap_or("\"null\""))?;
            reader.learn(OWN.1, &schemas.value)?;
            own = reader.shapes.get(&OWN.1).map(|shape| shape.row(reader.is_flat)).transpose()?;
        }
        let mut taste = Taste::default();
        for field in &encoder.row.fields {
            let placeholder = match (&field.placeholder, &own) {
                (None, _) => None,
                (Some(bytes), None) => Some(json::cell(bytes, &mut taste)?),
                (Some(bytes), Some(row)) => {
                    let shape = row.field(&field.name).ok_or(Unreadable("a schema lacks a column"))?;
                    Some(avro::cell(shape, bytes, &mut taste)?)
                }
            };
            let own_name = encoder.schema().columns.get(field.column).map_or("", |column| &column.name);
            reader.columns.push(Column {
                name: field.name.clone(),
                own_name: own_name.to_owned(),
                placeholder,
            });
        }
        Ok(reader)
    }

    /// Names of the columns that [`Seen::Row`] has values of.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// The id of the schema that is needed to read these bytes and that is not known yet.
    pub fn unknown_schema(&self, bytes: &[u8]) -> Option<u32> {
        let id = (self.encoding == Encoding::Avro).then(|| avro::id(bytes))??;
        (!self.shapes.contains_key(&id)).then_some(id)
    }

    /// What the registry has under an id.
    ///
    /// # Errors
    /// A schema that is not understood.
    pub fn learn(&mut self, id: u32, schema: &str) -> Read<()> {
        self.shapes.insert(id, Arc::new(Shape::parse(schema)?));
        Ok(())
    }

    fn shape(&self, bytes: &[u8]) -> Read<&Arc<Shape>> {
        let id = avro::id(bytes).ok_or(Unreadable("it is not Avro with the id of a schema in front"))?;
        self.shapes.get(&id).ok_or(Unreadable("its schema is not known"))
    }

    /// Which row a record is of.
    ///
    /// # Errors
    /// A key that is not of this table.
    pub fn key(&self, bytes: &[u8]) -> Read<Key> {
        let mut taste = Taste { shown: Some(String::new()), ..Taste::default() };
        let mut parts: Vec<Option<String>> = vec![None; self.key.len()];
        let mut contents: Vec<Vec<u8>> = vec![Vec::new(); self.key.len()];
        let mut take = |at: usize, taste: &mut Taste| {
            if let (Some(part), Some(content)) = (parts.get_mut(at), contents.get_mut(at)) {
                *part = taste.shown.replace(String::new());
                *content = std::mem::take(&mut taste.content);
            }
        };
        let place = |name: &str| self.key.iter().position(|known| known == name);
        if self.encoding == Encoding::Avro {
            let shape = Arc::clone(self.shape(bytes)?);
            avro::fields(&shape, bytes, place, &mut taste, &mut take)?;
        } else {
            let body = self.payload(bytes)?;
            json::fields(body, place, &mut taste, &mut take)?;
        }
        let mut whole = Vec::new();
        let mut shown = Vec::with_capacity(parts.len());
        for ((name, part), content) in self.key.iter().zip(parts).zip(contents) {
            let part = part.ok_or(Unreadable("its key lacks a column of the table's key"))?;
            shown.push(format!("{name}={part}"));
            whole.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
            whole.extend_from_slice(&content);
        }
        Ok(Key { hash: xxh3_128(&whole), text: shown.join(" ") })
    }

    /// JSON without the schema around it.
    fn payload<'a>(&self, bytes: &'a [u8]) -> Read<&'a [u8]> {
        match self.encoding {
            Encoding::JsonWithSchema => {
                json::member(bytes, "payload")?.ok_or(Unreadable("it has no schema and payload"))
            }
            Encoding::Json | Encoding::Avro => Ok(bytes),
        }
    }

    /// What a record says; `None`: a tombstone. `truncated` is the header that names values which were too large.
    ///
    /// # Errors
    /// A value that is not an event of this table.
    pub fn value(&self, value: Option<&[u8]>, truncated: Option<&[u8]>) -> Read<Seen> {
        let Some(value) = value else { return Ok(Seen::Gone) };
        let place = |name: &str| self.columns.iter().position(|column| column.name == name);
        let mut taste = Taste::default();
        let event = if self.encoding == Encoding::Avro {
            let shape = Arc::clone(self.shape(value)?);
            avro::event(&shape, value, (self.is_flat, self.columns.len()), place, &mut taste)?
        } else {
            let body = self.payload(value)?;
            json::event(body, (self.is_flat, self.columns.len()), place, &mut taste)?
        };
        if !self.is_flat {
            match event.op.as_deref() {
                Some("c" | "u" | "r") => {}
                Some("d") => return Ok(Seen::Gone),
                Some("t") => return Ok(Seen::Truncated),
                _ => return Err(Unreadable("it is no event of a row")),
            }
        }
        if event.deleted {
            return Ok(Seen::Gone);
        }
        let row = event.row.ok_or(Unreadable("it has no row"))?;
        let lost = truncated.map(json::names).transpose()?.unwrap_or_default();
        let cells = self.columns.iter().zip(row).map(|(column, cell)| match cell {
            None => self.null,
            Some(_) if lost.contains(&column.own_name) => Cell::LOST,
            Some(cell) if column.placeholder == Some(cell) => Cell::KEPT,
            Some(cell) => cell,
        });
        Ok(Seen::Row(cells.collect()))
    }
}

#[cfg(test)]
mod tests;
