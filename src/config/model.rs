//! What the configuration means: plain values, all checked. Nothing here knows the file's form.
//!
//! `Debug` of [`Config`] is the effective configuration for the log: secrets print as `***`.

use super::kafka::KafkaTarget;
use super::pattern::TablePattern;
use super::secret::SecretSource;
use crate::debezium::Options;
use crate::schema::TableName;
use crate::schema::change::ChangePolicy;
use crate::sink::write::{Maintenance, OnForeignChange, WriteChoices};
pub use crate::telemetry::logging::{LogFormat, LogLevel};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// Where a configuration came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This file, with the command line's flags over it.
    File(PathBuf),
    /// The command line alone.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::CommandLine => f.write_str("command line"),
        }
    }
}

/// A checked configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Where it came from.
    pub origin: Origin,
    /// The pipeline's name: `[A-Za-z0-9_-]{1,63}`. Part of `txn` ids and paths, so it must never change.
    pub name: String,
    /// The database.
    pub source: SourceConfig,
    /// Which tables.
    pub tables: TablesConfig,
    /// How the first copy is made.
    pub snapshot: SnapshotConfig,
    /// Where the tables go.
    pub sink: SinkConfig,
    /// How events look, for sinks that write events.
    pub format: Options,
    /// What happens with rows that cannot be represented.
    pub errors: ErrorsConfig,
    /// Limits.
    pub limits: LimitsConfig,
    /// The HTTP server; `None`: off.
    pub http: Option<HttpConfig>,
    /// The table of the source in which signals are written. `None`: there is none.
    pub signals: Option<TableName>,
    /// Which metrics are shown.
    pub metrics: MetricsConfig,
    /// When the state says that it stands still.
    pub health: crate::telemetry::health::Patience,
    /// Logging.
    pub log: LogConfig,
}

/// Host, port, database, user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceAddress {
    /// Name or address; a path that begins with `/` is the directory of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
}

impl fmt::Display for SourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{}@{host}:{}/{}", self.user, self.port, self.database)
    }
}

/// Which product the source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB: the server says which.
    MySql,
}

/// The source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceConfig {
    /// Which product.
    pub kind: SourceKind,
    /// Where it is.
    pub address: SourceAddress,
    /// The role's password.
    pub password: SecretSource,
    /// Encryption.
    pub tls: TlsConfig,
    /// Replication slot.
    pub slot: String,
    /// Publication.
    pub publication: String,
    /// Whether slot and publication are made when they are missing.
    pub create_if_missing: bool,
    /// What happens when the source's history cannot be joined to what the tables hold.
    pub on_position_lost: PositionLost,
    /// How often an idle database is touched so that the slot moves on. `None`: never.
    pub heartbeat: Option<Duration>,
    /// SQL that is run at each beat.
    pub heartbeat_action: Option<String>,
    /// Which transactions are replicated, by where they came from.
    pub origin: OriginChoice,
    /// Bytes of log that the source may keep for the slot. `None`: only its own limit counts.
    pub wal_budget: Option<u64>,
    /// What happens when they are used up.
    pub on_wal_budget: BudgetAction,
    /// A slot that is made is kept on standbys, too, where the server can.
    pub failover_slot: bool,
}

/// What happens when the budget for retained WAL is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BudgetAction {
    /// It is said, as loudly as can be.
    Warn,
    /// The slot is dropped: the source's disk before the pipeline.
    DropSlot,
}

/// Which transactions are replicated, by where they came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OriginChoice {
    /// All.
    Any,
    /// Only those that were made in the source: not what another replication brought there.
    None,
}

/// Encryption of the connection to the source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// How strict.
    pub mode: TlsMode,
    /// Certificate authorities (PEM); `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`, without `allow`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsMode {
    /// Plain text only.
    Disable,
    /// Encrypted when the server can; nothing is verified.
    Prefer,
    /// Encrypted; nothing is verified.
    Require,
    /// Encrypted, and the certificate must be from a known authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate must name the host.
    VerifyFull,
}

impl TlsMode {
    /// All of them.
    pub const ALL: [TlsMode; 5] =
        [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }

    /// The mode of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

/// Which tables are replicated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablesConfig {
    /// At least one of these must match.
    pub include: Vec<TablePattern>,
    /// None of these may match.
    pub exclude: Vec<TablePattern>,
    /// What happens with a table that is made later and matches.
    pub on_new_table: NewTable,
}

/// What happens with a table that is made while strandline runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewTable {
    /// It is copied and followed.
    Snapshot,
    /// It is left alone until the next start.
    Ignore,
}

impl TablesConfig {
    /// Whether the table is replicated.
    pub fn covers(&self, name: &TableName) -> bool {
        self.include.iter().any(|p| p.matches(name)) && !self.exclude.iter().any(|p| p.matches(name))
    }
}

/// What happens when the slot, its WAL or the server's history is not what the tables were filled from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PositionLost {
    /// strandline stops with the code of the loss.
    Stop,
    /// The slot is made anew and every table is copied again; targets keep their content until then.
    Resync,
}

