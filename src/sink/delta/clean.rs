//! Cleaning: data and deletion-vector files that no version within the retention names, and log entries
//! that no such version needs.
//!
//! The window is the retention before now. The version that was current when the window began (the *base*)
//! and every later one may be read, so what they name stays: the files of the base, and whatever a later
//! commit adds. Everything else below the table was removed by a commit before the window (its tombstone is
//! older than the retention), or is named by no version at all (a writer died, or a commit was refused); it
//! goes when it was also *written* before the window, because a commit under way names files that are
//! younger. Both data and deletion-vector files; nothing whose name is not a data file's.
//!
//! Log entries go when they are older than the log's retention *and* older than a checkpoint that is itself
//! at or before the log's window: every version in the window can still be read, from that checkpoint on.
//!
//! Where anything is not as expected (a gap in the log, a base that cannot be read, a path that leaves the
//! table), nothing is deleted and the reason is said. Dying between two deletes leaves less to delete.

use super::dv::{Descriptor, Location};
use super::log;
use super::storage::{Listed, TableFiles};
use super::table::{check_within, code_of_failure, data_name};
use crate::error::{Error, Result, codes};
use crate::sink::write::interval_ms;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;
use tokio::task::JoinHandle;

const HOUR_MS: i64 = 3_600_000;
/// The shortest retention.
pub(super) const LEAST_MS: i64 = HOUR_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How long things stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Retention {
    /// Files that no newer version names.
    pub files_ms: i64,
    /// Log entries.
    pub log_ms: i64,
}

impl Retention {
    /// Delta's own defaults.
    pub(super) const OF_TABLES: Retention = Retention { files_ms: 7 * DAY_MS, log_ms: 30 * DAY_MS };
    /// Every cut is a version: a day of them.
    pub(super) const OF_CONTROL: Retention = Retention { files_ms: DAY_MS, log_ms: DAY_MS };

    /// With another time for files.
    pub(super) fn with_files(self, time: Duration) -> Self {
        let files_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Retention { files_ms, log_ms: self.log_ms.max(files_ms) }
    }

    /// As the table's properties say. `None` (and a word in the log) when they cannot be understood.
    pub(super) fn of(configuration: &BTreeMap<String, String>, usual: Retention, name: &str) -> Option<Self> {
        let read = |key: &str, usual: i64| match configuration.get(key) {
            None => Some(usual),
            Some(text) => {
                let found = interval_ms(text);
                if found.is_none() {
                    tracing::warn!(table = %name, "\"{key}\" is \"{text}\", which is no interval: nothing is cleaned");
                }
                found
            }
        };
        // Below an hour a file could be deleted between being written and being committed.
        let files_ms = read("delta.deletedFileRetentionDuration", usual.files_ms)?.max(LEAST_MS);
        let log_ms = read("delta.logRetentionDuration", usual.log_ms)?.max(files_ms);
        Some(Retention { files_ms, log_ms })
    }
}

/// What was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cleaned {
    /// Data and deletion-vector files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of the log.
    pub log_files: usize,
}

/// Cleans in a task of its own.
pub(super) fn beside(
    files: TableFiles,
    retention: Retention,
    in_use_since: i64,
    name: String,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        match clean(&files, retention, super::table::now_ms(), in_use_since).await {
            Ok(done) if done == Cleaned::default() => tracing::debug!(table = %name, "nothing to clean"),
            Ok(done) => tracing::info!(
                table = %name, files = done.files, bytes = done.bytes, log_files = done.log_files, "cleaned"
            ),
            Err(e) => tracing::warn!(table = %name, code = %e.code(), "not cleaned: {}", e.cause_line()),
        }
    })
}

/// What the log's directory holds.
#[derive(Default)]
struct LogFiles {
    /// Version → when its entry was written.
    commits: BTreeMap<i64, i64>,
    checkpoints: BTreeSet<i64>,
    /// Everything with a version in its name.
    all: Vec<(i64, String)>,
    /// Temporary files of a dead writer.
    leftovers: Vec<Listed>,
}

