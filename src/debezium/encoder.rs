//! A table's writer: compiled once, then rows become records.

use super::avro::Avro;
use super::change::change_of;
use super::columns;
use super::compile::{for_style, key_columns, shared_headers};
use super::connect::{Schema, Type};
use super::control::Control;
use super::definition::{self, Definitions};
use super::envelope::{Common, Envelope, Parts};
use super::flat::Flat;
use super::image::{Fault, Image, MakeOut, Rows, WriteWith};
use super::message;
use super::native::Native;
use super::options::{Connector, DecimalFormat, Encoding, FlatDeletes, Options, Style};
use super::out::Json;
use super::record::{Entry, KeyHeader, Place, Records, SharedHeaders};
use super::topic::{adjusted_schema_name, routed, schema_change_topic, table_topic};
use super::value::Trouble;
use crate::error::{Code, Error, Result, codes};
use crate::event::{ChangeBatch, Op, Origin, OriginRun, SnapshotPoint, Txn};
use crate::position::{CommitLsn, Lsn};
use crate::schema::TableSchema;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Old rows of a batch, and for each of its changes which of them is its own.
type OldRows<'a> = (Rows<'a>, &'a [u32]);

/// Which place a row has in its snapshot: `source.snapshot`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marker {
    /// `true`.
    True,
    /// `first`.
    First,
    /// `first_in_data_collection`.
    FirstInDataCollection,
    /// `last_in_data_collection`.
    LastInDataCollection,
    /// `last`.
    Last,
    /// `false`: streamed.
    False,
    /// `incremental`.
    Incremental,
}

impl Marker {
    /// As in `source.snapshot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Marker::True => "true",
            Marker::First => "first",
            Marker::FirstInDataCollection => "first_in_data_collection",
            Marker::LastInDataCollection => "last_in_data_collection",
            Marker::Last => "last",
            Marker::False => "false",
            Marker::Incremental => "incremental",
        }
    }
}

/// What rows of a snapshot are: for a batch of `op r`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotRows {
    /// The snapshot.
    pub point: SnapshotPoint,
    /// The batch's first row; for a batch of one row `last` holds.
    pub first: Marker,
    /// Those between.
    pub between: Marker,
    /// The batch's last row.
    pub last: Marker,
}

/// What a batch does not say of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occasion {
    /// Nanoseconds since 1970: the events' own time.
    pub now_ns: i64,
    /// For rows of a snapshot.
    pub snapshot: Option<SnapshotRows>,
}

/// One change, as its event shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    pub(super) row: usize,
    pub(super) op: Op,
    pub(super) marker: Marker,
    pub(super) lsn: Lsn,
    pub(super) xid: Option<u64>,
    /// End of the transaction before.
    pub(super) previous: Option<Lsn>,
    pub(super) ordinal: u64,
    pub(super) commit_start: Lsn,
    pub(super) end: Lsn,
    /// Microseconds since 1970.
    pub(super) source_us: i64,
    pub(super) now_ns: i64,
    /// Of a binary log: its event, and which row of it.
    pub(super) origin: Option<(&'a OriginRun, u32)>,
}

/// Microseconds from 1970 to 2000.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// Makes JSON writers.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonOuts {
    pub(super) decimals: DecimalFormat,
    pub(super) with_schema: bool,
}

impl JsonOuts {
    pub(super) fn over<'a>(&self, out: &'a mut Vec<u8>) -> Json<'a> {
        Json { out, decimals: self.decimals, with_schema: self.with_schema }
    }
}

impl MakeOut for JsonOuts {
    fn with<R>(&self, buffer: &mut Vec<u8>, write: impl WriteWith<R>) -> R {
        write.call(&mut self.over(buffer))
    }
}

/// Makes the writers of one encoding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outs {
    Json(JsonOuts),
    Avro,
}

