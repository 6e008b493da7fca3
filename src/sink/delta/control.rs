//! The pipeline's own record: a small Delta table at `{uri}/_strandline/<pipeline>`.
//!
//! It holds the owner, the lineage, stopped tables, the operator's requests, and *cuts*: a position and
//! the version of each table at it, so that a reader can join tables. Its rows (see docs/CONTROL_TABLE.md):
//!
//! | kind | name | position | version | target_id | source_id | table_position | code | body |
//! |---|---|---|---|---|---|---|---|---|
//! | `owner` | owner id | | epoch | | | | | host, pid, time |
//! | `lineage` | system id | | timeline | | | | | database |
//! | `stopped` | `schema.table` | stopped at | | | oid | | code | message |
//! | `request` | request id | | | | | | | schema, table |
//! | `cut` | | cut | number of tables | | | | | witness |
//! | `cut_table` | `schema.table` | cut | table's version | `metaData.id` | oid | own position | | schema, table |
//!
//! Old versions of it are cleaned after a day ([`Retention::OF_CONTROL`]): a pipeline that commits a cut
//! every second would otherwise grow without bound.
//!
//! Two files: one of state, rewritten when it changes, and one of the newest cuts, rewritten with each
//! cut; `txn` actions carry epoch and last cut. Requests come in files of their own, by anybody.
//!
//! The takeover: the epoch rises by a put-if-absent of the next version, with a random owner id. Two
//! claimants of one epoch try the same version; one is refused, reads, and claims the next. A writer whose
//! put is refused finds a higher epoch and knows that it is fenced, or finds a request and plans again.

use super::clean::{self, Retention};
use super::commit::{CHECKPOINT_EVERY, checkpoint};
use super::encode::FileWriter;
use super::log::{self, Action, AppIds, Format, MetaData, Protocol, commit_name};
use super::storage::{Put, TableFiles};
use super::table::{self, DataFile, added, now_ms};
use crate::error::{Disposition, Error, Result, codes};
use crate::position::{CommitLsn, Epoch, Lineage, Lsn, Marks, Witness};
use crate::schema::{TableId, TableName};
use crate::sink::{
    AmendChoice, CommitOutcome, Cut, CutTable, PipelineRecord, RecordChange, RefusedRequest, Request,
    StoppedTable, WriterLease,
};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Format of the rows.
const FORMAT: i64 = 1;
const FORMAT_KEY: &str = "strandline.control.format";
/// Rows of cuts that stay in the newest file; older cuts are in older versions.
const CUT_ROWS_KEPT: usize = 4096;
const CUTS_KEPT: usize = 64;
const TEXT: [&str; 5] = ["kind", "name", "target_id", "code", "body"];
const NUMBERS: [&str; 4] = ["position", "version", "source_id", "table_position"];