impl LogFiles {
    fn of(listed: Vec<Listed>) -> Self {
        let mut found = LogFiles::default();
        for file in listed {
            let Some(name) = file.name.strip_prefix("_delta_log/") else { continue };
            if name.starts_with('.') && name.ends_with(".tmp") {
                found.leftovers.push(file);
                continue;
            }
            let Some((digits, kind)) = name.split_once('.') else { continue };
            let Some(version) = digits.parse::<i64>().ok().filter(|_| digits.len() == 20) else { continue };
            match kind {
                "json" => {
                    found.commits.insert(version, file.modified_ms);
                }
                "checkpoint.parquet" => {
                    found.checkpoints.insert(version);
                }
                _ => {}
            }
            found.all.push((version, file.name));
        }
        // Oldest first: dying midway leaves a log without gaps.
        found.all.sort();
        found
    }

    /// The version that was current at that time.
    fn current_at(&self, ms: i64) -> Option<i64> {
        // By version, not by time: a clock that was set back must not make an old version the newest.
        self.commits.iter().take_while(|(_, written)| **written <= ms).last().map(|(version, _)| *version)
    }

    fn newest(&self) -> Option<i64> {
        self.commits.last_key_value().map(|(version, _)| *version)
    }
}

/// Deletes what nobody can need any more. `in_use_since`: files written since then are ours and in use.
///
/// # Errors
/// `TG001`, `TG003` from storage; `TG020` when the log is not as expected: nothing is deleted then.
pub(super) async fn clean(
    files: &TableFiles,
    retention: Retention,
    now_ms: i64,
    in_use_since: i64,
) -> Result<Cleaned> {
    let mut done = Cleaned::default();
    let log = LogFiles::of(files.list_log().await?);
    for file in unneeded(files, &log, now_ms - retention.files_ms, in_use_since).await? {
        files.delete(&file.name).await?;
        done.files += 1;
        done.bytes += file.size;
    }
    done.log_files = clean_log(files, &log, now_ms - retention.log_ms).await?;
    Ok(done)
}

/// What [`clean`] would delete of data and deletion-vector files.
///
/// # Errors
/// As [`clean`].
pub(super) async fn would_clean(
    files: &TableFiles,
    retention: Retention,
    now_ms: i64,
    in_use_since: i64,
) -> Result<Cleaned> {
    let log = LogFiles::of(files.list_log().await?);
    let unneeded = unneeded(files, &log, now_ms - retention.files_ms, in_use_since).await?;
    Ok(Cleaned { files: unneeded.len(), bytes: unneeded.iter().map(|file| file.size).sum(), log_files: 0 })
}

/// Files from before the window that no version within it names.
async fn unneeded(files: &TableFiles, log: &LogFiles, window: i64, in_use_since: i64) -> Result<Vec<Listed>> {
    let (Some(base), Some(newest)) = (log.current_at(window), log.newest()) else { return Ok(Vec::new()) };
    let named = named_since(files, log, base, newest).await?;
    let mut found = files.list_data().await?;
    found.retain(|file| {
        let is_old = file.modified_ms <= window && file.modified_ms < in_use_since;
        is_old && is_data(&file.name) && !named.contains(&file.name)
    });
    Ok(found)
}

/// A data file or a file of deletion vectors.
fn is_data(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let is = |ending: &str| std::path::Path::new(last).extension().is_some_and(|e| e == ending);
    is("parquet") || (last.starts_with("deletion_vector_") && is("bin"))
}

