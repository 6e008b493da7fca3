//! The messages of pgoutput, protocol 1 to 4, borrowed from the bytes that carry them.
//!
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>, and
//! `src/backend/replication/logical/proto.c` where the page is vague (protocol 4's Stream Abort carries
//! its two extra fields only with `streaming 'parallel'`).

use super::tuple::TupleData;
use super::wire::{DecodeError, Problem, Reader};
use crate::position::{CommitLsn, Lsn};
use crate::schema::TableId;

/// One message.
#[derive(Clone, PartialEq, Debug)]
#[expect(missing_docs, reason = "each variant is named like its struct, which says what it is")]
pub enum Message<'a> {
    Begin(Begin),
    Commit(Commit),
    Origin(Origin<'a>),
    Relation(Relation<'a>),
    Type(Type<'a>),
    Insert(Insert<'a>),
    Update(Update<'a>),
    Delete(Delete<'a>),
    Truncate(Truncate),
    Logical(Logical<'a>),
    StreamStart(StreamStart),
    StreamStop,
    StreamCommit(StreamCommit),
    StreamAbort(StreamAbort),
    BeginPrepare(BeginPrepare<'a>),
    Prepare(Prepare<'a>),
    CommitPrepared(CommitPrepared<'a>),
    RollbackPrepared(RollbackPrepared<'a>),
    StreamPrepare(Prepare<'a>),
}

/// `B`: a transaction begins. It is sent when it has committed: the position is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// *Start* of the commit record.
    pub final_lsn: Lsn,
    /// Commit time, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// Transaction id.
    pub xid: u32,
}

/// `C`: the transaction's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// *Start* of the commit record: equal to Begin's `final_lsn`.
    pub commit_lsn: Lsn,
    /// *End* of the commit record: the position.
    pub end: CommitLsn,
    /// Commit time, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
}

/// `O`: the transaction came from another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin<'a> {
    /// Its commit position there.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: &'a str,
}

/// What a table logs of old rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplicaIdentity {
    /// `d`: the primary key.
    Default,
    /// `n`: nothing.
    Nothing,
    /// `f`: the whole row.
    Full,
    /// `i`: the columns of a chosen unique index.
    Index,
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity.
    pub key: bool,
    /// Name.
    pub name: &'a str,
    /// Type.
    pub type_oid: u32,
    /// Type modifier, -1 when there is none.
    pub type_modifier: i32,
}

/// `R`: a table's columns, before its first row and after each change of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relation<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// The table.
    pub id: TableId,
    /// Its schema. Empty for `pg_catalog`.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What it logs of old rows.
    pub identity: ReplicaIdentity,
    /// Its published columns, in the order of the tuples' values.
    pub columns: Vec<RelationColumn<'a>>,
}

/// `Y`: the name of a type that is not built in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Type<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// The type.
    pub oid: u32,
    /// Its schema. Empty for `pg_catalog`.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// `I`: a new row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insert<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// The table.
    pub relation: TableId,
    /// The row.
    pub new: TupleData<'a>,
}

/// What the log holds of an old row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldRow<'a> {
    /// `K`: the replica identity's columns; every other column stands there as null.
    Key(TupleData<'a>),
    /// `O`: the whole row.
    Full(TupleData<'a>),
}

impl OldRow<'_> {
    /// As [`TupleData::arranged`].
    pub fn arranged<'b>(&self, map: &[Option<usize>], scratch: &'b mut Vec<u8>) -> OldRow<'b> {
        match self {
            OldRow::Key(tuple) => OldRow::Key(tuple.arranged(map, scratch)),
            OldRow::Full(tuple) => OldRow::Full(tuple.arranged(map, scratch)),
        }
    }
}

/// `U`: a changed row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Update<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// The table.
    pub relation: TableId,
    /// The old row: when the key changed, or when the table logs whole old rows.
    pub old: Option<OldRow<'a>>,
    /// The new row.
    pub new: TupleData<'a>,
}

/// `D`: a row is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delete<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// The table.
    pub relation: TableId,
    /// The old row.
    pub old: OldRow<'a>,
}

/// `T`: tables are emptied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Truncate {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// `CASCADE` was given.
    pub cascade: bool,
    /// `RESTART IDENTITY` was given.
    pub restart_identity: bool,
    /// The tables, with those that the cascade reached.
    pub relations: Vec<TableId>,
}

/// `M`: `pg_logical_emit_message`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Logical<'a> {
    /// The (sub)transaction, in a streamed block.
    pub xid: Option<u32>,
    /// It belongs to the transaction around it. Else it stands alone and may come at any point.
    pub transactional: bool,
    /// Where it stands in the log.
    pub lsn: Lsn,
    /// Its prefix.
    pub prefix: &'a str,
    /// Its content.
    pub content: &'a [u8],
}

