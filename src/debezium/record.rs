//! Finished records: one buffer, and where each part of each record stands in it.

use crate::event::Op;
use crate::position::Lsn;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// A part of the buffer.
type Part = Range<usize>;

/// What stands before the context headers of a record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum KeyHeader {
    #[default]
    None,
    /// `__debezium.newkey`: the row has another key from now on.
    New(Part),
    /// `__debezium.oldkey`: the row had another key.
    Old(Part),
}

/// One record, as places in the buffer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) row: u32,
    pub(super) place: Place,
    pub(super) op: Op,
    pub(super) key: Option<Part>,
    pub(super) value: Option<Part>,
    /// Where the value says that there is no transaction block: [`Records::with_transaction`].
    pub(super) transaction: Option<Part>,
    pub(super) key_header: KeyHeader,
    pub(super) is_tombstone: bool,
    /// The place of its own headers' values: the row alone may have some.
    pub(super) own_headers: Part,
    /// The name of its transaction, where the log gives it one; empty: its numbers are its name.
    pub(super) named: Part,
}

/// Where a change stands among all changes of all tables: the order of the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// Start of the transaction's commit record. Zero for rows of a snapshot.
    pub commit_start: Lsn,
    /// Ordinal of the change within its transaction, over all tables; or [`Place::ALONE`].
    pub ordinal: u64,
    /// The change's own address in the log; transaction ids show it.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: u32,
    /// When it committed, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// End of the transaction's commit record, if that had come; else its start.
    pub end: Lsn,
}

impl Place {
    /// The ordinal of what is of no transaction.
    pub const ALONE: u64 = u64::MAX;

    /// Whether it is of no transaction: nothing stands around it.
    pub fn is_alone(&self) -> bool {
        self.ordinal == Place::ALONE
    }
}

/// The `transaction` block of one event: counted over the events of its transaction by whoever merges the tables'
/// records in the order of [`Record::place`]. Tombstones do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionBlock<'a> {
    /// `756:31251656`.
    pub id: &'a str,
    /// From 1, over all tables.
    pub total_order: u64,
    /// From 1, per table.
    pub data_collection_order: u64,
}

/// Records of one table in source order. Reuse it: [`Records::clear`] keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) shared: Arc<SharedHeaders>,
}

/// Headers that all records of a table share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SharedHeaders {
    /// Name and value.
    pub(super) context: Vec<(String, String)>,
    /// Names of the headers whose values differ from row to row.
    pub(super) own: Vec<String>,
    /// Go here instead of to the table's topic.
    pub(super) diverted: Option<String>,
    /// Whatever their keys are, they go to this partition.
    pub(super) partition: Option<i32>,
}

impl Records {
    /// Empty.
    pub fn new() -> Self {
        Records::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of memory that they take.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Forgets all of them and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.entries.get(index).map(|entry| Record { all: self, entry })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(|entry| Record { all: self, entry })
    }

    /// Some of them, in their order.
    #[must_use]
    pub fn picked(&self, which: Range<usize>) -> Records {
        let mut picked = self.emptied();
        for entry in self.entries.get(which).unwrap_or_default() {
            let mut moved = entry.clone();
            let parts = [moved.key.as_mut(), moved.value.as_mut()];
            let header = match &mut moved.key_header {
                KeyHeader::None => None,
                KeyHeader::New(part) | KeyHeader::Old(part) => Some(part),
            };
            let hole = entry.value.as_ref().zip(entry.transaction.as_ref());
            let hole = hole.map(|(value, hole)| (hole.start - value.start, hole.len()));
            for part in
                parts.into_iter().flatten().chain(header).chain([&mut moved.own_headers, &mut moved.named])
            {
                let start = picked.bytes.len();
                picked.bytes.extend_from_slice(self.part(part));
                *part = start..picked.bytes.len();
            }
            if let (Some(value), Some((start, bytes))) = (&moved.value, hole) {
                moved.transaction = Some(value.start + start..value.start + start + bytes);
            }
            picked.entries.push(moved);
        }
        picked
    }

    /// All of them have this header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Records {
        let mut shared = SharedHeaders::clone(&self.shared);
        shared.context.push((name.to_owned(), value.to_owned()));
        self.shared = Arc::new(shared);
        self
    }

    /// They go to this topic, not to their table's; they do not count in their transaction.
    #[must_use]
    pub fn diverted(mut self, topic: &str) -> Records {
        let mut shared = SharedHeaders::clone(&self.shared);
        (shared.diverted, shared.partition) = (Some(topic.to_owned()), None);
        self.shared = Arc::new(shared);
        self
    }

    pub(super) fn part(&self, part: &Part) -> &[u8] {
        self.bytes.get(part.clone()).unwrap_or_default()
    }

    /// What an unfinished record left is taken away.
    pub(super) fn truncate(&mut self, entries: usize, bytes: usize) {
        self.entries.truncate(entries);
        self.bytes.truncate(bytes);
    }
}

