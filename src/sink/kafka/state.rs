//! The checkpoint: what stands in `__strandline_checkpoints`, and what follows from it.
//!
//! Two records, because a pipeline of a thousand tables must not write all of them with each transaction:
//!
//!  - key `PIPELINE`: epoch, owner, cut, and the positions of tables that changed since the other one.
//!  - key `PIPELINE/tables`: lineage, every table with its position, stopped tables. Written when that set
//!    changes, and when the first record has gathered too many positions; in the same transaction.
//!
//! The topic is compacted, so that it keeps the last of each. A record carries the number of its format; a
//! newer one is refused. Positions are text, as people see them in status and log.

use crate::error::{Error, Result, codes};
use crate::event::ChunkKey;
use crate::position::{CommitLsn, Epoch, Lineage, Lsn, Marks, Witness};
use crate::schema::change::{Change, Outline, OutlineColumn, changes};
use crate::schema::{Past, TableForm, TableId, TableName, TableSchema};
use crate::sink::{AmendChoice, Cut, CutTable, PipelineRecord, RecordChange, Request, StoppedTable};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The format that this program writes, unless a transaction is there in part …
const FORMAT: u32 = 1;
/// … which a program that knows nothing of it would write twice.
const FORMAT_WITH_PART: u32 = 2;
/// … or a request waits, which one that knows nothing of it would forget.
const FORMAT_WITH_REQUESTS: u32 = 3;
/// The newest that this program reads.
const FORMAT_NEWEST: u32 = FORMAT_WITH_REQUESTS;
/// More changed positions than this go to the other record.
const CHANGED: usize = 32;

/// A table of the pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Table {
    pub schema: String,
    pub table: String,
    /// Where its events go.
    pub topic: String,
    /// End of the last transaction that changed it, or the point of its copy. Absent: its copy has not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The consistent point of its copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_at: Option<String>,
    /// Whether the last cut names it.
    #[serde(default)]
    pub covered: bool,
    /// Columns, to tell what changed while nobody looked.
    pub columns: Vec<StoredColumn>,
    /// Names of the key columns.
    pub key: Vec<String>,
    #[serde(default)]
    pub form: TableForm,
    #[serde(default)]
    pub past: Past,
    /// What its position means to other servers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub marks: BTreeMap<String, i64>,
}

/// A column as it was last seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StoredColumn {
    pub name: String,
    pub attnum: i16,
    pub source_type: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredWitness {
    end: String,
    xid: u32,
    commit_time: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredPart {
    commit_start: String,
    ordinal: u64,
    lsn: String,
}

/// How far the events of a source transaction are in the topics, of which the rest is not. A change is named by the
/// start of its commit record and its ordinal: the source repeats both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Written {
    pub commit_start: Lsn,
    pub ordinal: u64,
    /// The change's own address, to see that it is the same one.
    pub lsn: Lsn,
}

/// What an operator asked for, and how far that is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub id: String,
    schema: String,
    table: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amend: Option<AmendChoice>,
    /// Where the part that was read last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<ChunkKey>,
    /// Values of the first key column whose rows are to be read once more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub again: BTreeSet<ChunkKey>,
    /// All parts were read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_read: bool,
}

impl Asked {
    fn new(request: Request) -> Self {
        let Request { id, table: TableName { schema, table }, amend } = request;
        Asked { id, schema, table, amend, below: None, again: BTreeSet::new(), is_read: false }
    }