/// `S`: a block of a transaction that has not committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamStart {
    /// The top-level transaction.
    pub xid: u32,
    /// Its first block.
    pub first_segment: bool,
}

/// `c`: a streamed transaction has committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamCommit {
    /// The top-level transaction.
    pub xid: u32,
    /// *Start* of the commit record.
    pub commit_lsn: Lsn,
    /// *End* of the commit record: the position.
    pub end: CommitLsn,
    /// Commit time, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
}

/// `A`: a streamed transaction, or one subtransaction of it, has aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamAbort {
    /// The top-level transaction.
    pub xid: u32,
    /// What aborted: equal to `xid` when it is the whole.
    pub subxid: u32,
    /// Position and time of the abort; only with `streaming 'parallel'`.
    pub at: Option<(Lsn, i64)>,
}

/// `b`: a prepared transaction begins (slots with `two_phase` only).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BeginPrepare<'a> {
    /// Start of the prepare record.
    pub prepare_lsn: Lsn,
    /// End of the prepare record.
    pub end_lsn: Lsn,
    /// Prepare time, microseconds since 2000-01-01 UTC.
    pub prepare_time: i64,
    /// Transaction id.
    pub xid: u32,
    /// The name that the client gave.
    pub gid: &'a str,
}

/// `P`, and `p` in a stream: a transaction was prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prepare<'a> {
    /// Start of the prepare record.
    pub prepare_lsn: Lsn,
    /// End of the prepare record.
    pub end_lsn: Lsn,
    /// Prepare time, microseconds since 2000-01-01 UTC.
    pub prepare_time: i64,
    /// Transaction id.
    pub xid: u32,
    /// The name that the client gave.
    pub gid: &'a str,
}

/// `K`: a prepared transaction has committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitPrepared<'a> {
    /// *Start* of the commit record.
    pub commit_lsn: Lsn,
    /// *End* of the commit record: the position.
    pub end: CommitLsn,
    /// Commit time, microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// Transaction id.
    pub xid: u32,
    /// The name that the client gave.
    pub gid: &'a str,
}

/// `r`: a prepared transaction was rolled back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RollbackPrepared<'a> {
    /// End of the prepare record.
    pub prepare_end_lsn: Lsn,
    /// End of the rollback record.
    pub rollback_end_lsn: Lsn,
    /// Prepare time, microseconds since 2000-01-01 UTC.
    pub prepare_time: i64,
    /// Rollback time, microseconds since 2000-01-01 UTC.
    pub rollback_time: i64,
    /// Transaction id.
    pub xid: u32,
    /// The name that the client gave.
    pub gid: &'a str,
}

/// Reads one message. `in_stream`: between Stream Start and Stream Stop, where changes carry the id of
/// their (sub)transaction; the bytes do not say so themselves.
pub fn decode(bytes: &[u8], in_stream: bool) -> Result<Message<'_>, DecodeError> {
    let mut r = Reader::new("pgoutput", bytes);
    let message = match r.u8("kind")? {
        b'I' => Message::Insert(insert(&mut r, in_stream)?),
        b'U' => Message::Update(update(&mut r, in_stream)?),
        b'D' => Message::Delete(delete(&mut r, in_stream)?),
        b'B' => Message::Begin(begin(&mut r)?),
        b'C' => Message::Commit(commit(&mut r)?),
        b'R' => Message::Relation(relation(&mut r, in_stream)?),
        b'Y' => Message::Type(type_name(&mut r, in_stream)?),
        b'O' => Message::Origin(origin(&mut r)?),
        b'T' => Message::Truncate(truncate(&mut r, in_stream)?),
        b'M' => Message::Logical(logical(&mut r, in_stream)?),
        b'S' => Message::StreamStart(stream_start(&mut r)?),
        b'E' => {
            r.name("StreamStop");
            Message::StreamStop
        }
        b'c' => Message::StreamCommit(stream_commit(&mut r)?),
        b'A' => Message::StreamAbort(stream_abort(&mut r)?),
        b'b' => Message::BeginPrepare(begin_prepare(&mut r)?),
        b'P' => Message::Prepare(prepare(&mut r, "Prepare")?),
        b'p' => Message::StreamPrepare(prepare(&mut r, "StreamPrepare")?),
        b'K' => Message::CommitPrepared(commit_prepared(&mut r)?),
        b'r' => Message::RollbackPrepared(rollback_prepared(&mut r)?),
        found => {
            return Err(r.error("kind", 0, Problem::Tag { found, expected: "a message of protocol 1 to 4" }));
        }
    };
    r.end()?;
    Ok(message)
}