impl Outs {
    pub(super) fn new(options: &Options) -> Self {
        let decimals = options.decimal_format;
        match options.encoding {
            Encoding::Json => Outs::Json(JsonOuts { decimals, with_schema: false }),
            Encoding::JsonWithSchema => Outs::Json(JsonOuts { decimals, with_schema: true }),
            Encoding::Avro => Outs::Avro,
        }
    }
}

impl MakeOut for Outs {
    fn with<R>(&self, out: &mut Vec<u8>, write: impl WriteWith<R>) -> R {
        match self {
            Outs::Json(json) => json.with(out, write),
            Outs::Avro => write.call(&mut Avro { out }),
        }
    }
}

/// The form of values.
#[derive(Debug)]
enum Form {
    Envelope(Envelope),
    Flat(Flat),
    Native(Native),
    /// Its rows are logical messages.
    Messages(Box<Control>),
    /// Its rows are definitions.
    Definitions(Definitions),
}

/// What stands around a value or a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    pub(super) open: Vec<u8>,
    pub(super) close: Vec<u8>,
}

impl Frame {
    /// Around values of this schema.
    pub(super) fn new(encoding: Encoding, schema: &Schema) -> Self {
        match encoding {
            Encoding::Json => Frame::default(),
            Encoding::JsonWithSchema => {
                let mut open = b"{\"schema\":".to_vec();
                schema.write(None, &mut open);
                open.extend_from_slice(b",\"payload\":");
                Frame { open, close: b"}".to_vec() }
            }
            Encoding::Avro => Frame::registered(0),
        }
    }

    /// Around Avro of a schema that a registry knows.
    pub(super) fn registered(id: u32) -> Self {
        let mut open = vec![0];
        open.extend_from_slice(&id.to_be_bytes());
        Frame { open, close: Vec::new() }
    }
}

/// The schemas of a table's records as Avro, to be registered under `<topic>-key` and `<topic>-value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AvroSchemas {
    /// The key's; `None` for a table without a key.
    pub key: Option<String>,
    /// The value's.
    pub value: String,
}

/// Writes the records of one table under one schema. See [`super`] for the use.
#[derive(Debug)]
pub struct Encoder {
    pub(super) options: Arc<Options>,
    schema: Arc<TableSchema>,
    outs: Outs,
    topic: String,
    pub(super) key: Option<Image>,
    /// In base64 they are not as headers show them.
    key_has_decimals: bool,
    pub(super) row: Image,
    dropped: Vec<String>,
    form: Form,
    key_schema: Option<Schema>,
    value_schema: Schema,
    key_frame: Frame,
    value_frame: Frame,
    headers: Arc<SharedHeaders>,
    /// Bytes of a row's records in the last batch, and some: so that the buffer need not grow.
    typical: AtomicUsize,
}

/// A row of an image, if there is one.
type RowOf<'a> = Option<(&'a Rows<'a>, usize)>;

/// Where a written key stands: as a whole, and as bare JSON for headers.
struct Key {
    whole: Range<usize>,
    bare: Option<Range<usize>>,
}

/// Where records go, and what is rendered already for them.
struct Target<'a> {
    records: &'a mut Records,
    common: Common,
    name: Name,
}

/// The name of the transaction that is being written, and where it stands among the bytes.
#[derive(Default)]
struct Name {
    of: Option<Arc<Origin>>,
    part: Range<usize>,
}

impl Target<'_> {
    /// Writes the name that a transaction of a binary log has, once: its GTID, or the place of its beginning.
    fn name_transaction(&mut self, origin: &Arc<Origin>) {
        if self.name.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, origin)) {
            return;
        }
        let start = self.bytes.len();
        match &origin.gtid {
            Some(gtid) => self.bytes.extend_from_slice(gtid.as_bytes()),
            None => {
                let place = format!("file={},pos={}", origin.file, origin.begin);
                self.bytes.extend_from_slice(place.as_bytes());
            }
        }
        self.name = Name { of: Some(Arc::clone(origin)), part: start..self.bytes.len() };
    }
}

impl Deref for Target<'_> {
    type Target = Records;

    fn deref(&self) -> &Records {
        self.records
    }
}

