//! What changed in a JSON value (`binlog_row_value_options=PARTIAL_JSON`), and applying it.
//!
//! A change is an operation (replace, insert, remove), a path (`$.a."b c"[3]`), and a value in binary JSON. The old value
//! becomes a tree of borrowed parts, the changes are made in order, and the result is written as the server writes JSON.

use super::super::reason::Reason;
use super::super::wire::Reader;
use super::json;
use super::json_binary::{Budget, Shape, Value, separate};

/// Deeper than any document that the server accepts.
const MAX_DEPTH: usize = 101;

#[derive(Clone, Debug)]
enum Node<'a> {
    Object(Vec<(Vec<u8>, Node<'a>)>),
    Array(Vec<Node<'a>>),
    Leaf(Value<'a>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Replace,
    Insert,
    Remove,
}

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Leg {
    Member(Vec<u8>),
    Cell(usize),
}

/// Applies `diff` to the binary JSON `old` and appends the new value's text.
pub(in crate::binlog) fn apply_to_binary(old: &[u8], diff: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut root = tree(Value::of_document(old), &mut Budget::of(old), 0)?;
    let mut reader = Reader::new("JSON diff", diff);
    let malformed = |_| Reason::Malformed;
    while !reader.is_empty() {
        let operation = match reader.u8("operation").map_err(malformed)? {
            0 => Operation::Replace,
            1 => Operation::Insert,
            2 => Operation::Remove,
            _ => return Err(Reason::Malformed),
        };
        let path = legs(reader.lenenc_bytes("path").map_err(malformed)?)?;
        let value = match operation {
            Operation::Remove => None,
            _ => {
                let bytes = reader.lenenc_bytes("value").map_err(malformed)?;
                Some(tree(Value::of_document(bytes), &mut Budget::of(bytes), 0)?)
            }
        };
        apply(&mut root, &path, value, operation)?;
    }
    write(&root, out, 0)
}

fn tree<'a>(value: Value<'a>, budget: &mut Budget, depth: usize) -> Result<Node<'a>, Reason> {
    budget.spend(1)?;
    if depth > MAX_DEPTH {
        return Err(Reason::Malformed);
    }
    Ok(match value.shape()? {
        Shape::Leaf(leaf) => Node::Leaf(leaf),
        Shape::Object(members) => {
            let mut all = Vec::new();
            for index in 0..members.count() {
                let name = members.name(index)?;
                budget.spend(name.len())?;
                all.push((name.to_vec(), tree(members.value(index)?, budget, depth + 1)?));
            }
            Node::Object(all)
        }
        Shape::Array(members) => {
            let mut all = Vec::new();
            for index in 0..members.count() {
                all.push(tree(members.value(index)?, budget, depth + 1)?);
            }
            Node::Array(all)
        }
    })
}

/// `$`, then `.name`, `."name"` and `[3]`.
fn legs(path: &[u8]) -> Result<Vec<Leg>, Reason> {
    let mut rest = path.strip_prefix(b"$").ok_or(Reason::Malformed)?;
    let mut legs = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        match first {
            b'[' => {
                let end = after.iter().position(|&byte| byte == b']').ok_or(Reason::Malformed)?;
                let (digits, after) = after.split_at(end);
                let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
                legs.push(Leg::Cell(number.ok_or(Reason::Malformed)?));
                rest = after.get(1..).unwrap_or_default();
            }
            b'.' if after.first() == Some(&b'"') => {
                let (name, after) = quoted(after.get(1..).unwrap_or_default())?;
                legs.push(Leg::Member(name));
                rest = after;
            }
            b'.' => {
                let end = after.iter().position(|byte| matches!(byte, b'.' | b'[')).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                legs.push(Leg::Member(name.to_vec()));
                rest = after;
            }
            _ => return Err(Reason::Malformed),
        }
        if legs.len() > MAX_DEPTH {
            return Err(Reason::Malformed);
        }
    }
    Ok(legs)
}