fn lsn(r: &mut Reader<'_>, field: &'static str) -> Result<Lsn, DecodeError> {
    r.u64(field).map(Lsn::new)
}

fn end_of_commit(r: &mut Reader<'_>) -> Result<CommitLsn, DecodeError> {
    lsn(r, "end of commit").map(CommitLsn::end_of_commit)
}

fn stream_xid(r: &mut Reader<'_>, in_stream: bool) -> Result<Option<u32>, DecodeError> {
    if in_stream { r.u32("xid").map(Some) } else { Ok(None) }
}

fn begin(r: &mut Reader<'_>) -> Result<Begin, DecodeError> {
    r.name("Begin");
    Ok(Begin { final_lsn: lsn(r, "final LSN")?, commit_time: r.i64("commit time")?, xid: r.u32("xid")? })
}

fn commit(r: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    r.name("Commit");
    r.flags("flags", 0)?;
    Ok(Commit {
        commit_lsn: lsn(r, "commit LSN")?,
        end: end_of_commit(r)?,
        commit_time: r.i64("commit time")?,
    })
}

fn origin<'a>(r: &mut Reader<'a>) -> Result<Origin<'a>, DecodeError> {
    r.name("Origin");
    Ok(Origin { commit_lsn: lsn(r, "commit LSN")?, name: r.text("name")? })
}

fn relation<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Relation<'a>, DecodeError> {
    r.name("Relation");
    let xid = stream_xid(r, in_stream)?;
    let id = TableId(r.u32("relation")?);
    let (namespace, name) = (r.text("namespace")?, r.text("name")?);
    let identity = r.tag("replica identity", "one of d, n, f and i", |tag| match tag {
        b'd' => Some(ReplicaIdentity::Default),
        b'n' => Some(ReplicaIdentity::Nothing),
        b'f' => Some(ReplicaIdentity::Full),
        b'i' => Some(ReplicaIdentity::Index),
        _ => None,
    })?;
    let offset = r.at();
    let found = r.i16("column count")?;
    let count = usize::try_from(found)
        .map_err(|_| r.error("column count", offset, Problem::Count { found: found.into() }))?;
    // A column takes ten bytes at least: what is not there is not allocated.
    let mut columns = Vec::with_capacity(count.min(r.left() / 10));
    for _ in 0..count {
        let key = r.flags("column flags", 1)? == 1;
        let (name, type_oid) = (r.text("column name")?, r.u32("column type")?);
        columns.push(RelationColumn { key, name, type_oid, type_modifier: r.i32("type modifier")? });
    }
    Ok(Relation { xid, id, namespace, name, identity, columns })
}

fn type_name<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Type<'a>, DecodeError> {
    r.name("Type");
    let xid = stream_xid(r, in_stream)?;
    Ok(Type { xid, oid: r.u32("type")?, namespace: r.text("namespace")?, name: r.text("name")? })
}

fn insert<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Insert<'a>, DecodeError> {
    r.name("Insert");
    let xid = stream_xid(r, in_stream)?;
    let relation = TableId(r.u32("relation")?);
    r.tag("row", "the new row's tag N", |tag| (tag == b'N').then_some(()))?;
    Ok(Insert { xid, relation, new: TupleData::read(r)? })
}

enum RowTag {
    Key,
    Full,
    New,
}

fn row_tag(tag: u8) -> Option<RowTag> {
    match tag {
        b'K' => Some(RowTag::Key),
        b'O' => Some(RowTag::Full),
        b'N' => Some(RowTag::New),
        _ => None,
    }
}

fn update<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Update<'a>, DecodeError> {
    r.name("Update");
    let xid = stream_xid(r, in_stream)?;
    let relation = TableId(r.u32("relation")?);
    let old = match r.tag("row", "one of the row tags K, O and N", row_tag)? {
        RowTag::New => None,
        RowTag::Key => Some(OldRow::Key(TupleData::read(r)?)),
        RowTag::Full => Some(OldRow::Full(TupleData::read(r)?)),
    };
    if old.is_some() {
        r.tag("row", "the new row's tag N", |tag| (tag == b'N').then_some(()))?;
    }
    Ok(Update { xid, relation, old, new: TupleData::read(r)? })
}

