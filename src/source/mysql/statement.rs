//! What a statement in the log means to the rows around it.
//!
//! Row events and their `TABLE_MAP` say all that can be decoded; a statement is looked at only for what they do not
//! tell: where a transaction begins and ends, that a table was emptied, and that a table may not be what it was. It is
//! split into words ([`super::words`]), and nothing more: where it is not clear what it means, it means that the table is
//! looked at again.
//!
//! Statements that do nothing to rows are known by name. One that is not known, and names a table that is followed, may
//! have done anything to it: the table is copied again.

use super::words::{Word, Words};
use crate::binlog::{SqlType, Xid};

/// A statement, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Statement {
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK` of the whole transaction.
    Rollback,
    /// `ROLLBACK TO`: part of what was logged is void.
    RollbackTo,
    /// `SAVEPOINT`, `RELEASE`.
    Savepoint,
    /// `XA START`: a two-phase transaction begins.
    XaStart,
    /// `XA END`: its rows are complete; `XA PREPARE`, which has an event of its own.
    XaEnd,
    /// `XA COMMIT`. The name, if it can be read.
    XaCommit(Option<Xid>),
    /// `XA ROLLBACK`, likewise.
    XaRollback(Option<Xid>),
    /// A change of rows, logged as a statement. The table, if it is named plainly.
    Dml(Option<Named>),
    /// `TRUNCATE TABLE`.
    Truncate(Named),
    /// Definitions. The tables that it names, as far as can be seen, and what happened to each.
    Ddl(Vec<(Named, Effect)>),
    /// A database is dropped.
    DropDatabase(String),
    /// `CREATE TABLE … SELECT` as one transaction: rows follow.
    CreateAndBegin,
    /// Nothing to rows or definitions of tables.
    Other,
    /// Nobody knows what it does. What it begins with, and all that it names that may be a table.
    Unknown(String, Vec<Named>),
}

/// A table as a statement names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Named {
    /// `None`: of the session's default database.
    pub(super) database: Option<String>,
    pub(super) table: String,
}

/// What happened to a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Its columns may be of other types.
    Columns,
    /// Columns, with the type that each has from now on, as the catalogue spells it; empty: it could not be read. Values
    /// were made to fit.
    Retyped(Vec<(String, String)>),
    /// Its columns may have other defaults.
    Defaults,
    /// It has other columns. Names of one that could not be read are empty.
    Shape { added: Vec<String>, dropped: Vec<String> },
    /// Its rows are others, and the log does not hold them: another table has its name, a partition went.
    Rows,
    /// It may be gone.
    Gone,
}

/// What a statement defines, for those who are told of definitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// A table is made.
    Created(Named),
    /// A table is another one now, maybe by another name: this one.
    Altered(Named),
    /// A table is gone.
    Dropped(Named),
    /// Something about a table that its columns do not show.
    Other(Named),
    /// A database is made, altered or gone.
    Database(String),
}

/// What a statement defines.
pub(super) fn told(words: &Words) -> Vec<Told> {
    let words = words.statement();
    let is = |at: usize, keyword: &str| words.get(at).is_some_and(|word| word.is(keyword));
    let (creates, drops, alters) = (is(0, "CREATE"), is(0, "DROP"), is(0, "ALTER"));
    let place = |keyword: &str| words.iter().take(6).position(|word| word.is(keyword));
    let skip_tests = |from: usize| {
        let is_test = |at: &usize| ["IF", "NOT", "EXISTS"].iter().any(|keyword| is(*at, keyword));
        (from..).find(|at| !is_test(at)).unwrap_or(from)
    };
    let one = |at: usize, make: fn(Named) -> Told| {
        named(words, skip_tests(at)).map(|(name, _)| make(name)).into_iter().collect()
    };
    if is(0, "RENAME") && (is(1, "TABLE") || is(1, "TABLES")) {
        let moved = renamed(words).into_iter().filter(|(_, effect)| *effect == Effect::Rows);
        return moved.map(|(name, _)| Told::Altered(name)).collect();
    }
    if !(creates || drops || alters) || is(1, "TEMPORARY") || is(3, "TEMPORARY") {
        return Vec::new();
    }
    let database = ["DATABASE", "SCHEMA"].iter().find_map(|keyword| place(keyword)).filter(|&at| at < 4);
    if let Some(at) = database {
        let name = words.get(skip_tests(at + 1)).and_then(Word::name);
        return name.map(|name| Told::Database(name.to_owned())).into_iter().collect();
    }
    if let Some(at) = place("TABLE").or_else(|| place("TABLES").filter(|_| drops)) {
        if drops {
            let gone = listed(words, at + 1, Effect::Gone).into_iter();
            return gone.map(|(name, _)| Told::Dropped(name)).collect();
        }
        if creates {
            return one(at + 1, Told::Created);
        }
        let moved = altered(words, true).unwrap_or_default();
        let moved = moved.into_iter().find(|(_, effect)| *effect == Effect::Rows);
        let has = |keyword: &str| words.iter().any(|word| word.is(keyword));
        return match moved {
            Some((name, _)) if has("RENAME") => vec![Told::Altered(name)],
            _ => one(at + 1, Told::Altered),
        };
    }
    if place("INDEX").is_some()
        && let Some(on) = words.iter().position(|word| word.is("ON"))
    {
        return one(on + 1, Told::Other);
    }
    place("SEQUENCE").map_or_else(Vec::new, |at| one(at + 1, Told::Other))
}

/// What nobody has to know: users, settings, and what is beside the rows of tables.
const HARMLESS: &[&str] = &[
    "GRANT",
    "REVOKE",
    "SET",
    "FLUSH",
    "ANALYZE",
    "OPTIMIZE",
    "REPAIR",
    "CHECK",
    "CHECKSUM",
    "INSTALL",
    "UNINSTALL",
    "CACHE",
    "LOCK",
    "UNLOCK",
    "PURGE",
    "RESET",
    "CHANGE",
    "START",
    "STOP",
    "KILL",
    "BACKUP",
    "SHUTDOWN",
    "RESTART",
    "PREPARE",
    "DEALLOCATE",
    "USE",
];
/// What may change rows that it does not name: logged so only by sessions that log statements.
const HIDDEN: &[&str] =
    &["LOAD", "CALL", "WITH", "IMPORT", "SELECT", "DO", "VALUES", "EXECUTE", "BINLOG", "HANDLER"];
/// What `CREATE`, `ALTER` and `DROP` define beside tables.
const BESIDE: &[&str] = &[
    "USER",
    "ROLE",
    "VIEW",
    "PROCEDURE",
    "FUNCTION",
    "PACKAGE",
    "EVENT",
    "TRIGGER",
    "SERVER",
    "TABLESPACE",
    "LOGFILE",
    "UNDO",
    "SEQUENCE",
    "RESOURCE",
    "REFERENCE",
    "LIBRARY",
    "INSTANCE",
    "CATALOG",
    "PREPARE",
];

/// Reads a statement; `text`: as it was logged.
pub(super) fn read(split: &Words, text: &[u8]) -> Statement {
    let words = split.statement();
    let keyword = |i: usize| match words.get(i) {
        Some(Word::Bare(text)) => text.to_ascii_uppercase(),
        _ => String::new(),
    };
    let (first, second) = (keyword(0), keyword(1));
    let statement = match (first.as_str(), second.as_str()) {
        // A comment: what a server puts in the place of an event that a reader does not take.
        ("", _) if words.is_empty() => Some(Statement::Other),
        ("BEGIN", _) | ("START", "TRANSACTION") => Some(Statement::Begin),
        ("COMMIT", _) => Some(Statement::Commit),
        ("ROLLBACK", _) if words.iter().any(|word| word.is("TO")) => Some(Statement::RollbackTo),
        ("ROLLBACK", _) => Some(Statement::Rollback),
        ("SAVEPOINT" | "RELEASE", _) => Some(Statement::Savepoint),
        ("XA", "START" | "BEGIN") => Some(Statement::XaStart),
        ("XA", "COMMIT") => Some(Statement::XaCommit(xid(text))),
        ("XA", "ROLLBACK") => Some(Statement::XaRollback(xid(text))),
        ("XA", _) => Some(Statement::XaEnd),
        ("INSERT" | "REPLACE" | "UPDATE" | "DELETE", _) => Some(Statement::Dml(target_of_dml(words))),
        (hidden, _) if HIDDEN.contains(&hidden) => Some(Statement::Dml(None)),
        ("TRUNCATE", "TABLE") => named(words, 2).map(|(name, _)| Statement::Truncate(name)),
        ("TRUNCATE", _) => named(words, 1).map(|(name, _)| Statement::Truncate(name)),
        ("RENAME", "TABLE" | "TABLES") => some(renamed(words)),
        ("RENAME", "USER") => Some(Statement::Other),
        ("CREATE" | "ALTER" | "DROP", _) => definition(words, &first, split.mode.is_strict),
        (other, _) if HARMLESS.contains(&other) && !split.is_setting_without_statement() => {
            Some(Statement::Other)
        }
        _ => None,
    };
    statement.filter(|_| split.is_whole).unwrap_or_else(|| unknown(words))
}

/// `None`: no table could be read.
fn some(tables: Vec<(Named, Effect)>) -> Option<Statement> {
    if tables.is_empty() { None } else { Some(Statement::Ddl(tables)) }
}

fn unknown(words: &[Word]) -> Statement {
    let begins = words.iter().take(3).filter_map(Word::name).collect::<Vec<_>>().join(" ");
    let names = (0..words.len()).filter_map(|at| Some(named(words, at)?.0)).collect();
    Statement::Unknown(begins, names)
}

/// `CREATE`, `ALTER`, `DROP`: of what, and of which table. `None`: that could not be read.
fn definition(words: &[Word], first: &str, is_strict: bool) -> Option<Statement> {
    const TABLE: &[&str] = &["TABLE", "TABLES"];
    const DATABASE: &[&str] = &["DATABASE", "SCHEMA"];
    let is_kind = |word: &Word| {
        word.is_one_of(TABLE) || word.is_one_of(DATABASE) || word.is_one_of(BESIDE) || word.is("INDEX")
    };
    let at = words.iter().skip(1).position(is_kind)? + 1;
    let kind = words.get(at)?;
    if words.iter().take(at).any(|word| word.is("TEMPORARY")) || kind.is_one_of(BESIDE) {
        return Some(Statement::Other);
    }
    match first {
        "DROP" if kind.is_one_of(DATABASE) => {
            let name = words.iter().rev().find_map(Word::name)?;
            Some(Statement::DropDatabase(name.to_owned()))
        }
        _ if kind.is_one_of(DATABASE) => Some(Statement::Other),
        // Of which columns the key is.
        _ if kind.is("INDEX") => {
            let on = words.iter().position(|word| word.is("ON"))?;
            Some(Statement::Ddl(vec![(named(words, on + 1)?.0, Effect::Columns)]))
        }
        "DROP" => some(listed(words, at + 1, Effect::Gone)),
        "ALTER" => altered(words, is_strict).map(Statement::Ddl),
        _ => created(words, at),
    }
}

/// `X'31',X'',1`, as servers write it into their logs.
fn xid(text: &[u8]) -> Option<Xid> {
    let text = std::str::from_utf8(text).ok()?;
    let name = text.split_ascii_whitespace().nth(2)?;
    let mut parts = name.split(',');
    let hex = |part: &str| {
        let digits = part.strip_prefix("X'")?.strip_suffix('\'')?;
        let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        (digits.len() % 2 == 0)
            .then(|| (0..digits.len()).step_by(2).map(pair).collect::<Option<Vec<u8>>>())?
    };
    let (gtrid, bqual) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let format = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Xid { format, gtrid, bqual })
}

fn created(words: &[Word], at: usize) -> Option<Statement> {
    let ends = words.len().checked_sub(2).and_then(|at| words.get(at..));
    if let Some([start, transaction]) = ends
        && start.is("START")
        && transaction.is("TRANSACTION")
    {
        return Some(Statement::CreateAndBegin);
    }
    // What is made where nothing was has been told by what took it away; IF NOT EXISTS may do nothing at all.
    let replaces = words.get(1).is_some_and(|word| word.is("OR"));
    let effect = if replaces { Effect::Rows } else { Effect::Columns };
    some(listed(words, at + 1, effect).into_iter().take(1).collect())
}

/// `DROP TABLE IF EXISTS a, b.c`.
fn listed(words: &[Word], from: usize, effect: Effect) -> Vec<(Named, Effect)> {
    let mut found = Vec::new();
    let mut at = from;
    while words.get(at).is_some_and(|w| w.is("IF") || w.is("NOT") || w.is("EXISTS")) {
        at += 1;
    }
    while let Some((name, next)) = named(words, at) {
        found.push((name, effect.clone()));
        match words.get(next) {
            Some(Word::Mark(',')) => at = next + 1,
            _ => break,
        }
    }
    found
}

/// `RENAME TABLE a TO b, c TO a`: each name has other rows, or none.
fn renamed(words: &[Word]) -> Vec<(Named, Effect)> {
    let mut found = Vec::new();
    let mut at = 2;
    while words.get(at).is_some_and(|w| w.is("IF") || w.is("EXISTS")) {
        at += 1;
    }
    while let Some((from, next)) = named(words, at) {
        found.push((from, Effect::Gone));
        let to = words.iter().enumerate().skip(next).find(|(_, word)| word.is("TO")).map(|(i, _)| i + 1);
        let Some((to, next)) = to.and_then(|to| named(words, to)) else { break };
        found.push((to, Effect::Rows));
        match words.get(next) {
            Some(Word::Mark(',')) => at = next + 1,
            _ => break,
        }
    }
    found
}

/// `None`: the table could not be read.
fn altered(words: &[Word], is_strict: bool) -> Option<Vec<(Named, Effect)>> {
    let mut at = words.iter().position(|word| word.is("TABLE"))? + 1;
    // `ALTER IGNORE TABLE`: rows that do not fit go, or are made to fit.
    let ignores = words.iter().take(at).any(|word| word.is("IGNORE"));
    while words.get(at).is_some_and(|w| w.is("IF") || w.is("EXISTS")) {
        at += 1;
    }
    let (table, mut next) = named(words, at)?;
    while words.get(next).is_some_and(|w| w.is_one_of(&["WAIT", "NOWAIT"])) {
        next += if words.get(next).is_some_and(|w| w.is("WAIT")) { 2 } else { 1 };
    }
    let rest = words.get(next..).unwrap_or_default();
    let has = |keyword: &str| rest.iter().any(|word| word.is(keyword));
    if let Some(other) = exchanged(rest) {
        return Some(vec![(table, Effect::Rows), other]);
    }
    let partition = has("PARTITION") || has("PARTITIONING") || has("PARTITIONS");
    const MOVES: [&str; 6] = ["TRUNCATE", "EXCHANGE", "DROP", "DISCARD", "IMPORT", "CONVERT"];
    if partition && MOVES.iter().any(|keyword| has(keyword))
        || has("TABLESPACE") && (has("IMPORT") || has("DISCARD"))
    {
        return Some(vec![(table, Effect::Rows)]);
    }
    let moved = items(rest).into_iter().find_map(|item| {
        let is_table = item.first()?.is("RENAME") && !item.get(1)?.is_one_of(&["COLUMN", "INDEX", "KEY"]);
        let to = item.get(1)?;
        let skip = usize::from(to.is_one_of(&["TO", "AS"]) || *to == Word::Mark('='));
        if is_table { named(item, 1 + skip) } else { None }
    });
    if let Some((to, _)) = moved {
        return Some(vec![(table, Effect::Gone), (to, Effect::Rows)]);
    }
    const FITS: [&str; 5] = ["MODIFY", "CHANGE", "CONVERT", "CHARACTER", "CHARSET"];
    let (retyped, is_computed) = retyped(rest);
    if ignores || is_computed || !is_strict && FITS.iter().any(|keyword| has(keyword)) {
        return Some(vec![(table, Effect::Rows)]);
    }
    let mut found = Vec::new();
    if has("MODIFY") || has("CHANGE") || has("ALTER") && has("DEFAULT") {
        found.push((table.clone(), Effect::Defaults));
    }
    if !retyped.is_empty() {
        found.push((table.clone(), Effect::Retyped(retyped)));
    }
    let (added, dropped) = shape(rest);
    if !added.is_empty() || !dropped.is_empty() {
        found.push((table, Effect::Shape { added, dropped }));
        return Some(found);
    }
    const COLUMNS: [&str; 7] = ["MODIFY", "CHANGE", "CONVERT", "PRIMARY", "CHARACTER", "CHARSET", "COLLATE"];
    if COLUMNS.iter().any(|keyword| has(keyword)) || has("DROP") && (has("INDEX") || has("KEY")) {
        found.push((table, Effect::Columns));
    }
    Some(found)
}

/// What else has other rows when partitions and tables change places.
fn exchanged(rest: &[Word]) -> Option<(Named, Effect)> {
    let is = |at: usize, keyword: &str| rest.get(at).is_some_and(|word| word.is(keyword));
    let find = |first: &str, second: &str| (0..rest.len()).find(|&at| is(at, first) && is(at + 1, second));
    let (at, effect) =
        match (find("EXCHANGE", "PARTITION"), find("CONVERT", "TABLE"), find("CONVERT", "PARTITION")) {
            (Some(_), ..) => (find("WITH", "TABLE")? + 2, Effect::Rows),
            (_, Some(at), _) => (at + 2, Effect::Gone),
            (.., Some(_)) => (find("TO", "TABLE")? + 2, Effect::Rows),
            _ => return None,
        };
    Some((named(rest, at)?.0, effect))
}

/// What an `ALTER TABLE` does, one by one.
fn items(rest: &[Word]) -> Vec<&[Word]> {
    let mut depth = 0i32;
    let ends = |word: &Word| {
        match word {
            Word::Mark('(') => depth += 1,
            Word::Mark(')') => depth -= 1,
            _ => {}
        }
        depth == 0 && *word == Word::Mark(',')
    };
    rest.split(ends).collect()
}

/// Columns that are given a type by `MODIFY` and `CHANGE`, and whether one of them is computed.
fn retyped(rest: &[Word]) -> (Vec<(String, String)>, bool) {
    let (mut found, mut is_computed) = (Vec::new(), false);
    for item in items(rest) {
        let names = match item.first() {
            Some(word) if word.is("MODIFY") => 1,
            Some(word) if word.is("CHANGE") => 2,
            _ => continue,
        };
        let is_before = |word: &&Word| word.is_one_of(&["COLUMN", "IF", "EXISTS"]);
        let at = 1 + item.iter().skip(1).take_while(is_before).count();
        // By its new name: by the old one it may be there no more.
        let name = item.get(at + names - 1).and_then(Word::name).unwrap_or_default();
        let of = item.get(at + names..).unwrap_or_default();
        is_computed |= items_depth_0(of).any(|word| word.is_one_of(&["AS", "GENERATED"]));
        found.push((name.to_owned(), type_of(of).unwrap_or_default()));
    }
    (found, is_computed)
}

/// Words that are in no brackets.
fn items_depth_0(words: &[Word]) -> impl Iterator<Item = &Word> {
    let mut depth = 0i32;
    words.iter().filter(move |word| {
        match word {
            Word::Mark('(') => depth += 1,
            Word::Mark(')') => depth -= 1,
            _ => {}
        }
        depth == 0
    })
}

/// The type that these words begin with, as the catalogue spells it. `None`: it is not one that we read.
fn type_of(words: &[Word]) -> Option<String> {
    let Word::Bare(first) = words.first()? else { return None };
    let mut at = 1;
    let mut arguments = Vec::new();
    if words.get(at) == Some(&Word::Mark('(')) {
        let end = words.iter().position(|word| *word == Word::Mark(')'))?;
        for word in words.get(at + 1..end)? {
            match word {
                Word::Bare(text) => arguments.push(text.clone()),
                Word::Literal(text) => arguments.push(format!("'{}'", text.replace('\'', "''"))),
                Word::Mark(',') => {}
                _ => return None,
            }
        }
        at = end + 1;
    }
    let name = match first.to_ascii_lowercase().as_str() {
        "integer" => "int".to_owned(),
        "bool" | "boolean" => "tinyint".to_owned(),
        "dec" | "numeric" | "fixed" => "decimal".to_owned(),
        "character" => "char".to_owned(),
        other => other.to_owned(),
    };
    match name.as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year" => arguments.clear(),
        "decimal" => arguments.extend(["10", "0"].into_iter().skip(arguments.len()).map(str::to_owned)),
        "char" | "binary" | "bit" if arguments.is_empty() => arguments.push("1".to_owned()),
        "datetime" | "timestamp" | "time" if arguments == ["0"] => arguments.clear(),
        _ => {}
    }
    let is_unsigned = items_depth_0(words.get(at..)?)
        .take_while(|word| word.is_one_of(&["SIGNED", "UNSIGNED", "ZEROFILL"]))
        .any(|word| !word.is("SIGNED"));
    let brackets = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(",")) };
    let sign = if is_unsigned { " unsigned" } else { "" };
    SqlType::of_catalog(&format!("{name}{brackets}{sign}")).ok().map(|of| of.to_string())
}

/// Names of columns that an `ALTER TABLE` adds and drops.
fn shape(rest: &[Word]) -> (Vec<String>, Vec<String>) {
    const NO_COLUMN: [&str; 13] = [
        "INDEX",
        "KEY",
        "UNIQUE",
        "FULLTEXT",
        "SPATIAL",
        "VECTOR",
        "CONSTRAINT",
        "FOREIGN",
        "CHECK",
        "PRIMARY",
        "PARTITION",
        "SYSTEM",
        "PERIOD",
    ];
    let (mut added, mut dropped) = (Vec::new(), Vec::new());
    let mut depth = 0i32;
    for (i, word) in rest.iter().enumerate() {
        match word {
            Word::Mark('(') => depth += 1,
            Word::Mark(')') => depth -= 1,
            _ => {}
        }
        let begins = i == 0 || rest.get(i - 1) == Some(&Word::Mark(','));
        if depth > 0 || !begins {
            continue;
        }
        let mut next = i + 1;
        while rest.get(next).is_some_and(|w| w.is("COLUMN") || w.is("IF") || w.is("NOT") || w.is("EXISTS")) {
            next += 1;
        }
        let is_column = !rest.get(i + 1).is_some_and(|w| NO_COLUMN.iter().any(|keyword| w.is(keyword)));
        let name = || rest.get(next).and_then(Word::name).unwrap_or_default().to_owned();
        let renamed =
            || rest.get(next + 1 + usize::from(word.is("RENAME"))).and_then(Word::name).unwrap_or_default();
        if word.is("ADD") && is_column {
            added.push(name());
        } else if word.is("DROP") && is_column {
            dropped.push(name());
        } else if (word.is("RENAME") && rest.get(i + 1).is_some_and(|w| w.is("COLUMN")))
            || (word.is("CHANGE") && name() != renamed())
        {
            dropped.push(name());
            added.push(renamed().to_owned());
        }
    }
    (added, dropped)
}

fn target_of_dml(words: &[Word]) -> Option<Named> {
    const BETWEEN: [&str; 12] = [
        "INSERT",
        "REPLACE",
        "UPDATE",
        "DELETE",
        "INTO",
        "FROM",
        "IGNORE",
        "LOW_PRIORITY",
        "HIGH_PRIORITY",
        "DELAYED",
        "QUICK",
        "ONLY",
    ];
    let at = words.iter().position(|word| !BETWEEN.iter().any(|keyword| word.is(keyword)))?;
    let (name, next) = named(words, at)?;
    // Several tables in one statement are not taken apart.
    let many = words.get(next).is_some_and(|w| *w == Word::Mark(',') || w.is("JOIN"));
    (!many).then_some(name)
}

/// A name at this place, `a` or `a.b`, and the place behind it.
fn named(words: &[Word], at: usize) -> Option<(Named, usize)> {
    let first = words.get(at)?.name()?.to_owned();
    if words.get(at + 1) == Some(&Word::Mark('.')) {
        let table = words.get(at + 2)?.name()?.to_owned();
        return Some((Named { database: Some(first), table }, at + 3));
    }
    Some((Named { database: None, table: first }, at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> String {
        let shown = |n: &Named| match &n.database {
            Some(database) => format!("{database}.{}", n.table),
            None => n.table.clone(),
        };
        match read(&Words::for_test(text.as_bytes(), true), text.as_bytes()) {
            Statement::Ddl(tables) => {
                let told = |(n, e): &(Named, Effect)| match e {
                    Effect::Shape { added, dropped } => {
                        let signs = added
                            .iter()
                            .map(|c| format!(" +{c}"))
                            .chain(dropped.iter().map(|c| format!(" -{c}")));
                        shown(n) + &signs.collect::<String>()
                    }
                    Effect::Retyped(columns) => columns
                        .iter()
                        .map(|(column, of)| format!("{} {column}:{of}", shown(n)))
                        .collect::<Vec<_>>()
                        .join(", "),
                    other => format!("{} {other:?}", shown(n)),
                };
                tables.iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Statement::XaCommit(Some(xid)) => format!("commit {xid}"),
            Statement::XaRollback(Some(xid)) => format!("rollback {xid}"),
            Statement::Truncate(name) => format!("truncate {}", shown(&name)),
            Statement::Unknown(begins, names) => {
                format!("unknown {begins}: {}", names.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
            Statement::Dml(name) => format!("dml {}", name.as_ref().map_or("?".into(), shown)),
            other => format!("{other:?}"),
        }
    }

    const TOLD: &[(&str, &str)] = &[
        ("BEGIN", "Begin"),
        ("/* hint */ COMMIT", "Commit"),
        ("ROLLBACK", "Rollback"),
        ("ROLLBACK TO `a`", "RollbackTo"),
        ("SAVEPOINT `a`", "Savepoint"),
        ("XA START X'31',X'',1", "XaStart"),
        ("XA END X'31',X'',1", "XaEnd"),
        ("XA COMMIT X'3132',X'ff',-7", "commit X'3132',X'ff',-7"),
        ("XA ROLLBACK X'31',X'',1", "rollback X'31',X'',1"),
        ("XA COMMIT 'a',X'',1", "XaCommit(None)"),
        ("TRUNCATE TABLE `a b`.c", "truncate a b.c"),
        ("truncate t", "truncate t"),
        ("DROP TABLE IF EXISTS `t`, x.y /* generated by server */", "t Gone, x.y Gone"),
        ("RENAME TABLE t TO _t_del, _t_gho TO t", "t Gone, _t_del Rows, _t_gho Gone, t Rows"),
        ("rename /* gh-ost */ table `shop`.`t` to `shop`.`_t_del`", "shop.t Gone, shop._t_del Rows"),
        ("ALTER TABLE t ADD COLUMN c decimal(5,2), ADD INDEX (c), DROP b", "t +c -b"),
        ("ALTER TABLE t ADD (c int, d int)", "t +"),
        ("ALTER TABLE t ADD UNIQUE KEY k (c)", ""),
        ("ALTER TABLE t DROP FOREIGN KEY f", "t Columns"),
        ("ALTER TABLE t CHANGE a b int", "t Defaults, t b:int, t +b -a"),
        ("ALTER TABLE t CHANGE COLUMN a a bigint", "t Defaults, t a:bigint, t Columns"),
        ("ALTER TABLE t DROP COLUMN c, ADD c int", "t +c -c"),
        ("ALTER /*!50100 IGNORE */ TABLE t MODIFY c int", "t Rows"),
        ("ALTER TABLE t MODIFY c int", "t Defaults, t c:int, t Columns"),
        ("ALTER TABLE t RENAME TO u", "t Gone, u Rows"),
        ("ALTER TABLE t RENAME COLUMN a TO b", "t +b -a"),
        ("ALTER TABLE t ENGINE = InnoDB", ""),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 5", "t Defaults"),
        ("ALTER TABLE t ALTER a DROP DEFAULT, ADD b int", "t Defaults, t +b"),
        ("ALTER TABLE t TRUNCATE PARTITION p0", "t Rows"),
        ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE s.u WITHOUT VALIDATION", "t Rows, s.u Rows"),
        ("ALTER TABLE t CONVERT TABLE u TO PARTITION p VALUES LESS THAN (5)", "t Rows, u Gone"),
        ("ALTER TABLE t CONVERT PARTITION p TO TABLE u", "t Rows, u Rows"),
        ("ALTER TABLE t RENAME COLUMN a TO b, RENAME u", "t Gone, u Rows"),
        ("ALTER TABLE t RENAME = u", "t Gone, u Rows"),
        ("ALTER TABLE t WAIT 5 ADD c int", "t +c"),
        ("ALTER IGNORE TABLE t ADD UNIQUE (c)", "t Rows"),
        ("ALTER TABLE t MODIFY g int GENERATED ALWAYS AS (a + 1) STORED", "t Rows"),
        ("ALTER TABLE t MODIFY g int DEFAULT (cast('1' AS signed))", "t Defaults, t g:int, t Columns"),
        (
            "ALTER TABLE t MODIFY a DATETIME (0) NOT NULL, MODIFY COLUMN b dec(12) unsigned",
            "t Defaults, t a:datetime, t b:decimal(12,0) unsigned, t Columns",
        ),
        (
            "ALTER TABLE t MODIFY e Enum('a','it''s'), MODIFY x what",
            "t Defaults, t e:enum('a','it''s'), t x:, t Columns",
        ),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "t Columns"),
        ("CREATE TABLE t (a int) START TRANSACTION", "CreateAndBegin"),
        ("CREATE TEMPORARY TABLE t (a int)", "Other"),
        ("CREATE OR REPLACE TABLE s.t (a int)", "s.t Rows"),
        ("DROP DATABASE IF EXISTS `shop`", "DropDatabase(\"shop\")"),
        ("INSERT INTO t VALUES (1)", "dml t"),
        ("DELETE FROM `mysql`.`rds_heartbeat2`", "dml mysql.rds_heartbeat2"),
        ("UPDATE a, b SET a.x = 1", "dml ?"),
        ("LOAD DATA INFILE 'x' INTO TABLE t", "dml ?"),
        ("GRANT SELECT ON *.* TO a", "Other"),
        ("FLUSH TABLES", "Other"),
        ("CREATE INDEX i ON t (a)", "t Columns"),
        ("DROP INDEX `PRIMARY` ON s.t", "s.t Columns"),
        ("SET STATEMENT max_statement_time=60 FOR TRUNCATE TABLE t", "truncate t"),
        ("SET STATEMENT a=1 FOR ALTER TABLE t TRUNCATE PARTITION p", "t Rows"),
        ("SET STATEMENT a=1 FOR RENAME TABLE t TO u", "t Gone, u Rows"),
        ("SET STATEMENT a=1 FOR DELETE FROM t", "dml t"),
        ("SET STATEMENT a=1", "unknown SET STATEMENT a: SET STATEMENT a 1"),
        ("SET PASSWORD FOR a = 'b'", "Other"),
        ("/*Migration 42*/ TRUNCATE TABLE t", "truncate t"),
        ("SELECT `shop`.`f`()", "dml ?"),
        ("MERGE INTO s.t USING u", "unknown MERGE INTO s: MERGE INTO s.t t USING u"),
        ("TRUNCATE", "unknown TRUNCATE: TRUNCATE"),
        ("CREATE SOMETHING ON t", "unknown CREATE SOMETHING ON: CREATE SOMETHING ON t"),
        ("TRUNCATE TABLE t /* and on", "unknown TRUNCATE TABLE t: TRUNCATE TABLE t"),
        ("CREATE DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW v AS SELECT 1 FROM t", "Other"),
        ("CREATE DEFINER=`a`@`b` TRIGGER r BEFORE INSERT ON t FOR EACH ROW SET @a = 1", "Other"),
        ("CREATE OR REPLACE JSON RELATIONAL DUALITY VIEW v AS SELECT 1", "Other"),
        ("CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'x'", "Other"),
        ("DROP TEMPORARY TABLE IF EXISTS t", "Other"),
        ("ALTER DATABASE d CHARACTER SET latin1", "Other"),
        ("# Dummy event", "Other"),
        ("ALTER USER a IDENTIFIED BY 'TABLE'", "Other"),
    ];

    #[test]
    fn statements_are_told_apart() {
        for &(text, expected) in TOLD {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    /// Where a value that does not fit is made to fit, columns that are altered have other values.
    #[test]
    fn without_strict_mode_values_may_be_others() {
        let read = |text: &str| read(&Words::for_test(text.as_bytes(), false), text.as_bytes());
        let rows = || Statement::Ddl(vec![(Named { database: None, table: "t".into() }, Effect::Rows)]);
        for text in ["alter table t modify c int not null", "ALTER TABLE t CONVERT TO CHARACTER SET latin1"] {
            assert_eq!(read(text), rows(), "{text}");
        }
        assert_ne!(read("alter table t add c int"), rows());
    }

    #[test]
    fn what_is_defined() {
        for (text, expected) in [
            ("create table if not exists a.t (x int)", "Created a.t"),
            ("CREATE OR REPLACE TABLE t (x int)", "Created t"),
            ("create temporary table t (x int)", ""),
            ("drop temporary table t", ""),
            ("DROP TABLE IF EXISTS `t`, x.y /* generated by server */", "Dropped t; Dropped x.y"),
            ("alter table t add c int", "Altered t"),
            ("alter table t rename to b.u", "Altered b.u"),
            ("alter table t rename column a to b", "Altered t"),
            ("rename table a to b, c to a", "Altered b; Altered a"),
            ("create unique index i on t (a)", "Other t"),
            ("drop index i on s.t", "Other s.t"),
            ("create sequence sq", "Other sq"),
            ("create database if not exists `a b`", "Database(\"a b\")"),
            ("drop schema s", "Database(\"s\")"),
            ("alter database s character set latin1", "Database(\"s\")"),
            ("create user u", ""),
            ("create view v as select 1 from t", ""),
            ("truncate table t", ""),
            ("insert into t values (1)", ""),
        ] {
            let shown = |n: &Named| match &n.database {
                Some(database) => format!("{database}.{}", n.table),
                None => n.table.clone(),
            };
            let one = |told: &Told| match told {
                Told::Created(name) => format!("Created {}", shown(name)),
                Told::Altered(name) => format!("Altered {}", shown(name)),
                Told::Dropped(name) => format!("Dropped {}", shown(name)),
                Told::Other(name) => format!("Other {}", shown(name)),
                Told::Database(_) => format!("{told:?}"),
            };
            let found: Vec<String> =
                super::told(&Words::for_test(text.as_bytes(), true)).iter().map(one).collect();
            assert_eq!(found.join("; "), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text: Vec<u8>) {
            let words = Words::for_test(&text, false);
            read(&words, &text);
            super::told(&words);
        }
    }
}
