//! The status board: one place where the runtime says what is, and everyone else reads it.
//!
//! [`Status`] is also the documented JSON form (`docs/STATUS.md`): `status -o json` prints it with and
//! without a running process, and `GET /api/v1/status` serves it. Adding a key is allowed; removing or
//! changing one is not. Every key is always there; what is not known is `null`, never a made-up zero.
//!
//! The state that people see is derived when the board changes: a pipeline that makes progress while a
//! table is stopped is `degraded`, whatever the runtime's phase is called.

use crate::error::{Code, Error};
use crate::position::{CommitLsn, Lsn};
use crate::schema::TableName;
use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A moment, as RFC 3339 text in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Now.
    pub fn now() -> Self {
        Timestamp::new(Utc::now())
    }

    /// That moment, to the millisecond: what is written and read again must be equal.
    pub fn new(moment: DateTime<Utc>) -> Self {
        Timestamp(moment.trunc_subsecs(3))
    }

    /// The moment that was so long before.
    pub fn before(self, span: Duration) -> Self {
        let earlier = chrono::Duration::from_std(span).ok().and_then(|span| self.0.checked_sub_signed(span));
        Timestamp::new(earlier.unwrap_or(self.0))
    }

    /// As a moment of `chrono`.
    pub fn utc(self) -> DateTime<Utc> {
        self.0
    }

    /// Seconds from this moment to now; zero when it is in the future.
    pub fn age_seconds(self) -> f64 {
        (Utc::now() - self.0).to_std().map_or(0.0, |age| age.as_secs_f64())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = DateTime::parse_from_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Timestamp::new(parsed.with_timezone(&Utc)))
    }
}

/// A log position, as the text `16/B374D848`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PositionText(pub Lsn);

impl From<CommitLsn> for PositionText {
    fn from(position: CommitLsn) -> Self {
        PositionText(position.lsn())
    }
}

impl From<Lsn> for PositionText {
    fn from(lsn: Lsn) -> Self {
        PositionText(lsn)
    }
}

impl fmt::Display for PositionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for PositionText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PositionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(PositionText).map_err(serde::de::Error::custom)
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// As it is written.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a pipeline does.
    PipelineState {
        /// It takes over: source, epoch, positions.
        Starting = "starting",
        /// First copies run.
        Snapshotting = "snapshotting",
        /// It applies a backlog.
        CatchingUp = "catching_up",
        /// It is at the end of the source's log.
        Streaming = "streaming",
        /// It reads nothing more until an operator says so.
        Paused = "paused",
        /// It makes progress, and something needs a person.
        Degraded = "degraded",
        /// It has something to do and makes no progress; it goes on by itself when the cause is gone.
        Stalled = "stalled",
        /// It finishes what is in flight.
        Stopping = "stopping",
        /// It cannot go on without a person.
        Failed = "failed",
        /// No process runs.
        Stopped = "stopped",
        /// A process holds the slot, and cannot be asked.
        Unknown = "unknown",
    }
}

words! {
    /// What happens with a table.
    TableState {
        /// It waits for its first copy.
        Pending = "pending",
        /// Its first copy runs.
        Snapshotting = "snapshotting",
        /// Copied; it applies what happened meanwhile.
        CatchingUp = "catching_up",
        /// Every version is a consistent prefix of the source's history.
        Live = "live",
        /// It comes back only through resync.
        Stopped = "stopped",
    }
}

words! {
    /// How bad a reason is.
    Severity {
        /// Good to know.
        Info = "info",
        /// It will become an error unless someone acts.
        Warning = "warning",
        /// A person must act.
        Error = "error",
    }
}

/// Why the state is what it is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reason {
    /// The code.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// Since when; `None`: no process was there to see it.
    pub since: Option<Timestamp>,
    /// What was found.
    pub text: String,
    /// What to do.
    pub fix: Option<String>,
    /// The table, `schema.table`.
    pub table: Option<String>,
    /// Comes and goes with [`Status::stalled`].
    #[serde(skip)]
    pub stall: bool,
}

