//! Compares tables with their source, online, at one position.
//!
//! The source is read under a snapshot of its own (of a temporary slot, on PostgreSQL), through the decoders of every
//! copy. It holds exactly the transactions up to a position, P.
//!
//! **Without a running process** the pipeline is run up to P here, and stops there: every table stands at P.
//!
//! **With one**, nothing of it is touched. Two versions of a table enclose P: the last one from before the snapshot was
//! taken, and the first one once a cut at or beyond P is committed. A key that is touched by no commit between them has at P the value
//! that it has in both: it must equal the source's, and where it does not, that is a fault. A key that was touched in
//! between can differ because its change came after P: only such keys are compared again, in a new round with a new
//! snapshot, until none is left. After some rounds those that change too often to be judged are counted, not hidden.
//!
//! A Kafka target is replayed up to such a version, which is the end of its topic: [`kafka`].
//!
//! A death at any point leaves nothing: the snapshot goes with its connection, and only `--repair` writes, as `resync` does.

mod kafka;

use super::{DeltaSink, POLL, Result, pg_settings};
use crate::cli::RunOptions;
use crate::config::{Config, SinkTarget, SourceKind};
use crate::error::{Error, codes};
use crate::event::{ChangeBatch, ChunkKey, CopyPart, CopyWriter, KeyRange, Pick};
use crate::position::CommitLsn;
use crate::runtime::compare::{Digests, Fault, Hasher, KeyHash, Remainder, RowHash, Slices};
use crate::schema::{TableName, TableSchema};
use crate::sink::Sink;
use crate::sink::delta::view::{Part, TableView};
use crate::sink::kafka::KafkaSink;
use crate::source::postgres::adapter::PgSource;
use crate::source::postgres::slot;
use crate::source::postgres::sql::Sql;
use crate::source::{CopySession, Source};
use arrow::array::{ArrayRef, RecordBatch};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A sample is chosen from so many ranges of keys.
const RANGES: u64 = 1_000;
/// Keys that are listed for a table.
const LISTED: usize = 100;
/// Keys that changed meanwhile are compared again so often.
const ROUNDS: u32 = 6;
/// A running process must commit a cut beyond a position within this.
const CUT_PATIENCE: Duration = Duration::from_secs(300);

/// A row that is not what the source has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Difference {
    /// What is wrong.
    pub fault: Fault,
    /// Its key, for people.
    pub key: String,
}

/// What came of a table.
#[derive(Debug)]
pub struct Verified {
    /// The table.
    pub name: TableName,
    /// Why it was not compared.
    pub skipped: Option<Error>,
    /// The source's position.
    pub position: CommitLsn,
    /// The version that was compared last; of a target that has versions.
    pub version: Option<i64>,
    /// Records that were read, of a target that is a log.
    pub records: Option<u64>,
    /// Rows of which no record says some value.
    pub unknown: u64,
    /// So many ranges of keys were compared, of so many; `None`: the whole table.
    pub sample: Option<(usize, usize)>,
    /// Rows of the source.
    pub source_rows: u64,
    /// Rows of the target.
    pub target_rows: u64,
    /// Rows that differ.
    pub different: u64,
    /// Some of them, by key.
    pub listed: Vec<Difference>,
    /// There may be more than were counted.
    pub is_more: bool,
    /// Keys that changed in every round.
    pub unsettled: u64,
    /// How long it took.
    pub took: Duration,
}

impl Verified {
    fn new(name: &TableName) -> Self {
        Verified {
            name: name.clone(),
            skipped: None,
            position: CommitLsn::ZERO,
            version: None,
            records: None,
            unknown: 0,
            sample: None,
            source_rows: 0,
            target_rows: 0,
            different: 0,
            listed: Vec::new(),
            is_more: false,
            unsettled: 0,
            took: Duration::ZERO,
        }
    }

    fn skip(name: &TableName, why: Error) -> Self {
        Verified { skipped: Some(why), ..Verified::new(name) }
    }

    /// Whether the table is known to equal its source.
    pub fn is_equal(&self) -> bool {
        self.skipped.is_none() && self.different == 0 && self.unsettled == 0
    }
}

/// Ranges of keys that are compared, in order.
struct Sample {
    ranges: Vec<KeyRange>,
    /// Of so many.
    of: usize,
}

