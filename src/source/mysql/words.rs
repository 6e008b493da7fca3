//! Statements as words: comments and quotes understood, and nothing more.

use crate::binlog::charset::Charset;
use crate::binlog::{Query, StatusVars};

/// What the session's settings say of how its statements are read, and what they may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mode {
    /// A backslash within quotes escapes what follows.
    escapes: bool,
    /// A value that does not fit is an error, and not changed until it fits.
    pub(super) is_strict: bool,
}

impl Mode {
    const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;
    const STRICT: u64 = 1 << 21 | 1 << 22;

    fn of(status: &StatusVars<'_>) -> Mode {
        let is = |bits: u64| status.sql_mode.is_some_and(|mode| mode & bits != 0);
        Mode { escapes: !is(Self::NO_BACKSLASH_ESCAPES), is_strict: is(Self::STRICT) }
    }
}

/// A word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// A bare word or a number: as written.
    Bare(String),
    /// In backticks, or double quotes.
    Quoted(String),
    /// In single quotes: never a name.
    Literal(String),
    Mark(char),
}

impl Word {
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Bare(text) if text.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_one_of(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.is(keyword))
    }

    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Word::Bare(text) | Word::Quoted(text) => Some(text),
            Word::Literal(_) | Word::Mark(_) => None,
        }
    }
}

/// A statement, split.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Words {
    words: Vec<Word>,
    /// Where the statement begins: behind `SET STATEMENT … FOR`.
    from: usize,
    /// Comments and quotes end before it does.
    pub(super) is_whole: bool,
    pub(super) mode: Mode,
}

impl Words {
    /// Of a statement of the log.
    pub(super) fn of(query: &Query<'_>) -> Words {
        let charset = query.status.client_collation.and_then(Charset::of_collation);
        let text = charset.and_then(|charset| charset.to_text(&query.text));
        let text = text.unwrap_or_else(|| String::from_utf8_lossy(&query.text).into_owned());
        Words::split(&text, Mode::of(&query.status))
    }

    /// The statement without settings that are for it alone (MariaDB).
    pub(super) fn statement(&self) -> &[Word] {
        self.words.get(self.from..).unwrap_or_default()
    }

    /// It begins as if a statement followed settings, and none does.
    pub(super) fn is_setting_without_statement(&self) -> bool {
        matches!(self.statement(), [set, statement, next, ..]
            if set.is("SET") && statement.is("STATEMENT") && *next != Word::Mark('='))
    }

    fn split(text: &str, mode: Mode) -> Words {
        let mut words = Vec::new();
        let is_whole = split(text, mode, &mut words);
        let mut from = 0;
        while let Some(next) = behind_settings(&words, from) {
            from = next;
        }
        Words { words, from, is_whole, mode }
    }

    #[cfg(test)]
    pub(super) fn for_test(text: &[u8], is_strict: bool) -> Words {
        Words::split(&String::from_utf8_lossy(text), Mode { escapes: true, is_strict })
    }
}

/// Behind `SET STATEMENT a = 1, b = (2) FOR`. `None`: it does not begin so. Without `FOR` nothing is behind it.
fn behind_settings(words: &[Word], from: usize) -> Option<usize> {
    let is = |at: usize, keyword: &str| words.get(at).is_some_and(|word| word.is(keyword));
    if !is(from, "SET") || !is(from + 1, "STATEMENT") || words.get(from + 2) == Some(&Word::Mark('=')) {
        return None;
    }
    let mut depth = 0i32;
    for (at, word) in words.iter().enumerate().skip(from + 2) {
        match word {
            Word::Mark('(') => depth += 1,
            Word::Mark(')') => depth -= 1,
            word if depth == 0 && word.is("FOR") => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Splits into words. What stands in `/*! … */` is part of the statement, other comments are not. False: it ends within a
/// comment or quotes.
fn split(text: &str, mode: Mode, words: &mut Vec<Word>) -> bool {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|&c| c != '\n').is_some() {},
            '-' if is_dashed_comment(chars.clone()) => while chars.next_if(|&c| c != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                chars.next();
                if !executes(&mut chars) && !skip_comment(&mut chars) {
                    return false;
                }
            }
            '*' if chars.peek() == Some(&'/') => {
                chars.next();
            }
            '`' | '"' | '\'' => {
                let Some(inside) = quoted(c, mode, &mut chars) else { return false };
                words.push(if c == '\'' { Word::Literal(inside) } else { Word::Quoted(inside) });
            }
            c if is_of_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|&c| is_of_word(c)) {
                    word.push(c);
                }
                words.push(Word::Bare(word));
            }
            c => words.push(Word::Mark(c)),
        }
    }
    true
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// Two dashes are a comment only with a blank behind them: `5--3` is a sum.
fn is_dashed_comment(mut rest: Rest<'_>) -> bool {
    rest.next() == Some('-') && rest.next().is_none_or(|c| c.is_whitespace() || c.is_control())
}

