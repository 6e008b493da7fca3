//! `${VAR}` in scalars, after the YAML is parsed: a value can never change the file's structure.
//!
//! | written | becomes |
//! |---|---|
//! | `${VAR}` | the variable; not set: an error |
//! | `${VAR:-text}` | the variable, or `text` when it is not set or empty |
//! | `${VAR:?text}` | the variable; not set or empty: an error that says `text` |
//! | `$$` | `$` |
//!
//! A `$` before anything else stays as it is, because passwords hold it.

use std::borrow::Cow;

/// Why a scalar could not be substituted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SubstituteError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// Replaces every `${…}` and `$$`. `Borrowed` when there was none.
pub(super) fn substitute<'t>(
    text: &'t str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Cow<'t, str>, SubstituteError> {
    if !text.contains("$$") && !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            out.push('$');
            rest = next;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some(end) = inside.find('}') else {
                return Err(SubstituteError {
                    message: "a \"${\" is never closed".to_owned(),
                    advice: "close it with \"}\", or write \"$$\" for a plain dollar sign".to_owned(),
                });
            };
            out.push_str(&expand(&inside[..end], lookup)?);
            rest = &inside[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn expand(inside: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, SubstituteError> {
    let name_end = inside.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inside.len());
    let (name, operator) = inside.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(SubstituteError {
            message: "a \"${…}\" does not begin with the name of a variable".to_owned(),
            advice: "write ${NAME}, or \"$$\" for a plain dollar sign".to_owned(),
        });
    }
    if inside.contains("${") {
        return Err(SubstituteError {
            message: format!("\"${{{name}…}}\" holds another \"${{\""),
            advice: "substitutions cannot be nested: set one variable to the final value".to_owned(),
        });
    }
    let value = lookup(name);
    if operator.is_empty() {
        return value.ok_or_else(|| SubstituteError {
            message: format!("the environment variable \"{name}\" is not set"),
            advice: format!("set {name}, or give a default: ${{{name}:-default}}"),
        });
    }
    let value = value.filter(|text| !text.is_empty());
    if let Some(default) = operator.strip_prefix(":-") {
        Ok(value.unwrap_or_else(|| default.to_owned()))
    } else if let Some(message) = operator.strip_prefix(":?") {
        let message = if message.is_empty() { "is not set or empty" } else { message };
        value.ok_or_else(|| SubstituteError {
            message: format!("the environment variable \"{name}\": {message}"),
            advice: format!("set {name} in the environment of the strandline process"),
        })
    } else {
        Err(SubstituteError {
            message: format!("\"${{{name}…}}\" has an unknown operator after the name"),
            advice: format!("use ${{{name}}}, ${{{name}:-default}} or ${{{name}:?message}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(text: &str) -> Result<String, SubstituteError> {
        let lookup = |name: &str| match name {
            "A" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "EVIL" => Some("${A} $$ : [x]".to_owned()),
            _ => None,
        };
        substitute(text, &lookup).map(Cow::into_owned)
    }

    #[test]
    fn every_form() {
        for (text, result) in [
            ("x", "x"),
            ("${A}", "value"),
            ("a${A}b${A}", "avaluebvalue"),
            ("${NO:-def}", "def"),
            ("${EMPTY:-def}", "def"),
            ("${EMPTY}", ""),
            ("${A:-def}", "value"),
            ("${A:?m}", "value"),
            ("pa$$wd $x $", "pa$wd $x $"),
            ("$${A}", "${A}"),
            ("${EVIL}", "${A} $$ : [x]"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn every_error() {
        for (text, message) in [
            ("${NO}", "the environment variable \"NO\" is not set"),
            ("${NO:?say why}", "the environment variable \"NO\": say why"),
            ("${EMPTY:?}", "the environment variable \"EMPTY\": is not set or empty"),
            ("${A", "a \"${\" is never closed"),
            ("${}", "a \"${…}\" does not begin with the name of a variable"),
            ("${1A}", "a \"${…}\" does not begin with the name of a variable"),
            ("${A-x}", "\"${A…}\" has an unknown operator after the name"),
            ("${NO:-${A}}", "\"${NO…}\" holds another \"${\""),
        ] {
            assert_eq!(with(text).unwrap_err().message, message, "{text}");
        }
    }

    proptest! {
        #[test]
        fn doubling_every_dollar_keeps_any_text(text in any::<String>()) {
            let escaped = text.replace('$', "$$");
            prop_assert_eq!(substitute(&escaped, &|_| None).unwrap().into_owned(), text);
        }
    }
}
