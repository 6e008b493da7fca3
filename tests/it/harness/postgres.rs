//! PostgreSQL servers as direct children of the test.
//!
//! A template data directory per major version is made once and copied for each server. A crash kills the
//! whole process tree: killing only the postmaster leaves backends that hold the shared memory, and the
//! next start fails for seconds.

use super::places;
use super::ports::Port;
use super::sql::{Sql, SqlError};
use super::until;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Raised with each change of what a template holds.
const TEMPLATE_FORMAT: u32 = 1;

/// `fsync=off` loses nothing when processes are killed, only when the machine is.
/// `synchronous_commit` stays on: logical decoding sees only flushed WAL.
const CONFIG: &str = "
listen_addresses='127.0.0.1'
unix_socket_directories=''
wal_level=logical
fsync=off
full_page_writes=off
shared_buffers=64MB
max_wal_senders=20
max_replication_slots=20
logging_collector=off
log_min_messages=warning
autovacuum_naptime=5s
";

/// A server. Dropping it kills it.
pub(crate) struct Postgres {
    major: u32,
    data: PathBuf,
    log: PathBuf,
    port: Port,
    child: Option<Child>,
}

impl Postgres {
    /// Starts a server on a copy of the template, in `dir`.
    pub(crate) fn start(major: u32, dir: &Path) -> Postgres {
        let server = Postgres::prepare(major, dir);
        copy(&template(major), &server.data);
        server.started()
    }

    /// Starts a server with a system identifier of its own (copies of the template share one).
    pub(crate) fn start_afresh(major: u32, dir: &Path) -> Postgres {
        let server = Postgres::prepare(major, dir);
        make_data_dir(major, &server.data);
        let mut server = server.started();
        fill_template(&mut server);
        server
    }

    fn prepare(major: u32, dir: &Path) -> Postgres {
        std::fs::create_dir_all(dir).expect("the run directory can be written");
        places::give_to_postgres(dir);
        Postgres {
            major,
            data: dir.join("data"),
            log: dir.join("server.log"),
            port: Port::take(),
            child: None,
        }
    }

    fn started(mut self) -> Postgres {
        self.restart();
        self
    }

    /// Starts the stopped or crashed server again, on its old port.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("the log can be written");
        let mut command = places::as_postgres(&places::postgres_bin(self.major).join("postgres"));
        command.arg("-D").arg(&self.data).args(["-p", &self.port.number().to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("postgres starts"));
        let url = self.url("postgres", "postgres");
        until(Duration::from_secs(30), "PostgreSQL accepts connections", || {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("PostgreSQL ended ({status}); see {}", self.log.display());
            }
            Sql::connect(&url).is_ok()
        });
    }

    /// Kill -9 of the whole tree.
    pub(crate) fn crash(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = child.id();
        let mut pids = children_of(pid);
        pids.insert(0, pid);
        places::signal("KILL", &pids);
        child.wait().expect("the server can be waited for");
        until(Duration::from_secs(10), "the backends are gone", || pids.iter().all(|pid| !is_alive(*pid)));
    }

    /// Fast, orderly stop.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        places::signal("INT", &[child.id()]);
        until(Duration::from_secs(30), "PostgreSQL stops", || matches!(child.try_wait(), Ok(Some(_))));
    }

    /// The data directory; copy or edit it only while the server is stopped.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// A connection URL for a role of the template (its password is its name) and a database.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{role}@127.0.0.1:{}/{database}", self.port.number())
    }

    /// A superuser session in the database `shop`.
    pub(crate) fn try_sql(&self) -> Result<Sql, SqlError> {
        Sql::connect(&self.url("postgres", "shop"))
    }

    /// A superuser session in the database `shop`.
    #[track_caller]
    pub(crate) fn sql(&self) -> Sql {
        self.try_sql().unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    /// A standby that streams from this server by a physical slot, and takes over its failover slots. The server is
    /// stopped for the copy.
    pub(crate) fn standby(&mut self, dir: &Path) -> Postgres {
        self.sql().exec("select pg_create_physical_replication_slot('standby', true)");
        self.stop();
        let standby = Postgres::prepare(self.major, dir);
        copy(&self.data, &standby.data);
        let slots = standby.data.join("pg_replslot");
        std::fs::remove_dir_all(&slots).expect("the copied slots can be removed");
        std::fs::create_dir(&slots).expect("the directory of slots can be made");
        std::fs::set_permissions(&slots, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("chmod");
        std::fs::write(standby.data.join("standby.signal"), "").expect("the data directory can be written");
        for path in [&slots, &standby.data.join("standby.signal")] {
            places::give_to_postgres(path);
        }
        let sync = if self.major >= 17 { "sync_replication_slots = on\n" } else { "" };
        append(
            &standby.data.join("postgresql.auto.conf"),
            &format!(
                "primary_conninfo = 'host=127.0.0.1 port={} user=postgres dbname=shop'\nprimary_slot_name = 'standby'\n\
                 hot_standby_feedback = on\nwal_receiver_status_interval = '100ms'\n{sync}",
                self.port.number()
            ),
        );
        self.restart();
        standby.started()
    }

    /// Makes a standby a primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.sql().value("select pg_promote(true, 60)"), "t", "the standby is promoted");
    }

    /// Changes a setting and restarts the server.
    pub(crate) fn set_and_restart(&mut self, setting: &str) {
        self.stop();
        append(&self.data.join("postgresql.auto.conf"), &format!("{setting}\n"));
        self.restart();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Appends a line to a file of the server.
pub(crate) fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = File::options().append(true).open(path).expect("the file is there");
    file.write_all(text.as_bytes()).expect("the file can be written");
}

/// Copies a stopped server's data directory, with owners.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

fn children_of(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// A zombie is not alive: it holds no memory and no port.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The data directory that servers of this major version are copied from.
fn template(major: u32) -> PathBuf {
    let base = places::cache().join("templates");
    std::fs::create_dir_all(&base).expect("the cache can be written");
    let version = std::fs::read_to_string(places::postgres_bin(major).join("../.stamp")).unwrap_or_default();
    let name = format!("pg{major}-{}-{TEMPLATE_FORMAT}", version.trim());
    let lock = File::create(base.join(format!("{name}.lock"))).expect("the lock file can be written");
    lock.lock().expect("the lock can be taken");
    let ready = base.join(&name);
    if !ready.exists() {
        let building = base.join(format!("{name}.part"));
        if building.exists() {
            std::fs::remove_dir_all(&building).expect("a broken template can be removed");
        }
        let mut server = Postgres::prepare(major, &building);
        make_data_dir(major, &server.data);
        server.restart();
        fill_template(&mut server);
        server.stop();
        std::fs::rename(&building, &ready).expect("the template can be renamed");
    }
    ready.join("data")
}

fn make_data_dir(major: u32, data: &Path) {
    let output = places::as_postgres(&places::postgres_bin(major).join("initdb"))
        .arg("-D")
        .arg(data)
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
        .output()
        .expect("initdb runs");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
    append(&data.join("postgresql.conf"), CONFIG);
}

/// The database and the roles that every test finds: `strandline` may replicate and read, nothing else;
/// `reader` may log in, and nothing else.
fn fill_template(server: &mut Postgres) {
    let mut sql = Sql::connect(&server.url("postgres", "postgres")).expect("the new server can be reached");
    sql.exec("create role strandline login replication password 'strandline'");
    sql.exec("grant pg_read_all_data to strandline");
    sql.exec("create role reader login password 'reader'");
    sql.exec("create database shop");
}
