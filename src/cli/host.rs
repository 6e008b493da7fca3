//! What `strandline doctor` looks at on this machine.

use crate::config::{Config, format_size};
use crate::error::codes;
use crate::error::finding::{Finding, Verdict};
use std::path::Path;

/// With fewer, a few hundred tables with several files each can use them up.
const OPEN_FILES: u64 = 4096;

/// Memory, files, the directory for large transactions.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![memory(config.limits.memory, memory_limit())];
    if let Some(files) = open_files() {
        findings.push(judge_files(files));
    }
    let directory = config.limits.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    findings.push(spill(&directory));
    findings
}

/// What the container allows, else what the machine has; in bytes.
pub(super) fn memory_limit() -> Option<u64> {
    let cgroup = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let limit: Option<u64> = cgroup.ok().and_then(|text| text.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.to_owned();
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    });
    match (limit, machine) {
        // Without a limit old kernels say a number near 2^63.
        (Some(limit), Some(machine)) => Some(limit.min(machine)),
        (limit, machine) => limit.or(machine),
    }
}

fn memory(wanted: Option<u64>, available: Option<u64>) -> Finding {
    let (code, check) = (codes::RT010, "memory");
    match (wanted, available) {
        (Some(wanted), Some(available)) if wanted > available => {
            let found = format!(
                "limits.memory is {}, and this machine or container gives {}",
                format_size(wanted),
                format_size(available)
            );
            let advice = format!("limits: {{memory: {}MiB}}", (available / 10 * 7) >> 20);
            Finding::new(code, check, Verdict::Warning, found).advise(advice)
        }
        (Some(wanted), _) => Finding::good(code, check, format!("limits.memory is {}", format_size(wanted))),
        (None, Some(available)) => {
            Finding::good(code, check, format!("{} MiB here, limits.memory is not set", available >> 20))
        }
        (None, None) => Finding::good(code, check, "limits.memory is not set"),
    }
}

fn open_files() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn judge_files(files: u64) -> Finding {
    let (code, check) = (codes::RT010, "open_files");
    let found = format!("{files} files may be open");
    if files >= OPEN_FILES {
        return Finding::good(code, check, found);
    }
    Finding::new(code, check, Verdict::Warning, format!("only {found}; some hundred tables need more"))
        .advise("ulimit -n 65536, or LimitNOFILE=65536 in the systemd unit")
}

fn spill(directory: &Path) -> Finding {
    let (code, check) = (codes::RT003, "spill_dir");
    let probe = directory.join(format!(".strandline-probe-{}", std::process::id()));
    let shown = directory.display();
    let made = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&probe, b"probe"));
    // It may not be there.
    let _gone = std::fs::remove_file(&probe);
    match made {
        Ok(()) => Finding::good(code, check, format!("\"{shown}\" can be written")),
        Err(cause) => {
            Finding::new(code, check, Verdict::Stops, format!("\"{shown}\" cannot be written: {cause}"))
                .advise("limits: {spill_dir: /a/directory/with/room}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_compared_with_what_is_there() {
        assert_eq!(memory(Some(2 << 30), Some(1 << 30)).verdict, Verdict::Warning);
        assert_eq!(memory(Some(2 << 30), Some(1 << 30)).advice.unwrap(), "limits: {memory: 716MiB}");
        assert_eq!(memory(Some(1 << 30), Some(2 << 30)).verdict, Verdict::Good);
        assert_eq!(judge_files(1024).verdict, Verdict::Warning);
        assert_eq!(spill(Path::new("/proc/none")).verdict, Verdict::Stops);
    }
}
