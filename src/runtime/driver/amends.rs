//! Tables that are put right where they are: requests, the tasks that meet them, and the place of each part in the stream.

use super::super::amending::{Amending, Halt, Placed, Tally};
use super::super::copying::Snapshotter;
use super::super::notes::{self, Reread};
use super::super::recorder::Entry;
use super::super::worker::Gone;
use super::super::worker::{Amend, Door, Worker};
use super::{COPY_LATER, Driver};
use crate::error::{Error, Result, codes};
use crate::position::{CommitLsn, Lsn};
use crate::replication::Input;
use crate::schema::{TableForm, TableId, TableName};
use crate::sink::{RefusedRequest, Request, Sink, table_error};
use crate::source::{CopySession, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// So often a request is begun anew when the table's columns change meanwhile …
const BEGINNINGS: u32 = 5;
/// … and so often while it is not known to what: about a minute.
const WAITS: u32 = 60;

/// How often a request was begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Begun {
    /// Each time with other columns.
    anew: u32,
    /// With the same ones since they were known.
    waits: u32,
    form: Option<TableForm>,
}

impl Begun {
    /// Once more, with columns of this form. Returns whether that is too often.
    fn again(&mut self, form: Option<TableForm>) -> bool {
        if self.anew == 0 || form != self.form {
            (self.anew, self.waits, self.form) = (self.anew + 1, 0, form);
        } else {
            self.waits += 1;
        }
        self.anew > BEGINNINGS || self.waits > WAITS
    }
}

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
    begun: BTreeMap<String, Begun>,
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

/// What becomes of a part that waits for its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It is placed.
    Now,
    /// Not everything up to its snapshot is in, or a unit is open.
    Early,
    /// Who read it has ended, or who watched meanwhile: whoever comes next watches anew, and would judge it by what
    /// it does not know.
    Worthless,
}

fn fate(placed: &Placed, committer: Option<u64>, received: CommitLsn, is_open: bool) -> Fate {
    if placed.reply.is_closed() || committer != Some(placed.generation) {
        return Fate::Worthless;
    }
    if received < placed.at || is_open { Fate::Early } else { Fate::Now }
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
        let found = self.amendable(&name);
        let form = found.as_ref().ok().map(|(_, schema)| schema.form);
        let is_too_often = self.amends.begun.entry(request.id.clone()).or_default().again(form);
        let found = if is_too_often { Err("its columns change again and again") } else { found };
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
        if self.amends.begun.get(&request.id).is_none_or(|begun| (begun.anew, begun.waits) == (1, 0)) {
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
                // Nothing in the stream need say what changed: it is looked at now.
                self.check_all().await?;
                self.begin_wanted().await?;
                self.poll()
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
            let table = placed.table;
            let worker = self.workers.get(&table);
            let is_open = self.coordinator.is_touched(table) || self.amends.staged.contains(&table);
            match fate(&placed, worker.map(Worker::generation), received, is_open) {
                Fate::Worthless => continue,
                Fate::Early => {
                    self.amends.waiting.push(placed);
                    continue;
                }
                Fate::Now => {}
            }
            let Placed { part, reply, .. } = placed;
            let Some(worker) = worker else { continue };
            // A worker that is gone has said why in an event; who waits hears nothing, which says as much.
            let (Ok(()) | Err(Gone)) = worker.amend(Amend::Part(Box::new(part), reply)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::AmendPart;
    use tokio::sync::oneshot;

    #[test]
    fn a_part_is_placed_once_all_up_to_its_snapshot_is_in_and_never_by_another_committer_or_for_nobody() {
        let at = |raw| CommitLsn::end_of_commit(Lsn::new(raw));
        let (reply, answer) = oneshot::channel();
        let part = AmendPart {
            request: "r".into(),
            at: at(50),
            range: None,
            read: None,
            keys: vec![],
            ends: vec![],
            parts: vec![],
        };
        let placed = Placed { table: TableId(1), generation: 7, at: at(50), part, reply };
        assert_eq!(fate(&placed, Some(7), at(49), false), Fate::Early);
        assert_eq!(fate(&placed, Some(7), at(50), true), Fate::Early);
        assert_eq!(fate(&placed, Some(7), at(50), false), Fate::Now);
        // The table was copied anew, or stopped, meanwhile.
        assert_eq!(fate(&placed, Some(8), at(50), false), Fate::Worthless);
        assert_eq!(fate(&placed, None, at(49), true), Fate::Worthless);
        drop(answer);
        assert_eq!(fate(&placed, Some(7), at(50), false), Fate::Worthless);
    }

    #[test]
    fn a_request_is_given_up_when_its_columns_change_too_often_not_while_it_waits_to_see_how() {
        let form = |published| Some(TableForm { published, ..TableForm::default() });
        let mut begun = Begun::default();
        for change in 0..BEGINNINGS.into() {
            assert!(!begun.again(form(change)), "change {change}");
            assert!((0..WAITS).all(|_| !begun.again(form(change))));
        }
        assert!(begun.again(form(99)));
        let mut begun = Begun::default();
        let times = (0..).take_while(|_| !begun.again(form(1))).count();
        assert_eq!(times, 1 + WAITS as usize);
    }
}
