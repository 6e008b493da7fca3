//! Compaction: small files and much-deleted files become few whole ones; no row changes.
//!
//! *Which*: see [`super::policy`].
//!
//! *How*: a job reads its files as they were when it was planned and writes the live rows in order. It runs
//! beside the table's commits, one job at a time in a process, some rows at a time, at a bounded rate.
//! The table's committer then *lands* it between two units: every delete since the job's read is mapped onto
//! the new files and committed with them, `dataChange=false`. From there on the index is led on
//! ([`super::moves`]).
//!
//! Who dies where, and what is on storage then:
//!
//! | moment | on storage | afterwards |
//! |---|---|---|
//! | job runs, or waits to land | files that no version names | vacuum's business; the table is as it was |
//! | vectors of the landing written, log not | the same | the same |
//! | put landed, we die | the new files in the version, position and rows as before | the next start builds its index on them |
//! | reply of the put lost | the version, or nothing yet | [`Core::put`] reads: the same bytes are recognised |
//! | a unit commits while the job runs | old files with more rows gone, or without one of them | mapped at landing; a file that left has all its rows gone |
//! | the table is opened again or copied anew while the job runs | other numbers | the generation differs: the job is void, its files are vacuum's business |
//! | somebody else commits before the landing | their version where ours was to go | examined, opened again: void as above |
//! | a newer writer takes over | its epoch commit where ours was to go | `Fenced` |

