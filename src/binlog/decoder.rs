//! Row images straight into Arrow: compiled once per `TABLE_MAP`.
//!
//! A row image is a bitmap of nulls, one bit per column that the event holds, then the values of the others, each as
//! long as its type or its own length says. [`RowDecoder::decode`] walks through them once; what is not wanted is
//! stepped over without being looked at.
//!
//! | event | new row | old row |
//! |---|---|---|
//! | write | `after`; a column that the image lacks is null if the catalogue says that it is so by default | – |
//! | update | `after`: columns that the image lacks come from the old image if it has them, else they are *unchanged* | when the schema wants whole old rows, or the key changed |
//! | delete | nulls | always |
//!
//! An event is taken whole or not at all.

use super::builder::BatchBuilder;
use super::outline::{CatalogColumn, OutlineError, map_types};
use super::reason::{Reason, ValueError};
use super::rows::{ColumnBits, Rows, RowsKind};
use super::sqltype::{Policies, SqlType};
use super::table_map::TableMap;
use super::value::{Codec, Context, Extent, json_diff};
use crate::error::Error;
use crate::event::Op;
use crate::schema::{ColumnKind, TableSchema};
use std::sync::Arc;

/// What to do with a column of the schema that the rows do not have, or the other way round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Missing {
    /// Refuse to decode.
    #[default]
    Refuse,
    /// The schema's column becomes null; the rows' column is left out.
    Null,
    /// As [`Missing::Null`], but the schema's column is marked as unchanged: the target keeps what it has.
    Unchanged,
}

/// Why no decoder can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// The table of the log cannot be described.
    Outline(OutlineError),
    /// A column of the schema is not in the rows, or one of the rows not in the schema.
    Column {
        /// Its name.
        name: String,
    },
    /// A column's values in the rows do not become what the schema says.
    Type {
        /// Its name.
        name: String,
        /// Its type in the rows.
        type_name: String,
    },
    /// The column is in a character set that we do not know.
    Charset {
        /// Its name.
        name: String,
        /// The collation's number.
        collation: u16,
    },
}

impl PlanError {
    /// With code and advice, for people.
    pub fn into_error(self, schema: &TableSchema) -> Error {
        use crate::error::codes;
        let table = &schema.name;
        match self {
            PlanError::Outline(error) => error.into_error(table),
            PlanError::Column { name } => {
                let text =
                    format!("table \"{table}\": column \"{name}\" is not both in the log and in the table");
                Error::new(codes::MY022, text).with_try("resync the table")
            }
            PlanError::Type { name, type_name } => {
                let text = format!("table \"{table}\", column \"{name}\": the log has it as {type_name}");
                Error::new(codes::MY022, text).with_try("resync the table")
            }
            PlanError::Charset { name, collation } => {
                let text = format!(
                    "table \"{table}\", column \"{name}\": the character set of collation {collation} is not known"
                );
                Error::new(codes::MY020, text)
                    .with_try("convert the column to utf8mb4, or leave the table out")
            }
        }
    }
}

/// Where a value lies in the row data. `start == u32::MAX`: the image lacks it; `start == u32::MAX - 1`: null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    const ABSENT: Span = Span { start: u32::MAX, end: 0 };
    const NULL: Span = Span { start: u32::MAX - 1, end: 0 };

    fn is_absent(self) -> bool {
        self.start == u32::MAX
    }

    fn is_null(self) -> bool {
        self.start == u32::MAX - 1
    }

    fn of(self, data: &[u8]) -> Option<&[u8]> {
        data.get(self.start as usize..self.end as usize)
    }
}

/// A column of the rows.
#[derive(Debug)]
struct Plan {
    extent: Extent,
    codec: Codec,
    /// Index in the schema; `None`: not wanted.
    dest: Option<usize>,
    is_key: bool,
    is_json: bool,
    /// A created row that leaves it out has null in it, as the catalogue says.
    is_null_by_default: bool,
}

/// Decodes the rows of one `TABLE_MAP` into batches of one schema.
#[derive(Debug)]
pub struct RowDecoder {
    plans: Vec<Plan>,
    /// Columns of the schema that the rows do not have.
    lacking: Vec<usize>,
    lacking_unchanged: bool,
    schema: Arc<TableSchema>,
    policies: Policies,
}

