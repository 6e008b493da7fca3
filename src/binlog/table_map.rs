//! `TABLE_MAP_EVENT`: a table as it was when its rows were written, with all the metadata that
//! `binlog_row_metadata=FULL` adds.

use super::event::Flavor;
use super::wire::{DecodeError, Problem, Reader};

/// A column's type on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldType(pub u8);

macro_rules! field_types {
    ($($number:literal $name:ident)*) => {
        impl FieldType {
            $(
                #[doc = concat!("`MYSQL_TYPE_", stringify!($name), "`")]
                pub const $name: FieldType = FieldType($number);
            )*

            /// Its name in the server's sources.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($number => stringify!($name),)*
                    _ => "unknown",
                }
            }
        }
    };
}

field_types! {
    0 DECIMAL
    1 TINY
    2 SHORT
    3 LONG
    4 FLOAT
    5 DOUBLE
    6 NULL
    7 TIMESTAMP
    8 LONGLONG
    9 INT24
    10 DATE
    11 TIME
    12 DATETIME
    13 YEAR
    14 NEWDATE
    15 VARCHAR
    16 BIT
    17 TIMESTAMP2
    18 DATETIME2
    19 TIME2
    20 TYPED_ARRAY
    140 BLOB_COMPRESSED
    141 VARCHAR_COMPRESSED
    242 VECTOR
    243 INVALID
    244 BOOL
    245 JSON
    246 NEWDECIMAL
    247 ENUM
    248 SET
    249 TINY_BLOB
    250 MEDIUM_BLOB
    251 LONG_BLOB
    252 BLOB
    253 VAR_STRING
    254 STRING
    255 GEOMETRY
}

impl std::fmt::Debug for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl FieldType {
    /// Bytes of its metadata. `None`: not a type that stands in a table map.
    fn metadata_length(self) -> Option<usize> {
        match self {
            FieldType::TINY
            | FieldType::SHORT
            | FieldType::LONG
            | FieldType::LONGLONG
            | FieldType::INT24
            | FieldType::NULL
            | FieldType::TIMESTAMP
            | FieldType::DATE
            | FieldType::TIME
            | FieldType::DATETIME
            | FieldType::YEAR
            | FieldType::NEWDATE => Some(0),
            FieldType::FLOAT
            | FieldType::DOUBLE
            | FieldType::TIMESTAMP2
            | FieldType::DATETIME2
            | FieldType::TIME2
            | FieldType::BLOB
            | FieldType::TINY_BLOB
            | FieldType::MEDIUM_BLOB
            | FieldType::LONG_BLOB
            | FieldType::BLOB_COMPRESSED
            | FieldType::JSON
            | FieldType::GEOMETRY
            | FieldType::VECTOR => Some(1),
            FieldType::VARCHAR
            | FieldType::VARCHAR_COMPRESSED
            | FieldType::VAR_STRING
            | FieldType::STRING
            | FieldType::ENUM
            | FieldType::SET
            | FieldType::NEWDECIMAL
            | FieldType::BIT => Some(2),
            _ => None,
        }
    }

    /// Whether the metadata says of it that it is unsigned. `YEAR` counts as a number, too, and always is.
    fn has_sign(self) -> bool {
        matches!(
            self,
            FieldType::TINY
                | FieldType::YEAR
                | FieldType::SHORT
                | FieldType::INT24
                | FieldType::LONG
                | FieldType::LONGLONG
                | FieldType::NEWDECIMAL
                | FieldType::FLOAT
                | FieldType::DOUBLE
        )
    }

    /// Whether the metadata says in which character set it is. MariaDB counts geometries as text (of no character set).
    fn has_charset(self, flavor: Flavor) -> bool {
        let is_geometry = self == FieldType::GEOMETRY;
        is_geometry && flavor == Flavor::MariaDb
            || matches!(
                self,
                FieldType::STRING
                    | FieldType::VAR_STRING
                    | FieldType::VARCHAR
                    | FieldType::BLOB
                    | FieldType::TINY_BLOB
                    | FieldType::MEDIUM_BLOB
                    | FieldType::LONG_BLOB
                    | FieldType::VARCHAR_COMPRESSED
                    | FieldType::BLOB_COMPRESSED
            )
    }
}

/// A column of a [`TableMap`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapColumn {
    /// The type of its values on the wire. `ENUM` and `SET` stand as such, not as the `STRING` that they are sent as.
    pub field_type: FieldType,
    /// The type's metadata: a length, a precision, a width. What it means depends on the type; see [`MapColumn::meta`].
    pub meta: [u8; 2],
    /// Whether it may be null.
    pub nullable: bool,
    /// Numbers: without a sign. `None` for other types, and without metadata.
    pub unsigned: Option<bool>,
    /// Number of its collation. 63 is `binary`. `None` for types without one, and without metadata.
    pub collation: Option<u16>,
    /// Its name. `None` without `binlog_row_metadata=FULL`.
    pub name: Option<String>,
    /// Labels of an `ENUM` or a `SET`, in their own character set. `None` without `binlog_row_metadata=FULL`.
    pub labels: Option<Vec<Vec<u8>>>,
    /// Kind of a geometry column: 0 any, 1 point … 7 collection.
    pub geometry: Option<u64>,
    /// Entries of a vector column.
    pub dimensions: Option<u64>,
    /// Whether `SELECT *` shows it. `None`: not said.
    pub visible: Option<bool>,
}

