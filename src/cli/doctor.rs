//! `strandline doctor`: looks at everything that must be so, and says for each thing what is there, what is
//! needed, and what to run. It changes nothing.

use super::args::{DoctorArgs, Global, Output};
use super::output::{Paint, err, out, out_json, printable};
use super::{Outcome, exit, host, load_quietly, runtime, wire};
use crate::config::Config;
use crate::error::finding::{Finding, Verdict};
use crate::error::{Error, codes};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

/// Columns that the names of the checks take.
const NAME_WIDTH: usize = 22;

pub(super) fn command(global: &Global, args: &DoctorArgs) -> Outcome {
    let config = load_quietly(global)?;
    let examined = runtime()?.block_on(wire::inspect::doctor(&config, args.target, args.long_transaction));
    let mut findings = examined.findings;
    if !args.target {
        findings.extend(host::examine(&config));
    }
    if !args.checks.is_empty() {
        let is_wanted = |f: &Finding| {
            args.checks.iter().any(|wanted| wanted.eq_ignore_ascii_case(f.code.id) || wanted == f.check)
        };
        findings.retain(is_wanted);
        if findings.is_empty() {
            let error = Error::new(codes::CF005, format!("there is no check {}", args.checks.join(", ")));
            return Err(error.with_try("strandline doctor names all checks, with their codes").into());
        }
    }
    let errors = findings.iter().filter(|f| f.is_error()).count();
    match (args.fix_sql, global.output) {
        (true, _) => fix_sql(&config, &findings),
        (false, Output::Json) => out_json(&as_json(&config, examined.server.as_deref(), &findings)),
        (false, Output::Text) => {
            let paint = Paint::for_stdout(global.color);
            out(text(&config, examined.server.as_deref(), &findings, global.quiet, paint).trim_end());
        }
    }
    Ok(ExitCode::from(if errors > 0 { exit::PREREQUISITE } else { exit::OK }))
}

fn text(config: &Config, server: Option<&str>, findings: &[Finding], quiet: bool, paint: Paint) -> String {
    let mut text = format!(
        "strandline {} · {} · source {} {} · target {}\n\n",
        env!("CARGO_PKG_VERSION"),
        config.origin,
        server.unwrap_or("not reached"),
        config.source.address,
        config.sink.target,
    );
    for finding in findings.iter().filter(|f| !quiet || f.verdict != Verdict::Good) {
        let mark = match finding.verdict {
            Verdict::Good => paint.good(),
            Verdict::Warning => paint.warning(),
            Verdict::StopsTable | Verdict::Stops => paint.bad(),
        };
        let _ok = writeln!(
            text,
            " {mark} {} {:NAME_WIDTH$} {}",
            finding.code.id,
            finding.check,
            printable(&finding.found)
        );
        let advice = finding.advice.as_deref().filter(|_| finding.verdict != Verdict::Good);
        for line in advice.unwrap_or_default().lines() {
            let _ok = writeln!(text, "       {}", printable(line));
        }
    }
    let count = |wanted: fn(&Finding) -> bool| findings.iter().filter(|f| wanted(f)).count();
    let errors = count(Finding::is_error);
    let warnings = count(|f| f.verdict == Verdict::Warning);
    let _ok = write!(text, "\n{}, {}.", counted(errors, "error"), counted(warnings, "warning"));
    if findings.iter().any(|f| f.verdict != Verdict::Good && !f.sql.is_empty()) {
        text.push_str("  All statements as one script: strandline doctor --fix-sql > fix.sql");
    }
    if errors > 0 {
        text.push_str("\nMore on a code: strandline explain CODE");
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn as_json(config: &Config, server: Option<&str>, findings: &[Finding]) -> Value {
    let checks: Vec<Value> = findings
        .iter()
        .map(|f| {
            json!({
                "code": f.code.id,
                "check": f.check,
                "verdict": match f.verdict {
                    Verdict::Good => "ok",
                    Verdict::Warning => "warning",
                    Verdict::StopsTable => "stops_table",
                    Verdict::Stops => "stops",
                },
                "table": f.table.as_ref().map(ToString::to_string),
                "found": f.found,
                "fix": f.advice,
                "sql": f.sql,
            })
        })
        .collect();
    json!({
        "ok": !findings.iter().any(Finding::is_error),
        "version": env!("CARGO_PKG_VERSION"),
        "config": config.origin.to_string(),
        "source": {"address": config.source.address.to_string(), "server": server},
        "sink": config.sink.target.to_string(),
        "errors": findings.iter().filter(|f| f.is_error()).count(),
        "warnings": findings.iter().filter(|f| f.verdict == Verdict::Warning).count(),
        "checks": checks,
    })
}

/// The statements alone, with what each mends as a comment. What has no statement is a comment, too.
fn fix_sql(config: &Config, findings: &[Finding]) {
    let bad: Vec<&Finding> = findings.iter().filter(|f| f.verdict != Verdict::Good).collect();
    out(&format!("-- strandline doctor, for {}", printable(&config.source.address.to_string())));
    if bad.is_empty() {
        out("-- nothing to do");
    }
    for finding in bad {
        out(&format!("\n-- {} {}: {}", finding.code.id, finding.check, comment(&finding.found)));
        if finding.sql.is_empty() {
            if let Some(advice) = &finding.advice {
                out(&format!("-- no statement: {}", comment(advice)));
            }
            continue;
        }
        for statement in &finding.sql {
            out(&printable(statement));
        }
    }
    err("check the script before you run it, as a superuser or as the owner of the tables");
}

fn comment(text: &str) -> String {
    printable(&text.replace('\n', " "))
}
