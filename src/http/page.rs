//! The page: one embedded file, filled with the status of the moment, so that it says something without JavaScript.

use super::Face;
use crate::telemetry::Status;
use crate::telemetry::status::TableState;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use std::fmt::Write as _;

const PAGE: &str = include_str!("page.html");
/// Nothing from elsewhere, and nothing frames it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// Tables that are named without JavaScript.
const NAMED: usize = 500;

/// `GET /`.
pub(super) async fn page(State(face): State<Face>) -> Response {
    let text = fill(&face.board.status());
    let mut response = Html(text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// As text in HTML.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

fn fill(status: &Status) -> String {
    let lag = match (status.lag_seconds, status.lag_bytes) {
        (Some(seconds), Some(bytes)) => format!("lag {seconds:.1} s / {bytes} bytes"),
        (None, Some(bytes)) => format!("lag {bytes} bytes"),
        (_, None) => "lag unknown".to_owned(),
    };
    let commit = status
        .last_commit
        .map_or("no commit yet".to_owned(), |at| format!("last commit {:.0} s ago", at.age_seconds()));
    let mut source = String::new();
    let facts = [
        ("at", status.source.address.clone()),
        ("server", status.source.server_version.clone()),
        ("slot", status.source.slot.clone()),
        ("position", status.position.map(|p| p.to_string())),
        ("acknowledged", status.acknowledged.map(|p| p.to_string())),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            let _ok = write!(source, "<span><span class=\"soft\">{name} </span>{}</span>", escape(&value));
        }
    }
    let live = status.tables.iter().filter(|table| table.state == TableState::Live).count();
    let parts = [
        ("NAME", escape(&status.name)),
        ("STATE", escape(status.state.as_str())),
        ("LAG", lag),
        ("COMMIT", commit),
        ("ATTENTION", attention(status)),
        ("SOURCE", source),
        ("COUNT", format!("({}, {live} live)", status.tables.len())),
        ("TABLES", tables(status)),
        ("VERSION", escape(&status.version)),
    ];
    let mut text = String::with_capacity(PAGE.len() * 2);
    let mut rest = PAGE;
    // One pass: a name that looks like a placeholder stays a name.
    while let Some(at) = rest.find("<!--") {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let found = parts.iter().find_map(|(name, value)| {
            Some((from.strip_prefix("<!--")?.strip_prefix(name)?.strip_prefix("-->")?, value))
        });
        match found {
            Some((after, value)) => {
                text.push_str(value);
                rest = after;
            }
            None => {
                text.push_str("<!--");
                rest = from.get(4..).unwrap_or_default();
            }
        }
    }
    text.push_str(rest);
    text
}

fn attention(status: &Status) -> String {
    let mut text = String::new();
    if let Some(retrying) = &status.retrying {
        let _ok = write!(
            text,
            "<li><strong class=\"warn\">{}</strong> trying again: {}</li>",
            escape(&retrying.code),
            escape(&retrying.text)
        );
    }
    for reason in &status.reasons {
        let table = reason
            .table
            .as_deref()
            .map_or(String::new(), |table| format!("<strong>{}</strong> ", escape(table)));
        let fix = reason.fix.as_deref().map_or(String::new(), |fix| {
            format!("<div><span class=\"soft\">try </span><code>{}</code></div>", escape(fix))
        });
        let _ok = write!(
            text,
            "<li><strong class=\"bad\">{}</strong> {table}{}{fix}</li>",
            escape(&reason.code),
            escape(&reason.text)
        );
    }
    if text.is_empty() {
        return "<span class=\"good\">Nothing needs attention.</span>".to_owned();
    }
    format!("<h2>Needs attention</h2><ul>{text}</ul>")
}

fn reason_of(status: &Status, table: &str) -> String {
    let reason = status.reasons.iter().find(|reason| reason.table.as_deref() == Some(table));
    reason.map_or(String::new(), |reason| reason.text.clone())
}

fn tables(status: &Status) -> String {
    let mut text = String::new();
    for table in status.tables.iter().take(NAMED) {
        let _ok = write!(
            text,
            "<tr><td>{}</td><td>{} {}</td><td class=\"wide\">{}</td><td class=\"wide\">{}</td><td>{}</td><td></td></tr>",
            escape(&table.name),
            table.state,
            escape(table.code.as_deref().unwrap_or_default()),
            table.position.map_or(String::new(), |p| p.to_string()),
            table.version.map_or(String::new(), |v| v.to_string()),
            escape(&reason_of(status, &table.name)),
        );
    }
    if status.tables.len() > NAMED {
        let _ok = write!(text, "<tr><td colspan=\"6\">and {} more</td></tr>", status.tables.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;
    use crate::schema::TableName;

    #[test]
    fn names_from_elsewhere_stay_text() {
        let mut status = Status::starting("<!--TABLES-->");
        status.table(&TableName::new("s", "<script>alert(1)</script>")).stop(codes::PG022, "<!--NAME-->\"'");
        status.settle();
        let text = fill(&status);
        assert!(!text.contains("<script>alert"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
        assert!(text.contains("&lt;!--TABLES--&gt;"), "{text}");
        for placeholder in ["<!--STATE", "<!--SOURCE", "<!--COUNT", "<!--VERSION"] {
            assert!(!text.contains(placeholder), "{placeholder}");
        }
    }
}
