//! Events of rows that are built by hand. Everything that a server can make is held against the recordings in
//! `tests/it/golden`.

use super::*;
use crate::error::codes;
use crate::event::{Before, ChangeBatch, Op, SnapshotPoint, Txn, TxnRun};
use crate::position::{CommitLsn, Lsn};
use crate::schema::{
    Column, ColumnKind, Declared, DeclaredColumn, DeclaredType, TableId, TableName, TableSchema,
};
use arrow::array::{ArrayRef, Int32Array, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

pub(super) const INT4: u32 = 23;
pub(super) const TEXT: u32 = 25;
pub(super) const NUMERIC: u32 = 1700;

pub(super) fn named(oid: u32, name: &str, extension: Option<&str>) -> DeclaredType {
    DeclaredType {
        oid,
        modifier: -1,
        name: name.into(),
        extension: extension.map(str::to_owned),
        ..DeclaredType::default()
    }
}

/// A table whose first column is its key; the others are text on the wire.
pub(super) fn schema(others: &[(&str, DeclaredType)]) -> Arc<TableSchema> {
    let id = ("id", named(INT4, "int4", None));
    let all = std::iter::once(&id).chain(others);
    let (mut columns, mut declared) = (Vec::new(), Vec::new());
    for (attnum, (name, declared_type)) in (1..).zip(all) {
        columns.push(Column {
            name: (*name).into(),
            attnum,
            type_oid: declared_type.oid,
            type_modifier: declared_type.modifier,
            type_name: declared_type.name.clone(),
            kind: if attnum == 1 { ColumnKind::Int4 } else { ColumnKind::Text },
        });
        let declared_type = declared_type.clone();
        declared.push(DeclaredColumn { nullable: attnum > 1, default: None, declared_type });
    }
    let declared = Arc::new(Declared { columns: declared, key: vec![0] });
    let plain = TableSchema::new(TableId(1), TableName::new("public", "t"), columns, vec![0], false);
    Arc::new(TableSchema { declared, ..plain })
}

pub(super) fn rows(schema: &TableSchema, ids: Vec<Option<i32>>, texts: &[Vec<Option<&str>>]) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(ids))];
    arrays.extend(texts.iter().map(|column| Arc::new(StringArray::from(column.clone())) as ArrayRef));
    RecordBatch::try_new(Arc::clone(&schema.arrow), arrays).unwrap()
}

pub(super) fn batch(schema: &Arc<TableSchema>, ops: &[Op], after: RecordBatch) -> ChangeBatch {
    let after_end = CommitLsn::end_of_commit(Lsn::new(90));
    let txn = Txn { commit_start: Lsn::new(200), xid: 7, commit_time: 0, after: after_end };
    ChangeBatch {
        schema: Arc::clone(schema),
        ops: ops.to_vec(),
        runs: vec![TxnRun { first_row: 0, txn, end: Some(CommitLsn::end_of_commit(Lsn::new(210))) }],
        ordinals: (0..ops.len() as u64).collect(),
        lsns: (0..ops.len() as u64).map(|n| Lsn::new(100 + n)).collect(),
        origins: Vec::new(),
        unchanged: vec![None; after.num_columns()],
        after,
        before: None,
        wire_bytes: 0,
    }
}

pub(super) fn options(change: impl FnOnce(&mut Options)) -> Arc<Options> {
    let mut options = Options { database: "shop".into(), version: "v".into(), ..Options::default() };
    change(&mut options);
    Arc::new(options)
}

fn encoded(options: &Arc<Options>, batch: &ChangeBatch) -> Records {
    let mut records = Records::new();
    let occasion = Occasion { now_ns: 1_000_000_001, snapshot: None };
    Encoder::new(&batch.schema, options).unwrap().encode(batch, &occasion, &mut records).unwrap();
    records
}

fn text(bytes: Option<&[u8]>) -> &str {
    std::str::from_utf8(bytes.unwrap_or(b"nothing")).unwrap()
}