impl Sample {
    /// Chooses about this share of the ranges, others for each seed, and one at least.
    fn choose(ends: Vec<ChunkKey>, share: f64, seed: u64) -> Self {
        let mut ranges = Vec::with_capacity(ends.len() + 1);
        let mut from = None;
        for below in ends.into_iter().map(Some).chain([None]) {
            ranges.push(KeyRange { from, below: below.clone() });
            from = below;
        }
        let of = ranges.len();
        let rank = |at: usize| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed);
        let mut ranked: Vec<usize> = (0..of).collect();
        ranked.sort_by_key(|&at| rank(at));
        let wanted = (0..of).take_while(|&at| (at as f64) < share * of as f64).count();
        ranked.truncate(wanted.clamp(1, of));
        ranked.sort_unstable();
        Sample { ranges: ranked.into_iter().filter_map(|at| ranges.get(at).cloned()).collect(), of }
    }

    fn holds(&self, column: &ArrayRef, row: usize) -> bool {
        let Some(key) = ChunkKey::of(column, row) else { return false };
        let behind = self.ranges.partition_point(|r| r.from.as_ref().is_none_or(|from| *from <= key));
        let range = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|range| range.below.as_ref().is_none_or(|below| key < *below))
    }
}

/// Compares these tables, or all; `share`: of each only so much.
///
/// # Errors
/// What keeps everything from being compared; what concerns one table is in its result.
pub async fn verify(cfg: &Config, wanted: &BTreeSet<TableName>, share: Option<f64>) -> Result<Vec<Verified>> {
    match &cfg.sink.target {
        SinkTarget::Kafka(target) => {
            let mut cfg = cfg.clone();
            if cfg.source.kind == SourceKind::MySql {
                cfg.format.connector = super::mysql::ask_connector(&cfg).await?;
            }
            let sink = KafkaSink::new(super::kafka_options(&cfg, target).await?)?;
            Box::pin(of_source((&cfg, wanted, share), sink)).await
        }
        _ => Box::pin(of_source((cfg, wanted, share), super::delta(cfg)?)).await,
    }
}

/// What is compared: the pipeline, which tables, how much of each.
type Asked<'a> = (&'a Config, &'a BTreeSet<TableName>, Option<f64>);

async fn of_source<T: Against>((cfg, wanted, share): Asked<'_>, sink: T) -> Result<Vec<Verified>> {
    if cfg.source.kind == SourceKind::MySql {
        let lineage = sink.peek().await?.and_then(|record| record.lineage);
        let shift = lineage.map_or(0, |lineage| lineage.timeline);
        let source = super::mysql::source(cfg).await?.counted_on(shift);
        return verify_by((cfg, wanted, share), sink, source, Watch::MySql).await;
    }
    let settings = pg_settings(cfg).await?;
    let sql = Box::new(Sql::connect(&settings.options).await?);
    let slot_name = settings.options.slot.clone();
    verify_by((cfg, wanted, share), sink, PgSource::new(settings), Watch::Postgres { sql, slot_name }).await
}

/// A target whose tables can be compared with their source.
trait Against: Sink + Sized {
    /// Whether a share of a table can be compared.
    const CAN_SAMPLE: bool;

    /// Compares a table, in as many rounds as it takes.
    async fn table<S: Source>(
        all: &Compared<'_, S, Self>,
        schema: &Arc<TableSchema>,
        result: &mut Verified,
    ) -> Result<()>;
}

/// Who tells whether a process of the pipeline runs.
enum Watch {
    Postgres { sql: Box<Sql>, slot_name: String },
    MySql,
}

impl Watch {
    async fn is_running(&self, cfg: &Config) -> Result<bool> {
        match self {
            Watch::Postgres { sql, slot_name } => {
                let state = slot::inspect(sql, slot_name).await?;
                Ok(state.is_some_and(|slot| slot.active_pid.is_some()))
            }
            Watch::MySql => super::mysql::is_read(cfg).await,
        }
    }

    /// Moves an idle pipeline on. That of a binary log moves by itself.
    async fn nudge(&self) -> Result<()> {
        match self {
            Watch::Postgres { sql, .. } => slot::heartbeat(sql).await,
            Watch::MySql => Ok(()),
        }
    }
}