/// Every file that a version from `base` on names.
async fn named_since(files: &TableFiles, log: &LogFiles, base: i64, newest: i64) -> Result<HashSet<String>> {
    let failed = |e: deltalake::DeltaTableError| {
        Error::new(code_of_failure(&e), format!("cannot read version {base} of \"{}\"", files.url()))
            .with_source(e)
    };
    let mut table = files.delta()?;
    table.load_version(u64::try_from(base).unwrap_or_default()).await.map_err(failed)?;
    let loaded = super::table::data_files(files, &table).await?;
    let mut named = HashSet::new();
    for file in &loaded {
        name_file(&file.add.path, file.add.deletion_vector.as_ref(), &mut named)?;
    }
    for version in base + 1..=newest {
        let bytes = match log.commits.contains_key(&version) {
            true => files.get(&log::commit_name(version)).await?,
            false => None,
        };
        let Some(bytes) = bytes else {
            let what = format!("the log of \"{}\" has no entry for version {version}", files.url());
            return Err(Error::new(codes::TG020, what));
        };
        let summary = log::summarize(&bytes)?;
        for add in &summary.adds {
            name_file(&add.path, add.vector.as_ref(), &mut named)?;
        }
        named.extend(summary.others.iter().map(|path| data_name(path)));
    }
    Ok(named)
}

fn name_file(path: &str, vector: Option<&Descriptor>, named: &mut HashSet<String>) -> Result<()> {
    let name = data_name(path);
    check_within(&name)?;
    named.insert(name);
    if let Some(vector) = vector
        && let Location::Relative(name) = vector.location()?
    {
        named.insert(name);
    }
    Ok(())
}

async fn clean_log(files: &TableFiles, log: &LogFiles, window: i64) -> Result<usize> {
    let mut done = 0;
    for file in log.leftovers.iter().filter(|f| f.modified_ms <= window.min(super::table::now_ms() - DAY_MS))
    {
        files.delete(&file.name).await?;
        done += 1;
    }
    let Some(current) = log.current_at(window) else { return Ok(done) };
    let Some(&keep_from) = log.checkpoints.range(..=current).next_back() else { return Ok(done) };
    let old: Vec<&String> =
        log.all.iter().filter(|(version, _)| *version < keep_from).map(|(_, name)| name).collect();
    if old.is_empty() {
        return Ok(done);
    }
    // The checkpoint carries everything before it from now on: it must be readable.
    let failed = |e: deltalake::DeltaTableError| {
        Error::new(codes::TG020, format!("cannot read the log checkpoint of version {keep_from}"))
            .with_source(e)
    };
    let mut table = files.delta()?;
    table.load_version(u64::try_from(keep_from).unwrap_or_default()).await.map_err(failed)?;
    for name in old {
        files.delete(name).await?;
        done += 1;
    }
    Ok(done)
}

/// How often the record of a pipeline is cleaned.
pub(super) const CONTROL_EVERY: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval_ms("interval 1 week"), Some(7 * DAY_MS));
        assert_eq!(interval_ms("interval 30 days"), Some(30 * DAY_MS));
        assert_eq!(interval_ms("168 hours"), Some(7 * DAY_MS));
        assert_eq!(interval_ms("interval 1 day 12 hours"), Some(DAY_MS + DAY_MS / 2));
        for bad in ["", "interval", "soon", "interval 1 moon", "interval -1 day", "interval 1", "1.5 days"] {
            assert_eq!(interval_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_current_version_of_a_time_goes_by_version() {
        let file = |name: &str, modified_ms| Listed { name: name.into(), size: 1, modified_ms };
        let log = LogFiles::of(vec![
            file("_delta_log/00000000000000000000.json", 10),
            file("_delta_log/00000000000000000001.json", 50),
            file("_delta_log/00000000000000000002.json", 20),
            file("_delta_log/00000000000000000002.checkpoint.parquet", 20),
            file("_delta_log/_last_checkpoint", 20),
            file("_delta_log/.00000000000000000003.json.x.tmp", 20),
        ]);
        assert_eq!(log.current_at(5), None);
        assert_eq!(log.current_at(30), Some(0));
        assert_eq!(log.current_at(60), Some(2));
        assert_eq!(
            (log.newest(), log.checkpoints.len(), log.leftovers.len(), log.all.len()),
            (Some(2), 1, 1, 4)
        );
    }
}
