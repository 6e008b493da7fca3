//! The source's table: columns, rows, changes of them as they are decoded.

use super::super::*;
use crate::schema::TableForm;
use arrow::array::{Int32Array, TimestampMicrosecondArray};
use std::collections::BTreeSet;

/// Column by attribute number → value as a text.
pub(super) type Cells = BTreeMap<i16, Option<String>>;
pub(super) type Key = Vec<String>;
pub(super) type Rows = BTreeMap<Key, Cells>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Int4,
    Int8,
    Varchar,
    Text,
    Stamp,
}

impl Type {
    pub(super) fn kind(self) -> ColumnKind {
        match self {
            Type::Int4 => ColumnKind::Int4,
            Type::Int8 => ColumnKind::Int8,
            Type::Varchar | Type::Text => ColumnKind::Text,
            Type::Stamp => ColumnKind::Timestamp,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Int4 => "int4",
            Type::Int8 => "int8",
            Type::Varchar => "varchar(20)",
            Type::Text => "text",
            Type::Stamp => "timestamp",
        }
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Type::Varchar | Type::Text)
    }

    pub(super) fn value(self, random: &mut Random, most: u64) -> String {
        let number = random.below(most);
        if self.is_text() { format!("v{number}") } else { number.to_string() }
    }

    pub(super) fn array(self, values: Vec<Option<String>>) -> ArrayRef {
        let number = |text: String| text.parse::<i64>().unwrap();
        match self {
            Type::Int4 => {
                Arc::new(Int32Array::from_iter(values.into_iter().map(|v| v.map(|v| number(v) as i32))))
            }
            Type::Int8 => Arc::new(Int64Array::from_iter(values.into_iter().map(|v| v.map(number)))),
            Type::Stamp => {
                Arc::new(TimestampMicrosecondArray::from_iter(values.into_iter().map(|v| v.map(number))))
            }
            Type::Varchar | Type::Text => Arc::new(StringArray::from(values)),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Col {
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) kind: Type,
}

/// The source's table as it is at a moment.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) columns: Vec<Col>,
    pub(super) key: Vec<i16>,
    pub(super) form: TableForm,
    pub(super) filled: Vec<i16>,
    pub(super) full_before: bool,
    pub(super) next: i16,
}

impl Shape {
    pub(super) fn first(seed: u64) -> Shape {
        let kinds = [Type::Int8, Type::Text, Type::Varchar, Type::Int4];
        let names = ["id", "name", "big", "n"];
        let columns = (1..).zip(names.into_iter().zip(kinds));
        Shape {
            columns: columns.map(|(attnum, (name, kind))| Col { attnum, name: name.into(), kind }).collect(),
            key: [vec![1], vec![3], vec![1, 3], vec![4]][(seed / 7 % 4) as usize].clone(),
            form: TableForm { files: 1, columns: 1, ..TableForm::default() },
            filled: vec![],
            full_before: (seed / 3).is_multiple_of(4),
            next: 5,
        }
    }

    pub(super) fn schema(&self) -> Arc<TableSchema> {
        let column = |col: &Col| Column {
            name: col.name.clone(),
            attnum: col.attnum,
            type_oid: 0,
            type_modifier: -1,
            type_name: col.kind.name().into(),
            kind: col.kind.kind(),
        };
        let at = |attnum: &i16| self.columns.iter().position(|c| c.attnum == *attnum).unwrap();
        let schema = TableSchema::new(
            TableId(7),
            TableName::new("public", "t"),
            self.columns.iter().map(column).collect(),
            self.key.iter().map(at).collect(),
            self.full_before,
        );
        Arc::new(TableSchema { form: self.form, filled: self.filled.clone(), ..schema })
    }

    pub(super) fn key_of(&self, cells: &Cells) -> Key {
        self.key.iter().map(|attnum| cells[attnum].clone().unwrap()).collect()
    }

    pub(super) fn col(&self, attnum: i16) -> &Col {
        self.columns.iter().find(|c| c.attnum == attnum).unwrap()
    }

    /// The columns that the source has now.
    pub(super) fn only(&self, cells: &Cells) -> Cells {
        cells
            .iter()
            .filter(|(attnum, _)| self.columns.iter().any(|c| c.attnum == **attnum))
            .map(|(attnum, value)| (*attnum, value.clone()))
            .collect()
    }

    pub(super) fn by_key(&self, rows: &Rows) -> Rows {
        rows.values().map(|cells| (self.key_of(cells), cells.clone())).collect()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Insert(Cells),
    /// Old row, new row, columns that the log does not repeat.
    Update(Cells, Cells, BTreeSet<i16>),
    Delete(Cells),
    Truncate,
}

pub(super) fn batch_of(shape: &Shape, steps: &[Step], start: u64, first: u64) -> ChangeBatch {
    let schema = shape.schema();
    let (mut ops, mut index, mut news, mut olds) = (vec![], vec![], vec![], vec![]);
    let mut masks: Vec<Vec<bool>> = vec![vec![]; shape.columns.len()];
    for step in steps {
        let mut before = Before::NONE;
        let mut old_row = |row: &Cells| {
            before = olds.len() as u32;
            olds.push(row.clone());
        };
        let mut left_out = BTreeSet::new();
        let (op, row) = match step {
            Step::Insert(row) => (Op::Create, row.clone()),
            Step::Update(old, row, unchanged) => {
                if shape.full_before || shape.key_of(old) != shape.key_of(row) {
                    old_row(old);
                }
                left_out.clone_from(unchanged);
                (Op::Update, row.clone())
            }
            Step::Delete(old) => {
                old_row(old);
                (Op::Delete, Cells::new())
            }
            Step::Truncate => (Op::Truncate, Cells::new()),
        };
        for (mask, col) in masks.iter_mut().zip(&shape.columns) {
            mask.push(left_out.contains(&col.attnum));
        }
        ops.push(op);
        index.push(before);
        news.push((row, left_out));
    }
    let after: Vec<ArrayRef> = shape
        .columns
        .iter()
        .map(|col| {
            let value = |(row, left_out): &(Cells, BTreeSet<i16>)| {
                row.get(&col.attnum).cloned().flatten().filter(|_| !left_out.contains(&col.attnum))
            };
            col.kind.array(news.iter().map(value).collect())
        })
        .collect();
    let before: Vec<ArrayRef> = shape
        .columns
        .iter()
        .map(|col| {
            let is_told = shape.full_before || shape.key.contains(&col.attnum);
            let value = |row: &Cells| row.get(&col.attnum).cloned().flatten().filter(|_| is_told);
            col.kind.array(olds.iter().map(value).collect())
        })
        .collect();
    let txn = Txn { commit_start: Lsn::new(start), xid: 1, commit_time: 0, after: CommitLsn::ZERO };
    let mask = |mask: Vec<bool>| mask.contains(&true).then(|| BooleanBuffer::from(mask));
    ChangeBatch {
        ordinals: (first..first + ops.len() as u64).collect(),
        lsns: Vec::new(),
        origins: Vec::new(),
        runs: vec![TxnRun { first_row: 0, txn, end: None }],
        ops,
        after: RecordBatch::try_new(schema.arrow.clone(), after).unwrap(),
        before: Some(Before { rows: RecordBatch::try_new(schema.arrow.clone(), before).unwrap(), index }),
        unchanged: masks.into_iter().map(mask).collect(),
        wire_bytes: 0,
        schema,
    }
}
