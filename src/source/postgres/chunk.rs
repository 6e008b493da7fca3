//! Cuts a table into chunks by the first column of its key: what a copy that was interrupted goes on with.
//!
//! Where to cut is taken from a sample of pages. It decides how even the chunks are and nothing else: every row is in
//! exactly one range, whatever the sample said.
//!
//! A table whose rows lie in the order of the key is read through its index, range by range. In any other, a range of
//! keys is all over the table: there each chunk is one pass over all pages that leaves the other keys out, and there
//! are few of them.

use super::catalog::SourceTable;
use super::quote;
use super::sql::{Sql, field, partition_tree, text, truth};
use crate::error::Result;
use crate::event::{ChunkKey, KeyRange, Pick};
use crate::schema::{Column, ColumnKind};

/// Pages that a sample is taken from, about.
const SAMPLED_PAGES: u64 = 4_000;
/// No page of 8 KiB holds more rows.
const ROWS_OF_A_PAGE: u64 = 291;
/// Passes over a table whose rows are in no order, also of a copy that goes on: what is left of it has its share of them.
const PASSES: u64 = 4;
/// How well the order of keys and pages must agree.
const IN_ORDER: f64 = 0.9;
/// Pieces of a chunk that workers take from a queue.
const PIECES: u64 = 8;
/// Chunks of a table at most.
const MOST: u64 = 1_000;
/// Microseconds up to here survive the way through a floating-point factor.
const EXACT: i64 = 1 << 52;

/// How a table is cut.
#[derive(Clone, Debug)]
pub struct Cuts {
    /// Where to cut, in order, finer than the chunks.
    fine: Vec<ChunkKey>,
    /// Rows lie in the order of the key.
    pub in_order: bool,
}

impl Cuts {
    /// The pieces of a range, for workers.
    pub fn pieces(&self, range: &KeyRange) -> Vec<KeyRange> {
        if !self.in_order {
            return vec![range.clone()];
        }
        let within = self.fine.iter().filter(|cut| {
            range.from.as_ref().is_none_or(|from| *cut > from)
                && range.below.as_ref().is_none_or(|below| *cut < below)
        });
        let mut pieces = Vec::new();
        let mut from = range.from.clone();
        for cut in within {
            pieces.push(KeyRange { from, below: Some(cut.clone()) });
            from = Some(cut.clone());
        }
        pieces.push(KeyRange { from, below: range.below.clone() });
        pieces
    }
}

/// The column by which a table can be cut.
fn column(table: &SourceTable) -> Option<&Column> {
    let first = *table.schema.key.first()?;
    table.schema.columns.get(first).filter(|column| ChunkKey::is_exact(&column.kind))
}

/// The range as a condition, with `AND` in front of each part; empty for all keys.
pub(super) fn condition(table: &SourceTable, range: &KeyRange) -> String {
    let Some(column) = column(table) else { return String::new() };
    let name = quote::identifier(&column.name);
    let part = |operator: &str, key: &Option<ChunkKey>| match key {
        None => String::new(),
        Some(key) => format!(" AND {name} {operator} {}", literal(&column.kind, key)),
    };
    part(">=", &range.from) + &part("<", &range.below)
}

/// What a choice asks for beyond its range, with `AND` in front of each part; empty for everything.
pub(super) fn more(table: &SourceTable, pick: &Pick) -> String {
    let mut all = String::new();
    if let Some(column) = column(table).filter(|_| !pick.keys.is_empty()) {
        let keys: Vec<String> = pick.keys.iter().map(|key| literal(&column.kind, key)).collect();
        all = format!(" AND {} IN ({})", quote::identifier(&column.name), keys.join(", "));
    }
    // A line of its own: a comment at its end must not swallow what follows.
    all + &pick.condition.as_ref().map(|sql| format!(" AND (\n{sql}\n)")).unwrap_or_default()
}

/// The row filter of the publication, with `AND` in front; empty: all rows are published.
pub(super) fn published(table: &SourceTable) -> String {
    table.filter.as_ref().map(|filter| format!(" AND ({filter})")).unwrap_or_default()
}

/// How to read values that were named one by one: through the index of the key, where there is one relation.
pub(super) fn by_key(table: &SourceTable) -> Cuts {
    Cuts { fine: Vec::new(), in_order: !table.partitioned }
}

