//! The house rules, as a test: what a compiler would enforce if the layers were crates of their own.
//!
//! Each rule is a function from a file's path and text to findings, and each has a case below it that
//! shows that it bites. `docs/adr/0001-one-package-and-a-tidy-test.md` says why.

#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use strandline::error::codes;

const MAX_LINES: usize = 800;

// ---------------------------------------------------------------------------------------------------
// The rules, applied to the project.

#[test]
fn imports_point_down() {
    let layers = layers_of(&read(&root().join("src/lib.rs")));
    assert!(layers.len() >= 8, "the table of layers in src/lib.rs was not found: {layers:?}");
    report(sources().iter().flat_map(|(path, text)| upward_imports(&layers, path, text)));
}

#[test]
fn every_module_has_a_layer() {
    let lib = read(&root().join("src/lib.rs"));
    let layers = layers_of(&lib);
    report(
        declared_modules(&lib)
            .into_iter()
            .filter(|name| !layers.contains_key(name))
            .map(|name| format!("src/lib.rs: module {name} is not in the table of layers")),
    );
}

#[test]
fn decisions_and_codecs_are_pure() {
    let layers = layers_of(&read(&root().join("src/lib.rs")));
    report(sources().iter().flat_map(|(path, text)| impure_words(&layers, path, text)));
}

#[test]
fn adapters_do_not_know_each_other() {
    report(sources().iter().flat_map(|(path, text)| adapter_imports(path, text)));
}

#[test]
fn files_are_short() {
    report(sources().iter().filter_map(|(path, text)| too_long(path, text)));
}

#[test]
fn nothing_panics_on_purpose() {
    report(sources().iter().flat_map(|(path, text)| panics(path, text)));
}

#[test]
fn lints_are_expected_never_allowed() {
    report(sources().iter().flat_map(|(path, text)| allows(path, text)));
}

#[test]
fn every_todo_has_an_issue() {
    let mut files = sources();
    files.extend(files_with("tests", &["rs", "py"]).into_iter().filter(|(path, _)| path != "tests/tidy.rs"));
    files.extend(files_with("scripts", &["sh"]));
    report(files.iter().flat_map(|(path, text)| open_todos(path, text)));
}

#[test]
fn every_error_code_has_its_page_and_every_page_its_code() {
    let pages: BTreeMap<String, String> = files_with("docs/errors", &["md"])
        .into_iter()
        .filter_map(|(path, text)| Some((path.rsplit('/').next()?.strip_suffix(".md")?.to_owned(), text)))
        .filter(|(name, _)| name != "README")
        .collect();
    let mut found: Vec<String> = pages
        .keys()
        .filter(|id| codes::find(id).is_none())
        .map(|id| format!("docs/errors/{id}.md: no such code in src/error.rs"))
        .collect();
    for code in codes::ALL {
        match pages.get(code.id) {
            None => found.push(format!("docs/errors/{}.md is missing", code.id)),
            Some(text) => found.extend(bad_page(code.id, code.title, text)),
        }
    }
    report(found);
}

#[test]
fn markdown_links_are_alive() {
    let pages: Vec<(String, String)> = files_with("", &["md"]);
    let headings: BTreeMap<String, BTreeSet<String>> =
        pages.iter().map(|(path, text)| (path.clone(), anchors(text))).collect();
    assert!(pages.len() > 5, "no documents found");
    report(
        pages.iter().flat_map(|(path, text)| {
            dead_links(path, text, &headings, &|target| root().join(target).exists())
        }),
    );
}

#[test]
fn every_promise_names_tests_that_exist() {
    let tests = test_names();
    let text = read(&root().join("docs/GUARANTEES.md"));
    let named = named_tests(&text);
    assert!(named.len() >= 8, "docs/GUARANTEES.md names too few tests: {named:?}");
    report(
        named
            .into_iter()
            .filter(|name| !tests.contains(name))
            .map(|name| format!("docs/GUARANTEES.md: there is no test {name}")),
    );
}

