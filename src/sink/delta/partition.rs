//! Partitioned tables: which rows go to which files, and what the rows of a file share.
//!
//! A partition's values stand in the log (`partitionValues`) and not in its files. Its folder is named after them, as
//! Hive does: Polars takes the values from there. The log spells every value as a text, and the empty text is null
//! there; a name of a folder has 255 bytes. A row with an empty or a longer text is refused, not changed.

use super::layout::Layout;
use crate::error::{Error, Result, codes};
use crate::schema::TableSchema;
use crate::sink::table_error;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Int16Type, Int32Type, Int64Type, Schema, SchemaRef,
};
use arrow::row::{RowConverter, SortField};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Column → value as the log spells it, of all rows of a file.
pub(super) type Values = BTreeMap<String, Option<String>>;

/// File systems take no longer name.
const LONGEST_FOLDER: usize = 255;

/// Rows of one partition.
pub(super) struct Group {
    /// What they share.
    pub values: Arc<Values>,
    /// Which rows of the batch they are. `None`: all.
    pub rows: Option<UInt32Array>,
    /// They, without the partition's columns.
    pub data: RecordBatch,
}

/// Whether the table can be partitioned by these columns.
///
/// # Errors
/// `TG023`.
pub(super) fn check(schema: &TableSchema, layout: &Layout) -> Result<()> {
    let by = &layout.partition_by;
    let refuse = |what: String| {
        Err(table_error(&schema.name, codes::TG023, what).with_try("change target.partition_by"))
    };
    if layout.column_mapping && !by.is_empty() {
        // DuckDB 1.5 shows columns of partitions as null in such tables, whatever they are called, and says nothing.
        let what =
            "it is to be partitioned, and to have column mapping: there are readers that show nulls then";
        return refuse(what.to_owned());
    }
    for (i, name) in by.iter().enumerate() {
        let Some(column) = schema.columns.iter().find(|column| column.name == *name) else {
            return refuse(format!("it is to be partitioned by \"{name}\", and has no such column"));
        };
        if by.iter().take(i).any(|other| other == name) {
            return refuse(format!("it is to be partitioned by \"{name}\" twice"));
        }
        if !can_partition(&column.kind.arrow()) {
            let what = format!(
                "it is to be partitioned by \"{name}\", which is a {}: whole numbers, decimals, texts, dates and booleans can",
                column.kind.delta()
            );
            return refuse(what);
        }
    }
    if !by.is_empty() && by.len() >= schema.columns.len() {
        return refuse("it is to be partitioned by all of its columns, and a file must hold one".to_owned());
    }
    Ok(())
}

fn can_partition(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Utf8
            | DataType::Date32
            | DataType::Decimal128(..)
    )
}

/// Puts rows together by partition. A column that they lack is null.
///
/// # Errors
/// `TG023` for a value that a log cannot spell; `RT001`.
pub(super) fn split(rows: &RecordBatch, by: &[String]) -> Result<Vec<Group>> {
    if by.is_empty() {
        return Ok(vec![Group { values: Arc::default(), rows: None, data: rows.clone() }]);
    }
    let schema = rows.schema();
    let at: Vec<usize> = by.iter().filter_map(|name| schema.index_of(name).ok()).collect();
    let mut found: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    if at.is_empty() {
        return Ok(vec![Group { values: Arc::new(values(rows, by, 0)?), rows: None, data: rows.clone() }]);
    }
    let fields = at.iter().map(|&i| SortField::new(schema.field(i).data_type().clone())).collect();
    let columns: Vec<ArrayRef> = at.iter().map(|&i| Arc::clone(rows.column(i))).collect();
    let keys = RowConverter::new(fields).and_then(|c| c.convert_columns(&columns)).map_err(broken)?;
    for row in 0..rows.num_rows() {
        let key = keys.row(row);
        let group = match found.get(key.as_ref()) {
            Some(group) => *group,
            None => {
                found.insert(key.as_ref().to_vec(), groups.len());
                groups.push(Vec::new());
                groups.len() - 1
            }
        };
        if let Some(group) = groups.get_mut(group) {
            group.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }
    let keep: Vec<usize> = (0..rows.num_columns()).filter(|i| !at.contains(i)).collect();
    let data = rows.project(&keep).map_err(broken)?;
    let is_one = groups.len() == 1;
    groups
        .into_iter()
        .map(|members| {
            let first = members.first().map_or(0, |&row| row as usize);
            let values = Arc::new(values(rows, by, first)?);
            if is_one {
                return Ok(Group { values, rows: None, data: data.clone() });
            }
            let members = UInt32Array::from(members);
            let data = take_record_batch(&data, &members).map_err(broken)?;
            Ok(Group { values, rows: Some(members), data })
        })
        .collect()
}

fn values(rows: &RecordBatch, by: &[String], row: usize) -> Result<Values> {
    by.iter()
        .map(|name| {
            let value = match rows.column_by_name(name) {
                Some(column) => spelled(name, column, row)?,
                None => None,
            };
            Ok((name.clone(), value))
        })
        .collect()
}

/// A value as the log spells it.
fn spelled(name: &str, column: &ArrayRef, row: usize) -> Result<Option<String>> {
    if column.is_null(row) {
        return Ok(None);
    }
    let refuse = |what: &str| {
        Error::new(codes::TG023, format!("the partition column \"{name}\" holds {what}"))
            .with_try("partition the table by another column: tables.overrides")
    };
    Ok(Some(match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int16 => column.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => column.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => match column.as_string::<i32>().value(row) {
            "" => return Err(refuse("an empty text, which the log of a Delta table cannot tell from null")),
            text => text.to_owned(),
        },
        DataType::Date32 => {
            let days = column.as_primitive::<Date32Type>().value(row);
            super::encode::date_text(days)
                .ok_or_else(|| refuse("a date outside of the years 1 to 9999, which readers cannot take"))?
        }
        _ => return Err(refuse("values of a type that cannot be spelled")),
    }))
}