#[test]
fn an_insert_byte_for_byte() {
    let schema = schema(&[("v", named(TEXT, "text", None))]);
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &[vec![Some("é\"\n")]]));
    let records = encoded(&options(|_| {}), &batch);
    let record = records.get(0).unwrap();
    assert_eq!(text(record.key()), r#"{"id":1}"#);
    assert_eq!(
        text(record.value()),
        r#"{"before":null,"after":{"id":1,"v":"é\"\n"},"source":{"version":"v","connector":"postgresql","name":"app","ts_ms":946684800000,"snapshot":"false","db":"shop","sequence":"[\"90\",\"100\"]","ts_us":946684800000000,"ts_ns":946684800000000000,"schema":"public","table":"t","txId":7,"lsn":100,"xmin":null,"origin":null,"origin_lsn":null},"transaction":null,"op":"c","ts_ms":1000,"ts_us":1000000,"ts_ns":1000000001}"#
    );
    let block = TransactionBlock { id: "7:100", total_order: 3, data_collection_order: 2 };
    let mut value = Vec::new();
    assert!(record.with_transaction(&block, false, &mut value));
    let with_block = text(Some(&value));
    assert!(
        with_block.contains(r#""transaction":{"id":"7:100","total_order":3,"data_collection_order":2},"op""#)
    );
    assert!(value.ends_with(b"\"ts_ns\":1000000001}"));
}

#[test]
fn another_key_is_a_delete_and_a_create() {
    let schema = schema(&[("v", named(TEXT, "text", None))]);
    let mut batch = batch(&schema, &[Op::Update], rows(&schema, vec![Some(2)], &[vec![Some("x")]]));
    batch.before = Some(Before { rows: rows(&schema, vec![Some(1)], &[vec![None]]), index: vec![0] });
    let records = encoded(&options(|o| o.extended_headers = false), &batch);
    let all: Vec<_> = records.iter().collect();
    assert_eq!(
        all.iter().map(|r| (r.op(), text(r.key()))).collect::<Vec<_>>(),
        [(Op::Delete, r#"{"id":1}"#), (Op::Delete, r#"{"id":1}"#), (Op::Create, r#"{"id":2}"#)]
    );
    assert_eq!(all.iter().map(Record::is_tombstone).collect::<Vec<_>>(), [false, true, false]);
    let headers: Vec<_> = all.iter().flat_map(Record::headers).map(|(n, v)| (n, text(Some(v)))).collect();
    assert_eq!(
        headers,
        [
            ("__debezium.newkey", r#"{"id":2}"#),
            ("__debezium.newkey", r#"{"id":2}"#),
            ("__debezium.oldkey", r#"{"id":1}"#)
        ]
    );
}

/// As recorded in the case `pg18_vector`, for which tests have no extension.
#[test]
fn vectors() {
    let vector = |name: &str| named(0, name, Some("vector"));
    let array = DeclaredType { element: Some(Box::new(vector("vector"))), ..named(0, "_vector", None) };
    let schema = schema(&[
        ("v", vector("vector")),
        ("h", vector("halfvec")),
        ("s", vector("sparsevec")),
        ("a", array),
    ]);
    let texts = ["[1e10,1e-07]", "[1,2.5,-3]", "{1:1.5,3:2}/5", "{\"[1,2]\"}"].map(|t| vec![Some(t)]);
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &texts));
    let records = encoded(&options(|_| {}), &batch);
    let value = text(records.get(0).unwrap().value());
    let expected = r#""v":[1.0E10,1.0E-7],"h":[1.0,2.5,-3.0],"s":{"dimensions":5,"vector":[[1,1.5],[3,2.0]]},"a":[[1.0,2.0]]}"#;
    assert!(value.contains(expected), "{value}");
}

#[test]
fn geometry_shows_its_srid() {
    let schema = schema(&[("g", named(0, "geometry", Some("postgis")))]);
    let point = "0101000020E6100000000000000000F03F0000000000000040";
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &[vec![Some(point)]]));
    let records = encoded(&options(|_| {}), &batch);
    let value = text(records.get(0).unwrap().value());
    assert!(value.contains(r#""g":{"wkb":"AQEAACDmEAAAAAAAAAAA8D8AAAAAAAAAQA==","srid":4326}"#), "{value}");
}

#[test]
fn what_cannot_be_written_stops_and_leaves_nothing() {
    let schema = schema(&[("n", named(NUMERIC, "numeric", None))]);
    let occasion = Occasion { now_ns: 0, snapshot: None };
    let after = rows(&schema, vec![Some(1), Some(2)], &[vec![Some("1.5"), Some("NaN")]]);
    let mut records = Records::new();
    let encoder = Encoder::new(&schema, &options(|_| {})).unwrap();
    let error =
        encoder.encode(&batch(&schema, &[Op::Create; 2], after), &occasion, &mut records).unwrap_err();
    assert_eq!((error.code(), records.len(), records.bytes()), (codes::PG021, 0, 0));
    let after = rows(&schema, vec![Some(1)], &[vec![None]]);
    let mut unchanged = batch(&schema, &[Op::Update], after);
    unchanged.unchanged = vec![None, Some(BooleanBuffer::new_set(1))];
    let error = encoder.encode(&unchanged, &occasion, &mut records).unwrap_err();
    assert_eq!(error.code(), codes::PG023);
}

#[test]
fn a_snapshot_says_which_row_is_the_last() {
    let schema = schema(&[]);
    let mut batch = batch(&schema, &[Op::Read; 3], rows(&schema, vec![Some(1), Some(2), Some(3)], &[]));
    (batch.runs, batch.ordinals, batch.lsns) = (Vec::new(), Vec::new(), Vec::new());
    let position = CommitLsn::consistent_point(Lsn::new(500));
    let point = SnapshotPoint { position, xid: Some(9), time: Some(0), is_first: true, is_last: true };
    let snapshot = SnapshotRows { point, first: Marker::First, between: Marker::True, last: Marker::Last };
    let mut records = Records::new();
    let occasion = Occasion { now_ns: 0, snapshot: Some(snapshot) };
    Encoder::new(&schema, &options(|_| {})).unwrap().encode(&batch, &occasion, &mut records).unwrap();
    for (record, marker) in records.iter().zip(["first", "true", "last"]) {
        let value = text(record.value());
        assert!(value.contains(&format!("\"snapshot\":\"{marker}\"")), "{value}");
        assert!(value.contains(r#""sequence":"[null,\"500\"]""#), "{value}");
    }
}

#[test]
fn the_native_style_is_short() {
    let schema = schema(&[("n", named(NUMERIC, "numeric", None))]);
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &[vec![Some("1.50")]]));
    let records = encoded(&options(|o| o.style = Style::Native), &batch);
    let record = records.get(0).unwrap();
    assert_eq!(
        text(record.value()),
        r#"{"op":"c","table":"public.t","before":null,"after":{"id":1,"n":"1.50"},"lsn":"0/64","xid":7,"ordinal":0,"committed":"2000-01-01T00:00:00Z","snapshot":false}"#
    );
    assert_eq!(record.headers().count(), 0);
}

#[test]
fn avro_of_a_key_and_a_value() {
    let schema = schema(&[("v", named(TEXT, "text", None))]);
    let options = options(|o| (o.encoding, o.style) = (Encoding::Avro, Style::Flat));
    let mut encoder = Encoder::new(&schema, &options).unwrap();
    let schemas = encoder.avro_schemas().unwrap();
    assert_eq!(
        schemas.key.as_deref(),
        Some(
            r#"{"type":"record","name":"Key","namespace":"app.public.t","fields":[{"name":"id","type":"int"}],"connect.name":"app.public.t.Key"}"#
        )
    );
    assert_eq!(
        schemas.value,
        r#"{"type":"record","name":"Value","namespace":"app.public.t","fields":[{"name":"id","type":"int"},{"name":"v","type":["null","string"],"default":null}],"connect.name":"app.public.t.Value"}"#
    );
    encoder.set_schema_ids(1, 258);
    let after = rows(&schema, vec![Some(-1), Some(64)], &[vec![Some("hi"), None]]);
    let mut records = Records::new();
    let occasion = Occasion { now_ns: 0, snapshot: None };
    encoder.encode(&batch(&schema, &[Op::Create; 2], after), &occasion, &mut records).unwrap();
    let all: Vec<_> =
        records.iter().map(|r| (r.key().unwrap().to_vec(), r.value().unwrap().to_vec())).collect();
    assert_eq!(all[0], (vec![0, 0, 0, 0, 1, 1], vec![0, 0, 0, 1, 2, 1, 2, 4, b'h', b'i']));
    assert_eq!(all[1], (vec![0, 0, 0, 0, 1, 0x80, 1], vec![0, 0, 0, 1, 2, 0x80, 1, 0]));
}

#[test]
fn avro_of_an_envelope_takes_a_transaction_block() {
    let schema = schema(&[]);
    let options = options(|o| o.encoding = Encoding::Avro);
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &[]));
    let records = encoded(&options, &batch);
    let record = records.get(0).unwrap();
    let plain = record.value().unwrap();
    let block = TransactionBlock { id: "7:1", total_order: 1, data_collection_order: 1 };
    let mut value = Vec::new();
    assert!(record.with_transaction(&block, true, &mut value));
    // The branch, the length of the id, the id, two numbers: in the place of one byte.
    assert_eq!(value.len(), plain.len() + 6);
    let json: serde_json::Value =
        serde_json::from_str(&Encoder::new(&schema, &options).unwrap().avro_schemas().unwrap().value)
            .unwrap();
    let fields = json["fields"].as_array().unwrap();
    assert_eq!(fields.len(), 8);
    assert_eq!(fields[1]["type"][1], "app.public.t.Value", "a record that is known stands there by its name");
}

#[test]
fn records_beside_the_tables() {
    let control = Control::new(&options(|_| {}));
    let begin = control.begin("7:100", 0);
    assert_eq!(text(Some(&begin.key)), r#"{"id":"7:100"}"#);
    assert_eq!(
        text(Some(&begin.value)),
        r#"{"status":"BEGIN","id":"7:100","event_count":null,"data_collections":null,"ts_ms":946684800000}"#
    );
    let collections = [("public.t".to_owned(), 2)];
    let end = EndOfTransaction { id: "7:210", commit_time: 0, collections: &collections };
    assert_eq!(
        text(Some(&control.end(&end).value)),
        r#"{"status":"END","id":"7:210","event_count":2,"data_collections":[{"data_collection":"public.t","event_count":2}],"ts_ms":946684800000}"#
    );
    let beat = control.heartbeat(5);
    assert_eq!(
        (text(Some(&beat.key)), text(Some(&beat.value))),
        (r#"{"serverName":"app"}"#, r#"{"ts_ms":5}"#)
    );
    assert_eq!(control.heartbeat_topic(), "__debezium-heartbeat.app");
}

/// As recorded in the case `toast`; a numeric stops there.
#[test]
fn unchanged_values_have_placeholders() {
    let of = |oid, name| named(oid, name, None);
    let array = |element| DeclaredType { element: Some(Box::new(element)), ..of(0, "_x") };
    let hstore = named(0, "hstore", Some("hstore"));
    let uuid = of(2950, "uuid");
    let schema = schema(&[
        ("t", of(TEXT, "text")),
        ("b", of(17, "bytea")),
        ("ta", array(of(TEXT, "text"))),
        ("ua", array(uuid)),
        ("ia", array(of(INT4, "int4"))),
        ("h", hstore),
    ]);
    let texts = vec![vec![None]; 6];
    let mut batch = batch(&schema, &[Op::Update], rows(&schema, vec![Some(1)], &texts));
    batch.unchanged = std::iter::once(None).chain(vec![Some(BooleanBuffer::new_set(1)); 6]).collect();
    let records = encoded(&options(|_| {}), &batch);
    let value = text(records.get(0).unwrap().value());
    for part in [
        r#""t":"__debezium_unavailable_value","b":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#,
        r#""ta":["__debezium_unavailable_value"],"ua":["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],"ia":[95,95,100,101"#,
        r#""h":"{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}"}"#,
    ] {
        assert!(value.contains(part), "{part} is not in {value}");
    }
}

/// What not every consumer may see. The hash is that of `sha256sum`.
#[test]
fn columns_are_left_out_and_disguised() {
    let text_type = || named(TEXT, "text", None);
    let schema = schema(&[
        ("secret", text_type()),
        ("phone", text_type()),
        ("note", text_type()),
        ("email", text_type()),
    ]);
    let rules = |exclude: &str, mask: &str| ColumnRules {
        table: schema.name.clone(),
        include: None,
        exclude: vec![exclude.to_owned()],
        disguises: vec![
            (mask.to_owned(), Disguise::Stars(5)),
            ("note".to_owned(), Disguise::Cut(3)),
            ("email".to_owned(), Disguise::Hash),
        ],
    };
    let with = |exclude: &str, mask: &str| {
        let columns = vec![rules(exclude, mask)];
        options(|options| options.columns = columns)
    };
    let row = [Some("s"), None, Some("a😀b"), Some("abc")];
    let texts: Vec<Vec<Option<&str>>> = row.iter().map(|value| vec![*value]).collect();
    let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &texts));
    let records = encoded(&with("secret", "phone"), &batch);
    let value = text(records.get(0).unwrap().value());
    let expected = r#""after":{"id":1,"phone":"*****","note":"a\uD83D\uDE00","email":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#;
    assert!(value.contains(expected), "{value}");
    // The old row is disguised as the new one; a key never is, so that a row stays the same row.
    let mut changed = batch.clone();
    changed.ops = vec![Op::Update];
    let old: Vec<Vec<Option<&str>>> =
        [Some("old s"), Some("old phone"), Some("old note"), Some("abc")].iter().map(|v| vec![*v]).collect();
    changed.before = Some(Before { rows: rows(&schema, vec![Some(1)], &old), index: vec![0] });
    let records = encoded(&with("secret", "phone"), &changed);
    let value = text(records.get(0).unwrap().value());
    assert!(value.contains(r#""before":{"id":1,"phone":"*****","note":"old","email":"ba7816bf"#), "{value}");
    assert!(!value.contains("old phone") && !value.contains("old s"), "{value}");
    // `printf saltabc | sha256sum`, in a column of twenty characters and in one without a limit.
    use super::columns::fitting;
    let salted = |name: &str| {
        let mut column = schema.columns[1].clone();
        column.type_name = name.to_owned();
        fitting(&Disguise::Salted("salt".to_owned(), usize::MAX), &column, None).of("abc")
    };
    assert_eq!(salted("text"), "3681099918be28c95b81e27e7e5c2e4c6a6dea566d2d10e7f49139ebb779eb6f");
    assert_eq!(salted("varchar(20)"), "3681099918be28c95b81");
    for (exclude, mask) in [("id", "phone"), ("nothing", "phone"), ("secret", "id"), ("secret", "other")] {
        let refused = Encoder::new(&schema, &with(exclude, mask)).map(|_| ()).map_err(|e| e.code());
        assert_eq!(refused, Err(codes::CF003), "{exclude} {mask}");
    }
}

/// Debezium writes null for these: a value that is none.
#[test]
fn spans_beyond_a_day_are_no_times_of_it() {
    use super::encoder::JsonOuts;
    use super::value::{Cell, Conv, Trouble, Unit};
    let written = |unit, span: &str| {
        let mut bytes = Vec::new();
        let outs = JsonOuts { decimals: DecimalFormat::Base64, with_schema: false };
        let result = Conv::Span(unit).write(Cell::Text(span), &mut outs.over(&mut bytes));
        result.map(|()| text(Some(&bytes)).to_owned())
    };
    assert_eq!(written(Unit::Micros, "-01:00:00").as_deref(), Ok("-3600000000"));
    assert_eq!(written(Unit::Millis, "23:59:59").as_deref(), Ok("86399000"));
    for span in ["-00:00:01", "24:00:00", "838:59:59"] {
        assert_eq!(written(Unit::Millis, span), Err(Trouble::Range), "{span}");
        assert_eq!(written(Unit::Iso, span), Err(Trouble::Range), "{span}");
    }
}
