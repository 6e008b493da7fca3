//! Which parts of a table are copied, and at which positions: what lets a copy that was interrupted go on.
//!
//! A table is cut into chunks by the first column of its key. Each is read under a snapshot and committed with the
//! snapshot's position; a chunk that is committed is never read again. After an interruption, or where the operator
//! wants no snapshot to outlive a chunk, chunks stand at different positions. The stream is then replayed from the
//! oldest of them, and *each key takes only the changes beyond the position of its own chunk*. So a key is, at every
//! moment, exactly as the source had it at the later of its chunk's position and the replay's. At the newest position
//! of all, every key is at the same moment: from there on the table is a prefix of the source's history again.
//!
//! A row that moves from one key to another at position `x`, where `a` is the position of the old key's chunk and `b`
//! that of the new key's:
//!
//! | | old key | new key |
//! |---|---|---|
//! | `x <= a`, `x <= b` | the snapshot knows | the snapshot knows |
//! | `a < x <= b` | removed | the snapshot knows |
//! | `a < x`, `b < x` | removed | written |
//! | `b < x <= a` | the snapshot knows: it is not there, or it is another row | written; a value that the log does not repeat is in *no* chunk |
//!
//! Where only the source can compare keys, by a collation, no change can be left out: every key takes all changes from the
//! oldest chunk's position on, those too that its chunk knows of. On the way a row may be older than it was, or be there
//! again; at the newest position it is what the last change of it made of it, which is what its chunk held, or newer. A
//! change that does not carry the whole row can say so only of the key that it stays at, and of a row that is there.
//!
//! The last case is the only one in which a value is missing. It is never guessed nor left empty: the table is
//! copied again, as a whole.
//!
//! # Who dies where
//!
//! | moment | on storage | the next start |
//! |---|---|---|
//! | a chunk's files are written, not committed | files that no version names | reads this chunk again, under a new snapshot |
//! | a chunk is committed, the next is not | the rows and where they end, in one commit | goes on there, if the stream can still be replayed from the oldest chunk, and columns and files of the table are the same; else it begins again |
//! | the last chunk is committed, the replay has not reached the newest position | rows, chunks, and the position that the replay has reached | replays from there; each key knows its chunk |
//! | a unit that reaches the newest position is committed | a table like any other, in the same commit | as every table |
//! | no change comes for the table | as before that | the same, until one comes; the cut that names the table is at or beyond the newest position |
//!
//! What makes a chunk of an earlier snapshot worthless is looked for *after* the later snapshot was taken: a rewrite
//! before it shows in the catalogue, one after it to the worker that locks the table.

use crate::position::CommitLsn;
use crate::schema::ColumnKind;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Date32Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};

/// A value of the first key column, which is compared as the source compares it. Those of one column are of one
/// variant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkKey {
    /// Integers; days and microseconds since 1970.
    Number(i64),
    /// The text of a `uuid`: its bytes in order.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A whole key that only the source compares, by its collations.
    Source {
        /// What its order is made of: names, types and collations of the columns.
        order: String,
        /// A value of each column, as the source's adapter writes it.
        values: Vec<String>,
    },
}

impl ChunkKey {
    /// Whether a column of this kind is compared by us exactly as by the source.
    pub fn is_exact(kind: &ColumnKind) -> bool {
        matches!(
            kind,
            ColumnKind::Int2
                | ColumnKind::Int4
                | ColumnKind::Int8
                | ColumnKind::Uuid
                | ColumnKind::Bytea
                | ColumnKind::Date
                | ColumnKind::Timestamp
                | ColumnKind::TimestampTz
        )
    }

    /// The value in a column of such a kind. `None`: it is null, or of another kind.
    pub fn of(array: &ArrayRef, row: usize) -> Option<Self> {
        if array.is_null(row) {
            return None;
        }
        match array.data_type() {
            DataType::Int16 => Some(ChunkKey::Number(array.as_primitive::<Int16Type>().value(row).into())),
            DataType::Int32 => Some(ChunkKey::Number(array.as_primitive::<Int32Type>().value(row).into())),
            DataType::Int64 => Some(ChunkKey::Number(array.as_primitive::<Int64Type>().value(row))),
            DataType::Date32 => Some(ChunkKey::Number(array.as_primitive::<Date32Type>().value(row).into())),
            DataType::Timestamp(..) => {
                Some(ChunkKey::Number(array.as_primitive::<TimestampMicrosecondType>().value(row)))
            }
            DataType::Utf8 => Some(ChunkKey::Text(array.as_string::<i32>().value(row).to_owned())),
            DataType::Binary => Some(ChunkKey::Bytes(array.as_binary::<i32>().value(row).to_owned())),
            _ => None,
        }
    }
}

/// Keys from `from` up to and without `below`; `None` on a side: no bound.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyRange {
    /// The first.
    pub from: Option<ChunkKey>,
    /// Behind the last.
    pub below: Option<ChunkKey>,
}