/// Every case of the list has a row, and every test that a row names exists.
#[test]
fn every_case_that_broke_others_names_its_test() {
    let tests = test_names();
    let text = read(&root().join("docs/TORTURE.md"));
    let mut findings = Vec::new();
    let mut cases = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| P") || line.starts_with("| S")) {
        let cells: Vec<&str> = row.split('|').collect();
        let [_, ids, what, named, ..] = cells[..] else { continue };
        cases.extend(ids.split_whitespace().map(str::to_owned));
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if names.iter().all(|name| !name.contains("::")) && !what.contains("*open*") {
            findings.push(format!("docs/TORTURE.md: {ids}names no test and is not open"));
        }
        let missing = names.into_iter().filter(|name| name.contains("::") && !tests.contains(*name));
        findings.extend(missing.map(|name| format!("docs/TORTURE.md: there is no test {name}")));
    }
    for (letters, last) in [("PV", 50), ("PR", 67), ("SN", 24), ("SE", 27)] {
        let all = (1..=last).map(|n| format!("{letters}-{n:02}"));
        findings.extend(
            all.filter(|case| !cases.contains(case)).map(|case| format!("docs/TORTURE.md: no {case}")),
        );
    }
    report(findings);
}

#[test]
fn dependencies_are_audited() {
    let rules = read(&root().join("deny.toml"));
    let mut findings = Vec::new();
    for rule in ["unknown-registry = \"deny\"", "unknown-git = \"deny\"", "yanked = \"deny\"", "[licenses]"] {
        if !rules.contains(rule) {
            findings.push(format!("deny.toml: no {rule}"));
        }
    }
    if !read(&root().join("scripts/check.sh")).contains("cargo deny --locked check") {
        findings.push("scripts/check.sh: dependencies are not looked at".to_owned());
    }
    report(findings);
}

#[test]
fn old_migrations_do_not_change() {
    let files = files_with("migrations", &["sql"]);
    if files.is_empty() {
        return;
    }
    let recorded = std::fs::read_to_string(root().join("migrations/HASHES")).unwrap_or_default();
    report(changed_migrations(&files, &recorded));
}

// ---------------------------------------------------------------------------------------------------
// The rules themselves.

/// Modules of the table in the header of `src/lib.rs`, with their layer.
fn layers_of(lib: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for line in lib.lines() {
        let Some(row) = line.strip_prefix("//! | ") else { continue };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Ok(layer) = cells[0].parse::<u32>() else { continue };
        for name in cells[1].split('`').skip(1).step_by(2) {
            layers.insert(name.to_owned(), layer);
        }
    }
    layers
}

fn declared_modules(lib: &str) -> Vec<String> {
    code_only(lib)
        .lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("pub mod ").or_else(|| line.trim().strip_prefix("mod "))?;
            Some(rest.trim_end_matches([';', ' ', '{']).to_owned())
        })
        .collect()
}

fn upward_imports(layers: &BTreeMap<String, u32>, path: &str, text: &str) -> Vec<String> {
    let Some(own) = module_of(path) else { return Vec::new() };
    let Some(&layer) = layers.get(&own) else { return Vec::new() };
    let code = product_code(text);
    let mut found = Vec::new();
    for (line, used) in crate_paths(path, &code) {
        let Some(name) = used.first() else { continue };
        let Some(&other) = layers.get(name) else { continue };
        let wrong = match (own.as_str(), name.as_str()) {
            _ if own == *name => None,
            _ if other > layer => Some("imports only point down"),
            ("source", "sink") | ("sink", "source") => Some("sources and sinks never see each other"),
            _ if layer == 1 && other == 1 => Some("codecs never see each other"),
            _ if layer == 2 && other == 1 => Some("decisions never see codecs"),
            ("config", "runtime") => Some("the configuration does not know who runs it"),
            _ => None,
        };
        if let Some(why) = wrong {
            found.push(format!("{path}:{line}: {own} (layer {layer}) uses {name} (layer {other}): {why}"));
        }
    }
    found
}

