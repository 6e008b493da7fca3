//! The command line, as it is typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Keeps Delta Lake tables and Kafka topics equal to a PostgreSQL, MySQL or MariaDB database, exactly.
#[derive(Parser)]
#[command(
    name = "strandline",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 runtime, 2 usage or configuration, 3 prerequisite, 4 condition not met,\n\
                  5 already running, 130/143 on a second SIGINT/SIGTERM. More: docs/CLI.md"
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
#[derive(Args)]
pub(super) struct Global {
    /// Configuration file; else $STRANDLINE_CONFIG, ./strandline.yaml, then the usual places
    #[arg(short, long, global = true, value_name = "FILE", display_order = 100)]
    pub(super) config: Option<PathBuf>,
    /// Form of the output; errors too
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, display_order = 101)]
    pub(super) output: Output,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 102)]
    pub(super) quiet: bool,
    /// Log more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 103)]
    pub(super) verbose: u8,
    /// Form of the log (on standard error)
    #[arg(long, global = true, value_enum, display_order = 104)]
    pub(super) log_format: Option<Format>,
    /// Colours in the log
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, display_order = 105)]
    pub(super) color: Color,
}

/// Form of the output.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people; of `target cut` and `register-sql`: SQL
    #[value(alias = "sql")]
    Text,
    /// For programs
    Json,
}

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Text on a terminal, JSON otherwise
    Auto,
    /// Text
    Text,
    /// One JSON object a line
    Json,
}

/// Colours.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Copy the tables, then follow the database for ever
    Run(RunArgs),
    /// Check a configuration file, without connecting to anything
    Validate(ValidateArgs),
    /// Prepare the source: role, grants, publication
    Setup(SetupArgs),
    /// Look at a database and write a commented configuration
    Init(InitArgs),
    /// Check source, target and machine, with the remedy for each thing that is missing
    Doctor(DoctorArgs),
    /// Say what the pipeline does, with or without a running process
    Status,
    /// List the tables with their states
    Tables,
    /// Say how far the target is behind
    Lag(LagArgs),
    /// The recorded position
    Checkpoint(CheckpointArgs),
    /// The configuration: as it works, its schema, what it would change
    Config(ConfigArgs),
    /// Read nothing more from the source until told to; or take tables out of the stream
    Pause(TablesArgs),
    /// Go on after a pause; a table that was paused is copied again
    Resume(TablesArgs),
    /// Look at the copies that run, hold them up, end them
    Snapshot(SnapshotArgs),
    /// Read the configuration again and apply what can be applied
    Reload,
    /// Show changes as they come, as lines of JSON
    Tap(TapArgs),
    /// Show the status again and again
    Top(TopArgs),
    /// Show the binary log of a MySQL or MariaDB
    Binlog(BinlogArgs),
    /// Compare tables with their source, row by row, at one position
    Verify(VerifyArgs),
    /// Copy tables again from the source
    Resync(ResyncArgs),
    /// Show the replication slot, make it, advance it, drop it
    Slot(SlotArgs),
    /// Look at the tables, keep them small, read them together
    Target(TargetArgs),
    /// Take away what strandline made on the source: slot and publications
    Teardown(TeardownArgs),
    /// Make a configuration file of another program's
    Import(ImportArgs),
    /// Say what an error code means and what to do
    Explain(ExplainArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Print the version
    Version,
    /// Measurements for developers
    #[command(hide = true)]
    Bench(BenchArgs),
}

