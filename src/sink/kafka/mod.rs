//! Changes as Debezium events in Kafka topics, exactly once.
//!
//! What a unit holds of all tables, and the checkpoint, are one Kafka transaction (`writer`); why, and what
//! every interleaving of deaths leaves behind, stands there and in `docs/adr/0011-one-kafka-transaction.md`. Tables stage into memory
//! and hand their shares in (`units`); the last one completes the unit. A copy has a producer and a fence of its
//! own (`copy`): its rows become visible while it goes on, and only its end is in the checkpoint.
//!
//! | file | what |
//! |---|---|
//! | `options` | what the sink is told |
//! | `client` `topics` | librdkafka's clients and their errors; topics |
//! | `registry` | ids of Avro's schemas |
//! | `probe` | whether the brokers take us |
//! | `state` `read` | the checkpoint, and reading it |
//! | `units` `order` | which shares belong together, and in which order their events go: pure |
//! | `spill` | events that wait, in memory or on disk |
//! | `writer` | the transactions |
//! | `table` `copy` | one table's stream, one table's copy |
//! | `oversize` | what becomes of events that are too large |
//! | `bench` | what a broker costs without us, and what a consumer sees |

pub mod bench;
mod client;
mod copy;
mod options;
mod order;
mod oversize;
mod probe;
mod read;
mod registry;
mod spill;
mod state;
mod table;
mod topics;
mod units;
mod writer;

pub use options::{CHECKPOINTS, KafkaOptions, Oversize, TopicOptions};
pub use registry::RegistryOptions;
pub use table::KafkaTable;

use crate::debezium::{Control, ControlKind, Encoder, Options as EventOptions};
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, Epoch, Marks};
use crate::schema::change::{Remedy, told};
use crate::schema::{Past, TableId, TableName, TableSchema};
use crate::sink::{
    CommitOutcome, Cut, CutTable, OpenFor, PipelineRecord, RecordChange, Request, Sink, TableRecord,
    WriterLease, Written, change_refused, left_out, table_error,
};
use client::Pace;
use copy::Lane;
use oversize::Limits;
use read::Until;
use registry::Registry;
use state::{State, Table};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use topics::Topics;
use units::{Complete, Units};
use writer::{Change, Counters, Job, Share, Writer};

/// The sink.
pub struct KafkaSink {
    options: Arc<KafkaOptions>,
    events: Arc<EventOptions>,
    topics: Arc<Topics>,
    counters: Arc<Counters>,
    registry: Option<Arc<Registry>>,
    live: Mutex<Option<Arc<Live>>>,
}

/// What one takeover has.
pub(crate) struct Live {
    epoch: Epoch,
    jobs: mpsc::Sender<Job>,
    units: Mutex<Units<Share>>,
    lane: Arc<Mutex<Lane>>,
    maker: Arc<Topics>,
    /// Topics that are known to be there.
    topics: Mutex<BTreeSet<String>>,
    options: Arc<KafkaOptions>,
    counters: Arc<Counters>,
    /// Bytes of staged events.
    memory: Arc<AtomicUsize>,
    /// Bytes that may be under way: what the topic that takes least takes as one batch.
    under_way: Arc<AtomicUsize>,
    registry: Option<Arc<Registry>>,
}

/// Bytes of a batch beside its records.
const BATCH_OVERHEAD: usize = 256;
/// The end of the process waits so long for a transaction that is under way.
const END_WITHIN: Duration = Duration::from_secs(3);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(codes::RT001, "a task of the Kafka sink broke").with_source(e))?
}