/// `sink::delta` and its like are named by their own folder and by `cli::wire` only.
fn adapter_imports(path: &str, text: &str) -> Vec<String> {
    const ADAPTERS: &[(&str, &str)] = &[
        ("source", "postgres"),
        ("source", "mysql"),
        ("source", "kafka"),
        ("sink", "delta"),
        ("sink", "kafka"),
        ("sink", "stdout"),
        ("sink", "discard"),
    ];
    if path.starts_with("src/cli/wire") || path == "src/lib.rs" {
        return Vec::new();
    }
    let code = product_code(text);
    let mut found = Vec::new();
    for (line, used) in crate_paths(path, &code) {
        let [side, adapter, ..] = used.as_slice() else { continue };
        let named = ADAPTERS.iter().any(|(s, a)| s == side && a == adapter);
        let own = format!("src/{side}/{adapter}");
        if named && !path.starts_with(&own) {
            found.push(format!("{path}:{line}: names the adapter {side}::{adapter}; only cli::wire does"));
        }
    }
    found
}

fn impure_words(layers: &BTreeMap<String, u32>, path: &str, text: &str) -> Vec<String> {
    const WORDS: &[&str] = &[
        "tokio",
        "tokio_postgres",
        "object_store",
        "deltalake",
        "rdkafka",
        "mysql_async",
        "rand",
        "memmap2",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "Instant::now",
        "SystemTime::now",
        "Utc::now",
        "Local::now",
        "new_v4",
        "async",
        "await",
        "println!",
        "eprintln!",
    ];
    const STD: &[&str] = &["fs", "net", "thread", "env", "process"];
    let pure = module_of(path).and_then(|own| layers.get(&own).copied()).is_some_and(|layer| layer <= 2);
    if !pure {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in product_code(text).lines().enumerate() {
        let grouped =
            line.trim_start().starts_with("use std::{") && STD.iter().any(|word| has_word(line, word));
        let word = WORDS.iter().find(|word| has_word(line, word)).copied();
        if let Some(word) = word.or(grouped.then_some("std::{…}")) {
            found.push(format!("{path}:{}: layers 0 to 2 are pure, without {word}", number + 1));
        }
    }
    found
}

fn too_long(path: &str, text: &str) -> Option<String> {
    let lines = product_code(text).lines().filter(|line| *line != TEST_LINE).count();
    (lines > MAX_LINES).then(|| format!("{path}: {lines} lines without tests, at most {MAX_LINES}"))
}

fn panics(path: &str, text: &str) -> Vec<String> {
    // `expect` of Option and Result takes text (blanked here); a parser may have one of its own.
    const WORDS: &[&str] = &[
        ".unwrap()",
        ".expect( ",
        ".expect(&",
        ".expect_err(",
        ".unwrap_err()",
        "panic!",
        "todo!",
        "unreachable!",
        "unimplemented!",
    ];
    let mut found = Vec::new();
    for (number, line) in product_code(text).lines().enumerate() {
        for word in WORDS.iter().filter(|word| line.contains(**word)) {
            found.push(format!("{path}:{}: {word} outside tests; return an error", number + 1));
        }
    }
    found
}

fn allows(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code_only(text).lines().enumerate() {
        if line.contains("#[allow(") || line.contains("#![allow(") {
            found.push(format!("{path}:{}: write #[expect(…, reason = \"…\")]", number + 1));
        }
    }
    found
}

fn open_todos(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let marked = ["TODO", "FIXME", "XXX"].iter().any(|word| has_word(line, word));
        let numbered =
            line.split('#').skip(1).any(|rest| rest.chars().next().is_some_and(|c| c.is_ascii_digit()));
        if marked && !numbered {
            found.push(format!("{path}:{}: a TODO without the number of its issue (#12)", number + 1));
        }
    }
    found
}