/// `/*!` and MariaDB's `/*M!`: the statement goes on behind them and a version number.
fn executes(chars: &mut Rest<'_>) -> bool {
    let mut ahead = chars.clone();
    ahead.next_if_eq(&'M');
    if ahead.next() != Some('!') {
        return false;
    }
    *chars = ahead;
    while chars.next_if(char::is_ascii_digit).is_some() {}
    true
}

/// False: it has no end.
fn skip_comment(chars: &mut Rest<'_>) -> bool {
    let mut last = ' ';
    for c in chars.by_ref() {
        if last == '*' && c == '/' {
            return true;
        }
        last = c;
    }
    false
}

/// What is within quotes, without escapes. `None`: it has no end.
fn quoted(quote: char, mode: Mode, chars: &mut Rest<'_>) -> Option<String> {
    let mut inside = String::new();
    loop {
        match chars.next()? {
            c if c == quote => {
                if chars.next_if_eq(&quote).is_none() {
                    return Some(inside);
                }
                inside.push(quote);
            }
            '\\' if quote != '`' && mode.escapes => inside.push(chars.next()?),
            c => inside.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, escapes: bool) -> String {
        let words = Words::split(text, Mode { escapes, is_strict: true });
        let one = |word: &Word| match word {
            Word::Bare(text) => text.clone(),
            Word::Quoted(text) => format!("`{text}`"),
            Word::Literal(text) => format!("'{text}'"),
            Word::Mark(mark) => mark.to_string(),
        };
        let all: Vec<String> = words.statement().iter().map(one).collect();
        all.join(" ") + if words.is_whole { "" } else { " …" }
    }

    #[test]
    fn comments_and_quotes_end_where_the_server_ends_them() {
        for (text, expected) in [
            ("/*Migration 42*/ TRUNCATE TABLE t", "TRUNCATE TABLE t"),
            ("/*M!100100 a */ b", "a b"),
            ("/*!50100 a */ b", "a b"),
            ("/* a *//**/b", "b"),
            ("a /* b", "a …"),
            ("a # b\nc -- d\ne", "a c e"),
            ("5--3, b", "5 - - 3 , b"),
            ("a --", "a"),
            ("'it''s' \"a\"\"b\" `c``d`", "'it's' `a\"b` `c`d`"),
            ("'a\\', b", "…"),
            ("'a\\'', b' c", "'a'' , b …"),
        ] {
            assert_eq!(shown(text, true).trim(), expected, "{text}");
        }
        assert_eq!(shown("'a\\', b", false), "'a\\' , b");
    }

    #[test]
    fn settings_of_one_statement_are_not_the_statement() {
        for (text, expected) in [
            ("SET STATEMENT max_statement_time=60 FOR TRUNCATE TABLE t", "TRUNCATE TABLE t"),
            (
                "set statement a = substring('x' from 1 for 2) , b=1 for set statement c=1 for drop table t",
                "drop table t",
            ),
            ("SET STATEMENT a=1", "SET STATEMENT a = 1"),
            ("SET statement = 1", "SET statement = 1"),
        ] {
            assert_eq!(shown(text, true), expected, "{text}");
        }
    }
}
