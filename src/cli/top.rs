//! `strandline top`: the status, again and again, with what happened in the last minutes. Ctrl-C ends it; nothing is changed.

use super::args::{Global, Output, TopArgs};
use super::hold::seconds_left;
use super::http_client::over_socket;
use super::output::{Grid, out, out_json, printable};
use super::{Outcome, exit, load_quietly, runtime, socket, status};
use crate::config::Config;
use crate::error::{Error, codes};
use crate::telemetry::Status;
use crate::telemetry::status::{TableState, TableStatus};
use serde_json::Value;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);
/// Tables that find room.
const SHOWN: usize = 25;
/// Samples in a line of bars.
const WIDTH: usize = 60;

pub(super) fn command(global: &Global, args: &TopArgs) -> Outcome {
    let config = load_quietly(global)?;
    let is_live = !args.once && std::io::stdout().is_terminal() && global.output == Output::Text;
    runtime()?.block_on(async {
        loop {
            let status = status::ask(config.clone()).await?;
            let samples = samples(&config).await;
            match global.output {
                Output::Json => out_json(&serde_json::to_value(&status).map_err(|cause| {
                    Error::new(codes::RT001, "the status cannot be written as JSON").with_source(cause)
                })?),
                Output::Text => {
                    // To the corner, and what is below goes.
                    let clear = if is_live { "\x1b[H\x1b[2J" } else { "" };
                    out(&format!("{clear}{}", text(&status, &samples).trim_end()));
                }
            }
            if !is_live {
                return Ok::<(), Error>(());
            }
            tokio::time::sleep(EVERY).await;
        }
    })?;
    Ok(ExitCode::from(exit::OK))
}

/// The last ten minutes, where a process answers.
async fn samples(config: &Config) -> Vec<Value> {
    let asked = over_socket(&socket::path(config), "GET", "/api/v1/history?window=10m").await;
    let answer = asked.ok().filter(|(code, _)| *code == 200);
    let answer: Value = answer.and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default();
    answer["samples"].as_array().cloned().unwrap_or_default()
}

fn text(status: &Status, samples: &[Value]) -> String {
    let mut text = status::text(status);
    for (name, key, unit) in [
        ("lag", "lag_seconds", "s"),
        ("rows/s", "events_per_second", ""),
        ("commits/min", "commits_per_minute", ""),
    ] {
        let known: Vec<f64> = samples.iter().filter_map(|sample| sample[key].as_f64()).collect();
        if let Some(last) = known.last() {
            text.push_str(&format!("{name:<12}{} {last:.1} {unit}\n", bars(&known)));
        }
    }
    let mut grid = Grid::new(&["TABLE", "STATE", "POSITION", "VERSION", "COPIED", "LEFT"]);
    let mut tables: Vec<&TableStatus> = status.tables.iter().collect();
    // What moves or needs somebody first.
    tables.sort_by_key(|table| (table.state == TableState::Live, table.name.clone()));
    for table in tables.iter().take(SHOWN) {
        grid.row(vec![
            printable(&table.name),
            table.state.to_string(),
            table.position.map_or("-".to_owned(), |p| p.to_string()),
            table.version.map_or("-".to_owned(), |v| v.to_string()),
            if table.state == TableState::Live {
                String::new()
            } else {
                status::copied(table).trim().to_owned()
            },
            seconds_left(table).map_or(String::new(), |s| format!("~{s:.0} s")),
        ]);
    }
    text.push('\n');
    text.push_str(&grid.text());
    if tables.len() > SHOWN {
        text.push_str(&format!("and {} more\n", tables.len() - SHOWN));
    }
    text
}

/// The last values as bars of eight heights.
fn bars(values: &[f64]) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0_f64, f64::max);
    let shown = &values[values.len().saturating_sub(WIDTH)..];
    let bar = |value: &f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
        let height = if most > 0.0 { (value / most * 7.0).round().clamp(0.0, 7.0) as usize } else { 0 };
        HEIGHTS[height]
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_needs_somebody_comes_first() {
        assert_eq!(bars(&[0.0, 1.0, 2.0]), "▁▅█");
        assert_eq!(bars(&[0.0, 0.0]), "▁▁");
        let mut status = Status::starting("shop");
        for (name, state) in [("a", TableState::Live), ("b", TableState::Snapshotting)] {
            status.table(&crate::schema::TableName::new("s", name)).state = state;
        }
        let text = text(&status, &[json!({"lag_seconds": 0.5, "events_per_second": null})]);
        assert!(text.contains("lag         █ 0.5 s\n"), "{text}");
        assert!(!text.contains("rows/s"), "{text}");
        assert!(text.find("\ns.b").unwrap() < text.find("\ns.a").unwrap(), "{text}");
    }
}