fn literal(kind: &ColumnKind, key: &ChunkKey) -> String {
    match (kind, key) {
        (ColumnKind::Date, ChunkKey::Number(days)) => {
            format!("('1970-01-01'::pg_catalog.date + ({days})::pg_catalog.int4)")
        }
        (ColumnKind::Timestamp, ChunkKey::Number(us)) => {
            format!("('1970-01-01'::pg_catalog.timestamp + ({us}) * '1 microsecond'::pg_catalog.interval)")
        }
        (ColumnKind::TimestampTz, ChunkKey::Number(us)) => {
            let interval = format!("({us}) * '1 microsecond'::pg_catalog.interval");
            format!("('1970-01-01 00:00:00+00'::pg_catalog.timestamptz + {interval})")
        }
        (_, ChunkKey::Number(number)) => format!("({number})::pg_catalog.int8"),
        (_, ChunkKey::Text(text)) => format!("{}::pg_catalog.uuid", quote::literal(text)),
        (_, ChunkKey::Bytes(bytes)) => format!("pg_catalog.decode('{}', 'hex')", hex(bytes)),
        // No bound of ours: the server refuses it.
        (_, ChunkKey::Source { .. }) => "'a bound of another source'::pg_catalog.int8".to_owned(),
    }
}

/// How a value is asked for, so that [`parsed`] reads it.
fn shown(kind: &ColumnKind, name: &str) -> String {
    match kind {
        ColumnKind::Uuid => format!("{name}::pg_catalog.text"),
        ColumnKind::Bytea => format!("pg_catalog.encode({name}, 'hex')"),
        ColumnKind::Date => format!("({name} - '1970-01-01'::pg_catalog.date)::pg_catalog.text"),
        ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            format!("(extract(epoch FROM {name}) * 1000000)::pg_catalog.int8::pg_catalog.text")
        }
        _ => format!("{name}::pg_catalog.int8::pg_catalog.text"),
    }
}

