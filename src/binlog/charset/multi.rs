//! Character sets of East Asia: the tables of `encoding_rs`, and where the servers' differ.

use super::Multi;
use crate::binlog::reason::Reason;
use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS};

fn tables(set: Multi) -> &'static Encoding {
    match set {
        Multi::Big5 => BIG5,
        Multi::Sjis | Multi::Cp932 => SHIFT_JIS,
        Multi::Ujis | Multi::Eucjpms => EUC_JP,
        Multi::Euckr => EUC_KR,
        Multi::Gb2312 | Multi::Gbk => GBK,
        Multi::Gb18030 => GB18030,
    }
}

/// Bytes of the character that `bytes` begins with, by its first byte. `None`: no character begins so.
fn width(set: Multi, bytes: &[u8]) -> Option<usize> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some(1);
    }
    match set {
        Multi::Sjis | Multi::Cp932 if (0xA1..=0xDF).contains(&first) => Some(1),
        Multi::Ujis | Multi::Eucjpms if first == 0x8F => Some(3),
        Multi::Gb18030 if rest.first().is_some_and(u8::is_ascii_digit) => Some(4),
        _ => Some(2),
    }
}

pub(super) fn decode(set: Multi, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut rest = bytes;
    while let Some(width) = width(set, rest) {
        let (letter, after) = rest.split_at_checked(width).ok_or(Reason::NotText)?;
        rest = after;
        if let [ascii @ ..0x80] = letter {
            out.push(*ascii);
            continue;
        }
        match tables(set).decode_without_bom_handling_and_without_replacement(letter) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => return Err(Reason::NotText),
        }
    }
    Ok(())
}