use super::commit::{COMPACTION, Core, PutEnd, loosened};
use super::dv::VectorFile;
use super::encode::{FileWriter, FinishedFile, keep};
use super::log::{self, Action, Add, MetaData};
use super::moves::{Moved, locate};
use super::names;
use super::partition::Values;
use super::policy::Policy;
use super::slots::Slots;
use super::state::Mode;
use super::storage::{NewFile, TableFiles};
use super::table::{DataFile, Stored, columns_of, now_ms, read_columns};
use super::upsert::start_of;
use super::writers::{AT_ONCE, Layout, finish_all};
use crate::error::{Error, Result, codes};
use crate::position::landing::Planned;
use crate::position::{Epoch, Interval};
use crate::sink::table_error;
use arrow::array::{RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A file of a job, as it was when the job was planned.
pub(super) struct Input {
    /// What it is called in the outcome.
    pub number: u32,
    /// What is read.
    pub stored: Stored,
    /// Rows, gone ones included.
    pub rows: u32,
    /// Bytes.
    pub bytes: u64,
    /// Rows that are left out.
    pub gone: RoaringBitmap,
}

impl Input {
    /// All of a file. `None`: its vector has not been read.
    pub(super) fn of(number: u32, file: &DataFile) -> Option<Self> {
        Some(Input {
            number,
            stored: file.stored(),
            rows: file.rows,
            bytes: u64::try_from(file.add.size).unwrap_or(0),
            gone: file.deleted.clone()?,
        })
    }
}

/// A planned compaction.
pub(super) struct Job {
    files: TableFiles,
    /// The source's columns as they are now, and ours.
    schema: SchemaRef,
    /// Names of the key columns.
    key: Vec<String>,
    /// All columns of the table's files, those that the source has no more included.
    columns: Vec<String>,
    /// Columns that the table is partitioned by.
    by: Vec<String>,
    generation: u64,
    inputs: Vec<Input>,
    policy: Policy,
    hurry: Arc<AtomicBool>,
}

/// A file that was rewritten.
struct Rewritten {
    number: u32,
    rows: u32,
    gone: RoaringBitmap,
    first: u64,
}

/// A finished job, not yet in any version.
pub(super) struct Compacted {
    generation: u64,
    inputs: Vec<Rewritten>,
    /// New files, each with its first row's number in the whole output.
    outputs: Vec<(u64, FinishedFile)>,
    /// Bytes of the files that were read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// How long it took.
    pub took: Duration,
}

/// What became of a finished job.
pub(super) enum Landed {
    /// It is in the table; these files' rows went there.
    Moved(Vec<(u32, Moved)>),
    /// It is void; the table is as it was.
    Void,
    /// Void: somebody else committed, and the table was opened again.
    Reloaded,
    /// A newer writer owns the table.
    Fenced(Epoch),
}

impl Job {
    /// Plans the next job, when there is something to do.
    pub(super) fn plan(core: &Core, policy: &Policy, hurry: Arc<AtomicBool>) -> Option<Job> {
        core.position.filter(|_| core.state.first_live_version.is_some())?;
        let inputs: Vec<Input> = policy
            .choose(&core.slots)
            .iter()
            .filter_map(|&number| Input::of(number, core.slots.get(number)?))
            .collect();
        if inputs.is_empty() || (inputs.len() == 1 && inputs.iter().all(|i| i.gone.is_empty())) {
            return None;
        }
        Job::of(core, inputs, policy.clone(), hurry).ok()
    }

    /// Bytes that it reads.
    pub(super) fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    /// A job that rewrites these files.
    ///
    /// # Errors
    /// `TG020` when the table's schema cannot be read.
    pub(super) fn of(core: &Core, inputs: Vec<Input>, policy: Policy, hurry: Arc<AtomicBool>) -> Result<Job> {
        // What the next commit brings may have more columns.
        let metadata = core.pending.as_ref().map_or(&core.metadata, |pending| &pending.metadata);
        let key = core.stored.key.iter().map(|&i| core.stored.columns[i].name.clone()).collect();
        let (files, schema) = (core.files.clone(), Arc::clone(&core.stored.arrow));
        let job = Job::over(files, schema, key, metadata, inputs, policy, hurry)
            .ok_or_else(|| table_error(&core.schema.name, codes::TG020, "its Delta schema cannot be read"))?;
        Ok(Job { generation: core.slots.generation(), ..job })
    }

    /// A job over files of a table that has these metadata. `schema` gives the types of columns, where they are known;
    /// others are as the first file has them; it and `key` have the names that files have. `None`: the table's schema
    /// cannot be read.
    pub(super) fn over(
        files: TableFiles,
        schema: SchemaRef,
        key: Vec<String>,
        metadata: &MetaData,
        mut inputs: Vec<Input>,
        policy: Policy,
        hurry: Arc<AtomicBool>,
    ) -> Option<Job> {
        // One partition after the other.
        inputs.sort_by(|a, b| a.stored.values.cmp(&b.stored.values));
        let pairs = names::pairs(metadata)?;
        let by = metadata.partition_columns.iter().map(|name| names::in_files(&pairs, name));
        let by = by.collect::<Option<Vec<String>>>()?;
        let mut columns: Vec<String> = pairs.into_iter().map(|(_, stored)| stored).collect();
        columns.retain(|name| !by.contains(name));
        Some(Job { files, schema, key, columns, by, generation: 0, inputs, policy, hurry })
    }

    /// Reads and writes.
    ///
    /// # Errors
    /// `TG020` for a damaged file; `TG001` to `TG003` from storage.
    pub(super) async fn run(self) -> Result<Compacted> {
        let schema = self.output_schema().await?;
        let mut output = Output {
            key: self.key.iter().filter_map(|name| schema.index_of(name).ok()).collect(),
            schema,
            pace: Pace { began: Instant::now(), bytes: 0 },
            job: &self,
            values: Arc::default(),
            writer: None,
            rows: 0,
            finished: Vec::new(),
            syncing: Vec::new(),
        };
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            inputs.push(Rewritten {
                number: input.number,
                rows: input.rows,
                gone: input.gone.clone(),
                first: output.rows,
            });
            output.copy(input).await?;
        }
        output.close().await?;
        output.sync().await?;
        let (outputs, took) = (output.finished, output.pace.began.elapsed());
        self.files.sync_names()?;
        let written = outputs.iter().map(|(_, f)| f.size).sum();
        self.files.count_moved(written);
        Ok(Compacted {
            generation: self.generation,
            inputs,
            read: self.inputs.iter().map(|i| i.bytes).sum(),
            written,
            outputs,
            took,
        })
    }

    /// The columns that any of the files has. A file holds the columns of its own time: those that were added
    /// since read as null, and those that the source has no more keep their values.
    async fn output_schema(&self) -> Result<SchemaRef> {
        let mut fields: Vec<Option<FieldRef>> = vec![None; self.columns.len()];
        for input in &self.inputs {
            let found = columns_of(&self.files, &input.stored).await?;
            for (field, name) in fields.iter_mut().zip(&self.columns) {
                if field.is_none()
                    && let Ok(theirs) = found.field_with_name(name)
                {
                    let ours = self.schema.field_with_name(name);
                    let kind = ours.as_ref().map_or_else(|_| theirs.data_type(), |ours| ours.data_type());
                    let marks = names::marks_of(ours.unwrap_or(theirs));
                    *field = Some(Arc::new(Field::new(name, kind.clone(), true).with_metadata(marks)));
                }
            }
        }
        Ok(Arc::new(Schema::new(fields.into_iter().flatten().collect::<Vec<_>>())))
    }
}