/// Some rows of a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pick {
    /// With these values in the first key column.
    pub range: KeyRange,
    /// Of these with one of these values there; empty: all.
    pub keys: Vec<ChunkKey>,
    /// Of these for which this is true: a condition as the source spells it.
    pub condition: Option<String>,
}

/// A part of the table that is copied: from where the part before it ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Chunk {
    /// Where it ends; `None`: with the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<ChunkKey>,
    /// The position of its snapshot.
    #[serde(with = "stored")]
    at: CommitLsn,
    /// Rows that were read.
    rows: u64,
}

/// A position as it is stored.
mod stored {
    use super::CommitLsn;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};

    pub(super) fn serialize<S: Serializer>(at: &CommitLsn, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.to_stored().ok_or_else(|| S::Error::custom("a position beyond 2^63"))?)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<CommitLsn, D::Error> {
        CommitLsn::from_stored(i64::deserialize(from)?).ok_or_else(|| D::Error::custom("a negative position"))
    }
}

/// The parts of a table that are copied, in order of their keys, without gaps. See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chunks(Vec<Chunk>);

impl Chunks {
    /// Nothing is copied.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything is.
    pub fn is_whole(&self) -> bool {
        self.0.last().is_some_and(|last| last.below.is_none())
    }

    /// Where the next chunk begins. `None` when nothing is copied, and when everything is.
    pub fn end(&self) -> Option<&ChunkKey> {
        self.0.last().and_then(|last| last.below.as_ref())
    }

    /// Adds the next one. Chunks of one snapshot are one.
    pub fn push(&mut self, below: Option<ChunkKey>, at: CommitLsn, rows: u64) {
        match self.0.last_mut() {
            Some(last) if last.at == at => {
                last.below = below;
                last.rows += rows;
            }
            Some(_) | None => self.0.push(Chunk { below, at, rows }),
        }
    }

    /// Rows that were read.
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|chunk| chunk.rows).sum()
    }

    /// The stream must be replayed from here.
    pub fn oldest(&self) -> Option<CommitLsn> {
        self.0.iter().map(|chunk| chunk.at).min()
    }

    /// From here on all keys are at one moment.
    pub fn newest(&self) -> Option<CommitLsn> {
        self.0.iter().map(|chunk| chunk.at).max()
    }

    /// Whether keys are at different moments.
    pub fn is_mixed(&self) -> bool {
        self.0.len() > 1
    }

    /// Whether we can tell which chunk a key is in.
    pub fn is_exact(&self) -> bool {
        !self.0.iter().any(|chunk| matches!(chunk.below, Some(ChunkKey::Source { .. })))
    }

    /// The position of the chunk that this key is in; of the oldest, where that cannot be told.
    pub fn position_of(&self, key: &ChunkKey) -> CommitLsn {
        if !self.is_exact() {
            return self.oldest().unwrap_or_default();
        }
        let at = self.0.partition_point(|chunk| chunk.below.as_ref().is_some_and(|below| below <= key));
        self.0.get(at).map_or(CommitLsn::ZERO, |chunk| chunk.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;

    fn at(raw: u64) -> CommitLsn {
        CommitLsn::end_of_commit(Lsn::new(raw))
    }

    fn key(n: i64) -> ChunkKey {
        ChunkKey::Number(n)
    }

    #[test]
    fn where_only_the_source_compares_the_oldest_counts() {
        let bound = |text: &str| ChunkKey::Source { order: "k:ci".into(), values: vec![text.into()] };
        let mut chunks = Chunks::default();
        chunks.push(Some(bound("m")), at(100), 1);
        assert!(!chunks.is_exact());
        chunks.push(None, at(200), 1);
        assert_eq!(chunks.position_of(&ChunkKey::Text("z".into())), at(100));
        let text = serde_json::to_string(&chunks).unwrap();
        assert_eq!(serde_json::from_str::<Chunks>(&text).unwrap(), chunks);
    }

    #[test]
    fn each_key_has_the_position_of_its_chunk() {
        let mut chunks = Chunks::default();
        assert!(chunks.is_empty() && !chunks.is_whole() && chunks.end().is_none());
        chunks.push(Some(key(10)), at(100), 4);
        chunks.push(Some(key(20)), at(100), 5);
        assert!(!chunks.is_mixed(), "chunks of one snapshot are one");
        chunks.push(Some(key(30)), at(300), 6);
        chunks.push(None, at(200), 1);
        assert!(chunks.is_whole() && chunks.is_mixed());
        assert_eq!((chunks.oldest(), chunks.newest(), chunks.rows()), (Some(at(100)), Some(at(300)), 16));
        for (n, expected) in
            [(i64::MIN, 100), (9, 100), (19, 100), (20, 300), (29, 300), (30, 200), (99, 200)]
        {
            assert_eq!(chunks.position_of(&key(n)), at(expected), "{n}");
        }
        let text = serde_json::to_string(&chunks).unwrap();
        assert_eq!(serde_json::from_str::<Chunks>(&text).unwrap(), chunks);
    }
}
