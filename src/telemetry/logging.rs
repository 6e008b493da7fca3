//! The log: one line per thing that happened, on standard error.
//!
//! Text on a terminal, one JSON object a line otherwise. The JSON keys are fixed: `ts`, `level`, `msg`,
//! `target`, then the event's own fields, of which `code`, `table`, `lsn`, `epoch`, `pipeline` and `error`
//! always mean the same. Fields of the spans around an event are added, the innermost winning. Never a row's
//! values, never a secret. ERROR means that a person must act.
//!
//! What libraries say below `info` is never written, also when `RUST_LOG` asks for it: the Delta kernel prints the
//! statistics of data files there, which are values of rows.

use super::status::Timestamp;
use serde_json::{Map, Value};
use std::fmt::{self, Write as _};
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Levels of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// Something is unusual.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All of them.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// From this level up; libraries log from `warn` up.
    pub level: LogLevel,
    /// `RUST_LOG`, which then decides alone.
    pub filter: Option<String>,
    /// Text or JSON.
    pub format: LogFormat,
    /// Colours in text. `None`: on a terminal, unless `NO_COLOR` is set.
    pub color: Option<bool>,
}

/// Begins logging. A second call changes nothing: the first one wins.
pub fn init(settings: &LogSettings) {
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = settings.color.unwrap_or(terminal && !no_color);
    let layer =
        LineLayer { form: if json { Form::Json } else { Form::Text { color } }, out: Output::StandardError };
    let (filter, handle) = reload::Layer::new(filter(settings));
    let layer = layer.with_filter(filter.and(filter_fn(may_be_said)));
    let is_first = tracing_subscriber::registry().with(layer).try_init().is_ok();
    if is_first && settings.filter.is_none() {
        let _first = HANDLE.set(handle);
    }
}

/// Our own words, and those of libraries that are meant for operators.
fn may_be_said(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("strandline") || *metadata.level() <= Level::INFO
}

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Logs from this level up from now on, where `RUST_LOG` does not decide.
pub fn set_level(level: LogLevel) {
    let wanted = LogSettings { level, filter: None, format: LogFormat::Auto, color: None };
    if let Some(handle) = HANDLE.get() {
        // The log has ended with the process when this fails.
        let _ended = handle.reload(filter(&wanted));
    }
}

/// What is drawn below the log.
static DRAWN: Mutex<String> = Mutex::new(String::new());

/// Takes the line below the log away.
const CLEAR: &str = "\r\x1b[2K";

/// Draws this line below the log, in the place of the one before; an empty one takes it away. For terminals only.
pub fn draw(line: &str) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    if drawn.is_empty() && line.is_empty() {
        return;
    }
    let _gone = std::io::stderr().lock().write_all(format!("{CLEAR}{line}").as_bytes());
    line.clone_into(&mut drawn);
}

fn filter(settings: &LogSettings) -> EnvFilter {
    let usual = || {
        let level = settings.level.as_str();
        EnvFilter::new(format!("{},strandline={level}", if level == "error" { "error" } else { "warn" }))
    };
    match &settings.filter {
        Some(text) => EnvFilter::builder()
            .with_default_directive(LevelFilter::WARN.into())
            .parse(text)
            .unwrap_or_else(|_| usual()),
        None => usual(),
    }
}

enum Output {
    StandardError,
    #[cfg(test)]
    Buffer(std::sync::Arc<Mutex<String>>),
}

enum Form {
    Text { color: bool },
    Json,
}

/// Writes each event as one line.
struct LineLayer {
    form: Form,
    out: Output,
}

/// Fields of a span or an event, in the order of writing.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            let _written = write!(text, ": {cause}");
            next = cause.source();
        }
        self.0.insert(field.name().to_owned(), Value::from(text));
    }
}

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for LineLayer {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &tracing::span::Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(outer) = span.extensions().get::<Fields>() {
                    for (key, value) in &outer.0 {
                        fields.0.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
        }
        let now = Timestamp::now();
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let line = match self.form {
            Form::Json => json_line(now, level, target, message, fields.0),
            Form::Text { color } => text_line(now, level, &message, &fields.0, color),
        };
        self.out.write(&line);
    }
}