#[derive(Clone, Debug, Default)]
struct Row {
    kind: String,
    name: String,
    position: Option<i64>,
    version: Option<i64>,
    target_id: Option<String>,
    source_id: Option<i64>,
    table_position: Option<i64>,
    code: Option<String>,
    body: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct WitnessBody {
    end: String,
    xid: u32,
    commit_time: i64,
}

/// The record as its owner holds it.
pub(super) struct Control {
    files: TableFiles,
    ids: AppIds,
    properties: BTreeMap<String, String>,
    owner: Row,
    version: i64,
    state_files: Vec<DataFile>,
    cut_files: Vec<DataFile>,
    cuts: VecDeque<Cut>,
    clean_at: Instant,
    /// Requests that were answered or refused here: one that arrives at the same moment must not bring them back.
    met: BTreeSet<String>,
    /// What it says.
    pub record: PipelineRecord,
}

fn schema() -> SchemaRef {
    let mut fields: Vec<Field> = TEXT.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect();
    fields.extend(NUMBERS.iter().map(|name| Field::new(*name, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

fn damaged(what: &str) -> Error {
    Error::new(codes::TG020, format!("the pipeline's record is damaged: {what}"))
}

impl Control {
    /// Takes the pipeline over: raises the epoch by put-if-absent.
    ///
    /// # Errors
    /// `TG018` for a newer format, `TG020`, `TG001` to `TG003`.
    pub(super) async fn take_over(files: TableFiles, pipeline: &str) -> Result<(Control, WriterLease)> {
        let ids = AppIds::new(pipeline);
        let owner = uuid::Uuid::new_v4().simple().to_string();
        loop {
            let mut control = if files.has_log().await? {
                read(&files, &ids).await?
            } else {
                files.create_dirs()?;
                empty(&files, &ids)
            };
            let epoch = Epoch(control.owner.version.unwrap_or(0)).next();
            control.owner = Row {
                kind: "owner".into(),
                name: owner.clone(),
                version: Some(epoch.0),
                body: Some(json!({"pid": std::process::id(), "host": host(), "at_ms": now_ms()}).to_string()),
                ..Row::default()
            };
            let mut head = Vec::new();
            if control.version < 0 {
                head.push(Action::Protocol(Protocol {
                    min_reader_version: 1,
                    min_writer_version: 2,
                    reader_features: vec![],
                    writer_features: vec![],
                }));
                head.push(Action::MetaData(metadata(pipeline)));
            }
            let lease = WriterLease { epoch, owner: owner.clone() };
            match control.put(&lease, "TAKE OVER", head, true, false).await? {
                Some(CommitOutcome::Committed { .. }) => return Ok((control, lease)),
                // Somebody was quicker: an owner, or a request. Read again, claim the next epoch.
                Some(CommitOutcome::Fenced { .. }) | None => {}
            }
        }
    }

    /// Commits a cut.
    ///
    /// # Errors
    /// `TG001` to `TG003`, `TG020`.
    pub(super) async fn commit_cut(&mut self, lease: &WriterLease, cut: Cut) -> Result<CommitOutcome> {
        if let Some(fenced) = self.fence(lease) {
            return Ok(fenced);
        }
        self.cuts.push_back(cut.clone());
        let rows_of = |cuts: &VecDeque<Cut>| cuts.iter().map(|c| c.tables.len() + 1).sum::<usize>();
        while self.cuts.len() > CUTS_KEPT || (self.cuts.len() > 1 && rows_of(&self.cuts) > CUT_ROWS_KEPT) {
            self.cuts.pop_front();
        }
        self.record.cut = Some(cut);
        self.put_until_known(lease, "CUT", false, true).await
    }

    /// Changes lineage, stopped tables, requests.
    ///
    /// # Errors
    /// As [`Control::commit_cut`].
    pub(super) async fn change(
        &mut self,
        lease: &WriterLease,
        change: RecordChange,
    ) -> Result<CommitOutcome> {
        if let Some(fenced) = self.fence(lease) {
            return Ok(fenced);
        }
        if let Some(lineage) = change.lineage {
            self.record.lineage = Some(lineage);
        }
        for stopped in change.stop {
            self.record.stopped.insert(stopped.id, stopped);
        }
        for id in change.resume {
            self.record.stopped.remove(&id);
        }
        self.record.requests.retain(|r| !change.answered.contains(&r.id));
        // What another commit brings back before ours is in is met already.
        self.met.extend(change.answered);
        for refused in change.refused {
            self.met.insert(refused.id.clone());
            self.record.requests.retain(|r| r.id != refused.id);
            self.record.refused.retain(|r| r.table != refused.table);
            self.record.refused.push(refused);
        }
        let known = |requests: &[Request], id: &str| requests.iter().any(|r| r.id == id);
        for asked in change.asked {
            if !known(&self.record.requests, &asked.id) {
                self.record.requests.push(asked);
            }
        }
        if change.forget_cuts {
            self.cuts.clear();
            self.record.cut = None;
        }
        self.put_until_known(lease, "RECORD", true, change.forget_cuts).await
    }

    /// Looks for requests that arrived.
    ///
    /// # Errors
    /// `TG001`, `TG013` when another owner is found, `TG020`.
    pub(super) async fn poll(&mut self, lease: &WriterLease) -> Result<Vec<Request>> {
        if self.files.get(&commit_name(self.version + 1)).await?.is_some()
            && let Some(by) = self.absorb(lease).await?
        {
            let what = format!("epoch {by} has taken over, ours is {}", lease.epoch);
            return Err(Error::new(codes::TG013, what));
        }
        Ok(self.record.requests.clone())
    }

    /// An older session of this very process has no say any more.
    fn fence(&self, lease: &WriterLease) -> Option<CommitOutcome> {
        let by = Epoch(self.owner.version.unwrap_or(0));
        (self.owner.name != lease.owner).then_some(CommitOutcome::Fenced { by })
    }

    async fn put_until_known(
        &mut self,
        lease: &WriterLease,
        operation: &str,
        state: bool,
        cuts: bool,
    ) -> Result<CommitOutcome> {
        loop {
            if let Some(outcome) = self.put(lease, operation, Vec::new(), state, cuts).await? {
                return Ok(outcome);
            }
        }
    }

    /// One attempt. `None`: the record was read again, plan again.
    async fn put(
        &mut self,
        lease: &WriterLease,
        operation: &str,
        head: Vec<Action>,
        state: bool,
        cuts: bool,
    ) -> Result<Option<CommitOutcome>> {
        let now = now_ms();
        let info =
            json!({"owner": lease.owner, "cut": self.record.cut.as_ref().map(|c| c.position.to_string())});
        let mut actions = vec![table::commit_info(operation, now, info)];
        actions.extend(head);
        actions.extend(self.ids.actions(lease.epoch, self.record.cut.as_ref().map(|c| c.position), now)?);
        let mut state_files = self.state_files.clone();
        let mut cut_files = self.cut_files.clone();
        if state {
            actions.extend(state_files.drain(..).map(|f| Action::Remove(f.remove(now, true))));
            state_files = self.write(&self.state_rows()?, now).await?;
            actions.extend(state_files.iter().map(|f| Action::Add(f.add.clone())));
        }
        if cuts {
            actions.extend(cut_files.drain(..).map(|f| Action::Remove(f.remove(now, true))));
            cut_files = self.write(&self.cut_rows()?, now).await?;
            actions.extend(cut_files.iter().map(|f| Action::Add(f.add.clone())));
        }
        self.files.sync_names()?;
        let bytes = Bytes::from(log::encode(&actions)?);
        if !self.land(bytes).await? {
            return Ok(self.absorb(lease).await?.map(|by| CommitOutcome::Fenced { by }));
        }
        self.version += 1;
        if self.version % CHECKPOINT_EVERY == 0 {
            // Not beside: a process may end with this commit, again and again.
            checkpoint(self.files.clone(), self.version, "the pipeline's record".into()).await;
        }
        if self.clean_at <= Instant::now() {
            self.clean_at = Instant::now() + clean::CONTROL_EVERY;
            let name = "the pipeline's record";
            if let Some(retention) = Retention::of(&self.properties, Retention::OF_CONTROL, name) {
                drop(clean::beside(self.files.clone(), retention, i64::MAX, name.into()));
            }
        }
        self.state_files = state_files;
        self.cut_files = cut_files;
        Ok(Some(CommitOutcome::Committed { version: self.version }))
    }

    /// Puts the bytes as the next version until it is known whether they are it.
    async fn land(&self, bytes: Bytes) -> Result<bool> {
        let name = commit_name(self.version + 1);
        let mut pause = Duration::from_millis(50);
        loop {
            match self.files.put_if_absent(&name, bytes.clone()).await {
                Ok(Put::Written) => return Ok(true),
                // A store under way with another request for the name may say so, too, and hold nothing in the end.
                Ok(Put::Exists) => {}
                Err(e) if e.code().disposition == Disposition::Retry => {}
                Err(e) => return Err(e),
            }
            match self.files.get(&name).await {
                Ok(Some(there)) => return Ok(there == bytes),
                Ok(None) => {}
                Err(e) if e.code().disposition == Disposition::Retry => {}
                Err(e) => return Err(e),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Reads what others committed. A higher epoch is returned; requests are taken in.
    async fn absorb(&mut self, lease: &WriterLease) -> Result<Option<Epoch>> {
        let there = read(&self.files, &self.ids).await?;
        let epoch = Epoch(there.owner.version.unwrap_or(0));
        if epoch != lease.epoch || there.owner.name != lease.owner {
            self.version = there.version;
            return Ok(Some(epoch));
        }
        let known: Vec<String> = self.record.requests.iter().map(|r| r.id.clone()).collect();
        let is_new = |r: &Request| !known.contains(&r.id) && !self.met.contains(&r.id);
        self.record.requests.extend(there.record.requests.into_iter().filter(is_new));
        self.version = there.version;
        self.state_files = there.state_files;
        self.cut_files = there.cut_files;
        Ok(None)
    }

    fn state_rows(&self) -> Result<Vec<Row>> {
        let mut rows = vec![self.owner.clone()];
        if let Some(lineage) = &self.record.lineage {
            rows.push(Row {
                kind: "lineage".into(),
                name: lineage.system_id.clone(),
                version: Some(i64::from(lineage.timeline)),
                body: Some(json!({"database": lineage.database}).to_string()),
                ..Row::default()
            });
        }
        for stopped in self.record.stopped.values() {
            rows.push(Row {
                kind: "stopped".into(),
                name: stopped.name.to_string(),
                position: Some(stored(stopped.position)?),
                source_id: Some(i64::from(stopped.id.0)),
                code: Some(stopped.code.id.to_owned()),
                body: Some(json!({"name": stopped.name, "message": stopped.message}).to_string()),
                ..Row::default()
            });
        }
        for request in &self.record.requests {
            rows.push(request_row(request));
        }
        for refused in &self.record.refused {
            rows.push(Row {
                kind: "refused".into(),
                name: refused.id.clone(),
                code: Some(refused.code.id.to_owned()),
                body: Some(json!({"name": refused.table, "message": refused.message}).to_string()),
                ..Row::default()
            });
        }
        Ok(rows)
    }

    fn cut_rows(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for cut in &self.cuts {
            let witness = cut.witness.map(|w| WitnessBody {
                end: w.end.to_string(),
                xid: w.xid,
                commit_time: w.commit_time,
            });
            rows.push(Row {
                kind: "cut".into(),
                position: Some(stored(cut.position)?),
                version: i64::try_from(cut.tables.len()).ok(),
                body: Some(cut_body(&witness, &cut.marks).to_string()),
                ..Row::default()
            });
            for table in cut.tables.values() {
                rows.push(Row {
                    kind: "cut_table".into(),
                    name: table.name.to_string(),
                    position: Some(stored(cut.position)?),
                    version: Some(table.version),
                    target_id: Some(table.target_id.clone()),
                    source_id: Some(i64::from(table.id.0)),
                    table_position: Some(stored(table.position)?),
                    body: Some(json!({"name": table.name}).to_string()),
                    code: None,
                });
            }
        }
        Ok(rows)
    }

    async fn write(&self, rows: &[Row], now: i64) -> Result<Vec<DataFile>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let batch = to_batch(rows)?;
        let mut writer = FileWriter::create(&self.files, schema(), &[], &batch)?;
        writer.write(&batch)?;
        let finished = writer.finish().await?;
        Ok(vec![DataFile {
            add: added(&finished, now),
            rows: finished.rows,
            deleted: Some(roaring::RoaringBitmap::new()),
        }])
    }
}

/// The record without taking over.
///
/// # Errors
/// As [`Control::take_over`].
pub(super) async fn peek(files: &TableFiles, pipeline: &str) -> Result<Option<PipelineRecord>> {
    if !files.has_log().await? {
        return Ok(None);
    }
    Ok(Some(read(files, &AppIds::new(pipeline)).await?.record))
}

/// The newest cut that is as wanted. `None`: there is none, or it is no longer kept.
///
/// # Errors
/// `TG001`, `TG018`, `TG020`.
pub(super) async fn find_cut(
    files: &TableFiles,
    pipeline: &str,
    wanted: &(dyn Fn(&Cut) -> bool + Sync),
) -> Result<Option<Cut>> {
    if !files.has_log().await? {
        return Ok(None);
    }
    let ids = AppIds::new(pipeline);
    let mut control = read(files, &ids).await?;
    loop {
        if let Some(cut) = control.cuts.iter().rev().find(|cut| wanted(cut)) {
            return Ok(Some(cut.clone()));
        }
        // A version adds one cut at most: so far back, the next older one is among those that are kept there.
        let older = control.version - i64::try_from(control.cuts.len()).unwrap_or(i64::MAX).max(1);
        if older < 0 || files.get(&commit_name(older)).await?.is_none() {
            return Ok(None);
        }
        match read_at(files, &ids, Some(older)).await {
            Ok(read) => control = read,
            // What that version was built on has been cleaned.
            Err(error) if error.code() == codes::TG020 => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The epoch of the last takeover.
///
/// # Errors
/// `TG001`, `TG018`, `TG020`.
pub(super) async fn newest_epoch(files: &TableFiles, pipeline: &str) -> Result<Option<Epoch>> {
    if !files.has_log().await? {
        return Ok(None);
    }
    Ok(read(files, &AppIds::new(pipeline)).await?.owner.version.map(Epoch))
}

/// Adds a request for whoever owns the pipeline.
///
/// # Errors
/// `TG020` when there is no such pipeline; as [`Control::take_over`].
pub(super) async fn request(files: &TableFiles, pipeline: &str, request: &Request) -> Result<()> {
    loop {
        if !files.has_log().await? {
            let what = format!("there is no pipeline \"{pipeline}\" at \"{}\"", files.url());
            return Err(Error::new(codes::TG020, what).with_try("start it first: strandline run"));
        }
        let there = read(files, &AppIds::new(pipeline)).await?;
        let now = now_ms();
        let mut actions = vec![table::commit_info("REQUEST", now, json!({"request": request.id}))];
        let written = there.write(&[request_row(request)], now).await?;
        files.sync_names()?;
        actions.extend(written.iter().map(|f| Action::Add(f.add.clone())));
        if there.land(log::encode(&actions)?.into()).await? {
            return Ok(());
        }
    }
}

fn request_row(request: &Request) -> Row {
    Row {
        kind: "request".into(),
        name: request.id.clone(),
        body: Some(json!({"name": request.table, "amend": request.amend}).to_string()),
        ..Row::default()
    }
}

fn empty(files: &TableFiles, ids: &AppIds) -> Control {
    Control {
        files: files.clone(),
        ids: ids.clone(),
        properties: BTreeMap::new(),
        owner: Row::default(),
        version: -1,
        state_files: Vec::new(),
        cut_files: Vec::new(),
        cuts: VecDeque::new(),
        clean_at: Instant::now() + clean::CONTROL_EVERY,
        met: BTreeSet::new(),
        record: PipelineRecord::default(),
    }
}

fn metadata(pipeline: &str) -> MetaData {
    let fields: Vec<_> = schema()
        .fields()
        .iter()
        .map(|f| {
            let kind = if f.data_type() == &DataType::Int64 { "long" } else { "string" };
            json!({"name": f.name(), "type": kind, "nullable": true, "metadata": {}})
        })
        .collect();
    MetaData {
        id: uuid::Uuid::new_v4().to_string(),
        name: Some(format!("strandline {pipeline}")),
        description: Some("positions, cuts and requests of a strandline pipeline".into()),
        format: Format { provider: "parquet".into(), options: BTreeMap::new() },
        schema_string: json!({"type": "struct", "fields": fields}).to_string(),
        partition_columns: Vec::new(),
        configuration: BTreeMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_string())]),
        created_time: Some(now_ms()),
    }
}

fn stored(position: CommitLsn) -> Result<i64> {
    position.to_stored().ok_or_else(|| Error::new(codes::RT001, "a position is beyond 2^63"))
}

fn position(stored: Option<i64>) -> Result<CommitLsn> {
    stored.and_then(CommitLsn::from_stored).ok_or_else(|| damaged("a position is missing or negative"))
}

async fn read(files: &TableFiles, ids: &AppIds) -> Result<Control> {
    read_at(files, ids, None).await
}

async fn read_at(files: &TableFiles, ids: &AppIds, version: Option<i64>) -> Result<Control> {
    let loaded = table::load_at(files, ids, version).await?;
    let format = loaded.metadata.configuration.get(FORMAT_KEY).and_then(|f| f.parse::<i64>().ok());
    match format {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            let what = format!("the pipeline's record has format {newer}, this program knows up to {FORMAT}");
            return Err(Error::new(codes::TG018, what).with_try("upgrade strandline"));
        }
        Some(_) | None => return Err(damaged("it is not a record of a pipeline")),
    }
    let mut control = empty(files, ids);
    control.version = loaded.version;
    control.properties = loaded.metadata.configuration;
    let names: Vec<String> = schema().fields().iter().map(|f| f.name().clone()).collect();
    let mut rows = Vec::new();
    for file in loaded.files {
        let mut of_cuts = false;
        for batch in table::read_columns(files, &file.stored(), &names, None).await? {
            let read = from_batch(&batch?)?;
            of_cuts |= read.iter().any(|row| row.kind.starts_with("cut"));
            rows.extend(read);
        }
        if of_cuts { control.cut_files.push(file) } else { control.state_files.push(file) }
    }
    interpret(&mut control, rows)?;
    Ok(control)
}

#[derive(Deserialize)]
struct NameBody {
    name: TableName,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct RequestBody {
    name: TableName,
    #[serde(default)]
    amend: Option<AmendChoice>,
}

fn body<T: for<'a> Deserialize<'a>>(row: &Row) -> Result<T> {
    serde_json::from_str(row.body.as_deref().unwrap_or("")).map_err(|e| damaged(&row.kind).with_source(e))
}

fn interpret(control: &mut Control, rows: Vec<Row>) -> Result<()> {
    let mut cuts: BTreeMap<CommitLsn, Cut> = BTreeMap::new();
    for row in &rows {
        if row.kind == "cut" {
            let cut = Cut {
                position: position(row.position)?,
                witness: read_witness(row)?,
                marks: read_marks(row)?,
                tables: BTreeMap::new(),
            };
            cuts.insert(cut.position, cut);
        }
    }
    for row in rows {
        match row.kind.as_str() {
            "owner" => {
                if row.version > control.owner.version {
                    control.owner = row;
                }
            }
            "lineage" => {
                #[derive(Deserialize)]
                struct Body {
                    database: String,
                }
                let timeline =
                    row.version.and_then(|t| u32::try_from(t).ok()).ok_or_else(|| damaged("lineage"))?;
                let Body { database } = body(&row)?;
                control.record.lineage = Some(Lineage { system_id: row.name, timeline, database });
            }
            "stopped" => {
                let NameBody { name, message } = body(&row)?;
                let id = table_id(&row)?;
                let code = row.code.as_deref().and_then(codes::find).unwrap_or(codes::RT001);
                let position = position(row.position)?;
                control.record.stopped.insert(id, StoppedTable { id, name, code, message, position });
            }
            "request" => {
                let RequestBody { name, amend } = body(&row)?;
                control.record.requests.push(Request { id: row.name, table: name, amend });
            }
            "refused" => {
                let NameBody { name: table, message } = body(&row)?;
                let code = row.code.as_deref().and_then(codes::find).unwrap_or(codes::RT001);
                control.record.refused.push(RefusedRequest { id: row.name, table, code, message });
            }
            "cut" => {}
            "cut_table" => {
                let NameBody { name, .. } = body(&row)?;
                let id = table_id(&row)?;
                let table = CutTable {
                    id,
                    name,
                    target_id: row.target_id.clone().ok_or_else(|| damaged("cut_table"))?,
                    version: row.version.ok_or_else(|| damaged("cut_table"))?,
                    position: position(row.table_position)?,
                };
                let at = position(row.position)?;
                cuts.get_mut(&at).ok_or_else(|| damaged("a table of no cut"))?.tables.insert(id, table);
            }
            other => return Err(damaged(&format!("a row of the unknown kind \"{other}\""))),
        }
    }
    control.record.cut = cuts.last_key_value().map(|(_, cut)| cut.clone());
    control.cuts = cuts.into_values().collect();
    Ok(())
}

fn table_id(row: &Row) -> Result<TableId> {
    row.source_id.and_then(|id| u32::try_from(id).ok()).map(TableId).ok_or_else(|| damaged(&row.kind))
}

/// The marks stand there only where there are any.
fn cut_body(witness: &Option<WitnessBody>, marks: &Marks) -> serde_json::Value {
    if marks.is_empty() { json!({"witness": witness}) } else { json!({"witness": witness, "gtid": marks.0}) }
}

fn read_marks(row: &Row) -> Result<Marks> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        gtid: BTreeMap<String, i64>,
    }
    let Body { gtid } = body(row)?;
    Ok(Marks(gtid))
}

fn read_witness(row: &Row) -> Result<Option<Witness>> {
    #[derive(Deserialize)]
    struct Body {
        witness: Option<WitnessBody>,
    }
    let Body { witness } = body(row)?;
    let Some(witness) = witness else { return Ok(None) };
    let end: Lsn = witness.end.parse().map_err(|_| damaged("a witness"))?;
    Ok(Some(Witness {
        end: CommitLsn::end_of_commit(end),
        xid: witness.xid,
        commit_time: witness.commit_time,
    }))
}

fn to_batch(rows: &[Row]) -> Result<RecordBatch> {
    let text = |f: &dyn Fn(&Row) -> Option<String>| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(f).collect::<StringArray>())
    };
    let number = |f: &dyn Fn(&Row) -> Option<i64>| -> Arc<dyn Array> {
        Arc::new(rows.iter().map(f).collect::<Int64Array>())
    };
    RecordBatch::try_new(
        schema(),
        vec![
            text(&|r| Some(r.kind.clone())),
            text(&|r| Some(r.name.clone())),
            text(&|r| r.target_id.clone()),
            text(&|r| r.code.clone()),
            text(&|r| r.body.clone()),
            number(&|r| r.position),
            number(&|r| r.version),
            number(&|r| r.source_id),
            number(&|r| r.table_position),
        ],
    )
    .map_err(|e| Error::new(codes::RT001, "cannot build the pipeline's record").with_source(e))
}

fn from_batch(batch: &RecordBatch) -> Result<Vec<Row>> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| damaged("a column is missing"));
    let text = |name: &str| column(name)?.as_string_opt::<i32>().ok_or_else(|| damaged("a column's type"));
    let number =
        |name: &str| column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("a column's type"));
    let (kind, name, target, code, body) =
        (text("kind")?, text("name")?, text("target_id")?, text("code")?, text("body")?);
    let (position, version, source, own) =
        (number("position")?, number("version")?, number("source_id")?, number("table_position")?);
    let string = |a: &StringArray, i: usize| a.is_valid(i).then(|| a.value(i).to_owned());
    let long = |a: &Int64Array, i: usize| a.is_valid(i).then(|| a.value(i));
    Ok((0..batch.num_rows())
        .map(|i| Row {
            kind: string(kind, i).unwrap_or_default(),
            name: string(name, i).unwrap_or_default(),
            position: long(position, i),
            version: long(version, i),
            target_id: string(target, i),
            source_id: long(source, i),
            table_position: long(own, i),
            code: string(code, i),
            body: string(body, i),
        })
        .collect())
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_owned()).unwrap_or_default()
}
