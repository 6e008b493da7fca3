//! Compares tables with their topics, by replaying them.
//!
//! What a consumer holds of a key is what the key's last record says. So the topic is read from its first record to the end
//! that it had when a cut at or beyond the snapshot's position was committed; the source's rows are made events by the
//! encoder that the stream uses, and what both say of a row's values is compared: in the form that the configuration
//! chose, masks and chosen columns included.
//!
//! Records behind the end that the topic had before the snapshot may be of later changes. A key that differs and has
//! such a record is looked at again in another round, with another snapshot and the records since; all others are
//! judged in the first. In between only the keys in question are held.

use super::{Against, Compared, Difference, LISTED, ROUNDS, Result, Verified};
use crate::debezium::{
    Cell, Encoder, FlatDeletes, Key, Marker, Occasion, Reader, Records, Seen, SnapshotRows, Style,
    Unreadable, routed, table_topic,
};
use crate::error::{Error, codes};
use crate::event::{ChangeBatch, CopyPart, CopyWriter, Op, SnapshotPoint};
use crate::runtime::replay::{Book, Findings, Ledger};
use crate::schema::{TableName, TableSchema};
use crate::sink::kafka::{Ends, KafkaSink, Logged};
use crate::sink::table_error;
use crate::source::{CopySession, Source};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that become events at once.
const PIECE: usize = 2048;

impl Against for KafkaSink {
    const CAN_SAMPLE: bool = false;

    async fn table<S: Source>(
        all: &Compared<'_, S, Self>,
        schema: &Arc<TableSchema>,
        result: &mut Verified,
    ) -> Result<()> {
        all.check_form(schema)?;
        let mut encoder = all.sink.encoder(schema)?;
        let reader = Reader::new(&mut encoder).map_err(own)?;
        let topic = encoder.topic().to_owned();
        let sides = Sides { encoder: Arc::new(encoder), reader: Arc::new(reader), topic };
        all.compare_log(schema, sides, result).await
    }
}

/// Our own record is not understood.
fn own(why: Unreadable) -> Error {
    Error::new(codes::RT001, why.0)
}

/// What makes events of the source's rows, and takes events apart.
struct Sides {
    encoder: Arc<Encoder>,
    reader: Arc<Reader>,
    topic: String,
}

/// One round: the source at a position, and the ends of the topic around it.
struct Round<C> {
    session: C,
    before: Ends,
    after: Ends,
}

