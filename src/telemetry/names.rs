//! All names of metrics, without the prefix `strandline_`.
//!
//! Counters are written here without `_total`: the encoder adds it. Base units, no rates, no positions as
//! labels. The only unbounded label is `table`, and [`TABLE_LIMIT`] bounds it.

/// Before every name.
pub const PREFIX: &str = "strandline";
/// Tables with their own label; further ones share [`OTHER_TABLES`].
pub const TABLE_LIMIT: usize = 500;
/// The label of tables beyond [`TABLE_LIMIT`].
pub const OTHER_TABLES: &str = "__other__";

/// Gauge, always 1: `version`, `commit`.
pub const BUILD: &str = "build";
/// Gauge, 0 or 1: `state`.
pub const UP_STATE: &str = "up_state";
/// Gauge, 0 or 1: whether the replication stream is open.
pub const SOURCE_CONNECTED: &str = "source_connected";
/// Gauge, bytes of log that the server has and the target does not. Absent when unknown.
pub const SOURCE_LAG_BYTES: &str = "source_lag_bytes";
/// Gauge, seconds that the target is behind. Absent when unknown.
pub const SOURCE_LAG_SECONDS: &str = "source_lag_seconds";
/// Gauge, bytes of WAL that the slot keeps on the server. Absent when unknown.
pub const PG_SLOT_RETAINED_BYTES: &str = "pg_slot_retained_bytes";
/// Gauge, bytes of WAL that may still be written before the slot loses some. Absent without a limit.
pub const PG_SLOT_SAFE_WAL_BYTES: &str = "pg_slot_safe_wal_bytes";
/// Gauge, seconds until the nearer limit of retained WAL is reached. Absent when unknown.
pub const PG_SLOT_SECONDS_TO_LOSS: &str = "pg_slot_seconds_to_loss";
/// Gauge, seconds for which a MySQL keeps what the target does not hold yet, at least. Absent when it keeps it for ever.
pub const MYSQL_BINLOG_REMAINING_SECONDS: &str = "mysql_binlog_remaining_seconds";
/// Gauge, seconds since the last commit to the target. Absent before the first one.
pub const LAST_COMMIT_AGE_SECONDS: &str = "last_commit_age_seconds";
/// Gauge: `state` of a table.
pub const TABLES: &str = "tables";
/// Counter: `table`, `op` (Debezium's letters r c u d t m).
pub const EVENTS: &str = "events";
/// Counter: transactions received whole.
pub const TRANSACTIONS: &str = "transactions";
/// Gauge: bytes in memory of transactions that have not committed.
pub const TRANSACTION_OPEN_BYTES: &str = "transaction_open_bytes";
/// Counter: bytes of such transactions that were put on disk.
pub const TRANSACTION_SPILLED_BYTES: &str = "transaction_spilled_bytes";
/// Counter: `result` of a commit to a target table.
pub const SINK_COMMITS: &str = "sink_commits";
/// Histogram: how long a commit to a target table took.
pub const SINK_COMMIT_SECONDS: &str = "sink_commit_seconds";
/// Counter: `op` (upsert, delete, copy).
pub const SINK_ROWS: &str = "sink_rows";
/// Counter: data files written.
pub const SINK_FILES: &str = "sink_files";
/// Counter: bytes of data files written.
pub const SINK_BYTES: &str = "sink_bytes";
/// Counter: `table`; rows read by first copies.
pub const SNAPSHOT_ROWS: &str = "snapshot_rows";
/// Gauge: bytes held in buffers.
pub const BUFFER_BYTES: &str = "buffer_bytes";
/// Counter: `code`.
pub const ERRORS: &str = "errors";
/// Gauge: resident memory of the process.
pub const MEMORY_RESIDENT_BYTES: &str = "memory_resident_bytes";
/// Counter: processor time of the process, user and system.
pub const CPU_SECONDS: &str = "cpu_seconds";
/// Counter: `reason` (a code); how often the replication connection was lost.
pub const SOURCE_RECONNECTS: &str = "source_reconnects";
/// Histogram: from the commit at the source to the cut that makes it visible in the target.
pub const END_TO_END_LATENCY_SECONDS: &str = "end_to_end_latency_seconds";
/// Gauge: `status` (reserved, extended, unreserved, lost), 1 for the current one. Absent when unknown.
pub const PG_SLOT_WAL_STATUS: &str = "pg_slot_wal_status";
/// Gauge, 0 or 1: whether somebody streams from the slot. Absent when unknown.
pub const PG_SLOT_ACTIVE: &str = "pg_slot_active";
/// Gauge, bytes of log that are not acknowledged. Absent when unknown.
pub const PG_CONFIRMED_FLUSH_LAG_BYTES: &str = "pg_confirmed_flush_lag_bytes";
/// Gauge, seconds since the last change came. Absent before the first one.
pub const LAST_EVENT_AGE_SECONDS: &str = "last_event_age_seconds";
/// Gauge, seconds since the source said anything, a keepalive too. Absent before the first word.
pub const HEARTBEAT_AGE_SECONDS: &str = "heartbeat_age_seconds";
/// Counter: bytes of row events received.
pub const EVENTS_BYTES: &str = "events_bytes";
/// Gauge: bytes that buffers may hold.
pub const BUFFER_LIMIT_BYTES: &str = "buffer_limit_bytes";
/// Counter: `stage`; seconds for which reading waited.
pub const BACKPRESSURE_SECONDS: &str = "backpressure_seconds";
/// Gauge, always 1: `table`, `state` (running, done, stopped) of its copy.
pub const SNAPSHOT_STATE: &str = "snapshot_state";
/// Gauge: `table`; rows to copy, by the source's estimate.
pub const SNAPSHOT_ROWS_ESTIMATED: &str = "snapshot_rows_estimated";
/// Gauge: how long the oldest running copy has run. Absent when none does.
pub const SNAPSHOT_ELAPSED_SECONDS: &str = "snapshot_elapsed_seconds";
/// Counter: commits of the target that found their version taken.
pub const SINK_CONFLICTS: &str = "sink_conflicts";
/// Gauge: `table`; the target table's version.
pub const SINK_TABLE_VERSION: &str = "sink_table_version";
/// Counter: files that upkeep wrote anew into others.
pub const MERGE_FILES_REWRITTEN: &str = "merge_files_rewritten";
/// Bytes written for each byte of new rows.
pub const MERGE_WRITE_AMPLIFICATION: &str = "merge_write_amplification";
/// Data files of the target table.
pub const SINK_TABLE_FILES: &str = "sink_table_files";
/// The part of a target table's rows that readers skip.
pub const MERGE_READ_DEBT_RATIO: &str = "merge_read_debt_ratio";
/// Counter: `kind` (added, dropped, renamed, widened, retyped, …), `action` (in_place, resync, stop).
pub const SCHEMA_CHANGES: &str = "schema_changes";
/// Gauge: `table`; rows that the last `strandline verify` found to differ.
pub const VERIFY_MISMATCHED_ROWS: &str = "verify_mismatched_rows";
/// Gauge: when `strandline verify` last found everything that it compared equal.
pub const VERIFY_LAST_SUCCESS_TIMESTAMP_SECONDS: &str = "verify_last_success_timestamp_seconds";
/// Gauge: what the process may take: `limits.memory`, else the cgroup's limit. Absent without one.
pub const MEMORY_LIMIT_BYTES: &str = "memory_limit_bytes";
/// Gauge: open file descriptors.
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";
/// Gauge: when the process began, Unix time.
pub const PROCESS_START_TIME_SECONDS: &str = "process_start_time_seconds";
/// Before the names that Debezium's users know.
pub const DEBEZIUM_PREFIX: &str = "debezium_metrics";