impl Live {
    /// An encoder that may be used: its schemas are registered.
    async fn encoder(&self, schema: &Arc<TableSchema>, events: &Arc<EventOptions>) -> Result<Encoder> {
        let mut encoder = Encoder::new(schema, events)?;
        if let Some(registry) = &self.registry {
            registry.introduce(&mut encoder).await.map_err(|error| {
                if error.code() == codes::KF011 { of_table(&schema.name, error) } else { error }
            })?;
        }
        Ok(encoder)
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| gone())
    }

    async fn change(&self, change: Change) -> Result<CommitOutcome> {
        let (reply, outcome) = oneshot::channel();
        self.send(Job::Change(change, reply))?;
        outcome.await.map_err(|_| gone())?
    }

    /// A unit's shares go to the writer in the order of the units: so the lock is held.
    fn give(&self, complete: Vec<Complete<Share>>) -> Result<()> {
        complete.into_iter().try_for_each(|unit| self.send(Job::Unit(unit)))
    }

    fn close_unit(&self, to: CommitLsn, tables: &[TableId]) {
        let mut units = lock(&self.units);
        let complete = units.announce(to, tables);
        // A writer that is gone is met by whoever commits.
        let _gone = self.give(complete);
    }

    fn hand_in(&self, table: TableId, to: CommitLsn, share: Share) -> Result<()> {
        let mut units = lock(&self.units);
        match units.hand_in(table, to, share) {
            Ok(complete) => self.give(complete),
            Err(_) => {
                Err(Error::new(codes::RT001, format!("nobody announced a unit to {to} for table {table}")))
            }
        }
    }

    fn close_table(&self, table: TableId, number: u64) {
        let mut units = lock(&self.units);
        let complete = units.close(table, number);
        let _gone = self.give(complete);
    }

    /// The topic is there, or is made.
    async fn ensure_topic(&self, topic: &str, table: Option<&TableName>) -> Result<()> {
        if lock(&self.topics).contains(topic) {
            return Ok(());
        }
        match table {
            Some(table) => self.maker.ensure_of(topic, table).await?,
            None => self.maker.ensure(topic).await?,
        }
        lock(&self.topics).insert(topic.to_owned());
        Ok(())
    }

    /// How large the records of a topic may be. The producers' batches stay below it, too.
    async fn limit(&self, topic: &str) -> usize {
        let configured = self.options.max_record;
        let Some(told) = self.maker.limit(topic).await else { return configured };
        let told = told.saturating_sub(BATCH_OVERHEAD).max(1);
        self.under_way.fetch_min(told, Ordering::Relaxed);
        configured.min(told)
    }

    async fn limits(&self, topic: &str) -> Result<Limits> {
        let table = self.limit(topic).await;
        let dead_letter = match &self.options.oversize {
            Oversize::DeadLetter { topic } => {
                self.ensure_topic(topic, None).await?;
                self.limit(topic).await
            }
            Oversize::Stop | Oversize::Truncate => table,
        };
        Ok(Limits { table, dead_letter })
    }

    async fn look(&self) -> Result<State> {
        let (reply, state) = oneshot::channel();
        self.send(Job::Look(reply))?;
        state.await.map_err(|_| gone())
    }
}

/// The same error with the table's name in front.
fn of_table(name: &TableName, error: Error) -> Error {
    let named = table_error(name, error.code(), error.cause_line());
    match error.advice() {
        Some(advice) => named.with_try(advice),
        None => named,
    }
}

/// A newer owner was met.
fn fenced(by: Epoch) -> Error {
    Error::new(codes::TG013, format!("another process of this pipeline took over with epoch {by}"))
        .with_try("run one process of a pipeline at a time")
}

fn gone() -> Error {
    Error::new(codes::KF007, "the writer of Kafka transactions has ended")
}

impl KafkaSink {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `KF004`.
    pub fn new(options: KafkaOptions) -> Result<Self> {
        Ok(KafkaSink {
            registry: options.registry.as_ref().map(|to| Registry::new(to).map(Arc::new)).transpose()?,
            topics: Arc::new(Topics::new(&options)?),
            events: Arc::new(options.events.clone()),
            options: Arc::new(options),
            counters: Arc::default(),
            live: Mutex::new(None),
        })
    }

    fn live(&self) -> Result<Arc<Live>> {
        lock(&self.live).clone().ok_or_else(|| Error::new(codes::RT001, "the Kafka sink is not taken over"))
    }

    fn held(&self, lease: &WriterLease) -> Result<std::result::Result<Arc<Live>, CommitOutcome>> {
        let live = self.live()?;
        Ok(if live.epoch == lease.epoch { Ok(live) } else { Err(CommitOutcome::Fenced { by: live.epoch }) })
    }

    async fn read(&self, until: Until) -> Result<Option<State>> {
        let options = Arc::clone(&self.options);
        blocking(move || read::read(&options, until)).await
    }