impl Output {
    fn write(&self, line: &str) {
        match self {
            Output::StandardError => {
                let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
                let below = if drawn.is_empty() { line.to_owned() } else { format!("{CLEAR}{line}{drawn}") };
                // One call per line, so that lines of several threads do not mix. When standard error is
                // gone there is nobody to tell.
                let _result = std::io::stderr().lock().write_all(below.as_bytes());
            }
            #[cfg(test)]
            Output::Buffer(buffer) => {
                buffer.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
            }
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn json_line(now: Timestamp, level: Level, target: &str, msg: String, fields: Map<String, Value>) -> String {
    let mut line = String::from("{");
    let mut add = |key: &str, value: &Value| {
        let comma = if line.len() > 1 { "," } else { "" };
        let _written = write!(line, "{comma}{}:{value}", Value::from(key));
    };
    add("ts", &Value::from(now.to_string()));
    add("level", &Value::from(level_name(level)));
    add("msg", &Value::from(msg));
    add("target", &Value::from(target));
    for (key, value) in fields {
        // The four fixed keys cannot be taken by an event's own field.
        let fixed = matches!(key.as_str(), "ts" | "level" | "msg" | "target");
        add(&if fixed { format!("field_{key}") } else { key }, &value);
    }
    line.push_str("}\n");
    line
}

fn text_line(now: Timestamp, level: Level, msg: &str, fields: &Map<String, Value>, color: bool) -> String {
    let (paint, plain) = match (color, level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
        (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
        (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
    };
    let mut line = format!("{now} {paint}{:5}{plain} {}", level_name(level).to_uppercase(), one_line(msg));
    for (key, value) in fields {
        let _written = match value {
            Value::String(text) if is_plain(text) => write!(line, " {key}={text}"),
            other => write!(line, " {key}={other}"),
        };
    }
    line.push('\n');
    line
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '=']) && !text.chars().any(char::is_control)
}

/// A line break or control character in a message must not look like another line of the log.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn logged(form: Form, settings: &LogSettings, act: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(String::new()));
        let layer = LineLayer { form, out: Output::Buffer(Arc::clone(&buffer)) };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(settings)));
        tracing::subscriber::with_default(subscriber, act);
        std::mem::take(&mut *buffer.lock().unwrap())
    }

    fn settings(level: LogLevel) -> LogSettings {
        LogSettings { level, filter: None, format: LogFormat::Json, color: None }
    }

    #[test]
    fn a_json_line_has_the_fixed_keys_and_the_fields() {
        let text = logged(Form::Json, &settings(LogLevel::Info), || {
            let _span = tracing::info_span!("table", table = "public.orders", lsn = "0/1").entered();
            tracing::info!(code = "PG022", rows = 7_u64, lsn = "0/2", level = "x", "stopped \"now\"\nreally");
            tracing::debug!("not shown");
            tracing::info!(target: "tokio_postgres", "not shown");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        let json: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(json["msg"], "stopped \"now\"\nreally");
        assert_eq!((json["level"].as_str(), json["field_level"].as_str()), (Some("info"), Some("x")));
        assert_eq!((json["code"].as_str(), json["rows"].as_u64()), (Some("PG022"), Some(7)));
        assert_eq!((json["table"].as_str(), json["lsn"].as_str()), (Some("public.orders"), Some("0/2")));
        assert!(lines[0].starts_with("{\"ts\":\"20"), "{text}");
    }

    #[test]
    fn a_text_line_is_one_line() {
        let text = logged(Form::Text { color: false }, &settings(LogLevel::Info), || {
            tracing::warn!(error = "a b", table = "s.t", "first\nsecond");
        });
        assert!(text.ends_with(" WARN  first second error=\"a b\" table=s.t\n"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn rust_log_decides_alone_when_it_is_set() {
        let with =
            |filter: &str| LogSettings { filter: Some(filter.to_owned()), ..settings(LogLevel::Error) };
        let act = || tracing::info!(target: "other", "shown");
        assert!(logged(Form::Json, &with("other=info"), act).contains("shown"));
        assert_eq!(logged(Form::Json, &with("off"), act), "");
        assert_eq!(logged(Form::Json, &settings(LogLevel::Trace), act), "");
    }
}
