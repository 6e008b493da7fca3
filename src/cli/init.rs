//! `strandline init`: looks at a database and writes a configuration that works, with a comment for each choice. The
//! password is never written.

use super::args::{Global, InitArgs, Output};
use super::output::{err, out, out_json, printable};
use super::wire::inspect::Introduced;
use super::{Outcome, exit, init_logging, runtime, wire};
use crate::config::{self, Config, Overrides, SecretSource, SourceKind};
use crate::error::finding::{Finding, Verdict};
use crate::error::{Error, Result, codes};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Tables that are named in the comment.
const NAMED: usize = 40;

/// Where the password is looked for.
fn password_variable(config: &Config) -> &'static str {
    match config.source.kind {
        SourceKind::Postgres => "PGPASSWORD",
        SourceKind::MySql => "MYSQL_PWD",
    }
}

pub(super) fn command(global: &Global, args: InitArgs) -> Outcome {
    init_logging(global, None);
    let from = args.from.or_else(|| config::environment("DATABASE_URL")).ok_or_else(|| {
        Error::new(codes::CF005, "init needs to know the database")
            .with_try("strandline init --from postgres://user@host:5432/database")
    })?;
    let to = match args.to {
        Some(uri) => uri,
        None => default_sink()?,
    };
    let overrides = Overrides { source_url: Some(from), sink_uri: Some(to), ..Overrides::default() };
    let config = config::from_command_line(&overrides)?;
    let to_stdout = args.file == Path::new("-");
    if !to_stdout && !args.force && args.file.exists() {
        let what = format!("the file \"{}\" is there already", args.file.display());
        return Err(Error::new(codes::CF005, what)
            .with_try("--force writes over it, --file FILE writes elsewhere")
            .into());
    }
    let examined = runtime()?.block_on(wire::inspect::introduce(&config))?;
    let text = write(&config, &examined);
    // What is written must be accepted: checked here, not hoped for.
    let lookup = |name: &str| Some(config::environment(name).unwrap_or_else(|| "set".to_owned()));
    let origin = config::Origin::File(args.file.clone());
    config::load_text(&text, origin, &Overrides::default(), &lookup)?;
    if to_stdout {
        out(text.trim_end());
    } else {
        save(&args.file, &text, args.force)?;
    }
    report(global, &args.file, to_stdout, &config, &examined);
    Ok(ExitCode::from(exit::OK))
}

fn default_sink() -> Result<String> {
    let here = std::env::current_dir().map_err(|cause| {
        Error::new(codes::CF005, "the current directory cannot be found")
            .with_source(cause)
            .with_try("name the target: --to file:///path")
    })?;
    Ok(format!("file://{}/lake", here.display()))
}

fn save(path: &Path, text: &str, force: bool) -> Result<()> {
    let mut options = std::fs::File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|cause| {
        Error::new(codes::CF001, format!("cannot write \"{}\"", path.display()))
            .with_source(cause)
            .with_try("choose another place: --file FILE, or --file - for standard output")
    })
}

fn report(global: &Global, path: &Path, to_stdout: bool, config: &Config, examined: &Introduced) {
    let missing: Vec<&Finding> = examined.findings.iter().filter(|f| f.verdict == Verdict::Stops).collect();
    if global.output == Output::Json && !to_stdout {
        out_json(&json!({
            "file": path.display().to_string(),
            "server": examined.server,
            "tables": examined.known.tables.len(),
            "refused": examined.known.refused.len(),
            "missing": missing.iter().map(|f| json!({"code": f.code.id, "found": f.found})).collect::<Vec<_>>(),
        }));
        return;
    }
    let place = if to_stdout { "written".to_owned() } else { format!("wrote {}", path.display()) };
    err(&format!(
        "{place}: {} tables of {}, {}",
        examined.known.tables.len(),
        config.source.address,
        examined.server
    ));
    let refused = &examined.known.refused;
    if !refused.is_empty() {
        let many = if refused.len() == 1 { "1 table is" } else { &format!("{} tables are", refused.len()) };
        err(&format!("missing  {many} not replicated as things stand: the file names each, with the reason"));
    }
    if password_was_given(config) {
        err(&format!(
            "the password is not in it: set {}, or name a file in source.password",
            password_variable(config)
        ));
    }
    for finding in &missing {
        err(&format!("missing  {} {}: {}", finding.code.id, finding.check, printable(&finding.found)));
    }
    err(if missing.is_empty() && refused.is_empty() {
        "next: strandline doctor, then strandline run"
    } else {
        "next: strandline doctor"
    });
}

