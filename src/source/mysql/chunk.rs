//! Cuts a table into stretches of its key: what workers share, and what a copy that was interrupted goes on with.
//!
//! Bounds are keys that were read under the snapshot itself, and only the server compares them, in the order of the
//! key's own columns and collations; of a key of several columns a bound is a value of each. So a stretch is `>=` one
//! bound and `<` the next, and every row is in exactly one, as long as bounds ascend. Whether they do is not taken for
//! granted, since a bound goes from the server to us and back as text: a stretch of which the server says that no row
//! is in it was not cut where it should have been, and then the table is not cut at all.
//!
//! A key of one whole number is compared by us as well, exactly ([`ChunkKey::Number`]). It is cut by the server's own
//! estimates, without reading it. For any other the bounds are found by walking its index once.
//!
//! | the key | a bound is |
//! |---|---|
//! | one integer that fits 64 bits | the number |
//! | numbers, dates and times, `uuid`, `inet4`, `inet6` | what the server prints of it |
//! | text of any character set | its UTF-8, as `_utf8mb4 X'…'`; compared by the column's collation |
//! | bytes | `X'…'` |
//! | `bit`, `enum`, `set`, `year` | its number |
//! | `json`, `geometry`, `vector`; no key | none: one stretch |
//!
//! A key whose order changed between two chunks (another collation, another type) is another key: the copy begins again.

use super::fault::{changed_since, table_error};
use super::sql::{Sql, TextRow, literal, quoted};
use crate::binlog::{CatalogColumn, IntSize, SqlType};
use crate::error::{Error, Result, codes};
use crate::event::{ChunkKey, KeyRange};
use crate::schema::TableSchema;

/// Stretches of a chunk that workers take from a queue.
const PIECES: u64 = 8;
/// Stretches of a table at most.
const MOST: usize = 8_000;
/// Rows of a stretch at least, where no chunk asks for fewer: finding it costs as well.
const LEAST_ROWS: u64 = 20_000;
/// Stretches of a worker, so that the last ones end at about the same time.
const PER_WORKER: u64 = 4;

/// How values of a column are asked for, and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Number,
    Double,
    Single,
    Quoted,
    Text,
    Bytes,
    Label,
}

impl Form {
    fn of(sql_type: &SqlType) -> Option<Form> {
        use SqlType as T;
        Some(match sql_type {
            T::Int { .. } | T::Decimal { .. } => Form::Number,
            T::Double { .. } => Form::Double,
            T::Float { .. } => Form::Single,
            T::Bit { .. } | T::Year | T::Enum(_) | T::Set(_) => Form::Label,
            T::Date | T::Time { .. } | T::DateTime { .. } | T::Timestamp { .. } => Form::Quoted,
            T::Uuid | T::Inet4 | T::Inet6 => Form::Quoted,
            T::Char { .. } | T::Varchar { .. } | T::Text(_) => Form::Text,
            T::Binary { .. } | T::Varbinary { .. } | T::Blob(_) => Form::Bytes,
            T::Json | T::Geometry(_) | T::Vector { .. } => return None,
        })
    }

    /// What is compared and sorted by.
    fn compared(self, name: &str) -> String {
        match self {
            Form::Number | Form::Double | Form::Quoted | Form::Text | Form::Bytes => name.to_owned(),
            // A constant would be rounded to the column's width.
            Form::Single => format!("CAST({name} AS DOUBLE)"),
            Form::Label => format!("CAST({name} AS UNSIGNED)"),
        }
    }

    fn shown(self, name: &str) -> String {
        match self {
            Form::Text => format!("HEX(CONVERT({name} USING utf8mb4))"),
            Form::Bytes => format!("HEX({name})"),
            _ => format!("CAST({} AS CHAR)", self.compared(name)),
        }
    }

