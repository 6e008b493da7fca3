//! What is written is read: in every style and encoding, and from an older schema.

use super::*;
use crate::debezium::tests::{NUMERIC, TEXT, batch, named, options, rows, schema};
use crate::debezium::{FlatDeletes, Occasion, Options, Records};
use crate::event::{ChangeBatch, Op};
use arrow::buffer::BooleanBuffer;
use proptest::prelude::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::JsonWithSchema, Encoding::Avro];
const STYLES: [Style; 3] = [Style::Debezium, Style::Flat, Style::Native];

/// An encoder with its reader; the flat style tells deletes in its rows.
fn both(batch: &ChangeBatch, style: Style, encoding: Encoding) -> (Encoder, Reader) {
    let options = options(|o: &mut Options| {
        (o.style, o.encoding, o.flat_deletes) = (style, encoding, FlatDeletes::RewriteWithTombstone);
    });
    let mut encoder = Encoder::new(&batch.schema, &options).unwrap();
    let reader = Reader::new(&mut encoder).unwrap();
    (encoder, reader)
}

fn written(encoder: &Encoder, batch: &ChangeBatch) -> Records {
    let mut records = Records::new();
    encoder.encode(batch, &Occasion { now_ns: 1, snapshot: None }, &mut records).unwrap();
    records
}

fn seen(reader: &Reader, records: &Records) -> Vec<(String, Seen)> {
    let one = |record: crate::debezium::Record<'_>| {
        (reader.key(record.key().unwrap()).unwrap().text, reader.value(record.value(), None).unwrap())
    };
    records.iter().map(one).collect()
}

#[test]
fn rows_are_told_apart_by_their_values_in_every_style_and_encoding() {
    let schema = schema(&[("v", named(TEXT, "text", None)), ("n", named(NUMERIC, "numeric", None))]);
    let texts = [Some("é\"\n"), Some("é\"\n"), Some("e"), None];
    let numbers = [Some("1.50"), Some("1.50"), Some("1.50"), Some("12345678901234567890.123456789")];
    let images = rows(&schema, vec![Some(1), Some(2), Some(3), Some(4)], &[texts.to_vec(), numbers.to_vec()]);
    let batch = batch(&schema, &[Op::Create, Op::Update, Op::Create, Op::Create], images);
    for (style, encoding) in STYLES.iter().flat_map(|s| ENCODINGS.iter().map(|e| (*s, *e))) {
        let (encoder, reader) = both(&batch, style, encoding);
        let found = seen(&reader, &written(&encoder, &batch));
        assert_eq!(reader.columns().collect::<Vec<_>>(), ["id", "v", "n"]);
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["id=1", "id=2", "id=3", "id=4"], "{style:?} {encoding:?}");
        let cells = |at: usize| match &found[at].1 {
            Seen::Row(cells) => cells.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(cells(0)[1..], cells(1)[1..]);
        assert_ne!(cells(0)[0], cells(1)[0]);
        assert_ne!(cells(1)[1], cells(2)[1]);
        assert_eq!(cells(1)[2], cells(2)[2]);
        assert_ne!(cells(2)[2], cells(3)[2]);
        assert_eq!(cells(3)[1], reader.null);
    }
}

#[test]
fn deletes_tombstones_and_truncations_are_told() {
    let schema = schema(&[("v", named(TEXT, "text", None))]);
    let images = rows(&schema, vec![Some(7)], &[vec![Some("x")]]);
    let mut deleted = batch(&schema, &[Op::Delete], images.clone());
    deleted.before = Some(crate::event::Before { rows: images, index: vec![0] });
    for (style, encoding) in STYLES.iter().flat_map(|s| ENCODINGS.iter().map(|e| (*s, *e))) {
        let (encoder, reader) = both(&deleted, style, encoding);
        let found = seen(&reader, &written(&encoder, &deleted));
        assert_eq!(
            found,
            [("id=7".into(), Seen::Gone), ("id=7".into(), Seen::Gone)],
            "{style:?} {encoding:?}"
        );
    }
    let truncated = batch(&schema, &[Op::Truncate], rows(&schema, vec![None], &[vec![None]]));
    let all = options(|o| o.skipped_operations = Vec::new());
    let mut encoder = Encoder::new(&schema, &all).unwrap();
    let reader = Reader::new(&mut encoder).unwrap();
    let records = written(&encoder, &truncated);
    let record = records.iter().next().unwrap();
    assert_eq!((record.key(), reader.value(record.value(), None)), (None, Ok(Seen::Truncated)));
}

