//! A row on the wire, borrowed: checked once when its message is decoded, then read without any allocation.

use super::wire::{DecodeError, Problem, Reader};

/// One column's value on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// SQL null.
    Null,
    /// A TOASTed value that did not change and that the log does not repeat: not null and not a value.
    Unchanged,
    /// The type's text form.
    Text(&'a [u8]),
    /// The type's binary (send function) form.
    Binary(&'a [u8]),
}

/// The columns of one row image, as in `TupleData` of
/// <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TupleData<'a> {
    columns: usize,
    bytes: &'a [u8],
}

impl<'a> TupleData<'a> {
    /// Reads and checks a tuple: after this, its values can be read without errors.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let offset = reader.at();
        let found = reader.i16("column count")?;
        let Ok(columns) = usize::try_from(found) else {
            return Err(reader.error("column count", offset, Problem::Count { found: found.into() }));
        };
        let rest = reader.rest();
        let start = reader.at();
        for _ in 0..columns {
            let counted = reader.tag("column", "one of the column tags n, u, t and b", |tag| match tag {
                b'n' | b'u' => Some(false),
                b't' | b'b' => Some(true),
                _ => None,
            })?;
            if counted {
                reader.counted("column value")?;
            }
        }
        let bytes = rest.get(..reader.at() - start).unwrap_or_default();
        Ok(TupleData { columns, bytes })
    }

    /// A tuple alone, as in `bytes`. For tests and fuzzing: messages are read by [`super::decode`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("TupleData", bytes);
        let tuple = TupleData::read(&mut reader)?;
        reader.end()?;
        Ok(tuple)
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns
    }

    /// A row without columns.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The same values in another arrangement: for each place of `map` the value that stands there, or null.
    /// `scratch` holds the result.
    pub fn arranged<'b>(&self, map: &[Option<usize>], scratch: &'b mut Vec<u8>) -> TupleData<'b> {
        scratch.clear();
        let values: Vec<Value<'a>> = self.values().collect();
        for place in map {
            let (tag, bytes) = match place.and_then(|at| values.get(at)) {
                None | Some(Value::Null) => (b'n', None),
                Some(Value::Unchanged) => (b'u', None),
                Some(Value::Text(bytes)) => (b't', Some(bytes)),
                Some(Value::Binary(bytes)) => (b'b', Some(bytes)),
            };
            scratch.push(tag);
            if let Some(bytes) = bytes {
                // It came with a length of 32 bits.
                scratch.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                scratch.extend_from_slice(bytes);
            }
        }
        TupleData { columns: map.len(), bytes: scratch }
    }

    /// The values in column order.
    pub fn values(&self) -> Values<'a> {
        Values { rest: self.bytes }
    }
}

/// Iterator over a tuple's values.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        // The shapes were checked by `TupleData::read`; a mismatch here would end the iteration, and the
        // builder would then find too few columns.
        let (&tag, rest) = self.rest.split_first()?;
        match tag {
            b'n' => {
                self.rest = rest;
                Some(Value::Null)
            }
            b'u' => {
                self.rest = rest;
                Some(Value::Unchanged)
            }
            _ => {
                let (len, rest) = rest.split_first_chunk::<4>()?;
                let (bytes, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize)?;
                self.rest = rest;
                Some(if tag == b'b' { Value::Binary(bytes) } else { Value::Text(bytes) })
            }
        }
    }
}