#[derive(Args)]
pub(super) struct RunArgs {
    /// Database: postgres://user:password@host:5432/database (a password here is visible in `ps`)
    #[arg(requires = "sink_uri", value_name = "SOURCE_URL")]
    pub(super) source_url: Option<String>,
    /// Where the tables go: file:///path, s3://bucket/path, gs://…, abfss://…
    #[arg(value_name = "SINK_URI")]
    pub(super) sink_uri: Option<String>,
    /// Stop when the target holds all that the source had at the start
    #[arg(long, conflicts_with = "until_lsn")]
    pub(super) until_caught_up: bool,
    /// Stop when the target holds all up to this log position, such as 16/B374D848
    #[arg(long, value_name = "LSN")]
    pub(super) until_lsn: Option<crate::position::Lsn>,
    /// Make the first copies, then stop
    #[arg(long, conflicts_with_all = ["no_snapshot", "until_caught_up", "until_lsn"])]
    pub(super) snapshot_only: bool,
    /// Make no first copies: tables that were never copied are left out
    #[arg(long)]
    pub(super) no_snapshot: bool,
    /// Replication slot
    #[arg(long, value_name = "NAME")]
    pub(super) slot: Option<String>,
    /// Publication
    #[arg(long, value_name = "NAME")]
    pub(super) publication: Option<String>,
    /// Tables, such as 'public.*'; may be repeated
    #[arg(long = "table", value_name = "PATTERN")]
    pub(super) tables: Vec<String>,
}

#[derive(Args)]
pub(super) struct ValidateArgs {
    /// Configuration file
    #[arg(conflicts_with = "config")]
    pub(super) file: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct SetupArgs {
    /// Print the SQL instead of running it
    #[arg(long)]
    pub(super) print: bool,
}

/// How a table is made equal again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum ResyncMode {
    /// A new copy takes the place of the old rows in one commit
    Swap,
    /// Rows are compared and put right where they are, while the stream goes on; it costs the target what differs
    Incremental,
}

#[derive(Args)]
pub(super) struct ResyncArgs {
    /// Tables, as schema.table
    #[arg(required_unless_present = "all", value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    /// Every table of the pipeline
    #[arg(long, conflicts_with = "tables")]
    pub(super) all: bool,
    /// How [default: swap; with --where: incremental]
    #[arg(long, value_enum)]
    pub(super) mode: Option<ResyncMode>,
    /// Only rows of the source for which this SQL condition holds; rows that the source has not stay
    #[arg(long = "where", value_name = "SQL")]
    pub(super) condition: Option<String>,
    /// Print what would be read, and how much of it
    #[arg(long, conflicts_with = "yes")]
    pub(super) plan: bool,
    /// Do it; without this the plan is printed
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Args)]
pub(super) struct TablesArgs {
    /// Tables, as schema.table; the whole pipeline without them
    #[arg(value_name = "TABLE")]
    pub(super) tables: Vec<String>,
}

#[derive(Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    pub(super) command: SnapshotCommand,
}