fn parsed(kind: &ColumnKind, shown: &str) -> Option<ChunkKey> {
    match kind {
        ColumnKind::Uuid => Some(ChunkKey::Text(shown.to_owned())),
        ColumnKind::Bytea => unhex(shown).map(ChunkKey::Bytes),
        ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            let number = shown.parse().ok().filter(|us: &i64| us.unsigned_abs() < EXACT.unsigned_abs());
            number.map(ChunkKey::Number)
        }
        _ => shown.parse().ok().map(ChunkKey::Number),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// Cuts what is left of the table from `from` on: where each chunk of about `rows` rows ends but the last, and how
/// to read them. `None`: it cannot be cut, or is not worth it.
///
/// # Errors
/// Those of asking.
pub(super) async fn plan(
    sql: &Sql,
    table: &SourceTable,
    from: Option<&ChunkKey>,
    rows: u64,
) -> Result<Option<(Vec<ChunkKey>, Cuts)>> {
    let Some(column) = column(table) else { return Ok(None) };
    let Some(pages) = pages(sql, table).await? else { return Ok(None) };
    let worth = rows.saturating_mul(2);
    if from.is_none() && pages.saturating_mul(ROWS_OF_A_PAGE) < worth {
        return Ok(None);
    }
    let share = (pages / SAMPLED_PAGES).max(1);
    let percent = 100.0 / share as f64;
    let name = quote::identifier(&column.name);
    let finite = match column.kind {
        ColumnKind::Date | ColumnKind::Timestamp | ColumnKind::TimestampTz => {
            format!("pg_catalog.isfinite({name})")
        }
        _ => "true".to_owned(),
    };
    let range = KeyRange { from: from.cloned(), below: None };
    let rest = format!("{finite}{}", condition(table, &range));
    let only = if table.partitioned { "" } else { "ONLY " };
    let sample =
        format!("{only}{} TABLESAMPLE SYSTEM ({percent}) REPEATABLE (7)", quote::table(table.name()));
    let place = if table.partitioned { "0" } else { "(ctid::pg_catalog.text::pg_catalog.point)[0]" };
    let counted = format!(
        "SELECT count(*), count(*) FILTER (WHERE {rest}), coalesce(abs(corr(b, r)), 0) FROM \
         (SELECT {name}, {place} AS b, rank() OVER (ORDER BY {name}) AS r FROM {sample}) s"
    );
    let row = sql.row(&counted).await?;
    let whole = |n: u64| n.saturating_mul(share);
    let (all, left): (u64, u64) = (whole(field(&row, 0)?), whole(field(&row, 1)?));
    if from.is_none() && all < worth {
        return Ok(None);
    }
    let in_order = !table.partitioned && field::<f64>(&row, 2)? >= IN_ORDER;
    let most = if in_order { MOST } else { passes(left, all) };
    let chunks = left.div_ceil(rows.max(1)).clamp(1, most);
    let pieces = if in_order { PIECES } else { 1 };
    let parts = chunks * pieces;
    let mut fine = Vec::new();
    if parts > 1 {
        let fractions: Vec<String> = (1..parts).map(|i| (i as f64 / parts as f64).to_string()).collect();
        let query = format!(
            "SELECT {} FROM unnest((SELECT percentile_disc(ARRAY[{}]::pg_catalog.float8[]) WITHIN GROUP \
             (ORDER BY {name}) FROM {sample} WHERE {rest})) AS u({name})",
            shown(&column.kind, &name),
            fractions.join(",")
        );
        for row in sql.rows(&query).await? {
            fine.extend(text(&row, 0).map(|shown| parsed(&column.kind, shown)));
        }
    }
    let Some(fine) = fine.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    Ok(Some(cut(fine, usize::try_from(pieces).unwrap_or(1), from, in_order)))
}

/// How many passes what is left of all rows may take: of the whole table's, as many as are left, and one at least.
fn passes(left: u64, all: u64) -> u64 {
    let share = u128::from(left) * u128::from(PASSES) + u128::from(all / 2);
    let passes = share.checked_div(u128::from(all)).map_or(1, |share| share.clamp(1, u128::from(PASSES)));
    u64::try_from(passes).unwrap_or(PASSES)
}

fn cut(fine: Vec<ChunkKey>, pieces: usize, from: Option<&ChunkKey>, in_order: bool) -> (Vec<ChunkKey>, Cuts) {
    let mut ends: Vec<ChunkKey> = fine.iter().skip(pieces - 1).step_by(pieces).cloned().collect();
    let mut fine = fine;
    for keys in [&mut ends, &mut fine] {
        keys.sort();
        keys.dedup();
        keys.retain(|key| from.is_none_or(|from| key > from));
    }
    (ends, Cuts { fine, in_order })
}

/// Pages of the table; `None` when part of it cannot be sampled.
async fn pages(sql: &Sql, table: &SourceTable) -> Result<Option<u64>> {
    let id = table.id();
    let query = format!(
        "SELECT coalesce(sum(pg_catalog.pg_relation_size(c.oid)), 0)::pg_catalog.int8 / 8192, \
         coalesce(bool_and(c.relkind = 'r' AND m.amname = 'heap' \
         AND pg_catalog.has_table_privilege(c.oid, 'SELECT')), true) \
         FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
         WHERE c.relkind <> 'p' AND (c.oid = {id} \
         OR c.oid IN (SELECT t.relid FROM {} t))",
        partition_tree(&id.to_string())
    );
    let row = sql.row(&query).await?;
    Ok(if truth(&row, 1) { Some(field(&row, 0)?) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(numbers: &[i64]) -> Vec<ChunkKey> {
        numbers.iter().copied().map(ChunkKey::Number).collect()
    }

    proptest! {
        /// Whatever the sample says, and wherever a copy goes on: each key is in exactly one piece of one chunk.
        #[test]
        fn every_key_is_in_one_piece(
            mut sample in prop::collection::vec(-40i64..40, 0..60),
            pieces in 1usize..9,
            from in prop::option::of(-45i64..45),
            in_order: bool,
        ) {
            sample.sort_unstable();
            let from = from.map(ChunkKey::Number);
            let (ends, cuts) = cut(keys(&sample), pieces, from.as_ref(), in_order);
            let mut begin = from.clone();
            let mut all = Vec::new();
            for below in ends.into_iter().map(Some).chain([None]) {
                all.extend(cuts.pieces(&KeyRange { from: begin, below: below.clone() }));
                begin = below;
            }
            for n in -50..50 {
                let key = ChunkKey::Number(n);
                let holds = |range: &&KeyRange| range.from.as_ref().is_none_or(|from| *from <= key)
                    && range.below.as_ref().is_none_or(|below| key < *below);
                let expected = usize::from(from.as_ref().is_none_or(|from| *from <= key));
                prop_assert_eq!(all.iter().filter(holds).count(), expected, "{}", n);
            }
        }
    }

    #[test]
    fn what_is_left_has_its_share_of_the_passes() {
        assert_eq!([100, 76, 74, 49, 26, 1, 0].map(|left| passes(left, 100)), [4, 3, 3, 2, 1, 1, 1]);
        assert_eq!((passes(0, 0), passes(u64::MAX, u64::MAX), passes(9, 1)), (1, 4, 4));
    }

    #[test]
    fn bytes_as_text() {
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!(unhex("zz"), None);
    }
}
