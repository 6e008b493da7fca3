//! What the fuzz targets share: the codec modules themselves, and tables to decode into.
//!
//! `make fuzz`, or `cargo +nightly fuzz run message` in the repository's root.

#[path = "../../src/binlog/mod.rs"]
pub mod binlog;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/event/mod.rs"]
pub mod event;
#[path = "../../src/pgoutput/mod.rs"]
pub mod pgoutput;
#[path = "../../src/position/mod.rs"]
pub mod position;
#[path = "../../src/schema/mod.rs"]
pub mod schema;

use arrow::array::Array;
use event::Txn;
use pgoutput::{BatchBuilder, Infinity, NumericUnbounded, Policies, UnknownTypes};
use position::{CommitLsn, Lsn};
use schema::{Column, ColumnKind, Scalar, Shape, ShapeField, TableId, TableName, TableSchema};
use std::sync::Arc;

/// One of each kind.
pub const KINDS: &[ColumnKind] = &[
    ColumnKind::Int4,
    ColumnKind::Text,
    ColumnKind::Decimal { precision: 12, scale: 2 },
    ColumnKind::TimestampTz,
    ColumnKind::Bool,
    ColumnKind::Int2,
    ColumnKind::Int8,
    ColumnKind::Float4,
    ColumnKind::Float8,
    ColumnKind::Decimal { precision: 38, scale: 10 },
    ColumnKind::NumericText,
    ColumnKind::NumericDouble,
    ColumnKind::Bpchar,
    ColumnKind::Json,
    ColumnKind::Jsonb,
    ColumnKind::Bytea,
    ColumnKind::Uuid,
    ColumnKind::Date,
    ColumnKind::Time,
    ColumnKind::Timestamp,
    ColumnKind::Unsigned4,
    ColumnKind::Unsigned8,
    ColumnKind::Money { scale: 2 },
    ColumnKind::Ewkb,
    ColumnKind::Unknown,
];

/// One of each shape, and some within others.
pub fn shapes() -> Vec<Shape> {
    use Scalar::*;
    let scalars = [
        Bool, Int2, Int4, Int8, Unsigned4, Unsigned8, Float4, Float8, Numeric, Money, Text, Versioned, Char,
        Bytea, Uuid, Bits, Date, Time, TimeTz, Timestamp, TimestampTz, Interval { infinities: true }, Inet,
        Macaddr, Macaddr8, Point, Line, Lseg, Box, Path, Polygon, Circle, TsVector, TsQuery, Lsn, Tid, Snapshot,
        Hstore, Vector, Halfvec, Sparsevec, Ewkb,
    ];
    let array = |of: &Shape| Shape::Array { oid: 23, of: Arc::new(of.clone()), delimiter: b',' };
    let mut all: Vec<Shape> = scalars.into_iter().map(Shape::Scalar).collect();
    all.extend([Int4, Text, Numeric, Box].map(|scalar| array(&Shape::Scalar(scalar))));
    all.extend([Int4, Text].map(|scalar| Shape::Range(Arc::new(Shape::Scalar(scalar)))));
    all.push(Shape::Multirange(Arc::new(Shape::Scalar(Int4))));
    all.push(Shape::Blanks(Int2));
    let fields = [Int4, Text].map(|scalar| ShapeField { oid: 23, shape: Shape::Scalar(scalar) });
    let pair = Shape::Composite(fields.into());
    all.extend([array(&pair), pair]);
    all
}

/// A builder for rows of these kinds, the first of which is the key.
pub fn builder(kinds: impl Iterator<Item = ColumnKind>, strict: bool) -> BatchBuilder {
    let columns: Vec<_> = (1..)
        .zip(kinds)
        .map(|(attnum, kind)| Column {
            name: format!("c{attnum}"),
            attnum,
            type_oid: 0,
            type_modifier: -1,
            type_name: String::new(),
            kind,
        })
        .collect();
    let key = if columns.is_empty() { vec![] } else { vec![0] };
    let name = TableName::new("public", "t");
    let schema = TableSchema::new(TableId(1), name, columns, key, false);
    let infinity = if strict { Infinity::Stop } else { Infinity::Null };
    BatchBuilder::new(Arc::new(schema), Policies { numeric_unbounded: NumericUnbounded::Text, infinity, unknown_types: UnknownTypes::Stop })
}

/// Takes the batch and has Arrow check it in full.
pub fn examine(builder: &mut BatchBuilder) {
    let rows = builder.rows();
    let open = Txn { commit_start: Lsn::new(1), xid: 1, commit_time: 0, after: CommitLsn::ZERO };
    if let Ok(batch) = builder.take(Some(open)) {
        assert_eq!((batch.len(), batch.after.num_rows()), (rows, rows));
        for column in batch.after.columns() {
            column.to_data().validate_full().expect("a valid column");
        }
        if let Some(before) = &batch.before {
            assert_eq!(before.index.len(), rows);
            for column in before.rows.columns() {
                column.to_data().validate_full().expect("a valid column");
            }
        }
    }
    assert!(builder.is_empty());
}
