//! Text search as PostgreSQL writes it.
//!
//! A query's binary form is its tree in the server's order: operator, *right* operand, left operand. It is written
//! without recursion: a query of 100,000 words is a tree of that depth.

use super::{Bytes, number};
use crate::pgoutput::reason::Reason;

/// A word in quotation marks; quotation marks and backslashes within are doubled.
fn quoted(word: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &byte in word {
        if matches!(byte, b'\'' | b'\\') {
            out.push(byte);
        }
        out.push(byte);
    }
    out.push(b'\'');
}

/// `'cat':3A 'fat':2,4B`
pub(super) fn vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut bytes = Bytes(bytes);
    let count = bytes.count(3)?;
    for i in 0..count {
        if i > 0 {
            out.push(b' ');
        }
        quoted(bytes.text()?, out);
        let places = bytes.u16()?;
        for j in 0..places {
            let place = bytes.u16()?;
            number(out, format_args!("{}{}", if j == 0 { ':' } else { ',' }, place & 0x3FFF));
            out.extend([&b""[..], b"C", b"B", b"A"][usize::from(place >> 14)]);
        }
    }
    bytes.end()
}

const VALUE: u8 = 1;
const OPERATOR: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    Not,
    And,
    Or,
    Phrase(u16),
}

impl Operator {
    fn priority(self) -> i32 {
        match self {
            Operator::Or => 1,
            Operator::And => 2,
            Operator::Phrase(_) => 3,
            Operator::Not => 4,
        }
    }
}

enum Item<'a> {
    Word {
        word: &'a [u8],
        weights: u8,
        prefix: bool,
    },
    /// With the place of its left operand; the right one comes next.
    Operator {
        operator: Operator,
        left: usize,
    },
}

/// `'fat' & ( 'rat' | !'cat':*AB )`
pub(super) fn query(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let items = items(bytes)?;
    if items.is_empty() {
        return Ok(());
    }
    /// What is still to be written.
    enum Task {
        Item { place: usize, above: i32, right_of_phrase: bool },
        Operator(Operator),
        Close,
    }
    let mut tasks = vec![Task::Item { place: 0, above: -1, right_of_phrase: false }];
    while let Some(task) = tasks.pop() {
        match task {
            Task::Close => out.extend_from_slice(b" )"),
            Task::Operator(operator) => match operator {
                Operator::Or => out.extend_from_slice(b" | "),
                Operator::And => out.extend_from_slice(b" & "),
                Operator::Phrase(1) => out.extend_from_slice(b" <-> "),
                Operator::Phrase(distance) => number(out, format_args!(" <{distance}> ")),
                Operator::Not => out.push(b'!'),
            },
            Task::Item { place, above, right_of_phrase } => match items.get(place) {
                None => return Err(Reason::Malformed),
                Some(Item::Word { word, weights, prefix }) => write_word(word, *weights, *prefix, out),
                Some(Item::Operator { operator, left }) => {
                    let (operator, priority) = (*operator, operator.priority());
                    let phrase = matches!(operator, Operator::Phrase(_));
                    if priority < above || phrase && right_of_phrase {
                        out.extend_from_slice(b"( ");
                        tasks.push(Task::Close);
                    }
                    tasks.push(Task::Item { place: place + 1, above: priority, right_of_phrase: phrase });
                    tasks.push(Task::Operator(operator));
                    if operator != Operator::Not {
                        tasks.push(Task::Item { place: *left, above: priority, right_of_phrase: false });
                    }
                }
            },
        }
    }
    Ok(())
}

fn write_word(word: &[u8], weights: u8, prefix: bool, out: &mut Vec<u8>) {
    quoted(word, out);
    if weights != 0 || prefix {
        out.push(b':');
    }
    if prefix {
        out.push(b'*');
    }
    out.extend(b"ABCD".iter().zip([8, 4, 2, 1]).filter(|(_, bit)| weights & bit != 0).map(|(c, _)| c));
}

/// The items in their order, which must be a tree.
fn items(bytes: &[u8]) -> Result<Vec<Item<'_>>, Reason> {
    let mut bytes = Bytes(bytes);
    let count = bytes.count(2)?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(match bytes.u8()? {
            VALUE => {
                let (weights, prefix) = (bytes.u8()?, bytes.u8()?);
                if weights > 15 || prefix > 1 {
                    return Err(Reason::Malformed);
                }
                Item::Word { word: bytes.text()?, weights, prefix: prefix == 1 }
            }
            OPERATOR => {
                let operator = match bytes.u8()? {
                    1 => Operator::Not,
                    2 => Operator::And,
                    3 => Operator::Or,
                    4 => Operator::Phrase(bytes.u16()?),
                    _ => return Err(Reason::Malformed),
                };
                Item::Operator { operator, left: 0 }
            }
            _ => return Err(Reason::Malformed),
        });
    }
    bytes.end()?;
    // From the end: where each operand that is whole begins and ends; the last on the stack begins first.
    let mut whole: Vec<usize> = Vec::new();
    for (place, item) in items.iter_mut().enumerate().rev() {
        if let Item::Operator { operator, left } = item {
            let right_end = whole.pop().ok_or(Reason::Malformed)?;
            if *operator == Operator::Not {
                whole.push(right_end);
                continue;
            }
            *left = right_end;
            let left_end = whole.pop().ok_or(Reason::Malformed)?;
            whole.push(left_end);
        } else {
            whole.push(place + 1);
        }
    }
    match whole.as_slice() {
        [] => Ok(items),
        [end] if *end == count => Ok(items),
        _ => Err(Reason::Malformed),
    }
}
