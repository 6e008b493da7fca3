//! One table's stream: batches become events when they are staged, so that a value that no event can hold stops
//! its table before anything of the unit is produced.

use super::amend::Amending;
use super::copy::{self, CopyRun};
use super::oversize::{Fit, Limits};
use super::spill::{Part, Shelf};
use super::state::stored;
use super::writer::Share;
use super::{Live, blocking, gone};
use crate::debezium::{Encoder, Marker, Occasion, Options as EventOptions};
use crate::error::{Error, Result, codes};
use crate::event::{ChangeBatch, ChunkKey, CopyPart, CopyWriter, SnapshotPoint};
use crate::position::{CommitLsn, Interval, Marks};
use crate::schema::{TableName, TableSchema};
use crate::sink::{AmendPart, Amended, Base, CommitOutcome, TableSink, table_error};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Rows that become events at once.
const PIECE: usize = 4096;

/// A table of the sink.
pub struct KafkaTable {
    pub(super) live: Arc<Live>,
    pub(super) schema: Arc<TableSchema>,
    pub(super) events: Arc<EventOptions>,
    number: u64,
    pub(super) topic: Arc<str>,
    pub(super) limits: Limits,
    /// The topic of messages is made when the first one comes.
    has_topic: bool,
    pub(super) encoder: Arc<Encoder>,
    staged: Vec<Part>,
    shelf: Shelf,
    /// What the next position means to other servers.
    marks: Marks,
    /// What the table became since its last unit, in order: on record with the unit that holds the rows from before.
    follows: Vec<Arc<TableSchema>>,
    /// The copy under way.
    run: Mutex<Option<Arc<CopyRun>>>,
    /// Rows of it are read again meanwhile.
    pub(super) amending: Option<Amending>,
}

impl KafkaTable {
    pub(super) fn new(
        live: Arc<Live>,
        schema: Arc<TableSchema>,
        events: Arc<EventOptions>,
        encoder: Encoder,
        limits: Limits,
    ) -> Self {
        let number = super::lock(&live.units).open(schema.id);
        let topic = Arc::from(encoder.topic());
        let encoder = Arc::new(encoder);
        let shelf = Shelf::new(Arc::clone(&live.memory), live.options.memory);
        let (staged, run) = (Vec::new(), Mutex::new(None));
        KafkaTable {
            live,
            schema,
            events,
            number,
            topic,
            limits,
            has_topic: false,
            encoder,
            staged,
            shelf,
            marks: Marks::default(),
            follows: Vec::new(),
            run,
            amending: None,
        }
    }
}

/// The configuration was right when the table was opened; a statement of the source's must not end the others.
fn no_longer_fits(name: &TableName, error: Error) -> Error {
    if error.code() != codes::CF003 {
        return error;
    }
    table_error(name, codes::KF012, error.cause_line())
        .with_try(format!("set the configuration right, restart, then strandline resync \"{name}\" --yes"))
}

/// Now, as events show it.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

impl TableSink for KafkaTable {
    async fn stage(&mut self, batch: ChangeBatch) -> Result<()> {
        if let Some(amending) = &mut self.amending {
            amending.note(&self.schema, &batch)?;
        }
        if batch.schema != *self.encoder.schema() {
            let encoder = self.live.encoder(&batch.schema, &self.events).await;
            self.encoder = Arc::new(encoder.map_err(|error| no_longer_fits(&self.schema.name, error))?);
        }
        if self.schema.is_messages() && !self.has_topic {
            self.live.ensure_topic(&self.topic, None).await?;
            self.limits = self.live.limits(&self.topic).await?;
            self.has_topic = true;
        }
        let options = Arc::clone(&self.live.options);
        let occasion = Occasion { now_ns: now_ns(), snapshot: None };
        // In pieces: events take several times the memory of the rows.
        for from in (0..batch.len()).step_by(PIECE) {
            let piece = batch.slice(from, PIECE.min(batch.len() - from));
            let fit = Fit { encoder: &self.encoder, options: &options, limits: self.limits };
            for records in fit.encode(&piece, &occasion)? {
                self.staged.push(self.shelf.put(records, &options.spill_dir)?);
            }
        }
        Ok(())
    }

    fn mark(&mut self, marks: Marks) {
        self.marks = marks;
    }

