//! Names and text in SQL: the one place where quoting is done.
//!
//! Names come from the catalogue and from the configuration, and either may hold quotes, semicolons or
//! newlines. Identifiers are always quoted, so that no list of keywords is needed and nothing folds.
//! Every connection pins `standard_conforming_strings = on`, so that a backslash is a backslash. A zero
//! byte, which no name can hold, is left out: it would end the message that carries the statement.

use crate::schema::TableName;

/// An identifier: `"we""ird"`.
pub fn identifier(name: &str) -> String {
    quoted(name, '"')
}

/// A string literal: `'it''s'`. Also right within replication commands.
pub fn literal(text: &str) -> String {
    quoted(text, '\'')
}

/// A table's name with its schema: `"public"."orders"`.
pub fn table(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.table))
}

/// Identifiers, separated by commas.
pub fn identifiers<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str, mark: char) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(mark);
    for c in text.chars().filter(|&c| c != '\0') {
        if c == mark {
            out.push(mark);
        }
        out.push(c);
    }
    out.push(mark);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(identifier("a\"b;--\n"), "\"a\"\"b;--\n\"");
        assert_eq!(literal("it's \\ \"x\""), "'it''s \\ \"x\"'");
        assert_eq!(identifier("a\0b"), "\"ab\"");
        assert_eq!(table(&TableName::new("s.x", "T")), "\"s.x\".\"T\"");
        assert_eq!(identifiers(["a", "B,"]), "\"a\", \"B,\"");
    }
}
