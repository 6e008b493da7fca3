//! The binary under test as a process: start it, kill it, read what it said.

use super::{places, until};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Data.
    pub(crate) stdout: String,
    /// Log and errors.
    pub(crate) stderr: String,
}

impl Outcome {
    /// Fails the test, with all that was said, unless it ended with this code.
    #[track_caller]
    pub(crate) fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless this code was reported.
    #[track_caller]
    pub(crate) fn expect_error_line(&self, code: &str) -> &Self {
        assert!(self.stderr.contains(&format!("error {code}: ")), "no error {code} in\n{}", self.stderr);
        self
    }

    /// Fails the test unless a coded error with a remedy was reported: `error PG041: …`, `try: …`,
    /// and the page.
    #[track_caller]
    pub(crate) fn expect_error(&self, code: &str) -> &Self {
        let said = &self.stderr;
        assert!(said.contains(&format!("error {code}: ")), "no error {code} in\n{said}");
        assert!(said.contains("try: "), "no remedy in\n{said}");
        assert!(said.contains(&format!("docs/errors/{code}.md")), "no page in\n{said}");
        self
    }
}

/// A started process. Dropping it kills it.
pub(crate) struct Strandline {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// The command line of the binary: the one that cargo built for this test, or `STRANDLINE_BIN`.
pub(crate) fn command() -> Command {
    prepared(places::dies_with_us(&binary()))
}

/// The same, bound by permissions even where the tests run as root.
pub(crate) fn unprivileged() -> Command {
    if !places::is_root() {
        return command();
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--bounding-set", "-dac_override,-dac_read_search"]).arg(binary());
    prepared(command)
}

fn binary() -> PathBuf {
    std::env::var_os("STRANDLINE_BIN").map_or(env!("CARGO_BIN_EXE_strandline").into(), PathBuf::from)
}

fn prepared(mut command: Command) -> Command {
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

impl Strandline {
    /// Starts it with these arguments; `n` numbers the log files in `dir`.
    pub(crate) fn start(dir: &Path, n: usize, arguments: &[&str]) -> Strandline {
        Strandline::start_by(command(), dir, n, arguments)
    }

    /// The same by another command line.
    pub(crate) fn start_by(mut command: Command, dir: &Path, n: usize, arguments: &[&str]) -> Strandline {
        let stdout = dir.join(format!("strandline-{n:04}.out"));
        let stderr = dir.join(format!("strandline-{n:04}.log"));
        let file = |path: &Path| File::create(path).expect("the log can be written");
        let child = command
            .args(arguments)
            .current_dir(dir)
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .expect("strandline starts");
        Strandline { child, stdout, stderr }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it has ended.
    pub(crate) fn is_done(&mut self) -> bool {
        !self.is_running()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }

    /// Everything on stdout so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Everything on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// kill -9, at once; what it had logged. Panics when it had already ended on its own: a test that kills
    /// wants it alive.
    #[track_caller]
    pub(crate) fn kill9(mut self) -> String {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("it ended by itself before the kill ({status}):\n{}", self.stderr());
        }
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
        self.stderr()
    }

    /// SIGTERM: an orderly stop. A process that has just begun does not listen yet, and would end as any other.
    #[track_caller]
    pub(crate) fn terminate(&self) {
        until(Duration::from_secs(20), "it listens to SIGTERM, or has ended", || {
            self.caught_signals().is_none_or(|caught| caught & (1 << 14) != 0)
        });
        places::signal("TERM", &[self.child.id()]);
    }

    /// The signals that it handles, as Linux counts them; `None` when it has ended.
    fn caught_signals(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        if status.contains("State:\tZ") {
            return None;
        }
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        u64::from_str_radix(caught.trim(), 16).ok()
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self, at_most: Duration) -> Outcome {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("it can be waited for") {
                Some(status) => break status,
                None if started.elapsed() > at_most => {
                    panic!("still running after {at_most:?}:\n{}", tail(&self.stderr()))
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        Outcome { code: status.code(), stdout: read(&self.stdout), stderr: self.stderr() }
    }
}

impl Drop for Strandline {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