    /// A shown value as a literal. `None`: it is not of the form.
    fn literal(self, value: &str) -> Option<String> {
        let is_of =
            |allowed: &str| value.bytes().all(|b| b.is_ascii_digit() || allowed.as_bytes().contains(&b));
        match self {
            Form::Number | Form::Label => (!value.is_empty() && is_of("-.")).then(|| value.to_owned()),
            Form::Double | Form::Single => {
                let is_whole = !value.contains(['e', 'E']);
                (!value.is_empty() && is_of("-+.eE"))
                    .then(|| if is_whole { format!("{value}e0") } else { value.to_owned() })
            }
            Form::Quoted => Some(literal(value)),
            Form::Text | Form::Bytes => {
                let introducer = if self == Form::Text { "_utf8mb4 " } else { "" };
                value.bytes().all(|b| b.is_ascii_hexdigit()).then(|| format!("{introducer}X'{value}'"))
            }
        }
    }
}

/// How a table's key is ordered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyOrder {
    columns: Vec<(String, Form)>,
    /// Names, types and collations.
    text: String,
    /// One whole number of at most 64 bits with a sign.
    is_number: bool,
}

impl KeyOrder {
    /// The order of the key as it is now. `None`: it is not cut by.
    ///
    /// # Errors
    /// Those of asking.
    pub(super) async fn of(
        sql: &mut Sql,
        schema: &TableSchema,
        columns: &[CatalogColumn],
    ) -> Result<Option<KeyOrder>> {
        let mut key = Vec::new();
        for column in schema.key.iter().filter_map(|&i| schema.columns.get(i)) {
            let Some(described) = columns.iter().find(|c| c.name == column.name) else { return Ok(None) };
            let Ok(sql_type) = SqlType::of_catalog(&described.column_type) else { return Ok(None) };
            let Some(form) = Form::of(&sql_type) else { return Ok(None) };
            key.push((described, sql_type, form));
        }
        let is_number = match &key[..] {
            [] => return Ok(None),
            [(_, SqlType::Int { size, unsigned }, _)] => !(*unsigned && *size == IntSize::Big),
            _ => false,
        };
        let text = match is_number {
            true => String::new(),
            false => collations(sql, schema, &key.iter().map(|(c, ..)| *c).collect::<Vec<_>>()).await?,
        };
        let columns = key.into_iter().map(|(column, _, form)| (quoted(&column.name), form)).collect();
        Ok(Some(KeyOrder { columns, text, is_number }))
    }

    /// Whether a bound is one of this order.
    pub(super) fn knows(&self, key: &ChunkKey) -> bool {
        match key {
            ChunkKey::Number(_) => self.is_number,
            ChunkKey::Source { order, values } => {
                !self.is_number && *order == self.text && self.literals(values).is_some()
            }
            ChunkKey::Text(_) | ChunkKey::Bytes(_) => false,
        }
    }

    fn literals(&self, values: &[String]) -> Option<Vec<String>> {
        let all = self.columns.iter().zip(values).map(|((_, form), value)| form.literal(value)).collect();
        if values.len() == self.columns.len() { all } else { None }
    }

    /// `WHERE`, or nothing for all keys.
    ///
    /// # Errors
    /// `MY022` when a bound is of another order: the key changed since it was found.
    pub(super) fn condition(&self, schema: &TableSchema, range: &KeyRange) -> Result<String> {
        let mut parts = Vec::new();
        for (key, sign, last) in [(&range.from, '>', ">="), (&range.below, '<', "<")] {
            let Some(key) = key else { continue };
            let bound = match key {
                ChunkKey::Number(number) => Some(vec![number.to_string()]),
                ChunkKey::Source { values, .. } => self.literals(values),
                ChunkKey::Text(_) | ChunkKey::Bytes(_) => None,
            };
            let bound = bound.filter(|_| self.knows(key)).ok_or_else(|| {
                let what = "the order of its key changed between two chunks of its copy";
                table_error(&schema.name, codes::MY022, what)
            })?;
            parts.push(self.beyond(&bound, sign, last));
        }
        Ok(if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) })
    }

    /// `(a > x OR (a = x AND b >= y))`.
    fn beyond(&self, bound: &[String], sign: char, last: &str) -> String {
        let mut text = String::new();
        for (i, ((name, form), value)) in self.columns.iter().zip(bound).enumerate().rev() {
            let name = form.compared(name);
            text = if i + 1 == bound.len() {
                format!("{name} {last} {value}")
            } else {
                format!("({name} {sign} {value} OR ({name} = {value} AND {text}))")
            };
        }
        text
    }

    fn sorted(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|(name, form)| form.compared(name)).collect();
        names.join(", ")
    }

    fn shown(&self) -> String {
        let values: Vec<String> = self.columns.iter().map(|(name, form)| form.shown(name)).collect();
        values.join(", ")
    }

    fn bound(&self, row: TextRow) -> Option<ChunkKey> {
        let values: Vec<String> = row.into_iter().collect::<Option<_>>()?;
        if self.is_number {
            return values.first()?.parse().ok().map(ChunkKey::Number);
        }
        let key = ChunkKey::Source { order: self.text.clone(), values };
        self.knows(&key).then_some(key)
    }
}

