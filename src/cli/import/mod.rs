//! `strandline import debezium`: a configuration file made of a connector's.

mod debezium;

use super::args::{ImportArgs, ImportFrom, Output};
use super::{Outcome, exit, output};
use crate::error::{Error, codes};
use serde_json::json;
use std::path::Path;
use std::process::ExitCode;

/// Prints the file on standard output, and what became of each option on standard error.
pub(super) fn command(form: Output, args: ImportArgs) -> Outcome {
    let ImportFrom::Debezium(from) = args.from;
    let connector = read(&from.connector)?;
    let offsets = from.offsets.as_deref().map(read).transpose()?;
    let done = debezium::import(&connector, offsets.as_deref())?;
    match form {
        Output::Json => output::out_json(&json!({
            "config": done.yaml, "mapped": done.mapped, "ignored": done.ignored,
            "unsupported": done.unsupported, "notes": done.notes,
        })),
        Output::Text => {
            output::out(done.yaml.trim_end());
            for (from, to) in &done.mapped {
                output::err(&format!("mapped       {from} -> {to}"));
            }
            for (option, why) in &done.ignored {
                output::err(&format!("ignored      {option}: {why}"));
            }
            for (option, what) in &done.unsupported {
                output::err(&format!("unsupported  {option}: {what}"));
            }
            for note in &done.notes {
                output::err(&format!("note         {note}"));
            }
        }
    }
    if done.unsupported.is_empty() || args.partial {
        return Ok(ExitCode::from(exit::OK));
    }
    let what = format!("{} options of the connector are not supported", done.unsupported.len());
    Err(Error::new(codes::CF004, what)
        .with_try("look at each of them; --partial takes the file without them")
        .into())
}

fn read(path: &Path) -> crate::error::Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::new(codes::CF001, format!("\"{}\" cannot be read", path.display())).with_source(error)
    })
}