impl DerefMut for Target<'_> {
    fn deref_mut(&mut self) -> &mut Records {
        self.records
    }
}

impl Encoder {
    /// Compiles the writer of a table.
    ///
    /// # Errors
    /// `CF003` for a field of the row alone that does not exist, or a key column that the table has not.
    pub fn new(schema: &Arc<TableSchema>, options: &Arc<Options>) -> Result<Self> {
        if schema.is_messages() {
            return Ok(Encoder::of_messages(schema, options));
        }
        if schema.is_definitions() {
            return Ok(Encoder::of_definitions(schema, options));
        }
        let options = &for_style(options);
        let outs = Outs::new(options);
        let topic = table_topic(options, &schema.name);
        let base = adjusted_schema_name(options.schema_name_adjustment, &topic);
        let columns = key_columns(schema, options)?;
        columns::check_all(schema, options, &columns)?;
        let (row, dropped) = Image::compile(schema, 0..schema.columns.len(), options, &outs);
        let (key, _) = Image::compile(schema, columns.into_iter(), options, &outs);
        let key = (!key.fields.is_empty()).then_some(key);
        let row_schema = row.schema().unversioned(format!("{base}.Value"));
        let key_schema = key.as_ref().map(|key| key.schema().unversioned(format!("{base}.Key")));
        let (form, value_schema) = match options.style {
            Style::Debezium => {
                let envelope = Envelope::new(schema, options, &outs);
                let value_schema = envelope.schema(options.connector, &base, row_schema);
                (Form::Envelope(envelope), value_schema)
            }
            Style::Flat => {
                let flat = Flat::new(schema, options)?;
                let value_schema = flat.schema(row_schema);
                (Form::Flat(flat), value_schema)
            }
            Style::Native => {
                let native = Native::new(schema, &outs);
                let value_schema = native.schema(&base, row_schema);
                (Form::Native(native), value_schema)
            }
        };
        let none = Schema::of(Type::Struct(Vec::new()));
        Ok(Encoder {
            topic: routed(options, &topic),
            key_frame: Frame::new(options.encoding, key_schema.as_ref().unwrap_or(&none)),
            value_frame: Frame::new(options.encoding, &value_schema),
            headers: Arc::new(shared_headers(options)),
            typical: AtomicUsize::default(),
            schema: Arc::clone(schema),
            options: Arc::clone(options),
            outs,
            key_has_decimals: key.as_ref().is_some_and(Image::has_decimals),
            key,
            row,
            dropped,
            form,
            key_schema,
            value_schema,
        })
    }

    /// The writer of logical messages: they have one form, whatever the style, and no headers.
    fn of_messages(schema: &Arc<TableSchema>, options: &Arc<Options>) -> Self {
        let control = Control::new(options);
        let (schemas, topic) = (control.message_schemas(), control.message_topic());
        let form = Form::Messages(Box::new(control));
        Encoder::of_beside((schema, options), topic, schemas, form, SharedHeaders::default())
    }

    /// The writer of definitions: one form, and all in one partition.
    fn of_definitions(schema: &Arc<TableSchema>, options: &Arc<Options>) -> Self {
        let form = Form::Definitions(Definitions::new(options));
        let headers = SharedHeaders { own: Vec::new(), partition: Some(0), ..shared_headers(options) };
        let topic = schema_change_topic(options);
        Encoder::of_beside((schema, options), topic, definition::schemas(options), form, headers)
    }

    fn of_beside(
        (schema, options): (&Arc<TableSchema>, &Arc<Options>),
        topic: String,
        (key_schema, value_schema): (Schema, Schema),
        form: Form,
        headers: SharedHeaders,
    ) -> Self {
        let outs = Outs::new(options);
        let (row, _) = Image::compile(schema, 0..0, options, &outs);
        Encoder {
            topic,
            key_frame: Frame::new(options.encoding, &key_schema),
            value_frame: Frame::new(options.encoding, &value_schema),
            headers: Arc::new(headers),
            typical: AtomicUsize::default(),
            schema: Arc::clone(schema),
            options: Arc::clone(options),
            outs,
            key: None,
            key_has_decimals: false,
            row,
            dropped: Vec::new(),
            form,
            key_schema: Some(key_schema),
            value_schema,
        }
    }