    pub(super) fn request(&self) -> Request {
        let table = TableName::new(&self.schema, &self.table);
        Request { id: self.id.clone(), table, amend: self.amend.clone() }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredStop {
    id: TableId,
    schema: String,
    table: String,
    code: String,
    message: String,
    position: String,
}

#[derive(Serialize, Deserialize)]
struct MainRecord {
    format: u32,
    epoch: Epoch,
    owner: String,
    sequence: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witness: Option<StoredWitness>,
    /// Positions that are newer than the tables' record.
    #[serde(default)]
    positions: BTreeMap<TableId, String>,
    /// What the cut means to other servers, and what these positions do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    marks: BTreeMap<String, i64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    table_marks: BTreeMap<TableId, BTreeMap<String, i64>>,
    /// The last change that is in the topics, of a transaction that is there in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<StoredPart>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<Asked>,
}

#[derive(Serialize, Deserialize)]
struct TablesRecord {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lineage: Option<Lineage>,
    tables: BTreeMap<TableId, Table>,
    stopped: Vec<StoredStop>,
}

/// Everything that the two records hold.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub epoch: Epoch,
    pub owner: String,
    /// Counts transactions; the version of tables that is shown and compared.
    pub sequence: i64,
    pub cut: Option<(CommitLsn, Option<Witness>)>,
    /// What the cut means to other servers.
    pub marks: Marks,
    pub lineage: Option<Lineage>,
    pub tables: BTreeMap<TableId, Table>,
    pub stopped: BTreeMap<TableId, StoppedTable>,
    /// A transaction that is there in part.
    pub part: Option<Written>,
    /// What an operator asked for.
    pub requests: Vec<Asked>,
    /// Tables whose position is newer than their record.
    changed: BTreeSet<TableId>,
    /// The tables' record must be written.
    is_tables_stale: bool,
}

/// A position as it is stored.
pub(super) fn stored(position: CommitLsn) -> String {
    position.to_string()
}

fn position(text: &str) -> Result<CommitLsn> {
    text.parse::<Lsn>().map(CommitLsn::end_of_commit).map_err(|e| damaged().with_source(e))
}

fn damaged() -> Error {
    Error::new(codes::KF008, "the pipeline's checkpoint in Kafka cannot be read")
        .with_try("use another pipeline name, or delete the topic __strandline_checkpoints: every table is copied again")
}

impl Table {
    /// A table whose copy is about to begin.
    pub(super) fn new(schema: &TableSchema, topic: &str) -> Self {
        Table {
            schema: schema.name.schema.clone(),
            table: schema.name.table.clone(),
            topic: topic.to_owned(),
            position: None,
            copied_at: None,
            covered: false,
            columns: stored_columns(schema),
            key: key_names(schema),
            form: schema.form,
            past: Past::default(),
            marks: BTreeMap::new(),
        }
    }

    /// What changed in the source since the table was last seen.
    pub(super) fn changes(&self, schema: &TableSchema) -> Vec<Change> {
        let columns = self.columns.iter().map(|c| OutlineColumn {
            attnum: c.attnum,
            name: c.name.clone(),
            source_type: c.source_type.clone(),
            filled: false,
        });
        let columns_to = self.form.columns_to;
        let then = Outline { columns: columns.collect(), key: self.key.clone(), columns_to };
        let mut found = changes(&then, &Outline::of(schema), self.form.may_be_rewritten(schema.form));
        if self.form.parts_differ(&schema.parts) {
            found.push(Change::Partitions);
        }
        found
    }

    /// The table once these changes are followed.
    pub(super) fn evolve(&mut self, schema: &TableSchema, changes: &[Change]) {
        self.past = self.past.after(changes);
        self.columns = stored_columns(schema);
        self.key = key_names(schema);
        self.form = schema.form;
    }

    /// Its own position.
    pub(super) fn position(&self) -> Result<Option<CommitLsn>> {
        self.position.as_deref().map(position).transpose()
    }

    /// The point of its copy.
    pub(super) fn copied_at(&self) -> Result<Option<CommitLsn>> {
        self.copied_at.as_deref().map(position).transpose()
    }
}

fn stored_columns(schema: &TableSchema) -> Vec<StoredColumn> {
    schema
        .columns
        .iter()
        .map(|c| StoredColumn { name: c.name.clone(), attnum: c.attnum, source_type: c.source_type() })
        .collect()
}

fn key_names(schema: &TableSchema) -> Vec<String> {
    schema.key.iter().filter_map(|&i| schema.columns.get(i)).map(|c| c.name.clone()).collect()
}

impl State {
    /// Another table with the same topic.
    pub(super) fn shares_topic(&self, schema: &TableSchema, topic: &str) -> Option<TableName> {
        let name = |table: &Table| TableName::new(table.schema.clone(), table.table.clone());
        let others = self.tables.iter().filter(|(id, table)| **id != schema.id && table.topic == topic);
        others.map(|(_, table)| name(table)).find(|name| *name != schema.name)
    }

