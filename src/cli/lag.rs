//! `strandline lag`: how far the target is behind. With `--fail-if` the exit code is 4 when it is further, or when
//! nobody knows how far: an alarm that is silent when nothing can be measured is none.

use super::args::{Global, LagArgs, Output};
use super::output::{out, out_json};
use super::{Outcome, exit, load_quietly, runtime, status};
use crate::config::{format_duration, format_size, parse_duration, parse_size};
use crate::error::{Error, Result, codes};
use crate::telemetry::Status;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// What is too much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bound {
    Time(Duration),
    Bytes(u64),
}

impl Bound {
    fn parse(text: &str) -> Result<Self> {
        let number = text.trim().strip_prefix('>').unwrap_or(text).trim();
        if let Ok(time) = parse_duration(number) {
            return Ok(Bound::Time(time));
        }
        parse_size(number).map(Bound::Bytes).map_err(|_| {
            Error::new(codes::CF005, format!("\"{text}\" is neither a time nor a size"))
                .with_try("--fail-if '>60s', or --fail-if '>1GiB'")
        })
    }

    /// Why the bound does not hold; `None`: it does.
    fn broken(self, status: &Status) -> Option<String> {
        match self {
            Bound::Time(most) => match status.lag_seconds {
                None => Some("it is not known how many seconds the target is behind".to_owned()),
                Some(seconds) if seconds > most.as_secs_f64() => {
                    Some(format!("the target is {seconds:.1} s behind, more than {}", format_duration(most)))
                }
                Some(_) => None,
            },
            Bound::Bytes(most) => match status.lag_bytes {
                None => Some("it is not known how many bytes the target is behind".to_owned()),
                Some(bytes) if bytes > most => {
                    Some(format!("the target is {bytes} bytes behind, more than {}", format_size(most)))
                }
                Some(_) => None,
            },
        }
    }
}

pub(super) fn command(global: &Global, args: &LagArgs) -> Outcome {
    let bound = args.fail_if.as_deref().map(Bound::parse).transpose()?;
    let config = load_quietly(global)?;
    let status = runtime()?.block_on(status::ask(config))?;
    let broken = bound.and_then(|bound| bound.broken(&status));
    match global.output {
        Output::Json => out_json(&json!({
            "name": status.name,
            "state": status.state,
            "lag_bytes": status.lag_bytes,
            "lag_seconds": status.lag_seconds,
            "ok": broken.is_none(),
            "error": broken.as_ref().map(|text| json!({
                "code": codes::RT012.id, "message": text, "try": "strandline status",
            })),
        })),
        Output::Text => {
            let seconds = status.lag_seconds.map_or("unknown".to_owned(), |s| format!("{s:.1} s"));
            let bytes = status.lag_bytes.map_or("unknown".to_owned(), |b| format!("{b} bytes"));
            out(&format!("{}  {seconds}  {bytes}  {}", status.name, status.state));
        }
    }
    match (broken, global.output) {
        (None, _) => Ok(ExitCode::from(exit::OK)),
        (Some(_), Output::Json) => Ok(ExitCode::from(exit::CONDITION)),
        (Some(text), Output::Text) => {
            Err(Error::new(codes::RT012, text).with_try("strandline status").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_time_or_a_size() {
        assert_eq!(Bound::parse(">60s").unwrap(), Bound::Time(Duration::from_secs(60)));
        assert_eq!(Bound::parse("1GiB").unwrap(), Bound::Bytes(1 << 30));
        assert_eq!(Bound::parse(">soon").unwrap_err().code(), codes::CF005);
    }

    #[test]
    fn what_is_not_known_is_not_good() {
        let mut status = Status::starting("shop");
        assert!(Bound::Bytes(5).broken(&status).is_some());
        assert!(Bound::Time(Duration::from_secs(1)).broken(&status).is_some());
        (status.lag_bytes, status.lag_seconds) = (Some(5), Some(1.5));
        assert!(Bound::Bytes(5).broken(&status).is_none());
        assert!(Bound::Bytes(4).broken(&status).is_some());
        assert!(Bound::Time(Duration::from_secs(1)).broken(&status).is_some());
    }
}