impl<S: Source> Compared<'_, S, KafkaSink> {
    /// Not every form of events says what rows there are.
    fn check_form(&self, schema: &TableSchema) -> Result<()> {
        let events = super::super::events(self.cfg);
        let refused = |what: &str| Err(table_error(&schema.name, codes::KF014, what));
        let skipped = [Op::Read, Op::Create, Op::Update, Op::Delete]
            .into_iter()
            .find(|op| events.skipped_operations.contains(op));
        if let Some(op) = skipped {
            return refused(&format!("skipped_operations: its topic has no events of op {}", op.letter()));
        }
        if events.style == Style::Flat && events.flat_deletes == FlatDeletes::Drop {
            return refused("delete_tombstone_handling_mode: its topic does not say which rows are gone");
        }
        let topic = |name: &TableName| routed(&events, &table_topic(&events, name));
        let own = topic(&schema.name);
        if let Some(other) = self.names.iter().find(|name| **name != schema.name && topic(name) == own) {
            return refused(&format!("format.route: its topic has the records of \"{other}\", too"));
        }
        if let Some(asked) = events.message_key_columns.iter().find(|asked| asked.table == schema.name) {
            let is_asked = |at: &usize| {
                schema.columns.get(*at).is_some_and(|column| asked.columns.contains(&column.name))
            };
            if !schema.key.iter().all(is_asked) {
                return refused("message_key_columns: several of its rows may have one key in the topic");
            }
        }
        Ok(())
    }

    async fn log_round(&self, schema: &TableSchema, topic: &str) -> Result<Round<S::Copy>> {
        let before = self.sink.ends(&schema.name, topic).await?;
        let session = self.source.snapshot().await?;
        let point = session.position();
        if self.is_running().await? {
            self.await_cut(point).await?;
            let after = self.sink.ends(&schema.name, topic).await?;
            return Ok(Round { session, before, after });
        }
        self.catch_up(point).await?;
        // The topic ends where the snapshot was taken.
        let after = self.sink.ends(&schema.name, topic).await?;
        Ok(Round { session, before: after.clone(), after })
    }

    async fn compare_log(
        &self,
        schema: &Arc<TableSchema>,
        mut sides: Sides,
        result: &mut Verified,
    ) -> Result<()> {
        let mut round = self.log_round(schema, &sides.topic).await?;
        if let Some((partition, offset)) = round.after.cut_off() {
            let what = format!(
                "its topic \"{}\" no longer has its first records (partition {partition} begins at {offset})",
                sides.topic
            );
            return Err(table_error(&schema.name, codes::KF014, what));
        }
        let ledger = Arc::new(Ledger::new(self.sink.spill_dir(), sides.reader.columns().count())?);
        let mut records = self.replay(schema, &mut sides, (None, &round), &*ledger).await?;
        self.read_rows(schema, &sides, &mut round, Arc::clone(&ledger)).await?;
        let (mut book, mut found) = tokio::task::spawn_blocking(move || {
            let mut found = Findings::listing(LISTED);
            Ok::<_, Error>((ledger.compare(&mut found)?, found))
        })
        .await
        .map_err(|e| Error::new(codes::RT001, "a comparison broke").with_source(e))??;
        (result.source_rows, result.target_rows) = (found.source_rows, found.logged_rows);
        result.unknown = found.unknown;
        for number in 2..=ROUNDS {
            if book.is_empty() {
                break;
            }
            tracing::info!(table = %schema.name, keys = book.len(), round = number, "rows that changed meanwhile are compared again");
            let read_to = round.after;
            round.session.release().await?;
            book.next_round();
            round = self.log_round(schema, &sides.topic).await?;
            let held = Arc::new(Mutex::new(book));
            records += self.replay(schema, &mut sides, (Some(&read_to), &round), &*held).await?;
            self.read_rows(schema, &sides, &mut round, Arc::clone(&held)).await?;
            book = std::mem::take(&mut *held.lock().unwrap_or_else(PoisonError::into_inner));
            book.judge(&mut found);
        }
        result.position = round.session.position();
        round.session.release().await?;
        result.records = Some(records);
        result.unsettled = u64::try_from(book.len()).unwrap_or(u64::MAX).saturating_add(found.too_many);
        result.different = found.different;
        result.listed = found.listed.into_iter().map(|(fault, key)| Difference { fault, key }).collect();
        Ok(())
    }

    /// Reads the topic; says how many records it has.
    async fn replay(
        &self,
        schema: &TableSchema,
        sides: &mut Sides,
        (from, round): (Option<&Ends>, &Round<S::Copy>),
        into: &impl Tally,
    ) -> Result<u64> {
        let mut reader = Arc::clone(&sides.reader);
        let is_one = round.after.partitions() == 1;
        let mut records = 0;
        let mut replay = self.sink.replay(&sides.topic, from, &round.after);
        while let Some(batch) = replay.next().await? {
            records += u64::try_from(batch.len()).unwrap_or(u64::MAX);
            for record in &batch {
                for bytes in [&record.key, &record.value].into_iter().flatten() {
                    if let Some(id) = reader.unknown_schema(bytes) {
                        let known = self.sink.schema(id).await?;
                        let learned = Arc::make_mut(&mut reader).learn(id, &known);
                        learned.map_err(|why| unreadable(schema, &sides.topic, record, why))?;
                    }
                }
                let is_touched = round.before.is_behind(record);
                take(&reader, record, (is_one, is_touched), into)?
                    .map_err(|why| unreadable(schema, &sides.topic, record, why))?;
            }
        }
        sides.reader = reader;
        Ok(records)
    }

    /// Reads the source's rows.
    async fn read_rows(
        &self,
        schema: &Arc<TableSchema>,
        sides: &Sides,
        round: &mut Round<S::Copy>,
        into: Arc<impl Tally>,
    ) -> Result<()> {
        let point = round.session.point();
        let writer = |_| {
            let (encoder, reader) = (Arc::clone(&sides.encoder), Arc::clone(&sides.reader));
            Box::new(AsEvents { encoder, reader, point, into: Arc::clone(&into), records: Records::new() })
                as Box<dyn CopyWriter>
        };
        let writers = (0..self.cfg.snapshot.workers.max(1)).map(writer).collect();
        round.session.copy(Arc::clone(schema), writers, Arc::new(AtomicU64::new(0))).await?;
        Ok(())
    }
}