/// Names, types and collations of these columns.
async fn collations(sql: &mut Sql, schema: &TableSchema, columns: &[&CatalogColumn]) -> Result<String> {
    let name = &schema.name;
    let rows = sql
        .rows(&format!(
            "SELECT COLUMN_NAME, COLLATION_NAME FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&name.schema),
            literal(&name.table)
        ))
        .await?;
    let collation = |column: &str| {
        let row = rows.iter().find(|row| row.first().is_some_and(|n| n.as_deref() == Some(column)));
        row.and_then(|row| row.get(1).cloned().flatten()).unwrap_or_default()
    };
    let parts: Vec<String> = columns
        .iter()
        .map(|column| format!("{} {} {}", column.name, column.column_type, collation(&column.name)))
        .collect();
    Ok(parts.join(", "))
}

/// Where a table is cut.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    fine: Vec<ChunkKey>,
}

impl Cuts {
    /// The stretches of a range that begins and ends at bounds of this cut, or before or behind all of them.
    pub(super) fn pieces(&self, range: &KeyRange) -> Vec<KeyRange> {
        let place = |key: &ChunkKey| self.fine.iter().position(|cut| cut == key);
        let first = range.from.as_ref().and_then(place).map_or(0, |at| at + 1);
        let last = range.below.as_ref().map_or(Some(self.fine.len()), place);
        let Some(within) = last.and_then(|last| self.fine.get(first..last)) else {
            return vec![range.clone()];
        };
        let mut from = range.from.clone();
        let mut pieces = Vec::with_capacity(within.len() + 1);
        for cut in within {
            pieces.push(KeyRange { from, below: Some(cut.clone()) });
            from = Some(cut.clone());
        }
        pieces.push(KeyRange { from, below: range.below.clone() });
        pieces
    }
}

/// Where each chunk of about `rows` rows ends but the last, from `from` on, and the stretches. `None`: it is not to be
/// cut, or not worth it.
///
/// # Errors
/// Those of asking.
pub(super) async fn chunks(
    sql: &mut Sql,
    schema: &TableSchema,
    order: &KeyOrder,
    from: Option<&ChunkKey>,
    rows: u64,
) -> Result<Option<(Vec<ChunkKey>, Cuts)>> {
    let mut table = Table { sql, schema, order };
    if from.is_none() && !table.has_rows(rows.saturating_mul(2)).await? {
        return Ok(None);
    }
    let Some(fine) = table.cut(from, (rows / PIECES).max(1)).await? else { return Ok(None) };
    let pieces = usize::try_from(PIECES).unwrap_or(1);
    let ends = fine.iter().skip(pieces - 1).step_by(pieces).cloned().collect();
    Ok(Some((ends, Cuts { fine })))
}

/// Stretches of a whole table for so many workers.
///
/// # Errors
/// Those of asking.
pub(super) async fn stretches(
    sql: &mut Sql,
    schema: &TableSchema,
    order: &KeyOrder,
    workers: usize,
    estimate: Option<u64>,
) -> Result<Vec<KeyRange>> {
    let parts = PER_WORKER * u64::try_from(workers).unwrap_or(1);
    let rows = (estimate.unwrap_or(0) / parts).max(LEAST_ROWS);
    let mut table = Table { sql, schema, order };
    if workers < 2 || !table.has_rows(rows.saturating_mul(2)).await? {
        return Ok(vec![KeyRange::default()]);
    }
    let fine = table.cut(None, rows).await?.unwrap_or_default();
    Ok(Cuts { fine }.pieces(&KeyRange::default()))
}

