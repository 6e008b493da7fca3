//! How a value that becomes text is built: a small tree, from the source's catalogue.
//!
//! ```text
//! Shape ─┬─ Scalar                     an interval, an address, a polygon …
//!        ├─ Array(of)                  any number of dimensions, any lower bounds
//!        ├─ Range(of) / Multirange(of)
//!        └─ Composite(fields)
//! ```
//!
//! A domain has its base's shape: its values travel as its base's. The tree says how to *read* the binary form;
//! what is written is PostgreSQL's own text form under pinned settings, so that a value is the same whether the
//! server or we wrote it out (`docs/adr/0007-types-as-canonical-text.md`).

use std::sync::Arc;

/// A value's parts.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Shape {
    /// One value.
    Scalar(Scalar),
    /// An array of any number of dimensions.
    Array {
        /// The elements' type id, which the binary form repeats.
        oid: u32,
        /// The elements.
        of: Arc<Shape>,
        /// What separates them: `,`, and `;` for boxes.
        delimiter: u8,
    },
    /// `int2vector`, `oidvector`: written with blanks, without braces.
    Blanks(Scalar),
    /// A range of these.
    Range(Arc<Shape>),
    /// Ranges of these.
    Multirange(Arc<Shape>),
    /// A composite value: the fields in order, dropped ones left out.
    Composite(Arc<[Field]>),
}

impl Shape {
    /// The composite types within, by their fields' type ids: `(23,25)`. Empty when there are none. A composite
    /// type is the only one whose values change, all of them, without a row being written.
    pub fn parts(&self) -> String {
        match self {
            Shape::Scalar(_) | Shape::Blanks(_) => String::new(),
            Shape::Array { of, .. } | Shape::Range(of) | Shape::Multirange(of) => of.parts(),
            Shape::Composite(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|field| format!("{}{}", field.oid, field.shape.parts())).collect();
                format!("({})", fields.join(","))
            }
        }
    }
}

/// A field of a composite type.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Field {
    /// Its type id, which the binary form repeats.
    pub oid: u32,
    /// Its value.
    pub shape: Shape,
}

/// A value without parts that have types of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scalar {
    /// `t` or `f`.
    Bool,
    /// 16 bits, signed.
    Int2,
    /// 32 bits, signed.
    Int4,
    /// 64 bits, signed.
    Int8,
    /// `oid`, `xid`, `cid`: 32 bits, unsigned.
    Unsigned4,
    /// `xid8`: 64 bits, unsigned.
    Unsigned8,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `numeric`.
    Numeric,
    /// `money`, as under `lc_monetary = C`.
    Money,
    /// The text itself: `text`, `varchar`, `char(n)`, `name`, `json`, `xml`, enums, `citext`, `refcursor`.
    Text,
    /// A version byte, 1, then the text: `jsonb`, `jsonpath`, `ltree`, `lquery`, `ltxtquery`.
    Versioned,
    /// `"char"`: one byte.
    Char,
    /// `bytea`, in hexadecimal digits.
    Bytea,
    /// `uuid`.
    Uuid,
    /// `bit(n)`, `varbit`.
    Bits,
    /// `date`.
    Date,
    /// `time`.
    Time,
    /// `timetz`.
    TimeTz,
    /// `timestamp`.
    Timestamp,
    /// `timestamptz`, in UTC.
    TimestampTz,
    /// `interval`.
    Interval {
        /// The extreme values mean infinity: since PostgreSQL 17.
        infinities: bool,
    },
    /// `inet`, `cidr`.
    Inet,
    /// `macaddr`.
    Macaddr,
    /// `macaddr8`.
    Macaddr8,
    /// `point`.
    Point,
    /// `line`.
    Line,
    /// `lseg`.
    Lseg,
    /// `box`.
    Box,
    /// `path`.
    Path,
    /// `polygon`.
    Polygon,
    /// `circle`.
    Circle,
    /// `tsvector`.
    TsVector,
    /// `tsquery`.
    TsQuery,
    /// `pg_lsn`.
    Lsn,
    /// `tid`.
    Tid,
    /// `pg_snapshot`, `txid_snapshot`.
    Snapshot,
    /// `hstore`.
    Hstore,
    /// `vector` of pgvector.
    Vector,
    /// `halfvec` of pgvector.
    Halfvec,
    /// `sparsevec` of pgvector.
    Sparsevec,
    /// `geometry`, `geography` of PostGIS, within another value: EWKB in hexadecimal digits.
    Ewkb,
}