    /// The topic that the records go to.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The table's schema that it was compiled for: rows of another one need another encoder.
    pub fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    /// Columns that the records do not have, because Debezium does not know their types. To be told once.
    pub fn dropped_columns(&self) -> &[String] {
        &self.dropped
    }

    /// Whether records have keys.
    pub fn has_key(&self) -> bool {
        self.key_schema.is_some()
    }

    /// The schemas to be registered, if the encoding is Avro.
    pub fn avro_schemas(&self) -> Option<AvroSchemas> {
        matches!(self.outs, Outs::Avro).then(|| AvroSchemas {
            key: self.key_schema.as_ref().map(super::avro_schema::render),
            value: super::avro_schema::render(&self.value_schema),
        })
    }

    /// The ids that the registry gave them. Before the first [`Encoder::encode`].
    pub fn set_schema_ids(&mut self, key: u32, value: u32) {
        self.key_frame = Frame::registered(key);
        self.value_frame = Frame::registered(value);
    }

    /// Adds the records of a batch to `out`, in its order. After an error `out` is as it was.
    ///
    /// # Errors
    /// `PG021` for a value that the format cannot hold, `PG023` for an unchanged one that is not known and has no
    /// placeholder: the table must stop. `RT001` for a batch of another schema.
    pub fn encode(&self, batch: &ChangeBatch, occasion: &Occasion, out: &mut Records) -> Result<()> {
        self.encode_without(batch, &[], occasion, out)
    }

    /// The same with the placeholder of unchanged values instead of the values of these columns ([`Encoder::wide_columns`]).
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_without(
        &self,
        batch: &ChangeBatch,
        hidden: &[usize],
        occasion: &Occasion,
        out: &mut Records,
    ) -> Result<()> {
        let mark = (out.entries.len(), out.bytes.len());
        out.shared = Arc::clone(&self.headers);
        out.entries.reserve(batch.len());
        out.bytes.reserve(batch.len() * self.typical.load(Ordering::Relaxed));
        let result = match &self.form {
            Form::Messages(control) => {
                message::encode(control, (&self.key_frame, &self.value_frame), batch, occasion, out)
            }
            Form::Definitions(definitions) => {
                definitions.encode((&self.key_frame, &self.value_frame), batch, occasion, out)
            }
            _ => self.encode_all(batch, hidden, occasion, out),
        };
        if result.is_err() {
            out.truncate(mark.0, mark.1);
        } else if let Some(typical) = (out.bytes.len() - mark.1).checked_div(batch.len()) {
            self.typical.store(typical + typical / 16, Ordering::Relaxed);
        }
        result
    }

    /// Columns of a row whose values may be left out, and the bytes of the wider of its images: widest first.
    /// Those are no part of the key, and their type has a placeholder.
    ///
    /// # Errors
    /// `RT001` for a batch of another schema.
    pub fn wide_columns(&self, batch: &ChangeBatch, row: usize) -> Result<Vec<(usize, usize)>> {
        let (after, before) = self.rows_of(batch)?;
        let old = before.as_ref().and_then(|(rows, index)| old_row(rows, index, row));
        let is_key =
            |column| self.key.as_ref().is_some_and(|key| key.fields.iter().any(|f| f.column == column));
        let may_go = self.row.fields.iter().filter(|f| f.placeholder.is_some() && !is_key(f.column));
        let width = |column| after.width(column, row).max(old.map_or(0, |(rows, at)| rows.width(column, at)));
        let mut wide: Vec<_> = may_go.map(|f| (f.column, width(f.column))).filter(|(_, n)| *n > 0).collect();
        wide.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Ok(wide)
    }