impl Reason {
    /// From an error that holds now.
    pub fn from_error(error: &Error, severity: Severity) -> Self {
        Reason {
            code: error.code().id.to_owned(),
            severity,
            since: Some(Timestamp::now()),
            text: error.cause_line(),
            fix: error.advice().map(str::to_owned),
            table: None,
            stall: false,
        }
    }
}

/// A temporary error that is being tried again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Retrying {
    /// The code.
    pub code: String,
    /// Since when.
    pub since: Timestamp,
    /// What was found last.
    pub text: String,
}

/// Why a pipeline stands still although it has something to do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stall {
    /// The code.
    pub code: String,
    /// Since when.
    pub since: Timestamp,
    /// What was found.
    pub text: String,
    /// What to do.
    pub fix: Option<String>,
}

/// The operating-system process.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Whether one runs.
    pub running: bool,
    /// Its id, when it is known.
    pub pid: Option<u32>,
    /// When it began.
    pub started_at: Option<Timestamp>,
}

/// The source, each value as the source server says it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `user@host:port/database`.
    pub address: Option<String>,
    /// PostgreSQL's system identifier.
    pub system_id: Option<String>,
    /// Timeline.
    pub timeline: Option<u32>,
    /// `16.4`.
    pub server_version: Option<String>,
    /// Replication slot.
    pub slot: Option<String>,
    /// Publication.
    pub publication: Option<String>,
    /// Whether our replication stream is open.
    pub connected: bool,
    /// Whether the server says that someone streams from the slot.
    pub slot_active: Option<bool>,
    /// The end of what we have received.
    pub received: Option<PositionText>,
    /// The end of what the server has flushed.
    pub server_flushed: Option<PositionText>,
    /// Bytes of WAL that the slot keeps.
    pub retained_bytes: Option<u64>,
    /// Bytes of WAL that may still be written before the server discards some that the slot needs.
    #[serde(default)]
    pub safe_wal_bytes: Option<u64>,
    /// Seconds until the nearer limit of retained WAL is reached, should nothing be acknowledged meanwhile.
    #[serde(default)]
    pub seconds_to_loss: Option<u64>,
    /// Seconds for which a server that keeps its log for a time keeps what the target does not hold, at least.
    #[serde(default)]
    pub log_seconds_left: Option<u64>,
    /// `wal_status` of the slot.
    #[serde(default)]
    pub wal_status: Option<String>,
    /// Bytes of log that are not acknowledged, as the server says it.
    #[serde(default)]
    pub unacknowledged_bytes: Option<u64>,
}

/// One table.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableStatus {
    /// `schema.table`.
    pub name: String,
    /// State.
    pub state: TableState,
    /// Why it is stopped.
    pub code: Option<String>,
    /// What was found, and what to do.
    pub message: Option<String>,
    /// Its own position.
    pub position: Option<PositionText>,
    /// The target table's version.
    pub version: Option<i64>,
    /// Rows copied so far by a running first copy.
    pub rows_copied: Option<u64>,
    /// The source's estimate of the rows to copy.
    pub rows_estimate: Option<u64>,
    /// When its last copy began.
    #[serde(default)]
    pub copy_began: Option<Timestamp>,
}

impl TableStatus {
    /// A table about which nothing else is known yet.
    pub fn new(name: &TableName, state: TableState) -> Self {
        TableStatus {
            name: name.to_string(),
            state,
            code: None,
            message: None,
            position: None,
            version: None,
            rows_copied: None,
            rows_estimate: None,
            copy_began: None,
        }
    }

    /// Makes it stopped.
    pub fn stop(&mut self, code: Code, message: impl Into<String>) {
        self.state = TableState::Stopped;
        self.code = Some(code.id.to_owned());
        self.message = Some(message.into());
    }
}