async fn verify_by<S: Source, T: Against>(
    (cfg, wanted, share): Asked<'_>,
    sink: T,
    source: S,
    watch: Watch,
) -> Result<Vec<Verified>> {
    if share.is_some() && !T::CAN_SAMPLE {
        let what =
            "--sample with this target: what it holds of a key is known when all of its topic was read";
        return Err(Error::new(codes::CF004, what).with_try("compare whole tables: leave --sample out"));
    }
    if share.is_some() && !S::Copy::CAN_PICK {
        let what = "--sample with this source: ranges of its keys cannot be compared here (not built yet)";
        return Err(Error::new(codes::CF004, what).with_try("compare whole tables: leave --sample out"));
    }
    let view = source.inspect().await?;
    let record = sink.peek().await?.ok_or_else(|| {
        Error::new(codes::CF005, format!("there is no pipeline \"{}\" in {}", cfg.name, cfg.sink.target))
            .with_try("strandline run makes the first copies")
    })?;
    let mut results = Vec::new();
    let is_wanted = |name: &TableName| wanted.is_empty() || wanted.contains(name);
    for refused in view.refused.into_iter().filter(|refused| is_wanted(&refused.name)) {
        results.push(Verified::skip(&refused.name, refused.error));
    }
    let mut schemas = Vec::new();
    let names = view.tables.iter().map(|table| table.schema.name.clone()).collect();
    for table in view.tables.into_iter().filter(|table| is_wanted(&table.schema.name)) {
        match record.stopped.get(&table.schema.id) {
            Some(stopped) => {
                let error = Error::new(stopped.code, stopped.message.clone())
                    .with_try(format!("strandline resync {} --yes", stopped.name));
                results.push(Verified::skip(&stopped.name, error));
            }
            None => schemas.push(table.schema),
        }
    }
    let known: BTreeSet<&TableName> =
        schemas.iter().map(|s| &s.name).chain(results.iter().map(|r| &r.name)).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(Error::new(
            S::CODES.no_table,
            format!("the source has no table \"{unknown}\" to replicate"),
        )
        .with_try("strandline tables   names them"));
    }
    let compared = Compared { cfg, sink, source, watch, share, names };
    for schema in schemas {
        let began = Instant::now();
        let mut result = match compared.table(&schema).await {
            Ok(result) => result,
            Err(error) if error.code().disposition == crate::error::Disposition::HaltTable => {
                Verified::skip(&schema.name, error)
            }
            Err(error) => return Err(error),
        };
        result.took = began.elapsed();
        results.push(result);
    }
    results.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(results)
}

struct Compared<'a, S, T> {
    cfg: &'a Config,
    sink: T,
    source: S,
    watch: Watch,
    share: Option<f64>,
    /// All tables of the pipeline.
    names: Vec<TableName>,
}

/// One round: the source at a position, and the versions that enclose it.
struct Round<C> {
    session: C,
    /// The version from before the snapshot.
    before: TableView,
    /// The version from after the position.
    after: TableView,
    /// What of it is compared; `None`: everything.
    sample: Option<Arc<Sample>>,
}

impl<S: Source, T: Against> Compared<'_, S, T> {
    async fn is_running(&self) -> Result<bool> {
        self.watch.is_running(self.cfg).await
    }

    /// Runs the pipeline up to the position, here.
    async fn catch_up(&self, point: CommitLsn) -> Result<()> {
        tracing::info!(lsn = %point, "no process runs: the pipeline is run up to the snapshot");
        let options = RunOptions { until: super::Until::Lsn(point.lsn()), snapshot: super::Snapshot::Never };
        let board = super::StatusBoard::new(&self.cfg.name);
        let (_sender, stop) = super::StopSignal::pair();
        let metrics = super::Metrics::new(&board);
        let mut cfg = self.cfg.clone();
        cfg.tables.on_new_table = crate::config::NewTable::Ignore;
        match Box::pin(super::run(
            cfg,
            options,
            board,
            metrics,
            stop,
            (crate::runtime::Hold::never(), super::Desk::nobody()),
        ))
        .await
        {
            // A table that stands still is said where it is compared.
            Err(error) if error.code().disposition == crate::error::Disposition::HaltTable => Ok(()),
            other => other,
        }
    }

    /// Waits until the running process has committed a cut at or beyond the position.
    async fn await_cut(&self, point: CommitLsn) -> Result<()> {
        let began = Instant::now();
        loop {
            let record = self.sink.peek().await?.unwrap_or_default();
            if record.cut.is_some_and(|cut| cut.position >= point) {
                return Ok(());
            }
            if began.elapsed() > CUT_PATIENCE {
                let what = format!(
                    "the running process has not come to {point} within {} s",
                    CUT_PATIENCE.as_secs()
                );
                return Err(Error::new(codes::RT012, what)
                    .with_try("strandline status; verify again when it has caught up"));
            }
            // An idle pipeline moves with the next transaction.
            self.watch.nudge().await?;
            tokio::time::sleep(POLL).await;
            if !self.is_running().await? {
                return Err(Error::new(S::CODES.busy, "the process that was running has ended meanwhile")
                    .with_try("verify again"));
            }
        }
    }

    async fn table(&self, schema: &Arc<TableSchema>) -> Result<Verified> {
        if !schema.has_key() {
            let what = "it has no key: its target is a log of changes, which cannot be compared row by row";
            return Err(crate::sink::table_error(&schema.name, S::CODES.partial, what)
                .with_try(format!("ALTER TABLE {} ADD PRIMARY KEY (…);", schema.name)));
        }
        let mut result = Verified::new(&schema.name);
        T::table(self, schema, &mut result).await?;
        result.listed.sort();
        Ok(result)
    }
}

