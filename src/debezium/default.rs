//! What a column's default expression says, as far as Debezium reads it.

/// A default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum DefaultValue {
    /// A constant, as text.
    Constant(String),
    /// Bytes.
    Octets(Vec<u8>),
    /// A call: its value is another for each row, so the schema shows a zero.
    Function,
}

const KEYWORDS: [&str; 6] =
    ["CURRENT_DATE", "CURRENT_TIMESTAMP", "CURRENT_TIME", "LOCALTIMESTAMP", "LOCALTIME", "CURRENT_USER"];

/// Reads `pg_get_expr`'s text. `None`: there is none that can be told, an expression for example.
pub(super) fn parse(expression: &str) -> Option<DefaultValue> {
    let text = expression.trim();
    let is_call = {
        let name: usize =
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '"')).count();
        name > 0 && text.as_bytes().get(name) == Some(&b'(')
    };
    if is_call || KEYWORDS.iter().any(|keyword| text.starts_with(keyword)) {
        return Some(DefaultValue::Function);
    }
    if let Some(literal) = quoted(text) {
        return Some(DefaultValue::Constant(literal));
    }
    let bare = text.split("::").next().unwrap_or_default().trim();
    let bare = bare.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(bare);
    let is_number = bare.bytes().any(|byte| byte.is_ascii_digit())
        && bare.bytes().enumerate().all(|(at, byte)| {
            byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || (at == 0 && byte == b'-')
        });
    (is_number || matches!(bare, "true" | "false")).then(|| DefaultValue::Constant(bare.to_owned()))
}

/// `'text'::type`, `E'te\\xt'`, `B'101'::"bit"`; nothing but casts may follow.
fn quoted(text: &str) -> Option<String> {
    let (has_escapes, rest) = match text.strip_prefix('E') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('B').unwrap_or(text)),
    };
    let mut chars = rest.strip_prefix('\'')?.char_indices().peekable();
    let mut literal = String::new();
    let end = loop {
        match chars.next()? {
            (_, '\'') if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
                literal.push('\'');
            }
            (at, '\'') => break at,
            (_, '\\') if has_escapes => literal.push(chars.next()?.1),
            (_, c) => literal.push(c),
        }
    };
    let behind = rest.get(end + 2..)?;
    (behind.is_empty() || behind.starts_with("::")).then_some(literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_postgres_prints_them() {
        let constant = |text: &str| Some(DefaultValue::Constant(text.to_owned()));
        let known = [
            ("42", constant("42")),
            ("'-1'::integer", constant("-1")),
            ("'de''fault'::text", constant("de'fault")),
            ("E'a\\\\b'::text", constant("a\\b")),
            ("B'101'::\"bit\"", constant("101")),
            ("true", constant("true")),
            ("1.5", constant("1.5")),
            ("(-1)", constant("-1")),
            ("nextval('sq'::regclass)", Some(DefaultValue::Function)),
            ("CURRENT_DATE", Some(DefaultValue::Function)),
            ("upper('x'::text)", Some(DefaultValue::Function)),
            ("(1 + 1)", None),
            ("NULL::integer", None),
            ("('a'::text || 'b'::text)", None),
        ];
        for (expression, expected) in known {
            assert_eq!(parse(expression), expected, "{expression}");
        }
    }
}
