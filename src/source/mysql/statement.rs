//! What a statement in the log means to the rows around it.
//!
//! Row events and their `TABLE_MAP` say all that can be decoded; a statement is looked at only for what they do not
//! tell: where a transaction begins and ends, that a table was emptied, and that a table may not be what it was. It is
//! split into words, comments and quotes understood, and nothing more: where it is not clear what it means, it means
//! that the table is looked at again.

use crate::binlog::Xid;

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
pub(super) fn told(text: &[u8]) -> Vec<Told> {
    let words = words(&String::from_utf8_lossy(text));
    let is = |at: usize, keyword: &str| words.get(at).is_some_and(|word| word.is(keyword));
    let (creates, drops, alters) = (is(0, "CREATE"), is(0, "DROP"), is(0, "ALTER"));
    let place = |keyword: &str| words.iter().take(6).position(|word| word.is(keyword));
    let skip_tests = |from: usize| {
        let is_test = |at: &usize| ["IF", "NOT", "EXISTS"].iter().any(|keyword| is(*at, keyword));
        (from..).find(|at| !is_test(at)).unwrap_or(from)
    };
    let one = |at: usize, make: fn(Named) -> Told| {
        named(&words, skip_tests(at)).map(|(name, _)| make(name)).into_iter().collect()
    };
    if is(0, "RENAME") && (is(1, "TABLE") || is(1, "TABLES")) {
        let moved = renamed(&words).into_iter().filter(|(_, effect)| *effect == Effect::Rows);
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
            let gone = listed(&words, at + 1, Effect::Gone).into_iter();
            return gone.map(|(name, _)| Told::Dropped(name)).collect();
        }
        if creates {
            return one(at + 1, Told::Created);
        }
        let moved = altered(&words).into_iter().find(|(_, effect)| *effect == Effect::Rows);
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

#[derive(Clone, PartialEq, Eq, Debug)]
enum Word {
    /// A bare word: as written.
    Bare(String),
    /// In backticks, or double quotes.
    Quoted(String),
    /// In single quotes, or a number: never a name.
    Literal,
    Mark(char),
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(text) if text.eq_ignore_ascii_case(keyword))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Word::Bare(text) | Word::Quoted(text) => Some(text),
            Word::Literal | Word::Mark(_) => None,
        }
    }
}

