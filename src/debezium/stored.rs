//! Records as plain bytes, for whoever keeps them outside of memory until they are wanted.

use super::record::{Entry, KeyHeader, Place, Records};
use crate::event::Op;
use crate::position::Lsn;
use std::ops::Range;
use std::sync::Arc;

/// No part: no buffer is that long.
const NONE: u64 = u64::MAX;

impl Records {
    /// Appends their plain form to `out`. What all records of a table share is not in it.
    pub fn store(&self, out: &mut Vec<u8>) {
        number(self.bytes.len(), out);
        number(self.entries.len(), out);
        out.extend_from_slice(&self.bytes);
        for entry in &self.entries {
            store_entry(entry, out);
        }
    }

    /// Without any record, with what all records of the table share: for [`Records::load`].
    pub fn emptied(&self) -> Records {
        Records { shared: Arc::clone(&self.shared), ..Records::default() }
    }

    /// Takes in what [`Records::store`] wrote. False when it is something else; then there is no record.
    pub fn load(&mut self, stored: &[u8]) -> bool {
        self.clear();
        let loaded = self.try_load(stored).is_some();
        if !loaded {
            self.clear();
        }
        loaded
    }

    fn try_load(&mut self, stored: &[u8]) -> Option<()> {
        let mut rest = Rest(stored);
        let bytes = usize::try_from(rest.number()?).ok()?;
        let entries = rest.number()?;
        self.bytes.extend_from_slice(rest.take(bytes)?);
        for _ in 0..entries {
            self.entries.push(load_entry(&mut rest)?);
        }
        rest.0.is_empty().then_some(())
    }
}

fn number(value: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u64::try_from(value).unwrap_or(NONE).to_le_bytes());
}

fn part(part: Option<&Range<usize>>, out: &mut Vec<u8>) {
    match part {
        Some(part) => {
            number(part.start, out);
            number(part.end, out);
        }
        None => out.extend_from_slice(&NONE.to_le_bytes()),
    }
}

fn store_entry(entry: &Entry, out: &mut Vec<u8>) {
    let Place { commit_start, ordinal, lsn, xid, commit_time, end } = entry.place;
    out.extend_from_slice(&entry.row.to_le_bytes());
    for raw in [commit_start.raw(), ordinal, lsn.raw(), end.raw()] {
        out.extend_from_slice(&raw.to_le_bytes());
    }
    out.extend_from_slice(&xid.to_le_bytes());
    out.extend_from_slice(&commit_time.to_le_bytes());
    let (header, of_header) = match &entry.key_header {
        KeyHeader::None => (0, None),
        KeyHeader::New(part) => (1, Some(part)),
        KeyHeader::Old(part) => (2, Some(part)),
    };
    out.extend_from_slice(&[op_number(entry.op), header, u8::from(entry.is_tombstone)]);
    let (own, named) = (Some(&entry.own_headers), Some(&entry.named));
    for place in [entry.key.as_ref(), entry.value.as_ref(), entry.transaction.as_ref(), of_header, own, named]
    {
        part(place, out);
    }
}

fn load_entry(rest: &mut Rest<'_>) -> Option<Entry> {
    let row = u32::from_le_bytes(rest.array()?);
    let (commit_start, ordinal) = (Lsn::new(rest.number()?), rest.number()?);
    let (lsn, end) = (Lsn::new(rest.number()?), Lsn::new(rest.number()?));
    let xid = u32::from_le_bytes(rest.array()?);
    let commit_time = i64::from_le_bytes(rest.array()?);
    let [op, header, tombstone] = rest.array()?;
    let (key, value, transaction) = (rest.part()?, rest.part()?, rest.part()?);
    let (of_header, own_headers, named) = (rest.part()?, rest.part()??, rest.part()??);
    let place = Place { commit_start, ordinal, lsn, xid, commit_time, end };
    let key_header = match (header, of_header) {
        (0, None) => KeyHeader::None,
        (1, Some(part)) => KeyHeader::New(part),
        (2, Some(part)) => KeyHeader::Old(part),
        _ => return None,
    };
    let is_tombstone = tombstone == 1;
    let op = op_of(op)?;
    Some(Entry { row, place, op, key, value, transaction, key_header, is_tombstone, own_headers, named })
}

fn op_number(op: Op) -> u8 {
    match op {
        Op::Read => 0,
        Op::Create => 1,
        Op::Update => 2,
        Op::Delete => 3,
        Op::Truncate => 4,
    }
}

fn op_of(number: u8) -> Option<Op> {
    [Op::Read, Op::Create, Op::Update, Op::Delete, Op::Truncate].get(usize::from(number)).copied()
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    /// The outer `None`: not readable; the inner: no part.
    #[expect(clippy::option_option, reason = "two kinds of nothing")]
    fn part(&mut self) -> Option<Option<Range<usize>>> {
        let start = self.number()?;
        if start == NONE {
            return Some(None);
        }
        let end = self.number()?;
        Some(Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Records {
        let entry = |row: u32, value: Option<Range<usize>>, key_header: KeyHeader| Entry {
            row,
            place: Place {
                commit_start: Lsn::new(7),
                ordinal: u64::from(row),
                lsn: Lsn::new(9),
                xid: 3,
                commit_time: -1,
                end: Lsn::new(11),
            },
            op: Op::Delete,
            key: Some(0..2),
            is_tombstone: value.is_none(),
            value,
            transaction: None,
            key_header,
            own_headers: 4..4,
            named: 1..2,
        };
        Records {
            bytes: b"abcd".to_vec(),
            entries: vec![entry(0, Some(2..4), KeyHeader::New(1..3)), entry(1, None, KeyHeader::None)],
            ..Records::default()
        }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let all = records();
        let mut stored = Vec::new();
        all.store(&mut stored);
        let mut loaded = all.emptied();
        assert!(loaded.load(&stored));
        assert_eq!(format!("{loaded:?}"), format!("{all:?}"));
        for cut in 0..stored.len() {
            assert!(!loaded.load(&stored[..cut]), "{cut}");
            assert!(loaded.is_empty());
        }
    }
}
