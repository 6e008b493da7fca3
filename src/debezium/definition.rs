//! Definitions of tables that came as rows ([`TableSchema::definitions`]), as records of the topic of schema changes.

use super::avro::Avro;
use super::connect::{Schema, Type};
use super::encoder::{Change, EPOCH, Frame, JsonOuts, Marker, Occasion, Outs};
use super::envelope::{Source, source_schema};
use super::image::{MakeOut, WriteWith};
use super::options::Options;
use super::out::{Nullness, Out};
use super::record::{Entry, KeyHeader, Place, Records};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, Op};
use crate::schema::{DefinedColumn, TableChange, TableDefinition};
use arrow::array::{Array, AsArray, StringArray};
use std::ops::Range;
use std::sync::Arc;

const OPTIONAL: Nullness = Nullness::Optional;

/// Writes them.
#[derive(Debug)]
pub(super) struct Definitions {
    options: Arc<Options>,
    outs: Outs,
}

/// The columns of a batch.
fn columns(batch: &ChangeBatch) -> Option<[&StringArray; 4]> {
    let column = |at: usize| batch.after.columns().get(at)?.as_string_opt::<i32>();
    Some([column(0)?, column(1)?, column(2)?, column(3)?])
}

impl Definitions {
    pub(super) fn new(options: &Arc<Options>) -> Self {
        Definitions { options: Arc::clone(options), outs: Outs::new(options) }
    }

    /// Adds a record for each row to `out`.
    ///
    /// # Errors
    /// `RT001` for a batch that is not of definitions.
    pub(super) fn encode(
        &self,
        (key_frame, value_frame): (&Frame, &Frame),
        batch: &ChangeBatch,
        occasion: &Occasion,
        out: &mut Records,
    ) -> Result<()> {
        let misuse = || Error::new(codes::RT001, "a batch that is not of definitions");
        let [databases, tables, statements, changes] = columns(batch).ok_or_else(misuse)?;
        let mut runs = batch.runs.iter().peekable();
        let mut txn = None;
        for row in 0..databases.len() {
            while let Some(run) = runs.next_if(|run| run.first_row as usize <= row) {
                txn = Some((run.txn, run.end));
            }
            let mut change = super::change::change_of(batch, row, Op::Create, txn, occasion)?;
            change.origin.ok_or_else(misuse)?;
            if occasion.snapshot.is_some() {
                change.marker = Marker::True;
            } else {
                // Whole milliseconds, as Debezium has them of definitions.
                change.source_us = change.source_us.div_euclid(1000) * 1000;
            }
            let text = |column: &'_ StringArray| (!column.is_null(row)).then(|| column.value(row).to_owned());
            let database = text(databases).unwrap_or_default();
            let told: Vec<TableChange> = serde_json::from_str(changes.value(row))
                .map_err(|e| Error::new(codes::RT001, "a definition that cannot be read").with_source(e))?;
            let source = Source::of_definition((&database, text(tables)), &self.options, &self.outs);
            let value = Value {
                source: &source,
                change: &change,
                database: &database,
                ddl: statements.value(row),
                changes: &told,
            };
            let key = self.framed(key_frame, Key(&database), &mut out.bytes);
            let value = self.framed(value_frame, value, &mut out.bytes);
            out.entries.push(entry(&change, key, value));
        }
        Ok(())
    }

    fn framed(&self, frame: &Frame, write: impl WriteWith<()>, out: &mut Vec<u8>) -> Range<usize> {
        let start = out.len();
        out.extend_from_slice(&frame.open);
        match &self.outs {
            Outs::Json(json) => JsonOuts::with(json, out, write),
            Outs::Avro => write.call(&mut Avro { out }),
        }
        out.extend_from_slice(&frame.close);
        start..out.len()
    }
}

fn entry(change: &Change<'_>, key: Range<usize>, value: Range<usize>) -> Entry {
    let end = value.end;
    Entry {
        // A batch has fewer rows than that.
        row: u32::try_from(change.row).unwrap_or(u32::MAX),
        place: Place {
            commit_start: change.commit_start,
            // Transactions neither name nor count them.
            ordinal: Place::ALONE,
            lsn: change.lsn,
            xid: change.xid.and_then(|xid| u32::try_from(xid).ok()).unwrap_or(0),
            commit_time: change.source_us - EPOCH,
            end: change.end,
        },
        op: Op::Create,
        key: Some(key),
        value: Some(value),
        transaction: None,
        key_header: KeyHeader::None,
        is_tombstone: false,
        own_headers: end..end,
        named: end..end,
    }
}

struct Key<'a>(&'a str);

impl WriteWith<()> for Key<'_> {
    fn call<O: Out>(self, out: &mut O) {
        out.begin_struct();
        out.field(b"\"databaseName\":", 0);
        out.text(self.0);
        out.end_struct();
    }
}

struct Value<'a> {
    source: &'a Source,
    change: &'a Change<'a>,
    database: &'a str,
    ddl: &'a str,
    changes: &'a [TableChange],
}

