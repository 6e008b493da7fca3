//! Deletion vectors: which rows of a data file are gone.
//!
//! The file format is Delta's (PROTOCOL.md, "Deletion Vector File Storage Format"): a version byte, then
//! for each vector its size (big endian), a magic number (little endian), the 64-bit portable Roaring
//! bitmap, and a CRC-32 (big endian) of magic and bitmap. One commit writes one such file for all the data
//! files that it touches. Rows are 32-bit here: the 64-bit form is one 32-bit bitmap behind its header.

use crate::error::{Error, Result, codes};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const MAGIC: u32 = 1_681_511_377;
const Z85: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// How a data file's deletion vector is named in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    /// `u`: a file named by a uuid below the table; `i`: inline; `p`: an absolute path.
    pub storage_type: String,
    /// The uuid in Z85 (after an optional prefix), the inline bytes in Z85, or the path.
    pub path_or_inline_dv: String,
    /// Where in the file the vector's size field stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    /// Bytes of magic and bitmap.
    pub size_in_bytes: i32,
    /// Rows in it.
    pub cardinality: i64,
}

/// One file of vectors under construction.
pub(super) struct VectorFile {
    id: Uuid,
    bytes: Vec<u8>,
}

impl VectorFile {
    /// A new file with a random name.
    pub(super) fn new() -> Self {
        VectorFile { id: Uuid::new_v4(), bytes: vec![1] }
    }

    /// Its name below the table.
    pub(super) fn name(&self) -> String {
        format!("deletion_vector_{}.bin", self.id.hyphenated())
    }

    /// No vector yet.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    /// Appends a vector.
    ///
    /// # Errors
    /// `RT001` when it outgrows the format's 32-bit sizes.
    pub(super) fn push(&mut self, rows: &RoaringBitmap) -> Result<Descriptor> {
        let too_large = || Error::new(codes::RT001, "a deletion vector file outgrew 2 GiB");
        let offset = i32::try_from(self.bytes.len()).map_err(|_| too_large())?;
        let body = encode(rows);
        let size = i32::try_from(body.len()).map_err(|_| too_large())?;
        self.bytes.extend(size.to_be_bytes());
        self.bytes.extend(&body);
        self.bytes.extend(crc32fast::hash(&body).to_be_bytes());
        Ok(Descriptor {
            storage_type: "u".into(),
            path_or_inline_dv: z85(self.id.as_bytes()),
            offset: Some(offset),
            size_in_bytes: size,
            cardinality: i64::try_from(rows.len()).unwrap_or(i64::MAX),
        })
    }

    /// The file's content.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn encode(rows: &RoaringBitmap) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + rows.serialized_size());
    body.extend(MAGIC.to_le_bytes());
    body.extend(u64::from(!rows.is_empty()).to_le_bytes());
    if !rows.is_empty() {
        body.extend(0u32.to_le_bytes());
        // Writing into memory cannot fail.
        let _infallible = rows.serialize_into(&mut body);
    }
    body
}

/// Where a vector's bytes are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Location {
    /// A file below the table.
    Relative(String),
    /// In the descriptor.
    Inline(Vec<u8>),
}

impl Descriptor {
    /// Where the bytes are.
    ///
    /// # Errors
    /// `TG020` for a descriptor that cannot be understood; `TG014` for absolute paths, which may lead
    /// out of the table.
    pub(super) fn location(&self) -> Result<Location> {
        let damaged = || Error::new(codes::TG020, "a deletion vector's descriptor cannot be understood");
        let encoded = &self.path_or_inline_dv;
        match self.storage_type.as_str() {
            "u" if encoded.len() >= 20 && encoded.is_ascii() => {
                let (prefix, id) = encoded.split_at(encoded.len() - 20);
                let bytes = z85_decode(id).ok_or_else(damaged)?;
                let id = Uuid::from_slice(&bytes).map_err(|_| damaged())?;
                super::table::check_within(prefix)?;
                let slash = if prefix.is_empty() { "" } else { "/" };
                Ok(Location::Relative(format!("{prefix}{slash}deletion_vector_{}.bin", id.hyphenated())))
            }
            "i" => Ok(Location::Inline(z85_decode(encoded).ok_or_else(damaged)?)),
            "p" => Err(Error::new(codes::TG014, "a deletion vector lies at an absolute path")),
            _ => Err(damaged()),
        }
    }

