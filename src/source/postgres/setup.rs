//! What a source needs before strandline can read it, as SQL: shown by `strandline setup --print` or run by
//! `strandline setup`.
//!
//! The files stand in `migrations/source_postgres/`, numbered, idempotent, forward-only. Placeholders are
//! filled with quoted names only.

use super::catalog::SourceTable;
use super::options::PgOptions;
use super::publication;
use super::quote;
use super::sql::Sql;
use crate::error::{Error, Result, codes};
use std::collections::BTreeSet;

const FILES: [(&str, &str); 3] = [
    ("0001_role", include_str!("../../../migrations/source_postgres/0001_role.sql")),
    ("0002_grants", include_str!("../../../migrations/source_postgres/0002_grants.sql")),
    ("0003_publication", include_str!("../../../migrations/source_postgres/0003_publication.sql")),
];

/// Quotes the bodies of `DO`; no name may hold it.
const DOLLAR_TAG: &str = "$strandline$";

/// One migration, ready to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The file's name without its ending.
    pub name: &'static str,
    /// Statements.
    pub sql: String,
}

/// Fills the migrations for `role` and these tables. `sql` is the connection of whoever will run them; it
/// is only read.
///
/// Errors: CF003 for a name that cannot be written.
pub async fn render(sql: &Sql, options: &PgOptions, role: &str, tables: &[SourceTable]) -> Result<Vec<Step>> {
    if role.contains(DOLLAR_TAG) {
        return Err(Error::new(codes::CF003, format!("the role's name holds \"{DOLLAR_TAG}\"")));
    }
    let quoted = quote::identifier(role);
    let schemas: BTreeSet<&str> = tables.iter().map(|t| t.name().schema.as_str()).collect();
    let mut grants: Vec<String> = schemas
        .into_iter()
        .map(|schema| format!("GRANT USAGE ON SCHEMA {} TO {quoted};", quote::identifier(schema)))
        .collect();
    grants.extend(
        tables.iter().map(|t| format!("GRANT SELECT ON TABLE {} TO {quoted};", quote::table(t.name()))),
    );
    let publications = publication::statements(sql, options, tables).await?;
    let values = [
        ("{{role}}", quoted),
        ("{{role_literal}}", quote::literal(role)),
        ("{{database}}", quote::identifier(&options.database)),
        ("{{table_grants}}", grants.join("\n")),
        ("{{publication_statements}}", publications.join("\n")),
    ];
    Ok(FILES.iter().map(|&(name, text)| Step { name, sql: fill(text, &values) }).collect())
}

/// One pass, so that a name which looks like a placeholder stays a name.
fn fill(text: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        if let Some((key, value)) = values.iter().find(|(key, _)| from.starts_with(key)) {
            out.push_str(value);
            rest = from.get(key.len()..).unwrap_or_default();
        } else {
            out.push_str("{{");
            rest = from.get(2..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// Runs the steps in order. Each may be run again.
///
/// Errors: the server's, with the step's name; the steps before it have been done.
pub async fn run(sql: &Sql, steps: &[Step]) -> Result<()> {
    for step in steps {
        if let Err(error) = sql.rows(&step.sql).await {
            let advice = error.advice().unwrap_or("run it as the tables' owner or a superuser").to_owned();
            let what = format!("{}.sql could not be run: {}", step.name, error.message());
            return Err(Error::new(error.code(), what).with_try(advice));
        }
    }
    Ok(())
}

/// All steps as one script.
pub fn script(steps: &[Step]) -> String {
    let parts = steps.iter().map(|step| format!("-- {}.sql\n{}", step.name, step.sql.trim_end()));
    parts.collect::<Vec<_>>().join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_known_and_values_are_not_filled_again() {
        let keys = [
            "{{role}}",
            "{{role_literal}}",
            "{{database}}",
            "{{table_grants}}",
            "{{publication_statements}}",
        ];
        let values: Vec<(&str, String)> = keys.iter().map(|k| (*k, String::new())).collect();
        for (name, text) in FILES {
            assert!(!fill(text, &values).contains("{{"), "{name}");
        }
        let tricky = [("{{role}}", "\"{{database}}\"".to_owned()), ("{{database}}", "x".to_owned())];
        assert_eq!(fill("a {{role}} {{other}} {{database}}", &tricky), "a \"{{database}}\" {{other}} x");
    }
}