/// A table that is about to be cut.
struct Table<'a> {
    sql: &'a mut Sql,
    schema: &'a TableSchema,
    order: &'a KeyOrder,
}

impl Table<'_> {
    fn name(&self) -> String {
        format!("{}.{}", quoted(&self.schema.name.schema), quoted(&self.schema.name.table))
    }

    async fn ask(&mut self, query: &str) -> Result<Vec<TextRow>> {
        let failed = |e| changed_since(&self.schema.name, "the key cannot be read", e);
        self.sql.try_walk(query).await.map_err(failed)
    }

    async fn has_rows(&mut self, rows: u64) -> Result<bool> {
        let query = format!("SELECT 1 FROM {} LIMIT 1 OFFSET {rows}", self.name());
        Ok(!self.ask(&query).await?.is_empty())
    }

    /// Bounds of stretches of about `rows` rows; the first and the last are open.
    async fn cut(&mut self, from: Option<&ChunkKey>, rows: u64) -> Result<Option<Vec<ChunkKey>>> {
        if self.order.is_number
            && let Some(found) = self.halve(from, rows).await?
        {
            return Ok(Some(found));
        }
        self.walk(from, rows).await
    }

    /// By the server's estimates of ranges. `None`: it knows nothing.
    async fn halve(&mut self, from: Option<&ChunkKey>, rows: u64) -> Result<Option<Vec<ChunkKey>>> {
        let Some((column, _)) = self.order.columns.first().cloned() else { return Ok(None) };
        let query =
            format!("SELECT CAST(MIN({column}) AS CHAR), CAST(MAX({column}) AS CHAR) FROM {}", self.name());
        let row = self.ask(&query).await?.into_iter().next().unwrap_or_default();
        let number = |i: usize| row.get(i).cloned().flatten().and_then(|text| text.parse::<i64>().ok());
        let (Some(low), Some(high)) = (number(0), number(1)) else { return Ok(None) };
        let low = if let Some(ChunkKey::Number(from)) = from { low.max(*from) } else { low };
        // Ranges with both ends, in order; what was halved often enough is small.
        let mut open = vec![(i128::from(low), i128::from(high))];
        let mut leaves: Vec<(i128, u64)> = Vec::new();
        while let Some((low, high)) = open.pop() {
            if low > high {
                continue;
            }
            let estimate = self.estimate(&column, low, high).await?;
            if estimate > rows && low < high && leaves.len() + open.len() < MOST {
                let middle = low + (high - low) / 2;
                open.push((middle + 1, high));
                open.push((low, middle));
            } else {
                leaves.push((low, estimate));
            }
        }
        let mut cuts = Vec::new();
        let mut sum = 0;
        for (low, estimate) in leaves {
            if sum > 0 && sum + estimate > rows.saturating_add(rows / 4) {
                cuts.extend(i64::try_from(low).ok().map(ChunkKey::Number));
                sum = 0;
            }
            sum += estimate;
        }
        Ok(Some(cuts).filter(|cuts| !cuts.is_empty()))
    }

    async fn estimate(&mut self, column: &str, low: i128, high: i128) -> Result<u64> {
        let query =
            format!("EXPLAIN SELECT 1 FROM {} WHERE {column} >= {low} AND {column} <= {high}", self.name());
        let row = self.ask(&query).await?.into_iter().next().unwrap_or_default();
        // MySQL has two columns behind the number, MariaDB one.
        let at = if row.len() == 12 { 9 } else { 8 };
        Ok(row.get(at).cloned().flatten().and_then(|rows| rows.parse().ok()).unwrap_or(0))
    }

    /// Along the key.
    async fn walk(&mut self, from: Option<&ChunkKey>, rows: u64) -> Result<Option<Vec<ChunkKey>>> {
        let (shown, sorted) = (self.order.shown(), self.order.sorted());
        let mut cuts: Vec<ChunkKey> = Vec::new();
        while cuts.len() < MOST {
            let from = cuts.last().or(from).cloned();
            let rest = self.order.condition(self.schema, &KeyRange { from: from.clone(), below: None })?;
            let name = self.name();
            let query = format!("SELECT {shown} FROM {name}{rest} ORDER BY {sorted} LIMIT 1 OFFSET {rows}");
            let Some(row) = self.ask(&query).await?.into_iter().next() else { break };
            let Some(bound) = self.order.bound(row) else { return Ok(None) };
            let within = self.order.condition(self.schema, &KeyRange { from, below: Some(bound.clone()) })?;
            if self.ask(&format!("SELECT 1 FROM {name}{within} LIMIT 1")).await?.is_empty() {
                tracing::info!(table = %self.schema.name, "the server does not find bounds of the key again: copied in one stretch");
                return Ok(None);
            }
            cuts.push(bound);
        }
        Ok(Some(cuts))
    }
}