#[test]
fn an_unchanged_value_is_kept_and_one_that_was_too_large_is_lost() {
    let schema = schema(&[("v", named(TEXT, "text", None)), ("w", named(TEXT, "text", None))]);
    let images = rows(&schema, vec![Some(1)], &[vec![None], vec![Some("w")]]);
    let mut changed = batch(&schema, &[Op::Update], images);
    changed.unchanged = vec![None, Some(BooleanBuffer::new_set(1)), None];
    for encoding in ENCODINGS {
        let (encoder, reader) = both(&changed, Style::Debezium, encoding);
        let records = written(&encoder, &changed);
        let value = records.iter().next().unwrap().value();
        let Seen::Row(cells) = reader.value(value, None).unwrap() else { panic!("no row") };
        assert_eq!(cells[1], Cell::KEPT, "{encoding:?}");
        assert!(cells[2] != Cell::KEPT && cells[2] != reader.null);
        let Seen::Row(cells) = reader.value(value, Some(br#"{"v":2400000}"#)).unwrap() else {
            panic!("no row")
        };
        assert_eq!(cells[1], Cell::LOST);
    }
}

#[test]
fn a_record_from_before_a_column_came_has_null_there_and_one_that_went_is_passed_over() {
    let before = schema(&[("old", named(TEXT, "text", None)), ("v", named(TEXT, "text", None))]);
    let after = schema(&[("v", named(TEXT, "text", None)), ("new", named(TEXT, "text", None))]);
    let first =
        batch(&before, &[Op::Create], rows(&before, vec![Some(1)], &[vec![Some("o")], vec![Some("x")]]));
    let now = batch(&after, &[Op::Create], rows(&after, vec![Some(1)], &[vec![Some("x")], vec![None]]));
    for (style, encoding) in STYLES.iter().flat_map(|s| ENCODINGS.iter().map(|e| (*s, *e))) {
        let (mut old, _) = both(&first, style, encoding);
        let (encoder, mut reader) = both(&now, style, encoding);
        if let Some(schemas) = old.avro_schemas() {
            old.set_schema_ids(5, 6);
            let records = written(&old, &first);
            let record = records.iter().next().unwrap();
            let mut lost = reader.clone();
            lost.learn(6, schemas.key.as_deref().unwrap()).unwrap();
            assert!(lost.value(record.value(), None).is_err(), "another schema under its id");
            assert_eq!(reader.unknown_schema(record.value().unwrap()), Some(6));
            assert!(reader.value(record.value(), None).is_err());
            reader.learn(5, &schemas.key.unwrap()).unwrap();
            reader.learn(6, &schemas.value).unwrap();
        }
        let found = seen(&reader, &written(&old, &first));
        assert_eq!(found, seen(&reader, &written(&encoder, &now)), "{style:?} {encoding:?}");
    }
}

#[test]
fn the_form_of_a_value_does_not_count() {
    let cell = |text: &str| json::cell(text.as_bytes(), &mut Taste::default());
    for (one, other) in [
        ("1.0", "1"),
        ("1e3", "1000"),
        ("-12.50", "-1250E-2"),
        ("0.0", "0"),
        (r#""\u00e9\n""#, "\"é\\n\""),
        ("[1, 2]", "[1,2.0]"),
        (r#"{"a" : [null]}"#, r#"{"a":[null]}"#),
    ] {
        assert_eq!(cell(one).unwrap(), cell(other).unwrap(), "{one} {other}");
    }
    for (one, other) in [
        ("10", "1"),
        ("0.0", "-0.0"),
        ("12345678901234567890.123456789", "12345678901234567890.123456788"),
        ("\"1\"", "1"),
        ("null", "\"\""),
        ("[[1],2]", "[[1,2]]"),
    ] {
        assert_ne!(cell(one).unwrap(), cell(other).unwrap(), "{one} {other}");
    }
    for broken in ["", "nul", "\"", "[1,", "{\"a\"}", "1x", "--1", "[1]]", "\"\\"] {
        assert!(cell(broken).is_err(), "{broken}");
    }
}

proptest! {
    /// Nothing that stands in a topic makes it panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..400,
        flip in 0usize..400,
        style in 0usize..3,
        encoding in 0usize..3,
    ) {
        let schema = schema(&[("v", named(TEXT, "text", None))]);
        let batch = batch(&schema, &[Op::Create], rows(&schema, vec![Some(1)], &[vec![Some("x")]]));
        let (encoder, reader) = both(&batch, STYLES[style], ENCODINGS[encoding]);
        let _ = reader.key(&bytes);
        let _ = reader.value(Some(&bytes), Some(&bytes));
        let records = written(&encoder, &batch);
        let record = records.iter().next().unwrap();
        let mut value = record.value().unwrap().to_vec();
        value.truncate(cut.max(1));
        let at = flip % value.len();
        value[at] ^= 1 << (flip % 8);
        let _ = reader.value(Some(&value), None);
        bytes.splice(..0, [0, 255, 255, 255, 255]);
        let _ = reader.value(Some(&bytes), None);
        let _ = reader.key(&bytes);
    }
}