/// How the first copy of a table is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotConfig {
    /// Connections that copy at the same time.
    pub workers: usize,
    /// Rows of a chunk of a copy.
    pub chunk_rows: u64,
    /// How long a snapshot is held.
    pub hold: SnapshotHold,
    /// More load of the source than this, and copies wait.
    pub max_source_load: SourceLoad,
}

/// Load of the source at which copies wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SourceLoad {
    /// Active sessions of others.
    pub active_sessions: Option<LoadSessions>,
    /// What a physical standby is behind.
    pub replica_lag: Option<Duration>,
}

/// How many sessions may be active.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadSessions {
    /// So many.
    Count(u64),
    /// Of a hundred that the server allows.
    Percent(u64),
}

/// How long a snapshot of the source is held: it keeps the source from cleaning up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SnapshotHold {
    /// Until the table is copied.
    #[default]
    Table,
    /// Until the chunk is, where tables are copied in chunks.
    Chunk,
}

/// Where the tables go, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkConfig {
    /// Where.
    pub target: SinkTarget,
    /// When a unit is committed: whichever comes first.
    pub commit: CommitConfig,
    /// How an object store is reached.
    pub store: StoreConfig,
    /// How rows are written.
    pub choices: WriteChoices,
    /// What happens with other people's changes.
    pub on_foreign_change: OnForeignChange,
    /// What is done beside the commits.
    pub maintenance: Maintenance,
    /// How changes of a table's columns are followed.
    pub schema_changes: ChangePolicy,
    /// What a `numeric` without precision becomes.
    pub numeric_unbounded: NumericUnbounded,
    /// What an infinite date or timestamp becomes.
    pub infinity: InfinityPolicy,
    /// What a column of a type that is not known becomes.
    pub unknown_types: UnknownTypesPolicy,
}

/// How an object store is reached, beside the environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreConfig {
    /// A file of settings and credentials; `None`: those of the environment alone.
    pub credentials: Option<PathBuf>,
    /// Where the store answers.
    pub endpoint: Option<Url>,
    /// S3's region.
    pub region: Option<String>,
    /// The bucket stands in the path, not in the host's name.
    pub path_style: Option<bool>,
    /// Certificate authorities (PEM) that are trusted beside the system's.
    pub ca: Option<PathBuf>,
}

/// The kind of sink and its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SinkTarget {
    /// Delta tables at `{uri}/{schema}/{table}`.
    Delta {
        /// The root, without a slash at its end.
        uri: Url,
    },
    /// Events in Kafka topics.
    Kafka(Box<KafkaTarget>),
    /// Lines of JSON on standard output.
    Stdout,
    /// Nothing is kept: for measuring the source.
    Discard,
}

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkTarget::Delta { uri } => write!(f, "{uri} (delta)"),
            SinkTarget::Kafka(target) => write!(f, "{target}"),
            SinkTarget::Stdout => f.write_str("stdout"),
            SinkTarget::Discard => f.write_str("discard"),
        }
    }
}

/// When a unit is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitConfig {
    /// At the latest this long after its first row.
    pub interval: Duration,
    /// At the latest with this many rows.
    pub max_rows: u64,
    /// At the latest with this many bytes in memory.
    pub max_bytes: u64,
}

/// What a `numeric` without precision becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NumericUnbounded {
    /// Text, exact.
    String,
    /// `decimal(precision, scale)`; a value that does not fit stops its table.
    Decimal {
        /// 1 to 38.
        precision: u8,
        /// 0 to `precision`.
        scale: u8,
    },
    /// A 64-bit float: not exact.
    Double,
}

/// What `infinity` of dates and timestamps becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InfinityPolicy {
    /// The row's table stops.
    Stop,
    /// Null: not exact, chosen by the operator.
    Null,
}

/// What a column of a type that is not known becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownTypesPolicy {
    /// Its table is refused.
    Stop,
    /// The server's text for it.
    Text,
}

/// What happens with rows that cannot be represented.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorsConfig {
    /// The row.
    pub bad_row: BadRow,
}

/// What happens with a row that cannot be represented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadRow {
    /// Its table stops.
    Stop,
}

/// Limits of this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Bytes that buffers may hold.
    pub memory: Option<u64>,
    /// Where large transactions wait until they commit. `None`: below the system's directory for such files.
    pub spill_dir: Option<PathBuf>,
}

/// The HTTP server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// What requests that change something must carry.
    pub token: Option<SecretSource>,
    /// Nothing can be changed over HTTP.
    pub read_only: bool,
    /// Whether the page is served.
    pub ui: bool,
}

/// Which metrics are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetricsConfig {
    /// Also those that Debezium's users know.
    pub debezium_compat: bool,
    /// Tables with a label of their own.
    pub max_table_labels: usize,
}

/// Logging.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// From this level up.
    pub level: LogLevel,
    /// Text or JSON.
    pub format: LogFormat,
}