impl RowDecoder {
    /// For rows of `map`, into batches of `schema`; columns meet by name. `catalog`: see
    /// [`super::schema_of_map`].
    ///
    /// # Errors
    /// The rows cannot become rows of the schema.
    pub fn new(
        map: &TableMap,
        schema: &Arc<TableSchema>,
        catalog: &[CatalogColumn],
        policies: Policies,
        missing: Missing,
    ) -> Result<Self, PlanError> {
        let types = map_types(map, catalog).map_err(PlanError::Outline)?;
        let mut found = vec![false; schema.columns.len()];
        let mut plans = Vec::with_capacity(types.len());
        for ((name, of), column) in types.iter().zip(&map.columns) {
            let dest = schema.columns.iter().position(|own| own.name == *name);
            if let Some(seen) = dest.and_then(|dest| found.get_mut(dest)) {
                *seen = true;
            } else if missing == Missing::Refuse {
                return Err(PlanError::Column { name: name.clone() });
            }
            let type_error = || PlanError::Type { name: name.clone(), type_name: of.to_string() };
            if let Some(own) = dest.and_then(|dest| schema.columns.get(dest))
                && !becomes(&of.kind(&policies), &own.kind)
            {
                return Err(type_error());
            }
            let (extent, codec) = Codec::of_map(column, of).map_err(|collation| match collation {
                Some(collation) => PlanError::Charset { name: name.clone(), collation },
                None => type_error(),
            })?;
            let is_key = dest.is_some_and(|dest| schema.key.contains(&dest));
            let is_null_by_default = dest.is_some_and(|dest| is_null_by_default(schema, dest));
            let is_json = *of == SqlType::Json;
            plans.push(Plan { extent, codec, dest, is_key, is_json, is_null_by_default });
        }
        let lacking: Vec<usize> =
            found.iter().enumerate().filter(|(_, seen)| !**seen).map(|(index, _)| index).collect();
        if let Some(column) = lacking.first().and_then(|&index| schema.columns.get(index))
            && missing == Missing::Refuse
        {
            return Err(PlanError::Column { name: column.name.clone() });
        }
        let lacking_unchanged = missing == Missing::Unchanged;
        Ok(RowDecoder { plans, lacking, lacking_unchanged, schema: Arc::clone(schema), policies })
    }

    /// The schema of the batches that it fills.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Decodes all rows of an event. `first_ordinal`: of its first row in the transaction; the others follow it.
    /// Returns how many rows there were.
    ///
    /// # Errors
    /// A row cannot be taken; `into` is as before.
    pub fn decode(
        &self,
        rows: &Rows<'_>,
        first_ordinal: u64,
        into: &mut BatchBuilder,
    ) -> Result<usize, ValueError> {
        into.must_be_stream()?;
        if rows.columns != self.plans.len() {
            return Err(ValueError::column_count(rows.columns, self.plans.len()));
        }
        // Builders are of this decoder's schema: columns go by index.
        if !Arc::ptr_eq(into.schema(), &self.schema) && into.schema().arrow != self.schema.arrow {
            return Err(ValueError::row(Reason::Misuse));
        }
        let (mark, first) = (into.mark(), into.rows());
        let result = self.decode_rows(rows, first_ordinal, into);
        match result {
            Ok(_) => {
                into.add_wire_bytes(rows.data.len());
                into.end_event(first);
            }
            Err(_) => into.rollback_to(mark),
        }
        result
    }