fn password_was_given(config: &Config) -> bool {
    matches!(config.source.password, SecretSource::Plain(_))
}

/// A string as YAML and JSON both read it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The file. Comments name tables: a name with a line break in it must not end the comment.
fn write(config: &Config, examined: &Introduced) -> String {
    let source = &config.source;
    let is_mysql = source.kind == SourceKind::MySql;
    let mut text = String::new();
    let _ok = write!(
        text,
        "# strandline, for {} on {}.\n# Check it: strandline doctor.  Every key: docs/CONFIG.md, and \
         strandline config schema.\nversion: 1\n\n# Part of paths and stored positions: do not change it later.\nname: \
         {}\n\nsource:\n  type: {}\n  host: {}\n  port: {}\n  database: {}\n  user: {}\n",
        printable(&source.address.database),
        printable(&examined.server),
        quoted(&config.name),
        if is_mysql { "mysql" } else { "postgres" },
        quoted(&source.address.host),
        source.address.port,
        quoted(&source.address.database),
        quoted(&source.address.user),
    );
    if password_was_given(config) {
        let _ok = writeln!(
            text,
            "  # Also: {{file: /run/secrets/pg_password}}, {{command: [program, argument]}}.\n  password: {{env: {}}}",
            password_variable(config)
        );
    }
    let mode = source.tls.mode.as_str();
    let _ok = writeln!(
        text,
        "  # Over a network you do not own: verify-full, with ca: /path/ca.pem.\n  tls: {{mode: {mode}}}"
    );
    if !is_mysql {
        let _ok = writeln!(
            text,
            "  slot: {}\n  publication: {}\n  # An idle database is touched this often, so that its log can go.\n  \
             heartbeat: 10s",
            quoted(&source.slot),
            quoted(&source.publication),
        );
    }
    let _ok = write!(
        text,
        "  # What happens when {} lost: stop, or resync (everything is copied again).\n  on_position_lost: stop\n\n",
        if is_mysql { "the log that is needed is" } else { "the slot or its log is" },
    );
    tables(&mut text, examined);
    let uri = match &config.sink.target {
        config::SinkTarget::Delta { uri } => uri.to_string(),
        other => other.to_string(),
    };
    let _ok = write!(
        text,
        "\nsink:\n  type: delta\n  # Tables are at {{uri}}/{{schema}}/{{table}}.\n  uri: {}\n  # Whichever comes first. \
         A shorter interval is fresher and makes more files.\n  commit: {{interval: 10s, max_rows: 500000, max_bytes: \
         256MiB}}\n\n# Probes, metrics, status. Without this section: off.\nhttp:\n  listen: \"127.0.0.1:9187\"\n",
        quoted(uri.as_str())
    );
    text
}

fn tables(text: &mut String, examined: &Introduced) {
    let known = &examined.known;
    let mut schemas: BTreeMap<&str, usize> = BTreeMap::new();
    for table in &known.tables {
        *schemas.entry(table.name.schema.as_str()).or_default() += 1;
    }
    let rows = |rows: Option<u64>| rows.map_or("rows not counted yet".to_owned(), |n| format!("~{n} rows"));
    for table in known.tables.iter().take(NAMED) {
        let _ok = writeln!(
            text,
            "#   {:40} {}, {} MiB{}",
            printable(&table.name.to_string()),
            rows(table.rows),
            table.bytes >> 20,
            if table.has_changes { "" } else { ", no key: only inserts are replicated" }
        );
    }
    if known.tables.len() > NAMED {
        let _ok = writeln!(text, "#   and {} more: strandline tables", known.tables.len() - NAMED);
    }
    for (name, why) in &known.refused {
        let name = printable(&name.to_string());
        let _ok = writeln!(text, "#   {name:40} NOT replicated: {}", printable(why));
    }
    for finding in examined.findings.iter().filter(|f| f.check == "table_kind") {
        let _ok = writeln!(text, "#   {}", printable(&finding.found));
    }
    let patterns: Vec<String> = schemas.keys().map(|schema| pattern(schema)).collect();
    let patterns = if patterns.is_empty() { "\"public.*\"".to_owned() } else { patterns.join(", ") };
    let _ok = write!(
        text,
        "tables:\n  # Patterns as schema.table; * stands for any text.\n  include: [{patterns}]\n  exclude: []\n  # A table \
         that is made later: snapshot (copied and followed) or ignore.\n  on_new_table: snapshot\n"
    );
}

/// All tables of a schema. Characters with a meaning in patterns are left to the person who has them.
fn pattern(schema: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if schema.chars().all(plain) { quoted(&format!("{schema}.*")) } else { quoted("*.*") }
}
