//! Where things are: installed servers and readers, run directories, the user of PostgreSQL.
//!
//! The same rules as `scripts/lib.sh`; the scripts install, the harness only looks.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the tests run as root. PostgreSQL refuses to: its processes then get a user of their own.
pub(crate) fn is_root() -> bool {
    uid() == 0
}

/// Our user id.
pub(crate) fn uid() -> u32 {
    std::fs::metadata("/proc/self").expect("/proc is there").uid()
}

/// Downloads, templates, locks: shared by all checkouts of one user.
pub(crate) fn cache() -> PathBuf {
    if let Some(dir) = std::env::var_os("STRANDLINE_CACHE") {
        return dir.into();
    }
    if is_root() {
        return "/var/cache/strandline".into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    base.join("strandline")
}

/// The directory of `postgres` and `initdb` of a major version.
pub(crate) fn postgres_bin(major: u32) -> PathBuf {
    let dir = std::env::var_os(format!("STRANDLINE_PG_BIN_{major}"))
        .map(PathBuf::from)
        .unwrap_or_else(|| cache().join(format!("servers/pg{major}/bin")));
    assert!(
        dir.join("postgres").exists(),
        "no PostgreSQL {major} in {}: run scripts/install.sh postgres {major}",
        dir.display()
    );
    dir
}

/// The Python of the readers' environment.
pub(crate) fn reader_python() -> PathBuf {
    let python = cache().join("readers/bin/python");
    assert!(python.exists(), "no readers in {}: run scripts/install.sh readers", python.display());
    python
}

/// The S3 server.
pub(crate) fn s3_server() -> PathBuf {
    let server = cache().join("s3/bin/moto_server");
    assert!(server.exists(), "no S3 server in {}: run scripts/install.sh s3", server.display());
    server
}

/// User and group ids that PostgreSQL runs under; `None` when it runs as we do.
pub(crate) fn postgres_user() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let names = match std::env::var("STRANDLINE_PG_USER") {
        Ok(name) => vec![name],
        Err(_) => vec!["postgres".to_owned(), "strandline-pg".to_owned()],
    };
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    for name in &names {
        for line in passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if fields.len() > 3 && fields[0] == name {
                return Some((fields[2].parse().expect("a uid"), fields[3].parse().expect("a gid")));
            }
        }
    }
    panic!("none of the users {names:?} exists: run scripts/install.sh postgres");
}

/// Gives a file or directory to the user of PostgreSQL.
pub(crate) fn give_to_postgres(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("chown");
    }
}

/// A command that runs as the user of PostgreSQL, and dies with the thread that starts it: a killed
/// test leaves no server behind.
pub(crate) fn as_postgres(program: &Path) -> Command {
    let mut command = dies_with_us(program);
    if let Some((uid, gid)) = postgres_user() {
        command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--clear-groups"]);
        command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]).arg(program);
    }
    command.current_dir("/");
    command
}

/// A command that dies with the thread that starts it. `setpriv` execs, so the pid is the program's own.
pub(crate) fn dies_with_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// Sends a signal (`KILL`, `TERM`, `INT`, `STOP`, `CONT`); processes that are gone are fine.
pub(crate) fn signal(name: &str, pids: &[u32]) {
    let mut command = Command::new("sh");
    command.args(["-c", "s=$1; shift; kill -\"$s\" \"$@\" 2>/dev/null; true", "sh", name]);
    command.args(pids.iter().map(u32::to_string));
    command.status().expect("sh runs");
}