/// The files that a job writes.
struct Output<'a> {
    job: &'a Job,
    schema: SchemaRef,
    key: Vec<usize>,
    pace: Pace,
    /// What the rows of the open file share.
    values: Arc<Values>,
    writer: Option<FileWriter>,
    /// Rows in all files.
    rows: u64,
    finished: Vec<(u64, FinishedFile)>,
    /// Closed files that are not whole yet.
    syncing: Vec<NewFile>,
}

impl Output<'_> {
    async fn copy(&mut self, input: &Input) -> Result<()> {
        if self.values != input.stored.values {
            self.close().await?;
            self.values = Arc::clone(&input.stored.values);
        }
        let found = columns_of(&self.job.files, &input.stored).await?;
        let names: Vec<String> = self
            .schema
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .filter(|name| found.index_of(name).is_ok())
            .collect();
        let mut gone = input.gone.iter().peekable();
        let mut row = 0u32;
        let mut batches = read_columns(&self.job.files, &input.stored, &names, None).await?;
        loop {
            let began = Instant::now();
            let Some(batch) = tokio::task::block_in_place(|| batches.next()) else { break };
            let batch = conform(&batch?, &self.schema)?;
            let end = row + u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
            let mut live = vec![true; batch.num_rows()];
            while let Some(at) = gone.next_if(|&at| at < end) {
                live[(at - row) as usize] = false;
            }
            row = end;
            let rows = keep(&batch, &live)?;
            if rows.num_rows() > 0 {
                self.write(&rows).await?;
            }
            let share = u64::from(input.rows).max(1);
            self.pace.rest(self.job, began.elapsed(), input.bytes * batch.num_rows() as u64 / share).await;
        }
        if row != input.rows {
            let what = format!(
                "the data file \"{}\" has {row} rows, the log says {}",
                input.stored.name, input.rows
            );
            return Err(Error::new(codes::TG020, what));
        }
        Ok(())
    }

    async fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.writer.as_ref().is_some_and(|w| w.size() >= self.job.policy.target_bytes) {
            self.close().await?;
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let path = Layout::data(&self.job.by, Vec::new()).path(&self.values)?;
                let (files, schema) = (&self.job.files, Arc::clone(&self.schema));
                FileWriter::create_as(files, path, &self.values, schema, &self.key, rows)?
            }
        };
        tokio::task::block_in_place(|| writer.write(rows))?;
        self.rows += rows.num_rows() as u64;
        self.writer = Some(writer);
        Ok(())
    }

    async fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            let (finished, rest) = tokio::task::block_in_place(|| writer.finish_apart())?;
            self.finished.push((self.rows - u64::from(finished.rows), finished));
            self.syncing.push(rest);
        }
        if self.syncing.len() >= AT_ONCE { self.sync().await } else { Ok(()) }
    }

    /// Makes the closed files whole.
    async fn sync(&mut self) -> Result<()> {
        finish_all(std::mem::take(&mut self.syncing)).await
    }
}

/// A batch as the schema has it: other files hold other columns, orders and Arrow types.
///
/// # Errors
/// `TG020`.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| {
        Error::new(codes::TG020, "a data file's columns do not fit the table").with_source(e)
    };
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(match batch.column_by_name(field.name()) {
            Some(column) => cast_with_options(column, field.data_type(), &exact).map_err(failed)?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
    }
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(failed)
}

