//! Events that are larger than a broker takes: none is dropped, and none comes as if it were whole.
//!
//! `stop`: the table stops, before anything of the unit is produced. `truncate`: the widest values of the row give way to
//! the placeholder that consumers of Debezium know for values that an event does not repeat, as many as it takes, and a
//! header names them. `dead_letter`: the event that was so shortened goes to another topic, in the same Kafka
//! transaction; its own topic does not have it. Where even that is too large (the key, many small values), the table
//! stops.

use super::options::{KafkaOptions, Oversize};
use crate::debezium::{Encoder, Marker, Occasion, Record, Records, SnapshotRows};
use crate::error::{Result, codes};
use crate::event::ChangeBatch;
use crate::sink::table_error;
use std::ops::Range;

/// Columns whose values an event lacks, with their bytes, as JSON.
pub(super) const TRUNCATED: &str = "__strandline.truncated";
/// Why an event is where it is.
const CODE: &str = "__strandline.error.code";
/// The topic that lacks it.
const TOPIC: &str = "__strandline.error.topic";
/// The bytes that it would have had.
const BYTES: &str = "__strandline.error.bytes";

/// Librdkafka's count of what a record takes beside key, value and headers.
const OVERHEAD: usize = 128;
/// What a block of its transaction takes at most.
const BLOCK: usize = 128;

/// How large records may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Of the table's topic.
    pub table: usize,
    /// Of the topic of those that are too large.
    pub dead_letter: usize,
}

/// Makes the records of batches, each small enough.
pub(super) struct Fit<'a> {
    pub encoder: &'a Encoder,
    pub options: &'a KafkaOptions,
    pub limits: Limits,
}

impl Fit<'_> {
    /// The records of a batch, in order, in one piece unless some are too large.
    ///
    /// # Errors
    /// `KF005`, and those of [`Encoder::encode`].
    pub(super) fn encode(&self, batch: &ChangeBatch, occasion: &Occasion) -> Result<Vec<Records>> {
        let mut records = Records::new();
        self.encoder.encode(batch, occasion, &mut records)?;
        if records.bytes() < self.limits.table || records.iter().all(|record| self.fits(&record)) {
            return Ok(vec![records]);
        }
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < records.len() {
            let row_of = |index: usize| records.get(index).map(|record| record.row());
            let is_large = |index: usize| records.get(index).is_some_and(|record| !self.fits(&record));
            let Some(large) = (from..records.len()).find(|index| is_large(*index)) else {
                pieces.push(records.picked(from..records.len()));
                break;
            };
            let row = row_of(large);
            let start = (from..large).rfind(|index| row_of(*index) != row).map_or(from, |before| before + 1);
            let end = (large..records.len()).find(|index| row_of(*index) != row).unwrap_or(records.len());
            if start > from {
                pieces.push(records.picked(from..start));
            }
            self.shorten(batch, occasion, (&records, start..end), &mut pieces)?;
            from = end;
        }
        Ok(pieces)
    }

    fn size(&self, record: &Record<'_>) -> usize {
        let headers: usize = record.headers().map(|(name, value)| name.len() + value.len() + 8).sum();
        let block = if self.options.events.provide_transaction_metadata { BLOCK } else { 0 };
        record.key().map_or(0, <[u8]>::len)
            + record.value().map_or(0, <[u8]>::len)
            + headers
            + OVERHEAD
            + block
    }

    fn fits(&self, record: &Record<'_>) -> bool {
        let limit = if record.diverted().is_some() { self.limits.dead_letter } else { self.limits.table };
        self.size(record) <= limit
    }

    /// The records of one row, some of which are too large.
    fn shorten(
        &self,
        batch: &ChangeBatch,
        occasion: &Occasion,
        (records, of): (&Records, Range<usize>),
        pieces: &mut Vec<Records>,
    ) -> Result<()> {
        let row = records.get(of.start).map_or(0, |record| record.row());
        let sizes: Vec<usize> = of.clone().filter_map(|i| records.get(i)).map(|r| self.size(&r)).collect();
        let refuse = || {
            let size = sizes.iter().max().copied().unwrap_or(0);
            let what = format!("an event of {size} bytes is larger than the limit of {}", self.limits.table);
            table_error(&self.encoder.schema().name, codes::KF005, what).with_try(
                "raise sink.max_record and the topic's max.message.bytes, then resync the table; or choose sink.oversize",
            )
        };
        let wide = match &self.options.oversize {
            Oversize::Stop => return Err(refuse()),
            Oversize::Truncate | Oversize::DeadLetter { .. } => self.encoder.wide_columns(batch, row)?,
        };
        let (single, occasion) = (batch.slice(row, 1), single(occasion, row, batch.len()));
        let mut hidden = Vec::new();
        let mut told = serde_json::Map::new();
        for (column, bytes) in wide {
            hidden.push(column);
            let name = self.encoder.schema().columns.get(column).map_or("", |column| &column.name);
            told.insert(name.to_owned(), bytes.into());
            let mut short = Records::new();
            self.encoder.encode_without(&single, &hidden, &occasion, &mut short)?;
            let mark = serde_json::Value::Object(told.clone()).to_string();
            if let Some(done) = self.arranged((records, of.start), &short, &sizes, &mark) {
                tracing::warn!(
                    table = %self.encoder.schema().name, columns = mark, bytes = sizes.iter().max(),
                    code = codes::KF005.id, "an event was too large: sink.oversize says what becomes of it",
                );
                pieces.extend(done);
                return Ok(());
            }
        }
        Err(refuse())
    }

    /// Marks the shortened records where the whole ones were too large; `None`: one of them still is.
    fn arranged(
        &self,
        (whole, from): (&Records, usize),
        short: &Records,
        sizes: &[usize],
        mark: &str,
    ) -> Option<Vec<Records>> {
        let mut done = Vec::with_capacity(short.len());
        for (index, size) in sizes.iter().enumerate() {
            if *size <= self.limits.table {
                done.push(whole.picked(from + index..from + index + 1));
                continue;
            }
            let mut one = short.picked(index..index + 1).with_header(TRUNCATED, mark);
            if let Oversize::DeadLetter { topic } = &self.options.oversize {
                one = one
                    .with_header(CODE, codes::KF005.id)
                    .with_header(TOPIC, self.encoder.topic())
                    .with_header(BYTES, &size.to_string())
                    .diverted(topic);
            }
            if !one.iter().all(|record| self.fits(&record)) {
                return None;
            }
            done.push(one);
        }
        Some(done)
    }
}

/// What holds for one row of a batch alone.
fn single(occasion: &Occasion, row: usize, rows: usize) -> Occasion {
    let snapshot = occasion.snapshot.map(|all| {
        let marker: Marker = match row {
            row if row + 1 == rows => all.last,
            0 => all.first,
            _ => all.between,
        };
        SnapshotRows { first: marker, between: marker, last: marker, ..all }
    });
    Occasion { snapshot, ..*occasion }
}