    async fn introduce(&self, control: &mut Control, kind: ControlKind) -> Result<()> {
        match &self.registry {
            Some(registry) => registry.introduce_control(control, kind).await,
            None => Ok(()),
        }
    }

    /// The brokers are there, and take us.
    async fn probe(&self) -> Result<()> {
        let options = Arc::clone(&self.options);
        blocking(move || probe::probe(&options)).await
    }

    /// How a table that is known goes on: its past, and why it must be copied again.
    async fn follow(
        &self,
        live: &Live,
        known: &Table,
        schema: &Arc<TableSchema>,
        purpose: OpenFor,
        topic: &str,
    ) -> Result<(Past, Option<String>)> {
        let OpenFor::Continue(policy) = purpose else { return Ok((Past::default(), None)) };
        if known.form.was_left_out(schema.form) {
            return Err(left_out(&schema.name));
        }
        let changes = known.changes(schema);
        match policy.remedy_of_log(&changes) {
            Remedy::Stop => return Err(change_refused(&schema.name, &changes)),
            Remedy::Copy => return Ok((Past::default(), Some(told(&changes)))),
            Remedy::InPlace => {}
        }
        let mut table = known.clone();
        table.evolve(schema, &changes);
        table.topic = topic.to_owned();
        let past = table.past.clone();
        if table != *known {
            let id = schema.id;
            live.change(Box::new(move |state| state.set_table(id, table))).await?;
        }
        Ok((past, None))
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        let Some(live) = lock(&self.live).take() else { return };
        let (done, wait) = mpsc::channel();
        if live.send(Job::End(done)).is_ok() {
            // Brokers that do not answer end the transaction themselves.
            let _late = wait.recv_timeout(END_WITHIN);
        }
    }
}

impl Sink for KafkaSink {
    type Table = KafkaTable;

    async fn peek(&self) -> Result<Option<PipelineRecord>> {
        self.probe().await?;
        self.read(Until::Visible).await?.map(|state| state.pipeline_record()).transpose()
    }

    fn takes_beside(&self) -> bool {
        true
    }

    fn is_log(&self) -> bool {
        true
    }

    async fn take_over(&self) -> Result<(WriterLease, PipelineRecord)> {
        drop(lock(&self.live).take());
        self.probe().await?;
        self.topics.ensure_checkpoints().await?;
        let options = Arc::clone(&self.options);
        // The fences first: what is read after them is what will be built upon.
        let under_way = Arc::new(AtomicUsize::new(client::UNDER_WAY));
        let pace = Pace::new(Arc::clone(&under_way));
        let (sender, partition, mut lane) = blocking(move || {
            let sender = writer::client_for(&options)?;
            let partition = read::partition(&sender, &options)?;
            Ok((sender, partition, Lane::open(&options, pace)?))
        })
        .await?;
        let found = self.read(Until::End).await?;
        let mut state = found.unwrap_or_default();
        let record = state.pipeline_record()?;
        state.epoch = state.epoch.next();
        state.owner = uuid::Uuid::new_v4().simple().to_string();
        let (epoch, owner) = (state.epoch, state.owner.clone());
        lane.epoch = epoch;
        let mut control = Control::new(&self.events);
        if self.events.provide_transaction_metadata {
            self.topics.ensure(&control.transaction_topic()).await?;
            self.introduce(&mut control, ControlKind::Transaction).await?;
        }
        if !self.events.heartbeat_interval.is_zero() {
            self.topics.ensure(&control.heartbeat_topic()).await?;
            self.introduce(&mut control, ControlKind::Heartbeat).await?;
        }
        let names = self.topics.names()?;
        let (jobs, work) = mpsc::channel();
        let options = Arc::clone(&self.options);
        let writer = Writer {
            sender,
            options: Arc::clone(&options),
            state,
            partition,
            counters: Arc::clone(&self.counters),
            pace: Pace::new(Arc::clone(&under_way)),
            control,
            beat: (!self.events.heartbeat_interval.is_zero()).then(std::time::Instant::now),
        };
        std::thread::Builder::new()
            .name("kafka-writer".into())
            .spawn(move || writer.run(&work))
            .map_err(|e| Error::new(codes::RT001, "no thread for the Kafka writer").with_source(e))?;
        let live = Arc::new(Live {
            epoch,
            jobs,
            units: Mutex::new(Units::new()),
            lane: Arc::new(Mutex::new(lane)),
            maker: Arc::clone(&self.topics),
            topics: Mutex::new(names),
            options,
            counters: Arc::clone(&self.counters),
            memory: Arc::default(),
            under_way,
            registry: self.registry.clone(),
        });
        // The epoch becomes visible before anything that is written under it.
        match live.change(Box::new(|_| ())).await? {
            CommitOutcome::Committed { .. } => {}
            CommitOutcome::Fenced { by } => {
                return Err(fenced(by));
            }
        }
        *lock(&self.live) = Some(live);
        Ok((WriterLease { epoch, owner }, record))
    }

