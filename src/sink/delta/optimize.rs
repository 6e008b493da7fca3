//! Compaction that an operator asks for, beside a running pipeline or without one.
//!
//! It is somebody else's OPTIMIZE: it carries no epoch and no position, changes no row, and is put as the next version.
//! Where another commit was quicker the table is read again: deletes since the read are mapped onto the new files, and a
//! file that left has its rows elsewhere. A pipeline that runs meets it as it meets every OPTIMIZE: it is examined, and
//! the index is built on what is there.
//!
//! | moment | on storage | afterwards |
//! |---|---|---|
//! | dying before the put | files that no version names | vacuum's business; the table is as it was |
//! | reply of the put lost | the version, or nothing | the version is read: ours if it holds our bytes, else planned again |
//! | a commit in between | it stands where ours was to go | read again, mapped, put behind it |

use super::commit::COMPACTION;
use super::compact::{Compacted, Input, Job};
use super::log::{self, Action, AppIds};
use super::policy::Policy;
use super::slots::Slots;
use super::state::{self, Mode, TableState};
use super::storage::{Put, TableFiles};
use super::table::{self, DataFile, Loaded, now_ms};
use super::unit::TARGET_FILE_BYTES;
use super::{DeltaSink, names, partition};
use crate::error::{Disposition, Result, codes};
use crate::schema::{TableId, TableName, TableSchema};
use crate::sink::table_error;
use arrow::datatypes::Schema;
use bytes::Bytes;
use roaring::RoaringBitmap;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Other commits may be quicker so many times in a row.
const ATTEMPTS: usize = 20;
/// A file with less live data is put together with others.
const SMALL: u64 = TARGET_FILE_BYTES as u64 * 3 / 4;

/// What an optimize did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Optimized {
    /// Data files before.
    pub files_before: usize,
    /// Data files after.
    pub files_after: usize,
    /// Rows that readers need not skip any more.
    pub dropped_rows: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Commits.
    pub commits: usize,
}

/// The table as it was last read.
struct World {
    files: TableFiles,
    ids: AppIds,
    name: TableName,
    version: i64,
    loaded: Loaded,
    state: TableState,
    slots: Slots,
}

impl DeltaSink {
    /// Makes few whole files of small ones and of such with deleted rows.
    ///
    /// # Errors
    /// `TG010` and `TG017` for a table that is not this pipeline's, `TG014` for one that needs more than we can do,
    /// `TG001` to `TG003`, `TG020`.
    pub async fn optimize(&self, name: &TableName) -> Result<Optimized> {
        let files = self.storage.table(&[&name.schema, &name.table])?;
        let mut world = World::load(files, AppIds::new(&self.pipeline), name, &self.pipeline).await?;
        let mut done = Optimized { files_before: world.slots.iter().count(), ..Optimized::default() };
        let mut overtaken = 0;
        loop {
            let chosen = world.choose();
            if chosen.is_empty() {
                break;
            }
            done.dropped_rows += chosen.iter().map(|input| input.gone.len()).sum::<u64>();
            let job = world.job(chosen)?.run().await?;
            done.bytes_read += job.read;
            done.bytes_written += job.written;
            if world.land(&job, &self.pipeline).await? {
                done.commits += 1;
            } else {
                overtaken += 1;
            }
            if overtaken > ATTEMPTS {
                let what = "other commits were quicker every time";
                return Err(table_error(name, codes::TG001, what).with_try("try again when it is quieter"));
            }
        }
        done.files_after = world.slots.iter().count();
        Ok(done)
    }
}

impl World {
    async fn load(files: TableFiles, ids: AppIds, name: &TableName, pipeline: &str) -> Result<Self> {
        let none = || {
            table_error(name, codes::TG010, format!("there is no table of strandline at \"{}\"", files.url()))
                .with_try("check the name, and sink.uri; a table is there once its copy has begun")
        };
        if !files.has_log().await? {
            return Err(none());
        }
        let mut loaded = table::load(&files, &ids).await?;
        let nameless = TableSchema::new(TableId(0), name.clone(), Vec::new(), Vec::new(), false);
        let document = loaded.metadata.configuration.get(state::KEY).ok_or_else(none)?;
        let state = TableState::parse(document, &nameless)?;
        if state.pipeline != pipeline {
            let what = format!("\"{}\" belongs to the pipeline \"{}\"", files.url(), state.pipeline);
            return Err(table_error(name, codes::TG017, what));
        }
        table::check_supported(&loaded.protocol, &loaded.metadata)?;
        table::read_vectors(&files, loaded.files.iter_mut()).await?;
        let mut slots = Slots::default();
        slots.replace(std::mem::take(&mut loaded.files));
        Ok(World { files, ids, name: name.clone(), version: loaded.version, loaded, state, slots })
    }