/// Everything that is known about a pipeline. The documented JSON form.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of strandline.
    pub version: String,
    /// The pipeline.
    pub name: String,
    /// Its state: derived from `phase`, the tables and the reasons.
    pub state: PipelineState,
    /// What the runtime is doing.
    pub phase: PipelineState,
    /// A temporary error that is being tried again.
    pub retrying: Option<Retrying>,
    /// Why it stands still, when it does.
    #[serde(default)]
    pub stalled: Option<Stall>,
    /// The process.
    pub process: ProcessStatus,
    /// The source.
    pub source: SourceStatus,
    /// The position of the last cut.
    pub position: Option<PositionText>,
    /// What the slot was told (`confirmed_flush_lsn`).
    pub acknowledged: Option<PositionText>,
    /// Bytes from `position` to the end of the server's log.
    pub lag_bytes: Option<u64>,
    /// Seconds that the target is behind the source.
    pub lag_seconds: Option<f64>,
    /// When something was last committed to the target.
    pub last_commit: Option<Timestamp>,
    /// The tables, by name.
    pub tables: Vec<TableStatus>,
    /// Why the state is what it is.
    pub reasons: Vec<Reason>,
}

impl Status {
    /// A pipeline of this process that begins now.
    pub fn starting(name: &str) -> Self {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: name.to_owned(),
            state: PipelineState::Starting,
            phase: PipelineState::Starting,
            retrying: None,
            stalled: None,
            process: ProcessStatus {
                running: true,
                pid: Some(std::process::id()),
                started_at: Some(Timestamp::now()),
            },
            source: SourceStatus::default(),
            position: None,
            acknowledged: None,
            lag_bytes: None,
            lag_seconds: None,
            last_commit: None,
            tables: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// The table of that name, added as pending when it is not there.
    pub fn table(&mut self, name: &TableName) -> &mut TableStatus {
        let text = name.to_string();
        let at = match self.tables.binary_search_by(|table| table.name.as_str().cmp(&text)) {
            Ok(at) => at,
            Err(at) => {
                self.tables.insert(at, TableStatus::new(name, TableState::Pending));
                at
            }
        };
        &mut self.tables[at]
    }

    /// Whether the table was shown before.
    pub fn has_table(&self, name: &TableName) -> bool {
        let text = name.to_string();
        self.tables.binary_search_by(|table| table.name.as_str().cmp(&text)).is_ok()
    }

    /// Adds a reason, or renews one of the same code and table and keeps its `since`.
    pub fn add_reason(&mut self, mut reason: Reason) {
        let same = |old: &&mut Reason| old.code == reason.code && old.table == reason.table;
        match self.reasons.iter_mut().find(same) {
            Some(old) => {
                reason.since = old.since;
                *old = reason;
            }
            None => self.reasons.push(reason),
        }
    }

    /// Takes a pipeline-wide reason away.
    pub fn clear_reason(&mut self, code: Code) {
        self.reasons.retain(|reason| reason.table.is_some() || reason.code != code.id);
    }

    /// Computes what follows from the rest: reasons of stopped tables, and the state.
    pub fn settle(&mut self) {
        let old = std::mem::take(&mut self.reasons);
        let stays = |reason: &&Reason| reason.table.is_none() && !reason.stall;
        self.reasons = old.iter().filter(stays).cloned().collect();
        if let Some(Stall { code, since, text, fix }) = self.stalled.clone() {
            let reason = Reason {
                code,
                severity: Severity::Error,
                since: Some(since),
                text,
                fix,
                table: None,
                stall: true,
            };
            self.reasons.insert(0, reason);
        }
        for table in self.tables.iter().filter(|table| table.state == TableState::Stopped) {
            let code = table.code.clone().unwrap_or_default();
            let is_wanted = code == crate::error::codes::RT015.id;
            let before = old.iter().find(|r| r.table.as_ref() == Some(&table.name) && r.code == code);
            let (text, advice) = said_of(table);
            self.reasons.push(Reason {
                code,
                severity: if is_wanted { Severity::Info } else { Severity::Error },
                since: before.and_then(|reason| reason.since).or_else(|| Some(Timestamp::now())),
                text,
                fix: Some(match advice {
                    _ if is_wanted => format!("strandline resume \"{}\"", table.name),
                    Some(advice) => advice,
                    None => format!("strandline resync \"{}\" --yes", table.name),
                }),
                table: Some(table.name.clone()),
                stall: false,
            });
        }
        let progressing = matches!(
            self.phase,
            PipelineState::Snapshotting | PipelineState::CatchingUp | PipelineState::Streaming
        );
        let needs_a_person = self.reasons.iter().any(|reason| reason.severity == Severity::Error);
        let may_stall = progressing || self.phase == PipelineState::Starting;
        self.state = match self.phase {
            _ if may_stall && self.stalled.is_some() => PipelineState::Stalled,
            _ if progressing && needs_a_person => PipelineState::Degraded,
            phase => phase,
        };
    }
}

/// Why a table stopped, without its name, and what to try where the message says it.
fn said_of(table: &TableStatus) -> (String, Option<String>) {
    let Some(message) = &table.message else { return ("the table is stopped".to_owned(), None) };
    let named = format!("table \"{}\": ", table.name);
    let (text, advice) =
        message.split_once("; try: ").map_or((message.as_str(), None), |(t, a)| (t, Some(a)));
    (text.strip_prefix(&named).unwrap_or(text).to_owned(), advice.map(str::to_owned))
}

/// What can be learnt without asking the process: from the control table in the target and from the slot.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OfflineStatus {
    /// The source, as far as the server could be asked; `slot_active` says whether a process streams.
    pub source: SourceStatus,
    /// The position of the last cut.
    pub position: Option<PositionText>,
    /// Bytes from there to the end of the server's log.
    pub lag_bytes: Option<u64>,
    /// The slot's `confirmed_flush_lsn`.
    pub acknowledged: Option<PositionText>,
    /// When the last cut was committed.
    pub last_commit: Option<Timestamp>,
    /// The tables.
    pub tables: Vec<TableStatus>,
    /// What could not be asked, and what is wrong.
    pub reasons: Vec<Reason>,
}