    async fn commit(&mut self, interval: Interval) -> Result<CommitOutcome> {
        let (reply, outcome) = oneshot::channel();
        let parts = std::mem::take(&mut self.staged);
        self.shelf.next_unit();
        let (table, topic) = (Arc::from(self.schema.name.to_string()), Arc::clone(&self.topic));
        let marks = std::mem::take(&mut self.marks);
        let follows = std::mem::take(&mut self.follows);
        let share = Share { table, topic, parts, marks, follows, reply };
        self.live.hand_in(self.schema.id, interval.to, share)?;
        outcome.await.map_err(|_| gone())?
    }

    fn evolve(&mut self, schema: Arc<TableSchema>) -> Result<()> {
        if let Some(amending) = &mut self.amending {
            amending.spoil("its columns changed meanwhile");
        }
        self.follows.push(Arc::clone(&schema));
        self.schema = schema;
        Ok(())
    }

    fn discard_staged(&mut self) {
        self.staged.clear();
        self.shelf.next_unit();
    }

    fn copy_writer(&self, point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        let mut current = super::lock(&self.run);
        // Writers of one copy share its point; a copy that begins again has another.
        let run = match current.take().filter(|run| run.point == *point) {
            Some(run) => run,
            None if *self.encoder.schema() == self.schema => {
                let encoder = Arc::clone(&self.encoder);
                Arc::new(CopyRun::new(Arc::clone(&self.live), encoder, (*point, self.limits)))
            }
            None => {
                let what = format!("table \"{}\" changed when its copy began", self.schema.name);
                return Err(Error::new(codes::KF007, what).with_try("nothing: it is opened again"));
            }
        };
        *current = Some(Arc::clone(&run));
        Ok(Box::new(copy::Writer::new(run)))
    }

    fn amend_begin(&mut self, request: &str) -> Result<Option<ChunkKey>> {
        self.begin_amending(request)
    }

    fn amend_watch(&mut self) {
        if let Some(amending) = &mut self.amending {
            amending.watch();
        }
    }

    fn amend_writer(&mut self, point: &SnapshotPoint) -> Result<Box<dyn CopyWriter>> {
        self.reader(point)
    }

    async fn amend(&mut self, part: AmendPart) -> Result<(Amended, CommitOutcome)> {
        self.put_out(part).await
    }

    fn amend_left(&mut self) -> Vec<ChunkKey> {
        self.left_to_amend()
    }

    fn amend_end(&mut self) -> Result<()> {
        self.amending = None;
        Ok(())
    }

    async fn commit_copy(
        &mut self,
        position: CommitLsn,
        parts: Vec<CopyPart>,
        _base: Base,
    ) -> Result<CommitOutcome> {
        let run = super::lock(&self.run).take();
        if let Some(run) = run {
            let held =
                parts.into_iter().filter_map(|part| part.0.downcast::<copy::Held>().ok()).map(|held| *held);
            let held: Vec<copy::Held> = held.collect();
            blocking(move || run.finish(held)).await?;
        } else if !parts.is_empty() {
            return Err(Error::new(codes::RT001, "parts of a copy that was not begun"));
        }
        let (schema, topic) = (Arc::clone(&self.schema), Arc::clone(&self.topic));
        self.follows.clear();
        let marks = std::mem::take(&mut self.marks).0;
        let change = Box::new(move |state: &mut super::State| {
            let at = Some(stored(position));
            let fresh = super::Table::new(&schema, &topic);
            let table = super::Table { position: at.clone(), copied_at: at, marks, ..fresh };
            state.set_table(schema.id, table);
        });
        self.live.change(change).await
    }
}

impl Drop for KafkaTable {
    fn drop(&mut self) {
        self.live.close_table(self.schema.id, self.number);
    }
}

/// The markers of a table's first and last row.
pub(super) fn ends(point: &SnapshotPoint) -> (Marker, Marker) {
    let first = if point.is_first { Marker::First } else { Marker::FirstInDataCollection };
    let last = if point.is_last { Marker::Last } else { Marker::LastInDataCollection };
    (first, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Disposition;

    #[test]
    fn a_column_that_the_configuration_names_and_that_went_stops_its_table_alone() {
        let name = TableName::new("public", "a");
        let stopped = no_longer_fits(&name, Error::new(codes::CF003, "no column \"phone\""));
        assert_eq!((stopped.code(), stopped.code().disposition), (codes::KF012, Disposition::HaltTable));
        assert!(!stopped.code().is_change() && stopped.cause_line().contains("phone"));
        assert_eq!(no_longer_fits(&name, gone()).code(), codes::KF007);
    }
}
