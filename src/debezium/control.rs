//! Records beside the tables' own: transactions, heartbeats, logical messages.

use super::avro::Avro;
use super::avro_schema;
use super::connect::{Schema, Type};
use super::encoder::{AvroSchemas, Change, Frame, JsonOuts, Marker, Outs};
use super::envelope::{Source, block_schema, source_schema};
use super::image::{MakeOut, WriteWith};
use super::json;
use super::notification::{Notification, Told};
use super::options::{BinaryMode, Encoding, Options};
use super::out::{Nullness, Out};
use super::record::TransactionBlock;
use super::topic::{heartbeat_topic, message_topic, transaction_topic};
use super::value::{Cell, Conv};
use crate::event::Op;
use crate::position::Lsn;
use std::ops::Range;
use std::sync::Arc;

/// One record. It has no headers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControlRecord {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What a transaction's END tells: events per table, as `schema.table`. Tombstones do not count, the two halves of a
/// key change do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndOfTransaction<'a> {
    /// The transaction, as its END shows it.
    pub id: &'a str,
    /// When it committed, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// Its tables, each with its number of events.
    pub collections: &'a [(String, u64)],
}

/// A message that an application put into the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogicalMessage<'a> {
    /// Its kind.
    pub prefix: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// Its transaction; `None`: it is of none.
    pub xid: Option<u32>,
    /// Where it stands.
    pub lsn: Lsn,
    /// End of the transaction before it.
    pub previous: Option<Lsn>,
    /// The transaction's commit, or the server's clock; microseconds since 2000-01-01 UTC.
    pub time: i64,
}

/// Where a logical message's parts stand.
pub(super) struct MessageParts {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    /// The transaction block, or the null in its place.
    pub(super) transaction: Range<usize>,
}

/// The kinds of records, each with key and value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlKind {
    /// BEGIN and END.
    Transaction,
    /// Heartbeats.
    Heartbeat,
    /// Logical messages.
    Message,
    /// Notifications.
    Notification,
}

const KINDS: usize = 4;

impl ControlKind {
    fn place(self) -> usize {
        match self {
            ControlKind::Transaction => 0,
            ControlKind::Heartbeat => 1,
            ControlKind::Message => 2,
            ControlKind::Notification => 3,
        }
    }
}

/// Writes these records. One for a pipeline.
#[derive(Debug)]
pub struct Control {
    options: Arc<Options>,
    outs: Outs,
    /// Frames of key and value, by kind.
    frames: [(Frame, Frame); KINDS],
    source: Source,
    content: Conv,
}

/// Names of the transaction topic's events are the same for all connectors.
const COMMON: &str = "io.debezium.connector.common";

/// `756:31251656`: the id of a transaction as an event at this place shows it.
pub fn transaction_id(xid: u32, lsn: Lsn) -> String {
    format!("{xid}:{}", lsn.raw())
}

/// The block as JSON.
pub(super) fn transaction_block(block: &TransactionBlock<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    json::string(block.id, out);
    out.extend_from_slice(b",\"total_order\":");
    json::integer(block.total_order.cast_signed(), out);
    out.extend_from_slice(b",\"data_collection_order\":");
    json::integer(block.data_collection_order.cast_signed(), out);
    out.push(b'}');
}

impl Control {
    /// For these options.
    pub fn new(options: &Arc<Options>) -> Self {
        let frame = |schema: &Schema| Frame::new(options.encoding, schema);
        let outs = Outs::new(options);
        let frames = schemas(options).map(|(key, value)| (frame(&key), frame(&value)));
        let content = Conv::Octets(options.binary);
        let source = Source::new(("", ""), options, &outs);
        Control { options: Arc::clone(options), outs, frames, source, content }
    }

    /// How bytes are made.
    pub(super) fn encoding(&self) -> Encoding {
        self.options.encoding
    }

    /// The topic of BEGIN and END.
    pub fn transaction_topic(&self) -> String {
        transaction_topic(&self.options)
    }

    /// The topic of heartbeats; they go to partition 0.
    pub fn heartbeat_topic(&self) -> String {
        heartbeat_topic(&self.options)
    }

    /// The topic of logical messages.
    pub fn message_topic(&self) -> String {
        message_topic(&self.options)
    }

    /// The topic of these records and their schemas, to be registered, if the encoding is Avro.
    pub fn avro_schemas(&self, kind: ControlKind) -> Option<(String, AvroSchemas)> {
        if self.options.encoding != Encoding::Avro {
            return None;
        }
        let topic = match kind {
            ControlKind::Transaction => self.transaction_topic(),
            ControlKind::Heartbeat => self.heartbeat_topic(),
            ControlKind::Message => self.message_topic(),
            ControlKind::Notification => self.options.notification_topic.clone()?,
        };
        let (key, value) = schemas(&self.options).into_iter().nth(kind.place())?;
        let (key, value) = (avro_schema::render(&key), avro_schema::render(&value));
        Some((topic, AvroSchemas { key: Some(key), value }))
    }

