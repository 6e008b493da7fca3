//! The second way in: rows of a `SELECT`, in MySQL's binary or text protocol, through the same rules as the log's.
//!
//! The session that selects must have `character_set_results = NULL`, so that text comes as it is stored and not converted
//! by the server (which writes `?` for what it cannot convert); `time_zone = '+00:00'`; and a `sql_mode` without
//! `PAD_CHAR_TO_FULL_LENGTH`. Use the binary protocol (a prepared statement): in the text protocol `float` and
//! `double(10,2)` have lost digits, and `float` and `double` are refused.

use super::builder::BatchBuilder;
use super::decoder::PlanError;
use super::reason::{Reason, ValueError};
use super::sqltype::{Policies, SqlType};
use super::value::{Codec, Context};
use crate::schema::TableSchema;
use std::sync::Arc;

/// A value of a result row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Cell<'a> {
    /// Null.
    Null,
    /// Text, bytes, and in the text protocol every value.
    Bytes(&'a [u8]),
    /// A whole number.
    Int(i64),
    /// A whole number without a sign.
    Unsigned(u64),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
    /// `date`, `datetime`, `timestamp`.
    Moment {
        /// 0 to 9999.
        year: u16,
        /// 0 to 12.
        month: u8,
        /// 0 to 31.
        day: u8,
        /// 0 to 23.
        hour: u8,
        /// 0 to 59.
        minute: u8,
        /// 0 to 59.
        second: u8,
        /// 0 to 999,999.
        micros: u32,
    },
    /// `time`.
    Time {
        /// Below zero.
        negative: bool,
        /// Whole days.
        days: u32,
        /// 0 to 23.
        hours: u8,
        /// 0 to 59.
        minutes: u8,
        /// 0 to 59.
        seconds: u8,
        /// 0 to 999,999.
        micros: u32,
    },
}

/// Decodes the rows of one `SELECT` of all columns of a schema, in its order.
#[derive(Debug)]
pub struct SnapshotDecoder {
    codecs: Vec<Codec>,
    schema: Arc<TableSchema>,
    policies: Policies,
}

impl SnapshotDecoder {
    /// `collations`: the collation's number of each result column (`character_set` of the column's definition, as the
    /// server sends it).
    ///
    /// # Errors
    /// A character set that we do not know, or a schema that is not of this kind of source.
    pub fn new(schema: &Arc<TableSchema>, collations: &[u16], policies: Policies) -> Result<Self, PlanError> {
        let mut codecs = Vec::with_capacity(schema.columns.len());
        for (index, column) in schema.columns.iter().enumerate() {
            let type_error =
                || PlanError::Type { name: column.name.clone(), type_name: column.type_name.clone() };
            let of = SqlType::of_catalog(&column.type_name).map_err(|_| type_error())?;
            let &collation = collations.get(index).ok_or_else(type_error)?;
            codecs.push(Codec::of_result(&of, collation).map_err(|collation| match collation {
                Some(collation) => PlanError::Charset { name: column.name.clone(), collation },
                None => type_error(),
            })?);
        }
        Ok(SnapshotDecoder { codecs, schema: Arc::clone(schema), policies })
    }

    /// The schema of the batches that it fills.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Adds a row. `wire_bytes`: what it took on the wire, about.
    ///
    /// # Errors
    /// The row cannot be taken; `into` is as before.
    pub fn push<'a>(
        &self,
        cells: impl IntoIterator<Item = Cell<'a>>,
        wire_bytes: usize,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        into.must_be_snapshot()?;
        let mark = into.mark();
        let result = self.push_cells(cells, into);
        match result {
            Ok(()) => into.add_read(wire_bytes),
            Err(_) => into.rollback_to(mark),
        }
        result
    }

    fn push_cells<'a>(
        &self,
        cells: impl IntoIterator<Item = Cell<'a>>,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        let mut context = Context::new(self.policies, &mut into.replaced, &mut into.scratch);
        let image = &mut into.after;
        image.begin_row();
        let row = image.rows();
        let mut found = 0;
        for cell in cells {
            let index = found;
            found += 1;
            let (Some(codec), Some(column)) = (self.codecs.get(index), image.column(index)) else { continue };
            let pushed = match cell {
                Cell::Null => {
                    column.push_null(row);
                    Ok(())
                }
                cell => codec.push_cell(cell, row, column, &mut context),
            };
            pushed.map_err(|reason: Reason| ValueError { column: Some(index), reason })?;
        }
        if found != self.codecs.len() {
            return Err(ValueError::column_count(found, self.codecs.len()));
        }
        into.after.end_row();
        Ok(())
    }
}
