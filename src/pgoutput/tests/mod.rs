//! Tests of the module as a whole, and what they share.

mod batches;
mod copies;
mod golden;
mod malformed;
mod numbers;
mod random;
mod rendered;
mod times;
mod types;

use super::{BatchBuilder, OldRow, Policies, TupleData, Value};
use crate::event::{ChangeBatch, Txn};
use crate::position::{CommitLsn, Lsn};
use crate::schema::{Column, ColumnKind, Scalar, Shape, TableId, TableName, TableSchema};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use std::borrow::Borrow;
use std::fmt::Write;
use std::sync::Arc;

/// One column of each kind.
const EVERY_KIND: &[(&str, ColumnKind)] = &[
    ("flag", ColumnKind::Bool),
    ("small", ColumnKind::Int2),
    ("whole", ColumnKind::Int4),
    ("big", ColumnKind::Int8),
    ("single", ColumnKind::Float4),
    ("double", ColumnKind::Float8),
    ("amount", ColumnKind::Decimal { precision: 12, scale: 2 }),
    ("free", ColumnKind::NumericText),
    ("near", ColumnKind::NumericDouble),
    ("note", ColumnKind::Text),
    ("padded", ColumnKind::Bpchar),
    ("doc", ColumnKind::Json),
    ("docb", ColumnKind::Jsonb),
    ("raw", ColumnKind::Bytea),
    ("uid", ColumnKind::Uuid),
    ("day", ColumnKind::Date),
    ("clock", ColumnKind::Time),
    ("moment", ColumnKind::Timestamp),
    ("instant", ColumnKind::TimestampTz),
    ("number", ColumnKind::Unsigned4),
    ("long_number", ColumnKind::Unsigned8),
    ("price", ColumnKind::Money { scale: 2 }),
    ("place", ColumnKind::Ewkb),
    ("span", ColumnKind::Rendered(Shape::Scalar(Scalar::Interval { infinities: true }))),
    ("odd", ColumnKind::Unknown),
];

fn table(columns: &[(&str, ColumnKind)], key: &[usize], full_before: bool) -> Arc<TableSchema> {
    let columns = (1..).zip(columns).map(|(attnum, (name, kind))| Column {
        name: (*name).into(),
        attnum,
        type_oid: 0,
        type_modifier: -1,
        type_name: kind.delta(),
        kind: kind.clone(),
    });
    let name = TableName::new("public", "t");
    Arc::new(TableSchema::new(TableId(1), name, columns.collect(), key.to_vec(), full_before))
}