impl OfflineStatus {
    /// The documented form.
    pub fn into_status(mut self, name: &str) -> Status {
        let active = self.source.slot_active == Some(true);
        let phase = if active { PipelineState::Unknown } else { PipelineState::Stopped };
        let lag_bytes = self.lag_bytes;
        if active {
            self.reasons.push(Reason {
                code: crate::error::codes::PG011.id.to_owned(),
                severity: Severity::Info,
                since: None,
                text: "a process streams from the slot, and its status cannot be read over HTTP".to_owned(),
                fix: Some("set http.listen, and ask on the machine where the process runs".to_owned()),
                table: None,
                stall: false,
            });
        }
        self.tables.sort_by(|a, b| a.name.cmp(&b.name));
        let mut status = Status {
            phase,
            process: ProcessStatus { running: active, pid: None, started_at: None },
            source: SourceStatus { connected: false, ..self.source },
            position: self.position,
            acknowledged: self.acknowledged,
            lag_bytes,
            last_commit: self.last_commit,
            tables: self.tables,
            reasons: self.reasons,
            ..Status::starting(name)
        };
        status.settle();
        status.reasons.iter_mut().for_each(|reason| reason.since = None);
        status
    }
}

/// The board. Clones show the same board.
#[derive(Clone, Debug)]
pub struct StatusBoard(Arc<Board>);

#[derive(Debug)]
struct Board {
    status: watch::Sender<Status>,
    began: Instant,
    /// Milliseconds after `began` of the core loop's last sign of life.
    beat: AtomicU64,
    /// Counts what became durable, and steps towards it.
    progress: AtomicU64,
    /// Something waits to become durable.
    owed: AtomicBool,
    /// The source did not answer when it was looked at.
    unanswered: Mutex<Option<Retrying>>,
}

impl StatusBoard {
    /// A board of a pipeline that begins now.
    pub fn new(name: &str) -> Self {
        StatusBoard(Arc::new(Board {
            status: watch::Sender::new(Status::starting(name)),
            began: Instant::now(),
            beat: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            owed: AtomicBool::new(false),
            unanswered: Mutex::new(None),
        }))
    }

