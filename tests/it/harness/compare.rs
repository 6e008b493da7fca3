//! Row by row: what the source holds against what another reader finds in the Delta table.
//!
//! Both sides are spelled in the same canonical text (see `reader.py`), sorted, and compared as multisets:
//! a lost row, a doubled row and a wrong value all show.

use super::sql::{Row, Sql};

/// A column of the source and the expression that spells it canonically.
#[derive(Clone, Debug)]
pub(crate) struct SpelledColumn {
    /// Its name.
    pub(crate) name: String,
    /// SQL.
    pub(crate) expression: String,
}

/// The columns of a table, in the source's order.
pub(crate) fn spelled_columns(sql: &mut Sql, schema: &str, table: &str) -> Vec<SpelledColumn> {
    let rows = sql.rows(&format!(
        "select a.attname, quote_ident(a.attname), format_type(a.atttypid, null), t.typtype
         from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
         join pg_type t on t.oid = a.atttypid
         where n.nspname = '{schema}' and c.relname = '{table}' and a.attnum > 0 and not a.attisdropped
         order by a.attnum"
    ));
    assert!(!rows.is_empty(), "no table {schema}.{table} in the source");
    rows.into_iter()
        .map(|row| {
            let cell = |i: usize| row[i].clone().unwrap_or_default();
            SpelledColumn { name: cell(0), expression: expression(&cell(1), &cell(2)) }
        })
        .collect()
}

/// How PostgreSQL spells a column of this type canonically. `column` is quoted.
pub(crate) fn expression(column: &str, kind: &str) -> String {
    match kind {
        "real" => format!("encode(float4send({column}), 'hex')"),
        "double precision" => format!("encode(float8send({column}), 'hex')"),
        "bytea" => format!("encode({column}, 'hex')"),
        "date" => format!("({column} - date '1970-01-01')::text"),
        "timestamp without time zone" | "timestamp with time zone" => {
            format!("(extract(epoch from {column}) * 1000000)::bigint::text")
        }
        // A cast to text would strip the padding that the value has.
        "character" => format!("case when {column} is null then null else format('%s', {column}) end"),
        _ => format!("{column}::text"),
    }
}

/// All rows of a table of the source, spelled canonically.
pub(crate) fn source_rows(sql: &mut Sql, schema: &str, table: &str, columns: &[SpelledColumn]) -> Vec<Row> {
    let list: Vec<&str> = columns.iter().map(|c| c.expression.as_str()).collect();
    sql.rows(&format!("select {} from \"{schema}\".\"{table}\"", list.join(", ")))
}

/// The first rows that differ, as text; `None` when the two sides hold the same rows.
pub(crate) fn difference(mut source: Vec<Row>, mut target: Vec<Row>) -> Option<String> {
    source.sort_unstable();
    target.sort_unstable();
    let (mut i, mut j) = (0, 0);
    let (mut missing, mut extra) = (Vec::new(), Vec::new());
    while i < source.len() || j < target.len() {
        match (source.get(i), target.get(j)) {
            (Some(s), Some(t)) if s == t => (i, j) = (i + 1, j + 1),
            (Some(s), Some(t)) if s < t => {
                missing.push(s);
                i += 1;
            }
            (Some(s), None) => {
                missing.push(s);
                i += 1;
            }
            (_, Some(t)) => {
                extra.push(t);
                j += 1;
            }
            (None, None) => break,
        }
    }
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    let show = |rows: &[&Row]| -> String {
        rows.iter().take(5).map(|row| format!("\n    {}", shorten(row))).collect()
    };
    Some(format!(
        "{} rows in the source, {} in the target\n  {} only in the source:{}\n  {} only in the target:{}",
        source.len(),
        target.len(),
        missing.len(),
        show(&missing),
        extra.len(),
        show(&extra)
    ))
}

fn shorten(row: &Row) -> String {
    let cells: Vec<String> = row
        .iter()
        .map(|cell| match cell {
            None => "null".to_owned(),
            Some(text) if text.chars().count() > 60 => {
                format!("{}… ({} bytes)", text.chars().take(60).collect::<String>(), text.len())
            }
            Some(text) => text.clone(),
        })
        .collect();
    cells.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[&str]) -> Vec<Row> {
        values.iter().map(|v| vec![Some((*v).to_owned())]).collect()
    }

    #[test]
    fn order_does_not_count_but_number_does() {
        assert_eq!(difference(rows(&["a", "b", "b"]), rows(&["b", "a", "b"])), None);
        let doubled = difference(rows(&["a", "b"]), rows(&["b", "a", "b"])).expect("a difference");
        assert!(doubled.contains("0 only in the source"), "{doubled}");
        assert!(doubled.contains("1 only in the target:\n    b"), "{doubled}");
        let lost = difference(rows(&["a", "b"]), rows(&["b"])).expect("a difference");
        assert!(lost.contains("1 only in the source:\n    a"), "{lost}");
    }

    #[test]
    fn null_is_not_the_empty_text() {
        assert!(difference(vec![vec![None]], vec![vec![Some(String::new())]]).is_some());
    }
}
