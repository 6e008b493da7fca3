//! A row as a struct: which columns, and what stands where there is no value.

use super::column::{self, Compiled};
use super::columns;
use super::connect::{Schema, Type};
use super::options::{Disguise, Options};
use super::out::{Nullness, Out, listed};
use super::topic::adjusted_field_name;
use super::value::{Cell, Conv, Trouble};
use crate::schema::TableSchema;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType,
};

/// A column's array, looked at once a batch.
#[derive(Debug)]
pub(super) enum Bound<'a> {
    Bool(&'a BooleanArray),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(&'a [i128], i8),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    /// Not to be shown: what is no null stands for an unchanged value.
    Hidden,
}

impl<'a> Bound<'a> {
    /// `None`: an array of a type that no column has.
    pub(super) fn new(array: &'a ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Boolean => Bound::Bool(array.as_boolean()),
            DataType::Int16 => Bound::Int16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Bound::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Bound::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Date32 => Bound::Int32(array.as_primitive::<Date32Type>().values()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Bound::Int64(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Float32 => Bound::Float32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Bound::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(_, scale) => {
                Bound::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale)
            }
            DataType::Utf8 => Bound::Text(array.as_string()),
            DataType::Binary => Bound::Bytes(array.as_binary()),
            _ => return None,
        })
    }

    #[inline]
    fn cell(&self, row: usize) -> Option<Cell<'a>> {
        Some(match self {
            Bound::Bool(values) => Cell::Bool(values.value(row)),
            Bound::Int16(values) => Cell::Int((*values.get(row)?).into()),
            Bound::Int32(values) => Cell::Int((*values.get(row)?).into()),
            Bound::Int64(values) => Cell::Int(*values.get(row)?),
            Bound::Float32(values) => Cell::Float(*values.get(row)?),
            Bound::Float64(values) => Cell::Double(*values.get(row)?),
            Bound::Decimal(values, scale) => Cell::Decimal(*values.get(row)?, *scale),
            Bound::Text(values) => Cell::Text(values.value(row)),
            Bound::Bytes(values) => Cell::Bytes(values.value(row)),
            Bound::Hidden => return None,
        })
    }
}

/// Row images of a batch.
pub(super) struct Rows<'a> {
    columns: Vec<(Bound<'a>, Option<&'a NullBuffer>)>,
    unchanged: &'a [Option<BooleanBuffer>],
}

impl<'a> Rows<'a> {
    /// `None`: an array of a type that no column has.
    pub(super) fn new(arrays: &'a [ArrayRef], unchanged: &'a [Option<BooleanBuffer>]) -> Option<Self> {
        let columns =
            arrays.iter().map(|array| Some((Bound::new(array)?, array.nulls()))).collect::<Option<_>>()?;
        Some(Rows { columns, unchanged })
    }

    /// The values of these columns are not to be shown.
    pub(super) fn hide(&mut self, columns: &[usize]) {
        for &column in columns {
            if let Some((bound, _)) = self.columns.get_mut(column) {
                *bound = Bound::Hidden;
            }
        }
    }

    /// Bytes of a text or of binary data.
    pub(super) fn width(&self, column: usize, row: usize) -> usize {
        match self.cell(column, row) {
            Some(Cell::Text(text)) => text.len(),
            Some(Cell::Bytes(bytes)) => bytes.len(),
            _ => 0,
        }
    }

    fn is_unchanged(&self, column: usize, row: usize) -> bool {
        if let Some((Bound::Hidden, nulls)) = self.columns.get(column) {
            return nulls.is_none_or(|nulls| nulls.is_valid(row));
        }
        self.unchanged.get(column).and_then(Option::as_ref).is_some_and(|mask| mask.value(row))
    }

    #[inline]
    fn cell(&self, column: usize, row: usize) -> Option<Cell<'a>> {
        let (bound, nulls) = self.columns.get(column)?;
        if nulls.is_some_and(|nulls| nulls.is_null(row)) { None } else { bound.cell(row) }
    }
}

/// Debezium's placeholder, and the UUID that Java makes of its bytes.
const UNAVAILABLE: (&str, &str) = ("__debezium_unavailable_value", "b68a35a7-17ad-35b3-af2a-ae46edb4545a");

/// What stands for an unchanged value of this column. `None`: nothing that is of its type.
fn placeholder_of<'a>(compiled: &Compiled, text: &'a str) -> Option<&'a str> {
    match &compiled.schema.ty {
        Type::Array(items) if items.name.as_deref() == Some("io.debezium.data.Uuid") => {
            (text == UNAVAILABLE.0).then_some(UNAVAILABLE.1)
        }
        _ => Some(text),
    }
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Place of the column in the table's schema.
    pub(super) column: usize,
    pub(super) name: String,
    /// With a comma before it.
    label: Vec<u8>,
    conv: Conv,
    nullness: Nullness,
    pub(super) schema: Schema,
    /// What is written where there is no value.
    when_null: Vec<u8>,
    /// What is written for an unchanged value that is not known; `None`: the type has nothing for it.
    pub(super) placeholder: Option<Vec<u8>>,
}

/// Makes an `Out` of the encoder's kind over a buffer.
pub(super) trait MakeOut {
    fn with<R>(&self, buffer: &mut Vec<u8>, write: impl WriteWith<R>) -> R;
}

/// Something to be written with any `Out`.
pub(super) trait WriteWith<R> {
    fn call<O: Out>(self, out: &mut O) -> R;
}

struct WhenNull<'a>(&'a Compiled, bool);

