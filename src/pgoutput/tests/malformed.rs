//! Messages that are not what the protocol says: each is an error that names message, field and offset.

use super::golden::all_messages;
use super::*;
use crate::pgoutput::{
    DecodeError, Keepalive, Message, Origin, ReplicationFrame, StandbyStatus, StreamAbort, XLogData, decode,
};

#[track_caller]
fn refused(bytes: &[u8], in_stream: bool, expected: &str) {
    let error = decode(bytes, in_stream).expect_err("it was taken");
    assert_eq!(error.to_string(), expected);
}

/// A message of its kind's byte and parts.
fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn no_real_message_can_lose_or_gain_a_byte() {
    let messages = all_messages();
    assert!(messages.len() > 200);
    for (bytes, in_stream) in messages {
        assert!(decode(&bytes, in_stream).is_ok());
        // Long values make thousands of equal cuts.
        let cuts = (0..bytes.len()).filter(|cut| *cut < 200 || cut % 97 == 0 || bytes.len() - cut < 20);
        for cut in cuts {
            let error = decode(&bytes[..cut], in_stream).expect_err("a cut message was taken");
            assert!(error.offset <= cut, "{error}");
        }
        let longer = bytes.iter().copied().chain([0]).collect::<Vec<_>>();
        assert!(decode(&longer, in_stream).is_err(), "a longer message was taken");
    }
}

#[test]
fn kind_and_length() {
    refused(b"", false, "pgoutput message, kind at byte 0: expected 1 bytes, found 0");
    refused(
        b"Z",
        false,
        "pgoutput message, kind at byte 0: expected a message of protocol 1 to 4, found \"Z\"",
    );
    refused(
        b"\n",
        false,
        "pgoutput message, kind at byte 0: expected a message of protocol 1 to 4, found \"\\n\"",
    );
    refused(b"E!", false, "StreamStop message, end at byte 1: expected the end, found 1 more bytes");
    refused(b"B1234567", false, "Begin message, final LSN at byte 1: expected 8 bytes, found 7");
}

#[test]
fn flags() {
    let commit = bytes(&[b"C\x01", &[0; 24]]);
    refused(&commit, false, "Commit message, flags at byte 1: unknown flags 0x1");
    let stream = bytes(&[b"c\0\0\0\x07\x80", &[0; 24]]);
    refused(&stream, false, "StreamCommit message, flags at byte 5: unknown flags 0x80");
    refused(b"S\0\0\0\x07\x02", false, "StreamStart message, first segment at byte 5: unknown flags 0x2");
    refused(b"T\0\0\0\x01\x04\0\0\0\x09", false, "Truncate message, options at byte 5: unknown flags 0x4");
    let logical = bytes(&[b"M\x03", &[0; 8], b"p\0", &[0; 4]]);
    refused(&logical, false, "Message message, flags at byte 1: unknown flags 0x3");
    for (kind, name) in
        [(b'P', "Prepare"), (b'p', "StreamPrepare"), (b'K', "CommitPrepared"), (b'r', "RollbackPrepared")]
    {
        let message = bytes(&[&[kind, 9], &[0; 40], b"gid\0"]);
        refused(&message, false, &format!("{name} message, flags at byte 1: unknown flags 0x9"));
    }
}

#[test]
fn counts_that_cannot_be() {
    let truncate = b"T\xFF\xFF\xFF\xFF\0";
    refused(
        truncate,
        false,
        "Truncate message, relation count at byte 1: -1 is not a possible count or length",
    );
    // A count of two thousand million allocates nothing.
    refused(b"T\x7F\xFF\xFF\xFF\0", false, "Truncate message, relation at byte 6: expected 4 bytes, found 0");
    let insert = b"I\0\0\0\x01N\xFF\xFE";
    refused(insert, false, "Insert message, column count at byte 6: -2 is not a possible count or length");
    let value = b"I\0\0\0\x01N\0\x01t\xFF\xFF\xFF\xFF";
    refused(value, false, "Insert message, column value at byte 9: -1 is not a possible count or length");
    let long = b"I\0\0\0\x01N\0\x01b\x7F\xFF\xFF\xFFab";
    refused(long, false, "Insert message, column value at byte 13: expected 2147483647 bytes, found 2");
    let relation = b"R\0\0\0\x01s\0t\0d\xFF\xFF";
    refused(
        relation,
        false,
        "Relation message, column count at byte 10: -1 is not a possible count or length",
    );
    let relation = b"R\0\0\0\x01s\0t\0d\x7F\xFF";
    refused(relation, false, "Relation message, column flags at byte 12: expected 1 bytes, found 0");
    let logical = bytes(&[b"M\x01", &[0; 8], b"p\0\xFF\xFF\xFF\xFE"]);
    refused(&logical, false, "Message message, content at byte 12: -2 is not a possible count or length");
}

