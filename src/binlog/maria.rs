//! What MariaDB compresses: statements and rows (`log_bin_compress`), and values of `COMPRESSED` columns.

use super::query::{self, Query};
use super::wire::{DecodeError, Problem, Reader};
use std::borrow::Cow;
use std::io::Read;

/// No event of a server decompresses to more: `max_allowed_packet` ends at 1 GiB, and rows are cut before that.
const MAX_EVENT: u64 = 1 << 30;

/// `QUERY_COMPRESSED_EVENT`.
pub(super) fn query<'a>(reader: &mut Reader<'a>, fixed: Option<u8>) -> Result<Query<'a>, DecodeError> {
    let mut query = query::read(reader, fixed)?;
    query.text = Cow::Owned(decompress("statement", &query.text)?);
    Ok(query)
}

/// A byte that says the method and the width of the length, the length (big-endian), then zlib.
pub(super) fn decompress(field: &'static str, bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let error = |problem| DecodeError { event: "compressed event", field, offset: 0, problem };
    let (&head, rest) = bytes.split_first().ok_or_else(|| error(Problem::Short { need: 1, have: 0 }))?;
    let width = usize::from(head & 7);
    if head & 0x80 == 0 || head & 0x70 != 0 {
        return Err(error(Problem::Tag { found: head.into(), expected: "0x80 and a width, zlib" }));
    }
    let (length, data) = match (1..=4).contains(&width).then(|| rest.split_at_checked(width)).flatten() {
        Some(parts) => parts,
        None => return Err(error(Problem::Count { found: width as u64 })),
    };
    let length = length.iter().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
    if length > MAX_EVENT {
        return Err(error(Problem::TooLarge { limit: MAX_EVENT }));
    }
    inflate(data, length, true).ok_or_else(|| error(Problem::Compressed))
}

/// Exactly `length` bytes out of zlib data. Memory is taken as it is filled: a forged length costs nothing.
fn inflate(data: &[u8], length: u64, zlib_header: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    // One byte more than wanted, to see that there is none.
    if zlib_header {
        flate2::read::ZlibDecoder::new(data).take(length + 1).read_to_end(&mut out).ok()?;
    } else {
        flate2::read::DeflateDecoder::new(data).take(length + 1).read_to_end(&mut out).ok()?;
    }
    (out.len() as u64 == length).then_some(out)
}

/// The value of a `COMPRESSED` column: a header byte and a length (big-endian), then zlib or deflate data; or a
/// zero byte and the value itself.
pub(super) fn column_value(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    // An empty value has no header.
    let Some((&head, rest)) = bytes.split_first() else { return Some(Cow::Borrowed(bytes)) };
    let method = head >> 4;
    if head == 0 {
        return Some(Cow::Borrowed(rest));
    }
    // Method 8 is zlib's. Bit 3: without zlib's own header. Bits 0 to 2: width of the length.
    if method != 8 {
        return None;
    }
    let width = usize::from(head & 7);
    let (length, data) = (1..=4).contains(&width).then(|| rest.split_at_checked(width)).flatten()?;
    let length = length.iter().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
    if length > MAX_EVENT {
        return None;
    }
    inflate(data, length, head & 8 == 0).map(Cow::Owned)
}
