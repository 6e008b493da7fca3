//! Debezium's envelope: before, after, source, transaction, op, times.

use super::connect::{Schema, Type, names};
use super::encoder::{Change, JsonOuts, Marker, Outs};
use super::image::{Fault, Image, MakeOut, Rows, WriteWith};
use super::options::{Connector, Options};
use super::out::{Nullness, Out, label};
use crate::event::{Op, OriginRun};
use crate::position::Lsn;
use crate::schema::TableSchema;
use std::ops::Range;

/// Everything that one event is made of.
pub(super) struct Parts<'a> {
    pub(super) op: Op,
    pub(super) before: Option<(&'a Rows<'a>, usize)>,
    pub(super) after: Option<(&'a Rows<'a>, usize)>,
    pub(super) change: &'a Change<'a>,
    pub(super) row: &'a Image,
}

/// The constant parts of a `source` block.
#[derive(Clone, Debug)]
pub(super) struct Source {
    head: Vec<u8>,
    db: Vec<u8>,
    table: Vec<u8>,
    /// The table's name alone: MySQL's may lack.
    name: Option<String>,
}

/// Fields with constant text.
struct Constants<'a>(&'a [(&'a str, usize, &'a str)]);

impl WriteWith<()> for Constants<'_> {
    fn call<O: Out>(self, out: &mut O) {
        for (name, at, value) in self.0 {
            out.field(&label(name), *at);
            out.text(value);
        }
    }
}

impl Source {
    /// Of a table; both names empty for a logical message.
    pub(super) fn new((schema, table): (&str, &str), options: &Options, outs: &Outs) -> Self {
        let is_mysql = options.connector != Connector::Postgresql;
        let part = |fields: &[(&str, usize, &str)]| {
            let mut bytes = Vec::new();
            outs.with(&mut bytes, Constants(fields));
            bytes
        };
        Source {
            head: part(&[
                ("version", 0, &options.version),
                ("connector", 1, options.connector.as_str()),
                ("name", 2, &options.topic_prefix),
            ]),
            db: part(&[("db", 5, if is_mysql { schema } else { &options.database })]),
            name: Some(table.to_owned()),
            table: part(&[("schema", 9, schema), ("table", 10, table)]),
        }
    }

    /// Of a definition, which may concern no table.
    pub(super) fn of_definition(
        (database, table): (&str, Option<String>),
        options: &Options,
        outs: &Outs,
    ) -> Self {
        Source { name: table, ..Source::new((database, ""), options, outs) }
    }

    pub(super) fn write<O: Out>(&self, change: &Change<'_>, out: &mut O) {
        let optional = Nullness::Optional;
        if let Some((run, row)) = change.origin {
            return self.write_mysql(change, run, row, out);
        }
        self.write_head(change, out);
        out.field(b"\"sequence\":", 6);
        out.some(optional);
        out.text(&sequence(change));
        self.write_middle(change, out);
        if change.marker == Marker::Incremental {
            out.null(optional);
        } else {
            out.some(optional);
            out.integer(change.lsn.raw().cast_signed());
        }
        write_rest(out);
    }

    fn write_mysql<O: Out>(&self, change: &Change<'_>, run: &OriginRun, row: u32, out: &mut O) {
        let optional = Nullness::Optional;
        let origin = &run.origin;
        self.write_head(change, out);
        out.field(b"\"sequence\":", 6);
        out.null(optional);
        out.field(b"\"ts_us\":", 7);
        out.some(optional);
        out.integer(change.source_us);
        out.field(b"\"ts_ns\":", 8);
        out.some(optional);
        out.integer(change.source_us.saturating_mul(1000));
        out.field(b"\"table\":", 9);
        match &self.name {
            Some(name) => {
                out.some(optional);
                out.text(name);
            }
            None => out.null(optional),
        }
        out.field(b"\"server_id\":", 10);
        out.integer(origin.server_id.into());
        out.field(b"\"gtid\":", 11);
        match &origin.gtid {
            Some(gtid) => {
                out.some(optional);
                out.text(gtid);
            }
            None => out.null(optional),
        }
        out.field(b"\"file\":", 12);
        out.text(&origin.file);
        out.field(b"\"pos\":", 13);
        out.integer(run.position.cast_signed());
        out.field(b"\"row\":", 14);
        // Rows of a copy are not counted.
        out.integer(if change.marker == Marker::False { row.into() } else { 0 });
        out.field(b"\"thread\":", 15);
        match origin.thread {
            Some(thread) => {
                out.some(optional);
                out.integer(thread.into());
            }
            None => out.null(optional),
        }
        out.field(b"\"query\":", 16);
        match &run.query {
            Some(query) => {
                out.some(optional);
                out.text(query);
            }
            None => out.null(optional),
        }
        out.end_struct();
    }