    /// The ids that the registry gave them.
    pub fn set_schema_ids(&mut self, kind: ControlKind, key: u32, value: u32) {
        if let Some(frames) = self.frames.get_mut(kind.place()) {
            *frames = (Frame::registered(key), Frame::registered(value));
        }
    }

    /// BEGIN: before the first event of a transaction.
    pub fn begin(&self, id: &str, commit_time: i64) -> ControlRecord {
        self.transaction("BEGIN", id, commit_time, None)
    }

    /// END: behind the last event of a transaction. Transactions without events have neither.
    pub fn end(&self, end: &EndOfTransaction<'_>) -> ControlRecord {
        self.transaction("END", end.id, end.commit_time, Some(end.collections))
    }

    fn transaction(
        &self,
        status: &str,
        id: &str,
        commit_time: i64,
        collections: Option<&[(String, u64)]>,
    ) -> ControlRecord {
        let ts_ms = (commit_time + EPOCH).div_euclid(1000);
        self.record(0, OneText("id", id), Status { status, id, ts_ms, collections })
    }

    /// A heartbeat at this moment, milliseconds since 1970.
    pub fn heartbeat(&self, now_ms: i64) -> ControlRecord {
        self.record(1, OneText("serverName", &self.options.topic_prefix), Heartbeat(now_ms))
    }

    /// A notification.
    pub fn notification(&self, told: &Notification) -> ControlRecord {
        self.record(3, OneText("id", &told.id), Told(told, &self.options.topic_prefix))
    }

    /// A logical message. `block`: its place in its transaction, if that is told.
    pub fn message(
        &self,
        message: &LogicalMessage<'_>,
        block: Option<&TransactionBlock<'_>>,
        now_ns: i64,
    ) -> ControlRecord {
        let value = Message { control: self, message, block, now_ns };
        self.record(2, OptionalText("prefix", message.prefix), value)
    }

    /// Appends a logical message's key and value, in these frames.
    pub(super) fn message_parts(
        &self,
        (key_frame, value_frame): (&Frame, &Frame),
        message: &LogicalMessage<'_>,
        now_ns: i64,
        out: &mut Vec<u8>,
    ) -> MessageParts {
        let start = out.len();
        self.framed(key_frame, OptionalText("prefix", message.prefix), out);
        let key = start..out.len();
        let value = Message { control: self, message, block: None, now_ns };
        let transaction = self.framed(value_frame, value, out);
        MessageParts { value: key.end..out.len(), key, transaction }
    }

    /// Schemas of a logical message's key and value.
    pub(super) fn message_schemas(&self) -> (Schema, Schema) {
        let [_, _, schemas, _] = schemas(&self.options);
        schemas
    }

    fn record<R>(&self, kind: usize, key: impl WriteWith<()>, value: impl WriteWith<R>) -> ControlRecord {
        let mut record = ControlRecord::default();
        if let Some((key_frame, value_frame)) = self.frames.get(kind) {
            self.framed(key_frame, key, &mut record.key);
            self.framed(value_frame, value, &mut record.value);
        }
        record
    }

    fn framed<R>(&self, frame: &Frame, write: impl WriteWith<R>, out: &mut Vec<u8>) -> R {
        out.extend_from_slice(&frame.open);
        let written = match &self.outs {
            Outs::Json(json) => JsonOuts::with(json, out, write),
            Outs::Avro => write.call(&mut Avro { out }),
        };
        out.extend_from_slice(&frame.close);
        written
    }
}

/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800_000_000;

struct OneText<'a>(&'a str, &'a str);

impl WriteWith<()> for OneText<'_> {
    fn call<O: Out>(self, out: &mut O) {
        out.begin_struct();
        out.field(&super::out::label(self.0), 0);
        out.text(self.1);
        out.end_struct();
    }
}

struct OptionalText<'a>(&'a str, &'a str);

impl WriteWith<()> for OptionalText<'_> {
    fn call<O: Out>(self, out: &mut O) {
        out.begin_struct();
        out.field(&super::out::label(self.0), 0);
        out.some(Nullness::Optional);
        out.text(self.1);
        out.end_struct();
    }
}

struct Heartbeat(i64);

impl WriteWith<()> for Heartbeat {
    fn call<O: Out>(self, out: &mut O) {
        out.begin_struct();
        out.field(b"\"ts_ms\":", 0);
        out.integer(self.0);
        out.end_struct();
    }
}

struct Status<'a> {
    status: &'a str,
    id: &'a str,
    ts_ms: i64,
    collections: Option<&'a [(String, u64)]>,
}