    fn decode_rows(
        &self,
        rows: &Rows<'_>,
        first_ordinal: u64,
        into: &mut BatchBuilder,
    ) -> Result<usize, ValueError> {
        let mut cursor = Cursor { data: &rows.data, at: 0 };
        let (before, after) = (Present::new(rows.before), Present::new(rows.after));
        let may_be_replace = rows.is_v1 && self.is_key_written(&after);
        let mut count = 0;
        while cursor.at < rows.data.len() {
            let start = cursor.at;
            let op = match rows.kind {
                RowsKind::Write => {
                    self.created(&mut cursor, &after, into)?;
                    Op::Create
                }
                RowsKind::Update => {
                    self.updated(&mut cursor, &before, &after, New::Values { may_be_replace }, into)?;
                    Op::Update
                }
                RowsKind::PartialUpdate => {
                    self.partially_updated(&mut cursor, &before, &after, into)?;
                    Op::Update
                }
                RowsKind::Delete => {
                    self.deleted(&mut cursor, &before, into)?;
                    Op::Delete
                }
            };
            // An image without columns has no bytes: the data would have no end.
            if cursor.at == start {
                return Err(ValueError::row(Reason::Truncated));
            }
            into.add(op, first_ordinal.saturating_add(count as u64));
            count += 1;
        }
        Ok(count)
    }

    /// Whether the statement gave every column of the key a value, as a `REPLACE` does; by a default at least.
    fn is_key_written(&self, present: &Present<'_>) -> bool {
        let has_default =
            |dest: usize| self.schema.declared.columns.get(dest).is_some_and(|c| c.default.is_some());
        self.plans
            .iter()
            .enumerate()
            .filter(|(_, plan)| plan.is_key)
            .all(|(index, plan)| present.all || present.bits.has(index) || plan.dest.is_none_or(has_default))
    }

    fn created(
        &self,
        cursor: &mut Cursor<'_>,
        present: &Present<'_>,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        let nulls = cursor.take(present.null_bytes)?;
        let mut context = Context::new(self.policies, &mut into.replaced, &mut into.scratch);
        let image = &mut into.after;
        image.begin_row();
        let row = image.rows();
        let mut bit = 0;
        for (index, plan) in self.plans.iter().enumerate() {
            if !present.all && !present.bits.has(index) {
                match plan.dest {
                    None => {}
                    Some(dest) if plan.is_null_by_default => image.push_null(dest),
                    // What stands there is the column's default, which the log does not say.
                    Some(_) => return Err(ValueError { column: plan.dest, reason: Reason::MissingValue }),
                }
                continue;
            }
            let null = is_set(nulls, bit);
            bit += 1;
            if null {
                if let Some(dest) = plan.dest {
                    image.push_null(dest);
                }
                continue;
            }
            let value = cursor.value(plan)?;
            if let Some(column) = plan.dest.and_then(|dest| image.column(dest)) {
                let pushed = plan.codec.push_log(value, row, column, &mut context);
                pushed.map_err(|reason| ValueError { column: plan.dest, reason })?;
            }
        }
        self.fill_lacking(into);
        into.after.end_row();
        Ok(())
    }

    fn fill_lacking(&self, into: &mut BatchBuilder) {
        for &index in &self.lacking {
            if self.lacking_unchanged {
                into.after.push_unchanged(index);
            } else {
                into.after.push_null(index);
            }
        }
    }

