//! Tables that are put right where they are: requests, the tasks that meet them, and the place of each part in the stream.

use super::super::amending::{Amending, Halt, Placed, Tally};
use super::super::copying::Snapshotter;
use super::super::notes::{self, Reread};
use super::super::recorder::Entry;
use super::super::worker::Gone;
use super::super::worker::{Amend, Door};
use super::{COPY_LATER, Driver};
use crate::error::{Error, Result, codes};
use crate::position::Lsn;
use crate::replication::Input;
use crate::schema::{TableId, TableName};
use crate::sink::{RefusedRequest, Request, Sink, table_error};
use crate::source::{CopySession, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// So often a request is begun anew when the table's columns change meanwhile.
const BEGINNINGS: u32 = 5;

/// A log takes a part as one transaction, and compares nothing.
const LOG_CHUNK: u64 = 16_384;

/// What happens beside the stream.
pub(super) enum Beside {
    Placed(Placed),
    Ended(std::result::Result<Ended, tokio::task::JoinError>),
}

/// A task that ended.
pub(super) struct Ended {
    request: Request,
    result: std::result::Result<Tally, Halt>,
}

/// What is under way.
pub(super) struct Amends {
    tasks: JoinSet<Ended>,
    running: BTreeSet<TableName>,
    place: mpsc::UnboundedSender<Placed>,
    placed: mpsc::UnboundedReceiver<Placed>,
    /// Parts that wait for their place.
    waiting: Vec<Placed>,
    /// Tables with something staged that is not committed.
    pub(super) staged: BTreeSet<TableId>,
    begun: BTreeMap<String, u32>,
    /// Requests that were on record at the start, before whose end a run does not end by itself.
    owed: BTreeSet<String>,
    target: Option<Lsn>,
    /// Who waits until a request is on record.
    asked: BTreeMap<String, Vec<oneshot::Sender<()>>>,
}

/// Requests that the copies of the start have answered.
pub(super) fn answered(requests: Vec<Request>) -> Vec<String> {
    requests.into_iter().filter(|request| request.amend.is_none()).map(|request| request.id).collect()
}

impl Amends {
    /// None yet; these were on record at the start.
    pub(super) fn new(requests: &[Request]) -> Self {
        let owed = requests.iter().filter(|r| r.amend.is_some()).map(|r| r.id.clone()).collect();
        let (place, placed) = mpsc::unbounded_channel();
        Amends {
            tasks: JoinSet::new(),
            running: BTreeSet::new(),
            place,
            placed,
            waiting: Vec::new(),
            staged: BTreeSet::new(),
            begun: BTreeMap::new(),
            owed,
            target: None,
            asked: BTreeMap::new(),
        }
    }

    /// Somebody waits until this request is on record.
    pub(super) fn ask(&mut self, id: &str, reply: oneshot::Sender<()>) {
        self.asked.entry(id.to_owned()).or_default().push(reply);
    }

    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Beside {
        loop {
            tokio::select! {
                Some(placed) = self.placed.recv() => return Beside::Placed(placed),
                Some(ended) = self.tasks.join_next() => return Beside::Ended(ended),
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// What a run is to reach before it ends: at once, or when what is owed is done.
    pub(super) fn hold_target(&mut self, target: Lsn) -> Option<Lsn> {
        if self.owed.is_empty() {
            return Some(target);
        }
        self.target = Some(target);
        None
    }
}

impl<S: Source, K: Sink> Driver<S, K> {
    /// A request that was made here is on record.
    pub(super) async fn asked(&mut self, request: Request) -> Result<()> {
        for reply in self.amends.asked.remove(&request.id).unwrap_or_default() {
            // Who asked may have lost patience.
            let _gone = reply.send(());
        }
        if self.is_ending() { Ok(()) } else { self.answer(request).await }
    }

    /// Begins to meet a request.
    pub(super) async fn begin_amending(&mut self, request: Request) -> Result<()> {
        let name = request.table.clone();
        if self.amends.running.contains(&name) || self.copying.contains(&name) {
            return Ok(());
        }
        let begun = self.amends.begun.entry(request.id.clone()).or_default();
        *begun += 1;
        let found = match *begun > BEGINNINGS {
            true => Err("its columns change again and again"),
            false => self.amendable(&name),
        };
        let (door, schema) = match found {
            Ok(found) => found,
            Err(why) => return self.refuse(&request, why).await,
        };
        let metrics = self.meters.metrics.clone();
        let (mut copies, gate) = (self.options.copies, self.options.desk.gate.clone());
        if self.sink.is_log() {
            copies.chunk_rows = copies.chunk_rows.min(LOG_CHUNK);
        }
        gate.admit(&name);
        gate.rereads(&name, true);
        let amending = Amending {
            source: Arc::clone(&self.source),
            snapshotter: Snapshotter::new(Arc::clone(&self.source), None, metrics, copies, gate),
            copies,
            schema,
            estimate: None,
            request: request.clone(),
            door,
            place: self.amends.place.clone(),
            board: self.board.clone(),
            rows: Arc::default(),
            tally: Tally::default(),
        };
        if *self.amends.begun.get(&request.id).unwrap_or(&1) == 1 {
            self.sink.notify(notes::reread(&request.id, &name, &Reread::Started));
        }
        self.amends.running.insert(name);
        self.amends.tasks.spawn(async move { Ended { request, result: Box::pin(amending.run()).await } });
        Ok(())
    }

    fn amendable(
        &self,
        name: &TableName,
    ) -> std::result::Result<(Door, Arc<crate::schema::TableSchema>), &'static str> {
        if !S::Copy::CAN_PICK {
            return Err("this source cannot say which changes a row that is read holds");
        }
        let id = self.names.iter().find(|(id, known)| *known == name && self.workers.contains_key(id));
        let Some((worker, schema)) =
            id.and_then(|(id, _)| Some((self.workers.get(id)?, self.schemas.get(id)?)))
        else {
            return Err("it does not follow the stream: it is stopped, or not copied yet");
        };
        if !schema.has_key() {
            return Err("it has no key");
        }
        Ok((worker.door(), Arc::clone(schema)))
    }

    async fn refuse(&mut self, request: &Request, why: &str) -> Result<()> {
        let error = table_error(&request.table, codes::TG029, why);
        self.amend_failed(request, &error).await
    }

    async fn amend_failed(&mut self, request: &Request, error: &Error) -> Result<()> {
        tracing::error!(
            table = %request.table, code = %error.code(), request = %request.id,
            "it is not put right: {}", error.cause_line()
        );
        self.meters.metrics.error(error.code());
        let is_keyless = self.schemas.values().any(|s| s.name == request.table && !s.has_key());
        let status = if is_keyless { "NO_PRIMARY_KEY" } else { "SQL_EXCEPTION" };
        self.sink.notify(notes::reread(&request.id, &request.table, &Reread::Aborted(Some(status))));
        // Whoever asked looks there.
        self.tell(Entry::Refused(Box::new(RefusedRequest {
            id: request.id.clone(),
            table: request.table.clone(),
            code: error.code(),
            message: error.cause_line(),
        })))?;
        self.amend_over(&request.id).await
    }

    async fn amend_answered(&mut self, id: &str) -> Result<()> {
        self.tell(Entry::Resumed { tables: Vec::new(), answered: vec![id.to_owned()] })?;
        self.amend_over(id).await
    }

    /// What is on record no more, and nobody works at, is done: its last part was.
    pub(super) async fn settle(&mut self, requests: &[Request]) -> Result<()> {
        if !self.amends.running.is_empty() {
            return Ok(());
        }
        let on_record = |id: &str| requests.iter().any(|request| request.id == id);
        let done: Vec<String> = self.amends.owed.iter().filter(|id| !on_record(id)).cloned().collect();
        for id in done {
            self.amend_over(&id).await?;
        }
        Ok(())
    }

    async fn amend_over(&mut self, id: &str) -> Result<()> {
        self.amends.begun.remove(id);
        self.amends.owed.remove(id);
        match self.amends.target.take_if(|_| self.amends.owed.is_empty()) {
            Some(target) => self.feed(Input::Target(target)).await,
            None => Ok(()),
        }
    }

    pub(super) async fn beside(&mut self, what: Beside) -> Result<()> {
        match what {
            Beside::Placed(placed) => {
                if self.coordinator.view().received < placed.at {
                    // An idle server says nothing for long: something of ours makes it speak.
                    let source = Arc::clone(&self.source);
                    tokio::spawn(async move {
                        if let Err(error) = source.heartbeat().await {
                            tracing::debug!(code = %error.code(), "no heartbeat: {}", error.cause_line());
                        }
                    });
                }
                self.amends.waiting.push(placed);
                Ok(())
            }
            Beside::Ended(ended) => {
                let Ended { request, result } =
                    ended.map_err(|e| Error::new(codes::RT001, "putting rows right broke").with_source(e))?;
                self.amends.running.remove(&request.table);
                self.options.desk.gate.rereads(&request.table, false);
                self.amends.waiting.retain(|placed| !placed.reply.is_closed());
                self.amend_ended(request, result).await
            }
        }
    }

    async fn amend_ended(
        &mut self,
        request: Request,
        result: std::result::Result<Tally, Halt>,
    ) -> Result<()> {
        match result {
            Ok(Tally { confirmed, written, removed }) => {
                tracing::info!(
                    table = %request.table, request = %request.id, confirmed, written, removed,
                    "its rows are right"
                );
                let told = |what| notes::reread(&request.id, &request.table, &what);
                self.sink.notify(told(Reread::Scanned(confirmed + written)));
                self.sink.notify(told(Reread::Completed));
                self.amend_answered(&request.id).await
            }
            // The request stays on record: it is met again, or a new copy answers it, or it is refused.
            Err(Halt::Gone) => Ok(()),
            Err(Halt::Failed(error)) if error.code().is_change() => {
                tracing::info!(table = %request.table, "{}: begun again", error.cause_line());
                Ok(())
            }
            Err(Halt::Failed(error)) if COPY_LATER.contains(&error.code()) => {
                tracing::warn!(
                    table = %request.table, code = %error.code(), "tried again: {}", error.cause_line()
                );
                self.amends.begun.remove(&request.id);
                Ok(())
            }
            Err(Halt::Failed(error)) if error.code() == codes::RT015 => {
                tracing::info!(table = %request.table, request = %request.id, "{}", error.cause_line());
                self.sink.notify(notes::reread(&request.id, &request.table, &Reread::Aborted(None)));
                self.amend_answered(&request.id).await
            }
            Err(Halt::Failed(error)) if error.code().disposition == crate::error::Disposition::HaltTable => {
                self.amend_failed(&request, &error).await
            }
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    /// Gives waiting parts to their tables, where everything up to their snapshot is in, and no unit is open.
    pub(super) async fn place_amends(&mut self) {
        if self.amends.waiting.is_empty() {
            return;
        }
        let received = self.coordinator.view().received;
        for placed in std::mem::take(&mut self.amends.waiting) {
            let Placed { table, generation, at, part, reply } = placed;
            // Who read it has ended: whoever comes next watches anew, and would judge it by what it does not know.
            if reply.is_closed() {
                continue;
            }
            let worker = self.workers.get(&table).filter(|worker| worker.generation() == generation);
            let Some(worker) = worker else { continue };
            let is_open = self.coordinator.is_touched(table) || self.amends.staged.contains(&table);
            if received < at || is_open {
                self.amends.waiting.push(Placed { table, generation, at, part, reply });
                continue;
            }
            // A worker that is gone has said why in an event; who waits hears nothing, which says as much.
            let (Ok(()) | Err(Gone)) = worker.amend(Amend::Part(Box::new(part), reply)).await;
        }
    }
}