fn bad_page(id: &str, title: &str, text: &str) -> Vec<String> {
    const SECTIONS: &[&str] =
        &["## Meaning", "## How it is noticed", "## Cause", "## What to do", "## What is lost"];
    let mut found = Vec::new();
    let first = format!("# {id}: {title}");
    if text.lines().next() != Some(first.as_str()) {
        found.push(format!("docs/errors/{id}.md: the first line must be \"{first}\""));
    }
    for section in SECTIONS {
        let body: Vec<&str> = text
            .lines()
            .skip_while(|line| line != section)
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter(|line| !line.trim().is_empty())
            .collect();
        if body.is_empty() {
            found.push(format!("docs/errors/{id}.md: \"{section}\" is missing or empty"));
        }
    }
    found
}

fn dead_links(
    path: &str,
    text: &str,
    headings: &BTreeMap<String, BTreeSet<String>>,
    exists: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (number, line) in without_fences(text).lines().enumerate() {
        for target in link_targets(line) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').map_or((target, ""), |(f, a)| (f, a));
            let file = if file.is_empty() { path.to_owned() } else { normalised(folder, file) };
            if !exists(&file) {
                found.push(format!("{path}:{}: dead link {target}", number + 1));
            } else if !anchor.is_empty() && headings.get(&file).is_some_and(|h| !h.contains(anchor)) {
                found.push(format!("{path}:{}: {file} has no heading #{anchor}", number + 1));
            }
        }
    }
    found
}

fn changed_migrations(files: &[(String, String)], recorded: &str) -> Vec<String> {
    let mut known: BTreeMap<&str, &str> =
        recorded.lines().filter_map(|line| line.split_once("  ")).map(|(hash, path)| (path, hash)).collect();
    let mut found = Vec::new();
    for (path, text) in files {
        let hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()));
        match known.remove(path.as_str()) {
            None => found.push(format!("migrations/HASHES lacks: {hash}  {path}")),
            Some(old) if old != hash => {
                found.push(format!("{path} changed ({hash}): never edit a migration, add the next one"));
            }
            Some(_) => {}
        }
    }
    found.extend(known.keys().map(|path| format!("{path} is gone; a migration stays")));
    found
}

// ---------------------------------------------------------------------------------------------------
// Reading Rust, roughly.

/// What a line of test code is replaced by.
const TEST_LINE: &str = "\u{1}";