    /// Where the values of an image lie: into `spans`, one per column.
    fn locate(
        &self,
        cursor: &mut Cursor<'_>,
        present: &Present<'_>,
        spans: &mut Vec<Span>,
    ) -> Result<(), ValueError> {
        let nulls = cursor.take(present.null_bytes)?;
        spans.clear();
        let mut bit = 0;
        for (index, plan) in self.plans.iter().enumerate() {
            if !present.all && !present.bits.has(index) {
                spans.push(Span::ABSENT);
                continue;
            }
            let null = is_set(nulls, bit);
            bit += 1;
            if null {
                spans.push(Span::NULL);
                continue;
            }
            let value = cursor.value(plan)?;
            // Row data is at most 4 GiB: an event's length has 32 bits. The last two values are not reached.
            let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX - 2);
            spans.push(Span { start: place(cursor.at - value.len()), end: place(cursor.at) });
        }
        Ok(())
    }

    fn deleted(
        &self,
        cursor: &mut Cursor<'_>,
        present: &Present<'_>,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        let mut spans = std::mem::take(&mut into.spans);
        let result =
            self.locate(cursor, present, &mut spans).and_then(|()| self.push_old(cursor.data, &spans, into));
        into.spans = spans;
        result?;
        into.after.push_nulls();
        Ok(())
    }

    /// Adds the old row whose values lie at `spans`.
    fn push_old(&self, data: &[u8], spans: &[Span], into: &mut BatchBuilder) -> Result<(), ValueError> {
        let whole = self.schema.full_before || !self.schema.has_key();
        // Without a key, a row is found by all of its values.
        let needs_all = !self.schema.has_key();
        into.old().begin_row();
        let row = into.old().rows();
        // Two fields are borrowed beside the image.
        let (mut replaced, mut scratch) = (into.replaced, std::mem::take(&mut into.scratch));
        let mut context = Context::new(self.policies, &mut replaced, &mut scratch);
        let image = into.old();
        for (plan, &span) in self.plans.iter().zip(spans) {
            let Some(dest) = plan.dest else { continue };
            match span.of(data) {
                Some(value) if whole || plan.is_key => {
                    if let Some(column) = image.column(dest) {
                        let pushed = plan.codec.push_log(value, row, column, &mut context);
                        pushed.map_err(|reason| ValueError { column: Some(dest), reason })?;
                    }
                }
                None if span.is_absent() && needs_all => {
                    return Err(ValueError { column: Some(dest), reason: Reason::MissingValue });
                }
                _ => image.push_null(dest),
            }
        }
        for &index in &self.lacking {
            image.push_null(index);
        }
        image.end_row();
        into.replaced = replaced;
        into.scratch = scratch;
        into.link_before()
    }

    fn updated(
        &self,
        cursor: &mut Cursor<'_>,
        before: &Present<'_>,
        after: &Present<'_>,
        new: New<'_>,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        let mut spans = std::mem::take(&mut into.spans);
        let located = match new {
            // The caller has read the old image: what says which values are partial lies between the two.
            New::Partial(_) => Ok(()),
            New::Values { .. } => self.locate(cursor, before, &mut spans),
        };
        let result = located.and_then(|()| self.updated_from(cursor, &spans, after, new, into));
        let kept = match result {
            Ok(true) => self.push_old(cursor.data, &spans, into),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        into.spans = spans;
        kept
    }

    /// Adds the new row. Whether the old one must be added, too.
    fn updated_from(
        &self,
        cursor: &mut Cursor<'_>,
        old: &[Span],
        present: &Present<'_>,
        new: New<'_>,
        into: &mut BatchBuilder,
    ) -> Result<bool, ValueError> {
        let nulls = cursor.take(present.null_bytes)?;
        let mut context = Context::new(self.policies, &mut into.replaced, &mut into.scratch);
        let image = &mut into.after;
        image.begin_row();
        let row = image.rows();
        let (mut bit, mut json) = (0, 0);
        let mut key_changed = false;
        let data = cursor.data;
        for (index, (plan, &span)) in self.plans.iter().zip(old).enumerate() {
            let is_diff = plan.is_json && matches!(new, New::Partial(bits) if bits.has(json));
            json += usize::from(plan.is_json);
            let absent = !present.all && !present.bits.has(index);
            let value = if absent {
                None
            } else {
                let null = is_set(nulls, bit);
                bit += 1;
                if null { None } else { Some(cursor.value(plan)?) }
            };
            let Some(dest) = plan.dest else { continue };
            let error = |reason| ValueError { column: Some(dest), reason };
            let Some(column) = image.column(dest) else { continue };
            match (value, absent) {
                (Some(diff), _) if is_diff => {
                    let old = span.of(data).ok_or_else(|| error(Reason::PartialJson))?;
                    column
                        .push_with(true, |out| json_diff::apply_to_binary(old, diff, out))
                        .map_err(error)?;
                }
                (Some(value), _) => {
                    key_changed |= plan.is_key && span.of(data) != Some(value);
                    plan.codec.push_log(value, row, column, &mut context).map_err(error)?;
                }
                (None, false) => {
                    key_changed |= plan.is_key && !span.is_null();
                    image.push_null(dest);
                }
                (None, true) if span.is_null() => image.push_null(dest),
                (None, true) => match span.of(data) {
                    Some(value) => plan.codec.push_log(value, row, column, &mut context).map_err(error)?,
                    None if plan.is_key => return Err(error(Reason::NoKey)),
                    None if matches!(new, New::Values { may_be_replace: true }) => {
                        return Err(error(Reason::Replaced));
                    }
                    None => image.push_unchanged(dest),
                },
            }
        }
        self.fill_lacking(into);
        into.after.end_row();
        Ok(self.schema.full_before || key_changed || !self.schema.has_key())
    }

    /// `PARTIAL_UPDATE_ROWS`: before the new image stands which of its JSON values are said by what changed.
    fn partially_updated(
        &self,
        cursor: &mut Cursor<'_>,
        before: &Present<'_>,
        after: &Present<'_>,
        into: &mut BatchBuilder,
    ) -> Result<(), ValueError> {
        let mut spans = std::mem::take(&mut into.spans);
        let located = self.locate(cursor, before, &mut spans);
        into.spans = spans;
        located?;
        // Bit 0: partial JSON values. There is no other option.
        let bits = match cursor.take(1)? {
            [0] => &[][..],
            [1] => cursor.take(self.plans.iter().filter(|plan| plan.is_json).count().div_ceil(8))?,
            _ => return Err(ValueError::row(Reason::Malformed)),
        };
        self.updated(cursor, before, after, New::Partial(PartialBits(bits)), into)
    }
}