    fn write_head<O: Out>(&self, change: &Change<'_>, out: &mut O) {
        out.begin_struct();
        out.raw(&self.head);
        out.field(b"\"ts_ms\":", 3);
        out.integer(change.source_us.div_euclid(1000));
        out.field(b"\"snapshot\":", 4);
        out.some(Nullness::OptionalWithDefault);
        out.text(change.marker.as_str());
        out.raw(&self.db);
    }

    /// From behind the sequence to before the address.
    fn write_middle<O: Out>(&self, change: &Change<'_>, out: &mut O) {
        let optional = Nullness::Optional;
        out.field(b"\"ts_us\":", 7);
        out.some(optional);
        out.integer(change.source_us);
        out.field(b"\"ts_ns\":", 8);
        out.some(optional);
        out.integer(change.source_us.saturating_mul(1000));
        out.raw(&self.table);
        out.field(b"\"txId\":", 11);
        match change.xid {
            Some(xid) => {
                out.some(optional);
                out.integer(xid.cast_signed());
            }
            None => out.null(optional),
        }
        out.field(b"\"lsn\":", 12);
    }
}

/// From behind the address.
fn write_rest<O: Out>(out: &mut O) {
    let optional = Nullness::Optional;
    out.field(b"\"xmin\":", 13);
    out.null(optional);
    out.field(b"\"origin\":", 14);
    out.null(optional);
    out.field(b"\"origin_lsn\":", 15);
    out.null(optional);
    out.end_struct();
}

/// Transaction, the one before, moment of the commit, marker, our moment.
type Moment = (Option<u64>, Option<Lsn>, i64, Marker, i64);

/// What the events of a transaction have in common, as JSON: rendered once, then copied around each one's address.
#[derive(Debug, Default)]
pub(super) struct Common {
    /// Of what it is.
    of: Option<Moment>,
    /// To the address within the sequence; from there to the address itself; from there to the transaction block.
    parts: [Vec<u8>; 3],
    /// From behind the letter of the operation.
    times: Vec<u8>,
}

impl Common {
    fn render(&mut self, source: &Source, change: &Change<'_>, json: &JsonOuts) {
        let of = Some((change.xid, change.previous, change.source_us, change.marker, change.now_ns));
        if self.of == of {
            return;
        }
        self.of = of;
        let [head, middle, rest] = &mut self.parts;
        for part in [&mut *head, &mut *middle, &mut *rest, &mut self.times] {
            part.clear();
        }
        let out = &mut json.over(head);
        out.raw(b",\"source\":");
        source.write_head(change, out);
        out.field(b"\"sequence\":", 6);
        match change.previous {
            Some(previous) => {
                out.raw(b"\"[\\\"");
                out.integer(previous.raw().cast_signed());
                out.raw(b"\\\",\\\"");
            }
            None => out.raw(b"\"[null,\\\""),
        }
        let out = &mut json.over(middle);
        out.raw(b"\\\"]\"");
        source.write_middle(change, out);
        let out = &mut json.over(rest);
        write_rest(out);
        out.raw(b",\"transaction\":");
        let out = &mut json.over(&mut self.times);
        out.raw(b"\"");
        write_times(change, out);
    }
}

/// `["31251832","31251656"]`: end of the transaction before, and the change's own place.
pub(super) fn sequence(change: &Change<'_>) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(48);
    // Writing into a string does not fail.
    let _written = match change.previous {
        Some(previous) => write!(text, "[\"{}\",\"{}\"]", previous.raw(), change.lsn.raw()),
        None => write!(text, "[null,\"{}\"]", change.lsn.raw()),
    };
    text
}

/// The envelope of one table.
#[derive(Debug)]
pub(super) struct Envelope {
    source: Source,
}

impl Envelope {
    pub(super) fn new(schema: &TableSchema, options: &Options, outs: &Outs) -> Self {
        Envelope { source: Source::new((&schema.name.schema, &schema.name.table), options, outs) }
    }

    pub(super) fn schema(&self, connector: Connector, base: &str, row: Schema) -> Schema {
        let row = row.optional();
        let fields = vec![
            ("before", row.clone()),
            ("after", row),
            ("source", source_schema(connector)),
            ("transaction", block_schema().optional()),
            ("op", Schema::of(Type::String)),
            ("ts_ms", Schema::of(Type::Int64).optional()),
            ("ts_us", Schema::of(Type::Int64).optional()),
            ("ts_ns", Schema::of(Type::Int64).optional()),
        ];
        Schema::structure(fields).named(format!("{base}.Envelope")).version(2)
    }

