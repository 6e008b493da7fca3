//! What the events of a binary log tell of themselves, for formats that show it.

use std::sync::Arc;

/// A transaction of a binary log, or the place of a snapshot in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The file: `binlog.000012`.
    pub file: String,
    /// Its GTID, as the server writes it; `None` without GTIDs, and for a snapshot.
    pub gtid: Option<String>,
    /// Where in the file its first event begins.
    pub begin: u64,
    /// The server that it was made on; 0 for a snapshot.
    pub server_id: u32,
    /// The connection that made it, where the log says so.
    pub thread: Option<u32>,
}

/// The rows of one event within a batch: from `first_row` to the next run's. All rows of a copy are one run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginRun {
    /// Index of its first row in the batch.
    pub first_row: u32,
    /// Which row of the event that one is, from 0.
    pub row: u32,
    /// Where in the file the event begins; of a snapshot, its place. Rows of a compressed transaction have that of the
    /// event that holds them all.
    pub position: u64,
    /// When: by the server where the change was first made, microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// The transaction.
    pub origin: Arc<Origin>,
    /// The statement that made them, where it is in the log and wanted.
    pub query: Option<Arc<str>>,
}

/// The runs of `rows` rows from `from` on.
pub(super) fn slice(runs: &[OriginRun], from: usize, rows: usize) -> Vec<OriginRun> {
    let first = u32::try_from(from).unwrap_or(u32::MAX);
    let begun = runs.partition_point(|run| run.first_row <= first).saturating_sub(1);
    runs.iter()
        .skip(begun)
        .take_while(|run| (run.first_row as usize) < from + rows)
        .map(|run| OriginRun {
            first_row: run.first_row.saturating_sub(first),
            row: run.row + first.saturating_sub(run.first_row),
            ..run.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_batch_counts_on() {
        let origin = Arc::new(Origin {
            file: "binlog.000001".into(),
            gtid: None,
            begin: 4,
            server_id: 1,
            thread: None,
        });
        let run = |first_row, row, position| OriginRun {
            first_row,
            row,
            position,
            time: 0,
            origin: Arc::clone(&origin),
            query: None,
        };
        let runs = [run(0, 0, 100), run(3, 0, 200), run(7, 0, 300)];
        assert_eq!(slice(&runs, 0, 10), runs);
        assert_eq!(slice(&runs, 1, 2), [run(0, 1, 100)]);
        assert_eq!(slice(&runs, 5, 4), [run(0, 2, 200), run(2, 0, 300)]);
        assert_eq!(slice(&slice(&runs, 1, 8), 4, 2), [run(0, 2, 200)]);
        assert_eq!(slice(&[], 5, 4), []);
    }
}