/// What the new image of an update is.
#[derive(Clone, Copy)]
enum New<'a> {
    /// Values.
    Values {
        /// What it lacks may be a default instead of what was there.
        may_be_replace: bool,
    },
    /// Values, and what changed in JSON values.
    Partial(PartialBits<'a>),
}

/// Which JSON columns, counted over those of the table, are said by what changed.
#[derive(Clone, Copy)]
struct PartialBits<'a>(&'a [u8]);

impl PartialBits<'_> {
    fn has(self, json_column: usize) -> bool {
        is_set(self.0, json_column)
    }
}

/// Which columns an image has.
struct Present<'a> {
    bits: ColumnBits<'a>,
    all: bool,
    null_bytes: usize,
}

impl<'a> Present<'a> {
    fn new(bits: ColumnBits<'a>) -> Self {
        let count = bits.count();
        Present { bits, all: count == bits.columns(), null_bytes: count.div_ceil(8) }
    }
}

#[inline]
fn is_set(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// A place in the row data.
struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], ValueError> {
        let end = self.at.checked_add(length);
        match end.and_then(|end| Some((end, self.data.get(self.at..end)?))) {
            Some((end, bytes)) => {
                self.at = end;
                Ok(bytes)
            }
            None => Err(ValueError::row(Reason::Truncated)),
        }
    }

    /// The next value, without its length.
    #[inline]
    fn value(&mut self, plan: &Plan) -> Result<&'a [u8], ValueError> {
        let length = match plan.extent {
            Extent::Fixed(length) => length,
            Extent::Prefixed(width) => {
                let prefix = self.take(width)?;
                prefix.iter().rev().fold(0usize, |length, &byte| length << 8 | usize::from(byte))
            }
        };
        let taken = self.take(length);
        taken.map_err(|error| ValueError { column: plan.dest, ..error })
    }
}

/// Whether a column may be null, and has no default and no expression: where the catalogue was asked.
fn is_null_by_default(schema: &TableSchema, column: usize) -> bool {
    let attnum = schema.columns.get(column).map(|column| column.attnum);
    schema.declared.columns.get(column).is_some_and(|declared| declared.nullable)
        && attnum.is_some_and(|attnum| !schema.filled.contains(&attnum))
}

/// Whether values that become `from` may be put into a column of kind `to`, exactly.
fn becomes(from: &ColumnKind, to: &ColumnKind) -> bool {
    use ColumnKind as K;
    if from == to {
        return true;
    }
    let width = |kind: &K| match kind {
        K::Int2 => Some(1),
        K::Int4 => Some(2),
        K::Unsigned4 => Some(3),
        K::Int8 => Some(4),
        _ => None,
    };
    match (from, to) {
        (K::Decimal { precision, scale }, K::Decimal { precision: to, scale: to_scale }) => {
            scale <= to_scale
                && i16::from(*precision) - i16::from(*scale) <= i16::from(*to) - i16::from(*to_scale)
        }
        (K::Float4, K::Float8) => true,
        _ => match (width(from), width(to)) {
            (Some(from), Some(to)) => from < to,
            _ => false,
        },
    }
}