/// Work and rest.
struct Pace {
    began: Instant,
    bytes: u64,
}

impl Pace {
    async fn rest(&mut self, job: &Job, worked: Duration, bytes: u64) {
        self.bytes += bytes;
        let share = job.policy.work_percent.clamp(1, 100);
        let by_work = worked * (100 - share) / share;
        let due = Duration::from_millis(self.bytes.saturating_mul(1000) / job.policy.rate.max(1));
        let by_rate = due.saturating_sub(self.began.elapsed());
        let pause = by_work.max(by_rate);
        if pause >= Duration::from_millis(1) && !job.hurry.load(Ordering::Relaxed) {
            tokio::time::sleep(pause).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// A landing as it would be committed.
struct Plan {
    bytes: Vec<u8>,
    added: Vec<Option<DataFile>>,
}

impl Compacted {
    /// Commits it as the table's next version.
    ///
    /// # Errors
    /// As [`Core::put`] and [`Core::reload`].
    pub(super) async fn land(self, core: &mut Core) -> Result<Landed> {
        if self.generation != core.slots.generation() {
            return Ok(Landed::Void);
        }
        let position = start_of(core.position);
        let interval = Interval { from: position, to: position };
        let planned = Planned { version: core.version, epoch: core.epoch, interval };
        let Some(plan) = self.plan(core, planned).await? else { return Ok(Landed::Void) };
        match core.put(planned, plan.bytes.into()).await? {
            PutEnd::Landed => {}
            PutEnd::Fenced { by } => return Ok(Landed::Fenced(by)),
            PutEnd::PlanAgain => {
                return Ok(core.reload().await?.map_or(Landed::Reloaded, Landed::Fenced));
            }
        }
        for input in &self.inputs {
            core.slots.set(input.number, None);
        }
        let numbers: Vec<u32> = plan.added.into_iter().map(|file| core.slots.push(file)).collect();
        core.advance(position);
        Ok(Landed::Moved(self.moved(&numbers)))
    }

    /// Numbers of the files that were read.
    pub(super) fn read_files(&self) -> impl Iterator<Item = u32> {
        self.inputs.iter().map(|input| input.number)
    }

    /// The files that were written.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &FinishedFile> {
        self.outputs.iter().map(|(_, file)| file)
    }

    /// Where the rows went, once the new files have these numbers.
    pub(super) fn moved(self, numbers: &[u32]) -> Vec<(u32, Moved)> {
        let first = self.outputs.iter().map(|(first, _)| *first);
        let to: Arc<[(u64, u32)]> = first.zip(numbers.iter().copied()).collect();
        let moved = |input: Rewritten| {
            (input.number, Moved { gone: input.gone, first: input.first, to: Arc::clone(&to) })
        };
        self.inputs.into_iter().map(moved).collect()
    }

    /// `None`: no row of it is left.
    async fn plan(&self, core: &Core, planned: Planned) -> Result<Option<Plan>> {
        let now = now_ms();
        let gone = self.gone_since(&core.slots)?;
        let is_left =
            |((_, file), gone): &(&(u64, FinishedFile), &RoaringBitmap)| gone.len() < u64::from(file.rows);
        if !self.outputs.iter().zip(&gone).any(|pair| is_left(&pair)) {
            return Ok(None);
        }
        // A file that a unit has rewritten meanwhile has its rows elsewhere.
        if core.form.mode == Mode::CopyOnWrite && gone.iter().any(|rows| !rows.is_empty()) {
            return Ok(None);
        }
        let mut actions = core.head(COMPACTION, planned, now)?;
        let added = self.actions(&core.files, &core.slots, gone, now, &mut actions).await?;
        Ok(Some(Plan { bytes: log::encode(&actions)?, added }))
    }

    /// Takes the files that were read out and brings the new ones, without the rows that are gone since.
    ///
    /// # Errors
    /// `TG001` to `TG003` from storage.
    pub(super) async fn actions(
        &self,
        storage: &TableFiles,
        slots: &Slots,
        gone: Vec<RoaringBitmap>,
        now: i64,
        actions: &mut Vec<Action>,
    ) -> Result<Vec<Option<DataFile>>> {
        for input in &self.inputs {
            actions.extend(slots.get(input.number).map(|f| Action::Remove(f.remove(now, false))));
        }
        let mut vectors = VectorFile::new();
        let mut files = Vec::with_capacity(self.outputs.len());
        for ((_, finished), gone) in self.outputs.iter().zip(gone) {
            if gone.len() == u64::from(finished.rows) {
                files.push(None);
                continue;
            }
            let mut file = DataFile::new(finished, now);
            if !gone.is_empty() {
                file.add.stats = Some(loosened(file.add.stats.as_deref(), finished.rows));
                file.add.deletion_vector = Some(vectors.push(&gone)?);
                file.deleted = Some(gone);
            }
            actions.push(Action::Add(Add { data_change: false, ..file.add.clone() }));
            files.push(Some(file));
        }
        if !vectors.is_empty() {
            let name = vectors.name();
            storage.put(&name, vectors.into_bytes()).await?;
            storage.sync_names()?;
        }
        Ok(files)
    }

    /// For each new file, its rows that were deleted since the job read them.
    ///
    /// # Errors
    /// `RT001` when a vector has not been read.
    pub(super) fn gone_since(&self, slots: &Slots) -> Result<Vec<RoaringBitmap>> {
        let unread = || Error::new(codes::RT001, "a deletion vector was not read");
        let to: Vec<(u64, u32)> = (0u32..).zip(&self.outputs).map(|(i, (first, _))| (*first, i)).collect();
        let mut gone = vec![RoaringBitmap::new(); self.outputs.len()];
        let mut lose = |at: u64| {
            let place = locate(&to, at);
            if let Some(rows) = gone.get_mut(place.file as usize) {
                rows.insert(place.row);
            }
        };
        for input in &self.inputs {
            match slots.get(input.number) {
                // It left: none of its rows is in the table any more.
                None => {
                    (input.first..input.first + u64::from(input.rows) - input.gone.len()).for_each(&mut lose)
                }
                Some(file) => {
                    let since = file.deleted.as_ref().ok_or_else(unread)? - &input.gone;
                    let mut before = input.gone.iter().peekable();
                    let mut skipped = 0u64;
                    for row in since {
                        while before.next_if(|&gone| gone < row).is_some() {
                            skipped += 1;
                        }
                        lose(input.first + u64::from(row) - skipped);
                    }
                }
            }
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::file;
    use super::*;

    #[test]
    fn deletes_since_the_read_are_mapped() {
        let finished = |rows| FinishedFile {
            path: String::new(),
            size: 1,
            rows,
            stats: String::new(),
            values: Arc::default(),
        };
        let rewritten = |number, rows, gone: &[u32], first| Rewritten {
            number,
            rows,
            gone: gone.iter().copied().collect(),
            first,
        };
        let compacted = Compacted {
            generation: 1,
            inputs: vec![rewritten(0, 6, &[1, 4], 0), rewritten(1, 3, &[], 4), rewritten(2, 2, &[0], 7)],
            outputs: vec![(0, finished(5)), (5, finished(3))],
            read: 0,
            written: 0,
            took: Duration::ZERO,
        };
        let mut slots = Slots::default();
        slots.replace([file(1, 6, 0), file(1, 3, 0), file(1, 2, 0)]);
        let mut now = file(1, 6, 0);
        now.deleted = Some([1, 3, 4, 5].into_iter().collect());
        slots.set(0, Some(now));
        slots.set(1, None);
        let mut last = file(1, 2, 1);
        last.deleted = Some([0].into_iter().collect());
        slots.set(2, Some(last));
        let gone = compacted.gone_since(&slots).unwrap();
        // Live when read: rows 0 2 3 5 of the first, 0 1 2 of the second, 1 of the third.
        assert_eq!(gone[0].iter().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(gone[1].iter().collect::<Vec<_>>(), [0, 1]);
    }
}
