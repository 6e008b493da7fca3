//! What the models have in common: a lake whose steps may fail, and a process over it that dies and begins again.

use super::super::compact::Job;
use super::super::faults::Faults;
use super::super::names;
use super::super::policy::Policy;
use super::*;
use crate::sink::write::WriteOptions;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Names that people use, each with the one that files have; empty: they are the same.
pub(super) type Called = [(String, String)];

/// What files call these columns.
pub(super) fn stored(names: &Called, columns: &[&str]) -> Vec<String> {
    let name = |column: &&str| names::in_files(names, column).unwrap_or_else(|| (*column).to_owned());
    columns.iter().map(name).collect()
}

/// Rows of a file under the names that people use.
pub(super) async fn read_named(
    files: &TableFiles,
    file: &table::Stored,
    columns: &[&str],
    names: &Called,
) -> Vec<RecordBatch> {
    let wanted = stored(names, columns);
    let named = |batch: Result<RecordBatch>| {
        let batch = batch.unwrap();
        let columns = columns.iter().zip(&wanted);
        let columns = columns.map(|(name, stored)| (*name, batch.column_by_name(stored).unwrap().clone()));
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    };
    read_columns(files, file, &wanted, None).await.unwrap().map(named).collect()
}

/// Compaction that has something to do with little.
pub(super) fn policy() -> Policy {
    Policy {
        small_bytes: 12_000,
        fan_out: 3,
        dead_percent: 30,
        very_dead_percent: 50,
        whole_dead_percent: None,
        worn_percent: 15,
        rest_after: Duration::from_secs(3600),
        worn_rate: u64::MAX,
        job_bytes: 40_000,
        target_bytes: 1_200,
        rate: u64::MAX,
        work_percent: 100,
        crowd: 100,
    }
}

fn shared_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A process, and the lake that survives it.
pub(super) struct Process {
    pub(super) lake: Lake,
    pub(super) faults: Arc<Faults>,
    pub(super) random: Random,
    table: Option<DeltaTable>,
    pub(super) job: Option<Job>,
    pub(super) compacted: Option<compact::Compacted>,
    pub(super) landed: usize,
    pub(super) deaths: usize,
}

impl Process {
    /// The first one; its table is copied and empty, at position 10.
    pub(super) async fn first(seed: u64, options: WriteOptions, schema: &Arc<TableSchema>) -> Process {
        let dir = shared_memory();
        let uri = format!("file://{}", dir.path().display());
        let faults = Arc::new(Faults::new(seed));
        let mut sink = DeltaSink::open(&uri, "shop", &StoreOptions::default()).unwrap();
        sink.storage.set_faults(&faults);
        // Of some seeds the whole index stands beyond its budget.
        sink = sink.with_cache(dir.path().join("cache"), if seed.is_multiple_of(4) { 0 } else { usize::MAX });
        sink = sink.with_choices(WriteChoices { default: options, ..WriteChoices::default() });
        let files = Storage::open(&uri, &StoreOptions::default()).unwrap().table(&["public", "t"]).unwrap();
        let lake = Lake { _dir: dir, uri, sink, files, ids: log::AppIds::new("shop") };
        let (mut table, _) = lake.open(schema).await;
        table.upkeep.policy = None;
        table.commit_copy(at(10), vec![], Base::Copied).await.unwrap();
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        if random.below(3) == 0 {
            faults.lose_replies(4);
        }
        let table = Some(table);
        Process { lake, faults, random, table, job: None, compacted: None, landed: 0, deaths: 0 }
    }

    pub(super) fn table(&mut self) -> &mut DeltaTable {
        self.table.as_mut().unwrap()
    }

    /// A new process, until one lives long enough to open the table.
    pub(super) async fn open(&mut self, schema: &Arc<TableSchema>, purpose: OpenFor) -> TableRecord {
        self.table = None;
        (self.job, self.compacted) = (None, None);
        loop {
            self.faults.live();
            if self.random.below(4) == 0 {
                self.faults.die_after(self.random.below(12) as i64);
            }
            let opened = async {
                let (lease, _) = self.lake.sink.take_over().await?;
                self.lake.sink.open_table(&lease, schema.clone(), purpose, None).await
            };
            match opened.await {
                Ok((mut table, record)) => {
                    self.faults.live();
                    table.upkeep.policy = None;
                    self.table = Some(table);
                    return record;
                }
                Err(error) => assert!(self.faults.is_dead() || error.code() == codes::TG001, "{error:?}"),
            }
        }
    }

    /// It may fail only by dying.
    pub(super) fn died(&mut self, error: &Error) {
        assert!(self.faults.is_dead(), "{error:?}");
        self.deaths += 1;
    }

    /// The next step of a compaction.
    pub(super) async fn upkeep(&mut self) -> Result<()> {
        if let Some(compacted) = self.compacted.take() {
            assert_eq!(self.table().land(compacted).await?, None);
            self.landed += 1;
        } else if let Some(job) = self.job.take() {
            self.compacted = Some(job.run().await?);
        } else {
            // As after a commit: what is planned stands on the newest version.
            if !self.table().is_open {
                self.table().catch_up().await?;
            }
            self.job = Job::plan(&self.table().core, &policy(), Arc::new(AtomicBool::new(false)));
        }
        Ok(())
    }
}
