//! What becomes of columns that not every consumer may see.

use super::column::Compiled;
use super::connect::{Schema, Type};
use super::options::{ColumnRules, Disguise, Options};
use super::value::Conv;
use crate::error::{Error, Result, codes};
use crate::schema::{Column, DeclaredColumn, TableSchema};
use sha2::{Digest as _, Sha256};

/// The rules of a table, if it has some.
pub(super) fn rules<'o>(options: &'o Options, schema: &TableSchema) -> Option<&'o ColumnRules> {
    options.columns.iter().find(|rules| rules.table == schema.name)
}

/// The rules of the table name columns that it has, leave its key alone, and change text only.
///
/// # Errors
/// `CF003`.
pub(super) fn check_all(schema: &TableSchema, options: &Options, key: &[usize]) -> Result<()> {
    let Some(rules) = rules(options, schema) else { return Ok(()) };
    check(rules, schema, key)?;
    for (at, column) in schema.columns.iter().enumerate() {
        let Some(disguise) = rules.disguise(&column.name).filter(|_| rules.shows(&column.name)) else {
            continue;
        };
        let compiled = super::column::compile(column, schema.declared.columns.get(at), options);
        if compiled.and_then(|compiled| disguised(compiled, disguise)).is_none() {
            let what = format!(
                "tables.overrides: column \"{}\" of table \"{}\" is no text: it cannot be masked",
                column.name, schema.name
            );
            return Err(
                Error::new(codes::CF003, what).with_try("leave it out: columns: {exclude: [its name]}")
            );
        }
    }
    Ok(())
}

/// The rules name columns that the table has, and leave its key alone.
///
/// # Errors
/// `CF003`.
fn check(rules: &ColumnRules, schema: &TableSchema, key: &[usize]) -> Result<()> {
    let names = rules.include.iter().flatten().chain(&rules.exclude);
    let names = names.chain(rules.disguises.iter().map(|(name, _)| name));
    for name in names {
        if !schema.columns.iter().any(|column| column.name == *name) {
            let what = format!("tables.overrides: table \"{}\" has no column \"{name}\"", schema.name);
            return Err(Error::new(codes::CF003, what).with_try("compare its columns with the source's"));
        }
    }
    let hidden =
        key.iter().filter_map(|&at| schema.columns.get(at)).find(|column| !rules.shows(&column.name));
    match hidden {
        None => Ok(()),
        Some(column) => {
            let what = format!(
                "tables.overrides: column \"{}\" is of the key of table \"{}\", and cannot be left out",
                column.name, schema.name
            );
            Err(Error::new(codes::CF003, what)
                .with_try("choose other key columns: format.debezium.message_key_columns"))
        }
    }
}

impl ColumnRules {
    /// Whether events have the column.
    pub(super) fn shows(&self, name: &String) -> bool {
        self.include.as_ref().is_none_or(|include| include.contains(name)) && !self.exclude.contains(name)
    }

    pub(super) fn disguise(&self, name: &str) -> Option<&Disguise> {
        self.disguises.iter().find(|(column, _)| column == name).map(|(_, disguise)| disguise)
    }
}

/// The column as it is written then. `None`: it is no text.
pub(super) fn disguised(compiled: Compiled, disguise: &Disguise) -> Option<Compiled> {
    if compiled.conv != Conv::Text {
        return None;
    }
    let schema = match disguise {
        // Nobody can tell what it was.
        Disguise::Stars(_) => {
            Schema::of(Type::String).nullable(compiled.schema.optional).parameter("masked", "true")
        }
        Disguise::Cut(length) => compiled.schema.parameter("truncateLength", length.to_string()),
        Disguise::Hash | Disguise::Salted(..) => compiled.schema.parameter("masked", "true"),
    };
    let default = compiled.default.filter(|_| matches!(disguise, Disguise::Cut(_)));
    Some(Compiled { schema, conv: Conv::Disguised(disguise.clone()), default, ..compiled })
}

/// The disguise as it fits a column: a hash takes no more room than the text may.
pub(super) fn fitting(disguise: &Disguise, column: &Column, declared: Option<&DeclaredColumn>) -> Disguise {
    match disguise {
        Disguise::Salted(salt, _) => {
            Disguise::Salted(salt.clone(), room(column, declared).unwrap_or(usize::MAX))
        }
        other => other.clone(),
    }
}

/// The characters that a column of text has room for, where it says: `varchar(20)`.
fn room(column: &Column, declared: Option<&DeclaredColumn>) -> Option<usize> {
    let spelled = declared.map_or(column.type_name.as_str(), |declared| &declared.declared_type.name);
    if let Some((_, rest)) = spelled.split_once('(') {
        return rest.split(')').next()?.trim().parse().ok();
    }
    let is_limited = spelled.contains("char") && column.type_modifier > VARHDRSZ;
    is_limited.then(|| usize::try_from(column.type_modifier - VARHDRSZ).ok()).flatten()
}

/// PostgreSQL's modifier of `varchar(n)` is n and this.
const VARHDRSZ: i32 = 4;

fn digits(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Disguise {
    /// The text as others see it.
    pub(super) fn of(&self, text: &str) -> String {
        match self {
            Disguise::Stars(count) => "*".repeat(*count),
            // As Java counts: a character beyond the first plane is two.
            Disguise::Cut(length) => {
                let mut units = 0;
                let fits = |c: &char| {
                    units += c.len_utf16();
                    units <= *length
                };
                text.chars().take_while(fits).collect()
            }
            Disguise::Hash => digits(&Sha256::digest(text.as_bytes())),
            Disguise::Salted(salt, room) => {
                let mut digits = digits(&Sha256::new().chain_update(salt).chain_update(text).finalize());
                digits.truncate(*room);
                digits
            }
        }
    }
}