/// A chunk of a table that has none.
pub(super) fn not_cut(schema: &TableSchema) -> Error {
    Error::new(codes::RT001, format!("a chunk of table \"{}\", which is not cut", schema.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableName;

    fn order(columns: &[(&str, Form)]) -> KeyOrder {
        let columns = columns.iter().map(|&(name, form)| (quoted(name), form)).collect();
        KeyOrder { columns, text: "now".into(), is_number: false }
    }

    fn key(values: &[&str]) -> ChunkKey {
        let values = values.iter().map(|&v| v.to_owned()).collect();
        ChunkKey::Source { order: "now".into(), values }
    }

    fn schema() -> TableSchema {
        TableSchema::new(crate::schema::TableId(1), TableName::new("d", "t"), Vec::new(), Vec::new(), false)
    }

    #[test]
    fn bounds_as_conditions() {
        let order = order(&[("a", Form::Text), ("b", Form::Number), ("c", Form::Label)]);
        let range = KeyRange { from: Some(key(&["C3A4", "-1.5", "3"])), below: None };
        assert_eq!(
            order.condition(&schema(), &range).unwrap(),
            " WHERE (`a` > _utf8mb4 X'C3A4' OR (`a` = _utf8mb4 X'C3A4' AND (`b` > -1.5 OR (`b` = -1.5 AND \
             CAST(`c` AS UNSIGNED) >= 3))))"
        );
        assert_eq!(order.condition(&schema(), &KeyRange::default()).unwrap(), "");
        let other =
            ChunkKey::Source { order: "then".into(), values: vec!["00".into(), "1".into(), "1".into()] };
        for wrong in [other, key(&["zz", "1", "1"]), key(&["00", "1"]), ChunkKey::Number(3)] {
            let range = KeyRange { from: None, below: Some(wrong) };
            assert_eq!(order.condition(&schema(), &range).unwrap_err().code(), codes::MY022);
        }
    }

    #[test]
    fn values_as_literals() {
        assert_eq!(Form::Double.literal("1.5"), Some("1.5e0".into()));
        assert_eq!(Form::Double.literal("1e300"), Some("1e300".into()));
        assert_eq!(Form::Number.literal("1 or 1"), None);
        assert_eq!(Form::Text.literal("0'"), None);
        assert_eq!(Form::Quoted.literal("it's"), Some("'it''s'".into()));
        assert_eq!(Form::Bytes.literal(""), Some("X''".into()));
    }

    #[test]
    fn pieces_cover_each_chunk() {
        let number = |n: i64| Some(ChunkKey::Number(n));
        let cuts = Cuts { fine: [10, 20, 30, 40].map(ChunkKey::Number).to_vec() };
        let of = |from: Option<ChunkKey>, below: Option<ChunkKey>| cuts.pieces(&KeyRange { from, below });
        let ends = |pieces: Vec<KeyRange>| pieces.into_iter().map(|p| (p.from, p.below)).collect::<Vec<_>>();
        assert_eq!(ends(of(None, number(20))), [(None, number(10)), (number(10), number(20))]);
        assert_eq!(
            ends(of(number(20), None)),
            [(number(20), number(30)), (number(30), number(40)), (number(40), None)]
        );
        // Where an earlier process ended.
        assert_eq!(ends(of(number(5), number(10))), [(number(5), number(10))]);
        assert_eq!(ends(of(number(10), number(10))), [(number(10), number(10))]);
        // A bound of another cut.
        assert_eq!(ends(of(number(10), number(25))), [(number(10), number(25))]);
    }
}
