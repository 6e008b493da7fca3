//! What stands around the events of a transaction: BEGIN before them, a block in each, END behind them.

use super::control::{Control, ControlRecord, EndOfTransaction, transaction_id};
use super::options::Encoding;
use super::record::{Place, Record, TransactionBlock};
use std::collections::BTreeMap;

/// Counts the events of transactions, whose records come in the order of [`Record::place`] over all tables. Tombstones
/// do not count. Use: [`Brackets::before`], then [`Brackets::value`] for each record, [`Brackets::end`] at last.
#[derive(Debug)]
pub struct Brackets<'a> {
    control: &'a Control,
    open: Option<Open>,
    value: Vec<u8>,
}

/// The transaction whose events are being written.
#[derive(Debug)]
struct Open {
    place: Place,
    /// Its name, where the log gives it one.
    name: Option<String>,
    total: u64,
    tables: BTreeMap<String, u64>,
}

impl<'a> Brackets<'a> {
    /// None is open.
    pub fn new(control: &'a Control) -> Self {
        Brackets { control, open: None, value: Vec::new() }
    }

    /// What comes before a record: END of the transaction before it, and BEGIN of its own.
    pub fn before(&mut self, record: &Record<'_>) -> impl Iterator<Item = ControlRecord> + use<> {
        let place = record.place();
        let is_same = self.open.as_ref().is_some_and(|open| open.place.commit_start == place.commit_start);
        let ended = if is_same { None } else { self.end() };
        if place.is_alone() {
            return ended.into_iter().chain(None);
        }
        let begun =
            self.open.is_none().then(|| self.control.begin(&record.transaction_id(), place.commit_time));
        let open = self.open.get_or_insert_with(|| {
            let name = record.named_transaction().map(str::to_owned);
            Open { place, name, total: 0, tables: BTreeMap::new() }
        });
        open.place.end = open.place.end.max(place.end);
        ended.into_iter().chain(begun)
    }

    /// The value of a record of this table, with its block.
    pub fn value<'b>(&'b mut self, table: &str, record: &Record<'b>) -> Option<&'b [u8]> {
        let counts = !record.is_tombstone() && !record.place().is_alone();
        let Some(open) = self.open.as_mut().filter(|_| counts) else { return record.value() };
        open.total += 1;
        let of_table = match open.tables.get_mut(table) {
            Some(events) => {
                *events += 1;
                *events
            }
            None => {
                open.tables.insert(table.to_owned(), 1);
                1
            }
        };
        let id = record.transaction_id();
        let block = TransactionBlock { id: &id, total_order: open.total, data_collection_order: of_table };
        self.value.clear();
        let is_avro = self.control.encoding() == Encoding::Avro;
        if record.with_transaction(&block, is_avro, &mut self.value) {
            Some(&self.value)
        } else {
            record.value()
        }
    }

    /// END of the last one.
    pub fn end(&mut self) -> Option<ControlRecord> {
        let Open { place: Place { xid, commit_time, end, .. }, name, tables, .. } = self.open.take()?;
        let collections: Vec<_> = tables.into_iter().collect();
        let id = name.unwrap_or_else(|| transaction_id(xid, end));
        Some(self.control.end(&EndOfTransaction { id: &id, commit_time, collections: &collections }))
    }
}