/// The bytes of a tuple.
fn tuple(values: &[Value<'_>]) -> Vec<u8> {
    let mut bytes = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        let (tag, content) = match value {
            Value::Null => (b'n', None),
            Value::Unchanged => (b'u', None),
            Value::Text(content) => (b't', Some(content)),
            Value::Binary(content) => (b'b', Some(content)),
        };
        bytes.push(tag);
        if let Some(content) = content {
            bytes.extend(u32::try_from(content.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(content);
        }
    }
    bytes
}

fn txn(n: u32) -> Txn {
    Txn {
        commit_start: Lsn::new(u64::from(n) * 100),
        xid: n,
        commit_time: i64::from(n),
        after: CommitLsn::ZERO,
    }
}

/// One cell in words: the same words as `tests/golden/pgoutput/expected.sql`.
fn cell(kind: &ColumnKind, column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "(null)".into();
    }
    let text = || column.as_string::<i32>().value(row).to_owned();
    match kind {
        ColumnKind::Bool => column.as_boolean().value(row).to_string(),
        ColumnKind::Int2 => column.as_primitive::<Int16Type>().value(row).to_string(),
        ColumnKind::Int4 => column.as_primitive::<Int32Type>().value(row).to_string(),
        ColumnKind::Int8 | ColumnKind::Unsigned4 => column.as_primitive::<Int64Type>().value(row).to_string(),
        ColumnKind::Float4 => {
            format!("{:08x}", column.as_primitive::<Float32Type>().value(row).to_bits())
        }
        ColumnKind::Float8 | ColumnKind::NumericDouble => {
            format!("{:016x}", column.as_primitive::<Float64Type>().value(row).to_bits())
        }
        ColumnKind::Decimal { .. } | ColumnKind::Unsigned8 | ColumnKind::Money { .. } => {
            column.as_primitive::<Decimal128Type>().value_as_string(row)
        }
        ColumnKind::Text | ColumnKind::Bpchar | ColumnKind::Json | ColumnKind::Jsonb => {
            serde_json::to_string(&text()).unwrap()
        }
        ColumnKind::NumericText
        | ColumnKind::Uuid
        | ColumnKind::Time
        | ColumnKind::Rendered(_)
        | ColumnKind::Unknown => text(),
        ColumnKind::Bytea | ColumnKind::Ewkb => hex(column.as_binary::<i32>().value(row)),
        ColumnKind::Date => column.as_primitive::<Date32Type>().value(row).to_string(),
        ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            column.as_primitive::<TimestampMicrosecondType>().value(row).to_string()
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "odd hexadecimal");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A whole batch in words, one line per row: `op xid/ordinal before → after`.
fn render(batch: &ChangeBatch) -> String {
    let mut text = String::new();
    let line = |rows: &arrow::record_batch::RecordBatch, row: usize, after: bool| {
        let cells =
            batch.schema.columns.iter().zip(rows.columns()).enumerate().map(|(i, (column, array))| {
                let unchanged = after && batch.unchanged[i].as_ref().is_some_and(|mask| mask.value(row));
                let words = if unchanged { "(unchanged)".into() } else { cell(&column.kind, array, row) };
                if words.len() > 1000 { format!("({} characters)", words.chars().count()) } else { words }
            });
        cells.collect::<Vec<_>>().join("|")
    };
    for row in 0..batch.len() {
        let at = match (batch.txn_of(row), batch.ordinals.get(row)) {
            (Some(txn), Some(ordinal)) => format!("{}/{ordinal}", txn.xid),
            (None, Some(ordinal)) => format!("?/{ordinal}"),
            _ => "-".into(),
        };
        write!(text, "{} {at}", batch.ops[row].letter()).unwrap();
        if let Some(before) = &batch.before
            && before.index[row] != crate::event::Before::NONE
        {
            write!(text, " [{}]", line(&before.rows, before.index[row] as usize, false)).unwrap();
        }
        writeln!(text, " {}", line(&batch.after, row, true)).unwrap();
    }
    text
}

/// Everything that two batches must have in common to be the same.
#[track_caller]
fn assert_same(a: &ChangeBatch, b: &ChangeBatch) {
    assert_eq!(render(a), render(b));
    assert_eq!(a.after, b.after);
    assert_eq!(
        a.before.as_ref().map(|x| (&x.rows, &x.index)),
        b.before.as_ref().map(|x| (&x.rows, &x.index))
    );
    assert_eq!((&a.runs, &a.unchanged, a.wire_bytes), (&b.runs, &b.unchanged, b.wire_bytes));
}

fn builder(schema: &Arc<TableSchema>) -> BatchBuilder {
    BatchBuilder::new(Arc::clone(schema), Policies::default())
}

/// Pushes one inserted row of `values`.
fn insert(into: &mut BatchBuilder, values: &[Value<'_>]) -> Result<(), super::ValueError> {
    into.push_insert(&TupleData::parse(&tuple(values)).unwrap(), 0, 0)
}

/// `value` alone, as the only column of a table: its words, or why not.
fn decode_one(
    kind: impl Borrow<ColumnKind>,
    policies: Policies,
    value: Value<'_>,
) -> Result<String, super::Reason> {
    let kind = kind.borrow();
    let schema = table(&[("c", kind.clone())], &[], false);
    let mut builder = BatchBuilder::new(schema, policies);
    insert(&mut builder, &[value]).map_err(|error| error.reason)?;
    let batch = builder.take(Some(txn(1))).map_err(|error| error.reason)?;
    Ok(cell(kind, batch.after.column(0), 0))
}

fn key_only<'a>(bytes: &'a [u8]) -> OldRow<'a> {
    OldRow::Key(TupleData::parse(bytes).unwrap())
}

fn whole(bytes: &[u8]) -> OldRow<'_> {
    OldRow::Full(TupleData::parse(bytes).unwrap())
}