impl Against for DeltaSink {
    const CAN_SAMPLE: bool = true;

    async fn table<S: Source>(
        all: &Compared<'_, S, Self>,
        schema: &Arc<TableSchema>,
        result: &mut Verified,
    ) -> Result<()> {
        all.rounds(schema, result).await
    }
}

impl<S: Source> Compared<'_, S, DeltaSink> {
    async fn view(&self, schema: &TableSchema) -> Result<TableView> {
        self.sink.view(schema).await?.ok_or_else(|| {
            crate::sink::table_error(&schema.name, codes::TG011, "it has not been copied yet")
                .with_try("strandline run")
        })
    }

    /// The snapshot, and the versions of the table around it.
    async fn round(&self, schema: &TableSchema) -> Result<Round<S::Copy>> {
        let before = self.view(schema).await?;
        let session = self.source.snapshot().await?;
        let point = session.position();
        if !self.is_running().await? {
            self.catch_up(point).await?;
            let after = self.view(schema).await?;
            // Nothing is touched between P and the version at P.
            return Ok(Round { session, before: self.view(schema).await?, after, sample: None });
        }
        self.await_cut(point).await?;
        let after = self.view(schema).await?;
        Ok(Round { session, before, after, sample: None })
    }

    async fn rounds(&self, schema: &Arc<TableSchema>, result: &mut Verified) -> Result<()> {
        let mut suspects: Option<HashSet<KeyHash>> = None;
        let mut sample = None;
        for round in 1..=ROUNDS {
            let mut taken = self.round(schema).await?;
            if round == 1 {
                sample = self.sample(schema, &mut taken).await?;
                result.sample = sample.as_ref().map(|sample| (sample.ranges.len(), sample.of));
            }
            taken.sample.clone_from(&sample);
            let unsettled = self.compare(schema, &mut taken, suspects.as_ref(), result).await?;
            let Round { session, .. } = taken;
            session.release().await?;
            result.unsettled = u64::try_from(unsettled.len()).unwrap_or(u64::MAX);
            if unsettled.is_empty() {
                break;
            }
            tracing::info!(table = %schema.name, keys = unsettled.len(), round, "rows that changed meanwhile are compared again");
            suspects = Some(unsettled);
        }
        Ok(())
    }

    /// The ranges that are compared. `None`: everything, also where the table cannot be cut.
    async fn sample(&self, schema: &TableSchema, round: &mut Round<S::Copy>) -> Result<Option<Arc<Sample>>> {
        let Some(share) = self.share else { return Ok(None) };
        let rows = (round.after.rows() / RANGES).max(1);
        let position = round.session.position();
        let Some(ends) = round.session.chunks(schema, None, rows).await? else {
            tracing::info!(table = %schema.name, "it cannot be cut by its key: it is compared whole");
            return Ok(None);
        };
        Ok(Some(Arc::new(Sample::choose(ends, share, position.lsn().raw()))))
    }

    /// Compares; `suspects`: only these keys. Returns the keys that differ and were touched meanwhile.
    async fn compare(
        &self,
        schema: &Arc<TableSchema>,
        round: &mut Round<S::Copy>,
        suspects: Option<&HashSet<KeyHash>>,
        result: &mut Verified,
    ) -> Result<HashSet<KeyHash>> {
        let wanted = Arc::new(suspects.cloned());
        let parts = round.after.parts();
        let sums = |row: RowHash, wanted: &Option<HashSet<KeyHash>>| {
            wanted.as_ref().is_none_or(|w| w.contains(&row.key))
        };
        let source: Digests = {
            let wanted = Arc::clone(&wanted);
            let fold = move |digests: &mut Digests, row: RowHash| {
                if sums(row, &wanted) {
                    digests.add(row);
                }
            };
            let all = fold_source(round, schema, self.cfg.snapshot.workers, fold).await?;
            all.into_iter().fold(Digests::default(), |mut sum, part| {
                sum.merge(&part);
                sum
            })
        };
        let mut target = Digests::default();
        let hasher = Hasher::new(&schema.arrow, &schema.key)?;
        for part in &parts {
            round
                .after
                .read(part, &schema.arrow, |batch| {
                    let is_in = chosen(round.sample.as_deref(), schema, batch);
                    hasher.hash(batch, |at, row| {
                        if is_in(at) && sums(row, &wanted) {
                            target.add(row);
                        }
                    })
                })
                .await?;
        }
        result.position = round.session.position();
        result.version = Some(round.after.version);
        if suspects.is_none() {
            (result.source_rows, result.target_rows) = (source.rows(), target.rows());
        }
        let slices = source.differing(&target);
        if slices.count == 0 {
            return Ok(HashSet::new());
        }
        result.is_more |= slices.left_out > 0;
        self.list(schema, round, &wanted, slices, result).await
    }

    /// Finds the rows of the differing slices.
    async fn list(
        &self,
        schema: &Arc<TableSchema>,
        round: &mut Round<S::Copy>,
        wanted: &Arc<Option<HashSet<KeyHash>>>,
        slices: Slices,
        result: &mut Verified,
    ) -> Result<HashSet<KeyHash>> {
        let slices = Arc::new(slices);
        let looks = |row: RowHash, slices: &Slices, wanted: &Option<HashSet<KeyHash>>| {
            slices.holds(row.key) && wanted.as_ref().is_none_or(|w| w.contains(&row.key))
        };
        let fold = {
            let (slices, wanted) = (Arc::clone(&slices), Arc::clone(wanted));
            move |rest: &mut Remainder, row: RowHash| {
                if looks(row, &slices, &wanted) {
                    rest.source(row);
                }
            }
        };
        let held = fold_source(round, schema, self.cfg.snapshot.workers, fold).await?;
        let mut rest = held.into_iter().fold(Remainder::default(), |mut sum, part| {
            sum.merge(part);
            sum
        });
        let hasher = Hasher::new(&schema.arrow, &schema.key)?;
        let mut faults: BTreeMap<KeyHash, (Fault, Option<String>)> = BTreeMap::new();
        for part in &round.after.parts() {
            round
                .after
                .read(part, &schema.arrow, |batch| {
                    let mut found = Vec::new();
                    let is_in = chosen(round.sample.as_deref(), schema, batch);
                    hasher.hash(batch, |at, row| {
                        if is_in(at)
                            && looks(row, &slices, wanted)
                            && let Some(fault) = rest.target(row)
                        {
                            found.push((row.key, at, fault));
                        }
                    })?;
                    for (key, at, fault) in found {
                        let text =
                            if faults.len() < LISTED * 4 { Some(hasher.key_text(batch, at)?) } else { None };
                        faults.insert(key, (fault, text));
                    }
                    Ok(())
                })
                .await?;
        }
        for key in rest.missing() {
            faults.insert(key, (Fault::Missing, None));
        }
        let touched = touched(schema, round, &faults.keys().copied().collect()).await?;
        let sure: BTreeMap<KeyHash, (Fault, Option<String>)> =
            faults.into_iter().filter(|(key, _)| !touched.contains(key)).collect();
        result.different += u64::try_from(sure.len()).unwrap_or(u64::MAX);
        self.name_keys(schema, round, sure, result).await?;
        Ok(touched)
    }

    /// Lists keys; those that only the source has are read there once more, for their text.
    async fn name_keys(
        &self,
        schema: &Arc<TableSchema>,
        round: &mut Round<S::Copy>,
        faults: BTreeMap<KeyHash, (Fault, Option<String>)>,
        result: &mut Verified,
    ) -> Result<()> {
        let mut nameless: HashSet<KeyHash> = HashSet::new();
        for (key, (fault, text)) in faults {
            if result.listed.len() + nameless.len() >= LISTED {
                break;
            }
            match text {
                Some(key) => result.listed.push(Difference { fault, key }),
                None if fault == Fault::Missing => {
                    nameless.insert(key);
                }
                None => {}
            }
        }
        if nameless.is_empty() {
            return Ok(());
        }
        let nameless = Arc::new(nameless);
        let found = Arc::new(Mutex::new(Vec::new()));
        let make = || {
            let hasher = Hasher::new(&schema.arrow, &schema.key)?;
            let (nameless, found) = (Arc::clone(&nameless), Arc::clone(&found));
            let look = move |batch: &RecordBatch| {
                let mut rows = Vec::new();
                hasher.hash(batch, |at, row| {
                    if nameless.contains(&row.key) {
                        rows.push(at);
                    }
                })?;
                for row in rows {
                    let text = hasher.key_text(batch, row)?;
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
                Ok(())
            };
            Ok(Box::new(Looker(look)) as Box<dyn CopyWriter>)
        };
        read_source(round, schema, self.cfg.snapshot.workers, make).await?;
        let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        result.listed.extend(found.into_iter().map(|key| Difference { fault: Fault::Missing, key }));
        Ok(())
    }
}