impl WriteWith<()> for Status<'_> {
    fn call<O: Out>(self, out: &mut O) {
        let optional = Nullness::Optional;
        out.begin_struct();
        out.field(b"\"status\":", 0);
        out.text(self.status);
        out.field(b"\"id\":", 1);
        out.text(self.id);
        out.field(b"\"event_count\":", 2);
        match self.collections {
            None => out.null(optional),
            Some(collections) => {
                out.some(optional);
                out.integer(collections.iter().map(|(_, events)| events.cast_signed()).sum());
            }
        }
        out.field(b"\"data_collections\":", 3);
        match self.collections {
            None => out.null(optional),
            Some(collections) => {
                out.some(optional);
                collections_of(collections, out);
            }
        }
        out.field(b"\"ts_ms\":", 4);
        out.integer(self.ts_ms);
        out.end_struct();
    }
}

fn collections_of<O: Out>(collections: &[(String, u64)], out: &mut O) {
    out.begin_array(collections.len());
    for (at, (name, events)) in collections.iter().enumerate() {
        out.item(at);
        out.some(Nullness::Optional);
        out.begin_struct();
        out.field(b"\"data_collection\":", 0);
        out.text(name);
        out.field(b"\"event_count\":", 1);
        out.integer(events.cast_signed());
        out.end_struct();
    }
    out.end_array(collections.len());
}

struct Message<'a> {
    control: &'a Control,
    message: &'a LogicalMessage<'a>,
    block: Option<&'a TransactionBlock<'a>>,
    now_ns: i64,
}

/// Returns where its transaction block stands.
impl WriteWith<Range<usize>> for Message<'_> {
    fn call<O: Out>(self, out: &mut O) -> Range<usize> {
        let Message { control, message, block, now_ns } = self;
        let optional = Nullness::Optional;
        let change = Change {
            row: 0,
            op: Op::Create,
            marker: Marker::False,
            lsn: message.lsn,
            xid: message.xid.map(u64::from),
            previous: message.previous,
            ordinal: 0,
            commit_start: Lsn::ZERO,
            end: Lsn::ZERO,
            source_us: message.time + EPOCH,
            now_ns,
            origin: None,
        };
        out.begin_struct();
        out.field(b"\"op\":", 0);
        out.text("m");
        out.field(b"\"ts_ms\":", 1);
        out.some(optional);
        out.integer(now_ns.div_euclid(1_000_000));
        out.field(b"\"source\":", 2);
        control.source.write(&change, out);
        out.field(b"\"transaction\":", 3);
        let hole = out.position();
        match block {
            None => out.null(optional),
            Some(block) => {
                out.some(optional);
                out.begin_struct();
                out.field(b"\"id\":", 0);
                out.text(block.id);
                out.field(b"\"total_order\":", 1);
                out.integer(block.total_order.cast_signed());
                out.field(b"\"data_collection_order\":", 2);
                out.integer(block.data_collection_order.cast_signed());
                out.end_struct();
            }
        }
        let hole = hole..out.position();
        out.field(b"\"message\":", 4);
        out.begin_struct();
        out.field(b"\"prefix\":", 0);
        out.some(optional);
        out.text(message.prefix);
        out.field(b"\"content\":", 1);
        out.some(optional);
        // Octets are always of their form.
        let _written = control.content.write(Cell::Bytes(message.content), out);
        out.end_struct();
        out.end_struct();
        hole
    }
}

/// Schemas of key and value: transaction, heartbeat, message, notification.
fn schemas(options: &Options) -> [(Schema, Schema); KINDS] {
    let text = || Schema::of(Type::String);
    let long = || Schema::of(Type::Int64);
    let collection = Schema::structure(vec![("data_collection", text()), ("event_count", long())]);
    let transaction = vec![
        ("status", text()),
        ("id", text()),
        ("event_count", long().optional()),
        ("data_collections", Schema::array(collection.optional().named("event.collection")).optional()),
        ("ts_ms", long()),
    ];
    let content = if options.binary == BinaryMode::Bytes { Type::Bytes } else { Type::String };
    let message = vec![("prefix", text().optional()), ("content", Schema::of(content).optional())];
    let connector = format!("io.debezium.connector.{}", options.connector.as_str());
    let value = vec![
        ("op", text()),
        ("ts_ms", long().optional()),
        ("source", source_schema(options.connector)),
        ("transaction", block_schema().optional()),
        ("message", Schema::structure(message).named(format!("{connector}.Message"))),
    ];
    [
        (
            Schema::structure(vec![("id", text())]).named(format!("{COMMON}.TransactionMetadataKey")),
            Schema::structure(transaction).named(format!("{COMMON}.TransactionMetadataValue")),
        ),
        (
            Schema::structure(vec![("serverName", text())]).named(format!("{COMMON}.ServerNameKey")),
            Schema::structure(vec![("ts_ms", long())]).named(format!("{COMMON}.Heartbeat")),
        ),
        (
            Schema::structure(vec![("prefix", text().optional())]).named(format!("{connector}.MessageKey")),
            Schema::structure(value).named(format!("{connector}.MessageValue")),
        ),
        super::notification::schemas(COMMON),
    ]
}
