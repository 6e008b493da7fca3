//! What can be asked of a pipeline that runs here, and how it is handed to it.

use super::{
    AmendChoice, Config, Request, Result, Sql, TableName, amend, delta, events, model, pg_options, runtime,
};
use crate::debezium::{Encoder, Options as Events};
use crate::error::{Error, codes};
use crate::event::ChangeBatch;
use crate::http::{Control, Reread};
use crate::runtime::desk::{Counter, Desk, Wish};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that wait for who looks: what is beyond is not shown.
const TAPPED: usize = 64;

/// Both sides: who asks, and what the pipeline hears.
pub fn control(cfg: &Config) -> (Arc<dyn Control>, (runtime::Hold, Desk)) {
    let (set, hold) = runtime::Hold::new();
    let (counter, desk) = Desk::new();
    (Arc::new(Running { set, counter, cfg: cfg.clone() }), (hold, desk))
}

struct Running {
    set: tokio::sync::watch::Sender<bool>,
    counter: Counter,
    cfg: Config,
}

impl Control for Running {
    fn hold(&self, hold: bool) {
        self.set.send_replace(hold);
    }

    fn resync(&self, table: TableName) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async move {
            if !matches!(self.cfg.sink.target, model::SinkTarget::Delta { .. }) {
                self.counter.put(Wish::Copy(table));
                return Ok(());
            }
            // In the record: a death before it is done does not lose it.
            let id = uuid::Uuid::new_v4().simple().to_string();
            delta(&self.cfg)?.request(&Request { id, table, amend: None }).await
        })
    }

    fn reread(&self, wanted: Reread) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async move {
            let Reread { table, id, condition, is_blocking } = wanted;
            let is_postgres = self.cfg.source.kind == model::SourceKind::Postgres;
            let is_delta = matches!(self.cfg.sink.target, model::SinkTarget::Delta { .. });
            let is_kafka = matches!(self.cfg.sink.target, model::SinkTarget::Kafka(_));
            if condition.is_some() && (is_blocking || !is_postgres || !(is_delta || is_kafka)) {
                let what = "additional-conditions need the type incremental, a PostgreSQL source, and Delta or Kafka as the target";
                return Err(
                    Error::new(codes::CF004, what).with_try("leave them out: whole tables are copied")
                );
            }
            if let Some(condition) = &condition {
                let sql = Sql::connect(&pg_options(&self.cfg).await?).await?;
                amend::check_condition(&sql, &table, condition).await?;
            }
            let is_beside = is_kafka && is_postgres && !is_blocking;
            if !is_beside && condition.is_none() {
                return self.resync(table).await;
            }
            let request = Request { id, table, amend: Some(AmendChoice { condition }) };
            if is_kafka {
                self.counter.meet(&request).await
            } else {
                delta(&self.cfg)?.request(&request).await
            }
        })
    }

    fn end_rereads(&self, tables: &[TableName]) -> usize {
        self.counter.gate.cancel_rereads(tables)
    }

    fn leave(&self, table: TableName) {
        self.counter.gate.cancel(&table);
        self.counter.put(Wish::Leave(table));
    }

    fn hold_copies(&self, hold: bool) {
        self.counter.gate.shut(hold);
    }

    fn cancel_copy(&self, table: TableName) {
        self.counter.gate.cancel(&table);
    }

    fn tap(&self, table: TableName) -> mpsc::Receiver<String> {
        let (to, batches) = mpsc::channel(TAPPED);
        let (lines, shown) = mpsc::channel(TAPPED);
        self.counter.put(Wish::Tap(table, to));
        let options = Arc::new(events(&self.cfg));
        tokio::spawn(show(batches, lines, options));
        shown
    }
}

/// Writes batches as events, until nobody reads them.
async fn show(mut batches: mpsc::Receiver<ChangeBatch>, lines: mpsc::Sender<String>, options: Arc<Events>) {
    let mut encoder: Option<Encoder> = None;
    while let Some(batch) = batches.recv().await {
        if encoder.as_ref().is_none_or(|encoder| **encoder.schema() != *batch.schema) {
            encoder = Encoder::new(&batch.schema, &options).ok();
        }
        let Some(encoder) = &encoder else { return };
        let text = match crate::sink::stdout::event_lines(encoder, &batch) {
            Ok(text) => text,
            Err(error) => format!("{{\"error\":{:?}}}\n", error.code().id),
        };
        if lines.send(text).await.is_err() {
            return;
        }
    }
}
