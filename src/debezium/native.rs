//! The project's own envelope: short, and with values for people.
//!
//! ```json
//! {"op":"u","table":"public.orders","before":null,"after":{"id":1,"total":"9.90"},
//!  "lsn":"0/1A2B3C40","xid":756,"ordinal":0,"committed":"2026-02-01T10:00:00.123456Z","snapshot":false}
//! ```

use super::connect::{Schema, Type};
use super::encoder::{Marker, Outs};
use super::envelope::{Parts, image};
use super::image::{Fault, MakeOut, WriteWith};
use super::out::{Nullness, Out};
use super::value::{Conv, Unit};
use crate::schema::TableSchema;

/// The form of one table's events.
#[derive(Debug)]
pub(super) struct Native {
    table: Vec<u8>,
}

struct Table<'a>(&'a str);

impl WriteWith<()> for Table<'_> {
    fn call<O: Out>(self, out: &mut O) {
        out.field(b"\"table\":", 1);
        out.text(self.0);
    }
}

impl Native {
    pub(super) fn new(schema: &TableSchema, outs: &Outs) -> Self {
        let mut table = Vec::new();
        outs.with(&mut table, Table(&schema.name.to_string()));
        Native { table }
    }

    pub(super) fn schema(&self, base: &str, row: Schema) -> Schema {
        let row = row.optional();
        let text = || Schema::of(Type::String);
        let fields = vec![
            ("op", text()),
            ("table", text()),
            ("before", row.clone()),
            ("after", row),
            ("lsn", text()),
            ("xid", Schema::of(Type::Int64).optional()),
            ("ordinal", Schema::of(Type::Int64)),
            ("committed", text()),
            ("snapshot", Schema::of(Type::Boolean)),
        ];
        Schema::structure(fields).named(format!("{base}.Event"))
    }

    pub(super) fn write<O: Out>(&self, parts: &Parts<'_>, out: &mut O) -> Result<(), Fault> {
        let change = parts.change;
        out.begin_struct();
        out.field(b"\"op\":", 0);
        out.text(parts.op.letter());
        out.raw(&self.table);
        out.field(b"\"before\":", 2);
        image(parts.row, parts.before, out)?;
        out.field(b"\"after\":", 3);
        image(parts.row, parts.after, out)?;
        out.field(b"\"lsn\":", 4);
        out.text(&change.lsn.to_string());
        out.field(b"\"xid\":", 5);
        match change.xid {
            Some(xid) => {
                out.some(Nullness::Optional);
                out.integer(xid.cast_signed());
            }
            None => out.null(Nullness::Optional),
        }
        out.field(b"\"ordinal\":", 6);
        out.integer(change.ordinal.cast_signed());
        out.field(b"\"committed\":", 7);
        // A moment of the clock is in range.
        let moment = super::value::Cell::Int(change.source_us);
        let _written = Conv::Timestamp(Unit::Iso).write(moment, out);
        out.field(b"\"snapshot\":", 8);
        out.boolean(change.marker != Marker::False);
        out.end_struct();
        Ok(())
    }
}
