//! JSON, as far as it is needed to find a value and to see what it says.

use super::{Cell, Event, Read, Taste, Unreadable};

/// Values may be so deep.
const DEPTH: usize = 64;
const BROKEN: Unreadable = Unreadable("it is not JSON");

/// A place in a text.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Text { bytes, at: 0 }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let is_it = self.peek() == Some(wanted);
        self.at += usize::from(is_it);
        is_it
    }

    fn expect(&mut self, wanted: u8) -> Read<()> {
        if self.eat(wanted) { Ok(()) } else { Err(BROKEN) }
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// A string with its quotes.
    fn string(&mut self) -> Read<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at - 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(BROKEN),
            }
        }
        self.at += 1;
        Ok(self.since(start))
    }

    /// The bytes of the next value.
    fn value(&mut self) -> Read<&'a [u8]> {
        let first = self.peek().ok_or(BROKEN)?;
        let start = self.at;
        match first {
            b'"' => return self.string(),
            b'{' | b'[' => {
                let mut open = 0_usize;
                loop {
                    match self.peek().ok_or(BROKEN)? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => open += 1,
                        b'}' | b']' => open = open.saturating_sub(1),
                        _ => {}
                    }
                    self.at += 1;
                    if open == 0 {
                        break;
                    }
                }
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                while self.bytes.get(self.at).is_some_and(|byte| !ends(byte)) {
                    self.at += 1;
                }
            }
        }
        Ok(self.since(start))
    }

    fn end(&mut self) -> Read<()> {
        if self.peek().is_none() { Ok(()) } else { Err(BROKEN) }
    }
}

/// A string without quotes and escapes.
fn unquoted(string: &[u8]) -> Read<String> {
    serde_json::from_slice(string).map_err(|_| BROKEN)
}

/// Hands each member of an object to `take`: its name with quotes, and its value.
fn members<'a>(object: &'a [u8], mut take: impl FnMut(&'a [u8], &'a [u8]) -> Read<()>) -> Read<()> {
    let mut text = Text::new(object);
    text.expect(b'{')?;
    if !text.eat(b'}') {
        loop {
            text.peek();
            let name = text.string()?;
            text.expect(b':')?;
            take(name, text.value()?)?;
            if !text.eat(b',') {
                break;
            }
        }
        text.expect(b'}')?;
    }
    text.end()
}

/// A member of an object.
pub(super) fn member<'a>(object: &'a [u8], wanted: &str) -> Read<Option<&'a [u8]>> {
    let mut found = None;
    members(object, |name, value| {
        if is_named(name, wanted) {
            found = Some(value);
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_named(quoted: &[u8], name: &str) -> bool {
    quoted.get(1..quoted.len().saturating_sub(1)) == Some(name.as_bytes())
}

/// The names of an object's members.
pub(super) fn names(object: &[u8]) -> Read<Vec<String>> {
    let mut names = Vec::new();
    members(object, |name, _| {
        names.push(unquoted(name)?);
        Ok(())
    })?;
    Ok(names)
}

/// One value.
pub(super) fn cell(value: &[u8], taste: &mut Taste) -> Read<Cell> {
    look(value, DEPTH, taste)?;
    Ok(taste.taken())
}

fn look(value: &[u8], depth: usize, taste: &mut Taste) -> Read<()> {
    let depth = depth.checked_sub(1).ok_or(Unreadable("its values are nested too deep"))?;
    match value {
        b"null" => taste.null(),
        b"true" => taste.boolean(true),
        b"false" => taste.boolean(false),
        [b'"', plain @ .., b'"'] if !plain.contains(&b'\\') => {
            taste.text(std::str::from_utf8(plain).map_err(|_| BROKEN)?);
        }
        [b'"', ..] => taste.text(&unquoted(value)?),
        [b'{', ..] => {
            taste.token(b'{', b"");
            members(value, |name, value| {
                taste.text(&unquoted(name)?);
                look(value, depth, taste)
            })?;
            taste.token(b'}', b"");
        }
        [b'[', ..] => {
            taste.token(b'[', b"");
            let mut text = Text::new(value);
            text.expect(b'[')?;
            if !text.eat(b']') {
                loop {
                    look(text.value()?, depth, taste)?;
                    if !text.eat(b',') {
                        break;
                    }
                }
                text.expect(b']')?;
            }
            text.end()?;
            taste.token(b']', b"");
        }
        number => self::number(number, taste)?,
    }
    Ok(())
}

/// A number is its sign, its digits without zeros around them, and the place of the last one: `1.0` is `1`, `1e3` is `1000`,
/// and no digit is lost.
fn number(text: &[u8], taste: &mut Taste) -> Read<()> {
    let text = std::str::from_utf8(text).map_err(|_| BROKEN)?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (b'-', rest),
        None => (b'+', text),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(BROKEN);
    }
    let exponent: i64 = exponent.parse().map_err(|_| BROKEN)?;
    let digits = format!("{whole}{fraction}");
    let bare = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - bare.len()).map_err(|_| BROKEN)?;
    let places = i64::try_from(fraction.len()).map_err(|_| BROKEN)?;
    let bare = bare.trim_start_matches('0');
    let last = if bare.is_empty() { 0 } else { exponent.saturating_sub(places).saturating_add(zeros) };
    taste.token(sign, bare.as_bytes());
    taste.content.extend_from_slice(&last.to_le_bytes());
    taste.show(|| text.to_owned());
    Ok(())
}

/// Looks at the members that have a place, and says where each belongs.
pub(super) fn fields(
    object: &[u8],
    place: impl Fn(&str) -> Option<usize>,
    taste: &mut Taste,
    take: &mut impl FnMut(usize, &mut Taste),
) -> Read<()> {
    members(object, |name, value| {
        let plain = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
        let at = match std::str::from_utf8(plain) {
            Ok(plain) if !plain.contains('\\') => place(plain),
            _ => place(&unquoted(name)?),
        };
        if let Some(at) = at {
            look(value, DEPTH, taste)?;
            take(at, taste);
        }
        Ok(())
    })
}

/// An event's value: the row alone, or an envelope around it.
pub(super) fn event(
    body: &[u8],
    (is_flat, columns): (bool, usize),
    place: impl Fn(&str) -> Option<usize>,
    taste: &mut Taste,
) -> Read<Event> {
    let mut event = Event::default();
    let row = if is_flat {
        if let Some(deleted) = member(body, "__deleted")? {
            event.deleted = matches!(deleted, b"\"true\"" | b"true");
        }
        body
    } else {
        let mut after: &[u8] = b"null";
        members(body, |name, value| {
            if is_named(name, "op") {
                event.op = Some(unquoted(value)?);
            } else if is_named(name, "after") {
                after = value;
            }
            Ok(())
        })?;
        after
    };
    if row != b"null" {
        let mut cells = vec![None; columns];
        fields(row, place, taste, &mut |at, taste| {
            if let Some(cell) = cells.get_mut(at) {
                *cell = Some(taste.taken());
            }
        })?;
        event.row = Some(cells);
    }
    Ok(event)
}