    /// Changes the status; what follows from it is computed afterwards.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        self.0.status.send_modify(|status| {
            change(status);
            status.settle();
        });
    }

    /// Says what the runtime is doing now.
    pub fn set_phase(&self, phase: PipelineState) {
        self.update(|status| status.phase = phase);
    }

    /// Changes one table, added as pending when it is not there.
    pub fn update_table(&self, name: &TableName, change: impl FnOnce(&mut TableStatus)) {
        self.update(|status| change(status.table(name)));
    }

    /// Says that a temporary error is being tried again; keeps the moment at which it began.
    pub fn set_retrying(&self, error: &Error) {
        self.update(|status| {
            let since = status.retrying.as_ref().map_or_else(Timestamp::now, |old| old.since);
            let (code, text) = (error.code().id.to_owned(), error.cause_line());
            status.retrying = Some(Retrying { code, since, text });
            status.source.connected = false;
        });
    }

    /// Says what a look at the source from beside the stream found: that it does not answer, or that it does.
    pub fn set_unanswered(&self, error: Option<&Error>) {
        let mut noted = self.0.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        *noted = error.map(|error| Retrying {
            code: error.code().id.to_owned(),
            since: noted.as_ref().map_or_else(Timestamp::now, |old| old.since),
            text: error.cause_line(),
        });
    }

    /// What is being tried again, or does not answer.
    pub(super) fn trouble(&self, status: &Status) -> Option<Retrying> {
        let unanswered = || self.0.unanswered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.retrying.clone().or_else(unanswered)
    }

    /// Says that what was tried again works.
    pub fn clear_retrying(&self) {
        self.update(|status| status.retrying = None);
    }

    /// Says that nothing can go on, and why.
    pub fn fail(&self, error: &Error) {
        self.update(|status| {
            status.phase = PipelineState::Failed;
            status.add_reason(Reason::from_error(error, Severity::Error));
        });
    }

    /// A copy of the status.
    pub fn status(&self) -> Status {
        self.0.status.borrow().clone()
    }

    /// Looks at the status without a copy. Must not call other methods of the board.
    pub fn read<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.0.status.borrow())
    }

    /// Follows the status.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.0.status.subscribe()
    }

    /// Something became durable, or a step towards it was made: rows of a copy, a file, a commit.
    pub fn advance(&self) {
        self.0.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// How often [`StatusBoard::advance`] was called.
    pub fn progress(&self) -> u64 {
        self.0.progress.load(Ordering::Relaxed)
    }

    /// Says whether something was handed to the target that is not durable yet.
    pub fn set_owed(&self, owed: bool) {
        self.0.owed.store(owed, Ordering::Relaxed);
    }

    /// Whether something waits to become durable.
    pub fn is_owed(&self) -> bool {
        self.0.owed.load(Ordering::Relaxed)
    }

    /// The core loop's sign of life, from the very task that it is: nobody else may call it.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.beat.fetch_max(now, Ordering::Relaxed);
    }

    /// How long the core loop has given no sign of life.
    pub fn silence(&self) -> Duration {
        self.0.began.elapsed().saturating_sub(Duration::from_millis(self.0.beat.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::codes;

    fn orders() -> TableName {
        TableName::new("public", "orders")
    }

    #[test]
    fn a_stopped_table_degrades_a_pipeline_that_makes_progress() {
        let board = StatusBoard::new("shop");
        assert_eq!(board.status().state, PipelineState::Starting);
        board.set_phase(PipelineState::Streaming);
        board.update_table(&orders(), |table| table.state = TableState::Live);
        assert_eq!(board.status().state, PipelineState::Streaming);
        board.update_table(&orders(), |table| table.stop(codes::PG022, "column \"total\" changed"));
        let status = board.status();
        assert_eq!((status.state, status.phase), (PipelineState::Degraded, PipelineState::Streaming));
        assert_eq!(status.reasons[0].table.as_deref(), Some("public.orders"));
        assert_eq!(status.reasons[0].fix.as_deref(), Some("strandline resync \"public.orders\" --yes"));
        let since = status.reasons[0].since;
        board.update(|status| status.lag_bytes = Some(1));
        assert_eq!(board.status().reasons[0].since, since);
        board.update_table(&orders(), |table| table.state = TableState::Live);
        assert_eq!(board.status().state, PipelineState::Streaming);
        assert_eq!(board.status().reasons, []);
    }

    #[test]
    fn a_failure_names_its_code_and_a_retry_keeps_its_beginning() {
        let board = StatusBoard::new("shop");
        let error = Error::new(codes::PG040, "slot \"s\" is gone").with_try("resync");
        board.set_retrying(&Error::new(codes::PG006, "refused"));
        let since = board.status().retrying.unwrap().since;
        board.set_retrying(&Error::new(codes::PG006, "refused again"));
        let retrying = board.status().retrying.unwrap();
        assert_eq!((retrying.since, retrying.text.as_str()), (since, "refused again"));
        board.fail(&error);
        let status = board.status();
        assert_eq!((status.state, status.reasons[0].code.as_str()), (PipelineState::Failed, "PG040"));
        board.update(|status| status.clear_reason(codes::PG040));
        assert_eq!(board.status().reasons, []);
    }

    #[test]
    fn tables_are_kept_by_name() {
        let board = StatusBoard::new("shop");
        for name in ["c", "a", "b", "a"] {
            board.update_table(&TableName::new("s", name), |_| {});
        }
        let names: Vec<String> = board.status().tables.into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["s.a", "s.b", "s.c"]);
    }

    #[test]
    fn the_documented_keys_are_always_there() {
        let json = serde_json::to_value(Status::starting("shop")).unwrap();
        for key in [
            "version",
            "name",
            "state",
            "process",
            "source",
            "position",
            "acknowledged",
            "lag_bytes",
            "tables",
            "reasons",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        let mut status = Status::starting("shop");
        status.position = Some(PositionText(Lsn::new(0x16_B374_D848)));
        let table = status.table(&orders());
        table.version = Some(7);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["position"], "16/B374D848");
        assert_eq!(json["tables"][0]["state"], "pending");
        for key in ["name", "state", "code", "message", "position", "version"] {
            assert!(json["tables"][0].get(key).is_some(), "{key}");
        }
        assert_eq!(serde_json::from_value::<Status>(json).unwrap().position, status.position);
    }

    #[test]
    fn the_json_form_round_trips() {
        let board = StatusBoard::new("shop");
        board.set_retrying(&Error::new(codes::PG006, "refused"));
        board.update_table(&orders(), |table| table.stop(codes::PG022, "x"));
        let text = serde_json::to_string(&board.status()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), board.status());
    }

    #[test]
    fn without_a_process_the_state_is_stopped_and_with_a_stranger_unknown() {
        let mut offline = OfflineStatus {
            position: Some(Lsn::new(100).into()),
            lag_bytes: Some(250),
            source: SourceStatus { server_flushed: Some(Lsn::new(350).into()), ..SourceStatus::default() },
            ..OfflineStatus::default()
        };
        let status = offline.clone().into_status("shop");
        assert_eq!((status.state, status.process.running), (PipelineState::Stopped, false));
        assert_eq!((status.lag_bytes, status.process.pid), (Some(250), None));
        offline.source.slot_active = Some(true);
        let status = offline.into_status("shop");
        assert_eq!((status.state, status.process.running), (PipelineState::Unknown, true));
        assert_eq!(status.reasons[0].code, "PG011");
    }

    #[test]
    fn a_sign_of_life_ends_the_silence() {
        let board = StatusBoard::new("shop");
        while board.0.began.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        let silence = board.silence();
        assert!(silence >= Duration::from_millis(5));
        let now = board.0.began.elapsed();
        board.beat();
        let beat = Duration::from_millis(board.0.beat.load(Ordering::Relaxed));
        assert!(beat + Duration::from_millis(1) >= now);
    }
}
