//! Which tables: `public.*`, `sales.order_?`. A pattern names schema and table; `*` and `?` do not cross
//! the dot between them.

use super::problem::Refusal;
use crate::schema::TableName;
use std::fmt;

/// One pattern over `schema.table`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablePattern {
    schema: String,
    table: String,
}

impl TablePattern {
    /// Reads `schema.table`, each with `*` (any text) and `?` (one character). The first dot divides.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.starts_with('/') {
            return Err(Refusal::not_built(
                "is a regular expression, which is not built yet",
                "use a pattern such as \"public.*\"",
            ));
        }
        let Some((schema, table)) = text.split_once('.') else {
            return Err(Refusal::new("names no schema", format!("write \"public.{text}\"")));
        };
        if schema.is_empty() || table.is_empty() {
            return Err(Refusal::new("is not of the form schema.table", "write for example \"public.*\""));
        }
        if text.contains('"') {
            return Err(Refusal::new(
                "holds quotation marks",
                "write names exactly as the database stores them, without quotation marks",
            ));
        }
        Ok(TablePattern { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Whether the table is meant. Case counts, as in the database's catalogue.
    pub fn matches(&self, name: &TableName) -> bool {
        glob(&self.schema, &name.schema) && glob(&self.table, &name.table)
    }

    /// The table's name when the pattern holds no wildcard.
    pub fn exact(&self) -> Option<TableName> {
        let wild = |part: &str| part.contains(['*', '?']);
        (!wild(&self.schema) && !wild(&self.table)).then(|| TableName::new(&self.schema, &self.table))
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Matches with one point of return (the last `*`): linear in practice, quadratic at worst.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use proptest::prelude::*;

    fn matches(pattern: &str, schema: &str, table: &str) -> bool {
        TablePattern::parse(pattern).unwrap().matches(&TableName::new(schema, table))
    }

    #[test]
    fn wildcards_stay_on_their_side_of_the_dot() {
        assert!(matches("public.*", "public", "orders"));
        assert!(matches("public.*", "public", "with.dot"));
        assert!(!matches("public.*", "public2", "orders"));
        assert!(matches("*.order_?", "s", "order_1"));
        assert!(!matches("*.order_?", "s", "order_12"));
        assert!(matches("public.a*b*c", "public", "aXbXbc"));
        assert!(!matches("public.Orders", "public", "orders"));
    }

    #[test]
    fn refusals_say_what_to_write() {
        assert_eq!(TablePattern::parse("orders").unwrap_err().advice, "write \"public.orders\"");
        assert_eq!(TablePattern::parse("/re/").unwrap_err().code, codes::CF004);
        assert!(TablePattern::parse(".x").is_err() && TablePattern::parse("x.").is_err());
        assert_eq!(TablePattern::parse("a.b").unwrap().exact(), Some(TableName::new("a", "b")));
        assert_eq!(TablePattern::parse("a.b*").unwrap().exact(), None);
    }

    /// The plain definition, to hold the quick one against.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..])),
            (Some('?'), Some(_)) => slow(&pattern[1..], &text[1..]),
            (Some(a), Some(b)) => a == b && slow(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globbing_agrees_with_its_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }
    }
}