fn unreadable(schema: &TableSchema, topic: &str, record: &Logged, why: Unreadable) -> Error {
    let what = format!("record {} of partition {} of \"{topic}\": {why}", record.offset, record.partition);
    table_error(&schema.name, codes::KF014, what)
}

/// Takes a record of the topic.
fn take(
    reader: &Reader,
    record: &Logged,
    (is_one, is_touched): (bool, bool),
    into: &impl Tally,
) -> Result<std::result::Result<(), Unreadable>> {
    let seen = match reader.value(record.value.as_deref(), record.truncated.as_deref()) {
        Ok(Seen::Truncated) if is_one => return into.truncated(is_touched).map(Ok),
        Ok(Seen::Truncated) => {
            return Ok(Err(Unreadable(
                "a truncation, which has no place among the records of other partitions",
            )));
        }
        Ok(seen) => seen,
        Err(why) => return Ok(Err(why)),
    };
    let Some(key) = &record.key else { return Ok(Err(Unreadable("it has no key"))) };
    match reader.key(key) {
        Ok(key) => into.record(&key, &seen, is_touched).map(Ok),
        Err(why) => Ok(Err(why)),
    }
}

/// What takes rows and records.
trait Tally: Send + Sync + 'static {
    fn source(&self, key: &Key, cells: &[Cell]) -> Result<()>;
    fn record(&self, key: &Key, seen: &Seen, is_touched: bool) -> Result<()>;
    fn truncated(&self, is_touched: bool) -> Result<()>;
}

impl Tally for Ledger {
    fn source(&self, key: &Key, cells: &[Cell]) -> Result<()> {
        Ledger::source(self, key, cells)
    }

    fn record(&self, key: &Key, seen: &Seen, is_touched: bool) -> Result<()> {
        Ledger::record(self, key, seen, is_touched)
    }

    fn truncated(&self, is_touched: bool) -> Result<()> {
        Ledger::truncated(self, is_touched)
    }
}

impl Tally for Mutex<Book> {
    fn source(&self, key: &Key, cells: &[Cell]) -> Result<()> {
        self.lock().unwrap_or_else(PoisonError::into_inner).source(key, cells);
        Ok(())
    }

    fn record(&self, key: &Key, seen: &Seen, is_touched: bool) -> Result<()> {
        self.lock().unwrap_or_else(PoisonError::into_inner).record(key, seen, is_touched);
        Ok(())
    }

    fn truncated(&self, is_touched: bool) -> Result<()> {
        self.lock().unwrap_or_else(PoisonError::into_inner).truncated(is_touched);
        Ok(())
    }
}

/// Takes the rows of a copy as their events.
struct AsEvents<T> {
    encoder: Arc<Encoder>,
    reader: Arc<Reader>,
    point: SnapshotPoint,
    into: Arc<T>,
    records: Records,
}

impl<T: Tally> CopyWriter for AsEvents<T> {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let marker = Marker::True;
        let rows = SnapshotRows { point: self.point, first: marker, between: marker, last: marker };
        let occasion = Occasion { now_ns: 0, snapshot: Some(rows) };
        for from in (0..batch.len()).step_by(PIECE) {
            let piece = batch.slice(from, PIECE.min(batch.len() - from));
            self.records.clear();
            self.encoder.encode(&piece, &occasion, &mut self.records)?;
            for record in self.records.iter() {
                let key = self.reader.key(record.key().unwrap_or_default()).map_err(own)?;
                if let Seen::Row(cells) = self.reader.value(record.value(), None).map_err(own)? {
                    self.into.source(&key, &cells)?;
                }
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(())))
    }
}
