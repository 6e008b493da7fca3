//! The row alone, as Debezium's `ExtractNewRecordState` makes it of an envelope.

use super::connect::{Schema, Type};
use super::encoder::{Change, Marker};
use super::envelope::{Parts, sequence};
use super::image::Fault;
use super::json;
use super::options::{FlatDeletes, Options};
use super::out::{Nullness, Out, label};
use crate::error::{Error, Result, codes};
use crate::event::Op;
use crate::schema::TableSchema;

/// A field of the envelope that is added to the row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extra {
    Op,
    NowMillis,
    NowMicros,
    NowNanos,
    SourceMillis,
    SourceMicros,
    SourceNanos,
    Snapshot,
    Sequence,
    TxId,
    Lsn,
    Version,
    Connector,
    Name,
    Db,
    Schema,
    Table,
}

impl Extra {
    /// A bare name is one of the envelope, if it has it, else of `source`.
    fn parse(spec: &str) -> Option<Self> {
        let path = spec.split(':').next().unwrap_or_default();
        Some(match path {
            "op" => Extra::Op,
            "ts_ms" => Extra::NowMillis,
            "ts_us" => Extra::NowMicros,
            "ts_ns" => Extra::NowNanos,
            "source.ts_ms" => Extra::SourceMillis,
            "source.ts_us" => Extra::SourceMicros,
            "source.ts_ns" => Extra::SourceNanos,
            _ => match path.strip_prefix("source.").unwrap_or(path) {
                "snapshot" => Extra::Snapshot,
                "sequence" => Extra::Sequence,
                "txId" => Extra::TxId,
                "lsn" => Extra::Lsn,
                "version" => Extra::Version,
                "connector" => Extra::Connector,
                "name" => Extra::Name,
                "db" => Extra::Db,
                "schema" => Extra::Schema,
                "table" => Extra::Table,
                _ => return None,
            },
        })
    }

    fn is_number(self) -> bool {
        use Extra::*;
        matches!(
            self,
            NowMillis | NowMicros | NowNanos | SourceMillis | SourceMicros | SourceNanos | TxId | Lsn
        )
    }
}

/// `__source_ts_ms` of `source.ts_ms`; `op:kind` gives `__kind`.
pub(super) fn output_name(spec: &str) -> String {
    match spec.split_once(':') {
        Some((_, name)) => format!("__{name}"),
        None => format!("__{}", spec.replace('.', "_")),
    }
}

/// The form of one table's rows.
#[derive(Debug)]
pub(super) struct Flat {
    has_deleted: bool,
    fields: Vec<(Extra, String, Vec<u8>)>,
    headers: Vec<Extra>,
    version: String,
    connector: &'static str,
    name: String,
    db: String,
    schema: String,
    table: String,
}

impl Flat {
    /// # Errors
    /// `CF003` for a field that does not exist.
    pub(super) fn new(schema: &TableSchema, options: &Options) -> Result<Self> {
        let parse = |spec: &String| {
            Extra::parse(spec).ok_or_else(|| {
                Error::new(codes::CF003, format!("\"{spec}\" is no field of an event that can be added"))
                    .with_try("op, ts_ms, table, lsn, txId, source.ts_ms, source.db …")
            })
        };
        let mut fields = Vec::new();
        for spec in &options.flat_fields {
            let name = output_name(spec);
            let label = label(&name);
            fields.push((parse(spec)?, name, label));
        }
        Ok(Flat {
            has_deleted: matches!(
                options.flat_deletes,
                FlatDeletes::Rewrite | FlatDeletes::RewriteWithTombstone
            ),
            fields,
            headers: options.flat_headers.iter().map(parse).collect::<Result<_>>()?,
            version: options.version.clone(),
            connector: options.connector.as_str(),
            name: options.topic_prefix.clone(),
            db: options.database.clone(),
            schema: schema.name.schema.clone(),
            table: schema.name.table.clone(),
        })
    }

    pub(super) fn schema(&self, row: Schema) -> Schema {
        let Type::Struct(mut fields) = row.ty else { return row };
        if self.has_deleted {
            fields.push(("__deleted".to_owned(), Schema::of(Type::String).optional()));
        }
        for (extra, name, _) in &self.fields {
            let ty = if extra.is_number() { Type::Int64 } else { Type::String };
            fields.push((name.clone(), Schema::of(ty).optional()));
        }
        Schema { ty: Type::Struct(fields), ..row }
    }

    pub(super) fn write<O: Out>(&self, parts: &Parts<'_>, out: &mut O) -> Result<(), Fault> {
        let optional = Nullness::Optional;
        out.begin_struct();
        let mut at = parts.row.fields.len();
        if let Some((rows, row)) = parts.after.or(parts.before) {
            parts.row.write_fields(rows, row, out)?;
        }
        if self.has_deleted {
            out.field(b"\"__deleted\":", at);
            out.some(optional);
            out.text(if parts.op == Op::Delete { "true" } else { "false" });
            at += 1;
        }
        for (extra, _, label) in &self.fields {
            out.field(label, at);
            at += 1;
            if Self::is_null(*extra, parts.change) {
                out.null(optional);
                continue;
            }
            out.some(optional);
            match self.number(*extra, parts.change) {
                Some(number) => out.integer(number),
                None => out.text(&self.text(*extra, parts.change, parts.op)),
            }
        }
        out.end_struct();
        Ok(())
    }

    /// Values of the headers, a zero byte between them.
    pub(super) fn write_headers(&self, change: &Change<'_>, op: Op, out: &mut Vec<u8>) {
        for (at, extra) in self.headers.iter().enumerate() {
            if at > 0 {
                out.push(0);
            }
            if Self::is_null(*extra, change) {
                continue;
            }
            match self.number(*extra, change) {
                Some(number) => json::integer(number, out),
                None => out.extend_from_slice(self.text(*extra, change, op).as_bytes()),
            }
        }
    }

    /// Rows that are read beside the stream have no place in the log.
    fn is_null(extra: Extra, change: &Change<'_>) -> bool {
        change.marker == Marker::Incremental && matches!(extra, Extra::TxId | Extra::Lsn)
    }

    fn number(&self, extra: Extra, change: &Change<'_>) -> Option<i64> {
        Some(match extra {
            Extra::NowMillis => change.now_ns.div_euclid(1_000_000),
            Extra::NowMicros => change.now_ns.div_euclid(1000),
            Extra::NowNanos => change.now_ns,
            Extra::SourceMillis => change.source_us.div_euclid(1000),
            Extra::SourceMicros => change.source_us,
            Extra::SourceNanos => change.source_us.saturating_mul(1000),
            Extra::TxId => change.xid.unwrap_or(0).cast_signed(),
            Extra::Lsn => change.lsn.raw().cast_signed(),
            _ => return None,
        })
    }

    fn text(&self, extra: Extra, change: &Change<'_>, op: Op) -> String {
        match extra {
            Extra::Op => op.letter().to_owned(),
            Extra::Snapshot => change.marker.as_str().to_owned(),
            Extra::Sequence => sequence(change),
            Extra::Version => self.version.clone(),
            Extra::Connector => self.connector.to_owned(),
            Extra::Name => self.name.clone(),
            Extra::Db => self.db.clone(),
            Extra::Schema => self.schema.clone(),
            Extra::Table => self.table.clone(),
            _ => String::new(),
        }
    }
}