    async fn open_table(
        &self,
        lease: &WriterLease,
        schema: Arc<TableSchema>,
        purpose: OpenFor,
        _cut: Option<&CutTable>,
    ) -> Result<(KafkaTable, TableRecord)> {
        let live = self.held(lease)?.map_err(|_| gone())?;
        let encoder = live.encoder(&schema, &self.events).await?;
        for column in encoder.dropped_columns() {
            tracing::warn!(table = %schema.name, column, "Debezium does not know the column's type: its events lack it");
        }
        let topic = encoder.topic().to_owned();
        let state = live.look().await?;
        let known = state
            .tables
            .get(&schema.id)
            .filter(|table| table.position.is_some() && matches!(purpose, OpenFor::Continue(_)));
        let (mut past, mut outdated) = (Past::default(), None);
        if let Some(known) = known {
            if known.topic == topic && !schema.is_messages() && !lock(&live.topics).contains(&topic) {
                return Err(table_error(
                    &schema.name,
                    codes::KF006,
                    format!("its topic \"{topic}\" is gone"),
                )
                .with_try(format!("strandline resync \"{}\" --yes", schema.name)));
            }
            (past, outdated) = self.follow(&live, known, &schema, purpose, &topic).await?;
        }
        // That of messages when the first one comes.
        if !schema.is_messages() {
            live.ensure_topic(&topic, Some(&schema.name)).await?;
        }
        let (position, copied_at, marks) = match known {
            Some(known) if outdated.is_none() => {
                (known.position()?, known.copied_at()?, Marks(known.marks.clone()))
            }
            _ => {
                // On record before the first row of the copy is in the topic: what streamed before is over.
                let (id, table) = (schema.id, Table::new(&schema, &topic));
                live.change(Box::new(move |state| state.set_table(id, table))).await?;
                (None, None, Marks::default())
            }
        };
        let version = live.look().await?.sequence;
        let record = TableRecord {
            target_id: topic,
            version,
            position,
            marks,
            copied_at,
            past,
            chunks: Default::default(),
            outdated,
        };
        let limits = live.limits(encoder.topic()).await?;
        Ok((KafkaTable::new(live, schema, Arc::clone(&self.events), encoder, limits), record))
    }

    fn close_unit(&self, to: CommitLsn, tables: &[TableId]) {
        if let Ok(live) = self.live() {
            live.close_unit(to, tables);
        }
    }

    async fn commit_cut(&self, lease: &WriterLease, cut: Cut) -> Result<CommitOutcome> {
        let live = match self.held(lease)? {
            Ok(live) => live,
            Err(fenced) => return Ok(fenced),
        };
        let (reply, outcome) = oneshot::channel();
        live.send(Job::Cut(cut, reply))?;
        outcome.await.map_err(|_| gone())?
    }

    async fn record(&self, lease: &WriterLease, change: RecordChange) -> Result<CommitOutcome> {
        match self.held(lease)? {
            Ok(live) => live.change(Box::new(move |state| state.apply(change))).await,
            Err(fenced) => Ok(fenced),
        }
    }

    async fn newest_epoch(&self) -> Result<Option<Epoch>> {
        Ok(self.read(Until::End).await?.map(|state| state.epoch))
    }

    fn written(&self) -> Written {
        Written { bytes: self.counters.bytes.load(Ordering::Relaxed), ..Written::default() }
    }

    async fn poll_requests(&self, _lease: &WriterLease) -> Result<Vec<Request>> {
        Ok(Vec::new())
    }
}