#[test]
fn tags() {
    refused(
        b"I\0\0\0\x01K",
        false,
        "Insert message, row at byte 5: expected the new row's tag N, found \"K\"",
    );
    refused(
        b"U\0\0\0\x01X",
        false,
        "Update message, row at byte 5: expected one of the row tags K, O and N, found \"X\"",
    );
    refused(
        b"U\0\0\0\x01K\0\0O",
        false,
        "Update message, row at byte 8: expected the new row's tag N, found \"O\"",
    );
    refused(
        b"D\0\0\0\x01N\0\0",
        false,
        "Delete message, row at byte 5: expected one of the row tags K and O, found \"N\"",
    );
    refused(
        b"I\0\0\0\x01N\0\x01x",
        false,
        "Insert message, column at byte 8: expected one of the column tags n, u, t and b, found \"x\"",
    );
    refused(
        b"R\0\0\0\x01s\0t\0x\0\0",
        false,
        "Relation message, replica identity at byte 9: expected one of d, n, f and i, found \"x\"",
    );
    let flags = b"R\0\0\0\x01s\0t\0d\0\x01\x02c\0\0\0\0\0\0\0\0\0";
    refused(flags, false, "Relation message, column flags at byte 12: unknown flags 0x2");
}

#[test]
fn names() {
    refused(b"Y\0\0\0\x01abc", false, "Type message, namespace at byte 5: the name has no end");
    refused(b"Y\0\0\0\x01\xFF\0t\0", false, "Type message, namespace at byte 5: the name is not UTF-8");
    refused(b"O12345678", false, "Origin message, name at byte 9: the name has no end");
}

#[test]
fn a_stream_changes_the_form() {
    let outside = b"I\0\0\0\x01N\0\0";
    let inside = b"I\0\0\0\x09\0\0\0\x01N\0\0";
    let xid_and_table = |bytes, in_stream| match decode(bytes, in_stream) {
        Ok(Message::Insert(insert)) => (insert.xid, insert.relation),
        other => panic!("{other:?}"),
    };
    assert_eq!(xid_and_table(outside, false), (None, TableId(1)));
    assert_eq!(xid_and_table(inside, true), (Some(9), TableId(1)));
    assert!(decode(inside, false).is_err());
    assert!(decode(outside, true).is_err());
}

/// No server of version 15 sends these; the form is that of the manual and of `proto.c`.
#[test]
fn messages_without_a_golden_file() {
    let origin = decode(b"O\0\0\0\x01\0\0\0\x02elsewhere\0", false);
    let commit_lsn = Lsn::new(0x1_0000_0002);
    assert_eq!(origin, Ok(Message::Origin(Origin { commit_lsn, name: "elsewhere" })));
    let abort = bytes(&[b"A", &7u32.to_be_bytes(), &8u32.to_be_bytes()]);
    let expected = StreamAbort { xid: 7, subxid: 8, at: None };
    assert_eq!(decode(&abort, false), Ok(Message::StreamAbort(expected)));
    let parallel = bytes(&[&abort, &9u64.to_be_bytes(), &(-5i64).to_be_bytes()]);
    let expected = StreamAbort { at: Some((Lsn::new(9), -5)), ..expected };
    assert_eq!(decode(&parallel, false), Ok(Message::StreamAbort(expected)));
    refused(&parallel[..12], false, "StreamAbort message, abort LSN at byte 9: expected 8 bytes, found 3");
}

#[test]
fn replication_frames() {
    let payload =
        [b"w".as_slice(), &1u64.to_be_bytes(), &2u64.to_be_bytes(), &3i64.to_be_bytes(), b"data"].concat();
    let expected = XLogData { start: Lsn::new(1), end: Lsn::new(2), time: 3, data: b"data" };
    assert_eq!(ReplicationFrame::decode(&payload), Ok(ReplicationFrame::XLogData(expected)));
    let keepalive = |reply| [b"k".as_slice(), &2u64.to_be_bytes(), &(-3i64).to_be_bytes(), &[reply]].concat();
    for (byte, reply) in [(0, false), (1, true)] {
        let expected = Keepalive { end: Lsn::new(2), time: -3, reply };
        assert_eq!(ReplicationFrame::decode(&keepalive(byte)), Ok(ReplicationFrame::Keepalive(expected)));
    }
    let refused = |bytes: &[u8]| ReplicationFrame::decode(bytes).expect_err("it was taken").to_string();
    assert_eq!(
        refused(&keepalive(2)),
        "Keepalive message, reply at byte 17: expected 0 or 1, found \"\\x02\""
    );
    assert_eq!(refused(b"s"), "replication message, kind at byte 0: expected w or k, found \"s\"");
    assert_eq!(refused(b""), "replication message, kind at byte 0: expected 1 bytes, found 0");
    for cut in 1..25 {
        assert!(ReplicationFrame::decode(&payload[..cut]).is_err(), "cut at {cut}");
    }
    for cut in 1..18 {
        assert!(ReplicationFrame::decode(&keepalive(0)[..cut]).is_err(), "cut at {cut}");
    }
    assert!(ReplicationFrame::decode(&[keepalive(0), vec![0]].concat()).is_err());
}

#[test]
fn status_update() {
    let lsn = Lsn::new;
    let status =
        StandbyStatus { written: lsn(0x0102), flushed: lsn(0x03), applied: lsn(0x04), time: -1, reply: true };
    let expected = "72000000000000010200000000000000030000000000000004ffffffffffffffff01";
    assert_eq!(hex(&status.encode()), expected);
}

#[test]
fn an_error_has_its_code_and_no_content() {
    let secret = b"I\0\0\0\x01N\0\x02t\0\0\0\x06secret";
    let error: DecodeError = decode(secret, false).unwrap_err();
    let report = crate::error::Error::from(error).report();
    assert!(report.starts_with("error PG024: "), "{report}");
    assert!(report.contains("Insert message, column at byte 19"), "{report}");
    assert!(!report.contains("secret"), "{report}");
}