fn delete<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Delete<'a>, DecodeError> {
    r.name("Delete");
    let xid = stream_xid(r, in_stream)?;
    let relation = TableId(r.u32("relation")?);
    let full = r.tag("row", "one of the row tags K and O", |tag| match tag {
        b'K' => Some(false),
        b'O' => Some(true),
        _ => None,
    })?;
    let tuple = TupleData::read(r)?;
    Ok(Delete { xid, relation, old: if full { OldRow::Full(tuple) } else { OldRow::Key(tuple) } })
}

fn truncate(r: &mut Reader<'_>, in_stream: bool) -> Result<Truncate, DecodeError> {
    r.name("Truncate");
    let xid = stream_xid(r, in_stream)?;
    let offset = r.at();
    let found = r.i32("relation count")?;
    let count = usize::try_from(found)
        .map_err(|_| r.error("relation count", offset, Problem::Count { found: found.into() }))?;
    let flags = r.flags("options", 3)?;
    let mut relations = Vec::with_capacity(count.min(r.left() / 4));
    for _ in 0..count {
        relations.push(TableId(r.u32("relation")?));
    }
    Ok(Truncate { xid, cascade: flags & 1 != 0, restart_identity: flags & 2 != 0, relations })
}

fn logical<'a>(r: &mut Reader<'a>, in_stream: bool) -> Result<Logical<'a>, DecodeError> {
    r.name("Message");
    let xid = stream_xid(r, in_stream)?;
    let transactional = r.flags("flags", 1)? == 1;
    let (lsn, prefix) = (lsn(r, "LSN")?, r.text("prefix")?);
    Ok(Logical { xid, transactional, lsn, prefix, content: r.counted("content")? })
}

fn stream_start(r: &mut Reader<'_>) -> Result<StreamStart, DecodeError> {
    r.name("StreamStart");
    let xid = r.u32("xid")?;
    Ok(StreamStart { xid, first_segment: r.flags("first segment", 1)? == 1 })
}

fn stream_commit(r: &mut Reader<'_>) -> Result<StreamCommit, DecodeError> {
    r.name("StreamCommit");
    let xid = r.u32("xid")?;
    r.flags("flags", 0)?;
    Ok(StreamCommit {
        xid,
        commit_lsn: lsn(r, "commit LSN")?,
        end: end_of_commit(r)?,
        commit_time: r.i64("commit time")?,
    })
}

fn stream_abort(r: &mut Reader<'_>) -> Result<StreamAbort, DecodeError> {
    r.name("StreamAbort");
    let (xid, subxid) = (r.u32("xid")?, r.u32("subtransaction")?);
    let at = if r.left() == 0 { None } else { Some((lsn(r, "abort LSN")?, r.i64("abort time")?)) };
    Ok(StreamAbort { xid, subxid, at })
}

fn begin_prepare<'a>(r: &mut Reader<'a>) -> Result<BeginPrepare<'a>, DecodeError> {
    r.name("BeginPrepare");
    Ok(BeginPrepare {
        prepare_lsn: lsn(r, "prepare LSN")?,
        end_lsn: lsn(r, "end LSN")?,
        prepare_time: r.i64("prepare time")?,
        xid: r.u32("xid")?,
        gid: r.text("gid")?,
    })
}

fn prepare<'a>(r: &mut Reader<'a>, name: &'static str) -> Result<Prepare<'a>, DecodeError> {
    r.name(name);
    r.flags("flags", 0)?;
    Ok(Prepare {
        prepare_lsn: lsn(r, "prepare LSN")?,
        end_lsn: lsn(r, "end LSN")?,
        prepare_time: r.i64("prepare time")?,
        xid: r.u32("xid")?,
        gid: r.text("gid")?,
    })
}

fn commit_prepared<'a>(r: &mut Reader<'a>) -> Result<CommitPrepared<'a>, DecodeError> {
    r.name("CommitPrepared");
    r.flags("flags", 0)?;
    Ok(CommitPrepared {
        commit_lsn: lsn(r, "commit LSN")?,
        end: end_of_commit(r)?,
        commit_time: r.i64("commit time")?,
        xid: r.u32("xid")?,
        gid: r.text("gid")?,
    })
}

fn rollback_prepared<'a>(r: &mut Reader<'a>) -> Result<RollbackPrepared<'a>, DecodeError> {
    r.name("RollbackPrepared");
    r.flags("flags", 0)?;
    Ok(RollbackPrepared {
        prepare_end_lsn: lsn(r, "prepare end LSN")?,
        rollback_end_lsn: lsn(r, "rollback end LSN")?,
        prepare_time: r.i64("prepare time")?,
        rollback_time: r.i64("rollback time")?,
        xid: r.u32("xid")?,
        gid: r.text("gid")?,
    })
}
