//! Character sets of East Asia: the tables of `encoding_rs`, and where the servers' differ.

use super::{Multi, differ, push};
use crate::binlog::reason::Reason;
use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};

/// Codes that the server does not define, by first and last.
type Undefined = &'static [(u32, u32)];
/// Runs of codes that are other characters, by first and last code and first character.
type Other = &'static [(u32, u32, u32)];

fn tables(set: Multi) -> (&'static Encoding, Undefined, Other) {
    match set {
        Multi::Big5 => (BIG5, differ::BIG5_UNDEFINED, differ::BIG5_OTHER),
        Multi::Sjis => (SHIFT_JIS, differ::SJIS_UNDEFINED, differ::SJIS_OTHER),
        Multi::Cp932 => (SHIFT_JIS, differ::CP932_UNDEFINED, differ::CP932_OTHER),
        Multi::Ujis => (EUC_JP, differ::UJIS_UNDEFINED, differ::UJIS_OTHER),
        Multi::Eucjpms => (EUC_JP, differ::EUCJPMS_UNDEFINED, differ::EUCJPMS_OTHER),
        Multi::Euckr => (EUC_KR, differ::EUCKR_UNDEFINED, differ::EUCKR_OTHER),
        Multi::Gb2312 => (GBK, differ::GB2312_UNDEFINED, differ::GB2312_OTHER),
        Multi::Gbk => (GBK, differ::GBK_UNDEFINED, differ::GBK_OTHER),
        Multi::Gb18030 => (GB18030, differ::GB18030_UNDEFINED, differ::GB18030_OTHER),
    }
}

/// Bytes of the character that `bytes` begins with.
fn width(set: Multi, bytes: &[u8]) -> usize {
    match (set, bytes) {
        (_, [..0x80, ..]) => 1,
        (Multi::Sjis | Multi::Cp932, [0xA1..=0xDF, ..]) => 1,
        (Multi::Ujis | Multi::Eucjpms, [0x8F, ..]) => 3,
        (Multi::Gb18030, [_, b'0'..=b'9', ..]) => 4,
        _ => 2,
    }
}

pub(super) fn decode(set: Multi, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let (encoding, undefined, other) = tables(set);
    // What both agree on is decoded at once, up to the next difference.
    let (mut from, mut at) = (0, 0);
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let width = width(set, rest);
        let letter = rest.get(..width).ok_or(Reason::NotText)?;
        let code = letter.iter().fold(0, |code, &byte| code << 8 | u32::from(byte));
        if code >= 0x80 {
            // In no set of a server does a character begin so; in some of browsers it is one.
            if letter.first() == Some(&0x80) || differs(undefined, code, |run| *run).is_some() {
                return Err(Reason::NotText);
            }
            if let Some(&(first, _, character)) = differs(other, code, |run| (run.0, run.1)) {
                agreed(encoding, bytes.get(from..at).unwrap_or_default(), out)?;
                push(out, char::from_u32(character + (code - first)).ok_or(Reason::NotText)?);
                from = at + width;
            }
        }
        at += width;
    }
    agreed(encoding, bytes.get(from..).unwrap_or_default(), out)
}

/// The run that the code is in.
fn differs<T>(runs: &'static [T], code: u32, ends: impl Fn(&T) -> (u32, u32)) -> Option<&'static T> {
    let run = runs.get(runs.partition_point(|run| ends(run).1 < code))?;
    (ends(run).0 <= code).then_some(run)
}

fn agreed(encoding: &'static Encoding, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or(Reason::NotText)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