    fn rows_of<'a>(&self, batch: &'a ChangeBatch) -> Result<(Rows<'a>, Option<OldRows<'a>>)> {
        let misuse = || Error::new(codes::RT001, "a batch of another form than its encoder's");
        if batch.after.num_columns() != self.schema.columns.len() {
            return Err(misuse());
        }
        let after = Rows::new(batch.after.columns(), &batch.unchanged).ok_or_else(misuse)?;
        let before = match &batch.before {
            Some(before) => {
                let rows = Rows::new(before.rows.columns(), &[]).ok_or_else(misuse)?;
                Some((rows, before.index.as_slice()))
            }
            None => None,
        };
        Ok((after, before))
    }

    fn encode_all(
        &self,
        batch: &ChangeBatch,
        hidden: &[usize],
        occasion: &Occasion,
        out: &mut Records,
    ) -> Result<()> {
        let (mut after, mut before) = self.rows_of(batch)?;
        after.hide(hidden);
        if let Some((rows, _)) = &mut before {
            rows.hide(hidden);
        }
        let mut runs = batch.runs.iter().peekable();
        let mut txn: Option<(Txn, Option<CommitLsn>)> = None;
        let mut out = Target { records: out, common: Common::default(), name: Name::default() };
        for (row, &op) in batch.ops.iter().enumerate() {
            while let Some(run) = runs.next_if(|run| run.first_row as usize <= row) {
                txn = Some((run.txn, run.end));
            }
            let change = change_of(batch, row, op, txn, occasion)?;
            if change.origin.is_none() && self.options.connector != Connector::Postgresql {
                let what = "a row that does not say where in the binary log it was";
                return Err(Error::new(codes::RT001, what));
            }
            if let Some((run, _)) = change.origin.filter(|_| self.options.provide_transaction_metadata) {
                out.name_transaction(&run.origin);
            }
            let old = before.as_ref().and_then(|(rows, index)| old_row(rows, index, row));
            self.encode_row(&change, old, &after, &mut out).map_err(|fault| self.error(fault))?;
        }
        Ok(())
    }

    fn encode_row(
        &self,
        change: &Change<'_>,
        old: RowOf<'_>,
        after: &Rows<'_>,
        out: &mut Target<'_>,
    ) -> Result<(), Fault> {
        let new = Some((after, change.row));
        match change.op {
            Op::Read | Op::Create => {
                let key = self.write_key(new, out)?;
                self.event(change, change.op, key.as_ref(), KeyHeader::None, (None, new), out)
            }
            Op::Update => {
                let key = self.write_key(new, out)?;
                if let (Some(old), Some(key)) = (old, &key)
                    && let Some(old_key) = self.write_key(Some(old), out)?
                    && out.part(&old_key.whole) != out.part(&key.whole)
                {
                    return self.key_change(change, (&old_key, old), (key, new), out);
                }
                if self.options.skip_unchanged && self.shows_same(old, new, out)? {
                    return Ok(());
                }
                self.event(change, Op::Update, key.as_ref(), KeyHeader::None, (old, new), out)
            }
            Op::Delete => {
                let key = self.write_key(old, out)?;
                self.delete(change, key.as_ref(), KeyHeader::None, old, out)
            }
            Op::Truncate => self.event(change, Op::Truncate, None, KeyHeader::None, (None, None), out),
        }
    }

    /// Whether events show both rows as the same; where the log has not the old one, they do not.
    fn shows_same(&self, old: RowOf<'_>, new: RowOf<'_>, out: &mut Target<'_>) -> Result<bool, Fault> {
        let (Some((old, old_row)), Some((new, new_row))) = (old, new) else { return Ok(false) };
        let start = out.bytes.len();
        let json = JsonOuts { decimals: self.options.decimal_format, with_schema: true };
        self.row.write(old, old_row, &mut json.over(&mut out.bytes))?;
        let middle = out.bytes.len();
        self.row.write(new, new_row, &mut json.over(&mut out.bytes))?;
        let is_same = out.part(&(start..middle)) == out.part(&(middle..out.bytes.len()));
        out.bytes.truncate(start);
        Ok(is_same)
    }

    /// A row got another key: it is deleted under the old one and created under the new one.
    fn key_change(
        &self,
        change: &Change<'_>,
        (old_key, old): (&Key, (&Rows<'_>, usize)),
        (key, new): (&Key, RowOf<'_>),
        out: &mut Target<'_>,
    ) -> Result<(), Fault> {
        let header = self.bare(key, new, out)?;
        self.delete(change, Some(old_key), KeyHeader::New(header), Some(old), out)?;
        let header = self.bare(old_key, Some(old), out)?;
        self.event(change, Op::Create, Some(key), KeyHeader::Old(header), (None, new), out)
    }

    fn delete(
        &self,
        change: &Change<'_>,
        key: Option<&Key>,
        header: KeyHeader,
        old: RowOf<'_>,
        out: &mut Target<'_>,
    ) -> Result<(), Fault> {
        if self.skips(Op::Delete) {
            return Ok(());
        }
        let flat = matches!(self.form, Form::Flat(_)).then_some(self.options.flat_deletes);
        let has_event = !matches!(
            flat,
            Some(FlatDeletes::Tombstone | FlatDeletes::DeleteToTombstone | FlatDeletes::Drop)
        );
        let has_tombstone = match flat {
            None => self.options.tombstones_on_delete,
            Some(FlatDeletes::Drop | FlatDeletes::Rewrite) => false,
            Some(_) => true,
        };
        if has_event {
            self.event(change, Op::Delete, key, header.clone(), (old, None), out)?;
        }
        if has_tombstone {
            let own_headers = self.own_headers(change, Op::Delete, out);
            let key = key.map(|key| key.whole.clone());
            let entry = Entry {
                key,
                value: None,
                transaction: None,
                key_header: header,
                is_tombstone: true,
                ..entry(change, Op::Delete, own_headers, out)
            };
            out.entries.push(entry);
        }
        Ok(())
    }

    /// One record with a value.
    fn event(
        &self,
        change: &Change<'_>,
        op: Op,
        key: Option<&Key>,
        key_header: KeyHeader,
        (before, after): (RowOf<'_>, RowOf<'_>),
        out: &mut Target<'_>,
    ) -> Result<(), Fault> {
        if self.skips(op) || (op == Op::Truncate && matches!(self.form, Form::Flat(_))) {
            return Ok(());
        }
        let start = out.bytes.len();
        let parts = Parts { op, before, after, change, row: &self.row };
        let Target { records, common, .. } = out;
        let hole = match (&self.outs, &self.form) {
            (Outs::Json(json), Form::Envelope(envelope)) if change.origin.is_none() => {
                records.bytes.extend_from_slice(&self.value_frame.open);
                let hole = envelope.write_json(&parts, json, common, &mut records.bytes)?;
                records.bytes.extend_from_slice(&self.value_frame.close);
                Some(hole)
            }
            (Outs::Json(json), _) => self.write_value(&parts, &mut json.over(&mut records.bytes))?,
            (Outs::Avro, _) => self.write_value(&parts, &mut Avro { out: &mut records.bytes })?,
        };
        let value = start..out.bytes.len();
        let own_headers = self.own_headers(change, op, out);
        let key = key.map(|key| key.whole.clone());
        let event = Entry {
            key,
            value: Some(value),
            transaction: hole,
            key_header,
            ..entry(change, op, own_headers, out)
        };
        out.entries.push(event);
        Ok(())
    }

    fn write_value<O: super::out::Out>(
        &self,
        parts: &Parts<'_>,
        out: &mut O,
    ) -> Result<Option<Range<usize>>, Fault> {
        out.raw(&self.value_frame.open);
        let hole = match &self.form {
            Form::Envelope(envelope) => Some(envelope.write(parts, out)?),
            Form::Flat(flat) => {
                flat.write(parts, out)?;
                None
            }
            Form::Native(native) => {
                native.write(parts, out)?;
                None
            }
            // They have a way of their own.
            Form::Messages(_) | Form::Definitions(_) => None,
        };
        out.raw(&self.value_frame.close);
        Ok(hole)
    }

    /// Writes a row's key; `None` for a table without one.
    fn write_key(&self, row: RowOf<'_>, out: &mut Target<'_>) -> Result<Option<Key>, Fault> {
        let (Some(image), Some((rows, row))) = (&self.key, row) else { return Ok(None) };
        let start = out.bytes.len();
        out.bytes.extend_from_slice(&self.key_frame.open);
        let bare_start = out.bytes.len();
        let bare = match &self.outs {
            Outs::Json(json) => {
                image.write(rows, row, &mut json.over(&mut out.bytes))?;
                Some(bare_start..out.bytes.len()).filter(|_| !self.key_has_decimals)
            }
            Outs::Avro => {
                image.write(rows, row, &mut Avro { out: &mut out.bytes })?;
                None
            }
        };
        out.bytes.extend_from_slice(&self.key_frame.close);
        Ok(Some(Key { whole: start..out.bytes.len(), bare }))
    }

    /// The key as bare JSON, for a header.
    fn bare(&self, key: &Key, row: RowOf<'_>, out: &mut Target<'_>) -> Result<Range<usize>, Fault> {
        if let Some(bare) = &key.bare {
            return Ok(bare.clone());
        }
        let start = out.bytes.len();
        if let (Some(image), Some((rows, row))) = (&self.key, row) {
            // Headers show numbers as numbers, whatever keys do.
            let json = JsonOuts { decimals: DecimalFormat::Numeric, with_schema: true };
            image.write(rows, row, &mut json.over(&mut out.bytes))?;
        }
        Ok(start..out.bytes.len())
    }

    fn own_headers(&self, change: &Change<'_>, op: Op, out: &mut Target<'_>) -> Range<usize> {
        let start = out.bytes.len();
        if let Form::Flat(flat) = &self.form {
            flat.write_headers(change, op, &mut out.bytes);
        }
        start..out.bytes.len()
    }

    fn skips(&self, op: Op) -> bool {
        self.options.skipped_operations.contains(&op)
    }

    fn error(&self, fault: Fault) -> Error {
        let column = self.schema.columns.get(fault.column).map_or("?", |column| &column.name);
        let name = &self.schema.name;
        let (code, advice): (Code, _) = match fault.trouble {
            Trouble::Unchanged => (codes::PG023, format!("ALTER TABLE {name} REPLICA IDENTITY FULL")),
            Trouble::NotANumber => {
                (codes::PG021, "format.debezium.decimal_handling_mode: string, or double".to_owned())
            }
            _ => (codes::PG021, format!("leave \"{name}\" out (tables.exclude), or change the value")),
        };
        Error::new(code, format!("table \"{name}\": column \"{column}\" has {}", fault.trouble.text()))
            .with_try(advice)
    }
}

/// A row's image from before, if there is one.
fn old_row<'r, 'a>(rows: &'r Rows<'a>, index: &[u32], row: usize) -> Option<(&'r Rows<'a>, usize)> {
    let at = *index.get(row)?;
    (at != crate::event::Before::NONE).then_some((rows, at as usize))
}

fn entry(change: &Change<'_>, op: Op, own_headers: Range<usize>, out: &Target<'_>) -> Entry {
    Entry {
        // A batch has fewer rows than that.
        row: u32::try_from(change.row).unwrap_or(u32::MAX),
        place: Place {
            commit_start: change.commit_start,
            ordinal: change.ordinal,
            lsn: change.lsn,
            xid: change.xid.and_then(|xid| u32::try_from(xid).ok()).unwrap_or(0),
            commit_time: change.source_us - EPOCH,
            end: change.end,
        },
        op,
        key: None,
        value: None,
        transaction: None,
        key_header: KeyHeader::None,
        is_tombstone: false,
        own_headers,
        named: out.name.part.clone(),
    }
}
