//! YAML text to a tree with the place of every key and value.
//!
//! Built on the event parser inside `serde-saphyr` instead of its serde side, for three reasons. Serde
//! stops at the first error, and a person wants all of them. A scalar's text must survive as written
//! (`0123`, `no`, `1e3` are legal passwords). And `${VAR}` must be replaced after parsing, so that no
//! variable can change the structure.
//!
//! Limits: one document, no tags, nesting to 32, 20,000 nodes counted with every use of an alias.

use super::problem::{Mark, Show};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, options};
use std::collections::BTreeMap;

const NESTING_LIMIT: usize = 32;
const NODE_LIMIT: usize = 20_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `plain`: written without quotes, so that `null` and nothing at all mean "no value".
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_mark: Mark,
    pub(super) value: Node,
}

impl Node {
    /// Whether nothing was written: `key:` or `key: null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// What stands under a key, when it is a section.
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            Value::List(_) | Value::Scalar { .. } => None,
        }
    }

    /// Its text as written, when it is a single value.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a section with keys",
        }
    }

    fn size(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::size).sum(),
            Value::Map(entries) => entries.iter().map(|e| e.value.size()).sum(),
        }
    }
}

/// Something that is wrong with the YAML itself.
#[derive(Debug)]
pub(super) struct SyntaxProblem {
    pub(super) mark: Mark,
    pub(super) show: Show,
    pub(super) message: String,
    pub(super) advice: String,
}

/// Parses one document. The tree is `None` when it could not be read to its end, or is empty (then there
/// are no problems either).
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<SyntaxProblem>) {
    let mut settings = options! {
        flow_nesting_limit: NESTING_LIMIT,
        block_nesting_limit: NESTING_LIMIT,
    };
    settings.set_emit_comments(false);
    let mut builder = Builder {
        parser: Box::new(Parser::new_from_str_with_options(text, settings)),
        anchors: BTreeMap::new(),
        nodes: 0,
        problems: Vec::new(),
    };
    let tree = match builder.document() {
        Ok(tree) => tree,
        Err(Stop::Reported) => None,
        Err(Stop::Scan(error)) => {
            builder.problems.push(explain(text, &error));
            None
        }
    };
    (tree, builder.problems)
}

type Events<'t> = dyn Iterator<Item = Result<(Event<'t>, Span), ScanError>> + 't;

struct Builder<'t> {
    parser: Box<Events<'t>>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    problems: Vec<SyntaxProblem>,
}

enum Stop {
    Scan(ScanError),
    Reported,
}

impl<'t> Builder<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Mark), Stop> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, mark_of(&span))),
            Some(Err(error)) => Err(Stop::Scan(error)),
            None => Ok((Event::StreamEnd, Mark { line: 1, column: 1, width: 1 })),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut tree = None;
        loop {
            let (event, mark) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if tree.is_some() => {
                    return self.stop(mark, "a second YAML document begins", "keep one document in the file");
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(tree.filter(|node: &Node| !node.is_null())),
                other => tree = Some(self.node(other, mark)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, mark: Mark) -> Result<Node, Stop> {
        self.count(1, mark)?;
        if let Some(tag) = event.tag() {
            let message = format!("the tag \"{}\" is not supported", tag.original());
            return self.stop(mark, &message, "remove the tag: every key has one fixed type");
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (Value::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Value::List(self.list()?), anchor),
            Event::MappingStart(_, anchor, _) => (Value::Map(self.map()?), anchor),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return self.stop(mark, "an alias refers to what it is part of", "write the value out");
                };
                self.count(node.size(), mark)?;
                return Ok(node);
            }
            _ => return self.stop(mark, "unexpected YAML structure here", "compare with docs/CONFIG.md"),
        };
        let node = Node { mark, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, mark) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(items),
                other => items.push(self.node(other, mark)?),
            }
        }
    }

    fn map(&mut self) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (event, key_mark) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                other => match self.node(other, key_mark)?.value {
                    Value::Scalar { text, .. } => text,
                    Value::List(_) | Value::Map(_) => {
                        return self.stop(key_mark, "a key is not a single word", "write \"key: value\"");
                    }
                },
            };
            let (event, mark) = self.next()?;
            let value = self.node(event, mark)?;
            if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let line = first.key_mark.line;
                let (message, show) = if super::reader::is_word(&key) {
                    (format!("the key \"{key}\" stands twice; first in line {line}"), Show::UpToMark)
                } else {
                    (format!("a key stands twice; first in line {line}"), Show::Nothing)
                };
                let advice = "keep one of them".to_owned();
                self.problems.push(SyntaxProblem { mark: key_mark, show, message, advice });
                continue;
            }
            entries.push(Entry { key, key_mark, value });
        }
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= NODE_LIMIT {
            return Ok(());
        }
        let message =
            format!("the file holds more than {NODE_LIMIT} values, counted with every use of an alias");
        self.stop(mark, &message, "make it smaller: patterns such as \"public.*\" name many tables")
    }

    fn stop<T>(&mut self, mark: Mark, message: &str, advice: &str) -> Result<T, Stop> {
        let (message, advice) = (message.to_owned(), advice.to_owned());
        self.problems.push(SyntaxProblem { mark, show: Show::Line, message, advice });
        Err(Stop::Reported)
    }
}