impl WriteWith<()> for Value<'_> {
    fn call<O: Out>(self, out: &mut O) {
        out.begin_struct();
        out.field(b"\"source\":", 0);
        self.source.write(self.change, out);
        out.field(b"\"ts_ms\":", 1);
        out.integer(self.change.now_ns.div_euclid(1_000_000));
        out.field(b"\"databaseName\":", 2);
        optional(Some(self.database), out);
        out.field(b"\"schemaName\":", 3);
        out.null(OPTIONAL);
        out.field(b"\"ddl\":", 4);
        optional(Some(self.ddl), out);
        out.field(b"\"tableChanges\":", 5);
        out.begin_array(self.changes.len());
        for (at, change) in self.changes.iter().enumerate() {
            out.item(at);
            out.begin_struct();
            out.field(b"\"type\":", 0);
            out.text(&change.kind);
            out.field(b"\"id\":", 1);
            out.text(&format!("\"{}\".\"{}\"", change.database, change.table));
            out.field(b"\"table\":", 2);
            match &change.definition {
                None => out.null(OPTIONAL),
                Some(table) => {
                    out.some(OPTIONAL);
                    definition(table, out);
                }
            }
            out.end_struct();
        }
        out.end_array(self.changes.len());
        out.end_struct();
    }
}

fn optional<O: Out>(text: Option<&str>, out: &mut O) {
    match text {
        None => out.null(OPTIONAL),
        Some(text) => {
            out.some(OPTIONAL);
            out.text(text);
        }
    }
}

fn number<O: Out>(number: Option<i32>, out: &mut O) {
    match number {
        None => out.null(OPTIONAL),
        Some(number) => {
            out.some(OPTIONAL);
            out.integer(number.into());
        }
    }
}

fn boolean<O: Out>(value: bool, out: &mut O) {
    out.some(OPTIONAL);
    out.boolean(value);
}

fn texts<O: Out>(texts: &[String], out: &mut O) {
    out.some(OPTIONAL);
    out.begin_array(texts.len());
    for (at, text) in texts.iter().enumerate() {
        out.item(at);
        out.text(text);
    }
    out.end_array(texts.len());
}

fn definition<O: Out>(table: &TableDefinition, out: &mut O) {
    out.begin_struct();
    out.field(b"\"defaultCharsetName\":", 0);
    optional(table.charset.as_deref(), out);
    out.field(b"\"primaryKeyColumnNames\":", 1);
    texts(&table.key, out);
    out.field(b"\"columns\":", 2);
    out.begin_array(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        out.item(at);
        defined_column(column, at + 1, out);
    }
    out.end_array(table.columns.len());
    out.field(b"\"comment\":", 3);
    out.null(OPTIONAL);
    out.end_struct();
}

fn defined_column<O: Out>(column: &DefinedColumn, position: usize, out: &mut O) {
    out.begin_struct();
    out.field(b"\"name\":", 0);
    out.text(&column.name);
    out.field(b"\"jdbcType\":", 1);
    out.integer(column.jdbc_type.into());
    out.field(b"\"nativeType\":", 2);
    out.null(OPTIONAL);
    out.field(b"\"typeName\":", 3);
    out.text(&column.type_name);
    out.field(b"\"typeExpression\":", 4);
    optional(Some(&column.type_name), out);
    out.field(b"\"charsetName\":", 5);
    optional(column.charset.as_deref(), out);
    out.field(b"\"length\":", 6);
    number(column.length, out);
    out.field(b"\"scale\":", 7);
    number(column.scale, out);
    out.field(b"\"position\":", 8);
    out.integer(i64::try_from(position).unwrap_or(i64::MAX));
    out.field(b"\"optional\":", 9);
    boolean(column.optional, out);
    out.field(b"\"autoIncremented\":", 10);
    boolean(column.auto_incremented, out);
    out.field(b"\"generated\":", 11);
    boolean(column.generated, out);
    out.field(b"\"comment\":", 12);
    out.null(OPTIONAL);
    out.field(b"\"defaultValueExpression\":", 13);
    optional(column.default.as_deref(), out);
    out.field(b"\"enumValues\":", 14);
    match &column.labels {
        None => out.null(OPTIONAL),
        Some(labels) => texts(labels, out),
    }
    out.end_struct();
}

/// Schemas of key and value.
pub(super) fn schemas(options: &Options) -> (Schema, Schema) {
    const OF_TABLES: &str = "io.debezium.connector.schema";
    let text = || Schema::of(Type::String);
    let integer = || Schema::of(Type::Int32);
    let boolean = || Schema::of(Type::Boolean);
    let texts = || Schema::array(text()).optional();
    let column = vec![
        ("name", text()),
        ("jdbcType", integer()),
        ("nativeType", integer().optional()),
        ("typeName", text()),
        ("typeExpression", text().optional()),
        ("charsetName", text().optional()),
        ("length", integer().optional()),
        ("scale", integer().optional()),
        ("position", integer()),
        ("optional", boolean().optional()),
        ("autoIncremented", boolean().optional()),
        ("generated", boolean().optional()),
        ("comment", text().optional()),
        ("defaultValueExpression", text().optional()),
        ("enumValues", texts()),
    ];
    let table = vec![
        ("defaultCharsetName", text().optional()),
        ("primaryKeyColumnNames", texts()),
        ("columns", Schema::array(Schema::structure(column).named(format!("{OF_TABLES}.Column")))),
        ("comment", text().optional()),
    ];
    let change = vec![
        ("type", text()),
        ("id", text()),
        ("table", Schema::structure(table).named(format!("{OF_TABLES}.Table")).optional()),
    ];
    let value = vec![
        ("source", source_schema(options.connector)),
        ("ts_ms", Schema::of(Type::Int64)),
        ("databaseName", text().optional()),
        ("schemaName", text().optional()),
        ("ddl", text().optional()),
        ("tableChanges", Schema::array(Schema::structure(change).named(format!("{OF_TABLES}.Change")))),
    ];
    let connector = format!("io.debezium.connector.{}", options.connector.as_str());
    (
        Schema::structure(vec![("databaseName", text())]).named(format!("{connector}.SchemaChangeKey")),
        Schema::structure(value).named(format!("{connector}.SchemaChangeValue")),
    )
}