    /// Decodes the vector out of its file's bytes (or the inline bytes).
    ///
    /// # Errors
    /// `TG020` when bytes, checksum or cardinality do not agree.
    pub(super) fn decode(&self, file: &[u8]) -> Result<RoaringBitmap> {
        let damaged = |what: &str| Error::new(codes::TG020, format!("a deletion vector is damaged: {what}"));
        let size = usize::try_from(self.size_in_bytes).map_err(|_| damaged("its size is negative"))?;
        let body = if self.storage_type == "i" {
            file.get(..size)
        } else {
            let at =
                usize::try_from(self.offset.unwrap_or(1)).map_err(|_| damaged("its offset is negative"))?;
            let body = file.get(at + 4..at + 4 + size).ok_or_else(|| damaged("its file is too short"))?;
            let crc =
                file.get(at + 4 + size..at + 8 + size).ok_or_else(|| damaged("its file is too short"))?;
            if file[at..at + 4] != self.size_in_bytes.to_be_bytes() {
                return Err(damaged("its size differs"));
            }
            if crc != crc32fast::hash(body).to_be_bytes() {
                return Err(damaged("its checksum differs"));
            }
            Some(body)
        }
        .ok_or_else(|| damaged("it is too short"))?;
        let rows = decode_body(body).ok_or_else(|| damaged("its bitmap cannot be read"))?;
        if i64::try_from(rows.len()).ok() != Some(self.cardinality) {
            return Err(damaged("its cardinality differs"));
        }
        Ok(rows)
    }
}

fn decode_body(body: &[u8]) -> Option<RoaringBitmap> {
    let (magic, rest) = body.split_at_checked(4)?;
    if magic != MAGIC.to_le_bytes() {
        return None;
    }
    let (count, mut rest) = rest.split_at_checked(8)?;
    let mut rows = RoaringBitmap::new();
    for _ in 0..u64::from_le_bytes(count.try_into().ok()?) {
        let (high, bitmap) = rest.split_at_checked(4)?;
        if high != [0; 4] {
            return None; // a file of ours never has 2^32 rows
        }
        let mut reader = bitmap;
        rows |= RoaringBitmap::deserialize_from(&mut reader).ok()?;
        rest = reader;
    }
    Some(rows)
}

fn z85(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() / 4 * 5);
    for word in bytes.chunks_exact(4) {
        let mut value = word.iter().fold(0u32, |v, &b| v << 8 | u32::from(b));
        let mut digits = [0u8; 5];
        for digit in digits.iter_mut().rev() {
            *digit = Z85[(value % 85) as usize];
            value /= 85;
        }
        text.extend(digits.iter().map(|&d| char::from(d)));
    }
    text
}

fn z85_decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(5) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 5 * 4);
    for chunk in text.as_bytes().chunks_exact(5) {
        let value = chunk.iter().try_fold(0u32, |v, c| {
            let digit = Z85.iter().position(|d| d == c)?;
            v.checked_mul(85)?.checked_add(u32::try_from(digit).ok()?)
        })?;
        bytes.extend(value.to_be_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn vectors_round_trip(sets in proptest::collection::vec(proptest::collection::vec(0u32..2_000_000, 1..200), 1..5)) {
            let mut file = VectorFile::new();
            let bitmaps: Vec<RoaringBitmap> = sets.into_iter().map(|s| s.into_iter().collect()).collect();
            let descriptors: Vec<_> = bitmaps.iter().map(|b| file.push(b).unwrap()).collect();
            let name = file.name();
            let bytes = file.into_bytes();
            for (descriptor, bitmap) in descriptors.iter().zip(&bitmaps) {
                prop_assert_eq!(descriptor.location().unwrap(), Location::Relative(name.clone()));
                prop_assert_eq!(&descriptor.decode(&bytes).unwrap(), bitmap);
            }
        }

        #[test]
        fn any_flipped_byte_is_noticed(at in 0usize..60, bit in 0u8..8) {
            let mut file = VectorFile::new();
            let rows: RoaringBitmap = [1, 5, 70_000].into_iter().collect();
            let descriptor = file.push(&rows).unwrap();
            let mut bytes = file.into_bytes();
            let at = 1 + at % (bytes.len() - 1);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(descriptor.decode(&bytes).unwrap_err().code(), codes::TG020);
        }
    }

    #[test]
    fn z85_is_the_published_one() {
        assert_eq!(z85(&[0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B]), "HelloWorld");
        assert_eq!(z85_decode("HelloWorld").unwrap(), [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B]);
        assert_eq!(z85_decode("Hello Worl"), None);
    }
}
