//! Which tables: patterns over `schema.table`, matched here and not in SQL.
//!
//! `public.*` is a glob (`*` any text, `?` one character); `/public\.(orders|items)_\d+/` a regular
//! expression. Both must match the whole name.

use crate::error::{Error, Result, codes};
use crate::schema::TableName;
use regex::Regex;

/// One pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Reads one.
    ///
    /// Errors: CF003.
    pub fn parse(text: &str) -> Result<Self> {
        let source = match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
            Some(expression) => format!("^(?:{expression})$"),
            None if text.contains('.') => {
                let parts = text.chars().map(|c| match c {
                    '*' => "(?s:.*)".to_owned(),
                    '?' => "(?s:.)".to_owned(),
                    c => regex::escape(&c.to_string()),
                });
                format!("^{}$", parts.collect::<String>())
            }
            None => {
                return Err(Error::new(
                    codes::CF003,
                    format!("the table pattern \"{text}\" names no schema"),
                )
                .with_try(format!("\"public.{text}\", or \"*.{text}\" for every schema")));
            }
        };
        let regex = Regex::new(&source).map_err(|e| {
            Error::new(codes::CF003, format!("the table pattern \"{text}\" cannot be read")).with_source(e)
        })?;
        Ok(Pattern { text: text.to_owned(), regex })
    }

    /// Whether the table matches.
    pub fn matches(&self, name: &TableName) -> bool {
        self.regex.is_match(&name.to_string())
    }
}

/// Included tables less excluded ones.
#[derive(Clone, Debug)]
pub struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Selection {
    /// Reads both lists.
    ///
    /// Errors: CF003.
    pub fn parse<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Self> {
        let all = |list: &[S]| list.iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<Vec<_>>>();
        Ok(Selection { include: all(include)?, exclude: all(exclude)? })
    }

    /// Whether the table is wanted.
    pub fn matches(&self, name: &TableName) -> bool {
        self.include.iter().any(|p| p.matches(name)) && !self.exclude.iter().any(|p| p.matches(name))
    }

    /// The patterns, for messages.
    pub fn describe(&self) -> String {
        let list = |patterns: &[Pattern]| {
            patterns.iter().map(|p| format!("\"{}\"", p.text)).collect::<Vec<_>>().join(", ")
        };
        match self.exclude.is_empty() {
            true => list(&self.include),
            false => format!("{} without {}", list(&self.include), list(&self.exclude)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, schema: &str, table: &str) -> bool {
        Pattern::parse(pattern).unwrap_or_else(|e| panic!("{e}")).matches(&TableName::new(schema, table))
    }

    #[test]
    fn globs_and_expressions_match_whole_names() {
        assert!(matches("public.*", "public", "orders"));
        assert!(!matches("public.*", "publicity", "orders"));
        assert!(!matches("public.orders", "public", "orders_old"));
        assert!(matches("*.order?", "x", "orders"));
        assert!(!matches("public.o+", "public", "oo"), "+ is a letter in a glob");
        assert!(matches("public.a\"b", "public", "a\"b"));
        assert!(matches(r"/public\.(a|b)_\d+/", "public", "b_12"));
        assert!(!matches(r"/public\.a/", "public", "ab"));
        assert!(matches("public.*", "public", "new\nline"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["orders", "/(/", ""] {
            let error = Pattern::parse(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), codes::CF003, "{bad}");
        }
    }

    #[test]
    fn exclusion_wins() {
        let selection = Selection::parse(&["public.*"], &["public.tmp_*"]).unwrap();
        assert!(selection.matches(&TableName::new("public", "t")));
        assert!(!selection.matches(&TableName::new("public", "tmp_1")));
        assert_eq!(selection.describe(), "\"public.*\" without \"public.tmp_*\"");
    }
}
