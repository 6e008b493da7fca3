//! The command line: parses, loads the configuration, hands over to [`wire`], reports the outcome once.
//!
//! Each command is one file. What a command prints with `-o json`, and every exit code, is a contract
//! (`docs/CLI.md`).

mod args;
mod binlog;
mod checkpoint;
mod config_command;
mod doctor;
pub mod exit;
mod explain;
mod hold;
mod host;
mod http_client;
mod import;
mod init;
mod lag;
mod notify;
mod options;
mod output;
mod progress;
mod reload;
mod resync;
mod run;
mod serving;
mod signals;
mod slot;
mod socket;
mod status;
mod tables;
mod tap;
mod target;
mod teardown;
mod top;
mod validate;
mod verify;
pub mod wire;
mod wire_kafka;
mod wire_target;

pub use http_client::http_get;
pub use options::{RunOptions, Snapshot, StopSender, StopSignal, Until};

use crate::config::{self, Config, Found, Overrides};
use crate::error::{Error, codes};
use crate::telemetry::logging::{self, LogFormat, LogLevel, LogSettings};
use args::{Bench, Cli, Color, Command, Format, Global, Output};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use output::Failure;
use serde_json::json;
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

/// What a command returns.
type Outcome = Result<ExitCode, Failure>;

/// The program.
pub fn main() -> ExitCode {
    // Before anything can open a TLS connection: two providers are linked, and rustls refuses to choose.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, wants_json(&arguments)),
    };
    let output = cli.global.output;
    match dispatch(cli) {
        Ok(code) => code,
        Err(failure) => failure.report(output),
    }
}

fn dispatch(cli: Cli) -> Outcome {
    let global = cli.global;
    match cli.command {
        Command::Run(args) => run::command(&global, args),
        Command::Validate(args) => validate::command(&global, args),
        Command::Setup(args) => {
            let config = load_quietly(&global)?;
            let script = runtime()?.block_on(wire::setup(config, args.print))?;
            match (global.output, args.print) {
                (Output::Json, print) => output::out_json(&json!({"done": !print, "script": script})),
                (Output::Text, true) => output::out(script.trim_end()),
                (Output::Text, false) => {
                    output::out("done; strandline doctor says whether anything is missing still")
                }
            }
            Ok(ExitCode::from(exit::OK))
        }
        Command::Init(args) => init::command(&global, args),
        Command::Doctor(args) => doctor::command(&global, &args),
        Command::Status => status::command(&global),
        Command::Tables => tables::command(&global),
        Command::Lag(args) => lag::command(&global, &args),
        Command::Checkpoint(args) => checkpoint::command(&global, &args),
        Command::Config(args) => config_command::command(&global, &args),
        Command::Pause(args) => hold::command(&global, &args.tables, true),
        Command::Resume(args) => hold::command(&global, &args.tables, false),
        Command::Snapshot(args) => hold::snapshot(&global, &args.command),
        Command::Reload => reload::command(&global),
        Command::Tap(args) => tap::command(&global, &args),
        Command::Top(args) => top::command(&global, &args),
        Command::Binlog(args) => binlog::command(&global, &args),
        Command::Verify(args) => verify::command(&global, &args),
        Command::Resync(args) => resync::command(&global, args),
        Command::Slot(args) => slot::command(&global, &args),
        Command::Target(args) => target::command(&global, args.what),
        Command::Teardown(args) => teardown::command(&global, &args),
        Command::Import(args) => import::command(global.output, args),
        Command::Explain(args) => explain::command(global.output, &args),
        Command::Completions(args) => {
            let mut command = Cli::command();
            clap_complete::generate(args.shell, &mut command, "strandline", &mut std::io::stdout());
            Ok(ExitCode::from(exit::OK))
        }
        Command::Man => man(),
        Command::Version => {
            version(global.output);
            Ok(ExitCode::from(exit::OK))
        }
        Command::Bench(args) => {
            init_logging(&global, None);
            match args.what {
                Bench::Merge(args) => block_on(wire::bench_merge(args)),
                Bench::KafkaFloor(args) => block_on(wire_kafka::bench_floor(args)),
                Bench::KafkaProduce(args) => block_on(wire_kafka::bench_produce(args)),
                Bench::KafkaRead(args) => block_on(wire_kafka::bench_read(args)),
            }
        }
    }
}