/// Which of these keys some commit touched between the two versions.
async fn touched<C>(
    schema: &Arc<TableSchema>,
    round: &Round<C>,
    keys: &HashSet<KeyHash>,
) -> Result<HashSet<KeyHash>> {
    let (came, went) = round.after.changed_since(&round.before);
    let hasher = Hasher::new(&schema.arrow, &schema.key)?;
    let mut touched = HashSet::new();
    let sides: [(&TableView, Vec<Part>); 2] = [(&round.after, came), (&round.before, went)];
    for (view, parts) in sides {
        for part in parts {
            view.read(&part, &schema.arrow, |batch| {
                hasher.hash(batch, |_, row| {
                    if keys.contains(&row.key) {
                        touched.insert(row.key);
                    }
                })
            })
            .await?;
        }
    }
    Ok(touched)
}

/// Reads the source's table under the snapshot; each worker folds its rows into a value of its own.
async fn fold_source<C: CopySession, T: Default + Send + 'static>(
    round: &mut Round<C>,
    schema: &Arc<TableSchema>,
    workers: usize,
    fold: impl Fn(&mut T, RowHash) + Clone + Send + 'static,
) -> Result<Vec<T>> {
    let make = || {
        let hasher = Hasher::new(&schema.arrow, &schema.key)?;
        Ok(Box::new(Folder { hasher, fold: fold.clone(), value: T::default() }) as Box<dyn CopyWriter>)
    };
    read_source(round, schema, workers, make)
        .await?
        .into_iter()
        .map(|part| {
            let value = part.0.downcast::<T>();
            value
                .map(|value| *value)
                .map_err(|_| Error::new(codes::RT001, "a worker returned something else"))
        })
        .collect()
}

