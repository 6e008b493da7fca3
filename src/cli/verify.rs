//! `strandline verify`: compares tables with their source, online, at one position, and lists the rows that differ by
//! key. It ends with 4 when something differs or could not be compared.

use super::args::{Global, Output, VerifyArgs};
use super::http_client::send_over_socket;
use super::output::{Paint, err, out, out_json, printable};
use super::wire::verify::Verified;
use super::{Outcome, exit, load_quietly, resync, runtime, socket, wire};
use crate::config::{Config, SinkTarget};
use crate::error::{Error, codes};
use crate::sink::AmendChoice;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::ExitCode;

pub(super) fn command(global: &Global, args: &VerifyArgs) -> Outcome {
    let wanted = args.tables.iter().map(|text| resync::parse(text)).collect::<Result<BTreeSet<_>, _>>()?;
    let config = load_quietly(global)?;
    if args.repair && !matches!(config.sink.target, SinkTarget::Delta { .. }) {
        let what = format!(
            "--repair of {}: single records are not put right there (not built yet)",
            config.sink.target
        );
        let refused = Error::new(codes::CF004, what)
            .with_try("verify without --repair; strandline resync TABLE --yes sends every row again");
        return Err(refused.into());
    }
    let runtime = runtime()?;
    let results = runtime.block_on(wire::verify::verify(&config, &wanted, args.sample))?;
    let differing: Vec<String> =
        results.iter().filter(|r| r.different > 0).map(|r| r.name.to_string()).collect();
    let is_equal = results.iter().all(Verified::is_equal);
    runtime.block_on(note(&config, &results, is_equal));
    let wants_repair = args.repair && !differing.is_empty();
    match global.output {
        Output::Json => {
            let done = wants_repair.then(|| runtime.block_on(repair(config, &differing)));
            out_json(&document(&results, done)?);
        }
        Output::Text => {
            let paint = Paint::for_stdout(global.color);
            results.iter().for_each(|result| out(&text(result, paint)));
            if wants_repair {
                let how = runtime.block_on(repair(config, &differing))?;
                out(&format!("{how}: {}", printable(&differing.join(", "))));
            } else if !differing.is_empty() {
                err(&format!("{}: {}", codes::RT011, codes::RT011.title));
                let tables = printable(&differing.join(" "));
                match config.sink.target {
                    SinkTarget::Delta { .. } => err(&format!("  try: strandline verify {tables} --repair")),
                    _ => err(&format!(
                        "  try: strandline resync {tables} --yes (a row that is extra needs a tombstone of its key)"
                    )),
                }
            }
        }
    }
    Ok(ExitCode::from(if is_equal { exit::OK } else { exit::CONDITION }))
}

/// What was found, and whether it was put right: once that has ended, and not where it failed.
fn document(results: &[Verified], repair: Option<Result<&'static str, Error>>) -> Result<Value, Error> {
    let how = repair.transpose()?;
    let tables: Vec<Value> = results.iter().map(as_json).collect();
    let is_equal = results.iter().all(Verified::is_equal);
    Ok(json!({"ok": is_equal, "repaired": how.is_some(), "tables": tables}))
}

/// Puts tables right where they are; those that cannot be are copied again. What was done, for people.
async fn repair(config: Config, tables: &[String]) -> Result<&'static str, Error> {
    let amend = Some(AmendChoice::default());
    match Box::pin(wire::resync(config.clone(), tables.to_vec(), false, amend)).await {
        Err(error) if error.code() == codes::TG029 => {
            tracing::info!("{}: copied again", error.cause_line());
            Box::pin(wire::resync(config, tables.to_vec(), false, None)).await.map(|()| "copied again")
        }
        done => done.map(|()| "put right"),
    }
}

/// Tells the process that runs here, for its metrics; without one there is nobody to tell.
async fn note(config: &Config, results: &[Verified], is_equal: bool) {
    let compared = results.iter().filter(|result| result.skipped.is_none());
    let tables: Vec<Value> = compared
        .map(|result| json!({"table": result.name.to_string(), "different": result.different}))
        .collect();
    let body = json!({"equal": is_equal, "tables": tables}).to_string();
    match send_over_socket(&socket::path(config), "POST", "/api/v1/verified", &body).await {
        Ok((202, _)) => {}
        Ok((status, _)) => tracing::warn!(status, "the running process did not take the outcome"),
        Err(why) => tracing::debug!(%why, "no process of this pipeline on this machine"),
    }
}

fn text(result: &Verified, paint: Paint) -> String {
    let name = printable(&result.name.to_string());
    if let Some(why) = &result.skipped {
        let advice =
            why.advice().map_or(String::new(), |advice| format!("\n       try: {}", printable(advice)));
        return format!(" {} {name}  not compared: {}{advice}", paint.warning(), printable(&why.to_string()));
    }
    let version = result.version.map_or(String::new(), |version| format!(", version {version}"));
    let records = result.records.map_or(String::new(), |records| format!(", {records} records"));
    let at = format!("at {}{version}{records}, {:.1} s", result.position, result.took.as_secs_f64());
    let unknown = match result.unknown {
        0 => String::new(),
        rows => format!(
            "\n       {rows} rows have a value that no record says: the others of theirs were compared"
        ),
    };
    if result.is_equal() {
        let of = result
            .sample
            .map_or(String::new(), |(some, all)| format!(" of a sample ({some} of {all} ranges)"));
        return format!(" {} {name}  equal: {} rows{of} {at}{unknown}", paint.good(), result.source_rows);
    }
    let more = if result.is_more { "at least " } else { "" };
    let mut text = format!(
        " {} {name}  {more}{} rows differ (source {}, target {}) {at}",
        if result.different > 0 { paint.bad() } else { paint.warning() },
        result.different,
        result.source_rows,
        result.target_rows
    );
    for difference in &result.listed {
        text.push_str(&format!("\n       {:9} {}", difference.fault.as_str(), printable(&difference.key)));
    }
    let listed = u64::try_from(result.listed.len()).unwrap_or(u64::MAX);
    if result.different > listed {
        text.push_str(&format!("\n       and {} more", result.different - listed));
    }
    text.push_str(&unknown);
    if result.unsettled > 0 {
        text.push_str(&format!("\n       {} keys change too often to be judged", result.unsettled));
    }
    text
}

fn as_json(result: &Verified) -> Value {
    json!({
        "table": result.name.to_string(),
        "equal": result.is_equal(),
        "skipped": result.skipped.as_ref().map(|why| json!({
            "code": why.code().id, "message": why.cause_line(), "try": why.advice(),
        })),
        "position": result.position.to_string(),
        "version": result.version,
        "records": result.records,
        "unknown": result.unknown,
        "sample": result.sample.map(|(ranges, of)| json!({"ranges": ranges, "of": of})),
        "source_rows": result.source_rows,
        "target_rows": result.target_rows,
        "different": result.different,
        "is_more": result.is_more,
        "unsettled": result.unsettled,
        "rows": result.listed.iter().map(|d| json!({
            "fault": d.fault.as_str(), "key": d.key,
        })).collect::<Vec<_>>(),
        "seconds": result.took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_put_right_is_not_called_so() {
        let repaired = |repair| document(&[], repair).map(|document| document["repaired"].clone());
        assert_eq!(repaired(None).unwrap(), false);
        assert_eq!(repaired(Some(Ok("put right"))).unwrap(), true);
        let error = repaired(Some(Err(Error::new(codes::PG011, "another process")))).unwrap_err();
        assert_eq!(error.code(), codes::PG011);
    }
}