/// The manual page in roff: every command with its options.
fn man() -> Outcome {
    let mut root = Cli::command();
    root.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(root.clone())
        .render(&mut text)
        .and_then(|()| man_of(&root, &mut text))
        .map_err(|cause| Error::new(codes::RT001, "the manual page cannot be written").with_source(cause))?;
    output::out(String::from_utf8_lossy(&text).trim_end());
    Ok(ExitCode::from(exit::OK))
}

fn man_of(parent: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
    let shown = |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    for command in parent.get_subcommands().filter(shown) {
        let page = clap_mangen::Man::new(command.clone());
        page.render_synopsis_section(text)?;
        page.render_description_section(text)?;
        page.render_options_section(text)?;
        man_of(command, text)?;
    }
    Ok(())
}

fn version(output: Output) {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Text => output::out(&format!("strandline {version}")),
        Output::Json => output::out_json(&json!({"name": "strandline", "version": version})),
    }
}

/// Help and version are no errors; a wrong command line exits with 2. What was typed may hold a password.
fn usage(error: &clap::Error, as_json: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::out(error.to_string().trim_end());
            return ExitCode::from(exit::OK);
        }
        _ => {}
    }
    let text = config::redact(error.to_string().trim_end());
    if as_json {
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let advice = "strandline --help";
        output::out_json(&output::error_json(codes::CF005.id, message, Some(advice)));
    } else {
        output::err(&text);
    }
    ExitCode::from(exit::USAGE)
}

/// Whether `-o json` was typed, for a command line that could not be parsed.
fn wants_json(arguments: &[OsString]) -> bool {
    let text: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    text.windows(2).any(|pair| matches!(pair[0].as_str(), "-o" | "--output") && pair[1] == "json")
        || text.iter().any(|a| matches!(a.as_str(), "-ojson" | "-o=json" | "--output=json"))
}

/// Finds and reads the file, with the flags over it.
fn load(global: &Global, overrides: &Overrides) -> Result<(Config, Option<Found>), Failure> {
    // With source and target on the command line nothing is missing, and a file that happens to lie
    // around must not change what runs.
    let complete = overrides.source_url.is_some() && overrides.sink_uri.is_some();
    match config::find(global.config.as_deref(), complete, &config::environment) {
        Some(found) => {
            let config = config::load_file(&found.path, overrides, &config::environment)?;
            Ok((config, Some(found)))
        }
        None if complete => Ok((config::from_command_line(overrides)?, None)),
        None => Err(config::none_found(&config::environment).into()),
    }
}

/// For commands that only ask: warnings are logged, unless more was asked for.
fn load_quietly(global: &Global) -> Result<Config, Failure> {
    let (config, found) = load(global, &Overrides::default())?;
    init_logging(global, None);
    if let Some(found) = found {
        tracing::debug!(path = %found.path.display(), why = %found.wanted, "configuration file");
    }
    Ok(config)
}

/// Begins logging: flags, then `RUST_LOG`, then `wanted`, then warnings only.
fn init_logging(global: &Global, wanted: Option<&config::LogConfig>) {
    let from_flags = match (global.quiet, global.verbose) {
        (true, _) => Some(LogLevel::Warn),
        (false, 0) => None,
        (false, 1) => Some(LogLevel::Debug),
        (false, _) => Some(LogLevel::Trace),
    };
    let usual = wanted.map_or(LogLevel::Warn, |log| log.level);
    let filter = if from_flags.is_some() { None } else { config::environment("RUST_LOG") };
    let format = match global.log_format {
        Some(Format::Auto) => LogFormat::Auto,
        Some(Format::Text) => LogFormat::Text,
        Some(Format::Json) => LogFormat::Json,
        None => wanted.map_or(LogFormat::Auto, |log| log.format),
    };
    let color = match global.color {
        Color::Auto => None,
        Color::Always => Some(true),
        Color::Never => Some(false),
    };
    let level = from_flags.unwrap_or(usual);
    logging::init(&LogSettings { level, filter: filter.filter(|text| !text.is_empty()), format, color });
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|cause| {
        let error = Error::new(codes::RT001, "the threads of the program cannot be started");
        error.with_source(cause).with_try("raise the limit of processes for strandline's user").into()
    })
}

/// Runs something that succeeds with nothing to say.
fn block_on(work: impl Future<Output = crate::error::Result<()>>) -> Outcome {
    runtime()?.block_on(work)?;
    Ok(ExitCode::from(exit::OK))
}