/// Reads a statement.
pub(super) fn read(text: &[u8]) -> Statement {
    let words = words(&String::from_utf8_lossy(text));
    let keyword = |i: usize| match words.get(i) {
        Some(Word::Bare(text)) => text.to_ascii_uppercase(),
        _ => String::new(),
    };
    match (keyword(0).as_str(), keyword(1).as_str()) {
        ("BEGIN", _) | ("START", "TRANSACTION") => Statement::Begin,
        ("COMMIT", _) => Statement::Commit,
        ("ROLLBACK", "TO") => Statement::RollbackTo,
        ("ROLLBACK", _) if words.iter().any(|word| word.is("TO")) => Statement::RollbackTo,
        ("ROLLBACK", _) => Statement::Rollback,
        ("SAVEPOINT" | "RELEASE", _) => Statement::Savepoint,
        ("XA", "START" | "BEGIN") => Statement::XaStart,
        ("XA", "COMMIT") => Statement::XaCommit(xid(text)),
        ("XA", "ROLLBACK") => Statement::XaRollback(xid(text)),
        ("XA", _) => Statement::XaEnd,
        ("INSERT" | "REPLACE" | "UPDATE" | "DELETE" | "LOAD" | "CALL" | "WITH" | "IMPORT", _) => {
            Statement::Dml(target_of_dml(&words))
        }
        ("TRUNCATE", "TABLE") => named(&words, 2).map_or(Statement::Other, |(n, _)| Statement::Truncate(n)),
        ("TRUNCATE", _) => named(&words, 1).map_or(Statement::Other, |(n, _)| Statement::Truncate(n)),
        ("DROP", "DATABASE" | "SCHEMA") => words
            .iter()
            .rev()
            .find_map(Word::name)
            .map_or(Statement::Other, |n| Statement::DropDatabase(n.to_owned())),
        ("DROP", "TABLE" | "TABLES") => Statement::Ddl(listed(&words, 2, Effect::Gone)),
        ("RENAME", "TABLE" | "TABLES") => Statement::Ddl(renamed(&words)),
        ("ALTER", _) if keyword(1) == "TABLE" || keyword(2) == "TABLE" || keyword(3) == "TABLE" => {
            Statement::Ddl(altered(&words))
        }
        ("CREATE", _) if is_table(&words) => created(&words),
        _ => Statement::Other,
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

fn is_table(words: &[Word]) -> bool {
    let is_temporary = words.iter().take(5).any(|word| word.is("TEMPORARY"));
    !is_temporary && words.iter().take(5).any(|word| word.is("TABLE"))
}

fn created(words: &[Word]) -> Statement {
    let ends = words.len().checked_sub(2).and_then(|at| words.get(at..));
    if let Some([start, transaction]) = ends
        && start.is("START")
        && transaction.is("TRANSACTION")
    {
        return Statement::CreateAndBegin;
    }
    // What is made where nothing was has been told by what took it away; IF NOT EXISTS may do nothing at all.
    let replaces = words.get(1).is_some_and(|word| word.is("OR"));
    let effect = if replaces { Effect::Rows } else { Effect::Columns };
    let at = words.iter().position(|word| word.is("TABLE")).unwrap_or(0) + 1;
    Statement::Ddl(listed(words, at, effect).into_iter().take(1).collect())
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

fn altered(words: &[Word]) -> Vec<(Named, Effect)> {
    let mut at = words.iter().position(|word| word.is("TABLE")).unwrap_or(0) + 1;
    while words.get(at).is_some_and(|w| w.is("IF") || w.is("EXISTS")) {
        at += 1;
    }
    let Some((table, next)) = named(words, at) else { return Vec::new() };
    let rest = words.get(next..).unwrap_or_default();
    let has = |keyword: &str| rest.iter().any(|word| word.is(keyword));
    let partition = has("PARTITION") || has("PARTITIONING") || has("PARTITIONS");
    if partition
        && (has("TRUNCATE")
            || has("EXCHANGE")
            || has("DROP")
            || has("DISCARD")
            || has("IMPORT")
            || has("CONVERT"))
        || has("TABLESPACE") && (has("IMPORT") || has("DISCARD"))
    {
        return vec![(table, Effect::Rows)];
    }
    let mut found = Vec::new();
    let rename = rest.iter().position(|word| word.is("RENAME"));
    let moved = rename.and_then(|i| {
        let is_part = rest.get(i + 1).is_some_and(|w| w.is("COLUMN") || w.is("INDEX") || w.is("KEY"));
        let skip = usize::from(rest.get(i + 1).is_some_and(|w| w.is("TO") || w.is("AS")));
        if is_part { None } else { named(rest, i + 1 + skip) }
    });
    if let Some((to, _)) = moved {
        found.push((table, Effect::Gone));
        found.push((to, Effect::Rows));
        return found;
    }
    if has("MODIFY") || has("CHANGE") || has("ALTER") && has("DEFAULT") {
        found.push((table.clone(), Effect::Defaults));
    }
    let (added, dropped) = shape(rest);
    if !added.is_empty() || !dropped.is_empty() {
        found.push((table, Effect::Shape { added, dropped }));
        return found;
    }
    let columns = ["MODIFY", "CHANGE", "CONVERT", "PRIMARY", "CHARACTER", "CHARSET", "COLLATE"];
    if columns.iter().any(|keyword| has(keyword)) {
        found.push((table, Effect::Columns));
    }
    found
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
    if words.first().is_some_and(|w| w.is("LOAD") || w.is("CALL") || w.is("WITH") || w.is("IMPORT")) {
        return None;
    }
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

/// Splits into words. What stands in `/*! … */` is part of the statement, other comments are not.
fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|&c| c != '\n').is_some() {},
            '-' if chars.peek() == Some(&'-') => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.next_if(|&c| c == '!' || c == 'M').is_some() {
                    // The statement goes on, after a version number.
                    while chars.next_if(|&c| c == '!' || c.is_ascii_digit()).is_some() {}
                } else {
                    let mut last = ' ';
                    for c in chars.by_ref() {
                        if last == '*' && c == '/' {
                            break;
                        }
                        last = c;
                    }
                }
            }
            '*' if chars.peek() == Some(&'/') => {
                chars.next();
            }
            '`' | '"' | '\'' => {
                let mut inside = String::new();
                while let Some(next) = chars.next() {
                    if next == c && chars.next_if_eq(&c).is_none() {
                        break;
                    }
                    if next == '\\' && c != '`' {
                        chars.next();
                        continue;
                    }
                    inside.push(next);
                }
                words.push(if c == '\'' { Word::Literal } else { Word::Quoted(inside) });
            }
            c if c.is_alphanumeric() || c == '_' || c == '$' => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|&c| c.is_alphanumeric() || c == '_' || c == '$') {
                    word.push(c);
                }
                words.push(Word::Bare(word));
            }
            c => words.push(Word::Mark(c)),
        }
    }
    words
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
        match read(text.as_bytes()) {
            Statement::Ddl(tables) => {
                let told = |(n, e): &(Named, Effect)| match e {
                    Effect::Shape { added, dropped } => {
                        let signs = added
                            .iter()
                            .map(|c| format!(" +{c}"))
                            .chain(dropped.iter().map(|c| format!(" -{c}")));
                        shown(n) + &signs.collect::<String>()
                    }
                    other => format!("{} {other:?}", shown(n)),
                };
                tables.iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Statement::XaCommit(Some(xid)) => format!("commit {xid}"),
            Statement::XaRollback(Some(xid)) => format!("rollback {xid}"),
            Statement::Truncate(name) => format!("truncate {}", shown(&name)),
            Statement::Dml(name) => format!("dml {}", name.as_ref().map_or("?".into(), shown)),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn statements_are_told_apart() {
        for (text, expected) in [
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
            ("ALTER TABLE t ADD UNIQUE KEY k (c), DROP FOREIGN KEY f", ""),
            ("ALTER TABLE t CHANGE a b int", "t Defaults, t +b -a"),
            ("ALTER TABLE t CHANGE COLUMN a a bigint", "t Defaults, t Columns"),
            ("ALTER TABLE t DROP COLUMN c, ADD c int", "t +c -c"),
            ("ALTER /*!50100 IGNORE */ TABLE t MODIFY c int", "t Defaults, t Columns"),
            ("ALTER TABLE t RENAME TO u", "t Gone, u Rows"),
            ("ALTER TABLE t RENAME COLUMN a TO b", "t +b -a"),
            ("ALTER TABLE t ENGINE = InnoDB", ""),
            ("ALTER TABLE t ALTER COLUMN a SET DEFAULT 5", "t Defaults"),
            ("ALTER TABLE t ALTER a DROP DEFAULT, ADD b int", "t Defaults, t +b"),
            ("ALTER TABLE t TRUNCATE PARTITION p0", "t Rows"),
            ("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u", "t Rows"),
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
            ("CREATE INDEX i ON t (a)", "Other"),
            ("ALTER USER a IDENTIFIED BY 'TABLE'", "Other"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
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
            let found: Vec<String> = super::told(text.as_bytes()).iter().map(one).collect();
            assert_eq!(found.join("; "), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text: Vec<u8>) {
            read(&text);
            super::told(&text);
        }
    }
}
