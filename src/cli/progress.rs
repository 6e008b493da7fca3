//! How far the copies are, while `run` makes them: one line that is drawn again on a terminal, a line of the log every ten seconds
//! elsewhere. What stands behind `~` is the source's estimate.

use super::hold::seconds_left;
use crate::telemetry::StatusBoard;
use crate::telemetry::logging;
use crate::telemetry::status::{TableState, TableStatus};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;
use tokio::task::JoinHandle;

const DRAW_EVERY: Duration = Duration::from_millis(500);
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Cells of a bar.
const BAR: usize = 20;

/// Ends, and takes its line away, when it is dropped.
pub(super) struct Progress(JoinHandle<()>);

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
        logging::draw("");
    }
}

/// Begins. `quiet`: nothing is drawn.
pub(super) fn start(board: &StatusBoard, quiet: bool) -> Progress {
    let is_terminal = std::io::stderr().is_terminal() && !quiet;
    let board = board.clone();
    Progress(tokio::spawn(async move {
        let mut tick = tokio::time::interval(if is_terminal { DRAW_EVERY } else { TELL_EVERY });
        tick.tick().await;
        loop {
            tick.tick().await;
            let tables = board.read(|status| status.tables.clone());
            if is_terminal {
                logging::draw(&line(&tables).unwrap_or_default());
                // Nobody sees it any more when this fails.
                let _gone = std::io::stderr().flush();
            } else {
                tables.iter().filter(|table| table.state == TableState::Snapshotting).for_each(tell);
            }
        }
    }))
}

fn tell(table: &TableStatus) {
    let (rows, of) = (table.rows_copied.unwrap_or(0), table.rows_estimate.unwrap_or(0));
    let left = seconds_left(table).map_or("unknown".to_owned(), |s| format!("~{s:.0} s"));
    tracing::info!(table = %table.name, rows, of_about = of, left = %left, "copying");
}

/// The copy that runs, and how many are done; nothing when none runs.
fn line(tables: &[TableStatus]) -> Option<String> {
    let running = tables.iter().find(|table| table.state == TableState::Snapshotting)?;
    let done = tables.iter().filter(|t| matches!(t.state, TableState::CatchingUp | TableState::Live)).count();
    let rows = running.rows_copied.unwrap_or(0);
    let mut text =
        format!("copy {}/{}  {}  ", done + 1, tables.len(), super::output::printable(&running.name));
    match running.rows_estimate.filter(|estimate| *estimate > 0) {
        Some(estimate) => {
            // An estimate may be too small.
            let percent = usize::try_from(rows.saturating_mul(100) / estimate).unwrap_or(99).min(99);
            let full = percent * BAR / 100;
            text.push_str(&"█".repeat(full));
            text.push_str(&"·".repeat(BAR - full));
            text.push_str(&format!("  {percent} %  {rows} of ~{estimate} rows"));
        }
        None => text.push_str(&format!("{rows} rows")),
    }
    if let Some(began) = running.copy_began {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = rows as f64 / began.age_seconds().max(0.1);
        text.push_str(&format!("  {rate:.0} rows/s"));
    }
    if let Some(left) = seconds_left(running) {
        text.push_str(&format!("  ~{left:.0} s left"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableName;
    use crate::telemetry::Status;

    #[test]
    fn the_line_says_how_far_and_never_more_than_99() {
        let mut status = Status::starting("x");
        assert_eq!(line(&status.tables), None);
        status.table(&TableName::new("s", "a")).state = TableState::Live;
        let table = status.table(&TableName::new("s", "b"));
        table.state = TableState::Snapshotting;
        (table.rows_copied, table.rows_estimate) = (Some(500), Some(400));
        let text = line(&status.tables).unwrap();
        assert!(text.starts_with("copy 2/2  s.b  ███████████████████·  99 %  500 of ~400 rows"), "{text}");
    }
}
