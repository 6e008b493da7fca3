//! What is wrong with a configuration, all of it at once, with the place in the file.
//!
//! A snippet shows the offending line, and lines of this file hold secrets. So a snippet masks what looks
//! like one (`secret_ranges`), and shows nothing after a key that we do not know.

use super::secret::{MASK, secret_ranges};
use crate::error::{Code, Error, codes};
use std::fmt::Write as _;

/// Longest snippet line, in characters; longer lines are cut around the caret.
const SNIPPET_WIDTH: usize = 100;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// How many characters, at least 1.
    pub width: usize,
}

/// How much of the line behind a mark may be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Show {
    /// The whole line, with secrets masked.
    Line,
    /// Nothing after the marked text: its value may be anything.
    UpToMark,
    /// Only the place.
    Nothing,
}

/// Why one value was refused, before it is known where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// CF003, or CF004 for what is not built yet.
    pub code: Code,
    /// What is wrong, to stand after the value: `has no unit`.
    pub problem: String,
    /// What to write instead.
    pub advice: String,
}

impl Refusal {
    /// A value that is not allowed.
    pub fn new(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Refusal { code: codes::CF003, problem: problem.into(), advice: advice.into() }
    }

    /// A value that is known and not built yet.
    pub fn not_built(problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Refusal { code: codes::CF004, problem: problem.into(), advice: advice.into() }
    }
}

/// Where a problem is, ready to be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The line, masked and cut; `None` when nothing may be shown.
    snippet: Option<Snippet>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Snippet {
    text: String,
    caret_from: usize,
    caret_width: usize,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Which kind: CF001 to CF005.
    pub code: Code,
    /// What was found.
    pub message: String,
    /// What to write instead.
    pub advice: Option<String>,
    /// Where. `None` when it came from the command line or from something missing.
    pub place: Option<Place>,
}

impl Problem {
    /// Without a place.
    pub fn new(code: Code, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Problem { code, message: message.into(), advice: Some(advice.into()), place: None }
    }

    /// For people: message, place with snippet, advice.
    fn write(&self, out: &mut String) {
        let _written = writeln!(out, "error {}: {}", self.code, self.message);
        if let Some(place) = &self.place {
            place.write(out);
        }
        if let Some(advice) = &self.advice {
            let _written = writeln!(out, "  try: {}", advice.replace('\n', "\n       "));
        }
        let _written = writeln!(out, "  see: docs/errors/{}.md ({})", self.code, self.code.title);
    }
}

impl Place {
    /// Cuts the line out of `text`.
    pub fn new(file: &str, text: &str, mark: Mark, show: Show) -> Self {
        let line = text.lines().nth(mark.line.saturating_sub(1)).unwrap_or("");
        let snippet = match show {
            Show::Nothing => None,
            Show::Line | Show::UpToMark => Some(Snippet::new(line, mark, show)),
        };
        Place { file: file.to_owned(), line: mark.line, column: mark.column, snippet }
    }

    fn write(&self, out: &mut String) {
        let _written = writeln!(out, "  --> {}:{}:{}", self.file, self.line, self.column);
        let Some(snippet) = &self.snippet else { return };
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let _written = writeln!(out, " {margin} |\n {number} | {}", snippet.text);
        let indent = " ".repeat(snippet.caret_from);
        let _written = writeln!(out, " {margin} | {indent}{}", "^".repeat(snippet.caret_width));
    }
}

impl Snippet {
    fn new(line: &str, mark: Mark, show: Show) -> Self {
        let chars: Vec<char> = line.chars().collect();
        let from = (mark.column.saturating_sub(1)).min(chars.len());
        let to = (from + mark.width).min(chars.len());
        // Work on a copy with one entry per character of the file, and map the caret along.
        let mut shown = String::new();
        let (mut caret_from, mut caret_to) = (None, None);
        let mut count = 0;
        let masked = masked_characters(line);
        for (at, c) in chars.iter().enumerate() {
            if at == from {
                caret_from = Some(count);
            }
            if at == to {
                caret_to = Some(count);
                if show == Show::UpToMark {
                    break;
                }
            }
            if !masked[at] {
                shown.push(if c.is_control() { ' ' } else { *c });
                count += 1;
            } else if at == 0 || !masked[at - 1] {
                shown.push_str(MASK);
                count += MASK.len();
            }
        }
        let mut caret_from = caret_from.unwrap_or(count);
        let caret_width = caret_to.unwrap_or(count).saturating_sub(caret_from).max(1);
        if show == Show::UpToMark && to < chars.len() {
            shown.push_str(" …");
        }
        let cut = cut_around(&mut shown, caret_from);
        caret_from -= cut;
        Snippet { text: shown.trim_end().to_owned(), caret_from, caret_width: caret_width.min(SNIPPET_WIDTH) }
    }
}