#[derive(Subcommand)]
pub(super) enum SnapshotCommand {
    /// Say how far the copies are
    Status,
    /// Hold copies up; the stream goes on
    Pause,
    /// Let them go on
    Resume,
    /// End the copies of these tables; strandline resume TABLE begins another one
    Cancel {
        /// Tables, as schema.table
        #[arg(required = true, value_name = "TABLE")]
        tables: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct TapArgs {
    /// Tables, as schema.table
    #[arg(required = true, value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    /// End after so many answers, each one or more lines
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u64>,
}

#[derive(Args)]
pub(super) struct TopArgs {
    /// Once, also on a terminal
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Args)]
pub(super) struct BinlogArgs {
    #[command(subcommand)]
    pub(super) command: BinlogCommand,
}

#[derive(Subcommand)]
pub(super) enum BinlogCommand {
    /// Its files, where it ends, and what of it the target holds
    Show,
}

#[derive(Args)]
pub(super) struct SlotArgs {
    #[command(subcommand)]
    pub(super) command: SlotCommand,
}

#[derive(Subcommand)]
pub(super) enum SlotCommand {
    /// Say how it stands
    Show,
    /// Make it; the first run copies the tables later
    Create {
        /// Do it; without this the statement is printed
        #[arg(long)]
        yes: bool,
    },
    /// Skip changes for good
    Advance {
        /// Up to here, such as 16/B374D848
        #[arg(long, value_name = "LSN")]
        to: crate::position::Lsn,
        /// Do it; without this the statement is printed
        #[arg(long)]
        yes: bool,
    },
    /// Drop it
    Drop {
        /// Do it; without this the statement is printed
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
pub(super) struct TeardownArgs {
    /// Print what would be done
    #[arg(long)]
    pub(super) plan: bool,
    /// Do it
    #[arg(long)]
    pub(super) yes: bool,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// Take the file although options are not supported
    #[arg(long, global = true)]
    pub(super) partial: bool,
    #[command(subcommand)]
    pub(super) from: ImportFrom,
}

#[derive(Subcommand)]
pub(super) enum ImportFrom {
    /// Of a Debezium connector: JSON as of Kafka Connect's REST interface, or properties
    Debezium(ImportDebeziumArgs),
}

#[derive(Args)]
pub(super) struct ImportDebeziumArgs {
    /// The connector's configuration
    #[arg(value_name = "FILE")]
    pub(super) connector: PathBuf,
    /// Its offsets, as of `GET /connectors/NAME/offsets`
    #[arg(long, value_name = "FILE")]
    pub(super) offsets: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct InitArgs {
    /// Database: postgres://user@host:5432/database; else $DATABASE_URL
    #[arg(long, value_name = "SOURCE_URL")]
    pub(super) from: Option<String>,
    /// Where the tables go: file:///path, s3://bucket/path, gs://…, abfss://…
    #[arg(long, value_name = "SINK_URI")]
    pub(super) to: Option<String>,
    /// The file to write; "-" for standard output
    #[arg(long, value_name = "FILE", default_value = "strandline.yaml")]
    pub(super) file: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print the statements of all remedies as one script
    #[arg(long)]
    pub(super) fix_sql: bool,
    /// Only this check, by code or name; may be repeated
    #[arg(long = "check", value_name = "ID")]
    pub(super) checks: Vec<String>,
    /// Only the target
    #[arg(long)]
    pub(super) target: bool,
    /// Name transactions of PostgreSQL that are open for longer, as 5m (the default)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) long_transaction: Option<Duration>,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Tables, as schema.table; all when none is named
    #[arg(value_name = "TABLE")]
    pub(super) tables: Vec<String>,
    /// Compare about this share of each table: ranges of keys that are chosen anew each time, as 1%
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(super) sample: Option<f64>,
    /// Compare whole tables (the default)
    #[arg(long, conflicts_with = "sample")]
    pub(super) full: bool,
    /// Put the tables that differ right
    #[arg(long)]
    pub(super) repair: bool,
}

#[derive(Args)]
pub(super) struct LagArgs {
    /// End with 4 when the lag is greater, or unknown: '>60s', '>1GiB'
    #[arg(long, value_name = "BOUND")]
    pub(super) fail_if: Option<String>,
}

#[derive(Args)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    pub(super) what: Checkpoint,
}

#[derive(Subcommand)]
pub(super) enum Checkpoint {
    /// Print it for people
    Show,
    /// Print all of it as JSON
    Export,
}

#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) what: ConfigCommand,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the configuration as it works, defaults included, secrets masked
    Show,
    /// Print the JSON schema of the file, for editors
    Schema,
    /// Say what a start with this configuration would change: tables that come and go
    Diff,
}

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(super) struct TargetArgs {
    #[command(subcommand)]
    pub(super) what: Target,
}

#[derive(Subcommand)]
pub(super) enum Target {
    /// Say what tables are like: versions, files, rows, read debt
    Inspect {
        /// Tables, as schema.table; all of the last cut without them
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
    },
    /// Make few whole files of small ones, and of those with deleted rows
    Optimize {
        /// Tables, as schema.table; all of the last cut without them
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
    },
    /// Delete files that no version within the retention names
    Vacuum {
        /// Tables, as schema.table; all of the last cut without them
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
        /// How long files stay that no newer version names, such as 7d; else what the table says
        #[arg(long, value_name = "DURATION")]
        retention: Option<String>,
        /// Do it; without this it is said what would be deleted
        #[arg(long)]
        yes: bool,
    },
    /// Print the SQL that makes the tables known to other systems
    RegisterSql {
        /// Tables, as schema.table; all of the last cut without them
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
        /// For which system
        #[arg(long = "for", value_enum, default_value_t = System::DuckDb)]
        system: System,
    },
    /// Print the reads of all tables as they were at one position
    Cut {
        /// A log position (16/B374D848) or a time (2026-01-31T12:00:00Z); else the newest
        #[arg(long, value_name = "LSN|TIME")]
        at: Option<String>,
    },
}

/// A system that reads Delta tables.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum System {
    /// DuckDB
    #[value(name = "duckdb")]
    DuckDb,
    /// Spark and Databricks
    Spark,
    /// Trino
    Trino,
    /// Athena
    Athena,
}

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// Error code, such as PG041
    #[arg(required_unless_present = "all")]
    pub(super) code: Option<String>,
    /// All codes, one line each
    #[arg(long, conflicts_with = "code")]
    pub(super) all: bool,
}