/// One record to be produced, borrowed from [`Records`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    all: &'a Records,
    entry: &'a Entry,
}

impl<'a> Record<'a> {
    /// The row of the batch that it was made of.
    pub fn row(&self) -> usize {
        self.entry.row as usize
    }

    /// Where its change stands. A change that becomes three records (another key) gives all three the same
    /// place; they must stay in their order.
    pub fn place(&self) -> Place {
        self.entry.place
    }

    /// The id of its transaction as this event shows it: `756:31251656`, or a GTID.
    pub fn transaction_id(&self) -> Cow<'a, str> {
        match self.named_transaction() {
            Some(name) => Cow::Borrowed(name),
            None => {
                let place = self.place();
                Cow::Owned(super::control::transaction_id(place.xid, place.lsn))
            }
        }
    }

    /// The GTID of its transaction, or what stands for one.
    pub(super) fn named_transaction(&self) -> Option<&'a str> {
        std::str::from_utf8(self.all.part(&self.entry.named)).ok().filter(|name| !name.is_empty())
    }

    /// What its event says; a tombstone has the op of the event before it.
    pub fn op(&self) -> Op {
        self.entry.op
    }

    /// The key's bytes; `None` for a table without a key, and for a truncate.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.entry.key.as_ref().map(|part| self.all.part(part))
    }

    /// The value's bytes; `None` for a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.entry.value.as_ref().map(|part| self.all.part(part))
    }

    /// Where it goes instead of to its table's topic.
    pub fn diverted(&self) -> Option<&'a str> {
        self.all.shared.diverted.as_deref()
    }

    /// The partition that it goes to, whatever its key is.
    pub fn partition(&self) -> Option<i32> {
        self.all.shared.partition
    }

    /// A tombstone follows a delete, so that a compacted topic forgets the key. It is no event: it does not count
    /// in a transaction.
    pub fn is_tombstone(&self) -> bool {
        self.entry.is_tombstone
    }

    /// The value with this transaction block in the place of its null; appended to `out`. False when the value has
    /// no such place (a tombstone, the row alone): nothing is appended.
    pub fn with_transaction(&self, block: &TransactionBlock<'_>, avro: bool, out: &mut Vec<u8>) -> bool {
        let (Some(value), Some(hole)) = (&self.entry.value, &self.entry.transaction) else { return false };
        out.extend_from_slice(self.all.part(&(value.start..hole.start)));
        if avro {
            super::avro::transaction_block(block, out);
        } else {
            super::control::transaction_block(block, out);
        }
        out.extend_from_slice(self.all.part(&(hole.end..value.end)));
        true
    }

    /// Headers in order: name and value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let key = match &self.entry.key_header {
            KeyHeader::None => None,
            KeyHeader::New(part) => Some(("__debezium.newkey", self.all.part(part))),
            KeyHeader::Old(part) => Some(("__debezium.oldkey", self.all.part(part))),
        };
        let shared: &'a SharedHeaders = &self.all.shared;
        let context = shared.context.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let own = self.all.part(&self.entry.own_headers).split(|&byte| byte == 0);
        key.into_iter().chain(context).chain(shared.own.iter().map(String::as_str).zip(own))
    }
}

#[cfg(test)]
impl Records {
    /// Records without anything but their places.
    pub(crate) fn at(places: &[Place]) -> Records {
        let entry = |place: &Place| Entry {
            row: 0,
            place: *place,
            op: Op::Create,
            key: None,
            value: Some(0..0),
            transaction: None,
            key_header: KeyHeader::None,
            is_tombstone: false,
            own_headers: 0..0,
            named: 0..0,
        };
        Records { entries: places.iter().map(entry).collect(), ..Records::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_keeps_the_name_of_its_transaction() {
        let mut all = Records::at(&[Place::default(); 2]);
        for (row, (value, name)) in [("first row", "aaaa:1"), ("second", "bbbb:22")].into_iter().enumerate() {
            let start = all.bytes.len();
            let (middle, end) = (start + value.len(), start + value.len() + name.len());
            all.bytes.extend_from_slice(format!("{value}{name}").as_bytes());
            (all.entries[row].value, all.entries[row].named) = (Some(start..middle), middle..end);
        }
        let picked = all.picked(1..2);
        let record = picked.get(0).unwrap();
        assert_eq!((record.value(), &*record.transaction_id()), (Some(&b"second"[..]), "bbbb:22"));
    }
}