/// The folder of a partition, with `/` at its end; empty where there is none.
///
/// # Errors
/// `TG023` when its name is too long.
pub(super) fn folder(by: &[String], values: &Values) -> Result<String> {
    let mut path = String::new();
    for name in by {
        let from = path.len();
        encode(name, &mut path);
        path.push('=');
        match values.get(name).and_then(Option::as_deref) {
            Some(value) => encode(value, &mut path),
            None => path.push_str("__HIVE_DEFAULT_PARTITION__"),
        }
        if path.len() - from > LONGEST_FOLDER {
            let what =
                format!("the partition column \"{name}\" holds a text that is too long for a folder's name");
            return Err(Error::new(codes::TG023, what)
                .with_try("partition the table by another column: tables.overrides"));
        }
        path.push('/');
    }
    Ok(path)
}

/// As others do: the same bytes are read back by all of them.
fn encode(text: &str, path: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The columns of a file with those that its rows share, as texts.
pub(super) fn with_shared(columns: &SchemaRef, shared: &Values) -> SchemaRef {
    if shared.is_empty() {
        return Arc::clone(columns);
    }
    let own = columns.fields().iter().filter(|field| !shared.contains_key(field.name()));
    let more = shared.keys().map(|name| -> FieldRef { Arc::new(Field::new(name, DataType::Utf8, true)) });
    Arc::new(Schema::new(own.cloned().chain(more).collect::<Vec<_>>()))
}

/// Rows of a file with the wanted columns among those that they share, as texts.
///
/// # Errors
/// `RT001`.
pub(super) fn share(rows: &RecordBatch, wanted: &[String], shared: &Values) -> Result<RecordBatch> {
    if !wanted.iter().any(|name| shared.contains_key(name)) {
        return Ok(rows.clone());
    }
    let mut fields: Vec<FieldRef> = Vec::with_capacity(wanted.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(wanted.len());
    for name in wanted {
        if let Some(value) = shared.get(name) {
            fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
            columns.push(Arc::new(StringArray::from_iter(std::iter::repeat_n(
                value.as_deref().filter(|text| !text.is_empty()),
                rows.num_rows(),
            ))));
        } else if let (Ok(field), Some(column)) =
            (rows.schema().field_with_name(name), rows.column_by_name(name))
        {
            fields.push(Arc::new(field.clone()));
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(broken)
}

fn broken(e: arrow::error::ArrowError) -> Error {
    Error::new(codes::RT001, "cannot put rows into partitions").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int64Array};

    fn by(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn rows(texts: Vec<Option<&str>>) -> RecordBatch {
        let days: Vec<i32> = (0..texts.len() as i32).map(|i| i % 2).collect();
        let ids: Vec<i64> = (0..texts.len() as i64).collect();
        RecordBatch::try_from_iter([
            ("day", Arc::new(Date32Array::from(days)) as ArrayRef),
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            ("text", Arc::new(StringArray::from(texts)) as ArrayRef),
        ])
        .unwrap()
    }

    #[test]
    fn rows_are_put_together_by_partition() {
        let rows = rows(vec![Some("a"), None, Some("b"), None]);
        let groups = split(&rows, &by(&["text", "day"])).unwrap();
        let found: Vec<_> = groups
            .iter()
            .map(|g| {
                let ids = g.data.column(0).as_primitive::<Int64Type>().values().to_vec();
                (folder(&by(&["text", "day"]), &g.values).unwrap(), ids)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("text=a/day=1970-01-01/".to_owned(), vec![0]),
                ("text=__HIVE_DEFAULT_PARTITION__/day=1970-01-02/".to_owned(), vec![1, 3]),
                ("text=b/day=1970-01-01/".to_owned(), vec![2]),
            ]
        );
        assert_eq!(groups[1].rows.as_ref().unwrap().values(), &[1, 3]);
        assert!(split(&rows, &[]).unwrap()[0].rows.is_none());
        // A column that is gone is null.
        let groups = split(&rows, &by(&["gone"])).unwrap();
        assert_eq!((groups.len(), groups[0].values["gone"].clone()), (1, None));
    }

    #[test]
    fn what_rows_share_comes_back() {
        let rows = rows(vec![Some("a"), Some("a")]);
        let group = split(&rows, &by(&["text"])).unwrap().remove(0);
        let wanted = by(&["text", "id"]);
        let back = share(&group.data, &wanted, &group.values).unwrap();
        assert_eq!(back.column_by_name("text").unwrap().as_string::<i32>().value(1), "a");
        assert_eq!(with_shared(&group.data.schema(), &group.values).fields().len(), 3);
    }

    #[test]
    fn an_empty_text_is_refused() {
        let refused = split(&rows(vec![Some("a"), Some("")]), &by(&["text"])).err().unwrap();
        assert_eq!(refused.code(), codes::TG023);
    }

    #[test]
    fn no_folder_leaves_the_table() {
        let name = |column: &str, value: &str| {
            folder(&by(&[column]), &[(column.to_owned(), Some(value.to_owned()))].into())
        };
        assert_eq!(name("c", "../../x").unwrap(), "c=..%2F..%2Fx/");
        assert_eq!(name("c", "a=b%c:d").unwrap(), "c=a%3Db%25c%3Ad/");
        assert_eq!(name("..", "日").unwrap(), "..=%E6%97%A5/");
        assert_eq!(name("c", &"x".repeat(253)).unwrap().len(), 256);
        assert_eq!(name("c", &"x".repeat(254)).unwrap_err().code(), codes::TG023);
    }
}
