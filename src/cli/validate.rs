//! `strandline validate`: reads the configuration, connects to nothing.

use super::args::{Global, Output, ValidateArgs};
use super::output::{out, out_json};
use super::{Outcome, exit};
use crate::config::{self, Config, Overrides, SourceKind};
use serde_json::{Value, json};
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: ValidateArgs) -> Outcome {
    let named = args.file.as_deref().or(global.config.as_deref());
    let Some(found) = config::find(named, false, &config::environment) else {
        return Err(config::none_found(&config::environment).into());
    };
    let config = config::load_file(&found.path, &Overrides::default(), &config::environment)?;
    match global.output {
        Output::Text => out(&text(&config)),
        Output::Json => out_json(&as_json(&config)),
    }
    Ok(ExitCode::from(exit::OK))
}

fn text(config: &Config) -> String {
    let join = |patterns: &[config::TablePattern]| {
        patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let exclude = match config.tables.exclude.as_slice() {
        [] => String::new(),
        some => format!(", without {}", join(some)),
    };
    let commit = &config.sink.commit;
    let kept = match config.source.kind {
        SourceKind::Postgres => {
            format!("slot {}, publication {}", config.source.slot, config.source.publication)
        }
        SourceKind::MySql => "MySQL or MariaDB: its binary log".to_owned(),
    };
    format!(
        "{}: ok\n  pipeline  {}\n  source    {}, password: {}\n            {kept}\n  \
         tables    {}{exclude}\n  sink      {}\n            a commit at the latest after {}, {} rows or {}\n  \
         http      {}",
        config.origin,
        config.name,
        config.source.address,
        config.source.password.describe(),
        join(&config.tables.include),
        config.sink.target,
        config::format_duration(commit.interval),
        commit.max_rows,
        config::format_size(commit.max_bytes),
        config.http.as_ref().map_or("off".to_owned(), |http| http.listen.to_string()),
    )
}

fn as_json(config: &Config) -> Value {
    let list = |patterns: &[config::TablePattern]| {
        patterns.iter().map(ToString::to_string).map(Value::from).collect::<Vec<_>>()
    };
    let postgres = config.source.kind == SourceKind::Postgres;
    json!({
        "ok": true,
        "config": config.origin.to_string(),
        "name": config.name,
        "source": config.source.address.to_string(),
        "slot": postgres.then_some(&config.source.slot),
        "publication": postgres.then_some(&config.source.publication),
        "tables": {"include": list(&config.tables.include), "exclude": list(&config.tables.exclude)},
        "sink": config.sink.target.to_string(),
        "http": config.http.as_ref().map(|http| http.listen.to_string()),
    })
}
