//! COPY streams: cut anywhere, and malformed ones.

use super::*;
use crate::pgoutput::{CopyDecoder, CopyError, Reason};
use proptest::prelude::*;

const TABLE: &[(&str, ColumnKind)] =
    &[("id", ColumnKind::Int4), ("note", ColumnKind::Text), ("flag", ColumnKind::Bool)];

const HEADER: &[u8] = b"PGCOPY\n\xFF\r\n\0\0\0\0\0\0\0\0\0";

fn stream(rows: &[(i32, Option<String>, bool)], extension: &[u8]) -> Vec<u8> {
    let mut bytes = HEADER[..15].to_vec();
    bytes.extend((extension.len() as u32).to_be_bytes());
    bytes.extend(extension);
    for (id, note, flag) in rows {
        bytes.extend([0, 3, 0, 0, 0, 4]);
        bytes.extend(id.to_be_bytes());
        match note {
            Some(note) => {
                bytes.extend((note.len() as u32).to_be_bytes());
                bytes.extend(note.as_bytes());
            }
            None => bytes.extend([0xFF; 4]),
        }
        bytes.extend([0, 0, 0, 1, u8::from(*flag)]);
    }
    bytes.extend([0xFF, 0xFF]);
    bytes
}

fn decode(chunks: &[&[u8]]) -> Result<ChangeBatch, CopyError> {
    let mut builder = builder(&table(TABLE, &[0], false));
    let mut decoder = CopyDecoder::new();
    for chunk in chunks {
        decoder.feed(chunk, &mut builder)?;
    }
    decoder.finish()?;
    Ok(builder.take(None)?)
}

fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        rows in prop::collection::vec((any::<i32>(), any::<Option<String>>(), any::<bool>()), 0..20),
        extension in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let bytes = stream(&rows, &extension);
        let found = decode(&split(&bytes, &cuts)).unwrap();
        assert_same(&found, &decode(&[&bytes]).unwrap());
        let expected: String = rows
            .iter()
            .map(|(id, note, flag)| {
                let note = note.as_ref().map_or("(null)".into(), |note| serde_json::to_string(note).unwrap());
                let note = if note.len() > 1000 { format!("({} characters)", note.chars().count()) } else { note };
                format!("r - {id}|{note}|{flag}\n")
            })
            .collect();
        prop_assert_eq!(render(&found), expected);
        prop_assert_eq!(found.wire_bytes, bytes.len() - 19 - extension.len() - 2);
    }

    /// An error is the same error wherever the stream is cut, and the rows before it are kept.
    #[test]
    fn errors_do_not_depend_on_cuts(
        at in any::<prop::sample::Index>(),
        byte: u8,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let rows: Vec<_> = (0..4).map(|n| (n, Some(format!("row {n}")), true)).collect();
        let mut bytes = stream(&rows, &[]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let outcome = |result: Result<ChangeBatch, CopyError>| result.map(|batch| render(&batch));
        let (whole, cut) = (outcome(decode(&[&bytes])), outcome(decode(&split(&bytes, &cuts))));
        match (&whole, &cut) {
            // How much came too late depends on how much came with it.
            (Err(CopyError::Format(a)), Err(CopyError::Format(b))) => {
                prop_assert_eq!((a.field, a.offset), (b.field, b.offset));
            }
            _ => prop_assert_eq!(whole, cut),
        }
    }
}

#[test]
fn byte_by_byte() {
    let rows = vec![(1, Some("grüße".into()), true), (2, None, false)];
    let bytes = stream(&rows, b"ext");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_same(&decode(&single).unwrap(), &decode(&[&bytes]).unwrap());
}

#[test]
fn every_truncated_stream_is_an_error() {
    let rows = vec![(1, Some("text".into()), true), (2, None, false)];
    let bytes = stream(&rows, &[]);
    for cut in 0..bytes.len() {
        assert!(decode(&[&bytes[..cut]]).is_err(), "cut at {cut}");
    }
}

#[track_caller]
fn refused(bytes: &[u8], expected: &str) {
    assert_eq!(decode(&[bytes]).expect_err("it was taken").to_string(), expected);
}

#[test]
fn malformed_streams() {
    refused(
        b"PGCOPY\nX",
        "COPY message, signature at byte 7: expected the signature of COPY's binary format, found \"X\"",
    );
    refused(
        b"1\ttext\n",
        "COPY message, signature at byte 0: expected the signature of COPY's binary format, found \"1\"",
    );
    let with = |tail: &[u8]| [HEADER, tail].concat();
    let flags = [&HEADER[..11], b"\0\x01\0\0\0\0\0\0"].concat();
    refused(&flags, "COPY message, flags at byte 11: unknown flags 0x10000");
    let extension = [&HEADER[..15], b"\xFF\xFF\xFF\xFF"].concat();
    refused(&extension, "COPY message, extension at byte 15: -1 is not a possible count or length");
    refused(
        &with(b"\xFF\xFE"),
        "COPY message, column count at byte 19: -2 is not a possible count or length",
    );
    refused(&with(b"\xFF\xFFx"), "COPY message, end at byte 21: expected the end, found 1 more bytes");
    refused(
        &with(b"\0\x03\xFF\xFF\xFF\xFE"),
        "COPY message, field length at byte 21: -2 is not a possible count or length",
    );
    refused(
        &with(b"\0\x03\x7F\xFF\xFF\xFF"),
        "COPY message, field length at byte 21: 2147483647 is not a possible count or length",
    );
    refused(&with(b"\0\x01\0\0\0\0\xFF\xFF"), "the row has 1 columns, the table 3");
    refused(HEADER, "COPY message, trailer at byte 19: expected 2 bytes, found 0");
}

#[test]
fn a_failed_decoder_stays_failed_and_the_rows_before_stay() {
    let mut builder = builder(&table(TABLE, &[0], false));
    let mut decoder = CopyDecoder::new();
    let mut bytes = stream(&[(1, None, true), (2, None, true)], &[]);
    let flag = bytes.len() - 3;
    bytes[flag] = 7;
    let error = decoder.feed(&bytes, &mut builder).unwrap_err();
    let CopyError::Value(inner) = error else { panic!("{error}") };
    assert_eq!((inner.column, inner.reason), (Some(2), Reason::Malformed));
    assert_eq!(decoder.feed(b"", &mut builder), Err(error));
    assert_eq!(decoder.finish(), Err(error));
    assert_eq!(render(&builder.take(None).unwrap()), "r - 1|(null)|true\n");
}