    /// Takes in a record of the topic; the last of each key counts.
    ///
    /// # Errors
    /// `TG018` for a newer format, `KF008` when it cannot be read.
    pub(super) fn take(&mut self, is_tables: bool, value: &[u8]) -> Result<()> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u32,
        }
        let unreadable = |e: serde_json::Error| damaged().with_source(e);
        let FormatOnly { format } = serde_json::from_slice(value).map_err(unreadable)?;
        if format > FORMAT_NEWEST {
            let what = format!(
                "the pipeline's checkpoint has format {format}, this program knows up to {FORMAT_NEWEST}"
            );
            return Err(Error::new(codes::TG018, what).with_try("upgrade strandline"));
        }
        if is_tables {
            let record: TablesRecord = serde_json::from_slice(value).map_err(unreadable)?;
            self.lineage = record.lineage;
            self.tables = record.tables;
            self.stopped = record.stopped.into_iter().map(read_stop).collect::<Result<_>>()?;
            return Ok(());
        }
        let record: MainRecord = serde_json::from_slice(value).map_err(unreadable)?;
        self.epoch = record.epoch;
        self.owner = record.owner;
        self.sequence = record.sequence;
        let witness = record.witness.map(|w| -> Result<Witness> {
            Ok(Witness { end: position(&w.end)?, xid: w.xid, commit_time: w.commit_time })
        });
        let witness = witness.transpose()?;
        self.cut = record.cut.as_deref().map(position).transpose()?.map(|at| (at, witness));
        self.marks = Marks(record.marks);
        self.requests = record.requests;
        let mut table_marks = record.table_marks;
        self.part = match record.part {
            Some(part) => Some(Written {
                commit_start: position(&part.commit_start)?.lsn(),
                ordinal: part.ordinal,
                lsn: position(&part.lsn)?.lsn(),
            }),
            None => None,
        };
        self.changed.clear();
        for (id, at) in record.positions {
            position(&at)?;
            if let Some(table) = self.tables.get_mut(&id) {
                table.position = Some(at);
                table.marks = table_marks.remove(&id).unwrap_or_default();
                self.changed.insert(id);
            }
        }
        Ok(())
    }

    /// The records to be written: key's suffix and value.
    pub(super) fn records(&mut self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let broken = |e| Error::new(codes::RT001, "cannot encode the checkpoint").with_source(e);
        let mut records = Vec::with_capacity(2);
        if self.is_tables_stale || self.changed.len() > CHANGED.max(self.tables.len() / 8) {
            let record = TablesRecord {
                format: FORMAT,
                lineage: self.lineage.clone(),
                tables: self.tables.clone(),
                stopped: self.stopped.values().map(write_stop).collect(),
            };
            records.push(("/tables", serde_json::to_vec(&record).map_err(broken)?));
            self.changed.clear();
            self.is_tables_stale = false;
        }
        let changed = self.changed.iter().filter_map(|id| {
            let at = self.tables.get(id)?.position.clone()?;
            Some((*id, at))
        });
        let of_changed = self.changed.iter().filter_map(|id| Some((*id, self.tables.get(id)?.marks.clone())));
        let witness = self.cut.and_then(|(_, witness)| witness);
        let part = self.part.map(|part| StoredPart {
            commit_start: part.commit_start.to_string(),
            ordinal: part.ordinal,
            lsn: part.lsn.to_string(),
        });
        let record = MainRecord {
            format: match part {
                _ if !self.requests.is_empty() => FORMAT_WITH_REQUESTS,
                Some(_) => FORMAT_WITH_PART,
                None => FORMAT,
            },
            epoch: self.epoch,
            owner: self.owner.clone(),
            sequence: self.sequence,
            cut: self.cut.map(|(at, _)| stored(at)),
            witness: witness.map(|w| StoredWitness {
                end: stored(w.end),
                xid: w.xid,
                commit_time: w.commit_time,
            }),
            positions: changed.collect(),
            marks: self.marks.0.clone(),
            table_marks: of_changed.filter(|(_, marks)| !marks.is_empty()).collect(),
            part,
            requests: self.requests.clone(),
        };
        // Last: who reads it has read the tables that it names.
        records.push(("", serde_json::to_vec(&record).map_err(broken)?));
        Ok(records)
    }

    /// As the runtime sees it. A cut's table stands at its own position or at the cut's, whichever is earlier:
    /// between the two it had no changes.
    pub(super) fn pipeline_record(&self) -> Result<PipelineRecord> {
        let mut record = PipelineRecord {
            lineage: self.lineage.clone(),
            cut: None,
            stopped: self.stopped.clone(),
            requests: self.requests.iter().map(Asked::request).collect(),
            refused: Vec::new(),
        };
        if let Some((at, witness)) = self.cut {
            let mut tables = BTreeMap::new();
            for (&id, table) in self.tables.iter().filter(|(_, table)| table.covered) {
                let Some(own) = table.position()? else { continue };
                let name = TableName::new(&table.schema, &table.table);
                let (target_id, position) = (table.topic.clone(), own.min(at));
                tables.insert(id, CutTable { id, name, target_id, version: self.sequence, position });
            }
            record.cut = Some(Cut { position: at, marks: self.marks.clone(), witness, tables });
        }
        Ok(record)
    }

    /// A unit is applied: these tables hold everything up to `to`.
    pub(super) fn advance(&mut self, tables: impl IntoIterator<Item = (TableId, Marks)>, to: CommitLsn) {
        // One unit follows the other, and a unit holds whole transactions.
        self.part = self.part.filter(|part| part.commit_start >= to.lsn());
        for (id, marks) in tables {
            if let Some(table) = self.tables.get_mut(&id) {
                table.position = Some(stored(to));
                table.marks = marks.0;
                self.changed.insert(id);
            }
        }
    }

    /// A table became these, one after the other. Together with the unit that holds its rows from before: a restart
    /// that reads those again must see that it changed.
    pub(super) fn follow(&mut self, id: TableId, schemas: &[Arc<TableSchema>]) {
        let Some(mut table) = self.tables.get(&id).cloned().filter(|_| !schemas.is_empty()) else { return };
        for schema in schemas {
            let changes = table.changes(schema);
            table.evolve(schema, &changes);
        }
        self.set_table(id, table);
    }

    /// A part of a request is read: up to the end of a range, which is the last one if that is `None`; or rows with
    /// these values once more. `again`: values whose rows are to be.
    pub(super) fn read_part(
        &mut self,
        request: &str,
        range: Option<Option<&ChunkKey>>,
        keys: &[ChunkKey],
        again: &BTreeSet<ChunkKey>,
    ) {
        let Some(at) = self.requests.iter().position(|asked| asked.id == request) else { return };
        let Some(asked) = self.requests.get_mut(at) else { return };
        match range {
            Some(Some(below)) => asked.below = Some(below.clone()),
            Some(None) => asked.is_read = true,
            None => {}
        }
        asked.again.retain(|key| !keys.contains(key));
        asked.again.extend(again.iter().cloned());
        if asked.is_read && asked.again.is_empty() {
            self.requests.remove(at);
        }
    }

    /// A cut is taken.
    pub(super) fn cut(&mut self, cut: &Cut) {
        self.cut = Some((cut.position, cut.witness));
        self.marks = cut.marks.clone();
        for (id, table) in &mut self.tables {
            let covered = cut.tables.contains_key(id);
            self.is_tables_stale |= covered != table.covered;
            table.covered = covered;
        }
    }

    /// A table is there, or is another.
    pub(super) fn set_table(&mut self, id: TableId, table: Table) {
        // A table that was dropped and made again has another id and the same name.
        self.tables.retain(|other, t| *other == id || (&t.schema, &t.table) != (&table.schema, &table.table));
        self.changed.remove(&id);
        self.tables.insert(id, table);
        self.is_tables_stale = true;
    }

    /// What the runtime wants recorded.
    pub(super) fn apply(&mut self, change: RecordChange) {
        let RecordChange { lineage, stop, resume, forget_cuts, .. } = &change;
        self.is_tables_stale |= lineage.is_some() || !stop.is_empty() || !resume.is_empty() || *forget_cuts;
        if change.lineage.is_some() {
            self.lineage = change.lineage;
        }
        for stopped in change.stop {
            if let Some(table) = self.tables.get_mut(&stopped.id) {
                table.covered = false;
            }
            self.stopped.insert(stopped.id, stopped);
        }
        for id in change.resume {
            self.stopped.remove(&id);
        }
        let refused = |id: &String| change.refused.iter().any(|refused| refused.id == *id);
        self.requests.retain(|asked| !change.answered.contains(&asked.id) && !refused(&asked.id));
        for request in change.asked {
            if self.requests.iter().all(|asked| asked.id != request.id) {
                self.requests.push(Asked::new(request));
            }
        }
        if change.forget_cuts {
            (self.cut, self.part) = (None, None);
            self.marks = Marks::default();
            // What is left is opened to be copied.
            self.tables.retain(|_, table| table.position.is_none());
            self.changed.clear();
        }
    }
}