impl WriteWith<()> for WhenNull<'_> {
    fn call<O: Out>(self, out: &mut O) {
        let WhenNull(Compiled { conv, nullness, default, scale, .. }, replace) = self;
        if let Conv::Disguised(Disguise::Stars(_)) = conv {
            if nullness.is_optional() {
                out.some(*nullness);
            }
            return conv.write_zero(*scale, out);
        }
        let shown = default.as_ref().filter(|_| replace || !nullness.is_optional());
        if let Some(default) = shown {
            if nullness.is_optional() {
                out.some(*nullness);
            }
            // It was written once already, when the column was compiled.
            let _written = default.write(conv, *scale, out);
        } else if nullness.is_optional() {
            out.null(*nullness);
        } else {
            conv.write_zero(*scale, out);
        }
    }
}

struct Placeholder<'a>(&'a Compiled, &'a str);

impl WriteWith<Option<()>> for Placeholder<'_> {
    fn call<O: Out>(self, out: &mut O) -> Option<()> {
        if self.0.nullness.is_optional() {
            out.some(self.0.nullness);
        }
        self.0.conv.write_placeholder(self.1, out).ok()
    }
}

struct ShownDefault<'a>(&'a Compiled);

impl WriteWith<Option<()>> for ShownDefault<'_> {
    fn call<O: Out>(self, out: &mut O) -> Option<()> {
        self.0.default.as_ref()?.write(&self.0.conv, self.0.scale, out)
    }
}

impl Field {
    fn new(column: usize, name: String, compiled: Compiled, options: &Options, make: &impl MakeOut) -> Self {
        let mut when_null = Vec::new();
        make.with(&mut when_null, WhenNull(&compiled, options.replace_null_with_default));
        let mut placeholder = Vec::new();
        let text = placeholder_of(&compiled, &options.unavailable_value_placeholder);
        let placeholder = text
            .and_then(|text| make.with(&mut placeholder, Placeholder(&compiled, text)))
            .map(|()| placeholder);
        let mut default = Vec::new();
        let json = super::encoder::JsonOuts { decimals: options.decimal_format, with_schema: true };
        let default = json.with(&mut default, ShownDefault(&compiled)).map(|()| default);
        let schema = Schema { default, ..compiled.schema };
        let (conv, nullness) = (compiled.conv, compiled.nullness);
        Field { column, label: listed(&name), name, conv, nullness, schema, when_null, placeholder }
    }
}

/// A struct of some columns of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) fields: Vec<Field>,
}

/// A value that could not be written, and of which column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) column: usize,
    pub(super) trouble: Trouble,
}

impl Image {
    /// Of these columns, in this order. Also the names of those that are left out because their types are not known.
    pub(super) fn compile(
        schema: &TableSchema,
        which: impl Iterator<Item = usize>,
        options: &Options,
        make: &impl MakeOut,
    ) -> (Self, Vec<String>) {
        let (mut fields, mut dropped) = (Vec::new(), Vec::new());
        for at in which {
            let Some(column) = schema.columns.get(at) else { continue };
            let rules = columns::rules(options, schema);
            if rules.is_some_and(|rules| !rules.shows(&column.name)) {
                continue;
            }
            let compiled = column::compile(column, schema.declared.columns.get(at), options);
            let disguise = rules.and_then(|rules| rules.disguise(&column.name));
            let compiled = match (compiled, disguise) {
                (Some(compiled), Some(disguise)) => columns::disguised(
                    compiled,
                    &columns::fitting(disguise, column, schema.declared.columns.get(at)),
                ),
                (compiled, _) => compiled,
            };
            match compiled {
                Some(compiled) => {
                    let name = adjusted_field_name(options.field_name_adjustment, &column.name);
                    fields.push(Field::new(at, name, compiled, options, make));
                }
                None => dropped.push(column.name.clone()),
            }
        }
        (Image { fields }, dropped)
    }

    /// Some are decimals.
    pub(super) fn has_decimals(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.conv, Conv::Decimal { .. }))
    }

    /// Without a name.
    pub(super) fn schema(&self) -> Schema {
        let fields = self.fields.iter().map(|field| (field.name.clone(), field.schema.clone())).collect();
        Schema::of(Type::Struct(fields))
    }

    /// Writes the fields of a row into a struct that is begun.
    #[inline]
    pub(super) fn write_fields<O: Out>(&self, rows: &Rows<'_>, row: usize, out: &mut O) -> Result<(), Fault> {
        for (at, field) in self.fields.iter().enumerate() {
            out.listed(&field.label, at);
            match rows.cell(field.column, row) {
                Some(cell) if !field.conv.is_void(cell) => {
                    if field.nullness.is_optional() {
                        out.some(field.nullness);
                    }
                    let fault = |trouble| Fault { column: field.column, trouble };
                    field.conv.write(cell, out).map_err(fault)?;
                }
                _ if rows.is_unchanged(field.column, row) => match &field.placeholder {
                    Some(placeholder) => out.raw(placeholder),
                    None => return Err(Fault { column: field.column, trouble: Trouble::Unchanged }),
                },
                _ => out.raw(&field.when_null),
            }
        }
        Ok(())
    }

    /// Writes a row as a struct.
    #[inline]
    pub(super) fn write<O: Out>(&self, rows: &Rows<'_>, row: usize, out: &mut O) -> Result<(), Fault> {
        out.begin_struct();
        self.write_fields(rows, row, out)?;
        out.end_struct();
        Ok(())
    }
}