fn masked_characters(line: &str) -> Vec<bool> {
    let ranges = secret_ranges(line);
    line.char_indices().map(|(at, _)| ranges.iter().any(|range| range.contains(&at))).collect()
}

/// Cuts a long line to a window that holds the caret; says by how many characters the caret moves.
fn cut_around(text: &mut String, caret: usize) -> usize {
    let count = text.chars().count();
    if count <= SNIPPET_WIDTH {
        return 0;
    }
    let start = caret.saturating_sub(SNIPPET_WIDTH / 2).min(count - SNIPPET_WIDTH);
    let mut window: String = text.chars().skip(start).take(SNIPPET_WIDTH).collect();
    if start + SNIPPET_WIDTH < count {
        window.push('…');
    }
    if start > 0 {
        window.insert(0, '…');
    }
    *text = window;
    start - usize::from(start > 0)
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// From what was found. `None` when nothing was.
    pub fn from_problems(mut problems: Vec<Problem>) -> Option<Self> {
        // In the order of the file; what has no place comes last.
        problems.sort_by_key(|p| p.place.as_ref().map_or((usize::MAX, 0), |at| (at.line, at.column)));
        if problems.is_empty() { None } else { Some(ConfigError { problems }) }
    }

    /// One problem.
    pub fn one(problem: Problem) -> Self {
        ConfigError { problems: vec![problem] }
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The first problem's code.
    pub fn code(&self) -> Code {
        self.problems.first().map_or(codes::CF001, |p| p.code)
    }

    /// For people: every problem with its place and advice.
    pub fn report(&self) -> String {
        let mut out = String::new();
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                out.push('\n');
            }
            problem.write(&mut out);
        }
        if self.problems.len() > 1 {
            let _written = writeln!(out, "\n{} problems", self.problems.len());
        }
        out.truncate(out.trim_end().len());
        out
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        let line = |p: &Problem| match &p.place {
            Some(at) => format!("{}:{}:{}: {}", at.file, at.line, at.column, p.message),
            None => p.message.clone(),
        };
        let code = error.code();
        let text = error.problems.iter().map(line).collect::<Vec<_>>().join("; ");
        let advice = error.problems.into_iter().find_map(|p| p.advice);
        let error = Error::new(code, text);
        match advice {
            Some(advice) => error.with_try(advice),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, mark: Mark, show: Show) -> String {
        let mut out = String::new();
        Place::new("f.yaml", text, mark, show).write(&mut out);
        out
    }

    #[test]
    fn the_caret_stands_under_the_text_also_behind_a_masked_secret() {
        let line = "source: {url: \"postgres://u:a-long-password@h/db\", slto: x}";
        let column = line.find("slto").unwrap() + 1;
        assert_eq!(
            shown(&format!("version: 1\n{line}\n"), Mark { line: 2, column, width: 4 }, Show::UpToMark),
            format!(
                "  --> f.yaml:2:{column}\n   |\n 2 | source: {{url: \"postgres://u:***@h/db\", slto …\n   | {}^^^^\n",
                " ".repeat("source: {url: \"postgres://u:***@h/db\", ".len())
            )
        );
    }

    #[test]
    fn a_mark_inside_a_secret_points_at_the_mask() {
        let text = shown("password: hunter2", Mark { line: 1, column: 12, width: 3 }, Show::Line);
        assert!(!text.contains("unter") && text.contains("password: ***\n"), "{text}");
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let line = format!("{}bad{}", "x".repeat(300), "y".repeat(300));
        let text = shown(&line, Mark { line: 1, column: 301, width: 3 }, Show::Line);
        let rows: Vec<&str> = text.lines().collect();
        let caret: Vec<usize> = rows[3].char_indices().filter(|(_, c)| *c == '^').map(|(at, _)| at).collect();
        let under: String = caret.iter().map(|at| rows[2].chars().nth(*at).unwrap()).collect();
        assert_eq!(under, "bad");
        assert!(rows[2].chars().count() < 120);
    }

    #[test]
    fn a_place_beyond_the_text_is_shown_without_panic() {
        shown("", Mark { line: 9, column: 9, width: 9 }, Show::Line);
        shown("ä", Mark { line: 1, column: 2, width: 1 }, Show::UpToMark);
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let at = |line| Some(Place::new("f", "a\nb\n", Mark { line, column: 1, width: 1 }, Show::Line));
        let problem = |message: &str, place| Problem { place, ..Problem::new(codes::CF003, message, "") };
        let error = ConfigError::from_problems(vec![
            problem("nowhere", None),
            problem("second", at(2)),
            problem("first", at(1)),
        ])
        .unwrap();
        let order: Vec<&str> = error.problems().iter().map(|p| p.message.as_str()).collect();
        assert_eq!(order, ["first", "second", "nowhere"]);
        assert!(error.report().ends_with("3 problems"));
    }
}