fn read_stop(stop: StoredStop) -> Result<(TableId, StoppedTable)> {
    let code = codes::find(&stop.code).unwrap_or(codes::RT001);
    let name = TableName::new(stop.schema, stop.table);
    let position = position(&stop.position)?;
    Ok((stop.id, StoppedTable { id: stop.id, name, code, message: stop.message, position }))
}

fn write_stop(stop: &StoppedTable) -> StoredStop {
    StoredStop {
        id: stop.id,
        schema: stop.name.schema.clone(),
        table: stop.name.table.clone(),
        code: stop.code.id.to_owned(),
        message: stop.message.clone(),
        position: stored(stop.position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Part;

    fn at(raw: u64) -> CommitLsn {
        CommitLsn::end_of_commit(Lsn::new(raw))
    }

    fn table(name: &str) -> Table {
        let schema = TableSchema::new(TableId(0), TableName::new("public", name), vec![], vec![], false);
        Table { position: Some(stored(at(100))), ..Table::new(&schema, &format!("app.public.{name}")) }
    }

    /// Written and read again, in the order of the topic.
    fn again(state: &mut State) -> State {
        let mut read = State::default();
        for (suffix, value) in state.records().unwrap() {
            read.take(suffix == "/tables", &value).unwrap();
        }
        read
    }

    #[test]
    fn what_is_written_is_read() {
        let mut state = State { epoch: Epoch(3), owner: "me".into(), sequence: 9, ..State::default() };
        state.set_table(TableId(1), table("a"));
        state.set_table(TableId(2), table("b"));
        state.cut = Some((at(90), Some(Witness { end: at(80), xid: 7, commit_time: -5 })));
        let mut first = again(&mut state);
        assert_eq!((first.epoch, first.sequence, first.cut), (Epoch(3), 9, state.cut));
        assert_eq!(first.tables, state.tables);
        // Only what changed is written from here on.
        let marks = |number| Marks(BTreeMap::from([("uuid/1".to_owned(), number)]));
        state.advance([(TableId(2), marks(7))], at(200));
        state.marks = marks(6);
        let records = state.records().unwrap();
        assert_eq!(records.len(), 1);
        first.take(false, &records[0].1).unwrap();
        assert_eq!(first.marks, marks(6));
        assert_eq!(Marks(first.tables[&TableId(2)].marks.clone()), marks(7));
        assert_eq!(first.tables, state.tables);
        assert_eq!(first.tables[&TableId(2)].position().unwrap(), Some(at(200)));
    }

    #[test]
    fn many_positions_go_to_the_tables() {
        let mut state = State::default();
        let ids: Vec<TableId> = (0..40).map(TableId).collect();
        for id in &ids {
            state.set_table(*id, table(&format!("t{id}")));
        }
        assert_eq!(state.records().unwrap().len(), 2);
        let unmarked = |ids: &[TableId]| ids.iter().map(|&id| (id, Marks::default())).collect::<Vec<_>>();
        state.advance(unmarked(&ids[..32]), at(300));
        assert_eq!(state.records().unwrap().len(), 1);
        state.advance(unmarked(&ids), at(400));
        let mut read = again(&mut state);
        assert_eq!(read.tables, state.tables);
        assert_eq!(read.records().unwrap().len(), 1);
    }

    #[test]
    fn a_transaction_in_part_is_remembered_until_it_is_whole() {
        let part = Some(Written { commit_start: Lsn::new(150), ordinal: 7, lsn: Lsn::new(140) });
        let mut state = State { part, ..State::default() };
        assert_eq!(again(&mut state).part, part);
        // The transaction before it, alone.
        state.advance([], at(120));
        assert_eq!(state.part, part);
        state.advance([], at(160));
        assert_eq!(again(&mut state).part, None);
        let formats = |state: &mut State| -> serde_json::Value {
            serde_json::from_slice::<serde_json::Value>(&state.records().unwrap()[0].1).unwrap()["format"]
                .clone()
        };
        assert_eq!(formats(&mut state), 1);
        assert_eq!(formats(&mut State { part, ..State::default() }), 2);
    }

    #[test]
    fn what_a_table_became_is_on_record_with_its_position() {
        let name = TableName::new("public", "a");
        let mut now = TableSchema::new(TableId(1), name, vec![], vec![], false);
        now.form.published = 7;
        let mut state = State::default();
        state.set_table(TableId(1), table("a"));
        state.records().unwrap();
        state.follow(TableId(1), &[]);
        assert_eq!(state.records().unwrap().len(), 1);
        state.follow(TableId(1), &[Arc::new(now)]);
        state.advance([(TableId(1), Marks::default())], at(200));
        let read = again(&mut state);
        assert!(
            read.tables[&TableId(1)].form.was_left_out(TableForm { published: 8, ..TableForm::default() })
        );
        assert_eq!(read.tables[&TableId(1)].position().unwrap(), Some(at(200)));
    }

    #[test]
    fn other_partitions_are_a_change() {
        let name = TableName::new("public", "a");
        let mut now = TableSchema::new(TableId(1), name, vec![], vec![], false);
        let part = |id| Part { id, since: 1, file: id, born: false };
        (now.form.parts, now.form.parts_to) = (Part::digest(&[part(5)], 5), 5);
        now.parts = Arc::new([part(5)]);
        let known = Table::new(&now, "a");
        assert_eq!(known.changes(&now), []);
        now.parts = Arc::new([part(5), part(6)]);
        assert_eq!(known.changes(&now), [Change::Partitions]);
    }

    #[test]
    fn a_request_waits_until_everything_is_read() {
        let request = Request {
            id: "s1/public.a".into(),
            table: TableName::new("public", "a"),
            amend: Some(AmendChoice { condition: Some("id > 3".into()) }),
        };
        let asked = || RecordChange { asked: vec![request.clone()], ..RecordChange::default() };
        let mut state = State::default();
        state.apply(asked());
        state.apply(asked());
        let key = ChunkKey::Number;
        let values = |keys: &[i64]| keys.iter().map(|number| key(*number)).collect::<BTreeSet<_>>();
        state.read_part(&request.id, Some(Some(&key(7))), &[], &values(&[3, 5]));
        let mut read = again(&mut state);
        assert_eq!(read.pipeline_record().unwrap().requests, std::slice::from_ref(&request));
        assert_eq!((&read.requests[0].below, &read.requests[0].again), (&Some(key(7)), &values(&[3, 5])));
        read.read_part(&request.id, None, &[key(3)], &BTreeSet::new());
        read.read_part(&request.id, Some(None), &[], &BTreeSet::new());
        assert!(again(&mut read).requests[0].is_read);
        read.read_part(&request.id, None, &[key(5)], &BTreeSet::new());
        assert_eq!(again(&mut read).requests, []);
        state.apply(RecordChange { answered: vec![request.id.clone()], ..RecordChange::default() });
        assert_eq!(state.requests, []);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let error = State::default().take(false, br#"{"format": 4, "more": true}"#).unwrap_err();
        assert_eq!(error.code(), codes::TG018);
        assert_eq!(State::default().take(true, b"{").unwrap_err().code(), codes::KF008);
    }

    #[test]
    fn a_cut_names_its_tables_as_of_its_position() {
        let mut state = State { sequence: 5, ..State::default() };
        state.set_table(TableId(1), table("a"));
        state.set_table(TableId(2), table("b"));
        state.advance([(TableId(1), Marks::default())], at(300));
        let named = |id: u32| {
            let name = TableName::new("public", "x");
            let id = TableId(id);
            (id, CutTable { id, name, target_id: "t".into(), version: 1, position: at(100) })
        };
        state.cut(&Cut {
            position: at(200),
            marks: Marks::default(),
            witness: None,
            tables: BTreeMap::from([named(1)]),
        });
        let record = again(&mut state).pipeline_record().unwrap();
        let cut = record.cut.unwrap();
        assert_eq!(cut.tables.keys().copied().collect::<Vec<_>>(), [TableId(1)]);
        assert_eq!(cut.tables[&TableId(1)].position, at(200));
    }
}