impl MapColumn {
    /// The metadata as the number that it is: little-endian.
    pub fn meta(&self) -> u16 {
        u16::from_le_bytes(self.meta)
    }
}

/// A column of the primary key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyPart {
    /// Index of the column.
    pub column: usize,
    /// Characters of it that belong to the key; zero: all.
    pub prefix: u64,
}

/// A table as it was when the rows that follow were written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableMap {
    /// The number by which [`super::Rows`] name it; good until the statement ends.
    pub table_id: u64,
    /// Bits; none means anything to a reader.
    pub flags: u16,
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// All columns, in the table's order. Generated and invisible ones, too.
    pub columns: Vec<MapColumn>,
    /// The primary key, in its order. Empty: there is none, or no metadata.
    pub key: Vec<KeyPart>,
    /// Whether every column has a name: `binlog_row_metadata=FULL`.
    pub has_names: bool,
}

impl TableMap {
    /// Reads one from the body of its event, for tests and tools: streams go through [`super::EventDecoder`].
    ///
    /// # Errors
    /// Damaged bytes.
    pub fn parse(body: &[u8], flavor: Flavor) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("TABLE_MAP_EVENT", body);
        let map = TableMap::read(&mut reader, flavor)?;
        reader.end()?;
        Ok(map)
    }

    pub(super) fn read(reader: &mut Reader<'_>, flavor: Flavor) -> Result<Self, DecodeError> {
        let table_id = reader.u48("table id")?;
        let flags = reader.u16("flags")?;
        let database = short_name(reader, "database")?;
        let table = short_name(reader, "table")?;
        let count = reader.lenenc_count("column count")?;
        let types = reader.bytes("column types", count)?;
        let metadata = reader.lenenc_bytes("column metadata")?;
        let mut columns = read_columns(types, metadata)?;
        let nulls = reader.bytes("nullable columns", count.div_ceil(8))?;
        for (i, column) in columns.iter_mut().enumerate() {
            column.nullable = nulls.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1);
        }
        let mut map =
            TableMap { table_id, flags, database, table, columns, key: Vec::new(), has_names: false };
        while !reader.is_empty() {
            let kind = reader.u8("kind of metadata")?;
            let value = reader.lenenc_bytes("metadata")?;
            map.read_optional(kind, value, flavor)?;
        }
        Ok(map)
    }

    fn read_optional(&mut self, kind: u8, value: &[u8], flavor: Flavor) -> Result<(), DecodeError> {
        let has_charset = |field_type: FieldType| field_type.has_charset(flavor);
        let mut reader = Reader::new("TABLE_MAP_EVENT's metadata", value);
        let reader = &mut reader;
        match kind {
            1 => self.read_signs(reader)?,
            2 => default_charsets(reader, &mut self.columns, has_charset)?,
            3 => column_charsets(reader, &mut self.columns, has_charset)?,
            4 => self.read_names(reader)?,
            5 => labels(reader, &mut self.columns, FieldType::SET)?,
            6 => labels(reader, &mut self.columns, FieldType::ENUM)?,
            7 => {
                for column in of_type(&mut self.columns, FieldType::GEOMETRY) {
                    column.geometry = Some(reader.lenenc("geometry type")?);
                }
            }
            8 | 9 => self.read_key(reader, kind == 9)?,
            10 => default_charsets(reader, &mut self.columns, has_labels)?,
            11 => column_charsets(reader, &mut self.columns, has_labels)?,
            12 => {
                let bits = reader.bytes("visibility", self.columns.len().div_ceil(8))?;
                for (i, column) in self.columns.iter_mut().enumerate() {
                    column.visible = Some(bit_from_the_left(bits, i));
                }
            }
            13 => {
                for column in of_type(&mut self.columns, FieldType::VECTOR) {
                    column.dimensions = Some(reader.lenenc("dimensions")?);
                }
            }
            found => {
                let expected = "a kind of metadata from 1 to 13";
                return Err(reader.error("kind", 0, Problem::Tag { found: found.into(), expected }));
            }
        }
        reader.end()
    }

    fn read_signs(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let numbers = self.columns.iter().filter(|column| column.field_type.has_sign()).count();
        let bits = reader.bytes("signs", numbers.div_ceil(8))?;
        let numbers = self.columns.iter_mut().filter(|column| column.field_type.has_sign());
        for (i, column) in numbers.enumerate() {
            column.unsigned = Some(bit_from_the_left(bits, i));
        }
        Ok(())
    }

    fn read_names(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        for column in &mut self.columns {
            let bytes = reader.lenenc_bytes("column name")?;
            column.name = Some(reader.name("column name", bytes)?.to_owned());
        }
        self.has_names = true;
        Ok(())
    }

    fn read_key(&mut self, reader: &mut Reader<'_>, prefixes: bool) -> Result<(), DecodeError> {
        while !reader.is_empty() {
            let offset = reader.at();
            let found = reader.lenenc("key column")?;
            let column = usize::try_from(found).ok().filter(|&index| index < self.columns.len());
            let column =
                column.ok_or_else(|| reader.error("key column", offset, Problem::Count { found }))?;
            let prefix = if prefixes { reader.lenenc("prefix")? } else { 0 };
            self.key.push(KeyPart { column, prefix });
        }
        Ok(())
    }
}