/// The text with comments, strings and character literals blanked; lines stay where they are.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let rest = &chars[i..];
        let end = if rest.starts_with(&['/', '/']) {
            i + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            i + block_comment(rest)
        } else if let Some(length) = raw_string(&chars, i) {
            i + length
        } else if rest[0] == '"' {
            i + quoted(rest, '"')
        } else if rest[0] == '\'' && is_char_literal(rest) {
            i + quoted(rest, '\'')
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        out.extend(chars[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut i = 0;
    while i < rest.len() {
        if rest[i..].starts_with(&['/', '*']) {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(&['*', '/']) {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`: the length, if one begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|i| chars[i]);
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let rest = &chars[at..];
    let skip = if rest.starts_with(&['b', 'r']) {
        2
    } else if rest[0] == 'r' {
        1
    } else {
        return None;
    };
    let hashes = rest[skip..].iter().take_while(|c| **c == '#').count();
    if rest.get(skip + hashes) != Some(&'"') {
        return None;
    }
    let mut i = skip + hashes + 1;
    while i < rest.len() {
        if rest[i] == '"' && rest[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(rest.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// A character literal, not a lifetime.
fn is_char_literal(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}

/// Code without comments and strings, and without items under `#[cfg(test)]`; their lines are
/// [`TEST_LINE`]s. All of a file `tests.rs` is such.
fn product_code(text: &str) -> String {
    let code = code_only(text);
    let mut out: Vec<String> = Vec::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            out.push(line.to_owned());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        out.push(TEST_LINE.to_owned());
        for inner in lines.by_ref() {
            out.push(TEST_LINE.to_owned());
            let ended = inner.trim_end() == close;
            let one_line = inner.len() - inner.trim_start().len() == indent
                && (inner.trim_end().ends_with(';') || inner.trim_end().ends_with("{}"));
            if ended || one_line {
                break;
            }
        }
    }
    out.join("\n")
}

/// Paths that start at the crate's root, with their line: `crate::a::b`, `crate::{a, b::c}`, and as many
/// `super::` as lead there.
fn crate_paths(path: &str, code: &str) -> Vec<(usize, Vec<String>)> {
    let depth = depth_of(path);
    let supers = "super::".repeat(depth);
    let deeper = "super::".repeat(depth + 1);
    let mut found = Vec::new();
    for prefix in ["crate::", supers.as_str()] {
        if prefix.is_empty() {
            continue;
        }
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            let inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if inside || code[at..].starts_with(&deeper) && prefix != "crate::" {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            for used in expand(&code[at + prefix.len()..]) {
                found.push((line, used));
            }
        }
    }
    found
}

/// `a::b::C` gives one path, `{a, b::C}` several.
fn expand(rest: &str) -> Vec<Vec<String>> {
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if !word.is_empty() {
        let after = &rest[word.len()..];
        let Some(next) = after.strip_prefix("::") else { return vec![vec![word]] };
        let mut paths = expand(next);
        for path in &mut paths {
            path.insert(0, word.clone());
        }
        return if paths.is_empty() { vec![vec![word]] } else { paths };
    }
    let Some(group) = rest.strip_prefix('{') else { return Vec::new() };
    let mut paths = Vec::new();
    let (mut level, mut start) = (0, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            ',' | '}' if level == 0 => {
                paths.extend(expand(group[start..i].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// `src/sink/delta/log.rs` → `sink`.
fn module_of(path: &str) -> Option<String> {
    let inner = path.strip_prefix("src/")?;
    if inner == "lib.rs" || inner == "main.rs" {
        return None;
    }
    Some(inner.split('/').next()?.trim_end_matches(".rs").to_owned())
}

/// How many `super` lead from a file's module to the crate's root.
fn depth_of(path: &str) -> usize {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    if inner == "lib.rs" || inner == "main.rs" {
        return 0;
    }
    let parts = inner.split('/').count();
    if inner.ends_with("/mod.rs") { parts - 1 } else { parts }
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

// ---------------------------------------------------------------------------------------------------
// Reading Markdown, roughly.

fn without_fences(text: &str) -> String {
    let mut fenced = false;
    text.lines()
        .map(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            if fenced || fence { "" } else { line }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Targets of `[text](target)`, code spans left out.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for (i, part) in line.split('`').enumerate() {
        if i % 2 == 1 && line.matches('`').count().is_multiple_of(2) && !part.contains("](") {
            continue;
        }
        for (at, _) in part.match_indices("](") {
            if let Some(end) = part[at + 2..].find(')') {
                targets.push(&part[at + 2..at + 2 + end]);
            }
        }
        // `[`code`](target)`: the bracket closes after a code span.
    }
    targets
}

fn anchors(text: &str) -> BTreeSet<String> {
    without_fences(text)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

fn normalised(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

/// `file::test_name` in code spans on lines that begin with "Proved by".
fn named_tests(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.trim_start().starts_with("Proved by"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// Every test of the project as `file::name`; of a `mod.rs` or `tests.rs` the folder counts.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut files = files_with("tests", &["rs"]);
    files.extend(files_with("src", &["rs"]));
    for (path, text) in files {
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/tests");
        let file = stem.rsplit('/').next().unwrap_or_default();
        let mut marked = false;
        for line in text.lines() {
            let line = line.trim();
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            if let Some(at) = line.find("fn ")
                && marked
            {
                let name: String =
                    line[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                names.insert(format!("{file}::{name}"));
                marked = false;
            }
        }
    }
    names
}

// ---------------------------------------------------------------------------------------------------
// Files.

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust of the product, test files (`tests.rs`, `…_tests.rs`, `tests/`) left out.
fn sources() -> Vec<(String, String)> {
    let mut files = files_with("src", &["rs"]);
    files.retain(|(path, _)| {
        !path.ends_with("/tests.rs") && !path.ends_with("_tests.rs") && !path.contains("/tests/")
    });
    assert!(!files.is_empty(), "no sources found");
    files
}

/// Files below a folder with one of these endings, as (path from the root, text).
fn files_with(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e)) {
                let relative = path.strip_prefix(root()).expect("below the root");
                found.push((relative.display().to_string(), read(&path)));
            }
        }
    }
    found.sort();
    found
}

#[track_caller]
fn report(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{} findings\n{}", findings.len(), findings.join("\n"));
}

// ---------------------------------------------------------------------------------------------------
// Each rule bites.

mod bites {
    use super::*;

    const LIB: &str = "//! | 5 | `cli` `config` | face |\n//! | 4 | `runtime` | x |\n//! | 3 | [`source`] [`sink`] | x |\n\
                       //! | 2 | `replication` | x |\n//! | 1 | `pgoutput` `binlog` | x |\n//! | 0 | [`position`] | x |\n";

    fn imports(path: &str, text: &str) -> usize {
        upward_imports(&layers_of(LIB), path, text).len()
    }

    #[test]
    fn layers_are_read_from_the_header() {
        let layers = layers_of(LIB);
        assert_eq!(layers.get("cli"), Some(&5));
        assert_eq!(layers.get("sink"), Some(&3));
        assert_eq!(layers.get("position"), Some(&0));
        assert_eq!(declared_modules("pub mod a;\nmod b;\n// mod c;\n"), ["a", "b"]);
    }

    #[test]
    fn upward_and_sideways() {
        assert_eq!(imports("src/position/lsn.rs", "use crate::runtime::Driver;"), 1);
        assert_eq!(imports("src/position/lsn.rs", "use super::super::runtime::Driver;"), 1);
        assert_eq!(imports("src/position/mod.rs", "use super::{sink, replication::X};"), 2);
        assert_eq!(imports("src/runtime/mod.rs", "use crate::{position::Lsn, cli::Arguments};"), 1);
        assert_eq!(imports("src/source/postgres/a.rs", "fn f() { crate::sink::g() }"), 1);
        assert_eq!(imports("src/pgoutput/mod.rs", "use crate::binlog::Event;"), 1);
        assert_eq!(imports("src/replication/mod.rs", "use crate::pgoutput::Message;"), 1);
        assert_eq!(imports("src/config/mod.rs", "use crate::runtime::Driver;"), 1);
        assert_eq!(imports("src/runtime/mod.rs", "use crate::sink::Sink; use crate::position::Lsn;"), 0);
        assert_eq!(
            imports("src/position/lsn.rs", "// use crate::runtime\nconst A: &str = \"crate::cli::x\";"),
            0
        );
        assert_eq!(
            imports("src/position/lsn.rs", "#[cfg(test)]\nmod tests {\n    use crate::cli::X;\n}\n"),
            0
        );
    }

    #[test]
    fn adapters() {
        assert_eq!(adapter_imports("src/runtime/mod.rs", "use crate::sink::delta::DeltaSink;").len(), 1);
        assert_eq!(adapter_imports("src/sink/delta/log.rs", "use crate::sink::delta::Action;").len(), 0);
        assert_eq!(adapter_imports("src/cli/wire.rs", "use crate::sink::delta::DeltaSink;").len(), 0);
        assert_eq!(adapter_imports("src/source/mysql/a.rs", "use crate::source::postgres::X;").len(), 1);
    }

    #[test]
    fn impurity() {
        let impure = |text: &str| impure_words(&layers_of(LIB), "src/replication/x.rs", text).len();
        assert_eq!(impure("use tokio::sync::mpsc;"), 1);
        assert_eq!(impure("use std::{collections::BTreeMap, fs};"), 1);
        assert_eq!(impure("let now = Instant::now();"), 1);
        assert_eq!(impure("// tokio\nlet operand = 1;"), 0);
        assert_eq!(impure_words(&layers_of(LIB), "src/runtime/x.rs", "use tokio::sync::mpsc;").len(), 0);
    }

    #[test]
    fn length_and_panics_and_lints() {
        let long = "fn f() {}\n".repeat(MAX_LINES + 1);
        assert!(too_long("src/a.rs", &long).is_some());
        let inner = "    fn f() {}\n".repeat(MAX_LINES + 1);
        let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{inner}}}\n");
        assert!(too_long("src/a.rs", &tests).is_none());
        assert_eq!(panics("src/a.rs", "let a = b.unwrap();\nlet c = d.expect(\"why\");").len(), 2);
        assert_eq!(panics("src/a.rs", "parser.expect(b'-')?;").len(), 0);
        assert_eq!(panics("src/a.rs", "/// `.unwrap()`\nlet a = b.unwrap_or(1); // panic!\n").len(), 0);
        assert_eq!(panics("src/a.rs", "#[cfg(test)]\nmod tests;\nfn f() { panic!(\"x\") }").len(), 1);
        assert_eq!(allows("src/a.rs", "#[allow(dead_code)]").len(), 1);
        assert_eq!(open_todos("src/a.rs", "// TODO later\n// TODO #12 later").len(), 1);
    }

    #[test]
    fn strings_and_comments_are_blanked() {
        let blanked = code_only("a(\"x \\\" y\") /* b /* c */ d */ e // f\n'\"' \"g");
        assert_eq!(blanked.split_whitespace().collect::<Vec<_>>(), ["a(", ")", "e"]);
        assert_eq!(blanked.lines().count(), 2);
        let raw = code_only("r#\"x \" y\"# 'x' '\\'' &'a str");
        assert_eq!(raw.split_whitespace().collect::<Vec<_>>(), ["&'a", "str"]);
    }

    #[test]
    fn pages() {
        let good = "# PG001: cannot log in\n\n## Meaning\nx\n## How it is noticed\nx\n## Cause\nx\n\
                    ## What to do\nx\n## What is lost\nx\n";
        assert_eq!(bad_page("PG001", "cannot log in", good), Vec::<String>::new());
        assert_eq!(bad_page("PG001", "another title", good).len(), 1);
        assert_eq!(bad_page("PG001", "cannot log in", &good.replace("## Cause\nx", "## Cause")).len(), 1);
    }

    #[test]
    fn links() {
        let headings = BTreeMap::from([("docs/B.md".to_owned(), anchors("# B\n## What it is: all\n"))]);
        let exists = |target: &str| target == "docs/B.md" || target == "docs/A.md";
        let dead = |text: &str| dead_links("docs/A.md", text, &headings, &exists).len();
        assert_eq!(dead("[b](B.md) [c](../docs/B.md#what-it-is-all) [d](https://example.org/x)"), 0);
        assert_eq!(dead("[b](C.md)"), 1);
        assert_eq!(dead("[`b`](C.md)"), 1);
        assert_eq!(dead("[b](B.md#nothing)"), 1);
        assert_eq!(dead("```\n[b](C.md)\n```"), 0);
    }

    #[test]
    fn promises_and_migrations() {
        assert_eq!(named_tests("Proved by: `kill::a`, `bank::b`.\nAlso `c::d`."), ["kill::a", "bank::b"]);
        assert!(test_names().contains("tidy::files_are_short"));
        let files = [("migrations/1.sql".to_owned(), "select 1".to_owned())];
        assert_eq!(changed_migrations(&files, "").len(), 1);
        let hash = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(b"select 1"));
        assert_eq!(changed_migrations(&files, &format!("{hash}  migrations/1.sql\n")), Vec::<String>::new());
        assert_eq!(changed_migrations(&files, &format!("{hash}0  migrations/1.sql\n")).len(), 1);
        assert_eq!(changed_migrations(&[], &format!("{hash}  migrations/1.sql\n")).len(), 1);
    }
}