/// Reads what is compared of the source's table.
async fn read_source<C: CopySession>(
    round: &mut Round<C>,
    schema: &Arc<TableSchema>,
    workers: usize,
    make: impl Fn() -> Result<Box<dyn CopyWriter>>,
) -> Result<Vec<CopyPart>> {
    let rows = Arc::new(AtomicU64::new(0));
    let Some(sample) = round.sample.clone() else {
        let writers = (0..workers.max(1)).map(|_| make()).collect::<Result<_>>()?;
        return round.session.copy(Arc::clone(schema), writers, rows).await;
    };
    let mut parts = Vec::new();
    for range in &sample.ranges {
        let pick = Pick { range: range.clone(), ..Pick::default() };
        let session = &mut round.session;
        parts.extend(session.copy_some(Arc::clone(schema), pick, vec![make()?], Arc::clone(&rows)).await?);
    }
    Ok(parts)
}

/// Which rows of the batch are compared.
fn chosen<'a>(
    sample: Option<&'a Sample>,
    schema: &TableSchema,
    batch: &'a RecordBatch,
) -> impl Fn(usize) -> bool + 'a {
    let column = schema.key.first().map(|&first| batch.column(first));
    move |row| sample.zip(column).is_none_or(|(sample, column)| sample.holds(column, row))
}

/// Takes the rows of a copy as hashes.
struct Folder<T, F> {
    hasher: Hasher,
    fold: F,
    value: T,
}

impl<T: Default + Send + 'static, F: Fn(&mut T, RowHash) + Send> CopyWriter for Folder<T, F> {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        let Folder { hasher, fold, value } = self;
        hasher.hash(&batch.after, |_, row| fold(value, row))
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(self.value)))
    }
}

/// Looks at the rows of a copy.
struct Looker<F>(F);

impl<F: FnMut(&RecordBatch) -> Result<()> + Send> CopyWriter for Looker<F> {
    fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        (self.0)(&batch.after)
    }

    fn finish(self: Box<Self>) -> Result<CopyPart> {
        Ok(CopyPart(Box::new(())))
    }
}