/// A name in quotes, escaped as JSON is; the opening quote was read.
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Reason> {
    let mut escaped = false;
    let end = text.iter().position(|&byte| {
        let found = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    });
    let (inside, after) = end.and_then(|end| text.split_at_checked(end)).ok_or(Reason::Malformed)?;
    let mut name = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            name.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first().ok_or(Reason::Malformed)?;
        rest = after;
        match kind {
            b'b' => name.push(8),
            b't' => name.push(b'\t'),
            b'n' => name.push(b'\n'),
            b'f' => name.push(12),
            b'r' => name.push(b'\r'),
            // The server escapes control characters so, and nothing else.
            b'u' => {
                let (digits, after) = rest.split_at_checked(4).ok_or(Reason::Malformed)?;
                rest = after;
                let code = std::str::from_utf8(digits).ok().and_then(|d| u32::from_str_radix(d, 16).ok());
                let letter = code.and_then(char::from_u32).ok_or(Reason::Malformed)?;
                name.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => name.push(other),
        }
    }
    Ok((name, after.get(1..).unwrap_or_default()))
}

fn apply<'a>(
    root: &mut Node<'a>,
    path: &[Leg],
    value: Option<Node<'a>>,
    operation: Operation,
) -> Result<(), Reason> {
    let Some((last, parents)) = path.split_last() else {
        // The document itself can only be replaced.
        let (Operation::Replace, Some(value)) = (operation, value) else { return Err(Reason::JsonDiff) };
        *root = value;
        return Ok(());
    };
    let mut parent = root;
    for leg in parents {
        parent = child(parent, leg).ok_or(Reason::JsonDiff)?;
    }
    match (operation, value, parent, last) {
        (Operation::Replace, Some(value), parent, leg) => {
            *child(parent, leg).ok_or(Reason::JsonDiff)? = value;
        }
        (Operation::Insert, Some(value), Node::Object(members), Leg::Member(name)) => {
            let order =
                |own: &(Vec<u8>, Node<'_>)| (own.0.len(), own.0.clone()).cmp(&(name.len(), name.clone()));
            match members.binary_search_by(order) {
                Ok(_) => return Err(Reason::JsonDiff),
                Err(at) => members.insert(at, (name.clone(), value)),
            }
        }
        (Operation::Insert, Some(value), Node::Array(cells), Leg::Cell(at)) => {
            cells.insert((*at).min(cells.len()), value);
        }
        (Operation::Remove, None, Node::Object(members), Leg::Member(name)) => {
            let at = members.iter().position(|(own, _)| own == name).ok_or(Reason::JsonDiff)?;
            members.remove(at);
        }
        (Operation::Remove, None, Node::Array(cells), Leg::Cell(at)) if *at < cells.len() => {
            cells.remove(*at);
        }
        _ => return Err(Reason::JsonDiff),
    }
    Ok(())
}

fn child<'n, 'a>(node: &'n mut Node<'a>, leg: &Leg) -> Option<&'n mut Node<'a>> {
    match (node, leg) {
        (Node::Object(members), Leg::Member(name)) => {
            members.iter_mut().find(|(own, _)| own == name).map(|(_, value)| value)
        }
        (Node::Array(cells), Leg::Cell(at)) => cells.get_mut(*at),
        _ => None,
    }
}

fn write(node: &Node<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), Reason> {
    // Changes may nest values deeper than they were.
    if depth > MAX_DEPTH {
        return Err(Reason::JsonDiff);
    }
    match node {
        // Each leaf is written once: it was counted when the tree was made.
        Node::Leaf(value) => value.write(&mut Budget::unlimited(), out)?,
        Node::Object(members) => {
            out.push(b'{');
            for (index, (name, value)) in members.iter().enumerate() {
                separate(index, out);
                json::write_string(name, out);
                out.extend(b": ");
                write(value, out, depth + 1)?;
            }
            out.push(b'}');
        }
        Node::Array(cells) => {
            out.push(b'[');
            for (index, value) in cells.iter().enumerate() {
                separate(index, out);
                write(value, out, depth + 1)?;
            }
            out.push(b']');
        }
    }
    Ok(())
}