    /// Returns where the null of the transaction block stands.
    pub(super) fn write<O: Out>(&self, parts: &Parts<'_>, out: &mut O) -> Result<Range<usize>, Fault> {
        let optional = Nullness::Optional;
        let change = parts.change;
        out.begin_struct();
        out.field(b"\"before\":", 0);
        image(parts.row, parts.before, out)?;
        out.field(b"\"after\":", 1);
        image(parts.row, parts.after, out)?;
        out.field(b"\"source\":", 2);
        self.source.write(change, out);
        out.field(b"\"transaction\":", 3);
        let hole = out.position();
        out.null(optional);
        let hole = hole..out.position();
        out.field(b"\"op\":", 4);
        out.text(parts.op.letter());
        write_times(change, out);
        Ok(hole)
    }

    /// The same as JSON, with what is rendered already.
    pub(super) fn write_json(
        &self,
        parts: &Parts<'_>,
        json: &JsonOuts,
        common: &mut Common,
        bytes: &mut Vec<u8>,
    ) -> Result<Range<usize>, Fault> {
        common.render(&self.source, parts.change, json);
        let out = &mut json.over(bytes);
        out.raw(b"{\"before\":");
        image(parts.row, parts.before, out)?;
        out.raw(b",\"after\":");
        image(parts.row, parts.after, out)?;
        let mut address = itoa::Buffer::new();
        let address = address.format(parts.change.lsn.raw().cast_signed()).as_bytes();
        let [head, middle, rest] = &common.parts;
        let shown = if parts.change.marker == Marker::Incremental { b"null" } else { address };
        for part in [head, address, middle, shown, rest] {
            out.raw(part);
        }
        let hole = out.position();
        out.raw(b"null");
        let hole = hole..out.position();
        out.raw(b",\"op\":\"");
        out.raw(parts.op.letter().as_bytes());
        out.raw(&common.times);
        Ok(hole)
    }
}

/// When it was written.
fn write_times<O: Out>(change: &Change<'_>, out: &mut O) {
    let optional = Nullness::Optional;
    out.field(b"\"ts_ms\":", 5);
    out.some(optional);
    out.integer(change.now_ns.div_euclid(1_000_000));
    out.field(b"\"ts_us\":", 6);
    out.some(optional);
    out.integer(change.now_ns.div_euclid(1000));
    out.field(b"\"ts_ns\":", 7);
    out.some(optional);
    out.integer(change.now_ns);
    out.end_struct();
}

/// A row, or nothing.
pub(super) fn image<O: Out>(
    image: &Image,
    row: Option<(&Rows<'_>, usize)>,
    out: &mut O,
) -> Result<(), Fault> {
    match row {
        Some((rows, row)) => {
            out.some(Nullness::Optional);
            image.write(rows, row, out)
        }
        None => {
            out.null(Nullness::Optional);
            Ok(())
        }
    }
}

const SNAPSHOT: &str = "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

pub(super) fn source_schema(connector: Connector) -> Schema {
    let text = || Schema::of(Type::String);
    let long = || Schema::of(Type::Int64);
    let snapshot =
        text().optional().named(names::ENUM).parameter("allowed", SNAPSHOT).default(b"\"false\"".to_vec());
    let mut fields = vec![
        ("version", text()),
        ("connector", text()),
        ("name", text()),
        ("ts_ms", long()),
        ("snapshot", snapshot),
        ("db", text()),
        ("sequence", text().optional()),
        ("ts_us", long().optional()),
        ("ts_ns", long().optional()),
    ];
    let of_mysql = vec![
        ("table", text().optional()),
        ("server_id", long()),
        ("gtid", text().optional()),
        ("file", text()),
        ("pos", long()),
        ("row", Schema::of(Type::Int32)),
        ("thread", long().optional()),
        ("query", text().optional()),
    ];
    let of_postgres = vec![
        ("schema", text()),
        ("table", text()),
        ("txId", long().optional()),
        ("lsn", long().optional()),
        ("xmin", long().optional()),
        ("origin", text().optional()),
        ("origin_lsn", long().optional()),
    ];
    fields.extend(if connector == Connector::Postgresql { of_postgres } else { of_mysql });
    Schema::structure(fields).named(format!("io.debezium.connector.{}.Source", connector.as_str()))
}

pub(super) fn block_schema() -> Schema {
    let fields = vec![
        ("id", Schema::of(Type::String)),
        ("total_order", Schema::of(Type::Int64)),
        ("data_collection_order", Schema::of(Type::Int64)),
    ];
    Schema::structure(fields).named("event.block")
}