    /// Files of the next job. Empty: there is nothing to do.
    fn choose(&self) -> Vec<Input> {
        let mut partitions: BTreeMap<&partition::Values, Vec<(u32, &DataFile)>> = BTreeMap::new();
        for (number, file) in self.slots.iter() {
            partitions.entry(&file.add.partition_values).or_default().push((number, file));
        }
        let most = Policy::default().job_bytes;
        let (mut chosen, mut bytes) = (Vec::new(), 0);
        for files in partitions.into_values() {
            let wanted: Vec<_> =
                files.into_iter().filter(|(_, file)| is_small(file) || has_gone(file)).collect();
            if wanted.len() == 1 && !wanted.iter().any(|(_, file)| has_gone(file)) {
                continue;
            }
            for (number, file) in wanted {
                let size = live_bytes(file);
                if !chosen.is_empty() && bytes + size > most {
                    return chosen;
                }
                bytes += size;
                chosen.extend(Input::of(number, file));
            }
        }
        chosen
    }

    fn job(&self, inputs: Vec<Input>) -> Result<Job> {
        let policy = Policy { rate: u64::MAX, work_percent: 100, ..Policy::default() };
        let unreadable = || table_error(&self.name, codes::TG020, "its Delta schema cannot be read");
        let (files, metadata) = (self.files.clone(), &self.loaded.metadata);
        let pairs = names::pairs(metadata).ok_or_else(unreadable)?;
        let key = self.state.key.iter().filter_map(|name| names::in_files(&pairs, name)).collect();
        let hurry = Arc::new(AtomicBool::new(true));
        let schema = Arc::new(Schema::empty());
        Job::over(files, schema, key, metadata, inputs, policy, hurry).ok_or_else(unreadable)
    }

    /// Whether it is in the table; otherwise it was overtaken, and the next job stands on what is there now.
    async fn land(&mut self, job: &Compacted, pipeline: &str) -> Result<bool> {
        for _ in 0..ATTEMPTS {
            let gone = job.gone_since(&self.slots)?;
            let is_exact = self.state.mode == Mode::CopyOnWrite;
            if is_exact && gone.iter().any(|rows| !rows.is_empty()) {
                return Ok(false);
            }
            let now = now_ms();
            let mut actions =
                vec![table::commit_info(COMPACTION, now, serde_json::json!({"pipeline": pipeline}))];
            let added = job.actions(&self.files, &self.slots, gone, now, &mut actions).await?;
            if !actions.iter().any(|action| matches!(action, Action::Remove(_))) {
                return Ok(false);
            }
            let bytes = Bytes::from(log::encode(&actions)?);
            if self.put(&bytes).await? {
                self.version += 1;
                for number in job.read_files() {
                    self.slots.set(number, None);
                }
                for file in added {
                    self.slots.push(file);
                }
                return Ok(true);
            }
            self.read_again(pipeline).await?;
        }
        Ok(false)
    }

    /// Whether these bytes are the next version.
    async fn put(&self, bytes: &Bytes) -> Result<bool> {
        let name = log::commit_name(self.version + 1);
        match self.files.put_if_absent(&name, bytes.clone()).await {
            Ok(Put::Written) => Ok(true),
            Ok(Put::Exists) => Ok(false),
            Err(error) if error.code().disposition == Disposition::Retry => {
                match self.files.get(&name).await? {
                    Some(there) => Ok(there == *bytes),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// What is there now, under the numbers that files had.
    async fn read_again(&mut self, pipeline: &str) -> Result<()> {
        let new = World::load(self.files.clone(), self.ids.clone(), &self.name, pipeline).await?;
        if new.loaded.metadata.id != self.loaded.metadata.id {
            return Err(table_error(&self.name, codes::TG011, "it was replaced meanwhile"));
        }
        let mut there: HashMap<String, DataFile> =
            new.slots.iter().map(|(_, file)| (file.add.path.clone(), file.clone())).collect();
        let numbers: Vec<(u32, String)> =
            self.slots.iter().map(|(number, file)| (number, file.add.path.clone())).collect();
        for (number, path) in numbers {
            self.slots.set(number, there.remove(&path));
        }
        for (_, file) in there {
            self.slots.push(Some(file));
        }
        (self.version, self.loaded, self.state) = (new.version, new.loaded, new.state);
        Ok(())
    }
}

fn live_bytes(file: &DataFile) -> u64 {
    let gone = file.deleted.as_ref().map_or(0, RoaringBitmap::len);
    let rows = u64::from(file.rows).max(1);
    let size = u64::try_from(file.add.size).unwrap_or(0);
    u64::try_from(u128::from(size) * u128::from(rows - gone.min(rows)) / u128::from(rows)).unwrap_or(size)
}

fn is_small(file: &DataFile) -> bool {
    live_bytes(file) < SMALL
}

fn has_gone(file: &DataFile) -> bool {
    file.deleted.as_ref().is_some_and(|gone| !gone.is_empty())
}