fn mark_of(span: &Span) -> Mark {
    let width = if span.start.line() == span.end.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Mark { line: span.start.line(), column: span.start.col() + 1, width: width.max(1) }
}

/// The parser's own words, and a guess at the cause for the mistakes that people make most.
fn explain(text: &str, error: &ScanError) -> SyntaxProblem {
    let marker = error.marker();
    let mark = Mark { line: marker.line(), column: marker.col() + 1, width: 1 };
    let line_of = |number: usize| text.lines().nth(number.wrapping_sub(1)).unwrap_or("");
    let line = line_of(mark.line);
    let above = line_of(mark.line.wrapping_sub(1));
    let advice = if line.trim_start_matches(' ').starts_with('\t')
        || above.trim_start_matches(' ').starts_with('\t')
    {
        "indent with spaces; YAML does not allow tabs"
    } else if unquoted_variable(line) || unquoted_variable(above) {
        "put quotes around a value that holds ${…}"
    } else {
        "check quotes, colons and the indentation of this line and the one above"
    };
    // The parser may stop on a line after the one that it could not read. If a secret may have begun
    // above, show no text.
    let show = if above.trim_end().ends_with([':', '|', '>']) && super::secret::looks_secret(above) {
        Show::Nothing
    } else {
        Show::Line
    };
    SyntaxProblem {
        mark,
        show,
        message: format!("this is not valid YAML: {}", error.info()),
        advice: advice.to_owned(),
    }
}

/// `${` outside quotes: in `{…}` its braces are taken for structure.
fn unquoted_variable(line: &str) -> bool {
    let mut quote = None;
    let mut previous = ' ';
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '{' && previous == '$' => return true,
            None => {}
        }
        previous = c;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problem(text: &str) -> (usize, usize, String, String) {
        let (_, mut problems) = parse(text);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let p = problems.remove(0);
        (p.mark.line, p.mark.column, p.message, p.advice)
    }

    #[test]
    fn scalars_keep_their_text_and_places() {
        let (tree, problems) = parse("a: 0123\nb: [no, \"x y\"]\n# end\nc: {d: 1e3}\n");
        assert!(problems.is_empty(), "{problems:?}");
        let Value::Map(entries) = tree.unwrap().value else { panic!("not a map") };
        let Value::Scalar { text, plain } = &entries[0].value.value else { panic!("not a scalar") };
        assert_eq!((text.as_str(), *plain), ("0123", true));
        let Value::List(items) = &entries[1].value.value else { panic!("not a list") };
        assert_eq!(items[1].mark, Mark { line: 2, column: 9, width: 5 });
        let Value::Map(inner) = &entries[2].value.value else { panic!("not a map") };
        assert_eq!(inner[0].key_mark, Mark { line: 4, column: 5, width: 1 });
    }

    #[test]
    fn problems_have_their_place() {
        assert_eq!(problem("a: 1\nb: 2\na: 3\n").0, 3);
        assert!(problem("a: 1\na: 3\n").2.contains("stands twice; first in line 1"));
        assert!(problem("a: 1\n---\nb: 1\n").2.contains("second YAML document"));
        assert!(problem("a: !!str 1\n").2.contains("tag \"!!str\""));
        assert!(problem("a:\n\tb: 1\n").3.contains("tabs"));
        assert!(problem("a: {b: ${X}, c: d}\n").3.contains("quotes around"));
        assert!(problem("a: &x [*x]\n").2.contains("part of"));
        assert_eq!(problem("a: [1, 2\nb: 3\n").0, 2);
    }

    #[test]
    fn aliases_are_values_and_a_bomb_is_refused() {
        let (tree, problems) = parse("a: &x {k: v}\nb: *x\n");
        assert!(tree.is_some() && problems.is_empty());
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let uses = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{uses}]\n"));
        }
        assert!(problem(&bomb).2.contains("more than"));
    }

    #[test]
    fn nothing_is_an_empty_file() {
        for text in ["", "# only a comment\n", "---\n", "~\n"] {
            let (tree, problems) = parse(text);
            assert!(tree.is_none() && problems.is_empty(), "{text:?} {problems:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let (tree, problems) = parse(&text);
            prop_assert!(tree.is_some() || problems.len() < 100);
        }

        #[test]
        fn yaml_like_text_never_panics(text in "[a-c:\\[\\]{}&*!'\"|>#%@, \n\t-]{0,60}") {
            let (_, problems) = parse(&text);
            for p in problems {
                let place = super::super::problem::Place::new("f", &text, p.mark, p.show);
                prop_assert!(place.line >= 1 || text.is_empty());
            }
        }
    }
}