fn has_labels(field_type: FieldType) -> bool {
    matches!(field_type, FieldType::ENUM | FieldType::SET)
}

fn of_type(columns: &mut [MapColumn], wanted: FieldType) -> impl Iterator<Item = &mut MapColumn> {
    columns.iter_mut().filter(move |column| column.field_type == wanted)
}

fn bit_from_the_left(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8).is_some_and(|byte| byte << (index % 8) & 0x80 != 0)
}

/// A length of one byte, a name, and a zero byte.
fn short_name(reader: &mut Reader<'_>, field: &'static str) -> Result<String, DecodeError> {
    let length = reader.u8(field)?;
    let bytes = reader.bytes(field, length.into())?;
    let name = reader.name(field, bytes)?.to_owned();
    reader.zero(field)?;
    Ok(name)
}

fn read_columns(types: &[u8], metadata: &[u8]) -> Result<Vec<MapColumn>, DecodeError> {
    let mut reader = Reader::new("TABLE_MAP_EVENT's column metadata", metadata);
    let mut columns = Vec::with_capacity(types.len());
    for &number in types {
        let mut field_type = FieldType(number);
        let offset = reader.at();
        let Some(length) = field_type.metadata_length() else {
            let problem = Problem::Tag { found: number.into(), expected: "a type of a table's column" };
            return Err(reader.error("column type", offset, problem));
        };
        let mut meta = [0; 2];
        match length {
            1 => meta = [reader.u8("metadata")?, 0],
            2 => meta = reader.array("metadata")?,
            _ => {}
        }
        // Sent as a string whose metadata begins with the real type.
        if field_type == FieldType::STRING && has_labels(FieldType(meta[0])) {
            field_type = FieldType(meta[0]);
        }
        columns.push(MapColumn {
            field_type,
            meta,
            nullable: false,
            unsigned: None,
            collation: None,
            name: None,
            labels: None,
            geometry: None,
            dimensions: None,
            visible: None,
        });
    }
    reader.end()?;
    Ok(columns)
}

fn collation(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    let offset = reader.at();
    let found = reader.lenenc("collation")?;
    u16::try_from(found).map_err(|_| reader.error("collation", offset, Problem::Count { found }))
}

/// One collation for all, and exceptions by index among the columns that `counted` takes.
fn default_charsets(
    reader: &mut Reader<'_>,
    columns: &mut [MapColumn],
    counted: impl Fn(FieldType) -> bool,
) -> Result<(), DecodeError> {
    let default = collation(reader)?;
    let mut of: Vec<&mut MapColumn> = columns.iter_mut().filter(|c| counted(c.field_type)).collect();
    of.iter_mut().for_each(|column| column.collation = Some(default));
    while !reader.is_empty() {
        let offset = reader.at();
        let found = reader.lenenc("column")?;
        let own = collation(reader)?;
        let column = usize::try_from(found).ok().and_then(|index| of.get_mut(index));
        column.ok_or_else(|| reader.error("column", offset, Problem::Count { found }))?.collation = Some(own);
    }
    Ok(())
}

fn column_charsets(
    reader: &mut Reader<'_>,
    columns: &mut [MapColumn],
    counted: impl Fn(FieldType) -> bool,
) -> Result<(), DecodeError> {
    for column in columns.iter_mut().filter(|column| counted(column.field_type)) {
        column.collation = Some(collation(reader)?);
    }
    Ok(())
}

fn labels(reader: &mut Reader<'_>, columns: &mut [MapColumn], of: FieldType) -> Result<(), DecodeError> {
    for column in of_type(columns, of) {
        let count = reader.lenenc_count("number of labels")?;
        let mut labels = Vec::with_capacity(count);
        for _ in 0..count {
            labels.push(reader.lenenc_bytes("label")?.to_vec());
        }
        column.labels = Some(labels);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(id int, y year, u int unsigned, i int)`, as MySQL 9.7 and MariaDB 10.11 write it: `YEAR` has a bit, too.
    #[test]
    fn a_year_has_a_sign() {
        let body: &[u8] = &[
            0x9f, 0, 0, 0, 0, 0, 1, 0, 4, b's', b'h', b'o', b'p', 0, 1, b't', 0, 4, 3, 13, 3, 3, 0, 0x0e, 1,
            1, 0x60,
        ];
        let map = TableMap::parse(body, Flavor::MySql).unwrap();
        let signs: Vec<_> = map.columns.iter().map(|column| column.unsigned).collect();
        assert_eq!(signs, [Some(false), Some(true), Some(true), Some(false)]);
    }
}