#[derive(Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    pub(super) what: Bench,
}

#[derive(Subcommand)]
pub(super) enum Bench {
    /// Merge files into a Delta table
    Merge(MergeArgs),
    /// One-record transactions with Kafka's bare client
    KafkaFloor(KafkaFloorArgs),
    /// The client's own cost of a record: the same one, as often as wanted
    KafkaProduce(KafkaProduceArgs),
    /// Read a topic as a consumer with `read_committed`
    KafkaRead(KafkaReadArgs),
}

#[derive(Args)]
pub(super) struct KafkaFloorArgs {
    /// Brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(super) brokers: String,
    /// A topic that is there
    #[arg(long)]
    pub(super) topic: String,
    /// How many
    #[arg(long, value_name = "N")]
    pub(super) transactions: usize,
}

#[derive(Args)]
pub(super) struct KafkaProduceArgs {
    /// Brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(super) brokers: String,
    /// A topic that is there
    #[arg(long)]
    pub(super) topic: String,
    /// How many
    #[arg(long, value_name = "N")]
    pub(super) records: usize,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 600)]
    pub(super) size: usize,
    /// Without the four headers that Debezium gives every record
    #[arg(long)]
    pub(super) no_headers: bool,
    /// In transactions of so many records
    #[arg(long, value_name = "N")]
    pub(super) transaction: Option<usize>,
    /// librdkafka's properties, over those of the sink
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub(super) properties: Vec<String>,
}

#[derive(Args)]
pub(super) struct KafkaReadArgs {
    /// Brokers
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(super) brokers: String,
    /// The topic
    #[arg(long)]
    pub(super) topic: String,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(super) records: u64,
    /// Only what comes from now on, with the time since its commit; says `ready` on stderr
    #[arg(long)]
    pub(super) from_end: bool,
}

#[derive(Args)]
pub(super) struct MergeArgs {
    /// Directory of the table
    #[arg(long, value_name = "DIR")]
    pub(super) table: PathBuf,
    /// Key column; may be repeated
    #[arg(long, value_name = "COL", required = true)]
    pub(super) key: Vec<String>,
    /// Keep the table up meanwhile, as a running pipeline does; the files are read beforehand
    #[arg(long)]
    pub(super) upkeep: bool,
    /// Save the index in this directory, and use what was saved there
    #[arg(long, value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
    /// Memory of the index; what is beyond goes to the cache
    #[arg(long, value_name = "MIB", requires = "cache")]
    pub(super) index_mib: Option<usize>,
    /// Files to merge, in order
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

/// A share of something, as `1%`.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0).map(|percent| percent / 100.0);
    share.ok_or_else(|| "a share is more than 0% and up to 100%, as 1%".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).map_err(|refusal| format!("{}; {}", refusal.problem, refusal.advice))
}
